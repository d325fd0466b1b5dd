//! Artifacts in the real registry, pushed by the programs that people push with.

use konigle_operator::api::RECONCILE_AT;
use serde_json::{Value, json};

use super::{archive, wish, write_folder};
use crate::support::Result;
use crate::support::artifacts::application;
use crate::support::namespace::wait_for;
use crate::support::registry::{PASSWORD, Registry, RegistryOptions, USERNAME};
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage};

fn tag(registry: &Registry, repository: &str, tag: &str) -> Value {
    json!({"oci": {"repository": registry.reference(repository), "tag": tag}})
}

#[tokio::test]
async fn what_oras_flux_and_crane_push_is_deployed() -> Result<()> {
    let (stage, registry) = (Stage::open("oci").await?, Registry::start().await?);
    let folder = write_folder("1.0")?;
    let files = tempfile::tempdir()?;
    std::fs::write(files.path().join("shop.zip"), application("1.1")?)?;
    std::fs::write(files.path().join("layer.tar.gz"), archive("", "1.2")?)?;
    let shop = folder.path().join("shop");
    let pushed = [
        ("folder", registry.push_folder(&shop, "shop:folder").await?),
        ("zip", registry.push_zip(&files.path().join("shop.zip"), "shop:zip").await?),
        ("flux", registry.push_flux(&shop, "shop:flux", "main@sha1:0000000000000000000000000000000000000000").await?),
        ("image", registry.push_image(&files.path().join("layer.tar.gz"), "shop:image").await?),
    ];
    let mut uploads = Vec::new();
    for (name, digest) in &pushed {
        let (_, artifact) = stage.deploys(&tag(&registry, "shop", name), digest).await?;
        assert_eq!(artifact.revision.as_deref(), Some(*name));
        assert_eq!(artifact.origin, Some(format!("{}:{name}", registry.reference("shop"))));
        uploads.push(artifact.upload.unwrap_or_default().digest);
    }
    assert_eq!(uploads[1], crate::support::artifacts::digest_of(&application("1.1")?), "a ZIP is sent as it is");

    // By its digest, and from what is on disk: no blob is fetched twice.
    let blobs = registry.count("GET", "/v2/shop/blobs/")?;
    let (digest, source) =
        (&pushed[0].1, json!({"oci": {"repository": registry.reference("shop"), "digest": pushed[0].1}}));
    let (_, again) = stage.deploys(&source, digest).await?;
    assert_eq!(again.upload.unwrap_or_default().digest, uploads[0], "the same bytes as for the tag");
    assert_eq!(again.origin, None, "the spec names the digest");
    assert_eq!(registry.count("GET", "/v2/shop/blobs/")?, blobs);
    Ok(())
}

#[tokio::test]
async fn a_tag_that_moves_is_deployed_and_one_that_stays_is_not() -> Result<()> {
    let (stage, registry) = (Stage::open("tag").await?, Registry::start().await?);
    let one = write_folder("1.0")?;
    let first = registry.push_folder(&one.path().join("shop"), "shop:live").await?;
    stage.deploys(&tag(&registry, "shop", "live"), &first).await?;
    let heads = registry.count("HEAD", "/v2/shop/manifests/live")?;
    stage.look_now(SHOP).await?;
    wait_for("one more HEAD", async || {
        // The line of an earlier one may come into the log a moment later.
        Ok((registry.count("HEAD", "/v2/shop/manifests/live")? > heads).then_some(()))
    })
    .await?;
    assert_eq!(stage.deploys_of(UAT).await?, 1);

    let two = write_folder("2.0")?;
    let second = registry.push_folder(&two.path().join("shop"), "shop:live").await?;
    assert_ne!(first, second);
    stage.namespace.annotate(SHOP, RECONCILE_AT, "moved").await?;
    stage.comes_to_run(&second).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 2);
    Ok(())
}

#[tokio::test]
async fn while_the_registry_is_away_what_the_tag_named_last_stays_wanted() -> Result<()> {
    let (mut stage, mut registry) = (Stage::open("away").await?, Registry::start().await?);
    let folder = write_folder("1.0")?;
    let digest = registry.push_folder(&folder.path().join("shop"), "shop:live").await?;
    stage.deploys(&tag(&registry, "shop", "live"), &digest).await?;
    registry.process().kill();
    stage.restart_operator().await?;
    stage.namespace.annotate(SHOP, RECONCILE_AT, "away").await?;
    let shows = |space: &konigle_operator::api::KonigleSpace| {
        let status = space.status.clone().unwrap_or_default();
        status
            .condition("ArtifactReady")
            .is_some_and(|ready| ready.status == "False" && ready.reason == "ArtifactUnavailable")
    };
    let space = stage.namespace.wait_for(SHOP, "told that the registry is away", shows).await?;
    let status = space.status.unwrap_or_default();
    assert!(status.is_true("Ready"), "what is wanted as far as known runs: {status:?}");
    assert_eq!(status.artifact.unwrap_or_default().digest, digest);
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}

#[tokio::test]
async fn private_registries_are_asked_with_the_secret() -> Result<()> {
    for (purpose, options) in [
        ("password", RegistryOptions::default().with_password().with_tls()),
        ("token", RegistryOptions::default().with_tokens()),
    ] {
        let (stage, registry) = (Stage::open(purpose).await?, Registry::start_with(options).await?);
        let folder = write_folder("1.0")?;
        let digest = registry.push_folder(&folder.path().join("shop"), "shop:v1").await?;
        let mut source = tag(&registry, "shop", "v1");
        source["oci"]["secretRef"] = json!({"name": "registry"});
        let ca = registry.authority().map(crate::support::certificates::Authority::pem).transpose()?;

        // Without the right password it says so, and heals.
        let with_ca = |mut keys: Value| {
            if let Some(ca) = &ca {
                keys["ca.crt"] = json!(ca);
            }
            keys
        };
        stage
            .namespace
            .write_secret("registry", &with_ca(json!({"username": USERNAME, "password": "wrong-canary"})))
            .await?;
        stage.namespace.apply(SHOP, &wish(&source)).await?;
        let space = stage.namespace.wait_for_reason(SHOP, "ArtifactUnavailable").await?;
        let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
        assert!(message.contains("401") && message.contains("spec.source.oci.secretRef"), "{message}");
        stage
            .namespace
            .write_secret("registry", &with_ca(json!({".dockerconfigjson": registry.docker_config()})))
            .await?;
        stage.namespace.annotate(SHOP, RECONCILE_AT, "mended").await?;
        stage.comes_to_run(&digest).await?;

        let log = std::fs::read_to_string(stage.operator.log())?;
        let status = stage.kubectl.run(&["-n", stage.namespace.name(), "get", "kspace", "-o", "yaml"]).await?;
        for text in [&log, &status] {
            assert!(!text.contains(PASSWORD) && !text.contains("canary"), "a credential is shown");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_in_no_repository_heals_when_it_is_pushed() -> Result<()> {
    let (stage, registry) = (Stage::open("unpushed").await?, Registry::start().await?);
    stage.namespace.apply(SHOP, &wish(&tag(&registry, "shop", "v1"))).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "ArtifactUnavailable").await?;
    let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    assert!(message.contains("404") && message.contains("shop"), "{message}");
    let folder = write_folder("1.0")?;
    let digest = registry.push_folder(&folder.path().join("shop"), "shop:v1").await?;
    stage.namespace.annotate(SHOP, RECONCILE_AT, "pushed").await?;
    stage.comes_to_run(&digest).await?;
    Ok(())
}
