//! Answers to the one write that never come, and a person who says what became of it.

use konigle_operator::api::{AttemptResult, Attribution, RESOLVE_ATTEMPT};
use serde_json::json;

use super::{attribution, quick, results};
use crate::support::Result;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, is_ready};

#[tokio::test]
async fn under_hold_a_person_answers_with_the_nonce() -> Result<()> {
    let stage = Stage::open("held").await?;
    stage.simulator.fault(&json!({"operation": "deploy", "action": "drop"})).await?;
    let mut wish = quick(&stage, "1.0")?;
    wish["unknownOutcomePolicy"] = json!("Hold");
    stage.namespace.apply(SHOP, &wish).await?;
    let status = stage.namespace.wait_for_reason(SHOP, "OutcomeUnknown").await?.status.unwrap_or_default();
    let nonce = status.attempt.as_ref().map(|attempt| attempt.nonce.clone()).unwrap_or_default();
    let stalled = status.condition("Stalled").expect("a person must act");
    assert!(stalled.message.contains(&format!("{RESOLVE_ATTEMPT}={nonce}=succeeded")), "{}", stalled.message);

    // Each of them is told, the one that is nearly right too.
    let wrong = ["k00000000=retry".to_owned(), format!("{nonce}=success"), "NONCE=retry".to_owned()];
    for answer in &wrong {
        stage.namespace.annotate(SHOP, RESOLVE_ATTEMPT, answer).await?;
        let ignored = format!("AnswerIgnored: the value `{answer}` of the annotation {RESOLVE_ATTEMPT} was ignored");
        stage.wait_for_event(SHOP, &ignored).await?;
    }
    stage.namespace.wait_for_reason(SHOP, "OutcomeUnknown").await?;
    assert!(stage.simulator.ledger(UAT).await?.is_empty());

    stage.namespace.annotate(SHOP, RESOLVE_ATTEMPT, &format!("{nonce}=retry")).await?;
    let space = stage.namespace.wait_for(SHOP, "deployed", is_ready).await?;
    assert_eq!(results(&space), [AttemptResult::Succeeded, AttemptResult::Unknown]);
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    let ignored = stage.events(SHOP).await?.into_iter().filter(|event| event.starts_with("AnswerIgnored: ")).count();
    assert_eq!(ignored, wrong.len(), "each told once");
    stage.wait_for_event(SHOP, "AttemptResolved: ").await?;
    Ok(())
}

#[tokio::test]
async fn a_person_who_says_that_it_succeeded_or_failed_is_believed() -> Result<()> {
    let stage = Stage::open("believed").await?;
    for (version, answer) in [("1.0", "succeeded"), ("1.1", "failed")] {
        stage.simulator.fault(&json!({"operation": "deploy", "action": "drop"})).await?;
        let mut wish = quick(&stage, version)?;
        wish["unknownOutcomePolicy"] = json!("Hold");
        wish["retry"] = json!({"limit": 1});
        stage.namespace.apply(SHOP, &wish).await?;
        let status = stage.namespace.wait_for_reason(SHOP, "OutcomeUnknown").await?.status.unwrap_or_default();
        let nonce = status.attempt.map(|attempt| attempt.nonce).unwrap_or_default();
        stage.namespace.annotate(SHOP, RESOLVE_ATTEMPT, &format!("{nonce}={answer}")).await?;
        if answer == "succeeded" {
            let space = stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
            assert_eq!(attribution(&space), Some(Attribution::Inferred));
        } else {
            let space = stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?;
            assert_eq!(results(&space)[0], AttemptResult::Failed);
        }
    }
    assert!(stage.simulator.ledger(UAT).await?.is_empty());
    Ok(())
}
