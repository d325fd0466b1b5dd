//! Several resources for one Space, and resources that are deleted, made anew or restored: nothing is deployed twice.

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpace, KonigleSpaceStatus, RECONCILE_AT, RELEASED};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use reqwest::Method;
use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, ready_reason, wait_for};
use crate::support::operator::OperatorOptions;
use crate::support::proxy::{Matcher, Proxy, claims};
use crate::support::simulator::{TOKEN, UAT};
use crate::support::stage::{SHOP, Stage, is_ready};
use crate::support::trace::Property;
use crate::support::{Failure, Result};

/// The job of the open attempt.
fn job_of(space: &KonigleSpace) -> Option<&String> {
    space.status.as_ref()?.attempt.as_ref()?.job_id.as_ref()
}

async fn take_away(stage: &Stage, what: &serde_json::Value) -> Result<()> {
    stage.namespace.spaces().patch_status(SHOP, &PatchParams::default(), &Patch::Merge(what)).await?;
    Ok(())
}

async fn delete(stage: &Stage) -> Result<()> {
    stage.namespace.spaces().delete(SHOP, &DeleteParams::default()).await?;
    wait_for("gone", async || Ok(stage.namespace.spaces().get_opt(SHOP).await?.is_none().then_some(()))).await
}

/// Waits until what runs is known, and has it that there was one deployment only.
async fn comes_to_rest_without_another_deployment(stage: &Stage, attribution: Attribution) -> Result<KonigleSpace> {
    let space = stage.namespace.wait_for(SHOP, "Ready", is_ready).await?;
    let release = space.status.as_ref().and_then(|status| status.release.as_ref());
    assert_eq!(release.map(|release| release.attribution), Some(attribution), "{:?}", space.status);
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    Ok(space)
}

#[tokio::test]
async fn two_resources_that_claim_one_space_at_once_deploy_to_it_once() -> Result<()> {
    let stage = Stage::open("rivals").await?;
    // Both replicas act, so that nothing but the claims keeps the two resources apart.
    let _second = stage.another_operator(|options| options).await?;
    let wish = stage.wish("1.0")?;
    let names = ["first", "second"];
    tokio::try_join!(stage.namespace.apply(names[0], &wish), stage.namespace.apply(names[1], &wish))?;
    one_deploys_and_the_other_is_refused(&names.map(|name| (&stage.namespace, name))).await?;
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    Ok(())
}

#[tokio::test]
async fn two_namespaces_that_claim_one_space_at_once_deploy_to_it_once() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let mut stage = Stage::open("one-space").await?;
    stage.operator.kill();
    let other = Namespace::create(control_plane, "same-space").await?;
    other.write_token(TOKEN).await?;
    // Two replicas that watch all namespaces, and of them the resources of this test only.
    let of_all = |options: OperatorOptions| OperatorOptions {
        watch_namespace: None,
        kubeconfig: control_plane.kubeconfig(),
        ..options.flag(&format!("--watch-label-selector=test={}", stage.namespace.name()))
    };
    let _replicas = [stage.another_operator(of_all).await?, stage.another_operator(of_all).await?];
    let wish = stage.wish("1.0")?;
    let labelled = json!({"metadata": {"labels": {"test": stage.namespace.name()}}});
    let apply = async |namespace: &Namespace| {
        namespace.apply(SHOP, &wish).await?;
        namespace.spaces().patch(SHOP, &PatchParams::default(), &Patch::Merge(&labelled)).await?;
        Ok::<_, Failure>(())
    };
    tokio::try_join!(apply(&stage.namespace), apply(&other))?;
    one_deploys_and_the_other_is_refused(&[(&stage.namespace, SHOP), (&other, SHOP)]).await?;
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    Ok(())
}

/// The older one names its Space by names: until it has looked, nobody knows that both are for one Space. So both claim in
/// their first pass, and only what a claimer sees live of the other's claim keeps it from sending.
#[tokio::test]
async fn of_two_claims_for_one_space_one_gives_way_before_anything_is_sent() -> Result<()> {
    const LABEL: &str = "both-claim";
    let control_plane = ControlPlane::shared().await?;
    let proxy = Proxy::before_api_server(&control_plane.kubeconfig()).await?;
    let kubeconfig = proxy.kubeconfig(&control_plane.kubeconfig())?;
    let of_all = |options: OperatorOptions| {
        let options = OperatorOptions { watch_namespace: None, kubeconfig, ..options };
        options.flag(&format!("--watch-label-selector=test={LABEL}"))
    };
    let stage = Stage::open_with("both-claim", 2.0, of_all).await?;
    let elsewhere = Namespace::create(control_plane, "both-claim-too").await?;
    elsewhere.write_token(TOKEN).await?;
    let labelled = json!({"metadata": {"labels": {"test": LABEL}}});
    let apply = async |namespace: &Namespace, name: &str, spec: &serde_json::Value| {
        namespace.apply(name, spec).await?;
        namespace.spaces().patch(name, &PatchParams::default(), &Patch::Merge(&labelled)).await.map(drop)?;
        Ok::<_, Failure>(())
    };
    // So that the artifact is there: what else a first pass writes would tell the other one.
    let mut spec = stage.wish("1.0")?;
    apply(&stage.namespace, SHOP, &spec).await?;
    stage.namespace.wait_for(SHOP, "Ready", is_ready).await?;

    for (number, younger_in) in [&stage.namespace, &elsewhere].into_iter().enumerate() {
        let (computer, id) = (format!("twice-{number}"), format!("730196244280970000{number}"));
        stage.simulator.add_uat_spaces(&computer, std::slice::from_ref(&id)).await?;
        let (older, younger) = (format!("older-{number}"), format!("younger-{number}"));
        let (already, gate) = (proxy.seen(&claims()).len(), proxy.hold(claims()));
        spec["space"] = json!({"computer": computer, "webapp": format!("{computer}-0"), "type": "uat"});
        apply(&stage.namespace, &older, &spec).await?;
        spec["space"] = json!({"id": id});
        apply(younger_in, &younger, &spec).await?;
        wait_for("two claims", async || Ok((proxy.seen(&claims()).len() == already + 2).then_some(()))).await?;
        gate.open();
        one_deploys_and_the_other_is_refused(&[(&stage.namespace, &older), (younger_in, &younger)]).await?;
        let ledger = stage.simulator.ledger(&id).await?;
        assert_eq!(ledger.len(), 1, "{ledger:?}");
        proxy.clear();
    }
    Ok(())
}

async fn one_deploys_and_the_other_is_refused(resources: &[(&Namespace, &str)]) -> Result<()> {
    wait_for("one Ready and one refused", async || {
        let mut reasons = Vec::new();
        for (namespace, name) in resources {
            let space = namespace.spaces().get(name).await?;
            reasons.extend(ready_reason(&space).map(str::to_owned));
        }
        reasons.sort();
        Ok((reasons == ["SpaceConflict", "Succeeded"]).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_resource_made_anew_while_its_job_runs_follows_that_job() -> Result<()> {
    let stage = Stage::open_with("made-anew", 8.0, |options| options).await?;
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let before = stage.namespace.wait_for(SHOP, "at its job", |space| job_of(space).is_some()).await?;
    delete(&stage).await?;
    stage.namespace.apply(SHOP, &wish).await?;
    let after = stage.namespace.wait_for(SHOP, "at its job", |space| job_of(space).is_some()).await?;
    assert_ne!(after.uid(), before.uid());
    assert_eq!(job_of(&after), job_of(&before), "the same job is followed");
    stage.wait_for_event(SHOP, "AttemptTakenOver: ").await?;
    comes_to_rest_without_another_deployment(&stage, Attribution::Confirmed).await.map(drop)
}

#[tokio::test]
async fn a_resource_made_anew_before_its_request_was_answered_deploys_nothing_beside_it() -> Result<()> {
    let stage = Stage::open_with("unanswered", 2.0, |options| options).await?;
    let wish = stage.wish("1.0")?;
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": {"delay_ms": 5000}})).await?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    delete(&stage).await?;
    stage.namespace.apply(SHOP, &wish).await?;
    comes_to_rest_without_another_deployment(&stage, Attribution::Confirmed).await.map(drop)
}

#[tokio::test]
async fn a_status_that_is_lost_during_a_job_comes_back() -> Result<()> {
    let stage = Stage::open_with("status-lost", 8.0, |options| options).await?;
    stage.allow(Property::NumbersGrow, "the status is taken away by hand");
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let before = stage.namespace.wait_for(SHOP, "at its job", |space| job_of(space).is_some()).await?;
    take_away(&stage, &json!({"status": null})).await?;
    let after = stage
        .namespace
        .wait_for(SHOP, "at the same job", |space| {
            job_of(space) == job_of(&before) && space.resource_version() != before.resource_version()
        })
        .await?;
    assert_eq!(after.status.map(|status| status.last_attempt), Some(1));
    comes_to_rest_without_another_deployment(&stage, Attribution::Confirmed).await.map(drop)
}

#[tokio::test]
async fn an_attempt_that_is_taken_out_of_the_status_comes_back() -> Result<()> {
    let stage = Stage::open_with("attempt-lost", 8.0, |options| options).await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let before = stage.namespace.wait_for(SHOP, "at its job", |space| job_of(space).is_some()).await?;
    // As people do who want to set it free: the number stays, and nothing says what became of it.
    take_away(&stage, &json!({"status": {"attempt": null}})).await?;
    let back = |space: &KonigleSpace| {
        job_of(space) == job_of(&before) && space.resource_version() != before.resource_version()
    };
    stage.namespace.wait_for(SHOP, "at the same job", back).await?;
    comes_to_rest_without_another_deployment(&stage, Attribution::Confirmed).await.map(drop)
}

#[tokio::test]
async fn a_resource_that_is_gone_before_its_claim_is_answered_sends_nothing() -> Result<()> {
    let mut stage = Stage::open("gone-early").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold_answer(claims());
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    delete(&stage).await?;
    stage.namespace.apply(SHOP, &wish).await?;
    proxy.clear();
    comes_to_rest_without_another_deployment(&stage, Attribution::Confirmed).await.map(drop)
}

#[tokio::test]
async fn a_resource_restored_without_its_status_deploys_nothing() -> Result<()> {
    let mut stage = Stage::open("restored").await?;
    let deployed = stage.deployed("1.0").await?;
    let noted =
        wait_for("noted", async || Ok(stage.namespace.spaces().get(SHOP).await?.annotations().get(RELEASED).cloned()))
            .await?;
    let digest = deployed.status.and_then(|status| status.release).map(|release| release.digest).unwrap_or_default();
    assert!(noted.starts_with(&format!("{UAT} {digest} ")), "{noted}");
    stage.operator.kill();
    delete(&stage).await?;
    // As a backup restores it: annotations, and no status.
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    stage.namespace.annotate(SHOP, RELEASED, &noted).await?;
    stage.operator.start_again().await?;
    let restored = comes_to_rest_without_another_deployment(&stage, Attribution::Inferred).await?;
    assert!(restored.status.is_some_and(|status| status.history.is_empty()));
    stage.wait_for_event(SHOP, "ReleaseTakenOver: ").await?;

    // What the note does not speak of is deployed.
    stage.deployed("2.0").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_note_that_the_space_does_not_bear_out_is_worth_nothing() -> Result<()> {
    let mut stage = Stage::open("note-outdated").await?;
    stage.operator.kill();
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let digest = format!("sha256:{}", "0".repeat(64));
    stage.namespace.annotate(SHOP, RELEASED, &format!("{UAT} {digest} 2020-01-01T00:00:00Z")).await?;
    stage.operator.start_again().await?;
    let space = comes_to_rest_without_another_deployment(&stage, Attribution::Confirmed).await?;
    let KonigleSpaceStatus { history, .. } = space.status.unwrap_or_default();
    assert_eq!(history.iter().map(|entry| entry.result).collect::<Vec<_>>(), [AttemptResult::Succeeded]);
    // The note is mended.
    wait_for("noted anew", async || {
        let noted = stage.namespace.spaces().get(SHOP).await?.annotations().get(RELEASED).cloned();
        Ok(noted.filter(|noted| !noted.contains(&digest)))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_request_that_comes_while_the_release_is_noted_is_answered() -> Result<()> {
    let mut stage = Stage::open("noted-late").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold(Matcher::new(Method::PATCH, "/koniglespaces/").with_body(RELEASED));
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    gate.arrived().await?;
    stage.namespace.annotate(SHOP, RECONCILE_AT, "now").await?;
    proxy.clear();
    let answered = |space: &KonigleSpace| {
        let handled = space.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
        handled == Some("now")
    };
    stage.namespace.wait_for(SHOP, "answered", answered).await.map(drop)
}
