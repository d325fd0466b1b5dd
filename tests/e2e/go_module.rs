//! Files of Go modules: the CRDs of the programs that the flows run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::kubectl::Kubectl;
use crate::support::namespace::wait_for;
use crate::support::run_folder::package;
use crate::support::{Context, Failure, Result};

/// Installs all CRDs of a folder of a module, and waits until they are served.
pub(crate) async fn install_crds(kubectl: &Kubectl, part: &str, module: &str, folder: &str) -> Result<()> {
    let folder = module_folder(part, module)?.join(folder);
    let mut arguments = vec!["apply".to_owned(), "--server-side".to_owned()];
    for entry in fs::read_dir(&folder).context(format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).context(format!("reading {}", path.display()))?;
        if text.contains("kind: CustomResourceDefinition") {
            arguments.extend(["-f".to_owned(), path.display().to_string()]);
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    kubectl.run(&arguments).await?;
    // kubectl fails at once on one that has no conditions yet.
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    wait_for("all CRDs served", async || Ok(kubectl.run(&established).await.ok())).await.map(drop)
}

/// Where the files of a module are: fetched once per machine, in the version that the part's `go.mod` has.
fn module_folder(part: &str, module: &str) -> Result<PathBuf> {
    let asking = || format!("go mod download -json {module}");
    let mut command = Command::new("go");
    command.args(["mod", "download", "-json", module]).current_dir(package().join("tests/parts").join(part));
    let output = command.env("GOWORK", "off").output().context(asking())?;
    let answer: Value = serde_json::from_slice(&output.stdout).context(asking())?;
    match answer["Dir"].as_str() {
        Some(folder) if output.status.success() => Ok(PathBuf::from(folder)),
        _ => Err(Failure::new(format!("{} failed: {answer} {}", asking(), String::from_utf8_lossy(&output.stderr)))),
    }
}
