//! What is printed: lines of progress, and one table at the end.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::support::{Failure, Result};

/// One line of progress. A reader that has gone away must not keep the parts from being stopped.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The figures, in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Report {
    sections: Vec<(String, Vec<Row>)>,
}

struct Row {
    what: String,
    figure: String,
    aim: String,
}

impl Report {
    /// Begins a section, whose title says under which conditions its figures were measured.
    pub(crate) fn section(&mut self, title: &str) {
        say(&format!("measuring: {title}"));
        self.sections.push((title.to_owned(), Vec::new()));
    }

    /// A figure without an aim.
    pub(crate) fn row(&mut self, what: &str, figure: impl Into<String>) {
        self.push(what, figure.into(), String::new());
    }

    /// A figure that should not be above `aim`.
    pub(crate) fn aim(&mut self, what: &str, (figure, aim): (f64, f64), unit: &str) {
        self.judge(what, figure, (figure <= aim, "at most", aim), unit);
    }

    /// A figure that should not be below `aim`.
    pub(crate) fn at_least(&mut self, what: &str, (figure, aim): (f64, f64), unit: &str) {
        self.judge(what, figure, (figure >= aim, "at least", aim), unit);
    }

    fn judge(&mut self, what: &str, figure: f64, (holds, bound, aim): (bool, &str, f64), unit: &str) {
        let verdict = if holds { "met" } else { "MISSED" };
        self.push(what, format!("{}{unit}", short(figure)), format!("{bound} {}{unit}: {verdict}", short(aim)));
    }

    /// The whole table. `took` is how long all measurements took.
    pub(crate) fn print(&self, took: Duration) {
        let rows = || self.sections.iter().flat_map(|(_, rows)| rows);
        let width = |cell: fn(&Row) -> &str| rows().map(|row| cell(row).chars().count()).max().unwrap_or_default();
        let (what, figure) = (width(|row| &row.what), width(|row| &row.figure));
        let mut text = String::new();
        for (title, rows) in &self.sections {
            let _ = writeln!(text, "\n{title}");
            for row in rows {
                let line = format!("  {:<what$}  {:>figure$}  {}", row.what, row.figure, row.aim);
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        say(&format!("{text}\nAll of it took {} s.", took.as_secs()));
    }

    fn push(&mut self, what: &str, figure: String, aim: String) {
        say(&format!("  {what}: {figure}"));
        if let Some((_, rows)) = self.sections.last_mut() {
            rows.push(Row { what: what.to_owned(), figure, aim });
        }
    }
}

/// A number with three digits or so.
pub(crate) fn short(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 100.0 || number.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{number:.digits$}")
}

/// A count as a figure.
pub(crate) fn count(count: impl TryInto<u32, Error: std::error::Error>) -> Result<f64> {
    Ok(f64::from(count.try_into()?))
}

/// Measured values, sorted.
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// At least one value.
    pub(crate) fn new(mut values: Vec<f64>) -> Result<Self> {
        if values.is_empty() {
            return Err(Failure::new("nothing was measured"));
        }
        values.sort_by(f64::total_cmp);
        Ok(Self(values))
    }

    /// The median.
    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The greatest.
    pub(crate) fn max(&self) -> f64 {
        self.percentile(100)
    }

    /// The value that so many of a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent).div_ceil(100).clamp(1, self.0.len());
        self.0[place - 1]
    }

    /// Median, 95th percentile and maximum, in milliseconds.
    pub(crate) fn milliseconds(&self) -> String {
        format!("{} / {} / {} ms", short(self.median()), short(self.percentile(95)), short(self.max()))
    }
}
