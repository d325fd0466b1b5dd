//! Kubernetes, with a deadline round every call and no replay of a write.
//!
//! kube's default client replays PUT, POST and PATCH on 429, 503 and 504 and never times a response out (kube 5.0,
//! kube#2082, kube#1945): wrong for a write-ahead record. So there are three clients from one configuration, and
//! [`within`] is how each call is made.

use std::future::Future;
use std::time::Duration;

use kube::{Client, Config};

use crate::crash;

/// How long any call to the API server may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long one watch call lasts, in seconds.
pub const WATCH_SECONDS: u32 = 60;

/// The clients of one process.
#[derive(Clone)]
pub struct Clients {
    /// For reads and writes; each through [`within`].
    pub api: Client,
    /// For the watch: its LIST and its idle connection end by the read time-out.
    pub watch: Client,
    /// For the Lease: short deadlines, a connection of its own.
    pub lease: Client,
}

impl Clients {
    /// Makes the clients.
    ///
    /// # Errors
    ///
    /// Where the configuration's certificates or proxy cannot be used.
    pub fn new(config: &Config) -> Result<Self, kube::Error> {
        let client = |read_timeout: u64| {
            let mut config = config.clone();
            config.default_retry = false;
            config.connect_timeout = Some(Duration::from_secs(5));
            config.read_timeout = Some(Duration::from_secs(read_timeout));
            config.reset_reader_on_write = true;
            Client::try_from(config)
        };
        Ok(Self { api: client(15)?, watch: client(u64::from(WATCH_SECONDS) + 15)?, lease: client(5)? })
    }
}

/// Why a call to the API server brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No answer within the deadline. A write may have taken effect.
    #[error("failed to {what}: no answer from the API server within {} s", DEADLINE.as_secs())]
    TimedOut {
        /// What was tried.
        what: &'static str,
    },
    /// The API server refused, or was not reached. A write may have taken effect in the latter case.
    #[error("failed to {what}: {}", words(source))]
    Failed {
        /// What was tried.
        what: &'static str,
        /// The answer. Its words are part of this error's: logs and statuses show one line.
        source: Box<kube::Error>,
    },
}

/// The API server's own words; kube's are those with the whole reply behind them.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

impl ClusterError {
    /// The HTTP status of the API server's answer, if it gave one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Failed { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }

    /// The API server's own message, if it gave one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Failed { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(&status.message),
                _ => None,
            },
            Self::TimedOut { .. } => None,
        }
    }
}

/// Makes one call to the API server, within the deadline.
///
/// # Errors
///
/// [`ClusterError`]; `what` completes "failed to …".
pub async fn within<T>(what: &'static str, call: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match crash::around(what, tokio::time::timeout(DEADLINE, call)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ClusterError::Failed { what, source: Box::new(error) }),
        Err(_) => Err(ClusterError::TimedOut { what }),
    }
}
