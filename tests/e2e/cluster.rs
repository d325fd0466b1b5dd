//! A control plane of a flow's own, with the operator and all that it speaks to, and web apps for several scenes at
//! once.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::stage::Stage;

/// The parts. Dropping it stops them, the control plane last.
pub(crate) struct Cluster {
    pub(crate) stage: Stage,
    pub(crate) control_plane: ControlPlane,
}

impl Cluster {
    /// Starts all of it, with jobs of that many seconds, and a web app of each of these names beside the demo tenant's.
    pub(crate) async fn start(purpose: &str, job_seconds: f64, webapps: &[&str]) -> Result<Self> {
        let mut control_plane = ControlPlane::start().await?;
        control_plane.start_controller_manager()?;
        control_plane.install_crd().await?;
        let stage = Stage::open_on(&control_plane, purpose, job_seconds, |options| options).await?;
        let webapps: Vec<Value> = webapps.iter().map(|name| json!({"name": name})).collect();
        let tenant = json!({"name": "demo", "computers": [{"name": "web-1", "webapps": webapps}]});
        stage.simulator.control(Method::POST, "tenants", &tenant).await?;
        Ok(Self { stage, control_plane })
    }
}
