//! Artifacts in the real registry, pushed by the programs that people push with; what Flux pushes, by its library.

use k8s_openapi::api::core::v1::Secret;
use konigle_operator::api::{KonigleSpace, RECONCILE_AT};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::hosts::open_secure;
use super::{archive, wish, write_folder};
use crate::support::Result;
use crate::support::artifacts::{application, digest_of};
use crate::support::certificates::Authority;
use crate::support::exposition::Exposition;
use crate::support::namespace::{promotes, wait_for};
use crate::support::registry::{PASSWORD, Registry, RegistryOptions, USERNAME};
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage, is_ready, runs};

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
    assert_eq!(uploads[1], digest_of(&application("1.1")?), "a ZIP is sent as it is");

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
async fn of_several_layers_the_one_of_the_named_media_type_is_deployed() -> Result<()> {
    let (stage, registry) = (Stage::open("layers").await?, Registry::start().await?);
    let folder = tempfile::tempdir()?;
    let shop = application("1.0")?;
    std::fs::write(folder.path().join("a.zip"), &shop)?;
    std::fs::write(folder.path().join("b.txt"), "What is new in 1.0.\n")?;
    let files = ["a.zip:application/zip", "b.txt:text/plain"];
    let pushed = registry.push_files(folder.path(), &files, "shop:layers").await?;
    let mut source = tag(&registry, "shop", "layers");
    stage.namespace.apply(SHOP, &wish(&source)).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "ArtifactRejected").await?;
    let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    let said =
        ["it has several layers, application/zip (sha256:", ", text/plain (sha256:", "source.oci.layerMediaType"];
    assert!(said.iter().all(|part| message.contains(part)), "{message}");
    assert_eq!(stage.deploys_of(UAT).await?, 0);

    source["oci"]["layerMediaType"] = json!("application/zip");
    let (_, artifact) = stage.deploys(&source, &pushed).await?;
    assert_eq!(artifact.upload.unwrap_or_default().digest, digest_of(&shop), "that layer as it is");
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
    let shows = |space: &KonigleSpace| {
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
        let ca = registry.authority().map(Authority::pem).transpose()?;

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
        let help = [
            "401",
            "to the credentials that it got",
            "Secret registry, which spec.source.oci.secretRef names",
            &format!(
                "`kubectl annotate kspace {SHOP} --namespace {} --overwrite {RECONCILE_AT}=",
                stage.namespace.name()
            ),
        ];
        assert!(help.iter().all(|part| message.contains(part)), "{message}");
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
async fn a_registry_that_everybody_may_read_is_trusted_by_the_authority_in_the_secret() -> Result<()> {
    let registry = Registry::start_with(RegistryOptions::default().with_tls()).await?;
    let stage = open_secure("tls", &format!("--private-artifact-hosts={}", registry.host())).await?;
    let folder = write_folder("1.0")?;
    let digest = registry.push_folder(&folder.path().join("shop"), "shop:v1").await?;
    let mut source = tag(&registry, "shop", "v1");
    stage.namespace.apply(SHOP, &wish(&source)).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "ArtifactUnavailable").await?;
    let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    let advice = "its certificate is not trusted (";
    let secret =
        "into `ca.crt` of the Secret that spec.source.oci.secretRef names (`kubectl create secret generic NAME";
    assert!([advice, secret, "`extraCA`"].iter().all(|part| message.contains(part)), "{message}");

    let ca = registry.authority().map(Authority::pem).transpose()?;
    stage.namespace.write_secret("registry", &json!({"ca.crt": ca})).await?;
    source["oci"]["secretRef"] = json!({"name": "registry"});
    stage.deploys(&source, &digest).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_a_tag_named_is_approved_and_promoted_once() -> Result<()> {
    let (stage, registry) = (Stage::open("approves").await?, Registry::start().await?);
    let folder = write_folder("1.0")?;
    let digest = registry.push_folder(&folder.path().join("shop"), "shop:uat").await?;
    let (_, artifact) = stage.deploys(&tag(&registry, "shop", "uat"), &digest).await?;

    let mut production = promotes(PRODUCTION, SHOP);
    production["promotion"]["approvedDigest"] = json!(digest);
    stage.namespace.apply("shop-production", &production).await?;
    let promoted = |space: &KonigleSpace| is_ready(space) && runs(space, &digest);
    let space = stage.namespace.wait_for("shop-production", "promoted", promoted).await?;
    assert!(space.status.is_some_and(|status| status.is_true("ContentVerified")));
    let ledger = stage.simulator.ledger(PRODUCTION).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert_eq!((&ledger[0]["kind"], &ledger[0]["source"]), (&json!("promote"), &json!(UAT)));
    let content = format!("sha256:{}", ledger[0]["sha256"].as_str().unwrap_or_default());
    assert_eq!(content, artifact.upload.unwrap_or_default().digest, "what uat was sent");
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}

/// With its provenance, as the builder of docker makes it by default.
#[tokio::test]
async fn an_image_with_a_statement_beside_it_is_deployed() -> Result<()> {
    let (stage, registry) = (Stage::open("built").await?, Registry::start().await?);
    let files = tempfile::tempdir()?;
    let layer = files.path().join("layer.tar.gz");
    std::fs::write(&layer, archive("", "1.0")?)?;
    let pushed = registry.push_built(&layer, "shop:built").await?;
    let manifest = registry.manifest("shop:built").await?;
    assert_eq!((&manifest.digest, manifest.content["manifests"].as_array().map(Vec::len)), (&pushed, Some(2)));
    let (_, artifact) = stage.deploys(&tag(&registry, "shop", "built"), &pushed).await?;
    assert_eq!(artifact.source_digest, None, "what the tag names is what is recorded");
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_is_in_no_repository_heals_when_it_is_pushed() -> Result<()> {
    let (mut stage, registry) = (Stage::open("unpushed").await?, Registry::start().await?);
    stage.namespace.apply(SHOP, &wish(&tag(&registry, "shop", "v1"))).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "ArtifactUnavailable").await?;
    let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    assert!(message.contains("404") && message.contains("shop:v1 may not be pushed yet: push it"), "{message}");
    let folder = write_folder("1.0")?;
    let digest = registry.push_folder(&folder.path().join("shop"), "shop:v1").await?;
    stage.namespace.annotate(SHOP, RECONCILE_AT, "pushed").await?;
    stage.comes_to_run(&digest).await?;

    // Taken away again, it is told from one that never was, by this process and by the next one.
    registry.untag("shop", "v1").await?;
    for request in ["untagged", "restarted"] {
        stage.namespace.annotate(SHOP, RECONCILE_AT, request).await?;
        let gone = |space: &KonigleSpace| {
            let status = space.status.clone().unwrap_or_default();
            let said = status.condition("ArtifactReady").map(|ready| ready.message.clone()).unwrap_or_default();
            let is_seen = status.last_handled_reconcile_at.as_deref() == Some(request);
            is_seen
                && said.contains(&format!("named {digest} before, and is gone: push it again"))
                && status.is_true("Ready")
        };
        stage.namespace.wait_for(SHOP, "told that the tag is gone", gone).await?;
        stage.restart_operator().await?;
    }
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}

/// What a person sees where a tag cannot be looked at that was deployed from: the Space is ready, and yet it is said.
#[tokio::test]
async fn a_look_at_a_tag_that_fails_is_seen_everywhere() -> Result<()> {
    let options = RegistryOptions::default().with_password();
    let (stage, registry) = (Stage::open("unseen").await?, Registry::start_with(options).await?);
    let secret = |password: &str| json!({"username": USERNAME, "password": password});
    stage.namespace.write_secret("registry", &secret(PASSWORD)).await?;
    let folder = write_folder("1.0")?;
    let digest = registry.push_folder(&folder.path().join("shop"), "shop:live").await?;
    let mut source = tag(&registry, "shop", "live");
    source["oci"]["secretRef"] = json!({"name": "registry"});
    stage.deploys(&source, &digest).await?;
    let konigle = async |command: &str| stage.kubectl.konigle(&["-n", stage.namespace.name(), command, SHOP], "").await;
    let ready = format!("{SHOP} is ready, and runs live {}", &digest["sha256:".len()..][..12]);
    let mended = async || {
        let ended = konigle("reconcile").await?;
        assert_eq!((ended.code, ended.errors.contains(&format!("✔ {ready}"))), (Some(0), true), "{ended:?}");
        let shown = konigle("status").await?;
        assert!(shown.output.contains("✔ Succeeded") && !shown.output.contains('⚠'), "{shown:?}");
        Ok::<_, crate::support::Failure>(())
    };
    mended().await?;

    // The password is changed, and the Secret is not; then the tag is deleted.
    for (way, words) in [("password", "answered 401"), ("tag", "answered 404")] {
        match way {
            "password" => stage.namespace.write_secret("registry", &secret("wrong-canary")).await?,
            _ => drop(registry.crane(&["delete", &registry.reference("shop:live")]).await?),
        }
        let ended = konigle("reconcile").await?;
        assert_eq!(ended.code, Some(1), "{way}: {ended:?}");
        let failed = format!("✗ the look at the origin of {SHOP} failed (ArtifactUnavailable): ");
        assert!(ended.errors.contains(&failed) && ended.errors.contains(words), "{way}: {ended:?}");
        assert!(ended.errors.contains(&format!("; {ready}")) && !ended.errors.contains('✔'), "{way}: {ended:?}");
        let ended = konigle("wait").await?;
        assert_eq!(ended.code, Some(0), "it is ready: {ended:?}");
        let beside = format!("⚠ the origin of {SHOP} cannot be read (ArtifactUnavailable): ");
        assert!(ended.errors.contains(&format!("✔ {ready}")) && ended.errors.contains(&beside), "{way}: {ended:?}");
        let shown = konigle("status").await?;
        assert!(shown.output.contains("⚠ Succeeded"), "{way}: {shown:?}");
        assert!(shown.output.contains("⚠ ArtifactUnavailable: "), "{way}: {shown:?}");
        let explained = konigle("explain").await?;
        assert!(explained.output.contains("it stays wanted, although it cannot be seen now"), "{way}: {explained:?}");
        // Once, although it was looked at again.
        konigle("reconcile").await?;
        let page = Exposition::parse(&stage.operator.metrics().await?)?;
        let failures = page.value("konigle_artifact_lookups_total", &[("result", "unavailable")])?;
        assert!(failures >= 2.0, "{way}: {failures}");
        let events = async |beginning: &str| -> Result<usize> {
            let all = stage.events(SHOP).await?;
            Ok(all.iter().filter(|event| event.starts_with(beginning) && event.contains(words)).count())
        };
        stage.wait_for_event(SHOP, "OriginUnavailable: ArtifactUnavailable: ").await?;
        assert_eq!(events("OriginUnavailable: ").await?, 1, "{way}: {:?}", stage.events(SHOP).await?);

        match way {
            "password" => stage.namespace.write_secret("registry", &secret(PASSWORD)).await?,
            _ => drop(registry.crane(&["tag", &registry.reference(&format!("shop@{digest}")), "live"]).await?),
        }
        mended().await?;
        let event = stage.wait_for_event(SHOP, "OriginRecovered: ").await?;
        assert!(event.contains("shop:live can be read again, and names sha256:"), "{event}");
    }
    // Without its Secret it needs a person, and each time that is told, and that it is over.
    let secrets: Api<Secret> = stage.namespace.api();
    for times in 1..=2 {
        secrets.delete("registry", &DeleteParams::default()).await?;
        let ended = konigle("reconcile").await?;
        assert_eq!((ended.code, ended.errors.contains("(SecretNotFound)")), (Some(1), true), "{ended:?}");
        stage.namespace.write_secret("registry", &secret(PASSWORD)).await?;
        mended().await?;
        let told = async || {
            let all = stage.events(SHOP).await?;
            let count = |reason: &str| all.iter().filter(|event| event.starts_with(reason)).count();
            Ok(((count("SecretNotFound: "), count("OriginRecovered: ")) == (times, 2 + times)).then_some(()))
        };
        wait_for("both are told once more", told).await?;
    }
    let space = stage.namespace.spaces().get(SHOP).await?;
    assert!(is_ready(&space) && runs(&space, &digest), "{:?}", space.status);
    assert_eq!(stage.deploys_of(UAT).await?, 1, "nothing is deployed again");
    let page = Exposition::parse(&stage.operator.metrics().await?)?;
    assert!(page.value("konigle_artifact_lookups_total", &[("result", "success")])? >= 4.0);
    Ok(())
}
