//! Each kind of state, with what comes next; and that it is the planner's own answer, for any facts.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::{Attribution, DriftPolicy, RESET_AT, UnknownOutcomePolicy};
use crate::artifact::FetchError;
use crate::desired::Approval;
use crate::konigle::Answer;
use crate::observation::LookError;
use crate::origin::{FluxOrigin, HttpOrigin, OciOrigin, OciReference, Origin};
use crate::plugin::screen::Look;
use crate::plugin::status::Shape;
use crate::plugin::{explain, progress, status};
use crate::test_facts::*;

/// The resource from which these facts could have come.
pub(crate) fn resource(facts: &Facts) -> KonigleSpace {
    let desired = &facts.desired;
    let seconds = |duration: Duration| format!("{}s", duration.as_secs());
    let mut spec = json!({
        "space": desired.space,
        "credentials": {"secretRef": {"name": desired.secret}},
        "interval": seconds(desired.interval),
        "timeout": seconds(desired.timeout),
        "retry": {"limit": desired.retry_limit},
        "driftPolicy": desired.drift_policy,
        "adoptionPolicy": desired.adoption_policy,
        "unknownOutcomePolicy": desired.unknown_outcome_policy,
        "suspend": desired.suspended,
        "historyLimit": desired.history_limit,
    });
    match &desired.wish {
        Wish::Deploy(Origin::Http(HttpOrigin { url, digest, revision, secret: _ })) => {
            spec["source"] = json!({"http": {"url": url.as_str(), "digest": digest.to_string(), "revision": revision}});
        }
        Wish::Deploy(Origin::Oci(OciOrigin { repository, reference: OciReference::Tag(tag), .. })) => {
            spec["source"] = json!({"oci": {"repository": repository.to_string(), "tag": tag}});
        }
        Wish::Deploy(Origin::Flux(FluxOrigin { kind, name, path })) => {
            spec["source"] = json!({"sourceRef": {"kind": kind, "name": name, "path": path}});
        }
        Wish::Deploy(origin) => panic!("{origin} is not among the facts"),
        Wish::Promote { from, approval } => {
            let mut promotion = json!({"from": {"name": from}});
            match approval {
                Approval::Automatic => promotion["policy"] = json!("Automatic"),
                Approval::Manual(None) => {}
                Approval::Manual(Some(digest)) => promotion["approvedDigest"] = json!(digest.to_string()),
            }
            spec["promotion"] = promotion;
        }
    }
    let never = facts.status.conditions.is_empty();
    let mut space = space_of(&facts.seen.name, &facts.seen.uid, &spec);
    space.metadata.generation = Some(desired.generation);
    space.status = (!never).then(|| facts.status.clone());
    for (name, value) in [
        (crate::api::RECONCILE_AT, &desired.requests.reconcile_at),
        (RESET_AT, &desired.requests.reset_at),
        (crate::api::REDEPLOY_AT, &desired.requests.redeploy_at),
        (crate::api::RESOLVE_ATTEMPT, &desired.requests.resolve_attempt),
    ] {
        if let Some(value) = value {
            space.annotations_mut().insert(name.to_owned(), value.clone());
        }
    }
    if let Some(created_at) = facts.seen.created_at {
        space.metadata.creation_timestamp = Some(Time(created_at));
    }
    space
}

fn space_of(name: &str, uid: &str, spec: &Value) -> KonigleSpace {
    serde_json::from_value(json!({
        "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
        "metadata": {"name": name, "namespace": "shop", "uid": uid, "generation": 1, "creationTimestamp": EARLIER},
        "spec": spec,
    }))
    .unwrap()
}

/// The namespace of these facts: the resource, the uat resource of a promotion, and those that promote from it.
pub(crate) fn namespace(facts: &Facts) -> Vec<KonigleSpace> {
    let uat = facts.seen.source.as_ref().filter(|source| source.exists).map(|source| {
        let mut uat = resource(&Facts::uat());
        uat.metadata.uid = Some(source.uid.clone());
        uat.status = Some(source.status.clone());
        uat.metadata.deletion_timestamp =
            source.deleting.then(|| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        uat
    });
    let promoting = facts.seen.promotions.iter().map(|name| {
        let mut production = resource(&Facts::production().in_flight(A).next());
        production.metadata.name = Some(name.clone());
        production.metadata.uid = Some("other-uid".to_owned());
        production
    });
    [resource(facts)].into_iter().chain(uat).chain(promoting).collect()
}

/// What comes next after the operator's pass over these facts.
pub(crate) fn outlook_of(facts: &Facts) -> Outlook {
    let all = namespace(facts);
    outlook(&all[0], &all, (facts.seen.now, facts.seen.settle))
}

/// The state after the operator's pass; what the plugin says of it: next, then, and after a resume.
type Row = (&'static str, Facts, &'static str, &'static str, &'static str);

fn check(table: Vec<Row>) {
    for (state, facts, next, then, resumed) in table {
        let outlook = outlook_of(&facts);
        let told = |step: &Option<Step>| step.as_ref().map(words).unwrap_or_default();
        assert_eq!(words(&outlook.step), next, "{state}: next");
        assert_eq!(told(&outlook.afterwards), then, "{state}: then");
        assert_eq!(told(&outlook.resumed), resumed, "{state}: after a resume");
    }
}

fn job_is(word: &str) -> JobStatus {
    JobStatus::from(word.to_owned())
}

#[test]
fn what_comes_next_of_a_wish() {
    check(vec![
        ("not looked at yet", Facts::uat(), "Wait Progressing", "", ""),
        ("the wish is met", Facts::uat().runs(A).next(), "Rest Succeeded", "", ""),
        ("assumed", Facts::uat().runs(A).attributed(Attribution::Assumed).next(), "Rest Assumed", "", ""),
        ("another digest was written since", Facts::uat().runs(A).next().wants(B).but(newer), "Deploy Spec", "", ""),
        (
            "a reset was asked for since",
            Facts::uat().runs(A).shows(ELSEWHEN, "success").next().reset("1"),
            "Deploy Reset",
            "",
            "",
        ),
        ("a redeploy was asked for since", Facts::uat().runs(A).next().redeploy("1"), "Deploy Person", "", ""),
        (
            "it is downloaded",
            Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Downloading).next(),
            "Fetch",
            "Deploy Spec",
            "",
        ),
        ("the request is being sent", Facts::uat().next(), "Wait DeployRunning", "", ""),
    ]);
}

#[test]
fn what_comes_next_of_an_attempt() {
    check(vec![
        ("its job runs", Facts::uat().in_flight(A).with_job(job_is("running")).next(), "Wait DeployRunning", "", ""),
        (
            "its job runs for too long",
            Facts::uat().in_flight(A).with_job(job_is("running")).next().later(Duration::from_mins(20)),
            "Stall JobOverdue",
            "",
            "",
        ),
        ("the outcome is unknown", Facts::uat().in_flight(A).next(), "Wait ResolvingOutcome", "", ""),
        (
            "the outcome stays unknown",
            Facts::uat()
                .but(|facts| facts.desired.unknown_outcome_policy = UnknownOutcomePolicy::Hold)
                .in_flight(A)
                .known(|known| known.seen_for = LONG)
                .next(),
            "Stall OutcomeUnknown",
            "",
            "",
        ),
        (
            "it failed, and is tried again",
            Facts::uat().runs(A).wants(B).in_flight(B).job_failed().next(),
            "Wait ProgressingWithRetry",
            "",
            "",
        ),
        (
            "it failed, and the time to try again has come",
            Facts::uat().runs(A).wants(B).in_flight(B).job_failed().next().later(Duration::from_mins(1)),
            "Deploy Retry",
            "",
            "",
        ),
        (
            "its attempts are used up",
            Facts::uat().but(|facts| facts.desired.retry_limit = 1).in_flight(A).job_failed().next(),
            "Stall RetriesExceeded",
            "",
            "",
        ),
    ]);
}

#[test]
fn what_comes_next_of_what_is_in_the_way() {
    let odd = |facts: Facts| facts.but(|facts| facts.seen.account = Err(problem(Reason::SecretNotFound)));
    let unavailable = || LookError::Unavailable("Konigle answered 502".to_owned());
    check(vec![
        ("somebody else deployed", Facts::uat().runs(A).shows(ELSEWHEN, "success").next(), "Stall Drifted", "", ""),
        (
            "somebody else deployed, and that is ignored",
            Facts::uat().runs(A).drift_policy(DriftPolicy::Ignore).shows(ELSEWHEN, "success").next(),
            "Rest Succeeded",
            "",
            "",
        ),
        ("suspended, and not met", Facts::uat().suspended().next(), "Suspend", "", "Deploy Spec"),
        ("suspended, and met", Facts::uat().runs(A).suspended().next(), "Rest Succeeded", "", "Rest Succeeded"),
        ("the Space is stopped", Facts::uat().runs(A).space_is("stopped").next(), "Stall SpaceStopped", "", ""),
        ("no Secret", odd(Facts::uat().runs(A).next()).next(), "Stall SecretNotFound", "Rest Succeeded", ""),
        ("no Secret from the first", odd(Facts::uat()).next(), "Stall SecretNotFound", "Deploy Spec", ""),
        (
            "Konigle does not answer for long",
            Facts::uat()
                .runs(A)
                .next()
                .space_cannot_be_seen(unavailable())
                .but(|facts| facts.seen.failing_for = LONG)
                .next(),
            "Unreachable",
            "Rest Succeeded",
            "",
        ),
        (
            "the spec is of no use",
            Facts::uat().next().but(|facts| facts.desired.interval = LONG * 24).but(newer),
            "Stall InvalidSpec",
            "",
            "",
        ),
    ]);
}

/// How often it failed is not in the status: what is said is the longest that it can take.
#[test]
fn what_could_not_be_got_is_said_to_be_tried_again_in_time() {
    let away = |last: Option<&str>| OriginFacts::Unnamed {
        problem: Problem { reason: Reason::ArtifactUnavailable, message: "503".to_owned() },
        last: last.map(named_digest),
        looking: false,
    };
    let hourly = |facts: Facts| facts.but(|facts| facts.desired.interval = Duration::from_hours(1));
    let error = FetchError::Unavailable { location: "ci.example.com/shop.zip".to_owned(), reason: "404".to_owned() };
    let failed = ArtifactFacts::Failed { error, ago: Duration::ZERO, times: 1 };
    let rows: Vec<(&str, Facts, u64)> = vec![
        ("a tag that never named anything", Facts::uat().follows_tag(away(None)), 5),
        ("a file", Facts::uat().but(|facts| facts.seen.artifact = failed), 5),
        ("a tag whose digest runs", hourly(Facts::uat().runs(A).follows_tag(away(Some(A)))), 5),
        ("one that can be seen", hourly(Facts::uat().runs(A).follows_tag(OriginFacts::Named(named_digest(A)))), 60),
    ];
    for (what, facts, minutes) in rows {
        assert_eq!(outlook_of(&facts.next()).look_again, Some(Duration::from_mins(minutes)), "{what}");
    }
}

#[test]
fn what_comes_next_of_a_promotion() {
    let gone = |facts: &mut Facts| facts.seen.source.as_mut().unwrap().exists = false;
    check(vec![
        (
            "nothing is approved",
            Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Manual(None))).next(),
            "Rest AwaitingApproval",
            "",
            "",
        ),
        (
            "approved since",
            Facts::production()
                .but(|facts| facts.desired.wish = promotes(Approval::Manual(None)))
                .next()
                .but(|facts| facts.desired.wish = promotes(approved(A)))
                .but(newer),
            "Promote Spec",
            "",
            "",
        ),
        (
            "approved is what uat does not run",
            Facts::production().but(|facts| facts.desired.wish = promotes(approved(B))).next(),
            "Wait AwaitingSource",
            "",
            "",
        ),
        ("no uat resource", Facts::production().but(gone).next(), "Stall SourceNotFound", "", ""),
        ("promoted, and checked", Facts::production().runs(A).next(), "Rest Succeeded", "", ""),
        (
            "a promotion whose answer is lost",
            Facts::production().in_flight(A).answered(Answer::Unknown("reset".to_owned())).next(),
            "Wait ResolvingOutcome",
            "",
            "",
        ),
    ]);
}

/// Every row of the planner's own tests: right after the operator's pass, the plugin says what the operator said.
#[test]
fn it_says_what_the_operator_said_of_every_row_of_the_planner() {
    let mut wrong = Vec::new();
    for (facts, step, because) in crate::plan::tests::all_rows() {
        let after = facts.next();
        let said = after.status.condition("Ready").map(|ready| ready.reason.clone()).unwrap_or_default();
        let outlook = outlook_of(&after);
        let told = reason(&outlook.step).map_or_else(|| words(&outlook.step), |reason| reason.word().to_owned());
        if told != said {
            wrong.push(format!("{because} ({step}): the operator said {said}, the plugin {told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An edit that the operator has not seen yet.
fn newer(facts: &mut Facts) {
    facts.desired.generation += 1;
}

#[test]
fn an_unknown_outcome_names_the_commands_and_the_end_of_the_wait() {
    let open = outlook_of(&Facts::uat().in_flight(A).next().but(newer)).unresolved.unwrap();
    let command =
        "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/resolve-attempt=k3f2a9c1d";
    assert_eq!(open.commands, ["succeeded", "failed", "retry"].map(|answer| format!("{command}={answer}")));
    let wait = time_after(open.until.as_deref().unwrap());
    assert!(wait > Duration::from_mins(15) && wait < Duration::from_mins(30), "{wait:?}");
    let (facts, longer) = (Facts::uat().in_flight(A).next().but(newer), Duration::from_mins(10));
    let all = namespace(&facts);
    let open = outlook(&all[0], &all, (facts.seen.now, SETTLE + longer)).unresolved.unwrap();
    assert_eq!(time_after(open.until.as_deref().unwrap()), wait + longer, "by the operator's own flag");
    let Step::Wait(said) = outlook_of(&Facts::uat().in_flight(A).next()).step else { panic!("it waits") };
    assert!(said.message.contains("The wait ends at 2026-11-24T09:"), "the operator says it: {}", said.message);
    let overdue = Facts::uat().in_flight(A).with_job(JobStatus::Running).next().later(Duration::from_mins(20));
    assert_eq!(outlook_of(&overdue).unresolved.unwrap().until, None, "no evidence is awaited");
    assert_eq!(outlook_of(&Facts::uat().in_flight(A).with_job(JobStatus::Running).next()).unresolved, None);
}

fn time_after(text: &str) -> Duration {
    Duration::from_secs(u64::try_from(seconds_after_now(text)).unwrap())
}

#[test]
fn a_promotion_from_here_is_seen_and_waited_for() {
    let uat = Facts::uat().runs(A).next().wants(B).but(newer);
    let mut production = resource(&Facts::production().in_flight(A).next());
    production.metadata.uid = Some("other-uid".to_owned());
    let all = [resource(&uat), production];
    assert_eq!(words(&outlook(&all[0], &all, (now(), SETTLE)).step), "Wait HeldByPromotion");
    assert_eq!(words(&outlook(&all[0], &all[..1], (now(), SETTLE)).step), "Deploy Spec");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Forged statuses too: whoever may write one must not break or steer the terminal of whoever reads it.
    #[test]
    fn any_status_can_be_shown(facts in crate::plan::properties::facts(), forged in "[\\x00-\\x1f\\x7f\\u{9b}a]{0,9}") {
        let mut space = resource(&facts);
        for condition in space.status.iter_mut().flat_map(|status| &mut status.conditions) {
            condition.message.push_str(&forged);
        }
        let all = [space.clone()];
        let outlook = outlook(&space, &all, (facts.seen.now, facts.seen.settle));
        for width in [None, Some(1), Some(40), Some(200)] {
            let look = Look { colour: false, width };
            let screens = [
                explain::render(&space, &outlook, facts.seen.now, look),
                status::render(&all, Shape { wide: true, namespaces: true }, facts.seen.now, look),
                progress::view(&[&space], facts.seen.now, look, 9).join("\n"),
            ];
            for screen in screens {
                prop_assert!(!screen.contains(|character: char| character.is_control() && character != '\n'), "{screen:?}");
            }
        }
        let mut teller = progress::Teller::default();
        let first = teller.news(&space);
        prop_assert!(!first.is_empty(), "something is to be said of each");
        prop_assert_eq!(teller.news(&space), Vec::new(), "and once");
    }
}
