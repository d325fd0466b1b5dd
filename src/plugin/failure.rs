//! Why a command ended without what was asked for: one line for people, and a number for scripts.

use crate::cluster::ClusterError;

/// The exit code of a command that did not succeed. They are a contract: docs/kubectl-konigle.md lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It failed, was refused, or the resource is Stalled.
    Failed,
    /// The command line or a manifest is wrong.
    Usage,
    /// What was waited for did not come in time.
    TimedOut,
    /// Nothing could be asked: no cluster, no CRD, no rights, no such resource.
    Cluster,
}

impl Code {
    /// The number that the shell sees.
    pub fn number(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::Cluster => 4,
        }
    }
}

/// Why a command ended without what was asked for.
#[derive(Debug)]
pub struct Failure {
    /// For scripts.
    pub code: Code,
    /// For people; empty where all was said before.
    pub message: String,
}

impl Failure {
    /// It failed, was refused, or the resource is Stalled.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { code: Code::Failed, message: message.into() }
    }

    /// The command line or a manifest is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: Code::Usage, message: message.into() }
    }

    /// What was waited for did not come in time.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self { code: Code::TimedOut, message: message.into() }
    }

    /// Nothing could be asked.
    pub fn cluster(message: impl Into<String>) -> Self {
        Self { code: Code::Cluster, message: message.into() }
    }
}

/// Why a call brought nothing, with what to do about it.
pub fn from_call(server: &str, error: &ClusterError) -> Failure {
    match (error, error.code()) {
        (ClusterError::Failed { source, .. }, None) => unreachable(server, source),
        (_, code) => from_answer(server, code, error.message().unwrap_or_default(), &error.to_string()),
    }
}

/// Why a list or a watch brought nothing, with what to do about it.
pub fn from_kube(server: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => from_answer(server, Some(status.code), &status.message, &error.to_string()),
        other => unreachable(server, other),
    }
}

fn from_answer(server: &str, code: Option<u16>, message: &str, whole: &str) -> Failure {
    match code {
        // A resource that is not there is asked for by name, and answered where its name is known.
        Some(404) => Failure::cluster(format!(
            "the cluster at {server} does not know KonigleSpaces: install the operator's CRD, crds/koniglespaces.cloud.konigle.com.yaml of this version"
        )),
        Some(401) => Failure::cluster(format!(
            "the API server at {server} does not accept your credentials: log in again, or choose another --context"
        )),
        Some(403) => Failure::cluster(format!("you lack a right: {message}; ask for a role that allows it")),
        Some(_) if !message.is_empty() => Failure::failed(format!("the API server refused: {message}")),
        Some(_) | None => Failure::cluster(format!("no answer from the API server at {server}: {whole}")),
    }
}

/// The innermost cause tells what happened; what stands around it is the client's own story.
fn unreachable(server: &str, error: &kube::Error) -> Failure {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = cause.to_string().lines().next().unwrap_or_default().to_owned();
    Failure::cluster(format!(
        "no answer from the API server at {server} ({cause}): is the cluster up, and is this the right --context?"
    ))
}
