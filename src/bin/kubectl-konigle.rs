//! `kubectl konigle`: the kubectl plugin. Wiring only.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    konigle_operator::plugin::run().await
}
