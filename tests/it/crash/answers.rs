//! Answers to the one write that do not come, or tell nothing: each ends in one job and a status that is right.

use konigle_operator::api::{AttemptResult, Attribution, RESOLVE_ATTEMPT};
use reqwest::Method;
use serde_json::json;

use super::{attribution, quick, results};
use crate::support::Result;
use crate::support::proxy::Matcher;
use crate::support::recording::Recording;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, is_ready};

#[tokio::test]
async fn an_answer_that_tells_nothing_is_not_asked_for_twice() -> Result<()> {
    let stage = Stage::open("mute").await?;
    let answers = [
        ("500", json!({"status": 500})),
        ("dropped", json!("drop")),
        ("reset", json!("reset")),
        ("html", json!("html")),
        ("truncated", json!("truncate")),
        ("no-job-id", json!({"remove": ["job_id"]})),
        ("redirect", json!({"answer": {"status": 302, "location": "/elsewhere"}})),
    ];
    for (sent, (version, action)) in answers.into_iter().enumerate() {
        stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": action})).await?;
        let wish = quick(&stage, version)?;
        let digest = crate::support::stage::digest_of_wish(&wish);
        stage.namespace.apply(SHOP, &wish).await?;
        let space = stage
            .namespace
            .wait_for(SHOP, version, |space| is_ready(space) && crate::support::stage::runs(space, &digest))
            .await?;
        assert_eq!(attribution(&space), Some(Attribution::Inferred), "{version}");
        assert_eq!(stage.simulator.ledger(UAT).await?.len(), sent + 1, "{version}");
        assert_eq!(results(&space).first(), Some(&AttemptResult::Succeeded), "{version}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_connection_is_known_to_have_sent_nothing() -> Result<()> {
    let mut stage = Stage::open("refused").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let recording = Recording::start(&stage.namespace).await?;
    let claim = proxy.hold(Matcher::new(Method::PATCH, "/status").with_body("\"nonce\""));
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    claim.arrived().await?;
    stage.simulator.kill();
    claim.open();
    let unsent = stage.namespace.wait_for(SHOP, "not sent", |space| results(space) == [AttemptResult::NotSent]).await?;
    assert!(unsent.status.is_some_and(|status| status.failures == 0 && status.attempt.is_none()));
    stage.simulator.start_again().await?;
    let space = stage.namespace.wait_for(SHOP, "deployed", is_ready).await?;
    assert_eq!(attribution(&space), Some(Attribution::Confirmed));
    for status in recording.statuses(SHOP).await? {
        assert!(status.condition("Ready").is_none_or(|ready| ready.reason != "ResolvingOutcome"), "{status:?}");
    }
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

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

    stage.namespace.annotate(SHOP, RESOLVE_ATTEMPT, "k00000000=retry").await?;
    stage.wait_for_event(SHOP, "AnswerIgnored: ").await?;
    stage.namespace.wait_for_reason(SHOP, "OutcomeUnknown").await?;
    assert!(stage.simulator.ledger(UAT).await?.is_empty());

    stage.namespace.annotate(SHOP, RESOLVE_ATTEMPT, &format!("{nonce}=retry")).await?;
    let space = stage.namespace.wait_for(SHOP, "deployed", is_ready).await?;
    assert_eq!(results(&space), [AttemptResult::Succeeded, AttemptResult::Unknown]);
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    let ignored = stage.events(SHOP).await?.into_iter().filter(|event| event.starts_with("AnswerIgnored: ")).count();
    assert_eq!(ignored, 1, "told once");
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
