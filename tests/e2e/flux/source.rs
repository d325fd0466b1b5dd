//! A Git repository of one scene: its files, and the `GitRepository` that shows them to Flux.

use serde_json::{Value, json};

use super::Flux;
use crate::support::Result;
use crate::support::artifacts::{digest_of, tar_gz_of};
use crate::support::flux_source::FluxSource;
use crate::tree::Tree;

/// A repository of one scene.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) tree: Tree,
    repository: FluxSource,
    commits: usize,
}

impl Source {
    /// Makes the `GitRepository`, as an example has it, with nothing in it yet.
    pub(super) async fn create(flux: &Flux, example: &Value, name: &str, tree: Tree) -> Result<Self> {
        let namespace = &flux.stage().namespace;
        let mut repository = example.clone();
        repository["metadata"] = json!({"name": name, "namespace": namespace.name()});
        flux.stage().kubectl.apply(&repository.to_string()).await?;
        let repository = FluxSource::named(namespace, "GitRepository", name);
        Ok(Self { name: name.to_owned(), tree, repository, commits: 0 })
    }

    /// Commits the files as they are; the revision, which Flux sees from now on.
    pub(super) async fn commit(&mut self, flux: &Flux) -> Result<String> {
        self.commits += 1;
        let archive = tar_gz_of(&self.tree.folder)?;
        // Of a commit's form, and another for the same files later on.
        let commit = digest_of(format!("{} {}", self.commits, digest_of(&archive)).as_bytes());
        let revision = format!("main@sha1:{}", &commit["sha256:".len()..][..40]);
        self.repository.store(&flux.stage().artifacts, archive, &revision).await?;
        Ok(revision)
    }
}
