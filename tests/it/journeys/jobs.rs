//! Jobs that fail, and specs that change while a job runs.

use konigle_operator::api::{AttemptResult, Cause, RESET_AT};
use serde_json::json;

use crate::support::Result;
use crate::support::recording::Recording;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

#[tokio::test]
async fn a_failing_digest_is_retried_quarantined_and_freed_by_a_reset() -> Result<()> {
    let stage = Stage::open("failing").await?;
    let recording = Recording::start(&stage.namespace).await?;
    let failure = json!({"outcome": "failed", "error": "migration 0042 failed"});
    stage.simulator.change_space(UAT, &json!({"next_jobs": [failure, failure]})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["retry"] = json!({"limit": 2});
    stage.namespace.apply(SHOP, &wish).await?;

    let retrying = stage.namespace.wait_for_reason(SHOP, "ProgressingWithRetry").await?.status.unwrap_or_default();
    let ready = retrying.condition("Ready").expect("always there");
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains("migration 0042 failed"), "{}", ready.message);
    assert!(retrying.is_true("Reconciling") && retrying.failures == 1 && retrying.next_retry_time.is_some());

    let stalled = stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?.status.unwrap_or_default();
    assert!(stalled.is_true("Stalled") && stalled.condition("Reconciling").is_none());
    let ready = stalled.condition("Ready").expect("always there");
    assert!(ready.message.contains("migration 0042 failed") && ready.message.contains("reset-at"), "{}", ready.message);
    assert_eq!(stalled.quarantined.len(), 1);
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    // A failed job of our own moved last_deployed_at, which is no drift.
    let looked = stage.look_now(SHOP).await?.status.unwrap_or_default();
    assert!(
        looked.condition("Drifted").is_none() && looked.space.is_some_and(|space| space.last_deployed_at.is_some())
    );
    for status in recording.statuses(SHOP).await? {
        assert!(status.condition("Drifted").is_none(), "{status:?}");
    }
    // An edit that asks for nothing else frees nothing.
    wish["interval"] = json!("2m");
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?;

    stage.namespace.annotate(SHOP, RESET_AT, "now").await?;
    let space = stage.namespace.wait_for_reason(SHOP, "Succeeded").await?.status.unwrap_or_default();
    assert!(space.quarantined.is_empty() && space.failures == 0);
    let results: Vec<_> = space.history.iter().map(|entry| (entry.number, entry.result, entry.cause)).collect();
    let expected = [
        (3, AttemptResult::Succeeded, Cause::Reset),
        (2, AttemptResult::Failed, Cause::Retry),
        (1, AttemptResult::Failed, Cause::Spec),
    ];
    assert_eq!(results, expected);
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 3);
    let events = stage.events(SHOP).await?;
    assert!(events.iter().any(|event| event.starts_with("DeployFailed: ")), "{events:?}");
    assert!(events.iter().any(|event| event.starts_with("RetriesExceeded: ")), "{events:?}");
    Ok(())
}

#[tokio::test]
async fn another_digest_frees_a_quarantined_one() -> Result<()> {
    let stage = Stage::open("mended").await?;
    stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "failed"}]})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["retry"] = json!({"limit": 1});
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?;
    let space = stage.deployed("1.1").await?;
    assert!(space.status.is_some_and(|status| status.quarantined.is_empty()));
    Ok(())
}

#[tokio::test]
async fn an_edit_during_a_job_waits_for_its_end() -> Result<()> {
    let stage = Stage::open_with("overtaken", 5.0, |options| options).await?;
    let recording = Recording::start(&stage.namespace).await?;
    let (first, second) = (stage.wish("1.0")?, stage.wish("2.0")?);
    stage.namespace.apply(SHOP, &first).await?;
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    stage.namespace.apply(SHOP, &second).await?;
    let digest = digest_of_wish(&second);
    let space = stage.namespace.wait_for(SHOP, "deployed", |space| is_ready(space) && runs(space, &digest)).await?;

    let history = space.status.unwrap_or_default().history;
    let digests: Vec<_> = history.iter().map(|entry| (&entry.digest, entry.result)).collect();
    let first = digest_of_wish(&first);
    assert_eq!(digests, [(&digest, AttemptResult::Succeeded), (&first, AttemptResult::Succeeded)]);
    assert_eq!(history[1].job_id.as_deref(), job.as_str());
    let mut open = Vec::new();
    for status in recording.statuses(SHOP).await? {
        assert!(!status.is_true("Ready") || status.release.is_some_and(|release| release.digest == digest));
        open.extend(status.attempt.map(|attempt| (attempt.number, attempt.digest, attempt.job_id)));
    }
    open.dedup();
    assert!(open.iter().all(|(number, open, _)| *open == if *number == 1 { first.clone() } else { digest.clone() }));
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    Ok(())
}
