//! What stands in front of an entry because its header has no room for it: PAX records, and GNU's long names.

use super::super::inspect::{InspectError, rejected};

/// What an entry's extended headers say in place of its header.
#[derive(Default)]
pub(super) struct Extended {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
}

impl Extended {
    pub(super) fn is_empty(&self) -> bool {
        self.path.is_none() && self.link.is_none() && self.size.is_none()
    }

    pub(super) fn set_path(&mut self, path: Vec<u8>) -> Result<(), InspectError> {
        set(&mut self.path, path)
    }

    pub(super) fn set_link(&mut self, link: Vec<u8>) -> Result<(), InspectError> {
        set(&mut self.link, link)
    }

    /// The records for one entry.
    pub(super) fn add_pax(&mut self, bytes: &[u8]) -> Result<(), InspectError> {
        for_each_record(bytes, |key, value| match key {
            b"path" => self.set_path(value.to_vec()),
            b"linkpath" => self.set_link(value.to_vec()),
            b"size" => {
                let digits =
                    std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                match digits.and_then(|digits| digits.parse::<i64>().ok()) {
                    Some(size) => set(&mut self.size, size.unsigned_abs()),
                    None => rejected("an entry has a size that is no number; make the archive anew"),
                }
            }
            _ if key.starts_with(b"GNU.sparse.") => rejected("it holds a sparse file; make the archive without them"),
            _ => Ok(()),
        })
    }

    /// The records for all entries: a commit's id from git, and nothing that would give many entries one name.
    pub(super) fn check_global(bytes: &[u8]) -> Result<(), InspectError> {
        for_each_record(bytes, |key, _| match key {
            b"path" | b"linkpath" | b"size" => {
                rejected("a header in it gives all entries one name or size; make the archive anew")
            }
            _ if key.starts_with(b"GNU.sparse.") => rejected("it holds a sparse file; make the archive without them"),
            _ => Ok(()),
        })
    }
}

/// Two that say the same are one; programs do not agree which of two others counts.
fn set<T: PartialEq>(place: &mut Option<T>, value: T) -> Result<(), InspectError> {
    match place {
        Some(former) if *former != value => rejected("an entry has two names or sizes; make the archive anew"),
        _ => {
            *place = Some(value);
            Ok(())
        }
    }
}

/// A record is `LENGTH KEY=VALUE\n`, with the length of all of it. Not the tar crate's iterator: it takes a line for a
/// record, and a value may hold anything.
fn for_each_record(
    mut bytes: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    while !bytes.is_empty() {
        let Some((record, rest)) = record(bytes) else {
            return rejected("it is a damaged tar file: an extended header cannot be read; make the archive anew");
        };
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
            return rejected("it is a damaged tar file: an extended header cannot be read; make the archive anew");
        };
        each(&record[..equals], &record[equals + 1..])?;
        bytes = rest;
    }
    Ok(())
}

/// The first record's `KEY=VALUE`, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let digits = std::str::from_utf8(&bytes[..blank]).ok()?;
    let length: usize = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (record, rest) = bytes.split_at_checked(length)?;
    Some((record.get(blank + 1..)?.strip_suffix(b"\n")?, rest))
}
