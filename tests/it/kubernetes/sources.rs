//! The sources of Flux as they come and go: their CRDs, their objects, the right to see them, and watches that fail.
//!
//! The watch runs in the test's own process, with KonigleSpaces that the test puts into its store; the built program beside it
//! shows what is logged.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::http::StatusCode;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use konigle_operator::api::{FluxKind, Watched};
use konigle_operator::context::{Context, Stop};
use konigle_operator::controller;
use konigle_operator::metrics::Metrics;
use konigle_operator::sources::{self, FluxArtifact, SourceLook, SourceReady};
use konigle_operator::watch::watch_sources;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::Event;
use kube::{Api, Client};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{JOB_SECONDS, own_control_plane};
use crate::support::artifacts::Artifact;
use crate::support::control_plane::{ControlPlane, client};
use crate::support::flux_source::{FluxSource, install_crds, remove_crds};
use crate::support::in_process::{clients_of, config_with};
use crate::support::namespace::{deploys, wait_for};
use crate::support::proxy::{Matcher, Proxy};
use crate::support::rights::ACCOUNT;
use crate::support::simulator::UAT;
use crate::support::stage::Stage;
use crate::support::trace::Property;
use crate::support::{Failure, Result};

const GIT: FluxKind = FluxKind::GitRepository;
const OCI: FluxKind = FluxKind::OciRepository;
const GROUP: &str = "source.toolkit.fluxcd.io";
/// How often the watches of these tests list anew, and look whether a kind was installed.
const INTERVAL: &str = "--watch-check-interval=2s";

/// The watch of Flux's sources, what it knows, and whom it woke.
struct Bed {
    namespace: String,
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
        let namespace = stage.namespace.name().to_owned();
        let (store, mut writer) = reflector::store::<Watched>();
        for (name, kind, source) in users {
            let space = json!({
                "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "spec": uses(*kind, source),
                "metadata": {"name": name, "namespace": namespace, "uid": name},
            });
            writer.apply_watcher_event(&Event::Apply(serde_json::from_value(space)?));
        }
        let (wakes, woken) = unbounded();
        let context = controller::context(&config, &clients, Arc::new(Metrics::new()), Stop::default(), store, wakes)?;
        let context = Arc::new(context);
        let shared = context.clone();
        let watching = tokio::spawn(async move { watch_sources(&config, &clients, &shared).await });
        for (_, kind, _) in users {
            context.sources.want(*kind);
        }
        Ok(Self { namespace, context, woken, watching })
    }

    fn look(&self, kind: FluxKind, name: &str) -> SourceLook {
        self.context.sources.look(kind, &self.namespace, name)
    }

    /// Waits until this is known of a source.
    async fn sees(&self, kind: FluxKind, name: &str, expected: &SourceLook) -> Result<()> {
        let what = format!("{expected:?} of {} {name}", kind.word());
        let waited = wait_for(&what, async || Ok((self.look(kind, name) == *expected).then_some(()))).await;
        waited.map_err(|failure| Failure::new(format!("{failure}; it was {:?}", self.look(kind, name))))
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

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn objects(client: &Client, stage: &Stage, kind: FluxKind, version: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, version, kind.word()));
    Api::namespaced_with(client.clone(), stage.namespace.name(), &resource)
}

/// What is seen of a source whose controller says of this generation that it has seen it, and nothing else.
fn observed(generation: i64) -> sources::FluxSource {
    sources::FluxSource {
        generation: 1,
        observed_generation: generation,
        artifact: None,
        ready: None,
        suspended: false,
        deleting: false,
    }
}

fn found(source: sources::FluxSource) -> SourceLook {
    SourceLook::Found(source)
}

/// What is seen of a source that has stored this.
fn stored(artifact: &Artifact, revision: &str) -> SourceLook {
    let ready = SourceReady {
        status: "True".to_owned(),
        reason: "Succeeded".to_owned(),
        message: format!("stored artifact for revision '{revision}'"),
    };
    let artifact =
        FluxArtifact { url: artifact.url.clone(), digest: artifact.digest.clone(), revision: revision.to_owned() };
    found(sources::FluxSource { artifact: Some(artifact), ready: Some(ready), ..observed(1) })
}

/// How often the operator's log has this.
fn told(stage: &Stage, text: &str) -> Result<usize> {
    Ok(std::fs::read_to_string(stage.operator.log())?.matches(text).count())
}

async fn until_told(stage: &Stage, text: &str, times: usize) -> Result<()> {
    wait_for(&format!("{text:?} told {times} times"), async || Ok((told(stage, text)? == times).then_some(()))).await
}

#[tokio::test]
async fn sources_are_seen_while_flux_is_installed_and_their_users_are_woken() -> Result<()> {
    const MISSING: &str = "Flux's GitRepository is not installed; it is watched when it appears";
    const WATCHED: &str = "Flux's GitRepository is listed and watched";
    const REVISION: &str = "main@sha1:1";
    let control_plane = own_control_plane().await?;
    let kubectl = control_plane.kubectl();
    let stage = Stage::open_on(&control_plane, "flux", JOB_SECONDS, |options| options.flag(INTERVAL)).await?;
    stage.tolerate(Property::NoGap, super::WATCHES_END);
    let users = [
        ("uses-a", GIT, "a"),
        ("uses-b", GIT, "b"),
        ("uses-oci", OCI, "a"),
        ("uses-bucket", FluxKind::Bucket, "a"),
        ("uses-external", FluxKind::ExternalArtifact, "a"),
    ];
    let mut bed = Bed::start(&stage, &stage.kubeconfig, &users).await?;

    for kind in FluxKind::ALL {
        bed.sees(kind, "a", &SourceLook::NotInstalled).await?;
    }
    assert_eq!(told(&stage, "Flux's")?, 0, "no KonigleSpace of the operator names a source");
    stage.namespace.apply("uses-a", &uses(GIT, "a")).await?;
    until_told(&stage, MISSING, 1).await?;
    assert_eq!(stage.operator.readiness().await.map(|(status, _)| status), Some(200));

    install_crds(&kubectl).await?;
    for kind in FluxKind::ALL {
        bed.sees(kind, "a", &SourceLook::Absent).await?;
    }
    until_told(&stage, WATCHED, 1).await?;
    let everybody: BTreeSet<String> = users.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(bed.woken(), everybody, "by what is missing, and by the first list");

    for (kind, user) in FluxKind::ALL.into_iter().zip(["uses-a", "uses-oci", "uses-bucket", "uses-external"]) {
        let source = FluxSource::create(&stage.namespace, kind.word(), "a").await?;
        bed.sees(kind, "a", &found(observed(-1))).await?;
        assert_eq!(bed.woken(), names(&[user]));
        let artifact = source.store(&stage.artifacts, kind.word().into(), REVISION).await?;
        bed.sees(kind, "a", &stored(&artifact, REVISION)).await?;
        assert_eq!(bed.woken(), names(&[user]));
    }

    // What says nothing new of a source comes first, and wakes nobody.
    let heartbeat = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
    let repositories = objects(stage.namespace.client(), &stage, GIT, "v1");
    repositories.patch("a", &PatchParams::default(), &Patch::Merge(&heartbeat)).await?;
    FluxSource::create(&stage.namespace, GIT.word(), "b").await?;
    bed.sees(GIT, "b", &found(observed(-1))).await?;
    assert_eq!(bed.woken(), names(&["uses-b"]));

    FluxSource::named(&stage.namespace, GIT.word(), "a").delete().await?;
    bed.sees(GIT, "a", &SourceLook::Absent).await?;
    assert_eq!(bed.woken(), names(&["uses-a"]));

    remove_crds(&kubectl).await?;
    bed.sees(GIT, "b", &SourceLook::NotInstalled).await?;
    assert!(bed.woken().is_superset(&names(&["uses-a", "uses-b"])));
    until_told(&stage, MISSING, 2).await?;
    install_crds(&kubectl).await?;
    bed.sees(GIT, "b", &SourceLook::Absent).await?;
    assert!(bed.woken().is_superset(&names(&["uses-a", "uses-b"])));
    until_told(&stage, WATCHED, 2).await?;
    assert_eq!(told(&stage, MISSING)?, 2);
    for other in ["OCIRepository", "Bucket", "ExternalArtifact"] {
        assert_eq!(told(&stage, other)?, 0, "no KonigleSpace of the operator names a {other}");
    }
    Ok(())
}

/// Installs the CRD of Flux before 2.6, where it is v1beta2 only; as loose as can be, so that no status is odd for it.
async fn install_older_crd(control_plane: &ControlPlane) -> Result<()> {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("ocirepositories.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"kind": "OCIRepository", "listKind": "OCIRepositoryList", "plural": "ocirepositories",
                "singular": "ocirepository"},
            "versions": [{"name": "v1beta2", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": any}}],
        },
    });
    control_plane.kubectl().apply(&crd.to_string()).await.map(drop)
}

/// The rules of the operator's role, and those of them that are not for Flux.
fn rules(role: Role) -> (Vec<PolicyRule>, Vec<PolicyRule>) {
    let granted = role.rules.unwrap_or_default();
    let mut others = granted.clone();
    others.retain(|rule| !rule.api_groups.iter().flatten().any(|group| group == GROUP));
    (granted, others)
}

#[tokio::test]
async fn a_missing_right_to_see_sources_is_named_and_no_watch_is_relied_on_for_ever() -> Result<()> {
    let control_plane = own_control_plane().await?;
    install_older_crd(&control_plane).await?;
    let mut stage = Stage::open_on(&control_plane, "rights", JOB_SECONDS, |options| options.flag(INTERVAL)).await?;
    stage.tolerate(Property::NoGap, super::WATCHES_END);
    let roles = stage.namespace.api::<Role>();
    let (granted, others) = rules(roles.get(ACCOUNT).await?);
    assert_eq!(others.len() + 1, granted.len(), "deploy/default grants it");
    let set_rules = async |rules: &[PolicyRule]| {
        roles.patch(ACCOUNT, &PatchParams::default(), &Patch::Merge(&json!({"rules": rules}))).await.map(drop)
    };
    set_rules(&others).await?;
    let of_operator = objects(&client(&stage.kubeconfig).await?, &stage, OCI, "v1beta2");
    wait_for("refused", async || Ok(of_operator.list(&ListParams::default()).await.err().map(drop))).await?;

    let proxy = stage.put_proxy_before_the_api_server().await?;
    let users = [("uses-a", OCI, "a")];
    let mut bed = Bed::start(&stage, &stage.kubeconfig, &users).await?;
    let refusal = wait_for("the refusal", async || match bed.look(OCI, "a") {
        SourceLook::NotListed(why) => Ok(why),
        SourceLook::NotInstalled | SourceLook::Absent | SourceLook::Found(_) => Ok(None),
    });
    let refusal = refusal.await?;
    for part in ["ocirepositories.source.toolkit.fluxcd.io is forbidden", "set rbac.fluxSources to true", ACCOUNT] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
    assert_eq!(bed.woken(), names(&["uses-a"]));
    stage.namespace.apply("uses-a", &uses(OCI, "a")).await?;
    let lists = Matcher::new(Method::GET, "/ocirepositories?");
    wait_for("three tries", async || Ok((proxy.seen(&lists).len() >= 3).then_some(()))).await?;
    assert_eq!(told(&stage, "Flux's OCIRepository cannot be watched")?, 1);
    assert_eq!(told(&stage, "set rbac.fluxSources to true")?, 1);
    assert_eq!(bed.woken(), BTreeSet::new(), "what is refused again is no news");

    set_rules(&granted).await?;
    bed.sees(OCI, "a", &SourceLook::Absent).await?;
    assert_eq!(bed.woken(), names(&["uses-a"]));
    until_told(&stage, "Flux's OCIRepository is listed and watched", 1).await?;

    // What no status looks like breaks neither a watch nor a list.
    let objects = objects(stage.namespace.client(), &stage, OCI, "v1beta2");
    let set_status = async |name: &str, status: Value| {
        let patch = json!({"status": status});
        objects.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    };
    for name in ["odd", "a"] {
        let object =
            json!({"apiVersion": format!("{GROUP}/v1beta2"), "kind": "OCIRepository", "metadata": {"name": name}});
        objects.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        set_status(name, json!({"artifact": "latest", "conditions": {"Ready": true}})).await?;
    }
    set_status("a", json!({"observedGeneration": 1})).await?;
    bed.sees(OCI, "a", &found(observed(1))).await?;
    bed.sees(OCI, "odd", &found(observed(-1))).await?;

    // A watch that tells nothing, then two that are refused as too old: the next list has what they missed.
    let proxy = Proxy::before_api_server(&stage.kubeconfig).await?;
    let bed = Bed::start(&stage, &proxy.kubeconfig(&stage.kubeconfig)?, &users).await?;
    bed.sees(OCI, "odd", &found(observed(-1))).await?;
    proxy.silence_watches();
    set_status("a", json!({"observedGeneration": 2})).await?;
    bed.sees(OCI, "a", &found(observed(2))).await?;
    proxy.answer(Matcher::new(Method::GET, "/ocirepositories?&watch=true"), 2, StatusCode::GONE);
    set_status("a", json!({"observedGeneration": 3})).await?;
    bed.sees(OCI, "a", &found(observed(3))).await
}
