//! Room on disk: what may be written, and what goes for it.
//!
//! **Guarantee.** What is kept and what is being written is never more than the budget and, for each download that runs,
//! one file of the largest size: an archive and the ZIP that is packed of it come to no more than that beyond what is
//! reserved for the ZIP. The chart's emptyDir is of that size.

use std::io;

use tracing::{debug, warn};

use super::Store;
use super::index::{FileKey, Purpose, path};
use crate::artifact::FetchError;
use crate::crash;

impl Store {
    /// Makes room for what is about to be written, and keeps it until that is a file of the store, or given up.
    pub(super) async fn reserve(&self, purpose: Purpose, incoming: u64) -> Result<Reservation<'_>, FetchError> {
        let mut room = Reservation { store: self, purpose, bytes: 0 };
        room.grow_to(incoming).await?;
        Ok(room)
    }

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

    pub(super) async fn make_room_within(&self, budget: u64) {
        loop {
            let surplus = self.index().surplus(budget);
            let Some(key) = surplus else { return };
            debug!(digest = %key.1.short(), "artifact evicted");
            self.discard(&key).await;
        }
    }

    pub(super) async fn discard(&self, key: &FileKey) {
        self.index().remove(key);
        match crash::around("discard", tokio::fs::remove_file(path(&self.directory, key))).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(digest = %key.1.short(), %error, "a stored artifact cannot be removed");
            }
            _ => {}
        }
    }
}

/// Room for what is being written.
pub(super) struct Reservation<'a> {
    store: &'a Store,
    pub(super) purpose: Purpose,
    pub(super) bytes: u64,
}

impl Reservation<'_> {
    /// Has room for so many bytes in all.
    ///
    /// # Errors
    ///
    /// Others are in use, and leave no room. One that is alone may be larger than the budget.
    pub(super) async fn grow_to(&mut self, bytes: u64) -> Result<(), FetchError> {
        let Some(more) = bytes.checked_sub(self.bytes) else { return Ok(()) };
        self.store.make_room(more).await;
        if !self.store.index().reserve(self.purpose, (self.bytes, more), self.store.limits.store_budget) {
            let reason =
                "the artifacts that are in use leave no room in --artifact-dir-size; enlarge it, or wait".to_owned();
            return Err(FetchError::Disk { reason });
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.store.index().release(self.bytes);
    }
}
