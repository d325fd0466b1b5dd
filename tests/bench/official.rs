//! The official CLI, as `tests/sdk/measured.py` runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::support::run_folder::new_folder;
use crate::support::{Context, Failure, Result, sdk};

/// What it took.
#[derive(Deserialize)]
pub(crate) struct Measured {
    /// How long.
    pub(crate) seconds: f64,
    /// What it had in memory before, in MiB.
    pub(crate) before: f64,
    /// The most that it had in memory, in MiB.
    pub(crate) highest: f64,
    /// The most that a git that it ran had in memory, in MiB.
    pub(crate) git: f64,
    /// The size of the ZIP that it packaged, in bytes.
    #[serde(default)]
    pub(crate) size: u64,
}

/// The CLI, with a home of its own.
pub(crate) struct Official {
    python: PathBuf,
    home: PathBuf,
}

impl Official {
    /// Makes its environment, at the first run on a machine.
    pub(crate) async fn prepare() -> Result<Self> {
        let python = tokio::task::spawn_blocking(sdk::python).await??;
        Ok(Self { python, home: new_folder("official")? })
    }

    /// Packages a folder in directory mode.
    pub(crate) async fn package(&self, folder: &Path) -> Result<Measured> {
        self.measure(folder, |command| command.arg("package").arg(folder)).await
    }

    /// Deploys a folder to the uat Space of this web app; in git mode where `git` says so.
    pub(crate) async fn deploy(
        &self,
        folder: &Path,
        (base_url, token): (&str, &str),
        (computer, webapp): (&str, &str),
        git: bool,
    ) -> Result<Measured> {
        self.measure(folder, |command| {
            command.env("KONIGLE_BASE_URL", base_url).env("KONIGLE_API_KEY", token);
            command.arg("deploy").arg(folder).args([computer, webapp]).args(git.then_some("git"))
        })
        .await
    }

    async fn measure(
        &self,
        folder: &Path,
        with_arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Measured> {
        let mut command = Command::new(&self.python);
        command.arg(sdk::folder().join("measured.py")).env("HOME", &self.home).stdin(Stdio::null());
        // The folder lies in a repository of ours, which is not the one that the CLI is to find.
        command.env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap_or(folder));
        with_arguments(&mut command);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await?.context("running the official CLI")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("the official CLI failed: {text}{errors}")));
        }
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).context(format!("reading what the official CLI took: {last}"))
    }
}
