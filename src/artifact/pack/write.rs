//! The second pass: the ZIP is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Seek, SeekFrom};

use flate2::Crc;
use tokio_util::sync::CancellationToken;

use super::super::Limits;
use super::super::digest::digest_of;
use super::super::inspect::InspectError;
use super::Packed;
use super::deflate::{BLOCK, Block, Deflater, Part, Pool};
use super::survey::Plan;
use super::tar::{Kind, Tar};
use super::zip::{Head, Sums, ZipFile};

/// So many blocks, and so many bytes of them, are with the threads at once.
const MOST_BLOCKS: usize = 32;
const MOST_BYTES: usize = 1 << 20;
/// So many blocks are kept to be used again, for large files only: a block never becomes smaller.
const SPARE_BLOCKS: usize = 4;

pub(super) fn write_zip(
    source: &File,
    plan: &Plan,
    limits: &Limits,
    into: &File,
    stop: &CancellationToken,
) -> Result<Packed, InspectError> {
    let size = std::thread::scope(|scope| {
        let mut packer = Packer {
            zip: ZipFile::new(into, limits)?,
            pool: Pool::start(scope)?,
            under_way: VecDeque::new(),
            bytes: 0,
            spare: Vec::new(),
        };
        let mut tar = Tar::open(source, limits, stop)?;
        let mut deflater = Deflater::new();
        while let Some(member) = tar.next_member()? {
            let Kind::File { size, executable } = member.kind else { continue };
            let mut names = plan.names(&member.name)?.into_iter();
            if let Some(name) = names.next() {
                let head = Head { name, executable, deflated: false, size };
                packer.add_file(&mut tar, head, names.collect(), &mut deflater)?;
            }
        }
        packer.write_the_rest()
    })?;
    // Read back, for the headers of large files are written last.
    let mut whole = into;
    whole.seek(SeekFrom::Start(0))?;
    match digest_of(whole, stop)? {
        Some((digest, _)) => Ok(Packed { digest, size }),
        None => Err(InspectError::Stopped),
    }
}

struct Packer<'a> {
    zip: ZipFile<'a>,
    pool: Pool,
    under_way: VecDeque<UnderWay>,
    bytes: usize,
    spare: Vec<Block>,
}

/// What belongs to a block that is with the threads.
struct UnderWay {
    length: usize,
    /// Of the first block of a file.
    head: Option<Head>,
    /// Of the last block of a file.
    tail: Option<Tail>,
}

struct Tail {
    crc32: u32,
    /// The other names of the file.
    copies: Vec<String>,
}

impl Packer<'_> {
    /// Reads a file to its end, and hands it over block by block.
    fn add_file(
        &mut self,
        tar: &mut Tar<'_>,
        head: Head,
        copies: Vec<String>,
        deflater: &mut Deflater,
    ) -> Result<(), InspectError> {
        let mut left = head.size;
        let mut crc = Crc::new();
        let mut part = Part::Whole;
        let mut head = Some(head);
        let mut copies = Some(copies);
        loop {
            let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            let spare = if length == BLOCK { self.spare.pop() } else { None };
            let mut block = spare.unwrap_or_else(Block::new);
            block.raw.resize(length, 0);
            tar.read(&mut block.raw)?;
            crc.update(&block.raw);
            left -= length as u64;
            if let Some(head) = head.as_mut().filter(|_| left > 0) {
                head.deflated = deflater.is_worth(&block.raw);
                part = if head.deflated { Part::Deflated { last: false } } else { Part::Stored };
            }
            if let Part::Deflated { last } = &mut part {
                *last = left == 0;
            }
            block.part = part;
            let tail = if left == 0 { copies.take().map(|copies| Tail { crc32: crc.sum(), copies }) } else { None };
            self.hand_over(block, UnderWay { length, head: head.take(), tail })?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    fn hand_over(&mut self, block: Block, under_way: UnderWay) -> Result<(), InspectError> {
        while self.under_way.len() >= MOST_BLOCKS || self.bytes + under_way.length > MOST_BYTES {
            self.write_next_block()?;
        }
        self.bytes += under_way.length;
        self.under_way.push_back(under_way);
        self.pool.send(block)
    }

    /// Writes the block that was handed over first.
    fn write_next_block(&mut self) -> Result<(), InspectError> {
        let Some(UnderWay { length, head, tail }) = self.under_way.pop_front() else { return Ok(()) };
        self.bytes -= length;
        let block = self.pool.receive()?;
        let is_whole = block.part == Part::Whole;
        if let Some(mut head) = head {
            head.deflated = block.is_deflated();
            let crc32 = tail.as_ref().map_or(0, |tail| tail.crc32);
            let sums = Sums { crc32, packed: block.packed().len() as u64 };
            self.zip.begin_file(head, is_whole.then_some(sums))?;
        }
        self.zip.append(block.packed())?;
        if let Some(Tail { crc32, copies }) = tail {
            if !is_whole {
                self.zip.end_file(crc32)?;
            }
            for name in copies {
                self.zip.copy_last(name, crc32)?;
            }
        }
        if length == BLOCK && self.spare.len() < SPARE_BLOCKS {
            self.spare.push(block);
        }
        Ok(())
    }

    fn write_the_rest(mut self) -> Result<u64, InspectError> {
        while !self.under_way.is_empty() {
            self.write_next_block()?;
        }
        self.zip.write_directory()
    }
}
