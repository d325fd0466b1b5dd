//! One case: a row under a seed, with the combination of readings and the moment that follow from both.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};

use crate::SEEDS;
use crate::matrix::Row;
use crate::readings;
use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::operator::OperatorOptions;
use crate::support::stage::Stage;

/// How long the jobs of a case take, in seconds.
pub(crate) const JOB_SECONDS: f64 = 1.0;

/// How long the operator settles for: longer than all lags of the readings together.
const SETTLE: &str = "--unknown-outcome-settle=3s";

/// A row under a seed.
pub(crate) struct Case {
    number: &'static str,
    seed: u64,
    readings: Map<String, Value>,
}

impl Case {
    /// The case of the row at the place `index` of the matrix.
    pub(crate) fn new(row: &Row, index: usize, seed: u64) -> Self {
        Self { number: row.number, seed, readings: readings::of_case(index, seed, row.fixed()) }
    }

    /// What a person must know to run it again.
    pub(crate) fn describe(&self) -> String {
        let again = format!("make faults ONLY={} SEEDS={}", self.number, self.seed + 1);
        format!("row {} under seed {} ({again}), with {}", self.number, self.seed, Value::from(self.readings.clone()))
    }

    /// The parts of a test, on the shared control plane, under the readings of this case.
    pub(crate) async fn open(&self) -> Result<Stage> {
        self.open_with(JOB_SECONDS, |options| options).await
    }

    /// As [`Case::open`], with jobs of that many seconds and an operator whose options are changed.
    pub(crate) async fn open_with(
        &self,
        job_seconds: f64,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Stage> {
        self.open_on(ControlPlane::shared().await?, job_seconds, change).await
    }

    /// As [`Case::open_with`], on another control plane.
    pub(crate) async fn open_on(
        &self,
        control_plane: &ControlPlane,
        job_seconds: f64,
        change: impl FnOnce(OperatorOptions) -> OperatorOptions,
    ) -> Result<Stage> {
        let purpose = format!("row-{}-seed-{}", self.number, self.seed);
        let settle = |options: OperatorOptions| change(options.flag(SETTLE));
        let stage = Stage::open_on(control_plane, &purpose, job_seconds, settle).await?;
        let all = Value::from(self.readings.clone());
        stage.simulator.control(Method::PATCH, "readings", &all).await?;
        Ok(stage)
    }

    /// One of these: another for each seed, until all had their turn, which CI's seeds suffice for.
    pub(crate) fn pick<'a, T, const COUNT: usize>(&self, from: &'a [T; COUNT]) -> &'a T {
        const { assert!(COUNT as u64 <= SEEDS, "CI would never try the last ones") };
        &from[usize::try_from(self.seed).unwrap_or_default() % from.len()]
    }

    /// A moment within this time that looks random, and is the same for the same row and seed.
    pub(crate) fn moment(&self, within: Duration) -> Duration {
        // The golden ratio spreads consecutive seeds evenly; rows begin at different points.
        let start: u32 = self.number.bytes().map(u32::from).sum();
        let seed = u32::try_from(self.seed).unwrap_or_default();
        within.mul_f64((f64::from(start) * 0.37 + f64::from(seed) * 0.618_033_988_749).fract())
    }

    /// A control plane of the rows that stop parts of it. They have two together, and take turns; one that a failed case left
    /// behind is not used again.
    pub(crate) async fn on_own_control_plane(
        &self,
        row: impl AsyncFnOnce(&mut ControlPlane) -> Result<()>,
    ) -> Result<()> {
        static TURNS: Semaphore = Semaphore::const_new(2);
        static IDLE: Mutex<Vec<ControlPlane>> = Mutex::const_new(Vec::new());
        let _turn = TURNS.acquire().await?;
        let idle = IDLE.lock().await.pop();
        let mut control_plane = if let Some(control_plane) = idle {
            control_plane
        } else {
            let control_plane = ControlPlane::start().await?;
            control_plane.install_crd().await?;
            control_plane
        };
        row(&mut control_plane).await?;
        IDLE.lock().await.push(control_plane);
        Ok(())
    }
}
