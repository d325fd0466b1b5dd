//! How a status reads: the table of situations, a few whole statuses, and the Events of each transition.

use std::time::Duration;

use super::*;
use crate::api::{Attribution, DriftPolicy};
use crate::artifact::FetchError;
use crate::desired::Approval;
use crate::konigle::Answer;
use crate::konigle::model::JobStatus;
use crate::test_facts::*;

fn uat_moves_on(facts: &mut Facts) {
    let status = &mut facts.seen.source.as_mut().unwrap().status;
    B.clone_into(&mut status.release.as_mut().unwrap().digest);
    B.clone_into(&mut status.history[0].digest);
}

fn unavailable() -> LookError {
    LookError::Unavailable("no answer".to_owned())
}

/// Trying again must not write: a host that is down for a day would make a status flap all day.
#[test]
fn a_download_that_is_tried_again_changes_nothing_before_it_ends() {
    let error = FetchError::Unavailable { location: "ci.example.com/shop.zip".to_owned(), reason: "404".to_owned() };
    let failed =
        |seconds: u64| ArtifactFacts::Failed { error: error.clone(), ago: Duration::from_secs(seconds), times: 1 };
    let stands = Facts::uat().but(|facts| facts.seen.artifact = failed(1)).next();
    let reads = |artifact: ArtifactFacts| stands.clone().but(|facts| facts.seen.artifact = artifact).next().status;
    assert_eq!(stands.status.condition("Ready").map(|ready| ready.reason.as_str()), Some("ArtifactUnavailable"));
    for artifact in [failed(6), ArtifactFacts::Retrying] {
        assert_eq!(reads(artifact.clone()), stands.status, "{artifact:?}");
    }
    let other_url = reads(ArtifactFacts::Downloading);
    assert_eq!(other_url.condition("Ready").map(|ready| ready.reason.as_str()), Some("Downloading"));
}

#[test]
fn the_credentials_of_the_artifacts_host_are_not_those_of_konigle() {
    let problem = Problem { reason: Reason::SecretNotFound, message: "there is no Secret ci".to_owned() };
    let facts = Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Unreadable(problem)).next();
    let word = |condition: &str| facts.status.condition(condition).map(|it| (it.status.as_str(), it.reason.as_str()));
    assert_eq!(word("Stalled"), Some(("True", "SecretNotFound")));
    assert_eq!(word("ArtifactReady"), Some(("False", "SecretNotFound")));
    assert_eq!(word("CredentialsValid"), Some(("True", "Succeeded")));
}

#[test]
fn each_situation_reads_as_the_readme_says() {
    let automatic = || Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Automatic));
    let closed = |facts: Facts| facts.but(|facts| facts.seen.source.as_mut().unwrap().deleting = true);
    let wants_b = |facts: Facts| facts.but(|facts| facts.desired.wish = promotes(approved(B)));
    let edited = |facts: Facts| facts.next().but(|facts| facts.desired.generation = 2);
    let rows = vec![
        (
            Facts::uat().space_cannot_be_seen(unavailable()),
            "Unknown Progressing Reconciling",
            "the first pass knows nothing",
        ),
        (
            Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Absent),
            "Unknown Downloading Reconciling",
            "a download runs",
        ),
        (Facts::uat(), "Unknown DeployRunning Reconciling", "a deploy is being sent"),
        (Facts::production(), "Unknown PromotionRunning Reconciling", "a promotion is being sent"),
        (Facts::uat().in_flight(A).with_job(JobStatus::Running), "Unknown DeployRunning Reconciling", "a deploy runs"),
        (Facts::uat().in_flight(A), "Unknown ResolvingOutcome Reconciling", "an unknown outcome is being resolved"),
        (
            Facts::uat().runs(A).wants(B).but(|facts| facts.seen.promotions = vec!["shop-production".to_owned()]),
            "Unknown HeldByPromotion Reconciling",
            "it is held by a promotion",
        ),
        (
            Facts::uat().in_flight(A).job_failed(),
            "False ProgressingWithRetry Reconciling",
            "an attempt failed, another will follow",
        ),
        (wants_b(Facts::production()), "Unknown AwaitingSource Reconciling", "uat does not hold what is approved yet"),
        (closed(Facts::production()), "Unknown AwaitingSource Reconciling", "a gate is closed"),
        (Facts::uat().runs(A), "True Succeeded", "the wish is met"),
        (
            Facts::uat().shows(BEFORE, "success").but(|facts| {
                facts.desired.adoption_policy = crate::api::AdoptionPolicy::AssumeCurrent;
            }),
            "True Assumed",
            "it is taken to be met",
        ),
        (
            Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Manual(None))),
            "True AwaitingApproval",
            "nothing was asked for, also before the first promotion",
        ),
        (Facts::production().runs(A).but(uat_moves_on), "True Succeeded", "what is approved runs"),
        (closed(automatic().runs(A)), "True Succeeded", "the last promoted digest runs"),
        (closed(automatic()), "Unknown AwaitingSource Reconciling", "Automatic waits for its first promotion"),
        (Facts::uat().runs(A).suspended(), "True Succeeded", "suspended, and the wish is met"),
        (Facts::uat().suspended(), "False Suspended", "suspended, and it is not"),
        (edited(Facts::uat().runs(A)), "True Succeeded", "an edit that asks for nothing new"),
        (
            edited(Facts::uat().in_flight(A).with_job(JobStatus::Running)),
            "Unknown DeployRunning Reconciling",
            "an edit that asks for nothing new",
        ),
        (
            Facts::uat().runs(A).next().space_cannot_be_seen(unavailable()),
            "True Succeeded",
            "a failed look changes nothing",
        ),
        (
            Facts::uat().runs(A).space_cannot_be_seen(unavailable()).but(|facts| facts.seen.failing_for = LONG),
            "Unknown KonigleUnreachable",
            "Konigle is silent for long",
        ),
        (Facts::uat().runs(A).shows(ELSEWHEN, "success"), "False Drifted Stalled", "a person must act"),
        (
            Facts::uat().runs(A).shows(ELSEWHEN, "success").drift_policy(DriftPolicy::Ignore),
            "True Succeeded",
            "the drift is accepted",
        ),
    ];
    let wrong: Vec<String> = rows
        .into_iter()
        .map(|(facts, expected, because)| (what_people_see(&facts.render()), expected, because))
        .filter(|(shown, expected, _)| shown != expected)
        .map(|(shown, expected, because)| format!("{shown} instead of {expected}, because {because}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ready_leaves_true_in_the_very_write_that_takes_over_an_unmet_wish() {
    let met = |facts: Facts| {
        let facts = facts.next();
        assert!(facts.status.is_true("Ready"));
        facts.but(|facts| facts.desired.generation = 2)
    };
    let silent = || met(Facts::uat().runs(A)).space_cannot_be_seen(unavailable());
    let rows = vec![
        (met(Facts::uat().runs(A)).wants(B), "another digest"),
        (met(Facts::uat().runs(A)).wants(B).but(|facts| facts.seen.artifact = ArtifactFacts::Absent), "to be fetched"),
        (met(Facts::uat().runs(A)).wants(B).suspended(), "suspended"),
        (met(Facts::uat().runs(A)).wants(B).space_is("stopped"), "the Space is stopped"),
        (silent().wants(B), "Konigle is silent"),
        (met(Facts::production().runs(A)).but(|facts| facts.desired.wish = promotes(approved(B))), "another approval"),
        (met(Facts::uat().runs(A)).redeploy("1"), "a request"),
    ];
    for (facts, what) in rows {
        let status = facts.render();
        assert_eq!(status.observed_generation, 2, "{what}");
        assert!(!status.is_true("Ready"), "{what}: {:?}", status.conditions);
    }
    let moved = Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Automatic)).runs(A).next();
    assert!(moved.status.is_true("Ready"));
    assert!(!moved.but(uat_moves_on).render().is_true("Ready"), "a source that moved is a new wish");
}

#[test]
fn what_stands_beside_ready() {
    let condition = |facts: Facts, word: &str| {
        facts.render().condition(word).map(|found| format!("{} {}", found.status, found.reason)).unwrap_or_default()
    };
    let production = Facts::production;
    assert_eq!(condition(production(), "PromotionAllowed"), "True Succeeded");
    let moved_on =
        production().runs(A).but(uat_moves_on).render().condition("PromotionAllowed").unwrap().message.clone();
    let expected =
        format!("what is approved runs here already, and shop-uat runs {B}; to promote that: kubectl patch kspace");
    assert!(moved_on.starts_with(&expected), "{moved_on}");
    assert_eq!(condition(production().runs(A).but(uat_moves_on), "PromotionAllowed"), "False AwaitingApproval");
    assert_eq!(condition(production().but(uat_moves_on), "PromotionAllowed"), "False AwaitingSource");
    let gate = |change: fn(&mut KonigleSpaceStatus)| {
        let facts = production().but(|facts| change(&mut facts.seen.source.as_mut().unwrap().status));
        condition(facts, "PromotionAllowed")
    };
    let inferred =
        |status: &mut KonigleSpaceStatus| status.release.as_mut().unwrap().attribution = Attribution::Inferred;
    assert_eq!(gate(inferred), "False SourceNotConfirmed");
    assert_eq!(gate(|status| status.attempt = Some(crate::api::Attempt::default())), "False SourceBusy");
    let drifted = Facts::uat().runs(A).shows(ELSEWHEN, "success").drift_policy(DriftPolicy::Ignore).render();
    let facts = production().but(|facts| facts.seen.source.as_mut().unwrap().status.conditions = drifted.conditions);
    assert_eq!(condition(facts, "PromotionAllowed"), "False SourceDrifted", "Ignore never pins anew");

    assert_eq!(condition(production().next(), "ContentVerified"), "Unknown NotYetConfirmed");
    let verified = production().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success").later(SETTLE);
    assert_eq!(condition(verified, "ContentVerified"), "True SourceUnchanged");

    assert_eq!(condition(Facts::uat(), "PromotionAllowed"), "", "of promotions only");
    assert_eq!(condition(production(), "ArtifactReady"), "", "of uploads only");
    assert_eq!(condition(Facts::uat().runs(A), "Drifted"), "", "absent unless True");
    let stalled = Facts::uat().but(|facts| facts.seen.account = Err(problem(Reason::SecretNotFound)));
    assert_eq!(condition(stalled, "CredentialsValid"), "False SecretNotFound");
}

/// Found in review: what was never fetched, or runs no more, was said to be downloaded, or to run.
#[test]
fn nothing_is_said_that_is_not_known() {
    let told = |facts: &Facts, word: &str| {
        facts.status.condition(word).map(|it| (it.status.clone(), it.message.clone())).unwrap_or_default()
    };
    let assumed = Facts::uat().shows(BEFORE, "success").but(|facts| {
        facts.seen.artifact = ArtifactFacts::Absent;
        facts.desired.adoption_policy = crate::api::AdoptionPolicy::AssumeCurrent;
    });
    let (word, message) = told(&assumed.next(), "ArtifactReady");
    assert!(word == "Unknown" && message.starts_with("not needed yet"), "{word}: {message}");
    let released = Facts::uat().runs(A).but(|facts| {
        facts.seen.artifact = ArtifactFacts::Absent;
        facts.status.history.clear();
    });
    assert_eq!(told(&released.next(), "ArtifactReady").0, "True", "a job of ours was given it");
    let on_disk = told(&Facts::uat().next(), "ArtifactReady");
    let (word, message) = (on_disk.0.as_str(), on_disk.1.as_str());
    let expected = ("True", "sha256:aaaaaaaaaaaa was verified and inspected");
    assert_eq!((word, message), expected, "another resource may have downloaded it");
    let drifted = Facts::uat().runs(A).shows(ELSEWHEN, "success").drift_policy(DriftPolicy::Ignore);
    let (word, message) = told(&drifted.next(), "Ready");
    assert!(word == "True" && message.ends_with("somebody else deployed since"), "{word}: {message}");
    let unreadable = Facts::uat().in_flight(A).with_job(JobStatus::Running).but(|facts| {
        facts.seen.space = None;
        facts.seen.attempt.as_mut().unwrap().job = Some(Err(LookError::Forbidden("not yours".to_owned())));
    });
    assert_eq!(told(&unreadable.next(), "CredentialsValid").0, "False", "a token that may not read the job");
}

#[test]
fn drift_that_was_seen_stays_said_while_nothing_can_be_seen() {
    let drifted = Facts::uat().runs(A).shows(ELSEWHEN, "success").next();
    let silent = drifted.space_cannot_be_seen(unavailable()).render();
    assert!(silent.is_true("Drifted") && silent.is_true("Stalled"));
}

#[test]
fn whole_statuses_read_like_this() {
    let settings = || {
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings
    };
    let whole = |facts: Facts| facts.render();
    settings().bind(|| {
        let claimed = Facts::uat();
        insta::assert_yaml_snapshot!("a_deploy_is_claimed", whole(claimed.clone()));
        let running = claimed.next().with_job(JobStatus::Running);
        insta::assert_yaml_snapshot!("a_deploy_runs", whole(running.clone()));
        let failed = running.clone().job_failed();
        insta::assert_yaml_snapshot!("a_deploy_failed", whole(failed));
        let done = running.with_job(JobStatus::Success).shows(LATER, "success").next();
        insta::assert_yaml_snapshot!("a_deploy_is_done", done.status.clone());
        insta::assert_yaml_snapshot!("somebody_else_deployed", whole(done.shows(ELSEWHEN, "success")));
        let unknown = Facts::production().next().known(|known| known.seen_for = LONG);
        insta::assert_yaml_snapshot!("a_promotion_whose_outcome_is_unknown", whole(unknown));
    });
}

/// The Events between two passes.
fn events(before: &Facts, after: Facts) -> Vec<String> {
    let notes = transitions(&before.status, &after.next().status);
    notes.iter().map(|note| format!("{}{}", if note.warning { "!" } else { "" }, note.reason)).collect()
}

#[test]
fn each_transition_has_its_event_and_nothing_else_has() {
    let uat = || Facts::uat().in_flight(A);
    let production = || Facts::production().in_flight(A);
    let done = |facts: Facts| facts.with_job(JobStatus::Success).shows(LATER, "success").later(SETTLE);
    let unsent = || Answer::Unsent("no route".to_owned());
    let quiet = Facts::uat().runs(A).next();
    let rows: Vec<(Facts, Facts, &[&str])> = vec![
        (uat(), done(uat()), &["DeploySucceeded"]),
        (production(), done(production()), &["PromotionSucceeded"]),
        (uat(), uat().job_failed(), &["!DeployFailed"]),
        (production(), production().job_failed(), &["!PromotionFailed"]),
        (uat(), uat().answered(unsent()), &["!DeployNotSent"]),
        (production(), production().answered(unsent()), &["!PromotionNotSent"]),
        (uat(), uat().known(|known| known.seen_for = LONG), &["!OutcomeUnknown"]),
        (uat(), uat().with_job(JobStatus::Running).later(LONG), &["!JobOverdue"]),
        (quiet.clone(), quiet.clone().shows(ELSEWHEN, "success"), &["!Drifted"]),
        (quiet.clone(), quiet.clone().shows(ELSEWHEN, "success").drift_policy(DriftPolicy::Ignore), &["!Drifted"]),
        (quiet.clone(), quiet.clone().wants(B).suspended(), &["Suspended"]),
        (quiet.clone(), quiet.clone(), &[]),
        (quiet.clone(), quiet.clone().wants(B), &[]),
        (quiet.clone(), quiet.space_cannot_be_seen(unavailable()), &[]),
    ];
    for (before, after, expected) in rows {
        let what = words(&after.step());
        assert_eq!(events(&before, after), expected, "{what}");
    }
    let suspended = Facts::uat().suspended().next();
    assert_eq!(events(&suspended, suspended.clone().but(|facts| facts.desired.suspended = false)), ["Resumed"]);
}

/// A uat resource that runs [`A`] by a tag that could not be looked at, for this reason.
fn unseen(reason: Reason, message: &str) -> Facts {
    let problem = Problem { reason, message: message.to_owned() };
    Facts::uat().runs(A).follows_tag(OriginFacts::Unnamed { problem, last: Some(named_digest(A)), looking: false })
}

#[test]
fn an_origin_that_cannot_be_read_is_one_event_until_it_can_be_read_again() {
    let named = |digest: &str| Facts::uat().runs(A).follows_tag(OriginFacts::Named(named_digest(digest)));
    let away = || unseen(Reason::ArtifactUnavailable, "503");
    let looking = |before: Facts| {
        let looking =
            OriginFacts::Unnamed { problem: problem(Reason::Progressing), last: Some(named_digest(A)), looking: true };
        before.next().follows_tag(looking)
    };
    let never = Facts::uat().follows_tag(OriginFacts::Unnamed {
        problem: Problem { reason: Reason::ArtifactUnavailable, message: "404".to_owned() },
        last: None,
        looking: false,
    });
    let fetched = |facts: Facts| facts.but(|facts| facts.seen.artifact = ArtifactFacts::Absent);
    let rows: Vec<(&str, Facts, Facts, &[&str])> = vec![
        ("it begins", named(A), away(), &["!OriginUnavailable"]),
        ("it stands", away(), away(), &[]),
        ("the host words it anew", away(), unseen(Reason::ArtifactUnavailable, "504"), &[]),
        ("another reason", away(), unseen(Reason::ArtifactRejected, "not by sha256"), &["!ArtifactRejected"]),
        ("a source of Flux", named(A), unseen(Reason::AwaitingSource, "no artifact"), &["!OriginUnavailable"]),
        ("it is being looked up, as after a restart", away(), looking(away()), &[]),
        ("it is over", away(), named(A), &["OriginRecovered"]),
        ("it is over, and names something else", away(), fetched(named(B)), &["OriginRecovered"]),
        ("its Secret was away", unseen(Reason::SecretNotFound, "no Secret"), named(A), &["OriginRecovered"]),
        ("another spec", away(), named(A).but(|facts| facts.desired.generation += 1), &[]),
        ("Ready says it", Facts::uat(), never.clone(), &[]),
        ("Ready said it", never, Facts::uat().follows_tag(OriginFacts::Named(named_digest(A))), &[]),
        (
            "beside an open attempt",
            Facts::uat().in_flight(A).with_job(JobStatus::Running),
            Facts::uat().in_flight(A).with_job(JobStatus::Running).follows_tag(away().seen.origin),
            &["!OriginUnavailable"],
        ),
    ];
    for (what, before, after, expected) in rows {
        assert_eq!(events(&before.next(), after), expected, "{what}");
    }
    let notes = transitions(&away().next().status, &named(A).next().status);
    assert_eq!(notes[0].message, "registry.example.com/shop:live can be read again, and names sha256:aaaaaaaaaaaa");
    let notes = transitions(&named(A).next().status, &away().next().status);
    assert_eq!(notes[0].message, "ArtifactUnavailable: 503");
}

#[test]
fn an_origin_that_is_looked_up_stays_said_to_be_unread() {
    let away = unseen(Reason::ArtifactUnavailable, "503").next();
    let looking =
        OriginFacts::Unnamed { problem: problem(Reason::Progressing), last: Some(named_digest(A)), looking: true };
    let looking = away.clone().follows_tag(looking);
    assert_eq!(looking.render().condition("ArtifactReady"), away.status.condition("ArtifactReady"));
    let edited = looking.but(|facts| facts.desired.generation += 1).render();
    assert_eq!(edited.condition("ArtifactReady").unwrap().status, "True", "the old words are of another spec");
}

#[test]
fn what_is_on_disk_is_not_said_to_be_downloaded() {
    let told = |artifact: ArtifactFacts| {
        let status = Facts::uat().but(|facts| facts.seen.artifact = artifact).render();
        ["Ready", "ArtifactReady"].map(|word| {
            let condition = status.condition(word).unwrap();
            format!("{} {}: {}", condition.status, condition.reason, condition.message)
        })
    };
    let said = |text: &str| [(); 2].map(|()| format!("Unknown Downloading: {text}"));
    assert_eq!(told(ArtifactFacts::Downloading), said("downloading sha256:aaaaaaaaaaaa"));
    assert_eq!(told(ArtifactFacts::Checking), said("checking sha256:aaaaaaaaaaaa, which is on disk"));
    assert_eq!(told(ArtifactFacts::Packing), said("packing sha256:aaaaaaaaaaaa into a ZIP"));
}

#[test]
fn a_run_of_attempts_that_are_not_sent_is_one_event() {
    let unsent = |facts: Facts| facts.next().answered(Answer::Unsent("no route".to_owned()));
    let first = unsent(Facts::uat()).next();
    let again = unsent(first.clone().later(Duration::from_mins(1))).next();
    assert_eq!(again.status.history.len(), 1, "the last one stands for all");
    assert!(transitions(&first.status, &again.status).is_empty());
}
