use std::io::{Cursor, Read, Seek, Write};
use std::process::Command;

use ::tar::{EntryType, Header};
use ::zip::{CompressionMethod, ZipArchive};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::tempfile;

use super::*;
use crate::artifact::inspect::inspect;

const GOOD: &str = "[processes.web]\ncommand = \"serve\"\n";

/// A header for a file; the checksum is the caller's.
fn header(kind: EntryType, name: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

fn entry(header: &Header, content: &[u8]) -> Vec<u8> {
    let padding = content.len().next_multiple_of(512) - content.len();
    [header.as_bytes(), content, &vec![0; padding]].concat()
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(&header(EntryType::Regular, name.as_bytes(), content.len() as u64), content)
}

fn link(kind: EntryType, name: &str, target: &[u8]) -> Vec<u8> {
    let mut header = header(kind, name.as_bytes(), 0);
    header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target);
    header.set_cksum();
    entry(&header, b"")
}

/// What every app needs.
fn needed() -> Vec<u8> {
    [file("Dockerfile", b"FROM scratch\n"), file("bentocloud.toml", GOOD.as_bytes())].concat()
}

fn ended(entries: &[Vec<u8>]) -> Vec<u8> {
    [&entries.concat()[..], &[0; 1024]].concat()
}

/// What every app needs, and these entries.
fn with(entries: &[Vec<u8>]) -> Vec<u8> {
    ended(&[&[needed()], entries].concat())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn packed_with(bytes: &[u8], folder: &str, limits: &Limits) -> Result<(Packed, Vec<u8>), String> {
    packed_as((&Part::Folder(folder.to_owned()), folder), bytes, limits)
}

fn packed_as(part: (&Part, &str), bytes: &[u8], limits: &Limits) -> Result<(Packed, Vec<u8>), String> {
    let mut into = tempfile().unwrap();
    match pack(&on_disk(bytes), part, limits, &into, &CancellationToken::new()) {
        Ok(packed) => {
            let mut zip = Vec::new();
            into.rewind().unwrap();
            into.read_to_end(&mut zip).unwrap();
            assert_eq!((packed.digest, packed.size), (Digest::of(&zip), zip.len() as u64));
            Ok((packed, zip))
        }
        Err(InspectError::Rejected(reason)) => Err(reason),
        Err(error) => panic!("the bytes are at fault, not {error}"),
    }
}

/// Names, contents and modes in the ZIP, in their order.
fn listing(bytes: &[u8], folder: &str) -> Vec<(String, Vec<u8>, u32)> {
    let (_, zip) = packed_with(bytes, folder, &Limits::default()).unwrap();
    inspect(Cursor::new(&zip), &Limits::default(), &CancellationToken::new()).unwrap();
    let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().unwrap().into_owned(), content, file.unix_mode().unwrap())
        })
        .collect()
}

fn names(bytes: &[u8], folder: &str) -> Vec<String> {
    listing(bytes, folder).into_iter().map(|(name, ..)| name).collect()
}

fn reason(bytes: &[u8]) -> String {
    reason_with(bytes, "", &Limits::default())
}

fn reason_with(bytes: &[u8], folder: &str, limits: &Limits) -> String {
    packed_with(bytes, folder, limits).err().unwrap_or_default()
}

/// An extended header.
fn extended(kind: u8, content: &[u8]) -> Vec<u8> {
    entry(&header(EntryType::new(kind), b"extended", content.len() as u64), content)
}

fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let fits = |length: &usize| length.to_string().len() + rest.len() == *length;
        let length = (rest.len()..rest.len() + 9).find(fits).unwrap();
        content.extend(format!("{length}{rest}").bytes());
    }
    extended(kind, &content)
}

/// With the bytes written over a header's field, and its checksum right again.
fn with_field(mut entry: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_old();
    header.as_mut_bytes().copy_from_slice(&entry[..512]);
    header.as_mut_bytes()[at..at + bytes.len()].copy_from_slice(bytes);
    header.set_cksum();
    entry[..512].copy_from_slice(header.as_bytes());
    entry
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// What it is, the bytes, and a part of the reason.
type Attack = (&'static str, Vec<u8>, &'static str);

/// What a tar file may not hold.
#[test]
fn attacks_are_refused() {
    for (what, bytes, expected) in
        [attacks_by_names(), attacks_by_links_and_kinds(), attacks_by_lengths(), attacks_by_content()].concat()
    {
        let reason = reason(&bytes);
        assert!(reason.contains(expected), "{what}: wanted {expected:?}, got {reason:?}");
        assert!(!reason.chars().any(char::is_control), "{what}: {reason:?}");
        if bytes.get(257..262) == Some(b"ustar") {
            assert_eq!(self::reason(&gzip(&bytes)), reason, "{what}, in gzip");
        }
    }
}

/// An empty file.
fn empty(name: &[u8]) -> Vec<u8> {
    entry(&header(EntryType::Regular, name, 0), b"")
}

fn symlink(name: &str, target: &[u8]) -> Vec<u8> {
    link(EntryType::Symlink, name, target)
}

fn x() -> Vec<u8> {
    file("x", b"x")
}

fn attacks_by_names() -> Vec<Attack> {
    vec![
        ("an absolute path", with(&[empty(b"/etc/passwd")]), "`/etc/passwd` of one of its entries is an absolute path"),
        ("a drive", with(&[empty(b"C:x")]), "is an absolute path"),
        ("a parent", with(&[empty(b"a/../../x")]), "`a/../../x` of one of its entries leads out of the folder"),
        ("a parent on Windows", with(&[empty(b"a\\..\\x")]), "leads out of the folder"),
        ("a backslash", with(&[empty(b"a\\x")]), "to others; make the archive with `/` between folders"),
        ("no UTF-8", with(&[empty(b"a\xffx")]), "is not UTF-8"),
        ("a long part", with(&[pax(b'x', &[("path", &"l".repeat(256))]), x()]), "longer than 255 bytes; shorten it"),
        ("a long path", with(&[pax(b'x', &[("path", &"l/".repeat(600))]), x()]), "--artifact-max-path-length"),
        ("a NUL in a PAX name", with(&[pax(b'x', &[("path", "a\0b")]), x()]), "holds a NUL"),
        ("a parent in a PAX name", with(&[pax(b'x', &[("path", "../x")]), x()]), "leads out of the folder"),
        ("a parent in a GNU name", with(&[extended(b'L', b"../x\0"), x()]), "leads out of the folder"),
        ("two long names", with(&[extended(b'L', b"one\0"), extended(b'L', b"two\0"), x()]), "two names or sizes"),
        ("PAX and GNU names", with(&[extended(b'L', b"one\0"), pax(b'x', &[("path", "two")]), x()]), "two names"),
        ("one name for all", with(&[pax(b'g', &[("path", "x")]), x()]), "gives all entries one name or size"),
        ("one size for all", with(&[pax(b'g', &[("size", "0")]), x()]), "gives all entries one name or size"),
        ("two sizes", with(&[pax(b'x', &[("size", "0")]), x()]), "`x` has two sizes"),
        ("a negative PAX size", with(&[pax(b'x', &[("size", "-1")]), x()]), "a size that is no number"),
        ("a broken PAX record", with(&[extended(b'x', b"99 path=x\n"), x()]), "an extended header cannot be read"),
        (
            "a huge extended header",
            with(&[entry(&header(EntryType::XHeader, b"x", 1 << 30), b"")]),
            "larger than 1024 KiB",
        ),
        ("a header of nothing", ended(&[needed(), extended(b'L', b"name\0")]), "belongs to no entry"),
    ]
}

fn attacks_by_links_and_kinds() -> Vec<Attack> {
    let kind = |kind: u8| entry(&header(EntryType::new(kind), b"odd", 0), b"");
    vec![
        ("a double", with(&[empty(b"a/x"), empty(b"./a//x")]), "`a/x` is in it twice"),
        ("a file that is a folder", with(&[empty(b"a"), empty(b"a/x")]), "`a` is a file or a link in it, and a folder"),
        (
            "a folder that is a file",
            with(&[empty(b"a/b/x"), empty(b"a")]),
            "`a` is a file or a link in it, and a folder",
        ),
        (
            "a way through a link",
            with(&[symlink("a", b"."), empty(b"a/x")]),
            "`a` is a file or a link in it, and a folder",
        ),
        ("a link out", with(&[symlink("a/l", b"../../x")]), "the link `a/l` leads out of the archive"),
        (
            "a link out, by another",
            with(&[empty(b"d/x"), empty(b"a/b/x"), symlink("a/b/l", b"../../d"), symlink("M", b"a/b/l/../../x")]),
            "leads out of the archive",
        ),
        ("an absolute link", with(&[symlink("l", b"/etc/passwd")]), "the link `l` leads to an absolute path"),
        ("a link of nothing", with(&[symlink("l", b"")]), "a name that is empty"),
        ("a link to nothing", with(&[symlink("l", b"x")]), "the link `l` leads to nothing in the archive"),
        ("a link to a folder", with(&[empty(b"a/x"), symlink("l", b"a")]), "the link `l` leads to a folder"),
        ("a circle", with(&[symlink("l", b"m"), symlink("m", b"l")]), "the link `l` leads in a circle"),
        ("a hard link out", with(&[link(EntryType::Link, "l", b"../x")]), "leads out of the archive"),
        ("a hard link to itself", with(&[link(EntryType::Link, "l", b"l")]), "leads in a circle"),
        ("an absolute hard link", with(&[link(EntryType::Link, "l", b"/etc/passwd")]), "leads to an absolute path"),
        ("a linked manifest", ended(&[file("Dockerfile", b""), symlink("bentocloud.toml", b"x"), x()]), "is a link"),
        ("a character device", with(&[kind(b'3')]), "`odd` is a device"),
        ("a block device", with(&[kind(b'4')]), "`odd` is a device"),
        ("a named pipe", with(&[kind(b'6')]), "`odd` is a named pipe"),
        ("a sparse file", with(&[kind(b'S')]), "`odd` is a sparse file"),
        ("a sparse file by PAX", with(&[pax(b'x', &[("GNU.sparse.major", "1")]), x()]), "a sparse file"),
        ("an unknown type", with(&[kind(b'M')]), "`odd` is of a type that is not supported"),
        ("a whiteout", with(&[empty(b"a/.wh.x")]), "`a/.wh.x` takes away a file of another image layer"),
        (
            "a folder with content",
            with(&[entry(&header(EntryType::Directory, b"a/", 1), b"x")]),
            "is no file, and has content",
        ),
        (
            "a link with content",
            with(&[entry(&header(EntryType::Symlink, b"a", 1), b"x")]),
            "is no file, and has content",
        ),
    ]
}

fn attacks_by_lengths() -> Vec<Attack> {
    let size = |bytes: &[u8]| with_field(x(), 124, bytes);
    let after_the_end = [with(&[]), file("more", b"")].concat();
    let one_zero_block = [ended(&[needed()])[..2048 + 512].to_vec(), file("more", b"")].concat();
    let mut wrong_sum = with(&[x()]);
    wrong_sum[2048] = b'y';
    let whole = gzip(&with(&[]));
    let mut damaged_gzip = whole.clone();
    // A deflate block of a type that does not exist.
    damaged_gzip[10] = 0b111;
    let mut wrong_crc = whole.clone();
    let crc = wrong_crc.len() - 8;
    wrong_crc[crc] ^= 1;
    vec![
        ("a negative size", with(&[size(&[0xff; 12])]), "`x` has a size that is no number, negative or too large"),
        ("a size beyond 64 bits", with(&[size(&[0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])]), "negative or too large"),
        ("a size of words", with(&[size(b"-0000000001\0")]), "a size that is no number"),
        (
            "a huge size",
            with(&[size(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])]),
            "--artifact-max-unpacked",
        ),
        ("a size beyond the end", with(&[size(b"00000010000\0")]), "ends in the middle of an entry"),
        ("a wrong checksum", wrong_sum, "the checksum of a header is wrong"),
        ("entries after the end", after_the_end, "something follows the end marker"),
        ("entries after one block of zeros", one_zero_block, "something follows the end marker"),
        ("no end", [needed(), x()].concat(), "its end marker is missing"),
        ("cut in a header", with(&[])[..700].to_vec(), "cut short"),
        ("cut in a file", with(&[file("a", &[7; 2000])])[..3000].to_vec(), "ends in the middle of an entry"),
        ("cut in gzip", whole[..whole.len() - 9].to_vec(), "cut short in the middle of its gzip data"),
        ("cut in gzip's sum", whole[..whole.len() - 3].to_vec(), "cut short in the middle of its gzip data"),
        ("bytes after gzip", [&whole[..], b"more than a header"].concat(), "something that is no gzip follows it"),
        ("damaged gzip", damaged_gzip, "gzip data is damaged"),
        ("a wrong sum in gzip", wrong_crc, "gzip data is damaged"),
        ("gzip in gzip", gzip(&whole), "cut short"),
        ("gzip of a ZIP", gzip(b"PK\x05\x06aaaaaaaaaaaaaaaaaa"), "cut short"),
    ]
}

fn attacks_by_content() -> Vec<Attack> {
    vec![
        ("nothing to run", ended(&[file("Dockerfile", b""), file("bentocloud.toml", b"[app]")]), "nothing would run"),
        (
            "a large manifest",
            ended(&[file("Dockerfile", b""), file("bentocloud.toml", "#".repeat(64 << 10 | 1).as_bytes())]),
            "larger than 64 KiB",
        ),
        ("large patterns", with(&[file(".bentocloudignore", "#".repeat(65 << 10).as_bytes())]), "larger than 64 KiB"),
        ("many patterns", with(&[file(".bentocloudignore", "a\n".repeat(1001).as_bytes())]), "more than 1000 patterns"),
        ("a left out Dockerfile", with(&[file(".bentocloudignore", b"Docker*")]), "leaves out `Dockerfile`"),
        (
            "many short links",
            with(&(0..=16 << 10).map(|number| symlink(&number.to_string(), b"l")).collect::<Vec<_>>()),
            "too many links",
        ),
        (
            "many links",
            with(
                &(0..6000)
                    .map(|number| link(EntryType::Symlink, &format!("{number}/{}", "l".repeat(85)), &[b'l'; 99]))
                    .collect::<Vec<_>>(),
            ),
            "too many links",
        ),
    ]
}

#[test]
fn limits_are_named_with_their_flags() {
    let app = with(&[file("a/b/c", &noise(5000)), file("zeros", &vec![0; 70_000])]);
    let good = Limits { max_entries: 6, max_unpacked: 80_000, max_path_length: 15, ..Limits::default() };
    assert_eq!(reason_with(&gzip(&app), "", &good), "");
    for (limits, flag) in [
        (Limits { max_entries: 5, ..good.clone() }, "--artifact-max-entries"),
        (Limits { max_unpacked: 75_000, ..good.clone() }, "--artifact-max-unpacked"),
        (Limits { max_path_length: 14, ..good.clone() }, "--artifact-max-path-length"),
        (Limits { max_size: 4000, ..good.clone() }, "--artifact-max-size"),
    ] {
        let reason = reason_with(&gzip(&app), "", &limits);
        assert!(reason.contains(flag), "{flag}: {reason:?}");
    }
    let links: Vec<Vec<u8>> =
        (0..20).map(|number| link(EntryType::Symlink, &format!("link-{number}"), b"zeros")).collect();
    let app = with(&[&[file("zeros", &vec![0; 70_000])][..], &links].concat());
    let limits = Limits { max_unpacked: 1 << 20, ..Limits::default() };
    assert!(reason_with(&app, "", &limits).contains("--artifact-max-unpacked"), "what links stand for counts");
}

/// Gzip members that each unpack to 16 MiB of zeros.
fn bomb(start: &[u8], members: usize) -> Vec<u8> {
    let zeros = gzip(&vec![0; 16 << 20]);
    [gzip(start), zeros.repeat(members)].concat()
}

#[test]
fn bombs_stop_early() {
    // Stops with the first byte too many: what follows it would be another error.
    let more = b"no gzip".to_vec();
    let large = header(EntryType::Regular, b"zeros", 15 << 20);
    let extended = header(EntryType::XHeader, b"zeros", 15 << 20);
    let limits = Limits { max_unpacked: 2 << 20, ..Limits::default() };
    for (what, start) in
        [("in a file", [&needed()[..], large.as_bytes()].concat()), ("behind the end", ended(&[needed()]))]
    {
        let reason = reason_with(&[bomb(&start, 1), more.clone()].concat(), "", &limits);
        assert!(reason.contains("--artifact-max-unpacked"), "{what}: {reason}");
    }
    let start = [&needed()[..], extended.as_bytes()].concat();
    let reason = reason_with(&[bomb(&start, 1), more].concat(), "", &limits);
    assert!(reason.contains("larger than 1024 KiB"), "an extended header is never kept: {reason}");
}

#[test]
fn a_bomb_in_an_archive_is_refused_where_a_builder_would_unpack_it() {
    let bomb = bomb(header(EntryType::Regular, b"zeros", 64 << 20).as_bytes(), 4);
    let limits = Limits { max_unpacked: 32 << 20, ..Limits::default() };
    let reason = reason_with(&with(&[file("data/bomb.tar.gz", &bomb)]), "", &limits);
    let expected = "with what is packed inside of `data/bomb.tar.gz`, it unpacks to more than 33554432 bytes";
    assert!(reason.starts_with(expected), "{reason}");
    let no_tar = self::bomb(b"", 4);
    let zip = b"PK\x03\x04 and so on";
    let found = listing(&with(&[file("large.sql.gz", &no_tar), file("more.zip", zip)]), "");
    assert_eq!((found[2].1.as_slice(), found[3].1.as_slice()), (no_tar.as_slice(), &zip[..]), "nobody unpacks these");
}

#[test]
fn the_zip_holds_what_the_tar_file_holds() {
    let mut script = header(EntryType::Regular, b"./bin/run", 3);
    script.set_mode(0o4710);
    script.set_mtime(1_700_000_000);
    script.set_uid(1000);
    script.set_cksum();
    let long = "d/".repeat(100) + "long";
    let app = with(&[
        entry(&header(EntryType::Directory, b"./bin/", 0), b""),
        entry(&script, b"run"),
        file("empty", b""),
        pax(b'g', &[("comment", "0123456789abcdef")]),
        pax(b'x', &[("path", &long), ("mtime", "1.5"), ("SCHILY.xattr.user.a", "two\nlines")]),
        file("short", b"pax"),
        extended(b'L', b"gnu/long\0"),
        file("short", b"gnu"),
        file("Ä.txt", "ä".as_bytes()),
    ]);
    let text = |name: &str, content: &str, mode: u32| (name.to_owned(), content.as_bytes().to_vec(), mode);
    let wanted = vec![
        text("Dockerfile", "FROM scratch\n", 0o100_644),
        text("bentocloud.toml", GOOD, 0o100_644),
        text("bin/run", "run", 0o100_755),
        text("empty", "", 0o100_644),
        text(&long, "pax", 0o100_644),
        text("gnu/long", "gnu", 0o100_644),
        text("Ä.txt", "ä", 0o100_644),
    ];
    assert_eq!(listing(&app, ""), wanted);
    assert_eq!(listing(&gzip(&app), ""), wanted);
    let (first, second) = app.split_at(1000);
    assert_eq!(listing(&[gzip(first), gzip(second)].concat(), ""), wanted, "two gzip members");
}

#[test]
fn what_can_be_deflated_is_and_the_rest_is_stored() {
    let text = "all work and no play\n".repeat(100_000).into_bytes();
    let noise = noise(1_700_000);
    let app = with(&[
        file("small.txt", &text[..5000]),
        file("small.bin", &noise[..5000]),
        file("block.txt", &text[..400_000]),
        file("block.bin", &noise[..400_000]),
        file("exact.txt", &text[..512 << 10]),
        file("large.txt", &text),
        file("large.bin", &noise),
        file("short.txt", b"short"),
    ]);
    let (packed, zip) = packed_with(&gzip(&app), "", &Limits::default()).unwrap();
    assert_eq!(packed_with(&app, "", &Limits::default()).unwrap(), (packed, zip.clone()), "the same bytes twice");
    inspect(Cursor::new(&zip), &Limits::default(), &CancellationToken::new()).unwrap();
    let mut archive = ZipArchive::new(Cursor::new(zip)).unwrap();
    for (name, content, method) in [
        ("small.txt", &text[..5000], CompressionMethod::Deflated),
        ("small.bin", &noise[..5000], CompressionMethod::Stored),
        ("block.txt", &text[..400_000], CompressionMethod::Deflated),
        ("block.bin", &noise[..400_000], CompressionMethod::Stored),
        ("exact.txt", &text[..512 << 10], CompressionMethod::Deflated),
        ("large.txt", &text, CompressionMethod::Deflated),
        ("large.bin", &noise, CompressionMethod::Stored),
        ("short.txt", b"short", CompressionMethod::Stored),
    ] {
        let mut file = archive.by_name(name).unwrap();
        assert_eq!(file.compression(), method, "{name}");
        let mut found = Vec::new();
        file.read_to_end(&mut found).unwrap();
        assert!(found == content, "{name}");
    }
}

/// What packing has to decide is in it: what is deflated and what stored, in one block and in several, modes, links, names
/// beyond ASCII, and what is left out.
#[test]
fn a_version_packs_the_same_bytes_on_every_machine() {
    const GOLDEN: &str = "sha256:db6d95db86048685195dee7f7a5827e08ab3383043d10bc41f8d7f172b30e816";
    let text = "all work and no play\n".repeat(40_000).into_bytes();
    let words: Vec<u8> =
        (0..60_000).flat_map(|number: u32| format!("{} ", number * number % 9973).into_bytes()).collect();
    let mut script = header(EntryType::Regular, b"bin/run", 3);
    script.set_mode(0o755);
    script.set_mtime(1_700_000_000);
    script.set_cksum();
    let app = with(&[
        entry(&script, b"run"),
        file("empty", b""),
        file("\u{c4}.txt", &words[..9000]),
        file("words.txt", &words),
        file("large.txt", &text),
        file("noise.bin", &noise(700_000)),
        file("noise.txt", &noise(3000)),
        symlink("by-link", b"words.txt"),
        file("a/.env", b"left out"),
    ]);
    let (packed, _) = packed_with(&gzip(&app), "", &Limits::default()).unwrap();
    assert_eq!(
        packed.digest.to_string(),
        GOLDEN,
        "the bytes that are packed have changed, by the code here or by a dependency: zlib-rs deflates. The digest in \
         `status.artifact.upload` of every artifact that is packed changes with this; nothing is deployed again by it. If \
         it is meant, put that into CHANGELOG.md, and the new digest here"
    );
}

#[test]
fn links_become_the_files_they_lead_to() {
    let symlink = |name: &str, target: &str| link(EntryType::Symlink, name, target.as_bytes());
    let text = "all work and no play\n".repeat(50_000);
    let mut script = header(EntryType::Regular, b"shared/run", 3);
    script.set_mode(0o755);
    script.set_cksum();
    let app = ended(&[
        symlink("app/by-link", "by-folder-link"),
        symlink("app/by-folder-link", "../folder/text"),
        symlink("folder", "shared/."),
        symlink("app/left/.env", "/etc/passwd"),
        file("app/Dockerfile", b""),
        file("app/bentocloud.toml", GOOD.as_bytes()),
        file("shared/text", text.as_bytes()),
        entry(&script, b"run"),
        link(EntryType::Link, "app/run", b"shared/run"),
        link(EntryType::Link, "app/text", b"app/by-link"),
    ]);
    let found = listing(&app, "/app/");
    let names: Vec<&str> = found.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["Dockerfile", "bentocloud.toml", "by-folder-link", "by-link", "text", "run"]);
    for (name, content, mode) in &found[2..5] {
        assert_eq!((content.as_slice(), *mode), (text.as_bytes(), 0o100_644), "{name}");
    }
    assert_eq!((found[5].1.as_slice(), found[5].2), (&b"run"[..], 0o100_755));
}

#[test]
fn one_folder_is_taken_as_the_root() {
    let app = ended(&[
        file("shop/web/Dockerfile", b""),
        file("shop/web/bentocloud.toml", GOOD.as_bytes()),
        file("shop/webs/x", b""),
        file("README.md", b""),
    ]);
    for folder in ["shop/web", "/shop/web/"] {
        assert_eq!(names(&app, folder), ["Dockerfile", "bentocloud.toml"]);
    }
}

#[test]
fn where_the_app_is_instead_is_told_by_the_field_that_there_is() {
    let app = |folder: &str| {
        let at = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        [file(&at("Dockerfile"), b""), file(&at("bentocloud.toml"), GOOD.as_bytes())].concat()
    };
    let one = ended(&[app("shop/web"), file("shop/webs/x", b""), file("README.md", b"")]);
    let deep = ended(&[app("a/b/c/d"), file("x", b"")]);
    let many = ended(&[app("z"), app("b/web"), app("b/app"), file("b/half/bentocloud.toml", b"")]);
    let root = with(&[empty(b"docs/x")]);
    let none = ended(&[file("a/bentocloud.toml", b""), file("b/Dockerfile", b"")]);
    let (folder, layer) = (|path: &str| Part::Folder(path.to_owned()), Part::Layer(None));
    for (archive, part, at, expected) in [
        (
            &one,
            folder(""),
            "",
            "`Dockerfile` and `bentocloud.toml` are missing at its root, where `README.md`, `shop/` stand; both are in its \
             folder `shop/web`: write `shop/web` into spec.source.sourceRef.path",
        ),
        (&one, folder("shop"), "shop", "in its folder `shop/web`: write `shop/web` into spec.source.sourceRef.path"),
        (
            &one,
            folder("shop/webs"),
            "shop/webs",
            "are missing in its folder `shop/webs`, where `x` stand; both are in its folder `shop/web`: write",
        ),
        (&one, Part::Whole, "", "folder `shop/web`: pack that folder's contents, not what is around it"),
        (&one, layer.clone(), "", "folder `shop/web`: push that folder alone, not what is around it"),
        (&one, layer.clone(), "shop", "folder `shop/web`: push that folder alone, not what is around it"),
        (&deep, Part::Whole, "", "in its folder `a/b/c/d`: pack that folder's contents"),
        (&many, folder(""), "", "in its folder `z`, and in others: write `z` into"),
        (&many, folder("b"), "b", "in its folder `b/app`, and in others: write `b/app` into"),
        (&root, folder("docs"), "docs", "both are at its root: leave spec.source.sourceRef.path out"),
        (&none, Part::Whole, "", "are missing at its root, where `a/`, `b/` stand"),
        (
            &one,
            folder("shop/w"),
            "shop/w",
            "it has no folder `shop/w`; did you mean `shop/web`, which holds `Dockerfile` and `bentocloud.toml`? If so, \
             write `shop/web` into spec.source.sourceRef.path",
        ),
        (&many, folder("apps/Web"), "apps/Web", "did you mean `b/web`, which"),
        (&many, folder("apps"), "apps", "did you mean `z`, which"),
        (
            &root,
            folder("shop"),
            "shop",
            "it has no folder `shop`; `Dockerfile` and `bentocloud.toml` are at its root: leave spec.source.sourceRef.path \
             out",
        ),
        (&none, folder("shop"), "shop", "it has no folder `shop`; look at its root, where `a/`, `b/` stand"),
        (&one, folder("README.md"), "README.md", "it has no folder `README.md`"),
        (&one, folder("x"), "shop/../shop/web", "it has no folder"),
    ] {
        let reason = packed_as((&part, at), archive, &Limits::default()).unwrap_err();
        assert!(reason.contains(expected), "{part:?} {at:?}: {reason}");
        let says_path = reason.contains("spec.source.sourceRef") || reason.contains("path:");
        assert!(matches!(part, Part::Folder(_)) || !says_path, "{part:?} has no such field: {reason}");
    }
}

/// However many folders may be meant, few are kept: the shallowest.
#[test]
fn of_very_many_folders_the_shallowest_are_kept() {
    let half = |number| file(&format!("d/e/{number:03}/bentocloud.toml"), GOOD.as_bytes());
    let halves: Vec<Vec<u8>> = (0..300).map(half).collect();
    let app = |folder: &str| {
        [file(&format!("{folder}/bentocloud.toml"), b""), file(&format!("{folder}/Dockerfile"), b"")].concat()
    };
    for (folder, is_named) in [("x/y", true), ("d/e/000", true), ("x/y/z/0", false)] {
        let app = [app(folder)];
        let halves = if folder == "d/e/000" { &halves[1..] } else { &halves };
        for entries in [[halves, &app].concat(), [&app, halves].concat()] {
            let reason = reason(&ended(&entries));
            assert_eq!(reason.contains(&format!("both are in its folder `{folder}`: ")), is_named, "{reason}");
        }
    }
}

#[test]
fn what_the_app_does_not_need_is_left_out_at_every_depth() {
    let junk = [
        ".env",
        "web/.env",
        ".git/config",
        "web/.git/config",
        ".bentocloud.json",
        "web/.bentocloud.json",
        "node_modules/a/b.js",
        "web/node_modules/a/b.js",
        "a/__pycache__/b.txt",
        "a/b.pyc",
        "b.pyo",
        "a/.DS_Store",
    ];
    let kept = [".envrc", "a/env", ".gitignore", "a.pyc.txt", "my_node_modules/a"];
    let files: Vec<Vec<u8>> = junk.iter().chain(&kept).map(|name| file(name, b"x")).collect();
    let wanted: Vec<&str> = ["Dockerfile", "bentocloud.toml"].into_iter().chain(kept).collect();
    assert_eq!(names(&with(&files), ""), wanted);
    // The file takes the place of what is left out by default, but never gives away a secret.
    let app = with(&[files.concat(), file(".bentocloudignore", b"kept\n"), file("a/.bentocloudignore", b"*")]);
    let found = names(&app, "");
    for name in junk {
        let is_secret = [".env", ".git/", ".bentocloud.json"].iter().any(|part| name.contains(part));
        assert_eq!(found.contains(&name.to_owned()), !is_secret, "{name}");
    }
    assert!(found.contains(&".bentocloudignore".to_owned()) && found.contains(&"a/.bentocloudignore".to_owned()));
}

#[test]
fn patterns_are_those_of_fnmatch() {
    for (patterns, left_out, kept) in [
        ("# *\n\n  a b  \n", &["a b", "x/a b", "a b/x"][..], &["# a", "ab"][..]),
        ("\u{feff}*.log\r\na/\r\n", &["a.log", "x/a/y"], &["log"]),
        ("\u{feff}#x\n", &[], &["#x", "x"]),
        ("*.log", &["a.log", "x/y.log", "x.log/y"], &["a.logs", "log"]),
        ("doc*/draft", &["docs/draft", "docs/x/draft", "docs/draft/x"], &["x/docs/draft", "docs/drafts"]),
        ("tmp/", &["tmp/x", "x/tmp/y", "tmp"], &["tmpx"]),
        ("?", &["a", "ä", "x/y/zz/ab"], &["ab", "ab/cd"]),
        ("[a-c]x[!0-9]", &["axx", "bxa"], &["dxa", "ax1", "ax"]),
        ("[]x]y", &["]y", "xy"], &["[]x]y"]),
        ("[!]x]y", &["ay"], &["]y", "xy"]),
        ("[z-a]", &[], &["z", "a", "[z-a]"]),
        ("[!z-a]", &["z", "q"], &["zz"]),
        ("[x", &["[x"], &["x"]),
        ("[a&&b]", &["&", "a", "b"], &["c"]),
        ("[^a]", &["^", "a"], &["b"]),
        ("a{b,c}", &["a{b,c}"], &["ab", "ac"]),
        ("a\\*", &["a\\b"], &["a*"]),
        ("!a", &["!a"], &["a"]),
        ("(a|b)+.$", &["(a|b)+.$"], &["a", "ab"]),
        ("**/x", &["a/x", "a/b/x"], &["x"]),
        ("*ab*abc", &["ababc", "xab/yabc/z", "abab/abc"], &["abc", "ababcd", "ab/ab"]),
        ("a*", &["a", "a/b", "x/ab/y"], &["ba", "x/ba"]),
    ] {
        let ignore = ignore::Ignore::read(Some(patterns.as_bytes())).unwrap();
        for path in left_out {
            assert!(ignore.matches(path).unwrap(), "{patterns:?} leaves out {path:?}");
        }
        for path in kept {
            assert!(!ignore.matches(path).unwrap(), "{patterns:?} keeps {path:?}");
        }
    }
}

/// Those that cost most, by characters or by members of a class.
#[test]
fn what_patterns_cost_is_bounded() {
    let path = "a".repeat(1000);
    for (what, patterns) in [
        ("stars", "*a*b".repeat(16_000)),
        ("a long tail", format!("*{}Z", "a".repeat(500))),
        ("long tails", format!("*{}Z\n", "a".repeat(60)).repeat(1000)),
        ("any characters", format!("*a{}Z", "?".repeat(500))),
        ("classes", format!("{}Z", "*[a-z]".repeat(500))),
        ("a large class", format!("*[{}]Z", "bc".repeat(30_000))),
    ] {
        let ignore = ignore::Ignore::read(Some(patterns.as_bytes())).unwrap();
        let all = ignore.steps_left.get();
        ignore.steps_left.set(1_000_000);
        let mut paths = 0;
        let reason = loop {
            match ignore.matches(&path) {
                Ok(is_left_out) => assert!(!is_left_out, "{what}"),
                Err(InspectError::Rejected(reason)) => break reason,
                Err(error) => panic!("the patterns are at fault, not {error}"),
            }
            paths += 1;
            assert!(paths < 10_000, "{what} cost next to nothing");
        };
        assert!(reason.contains("take too long for so many files"), "{what}: {reason}");
        assert!(all <= 1 << 30, "{what}: more steps than some seconds have");
    }
}

/// Memory is measured in a process of its own: the other tests would count too.
#[test]
fn memory_is_bounded() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "artifact::pack::tests::memory_probe", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the probe ran");
}

/// Long names, and blocks that were large before they are small: 9 MB of the one, and 9 MB of the other, if all were kept.
#[test]
#[ignore = "run by memory_is_bounded, alone in its process"]
fn memory_probe() {
    let mut tar = tempfile().unwrap();
    tar.write_all(&[needed(), file(".bentocloudignore", b"")].concat()).unwrap();
    let folders = ["d"; 4].map(|letter| letter.repeat(250)).join("/");
    let large = noise(deflate::BLOCK);
    for number in 0..9000 {
        tar.write_all(&pax(b'x', &[("path", &format!("{folders}/{number}"))])).unwrap();
        tar.write_all(&file("x", if number < 1000 && number % 16 == 0 { &large } else { b"content" })).unwrap();
    }
    tar.write_all(&[0; 1024]).unwrap();
    let into = tempfile().unwrap();
    let before = peak_kib();
    let packed = pack(&tar, (&Part::Whole, ""), &Limits::default(), &into, &CancellationToken::new());
    let used = peak_kib() - before;
    assert!(packed.is_ok_and(|packed| packed.size > 18_000_000));
    assert!(used < 16 << 10, "{used} KiB");
    inspect(&into, &Limits::default(), &CancellationToken::new()).unwrap();
}

/// The most memory that this process ever had resident, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_stop_ends_it() {
    let stop = CancellationToken::new();
    stop.cancel();
    let outcome = pack(&on_disk(&with(&[])), (&Part::Whole, ""), &Limits::default(), &tempfile().unwrap(), &stop);
    assert!(matches!(outcome, Err(InspectError::Stopped)), "{outcome:?}");
}

proptest! {
    #[test]
    fn mutated_archives_are_judged(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(), do_cut in any::<bool>(), right_sums in any::<bool>(), in_gzip in any::<bool>(),
    ) {
        let mut bytes = with(&[
            pax(b'x', &[("path", "long/name")]), file("x", b"content"), link(EntryType::Symlink, "l", b"long/name"),
            extended(b'L', b"other\0"), file("y", &[7; 600]), file(".bentocloudignore", b"*.pyc\n[a-c]\n"),
        ]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
            if right_sums {
                let block = at / 512 * 512;
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[block..block + 512]);
                header.set_cksum();
                bytes[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        if do_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let bytes = if in_gzip { gzip(&bytes) } else { bytes };
        if let Ok((packed, zip)) = packed_with(&bytes, "", &Limits::default()) {
            inspect(Cursor::new(zip), &Limits::default(), &CancellationToken::new()).unwrap();
            prop_assert_eq!(packed_with(&bytes, "", &Limits::default()).unwrap().0, packed);
        }
    }
}
