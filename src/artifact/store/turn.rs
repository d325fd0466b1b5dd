//! Who works on an artifact or a file, one at a time, and who waits for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::sleep;

use crate::artifact::Place;

/// Whose turn it is. What it guards is kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Turn<T> {
    guarded: Arc<tokio::sync::Mutex<T>>,
    /// Which place is being asked by whoever has the turn.
    place: watch::Sender<Option<Place>>,
}

impl<T> Turn<T> {
    /// Waits for the turn; where somebody else is at it who asks another place, only for `patience`. That place may be
    /// slow, and who named it may be a stranger.
    pub(super) async fn take(&self, place: &Place, patience: Duration) -> Option<OwnedMutexGuard<T>> {
        let mut asked = self.place.subscribe();
        let another_is_asked_for_long = async {
            sleep(patience).await;
            let is_another = |asked: &Option<Place>| asked.as_ref().is_some_and(|asked| asked != place);
            // The sender is here.
            let _ = asked.wait_for(is_another).await;
        };
        tokio::select! {
            biased;
            guarded = self.guarded.clone().lock_owned() => {
                self.place.send_replace(Some(place.clone()));
                Some(guarded)
            }
            () = another_is_asked_for_long => None,
        }
    }

    /// Whoever has the turn asks nobody any more: what it does now is what everybody would.
    pub(super) fn asks_no_more(&self) {
        self.place.send_replace(None);
    }

    /// The turn, where nobody has it. Who takes it so asks nobody.
    pub(super) fn try_take(&self) -> Option<OwnedMutexGuard<T>> {
        let guarded = self.guarded.clone().try_lock_owned().ok()?;
        self.asks_no_more();
        Some(guarded)
    }

    /// Waits for the turn, however long.
    pub(super) async fn wait(&self) -> OwnedMutexGuard<T> {
        self.guarded.clone().lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future as _, poll_fn};
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

    use super::*;
    use crate::artifact::SourceField;

    fn place(path: &str) -> Place {
        Place::Url(format!("https://ci.example.com/{path}").parse().unwrap(), SourceField::Http)
    }

    #[tokio::test]
    async fn who_asks_another_place_is_waited_for_in_patience_and_who_asks_the_same_however_long() {
        let (turn, [one, other]) = (Arc::new(Turn::<()>::default()), ["one", "other"].map(place));
        let of_one = turn.take(&one, Duration::ZERO).await.unwrap();
        assert!(turn.take(&other, Duration::from_mins(1)).now_or_never().is_none(), "in patience");
        let polls = Arc::new(AtomicUsize::new(0));
        let waiting = {
            let (turn, one, polls) = (turn.clone(), one.clone(), polls.clone());
            tokio::spawn(async move {
                let mut waiting = pin!(turn.take(&one, Duration::ZERO));
                let counted = poll_fn(|context| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    waiting.as_mut().poll(context)
                });
                counted.await.is_some()
            })
        };
        // Each of these takes as long as having no patience.
        for _ in 0..50 {
            assert!(turn.take(&other, Duration::ZERO).await.is_none());
        }
        assert!(!waiting.is_finished());
        let polls = polls.load(Ordering::Relaxed);
        assert!((1..10).contains(&polls), "it does not ask again and again: {polls}");
        drop(of_one);
        assert!(waiting.await.unwrap(), "its turn has come");
    }

    #[tokio::test]
    async fn who_asks_nobody_is_waited_for() {
        let (turn, [one, other]) = (Turn::<()>::default(), ["one", "other"].map(place));
        let of_one = turn.take(&one, Duration::ZERO).await.unwrap();
        turn.asks_no_more();
        let waiting = turn.take(&other, Duration::ZERO);
        let its_turn = async {
            tokio::task::yield_now().await;
            drop(of_one);
        };
        assert!(tokio::join!(waiting, its_turn).0.is_some());
        let _of_one = turn.take(&one, Duration::ZERO).await.unwrap();
        assert!(turn.take(&other, Duration::ZERO).await.is_none(), "one is asked again");
    }
}
