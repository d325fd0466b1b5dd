//! Who works on an artifact or a file, one at a time, and who waits for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use crate::artifact::Place;

/// Whose turn it is. What it guards is kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Turn<T> {
    guarded: Arc<tokio::sync::Mutex<T>>,
    /// Which place is being asked by whoever has the turn.
    place: Mutex<Option<Place>>,
}

impl<T> Turn<T> {
    /// Waits for the turn; where somebody else is at it who asks another place, only for `patience`. That place may be
    /// slow, and who named it may be a stranger.
    pub(super) async fn take(&self, place: &Place, patience: Duration) -> Option<OwnedMutexGuard<T>> {
        loop {
            if let Ok(guarded) = timeout(patience, self.guarded.clone().lock_owned()).await {
                *self.place() = Some(place.clone());
                return Some(guarded);
            }
            if self.place().as_ref().is_some_and(|asked| asked != place) {
                return None;
            }
        }
    }

    /// Whoever has the turn asks nobody any more: what it does now is what everybody would.
    pub(super) fn asks_no_more(&self) {
        *self.place() = None;
    }

    /// Waits for the turn, however long.
    pub(super) async fn wait(&self) -> OwnedMutexGuard<T> {
        self.guarded.clone().lock_owned().await
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
