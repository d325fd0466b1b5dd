//! `konigle-operator`: the controller (`run`) and the CRD (`crd`). Wiring only.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use konigle_operator::cluster::Clients;
use konigle_operator::config::Config;
use konigle_operator::context::Stop;
use konigle_operator::health::{self, Readiness};
use konigle_operator::metrics::Metrics;
use konigle_operator::redact::Redactor;
use konigle_operator::{api, controller, leader, telemetry};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// How long passes that wait for an answer, or write a receipt, are given after a stop was asked for.
const GRACE: Duration = Duration::from_secs(75);

/// Deploys artifacts to Spaces on Konigle Cloud and promotes them, from KonigleSpace resources.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the controller, with the kubeconfig of the environment or the pod's own account. Of a flag that is given
    /// twice the last one counts.
    #[command(args_override_self = true)]
    Run(Box<Config>),
    /// Prints the CRD, as YAML.
    Crd,
}

#[tokio::main]
async fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Crd => print_crd(),
        Command::Run(config) => {
            let telemetry = telemetry::init(&config.log_format, &config.log_level);
            let code = match run(*config).await {
                Ok(code) => code,
                Err(error) => {
                    error!(error = &*error, "stopped");
                    ExitCode::FAILURE
                }
            };
            telemetry.end();
            code
        }
    }
}

fn print_crd() -> ExitCode {
    match serde_saphyr::to_string(&api::crd()) {
        Ok(yaml) => {
            #[expect(clippy::print_stdout, reason = "this is what the command is for")]
            {
                print!("# Made by `make generate` from src/api; do not edit.\n{yaml}");
            }
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

async fn run(config: Config) -> Result<ExitCode, Box<dyn std::error::Error>> {
    // Before all else: a process that is asked to end while it starts must end in order too.
    let stop = Stop::default();
    stop_on_signal(stop.clone())?;
    // It was not parsed yet: nobody should write a password into it, and if somebody does it is not shown.
    let base_url = Redactor::default().clean(&config.konigle_base_url);
    info!(base_url, version = env!("CARGO_PKG_VERSION"), "starting");
    let kube_config = kube::Config::infer().await.map_err(|error| {
        format!("no cluster to work on: set KUBECONFIG, or run as a pod with a ServiceAccount ({error})")
    })?;
    let clients = Clients::new(&kube_config)?;
    let (metrics, readiness) = (Arc::new(Metrics::new()), Arc::new(Readiness::default()));
    let served = CancellationToken::new();

    let pages = tokio::spawn(health::serve(config.listen, readiness.clone(), metrics.clone(), served.clone()));
    let mut crd = tokio::spawn(health::watch_crd(clients.api.clone(), readiness.clone(), stop.shutdown.clone()));

    let lead = leader::lead(&config, &kube_config, &clients, (&metrics, &readiness), &stop).await?;
    let work = controller::run(&config, clients, (metrics, readiness), stop.clone());
    tokio::select! {
        result = work => result?,
        result = pages => return Err(format!("the pages could not be served: {result:?}").into()),
        // It ends in order only when a stop was asked for; by a panic, readiness would be what it was for ever.
        Err(error) = &mut crd => return Err(format!("the CRD is no longer looked at: {error}").into()),
    }
    lead.release().await;
    served.cancel();
    crd.abort();
    let code = if stop.failed.is_cancelled() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    info!("stopped");
    Ok(code)
}

/// Asks for a stop at the first SIGTERM or SIGINT, and makes it final when the grace is over.
fn stop_on_signal(stop: Stop) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let last = stop.clone();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping: nothing new is sent; what waits for an answer gets it or is recorded as unknown");
        stop.shutdown.cancel();
    });
    tokio::spawn(async move {
        // Whoever asks for the stop: a signal, a lost Lease, a watch that cannot go on.
        last.shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
        last.last_call.cancel();
    });
    Ok(())
}
