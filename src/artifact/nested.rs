//! Archives inside the archive: `ADD data.tar.gz` in a Dockerfile unpacks them where the image is built.
//!
//! What is gzip is unpacked to nowhere while it passes by, and so is what is gzip inside of that. It counts as unpacked, so a
//! bomb is refused wherever it lies. What is no gzip, or is damaged, is a file like any other. So is every other format: a
//! builder unpacks only tar files by itself, and of those compressed by xz or bzip2 the bombs are not found.

use std::cell::Cell;
use std::io::{self, Write};
use std::rc::Rc;

use flate2::write::MultiGzDecoder;

use super::inspect::{InspectError, rejected};
use super::limits::Budget;
use super::names::shown;

/// How gzip begins (RFC 1952, 2.3.1), with deflate as it always is.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// There are files that unpack to themselves.
const DEEPEST: usize = 8;

/// A file of the archive, as it passes by.
pub(super) struct Nested {
    content: Content,
    tally: Rc<Tally>,
    /// So much of the tally is in the budget.
    counted: u64,
}

impl Nested {
    pub(super) fn new() -> Self {
        let tally = Rc::new(Tally::default());
        Self { content: Content::new(DEEPEST, tally.clone()), tally, counted: 0 }
    }

    /// Takes the next bytes of the file with this name; false if none after these can matter.
    pub(super) fn pass(&mut self, name: &str, bytes: &[u8], budget: &mut Budget<'_>) -> Result<bool, InspectError> {
        self.tally.most.set(self.counted.saturating_add(budget.room()));
        self.content.pass(bytes);
        let unpacked = self.tally.unpacked.get();
        let outcome = budget.unpack(unpacked - self.counted);
        self.counted = unpacked;
        match outcome {
            Err(InspectError::Rejected(reason)) => {
                return rejected(format!("with what is packed inside of {}, {reason}", shown(name)));
            }
            outcome => outcome?,
        }
        if self.tally.is_too_deep.get() {
            return rejected(format!(
                "{} is packed more than {DEEPEST} times over, as a bomb is; leave it out",
                shown(name)
            ));
        }
        Ok(!matches!(self.content.stage, Stage::Plain))
    }
}

/// What all that is packed in one file comes to.
#[derive(Default)]
struct Tally {
    unpacked: Cell<u64>,
    /// Nothing is unpacked beyond.
    most: Cell<u64>,
    is_too_deep: Cell<bool>,
}

/// The content of the file, or of what is packed in it.
struct Content {
    stage: Stage,
    /// So many more may be packed in it.
    deeper: usize,
    tally: Rc<Tally>,
}

enum Stage {
    /// It may be gzip, by its first bytes.
    Begins(Vec<u8>),
    Gzip(Box<MultiGzDecoder<Content>>),
    Plain,
}

impl Content {
    fn new(deeper: usize, tally: Rc<Tally>) -> Self {
        Self { stage: Stage::Begins(Vec::new()), deeper, tally }
    }

    fn pass(&mut self, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Begins(begin) => {
                let (more, rest) = bytes.split_at(bytes.len().min(MAGIC.len() - begin.len()));
                begin.extend_from_slice(more);
                if !MAGIC.starts_with(begin) {
                    self.stage = Stage::Plain;
                } else if begin.len() == MAGIC.len() {
                    self.begin(rest);
                }
            }
            Stage::Gzip(_) => self.unpack(bytes),
            Stage::Plain => {}
        }
    }

    /// It is gzip, and goes on with these bytes.
    fn begin(&mut self, rest: &[u8]) {
        let Some(deeper) = self.deeper.checked_sub(1) else {
            self.tally.is_too_deep.set(true);
            return;
        };
        self.stage = Stage::Gzip(Box::new(MultiGzDecoder::new(Self::new(deeper, self.tally.clone()))));
        self.unpack(&MAGIC);
        self.unpack(rest);
    }

    fn unpack(&mut self, bytes: &[u8]) {
        if let Stage::Gzip(decoder) = &mut self.stage
            // It keeps some of what it unpacked back.
            && decoder.write_all(bytes).and_then(|()| decoder.flush()).is_err()
        {
            self.stage = Stage::Plain;
        }
    }
}

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let unpacked = self.tally.unpacked.get().saturating_add(bytes.len() as u64);
        self.tally.unpacked.set(unpacked);
        if unpacked > self.tally.most.get() {
            return Err(io::Error::other("it is a bomb"));
        }
        self.pass(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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

    /// The message, or how many bytes were unpacked.
    fn outcome(bytes: &[u8], piece: usize, limits: &Limits) -> Result<u64, String> {
        let mut budget = Budget::new(limits, bytes.len() as u64);
        let mut nested = Nested::new();
        for bytes in bytes.chunks(piece) {
            match nested.pass("data.gz", bytes, &mut budget) {
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(nested.tally.unpacked.get())
    }

    #[test]
    fn what_is_packed_inside_counts() {
        let once = gzip(&[0; 10_000]);
        let twice = gzip(&once);
        let damaged = [&once[..once.len() / 2], b"no gzip"].concat();
        let two_members = [&once[..], &once[..]].concat();
        let limits = Limits::default();
        for (what, bytes, expected) in [
            ("nothing", &b""[..], 0..=0),
            ("text", b"FROM scratch\n", 0..=0),
            ("almost the magic", &MAGIC[..2], 0..=0),
            ("almost gzip", &[0x1f, 0x8b, 7, 0, 0], 0..=0),
            ("gzip", &once, 10_000..=10_000),
            ("two members", &two_members, 20_000..=20_000),
            ("gzip in gzip", &twice, 10_000 + once.len() as u64..=10_000 + once.len() as u64),
            ("a damaged one, as far as it goes", &damaged, 0..=10_000),
        ] {
            for piece in [1, 7, MIB] {
                let outcome = outcome(bytes, piece, &limits).unwrap();
                assert!(expected.contains(&outcome), "{what}, {piece} at once: {outcome}");
            }
        }
    }

    #[test]
    fn a_bomb_inside_is_refused_and_not_unpacked_to_its_end() {
        let large = gzip(&vec![0; 100 * MIB]);
        let limits = Limits { max_unpacked: 20 << 20, ..Limits::default() };
        for bomb in [&large, &gzip(&large), &gzip(&gzip(&large))] {
            let reason = outcome(bomb, bomb.len(), &Limits::default()).unwrap_err();
            assert!(
                reason.starts_with("with what is packed inside of `data.gz`, it unpacks to more than 100 times"),
                "{reason}"
            );
            let mut budget = Budget::new(&limits, bomb.len() as u64);
            let mut nested = Nested::new();
            let error = nested.pass("data.gz", bomb, &mut budget).unwrap_err();
            assert!(error.to_string().contains("--artifact-max-unpacked"), "{error}");
            let unpacked = nested.tally.unpacked.get();
            assert!(unpacked < 22 << 20, "{unpacked}");
        }
    }

    #[test]
    fn what_is_packed_without_end_is_refused() {
        let packed = |times| (0..times).fold(b"content".to_vec(), |bytes, _| gzip(&bytes));
        assert!(outcome(&packed(DEEPEST), 5, &Limits::default()).is_ok());
        let reason = outcome(&packed(DEEPEST + 1), 5, &Limits::default()).unwrap_err();
        assert!(reason.starts_with("`data.gz` is packed more than 8 times over"), "{reason}");
    }
}
