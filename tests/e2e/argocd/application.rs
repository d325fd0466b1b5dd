//! One application: its repository on the Git server, how it is read, and the judgement over all that was recorded.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::Argo;
use super::programs::NAMESPACE;
use crate::history::History;
use crate::steps::Steps;
use crate::support::artifacts::Artifact;
use crate::support::rights::manifest;
use crate::support::{Context, Failure, Result};
use crate::tree::Tree;

pub(super) const API_VERSION: &str = "argoproj.io/v1alpha1";
const EXAMPLE: &str = "deploy/argocd/application.yaml";

/// An application, whose name is that of its repository and its web app.
pub(super) struct Application<'argo> {
    pub(super) argo: &'argo Argo,
    pub(super) name: String,
    pub(super) tree: Tree,
    pub(super) steps: Steps,
    is_created: bool,
}

impl<'argo> Application<'argo> {
    /// With an empty repository. The resources of the shop have the examples' own names.
    pub(super) fn new(argo: &'argo Argo, name: &str) -> Result<Self> {
        let prefix = if name == "shop" { String::new() } else { format!("{name}-") };
        let tree = Tree::new(argo.stage().namespace.name(), &prefix, name)?;
        let steps = Steps::new(name, argo.began);
        let application = Self { argo, name: name.to_owned(), tree, steps, is_created: false };
        let folder = argo.programs.repositories.join(name);
        fs::create_dir_all(&folder).context("making a repository")?;
        application.git(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(application)
    }

    /// A release of this web app, where CI put it.
    pub(super) fn release(&self, version: &str) -> Result<Artifact> {
        self.argo.stage().artifacts.serve_application(&format!("{}-{version}", self.name))
    }

    /// Commits these environments as kustomize renders them, and has Argo CD look, as a webhook does; the revision.
    pub(super) async fn commit(&mut self, environments: &[&str]) -> Result<String> {
        let folder = self.argo.programs.repositories.join(&self.name);
        for environment in environments {
            let source = self.tree.folder.join(environment).display().to_string();
            let rendered = self.argo.stage().kubectl.run(&["kustomize", &source]).await?;
            fs::write(folder.join(format!("{environment}.yaml")), rendered).context("writing into the repository")?;
        }
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message=What is wanted"])?;
        let revision = self.git(&["rev-parse", "HEAD"])?.trim().to_owned();
        let kubectl = &self.argo.stage().kubectl;
        if !self.is_created {
            let mut application = manifest(EXAMPLE, "Application", "shop")?;
            application["metadata"] = json!({"name": self.name, "namespace": NAMESPACE});
            application["spec"]["source"]["repoURL"] = json!(self.argo.programs.repository_url(&self.name));
            application["spec"]["destination"]["namespace"] = json!(self.argo.stage().namespace.name());
            kubectl.apply(&application.to_string()).await?;
            self.is_created = true;
            return Ok(revision);
        }
        let refresh = "argocd.argoproj.io/refresh=normal";
        kubectl.run(&["-n", NAMESPACE, "annotate", "application", &self.name, refresh, "--overwrite"]).await?;
        Ok(revision)
    }

    /// Waits until the application is in sync with this revision and has this health, and so has the resource.
    pub(super) async fn until(&self, revision: &str, resource: &str, health: &str) -> Result<Value> {
        let what = format!("{health} with {revision}");
        let is_such =
            |it: &Value| is_synced(it, revision) && of(it, resource).is_some_and(|it| it["health"]["status"] == health);
        let application = self.argo.applications.until(&self.name, &what, is_such).await?;
        Ok(of(&application, resource).cloned().unwrap_or_default())
    }

    /// Waits until the whole application is in sync with this revision and Healthy.
    pub(super) async fn until_healthy(&self, revision: &str) -> Result<()> {
        let is_healthy = |it: &Value| is_synced(it, revision) && it["status"]["health"]["status"] == "Healthy";
        self.argo.applications.until(&self.name, &format!("Healthy with {revision}"), is_healthy).await.map(drop)
    }

    /// Waits until the KonigleSpace has this reason for its newest generation; the message of its condition Ready.
    pub(super) async fn until_reason(&self, resource: &str, reason: &str) -> Result<String> {
        let space = self.argo.stage().namespace.wait_for_reason(resource, reason).await?;
        let ready = space.status.as_ref().and_then(|status| status.condition("Ready"));
        Ok(ready.map(|ready| ready.message.clone()).unwrap_or_default())
    }

    /// Judges everything that was recorded: whenever the application showed this resource as in sync with one of these
    /// revisions and Healthy, the resource had met what that asks for. And while a job ran it was Progressing.
    pub(super) async fn judge(&self, resource: &str, asked: &[(&str, Wish<'_>)]) -> Result<()> {
        let applications = self.argo.applications.versions(&self.name).await?;
        let spaces = self.argo.spaces.versions(resource).await?;
        let (mut healthy, mut progressing) = (0, 0);
        for version in &applications {
            let Some(shown) = of(&version.object, resource) else { continue };
            let space = History::at(&spaces, version.at);
            if shown["health"]["status"] == "Progressing" {
                progressing += i32::from(space.is_some_and(|space| space.object["status"]["attempt"].is_object()));
            }
            if shown["health"]["status"] != "Healthy" || shown["status"] != "Synced" {
                continue;
            }
            let revision = &version.object["status"]["sync"]["revision"];
            let Some((_, wish)) = asked.iter().find(|(asked, _)| revision == asked) else { continue };
            if !spaces.iter().any(|space| space.at <= version.at && wish.is_met_by(&space.object)) {
                let status = space.map(|space| space.object["status"].to_string());
                return Err(Failure::new(format!("{resource} was Healthy with {revision} too early: {status:?}")));
            }
            healthy += 1;
        }
        if healthy == 0 || progressing == 0 {
            let seen = format!("Healthy in {healthy}, and Progressing beside a job in {progressing} versions");
            return Err(Failure::new(format!("{resource} was {seen}")));
        }
        self.steps.saw(&format!(
            "all {} versions of Application {} were compared with the {} of KonigleSpace {resource}: Healthy in \
             {healthy}, each time only when what its commit asks for ran; Progressing in {progressing} while a job ran",
            applications.len(),
            self.name,
            spaces.len(),
        ));
        Ok(())
    }

    fn git(&self, arguments: &[&str]) -> Result<String> {
        git(&self.argo.programs.repositories.join(&self.name), arguments)
    }
}

/// Runs git in a folder; its output.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> Result<String> {
    let running = || format!("git {}", arguments.join(" "));
    let author = ["-c", "user.name=shop", "-c", "user.email=shop@example.com", "-c", "commit.gpgsign=false"];
    let mut command = Command::new("git");
    command.env_remove("GIT_DIR").env_remove("GIT_INDEX_FILE").env_remove("GIT_WORK_TREE");
    let output = command.arg("-C").arg(folder).args(author).args(arguments).output().context(running())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(format!("{} failed: {}", running(), String::from_utf8_lossy(&output.stderr))))
}

/// Whether it was compared with this revision and is as that has it.
fn is_synced(application: &Value, revision: &str) -> bool {
    let sync = &application["status"]["sync"];
    sync["revision"] == revision && sync["status"] == "Synced"
}

/// What an application shows of a KonigleSpace.
fn of<'application>(application: &'application Value, resource: &str) -> Option<&'application Value> {
    let resources = application["status"]["resources"].as_array()?;
    resources.iter().find(|it| it["kind"] == "KonigleSpace" && it["name"] == resource)
}

/// What a commit asks of a KonigleSpace.
pub(super) enum Wish<'digest> {
    /// Something that cannot be: it is never to be Healthy.
    Impossible,
    /// That nothing is left to do.
    Nothing,
    /// That this digest runs.
    Runs(&'digest str),
}

impl Wish<'_> {
    /// By its condition Ready, of its newest generation.
    fn is_met_by(&self, space: &Value) -> bool {
        let status = &space["status"];
        let conditions = status["conditions"].as_array();
        let is_ready = conditions.is_some_and(|it| it.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"));
        let is_current = status["observedGeneration"] == space["metadata"]["generation"];
        let is_such = match self {
            Self::Impossible => false,
            Self::Nothing => true,
            Self::Runs(digest) => status["release"]["digest"] == *digest,
        };
        is_ready && is_current && is_such
    }
}
