//! What following one job costs, and how soon its log is seen.

use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, WatchEvent, WatchParams};
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use crate::report::{Report, Sample, count, short};
use crate::stage::{Stage, now_ms, spec};
use crate::support::namespace::{Namespace, ready_reason, wait_for};
use crate::support::simulator::Simulator;
use crate::support::{Failure, Result};

const SECONDS: u64 = 60;
const LINES: u32 = 12;
const NAME: &str = "shop";

/// One version of the resource, as a watch told it.
struct Version {
    seen_ms: f64,
    lines: i64,
    ended: bool,
}

/// A job of a minute with twelve lines, followed by an operator with default flags.
pub(crate) async fn follow(stage: &Stage, report: &mut Report) -> Result<()> {
    report.section(&format!("A job of {SECONDS} s with {LINES} log lines (default flags)"));
    let namespace = stage.namespace("job").await?;
    let job = json!({"seconds": SECONDS, "pending_seconds": 0, "lines": 0});
    let spaces = stage.spaces(&namespace, 1, &json!({"job": job})).await?;
    let space = spaces.first().ok_or_else(|| Failure::new("no Space was made"))?;
    let mut operator = stage.operator(&namespace, &[]).await?;
    namespace.apply(NAME, &spec(space, &stage.artifact)).await?;
    let (versions, written) = tokio::try_join!(watch(&namespace), write_lines(&stage.simulator, space))?;

    let mut lags = Vec::new();
    for (line, written) in (1..).zip(&written) {
        let shown = versions.iter().find(|version| version.lines >= line || version.ended);
        let shown = shown.ok_or_else(|| Failure::new(format!("line {line} was never shown")))?;
        lags.push((shown.seen_ms - written) / 1e3);
    }
    let lags = Sample::new(lags)?;
    // The Events of the last pass follow its write; an operator that has ended published all of them.
    operator.terminate(Duration::from_secs(30)).await?;
    let events = events(&namespace).await?;
    // The first version is the one that was applied.
    let writes = versions.len().saturating_sub(1);
    report.aim("writes to the resource, from apply to Ready", (count(writes)?, 18.0), "");
    report.aim("Events", (f64::from(events), 6.0), "");
    report.row("from a log line to the status, median", format!("{} s", short(lags.median())));
    report.row("from a log line to the status, max", format!("{} s", short(lags.max())));
    Ok(())
}

/// Every version of the resource until it has succeeded.
async fn watch(namespace: &Namespace) -> Result<Vec<Version>> {
    let parameters = WatchParams::default().fields(&format!("metadata.name={NAME}"));
    let spaces = namespace.spaces();
    // From the beginning: the versions before this call are sent too, for "0" would start with the newest.
    let created = spaces.get(NAME).await?;
    let version = created.metadata.resource_version.unwrap_or_default();
    let mut versions = vec![Version { seen_ms: now_ms(), lines: 0, ended: false }];
    let mut events = pin!(spaces.watch(&parameters, &version).await?);
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(resource) | WatchEvent::Modified(resource)) = event else { continue };
        let attempt = resource.status.as_ref().and_then(|status| status.attempt.as_ref());
        let lines = attempt.and_then(|attempt| attempt.log.as_ref()).map_or(0, |log| log.count);
        let ended = resource.status.as_ref().is_some_and(|status| !status.history.is_empty());
        versions.push(Version { seen_ms: now_ms(), lines, ended });
        if ready_reason(&resource) == Some("Succeeded") {
            return Ok(versions);
        }
    }
    Err(Failure::new("the watch ended before the job did"))
}

/// Writes the lines into the job's log, evenly over its time; when each was written.
async fn write_lines(simulator: &Simulator, space: &str) -> Result<Vec<f64>> {
    let job = wait_for("deployed to", async || {
        Ok(simulator.ledger(space).await?.first().and_then(|entry| entry["job"].as_str().map(str::to_owned)))
    })
    .await?;
    let (began, pause) = (Instant::now(), Duration::from_secs(SECONDS) / LINES);
    let lines = futures::stream::iter(1..=LINES).then(async |line| {
        sleep_until(began + pause * line - pause / 2).await;
        let entry = json!({"append_log": [{"level": "info", "message": format!("line {line}")}]});
        let written = now_ms();
        simulator.control(Method::PATCH, &format!("jobs/{job}"), &entry).await?;
        Ok(written)
    });
    lines.try_collect().await
}

/// How many Events were published in the namespace, repetitions counted.
async fn events(namespace: &Namespace) -> Result<i32> {
    let events = namespace.api::<Event>().list(&ListParams::default()).await?;
    Ok(events.iter().map(|event| event.series.as_ref().map_or(1, |series| series.count)).sum())
}
