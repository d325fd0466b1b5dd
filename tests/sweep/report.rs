//! The table at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use crate::case::{Case, Losses, Run};
use crate::flow::Flow;
use crate::point::Points;
use crate::support::run_folder::package;
use crate::support::{Context, Failure, Result};

/// One case and what it came to.
pub(crate) struct Row {
    pub(crate) case: Case,
    /// What the last operator passed.
    pub(crate) after: Points,
    pub(crate) passed: bool,
    /// How many runs did not pass the point before one that did.
    again: usize,
    /// In no run all its crashes came.
    missed: bool,
    duplicates: usize,
    losses: Losses,
    /// Status writes beyond those of the run without a fault; fewer where progress was written less often.
    extra_status_writes: isize,
    took: Duration,
}

impl Row {
    pub(crate) fn of(case: Case, run: Run, again: usize, reference: &Run, took: Duration) -> Self {
        Self {
            case,
            again,
            missed: run.missed > 0,
            duplicates: run.end.duplicates(),
            losses: run.end.losses,
            extra_status_writes: run.end.status_writes.cast_signed() - reference.end.status_writes.cast_signed(),
            after: run.after,
            passed: true,
            took,
        }
    }

    /// It did not come to an end.
    pub(crate) fn failed(case: Case, took: Duration) -> Self {
        let after = Points::default();
        Self {
            case,
            after,
            passed: false,
            again: 0,
            missed: false,
            duplicates: 0,
            losses: Losses::default(),
            extra_status_writes: 0,
            took,
        }
    }
}

/// All cases so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One line for each flow and number of crashes.
    pub(crate) fn table(&self, took: Duration) -> String {
        let mut text = format!(
            "\n{:<16} {:>7} {:>7} {:>6} {:>7} {:>7} {:>11} {:>13} {:>8}\n",
            "flow", "crashes", "points", "cases", "passed", "again", "duplicates", "status writes", "seconds"
        );
        for flow in Flow::ALL {
            for crashes in [1, 2] {
                let rows: Vec<&Row> =
                    self.rows.iter().filter(|row| row.case.flow == flow && row.case.crashes.len() == crashes).collect();
                if rows.is_empty() {
                    continue;
                }
                let points: BTreeSet<&str> =
                    rows.iter().flat_map(|row| row.case.crashes.iter().map(|point| point.name.as_str())).collect();
                let seconds: f64 = rows.iter().map(|row| row.took.as_secs_f64()).sum();
                let _ = writeln!(
                    text,
                    "{:<16} {:>7} {:>7} {:>6} {:>7} {:>7} {:>11} {:>13} {:>8.0}",
                    flow.name(),
                    crashes,
                    points.len(),
                    rows.len(),
                    rows.iter().filter(|row| row.passed && !row.missed).count(),
                    rows.iter().map(|row| row.again).sum::<usize>(),
                    rows.iter().map(|row| row.duplicates).sum::<usize>(),
                    format!("at most {:+}", rows.iter().map(|row| row.extra_status_writes).max().unwrap_or_default()),
                    seconds,
                );
            }
        }
        text.push_str(&self.status_writes());
        for row in self.rows.iter().filter(|row| row.again > 0) {
            let told = if row.missed {
                "in no run all its crashes came, the last was run"
            } else {
                "its point was passed in run"
            };
            let _ = writeln!(text, "{}: {told} {}", row.case.name(), row.again + 1);
        }
        let _ = writeln!(text, "in all {} cases, {:.0} s", self.rows.len(), took.as_secs_f64());
        text
    }

    /// How many cases with so many crashes were tried, and how many of them never came to all.
    pub(crate) fn missed(&self, crashes: usize) -> (usize, usize) {
        let cases = || self.rows.iter().filter(|row| row.case.crashes.len() == crashes);
        (cases().count(), cases().filter(|row| row.missed).count())
    }

    /// How many cases wrote how many statuses beyond the run without a fault.
    fn status_writes(&self) -> String {
        let mut counts: BTreeMap<(Flow, usize, Losses), BTreeMap<isize, usize>> = BTreeMap::new();
        for row in self.rows.iter().filter(|row| row.passed) {
            let kind = (row.case.flow, row.case.crashes.len(), row.losses);
            *counts.entry(kind).or_default().entry(row.extra_status_writes).or_default() += 1;
        }
        let mut text = "status writes beyond the run without a fault, and how many cases had so many:\n".to_owned();
        for ((flow, crashes, lost), counts) in counts {
            let counts: Vec<String> = counts.iter().map(|(extra, cases)| format!("{extra:+}: {cases}")).collect();
            let _ = writeln!(text, "{:<16} {crashes} crashes{lost}: {}", flow.name(), counts.join(", "));
        }
        text
    }

    /// Compares what the flows passed where they may die with the list of all points: a name that no run passes there tests
    /// nothing, and one that is not in the list is not known to be passed.
    pub(crate) fn compare_with_all_points(&self, references: &BTreeMap<Flow, Run>) -> Result<()> {
        let list = package().join("tests/sweep/points.txt");
        let list = fs::read_to_string(&list).context(format!("reading {}", list.display()))?;
        let known: BTreeSet<&str> = list.lines().collect();
        let at_first = references.iter().flat_map(|(flow, run)| flow.to_try(&run.points));
        let after_a_crash = self.rows.iter().flat_map(|row| row.case.flow.to_try_after_a_crash(&row.after));
        let passed: BTreeSet<String> = at_first.chain(after_a_crash).map(|point| point.name).collect();
        let passed: BTreeSet<&str> = passed.iter().map(String::as_str).collect();
        let dead: Vec<&&str> = known.difference(&passed).collect();
        let unknown: Vec<&&str> = passed.difference(&known).collect();
        if dead.is_empty() && unknown.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("tests/sweep/points.txt: never passed {dead:?}; not in the list {unknown:?}")))
    }
}
