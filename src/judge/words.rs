//! What a word of `last_deployment_status` says.
//!
//! The API documents no values (konigle 1.0.3, `models/cloud/space.py`: a free string); the job words of the same SDK
//! and their obvious kin are all that is taken to mean something. A word that is not known proves nothing.

/// What a word says of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// It ended well.
    Success,
    /// It ended badly.
    Failure,
    /// It has not ended.
    Unfinished,
    /// Nothing: absent, or a word that is not known.
    Unknown,
}

/// The class of a word; upper and lower case are the same.
#[must_use]
pub fn class(word: Option<&str>) -> Class {
    match word.map(str::to_ascii_lowercase).as_deref() {
        Some("success" | "succeeded" | "successful" | "deployed") => Class::Success,
        Some("failed" | "failure" | "error") => Class::Failure,
        Some("pending" | "queued" | "running" | "in_progress" | "deploying") => Class::Unfinished,
        _ => Class::Unknown,
    }
}
