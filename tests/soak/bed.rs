//! The parts, the resources, and the versions that they get.

use std::path::PathBuf;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::faults::Random;
use crate::support::artifacts::{Artifacts, application, digest_of, tar_gz};
use crate::support::control_plane::ControlPlane;
use crate::support::flux_source::{FluxSource, install_crds};
use crate::support::namespace::{Namespace, SECRET};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::registry::Registry;
use crate::support::rights::operator_account;
use crate::support::run_folder::new_folder;
use crate::support::simulator::Simulator;
use crate::support::trace::Property;
use crate::support::wire::Wire;
use crate::support::{Context, Result};

/// What every token begins with, to be looked for where none may be.
pub(crate) const CANARY: &str = "canary-soak";
const RESOURCES: usize = 200;
/// So many of them are deployed to by people as well.
const SHARED: usize = 10;
const JOB_SECONDS: f64 = 2.0;

/// How long a request may still take effect; longer than anything here holds one back.
pub(crate) const SETTLE: u64 = 8;
/// `spec.timeout`, in seconds.
pub(crate) const TIMEOUT: u64 = 20;

/// One edit in so many is of a resource whose artifact comes from a registry or from Flux: there are few of them.
const EDITS_OF_ORIGINS: usize = 8;

/// Where what a resource runs is published.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Each version behind a URL of its own.
    Http,
    /// Each as the same tag.
    Tag,
    /// Each as the newest artifact of the same source, to be packed.
    Flux,
}

/// A KonigleSpace, and what it was last told to run.
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) space: String,
    /// Whether people deploy to its Space too.
    pub(crate) shared: bool,
    /// `sha256:…`; no two edits have the same one.
    pub(crate) digest: String,
    /// The digest of the ZIP that is sent of it; none where the operator makes it.
    pub(crate) sent: Option<String>,
    origin: Origin,
    edits: usize,
}

/// Everything that runs.
pub(crate) struct Bed {
    pub(crate) namespace: Namespace,
    pub(crate) simulator: Simulator,
    pub(crate) operator: Operator,
    pub(crate) resources: Vec<Resource>,
    /// Before Konigle.
    pub(crate) konigle: Wire,
    /// Before the API server.
    pub(crate) kubernetes: Wire,
    artifacts: Artifacts,
    registry: Registry,
    source: FluxSource,
    token: usize,
}

impl Bed {
    /// Starts the parts and applies the resources.
    pub(crate) async fn open() -> Result<Self> {
        let control_plane = ControlPlane::shared().await?;
        let namespace = Namespace::create(control_plane, "soak").await?;
        namespace.tolerate(Property::AllIsSearched, "a process that stands still when it is killed gives no metrics");
        let simulator = Simulator::start(JOB_SECONDS).await?;
        let (artifacts, registry) = (Artifacts::start().await?, Registry::start().await?);
        install_crds(&control_plane.kubectl()).await?;
        let source = FluxSource::create(&namespace, "GitRepository", "shop").await?;
        let resources: Vec<Resource> = (0..RESOURCES)
            .map(|number| Resource {
                name: format!("shop-{number:03}"),
                space: format!("7401962442809{number:06}"),
                shared: number < SHARED,
                digest: String::new(),
                sent: None,
                origin: match RESOURCES - number {
                    1 => Origin::Tag,
                    2 => Origin::Flux,
                    _ => Origin::Http,
                },
                edits: 0,
            })
            .collect();
        let shared: Vec<&str> =
            resources.iter().filter(|resource| resource.shared).map(|resource| resource.name.as_str()).collect();
        let why = "a person who deploys during a job of ours cannot be told from it";
        namespace.tolerate_of(&shared, Property::ConfirmedIsOurs, why);
        let webapp = |resource: &Resource| json!({"name": resource.name, "uat": {"id": resource.space}});
        let webapps: Vec<Value> = resources.iter().map(webapp).collect();
        let tenant =
            json!({"name": "soak", "tokens": [token(0)], "computers": [{"name": "soak-1", "webapps": webapps}]});
        simulator.control(Method::POST, "tenants", &tenant).await?;
        namespace.write_token(&token(0)).await?;
        let account = operator_account(control_plane, &namespace).await?;
        let konigle = Wire::start(&simulator.base_url()).await?;
        let (kubernetes, kubeconfig): (Wire, PathBuf) = Wire::before_api_server(&account).await?;
        let options = OperatorOptions::new(&kubeconfig, &konigle.base_url(), namespace.name())
            .flag(&format!("--unknown-outcome-settle={SETTLE}s"))
            .flag("--api-rate=10000")
            .flag("--api-burst=10000")
            // Tells of each pass.
            .flag("--log-level=info,konigle_operator=debug");
        let operator = Operator::start(options).await?;
        let token = 0;
        let mut bed =
            Self { namespace, simulator, operator, resources, konigle, kubernetes, artifacts, registry, source, token };
        let mut specs: Vec<(String, Value)> = Vec::new();
        for number in 0..RESOURCES {
            specs.push(bed.next_version(number).await?);
        }
        let apply = |(name, spec): &(String, Value)| {
            let (namespace, name, spec) = (bed.namespace.clone(), name.clone(), spec.clone());
            async move { namespace.apply(&name, &spec).await.map(drop) }
        };
        stream::iter(specs.iter().map(apply)).buffer_unordered(8).try_collect::<Vec<()>>().await?;
        Ok(bed)
    }

    /// Gives one resource a new version.
    pub(crate) async fn edit(&mut self, random: &mut Random) -> Result<()> {
        let number = match random.below(EDITS_OF_ORIGINS) {
            0 => RESOURCES - 1 - random.below(2),
            _ => random.below(RESOURCES),
        };
        let (name, spec) = self.next_version(number).await?;
        self.namespace.apply(&name, &spec).await.map(drop)
    }

    /// Has a person deploy to one of the Spaces that are set apart for it.
    pub(crate) async fn deploy_by_a_person(&self, random: &mut Random) -> Result<()> {
        self.simulator.deploy_by_a_person(&self.resources[random.below(SHARED)].space).await
    }

    /// Has the next job of one Space fail.
    pub(crate) async fn fail_a_job(&self, random: &mut Random) -> Result<()> {
        let change = json!({"next_jobs": [{"outcome": "failed", "seconds": 1}]});
        self.simulator.change_space(&self.resources[random.below(RESOURCES)].space, &change).await.map(drop)
    }

    /// Puts a new token into the Secret; the one before goes on to be accepted until the next time.
    pub(crate) async fn rotate_token(&mut self) -> Result<()> {
        let tokens = json!({"tokens": [token(self.token), token(self.token + 1)]});
        self.simulator.control(Method::PATCH, "tenants/soak", &tokens).await?;
        self.token += 1;
        self.namespace.write_token(&token(self.token)).await
    }

    async fn next_version(&mut self, number: usize) -> Result<(String, Value)> {
        let resource = &mut self.resources[number];
        resource.edits += 1;
        let version = format!("{}-{}", resource.name, resource.edits);
        let source = match resource.origin {
            Origin::Http => {
                let artifact = self.artifacts.serve_application(&version)?;
                resource.digest.clone_from(&artifact.digest);
                resource.sent = Some(artifact.digest.clone());
                json!({"http": {"url": artifact.url, "digest": artifact.digest}})
            }
            Origin::Tag => {
                let (file, zip) = (new_folder("pushed")?.join("shop.zip"), application(&version)?);
                resource.sent = Some(digest_of(&zip));
                std::fs::write(&file, zip).context("writing what is pushed")?;
                resource.digest = self.registry.push_zip(&file, "shop:live").await?;
                json!({"oci": {"repository": self.registry.reference("shop"), "tag": "live"}})
            }
            Origin::Flux => {
                let manifest = "[processes.web]\ncommand = \"serve\"\n";
                let archive =
                    tar_gz(&[("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", manifest), ("version", &version)])?;
                resource.digest = self.source.store(&self.artifacts, archive, &version).await?.digest;
                json!({"sourceRef": self.source.reference()})
            }
        };
        // A history that still fills would look like a leak: the watch keeps each resource whole.
        let spec = json!({
            "space": {"id": resource.space}, "credentials": {"secretRef": {"name": SECRET}}, "source": source,
            "interval": "30s", "timeout": format!("{TIMEOUT}s"), "retry": {"limit": 10}, "historyLimit": 2,
        });
        Ok((resource.name.clone(), spec))
    }
}

fn token(number: usize) -> String {
    format!("{CANARY}-{number}-f3a91c")
}
