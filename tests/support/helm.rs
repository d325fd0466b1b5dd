//! The real Helm, as people run it, and this project's chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::parts::part;
use super::run_folder::{copy_folder, new_folder, package};
use super::{Context, Failure, Result};

/// The chart, in the package.
pub(crate) const CHART: &str = "charts/konigle-operator";
/// What Helm takes a cluster for that it does not ask.
const KUBERNETES: &str = "1.30";

/// Helm, with a home of its own.
pub(crate) struct Helm {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    /// Helm for the cluster of this kubeconfig file, with the account that it holds.
    pub(crate) async fn new(kubeconfig: &Path) -> Result<Self> {
        let program = tokio::task::spawn_blocking(|| part("helm")).await??;
        Ok(Self { program, home: new_folder("helm")?, kubeconfig: kubeconfig.to_owned() })
    }

    /// Helm without a cluster, for what it renders.
    pub(crate) async fn offline() -> Result<Self> {
        Self::new(Path::new("/dev/null")).await
    }

    /// Its output; a failure holds what it wrote to its error output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).stdin(Stdio::null());
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(folder, &self.home);
        }
        let running = || format!("helm {}", arguments.join(" "));
        let output = tokio::task::spawn_blocking(move || command.output()).await?.context(running())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Failure::new(format!("{} failed: {}", running(), String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// The objects of a chart that a release `konigle-operator` in the namespace `konigle-system` would have.
    pub(crate) async fn template(&self, chart: &Path, arguments: &[&str]) -> Result<Vec<Value>> {
        let chart = chart.display().to_string();
        let template = ["template", "konigle-operator", &chart, "--kube-version", KUBERNETES];
        let text = self.run(&[&template[..], &["--namespace", "konigle-system"], arguments].concat()).await?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).context("reading what Helm rendered")?;
        Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
    }
}

/// The folder of the chart.
pub(crate) fn chart() -> PathBuf {
    package().join(CHART)
}

/// A copy of the chart that a test may change, in the folder of this run.
pub(crate) fn copy_of_chart() -> Result<PathBuf> {
    let folder = new_folder("chart")?;
    copy_folder(&chart(), &folder)?;
    Ok(folder)
}
