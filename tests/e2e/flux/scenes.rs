//! The scenes, each by a team of its own; they run at once.

use konigle_operator::api::{RELEASED, RESET_AT};
use serde_json::{Value, json};

use super::Flux;
use super::kustomization::{condition, is};
use super::scene::{Meets, Scene, is_current, runs};
use crate::support::artifacts::Artifact;
use crate::support::rights::manifest;
use crate::support::{Failure, Result};

/// The life of the examples: deployed, approved before uat has it, deployed there, promoted.
pub(super) async fn shop(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "shop").await?;
    let (uat, production) = (scene.tree().uat(), scene.tree().production());
    let (one, two) = (scene.release("1.4.2")?, scene.release("1.5.0")?);
    scene.tree().write_uat(&one, &[])?;
    scene.tree().write_production(&[])?;
    for environment in ["uat", "production"] {
        scene.kustomization(environment, &json!({})).await?;
    }
    let first = scene.commit().await?;
    scene.steps.saw("commit 1: uat runs 1.4.2, nothing is approved for production");
    scene.until_reason(&uat, "DeployRunning").await?;
    scene.until_it_waits(&uat, &first).await?;
    scene.steps.saw("uat deploys, and its Kustomization waits");
    scene.until_ready(&production, &first).await?;
    scene.until_reason(&production, "AwaitingApproval").await?;
    scene.steps.saw("production's Kustomization is Ready: nothing is approved, which holds up nobody");
    scene.until_ready(&uat, &first).await?;
    scene.steps.saw("uat runs it: its Kustomization is Ready");

    scene.tree().write_production(&[("/spec/promotion/approvedDigest", json!(two.digest))])?;
    let second = scene.commit().await?;
    scene.steps.saw("commit 2: production approves 1.5.0, which uat does not run yet");
    let message = scene.until_reason(&production, "AwaitingSource").await?;
    scene.until_it_waits(&production, &second).await?;
    scene.until_ready(&uat, &second).await?;
    scene.steps.saw(&format!("production's Kustomization waits ({message:?}), uat's is Ready again"));

    scene.tree().write_uat(&two, &[])?;
    let third = scene.commit().await?;
    scene.steps.saw("commit 3: uat runs 1.5.0");
    scene.until_ready(&uat, &third).await?;
    scene.steps.saw("uat runs it: its Kustomization is Ready");
    scene.until_reason(&production, "PromotionRunning").await?;
    scene.until_it_waits(&production, &second).await?;
    scene.steps.saw("it is promoted, and production's Kustomization waits still");
    scene.until_ready(&production, &third).await?;
    scene.steps.saw("production runs it: its Kustomization is Ready");

    let nothing_is_approved: Meets = Box::new(|space| is_current(space) && space["status"]["release"].is_null());
    let asked = [
        (first.as_str(), "uat ran 1.4.2", runs(&one.digest)),
        (&second, "uat ran 1.4.2", runs(&one.digest)),
        (&third, "uat ran 1.5.0", runs(&two.digest)),
    ];
    scene.judge(&uat, &asked).await?;
    let asked = [
        (first.as_str(), "it was known that nothing is approved", nothing_is_approved),
        (&second, "production ran 1.5.0", runs(&two.digest)),
        (&third, "production ran 1.5.0", runs(&two.digest)),
    ];
    scene.judge(&production, &asked).await
}

/// Suspended before its wish is met it holds up its Kustomization, afterwards not; with the snippet it never does.
pub(super) async fn suspended(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "suspended").await?;
    let uat = scene.tree().uat();
    let one = scene.release("1")?;
    let suspend = [("/spec/suspend", json!(true))];
    scene.tree().write_uat(&one, &suspend)?;
    // The least that Flux takes, or the scene would take as long as people wait.
    scene.kustomization("uat", &json!({"timeout": "30s"})).await?;
    let first = scene.commit().await?;
    scene.steps.saw("commit 1: a suspended Space that does not run what it asks for; a timeout of 30 s");
    scene.until_reason(&uat, "Suspended").await?;
    scene.until_it_waits(&uat, &first).await?;
    let message = scene.until_failed(&uat, &first, "InProgress").await?;
    scene.steps.saw(&format!("its Kustomization waits until the timeout: {message:?}"));
    scene.judge_never_ready(&uat).await?;

    let never_blocks =
        manifest("deploy/flux/suspended-never-blocks.yaml", "Kustomization", "shop-uat")?["spec"].clone();
    scene.kustomization("uat", &never_blocks).await?;
    scene.until_ready(&uat, &first).await?;
    scene.until_reason(&uat, "Suspended").await?;
    scene.steps.saw("with deploy/flux/suspended-never-blocks.yaml it is Ready, and the Space is suspended still");
    let ledger = flux.stage().simulator.ledger(&space_id(flux, &uat).await?).await?;
    is_equal(&ledger.len(), &0)?;

    scene.tree().write_uat(&one, &[])?;
    let second = scene.commit().await?;
    scene.steps.saw("commit 2: no longer suspended");
    scene.until_it_waits(&uat, &second).await?;
    scene.until_ready(&uat, &second).await?;
    scene.judge_revision(&uat, &second, "it ran", &runs(&one.digest)).await?;
    scene.steps.saw("with the snippet, too, the Kustomization waited for the deploy");

    let broken = broken(&scene)?;
    scene.tree().write_uat(&broken, &[])?;
    let third = scene.commit().await?;
    scene.until_failed(&uat, &third, "Failed").await?;
    scene.steps.saw("commit 3, an artifact with another digest: with the snippet, too, the Kustomization fails");

    scene.kustomization("uat", &json!({"healthCheckExprs": null})).await?;
    scene.tree().write_uat(&one, &suspend)?;
    let fourth = scene.commit().await?;
    scene.until_ready(&uat, &fourth).await?;
    scene.steps.saw("commit 4, without the snippet: suspended, and what it asks for runs: Ready");
    let runs_suspended: Meets = {
        let runs = runs(&one.digest);
        Box::new(move |space| runs(space) && space["spec"]["suspend"] == true)
    };
    scene.judge(&uat, &[(fourth.as_str(), "it ran and was suspended", runs_suspended)]).await
}

/// Where a person must act the Kustomization fails, and says of what; mended, it is Ready.
pub(super) async fn stalled(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "stalled").await?;
    let uat = scene.tree().uat();
    let (one, broken) = (scene.release("1")?, broken(&scene)?);
    scene.tree().write_uat(&broken, &[])?;
    scene.kustomization("uat", &json!({})).await?;
    let first = scene.commit().await?;
    scene.steps.saw("commit 1: the artifact has another digest than the manifest says");
    let message = scene.until_failed(&uat, &first, "Failed").await?;
    let reason = scene.until_reason(&uat, "DigestMismatch").await?;
    scene.steps.saw(&format!("its Kustomization fails: {message:?}; the Space says why: {reason:?}"));
    scene.judge_never_ready(&uat).await?;
    scene.tree().write_uat(&one, &[])?;
    let second = scene.commit().await?;
    scene.until_ready(&uat, &second).await?;
    scene.steps.saw("commit 2 mends it: Ready");
    scene.judge(&uat, &[(second.as_str(), "it ran", runs(&one.digest))]).await
}

/// An Automatic promotion whose gate is closed holds up nobody: the last promoted digest runs.
pub(super) async fn automatic(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "automatic").await?;
    let (uat, production) = (scene.tree().uat(), scene.tree().production());
    let one = scene.release("1")?;
    let policy = ("/spec/promotion/policy", json!("Automatic"));
    scene.tree().write_uat(&one, &[])?;
    scene.tree().write_production(std::slice::from_ref(&policy))?;
    scene.kustomization("production", &json!({})).await?;
    let first = scene.commit().await?;
    scene.steps.saw("commit 1: uat runs 1, production follows by itself; Flux applies production first");
    scene.until_it_waits(&production, &first).await?;
    scene.until_reason(&production, "AwaitingSource").await?;
    scene.kustomization("uat", &json!({})).await?;
    scene.steps.saw("its Kustomization waits for a uat resource that is not there yet");
    scene.until_ready(&uat, &first).await?;
    let digest = one.digest.clone();
    flux.spaces.until(&production, "promoted", |space| runs(&digest)(space)).await?;
    scene.until_ready(&production, &first).await?;
    scene.judge_never_failed(&production).await?;
    scene.steps.saw("it was deployed and promoted; both Kustomizations are Ready, and that of production never failed");

    let by_hand = json!({"human_deploy": {"job": {"seconds": 0}}});
    flux.stage().simulator.change_space(&space_id(flux, &uat).await?, &by_hand).await?;
    flux.stage().look_now(&uat).await?;
    let message = scene.until_reason(&uat, "Drifted").await?;
    let is_closed = |space: &Value| is(space, "PromotionAllowed", "False");
    let closed = flux.spaces.until(&production, "PromotionAllowed=False", is_closed).await?;
    let gate = condition(&closed, "PromotionAllowed").cloned().unwrap_or_default();
    scene
        .steps
        .saw(&format!("a person deploys to uat by hand ({message:?}): PromotionAllowed=False {}", gate["reason"]));
    scene.tree().write_production(&[policy, ("/spec/historyLimit", json!(5))])?;
    let second = scene.commit().await?;
    scene.until_ready(&production, &second).await?;
    let meets: Meets = {
        let runs = runs(&one.digest);
        Box::new(move |space| runs(space) && is_closed(space) && space["spec"]["historyLimit"] == 5)
    };
    scene.judge_revision(&production, &second, "the last promoted digest ran and the gate was closed", &meets).await?;
    scene.until_failed(&uat, &second, "Failed").await?;
    scene.steps.saw("commit 2 changes production: its Kustomization is Ready while the gate is closed");
    scene.steps.saw("uat's fails: what runs there is not known");
    Ok(())
}

/// What a commit no longer holds is removed at once, and nothing remote with it.
pub(super) async fn pruned(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "pruned").await?;
    let uat = scene.tree().uat();
    let one = scene.release("1")?;
    scene.tree().write_uat(&one, &[])?;
    scene.kustomization("uat", &json!({})).await?;
    let first = scene.commit().await?;
    scene.until_ready(&uat, &first).await?;
    let simulator = &flux.stage().simulator;
    let id = space_id(flux, &uat).await?;
    let (space, ledger) = (simulator.space(&id).await?, simulator.ledger(&id).await?);
    scene.steps.saw("commit 1: uat runs 1");

    scene.tree().remove("uat")?;
    let second = scene.commit().await?;
    scene.until_ready(&uat, &second).await?;
    let versions = flux.spaces.versions(&uat).await?;
    let lingered = versions
        .iter()
        .any(|version| !version.is_deleted && version.object["metadata"]["deletionTimestamp"].is_string());
    if lingered || !versions.last().is_some_and(|version| version.is_deleted) {
        return Err(Failure::new(format!("{uat} was not removed at once")));
    }
    scene.steps.saw("commit 2 no longer holds it: the KonigleSpace is gone, in one step, and the Kustomization Ready");
    is_equal(&simulator.space(&id).await?, &space)?;
    is_equal(&simulator.ledger(&id).await?, &ledger)?;
    scene.steps.saw("in Konigle nothing changed: the Space runs what it ran");
    Ok(())
}

/// What people change beside Git, where Git does not set it: Flux takes back what kubectl did, unless the manifest says
/// otherwise, and leaves what the plugin did.
pub(super) async fn by_hand(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "byhand").await?;
    let uat = scene.tree().uat();
    let one = scene.release("1")?;
    scene.tree().write_uat(&one, &[])?;
    scene.kustomization("uat", &json!({})).await?;
    let first = scene.commit().await?;
    scene.until_ready(&uat, &first).await?;
    scene.steps.saw("commit 1: uat runs 1; Git sets neither spec.suspend nor an annotation");

    suspend_and_annotate(flux, &uat).await?;
    reconcile(flux, &uat, "first").await?;
    let taken_back = |space: &Value| annotation(space, RESET_AT).is_null();
    let space = flux.spaces.until(&uat, "without the annotation", taken_back).await?;
    is_equal(&(&space["spec"]["suspend"], annotation(&space, RELEASED).is_string()), &(&json!(true), true))?;
    scene.steps.saw(
        "suspended by kubectl konigle, annotated by kubectl: Flux takes back what kubectl did, and leaves the rest and the \
         operator's own annotation",
    );
    let resumed = flux.stage().kubectl.konigle(&["resume", &uat, "-n", flux.stage().namespace.name()], "").await?;
    is_equal(&resumed.code, &Some(0))?;

    let merge = json!({"kustomize.toolkit.fluxcd.io/ssa": "Merge"});
    scene.tree().write_uat(&one, &[("/metadata/annotations", merge)])?;
    let second = scene.commit().await?;
    scene.until_ready(&uat, &second).await?;
    suspend_and_annotate(flux, &uat).await?;
    reconcile(flux, &uat, "second").await?;
    let space = flux.spaces.until(&uat, "there", |_| true).await?;
    is_equal(&(&space["spec"]["suspend"], annotation(&space, RESET_AT)), &(&json!(true), &json!("by-hand")))?;
    scene.steps.saw("commit 2 with kustomize.toolkit.fluxcd.io/ssa: Merge: Flux leaves both");
    Ok(())
}

fn annotation<'object>(object: &'object Value, name: &str) -> &'object Value {
    &object["metadata"]["annotations"][name]
}

/// As people do: by the plugin, and by kubectl.
async fn suspend_and_annotate(flux: &Flux, resource: &str) -> Result<()> {
    let kubectl = &flux.stage().kubectl;
    let namespace = flux.stage().namespace.name();
    let suspended = kubectl.konigle(&["suspend", resource, "-n", namespace], "").await?;
    is_equal(&suspended.code, &Some(0))?;
    let annotation = format!("{RESET_AT}=by-hand");
    kubectl.run(&["-n", namespace, "annotate", "kspace", resource, "--overwrite", &annotation]).await.map(drop)
}

/// Has Flux apply this Kustomization now, and waits until it has.
pub(super) async fn reconcile(flux: &Flux, kustomization: &str, request: &str) -> Result<()> {
    let annotation = format!("reconcile.fluxcd.io/requestedAt={request}");
    let namespace = flux.stage().namespace.name();
    let annotate = ["-n", namespace, "annotate", "kustomization", kustomization, "--overwrite", &annotation];
    flux.stage().kubectl.run(&annotate).await?;
    let done = |it: &Value| it["status"]["lastHandledReconcileAt"] == request && is(it, "Ready", "True");
    flux.kustomizations.until(kustomization, "applied on request", done).await.map(drop)
}

/// An artifact whose bytes are not those that the manifest pins.
fn broken(scene: &Scene<'_>) -> Result<Artifact> {
    let artifact = scene.release("broken")?;
    Ok(Artifact { digest: format!("sha256:{}", "0".repeat(64)), ..artifact })
}

pub(super) async fn space_id(flux: &Flux, resource: &str) -> Result<String> {
    let space = flux.stage().namespace.spaces().get(resource).await?;
    let space = space.status.and_then(|status| status.space);
    space.map(|space| space.id).ok_or_else(|| Failure::new(format!("{resource} has not found its Space")))
}

pub(super) fn is_equal<T: PartialEq + std::fmt::Debug>(seen: &T, expected: &T) -> Result<()> {
    if seen == expected { Ok(()) } else { Err(Failure::new(format!("{seen:?} is not {expected:?}"))) }
}
