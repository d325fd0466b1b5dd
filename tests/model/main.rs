//! The model: the functions that ship, against everything that may happen.
//!
//! `make model` runs it in full, `make test` in short (`MODEL=short`). `MODEL_SEED` repeats the random schedules of a run.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "it is a test that prints what it found")]

mod driver;
mod facts;
mod lag;
mod memo;
mod mutants;
mod process;
mod properties;
mod report;
mod schedules;
mod search;
mod server;
mod setting;
mod settings;
mod shared;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    report::run()
}
