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
mod nested;
mod oci;
mod pack;
mod root;
mod store;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use url::Url;

pub use digest::{Digest, InvalidDigest};
pub use http::{Body, Chunk, location};
pub use oci::{InvalidRepository, Layer, Registries, Repository};
pub use store::{Downloaded, Stage, Store};

use crate::stamp::Stamp;

/// A ZIP of the store that can be deployed: verified, or packed by this process, and inspected.
///
/// The store keeps the file for as long as this lives.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// The digest of the ZIP.
    pub digest: Digest,
    /// Where it is.
    pub path: PathBuf,
    /// The file as it was when it was verified.
    pub stamp: Stamp,
    /// Keeps it from being evicted.
    _lease: Lease,
}

impl Artifact {
    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.stamp.size
    }
}

impl PartialEq for Artifact {
    // When it was verified, and who holds it, is no part of what it is.
    fn eq(&self, other: &Self) -> bool {
        (self.digest, &self.path) == (other.digest, &other.path)
    }
}

/// Whoever has one keeps a file from being evicted.
type Lease = Arc<()>;

/// What an artifact is known by in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Who may have it.
    pub scope: Scope,
    /// The digest of what was published: of the file, or of the manifest in a registry.
    pub digest: Digest,
    /// Which part of that.
    pub part: Part,
}

/// Which part of what was published is an artifact. It tells a file from a manifest of the same digest too: what is wrong
/// with the one says nothing of what the other leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The whole file.
    Whole,
    /// This folder of what a source of Flux hands out; empty for all of it.
    Folder(String),
    /// The layer of a manifest, of this media type where there are several.
    Layer(Option<String>),
}

/// Who may have what is on disk. A digest is no secret, so what was fetched with credentials, or by a URL that may be
/// signed, must not serve those who have neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Whoever names it.
    Public,
    /// Resources of this namespace.
    Namespace(String),
}

/// One place to get an artifact from, with all that is needed to ask for it.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is known by.
    pub key: Key,
    /// Where it is.
    pub place: Place,
    /// For the host that is asked first.
    pub credentials: ArtifactCredentials,
}

impl Source {
    /// Whether another one is asked in the very same way.
    fn is_same(&self, other: &Self) -> bool {
        let auth = match (&self.credentials.auth, &other.credentials.auth) {
            (None, None) => true,
            (
                Some(Auth::Basic { username: user_one, password: one }),
                Some(Auth::Basic { username: user_other, password: other }),
            ) => user_one == user_other && one.expose_secret() == other.expose_secret(),
            (Some(Auth::Bearer(one)), Some(Auth::Bearer(other))) => one.expose_secret() == other.expose_secret(),
            _ => false,
        };
        auth && self.key == other.key && self.place == other.place && self.credentials.ca == other.credentials.ca
    }
}

/// Where what was published is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// Behind this URL, which this field of the spec names.
    Url(Url, SourceField),
    /// In this repository.
    Oci(Repository),
}

impl fmt::Debug for Place {
    // A URL may be pre-signed, so its query is a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url, field) => formatter.debug_tuple("Url").field(&http::location(url)).field(field).finish(),
            Self::Oci(repository) => formatter.debug_tuple("Oci").field(repository).finish(),
        }
    }
}

/// Which part of a spec names an artifact's host: it decides where that may be, and is what messages speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceField {
    /// `spec.source.http`.
    Http,
    /// `spec.source.oci`.
    Oci,
    /// `spec.source.sourceRef`: Flux wrote the URL, into its own object's status.
    SourceRef,
}

impl SourceField {
    /// Its path in the spec.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Http => "spec.source.http",
            Self::Oci => "spec.source.oci",
            Self::SourceRef => "spec.source.sourceRef",
        }
    }

    /// Where certificates are put that are trusted for its host.
    fn trust(self) -> &'static str {
        match self {
            Self::Http => {
                "`ca.crt` of the Secret that spec.source.http.secretRef names (`kubectl create secret generic NAME --from-file=ca.crt=FILE` makes one), or into the operator's own (`extraCA` of the chart)"
            }
            Self::Oci => {
                "`ca.crt` of the Secret that spec.source.oci.secretRef names (`kubectl create secret generic NAME --from-file=ca.crt=FILE` makes one), or into the operator's own (`extraCA` of the chart)"
            }
            Self::SourceRef => "the operator's own (`extraCA` of the chart)",
        }
    }
}

/// What a source's Secret holds.
#[derive(Clone, Debug, Default)]
pub struct ArtifactCredentials {
    /// What is sent to the artifact's host.
    pub auth: Option<Auth>,
    /// Certificates in PEM that are trusted for it.
    pub ca: Option<Vec<u8>>,
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
    /// The wait before a download that broke off is asked for again; it doubles from time to time.
    pub resume_delay: Duration,
    /// How long who names another place waits for the one that is being asked for the same artifact.
    pub patience: Duration,
    /// Also `http`, and addresses that are not public. For tests and the demo.
    pub allow_insecure: bool,
    /// Hosts that may be at addresses that are not public, over https: `host` or `host:port`, lower-case.
    pub private_hosts: Vec<String>,
    /// Hosts of Flux, which may be at any address and speak http; only [`SourceField::SourceRef`] reaches them so.
    /// Lower-case, without port and last dot.
    pub flux_hosts: Vec<String>,
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
            resume_delay: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            allow_insecure: false,
            private_hosts: Vec::new(),
            flux_hosts: Vec::new(),
        }
    }
}

/// Why there is no artifact. Each message is for people and says what to do; it names host and path of a URL at most.
///
/// `Unavailable`, `Denied`, `Limited`, `NoTag`, `Disk` and `DiskFull` may heal by themselves; `DigestMismatch`, `Rejected`,
/// `TooLarge`, `Refused`, `Foreign` and `CertificateInvalid` need a person.
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
    /// The host wants credentials, or other ones than it got. What to do is told by who knows the Secret's name.
    #[error(
        "{location}: {reason} to {}",
        .with_credentials.then_some("the credentials that it got").unwrap_or("a request without credentials")
    )]
    Denied {
        /// Host and path.
        location: String,
        /// What it answered.
        reason: String,
        /// Whether it got any.
        with_credentials: bool,
    },
    /// The host, or its token service, limits how often it is asked.
    #[error("{location}: {reason}")]
    Limited {
        /// Host and path.
        location: String,
        /// What it answered.
        reason: String,
        /// How long it asks to be left alone: nothing where it does not say, at most [`LONGEST_RETRY_AFTER`].
        wait: Duration,
    },
    /// The registry has no such tag. What to do depends on whether it had one.
    #[error("{location}: {reason}")]
    NoTag {
        /// Host and path.
        location: String,
        /// What it answered.
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
    /// The status of a source of Flux leads to what is not that source's artifact.
    #[error("{location} is not allowed: {reason}")]
    Foreign {
        /// The source, or host and path.
        location: String,
        /// Where it leads.
        reason: String,
    },
    /// The `ca.crt` of the source's Secret cannot be used.
    #[error("the certificates in `ca.crt` cannot be used: {reason}; it must hold certificates in PEM")]
    CertificateInvalid {
        /// What is wrong with it.
        reason: String,
    },
    /// There is no room for the file.
    #[error("the artifact cannot be stored: the disk is full; enlarge the volume of --artifact-dir")]
    DiskFull,
    /// The file cannot be kept: the disk is broken, or may not be written.
    #[error("the artifact cannot be stored: {reason}")]
    Disk {
        /// What happened.
        reason: String,
    },
    /// The caller's token was cancelled; nothing is left behind.
    #[error("the download was stopped because the operator shuts down")]
    Stopped,
}

/// No host is left alone for longer by what it answers.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);

impl FetchError {
    /// Its word in the metrics.
    fn word(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } | Self::Denied { .. } | Self::NoTag { .. } => "unavailable",
            Self::Limited { .. } => "limited",
            Self::DigestMismatch { .. } => "digest_mismatch",
            Self::Rejected { .. } => "rejected",
            Self::TooLarge { .. } => "too_large",
            Self::Refused { .. } | Self::Foreign { .. } => "refused",
            Self::CertificateInvalid { .. } => "certificate_invalid",
            // A stop drops a download; none comes to an end by it.
            Self::Disk { .. } | Self::DiskFull | Self::Stopped => "disk",
        }
    }

    /// How long the host asks to be left alone, if it does.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        if let Self::Limited { wait, .. } = self { Some(*wait) } else { None }
    }
}
