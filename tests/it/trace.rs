//! The trace checker itself: each property is broken once by a made-up trace and once, where that can be done from
//! outside, by a real run; secrets are found whatever they are written as.

mod rows;
mod story;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::api::{DynamicObject, Patch, PatchParams};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::support::artifacts::application;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, wait_for};
use crate::support::simulator::{TOKEN, UAT};
use crate::support::stage::{SHOP, Stage};
use crate::support::trace::history::{Shown, Trace, Version};
use crate::support::trace::recorder::missed;
use crate::support::trace::{Canary, Property, judge};
use crate::support::{Failure, Result, http_client};
use rows::rows;
use story::{
    deployed, lose_receipts, made_anew, made_anew_in_flight, neighbours, promoted, second_attempt, second_promotion,
};

#[test]
fn a_right_trace_breaks_nothing() {
    let mut in_time = made_anew_in_flight();
    // Nothing remembers the job: the process was another one.
    in_time.lives[0].ready_ms = Some(story::ms(17));
    for trace in [deployed(), promoted(), made_anew(), in_time, neighbours()] {
        let findings = judge(&trace);
        assert!(findings.is_empty(), "{findings:?}");
    }
    let mut retried = deployed();
    retried.jobs[0].outcome = Some("failed".to_owned());
    retried.versions.truncate(3);
    second_attempt(&mut retried, "Retry", 1);
    assert!(judge(&retried).is_empty(), "{:?}", judge(&retried));
}

/// Each request is ascribed to an attempt that may have sent it without another being wronged.
#[test]
fn promotions_without_a_receipt_break_nothing() {
    let without_receipts = |cause: &str, generation: i64, change: fn(&mut Trace)| {
        let mut trace = promoted();
        second_promotion(&mut trace, cause, generation);
        lose_receipts(&mut trace);
        change(&mut trace);
        trace
    };
    let mut once = promoted();
    lose_receipts(&mut once);
    let failed = |trace: &mut Trace| {
        trace.jobs[1].outcome = Some("failed".to_owned());
        trace.versions.retain(|version| version.status.release.is_none() || version.name == SHOP);
    };
    // The first attempt ended unsent just before the second one was made; neither the clocks nor the receipt tell whose
    // request it was.
    let unsent = |trace: &mut Trace| {
        trace.versions[7].seen_ms = story::ms(30) + 100.0;
        trace.versions[7].stored_ms = story::ms(30);
        trace.versions[4].seen_ms = story::ms(28);
        trace.versions[4].stored_ms = story::ms(28);
        trace.posts.remove(1);
        trace.jobs.remove(1);
    };
    for trace in [
        once,
        without_receipts("Retry", 1, failed),
        without_receipts("Reset", 1, |_| {}),
        without_receipts("Spec", 2, |_| {}),
        without_receipts("Reset", 1, unsent),
    ] {
        let mut findings = judge(&trace);
        // What nobody was told of cannot be Confirmed; that is not what is asked here.
        findings.retain(|finding| finding.property != Property::ConfirmedIsOurs);
        assert!(findings.is_empty(), "{findings:?}");
    }
}

#[test]
fn each_property_is_found_broken() {
    for (what, property, trace, break_it) in rows() {
        let mut trace = trace();
        break_it(&mut trace);
        let findings = judge(&trace);
        assert!(findings.iter().any(|finding| finding.property == property), "{what}: found only {findings:?}");
    }
}

/// The list after a gap shows what is stored now: the claim may have stood in a version before it.
#[test]
fn what_a_list_shows_after_a_gap_may_have_been_stored_before() {
    let missing = |shown: Shown| {
        let mut trace = deployed();
        trace.gaps.push("the claim's version is missing".to_owned());
        trace.versions.remove(1);
        trace.versions[1].stored_ms = trace.posts[0].arrived_ms + 1000.0;
        trace.versions[1].shown = shown;
        let findings = judge(&trace);
        findings.iter().any(|finding| finding.property == Property::ClaimBeforePost)
    };
    assert!(missing(Shown::Watched), "the watch shows each version as it is stored");
    assert!(!missing(Shown::Listed));
}

#[test]
fn attempts_after_a_reset_are_counted_anew() {
    let mut trace = story::deployed();
    trace.jobs[0].outcome = Some("failed".to_owned());
    story::second_attempt(&mut trace, "Retry", 1);
    trace.versions.iter_mut().for_each(|version| version.retry_limit = 1);
    let breaks_bounds = |trace: &Trace| judge(trace).iter().any(|finding| finding.property == Property::Bounds);
    assert!(breaks_bounds(&trace));
    let is_second = |version: &&mut Version| version.status.last_attempt == 2;
    let after = trace.versions.iter_mut().filter(is_second);
    after.for_each(|version| version.requests = vec!["cloud.konigle.com/reset-at=1".to_owned()]);
    assert!(!breaks_bounds(&trace));
}

/// Otherwise each release would make a request of before look like a new one.
#[test]
fn only_what_asks_for_a_release_is_a_request() {
    let read =
        |annotations: Value| Version::read(&json!({"metadata": {"annotations": annotations}}), 0.0, Shown::Watched);
    let version = read(json!({
        "cloud.konigle.com/reset-at": "1", "cloud.konigle.com/reconcile-at": "2", "cloud.konigle.com/released": "1 2 3",
    }));
    assert_eq!(version.requests, ["cloud.konigle.com/reset-at=1"]);
}

/// An API server that starts anew knows no older version, so the watch ends; that alone is no gap.
#[test]
fn a_watch_that_begins_anew_missed_only_what_changed() {
    let object = |uid: &str, version: &str| json!({"metadata": {"name": uid, "uid": uid, "resourceVersion": version}});
    let recorded = |uid, version, shown| Version::read(&object(uid, version), 0.0, shown);
    let recorded = [
        recorded("changed", "1", Shown::Watched),
        recorded("same", "2", Shown::Watched),
        recorded("same", "3", Shown::Watched),
        recorded("deleted", "4", Shown::Deleted),
        recorded("lost", "5", Shown::Watched),
    ];
    let listed = [("changed", "6"), ("same", "3"), ("new", "7")].map(|(uid, version)| object(uid, version));
    let listed: Vec<DynamicObject> = listed.map(|object| serde_json::from_value(object).expect("it is one")).into();
    assert_eq!(missed(&recorded, &listed), ["changed", "new", "lost"]);
    assert_eq!(missed(&[], &[]), [""; 0]);
}

#[test]
fn a_status_that_cannot_be_read_is_told() {
    let read = |status: Value| Version::read(&json!({"metadata": {}, "status": status}), 0.0, Shown::Watched).unread;
    assert_eq!(read(Value::Null), None);
    assert_eq!(read(json!({"observedGeneration": 1})), None);
    assert!(read(json!({"observedGeneration": "one"})).is_some());
}

#[test]
fn a_secret_is_found_whatever_it_is_written_as() {
    let secret = "s3cret/with+odd chars?";
    let canary = Canary::new("token", secret).expect("it is long enough");
    assert!(canary.found_in("nothing of the kind: s3cret").is_none());
    let mut texts = vec![
        format!("Authorization: Token {secret}"),
        "?token=s3cret%2Fwith%2Bodd%20chars%3F&page=2".to_owned(),
        "?token=s3cret%2Fwith%2Bodd+chars%3F".to_owned(),
    ];
    for before in 0..6 {
        for after in 0..3 {
            let text = format!("{}{secret}{}", &"ci:abc"[..before], &"xyz"[..after]);
            texts.push(format!("Basic {}", BASE64_STANDARD.encode(&text)));
            texts.push(base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(&text));
        }
    }
    for text in texts {
        assert!(canary.found_in(&text).is_some(), "{text}");
    }
}

/// A deploy that no operator sends.
async fn post(stage: &Stage, display_name: String, version: &str) -> Result<()> {
    let zip = Part::bytes(application(version)?).file_name("app.zip").mime_str("application/zip")?;
    let form = Form::new().text("display_name", display_name).part("zip_file", zip);
    let http = http_client()?;
    let url = format!("{}/cloud/api/v1/spaces/{UAT}/deploy", stage.simulator.base_url());
    let request = http.post(url).header("authorization", format!("Token {TOKEN}")).multipart(form);
    request.send().await?.error_for_status()?;
    Ok(())
}

#[tokio::test]
async fn a_request_that_is_sent_twice_is_found() -> Result<()> {
    let stage = Stage::open("seen-twice").await?;
    let why = "the test sends the operator's request once more";
    stage.allow(Property::OneJobPerAttempt, why);
    stage.allow(Property::OneJobPerWish, why);
    // Both want a claim of its own before each request.
    stage.allow(Property::ClaimBeforePost, why);
    stage.tolerate(Property::NothingAfterItsEnd, "it may come some seconds after the attempt was closed");
    stage.deployed("1.0").await?;
    let name = stage.simulator.ledger(UAT).await?[0]["display_name"].as_str().unwrap_or_default().to_owned();
    post(&stage, name, "1.0").await
}

#[tokio::test]
async fn a_request_that_was_never_claimed_is_found() -> Result<()> {
    let stage = Stage::open("unclaimed").await?;
    stage.allow(Property::ClaimBeforePost, "the test sends a request by itself");
    post(&stage, "shop/shop-uat #7 sha256:9f86d081884c [k3f2a9c1d]".to_owned(), "1.0").await
}

#[tokio::test]
async fn a_forged_status_is_found() -> Result<()> {
    let mut stage = Stage::open("forged").await?;
    stage.allow(Property::NumbersGrow, "the test takes back a number");
    stage.allow(Property::ConfirmedIsOurs, "the test names another digest");
    stage.allow(Property::ConditionsAgree, "the test adds both conditions");
    stage.deployed("1.0").await?;
    stage.operator.kill();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Forged"});
    let forged = json!({"status": {
        "lastAttempt": 0,
        "release": {"digest": "sha256:forged"},
        "conditions": [condition("Stalled"), condition("Reconciling")],
    }});
    stage.namespace.spaces().patch_status(SHOP, &PatchParams::default(), &Patch::Merge(&forged)).await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_in_a_status_is_found() -> Result<()> {
    let stage = Stage::open("leaked").await?;
    stage.allow(Property::SecretsStay, "the test writes the token into the status");
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let url = format!("https://{}", BASE64_STANDARD.encode(format!("user:{TOKEN}")));
    let leak = json!({"status": {"url": url}});
    stage.namespace.spaces().patch_status(SHOP, &PatchParams::default(), &Patch::Merge(&leak)).await?;
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_sent_for_an_artifact_is_found() -> Result<()> {
    let stage = Stage::open("sent").await?;
    stage.allow(Property::SecretsStay, "the test sends Konigle's token to the artifact server");
    let http = http_client()?;
    http.get(stage.artifacts.url("/shop.zip")).bearer_auth(TOKEN).send().await?;
    Ok(())
}

#[tokio::test]
async fn a_log_that_is_gone_is_found() -> Result<()> {
    let stage = Stage::open("no-log").await?;
    stage.allow(Property::AllIsSearched, "the test takes the log away");
    std::fs::remove_file(stage.operator.log())?;
    Ok(())
}

#[tokio::test]
async fn an_operator_that_gives_no_metrics_at_its_end_is_found() -> Result<()> {
    let mut stage = Stage::open("no-metrics").await?;
    stage.allow(Property::AllIsSearched, "the test has the operator stand still");
    stage.operator.process().signal("STOP")
}

#[tokio::test]
async fn an_operator_that_ends_by_itself_is_found() -> Result<()> {
    let mut stage = Stage::open("dead").await?;
    stage.allow(Property::NobodyDies, "the test ends the operator behind the harness's back");
    stage.allow(Property::AllIsSearched, "what is dead gives no metrics");
    let other = stage.operator.process().id();
    stage.operator.process().signal("KILL")?;
    let stat = format!("/proc/{other}/stat");
    wait_for("dead", async || Ok(std::fs::read_to_string(&stat)?.contains(") Z ").then_some(()))).await
}

#[tokio::test]
async fn a_simulator_that_ends_by_itself_is_found() -> Result<()> {
    let mut stage = Stage::open("no-ledger").await?;
    stage.allow(Property::TraceIsWhole, "the test ends the simulator without asking it what it did");
    stage.simulator.process().kill();
    Ok(())
}

#[tokio::test]
async fn what_the_simulator_is_told_to_forget_stays_in_the_trace() -> Result<()> {
    let mut stage = Stage::open("forgotten").await?;
    stage.allow(Property::ClaimBeforePost, "the test sends requests by itself");
    post(&stage, "never claimed [k00000001]".to_owned(), "1.0").await?;
    stage.simulator.control(reqwest::Method::DELETE, "requests", &Value::Null).await?;
    stage.simulator.start_again().await
}

#[tokio::test]
#[should_panic(expected = "it held, although the test says that it breaks it: for no reason")]
async fn a_suspended_property_that_holds_fails_the_test() {
    let control_plane = ControlPlane::shared().await.unwrap();
    let namespace = Namespace::create(control_plane, "suspended").await.unwrap();
    namespace.allow(Property::Bounds, "for no reason");
}

#[tokio::test]
#[should_panic(expected = "the test itself failed: for another reason")]
async fn findings_are_told_beside_the_failure_of_the_test() {
    async fn fails() -> Result<()> {
        let namespace = Namespace::create(ControlPlane::shared().await?, "failed").await?;
        namespace.allow(Property::Bounds, "for no reason");
        Err(Failure::new("for another reason"))
    }
    let _ = fails().await;
}
