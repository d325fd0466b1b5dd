//! What the evidence of a pass makes of the records: unknown outcomes, ended jobs, drift, requests, holds.

use std::time::Duration;

use super::*;
use crate::api::{AdoptionPolicy, Attribution, DriftPolicy, HeldBy, UnknownOutcomePolicy};
use crate::desired::Approval;
use crate::konigle::model::{Job, JobStatus};
use crate::konigle::{Answer, Rejection};
use crate::observation::{AccountFacts, AttemptFacts, Holder, HolderFacts, JobTimes, LookError, NamedBy, Predecessor};
use crate::plan::Step;
use crate::released::Released;
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
        (after("success").shows(BEFORE, "failed"), "Resolving", "the word alone may be one from before, read late"),
        (over(after("success").shows(BEFORE, "failed")), "Failed", "and by now none would be so late"),
        (after("failed").shows(LATER, "failed"), "Resolving", "the word may still be that of the deployment before"),
        (over(after("failed").shows(LATER, "failed")), "Failed", "it would have said success by now"),
        (after("failed").shows(BEFORE, "success"), "Resolving", "a success that did not move the time proves nothing"),
        (over(after("failed").shows(BEFORE, "success")), "Undecided", "and is not read as no effect either"),
        (over(after("success").shows(LATER, "running")), "Undecided", "it moved, and has not ended"),
        (over(after("failed").shows(EARLIER, "success")), "Undecided", "a Space that was restored tells nothing of it"),
        (over(after("success").shows(EARLIER, "failed")), "Undecided", "neither does it here"),
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

/// Found in review: a `spec.timeout` that was lowered in flight ended the wait while the job could still run.
#[test]
fn an_edit_of_the_timeout_ends_no_wait_early() {
    let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
    let edited = |facts: Facts, minutes: u64| facts.but(|facts| facts.desired.timeout = Duration::from_mins(minutes));
    let open = || Facts::uat().shows(BEFORE, "success").in_flight(A);
    let ended =
        |ago: Duration| open().known(|known| known.answer = Some((ago, Answer::Unknown("time-out".to_owned()))));
    let silent = |for_so_long: Duration| open().known(|known| known.seen_for = for_so_long);
    check(vec![
        (edited(ended(SETTLE + minute), 1), "Resolving", "the job was given 15 min, and may still run"),
        (edited(ended((SETTLE + 15 * minute).saturating_sub(second)), 1), "Resolving", "to the last second"),
        (edited(ended(SETTLE + 15 * minute), 1), "Unknown", "by now it has ended"),
        (edited(silent(WAIT.saturating_sub(second)), 1), "Resolving", "another process knows no better"),
        (edited(silent(WAIT), 1), "Unknown", "and waits no longer"),
        (edited(ended(SETTLE + 15 * minute), 30), "Resolving", "an engineer who allows more time gets it"),
        (edited(ended(SETTLE + 30 * minute), 30), "Unknown", "and no more than that"),
        (
            ended(SETTLE + 15 * minute).but(|facts| facts.status.attempt.as_mut().unwrap().deadline = String::new()),
            "Unknown",
            "where the record does not tell, as of an attempt that nobody made, the spec does",
        ),
        (
            ended(SETTLE + Duration::from_hours(24)).but(|facts| {
                facts.status.attempt.as_mut().unwrap().deadline = "9999-01-01T00:00:00Z".to_owned();
            }),
            "Unknown",
            "and no job is allowed more",
        ),
    ]);
}

/// The same of the hold that a promotion has on its uat resource.
#[test]
fn a_hold_outlasts_an_edit_of_the_holders_timeout() {
    let attempt = Facts::production().in_flight(A).status.attempt.unwrap();
    let held = HeldBy { nonce: attempt.nonce.clone(), ..HeldBy::default() };
    let minutes = |minutes: u64| Some(Duration::from_mins(minutes));
    assert_eq!(holder_timeout(minutes(1), &held, Some(&attempt)), minutes(15), "as it was at the claim");
    assert_eq!(holder_timeout(minutes(30), &held, Some(&attempt)), minutes(30), "as it is now");
    assert_eq!(holder_timeout(None, &held, Some(&attempt)), minutes(15), "the spec cannot be read");
    let another = HeldBy { nonce: "another".to_owned(), ..HeldBy::default() };
    assert_eq!(holder_timeout(minutes(1), &another, Some(&attempt)), minutes(1), "another attempt's time");
}

#[test]
fn proof_goes_before_evidence_and_before_a_persons_word() {
    let moved = || Facts::uat().shows(BEFORE, "failed").in_flight(A).shows(LATER, "success");
    let with_nonce = |facts: Facts| facts.known(|known| known.job_with_nonce = Some("job-9".to_owned()));
    let elsewhere = |facts: Facts| {
        facts.but(|facts| {
            facts.seen.account = Ok(AccountFacts { base_url: "https://elsewhere".to_owned(), named_by: NamedBy::Flag });
        })
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
        (success().shows(LATER, "failed"), "Confirming", "a failure can be the one before, read late"),
        (settled(success().shows(LATER, "failed")), "Succeeded Inferred", "one that stays is somebody else's"),
        (success().shows(LATER, "blue"), "Confirming", "a word that is not known can be the one that stands meanwhile"),
        (settled(success().shows(LATER, "blue")), "Succeeded Confirmed", "one that stays says nothing against it"),
        (
            success().space_cannot_be_seen(LookError::Unavailable(String::new())),
            "Confirming",
            "the Space is read first",
        ),
        (failure(), "Confirming", "the Space shows the deployment before: it would be the next attempt's baseline"),
        (failure().shows(LATER, "failed"), "Failed", "the Space shows it"),
        (settled(failure()), "Failed", "it is never shown: the job itself proves it"),
        (success().shows(LATER, "running"), "Confirming", "the word has not ended: a stale read"),
        (
            settled(success().shows(LATER, "running")),
            "Succeeded Inferred",
            "what has not ended by now is somebody else's",
        ),
        (settled(success().shows(BEFORE, "running")), "Succeeded Inferred", "also where it has not moved the time yet"),
        (
            settled(success().shows(BEFORE, "blue")),
            "Succeeded Confirmed",
            "a word that is not known says nothing of it",
        ),
        (lost(success()), "Resolving", "a job that is gone is judged by the Space"),
        (lost(success()).known(|known| known.seen_for = WAIT), "Unknown", "as if it had never been known"),
    ]);
    let judged = success().shows(LATER, "success").judge();
    assert_eq!(judged.status.settled, Some(pair(Some(LATER), Some("success"))), "drift is judged against it");
    let judged = Facts::uat().in_flight(A).job_failed().shows(LATER, "failed").judge();
    assert_eq!(judged.status.settled, Some(pair(Some(LATER), Some("failed"))), "whatever its result");
    assert_eq!(judged.status.history[0].message, "job job-1 failed: building");
}

/// Whoever may write a status can write any job's id into it.
#[test]
fn a_job_that_cannot_be_the_attempts_confirms_nothing() {
    let settled = |change: &dyn Fn(&mut Job)| {
        let mut other = job(JobStatus::Success);
        change(&mut other);
        let facts = Facts::uat().shows(BEFORE, "success").in_flight(A).with_job(JobStatus::Success);
        facts.known(|known| (known.job, known.job_ended_for) = (Some(Ok(other.clone())), SETTLE))
    };
    let own = Facts::uat().shows(BEFORE, "success").in_flight(A).judge();
    let space = own.status.attempt.map(|attempt| attempt.sent_to.space_id);
    check(vec![
        (settled(&|job| job.space_id.clone_from(&space)), "Succeeded Confirmed", "it says that it is for this Space"),
        (settled(&|job| job.space_id = Some("another".to_owned())), "Succeeded Inferred", "it is for another Space"),
        (
            settled(&|job| job.created_at = Some("2020-01-01T00:00:00Z".to_owned())),
            "Succeeded Inferred",
            "it was there before the attempt",
        ),
        (settled(&|job| job.created_at = None), "Succeeded Confirmed", "a server may not say when it was made"),
    ]);
}

#[test]
fn a_failed_job_is_told_by_its_last_error() {
    let failed = |log: &[&str]| {
        let facts = Facts::uat().in_flight(A).job_failed().known(|known| {
            let Some(Ok(job)) = &mut known.job else { panic!("it has a job") };
            job.log_tail = log.iter().map(|line| (*line).to_owned()).collect();
        });
        facts.judge().status.history[0].message.clone()
    };
    let log = ["[ERROR] retrying", "building", "[ERROR] no such table", "[WARNING] cleaning up", "removed 3 layers"];
    assert_eq!(failed(&log), "job job-1 failed: [ERROR] no such table");
    assert_eq!(failed(&["building", "exit code 1"]), "job job-1 failed: exit code 1", "its last line, without one");
    assert_eq!(failed(&[]), "job job-1 failed: its log is empty");
}

/// Found in review: of a job that was accepted, and then not found any more, it was said that it never took effect.
#[test]
fn what_is_said_of_a_lost_job_is_what_is_known_of_it() {
    let lost = || {
        let facts = Facts::uat().shows(BEFORE, "failed").in_flight(A).with_job(JobStatus::Running);
        facts.known(|known| {
            known.job = Some(Err(LookError::NotFound(String::new())));
            (known.job_missing_for, known.seen_for) = (LONG, LONG);
        })
    };
    let told = |facts: Facts| facts.judge().status.history[0].message.clone();
    let gone = "job job-1 was accepted, and is not found any more";
    assert_eq!(told(lost()), format!("{gone}, and the Space showed nothing new until the wait was over"));
    assert_eq!(told(lost().shows(LATER, "success")), format!("{gone}, but the Space shows a new success"));
    assert_eq!(told(lost().shows(LATER, "failed")), format!("{gone}, and the Space shows a new failure"));
    let held = lost().but(|facts| facts.desired.unknown_outcome_policy = UnknownOutcomePolicy::Hold).judge().open;
    let undecided = format!("of attempt 1, {gone}, and the Space shows nothing new");
    assert_eq!(held, Some(Open::Undecided(undecided)));
}

#[test]
fn a_word_from_before_the_end_of_a_job_is_no_baseline_for_the_next() {
    // The time moved as the job began; what stood then, or before, stands until the Space shows the job's end.
    for old in [Some("failed"), Some("blue"), None] {
        let space = |word| pair(Some(LATER), word);
        let ended = |word| {
            let facts = Facts::uat().shows(BEFORE, "failed").in_flight(A).with_job(JobStatus::Success).shows(LATER, "");
            let seen = facts.but(|facts| {
                if let Some(Ok(space)) = &mut facts.seen.space {
                    space.status.last_deployment_status = word;
                }
            });
            seen.judge().status
        };
        let early = ended(old.map(str::to_owned));
        assert!(early.attempt.is_some(), "else the next job is taken for a success once it is accepted: {old:?}");
        assert_eq!(ended(Some("success".to_owned())).settled, Some(space(Some("success"))));
    }
}

fn is_old(facts: &Facts, pair: &PairStatus) -> bool {
    is_stale(&facts.status, pair)
}

#[test]
fn a_space_that_goes_back_in_time_was_read_in_an_old_state() {
    let shown = |last_deployed_at: &str| pair(Some(last_deployed_at), Some("success"));
    let rests = Facts::uat().shows(LATER, "success").runs(A).but(|facts| {
        facts.status.settled = Some(shown(LATER));
    });
    for (last_deployed_at, stale) in [(BEFORE, true), (ELSEWHEN, true), (LATER, false), (NOW, false), ("soon", false)] {
        assert_eq!(is_old(&rests, &shown(last_deployed_at)), stale, "{last_deployed_at}");
    }
    assert!(is_old(&rests, &pair(None, None)), "a Space that was deployed to was deployed to");
    let open = Facts::uat().shows(LATER, "success").in_flight(A);
    assert!(is_old(&open, &shown(BEFORE)), "before the baseline");
    assert!(!is_old(&open, &shown(LATER)), "not moved yet");

    let mut promoting = Facts::production().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success");
    promoting = promoting.known(|known| {
        known.job_ended_for = LONG;
        known.source = Some(Ok(crate::api::BaselineSource {
            last_deployed_at: Some("2026-11-24T07:00:00Z".to_owned()),
            ..pinned()
        }));
    });
    assert_eq!(verdict(&promoting), "Succeeded Inferred", "a state that stays so is no old one");
    promoting = promoting.known(|known| known.job_ended_for = Duration::ZERO);
    assert_eq!(verdict(&promoting), "Verifying", "an old state of uat does not say that it changed");
}

#[test]
fn a_move_within_our_own_last_job_is_lag_and_any_other_is_drift() {
    let times =
        |from: &str, to: &str| JobTimes { created_at: Some(from.to_owned()), completed_at: Some(to.to_owned()) };
    let ours = || Some(times("2026-11-24T08:59:00Z", "2026-11-24T08:59:40Z"));
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
    assert!(
        looked(EARLIER, Some(times("2026-11-24T06:59:00Z", "2026-11-24T07:01:00Z"))).0,
        "a Space that was restored"
    );
    assert!(!looked(BEFORE, None).0, "nothing moved");
    let told = |facts: Facts| facts.judge().drifted.unwrap_or_default();
    let drifted = || Facts::uat().runs(A).shows(ELSEWHEN, "success");
    assert!(told(drifted()).contains("our own last job left"));
    let taken_over = drifted().but(|facts| facts.status.history.clear());
    assert!(told(taken_over).contains("at first contact it showed"), "there was no job of ours");
}

/// Found in review: a person who deployed a moment after our own job was taken for it, and what that person deployed was
/// promoted as confirmed.
#[test]
fn a_move_within_our_own_last_job_proves_nothing_where_its_word_is_no_success() {
    let ours = JobTimes {
        created_at: Some("2026-11-24T08:59:00Z".to_owned()),
        completed_at: Some("2026-11-24T08:59:40Z".to_owned()),
    };
    let after = |word: &str| {
        let moved = Facts::uat().runs(A).shows(LATER, word).but(|facts| facts.seen.last_job = Some(ours.clone()));
        let judged = moved.judge();
        assert_eq!(judged.drifted, None, "{word}: within the job's times it may be that job's");
        moved.next()
    };
    let attribution = |facts: &Facts| facts.status.release.as_ref().unwrap().attribution;
    for (word, expected) in [
        ("success", Attribution::Confirmed),
        ("blue", Attribution::Confirmed),
        ("running", Attribution::Inferred),
        ("failed", Attribution::Inferred),
    ] {
        assert_eq!(attribution(&after(word)), expected, "{word}");
    }
    let ended = after("running").shows(LATER, "success").next();
    assert_eq!(attribution(&ended), Attribution::Inferred, "whoever's it is, it ended well");
    let promoting = Facts::production().but(|facts| {
        let source = facts.seen.source.as_mut().unwrap();
        (source.status.release, source.status.history) = (ended.status.release, ended.status.history);
    });
    assert_eq!(words(&promoting.step()), "Wait AwaitingSource", "and it is not promoted");
}

/// Found by the random schedules with reads that go back: a request that was refused made the move of the job before it
/// look like somebody else's.
#[test]
fn a_late_move_of_the_job_before_a_refused_request_is_ours() {
    let ours = JobTimes {
        created_at: Some("2026-11-24T08:59:00Z".to_owned()),
        completed_at: Some("2026-11-24T08:59:40Z".to_owned()),
    };
    let rejected = Answer::Rejected(Rejection::Request { code: 422, detail: None });
    let refused = Facts::uat().runs(A).wants(B).next().answered(rejected).next();
    assert_eq!((refused.status.history[0].result, &refused.status.history[0].job_id), (AttemptResult::Failed, &None));
    assert_eq!(last_job(&refused.status).unwrap().result, AttemptResult::Succeeded);
    let late = refused.clone().shows(LATER, "success").but(|facts| facts.seen.last_job = Some(ours.clone())).judge();
    assert_eq!((late.drifted, late.status.settled), (None, Some(pair(Some(LATER), Some("success")))));
    let others = refused.clone().shows(ELSEWHEN, "success").but(|facts| facts.seen.last_job = Some(ours.clone()));
    assert!(others.judge().drifted.is_some());
    let word = refused.shows(BEFORE, "failed").but(|facts| facts.seen.last_job = Some(ours));
    assert!(word.judge().drifted.is_some(), "the job before did not fail, and nothing came of what was refused");
}

/// Found by the random schedules with reads that go back: an old word became a baseline, and the word that stood before it
/// was then taken for the next job's failure, or the true one for a deployment of somebody else's.
#[test]
fn a_word_that_does_not_fit_the_last_attempt_may_be_from_before_its_end() {
    let ended = |result, job: Option<&str>| {
        Facts::uat().ended(A, result, "").but(|facts| {
            facts.status.settled = Some(pair(Some(BEFORE), Some("running")));
            facts.status.history[0].completed_at = NOW.to_owned();
            facts.status.history[0].job_id = job.map(str::to_owned);
        })
    };
    let old = |facts: &Facts| {
        let words = ["success", "failed", "running", "pending", "blue"];
        words.into_iter().filter(|word| is_old(facts, &pair(Some(BEFORE), Some(word)))).collect::<Vec<_>>()
    };
    let (succeeded, failed) = (AttemptResult::Succeeded, AttemptResult::Failed);
    assert_eq!(old(&ended(succeeded, Some("1"))), ["failed", "pending", "blue"]);
    assert_eq!(old(&ended(failed, Some("1"))), ["success", "pending", "blue"], "what our own job came to, seen late");
    assert_eq!(old(&ended(failed, None)), ["success", "failed", "pending", "blue"], "nothing came of what was refused");
    assert_eq!(old(&ended(succeeded, None)), ["failed", "pending", "blue"], "a person or the Space said so");
    assert_eq!(old(&Facts::uat()), [""; 0], "nothing is known that it could be older than");
    assert_eq!(old(&Facts::uat().in_flight(A)), [""; 0], "an attempt is open: it may be that one's");
    assert!(!is_old(&ended(succeeded, Some("1")), &pair(Some(LATER), Some("running"))), "a later time is no old state");
}

/// What is shown for longer than settle is looked at all the same.
#[test]
fn a_word_that_stays_is_judged_by_whom_it_fits() {
    let drifted = |result, job: Option<&str>, word: &str, later: Duration| {
        let facts = Facts::uat().shows(BEFORE, word).later(later).ended(A, result, "");
        let facts = facts.but(|facts| {
            facts.status.settled = Some(pair(Some(BEFORE), Some("running")));
            facts.status.history[0].completed_at = NOW.to_owned();
            facts.status.history[0].job_id = job.map(str::to_owned);
        });
        facts.judge().drifted.is_some()
    };
    let (succeeded, failed) = (AttemptResult::Succeeded, AttemptResult::Failed);
    assert!(!drifted(succeeded, Some("1"), "success", LONG));
    assert!(!drifted(succeeded, None, "success", LONG), "a person's answer was right");
    assert!(drifted(succeeded, Some("1"), "failed", LONG));
    assert!(drifted(failed, None, "failed", LONG), "nothing came of what was refused");
    assert!(!drifted(succeeded, Some("1"), "blue", SETTLE * 2), "a word that nobody knows, within one more settle");
    assert!(drifted(succeeded, Some("1"), "blue", SETTLE * 2 + Duration::from_secs(1)));
}

#[test]
fn a_word_of_uat_that_may_be_old_does_not_say_that_it_changed() {
    let promoting = |ended_for| {
        let facts = Facts::production().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success");
        facts.known(|known| {
            known.job_ended_for = ended_for;
            let word = Some("running".to_owned());
            known.source = Some(Ok(crate::api::BaselineSource { last_deployment_status: word, ..pinned() }));
        })
    };
    assert_eq!(verdict(&promoting(Duration::ZERO)), "Verifying");
    assert_eq!(verdict(&promoting(LONG)), "Succeeded Inferred", "by now none would be so late");
}

#[test]
fn the_history_keeps_the_last_whose_job_is_known() {
    let refused = (0..4).fold(Facts::uat().runs(A), |facts, _| {
        facts.ended(B, AttemptResult::Failed, "").but(|facts| facts.status.history[0].job_id = None)
    });
    let kept = |facts: &Facts, limit| {
        let facts = facts.clone().but(|facts| facts.desired.history_limit = limit);
        facts.judge().status.history.iter().map(|entry| entry.number).collect::<Vec<_>>()
    };
    assert_eq!(kept(&refused, 3), [5, 4, 1]);
    assert_eq!(kept(&refused, 2), [5, 1]);
    assert_eq!(kept(&refused, 1), [5], "what was sent last goes before it");
    let unsent = refused.ended(B, AttemptResult::NotSent, "");
    assert_eq!(kept(&unsent, 3), [6, 5, 1]);
    assert_eq!(kept(&unsent, 2), [6, 5], "what happened last is told");
    assert_eq!(kept(&unsent, 1), [5]);
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

/// The resource was deleted and made anew, or lost its status, while this attempt of [`A`] was open.
fn left_open(job_id: Option<&str>) -> Facts {
    let mut attempt = Facts::uat().shows(BEFORE, "success").in_flight(A).status.attempt.unwrap();
    attempt.number = 7;
    attempt.job_id = job_id.map(str::to_owned);
    let (resource, uid) = ("shop/shop-uat".to_owned(), "uid-of-the-deleted".to_owned());
    Facts::uat()
        .shows(BEFORE, "success")
        .but(|facts| facts.seen.predecessor = Some(Predecessor { resource, uid, attempt }))
}

#[test]
fn an_attempt_that_a_deleted_resource_left_open_is_followed_to_its_end() {
    let found = left_open(Some("job-1"));
    assert_eq!(words(&found.step()), "Wait DeployRunning", "nothing is deployed beside it");
    let followed = found.wants(B).next().but(|facts| facts.seen.predecessor = None);
    assert_eq!(followed.status.last_attempt, 7, "numbers go on from there");
    let done = followed.with_job(JobStatus::Success).shows(LATER, "success");
    let judged = done.judge();
    let release = judged.status.release.as_ref().unwrap();
    assert_eq!((release.digest.as_str(), release.attribution), (A, Attribution::Confirmed));
    assert_eq!(words(&done.step()), "Deploy Spec", "only then comes what is wanted now");

    let unknown = left_open(None);
    assert_eq!(words(&unknown.step()), "Wait ResolvingOutcome");
    let unknown = unknown.next().but(|facts| facts.seen.predecessor = None);
    assert_eq!(verdict(&unknown.clone().shows(LATER, "running")), "Resolving");
    let over = unknown.later(LONG);
    assert_eq!(words(&over.clone().step()), "Wait ProgressingWithRetry", "it never took effect");
    assert_eq!(over.next().status.history[0].result, AttemptResult::Unknown);
}

#[test]
fn what_the_operator_noted_of_its_last_release_outlives_the_status() {
    let noted = |last_deployed_at: &str| Released {
        space_id: "7301".to_owned(),
        digest: A.to_owned(),
        last_deployed_at: last_deployed_at.to_owned(),
    };
    let restored =
        |released: Released| Facts::uat().shows(BEFORE, "success").but(|facts| facts.desired.released = Some(released));
    let taken = restored(noted(BEFORE)).next();
    assert_eq!(taken.status.release.as_ref().unwrap().attribution, Attribution::Inferred);
    assert_eq!(words(&taken.step()), "Rest Succeeded", "nothing is deployed a second time");
    assert_eq!(words(&taken.wants(B).step()), "Deploy Spec", "a new digest is");
    // Found by the model: read in an old state when it is taken over, so that the word of its success comes later.
    let stale = restored(noted(BEFORE)).shows(BEFORE, "failed").next();
    assert_eq!(words(&stale.clone().shows(BEFORE, "success").step()), "Rest Succeeded", "that is no drift");
    assert_eq!(words(&stale.shows(ELSEWHEN, "success").step()), "Stall Drifted", "that is");

    let rows = vec![
        (restored(noted(ELSEWHEN)), "Deploy Spec", "somebody deployed since"),
        (restored(Released { space_id: "7".to_owned(), ..noted(BEFORE) }), "Deploy Spec", "of another Space"),
        (restored(noted(BEFORE)).shows(BEFORE, "running"), "Wait SpaceBusy", "something runs: it is waited out"),
        (restored(noted(BEFORE)).wants(B), "Deploy Spec", "what runs is known, and not what is wanted"),
        (
            restored(noted(ELSEWHEN)).runs(B).wants(B),
            "Rest Succeeded",
            "a status knows better than what was noted on the resource",
        ),
        (
            restored(noted(BEFORE)).but(|facts| facts.seen.rivals = vec!["shop/other".to_owned()]),
            "Wait SpaceBusy",
            "somebody else is at it",
        ),
    ];
    for (facts, step, why) in rows {
        assert_eq!(words(&facts.step()), step, "{why}");
    }
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
    let (seven, eight, half, nine) =
        ("2026-11-24T07:59:59Z", "2026-11-24T08:00:00Z", "2026-11-24T08:30:00Z", "2026-11-24T09:00:00Z");
    assert_eq!(loops(&[Drift, Drift], &[eight, half]), "Deploy Drift");
    assert_eq!(loops(&[Drift, Drift, Drift], &[eight, half, nine]), "Stall DriftLoop");
    assert_eq!(loops(&[Drift, Drift, Drift], &[seven, half, nine]), "Deploy Drift", "not within one hour");
    assert_eq!(loops(&[Drift, Drift, Drift], &[seven, seven, seven]), "Deploy Drift", "nor within the last one");
    assert_eq!(
        loops(&[Drift, Retry, Drift, Retry, Drift], &[eight, half, half, half, nine]),
        "Stall DriftLoop",
        "retries hide nothing"
    );
    assert_eq!(loops(&[Drift, Drift, Drift, Reset], &[eight, half, nine, nine]), "Deploy Drift", "a person reset it");
}

#[test]
fn a_drift_loop_is_not_taken_back_by_the_hours_end() {
    let looping = (0..3).fold(Facts::uat().drift_policy(DriftPolicy::Redeploy).runs(A), |facts, _| {
        facts.ended(A, AttemptResult::Succeeded, "").but(|facts| facts.status.history[0].cause = Cause::Drift)
    });
    let stalled = looping.shows(ELSEWHEN, "success").next();
    assert_eq!(what_people_see(&stalled.status), "False DriftLoop Stalled");
    let later = stalled.later(LONG);
    assert_eq!(words(&later.step()), "Stall DriftLoop");
    assert_eq!(words(&later.clone().reset("1").step()), "Deploy Reset");
    let allowed = later.but(|facts| facts.desired.retry_limit = 4);
    assert_eq!(words(&allowed.step()), "Deploy Drift", "a person allows one more");
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

#[test]
fn a_promotion_whose_uat_may_not_be_read_is_a_persons_to_end() {
    let refused = |error: LookError| {
        let facts = Facts::production().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success");
        facts.known(|known| (known.source, known.job_ended_for) = (Some(Err(error.clone())), SETTLE))
    };
    let forbidden = || refused(LookError::Forbidden("not yours".to_owned()));
    let overdue = |facts: Facts| facts.but(|it| it.status.attempt.as_mut().unwrap().deadline = BEFORE.to_owned());
    assert_eq!(forbidden().judge().open, Some(Open::Verifying), "it may still be mended in time");
    let Some(Open::Undecided(why)) = overdue(forbidden()).judge().open else { panic!("it waits for ever") };
    assert!(why.contains("uat Space cannot be read") && why.contains("not yours"), "{why}");
    let passes = overdue(refused(LookError::Unavailable(String::new())));
    assert_eq!(passes.judge().open, Some(Open::Verifying), "an outage passes by itself");
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

/// A reset that finds nothing to do is told once; one that does something shows by what it does.
#[test]
fn a_reset_that_has_nothing_to_do_says_so_once() {
    let notes =
        |facts: &Facts| facts.judge().notes.into_iter().map(|note| (note.reason, note.message)).collect::<Vec<_>>();
    let idle = Facts::uat().runs(A).reset("1");
    let [(reason, message)] = &notes(&idle)[..] else { panic!("{:?}", notes(&idle)) };
    assert_eq!(*reason, "NothingToReset");
    let redeploy = "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/redeploy-at=";
    assert!(message.contains("sha256:aaaaaaaaaaaa is confirmed to run") && message.contains(redeploy), "{message}");
    assert_eq!(notes(&idle.clone().next()), [], "it was acted on");
    let unasked = Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Manual(None))).reset("1");
    assert!(notes(&unasked)[0].1.ends_with("nothing is asked for"), "{:?}", notes(&unasked));
    let busy = vec![
        (Facts::uat().reset("1"), "it releases"),
        (Facts::uat().runs(A).attributed(Attribution::Inferred).reset("1"), "it makes certain what runs"),
        (Facts::uat().runs(A).but(|facts| facts.status.failures = 1).reset("1"), "it forgets a failure"),
        (Facts::uat().in_flight(A).reset("1"), "it waits for the attempt"),
        (Facts::uat().runs(A).space_cannot_be_seen(LookError::Unavailable("no".to_owned())).reset("1"), "it waits"),
    ];
    for (facts, what) in busy {
        assert!(notes(&facts).iter().all(|(reason, _)| *reason != "NothingToReset"), "{what}");
    }
}

#[test]
fn a_digest_is_shortened_for_people() {
    assert_eq!(short(A), "sha256:aaaaaaaaaaaa");
    assert_eq!(short("é"), "é");
}
