//! Requests to promote. They carry no name, so a request is that of the attempt with its job. One whose receipt was lost
//! is that of an attempt which stood when it came: an attempt has one request, and one resource sends them in order.
//! Where several may have sent it, what is wrong is what none of them explains.

use std::collections::BTreeMap;

use super::history::{Claim, Post, Trace, Version};
use super::properties::{FENCE_MS, LATE_MS, Report};

/// S6: a promotion is requested only while its attempt is the resource's, and not after the fence.
pub(super) fn nothing_after_its_end(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    for post in promotions(trace) {
        let known = senders(trace, claims, post);
        if !known.is_empty() && !known.iter().any(|claim| stands(claim, post.arrived_ms)) {
            report.say(format!(
                "the promotion from Space {} at {:.0} (job {:?}) was sent when no attempt for it stood",
                post.object, post.arrived_ms, post.job
            ));
        }
    }
}

/// The uat resource holds still: a promotion is requested only while the very resource that was pinned is held for it, and
/// while it is held no deploy of it begins.
pub(super) fn source_is_held(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    for version in &trace.versions {
        let status = &version.status;
        if let (Some(attempt), Some(held)) = (&status.attempt, &status.held_by) {
            report
                .say(format!("{} has its attempt {} open, and is held by {}", version.name, attempt.number, held.name));
        }
    }
    if trace.has_gaps() {
        return;
    }
    for post in promotions(trace) {
        let known = senders(trace, claims, post);
        let is_right = |claim: &&Claim| stands(claim, post.arrived_ms) && is_held_for(trace, claim, post.arrived_ms);
        if !known.is_empty() && !known.iter().any(is_right) {
            report.say(format!(
                "the promotion from Space {} at {:.0} (job {:?}) was sent when uat was not held for it",
                post.object, post.arrived_ms, post.job
            ));
        }
    }
}

fn promotions(trace: &Trace) -> impl Iterator<Item = &Post> {
    trace.posts.iter().filter(|post| post.operation == "promote")
}

/// The attempts that may have sent this request.
fn senders<'a>(trace: &Trace, claims: &'a BTreeMap<String, Claim>, post: &Post) -> Vec<&'a Claim> {
    let all = || claims.values().filter(|claim| claim.is_promotion() && claim.target() == post.object);
    let with_job: Vec<&Claim> =
        all().filter(|claim| post.job.as_ref().is_some_and(|job| claim.jobs.contains(job))).collect();
    if !with_job.is_empty() {
        return with_job;
    }
    // Of an attempt whose job is known the request is known, too.
    let is_known = |claim: &&Claim| trace.posts.iter().any(|other| claim.is_told_of(other));
    all().filter(|claim| !is_known(claim)).collect()
}

/// Gives the promotions that no receipt tells of, by their places among all requests, to their attempts.
pub(super) fn ascribe(trace: &Trace, claims: &mut BTreeMap<String, Claim>, mut unnamed: Vec<usize>) {
    unnamed.retain(|place| trace.posts[*place].operation == "promote");
    unnamed.sort_by(|one, other| trace.posts[*one].arrived_ms.total_cmp(&trace.posts[*other].arrived_ms));
    for place in unnamed {
        let nonce = sender(trace, claims, &trace.posts[place]).map(|claim| claim.attempt.nonce.clone());
        if let Some(claim) = nonce.and_then(|nonce| claims.get_mut(&nonce)) {
            claim.posts.push(place);
        }
    }
}

/// The attempt that sent this request: of those that stood then and have none yet the one that surely did, or else the
/// oldest, so that each request finds one if it can. Where all have theirs, the newest sent one too many.
fn sender<'a>(trace: &Trace, claims: &'a BTreeMap<String, Claim>, post: &Post) -> Option<&'a Claim> {
    let moment_ms = post.arrived_ms;
    let may_have = |claim: &&Claim| {
        claim.is_promotion()
            && claim.target() == post.object
            && stands(claim, moment_ms)
            && keeps_the_order(trace, claims, claim, moment_ms)
    };
    let mut standing: Vec<&Claim> = claims.values().filter(may_have).collect();
    standing.sort_by_key(|claim| claim.place);
    let free = || standing.iter().filter(|claim| claim.posts.is_empty());
    let found = free().find(|claim| surely_stands(trace, claim, moment_ms)).or_else(|| free().next());
    found.or_else(|| standing.last()).copied()
}

/// Whether no older attempt of the resource is known to have sent its request later, and no newer one earlier.
fn keeps_the_order(trace: &Trace, claims: &BTreeMap<String, Claim>, claim: &Claim, moment_ms: f64) -> bool {
    let others = claims.values().filter(|other| other.uid == claim.uid && other.place != claim.place);
    others
        .flat_map(|other| trace.posts_of(other).map(|post| (other.place, post.arrived_ms)))
        .all(|(place, arrived_ms)| if place < claim.place { arrived_ms <= moment_ms } else { moment_ms <= arrived_ms })
}

/// Whether the attempt was stored and open at this moment, however the clocks are read.
fn surely_stands(trace: &Trace, claim: &Claim, moment_ms: f64) -> bool {
    let deleted_at = trace.deletion(&claim.uid).map(|(place, _)| place);
    let ended_at = claim.closed_at.into_iter().chain(deleted_at).min();
    claim.seen_ms.min(claim.stored_ms + 1e3) <= moment_ms
        && ended_at.is_none_or(|ended| moment_ms < trace.versions[ended].stored_ms)
}

/// Whether the attempt was stored, open, and before its fence at this moment.
fn stands(claim: &Claim, moment_ms: f64) -> bool {
    claim.stored_ms <= moment_ms
        && moment_ms <= claim.seen_ms + FENCE_MS
        && claim.closed_ms.is_none_or(|closed| moment_ms <= closed + LATE_MS)
}

/// Whether the pinned uat resource was held for this attempt at this moment: from a version after the claim and before the
/// receipt, to one that came no earlier than the moment.
fn is_held_for(trace: &Trace, claim: &Claim, moment_ms: f64) -> bool {
    let Some(source) = &claim.attempt.baseline.source else { return false };
    let is_held = |version: &Version| {
        let held = version.status.held_by.as_ref();
        held.is_some_and(|held| held.nonce == claim.attempt.nonce && held.uid == claim.uid)
    };
    let of_source = || trace.versions.iter().enumerate().filter(|(_, version)| version.uid == source.uid);
    let Some((from, first)) = of_source().find(|(_, version)| is_held(version)) else { return false };
    let end = of_source().find(|(place, version)| *place > from && (version.is_deleted() || !is_held(version)));
    claim.place < from
        && claim.told_at.is_none_or(|told| from < told)
        && first.stored_ms <= moment_ms
        && end.is_none_or(|(_, end)| moment_ms <= end.seen_ms + LATE_MS)
}
