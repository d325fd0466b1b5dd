//! Whether somebody else deployed: a pair that is not the one our own last job left.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Judged;
use super::words::{Class, class};
use crate::api::{AttemptResult, Attribution, HistoryEntry, KonigleSpaceStatus, PairStatus, ReleaseStatus};
use crate::observation::Observation;
use crate::time;

/// Whether a Space that shows this pair may have been read in an old state, from a server that lags behind another. Nothing
/// is to be told from it, and it must not become a baseline: the last release would then look like the next one's effect.
/// What is shown for longer than the server may lag is so all the same.
#[must_use]
pub fn is_stale(status: &KonigleSpaceStatus, pair: &PairStatus) -> bool {
    is_older(status, pair) || has_an_old_word(status, pair)
}

/// `last_deployed_at` never goes back, and never goes away.
fn is_older(status: &KonigleSpaceStatus, pair: &PairStatus) -> bool {
    let settled = status.settled.as_ref().and_then(|settled| settled.last_deployed_at.as_deref());
    let baseline = status.attempt.as_ref().and_then(|attempt| attempt.baseline.last_deployed_at.as_deref());
    [settled, baseline].into_iter().any(|known| time::is_before(pair.last_deployed_at.as_deref(), known))
}

/// A word comes again, so one that does not fit what our own last attempt came to may be from before its end.
fn has_an_old_word(status: &KonigleSpaceStatus, pair: &PairStatus) -> bool {
    let Some(settled) = status.settled.as_ref().filter(|_| status.attempt.is_none()) else { return false };
    settled != pair && settled.last_deployed_at == pair.last_deployed_at && !fits(last_outcome(status), pair, false)
}

/// Judges the pair of a Space that has no open attempt. A move that lies within our own last job, by the server's
/// clock, is that job's, seen late: it is pinned anew. All else is drift.
pub(super) fn judge(judged: &mut Judged, seen: &Observation) {
    let Some(space) = seen.space_seen() else { return };
    let pair = space.pair();
    let Some(settled) = judged.status.settled.clone() else { return };
    if pair == settled {
        return;
    }
    if is_ours(&judged.status, (&settled, &pair), seen) {
        pin(judged, pair);
        return;
    }
    let text = |time: &Option<String>| time.clone().unwrap_or_else(|| "never".to_owned());
    let known =
        if last_sent(&judged.status).is_some() { "our own last job left" } else { "at first contact it showed" };
    judged.drifted = Some(format!(
        "somebody else deployed to this Space: it was last deployed to at {} ({}), and {known} {} ({})",
        text(&pair.last_deployed_at),
        pair.last_deployment_status.as_deref().unwrap_or("no status"),
        text(&settled.last_deployed_at),
        settled.last_deployment_status.as_deref().unwrap_or("no status"),
    ));
}

fn is_ours(status: &KonigleSpaceStatus, (settled, pair): (&PairStatus, &PairStatus), seen: &Observation) -> bool {
    if time::is_before(pair.last_deployed_at.as_deref(), settled.last_deployed_at.as_deref()) {
        return false;
    }
    let job = seen.last_job.as_ref();
    let within = job.and_then(|job| {
        time::lies_within(pair.last_deployed_at.as_deref(), job.created_at.as_deref(), job.completed_at.as_deref())
    });
    if settled.last_deployed_at == pair.last_deployed_at {
        if is_taken_over(status) && class(pair.last_deployment_status.as_deref()) == Class::Success {
            // What was taken over had succeeded at this very time: the word before was read in an old state.
            return true;
        }
        // Only the word changed: our own, seen late, or somebody else's deployment that has not moved the time yet. It may be
        // that of the job before an attempt that came to nothing; then the time must say that it is that job's.
        let of_the_job = last_job(status).filter(|_| within == Some(true));
        let ours = last_outcome(status).or(of_the_job);
        return fits(ours, pair, ended_within(ours, seen.now, seen.settle.saturating_mul(2)));
    }
    // A server that sends no times leaves only our own clock: what moves within settle of the end is taken as lag.
    job.is_some() && within.unwrap_or_else(|| ended_within(last_job(status), seen.now, seen.settle))
}

/// Whether what runs is known by the note on the resource alone, which is written of successes only.
fn is_taken_over(status: &KonigleSpaceStatus) -> bool {
    let is_noted = |release: &ReleaseStatus| release.attribution == Attribution::Inferred && release.job_id.is_none();
    status.history.is_empty() && status.release.as_ref().is_some_and(is_noted)
}

/// Whether this attempt ended at most so long ago, by our own clock.
fn ended_within(entry: Option<&HistoryEntry>, now: Timestamp, limit: Duration) -> bool {
    let limit = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    entry
        .and_then(|entry| time::parse(&entry.completed_at))
        .is_some_and(|ended| now.duration_since(ended).abs() <= limit)
}

/// Whether the word can be that of this attempt, however late it is seen. One that is not known can only be told by when
/// it came.
fn fits(entry: Option<&HistoryEntry>, pair: &PairStatus, is_recent: bool) -> bool {
    let result = entry.map(|entry| entry.result);
    match class(pair.last_deployment_status.as_deref()) {
        Class::Success => result == Some(AttemptResult::Succeeded),
        Class::Failure => result == Some(AttemptResult::Failed),
        Class::Unfinished => false,
        Class::Unknown => is_recent,
    }
}

/// Takes this pair as what our own last job left. Where its word is not that of a success, somebody else may have deployed
/// within that job's bounds: then the job does not prove any more what runs.
fn pin(judged: &mut Judged, pair: PairStatus) {
    let status = &mut judged.status;
    let last_job = last_job(status).and_then(|entry| entry.job_id.clone());
    if let Some(release) =
        status.release.as_mut().filter(|release| release.job_id.is_some() && release.job_id == last_job)
    {
        if matches!(class(pair.last_deployment_status.as_deref()), Class::Unfinished | Class::Failure) {
            release.attribution = Attribution::Inferred;
        }
        release.last_deployed_at_seen.clone_from(&pair.last_deployed_at);
        release.last_deployment_status_seen.clone_from(&pair.last_deployment_status);
    }
    status.settled = Some(pair);
}

/// The last ended attempt that was sent, or may have been.
#[must_use]
pub fn last_sent(status: &KonigleSpaceStatus) -> Option<&HistoryEntry> {
    status.history.iter().find(|entry| entry.result != AttemptResult::NotSent)
}

/// The last ended attempt that was sent, where something came of it: one without a job that did not succeed may have been
/// refused.
fn last_outcome(status: &KonigleSpaceStatus) -> Option<&HistoryEntry> {
    last_sent(status).filter(|entry| entry.job_id.is_some() || entry.result == AttemptResult::Succeeded)
}

/// The last ended attempt whose job is known. An attempt without one, such as one that was refused, may have been sent
/// since: what that job left may still be seen late.
#[must_use]
pub fn last_job(status: &KonigleSpaceStatus) -> Option<&HistoryEntry> {
    status.history.iter().find(|entry| entry.job_id.is_some())
}
