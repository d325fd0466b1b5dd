//! What tags were last seen to name.

use std::time::{Duration, Instant};

use super::Memory;
use crate::artifact::Digest;
use crate::observation::Problem;
use crate::time::doubled;

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
    failure: Option<(LookupFailure, u32)>,
    /// The last request of a person that a look was begun for.
    request: Option<String>,
    /// A pass could not go on without the look that runs.
    awaited: bool,
}

/// Why a tag could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupFailure {
    /// What people are told.
    pub problem: Problem,
    /// When it is worth while to look again.
    pub again: Again,
}

/// When to look again after a look that failed; after one that did not it is the interval. A person's request comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Soon, and ever later up to this, for it may pass by itself; at the interval if that is shorter.
    Within(Duration),
    /// Not before this, nor before the interval: whoever is asked too often must not be asked more often than when all is well.
    After(Duration),
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
    pub fn end_lookup(&self, uid: &str, key: &str, result: Result<Digest, LookupFailure>) -> LookupEnd {
        self.with(uid, |remembered| {
            let Some(lookup) = remembered.lookup.as_mut().filter(|lookup| lookup.key == key) else {
                return LookupEnd { is_news: false, is_awaited: false };
            };
            (lookup.running, lookup.ended) = (false, Some(Instant::now()));
            let before = lookup.known();
            match result {
                Ok(digest) => (lookup.named, lookup.failure) = (Some(digest), None),
                Err(failure) => {
                    let times = lookup.failure.as_ref().map_or(0, |(_, times)| *times);
                    lookup.failure = Some((failure, times.saturating_add(1)));
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
        let problem = self.failure.as_ref().map(|(failure, _)| failure.problem.clone());
        LookupMemory { named: self.named, problem, running: self.running }
    }

    fn is_due(&self, every: Duration) -> bool {
        let (Some(began), Some(ended)) = (self.began, self.ended) else { return true };
        // The passes are spread round the interval, the earliest a tenth before it.
        let regular = every.mul_f64(0.85);
        let Some((failure, times)) = &self.failure else {
            return began.elapsed() >= regular && ended.elapsed() >= SHORTEST_PAUSE.min(regular);
        };
        let pause = match failure.again {
            Again::Within(longest) => doubled(Duration::from_secs(5), *times, longest).min(regular),
            Again::After(wait) => wait.max(regular),
        };
        ended.elapsed() >= pause
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
        let failure = LookupFailure { problem: away.clone(), again: Again::Within(DAY) };
        assert_eq!(ended(Err(failure)), (true, false), "it is news");
        let known = memory.lookup("uid", "shop:v1").expect("it was looked at");
        assert_eq!(
            known,
            LookupMemory { named: Some(digest), problem: Some(away), running: false },
            "what was known stays"
        );
        assert!(memory.begin_lookup("uid", "shop:v2", DAY, None), "another tag");
        assert_eq!(memory.lookup("uid", "shop:v1"), None);
    }

    #[test]
    fn what_failed_is_looked_at_again_as_its_kind_asks() {
        let seconds = Duration::from_secs;
        for (again, every, times, ago, expected) in [
            (Again::Within(seconds(60)), 300, 1, 4, false),
            (Again::Within(seconds(60)), 300, 1, 5, true),
            (Again::Within(seconds(60)), 300, 9, 59, false),
            (Again::Within(seconds(60)), 300, 9, 60, true),
            (Again::Within(seconds(240)), 300, 9, 239, false),
            (Again::Within(seconds(240)), 30, 9, 26, true),
            (Again::After(seconds(0)), 300, 1, 254, false),
            (Again::After(seconds(0)), 300, 1, 255, true),
            (Again::After(seconds(3600)), 300, 1, 3599, false),
            (Again::After(seconds(3600)), 300, 1, 3600, true),
            (Again::After(seconds(17)), 300, 1, 254, false),
        ] {
            let problem = Problem { reason: Reason::ArtifactUnavailable, message: "because".to_owned() };
            let ended = Instant::now().checked_sub(seconds(ago));
            let lookup = Lookup {
                began: ended,
                ended,
                failure: Some((LookupFailure { problem, again }, times)),
                ..Lookup::new("shop:v1")
            };
            assert!(ended.is_some(), "the machine runs for long enough");
            assert_eq!(
                lookup.is_due(seconds(every)),
                expected,
                "{again:?}, {times} times, {ago} s ago, each {every} s"
            );
        }
    }
}
