//! Argo CD installs the operator itself, as `deploy/argocd/operator.yaml` has it, and never takes its CRD away.
//!
//! Nothing runs pods here, so the application is Synced, and Progressing for its Deployment.

use std::fs;

use serde_json::{Value, json};

use super::Argo;
use super::application::git;
use super::programs::NAMESPACE;
use crate::steps::Steps;
use crate::support::helm::CHART;
use crate::support::namespace::wait_for;
use crate::support::rights::{OPERATOR_NAMESPACE, manifest};
use crate::support::run_folder::{copy_folder, package};
use crate::support::{Context, Failure, Result};

const EXAMPLE: &str = "deploy/argocd/operator.yaml";
const NAME: &str = "konigle-operator";
const CRD: &str = "koniglespaces.cloud.konigle.com";

pub(super) async fn installed(argo: &Argo) -> Result<()> {
    let steps = Steps::new("operator", argo.began);
    let repository = argo.programs.repositories.join(NAME);
    copy_folder(&package().join(CHART), &repository.join(CHART)).context("copying the chart")?;
    fs::write(repository.join("README.md"), "the chart\n").context("writing into the repository")?;
    git(&repository, &["init", "--quiet", "--initial-branch=main"])?;
    git(&repository, &["add", "--all"])?;
    git(&repository, &["commit", "--quiet", "--message=The chart"])?;
    let mut application = manifest(EXAMPLE, "Application", NAME)?;
    application["spec"]["source"]["repoURL"] = json!(argo.programs.repository_url(NAME));
    application["spec"]["source"]["targetRevision"] = json!("main");
    let kubectl = &argo.stage().kubectl;
    kubectl.apply(&application.to_string()).await?;

    let is_synced = |it: &Value| it["status"]["sync"]["status"] == "Synced" && is_done(it);
    let shown = argo.applications.until(NAME, "synced", is_synced).await?;
    let resources = shown["status"]["resources"].as_array().cloned().unwrap_or_default();
    let unwell: Vec<&Value> = resources.iter().filter(|it| it["status"] != "Synced").collect();
    if !unwell.is_empty() || !lists_the_crd(&shown) {
        return Err(Failure::new(format!("not all is as the chart has it: {resources:?}")));
    }
    let deployment = kubectl.get(&["deployment", NAME, "-n", OPERATOR_NAMESPACE]).await?;
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    if image != "registry.example.com/konigle-operator:0.1.0" {
        return Err(Failure::new(format!("the image that was named is not in the Deployment, but {image}")));
    }
    let namespace = kubectl.get(&["namespace", OPERATOR_NAMESPACE]).await?;
    if namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted" {
        return Err(Failure::new(format!("the namespace lacks its label: {}", namespace["metadata"])));
    }
    steps
        .saw(&format!("{EXAMPLE}: {} objects of the chart are Synced, with the image that was named", resources.len()));

    let without_crd = json!({"spec": {"source": {"helm": {"valuesObject": {"crds": {"enabled": false}}}}}});
    kubectl.run(&patch(&without_crd.to_string())).await?;
    let is_without = |it: &Value| {
        let compared = &it["status"]["sync"]["comparedTo"]["source"]["helm"]["valuesObject"];
        compared["crds"]["enabled"] == false && is_synced(it) && !lists_the_crd(it)
    };
    argo.applications.until(NAME, "synced without the CRD", is_without).await?;
    crd_stays(argo).await?;
    steps.saw("crds.enabled: false: the application no longer has the CRD, and leaves it");

    let finalizer = json!({"metadata": {"finalizers": ["resources-finalizer.argocd.argoproj.io"]}});
    kubectl.run(&patch(&finalizer.to_string())).await?;
    kubectl.run(&["-n", NAMESPACE, "delete", "application", NAME]).await?;
    let gone = async || {
        let deployment = kubectl.get(&["deployment", NAME, "-n", OPERATOR_NAMESPACE]).await;
        Ok(deployment.is_err_and(|failure| failure.to_string().contains("not found")).then_some(()))
    };
    wait_for("the operator removed with its application", gone).await?;
    crd_stays(argo).await?;
    steps.saw("deleted with Argo CD's finalizer: the operator is gone, the CRD stays");
    Ok(())
}

/// The arguments of kubectl that change the application.
fn patch(change: &str) -> [&str; 8] {
    ["-n", NAMESPACE, "patch", "application", NAME, "--type=merge", "-p", change]
}

/// Whether the last sync of an application is over, well.
fn is_done(application: &Value) -> bool {
    application["status"]["operationState"]["phase"] == "Succeeded" && application["operation"].is_null()
}

fn lists_the_crd(application: &Value) -> bool {
    let resources = application["status"]["resources"].as_array();
    resources.is_some_and(|all| all.iter().any(|it| it["kind"] == "CustomResourceDefinition"))
}

async fn crd_stays(argo: &Argo) -> Result<()> {
    let crd = argo.stage().kubectl.get(&["crd", CRD]).await?;
    if crd["metadata"]["deletionTimestamp"].is_string() {
        return Err(Failure::new("Argo CD deletes the CRD"));
    }
    Ok(())
}
