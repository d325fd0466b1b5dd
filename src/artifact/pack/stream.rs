//! The bytes of a tar file, out of gzip or as they are, within the limits.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;
use tokio_util::sync::CancellationToken;

use super::super::Limits;
use super::super::format::Format;
use super::super::inspect::{InspectError, rejected};
use super::super::limits::Budget;

const BUFFER: usize = 64 << 10;

/// Reads and counts; a bomb is refused while it goes off, so it takes no more than the limit's time, and no memory.
pub(super) struct Stream<'a> {
    reader: BufReader<Box<dyn Read + 'a>>,
    pub(super) budget: Budget<'a>,
    stop: &'a CancellationToken,
}

impl<'a> Stream<'a> {
    /// From the beginning of the file.
    pub(super) fn open(
        source: &'a File,
        limits: &'a Limits,
        stop: &'a CancellationToken,
    ) -> Result<Self, InspectError> {
        let format = Format::of(source)?;
        let mut source = source;
        let packed = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let reader: Box<dyn Read + 'a> = match format {
            // A gzip file may be several one after another, as pigz and `cat` make them.
            Format::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, source))),
            Format::Tar => Box::new(source),
            Format::Zip => return rejected("it is no tar file"),
        };
        let reader = BufReader::with_capacity(BUFFER, reader);
        Ok(Self { reader, budget: Budget::new(limits, packed), stop })
    }

    /// Fills the buffer as far as there are bytes; fewer mean the end.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, InspectError> {
        let mut filled = 0;
        while filled < buffer.len() {
            let length = self.piece(buffer.len() - filled)?;
            if length == 0 {
                break;
            }
            buffer[filled..filled + length].copy_from_slice(&self.reader.buffer()[..length]);
            self.reader.consume(length);
            filled += length;
        }
        Ok(filled)
    }

    /// Passes over so many bytes, or fewer at the end; tells how many they were.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<u64, InspectError> {
        let mut left = bytes;
        while left > 0 {
            let length = self.piece(usize::try_from(left).unwrap_or(usize::MAX))?;
            if length == 0 {
                break;
            }
            self.reader.consume(length);
            left -= length as u64;
        }
        Ok(bytes - left)
    }

    /// How many bytes stand in the reader's buffer, of at most so many; none at the end. They count as read.
    fn piece(&mut self, most: usize) -> Result<usize, InspectError> {
        if self.stop.is_cancelled() {
            return Err(InspectError::Stopped);
        }
        let length = loop {
            match self.reader.fill_buf() {
                Ok(bytes) => break bytes.len().min(most),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        };
        self.budget.unpack(length as u64)?;
        Ok(length)
    }
}

fn broken(error: io::Error) -> InspectError {
    // Only the operating system's own errors are about the disk; the rest is what the decoder found in the bytes.
    if error.raw_os_error().is_some() {
        return InspectError::Disk(error);
    }
    let what = match error.kind() {
        io::ErrorKind::UnexpectedEof => "it is cut short in the middle of its gzip data",
        _ => "its gzip data is damaged, or something that is no gzip follows it",
    };
    InspectError::Rejected(format!("{what}; publish the file anew"))
}
