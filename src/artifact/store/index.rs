//! Which files the store has, where they are, and which of them goes first.
//!
//! Absent: reading them. What a file holds is looked at by [`super`].

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::artifact::{Digest, Lease, Scope};
use crate::crash;
use crate::stamp::Stamp;

/// How the name of a file begins that is not whole yet.
pub(super) const PARTIAL: &str = ".partial-";
/// Files by digest; below [`NAMESPACES`] once more for each namespace.
const FILES: &str = "sha256";
const NAMESPACES: &str = "namespaces";

/// A file of the store: whose it is, and what it hashes to.
pub(super) type FileKey = (Scope, Digest);

/// The files of the store, by name only.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: HashMap<FileKey, Entry>,
    /// Counts uses: the entry with the smallest number was used longest ago.
    uses: u64,
    /// The bytes that are about to be written.
    reserved: u64,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    used: u64,
    /// As it was when this process hashed it, if it did.
    hashed: Option<Stamp>,
    /// Whether it is one that is sent, and not only packed.
    sent: bool,
    lease: Lease,
}

/// What room is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A file that is downloaded.
    Download,
    /// A ZIP that is packed. The archives that others pack leave it their room, or all of them would wait for each other: they
    /// are as few as the downloads that may run at once, and have room beside the budget.
    Pack,
}

/// What is known of a file without reading it.
pub(super) struct Known {
    /// As it was when this process hashed it, if it did.
    pub(super) hashed: Option<Stamp>,
    pub(super) lease: Lease,
}

impl Index {
    /// Lists the directory, and removes what a crash left behind.
    pub(super) fn scan(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory.join(FILES))?;
        let mut found = Vec::new();
        scan_scope(&directory.join(FILES), &Scope::Public, &mut found)?;
        let namespaces = directory.join(NAMESPACES);
        if namespaces.is_dir() {
            for namespace in fs::read_dir(namespaces)? {
                let namespace = namespace?;
                let Ok(name) = namespace.file_name().into_string() else { continue };
                let files = namespace.path().join(FILES);
                if files.is_dir() {
                    scan_scope(&files, &Scope::Namespace(name), &mut found)?;
                }
            }
        }
        found.sort_unstable_by_key(|(_, _, modified)| *modified);
        let mut index = Self::default();
        for (key, size, _) in found {
            index.insert(key, size, None);
        }
        Ok(index)
    }

    /// Takes in a file that was hashed; whoever holds the lease of one that it replaces holds that of the new one.
    pub(super) fn add(&mut self, key: FileKey, hashed: Stamp) -> Lease {
        self.insert(key, hashed.size, Some(hashed))
    }

    fn insert(&mut self, key: FileKey, size: u64, hashed: Option<Stamp>) -> Lease {
        self.uses += 1;
        let before = self.files.get(&key);
        let lease = before.map_or_else(Lease::default, |before| before.lease.clone());
        let sent = before.is_some_and(|before| before.sent);
        self.files.insert(key, Entry { size, used: self.uses, hashed, sent, lease: lease.clone() });
        lease
    }

    pub(super) fn used(&mut self, key: &FileKey) -> Option<Known> {
        self.uses += 1;
        let entry = self.files.get_mut(key)?;
        entry.used = self.uses;
        Some(Known { hashed: entry.hashed, lease: entry.lease.clone() })
    }

    pub(super) fn holds(&self, key: &FileKey) -> bool {
        self.files.contains_key(key)
    }

    /// What was hashed is not what is there now, unless that was hashed since.
    pub(super) fn doubt(&mut self, key: &FileKey, hashed: Option<Stamp>) {
        if let Some(entry) = self.files.get_mut(key).filter(|entry| entry.hashed == hashed) {
            entry.hashed = None;
        }
    }

    /// It is one that is sent.
    pub(super) fn is_sent(&mut self, key: &FileKey) {
        if let Some(entry) = self.files.get_mut(key) {
            entry.sent = true;
        }
    }

    /// Whether this process has hashed it.
    pub(super) fn is_verified(&self, key: &FileKey) -> bool {
        self.files.get(key).is_some_and(|entry| entry.hashed.is_some())
    }

    /// Whether nobody uses it.
    pub(super) fn is_idle(&self, key: &FileKey) -> bool {
        self.files.get(key).is_none_or(|entry| Arc::strong_count(&entry.lease) == 1)
    }

    /// Whether others leave room for so many more bytes of somebody who has `own` already. Who is alone may take more than the
    /// budget.
    pub(super) fn has_room(&self, purpose: Purpose, (own, bytes): (u64, u64), budget: u64) -> bool {
        let others = self.in_use(purpose).saturating_sub(own);
        bytes == 0 || others == 0 || others.saturating_add(own).saturating_add(bytes) <= budget
    }

    /// Keeps so many more bytes for somebody who has `own` already: false where others leave no room.
    pub(super) fn reserve(&mut self, purpose: Purpose, (own, bytes): (u64, u64), budget: u64) -> bool {
        let granted = self.has_room(purpose, (own, bytes), budget);
        if granted {
            self.reserved += bytes;
        }
        granted
    }

    #[cfg(test)]
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    pub(super) fn release(&mut self, bytes: u64) {
        self.reserved -= bytes;
    }

    /// The bytes that cannot be evicted now: of files in use, and of what is being written.
    fn in_use(&self, purpose: Purpose) -> u64 {
        let counts = |entry: &&Entry| match purpose {
            Purpose::Download => true,
            Purpose::Pack => entry.sent,
        };
        let used = self.files.values().filter(|entry| Arc::strong_count(&entry.lease) > 1).filter(counts);
        used.map(|entry| entry.size).sum::<u64>().saturating_add(self.reserved)
    }

    pub(super) fn remove(&mut self, key: &FileKey) {
        self.files.remove(key);
    }

    /// The file that was used longest ago of those that nobody uses now, if all together are over `budget`.
    pub(super) fn surplus(&self, budget: u64) -> Option<FileKey> {
        let total: u64 = self.files.values().map(|entry| entry.size).sum();
        if total.saturating_add(self.reserved) <= budget {
            return None;
        }
        let idle = self.files.iter().filter(|(_, entry)| Arc::strong_count(&entry.lease) == 1);
        idle.min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone())
    }
}

/// The folder that a file is in.
pub(super) fn shard(directory: &Path, (scope, digest): &FileKey) -> PathBuf {
    let files = match scope {
        Scope::Public => directory.join(FILES),
        // The name of a namespace is a DNS label: no separator, no dots.
        Scope::Namespace(namespace) => directory.join(NAMESPACES).join(namespace).join(FILES),
    };
    files.join(shard_name(digest))
}

/// Where a file is put that goes, before it is removed: a crash in between leaves what the next scan sweeps.
pub(super) fn aside(directory: &Path, key: &FileKey) -> PathBuf {
    shard(directory, key).join(format!("{PARTIAL}{}", key.1.hex()))
}

/// Where a file is.
pub(super) fn path(directory: &Path, key: &FileKey) -> PathBuf {
    shard(directory, key).join(key.1.hex())
}

fn shard_name(digest: &Digest) -> String {
    format!("{:.2}", digest.hex())
}

type Found = (FileKey, u64, SystemTime);

fn scan_scope(files: &Path, scope: &Scope, found: &mut Vec<Found>) -> io::Result<()> {
    for shard in fs::read_dir(files)? {
        let shard = shard?;
        if shard.file_type()?.is_dir() {
            scan_shard(&shard.path(), scope, found)?;
        }
    }
    Ok(())
}

/// Finds the files of one folder and removes the leftovers of a crash. Foreign files are left alone.
fn scan_shard(shard: &Path, scope: &Scope, found: &mut Vec<Found>) -> io::Result<()> {
    for file in fs::read_dir(shard)? {
        let file = file?;
        let name = file.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(PARTIAL) {
            fs::remove_file(file.path())?;
            crash::point("open-store", "swept");
            continue;
        }
        let Ok(digest) = Digest::parse(&format!("sha256:{name}")) else { continue };
        let metadata = file.metadata()?;
        if metadata.is_file() && shard.file_name().is_some_and(|name| name == shard_name(&digest).as_str()) {
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(((scope.clone(), digest), metadata.len(), modified));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first_and_nothing_that_is_in_use() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| (Scope::Public, Digest::of(bytes)));
        let mut index = Index::default();
        for key in [&a, &b, &c] {
            index.add(key.clone(), Stamp::of_size(10));
        }
        drop(index.used(&a));
        assert_eq!(index.surplus(30), None, "all fit");
        assert_eq!(index.surplus(29), Some(b.clone()), "`a` was used since");
        let lease = index.used(&b).map(|known| known.lease);
        assert_eq!(index.surplus(29), Some(c.clone()), "`b` is in use");
        let other = index.add(c.clone(), Stamp::of_size(10));
        assert_eq!(index.surplus(0), Some(a.clone()), "`b` and `c` are in use");
        drop((lease, other));
        assert_eq!(index.surplus(0), Some(a), "nobody uses anything, and `a` was used before the others");
    }

    /// Of a budget of 100, with 40 of an archive and 30 of a ZIP in use: who gets how much.
    #[test]
    fn room_is_given_as_far_as_what_is_in_use_leaves_it() {
        use Purpose::{Download, Pack};
        for (purpose, own, bytes, granted) in [
            (Download, 0, 30, true),
            (Download, 0, 31, false),
            (Download, 0, 0, true),
            (Download, 20, 10, true),
            (Download, 20, 11, false),
            (Pack, 0, 70, true),
            (Pack, 0, 71, false),
        ] {
            let [archive, zip, idle] =
                [b"archive", &b"zip"[..], b"idle"].map(|bytes| (Scope::Public, Digest::of(bytes)));
            let mut index = Index { reserved: own, ..Index::default() };
            let _leases = [index.add(archive, Stamp::of_size(40)), index.add(zip.clone(), Stamp::of_size(30))];
            drop(index.add(idle, Stamp::of_size(1000)));
            index.is_sent(&zip);
            assert_eq!(index.reserve(purpose, (own, bytes), 100), granted, "{purpose:?} {own} {bytes}");
            assert_eq!(index.reserved, own + if granted { bytes } else { 0 });
        }
        let mut alone = Index { reserved: 10, ..Index::default() };
        assert!(alone.reserve(Download, (10, 1000), 100), "nobody else uses anything");
        assert!(!alone.reserve(Download, (0, 1), 100), "the next one has to wait");
        alone.release(1010);
        assert!(alone.reserve(Pack, (0, 1000), 100));
    }

    #[test]
    fn whoever_uses_a_file_uses_what_replaces_it() {
        let key = (Scope::Public, Digest::of(b"a"));
        let mut index = Index::default();
        let lease = index.add(key.clone(), Stamp::of_size(10));
        drop(index.add(key.clone(), Stamp::of_size(12)));
        assert_eq!(index.surplus(0), None);
        drop(lease);
        assert_eq!(index.surplus(0), Some(key));
    }
}
