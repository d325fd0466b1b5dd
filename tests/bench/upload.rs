//! A large upload by the operator's client, side by side with `curl -F`, which has nothing else to do.

use std::env;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use konigle_operator::clock;
use konigle_operator::konigle::{
    Account, Answer, Clients, FENCE, Fence, Guard, Limits, Sending, Settings, Upload, parse_token, submit_limit,
};
use konigle_operator::metrics::Metrics;
use konigle_operator::stamp::Stamp;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::content::Large;
use crate::report::{Report, Sample, count, short};
use crate::sink::Sink;
use crate::support::certificates::Authority;
use crate::support::{Context, Failure, Result};

/// Uploads by each, in turn.
const ROUNDS: usize = 5;
/// The least share of curl's speed.
const AIM: f64 = 0.9;
/// With these two this program is the operator's client, and uploads one file.
const TO: &str = "BENCH_UPLOAD_TO";
const FILE: &str = "BENCH_UPLOAD_FILE";
const TOKEN: &str = "bench-token";

/// Plain and TLS.
pub(crate) fn measure(large: &Large, report: &mut Report) -> Result<()> {
    let authority = Authority::new()?;
    for (name, sink) in [("plain", Sink::plain()?), ("TLS", Sink::tls(&authority)?)] {
        let size = large.zip().metadata()?.len() >> 20;
        report.section(&format!(
            "Upload of {size} MiB, {name}, to a server that only reads ({ROUNDS} rounds in turn, medians)"
        ));
        let (mut curls, mut clients) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            curls.push(speed(&sink, curl(&sink, &large.zip(), &authority.file()))?);
            clients.push(speed(&sink, client(&sink, &large.zip(), &authority.file())?)?);
        }
        let (curl, client) = (Sample::new(curls)?.median(), Sample::new(clients)?.median());
        report.row("curl -F", format!("{} MiB/s", short(curl)));
        report.row("the operator's client", format!("{} MiB/s", short(client)));
        report.at_least("ratio", (client / curl, AIM), " × curl");
    }
    Ok(())
}

/// In MiB a second, from the head to the last byte, by the sink's clock: how a program starts is not in it.
fn speed(sink: &Sink, mut command: Command) -> Result<f64> {
    let sending = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().context(sending.clone())?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        return Err(Failure::new(format!("{sending} failed: {}", String::from_utf8_lossy(&said).trim())));
    }
    let received = sink.next()?;
    Ok(count(received.bytes >> 20)? / received.took.as_secs_f64())
}

fn curl(sink: &Sink, file: &Path, authority: &Path) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--cacert"]).arg(authority);
    command.args(["--header", &format!("Authorization: Token {TOKEN}"), "--form", "display_name=bench"]);
    command.arg("--form").arg(format!("zip_file=@{};type=application/zip", file.display()));
    command.arg(format!("{}/cloud/api/v1/spaces/1/deploy", sink.base_url()));
    command
}

/// This program, once more.
fn client(sink: &Sink, file: &Path, authority: &Path) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("finding this program's own path")?);
    command.env(TO, sink.base_url()).env(FILE, file).env("SSL_CERT_FILE", authority);
    Ok(command)
}

/// Where this program is to upload what, if it is to be the client.
pub(crate) fn wanted() -> Option<(String, PathBuf)> {
    Some((env::var(TO).ok()?, PathBuf::from(env::var_os(FILE)?)))
}

/// One upload, as the operator makes it.
pub(crate) async fn send(base_url: &str, file: PathBuf) -> Result<()> {
    let base_url = Url::parse(base_url)?;
    let many = NonZeroU32::MAX;
    let guard = Guard::new(&base_url, &[]);
    let settings = Settings { rate: many, burst: many, guard, limits: Limits::default() };
    let client = Clients::new(settings, Arc::new(Metrics::new()));
    let client = client.client(&Account::new(base_url, parse_token(TOKEN.as_bytes())?))?;
    let stamp = Stamp::of(&file.metadata()?).ok_or_else(|| Failure::new("it is no file"))?;
    let sending = Sending {
        fence: Fence::new(Instant::now(), clock::system(), FENCE),
        shutdown: CancellationToken::new(),
        timeout: submit_limit(stamp.size),
    };
    let upload = Upload { display_name: "bench".to_owned(), file, stamp, sent: Arc::default() };
    match client.deploy("1", upload, &sending).await {
        Answer::Accepted(_) => Ok(()),
        other => Err(Failure::new(format!("the upload came to {other:?}"))),
    }
}
