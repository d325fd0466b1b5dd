//! One step towards a wish that is not met, and what keeps it from being taken.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::looks::unauthorized_once;
use super::{
    REJECTED_AFTER, Release, ReleaseKind, STALLED_INTERVAL, Step, TRIED_WITHIN, look_now, provisioning, stall, stopped,
    wait, without_source,
};
use crate::api::{AttemptResult, BaselineSource, Cause, KonigleSpaceStatus, RESET_AT};
use crate::artifact::FetchError;
use crate::commands::write_key;
use crate::desired::{Desired, Wish};
use crate::judge::words::{Class, class};
use crate::judge::{Judged, last_sent};
use crate::observation::{ArtifactFacts, Observation, OriginFacts, PairProof, Problem, Refusal};
use crate::origin::Origin;
use crate::reason::Reason;
use crate::time;
use crate::wish::{Gate, Wanted, artifact_name, from_production, gate, short};

/// The wish is not met: one step towards it.
pub(super) fn advance(desired: &Desired, seen: &Observation, judged: &Judged, cause: Cause, wanted: Wanted) -> Step {
    let status = &judged.status;
    if desired.suspended {
        let runs = status.release.as_ref().is_some_and(|release| release.digest == wanted.digest);
        let wish = if runs { "is to be released once more" } else { "is wanted" };
        return Step::Suspend(Problem {
            reason: Reason::Suspended,
            message: format!(
                "{} {wish}, but spec.suspend is true: nothing is written to Konigle before it is false again",
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
    if let Some(rival) = seen.rivals.first() {
        return wait(
            Reason::SpaceBusy,
            format!(
                "KonigleSpace {rival} has a release under way on this Space or on the other half of its pair; it is waited for"
            ),
        );
    }
    if let Some(step) = space_not_usable(seen, status) {
        return step;
    }
    match &desired.wish {
        Wish::Promote { .. } => match gate(desired, seen) {
            Some(Gate::Open(source)) => promote(desired, seen, source, cause, wanted),
            Some(Gate::Closed(problem)) if problem.reason == Reason::SourceNotFound => without_source(seen, problem),
            Some(Gate::Closed(problem)) => wait(Reason::AwaitingSource, problem.message),
            None => wait(Reason::Progressing, ""),
        },
        Wish::Deploy(origin) => deploy(desired, seen, origin, (cause, wanted)),
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
        let command = seen.named().annotate_now(RESET_AT);
        return Some(stall(
            reason,
            format!(
                "{} is not tried again{tried}: {last}; {other} another digest, or try this one again: {command}",
                short(&wanted.digest)
            ),
        ));
    }
    if cause == Cause::Drift && drift_loops(desired, status, seen.now) {
        return Some(stall(
            Reason::DriftLoop,
            format!(
                "somebody else keeps deploying to this Space, and it was redeployed as often as spec.retry.limit allows in an hour: find out who, then: {}",
                seen.named().annotate_now(RESET_AT)
            ),
        ));
    }
    retry_in(status, seen.now)?;
    if let Some(refusal) = &seen.refusal {
        return Some(refused(desired, seen, status, refusal));
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
fn refused(desired: &Desired, seen: &Observation, status: &KonigleSpaceStatus, refusal: &Refusal) -> Step {
    let Problem { reason, message } = &refusal.problem;
    let message = message.trim_end_matches('.');
    let again = format!("tried again after {}", status.next_retry_time.as_deref().unwrap_or_default());
    let secret = &desired.secret;
    match reason {
        Reason::CredentialsRejected if refusal.times < 2 => wait(Reason::Progressing, unauthorized_once()),
        Reason::CredentialsRejected => {
            let command = write_key(&seen.namespace, secret, "token");
            stall(
                *reason,
                format!("{message}: put a valid token into key `token` of Secret {secret} with `{command}`; {again}"),
            )
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
pub(super) fn retry_in(status: &KonigleSpaceStatus, now: Timestamp) -> Option<Duration> {
    let wait = time::parse(status.next_retry_time.as_deref()?)?.duration_since(now);
    Duration::try_from(wait).ok().filter(|wait| !wait.is_zero())
}

/// The newest releases were made because of drift, as many within the last hour as the limit; retries of such a release do
/// not count, and do not hide it. Once said, it is not taken back by the hour's end, but by a person.
fn drift_loops(desired: &Desired, status: &KonigleSpaceStatus, now: Timestamp) -> bool {
    let limit = usize::try_from(desired.retry_limit).unwrap_or(1).min(desired.history_limit);
    let stands = status
        .condition("Stalled")
        .is_some_and(|stalled| stalled.status == "True" && stalled.reason == Reason::DriftLoop.word());
    let is_recent = |started_at: &str| {
        time::parse(started_at).is_none_or(|started| now.duration_since(started) <= SignedDuration::from_hours(1))
    };
    let releases = status
        .history
        .iter()
        .filter(|entry| entry.result != AttemptResult::NotSent)
        .take_while(|entry| matches!(entry.cause, Cause::Drift | Cause::Retry))
        .filter(|entry| entry.cause == Cause::Drift && (stands || is_recent(&entry.started_at)));
    releases.take(limit).count() == limit
}

/// Whether the Space itself can take a release now. One in `error` can: a new release may be what mends it.
fn space_not_usable(seen: &Observation, status: &KonigleSpaceStatus) -> Option<Step> {
    let space = seen.space_seen()?;
    match space.status.status.as_str() {
        "provisioning" => Some(provisioning()),
        "stopped" => Some(stopped(seen)),
        _ => {
            // Nothing is pinned yet: whatever runs there is not ours.
            let foreign =
                status.settled.is_none() && class(space.status.last_deployment_status.as_deref()) == Class::Unfinished;
            foreign.then(|| wait(Reason::SpaceBusy, "somebody else's deployment is under way; it is waited out first"))
        }
    }
}

fn promote(desired: &Desired, seen: &Observation, source: BaselineSource, cause: Cause, wanted: Wanted) -> Step {
    match &seen.pair {
        PairProof::Proven => {}
        PairProof::NotProven(why) => {
            return stall(Reason::PairNotProven, from_production(desired, seen).unwrap_or_else(|| why.clone()));
        }
        PairProof::NotLooked => return wait(Reason::Progressing, "whether the two Spaces are a pair is looked up"),
        PairProof::Unavailable(why) => return wait(Reason::Progressing, why.clone()),
    }
    Step::Start(Release { cause, wanted, kind: ReleaseKind::Promote { source } })
}

fn deploy(desired: &Desired, seen: &Observation, origin: &Origin, (cause, wanted): (Cause, Wanted)) -> Step {
    match &seen.artifact {
        // It is being looked up, and may name something else by now.
        ArtifactFacts::OnDisk { .. } if let OriginFacts::Unnamed { problem, looking: true, .. } = &seen.origin => {
            Step::Wait(problem.clone())
        }
        ArtifactFacts::OnDisk { size, .. } => {
            Step::Start(Release { cause, wanted, kind: ReleaseKind::Deploy { size: *size } })
        }
        // What Flux has it under is not known now: it would be asked for in vain.
        ArtifactFacts::Absent | ArtifactFacts::Checking
            if let (Origin::Flux(_), OriginFacts::Unnamed { problem, looking: false, .. }) = (origin, &seen.origin) =>
        {
            wait(problem.reason, problem.message.clone())
        }
        ArtifactFacts::Absent
        | ArtifactFacts::Downloading
        | ArtifactFacts::Checking
        | ArtifactFacts::Packing
        | ArtifactFacts::Retrying => Step::Fetch,
        ArtifactFacts::Unreadable(problem) => Step::Stall(problem.clone()),
        ArtifactFacts::Failed { error, ago, .. } => not_fetched(desired, seen, origin, (error, *ago)),
    }
}

/// The artifact could not be fetched, so long ago.
fn not_fetched(desired: &Desired, seen: &Observation, origin: &Origin, (error, ago): (&FetchError, Duration)) -> Step {
    let minutes = error.wait().unwrap_or_default().max(TRIED_WITHIN).as_secs().div_ceil(60);
    let unavailable = |advice: &str| match artifact_retry(seen) {
        Some(_) => wait(Reason::ArtifactUnavailable, format!("{error}; tried again within {minutes} min{advice}")),
        None => Step::Fetch,
    };
    let then_look = || format!("then {}", look_now(seen));
    let (reason, retry, advice) = match error {
        FetchError::DigestMismatch { .. } => {
            (Reason::DigestMismatch, desired.interval.max(STALLED_INTERVAL), then_look())
        }
        FetchError::Rejected { reason } => {
            // A tag or a branch goes on: which of its artifacts it was would not be known from what it names now.
            let name = artifact_name(origin, seen).map(|name| format!("{name} ")).unwrap_or_default();
            let help = origin.publish_help();
            let message = format!("the artifact {name}of {origin} cannot be deployed: {reason}; {help}");
            return stall(Reason::ArtifactRejected, message);
        }
        FetchError::TooLarge { .. } => (Reason::ArtifactTooLarge, desired.interval.max(STALLED_INTERVAL), then_look()),
        FetchError::Foreign { .. } => (
            Reason::InvalidSpec,
            desired.interval.max(STALLED_INTERVAL),
            "see who wrote the source's status: that is for Flux's controller alone".to_owned(),
        ),
        // What a name resolves to, and where a host redirects to, may be mended there.
        FetchError::Refused { .. } => {
            (Reason::InvalidSpec, desired.interval.max(STALLED_INTERVAL), origin.refused_help().to_owned())
        }
        FetchError::CertificateInvalid { .. } => (
            Reason::SecretInvalid,
            REJECTED_AFTER,
            format!("it is a key of {}", origin.secret_named().unwrap_or_default()),
        ),
        FetchError::Denied { with_credentials, .. } => {
            return unavailable(&format!("; {}", origin.denied_help(seen.named(), *with_credentials)));
        }
        FetchError::Unavailable { .. } | FetchError::NoTag { .. } => {
            return unavailable(&format!("; if the address is wrong, {}", origin.address_help()));
        }
        FetchError::Limited { .. } | FetchError::Disk { .. } | FetchError::DiskFull | FetchError::Stopped => {
            return unavailable("");
        }
    };
    // The passes are spread round the interval, the earliest a tenth before it.
    if ago >= retry.mul_f64(0.85) { Step::Fetch } else { stall(reason, format!("{error}; {advice}")) }
}

/// How long until a failed download is tried again: 5 s, doubled with each failure, at most 5 min, unless the host asks for
/// more.
pub(super) fn artifact_retry(seen: &Observation) -> Option<Duration> {
    let ArtifactFacts::Failed { error, ago, times } = &seen.artifact else { return None };
    let pause = time::doubled(Duration::from_secs(5), *times, TRIED_WITHIN).max(error.wait().unwrap_or_default());
    pause.checked_sub(*ago).filter(|left| !left.is_zero())
}
