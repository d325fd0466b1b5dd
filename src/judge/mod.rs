//! What has happened: brings the records of a status up to date with the evidence of this pass.
//!
//! Pure and total: no clock, no I/O, no log. Attempts are closed here and only here, releases recorded here and only
//! here. What to do next is [`crate::plan`]'s matter; conditions are [`crate::status`]'s.

mod attempt;
mod drift;
mod first_contact;
mod hold;
pub mod words;

pub use attempt::{Listed, is_spent, job_limit, listed, refusal, submit_limit, wait_ends};
pub use drift::{is_stale, last_job, last_sent};
pub use first_contact::{is_first_contact, tells_of};
pub use hold::{holder_now, holder_timeout};

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::{
    ArtifactStatus, Attempt, AttemptResult, AttemptType, Attribution, Cause, HistoryEntry, KonigleSpaceStatus,
    PairStatus, Quarantined, REDEPLOY_AT, RESET_AT, ReleaseStatus, UploadStatus,
};
use crate::desired::{Desired, Wish};
use crate::observation::{ArtifactFacts, Observation, OriginFacts};
use crate::reason::Reason;
use crate::text::cut;
use crate::time;
use crate::wish::{Wanted, artifact_name, short, wanted};

/// The longest wait before an attempt: the server's `retry_after` is at most 15 min.
const LONGEST_WAIT: Duration = Duration::from_mins(16);

/// The message of an attempt that a person gave up with `retry`; the next one is that person's.
pub const ANSWERED_RETRY: &str = "a person answered: retry";

/// The message of a promotion whose uat Space changed meanwhile.
const SOURCE_CHANGED: &str = "the uat Space changed meanwhile: the content is not verified";
/// What is said of a promotion whose uat Space did not.
const SOURCE_UNCHANGED: &str = "the uat Space stayed as it was approved while it was promoted";

/// The records as they stand after this pass's evidence.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The records; conditions are still those of before.
    pub status: KonigleSpaceStatus,
    /// What is to be said of the attempt that stays open.
    pub open: Option<Open>,
    /// Somebody else deployed: what was expected and what was seen.
    pub drifted: Option<String>,
    /// Whether what was promoted is what was approved.
    pub content: Option<Content>,
    /// Whether another digest is wanted than in the pass before.
    pub new_wish: bool,
    /// Things that happened and leave no other trace; each becomes one Event.
    pub notes: Vec<Note>,
}

/// What is to be said of an attempt that stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Open {
    /// Its job runs.
    Running,
    /// Its job runs for longer than `spec.timeout`.
    Overdue,
    /// Its job ended; the Space does not show it yet.
    Confirming,
    /// Its job succeeded; whether the uat Space stayed as it was is looked at once more.
    Verifying,
    /// Its outcome is unknown; evidence is awaited.
    Resolving,
    /// Its outcome stays unknown: a person must say.
    Undecided(String),
}

/// Whether what was promoted is what was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The condition's status.
    pub verified: Option<bool>,
    /// The condition's reason.
    pub reason: Reason,
    /// The condition's message.
    pub message: String,
}

impl Content {
    /// What a status says of the promoted content. The condition is the record: nothing else outlives the attempt.
    fn recorded(status: &KonigleSpaceStatus) -> Option<Self> {
        let condition = status.condition("ContentVerified")?;
        let (verified, reason) = match condition.reason.as_str() {
            "SourceUnchanged" => (Some(true), Reason::SourceUnchanged),
            "SourceChanged" => (Some(false), Reason::SourceChanged),
            "AdoptedWithoutJob" => (None, Reason::AdoptedWithoutJob),
            _ => (None, Reason::NotYetConfirmed),
        };
        Some(Self { verified, reason, message: condition.message.clone() })
    }
}

/// Something that happened, for an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a Warning.
    pub warning: bool,
    /// The Event's reason.
    pub reason: &'static str,
    /// The Event's note.
    pub message: String,
}

/// Judges the records of `before` by the facts of this pass.
#[must_use]
pub fn judge(before: &KonigleSpaceStatus, desired: &Desired, seen: &Observation) -> Judged {
    let mut judged = Judged {
        status: before.clone(),
        open: None,
        drifted: None,
        content: Content::recorded(before),
        new_wish: false,
        notes: Vec::new(),
    };
    if let Some(attempt) = &mut judged.status.attempt {
        // No pass begins while an upload runs.
        attempt.upload = None;
    }
    record_space(&mut judged, seen);
    believe_no_clock_that_stepped(&mut judged.status, seen.now);
    let wanted = wanted(desired, seen);
    take_over_wish(&mut judged, wanted.as_ref(), desired, seen);
    hold::judge(&mut judged, desired, seen);
    judged.open = attempt::judge(&mut judged, desired, seen);
    if judged.status.attempt.is_none() {
        judged.open = first_contact::take_over_attempt(&mut judged, seen);
    }
    if judged.status.attempt.is_none() {
        first_contact::judge(&mut judged, wanted.as_ref(), desired, seen);
        drift::judge(&mut judged, seen);
    }
    take_over_requests(&mut judged, wanted.as_ref(), desired, seen);
    trim(&mut judged.status.history, desired.history_limit);
    judged
}

fn record_space(judged: &mut Judged, seen: &Observation) {
    let Some(space) = seen.space_seen() else { return };
    let status = &mut judged.status;
    if status.space.as_ref().is_some_and(|before| !before.id.is_empty() && before.id != space.status.id) {
        // A person had the names resolved anew: nothing that was recorded speaks of this Space.
        status.release = None;
        status.settled = None;
        judged.content = None;
    }
    status.space = Some(space.status.clone());
    status.url.clone_from(&space.url);
}

/// The next attempt is never further away than the longest wait that is ever set; a time that is comes from a clock that
/// stepped, and would otherwise be waited for as long as the step was.
fn believe_no_clock_that_stepped(status: &mut KonigleSpaceStatus, now: Timestamp) {
    let latest = time::after(now, LONGEST_WAIT);
    let is_later = |at: &String| time::parse(at) > time::parse(&latest);
    if status.next_retry_time.as_ref().is_some_and(is_later) {
        status.next_retry_time = Some(latest);
    }
}

/// The wanted artifact as the status shows it, `before` what it showed of the same one.
fn wanted_artifact(
    wanted: &Wanted,
    before: Option<&ArtifactStatus>,
    desired: &Desired,
    seen: &Observation,
) -> ArtifactStatus {
    let upload = match seen.artifact {
        ArtifactFacts::OnDisk { upload, size } => {
            Some(UploadStatus { digest: upload.to_string(), size: i64::try_from(size).unwrap_or(i64::MAX) })
        }
        _ => before.and_then(|before| before.upload.clone()),
    };
    let origin = match &desired.wish {
        Wish::Deploy(origin) => Some(origin),
        Wish::Promote { .. } => None,
    };
    let part = origin.and_then(|origin| artifact_name(origin, seen)).and_then(|name| name.part);
    let (source_digest, path) = part.unzip();
    ArtifactStatus {
        digest: wanted.digest.clone(),
        revision: wanted.revision.clone(),
        origin: origin.filter(|origin| origin.fixed_name().is_none()).map(ToString::to_string),
        source_digest: source_digest.map(|digest| digest.to_string()),
        path,
        size: upload.as_ref().map(|upload| upload.size).or_else(|| before.and_then(|before| before.size)),
        upload,
        download: seen.download.as_ref().map(|download| download.progress.clone()),
    }
}

/// A changed wish starts with a clean slate, and, where somebody else deployed meanwhile, replaces what they did.
fn take_over_wish(judged: &mut Judged, wanted: Option<&Wanted>, desired: &Desired, seen: &Observation) {
    let Some(wanted) = wanted else { return };
    let status = &mut judged.status;
    let same = status.artifact.as_ref().is_some_and(|before| before.digest == wanted.digest);
    judged.new_wish = !same && status.artifact.is_some();
    let drift_was_seen = judged.new_wish && status.is_true("Drifted") && status.attempt.is_none();
    if drift_was_seen && seen.space_seen().is_none() {
        // What the new wish replaces is pinned by a look; until then it stays new.
        return;
    }
    status.artifact = Some(wanted_artifact(wanted, status.artifact.as_ref().filter(|_| same), desired, seen));
    if same {
        return;
    }
    status.failures = 0;
    status.next_retry_time = None;
    status.quarantined.clear();
    if let (true, Some(space)) = (drift_was_seen, seen.space_seen()) {
        status.settled = Some(space.pair());
        status.release = None;
        judged.notes.push(Note {
            warning: true,
            reason: "DriftOverwritten",
            message: format!(
                "{} was asked for after somebody else deployed at {}: it replaces that deployment",
                short(&wanted.digest),
                space.status.last_deployed_at.as_deref().unwrap_or("an unknown time"),
            ),
        });
    }
}

/// Acknowledges the requests that this pass answers. One that asks for a release is acknowledged by its claim, and one for a
/// look once the look at the origin has ended.
fn take_over_requests(judged: &mut Judged, wanted: Option<&Wanted>, desired: &Desired, seen: &Observation) {
    let requests = &desired.requests;
    if !matches!(seen.origin, OriginFacts::Unnamed { looking: true, .. }) {
        judged.status.last_handled_reconcile_at.clone_from(&requests.reconcile_at);
    }
    if requests.reset(&judged.status) {
        let had_failures = judged.status.failures > 0
            || judged.status.next_retry_time.is_some()
            || !judged.status.quarantined.is_empty();
        judged.status.failures = 0;
        judged.status.next_retry_time = None;
        judged.status.quarantined.clear();
        let releases = wanted.is_some() && (needs_reset(judged) || judged.status.attempt.is_some());
        if seen.space_seen().is_some() && !releases {
            judged.status.last_handled_reset_at.clone_from(&requests.reset_at);
            // Its names were resolved anew by it.
            let was_changed =
                judged.status.condition("Stalled").is_some_and(|it| it.reason == Reason::SpaceChanged.word());
            if !had_failures && !was_changed {
                judged.notes.push(nothing_to_reset(wanted, seen));
            }
        }
    }
    if requests.redeploy_at.is_none() || wanted.is_none() {
        judged.status.last_handled_redeploy_at.clone_from(&requests.redeploy_at);
    }
}

/// A reset that changes nothing looks like one that was not seen.
fn nothing_to_reset(wanted: Option<&Wanted>, seen: &Observation) -> Note {
    let why = match wanted {
        None => "nothing is asked for".to_owned(),
        Some(wanted) => {
            let redeploy = seen.named().annotate_now(REDEPLOY_AT);
            format!("{} is confirmed to run; to release it once more all the same: {redeploy}", short(&wanted.digest))
        }
    };
    let message = format!("the annotation {RESET_AT} had nothing to do: no failure is recorded, and {why}");
    Note { warning: false, reason: "NothingToReset", message }
}

/// Whether a reset releases the wanted digest again: what runs is not known for certain.
#[must_use]
pub fn needs_reset(judged: &Judged) -> bool {
    judged.drifted.is_some()
        || judged.content.as_ref().is_some_and(|content| content.verified == Some(false))
        || judged.status.release.as_ref().is_none_or(|release| release.attribution != Attribution::Confirmed)
}

/// How an attempt ended.
struct End {
    result: AttemptResult,
    message: String,
    /// Why no further attempt of this digest makes sense.
    hopeless: Option<Reason>,
    /// How long to wait after an attempt that does not count as failed.
    retry_in: Option<Duration>,
}

impl End {
    fn new(result: AttemptResult, message: impl Into<String>) -> Self {
        Self { result, message: message.into(), hopeless: None, retry_in: None }
    }
}

/// Closes the open attempt: into the history, and counted where it failed.
fn close(judged: &mut Judged, desired: &Desired, now: Timestamp, end: &End) {
    let status = &mut judged.status;
    let Some(attempt) = status.attempt.take() else { return };
    // Whoever restores or edits a status may leave the two apart; a number is given out once all the same.
    status.last_attempt = status.last_attempt.max(attempt.number);
    let is_wanted = status.artifact.as_ref().is_some_and(|artifact| artifact.digest == attempt.digest);
    match end.result {
        AttemptResult::Succeeded => {
            status.failures = 0;
            status.next_retry_time = None;
            status.quarantined.retain(|quarantined| quarantined.digest != attempt.digest);
        }
        AttemptResult::NotSent => {
            status.next_retry_time = end.retry_in.map(|wait| time::after(now, wait.min(LONGEST_WAIT)));
            // Nothing came of a request to redeploy: it still stands. A reset needs no such mark: its claim forgot what
            // runs, so the digest stays wanted; pending anew, it would clear the wait that was set here.
            let by_answer = last_sent(status).is_some_and(|last| last.message == ANSWERED_RETRY);
            if attempt.cause == Cause::Person && !by_answer {
                status.last_handled_redeploy_at = None;
            }
        }
        AttemptResult::Failed | AttemptResult::Unknown if end.message == ANSWERED_RETRY => {
            status.next_retry_time = None;
        }
        AttemptResult::Failed | AttemptResult::Unknown if is_wanted => {
            status.failures = status.failures.saturating_add(1);
            let failures = u32::try_from(status.failures).unwrap_or(u32::MAX);
            let wait = time::doubled(Duration::from_secs(10), failures, Duration::from_mins(5));
            status.next_retry_time = Some(time::after(now, wait));
            let exhausted = (status.failures >= desired.retry_limit).then_some(Reason::RetriesExceeded);
            if let Some(reason) = end.hopeless.or(exhausted) {
                status.next_retry_time = None;
                status.quarantined.retain(|quarantined| quarantined.digest != attempt.digest);
                status.quarantined.push(Quarantined {
                    digest: attempt.digest.clone(),
                    reason: reason.word().to_owned(),
                    time: time::text(now),
                });
            }
        }
        AttemptResult::Failed | AttemptResult::Unknown => {}
    }
    remember(status, &attempt, end, now);
    if attempt.attempt_type == AttemptType::Promote && end.result != AttemptResult::Succeeded {
        judged.content = content_that_runs(&judged.status);
    }
}

/// What is to be said of the content that runs, after a promotion that did not replace it.
fn content_that_runs(status: &KonigleSpaceStatus) -> Option<Content> {
    let release = status.release.as_ref()?;
    let promoted = status.history.iter().find(|entry| entry.result == AttemptResult::Succeeded);
    let changed = promoted.filter(|entry| entry.digest == release.digest && entry.message == SOURCE_CHANGED);
    let (verified, reason, message) = match (changed, release.attribution) {
        (Some(_), _) => (Some(false), Reason::SourceChanged, SOURCE_CHANGED),
        (None, Attribution::Confirmed) => (Some(true), Reason::SourceUnchanged, SOURCE_UNCHANGED),
        (None, Attribution::Inferred | Attribution::Assumed | Attribution::Other) => {
            (None, Reason::AdoptedWithoutJob, "no promotion of this resource proves the content that runs")
        }
    };
    Some(Content { verified, reason, message: message.to_owned() })
}

fn remember(status: &mut KonigleSpaceStatus, attempt: &Attempt, end: &End, now: Timestamp) {
    let entry = HistoryEntry {
        number: attempt.number,
        attempt_type: attempt.attempt_type,
        digest: attempt.digest.clone(),
        revision: attempt.revision.clone(),
        deployment_id: attempt.deployment_id.clone(),
        job_id: attempt.job_id.clone(),
        result: end.result,
        cause: attempt.cause,
        message: cut(&end.message, 256),
        started_at: attempt.started_at.clone(),
        completed_at: time::text(now),
    };
    // A run of attempts that were never sent tells nothing new: the last one stands for all, so that a day of a
    // read-only token does not push the real releases out of the history.
    let repeats = entry.result == AttemptResult::NotSent
        && status
            .history
            .first()
            .is_some_and(|last| last.result == AttemptResult::NotSent && last.digest == entry.digest);
    if repeats {
        status.history[0] = entry;
    } else {
        status.history.insert(0, entry);
    }
}

/// Keeps the newest `limit` entries, and among them, as far as there is room: the last that was sent, by which it is judged
/// what runs; the newest of all; and the last whose job is known, by which a late move of the Space is told from drift.
pub fn trim(history: &mut Vec<HistoryEntry>, limit: usize) {
    let limit = limit.max(1);
    let sent = history.iter().position(|entry| entry.result != AttemptResult::NotSent);
    let job = history.iter().position(|entry| entry.job_id.is_some());
    let mut kept: Vec<usize> = [sent, Some(0), job].into_iter().flatten().chain(1..history.len()).collect();
    let mut known = BTreeSet::new();
    kept.retain(|index| known.insert(*index));
    kept.truncate(limit);
    let mut index = 0;
    history.retain(|_| {
        index += 1;
        kept.contains(&(index - 1))
    });
}

/// Records what runs.
fn release(judged: &mut Judged, attempt: &Attempt, pair: PairStatus, attribution: Attribution, now: Timestamp) {
    judged.status.release = Some(ReleaseStatus {
        digest: attempt.digest.clone(),
        short_digest: short_digits(&attempt.digest),
        revision: attempt.revision.clone(),
        deployment_id: attempt.deployment_id.clone(),
        job_id: attempt.job_id.clone(),
        deployed_at: Some(time::text(now)),
        last_deployed_at_seen: pair.last_deployed_at.clone(),
        last_deployment_status_seen: pair.last_deployment_status.clone(),
        attribution,
    });
    judged.status.settled = Some(pair);
}

fn short_digits(digest: &str) -> String {
    digest.trim_start_matches("sha256:").chars().take(12).collect()
}

#[cfg(test)]
mod tests;
