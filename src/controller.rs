//! Runs the passes: the watch, what wakes whom, the bounds, and a stop that loses nothing.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::{FutureExt, StreamExt};
use kube::Resource;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{self, ObjectRef, Store as Known};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info, warn};

use crate::api::Watched;
use crate::artifact::{self, Store};
use crate::cluster;
use crate::config::Config;
use crate::context::{Context, Stop};
use crate::health::Readiness;
use crate::konigle::{Clients, Guard, Limits, Settings};
use crate::live_lists::LiveLists;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::reconcile::reconcile;
use crate::record::{FIELD_MANAGER, WriteError};
use crate::sources::Sources;
use crate::telemetry;
use crate::turns::Turns;
use crate::watch::{check, watch, watch_sources};

/// How many artifacts are downloaded at once.
const DOWNLOADS: usize = 4;

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `--konigle-base-url` cannot be used.
    #[error("--konigle-base-url: {0}")]
    BaseUrl(String),
    /// `--artifact-dir` cannot be used.
    #[error("--artifact-dir {directory} cannot be used ({source}): name a folder that this process may make and write")]
    ArtifactDirectory {
        /// The folder.
        directory: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
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
    stop: Stop,
) -> Result<(), StartError> {
    let (store, writer) = reflector::store::<Watched>();
    let (wakes, woken) = unbounded();
    let context = Arc::new(context(config, &clients, metrics, stop, store.clone(), wakes)?);
    let trigger = watch(config, &clients.watch, context.clone(), readiness.clone(), writer);
    readiness.set_watch(Some("the resources are not listed yet".to_owned()));
    info!("watching KonigleSpaces");
    let passes = Controller::for_stream(trigger, store)
        .reconcile_on(woken)
        .graceful_shutdown_on({
            let shutdown = context.shutdown.clone();
            async move { shutdown.cancelled().await }
        })
        .run(pass, retry, context.clone())
        .for_each(|_| std::future::ready(()));
    tokio::select! {
        () = passes => {}
        () = stopped_before_the_first_list(&context) => {}
        // Here and not in a task of its own: a panic in it must end the process too.
        () = check(config, &clients.api, &context) => {}
        () = watch_sources(config, &clients, &context) => {}
    }
    readiness.set_watch(Some("the watch has ended".to_owned()));
    if !context.shutdown.is_cancelled() {
        error!("the controller ended by itself");
        context.fail();
    }
    Ok(())
}

/// kube's controller ends only after it has a list, which may never come: without the CRD, or without an API server. No
/// pass has begun then, so nothing is waited for.
async fn stopped_before_the_first_list(context: &Context) {
    context.shutdown.cancelled().await;
    if context.listed.is_cancelled() {
        std::future::pending::<()>().await;
    }
}

/// What the passes of one process share, made anew.
///
/// # Errors
///
/// [`StartError`].
pub fn context(
    config: &Config,
    clients: &cluster::Clients,
    metrics: Arc<Metrics>,
    stop: Stop,
    store: Known<Watched>,
    wakes: UnboundedSender<ObjectRef<Watched>>,
) -> Result<Context, StartError> {
    let base_url =
        Guard::parse_flag(&config.konigle_base_url).map_err(|error| StartError::BaseUrl(error.to_string()))?;
    let guard = Guard::new(&base_url, &config.allowed_base_urls);
    let artifacts = Store::open(&config.artifact_dir, artifact_limits(config), metrics.clone()).map_err(|source| {
        StartError::ArtifactDirectory { directory: config.artifact_dir.display().to_string(), source }
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
        downloads: Turns::new(DOWNLOADS, config.watch_namespace.is_none()),
        lookups: Turns::new(config.concurrency.into(), config.watch_namespace.is_none()),
        turns: Turns::new(config.concurrency.into(), config.watch_namespace.is_none()),
        memory: Memory::default(),
        metrics,
        store,
        sources: Sources::default(),
        live_lists: LiveLists::default(),
        reporter,
        settle: config.unknown_outcome_settle,
        listed: CancellationToken::new(),
        shutdown: stop.shutdown,
        last_call: stop.last_call,
        failed: stop.failed,
        fingerprints: Mutex::default(),
        wakes,
    })
}

/// What the flags say of artifacts.
fn artifact_limits(config: &Config) -> artifact::Limits {
    artifact::Limits {
        max_size: config.artifact_max_size,
        max_entries: config.artifact_max_entries,
        max_unpacked: config.artifact_max_unpacked,
        max_ratio: config.artifact_max_ratio,
        max_path_length: config.artifact_max_path_length,
        store_budget: config.artifact_dir_size,
        allow_insecure: config.allow_insecure_artifacts,
        private_hosts: config.private_artifact_hosts.clone(),
        flux_hosts: config.flux_artifact_hosts.clone(),
        ..artifact::Limits::default()
    }
}

/// One pass, in its turn, measured; a panic in it must not take the others down.
///
/// Turns go in the order in which resources became due, as far as each namespace's share of them goes. kube's own bound
/// gives a free place to any resource that is due (kube-runtime 5.0, `Scheduler::pending`, a set): where all places are
/// taken for long, the same ones go first again and again, and others are never looked at.
async fn pass(guard: Arc<Watched>, context: Arc<Context>) -> Result<Action, PassError> {
    let namespace = guard.meta().namespace.clone().unwrap_or_default();
    let _turn = tokio::select! {
        turn = context.turns.take(&namespace) => turn,
        () = context.shutdown.cancelled() => return Ok(Action::await_change()),
    };
    // As it is after the wait. Of one that was deleted meanwhile nothing is left to do.
    let Some(guard) = context.store.get(&ObjectRef::from_obj(&*guard)) else { return Ok(Action::await_change()) };
    let started = Instant::now();
    let uid = guard.meta().uid.clone().unwrap_or_default();
    let name = guard.meta().name.clone().unwrap_or_default();
    let span = telemetry::reconcile_span(&namespace, &name, guard.meta().generation);
    let passing = Box::pin(reconcile(guard, context.clone())).instrument(span.clone());
    let result = AssertUnwindSafe(passing).catch_unwind().await;
    let _inside = span.entered();
    let (word, result) = match result {
        Ok(Ok(action)) => ("success", Ok(action)),
        // Somebody wrote meanwhile: what they wrote brings the next pass, and the timer does in any case.
        Ok(Err(WriteError::Conflict)) => {
            let wait = context.memory.failed_pass(&uid);
            if wait > Duration::from_secs(4) && context.memory.is_news(&uid, "Conflict", "") {
                warn!(?wait, "the status was refused again and again; an admission policy may be why");
            }
            ("conflict", Ok(Action::requeue(wait)))
        }
        Ok(Err(error)) => ("error", Err(PassError::Write(error))),
        Err(_) => ("error", Err(PassError::Panicked)),
    };
    telemetry::note("result", word);
    context.metrics.reconcile(word, started.elapsed());
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
    let (namespace, name) = (guard.meta().namespace.as_deref(), guard.meta().name.as_deref());
    warn!(namespace, name, error = error as &dyn std::error::Error, ?wait, "the pass failed; it is tried again");
    Action::requeue(wait)
}

#[cfg(test)]
mod tests {
    use clap::builder::Resettable;
    use clap::{Args as _, Command, FromArgMatches as _};

    use super::*;

    #[test]
    fn each_flag_of_artifacts_becomes_the_limit_of_its_name() {
        // The environment of this test does not reach the parser.
        let run = Config::augment_args(Command::new("run")).mut_args(|flag| flag.env(Resettable::Reset));
        let matches = run.get_matches_from([
            "run",
            "--artifact-max-size=1KiB",
            "--artifact-max-entries=2",
            "--artifact-max-unpacked=3KiB",
            "--artifact-max-ratio=4",
            "--artifact-max-path-length=5",
            "--artifact-dir-size=6KiB",
            "--allow-insecure-artifacts",
            "--private-artifact-hosts=registry.internal",
            "--flux-artifact-hosts=flux.internal",
        ]);
        let limits = artifact_limits(&Config::from_arg_matches(&matches).unwrap());
        let expected = artifact::Limits {
            max_size: 1 << 10,
            max_entries: 2,
            max_unpacked: 3 << 10,
            max_ratio: 4,
            max_path_length: 5,
            store_budget: 6 << 10,
            allow_insecure: true,
            private_hosts: vec!["registry.internal".to_owned()],
            flux_hosts: vec!["flux.internal".to_owned()],
            ..artifact::Limits::default()
        };
        assert_eq!(format!("{limits:#?}"), format!("{expected:#?}"));
    }
}
