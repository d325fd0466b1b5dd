//! Whether Konigle could run an artifact: looked at before it is sent, since a deploy that fails there has already
//! used up an attempt.
//!
//! A ZIP is sent as it is, so all of it is read, in constant memory: its directory, and what the directory stands for.
//! Nothing is extracted, so a ZIP bomb has nothing to explode in; it is refused for Konigle's sake.

use std::io::{self, Read, Seek};

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::contents::{Keep, Place, compare};
use super::directory::{Directory, DirectoryError, Entry};
use super::format::Format;
use super::limits::{Budget, too_many_entries};
use super::names::{Node, Tree, clean_name, shown};
use super::root::{MANIFEST, Root, check_manifest};

// Kinds of files in a Unix mode.
const UNSAID: u32 = 0;
const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// Why a file did not pass.
#[derive(Debug, Error)]
pub(super) enum InspectError {
    /// The content is at fault; the text says what to do.
    #[error("{0}")]
    Rejected(String),
    /// The file could not be read from the disk, or what is made of it not be written there.
    #[error(transparent)]
    Disk(io::Error),
    /// The caller's token was cancelled.
    #[error("stopped")]
    Stopped,
}

impl From<DirectoryError> for InspectError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Malformed(reason) => {
                Self::Rejected(format!("it is a damaged ZIP file: {reason}; publish it anew"))
            }
            DirectoryError::Disk(error) => Self::Disk(error),
        }
    }
}

impl From<io::Error> for InspectError {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

pub(super) fn rejected<T>(reason: impl Into<String>) -> Result<T, InspectError> {
    Err(InspectError::Rejected(reason.into()))
}

/// Looks at a whole ZIP. Blocks, for as long as unpacking it takes: call it where blocking is allowed.
pub(super) fn inspect<R: Read + Seek>(
    mut reader: R,
    limits: &Limits,
    stop: &CancellationToken,
) -> Result<(), InspectError> {
    let other = match Format::of(&mut reader)? {
        Format::Zip => None,
        Format::Gzip => Some("a gzip file (.tar.gz?)"),
        Format::Tar => Some("a tar file"),
    };
    if let Some(other) = other {
        return rejected(format!("it is {other}, where a ZIP file is needed"));
    }
    let mut listing = read_directory(&mut reader, limits)?;
    let place = (listing.places, listing.start);
    let kept = compare(&mut reader, place, (limits, &mut listing.budget), stop)?;
    for name in kept.links.names() {
        kept.links.resolve(name, &listing.tree)?;
    }
    check_manifest(&kept.manifest)
}

/// What the directory says.
struct Listing<'a> {
    tree: Tree,
    root: Root,
    places: Vec<Place>,
    budget: Budget<'a>,
    /// Where the directory begins.
    start: u64,
}

/// Checks every entry by what the directory says of it.
fn read_directory<R: Read + Seek>(mut reader: R, limits: &Limits) -> Result<Listing<'_>, InspectError> {
    let packed = reader.seek(io::SeekFrom::End(0))?;
    let mut directory = match Directory::open(reader) {
        Err(DirectoryError::Malformed(reason)) => {
            return rejected(format!("it is not a ZIP file: {reason}; publish the app as a ZIP file or as a .tar.gz"));
        }
        other => other?,
    };
    if directory.declared_entries() > limits.max_entries {
        return too_many_entries(limits.max_entries);
    }
    let mut listing = Listing {
        tree: Tree::new(limits),
        root: Root::default(),
        places: Vec::new(),
        budget: Budget::new(limits, packed),
        start: directory.start(),
    };
    while let Some(entry) = directory.next_entry()? {
        listing.budget.entry()?;
        listing.budget.unpack(entry.unpacked_size)?;
        listing.add(&entry, limits)?;
    }
    let apps = || listing.root.apps("", &listing.tree);
    listing.root.judge("", apps, |_| "zip that folder's contents, not what is around it".to_owned())?;
    Ok(listing)
}

impl Listing<'_> {
    fn add(&mut self, entry: &Entry, limits: &Limits) -> Result<(), InspectError> {
        let name = clean_name(&entry.name, limits)?;
        if entry.encrypted {
            return rejected(format!("{} is protected with a password; make the ZIP without one", shown(&name)));
        }
        let is_folder = entry.name.ends_with(b"/");
        let (node, keep) = match entry.kind {
            UNSAID | REGULAR | FOLDER if is_folder => (Node::Folder, Keep::Nothing),
            SYMLINK if name == MANIFEST => {
                return rejected(format!("`{MANIFEST}` is a symbolic link; put the file itself into the ZIP"));
            }
            SYMLINK if !is_folder => (Node::Link, Keep::LinkTarget),
            UNSAID | REGULAR if name == MANIFEST => (Node::File(entry.unpacked_size), Keep::Manifest),
            UNSAID | REGULAR => (Node::File(entry.unpacked_size), Keep::Nothing),
            FOLDER | SYMLINK => {
                return rejected(format!("{} is a file and a folder at once; make the ZIP anew", shown(&name)));
            }
            _ => return rejected(format!("{} is a device, a pipe or a socket; leave it out", shown(&name))),
        };
        self.places.push(Place::of(entry, keep));
        if node == Node::Folder {
            if entry.unpacked_size > 0 {
                return rejected(format!("{} is a folder, and has content; make the ZIP anew", shown(&name)));
            }
            return if name.is_empty() { Ok(()) } else { self.tree.add(&name, node) };
        }
        if name.is_empty() {
            return rejected("an entry of it has an empty name; make the ZIP anew");
        }
        self.tree.add(&name, node)?;
        self.root.note(&name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

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
        match inspect(Cursor::new(bytes), limits, &CancellationToken::new()) {
            Ok(()) => String::new(),
            Err(InspectError::Rejected(reason)) => reason,
            Err(error) => panic!("the bytes are at fault, not {error}"),
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

    /// With these sizes in the local header as well as in the directory.
    fn with_sizes(mut bytes: Vec<u8>, name: &str, compressed: Option<u32>, unpacked: u32) -> Vec<u8> {
        let (header, entry) = (header_of(&bytes, name), entry_of(&bytes, name));
        if let Some(compressed) = compressed {
            bytes = with_u32(with_u32(bytes, header + 18, compressed), entry + 20, compressed);
        }
        with_u32(with_u32(bytes, header + 22, unpacked), entry + 24, unpacked)
    }

    fn with_u32(mut bytes: Vec<u8>, at: usize, value: u32) -> Vec<u8> {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bytes
    }

    /// Where the local header for `name` begins.
    fn header_of(bytes: &[u8], name: &str) -> usize {
        bytes
            .windows(30 + name.len())
            .position(|window| window.starts_with(b"PK\x03\x04") && window[30..] == *name.as_bytes())
            .unwrap()
    }

    #[test]
    fn the_manifest_must_be_compressed_as_the_directory_says() {
        let (moved, other) = ("another file inside the ZIP", "compressed in a way that is not supported");
        for (method, expected, agreed) in [(8_u16, "", ""), (0, moved, "is damaged"), (12, moved, other)] {
            let mut bytes = good();
            let at = entry_of(&bytes, MANIFEST) + 10;
            bytes[at..at + 2].copy_from_slice(&method.to_le_bytes());
            check(&bytes, expected, "other readers go by the directory");
            let at = header_of(&bytes, MANIFEST) + 8;
            bytes[at..at + 2].copy_from_slice(&method.to_le_bytes());
            check(&bytes, agreed, "both say the same");
        }
    }

    #[test]
    fn a_bomb_inside_is_refused_where_a_builder_would_unpack_it() {
        let packed = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(65 << 20);
        header.set_cksum();
        let bomb = packed(&[&header.as_bytes()[..], &vec![0; 65 << 20]].concat());
        let wanted = "with what is packed inside of `data.tar.gz`, it unpacks to more than 100 times its size";
        for (content, expected) in [(bomb, wanted), (packed(&vec![0; 65 << 20]), "")] {
            for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
                let options = SimpleFileOptions::default().compression_method(method);
                let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
                for (name, bytes) in
                    [("Dockerfile", &b"FROM scratch"[..]), (MANIFEST, GOOD.as_bytes()), ("data.tar.gz", &content)]
                {
                    writer.start_file(name, options).unwrap();
                    writer.write_all(bytes).unwrap();
                }
                check(&writer.finish().unwrap().into_inner(), expected, "`ADD` would unpack it");
            }
        }
    }

    /// With this comment at its end.
    fn with_comment(mut bytes: Vec<u8>, comment: &[u8]) -> Vec<u8> {
        let length = bytes.len() - 2;
        bytes[length..].copy_from_slice(&u16::try_from(comment.len()).unwrap().to_le_bytes());
        bytes.extend(comment);
        bytes
    }

    #[test]
    fn a_zip_ends_in_one_way() {
        let bytes = with_comment(good(), b"of the build");
        check(&bytes, "", "a comment does no harm");
        check(&bytes[..bytes.len() - 1], "in the middle of its comment", "some readers pass over what is missing");
        for behind in [&b"\0"[..], b"PK\x05", b"\n\n"] {
            check(&[&bytes, behind].concat(), "something follows its end", "some readers look for an end before it");
        }
        // The comment of the first archive reaches to the end, the second one's to the byte before it.
        let (first, second) = (spliced(&archive(&[("Dockerfile", "FROM other")]), 0, b"#!"), good());
        let both = |behind: &[u8]| {
            let moved = spliced(&second, 0, &first);
            with_comment(first.clone(), &[&moved[first.len()..], behind].concat())
        };
        check(&both(b"\0"), "something follows its end", "two archives, of which readers take either");
        check(&both(b""), "its comment is another end of it", "two archives, of which either ends with the file");
        let end = &second[second.len() - 22..];
        check(&with_comment(good(), end), "its comment is another end of it", "an end in a comment");
        check(&with_comment(good(), &[end, b"\0"].concat()), "something follows its end", "an end amid a comment");
        check(&with_comment(good(), b"PK\x05\x06"), "in the middle of its comment", "the beginning of an end");
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut writer = ZipWriter::new_append(Cursor::new(good())).unwrap();
        writer.start_file("inner.zip", stored).unwrap();
        writer.write_all(&second).unwrap();
        check(&writer.finish().unwrap().into_inner(), "", "the end of an archive in the archive");
    }

    /// With a ZIP64 end record and its locator, which say what the end record says.
    fn with_zip64(bytes: &[u8]) -> Vec<u8> {
        let (before, end) = bytes.split_at(bytes.len() - 22);
        let (count, size_and_start) = (u64::from(end[10]), &end[12..20]);
        let mut record = [&b"PK\x06\x06"[..], &44_u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8]].concat();
        record.extend([count, count].map(u64::to_le_bytes).concat());
        record.extend([&size_and_start[..4], &[0; 4], &size_and_start[4..], &[0; 4]].concat());
        let locator = [b"PK\x06\x07", &[0; 4][..], &(before.len() as u64).to_le_bytes(), &[1, 0, 0, 0]].concat();
        [before, &record, &locator, end].concat()
    }

    #[test]
    fn a_zip64_end_says_the_same_as_the_end() {
        const ELSEWHERE: &str = "its ZIP64 directory is not where it says";
        let bytes = with_zip64(&good());
        check(&bytes, "", "nothing needs it: Info-ZIP writes one where it reads from a pipe");
        let length = bytes.len();
        let (record, locator, end) = (length - 98, length - 42, length - 22);
        for field in [8..12, 12..16, 16..20, 8..20] {
            let mut full = bytes.clone();
            full[end + field.start..end + field.end].fill(0xff);
            check(&full, "", "a field that is full is the other record's");
        }
        for fields in [&[8, 10][..], &[12], &[16]] {
            let mut differs = bytes.clone();
            for at in fields {
                differs[end + at] ^= 1;
            }
            check(&differs, "two directories that differ", "some readers go by the one, some by the other");
        }
        for (at, expected, because) in [
            (record, ELSEWHERE, "no record in front of the locator"),
            (record + 4, ELSEWHERE, "a record of another length"),
            (record + 16, "split archive", "another part"),
            (record + 20, "split archive", "a directory in another part"),
            (record + 24, "split archive", "entries in another part"),
            (record + 32, "split archive", "another count than that of the part"),
            (record + 40, "two directories that differ", "another size"),
            (record + 48, "two directories that differ", "another start"),
            (locator + 4, "split archive", "a record in another part"),
            (locator + 8, ELSEWHERE, "a record elsewhere"),
            (locator + 15, ELSEWHERE, "a record far away"),
            (locator + 16, "split archive", "no part at all"),
        ] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            check(&wrong, expected, because);
        }
        let mut moved = bytes.clone();
        for at in [record + 48, end + 16] {
            moved[at] ^= 1;
        }
        check(&moved, ELSEWHERE, "both say another start");
        check(&[b"#!", &bytes[..]].concat(), ELSEWHERE, "readers look for the record in two places");
        check(&with_zip64(&spliced(&good(), 0, b"#!")), "", "what says so allows for what stands in front");
    }

    /// The entry that is last in `bytes` has a comment that is the end of a ZIP64 file: a directory of other files, which
    /// lie in the content of a file.
    #[test]
    fn a_directory_in_a_comment_is_no_second_one() {
        let hidden = archive(&[("Dockerfile", "FROM other"), ("bentocloud.toml", GOOD), ("..\\..\\x", "")]);
        let hidden = replaced(&hidden, b"..\\..\\x", b"../../x");
        let (content, directory) = hidden[..hidden.len() - 22].split_at(entry_of(&hidden, "Dockerfile"));
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut writer = ZipWriter::new_append(Cursor::new(good())).unwrap();
        writer.start_file("data.bin", stored).unwrap();
        writer.write_all(content).unwrap();
        let outer = writer.finish().unwrap().into_inner();
        let base = header_of(&outer, "data.bin") + 30 + "data.bin".len();
        check(&outer, "", "a file with parts of a ZIP is one like any other");

        // As if `data.bin` began the file, so that all that is said of `hidden` is moved along.
        let mut shadow = spliced(&hidden, 0, &vec![0; base]);
        shadow.drain(..base + content.len());
        let at = outer.len() - 22;
        let comment_start = u32::try_from(at).unwrap();
        let shadow = with_u32(shadow, directory.len() + 16, comment_start);
        let zip64 = with_zip64(&[&vec![0; at][..], &shadow].concat());
        let comment = &zip64[at..zip64.len() - 22];
        let mut attack = spliced(&outer, at, comment);
        let length = entry_of(&outer, "data.bin") + 32;
        attack[length..length + 2].copy_from_slice(&u16::try_from(comment.len()).unwrap().to_le_bytes());
        check(&attack, "two directories that differ", "Python takes the second one");
    }

    #[test]
    fn a_directory_in_front_of_the_directory_is_no_second_one() {
        let hidden = good();
        let hidden = &hidden[entry_of(&hidden, "Dockerfile")..hidden.len() - 22];
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut writer = ZipWriter::new_append(Cursor::new(good())).unwrap();
        writer.start_file("data.bin", stored).unwrap();
        writer.write_all(hidden).unwrap();
        let outer = writer.finish().unwrap().into_inner();
        check(&[&vec![b'#'; hidden.len() - 1], &outer[..]].concat(), "", "no directory is there");
        check(&[&vec![b'#'; hidden.len()], &outer[..]].concat(), "two directories, one where it says", "Go takes it");
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
            "stand; both are in its folder `shop`: zip that folder's contents, not what is around it",
            "a folder was zipped",
        );
        check(
            &archive(&[
                ("a/Dockerfile", ""),
                ("a/bentocloud.toml", ""),
                ("b/Dockerfile", ""),
                ("b/bentocloud.toml", ""),
            ]),
            "both are in its folder `a`, and in others: zip",
            "two folders would do",
        );
        check(&archive(&[("a/b/Dockerfile", ""), ("a/b/bentocloud.toml", "")]), "in its folder `a/b`: zip", "deeper");
        check(
            &archive(&[dockerfile, ("a/Dockerfile", ""), ("a/bentocloud.toml", "")]),
            "`bentocloud.toml` is missing at its root, where `Dockerfile`, `a/` stand; both are in its folder `a`: zip",
            "one of the two is at the root as well",
        );
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
        let deep = format!("a = {}", "[".repeat(65_000));
        check(&archive(&[("Dockerfile", ""), ("bentocloud.toml", &deep)]), "not valid TOML", "deep nesting");
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let stored = archive_with(stored, &[("Dockerfile", ""), ("bentocloud.toml", "# xx")]);
        check(&replaced(&stored, b"# xx", b"# yy"), "is damaged", "the checksum is wrong");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (name, expected) in [
            (&b"/etc/passwdx"[..], "is an absolute path; make the archive with relative paths"),
            (b"\\etc\\passwdx", "is an absolute path"),
            (b"C:\\temp\\xxxx", "is an absolute path"),
            (b"../../passwd", "leads out of the folder; make the archive with relative paths"),
            (b"a/../../pass", "leads out of the folder"),
            (b"a\\..\\..\\pass", "leads out of the folder"),
            (b"a/b/c/d/e/..", "leads out of the folder"),
            (b"abcdef\0ghijk", "holds a NUL; rename the file"),
            (b"abc\xff\xfe/defg", "is not UTF-8; rename the file"),
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

    /// With `put` at `at`, and what the directory says moved along.
    fn spliced(bytes: &[u8], at: usize, put: &[u8]) -> Vec<u8> {
        let end = bytes.len() - 22;
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (size, start) = (u32_at(end + 12), u32_at(end + 16));
        let length = u32::try_from(put.len()).unwrap();
        let mut moved = bytes.to_vec();
        for entry in 0..end {
            if bytes[entry..].starts_with(b"PK\x01\x02") && u32_at(entry + 42) as usize >= at {
                moved = with_u32(moved, entry + 42, u32_at(entry + 42) + length);
            }
        }
        let is_inside = at > start as usize;
        moved = if is_inside {
            with_u32(moved, end + 12, size + length)
        } else {
            with_u32(moved, end + 16, start + length)
        };
        moved.splice(at..at, put.iter().copied());
        moved
    }

    /// With an extra field at the header that begins at `at`, a local one or the directory's.
    fn with_extra(mut bytes: Vec<u8>, at: usize, id: u16, field: &[u8]) -> Vec<u8> {
        let (name, length) = if bytes[at..].starts_with(b"PK\x03\x04") { (30, 28) } else { (46, 30) };
        let name_length = usize::from(bytes[at + length - 2]);
        let extra = [&id.to_le_bytes()[..], &u16::try_from(field.len()).unwrap().to_le_bytes(), field].concat();
        let said = u16::from_le_bytes(bytes[at + length..at + length + 2].try_into().unwrap());
        let said = said + u16::try_from(extra.len()).unwrap();
        bytes[at + length..at + length + 2].copy_from_slice(&said.to_le_bytes());
        spliced(&bytes, at + name + name_length, &extra)
    }

    #[test]
    fn an_entry_has_one_name() {
        const OTHER: &str = "has another name in its Unicode Path field";
        let unicode_path = |version: u8, of: &str, name: &str| {
            let mut crc = flate2::Crc::new();
            crc.update(of.as_bytes());
            [&[version][..], &crc.sum().to_le_bytes(), name.as_bytes()].concat()
        };
        let bytes = good();
        let name = "src/app.py";
        for (what, field, expected) in [
            ("the same name", unicode_path(1, name, name), ""),
            ("a way out", unicode_path(1, name, "../../x"), OTHER),
            ("another file", unicode_path(1, name, "src/app.pz"), OTHER),
            ("no name", unicode_path(1, name, ""), OTHER),
            ("a longer name", unicode_path(1, name, "src/app.py\0"), OTHER),
            ("another checksum, which not every reader looks at", unicode_path(1, "x", "../../x"), OTHER),
            ("another checksum of the same name", unicode_path(1, "x", name), ""),
            ("another version", unicode_path(2, name, "../../x"), OTHER),
            ("a field that is cut short", vec![1, 0, 0, 0], "broken extra field"),
        ] {
            for (whose, at) in [("directory", entry_of(&bytes, name)), ("local header", header_of(&bytes, name))] {
                let one = with_extra(bytes.clone(), at, 0x7075, &field);
                check(&one, expected, &format!("{what}, in the {whose}"));
                // Behind the other field that is read, and as the second of two.
                let zip64 = with_extra(one.clone(), at, 1, &[0; 8]);
                check(&zip64, expected, &format!("{what}, in the {whose}, behind a ZIP64 field"));
                let two = with_extra(one, at, 0x7075, &unicode_path(1, name, name));
                check(&two, expected, &format!("{what}, in the {whose}, behind another one"));
            }
        }
        for at in [entry_of(&bytes, name), header_of(&bytes, name)] {
            check(&with_extra(bytes.clone(), at, 0x5455, b"\x01time"), "", "other fields do no harm");
            let two = with_extra(with_extra(bytes.clone(), at, 1, b""), at, 1, b"");
            check(&two, "two ZIP64 fields", "readers take the first one, or both");
        }
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
        check(&bomb, "larger than 64 KiB", "it says so");
        let at = entry_of(&bomb, "bentocloud.toml");
        check(
            &with_u32(bomb.clone(), at + 24, 100),
            "is another file inside",
            "the directory alone says less than it is",
        );
        check(&with_sizes(bomb, "bentocloud.toml", None, 100), "unpacks to more than the ZIP says", "both say less");
        let app =
            archive(&[("Dockerfile", ""), ("bentocloud.toml", GOOD), ("app", &"all work and no play ".repeat(9))]);
        let packed = app[entry_of(&app, "app") + 20];
        check(&with_sizes(app.clone(), "app", None, 188), "unpacks to more than the ZIP says", "one byte less");
        check(&with_sizes(app.clone(), "app", None, 190), "`app` is damaged", "one byte more");
        check(&with_sizes(app.clone(), "app", Some(packed.into()), 189), "", "as it is");
        check(&with_sizes(app.clone(), "app", Some(u32::from(packed) - 1), 189), "`app` is damaged", "cut short");
        check(
            &with_sizes(app.clone(), "app", Some(u32::from(packed) + 1), 189),
            "reaches into its directory",
            "too long",
        );
        check(&with_sizes(app, "app", Some(u32::MAX - 1), 189), "reaches into its directory", "far too long");
    }

    #[test]
    fn entries_lie_one_after_another_where_the_directory_says() {
        let at = entry_of(&good(), "bentocloud.toml");
        check(&with_u32(good(), at + 42, 0), "entries overlap", "two are one");
        check(&with_u32(good(), at + 42, 1), "entries overlap", "it begins inside another");
        check(&with_u32(good(), at + 42, u32::MAX - 1), "lies behind its directory", "it points behind the file");
        let mut prefixed = b"#!".to_vec();
        prefixed.extend(good());
        let at = entry_of(&prefixed, "Dockerfile") + 42;
        check(&with_u32(prefixed, at, 1), "is not where its directory says", "no header");
        // A file that is stored, and holds an entry that the directory names as well.
        let inner = archive_with(
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored),
            &[("inner", "content")],
        );
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut writer = ZipWriter::new_append(Cursor::new(good())).unwrap();
        writer.start_file("outer", stored).unwrap();
        writer.write_all(&inner).unwrap();
        writer.start_file("inner", stored).unwrap();
        writer.write_all(b"content").unwrap();
        let bytes = writer.finish().unwrap().into_inner();
        check(&bytes, "", "side by side");
        let start = u32::try_from(header_of(&bytes, "inner")).unwrap();
        let at = entry_of(&bytes, "inner");
        check(
            &with_u32(bytes, at + 42, start),
            "entries overlap",
            "one in the other, with headers and data that are right",
        );
    }

    #[test]
    fn nothing_lies_between_entries_but_their_descriptors() {
        const BETWEEN: &str = "by something that its directory does not tell of";
        let hidden = archive(&[("hidden", "content")]);
        let hidden = &hidden[..entry_of(&hidden, "hidden")];
        let bytes = good();
        let (second, directory) = (header_of(&bytes, "bentocloud.toml"), entry_of(&bytes, "Dockerfile"));
        for (where_, at, name) in [("two entries", second, "`Dockerfile`"), ("the last one", directory, "`src/app.py`")]
        {
            for (what, put) in [("an entry", hidden), ("a byte", b"\0"), ("twelve bytes", &[0; 12])] {
                let bytes = spliced(&bytes, at, put);
                check(&bytes, BETWEEN, &format!("{what} behind {where_}"));
                check(&bytes, name, "what it stands behind is named");
            }
        }
        check(&spliced(&bytes, 0, hidden), "it begins with something of a ZIP", "an entry in front of the first one");
        check(
            &spliced(&bytes, 0, b"PK00PK\x03\x04"),
            "it begins with something of a ZIP",
            "a mark in front of the first one",
        );

        let flagged = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            for at in [header_of(&bytes, "Dockerfile") + 6, entry_of(&bytes, "Dockerfile") + 8] {
                bytes[at] |= 8;
            }
            bytes
        };
        let crc32 = &bytes[directory + 16..][..4];
        let sizes = &bytes[directory + 20..][..8];
        let [long, short] = [[&sizes[..4], &[0; 4], &sizes[4..], &[0; 4]].concat(), sizes.to_vec()];
        for (sizes, signature) in [(&short, ""), (&short, "PK\x07\x08"), (&long, ""), (&long, "PK\x07\x08")] {
            let descriptor = [signature.as_bytes(), crc32, sizes].concat();
            let what = format!("{} bytes", descriptor.len());
            let with = spliced(&bytes, second, &descriptor);
            check(&flagged(&with), "", &what);
            check(&with, BETWEEN, &format!("{what} that the header does not announce"));
            check(&flagged(&spliced(&with, second, b"\0")), BETWEEN, &format!("{what} and one more"));
            for byte in 0..descriptor.len() {
                let mut wrong = descriptor.clone();
                wrong[byte] ^= 1;
                check(
                    &flagged(&spliced(&bytes, second, &wrong)),
                    BETWEEN,
                    &format!("{what}, of which {byte} is wrong"),
                );
            }
        }
        check(
            &flagged(&bytes),
            BETWEEN,
            "it is announced, and does not come: a part of the next entry is taken for it",
        );
    }

    #[test]
    fn kinds_of_entries_and_links_are_judged() {
        let link = |target: &str| {
            let mut writer = ZipWriter::new_append(Cursor::new(good())).unwrap();
            writer.add_symlink("src/link", target, SimpleFileOptions::default()).unwrap();
            writer.finish().unwrap().into_inner()
        };
        for (target, expected) in [
            ("app.py", ""),
            ("../Dockerfile", ""),
            ("gone", ""),
            ("../../etc", "the link `src/link` leads out of the archive"),
            ("/etc/passwd", "the link `src/link` leads to an absolute path"),
            ("link", "leads in a circle"),
            ("", "a name that is empty"),
            (&"a/".repeat(600), "longer than 1024 bytes"),
        ] {
            check(&link(target), expected, target);
        }
        for (mode, expected) in [
            (0o100_755_u32, ""),
            (0o644, ""),
            (0o020_644, "is a device, a pipe or a socket"),
            (0o060_644, "is a device, a pipe or a socket"),
            (0o010_644, "is a device, a pipe or a socket"),
            (0o140_644, "is a device, a pipe or a socket"),
            (0o040_755, "is a file and a folder at once"),
        ] {
            let at = entry_of(&good(), "src/app.py");
            check(&with_u32(good(), at + 38, mode << 16), expected, &format!("{mode:o}"));
        }
        let through = archive(&[("Dockerfile", ""), ("bentocloud.toml", GOOD), ("src", ""), ("src/app.py", "")]);
        check(&through, "`src` is a file or a link in it, and a folder as well", "a file that is a folder");
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
