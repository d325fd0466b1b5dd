//! Wrong protocols. Each is a change of what the shipped functions are given, of what is done with what they say, or of the
//! order of the calls; the shipped code has no seam for it.

use jiff::SignedDuration;
use konigle_operator::api::{Attribution, KonigleSpaceStatus};
use konigle_operator::desired::{Desired, Wish};
use konigle_operator::observation::{Observation, SourceFacts};
use konigle_operator::origin::Origin;
use konigle_operator::time;

use crate::facts::ticks;
use crate::process::Said;
use crate::setting::Setting;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// V0: the request goes before its record.
    NoWriteAhead,
    /// V1: an unknown outcome is taken as "not sent".
    ResendAtOnce,
    /// V2: after the wait it is sent again, whatever the Space shows.
    ResendBlindly,
    /// V4: a moved time is a success, whatever the word.
    IgnoreTheWord,
    /// V12h: the receipt is written on the version of the claim, and given up on a conflict.
    GuardedReceipt,
    /// V13: a newer spec abandons the open attempt.
    AbandonForNewer,
    /// The wait is over after settle though no list shows that no job runs.
    SettleIsEnough,
    /// The hold is taken before the claim, so that it is cleared at once, and nothing is looked at after it. With the looks
    /// that ship after it, the order alone does no harm.
    HoldBeforeClaim,
    /// What is only assumed to run may be promoted.
    PromoteAssumed,
    /// Statuses are written on whatever version is there.
    UnguardedWrites,
    /// The attempt's number is one more than the history has entries.
    NumberFromHistory,
    /// An edit of `spec.timeout` ends the wait for a job that was claimed with a longer one.
    TimeoutOfNow,
    /// A job's end pins the pair that is read with it, whether or not it moved.
    PinAtOnce,
}

impl Mutant {
    /// The record as the pass takes it.
    pub fn before(setting: &Setting, before: &mut KonigleSpaceStatus, desired: &Desired) {
        if setting.mutant == Some(Self::TimeoutOfNow) {
            if let Some(attempt) = &mut before.attempt {
                let until = time::parse(&attempt.deadline).expect("it was written by the claim");
                let given = SignedDuration::try_from(desired.timeout).expect("it is short");
                attempt.started_at = time::text(until.checked_sub(given).expect("it is short"));
            }
            return;
        }
        if setting.mutant != Some(Self::AbandonForNewer) {
            return;
        }
        let Wish::Deploy(Origin::Http(http)) = &desired.wish else { return };
        if before.attempt.as_ref().is_some_and(|attempt| attempt.digest != http.digest.to_string()) {
            before.attempt = None;
        }
    }

    /// The facts as the pass takes them.
    pub fn seen(setting: &Setting, seen: &mut Observation, before: &KonigleSpaceStatus) {
        let Some(attempt) = &before.attempt else { return };
        let baseline = attempt.baseline.pair();
        let unknown = attempt.job_id.is_none();
        match (setting.mutant, &mut seen.space, &mut seen.attempt) {
            (Some(Self::ResendBlindly), Some(Ok(space)), _) if unknown => {
                space.status.last_deployed_at = baseline.last_deployed_at;
                space.status.last_deployment_status = baseline.last_deployment_status;
            }
            (Some(Self::IgnoreTheWord), Some(Ok(space)), _)
                if unknown && space.status.last_deployed_at != baseline.last_deployed_at =>
            {
                space.status.last_deployment_status = Some("success".to_owned());
            }
            (Some(Self::SettleIsEnough), _, Some(facts)) => facts.later_jobs_ended = true,
            (Some(Self::PinAtOnce), _, Some(facts)) => facts.job_ended_for = ticks(setting.settle),
            _ => {}
        }
    }

    /// The uat resource as a promotion takes it.
    pub fn source(setting: &Setting, source: &mut SourceFacts) {
        if setting.mutant != Some(Self::PromoteAssumed) {
            return;
        }
        let Some(release) = &mut source.status.release else { return };
        if release.attribution == Attribution::Assumed {
            release.attribution = Attribution::Confirmed;
            let entry = konigle_operator::api::HistoryEntry {
                digest: release.digest.clone(),
                result: konigle_operator::api::AttemptResult::Succeeded,
                ..konigle_operator::api::HistoryEntry::default()
            };
            source.status.history.insert(0, entry);
        }
    }

    /// The answer as it is remembered.
    pub fn said(setting: &Setting, said: Said) -> Said {
        if setting.mutant == Some(Self::ResendAtOnce) && said.is_unknown() { Said::Unsent } else { said }
    }

    /// The number of the next attempt.
    pub fn number(setting: &Setting, status: &KonigleSpaceStatus) -> i64 {
        if setting.mutant == Some(Self::NumberFromHistory) {
            return i64::try_from(status.history.len()).unwrap_or(0) + 1;
        }
        status.last_attempt.saturating_add(1)
    }
}
