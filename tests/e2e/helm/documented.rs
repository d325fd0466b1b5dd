//! The documents that begin on an empty cluster: their commands are run by a shell, as they stand there, in the folder of
//! a checkout, and after those that are listed here the cluster must be as the document has it.
//!
//! How a document says what is not run, and which state is given, is told in `tests/it/documents.rs`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::{CRD, NEW_FIELD, RELEASE, is_equal, is_said, older_chart, resource};
use crate::say;
use crate::support::control_plane::ControlPlane;
use crate::support::helm::chart;
use crate::support::kubectl::Kubectl;
use crate::support::markdown::{Part, parts};
use crate::support::namespace::wait_for;
use crate::support::parts::part;
use crate::support::rights::OPERATOR_NAMESPACE;
use crate::support::run_folder::{new_folder, package};
use crate::support::{Context, Failure, Result};

/// What a checkout has that commands name.
const CHECKOUT: [&str; 3] = ["charts", "crds", "deploy"];
/// The KonigleSpace that outlives whatever a document does with the installation.
const KEPT: &str = "kept";

/// What must be so after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum After {
    /// The operator is there with the image that was named, and the CRD is served.
    Installed,
    /// The operator is gone, the CRD is there.
    Uninstalled,
    /// The CRD is gone.
    CrdRemoved,
    /// The CRD has all fields, and the resource is still there.
    Newer,
    /// The CRD lacks a field again, and the resource is still there.
    Older,
}

/// The commands after which something is looked at, by what stands in them.
const LOOKED_AT: [(&str, After); 8] = [
    ("helm install ", After::Installed),
    ("kubectl apply --server-side -k .", After::Installed),
    ("helm uninstall ", After::Uninstalled),
    ("kubectl delete -f deploy/default/operator.yaml", After::Uninstalled),
    ("kubectl delete crd ", After::CrdRemoved),
    ("helm upgrade ", After::Newer),
    ("kubectl apply --server-side --force-conflicts -f crds/", After::Newer),
    ("helm rollback ", After::Older),
];

/// Follows docs/install.md and docs/upgrade.md.
pub(crate) async fn documented() -> Result<()> {
    let mut seen = BTreeSet::new();
    for document in ["docs/install.md", "docs/upgrade.md"] {
        seen.extend(follow(document).await.context(document.to_owned())?);
    }
    match LOOKED_AT.iter().find(|(command, _)| !seen.contains(command)) {
        None => Ok(()),
        Some((command, _)) => Err(Failure::new(format!("neither document has {command:?} any more"))),
    }
}

/// Does what a document says; which of the listed commands it has.
async fn follow(document: &str) -> Result<BTreeSet<&'static str>> {
    say(&format!("{document}:"));
    let text = fs::read_to_string(package().join(document)).context("reading it")?;
    let mut reader = Reader::open().await?;
    let mut seen = BTreeSet::new();
    for part in parts(&text)? {
        match part {
            Part::Given(state) => reader.bring_about(&state).await.context(format!("given: {state}"))?,
            Part::File { name, text } => {
                fs::write(reader.folder.join(&name), text).context(format!("writing {name}"))?;
            }
            Part::Script(commands) => {
                reader.run(&commands).await?;
                say(&format!("  {}", commands.trim_end().replace('\n', "\n  ")));
                for (command, after) in LOOKED_AT.iter().filter(|(command, _)| commands.contains(command)) {
                    reader.judge(*after).await.context(format!("after {command}"))?;
                    say(&format!("    → {after:?}"));
                    seen.insert(*command);
                }
            }
            other => return Err(Failure::new(format!("this flow does not know what to do with {other:?}"))),
        }
    }
    Ok(seen)
}

/// Whoever reads it, with a checkout.
struct Reader {
    folder: PathBuf,
    helm_home: PathBuf,
    control_plane: ControlPlane,
}

impl Reader {
    async fn open() -> Result<Self> {
        let folder = new_folder("checkout")?;
        for name in CHECKOUT {
            std::os::unix::fs::symlink(package().join(name), folder.join(name)).context("linking into a checkout")?;
        }
        Ok(Self { folder, helm_home: new_folder("helm")?, control_plane: ControlPlane::start().await? })
    }

    fn kubectl(&self) -> Kubectl {
        self.control_plane.kubectl()
    }

    async fn bring_about(&mut self, state: &str) -> Result<()> {
        match state {
            "an empty cluster" => self.control_plane = ControlPlane::start().await?,
            "the chart is installed" => self.install(&chart()).await?,
            "an older version is installed, and a KonigleSpace" => {
                self.install(&older_chart()?).await?;
                // The API server takes a moment to serve a new kind, and kubectl to know its short name.
                let space = resource(KEPT, false).to_string();
                wait_for("a KonigleSpace", async || Ok(self.kubectl().apply(&space).await.ok())).await?;
                let listed = async || Ok(self.kubectl().run(&["get", "kspace", "-A"]).await.ok());
                wait_for("kspace known to kubectl", listed).await?;
            }
            other => return Err(Failure::new(format!("this flow does not know how to bring this about: {other}"))),
        }
        Ok(())
    }

    async fn install(&self, chart: &Path) -> Result<()> {
        let image = "--set image.repository=registry.example.com/konigle-operator";
        let namespace = format!("--namespace {OPERATOR_NAMESPACE} --create-namespace");
        self.run(&format!("helm install {RELEASE} {} {namespace} {image}", chart.display())).await
    }

    /// Runs commands, each of which must succeed.
    async fn run(&self, commands: &str) -> Result<()> {
        let helm = part("helm")?;
        let folder = helm.parent().unwrap_or(&helm).display();
        let script = format!("exec 2>&1\nset -e\nPATH={folder}:\"$PATH\"\n{commands}");
        let mut shell = self.kubectl().shell("sh")?;
        shell.args(["-c", &script]).current_dir(&self.folder).stdin(Stdio::null());
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            shell.env(folder, &self.helm_home);
        }
        let output = tokio::task::spawn_blocking(move || shell.output()).await?.context(commands.to_owned())?;
        if output.status.success() {
            return Ok(());
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        Err(Failure::new(format!("these commands failed:\n{commands}\nthey printed:\n{printed}")))
    }

    async fn judge(&self, after: After) -> Result<()> {
        let kubectl = self.kubectl();
        let deployment = kubectl.get(&["deployment", RELEASE, "--namespace", OPERATOR_NAMESPACE]).await;
        let crd = kubectl.get(&["crd", CRD]).await;
        let has_the_field = |crd: &Value| {
            let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
            crd.pointer(&format!("{spec}/{NEW_FIELD}")).is_some()
        };
        match after {
            After::Installed => {
                let image = deployment?["spec"]["template"]["spec"]["containers"][0]["image"].clone();
                let expected = format!("registry.example.com/konigle-operator:{}", env!("CARGO_PKG_VERSION"));
                is_equal(&image, &Value::from(expected))?;
                crd.map(drop)
            }
            After::Uninstalled => {
                is_said(&deployment.err().map(|failure| failure.to_string()).unwrap_or_default(), "not found")?;
                crd.map(drop)
            }
            After::CrdRemoved => {
                is_said(&crd.err().map(|failure| failure.to_string()).unwrap_or_default(), "not found")
            }
            After::Newer | After::Older => {
                is_equal(&has_the_field(&crd?), &(after == After::Newer))?;
                kubectl.get(&["koniglespace", KEPT, "--namespace", "default"]).await.map(drop)
            }
        }
    }
}
