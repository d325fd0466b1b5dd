//! The real kubectl, as people run it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{Context, Failure, Result};

/// kubectl with one kubeconfig file.
#[derive(Clone)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// `program` is the path of kubectl.
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// The same kubectl for another account.
    pub(crate) fn with_kubeconfig(&self, kubeconfig: PathBuf) -> Self {
        Self { program: self.program.clone(), kubeconfig }
    }

    /// What a person types to run this kubectl, without its arguments.
    pub(crate) fn command_line(&self) -> String {
        format!("{} --kubeconfig {}", self.program.display(), self.kubeconfig.display())
    }

    /// Its output; a failure holds what it wrote to its error output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with_input(arguments, "").await
    }

    /// As [`Kubectl::run`], with `input` as its standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        let (output, errors) = self.outputs(arguments, input).await?;
        match errors {
            Some(errors) => Err(Failure::new(format!("kubectl {} failed: {}", arguments.join(" "), errors.trim()))),
            None => Ok(output),
        }
    }

    /// `kubectl apply -f -`, server-side, so that every field that nobody declared is refused.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<String> {
        self.run_with_input(&["apply", "--server-side", "--validate=strict", "-f", "-"], manifests).await
    }

    /// What the API server says to a manifest without keeping it: its refusal, or nothing when it accepts.
    pub(crate) async fn refusal(&self, manifest: &str) -> Result<Option<String>> {
        let arguments = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        Ok(self.outputs(&arguments, manifest).await?.1)
    }

    /// One object.
    pub(crate) async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.run(&all).await?).context("reading kubectl's JSON")
    }

    /// The output, and, where kubectl failed, its error output.
    async fn outputs(&self, arguments: &[&str], input: &str) -> Result<(String, Option<String>)> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || output(command, &input)).await?;
        let output = output.context(format!("running kubectl {}", arguments.join(" ")))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((text, (!output.status.success()).then_some(errors)))
    }
}

fn output(mut command: Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // A kubectl that ends before it has read all says why on its error output.
        let _ = pipe.write_all(input.as_bytes());
    }
    child.wait_with_output()
}
