//! One case: a flow, and where the operator dies in it.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use konigle_operator::api::KonigleSpace;
use serde_json::Value;

use crate::end::End;
use crate::flow::Flow;
use crate::point::{Point, Points};
use crate::scene::Scene;
use crate::support::operator::Operator;
use crate::support::stage::{STOP_LIMIT, Stage};
use crate::support::{Failure, Result};

/// How long a flow may take after the last crash. Where neither Space nor jobs tell what became of a request, the wait is
/// fence (10 s), submit limit (64 s), settle (2 s) and `spec.timeout` (5 s).
const LIMIT: Duration = Duration::from_mins(4);
/// How many runs a single case gets to pass its point.
pub(crate) const TRIES: usize = 4;
/// How many runs a pair gets to come to its second crash: another is drawn in its place then.
const TRIES_OF_A_PAIR: usize = 2;
/// Between two looks at the resources: they are what all cases together ask the API server for most.
const POLL: Duration = Duration::from_millis(500);

/// Where the operator dies: at the first point in its first life, at the second in its next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) flow: Flow,
    pub(crate) crashes: Vec<Point>,
}

impl Case {
    pub(crate) fn without_a_fault(flow: Flow) -> Self {
        Self { flow, crashes: Vec::new() }
    }

    pub(crate) fn name(&self) -> String {
        let crashes: Vec<String> = self.crashes.iter().map(Point::to_string).collect();
        format!("{}/{}", self.flow.name(), crashes.join("+"))
    }

    /// How many runs it gets to come to all its crashes.
    pub(crate) fn tries(&self) -> usize {
        if self.crashes.len() > 1 { TRIES_OF_A_PAIR } else { TRIES }
    }

    /// The pair of exactly this name.
    pub(crate) fn named_pair(name: &str) -> Option<Self> {
        let (flow, points) = name.split_once('/')?;
        let (first, second) = points.split_once('+')?;
        Some(Self { flow: Flow::named(flow)?, crashes: vec![Point::parse(first)?, Point::parse(second)?] })
    }
}

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// What the first operator passed.
    pub(crate) points: Points,
    /// What the last operator passed.
    pub(crate) after: Points,
    /// Crashes whose point was not passed: how often a look is repeated is chance.
    pub(crate) missed: usize,
    pub(crate) end: End,
}

impl Run {
    /// Of two runs without a fault what both passed, and the end of the one that wrote more.
    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.points = self.points.passed_by_both(&other.points);
        if other.end.status_writes > self.end.status_writes {
            self.end = other.end.clone();
        }
        self
    }
}

/// Runs a case on a scene of its own.
pub(crate) async fn run(case: &Case) -> Result<Run> {
    let Case { flow, crashes } = case;
    let mut scene = Scene::open(*flow).await?;
    flow.prepare(&mut scene).await?;
    let recordings = scene.record().await?;
    let mut lives = Vec::new();
    let mut losses = Losses::default();
    let mut missed = 0;
    for (life, crash) in crashes.iter().map(Some).chain([None]).enumerate() {
        let log = scene.stage.operator.log().with_file_name(format!("points-{life}"));
        scene.stage.operator.restart_with(environment(&log, crash))?;
        scene.wish(*flow).await?;
        let mut died = drive(*flow, &mut scene, life).await?;
        if *flow == Flow::Elected && !died {
            died = dies_of_a_stop(&mut scene.stage.operator).await?;
        }
        if let Some(point) = crash.filter(|_| !died) {
            // All was done, and it may have died since, after the very write that was waited for.
            scene.stage.operator.kill();
            died = Points::read(&log)?.has(point);
        }
        match (crash, died) {
            (Some(_), true) => {
                losses.receipts += usize::from(is_without_job(&scene.resources(*flow).await?));
                scene.act_behind_its_back(*flow).await?;
                losses.memory |= scene.made_anew && has_no_past(&scene.resources(*flow).await?);
            }
            (Some(_), false) => missed += 1,
            (None, true) => {
                return Err(Failure::new(format!("the operator died by itself: {}", see_log(&scene.stage))));
            }
            (None, false) => {}
        }
        lives.push(Points::read(&log)?);
    }
    // Deleted while the operator lives: that it was is what the case is about.
    if *flow == Flow::MadeAnew && !scene.made_anew {
        return Err(Failure::new("the resource was not made anew"));
    }
    let end = End::of(*flow, &scene, &recordings, losses).await?;
    scene.stage.operator.kill();
    Ok(Run { points: lives[0].clone(), after: lives[lives.len() - 1].clone(), missed, end })
}

/// What crashes took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Losses {
    /// So many left an attempt without a job id.
    pub(crate) receipts: usize,
    /// One took the last knowledge of a deleted resource's job: what was made anew tells of nothing yet.
    pub(crate) memory: bool,
}

/// What has the operator write down its points, and die at one.
fn environment(log: &std::path::Path, crash: Option<&Point>) -> Vec<(String, String)> {
    let log = ("KONIGLE_CRASH_LOG".to_owned(), log.display().to_string());
    let crash = crash.map(|point| ("KONIGLE_CRASH_AT".to_owned(), point.to_string()));
    [log].into_iter().chain(crash).collect()
}

impl fmt::Display for Losses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = if self.memory { ", memory lost" } else { "" };
        match self.receipts {
            0 => write!(formatter, "{memory}"),
            count => write!(formatter, ", {count} receipts lost{memory}"),
        }
    }
}

/// Waits until the wish is met and the operator has looked once more, or is dead: then true.
async fn drive(flow: Flow, scene: &mut Scene, life: usize) -> Result<bool> {
    let began = Instant::now();
    let request = format!("look-{life}");
    let mut asked = false;
    loop {
        if let Some(status) = scene.stage.operator.process().ended()? {
            if status.signal() == Some(9) {
                return Ok(true);
            }
            return Err(Failure::new(format!("the operator ended with {status}: {}", see_log(&scene.stage))));
        }
        let resources = scene.resources(flow).await?;
        let looked = resources.iter().all(|space| {
            space.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.as_ref() == Some(&request))
        });
        if flow.is_met(&resources, scene.digest()) {
            if asked && looked {
                return Ok(false);
            }
            if !asked {
                scene.ask_for_a_look(flow, &request).await?;
                asked = true;
            }
        } else {
            scene.act(flow, &resources, life).await?;
        }
        if began.elapsed() > LIMIT {
            let shown: Vec<Value> =
                resources.iter().filter_map(|space| serde_json::to_value(&space.status).ok()).collect();
            return Err(Failure::new(format!("not met after {LIMIT:?}: {shown:?}; {}", see_log(&scene.stage))));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Asks the operator to end; whether it died on the way.
async fn dies_of_a_stop(operator: &mut Operator) -> Result<bool> {
    let ended = operator.terminate(STOP_LIMIT).await;
    if operator.process().ended()?.is_some_and(|status| status.signal() == Some(9)) {
        return Ok(true);
    }
    ended.map(|()| false)
}

/// Whether no status tells of any attempt.
fn has_no_past(resources: &[KonigleSpace]) -> bool {
    resources.iter().all(|space| space.status.as_ref().is_none_or(|status| status.last_attempt == 0))
}

/// Whether an attempt is open whose job nobody has written down.
fn is_without_job(resources: &[KonigleSpace]) -> bool {
    let mut attempts = resources.iter().filter_map(|space| space.status.as_ref()?.attempt.as_ref());
    attempts.any(|attempt| attempt.job_id.is_none())
}

fn see_log(stage: &Stage) -> String {
    let log: PathBuf = stage.operator.log().to_owned();
    format!("see {}", log.display())
}
