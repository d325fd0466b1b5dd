//! The manifests against a real API server: what people install, who may do what, and what is refused with which words.

mod approval;
mod image;
mod origins;

use std::collections::BTreeSet;

use axum::http::Request;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, deploys, promotes, wait_for};
use crate::support::rights::{ACCOUNT, INSTALL, INSTALLED, OPERATOR_NAMESPACE, manifest, manifests};
use crate::support::run_folder::package;
use crate::support::{Context, Result};

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const CRD: &str = "crds/koniglespaces.cloud.konigle.com.yaml";

#[test]
fn the_crd_file_is_what_the_code_says() -> Result<()> {
    let code = serde_json::to_value(konigle_operator::api::crd())?;
    assert_eq!(manifests(CRD)?, [code], "run `make generate`");
    Ok(())
}

#[tokio::test]
async fn what_is_installed_is_accepted_without_a_warning() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let kubectl = control_plane.kubectl();
    let (output, warnings) = kubectl.run_with_warnings(&["apply", "--server-side", "-k", &file(INSTALL)]).await?;
    assert_eq!(warnings, "", "kubectl apply warned");
    assert!(output.contains("deployment.apps/konigle-operator"), "{output}");

    // The CRD by itself, for an upgrade: the folder holds a Kustomization too, which is none of these objects.
    let crds = kubectl.run(&["apply", "--server-side", "--dry-run=server", "-f", &file("crds/")]).await?;
    assert_eq!(crds.lines().count(), 1, "{crds}");

    // A Deployment is accepted whatever its pods are: only a pod meets the namespace's `restricted`.
    let deployment = manifest(INSTALLED, "Deployment", ACCOUNT)?;
    let mut pod = deployment["spec"]["template"].clone();
    pod["metadata"]["name"] = json!("operator");
    let pods: Api<Pod> = Api::namespaced(control_plane.client().await?, OPERATOR_NAMESPACE);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    pods.create(&dry_run, &serde_json::from_value(pod)?).await.context("the operator's pod is refused")?;
    Ok(())
}

#[tokio::test]
async fn the_operator_may_do_what_it_needs_and_no_more() -> Result<()> {
    const EVERYWHERE: &[(&str, &str, &str)] = &[
        ("get", "cloud.konigle.com", "koniglespaces"),
        ("list", "cloud.konigle.com", "koniglespaces"),
        ("watch", "cloud.konigle.com", "koniglespaces"),
        ("patch", "cloud.konigle.com", "koniglespaces"),
        ("patch", "cloud.konigle.com", "koniglespaces/status"),
        ("get", "", "secrets"),
        ("create", "events.k8s.io", "events"),
        ("list", "source.toolkit.fluxcd.io", "gitrepositories"),
        ("watch", "source.toolkit.fluxcd.io", "gitrepositories"),
        ("list", "source.toolkit.fluxcd.io", "ocirepositories"),
        ("watch", "source.toolkit.fluxcd.io", "ocirepositories"),
        ("list", "source.toolkit.fluxcd.io", "buckets"),
        ("watch", "source.toolkit.fluxcd.io", "buckets"),
        ("list", "source.toolkit.fluxcd.io", "externalartifacts"),
        ("watch", "source.toolkit.fluxcd.io", "externalartifacts"),
    ];
    const NOWHERE: &[(&str, &str, &str)] = &[
        ("list", "", "secrets"),
        ("watch", "", "secrets"),
        ("update", "", "secrets"),
        ("create", "cloud.konigle.com", "koniglespaces"),
        ("update", "cloud.konigle.com", "koniglespaces"),
        ("delete", "cloud.konigle.com", "koniglespaces"),
        ("update", "cloud.konigle.com", "koniglespaces/status"),
        ("patch", "events.k8s.io", "events"),
        ("patch", "source.toolkit.fluxcd.io", "gitrepositories"),
        ("list", "source.toolkit.fluxcd.io", "helmrepositories"),
        ("get", "coordination.k8s.io", "leases"), // of any name
        ("create", "", "pods"),
        ("get", "", "configmaps"),
        ("get", "apiextensions.k8s.io", "customresourcedefinitions"),
    ];
    const LEASE: (&str, &str, &str) = ("create", "coordination.k8s.io", "leases");

    let control_plane = ControlPlane::shared().await?;
    let client = control_plane.client().await?;
    control_plane.kubectl().run(&["apply", "--server-side", "-k", &file(INSTALL)]).await?;
    // The authoriser hears of new roles a moment later.
    for (namespace, actions) in [("default", EVERYWHERE), (OPERATOR_NAMESPACE, &[LEASE])] {
        for action in actions {
            let granted = async || Ok(is_allowed(&client, namespace, *action).await?.then_some(()));
            wait_for(&format!("allowed to {action:?} in {namespace}"), granted).await?;
        }
    }
    assert!(!is_allowed(&client, "default", LEASE).await?, "leases are for its own namespace");
    for action in NOWHERE {
        for namespace in ["default", OPERATOR_NAMESPACE] {
            assert!(!is_allowed(&client, namespace, *action).await?, "{action:?} is allowed in {namespace}");
        }
    }
    Ok(())
}

#[test]
fn editors_cannot_write_what_the_operator_remembers() -> Result<()> {
    for object in manifests(INSTALLED)?.iter().filter(|object| object["kind"] == "ClusterRole") {
        if object["metadata"]["name"] == ACCOUNT {
            continue;
        }
        let rules = object["rules"].to_string();
        assert!(!rules.contains("status") && !rules.contains('*'), "{}: {rules}", object["metadata"]["name"]);
    }
    Ok(())
}

/// One manifest and what the API server says to it.
struct Case {
    /// What is merged into the spec of a good manifest; null removes.
    change: Value,
    /// What the refusal must say; nothing when it is accepted.
    refusal: Option<&'static str>,
    because: &'static str,
}

fn accepted(because: &'static str, change: Value) -> Case {
    Case { change, refusal: None, because }
}

fn refused(because: &'static str, change: Value, refusal: &'static str) -> Case {
    Case { change, refusal: Some(refusal), because }
}

#[tokio::test]
async fn a_bad_deploy_is_refused_with_what_to_write_instead() -> Result<()> {
    let by_names = json!({"id": null, "computer": "web-1", "webapp": "shop", "type": "uat"});
    let mut production = by_names.clone();
    production["type"] = json!("production");
    let names_without_type = json!({"id": null, "computer": "web-1", "webapp": "shop"});
    let http = |change: Value| json!({"source": {"http": change}});
    let digest_help = "write spec.source.http.digest as sha256: and the 64 lower-case hexadecimal digits";
    let url_help = "write spec.source.http.url as https://host/path";
    let interval_help = "write spec.interval as a duration from 30s to 24h";
    let timeout_help = "write spec.timeout as a duration from 1s to 24h";
    let space_help = "write either spec.space.id, or all of";
    check(
        deploys("7301962442809344000", "https://ci.example.com/shop.zip", DIGEST),
        &[
            accepted("the example of the README", json!({})),
            accepted("names instead of the id", json!({"space": by_names})),
            accepted("a query in the URL", http(json!({"url": "https://ci.example.com:8443/shop.zip?job=7&x=@"}))),
            accepted("plain http, which the operator judges", http(json!({"url": "http://127.0.0.1:8080/shop.zip"}))),
            accepted("a compound duration", json!({"interval": "1h30m", "timeout": "90s"})),
            accepted("drift is repaired", json!({"driftPolicy": "Redeploy"})),
            accepted("all the rest", json!({"suspend": true, "historyLimit": 20, "retry": {"limit": 10}})),
            refused("no Space", json!({"space": {"id": null}}), space_help),
            refused("two forms at once", json!({"space": {"computer": "web-1"}}), space_help),
            refused("half of the names", json!({"space": names_without_type}), space_help),
            refused(
                "an id with a slash",
                json!({"space": {"id": "../7"}}),
                "write spec.space.id as Konigle Cloud shows it",
            ),
            refused(
                "an id as a number",
                json!({"space": {"id": 7_301_962_442_809_344_000_i64}}),
                "must be of type string",
            ),
            refused("deploying to production", json!({"space": production}), "artifacts are deployed to uat"),
            refused("neither source nor promotion", json!({"source": null}), "write exactly one of spec.source"),
            refused(
                "both source and promotion",
                json!({"promotion": {"from": {"name": "other"}}}),
                "write exactly one of spec.source",
            ),
            refused("no digest", http(json!({"digest": null})), "spec.source.http.digest: Required value"),
            refused("a digest without its algorithm", http(json!({"digest": &DIGEST[7..]})), digest_help),
            refused("an upper-case digest", http(json!({"digest": DIGEST.to_uppercase()})), digest_help),
            refused("a short digest", http(json!({"digest": &DIGEST[..70]})), digest_help),
            refused("a digest with a line break", http(json!({"digest": format!("{DIGEST}\n")})), digest_help),
            refused("a password in the URL", http(json!({"url": "https://ci:pw@ci.example.com/shop.zip"})), url_help),
            refused("another scheme", http(json!({"url": "ftp://ci.example.com/shop.zip"})), url_help),
            refused("a path", http(json!({"url": "/shop.zip"})), url_help),
            refused("an interval under the floor", json!({"interval": "10s"}), interval_help),
            refused("an interval over the ceiling", json!({"interval": "25h"}), interval_help),
            refused("an interval without unit", json!({"interval": "300"}), interval_help),
            refused("a negative time-out", json!({"timeout": "-5m"}), timeout_help),
            refused("a word as time-out", json!({"timeout": "soon"}), timeout_help),
            refused("no attempt at all", json!({"retry": {"limit": 0}}), "spec.retry.limit"),
            refused("too long a history", json!({"historyLimit": 21}), "spec.historyLimit"),
            refused("an unknown policy", json!({"driftPolicy": "Repair"}), "Unsupported value: \"Repair\""),
            refused("a misspelt field", json!({"intervall": "5m"}), "unknown field \"spec.intervall\""),
            refused("a word for a switch", json!({"suspend": "no"}), "must be of type boolean"),
            refused("a fraction of an attempt", json!({"retry": {"limit": 1.5}}), "must be of type int32"),
            refused("a text for a number", json!({"retry": {"limit": "3"}}), "must be of type integer"),
            refused("a switch for a number", json!({"retry": {"limit": true}}), "must be of type int32"),
            refused("a number for a switch", json!({"suspend": 1}), "must be of type boolean"),
            refused("a list for an object", json!({"source": []}), "must be of type object"),
            refused("no name for the Secret", json!({"credentials": {"secretRef": {"name": ""}}}), "at least 1 chars"),
            refused("too long a revision", http(json!({"revision": "x".repeat(129)})), "Too long"),
            refused("two things at once", json!({"interval": "1s", "historyLimit": 0}), interval_help),
            refused("no credentials", json!({"credentials": null}), "spec.credentials: Required value"),
        ],
    )
    .await
}

#[tokio::test]
async fn a_bad_promotion_is_refused_with_what_to_write_instead() -> Result<()> {
    let promotion = |change: Value| json!({"promotion": change});
    let uat = json!({"id": null, "computer": "web-1", "webapp": "shop", "type": "uat"});
    check(
        promotes("7301962442809344001", "shop-uat"),
        &[
            accepted("nothing approved yet", json!({})),
            accepted("an approval", promotion(json!({"approvedDigest": DIGEST}))),
            accepted("whatever uat confirms", promotion(json!({"policy": "Automatic"}))),
            accepted("drift is left alone", json!({"driftPolicy": "Ignore"})),
            refused(
                "an approval that nobody reads",
                promotion(json!({"policy": "Automatic", "approvedDigest": DIGEST})),
                "spec.promotion.approvedDigest is for policy Manual",
            ),
            refused(
                "a shortened digest",
                promotion(json!({"approvedDigest": "sha256:9f86d081884c"})),
                "write spec.promotion.approvedDigest as sha256:",
            ),
            refused("promoting to uat", json!({"space": uat}), "write spec.source with spec.space.type uat"),
            refused(
                "repairing drift in production",
                json!({"driftPolicy": "Redeploy"}),
                "spec.driftPolicy: Redeploy cannot be used with spec.promotion",
            ),
            refused(
                "a reference across namespaces",
                promotion(json!({"from": {"name": "shop-uat", "namespace": "other"}})),
                "unknown field \"spec.promotion.from.namespace\"",
            ),
        ],
    )
    .await
}

#[tokio::test]
async fn a_resource_cannot_be_turned_to_another_space() -> Result<()> {
    let namespace = Namespace::create(ControlPlane::shared().await?, "immutable").await?;
    let by_id = deploys("7301962442809344000", "https://ci.example.com/shop.zip", DIGEST);
    namespace.apply("shop-uat", &by_id).await?;
    let space_help = "spec.space cannot be changed";
    let names = json!({"id": null, "computer": "web-1", "webapp": "shop", "type": "uat"});
    let table = [
        refused("another id", json!({"space": {"id": "7301962442809344001"}}), space_help),
        refused("the id as names", json!({"space": names}), space_help),
        refused(
            "from source to promotion",
            json!({"source": null, "promotion": {"from": {"name": "other"}}}),
            "spec.source and spec.promotion cannot be exchanged",
        ),
        accepted("another artifact", json!({"source": {"http": {"revision": "v2"}}})),
        accepted("another interval", json!({"interval": "1m"})),
    ];
    for case in &table {
        let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
        let change = json!({"spec": case.change});
        judge(case, namespace.spaces().patch("shop-uat", &parameters, &Patch::Merge(&change)).await.err());
    }
    Ok(())
}

#[tokio::test]
async fn names_longer_than_events_allow_are_refused() -> Result<()> {
    let client = ControlPlane::shared().await?.client().await?;
    let spec = deploys("7", "https://ci.example.com/shop.zip", DIGEST);
    let fits = accepted("the longest name", json!({}));
    judge(&fits, create(&client, &"x".repeat(200), &spec).await);
    let long = refused("a longer one", json!({}), "metadata.name: use at most 200 characters");
    judge(&long, create(&client, &"x".repeat(201), &spec).await);
    for name in ["x".repeat(201).as_str(), "Shop", "shop_uat", "-shop", ""] {
        let refusal = create(&client, name, &spec).await;
        assert_eq!(
            said_offline(name, &spec),
            said(refusal.as_ref()),
            "{name}: `kubectl konigle validate`, then the API server"
        );
    }
    Ok(())
}

/// A rule that another mistake breaks too would send people to the wrong field.
#[tokio::test]
async fn a_missing_source_breaks_one_rule_only() -> Result<()> {
    let client = ControlPlane::shared().await?.client().await?;
    let mut spec = deploys("7", "https://ci.example.com/shop.zip", DIGEST);
    let names = json!({"id": null, "computer": "web-1", "webapp": "shop", "type": "uat"});
    json_patch::merge(&mut spec, &json!({"source": null, "space": names}));
    let text = create(&client, "shop", &spec).await.map(|error| error.to_string()).unwrap_or_default();
    assert!(
        text.contains("write exactly one of spec.source") && !text.contains("artifacts are deployed to uat"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn a_new_resource_has_not_been_observed() -> Result<()> {
    let namespace = Namespace::create(ControlPlane::shared().await?, "unobserved").await?;
    let spec = deploys("7", "https://ci.example.com/shop.zip", DIGEST);
    let space = namespace.apply("shop-uat", &spec).await?;
    assert_eq!(space.status.map(|status| status.observed_generation), Some(-1), "else kstatus calls it Current");
    Ok(())
}

/// Creates, without keeping it, each changed form of a good spec.
async fn check(good: Value, table: &[Case]) -> Result<()> {
    let client = ControlPlane::shared().await?.client().await?;
    for case in table {
        let mut spec = good.clone();
        json_patch::merge(&mut spec, &case.change);
        let refusal = create(&client, "shop", &spec).await;
        let (offline, live) = (said_offline("shop", &spec), said(refusal.as_ref()));
        assert_eq!(offline, live, "{}: `kubectl konigle validate`, then the API server", case.because);
        judge(case, refusal);
    }
    Ok(())
}

/// What `kubectl konigle validate` says, without a cluster.
fn said_offline(name: &str, spec: &Value) -> BTreeSet<String> {
    konigle_operator::plugin::schema::faults(&resource(name, spec)).iter().map(ToString::to_string).collect()
}

/// What the API server says: of fields that nobody declared alone, or of all causes.
fn said(refusal: Option<&kube::Error>) -> BTreeSet<String> {
    let Some(kube::Error::Api(status)) = refusal else { return BTreeSet::new() };
    if let Some((_, unknown)) = status.message.split_once("strict decoding error: ") {
        return unknown.split(", ").map(str::to_owned).collect();
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn judge(case: &Case, refusal: Option<kube::Error>) {
    match (case.refusal, refusal.map(|error| error.to_string())) {
        (None, None) => {}
        (Some(words), Some(text)) if text.contains(words) => {}
        (expected, answer) => panic!("{}: expected {expected:?}, the API server said {answer:?}", case.because),
    }
}

/// What the API server says to the creation of a KonigleSpace, as kubectl asks for it; nothing is kept.
async fn create(client: &Client, name: &str, spec: &Value) -> Option<kube::Error> {
    // Untyped, for half of these do not parse as the resource's own type; by hand, for no client offers the validation.
    let space = resource(name, spec);
    let request = Request::post(
        "/apis/cloud.konigle.com/v1alpha1/namespaces/default/koniglespaces?dryRun=All&fieldValidation=Strict",
    )
    .header("Content-Type", "application/json")
    .body(space.to_string().into_bytes())
    .expect("a request");
    client.request::<Value>(request).await.err()
}

fn resource(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "metadata": {"name": name}, "spec": spec})
}

/// Whether the operator's account of the namespace `rights` may do this in a namespace.
async fn is_allowed(client: &Client, namespace: &str, action: (&str, &str, &str)) -> Result<bool> {
    let (verb, group, resource) = action;
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
        "spec": {
            "user": format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{ACCOUNT}"),
            "groups": ["system:authenticated", "system:serviceaccounts"],
            "resourceAttributes": {
                "namespace": namespace, "verb": verb, "group": group, "resource": resource, "subresource": subresource,
            },
        },
    });
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// A file of the package, as kubectl takes it.
fn file(path: &str) -> String {
    package().join(path).display().to_string()
}
