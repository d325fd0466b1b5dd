//! Flux installs the operator itself, as `deploy/flux/operator.yaml` has it, and removes it again without the CRD.
//!
//! Nothing runs pods here, so its Kustomization waits for the Deployment, and for that alone.

use konigle_operator::api::FluxKind;
use serde_json::{Value, json};

use super::Flux;
use super::kustomization::failure;
use super::source::Source;
use crate::steps::Steps;
use crate::support::namespace::wait_for;
use crate::support::rights::{ACCOUNT, OPERATOR_NAMESPACE, manifest};
use crate::support::run_folder::{copy_folder, package};
use crate::support::{Context, Failure, Result};
use crate::tree::Tree;

const EXAMPLE: &str = "deploy/flux/operator.yaml";
const NAME: &str = "konigle-operator";
const CRD: &str = "koniglespaces.cloud.konigle.com";

pub(super) async fn installed(flux: &Flux) -> Result<()> {
    let steps = Steps::new("operator", flux.began);
    let namespace = flux.stage().namespace.name();
    let tree = Tree::new(namespace, "", NAME)?;
    for folder in ["crds", "deploy/default"] {
        copy_folder(&package().join(folder), &tree.folder.join(folder))?;
    }
    let mut source = Source::create(flux, &manifest(EXAMPLE, "GitRepository", NAME)?, NAME, tree).await?;
    let mut kustomization = manifest(EXAMPLE, "Kustomization", NAME)?;
    kustomization["metadata"]["namespace"] = json!(namespace);
    // The least that Flux takes.
    kustomization["spec"]["timeout"] = json!("30s");
    let kubectl = &flux.stage().kubectl;
    kubectl.apply(&kustomization.to_string()).await?;
    let revision = source.commit(flux).await?;
    let failed = |it: &Value| failure(it, &revision).is_some();
    let object = flux.kustomizations.until(NAME, "failed for want of pods", failed).await?;
    let message = failure(&object, &revision).unwrap_or_default().to_owned();
    let expected = format!("timeout waiting for: [Deployment/{OPERATOR_NAMESPACE}/{NAME} status: 'InProgress']");
    if !message.contains(&expected) {
        return Err(Failure::new(format!("it waited for something else than {expected:?}: {message:?}")));
    }
    let deployment = kubectl.get(&["deployment", NAME, "-n", OPERATOR_NAMESPACE]).await?;
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
    if image != "registry.example.com/konigle-operator:0.1.0" {
        return Err(Failure::new(format!("the image that was named is not in the Deployment, but {image}")));
    }
    may_watch_sources(flux).await?;
    steps.saw(&format!("{EXAMPLE} is applied, with the image that was named; all is well but pods: {message:?}"));
    steps.saw("what it installed may list and watch each kind of Flux's sources, in all namespaces");

    kubectl.run(&["delete", "kustomization", NAME, "-n", namespace]).await?;
    let gone = async || {
        let deployment = kubectl.get(&["deployment", NAME, "-n", OPERATOR_NAMESPACE]).await;
        Ok(deployment.is_err_and(|failure| failure.to_string().contains("not found")).then_some(()))
    };
    wait_for("the operator removed with its Kustomization", gone).await?;
    let crd = kubectl.get(&["crd", CRD]).await?;
    if crd["metadata"]["deletionTimestamp"].is_string() {
        return Err(Failure::new("the CRD is being deleted with the Kustomization"));
    }
    steps.saw("the Kustomization is removed, and the operator with it; the CRD stays");
    Ok(())
}

/// Whether what Flux installed lets the operator see the sources that a KonigleSpace may name.
async fn may_watch_sources(flux: &Flux) -> Result<()> {
    let account = format!("--as=system:serviceaccount:{OPERATOR_NAMESPACE}:{ACCOUNT}");
    for kind in FluxKind::ALL {
        for verb in ["list", "watch"] {
            let resource = format!("{}.source.toolkit.fluxcd.io", kind.word().to_lowercase());
            let asked = ["auth", "can-i", verb, &resource, "--all-namespaces", &account];
            flux.stage().kubectl.run(&asked).await.context(format!("{ACCOUNT} may not {verb} {resource}"))?;
        }
    }
    Ok(())
}
