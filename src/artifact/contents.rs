//! What a ZIP's directory says of its entries, compared with what is there: each entry is unpacked once, to nowhere.
//!
//! The directory is a claim. An entry may lie inside another or between two others, its local header may name another file,
//! its data may unpack to more than it says; one program goes by the one, another by the other. So all must agree, byte
//! for byte, in one pass over the file in its own order, in constant memory. Only in front of the first entry may something
//! stand that is none.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::{Crc, Decompress, FlushDecompress, Status};
use tokio_util::sync::CancellationToken;

use super::directory::{Entry, Sizes, local_sizes};
use super::inspect::{InspectError, rejected};
use super::limits::Budget;
use super::links::Links;
use super::names::{Key, clean_name, shown};
use super::nested::Nested;
use super::root::{MANIFEST, MANIFEST_MAX};
use super::{Digest, Limits};

const BUFFER: usize = 64 << 10;
const HEADER: [u8; 4] = *b"PK\x03\x04";
const HEADER_LEN: usize = 30;
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";
const DESCRIPTOR_MAX: u64 = 24;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// What is kept of an entry's content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    Manifest,
    LinkTarget,
}

/// What must be known of an entry to compare it with its place in the file.
pub(super) struct Place {
    start: u64,
    sizes: Sizes,
    crc32: u32,
    method: u16,
    name: Key,
    keep: Keep,
}

impl Place {
    pub(super) fn of(entry: &Entry, keep: Keep) -> Self {
        Self {
            start: entry.header_start,
            sizes: Sizes { compressed: entry.compressed_size, unpacked: entry.unpacked_size },
            crc32: entry.crc32,
            method: entry.method,
            name: Digest::of(&entry.name).first_half(),
            keep,
        }
    }

    /// The data descriptors that can stand behind the entry: with a signature or without one, and with sizes of 32 or 64
    /// bits (APPNOTE 4.3.9). Which of them it is, is nowhere said.
    fn descriptors(&self) -> Vec<Vec<u8>> {
        let Sizes { compressed, unpacked } = self.sizes;
        let mut all = vec![[compressed.to_le_bytes(), unpacked.to_le_bytes()].concat()];
        if let (Ok(compressed), Ok(unpacked)) = (u32::try_from(compressed), u32::try_from(unpacked)) {
            all.push([compressed.to_le_bytes(), unpacked.to_le_bytes()].concat());
        }
        let crc32 = self.crc32.to_le_bytes();
        all.iter().flat_map(|sizes| [[&DESCRIPTOR[..], &crc32, sizes].concat(), [&crc32[..], sizes].concat()]).collect()
    }
}

/// What was kept.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) manifest: Vec<u8>,
    pub(super) links: Links,
}

/// Goes through all entries, which end where the directory begins. What they unpack to is in the budget already, and what is
/// packed inside of them comes on top.
pub(super) fn compare<R: Read + Seek>(
    mut reader: R,
    (mut places, directory_start): (Vec<Place>, u64),
    (limits, budget): (&Limits, &mut Budget<'_>),
    stop: &CancellationToken,
) -> Result<Kept, InspectError> {
    places.sort_unstable_by_key(|place| place.start);
    if places.last().is_some_and(|last| last.start > directory_start) {
        return rejected("an entry of it lies behind its directory; make the ZIP anew");
    }
    reader.seek(SeekFrom::Start(0))?;
    let mut file = Walk { reader: BufReader::with_capacity(BUFFER, reader), at: 0, end: directory_start };
    let mut unpacker = Unpacker { inflater: Decompress::new(false), output: vec![0; BUFFER], budget, stop };
    let mut kept = Kept::default();
    let mut places = places.into_iter().peekable();
    file.pass_over_prefix(places.peek().map_or(directory_start, |first| first.start))?;
    while let Some(place) = places.next() {
        let Header { name, has_descriptor } = file.header(&place)?;
        let most = match place.keep {
            Keep::Nothing => 0,
            Keep::Manifest => MANIFEST_MAX,
            Keep::LinkTarget => limits.max_path_length.into(),
        };
        if place.keep != Keep::Nothing && place.sizes.unpacked > most {
            return rejected(match place.keep {
                Keep::Manifest => format!("`{MANIFEST}` is larger than {} KiB; make it smaller", most >> 10),
                _ => format!(
                    "the link {} leads to a name that is longer than {most} bytes; replace it by the file",
                    shown(&name)
                ),
            });
        }
        let mut content = Vec::new();
        unpacker.unpack(&mut file, &place, &name, (place.keep != Keep::Nothing).then_some(&mut content))?;
        match place.keep {
            Keep::Nothing => {}
            Keep::Manifest => kept.manifest = content,
            Keep::LinkTarget => kept.links.add(&clean_name(name.as_bytes(), limits)?, &content, false)?,
        }
        let next = places.peek().map_or(directory_start, |next| next.start);
        file.end_entry(&place, &name, has_descriptor, next)?;
    }
    Ok(kept)
}

/// What only a local header says.
struct Header {
    name: String,
    /// Sizes and checksum follow the data.
    has_descriptor: bool,
}

/// The file up to its directory, read from the front.
struct Walk<R> {
    reader: BufReader<R>,
    at: u64,
    end: u64,
}

impl<R: Read + Seek> Walk<R> {
    /// Passes over what stands in front of the first entry, such as a script that unpacks it. Who reads from the front
    /// takes what begins as a ZIP does for one.
    fn pass_over_prefix(&mut self, first: u64) -> Result<(), InspectError> {
        if first > 0 && self.peek(2)? == b"PK" {
            return rejected(
                "it begins with something of a ZIP that its directory does not tell of; make the ZIP anew, in a new file",
            );
        }
        let offset = i64::try_from(first).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.reader.seek_relative(offset)?;
        self.at = first;
        Ok(())
    }

    /// Goes from the end of an entry's data to the next entry, or to the directory. What lies between them is found by
    /// who reads from the front, so it can only be the data descriptor that the local header announced.
    fn end_entry(&mut self, place: &Place, name: &str, has_descriptor: bool, next: u64) -> Result<(), InspectError> {
        let Some(gap) = next.checked_sub(self.at) else {
            return rejected("two of its entries overlap, as in a bomb; make the ZIP anew");
        };
        if gap == 0 && !has_descriptor {
            return Ok(());
        }
        if has_descriptor && gap <= DESCRIPTOR_MAX {
            let mut found = vec![0; usize::try_from(gap).unwrap_or_default()];
            self.read(&mut found)?;
            if place.descriptors().contains(&found) {
                return Ok(());
            }
        }
        rejected(format!(
            "{} is not followed by the next entry in the ZIP, but by something that its directory does not tell of; make \
             the ZIP anew, in a new file",
            shown(name)
        ))
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), InspectError> {
        if buffer.len() as u64 > self.end - self.at {
            return rejected("an entry of it reaches into its directory; make the ZIP anew");
        }
        self.reader.read_exact(buffer)?;
        self.at += buffer.len() as u64;
        Ok(())
    }

    /// The next bytes of the file, at most so many.
    fn peek(&mut self, most: u64) -> Result<&[u8], InspectError> {
        let bytes = self.reader.fill_buf()?;
        Ok(&bytes[..bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.at += bytes as u64;
    }

    /// Reads a local header, which must say the same as the directory.
    fn header(&mut self, place: &Place) -> Result<Header, InspectError> {
        let mut fixed = [0; HEADER_LEN];
        self.read(&mut fixed)?;
        if fixed[..4] != HEADER {
            return rejected("an entry of it is not where its directory says; make the ZIP anew");
        }
        let u16_at = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let mut name = vec![0; u16_at(26).into()];
        self.read(&mut name)?;
        let mut extra = vec![0; u16_at(28).into()];
        self.read(&mut extra)?;
        let is_same = Digest::of(&name).first_half() == place.name;
        let sizes = local_sizes(&fixed, &name, &extra)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let flags = u16_at(6);
        let crc32 = u32::from_le_bytes([fixed[14], fixed[15], fixed[16], fixed[17]]);
        // Where an entry was written to a pipe, sizes and checksum follow the data, and the header may have none.
        let has_descriptor = flags & 8 != 0;
        let agree = |said: u64, wanted: u64| said == wanted || has_descriptor && said == 0;
        if !is_same
            || flags & 1 != 0
            || u16_at(8) != place.method
            || !agree(crc32.into(), place.crc32.into())
            || !agree(sizes.compressed, place.sizes.compressed)
            || !agree(sizes.unpacked, place.sizes.unpacked)
        {
            return rejected(format!(
                "{} is another file inside the ZIP than in its directory; make the ZIP anew",
                shown(&name)
            ));
        }
        Ok(Header { name, has_descriptor })
    }
}

struct Unpacker<'a, 'b> {
    inflater: Decompress,
    output: Vec<u8>,
    budget: &'a mut Budget<'b>,
    stop: &'a CancellationToken,
}

impl Unpacker<'_, '_> {
    /// Unpacks the data that comes next, which must have the size and the checksum that the directory says.
    fn unpack<R: Read + Seek>(
        &mut self,
        file: &mut Walk<R>,
        place: &Place,
        name: &str,
        mut content: Option<&mut Vec<u8>>,
    ) -> Result<(), InspectError> {
        let Sizes { compressed, unpacked } = place.sizes;
        if compressed > file.end - file.at {
            return rejected("an entry of it reaches into its directory; make the ZIP anew");
        }
        let mut crc = Crc::new();
        let mut total = 0;
        let mut left = compressed;
        let mut nested = Nested::new();
        let mut take = |bytes: &[u8]| {
            crc.update(bytes);
            if let Some(content) = content.as_mut() {
                content.extend_from_slice(bytes);
            }
            nested.pass(name, bytes, self.budget)
        };
        self.inflater.reset(false);
        let mut is_over = place.method == STORED;
        while left > 0 || !is_over {
            if self.stop.is_cancelled() {
                return Err(InspectError::Stopped);
            }
            let input = file.peek(left)?;
            let used = match place.method {
                STORED => {
                    take(input)?;
                    total += input.len() as u64;
                    input.len()
                }
                DEFLATED if !is_over => {
                    let (read, written) = (self.inflater.total_in(), self.inflater.total_out());
                    let Ok(status) = self.inflater.decompress(input, &mut self.output, FlushDecompress::None) else {
                        return damaged(name);
                    };
                    let made = usize::try_from(self.inflater.total_out() - written).unwrap_or(0);
                    let used = usize::try_from(self.inflater.total_in() - read).unwrap_or(0);
                    is_over = status == Status::StreamEnd;
                    if made == 0 && used == 0 && !is_over {
                        return damaged(name);
                    }
                    take(&self.output[..made])?;
                    total += made as u64;
                    used
                }
                // Something follows the compressed data, and counts as data.
                DEFLATED => return damaged(name),
                _ => {
                    return rejected(format!(
                        "{} is compressed in a way that is not supported; make the ZIP with deflate",
                        shown(name)
                    ));
                }
            };
            file.consume(used);
            left -= used as u64;
            if total > unpacked {
                return rejected(format!("{} unpacks to more than the ZIP says; make the ZIP anew", shown(name)));
            }
        }
        if total != unpacked || crc.sum() != place.crc32 {
            return damaged(name);
        }
        Ok(())
    }
}

fn damaged<T>(name: &str) -> Result<T, InspectError> {
    rejected(format!("{} is damaged in the ZIP; make the ZIP anew", shown(name)))
}
