//! The files of a Git repository of environments: the manifests of `deploy/examples/` as they stand there, and a
//! `kustomization.yaml` beside each that fills in what only a real user knows.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::artifacts::Artifact;
use crate::support::run_folder::{copy_folder, new_folder, package};
use crate::support::{Context, Result};

/// The files, in a folder.
pub(crate) struct Tree {
    pub(crate) folder: PathBuf,
    namespace: String,
    /// Comes before the names of the resources.
    prefix: String,
    /// The web app whose Spaces they name.
    webapp: String,
}

impl Tree {
    /// No files yet, of resources in this namespace.
    pub(crate) fn new(namespace: &str, prefix: &str, webapp: &str) -> Result<Self> {
        let folder = new_folder("repository")?;
        Ok(Self { folder, namespace: namespace.to_owned(), prefix: prefix.to_owned(), webapp: webapp.to_owned() })
    }

    /// The name of the uat resource.
    pub(crate) fn uat(&self) -> String {
        format!("{}shop-uat", self.prefix)
    }

    /// The name of the production resource.
    pub(crate) fn production(&self) -> String {
        format!("{}shop-production", self.prefix)
    }

    /// The name of the source that [`Tree::write_uat_from_flux`] brings along.
    pub(crate) fn source(&self) -> String {
        format!("{}shop", self.prefix)
    }

    /// uat runs this artifact; `more` are further changes by their path.
    pub(crate) fn write_uat(&self, artifact: &Artifact, more: &[(&str, Value)]) -> Result<()> {
        let http = "/spec/source/http";
        let changes =
            [(format!("{http}/url"), json!(artifact.url)), (format!("{http}/digest"), json!(artifact.digest))];
        self.write("uat", &changes, more)
    }

    /// Production is promoted from that uat; `more` are further changes by their path.
    pub(crate) fn write_production(&self, more: &[(&str, Value)]) -> Result<()> {
        self.write("production", &[("/spec/promotion/from/name".to_owned(), json!(self.uat()))], more)
    }

    /// uat runs what a source of Flux hands out, as `deploy/examples/sources/flux` has it, and production beside it follows by
    /// itself. The source is left out where somebody forgot it.
    pub(crate) fn write_uat_from_flux(&self, brings_its_source: bool) -> Result<()> {
        let example = self.folder.join("example");
        if !example.exists() {
            copy_folder(&package().join("deploy/examples/sources/flux"), &example)?;
        }
        let replace = |path: &str, value: Value| json!({"op": "replace", "path": path, "value": value});
        let webapp = replace("/spec/space/webapp", json!(self.webapp));
        let uat = [webapp.clone(), replace("/spec/source/sourceRef/name", json!(self.source()))];
        let production = [
            webapp,
            replace("/spec/promotion/from/name", json!(self.uat())),
            replace("/spec/promotion/policy", json!("Automatic")),
        ];
        let patch = |target: Value, patch: Value| json!({"target": target, "patch": patch.to_string()});
        let mut patches = vec![
            patch(json!({"kind": "KonigleSpace", "name": "shop-uat"}), json!(uat)),
            patch(json!({"kind": "KonigleSpace", "name": "shop-production"}), json!(production)),
        ];
        if !brings_its_source {
            let removed = json!({"kind": "GitRepository", "metadata": {"name": "shop"}, "$patch": "delete"});
            patches.push(patch(json!({"kind": "GitRepository"}), removed));
        }
        let file = "production.yaml";
        let manifest = fs::read_to_string(package().join("deploy/examples").join(file)).context(file)?;
        self.write_file(&format!("uat/{file}"), &manifest)?;
        let kustomization = self.kustomization(&json!(["../example", file]), &json!(patches));
        self.write_file("uat/kustomization.yaml", &kustomization.to_string())
    }

    /// Takes a resource away, and leaves something else in its folder.
    pub(crate) fn remove(&self, environment: &str) -> Result<()> {
        let note = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("{}note", self.prefix), "namespace": self.namespace},
            "data": {"note": "the Space was handed over to another team"},
        });
        let folder = self.folder.join(environment);
        fs::remove_dir_all(&folder).context(format!("removing {}", folder.display()))?;
        self.write_file(&format!("{environment}/note.yaml"), &note.to_string())
    }

    fn write(&self, environment: &str, changes: &[(String, Value)], more: &[(&str, Value)]) -> Result<()> {
        let example = format!("deploy/examples/{environment}.yaml");
        let manifest = fs::read_to_string(package().join(&example)).context(format!("reading {example}"))?;
        let space = [("/spec/space/webapp".to_owned(), json!(self.webapp))];
        let more = more.iter().map(|(path, value)| ((*path).to_owned(), value.clone()));
        let changes: Vec<Value> = space
            .iter()
            .chain(changes)
            .cloned()
            .chain(more)
            .map(|(path, value)| json!({"op": "add", "path": path, "value": value}))
            .collect();
        let file = format!("{environment}.yaml");
        let patches = json!([{"target": {"kind": "KonigleSpace"}, "patch": json!(changes).to_string()}]);
        let kustomization = self.kustomization(&json!([file]), &patches);
        self.write_file(&format!("{environment}/{file}"), &manifest)?;
        self.write_file(&format!("{environment}/kustomization.yaml"), &kustomization.to_string())
    }

    fn kustomization(&self, resources: &Value, patches: &Value) -> Value {
        json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": self.namespace,
            "namePrefix": self.prefix,
            "resources": resources,
            "patches": patches,
        })
    }

    fn write_file(&self, path: &str, text: &str) -> Result<()> {
        let path = self.folder.join(path);
        let writing = || format!("writing {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(&path)).context(writing())?;
        fs::write(&path, text).context(writing())
    }
}
