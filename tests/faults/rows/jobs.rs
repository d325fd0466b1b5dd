//! Rows about jobs that do not end as they should.

use std::time::Duration;

use konigle_operator::api::{AttemptResult, KonigleSpace};
use serde_json::{Value, json};

use crate::case::Case;
use crate::matrix::{Row, row};
use crate::oracles::{LONGEST_OUTCOME, check, check_results, deployed_once, lasts, posted, quick};
use crate::support::Result;
use crate::support::namespace::ready_reason;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "24",
            row_24_a_job_that_never_ends,
            "The job never ends",
            "`JobOverdue` after `spec.timeout`; nothing else is started, the job is still followed, and its end heals all"
        ),
        row!(
            "25a",
            row_25a_a_job_that_says_strange_things,
            "The job is 404 once, its status goes backwards, or is a word that nobody knows",
            "It is followed to its end; nothing is sent again"
        ),
        row!(
            "25b",
            row_25b_a_job_that_is_gone_for_ever,
            "The job's id is 404 for ever",
            "After five minutes its outcome is judged by the Space; nothing is sent again"
        )
        .long(),
    ]
}

/// Deploys by a job that runs until it is ended; its id.
async fn start_endless_job(stage: &Stage, wish: &Value) -> Result<Value> {
    stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "never", "lines": 2}]})).await?;
    stage.namespace.apply(SHOP, wish).await?;
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    let follows = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_status.is_some())
    };
    stage.namespace.wait_for(SHOP, "following its job", follows).await?;
    Ok(job)
}

/// The end of the job is what the status tells, and nothing was sent again.
async fn ends_once(stage: &Stage, wish: &Value, job: &Value) -> Result<()> {
    stage.simulator.change_job(job, &json!({"status": null, "finish": "success"})).await?;
    stage.look_now(SHOP).await?;
    let space = deployed_once(stage, &digest_of_wish(wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_24_a_job_that_never_ends(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let wish = quick(&stage, "1.0")?;
    let job = start_endless_job(&stage, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "JobOverdue").await?;
    if *case.pick(&[true, false]) {
        stage.restart_operator().await?;
    } else {
        stage.namespace.apply(SHOP, &quick(&stage, "2.0")?).await?;
        stage.namespace.wait_for_reason(SHOP, "JobOverdue").await?;
        stage.namespace.apply(SHOP, &wish).await?;
    }
    stage.look_now(SHOP).await?;
    stage.namespace.wait_for_reason(SHOP, "JobOverdue").await?;
    check(posted(&stage, UAT).await?.len() == 1, || "another was started beside it".to_owned())?;
    ends_once(&stage, &wish, &job).await
}

async fn row_25a_a_job_that_says_strange_things(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let wish = stage.wish("1.0")?;
    let job = start_endless_job(&stage, &wish).await?;
    let shows = async |word: &str| {
        let reads = |space: &KonigleSpace| {
            let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
            attempt.is_some_and(|attempt| attempt.job_status.as_deref() == Some(word))
        };
        stage.namespace.wait_for(SHOP, word, reads).await.map(drop)
    };
    match *case.pick(&["404", "backwards", "unknown"]) {
        "404" => {
            stage.simulator.fault(&json!({"operation": "get_job", "times": 2, "action": {"status": 404}})).await?;
            stage.look_now(SHOP).await?;
            stage.look_now(SHOP).await?;
        }
        "backwards" => {
            shows("running").await?;
            stage.simulator.change_job(&job, &json!({"status": "pending"})).await?;
            shows("pending").await?;
        }
        _ => {
            stage.simulator.change_job(&job, &json!({"status": "hibernating"})).await?;
            shows("hibernating").await?;
        }
    }
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())?;
    ends_once(&stage, &wish, &job).await
}

async fn row_25b_a_job_that_is_gone_for_ever(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let wish = quick(&stage, "1.0")?;
    let job = start_endless_job(&stage, &wish).await?;
    stage.simulator.change_job(&job, &json!({"hidden": true})).await?;
    lasts(case.moment(Duration::from_secs(10))).await?;
    stage.simulator.change_job(&job, &json!({"finish": "success"})).await?;
    // Five minutes of 404, and the wait for an outcome.
    let limit = Duration::from_mins(5) + LONGEST_OUTCOME;
    let judged = |space: &KonigleSpace| is_ready(space) && ready_reason(space) == Some("Succeeded");
    stage.namespace.wait_longer_for(SHOP, "judged by the Space", limit, judged).await?;
    deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}
