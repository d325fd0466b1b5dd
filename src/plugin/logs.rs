//! `logs`: the log of the job that is under way, as far as the status keeps it.

use kube::ResourceExt;
use tokio::time::Instant;

use super::arguments::{Logging, Selection};
use super::connection::Connection;
use super::failure::Failure;
use super::follow::Following;
use super::progress::new_log_lines;
use super::reading::{State, headline, state};
use super::screen::{Mark, Screen};
use crate::api::{Attempt, AttemptResult, KonigleSpace};

/// Prints it, and follows it where that is wanted.
pub async fn run(connection: &Connection, screen: &Screen, what: &Logging) -> Result<(), Failure> {
    let (space, _) = connection.one(&what.name).await?;
    let mut printed = Printed::default();
    printed.print(screen, &space)?;
    if !what.follow {
        if attempt(&space).is_none() {
            screen.say(Mark::Waiting, &last(&space));
        }
        return Ok(());
    }
    let selection = Selection { names: vec![what.name.clone()], ..Selection::default() };
    let mut following = Following::new(connection, screen, &selection);
    let end = Instant::now() + what.timeout;
    // Without a job that runs, the next one is waited for, if one is to come.
    while following.changed_within(end.saturating_duration_since(Instant::now())).await? {
        let Some(space) = following.now().next() else {
            return Err(Failure::failed(format!("{} was deleted", what.name)));
        };
        printed.print(screen, space)?;
        if attempt(space).is_none() && (printed.attempt > 0 || state(space) != State::Moving) {
            return ended(screen, space, printed.attempt);
        }
    }
    Err(Failure::timed_out(format!("{}: the job has not ended in time", what.name)))
}

fn attempt(space: &KonigleSpace) -> Option<&Attempt> {
    space.status.as_ref().and_then(|status| status.attempt.as_ref())
}

/// How far the log was printed.
#[derive(Default)]
struct Printed {
    attempt: i64,
    lines: i64,
}

impl Printed {
    fn print(&mut self, screen: &Screen, space: &KonigleSpace) -> Result<(), Failure> {
        let Some(attempt) = attempt(space) else { return Ok(()) };
        if self.attempt != attempt.number {
            let job = attempt.job_id.as_deref().unwrap_or("not known yet");
            screen.say(Mark::Doing, &format!("attempt {} of {}, job {job}", attempt.number, space.name_any()));
            *self = Self { attempt: attempt.number, lines: 0 };
        }
        let before = self.lines;
        let new = new_log_lines(attempt, &mut self.lines);
        let missed = self.lines - before - i64::try_from(new.len()).unwrap_or_default();
        if missed > 0 {
            screen.say(Mark::Warning, &format!("{missed} earlier lines are in Konigle's console only"));
        }
        new.iter().try_for_each(|line| Screen::print(line))
    }
}

/// How the attempt that was followed ended.
fn ended(screen: &Screen, space: &KonigleSpace, number: i64) -> Result<(), Failure> {
    let history = space.status.as_ref().map(|status| status.history.as_slice()).unwrap_or_default();
    let Some(entry) = history.iter().find(|entry| entry.number == number) else {
        let (mark, reason, message) = headline(space);
        screen.say(mark, &format!("no job is under way ({reason}): {message}"));
        return Ok(());
    };
    if entry.result == AttemptResult::Succeeded {
        screen.say(Mark::Done, &format!("attempt {number} succeeded"));
        return Ok(());
    }
    Err(Failure::failed(format!("attempt {number} ended as {}: {}", entry.result.word(), entry.message)))
}

/// What is to be said where no job runs.
fn last(space: &KonigleSpace) -> String {
    let history = space.status.as_ref().map(|status| status.history.as_slice()).unwrap_or_default();
    match history.first() {
        None => format!("{} has no job under way, and had none", space.name_any()),
        Some(entry) => {
            let job = entry.job_id.as_deref().unwrap_or("unknown");
            format!(
                "{} has no job under way; attempt {} ended as {}, its log is in Konigle's console (job {job})",
                space.name_any(),
                entry.number,
                entry.result.word()
            )
        }
    }
}
