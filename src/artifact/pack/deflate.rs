//! Deflates blocks on threads of their own, and gives them back in order.
//!
//! Each block is deflated by itself, as pigz does it, so the bytes do not depend on how many threads there are or which
//! of them is faster.

use std::io;
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, Scope};

use flate2::{Compress, Compression, FlushCompress, Status};

use super::super::inspect::InspectError;

/// The largest block, in bytes: large enough that little is lost at its borders.
pub(super) const BLOCK: usize = 256 << 10;
/// By so much of the beginning it is judged whether a file is worth deflating, in bytes.
const TRIAL: usize = 64 << 10;
/// What Python's zipfile takes, and so the official client.
const LEVEL: u32 = 6;
/// More threads would wait: one reads the tar file meanwhile.
const MOST_THREADS: usize = 2;

/// What is to be done with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A whole file: deflated if that is worth it.
    Whole,
    /// A part of a file that is deflated.
    Deflated { last: bool },
    /// A part of a file that is stored.
    Stored,
}

/// A block on its way.
pub(super) struct Block {
    pub(super) raw: Vec<u8>,
    pub(super) part: Part,
    deflated: Vec<u8>,
    is_deflated: bool,
}

impl Block {
    pub(super) fn new() -> Self {
        Self { raw: Vec::new(), part: Part::Whole, deflated: Vec::new(), is_deflated: false }
    }

    /// Whether [`Block::packed`] is deflated.
    pub(super) fn is_deflated(&self) -> bool {
        self.is_deflated
    }

    /// What goes into the ZIP.
    pub(super) fn packed(&self) -> &[u8] {
        if self.is_deflated { &self.deflated } else { &self.raw }
    }
}

/// The threads. They end with the scope, when this is dropped.
pub(super) struct Pool {
    threads: Vec<(Sender<Block>, Receiver<Block>)>,
    sent: usize,
    received: usize,
}

impl Pool {
    pub(super) fn start<'scope>(scope: &'scope Scope<'scope, '_>) -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_THREADS);
        let mut threads = Vec::new();
        for number in 0..count {
            let (to, blocks) = channel::<Block>();
            let (done, from) = channel();
            thread::Builder::new().name(format!("pack-{number}")).spawn_scoped(scope, move || {
                let mut deflater = Deflater::new();
                for mut block in blocks {
                    deflater.work_on(&mut block);
                    if done.send(block).is_err() {
                        return;
                    }
                }
            })?;
            threads.push((to, from));
        }
        Ok(Self { threads, sent: 0, received: 0 })
    }

    /// Hands a block over. How many are under way is the caller's to bound.
    pub(super) fn send(&mut self, block: Block) -> Result<(), InspectError> {
        let (to, _) = &self.threads[self.sent % self.threads.len()];
        self.sent += 1;
        to.send(block).map_err(|_| panicked())
    }

    /// The block that was handed over first of those that did not come back, when it is done.
    pub(super) fn receive(&mut self) -> Result<Block, InspectError> {
        let (_, from) = &self.threads[self.received % self.threads.len()];
        self.received += 1;
        from.recv().map_err(|_| panicked())
    }
}

fn panicked() -> InspectError {
    InspectError::Disk(io::Error::other("a thread that packs the artifact ended"))
}

/// The state of one deflate stream, used again for each block.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        Self(Compress::new(Compression::new(LEVEL), false))
    }

    /// Whether a file that begins so is worth deflating: reading it again then costs more than sending it.
    pub(super) fn is_worth(&mut self, beginning: &[u8]) -> bool {
        let beginning = &beginning[..beginning.len().min(TRIAL)];
        let mut deflated = Vec::new();
        self.0.reset();
        self.run(beginning, &mut deflated, FlushCompress::Finish);
        is_less(deflated.len(), beginning.len())
    }

    fn work_on(&mut self, block: &mut Block) {
        let Block { raw, part, deflated, is_deflated } = block;
        deflated.clear();
        self.0.reset();
        *is_deflated = match part {
            Part::Stored => false,
            Part::Deflated { last } => {
                self.run(raw, deflated, if *last { FlushCompress::Finish } else { FlushCompress::Sync });
                true
            }
            Part::Whole if raw.len() > TRIAL => {
                let (beginning, rest) = raw.split_at(TRIAL);
                self.run(beginning, deflated, FlushCompress::Sync);
                let is_worth = is_less(deflated.len(), TRIAL);
                if is_worth {
                    self.run(rest, deflated, FlushCompress::Finish);
                }
                is_worth
            }
            Part::Whole => {
                self.run(raw, deflated, FlushCompress::Finish);
                is_less(deflated.len(), raw.len())
            }
        };
    }

    fn run(&mut self, mut raw: &[u8], deflated: &mut Vec<u8>, flush: FlushCompress) {
        loop {
            // What cannot be deflated grows by a few bytes for each 16 KiB.
            deflated.reserve(raw.len() + raw.len() / 1000 + 64);
            let before = self.0.total_in();
            // It fails for a stream that is in a wrong state only, and this one was just reset.
            let Ok(status) = self.0.compress_vec(raw, deflated, flush) else { return };
            raw = raw.get(usize::try_from(self.0.total_in() - before).unwrap_or(usize::MAX)..).unwrap_or_default();
            let is_flushed = raw.is_empty() && deflated.len() < deflated.capacity();
            if status == Status::StreamEnd || (flush == FlushCompress::Sync && is_flushed) {
                return;
            }
        }
    }
}

/// Less than a thirty-second saved is not worth it: images, archives, fonts.
fn is_less(deflated: usize, raw: usize) -> bool {
    deflated < raw - raw / 32
}
