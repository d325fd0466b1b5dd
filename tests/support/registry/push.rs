//! Pushing, by the programs that people push with. Each gives the digest of the manifest that it pushed.
//!
//! They have a home in the registry's folder, and know nothing of the user's.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use reqwest::header::{CONTENT_TYPE, LOCATION};
use serde_json::{Value, json};

use super::Registry;
use crate::support::artifacts::digest_of;
use crate::support::parts::part;
use crate::support::{Context, Failure, Result};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl Registry {
    /// `oras push REFERENCE FOLDER`: a layer of the type tar+gzip that has the folder's files below the folder's name.
    pub(crate) async fn push_folder(&self, folder: &Path, reference: &str) -> Result<String> {
        let name = name_of(folder)?;
        self.push_files(parent_of(folder), &[&name], reference).await
    }

    /// `oras push REFERENCE FILE:application/zip`: the file as it is, as the only layer.
    pub(crate) async fn push_zip(&self, file: &Path, reference: &str) -> Result<String> {
        let name = name_of(file)?;
        self.push_files(parent_of(file), &[&format!("{name}:application/zip")], reference).await
    }

    /// `oras push REFERENCE FILE:MEDIA-TYPE …` in a folder: each of its files that are named so is a layer of its own.
    pub(crate) async fn push_files(&self, folder: &Path, files: &[&str], reference: &str) -> Result<String> {
        let mut command = self.program("oras").await?;
        // It takes a file's path as the name of its layer, and refuses absolute ones.
        command.current_dir(folder);
        command.args(["push", "--format", "go-template={{.digest}}"]);
        match self.authority() {
            Some(authority) => command.arg("--ca-file").arg(authority.file()),
            None => command.arg("--plain-http"),
        };
        command.arg(self.reference(reference)).args(files);
        digest_in(&run(command).await?)
    }

    /// What `flux push artifact` does with a folder, by the library that it is made of.
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

    /// What `docker buildx build --push` makes of an image with this layer: an index of the image and of a statement where it
    /// comes from, in a manifest of its own. For a registry that everybody may write.
    pub(crate) async fn push_built(&self, layer: &Path, reference: &str) -> Result<String> {
        let image = self.push_image(layer, reference).await?;
        let (repository, tag) = reference.split_once(':').unwrap_or((reference, "latest"));
        let unknown = json!({"architecture": "unknown", "os": "unknown"});
        let config = json!({"architecture": "unknown", "os": "unknown", "config": {},
            "rootfs": {"type": "layers", "diff_ids": []}});
        let provenance = "https://slsa.dev/provenance/v0.2";
        let statement = json!({"_type": "https://in-toto.io/Statement/v0.1", "predicateType": provenance,
            "subject": [{"name": "shop", "digest": {"sha256": image.trim_start_matches("sha256:")}}], "predicate": {}});
        let config = self.put_blob(repository, "application/vnd.oci.image.config.v1+json", &config).await?;
        let mut statement = self.put_blob(repository, "application/vnd.in-toto+json", &statement).await?;
        statement["annotations"] = json!({"in-toto.io/predicate-type": provenance});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement]});
        let mut attestation = self.put_manifest(repository, None, &manifest).await?;
        attestation["platform"] = unknown;
        attestation["annotations"] =
            json!({"vnd.docker.reference.digest": image, "vnd.docker.reference.type": "attestation-manifest"});
        let size = self.manifest(&format!("{repository}@{image}")).await?.content.to_string().len();
        let image = json!({"mediaType": MANIFEST, "digest": image, "size": size,
            "platform": {"architecture": "amd64", "os": "linux"}});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [image, attestation]});
        let index = self.put_manifest(repository, Some(tag), &index).await?;
        Ok(index["digest"].as_str().unwrap_or_default().to_owned())
    }

    /// Stores a blob, as the distribution specification has it; its descriptor.
    async fn put_blob(&self, repository: &str, media_type: &str, content: &Value) -> Result<Value> {
        let begun = self.http.post(self.url(&format!("/v2/{repository}/blobs/uploads/"))).send().await?;
        let begun = begun.error_for_status().context("beginning to upload a blob")?;
        let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok()).unwrap_or_default();
        let descriptor = descriptor(media_type, content);
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        let put = self.http.put(location).query(&[("digest", digest)]).body(content.to_string());
        put.send().await?.error_for_status().context("uploading a blob")?;
        Ok(descriptor)
    }

    /// Stores a manifest or an index, under a tag or under its digest; its descriptor.
    async fn put_manifest(&self, repository: &str, tag: Option<&str>, content: &Value) -> Result<Value> {
        let media_type = content["mediaType"].as_str().unwrap_or_default();
        let descriptor = descriptor(media_type, content);
        let reference = tag.or(descriptor["digest"].as_str()).unwrap_or_default();
        let put = self.http.put(self.url(&format!("/v2/{repository}/manifests/{reference}")));
        let put = put.header(CONTENT_TYPE, media_type).body(content.to_string());
        put.send().await?.error_for_status().context("storing a manifest")?;
        Ok(descriptor)
    }

    /// Any command of crane, such as `["index", "append", …]`; its output. References have [`Registry::host`] in them.
    pub(crate) async fn crane(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.program("crane").await?;
        command.args(arguments);
        run(command).await
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

fn descriptor(media_type: &str, content: &Value) -> Value {
    let text = content.to_string();
    json!({"mediaType": media_type, "digest": digest_of(text.as_bytes()), "size": text.len()})
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

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
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
