//! Leader election: keeps two replicas from doing the same work. Safety never rests on it (`ARCHITECTURE.md`).
//!
//! The rules are those of Kubernetes' own controllers. Every write replaces the version that was read. A Lease has expired
//! when it did not change for its duration as seen from here, by the monotonic clock: two machines' clocks are never
//! compared. A leader that could not renew for [`RENEW_LIMIT`] stops, before another may begin.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use futures::FutureExt;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Config as KubeConfig};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock;
use crate::cluster::{Clients, ClusterError, within};
use crate::config::Config;
use crate::context::Stop;
use crate::health::Readiness;
use crate::metrics::Metrics;

/// For how long others leave a Lease alone that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// For how long a leader goes on that cannot renew.
const RENEW_LIMIT: Duration = Duration::from_secs(10);
/// How long one try may take, so that a leader has a second one.
const TRY_LIMIT: Duration = Duration::from_secs(4);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

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
            let _ = keeper.await;
        }
    }
}

/// Waits until this process leads, if it must. When the lead is lost the process ends, with a failure: a new one is the
/// surest way to start with nothing in hand.
///
/// # Errors
///
/// Where there are no random bytes for a name.
pub async fn lead(
    config: &Config,
    kube_config: &KubeConfig,
    clients: &Clients,
    (metrics, readiness): (&Arc<Metrics>, &Arc<Readiness>),
    stop: &Stop,
) -> Result<Lead, Box<dyn std::error::Error>> {
    let namespace = config.lease_namespace.clone().or_else(|| std::env::var("POD_NAMESPACE").ok());
    if !config.leader_elect.unwrap_or(namespace.is_some()) {
        metrics.leader(true);
        return Ok(Lead::default());
    }
    let namespace = namespace.unwrap_or_else(|| kube_config.default_namespace.clone());
    let mut candidate = Candidate::new(clients.lease.clone(), &namespace, &config.lease_name)?;
    info!(namespace, lease = config.lease_name, identity = candidate.identity, "waiting for the Lease");
    let renewed = loop {
        let asked = Instant::now();
        match candidate.hold(asked + TRY_LIMIT).await {
            Ok(true) => break asked,
            // A replica that stands by is as ready as it can be.
            Ok(false) => readiness.set_watch(None),
            Err(problem) => readiness.set_watch(Some(problem)),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = stop.shutdown.cancelled() => return Ok(Lead::default()),
        }
    };
    info!("this process leads");
    metrics.leader(true);
    let (metrics, readiness, stop) = (metrics.clone(), readiness.clone(), stop.clone());
    let drained = CancellationToken::new();
    let done = drained.clone();
    let keeper = tokio::spawn(async move {
        // A keeper that panics keeps nothing either.
        let kept = AssertUnwindSafe(candidate.keep(renewed, done)).catch_unwind().await;
        if !matches!(kept, Ok(Ok(()))) {
            error!("the Lease is lost: stopping");
            metrics.leader(false);
            readiness.set_lost();
            stop.failed.cancel();
            stop.shutdown.cancel();
        }
    });
    Ok(Lead { drained, keeper: Some(keeper) })
}

/// The lead is no longer this process's.
struct Lost;

/// One who leads or wants to.
struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    seen: Seen,
    /// Why the last try failed.
    problem: Option<String>,
}

impl Candidate {
    fn new(client: Client, namespace: &str, name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let mut bytes = [0_u8; 8];
        rand::fill(&mut bytes).map_err(|_| "no random bytes for a name")?;
        // A container that is started again has the name of its pod, and what it held.
        let identity = std::env::var("POD_NAME").unwrap_or_else(|_| hex::encode(bytes));
        let leases = Api::namespaced(client, namespace);
        Ok(Self { leases, name: name.to_owned(), identity, seen: Seen::default(), problem: None })
    }

    /// Renews until the work is done, and lets the Lease go then.
    async fn keep(&mut self, mut renewed: Instant, done: CancellationToken) -> Result<(), Lost> {
        loop {
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = done.cancelled() => {
                    self.let_go().await;
                    return Ok(());
                }
            }
            let (asked, end) = (Instant::now(), renewed + RENEW_LIMIT);
            // The process may have been stopped for minutes: its time is over then, whatever the Lease says.
            if asked < end {
                match self.hold(end.min(asked + TRY_LIMIT)).await {
                    Ok(true) => renewed = asked,
                    Ok(false) => return Err(Lost),
                    Err(_) => {}
                }
            }
            if renewed.elapsed() >= RENEW_LIMIT {
                return Err(Lost);
            }
        }
    }

    /// Takes or renews the Lease; whether this process holds it then.
    async fn hold(&mut self, end: Instant) -> Result<bool, String> {
        let problem = match timeout_at(end, self.try_hold()).await {
            Ok(Ok(held)) => {
                if self.problem.take().is_some() {
                    info!("the Lease can be taken and renewed again");
                }
                return Ok(held);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer from the API server about the Lease".to_owned(),
        };
        if self.problem.as_ref() != Some(&problem) {
            warn!(error = problem, "the Lease was neither taken nor renewed; it is tried again");
        }
        self.problem = Some(problem.clone());
        Err(problem)
    }

    async fn try_hold(&mut self) -> Result<bool, ClusterError> {
        let found = within("read the Lease", self.leases.get_opt(&self.name)).await?;
        let Some(lease) = found else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = self.held(Lease { metadata, spec: None });
            within("make the Lease", self.leases.create(&PostParams::default(), &lease)).await?;
            return Ok(true);
        };
        if self.seen.is_anothers(&self.identity, lease.spec.as_ref(), Instant::now()) {
            return Ok(false);
        }
        // Refused with 409 where somebody wrote since it was read.
        let lease = self.held(lease);
        within("write the Lease", self.leases.replace(&self.name, &PostParams::default(), &lease)).await?;
        Ok(true)
    }

    /// The Lease as it is when this process holds it.
    fn held(&self, mut lease: Lease) -> Lease {
        let now = Some(MicroTime(clock::now()));
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time.clone_from(&now);
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
        }
        spec.renew_time = now;
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        lease
    }

    async fn let_go(&self) {
        let letting_go = async {
            let mut lease = within("read the Lease", self.leases.get(&self.name)).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_ref() == Some(&self.identity) {
                spec.holder_identity = None;
                within("let the Lease go", self.leases.replace(&self.name, &PostParams::default(), &lease)).await?;
            }
            Ok::<(), ClusterError>(())
        };
        if !matches!(timeout_at(Instant::now() + TRY_LIMIT, letting_go).await, Ok(Ok(()))) {
            info!("the Lease was not let go; it expires by itself");
        }
    }
}

/// Another's Lease as it is, and since when it is so.
#[derive(Default)]
struct Seen(Option<(LeaseSpec, Instant)>);

impl Seen {
    /// Whether another than `identity` holds the Lease, and has renewed it within its duration as seen from here.
    fn is_anothers(&mut self, identity: &str, lease: Option<&LeaseSpec>, now: Instant) -> bool {
        let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).unwrap_or_default();
        let Some(lease) = lease.filter(|_| !holder.is_empty() && holder != identity) else { return false };
        match &self.0 {
            Some((seen, since)) if seen == lease => {
                // An earlier version of this program renewed more rarely; anything longer is nobody's.
                let seconds = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
                let duration = Duration::from_secs(seconds.unwrap_or_default()).clamp(DURATION, 2 * DURATION);
                now - *since < duration
            }
            _ => {
                self.0 = Some((lease.clone(), now));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: i64, seconds: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            renew_time: Some(MicroTime(jiff::Timestamp::from_second(renewed).unwrap())),
            lease_duration_seconds: Some(seconds),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_expires_by_what_is_seen_and_not_by_what_its_times_say() {
        let began = Instant::now();
        let mut seen = Seen::default();
        let mut is_anothers =
            |lease: &LeaseSpec, second| seen.is_anothers("us", Some(lease), began + Duration::from_secs(second));
        // Its clock is decades behind; it is alive as long as the record changes.
        for (renewed, second) in [(0, 0), (1, 10), (2, 24), (3, 38)] {
            assert!(is_anothers(&lease("another", renewed, 15), second), "{second}");
        }
        assert!(is_anothers(&lease("another", 3, 15), 52), "14 s");
        assert!(!is_anothers(&lease("another", 3, 15), 53), "15 s");
        // A duration that no program of ours writes is not waited out.
        let forged = lease("another", 4, i32::MAX);
        assert!(is_anothers(&forged, 60));
        assert!(is_anothers(&forged, 89));
        assert!(!is_anothers(&forged, 90));
        assert!(!is_anothers(&lease("us", 5, 15), 91), "our own from before a restart");
        assert!(!is_anothers(&lease("", 5, 15), 91), "let go");
        assert!(!seen.is_anothers("us", None, began));
    }
}
