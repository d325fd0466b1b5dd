//! `docs/faults.md`: written by `make faults`, printed elsewhere. Of the committed file the rows must be those of the
//! code, and none may tell of a case that failed.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;

use crate::SEEDS;
use crate::matrix::{How, Matrix, Row};
use crate::readings;
use crate::support::run_folder::package;
use crate::support::{Context, Failure, Result};

const FILE: &str = "docs/faults.md";
/// The result of a row that cannot happen.
const RULED_OUT: &str = "ruled out";

/// Prints the table of what ran; after a whole run by `make faults` (`FAULTS_TABLE=write`) it is the committed file too.
pub(crate) fn publish(matrix: &Matrix, whole: bool) -> Result<()> {
    let mut text = String::new();
    for (index, row) in matrix.rows.iter().enumerate() {
        if whole || matrix.counted(index).1 > 0 {
            let _ = writeln!(text, "{}", line(row, &result(matrix, index)));
        }
    }
    say(&text);
    if whole && is_written() {
        let path = package().join(FILE);
        fs::write(&path, file(matrix)).context(format!("writing {FILE}"))?;
        say(&format!("wrote {FILE}"));
    }
    Ok(())
}

/// Whether this run writes the table, as `make faults` does.
pub(crate) fn is_written() -> bool {
    std::env::var("FAULTS_TABLE").is_ok_and(|wish| wish == "write")
}

/// Sees that the committed table has these rows, each with what is required, how it is tested, and a result without a
/// failure. That the cases pass today is what the run itself shows.
pub(crate) fn is_committed(matrix: &Matrix) -> Result<()> {
    let committed = fs::read_to_string(package().join(FILE)).unwrap_or_default();
    let parts = |line: &str| {
        let (row, result) = line.trim_end().trim_end_matches('|').rsplit_once('|')?;
        Some((row.to_owned(), result.trim().to_owned()))
    };
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| row ");
    let there: Vec<_> = committed.lines().filter(is_row).filter_map(parts).collect();
    let wanted: Vec<_> = matrix.rows.iter().filter_map(|row| Some((row, parts(&line(row, ""))?.0))).collect();
    let again = format!("run `make faults`, and commit {FILE}");
    let head = |text: &str| text.split("\n| row ").next().unwrap_or_default().to_owned();
    if head(&committed) != head(&file(matrix)) {
        return Err(Failure::new(format!("the text above its rows is another one: {again}")));
    }
    if there.len() != wanted.len() {
        return Err(Failure::new(format!("{} rows are committed, not {}: {again}", there.len(), wanted.len())));
    }
    for ((row, wanted), (text, result)) in wanted.iter().zip(&there) {
        if text != wanted {
            return Err(Failure::new(format!("it is not of this row: {wanted}: {again}")));
        }
        if !is_good(row, result) {
            return Err(Failure::new(format!("row {} is committed with the result {result:?}: {again}", row.number)));
        }
    }
    Ok(())
}

/// Whether all cases passed, and as many as CI has seeds.
fn is_good(row: &Row, result: &str) -> bool {
    let How::Runs { .. } = row.how else { return result == RULED_OUT };
    let count = |text: &str| text.parse::<u64>().ok();
    result.split_once(" of ").is_some_and(|(passed, ran)| passed == ran && count(ran).is_some_and(|ran| ran >= SEEDS))
}

/// Prints a line for a person.
pub(crate) fn say(text: &str) {
    // A closed output is no reason to fail.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn file(matrix: &Matrix) -> String {
    let mut text = format!(
        "# Faults\n\nWritten by `make faults`; do not edit. Each row is a fault and what must come of it, tried with the built\n\
         operator on a real API server and the simulator of Konigle. A row has one case for each seed: the seed moves the\n\
         moment of the fault, and picks one of {} combinations of what nobody knows of the real API, in which every two\n\
         values of two of these come together: {}.\n\nWhat a row does not fix, its first three seeds try in what matters most: a\n\
         `last_deployed_at` that moves at acceptance, at any end, and at success only; a job list that is served, and one\n\
         that is not.\n\nThe result is how many of the cases passed. Tests that a row\n\
         names beside its own function try more of it, without seeds: `make tests` runs those, and this run sees that they\n\
         are there.\n\n\
         `make faults ONLY=12` runs one row, `make faults SEEDS=20` all combinations for each.\n\n| row | fault | what must come of it | tested by | result |\n|---|---|---|---|---|\n",
        readings::count(),
        readings::describe(),
    );
    for (index, row) in matrix.rows.iter().enumerate() {
        let _ = writeln!(text, "{}", line(row, &result(matrix, index)));
    }
    text
}

fn line(row: &Row, result: &str) -> String {
    let how = match &row.how {
        How::Runs { name, fixed, why, tests, .. } => {
            let under = fixed
                .iter()
                .map(|(name, values)| format!("`{name}` = {}", values.join(" or ")))
                .collect::<Vec<_>>()
                .join(", ");
            let mut text = format!("`{name}`");
            for (file, test) in *tests {
                let _ = write!(text, ", `{test}` in `{file}`");
            }
            if under.is_empty() { text } else { format!("{text}, always with {under}: {why}") }
        }
        How::RuledOut(reason) => (*reason).to_owned(),
    };
    format!("| {} | {} | {} | {how} | {result} |", row.number, row.fault, row.required)
}

fn result(matrix: &Matrix, index: usize) -> String {
    let row = &matrix.rows[index];
    match (&row.how, matrix.counted(index)) {
        (How::Runs { .. }, (passed, ran)) => format!("{passed} of {ran}"),
        (How::RuledOut(_), _) => RULED_OUT.to_owned(),
    }
}
