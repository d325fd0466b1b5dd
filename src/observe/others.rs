//! Other resources of the same Space or of the other half of its pair: who goes before this one, and whose open attempt
//! is waited for.
//!
//! What the watch last told is enough here: before a request is sent, those that it names are read live
//! ([`crate::release`]).

use crate::api::{AttemptType, KonigleSpace};
use crate::context::readable;
use crate::footprint::{Footprint, conflict};
use crate::judge::{is_first_contact, is_spent};
use crate::memory::{LostAttempt, uid};
use crate::observation::Observation;

use super::Look;

/// Fills in who goes before this resource, and whose open attempt it waits for.
pub(super) async fn look_at_others(look: &Look<'_>, seen: &mut Observation) {
    let Some(space) = seen.space_seen() else { return };
    let mut own = Footprint::of(look.resource);
    own.names(Some(&space.status.id));
    own.names(seen.source.as_ref().and_then(|source| source.status.space.as_ref()).map(|space| space.id.as_str()));
    own.webapp.clone_from(&space.status.webapp);
    look.client.account().base_url().clone_into(&mut own.base_url);
    let all = look.context.all();
    look.context.memory.looks_at(&own.uid, &own.base_url);
    let same_server = |other: &KonigleSpace| {
        let open = other.status.as_ref().and_then(|status| status.attempt.as_ref());
        let base_url = open.map(|attempt| attempt.sent_to.base_url.clone());
        base_url.or_else(|| look.context.memory.base_url(&uid(other))).is_none_or(|base_url| base_url == own.base_url)
    };
    let others = readable(&all).filter(|other| same_server(other));
    seen.conflict = conflict(others, look.resource, &space.status.id);
    if look.status.attempt.is_some() {
        return;
    }
    let source = own.promotes_from.clone();
    for other in readable(&all).filter(|other| other.status.as_ref().is_some_and(|status| status.attempt.is_some())) {
        let other = Footprint::of(other);
        if look.context.memory.is_over(&other, seen.settle) {
            continue;
        }
        if own.is_promoted_by(&other) {
            seen.promotions.push(other.name);
        } else if own.gives_way_to(&other)
            && !(source.as_ref() == Some(&other.name) && other.namespace == own.namespace)
        {
            // The source's own attempt closes the gate, which says so better.
            seen.rivals.push(other.full_name());
        }
    }
    look_at_lost_attempts(look, &own, seen).await;
}

/// The attempts that only this process knows of. One on this very Space is taken over by a resource that has recorded
/// nothing yet, unless another resource is at it, or may be since the end; others are waited for, until their job has ended
/// or nothing can come of them any more.
async fn look_at_lost_attempts(look: &Look<'_>, own: &Footprint, seen: &mut Observation) {
    let Look { context, desired, status, client, .. } = look;
    let Some(space_id) = seen.space_seen().map(|space| space.status.id.clone()) else { return };
    let others_are_at_it = !seen.rivals.is_empty() || !seen.promotions.is_empty();
    for lost in context.memory.lost_attempts(own, status, seen.settle) {
        let LostAttempt { predecessor, seen_for, ended, reserved } = lost;
        if reserved {
            seen.rivals.push(format!("{} (deleted)", predecessor.resource));
            continue;
        }
        let attempt = &predecessor.attempt;
        let own_type = if desired.promotes() { AttemptType::Promote } else { AttemptType::Deploy };
        let fits = attempt.attempt_type == own_type
            && attempt.sent_to.space_id == space_id
            && attempt.sent_to.base_url == client.account().base_url();
        let may_follow = is_first_contact(status) || predecessor.uid == uid(look.resource);
        if fits && may_follow && !(ended && others_are_at_it) {
            seen.predecessor = Some(predecessor);
            return;
        }
        if ended {
            continue;
        }
        let ended = match &attempt.job_id {
            Some(job_id) => client.job(job_id).await.is_ok_and(|job| job.status.ended()),
            None => false,
        };
        if ended || is_spent(attempt, seen_for, seen.settle) {
            context.memory.lost_attempt_ended(&predecessor.uid);
        } else {
            seen.rivals.push(format!("{} (deleted)", predecessor.resource));
        }
    }
}
