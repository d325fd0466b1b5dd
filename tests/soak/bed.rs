//! The parts, the resources, and the versions that they get.

use std::path::PathBuf;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::faults::Random;
use crate::support::Result;
use crate::support::artifacts::Artifacts;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, deploys};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::rights::operator_account;
use crate::support::simulator::Simulator;
use crate::support::trace::Property;
use crate::support::wire::Wire;

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

/// A KonigleSpace, and what it was last told to run.
pub(crate) struct Resource {
    pub(crate) name: String,
    pub(crate) space: String,
    /// Whether people deploy to its Space too.
    pub(crate) shared: bool,
    /// `sha256:…`; no two edits have the same one.
    pub(crate) digest: String,
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
    token: usize,
}

impl Bed {
    /// Starts the parts and applies the resources.
    pub(crate) async fn open() -> Result<Self> {
        let control_plane = ControlPlane::shared().await?;
        let namespace = Namespace::create(control_plane, "soak").await?;
        namespace.tolerate(Property::AllIsSearched, "a process that stands still when it is killed gives no metrics");
        let simulator = Simulator::start(JOB_SECONDS).await?;
        let artifacts = Artifacts::start().await?;
        let resources: Vec<Resource> = (0..RESOURCES)
            .map(|number| Resource {
                name: format!("shop-{number:03}"),
                space: format!("7401962442809{number:06}"),
                shared: number < SHARED,
                digest: String::new(),
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
        let mut bed = Self { namespace, simulator, operator, resources, konigle, kubernetes, artifacts, token: 0 };
        let specs: Vec<(String, Value)> =
            (0..RESOURCES).map(|number| bed.next_version(number)).collect::<Result<_>>()?;
        let apply = |(name, spec): &(String, Value)| {
            let (namespace, name, spec) = (bed.namespace.clone(), name.clone(), spec.clone());
            async move { namespace.apply(&name, &spec).await.map(drop) }
        };
        stream::iter(specs.iter().map(apply)).buffer_unordered(8).try_collect::<Vec<()>>().await?;
        Ok(bed)
    }

    /// Gives one resource a new version.
    pub(crate) async fn edit(&mut self, random: &mut Random) -> Result<()> {
        let (name, spec) = self.next_version(random.below(RESOURCES))?;
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

    fn next_version(&mut self, number: usize) -> Result<(String, Value)> {
        let resource = &mut self.resources[number];
        resource.edits += 1;
        let artifact = self.artifacts.serve_application(&format!("{}-{}", resource.name, resource.edits))?;
        resource.digest.clone_from(&artifact.digest);
        let mut spec = deploys(&resource.space, &artifact.url, &artifact.digest);
        spec["interval"] = json!("30s");
        spec["timeout"] = json!(format!("{TIMEOUT}s"));
        spec["retry"] = json!({"limit": 10});
        // A history that still fills would look like a leak: the watch keeps each resource whole.
        spec["historyLimit"] = json!(2);
        Ok((resource.name.clone(), spec))
    }
}

fn token(number: usize) -> String {
    format!("{CANARY}-{number}-f3a91c")
}
