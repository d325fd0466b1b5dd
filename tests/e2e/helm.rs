//! The chart, installed by the real Helm, and the operator with the rights and the command line that the chart gives it.

mod documented;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Container, Pod};
use konigle_operator::api::FluxKind;
use kube::api::{Api, PostParams};
use serde_json::Value;

use crate::audit::{Account, Right};
use crate::say;
use crate::shop::Shop;
use crate::support::artifacts::Artifacts;
use crate::support::control_plane::ControlPlane;
use crate::support::flux_source::install_crds;
use crate::support::helm::{Helm, chart, copy_of_chart};
use crate::support::namespace::{deploys, wait_for};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::rights::{ACCOUNT, OPERATOR_NAMESPACE};
use crate::support::run_folder::package;
use crate::support::simulator::Simulator;
use crate::support::stage::STOP_LIMIT;
use crate::support::{Context, Failure, Result};

pub(crate) use documented::documented;

/// The release, as the documents call it.
const RELEASE: &str = "konigle-operator";
const CRD: &str = "koniglespaces.cloud.konigle.com";
/// The field that the older CRD of these flows lacks.
const NEW_FIELD: &str = "historyLimit";
const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// An older version is upgraded with its CRD; the release is removed, and leaves the CRD and the resources; it comes again.
pub(crate) async fn upgrade_from_an_older_crd() -> Result<()> {
    let cluster = Cluster::start().await?;
    let older = older_chart()?;
    cluster.helm("install", &older, &[]).await?;
    say(&format!("installed a chart whose CRD lacks spec.{NEW_FIELD}"));
    let refusal = cluster.apply_with_the_new_field("before").await.err();
    let refusal = refusal.ok_or_else(|| Failure::new("the older CRD knows the field"))?.to_string();
    is_said(&refusal, &format!(".spec.{NEW_FIELD}: field not declared in schema"))?;
    cluster.apply(&resource("kept", false)).await?;
    say("a KonigleSpace without it is applied, one with it is refused");

    cluster.helm("upgrade", &chart(), &[]).await?;
    // The API server takes a moment to serve another schema.
    wait_for("the new field in the CRD", async || Ok(cluster.apply_with_the_new_field("after").await.ok())).await?;
    let space = cluster.kubectl.get(&["kspace", "after", "-n", "default"]).await?;
    is_equal(&space["spec"][NEW_FIELD], &Value::from(5))?;
    say(&format!("helm upgrade: spec.{NEW_FIELD} is stored"));

    cluster.helm_run(&["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE]).await?;
    let left = cluster.kubectl.run(&["get", "kspace", "-A", "-o", "name"]).await?;
    is_equal(&left.lines().count(), &2)?;
    let kinds =
        "deployments,services,serviceaccounts,networkpolicies,roles,rolebindings,clusterroles,clusterrolebindings";
    let objects = cluster.kubectl.run(&["get", kinds, "-A", "-o", "name"]).await?;
    if let Some(object) = objects.lines().find(|object| object.contains(RELEASE)) {
        return Err(Failure::new(format!("helm uninstall left {object}")));
    }
    say("helm uninstall: the CRD and both KonigleSpaces are still there, all else is gone");

    cluster.helm("install", &chart(), &[]).await?;
    say("helm install again: takes its own CRD as it was left");
    cluster.helm("upgrade", &chart(), &["--set", "crds.enabled=false"]).await?;
    cluster.kubectl.run(&["get", "crd", CRD]).await.context("crds.enabled=false took the CRD away")?;
    say("crds.enabled=false afterwards: the CRD stays");
    cluster.helm("upgrade", &chart(), &["--set", "crds.keep=false"]).await?;
    cluster.helm_run(&["uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE]).await?;
    let gone = async || Ok(cluster.kubectl.run(&["get", "crd", CRD]).await.is_err().then_some(()));
    wait_for("the CRD gone", gone).await?;
    say("crds.keep=false: helm uninstall takes the CRD along");
    Ok(())
}

/// A CRD that somebody else installed is taken over with `--take-ownership`, and upgraded by that.
pub(crate) async fn existing_crd_is_taken_over() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.control_plane.install_changed_crd(without_the_new_field).await?;
    cluster.apply(&resource("kept", false)).await?;
    say(&format!("a CRD without spec.{NEW_FIELD}, applied by kubectl, and a KonigleSpace"));
    let refusal = cluster.helm("install", &chart(), &[]).await.err();
    let refusal = refusal.ok_or_else(|| Failure::new("Helm took the CRD over unasked"))?.to_string();
    is_said(&refusal, "invalid ownership metadata")?;
    say("helm install: refused, for the CRD is not the release's");
    cluster.helm("install", &chart(), &["--take-ownership"]).await?;
    wait_for("the new field in the CRD", async || Ok(cluster.apply_with_the_new_field("after").await.ok())).await?;
    cluster.kubectl.run(&["get", "kspace", "kept", "-n", "default"]).await?;
    say(&format!("helm install --take-ownership: spec.{NEW_FIELD} is there, the KonigleSpace too"));
    Ok(())
}

/// The default: all namespaces.
pub(crate) async fn all_namespaces() -> Result<()> {
    let bed = Bed::start().await?;
    bed.install(&[]).await?;
    bed.work_with_the_charts_rights(&bed.two_shops().await?).await
}

/// All namespaces, and Secrets of one name only.
pub(crate) async fn named_secrets() -> Result<()> {
    let bed = Bed::start().await?;
    bed.install(&["--set", "secretNames={konigle}"]).await?;
    bed.work_with_the_charts_rights(&bed.two_shops().await?).await
}

/// One namespace, and no right in the cluster.
pub(crate) async fn one_namespace() -> Result<()> {
    let bed = Bed::start().await?;
    bed.cluster.control_plane.install_crd().await?;
    say("the CRD is there already, as a platform team has it");
    let shop = Shop::open(&bed.cluster.control_plane).await?;
    let namespace = format!("watchNamespace={}", shop.namespace.name());
    bed.install(&["--set", &namespace, "--set", "crds.enabled=false", "--set", "secretNames={konigle}"]).await?;

    let manifest = bed.cluster.helm_run(&["get", "manifest", RELEASE, "--namespace", OPERATOR_NAMESPACE]).await?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).context("reading the release's manifest")?;
    let objects: Vec<&Value> = objects.iter().filter(|object| !object.is_null()).collect();
    if let Some(object) = objects.iter().find(|object| object["metadata"]["namespace"].is_null()) {
        return Err(Failure::new(format!("a cluster-scoped object is installed: {object}")));
    }
    say(&format!("{} objects are installed, none of them cluster-scoped", objects.len()));
    bed.work_with_the_charts_rights(&[shop]).await
}

/// A control plane with Helm, and the namespace of the operator under the standard `restricted`.
struct Cluster {
    control_plane: ControlPlane,
    kubectl: crate::support::kubectl::Kubectl,
    helm: Helm,
}

impl Cluster {
    async fn start() -> Result<Self> {
        let control_plane = ControlPlane::start_audited().await?;
        let (kubectl, helm) = (control_plane.kubectl(), Helm::new(&control_plane.kubeconfig()).await?);
        let namespace = package().join("deploy/default/namespace.yaml").display().to_string();
        kubectl.run(&["apply", "--server-side", "-f", &namespace]).await?;
        Ok(Self { control_plane, kubectl, helm })
    }

    async fn helm_run(&self, arguments: &[&str]) -> Result<String> {
        self.helm.run(arguments).await
    }

    async fn helm(&self, verb: &str, chart: &Path, arguments: &[&str]) -> Result<String> {
        let chart = chart.display().to_string();
        self.helm.run(&[&[verb, RELEASE, &chart, "--namespace", OPERATOR_NAMESPACE], arguments].concat()).await
    }

    async fn apply(&self, resource: &Value) -> Result<String> {
        self.kubectl.apply(&resource.to_string()).await
    }

    async fn apply_with_the_new_field(&self, name: &str) -> Result<String> {
        self.apply(&resource(name, true)).await
    }
}

/// A cluster, and what the operator works with.
struct Bed {
    simulator: Simulator,
    artifacts: Artifacts,
    /// Dropped last: at the end of what the others record the API server is asked once more.
    cluster: Cluster,
}

impl Bed {
    async fn start() -> Result<Self> {
        let (simulator, artifacts) = (Simulator::start(1.0).await?, Artifacts::start().await?);
        Ok(Self { cluster: Cluster::start().await?, simulator, artifacts })
    }

    /// Installs the chart with these values, and those that the simulator needs.
    async fn install(&self, values: &[&str]) -> Result<()> {
        let base_url = format!("config.konigleBaseURL={}", self.simulator.base_url());
        let here = ["--set", &base_url, "--set", "config.allowInsecureArtifacts=true"];
        let settle = ["--set", "config.unknownOutcomeSettle=2s"];
        self.cluster.helm("install", &chart(), &[&here[..], &settle, values].concat()).await?;
        say(&format!("helm install {}", values.join(" ")));
        Ok(())
    }

    /// Shops in two namespaces: what is granted in all of them is needed in more than one.
    async fn two_shops(&self) -> Result<[Shop; 2]> {
        let control_plane = &self.cluster.control_plane;
        Ok([Shop::open(control_plane).await?, Shop::open_another(control_plane, &self.simulator).await?])
    }

    /// Runs the operator as its container would be run, has it do its whole job, and compares the rights that it used with
    /// those that it has.
    async fn work_with_the_charts_rights(&self, shops: &[Shop]) -> Result<()> {
        let client = self.cluster.control_plane.client().await?;
        let deployment = self.deployment().await?;
        self.accept_a_pod(&deployment).await?;
        say("its pod is accepted in a namespace that enforces pod security `restricted`");

        let account = Account { namespace: OPERATOR_NAMESPACE, name: ACCOUNT };
        let granted = account.granted(&client).await?;
        let known = async || Ok(account.may_all(&client, &granted).await?.then_some(()));
        wait_for("all rights known to the API server", known).await?;

        install_crds(&self.cluster.kubectl).await?;
        for shop in shops {
            shop.use_sources().await?;
        }
        let mut operator = self.operator(&deployment).await?;
        for shop in shops {
            shop.live(&self.artifacts).await?;
        }
        wait_for("all of Flux's kinds watched", async || {
            let log = fs::read_to_string(operator.log())?;
            Ok(FluxKind::ALL
                .iter()
                .all(|kind| log.contains(&format!("Flux's {} is listed", kind.word())))
                .then_some(()))
        })
        .await?;
        say("with Flux's CRDs installed, and KonigleSpaces that name each kind of source, it watches these");
        let leases: Api<Lease> = Api::namespaced(client, OPERATOR_NAMESPACE);
        let holder = leases.get(ACCOUNT).await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        is_equal(&holder.as_str(), &POD)?;
        say(&format!("the Lease {OPERATOR_NAMESPACE}/{ACCOUNT} is held by {holder}"));
        operator.terminate(STOP_LIMIT).await?;

        let used = account.used(&self.cluster.control_plane.audit_log())?;
        if !used.forbidden.is_empty() {
            return Err(Failure::new(format!("refused for want of a right: {}", used.forbidden.join(", "))));
        }
        compare(&granted, &used.rights(&granted))?;
        let urls: Vec<&str> = used.urls.iter().map(String::as_str).collect();
        say(&format!("beside these, open to every account: {}", urls.join(", ")));
        let flux = ["/apis/source.toolkit.fluxcd.io", "/apis/source.toolkit.fluxcd.io/v1"];
        is_equal(&urls, &[&flux[..], &["/openapi/v3/apis/cloud.konigle.com/v1alpha1"]].concat())
    }

    async fn deployment(&self) -> Result<Deployment> {
        let client = self.cluster.control_plane.client().await?;
        Ok(Api::namespaced(client, OPERATOR_NAMESPACE).get(RELEASE).await?)
    }

    /// A Deployment is accepted whatever its pods are: only a pod meets the namespace's `restricted`.
    async fn accept_a_pod(&self, deployment: &Deployment) -> Result<()> {
        let template = deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
        pod.metadata.name = Some(POD.to_owned());
        let pods: Api<Pod> = Api::namespaced(self.cluster.control_plane.client().await?, OPERATOR_NAMESPACE);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        pods.create(&dry_run, &pod).await.context("the operator's pod is refused")?;
        Ok(())
    }

    /// The operator with the container's arguments and environment, and a token of its ServiceAccount.
    async fn operator(&self, deployment: &Deployment) -> Result<Operator> {
        let create = ["create", "token", ACCOUNT, "--namespace", OPERATOR_NAMESPACE];
        let token = self.cluster.kubectl.run(&create).await?;
        let kubeconfig: PathBuf =
            self.cluster.control_plane.write_kubeconfig("kubeconfig-operator", token.trim(), OPERATOR_NAMESPACE)?;
        let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let container = spec.and_then(|spec| spec.containers.first()).cloned().unwrap_or_default();
        let arguments = container.args.clone().unwrap_or_default();
        say(&format!("starting the operator as its container would be: {}", arguments.join(" ")));
        let options = OperatorOptions::container(&kubeconfig, arguments, environment(&container)?);
        Operator::start(options).await
    }
}

/// The name of the operator's pod, as a `ReplicaSet` would give it.
const POD: &str = "konigle-operator-5d8f7c6b9-x7k2m";

/// The container's environment, with what the kubelet fills in.
fn environment(container: &Container) -> Result<Vec<(String, String)>> {
    let variables = container.env.iter().flatten().map(|variable| {
        let source = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
        let value = match (variable.value.clone(), source.map(|field| field.field_path.as_str())) {
            (Some(value), _) => value,
            (None, Some("metadata.namespace")) => OPERATOR_NAMESPACE.to_owned(),
            (None, Some("metadata.name")) => POD.to_owned(),
            (None, source) => return Err(Failure::new(format!("{} comes from {source:?}", variable.name))),
        };
        Ok((variable.name.clone(), value))
    });
    variables.collect()
}

/// Says what was granted and used; a failure where the two are not the same.
fn compare(granted: &BTreeSet<Right>, used: &BTreeSet<Right>) -> Result<()> {
    say("rights granted by the rendered roles, and used:");
    for right in granted.union(used) {
        let verdict = match (granted.contains(right), used.contains(right)) {
            (true, true) => "granted, used ",
            (true, false) => "NEVER USED    ",
            (false, _) => "NOT GRANTED   ",
        };
        say(&format!("  {verdict} {right}"));
    }
    if granted == used {
        return Ok(());
    }
    Err(Failure::new("the rights that are granted are not those that are used; the lines above tell which"))
}

/// A KonigleSpace of nobody's Space.
fn resource(name: &str, with_the_new_field: bool) -> Value {
    let mut spec = deploys("7301962442809344000", "https://ci.example.com/shop.zip", DIGEST);
    if with_the_new_field {
        spec[NEW_FIELD] = Value::from(5);
    }
    serde_json::json!({
        "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

fn without_the_new_field(schema: &mut Value) {
    if let Some(fields) = schema["properties"]["spec"]["properties"].as_object_mut() {
        fields.remove(NEW_FIELD);
    }
}

/// The chart, as it would have been before the field was.
fn older_chart() -> Result<PathBuf> {
    let chart = copy_of_chart()?;
    let template = chart.join("templates/crd.yaml");
    let text = fs::read_to_string(&template).context("reading the CRD's template")?;
    let mut older = Vec::new();
    let mut dropped: Option<usize> = None;
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        dropped = dropped.filter(|field| depth > *field);
        if line.trim() == format!("{NEW_FIELD}:") {
            dropped = Some(depth);
        }
        if dropped.is_none() {
            older.push(line);
        }
    }
    if older.len() == text.lines().count() {
        return Err(Failure::new(format!("the chart's CRD has no {NEW_FIELD}")));
    }
    fs::write(&template, older.join("\n") + "\n").context("writing the older CRD's template")?;
    Ok(chart)
}

fn is_said(text: &str, words: &str) -> Result<()> {
    if text.contains(words) { Ok(()) } else { Err(Failure::new(format!("expected {words:?} in: {text}"))) }
}

fn is_equal<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Result<()> {
    if found == expected { Ok(()) } else { Err(Failure::new(format!("expected {expected:?}, found {found:?}"))) }
}
