//! The parts that all measurements share: the API server, the simulator, and web apps in it, a tenant for each
//! measurement, so that none uses up another's rate.

use std::time::{Duration, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::artifacts::{Artifact, Artifacts};
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, SECRET};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::rights::operator_account;
use crate::support::simulator::Simulator;
use crate::support::{Failure, Result};

/// How long the simulator's jobs take unless a measurement says otherwise, in seconds.
const JOB_SECONDS: f64 = 0.2;

/// Rates that keep nothing back.
pub(crate) const NO_RATE_LIMIT: &[&str] = &["--api-rate=10000", "--api-burst=10000"];

/// What runs all the time.
pub(crate) struct Stage {
    pub(crate) simulator: Simulator,
    /// What all resources deploy.
    pub(crate) artifact: Artifact,
    /// Its bytes.
    pub(crate) zip: Vec<u8>,
    /// Serves it, and others.
    pub(crate) artifacts: Artifacts,
    control_plane: ControlPlane,
}

impl Stage {
    /// Starts the parts and waits until they are ready.
    pub(crate) async fn start() -> Result<Self> {
        let control_plane = ControlPlane::start().await?;
        control_plane.install_crd().await?;
        let simulator = Simulator::start(JOB_SECONDS).await?;
        let artifacts = Artifacts::start().await?;
        let zip = crate::support::artifacts::application("1")?;
        let artifact = artifacts.serve("/shop-1.zip", zip.clone());
        Ok(Self { simulator, artifact, zip, artifacts, control_plane })
    }

    /// A namespace with the Secret of the tenant of the same name.
    pub(crate) async fn namespace(&self, purpose: &str) -> Result<Namespace> {
        let namespace = Namespace::create(&self.control_plane, purpose).await?;
        namespace.write_token(&token(&namespace)).await?;
        Ok(namespace)
    }

    /// Makes `count` web apps for this namespace's token and gives the ids of their uat Spaces, which are as `uat` says.
    pub(crate) async fn spaces(&self, namespace: &Namespace, count: usize, uat: &Value) -> Result<Vec<String>> {
        let name = namespace.name();
        let ids: Vec<String> = (0..count).map(|number| format!("73{:06}{number:08}", fingerprint(name))).collect();
        let webapps: Vec<Value> = ids
            .iter()
            .enumerate()
            .map(|(number, id)| {
                let mut uat = uat.clone();
                uat["id"] = json!(id);
                json!({"name": format!("{name}-{number}"), "uat": uat})
            })
            .collect();
        let tenant =
            json!({"name": name, "tokens": [token(namespace)], "computers": [{"name": name, "webapps": webapps}]});
        self.simulator.control(Method::POST, "tenants", &tenant).await?;
        Ok(ids)
    }

    /// Starts an operator for this namespace, with the rights that it is installed with.
    pub(crate) async fn operator(&self, namespace: &Namespace, flags: &[&str]) -> Result<Operator> {
        let account = operator_account(&self.control_plane, namespace).await?;
        let options = OperatorOptions::new(&account, &self.simulator.base_url(), namespace.name());
        Operator::start(flags.iter().fold(options, |options, flag| options.flag(flag))).await
    }

    /// When the head of the deploy to each of these Spaces arrived, in milliseconds since the epoch.
    pub(crate) async fn arrivals(&self, spaces: &[String]) -> Result<Vec<f64>> {
        let requests = self.simulator.requests().await?;
        let posts = requests["posts"].as_array().ok_or_else(|| Failure::new("the simulator lists no POSTs"))?;
        let of = |space: &String| {
            let post = posts.iter().find(|post| post["object"] == **space);
            let arrived = post.and_then(|post| post["arrived_ms"].as_f64());
            arrived.ok_or_else(|| Failure::new(format!("no POST arrived for Space {space}")))
        };
        spaces.iter().map(of).collect()
    }

    /// How often these Spaces were read.
    pub(crate) async fn looks(&self, spaces: &[String]) -> Result<u64> {
        let requests = self.simulator.requests().await?;
        let of = |space: &String| requests["by_object"][space]["get_space"].as_u64().unwrap_or_default();
        Ok(spaces.iter().map(of).sum())
    }
}

/// The spec of a resource that deploys the stage's artifact to this Space.
pub(crate) fn spec(space: &str, artifact: &Artifact) -> Value {
    json!({
        "space": {"id": space},
        "credentials": {"secretRef": {"name": SECRET}},
        "source": {"http": {"url": artifact.url, "digest": artifact.digest}},
    })
}

/// The token of the tenant that belongs to a namespace.
pub(crate) fn token(namespace: &Namespace) -> String {
    format!("{}-token", namespace.name())
}

/// The time of this machine, which the simulator's times can be compared to, in milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "a benchmark compares the times of two processes")]
pub(crate) fn now_ms() -> f64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64() * 1e3
}

/// A part of the ids that no two namespaces share.
fn fingerprint(name: &str) -> u32 {
    name.bytes().fold(7, |hash: u32, byte| (hash * 31 + u32::from(byte)) % 1_000_000)
}
