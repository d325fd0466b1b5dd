//! Somebody else deploys to the Space: what each policy makes of it.

use konigle_operator::api::{Attribution, Cause, RESET_AT};
use reqwest::Method;
use serde_json::json;

use crate::support::Result;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

/// A person's deployment, a minute after whatever was before, and over at once. One within five seconds of our own job
/// cannot be told from it.
async fn somebody_deploys(stage: &Stage) -> Result<()> {
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await.map(drop)
}

#[tokio::test]
async fn warn_says_so_and_a_reset_or_another_digest_replaces_it() -> Result<()> {
    let stage = Stage::open("warned").await?;
    stage.deployed("1.0").await?;
    somebody_deploys(&stage).await?;
    let looked = stage.look_now(SHOP).await?.status.unwrap_or_default();
    let stalled = looked.condition("Stalled").expect("a person must act");
    assert!(stalled.reason == "Drifted" && stalled.message.contains("reset-at"), "{stalled:?}");
    assert!(looked.is_true("Drifted") && !looked.is_true("Ready"));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2, "nothing is deployed over it");
    stage.wait_for_event(SHOP, "Drifted: ").await?;

    stage.namespace.annotate(SHOP, RESET_AT, "one").await?;
    let space = stage.namespace.wait_for(SHOP, "deployed again", is_ready).await?;
    let status = space.status.unwrap_or_default();
    assert!(status.condition("Drifted").is_none());
    assert_eq!(status.release.map(|release| release.attribution), Some(Attribution::Confirmed));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 3);

    somebody_deploys(&stage).await?;
    stage.look_now(SHOP).await?;
    stage.namespace.wait_for_reason(SHOP, "Drifted").await?;
    stage.deployed("2.0").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 5);
    stage.wait_for_event(SHOP, "DriftOverwritten: ").await?;
    Ok(())
}

#[tokio::test]
async fn ignore_leaves_it() -> Result<()> {
    let stage = Stage::open("ignored").await?;
    let mut wish = stage.wish("1.0")?;
    wish["driftPolicy"] = json!("Ignore");
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    somebody_deploys(&stage).await?;
    let looked = stage.look_now(SHOP).await?;
    assert!(is_ready(&looked));
    let status = looked.status.unwrap_or_default();
    assert!(status.is_true("Drifted") && status.condition("Stalled").is_none());
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn redeploy_acts_once_a_move_and_stops_when_it_loops() -> Result<()> {
    let stage = Stage::open("redeployed").await?;
    let mut wish = stage.wish("1.0")?;
    wish["driftPolicy"] = json!("Redeploy");
    wish["retry"] = json!({"limit": 1});
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    somebody_deploys(&stage).await?;
    stage.look_now(SHOP).await?;
    let digest = digest_of_wish(&wish);
    let again = stage
        .namespace
        .wait_for(SHOP, "deployed again", |space| {
            let newest = space.status.as_ref().and_then(|status| status.history.first());
            is_ready(space) && runs(space, &digest) && newest.is_some_and(|entry| entry.cause == Cause::Drift)
        })
        .await?;
    assert!(again.status.is_some_and(|status| status.condition("Drifted").is_none()));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 3);

    somebody_deploys(&stage).await?;
    stage.look_now(SHOP).await?;
    stage.namespace.wait_for_reason(SHOP, "DriftLoop").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 4, "not once more within the hour");
    stage.namespace.annotate(SHOP, RESET_AT, "one").await?;
    stage.namespace.wait_for(SHOP, "deployed again", is_ready).await?;
    Ok(())
}
