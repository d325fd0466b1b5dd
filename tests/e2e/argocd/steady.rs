//! Where nothing happens, nothing is written, and Argo CD looks no more often than it does by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;

use super::Argo;
use super::programs::RESYNC;
use crate::steps::Steps;
use crate::support::namespace::wait_longer_for;
use crate::support::{Failure, Result};

/// The applications of the scenes.
const APPLICATIONS: u64 = 2;
/// How long nothing is to happen.
const QUIET: Duration = Duration::from_mins(2);

/// Two minutes of steady state.
pub(super) async fn state(argo: &Argo) -> Result<()> {
    let steps = Steps::new("steady", argo.began);
    settle(argo).await?;
    let (versions, refreshes, looks) = (versions(argo).await?, argo.programs.refreshes().await?, looks(argo).await?);
    steps.saw(&format!("Argo CD has seen the last change: it looked {refreshes} times at all of the above"));
    // Not a wait for a state: that nothing happens is all that this is about.
    tokio::time::sleep(QUIET).await;
    let now = self::versions(argo).await?;
    if now != versions {
        return Err(Failure::new(format!("somebody wrote while nothing happened: {versions:?}, now {now:?}")));
    }
    let looks = self::looks(argo).await? - looks;
    if looks == 0 {
        return Err(Failure::new("the operator did not look at Konigle, so it shows nothing that it wrote nothing"));
    }
    let refreshes = argo.programs.refreshes().await? - refreshes;
    // Each application may have one just before the end.
    let resyncs = APPLICATIONS * (QUIET.as_secs() / RESYNC + 1);
    if refreshes > resyncs || refreshes < APPLICATIONS {
        return Err(Failure::new(format!(
            "Argo CD looked {refreshes} times at {APPLICATIONS} applications, not {resyncs}"
        )));
    }
    steps.saw(&format!(
        "in {} s the operator asked Konigle {looks} times, wrote to no KonigleSpace and told no Event; Argo CD looked \
         {refreshes} times at {APPLICATIONS} applications, and would by itself up to {resyncs} times",
        QUIET.as_secs(),
    ));
    Ok(())
}

/// Waits until Argo CD does not look for a while that is long against what a change costs it, and short against a
/// resync.
async fn settle(argo: &Argo) -> Result<()> {
    const WHILE: Duration = Duration::from_secs(5);
    let mut last = (argo.programs.refreshes().await?, Instant::now());
    wait_longer_for("quiet", Duration::from_mins(1), async || {
        let refreshes = argo.programs.refreshes().await?;
        if refreshes != last.0 {
            last = (refreshes, Instant::now());
        }
        Ok((last.1.elapsed() > WHILE).then_some(()))
    })
    .await
}

/// The versions of all KonigleSpaces and of all Events about them.
async fn versions(argo: &Argo) -> Result<BTreeMap<String, Option<String>>> {
    let namespace = &argo.stage().namespace;
    let spaces = namespace.spaces().list(&ListParams::default()).await?;
    let events = namespace.api::<Event>().list(&ListParams::default()).await?;
    let spaces = spaces.iter().map(|space| (format!("KonigleSpace {}", space.name_any()), space.resource_version()));
    let events = events.iter().map(|event| (format!("Event {}", event.name_any()), event.resource_version()));
    Ok(spaces.chain(events).collect())
}

/// How often the operator asked Konigle for something.
async fn looks(argo: &Argo) -> Result<u64> {
    let requests = argo.stage().simulator.requests().await?;
    let operations = requests["by_object"].as_object().into_iter().flat_map(|objects| objects.values());
    let counts = operations.filter_map(|it| it.as_object()).flat_map(|it| it.values());
    Ok(counts.filter_map(serde_json::Value::as_u64).sum())
}
