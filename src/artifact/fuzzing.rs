//! Doors for the fuzz functions in `tests/fuzz` to what reads the bytes of artifact hosts: the feature `fuzzing` opens
//! them.
//!
//! Absent: any code of their own. What goes through here is what ships.

use std::fs::File;
use std::io::{self, Read, Seek};

use reqwest::Response;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::http::Guard;
use super::inspect::InspectError;
use super::{Limits, Part, SourceField};

/// What is wrong with a ZIP file; the outer error is the disk's.
pub fn inspect<R: Read + Seek>(reader: R, limits: &Limits) -> io::Result<Result<(), String>> {
    verdict(super::inspect::inspect(reader, limits, &CancellationToken::new()))
}

/// The size of the ZIP that is made of a tar file, or what is wrong with the tar file; the outer error is the disk's.
pub fn pack(source: &File, folder: &str, limits: &Limits, into: &File) -> io::Result<Result<u64, String>> {
    let part = Part::Folder(folder.to_owned());
    let packed = super::pack::pack(source, (&part, folder), limits, into, &CancellationToken::new());
    verdict(packed.map(|packed| packed.size))
}

fn verdict<T>(outcome: Result<T, InspectError>) -> io::Result<Result<T, String>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(InspectError::Rejected(reason)) => Ok(Err(reason)),
        Err(InspectError::Disk(error)) => Err(error),
        Err(InspectError::Stopped) => Err(io::ErrorKind::Interrupted.into()),
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
