//! What people ask for by annotation, and `spec.suspend`: each request is answered once.

use konigle_operator::api::{RECONCILE_AT, REDEPLOY_AT, RESET_AT};
use kube::ResourceExt;
use serde_json::json;

use crate::support::Result;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, is_ready};

#[tokio::test]
async fn each_annotation_is_acted_on_once() -> Result<()> {
    let mut stage = Stage::open("annotated").await?;
    stage.deployed("1.0").await?;

    let looks = stage.asked(UAT, "get_space").await?;
    stage.namespace.annotate(SHOP, RECONCILE_AT, "first").await?;
    let looked = stage
        .namespace
        .wait_for(SHOP, "looked at", |space| {
            space.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.as_deref() == Some("first"))
        })
        .await?;
    assert_eq!(stage.asked(UAT, "get_space").await?, looks + 1, "one look");
    assert!(is_ready(&looked));

    // What runs is certain: there is nothing to reset.
    stage.namespace.annotate(SHOP, RESET_AT, "first").await?;
    stage
        .namespace
        .wait_for(SHOP, "reset", |space| {
            space.status.as_ref().is_some_and(|status| status.last_handled_reset_at.as_deref() == Some("first"))
        })
        .await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1, "a reset of what is confirmed deploys nothing");
    let idle = stage.wait_for_event(SHOP, "NothingToReset: ").await?;
    assert!(idle.contains("is confirmed to run") && idle.contains(REDEPLOY_AT), "{idle}");

    stage.namespace.annotate(SHOP, REDEPLOY_AT, "first").await?;
    let again = stage
        .namespace
        .wait_for(SHOP, "deployed again", |space| {
            let status = space.status.clone().unwrap_or_default();
            status.last_handled_redeploy_at.as_deref() == Some("first") && status.history.len() == 2 && is_ready(space)
        })
        .await?;
    stage.restart_operator().await?;
    let now = stage.look_now(SHOP).await?;
    assert!(is_ready(&now) && again.status.and_then(|status| status.attempt).is_none());
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    assert_eq!(ledger[0]["sha256"], ledger[1]["sha256"]);
    assert!(ledger[1]["display_name"].as_str().is_some_and(|name| name.contains(" #2 ")), "{}", ledger[1]);
    Ok(())
}

#[tokio::test]
async fn a_suspended_space_is_looked_at_and_not_written_to() -> Result<()> {
    let stage = Stage::open("suspended").await?;
    let mut wish = stage.wish("1.0")?;
    wish["suspend"] = json!(true);
    stage.namespace.apply(SHOP, &wish).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "Suspended").await?;
    let status = space.status.unwrap_or_default();
    assert_eq!(status.condition("Ready").map(|ready| ready.status.as_str()), Some("False"));
    assert!(
        status.space.is_some() && status.condition("Stalled").is_none() && status.condition("Reconciling").is_none()
    );
    stage.look_now(SHOP).await?;
    assert!(stage.simulator.ledger(UAT).await?.is_empty());

    wish["suspend"] = json!(false);
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    wish["suspend"] = json!(true);
    stage.namespace.apply(SHOP, &wish).await?;
    let met = stage.namespace.wait_for(SHOP, "taken over", |space| {
        space.status.as_ref().is_some_and(|status| Some(status.observed_generation) == space.metadata.generation)
    });
    assert!(is_ready(&met.await?), "suspended with its wish met is Ready");
    let events = stage.events(SHOP).await?;
    assert!(events.iter().any(|event| event.starts_with("Suspended: ")), "{events:?}");
    assert!(events.iter().any(|event| event.starts_with("Resumed: ")), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn the_running_job_of_a_suspended_space_is_followed_to_its_end() -> Result<()> {
    let stage = Stage::open_with("midway", 5.0, |options| options).await?;
    let mut wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    wish["suspend"] = json!(true);
    stage.namespace.apply(SHOP, &wish).await?;
    let space = stage.namespace.wait_for(SHOP, "Ready", is_ready).await?;
    assert!(space.spec.suspend && space.name_any() == SHOP);
    assert_eq!(space.status.map(|status| status.history.len()), Some(1));
    Ok(())
}
