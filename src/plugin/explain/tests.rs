//! Whole screens, as people read them.

use crate::api::{AttemptResult, Attribution};
use crate::artifact::FetchError;
use crate::konigle::model::JobStatus;
use crate::observation::{ArtifactFacts, LookError};
use crate::plugin::outlook::tests::{namespace, outlook_of};
use crate::plugin::screen::Look;
use crate::test_facts::*;

use super::*;

fn screen(facts: &Facts, look: Look) -> String {
    render(&namespace(facts)[0], &outlook_of(facts), facts.seen.now, look).replace('\u{1b}', "\\e")
}

#[test]
fn explanations() {
    let plain = Look { colour: false, width: None };
    let rests = Facts::uat().runs(A).next();
    let drifted = Facts::uat().runs(A).shows(ELSEWHEN, "success").next();
    let unknown = Facts::uat().in_flight(A).next();
    let downloading = Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Downloading).next();
    let running = Facts::uat().runs(A).wants(B).in_flight(B).with_job(JobStatus::Running).next();
    let failed = Facts::uat().runs(A).wants(B).in_flight(B).job_failed().next();
    let awaiting =
        Facts::production().but(|facts| facts.desired.wish = promotes(crate::desired::Approval::Manual(None))).next();
    let unmet_by_uat = Facts::production().but(|facts| facts.desired.wish = promotes(approved(B))).next();
    let rejected = Facts::uat()
        .runs(A)
        .wants(B)
        .but(|facts| {
            let error = FetchError::Rejected { reason: "it is no ZIP".to_owned() };
            facts.seen.artifact = ArtifactFacts::Failed { error, ago: std::time::Duration::ZERO, times: 1 };
        })
        .next();
    let unanswered = Facts::uat()
        .but(|facts| facts.desired.retry_limit = 1)
        .in_flight(A)
        .job_failed()
        .next()
        .reset("1")
        .but(|facts| facts.desired.requests.reconcile_at = Some("1".to_owned()))
        .space_cannot_be_seen(LookError::Unavailable("Konigle answered 503".to_owned()))
        .next();
    let odd = Facts::uat().but(|facts| facts.seen.account = Err(problem(Reason::SecretNotFound))).next();
    for (name, facts, look) in [
        ("rests", &rests, plain),
        ("rests_in_colour", &rests, Look { colour: true, width: Some(100) }),
        ("drifted", &drifted, plain),
        ("drifted_narrow", &drifted, Look { width: Some(60), ..plain }),
        ("unknown_outcome", &unknown, plain),
        ("downloading", &downloading, plain),
        ("running", &running, plain),
        ("failed", &failed, plain),
        ("suspended", &Facts::uat().suspended().next(), plain),
        ("awaiting_approval", &awaiting, plain),
        ("not_looked_at_yet", &Facts::uat(), plain),
        ("reset_at_503", &unanswered, plain),
        ("reset_of_unknown_outcome", &unknown.clone().reset("1"), plain),
        ("reset_without_secret", &odd.clone().reset("1"), plain),
        ("awaiting_source", &unmet_by_uat, plain),
        ("artifact_rejected", &rejected, plain),
    ] {
        insta::assert_snapshot!(name, screen(facts, look));
    }
}

/// What the line of this title says.
fn line(facts: &Facts, title: &str) -> Option<String> {
    let plain = Look { colour: false, width: None };
    screen(facts, plain).lines().find_map(|line| Some(line.strip_prefix(title)?.trim().to_owned()))
}

/// What the line of this title says in each of these states.
fn check(title: &str, table: Vec<(&str, Facts, &str)>) {
    for (what, facts, words) in table {
        assert_eq!(line(&facts, title).as_deref(), Some(words), "{what}");
    }
}

#[test]
fn a_person_is_named_where_a_person_must_act() {
    let uat = |change: fn(&mut crate::api::KonigleSpaceStatus)| {
        Facts::production().but(|facts| change(&mut facts.seen.source.as_mut().unwrap().status)).next()
    };
    let drift = |status: &mut crate::api::KonigleSpaceStatus| {
        let drifted = |word: &str| crate::api::Condition {
            condition_type: word.to_owned(),
            status: "True".to_owned(),
            reason: "Drifted".to_owned(),
            ..crate::api::Condition::default()
        };
        status.conditions = vec![drifted("Drifted"), drifted("Stalled"), drifted("Ready")];
    };
    let young = |facts: Facts| facts.but(|facts| facts.seen.created_at = Some(facts.seen.now));
    let gone = Facts::production().but(|facts| facts.seen.source.as_mut().unwrap().exists = false);
    let not_found = Facts::uat().but(|facts| {
        let error = FetchError::Unavailable { location: "ci.example.com".to_owned(), reason: "404".to_owned() };
        facts.seen.artifact = ArtifactFacts::Failed { error, ago: std::time::Duration::ZERO, times: 1 };
    });
    check(
        "Next",
        vec![
            (
                "approved is what uat does not run",
                Facts::production().but(|facts| facts.desired.wish = promotes(approved(B))).next(),
                "it waits until somebody deploys to shop-uat what is approved, or approves what it runs",
            ),
            (
                "uat drifted",
                uat(drift),
                "it waits until somebody has shop-uat deploy once more: `kubectl konigle reset shop-uat -n shop`",
            ),
            (
                "uat is not confirmed",
                uat(|status| status.release.as_mut().unwrap().attribution = Attribution::Assumed),
                "it waits until somebody has shop-uat deploy once more: `kubectl konigle reset shop-uat -n shop`",
            ),
            (
                "uat deploys",
                uat(|status| *status = Facts::uat().runs(A).in_flight(A).with_job(JobStatus::Running).next().status),
                "it goes on by itself with shop-uat: `kubectl konigle explain shop-uat -n shop` says what comes next there",
            ),
            (
                "uat is stalled",
                uat(|status| {
                    let failed = Facts::uat().but(|facts| facts.desired.retry_limit = 1).runs(A);
                    *status = failed.in_flight(A).job_failed().next().status;
                }),
                "it waits until somebody sees to shop-uat: `kubectl konigle explain shop-uat -n shop` says what it needs",
            ),
            (
                "no uat resource yet",
                young(gone).next(),
                "it waits until somebody creates shop-uat, or corrects spec.promotion.from.name",
            ),
            (
                "no artifact",
                not_found.next(),
                "it goes on by itself where its host was only away; else it waits until somebody publishes the artifact, or mends what the message names",
            ),
        ],
    );
}

/// The document says of each reason whether a person is needed; the words may say nothing else.
#[test]
fn the_words_of_each_wait_are_as_the_document_says() {
    let document = include_str!("../../../docs/conditions.md");
    let row = document.lines().find(|line| line.starts_with("| not True, with `Reconciling`")).unwrap();
    let production = &namespace(&Facts::production().next())[0];
    let mut looked_at = 0;
    for reason in Reason::ALL.iter().copied().filter(|reason| row.contains(&format!("[{}]", reason.word()))) {
        let section = document.split_once(&format!("### {}\n", reason.word())).unwrap().1;
        let way_out = section.split_once("**Way out:** ").unwrap().1;
        let closed = Closed { reason, opens_by_itself: false };
        let words = waits(production, reason, Some(&closed));
        assert_eq!(words.contains("somebody"), !way_out.starts_with("none is needed"), "{reason:?}: {words}");
        looked_at += 1;
    }
    assert_eq!(looked_at, 12, "{row}");
}

#[test]
fn what_runs_is_said_as_far_as_it_is_known() {
    let refused = Facts::uat().runs(A).ended(B, AttemptResult::Failed, "refused").but(|facts| {
        facts.status.history[0].job_id = None;
        facts.status.space = Some(facts.space().status.clone());
    });
    let unverified = Facts::production().runs(A).attributed(Attribution::Inferred).next().but(|facts| {
        let mut condition = facts.status.conditions[0].clone();
        "ContentVerified".clone_into(&mut condition.condition_type);
        "False".clone_into(&mut condition.status);
        facts.status.conditions.push(condition);
    });
    check(
        "Runs",
        vec![
            (
                "a failed job",
                Facts::uat().runs(A).wants(B).in_flight(B).job_failed().next(),
                "v1 aaaaaaaaaaaa before attempt 2, which failed; what runs after a failed deploy is Konigle's matter",
            ),
            ("a refused request", refused.next(), "v1 aaaaaaaaaaaa, for 60m, confirmed by its own job"),
            (
                "an unknown outcome",
                Facts::uat().runs(A).ended(B, AttemptResult::Unknown, "never seen").next(),
                "v1 aaaaaaaaaaaa before attempt 2, of which it is not known what became",
            ),
            (
                "content that is not verified",
                unverified,
                "not known; v1 aaaaaaaaaaaa was promoted, but uat did not stay as it was approved meanwhile",
            ),
        ],
    );
}

#[test]
fn nothing_is_promised_that_cannot_come() {
    let odd = |error| Facts::uat().space_cannot_be_seen(error).next();
    for facts in [odd(LookError::NotFound("no Space".to_owned())), odd(LookError::Ambiguous("two Spaces".to_owned()))] {
        assert_eq!(line(&facts, "Then"), None, "{:?}", facts.status.condition("Ready"));
    }
    let being_sent = Facts::uat().next();
    assert_eq!(line(&being_sent, "Then"), None, "what becomes of it is told by its answer");
}
