//! The central directory of a ZIP file, one entry at a time, in constant memory.
//!
//! Why not the zip crate's: its archive keeps every entry in memory, and it allocates what a ZIP64 end record says,
//! up to the size of the file, before it looks at a single entry. A file that a stranger made must not choose how
//! much memory the operator takes. Layout: APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16.
//!
//! Absent: split archives, encrypted directories, comments, and the contents of the entries: see `contents`.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

use thiserror::Error;

const END: [u8; 4] = *b"PK\x05\x06";
const END_LEN: usize = 22;
/// An end record may be followed by a comment of at most 65,535 bytes.
const END_REACH: u64 = END_LEN as u64 + 0xffff;
const ZIP64_LOCATOR: [u8; 4] = *b"PK\x06\x07";
const ZIP64_LOCATOR_LEN: usize = 20;
const ZIP64_END: [u8; 4] = *b"PK\x06\x06";
const ZIP64_END_LEN: usize = 56;
const ENTRY: [u8; 4] = *b"PK\x01\x02";
const ENTRY_LEN: usize = 46;
const ZIP64_EXTRA: u16 = 1;
/// Info-ZIP's Unicode Path: a version, the checksum of the header's name, and the name in UTF-8 (APPNOTE 4.6.9).
const UNICODE_PATH_EXTRA: u16 = 0x7075;
const UNICODE_PATH_NAME: usize = 5;

/// Why a directory cannot be read.
#[derive(Debug, Error)]
pub(super) enum DirectoryError {
    /// The bytes are wrong: reading them again gives the same.
    #[error("{0}")]
    Malformed(&'static str),
    /// The disk, not the file, is at fault.
    #[error(transparent)]
    Disk(io::Error),
}

impl From<io::Error> for DirectoryError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Malformed("it ends in the middle of its directory")
        } else {
            Self::Disk(error)
        }
    }
}

use DirectoryError::Malformed;

const ZIP64_ELSEWHERE: DirectoryError = Malformed("its ZIP64 directory is not where it says");
const BROKEN_EXTRA: DirectoryError = Malformed("an entry has a broken extra field");

/// What the directory says of one entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// As stored, in no known encoding.
    pub(super) name: Vec<u8>,
    pub(super) encrypted: bool,
    /// What kind of file it is by its Unix mode, as in `S_IFMT`; 0 where that is not said.
    pub(super) kind: u32,
    /// How it is compressed, by APPNOTE's numbers.
    pub(super) method: u16,
    pub(super) crc32: u32,
    pub(super) compressed_size: u64,
    pub(super) unpacked_size: u64,
    /// Where its local header begins, from the start of the file.
    pub(super) header_start: u64,
}

/// A pass over the directory.
pub(super) struct Directory<R> {
    reader: BufReader<Take<R>>,
    left: u64,
    declared: Count,
    read: u64,
    start: u64,
    shift: u64,
    extra: Vec<u8>,
}

/// How many entries the end record says there are.
#[derive(Clone, Copy)]
enum Count {
    /// Sixteen bits; old writers let them overflow.
    Short(u16),
    Long(u64),
}

struct End {
    start: u64,
    size: u64,
    count: Count,
    shift: u64,
}

impl<R: Read + Seek> Directory<R> {
    /// Finds the directory from the end of the file.
    pub(super) fn open(mut reader: R) -> Result<Self, DirectoryError> {
        let end = find_end(&mut reader)?;
        reader.seek(SeekFrom::Start(end.start))?;
        Ok(Self {
            reader: BufReader::with_capacity(64 << 10, reader.take(end.size)),
            left: end.size,
            declared: end.count,
            read: 0,
            start: end.start,
            shift: end.shift,
            extra: Vec::new(),
        })
    }

    /// How many entries the end record declares: a hint until the pass has ended.
    pub(super) fn declared_entries(&self) -> u64 {
        match self.declared {
            Count::Short(count) => count.into(),
            Count::Long(count) => count,
        }
    }

    /// Where the directory begins in the file; all entries lie before it.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The next entry, `None` after the last one. All bytes of the directory are read, whatever count is declared, so
    /// nothing hides behind a wrong count.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, DirectoryError> {
        if self.left == 0 {
            let agrees = match self.declared {
                Count::Short(count) => self.read & 0xffff == u64::from(count),
                Count::Long(count) => self.read == count,
            };
            return if agrees { Ok(None) } else { Err(Malformed("its directory has another length than it says")) };
        }
        let mut fixed = [0; ENTRY_LEN];
        self.reader.read_exact(&mut fixed)?;
        if fixed[..4] != ENTRY {
            return Err(Malformed("its directory holds something that is no entry"));
        }
        let mut entry = Entry {
            name: vec![0; u16_at(&fixed, 28).into()],
            encrypted: u16_at(&fixed, 8) & 1 != 0,
            // The high half of the external attributes is the Unix mode. Programs look there whatever the maker's system
            // is said to be.
            kind: (u32_at(&fixed, 38) >> 16) & 0o170_000,
            method: u16_at(&fixed, 10),
            crc32: u32_at(&fixed, 16),
            compressed_size: u32_at(&fixed, 20).into(),
            unpacked_size: u32_at(&fixed, 24).into(),
            header_start: u32_at(&fixed, 42).into(),
        };
        self.reader.read_exact(&mut entry.name)?;
        self.extra.resize(u16_at(&fixed, 30).into(), 0);
        self.reader.read_exact(&mut self.extra)?;
        let comment = u64::from(u16_at(&fixed, 32));
        if io::copy(&mut self.reader.by_ref().take(comment), &mut io::sink())? < comment {
            return Err(Malformed("it ends in the middle of its directory"));
        }
        let values = &mut [&mut entry.unpacked_size, &mut entry.compressed_size, &mut entry.header_start];
        apply_extra(values, &entry.name, &self.extra)?;
        entry.header_start =
            entry.header_start.checked_add(self.shift).ok_or(Malformed("an entry points behind the file"))?;
        let length = ENTRY_LEN as u64 + entry.name.len() as u64 + self.extra.len() as u64 + comment;
        self.left = self.left.saturating_sub(length);
        self.read += 1;
        Ok(Some(entry))
    }
}

fn find_end<R: Read + Seek>(reader: &mut R) -> Result<End, DirectoryError> {
    let file_len = reader.seek(SeekFrom::End(0))?;
    let tail_start = file_len.saturating_sub(END_REACH);
    reader.seek(SeekFrom::Start(tail_start))?;
    let mut tail = Vec::new();
    reader.take(END_REACH).read_to_end(&mut tail)?;
    let position = end_record(&tail)?;
    let record = &tail[position..position + END_LEN];
    let end_start = tail_start + position as u64;

    let short = u16_at(record, 10);
    let (size, offset) = (u32_at(record, 12), u32_at(record, 16));
    if u16_at(record, 4) != u16_at(record, 6) || u16_at(record, 8) != short {
        return Err(Malformed("it is one part of a split archive"));
    }
    if let Some((start, zip64)) = zip64_end(reader, end_start)? {
        // Some readers go by this record whenever it is there, others only where a field has no room.
        let agrees = (short == u16::MAX || u64::from(short) == zip64.entries)
            && (size == u32::MAX || u64::from(size) == zip64.size)
            && (offset == u32::MAX || u64::from(offset) == zip64.offset);
        if !agrees {
            return Err(Malformed("it has two directories that differ"));
        }
        // Where bytes stand in front of the archive, some readers look for it in one place, others in another.
        if start.checked_sub(zip64.size) != Some(zip64.offset) {
            return Err(ZIP64_ELSEWHERE);
        }
        return Ok(End { start: zip64.offset, size: zip64.size, count: Count::Long(zip64.entries), shift: 0 });
    }
    let (size, offset) = (size.into(), offset.into());
    // The directory ends where its end record begins. Bytes in front of the archive shift all offsets alike.
    let start = end_start.checked_sub(size).ok_or(Malformed("its directory is larger than the file"))?;
    let shift = start.checked_sub(offset).ok_or(Malformed("its directory is not where it says"))?;
    // Go takes the directory from the very place that is said, if there is one.
    if shift > 0 && bytes_at::<_, 4>(reader, offset)? == ENTRY {
        return Err(Malformed("it has two directories, one where it says and one at its end"));
    }
    Ok(End { start, size, count: Count::Short(short), shift })
}

/// Where the end record begins in the last bytes of the file.
///
/// Some readers take the last one there is, others the last or the first one whose comment ends with the file, and what
/// follows the comment is passed over or an error. So there must be one that all of them take.
fn end_record(tail: &[u8]) -> Result<usize, DirectoryError> {
    let mut starts = tail.windows(END.len()).enumerate().filter(|(_, bytes)| *bytes == END).map(|(at, _)| at);
    // How many bytes follow its comment; `None` where the file ends before it does.
    let behind = |at: usize| tail.get(at + END_LEN..)?.len().checked_sub(u16_at(tail, at + 20).into());
    let last = starts.next_back().ok_or(Malformed("it has no directory at its end; perhaps it was cut short"))?;
    match behind(last) {
        None => Err(Malformed("it ends in the middle of its comment; perhaps it was cut short")),
        Some(1..) => Err(Malformed("something follows its end")),
        Some(0) if starts.any(|other| behind(other) == Some(0)) => Err(Malformed("its comment is another end of it")),
        Some(0) => Ok(last),
    }
}

/// What a ZIP64 end record says.
struct Zip64End {
    entries: u64,
    size: u64,
    offset: u64,
}

/// The ZIP64 end record, where a locator stands in front of the end record, and where it begins.
///
/// Some readers go by the place that the locator says, others take what stands in front of it, and what looks odd to them
/// they pass over. So all must be as every writer makes it.
fn zip64_end<R: Read + Seek>(reader: &mut R, end_start: u64) -> Result<Option<(u64, Zip64End)>, DirectoryError> {
    let Some(locator_start) = end_start.checked_sub(ZIP64_LOCATOR_LEN as u64) else { return Ok(None) };
    let locator: [u8; ZIP64_LOCATOR_LEN] = bytes_at(reader, locator_start)?;
    if locator[..4] != ZIP64_LOCATOR {
        return Ok(None);
    }
    // Only a record without an extensible data sector has this length; no archiver is known to write one.
    let start = locator_start.checked_sub(ZIP64_END_LEN as u64).ok_or(ZIP64_ELSEWHERE)?;
    let record: [u8; ZIP64_END_LEN] = bytes_at(reader, start)?;
    if record[..4] != ZIP64_END || u64_at(&record, 4) != ZIP64_END_LEN as u64 - 12 || u64_at(&locator, 8) != start {
        return Err(ZIP64_ELSEWHERE);
    }
    let entries = u64_at(&record, 32);
    let is_whole = u32_at(&locator, 4) == 0 && u32_at(&locator, 16) == 1 && record[16..24] == [0; 8];
    if !is_whole || u64_at(&record, 24) != entries {
        return Err(Malformed("it is one part of a split archive"));
    }
    Ok(Some((start, Zip64End { entries, size: u64_at(&record, 40), offset: u64_at(&record, 48) })))
}

fn bytes_at<R: Read + Seek, const N: usize>(reader: &mut R, at: u64) -> Result<[u8; N], DirectoryError> {
    let mut bytes = [0; N];
    reader.seek(SeekFrom::Start(at))?;
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The sizes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) compressed: u64,
    pub(super) unpacked: u64,
}

/// The sizes that a local header says, given all of it.
pub(super) fn local_sizes(fixed: &[u8; 30], name: &[u8], extra: &[u8]) -> Result<Sizes, DirectoryError> {
    let mut sizes = Sizes { compressed: u32_at(fixed, 18).into(), unpacked: u32_at(fixed, 22).into() };
    let Sizes { compressed, unpacked } = &mut sizes;
    apply_extra(&mut [unpacked, compressed], name, extra)?;
    Ok(sizes)
}

/// Reads the extra fields that change what a header says.
///
/// Sizes and offset that do not fit 32 bits stand in one, in this order, each only where it is needed. A name may stand
/// in another, which many readers take in the place of the header's. It may only repeat that one, whatever its version
/// and checksum are: APPNOTE has it ignored where they do not fit, but not every reader looks.
fn apply_extra(values: &mut [&mut u64], name: &[u8], mut extra: &[u8]) -> Result<(), DirectoryError> {
    let mut has_zip64 = false;
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some(field) = extra.get(4..4 + length) else { return Err(BROKEN_EXTRA) };
        extra = &extra[4 + length..];
        match id {
            // Some readers take the first one, others both.
            ZIP64_EXTRA if has_zip64 => return Err(Malformed("an entry has two ZIP64 fields")),
            ZIP64_EXTRA => {
                has_zip64 = true;
                apply_zip64(values, field)?;
            }
            UNICODE_PATH_EXTRA => match field.get(UNICODE_PATH_NAME..) {
                None => return Err(BROKEN_EXTRA),
                Some(other) if other != name => {
                    return Err(Malformed(
                        "an entry has another name in its Unicode Path field than in its header; make the ZIP anew, with \
                         names in UTF-8",
                    ));
                }
                Some(_) => {}
            },
            _ => {}
        }
    }
    Ok(())
}

fn apply_zip64(values: &mut [&mut u64], mut field: &[u8]) -> Result<(), DirectoryError> {
    const FULL: u64 = u32::MAX as u64;
    for value in values {
        if **value == FULL {
            if field.len() < 8 {
                return Err(BROKEN_EXTRA);
            }
            **value = u64_at(field, 0);
            field = &field[8..];
        }
    }
    Ok(())
}

/// Little-endian; zero where `bytes` is too short, which the callers rule out.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|slice| slice.try_into().ok()).unwrap_or([0; N])
}
