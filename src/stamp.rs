//! What tells that a file was changed by another hand, without reading it.
//!
//! Absent: proof. A disk that loses bits leaves it as it is, and so does who changes a file within the same tick of its
//! file system's clock.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// How large a file was, and when it was changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// In bytes.
    pub size: u64,
    modified: (i64, i64),
    /// That of the inode: nobody can set it, and another file in the same place has its own. Not every file system keeps it.
    changed: (i64, i64),
}

impl Stamp {
    /// As the file is now. `None`: it is no file.
    #[must_use]
    pub fn of(found: &Metadata) -> Option<Self> {
        found.is_file().then(|| Self {
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    #[cfg(test)]
    pub(crate) fn of_size(size: u64) -> Self {
        Self { size, modified: (0, 0), changed: (0, 0) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn another_content_another_file_and_no_file_are_told_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let stamp = || fs::metadata(&path).ok().and_then(|found| Stamp::of(&found));
        fs::write(&path, "abc").unwrap();
        let before = stamp();
        assert_eq!(before.map(|stamp| stamp.size), Some(3));
        fs::read(&path).unwrap();
        assert_eq!(stamp(), before, "it was read");
        // The clock of a file system is coarse: what a later write leaves is set by hand.
        let another = SystemTime::UNIX_EPOCH + Duration::from_mins(1);
        File::options().append(true).open(&path).unwrap().set_modified(another).unwrap();
        assert_ne!(stamp(), before);
        fs::write(&path, "abcd").unwrap();
        assert_ne!(stamp(), before);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(stamp(), None);
    }
}
