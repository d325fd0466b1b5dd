//! The open attempt's job, and the last one's: read before the Space, so that the Space is never older than a job's end.

use kube::ResourceExt;
use tracing::warn;

use crate::api::{Attempt, AttemptType, BaselineSource, PairStatus};
use crate::cluster::within;
use crate::judge::{last_job, listed};
use crate::konigle::Answer;
use crate::konigle::model::JobStatus;
use crate::memory::uid;
use crate::observation::{AttemptFacts, JobTimes, LookError, Observation};

use super::{Look, look_error, pair_of};

/// The job of the open attempt, before the Space: what the Space shows must not be older than the job's end.
pub(super) async fn look_at_attempt(look: &Look<'_>, seen: &mut Observation) {
    let Look { context, client, .. } = look;
    let Some(attempt) = look.status.attempt.as_ref() else { return };
    let uid = uid(look.resource);
    let memory = context.memory.attempt(&uid, &attempt.nonce);
    let mut facts = AttemptFacts { seen_for: memory.seen_for, answer: memory.answer, ..AttemptFacts::default() };
    if attempt.sent_to.base_url == client.account().base_url() {
        if let Some(job_id) = &attempt.job_id {
            let job = client.job(job_id).await.map_err(look_error);
            if let Ok(job) = &job
                && let JobStatus::Unknown(word) = &job.status
            {
                if context.memory.is_news(&uid, "JobStatus", word) {
                    let (attempt, job) = (attempt.number, job_id);
                    warn!(attempt, job, word, "Konigle sent a job status that is not known; it is taken as unfinished");
                }
                context.metrics.unknown_word("job_status");
            }
            facts.job_ended_for =
                context.memory.job_ended(&uid, &attempt.nonce, job.as_ref().is_ok_and(|job| job.status.ended()));
            facts.job_missing_for =
                context.memory.job_missing(&uid, &attempt.nonce, matches!(job, Err(LookError::NotFound(_))));
            facts.job = Some(job);
        } else if !matches!(facts.answer, Some((_, Answer::Accepted(_) | Answer::Rejected(_) | Answer::Unsent(_)))) {
            look_at_jobs(look, attempt, &mut facts).await;
        }
        let ended = facts.job.as_ref().is_none_or(|job| job.as_ref().is_ok_and(|job| job.status.ended()));
        if attempt.attempt_type == AttemptType::Promote && ended {
            facts.source = source_now(look, attempt).await;
        }
    }
    seen.attempt = Some(facts);
}

/// Where the API serves the list of jobs, it may show the attempt's own job, or that none is left running.
async fn look_at_jobs(look: &Look<'_>, attempt: &Attempt, facts: &mut AttemptFacts) {
    let Look { context, client, .. } = look;
    let account = client.account();
    if context.memory.jobs_served(account) == Some(false) {
        return;
    }
    match client.jobs().await {
        Ok(Some(jobs)) => {
            context.memory.set_jobs_served(account, true);
            let told = listed(attempt, &jobs);
            let all_ended = told.ended.is_some();
            facts.job_with_nonce = told.with_nonce;
            // The Space may show the end of the last of them only after settle.
            facts.later_jobs_ended = context.memory.jobs_ended(&uid(look.resource), &attempt.nonce, told.ended)
                >= context.settle
                && all_ended;
        }
        Ok(None) => context.memory.set_jobs_served(account, false),
        Err(_) => {}
    }
}

/// The uat side of a promotion as it is now.
async fn source_now(look: &Look<'_>, attempt: &Attempt) -> Option<Result<BaselineSource, LookError>> {
    let Look { context, resource, client, .. } = look;
    let pinned = attempt.baseline.source.as_ref()?;
    let uid = match within("read the promoted resource", context.spaces(resource).get_metadata(&pinned.name)).await {
        Ok(metadata) => metadata.uid().unwrap_or_default(),
        Err(error) if error.code() == Some(404) => String::new(),
        Err(error) => return Some(Err(LookError::Unavailable(error.to_string()))),
    };
    Some(client.space(&pinned.space_id).await.map_err(look_error).map(|space| {
        let PairStatus { last_deployed_at, last_deployment_status } = pair_of(&space);
        BaselineSource { uid, last_deployed_at, last_deployment_status, ..pinned.clone() }
    }))
}

/// Where the pair moved after our own last job, that job's times tell whether it was that job.
pub(super) async fn look_at_last_job(look: &Look<'_>, seen: &mut Observation) {
    let Look { status, client, .. } = look;
    let (None, Some(settled), Some(Ok(space))) = (&status.attempt, &status.settled, &seen.space) else { return };
    if space.pair() == *settled {
        return;
    }
    let Some(job_id) = last_job(status).and_then(|entry| entry.job_id.as_deref()) else { return };
    match client.job(job_id).await.map_err(look_error) {
        Ok(job) => seen.last_job = Some(JobTimes { created_at: job.created_at, completed_at: job.completed_at }),
        // Whether the move is ours cannot be told yet, so nothing is to be told from the Space.
        Err(error @ (LookError::Unavailable(_) | LookError::RateLimited(_) | LookError::Unauthorized(_))) => {
            seen.space = Some(Err(error));
        }
        Err(_) => {}
    }
}

/// The newest job's `created_at`, where the API is known to serve the list of jobs: jobs older than that need not be
/// waited for. That it does is learned when first a request's outcome is unknown.
pub(super) async fn newest_job(look: &Look<'_>) -> Option<String> {
    let Look { context, client, .. } = look;
    if context.memory.jobs_served(client.account()) != Some(true) {
        return None;
    }
    let jobs = client.jobs().await.ok()??;
    jobs.into_iter().filter_map(|job| job.created_at).max_by_key(|created| crate::time::parse(created))
}
