//! The part of Flux's source-controller, which itself does not build everywhere: the CRDs are its own; the archive on a web
//! server, and what it says of it in the status of a source, are made here, as its published API has them.

use konigle_operator::clock;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};

use super::artifacts::{Artifact, Artifacts};
use super::kubectl::Kubectl;
use super::namespace::{Namespace, wait_for};
use super::parts::part;
use super::{Context, Failure, Result};

const GROUP: &str = "source.toolkit.fluxcd.io";
const VERSION: &str = "v1";

/// The kinds whose artifacts are archives of files.
pub(crate) const KINDS: [&str; 4] = ["GitRepository", "OCIRepository", "Bucket", "ExternalArtifact"];

/// A source in a namespace.
#[derive(Clone)]
pub(crate) struct FluxSource {
    kind: String,
    name: String,
    namespace: String,
    objects: Api<DynamicObject>,
}

/// Installs the CRDs of source-controller, and waits until they are served.
pub(crate) async fn install_crds(kubectl: &Kubectl) -> Result<()> {
    let folder = crds().await?;
    kubectl.run(&["apply", "--server-side", "-f", &folder]).await?;
    // kubectl fails at once on one that has no conditions yet.
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "-f", &folder];
    wait_for("Flux's CRDs served", async || Ok(kubectl.run(&established).await.ok())).await.map(drop)
}

/// Removes the CRDs, and with them all sources.
pub(crate) async fn remove_crds(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["delete", "--timeout=60s", "-f", &crds().await?]).await.map(drop)
}

async fn crds() -> Result<String> {
    let folder = tokio::task::spawn_blocking(|| part("flux-source-crds")).await??;
    Ok(folder.display().to_string())
}

impl FluxSource {
    /// A source that is there or will be.
    pub(crate) fn named(namespace: &Namespace, kind: &str, name: &str) -> Self {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind));
        Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.name().to_owned(),
            objects: Api::namespaced_with(namespace.client().clone(), namespace.name(), &resource),
        }
    }

    /// Makes a source of this kind, one of [`KINDS`], as a person applies it. Nothing was fetched for it yet.
    pub(crate) async fn create(namespace: &Namespace, kind: &str, name: &str) -> Result<Self> {
        let source = Self::named(namespace, kind, name);
        let spec = match kind {
            "GitRepository" => {
                json!({"interval": "1m", "url": "https://git.example.com/shop", "ref": {"branch": "main"}})
            }
            "OCIRepository" => {
                json!({"interval": "1m", "url": "oci://registry.example.com/shop", "ref": {"tag": "latest"}})
            }
            "Bucket" => json!({"interval": "1m", "bucketName": "shop", "endpoint": "minio.example.com"}),
            "ExternalArtifact" => json!({}),
            _ => return Err(Failure::new(format!("{kind} is no source with an archive of files"))),
        };
        source.apply(&spec).await?;
        Ok(source)
    }

    /// What `spec.source.sourceRef` of a resource of the same namespace has.
    pub(crate) fn reference(&self) -> Value {
        json!({"kind": self.kind, "name": self.name})
    }

    /// Applies it with this spec; what a controller wrote into its status stays.
    pub(crate) async fn apply(&self, spec: &Value) -> Result<()> {
        let object = json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": self.kind,
            "metadata": {"name": self.name}, "spec": spec});
        let parameters = PatchParams::apply("konigle-test").force();
        let applied = self.objects.patch(&self.name, &parameters, &Patch::Apply(&object)).await;
        applied.context(format!("applying the {} {}", self.kind, self.name)).map(drop)
    }

    /// Puts this archive, a tar.gz, on the web server, and says so in the status; what the status has.
    pub(crate) async fn store(&self, artifacts: &Artifacts, archive: Vec<u8>, revision: &str) -> Result<Artifact> {
        let digest = super::artifacts::digest_of(&archive);
        let path = format!(
            "{}/{}/{}/{}.tar.gz",
            self.kind.to_lowercase(),
            self.namespace,
            self.name,
            digest.trim_start_matches("sha256:")
        );
        let artifact = artifacts.serve(&format!("/{path}"), archive);
        let message = format!("stored artifact for revision '{revision}'");
        let status = json!({"artifact": {
            "url": artifact.url, "path": path, "digest": artifact.digest, "size": artifact.size,
            "revision": revision, "lastUpdateTime": now(),
        }});
        self.say("True", "Succeeded", &message, status).await?;
        Ok(artifact)
    }

    /// Says that fetching failed; an artifact that was stored before stays.
    pub(crate) async fn fail(&self, reason: &str, message: &str) -> Result<()> {
        self.say("False", reason, message, json!({})).await
    }

    /// Merges this into the status.
    pub(crate) async fn write_status(&self, status: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        let written = self.objects.patch_status(&self.name, &PatchParams::default(), &patch).await;
        written.context(format!("writing the status of the {} {}", self.kind, self.name)).map(drop)
    }

    /// Deletes it.
    pub(crate) async fn delete(&self) -> Result<()> {
        self.objects.delete(&self.name, &kube::api::DeleteParams::default()).await?;
        Ok(())
    }

    /// Writes the condition Ready, of the spec as it is now, and what else the status is to have.
    async fn say(&self, ready: &str, reason: &str, message: &str, mut status: Value) -> Result<()> {
        let object = self.objects.get(&self.name).await.context(format!("reading the {} {}", self.kind, self.name))?;
        let generation = object.metadata.generation;
        status["conditions"] = json!([{"type": "Ready", "status": ready, "reason": reason, "message": message,
            "observedGeneration": generation, "lastTransitionTime": now()}]);
        // Only its condition tells that of an ExternalArtifact.
        if self.kind != "ExternalArtifact" {
            status["observedGeneration"] = json!(generation);
        }
        self.write_status(&status).await
    }
}

fn now() -> String {
    clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
