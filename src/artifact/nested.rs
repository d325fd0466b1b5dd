//! Archives inside the archive: `ADD data.tar.gz` in a Dockerfile unpacks them where the image is built.
//!
//! A tar file that is gzip is unpacked to nowhere while it passes by, and counts as unpacked, so a bomb is refused there too.
//! What is no such thing, or is damaged, is a file like any other. So is every other format: a builder unpacks only tar files
//! by itself, and of those compressed by xz or bzip2 the bombs are not found.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use tar::Header;

use super::inspect::{InspectError, rejected};
use super::limits::Budget;
use super::names::shown;

/// How gzip begins (RFC 1952, 2.3.1), with deflate as it always is.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const BLOCK: usize = 512;

/// A file of the archive, as it passes by.
pub(super) enum Nested {
    /// It may be gzip, by its first bytes.
    Begins(Vec<u8>),
    /// What it unpacks to, and how much of that is in the budget.
    Gzip(Box<MultiGzDecoder<Content>>, u64),
    Plain,
}

impl Nested {
    pub(super) fn new() -> Self {
        Self::Begins(Vec::new())
    }

    /// Takes the next bytes of the file with this name; false if none after these can matter.
    pub(super) fn pass(&mut self, name: &str, bytes: &[u8], budget: &mut Budget<'_>) -> Result<bool, InspectError> {
        match self {
            Self::Begins(begin) => {
                let (more, rest) = bytes.split_at(bytes.len().min(MAGIC.len() - begin.len()));
                begin.extend_from_slice(more);
                if !MAGIC.starts_with(begin) {
                    *self = Self::Plain;
                } else if begin.len() == MAGIC.len() {
                    *self = Self::Gzip(Box::new(MultiGzDecoder::new(Content::default())), 0);
                    return Ok(self.pass(name, &MAGIC, budget)? && self.pass(name, rest, budget)?);
                }
            }
            Self::Gzip(decoder, counted) => {
                decoder.get_mut().most = counted.saturating_add(budget.room());
                // It keeps some of what it unpacked back until it is flushed.
                let outcome = decoder.write_all(bytes).and_then(|()| decoder.flush());
                let unpacked = decoder.get_ref().of_a_tar_file();
                let more = unpacked - *counted;
                *counted = unpacked;
                match budget.unpack(more) {
                    Err(InspectError::Rejected(reason)) => {
                        return rejected(format!("with what is packed inside of {}, {reason}", shown(name)));
                    }
                    counted => counted?,
                }
                if outcome.is_err() {
                    *self = Self::Plain;
                }
            }
            Self::Plain => {}
        }
        Ok(!matches!(self, Self::Plain))
    }
}

/// What a gzip file holds.
#[derive(Default)]
pub(super) struct Content {
    /// As much of the first block as is here.
    begin: Vec<u8>,
    is_tar: bool,
    unpacked: u64,
    /// No more of a tar file is unpacked.
    most: u64,
}

impl Content {
    fn of_a_tar_file(&self) -> u64 {
        if self.is_tar { self.unpacked } else { 0 }
    }
}

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unpacked = self.unpacked.saturating_add(bytes.len() as u64);
        if self.begin.len() < BLOCK {
            self.begin.extend_from_slice(&bytes[..bytes.len().min(BLOCK - self.begin.len())]);
            self.is_tar = self.begin.len() == BLOCK && is_tar_header(&self.begin);
            if self.begin.len() == BLOCK && !self.is_tar {
                return Err(io::Error::other("no builder unpacks it"));
            }
        }
        if self.is_tar && self.unpacked > self.most {
            return Err(io::Error::other("it is a bomb"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether it is the header of a tar file, of whatever kind: its sum counts the field with the sum as blanks.
fn is_tar_header(block: &[u8]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let sum: u32 =
        block.iter().enumerate().map(|(at, byte)| if SUM.contains(&at) { 32 } else { u32::from(*byte) }).sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|said| said == sum)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::Limits;
    use super::*;

    const MIB: usize = 1 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A tar file of one file with so many zeros.
    fn tar_of(mut header: Header, zeros: usize) -> Vec<u8> {
        header.set_size(zeros as u64);
        header.set_cksum();
        let mut builder = tar::Builder::new(Vec::new());
        builder.append(&header, io::repeat(0).take(zeros as u64)).unwrap();
        builder.into_inner().unwrap()
    }

    /// The message, or how many bytes counted.
    fn outcome(bytes: &[u8], piece: usize, limits: &Limits) -> Result<u64, String> {
        let mut budget = Budget::new(limits, bytes.len() as u64);
        let (room, mut nested) = (budget.room(), Nested::new());
        for bytes in bytes.chunks(piece) {
            nested.pass("data.tar.gz", bytes, &mut budget).map_err(|error| error.to_string())?;
        }
        Ok(room - budget.room())
    }

    #[test]
    fn what_a_builder_would_unpack_counts() {
        let (tar, old) = (tar_of(Header::new_gnu(), 9000), tar_of(Header::new_old(), 9000));
        let all = tar.len() as u64;
        let packed = gzip(&tar);
        let damaged = [&packed[..packed.len() / 2], b"no gzip"].concat();
        let members = [gzip(&tar[..700]), gzip(&tar[700..])].concat();
        for (what, bytes, expected) in [
            ("nothing", &b""[..], 0..=0),
            ("text", b"FROM scratch\n", 0..=0),
            ("almost the magic", &MAGIC[..2], 0..=0),
            ("almost gzip", &[0x1f, 0x8b, 7, 0, 0], 0..=0),
            ("a tar file in gzip", &packed, all..=all),
            ("one of the old format", &gzip(&old), all..=all),
            ("in two members", &members, all..=all),
            ("a damaged one, as far as it goes", &damaged, 0..=all),
            ("another file in gzip", &gzip(&vec![0; MIB]), 0..=0),
            ("a short one", &gzip(b"text"), 0..=0),
            ("gzip in gzip", &gzip(&packed), 0..=0),
        ] {
            for piece in [1, 7, MIB] {
                let outcome = outcome(bytes, piece, &Limits::default()).unwrap();
                assert!(expected.contains(&outcome), "{what}, {piece} at once: {outcome}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_and_not_unpacked_to_its_end() {
        let bomb = gzip(&tar_of(Header::new_gnu(), 100 * MIB));
        let reason = outcome(&bomb, bomb.len(), &Limits::default()).unwrap_err();
        let wanted = "with what is packed inside of `data.tar.gz`, it unpacks to more than 100 times";
        assert!(reason.starts_with(wanted), "{reason}");
        let limits = Limits { max_unpacked: 20 << 20, ..Limits::default() };
        let mut nested = Nested::new();
        let error = nested.pass("data.tar.gz", &bomb, &mut Budget::new(&limits, bomb.len() as u64)).unwrap_err();
        assert!(error.to_string().contains("--artifact-max-unpacked"), "{error}");
        let Nested::Gzip(_, counted) = nested else { panic!("it was given up") };
        assert!(counted < 21 << 20, "{counted}");
    }
}
