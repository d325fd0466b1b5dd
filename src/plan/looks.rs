//! What to say and do when a look at Konigle brought nothing.
//!
//! Pure: no clock, no I/O, no log.

use std::time::Duration;

use super::{REJECTED_AFTER, Step, cause, look_now, stall, wait};
use crate::api::{KonigleSpaceStatus, RESET_AT};
use crate::commands::write_key;
use crate::desired::Desired;
use crate::judge::{Judged, Open};
use crate::observation::{LookError, NamedBy, Observation, Problem};
use crate::reason::Reason;
use crate::wish::wanted;

/// What a look that brought nothing leads to; `None`: the open attempt goes on all the same.
pub(super) fn look_failed(desired: &Desired, seen: &Observation, judged: &Judged) -> Option<Step> {
    let of_job = || seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref()).and_then(|look| look.as_ref().err());
    let error = match &seen.space {
        Some(Err(error)) => error,
        Some(Ok(_)) => return None,
        // Without a look there is no baseline.
        None if judged.open.is_none() => {
            return Some(unseen(
                desired,
                seen,
                judged,
                (Reason::Progressing, "the Space was not looked at".to_owned()),
            ));
        }
        None => match of_job()? {
            LookError::Forbidden(detail) if judged.open == Some(Open::Running) => {
                return Some(stall(
                    Reason::SpaceForbidden,
                    format!(
                        "the token of Secret {} may not read the job that is open ({detail}): use a token that may, which is read again within 30 s; nothing else is started before the job ends",
                        desired.secret
                    ),
                ));
            }
            // Where it is overdue, a person may say how it ended.
            LookError::NotFound(_) | LookError::Forbidden(_) => return None,
            error => error,
        },
    };
    let gone = matches!(error, LookError::NotFound(_) | LookError::Changed(_));
    if gone && matches!(judged.open, Some(Open::Undecided(_))) {
        // The person's answer comes first: only then can the other Space be taken over.
        return None;
    }
    let unseen = |reason, message: String| Some(unseen(desired, seen, judged, (reason, message)));
    match error {
        LookError::Unauthorized(detail) => match seen.unauthorized_for {
            Some(ago) if ago >= REJECTED_AFTER => Some(stall(
                Reason::CredentialsRejected,
                format!(
                    "{}; put a valid token into key `token` of Secret {} with `{}`; it is read again within 30 s",
                    detail.trim_end_matches('.'),
                    desired.secret,
                    write_key(&seen.namespace, &desired.secret, "token")
                ),
            )),
            _ => unseen(Reason::Progressing, unauthorized_once()),
        },
        LookError::BaseUrl(detail) => Some(stall(
            Reason::SecretInvalid,
            format!(
                "Secret {}, key `baseURL`: {detail}; write another one with `{}`, or have the operator allow it with `--allowed-base-urls`",
                desired.secret,
                write_key(&seen.namespace, &desired.secret, "baseURL")
            ),
        )),
        LookError::Forbidden(detail) => Some(stall(
            Reason::SpaceForbidden,
            format!(
                "the token of Secret {} may not use this Space ({detail}): use a token of the project that owns it, which is read again within 30 s, or name another Space in a new KonigleSpace",
                desired.secret
            ),
        )),
        LookError::NotFound(detail) => {
            Some(stall(Reason::SpaceNotFound, format!("{detail}. Where the token was at fault, {}", look_now(seen))))
        }
        LookError::Ambiguous(detail) => Some(stall(Reason::InvalidSpec, detail.clone())),
        LookError::Changed(detail) => Some(stall(
            Reason::SpaceChanged,
            format!("{detail}: to go on with the new one, {}", seen.named().annotate_now(RESET_AT)),
        )),
        LookError::RateLimited(detail) | LookError::Unavailable(detail) => {
            let limit = desired.interval.saturating_mul(3).max(Duration::from_mins(15));
            if seen.failing_for > limit {
                return Some(unreachable(judged, limit, detail));
            }
            let limited = matches!(error, LookError::RateLimited(_));
            let reason = if limited { Reason::RateLimited } else { Reason::Progressing };
            if judged.open.is_some() {
                return None;
            }
            unseen(reason, format!("{detail}{}; tried again by itself", address(desired, seen)))
        }
    }
}

/// A failed look changes nothing, but a wish that is known to be unmet is not called met meanwhile, and what was said of
/// another wish is not said of this one.
fn unseen(desired: &Desired, seen: &Observation, judged: &Judged, (reason, message): (Reason, String)) -> Step {
    let known = judged.status.condition("Ready").is_some() && !is_mended(seen, &judged.status, desired.generation);
    let unmet = wanted(desired, seen).is_some_and(|wanted| cause(desired, judged, &wanted).is_some());
    if !known || (unmet && (judged.new_wish || judged.status.is_true("Ready"))) {
        return wait(reason, message);
    }
    Step::Unseen(message)
}

/// Whether what the status says is in the way was mended since, although nothing else is known yet: the Secret that it
/// speaks of was read and could be used, or the spec that it speaks of was edited.
#[must_use]
pub fn is_mended(seen: &Observation, status: &KonigleSpaceStatus, generation: i64) -> bool {
    let said = |condition: &str, word: &str| {
        status.condition(condition).filter(|said| said.status == word).and_then(|said| Reason::of(&said.reason))
    };
    let secret_was_read = seen.account.as_ref().is_ok_and(|account| account.named_by != NamedBy::Nobody);
    match said("Stalled", "True") {
        Some(reason @ (Reason::SecretNotFound | Reason::SecretKeyMissing | Reason::SecretInvalid)) => {
            // Not that of the artifact's host.
            secret_was_read && said("CredentialsValid", "False") == Some(reason)
        }
        Some(Reason::InvalidSpec) => status.observed_generation != generation,
        _ => false,
    }
}

/// Which address does not answer, where it is the Secret's: a mistake in it looks like an outage.
fn address(desired: &Desired, seen: &Observation) -> String {
    match &seen.account {
        Ok(account) if account.named_by == NamedBy::Secret => {
            format!(" (asked at {}, which key `baseURL` of Secret {} says)", account.base_url, desired.secret)
        }
        _ => String::new(),
    }
}

/// Looks have failed for longer than `limit`, the last one for this reason.
fn unreachable(judged: &Judged, limit: Duration, detail: &str) -> Step {
    let minutes = limit.as_secs() / 60;
    let beginning = format!("looks at Konigle have failed for more than {minutes} min");
    let known = judged.status.condition("Ready").filter(|ready| {
        Reason::of(&ready.reason) == Some(Reason::KonigleUnreachable) && ready.message.starts_with(&beginning)
    });
    // Nothing here may change from one failed look to the next: that would be a write each minute. So the message keeps
    // the reason that it began with, without what a server says anew each time.
    let message = known.map_or_else(
        || {
            let gist = [": ", "; ", " ("].iter().filter_map(|end| detail.find(end)).min();
            let gist = &detail[..gist.unwrap_or(detail.len())];
            format!(
                "{beginning} (when this was written: {gist}); it is asked again every minute, and all goes on by itself"
            )
        },
        |ready| ready.message.clone(),
    );
    Step::Unreachable(Problem { reason: Reason::KonigleUnreachable, message })
}

/// A single 401 may be a slip, of a read and of a request alike.
pub(super) fn unauthorized_once() -> String {
    "Konigle answered 401 once; the Secret is read again and tried once more in 30 s".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_facts::*;

    #[test]
    fn says_why_looks_have_failed_and_says_it_once() {
        let failing = |error: LookError| {
            let mut facts = Facts::uat().runs(A).space_cannot_be_seen(error);
            facts.seen.failing_for = Duration::from_mins(16);
            facts
        };
        let message = |facts: &Facts| {
            let Step::Unreachable(problem) = facts.step() else { panic!("{:?}", facts.step()) };
            problem.message
        };
        for (detail, gist) in [
            ("Konigle answered 502: bad gateway at 10:00:01", "Konigle answered 502"),
            ("Konigle did not answer in time", "Konigle did not answer in time"),
            ("no connection to Konigle: no route", "no connection to Konigle"),
            ("failed to read a Secret: etcd is away", "failed to read a Secret"),
        ] {
            let said = message(&failing(LookError::Unavailable(detail.to_owned())));
            assert!(said.contains(&format!("(when this was written: {gist})")), "{said}");
            assert!(!said.contains("has not answered"), "{said}");
        }
        let limited =
            LookError::RateLimited("the rate limit is reached; the next request may be sent in 7 s".to_owned());
        let first = failing(limited);
        let said = message(&first);
        assert!(said.contains("the rate limit is reached)"), "{said}");
        // The next look fails for another reason: no write.
        let mut next = failing(LookError::Unavailable("Konigle answered 502".to_owned()));
        next.status.conditions = first.render().conditions;
        assert_eq!(message(&next), said);
    }
}
