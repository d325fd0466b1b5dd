//! What to do next: one step a pass.
//!
//! Pure and total: no clock, no I/O, no log; the same facts give the same step. Not acting is a step too, with its
//! reason. What has happened was judged before ([`crate::judge`]); nothing here closes an attempt.

mod claim;
mod looks;

pub use claim::claim;

use std::time::Duration;

use jiff::Timestamp;

use looks::{look_failed, unauthorized_once};

use crate::api::{
    AttemptResult, AttemptType, BaselineSource, Cause, DriftPolicy, KonigleSpaceStatus, RESET_AT, RESOLVE_ATTEMPT,
};
use crate::artifact::FetchError;
use crate::desired::{Approval, Desired, Wish};
use crate::judge::words::{Class, class};
use crate::judge::{ANSWERED_RETRY, Judged, Open, is_pending, last_sent, needs_reset};
use crate::konigle::model::JobStatus;
use crate::observation::{ArtifactFacts, Observation, PairProof, Problem, Refusal};
use crate::reason::Reason;
use crate::time;
use crate::wish::{Gate, Wanted, gate, short, wanted};

/// How long after a first 401 the token is taken as rejected.
const REJECTED_AFTER: Duration = Duration::from_secs(30);
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

/// An attempt is open: nothing else is started before it is closed.
fn follow(open: &Open, seen: &Observation, judged: &Judged) -> Step {
    let Some(attempt) = &judged.status.attempt else { return wait(Reason::Progressing, "") };
    let job = attempt.job_id.as_deref().unwrap_or("unknown");
    let running = match attempt.attempt_type {
        AttemptType::Promote => Reason::PromotionRunning,
        AttemptType::Deploy | AttemptType::Other => Reason::DeployRunning,
    };
    let command = annotate(seen, &format!("{RESOLVE_ATTEMPT}={}=succeeded", attempt.nonce));
    let resolve = format!("find out in Konigle's console what became of it, then: {command} (or =failed, or =retry)");
    match open {
        Open::Running => {
            let status = attempt.job_status.as_deref().unwrap_or("pending");
            let line = attempt.log.as_ref().and_then(|log| log.lines.last()).map_or("", String::as_str);
            let separator = if line.is_empty() { "" } else { ": " };
            wait(
                running,
                format!(
                    "attempt {} of {}, job {job} is {status}{separator}{line}",
                    attempt.number,
                    short(&attempt.digest)
                ),
            )
        }
        Open::Confirming => wait(running, format!("job {job} succeeded; waiting for the Space to show it")),
        Open::Verifying => {
            wait(running, format!("job {job} succeeded; checking that the uat Space stayed as it was approved"))
        }
        Open::Overdue => stall(
            Reason::JobOverdue,
            format!(
                "job {job}{} has not ended within spec.timeout; it is still followed, and nothing else is started before it ends: {resolve}",
                odd_word(attempt.job_status.as_deref())
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

/// The wish is not met: one step towards it.
fn advance(desired: &Desired, seen: &Observation, judged: &Judged, cause: Cause, wanted: Wanted) -> Step {
    let status = &judged.status;
    if desired.suspended {
        return Step::Suspend(Problem {
            reason: Reason::Suspended,
            message: format!(
                "{} is wanted, but spec.suspend is true: nothing is written to Konigle",
                short(&wanted.digest)
            ),
        });
    }
    if let Some(step) = must_not_try(desired, seen, judged, cause, &wanted) {
        return step;
    }
    if status.held_by.is_some() || !seen.promotions.is_empty() {
        let holder = status.held_by.as_ref().map(|held| held.name.clone()).or_else(|| seen.promotions.first().cloned());
        return wait(
            Reason::HeldByPromotion,
            format!(
                "KonigleSpace {} is promoting what runs here; the deployment starts when that has ended",
                holder.unwrap_or_default()
            ),
        );
    }
    if let Some(step) = space_not_usable(seen, status) {
        return step;
    }
    match &desired.wish {
        Wish::Promote { .. } => match gate(desired, seen) {
            Some(Gate::Open(source)) => promote(seen, source, cause, wanted),
            Some(Gate::Closed(problem)) if problem.reason == Reason::SourceNotFound => Step::Stall(problem),
            Some(Gate::Closed(problem)) => wait(Reason::AwaitingSource, problem.message),
            None => wait(Reason::Progressing, ""),
        },
        Wish::Deploy(_) => deploy(desired, seen, cause, wanted),
    }
}

/// The attempts are used up, or it is too early for the next.
fn must_not_try(desired: &Desired, seen: &Observation, judged: &Judged, cause: Cause, wanted: &Wanted) -> Option<Step> {
    let status = &judged.status;
    if let Some(quarantined) = status.quarantined.iter().find(|quarantined| quarantined.digest == wanted.digest) {
        let last = last_sent(status).map_or("", |entry| entry.message.as_str());
        let reason = Reason::of_quarantine(&quarantined.reason);
        let tried = match (reason, status.failures) {
            (Reason::RetriesExceeded, 1) => " after 1 failed attempt".to_owned(),
            (Reason::RetriesExceeded, failures) => format!(" after {failures} failed attempts"),
            _ => String::new(),
        };
        let other = if desired.promotes() { "approve" } else { "publish" };
        let command = annotate(seen, &format!("{RESET_AT}=\"$(date)\""));
        return Some(stall(
            reason,
            format!(
                "{} is not tried again{tried}: {last}; {other} another digest, or try this one again: {command}",
                short(&wanted.digest)
            ),
        ));
    }
    if cause == Cause::Drift && drift_loops(desired, status) {
        return Some(stall(
            Reason::DriftLoop,
            "somebody else keeps deploying to this Space, and it was redeployed as often as spec.retry.limit allows in an hour: find out who, then set the annotation cloud.konigle.com/reset-at".to_owned(),
        ));
    }
    retry_in(status, seen.now)?;
    if let Some(refusal) = &seen.refusal {
        return Some(refused(desired, status, refusal));
    }
    let at = status.next_retry_time.as_deref().unwrap_or_default();
    let message = match status.history.first() {
        Some(last) if last.result != AttemptResult::NotSent => format!(
            "{}; failed attempt {} of {}, the next starts after {at}",
            last.message, status.failures, desired.retry_limit
        ),
        Some(last) => format!("{}; the next attempt starts after {at}", last.message),
        None => format!("the next attempt starts after {at}"),
    };
    Some(wait(Reason::ProgressingWithRetry, message))
}

/// The last request was refused for a reason that says nothing against what was sent.
fn refused(desired: &Desired, status: &KonigleSpaceStatus, refusal: &Refusal) -> Step {
    let Problem { reason, message } = &refusal.problem;
    let again = format!("tried again after {}", status.next_retry_time.as_deref().unwrap_or_default());
    let secret = &desired.secret;
    match reason {
        Reason::CredentialsRejected if refusal.times < 2 => wait(Reason::Progressing, unauthorized_once()),
        Reason::CredentialsRejected => {
            stall(*reason, format!("{message}: put a valid one into key `token` of Secret {secret}; {again}"))
        }
        Reason::SpaceForbidden => stall(
            *reason,
            format!(
                "{message}: the token of Secret {secret} reads the Space but may not deploy; use one that may; {again}"
            ),
        ),
        Reason::SpaceNotFound => stall(
            *reason,
            format!(
                "{message}: see in Konigle's console whether the Space that spec.space names is still there; {again}"
            ),
        ),
        _ => wait(*reason, format!("{message}; {again}")),
    }
}

/// How long until the next attempt may start.
fn retry_in(status: &KonigleSpaceStatus, now: Timestamp) -> Option<Duration> {
    let wait = time::parse(status.next_retry_time.as_deref()?)?.duration_since(now);
    Duration::try_from(wait).ok().filter(|wait| !wait.is_zero())
}

/// The newest releases were all made because of drift, within an hour, up to the limit; retries of such a release do not
/// count, and do not hide it. Sticky until a person acts.
fn drift_loops(desired: &Desired, status: &KonigleSpaceStatus) -> bool {
    let limit = usize::try_from(desired.retry_limit).unwrap_or(1).min(desired.history_limit);
    let newest: Vec<_> = status
        .history
        .iter()
        .filter(|entry| entry.result != AttemptResult::NotSent)
        .take_while(|entry| matches!(entry.cause, Cause::Drift | Cause::Retry))
        .filter(|entry| entry.cause == Cause::Drift)
        .take(limit)
        .collect();
    let within_an_hour = || {
        let first = newest.last().and_then(|entry| time::parse(&entry.started_at));
        let last = newest.first().and_then(|entry| time::parse(&entry.started_at));
        first.zip(last).is_none_or(|(first, last)| last.duration_since(first).as_secs() <= 3600)
    };
    newest.len() == limit && within_an_hour()
}

/// Whether the Space itself can take a release now. One in `error` can: a new release may be what mends it.
fn space_not_usable(seen: &Observation, status: &KonigleSpaceStatus) -> Option<Step> {
    let space = seen.space.as_ref()?.as_ref().ok()?;
    match space.status.status.as_str() {
        "provisioning" => Some(provisioning()),
        "stopped" => Some(stopped()),
        _ => {
            // Nothing is pinned yet: whatever runs there is not ours.
            let foreign =
                status.settled.is_none() && class(space.status.last_deployment_status.as_deref()) == Class::Unfinished;
            foreign.then(|| wait(Reason::SpaceBusy, "somebody else's deployment is under way; it is waited out first"))
        }
    }
}

fn promote(seen: &Observation, source: BaselineSource, cause: Cause, wanted: Wanted) -> Step {
    match &seen.pair {
        PairProof::Proven => {}
        PairProof::NotProven(why) => return stall(Reason::PairNotProven, why.clone()),
        PairProof::NotLooked => return wait(Reason::Progressing, "whether the two Spaces are a pair is looked up"),
        PairProof::Unavailable(why) => return wait(Reason::Progressing, why.clone()),
    }
    Step::Start(Release { cause, wanted, kind: ReleaseKind::Promote { source } })
}

fn deploy(desired: &Desired, seen: &Observation, cause: Cause, wanted: Wanted) -> Step {
    match &seen.artifact {
        ArtifactFacts::OnDisk { size } => {
            Step::Start(Release { cause, wanted, kind: ReleaseKind::Deploy { size: *size } })
        }
        ArtifactFacts::Absent | ArtifactFacts::Downloading | ArtifactFacts::Retrying => Step::Fetch,
        ArtifactFacts::Unreadable(problem) => Step::Stall(problem.clone()),
        ArtifactFacts::Failed { error, ago, .. } => not_fetched(desired, seen, (error, *ago)),
    }
}

/// The artifact could not be fetched, so long ago.
fn not_fetched(desired: &Desired, seen: &Observation, (error, ago): (&FetchError, Duration)) -> Step {
    let publish = "publish another one, and write its digest into spec.source.http.digest";
    let (reason, retry, advice) = match error {
        FetchError::DigestMismatch { .. } => {
            (Reason::DigestMismatch, desired.interval.max(STALLED_INTERVAL), THEN_LOOK)
        }
        FetchError::Rejected { .. } => (Reason::ArtifactRejected, Duration::MAX, publish),
        FetchError::TooLarge { .. } => (Reason::ArtifactTooLarge, desired.interval.max(STALLED_INTERVAL), THEN_LOOK),
        FetchError::Refused { .. } => {
            (Reason::InvalidSpec, Duration::MAX, "write spec.source.http.url as https://host/path with a public host")
        }
        FetchError::CertificateInvalid { .. } => {
            (Reason::SecretInvalid, REJECTED_AFTER, "the Secret is that of spec.source.http.secretRef")
        }
        FetchError::Unavailable { .. } | FetchError::Disk { .. } | FetchError::Stopped => {
            return match artifact_retry(seen) {
                Some(_) => wait(Reason::ArtifactUnavailable, format!("{error}; tried again within 5 min")),
                None => Step::Fetch,
            };
        }
    };
    if ago >= retry { Step::Fetch } else { stall(reason, format!("{error}; {advice}")) }
}

/// How long until a failed download is tried again: 5 s, doubled with each failure, at most 5 min.
fn artifact_retry(seen: &Observation) -> Option<Duration> {
    let ArtifactFacts::Failed { ago, times, .. } = &seen.artifact else { return None };
    let pause = Duration::from_secs((5_u64 << times.saturating_sub(1).min(6)).min(300));
    pause.checked_sub(*ago).filter(|left| !left.is_zero())
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
mod properties;
#[cfg(test)]
mod tests;
