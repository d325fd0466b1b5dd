//! The counters of the built operator are what happened, exactly; and nobody from outside can make them many.
#![expect(clippy::float_cmp, reason = "counts are whole numbers, which floats hold exactly")]

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::exposition::Exposition;
use crate::support::namespace::{promotes, wait_for};
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready};
use crate::support::{Failure, Result};

async fn page(stage: &Stage) -> Result<Exposition> {
    Exposition::parse(&stage.operator.metrics().await?)
}

/// What is counted of attempts and jobs: `type result: attempts, jobs`, without those that are zero.
fn counted(page: &Exposition) -> Result<Vec<String>> {
    let mut counted = Vec::new();
    for kind in ["Deploy", "Promote"] {
        for result in ["Succeeded", "Failed", "NotSent", "Unknown"] {
            let labels = [("type", kind), ("result", result)];
            let attempts = page.value("konigle_attempts_total", &labels)?;
            let jobs = page.sum("konigle_job_duration_seconds_count", &labels);
            if attempts + jobs > 0.0 {
                counted.push(format!("{kind} {result}: {attempts}, {jobs}"));
            }
        }
        let unknown = page.value("konigle_unknown_outcomes_total", &[("type", kind)])?;
        if unknown > 0.0 {
            counted.push(format!("{kind} without an answer: {unknown}"));
        }
    }
    let drifts = page.value("konigle_drift_detected_total", &[])?;
    if drifts > 0.0 {
        counted.push(format!("drifts: {drifts}"));
    }
    Ok(counted)
}

/// Waits until exactly this is counted: a status is seen a moment before its writer counts it.
async fn until_counted(stage: &Stage, expected: &[&str]) -> Result<Exposition> {
    let mut last = Vec::new();
    let waited = wait_for(&format!("{expected:?} counted"), async || {
        let page = page(stage).await?;
        last = counted(&page)?;
        Ok((last == expected).then_some(page))
    })
    .await;
    waited.map_err(|failure| Failure::new(format!("{failure}; it was {last:?}")))
}

/// How long a job took by the simulator's clock.
async fn seconds(stage: &Stage, entry: &Value) -> Result<f64> {
    let job = stage.simulator.job(&entry["job"]).await?;
    let time = |field: &str| {
        let text = job["job"][field].as_str().or_else(|| job[field].as_str());
        text.and_then(|text| text.parse::<jiff::Timestamp>().ok())
            .ok_or_else(|| Failure::new(format!("no time {field}: {job}")))
    };
    Ok(time("completed_at")?.duration_since(time("created_at")?).as_secs_f64())
}

/// The requests to Konigle are those that the simulator saw, operation by operation; no pass failed.
async fn agrees_with_the_server(stage: &Stage) -> Result<Exposition> {
    let agree = async || {
        let (page, asked) = (page(stage).await?, stage.simulator.requests().await?);
        let all =
            ["get_space", "list_spaces", "list_computers", "list_webapps", "get_job", "list_jobs", "deploy", "promote"];
        let differs = all.iter().find(|operation| {
            let counted = page.sum("konigle_api_requests_total", &[("operation", operation)]);
            (counted - asked["by_operation"][operation].as_f64().unwrap_or_default()).abs() > f64::EPSILON
        });
        Ok(differs.is_none().then_some(page))
    };
    let page = wait_for("the same numbers of requests on both sides", agree).await?;
    assert!(page.value("konigle_reconcile_total", &[("result", "success")])? > 0.0);
    assert_eq!(page.value("konigle_reconcile_total", &[("result", "error")])?, 0.0);
    let timed = page.sum("konigle_api_request_duration_seconds_count", &[]);
    assert_eq!(timed, page.sum("konigle_api_requests_total", &[]), "each request is timed");
    Ok(page)
}

#[tokio::test]
async fn deploys_and_promotions_are_counted_as_they_happened() -> Result<()> {
    let stage = Stage::open("counted").await?;
    let wish = stage.wish("1.0")?;
    assert!(counted(&page(&stage).await?)?.is_empty());
    stage.deployed("1.0").await?;
    let ledger = stage.simulator.ledger(UAT).await?;
    let size = ledger[0]["size"].as_f64().unwrap_or_default();
    let now = until_counted(&stage, &["Deploy Succeeded: 1, 1"]).await?;
    assert_eq!(now.value("konigle_deploy_bytes_total", &[])?, size, "{ledger:?}");
    assert_eq!(now.value("konigle_artifact_download_bytes_total", &[])?, size);
    assert_eq!(now.value("konigle_artifact_downloads_total", &[("result", "success")])?, 1.0);
    assert_eq!(now.sum("konigle_artifact_downloads_total", &[]), 1.0);
    let told = now.sum("konigle_job_duration_seconds_sum", &[("type", "Deploy")]);
    let took = seconds(&stage, &ledger[0]).await?;
    assert!((told - took).abs() < 1e-6, "{told} s, and by the server {took} s");

    let mut promotion = promotes(PRODUCTION, SHOP);
    promotion["promotion"]["approvedDigest"] = json!(digest_of_wish(&wish));
    promotion["adoptionPolicy"] = json!("Deploy");
    stage.namespace.apply("shop-production", &promotion).await?;
    stage.namespace.wait_for("shop-production", "promoted", is_ready).await?;
    let all = ["Deploy Succeeded: 1, 1", "Promote Succeeded: 1, 1"];
    let now = until_counted(&stage, &all).await?;
    assert_eq!(now.value("konigle_deploy_bytes_total", &[])?, size, "a promotion sends none");
    assert_eq!(now.value("konigle_leader", &[])?, 1.0);
    assert_eq!(counted(&agrees_with_the_server(&stage).await?)?, all);
    Ok(())
}

#[tokio::test]
async fn failures_and_lost_answers_are_counted_as_they_happened() -> Result<()> {
    let stage = Stage::open("counted-failures").await?;
    // A failed job.
    stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "failed", "error": "no"}]})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["retry"] = json!({"limit": 1});
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?;
    until_counted(&stage, &["Deploy Failed: 1, 1"]).await?;

    // An answer that was lost after it took effect: what becomes of it shows in the Space, and no job of it is ever read.
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    let mut wish = stage.wish("1.1")?;
    wish["timeout"] = json!("5s");
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "ResolvingOutcome").await?;
    until_counted(&stage, &["Deploy Failed: 1, 1", "Deploy without an answer: 1"]).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    until_counted(&stage, &["Deploy Succeeded: 1, 0", "Deploy Failed: 1, 1", "Deploy without an answer: 1"]).await?;

    // Refused for now: nothing was sent.
    let busy = json!({"operation": "deploy", "action": {"status": 409}});
    stage.simulator.fault(&busy).await?;
    let wish = stage.wish("1.2")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "SpaceBusy").await?;
    let all = ["Deploy Succeeded: 1, 0", "Deploy Failed: 1, 1", "Deploy NotSent: 1, 0", "Deploy without an answer: 1"];
    let now = until_counted(&stage, &all).await?;
    assert_eq!(now.value("konigle_api_requests_total", &[("operation", "deploy"), ("code", "409")])?, 1.0);
    assert_eq!(now.value("konigle_api_requests_total", &[("operation", "deploy"), ("code", "error")])?, 1.0);
    agrees_with_the_server(&stage).await.map(drop)
}

#[tokio::test]
async fn drift_is_counted_once_for_each_deployment_of_somebody_else() -> Result<()> {
    let stage = Stage::open("counted-drift").await?;
    stage.deployed("1.0").await?;
    let drift = async |expected: f64| {
        stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
        stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
        stage.look_now(SHOP).await?;
        wait_for("the drift is counted", async || {
            let drifts = page(&stage).await?.value("konigle_drift_detected_total", &[])?;
            Ok((drifts >= expected).then_some(()))
        })
        .await
    };
    drift(1.0).await?;
    stage.namespace.wait_for_reason(SHOP, "Drifted").await?;
    stage.look_now(SHOP).await?;
    until_counted(&stage, &["Deploy Succeeded: 1, 1", "drifts: 1"]).await?;

    // Under Redeploy the first that is written of it is the claim of what replaces it.
    let mut wish = stage.wish("2.0")?;
    wish["driftPolicy"] = json!("Redeploy");
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    drift(2.0).await?;
    stage
        .namespace
        .wait_for(SHOP, "deployed again", |space| {
            is_ready(space) && space.status.as_ref().is_some_and(|status| status.last_attempt == 3)
        })
        .await?;
    until_counted(&stage, &["Deploy Succeeded: 3, 3", "drifts: 2"]).await?;
    assert_eq!(counted(&agrees_with_the_server(&stage).await?)?, ["Deploy Succeeded: 3, 3", "drifts: 2"]);
    Ok(())
}

#[tokio::test]
async fn downloads_and_waits_are_counted() -> Result<()> {
    let stage =
        Stage::open_with("counted-downloads", 0.5, |options| options.flag("--api-rate=1").flag("--api-burst=1"))
            .await?;
    let mut wish = stage.wish("1.0")?;
    let there = wish["source"]["http"]["url"].clone();
    wish["source"]["http"]["url"] = json!(there.as_str().unwrap_or_default().replace("shop", "nowhere"));
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "ArtifactUnavailable").await?;
    let now = page(&stage).await?;
    let downloads = |now: &Exposition, result| now.value("konigle_artifact_downloads_total", &[("result", result)]);
    assert!(downloads(&now, "unavailable")? >= 1.0);
    assert_eq!(now.value("konigle_artifact_download_bytes_total", &[])?, 0.0);

    let mut wrong = wish.clone();
    wrong["source"]["http"]["url"] = there;
    wrong["source"]["http"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
    stage.namespace.apply(SHOP, &wrong).await?;
    stage.namespace.wait_for_reason(SHOP, "DigestMismatch").await?;
    let now = page(&stage).await?;
    assert_eq!((downloads(&now, "digest_mismatch")?, downloads(&now, "success")?), (1.0, 0.0));
    assert!(now.value("konigle_artifact_download_bytes_total", &[])? > 0.0);

    // One request a second: the deploy has to wait for its turn behind the look at the Space.
    stage.deployed("1.1").await?;
    let now = page(&stage).await?;
    assert!(now.value("konigle_api_rate_limited_seconds_total", &[])? > 0.5);
    assert_eq!(now.value("konigle_api_rate_limit_refusals_total", &[])?, 0.0);
    // A pause that is longer than a look may wait.
    let pause = json!({"operation": "get_space", "action": {"answer": {"status": 429, "retry_after": 300}}});
    stage.simulator.fault(&pause).await?;
    stage.namespace.annotate(SHOP, konigle_operator::api::RECONCILE_AT, "one").await?;
    wait_for("the 429", async || {
        let labels = [("operation", "get_space"), ("code", "429")];
        Ok((page(&stage).await?.value("konigle_api_requests_total", &labels)? == 1.0).then_some(()))
    })
    .await?;
    stage.namespace.annotate(SHOP, konigle_operator::api::RECONCILE_AT, "two").await?;
    wait_for("a request that is not sent", async || {
        Ok((page(&stage).await?.value("konigle_api_rate_limit_refusals_total", &[])? >= 1.0).then_some(()))
    })
    .await?;
    agrees_with_the_server(&stage).await.map(drop)
}

#[tokio::test]
async fn odd_words_and_codes_make_no_series() -> Result<()> {
    let stage = Stage::open_with("bounded", 1.0, |options| options).await?;
    let before = page(&stage).await?.series();
    for word in ["zeta-1", "zeta-2\" \\ \n"] {
        stage.simulator.change_space(UAT, &json!({"status": word, "last_deployment_status": word})).await?;
        stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
        stage.look_now(SHOP).await?;
    }
    stage.simulator.change_space(UAT, &json!({"status": "running", "last_deployment_status": null})).await?;
    for status in [299, 302, 418, 451, 499, 507, 599] {
        stage.simulator.fault(&json!({"operation": "get_space", "action": {"status": status}})).await?;
        stage.namespace.annotate(SHOP, konigle_operator::api::RECONCILE_AT, &status.to_string()).await?;
        wait_for("the fault is used up", async || {
            let left = stage.simulator.control(Method::GET, "faults", &Value::Null).await?;
            Ok(left.as_array().is_some_and(Vec::is_empty).then_some(()))
        })
        .await?;
    }
    stage.deployed("1.1").await?;
    let now = page(&stage).await?;
    for (code, count) in [("2xx", 1.0), ("3xx", 1.0), ("4xx", 3.0), ("5xx", 2.0)] {
        let labels = [("operation", "get_space"), ("code", code)];
        assert_eq!(now.value("konigle_api_requests_total", &labels)?, count, "{code}");
    }
    for field in ["space_status", "last_deployment_status"] {
        assert!(now.value("konigle_unknown_words_total", &[("field", field)])? >= 2.0, "{field}");
    }
    assert_eq!(now.series(), before);
    Ok(())
}
