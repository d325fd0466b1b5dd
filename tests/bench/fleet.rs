//! A thousand resources that are as they should be: how soon they are known, what they cost in memory and in requests.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::ListParams;
use serde_json::json;

use crate::memory::Memory;
use crate::report::{Report, count, short};
use crate::stage::{NO_RATE_LIMIT, Stage, spec};
use crate::support::namespace::{Namespace, ready_reason, wait_for};
use crate::support::operator::Operator;
use crate::support::process::POLL;
use crate::support::{Failure, Result};

const RESOURCES: usize = 1000;
/// `spec.interval`, in seconds.
const INTERVAL: u64 = 300;
/// How many applies are under way at once.
const APPLIES: usize = 16;
/// How many requests the account may make with default flags: at once, and in a second.
const DEFAULT_RATE: (f64, f64) = (20.0, 5.0);

/// The resources and their operator.
pub(crate) struct Fleet {
    namespace: Namespace,
    spaces: Vec<String>,
    operator: Operator,
    settled: Instant,
    looks: u64,
}

impl Fleet {
    /// Applies the resources, starts an operator, and waits until it has settled all of them.
    pub(crate) async fn settle(stage: &Stage, report: &mut Report) -> Result<Self> {
        report.section(&format!(
            "{RESOURCES} settled resources, interval {INTERVAL} s ({} for the start)",
            NO_RATE_LIMIT.join(" ")
        ));
        let namespace = stage.namespace("fleet").await?;
        let digest = &stage.artifact.digest;
        let uat = json!({
            "last_deployed_at": "2026-11-24T08:29:00Z",
            "last_deployment_status": "success",
            "running": digest.trim_start_matches("sha256:"),
        });
        let spaces = stage.spaces(&namespace, RESOURCES, &uat).await?;
        let apply = async |space: &String| {
            let mut spec = spec(space, &stage.artifact);
            spec["adoptionPolicy"] = json!("AssumeCurrent");
            spec["interval"] = json!(format!("{INTERVAL}s"));
            namespace.apply(&format!("shop-{space}"), &spec).await.map(drop)
        };
        stream::iter(&spaces).map(apply).buffer_unordered(APPLIES).try_collect::<Vec<()>>().await?;

        let began = Instant::now();
        let mut operator = stage.operator(&namespace, NO_RATE_LIMIT).await?;
        wait_for("all settled", async || all_settled(&namespace).await).await?;
        report.row(
            "first start until all are settled, a status written for each",
            format!("{} s", short(began.elapsed().as_secs_f64())),
        );
        report.row("memory then, and at its highest", Memory::of(operator.process())?.to_string());

        let before = stage.looks(&spaces).await?;
        let began = Instant::now();
        operator.start_again().await?;
        let looks = u64::try_from(RESOURCES)?;
        wait_for("all observed", async || Ok((stage.looks(&spaces).await? >= before + looks).then_some(()))).await?;
        let (took, (at_once, rate)) = (began.elapsed().as_secs_f64(), DEFAULT_RATE);
        report.row("a restart until all are observed", format!("{} s", short(took)));
        let kept_back = (count(RESOURCES)? - at_once) / rate;
        report.row(
            "the same with default flags, computed: one request each, 20 at once, 5 a second",
            format!("{} s", short(kept_back.max(took))),
        );
        Ok(Self { looks: stage.looks(&spaces).await?, namespace, spaces, operator, settled: Instant::now() })
    }

    /// Waits until every resource was looked at once more, and so a whole interval has passed.
    pub(crate) async fn keep(mut self, stage: &Stage, report: &mut Report) -> Result<()> {
        report.section(&format!("{RESOURCES} settled resources, a whole interval later"));
        let looks = u64::try_from(RESOURCES)?;
        let limit = Duration::from_secs(INTERVAL * 2);
        let made = loop {
            let made = stage.looks(&self.spaces).await? - self.looks;
            if made >= looks {
                break made;
            }
            if self.settled.elapsed() > limit {
                return Err(Failure::new(format!("only {made} looks were made in {limit:?}")));
            }
            tokio::time::sleep(POLL * 4).await;
        };
        let minutes = self.settled.elapsed().as_secs_f64() / 60.0;
        report.row("requests to Konigle a minute", short(count(made)? / minutes));
        let memory = Memory::of(self.operator.process())?;
        report.aim("resident memory", (memory.resident, 40.0), " MiB");
        report.row("resident memory at its highest since the restart", format!("{} MiB", short(memory.highest)));
        match all_settled(&self.namespace).await? {
            Some(()) => Ok(()),
            None => Err(Failure::new("some resources are not settled any more")),
        }
    }
}

/// Something once every resource is.
async fn all_settled(namespace: &Namespace) -> Result<Option<()>> {
    let list = namespace.spaces().list(&ListParams::default()).await?;
    let settled = list.iter().filter(|space| ready_reason(space) == Some("Assumed")).count();
    Ok((settled == RESOURCES).then_some(()))
}
