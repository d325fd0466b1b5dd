//! The crash sweep: the operator is killed at every named point of its external calls, started again, and must come to
//! the same end as a run without a fault, with nothing deployed twice.
//!
//! First each flow runs twice without a fault and tells which points it passes. Then each point that both passed is a
//! case: the operator dies there by SIGKILL (`src/crash.rs`), and is started again. Then pairs: the restarted operator dies
//! too, at a point that it passes. All parts are real but Konigle, which is the simulator. `make sweep` runs it; a case's
//! name is `flow/point:hit`, a pair's `flow/point:hit+point:hit`.
//!
//! Two flows may deploy a second time, and only so: a resource is deleted while its job runs and made anew, and the
//! process that knew of the job dies before the new one's status tells of it (rule 10). Everything else deploys once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the report")]
#![allow(clippy::print_stdout, reason = "this program reports to people")]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod end;
mod flow;
mod pairs;
mod point;
mod report;
mod scene;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Conclusion, Trial};

use case::{Case, Run, run};
use flow::Flow;
use report::{Report, Row};
use support::{Context, Failure, Result};

/// How many cases run at once: they mostly wait, `resolve-never` for a minute and a half each.
const THREADS: usize = 32;

/// What all cases of this run know.
struct Sweep {
    /// The run of each flow without a fault.
    references: BTreeMap<Flow, Run>,
    report: Mutex<Report>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    match sweep(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            println!("the sweep could not run: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn sweep(arguments: &Arguments) -> Result<ExitCode> {
    let began = Instant::now();
    let flows: Vec<Flow> = Flow::ALL.into_iter().filter(|flow| flow.is_named_in(arguments.filter.as_deref())).collect();
    let twice = flows.iter().chain(&flows).map(|flow| Case::without_a_fault(*flow)).collect();
    let mut runs = in_threads(twice)?;
    let others = runs.split_off(flows.len());
    let references = runs.into_iter().zip(others).map(|(one, other)| one.and(&other));
    let references: BTreeMap<Flow, Run> = flows.iter().copied().zip(references).collect();
    for (flow, reference) in &references {
        println!("{}: {} points without a fault, {reference}", flow.name(), reference.points.len());
        reference
            .judge(&Case::without_a_fault(*flow), reference)
            .context(format!("{} without a fault", flow.name()))?;
    }
    let sweep = Arc::new(Sweep { references, report: Mutex::default() });

    // A pair that is named needs no other case to be found.
    let named = arguments.filter.as_deref().and_then(Case::named_pair);
    let singles = match &named {
        Some(pair) => vec![pair.clone()],
        None => sweep.singles(),
    };
    let concluded = sweep.try_all(arguments, singles);
    let mut failed = concluded.has_failed();
    let mut ran = ran_in(&concluded);
    if named.is_none() && !arguments.list {
        let (mut pairs, mut due) = pairs::drawn(sweep.pairs())?;
        while due > 0 && !pairs.is_empty() {
            let rest = pairs.split_off(due.min(pairs.len()));
            pairs.sort_by_key(|case| std::cmp::Reverse(case.flow));
            let missed = sweep.missed_pairs();
            let concluded = sweep.try_all(arguments, pairs);
            failed |= concluded.has_failed();
            ran += ran_in(&concluded);
            (pairs, due) = (rest, sweep.missed_pairs() - missed);
        }
    }
    if ran == 0
        && !arguments.list
        && let Some(filter) = &arguments.filter
    {
        return Err(Failure::new(format!("no case has {filter} in its name, which is `flow/point:hit`")));
    }
    if !arguments.list {
        let report = sweep.report.lock().unwrap_or_else(PoisonError::into_inner);
        print!("{}", report.table(began.elapsed()));
        for (crashes, what) in [(1, "points were never come to"), (2, "pairs never came to their second crash")] {
            let (tried, missed) = report.missed(crashes);
            enough(tried, missed, what)?;
        }
        if arguments.filter.is_none() {
            report.compare_with_all_points(&sweep.references)?;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Whether enough of them crashed as they should for the result to say something: nine of ten.
fn enough(tried: usize, missed: usize, what: &str) -> Result<()> {
    if missed * 10 <= tried {
        return Ok(());
    }
    Err(Failure::new(format!("{missed} of {tried} {what}: too many")))
}

/// How many cases were tried.
fn ran_in(conclusion: &Conclusion) -> u64 {
    conclusion.num_passed + conclusion.num_failed
}

impl Sweep {
    /// One case for each point of the runs without a fault.
    fn singles(&self) -> Vec<Case> {
        // The flows that wait longest stand last, and begin first.
        let all = self.references.iter().rev().flat_map(|(flow, reference)| {
            flow.to_try(&reference.points).into_iter().map(|point| Case { flow: *flow, crashes: vec![point] })
        });
        all.collect()
    }

    /// All pairs: a single case that came to its end, and a point that its restarted operator passed.
    fn pairs(&self) -> Vec<Case> {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = report.rows().iter().filter(|row| row.case.crashes.len() == 1).flat_map(|row| {
            let Case { flow, crashes } = &row.case;
            let seconds = flow.to_try_after_a_crash(&row.after).into_iter();
            seconds.map(|second| Case { flow: *flow, crashes: vec![crashes[0].clone(), second] })
        });
        pairs.collect()
    }

    /// How many pairs never came to their second crash so far.
    fn missed_pairs(&self) -> usize {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).missed(2).1
    }

    fn try_all(self: &Arc<Self>, arguments: &Arguments, cases: Vec<Case>) -> Conclusion {
        let trials = cases.into_iter().map(|case| {
            let sweep = Arc::clone(self);
            Trial::test(case.name(), move || sweep.try_one(&case).map_err(|failure| failure.to_string().into()))
        });
        libtest_mimic::run(arguments, trials.collect())
    }

    fn try_one(&self, case: &Case) -> Result<()> {
        let began = Instant::now();
        // What the trace of a case shows to be wrong is said by a panic, when its stage is dropped.
        let once = || {
            let ran = catch_unwind(|| block_on(run(case)));
            ran.unwrap_or_else(|panic| Err(Failure::new(words_of(&*panic))))
        };
        let mut ran = once();
        let mut again = 0;
        while again + 1 < case.tries() && ran.as_ref().is_ok_and(|ran| ran.missed > 0) {
            again += 1;
            ran = once();
        }
        let judged = ran.map(|ran| {
            let wrong = ran.judge(case, &self.references[&case.flow]);
            (ran, wrong)
        });
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        let (row, result) = match judged {
            Ok((ran, wrong)) => {
                let mut row = Row::of(case.clone(), ran, again, &self.references[&case.flow], began.elapsed());
                row.passed = wrong.is_ok();
                (row, wrong)
            }
            Err(failure) => (Row::failed(case.clone(), began.elapsed()), Err(failure)),
        };
        report.add(row);
        drop(report);
        result.context(format!("again with `make sweep ONLY='{}'`", case.name()))
    }
}

/// The words of a panic.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}

/// Runs these cases at the same time.
fn in_threads(cases: Vec<Case>) -> Result<Vec<Run>> {
    let threads = cases.into_iter().map(|case| std::thread::spawn(move || block_on(run(&case))));
    let threads: Vec<_> = threads.collect();
    let joined =
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| Err(Failure::new(words_of(&*panic)))));
    joined.collect()
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("making a runtime")?.block_on(future)
}
