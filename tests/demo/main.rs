//! `make demo`: a real API server, the Konigle simulator and the operator as processes on this machine; the manifests of
//! `deploy/examples/` applied with kubectl; progress as `kubectl konigle watch` shows it until uat is deployed and production
//! promoted.
//!
//! `KEEP=1` leaves everything running and says how to reach and how to stop it. Otherwise everything that was started is
//! stopped: at the end, at a failure (exit 1) and at Ctrl-C (exit 130). Nothing here is faked for the demo: what is not
//! real is the Konigle API, which has no public sandbox.

#[path = "../support/mod.rs"]
mod support;

mod examples;
mod parts;
mod screen;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use parts::Parts;
use screen::{Screen, print};
use support::namespace::WAIT_LIMIT;
use support::process::Process;
use support::run_folder::run_folder;
use support::{Context, Failure, Result};

/// Exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, port] = &arguments[..]
        && mode == parts::SERVE_ARTIFACTS
    {
        return exit_code(&Screen::new(), parts::serve_artifacts(port).await);
    }
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    let screen = Screen::new();
    tokio::select! {
        result = demo(&screen, keep) => exit_code(&screen, result),
        result = interrupted() => {
            // The parts were dropped with the demo, and so stopped.
            screen.say("demo", "interrupted: everything is stopped");
            if result.is_ok() { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

async fn demo(screen: &Screen, keep: bool) -> Result<()> {
    let parts = Parts::start(screen).await?;
    let kubectl = parts.control_plane.kubectl();
    let release = examples::Release::new(&parts.artifacts_url)?;

    screen
        .say("kubectl", "apply -f the manifests of deploy/examples/, with the demo's token, URL and digest filled in");
    for manifest in ["namespace.yaml", "secret.yaml", "uat.yaml", "production.yaml"] {
        let file = release.fill_in(manifest)?;
        print(&kubectl.run(&["apply", "-f", &file]).await?);
    }

    watch(screen, &parts).await?;

    screen.say("demo", "uat runs it. Production has policy: Manual, so nothing happens there until somebody approves:");
    let approve = ["approve", "shop-production", "-n", examples::NAMESPACE, "--yes", "--no-wait"];
    screen.say("kubectl", &format!("konigle {}", approve.join(" ")));
    let approved = kubectl.konigle(&approve, "").await?;
    print(&approved.errors);
    if approved.code != Some(0) {
        return Err(Failure::new("the approval was refused, as said above"));
    }
    watch(screen, &parts).await?;
    let production = parts.runs_everywhere(&release.digest).await?;

    for arguments in [&["get", "kspace", "-A"][..], &["-n", "shop", "describe", "kspace", "shop-production"]] {
        screen.say("kubectl", &arguments.join(" "));
        print(&kubectl.run(arguments).await?);
    }
    let url = production.status.and_then(|status| status.url).unwrap_or_default();
    screen.say("demo", &format!("production is at {url} (of the simulator: nobody answers there)"));
    if keep {
        parts.leave_running()?;
    } else {
        drop(parts);
        screen.say("demo", "everything is stopped; `make demo KEEP=1` leaves it running");
    }
    Ok(())
}

/// The live view, until all that moves has come to rest.
async fn watch(screen: &Screen, parts: &Parts) -> Result<()> {
    let arguments = ["watch", "-n", examples::NAMESPACE, "--until-settled"];
    screen.say("kubectl", &format!("konigle {}", arguments.join(" ")));
    let command = parts.control_plane.kubectl().konigle_command(&arguments)?;
    let ended = Process::start_on_screen("kubectl konigle watch", command)?.wait(WAIT_LIMIT).await?;
    if ended.success() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the live view ended with {ended}; the logs of all parts are in {}",
        run_folder()?.display()
    )))
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut hang_up = signal(SignalKind::hangup()).context("listening for SIGHUP")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("listening for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    }
}

fn exit_code(screen: &Screen, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.say("demo", &format!("failed, and stopped everything: {failure}"));
            ExitCode::FAILURE
        }
    }
}
