//! What the evidence of a pass makes of the records: unknown outcomes, ended jobs, drift, requests, holds.

use std::time::Duration;

use super::*;
use crate::api::{Attribution, DriftPolicy, HeldBy, UnknownOutcomePolicy};
use crate::desired::Approval;
use crate::konigle::model::JobStatus;
use crate::konigle::{Answer, Rejection};
use crate::observation::{AccountFacts, AttemptFacts, Holder, HolderFacts, JobTimes, LookError};
use crate::plan::Step;
use crate::test_facts::*;
use crate::wish::short;

/// What became of the open attempt: how it closed and what then counts as running, or why it stays open.
fn verdict(facts: &Facts) -> String {
    let judged = facts.judge();
    if let Some(open) = &judged.open {
        return match open {
            Open::Undecided(_) => "Undecided".to_owned(),
            other => format!("{other:?}"),
        };
    }
    let status = &judged.status;
    let result = status.history[0].result.word();
    let known = status.history[0].number == status.last_attempt && status.release.is_some();
    let release = status.release.as_ref().filter(|_| known && result == "Succeeded");
    release.map_or_else(|| result.to_owned(), |release| format!("{result} {:?}", release.attribution))
}

fn check(rows: Vec<(Facts, &str, &str)>) {
    let wrong: Vec<String> = rows
        .into_iter()
        .map(|(facts, expected, because)| (verdict(&facts), expected, because))
        .filter(|(verdict, expected, _)| verdict != expected)
        .map(|(verdict, expected, because)| format!("{verdict} instead of {expected}, because {because}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The submit limit of a small artifact, settle, and the longest job.
const WAIT: Duration = Duration::from_secs(25 + 60 * (1 + 2 + 15));

#[test]
fn an_unknown_outcome_is_decided_by_the_space_alone() {
    let after = |word: &str| Facts::uat().shows(BEFORE, word).in_flight(A);
    let over = |facts: Facts| facts.known(|known| known.seen_for = WAIT);
    let hold = |facts: Facts| facts.but(|facts| facts.desired.unknown_outcome_policy = UnknownOutcomePolicy::Hold);
    check(vec![
        (after("failed").shows(LATER, "success"), "Succeeded Inferred", "time and word both moved to a success"),
        (after("success").shows(LATER, "success"), "Resolving", "the word may still be that of the deployment before"),
        (
            over(after("success").shows(LATER, "success")),
            "Succeeded Inferred",
            "a job that failed would have said so by now",
        ),
        (over(after("success").shows(BEFORE, "success")), "Unknown", "nothing moved: it never took effect"),
        (hold(over(after("success"))), "Undecided", "Hold leaves that conclusion to a person"),
        (after("success").shows(LATER, "failed"), "Failed", "time and word both moved to a failure"),
        (after("success").shows(BEFORE, "failed"), "Failed", "the word alone moved to a failure"),
        (after("failed").shows(LATER, "failed"), "Resolving", "the word may still be that of the deployment before"),
        (over(after("failed").shows(LATER, "failed")), "Failed", "it would have said success by now"),
        (after("failed").shows(BEFORE, "success"), "Resolving", "a success that did not move the time proves nothing"),
        (over(after("failed").shows(BEFORE, "success")), "Undecided", "and is not read as no effect either"),
        (over(after("success").shows(LATER, "running")), "Undecided", "it moved, and has not ended"),
        (over(after("success").shows(LATER, "blue")), "Undecided", "a word that is not known proves nothing"),
        (
            over(after("success")).space_cannot_be_seen(LookError::Unavailable(String::new())),
            "Resolving",
            "no look, no evidence",
        ),
    ]);
}

#[test]
fn the_wait_covers_whatever_may_still_be_under_way() {
    let silent = |change: fn(&mut AttemptFacts)| Facts::uat().shows(BEFORE, "success").in_flight(A).known(change);
    let second = Duration::from_secs(1);
    let ended = |ago: Duration| {
        Facts::uat().in_flight(A).known(|known| known.answer = Some((ago, Answer::Unknown("time-out".to_owned()))))
    };
    check(vec![
        (
            silent(|known| known.seen_for = WAIT.saturating_sub(Duration::from_secs(1))),
            "Resolving",
            "another process may still be sending it",
        ),
        (silent(|known| known.seen_for = WAIT), "Unknown", "the fence, submit limit, settle and spec.timeout are over"),
        (ended(Duration::from_mins(17).saturating_sub(second)), "Resolving", "its job may still run"),
        (ended(Duration::from_mins(17)), "Unknown", "this process saw its own request end"),
        (
            silent(|known| (known.seen_for, known.later_jobs_ended) = (Duration::from_secs(205), true)),
            "Unknown",
            "no job runs that could be ours, by the list of jobs",
        ),
        (
            silent(|known| (known.seen_for, known.later_jobs_ended) = (Duration::from_secs(204), true)),
            "Resolving",
            "but the request may still arrive",
        ),
        (
            silent(|known| known.seen_for = WAIT)
                .but(|facts| facts.status.attempt.as_mut().unwrap().size = Some(1 << 30)),
            "Resolving",
            "a large upload takes long",
        ),
    ]);
}

#[test]
fn proof_goes_before_evidence_and_before_a_persons_word() {
    let moved = || Facts::uat().shows(BEFORE, "failed").in_flight(A).shows(LATER, "success");
    let with_nonce = |facts: Facts| facts.known(|known| known.job_with_nonce = Some("job-9".to_owned()));
    let elsewhere = |facts: Facts| {
        facts.but(|facts| facts.seen.account = Ok(AccountFacts { base_url: "https://elsewhere".to_owned() }))
    };
    check(vec![
        (moved().answered(accepted()), "Running", "the answer names the job"),
        (with_nonce(moved()), "Running", "that job is ours"),
        (
            moved().answered(accepted()).person_says("retry"),
            "Running",
            "the answer names the job, whatever a person thinks",
        ),
        (moved().answered(Answer::Unsent("no route".to_owned())), "NotSent", "what moved was not ours"),
        (moved().person_says("failed"), "Failed", "the outcome is unknown, and a person knows"),
        (moved().person_says("maybe"), "Succeeded Inferred", "that is no answer"),
        (elsewhere(moved()), "Undecided", "evidence from another address does not count"),
        (elsewhere(moved()).person_says("failed"), "Failed", "but a person's word does: nothing else could end it"),
        (
            moved().but(|facts| facts.status.attempt.as_mut().unwrap().attempt_type = AttemptType::Other),
            "Undecided",
            "a newer version's attempt is not judged",
        ),
    ]);
    let recorded = with_nonce(moved()).judge().status.attempt.unwrap();
    assert_eq!(recorded.job_id.as_deref(), Some("job-9"));
}

#[test]
fn a_job_that_ended_is_confirmed_by_the_space() {
    let success = || Facts::uat().shows(BEFORE, "success").in_flight(A).with_job(JobStatus::Success);
    let failure = || Facts::uat().shows(BEFORE, "success").in_flight(A).with_job(JobStatus::Failed);
    let settled = |facts: Facts| facts.known(|known| known.job_ended_for = SETTLE);
    let lost = |facts: Facts| {
        facts.known(|known| {
            (known.job, known.job_missing_for) =
                (Some(Err(LookError::NotFound(String::new()))), Duration::from_mins(5));
        })
    };
    check(vec![
        (success(), "Confirming", "the Space shows the deployment before: a stale read"),
        (settled(success()), "Succeeded Confirmed", "it never moves: the job itself proves it"),
        (success().shows(LATER, "success"), "Succeeded Confirmed", "it moved within the job's times"),
        (success().shows(ELSEWHEN, "success"), "Succeeded Inferred", "it moved, and not within the job's times"),
        (success().shows(LATER, "failed"), "Succeeded Inferred", "a failure after our success is somebody else's"),
        (success().shows(LATER, "blue"), "Succeeded Confirmed", "a word that is not known says nothing against it"),
        (
            success().space_cannot_be_seen(LookError::Unavailable(String::new())),
            "Confirming",
            "the Space is read first",
        ),
        (failure(), "Confirming", "the Space shows the deployment before: it would be the next attempt's baseline"),
        (failure().shows(LATER, "failed"), "Failed", "the Space shows it"),
        (settled(failure()), "Failed", "it is never shown: the job itself proves it"),
        (success().shows(LATER, "running"), "Confirming", "the word has not ended: a stale read"),
        (settled(success().shows(LATER, "running")), "Succeeded Confirmed", "it never ends: the job itself proves it"),
        (lost(success()), "Resolving", "a job that is gone is judged by the Space"),
        (lost(success()).known(|known| known.seen_for = WAIT), "Unknown", "as if it had never been known"),
    ]);
    let judged = success().shows(LATER, "success").judge();
    assert_eq!(judged.status.settled, Some(pair(Some(LATER), Some("success"))), "drift is judged against it");
    let judged = Facts::uat().in_flight(A).job_failed().shows(LATER, "failed").judge();
    assert_eq!(judged.status.settled, Some(pair(Some(LATER), Some("failed"))), "whatever its result");
    assert_eq!(judged.status.history[0].message, "job job-1 failed: building");
}

#[test]
fn a_move_within_our_own_last_job_is_lag_and_any_other_is_drift() {
    let times =
        |from: &str, to: &str| JobTimes { created_at: Some(from.to_owned()), completed_at: Some(to.to_owned()) };
    let ours = || Some(Ok(times("2026-11-24T08:59:00Z", "2026-11-24T08:59:40Z")));
    let looked = |last_at: &str, last_job| {
        let facts = Facts::uat().runs(A).shows(last_at, "success").but(|facts| facts.seen.last_job = last_job);
        (facts.judge().drifted.is_some(), facts.judge().status)
    };
    let (drifted, status) = looked(LATER, ours());
    assert!(!drifted, "the job's own move, read late");
    assert_eq!(status.settled, Some(pair(Some(LATER), Some("success"))), "it is pinned anew");
    assert_eq!(status.release.unwrap().last_deployed_at_seen.as_deref(), Some(LATER), "promotions pin the same pair");
    assert!(looked(ELSEWHEN, ours()).0, "outside the job's times");
    assert!(looked(ELSEWHEN, None).0, "no job of ours explains it");
    assert!(!looked(ELSEWHEN, Some(Err(LookError::Unavailable(String::new())))).0, "not known yet");
    assert!(!looked(ELSEWHEN, Some(Err(LookError::Unauthorized(String::new())))).0, "not known yet");
    assert!(looked(ELSEWHEN, Some(Err(LookError::NotFound(String::new())))).0, "a job that is forgotten is long past");
    assert!(!looked(BEFORE, None).0, "nothing moved");
}

#[test]
fn a_digest_that_was_written_after_drift_was_seen_replaces_it() {
    let drifted = || Facts::uat().runs(A).shows(ELSEWHEN, "success").next();
    let judged = drifted().wants(B).judge();
    assert_eq!((judged.drifted, judged.status.release), (None, None));
    assert_eq!(judged.notes[0].reason, "DriftOverwritten");
    assert!(judged.notes[0].message.contains(ELSEWHEN), "{}", judged.notes[0].message);

    let resumed = drifted().wants(B).suspended().next().but(|facts| facts.desired.suspended = false);
    assert_eq!(words(&resumed.step()), "Deploy Spec", "written while suspended, it waits for the end of that only");

    let space = drifted().seen.space;
    let unseen = drifted().wants(B).space_cannot_be_seen(LookError::Unavailable(String::new())).next();
    assert_eq!(
        what_people_see(&unseen.status),
        "Unknown Progressing Reconciling",
        "what was said of A is not said of B"
    );
    let seen_again = unseen.but(|facts| facts.seen.space = space);
    assert_eq!(
        words(&seen_again.step()),
        "Deploy Spec",
        "written while Konigle is silent, it waits for its answer only"
    );
}

#[test]
fn a_failed_attempt_counts_and_the_last_one_quarantines() {
    let mut facts = Facts::uat();
    for failures in 1..=3 {
        facts = facts.in_flight(A).job_failed().next();
        assert_eq!(facts.status.failures, failures);
        let wait = facts.status.next_retry_time.as_deref().map(seconds_after_now);
        assert_eq!(wait, [Some(10), Some(20), None][usize::try_from(failures - 1).unwrap()]);
    }
    assert_eq!(facts.status.quarantined[0].reason, "RetriesExceeded");
    let edited = facts.clone().but(|facts| (facts.desired.retry_limit, facts.desired.generation) = (9, 2)).next();
    assert_eq!(edited.status.quarantined.len(), 1, "a higher limit does not free it");
    let freed = facts.clone().wants(B).next().status;
    assert_eq!((freed.quarantined.len(), freed.failures), (0, 0), "another digest does");
    let reset = facts.reset("1").next().status;
    assert_eq!((reset.quarantined.len(), reset.failures), (0, 0), "a reset does");
}

#[test]
fn what_was_not_sent_does_not_count() {
    for answer in [
        Answer::Unsent("no route".to_owned()),
        Answer::Rejected(Rejection::Busy { code: 409, detail: None }),
        Answer::Rejected(Rejection::Unauthorized { detail: None }),
        Answer::Rejected(Rejection::Forbidden { detail: None }),
        Answer::Rejected(Rejection::NotFound { detail: None }),
        rate_limited(90),
    ] {
        let status = Facts::uat().in_flight(A).answered(answer.clone()).judge().status;
        assert_eq!((status.failures, status.history[0].result), (0, AttemptResult::NotSent), "{answer:?}");
        assert!(status.next_retry_time.is_some(), "{answer:?}: the next attempt waits");
    }
    let status = Facts::uat().in_flight(A).answered(rate_limited(90)).judge().status;
    assert_eq!(status.next_retry_time.as_deref().map(seconds_after_now), Some(90), "the server's own wait");
}

/// Found in review: a reset that was refused stood again, and cleared the very wait that the refusal had set.
#[test]
fn a_reset_that_is_refused_waits_like_any_other_attempt() {
    let unproven = || Facts::uat().runs(A).attributed(Attribution::Inferred).reset("1");
    let claimed = unproven().next();
    assert_eq!(claimed.status.attempt.as_ref().unwrap().cause, Cause::Reset);
    let refused = claimed.answered(rate_limited(600));
    assert_eq!(words(&refused.step()), "Wait RateLimited");
    let refused = refused.next();
    assert_eq!(words(&refused.step()), "Wait RateLimited");
    assert_eq!(
        words(&refused.later(Duration::from_mins(10)).step()),
        "Deploy Reset",
        "nothing came of it: it still stands"
    );
}

#[test]
fn each_request_is_answered_exactly_once() {
    let redeployed = Facts::uat().runs(A).redeploy("1").next();
    assert_eq!(redeployed.status.attempt.as_ref().unwrap().cause, Cause::Person);
    assert_eq!(redeployed.status.last_handled_redeploy_at.as_deref(), Some("1"), "the claim answers it");

    let not_sent = redeployed.clone().answered(Answer::Unsent("no route".to_owned())).next();
    assert_eq!(words(&not_sent.clone().later(LONG).step()), "Deploy Person", "nothing was sent: it still stands");

    let done = redeployed.with_job(JobStatus::Success).shows(LATER, "success").next();
    assert_eq!(words(&done.step()), "Rest Succeeded", "a restart does not answer it again: the status remembers");
    assert_eq!(words(&done.redeploy("2").step()), "Deploy Person", "another id is another request");

    let reset = Facts::uat().runs(A).reset("1").next();
    assert_eq!(reset.status.last_handled_reset_at.as_deref(), Some("1"), "there was nothing to release");

    let restored = Facts::uat().shows(BEFORE, "success").reset("old").redeploy("old");
    let restored = restored.but(|facts| facts.desired.adoption_policy = AdoptionPolicy::AssumeCurrent).next();
    assert_eq!(words(&restored.step()), "Rest Assumed", "what stood in the manifest before is no request of today");
}

#[test]
fn a_wish_that_changes_while_an_attempt_is_open_is_taken_up_after_it() {
    let open = Facts::uat().next();
    let done = open.wants(B).with_job(JobStatus::Success).shows(LATER, "success").next();
    assert_eq!(done.status.release.as_ref().unwrap().digest, A, "what was sent is what runs");
    assert_eq!(done.status.attempt.as_ref().unwrap().digest, B, "and what is wanted now follows at once");
}

#[test]
fn numbers_only_grow_and_the_history_keeps_the_last_that_was_sent() {
    let mut facts = Facts::uat().but(|facts| facts.desired.history_limit = 1);
    facts = facts.next().with_job(JobStatus::Success).shows(LATER, "success").next();
    assert_eq!((facts.status.last_attempt, facts.status.history.len()), (1, 1));
    facts = facts.wants(B).next().answered(Answer::Unsent("no route".to_owned())).next();
    assert_eq!(facts.status.last_attempt, 2);
    assert_eq!(
        facts.status.history.iter().map(|entry| entry.number).collect::<Vec<_>>(),
        [1],
        "uat's promotions rest on it"
    );

    let ten = (0..10).fold(Facts::uat(), |facts, _| facts.ended(A, AttemptResult::Failed, ""));
    let three = ten.but(|facts| facts.desired.history_limit = 3).judge().status.history;
    assert_eq!(three.iter().map(|entry| entry.number).collect::<Vec<_>>(), [10, 9, 8]);
}

#[test]
fn a_clock_that_stepped_leads_to_waiting_and_not_for_ever() {
    let failed = Facts::uat().ended(A, AttemptResult::Failed, "");
    let next_year = failed.but(|facts| facts.status.next_retry_time = Some("2027-11-24T09:00:00Z".to_owned())).next();
    assert_eq!(words(&next_year.step()), "Wait ProgressingWithRetry");
    assert_eq!(next_year.status.next_retry_time.as_deref().map(seconds_after_now), Some(16 * 60));
    assert_eq!(words(&next_year.later(Duration::from_mins(16)).step()), "Deploy Retry");
}

#[test]
fn drift_is_put_back_at_most_so_often_an_hour() {
    use Cause::{Drift, Reset, Retry};

    let loops = |causes: &[Cause], started: &[&str]| {
        let facts = Facts::uat().drift_policy(DriftPolicy::Redeploy).runs(A).but(|facts| facts.status.history.clear());
        let facts = causes.iter().zip(started).fold(facts, |facts, (cause, started)| {
            facts.ended(A, AttemptResult::Succeeded, "").but(|facts| {
                facts.status.history[0].cause = *cause;
                (*started).clone_into(&mut facts.status.history[0].started_at);
            })
        });
        words(&facts.shows(ELSEWHEN, "success").step())
    };
    let (eight, half, nine, ten) =
        ("2026-11-24T08:00:00Z", "2026-11-24T08:30:00Z", "2026-11-24T09:00:00Z", "2026-11-24T10:00:00Z");
    assert_eq!(loops(&[Drift, Drift], &[eight, half]), "Deploy Drift");
    assert_eq!(loops(&[Drift, Drift, Drift], &[eight, half, nine]), "Stall DriftLoop");
    assert_eq!(loops(&[Drift, Drift, Drift], &[eight, half, ten]), "Deploy Drift", "not within one hour");
    assert_eq!(
        loops(&[Drift, Retry, Drift, Retry, Drift], &[eight, half, half, half, nine]),
        "Stall DriftLoop",
        "retries hide nothing"
    );
    assert_eq!(loops(&[Drift, Drift, Drift, Reset], &[eight, half, nine, nine]), "Deploy Drift", "a person reset it");
}

#[test]
fn drift_is_put_back_once_for_each_moved_value() {
    let drifted = Facts::uat().drift_policy(DriftPolicy::Redeploy).runs(A).shows(ELSEWHEN, "success");
    let claimed = drifted.next();
    assert_eq!(claimed.status.settled, Some(pair(Some(ELSEWHEN), Some("success"))), "this value is answered");
    let done = claimed.with_job(JobStatus::Success).shows(LATER, "success").next();
    assert_eq!(words(&done.step()), "Rest Succeeded");
}

#[test]
fn a_hold_is_let_go_when_nothing_needs_it() {
    let held_by =
        |job_id: Option<&str>| HeldBy { nonce: "n".to_owned(), job_id: job_id.map(str::to_owned), ..HeldBy::default() };
    let holds = |job_id, holder: Option<Holder>, minutes, job_ended| {
        let facts = Facts::uat().runs(A).but(|facts| {
            facts.status.held_by = Some(held_by(job_id));
            facts.seen.holder = Some(HolderFacts {
                holder,
                seen_for: Duration::from_mins(minutes),
                timeout: Some(facts.desired.timeout),
                job_ended,
            });
        });
        facts.judge().status.held_by.is_some()
    };
    let promoting = |job_id: Option<&str>| Some(Holder::Promoting { job_id: job_id.map(str::to_owned) });
    assert!(holds(None, None, 60, None), "its holder could not be read");
    assert!(!holds(None, Some(Holder::Done), 0, None), "the holder has closed its attempt");
    assert!(holds(None, promoting(Some("j")), 60, None), "the promotion's job runs");
    assert!(holds(None, promoting(None), 17, None), "its outcome is not known yet");
    assert!(!holds(None, promoting(None), 18, None), "the wait of an unknown outcome is over");
    assert!(holds(None, Some(Holder::Gone), 17, None), "the holder is gone, its request may have been taken");
    assert!(!holds(None, Some(Holder::Gone), 18, None), "the wait is over");
    assert!(holds(Some("j"), Some(Holder::Gone), 60, Some(false)), "its job still runs");
    assert!(!holds(Some("j"), Some(Holder::Gone), 0, Some(true)), "its job has ended");
    assert!(holds(Some("j"), Some(Holder::Gone), 17, None), "its job could not be read");
    assert!(!holds(Some("j"), Some(Holder::Gone), 18, None), "a job that is never found again holds nothing for ever");
}

#[test]
fn the_content_is_verified_by_two_looks_at_uat() {
    let promoted = || Facts::production().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success");
    let looks = |source| promoted().known(|known| (known.source, known.job_ended_for) = (Some(source), SETTLE));
    let verified = |facts: &Facts| facts.judge().content.map(|content| (content.verified, content.reason));
    assert_eq!(promoted().judge().open, Some(Open::Verifying), "the second look is due when settle has passed");
    assert_eq!(verified(&looks(Ok(pinned()))), Some((Some(true), Reason::SourceUnchanged)));
    let replaced = crate::api::BaselineSource { uid: "another".to_owned(), ..pinned() };
    assert_eq!(verified(&looks(Ok(replaced))), Some((Some(false), Reason::SourceChanged)));
    assert_eq!(verified(&looks(Err(LookError::NotFound(String::new())))), Some((Some(false), Reason::SourceChanged)));
    let silent = looks(Err(LookError::Unavailable(String::new())));
    assert_eq!(silent.judge().open, Some(Open::Verifying), "no look, no proof");
}

/// Found in review: a promotion that failed left "the promotion has not ended" behind.
#[test]
fn a_promotion_that_came_to_nothing_says_nothing_of_the_content_that_runs() {
    let verified = |facts: &Facts| facts.judge().content.map(|content| content.reason);
    let failed = |facts: Facts| facts.next().job_failed();
    assert_eq!(verified(&failed(Facts::production())), None, "nothing was promoted yet");
    let again = || Facts::production().runs(A).redeploy("1");
    assert_eq!(verified(&failed(again())), Some(Reason::SourceUnchanged), "what runs was verified");
    assert_eq!(verified(&failed(again().attributed(Attribution::Inferred))), Some(Reason::AdoptedWithoutJob));
    let changed = again().but(|facts| facts.status.history[0].message = SOURCE_CHANGED.to_owned());
    assert_eq!(verified(&failed(changed)), Some(Reason::SourceChanged), "what runs is still not verified");
}

#[test]
fn no_further_automatic_step_follows_a_content_that_is_not_verified() {
    let moved = || Ok(crate::api::BaselineSource { last_deployed_at: Some(ELSEWHEN.to_owned()), ..pinned() });
    let facts = Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Automatic));
    let facts = facts.in_flight(A).with_job(JobStatus::Success).shows(LATER, "success");
    let facts = facts.known(|known| known.source = Some(moved())).next();
    assert_eq!(what_people_see(&facts.status), "False ContentNotVerified Stalled");
    let newer = facts.clone().but(|facts| {
        let status = &mut facts.seen.source.as_mut().unwrap().status;
        B.clone_into(&mut status.release.as_mut().unwrap().digest);
        B.clone_into(&mut status.history[0].digest);
    });
    assert_eq!(words(&newer.step()), "Stall ContentNotVerified");
    assert_eq!(words(&newer.reset("1").step()), "Promote Reset");
    let approved = facts.but(|facts| facts.desired.wish = promotes(approved(A)));
    assert_eq!(words(&approved.step()), "Stall ContentNotVerified", "the same digest is not promoted again unasked");
}

#[test]
fn another_space_of_the_same_names_has_no_records() {
    let facts = Facts::uat().runs(A).next().but(|facts| {
        if let Some(Ok(space)) = &mut facts.seen.space {
            "9999".clone_into(&mut space.status.id);
        }
    });
    let facts = facts.shows(ELSEWHEN, "success").reset("1");
    assert!(matches!(facts.step(), Step::Start(_)), "a person had it resolved anew");
    assert_eq!(facts.judge().drifted, None, "what it shows was never ours");
}

#[test]
fn a_digest_is_shortened_for_people() {
    assert_eq!(short(A), "sha256:aaaaaaaaaaaa");
    assert_eq!(short("é"), "é");
}
