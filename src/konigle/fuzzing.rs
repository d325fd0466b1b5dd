//! Doors for the fuzz functions in `tests/fuzz` to what reads Konigle's bytes: the feature `fuzzing` opens them.
//!
//! Absent: any code of their own. What goes through here is what ships.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::ReadError;
use super::job::{JobProblem, JobReader};
use super::list::{Item, Paging};
use super::model::{Computer, Deployment, Job, Space, Undecodable, WebApp};
use crate::redact::Redactor;

/// A reply for one Space.
pub fn space(json: &str) -> Result<Space, Undecodable> {
    Space::decode(json)
}

/// A reply for one computer.
pub fn computer(json: &str) -> Result<Computer, Undecodable> {
    Computer::decode(json)
}

/// A reply for one web app.
pub fn web_app(json: &str) -> Result<WebApp, Undecodable> {
    WebApp::decode(json)
}

/// The reply to a write.
pub fn deployment(json: &str) -> Result<Deployment, Undecodable> {
    Deployment::decode(json)
}

/// A reply for one job whose body came in these pieces; `complete` is false where it was cut at the client's cap.
pub fn job<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    complete: bool,
    redactor: &Redactor,
) -> Result<Job, &'static str> {
    let mut reader = JobReader::new(true);
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    reader.finish(complete, redactor).map_err(|problem| match problem {
        JobProblem::TooLarge => "too large",
        JobProblem::Undecodable(what) => what,
    })
}

/// The pages of a list of Spaces, and whether another page follows.
pub fn spaces(pages: &[&str]) -> Result<(Vec<Space>, bool), Undecodable> {
    list(pages)
}

/// The pages of a list of jobs, and whether another page follows.
pub fn jobs(pages: &[&str]) -> Result<(Vec<Job>, bool), Undecodable> {
    list(pages)
}

fn list<T: Item>(pages: &[&str]) -> Result<(Vec<T>, bool), Undecodable> {
    let (mut paging, mut more) = (Paging::new(), true);
    for page in pages {
        more = paging.page(page)?;
    }
    Ok((paging.finish(), more))
}

/// What a read says of an answer that is not 2xx.
#[must_use]
pub fn read_error(status: StatusCode, headers: &HeaderMap, body: &[u8], redactor: &Redactor) -> ReadError {
    ReadError::from_answer(status, headers, body, redactor)
}

/// For how long an answer of 429 keeps the account's calls back.
#[must_use]
pub fn retry_after(headers: &HeaderMap, body: Option<&Value>) -> Duration {
    super::error::retry_after(headers, body)
}
