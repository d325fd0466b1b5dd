//! Leader election: keeps two replicas from doing the same work. Safety never rests on it (`ARCHITECTURE.md`).

use std::sync::Arc;
use std::time::Duration;

use kube::Config as KubeConfig;
use kube_lease_manager::LeaseManagerBuilder;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::cluster::Clients;
use crate::config::Config;
use crate::context::Stop;
use crate::health::Readiness;
use crate::metrics::Metrics;

/// The longest that a lost leader goes unnoticed, in seconds; the renewal comes this much earlier than the expiry.
const DURATION: u64 = 30;
const GRACE: u64 = 10;

/// The lead, for as long as this process has it.
#[derive(Default)]
pub struct Lead {
    drained: CancellationToken,
    keeper: Option<JoinHandle<()>>,
}

impl Lead {
    /// Lets the Lease go, once nothing is left to be done: another replica need not wait for its expiry.
    pub async fn release(self) {
        self.drained.cancel();
        if let Some(keeper) = self.keeper {
            let _ = tokio::time::timeout(Duration::from_secs(GRACE), keeper).await;
        }
    }
}

/// Waits until this process leads, if it must. When the lead is lost the process ends, with a failure: a new one is the
/// surest way to start with nothing in hand.
///
/// # Errors
///
/// Where the Lease cannot be made or read.
pub async fn lead(
    config: &Config,
    kube_config: &KubeConfig,
    clients: &Clients,
    (metrics, readiness): (&Arc<Metrics>, &Readiness),
    stop: &Stop,
) -> Result<Lead, Box<dyn std::error::Error>> {
    let namespace = config.lease_namespace.clone().or_else(|| std::env::var("POD_NAMESPACE").ok());
    if !config.leader_elect.unwrap_or(namespace.is_some()) {
        metrics.leader(true);
        return Ok(Lead::default());
    }
    let namespace = namespace.unwrap_or_else(|| kube_config.default_namespace.clone());
    info!(namespace, lease = config.lease_name, "waiting for the Lease");
    // A replica that stands by is as ready as it can be.
    readiness.set_watch(None);
    let mut builder = LeaseManagerBuilder::new(clients.lease.clone(), &config.lease_name)
        .with_namespace(namespace)
        .with_duration(DURATION)
        .with_grace(GRACE);
    if let Ok(pod) = std::env::var("POD_NAME") {
        builder = builder.with_identity(pod);
    }
    let manager = builder.build().await?;
    let (mut leads, manager) = manager.watch().await;
    tokio::select! {
        result = leads.wait_for(|leads| *leads) => { result?; }
        () = stop.shutdown.cancelled() => return Ok(Lead::default()),
    }
    info!("this process leads");
    metrics.leader(true);
    let (stop, metrics, drained) = (stop.clone(), metrics.clone(), CancellationToken::new());
    let done = drained.clone();
    let keeper = tokio::spawn(async move {
        tokio::select! {
            () = async { leads.wait_for(|leads| !*leads).await.map_or((), |_| ()) } => {
                error!("the Lease is lost: stopping");
                metrics.leader(false);
                stop.failed.cancel();
                stop.shutdown.cancel();
            }
            () = done.cancelled() => {}
        }
        // Closing the channel is how the manager is told to let the Lease go.
        drop(leads);
        if let Ok(Err(error)) = manager.await {
            info!(%error, "the Lease was not let go; it expires by itself");
        }
    });
    Ok(Lead { drained, keeper: Some(keeper) })
}
