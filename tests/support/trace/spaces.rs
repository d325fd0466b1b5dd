//! What must hold of all resources for one Space together, whatever their UIDs: one that is made anew, or a second one for
//! the same Space, deploys nothing beside another, and nothing again of which it is known that it runs.
//!
//! What is promised there is in design section 4, rules 9 and 10. Not promised, so not judged: who goes first of two that
//! were made in the same second; what operators do that cannot see each other's resources (so only resources of one
//! namespace are compared); what nobody remembers, for the status went with the resource and the process with its memory.

use std::collections::BTreeMap;
use std::time::Duration;

use konigle_operator::api::Cause;

use super::history::{Claim, Contact, Job, Post, Trace};
use super::properties::{LATE_MS, Report};

/// Nobody sends a request while another resource has an open attempt on its pair of Spaces, nor beside an older resource
/// for its own Space, nor while what a deleted one sent may still take effect.
pub(super) fn others_give_way(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    if trace.has_gaps() {
        return;
    }
    for claim in claims.values() {
        let Some(sent_ms) = trace.posts_of(claim).map(|post| post.arrived_ms).max_by(f64::total_cmp) else { continue };
        for other in claims.values().filter(|other| may_meet(trace, claim, other)) {
            if was_open_beside(trace, other, claim, sent_ms) {
                report.say(format!(
                    "{} sent its attempt {} while {} had its attempt {} open",
                    claim.name, claim.attempt.number, other.name, other.attempt.number
                ));
            }
            if let Some(early) = may_take_effect(trace, other, claim, sent_ms) {
                report.say(format!(
                    "{} sent its attempt {} {early:.0} ms after the attempt {} of {}, which was deleted, and nobody knew \
                     what became of that",
                    claim.name, claim.attempt.number, other.attempt.number, other.name
                ));
            }
        }
        if let Some(older) = older_resource(trace, claims, claim) {
            report.say(format!("{} sent its attempt {} beside the older {older}", claim.name, claim.attempt.number));
        }
    }
}

/// Whether these are attempts of two resources that an operator compares.
fn may_meet(trace: &Trace, one: &Claim, other: &Claim) -> bool {
    one.uid != other.uid
        && (&one.namespace, one.base_url()) == (&other.namespace, other.base_url())
        && (trace.is_one_pair(one.space(), other.space()) || trace.is_one_pair(one.target(), other.target()))
}

/// Whether `open` was claimed before `sent` and ended after its request: whoever claims looks at the others then.
fn was_open_beside(trace: &Trace, open: &Claim, sent: &Claim, sent_ms: f64) -> bool {
    // What a deleted resource leaves open is known to the process alone.
    let deleted_at = trace.deletion(&open.uid).map(|(place, _)| place);
    let ended_at = open.closed_at.into_iter().chain(deleted_at).min();
    let ended_later = ended_at.is_none_or(|ended| {
        let told_before = sent.told_at.is_some_and(|told| told < ended);
        told_before || sent_ms < trace.versions[ended].stored_ms
    });
    !open.is_undecided && open.place < sent.place && ended_later
}

/// How soon the request came after that of a deleted resource's attempt, of which nobody knew what became: too soon for
/// a process that saw it.
fn may_take_effect(trace: &Trace, lost: &Claim, sent: &Claim, sent_ms: f64) -> Option<f64> {
    let (deleted_at, _) = was_lost(trace, lost)?;
    let settle = settle_of_those_who_saw(trace, lost, sent_ms)?;
    // What was told, or refused in so many words, is known.
    let unknown = |post: &&Post| post.job.is_none() && post.status.is_none_or(|status| status >= 500);
    let before_ms = trace.posts_of(lost).filter(unknown).map(|post| post.arrived_ms).max_by(f64::total_cmp)?;
    let early = sent_ms - before_ms;
    (deleted_at < sent.place && (0.0..settle.as_secs_f64() * 1e3).contains(&early)).then_some(early)
}

/// The place of the deletion of the resource with this attempt, where it was open then, and the place of its version before.
fn was_lost(trace: &Trace, claim: &Claim) -> Option<(usize, usize)> {
    let (deleted_at, _) = trace.deletion(&claim.uid)?;
    let before = trace.versions[..deleted_at].iter().rposition(|version| version.uid == claim.uid)?;
    let open = trace.versions[before].status.attempt.as_ref();
    open.is_some_and(|attempt| attempt.nonce == claim.attempt.nonce).then_some((deleted_at, before))
}

/// The shortest settle of the processes that may have acted at this moment, if all of them saw this claim come.
fn settle_of_those_who_saw(trace: &Trace, claim: &Claim, moment_ms: f64) -> Option<Duration> {
    let lives = trace.lives.iter().filter(|life| life.covers(moment_ms));
    let settles = lives.map(|life| life.ready_ms.filter(|ready| *ready < claim.stored_ms).map(|_| life.settle));
    settles.collect::<Option<Vec<Duration>>>()?.into_iter().min()
}

/// An older resource that had reached the very Space before this claim, and was still there.
fn older_resource<'a>(trace: &'a Trace, claims: &BTreeMap<String, Claim>, claim: &Claim) -> Option<&'a str> {
    let reached = trace.versions[..claim.place].iter().find(|version| {
        version.namespace == claim.namespace
            && version.uid != claim.uid
            && version.created_ms < claim.created_ms
            && version.status.space.as_ref().is_some_and(|space| space.id == claim.space())
            // The watch tells it late.
            && version.seen_ms + LATE_MS < claim.stored_ms
            && trace.deletion(&version.uid).is_none_or(|(deleted_at, _)| deleted_at > claim.place)
            // Equal ids on two servers are two Spaces.
            && claims.values().all(|other| other.uid != version.uid || other.base_url() == claim.base_url())
    })?;
    Some(&reached.name)
}

/// S1d over all resources: where a Space runs what we deployed last, another resource's deploy of the same digest needs a
/// reason.
pub(super) fn what_runs_is_not_repeated(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    if trace.has_gaps() {
        return;
    }
    let claim_of: BTreeMap<(usize, &str), &Claim> =
        trace.claimed_jobs(claims).into_iter().map(|(claim, job)| ((job.run, job.id.as_str()), claim)).collect();
    let mut spaces: BTreeMap<(usize, &str), Vec<&Job>> = BTreeMap::new();
    for job in &trace.jobs {
        spaces.entry((job.run, &job.space)).or_default().push(job);
    }
    for jobs in spaces.values_mut() {
        jobs.sort_by_key(|job| job.time);
        for pair in jobs.windows(2) {
            let is_same = pair[0].sha256.is_some() && pair[0].sha256 == pair[1].sha256;
            let ran = pair[0].outcome.as_deref() != Some("failed");
            let [Some(first), Some(second)] =
                [0, 1].map(|place| claim_of.get(&(pair[place].run, pair[place].id.as_str())))
            else {
                continue;
            };
            if is_same
                && ran
                && let Some(why) = must_not_repeat(trace, first, second)
            {
                report.say(format!(
                    "{} of {} deployed {} by job {}, which job {} of {} had deployed, {why}",
                    second.name, second.uid, second.attempt.digest, pair[1].id, pair[0].id, first.uid
                ));
            }
        }
    }
}

/// Why the second may not deploy what the first did, if it may not. The same resource is judged by its wishes.
fn must_not_repeat(trace: &Trace, first: &Claim, second: &Claim) -> Option<&'static str> {
    let is_asked_for = matches!(second.attempt.cause, Cause::Reset | Cause::Person | Cause::Drift);
    if first.uid == second.uid || is_asked_for {
        return None;
    }
    match second.contact {
        Contact::Noted => return Some("though the annotation on it says that it runs"),
        Contact::Assumed => return Some("though what runs was to be taken for it"),
        Contact::Recorded | Contact::New => {}
    }
    if first.namespace != second.namespace {
        return None;
    }
    let Some((deleted_at, _)) = trace.deletion(&first.uid).filter(|(deleted_at, _)| *deleted_at < second.place) else {
        return (first.created_ms < second.created_ms).then_some("though the older one is still there");
    };
    let is_made_later = trace.versions[..deleted_at].iter().all(|version| version.uid != second.uid);
    let sent_ms = trace.posts_of(second).map(|post| post.arrived_ms).max_by(f64::total_cmp)?;
    let is_alike = first.base_url() == second.base_url() && first.is_promotion() == second.is_promotion();
    let was_taken_on = trace.posts_of(first).all(Post::counts);
    let is_followed = is_alike
        && was_taken_on
        && is_made_later
        && was_lost(trace, first).is_some()
        && settle_of_those_who_saw(trace, first, sent_ms).is_some();
    is_followed.then_some("though the process knew of that job when its resource was deleted")
}
