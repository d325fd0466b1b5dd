//! Rows about where artifacts come from: registries, and sources of Flux. Each deploys what is packed or pushed, so the ZIP
//! that is sent has another digest than the artifact.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use konigle_operator::api::{AttemptResult, KonigleSpace, RECONCILE_AT};
use reqwest::Method;
use serde_json::{Value, json};

use crate::case::{Case, JOB_SECONDS};
use crate::matrix::{Row, row};
use crate::oracles::{LONGEST_OUTCOME, check, check_results, lasts, packed_once, posted};
use crate::support::artifacts::{application, digest_of, tar_gz};
use crate::support::flux_source::{FluxSource, install_crds};
use crate::support::namespace::{SECRET, ready_reason, wait_for};
use crate::support::proxy::{Matcher, Proxy};
use crate::support::recording::Recording;
use crate::support::registry::Registry;
use crate::support::run_folder::new_folder;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, is_ready, runs};
use crate::support::wire::{Fault, Wire};
use crate::support::{Context, Result};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "56",
            row_56_a_registry_that_does_not_answer,
            "While a tag is looked up its registry is gone, answers 503, or never; over a restart too",
            "What the tag named last stays wanted and Ready, `ArtifactReady` tells, nothing is sent; once it answers, what the tag names now is deployed once"
        ),
        row!(
            "57",
            row_57_a_tag_that_moves_while_it_is_fetched,
            "A tag is moved to another artifact between the look at it and the manifest, or the layer",
            "What was seen and recorded is deployed, once; the other one at the next look, once"
        ),
        row!(
            "58",
            row_58_a_registry_that_hands_over_something_else,
            "A registry answers with another manifest than was asked for, or with another layer, of the same size too",
            "`DigestMismatch`, nothing is left behind and no attempt is made; once the right one comes it is deployed once"
        ),
        row!(
            "59",
            row_59_a_source_whose_archive_is_gone,
            "The archive that a Flux source names is 404, at first or after an edit, and comes back or makes way for a newer one",
            "What runs stays, and the reason is told; it heals by itself, and what is there then is deployed once"
        ),
        row!(
            "60",
            row_60_a_disk_without_room_while_packing,
            "The disk takes an archive, and not the ZIP that is made of it; then there is room",
            "No attempt is made, the reason is told and nothing is left behind; it heals by itself without another download, and is deployed once"
        ),
        row!(
            "61",
            row_61_sources_that_are_not_listed_after_a_restart,
            "After a restart Flux's sources cannot be listed for a time, while an artifact is wanted that is not on disk: 503, 403, or no answer",
            "It is waited for: nothing is asked for in vain, and the source is not said to have no artifact; once they are listed it is deployed once"
        ),
    ]
}

/// The wish for what a source names.
fn wish(source: &Value) -> Value {
    json!({"space": {"id": UAT}, "credentials": {"secretRef": {"name": SECRET}}, "source": source, "timeout": "5s"})
}

/// The real registry, with all that is asked for on the way to it.
struct Way {
    registry: Registry,
    proxy: Proxy,
    wire: Wire,
}

impl Way {
    async fn lay() -> Result<Self> {
        let registry = Registry::start().await?;
        let proxy = Proxy::start(&format!("http://{}", registry.host()), None).await?;
        let wire = Wire::start(&proxy.base_url()).await?;
        Ok(Self { registry, proxy, wire })
    }

    /// The wish for what the tag `live` names.
    fn wish(&self) -> Value {
        let host = self.wire.base_url();
        let repository = format!("{}/shop", host.trim_start_matches("http://"));
        wish(&json!({"oci": {"repository": repository, "tag": "live"}}))
    }

    /// Pushes a version as the tag `live`; the digest of its manifest.
    async fn push(&self, version: &str) -> Result<String> {
        let file = new_folder("pushed")?.join("shop.zip");
        std::fs::write(&file, application(version)?).context("writing what is pushed")?;
        self.registry.push_zip(&file, "shop:live").await
    }
}

/// The condition that tells of the artifact.
fn artifact_ready(space: &KonigleSpace) -> Option<(&str, &str)> {
    let condition = space.status.as_ref()?.condition("ArtifactReady")?;
    Some((&condition.status, &condition.reason))
}

/// What is wanted as far as known runs, and its artifact's condition says that the origin cannot be asked.
async fn stays(stage: &Stage, digest: &str) -> Result<()> {
    let told = |space: &KonigleSpace| artifact_ready(space) == Some(("False", "ArtifactUnavailable"));
    let space = stage.namespace.wait_for(SHOP, "told that the registry does not answer", told).await?;
    check(is_ready(&space) && runs(&space, digest), || format!("it did not stay: {:?}", space.status))?;
    check(posted(stage, UAT).await?.len() == 1, || "something was sent".to_owned())
}

async fn row_56_a_registry_that_does_not_answer(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let way = Way::lay().await?;
    let first = way.push("1.0").await?;
    stage.namespace.apply(SHOP, &way.wish()).await?;
    packed_once(&stage, &first).await?;
    let second = way.push("2.0").await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    match *case.pick(&["gone", "503", "never"]) {
        "gone" => way.wire.refuse(true),
        "503" => {
            let looks = Matcher::new(Method::HEAD, "/manifests/live");
            way.proxy.answer(looks, usize::MAX, StatusCode::SERVICE_UNAVAILABLE);
        }
        _ => way.wire.set(Some(Fault::BlackHole)),
    }
    stage.namespace.annotate(SHOP, RECONCILE_AT, "while it does not answer").await?;
    stays(&stage, &first).await?;
    stage.restart_operator().await?;
    stage.look_now(SHOP).await?;
    stays(&stage, &first).await?;
    way.wire.refuse(false);
    way.wire.set(None);
    way.proxy.clear();
    stage.namespace.annotate(SHOP, RECONCILE_AT, "once it answers").await?;
    let space = packed_once(&stage, &second).await?;
    check_results(&space, &[AttemptResult::Succeeded; 2])?;
    check(posted(&stage, UAT).await?.len() == 2, || "sent again".to_owned())
}

async fn row_57_a_tag_that_moves_while_it_is_fetched(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let way = Way::lay().await?;
    let first = way.push("1.0").await?;
    let path = *case.pick(&["/manifests/sha256", "/blobs/sha256"]);
    let gate = way.proxy.hold(Matcher::new(Method::GET, path));
    stage.namespace.apply(SHOP, &way.wish()).await?;
    gate.arrived().await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    let second = way.push("2.0").await?;
    gate.open();
    let deployed = |space: &KonigleSpace| is_ready(space) && runs(space, &first);
    stage.namespace.wait_longer_for(SHOP, "deployed", LONGEST_OUTCOME, deployed).await?;
    let sent: Vec<String> = posted(&stage, UAT).await?.iter().map(|entry| entry["sha256"].to_string()).collect();
    let was_recorded = digest_of(&application("1.0")?).trim_start_matches("sha256:").to_owned();
    check(sent == [format!("{was_recorded:?}")], || format!("{sent:?} was sent"))?;
    stage.namespace.annotate(SHOP, RECONCILE_AT, "moved").await?;
    let space = packed_once(&stage, &second).await?;
    check_results(&space, &[AttemptResult::Succeeded; 2])?;
    check(posted(&stage, UAT).await?.len() == 2, || "sent again".to_owned())
}

async fn row_58_a_registry_that_hands_over_something_else(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let way = Way::lay().await?;
    let digest = way.push("1.0").await?;
    let of_same_size = "x".repeat(application("1.0")?.len());
    let others = [
        ("/manifests/sha256", r#"{"schemaVersion":2,"layers":[]}"#),
        ("/blobs/sha256", "<!doctype html><title>Log in</title>"),
        ("/blobs/sha256", of_same_size.as_str()),
    ];
    let (path, body) = *case.pick(&others);
    way.proxy.answer_with(Matcher::new(Method::GET, path), usize::MAX, StatusCode::OK, body);
    stage.namespace.apply(SHOP, &way.wish()).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "DigestMismatch").await?;
    lasts(case.moment(Duration::from_secs(2))).await?;
    check(space.status.is_some_and(|status| status.last_attempt == 0), || "an attempt was made".to_owned())?;
    check(posted(&stage, UAT).await?.is_empty(), || "posted".to_owned())?;
    nothing_is_left(&stage)?;
    way.proxy.clear();
    stage.look_now(SHOP).await?;
    let space = packed_once(&stage, &digest).await?;
    check_results(&space, &[AttemptResult::Succeeded])
}

/// Sees that no file was left that is not whole.
fn nothing_is_left(stage: &Stage) -> Result<()> {
    let partials = stage.operator.partials()?;
    check(partials.is_empty(), || format!("left behind: {partials:?}"))
}

/// A tar.gz of an application of this version, with these files beside it.
fn archive(version: &str, files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let application = [
        ("Dockerfile", "FROM scratch\n"),
        ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n"),
        ("version.txt", version),
    ];
    tar_gz(&[&application, files].concat())
}

async fn row_59_a_source_whose_archive_is_gone(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    install_crds(&stage.kubectl).await?;
    let of = |source: &FluxSource| wish(&json!({"sourceRef": source.reference()}));
    let (runs_before, comes_back) = *case.pick(&[(false, true), (true, true), (true, false)]);
    let mut expected = None;
    if runs_before {
        let before = FluxSource::create(&stage.namespace, "GitRepository", "before").await?;
        let stored = before.store(&stage.artifacts, archive("1.0", &[])?, "main@sha1:1").await?;
        stage.namespace.apply(SHOP, &of(&before)).await?;
        packed_once(&stage, &stored.digest).await?;
        expected = Some(stored.digest);
    }
    let source = FluxSource::create(&stage.namespace, "GitRepository", "shop").await?;
    let bytes = archive("2.0", &[])?;
    let gone = source.store(&stage.artifacts, bytes.clone(), "main@sha1:2").await?;
    let path = gone.url.replace(&stage.artifacts.url(""), "");
    stage.artifacts.answer_with(&path, StatusCode::NOT_FOUND, HeaderMap::new(), Vec::new());
    stage.namespace.apply(SHOP, &of(&source)).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "ArtifactUnavailable").await?;
    check(expected.iter().all(|digest| runs(&space, digest)), || format!("it did not stay: {:?}", space.status))?;
    check(posted(&stage, UAT).await?.len() == usize::from(runs_before), || "something was sent".to_owned())?;
    lasts(case.moment(Duration::from_secs(3))).await?;
    let digest = if comes_back {
        stage.artifacts.serve(&path, bytes).digest
    } else {
        source.store(&stage.artifacts, archive("3.0", &[])?, "main@sha1:3").await?.digest
    };
    let space = packed_once(&stage, &digest).await?;
    check_results(&space, &vec![AttemptResult::Succeeded; 1 + usize::from(runs_before)])?;
    check(posted(&stage, UAT).await?.len() == 1 + usize::from(runs_before), || "sent again".to_owned())
}

async fn row_60_a_disk_without_room_while_packing(case: &Case) -> Result<()> {
    // No file may grow beyond a mebibyte, until that is taken back: the kernel answers further writes as a full disk does.
    let full = "trap '' XFSZ; ulimit -S -f 2048";
    let mut stage = case.open_with(JOB_SECONDS, |options| options.under(full)).await?;
    // The same noise in many files: gzip sees that, and a ZIP holds each by itself.
    let noise: String = (0..320).map(|number: u32| digest_of(&number.to_be_bytes()).split_off(7)).collect();
    let names: Vec<String> = (0..*case.pick(&[160, 130, 200])).map(|number| format!("data/{number}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), noise.as_str())).collect();
    let bytes = archive("1.0", &files)?;
    check(bytes.len() < 1 << 19, || format!("the archive itself has {} bytes", bytes.len()))?;
    let artifact = stage.artifacts.serve("/shop.tar.gz", bytes);
    stage.namespace.apply(SHOP, &wish(&json!({"http": {"url": artifact.url, "digest": artifact.digest}}))).await?;
    let told = |space: &KonigleSpace| {
        let ready = space.status.as_ref().and_then(|status| status.condition("Ready"));
        ready.is_some_and(|ready| ready.message.contains("cannot be stored"))
            && ready_reason(space) == Some("ArtifactUnavailable")
    };
    let space = stage.namespace.wait_for(SHOP, "told that it cannot be stored", told).await?;
    check(space.status.is_some_and(|status| status.last_attempt == 0), || "an attempt was made".to_owned())?;
    check(posted(&stage, UAT).await?.is_empty(), || "posted".to_owned())?;
    nothing_is_left(&stage)?;
    lasts(case.moment(Duration::from_secs(2))).await?;
    stage.operator.process().may_write_large_files()?;
    let space = packed_once(&stage, &artifact.digest).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(stage.artifacts.requests("/shop.tar.gz") == 1, || "it was downloaded again".to_owned())
}

async fn row_61_sources_that_are_not_listed_after_a_restart(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    install_crds(&stage.kubectl).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let source = FluxSource::create(&stage.namespace, "GitRepository", "shop").await?;
    let bytes = archive("1.0", &[])?;
    let stored = source.store(&stage.artifacts, bytes.clone(), "main@sha1:1").await?;
    let path = stored.url.replace(&stage.artifacts.url(""), "");
    stage.artifacts.answer_with(&path, StatusCode::NOT_FOUND, HeaderMap::new(), Vec::new());
    stage.namespace.apply(SHOP, &wish(&json!({"sourceRef": source.reference()}))).await?;
    stage.namespace.wait_for_reason(SHOP, "ArtifactUnavailable").await?;
    stage.operator.kill();
    stage.artifacts.serve(&path, bytes);
    let asked = stage.artifacts.requests(&path);
    let lists = Matcher::new(Method::GET, "/gitrepositories");
    let gate = match *case.pick(&[Some(StatusCode::SERVICE_UNAVAILABLE), Some(StatusCode::FORBIDDEN), None]) {
        Some(status) => {
            proxy.answer(lists.clone(), usize::MAX, status);
            None
        }
        None => Some(proxy.hold(lists.clone())),
    };
    let recording = Recording::start(&stage.namespace).await?;
    stage.operator.start_again().await?;
    let before = proxy.seen(&lists).len();
    stage.look_now(SHOP).await?;
    wait_for("asked for the sources", async || Ok((proxy.seen(&lists).len() > before).then_some(()))).await?;
    lasts(case.moment(Duration::from_secs(3))).await?;
    check(stage.artifacts.requests(&path) == asked, || "the archive was asked for".to_owned())?;
    let told = serde_json::to_string(&recording.statuses(SHOP).await?)?;
    check(!told.contains("no artifact any more"), || format!("told of what was not seen: {told}"))?;
    proxy.clear();
    if let Some(gate) = gate {
        gate.open();
    }
    let space = packed_once(&stage, &stored.digest).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(stage.artifacts.requests(&path) == asked + 1, || "the archive was asked for again".to_owned())
}
