//! `make e2e`: the operator among the real programs that people use it with, on a real API server; each flow prints what it
//! saw, step by step. What is not real is the Konigle API, which is the simulator, and the pods: nothing runs them here, so
//! the operator runs beside, as its container would.
//!
//! A flow is an async function in [`FLOWS`]; `FLOW=helm` runs those with that in their name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the report")]
#![allow(clippy::print_stdout, reason = "this program reports to people")]

#[path = "../support/mod.rs"]
mod support;

mod argocd;
mod audit;
mod cluster;
mod flux;
mod go_module;
mod helm;
mod history;
mod image;
mod shop;
mod steps;
mod tree;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Instant;

use libtest_mimic::{Arguments, Trial};

use support::{Context, Result};

/// What a flow does; it prints its steps by [`say`].
type Flow = fn() -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// All flows, by name.
const FLOWS: &[(&str, Flow)] = &[
    ("argocd::applications", || Box::pin(argocd::applications())),
    ("flux::kustomizations", || Box::pin(flux::kustomizations())),
    ("helm::documented", || Box::pin(helm::documented())),
    ("helm::upgrade_from_an_older_crd", || Box::pin(helm::upgrade_from_an_older_crd())),
    ("helm::existing_crd_is_taken_over", || Box::pin(helm::existing_crd_is_taken_over())),
    ("helm::all_namespaces", || Box::pin(helm::all_namespaces())),
    ("helm::one_namespace", || Box::pin(helm::one_namespace())),
    ("helm::named_secrets", || Box::pin(helm::named_secrets())),
    ("image::runs", || Box::pin(image::runs())),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One after the other, so that what they print can be read.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let meant = |name: &str| arguments.filter.as_deref().is_none_or(|filter| name.contains(filter));
    if !FLOWS.iter().any(|(name, _)| meant(name)) {
        let names: Vec<&str> = FLOWS.iter().map(|(name, _)| *name).collect();
        println!("no flow has that in its name; they are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let trials = FLOWS.iter().map(|(name, flow)| {
        Trial::test(*name, move || {
            let began = Instant::now();
            println!("\n=== {name}");
            let result = block_on(flow());
            say(&format!("{} after {} s", if result.is_ok() { "done" } else { "failed" }, began.elapsed().as_secs()));
            result.map_err(|failure| failure.to_string().into())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Tells a step, or what was seen.
pub(crate) fn say(text: &str) {
    for line in text.lines() {
        println!("  {line}");
    }
}

fn block_on(flow: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("making a runtime")?.block_on(flow)
}
