//! The contract test: the official Python SDK and its CLI drive the simulator (`tests/sdk/contract.py`).
//!
//! Where it cannot run it says so in one line; with `CI=true` that is a failure.

use std::io::Write as _;
use std::process::Command;

use konigle_operator::sim::{Options, Simulator};

use crate::support::sdk;

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_and_cli_work_with_the_simulator() {
    let python = match tokio::task::spawn_blocking(sdk::python).await.expect("the search for Python does not panic") {
        Ok(python) => python,
        Err(reason) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the contract test cannot run: {reason}");
            // Past the capture of test output: a test that did not run must not look like one that passed.
            writeln!(std::io::stderr(), "the contract test did not run: {reason}").expect("stderr is open");
            return;
        }
    };
    let simulator = Simulator::start(Options::default()).await.expect("the simulator starts");
    let mut contract = Command::new(python);
    contract.arg(sdk::folder().join("contract.py")).arg(&simulator.base_url);
    let output = tokio::task::spawn_blocking(move || contract.output()).await.expect("it does not panic");
    let output = output.expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "contract.py failed:\n{text}");
}
