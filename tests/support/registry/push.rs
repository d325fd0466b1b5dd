//! Pushing, by the programs that people push with. Each gives the digest of the manifest that it pushed.
//!
//! They have a home in the registry's folder, and know nothing of the user's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Registry;
use crate::support::parts::part;
use crate::support::{Context, Failure, Result};

impl Registry {
    /// `oras push REFERENCE FOLDER`: a layer of the type tar+gzip that has the folder's files below the folder's name.
    pub(crate) async fn push_folder(&self, folder: &Path, reference: &str) -> Result<String> {
        let name = name_of(folder)?;
        self.oras_push(folder, reference, &name).await
    }

    /// `oras push REFERENCE FILE:application/zip`: the file as it is, as the only layer.
    pub(crate) async fn push_zip(&self, file: &Path, reference: &str) -> Result<String> {
        let name = name_of(file)?;
        self.oras_push(file, reference, &format!("{name}:application/zip")).await
    }

    /// What `flux push artifact` does with a folder.
    pub(crate) async fn push_flux(&self, folder: &Path, reference: &str, revision: &str) -> Result<String> {
        let mut command = self.program("flux-push").await?;
        command.arg("--path").arg(folder).args(["--source=https://git.example.com/shop", "--revision", revision]);
        command.arg(format!("oci://{}", self.reference(reference)));
        digest_in(&run(command).await?)
    }

    /// `crane append`: an image whose only layer is this tar or tar.gz.
    pub(crate) async fn push_image(&self, layer: &Path, reference: &str) -> Result<String> {
        let layer = layer.display().to_string();
        let pushed =
            self.crane(&["append", "--oci-empty-base", "-f", &layer, "-t", &self.reference(reference)]).await?;
        digest_in(&pushed)
    }

    /// Any command of crane, such as `["index", "append", …]`; its output. References have [`Registry::host`] in them.
    pub(crate) async fn crane(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.program("crane").await?;
        command.args(arguments);
        run(command).await
    }

    async fn oras_push(&self, file: &Path, reference: &str, named: &str) -> Result<String> {
        let mut command = self.program("oras").await?;
        // It takes a file's path as the name of its layer, and refuses absolute ones.
        command.current_dir(file.parent().unwrap_or(Path::new("/")));
        command.args(["push", "--format", "go-template={{.digest}}"]);
        match self.authority() {
            Some(authority) => command.arg("--ca-file").arg(authority.file()),
            None => command.arg("--plain-http"),
        };
        command.arg(self.reference(reference)).arg(named);
        digest_in(&run(command).await?)
    }

    async fn program(&self, name: &'static str) -> Result<Command> {
        let program = tokio::task::spawn_blocking(move || part(name)).await??;
        let mut command = Command::new(program);
        command.env_clear().env("HOME", &self.folder).env("DOCKER_CONFIG", &self.folder);
        if let Some(authority) = self.authority() {
            command.env("SSL_CERT_FILE", authority.file());
        }
        Ok(command)
    }
}

async fn run(mut command: Command) -> Result<String> {
    let running = PathBuf::from(command.get_program()).file_name().unwrap_or_default().display().to_string();
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await?.context(running.clone())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!("{running} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Failure::new(format!("{} has no name", path.display())))
}

/// The digest at the end of what a program prints.
fn digest_in(output: &str) -> Result<String> {
    let digest = output.trim().rfind("sha256:").map(|at| output.trim()[at..].to_owned());
    digest
        .filter(|digest| digest.len() == "sha256:".len() + 64)
        .ok_or_else(|| Failure::new(format!("no digest: {output}")))
}
