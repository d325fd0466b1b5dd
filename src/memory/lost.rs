//! The attempts that no status tells of any more: whose they were, who waits for them, and who takes them over.
//!
//! Absent: what becomes of one that is taken over ([`crate::judge`]), and who goes first of two that both have a status
//! ([`crate::footprint`]).

use std::time::{Duration, Instant};

use super::{Memory, Remembered, RememberedAttempt};
use crate::api::KonigleSpaceStatus;
use crate::footprint::Footprint;
use crate::judge::tells_of;
use crate::konigle::Answer;
use crate::observation::Predecessor;

/// How long a resource has what it reserved: longer than the write of a status may take, and than a claim may be sent. One
/// that is deleted meanwhile, or can no longer write, keeps nobody waiting for longer.
const RESERVED: Duration = Duration::from_secs(30);

/// An attempt that no status tells of any more.
#[derive(Debug, PartialEq)]
pub struct LostAttempt {
    /// Whose it was, and what is known of it.
    pub predecessor: Predecessor,
    /// How long this process has known it.
    pub seen_for: Duration,
    /// Its job was read as ended, or nothing can come of it any more: nobody waits for it, but it may still be taken over.
    pub ended: bool,
    /// Another resource is about to take it over, or to release there.
    pub reserved: bool,
}

impl Memory {
    /// The attempts that no status tells of any more and that touch what this resource touches: of resources that are gone,
    /// and the resource's own where its status was lost.
    #[must_use]
    pub fn lost_attempts(&self, own: &Footprint, status: &KonigleSpaceStatus, settle: Duration) -> Vec<LostAttempt> {
        let lost = |(uid, known): (&String, &Remembered)| {
            let attempt = known.attempt.as_ref()?;
            let record = attempt.unaccounted(settle)?;
            let unaccounted = !tells_of(status, record.attempt.number);
            let meets = if *uid == own.uid { unaccounted } else { known.gone && own.gives_way_to(&record.footprint) };
            let mut open = record.attempt.clone();
            if let Some((_, Answer::Accepted(deployment))) = &attempt.answer {
                open.job_id.get_or_insert_with(|| deployment.job_id.clone());
            }
            let predecessor = Predecessor { resource: record.footprint.full_name(), uid: uid.clone(), attempt: open };
            meets.then(|| LostAttempt {
                predecessor,
                seen_for: attempt.first_seen.elapsed(),
                ended: record.ended,
                reserved: attempt.is_reserved_by_another(&own.uid),
            })
        };
        self.lock().iter().filter_map(lost).collect()
    }

    /// Another resource with an open attempt that goes first, and that a live list of its namespace does not show any more:
    /// it was deleted so lately that no pass has seen it.
    #[must_use]
    pub fn unlisted(&self, own: &Footprint, listed: &[Footprint], settle: Duration) -> Option<Footprint> {
        let is_listed = |uid: &String| listed.iter().any(|footprint| footprint.uid == *uid);
        self.lock().iter().filter(|(uid, _)| **uid != own.uid && !is_listed(uid)).find_map(|(_, known)| {
            let other = &known.attempt.as_ref()?.open(settle)?.footprint;
            let is_gone = known.gone || other.namespace == own.namespace;
            (is_gone && own.gives_way_to(other)).then(|| other.clone())
        })
    }

    /// The job of a deleted resource's attempt has ended: others need not wait for it any longer.
    pub fn lost_attempt_ended(&self, uid: &str) {
        if let Some(remembered) = self.lock().get_mut(uid)
            && let Some(record) = remembered.attempt.as_mut().and_then(|attempt| attempt.record.as_mut())
        {
            record.ended = true;
        }
    }

    /// This resource is about to record as its own what the deleted one left. False: another one was faster. Of two that
    /// follow one job, the slower might say that it runs when the other has released something else already.
    #[must_use]
    pub fn begins_to_inherit(&self, from: &str, to: &str) -> bool {
        let mut resources = self.lock();
        let left = resources.get_mut(from).and_then(|known| known.attempt.as_mut());
        left.filter(|left| left.record.is_some()).is_some_and(|left| left.reserve(to))
    }

    /// A resource is about to release: nobody takes over what deleted ones left on its pair meanwhile. Gives one that goes
    /// first: it is still open, or is being taken over.
    #[must_use]
    pub fn begins_to_release(&self, own: &Footprint, settle: Duration) -> Option<Footprint> {
        let mut resources = self.lock();
        let gone = resources.values_mut().filter(|known| known.gone);
        let mut left: Vec<_> = gone.filter_map(|known| known.attempt.as_mut()).collect();
        left.retain(|left| left.unaccounted(settle).is_some_and(|record| own.gives_way_to(&record.footprint)));
        let goes_first =
            |left: &&&mut RememberedAttempt| left.open(settle).is_some() || left.is_reserved_by_another(&own.uid);
        if let Some(first) = left.iter().find(goes_first) {
            return first.record.as_ref().map(|record| record.footprint.clone());
        }
        for left in left {
            left.reserved = Some((own.uid.clone(), Instant::now()));
        }
        None
    }

    /// The request of this resource goes out: what the Space shows from now on is not of what deleted ones left there.
    pub fn releases(&self, uid: &str) {
        self.lock().retain(|_, known| !(known.gone && known.is_reserved_by(uid)));
    }

    /// Nothing came of what this resource was about to do: others may take over what was left.
    pub fn gives_back(&self, uid: &str) {
        for known in self.lock().values_mut().filter(|known| known.is_reserved_by(uid)) {
            if let Some(left) = &mut known.attempt {
                left.reserved = None;
            }
        }
    }

    /// The attempt of a deleted resource is another's now, with all that is known of it.
    pub fn inherit(&self, from: &str, to: &str) {
        let mut resources = self.lock();
        if from != to
            && let Some(attempt) = resources.remove(from).and_then(|known| known.attempt)
        {
            resources.entry(to.to_owned()).or_default().attempt = Some(RememberedAttempt { reserved: None, ..attempt });
        }
    }
}

impl Remembered {
    fn is_reserved_by(&self, uid: &str) -> bool {
        let reserved = self.attempt.as_ref().and_then(|attempt| attempt.reserved.as_ref());
        reserved.is_some_and(|(by, _)| by == uid)
    }
}

impl RememberedAttempt {
    fn is_reserved_by_another(&self, uid: &str) -> bool {
        self.reserved.as_ref().is_some_and(|(by, since)| by != uid && since.elapsed() < RESERVED)
    }

    /// Reserves it for this resource, unless another one has.
    fn reserve(&mut self, uid: &str) -> bool {
        let free = !self.is_reserved_by_another(uid);
        if free {
            self.reserved = Some((uid.to_owned(), Instant::now()));
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::{claimed, resource};

    /// Two claim at once; the one that goes on is deleted before the other looks: the live list shows nothing of it.
    #[test]
    fn an_open_attempt_that_a_live_list_does_not_show_any_more_goes_first() {
        let memory = Memory::default();
        let mut open = resource();
        let attempt =
            serde_json::json!({"number": 1, "nonce": "k3f2a9c1d", "type": "Deploy", "sentTo": {"spaceID": "1"}});
        let status = serde_json::json!({ "attempt": attempt });
        open.status = Some(serde_json::from_value(status).expect("it is a status"));
        memory.note(&open);
        let own = Footprint { uid: "uid-2".to_owned(), ..Footprint::of(&resource()) };
        let settle = Duration::from_mins(2);
        let unlisted = |listed: &[Footprint]| memory.unlisted(&own, listed, settle).map(|other| other.uid);
        assert_eq!(unlisted(&[]).as_deref(), Some("uid-1"));
        assert_eq!(unlisted(&[Footprint::of(&open)]), None, "the list shows it: that decides");
        memory.answered("uid-1", "k3f2a9c1d", Answer::Unsent("no route".to_owned()));
        assert_eq!(unlisted(&[]), None, "nothing came of it");
    }

    /// Found by the model: of two processes one takes over what a deleted resource left, and the other sees that by the
    /// watch. When the successor is deleted too, the third resource must not take over the first one's attempt.
    #[test]
    fn what_another_process_took_over_and_ended_is_not_taken_over_again() {
        let memory = Memory::default();
        memory.note(&claimed("uid-1"));
        memory.forget("uid-1");
        let own = Footprint { uid: "uid-3".to_owned(), ..Footprint::of(&resource()) };
        let lost = || memory.lost_attempts(&own, &KonigleSpaceStatus::default(), Duration::from_mins(2)).len();
        assert_eq!(lost(), 1, "it is open, and nobody has it");
        memory.note(&claimed("uid-2"));
        assert_eq!(lost(), 0, "the successor has it");
        let mut ended = claimed("uid-2");
        let history = serde_json::json!({"history": [{"number": 1, "result": "Failed"}]});
        ended.status = Some(serde_json::from_value(history).expect("it is a status"));
        memory.note(&ended);
        memory.forget("uid-2");
        assert_eq!(lost(), 0, "it has ended");
    }

    /// Found by the model: both of two resources for one Space are deleted and made anew while a job runs, and both look
    /// before either has recorded that it follows that job.
    #[test]
    fn of_two_that_would_take_over_one_attempt_the_first_does() {
        let memory = Memory::default();
        memory.note(&claimed("uid-1"));
        memory.forget("uid-1");
        assert!(memory.begins_to_inherit("uid-1", "uid-2"));
        assert!(!memory.begins_to_inherit("uid-1", "uid-3"), "the other is writing");
        assert!(memory.begins_to_inherit("uid-1", "uid-2"), "its write may have failed: it comes again");
        memory.gives_back("uid-2");
        assert!(memory.begins_to_inherit("uid-1", "uid-3"), "the first met a conflict");
        memory.inherit("uid-1", "uid-3");
        assert!(!memory.begins_to_inherit("uid-1", "uid-4"), "the second has it");
        assert!(memory.begins_to_inherit("uid-3", "uid-3"), "its own, where its status was lost");
    }

    /// Found in review: who had reserved it was deleted in the middle of its pass, and everybody else waited for ever.
    #[test]
    fn nobody_has_what_was_left_for_longer_than_a_write_may_take() {
        let memory = Memory::default();
        memory.note(&claimed("uid-1"));
        memory.forget("uid-1");
        assert!(memory.begins_to_inherit("uid-1", "uid-2"));
        memory.forget("uid-2");
        let _ = memory.failed_pass("uid-2");
        assert!(!memory.begins_to_inherit("uid-1", "uid-3"), "its write may be under way still");
        let long_ago = Instant::now().checked_sub(RESERVED).expect("the machine has run for that long");
        if let Some(left) = memory.lock().get_mut("uid-1").and_then(|known| known.attempt.as_mut()) {
            left.reserved = Some(("uid-2".to_owned(), long_ago));
        }
        assert!(memory.begins_to_inherit("uid-1", "uid-3"));
    }

    /// Found by the model: the promotion's look told that the job had ended, and the uat resource that was made anew
    /// meanwhile deployed once more.
    #[test]
    fn what_has_ended_is_taken_over_until_another_releases_there() {
        let (memory, settle) = (Memory::default(), Duration::from_mins(2));
        let mut left = claimed("uid-1");
        left.spec.space.id = Some("1".to_owned());
        memory.note(&left);
        memory.forget("uid-1");
        let own = |uid: &str| Footprint { uid: uid.to_owned(), ..Footprint::of(&resource()) };
        let lost = || memory.lost_attempts(&own("uid-3"), &KonigleSpaceStatus::default(), settle);
        let known = || lost().iter().map(|lost| (lost.ended, lost.reserved)).collect::<Vec<_>>();
        let releases = || memory.begins_to_release(&own("uid-2"), settle).map(|other| other.uid);
        assert_eq!(releases().as_deref(), Some("uid-1"), "it is open");
        memory.lost_attempt_ended("uid-1");
        assert_eq!(known(), [(true, false)]);
        assert!(memory.begins_to_inherit("uid-1", "uid-3"));
        assert_eq!(releases().as_deref(), Some("uid-1"), "it is being taken over");
        memory.gives_back("uid-3");
        assert_eq!(releases(), None);
        assert_eq!(known(), [(true, true)]);
        assert!(!memory.begins_to_inherit("uid-1", "uid-3"), "the other is about to release");
        memory.gives_back("uid-2");
        assert_eq!(known(), [(true, false)], "it gave way after all");
        assert_eq!(releases(), None);
        memory.releases("uid-2");
        assert_eq!(known(), [], "what the Space shows from now on is not of it");
        assert!(!memory.begins_to_inherit("uid-1", "uid-3"));
    }
}
