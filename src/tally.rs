//! Counts what a status that was written says has happened. Nothing is counted before its write took place, so a pass
//! that is done again counts nothing twice.

use std::time::Duration;

use jiff::SignedDuration;

use crate::api::{Attempt, Cause, KonigleSpace, KonigleSpaceStatus};
use crate::konigle::model::JobStatus;
use crate::metrics::Metrics;
use crate::observation::Observation;
use crate::status::newly_ended;
use crate::time;

/// The longest time of a job that is believed: a server may send any date.
const LONGEST_JOB: SignedDuration = SignedDuration::from_hours(24);

/// Counts what differs between a resource before and after a pass wrote its status, with the facts of that pass.
pub fn tally(metrics: &Metrics, before: &KonigleSpace, after: &KonigleSpace, seen: &Observation) {
    let none = KonigleSpaceStatus::default();
    let (before, after) = (before.status.as_ref().unwrap_or(&none), after.status.as_ref().unwrap_or(&none));
    if let Some(entry) = newly_ended(before, after) {
        let kind = entry.attempt_type.word();
        metrics.attempt(kind, entry.result.word());
        let attempt = before.attempt.as_ref().filter(|attempt| attempt.number == entry.number);
        if let Some((result, time)) = attempt.and_then(|attempt| job_time(attempt, seen)) {
            metrics.job(kind, result, time.as_secs_f64());
        }
    }
    if begins_to_drift(before, after) {
        metrics.drift();
    }
}

/// How the job of this attempt ended, and how long it took; where the server does not say, by our own clock, from the claim
/// to the first look that showed the end. `None` where no look showed it.
fn job_time(attempt: &Attempt, seen: &Observation) -> Option<(&'static str, Duration)> {
    let facts = seen.attempt.as_ref()?;
    let job = facts.job.as_ref()?.as_ref().ok()?;
    let result = match job.status {
        JobStatus::Success => "Succeeded",
        JobStatus::Failed => "Failed",
        JobStatus::Pending | JobStatus::Running | JobStatus::Unknown(_) => return None,
    };
    let remote = |text: &Option<String>| text.as_deref().and_then(time::parse);
    let told = remote(&job.created_at).zip(remote(&job.completed_at)).map(|(from, to)| to.duration_since(from));
    let own = || {
        let since_the_claim = seen.now.duration_since(time::parse(&attempt.started_at)?);
        Some(since_the_claim.saturating_sub(SignedDuration::try_from(facts.job_ended_for).ok()?))
    };
    let time = told.filter(|time| (SignedDuration::ZERO..=LONGEST_JOB).contains(time)).or_else(own)?;
    Some((result, Duration::try_from(time).unwrap_or_default()))
}

/// Whether somebody else's deployment shows that did not before; under `Redeploy` the first that is written of it may be the
/// claim of what replaces it.
fn begins_to_drift(before: &KonigleSpaceStatus, after: &KonigleSpaceStatus) -> bool {
    let redeploy = |status: &KonigleSpaceStatus| {
        let open = status.attempt.as_ref().filter(|attempt| attempt.cause == Cause::Drift);
        open.map(|attempt| attempt.number)
    };
    let begins = redeploy(after).is_some() && redeploy(after) != redeploy(before);
    !before.is_true("Drifted") && (after.is_true("Drifted") || begins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_facts::{A, Facts};

    /// How long the job of an attempt that was claimed two minutes ago is said to have taken.
    fn told(created_at: Option<&str>, completed_at: Option<&str>, status: JobStatus) -> Option<(&'static str, f64)> {
        let facts = Facts::uat().in_flight(A).with_job(status).known(|known| {
            known.job_ended_for = Duration::from_secs(10);
            if let Some(Ok(job)) = &mut known.job {
                job.created_at = created_at.map(str::to_owned);
                job.completed_at = completed_at.map(str::to_owned);
            }
        });
        job_time(facts.status.attempt.as_ref().unwrap(), &facts.seen).map(|(result, time)| (result, time.as_secs_f64()))
    }

    #[test]
    fn a_job_takes_what_the_server_says_unless_that_cannot_be() {
        let (from, to) = ("2026-11-24T08:00:00.5Z", "2026-11-24T08:01:00.75Z");
        assert_eq!(told(Some(from), Some(to), JobStatus::Success), Some(("Succeeded", 60.25)));
        assert_eq!(told(Some(from), Some(to), JobStatus::Failed), Some(("Failed", 60.25)));
        let own = Some(("Succeeded", 110.0));
        for (from, to) in [
            (None, Some(to)),
            (Some(from), None),
            (Some(to), Some(from)),
            (Some("yesterday"), Some(to)),
            (Some("0001-01-01T00:00:00Z"), Some(to)),
            (Some(from), Some("9999-12-30T00:00:00Z")),
        ] {
            assert_eq!(told(from, to, JobStatus::Success), own, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn a_job_whose_end_was_not_seen_has_no_time() {
        for status in [JobStatus::Pending, JobStatus::Running, JobStatus::Unknown("gone".to_owned())] {
            assert_eq!(told(Some("2026-11-24T08:00:00Z"), Some("2026-11-24T08:01:00Z"), status), None);
        }
        let facts = Facts::uat().in_flight(A);
        assert_eq!(job_time(facts.status.attempt.as_ref().unwrap(), &facts.seen), None);
    }
}
