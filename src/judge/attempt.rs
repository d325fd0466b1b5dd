//! What became of the open attempt.
//!
//! The rules are those of the design's section 4, numbers 4 to 7. An attempt is closed only with proof, with a person's
//! word, or, under the policy Resolve, when a wait that covers every known behaviour of the API has shown nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::words::{Class, class};
use super::{ANSWERED_RETRY, Content, End, Judged, Note, Open, SOURCE_CHANGED, SOURCE_UNCHANGED, close, release};
use crate::api::{Attempt, AttemptResult, AttemptType, Attribution, PairStatus, UnknownOutcomePolicy};
use crate::desired::{Answer as PersonsAnswer, Desired};
use crate::konigle::model::{Job, JobStatus};
use crate::konigle::{self, Answer, Rejection};
use crate::observation::{AttemptFacts, LookError, Observation, Problem};
use crate::reason::Reason;
use crate::text::{cut, tail};
use crate::time::{self, doubled};

/// How long a job may be answered with 404 before its attempt is judged by the Space alone.
const JOB_LOST_AFTER: Duration = Duration::from_mins(5);

/// How late after its claim a request may begin, and the body of its answer end.
const LATE: Duration = konigle::FENCE.saturating_add(konigle::ANSWER_LIMIT);

/// The longest pause between attempts of which nothing is wrong with what is sent.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// The largest `spec.timeout`.
const LONGEST_JOB: Duration = Duration::from_hours(24);

/// The longest that the request of this attempt may take.
#[must_use]
pub fn submit_limit(attempt: &Attempt) -> Duration {
    match attempt.attempt_type {
        AttemptType::Promote => super::hold::PROMOTE_LIMIT,
        AttemptType::Deploy | AttemptType::Other => {
            konigle::submit_limit(attempt.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
        }
    }
}

/// How long the job of this attempt may run, as the spec said when it was claimed: an edit ends no job. The most where the
/// record does not tell.
#[must_use]
pub fn job_limit(attempt: &Attempt) -> Duration {
    given_to_the_job(attempt).unwrap_or(LONGEST_JOB)
}

/// The same where the spec is known: it serves where the record does not tell, as that of an attempt that nobody made.
fn longest_job(attempt: &Attempt, desired: &Desired) -> Duration {
    given_to_the_job(attempt).map_or(desired.timeout, |given| given.max(desired.timeout))
}

fn given_to_the_job(attempt: &Attempt) -> Option<Duration> {
    let (from, to) = (time::parse(&attempt.started_at)?, time::parse(&attempt.deadline)?);
    Some(Duration::try_from(to.duration_since(from)).ok()?.min(LONGEST_JOB))
}

/// What a list of jobs tells of an attempt whose job is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The job that shows the attempt's nonce.
    pub with_nonce: Option<String>,
    /// All jobs, where each that was born since the baseline has ended. `None`: some run.
    pub ended: Option<BTreeSet<String>>,
}

/// What these jobs, the whole list, tell of this attempt.
#[must_use]
pub fn listed(attempt: &Attempt, jobs: &[Job]) -> Listed {
    let baseline = attempt.baseline.newest_job_created_at.as_deref().and_then(time::parse);
    let ended = |job: &Job| {
        let older = job.created_at.as_deref().and_then(time::parse).zip(baseline);
        job.status.ended() || older.is_some_and(|(created, baseline)| created < baseline)
    };
    Listed {
        with_nonce: jobs.iter().find(|job| job.mentions(&attempt.nonce)).map(|job| job.id.clone()),
        ended: jobs.iter().all(ended).then(|| jobs.iter().map(|job| job.id.clone()).collect()),
    }
}

/// Judges the open attempt: closes it, or says what it waits for.
pub(super) fn judge(judged: &mut Judged, desired: &Desired, seen: &Observation) -> Option<Open> {
    let attempt = judged.status.attempt.clone()?;
    let none = AttemptFacts::default();
    let facts = seen.attempt.as_ref().unwrap_or(&none);
    if attempt.job_id.is_none()
        && let Proof::Of(open) = prove(judged, desired, seen, facts)
    {
        return open;
    }
    let lost = attempt.job_id.is_some() && facts.job_missing_for >= JOB_LOST_AFTER;
    let unknown = attempt.job_id.is_none() || lost;
    let overdue = is_overdue(&attempt, seen);
    let unreadable = (attempt.attempt_type == AttemptType::Other)
        .then(|| "the attempt was written by a newer version of the operator: run that version".to_owned())
        .or_else(|| sent_elsewhere(&attempt, judged, seen))
        .or_else(|| space_is_gone(&attempt, seen));
    if let Some(answer) = desired.requests.answer_for(&attempt.nonce)
        && (unknown || overdue || unreadable.is_some())
    {
        return answered(judged, desired, seen, answer);
    }
    if let Some(why) = unreadable {
        return Some(Open::Undecided(why));
    }
    if unknown {
        return resolve(judged, desired, seen, facts);
    }
    match &facts.job {
        Some(Ok(job)) => follow(judged, desired, seen, job),
        _ if overdue => Some(Open::Overdue),
        _ => Some(Open::Running),
    }
}

/// Whether its deadline has passed; one that cannot be read has.
fn is_overdue(attempt: &Attempt, seen: &Observation) -> bool {
    time::parse(&attempt.deadline).is_none_or(|deadline| seen.now > deadline)
}

/// Whether what became of a request is proven.
enum Proof {
    /// It is: the attempt is closed, or its job is known.
    Of(Option<Open>),
    /// It is not.
    Missing,
}

/// What this process was answered itself, or a job that shows the nonce, is proof; it goes before anybody's word.
fn prove(judged: &mut Judged, desired: &Desired, seen: &Observation, facts: &AttemptFacts) -> Proof {
    let times = seen.refusal.as_ref().map_or(1, |refusal| refusal.times);
    match facts.answer.as_ref().map(|(_, answer)| answer) {
        Some(Answer::Accepted(deployment)) => {
            record_ids(judged, deployment.job_id.clone(), deployment.id.clone());
            return Proof::Of(Some(Open::Running));
        }
        Some(Answer::Unsent(why)) => {
            let end = End::new(AttemptResult::NotSent, format!("nothing was sent: {why}"));
            // Spread, so that two which gave way to each other do not meet again.
            let spread = attempt_spread(judged);
            let wait = doubled(Duration::from_secs(5), times, LONGEST_PAUSE).saturating_add(spread);
            close(judged, desired, seen.now, &End { retry_in: Some(wait), ..end });
            return Proof::Of(None);
        }
        Some(Answer::Rejected(rejection)) => {
            close(judged, desired, seen.now, &refused(rejection, times));
            return Proof::Of(None);
        }
        Some(Answer::Unknown(_)) | None => {}
    }
    let Some(job_id) = &facts.job_with_nonce else { return Proof::Missing };
    record_ids(judged, job_id.clone(), None);
    Proof::Of(Some(Open::Running))
}

/// Up to 4 s, by the random mark of the attempt.
fn attempt_spread(judged: &Judged) -> Duration {
    let nonce = judged.status.attempt.as_ref().map_or("", |attempt| attempt.nonce.as_str());
    Duration::from_secs(nonce.bytes().map(u64::from).sum::<u64>() % 5)
}

/// Evidence from another address or another Space says nothing about this attempt.
fn sent_elsewhere(attempt: &Attempt, judged: &Judged, seen: &Observation) -> Option<String> {
    let base_url = &seen.account.as_ref().ok()?.base_url;
    let space_id = judged.status.space.as_ref().map(|space| &space.id);
    if *base_url != attempt.sent_to.base_url {
        return Some(format!(
            "attempt {} was sent to {}, but the operator now speaks to {base_url}: nothing seen there tells its outcome",
            attempt.number, attempt.sent_to.base_url
        ));
    }
    (space_id != Some(&attempt.sent_to.space_id)).then(|| {
        format!(
            "attempt {} was sent for Space {}, which is no longer this resource's",
            attempt.number, attempt.sent_to.space_id
        )
    })
}

/// A Space that is gone, or another under the same names, will never show what became of the attempt.
fn space_is_gone(attempt: &Attempt, seen: &Observation) -> Option<String> {
    match seen.space.as_ref()?.as_ref().err()? {
        LookError::NotFound(why) | LookError::Changed(why) => {
            Some(format!("what became of attempt {} cannot be seen any more: {why}", attempt.number))
        }
        _ => None,
    }
}

fn record_ids(judged: &mut Judged, job_id: String, deployment_id: Option<String>) {
    if let Some(attempt) = judged.status.attempt.as_mut() {
        attempt.job_id = Some(job_id);
        attempt.deployment_id = attempt.deployment_id.take().or(deployment_id);
    }
}

/// A person said what became of it.
fn answered(judged: &mut Judged, desired: &Desired, seen: &Observation, answer: PersonsAnswer) -> Option<Open> {
    let attempt = judged.status.attempt.clone()?;
    // What the Space shows from now on is what counts as settled; without it, the answer waits for the next look.
    let gone = space_is_gone(&attempt, seen).is_some();
    let pair = match seen.pair_seen() {
        Some(pair) => pair,
        None if gone => attempt.baseline.pair(),
        None => return Some(Open::Resolving),
    };
    judged.notes.push(Note {
        warning: false,
        reason: "AttemptResolved",
        message: format!("attempt {} was resolved by a person's answer", attempt.number),
    });
    judged.status.settled = Some(pair.clone());
    let end = match answer {
        PersonsAnswer::Succeeded => {
            adopt(judged, &attempt, pair, seen);
            End::new(AttemptResult::Succeeded, "a person answered: succeeded")
        }
        PersonsAnswer::Failed => End::new(AttemptResult::Failed, "a person answered: failed"),
        PersonsAnswer::Retry => End::new(AttemptResult::Unknown, ANSWERED_RETRY),
    };
    close(judged, desired, seen.now, &end);
    None
}

/// A success that is known without its job.
fn adopt(judged: &mut Judged, attempt: &Attempt, pair: PairStatus, seen: &Observation) {
    release(judged, attempt, pair, Attribution::Inferred, seen.now);
    if attempt.attempt_type == AttemptType::Promote {
        judged.content = Some(Content {
            verified: None,
            reason: Reason::AdoptedWithoutJob,
            message: match attempt.job_id {
                None => "the promotion's job was never seen, so that the uat Space stayed as it was is not proven",
                Some(_) => "the uat Space was not read after the promotion, so that it stayed as it was is not proven",
            }
            .to_owned(),
        });
    }
}

/// What an answer that refuses means for the attempt; `times` is how often in a row it came.
fn refused(rejection: &Rejection, times: u32) -> End {
    let seconds = Duration::from_secs;
    let not_sent =
        |wait: Duration| End { retry_in: Some(wait), ..End::new(AttemptResult::NotSent, rejection.to_string()) };
    let failed =
        |reason: Reason| End { hopeless: Some(reason), ..End::new(AttemptResult::Failed, rejection.to_string()) };
    match rejection {
        Rejection::Artifact { .. } => failed(Reason::ArtifactRejected),
        Rejection::Request { .. } => failed(Reason::RequestRejected),
        Rejection::Busy { .. } => not_sent(doubled(seconds(15), times, LONGEST_PAUSE)),
        Rejection::RateLimited { retry_after } => not_sent(*retry_after),
        // A Secret that is mended acts within 30 s.
        Rejection::Unauthorized { .. } | Rejection::Forbidden { .. } => not_sent(seconds(30)),
        Rejection::NotFound { .. } => not_sent(doubled(seconds(30), times, LONGEST_PAUSE)),
    }
}

/// What an answer that started nothing says of the next attempt.
#[must_use]
pub fn refusal(answer: &Answer) -> Option<Problem> {
    let problem = |reason, message: String| Some(Problem { reason, message });
    match answer {
        Answer::Accepted(_) | Answer::Unknown(_) => None,
        Answer::Unsent(why) => {
            problem(Reason::ProgressingWithRetry, format!("nothing was sent: {why}; tried again soon"))
        }
        Answer::Rejected(rejection) => {
            let reason = match rejection {
                Rejection::Busy { .. } => Reason::SpaceBusy,
                Rejection::RateLimited { .. } => Reason::RateLimited,
                Rejection::Unauthorized { .. } => Reason::CredentialsRejected,
                Rejection::Forbidden { .. } => Reason::SpaceForbidden,
                Rejection::NotFound { .. } => Reason::SpaceNotFound,
                Rejection::Artifact { .. } | Rejection::Request { .. } => return None,
            };
            problem(reason, rejection.to_string())
        }
    }
}

/// Rule 5: the outcome is unknown, and only the Space can tell.
fn resolve(judged: &mut Judged, desired: &Desired, seen: &Observation, facts: &AttemptFacts) -> Option<Open> {
    let attempt = judged.status.attempt.clone()?;
    let over = wait_is_over(&attempt, desired, seen, facts);
    let Some(pair) = seen.pair_seen() else { return Some(Open::Resolving) };
    let baseline = attempt.baseline.pair();
    let unheard = match &attempt.job_id {
        None => "no answer came".to_owned(),
        Some(job_id) => format!("job {job_id} was accepted, and is not found any more"),
    };
    // A time that went back for good is that of a Space that was restored: it tells nothing of this attempt.
    let is_older = time::is_before(pair.last_deployed_at.as_deref(), baseline.last_deployed_at.as_deref());
    let moved = pair.last_deployed_at != baseline.last_deployed_at && !is_older;
    let word_differs = pair.last_deployment_status != baseline.last_deployment_status;
    match class(pair.last_deployment_status.as_deref()) {
        Class::Success if moved && (word_differs || over) => {
            if attempt.attempt_type == AttemptType::Promote && source_moved(&attempt, facts, over) == Some(true) {
                end_with_changed_content(judged, desired, seen, &attempt, pair);
                return None;
            }
            adopt(judged, &attempt, pair, seen);
            let message = format!("{unheard}, but the Space shows a new success");
            let end = End::new(AttemptResult::Succeeded, message);
            close(judged, desired, seen.now, &end);
            None
        }
        // A word that differs alone may be one from before the baseline, read late.
        Class::Failure if !is_older && pair != baseline && ((moved && word_differs) || over) => {
            judged.status.settled = Some(pair);
            let end = End::new(AttemptResult::Failed, format!("{unheard}, and the Space shows a new failure"));
            close(judged, desired, seen.now, &end);
            None
        }
        _ if !over => Some(Open::Resolving),
        _ if pair != baseline => Some(Open::Undecided(format!(
            "the Space changed (now {}), but not in a way that tells the outcome of attempt {}",
            pair.last_deployment_status.as_deref().unwrap_or("no status"),
            attempt.number
        ))),
        _ => match desired.unknown_outcome_policy {
            UnknownOutcomePolicy::Hold => Some(Open::Undecided(match attempt.job_id {
                None => format!("attempt {} may have been received, and nothing was seen of it", attempt.number),
                Some(_) => format!("of attempt {}, {unheard}, and the Space shows nothing new", attempt.number),
            })),
            UnknownOutcomePolicy::Resolve => {
                judged.status.settled = Some(pair);
                let message = match attempt.job_id {
                    None => "nothing was seen of it until the wait was over: it is taken that it never took effect"
                        .to_owned(),
                    Some(_) => format!("{unheard}, and the Space showed nothing new until the wait was over"),
                };
                close(judged, desired, seen.now, &End::new(AttemptResult::Unknown, message));
                None
            }
        },
    }
}

/// Whether everything that could still happen would have been seen by now.
///
/// A server that moves `last_deployed_at` only at a job's end makes a wait of `settle` alone worthless, so a whole job's
/// time is waited for, unless the list of jobs proves that none runs. The durations are this process's own: whoever did
/// not see the request end must allow for it to be still under way elsewhere.
fn wait_is_over(attempt: &Attempt, desired: &Desired, seen: &Observation, facts: &AttemptFacts) -> bool {
    let job = if facts.later_jobs_ended { Duration::ZERO } else { longest_job(attempt, desired) };
    match &facts.answer {
        Some((ago, _)) => *ago >= seen.settle.saturating_add(job),
        // Whoever sent it may have begun as late as the fence allows, and been slow to give up.
        None => facts.seen_for >= longest_wait(attempt, seen.settle, job),
    }
}

/// How long something may still come of the request of an attempt, for whoever did not see that request end: from the
/// first sight of the attempt, where its job may run for `job`.
fn longest_wait(attempt: &Attempt, settle: Duration, job: Duration) -> Duration {
    submit_limit(attempt).saturating_add(LATE).saturating_add(settle).saturating_add(job)
}

/// Whether nothing can come any more of the request of an attempt that has been known for so long: [`longest_wait`], with
/// the longest job that the attempt was given.
#[must_use]
pub fn is_spent(attempt: &Attempt, seen_for: Duration, settle: Duration) -> bool {
    seen_for >= longest_wait(attempt, settle, job_limit(attempt))
}

/// When the wait for what becomes of this attempt is over at the latest, where one process has known it since its claim.
#[must_use]
pub fn wait_ends(attempt: &Attempt, desired: &Desired, settle: Duration) -> String {
    let job = longest_job(attempt, desired);
    time::parse(&attempt.started_at)
        .map_or_else(String::new, |from| time::after(from, longest_wait(attempt, settle, job)))
}

/// Rule 7: the job is known, and was read.
fn follow(judged: &mut Judged, desired: &Desired, seen: &Observation, job: &Job) -> Option<Open> {
    let attempt = judged.status.attempt.clone()?;
    if let Some(open) = judged.status.attempt.as_mut() {
        open.job_status = Some(cut(job.status.as_str(), 64));
        let lines = tail(&job.log_tail);
        let count = i64::try_from(job.log_count).unwrap_or(i64::MAX);
        open.log = (count > 0).then_some(crate::api::LogTail { lines, count });
    }
    match job.status {
        JobStatus::Success => succeeded(judged, desired, seen, job),
        JobStatus::Failed => {
            let Some(pair) = seen.pair_seen() else {
                return Some(Open::Confirming);
            };
            // A pair that is older than this end would be the next attempt's baseline, and this failure that attempt's.
            // A word alone may even be one from before the baseline, unless that is longer ago than the server may lag.
            let facts = seen.attempt.clone().unwrap_or_default();
            let moved = pair.last_deployed_at != attempt.baseline.last_deployed_at;
            let shown = pair != attempt.baseline.pair()
                && (moved || facts.seen_for >= seen.settle)
                && class(pair.last_deployment_status.as_deref()) == Class::Failure;
            if !shown && facts.job_ended_for < seen.settle {
                return Some(Open::Confirming);
            }
            judged.status.settled = Some(pair);
            let error = job.log_tail.iter().rfind(|line| line.starts_with("[ERROR]"));
            let last = error.or(job.log_tail.last()).map_or("its log is empty", String::as_str);
            let message = format!("job {} failed: {last}", attempt.job_id.as_deref().unwrap_or_default());
            close(judged, desired, seen.now, &End::new(AttemptResult::Failed, message));
            None
        }
        JobStatus::Pending | JobStatus::Running | JobStatus::Unknown(_) => {
            Some(if is_overdue(&attempt, seen) { Open::Overdue } else { Open::Running })
        }
    }
}

/// The job succeeded: does the Space show it, and, for a promotion, did the uat Space stay as it was?
fn succeeded(judged: &mut Judged, desired: &Desired, seen: &Observation, job: &Job) -> Option<Open> {
    let attempt = judged.status.attempt.clone()?;
    let facts = seen.attempt.clone().unwrap_or_default();
    let Some(pair) = seen.pair_seen() else { return Some(Open::Confirming) };
    let settled = facts.job_ended_for >= seen.settle;
    let promotes = attempt.attempt_type == AttemptType::Promote;
    let source_moved = if promotes { source_moved(&attempt, &facts, settled) } else { Some(false) };
    if source_moved == Some(true) {
        end_with_changed_content(judged, desired, seen, &attempt, pair);
        return None;
    }
    let moved = pair.last_deployed_at != attempt.baseline.last_deployed_at;
    let word = class(pair.last_deployment_status.as_deref());
    // Where the time moved as the job began, any other word may be from before its end: it must not be the next baseline.
    if (!moved || word != Class::Success) && !settled {
        return Some(Open::Confirming);
    }
    if promotes && !settled {
        return Some(Open::Verifying);
    }
    if source_moved.is_none() {
        return Some(unverifiable(&attempt, &facts, seen).unwrap_or(Open::Verifying));
    }
    let within =
        time::lies_within(pair.last_deployed_at.as_deref(), job.created_at.as_deref(), job.completed_at.as_deref());
    // A deployment that has not ended by now is somebody else's, whether or not it has moved the time yet.
    let others = word == Class::Unfinished || moved && (within == Some(false) || word == Class::Failure);
    let (attribution, message) = if is_anothers(&attempt, job) {
        (Attribution::Inferred, "the job succeeded, but it is older than the attempt or for another Space")
    } else if others {
        (Attribution::Inferred, "the job succeeded, but the Space shows a deployment that is not that job's")
    } else {
        (Attribution::Confirmed, "")
    };
    release(judged, &attempt, pair, attribution, seen.now);
    if promotes {
        judged.content = Some(Content {
            verified: Some(true),
            reason: Reason::SourceUnchanged,
            message: SOURCE_UNCHANGED.to_owned(),
        });
    }
    close(judged, desired, seen.now, &End::new(AttemptResult::Succeeded, message));
    None
}

/// Whether the job cannot be this attempt's: whoever may write a status can write any job's id into it. A promotion's job
/// may name either of its Spaces.
fn is_anothers(attempt: &Attempt, job: &Job) -> bool {
    let elsewhere = job.space_id.as_ref().is_some_and(|space| *space != attempt.sent_to.space_id);
    let created = job.created_at.as_deref();
    (elsewhere && attempt.attempt_type == AttemptType::Deploy)
        || (created.is_some() && time::is_before(created, attempt.baseline.last_deployed_at.as_deref()))
}

/// The deadline has passed and the uat Space cannot be read, in a way that does not pass by itself.
fn unverifiable(attempt: &Attempt, facts: &AttemptFacts, seen: &Observation) -> Option<Open> {
    let why = match facts.source.as_ref()?.as_ref().err()? {
        LookError::RateLimited(_) | LookError::Unavailable(_) | LookError::Unauthorized(_) => return None,
        LookError::Forbidden(why)
        | LookError::NotFound(why)
        | LookError::Ambiguous(why)
        | LookError::Changed(why)
        | LookError::BaseUrl(why) => why,
    };
    is_overdue(attempt, seen).then(|| {
        Open::Undecided(format!(
            "the job of attempt {} succeeded, but the uat Space cannot be read, so that it stayed as it was approved is not proven ({why})",
            attempt.number
        ))
    })
}

/// Whether the uat side is no longer what was pinned. `None`: it could not be looked at, or may have been read in an old
/// state, as long as the server may lag.
fn source_moved(attempt: &Attempt, facts: &AttemptFacts, settled: bool) -> Option<bool> {
    let pinned = attempt.baseline.source.as_ref()?;
    match facts.source.as_ref()? {
        Ok(now) if now.uid != pinned.uid => Some(true),
        Ok(now) if now.pair() == pinned.pair() => Some(false),
        Ok(now)
            if now.last_deployed_at == pinned.last_deployed_at
                || time::is_before(now.last_deployed_at.as_deref(), pinned.last_deployed_at.as_deref()) =>
        {
            settled.then_some(true)
        }
        Ok(_) | Err(LookError::NotFound(_)) => Some(true),
        Err(_) => None,
    }
}

/// What was promoted may not be what was approved.
fn end_with_changed_content(
    judged: &mut Judged,
    desired: &Desired,
    seen: &Observation,
    attempt: &Attempt,
    pair: PairStatus,
) {
    release(judged, attempt, pair, Attribution::Inferred, seen.now);
    judged.content = Some(Content {
        verified: Some(false),
        reason: Reason::SourceChanged,
        message: format!(
            "the uat Space changed while {} was promoted, so what production runs is not known",
            crate::wish::short(&attempt.digest)
        ),
    });
    let end = End::new(AttemptResult::Succeeded, SOURCE_CHANGED);
    close(judged, desired, seen.now, &end);
}
