//! `make soak MINUTES=30`: 200 resources under a fault a second, and what must hold of them.
//!
//! A real API server, the simulator and one operator as processes, with a proxy for bytes before Konigle and one before
//! the API server. Each second one resource gets a new version, and one fault happens, which a seed chooses. The versions are
//! ZIPs behind URLs, but of one resource a tag of the real registry moves, and of another the source of Flux. In the first
//! half the operator is killed and restarted too; in the second it lives, for the memory of one process is measured.
//!
//! What must hold: there was a fault a second; no digest is deployed twice to a Space that no person touches (a failed job
//! may be tried again); when the faults are over all resources come to run what they want; memory does not grow; no
//! resource is left alone for more than a minute; no token is in a log, a status, an Event or a metric.
//!
//! What "a minute" is on a slow machine is told by a while without faults before the first one, and has a cap
//! ([`judgement::allowed_silence`]).
//!
//! And as with every test, the whole trace is judged when the parts are dropped (`tests/support/trace`).
//!
//! Absent: promotions. Whether one that lost its answer may go on is a person's to say, so "all converge" cannot be asked
//! of them; the crash sweep and the fault matrix have them.

#[path = "../support/mod.rs"]
mod support;

mod bed;
mod faults;
mod judgement;
mod life;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bed::Bed;
use faults::{Faults, Random};
use life::Life;
use support::process::POLL;
use support::{Failure, Result};

/// How long it runs when nobody says otherwise, in minutes.
const MINUTES: f64 = 3.0;

#[tokio::main]
async fn main() -> ExitCode {
    // As the other test programs do, it passes when another test is asked for by name.
    let names: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let listing = std::env::args().any(|argument| argument == "--list");
    if listing || !(names.is_empty() || names.iter().any(|name| "soak".contains(name.as_str()))) {
        return ExitCode::SUCCESS;
    }
    match soak().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("soak failed, and stopped everything: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn soak() -> Result<()> {
    let minutes = number("MINUTES")?.unwrap_or(MINUTES);
    let seed = match number("SEED")? {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any whole number is a seed")]
        Some(seed) => seed as u64,
        None => u64::from(std::process::id()),
    };
    say(&format!("soak: {minutes} minutes, SEED={seed}"));
    let mut bed = Bed::open().await?;
    // The queue of two hundred first deploys is no silence.
    let took = judgement::all_converge(&mut bed, &mut Life::new()).await.map_err(Failure::new)?;
    say(&format!("soak: {} resources run what they want after {} s", bed.resources.len(), took.as_secs()));

    let quiet = quiet(&mut bed).await?;
    let mut random = Random::new(seed);
    let mut faults = Faults::default();
    let mut life = Life::new();
    let (began, length) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    // A second that took longer is made up for, so that it is a fault a second in the end.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    while began.elapsed() < length {
        ticks.tick().await;
        let restarts = began.elapsed() < length / 2;
        bed.edit(&mut random).await?;
        faults.inflict(&mut bed, &mut random, restarts).await?;
        life.look(&mut bed, restarts).await?;
    }
    let lasted = began.elapsed();
    faults.stop(&mut bed).await?;
    say("soak: the faults are over");
    let converged = judgement::all_converge(&mut bed, &mut life).await;
    let verdict = judgement::judge(&bed, (&faults, lasted), (&life, quiet), converged).await?;
    for line in &verdict.lines {
        say(line);
    }
    if verdict.wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("{}; logs: {}", verdict.wrong.join("; "), bed.operator.log().display())))
}

/// The longest that a resource is left alone while nothing breaks.
async fn quiet(bed: &mut Bed) -> Result<Duration> {
    let mut life = Life::new();
    let began = Instant::now();
    while began.elapsed() < judgement::QUIET {
        life.look(bed, false).await?;
        tokio::time::sleep(POLL).await;
    }
    Ok(life.longest_silence.0)
}

fn number(name: &str) -> Result<Option<f64>> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            Ok(Some(text.parse().map_err(|_| Failure::new(format!("{name}={text}: write a number")))?))
        }
        _ => Ok(None),
    }
}

fn say(line: &str) {
    // A reader that has gone is no reason to stop.
    let _ = writeln!(std::io::stdout(), "{line}");
}
