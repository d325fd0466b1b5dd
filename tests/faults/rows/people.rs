//! Rows about a person who deploys in Konigle's console, and what must not be taken for one.

use std::time::Duration;

use konigle_operator::api::{Attribution, Cause, KonigleSpace};
use reqwest::Method;
use serde_json::json;

use crate::case::Case;
use crate::matrix::{Row, row};
use crate::oracles::{attribution, check, deploy_once, deployed_once, lasts, posted, quick};
use crate::support::Result;
use crate::support::namespace::{ready_reason, wait_for};
use crate::support::proxy::claims;
use crate::support::recording::Recording;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "26a",
            row_26a_a_person_deploys_while_nothing_happens,
            "A person deploys while nothing happens",
            "`Drifted`: Warn leaves it to a person, Redeploy deploys once, Ignore leaves it"
        ),
        row!(
            "26b",
            row_26b_a_person_deploys_before_our_request,
            "A person deploys between our look at the Space and our request",
            "Ours follows, once, and is what runs"
        ),
        row!(
            "26c",
            row_26c_a_person_deploys_during_our_job,
            "A person deploys during our job, and theirs ends long after ours",
            "Nothing is sent again; once theirs has ended, ours is not said to run: `Drifted`"
        )
        .under(
            &[("last_deployed_at_moves", &["end"])],
            "where the time moves at acceptance, a deployment accepted during our job cannot be told from it",
        ),
        row!(
            "26d",
            row_26d_a_person_deploys_between_our_job_and_our_look,
            "A person deploys after the end of our job, before the operator has looked",
            "Nothing is sent again, and ours is never Confirmed"
        ),
        row!(
            "26e",
            row_26e_a_failed_job_and_an_hour_of_nothing,
            "Our job fails, which moves `last_deployed_at`, and nothing happens for an hour",
            "It is our own failure all the time: never `Drifted`"
        )
        .under(&[("last_deployed_at_moves", &["end", "accept", "both"])], "a job that fails must move the time"),
        row!(
            "26f",
            row_26f_the_space_lags_behind_the_job,
            "The Space is read as it was up to one and a half times settle ago, while its jobs are read as they are",
            "Never `Drifted`, and each digest once; Confirmed, beyond settle at least Inferred"
        )
        .under(
            &[("status_lag_seconds", &["0"]), ("effect_lag_seconds", &["0"])],
            "the lag of reads takes the place of the others",
        ),
    ]
}

/// A person's deployment that is over at once, a minute after whatever was before.
async fn somebody_deploys(stage: &Stage) -> Result<()> {
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    // Reads may lag, and a late word too.
    lasts(Duration::from_secs(2)).await
}

async fn row_26a_a_person_deploys_while_nothing_happens(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let policy = *case.pick(&["Warn", "Redeploy", "Ignore"]);
    let mut wish = stage.wish("1.0")?;
    wish["driftPolicy"] = json!(policy);
    deploy_once(&stage, &wish).await?;
    somebody_deploys(&stage).await?;
    let looked = stage.look_now(SHOP).await?;
    let digest = digest_of_wish(&wish);
    let drifted = looked.status.as_ref().is_some_and(|status| status.is_true("Drifted"));
    match policy {
        "Warn" => {
            check(drifted && ready_reason(&looked) == Some("Drifted"), || format!("{:?}", looked.status))?;
            check(posted(&stage, UAT).await?.len() == 1, || "deployed over it".to_owned())
        }
        "Ignore" => {
            check(drifted && is_ready(&looked), || format!("{:?}", looked.status))?;
            check(posted(&stage, UAT).await?.len() == 1, || "deployed over it".to_owned())
        }
        _ => {
            let again = |space: &KonigleSpace| {
                let newest = space.status.as_ref().and_then(|status| status.history.first());
                is_ready(space) && runs(space, &digest) && newest.is_some_and(|entry| entry.cause == Cause::Drift)
            };
            stage.namespace.wait_for(SHOP, "deployed again", again).await?;
            let looked = stage.look_now(SHOP).await?;
            check(again(&looked), || format!("{:?}", looked.status))?;
            check(posted(&stage, UAT).await?.len() == 2, || "not once for one move".to_owned())
        }
    }
}

async fn row_26b_a_person_deploys_before_our_request(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold(claims());
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    lasts(case.moment(Duration::from_secs(2))).await?;
    gate.open();
    let digest = digest_of_wish(&wish);
    deployed_once(&stage, &digest).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())?;
    let running = stage.simulator.space(UAT).await?["running"]["sha256"].clone();
    check(digest == format!("sha256:{}", running.as_str().unwrap_or_default()), || format!("{running} runs"))
}

async fn row_26c_a_person_deploys_during_our_job(case: &Case) -> Result<()> {
    let stage = case.open_with(3.0, |options| options).await?;
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    lasts(case.moment(Duration::from_secs(2))).await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 600}}})).await?;
    let digest = digest_of_wish(&wish);
    let ended = |space: &KonigleSpace| {
        space.status.as_ref().is_some_and(|status| status.attempt.is_none() && status.last_attempt == 1)
    };
    stage.namespace.wait_for(SHOP, "our own is over", ended).await?;
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 1200})).await?;
    lasts(Duration::from_secs(2)).await?;
    let looked = stage.look_now(SHOP).await?;
    check(ready_reason(&looked) == Some("Drifted"), || format!("theirs runs: {:?}", looked.status))?;
    check(posted(&stage, UAT).await?.len() == 1, || format!("{digest} was sent again"))
}

async fn row_26d_a_person_deploys_between_our_job_and_our_look(case: &Case) -> Result<()> {
    let mut stage = case.open_with(4.0, |options| options).await?;
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    let recorded = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_id.is_some())
    };
    stage.namespace.wait_for(SHOP, "recorded", recorded).await?;
    let restarts = *case.pick(&[false, true]);
    if restarts {
        stage.operator.kill();
    } else {
        stage.operator.process().signal("STOP")?;
    }
    let recording = Recording::start(&stage.namespace).await?;
    wait_for("the job is over", async || Ok((stage.simulator.job(&job).await?["status"] == "success").then_some(())))
        .await?;
    somebody_deploys(&stage).await?;
    if restarts {
        stage.operator.start_again().await?;
    } else {
        stage.operator.process().signal("CONT")?;
    }
    let ended = |space: &KonigleSpace| space.status.as_ref().is_some_and(|status| status.attempt.is_none());
    stage.namespace.wait_for(SHOP, "over", ended).await?;
    let looked = stage.look_now(SHOP).await?;
    check(attribution(&looked) != Some(Attribution::Confirmed), || format!("theirs runs: {:?}", looked.status))?;
    for status in recording.statuses(SHOP).await? {
        let confirmed = status.release.is_some_and(|release| release.attribution == Attribution::Confirmed);
        check(!confirmed, || "it was Confirmed for a time".to_owned())?;
    }
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_26e_a_failed_job_and_an_hour_of_nothing(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let recording = Recording::start(&stage.namespace).await?;
    let before = *case.pick(&[true, false]);
    if before {
        deploy_once(&stage, &stage.wish("0.9")?).await?;
    }
    stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "failed"}]})).await?;
    let earlier = stage.simulator.space(UAT).await?["last_deployed_at"].clone();
    let mut wish = stage.wish("1.0")?;
    wish["retry"] = json!({"limit": 1});
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?;
    let later = stage.simulator.space(UAT).await?["last_deployed_at"].clone();
    check(later.is_string() && later != earlier, || {
        format!("the failed job did not move the time: {earlier}, {later}")
    })?;
    for _ in 0..3 {
        stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 1200})).await?;
        lasts(Duration::from_secs(2)).await?;
        stage.look_now(SHOP).await?;
    }
    // A new process knows nothing of when the job ended.
    stage.restart_operator().await?;
    let looked = stage.look_now(SHOP).await?;
    check(ready_reason(&looked) == Some("RetriesExceeded"), || format!("{:?}", looked.status))?;
    for status in recording.statuses(SHOP).await? {
        check(status.condition("Drifted").is_none(), || format!("our own failure is taken for drift: {status:?}"))?;
    }
    check(posted(&stage, UAT).await?.len() == 1 + usize::from(before), || "sent again".to_owned())
}

async fn row_26f_the_space_lags_behind_the_job(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    // Beyond settle the job alone confirms, and the Space's move that is seen later is ours by the job's own times.
    let lag = *case.pick(&[2.5, 4.5, 0.5]);
    let versions: &[&str] = if lag > 3.0 { &["1.0"] } else { &["1.0", "2.0"] };
    stage.simulator.reading("read_lag_seconds", lag).await?;
    let recording = Recording::start(&stage.namespace).await?;
    for version in versions {
        let space = deploy_once(&stage, &stage.wish(version)?).await?;
        // Later than that it may show our own job as if it were another one that runs.
        let inferred = lag > 3.0 && attribution(&space) == Some(Attribution::Inferred);
        check(inferred || attribution(&space) == Some(Attribution::Confirmed), || format!("{:?}", space.status))?;
    }
    lasts(Duration::from_secs(5)).await?;
    stage.look_now(SHOP).await?;
    for status in recording.statuses(SHOP).await? {
        check(status.condition("Drifted").is_none(), || format!("lag is taken for drift: {status:?}"))?;
    }
    check(posted(&stage, UAT).await?.len() == versions.len(), || "sent again".to_owned())
}
