//! Where artifacts come from: each origin deployed from end to end on the real API server, by the operator as it ships,
//! from a real registry with what people push by `oras`, `flux` and `crane`, and from sources of Flux.

mod flux;
mod full_disk;
mod hosts;
mod obsolete;
mod progress;
mod registries;

use konigle_operator::api::{ArtifactStatus, KonigleSpace, REDEPLOY_AT};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::support::Result;
use crate::support::artifacts::{digest_of, tar_gz};
use crate::support::namespace::SECRET;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, is_ready, runs};
use crate::support::trace::Property;

const MANIFEST: &str = "[processes.web]\ncommand = \"serve\"\n";

/// The spec of the uat Space that runs what this source names.
fn wish(source: &Value) -> Value {
    json!({"space": {"id": UAT}, "credentials": {"secretRef": {"name": SECRET}}, "source": source})
}

/// The files of an application of this version, in a folder, and one that is never sent.
fn files(version: &str) -> [(&'static str, String); 4] {
    [
        ("Dockerfile", "FROM scratch\n".to_owned()),
        ("bentocloud.toml", MANIFEST.to_owned()),
        ("src/version.txt", version.to_owned()),
        ("src/.env", "PASSWORD=never-sent".to_owned()),
    ]
}

/// A tar.gz of an application of this version, below a folder.
fn archive(folder: &str, version: &str) -> Result<Vec<u8>> {
    let files = files(version).map(|(path, content)| (format!("{folder}{path}"), content));
    tar_gz(&files.each_ref().map(|(path, content)| (path.as_str(), content.as_str())))
}

/// The folder of an application of this version, below the test's own folder.
fn write_folder(version: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (path, content) in files(version) {
        let path = folder.path().join("shop").join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        std::fs::write(path, content)?;
    }
    Ok(folder)
}

impl Stage {
    /// Applies this source for [`SHOP`], and waits until what is called `digest` runs; what was uploaded for it.
    async fn deploys(&self, source: &Value, digest: &str) -> Result<(KonigleSpace, ArtifactStatus)> {
        self.namespace.apply(SHOP, &wish(source)).await?;
        self.comes_to_run(digest).await
    }

    async fn comes_to_run(&self, digest: &str) -> Result<(KonigleSpace, ArtifactStatus)> {
        let is_there = |space: &KonigleSpace| is_ready(space) && runs(space, digest);
        let space = self.namespace.wait_for(SHOP, "Ready with the digest", is_there).await?;
        let artifact = space.status.clone().unwrap_or_default().artifact.unwrap_or_default();
        assert_eq!(artifact.digest, digest);
        let upload = artifact.upload.clone().unwrap_or_default();
        let ledger = self.simulator.ledger(UAT).await?;
        let last = ledger.last().cloned().unwrap_or_default();
        assert_eq!(format!("sha256:{}", last["sha256"].as_str().unwrap_or_default()), upload.digest, "what was sent");
        assert_eq!(artifact.size, Some(upload.size));
        Ok((space, artifact))
    }

    /// How many deploys the simulator took on.
    async fn deploys_of(&self, space: &str) -> Result<usize> {
        Ok(self.simulator.ledger(space).await?.len())
    }
}

#[tokio::test]
async fn a_tar_gz_of_a_web_server_is_packed_the_same_twice() -> Result<()> {
    let mut stage = Stage::open("targz").await?;
    let published = stage.artifacts.serve("/shop.tar.gz", archive("", "1.0")?);
    let source = json!({"http": {"url": published.url, "digest": published.digest}});
    let (_, first) = stage.deploys(&source, &published.digest).await?;
    assert_ne!(first.upload.clone().unwrap_or_default().digest, published.digest, "a ZIP is sent");
    assert_eq!((first.origin, first.source_digest, first.path), (None, None, None), "the spec says it all");

    // Another process packs it again, from what is on disk.
    stage.restart_operator().await?;
    stage.namespace.annotate(SHOP, REDEPLOY_AT, "again").await?;
    stage.wait_for_ledger(UAT, 2).await?;
    let (_, second) = stage.comes_to_run(&published.digest).await?;
    assert_eq!(second.upload, first.upload);
    assert_eq!(stage.artifacts.requests("/shop.tar.gz"), 1, "it was kept");
    assert_eq!(stage.deploys_of(UAT).await?, 2);
    Ok(())
}

#[tokio::test]
async fn an_operator_that_packs_otherwise_than_the_one_before_deploys_nothing() -> Result<()> {
    let mut stage = Stage::open("upgrade").await?;
    stage.allow(Property::ConfirmedIsOurs, "the status is made to tell of another ZIP than the one that was sent");
    let published = stage.artifacts.serve("/shop.tar.gz", archive("", "1.0")?);
    let mut spec = wish(&json!({"http": {"url": published.url, "digest": published.digest}}));
    let (_, first) = stage.deploys(&spec["source"], &published.digest).await?;

    // What the one before sent, and left no file of.
    stage.operator.kill();
    let sent = digest_of(b"packed otherwise");
    let patch = json!({"status": {"artifact": {"upload": {"digest": sent, "size": 4711}}}});
    let parameters = PatchParams::default();
    stage.namespace.spaces().patch_status(SHOP, &parameters, &Patch::Merge(&patch)).await?;
    std::fs::remove_dir_all(stage.operator.artifacts())?;
    stage.restart_operator().await?;
    stage.look_now(SHOP).await?;
    spec["interval"] = json!("7m");
    stage.namespace.apply(SHOP, &spec).await?;
    let space = stage.namespace.wait_for(SHOP, "Ready with the edit", is_ready).await?;
    let upload = space.status.unwrap_or_default().artifact.unwrap_or_default().upload.unwrap_or_default();
    assert_eq!((upload.digest, upload.size), (sent, 4711), "it tells what was really sent");
    assert_eq!(stage.artifacts.requests("/shop.tar.gz"), 1, "nothing needs it");
    assert_eq!(stage.deploys_of(UAT).await?, 1);

    // Only what is asked for again is packed by this one, and told.
    stage.namespace.annotate(SHOP, REDEPLOY_AT, "again").await?;
    stage.wait_for_ledger(UAT, 2).await?;
    let (_, second) = stage.comes_to_run(&published.digest).await?;
    assert_eq!(second.upload, first.upload);
    Ok(())
}

#[tokio::test]
async fn a_tar_gz_without_an_application_says_what_it_has_instead() -> Result<()> {
    let stage = Stage::open("nested").await?;
    let published = stage.artifacts.serve("/shop.tar.gz", archive("shop-1.4/", "1.0")?);
    let source = json!({"http": {"url": published.url, "digest": published.digest}});
    stage.namespace.apply(SHOP, &wish(&source)).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "ArtifactRejected").await?;
    let ready = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default();
    assert!(ready.message.contains("`shop-1.4`") || ready.message.contains("`shop-1.4/`"), "{}", ready.message);
    assert_eq!(stage.deploys_of(UAT).await?, 0);
    Ok(())
}
