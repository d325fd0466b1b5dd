//! Why a promotion is not started: each closed gate has its reason, nothing is posted, and mending it opens the gate.

use konigle_operator::api::RESET_AT;
use reqwest::Method;
use serde_json::json;

use super::{LIVE, approves, digest_of, says};
use crate::support::Result;
use crate::support::namespace::promotes;
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

#[tokio::test]
async fn an_approved_digest_that_uat_does_not_run_yet_is_waited_for() -> Result<()> {
    let stage = Stage::open("awaited").await?;
    stage.deployed("1.0").await?;
    let next = digest_of_wish(&stage.wish("2.0")?);
    stage.namespace.apply(LIVE, &approves(&next)).await?;
    let live = stage.namespace.wait_for_reason(LIVE, "AwaitingSource").await?;
    assert!(says(&live, "Ready", "Unknown", "AwaitingSource"), "{:?}", live.status);
    assert!(says(&live, "PromotionAllowed", "False", "AwaitingSource"), "{:?}", live.status);
    assert!(live.status.as_ref().is_some_and(|status| status.is_true("Reconciling")));
    assert!(stage.simulator.ledger(PRODUCTION).await?.is_empty());
    stage.deployed("2.0").await?;
    stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &next)).await?;
    Ok(())
}

#[tokio::test]
async fn what_uat_only_assumes_is_not_promoted_before_one_deploy() -> Result<()> {
    let stage = Stage::open("assumed").await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["adoptionPolicy"] = json!("AssumeCurrent");
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "Assumed").await?;
    let digest = digest_of_wish(&wish);
    stage.namespace.apply(LIVE, &approves(&digest)).await?;
    let live = stage.namespace.wait_for_reason(LIVE, "AwaitingSource").await?;
    assert!(says(&live, "PromotionAllowed", "False", "SourceNotConfirmed"), "{:?}", live.status);
    assert!(stage.simulator.ledger(PRODUCTION).await?.is_empty());
    stage.namespace.annotate(SHOP, RESET_AT, "one").await?;
    stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &digest)).await?;
    Ok(())
}

#[tokio::test]
async fn a_drifted_or_busy_uat_space_is_not_promoted_from() -> Result<()> {
    let stage = Stage::open("closed").await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    stage.look_now(SHOP).await?;
    stage.namespace.wait_for_reason(SHOP, "Drifted").await?;
    stage.namespace.apply(LIVE, &approves(&digest)).await?;
    let live = stage.namespace.wait_for_reason(LIVE, "AwaitingSource").await?;
    assert!(says(&live, "PromotionAllowed", "False", "SourceDrifted"), "{:?}", live.status);

    super::set_job_seconds(&stage, UAT, 600.0).await?;
    let next = stage.wish("2.0")?;
    stage.namespace.apply(SHOP, &next).await?;
    let job = stage.wait_for_ledger(UAT, 3).await?[2]["job"].clone();
    stage.namespace.apply(LIVE, &approves(&digest_of_wish(&next))).await?;
    stage.namespace.wait_for_reason(SHOP, "DeployRunning").await?;
    let live = stage.look_now(LIVE).await?;
    let allowed = live.status.as_ref().and_then(|status| status.condition("PromotionAllowed").cloned());
    assert!(allowed.is_some_and(|allowed| allowed.status == "False"), "{:?}", live.status);
    assert!(stage.simulator.ledger(PRODUCTION).await?.is_empty());
    stage.simulator.change_job(&job, &json!({"finish": "success"})).await?;
    let digest = digest_of_wish(&next);
    stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &digest)).await?;
    Ok(())
}

#[tokio::test]
async fn what_uat_runs_is_not_promoted_while_it_is_deployed_again() -> Result<()> {
    let stage = Stage::open("busy").await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    super::set_job_seconds(&stage, UAT, 600.0).await?;
    stage.namespace.annotate(SHOP, konigle_operator::api::REDEPLOY_AT, "one").await?;
    let job = stage.wait_for_ledger(UAT, 2).await?[1]["job"].clone();
    stage.namespace.apply(LIVE, &approves(&digest)).await?;
    let live = stage.namespace.wait_for_reason(LIVE, "AwaitingSource").await?;
    assert!(says(&live, "PromotionAllowed", "False", "SourceBusy"), "{:?}", live.status);
    assert!(stage.simulator.ledger(PRODUCTION).await?.is_empty());
    stage.simulator.change_job(&job, &json!({"finish": "success"})).await?;
    stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &digest)).await?;
    Ok(())
}

#[tokio::test]
async fn another_web_apps_production_space_is_never_promoted_to() -> Result<()> {
    let stage = Stage::open("foreign").await?;
    let other = "7301962442809349004";
    let webapp = json!({"name": "other", "uat": {"id": "7301962442809349003"}, "production": {"id": other}});
    let more = json!({"name": "demo", "computers": [{"name": "web-1", "webapps": [webapp]}]});
    stage.simulator.control(Method::POST, "tenants", &more).await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    let mut spec = approves(&digest);
    spec["space"]["id"] = json!(other);
    stage.namespace.apply(LIVE, &spec).await?;
    let live = stage.namespace.wait_for_reason(LIVE, "PairNotProven").await?;
    assert!(live.status.is_some_and(|status| status.is_true("Stalled") && status.attempt.is_none()));
    assert!(stage.simulator.ledger(other).await?.is_empty() && stage.simulator.ledger(PRODUCTION).await?.is_empty());
    assert!(stage.namespace.spaces().get(SHOP).await?.status.is_some_and(|status| status.held_by.is_none()));
    Ok(())
}

#[tokio::test]
async fn without_the_web_app_in_the_replies_the_list_proves_the_pair() -> Result<()> {
    let mut stage = Stage::open("listed").await?;
    stage.simulator.reading("webapp_in_detail", "no").await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    // By ids alone nothing tells which web app they belong to.
    stage.namespace.apply("by-id", &approves(&digest)).await?;
    let live = stage.namespace.wait_for_reason("by-id", "PairNotProven").await?;
    assert!(live.status.is_some_and(|status| status.is_true("Stalled")));
    stage.namespace.spaces().delete("by-id", &kube::api::DeleteParams::default()).await?;

    // Which web app was told once, while the names were resolved, and is not told again: neither by later looks nor to
    // an operator that was started since.
    let names = json!({"computer": "web-1", "webapp": "shop", "type": "production"});
    let mut waiting = promotes(PRODUCTION, SHOP);
    waiting["space"] = names.clone();
    stage.namespace.apply(LIVE, &waiting).await?;
    stage.namespace.wait_for_reason(LIVE, "AwaitingApproval").await?;
    stage.look_now(LIVE).await?;
    stage.restart_operator().await?;
    let mut spec = approves(&digest);
    spec["space"] = names;
    stage.namespace.apply(LIVE, &spec).await?;
    stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &digest)).await?;
    assert_eq!(stage.simulator.ledger(PRODUCTION).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_production_space_that_runs_something_is_taken_over_without_a_promotion() -> Result<()> {
    let stage = Stage::open("taken-over").await?;
    let digest = digest_of(&stage.deployed("1.0").await?);
    let before = json!({"last_deployed_at": "2026-11-24T08:29:00Z", "last_deployment_status": "success"});
    stage.simulator.change_space(PRODUCTION, &before).await?;
    stage.namespace.apply(LIVE, &approves(&digest)).await?;
    let live = stage.namespace.wait_for_reason(LIVE, "Assumed").await?;
    assert!(is_ready(&live) && says(&live, "ContentVerified", "Unknown", "AdoptedWithoutJob"), "{:?}", live.status);
    assert!(stage.simulator.ledger(PRODUCTION).await?.is_empty());
    let mut automatic = promotes(PRODUCTION, SHOP);
    automatic["promotion"]["policy"] = json!("Automatic");
    stage.namespace.apply(LIVE, &automatic).await?;
    let next = digest_of(&stage.deployed("2.0").await?);
    let live = stage.namespace.wait_for(LIVE, "promoted", |space| is_ready(space) && runs(space, &next)).await?;
    assert!(says(&live, "ContentVerified", "True", "SourceUnchanged"), "{:?}", live.status);
    Ok(())
}
