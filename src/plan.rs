//! What to do next: one step a pass.
//!
//! Pure and total: no clock, no I/O, no log; the same facts give the same step. Not acting is a step too, with its
//! reason. What has happened was judged before ([`crate::judge`]); nothing here closes an attempt.

mod advance;
mod claim;
mod looks;

pub use claim::claim;

use std::time::Duration;

use crate::api::{
    Attempt, AttemptResult, AttemptType, BaselineSource, Cause, DriftPolicy, REDEPLOY_AT, RESET_AT, RESOLVE_ATTEMPT,
};
use crate::desired::{Approval, Desired, Wish};
use crate::judge::{ANSWERED_RETRY, Judged, Open, last_sent, needs_reset, wait_ends};
use crate::konigle::model::JobStatus;
use crate::observation::{LookError, Observation, Problem};
use crate::reason::Reason;
use crate::time;
use crate::wish::{Gate, Wanted, gate, short, wanted};
use advance::{advance, artifact_retry, retry_in};
use looks::look_failed;

/// How long after a first 401 the token is taken as rejected.
const REJECTED_AFTER: Duration = Duration::from_secs(30);
/// How long a resource that was just made waits for the uat resource that it names.
const SOURCE_COMES_WITHIN: Duration = Duration::from_secs(30);
/// How often a Stalled resource is looked at at the least, unless its interval is longer.
const STALLED_INTERVAL: Duration = Duration::from_mins(10);
/// What to do once that is mended which no watch tells of.
const THEN_LOOK: &str = "then set the annotation cloud.konigle.com/reconcile-at, or wait for the next look";

/// The one thing to do in this pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The wish is met, or nothing is asked.
    Rest(Problem),
    /// The artifact is wanted on disk.
    Fetch,
    /// The wanted digest is to be released.
    Start(Release),
    /// Something is under way, here or elsewhere, and needs no person.
    Wait(Problem),
    /// A person must act.
    Stall(Problem),
    /// The wish is not met, and nothing may be written.
    Suspend(Problem),
    /// Konigle has not answered for long.
    Unreachable(Problem),
    /// A look brought nothing: nothing changes yet.
    Unseen(String),
}

/// What to ask of Konigle, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Why.
    pub cause: Cause,
    /// What.
    pub wanted: Wanted,
    /// How.
    pub kind: ReleaseKind,
}

/// How a digest gets into a Space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseKind {
    /// It is uploaded.
    Deploy {
        /// Its size in bytes.
        size: u64,
    },
    /// It is copied from the uat Space.
    Promote {
        /// The uat side as it must stay.
        source: BaselineSource,
    },
}

/// The next step.
#[must_use]
pub fn next_step(desired: &Desired, seen: &Observation, judged: &Judged) -> Step {
    if let Err(problem) = &seen.account {
        return Step::Stall(problem.clone());
    }
    if let Some(step) = look_failed(desired, seen, judged) {
        return step;
    }
    if let Some(open) = &judged.open {
        return follow(open, desired, seen, judged);
    }
    if let Some(problem) = misfit(desired, seen) {
        return Step::Stall(problem);
    }
    let wanted = wanted(desired, seen);
    match wanted.and_then(|wanted| Some((cause(desired, judged, &wanted)?, wanted))) {
        Some((cause, wanted)) => advance(desired, seen, judged, cause, wanted),
        None => rest(desired, seen, judged),
    }
}

/// When to look again after this step, without jitter.
#[must_use]
pub fn look_again(step: &Step, desired: &Desired, seen: &Observation, judged: &Judged) -> Duration {
    let seconds = Duration::from_secs;
    let until_retry = retry_in(&judged.status, seen.now);
    match step {
        Step::Rest(_) | Step::Suspend(_) => desired.interval,
        // The end of the download wakes the resource.
        Step::Fetch => seconds(30),
        Step::Start(_) => seconds(1),
        Step::Wait(problem) => match problem.reason {
            Reason::DeployRunning | Reason::PromotionRunning => job_pace(judged, seen),
            Reason::ResolvingOutcome => seconds(5),
            Reason::SpaceProvisioning | Reason::HeldByPromotion => seconds(15),
            Reason::AwaitingSource => source_may_come(seen).unwrap_or(desired.interval),
            Reason::ArtifactUnavailable => artifact_retry(seen).unwrap_or(seconds(10)),
            _ => until_retry.unwrap_or(seconds(10)),
        },
        Step::Stall(problem) if problem.reason.is_about_credentials() => REJECTED_AFTER,
        Step::Stall(problem) if problem.reason == Reason::JobOverdue => REJECTED_AFTER,
        Step::Stall(_) => until_retry.unwrap_or(desired.interval.max(STALLED_INTERVAL)),
        Step::Unreachable(_) => seconds(60),
        Step::Unseen(_) => {
            seen.unauthorized_for.map_or(seconds(15), |ago| REJECTED_AFTER.saturating_sub(ago)).max(seconds(1))
        }
    }
}

/// Fast while a job is young, so that people see it move; slower afterwards, for each write makes Argo CD look again.
fn job_pace(judged: &Judged, seen: &Observation) -> Duration {
    let started = judged.status.attempt.as_ref().and_then(|attempt| time::parse(&attempt.started_at));
    let young = started.is_some_and(|started| seen.now.duration_since(started).as_secs() < 30);
    Duration::from_secs(if young || judged.open != Some(Open::Running) { 3 } else { 10 })
}

/// The command that sets one of our annotations on this very resource.
fn annotate(seen: &Observation, annotation: &str) -> String {
    format!("kubectl annotate kspace {} --namespace {} --overwrite {annotation}", seen.name, seen.namespace)
}

/// The command by which a person says what became of an attempt: `succeeded`, `failed` or `retry`.
#[must_use]
pub fn resolve_command(seen: &Observation, attempt: &Attempt, answer: &str) -> String {
    annotate(seen, &format!("{RESOLVE_ATTEMPT}={}={answer}", attempt.nonce))
}

/// An attempt is open: nothing else is started before it is closed.
fn follow(open: &Open, desired: &Desired, seen: &Observation, judged: &Judged) -> Step {
    let Some(attempt) = &judged.status.attempt else { return wait(Reason::Progressing, "") };
    let job = attempt.job_id.as_deref().unwrap_or("unknown");
    let running = match attempt.attempt_type {
        AttemptType::Promote => Reason::PromotionRunning,
        AttemptType::Deploy | AttemptType::Other => Reason::DeployRunning,
    };
    let command = resolve_command(seen, attempt, "succeeded");
    let resolve = format!("find out in Konigle's console what became of it, then: {command} (or =failed, or =retry)");
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
                "what became of attempt {} of {} is not known; evidence is awaited until {} at the latest, unless the operator was restarted since or Konigle does not answer, and nothing is sent meanwhile; to end the wait, {resolve}",
                attempt.number,
                short(&attempt.digest),
                wait_ends(attempt, desired, seen.settle)
            ),
        ),
        Open::Undecided(why) => stall(Reason::OutcomeUnknown, format!("{why}: {resolve}")),
    }
}

/// The command that asks for something by an annotation whose value must only be new.
fn annotate_now(seen: &Observation, annotation: &str) -> String {
    annotate(seen, &format!("{annotation}=\"$(date +%s)\""))
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

/// What keeps this resource from this Space. A type that is not known is no better than the wrong one: what came of a
/// promotion would be looked for in a Space that it does not change.
fn misfit(desired: &Desired, seen: &Observation) -> Option<Problem> {
    let space = seen.space_seen()?;
    let message = match (space.status.space_type.as_str(), desired.promotes()) {
        ("uat", false) | ("production", true) => {
            return seen.conflict.as_ref().map(|other| Problem {
                reason: Reason::SpaceConflict,
                message: format!("KonigleSpace {other} names the same Space, and is older or has a release under way: delete one of the two; nothing remote is deleted with it"),
            });
        }
        ("production", false) => {
            "this is a production Space, and artifacts are deployed to uat only: make a new KonigleSpace with spec.promotion for it".to_owned()
        }
        ("uat", true) => {
            "this is a uat Space, and promotions go to production: make a new KonigleSpace with spec.source for it".to_owned()
        }
        (other, _) => format!("this Space is of type {other}, and only uat and production are known: use a newer operator, or name another Space in a new KonigleSpace"),
    };
    Some(Problem { reason: Reason::InvalidSpec, message })
}

/// Why the wanted digest is to be released, if it is.
#[must_use]
pub fn cause(desired: &Desired, judged: &Judged, wanted: &Wanted) -> Option<Cause> {
    let status = &judged.status;
    if desired.requests.reset(status) && needs_reset(judged) {
        return Some(Cause::Reset);
    }
    if desired.requests.redeploy(status) {
        return Some(Cause::Person);
    }
    let runs = status.release.as_ref().is_some_and(|release| release.digest == wanted.digest);
    let unverified = judged.content.as_ref().is_some_and(|content| content.verified == Some(false));
    if unverified && (runs || automatic(desired)) {
        return None;
    }
    if judged.drifted.is_some() {
        match desired.drift_policy {
            DriftPolicy::Warn => return None,
            DriftPolicy::Redeploy if runs => return Some(Cause::Drift),
            DriftPolicy::Redeploy | DriftPolicy::Ignore => {}
        }
    }
    let last = last_sent(status).filter(|last| last.digest == wanted.digest && last.result != AttemptResult::Succeeded);
    match last {
        Some(last) if last.message == ANSWERED_RETRY => Some(Cause::Person),
        Some(_) => Some(Cause::Retry),
        None if runs => None,
        None => {
            let unsent = status
                .history
                .first()
                .filter(|entry| entry.result == AttemptResult::NotSent && entry.digest == wanted.digest);
            Some(unsent.map_or(Cause::Spec, |entry| entry.cause))
        }
    }
}

fn automatic(desired: &Desired) -> bool {
    matches!(&desired.wish, Wish::Promote { approval: Approval::Automatic, .. })
}

/// The wish is met, or nothing may be done about it without a person.
fn rest(desired: &Desired, seen: &Observation, judged: &Judged) -> Step {
    if let Some(drift) = judged.drifted.as_ref().filter(|_| desired.drift_policy != DriftPolicy::Ignore) {
        return stall(
            Reason::Drifted,
            format!(
                "{drift}; what runs is not known. Write another digest, accept it with spec.driftPolicy: Ignore, or deploy the spec's digest again: {}",
                annotate_now(seen, RESET_AT)
            ),
        );
    }
    if let Some(content) = judged.content.as_ref().filter(|content| content.verified == Some(false)) {
        return stall(
            Reason::ContentNotVerified,
            format!("{}; approve another digest, or promote again: {}", content.message, annotate_now(seen, RESET_AT)),
        );
    }
    let space = seen.space_seen();
    match space.map(|space| space.status.status.as_str()) {
        Some("provisioning") => return provisioning(),
        Some("stopped") => return stopped(),
        Some("error") => {
            return stall(
                Reason::SpaceError,
                format!(
                    "the Space is in status error: see Konigle's console for why; another digest is deployed all the same, and this one again by: {}",
                    annotate_now(seen, REDEPLOY_AT)
                ),
            );
        }
        _ => {}
    }
    let release = judged.status.release.as_ref();
    if let Some(Gate::Closed(problem)) = gate(desired, seen) {
        let asked = wanted(desired, seen).is_some();
        if problem.reason == Reason::SourceNotFound {
            return without_source(seen, problem);
        }
        if !asked && automatic(desired) && release.is_none() {
            if desired.suspended {
                let message = format!("{}; spec.suspend is true: nothing would be promoted either", problem.message);
                return Step::Suspend(Problem { reason: Reason::Suspended, message });
            }
            return wait(Reason::AwaitingSource, problem.message);
        }
        if !asked && !automatic(desired) {
            return Step::Rest(Problem { reason: Reason::AwaitingApproval, message: problem.message });
        }
    }
    Step::Rest(met(seen, judged))
}

fn met(seen: &Observation, judged: &Judged) -> Problem {
    let release = judged.status.release.as_ref();
    let runs = short(release.map_or("nothing", |release| release.digest.as_str()));
    let assumed = release.is_some_and(|release| release.attribution == crate::api::Attribution::Assumed);
    let space = seen.space_seen().map(|space| space.status.status.as_str());
    let odd = match space {
        None | Some("running") => String::new(),
        Some(word) => format!("; the Space is in status {word}"),
    };
    let what = match (&judged.drifted, assumed) {
        (Some(_), _) => "was recorded as running, but somebody else deployed since",
        (None, true) => "is assumed to run, as spec.adoptionPolicy says; no job of this resource proves it",
        (None, false) => "runs",
    };
    let reason = if assumed { Reason::Assumed } else { Reason::Succeeded };
    Problem { reason, message: format!("{runs} {what}{odd}") }
}

/// No uat resource can be seen. The commit that made this one may bring it a moment later, in any order, and those who
/// wait for health, such as Flux and Argo CD, give up on what is Stalled.
fn without_source(seen: &Observation, problem: Problem) -> Step {
    match source_may_come(seen) {
        Some(_) => wait(Reason::AwaitingSource, problem.message),
        None => Step::Stall(problem),
    }
}

/// How much longer the missing uat resource may come by itself. A clock that is wrong by more than that leaves no time.
fn source_may_come(seen: &Observation) -> Option<Duration> {
    let is_missing = seen.source.as_ref().is_none_or(|source| !source.exists && !source.unreadable);
    let age = seen.now.duration_since(seen.created_at.filter(|_| is_missing)?).unsigned_abs();
    SOURCE_COMES_WITHIN.checked_sub(age).filter(|left| !left.is_zero())
}

fn provisioning() -> Step {
    wait(Reason::SpaceProvisioning, "the Space is still being provisioned; all goes on by itself when that has ended")
}

fn stopped() -> Step {
    stall(Reason::SpaceStopped, format!("the Space is stopped: start it in Konigle's console, {THEN_LOOK}"))
}

fn wait(reason: Reason, message: impl Into<String>) -> Step {
    Step::Wait(Problem { reason, message: message.into() })
}

fn stall(reason: Reason, message: String) -> Step {
    Step::Stall(Problem { reason, message })
}

#[cfg(test)]
pub(crate) mod properties;
#[cfg(test)]
pub mod tests;
