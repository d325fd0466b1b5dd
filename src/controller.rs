//! Runs the passes: the watch, what wakes whom, the bounds, and a stop that loses nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt, TryStreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::controller::{Action, Config as ControllerConfig, Controller};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef, Store as Known};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, reflector::store::Writer};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, info_span, warn};
use url::Url;

use crate::api::KonigleSpace;
use crate::artifact::{self, Store};
use crate::cluster::{self, WATCH_SECONDS};
use crate::config::Config;
use crate::health::Readiness;
use crate::konigle::{Clients, Guard, Limits, Settings};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::reconcile::{name_of, reconcile};
use crate::record::{FIELD_MANAGER, WriteError};

/// A resource as the watch tells it: one that cannot be read must not keep the others from being seen.
pub type Watched = DeserializeGuard<KonigleSpace>;

/// How many artifacts are downloaded at once.
const DOWNLOADS: usize = 4;

/// What every pass may use.
pub struct Context {
    /// The API server, for single calls.
    pub api: Client,
    /// Konigle, one client for each account.
    pub konigle: Clients,
    /// The operator's own base URL.
    pub base_url: Url,
    /// Which other base URLs a Secret may name.
    pub guard: Guard,
    /// Artifacts on disk.
    pub artifacts: Store,
    /// Bounds the downloads.
    pub downloads: Semaphore,
    /// What this process remembers.
    pub memory: Memory,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The resources as the watch last told them.
    pub store: Known<Watched>,
    /// Publishes Events.
    pub recorder: Recorder,
    /// How long a submitted request may still take effect.
    pub settle: Duration,
    /// No new request is sent once this is cancelled.
    pub shutdown: CancellationToken,
    /// Cancelled when the process cannot wait any longer.
    pub last_call: CancellationToken,
    wakes: UnboundedSender<ObjectRef<Watched>>,
    fingerprints: Mutex<HashMap<ObjectRef<Watched>, u64>>,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `--konigle-base-url` cannot be used.
    #[error("--konigle-base-url: {0}")]
    BaseUrl(String),
    /// `--artifact-dir` cannot be used.
    #[error("--artifact-dir {directory} cannot be used")]
    ArtifactDirectory {
        /// The folder.
        directory: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Context {
    /// Wakes a resource: its next pass comes now.
    pub fn wake(&self, uid: &str, reference: ObjectRef<Watched>) {
        self.memory.wake(uid);
        // The receiver lives as long as the controller; after that nobody needs to be woken.
        let _ = self.wakes.unbounded_send(reference);
    }
}

/// Watches, reconciles, and returns when `shutdown` was asked for and all passes have ended.
///
/// # Errors
///
/// [`StartError`], before anything was watched.
pub async fn run(
    config: &Config,
    clients: cluster::Clients,
    (metrics, readiness): (Arc<Metrics>, Arc<Readiness>),
    (shutdown, last_call): (CancellationToken, CancellationToken),
) -> Result<(), StartError> {
    let (store, writer) = reflector::store::<Watched>();
    let (wakes, woken) = unbounded();
    let context = Arc::new(context(config, &clients, metrics, (shutdown.clone(), last_call), store.clone(), wakes)?);
    let trigger = watch(config, &clients, context.clone(), readiness.clone(), writer);
    readiness.set_watch(Some("the resources are not listed yet".to_owned()));
    info!("watching KonigleSpaces");
    Controller::for_stream(trigger, store)
        .with_config(ControllerConfig::default().concurrency(config.concurrency))
        .reconcile_on(woken)
        .graceful_shutdown_on({
            let shutdown = shutdown.clone();
            async move { shutdown.cancelled().await }
        })
        .run(pass, retry, context)
        .for_each(|_| std::future::ready(()))
        .await;
    readiness.set_watch(Some("the watch has ended".to_owned()));
    if !shutdown.is_cancelled() {
        error!("the watch ended by itself");
    }
    Ok(())
}

fn context(
    config: &Config,
    clients: &cluster::Clients,
    metrics: Arc<Metrics>,
    (shutdown, last_call): (CancellationToken, CancellationToken),
    store: Known<Watched>,
    wakes: UnboundedSender<ObjectRef<Watched>>,
) -> Result<Context, StartError> {
    let base_url =
        Guard::parse_flag(&config.konigle_base_url).map_err(|error| StartError::BaseUrl(error.to_string()))?;
    let guard = Guard::new(&base_url, &config.allowed_base_urls);
    let limits = artifact::Limits {
        max_size: config.artifact_max_size,
        store_budget: config.artifact_dir_size,
        allow_insecure: config.allow_insecure_artifacts,
        ..artifact::Limits::default()
    };
    let artifacts = Store::open(&config.artifact_dir, limits).map_err(|source| StartError::ArtifactDirectory {
        directory: config.artifact_dir.display().to_string(),
        source,
    })?;
    let settings =
        Settings { rate: config.api_rate, burst: config.api_burst, guard: guard.clone(), limits: Limits::default() };
    let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: std::env::var("HOSTNAME").ok() };
    Ok(Context {
        api: clients.api.clone(),
        konigle: Clients::new(settings, metrics.clone()),
        base_url,
        guard,
        artifacts,
        downloads: Semaphore::new(DOWNLOADS),
        memory: Memory::default(),
        metrics,
        store,
        recorder: Recorder::new(clients.api.clone(), reporter),
        settle: config.unknown_outcome_settle,
        shutdown,
        last_call,
        wakes,
        fingerprints: Mutex::default(),
    })
}

/// The one watch: keeps the store, forgets the deleted, and wakes those that depend on what changed.
fn watch(
    config: &Config,
    clients: &cluster::Clients,
    context: Arc<Context>,
    readiness: Arc<Readiness>,
    writer: Writer<Watched>,
) -> impl futures::Stream<Item = watcher::Result<Watched>> + Send + 'static {
    let api: Api<Watched> = match &config.watch_namespace {
        Some(namespace) => Api::namespaced(clients.watch.clone(), namespace),
        None => Api::all(clients.watch.clone()),
    };
    let mut watching = watcher::Config::default().timeout(WATCH_SECONDS);
    if let Some(selector) = &config.watch_label_selector {
        watching = watching.labels(selector);
    }
    watcher(api, watching)
        .modify(|guard| {
            if let Ok(resource) = &mut guard.0 {
                resource.metadata.managed_fields = None;
            }
        })
        .default_backoff()
        .inspect_err({
            let readiness = readiness.clone();
            move |error| {
                warn!(error = error as &dyn std::error::Error, "the watch failed; it is begun again");
                readiness.set_watch(Some(format!("the resources cannot be watched: {error}")));
            }
        })
        .reflect(writer)
        .inspect_ok(move |event| {
            // Not by `Store::wait_until_ready`: the controller waits on it already, and of two waiters only the last
            // that was polled is woken (kube-runtime 5.0, `utils/delayed_init.rs`).
            match event {
                Event::InitDone => {
                    info!("all resources are listed");
                    readiness.set_watch(None);
                }
                Event::Apply(_) | Event::Delete(_) => readiness.set_watch(None),
                Event::Init | Event::InitApply(_) => {}
            }
            notice(&context, event);
        })
        .applied_objects()
}

/// Wakes those that depend on a resource, where what they depend on changed: a promotion on its uat resource, and a uat
/// resource on the promotion that holds it.
fn notice(context: &Context, event: &Event<Watched>) {
    let (Event::Apply(guard) | Event::InitApply(guard) | Event::Delete(guard)) = event else { return };
    let Ok(resource) = &guard.0 else { return };
    let reference = ObjectRef::from_obj(guard);
    let gone = matches!(event, Event::Delete(_));
    let fingerprint = if gone { 0 } else { fingerprint(resource) };
    let before = {
        let mut fingerprints = context.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
        if gone { fingerprints.remove(&reference) } else { fingerprints.insert(reference, fingerprint) }
    };
    if gone {
        context.memory.forget(&crate::memory::uid(resource));
    }
    if before == Some(fingerprint) {
        return;
    }
    let name = resource.name_any();
    let from = resource.spec.promotion.as_ref().map(|promotion| promotion.from.name.clone());
    for other in context.all() {
        let same_namespace = other.namespace() == resource.namespace();
        let promotes_from_it = other.spec.promotion.as_ref().is_some_and(|promotion| promotion.from.name == name);
        let is_its_source = from.as_ref() == Some(&other.name_any());
        if same_namespace && (promotes_from_it || is_its_source) {
            let reference = ObjectRef::new(&other.name_any()).within(&other.namespace().unwrap_or_default());
            context.wake(&crate::memory::uid(&other), reference);
        }
    }
}

/// What others depend on: the release, what is under way, and whether it can be relied on.
fn fingerprint(resource: &KonigleSpace) -> u64 {
    let mut hasher = DefaultHasher::new();
    resource.uid().hash(&mut hasher);
    resource.meta().deletion_timestamp.is_some().hash(&mut hasher);
    if let Some(status) = &resource.status {
        status.release.hash(&mut hasher);
        status.attempt.as_ref().map(|attempt| &attempt.nonce).hash(&mut hasher);
        status.held_by.as_ref().map(|held| &held.nonce).hash(&mut hasher);
        status.space.as_ref().map(|space| (&space.id, &space.webapp)).hash(&mut hasher);
        status.history.first().map(|entry| entry.number).hash(&mut hasher);
        (status.is_true("Drifted"), status.is_true("Stalled")).hash(&mut hasher);
    }
    hasher.finish()
}

/// One pass, measured; a panic in it must not take the others down.
async fn pass(guard: Arc<Watched>, context: Arc<Context>) -> Result<Action, PassError> {
    let started = Instant::now();
    let span = info_span!("reconcile", resource = %name_of(&guard));
    let result = AssertUnwindSafe(Box::pin(reconcile(guard, context.clone())).instrument(span)).catch_unwind().await;
    let (word, result) = match result {
        Ok(Ok(action)) => ("success", Ok(action)),
        // Somebody wrote meanwhile: what they wrote brings the next pass, and the timer does in any case.
        Ok(Err(WriteError::Conflict)) => ("conflict", Ok(Action::requeue(Duration::from_secs(1)))),
        Ok(Err(error)) => ("error", Err(PassError::Write(error))),
        Err(_) => ("error", Err(PassError::Panicked)),
    };
    context.metrics.reconcile(word, started.elapsed().as_secs_f64());
    result
}

/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Write(WriteError),
    #[error("the pass panicked; this is a bug in the operator")]
    Panicked,
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn retry(guard: Arc<Watched>, error: &PassError, context: Arc<Context>) -> Action {
    let uid = guard.meta().uid.clone().unwrap_or_default();
    let wait = context.memory.failed_pass(&uid);
    warn!(resource = %name_of(&guard), error = error as &dyn std::error::Error, ?wait, "the pass failed; it is tried again");
    Action::requeue(wait)
}
