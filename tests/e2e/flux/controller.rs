//! The real kustomize-controller as a process.

use std::process::Command;

use crate::cluster::Cluster;
use crate::go_module::install_crds;
use crate::support::flux_source;
use crate::support::parts::part;
use crate::support::process::{Process, free_port};
use crate::support::run_folder::new_folder;
use crate::support::{Result, http_client};

const PART: &str = "kustomize-controller";
const CRDS: &str = "config/crd/bases";

/// Installs the CRDs, starts it, and waits until it is ready.
pub(super) async fn start(cluster: &Cluster) -> Result<Process> {
    let kubectl = cluster.control_plane.kubectl();
    install_crds(&kubectl, PART, "github.com/fluxcd/kustomize-controller", CRDS).await?;
    // Of the same release of Flux.
    flux_source::install_crds(&kubectl).await?;
    let folder = new_folder(PART)?;
    let (metrics, health) = (free_port()?, free_port()?);
    let mut command = Command::new(part(PART)?);
    command
        .arg(format!("--metrics-addr=127.0.0.1:{metrics}"))
        .arg(format!("--health-addr=127.0.0.1:{health}"))
        // Each Kustomization that waits keeps one of them busy; four are too few for so many scenes at once.
        .args(["--watch-all-namespaces", "--concurrent=20"])
        .env("KUBECONFIG", cluster.control_plane.kubeconfig())
        .env("TMPDIR", &folder);
    let mut process = Process::start(PART, command, &folder.join("kustomize-controller.log"))?;
    let readyz = format!("http://127.0.0.1:{health}/readyz");
    let http = http_client()?;
    process
        .until_ready("ready", async || http.get(&readyz).send().await.is_ok_and(|reply| reply.status().is_success()))
        .await?;
    Ok(process)
}
