//! A namespace of its own for each test, and what is put into it: the token's Secret and KonigleSpaces.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace as KubeNamespace, Secret};
use konigle_operator::api::KonigleSpace;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::process::POLL;
use super::run_folder::run_folder;
use super::trace::{Property, Witness};
use super::{Context, Failure, Result};

/// How long a state may take to come. Generous, for machines are slow and busy: a test that fails takes this long,
/// one that passes does not.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(90);

/// The name of the Secret that the builders below refer to.
pub(crate) const SECRET: &str = "konigle";

/// One test's namespace.
#[derive(Clone)]
pub(crate) struct Namespace {
    client: Client,
    name: String,
    witness: Arc<Witness>,
}

impl Namespace {
    /// Makes a namespace whose name starts with `purpose`.
    ///
    /// All versions of its KonigleSpaces are recorded from now on, and judged at the end of the test.
    pub(crate) async fn create(control_plane: &ControlPlane, purpose: &str) -> Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let client = control_plane.client().await?;
        let name = format!("{purpose}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let namespace = KubeNamespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..KubeNamespace::default()
        };
        Api::all(client)
            .create(&PostParams::default(), &namespace)
            .await
            .context(format!("making the namespace {name}"))?;
        Self::named(control_plane, &name).await
    }

    /// The namespace of this name, which somebody else makes, now or later; recorded and judged as one of [`Self::create`].
    pub(crate) async fn named(control_plane: &ControlPlane, name: &str) -> Result<Self> {
        let client = control_plane.client().await?;
        let witness = Witness::current();
        witness.watch(&control_plane.kubeconfig(), name).await?;
        Ok(Self { client, name: name.to_owned(), witness })
    }

    /// Tokens that others write into Secrets: they are searched for at the end of the test.
    pub(crate) fn keep_tokens(&self, tokens: &[&str]) {
        for token in tokens {
            self.witness.keep_secret("token", token);
        }
    }

    /// Says that this test breaks a property by design, and why. A suspended property that held is a finding, too.
    pub(crate) fn allow(&self, property: Property, why: &str) {
        self.witness.allow(property, why, true);
    }

    /// As [`Namespace::allow`], where it depends on chance whether the property breaks.
    pub(crate) fn tolerate(&self, property: Property, why: &str) {
        self.witness.allow(property, why, false);
    }

    /// As [`Namespace::tolerate`], for these resources alone.
    pub(crate) fn tolerate_of(&self, resources: &[&str], property: Property, why: &str) {
        self.witness.tolerate_of(resources, property, why);
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The client that it was made with.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Its KonigleSpaces.
    pub(crate) fn spaces(&self) -> Api<KonigleSpace> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Its objects of another kind.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Writes the Secret [`SECRET`] with this token, in place of what it held.
    pub(crate) async fn write_token(&self, token: &str) -> Result<()> {
        self.write_secret(SECRET, &json!({"token": token})).await
    }

    /// Writes a Secret with these keys, in place of those that it had.
    pub(crate) async fn write_secret(&self, name: &str, keys: &Value) -> Result<()> {
        // `data` and not `stringData`: an apply takes away only what it wrote itself, and the server writes the other.
        let bytes = |text: &Value| ByteString(text.as_str().unwrap_or_default().as_bytes().to_vec());
        for (key, text) in keys.as_object().into_iter().flatten() {
            self.witness.keep_secret(key, text.as_str().unwrap_or_default());
        }
        let data: BTreeMap<&String, ByteString> =
            keys.as_object().into_iter().flatten().map(|(key, text)| (key, bytes(text))).collect();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        self.api::<Secret>()
            .patch(name, &apply(), &Patch::Apply(&secret))
            .await
            .context(format!("writing the Secret {name}"))?;
        Ok(())
    }

    /// Applies a KonigleSpace by its `spec`, as a person does: the same field manager takes back what it leaves out.
    pub(crate) async fn apply(&self, name: &str, spec: &Value) -> Result<KonigleSpace> {
        let space = json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "metadata": {"name": name}, "spec": spec,
        });
        self.spaces()
            .patch(name, &apply(), &Patch::Apply(&space))
            .await
            .context(format!("applying the KonigleSpace {name}"))
    }

    /// Sets an annotation, such as `cloud.konigle.com/reset-at`.
    pub(crate) async fn annotate(&self, name: &str, annotation: &str, value: &str) -> Result<KonigleSpace> {
        let patch = json!({"metadata": {"annotations": {annotation: value}}});
        self.spaces()
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .context(format!("annotating the KonigleSpace {name}"))
    }

    /// Waits until `predicate` holds for a KonigleSpace, and gives it. The failure says `what` was waited for, what the
    /// object was last, and which logs tell more.
    pub(crate) async fn wait_for(
        &self,
        name: &str,
        what: &str,
        predicate: impl Fn(&KonigleSpace) -> bool,
    ) -> Result<KonigleSpace> {
        self.wait_longer_for(name, what, WAIT_LIMIT, predicate).await
    }

    /// As [`Namespace::wait_for`], for a state that takes its time by design.
    pub(crate) async fn wait_longer_for(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        predicate: impl Fn(&KonigleSpace) -> bool,
    ) -> Result<KonigleSpace> {
        let began = Instant::now();
        loop {
            // A control plane that is down is a state like another, and passes.
            let seen = self.spaces().get(name).await;
            if let Ok(space) = &seen
                && predicate(space)
            {
                return Ok(space.clone());
            }
            if began.elapsed() > limit {
                let seen = match seen {
                    Ok(space) => without_managed_fields(space)?,
                    Err(error) => Failure::from(error).to_string(),
                };
                let logs = logs_of(&self.name)?;
                return Err(Failure::new(format!("{name}: not {what} after {limit:?}; it was last:\n{seen}{logs}")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a KonigleSpace has this reason in its condition Ready, for its newest generation.
    pub(crate) async fn wait_for_reason(&self, name: &str, reason: &str) -> Result<KonigleSpace> {
        self.wait_for(name, reason, |space| ready_reason(space) == Some(reason)).await
    }
}

/// The reason of the condition Ready, once the status speaks of the newest generation.
pub(crate) fn ready_reason(space: &KonigleSpace) -> Option<&str> {
    let status = space.status.as_ref()?;
    let is_current = Some(status.observed_generation) == space.metadata.generation;
    status.condition("Ready").filter(|_| is_current).map(|condition| condition.reason.as_str())
}

/// Waits until `probe` gives a value. The failure says `what` was waited for.
pub(crate) async fn wait_for<T>(what: &str, probe: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    wait_longer_for(what, WAIT_LIMIT, probe).await
}

/// As [`wait_for`], for a state that takes its time by design.
pub(crate) async fn wait_longer_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        if began.elapsed() > limit {
            return Err(Failure::new(format!("not {what} after {limit:?}; logs: {}", run_folder()?.display())));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The spec of a uat Space that runs an artifact.
pub(crate) fn deploys(space_id: &str, url: &str, digest: &str) -> Value {
    json!({
        "space": {"id": space_id},
        "credentials": {"secretRef": {"name": SECRET}},
        "source": {"http": {"url": url, "digest": digest}},
    })
}

/// The spec of a production Space that is promoted to from the KonigleSpace `from`.
pub(crate) fn promotes(space_id: &str, from: &str) -> Value {
    json!({
        "space": {"id": space_id},
        "credentials": {"secretRef": {"name": SECRET}},
        "promotion": {"from": {"name": from}},
    })
}

fn apply() -> PatchParams {
    PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..PatchParams::apply("test").force() }
}

fn without_managed_fields(mut space: KonigleSpace) -> Result<String> {
    space.managed_fields_mut().clear();
    Ok(serde_saphyr::to_string(&space)?)
}

/// The logs of the operators that watch this namespace.
fn logs_of(namespace: &str) -> Result<String> {
    let mut text = format!("all logs: {}\n", run_folder()?.display());
    for entry in std::fs::read_dir(run_folder()?)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("operator-{namespace}-")) {
            let _ = writeln!(text, "the operator's log: {}", entry.path().join("operator.log").display());
        }
    }
    Ok(text)
}
