//! Rows about the process: clocks, signals, starvation, panics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpace, RELEASED};
use konigle_operator::context::Stop;
use konigle_operator::controller;
use konigle_operator::health::Readiness;
use konigle_operator::metrics::Metrics;
use kube::ResourceExt;
use reqwest::Method;
use serde_json::json;

use super::anew::delete;
use crate::case::{Case, JOB_SECONDS};
use crate::halts::{Halts, Moment, arrived};
use crate::matrix::{Row, row};
use crate::oracles::{
    LONGEST_OUTCOME, attribution, check, check_results, deploy_once, deployed_once, lasts, posted, quick,
};
use crate::support::in_process;
use crate::support::proxy::{Gate, claims};
use crate::support::simulator::{TOKEN, UAT};
use crate::support::stage::{SHOP, STOP_LIMIT, digest_of_wish, is_ready};
use crate::support::{Context, Failure, Result};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "37a",
            row_37a_the_clock_steps,
            "The operator's clock steps an hour or a year, forward or back, while a request or a job is under way",
            "A request is sent or provably not sent, a job is waited for as without it; deployed once"
        ),
        row!(
            "37b",
            row_37b_the_servers_clock_is_wrong,
            "Konigle's clock is an hour ahead or behind, or a year",
            "Its times are compared with each other only: deployed once and Confirmed, a lost answer is found, a person's deploy is `Drifted`, a restored resource is taken over"
        ),
        row!(
            "50",
            row_50_terminated_at_any_moment,
            "SIGTERM at any moment of a deploy; SIGKILL one second later, or a second SIGTERM; then a restart",
            "An end in order and in time unless it is killed; deployed once"
        ),
        row!(
            "51",
            row_51_a_pass_that_panics,
            "A pass panics, or the controller does: after a write of the status, while it reads the Secret, or after an Event",
            "The others go on, and what panicked is deployed once too; a controller that is gone ends the process with a failure"
        )
        .tested_by(&[
            ("tests/it/kubernetes/panics.rs", "k16_a_pass_that_panics_leaves_the_others_going"),
            ("tests/it/kubernetes/panics.rs", "k16_a_controller_that_dies_ends_the_process"),
        ]),
        row!(
            "53",
            row_53_a_starved_process,
            "The process runs for a hundredth of the time, alone or as the leader beside another replica",
            "Late is not twice: deployed once; a leader whose Lease is lost by it ends with a failure"
        ),
    ]
}

async fn row_37a_the_clock_steps(case: &Case) -> Result<()> {
    const YEAR: i64 = 31_536_000;
    let file = crate::support::run_folder::new_folder("clock")?.join("offset");
    std::fs::write(&file, "0")?;
    let mut stage = case
        .open_with(2.0, |mut options| {
            options.environment.push(("KONIGLE_CLOCK_OFFSET".to_owned(), file.display().to_string()));
            options
        })
        .await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    // All steps, each between the claim and the request, and while the job runs.
    let steps = *case.pick(&[[3600, -3600], [YEAR, -YEAR], [5, -5]]);
    let moments = steps.into_iter().flat_map(|step| [(step, true), (step, false)]);
    for (number, (step, before_the_request)) in moments.enumerate() {
        let wish = stage.wish(&format!("1.{number}"))?;
        if before_the_request {
            let gate = proxy.hold_answer(claims());
            stage.namespace.apply(SHOP, &wish).await?;
            gate.arrived().await?;
            std::fs::write(&file, step.to_string())?;
            gate.open();
            proxy.clear();
        } else {
            stage.namespace.apply(SHOP, &wish).await?;
            stage.wait_for_ledger(UAT, number + 1).await?;
            lasts(case.moment(Duration::from_secs(2))).await?;
            std::fs::write(&file, step.to_string())?;
        }
        let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
        was_felt(&space, step, before_the_request)?;
        std::fs::write(&file, "0")?;
    }
    deploy_once(&stage, &stage.wish("2.0")?).await?;
    check(posted(&stage, UAT).await?.len() == 5, || "sent again".to_owned())
}

/// The newest digest was sent at once, or provably not sent and then sent; and the operator's own records are off by the
/// step of its clock.
fn was_felt(space: &KonigleSpace, step: i64, before_the_request: bool) -> Result<()> {
    let history = space.status.clone().unwrap_or_default().history;
    let newest = history.first().ok_or_else(|| Failure::new("there is no history"))?;
    let of_digest = history.iter().filter(|entry| entry.digest == newest.digest);
    let results: Vec<AttemptResult> = of_digest.map(|entry| entry.result).collect();
    let sent_at_once = [AttemptResult::Succeeded];
    let sent_later = [AttemptResult::Succeeded, AttemptResult::NotSent];
    check(results == sent_at_once || (before_the_request && results == sent_later), || format!("{results:?}"))?;
    let ended = newest.completed_at.parse::<jiff::Timestamp>()?;
    let off = ended.duration_since(konigle_operator::clock::now()).as_secs() - step;
    check(off.abs() <= 120 && (step.abs() < 3600 || (off + step).abs() > 1800), || format!("{ended}, stepped {step} s"))
}

async fn row_37b_the_servers_clock_is_wrong(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    stage.simulator.reading("clock_offset_seconds", *case.pick(&[3600, -3600, -31_536_000])).await?;
    let confirmed = deploy_once(&stage, &stage.wish("1.0")?).await?;
    check(attribution(&confirmed) == Some(Attribution::Confirmed), || format!("{:?}", confirmed.status))?;
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    let space = deploy_once(&stage, &quick(&stage, "2.0")?).await?;
    check_results(&space, &[AttemptResult::Succeeded; 2])?;
    let noted = stage.deployed("2.0").await?.annotations().get(RELEASED).cloned().unwrap_or_default();
    stage.operator.kill();
    delete(&stage).await?;
    stage.namespace.apply(SHOP, &stage.wish("2.0")?).await?;
    stage.namespace.annotate(SHOP, RELEASED, &noted).await?;
    stage.operator.start_again().await?;
    let restored = stage.namespace.wait_for(SHOP, "taken over", is_ready).await?;
    check(attribution(&restored) == Some(Attribution::Inferred), || format!("{:?}", restored.status))?;
    check(posted(&stage, UAT).await?.len() == 2, || "sent again".to_owned())?;
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    lasts(Duration::from_secs(2)).await?;
    stage.look_now(SHOP).await?;
    stage.namespace.wait_for_reason(SHOP, "Drifted").await?;
    deploy_once(&stage, &stage.wish("3.0")?).await?;
    check(posted(&stage, UAT).await?.len() == 3, || "sent again".to_owned())
}

async fn row_50_terminated_at_any_moment(case: &Case) -> Result<()> {
    let mut stage = case.open_with(2.0, |options| options).await?;
    let halts = Halts::put(&mut stage).await?;
    let wish = halts.quick(&stage, "1.0")?;
    let (then, moments) = *case.pick(&[
        ("in order", [Moment::Fetching, Moment::Requesting]),
        ("killed", [Moment::Claiming, Moment::Following]),
        ("asked again", [Moment::Requesting, Moment::Following]),
    ]);
    // Before it starts: what the next life does at once halts too.
    let gates = moments.map(|moment| halts.halt(moment));
    stage.namespace.apply(SHOP, &wish).await?;
    for gate in &gates {
        arrived(&stage, gate.as_ref()).await?;
        lasts(case.moment(Duration::from_secs(1))).await?;
        stage.operator.process().signal("TERM")?;
        lasts(Duration::from_secs(1)).await?;
        let process = stage.operator.process();
        // It may have ended in the second before.
        let status = match process.ended()? {
            None if then == "killed" => {
                stage.operator.kill();
                None
            }
            ended => {
                // What it waits for comes.
                gate.iter().for_each(Gate::open);
                let limit = Duration::from_secs(80);
                Some(match (ended, then) {
                    (Some(status), _) => status,
                    (None, "asked again") => process.terminate(limit).await?,
                    (None, _) => process.wait(limit).await?,
                })
            }
        };
        check(status.is_none_or(|status| status.success()), || format!("it ended with {status:?}"))?;
        gate.iter().for_each(Gate::open);
        stage.operator.start_again().await?;
    }
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    let newest = crate::oracles::results(&space).first().copied();
    check(newest == Some(AttemptResult::Succeeded), || format!("{newest:?}"))?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_51_a_pass_that_panics(case: &Case) -> Result<()> {
    const OTHER: &str = "7301962442809705101";
    const TIMES: usize = 3;
    let mut stage = case.open().await?;
    stage.operator.kill();
    stage.simulator.add_uat_spaces("web-5", &[OTHER.to_owned()]).await?;
    stage.namespace.write_secret("odd", &json!({"token": TOKEN})).await?;
    let (method, path) = case.pick(&[
        (Method::PATCH, "/koniglespaces/odd/status"),
        (Method::GET, "/secrets/odd"),
        (Method::POST, "/events"),
    ]);
    let mut clients = in_process::clients(&stage).await?;
    clients.api = in_process::panicking(clients.api, method.clone(), path, TIMES);
    let (config, metrics, stop) = (in_process::config(&stage)?, Arc::new(Metrics::new()), Stop::default());
    let (parts, ending) = ((metrics.clone(), Arc::new(Readiness::default())), stop.clone());
    let running = tokio::spawn(async move { controller::run(&config, clients, parts, ending).await });

    let wish = quick(&stage, "1.0")?;
    let mut odd = wish.clone();
    odd["space"] = json!({"id": OTHER});
    odd["credentials"]["secretRef"]["name"] = json!("odd");
    stage.namespace.apply("odd", &odd).await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    stage.namespace.apply(SHOP, &wish).await?;
    let deployed =
        async |name: &str| stage.namespace.wait_longer_for(name, "deployed", LONGEST_OUTCOME, is_ready).await;
    deployed(SHOP).await?;
    deployed("odd").await?;
    for space in [UAT, OTHER] {
        let ledger = posted(&stage, space).await?;
        check(ledger.len() == 1, || format!("not once: {ledger:?}"))?;
    }
    let text = metrics.text();
    let panicked =
        (1..=TIMES).any(|times| text.contains(&format!("konigle_reconcile_total{{result=\"error\"}} {times}\n")));
    check(panicked, || format!("no panic is counted: {text}"))?;
    stop.shutdown.cancel();
    running.await.context("the controller")??;
    check(!stop.failed.is_cancelled(), || "the controller gave up".to_owned())
}

async fn row_53_a_starved_process(case: &Case) -> Result<()> {
    // Of a leader that has a hundredth of the time in slices of 120 ms each pause is longer than its Lease.
    let (slice, leads) = *case.pick(&[(20, false), (120, true), (20, true)]);
    let slice = Duration::from_millis(slice);
    let mut stage = case.open_with(JOB_SECONDS, |options| if leads { options.electing() } else { options }).await?;
    let other = if leads { Some(stage.another_operator(|options| options).await?) } else { None };
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(40) && stage.operator.process().ended()?.is_none() {
        stage.operator.process().signal("STOP")?;
        tokio::time::sleep(99 * slice).await;
        stage.operator.process().signal("CONT")?;
        tokio::time::sleep(slice).await;
    }
    if leads && slice.as_millis() > 100 {
        stage.operator.process().wait(STOP_LIMIT).await?;
    }
    if let Some(status) = stage.operator.process().ended()? {
        check(leads && !status.success(), || format!("it ended with {status}"))?;
        stage.operator.start_again().await?;
    }
    deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())?;
    drop(other);
    Ok(())
}
