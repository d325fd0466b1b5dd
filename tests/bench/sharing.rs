//! What many resources with one artifact, and one that follows a tag, ask the host of artifacts for: by its own count.

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use crate::report::{Report, count};
use crate::stage::{NO_RATE_LIMIT, Stage, spec};
use crate::support::Result;
use crate::support::artifacts::large_application;

/// Spaces that run one artifact.
const SPACES: usize = 10;
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

fn name(space: &str) -> String {
    format!("shop-{space}")
}
