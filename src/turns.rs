//! A bounded number of turns, of which no namespace can have all: passes take them, and downloads.
//!
//! First come, first served, within a namespace and among those that are within their share. So whoever holds turns for
//! long, such as by a slow host that it names, keeps its own namespace waiting, and of the others nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// The turns of all namespaces.
#[derive(Debug)]
pub struct Turns {
    all: Semaphore,
    share: usize,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A turn; dropping it gives it to the next.
#[derive(Debug)]
pub struct Turn<'a> {
    _of_namespace: OwnedSemaphorePermit,
    _of_all: SemaphorePermit<'a>,
}

impl Turns {
    /// So many turns. Where several namespaces take them, a quarter is each one's share, and at least one turn.
    #[must_use]
    pub fn new(turns: usize, several_namespaces: bool) -> Self {
        let share = if several_namespaces { (turns / 4).max(1) } else { turns };
        Self { all: Semaphore::new(turns), share, namespaces: Mutex::default() }
    }

    /// Waits for a turn of this namespace.
    ///
    /// # Errors
    ///
    /// None: nothing closes the semaphores.
    pub async fn take(&self, namespace: &str) -> Result<Turn<'_>, AcquireError> {
        // In this order: of those that wait for one of all, no namespace has more than its share.
        let of_namespace = self.of(namespace).acquire_owned().await?;
        Ok(Turn { _of_namespace: of_namespace, _of_all: self.all.acquire().await? })
    }

    fn of(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has or awaits a turn keeps its namespace's.
        namespaces.retain(|_, turns| Arc::strong_count(turns) > 1);
        Arc::clone(namespaces.entry(namespace.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.share))))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// The turn, where one is there at once.
    fn at_once<'a>(turns: &'a Turns, namespace: &str) -> Option<Turn<'a>> {
        turns.take(namespace).now_or_never().map(Result::unwrap)
    }

    #[test]
    fn a_namespace_that_keeps_its_turns_leaves_the_others_theirs() {
        let turns = Turns::new(16, true);
        let kept: Vec<_> = (0..4).map(|_| at_once(&turns, "slow").unwrap()).collect();
        assert!(at_once(&turns, "slow").is_none(), "a quarter is all that one namespace has");
        let others: Vec<_> = (0..12).map(|number| at_once(&turns, &format!("other-{}", number / 4)).unwrap()).collect();
        assert!(at_once(&turns, "fifth").is_none(), "sixteen are all there are");
        drop(others);
        assert!(at_once(&turns, "fifth").is_some() && at_once(&turns, "slow").is_none());
        drop(kept);
        assert!(at_once(&turns, "slow").is_some());
        assert_eq!(turns.namespaces.lock().unwrap().len(), 1, "those without a turn are forgotten");
    }

    #[test]
    fn the_only_namespace_has_all_turns_and_a_single_turn_goes_round() {
        let turns = Turns::new(4, false);
        let all: Vec<_> = (0..4).map(|_| at_once(&turns, "only").unwrap()).collect();
        assert!(at_once(&turns, "only").is_none());
        drop(all);
        let single = Turns::new(1, true);
        let first = at_once(&single, "one").unwrap();
        assert!(at_once(&single, "other").is_none());
        drop(first);
        assert!(at_once(&single, "other").is_some());
    }

    #[test]
    fn turns_go_in_the_order_in_which_they_were_asked_for() {
        let turns = Turns::new(4, true);
        let first = at_once(&turns, "one").unwrap();
        let mut second = Box::pin(turns.take("one"));
        let mut third = Box::pin(turns.take("one"));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(first);
        assert!((&mut third).now_or_never().is_none(), "the second asked before");
        let second = second.now_or_never().unwrap();
        drop(second);
        assert!(third.now_or_never().is_some());
    }
}
