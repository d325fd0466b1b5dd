//! From `kubectl apply` to the first byte of the POST, the artifact being in the operator's store already.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::floor::Floor;
use crate::report::{Report, Sample, short};
use crate::stage::{NO_RATE_LIMIT, Stage, now_ms, spec};
use crate::support::namespace::Namespace;
use crate::support::operator::Operator;
use crate::support::{Failure, Result};

/// Deploys one after the other.
const ROUNDS: usize = 20;
/// Deploys at once.
const BURST: usize = 200;
/// How many applies are under way at once in the burst.
const APPLIES: usize = 16;

/// The latency of one deploy on an idle operator, in turn with the floor.
pub(crate) async fn one_by_one(stage: &Stage, report: &mut Report) -> Result<()> {
    report.section(&format!(
        "Apply to first byte of the POST, one by one ({ROUNDS} rounds, default flags; median / p95 / max)"
    ));
    let bed = Bed::prepare(stage, ROUNDS, &[]).await?;
    let mut floor = Floor::prepare(stage, ROUNDS).await?;
    let (mut floors, mut totals, mut applies) = (Vec::new(), Vec::new(), Vec::new());
    for space in &bed.spaces {
        floors.push(floor.deploy(stage).await?);
        let (sent, answered) = bed.apply(stage, space).await?;
        bed.until_released(space).await?;
        let arrived = stage.arrivals(std::slice::from_ref(space)).await?;
        totals.extend(arrived.iter().map(|arrived| arrived - sent));
        applies.push(answered - sent);
    }
    let (floors, totals, applies) = (Sample::new(floors)?, Sample::new(totals)?, Sample::new(applies)?);
    report.row("floor: GET Secret, GET Space, status patch, POST", floors.milliseconds());
    report.row("the apply call itself, in the figure below", applies.milliseconds());
    report.row("operator, from before the apply", totals.milliseconds());
    report.aim("ratio of the medians", (totals.median() / floors.median(), 1.5), " × the floor");
    report.row(
        "the same beside apply + floor",
        format!("{} × ", short(totals.median() / (floors.median() + applies.median()))),
    );
    Ok(())
}

/// Many resources at once, beside the same number of deploys one after the other.
pub(crate) async fn burst(stage: &Stage, report: &mut Report) -> Result<()> {
    report.section(&format!(
        "Apply to first byte of the POST, {BURST} at once ({}, default concurrency; median / p95 / max)",
        NO_RATE_LIMIT.join(" ")
    ));
    let mut floor = Floor::prepare(stage, BURST).await?;
    let began = now_ms();
    for _ in 0..BURST {
        floor.send(stage).await?;
    }
    let floor = now_ms() - began;
    let bed = Bed::prepare(stage, BURST, NO_RATE_LIMIT).await?;
    let applied: Vec<(f64, f64)> =
        stream::iter(&bed.spaces).map(|space| bed.apply(stage, space)).buffered(APPLIES).try_collect().await?;
    for space in &bed.spaces {
        bed.until_released(space).await?;
    }
    let arrived = stage.arrivals(&bed.spaces).await?;
    let each = Sample::new(arrived.iter().zip(&applied).map(|(arrived, (sent, _))| arrived - sent).collect())?;
    let first = Sample::new(applied.iter().map(|(sent, _)| *sent).collect())?.percentile(0);
    let last = Sample::new(arrived)?.max();
    report.row("floor, one after the other, in all", format!("{} ms", short(floor)));
    let all_applied = Sample::new(applied.iter().map(|(_, answered)| answered - first).collect())?.max();
    report.row(
        &format!("the {BURST} applies, {APPLIES} at a time, in the figures below"),
        format!("{} ms", short(all_applied)),
    );
    report.row("operator, each", each.milliseconds());
    report.row("operator, first apply to last POST", format!("{} ms", short(last - first)));
    report.aim("ratio", ((last - first) / floor, 1.5), " × the floor");
    Ok(())
}

/// A namespace with its operator, whose store holds the artifact.
struct Bed {
    namespace: Namespace,
    spaces: Vec<String>,
    _operator: Operator,
}

impl Bed {
    async fn prepare(stage: &Stage, deploys: usize, flags: &[&str]) -> Result<Self> {
        let namespace = stage.namespace("deploys").await?;
        let mut spaces = stage.spaces(&namespace, deploys + 1, &json!({})).await?;
        let first = spaces.pop().ok_or_else(|| Failure::new("no Space was made"))?;
        let operator = stage.operator(&namespace, flags).await?;
        let bed = Self { namespace, spaces, _operator: operator };
        // The first one brings the artifact into the store.
        bed.apply(stage, &first).await?;
        bed.until_released(&first).await?;
        Ok(bed)
    }

    /// Applies a resource, named like its Space; when that was sent and when it was answered.
    async fn apply(&self, stage: &Stage, space: &str) -> Result<(f64, f64)> {
        let spec = spec(space, &stage.artifact);
        let sent = now_ms();
        self.namespace.apply(&name(space), &spec).await?;
        Ok((sent, now_ms()))
    }

    async fn until_released(&self, space: &str) -> Result<()> {
        self.namespace.wait_for_reason(&name(space), "Succeeded").await.map(drop)
    }
}

fn name(space: &str) -> String {
    format!("shop-{space}")
}
