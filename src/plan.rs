//! What to do next: one step a pass.
//!
//! Pure and total: no clock, no I/O, no log; the same facts give the same step. Not acting is a step too, with its
//! reason. What has happened was judged before ([`crate::judge`]); nothing here closes an attempt.

mod advance;
mod claim;
mod follow;
mod looks;

pub use claim::claim;
pub use looks::is_mended;

use std::time::Duration;

use crate::api::{
    AdoptionPolicy, AttemptResult, BaselineSource, Cause, DriftPolicy, RECONCILE_AT, REDEPLOY_AT, RESET_AT,
};
use crate::desired::{Approval, Desired, Wish};
use crate::judge::{ANSWERED_RETRY, Judged, Open, last_sent, needs_reset};
use crate::observation::{Observation, OriginFacts, Problem};
use crate::origin::{OciOrigin, OciReference, Origin};
use crate::reason::Reason;
use crate::time;
use crate::wish::{Gate, Wanted, artifact_name, gate, no_pair, short, wanted};
use advance::{advance, artifact_retry, retry_in};
use follow::follow;
use looks::look_failed;

/// How long after a first 401 the token is taken as rejected.
const REJECTED_AFTER: Duration = Duration::from_secs(30);
/// How long a resource that was just made waits for the uat resource that it names.
const SOURCE_COMES_WITHIN: Duration = Duration::from_secs(30);
/// How soon, at the latest, a look at a tag or a download that failed is tried again, unless the host asks for more.
pub const TRIED_WITHIN: Duration = Duration::from_mins(5);
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

impl Step {
    /// Its name, and the reason where it has one; for traces.
    #[must_use]
    pub fn words(&self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Rest(problem) => ("Rest", Some(problem.reason.word())),
            Self::Fetch => ("Fetch", None),
            Self::Start(_) => ("Start", None),
            Self::Wait(problem) => ("Wait", Some(problem.reason.word())),
            Self::Stall(problem) => ("Stall", Some(problem.reason.word())),
            Self::Suspend(problem) => ("Suspend", Some(problem.reason.word())),
            Self::Unreachable(problem) => ("Unreachable", Some(problem.reason.word())),
            Self::Unseen(_) => ("Unseen", None),
        }
    }
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
    if let Some(step) = unnamed(desired, seen) {
        return step;
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
        Step::Rest(_) | Step::Suspend(_) if is_unnamed(seen) => desired.interval.min(TRIED_WITHIN),
        Step::Rest(_) | Step::Suspend(_) => desired.interval,
        // The end of the download wakes the resource; meanwhile people see how far it is.
        Step::Fetch => seen.download.as_ref().map_or(seconds(3), |download| progress_pace(download.running_for)),
        Step::Start(_) => seconds(1),
        Step::Wait(problem) => match problem.reason {
            Reason::DeployRunning | Reason::PromotionRunning => job_pace(judged, seen),
            Reason::ResolvingOutcome => seconds(5),
            Reason::SpaceProvisioning | Reason::HeldByPromotion => seconds(15),
            Reason::AwaitingSource => source_may_come(seen).unwrap_or(desired.interval),
            Reason::ArtifactUnavailable | Reason::Progressing if is_unnamed(seen) => seconds(30),
            Reason::ArtifactUnavailable => artifact_retry(seen).unwrap_or(seconds(10)).min(TRIED_WITHIN),
            _ => until_retry.unwrap_or(seconds(10)),
        },
        Step::Stall(problem) if problem.reason.is_about_credentials() => REJECTED_AFTER,
        Step::Stall(problem) if problem.reason == Reason::JobOverdue => REJECTED_AFTER,
        // Another artifact may be pushed, which is what mends most of it.
        Step::Stall(_) if follows_a_tag(desired) => until_retry.unwrap_or(desired.interval),
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
    let age = started
        .map_or(Duration::MAX, |started| Duration::try_from(seen.now.duration_since(started)).unwrap_or_default());
    if judged.open == Some(Open::Running) { progress_pace(age) } else { Duration::from_secs(3) }
}

/// How often progress is told of what has run for so long.
#[must_use]
pub fn progress_pace(age: Duration) -> Duration {
    Duration::from_secs(if age < Duration::from_secs(30) { 3 } else { 10 })
}

/// Whether the artifact is what a tag names, which is looked up every interval.
fn follows_a_tag(desired: &Desired) -> bool {
    matches!(&desired.wish, Wish::Deploy(Origin::Oci(OciOrigin { reference: OciReference::Tag(_), .. })))
}

/// Whether the origin could not be asked what it names.
fn is_unnamed(seen: &Observation) -> bool {
    matches!(seen.origin, OriginFacts::Unnamed { .. })
}

/// What keeps this resource from this Space. A type that is not known is no better than the wrong one: what came of a
/// promotion would be looked for in a Space that it does not change.
fn misfit(desired: &Desired, seen: &Observation) -> Option<Problem> {
    let space = seen.space_seen()?;
    let message = match (space.status.space_type.as_str(), desired.promotes()) {
        ("uat", false) | ("production", true) => {
            return seen.conflict.as_ref().map(|other| Problem {
                reason: Reason::SpaceConflict,
                message: format!("KonigleSpace {other} names the same Space and goes first, as it is older or has a release under way: delete this one, or, to keep this one, {other}; nothing remote is deleted with either"),
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

/// What the origin names is not known. What it named last stays wanted while it may be known again by itself.
fn unnamed(desired: &Desired, seen: &Observation) -> Option<Step> {
    let Wish::Deploy(origin) = &desired.wish else { return None };
    let problem = match &seen.origin {
        OriginFacts::Unnamed { problem, .. } => problem.clone(),
        OriginFacts::NotLooked if origin.fixed_name().is_none() => {
            Problem { reason: Reason::Progressing, message: format!("{origin} is being looked up") }
        }
        OriginFacts::NotLooked | OriginFacts::Named(_) => return None,
    };
    let heals = matches!(problem.reason, Reason::Progressing | Reason::AwaitingSource | Reason::ArtifactUnavailable);
    if heals && artifact_name(origin, seen).is_some() {
        return None;
    }
    Some(if desired.suspended {
        let message = format!("{}; spec.suspend is true: nothing would be deployed either", problem.message);
        Step::Suspend(Problem { reason: Reason::Suspended, message })
    } else if heals {
        Step::Wait(problem)
    } else if problem.reason == Reason::SourceNotFound && comes_within(seen).is_some() {
        // The commit that made the resource may bring the source as well, a moment later.
        wait(Reason::AwaitingSource, problem.message)
    } else {
        Step::Stall(problem)
    })
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
                seen.named().annotate_now(RESET_AT)
            ),
        );
    }
    if let Some(content) = judged.content.as_ref().filter(|content| content.verified == Some(false)) {
        return stall(
            Reason::ContentNotVerified,
            format!(
                "{}; approve another digest, or promote again: {}",
                content.message,
                seen.named().annotate_now(RESET_AT)
            ),
        );
    }
    let space = seen.space_seen();
    match space.map(|space| space.status.status.as_str()) {
        Some("provisioning") => return provisioning(),
        Some("stopped") => return stopped(seen),
        Some("error") => {
            return stall(
                Reason::SpaceError,
                format!(
                    "the Space is in status error: see Konigle's console for why; another digest is deployed all the same, and this one again by: {}",
                    seen.named().annotate_now(REDEPLOY_AT)
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
            // An approval would come to nothing: so it is said before somebody approves.
            return match no_pair(desired, seen) {
                Some(why) => stall(Reason::PairNotProven, why),
                None => Step::Rest(Problem { reason: Reason::AwaitingApproval, message: problem.message }),
            };
        }
    }
    Step::Rest(met(desired, seen, judged))
}

fn met(desired: &Desired, seen: &Observation, judged: &Judged) -> Problem {
    let release = judged.status.release.as_ref();
    let runs = short(release.map_or("nothing", |release| release.digest.as_str()));
    let assumed = release.is_some_and(|release| release.attribution == crate::api::Attribution::Assumed);
    let space = seen.space_seen().map(|space| space.status.status.as_str());
    let odd = match space {
        None | Some("running") => String::new(),
        Some(word) => format!("; the Space is in status {word}"),
    };
    let what = match (&judged.drifted, assumed) {
        (Some(_), _) => "was recorded as running, but somebody else deployed since".to_owned(),
        (None, true) => assumption(desired, seen),
        (None, false) => "runs".to_owned(),
    };
    let reason = if assumed { Reason::Assumed } else { Reason::Succeeded };
    let suspended = if desired.suspended { " (suspended: nothing else is released)" } else { "" };
    Problem { reason, message: format!("{runs} {what}{odd}{suspended}") }
}

/// What an assumed release rests on, and how to make certain of it.
fn assumption(desired: &Desired, seen: &Observation) -> String {
    let policy = match (desired.adoption_policy, desired.promotes()) {
        (AdoptionPolicy::AssumeCurrent, true) => "adoptionPolicy AssumeCurrent (the default with spec.promotion)",
        (AdoptionPolicy::AssumeCurrent, false) => "spec.adoptionPolicy AssumeCurrent",
        (AdoptionPolicy::Deploy, _) => "the adoptionPolicy of the first contact",
    };
    let (verb, command) = (if desired.promotes() { "promote" } else { "deploy" }, seen.named().annotate_now(RESET_AT));
    format!("is assumed to run, by {policy}: no job of this resource proves it; to {verb} it and be certain: {command}")
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
    comes_within(seen).filter(|_| is_missing)
}

/// How much longer what a new resource names may come by itself.
fn comes_within(seen: &Observation) -> Option<Duration> {
    let age = seen.now.duration_since(seen.created_at?).unsigned_abs();
    SOURCE_COMES_WITHIN.checked_sub(age).filter(|left| !left.is_zero())
}

fn provisioning() -> Step {
    wait(Reason::SpaceProvisioning, "the Space is still being provisioned; all goes on by itself when that has ended")
}

fn stopped(seen: &Observation) -> Step {
    stall(Reason::SpaceStopped, format!("the Space is stopped: start it in Konigle's console, then {}", look_now(seen)))
}

/// How to have that seen at once which no watch tells of.
fn look_now(seen: &Observation) -> String {
    format!("wait for the next look, or have it now: {}", seen.named().annotate_now(RECONCILE_AT))
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
