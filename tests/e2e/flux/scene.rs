//! What a scene is made of: a repository, Kustomizations of its own, and the judgement over all that was recorded.

use serde_json::{Value, json};

use super::Flux;
use super::kustomization::{FAILED, condition, failure, is, is_ready_for, waits_for_health};
use super::source::Source;
use crate::history::History;
use crate::steps::Steps;
use crate::support::artifacts::Artifact;
use crate::support::rights::manifest;
use crate::support::{Failure, Result};
use crate::tree::Tree;

/// Where the example of a `GitRepository` is, and the Kustomizations.
const EXAMPLE: &str = "deploy/flux/shop.yaml";

/// One team with its repository.
pub(super) struct Scene<'flux> {
    pub(super) flux: &'flux Flux,
    pub(super) source: Source,
    pub(super) steps: Steps,
}

impl<'flux> Scene<'flux> {
    /// The web app of that name, whose resources are named for it but those of the shop, which are the examples' own.
    pub(super) async fn open(flux: &'flux Flux, webapp: &str) -> Result<Self> {
        let prefix = if webapp == "shop" { String::new() } else { format!("{webapp}-") };
        let tree = Tree::new(flux.stage().namespace.name(), &prefix, webapp)?;
        let source = Source::create(flux, &manifest(EXAMPLE, "GitRepository", "shop")?, webapp, tree).await?;
        Ok(Self { flux, source, steps: Steps::new(webapp, flux.began) })
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.source.tree
    }

    /// A release of this web app, where CI put it.
    pub(super) fn release(&self, version: &str) -> Result<Artifact> {
        self.flux.stage().artifacts.serve_application(&format!("{}-{version}", self.source.name))
    }

    pub(super) async fn commit(&mut self) -> Result<String> {
        self.source.commit(self.flux).await
    }

    /// Applies the example's Kustomization of this environment, named as its resource, with a changed spec.
    pub(super) async fn kustomization(&self, environment: &str, changes: &Value) -> Result<()> {
        let mut kustomization = manifest(EXAMPLE, "Kustomization", &format!("shop-{environment}"))?;
        let name = if environment == "uat" { self.tree().uat() } else { self.tree().production() };
        kustomization["metadata"] = json!({"name": name, "namespace": self.flux.stage().namespace.name()});
        kustomization["spec"]["sourceRef"]["name"] = json!(self.source.name);
        json_patch::merge(&mut kustomization["spec"], changes);
        self.flux.stage().kubectl.apply(&kustomization.to_string()).await.map(drop)
    }

    pub(super) async fn until_ready(&self, kustomization: &str, revision: &str) -> Result<()> {
        let ready = |it: &Value| is_ready_for(it, revision);
        self.flux.kustomizations.until(kustomization, &format!("Ready for {revision}"), ready).await.map(drop)
    }

    pub(super) async fn until_it_waits(&self, kustomization: &str, revision: &str) -> Result<()> {
        let waits = |it: &Value| waits_for_health(it, revision);
        self.flux.kustomizations.until(kustomization, &format!("waiting for {revision}"), waits).await.map(drop)
    }

    /// Waits until the Kustomization failed; what it says. The failure must name the resource and its state.
    pub(super) async fn until_failed(&self, kustomization: &str, revision: &str, state: &str) -> Result<String> {
        let failed = |it: &Value| failure(it, revision).is_some();
        let object = self.flux.kustomizations.until(kustomization, &format!("failed for {revision}"), failed).await?;
        let message = failure(&object, revision).unwrap_or_default().to_owned();
        let namespace = self.flux.stage().namespace.name();
        let named = format!("KonigleSpace/{namespace}/{kustomization} status: '{state}'");
        if message.contains(&named) {
            return Ok(message);
        }
        Err(Failure::new(format!("{kustomization} does not say {named:?} but {message:?}")))
    }

    /// Waits until the KonigleSpace has this reason for its newest generation; the message of its condition Ready.
    pub(super) async fn until_reason(&self, resource: &str, reason: &str) -> Result<String> {
        let space = self.flux.stage().namespace.wait_for_reason(resource, reason).await?;
        let ready = space.status.as_ref().and_then(|status| status.condition("Ready"));
        Ok(ready.map(|ready| ready.message.clone()).unwrap_or_default())
    }

    /// Judges everything that was recorded of the Kustomization that is named as its resource: whenever it was Ready
    /// for one of these revisions, the resource met what that asks for; and while a job ran, it was not Ready.
    pub(super) async fn judge(&self, name: &str, asked: &[(&str, &str, Meets)]) -> Result<()> {
        let kustomizations = self.flux.kustomizations.versions(name).await?;
        let spaces = self.flux.spaces.versions(name).await?;
        for (revision, what, meets) in asked {
            self.judge_revision(name, revision, what, meets).await?;
        }
        let busy: Vec<_> = spaces.iter().filter(|version| version.object["status"]["attempt"].is_object()).collect();
        for version in &busy {
            let kustomization = History::at(&kustomizations, version.at);
            if kustomization.is_some_and(|kustomization| is(&kustomization.object, "Ready", "True")) {
                let status = &version.object["status"];
                return Err(Failure::new(format!("{name} was Ready while an attempt was open: {status}")));
            }
        }
        self.steps.saw(&format!(
            "all {} versions of Kustomization {name} were compared with the {} of its KonigleSpace: Ready for {} of its \
             commits only when what they ask for was so, and in none of the {} in which a job ran",
            kustomizations.len(),
            spaces.len(),
            asked.len(),
            busy.len(),
        ));
        Ok(())
    }

    /// Whenever the Kustomization was Ready for this revision, which it was, the resource was as it should be.
    pub(super) async fn judge_revision(&self, name: &str, revision: &str, what: &str, meets: &Meets) -> Result<()> {
        self.judge_ready_only_when((name, revision), name, what, meets).await
    }

    /// As [`Scene::judge_revision`], of a resource that has another name than its Kustomization.
    pub(super) async fn judge_ready_only_when(
        &self,
        (kustomization, revision): (&str, &str),
        resource: &str,
        what: &str,
        meets: &Meets,
    ) -> Result<()> {
        let kustomizations = self.flux.kustomizations.versions(kustomization).await?;
        let spaces = self.flux.spaces.versions(resource).await?;
        let ready: Vec<_> = kustomizations.iter().filter(|it| is_ready_for(&it.object, revision)).collect();
        if ready.is_empty() {
            return Err(Failure::new(format!("{kustomization} was never recorded as Ready for {revision}")));
        }
        for version in ready {
            let space = History::at(&spaces, version.at).map(|space| &space.object);
            if !space.is_some_and(meets) {
                let status = space.map(|space| space["status"].to_string());
                return Err(Failure::new(format!(
                    "{kustomization} was Ready for {revision} before {what}: {status:?}"
                )));
            }
        }
        Ok(())
    }

    /// The Kustomization was Ready in no version until now.
    pub(super) async fn judge_never_ready(&self, name: &str) -> Result<()> {
        self.judge_never(name, "Ready", |kustomization| is(kustomization, "Ready", "True")).await
    }

    /// The Kustomization had failed health checks in no version until now.
    pub(super) async fn judge_never_failed(&self, name: &str) -> Result<()> {
        let has_failed = |it: &Value| condition(it, "Ready").is_some_and(|ready| ready["reason"] == FAILED);
        self.judge_never(name, "failed", has_failed).await
    }

    async fn judge_never(&self, name: &str, what: &str, is_such: impl Fn(&Value) -> bool) -> Result<()> {
        let kustomizations = self.flux.kustomizations.versions(name).await?;
        match kustomizations.iter().find(|version| is_such(&version.object)) {
            None => Ok(()),
            Some(version) => {
                Err(Failure::new(format!("{name} was {what}: {}", version.object["status"]["conditions"])))
            }
        }
    }
}

/// Whether a KonigleSpace is as a commit wants it.
pub(super) type Meets = Box<dyn Fn(&Value) -> bool>;

/// The wish of this very generation is met, and this digest runs.
pub(super) fn runs(digest: &str) -> Meets {
    let digest = digest.to_owned();
    Box::new(move |space| is_current(space) && space["status"]["release"]["digest"] == digest)
}

/// Whether its condition Ready is True, of its newest generation.
pub(super) fn is_current(space: &Value) -> bool {
    space["status"]["observedGeneration"] == space["metadata"]["generation"] && is(space, "Ready", "True")
}
