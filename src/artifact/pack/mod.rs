//! From a tar file, in gzip or not, to the ZIP that Konigle takes: in constant memory, and the same bytes on every
//! machine.
//!
//! The file is read twice. The first pass ([`survey`]) checks everything and writes nothing; the second one writes the
//! ZIP. Entries keep their order, times are dropped, a mode is 0755 where the owner may execute the file and 0644
//! otherwise. Nothing is ever extracted to a name from the archive, and an archive inside the archive is a file like
//! any other.
//!
//! **Links** become what they lead to, a file of the same archive, as the official client sends them; it stands behind
//! that file in the ZIP. The client passes over links to folders, and over those that lead nowhere; an app that lacks
//! files fails at a time when nobody looks, so they are refused here, unless they are left out by [`ignore`]. A link may
//! lead out of `folder`, but not out of the archive.
//!
//! Absent: empty folders, which neither git nor the client sends.

mod deflate;
mod ignore;
mod pax;
mod stream;
mod survey;
mod tar;
mod write;
mod zip;

use std::fs::File;

use tokio_util::sync::CancellationToken;

use super::inspect::InspectError;
use super::{Digest, Limits, Part};
use crate::crash;

/// The ZIP that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// Of the whole ZIP.
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
}

/// Packs what is below `folder` of the tar file `source`, everything if it is empty. `part` is what is asked for of what was
/// published: by it a message says what to correct. `into` is an empty file that can be
/// read and written. What is in it after an error is to be thrown away. Blocks: call it where blocking is allowed.
pub(super) fn pack(
    source: &File,
    (part, folder): (&Part, &str),
    limits: &Limits,
    into: &File,
    stop: &CancellationToken,
) -> Result<Packed, InspectError> {
    let plan = survey::survey(source, (part, folder), limits, stop)?;
    crash::point("pack", "surveyed");
    let packed = write::write_zip(source, &plan, limits, into, stop)?;
    crash::point("pack", "written");
    Ok(packed)
}

#[cfg(test)]
mod tests;
