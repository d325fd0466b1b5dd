//! Sources of Flux: their real CRDs, a real tar.gz behind a web server, and the status that source-controller writes.

use konigle_operator::api::KonigleSpace;
use konigle_operator::artifact::Digest;
use serde_json::{Value, json};

use super::{archive, wish, write_folder};
use crate::support::Result;
use crate::support::artifacts::tar_gz_of;
use crate::support::flux_source::{FluxSource, KINDS, install_crds};
use crate::support::namespace::{SECRET, ready_reason};
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage, is_ready, runs};

fn reference(source: &FluxSource, path: &str) -> Value {
    let mut reference = source.reference();
    if !path.is_empty() {
        reference["path"] = json!(path);
    }
    json!({"sourceRef": reference})
}

/// `sha256(<source digest> + "\n" + <path>)`, as the documents say.
fn folder_digest(source: &str, path: &str) -> String {
    Digest::of(format!("{source}\n{path}").as_bytes()).to_string()
}

#[tokio::test]
async fn each_kind_of_source_is_deployed() -> Result<()> {
    let stage = Stage::open("kinds").await?;
    install_crds(&stage.kubectl).await?;
    for (number, kind) in KINDS.iter().enumerate() {
        let source = FluxSource::create(&stage.namespace, kind, "shop").await?;
        let stored =
            source.store(&stage.artifacts, archive("", &number.to_string())?, &format!("main@sha1:{number}")).await?;
        let (_, artifact) = stage.deploys(&reference(&source, ""), &stored.digest).await?;
        assert_eq!(artifact.revision, Some(format!("main@sha1:{number}")));
        assert_eq!(artifact.origin, Some(format!("{kind}/shop")));
        assert_eq!((artifact.source_digest, artifact.path), (None, None), "the whole of it");
    }
    Ok(())
}

#[tokio::test]
async fn a_folder_of_a_source_is_deployed_as_soon_as_it_moves_and_promoted() -> Result<()> {
    let stage = Stage::open("folder").await?;
    install_crds(&stage.kubectl).await?;
    let source = FluxSource::create(&stage.namespace, "GitRepository", "mono").await?;

    // Before Flux has fetched anything.
    let space = wish(&reference(&source, "./apps/shop/"));
    stage.namespace.apply(SHOP, &space).await?;
    let waits = stage.namespace.wait_for_reason(SHOP, "AwaitingSource").await?;
    let message = waits.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    assert!(message.contains("GitRepository mono has no artifact yet"), "{message}");

    let first = source.store(&stage.artifacts, archive("apps/shop/", "1.0")?, "main@sha1:1").await?;
    let digest = folder_digest(&first.digest, "apps/shop");
    let (_, artifact) = stage.comes_to_run(&digest).await?;
    assert_eq!((artifact.source_digest, artifact.path.as_deref()), (Some(first.digest), Some("apps/shop")));

    // A new revision acts at once, though the interval is five minutes; one without the folder is refused.
    let second = source.store(&stage.artifacts, archive("apps/shop/", "2.0")?, "main@sha1:2").await?;
    let digest = folder_digest(&second.digest, "apps/shop");
    stage.comes_to_run(&digest).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 2);

    // What runs is approved and promoted by the same digest.
    let promotion = json!({
        "space": {"id": PRODUCTION}, "credentials": {"secretRef": {"name": SECRET}},
        "promotion": {"from": {"name": SHOP}, "approvedDigest": digest},
    });
    stage.namespace.apply("shop-production", &promotion).await?;
    let is_promoted = |space: &KonigleSpace| is_ready(space) && runs(space, &digest);
    stage.namespace.wait_for("shop-production", "promoted", is_promoted).await?;

    source.store(&stage.artifacts, archive("apps/other/", "3.0")?, "main@sha1:3").await?;
    let space = stage.namespace.wait_for_reason(SHOP, "ArtifactRejected").await?;
    let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    assert!(message.contains("apps/shop"), "{message}");
    assert_eq!(stage.deploys_of(UAT).await?, 2);
    Ok(())
}

/// Flux's source-watcher (2.x) names a file by a hash of what is in it, the revision by the artifact's digest, and tells the
/// generation in the condition alone; its spec leads to what it was made of.
#[tokio::test]
async fn what_source_watcher_hands_out_is_deployed_and_followed() -> Result<()> {
    let stage = Stage::open("watcher").await?;
    install_crds(&stage.kubectl).await?;
    let namespace = stage.namespace.name();
    let source = FluxSource::named(&stage.namespace, "ExternalArtifact", "shop");
    let generator = json!({"apiVersion": "source.extensions.fluxcd.io/v1beta1", "kind": "ArtifactGenerator",
        "name": "mono", "namespace": namespace});
    source.apply(&json!({"sourceRef": generator})).await?;
    let hand_out = async |version: &str| -> Result<(String, String)> {
        let bytes = tar_gz_of(write_folder(version)?.path())?;
        let contents = Digest::of(version.as_bytes()).to_string().split_off("sha256:".len());
        let path = format!("externalartifact/{namespace}/shop/{contents}.tar.gz");
        let artifact = stage.artifacts.serve(&format!("/{path}"), bytes);
        let revision = format!("latest@{}", artifact.digest);
        let ready = json!({"type": "Ready", "status": "True", "reason": "Succeeded", "message": "Artifact is ready",
            "observedGeneration": 1, "lastTransitionTime": "2026-11-24T09:00:00Z"});
        let status = json!({"conditions": [ready], "artifact": {
            "digest": artifact.digest, "lastUpdateTime": "2026-11-24T09:00:00Z", "path": path,
            "revision": revision, "size": artifact.size, "url": artifact.url,
        }});
        source.write_status(&status).await?;
        Ok((folder_digest(&artifact.digest, "shop"), revision))
    };
    let (digest, revision) = hand_out("1.0").await?;
    let (_, artifact) = stage.deploys(&reference(&source, "shop"), &digest).await?;
    assert_eq!((artifact.revision, artifact.origin.as_deref()), (Some(revision), Some("ExternalArtifact/shop")));
    let (digest, _) = hand_out("2.0").await?;
    stage.comes_to_run(&digest).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 2);
    Ok(())
}

#[tokio::test]
async fn two_folders_of_one_source_are_one_download() -> Result<()> {
    let stage = Stage::open("mono").await?;
    install_crds(&stage.kubectl).await?;
    let source = FluxSource::create(&stage.namespace, "GitRepository", "mono").await?;
    let bytes = crate::support::artifacts::tar_gz(&[
        ("a/Dockerfile", "FROM scratch"),
        ("a/bentocloud.toml", super::MANIFEST),
        ("b/Dockerfile", "FROM scratch"),
        ("b/bentocloud.toml", super::MANIFEST),
        ("b/more", "b"),
    ])?;
    let stored = source.store(&stage.artifacts, bytes, "main@sha1:1").await?;
    stage.deploys(&reference(&source, "a"), &folder_digest(&stored.digest, "a")).await?;
    stage.deploys(&reference(&source, "b"), &folder_digest(&stored.digest, "b")).await?;
    let path =
        stored.url.split_once("127.0.0.1").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
    assert_eq!(stage.artifacts.requests(&format!("/{path}")), 1);
    Ok(())
}

#[tokio::test]
async fn a_source_that_fails_or_goes_leaves_what_runs() -> Result<()> {
    let stage = Stage::open("gone").await?;
    install_crds(&stage.kubectl).await?;
    let source = FluxSource::create(&stage.namespace, "Bucket", "shop").await?;
    let stored = source.store(&stage.artifacts, archive("", "1.0")?, "1").await?;
    stage.deploys(&reference(&source, ""), &stored.digest).await?;
    source.fail("BucketOperationFailed", "the bucket is away").await?;
    let looked = stage.look_now(SHOP).await?;
    assert!(is_ready(&looked), "what was stored stays wanted: {:?}", looked.status);

    source.delete().await?;
    let space = stage.namespace.wait_for_reason(SHOP, "SourceNotFound").await?;
    let status = space.status.clone().unwrap_or_default();
    assert!(runs(&space, &stored.digest) && status.is_true("Stalled"), "{status:?}");
    let again = FluxSource::create(&stage.namespace, "Bucket", "shop").await?;
    again.store(&stage.artifacts, archive("", "1.0")?, "1").await?;
    stage.namespace.wait_for(SHOP, "Ready again", |space| ready_reason(space) == Some("Succeeded")).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 1, "the same digest is not deployed again");
    Ok(())
}
