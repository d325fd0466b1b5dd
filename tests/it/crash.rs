//! The operator is stopped around the one write that must not happen twice. That it is killed there stands in `tests/sweep`
//! and in the fault matrix, rows 1 to 6.
//!
//! The simulator's ledger says what was accepted. Requests are held back by a proxy or by a fault of the simulator, so
//! that the point of the stop is exact and nothing depends on speed. What only a person's answer resolves stands in
//! `crash/answers.rs`, and a lost answer under every reading in `crash/readings.rs`.

mod answers;
mod readings;

use std::time::Duration;

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpace};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Result;
use crate::support::artifacts::large_application;
use crate::support::namespace::deploys;
use crate::support::proxy::Matcher;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, STOP_LIMIT, Stage, is_ready};

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
