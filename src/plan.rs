//! What to do next: one step a pass.
//!
//! Pure and total: no clock, no I/O, no log; the same facts give the same step. Not acting is a step too, with its
//! reason. What has happened was judged before ([`crate::judge`]); nothing here closes an attempt.

mod advance;
mod claim;

pub use claim::claim;

use std::time::Duration;

use crate::api::{AttemptResult, AttemptType, BaselineSource, Cause, DriftPolicy};
use crate::desired::{Approval, Desired, Wish};
use crate::judge::{ANSWERED_RETRY, Judged, Open, is_pending, last_sent, needs_reset};
use crate::observation::{LookError, Observation, Problem};
use crate::reason::Reason;
use crate::time;
use crate::wish::{Gate, Wanted, gate, short, wanted};
use advance::{advance, artifact_retry, retry_in};

/// How long after a first 401 the token is taken as rejected.
const REJECTED_AFTER: Duration = Duration::from_secs(30);
/// How often a Stalled resource is looked at at the least, unless its interval is longer.
const STALLED_INTERVAL: Duration = Duration::from_mins(10);

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
        return follow(open, seen, judged);
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
            Reason::AwaitingSource => desired.interval,
            Reason::ArtifactUnavailable => artifact_retry(seen).unwrap_or(seconds(10)),
            _ => until_retry.unwrap_or(seconds(10)),
        },
        Step::Stall(problem) if problem.reason.is_about_credentials() => REJECTED_AFTER,
        Step::Stall(problem) if problem.reason == Reason::JobOverdue => REJECTED_AFTER,
        Step::Stall(_) => desired.interval.max(STALLED_INTERVAL),
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

fn look_failed(desired: &Desired, seen: &Observation, judged: &Judged) -> Option<Step> {
    let of_job = || seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref()).and_then(|look| look.as_ref().err());
    let error = match &seen.space {
        Some(Err(error)) => error,
        Some(Ok(_)) => return None,
        // Without a look there is no baseline.
        None if judged.open.is_none() => return Some(unseen(desired, seen, judged, "the Space was not looked at")),
        None => of_job()
            .filter(|error: &&LookError| matches!(error, LookError::Unauthorized(_) | LookError::Unavailable(_)))?,
    };
    let unseen = |message: &str| Some(unseen(desired, seen, judged, message));
    match error {
        LookError::Unauthorized(detail) => match seen.unauthorized_for {
            Some(ago) if ago >= REJECTED_AFTER => Some(stall(
                Reason::CredentialsRejected,
                format!(
                    "Konigle rejected the token ({detail}): put a valid one into key `token` of Secret {}; it is read again within 30 s",
                    desired.secret
                ),
            )),
            _ => unseen("Konigle answered 401 once; the Secret is read again and tried once more in 30 s"),
        },
        LookError::Forbidden(detail) => Some(stall(
            Reason::SpaceForbidden,
            format!(
                "the token of Secret {} may not use this Space ({detail}): use a token of the project that owns it, or correct spec.space",
                desired.secret
            ),
        )),
        LookError::NotFound(detail) => Some(stall(Reason::SpaceNotFound, detail.clone())),
        LookError::Ambiguous(detail) => Some(stall(Reason::InvalidSpec, detail.clone())),
        LookError::Changed(detail) => Some(stall(Reason::SpaceChanged, detail.clone())),
        LookError::Unavailable(detail) => {
            let limit = desired.interval.saturating_mul(3).max(Duration::from_mins(15));
            if seen.failing_for > limit {
                return Some(Step::Unreachable(Problem {
                    reason: Reason::KonigleUnreachable,
                    message: format!("Konigle has not answered for {} min: {detail}", seen.failing_for.as_secs() / 60),
                }));
            }
            if judged.open.is_some() { None } else { unseen(detail.as_str()) }
        }
    }
}

/// A failed look changes nothing, but a wish that is known to be unmet is not called met meanwhile, and what was said of
/// another wish is not said of this one.
fn unseen(desired: &Desired, seen: &Observation, judged: &Judged, message: &str) -> Step {
    let known = judged.status.condition("Ready").is_some();
    let unmet = wanted(desired, seen).is_some_and(|wanted| cause(desired, judged, &wanted).is_some());
    if !known || (unmet && (judged.new_wish || judged.status.is_true("Ready"))) {
        return wait(Reason::Progressing, message);
    }
    Step::Unseen(message.to_owned())
}

/// An attempt is open: nothing else is started before it is closed.
fn follow(open: &Open, seen: &Observation, judged: &Judged) -> Step {
    let Some(attempt) = &judged.status.attempt else { return wait(Reason::Progressing, "") };
    let job = attempt.job_id.as_deref().unwrap_or("unknown");
    let running = match attempt.attempt_type {
        AttemptType::Promote => Reason::PromotionRunning,
        AttemptType::Deploy | AttemptType::Other => Reason::DeployRunning,
    };
    let resolve = format!(
        "find out in Konigle's console what became of it, then: kubectl annotate kspace {} --namespace {} --overwrite cloud.konigle.com/resolve-attempt={}=succeeded (or =failed, or =retry)",
        seen.name, seen.namespace, attempt.nonce
    );
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
                "job {job} has not ended within spec.timeout; it is still followed, and nothing else is started before it ends: {resolve}"
            ),
        ),
        Open::Resolving => wait(
            Reason::ResolvingOutcome,
            format!(
                "whether attempt {} of {} took effect is not known; evidence is awaited, nothing is sent meanwhile",
                attempt.number,
                short(&attempt.digest)
            ),
        ),
        Open::Undecided(why) => stall(Reason::OutcomeUnknown, format!("{why}: {resolve}")),
    }
}

/// What keeps this resource from this Space. A type that is not known is no better than the wrong one: what came of a
/// promotion would be looked for in a Space that it does not change.
fn misfit(desired: &Desired, seen: &Observation) -> Option<Problem> {
    let space = seen.space.as_ref()?.as_ref().ok()?;
    let message = match (space.status.space_type.as_str(), desired.promotes()) {
        ("uat", false) | ("production", true) => {
            return seen.conflict.as_ref().map(|other| Problem {
                reason: Reason::SpaceConflict,
                message: format!("KonigleSpace {other} is older and names the same Space: delete one of the two; nothing remote is deleted with it"),
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
    let requests = &desired.requests;
    if is_pending(requests.reset_at.as_ref(), status.last_handled_reset_at.as_ref()) && needs_reset(judged) {
        return Some(Cause::Reset);
    }
    if is_pending(requests.redeploy_at.as_ref(), status.last_handled_redeploy_at.as_ref()) {
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
                "{drift}; what runs is not known. Deploy the spec's digest again with the annotation cloud.konigle.com/reset-at, write another digest, or accept it with spec.driftPolicy: Ignore"
            ),
        );
    }
    if let Some(content) = judged.content.as_ref().filter(|content| content.verified == Some(false)) {
        return stall(
            Reason::ContentNotVerified,
            format!(
                "{}; promote again with the annotation cloud.konigle.com/reset-at, or approve another digest",
                content.message
            ),
        );
    }
    let space = seen.space.as_ref().and_then(|look| look.as_ref().ok());
    match space.map(|space| space.status.status.as_str()) {
        Some("provisioning") => return provisioning(),
        Some("stopped") => return stopped(),
        Some("error") => {
            return stall(Reason::SpaceError, "the Space is in status error: see Konigle's console; another digest, or the annotation cloud.konigle.com/redeploy-at, deploys again".to_owned());
        }
        _ => {}
    }
    let release = judged.status.release.as_ref();
    if let Some(Gate::Closed(problem)) = gate(desired, seen) {
        let asked = wanted(desired, seen).is_some();
        if problem.reason == Reason::SourceNotFound {
            return Step::Stall(problem);
        }
        if !asked && automatic(desired) && release.is_none() {
            return wait(Reason::AwaitingSource, problem.message);
        }
        if !asked && !automatic(desired) {
            return Step::Rest(Problem { reason: Reason::AwaitingApproval, message: problem.message });
        }
    }
    Step::Rest(met(seen, judged))
}

fn met(seen: &Observation, judged: &Judged) -> Problem {
    let runs = judged.status.release.as_ref().map_or("nothing", |release| release.digest.as_str());
    let assumed =
        judged.status.release.as_ref().is_some_and(|release| release.attribution == crate::api::Attribution::Assumed);
    let space = seen.space.as_ref().and_then(|look| look.as_ref().ok()).map(|space| space.status.status.as_str());
    let odd = match space {
        None | Some("running") => String::new(),
        Some(word) => format!("; the Space is in status {word}"),
    };
    if assumed {
        return Problem {
            reason: Reason::Assumed,
            message: format!(
                "{} is assumed to run, as spec.adoptionPolicy says; no job of this resource proves it{odd}",
                short(runs)
            ),
        };
    }
    Problem { reason: Reason::Succeeded, message: format!("{} runs{odd}", short(runs)) }
}

fn provisioning() -> Step {
    wait(Reason::SpaceProvisioning, "the Space is still being provisioned")
}

fn stopped() -> Step {
    stall(Reason::SpaceStopped, "the Space is stopped: start it in Konigle's console".to_owned())
}

fn wait(reason: Reason, message: impl Into<String>) -> Step {
    Step::Wait(Problem { reason, message: message.into() })
}

fn stall(reason: Reason, message: String) -> Step {
    Step::Stall(Problem { reason, message })
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod tests;
