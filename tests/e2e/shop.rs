//! A shop in a namespace of its own: a uat and a production Space, and the whole of what the operator does for them.

use k8s_openapi::api::events::v1::Event;
use konigle_operator::api::{FluxKind, KonigleSpace, RELEASED};
use kube::ResourceExt;
use kube::api::ListParams;
use reqwest::Method;
use serde_json::json;

use crate::say;
use crate::support::Result;
use crate::support::artifacts::{Artifact, Artifacts};
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, deploys, promotes, wait_for};
use crate::support::simulator::{PRODUCTION, Simulator, TOKEN, UAT};
use crate::support::stage::{is_ready, runs};

/// The name of the resource of the uat Space.
pub(crate) const UAT_RESOURCE: &str = "shop-uat";
/// The name of the resource of the production Space.
pub(crate) const PRODUCTION_RESOURCE: &str = "shop-production";

/// One namespace with the Spaces of one web app.
pub(crate) struct Shop {
    pub(crate) namespace: Namespace,
    uat: String,
    production: String,
}

impl Shop {
    /// The shop that the simulator's demo tenant has.
    pub(crate) async fn open(control_plane: &ControlPlane) -> Result<Self> {
        Self::in_namespace(control_plane, UAT, PRODUCTION).await
    }

    /// One more web app of that tenant.
    pub(crate) async fn open_another(control_plane: &ControlPlane, simulator: &Simulator) -> Result<Self> {
        let (uat, production) = ("7301962442809349001", "7301962442809349002");
        let webapp = json!({"name": "other", "uat": {"id": uat}, "production": {"id": production}});
        let tenant = json!({"name": "demo", "computers": [{"name": "web-2", "webapps": [webapp]}]});
        simulator.control(Method::POST, "tenants", &tenant).await?;
        Self::in_namespace(control_plane, uat, production).await
    }

    async fn in_namespace(control_plane: &ControlPlane, uat: &str, production: &str) -> Result<Self> {
        let namespace = Namespace::create(control_plane, "shop").await?;
        namespace.write_token(TOKEN).await?;
        Ok(Self { namespace, uat: uat.to_owned(), production: production.to_owned() })
    }

    /// Applies KonigleSpaces that name a source of each kind that Flux has. They are not to be acted on, and of no Space.
    pub(crate) async fn use_sources(&self) -> Result<()> {
        for kind in FluxKind::ALL {
            let mut spec = deploys("1", "", "");
            spec["source"] = json!({"sourceRef": {"kind": kind, "name": "shop"}});
            spec["suspend"] = json!(true);
            self.namespace.apply(&format!("from-{}", kind.word().to_lowercase()), &spec).await?;
        }
        Ok(())
    }

    /// Deploys a version, promotes it, and deploys another one; all that follows is written when it returns.
    pub(crate) async fn live(&self, artifacts: &Artifacts) -> Result<()> {
        let name = self.namespace.name();
        let first = artifacts.serve_application(&format!("{name}-1"))?;
        self.deploy(&first).await?;
        self.namespace.apply(PRODUCTION_RESOURCE, &promotes(&self.production, UAT_RESOURCE)).await?;
        self.namespace.wait_for_reason(PRODUCTION_RESOURCE, "AwaitingApproval").await?;
        let mut approved = promotes(&self.production, UAT_RESOURCE);
        approved["promotion"]["approvedDigest"] = json!(first.digest);
        self.namespace.apply(PRODUCTION_RESOURCE, &approved).await?;
        self.until_it_runs(PRODUCTION_RESOURCE, &first).await?;
        say(&format!("{name}: {} was approved and promoted to production", short(&first)));
        self.deploy(&artifacts.serve_application(&format!("{name}-2"))?).await?;
        let reasons = self.reasons().await?;
        say(&format!("{name}: Events: {}", reasons.join(", ")));
        Ok(())
    }

    async fn deploy(&self, artifact: &Artifact) -> Result<()> {
        self.namespace.apply(UAT_RESOURCE, &deploys(&self.uat, &artifact.url, &artifact.digest)).await?;
        self.until_it_runs(UAT_RESOURCE, artifact).await?;
        say(&format!("{}: {} was deployed to uat and noted on the resource", self.namespace.name(), short(artifact)));
        Ok(())
    }

    async fn until_it_runs(&self, resource: &str, artifact: &Artifact) -> Result<KonigleSpace> {
        let noted = |space: &KonigleSpace| {
            space.annotations().get(RELEASED).is_some_and(|noted| noted.contains(&artifact.digest))
        };
        let rests = |space: &KonigleSpace| is_ready(space) && runs(space, &artifact.digest) && noted(space);
        self.namespace.wait_for(resource, "Ready with the digest, and noted", rests).await
    }

    /// The reasons of all Events of this namespace, once those of the whole life are there.
    async fn reasons(&self) -> Result<Vec<String>> {
        const LIFE: [&str; 4] = ["DeployStarted", "DeploySucceeded", "PromotionStarted", "PromotionSucceeded"];
        wait_for("all Events", async || {
            let events = self.namespace.api::<Event>().list(&ListParams::default()).await?;
            let mut reasons: Vec<String> = events.into_iter().filter_map(|event| event.reason).collect();
            reasons.sort();
            reasons.dedup();
            Ok(LIFE.iter().all(|reason| reasons.iter().any(|seen| seen == reason)).then_some(reasons))
        })
        .await
    }
}

fn short(artifact: &Artifact) -> &str {
    &artifact.digest[..19]
}
