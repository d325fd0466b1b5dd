//! The store: artifacts on disk under their digest, verified before they are handed out, the oldest in use going first.
//!
//! Layout: `<directory>/sha256/<first two digits>/<64 digits>`. A download goes into a `.partial-` file beside its
//! destination and is renamed when it is whole, verified, inspected and on the disk; so a file under a digest's name is
//! complete, and what a crash leaves behind can be told by its name.
//!
//! **Guarantees.** An [`Artifact`] was hashed and inspected by this process. One download a digest at a time, whoever
//! asks. No partial file outlives its download, or the next [`Store::open`] after a crash. Constant memory.
//! **Assumptions.** One process uses the directory at a time; two lose no more than a download.
//! **Absent.** Other names for an artifact than its digest, and downloads that outlive their caller: dropping the
//! future of [`Store::fetch`] ends it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use secrecy::ExposeSecret;
use tempfile::{NamedTempFile, TempPath};
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::digest::Hasher;
use super::http::Body;
use super::inspect::{InspectError, inspect};
use super::{Artifact, Auth, Digest, FetchError, HttpSource, Limits};
use crate::crash;
use crate::metrics::Metrics;

const PARTIAL: &str = ".partial-";
/// Of writes while downloading, and of reads while verifying.
const BUFFER: usize = 256 << 10;
/// So many rejections are remembered; then all are forgotten, which costs a download each.
const MAX_REJECTED: usize = 1000;

/// Artifacts on disk. Share it behind an `Arc`.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    limits: Limits,
    metrics: Arc<Metrics>,
    index: Mutex<Index>,
    flights: Mutex<HashMap<Digest, Weak<Flight>>>,
}

#[derive(Debug, Default)]
struct Index {
    files: HashMap<Digest, Entry>,
    rejected: HashMap<Digest, String>,
    /// Counts uses: the entry with the smallest number was used longest ago.
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    used: u64,
    /// Whether this process has hashed and inspected it.
    verified: bool,
}

/// The work on one digest: whoever holds the lock does it. Inside is the last failure, for those who waited.
type Flight = tokio::sync::Mutex<Option<Failure>>;

#[derive(Debug)]
struct Failure {
    source: HttpSource,
    error: FetchError,
    at: Instant,
}

enum Look {
    Absent,
    Unverified,
    Ready(Artifact),
}

impl Store {
    /// Opens the store in `directory`, which is made if it is missing; partial downloads that a crash left are removed,
    /// and what is over the budget. Blocks for as long as it takes to list the directory; no file is read.
    pub fn open(directory: &Path, limits: Limits, metrics: Arc<Metrics>) -> io::Result<Self> {
        let directory = directory.join("sha256");
        fs::create_dir_all(&directory)?;
        let mut found = Vec::new();
        crash::point("open-store", "before");
        for shard in fs::read_dir(&directory)? {
            let shard = shard?;
            if shard.file_type()?.is_dir() {
                scan(&shard.path(), &mut found)?;
            }
        }
        found.sort_unstable_by_key(|(_, _, modified)| *modified);
        let mut index = Index::default();
        for (digest, size, _) in found {
            index.insert(digest, size, false);
        }
        while let Some(digest) = index.surplus(limits.store_budget, None) {
            index.files.remove(&digest);
            fs::remove_file(directory.join(shard_name(&digest)).join(digest.hex()))?;
        }
        crash::point("open-store", "after");
        Ok(Self { directory, limits, metrics, index: Mutex::new(index), flights: Mutex::default() })
    }

    /// Hashes and inspects what a former process left under this digest, unless this one did so before; a file that is not
    /// what its name says is removed. Takes as long as reading it.
    pub async fn check(&self, digest: &Digest) {
        if matches!(self.look(digest).await, Look::Unverified) {
            let flight = self.flight(digest);
            let _alone = flight.lock().await;
            self.verify(digest).await;
        }
    }

    /// The artifact, if it is on disk and this process has hashed and inspected it. Takes no longer than asking the file
    /// system for its size: what a former process left is hashed and inspected by [`Store::check`] and [`Store::fetch`].
    pub async fn get(&self, digest: &Digest) -> Option<Artifact> {
        match self.look(digest).await {
            Look::Ready(artifact) => Some(artifact),
            Look::Absent | Look::Unverified => None,
        }
    }

    /// The artifact, downloaded unless it is on disk. Callers who ask for one digest at the same time share one
    /// download, and its failure if they name the same source.
    ///
    /// An artifact that was rejected is rejected again without a download: its bytes cannot change.
    pub async fn fetch(&self, source: &HttpSource, stop: &CancellationToken) -> Result<Artifact, FetchError> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(FetchError::Stopped),
            outcome = self.fetch_alone(source) => outcome,
        }
    }

    async fn fetch_alone(&self, source: &HttpSource) -> Result<Artifact, FetchError> {
        let digest = &source.digest;
        let asked = Instant::now();
        self.rejection(digest)?;
        if let Look::Ready(artifact) = self.look(digest).await {
            return Ok(artifact);
        }
        let flight = self.flight(digest);
        let mut last_failure = flight.lock().await;
        let on_disk = self.verify(digest).await;
        self.rejection(digest)?;
        if let Some(artifact) = on_disk {
            return Ok(artifact);
        }
        if let Some(failure) =
            last_failure.as_ref().filter(|failure| failure.at >= asked && same(&failure.source, source))
        {
            return Err(failure.error.clone());
        }
        let outcome = self.download(source).await;
        self.metrics.download(outcome.as_ref().map_or_else(FetchError::word, |_| "success"));
        if let Err(error) = &outcome {
            *last_failure = Some(Failure { source: source.clone(), error: error.clone(), at: Instant::now() });
        }
        outcome
    }

    async fn download(&self, source: &HttpSource) -> Result<Artifact, FetchError> {
        let digest = source.digest;
        let mut body = crash::around("download", Body::open(source, &self.limits)).await?;
        let length = body.length().unwrap_or(0);
        self.make_room(length, None).await;

        let destination = self.path(&digest);
        let shard = self.shard(&digest);
        let partial = crash::around(
            "make-a-partial",
            blocking(move || {
                fs::create_dir_all(&shard)?;
                NamedTempFile::with_prefix_in(PARTIAL, &shard)
            }),
        );
        let (file, partial) = partial.await.map_err(|error| disk(&error))?.into_parts();
        let mut writer = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(file));
        let mut hasher = Hasher::new();
        let mut size = 0;
        while let Some(bytes) = body.next().await? {
            hasher.update(&bytes);
            size += bytes.len() as u64;
            self.metrics.downloaded(bytes.len() as u64);
            writer.write_all(&bytes).await.map_err(|error| disk(&error))?;
            if (size - bytes.len() as u64..size).contains(&(length / 2)) {
                crash::point("download", "half");
            }
        }
        writer.flush().await.map_err(|error| disk(&error))?;
        let got = hasher.finish();
        crash::point("download", "hashed");
        if got != digest {
            return Err(body.mismatch(digest, got));
        }
        let file = writer.into_inner().into_std().await;
        let limits = self.limits.clone();
        let path = destination.clone();
        let kept = blocking(move || keep(&file, partial, &path, &limits)).await;
        self.settle(&digest, kept)?;
        self.index().insert(digest, size, true);
        self.make_room(0, Some(&digest)).await;
        debug!(digest = %digest.short(), size, "artifact stored");
        Ok(Artifact { digest, path: destination, size })
    }

    /// What is known without reading the file. Changes nothing but the order of use.
    async fn look(&self, digest: &Digest) -> Look {
        let (size, verified) = match self.index().used(digest) {
            None => return Look::Absent,
            Some(entry) => (entry.size, entry.verified),
        };
        let path = self.path(digest);
        let in_place = tokio::fs::metadata(&path).await.is_ok_and(|file| file.is_file() && file.len() == size);
        if verified && in_place { Look::Ready(Artifact { digest: *digest, path, size }) } else { Look::Unverified }
    }

    /// The artifact if it is on disk, hashed and inspected unless this process did so before. A file that is not what
    /// its name says is removed. The caller holds the digest's lock.
    async fn verify(&self, digest: &Digest) -> Option<Artifact> {
        match self.look(digest).await {
            Look::Absent => return None,
            Look::Ready(artifact) => return Some(artifact),
            Look::Unverified => {}
        }
        let (path, wanted, limits) = (self.path(digest), *digest, self.limits.clone());
        let checked = crash::around("check-artifact", blocking(move || check_file(&path, &wanted, &limits))).await;
        match self.settle(digest, checked) {
            Ok(Some(size)) => {
                self.index().insert(*digest, size, true);
                return Some(Artifact { digest: *digest, path: self.path(digest), size });
            }
            Ok(None) => warn!(digest = %digest.short(), "a stored artifact is corrupt; it is dropped"),
            Err(error @ FetchError::Rejected { .. }) => {
                warn!(digest = %digest.short(), %error, "a stored artifact is not accepted any more; it is dropped");
            }
            Err(error) => {
                // Reading failed, which says nothing about the file; a download would replace it.
                warn!(digest = %digest.short(), %error, "a stored artifact cannot be read");
                return None;
            }
        }
        self.discard(digest).await;
        None
    }

    /// Turns a finding about a digest's content into an error, and remembers it.
    fn settle<T>(&self, digest: &Digest, outcome: Result<T, InspectError>) -> Result<T, FetchError> {
        outcome.map_err(|error| match error {
            InspectError::Disk(error) => disk(&error),
            InspectError::Stopped => FetchError::Stopped,
            InspectError::Rejected(reason) => {
                let mut index = self.index();
                if index.rejected.len() >= MAX_REJECTED {
                    index.rejected.clear();
                }
                index.rejected.insert(*digest, reason.clone());
                FetchError::Rejected { reason }
            }
        })
    }

    fn rejection(&self, digest: &Digest) -> Result<(), FetchError> {
        match self.index().rejected.get(digest) {
            Some(reason) => Err(FetchError::Rejected { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Evicts what was used longest ago until `incoming` more bytes fit the budget. Files that somebody has open live
    /// on until they are closed.
    async fn make_room(&self, incoming: u64, keep: Option<&Digest>) {
        let budget = self.limits.store_budget.saturating_sub(incoming);
        loop {
            let surplus = self.index().surplus(budget, keep);
            let Some(digest) = surplus else { return };
            debug!(digest = %digest.short(), "artifact evicted");
            self.discard(&digest).await;
        }
    }

    async fn discard(&self, digest: &Digest) {
        self.index().files.remove(digest);
        match crash::around("discard", tokio::fs::remove_file(self.path(digest))).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(digest = %digest.short(), %error, "a stored artifact cannot be removed");
            }
            _ => {}
        }
    }

    fn flight(&self, digest: &Digest) -> Arc<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(digest).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(Flight::default());
        flights.insert(*digest, Arc::downgrade(&flight));
        flight
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // Every change of the index is whole before anything can panic.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard(&self, digest: &Digest) -> PathBuf {
        self.directory.join(shard_name(digest))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.shard(digest).join(digest.hex())
    }
}

impl Index {
    fn insert(&mut self, digest: Digest, size: u64, verified: bool) {
        self.uses += 1;
        self.files.insert(digest, Entry { size, used: self.uses, verified });
    }

    fn used(&mut self, digest: &Digest) -> Option<&Entry> {
        self.uses += 1;
        let entry = self.files.get_mut(digest)?;
        entry.used = self.uses;
        Some(entry)
    }

    /// The file that was used longest ago, if all together are over `budget`.
    fn surplus(&self, budget: u64, keep: Option<&Digest>) -> Option<Digest> {
        let total: u64 = self.files.values().map(|entry| entry.size).sum();
        if total <= budget {
            return None;
        }
        let others = self.files.iter().filter(|(digest, _)| Some(*digest) != keep);
        others.min_by_key(|(_, entry)| entry.used).map(|(digest, _)| *digest)
    }
}

fn shard_name(digest: &Digest) -> String {
    format!("{:.2}", digest.hex())
}

fn same(one: &HttpSource, other: &HttpSource) -> bool {
    let auth = match (&one.auth, &other.auth) {
        (None, None) => true,
        (
            Some(Auth::Basic { username: user_one, password: one }),
            Some(Auth::Basic { username: user_other, password: other }),
        ) => user_one == user_other && one.expose_secret() == other.expose_secret(),
        (Some(Auth::Bearer(one)), Some(Auth::Bearer(other))) => one.expose_secret() == other.expose_secret(),
        _ => false,
    };
    auth && one.url == other.url && one.digest == other.digest && one.ca == other.ca
}

/// Finds the artifacts of one folder and removes the leftovers of a crash. Foreign files are left alone.
fn scan(shard: &Path, found: &mut Vec<(Digest, u64, SystemTime)>) -> io::Result<()> {
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
            found.push((digest, metadata.len(), metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
        }
    }
    Ok(())
}

/// Inspects a whole download and gives it its name, in such an order that the name never stands for less.
fn keep(file: &fs::File, partial: TempPath, destination: &Path, limits: &Limits) -> Result<(), InspectError> {
    inspect(file, limits, &CancellationToken::new())?;
    crash::point("keep", "inspected");
    file.sync_all()?;
    crash::point("keep", "synced");
    partial.persist(destination).map_err(|error| error.error)?;
    crash::point("keep", "renamed");
    if let Some(shard) = destination.parent() {
        fs::File::open(shard)?.sync_all()?;
    }
    crash::point("keep", "kept");
    Ok(())
}

/// The size of the file if it hashes to `wanted`; then it is also inspected, and marked as used for the next process.
fn check_file(path: &Path, wanted: &Digest, limits: &Limits) -> Result<Option<u64>, InspectError> {
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; BUFFER];
    let mut hasher = Hasher::new();
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => {
                hasher.update(&buffer[..length]);
                size += length as u64;
            }
        }
    }
    if hasher.finish() != *wanted {
        return Ok(None);
    }
    inspect(&file, limits, &CancellationToken::new())?;
    // Only the order of eviction after a restart depends on it.
    if let Err(error) = fs::File::open(path).and_then(|file| file.set_modified(crate::clock::system())) {
        debug!(%error, "the use of an artifact cannot be marked");
    }
    Ok(Some(size))
}

async fn blocking<T: Send + 'static, E: From<io::Error> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        // It panicked, or the runtime shuts down.
        Err(error) => Err(io::Error::other(error).into()),
    }
}

fn disk(error: &io::Error) -> FetchError {
    let reason = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full; enlarge the volume of --artifact-dir".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            format!("--artifact-dir cannot be written to: {error}")
        }
        _ => error.to_string(),
    };
    FetchError::Disk { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Digest::of(bytes));
        let mut index = Index::default();
        for digest in [a, b, c] {
            index.insert(digest, 10, true);
        }
        index.used(&a);
        assert_eq!(index.surplus(30, None), None, "all fit");
        assert_eq!(index.surplus(29, None), Some(b), "`a` was used since");
        assert_eq!(index.surplus(29, Some(&b)), Some(c), "`b` must stay");
        index.files.retain(|digest, _| *digest == b);
        assert_eq!(index.surplus(0, Some(&b)), None, "nothing else is left");
    }

    #[tokio::test]
    async fn a_failure_is_shared_only_with_those_who_waited_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Limits::default(), Arc::default()).unwrap();
        // Refused before anything is asked.
        let url = "ftp://ci.example.com/shop.zip".parse().unwrap();
        let source = HttpSource { url, digest: Digest::of(b"a"), auth: None, ca: None };
        // Somebody still waits for the digest with a source of his own, so an old failure is still there.
        let flight = store.flight(&source.digest);
        *flight.lock().await = Some(Failure { source: source.clone(), error: FetchError::Stopped, at: Instant::now() });
        let error = store.fetch(&source, &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
    }
}
