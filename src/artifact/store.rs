//! The store: what was published and what is sent of it, on disk under their digests, the oldest out of use going first.
//!
//! Layout: `<directory>/sha256/<first two digits>/<64 digits>`, and the same below `namespaces/<namespace>/` for what was
//! fetched with credentials. A file is written beside its destination as `.partial-…` and renamed when it is whole,
//! verified and on the disk; so a file under a digest's name is complete, and what a crash leaves behind can be told by its
//! name. What was published and what is sent of it are one file where a ZIP was published, and two where it is packed;
//! which ZIP belongs to which artifact is remembered by the process alone, for the next version may pack otherwise.
//!
//! **Guarantees.** An [`Artifact`] was hashed and inspected by this process. One download a digest at a time, whoever
//! asks; a second one where another place is named and the first takes long. No partial file outlives its download, or the
//! next [`Store::open`] after a crash. Nothing in use is evicted.
//! Constant memory.
//! **Assumptions.** One process uses the directory at a time; two lose no more than a download.
//! **Absent.** Downloads that outlive their caller: dropping the future of [`Store::fetch`] ends it.

mod download;
mod index;
mod room;
mod turn;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tempfile::{NamedTempFile, TempPath};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use url::Url;

use self::download::Progress;
pub use self::download::{Downloaded, Stage};
use self::index::{FileKey, Index, Known, PARTIAL, Purpose, path, shard};
use self::room::Reservation;
use self::turn::Turn;
use super::digest::digest_of;
use super::format::Format;
use super::http::is_one_of;
use super::inspect::{InspectError, inspect};
use super::pack::{Packed, pack};
use super::{
    Artifact, ArtifactCredentials, Digest, FetchError, Key, Layer, Lease, Limits, Part, Place, Registries, Repository,
    Source, SourceField,
};
use crate::crash;
use crate::metrics::Metrics;
use crate::stamp::Stamp;

/// So many artifacts are remembered, and so many rejections; then all are forgotten, which costs a look at each file.
const MAX_REMEMBERED: usize = 10_000;

/// Artifacts on disk. Share it behind an `Arc`.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    limits: Limits,
    metrics: Arc<Metrics>,
    registries: Registries,
    index: Arc<Mutex<Index>>,
    remembered: Mutex<Remembered>,
    flights: Mutex<Flights>,
    downloads: Mutex<HashMap<FileKey, Weak<Turn<()>>>>,
}

/// The work that goes on, by the artifact; of those who waited for another place for too long by their own besides.
type Flights = HashMap<(Key, Option<Place>), Weak<Flight>>;

/// What this process found out.
#[derive(Debug, Default)]
struct Remembered {
    /// The ZIP that is sent of an artifact.
    uploads: HashMap<Key, Digest>,
    /// Why an artifact is not accepted: its bytes cannot change.
    rejected: HashMap<Key, String>,
}

/// The work on one artifact: whoever has the turn does it.
#[derive(Debug, Default)]
struct Flight {
    /// Guards the last failure, for those who waited.
    turn: Turn<Option<Failure>>,
    progress: Progress,
}

#[derive(Debug)]
struct Failure {
    source: Source,
    error: FetchError,
    at: Instant,
}

/// A file of the store that was hashed.
struct Verified {
    key: FileKey,
    stamp: Stamp,
    lease: Lease,
}

/// What is wanted of a source: the file, the folder in it that is the artifact's root, and where it is.
struct Wanted<'a> {
    file: Digest,
    folder: String,
    at: Address<'a>,
}

/// Where a file is.
enum Address<'a> {
    Url(&'a Url, SourceField),
    Layer(&'a Repository, Layer),
}

impl Store {
    /// Opens the store in `directory`, which is made if it is missing; partial downloads that a crash left are removed,
    /// and what is over the budget. Blocks for as long as it takes to list the directory; no file is read.
    pub fn open(directory: &Path, limits: Limits, metrics: Arc<Metrics>) -> io::Result<Self> {
        crash::point("open-store", "before");
        let mut index = Index::scan(directory)?;
        while let Some(key) = index.surplus(limits.store_budget) {
            index.remove(&key);
            fs::remove_file(path(directory, &key))?;
        }
        crash::point("open-store", "after");
        Ok(Self {
            directory: directory.to_owned(),
            registries: Registries::new(&limits),
            limits,
            metrics,
            index: Arc::new(Mutex::new(index)),
            remembered: Mutex::default(),
            flights: Mutex::default(),
            downloads: Mutex::default(),
        })
    }

    /// Whether a former process left what [`Store::check`] would read.
    #[must_use]
    pub fn is_unchecked(&self, key: &Key) -> bool {
        key.part == Part::Whole && self.holds(key) && self.upload(key).is_none() && self.rejection(key).is_ok()
    }

    /// Hashes and inspects what a former process left of this artifact, unless somebody is at it; a file that is not what its
    /// name says is removed. Takes as long as reading it, and asks nobody. What must be packed is left to [`Store::fetch`].
    pub async fn check(&self, key: &Key, stop: &CancellationToken) {
        let file = (key.scope.clone(), key.digest);
        let (flight, download) = (self.flight(key, None), self.download_turn(&file));
        // Whoever is at it looks at it as well.
        let (Some(_alone), Some(_of_file)) = (flight.turn.try_take(), download.try_take()) else { return };
        if let Ok(Some(verified)) = self.verify(&file, &flight.progress, stop).await
            && matches!(self.format(key, &verified).await, Ok(Format::Zip))
            && let Err(error @ FetchError::Rejected { .. }) =
                self.accept_zip(key, &verified, &flight.progress, stop).await
        {
            warn!(digest = %key.digest.short(), %error, "a stored artifact is not accepted any more");
        }
    }

    /// The artifact, if it is on disk as this process hashed and inspected it. Takes no longer than asking the file
    /// system for its times: what a former process left is hashed and inspected by [`Store::check`] and [`Store::fetch`].
    pub async fn get(&self, key: &Key) -> Option<Artifact> {
        let digest = self.upload(key)?;
        let file = (key.scope.clone(), digest);
        let Known { hashed, lease, .. } = self.known(&file).await?;
        Some(Artifact { digest, path: path(&self.directory, &file), stamp: hashed?, _lease: lease })
    }

    /// Whether what was published of it is on disk, checked or not: then [`Store::fetch`] has nothing to download. The layer
    /// of a manifest is known to that alone.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.index().holds(&(key.scope.clone(), key.digest))
    }

    /// How far the work on this artifact is: its download, or that it is checked or packed; of several downloads from
    /// different places the one that is furthest. `None`: nothing of the kind is under way.
    #[must_use]
    pub fn progress(&self, key: &Key) -> Option<Stage> {
        let flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let of_it = flights.iter().filter(|((of, _), _)| of == key).filter_map(|(_, flight)| flight.upgrade());
        of_it.filter_map(|flight| flight.progress.read()).max()
    }

    /// The digest that a tag names now.
    pub async fn resolve(
        &self,
        repository: &Repository,
        tag: &str,
        credentials: &ArtifactCredentials,
    ) -> Result<Digest, FetchError> {
        let outcome = self.registries.resolve(repository, tag, credentials).await;
        self.metrics.lookup(outcome.as_ref().map_or_else(FetchError::word, |_| "success"));
        outcome
    }

    /// The artifact, downloaded unless it is on disk. Callers who ask for one artifact at the same time share one
    /// download, and its failure if they name the same source. Who names another place than the one that is being asked
    /// waits for that no longer than [`Limits::patience`].
    ///
    /// An artifact that was rejected is rejected again without a download: its bytes cannot change.
    pub async fn fetch(&self, source: &Source, stop: &CancellationToken) -> Result<Artifact, FetchError> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(FetchError::Stopped),
            outcome = self.fetch_alone(source, stop) => outcome,
        }
    }

    async fn fetch_alone(&self, source: &Source, stop: &CancellationToken) -> Result<Artifact, FetchError> {
        let key = &source.key;
        let asked = Instant::now();
        self.rejection(key)?;
        if let Some(artifact) = self.get(key).await {
            return Ok(artifact);
        }
        let (flight, mut last_failure, patience) = self.begin(source).await;
        self.rejection(key)?;
        if let Some(artifact) = self.get(key).await {
            return Ok(artifact);
        }
        let shared = last_failure.as_ref().filter(|failure| failure.at >= asked && failure.source.is_same(source));
        if let Some(failure) = shared {
            return Err(failure.error.clone());
        }
        let mut asked_host = false;
        let outcome = self.obtain((source, patience), &flight, stop, &mut asked_host).await;
        if asked_host {
            self.metrics.download(outcome.as_ref().map_or_else(FetchError::word, |_| "success"));
        }
        if let Err(error) = &outcome {
            *last_failure = Some(Failure { source: source.clone(), error: error.clone(), at: Instant::now() });
        }
        outcome
    }

    /// Waits for the turn to work on an artifact; with it comes how long to wait for whoever asks another place.
    async fn begin(&self, source: &Source) -> (Arc<Flight>, OwnedMutexGuard<Option<Failure>>, Duration) {
        let (flight, patience) = (self.flight(&source.key, None), self.limits.patience);
        if let Some(turn) = flight.turn.take(&source.place, patience).await {
            return (flight, turn, patience);
        }
        // Those who name this place share what follows.
        let flight = self.flight(&source.key, Some(&source.place));
        let turn = flight.turn.wait().await;
        (flight, turn, Duration::ZERO)
    }

    async fn obtain(
        &self,
        (source, patience): (&Source, Duration),
        flight: &Flight,
        stop: &CancellationToken,
        asked_host: &mut bool,
    ) -> Result<Artifact, FetchError> {
        let (key, progress) = (&source.key, &flight.progress);
        let wanted = self.wanted(source).await.inspect_err(|_| *asked_host = true)?;
        let file = (key.scope.clone(), wanted.file);
        let alone = self.download_turn(&file);
        let published = {
            // Without it where another place is slow: each writes a file of its own until that is whole.
            let _alone = alone.take(&source.place, patience).await;
            if let Some(verified) = self.verify(&file, progress, stop).await? {
                verified
            } else {
                *asked_host = true;
                let _running = progress.begin_download();
                let downloaded = self.download(source, &wanted, &file, progress).await;
                self.make_room_if_full(&downloaded).await;
                downloaded?
            }
        };
        flight.turn.asks_no_more();
        let made = self.make_upload(key, &published, (&wanted.folder, progress), stop).await;
        // What was published is in use until here: the next try does not download it again.
        self.make_room_if_full(&made).await;
        let upload = match made {
            Err(error @ FetchError::Rejected { .. }) if key.part == Part::Whole => {
                // Nothing else can be made of it.
                drop(published);
                self.discard(|index| index.is_idle(&file).then(|| file.clone())).await;
                return Err(error);
            }
            made => made?,
        };
        // What it was packed of may go from now on.
        drop(published);
        self.make_room(0).await;
        debug!(digest = %key.digest.short(), upload = %upload.key.1.short(), size = upload.stamp.size, "artifact stored");
        let path = path(&self.directory, &upload.key);
        Ok(Artifact { digest: upload.key.1, path, stamp: upload.stamp, _lease: upload.lease })
    }

    /// The ZIP that is sent of what was published.
    async fn make_upload(
        &self,
        key: &Key,
        published: &Verified,
        (folder, progress): (&str, &Progress),
        stop: &CancellationToken,
    ) -> Result<Verified, FetchError> {
        match self.format(key, published).await? {
            Format::Zip if folder.is_empty() => self.accept_zip(key, published, progress, stop).await,
            Format::Zip => {
                let reason = format!(
                    "it is a ZIP file, which is sent as it is, and only its folder {folder} is asked for; publish a tar.gz, or a ZIP of that folder's contents"
                );
                self.settle(key, Err(InspectError::Rejected(reason)))
            }
            Format::Gzip | Format::Tar => {
                let _packing = progress.begin_packing();
                self.pack(key, published, folder, stop).await
            }
        }
    }

    /// Which file it is, and what is wanted of it. Asks the registry for the manifest, where it is one.
    async fn wanted<'a>(&self, source: &'a Source) -> Result<Wanted<'a>, FetchError> {
        let Key { digest, part, .. } = &source.key;
        match &source.place {
            Place::Url(url, field) => {
                let folder = if let Part::Folder(folder) = part { folder.clone() } else { String::new() };
                Ok(Wanted { file: *digest, folder, at: Address::Url(url, *field) })
            }
            Place::Oci(repository) => {
                let media_type = if let Part::Layer(media_type) = part { media_type.as_deref() } else { None };
                let layer = self.registries.layer(repository, digest, media_type, &source.credentials).await?;
                let folder = layer.folder.clone().unwrap_or_default();
                Ok(Wanted { file: layer.digest, folder, at: Address::Layer(repository, layer) })
            }
        }
    }

    /// An empty file beside the place where it will be kept.
    async fn partial(&self, key: &FileKey) -> Result<(fs::File, TempPath), FetchError> {
        let shard = shard(&self.directory, key);
        let made = blocking(move || {
            fs::create_dir_all(&shard)?;
            NamedTempFile::with_prefix_in(PARTIAL, &shard)
        });
        made.await.map(NamedTempFile::into_parts).map_err(|error: io::Error| disk(&error))
    }

    /// Gives a whole file its name, in such an order that the name never stands for less.
    async fn keep(
        &self,
        key: FileKey,
        (file, partial): (fs::File, TempPath),
        size: u64,
        room: Reservation,
    ) -> Result<Verified, FetchError> {
        if let Some(verified) = self.known_verified(&key).await {
            // Somebody else was faster, and may be sending it.
            return Ok(verified);
        }
        let (shard, destination, of) = (shard(&self.directory, &key), path(&self.directory, &key), key.clone());
        let kept = crash::around(
            "keep",
            blocking(move || {
                // It may have begun with what was thrown away.
                file.set_len(size)?;
                file.sync_all()?;
                crash::point("keep", "synced");
                fs::create_dir_all(&shard)?;
                let kept = room.becomes(&of, || {
                    partial.persist(&destination).map_err(|error| error.error)?;
                    stamp_of(&file)
                })?;
                crash::point("keep", "renamed");
                fs::File::open(shard)?.sync_all()?;
                crash::point("keep", "kept");
                Ok::<_, io::Error>(kept)
            }),
        );
        let (stamp, lease) = kept.await.map_err(|error| disk(&error))?;
        Ok(Verified { key, stamp, lease })
    }

    /// The file if it is on disk, hashed unless this process did so before. One that is not what its name says is removed.
    /// The caller has the file's turn, or has waited for it for long.
    async fn verify(
        &self,
        key: &FileKey,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Option<Verified>, FetchError> {
        let Some(Known { hashed, lease, .. }) = self.known(key).await else { return Ok(None) };
        if let Some(stamp) = hashed {
            return Ok(Some(Verified { key: key.clone(), stamp, lease }));
        }
        let _checking = progress.begin_checking();
        let (path, wanted, stop) = (path(&self.directory, key), key.1, stop.clone());
        match crash::around("check-artifact", blocking(move || hash(&path, &wanted, &stop))).await {
            Ok(Some(stamp)) => {
                let lease = self.index().add(key.clone(), stamp);
                return Ok(Some(Verified { key: key.clone(), stamp, lease }));
            }
            Err(InspectError::Stopped) => return Err(FetchError::Stopped),
            Ok(None) => warn!(digest = %key.1.short(), "a stored artifact is corrupt; it is dropped"),
            Err(error) => {
                // Reading failed, which says nothing about the file; a download would replace it.
                warn!(digest = %key.1.short(), ?error, "a stored artifact cannot be read");
                return Ok(None);
            }
        }
        // Who did not wait for the file's turn may have replaced it meanwhile.
        self.discard(|index| (!index.is_verified(key)).then(|| key.clone())).await;
        Ok(self.known_verified(key).await)
    }

    async fn format(&self, key: &Key, file: &Verified) -> Result<Format, FetchError> {
        let path = path(&self.directory, &file.key);
        let format = crash::around("tell-the-format", blocking(move || Format::of(fs::File::open(path)?))).await;
        self.settle(key, format)
    }

    /// Inspects a ZIP, which is sent as it is.
    async fn accept_zip(
        &self,
        key: &Key,
        file: &Verified,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Verified, FetchError> {
        let _checking = progress.begin_checking();
        let (path, limits, stop) = (path(&self.directory, &file.key), self.limits.clone(), stop.clone());
        let inspected =
            crash::around("inspect", blocking(move || inspect(fs::File::open(path)?, &limits, &stop))).await;
        self.settle(key, inspected)?;
        self.remember(key, file.key.1);
        Ok(Verified { key: file.key.clone(), stamp: file.stamp, lease: file.lease.clone() })
    }

    /// Packs a folder of an archive into a ZIP.
    async fn pack(
        &self,
        key: &Key,
        archive: &Verified,
        folder: &str,
        stop: &CancellationToken,
    ) -> Result<Verified, FetchError> {
        // How large it becomes is not known before; it is as large as what it is made of, more or less.
        let room = self.reserve(Purpose::Pack, archive.stamp.size).await?;
        let (partial, partial_path) = crash::around("make-a-partial", self.partial(&archive.key)).await?;
        let (source, part, folder) = (path(&self.directory, &archive.key), key.part.clone(), folder.to_owned());
        let (limits, stop) = (self.limits.clone(), stop.clone());
        let packed = crash::around(
            "pack",
            blocking(move || {
                let packed = pack(&fs::File::open(source)?, (&part, &folder), &limits, &partial, &stop)?;
                // Who waits for it may be gone before it is: the room is there until then.
                Ok::<_, InspectError>((packed, (partial, partial_path), room))
            }),
        );
        let (Packed { digest, size }, zip, room) = self.settle(key, packed.await)?;
        let upload = (key.scope.clone(), digest);
        // Another artifact may have been packed to the same.
        let kept = self.keep(upload, zip, size, room).await?;
        self.remember(key, digest);
        Ok(kept)
    }

    /// Turns a finding about an artifact's content into an error, and remembers it.
    fn settle<T>(&self, key: &Key, outcome: Result<T, InspectError>) -> Result<T, FetchError> {
        outcome.map_err(|error| match error {
            InspectError::Disk(error) => disk(&error),
            InspectError::Stopped => FetchError::Stopped,
            InspectError::Rejected(reason) => {
                let reason = match &key.part {
                    Part::Layer(Some(media_type)) => format!(
                        "of its layer of the media type {media_type}, which spec.source.oci.layerMediaType names: {reason}"
                    ),
                    Part::Layer(None) | Part::Whole | Part::Folder(_) => reason,
                };
                let mut remembered = self.remembered();
                if remembered.rejected.len() >= MAX_REMEMBERED {
                    remembered.rejected.clear();
                }
                remembered.rejected.insert(key.clone(), reason.clone());
                FetchError::Rejected { reason }
            }
        })
    }

    fn rejection(&self, key: &Key) -> Result<(), FetchError> {
        match self.remembered().rejected.get(key) {
            Some(reason) => Err(FetchError::Rejected { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn remember(&self, key: &Key, upload: Digest) {
        self.index().is_sent(&(key.scope.clone(), upload));
        let mut remembered = self.remembered();
        if remembered.uploads.len() >= MAX_REMEMBERED {
            remembered.uploads.clear();
        }
        remembered.uploads.insert(key.clone(), upload);
    }

    fn upload(&self, key: &Key) -> Option<Digest> {
        self.remembered().uploads.get(key).copied()
    }

    /// What is known of a file. Where it is not as it was when it was hashed, it was not.
    async fn known(&self, key: &FileKey) -> Option<Known> {
        let known = self.index().used(key)?;
        let found = tokio::fs::metadata(path(&self.directory, key)).await.ok();
        let now = found.as_ref().and_then(Stamp::of);
        let hashed = known.hashed.filter(|_| known.hashed == now);
        if hashed != known.hashed {
            // It was changed by another hand: it is read again.
            self.index().doubt(key, known.hashed);
        }
        Some(Known { hashed, ..known })
    }

    async fn known_verified(&self, key: &FileKey) -> Option<Verified> {
        let Known { hashed, lease, .. } = self.known(key).await?;
        Some(Verified { key: key.clone(), stamp: hashed?, lease })
    }

    /// Whether a URL is one of Flux's own hosts.
    #[must_use]
    pub fn is_of_flux(&self, url: &Url) -> bool {
        is_one_of(&self.limits.flux_hosts, url)
    }

    fn flight(&self, key: &Key, place: Option<&Place>) -> Arc<Flight> {
        shared(&mut self.flights.lock().unwrap_or_else(PoisonError::into_inner), &(key.clone(), place.cloned()))
    }

    fn download_turn(&self, key: &FileKey) -> Arc<Turn<()>> {
        shared(&mut self.downloads.lock().unwrap_or_else(PoisonError::into_inner), key)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        room::lock(&self.index)
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one value of this key that somebody uses, or a new one.
fn shared<K: Clone + Eq + std::hash::Hash, V: Default>(all: &mut HashMap<K, Weak<V>>, key: &K) -> Arc<V> {
    if let Some(value) = all.get(key).and_then(Weak::upgrade) {
        return value;
    }
    all.retain(|_, value| value.strong_count() > 0);
    let value = Arc::new(V::default());
    all.insert(key.clone(), Arc::downgrade(&value));
    value
}

/// The file as it is, if it hashes to `wanted`.
fn hash(path: &Path, wanted: &Digest, stop: &CancellationToken) -> Result<Option<Stamp>, InspectError> {
    let file = fs::File::open(path)?;
    // Before it is read: what changes it meanwhile is seen.
    let stamp = stamp_of(&file)?;
    let (digest, _) = digest_of(&file, stop)?.ok_or(InspectError::Stopped)?;
    Ok((digest == *wanted).then_some(stamp))
}

fn stamp_of(file: &fs::File) -> io::Result<Stamp> {
    Stamp::of(&file.metadata()?).ok_or_else(|| io::ErrorKind::IsADirectory.into())
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
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return FetchError::DiskFull,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            format!("--artifact-dir cannot be written to: {error}; have the operator's user own its volume")
        }
        _ => format!("{error}; see to the volume of --artifact-dir"),
    };
    FetchError::Disk { reason }
}

#[cfg(test)]
mod tests;
