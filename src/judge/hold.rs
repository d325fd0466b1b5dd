//! The hold that a promotion takes on its uat resource, and when it is let go.
//!
//! Only the uat resource's own pass clears a hold, after reading the holder live: a holder that closed its attempt needs
//! no second write, and one that died cannot leave the uat Space held for ever.

use std::time::Duration;

use super::{Judged, Note, job_limit};
use crate::api::{Attempt, HeldBy};
use crate::desired::Desired;
use crate::observation::{Holder, Observation};

/// How long a job may run where nothing else is said: the default of `spec.timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(15);
/// How long a promotion's request may take: it has no body.
pub(super) const PROMOTE_LIMIT: Duration = Duration::from_mins(1);

/// What became of the holder: the resource that has its name now, its UID and its open attempt.
#[must_use]
pub fn holder_now(held: &HeldBy, uid: Option<&str>, attempt: Option<&Attempt>) -> Holder {
    if uid != Some(held.uid.as_str()) {
        return Holder::Gone;
    }
    match attempt.filter(|attempt| attempt.nonce == held.nonce) {
        Some(attempt) => Holder::Promoting { job_id: attempt.job_id.clone() },
        None => Holder::Done,
    }
}

/// How long the promotion's job may run: as the holder's spec says now, or as it said at the claim.
#[must_use]
pub fn holder_timeout(spec: Option<Duration>, held: &HeldBy, attempt: Option<&Attempt>) -> Option<Duration> {
    spec.max(attempt.filter(|attempt| attempt.nonce == held.nonce).map(job_limit))
}

/// Clears `heldBy` where nothing needs it any more.
pub(super) fn judge(judged: &mut Judged, desired: &Desired, seen: &Observation) {
    let (Some(held), Some(facts)) = (&judged.status.held_by, &seen.holder) else { return };
    // A holder that was never read may let its jobs run longer than this resource does; the default is the best guess.
    let job = facts.timeout.unwrap_or(DEFAULT_TIMEOUT).max(desired.timeout);
    let waited = facts.seen_for >= PROMOTE_LIMIT.saturating_add(seen.settle).saturating_add(job);
    let (clear, note) = match &facts.holder {
        None => (false, None),
        Some(Holder::Done) => (true, None),
        Some(Holder::Promoting { job_id }) => {
            (job_id.is_none() && held.job_id.is_none() && waited, Some("whose promotion's outcome stayed unknown"))
        }
        Some(Holder::Gone) => {
            // A job that is not found any more must not hold the Space for ever either.
            let ended = facts.job_ended.filter(|_| held.job_id.is_some()).unwrap_or(waited);
            (ended, Some("which is gone"))
        }
    };
    if !clear {
        return;
    }
    if let Some(why) = note {
        judged.notes.push(Note {
            warning: true,
            reason: "HoldReleased",
            message: format!("no longer held by KonigleSpace {}, {why}", held.name),
        });
    }
    judged.status.held_by = None;
}
