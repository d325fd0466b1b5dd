//! The scenes, each an application of its own; they run at once.

use konigle_operator::api::KonigleSpace;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::Argo;
use super::application::{Application, Wish};
use crate::support::artifacts::Artifact;
use crate::support::{Failure, Result};

/// The operator looks at what nothing moves as often as it may, so that there is something to be quiet about.
const OFTEN: (&str, &str) = ("/spec/interval", "30s");

/// The life of the examples, and the actions that change nothing in Konigle.
pub(super) async fn shop(argo: &Argo) -> Result<()> {
    let mut shop = Application::new(argo, "shop")?;
    let (uat, production) = (shop.tree.uat(), shop.tree.production());
    let (one, two) = (shop.release("1.4.2")?, shop.release("1.5.0")?);
    let often = (OFTEN.0, json!(OFTEN.1));
    shop.tree.write_uat(&one, std::slice::from_ref(&often))?;
    shop.tree.write_production(std::slice::from_ref(&often))?;
    let first = shop.commit(&["uat", "production"]).await?;
    shop.steps.saw("commit 1: uat runs 1.4.2, nothing is approved for production");
    let shown = shop.until(&first, &uat, "Progressing").await?;
    shop.steps.saw(&format!("uat is Progressing: {}", shown["health"]["message"]));
    shop.until_healthy(&first).await?;
    shop.until_reason(&production, "AwaitingApproval").await?;
    shop.steps.saw("both are Healthy: uat runs it, and production has nothing to do");

    shop.tree.write_uat(&two, std::slice::from_ref(&often))?;
    shop.tree.write_production(&[often, ("/spec/promotion/approvedDigest", json!(two.digest))])?;
    let second = shop.commit(&["uat", "production"]).await?;
    shop.steps.saw("commit 2: uat runs 1.5.0, and production is approved to");
    shop.until(&second, &uat, "Progressing").await?;
    let shown = shop.until(&second, &production, "Progressing").await?;
    shop.steps.saw(&format!("both are Progressing; production: {}", shown["health"]["message"]));
    shop.until(&second, &uat, "Healthy").await?;
    shop.until_reason(&production, "PromotionRunning").await?;
    shop.until(&second, &production, "Progressing").await?;
    shop.steps.saw("uat is Healthy, production Progressing: it is promoted");
    shop.until_healthy(&second).await?;
    shop.steps.saw("both are Healthy");
    shop.judge(&uat, &[(&*first, Wish::Runs(&one.digest)), (&*second, Wish::Runs(&two.digest))]).await?;
    shop.judge(&production, &[(&*first, Wish::Nothing), (&*second, Wish::Runs(&two.digest))]).await?;
    gentle_actions(&shop, &uat, &second).await
}

/// reconcile, suspend and resume by argocd-server, of a Space whose wish is met.
async fn gentle_actions(shop: &Application<'_>, uat: &str, revision: &str) -> Result<()> {
    let namespace = &shop.argo.stage().namespace;
    offers(shop, uat, &[("reconcile", true), ("reset", false), ("resume", false), ("suspend", true)]).await?;
    act(shop, uat, "reconcile").await?;
    let handled = |space: &KonigleSpace| {
        let handled = space.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
        handled.is_some_and(|handled| handled.starts_with("argocd-"))
    };
    namespace.wait_for(uat, "looked at by an action", handled).await?;
    shop.steps.saw("the action reconcile by argocd-server: the operator looked");
    act(shop, uat, "suspend").await?;
    namespace.wait_for(uat, "suspended and seen so", |space| space.spec.suspend && is_observed(space)).await?;
    offers(shop, uat, &[("reconcile", true), ("reset", false), ("resume", true), ("suspend", false)]).await?;
    shop.until(revision, uat, "Healthy").await?;
    shop.steps.saw(
        "the action suspend: suspended, Synced still for Git has no spec.suspend, and Healthy for its wish is met",
    );
    act(shop, uat, "resume").await?;
    namespace.wait_for(uat, "resumed and seen so", |space| !space.spec.suspend && is_observed(space)).await?;
    shop.steps.saw("the action resume: no longer suspended");
    Ok(())
}

/// Broken, suspended, deployed; and, once no other job runs, deployed over by a person, and reset.
pub(super) async fn trouble(argo: &Argo, shop_is_done: oneshot::Receiver<()>) -> Result<()> {
    let mut trouble = Application::new(argo, "trouble")?;
    let uat = trouble.tree.uat();
    let one = trouble.release("1")?;
    let broken = Artifact { digest: format!("sha256:{}", "0".repeat(64)), ..one.clone() };
    let often = (OFTEN.0, json!(OFTEN.1));
    trouble.tree.write_uat(&broken, std::slice::from_ref(&often))?;
    let first = trouble.commit(&["uat"]).await?;
    let shown = trouble.until(&first, &uat, "Degraded").await?;
    trouble.steps.saw(&format!("commit 1, an artifact with another digest: Degraded: {}", shown["health"]["message"]));

    trouble.tree.write_uat(&one, &[often.clone(), ("/spec/suspend", json!(true))])?;
    let second = trouble.commit(&["uat"]).await?;
    let shown = trouble.until(&second, &uat, "Suspended").await?;
    trouble.steps.saw(&format!("commit 2 mends it, suspended: Suspended: {}", shown["health"]["message"]));
    offers(&trouble, &uat, &[("reconcile", true), ("reset", false), ("resume", true), ("suspend", false)]).await?;

    trouble.tree.write_uat(&one, std::slice::from_ref(&often))?;
    let third = trouble.commit(&["uat"]).await?;
    trouble.until(&third, &uat, "Progressing").await?;
    trouble.until_healthy(&third).await?;
    trouble.steps.saw("commit 3, no longer suspended: Progressing, then Healthy");

    let id = argo.stage().namespace.spaces().get(&uat).await?.status.and_then(|status| status.space);
    let id = id.map(|space| space.id).unwrap_or_default();
    shop_is_done.await?;
    let simulator = &argo.stage().simulator;
    // One within five seconds of our own job cannot be told from it.
    simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    simulator.change_space(&id, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    argo.stage().look_now(&uat).await?;
    let message = trouble.until_reason(&uat, "Drifted").await?;
    trouble.until(&third, &uat, "Degraded").await?;
    trouble.steps.saw(&format!("a person deploys by hand: Degraded: {message:?}"));
    offers(&trouble, &uat, &[("reconcile", true), ("reset", true), ("resume", false), ("suspend", true)]).await?;
    act(&trouble, &uat, "reset").await?;
    trouble.until(&third, &uat, "Progressing").await?;
    trouble.until_healthy(&third).await?;
    trouble.steps.saw("the action reset by argocd-server: deployed again, Healthy");
    let deploys = argo.stage().simulator.ledger(&id).await?.len();
    if deploys != 3 {
        return Err(Failure::new(format!(
            "the Space was deployed to {deploys} times, not by us, by a person and by us"
        )));
    }
    let asked = [(&*first, Wish::Impossible), (&*second, Wish::Impossible), (&*third, Wish::Runs(&one.digest))];
    trouble.judge(&uat, &asked).await
}

/// argocd-server offers exactly these actions, each with whether it can be done now.
async fn offers(application: &Application<'_>, resource: &str, expected: &[(&str, bool)]) -> Result<()> {
    let namespace = application.argo.stage().namespace.name();
    let offered = application.argo.programs.actions(&application.name, namespace, resource, None).await?;
    let offered = offered["actions"].as_array().cloned().unwrap_or_default();
    let mut offered: Vec<(&str, bool)> =
        offered.iter().map(|it| (it["name"].as_str().unwrap_or_default(), it["disabled"] != true)).collect();
    offered.sort_unstable();
    if offered == expected {
        Ok(())
    } else {
        Err(Failure::new(format!("argocd-server offers {offered:?}, not {expected:?}")))
    }
}

async fn act(application: &Application<'_>, resource: &str, action: &str) -> Result<Value> {
    let namespace = application.argo.stage().namespace.name();
    application.argo.programs.actions(&application.name, namespace, resource, Some(action)).await
}

fn is_observed(space: &KonigleSpace) -> bool {
    space.status.as_ref().is_some_and(|status| Some(status.observed_generation) == space.metadata.generation)
}
