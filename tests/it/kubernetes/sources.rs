//! The sources of Flux as they come and go: their CRDs, their objects, the right to see them, and watches that fail.
//!
//! The watch runs in the test's own process, with a store of KonigleSpaces that the test fills; the built program shows what is
//! logged. The CRDs are as small as they can be: no status is odd for them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use k8s_openapi::api::rbac::v1::Role;
use konigle_operator::api::{FluxKind, Watched};
use konigle_operator::context::{Context, Stop};
use konigle_operator::controller;
use konigle_operator::metrics::Metrics;
use konigle_operator::sources::{FluxArtifact, FluxSource, SourceLook, SourceReady};
use konigle_operator::watch::watch_sources;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{JOB_SECONDS, own_control_plane};
use crate::support::control_plane::ControlPlane;
use crate::support::in_process::{clients_of, config_with};
use crate::support::namespace::{deploys, wait_for};
use crate::support::proxy::{Matcher, Proxy};
use crate::support::rights::ACCOUNT;
use crate::support::simulator::UAT;
use crate::support::stage::Stage;
use crate::support::trace::Property;
use crate::support::{Failure, Result};

const GIT: FluxKind = FluxKind::GitRepository;
const GROUP: &str = "source.toolkit.fluxcd.io";
const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// How often the watches of these tests list anew, and look whether a kind was installed.
const INTERVAL: &str = "--watch-check-interval=2s";

/// The watch of Flux's sources, what it knows, and whom it woke.
struct Bed {
    context: Arc<Context>,
    woken: UnboundedReceiver<ObjectRef<Watched>>,
    watching: JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Bed {
    /// With these KonigleSpaces, each with the kind and name of its source.
    async fn start(stage: &Stage, kubeconfig: &Path, users: &[(&str, FluxKind, &str)]) -> Result<Self> {
        let (config, clients) = (config_with(stage, &[INTERVAL])?, clients_of(kubeconfig).await?);
        let (store, mut writer) = reflector::store::<Watched>();
        for (name, kind, source) in users {
            let mut space = uses(*kind, source);
            space = json!({
                "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "spec": space,
                "metadata": {"name": name, "namespace": stage.namespace.name(), "uid": name},
            });
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(space)?));
        }
        let (wakes, woken) = unbounded();
        let metrics = Arc::new(Metrics::new());
        let context = controller::context(&config, &clients, metrics, Stop::default(), store, wakes)?;
        let context = Arc::new(context);
        let shared = context.clone();
        let watching = tokio::spawn(async move { watch_sources(&config, &clients, &shared).await });
        for (_, kind, _) in users {
            context.sources.want(*kind);
        }
        Ok(Self { context, woken, watching })
    }

    /// Waits until this is known of a source.
    async fn sees(&self, kind: FluxKind, namespace: &str, name: &str, expected: &SourceLook) -> Result<()> {
        let mut seen = None;
        let what = format!("{expected:?} of {name}");
        let waited = wait_for(&what, async || {
            seen = Some(self.context.sources.look(kind, namespace, name));
            Ok((seen.as_ref() == Some(expected)).then_some(()))
        });
        waited.await.map_err(|failure| Failure::new(format!("{failure}; it was {seen:?}")))
    }

    /// Whom it woke since the last time, by name.
    fn woken(&mut self) -> BTreeSet<String> {
        std::iter::from_fn(|| self.woken.try_recv().ok()).map(|reference| reference.name).collect()
    }
}

/// The spec of a KonigleSpace that deploys from this source, and is not to be acted on.
fn uses(kind: FluxKind, source: &str) -> Value {
    let mut spec = deploys(UAT, "", "");
    spec["source"] = json!({"sourceRef": {"kind": kind, "name": source}});
    spec["suspend"] = json!(true);
    spec
}

fn plural(kind: FluxKind) -> &'static str {
    match kind {
        FluxKind::GitRepository => "gitrepositories",
        FluxKind::OciRepository => "ocirepositories",
        FluxKind::Bucket => "buckets",
        FluxKind::ExternalArtifact => "externalartifacts",
    }
}

fn crd_name(kind: FluxKind) -> String {
    format!("{}.{GROUP}", plural(kind))
}

/// Installs a CRD of this kind in one version, and waits until its objects can be made.
async fn install(control_plane: &ControlPlane, kind: FluxKind, version: &str) -> Result<()> {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": crd_name(kind)},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"kind": kind.word(), "listKind": format!("{}List", kind.word()), "plural": plural(kind),
                "singular": kind.word().to_lowercase()},
            "versions": [{"name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": any}}],
        },
    });
    let kubectl = control_plane.kubectl();
    kubectl.apply(&crd.to_string()).await?;
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd", &crd_name(kind)];
    kubectl.run(&established).await.map(drop)
}

fn objects(client: &Client, namespace: &str, kind: FluxKind, version: &str) -> Api<DynamicObject> {
    let kind_of = GroupVersionKind::gvk(GROUP, version, kind.word());
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind_of, plural(kind)))
}

async fn create(objects: &Api<DynamicObject>, kind: FluxKind, version: &str, name: &str) -> Result<()> {
    let object = json!({
        "apiVersion": format!("{GROUP}/{version}"), "kind": kind.word(), "metadata": {"name": name},
        "spec": {"interval": "1m", "url": "https://git.example.com/shop"},
    });
    let object: DynamicObject = serde_json::from_value(object)?;
    // A kind that has just been installed may not be served for a moment.
    let made = wait_for("made", async || Ok(objects.create(&PostParams::default(), &object).await.ok()));
    made.await.map(drop)
}

async fn set_status(objects: &Api<DynamicObject>, name: &str, status: &Value) -> Result<()> {
    let patch = json!({"status": status});
    objects.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

/// The status of a source that has stored this revision.
fn stored(revision: &str) -> Value {
    let ready = json!({"type": "Ready", "status": "True", "reason": "Succeeded", "message": "stored"});
    json!({"observedGeneration": 1, "conditions": [ready],
        "artifact": {"url": "http://flux.example.com/a.tar.gz", "digest": DIGEST, "revision": revision, "size": 7}})
}

fn found(artifact_of: Option<&str>) -> SourceLook {
    let artifact = artifact_of.map(|revision| FluxArtifact {
        url: "http://flux.example.com/a.tar.gz".to_owned(),
        digest: DIGEST.to_owned(),
        revision: revision.to_owned(),
        size: Some(7),
    });
    let ready = SourceReady { status: "True".to_owned(), reason: "Succeeded".to_owned(), message: "stored".to_owned() };
    SourceLook::Found(FluxSource {
        generation: 1,
        observed_generation: if artifact.is_some() { 1 } else { -1 },
        ready: artifact.is_some().then_some(ready),
        artifact,
        suspended: false,
        deleting: false,
    })
}

/// How often the operator's log has this.
fn told(stage: &Stage, text: &str) -> Result<usize> {
    Ok(std::fs::read_to_string(stage.operator.log())?.matches(text).count())
}

async fn until_told(stage: &Stage, text: &str, times: usize) -> Result<()> {
    wait_for(&format!("{text:?} told {times} times"), async || Ok((told(stage, text)? == times).then_some(()))).await
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn sources_are_seen_while_flux_is_installed_and_their_users_are_woken() -> Result<()> {
    const MISSING: &str = "Flux's GitRepository is not installed; it is watched when it appears";
    const WATCHED: &str = "Flux's GitRepository is listed and watched";
    let control_plane = own_control_plane().await?;
    let stage = Stage::open_on(&control_plane, "flux", JOB_SECONDS, |options| options.flag(INTERVAL)).await?;
    stage.tolerate(Property::NoGap, super::WATCHES_END);
    let namespace = stage.namespace.name();
    let users = [("uses-a", GIT, "a"), ("uses-b", GIT, "b"), ("uses-oci", FluxKind::OciRepository, "a")];
    let mut bed = Bed::start(&stage, &stage.kubeconfig, &users).await?;

    bed.sees(GIT, namespace, "a", &SourceLook::NotInstalled).await?;
    assert_eq!(told(&stage, "Flux's")?, 0, "no KonigleSpace of the operator names a source");
    stage.namespace.apply("uses-a", &uses(GIT, "a")).await?;
    until_told(&stage, MISSING, 1).await?;
    assert_eq!(stage.operator.readiness().await.map(|(status, _)| status), Some(200));

    install(&control_plane, GIT, "v1").await?;
    bed.sees(GIT, namespace, "a", &SourceLook::Absent).await?;
    until_told(&stage, WATCHED, 1).await?;
    bed.sees(FluxKind::OciRepository, namespace, "a", &SourceLook::NotInstalled).await?;
    assert_eq!(bed.woken(), names(&["uses-a", "uses-b", "uses-oci"]), "by what is missing, and by the first list");

    let objects = objects(&stage.namespace.client().clone(), namespace, GIT, "v1");
    create(&objects, GIT, "v1", "a").await?;
    bed.sees(GIT, namespace, "a", &found(None)).await?;
    assert_eq!(bed.woken(), names(&["uses-a"]));
    set_status(&objects, "a", &stored("main@sha1:1")).await?;
    bed.sees(GIT, namespace, "a", &found(Some("main@sha1:1"))).await?;
    assert_eq!(bed.woken(), names(&["uses-a"]));

    // What says nothing new of a source comes first, and wakes nobody.
    let heartbeat = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    objects.patch("a", &PatchParams::default(), &Patch::Merge(&heartbeat)).await?;
    create(&objects, GIT, "v1", "b").await?;
    bed.sees(GIT, namespace, "b", &found(None)).await?;
    assert_eq!(bed.woken(), names(&["uses-b"]));

    objects.delete("a", &DeleteParams::default()).await?;
    bed.sees(GIT, namespace, "a", &SourceLook::Absent).await?;
    assert_eq!(bed.woken(), names(&["uses-a"]));

    control_plane.kubectl().run(&["delete", "crd", &crd_name(GIT)]).await?;
    bed.sees(GIT, namespace, "b", &SourceLook::NotInstalled).await?;
    until_told(&stage, MISSING, 2).await?;
    assert_eq!(bed.woken(), names(&["uses-a", "uses-b"]));
    install(&control_plane, GIT, "v1").await?;
    bed.sees(GIT, namespace, "b", &SourceLook::Absent).await?;
    until_told(&stage, WATCHED, 2).await?;
    assert_eq!(told(&stage, MISSING)?, 2);
    assert_eq!(told(&stage, "Flux's")?, 4, "of no other kind, and of no failure");

    // As Flux before 2.6 has it.
    install(&control_plane, FluxKind::OciRepository, "v1beta2").await?;
    bed.sees(FluxKind::OciRepository, namespace, "a", &SourceLook::Absent).await?;
    let older = self::objects(stage.namespace.client(), namespace, FluxKind::OciRepository, "v1beta2");
    create(&older, FluxKind::OciRepository, "v1beta2", "a").await?;
    bed.sees(FluxKind::OciRepository, namespace, "a", &found(None)).await
}

#[tokio::test]
async fn a_missing_right_to_see_sources_is_named_and_no_watch_is_relied_on_for_ever() -> Result<()> {
    const KIND: FluxKind = FluxKind::ExternalArtifact;
    let control_plane = own_control_plane().await?;
    install(&control_plane, KIND, "v1").await?;
    let mut stage = Stage::open_on(&control_plane, "rights", JOB_SECONDS, |options| options.flag(INTERVAL)).await?;
    stage.tolerate(Property::NoGap, super::WATCHES_END);
    let roles = stage.namespace.api::<Role>();
    let granted = roles.get(ACCOUNT).await?.rules.unwrap_or_default();
    let is_for_flux =
        |rule: &k8s_openapi::api::rbac::v1::PolicyRule| rule.api_groups.iter().flatten().any(|group| group == GROUP);
    let others: Vec<_> = granted.iter().filter(|rule| !is_for_flux(rule)).collect();
    assert_eq!(others.len() + 1, granted.len(), "deploy/default grants it");
    let set_rules = async |rules: Value| {
        roles.patch(ACCOUNT, &PatchParams::default(), &Patch::Merge(&json!({"rules": rules}))).await.map(drop)
    };
    set_rules(serde_json::to_value(&others)?).await?;
    let as_operator = crate::support::control_plane::client(&stage.kubeconfig).await?;
    let operators = objects(&as_operator, stage.namespace.name(), KIND, "v1");
    wait_for("refused", async || Ok(operators.list(&kube::api::ListParams::default()).await.err().map(drop))).await?;

    let proxy = stage.put_proxy_before_the_api_server().await?;
    let namespace = stage.namespace.name();
    let mut bed = Bed::start(&stage, &stage.kubeconfig, &[("uses-a", KIND, "a")]).await?;
    let refusal = wait_for("the refusal", async || match bed.context.sources.look(KIND, namespace, "a") {
        SourceLook::NotListed(Some(why)) => Ok(Some(why)),
        _ => Ok(None),
    });
    let refusal = refusal.await?;
    for part in ["externalartifacts.source.toolkit.fluxcd.io is forbidden", "set rbac.fluxSources to true", ACCOUNT] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    assert_eq!(bed.woken(), names(&["uses-a"]));
    stage.namespace.apply("uses-a", &uses(KIND, "a")).await?;
    let lists = Matcher::new(Method::GET, "/externalartifacts?");
    wait_for("three tries", async || Ok((proxy.seen(&lists).len() >= 3).then_some(()))).await?;
    assert_eq!(told(&stage, "Flux's ExternalArtifact cannot be watched")?, 1);
    assert_eq!(told(&stage, "rbac.fluxSources")?, 1);
    assert_eq!(bed.woken(), BTreeSet::new(), "what is refused again is no news");

    set_rules(serde_json::to_value(&granted)?).await?;
    bed.sees(KIND, namespace, "a", &SourceLook::Absent).await?;
    assert_eq!(bed.woken(), names(&["uses-a"]));
    until_told(&stage, "Flux's ExternalArtifact is listed and watched", 1).await?;

    // What a status is not made for neither breaks a watch nor a list.
    let objects = objects(stage.namespace.client(), namespace, KIND, "v1");
    create(&objects, KIND, "v1", "odd").await?;
    set_status(&objects, "odd", &json!({"artifact": "latest", "conditions": {"Ready": true}})).await?;
    create(&objects, KIND, "v1", "a").await?;
    bed.sees(KIND, namespace, "a", &found(None)).await?;
    bed.sees(KIND, namespace, "odd", &found(None)).await?;

    // A watch that tells nothing, then one that is refused as too old: the next list has what they missed.
    let before_the_bed = Proxy::before_api_server(&stage.kubeconfig).await?;
    let bed = Bed::start(&stage, &before_the_bed.kubeconfig(&stage.kubeconfig)?, &[("uses-a", KIND, "a")]).await?;
    bed.sees(KIND, namespace, "odd", &found(None)).await?;
    before_the_bed.silence_watches();
    set_status(&objects, "a", &stored("1")).await?;
    bed.sees(KIND, namespace, "a", &found(Some("1"))).await?;
    before_the_bed.answer(Matcher::new(Method::GET, "/externalartifacts?&watch=true"), 2, StatusCode::GONE);
    set_status(&objects, "a", &stored("2")).await?;
    bed.sees(KIND, namespace, "a", &found(Some("2"))).await
}
