//! The first contact with a Space: it may run something already, or have something under way, of which no status tells.
//!
//! In this order counts: an open attempt that this process still knows of, what the operator noted on the resource itself,
//! and at last what the spec says is to be assumed.

use super::words::{Class, class};
use super::{Content, Judged, Note, Open, short_digits};
use crate::api::{AdoptionPolicy, Attribution, KonigleSpaceStatus, ReleaseStatus};
use crate::desired::Desired;
use crate::observation::{Observation, Predecessor};
use crate::reason::Reason;
use crate::time;
use crate::wish::{Wanted, short};

/// Whether nothing was ever recorded of this Space.
#[must_use]
pub fn is_first_contact(status: &KonigleSpaceStatus) -> bool {
    status.settled.is_none()
        && status.release.is_none()
        && status.attempt.is_none()
        && status.history.is_empty()
        && status.last_attempt == 0
}

/// Whether a status tells what became of the attempt with this number, or has it open. The history keeps the newest.
#[must_use]
pub fn tells_of(status: &KonigleSpaceStatus, number: i64) -> bool {
    status.attempt.is_some() || status.history.iter().any(|entry| entry.number >= number)
}

/// An open attempt that no status tells of any more becomes this resource's: it is followed to its end like any other, and
/// nothing is released beside it.
pub(super) fn take_over_attempt(judged: &mut Judged, seen: &Observation) -> Option<Open> {
    // One that the status tells of was taken over before, and has ended.
    let unaccounted = |known: &&Predecessor| !tells_of(&judged.status, known.attempt.number);
    let predecessor = seen.predecessor.as_ref().filter(unaccounted)?;
    let attempt = predecessor.attempt.clone();
    judged.notes.push(Note {
        warning: true,
        reason: "AttemptTakenOver",
        message: format!(
            "attempt {} of {}, which KonigleSpace {} left open when it was deleted or lost its status, is followed to its end",
            attempt.number,
            short(&attempt.digest),
            predecessor.resource
        ),
    });
    let open = if attempt.job_id.is_some() { Open::Running } else { Open::Resolving };
    let status = &mut judged.status;
    status.last_attempt = status.last_attempt.max(attempt.number);
    status.attempt = Some(attempt);
    Some(open)
}

/// Takes over what runs in the Space: what the operator noted of its last release, where the Space still shows exactly
/// that; else, if the spec says so, whatever runs there.
pub(super) fn judge(judged: &mut Judged, wanted: Option<&Wanted>, desired: &Desired, seen: &Observation) {
    let status = &mut judged.status;
    let Some(space) = seen.space_seen() else { return };
    let may_take_over = is_first_contact(status)
        && seen.conflict.is_none()
        && seen.rivals.is_empty()
        && space.status.last_deployed_at.is_some()
        && class(space.status.last_deployment_status.as_deref()) != Class::Unfinished;
    if !may_take_over {
        return;
    }
    let noted = desired.released.as_ref().filter(|released| released.is_shown_by(&space.status));
    let (digest, attribution) = match (noted, wanted) {
        (Some(noted), _) => (Some(noted.digest.clone()), Attribution::Inferred),
        (None, wanted) if desired.adoption_policy == AdoptionPolicy::AssumeCurrent => {
            (wanted.map(|wanted| wanted.digest.clone()), Attribution::Assumed)
        }
        (None, _) => return,
    };
    let pair = space.pair();
    status.settled = Some(pair.clone());
    // Requests that stand in a manifest since before this status began were answered in another life of the resource.
    status.last_handled_reset_at.clone_from(&desired.requests.reset_at);
    status.last_handled_redeploy_at.clone_from(&desired.requests.redeploy_at);
    let Some(digest) = digest else { return };
    if noted.is_some() {
        judged.notes.push(Note {
            warning: false,
            reason: "ReleaseTakenOver",
            message: format!(
                "{} runs, as the annotation cloud.konigle.com/released says and the Space still shows: it is not released again",
                short(&digest)
            ),
        });
    }
    status.release = Some(ReleaseStatus {
        short_digest: short_digits(&digest),
        revision: wanted.filter(|wanted| wanted.digest == digest).and_then(|wanted| wanted.revision.clone()),
        digest,
        deployment_id: None,
        job_id: None,
        deployed_at: Some(time::text(seen.now)),
        last_deployed_at_seen: pair.last_deployed_at,
        last_deployment_status_seen: pair.last_deployment_status,
        attribution,
    });
    if desired.promotes() {
        judged.content = Some(Content {
            verified: None,
            reason: Reason::AdoptedWithoutJob,
            message: "taken over at first contact; no promotion of this resource proves the content".to_owned(),
        });
    }
}
