//! Writes a ZIP file, one entry after another.
//!
//! Why not the zip crate's writer: it deflates on the thread that writes, and holds some hundred bytes more for each entry
//! than its name. Here one byte is held for each, however long its name is: the directory is made of the local headers, which
//! are read back. Layout: APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
//!
//! Absent: comments, encryption, folders (what is not empty is made by what is in it), and times: all entries are of
//! 1980-01-01.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use super::super::Limits;
use super::super::directory::local_sizes;
use super::super::inspect::{InspectError, rejected};

const BUFFER: usize = 256 << 10;
const LOCAL_HEADER: &[u8] = b"PK\x03\x04";
const LOCAL_HEADER_LEN: usize = 30;
const ENTRY: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const ZIP64_END: &[u8] = b"PK\x06\x06";
const ZIP64_LOCATOR: &[u8] = b"PK\x06\x07";
const ZIP64_EXTRA: u16 = 1;
/// What stands where a number needs ZIP64.
const FULL: u32 = u32::MAX;
/// A file of this size may be larger when it is deflated; then it needs ZIP64, which is decided before it is written.
const LARGE: u64 = 0xff00_0000;
/// 2.0 for deflate, 4.5 for ZIP64.
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// The maker's system, which says how modes are to be read.
const UNIX: u16 = 3 << 8;
const UTF8: u16 = 1 << 11;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// 1980-01-01 as DOS has it; the time is zero.
const DATE: u16 = 1 << 5 | 1;

/// What is known of a file before it is written.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) executable: bool,
    pub(super) deflated: bool,
    pub(super) size: u64,
}

/// How a file came out.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) crc32: u32,
    pub(super) packed: u64,
}

/// A ZIP file that is being written.
pub(super) struct ZipFile<'a> {
    file: BufWriter<&'a File>,
    limits: &'a Limits,
    at: u64,
    /// Of each entry, whether it is executable: all else that the directory says stands in the local headers.
    modes: Vec<bool>,
    /// The last entry, and where its header and its data begin.
    last: Option<(Head, u64, u64)>,
}

impl<'a> ZipFile<'a> {
    pub(super) fn new(mut file: &'a File, limits: &'a Limits) -> io::Result<Self> {
        file.seek(SeekFrom::Start(0))?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { file, limits, at: 0, modes: Vec::new(), last: None })
    }

    /// Begins a file. Without its sums it must be ended by [`ZipFile::end_file`].
    pub(super) fn begin_file(&mut self, head: Head, sums: Option<Sums>) -> Result<(), InspectError> {
        let header = local_header(&head, sums.unwrap_or_default());
        let start = self.at;
        self.append(&header)?;
        self.modes.push(head.executable);
        self.last = Some((head, start, self.at));
        Ok(())
    }

    /// The next bytes of the file, as they are to stand in the ZIP.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), InspectError> {
        self.at += bytes.len() as u64;
        if self.at > self.limits.max_size {
            return rejected(format!(
                "the ZIP made of it is larger than the {} bytes that this operator allows: leave out what the app does \
                 not need, or raise the operator's `--artifact-max-size`",
                self.limits.max_size
            ));
        }
        Ok(self.file.write_all(bytes)?)
    }

    /// Ends a file that was begun without its sums.
    pub(super) fn end_file(&mut self, crc32: u32) -> io::Result<()> {
        let Some((head, start, data)) = &self.last else { return Ok(()) };
        let header = local_header(head, Sums { crc32, packed: self.at - data });
        self.file.seek(SeekFrom::Start(*start))?;
        self.file.write_all(&header)?;
        self.file.seek(SeekFrom::Start(self.at))?;
        Ok(())
    }

    /// Writes the file that was just ended once more, under another name.
    pub(super) fn copy_last(&mut self, name: String, crc32: u32) -> Result<(), InspectError> {
        let Some((head, _, data)) = self.last.clone() else { return Ok(()) };
        let packed = self.at - data;
        self.begin_file(Head { name, ..head }, Some(Sums { crc32, packed }))?;
        let mut buffer = vec![0; BUFFER];
        let mut done = 0;
        while done < packed {
            let length = usize::try_from(packed - done).unwrap_or(BUFFER).min(BUFFER);
            self.file.seek(SeekFrom::Start(data + done))?;
            let mut file: &File = self.file.get_ref();
            file.read_exact(&mut buffer[..length])?;
            self.file.seek(SeekFrom::Start(self.at))?;
            self.append(&buffer[..length])?;
            done += length as u64;
        }
        Ok(())
    }

    /// Writes the directory. Gives back the file's size.
    pub(super) fn write_directory(mut self) -> Result<u64, InspectError> {
        let start = self.at;
        let modes = std::mem::take(&mut self.modes);
        let entries = modes.len() as u64;
        self.file.flush()?;
        // Both have one position in the file, so many entries are gathered before it changes hands.
        let mut written = BufReader::new(*self.file.get_ref());
        written.seek(SeekFrom::Start(0))?;
        let mut at = 0;
        let mut gathered = Vec::new();
        for executable in modes {
            let header = LocalHeader::read(&mut written)?;
            gathered.extend(header.directory_entry(executable, at));
            let packed = local_sizes(&header.fixed, &header.name, &header.extra)?.compressed;
            at += header.len() + packed;
            if gathered.len() < BUFFER {
                written.seek_relative(i64::try_from(packed).map_err(io::Error::other)?)?;
            } else {
                self.append_gathered(&mut gathered)?;
                written.seek(SeekFrom::Start(at))?;
            }
        }
        self.append_gathered(&mut gathered)?;
        let size = self.at - start;
        let short = |number: u64| u32::try_from(number).unwrap_or(FULL);
        if entries >= 0xffff || size >= FULL.into() || start >= FULL.into() {
            let mut record = Fields(ZIP64_END.to_vec());
            record.u64(44).u16(UNIX | VERSION_ZIP64).u16(VERSION_ZIP64).u32(0).u32(0);
            record.u64(entries).u64(entries).u64(size).u64(start);
            let end = self.at;
            record.bytes(ZIP64_LOCATOR).u32(0).u64(end).u32(1);
            self.append(&record.0)?;
        }
        let entries = u16::try_from(entries).unwrap_or(u16::MAX);
        let mut record = Fields(END.to_vec());
        record.u16(0).u16(0).u16(entries).u16(entries).u32(short(size)).u32(short(start)).u16(0);
        self.append(&record.0)?;
        self.file.flush()?;
        Ok(self.at)
    }

    /// Empties the buffer to the end of the file, wherever the file was read.
    fn append_gathered(&mut self, gathered: &mut Vec<u8>) -> Result<(), InspectError> {
        self.file.seek(SeekFrom::Start(self.at))?;
        self.append(gathered)?;
        gathered.clear();
        Ok(self.file.flush()?)
    }
}

fn local_header(head: &Head, sums: Sums) -> Vec<u8> {
    let large = head.size >= LARGE;
    let short = |number: u64| if large { FULL } else { u32::try_from(number).unwrap_or(FULL) };
    let mut header = Fields(LOCAL_HEADER.to_vec());
    header
        .u16(if large { VERSION_ZIP64 } else { VERSION })
        .u16(if head.name.is_ascii() { 0 } else { UTF8 })
        .u16(if head.deflated { DEFLATED } else { STORED })
        .u16(0)
        .u16(DATE)
        .u32(sums.crc32)
        .u32(short(sums.packed))
        .u32(short(head.size))
        // A clean name is shorter than a tar file's largest header.
        .u16(u16::try_from(head.name.len()).unwrap_or(u16::MAX))
        .u16(if large { 20 } else { 0 })
        .bytes(head.name.as_bytes());
    if large {
        header.u16(ZIP64_EXTRA).u16(16).u64(head.size).u64(sums.packed);
    }
    header.0
}

/// A local header, read back.
struct LocalHeader {
    fixed: [u8; LOCAL_HEADER_LEN],
    name: Vec<u8>,
    extra: Vec<u8>,
}

impl LocalHeader {
    fn read(written: &mut impl Read) -> io::Result<Self> {
        let mut fixed = [0; LOCAL_HEADER_LEN];
        written.read_exact(&mut fixed)?;
        if !fixed.starts_with(LOCAL_HEADER) {
            return Err(io::Error::other("what was packed has changed on the disk"));
        }
        let [.., name_low, name_high, extra_low, extra_high] = fixed;
        let mut name = vec![0; u16::from_le_bytes([name_low, name_high]).into()];
        written.read_exact(&mut name)?;
        let mut extra = vec![0; u16::from_le_bytes([extra_low, extra_high]).into()];
        written.read_exact(&mut extra)?;
        Ok(Self { fixed, name, extra })
    }

    fn len(&self) -> u64 {
        (self.fixed.len() + self.name.len() + self.extra.len()) as u64
    }

    /// The entry of the directory for the file whose header begins at `start`.
    fn directory_entry(&self, executable: bool, start: u64) -> Vec<u8> {
        let far = start >= FULL.into();
        // Behind its id and length: the sizes, where they need room.
        let mut numbers = Fields(self.extra.get(4..).unwrap_or_default().to_vec());
        if far {
            numbers.u64(start);
        }
        let numbers = numbers.0;
        let zip64 = !numbers.is_empty();
        let mut entry = Fields(ENTRY.to_vec());
        let version = if zip64 { VERSION_ZIP64 } else { VERSION };
        // From the flags to the length of the name, both say the same.
        entry.u16(UNIX | version).u16(version).bytes(&self.fixed[6..28]);
        let length = u16::try_from(numbers.len()).unwrap_or(u16::MAX);
        let mode: u32 = if executable { 0o100_755 } else { 0o100_644 };
        entry.u16(if zip64 { length + 4 } else { 0 }).u16(0).u16(0).u16(0).u32(mode << 16);
        entry.u32(u32::try_from(start).unwrap_or(FULL)).bytes(&self.name);
        if zip64 {
            entry.u16(ZIP64_EXTRA).u16(length).bytes(&numbers);
        }
        entry.0
    }
}

/// Numbers as ZIP has them.
struct Fields(Vec<u8>);

impl Fields {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use ::zip::ZipArchive;
    use tempfile::tempfile;

    use super::*;

    /// Passes over so many bytes of the file: a hole takes no disk.
    fn pass_over(zip: &mut ZipFile<'_>, bytes: u64) {
        zip.at += bytes;
        zip.file.seek(SeekFrom::Start(zip.at)).unwrap();
    }

    #[test]
    fn what_32_bits_do_not_count_is_read_back() {
        const LARGE: u64 = 5 << 30;
        let file = tempfile().unwrap();
        let limits = Limits { max_size: u64::MAX, ..Limits::default() };
        let mut zip = ZipFile::new(&file, &limits).unwrap();
        let head = |name: &str, size| Head { name: name.to_owned(), executable: false, deflated: false, size };
        let sums = Sums { crc32: crc(b"near"), packed: 4 };
        zip.begin_file(head("near", 4), Some(sums)).unwrap();
        zip.append(b"near").unwrap();
        zip.begin_file(head("large", LARGE), None).unwrap();
        pass_over(&mut zip, LARGE);
        zip.end_file(0x1234_5678).unwrap();
        let sums = Sums { crc32: crc(b"far"), packed: 3 };
        zip.begin_file(head("far", 3), Some(sums)).unwrap();
        zip.append(b"far").unwrap();
        let size = zip.write_directory().unwrap();
        assert_eq!(file.metadata().unwrap().len(), size);

        let mut archive = ZipArchive::new(&file).unwrap();
        assert_eq!(archive.len(), 3);
        let large = archive.by_index_raw(1).unwrap();
        assert_eq!((large.size(), large.compressed_size(), large.crc32()), (LARGE, LARGE, 0x1234_5678));
        drop(large);
        for name in ["near", "far"] {
            let mut content = String::new();
            archive.by_name(name).unwrap().read_to_string(&mut content).unwrap();
            assert_eq!(content, name);
        }
        let mut header = [0; 30 + 5 + 20];
        let mut start: &File = &file;
        start.seek(SeekFrom::Start(30 + 4 + 4)).unwrap();
        start.read_exact(&mut header).unwrap();
        assert_eq!(header[18..26], [0xff; 8], "the sizes of the local header");
        assert_eq!(header[35..], *[&[1, 0, 16, 0][..], &LARGE.to_le_bytes(), &LARGE.to_le_bytes()].concat());
    }

    fn crc(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }
}
