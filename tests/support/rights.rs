//! Accounts with exactly the rights that `deploy/default` gives to the operator.
//!
//! Tests run the operator with it, so that a right which is missing there fails a test here.

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Resource;
use kube::api::{Api, Patch, PatchParams, PostParams, ValidationDirective};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::namespace::{Namespace, wait_for};
use super::run_folder::package;
use super::{Context, Failure, Result};

/// The name of the operator's account and roles.
pub(crate) const ACCOUNT: &str = "konigle-operator";
/// The namespace of the cluster-wide installation.
pub(crate) const OPERATOR_NAMESPACE: &str = "konigle-system";
/// The cluster-wide installation, CRD and namespace included, for `kubectl apply -k`.
pub(crate) const INSTALL: &str = "deploy/default";
/// The objects of it, without the CRD and the namespace.
pub(crate) const INSTALLED: &str = "deploy/default/operator.yaml";
/// The name of the Role for the Lease.
const LEADER_ELECTION: &str = "konigle-operator-leader-election";

/// All objects of a manifest file of the package.
pub(crate) fn manifests(path: &str) -> Result<Vec<Value>> {
    let reading = || format!("reading {path}");
    let text = fs::read_to_string(package().join(path)).context(reading())?;
    serde_saphyr::from_multiple(&text).context(reading())
}

/// The one object of this kind and name in a manifest file.
pub(crate) fn manifest(path: &str, kind: &str, name: &str) -> Result<Value> {
    let found =
        manifests(path)?.into_iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.ok_or_else(|| Failure::new(format!("{path} has no {kind} {name}")))
}

/// Applies the cluster-wide installation, as people do, and waits until its resources are served; the kubeconfig file of
/// its account.
pub(crate) async fn install(control_plane: &ControlPlane) -> Result<PathBuf> {
    let manifests = package().join(INSTALL).display().to_string();
    let kubectl = control_plane.kubectl();
    kubectl.run(&["apply", "--server-side", "-k", &manifests]).await?;
    // A new kind is in the API server's discovery, its short name too, a moment after it is established.
    wait_for("kspace known to kubectl", async || Ok(kubectl.run(&["get", "kspace"]).await.ok())).await?;
    installed_account(control_plane).await
}

/// The account of the cluster-wide installation, once `deploy/default` is applied; its kubeconfig file.
pub(crate) async fn installed_account(control_plane: &ControlPlane) -> Result<PathBuf> {
    let client = control_plane.client().await?;
    account_kubeconfig(control_plane, &Api::namespaced(client, OPERATOR_NAMESPACE), OPERATOR_NAMESPACE).await
}

/// Gives the operator's account in this namespace the rights of the cluster-wide installation there, and nothing
/// elsewhere; the kubeconfig file of that account.
pub(crate) async fn operator_account(control_plane: &ControlPlane, namespace: &Namespace) -> Result<PathBuf> {
    let rules_of = |kind, name| {
        Ok::<_, Failure>(manifest(INSTALLED, kind, name)?["rules"].as_array().cloned().unwrap_or_default())
    };
    let mut rules = rules_of("ClusterRole", ACCOUNT)?;
    rules.extend(rules_of("Role", LEADER_ELECTION)?);
    let name = namespace.name();
    let metadata = json!({"name": ACCOUNT});
    let group = "rbac.authorization.k8s.io";
    apply::<ServiceAccount>(namespace, &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}))
        .await?;
    let api_version = format!("{group}/v1");
    let role = json!({"apiVersion": api_version, "kind": "Role", "metadata": metadata, "rules": rules});
    apply::<Role>(namespace, &role).await?;
    let binding = json!({
        "apiVersion": api_version, "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": group, "kind": "Role", "name": ACCOUNT},
        "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": name}],
    });
    apply::<RoleBinding>(namespace, &binding).await?;
    account_kubeconfig(control_plane, &namespace.api(), name).await
}

/// Not by kubectl: a process for each test of many takes longer than all else that its namespace needs.
async fn apply<K>(namespace: &Namespace, object: &Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    K::DynamicType: Default,
{
    let params = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply("test") };
    let applied = namespace.api::<K>().patch(ACCOUNT, &params, &Patch::Apply(object)).await;
    applied.map(drop).context(format!("applying {}", object["kind"]))
}

async fn account_kubeconfig(
    control_plane: &ControlPlane,
    accounts: &Api<ServiceAccount>,
    namespace: &str,
) -> Result<PathBuf> {
    let request = accounts.create_token_request(ACCOUNT, &PostParams::default(), &TokenRequest::default()).await;
    let granted = request.context("asking for the operator's token")?.status;
    let token = granted.ok_or_else(|| Failure::new("the API server gave no token"))?.token;
    control_plane.write_kubeconfig(&format!("kubeconfig-{namespace}"), &token, namespace)
}
