//! A disk that is really full: the operator's artifacts are on a disk of a few MiB, and the errors are the kernel's.

use std::path::{Path, PathBuf};

use konigle_operator::api::KonigleSpace;
use serde_json::{Value, json};

use super::{MANIFEST, wish};
use crate::support::artifacts::{Artifact, digest_of, large_application, tar_gz};
use crate::support::namespace::ready_reason;
use crate::support::simulator::UAT;
use crate::support::stage::{JOB_SECONDS, SHOP, Stage};
use crate::support::{Context, Result};

/// Of the disk, in MiB.
const DISK: u32 = 4;

async fn open(purpose: &str) -> Result<Stage> {
    Stage::open_with(purpose, JOB_SECONDS, |options| options.on_a_disk_of(DISK)).await
}

fn origin(artifact: &Artifact) -> Value {
    json!({"http": {"url": artifact.url, "digest": artifact.digest}})
}

/// A file of somebody else, that takes so much of the disk.
fn fill(stage: &Stage, bytes: usize) -> Result<PathBuf> {
    let path = stage.operator.artifacts().join("filler");
    std::fs::write(&path, vec![0; bytes]).context("filling the disk").map(|()| path)
}

fn is_stored(stage: &Stage, digest: &str) -> Result<bool> {
    let name = Path::new(digest.trim_start_matches("sha256:"));
    Ok(stage.operator.stored()?.iter().any(|path| path.ends_with(name)))
}

impl Stage {
    /// Waits until it is told that the disk is full. Then nothing was claimed and nothing sent but `deploys` of before.
    async fn tells_of_a_full_disk(&self, deploys: usize) -> Result<()> {
        let told = |space: &KonigleSpace| {
            let ready = space.status.as_ref().and_then(|status| status.condition("Ready"));
            ready_reason(space) == Some("ArtifactUnavailable")
                && ready.is_some_and(|ready| {
                    ready.message.contains("disk is full") && ready.message.contains("--artifact-dir")
                })
        };
        let space = self.namespace.wait_for(SHOP, "told that the disk is full", told).await?;
        let status = space.status.unwrap_or_default();
        assert_eq!(usize::try_from(status.last_attempt)?, deploys, "an attempt was made");
        assert!(status.attempt.is_none(), "an attempt is open");
        assert_eq!(self.asked(UAT, "deploy").await?, deploys as u64, "a deploy was asked for");
        assert_eq!(self.operator.partials()?, Vec::<PathBuf>::new(), "left behind");
        Ok(())
    }
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_claimed_and_it_heals_once_there_is_room() -> Result<()> {
    let stage = open("full").await?;
    let filler = fill(&stage, 3 << 20)?;
    let small = stage.artifacts.serve("/small.zip", large_application(2 << 20)?);
    stage.namespace.apply(SHOP, &wish(&origin(&small))).await?;
    stage.tells_of_a_full_disk(0).await?;

    // Nobody asks for it: it is tried again.
    std::fs::remove_file(filler)?;
    stage.comes_to_run(&small.digest).await?;

    // What is larger than the whole disk stays out, and what fits in its place is deployed at once.
    let large = stage.artifacts.serve("/large.zip", large_application((DISK as usize + 1) << 20)?);
    stage.namespace.apply(SHOP, &wish(&origin(&large))).await?;
    stage.tells_of_a_full_disk(1).await?;
    let other = stage.artifacts.serve_application("2.0")?;
    stage.deploys(&origin(&other), &other.digest).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 2);
    Ok(())
}

#[tokio::test]
async fn on_a_full_disk_what_nobody_uses_makes_room() -> Result<()> {
    let stage = open("evicts").await?;
    let first = stage.artifacts.serve("/first.zip", large_application(2 << 20)?);
    stage.deploys(&origin(&first), &first.digest).await?;
    assert!(is_stored(&stage, &first.digest)?, "it is kept while there is room");
    // The budget, `--artifact-dir-size`, knows nothing of how small the disk is.
    let second = stage.artifacts.serve("/second.zip", large_application(3 << 20)?);
    stage.deploys(&origin(&second), &second.digest).await?;
    assert!(is_stored(&stage, &second.digest)? && !is_stored(&stage, &first.digest)?);
    assert_eq!(stage.deploys_of(UAT).await?, 2);
    Ok(())
}

#[tokio::test]
async fn a_disk_that_is_full_while_packing_costs_no_second_download() -> Result<()> {
    let stage = open("packs").await?;
    // The same noise in many files: gzip sees that, and a ZIP holds each by itself.
    let noise: String = (0..320).map(|number: u32| digest_of(&number.to_be_bytes()).split_off(7)).collect();
    let names: Vec<String> = (0..160).map(|number| format!("data/{number}")).collect();
    let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), noise.as_str())).collect();
    files.extend([("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", MANIFEST)]);
    let archive = tar_gz(&files)?;
    assert!(archive.len() < 1 << 19, "the archive itself has {} bytes", archive.len());
    let archive = stage.artifacts.serve("/shop.tar.gz", archive);

    let filler = fill(&stage, 3 << 20)?;
    stage.namespace.apply(SHOP, &wish(&origin(&archive))).await?;
    stage.tells_of_a_full_disk(0).await?;
    assert!(is_stored(&stage, &archive.digest)?, "what is to be packed is kept");
    std::fs::remove_file(filler)?;
    stage.comes_to_run(&archive.digest).await?;
    assert_eq!(stage.artifacts.requests("/shop.tar.gz"), 1);
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}
