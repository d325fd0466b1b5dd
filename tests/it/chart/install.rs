//! One install by the real Helm on the real API server: every object is accepted, and so is the pod.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::helm::{Helm, chart};
use crate::support::namespace::Namespace;
use crate::support::{Context, Result};

#[tokio::test]
async fn the_chart_is_installed_changed_and_removed() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let namespace = Namespace::create(control_plane, "chart").await?;
    let name = namespace.name();
    let restricted = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(control_plane.client().await?);
    namespaces.patch(name, &PatchParams::default(), &Patch::Merge(restricted)).await?;

    // The CRD is the shared control plane's.
    let helm = Helm::new(&control_plane.kubeconfig()).await?;
    let chart_folder = chart();
    let folder = chart_folder.display().to_string();
    let release = [name, &folder, "--namespace", name, "--set", "crds.enabled=false"];
    let notes = helm.run(&[&["install"], &release[..]].concat()).await?;
    assert!(notes.contains(&format!("kubectl -n {name} rollout status deployment/{name}-konigle-operator")), "{notes}");
    let deployment_name = format!("{name}-konigle-operator");
    create_pod(&namespace, &deployment_name).await.context("the pod of the default values")?;

    // All values at once, but for kinds that this cluster does not have, and a base that the strict standard takes.
    let all = chart_folder.join("ci/all-values.yaml").display().to_string();
    let set = format!("watchNamespace={name},leaderElection.leaseNamespace={name},fullnameOverride={deployment_name}");
    let kinds =
        "serviceMonitor.enabled=false,prometheusRule.enabled=false,grafanaDashboard.enabled=false,nameOverride=";
    let upgrade =
        [&["upgrade"], &release[..], &["--values", &all, "--set", &set, "--set", kinds, "--set", "crds.enabled=false"]];
    helm.run(&upgrade.concat()).await.context("all values at once")?;
    create_pod(&namespace, &deployment_name).await.context("the pod of all values")?;

    helm.run(&["uninstall", name, "--namespace", name]).await?;
    let left = namespace.api::<Deployment>().get_opt(&deployment_name).await?;
    assert!(left.is_none(), "the Deployment is still there");
    assert!(namespace.api::<ServiceAccount>().get_opt(&deployment_name).await?.is_none());
    Ok(())
}

/// A Deployment is accepted whatever its pods are: only a pod meets the namespace's `restricted`.
async fn create_pod(namespace: &Namespace, deployment: &str) -> Result<()> {
    let deployment = namespace.api::<Deployment>().get(deployment).await?;
    let template = deployment.spec.map(|spec| spec.template).unwrap_or_default();
    let mut pod = Pod { metadata: template.metadata.unwrap_or_default(), spec: template.spec, status: None };
    pod.metadata.name = Some("operator".to_owned());
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    namespace.api::<Pod>().create(&dry_run, &pod).await?;
    Ok(())
}
