//! Rows about the claim and the process around it: it dies, it stands still, there are two of them.

use std::collections::BTreeSet;
use std::time::Duration;

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpace};
use reqwest::Method;
use serde_json::json;

use crate::case::Case;
use crate::matrix::{Row, row};
use crate::oracles::{
    Reference, attribution, check, check_results, deployed_once, lasts, never_sent, nonce, posted, quick,
};
use crate::support::Result;
use crate::support::artifacts::large_application;
use crate::support::namespace::{deploys, wait_for};
use crate::support::proxy::{Matcher, claims, nonce_of, receipts};
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish};
use crate::support::wire::Fault;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "1",
            row_1_killed_before_the_claim,
            "Killed before the claim is stored",
            "Nothing is remembered; the restart deploys once, with the end and the writes of a run without a fault"
        ),
        row!(
            "2",
            row_2_killed_after_the_claim,
            "Killed after the claim, before the request",
            "Nothing is sent before the wait for an outcome is over; then the next attempt deploys once"
        ),
        row!(
            "3a",
            row_3a_killed_in_the_middle_of_the_upload,
            "Killed in the middle of the upload: after the head, a third or two thirds",
            "As row 2; what was cut short is not accepted"
        ),
        Row::ruled_out(
            "3b",
            "An upload that was cut short of its length is accepted all the same",
            "assumed never to happen, as docs/guarantees.md says; no setting would help",
        ),
        row!(
            "4",
            row_4_killed_after_the_effect,
            "Killed after the request took effect, before its answer",
            "The one job is found by its effect, and nothing is sent again"
        ),
        row!(
            "5",
            row_5_killed_before_the_receipt,
            "Killed after the answer, before its receipt is stored",
            "The one job is found by its effect, and nothing is sent again"
        ),
        row!(
            "6",
            row_6_killed_while_the_job_is_followed,
            "Killed after the receipt, at any moment until the last write",
            "The same job is followed to its end, and nothing is sent again"
        ),
        row!(
            "12",
            row_12_two_replicas_that_both_lead,
            "Two replicas both believe that they lead",
            "One claim wins; each digest is deployed once"
        ),
        row!(
            "13",
            row_13_stopped_after_the_claim,
            "Stopped (SIGSTOP) after the claim for longer than the fence of 10 s, up to minutes, then woken",
            "Nothing of that attempt is sent; it is known as not sent, and the next one deploys"
        )
        .long(),
    ]
}

async fn row_1_killed_before_the_claim(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let reference = Reference::measure(&stage, "0.9").await?;
    let gate = proxy.hold(claims());
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    stage.operator.kill();
    proxy.clear();
    stage.operator.start_again().await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded, AttemptResult::Succeeded])?;
    reference.compare(&space).await
}

/// The restart waits, sends nothing meanwhile, and then deploys once.
async fn waits_and_deploys_once(stage: &mut Stage, digest: &str) -> Result<()> {
    stage.operator.start_again().await?;
    let resolving = stage.namespace.wait_for_reason(SHOP, "ResolvingOutcome").await?;
    check(posted(stage, UAT).await?.is_empty(), || "sent before the wait was over".to_owned())?;
    let space = deployed_once(stage, digest).await?;
    check_results(&space, &[AttemptResult::Succeeded, AttemptResult::Unknown])?;
    check(attribution(&space) == Some(Attribution::Confirmed), || format!("{:?}", attribution(&space)))?;
    never_sent(stage, UAT, &nonce(&resolving).unwrap_or_default()).await
}

async fn row_2_killed_after_the_claim(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_konigle().await?;
    let gate = proxy.hold(Matcher::new(Method::POST, "/deploy"));
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    stage.operator.kill();
    proxy.clear();
    waits_and_deploys_once(&mut stage, &digest_of_wish(&wish)).await
}

async fn row_3a_killed_in_the_middle_of_the_upload(case: &Case) -> Result<()> {
    const SIZE: usize = 3 << 20;
    let mut stage = case.open().await?;
    let wire = stage.put_wire_before_konigle().await?;
    wire.next("POST", 1, Fault::Stall(*case.pick(&[1 << 10, SIZE / 3, SIZE * 2 / 3])));
    let artifact = stage.artifacts.serve("/large.zip", large_application(SIZE)?);
    let mut wish = deploys(UAT, &artifact.url, &artifact.digest);
    wish["timeout"] = json!("5s");
    stage.namespace.apply(SHOP, &wish).await?;
    wait_for("the upload began", async || Ok(wire.is_used_up().then_some(()))).await?;
    stage.operator.kill();
    waits_and_deploys_once(&mut stage, &artifact.digest).await
}

/// The one job of the ledger is what the status tells of.
async fn found_by_its_effect(stage: &mut Stage, digest: &str) -> Result<()> {
    stage.operator.kill();
    stage.operator.start_again().await?;
    let space = deployed_once(stage, digest).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_4_killed_after_the_effect(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let delay = json!({"operation": "deploy", "when": "after", "action": {"delay_ms": 600_000}});
    stage.simulator.fault(&delay).await?;
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    lasts(case.moment(Duration::from_secs(2))).await?;
    found_by_its_effect(&mut stage, &digest_of_wish(&wish)).await
}

async fn row_5_killed_before_the_receipt(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold(receipts());
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    lasts(case.moment(Duration::from_secs(2))).await?;
    proxy.clear();
    found_by_its_effect(&mut stage, &digest_of_wish(&wish)).await
}

async fn row_6_killed_while_the_job_is_followed(case: &Case) -> Result<()> {
    let mut stage = case.open_with(3.0, |options| options).await?;
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let recorded = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_id.is_some())
    };
    stage.namespace.wait_for(SHOP, "recorded", recorded).await?;
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    // As long as the job and its confirmation take.
    lasts(case.moment(Duration::from_secs(6))).await?;
    stage.operator.kill();
    stage.operator.start_again().await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    let release = space.status.and_then(|status| status.release).and_then(|release| release.job_id);
    check(release.as_deref() == job.as_str(), || format!("the release has the job {release:?}, not {job}"))
}

async fn row_12_two_replicas_that_both_lead(case: &Case) -> Result<()> {
    let mut stage = case.open_with(0.5, |options| options).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let _other = stage.another_operator(|options| options).await?;
    for version in ["1.0", "1.1", "1.2"] {
        let wish = stage.wish(version)?;
        let before = proxy.seen(&claims()).len();
        let gate = proxy.hold(claims());
        stage.namespace.apply(SHOP, &wish).await?;
        // Each is held as long as it waits, so that the second to come is another replica's.
        gate.arrived().await?;
        gate.arrived().await?;
        proxy.clear();
        gate.open();
        deployed_once(&stage, &digest_of_wish(&wish)).await?;
        let claims = proxy.seen(&claims())[before..].iter().map(nonce_of).collect::<BTreeSet<_>>();
        check(claims.len() > 1, || format!("only {claims:?} was claimed"))?;
    }
    check(posted(&stage, UAT).await?.len() == 3, || "more than one deploy for each digest".to_owned())
}

async fn row_13_stopped_after_the_claim(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold_answer(claims());
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    let claimed = stage.namespace.wait_for(SHOP, "claimed", |space| nonce(space).is_some()).await?;
    stage.operator.process().signal("STOP")?;
    gate.open();
    // Beyond all time-outs, those of the watches too; within the time that the claim's answer may take; beyond that one.
    lasts(Duration::from_secs(*case.pick(&[160, 11, 20]))).await?;
    stage.operator.process().signal("CONT")?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded, AttemptResult::NotSent])?;
    never_sent(&stage, UAT, &nonce(&claimed).unwrap_or_default()).await
}
