//! Random schedules: all faults mixed, on finer time than the search can afford, and to their end.
//!
//! Beside each goes a second world with whole records, all texts and the real time: that both always do the same shows
//! that what `facts::canonical` leaves out decides nothing.

use std::sync::Arc;

use fastrand::Rng;

use crate::facts::canonical;
use crate::setting::{Budget, Busy, Image, Moves, Second, Setting, Standing};
use crate::world::{Action, Course, World};

/// Things that happen while faults may.
const LENGTH: usize = 160;
/// Ticks after the last fault in which all must be done.
const PATIENCE: usize = 60;

/// What came of many schedules.
#[derive(Debug, Default)]
pub struct Tally {
    pub schedules: usize,
    pub steps: usize,
    pub requests: usize,
    pub duplicates: usize,
    pub crashes: usize,
    pub lost: usize,
    /// The first schedule that went wrong, with what went wrong.
    pub wrong: Option<String>,
}

/// Runs so many schedules. The seed of each is told where it goes wrong.
pub fn run(seed: u64, count: u64) -> Tally {
    std::thread::scope(|scope| {
        let half = |begin| scope.spawn(move || some(seed, (begin..count).step_by(2)));
        let (one, two) = (half(0), half(1));
        let (one, two) = (one.join().expect("it has counted"), two.join().expect("it has counted"));
        Tally {
            schedules: one.schedules + two.schedules,
            steps: one.steps + two.steps,
            requests: one.requests + two.requests,
            duplicates: one.duplicates + two.duplicates,
            crashes: one.crashes + two.crashes,
            lost: one.lost + two.lost,
            wrong: one.wrong.or(two.wrong),
        }
    })
}

fn some(seed: u64, schedules: impl Iterator<Item = u64>) -> Tally {
    let mut tally = Tally::default();
    for schedule in schedules {
        let mut rng = Rng::with_seed(seed.wrapping_add(schedule.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let setting = any_setting(&mut rng);
        let mut way = Vec::new();
        // Whole records are slow; a part of the schedules shows what they are for.
        let beside = schedule % 16 < 2;
        let outcome = one(&setting, beside, &mut rng, &mut way, &mut tally);
        tally.schedules += 1;
        if let Err(problem) = outcome {
            let way: Vec<String> = way.iter().map(|action: &Action| format!("{action:?}")).collect();
            tally.wrong =
                Some(format!("schedule {schedule} of seed {seed}: {problem}\n{setting:?}\n{}", way.join("\n")));
            break;
        }
    }
    tally
}

fn any_setting(rng: &mut Rng) -> Setting {
    let settle = rng.u8(2..=4);
    let timeout = rng.u8(2..=5);
    let base = match rng.u8(0..4) {
        0 => Setting::uat("schedule"),
        1 => Setting::uat("schedule").but(|setting| setting.second = Second::Twin),
        _ => Setting::pair("schedule"),
    };
    let twins = base.second == Second::Twin;
    // To each of two resources for one Space the other is somebody else, whose deployments an old read hides, and a second
    // process may take them for those of an attempt that it did not send itself.
    let read_lag = if twins { 0 } else { rng.u8(0..=settle) };
    let deletions = rng.u8(0..6).saturating_sub(3);
    let replicas = if twins || deletions > 1 { 1 } else { rng.usize(1..=2) };
    let moves = [Moves::Accept, Moves::End, Moves::Success][rng.usize(0..3)];
    let standing = [Standing::OldWord, Standing::Running, Standing::OddWord][rng.usize(0..3)];
    base.server(moves, standing, rng.bool()).but(|setting| {
        setting.replicas = replicas;
        setting.settle = settle;
        setting.timeout = timeout;
        setting.longest_job = timeout;
        setting.read_lag = read_lag;
        setting.effect_lag = Some(rng.u8(0..=settle - read_lag));
        setting.goes_back = rng.bool();
        setting.deployed_before = rng.bool();
        setting.restored = rng.bool();
        setting.automatic = rng.bool();
        setting.reading.nonce_visible = rng.bool();
        setting.reading.busy = [Busy::Refuse, Busy::Queue, Busy::Parallel][rng.usize(0..3)];
        setting.reading.image = [Image::AtAccept, Image::AtEnd][rng.usize(0..2)];
        setting.most_attempts = u8::MAX;
        setting.budget = Budget {
            // The open attempt of a deleted resource is known to the processes alone.
            crashes: if deletions == 0 { rng.u8(0..4) } else { 0 },
            lost: rng.u8(0..4),
            refused: rng.u8(0..2),
            failures: rng.u8(0..3),
            edits: rng.u8(0..4),
            humans: 0,
            resets: rng.u8(0..2),
            deletions,
            unheard: rng.u8(0..2),
            slow: rng.u8(0..3),
            total: u8::MAX,
            collisions: u8::MAX,
        };
    })
}

fn one(
    setting: &Setting,
    with_whole: bool,
    rng: &mut Rng,
    way: &mut Vec<Action>,
    tally: &mut Tally,
) -> Result<(), String> {
    let whole = setting.clone().but(|setting| {
        setting.exact = true;
        setting.memo = Arc::default();
    });
    let mut world = World::new(setting);
    let mut beside = World::new(&whole);
    let mut actions = Vec::new();
    let mut step = |world: &mut World, action: Action, way: &mut Vec<Action>| {
        way.push(action);
        tally.steps += 1;
        tally.crashes += usize::from(matches!(action, Action::Crash { .. }));
        if let Action::Send { course, .. } = action {
            tally.requests += 1;
            tally.lost += usize::from(matches!(course, Course::AnswerLost | Course::Late | Course::Lost));
        }
        let changed = world.after(setting, action);
        *world = changed.unwrap_or_else(|| world.clone());
        if !with_whole {
            return Ok(());
        }
        let changed = beside.after(&whole, action);
        beside = changed.unwrap_or_else(|| beside.clone());
        alike(world, &beside, setting)
    };
    let mut outcome = Ok(());
    for _ in 0..LENGTH {
        actions.clear();
        world.actions(setting, &mut actions);
        let Some(action) = choose(rng, &actions) else { break };
        outcome = step(&mut world, action, way);
        if outcome.is_err() || world.broken.any() {
            break;
        }
    }
    // From here on nothing goes wrong any more.
    world.budget = Budget { collisions: u8::MAX, ..Budget::default() };
    for _ in 0..PATIENCE {
        if outcome.is_err() || world.broken.any() || world.is_done(setting) {
            break;
        }
        for _ in 0..12 {
            actions.clear();
            world.actions(setting, &mut actions);
            actions.retain(|action| *action != Action::Tick);
            let Some(action) = choose(rng, &actions) else { break };
            outcome = outcome.and_then(|()| step(&mut world, action, way));
        }
        while world.server.is_due(setting) && outcome.is_ok() && !world.broken.any() {
            actions.clear();
            world.actions(setting, &mut actions);
            let Some(action) = choose(rng, &actions) else { break };
            outcome = step(&mut world, action, way);
        }
        outcome = outcome.and_then(|()| step(&mut world, Action::Tick, way));
    }
    tally.duplicates += world.duplicates();
    outcome?;
    if let Some(name) = world.broken.names().first() {
        return Err(format!("{name} does not hold:\n{}", world.tell()));
    }
    if !world.is_done(setting) {
        return Err(format!("it does not come to its end:\n{}", world.tell()));
    }
    Ok(())
}

/// Whether both worlds show the same, as far as decisions go.
fn alike(world: &World, beside: &World, setting: &Setting) -> Result<(), String> {
    for (one, other) in world.resources.iter().zip(&beside.resources) {
        let other = other.as_ref().map(|resource| canonical((*resource.status).clone(), beside.now(), setting));
        let one = one.as_ref().map(|resource| (*resource.status).clone());
        if one != other {
            return Err(format!("what is left out of the records decides something: {one:#?} is not {other:#?}"));
        }
    }
    Ok(())
}

/// One of the actions: what goes wrong less often than what goes on.
fn choose(rng: &mut Rng, actions: &[Action]) -> Option<Action> {
    let total = actions.iter().copied().map(weight).sum::<u32>();
    if total == 0 {
        return None;
    }
    let mut left = rng.u32(0..total);
    actions.iter().copied().find(|action| {
        let weight = weight(*action);
        let found = left < weight;
        left = left.saturating_sub(weight);
        found
    })
}

fn weight(action: Action) -> u32 {
    match action {
        Action::Pass { stale: false, .. } | Action::Tick => 10,
        Action::Pass { stale: true, .. } | Action::Compare { stale: true, .. } => 5,
        Action::Write { .. }
        | Action::GiveWay { .. }
        | Action::Hold { .. }
        | Action::Compare { .. }
        | Action::ReadAgain { .. }
        | Action::Receipt { .. }
        | Action::Note { .. }
        | Action::Send { course: Course::Answered, .. }
        | Action::Make { .. } => 20,
        Action::Send { .. } | Action::Arrive { .. } | Action::End { .. } => 8,
        Action::Crash { .. } | Action::WriteUnheard { .. } => 3,
        Action::Edit { .. } | Action::Human { .. } | Action::Reset { .. } | Action::Delete { .. } => 1,
    }
}
