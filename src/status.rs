//! How a status reads: conditions from the step, and Events from what changed.
//!
//! Pure and total. This is the one place where conditions are made; nothing here decides what to do. The words are those
//! of kstatus: Ready is always present; Stalled and Reconciling are absent unless True, and never both there.

use jiff::Timestamp;

use crate::api::{AttemptResult, AttemptType, Condition, HistoryEntry, KonigleSpaceStatus};
use crate::desired::{Desired, Invalid, Wish};
use crate::judge::{Judged, Note, trim};
use crate::observation::{ArtifactFacts, LookError, Observation, OriginFacts, Problem};
use crate::plan::{Step, is_mended};
use crate::reason::Reason;
use crate::text::{cut, how_far};
use crate::time;
use crate::wish::{Gate, gate, short, wanted};

/// The longest message of a condition, in bytes.
const LONGEST_MESSAGE: usize = 1024;
/// The longest message of a condition in a status that is too large, in bytes.
const SHORT_MESSAGE: usize = 256;
/// The entries of the history on which decisions rest: the newest, the last that was sent, and the last whose job is known.
const RECORDS: usize = 3;
/// The largest status, in bytes of JSON; the receipt adds a few to it.
const LARGEST_STATUS: usize = 30 << 10;

/// The whole status after this pass.
#[must_use]
pub fn render(desired: &Desired, seen: &Observation, judged: &Judged, step: &Step) -> KonigleSpaceStatus {
    let before = &judged.status;
    let mut status = before.clone();
    status.observed_generation = desired.generation;
    let mut conditions = Conditions { before, generation: desired.generation, now: seen.now, list: Vec::new() };
    if matches!(step, Step::Unseen(_)) || fetches_again(seen, before, step) {
        conditions.keep(&["Stalled", "Reconciling", "Ready", "ArtifactReady", "Deployed", "PromotionAllowed"]);
    } else {
        let ready = readiness(step, seen, judged);
        if matches!(step, Step::Stall(_)) {
            conditions.add("Stalled", "True", &ready.problem);
        }
        if ready.reconciling {
            conditions.add("Reconciling", "True", &ready.problem);
        }
        conditions.add("Ready", ready.status, &ready.problem);
        artifact_ready(&mut conditions, desired, seen, judged, step);
        deployed(&mut conditions, desired, seen, judged, &ready);
        promotion_allowed(&mut conditions, desired, seen, judged, step);
    }
    content_verified(&mut conditions, desired, judged);
    credentials_valid(&mut conditions, seen, step);
    drifted(&mut conditions, seen, judged, step);
    status.conditions = conditions.list;
    fit(&mut status);
    status
}

/// A download that failed is tried again: until it ends nothing new is known, so what was said of the failure stays.
fn fetches_again(seen: &Observation, before: &KonigleSpaceStatus, step: &Step) -> bool {
    *step == Step::Fetch
        && matches!(seen.artifact, ArtifactFacts::Failed { .. } | ArtifactFacts::Retrying)
        && before.condition("ArtifactReady").is_some_and(|ready| ready.status == "False")
}

/// Keeps the whole status below 32 KiB, whatever came back: first without the oldest of what people only read, then with
/// shorter messages. What decisions rest on stays: the open attempt, the last entries that
/// were sent, the pairs.
fn fit(status: &mut KonigleSpaceStatus) {
    let is_too_large =
        |status: &KonigleSpaceStatus| serde_json::to_vec(status).is_ok_and(|json| json.len() > LARGEST_STATUS);
    while is_too_large(status) {
        let log = status.attempt.as_mut().and_then(|attempt| attempt.log.as_mut()).filter(|log| !log.lines.is_empty());
        let entries = status.history.len();
        if entries > RECORDS {
            trim(&mut status.history, entries - 1);
        } else if let Some(log) = log {
            log.lines.remove(0);
        } else if status.conditions.iter().any(|condition| condition.message.len() > SHORT_MESSAGE) {
            for condition in &mut status.conditions {
                condition.message = cut(&condition.message, SHORT_MESSAGE);
            }
        } else {
            return;
        }
    }
}

/// The status of a resource whose spec asks for nothing that can be done. Records stay as they are.
#[must_use]
pub fn invalid(before: &KonigleSpaceStatus, generation: i64, problem: &Invalid, now: Timestamp) -> KonigleSpaceStatus {
    stalled(before, generation, &Problem { reason: Reason::InvalidSpec, message: problem.to_string() }, now)
}

/// A status that only says why nothing can be done. Records stay as they are.
#[must_use]
pub fn stalled(before: &KonigleSpaceStatus, generation: i64, problem: &Problem, now: Timestamp) -> KonigleSpaceStatus {
    let mut conditions = Conditions { before, generation, now, list: Vec::new() };
    conditions.add("Stalled", "True", problem);
    conditions.add("Ready", "False", problem);
    conditions.keep(&[
        "ArtifactReady",
        "Deployed",
        "PromotionAllowed",
        "ContentVerified",
        "CredentialsValid",
        "Drifted",
    ]);
    KonigleSpaceStatus { observed_generation: generation, conditions: conditions.list, ..before.clone() }
}

/// Conditions in the order in which they are read.
struct Conditions<'a> {
    before: &'a KonigleSpaceStatus,
    generation: i64,
    now: Timestamp,
    list: Vec<Condition>,
}

impl Conditions<'_> {
    fn add(&mut self, condition_type: &str, status: &str, problem: &Problem) {
        let before = self.before.condition(condition_type);
        let transition = before.filter(|before| before.status == status && !before.last_transition_time.is_empty());
        self.list.push(Condition {
            condition_type: condition_type.to_owned(),
            status: status.to_owned(),
            reason: problem.reason.word().to_owned(),
            message: cut(&problem.message, LONGEST_MESSAGE),
            last_transition_time: transition
                .map_or_else(|| time::text(self.now), |before| before.last_transition_time.clone()),
            observed_generation: self.generation,
        });
    }

    /// As they were, but spoken of the present generation. A status that another hand wrote is put in order.
    fn keep(&mut self, condition_types: &[&str]) {
        let only_where_true = ["Stalled", "Reconciling", "Drifted"];
        for condition_type in condition_types {
            let in_order = !only_where_true.contains(condition_type)
                || (self.before.is_true(condition_type)
                    && !(*condition_type == "Reconciling" && self.before.is_true("Stalled")));
            if let Some(before) = self.before.condition(condition_type).filter(|_| in_order) {
                self.list.push(Condition { observed_generation: self.generation, ..before.clone() });
            }
        }
    }
}

/// What Ready says.
struct Readiness {
    status: &'static str,
    reconciling: bool,
    problem: Problem,
}

fn readiness(step: &Step, seen: &Observation, judged: &Judged) -> Readiness {
    let under_way = |status, problem| Readiness { status, reconciling: true, problem };
    let alone = |status, problem| Readiness { status, reconciling: false, problem };
    let problem = |reason, message: String| Problem { reason, message };
    match step {
        Step::Rest(met) => alone("True", met.clone()),
        Step::Fetch => {
            let artifact = judged.status.artifact.as_ref();
            let far = artifact.and_then(|artifact| artifact.download.as_ref());
            let far = far.map_or_else(String::new, |far| format!(": {}", how_far(far.bytes, far.total, far.percent)));
            under_way("Unknown", problem(Reason::Downloading, format!("{}{far}", fetching(seen, judged))))
        }
        Step::Start(release) => {
            let reason = match judged.status.attempt.as_ref().map(|attempt| attempt.attempt_type) {
                Some(AttemptType::Promote) => Reason::PromotionRunning,
                _ => Reason::DeployRunning,
            };
            let number = judged.status.last_attempt;
            under_way(
                "Unknown",
                problem(
                    reason,
                    format!("attempt {number} of {} is on its way to Konigle", short(&release.wanted.digest)),
                ),
            )
        }
        Step::Wait(waiting) => {
            let failed = waiting.reason == Reason::ProgressingWithRetry;
            under_way(if failed { "False" } else { "Unknown" }, waiting.clone())
        }
        Step::Stall(stalled) => alone("False", stalled.clone()),
        Step::Suspend(suspended) => alone("False", suspended.clone()),
        Step::Unreachable(unreachable) => alone("Unknown", unreachable.clone()),
        Step::Unseen(message) => alone("Unknown", problem(Reason::Progressing, message.clone())),
    }
}

/// What is done to have the artifact at hand.
fn fetching(seen: &Observation, judged: &Judged) -> String {
    let digest = judged.status.artifact.as_ref().map(|artifact| short(&artifact.digest)).unwrap_or_default();
    match seen.artifact {
        ArtifactFacts::Checking => format!("checking {digest}, which is on disk"),
        ArtifactFacts::Packing => format!("packing {digest} into a ZIP"),
        _ => format!("downloading {digest}"),
    }
}

/// Whether the wanted artifact is at hand, or was when it was deployed.
fn artifact_ready(
    conditions: &mut Conditions<'_>,
    desired: &Desired,
    seen: &Observation,
    judged: &Judged,
    step: &Step,
) {
    if desired.promotes() {
        return;
    }
    let status = &judged.status;
    let is_looked_up =
        matches!(&seen.origin, OriginFacts::Unnamed { problem, .. } if problem.reason == Reason::Progressing);
    let is_same = status.observed_generation == desired.generation;
    if is_looked_up && is_same && unseen_origin(status).is_some() {
        // What was said of the last look stays until this one tells something else: also after a restart.
        return conditions.keep(&["ArtifactReady"]);
    }
    let digest = status.artifact.as_ref().map(|artifact| artifact.digest.clone()).unwrap_or_default();
    let used = status.attempt.as_ref().is_some_and(|attempt| attempt.digest == digest)
        || status.release.as_ref().is_some_and(|release| release.digest == digest && release.job_id.is_some())
        || status.history.iter().any(|entry| entry.digest == digest);
    let (word, problem) = match (&seen.artifact, step) {
        _ if let OriginFacts::Unnamed { problem, .. } = &seen.origin
            && problem.reason != Reason::Progressing =>
        {
            ("False", problem.clone())
        }
        (ArtifactFacts::OnDisk { .. }, _) => ("True", ready_artifact(&digest)),
        (ArtifactFacts::Failed { .. } | ArtifactFacts::Unreadable(_), Step::Wait(problem) | Step::Stall(problem)) => {
            ("False", problem.clone())
        }
        _ if used => ("True", ready_artifact(&digest)),
        (_, Step::Fetch) => ("Unknown", Problem { reason: Reason::Downloading, message: fetching(seen, judged) }),
        _ => {
            let message = "not needed yet: an artifact is downloaded only before it is deployed".to_owned();
            ("Unknown", Problem { reason: Reason::Progressing, message })
        }
    };
    conditions.add("ArtifactReady", word, &problem);
}

fn ready_artifact(digest: &str) -> Problem {
    // Not that it was downloaded: another resource may have brought it.
    Problem { reason: Reason::Succeeded, message: format!("{} was verified and inspected", short(digest)) }
}

/// Whether the wanted digest runs.
fn deployed(
    conditions: &mut Conditions<'_>,
    desired: &Desired,
    seen: &Observation,
    judged: &Judged,
    ready: &Readiness,
) {
    let status = &judged.status;
    let wanted = wanted(desired, seen).map(|wanted| wanted.digest);
    let last_failed = status.history.first().is_some_and(|entry| {
        matches!(entry.result, AttemptResult::Failed | AttemptResult::Unknown) && wanted.as_ref() == Some(&entry.digest)
    });
    let (word, problem) = match &status.release {
        _ if judged.drifted.is_some() => {
            let message = "somebody else deployed, so what runs is not known".to_owned();
            ("Unknown", Problem { reason: Reason::Drifted, message })
        }
        Some(release)
            if status.attempt.is_none()
                && !last_failed
                && wanted.as_ref().is_none_or(|wanted| *wanted == release.digest) =>
        {
            let reason = match release.attribution {
                crate::api::Attribution::Assumed | crate::api::Attribution::Other => Reason::Assumed,
                crate::api::Attribution::Confirmed | crate::api::Attribution::Inferred => Reason::Succeeded,
            };
            let message = format!("{} was recorded as running, {:?}", short(&release.digest), release.attribution);
            ("True", Problem { reason, message })
        }
        _ if wanted.is_none() && status.attempt.is_none() && desired.promotes() => {
            ("Unknown", Problem { reason: Reason::AwaitingApproval, message: "nothing was asked for yet".to_owned() })
        }
        _ if last_failed && status.attempt.is_none() => {
            let message = status.history.first().map(|entry| entry.message.clone()).unwrap_or_default();
            let reason = if ready.status == "False" { ready.problem.reason } else { Reason::ProgressingWithRetry };
            ("False", Problem { reason, message })
        }
        _ => ("Unknown", ready.problem.clone()),
    };
    conditions.add("Deployed", word, &problem);
}

fn promotion_allowed(
    conditions: &mut Conditions<'_>,
    desired: &Desired,
    seen: &Observation,
    judged: &Judged,
    step: &Step,
) {
    let runs = judged.status.release.as_ref().map(|release| release.digest.as_str());
    let (word, problem) = match (gate(desired, seen), step) {
        (None, _) => return,
        // The gate tells of the uat resource alone.
        (_, Step::Stall(problem)) if problem.reason == Reason::PairNotProven => ("False", problem.clone()),
        (Some(Gate::Open(source)), _) => {
            let message = format!("{} may be promoted from {}", short(&source.digest), source.name);
            ("True", Problem { reason: Reason::Succeeded, message })
        }
        // The approved digest runs, and uat has moved on to one that is not approved.
        (Some(Gate::Closed(problem)), _)
            if problem.reason == Reason::AwaitingSource
                && wanted(desired, seen).is_some_and(|wanted| runs == Some(wanted.digest.as_str())) =>
        {
            ("False", Problem { reason: Reason::AwaitingApproval, message: moved_on(desired, seen) })
        }
        (Some(Gate::Closed(problem)), _) => ("False", problem),
    };
    conditions.add("PromotionAllowed", word, &problem);
}

/// What is approved runs, and uat runs something else.
fn moved_on(desired: &Desired, seen: &Observation) -> String {
    let Wish::Promote { from, .. } = &desired.wish else { return String::new() };
    let released = seen.source.as_ref().and_then(|source| source.status.release.as_ref());
    let (what, command) = released.map_or_else(
        || ("nothing".to_owned(), String::new()),
        |release| (release.digest.clone(), format!("; to promote that: {}", seen.named().approve(&release.digest))),
    );
    format!("what is approved runs here already, and {from} runs {what}{command}")
}

fn content_verified(conditions: &mut Conditions<'_>, desired: &Desired, judged: &Judged) {
    if !desired.promotes() {
        return;
    }
    if let Some(content) = &judged.content {
        let word = match content.verified {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        conditions.add("ContentVerified", word, &Problem { reason: content.reason, message: content.message.clone() });
    }
}

fn credentials_valid(conditions: &mut Conditions<'_>, seen: &Observation, step: &Step) {
    let works = Problem { reason: Reason::Succeeded, message: "Konigle accepts the token".to_owned() };
    // The credentials of the artifact's host are others.
    let of_artifact = matches!(seen.artifact, ArtifactFacts::Unreadable(_) | ArtifactFacts::Failed { .. });
    match (&seen.account, &seen.space, step) {
        (Err(problem), ..) => conditions.add("CredentialsValid", "False", problem),
        (_, _, Step::Stall(problem)) if problem.reason.is_about_credentials() && !of_artifact => {
            conditions.add("CredentialsValid", "False", problem);
        }
        (_, Some(Ok(_) | Err(LookError::NotFound(_) | LookError::Ambiguous(_) | LookError::Changed(_))), _) => {
            conditions.add("CredentialsValid", "True", &works);
        }
        (_, Some(Err(LookError::Unauthorized(_))), Step::Wait(problem)) => {
            conditions.add("CredentialsValid", "Unknown", problem);
        }
        _ if conditions.before.condition("CredentialsValid").is_some_and(|said| {
            said.status != "False" || !is_mended(seen, conditions.before, conditions.generation)
        }) =>
        {
            conditions.keep(&["CredentialsValid"]);
        }
        _ => {
            let message = "Konigle has not answered yet".to_owned();
            conditions.add("CredentialsValid", "Unknown", &Problem { reason: Reason::Progressing, message });
        }
    }
}

fn drifted(conditions: &mut Conditions<'_>, seen: &Observation, judged: &Judged, step: &Step) {
    if let Some(drift) = &judged.drifted {
        conditions.add("Drifted", "True", &Problem { reason: Reason::Drifted, message: drift.clone() });
    } else if judged.status.attempt.is_none()
        && !matches!(step, Step::Start(_))
        && seen.space.as_ref().is_none_or(Result::is_err)
    {
        conditions.keep(&["Drifted"]);
    }
}

/// The attempt that ended between two statuses.
#[must_use]
pub fn newly_ended<'a>(before: &KonigleSpaceStatus, after: &'a KonigleSpaceStatus) -> Option<&'a HistoryEntry> {
    let known = before.history.first().map_or(0, |entry| entry.number);
    after.history.first().filter(|entry| entry.number > known)
}

/// The condition that tells that the origin of the wanted artifact could not be read the last time, where Ready does not say
/// so: what it named last stays wanted.
#[must_use]
pub fn unseen_origin(status: &KonigleSpaceStatus) -> Option<&Condition> {
    let artifact = status.condition("ArtifactReady").filter(|artifact| artifact.status == "False")?;
    let is_said = status.condition("Ready").is_some_and(|ready| ready.message.contains(&artifact.message));
    Some(artifact).filter(|_| !is_said)
}

/// The Events of one status write: what changed between two statuses, at most a few lines for people.
#[must_use]
pub fn transitions(before: &KonigleSpaceStatus, after: &KonigleSpaceStatus) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Some(entry) = newly_ended(before, after) {
        let verb = match entry.attempt_type {
            AttemptType::Promote => "Promotion",
            AttemptType::Deploy | AttemptType::Other => "Deploy",
        };
        let (warning, reason) = match (verb, entry.result) {
            ("Promotion", AttemptResult::Succeeded) => (false, "PromotionSucceeded"),
            ("Promotion", AttemptResult::Failed) => (true, "PromotionFailed"),
            ("Promotion", AttemptResult::NotSent) => (true, "PromotionNotSent"),
            (_, AttemptResult::Succeeded) => (false, "DeploySucceeded"),
            (_, AttemptResult::Failed) => (true, "DeployFailed"),
            (_, AttemptResult::NotSent) => (true, "DeployNotSent"),
            (_, AttemptResult::Unknown) => (true, "OutcomeUnknown"),
        };
        let repeats = entry.result == AttemptResult::NotSent
            && before.history.first().is_some_and(|last| last.result == entry.result && last.message == entry.message);
        if !repeats {
            let separator = if entry.message.is_empty() { "" } else { ": " };
            let message = format!("attempt {} of {}{separator}{}", entry.number, short(&entry.digest), entry.message);
            notes.push(Note { warning, reason, message });
        }
    }
    let stalled = |status: &KonigleSpaceStatus| status.condition("Stalled").cloned();
    if let Some(now) = stalled(after).filter(|now| stalled(before).is_none_or(|then| then.reason != now.reason)) {
        let reason = Reason::of(&now.reason).map_or("Stalled", Reason::word);
        notes.push(Note { warning: true, reason, message: now.message });
    }
    if after.is_true("Drifted") && !before.is_true("Drifted") && !after.is_true("Stalled") {
        let message = after.condition("Drifted").map(|drifted| drifted.message.clone()).unwrap_or_default();
        notes.push(Note { warning: true, reason: "Drifted", message });
    }
    notes.extend(origin_note(before, after));
    let suspended =
        |status: &KonigleSpaceStatus| status.condition("Ready").is_some_and(|ready| ready.reason == "Suspended");
    if suspended(after) != suspended(before) {
        let reason = if suspended(after) { "Suspended" } else { "Resumed" };
        notes.push(Note { warning: false, reason, message: format!("spec.suspend is {}", suspended(after)) });
    }
    notes
}

/// What [`unseen_origin`] tells, also where credentials that cannot be used kept Ready from True.
fn unread_origin(status: &KonigleSpaceStatus) -> Option<&Condition> {
    let is_kept = |artifact: &&Condition| {
        artifact.status == "False" && Reason::of(&artifact.reason).is_some_and(Reason::is_about_credentials)
    };
    unseen_origin(status).or_else(|| status.condition("ArtifactReady").filter(is_kept))
}

fn is_invalid(status: &KonigleSpaceStatus) -> bool {
    status.condition("Ready").is_some_and(|ready| ready.reason == Reason::InvalidSpec.word())
}

/// That the origin cannot be read any more, or can be again. Another message for the same reason is none: the host words it.
fn origin_note(before: &KonigleSpaceStatus, after: &KonigleSpaceStatus) -> Option<Note> {
    match (unread_origin(before), unseen_origin(after)) {
        (then, Some(now)) if !is_invalid(after) && then.is_none_or(|then| then.reason != now.reason) => {
            let message = format!("{}: {}", now.reason, now.message);
            Some(Note { warning: true, reason: "OriginUnavailable", message })
        }
        (Some(_), None) => {
            let said = after.condition("ArtifactReady")?;
            let artifact = after.artifact.as_ref()?;
            let origin = artifact.origin.as_deref()?;
            // Another origin, or other credentials, tell nothing of what could not be read.
            let is_same = before.observed_generation == after.observed_generation
                && before.artifact.as_ref().is_some_and(|before| before.origin.as_deref() == Some(origin));
            let is_read = said.status == "True" || said.reason == Reason::Downloading.word();
            let message = format!("{origin} can be read again, and names {}", short(&artifact.digest));
            (is_same && is_read).then_some(Note { warning: false, reason: "OriginRecovered", message })
        }
        _ => None,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
