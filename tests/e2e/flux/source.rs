//! The part of source-controller: an archive of the repository's files on a web server, and its address, digest and
//! revision in the status of the `GitRepository`.

use std::process::Command;

use konigle_operator::clock;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Flux;
use crate::support::{Context, Failure, Result};
use crate::tree::Tree;

pub(super) const API_VERSION: &str = "source.toolkit.fluxcd.io/v1";

/// A repository of one scene.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) tree: Tree,
    commits: usize,
}

impl Source {
    /// Makes the `GitRepository`, as an example has it, with nothing in it yet.
    pub(super) async fn create(flux: &Flux, example: &Value, name: &str, tree: Tree) -> Result<Self> {
        let mut repository = example.clone();
        repository["metadata"] = json!({"name": name, "namespace": flux.stage().namespace.name()});
        flux.stage().kubectl.apply(&repository.to_string()).await?;
        Ok(Self { name: name.to_owned(), tree, commits: 0 })
    }

    /// Commits the files as they are; the revision, which Flux sees from now on.
    pub(super) async fn commit(&mut self, flux: &Flux) -> Result<String> {
        self.commits += 1;
        let file = format!("{}-{}.tar.gz", self.name, self.commits);
        let archive = self.tree.folder.with_file_name(&file);
        let packing = || format!("packing {}", self.tree.folder.display());
        let mut command = Command::new("tar");
        command.arg("-czf").arg(&archive).arg("-C").arg(&self.tree.folder).arg(".");
        if !command.status().context(packing())?.success() {
            return Err(Failure::new(format!("{}: tar failed", packing())));
        }
        let artifact = flux.stage().artifacts.serve(&format!("/{file}"), std::fs::read(&archive).context(packing())?);
        // Of a commit's form.
        let revision = format!("main@sha1:{}", &artifact.digest["sha256:".len()..][..40]);
        let now = clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let stored = json!({"type": "Ready", "status": "True", "reason": "Succeeded", "observedGeneration": 1,
            "message": format!("stored {revision}"), "lastTransitionTime": now});
        let status = json!({"status": {"observedGeneration": 1, "conditions": [stored], "artifact": {
            "url": artifact.url, "path": file, "digest": artifact.digest, "size": artifact.size,
            "revision": revision, "lastUpdateTime": now,
        }}});
        flux.repositories.patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&status)).await?;
        Ok(revision)
    }
}
