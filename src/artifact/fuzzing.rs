//! Doors for the fuzz functions in `tests/fuzz` to what reads the bytes of artifact hosts: the feature `fuzzing` opens
//! them.
//!
//! Absent: any code of their own. What goes through here is what ships.

use std::io::{Read, Seek};

use reqwest::Response;
use url::Url;

use super::http::Guard;
use super::inspect::InspectError;
use super::{Limits, SourceField};

/// What is wrong with a ZIP file; the outer error is the disk's.
pub fn inspect<R: Read + Seek>(reader: R, limits: &Limits) -> std::io::Result<Result<(), String>> {
    match super::inspect::inspect(reader, limits) {
        Ok(()) => Ok(Ok(())),
        Err(InspectError::Rejected(reason)) => Ok(Err(reason)),
        Err(InspectError::Disk(error)) => Err(error),
    }
}

/// Whether this URL may be asked, as far as can be seen before its name is resolved.
#[must_use]
pub fn may_be_asked(url: &Url) -> bool {
    guard().check(url).is_ok()
}

/// Where this answer of `url` leads, if it is a redirect to something that may be asked.
#[must_use]
pub fn next_hop(answer: &Response, url: &Url) -> Option<Url> {
    guard().next_url(answer, url)?.ok()
}

fn guard() -> Guard {
    Guard::new(SourceField::Http, &Limits::default())
}
