//! `make bench`: how fast and how small the operator is, side by side with what it is compared to.
//!
//! Real parts on loopback: the API server, `konigle-sim` and the operator as processes of their own, built with the
//! profile `fast`. Milliseconds depend on the machine and on what else it does, so the figures to keep are the ratios
//! to the floor that was measured in between, the counts and the sizes. A figure beyond its aim is marked, and fails
//! nothing: a shared machine would fail at random.
//!
//! `MIB=64` makes the large artifact that small, and `TREE_MIB=20` the tree that is packed, for a short run.

#[path = "../support/mod.rs"]
mod support;

mod content;
mod deploys;
mod fleet;
mod floor;
mod footprint;
mod job;
mod memory;
mod official;
mod packing;
mod report;
mod sharing;
mod sink;
mod stage;
mod upload;

use std::process::ExitCode;
use std::time::Instant;

use content::{Large, Tree, mebibytes};
use report::Report;
use stage::Stage;
use support::Result;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match upload::wanted() {
        Some((base_url, file)) => upload::send(&base_url, file).await,
        None => bench().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::say(&format!("failed, and stopped everything: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> Result<()> {
    let began = Instant::now();
    let mut report = Report::default();
    let large =
        if wanted("upload") || wanted("footprint") { Some(Large::make(mebibytes("MIB", 1024)?)?) } else { None };
    // Alone on the machine.
    if let Some(large) = large.as_ref().filter(|_| wanted("upload")) {
        upload::measure(large, &mut report)?;
    }
    if wanted("packing") {
        packing::measure(&Tree::make(mebibytes("TREE_MIB", 200)?)?, &mut report).await?;
    }
    report::say("starting the API server and the simulator");
    let stage = Stage::start().await?;
    if let Some(large) = large.as_ref().filter(|_| wanted("footprint")) {
        footprint::measure(&stage, large, &mut report).await?;
    }
    drop(large);
    if wanted("sharing") {
        sharing::one_download(&stage, &mut report).await?;
    }
    if wanted("tag") {
        sharing::steady_tag(&stage, &mut report).await?;
    }
    // The fleet goes first, and rests while the others are measured: a whole interval passes before it looks again.
    let fleet = if wanted("fleet") { Some(fleet::Fleet::settle(&stage, &mut report).await?) } else { None };
    if wanted("deploys") {
        deploys::one_by_one(&stage, &mut report).await?;
    }
    if wanted("burst") {
        deploys::burst(&stage, &mut report).await?;
    }
    if wanted("job") {
        job::follow(&stage, &mut report).await?;
    }
    if let Some(fleet) = fleet {
        fleet.keep(&stage, &mut report).await?;
    }
    report.print(began.elapsed());
    Ok(())
}

/// Whether to measure this: `cargo bench … -- deploys job` names what is to be measured, and nothing means everything.
fn wanted(name: &str) -> bool {
    // Cargo adds a `--bench` of its own.
    let mut names = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).peekable();
    names.peek().is_none() || names.any(|argument| argument == name)
}
