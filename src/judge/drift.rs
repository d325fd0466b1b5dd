//! Whether somebody else deployed: a pair that is not the one our own last job left.

use super::Judged;
use super::words::{Class, class};
use crate::api::{AttemptResult, HistoryEntry, KonigleSpaceStatus, PairStatus};
use crate::observation::{JobTimes, LookError, Observation};
use crate::time;

/// Judges the pair of a Space that has no open attempt. A move that lies within our own last job, by the server's
/// clock, is that job's, seen late: it is pinned anew. All else is drift.
pub(super) fn judge(judged: &mut Judged, seen: &Observation) {
    let Some(space) = seen.space_seen() else { return };
    let pair = space.pair();
    let Some(settled) = judged.status.settled.clone() else { return };
    if pair == settled {
        return;
    }
    match &seen.last_job {
        // Whether it is ours cannot be told yet.
        Some(Err(LookError::Unavailable(_) | LookError::RateLimited(_) | LookError::Unauthorized(_))) => {}
        Some(Ok(times)) if is_ours(judged, &pair, times, seen) => pin(judged, pair),
        _ => {
            let text = |time: &Option<String>| time.clone().unwrap_or_else(|| "never".to_owned());
            judged.drifted = Some(format!(
                "somebody else deployed to this Space: it was last deployed to at {} ({}), and our own last job left {} ({})",
                text(&pair.last_deployed_at),
                pair.last_deployment_status.as_deref().unwrap_or("no status"),
                text(&settled.last_deployed_at),
                settled.last_deployment_status.as_deref().unwrap_or("no status"),
            ));
        }
    }
}

fn is_ours(judged: &Judged, pair: &PairStatus, job: &JobTimes, seen: &Observation) -> bool {
    let ended = last_sent(&judged.status).and_then(|entry| time::parse(&entry.completed_at));
    let settle = jiff::SignedDuration::try_from(seen.settle).unwrap_or(jiff::SignedDuration::MAX);
    let is_recent = ended.is_some_and(|ended| seen.now.duration_since(ended).abs() <= settle);
    if judged.status.settled.as_ref().is_some_and(|settled| settled.last_deployed_at == pair.last_deployed_at) {
        // Only the word changed: our own job's, seen late, or somebody else's deployment that has not moved the time yet.
        return fits_the_result(judged, pair, is_recent);
    }
    let within =
        time::lies_within(pair.last_deployed_at.as_deref(), job.created_at.as_deref(), job.completed_at.as_deref());
    // A server that sends no times leaves only our own clock: what moves within settle of the end is taken as lag.
    within.unwrap_or(is_recent)
}

/// Whether the word can be that of our own last job, however late it is seen. One that is not known can only be told by
/// when it came.
fn fits_the_result(judged: &Judged, pair: &PairStatus, is_recent: bool) -> bool {
    let result = last_sent(&judged.status).map(|entry| entry.result);
    match class(pair.last_deployment_status.as_deref()) {
        Class::Success => result == Some(AttemptResult::Succeeded),
        Class::Failure => result == Some(AttemptResult::Failed),
        Class::Unfinished => false,
        Class::Unknown => is_recent,
    }
}

fn pin(judged: &mut Judged, pair: PairStatus) {
    let status = &mut judged.status;
    let last_job = last_sent(status).and_then(|entry| entry.job_id.clone());
    if let Some(release) =
        status.release.as_mut().filter(|release| release.job_id.is_some() && release.job_id == last_job)
    {
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
