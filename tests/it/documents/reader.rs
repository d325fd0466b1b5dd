//! Whoever reads a document and types what stands there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use super::comparison::{normal, shortened, stable};
use crate::support::artifacts::application;
use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::Kubectl;
use crate::support::markdown::{Part, parts};
use crate::support::namespace::Namespace;
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::parts::part;
use crate::support::registry::{PASSWORD, Registry, RegistryOptions};
use crate::support::rights::install;
use crate::support::run_folder::{new_folder, package};
use crate::support::simulator::TOKEN;
use crate::support::stage::Stage;
use crate::support::{Context, Failure, Result};

/// The namespace that all documents speak of.
pub(super) const NAMESPACE: &str = "shop";
/// What documents call the API key, before it is replaced and afterwards. The simulator takes both.
const API_KEYS: [&str; 2] = ["YOUR-API-KEY", "NEW-API-KEY"];
/// Where documents say that artifacts are. The test bed's server takes its place.
const ARTIFACT_HOST: &str = "https://ci.example.com";
/// The releases that are there, by their versions.
const VERSIONS: [&str; 4] = ["1.4.2", "1.5.0", "1.6.0", "1.6.1"];
/// What of this repository documents have commands about.
const REPOSITORY: [&str; 3] = ["charts", "crds", "deploy"];
/// How many seconds the commands of a block may take. Generous: only one that waits for what never comes takes so long.
const LIMIT: &str = "240";

/// Does what the document says, from its beginning to its end, and fails where something else is printed.
pub(super) async fn follow(document: &str) -> Result<()> {
    let path = package().join(document);
    let text = fs::read_to_string(&path).context(format!("reading {document}"))?;
    let parts = parts(&text).context(document.to_owned())?;
    let control_plane = ControlPlane::start().await?;
    let mut reader = Reader::open(&control_plane).await?;
    let mut differences = Vec::new();
    let (mut written, mut end) = (String::new(), 0);
    for part in parts {
        match part {
            Part::Given(state) => reader.bring_about(&state).await.context(format!("{document}, given: {state}"))?,
            Part::File { name, text } => reader.write(&name, &text)?,
            Part::Change(change) => reader.succeed(&format!("git apply <<'END'\n{change}END\n")).await?,
            Part::Script(commands) => reader.succeed(&commands).await?,
            Part::Command { command, printed: expected, place } => {
                let Ended { printed, has_succeeded } = reader.run(&command).await?;
                if !has_succeeded {
                    let way_out = "where that is right, it ends with `; echo \"exit code $?\"`";
                    return Err(Failure::new(format!(
                        "{document}: {command}\nfailed, {way_out}; it printed:\n{printed}"
                    )));
                }
                // What is as it should be stays as it stands, its ages too.
                if normal(&printed) != normal(&expected) {
                    differences.push(format!("$ {command}\n--- in {document}\n{expected}\n--- printed\n{printed}"));
                    written.extend([&text[end..place.start], &shortened(&printed)]);
                    end = place.end;
                }
            }
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(&path, written + &text[end..]).context(format!("writing {document}"));
    }
    assert!(differences.is_empty(), "UPDATE_DOCS=1 writes what is printed:\n{}", differences.join("\n\n"));
    Ok(())
}

/// The parts that a document needs. The control plane is the document's own, so that its namespaces have the names that
/// stand there, and what it installs for the whole cluster meets no other test.
pub(super) struct Reader<'a> {
    pub(super) control_plane: &'a ControlPlane,
    pub(super) stage: Stage,
    pub(super) kubectl: Kubectl,
    folder: PathBuf,
    /// What the commands so far have set, for the shell of the next.
    environment: PathBuf,
    /// Where documents say that registry.example.com is.
    registry: Option<Registry>,
    /// In the order in which they are dropped.
    other: Option<(Operator, ControlPlane)>,
}

/// How a command ended.
struct Ended {
    printed: String,
    has_succeeded: bool,
}

impl<'a> Reader<'a> {
    /// A cluster with the operator, a Konigle with the demo tenant, and the releases.
    async fn open(control_plane: &'a ControlPlane) -> Result<Self> {
        let stage = Stage::installed(control_plane, NAMESPACE).await?;
        stage.namespace.keep_tokens(&API_KEYS);
        let tokens: Vec<&str> = API_KEYS.into_iter().chain([TOKEN]).collect();
        stage.simulator.control(Method::PATCH, "tenants/demo", &json!({"tokens": tokens})).await?;
        let own = new_folder("reader")?;
        let (folder, environment) = (own.join("folder"), own.join("environment"));
        fs::create_dir(&folder)?;
        fs::write(&environment, "")?;
        for version in VERSIONS {
            stage.artifacts.serve_application(version)?;
            fs::write(folder.join(format!("shop-{version}.zip")), application(version)?)?;
        }
        for name in REPOSITORY {
            symlink(package().join(name), folder.join(name))?;
        }
        let kubeconfig = control_plane.write_admin_kubeconfig("default")?;
        let kubectl = control_plane.kubectl().with_kubeconfig(kubeconfig);
        Ok(Self { control_plane, stage, kubectl, folder, environment, registry: None, other: None })
    }

    /// Another cluster with an operator, beside the first in the kubeconfig file: `new` beside `old`.
    pub(super) async fn open_another_cluster(&mut self) -> Result<()> {
        let control_plane = ControlPlane::start().await?;
        let kubeconfig = install(&control_plane).await?;
        Namespace::named(&control_plane, NAMESPACE).await?;
        let operator = self.stage.another_operator(|options| OperatorOptions { kubeconfig, ..options }).await?;
        let (old, new) = (self.kubectl.kubeconfig(), control_plane.kubeconfig());
        let (mut both, other): (Value, Value) = (read(old)?, read(&new)?);
        for (name, of) in [("old", both.clone()), ("new", other)] {
            let named = |kind: &str, singular: &str| json!({"name": name, singular: of[kind][0][singular]});
            let context = json!({"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}});
            let entries =
                [("clusters", named("clusters", "cluster")), ("users", named("users", "user")), ("contexts", context)];
            for (kind, entry) in entries {
                both[kind].as_array_mut().into_iter().for_each(|all| all.push(entry.clone()));
            }
        }
        fs::write(old, both.to_string())?;
        self.other = Some((operator, control_plane));
        Ok(())
    }

    /// A real registry, and `oras` with an account of it among the programs.
    pub(super) async fn open_registry(&mut self) -> Result<()> {
        let registry = Registry::start_with(RegistryOptions::default().with_tokens()).await?;
        let oras = tokio::task::spawn_blocking(|| part("oras")).await??;
        let programs = oras.parent().unwrap_or(&self.folder).display();
        let account = registry.folder().display();
        let kept = fs::read_to_string(&self.environment)?;
        let more = format!("export PATH='{programs}':\"$PATH\"\nexport DOCKER_CONFIG='{account}'\n");
        fs::write(&self.environment, kept + &more)?;
        self.registry = Some(registry);
        Ok(())
    }

    /// Writes the file of this name that another document shows.
    pub(super) fn take_over(&self, document: &str, file: &str) -> Result<()> {
        let text = fs::read_to_string(package().join(document))?;
        let is_it = |part: &Part| matches!(part, Part::File { name, .. } if name == file);
        match parts(&text)?.into_iter().find(is_it) {
            Some(Part::File { name, text }) => self.write(&name, &text),
            _ => Err(Failure::new(format!("{document} shows no {file}"))),
        }
    }

    /// Writes a file into the folder.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<()> {
        self.write_bytes(name, self.in_the_test_bed(text).as_bytes())
    }

    /// Writes a file into the folder, whatever is in it.
    pub(super) fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        fs::write(&path, bytes).context(format!("writing {name}"))
    }

    /// Runs commands that must succeed.
    pub(super) async fn succeed(&self, commands: &str) -> Result<()> {
        let ended = self.run(&format!("set -e\n{commands}")).await?;
        let failed = || Failure::new(format!("these commands failed:\n{commands}\nthey printed:\n{}", ended.printed));
        ended.has_succeeded.then_some(()).ok_or_else(failed)
    }

    /// Runs a command, and gives what it prints, both outputs together, with the words of the document.
    async fn run(&self, command: &str) -> Result<Ended> {
        let command = self.in_the_test_bed(command);
        let script =
            format!("exec 2>&1\nset -a\n. \"$KEPT\"\ncd \"$PWD\"\ntrap 'export -p > \"$KEPT\"' EXIT\n{command}");
        // In a process group of its own, which ends as a whole.
        let mut shell = self.kubectl.shell("timeout")?;
        shell.args(["--kill-after=5", LIMIT, "sh", "-c", &script]).env("KEPT", &self.environment);
        shell.current_dir(&self.folder).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || shell.output()).await?.context(command)?;
        let printed = stable(&self.in_the_document(&String::from_utf8_lossy(&output.stdout)));
        Ok(Ended { printed, has_succeeded: output.status.success() })
    }

    /// What stands in the document, with the addresses of the test bed.
    fn in_the_test_bed(&self, text: &str) -> String {
        self.names().into_iter().fold(text.to_owned(), |text, (document, own)| text.replace(document, &own))
    }

    /// What the test bed says, with the addresses of the document.
    fn in_the_document(&self, text: &str) -> String {
        self.names().into_iter().fold(text.to_owned(), |text, (document, own)| text.replace(&own, document))
    }

    /// What documents say, and what it is here.
    fn names(&self) -> Vec<(&'static str, String)> {
        let registry = self.registry.as_ref().map(|registry| ("registry.example.com", registry.host()));
        let password = self.registry.as_ref().map(|_| ("REGISTRY-PASSWORD", PASSWORD.to_owned()));
        let artifacts = (ARTIFACT_HOST, self.stage.artifacts.url(""));
        let konigle = ("https://tim.konigle.com", self.stage.simulator.base_url());
        [artifacts, konigle].into_iter().chain(registry).chain(password).collect()
    }
}

fn read(kubeconfig: &Path) -> Result<Value> {
    let reading = || format!("reading {}", kubeconfig.display());
    serde_json::from_str(&fs::read_to_string(kubeconfig).context(reading())?).context(reading())
}
