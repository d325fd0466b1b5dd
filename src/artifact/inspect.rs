//! Whether Konigle could run an artifact: looked at before it is sent, since a deploy that fails there has already
//! used up an attempt.
//!
//! Only the directory of the ZIP and `bentocloud.toml` are read, in constant memory. Nothing is extracted, so a ZIP
//! bomb has nothing to explode in; its declared size is refused for Konigle's sake.
//!
//! Absent: what the server alone can know. `[app]`, `[deploy]` and the commands are not looked at.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;
use zip::read::read_zipfile_from_stream_with_options;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipReadOptions};

use super::Limits;
use super::directory::{Directory, DirectoryError, Entry};

const DOCKERFILE: &str = "Dockerfile";
const MANIFEST: &str = "bentocloud.toml";
/// The largest `bentocloud.toml`, in bytes.
const MANIFEST_MAX: u64 = 1 << 20;
/// How many bytes of the file are read for it: it does not deflate to more than it is, beside its local header.
const MANIFEST_REACH: u64 = MANIFEST_MAX + (1 << 18);
/// Linux refuses longer paths.
const NAME_MAX: usize = 4096;
/// Names are kept to find doubles; so many bytes of them in all.
const NAMES_MAX: usize = 32 << 20;

/// Why a file did not pass.
#[derive(Debug, Error)]
pub(super) enum InspectError {
    /// The content is at fault; the text says what to do.
    #[error("{0}")]
    Rejected(String),
    /// The file could not be read from the disk.
    #[error(transparent)]
    Disk(io::Error),
}

impl From<DirectoryError> for InspectError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Malformed(reason) => Self::Rejected(format!("it is a damaged ZIP file: {reason}")),
            DirectoryError::Disk(error) => Self::Disk(error),
        }
    }
}

impl From<io::Error> for InspectError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

fn rejected<T>(reason: impl Into<String>) -> Result<T, InspectError> {
    Err(InspectError::Rejected(reason.into()))
}

/// Looks at a whole file. Blocks: call it where blocking is allowed.
pub(super) fn inspect<R: Read + Seek>(mut reader: R, limits: &Limits) -> Result<(), InspectError> {
    refuse_other_formats(&mut reader)?;
    let manifest = read_directory(&mut reader, limits)?;
    let text = read_manifest(&mut reader, &manifest)?;
    check_manifest(&text)
}

fn refuse_other_formats<R: Read + Seek>(reader: &mut R) -> Result<(), InspectError> {
    let mut head = Vec::new();
    reader.seek(SeekFrom::Start(0))?;
    reader.take(265).read_to_end(&mut head)?;
    let format = match head.as_slice() {
        [] => "an empty file",
        [0x1f, 0x8b, ..] => "a gzip file (.tar.gz?)",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "an xz file (.tar.xz?)",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z file",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd file (.tar.zst?)",
        _ if head.get(257..262) == Some(b"ustar") => "a tar file",
        _ if super::http::looks_like_html(&head) => "an HTML page",
        _ => return Ok(()),
    };
    rejected(format!("it is {format}; Konigle takes ZIP files only"))
}

/// Checks every entry and gives back the one of the root's `bentocloud.toml`.
fn read_directory<R: Read + Seek>(reader: R, limits: &Limits) -> Result<Entry, InspectError> {
    let mut directory = match Directory::open(reader) {
        Err(DirectoryError::Malformed(reason)) => return rejected(format!("it is not a ZIP file: {reason}")),
        other => other?,
    };
    let mut contents = Contents::default();
    if directory.declared_entries() > limits.max_entries {
        return too_many_entries(limits);
    }
    while let Some(entry) = directory.next_entry()? {
        contents.add(entry, limits)?;
    }
    contents.judge()
}

#[derive(Default)]
struct Contents {
    names: HashSet<String>,
    name_bytes: usize,
    entries: u64,
    unpacked: u64,
    dockerfile: bool,
    manifest: Option<Entry>,
    /// Top-level folders that hold `Dockerfile` or `bentocloud.toml`.
    folders: BTreeMap<String, Found>,
}

#[derive(Default)]
struct Found {
    dockerfile: bool,
    manifest: bool,
}

impl Contents {
    fn add(&mut self, entry: Entry, limits: &Limits) -> Result<(), InspectError> {
        self.entries += 1;
        if self.entries > limits.max_entries {
            return too_many_entries(limits);
        }
        self.unpacked = self.unpacked.saturating_add(entry.unpacked_size);
        if self.unpacked > limits.max_unpacked {
            return rejected(format!(
                "it unpacks to more than {} bytes, which is this operator's limit; leave out what the app does not need",
                limits.max_unpacked
            ));
        }
        let name = clean_name(&entry.name)?;
        if entry.encrypted {
            return rejected(format!("{} is protected with a password; make the ZIP without one", shown(&name)));
        }
        if entry.name.ends_with(b"/") {
            // A folder may be listed twice: that hides nothing.
            return Ok(());
        }
        self.name_bytes += name.len();
        if self.name_bytes > NAMES_MAX {
            return rejected("the names of its entries are too long in all; leave out what the app does not need");
        }
        if !self.names.insert(name.clone()) {
            return rejected(format!("{} is in it twice; make the ZIP anew, from one folder", shown(&name)));
        }
        match name.split_once('/') {
            None if name == DOCKERFILE => self.dockerfile = true,
            None if name == MANIFEST => self.manifest = Some(entry),
            Some((folder, DOCKERFILE)) => self.folders.entry(folder.to_owned()).or_default().dockerfile = true,
            Some((folder, MANIFEST)) => self.folders.entry(folder.to_owned()).or_default().manifest = true,
            _ => {}
        }
        Ok(())
    }

    /// The root's manifest, if all that must be at the root is there.
    fn judge(self) -> Result<Entry, InspectError> {
        match (self.dockerfile, self.manifest) {
            (true, Some(manifest)) => return Ok(manifest),
            (true, None) => return rejected(format!("`{MANIFEST}` is missing at its root")),
            (false, Some(_)) => return rejected(format!("`{DOCKERFILE}` is missing at its root")),
            (false, None) => {}
        }
        let mut complete = self.folders.iter().filter(|(_, found)| found.dockerfile && found.manifest);
        match (complete.next(), complete.next()) {
            (Some((folder, _)), None) => rejected(format!(
                "the files are in its folder {}; zip the folder's contents, not the folder",
                shown(&format!("{folder}/"))
            )),
            _ => rejected(format!("`{DOCKERFILE}` and `{MANIFEST}` are missing at its root")),
        }
    }
}

fn too_many_entries<T>(limits: &Limits) -> Result<T, InspectError> {
    rejected(format!(
        "it has more than {} entries, which is this operator's limit; leave out what the app does not need",
        limits.max_entries
    ))
}

/// The name without `.` and empty parts. Names that some program would write outside its folder, or that programs read
/// differently, are refused.
fn clean_name(raw: &[u8]) -> Result<String, InspectError> {
    if raw.len() > NAME_MAX {
        return rejected(format!("the name of one of its entries is longer than {NAME_MAX} bytes"));
    }
    let Ok(name) = std::str::from_utf8(raw) else {
        let name = String::from_utf8_lossy(raw);
        return rejected(format!("the name {} is not UTF-8; rename the file", shown(&name)));
    };
    let has_drive = matches!(raw, [letter, b':', ..] if letter.is_ascii_alphabetic());
    let reason = if name.contains('\0') {
        "holds a NUL"
    } else if name.starts_with(['/', '\\']) || has_drive {
        "is an absolute path"
    } else if name.split(['/', '\\']).any(|part| part == "..") {
        "leads out of the folder"
    } else if name.is_empty() {
        "is empty"
    } else {
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        return Ok(parts.join("/"));
    };
    rejected(format!("the name {} of one of its entries {reason}; make the ZIP with relative paths", shown(name)))
}

/// A name that a stranger chose, fit for a message: short, without control characters.
fn shown(name: &str) -> String {
    const MAX: usize = 80;
    let mut short: String = name.chars().take(MAX).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    format!("`{}`", short.escape_debug())
}

/// The text of the manifest. Its declared size is a claim, so the reader stops one byte past the limit anyway.
fn read_manifest<R: Read + Seek>(mut reader: R, entry: &Entry) -> Result<String, InspectError> {
    if entry.symlink {
        return rejected(format!("`{MANIFEST}` is a symbolic link; put the file itself into the ZIP"));
    }
    if entry.unpacked_size > MANIFEST_MAX {
        return rejected(format!("`{MANIFEST}` is larger than 1 MiB"));
    }
    reader.seek(SeekFrom::Start(entry.header_start))?;
    let mut reader = reader.take(MANIFEST_REACH);
    // The sizes and the checksum of the directory count: a streamed entry has none in its local header.
    let options = ZipReadOptions::default()
        .override_compressed_size(entry.compressed_size)
        .override_uncompressed_size(entry.unpacked_size)
        .override_crc(entry.crc32);
    let mut file = match read_zipfile_from_stream_with_options(&mut reader, options) {
        Ok(Some(file)) => file,
        Ok(None) => return rejected(format!("`{MANIFEST}` cannot be read: its place in the ZIP is wrong")),
        Err(error) => return Err(manifest_error(error)),
    };
    let method = match entry.method {
        0 => CompressionMethod::Stored,
        8 => CompressionMethod::Deflated,
        _ => return Err(unsupported_method()),
    };
    let is_same = file.name_raw() == entry.name && file.compression() == method;
    if !is_same || file.compressed_size() != entry.compressed_size {
        return rejected(format!(
            "`{MANIFEST}` is another file inside the ZIP than in its directory; make the ZIP anew"
        ));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MANIFEST_MAX + 1).read_to_end(&mut bytes).map_err(|error| manifest_error(error.into()))?;
    if bytes.len() as u64 != entry.unpacked_size {
        return rejected(format!("`{MANIFEST}` has another size than the ZIP says"));
    }
    String::from_utf8(bytes).or_else(|_| rejected(format!("`{MANIFEST}` is not UTF-8")))
}

fn manifest_error(error: ZipError) -> InspectError {
    match error {
        // Only the operating system's own errors are about the disk; the rest is what the reader found in the bytes.
        ZipError::Io(error) if error.raw_os_error().is_some() => InspectError::Disk(error),
        ZipError::CompressionMethodNotSupported(_) | ZipError::UnsupportedArchive(_) => unsupported_method(),
        _ => InspectError::Rejected(format!("`{MANIFEST}` is damaged; make the ZIP anew")),
    }
}

fn unsupported_method() -> InspectError {
    InspectError::Rejected(format!(
        "`{MANIFEST}` is compressed or protected in a way that is not supported; make the ZIP with deflate"
    ))
}

/// What the official client asks of the manifest as well: it parses, and something is to be run.
fn check_manifest(text: &str) -> Result<(), InspectError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The message alone: the error's own text quotes the file, which may hold anything.
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        InspectError::Rejected(format!("`{MANIFEST}` is not valid TOML: line {line}: {}", shown_text(error.message())))
    })?;
    let Some(processes) = table.get("processes") else {
        return rejected(format!("`{MANIFEST}` has no `[processes.NAME]`: nothing would run"));
    };
    match processes.as_table() {
        Some(processes) if processes.values().any(toml::Value::is_table) => Ok(()),
        _ => rejected(format!("`processes` in `{MANIFEST}` needs at least one `[processes.NAME]`")),
    }
}

fn shown_text(message: &str) -> String {
    message.chars().filter(|character| !character.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    const GOOD: &str = "[app]\nname = \"shop\"\n[processes.web]\ncommand = \"serve\"\n";

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        archive_with(SimpleFileOptions::default(), files)
    }

    fn archive_with(options: SimpleFileOptions, files: &[(&str, &str)]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            if let Some(folder) = name.strip_suffix('/') {
                writer.add_directory(folder, options).unwrap();
            } else {
                writer.start_file(*name, options).unwrap();
                writer.write_all(content.as_bytes()).unwrap();
            }
        }
        writer.finish().unwrap().into_inner()
    }

    fn good() -> Vec<u8> {
        archive(&[("Dockerfile", "FROM scratch"), ("bentocloud.toml", GOOD), ("src/", ""), ("src/app.py", "")])
    }

    /// What is wrong with `bytes`; empty if nothing is.
    fn reason(bytes: &[u8], limits: &Limits) -> String {
        match inspect(Cursor::new(bytes), limits) {
            Ok(()) => String::new(),
            Err(InspectError::Rejected(reason)) => reason,
            Err(InspectError::Disk(error)) => panic!("the disk is not at fault: {error}"),
        }
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: &str, because: &str) {
        let reason = reason(bytes, &Limits::default());
        let matches = if expected.is_empty() { reason.is_empty() } else { reason.contains(expected) };
        assert!(matches, "{because}: wanted {expected:?}, got {reason:?}");
    }

    /// Writes over every place where `old` stands: the writer of the zip crate makes no bad archives by itself.
    fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
        assert_eq!(old.len(), new.len());
        let mut bytes = bytes.to_vec();
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(old.len()).position(|window| window == old) {
            bytes[at + found..at + found + old.len()].copy_from_slice(new);
            at += found + old.len();
        }
        assert!(at > 0, "nothing to replace");
        bytes
    }

    /// Where the directory's entry for `name` begins.
    fn entry_of(bytes: &[u8], name: &str) -> usize {
        bytes
            .windows(46 + name.len())
            .rposition(|window| window.starts_with(b"PK\x01\x02") && window[46..] == *name.as_bytes())
            .unwrap()
    }

    fn with_u32(mut bytes: Vec<u8>, at: usize, value: u32) -> Vec<u8> {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    #[test]
    fn the_manifest_must_be_compressed_as_the_directory_says() {
        for (method, expected) in [(8_u16, ""), (0, "another file inside the ZIP"), (22866, "not supported")] {
            let mut bytes = good();
            let at = entry_of(&bytes, MANIFEST) + 10;
            bytes[at..at + 2].copy_from_slice(&method.to_le_bytes());
            check(&bytes, expected, "other readers go by the directory");
        }
    }

    #[test]
    fn a_comment_that_is_cut_short_is_refused() {
        let mut writer = ZipWriter::new_append(Cursor::new(good())).unwrap();
        writer.set_comment("of the build").unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        check(&bytes, "", "a comment does no harm");
        check(&bytes[..bytes.len() - 1], "in the middle of its comment", "readers do not agree on it");
    }

    #[test]
    fn files_must_be_at_the_root_of_a_zip() {
        let dockerfile = ("Dockerfile", "FROM scratch");
        let manifest = ("bentocloud.toml", GOOD);
        check(&good(), "", "all is there");
        check(&archive(&[("./Dockerfile", ""), ("./bentocloud.toml", GOOD)]), "", "`./` is the root");
        check(&archive(&[manifest]), "`Dockerfile` is missing at its root", "no Dockerfile");
        check(&archive(&[dockerfile]), "`bentocloud.toml` is missing at its root", "no manifest");
        check(&archive(&[("Dockerfile/", ""), manifest]), "`Dockerfile` is missing", "a folder is no file");
        check(&archive(&[]), "are missing at its root", "an empty archive");
        check(
            &archive(&[("shop/Dockerfile", ""), ("shop/bentocloud.toml", GOOD), ("__MACOSX/x", "")]),
            "in its folder `shop/`; zip the folder's contents",
            "a folder was zipped",
        );
        check(
            &archive(&[
                ("a/Dockerfile", ""),
                ("a/bentocloud.toml", ""),
                ("b/Dockerfile", ""),
                ("b/bentocloud.toml", ""),
            ]),
            "are missing at its root",
            "two folders would do",
        );
        check(&archive(&[("a/b/Dockerfile", ""), ("a/b/bentocloud.toml", "")]), "are missing at its root", "too deep");
    }

    #[test]
    fn other_formats_are_named() {
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (bytes, expected) in [
            (&b""[..], "an empty file"),
            (&b"\x1f\x8b\x08\0"[..], "gzip"),
            (&tar, "a tar file"),
            (&b"\n <!DOCTYPE html><html>"[..], "an HTML page"),
            (&b"hello"[..], "not a ZIP file"),
            (&b"PK\x03\x04"[..], "cut short"),
        ] {
            check(bytes, expected, "it is no ZIP");
        }
        let whole = good();
        check(&whole[..whole.len() - 30], "cut short", "the end is missing");
    }

    #[test]
    fn a_prefix_and_a_comment_do_no_harm() {
        let mut prefixed = b"#!/usr/bin/env python3\n".to_vec();
        prefixed.extend(good());
        check(&prefixed, "", "offsets are shifted alike");
        let mut writer = ZipWriter::new_append(Cursor::new(good())).unwrap();
        writer.set_comment("3f2a9c1d0b").unwrap();
        check(&writer.finish().unwrap().into_inner(), "", "git archive writes the commit there");
    }

    #[test]
    fn the_manifest_must_name_something_to_run() {
        for (text, expected) in [
            (GOOD, ""),
            ("\u{feff}[processes.web]\n", ""),
            ("", "nothing would run"),
            ("[app]\n", "nothing would run"),
            ("processes = 1\n", "needs at least one"),
            ("[processes]\n", "needs at least one"),
            ("[processes]\nweb = \"serve\"\n", "needs at least one"),
            ("[app]\nname = \n", "line 2"),
            ("[processes.web]\n[processes.web]\n", "not valid TOML"),
        ] {
            check(&archive(&[("Dockerfile", ""), ("bentocloud.toml", text)]), expected, text);
        }
        let quoted = archive(&[("Dockerfile", ""), ("bentocloud.toml", "password = hunter2\n")]);
        assert!(!reason(&quoted, &Limits::default()).contains("hunter2"), "the file is not quoted");
        let deep = format!("a = {}", "[".repeat(500_000));
        check(&archive(&[("Dockerfile", ""), ("bentocloud.toml", &deep)]), "not valid TOML", "deep nesting");
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let stored = archive_with(stored, &[("Dockerfile", ""), ("bentocloud.toml", "# xx")]);
        check(&replaced(&stored, b"# xx", b"# yy"), "is damaged", "the checksum is wrong");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (name, expected) in [
            (&b"/etc/passwdx"[..], "is an absolute path"),
            (b"\\etc\\passwdx", "is an absolute path"),
            (b"C:\\temp\\xxxx", "is an absolute path"),
            (b"../../passwd", "leads out of the folder"),
            (b"a/../../pass", "leads out of the folder"),
            (b"a\\..\\..\\pass", "leads out of the folder"),
            (b"a/b/c/d/e/..", "leads out of the folder"),
            (b"abcdef\0ghijk", "holds a NUL"),
            (b"abc\xff\xfe/defg", "is not UTF-8"),
            (b"abc/..def/..g", ""),
            (b"a b/\xc3\xa4.py", ""),
        ] {
            let placeholder = "x".repeat(name.len());
            let bytes = archive(&[("Dockerfile", ""), ("bentocloud.toml", GOOD), (&placeholder, "")]);
            let bytes = replaced(&bytes, placeholder.as_bytes(), name);
            check(&bytes, expected, &String::from_utf8_lossy(name));
        }
        let control = replaced(&archive(&[("placeholder_", "")]), b"placeholder_", b"/\x1b[31mabcdef");
        assert!(!reason(&control, &Limits::default()).contains('\x1b'), "no control characters in messages");
    }

    #[test]
    fn doubles_and_passwords_are_refused() {
        let double = archive(&[("Dockerfile", ""), ("bentocloud.toml", GOOD), ("bentocloud.tomm", "")]);
        check(&replaced(&double, b"bentocloud.tomm", b"bentocloud.toml"), "`bentocloud.toml` is in it twice", "double");
        let mut encrypted = good();
        let at = entry_of(&encrypted, "src/app.py");
        encrypted[at + 8] |= 1;
        check(&encrypted, "protected with a password", "encrypted");
        let mut symlink = good();
        let at = entry_of(&symlink, "bentocloud.toml");
        symlink[at + 5] = 3;
        check(&with_u32(symlink, at + 38, 0o120_777 << 16), "is a symbolic link", "a link has no content of its own");
    }

    #[test]
    fn the_declared_size_and_count_are_limited() {
        let limits = Limits { max_entries: 4, max_unpacked: 1000, ..Limits::default() };
        assert_eq!(reason(&good(), &limits), "");
        let five = archive(&[("Dockerfile", ""), ("bentocloud.toml", GOOD), ("a", ""), ("b", ""), ("c", "")]);
        assert!(reason(&five, &limits).contains("more than 4 entries"));
        let huge = archive(&[("Dockerfile", ""), ("bentocloud.toml", GOOD), ("zeros", &"0".repeat(1000))]);
        assert!(reason(&huge, &limits).contains("more than 1000 bytes"));
        let at = entry_of(&good(), "src/app.py");
        assert!(reason(&with_u32(good(), at + 24, u32::MAX - 1), &limits).contains("more than 1000 bytes"));
    }

    #[test]
    fn sizes_that_lie_are_found_out() {
        let manifest = format!("{GOOD}# {}", "x".repeat(2 << 20));
        let bomb = archive(&[("Dockerfile", ""), ("bentocloud.toml", &manifest)]);
        check(&bomb, "larger than 1 MiB", "it says so");
        let at = entry_of(&bomb, "bentocloud.toml");
        check(&with_u32(bomb, at + 24, 100), "bentocloud.toml` is damaged", "it says less than it is");
        let at = entry_of(&good(), "bentocloud.toml");
        check(&with_u32(good(), at + 24, 5000), "bentocloud.toml` ", "it says more than it is");
        check(&with_u32(good(), at + 20, 3), "is another file inside", "less compressed data than there is");
        check(&with_u32(good(), at + 42, 0), "is another file inside", "it points to another entry");
        check(&with_u32(good(), at + 42, 1), "bentocloud.toml` ", "it points to no entry");
        check(&with_u32(good(), at + 42, u32::MAX - 1), "bentocloud.toml` ", "it points behind the file");
    }

    #[test]
    fn a_count_that_lies_hides_nothing() {
        let mut bytes = good();
        let end = bytes.len() - 22;
        for at in [end + 8, end + 10] {
            bytes[at] = 2;
        }
        check(&bytes, "another length than it says", "entries beyond the count are read");
        let mut bytes = good();
        for at in [end + 8, end + 10] {
            bytes[at..at + 2].copy_from_slice(&60_000u16.to_le_bytes());
        }
        check(&bytes, "another length than it says", "entries are missing");
    }

    #[test]
    fn zip64_is_read() {
        let options = SimpleFileOptions::default().large_file(true);
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in [("Dockerfile", ""), ("bentocloud.toml", GOOD)] {
            writer.start_file(name, options).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        // More entries than 16 bits count make the writer add the ZIP64 end records.
        for number in 0..66_000 {
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            writer.start_file(format!("{number}"), options).unwrap();
        }
        let bytes = writer.finish().unwrap().into_inner();
        check(&bytes, "", "66,002 entries");
        let limits = Limits { max_entries: 66_001, ..Limits::default() };
        assert!(reason(&bytes, &limits).contains("more than 66001 entries"));
    }

    #[test]
    fn a_streamed_manifest_is_read() {
        // Its local header holds no sizes: they follow the data, as when an archive is written to a pipe.
        let mut writer = ZipWriter::new_stream(Vec::new());
        for (name, content) in [("Dockerfile", "FROM scratch"), ("bentocloud.toml", GOOD)] {
            writer.start_file(name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        check(&writer.finish().unwrap().into_inner(), "", "streamed");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = reason(&bytes, &Limits::default());
        }

        #[test]
        fn mutated_archives_are_judged(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            cut in any::<prop::sample::Index>(),
            do_cut in any::<bool>(),
        ) {
            let mut bytes = good();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if do_cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let _ = reason(&bytes, &Limits::default());
        }
    }
}
