//! `kubectl konigle`: what people and their scripts ask of KonigleSpaces, and how they answer them.
//!
//! It speaks to the API server with the rights of whoever runs it, and to nobody else: neither the operator nor Konigle
//! is asked, and no Secret is read. What it says of the future is the planner's own answer ([`outlook`]). Absent: rules
//! of its own; a decision here would be a second opinion.

mod approve;
pub mod arguments;
mod completion;
mod connection;
mod explain;
mod failure;
mod follow;
mod history;
mod logs;
pub mod outlook;
mod progress;
mod reading;
mod requests;
pub mod schema;
mod screen;
mod status;
mod transfer;
mod validate;
mod wait;
mod wanted;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use connection::Connection;
use failure::Failure;
use screen::{Mark, Screen};

/// The name by which kubectl asks a plugin to complete a command line.
const COMPLETES_AS: &str = "kubectl_complete-konigle";

/// Runs the plugin with the command line of this process.
pub async fn run() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    let called = words.first().map(std::path::PathBuf::from).unwrap_or_default();
    if called.file_name().is_some_and(|name| name == COMPLETES_AS) {
        words.remove(0);
        return completion::complete(&words).await;
    }
    let arguments = Arguments::parse_from(words);
    let screen = Screen::new(arguments.global.no_color);
    match dispatch(arguments, &screen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { code, message }) => {
            if !message.is_empty() {
                screen.say(Mark::Failed, &message);
            }
            ExitCode::from(code.number())
        }
    }
}

async fn dispatch(Arguments { global, command }: Arguments, screen: &Screen) -> Result<(), Failure> {
    let connect = async || Connection::open(&global).await;
    match command {
        Command::Status(what) => status::run(&connect().await?, screen, &what).await,
        Command::Explain(what) => explain::run(&connect().await?, screen, &what).await,
        Command::Logs(what) => logs::run(&connect().await?, screen, &what).await,
        Command::Watch(what) => watch::run(&connect().await?, screen, &what).await,
        Command::Wait(what) => wait::run(&connect().await?, screen, &what).await,
        Command::Reconcile(what) => requests::reconcile(&connect().await?, screen, &what).await,
        Command::Reset(what) => requests::reset(&connect().await?, screen, &what).await,
        Command::Suspend(what) => requests::suspend(&connect().await?, screen, &what).await,
        Command::Resume(what) => requests::resume(&connect().await?, screen, &what).await,
        Command::Approve(what) => approve::run(&connect().await?, screen, &what).await,
        Command::History(what) => history::run(&connect().await?, screen, &what).await,
        Command::Validate(what) => validate::run(screen, &what),
        Command::Completion { shell } => completion::print(shell),
    }
}
