//! Duplicates against the server's lag: how long after the end of a connection it may take until the Space shows what came
//! of the request.

use fastrand::Rng;

use crate::facts::UAT;
use crate::process::Flow;
use crate::server::State;
use crate::setting::{Moves, Setting, Standing};
use crate::world::{Action, Course, World};

/// In ticks; with it the wait is eight, and the table's points are two apart.
const SETTLE: u8 = 4;
const TIMEOUT: u8 = 4;
const WAIT: u8 = SETTLE + TIMEOUT;

/// One line of the table.
pub struct Point {
    pub lag: u8,
    pub wait: u8,
    pub schedules: usize,
    /// Schedules in which one digest was released twice.
    pub duplicates: usize,
}

/// The nine points from nothing to twice the wait.
pub fn table(seed: u64, schedules: usize) -> Vec<Point> {
    let point = |step: u8| {
        let lag = WAIT / 4 * step;
        let mut rng = Rng::with_seed(seed ^ u64::from(lag));
        let duplicates = (0..schedules).filter(|_| doubles(&mut rng, lag)).count();
        Point { lag, wait: WAIT, schedules, duplicates }
    };
    (0..=8).map(point).collect()
}

/// Whether one digest was released twice in a schedule whose answers are lost and whose server is so late.
fn doubles(rng: &mut Rng, lag: u8) -> bool {
    // A part of it is the job's, up to what a job may take; the rest passes before the request takes effect.
    let job = if lag > WAIT { TIMEOUT } else { rng.u8(lag.saturating_sub(SETTLE)..=lag.min(TIMEOUT)) };
    let moves = [Moves::Accept, Moves::End, Moves::Success][rng.usize(0..3)];
    let standing = [Standing::OldWord, Standing::Running, Standing::OddWord][rng.usize(0..3)];
    let setting = Setting::uat("lag").server(moves, standing, rng.bool()).but(|setting| {
        setting.replicas = rng.usize(1..=2);
        setting.settle = SETTLE;
        setting.timeout = TIMEOUT;
        setting.longest_job = u8::MAX;
        setting.effect_lag = Some(lag - job);
        setting.deployed_before = rng.bool();
        (setting.budget.lost, setting.budget.total) = (2, 2);
        setting.most_attempts = u8::MAX;
    });
    let mut world = World::new(&setting);
    let mut running = vec![0_u8; usize::from(u8::MAX)];
    let mut crashes = 2;
    for _ in 0..5 * WAIT {
        // What is due comes first: "within" counts the end of the time.
        while let Some(index) = world.server.due_arrival() {
            world.arrive(&setting, index);
        }
        for (index, age) in running.iter().enumerate().take(world.server.jobs.len()) {
            if world.server.jobs[index].state == State::Running && *age >= job {
                world.end(&setting, index, true);
            }
        }
        for _ in 0..rng.usize(2..8) {
            let process = u8::try_from(rng.usize(0..setting.replicas)).unwrap_or(0);
            let action = next(rng, &setting, &world, process);
            world = world.after(&setting, action).unwrap_or(world);
            if crashes > 0 && rng.u8(0..20) == 0 {
                crashes -= 1;
                world.processes[usize::from(process)] = crate::process::Process::default();
            }
        }
        running.iter_mut().take(world.server.jobs.len()).for_each(|age| *age += 1);
        world = world.after(&setting, Action::Tick).unwrap_or(world);
    }
    world.duplicates() > 0
}

/// What this process does next; requests lose their answers as long as the budget lasts.
fn next(rng: &mut Rng, setting: &Setting, world: &World, process: u8) -> Action {
    let slot = UAT;
    match &world.processes[usize::from(process)].flows[usize::from(slot)] {
        Flow::Idle => Action::Pass { process, slot, stale: false },
        Flow::GiveWay(_) => Action::GiveWay { process, slot },
        Flow::Receipt { .. } => Action::Receipt { process, slot },
        Flow::Send(sending) if sending.late() => Action::Send { process, slot, course: Course::Unsent },
        Flow::Send(_) if world.budget.lost == 0 || rng.u8(0..8) == 0 => {
            Action::Send { process, slot, course: Course::Answered }
        }
        Flow::Send(_) if setting.effect_lag == Some(0) => Action::Send { process, slot, course: Course::AnswerLost },
        Flow::Send(_) => Action::Send { process, slot, course: Course::Late },
        _ => Action::Write { process, slot },
    }
}
