//! The packing of tar files: any bytes give a ZIP that passes the inspection, the same one twice, or a reason.

use std::fs::File;
use std::io::{Read, Seek, Write};

use konigle_operator::artifact::{Limits, fuzzing};
use zip::ZipArchive;

/// One file, as it is or as the content of a gzip file.
///
/// # Panics
///
/// When a promise is broken.
pub fn check(data: &[u8]) {
    let limits = Limits { max_entries: 1000, max_unpacked: 16 << 20, ..Limits::default() };
    let (verdict, zip) = packed(data, "", &limits);
    match verdict {
        Err(reason) => {
            assert!(!reason.is_empty() && reason.chars().count() <= 1200, "{reason}");
            assert!(!reason.chars().any(char::is_control), "{reason:?}");
        }
        Ok(size) => {
            assert_eq!(Some(size), zip.metadata().ok().map(|file| file.len()));
            let verdict = fuzzing::inspect(&zip, &limits).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(verdict, Ok(()), "what is packed is accepted");
            let bytes = content(zip);
            let (_, again) = packed(data, "/", &limits);
            assert!(bytes == content(again), "the same bytes twice");
            plain_files(written(&bytes));
        }
    }
}

/// A ZIP of files alone, none with a name that leads elsewhere, each whole.
fn plain_files(zip: File) {
    let mut archive = ZipArchive::new(zip).unwrap_or_else(|error| panic!("packed, but {error}"));
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap_or_else(|error| panic!("{error}"));
        let name = file.name().unwrap_or_else(|error| panic!("{error}")).into_owned();
        assert!(!name.split('/').any(|part| matches!(part, "" | "." | ".." | ".git" | ".env")), "{name:?}");
        assert!(matches!(file.unix_mode(), Some(0o100_644 | 0o100_755)), "{name:?}: {:?}", file.unix_mode());
        std::io::copy(&mut file, &mut std::io::sink()).unwrap_or_else(|error| panic!("{name:?}: {error}"));
    }
}

fn packed(data: &[u8], folder: &str, limits: &Limits) -> (Result<u64, String>, File) {
    let into = empty();
    let verdict = fuzzing::pack(&written(data), folder, limits, &into);
    (verdict.unwrap_or_else(|error| panic!("the disk is not at fault: {error}")), into)
}

fn empty() -> File {
    tempfile::tempfile().unwrap_or_else(|error| panic!("no temporary file: {error}"))
}

fn written(data: &[u8]) -> File {
    let mut file = empty();
    file.write_all(data).unwrap_or_else(|error| panic!("{error}"));
    file
}

fn content(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).unwrap_or_else(|error| panic!("{error}"));
    bytes
}
