//! The Space: not there, not the only one of its name, not this resource's, or in no state to take a release.

use kube::api::DeleteParams;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Bed, Case, rows};
use crate::support::Result;
use crate::support::exposition::Exposition;

#[tokio::test]
async fn spaces_that_take_nothing() -> Result<()> {
    let bed = Bed::open("spaces", |options| options).await?;
    bed.run(rows![
        no_space_of_this_id,
        no_space_of_these_names,
        production_space_with_source,
        uat_space_with_promotion,
        two_resources_for_one_space,
        provisioning,
        stopped,
        in_error,
        status_that_nobody_knows,
    ])
    .await
}

async fn no_space_of_this_id(mut case: Case<'_>) -> Result<()> {
    let artifact = case.serve("1")?;
    let mut spec = case.spec(&artifact);
    spec["space"]["id"] = json!("7301962442809349001");
    case.apply(&spec).await?;
    let parts = ["no Space 7301962442809349001", "spec.space.id", "token of the project", "reconcile-at"];
    case.shows("SpaceNotFound", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.seed(json!({"name": "late-by-id", "uat": {"id": "7301962442809349001"}})).await?;
    case.look_now().await?;
    case.wanted = Some(artifact);
    case.runs(0).await?;
    case.posted_to("7301962442809349001", 1).await
}

/// Names that lead nowhere, then to two web apps, then to one.
async fn no_space_of_these_names(mut case: Case<'_>) -> Result<()> {
    let artifact = case.serve("1")?;
    let mut spec = case.spec(&artifact);
    spec["space"] = json!({"computer": case.name, "webapp": "late-by-name", "type": "uat"});
    case.apply(&spec).await?;
    let named = format!("no web app late-by-name on computer {} for this token", case.name);
    let parts = [&named, "matched exactly", "token of the project", "reconcile-at"];
    case.shows("SpaceNotFound", &parts).await?;
    case.seed(json!({"name": "late-by-name", "uat": {"id": "7301962442809349002"}})).await?;
    let webapps: Vec<Value> = ["7301962442809349003", "7301962442809349004"]
        .map(|id| json!({"id": id, "name": "late-by-name", "runtime": "python3", "created_at": "2026-01-01T00:00:00Z"}))
        .into();
    let list = json!({"count": 2, "next": null, "previous": null, "payload": webapps});
    let fault = json!({"operation": "list_webapps", "action": {"answer": {"status": 200, "body": list}}});
    case.bed.simulator.fault(&fault).await?;
    case.look_now().await?;
    let parts = ["7301962442809349003, 7301962442809349004", "spec.space.id"];
    case.shows("InvalidSpec", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.look_now().await?;
    case.wanted = Some(artifact);
    case.runs(0).await?;
    case.posted_to("7301962442809349002", 1).await
}

async fn production_space_with_source(mut case: Case<'_>) -> Result<()> {
    let artifact = case.serve("1")?;
    let mut spec = case.spec(&artifact);
    spec["space"]["id"] = json!(case.production);
    case.apply(&spec).await?;
    case.shows("InvalidSpec", &["a production Space", "make a new KonigleSpace with spec.promotion"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.bed.namespace.spaces().delete(&case.name, &DeleteParams::default()).await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

async fn uat_space_with_promotion(mut case: Case<'_>) -> Result<()> {
    let mut spec = case.promotion("healthy");
    spec["space"]["id"] = json!(case.uat);
    case.apply(&spec).await?;
    case.shows("InvalidSpec", &["a uat Space", "make a new KonigleSpace with spec.source"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.bed.namespace.spaces().delete(&case.name, &DeleteParams::default()).await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

/// The younger one waits for a person; once the older one is gone, the Space is its own.
async fn two_resources_for_one_space(mut case: Case<'_>) -> Result<()> {
    case.deploys("1").await?;
    // Creation times have whole seconds: the first deploy takes longer.
    case.runs(1).await?;
    let artifact = case.serve("2")?;
    case.bed.namespace.apply("the-younger", &case.spec(&artifact)).await?;
    let older = format!("{}/{}", case.bed.namespace.name(), case.name);
    case.other_shows("the-younger", "SpaceConflict", &[&older, "delete this one"]).await?;
    case.posted(1).await?;
    case.others_go_on().await?;
    case.shows("Succeeded", &[]).await?;
    case.bed.namespace.spaces().delete(&case.name, &DeleteParams::default()).await?;
    let space = case.other_shows("the-younger", "Succeeded", &[]).await?;
    let runs = space.status.unwrap_or_default().release.map(|release| release.digest);
    assert_eq!(runs, Some(artifact.digest));
    case.posted(2).await
}

/// Nobody has to do anything.
async fn provisioning(mut case: Case<'_>) -> Result<()> {
    case.change(json!({"status": "provisioning"})).await?;
    case.deploys("1").await?;
    case.shows("SpaceProvisioning", &["still being provisioned", "by itself"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.change(json!({"status": "running"})).await?;
    case.runs(1).await.map(drop)
}

async fn stopped(mut case: Case<'_>) -> Result<()> {
    case.change(json!({"status": "stopped"})).await?;
    case.deploys("1").await?;
    let command = "kubectl annotate kspace stopped --namespace ";
    case.shows("SpaceStopped", &["start it in Konigle's console", command, "reconcile-at=\"$(date +%s)\""]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.change(json!({"status": "running"})).await?;
    case.look_now().await?;
    case.runs(1).await.map(drop)
}

/// A release may be what mends it: a new digest is deployed all the same.
async fn in_error(mut case: Case<'_>) -> Result<()> {
    case.deploys("1").await?;
    case.runs(1).await?;
    case.change(json!({"status": "error"})).await?;
    case.look_now().await?;
    case.shows("SpaceError", &["in status error", "Konigle's console", "redeploy-at"]).await?;
    case.posted(1).await?;
    case.others_go_on().await?;
    case.deploys("2").await?;
    case.runs(2).await.map(drop)
}

/// It keeps nothing from going on; the message names it, and a metric counts it.
async fn status_that_nobody_knows(mut case: Case<'_>) -> Result<()> {
    case.change(json!({"status": "hibernating"})).await?;
    case.deploys("1").await?;
    case.shows("Succeeded", &["in status hibernating"]).await?;
    let page = Exposition::parse(&case.bed.operator.metrics().await?)?;
    assert!(page.value("konigle_unknown_words_total", &[("field", "space_status")])? > 0.0);
    case.others_go_on().await?;
    case.change(json!({"status": "running"})).await?;
    case.look_now().await?;
    let space = case.runs(1).await?;
    let ready = space.status.unwrap_or_default().condition("Ready").map(|ready| ready.message.clone());
    assert!(ready.is_some_and(|message| !message.contains("hibernating")));
    Ok(())
}

impl Case<'_> {
    /// Adds a web app to the row's computer.
    async fn seed(&self, webapp: Value) -> Result<()> {
        let tenant = json!({"name": self.name, "computers": [{"name": self.name, "webapps": [webapp]}]});
        self.bed.simulator.control(Method::POST, "tenants", &tenant).await.map(drop)
    }

    /// Changes the row's uat Space from outside.
    async fn change(&self, change: Value) -> Result<()> {
        self.bed.simulator.change_space(&self.uat, &change).await.map(drop)
    }
}
