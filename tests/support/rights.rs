//! Accounts with exactly the rights that `deploy/install.yaml` gives to the operator.
//!
//! Tests run the operator with it, so that a right which is missing there fails a test here.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::namespace::Namespace;
use super::run_folder::package;
use super::{Context, Failure, Result};

/// The name of the operator's account and roles.
pub(crate) const ACCOUNT: &str = "konigle-operator";
/// The namespace of the cluster-wide installation.
pub(crate) const OPERATOR_NAMESPACE: &str = "konigle-system";
/// The cluster-wide installation, without the CRD.
pub(crate) const INSTALL: &str = "deploy/install.yaml";

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

/// The account of the cluster-wide installation, once `deploy/install.yaml` is applied; its kubeconfig file.
pub(crate) async fn installed_account(control_plane: &ControlPlane) -> Result<PathBuf> {
    let client = control_plane.client().await?;
    account_kubeconfig(control_plane, &Api::namespaced(client, OPERATOR_NAMESPACE), OPERATOR_NAMESPACE).await
}

/// Gives the operator's account in this namespace the rights of the cluster-wide installation there, and nothing
/// elsewhere; the kubeconfig file of that account.
pub(crate) async fn operator_account(control_plane: &ControlPlane, namespace: &Namespace) -> Result<PathBuf> {
    let mut rules = manifest(INSTALL, "ClusterRole", ACCOUNT)?["rules"].as_array().cloned().unwrap_or_default();
    rules.extend(manifest(INSTALL, "Role", ACCOUNT)?["rules"].as_array().cloned().unwrap_or_default());
    let name = namespace.name();
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": ACCOUNT, "namespace": name});
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": name}],
        },
    ]});
    control_plane.kubectl().apply(&objects.to_string()).await?;
    account_kubeconfig(control_plane, &namespace.api(), name).await
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
