//! What comes next for a KonigleSpace: the planner's own answer, from what the cluster shows.
//!
//! Pure. The facts of a pass are put together from the resources alone, and then given to the very functions that the
//! operator calls: [`judge`], [`next_step`], [`look_again`]. What only the operator can see (Konigle, Secrets, the host of
//! an artifact) is taken to be as it should, and the Space as the status last told; where the operator's last pass said
//! that something of this is *not* as it should, that stands, and the planner's answer is what comes once it is mended.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{Attempt, BaselineSource, KonigleSpace, KonigleSpaceStatus};
use crate::artifact::Digest;
use crate::desired::{Approval, Desired, Wish};
use crate::footprint::Footprint;
use crate::judge::{Judged, Open, holder_now, holder_timeout, judge, wait_ends};
use crate::konigle::model::{Job, JobStatus};
use crate::observation::{
    AccountFacts, ArtifactFacts, AttemptFacts, HolderFacts, NamedBy, Observation, OriginFacts, PairProof, Problem,
    SourceFacts, SpaceFacts,
};
use crate::origin::ArtifactName;
use crate::plan::{Step, TRIED_WITHIN, look_again, next_step};
use crate::plugin::reading::is_mended_by_a_request;
use crate::reason::Reason;
use crate::status::unseen_origin;
use crate::wish::{Gate, gate};

/// What comes next.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The step that the operator's next pass takes, as far as the cluster tells.
    pub step: Step,
    /// How long until it looks again at the latest; `None` where only an edit leads on.
    pub look_again: Option<Duration>,
    /// The step that follows, once what only the operator saw is mended or over.
    pub afterwards: Option<Step>,
    /// Where the resource is suspended: the step that a resume would lead to.
    pub resumed: Option<Step>,
    /// The attempt whose outcome a person may say, and how.
    pub unresolved: Option<Unresolved>,
    /// Where nothing may be promoted now: why, and who is to do something about it.
    pub closed: Option<Closed>,
}

/// Why nothing may be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The reason, as the condition `PromotionAllowed` has it.
    pub reason: Reason,
    /// Whether the uat resource gets there by itself, as far as the cluster tells.
    pub opens_by_itself: bool,
}

/// An attempt of which it is not known what became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// The commands by which a person says it: succeeded, failed, retry.
    pub commands: [String; 3],
    /// Where evidence is still awaited, and the operator's words do not say so yet: until when at the latest.
    pub until: Option<String>,
}

/// What comes next for this resource, in a namespace that holds all these: now, by an operator whose
/// `--unknown-outcome-settle` is this long.
#[must_use]
pub fn outlook(space: &KonigleSpace, namespace: &[KonigleSpace], (now, settle): (Timestamp, Duration)) -> Outlook {
    let status = space.status.clone().unwrap_or_default();
    let desired = match Desired::parse(space) {
        Ok(desired) => desired,
        Err(invalid) => {
            let problem = Problem { reason: Reason::InvalidSpec, message: invalid.to_string() };
            return Outlook {
                step: Step::Stall(problem),
                look_again: None,
                afterwards: None,
                resumed: None,
                unresolved: None,
                closed: None,
            };
        }
    };
    let seen = assumed(space, &status, &desired, namespace, (now, settle));
    let judged = judge(&status, &desired, &seen);
    let planned = next_step(&desired, &seen, &judged);
    let resumed = desired.suspended.then(|| {
        let resumed = Desired { suspended: false, ..desired.clone() };
        next_step(&resumed, &seen, &judge(&status, &resumed, &seen))
    });
    let said = said(space, &status, &desired);
    let (step, afterwards, is_said) = match said {
        Some(said) if reason(&said) == reason(&planned) => (in_its_words(planned, said), None, true),
        Some(said) if reason(&said).is_some_and(|reason| is_seen_by_the_operator_alone(reason, &desired, &status)) => {
            let afterwards = Some(planned).filter(|planned| is_foretold(&said, planned, &seen));
            (said, afterwards, true)
        }
        Some(_) | None => (planned, None, false),
    };
    // The operator's own words name the end of the wait, by the flags that it runs with.
    let unresolved = unresolved(&step, &desired, &seen, &judged)
        .map(|open| Unresolved { until: open.until.filter(|_| !is_said), ..open });
    let closed = closed(&desired, &seen, namespace, (now, settle));
    let look_again = match &step {
        // How often it failed, the operator alone knows.
        Step::Wait(waiting) if waiting.reason == Reason::ArtifactUnavailable => TRIED_WITHIN,
        step => look_again(step, &desired, &seen, &judged),
    };
    Outlook { look_again: Some(look_again), step, afterwards, resumed, unresolved, closed }
}

/// Whether the planner's answer is what follows once that is mended which only the operator saw. Not where the way out is
/// another digest, another Space or another spec; not where it depends on what became of an attempt; and not where nothing
/// is known of the Space.
fn is_foretold(said: &Step, planned: &Step, seen: &Observation) -> bool {
    let is_of_another_wish = matches!(
        reason(said),
        Some(
            Reason::ArtifactRejected
                | Reason::InvalidSpec
                | Reason::SpaceNotFound
                | Reason::SpaceChanged
                | Reason::PairNotProven
        )
    );
    // Of an origin it is not known what it will name.
    let is_open = matches!(reason(planned), Some(Reason::ResolvingOutcome | Reason::Progressing));
    !is_of_another_wish && !is_open && seen.space_seen().is_some()
}

/// Why nothing may be promoted now, and whether the uat resource gets there by itself.
fn closed(
    desired: &Desired,
    seen: &Observation,
    namespace: &[KonigleSpace],
    moment: (Timestamp, Duration),
) -> Option<Closed> {
    let (Wish::Promote { from, approval }, Some(Gate::Closed(problem))) = (&desired.wish, gate(desired, seen)) else {
        return None;
    };
    let uat = namespace.iter().find(|other| other.name_any() == *from);
    // One that promotes itself is no uat resource, and two of them may name each other.
    let uat = uat.filter(|uat| uat.spec.promotion.is_none() && uat.metadata.deletion_timestamp.is_none());
    let moves = |uat: &KonigleSpace| {
        matches!(outlook(uat, namespace, moment).step, Step::Fetch | Step::Start(_) | Step::Wait(_))
    };
    let brings = |uat: &KonigleSpace| match (approval, Desired::parse(uat).map(|desired| desired.wish)) {
        (Approval::Manual(Some(approved)), Ok(Wish::Deploy(origin))) => {
            let known = uat.status.as_ref().and_then(|status| status.artifact.as_ref());
            let name = origin.fixed_name().or_else(|| ArtifactName::last_of(&origin, known));
            name.is_none_or(|name| name.digest == *approved)
        }
        _ => true,
    };
    Some(Closed {
        reason: problem.reason,
        opens_by_itself: uat.is_some_and(|uat| brings(uat) && (moves(uat) || is_held(uat))),
    })
}

/// Whether another promotion needs it to stay as it is: that ends.
fn is_held(uat: &KonigleSpace) -> bool {
    uat.status.as_ref().is_some_and(|status| status.held_by.is_some() && !status.is_true("Stalled"))
}

/// The facts of a pass in which everything is as it should be, and the Space as the status last told.
fn assumed(
    space: &KonigleSpace,
    status: &KonigleSpaceStatus,
    desired: &Desired,
    namespace: &[KonigleSpace],
    moment: (Timestamp, Duration),
) -> Observation {
    let own_uid = space.uid().unwrap_or_default();
    let named = |name: &str| namespace.iter().find(|other| other.name_any() == name);
    let sent_to = status.attempt.as_ref().map(|attempt| attempt.sent_to.base_url.clone());
    let remote = status.space.clone().filter(|remote| !remote.id.is_empty());
    let unlooked = Observation::unlooked(space.name_any(), space.namespace().unwrap_or_default(), own_uid, moment);
    let mut seen = Observation {
        created_at: space.creation_timestamp().map(|time| time.0),
        account: Ok(AccountFacts { base_url: sent_to.unwrap_or_default(), named_by: NamedBy::Nobody }),
        space: remote.map(|remote| Ok(SpaceFacts { status: remote, url: status.url.clone() })),
        origin: last_named(desired, status),
        artifact: on_disk(status),
        pair: PairProof::Proven,
        ..unlooked
    };
    if let Wish::Promote { from, .. } = &desired.wish {
        seen.source = Some(named(from).map_or_else(SourceFacts::default, crate::observe::source_facts));
    }
    seen.attempt = status.attempt.as_ref().map(|attempt| attempt_facts(attempt, seen.source.as_ref()));
    if let Some(held) = &status.held_by {
        let holder = named(&held.name);
        let attempt = holder.and_then(|holder| holder.status.as_ref()).and_then(|status| status.attempt.as_ref());
        let timeout = holder.and_then(|holder| Desired::parse(holder).ok()).map(|desired| desired.timeout);
        seen.holder = Some(HolderFacts {
            holder: Some(holder_now(held, holder.and_then(|holder| holder.metadata.uid.as_deref()), attempt)),
            seen_for: Duration::ZERO,
            timeout: holder_timeout(timeout, held, attempt),
            job_ended: None,
        });
    }
    if status.attempt.is_none() {
        others(&mut seen, space, namespace);
    }
    seen
}

/// What the status last told that the origin names.
fn last_named(desired: &Desired, status: &KonigleSpaceStatus) -> OriginFacts {
    let Wish::Deploy(origin) = &desired.wish else { return OriginFacts::NotLooked };
    if origin.fixed_name().is_some() {
        return OriginFacts::NotLooked;
    }
    let last = ArtifactName::last_of(origin, status.artifact.as_ref());
    // Where it never named anything, why not is what is in the way.
    let told = if last.is_some() { unseen_origin(status) } else { status.condition("Ready") };
    let reason = told.and_then(|told| Reason::of(&told.reason));
    let heals = reason.filter(|reason| matches!(reason, Reason::AwaitingSource | Reason::ArtifactUnavailable));
    match (told.zip(heals), last) {
        (Some((told, reason)), last) => {
            let problem = Problem { reason, message: told.message.clone() };
            OriginFacts::Unnamed { problem, last, looking: false }
        }
        (None, Some(last)) => OriginFacts::Named(last),
        (None, None) => OriginFacts::NotLooked,
    }
}

/// The wanted artifact as if it were on disk, of the size that the status tells.
fn on_disk(status: &KonigleSpaceStatus) -> ArtifactFacts {
    let upload = status.artifact.as_ref().and_then(|artifact| artifact.upload.clone()).unwrap_or_default();
    let digest = upload.digest.parse().unwrap_or_else(|_| Digest::of(b""));
    ArtifactFacts::OnDisk { upload: digest, size: u64::try_from(upload.size).unwrap_or(0) }
}

/// The job as the status last told, and the uat side as its resource last told.
fn attempt_facts(attempt: &Attempt, source: Option<&SourceFacts>) -> AttemptFacts {
    let log = attempt.log.clone().unwrap_or_default();
    let job = attempt.job_id.clone().map(|id| {
        let word = attempt.job_status.clone().map_or(JobStatus::Pending, JobStatus::from);
        Ok(Job {
            id,
            status: word,
            log_tail: log.lines,
            log_count: u64::try_from(log.count).unwrap_or(0),
            space_id: None,
            created_at: None,
            completed_at: None,
            mentions: Vec::new(),
        })
    });
    let uat = attempt.baseline.source.as_ref().zip(source).map(|(pinned, source)| {
        let remote = source.status.space.clone().unwrap_or_default();
        Ok(BaselineSource {
            uid: source.uid.clone(),
            last_deployed_at: remote.last_deployed_at,
            last_deployment_status: remote.last_deployment_status,
            ..pinned.clone()
        })
    });
    AttemptFacts { job, source: uat, ..AttemptFacts::default() }
}

/// Whose open attempts are waited for, of those of the namespace.
fn others(seen: &mut Observation, space: &KonigleSpace, namespace: &[KonigleSpace]) {
    let mut own = Footprint::of(space);
    own.names(seen.space_seen().map(|remote| remote.status.id.as_str()));
    own.names(seen.source.as_ref().and_then(|source| source.status.space.as_ref()).map(|remote| remote.id.as_str()));
    let source = own.promotes_from.clone();
    let releasing = |other: &&KonigleSpace| other.status.as_ref().is_some_and(|status| status.attempt.is_some());
    for other in namespace.iter().filter(releasing).map(Footprint::of) {
        if own.is_promoted_by(&other) {
            seen.promotions.push(other.name);
        } else if own.gives_way_to(&other) && source.as_ref() != Some(&other.name) {
            seen.rivals.push(other.full_name());
        }
    }
}

/// What the operator's last pass said, where it speaks of the newest spec and requests.
fn said(space: &KonigleSpace, status: &KonigleSpaceStatus, desired: &Desired) -> Option<Step> {
    let requests = &desired.requests;
    let is_current = Some(status.observed_generation) == space.metadata.generation && !requests.look(status);
    let ready = status.condition("Ready").filter(|_| is_current)?;
    let problem = Problem { reason: Reason::of(&ready.reason)?, message: ready.message.clone() };
    let asks = requests.reset(status) || requests.redeploy(status);
    let stands_in_the_way =
        is_seen_by_the_operator_alone(problem.reason, desired, status) && !is_mended_by_a_request(problem.reason);
    if asks && !stands_in_the_way {
        return None;
    }
    Some(if status.is_true("Stalled") {
        Step::Stall(problem)
    } else if problem.reason == Reason::Downloading {
        Step::Fetch
    } else if status.is_true("Reconciling") {
        Step::Wait(problem)
    } else if ready.status == "True" {
        Step::Rest(problem)
    } else if problem.reason == Reason::Suspended {
        Step::Suspend(problem)
    } else if problem.reason == Reason::KonigleUnreachable {
        Step::Unreachable(problem)
    } else {
        return None;
    })
}

/// The reason that the status gives for a step. `None` for a release, which has that of its attempt.
fn reason(step: &Step) -> Option<Reason> {
    match step {
        Step::Rest(problem)
        | Step::Wait(problem)
        | Step::Stall(problem)
        | Step::Suspend(problem)
        | Step::Unreachable(problem) => Some(problem.reason),
        Step::Fetch => Some(Reason::Downloading),
        Step::Start(_) | Step::Unseen(_) => None,
    }
}

/// The planned step in the words of the operator, which saw more.
fn in_its_words(planned: Step, said: Step) -> Step {
    match (planned, said) {
        (Step::Rest(_), Step::Rest(problem)) => Step::Rest(problem),
        (Step::Wait(_), Step::Wait(problem)) => Step::Wait(problem),
        (Step::Stall(_), Step::Stall(problem)) => Step::Stall(problem),
        (planned, _) => planned,
    }
}

/// Whether the operator says so because of something that the cluster does not show.
fn is_seen_by_the_operator_alone(reason: Reason, desired: &Desired, status: &KonigleSpaceStatus) -> bool {
    match reason {
        // What Flux says of a source is not read here.
        Reason::AwaitingSource => !desired.promotes(),
        // Konigle, Secrets, hosts of artifacts.
        Reason::Progressing
        | Reason::Downloading
        | Reason::RateLimited
        | Reason::ArtifactUnavailable
        | Reason::KonigleUnreachable
        | Reason::SecretNotFound
        | Reason::SecretKeyMissing
        | Reason::SecretInvalid
        | Reason::CredentialsRejected
        | Reason::SpaceForbidden
        | Reason::SpaceNotFound
        | Reason::SpaceChanged
        | Reason::PairNotProven
        | Reason::DigestMismatch
        | Reason::ArtifactRejected
        | Reason::ArtifactTooLarge
        | Reason::InvalidSpec
        | Reason::CRDOutdated
        // Resources of other namespaces, or that its label selector leaves out.
        | Reason::SpaceBusy
        | Reason::SpaceConflict
        | Reason::SourceNotFound
        // How long it has known an attempt.
        | Reason::OutcomeUnknown => true,
        // A request that is being sent has no job yet.
        Reason::DeployRunning | Reason::PromotionRunning => {
            status.attempt.as_ref().is_some_and(|attempt| attempt.job_id.is_none())
        }
        Reason::Succeeded
        | Reason::AwaitingApproval
        | Reason::Assumed
        | Reason::ResolvingOutcome
        | Reason::ProgressingWithRetry
        | Reason::HeldByPromotion
        | Reason::SpaceProvisioning
        | Reason::Suspended
        | Reason::SpaceStopped
        | Reason::SpaceError
        | Reason::RequestRejected
        | Reason::RetriesExceeded
        | Reason::JobOverdue
        | Reason::Drifted
        | Reason::DriftLoop
        | Reason::ContentNotVerified
        | Reason::SourceNotConfirmed
        | Reason::SourceDrifted
        | Reason::SourceBusy
        | Reason::SourceUnchanged
        | Reason::SourceChanged
        | Reason::NotYetConfirmed
        | Reason::AdoptedWithoutJob => false,
    }
}

/// The open attempt, where a person may say what became of it.
fn unresolved(step: &Step, desired: &Desired, seen: &Observation, judged: &Judged) -> Option<Unresolved> {
    let attempt = judged.status.attempt.as_ref()?;
    let awaited = match reason(step)? {
        Reason::ResolvingOutcome => judged.open == Some(Open::Resolving),
        Reason::OutcomeUnknown | Reason::JobOverdue => false,
        _ => return None,
    };
    Some(Unresolved {
        commands: ["succeeded", "failed", "retry"].map(|answer| seen.named().resolve(&attempt.nonce, answer)),
        until: awaited.then(|| wait_ends(attempt, desired, seen.settle)),
    })
}

#[cfg(test)]
pub(crate) mod tests;
