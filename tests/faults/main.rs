//! `make faults`: the fault matrix. Each row is a fault and what must come of it, tried with the built operator on a real
//! API server under several seeds; `docs/faults.md` is the table of them.
//!
//! A seed moves the moment of the fault, and picks one combination of what nobody knows of the real API
//! ([`readings`]). `ONLY=12` runs one row, by its number or a part of its name, `SEEDS=20` more seeds.
//! A row is a function in `rows/`, one file for each group of them.

#[path = "../support/mod.rs"]
mod support;

mod case;
mod halts;
mod matrix;
mod oracles;
mod readings;
mod rows;
mod table;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use case::Case;
use matrix::{How, Matrix};
use support::Failure;

/// The cases mostly wait for states of other processes, so more of them run at once than there are cores.
const THREADS: usize = 12;
/// The seeds of CI.
const SEEDS: u64 = 3;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    let only = std::env::var("ONLY").unwrap_or_default();
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    let matrix = Arc::new(Matrix::new(rows::all()));
    let mut trials = if only.is_empty() { own_trials(&matrix) } else { Vec::new() };
    let meant: Vec<usize> = (0..matrix.rows.len()).filter(|index| matrix.rows[*index].is_meant(&only)).collect();
    if meant.is_empty() {
        table::say(&format!("no row has the number {only}, or {only} in its name: docs/faults.md has them all"));
        return ExitCode::FAILURE;
    }
    let mut cases: Vec<_> = meant.iter().flat_map(|index| cases_of(&matrix, *index, seeds)).collect();
    // Those that take minutes begin first. The seeds of a row are apart, for some rows take turns at a control plane.
    cases.sort_by_key(|case| (!matrix.rows[case.index].is_long(), case.seed));
    trials.extend(cases.into_iter().map(|case| case.trial));
    let whole = only.is_empty() && arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list
        && let Err(failure) = table::publish(&matrix, whole)
    {
        table::say(&failure.to_string());
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// What must hold of the matrix itself.
fn own_trials(matrix: &Arc<Matrix>) -> Vec<Trial> {
    let (numbers, committed, first_seeds) = (Arc::clone(matrix), Arc::clone(matrix), Arc::clone(matrix));
    let mut trials = vec![
        Trial::test("matrix::every_pair_of_readings_is_covered", || failed(readings::every_pair_is_covered())),
        Trial::test("matrix::many_seeds_try_every_combination", || failed(readings::seeds_reach_all())),
        Trial::test("matrix::the_first_seeds_of_a_row_try_what_matters", move || {
            failed(readings::first_seeds_try_what_matters(&first_seeds.rows))
        }),
        Trial::test("matrix::every_row_is_there_once", move || failed(numbers.every_row_is_there_once())),
    ];
    if !table::is_written() {
        let is_committed = move || failed(table::is_committed(&committed));
        trials.push(Trial::test("matrix::the_committed_table_is_of_these_rows", is_committed));
    }
    trials
}

/// One case, or the sight of the tests elsewhere.
struct Planned {
    index: usize,
    seed: u64,
    trial: Trial,
}

fn cases_of(matrix: &Arc<Matrix>, index: usize, seeds: u64) -> Vec<Planned> {
    let row = &matrix.rows[index];
    let How::Runs { name, .. } = &row.how else { return Vec::new() };
    let case = |seed| {
        let matrix = Arc::clone(matrix);
        let trial = Trial::test(format!("{name}::seed_{seed}"), move || {
            let case = Case::new(&matrix.rows[index], index, seed);
            let result = matrix.rows[index].run(&case);
            matrix.count(index, result.is_ok());
            failed(result.map_err(|failure| Failure::new(format!("{}\n{failure}", case.describe()))))
        });
        Planned { index, seed, trial }
    };
    let mut planned: Vec<_> = (0..seeds).map(case).collect();
    let tests = row.tests();
    if !tests.is_empty() {
        let trial = Trial::test(format!("{name}::tests_elsewhere"), move || failed(matrix::exist(tests)));
        planned.push(Planned { index, seed: 0, trial });
    }
    planned
}

fn failed(result: support::Result<()>) -> Result<(), Failed> {
    result.map_err(|failure| failure.to_string().into())
}
