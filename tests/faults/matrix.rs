//! Rows: what each is, how it is tested, and what its cases came to.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use tokio::runtime;

use crate::case::Case;
use crate::readings::Fixed;
use crate::support::run_folder::package;
use crate::support::{Context, Failure, Result};

/// The numbers of the matrix; a row that is tried in several ways has one row with a letter for each.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=61;

/// One fault, and what must come of it.
pub(crate) struct Row {
    /// Its number, with a letter where the row is tried in several ways: `12`, `26b`.
    pub(crate) number: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) required: &'static str,
    pub(crate) how: How,
    pub(crate) is_long: bool,
}

/// Tests elsewhere: the file, and the function.
pub(crate) type Tests = &'static [(&'static str, &'static str)];

/// What runs a case: an asynchronous function of a row, in a runtime of its own.
type Run = Box<dyn Fn(&runtime::Runtime, &Case) -> Result<()> + Send + Sync>;

/// How a row is tested.
pub(crate) enum How {
    /// By its own function, once for each seed.
    Runs { name: &'static str, run: Run, fixed: Fixed, why: &'static str, tests: Tests },
    /// Not at all, for this reason: it cannot happen.
    RuledOut(&'static str),
}

/// A row that is an asynchronous function of a [`Case`].
macro_rules! row {
    ($number:literal, $function:ident, $fault:literal, $required:literal) => {
        $crate::matrix::Row {
            number: $number,
            fault: $fault,
            required: $required,
            how: $crate::matrix::How::Runs {
                name: stringify!($function),
                run: Box::new(|runtime, case| runtime.block_on(Box::pin($function(case)))),
                fixed: &[],
                why: "",
                tests: &[],
            },
            is_long: false,
        }
    };
}
pub(crate) use row;

impl Row {
    /// A row that cannot happen.
    pub(crate) fn ruled_out(number: &'static str, fault: &'static str, reason: &'static str) -> Self {
        Self { number, fault, required: "–", how: How::RuledOut(reason), is_long: false }
    }

    /// With these readings in every case, each in one of these values, for under others the row makes no sense; the table
    /// says so.
    pub(crate) fn under(mut self, readings: Fixed, reason: &'static str) -> Self {
        if let How::Runs { fixed, why, .. } = &mut self.how {
            (*fixed, *why) = (readings, reason);
        }
        self
    }

    /// Which these tests elsewhere try too, in more ways and without seeds: `("tests/it/client/writes.rs", "the_function")`.
    pub(crate) fn tested_by(mut self, elsewhere: Tests) -> Self {
        if let How::Runs { tests, .. } = &mut self.how {
            *tests = elsewhere;
        }
        self
    }

    /// Whether `ONLY` names it: by its number, with or without the letter, or a part of its name; all for nothing.
    pub(crate) fn is_meant(&self, only: &str) -> bool {
        let name = if let How::Runs { name, .. } = &self.how { *name } else { "" };
        let letters = |letter: char| letter.is_ascii_lowercase();
        only.is_empty()
            || self.number == only
            || self.number.trim_end_matches(letters) == only
            || (only.parse::<u32>().is_err() && name.contains(only))
    }

    /// Its cases take minutes by design, and begin first.
    pub(crate) fn long(mut self) -> Self {
        self.is_long = true;
        self
    }

    /// Whether its cases take minutes by design.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long
    }

    /// Runs one case of it. The trace of a case is judged when its last part is dropped, and a finding is a panic.
    pub(crate) fn run(&self, case: &Case) -> Result<()> {
        let How::Runs { run, .. } = &self.how else { return Ok(()) };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let result = catch_unwind(AssertUnwindSafe(|| run(&runtime, case)));
        result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map_or("a panic without a text", String::as_str);
            Err(Failure::new(text))
        })
    }

    /// The tests elsewhere that try it too.
    pub(crate) fn tests(&self) -> Tests {
        if let How::Runs { tests, .. } = &self.how { tests } else { &[] }
    }

    /// The readings that it fixes.
    pub(crate) fn fixed(&self) -> Fixed {
        if let How::Runs { fixed, .. } = &self.how { fixed } else { &[] }
    }
}

/// All rows, and how many of their cases passed and ran.
pub(crate) struct Matrix {
    pub(crate) rows: Vec<Row>,
    counts: Mutex<Vec<(usize, usize)>>,
}

impl Matrix {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        let counts = Mutex::new(vec![(0, 0); rows.len()]);
        Self { rows, counts }
    }

    /// Counts a case of the row at this place.
    pub(crate) fn count(&self, index: usize, passed: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts[index].0 += usize::from(passed);
        counts[index].1 += 1;
    }

    /// How many cases of the row at this place passed, and how many ran.
    pub(crate) fn counted(&self, index: usize) -> (usize, usize) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)[index]
    }

    /// Sees that no row is missing, and that none is there twice.
    pub(crate) fn every_row_is_there_once(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        for row in &self.rows {
            if !seen.insert(row.number) {
                return Err(Failure::new(format!("row {} is there twice", row.number)));
            }
            if let How::Runs { name, .. } = &row.how
                && !name.starts_with(&format!("row_{}_", row.number))
            {
                return Err(Failure::new(format!("{name} is the function of row {}", row.number)));
            }
        }
        let digits = |number: &str| number.trim_end_matches(|letter: char| letter.is_ascii_lowercase()).to_owned();
        let there: BTreeSet<String> = seen.into_iter().map(digits).collect();
        match NUMBERS.map(|number| number.to_string()).find(|number| !there.contains(number)) {
            Some(missing) => Err(Failure::new(format!("row {missing} is missing"))),
            None => Ok(()),
        }
    }
}

/// Sees that these tests are there.
pub(crate) fn exist(tests: &[(&str, &str)]) -> Result<()> {
    for (file, test) in tests {
        let text = fs::read_to_string(package().join(file)).context(format!("reading {file}"))?;
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let is_it = |line: &str| {
            line.trim_start_matches("async ")
                .strip_prefix("fn ")
                .is_some_and(|rest| rest.starts_with(&format!("{test}(")))
        };
        let is_test = |line: &&str| line.starts_with("#[tokio::test") || *line == "#[test]";
        let found = lines.iter().position(|line| is_it(line));
        if !found.is_some_and(|at| lines[..at].last().is_some_and(is_test)) {
            return Err(Failure::new(format!("{file} has no test {test}")));
        }
    }
    Ok(())
}
