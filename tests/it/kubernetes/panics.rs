//! Bugs of our own: a pass that panics, and a controller that does.
//!
//! The controller runs in the test's own process (`support/in_process.rs`). That the process ends with its controller is
//! shown by the built program.

use std::sync::Arc;

use axum::http::StatusCode;
use konigle_operator::context::Stop;
use konigle_operator::controller;
use konigle_operator::health::Readiness;
use konigle_operator::metrics::Metrics;
use reqwest::Method;
use serde_json::json;

use super::LIMIT;
use crate::support::in_process::{clients, config, panicking};
use crate::support::namespace::{deploys, wait_for, wait_longer_for};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::proxy::Matcher;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, STOP_LIMIT, Stage, is_ready};
use crate::support::trace::Property;
use crate::support::{Context, Result};

/// A Space of another web app than the demo's.
const OTHER: &str = "7301962442809590001";

#[tokio::test]
async fn k16_a_pass_that_panics_leaves_the_others_going() -> Result<()> {
    let mut stage = Stage::open("panicking").await?;
    stage.operator.kill();
    stage.simulator.add_uat_spaces("web-2", &[OTHER.to_owned()]).await?;
    let mut clients = clients(&stage).await?;
    clients.api = panicking(clients.api, Method::PATCH, "/koniglespaces/odd/status", 3);
    let (config, metrics, stop) = (config(&stage)?, Arc::new(Metrics::new()), Stop::default());
    let parts = (metrics.clone(), Arc::new(Readiness::default()));
    let ending = stop.clone();
    let running = tokio::spawn(async move { controller::run(&config, clients, parts, ending).await });

    let artifact = stage.artifacts.serve_application("1.0")?;
    let mut odd = deploys(OTHER, &artifact.url, &artifact.digest);
    // A panic after the claim leaves an outcome to be waited out.
    odd["timeout"] = json!("5s");
    stage.namespace.apply("odd", &odd).await?;
    stage.deployed("1.0").await?;
    stage.deployed("1.1").await?;
    stage.namespace.wait_longer_for("odd", "deployed too", LIMIT, is_ready).await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    assert_eq!(stage.simulator.ledger(OTHER).await?.len(), 1);
    let text = metrics.text();
    assert!(text.contains("konigle_reconcile_total{result=\"error\"} 3"), "the panics are counted: {text}");
    stop.shutdown.cancel();
    running.await.context("the controller")??;
    assert!(!stop.failed.is_cancelled());
    Ok(())
}

/// No task of its own holds the panic back: it goes to whoever runs the controller, and that is `main`.
#[tokio::test]
async fn k16_a_panic_of_the_controller_itself_is_not_caught() -> Result<()> {
    let mut stage = Stage::open("dying").await?;
    stage.operator.kill();
    let mut clients = clients(&stage).await?;
    clients.watch = panicking(clients.watch, Method::GET, "watch=true", 1);
    let (config, stop) = (config(&stage)?, Stop::default());
    let parts = (Arc::new(Metrics::new()), Arc::new(Readiness::default()));
    let running = tokio::spawn(async move { controller::run(&config, clients, parts, stop).await });
    let end = tokio::time::timeout(STOP_LIMIT, running).await.context("the controller lives on")?;
    assert!(end.is_err_and(|error| error.is_panic()));
    Ok(())
}

/// The built program: its watch is refused until the controller gives up. It was ready, says that it no longer is before
/// it ends, never says otherwise again, and ends with a failure.
#[tokio::test]
async fn k16_a_controller_that_dies_ends_the_process() -> Result<()> {
    let mut stage = Stage::open("dead").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    stage.deployed("1.0").await?;
    // The list comes, and the watch that follows is held until the process was seen ready.
    let watches = Matcher::new(Method::GET, "/koniglespaces?&watch=true");
    let held = proxy.hold(watches.clone());
    stage.operator.restart_unready()?;
    held.arrived().await?;
    let says = |wanted: u16| {
        let operator = &stage.operator;
        wait_for("what /readyz says", async move || {
            Ok(operator.readiness().await.filter(|(status, _)| *status == wanted).map(|(_, text)| text))
        })
    };
    says(200).await?;
    proxy.clear();
    proxy.answer(watches, usize::MAX, StatusCode::GONE);
    held.refuse();
    let why = says(503).await?;
    assert!(why.contains("the resources cannot be watched"), "{why}");
    let mut looks = 0;
    let status = wait_longer_for("the end of the process", LIMIT, async || {
        let said = stage.operator.readiness().await;
        assert!(said.as_ref().is_none_or(|(status, _)| *status == 503), "ready again without a watch: {said:?}");
        looks += usize::from(said.is_some());
        stage.operator.process().ended()
    })
    .await?;
    assert!(!status.success(), "{status}");
    assert!(looks > 0, "it ended as soon as it was not ready");
    proxy.clear();
    stage.operator.start_again().await?;
    stage.deployed("1.1").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_process_whose_health_cannot_be_asked_for_ends_with_a_failure() -> Result<()> {
    let stage = Stage::open("unheard").await?;
    stage.allow(Property::AllIsSearched, "one operator cannot be asked for its metrics");
    let taken = stage.operator.url("").trim_start_matches("http://").to_owned();
    let options = OperatorOptions::new(&stage.kubeconfig, &stage.simulator.base_url(), stage.namespace.name());
    let mut other = Operator::start_unready(options.flag(&format!("--listen={taken}")))?;
    let status = other.process().wait(STOP_LIMIT).await?;
    assert!(!status.success(), "{status}");
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    stage.namespace.wait_for(SHOP, "deployed by the one that listens", is_ready).await?;
    Ok(())
}
