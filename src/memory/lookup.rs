//! What tags were last seen to name.

use std::time::{Duration, Instant};

use super::Memory;
use crate::artifact::Digest;
use crate::observation::Problem;
use crate::time::doubled;

/// The last look at what a tag names.
#[derive(Debug)]
pub(super) struct Lookup {
    key: String,
    running: bool,
    named: Option<Digest>,
    /// When the last look began.
    began: Option<Instant>,
    failure: Option<(Problem, u32)>,
}

/// What is known of a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupMemory {
    /// What it named when it could be seen last.
    pub named: Option<Digest>,
    /// Why it could not be seen the last time.
    pub problem: Option<Problem>,
    /// It is looked at right now.
    pub running: bool,
}

impl Memory {
    /// Marks a look at a tag as running; false where one runs already, or the next is not due. `every` is how often it is
    /// looked at; `asked`: a person wants it now.
    #[must_use]
    pub fn begin_lookup(&self, uid: &str, key: &str, every: Duration, asked: bool) -> bool {
        self.with(uid, |remembered| {
            let known = remembered.lookup.take().filter(|lookup| lookup.key == key);
            let lookup = remembered.lookup.insert(known.unwrap_or_else(|| Lookup::new(key)));
            if lookup.running || !(asked || lookup.is_due(every)) {
                return false;
            }
            (lookup.running, lookup.began) = (true, Some(Instant::now()));
            true
        })
    }

    /// A look at a tag ended; whether it told anything new.
    #[must_use]
    pub fn end_lookup(&self, uid: &str, key: &str, result: Result<Digest, Problem>) -> bool {
        self.with(uid, |remembered| {
            let Some(lookup) = remembered.lookup.as_mut().filter(|lookup| lookup.key == key) else { return false };
            lookup.running = false;
            let before = lookup.known();
            match result {
                Ok(digest) => (lookup.named, lookup.failure) = (Some(digest), None),
                Err(problem) => {
                    let times = lookup.failure.as_ref().map_or(0, |(_, times)| *times);
                    lookup.failure = Some((problem, times.saturating_add(1)));
                }
            }
            lookup.known() != before
        })
    }

    /// What is known of a tag.
    #[must_use]
    pub fn lookup(&self, uid: &str, key: &str) -> Option<LookupMemory> {
        self.with(uid, |remembered| remembered.lookup.as_ref().filter(|lookup| lookup.key == key).map(Lookup::known))
    }
}

impl Lookup {
    fn new(key: &str) -> Self {
        Self { key: key.to_owned(), running: false, named: None, began: None, failure: None }
    }

    fn known(&self) -> LookupMemory {
        let problem = self.failure.as_ref().map(|(problem, _)| problem.clone());
        LookupMemory { named: self.named, problem, running: self.running }
    }

    fn is_due(&self, every: Duration) -> bool {
        let Some(began) = self.began else { return true };
        // The passes are spread round the interval, the earliest a tenth before it.
        let regular = every.mul_f64(0.85);
        let pause = match &self.failure {
            None => regular,
            // A Secret that is mended acts at its next use.
            Some((problem, _)) if problem.reason.is_about_credentials() => Duration::from_secs(25).min(regular),
            Some((_, times)) => doubled(Duration::from_secs(5), *times, Duration::from_mins(1)).min(regular),
        };
        began.elapsed() >= pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_tag_is_looked_at_once_an_interval_and_when_a_person_asks() {
        let memory = Memory::default();
        assert!(memory.begin_lookup("uid", "shop:v1", DAY, false), "the first time");
        assert!(!memory.begin_lookup("uid", "shop:v1", DAY, true), "it runs already");
        let digest = Digest::of(b"a");
        assert!(memory.end_lookup("uid", "shop:v1", Ok(digest)), "it is news");
        assert!(!memory.begin_lookup("uid", "shop:v1", DAY, false), "it is not due");
        assert!(memory.begin_lookup("uid", "shop:v1", DAY, true), "a person asks");
        assert!(!memory.end_lookup("uid", "shop:v1", Ok(digest)), "nothing moved");
        assert!(memory.begin_lookup("uid", "shop:v1", Duration::ZERO, false), "it is due");
        let away = Problem { reason: Reason::ArtifactUnavailable, message: "502".to_owned() };
        assert!(memory.end_lookup("uid", "shop:v1", Err(away.clone())), "it is news");
        let known = memory.lookup("uid", "shop:v1").expect("it was looked at");
        assert_eq!(
            known,
            LookupMemory { named: Some(digest), problem: Some(away), running: false },
            "what was known stays"
        );
        assert!(memory.begin_lookup("uid", "shop:v2", DAY, false), "another tag");
        assert_eq!(memory.lookup("uid", "shop:v1"), None);
    }
}
