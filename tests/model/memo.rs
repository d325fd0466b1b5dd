//! What a search need not work out twice: the decisions are functions of what they are given.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use konigle_operator::desired::Desired;
use konigle_operator::observation::Observation;

use crate::shared::Text;
use crate::world::Status;

/// The resource, its generation, its resets, and what was noted on it.
pub type Wished = (u8, u8, u8, Option<String>);

/// Known answers of one setting.
#[derive(Default)]
pub struct Memo {
    desired: Mutex<HashMap<Wished, Arc<Desired>>>,
    /// The record after a pass that starts nothing, by all that the pass was given.
    passes: Mutex<HashMap<u64, Status>>,
    aged: Mutex<HashMap<u64, Status>>,
}

impl fmt::Debug for Memo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("_")
    }
}

impl Memo {
    pub fn desired(&self, key: &Wished, make: impl FnOnce() -> Desired) -> Arc<Desired> {
        let mut known = self.desired.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(key.clone()).or_insert_with(|| Arc::new(make())))
    }

    /// The record after such a pass, where it is known to start nothing.
    pub fn pass(&self, key: u64) -> Option<Status> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub fn learn(&self, key: u64, outcome: Status) {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, outcome);
    }

    pub fn aged(&self, status: &Status, make: impl FnOnce() -> Status) -> Status {
        let known = self.aged.lock().unwrap_or_else(PoisonError::into_inner).get(&status.key()).cloned();
        known.unwrap_or_else(|| {
            let aged = make();
            self.aged.lock().unwrap_or_else(PoisonError::into_inner).insert(status.key(), aged.clone());
            aged
        })
    }
}

/// What tells one pass from another: the wish, the record, the uat record where it counts, and all that was seen.
pub fn key(wish: &Wished, status: &Status, source: Option<&Status>, seen: &Observation) -> u64 {
    let mut hasher = DefaultHasher::new();
    (wish, status, source, &seen.uid, seen.now).hash(&mut hasher);
    // The source is its record, and whether it is still the same resource.
    seen.source.as_ref().map(|source| (source.exists, &source.uid)).hash(&mut hasher);
    seen.space.as_ref().map(|space| space.as_ref().ok().map(|space| &space.status)).hash(&mut hasher);
    (&seen.promotions, &seen.newest_job, &seen.conflict, &seen.rivals).hash(&mut hasher);
    let Observation { attempt, last_job, holder, pair, predecessor, .. } = seen;
    if attempt.is_some() || last_job.is_some() || holder.is_some() || predecessor.is_some() {
        write!(Text(&mut hasher), "{attempt:?}{last_job:?}{holder:?}{predecessor:?}").expect("hashing cannot fail");
    }
    write!(Text(&mut hasher), "{pair:?}").expect("hashing cannot fail");
    hasher.finish()
}
