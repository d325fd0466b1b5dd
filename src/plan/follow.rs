//! An open attempt: what is waited for, what was seen of it so far, and what a person can do.
//!
//! Pure: no clock, no I/O, no log. Nothing that is said here changes while nothing happens, for each change is a write.

use super::{Step, stall, wait};
use crate::api::{Attempt, AttemptType, KonigleSpaceStatus, PairStatus, UnknownOutcomePolicy};
use crate::desired::Desired;
use crate::judge::words::{Class, class};
use crate::judge::{Judged, Open, wait_ends};
use crate::konigle::model::JobStatus;
use crate::observation::{LookError, Observation};
use crate::reason::Reason;
use crate::text::cut;
use crate::time;
use crate::wish::short;

/// An attempt is open: nothing else is started before it is closed.
pub(super) fn follow(open: &Open, desired: &Desired, seen: &Observation, judged: &Judged) -> Step {
    let Some(attempt) = &judged.status.attempt else { return wait(Reason::Progressing, "") };
    let job = attempt.job_id.as_deref().unwrap_or("unknown");
    let running = match attempt.attempt_type {
        AttemptType::Promote => Reason::PromotionRunning,
        AttemptType::Deploy | AttemptType::Other => Reason::DeployRunning,
    };
    let resolve = resolve(attempt, seen);
    let status = attempt.job_status.as_deref().unwrap_or("pending");
    let line = attempt.log.as_ref().and_then(|log| log.lines.last()).map_or("", String::as_str);
    let separator = if line.is_empty() { "" } else { ": " };
    let progress = format!("{status}{separator}{line}");
    match open {
        Open::Running => {
            wait(running, format!("attempt {} of {}, job {job} is {progress}", attempt.number, short(&attempt.digest)))
        }
        Open::Confirming => wait(running, format!("job {job} has ended: {progress}; waiting for the Space to show it")),
        Open::Verifying => {
            wait(running, format!("job {job} succeeded; checking that the uat Space stayed as it was approved"))
        }
        Open::Overdue => stall(
            Reason::JobOverdue,
            format!(
                "job {job}{} has not ended within spec.timeout; it is still followed{}, and nothing else is started before it ends: {resolve}{}",
                odd_word(attempt.job_status.as_deref()),
                unreadable(seen),
                if line.is_empty() { String::new() } else { format!("; the last line of its log is: {line}") }
            ),
        ),
        Open::Resolving => wait(
            Reason::ResolvingOutcome,
            format!(
                "what became of attempt {} of {} is not known. {}. The wait ends at {} at the latest, unless the operator was restarted since or Konigle does not answer, and nothing is sent before. To end it, {resolve}",
                attempt.number,
                short(&attempt.digest),
                evidence(attempt, desired, &judged.status),
                wait_ends(attempt, desired, seen.settle)
            ),
        ),
        Open::Undecided(why) => stall(Reason::OutcomeUnknown, format!("{why}: {resolve}")),
    }
}

/// What to look for in Konigle's console, and how to say what was found.
fn resolve(attempt: &Attempt, seen: &Observation) -> String {
    let trace = match attempt.attempt_type {
        AttemptType::Promote => format!("a promotion of about {}", attempt.started_at),
        AttemptType::Deploy | AttemptType::Other => format!("the deployment whose name ends in [{}]", attempt.nonce),
    };
    format!(
        "look in Konigle's console for {trace}, then say how it ended: {} (or =failed; or =retry, which sends it once more: a second one, if the first took effect)",
        seen.named().resolve(&attempt.nonce, "succeeded")
    )
}

/// What the Space showed last of an attempt whose outcome is unknown, and what that comes to: as in `judge::attempt`, which
/// decides it. From the record, for a look that fails must not change what is said.
fn evidence(attempt: &Attempt, desired: &Desired, status: &KonigleSpaceStatus) -> String {
    let baseline = attempt.baseline.pair();
    let shown = status.space.as_ref().map_or_else(
        || baseline.clone(),
        |space| PairStatus {
            last_deployed_at: space.last_deployed_at.clone(),
            last_deployment_status: space.last_deployment_status.clone(),
        },
    );
    if shown == baseline {
        let then = match desired.unknown_outcome_policy {
            UnknownOutcomePolicy::Resolve => "it is taken as never received, and tried again",
            UnknownOutcomePolicy::Hold => "a person is asked",
        };
        return format!("The Space shows nothing new; if that is so still when the wait ends, {then}");
    }
    let words = |pair: &PairStatus| {
        let at = pair.last_deployed_at.as_deref().map_or_else(String::new, |at| format!(" of {}", cut(at, 40)));
        format!("{}{at}", cut(pair.last_deployment_status.as_deref().unwrap_or("no status"), 40))
    };
    let is_older = time::is_before(shown.last_deployed_at.as_deref(), baseline.last_deployed_at.as_deref());
    let moved = shown.last_deployed_at != baseline.last_deployed_at && !is_older;
    let then = match class(shown.last_deployment_status.as_deref()) {
        Class::Success if moved => {
            "That proves nothing before the wait ends, and counts as this attempt's success then"
        }
        Class::Failure if !is_older => {
            "That proves nothing before the wait ends, and counts as this attempt's failure then"
        }
        _ => "That tells nothing; if it is so still when the wait ends, a person is asked",
    };
    let (shown, baseline) = (words(&shown), words(&baseline));
    format!("The Space shows {shown} (before the request: {baseline}). {then}")
}

/// That the token may not read the job: that is why it is not seen to end.
fn unreadable(seen: &Observation) -> String {
    match seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref()) {
        Some(Err(LookError::Forbidden(detail))) => format!(", but the token may not read it ({detail})"),
        _ => String::new(),
    }
}

/// A word of a job that is not known: that may be why the job seems not to end.
fn odd_word(job_status: Option<&str>) -> String {
    match job_status.map(|word| JobStatus::from(word.to_owned())) {
        Some(JobStatus::Unknown(word)) => format!(" (in status `{word}`, which this operator does not know)"),
        _ => String::new(),
    }
}
