//! Runs all parts and prints what came of them.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::{Instant, UNIX_EPOCH};

use crate::properties::PROPERTIES;
use crate::search::{Found, explore, look_for};
use crate::setting::Setting;
use crate::{lag, schedules, settings};

/// Threads of a search, and of the schedules.
const THREADS: usize = 2;

/// A run of everything explores so many states at the least.
const LEAST_STATES: usize = 1_000_000;

/// The parts that are no search, by the names with which they are asked for.
const SCHEDULES: &str = "schedules";
const LAG: &str = "lag";

/// What was asked for.
struct Asked {
    large: bool,
    seed: u64,
    schedules: u64,
    /// Only what has it in its name: settings, mutants, servers without bound, schedules, lag.
    only: Option<String>,
}

/// Runs everything; fails where anything is not as it must be.
pub fn run() -> ExitCode {
    let text = |name: &str| std::env::var(name).ok();
    let clock = konigle_operator::clock::system().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let asked = Asked {
        large: text("MODEL").as_deref() == Some("large"),
        seed: text("MODEL_SEED").and_then(|seed| seed.parse().ok()).unwrap_or(clock),
        schedules: text("MODEL_SCHEDULES").and_then(|count| count.parse().ok()).unwrap_or(10_000),
        only: std::env::args().nth(1).filter(|argument| !argument.starts_with('-')),
    };
    if let Some(only) = asked.only.as_deref().filter(|only| !names(&asked).iter().any(|name| name.contains(only))) {
        println!("nothing is named {only:?}; there are:\n  {}", names(&asked).join("\n  "));
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let mut controls = Controls::default();
    let searches = searches(&asked, &mut controls);
    let mutants = mutants(&asked, &mut controls);
    let parts = [searches, mutants, without_bound(&asked, &mut controls), random(&asked), lags(&asked)];
    let wrong = parts.iter().filter(|good| !**good).count();
    println!("\nmodel: {} parts, {wrong} wrong, {:.0} s", parts.len(), began.elapsed().as_secs_f32());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All that can be asked for.
fn names(asked: &Asked) -> Vec<String> {
    let settings = settings::alone(asked.large).into_iter().chain(settings::with_a_human());
    let mutants = settings::mutants().into_iter().map(|(mutant, ..)| format!("mutant {mutant:?}"));
    let without_bound = settings::without_bound().into_iter().map(|(name, _)| name.to_owned());
    let parts = [SCHEDULES.to_owned(), LAG.to_owned()];
    settings.map(|setting| setting.name.to_owned()).chain(mutants).chain(without_bound).chain(parts).collect()
}

fn wanted(asked: &Asked, name: &str) -> bool {
    asked.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
}

fn searches(asked: &Asked, controls: &mut Controls) -> bool {
    println!("Properties:");
    for (name, what) in PROPERTIES {
        println!("  {name:4} {what}");
    }
    println!("  L2   from every state it can come to its end\n");
    let mut good = true;
    let mut total = 0;
    let began = Instant::now();
    let all = settings::alone(asked.large).into_iter().chain(settings::with_a_human());
    for setting in all.filter(|setting| wanted(asked, setting.name)) {
        let found = explore(&setting, THREADS);
        total += found.states;
        good &= controls.keep(&setting, tell(setting.name, &found));
    }
    if !asked.large {
        println!("{}", settings::LEFT_OUT);
    }
    let enough = asked.only.is_some() || total >= LEAST_STATES;
    let verdict = if enough { "" } else { ": WRONG, for these are too few" };
    println!("total: {total} states, {:.0} s{verdict}", began.elapsed().as_secs_f32());
    good && enough
}

fn tell(name: &str, found: &Found) -> bool {
    let good = found.all_hold();
    println!(
        "{name:34} {:>9} states, depth {:>3}, {:>6.1} s, {:>6} cut: {}",
        found.states,
        found.depth,
        found.took.as_secs_f32(),
        found.cut,
        if good { "all hold" } else { "WRONG" }
    );
    if let Some((name, way)) = &found.broken {
        println!("{name} does not hold:\n{}", way.join("\n"));
    }
    if found.stuck.0 > 0 {
        println!("{} states cannot come to their end, such as:\n{}", found.stuck.0, found.stuck.1.join("\n"));
    }
    good
}

fn mutants(asked: &Asked, controls: &mut Controls) -> bool {
    println!("\nMutants, each with the property that it must break, and its setting without it, where all must hold:");
    let mut good = true;
    for (mutant, property, setting) in settings::mutants() {
        let name = format!("mutant {mutant:?}");
        if wanted(asked, &name) {
            good &= caught(&name, property, &setting, THREADS);
            good &= controls.hold(&setting.but(|setting| setting.mutant = None));
        }
    }
    good
}

fn without_bound(asked: &Asked, controls: &mut Controls) -> bool {
    println!("\nServers without bound, and the same within the assumptions:");
    let mut good = true;
    for (name, setting) in settings::without_bound() {
        if wanted(asked, name) {
            good &= caught(name, "S1d", &setting, 1);
            good &= controls.hold(&setting.but(|setting| setting.effect_lag = Some(setting.settle)));
        }
    }
    good
}

/// Whether all hold in the settings that were explored: several mutants share one, and some have one of the run's own.
#[derive(Default)]
struct Controls(HashMap<String, bool>);

impl Controls {
    fn keep(&mut self, setting: &Setting, good: bool) -> bool {
        self.0.insert(Self::key(setting), good);
        good
    }

    fn hold(&mut self, setting: &Setting) -> bool {
        let known = self.0.get(&Self::key(setting)).copied();
        known.unwrap_or_else(|| self.keep(setting, tell("    without it", &explore(setting, THREADS))))
    }

    /// All but the name.
    fn key(setting: &Setting) -> String {
        format!("{:?}", setting.clone().but(|setting| setting.name = ""))
    }
}

/// Whether just this property breaks.
fn caught(name: &str, property: &'static str, setting: &Setting, threads: usize) -> bool {
    let found = look_for(property, setting, threads);
    let caught = found.broken.as_ref().filter(|(broken, _)| *broken == property);
    let verdict = match (caught, &found.broken) {
        (Some((_, way)), _) => format!("after {:>2} steps", way.len()),
        (None, Some((other, _))) => format!("NOT CAUGHT, but {other} is"),
        (None, None) => "NOT CAUGHT".to_owned(),
    };
    println!("  {name:44} {property:4} {verdict} ({} states)", found.states);
    caught.is_some()
}

fn random(asked: &Asked) -> bool {
    let count = asked.schedules;
    if !wanted(asked, SCHEDULES) {
        return true;
    }
    println!("\nRandom schedules: seed {}", asked.seed);
    let began = Instant::now();
    let tally = schedules::run(asked.seed, count);
    println!(
        "  {} schedules, {} steps, {} requests, {} crashes, {} answers lost: {} duplicates, {:.0} s",
        tally.schedules,
        tally.steps,
        tally.requests,
        tally.crashes,
        tally.lost,
        tally.duplicates,
        began.elapsed().as_secs_f32()
    );
    if let Some(wrong) = &tally.wrong {
        println!("  WRONG: {wrong}");
    }
    tally.wrong.is_none() && tally.duplicates == 0
}

fn lags(asked: &Asked) -> bool {
    if !wanted(asked, LAG) {
        return true;
    }
    println!("\nDuplicates against the server's lag, seed {}:", asked.seed);
    let mut good = true;
    for point in lag::table(asked.seed, 200) {
        let within = point.lag <= point.wait;
        // Without any beyond it, the table would not show that it can see one.
        let right = within == (point.duplicates == 0);
        good &= right;
        println!(
            "  lag {:.2} of the wait: {:>3} of {} schedules{}{}",
            f64::from(point.lag) / f64::from(point.wait),
            point.duplicates,
            point.schedules,
            if within { " (must be 0)" } else { " (must not be 0)" },
            if right { "" } else { ": WRONG" }
        );
    }
    good
}
