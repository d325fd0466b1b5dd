//! One download: from its host into a file of the store, hashed on the way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};

use super::index::{FileKey, Purpose};
use super::{Address, Store, Verified, Wanted, disk};
use crate::artifact::digest::Hasher;
use crate::artifact::http::{Body, Chunk};
use crate::artifact::{FetchError, Source};
use crate::crash;

/// Of writes to the file, in bytes.
const BUFFER: usize = 256 << 10;
/// How many bytes more are reserved at once while a file comes.
const STEP: u64 = 1 << 20;

/// How far the work on one artifact is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    work: Mutex<Option<Work>>,
    bytes: AtomicU64,
    /// Zero where it is not known.
    total: AtomicU64,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// It is downloaded, since then.
    Download(Instant),
    /// What is on disk is hashed or inspected.
    Check,
    /// It is packed.
    Pack,
}

/// How far the work on one artifact is; what is further on is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It is downloaded, and so far.
    Downloading(Downloaded),
    /// It is on disk, and is hashed or inspected.
    Checking,
    /// It is packed into the ZIP that is sent.
    Packing,
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Downloaded {
    /// The bytes that came.
    pub bytes: u64,
    /// The bytes that there are, where the server said so.
    pub total: Option<u64>,
    /// How long it has run.
    pub running_for: Duration,
}

impl Store {
    /// Downloads the wanted file. The caller has its turn, or has waited for it for long.
    pub(super) async fn download(
        &self,
        source: &Source,
        wanted: &Wanted<'_>,
        file: &FileKey,
        progress: &Progress,
    ) -> Result<Verified, FetchError> {
        let mut body = crash::around("download", self.open_body(source, wanted)).await?;
        let mut length = wanted.length(&body).unwrap_or(0);
        progress.total.store(length, Ordering::Relaxed);
        let mut room = self.reserve(Purpose::Download, 0).await?;
        self.expect(&room, length)?;

        let (partial, path) = crash::around("make-a-partial", self.partial(file)).await?;
        let mut writer = BufWriter::with_capacity(BUFFER, tokio::fs::File::from_std(partial));
        let mut hasher = Hasher::new();
        let mut size = 0;
        while let Some(chunk) = body.next().await? {
            let Chunk::Bytes(bytes) = chunk else {
                length = wanted.length(&body).unwrap_or(0);
                progress.total.store(length, Ordering::Relaxed);
                self.expect(&room, length)?;
                (hasher, size) = (Hasher::new(), 0);
                writer.rewind().await.map_err(|error| disk(&error))?;
                continue;
            };
            hasher.update(&bytes);
            size += bytes.len() as u64;
            progress.bytes.store(size, Ordering::Relaxed);
            self.metrics.downloaded(bytes.len() as u64);
            if size > room.bytes() {
                let ahead = size.next_multiple_of(STEP);
                self.grow(&mut room, if size <= length { ahead.min(length) } else { ahead }).await?;
            }
            writer.write_all(&bytes).await.map_err(|error| disk(&error))?;
            if (size - bytes.len() as u64..size).contains(&(length / 2)) {
                crash::point("download", "half");
            }
        }
        writer.flush().await.map_err(|error| disk(&error))?;
        let got = hasher.finish();
        crash::point("download", "hashed");
        if got != wanted.file {
            return Err(body.mismatch(wanted.file, got));
        }
        let whole = writer.into_inner().into_std().await;
        self.keep(file.clone(), (whole, path), size, room).await
    }

    async fn open_body(&self, source: &Source, wanted: &Wanted<'_>) -> Result<Body, FetchError> {
        let credentials = &source.credentials;
        match &wanted.at {
            Address::Layer(repository, layer) => self.registries.blob(repository, layer, credentials).await,
            Address::Url(url, field) => Body::open(url, *field, credentials, &self.limits).await,
        }
    }
}

impl Wanted<'_> {
    /// How long the file is that arrives, where its host or the manifest said so.
    fn length(&self, body: &Body) -> Option<u64> {
        let of_manifest = match &self.at {
            Address::Layer(_, layer) => Some(layer.size),
            Address::Url(..) => None,
        };
        body.length().or(of_manifest)
    }
}

/// Marks work as under way for as long as it lives.
pub(super) struct Running<'a>(&'a Progress);

impl Progress {
    pub(super) fn begin_download(&self) -> Running<'_> {
        self.bytes.store(0, Ordering::Relaxed);
        self.total.store(0, Ordering::Relaxed);
        self.begin(Work::Download(Instant::now()))
    }

    pub(super) fn begin_checking(&self) -> Running<'_> {
        self.begin(Work::Check)
    }

    pub(super) fn begin_packing(&self) -> Running<'_> {
        self.begin(Work::Pack)
    }

    fn begin(&self, work: Work) -> Running<'_> {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        Running(self)
    }

    pub(super) fn read(&self) -> Option<Stage> {
        let since = match (*self.work.lock().unwrap_or_else(PoisonError::into_inner))? {
            Work::Download(since) => since,
            Work::Check => return Some(Stage::Checking),
            Work::Pack => return Some(Stage::Packing),
        };
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0);
        let bytes = self.bytes.load(Ordering::Relaxed);
        Some(Stage::Downloading(Downloaded { bytes, total, running_for: since.elapsed() }))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.work.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_told_while_it_is_done() {
        let progress = Progress::default();
        let told = |progress: &Progress| match progress.read() {
            None => "nothing".to_owned(),
            Some(Stage::Downloading(far)) => format!("{} of {:?}", far.bytes, far.total),
            Some(Stage::Checking) => "checking".to_owned(),
            Some(Stage::Packing) => "packing".to_owned(),
        };
        assert_eq!(told(&progress), "nothing");
        let download = progress.begin_download();
        assert_eq!(told(&progress), "0 of None");
        progress.total.store(9, Ordering::Relaxed);
        progress.bytes.store(4, Ordering::Relaxed);
        assert_eq!(told(&progress), "4 of Some(9)");
        drop(download);
        assert_eq!(told(&progress), "nothing", "it is kept");
        let checking = progress.begin_checking();
        assert_eq!(told(&progress), "checking");
        drop(checking);
        let packing = progress.begin_packing();
        assert_eq!(told(&progress), "packing");
        drop(packing);
        assert_eq!(told(&progress), "nothing");
        let _once_more = progress.begin_download();
        assert_eq!(told(&progress), "0 of None", "not what came the last time");
    }
}
