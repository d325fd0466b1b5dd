//! Manifests and promotions: what the API server refuses at once, and promotions from the wrong resource.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Bed, Case, rows};
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::deploys;
use crate::support::{Failure, Result};

#[tokio::test]
async fn promotions_from_the_wrong_resource_and_refused_manifests() -> Result<()> {
    let bed = Bed::open("specs", |options| options).await?;
    bed.run(rows![
        id_that_is_a_number,
        production_by_name_with_source,
        uat_by_name_with_promotion,
        promotion_from_nothing,
        promotion_from_another_web_app,
        promotion_with_a_token_of_another_project,
    ])
    .await
}

async fn id_that_is_a_number(mut case: Case<'_>) -> Result<()> {
    let mut spec = case.spec(&case.serve("1")?);
    spec["space"]["id"] = json!(case.uat.parse::<u64>()?);
    let manifest = json!({"apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
        "metadata": {"name": case.name, "namespace": case.bed.namespace.name()}, "spec": spec});
    let kubectl = ControlPlane::shared().await?.kubectl();
    let created = kubectl.run_with_input(&["create", "--validate=false", "-f", "-"], &manifest.to_string()).await;
    says(created.map(drop), &["spec.space.id", "must be of type string"])?;
    case.others_go_on().await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

async fn production_by_name_with_source(mut case: Case<'_>) -> Result<()> {
    let mut spec = case.spec(&case.serve("1")?);
    spec["space"] = json!({"computer": case.name, "webapp": case.name, "type": "production"});
    case.is_refused(&spec, &["artifacts are deployed to uat and promoted to production"]).await?;
    case.others_go_on().await?;
    spec["space"]["type"] = json!("uat");
    case.apply(&spec).await?;
    case.runs(1).await.map(drop)
}

async fn uat_by_name_with_promotion(mut case: Case<'_>) -> Result<()> {
    let mut spec = case.promotion("healthy");
    spec["space"] = json!({"computer": case.name, "webapp": case.name, "type": "uat"});
    case.is_refused(&spec, &["artifacts are deployed to uat and promoted to production"]).await?;
    case.others_go_on().await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

/// Healed by making the resource that it names.
async fn promotion_from_nothing(mut case: Case<'_>) -> Result<()> {
    case.apply(&case.promotion("made-later")).await?;
    case.shows("SourceNotFound", &["no KonigleSpace made-later in this namespace", "spec.promotion.from.name"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    let artifact = case.serve("1")?;
    case.bed.namespace.apply("made-later", &case.spec(&artifact)).await?;
    case.promoted(&artifact.digest).await
}

/// A promotion names no target of its own: it would change the other web app's production Space.
async fn promotion_from_another_web_app(mut case: Case<'_>) -> Result<()> {
    let webapp = json!({"name": "another-web-app", "uat": {"id": "7301962442809349101"},
        "production": {"id": "7301962442809349102"}});
    let seed = json!({"name": case.name, "computers": [{"name": case.name, "webapps": [webapp]}]});
    case.bed.simulator.control(Method::POST, "tenants", &seed).await?;
    let artifact = case.serve("1")?;
    let mut other = case.spec(&artifact);
    other["space"]["id"] = json!("7301962442809349101");
    case.bed.namespace.apply("another-web-app", &other).await?;
    case.other_shows("another-web-app", "Succeeded", &[]).await?;
    // Nobody has approved anything yet: whoever is about to learns it before.
    let mut unapproved = case.promotion("another-web-app");
    unapproved["promotion"] = json!({"from": {"name": "another-web-app"}, "policy": "Manual"});
    case.apply(&unapproved).await?;
    case.shows("PairNotProven", &["another-web-app is of web app", "correct spec.promotion.from"]).await?;
    case.apply(&case.promotion("another-web-app")).await?;
    let parts = ["another-web-app is of web app", "nothing is sent", "correct spec.promotion.from"];
    case.shows("PairNotProven", &parts).await?;
    case.posted(0).await?;
    case.posted_to("7301962442809349102", 0).await?;
    case.others_go_on().await?;
    case.bed.namespace.apply("the-right-one", &case.spec(&artifact)).await?;
    case.other_shows("the-right-one", "Succeeded", &[]).await?;
    case.apply(&case.promotion("the-right-one")).await?;
    case.promoted(&artifact.digest).await?;
    case.posted_to("7301962442809349102", 0).await
}

/// The token of the production resource does not see the uat Space.
async fn promotion_with_a_token_of_another_project(mut case: Case<'_>) -> Result<()> {
    let artifact = case.serve("1")?;
    case.bed.namespace.write_secret("both-spaces", &json!({"token": case.token})).await?;
    let mut uat = deploys(&case.uat, &artifact.url, &artifact.digest);
    uat["credentials"]["secretRef"]["name"] = json!("both-spaces");
    case.bed.namespace.apply("seen-by-one", &uat).await?;
    case.other_shows("seen-by-one", "Succeeded", &[]).await?;
    let foreign = json!({"name": "stranger", "tokens": ["canary-stranger"], "computers": [{"name": "stranger",
        "webapps": [{"name": "stranger", "production": {"id": "7301962442809349103"}}]}]});
    case.bed.simulator.control(Method::POST, "tenants", &foreign).await?;
    case.write_secret(&json!({"token": "canary-stranger"})).await?;
    let mut promotion = case.promotion("seen-by-one");
    promotion["space"]["id"] = json!("7301962442809349103");
    case.apply(&promotion).await?;
    let parts = ["the token cannot see the Space of KonigleSpace seen-by-one", "needs a token for both Spaces"];
    case.shows("PairNotProven", &parts).await?;
    case.posted_to(&case.production, 0).await?;
    case.posted_to("7301962442809349103", 0).await?;
    case.others_go_on().await
}

impl Case<'_> {
    /// Sees that the API server does not take this spec, and says these parts.
    async fn is_refused(&self, spec: &Value, parts: &[&str]) -> Result<()> {
        says(self.apply(spec).await.map(drop), parts)
    }

    /// Waits until the row's production Space runs this digest, by one promotion.
    async fn promoted(&self, digest: &str) -> Result<()> {
        let space = self.shows("Succeeded", &[]).await?;
        let runs = space.status.unwrap_or_default().release.map(|release| release.digest);
        if runs.as_deref() != Some(digest) {
            return Err(Failure::new(format!("production runs {runs:?}, not {digest}")));
        }
        self.posted_to(&self.production, 1).await
    }
}

/// Sees that the API server refused, with these parts in its message.
fn says(answer: Result<()>, parts: &[&str]) -> Result<()> {
    let Err(failure) = answer else { return Err(Failure::new("the API server took it")) };
    let text = failure.to_string();
    match parts.iter().find(|part| !text.contains(**part)) {
        None => Ok(()),
        Some(missing) => Err(Failure::new(format!("the refusal does not say {missing:?}: {text}"))),
    }
}
