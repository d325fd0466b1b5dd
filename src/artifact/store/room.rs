//! Room on disk: what may be written, and what goes for it.
//!
//! **Guarantee.** What is kept and what is being written is never more than the budget and, for each download that runs,
//! one file of the largest size: an archive and the ZIP that is packed of it come to no more than that beyond what is
//! reserved for the ZIP. The chart's emptyDir is of that size.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{debug, warn};

use super::Store;
use super::index::{FileKey, Index, Purpose, aside, path};
use crate::artifact::{FetchError, Lease};
use crate::crash;
use crate::stamp::Stamp;

impl Store {
    /// Evicts what was used longest ago until `incoming` more bytes fit the budget, or all that is left is in use.
    pub(super) async fn make_room(&self, incoming: u64) {
        self.make_room_within(self.limits.store_budget.saturating_sub(incoming)).await;
    }

    /// Where the disk was full, what is not in use goes, for it can be had again: the next try has the room.
    pub(super) async fn make_room_if_full<T>(&self, outcome: &Result<T, FetchError>) {
        if matches!(outcome, Err(FetchError::DiskFull)) {
            self.make_room_within(0).await;
        }
    }

    async fn make_room_within(&self, budget: u64) {
        while self.discard(|index| index.surplus(budget)).await {}
    }

    /// Removes the file that `choose` names; false where it names none.
    pub(super) async fn discard(&self, choose: impl FnOnce(&Index) -> Option<FileKey>) -> bool {
        let Some((key, aside)) = self.set_aside(choose) else { return false };
        debug!(digest = %key.1.short(), "a stored artifact is removed");
        let removed = match aside {
            Ok(aside) => crash::around("discard", tokio::fs::remove_file(aside)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(digest = %key.1.short(), %error, "a stored artifact cannot be removed");
        }
        true
    }

    /// Takes a file out of the index and out of its place in one step: who has a lease by then was seen, and what is put in
    /// that place from then on is another file, which stays. Where it is until it is removed.
    pub(super) fn set_aside(
        &self,
        choose: impl FnOnce(&Index) -> Option<FileKey>,
    ) -> Option<(FileKey, io::Result<PathBuf>)> {
        let mut index = self.index();
        let key = choose(&index)?;
        index.remove(&key);
        let (path, aside) = (path(&self.directory, &key), aside(&self.directory, &key));
        let moved = fs::rename(&path, &aside).map(|()| aside);
        drop(index);
        crash::point("discard", "aside");
        Some((key, moved))
    }

    /// Makes room for what is about to be written, and keeps it until that is a file of the store, or given up.
    ///
    /// # Errors
    ///
    /// Others are in use, and leave no room. One that is alone may be larger than the budget.
    pub(super) async fn reserve(&self, purpose: Purpose, bytes: u64) -> Result<Reservation, FetchError> {
        let mut room = Reservation { index: Arc::clone(&self.index), purpose, bytes: 0 };
        self.grow(&mut room, bytes).await?;
        Ok(room)
    }

    /// Has room for so many bytes in all.
    pub(super) async fn grow(&self, room: &mut Reservation, bytes: u64) -> Result<(), FetchError> {
        let Some(more) = bytes.checked_sub(room.bytes) else { return Ok(()) };
        self.make_room(more).await;
        if !self.index().reserve(room.purpose, (room.bytes, more), self.limits.store_budget) {
            return Err(no_room());
        }
        room.bytes = bytes;
        Ok(())
    }

    /// Fails where so many bytes in all would find no room now. Nothing goes for them and nothing is kept: a host that only
    /// announces them must keep nobody from his.
    pub(super) fn expect(&self, room: &Reservation, bytes: u64) -> Result<(), FetchError> {
        let more = (room.bytes, bytes.saturating_sub(room.bytes));
        if self.index().has_room(room.purpose, more, self.limits.store_budget) { Ok(()) } else { Err(no_room()) }
    }
}

fn no_room() -> FetchError {
    let reason = "the artifacts that are in use leave no room in --artifact-dir-size; enlarge it, or wait".to_owned();
    FetchError::Disk { reason }
}

/// Room for what is being written.
pub(super) struct Reservation {
    index: Arc<Mutex<Index>>,
    purpose: Purpose,
    bytes: u64,
}

impl Reservation {
    /// In bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file is put in its place and into the index in one step, and has the room by itself from then on.
    pub(super) fn becomes(
        mut self,
        key: &FileKey,
        put_in_place: impl FnOnce() -> io::Result<Stamp>,
    ) -> io::Result<(Stamp, Lease)> {
        let index = Arc::clone(&self.index);
        let mut index = lock(&index);
        let stamp = put_in_place()?;
        index.release(std::mem::take(&mut self.bytes));
        let lease = index.add(key.clone(), stamp);
        if self.purpose == Purpose::Pack {
            index.is_sent(key);
        }
        Ok((stamp, lease))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        lock(&self.index).release(self.bytes);
    }
}

pub(super) fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    // Every change of the index is whole before anything can panic.
    index.lock().unwrap_or_else(PoisonError::into_inner)
}
