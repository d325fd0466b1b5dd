//! The entries of a tar file, one at a time, in constant memory.
//!
//! Why not the tar crate's own walk: it holds each extended header in memory, whatever its size, and passes over what it
//! does not know; two programs that read one file differently are an attack. The crate's [`Header`] reads the fields.
//! Layout: POSIX.1-2017, `pax`, and the GNU tar manual.

use std::fs::File;

use tar::Header;
use tokio_util::sync::CancellationToken;

use super::super::Limits;
use super::super::inspect::{InspectError, rejected};
use super::super::names::{clean_name, shown};
use super::super::nested::Nested;
use super::pax::Extended;
use super::stream::Stream;

const BLOCK: usize = 512;
/// The largest extended header, in bytes: a path and some attributes.
const EXTENDED_MAX: u64 = 1 << 20;
/// What marks a file of a lower layer as gone, in an image.
const WHITEOUT: &str = ".wh.";
const OWNER_EXECUTES: u32 = 0o100;

/// One entry.
pub(super) struct Member {
    /// Clean; empty for the root.
    pub(super) name: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    File { size: u64, executable: bool },
    Folder,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
}

/// A pass over the file.
pub(super) struct Tar<'a> {
    stream: Stream<'a>,
    limits: &'a Limits,
    /// How many bytes of the last entry are still to be read, and how many fill up its last block.
    left: u64,
    padding: u64,
}

impl<'a> Tar<'a> {
    pub(super) fn open(
        source: &'a File,
        limits: &'a Limits,
        stop: &'a CancellationToken,
    ) -> Result<Self, InspectError> {
        Ok(Self { stream: Stream::open(source, limits, stop)?, limits, left: 0, padding: 0 })
    }

    /// The next entry; `None` behind the end marker, when nothing but zeros follows it.
    pub(super) fn next_member(&mut self) -> Result<Option<Member>, InspectError> {
        self.pass_over()?;
        let mut extended = Extended::default();
        loop {
            let Some(header) = self.header()? else {
                return if extended.is_empty() { Ok(None) } else { cut_short("its last header belongs to no entry") };
            };
            match header.entry_type().as_byte() {
                b'x' => extended.add_pax(&self.extension(&header)?)?,
                b'g' => Extended::check_global(&self.extension(&header)?)?,
                b'L' => extended.set_path(without_nul(self.extension(&header)?))?,
                b'K' => extended.set_link(without_nul(self.extension(&header)?))?,
                _ => return self.member(&header, extended).map(Some),
            }
            self.pass_over()?;
        }
    }

    /// The next bytes of the entry's content, as many as there are and fit; none at its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, InspectError> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if self.stream.fill(&mut buffer[..length])? < length {
            return cut_short("it ends in the middle of an entry");
        }
        self.left -= length as u64;
        Ok(length)
    }

    /// The whole content of an entry that must be small.
    pub(super) fn content(&mut self, what: &str, most: u64) -> Result<Vec<u8>, InspectError> {
        if self.left > most {
            return rejected(format!("{what} is larger than {} KiB; make it smaller", most >> 10));
        }
        let mut content = vec![0; usize::try_from(self.left).unwrap_or(0)];
        self.read(&mut content)?;
        Ok(content)
    }

    /// Counts what is packed inside of the entry of this name.
    pub(super) fn look_inside(&mut self, name: &str) -> Result<(), InspectError> {
        let (mut nested, mut buffer) = (Nested::new(), [0; 16 << 10]);
        loop {
            let length = self.read(&mut buffer)?;
            if length == 0 || !nested.pass(name, &buffer[..length], &mut self.stream.budget)? {
                return Ok(());
            }
        }
    }

    /// Counts bytes that will be packed once more.
    pub(super) fn unpack(&mut self, bytes: u64) -> Result<(), InspectError> {
        self.stream.budget.unpack(bytes)
    }

    fn pass_over(&mut self) -> Result<(), InspectError> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        if self.stream.skip(rest)? < rest {
            return cut_short("it ends in the middle of an entry");
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>, InspectError> {
        let mut header = Header::new_old();
        if self.stream.fill(header.as_mut_bytes())? < BLOCK {
            return cut_short("its end marker is missing");
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            self.end()?;
            return Ok(None);
        }
        // The sum of all bytes, where those of the sum itself count as blanks.
        let sum =
            bytes.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) });
        if header.cksum().ok() != Some(sum.sum()) {
            return rejected("it is a damaged tar file: the checksum of a header is wrong; publish the file anew");
        }
        Ok(Some(header))
    }

    /// What follows the first block of zeros: programs stop there, or do not, so there must be nothing to find.
    fn end(&mut self) -> Result<(), InspectError> {
        let mut block = [0; BLOCK];
        loop {
            let length = self.stream.fill(&mut block)?;
            if block[..length].iter().any(|byte| *byte != 0) {
                return rejected("something follows the end marker of the tar file; make the archive anew");
            }
            if length < BLOCK {
                return Ok(());
            }
        }
    }

    /// The whole content of an extended header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, InspectError> {
        let size = size_of(header, "an extended header")?;
        self.expect(size);
        self.content("an extended header in it", EXTENDED_MAX)
    }

    fn expect(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, InspectError> {
        self.stream.budget.entry()?;
        let raw = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let name = clean_name(&raw, self.limits)?;
        let said = size_of(header, &shown(&name))?;
        let size = match extended.size {
            // Writers that need an extended header for the size leave the field empty or full.
            Some(size) if [0, 0o77_777_777_777, size].contains(&said) => size,
            Some(_) => return rejected(format!("{} has two sizes; make the archive anew", shown(&name))),
            None => said,
        };
        if name.split('/').any(|part| part.starts_with(WHITEOUT)) {
            return rejected(format!("{} takes away a file of another image layer; publish one layer", shown(&name)));
        }
        let is_folder = raw.ends_with(b"/");
        let link = || extended.link.clone().or_else(|| header.link_name_bytes().map(Into::into)).unwrap_or_default();
        let kind = match header.entry_type().as_byte() {
            b'5' => Kind::Folder,
            // Before there was a type for folders.
            b'0' | 0 if is_folder => Kind::Folder,
            b'0' | 0 | b'7' => {
                let executable = header.mode().is_ok_and(|mode| mode & OWNER_EXECUTES != 0);
                Kind::File { size, executable }
            }
            b'2' => Kind::Symlink(link()),
            b'1' => Kind::HardLink(link()),
            b'3' | b'4' => return refuse_type(&name, "a device"),
            b'6' => return refuse_type(&name, "a named pipe"),
            b'S' => return refuse_type(&name, "a sparse file"),
            _ => return refuse_type(&name, "of a type that is not supported"),
        };
        if name.is_empty() && !matches!(kind, Kind::Folder) {
            return rejected("its root is not a folder; make the archive anew");
        }
        if size > 0 && !matches!(kind, Kind::File { .. }) {
            return rejected(format!("{} is no file, and has content; make the archive anew", shown(&name)));
        }
        if size > self.limits.max_unpacked {
            self.stream.budget.unpack(size)?;
        }
        self.expect(size);
        Ok(Member { name, kind })
    }
}

/// The size in the header's own field.
fn size_of(header: &Header, what: &str) -> Result<u64, InspectError> {
    // In base 256 the field has more bytes than the number: what they hold is a sign, or beyond any size.
    let field = &header.as_bytes()[124..136];
    let plain = match field[0] & 0x80 {
        0 => field.iter().all(|byte| matches!(byte, b'0'..=b'7' | b' ' | 0)),
        _ => field[0] == 0x80 && field[1..4].iter().all(|byte| *byte == 0),
    };
    match header.entry_size() {
        Ok(size) if plain && i64::try_from(size).is_ok() => Ok(size),
        _ => rejected(format!("{what} has a size that is no number, negative or too large; make the archive anew")),
    }
}

fn without_nul(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

fn refuse_type<T>(name: &str, what: &str) -> Result<T, InspectError> {
    rejected(format!("{} is {what}; leave it out", shown(name)))
}

fn cut_short<T>(how: &str) -> Result<T, InspectError> {
    rejected(format!("it is a tar file that was cut short: {how}; publish the file anew"))
}
