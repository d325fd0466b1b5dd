//! Artifacts: from an HTTP source with a required digest to a verified, inspected file on disk.
//!
//! An artifact is named by its digest alone; the URL is only one place to get it from. So a file that is on disk is
//! never asked for again, whatever source names it, and what leaves this module has been hashed and inspected.
//!
//! Absent on purpose: nothing is ever extracted from an archive, no artifact is kept in memory, and the Konigle token
//! does not exist here.

mod contents;
mod digest;
mod directory;
mod format;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http;
mod inspect;
mod limits;
mod links;
mod names;
mod pack;
mod root;
mod store;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use thiserror::Error;
use url::Url;

pub use digest::{Digest, InvalidDigest};
pub use store::Store;

/// A file of the store that has the digest and passed the inspection.
///
/// Open `path` before anything depends on it: the store may evict the file later, and an open handle outlives that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The digest of the whole file.
    pub digest: Digest,
    /// Where the file is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
}

/// One place to get an artifact from, with all that is needed to ask for it.
#[derive(Clone)]
pub struct HttpSource {
    /// `https`, or `http` where [`Limits::allow_insecure`]. Without user and password: those go into `auth`.
    pub url: Url,
    /// What the file must hash to.
    pub digest: Digest,
    /// Sent to the origin of `url` only, never along a redirect to another one.
    pub auth: Option<Auth>,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for HttpSource {
    // A URL may be pre-signed, so its query is a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpSource")
            .field("url", &http::location(&self.url))
            .field("digest", &self.digest)
            .field("auth", &self.auth)
            .finish_non_exhaustive()
    }
}

/// Credentials for the artifact's host.
#[derive(Clone, Debug)]
pub enum Auth {
    /// HTTP Basic.
    Basic {
        /// The user's name, shown in no message.
        username: String,
        /// The password.
        password: SecretString,
    },
    /// `Authorization: Bearer …`.
    Bearer(SecretString),
}

/// How much of time, memory and disk an artifact may take, and where it may come from.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_size: u64,
    /// The most entries that an archive may have, and the most files and folders in them.
    pub max_entries: u64,
    /// The most bytes that an archive may unpack to.
    pub max_unpacked: u64,
    /// How many times its own size an archive may unpack to, if that is more than 64 MiB.
    pub max_ratio: u64,
    /// The longest path in an archive, in bytes.
    pub max_path_length: u16,
    /// What the store keeps on disk, in bytes; beyond it the files that were used longest ago go. The artifact that
    /// was just fetched stays, even if it alone is larger.
    pub store_budget: u64,
    /// How long one connection may take to stand, name lookup and TLS included.
    pub connect_timeout: Duration,
    /// The longest wait for the answer's head, and then for the next byte.
    pub stall_timeout: Duration,
    /// The longest download, before the part that grows with its size.
    pub total_timeout: Duration,
    /// The growing part: one more second for each of so many bytes that came. A server that sends less than this for
    /// long is given up.
    pub least_rate: u64,
    /// Also `http`, and addresses that are not public. For tests and the demo.
    pub allow_insecure: bool,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            max_size: 5 * GIB,
            max_entries: 100_000,
            max_unpacked: 8 * GIB,
            max_ratio: 100,
            max_path_length: 1024,
            store_budget: 10 * GIB,
            connect_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_mins(5),
            least_rate: 256 << 10,
            allow_insecure: false,
        }
    }
}

/// Why there is no artifact. Each message is for people and says what to do; it names host and path of a URL at most.
///
/// `Unavailable` and `Disk` may heal by themselves; `DigestMismatch`, `Rejected`, `TooLarge`, `Refused` and
/// `CertificateInvalid` need a person.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FetchError {
    /// The host did not hand over the whole file: not found, an error, a time-out, a connection that broke. CI may
    /// publish it later.
    #[error("{location}: {reason}")]
    Unavailable {
        /// Host and path.
        location: String,
        /// What happened.
        reason: String,
    },
    /// The whole file came, and is another one.
    #[error("{location} is not the file that the digest names: wanted {wanted}, got {got}{hint}")]
    DigestMismatch {
        /// Host and path.
        location: String,
        /// The digest in the spec.
        wanted: Digest,
        /// The digest of what came.
        got: Digest,
        /// What it may be instead, with its own punctuation in front; empty where nothing is known.
        hint: String,
    },
    /// The right file, and Konigle could not run it.
    #[error("the artifact cannot be deployed: {reason}")]
    Rejected {
        /// What is wrong with its content, and what to write instead.
        reason: String,
    },
    /// More bytes than [`Limits::max_size`].
    #[error(
        "{location} is larger than the {limit} bytes that this operator allows: make the artifact smaller, or raise the \
         operator's `--artifact-max-size`"
    )]
    TooLarge {
        /// Host and path.
        location: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The URL, or one that it redirects to, may not be asked.
    #[error("{location} is not allowed: {reason}")]
    Refused {
        /// Host and path.
        location: String,
        /// Which rule forbids it.
        reason: String,
    },
    /// The `ca.crt` of the source's Secret cannot be used.
    #[error(
        "the CA certificate of the artifact's source cannot be used: {reason}; `ca.crt` must hold PEM certificates"
    )]
    CertificateInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The file cannot be kept: the disk is full, or broken.
    #[error("the artifact cannot be stored: {reason}")]
    Disk {
        /// What happened.
        reason: String,
    },
    /// The caller's token was cancelled; nothing is left behind.
    #[error("the download was stopped because the operator shuts down")]
    Stopped,
}

impl FetchError {
    /// Its word in the metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::DigestMismatch { .. } => "digest_mismatch",
            Self::Rejected { .. } => "rejected",
            Self::TooLarge { .. } => "too_large",
            Self::Refused { .. } => "refused",
            Self::CertificateInvalid { .. } => "certificate_invalid",
            // A stop drops a download; none comes to an end by it.
            Self::Disk { .. } | Self::Stopped => "disk",
        }
    }
}
