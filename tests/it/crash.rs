//! The operator dies, or is stopped, around the one write that must not happen twice.
//!
//! The simulator's ledger says what was accepted. Requests are held back by a proxy or by a fault of the simulator, so
//! that the point of death is exact and nothing depends on speed. What answers that never come, or come wrong, lead to
//! stands in `crash/answers.rs` and `crash/readings.rs`.

mod answers;
mod readings;

use std::time::Duration;

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpace};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Result;
use crate::support::artifacts::large_application;
use crate::support::namespace::{deploys, wait_for};
use crate::support::proxy::Matcher;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, STOP_LIMIT, Stage, is_ready};

/// Longer than the wait for an outcome that another process may have caused: the limit of a small upload (61 s), settle
/// (2 s), `spec.timeout` (5 s), and the pause before the next attempt.
const FOREIGN_OUTCOME_LIMIT: Duration = Duration::from_mins(3);

fn deploy_request() -> Matcher {
    Matcher::new(Method::POST, "/deploy")
}

/// The version, with a job limit that keeps the waits short.
fn quick(stage: &Stage, version: &str) -> Result<Value> {
    let mut wish = stage.wish(version)?;
    wish["timeout"] = json!("5s");
    Ok(wish)
}

fn results(space: &KonigleSpace) -> Vec<AttemptResult> {
    space.status.iter().flat_map(|status| &status.history).map(|entry| entry.result).collect()
}

fn attribution(space: &KonigleSpace) -> Option<Attribution> {
    Some(space.status.as_ref()?.release.as_ref()?.attribution)
}

/// Waits until the attempt is claimed and has no job id, as the API server tells it.
async fn claimed(stage: &Stage) -> Result<KonigleSpace> {
    stage
        .namespace
        .wait_for(SHOP, "claimed", |space| {
            let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
            attempt.is_some_and(|attempt| attempt.job_id.is_none())
        })
        .await
}

/// An operator that is started again ends with one deployment, confirmed by its own job.
async fn started_again_it_has_deployed_once(stage: &mut Stage) -> Result<()> {
    stage.operator.start_again().await?;
    let space = stage.namespace.wait_for(SHOP, "deployed", is_ready).await?;
    assert_eq!(attribution(&space), Some(Attribution::Confirmed));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn killed_after_the_claim_it_waits_and_deploys_once() -> Result<()> {
    let mut stage = Stage::open("claimed").await?;
    let proxy = stage.put_proxy_before_konigle().await?;
    let gate = proxy.hold(deploy_request());
    stage.namespace.apply(SHOP, &quick(&stage, "1.0")?).await?;
    gate.arrived().await?;
    let before = claimed(&stage).await?;
    stage.operator.kill();
    proxy.clear();
    stage.operator.start_again().await?;

    let resolving = stage.namespace.wait_for_reason(SHOP, "ResolvingOutcome").await?.status.unwrap_or_default();
    let nonce =
        |status: Option<konigle_operator::api::KonigleSpaceStatus>| status?.attempt.map(|attempt| attempt.nonce);
    assert_eq!(nonce(Some(resolving)), nonce(before.status), "the same attempt");
    let space = stage.namespace.wait_longer_for(SHOP, "deployed", FOREIGN_OUTCOME_LIMIT, is_ready).await?;
    assert_eq!(results(&space), [AttemptResult::Succeeded, AttemptResult::Unknown]);
    assert_eq!(attribution(&space), Some(Attribution::Confirmed));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn killed_while_konigle_works_on_the_request_it_finds_the_effect() -> Result<()> {
    let mut stage = Stage::open("effect").await?;
    let delay = json!({"operation": "deploy", "when": "after", "action": {"delay_ms": 600_000}});
    stage.simulator.fault(&delay).await?;
    stage.namespace.apply(SHOP, &quick(&stage, "1.0")?).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    claimed(&stage).await?;
    stage.operator.kill();
    stage.operator.start_again().await?;
    found_by_its_effect(&stage).await
}

#[tokio::test]
async fn killed_between_the_answer_and_the_receipt_it_finds_the_effect() -> Result<()> {
    let mut stage = Stage::open("receipt").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold(Matcher::new(Method::PATCH, "/status").with_body("/status/attempt/jobID"));
    stage.namespace.apply(SHOP, &quick(&stage, "1.0")?).await?;
    gate.arrived().await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    claimed(&stage).await?;
    stage.operator.kill();
    proxy.clear();
    stage.operator.start_again().await?;
    found_by_its_effect(&stage).await
}

/// The one job of the ledger is what the status tells of.
async fn found_by_its_effect(stage: &Stage) -> Result<()> {
    let space = stage.namespace.wait_longer_for(SHOP, "found", FOREIGN_OUTCOME_LIMIT, is_ready).await?;
    assert_eq!(results(&space), [AttemptResult::Succeeded]);
    assert_eq!(attribution(&space), Some(Attribution::Inferred), "no job of ours was read");
    let looked = stage.look_now(SHOP).await?.status.unwrap_or_default();
    assert!(looked.condition("Drifted").is_none() && looked.is_true("Ready"), "{looked:?}");
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn killed_after_the_receipt_it_follows_the_same_job() -> Result<()> {
    let mut stage = Stage::open_with("followed", 4.0, |options| options).await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let recorded = stage.namespace.wait_for(SHOP, "recorded", |space| {
        space.status.as_ref().and_then(|status| status.attempt.as_ref()).is_some_and(|attempt| attempt.job_id.is_some())
    });
    recorded.await?;
    stage.operator.kill();
    started_again_it_has_deployed_once(&mut stage).await
}

#[tokio::test]
async fn a_stop_cuts_an_upload_that_is_not_wholly_sent() -> Result<()> {
    let mut stage = Stage::open("cut").await?;
    let proxy = stage.put_proxy_before_konigle().await?;
    let gate = proxy.hold(deploy_request());
    let artifact = stage.artifacts.serve("/large.zip", large_application(64 << 20)?);
    stage.namespace.apply(SHOP, &deploys(UAT, &artifact.url, &artifact.digest)).await?;
    gate.arrived().await?;
    stage.operator.terminate(STOP_LIMIT).await?;
    let stopped = stage.namespace.spaces().get(SHOP).await?;
    assert_eq!(results(&stopped), [AttemptResult::NotSent], "what was cut is known not to be accepted");
    assert!(stopped.status.as_ref().is_some_and(|status| status.attempt.is_none() && status.failures == 0));
    proxy.clear();
    started_again_it_has_deployed_once(&mut stage).await
}

#[tokio::test]
async fn a_stop_waits_for_the_answer_and_writes_the_receipt() -> Result<()> {
    let mut stage = Stage::open("patient").await?;
    let delay = json!({"operation": "deploy", "when": "after", "action": {"delay_ms": 4000}});
    stage.simulator.fault(&delay).await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    claimed(&stage).await?;
    stage.operator.terminate(Duration::from_mins(1)).await?;
    let stopped = stage.namespace.spaces().get(SHOP).await?.status.unwrap_or_default();
    assert_eq!(stopped.attempt.and_then(|attempt| attempt.job_id).as_deref(), job.as_str(), "the receipt is written");
    started_again_it_has_deployed_once(&mut stage).await
}

#[tokio::test]
async fn two_operators_at_once_deploy_each_digest_once() -> Result<()> {
    let stage = Stage::open_with("twice", 0.5, |options| options).await?;
    let other = stage.another_operator(|options| options).await?;
    for (deployed, version) in ["1.0", "1.1", "1.2", "1.3"].into_iter().enumerate() {
        let space = stage.deployed(version).await?;
        assert_eq!(attribution(&space), Some(Attribution::Confirmed));
        assert_eq!(stage.simulator.ledger(UAT).await?.len(), deployed + 1, "{version}");
    }
    wait_for("both at work", async || Ok(other.metrics().await?.contains("konigle_reconcile_total").then_some(())))
        .await
}
