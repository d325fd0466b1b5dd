//! A value that many states share: cheap to clone, to compare and to hash.

use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use konigle_operator::api::KonigleSpaceStatus;
use konigle_operator::desired::Desired;
use konigle_operator::observation::Observation;

/// A value with its hash. Two values with one hash are taken as the same, as the checker does with whole states.
pub struct Shared<T>(Arc<(u64, T)>);

/// What can be told apart by a hash.
pub trait Hashed {
    fn hash_with(&self, hasher: &mut DefaultHasher);
}

impl Hashed for KonigleSpaceStatus {
    fn hash_with(&self, hasher: &mut DefaultHasher) {
        // Taken apart, so that a new field cannot be forgotten.
        let Self {
            observed_generation,
            conditions,
            space,
            url,
            artifact,
            release,
            settled,
            last_attempt,
            attempt,
            held_by,
            failures,
            next_retry_time,
            quarantined,
            history,
            last_handled_reconcile_at,
            last_handled_reset_at,
            last_handled_redeploy_at,
        } = self;
        (observed_generation, conditions, space, url, artifact, release, settled, last_attempt).hash(hasher);
        (attempt, held_by, failures, next_retry_time, quarantined, history).hash(hasher);
        (last_handled_reconcile_at, last_handled_reset_at, last_handled_redeploy_at).hash(hasher);
    }
}

impl Hashed for (Desired, Observation) {
    fn hash_with(&self, hasher: &mut DefaultHasher) {
        write!(Text(hasher), "{self:?}").expect("hashing cannot fail");
    }
}

/// Hashes what is written to it.
pub struct Text<'a>(pub &'a mut DefaultHasher);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

impl<T: Hashed> Shared<T> {
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash_with(&mut hasher);
        Self(Arc::new((hasher.finish(), value)))
    }
}

impl<T> Shared<T> {
    pub fn key(&self) -> u64 {
        self.0.0
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.0 == other.0.0
    }
}

impl<T> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

impl<T: Debug> Debug for Shared<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.1.fmt(formatter)
    }
}
