//! What the demo prints: one line for each change, and one at least every five seconds while something runs.
//!
//! Plain lines without colours or cursor movements, the same in a terminal and in a log.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use konigle_operator::api::KonigleSpace;
use kube::{Api, Client, ResourceExt};

use crate::support::namespace::WAIT_LIMIT;
use crate::support::run_folder::run_folder;
use crate::support::{Failure, Result};

/// The longest time without a line.
const SILENCE: Duration = Duration::from_secs(4);
/// The pause between two looks.
const POLL: Duration = Duration::from_millis(200);

/// Standard output, with the time since the start of the demo.
pub(crate) struct Screen {
    began: Instant,
}

impl Screen {
    /// The time starts now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// One line of one part.
    pub(crate) fn say(&self, part: &str, text: &str) {
        // A reader that has gone away must not keep the parts from being stopped in order.
        let _ = writeln!(io::stdout(), "{:6.1}s  {part:<16} {text}", self.began.elapsed().as_secs_f64());
    }

    /// Says now and then that a part is still being waited for.
    pub(crate) async fn while_waiting<T>(&self, part: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(SILENCE, &mut work).await {
                Ok(value) => return value,
                Err(_) => self.say(part, "not ready yet"),
            }
        }
    }
}

/// Prints what a command printed, as it is.
pub(crate) fn print(output: &str) {
    let _ = writeln!(io::stdout(), "{}", output.trim_end());
}

/// Follows the KonigleSpaces of one namespace.
pub(crate) struct Progress<'screen> {
    screen: &'screen Screen,
    spaces: Api<KonigleSpace>,
    shown: HashMap<String, Shown>,
    last_line: Instant,
}

/// What was last printed of one KonigleSpace.
#[derive(Default)]
struct Shown {
    step: String,
    phase: String,
    attempt: i64,
    log_lines: i64,
}

impl<'screen> Progress<'screen> {
    /// Follows this namespace from now on.
    pub(crate) fn new(screen: &'screen Screen, client: Client, namespace: &str) -> Self {
        let spaces = Api::namespaced(client, namespace);
        Self { screen, spaces, shown: HashMap::new(), last_line: Instant::now() }
    }

    /// Prints all changes until `predicate` holds for the KonigleSpace `name`. A failure says what it was last.
    pub(crate) async fn until(
        &mut self,
        name: &str,
        what: &str,
        predicate: impl Fn(&KonigleSpace) -> bool,
    ) -> Result<KonigleSpace> {
        let began = Instant::now();
        loop {
            let spaces = self.spaces.list(&kube::api::ListParams::default()).await?.items;
            for space in &spaces {
                self.show(space);
            }
            let awaited = spaces.into_iter().find(|space| space.name_any() == name);
            if let Some(space) = awaited.as_ref().filter(|space| predicate(space)) {
                return Ok(space.clone());
            }
            if began.elapsed() > WAIT_LIMIT {
                let last = serde_saphyr::to_string(&awaited.and_then(|space| space.status))?;
                let logs = run_folder()?.display();
                return Err(Failure::new(format!(
                    "{name} is not {what} after {WAIT_LIMIT:?}; the logs of all parts are in {logs}; its status:\n{last}"
                )));
            }
            if self.last_line.elapsed() > SILENCE {
                let phase = self.shown.get(name).map_or("not looked at yet", |shown| shown.phase.as_str());
                self.screen.say(name, &format!("still {phase}"));
                self.last_line = Instant::now();
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn show(&mut self, space: &KonigleSpace) {
        let Some(status) = &space.status else { return };
        let name = space.name_any();
        let shown = self.shown.entry(name.clone()).or_default();
        let mut lines = Vec::new();
        if let Some(attempt) = &status.attempt {
            if shown.attempt != attempt.number {
                shown.attempt = attempt.number;
                shown.log_lines = 0;
            }
            if let Some(log) = &attempt.log {
                let held = i64::try_from(log.lines.len()).unwrap_or_default();
                let new = usize::try_from((log.count - shown.log_lines).clamp(0, held)).unwrap_or_default();
                lines.extend(log.lines[log.lines.len() - new..].iter().map(|line| format!("  | {line}")));
                shown.log_lines = log.count;
            }
        }
        if let Some(ready) = status.condition("Ready") {
            let job = status.attempt.as_ref().and_then(|attempt| attempt.job_status.as_ref());
            let job = job.map(|word| format!(" (job {word})")).unwrap_or_default();
            let step = format!("{}{job}", ready.reason);
            let phase = format!("{step}: {}", ready.message);
            // The message ends with the newest line of the log, which stands above already.
            let is_told = shown.step == step && !lines.is_empty();
            if shown.phase != phase && !is_told {
                lines.push(phase.clone());
            }
            (shown.step, shown.phase) = (step, phase);
        }
        for line in lines {
            self.screen.say(&name, &line);
            self.last_line = Instant::now();
        }
    }
}
