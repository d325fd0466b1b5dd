//! The real kubectl, as people run it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::run_folder::program;
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

    /// Its kubeconfig file.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What a shell needs to run this kubectl as `kubectl`, and the plugin as `kubectl konigle`.
    pub(crate) fn environment(&self) -> Result<String> {
        let folders = std::env::join_paths(self.folders()?)?;
        Ok(format!("KUBECONFIG={} PATH={}:\"$PATH\"", self.kubeconfig.display(), folders.display()))
    }

    /// Where the plugin and kubectl are.
    fn folders(&self) -> Result<Vec<PathBuf>> {
        let plugin = program("kubectl-konigle")?;
        Ok([plugin.parent(), self.program.parent()].into_iter().flatten().map(PathBuf::from).collect())
    }

    /// Its output; a failure holds what it wrote to its error output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        self.run_with_input(arguments, "").await
    }

    /// As [`Kubectl::run`], with `input` as its standard input.
    pub(crate) async fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<String> {
        Ok(self.outputs(arguments, input).await?.0)
    }

    /// As [`Kubectl::run`], with what it wrote to its error output although it succeeded.
    pub(crate) async fn run_with_warnings(&self, arguments: &[&str]) -> Result<(String, String)> {
        self.outputs(arguments, "").await
    }

    /// `kubectl apply -f -`, server-side, so that every field that nobody declared is refused.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<String> {
        self.run_with_input(&["apply", "--server-side", "--validate=strict", "-f", "-"], manifests).await
    }

    /// One object.
    pub(crate) async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(arguments);
        serde_json::from_str(&self.run(&all).await?).context("reading kubectl's JSON")
    }

    /// `kubectl konigle ARGUMENTS`, as people run the plugin: by kubectl, which finds it on the PATH. No failure where it
    /// ends with another code than 0.
    pub(crate) async fn konigle(&self, arguments: &[&str], input: &str) -> Result<Ended> {
        let command = self.konigle_command(arguments)?;
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || output(command, &input)).await?;
        let output = output.context(format!("kubectl konigle {}", arguments.join(" ")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ended { code: output.status.code(), output: text(&output.stdout), errors: text(&output.stderr) })
    }

    /// The command line of [`Kubectl::konigle`].
    pub(crate) fn konigle_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.shell(&self.program.display().to_string())?;
        command.arg("konigle").args(arguments);
        Ok(command)
    }

    /// A program that finds kubectl and the plugin on its PATH, and this cluster by its environment.
    pub(crate) fn shell(&self, name: &str) -> Result<Command> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(self.folders()?.into_iter().chain(std::env::split_paths(&folders)))?;
        let mut command = Command::new(name);
        command.env("PATH", path).env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    async fn outputs(&self, arguments: &[&str], input: &str) -> Result<(String, String)> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || output(command, &input)).await?;
        let running = || format!("kubectl {}", arguments.join(" "));
        let output = output.context(running())?;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok((String::from_utf8_lossy(&output.stdout).into_owned(), errors));
        }
        Err(Failure::new(format!("{} failed: {}", running(), errors.trim())))
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; none where a signal ended it.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) output: String,
    /// Its standard error.
    pub(crate) errors: String,
}

fn output(mut command: Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        // A kubectl that ends before it has read all says why on its error output.
        let _ = pipe.write_all(input.as_bytes());
    }
    child.wait_with_output()
}
