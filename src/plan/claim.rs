//! The claim: the write-ahead record of one release.

use super::{Release, ReleaseKind};
use crate::api::{Attempt, AttemptType, Baseline, Cause, SentTo};
use crate::desired::Desired;
use crate::judge::{Judged, Open};
use crate::observation::Observation;
use crate::reason::Reason;
use crate::time;

/// The records with the claim of a release: the write-ahead record, and the requests that it serves.
#[must_use]
pub fn claim(judged: &Judged, desired: &Desired, seen: &Observation, release: &Release, nonce: String) -> Judged {
    let mut claimed = judged.clone();
    let status = &mut claimed.status;
    let pair = seen.pair_seen().unwrap_or_default();
    if matches!(release.cause, Cause::Reset | Cause::Drift) {
        // What runs is not known any more, and what it is measured against is what was there before this release.
        status.release = None;
        status.settled = Some(pair.clone());
    }
    status.last_handled_reset_at.clone_from(&desired.requests.reset_at);
    status.last_handled_redeploy_at.clone_from(&desired.requests.redeploy_at);
    status.next_retry_time = None;
    status.last_attempt = status.last_attempt.saturating_add(1);
    let (attempt_type, size, source) = match &release.kind {
        ReleaseKind::Deploy { size } => (AttemptType::Deploy, i64::try_from(*size).ok(), None),
        ReleaseKind::Promote { source } => (AttemptType::Promote, None, Some(source.clone())),
    };
    let timeout = jiff::SignedDuration::try_from(desired.timeout).unwrap_or(jiff::SignedDuration::from_hours(24));
    status.attempt = Some(Attempt {
        number: status.last_attempt,
        attempt_type,
        digest: release.wanted.digest.clone(),
        revision: release.wanted.revision.clone(),
        size,
        upload: None,
        nonce,
        cause: release.cause,
        started_at: time::text(seen.now),
        deadline: time::text(seen.now.checked_add(timeout).unwrap_or(seen.now)),
        sent_to: SentTo {
            base_url: seen.account.as_ref().map(|account| account.base_url.clone()).unwrap_or_default(),
            space_id: status.space.as_ref().map(|space| space.id.clone()).unwrap_or_default(),
        },
        baseline: Baseline {
            last_deployed_at: pair.last_deployed_at,
            last_deployment_status: pair.last_deployment_status,
            newest_job_created_at: seen.newest_job.clone(),
            source,
        },
        deployment_id: None,
        job_id: None,
        job_status: None,
        log: None,
    });
    claimed.open = Some(Open::Running);
    claimed.drifted = None;
    if attempt_type == AttemptType::Promote {
        claimed.content = Some(crate::judge::Content {
            verified: None,
            reason: Reason::NotYetConfirmed,
            message: "the promotion has not ended".to_owned(),
        });
    }
    claimed
}
