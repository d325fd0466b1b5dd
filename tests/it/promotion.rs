//! A production Space gets what its uat Space runs: who decides, what keeps the uat Space as it is meanwhile, and what is
//! said when it did not stay so. Why a promotion is not started stands in `promotion/gates.rs`.

mod gates;

use std::time::Duration;

use konigle_operator::api::{AttemptResult, AttemptType, Attribution, KonigleSpace, RESET_AT};
use kube::ResourceExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Result;
use crate::support::namespace::{promotes, wait_for};
use crate::support::proxy::Matcher;
use crate::support::recording::Recording;
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

const LIVE: &str = "shop-production";

/// The promotion of exactly this digest.
fn approves(digest: &str) -> Value {
    let mut spec = promotes(PRODUCTION, SHOP);
    spec["promotion"]["approvedDigest"] = json!(digest);
    spec
}

fn condition(space: &KonigleSpace, word: &str) -> Option<(String, String)> {
    let condition = space.status.as_ref()?.condition(word)?;
    Some((condition.status.clone(), condition.reason.clone()))
}

fn says(space: &KonigleSpace, word: &str, status: &str, reason: &str) -> bool {
    condition(space, word) == Some((status.to_owned(), reason.to_owned()))
}

fn digest_of(space: &KonigleSpace) -> String {
    space.status.as_ref().and_then(|status| status.release.clone()).map(|release| release.digest).unwrap_or_default()
}

/// Has the jobs of this Space take so long.
async fn set_job_seconds(stage: &Stage, space: &str, seconds: f64) -> Result<()> {
    stage.simulator.change_space(space, &json!({"job": {"seconds": seconds}})).await.map(drop)
}

#[tokio::test]
async fn an_approved_digest_is_promoted_once() -> Result<()> {
    let mut stage = Stage::open("approved").await?;
    stage.namespace.apply(LIVE, &promotes(PRODUCTION, SHOP)).await?;
    // Made a moment before its uat resource, it is never Stalled.
    stage.namespace.wait_for_reason(LIVE, "AwaitingSource").await?;
    let uat = stage.deployed("1.0").await?;
    let told = |space: &KonigleSpace| says(space, "PromotionAllowed", "False", "AwaitingApproval");
    let waiting = stage.namespace.wait_for(LIVE, "told", told).await?;
    assert!(says(&waiting, "Ready", "True", "AwaitingApproval"), "nothing was asked for: {:?}", waiting.status);
    assert!(stage.simulator.ledger(PRODUCTION).await?.is_empty());

    let recording = Recording::start(&stage.namespace).await?;
    let digest = digest_of(&uat);
    stage.namespace.apply(LIVE, &approves(&digest)).await?;
    let live = stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &digest)).await?;
    assert!(says(&live, "Ready", "True", "Succeeded"), "{:?}", live.status);
    assert!(says(&live, "ContentVerified", "True", "SourceUnchanged"), "{:?}", live.status);
    let status = live.status.clone().unwrap_or_default();
    assert_eq!(status.release.map(|release| release.attribution), Some(Attribution::Confirmed));
    assert_eq!(status.history.len(), 1);
    assert_eq!(
        (status.history[0].attempt_type, status.history[0].result),
        (AttemptType::Promote, AttemptResult::Succeeded)
    );
    let ledger = stage.simulator.ledger(PRODUCTION).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert_eq!((&ledger[0]["kind"], &ledger[0]["source"]), (&json!("promote"), &json!(UAT)));
    assert_eq!(digest, format!("sha256:{}", ledger[0]["sha256"].as_str().unwrap_or_default()));

    let started = stage.wait_for_event(LIVE, "PromotionStarted: ").await?;
    assert!(started.contains("asked for by test at 20"), "{started}");
    assert!(stage.events(LIVE).await?.len() <= 6);
    stage
        .namespace
        .wait_for(SHOP, "let go", |space| space.status.as_ref().is_some_and(|it| it.held_by.is_none()))
        .await?;
    let held: Vec<_> = recording.statuses(SHOP).await?.into_iter().filter_map(|status| status.held_by).collect();
    assert!(held.first().is_some_and(|hold| hold.name == LIVE && Some(&hold.uid) == live.uid().as_ref()), "{held:?}");

    stage.restart_operator().await?;
    stage.look_now(LIVE).await?;
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 1);
    // What uat runs next is not promoted before it is approved.
    stage.deployed("2.0").await?;
    let live =
        stage.namespace.wait_for(LIVE, "told", |space| says(space, "PromotionAllowed", "False", "AwaitingApproval"));
    assert!(is_ready(&live.await?), "what was approved runs");
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn automatically_each_confirmed_digest_is_promoted_once() -> Result<()> {
    let stage = Stage::open("automatic").await?;
    let mut spec = promotes(PRODUCTION, SHOP);
    spec["promotion"]["policy"] = json!("Automatic");
    stage.namespace.apply(LIVE, &spec).await?;
    for (promoted, version) in ["1.0", "1.1"].into_iter().enumerate() {
        let digest = digest_of(&stage.deployed(version).await?);
        stage.namespace.wait_for(LIVE, version, |space| is_ready(space) && runs(space, &digest)).await?;
        assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), promoted + 1, "{version}");
    }
    Ok(())
}

#[tokio::test]
async fn a_promotion_holds_its_uat_space_and_then_lets_it_go() -> Result<()> {
    let stage = Stage::open("hold").await?;
    set_job_seconds(&stage, PRODUCTION, 6.0).await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    stage.namespace.apply(LIVE, &approves(&digest)).await?;
    let job = stage.wait_for_ledger(PRODUCTION, 1).await?[0]["job"].clone();
    let next = stage.wish("2.0")?;
    stage.namespace.apply(SHOP, &next).await?;
    let held = stage.namespace.wait_for_reason(SHOP, "HeldByPromotion").await?;
    assert!(held.status.as_ref().is_some_and(|status| status.is_true("Reconciling") && status.held_by.is_some()));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1, "it waits");

    let next = digest_of_wish(&next);
    let uat = stage.namespace.wait_for(SHOP, "deployed", |space| is_ready(space) && runs(space, &next)).await?;
    assert!(uat.status.is_some_and(|status| status.held_by.is_none()));
    let live = stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &digest)).await?;
    assert!(says(&live, "ContentVerified", "True", "SourceUnchanged"), "{:?}", live.status);
    let ended = stage.simulator.job(&job).await?["completed_at"].clone();
    let ledger = stage.simulator.ledger(UAT).await?;
    assert!(ledger.len() == 2 && ledger[1]["time"].as_str() > ended.as_str(), "{ledger:?} and {ended}");
    Ok(())
}

#[tokio::test]
async fn a_person_who_deploys_to_uat_meanwhile_leaves_the_content_unverified() -> Result<()> {
    let stage = Stage::open("unverified").await?;
    set_job_seconds(&stage, PRODUCTION, 6.0).await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    // A person's deployment within five seconds of our own job cannot be told from it.
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    stage.namespace.apply(LIVE, &approves(&digest)).await?;
    stage.wait_for_ledger(PRODUCTION, 1).await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    let live = stage.namespace.wait_for_reason(LIVE, "ContentNotVerified").await?;
    assert!(live.status.as_ref().is_some_and(|status| status.is_true("Stalled")));
    assert!(says(&live, "ContentVerified", "False", "SourceChanged"), "{:?}", live.status);
    stage.look_now(LIVE).await?;
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 1, "no further step by itself");

    // The way out: one deploy of ours to uat, and the promotion once more.
    stage.namespace.annotate(SHOP, RESET_AT, "one").await?;
    wait_for("uat deployed again", async || Ok((stage.simulator.ledger(UAT).await?.len() == 3).then_some(()))).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    stage.namespace.annotate(LIVE, RESET_AT, "one").await?;
    let live = stage.namespace.wait_for_reason(LIVE, "Succeeded").await?;
    assert!(says(&live, "ContentVerified", "True", "SourceUnchanged"), "{:?}", live.status);
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_promotion_whose_operator_dies_is_found_by_its_effect() -> Result<()> {
    let mut stage = Stage::open("promoting").await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    let delay = json!({"operation": "promote", "when": "after", "action": {"delay_ms": 600_000}});
    stage.simulator.fault(&delay).await?;
    let mut spec = approves(&digest);
    spec["timeout"] = json!("5s");
    stage.namespace.apply(LIVE, &spec).await?;
    stage.wait_for_ledger(PRODUCTION, 1).await?;
    stage.operator.kill();
    stage.operator.start_again().await?;
    let live = stage.namespace.wait_for(LIVE, "found", |space| is_ready(space) && runs(space, &digest)).await?;
    let release = live.status.and_then(|status| status.release).expect("it is recorded");
    assert_eq!(release.attribution, Attribution::Inferred);
    stage
        .namespace
        .wait_for(SHOP, "let go", |space| space.status.as_ref().is_some_and(|it| it.held_by.is_none()))
        .await?;
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_promotion_that_may_have_been_sent_is_left_to_a_person_and_lets_go_of_uat() -> Result<()> {
    let mut stage = Stage::open("undecided").await?;
    let proxy = stage.put_proxy_before_konigle().await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    let gate = proxy.hold(Matcher::new(Method::POST, "/promote"));
    let mut spec = approves(&digest);
    spec["timeout"] = json!("5s");
    stage.namespace.apply(LIVE, &spec).await?;
    gate.arrived().await?;
    stage.operator.kill();
    proxy.clear();
    stage.operator.start_again().await?;
    let mut next = stage.wish("2.0")?;
    next["timeout"] = json!("5s");
    stage.namespace.apply(SHOP, &next).await?;
    stage.namespace.wait_for_reason(SHOP, "HeldByPromotion").await?;
    let limit = Duration::from_mins(3);
    let undecided = |space: &KonigleSpace| says(space, "Ready", "False", "OutcomeUnknown");
    let live = stage.namespace.wait_longer_for(LIVE, "undecided", limit, undecided).await?;
    assert!(stage.simulator.ledger(PRODUCTION).await?.is_empty());
    let next = digest_of_wish(&next);
    let deployed = |space: &KonigleSpace| is_ready(space) && runs(space, &next);
    stage.namespace.wait_longer_for(SHOP, "deployed", limit, deployed).await?;
    stage.wait_for_event(SHOP, "HoldReleased: ").await?;

    let nonce = live.status.and_then(|status| status.attempt).map(|attempt| attempt.nonce).unwrap_or_default();
    stage.namespace.annotate(LIVE, konigle_operator::api::RESOLVE_ATTEMPT, &format!("{nonce}=failed")).await?;
    stage.namespace.apply(LIVE, &approves(&next)).await?;
    stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &next)).await?;
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 1);
    Ok(())
}
