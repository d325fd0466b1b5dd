//! What tags were last seen to name.

use std::time::{Duration, Instant};

use super::Memory;
use crate::artifact::Digest;
use crate::observation::Problem;
use crate::time::doubled;

/// The longest pause after looks at a tag that failed.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The shortest pause after one that told what it names: a look that takes longer than the interval leaves room for what it
/// told to be acted on.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);

/// The last look at what a tag names.
#[derive(Debug)]
pub(super) struct Lookup {
    key: String,
    running: bool,
    named: Option<Digest>,
    /// When the last look began.
    began: Option<Instant>,
    /// When it ended.
    ended: Option<Instant>,
    failure: Option<(Problem, u32)>,
    /// The last request of a person that a look was begun for.
    request: Option<String>,
    /// A pass could not go on without the look that runs.
    awaited: bool,
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

/// What the end of a look at a tag is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupEnd {
    /// It told anything new.
    pub is_news: bool,
    /// A pass could not go on without it.
    pub is_awaited: bool,
}

impl Memory {
    /// Marks a look at a tag as running; false where one runs already, or the next is not due. `every` is how often it is
    /// looked at; `request`: a person's request for a look now, which is worth one.
    #[must_use]
    pub fn begin_lookup(&self, uid: &str, key: &str, every: Duration, request: Option<&str>) -> bool {
        self.with(uid, |remembered| {
            let known = remembered.lookup.take().filter(|lookup| lookup.key == key);
            let lookup = remembered.lookup.insert(known.unwrap_or_else(|| Lookup::new(key)));
            let begins = match request {
                // One that has had its look is to be answered: the next one would keep it waiting once more.
                Some(request) => lookup.request.as_deref() != Some(request),
                None => lookup.is_due(every),
            };
            if lookup.running || !begins {
                return false;
            }
            lookup.request = request.map(str::to_owned);
            (lookup.running, lookup.began) = (true, Some(Instant::now()));
            true
        })
    }

    /// A pass cannot go on without the look that runs: its end is worth another one, whatever it tells.
    pub fn await_lookup(&self, uid: &str, key: &str) {
        self.with(uid, |remembered| {
            if let Some(lookup) = remembered.lookup.as_mut().filter(|lookup| lookup.key == key) {
                lookup.awaited = lookup.running;
            }
        });
    }

    /// A look at a tag ended.
    #[must_use]
    pub fn end_lookup(&self, uid: &str, key: &str, result: Result<Digest, Problem>) -> LookupEnd {
        self.with(uid, |remembered| {
            let Some(lookup) = remembered.lookup.as_mut().filter(|lookup| lookup.key == key) else {
                return LookupEnd { is_news: false, is_awaited: false };
            };
            (lookup.running, lookup.ended) = (false, Some(Instant::now()));
            let before = lookup.known();
            match result {
                Ok(digest) => (lookup.named, lookup.failure) = (Some(digest), None),
                Err(problem) => {
                    let times = lookup.failure.as_ref().map_or(0, |(_, times)| *times);
                    lookup.failure = Some((problem, times.saturating_add(1)));
                }
            }
            LookupEnd { is_news: lookup.known() != before, is_awaited: std::mem::take(&mut lookup.awaited) }
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
        Self {
            key: key.to_owned(),
            running: false,
            named: None,
            began: None,
            ended: None,
            failure: None,
            request: None,
            awaited: false,
        }
    }

    fn known(&self) -> LookupMemory {
        let problem = self.failure.as_ref().map(|(problem, _)| problem.clone());
        LookupMemory { named: self.named, problem, running: self.running }
    }

    fn is_due(&self, every: Duration) -> bool {
        let (Some(began), Some(ended)) = (self.began, self.ended) else { return true };
        // The passes are spread round the interval, the earliest a tenth before it.
        let regular = every.mul_f64(0.85);
        let pause = match &self.failure {
            None => return began.elapsed() >= regular && ended.elapsed() >= SHORTEST_PAUSE.min(regular),
            // A Secret that is mended acts at its next use.
            Some((problem, _)) if problem.reason.is_about_credentials() => Duration::from_secs(25),
            Some((_, times)) => doubled(Duration::from_secs(5), *times, LONGEST_PAUSE),
        };
        ended.elapsed() >= pause.min(regular)
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
        let ended = |result| {
            let LookupEnd { is_news, is_awaited } = memory.end_lookup("uid", "shop:v1", result);
            (is_news, is_awaited)
        };
        let begins = |every, request| memory.begin_lookup("uid", "shop:v1", every, request);
        assert!(begins(DAY, None), "the first time");
        assert!(!begins(DAY, Some("1")), "it runs already");
        let digest = Digest::of(b"a");
        assert_eq!(ended(Ok(digest)), (true, false), "it is news");
        assert!(!begins(DAY, None), "it is not due");
        assert!(begins(DAY, Some("1")), "a person asks, and the look before was not for him");
        memory.await_lookup("uid", "shop:v1");
        assert_eq!(ended(Ok(digest)), (false, true), "nothing moved, and he waits for it");
        for every in [DAY, Duration::ZERO] {
            assert!(!begins(every, Some("1")), "he has had his look, however long it took");
        }
        assert!(begins(DAY, Some("2")), "and asks again");
        assert_eq!(ended(Ok(digest)), (false, false), "the pass had its answer in time");
        memory.await_lookup("uid", "shop:v1");
        assert!(begins(Duration::ZERO, None), "it is due");
        let away = Problem { reason: Reason::ArtifactUnavailable, message: "502".to_owned() };
        assert_eq!(ended(Err(away.clone())), (true, false), "it is news");
        let known = memory.lookup("uid", "shop:v1").expect("it was looked at");
        assert_eq!(
            known,
            LookupMemory { named: Some(digest), problem: Some(away), running: false },
            "what was known stays"
        );
        assert!(memory.begin_lookup("uid", "shop:v2", DAY, None), "another tag");
        assert_eq!(memory.lookup("uid", "shop:v1"), None);
    }
}
