//! `konigle-sim`: the simulator of the Konigle Cloud API as a program. Wiring only; the server is `konigle_operator::sim`.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use konigle_operator::sim::{ENDPOINTS, Options, Seed, Simulator, StartError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A simulator of the Konigle Cloud API, to try pipelines and operators against.
///
/// Without --seed there is one tenant, with the token `demo-token`, the computer `web-1` and the web app `shop` with its
/// uat and production Spaces. The first line on stdout is the address.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "KONIGLE_SIM_LISTEN", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Allow --listen to name an address that other machines reach. Nothing protects the control API.
    #[arg(long)]
    allow_remote: bool,
    /// Tenants, objects and readings to start with, as JSON or YAML.
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// How long a job takes, in seconds.
    #[arg(long, value_name = "SECONDS")]
    job_seconds: Option<f64>,
    /// The base of links in pages, where clients come through a proxy.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// What to log on stderr: error, warn, info, debug, or a filter as of `RUST_LOG`.
    #[arg(long, env = "KONIGLE_SIM_LOG", default_value = "info")]
    log: String,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0} is reached by other machines, and nothing protects the control API; --allow-remote permits it")]
    Remote(SocketAddr),
    #[error("failed to read the seed {}", path.display())]
    ReadSeed { path: PathBuf, source: io::Error },
    #[error("the seed {} is not valid: {message}", path.display())]
    ParseSeed { path: PathBuf, message: String },
    #[error("failed to start")]
    Start(#[source] StartError),
    #[error("failed to serve")]
    Serve(#[source] io::Error),
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Arguments::command().after_help(control_help());
    let arguments = Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&arguments.log)).with_writer(io::stderr);
    log.with_ansi(io::stderr().is_terminal()).init();
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut source: Option<&dyn std::error::Error> = Some(&error);
            let mut text = String::new();
            while let Some(error) = source {
                let _ = write!(text, "{}{error}", if text.is_empty() { "" } else { ": " });
                source = error.source();
            }
            tracing::error!("{text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Error> {
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        return Err(Error::Remote(arguments.listen));
    }
    let seed = match arguments.seed {
        Some(path) => {
            let text =
                std::fs::read_to_string(&path).map_err(|source| Error::ReadSeed { path: path.clone(), source })?;
            Seed::parse(&text).map_err(|message| Error::ParseSeed { path, message })?
        }
        None => Seed::demo(),
    };
    let options = Options {
        listen: arguments.listen,
        seed,
        public_url: arguments.public_url,
        job_seconds: arguments.job_seconds,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Serve)?;
    let simulator = Simulator::start(options).await.map_err(Error::Start)?;
    let mut stdout = io::stdout();
    writeln!(stdout, "konigle-sim listening on {}", simulator.base_url).map_err(Error::Serve)?;
    stdout.flush().map_err(Error::Serve)?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result.map_err(Error::Serve)?,
    }
    tracing::info!("stopping");
    simulator.stop().await.map_err(Error::Serve)
}

fn control_help() -> String {
    let mut text = "Control API (docs/simulator.md has examples):\n".to_owned();
    for (endpoint, about) in ENDPOINTS {
        let _ = writeln!(text, "  {endpoint:32} {about}");
    }
    text
}
