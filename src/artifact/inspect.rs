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
use zip::ZipReadOptions;
use zip::read::read_zipfile_from_stream_with_options;
use zip::result::ZipError;

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
    if file.name_raw() != entry.name {
        return rejected(format!("`{MANIFEST}` has another name inside the ZIP than in its directory"));
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
        ZipError::CompressionMethodNotSupported(_) | ZipError::UnsupportedArchive(_) => {
            InspectError::Rejected(format!(
                "`{MANIFEST}` is compressed or protected in a way that is not supported; make the ZIP with deflate"
            ))
        }
        _ => InspectError::Rejected(format!("`{MANIFEST}` is damaged; make the ZIP anew")),
    }
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
