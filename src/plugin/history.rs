//! `history`: the ended attempts, newest first.

use kube::ResourceExt;

use super::arguments::Remembering;
use super::connection::Connection;
use super::failure::Failure;
use super::reading::{ago, between, called, cause, kind, shortened};
use super::screen::{Cell, Column, Look, Mark, Screen, Tone, table};
use super::status::data;
use crate::api::{AttemptResult, HistoryEntry};
use crate::clock;

/// Shows it.
pub async fn run(connection: &Connection, screen: &Screen, what: &Remembering) -> Result<(), Failure> {
    let (space, _) = connection.one(&what.name).await?;
    let history = space.status.as_ref().map(|status| status.history.clone()).unwrap_or_default();
    if let Some(form) = what.output {
        let value = serde_json::to_value(&history).map_err(|error| Failure::failed(error.to_string()))?;
        return Screen::print(&data(form, &value)?);
    }
    if history.is_empty() {
        screen.say(Mark::Warning, &format!("{} has no ended attempt", space.name_any()));
        return Ok(());
    }
    Screen::print(&render(&history, clock::now(), screen.out))
}

fn render(history: &[HistoryEntry], now: jiff::Timestamp, look: Look) -> String {
    let columns = [
        Column { title: "ATTEMPT", from_width: 0 },
        Column { title: "RESULT", from_width: 0 },
        Column { title: "RELEASE", from_width: 0 },
        Column { title: "CAUSE", from_width: 70 },
        Column { title: "ENDED", from_width: 60 },
        Column { title: "TOOK", from_width: 80 },
        Column { title: "JOB", from_width: 110 },
        Column { title: "MESSAGE", from_width: 0 },
    ];
    let rows: Vec<Vec<Cell>> = history.iter().map(|entry| row(entry, now)).collect();
    table(look, &columns, &rows)
}

fn row(entry: &HistoryEntry, now: jiff::Timestamp) -> Vec<Cell> {
    let (mark, tone) = match entry.result {
        AttemptResult::Succeeded => (Mark::Done, Tone::Good),
        AttemptResult::Failed => (Mark::Failed, Tone::Bad),
        AttemptResult::Unknown | AttemptResult::NotSent => (Mark::Warning, Tone::Warning),
    };
    vec![
        Cell::new(format!("{} {}", entry.number, kind(entry.attempt_type))),
        Cell::new(format!("{} {}", mark.sign(), entry.result.word())).toned(tone),
        Cell::new(shortened(&called(entry.revision.as_deref(), &entry.digest))),
        Cell::new(cause(entry.cause)),
        Cell::new(format!("{} ago", ago(now, Some(&entry.completed_at)))),
        Cell::new(between(Some(&entry.started_at), Some(&entry.completed_at))),
        Cell::new(entry.job_id.as_deref().unwrap_or("-")),
        Cell::new(&entry.message),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_facts::*;

    #[test]
    fn the_table_in_every_look() {
        let facts = Facts::uat()
            .runs(A)
            .ended(B, AttemptResult::Failed, "job job-1 failed: [ERROR] the migration 0042 failed")
            .ended(B, AttemptResult::Unknown, "nothing was seen of it until the wait was over")
            .ended(B, AttemptResult::NotSent, "nothing was sent: no connection");
        for (name, colour, width) in
            [("plain", false, None), ("terminal", true, Some(100)), ("narrow", false, Some(60))]
        {
            let screen = render(&facts.status.history, now(), Look { colour, width });
            insta::assert_snapshot!(name, screen.replace('\u{1b}', "\\e"));
        }
    }
}
