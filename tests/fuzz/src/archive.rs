//! The inspection of ZIP files: any bytes, in bounded work; and what is accepted, another reader reads alike.

use std::io::{Cursor, Read, Seek, SeekFrom};

use konigle_operator::artifact::{Limits, fuzzing};
use zip::ZipArchive;

/// One file.
///
/// # Panics
///
/// When a promise is broken.
pub fn check(data: &[u8]) {
    let limits = Limits { max_entries: 1000, max_unpacked: 1 << 30, ..Limits::default() };
    let mut reader = Counted { inner: Cursor::new(data), read: 0, calls: 0 };
    let verdict = fuzzing::inspect(&mut reader, &limits);
    let verdict = verdict.unwrap_or_else(|error| panic!("the disk is not at fault: {error}"));
    let length = data.len() as u64;
    assert!(reader.read <= 3 * length + 1024, "{} bytes were read of {length}", reader.read);
    assert!(reader.calls <= length + 1024, "{} reads of {length} bytes", reader.calls);
    match verdict {
        Err(reason) => {
            assert!(!reason.is_empty() && reason.chars().count() <= 1200, "{reason}");
            assert!(!reason.chars().any(char::is_control), "{reason:?}");
        }
        Ok(()) => agree(data),
    }
}

/// What was accepted is, to another reader of the directory, what it was accepted for, and whole.
fn agree(data: &[u8]) {
    let mut archive = ZipArchive::new(Cursor::new(data)).unwrap_or_else(|error| panic!("accepted, but {error}"));
    assert!(archive.len() <= 1000);
    let names: Vec<String> =
        archive.file_names().map(|name| name.unwrap_or_else(|error| panic!("{error}")).into_owned()).collect();
    let mut found = [0; 2];
    for name in names {
        assert!(!name.starts_with(['/', '\\']) && !name.split(['/', '\\']).any(|part| part == ".."), "{name:?}");
        let plain: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        let mut file = archive.by_name(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let file_name = (!name.ends_with('/')).then(|| plain.join("/"));
        match file_name.as_deref() {
            Some("Dockerfile") => found[0] += 1,
            Some("bentocloud.toml") => {
                found[1] += 1;
                let text = String::from_utf8_lossy(&text);
                assert!(text.contains("processes"), "{text}");
            }
            _ => {}
        }
    }
    assert_eq!(found, [1, 1], "one Dockerfile and one bentocloud.toml");
}

/// Counts what is asked of a file.
struct Counted<R> {
    inner: R,
    read: u64,
    calls: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        self.calls += 1;
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, position: SeekFrom) -> std::io::Result<u64> {
        self.calls += 1;
        self.inner.seek(position)
    }
}
