//! What many resources with one artifact, and one that follows a tag, ask the host of artifacts for: by its own count.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::report::{Report, count, short};
use crate::stage::{NO_RATE_LIMIT, Stage, spec};
use crate::support::Result;
use crate::support::artifacts::large_application;
use crate::support::namespace::wait_longer_for;
use crate::support::registry::Registry;
use crate::support::run_folder::new_folder;

/// Spaces that run one artifact.
const SPACES: usize = 10;
/// `spec.interval` of the one that follows a tag, in seconds: the shortest.
const INTERVAL: u64 = 30;
/// How many of them are looked at.
const INTERVALS: usize = 4;
/// Large enough that all of them want it while it comes, in bytes.
const BYTES: usize = 64 << 20;

/// All at once, with an operator that has nothing yet.
pub(crate) async fn one_download(stage: &Stage, report: &mut Report) -> Result<()> {
    report.section(&format!("{SPACES} Spaces with one artifact of {} MiB, applied at once", BYTES >> 20));
    let namespace = stage.namespace("sharing").await?;
    let spaces = stage.spaces(&namespace, SPACES, &json!({})).await?;
    let artifact = stage.artifacts.serve("/shared.zip", large_application(BYTES)?);
    let _operator = stage.operator(&namespace, NO_RATE_LIMIT).await?;
    let apply = async |space: &String| namespace.apply(&name(space), &spec(space, &artifact)).await.map(drop);
    stream::iter(&spaces).map(apply).buffer_unordered(SPACES).try_collect::<Vec<()>>().await?;
    for space in &spaces {
        namespace.wait_for_reason(&name(space), "Succeeded").await?;
    }
    report.aim("downloads, by the server's count", (count(stage.artifacts.requests("/shared.zip"))?, 1.0), "");
    Ok(())
}

/// A resource that follows a tag, once it has deployed what the tag names.
pub(crate) async fn steady_tag(stage: &Stage, report: &mut Report) -> Result<()> {
    report.section(&format!("A tag of an OCI registry that does not move, for {INTERVALS} intervals of {INTERVAL} s"));
    let registry = Registry::start().await?;
    let file = new_folder("tag")?.join("app.zip");
    std::fs::write(&file, &stage.zip)?;
    registry.push_zip(&file, "shop:v1").await?;
    let namespace = stage.namespace("tag").await?;
    let spaces = stage.spaces(&namespace, 1, &json!({})).await?;
    let _operator = stage.operator(&namespace, &[]).await?;
    for space in &spaces {
        let mut spec = spec(space, &stage.artifact);
        spec["source"] = json!({"oci": {"repository": registry.reference("shop"), "tag": "v1"}});
        spec["interval"] = json!(format!("{INTERVAL}s"));
        namespace.apply(&name(space), &spec).await?;
        namespace.wait_for_reason(&name(space), "Succeeded").await?;
    }
    let heads = || registry.count("HEAD", "/v2/shop/manifests/v1");
    let limit = Duration::from_secs(INTERVAL * 3);
    let until = async |more: usize| -> Result<Instant> {
        let wanted = heads()? + more;
        let looked = async || Ok((heads()? >= wanted).then_some(Instant::now()));
        wait_longer_for("the tag was looked up", limit * u32::try_from(more)?, looked).await
    };
    // From one look to the last of so many more.
    let began = until(1).await?;
    let (before, heads_before) = (registry.answered()?.len(), heads()?);
    let ended = until(INTERVALS).await?;
    let intervals = ended.duration_since(began).as_secs_f64() / count(INTERVAL)?;
    let looked = heads()? - heads_before;
    let others = registry.answered()?.len() - before - looked;
    report.row("looks at the tag", format!("{looked} in {} s", short(intervals * count(INTERVAL)?)));
    // One, but each is spread, from a tenth shorter to a twentieth longer.
    report.aim("looks an interval", (count(looked)? / intervals, 1.1), "");
    report.aim("other requests to the registry", (count(others)?, 0.0), "");
    Ok(())
}

fn name(space: &str) -> String {
    format!("shop-{space}")
}
