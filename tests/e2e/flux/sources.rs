//! A Kustomization that brings a source of Flux along with the Space that is fed from it, as `deploy/examples/sources/flux`
//! has them: the test is source-controller for that source, too.

use konigle_operator::clock;
use serde_json::{Value, json};

use super::Flux;
use super::kustomization::{condition, is};
use super::scene::{Scene, runs};
use super::scenes::{is_equal, reconcile, space_id};
use crate::support::artifacts::{Artifact, digest_of, tar_gz};
use crate::support::flux_source::FluxSource;
use crate::support::{Context, Failure, Result};

/// How long a source may come after its Space, in seconds, as the example says.
const COMES_WITHIN: i64 = 30;
/// The folder that the example names.
const FOLDER: &str = "apps/shop";

/// uat, its source and production are applied at once: it is waited for the source's first artifact, and each later one is
/// deployed and promoted without Flux.
pub(super) async fn brought_along(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "monorepo").await?;
    let (uat, production) = (scene.tree().uat(), scene.tree().production());
    scene.tree().write_uat_from_flux(true)?;
    scene.kustomization("uat", &json!({})).await?;
    let commit = scene.commit().await?;
    scene.steps.saw("one commit: a GitRepository, uat from a folder of it, and production that follows by itself");
    until_it_awaits_the_artifact(&scene).await?;
    scene.until_it_waits(&uat, &commit).await?;
    let space = flux.spaces.until(&uat, "older than a source may be late", |it| age(it) > COMES_WITHIN).await?;
    is_equal(&condition(&space, "Ready").map(|ready| &ready["reason"]), &Some(&json!("AwaitingSource")))?;
    scene.steps.saw("Flux has fetched nothing for it yet: the Kustomization waits, and goes on to wait after 30 s");

    let source = source_of(&scene);
    let one = digest_of_folder(&store(&scene, &source, "1").await?);
    scene.until_ready(&uat, &commit).await?;
    scene.steps.saw("Flux has fetched revision 1: it was deployed and promoted, and the Kustomization is Ready");
    scene.judge(&uat, &[(commit.as_str(), "uat ran revision 1", runs(&one))]).await?;
    scene.judge_ready_only_when((&uat, &commit), &production, "production ran revision 1", &runs(&one)).await?;
    scene.judge_never_failed(&uat).await?;
    judge_never_stalled(&scene).await?;

    let before = flux.spaces.until(&uat, "there", |_| true).await?;
    let two = digest_of_folder(&store(&scene, &source, "2").await?);
    let after = flux.spaces.until(&uat, "running revision 2", |space| runs(&two)(space)).await?;
    is_equal(&after["metadata"]["generation"], &before["metadata"]["generation"])?;
    flux.spaces.until(&production, "running revision 2", |space| runs(&two)(space)).await?;
    let status = flux.kustomizations.until(&uat, "there", |_| true).await?["status"].clone();
    is_equal(&status["lastAttemptedRevision"], &json!(commit))?;
    scene.steps.saw("Flux has fetched revision 2: it runs in uat and in production, and nothing was applied for it");

    reconcile(flux, &uat, "again").await?;
    let simulator = &flux.stage().simulator;
    for resource in [&uat, &production] {
        is_equal(&simulator.ledger(&space_id(flux, resource).await?).await?.len(), &2)?;
    }
    scene.judge_never_failed(&uat).await?;
    judge_never_stalled(&scene).await?;
    scene.steps.saw("the commit is applied once more: Ready, and nothing is deployed again");
    Ok(())
}

/// A Space whose source does not come fails its Kustomization, once it could not come any more; a commit that brings it
/// mends that.
pub(super) async fn missing(flux: &Flux) -> Result<()> {
    let mut scene = Scene::open(flux, "missing").await?;
    let uat = scene.tree().uat();
    scene.tree().write_uat_from_flux(false)?;
    scene.kustomization("uat", &json!({"retryInterval": "5s"})).await?;
    let first = scene.commit().await?;
    scene.until_reason(&uat, "AwaitingSource").await?;
    scene.until_it_waits(&uat, &first).await?;
    scene.steps.saw("commit 1 forgot the GitRepository: it might still come, and the Kustomization waits");
    let failure = scene.until_failed(&uat, &first, "Failed").await?;
    let message = scene.until_reason(&uat, "SourceNotFound").await?;
    let advice =
        "there is no GitRepository missing-shop in this namespace: create it, or correct spec.source.sourceRef";
    is_equal(&message.contains(advice), &true).context(message.clone())?;
    let space = flux.spaces.until(&uat, "Stalled", |space| is(space, "Stalled", "True")).await?;
    let since = condition(&space, "Stalled").map_or(&Value::Null, |stalled| &stalled["lastTransitionTime"]);
    let waited = seconds(since)? - seconds(&space["metadata"]["creationTimestamp"])?;
    if waited < COMES_WITHIN {
        return Err(Failure::new(format!("it was given up after {waited} s")));
    }
    scene.steps.saw(&format!("after {waited} s it fails: {failure:?}; the Space says why: {message:?}"));

    scene.tree().write_uat_from_flux(true)?;
    let second = scene.commit().await?;
    until_it_awaits_the_artifact(&scene).await?;
    let one = digest_of_folder(&store(&scene, &source_of(&scene), "1").await?);
    scene.until_ready(&uat, &second).await?;
    scene.judge_revision(&uat, &second, "uat ran revision 1", &runs(&one)).await?;
    scene.steps.saw("commit 2 brings it, and Flux has fetched revision 1: Ready");
    Ok(())
}

/// The source that the example brings along.
fn source_of(scene: &Scene<'_>) -> FluxSource {
    FluxSource::named(&scene.flux.stage().namespace, "GitRepository", &scene.tree().source())
}

/// Waits until the source is there, and uat has seen that nothing was fetched for it.
async fn until_it_awaits_the_artifact(scene: &Scene<'_>) -> Result<()> {
    let expected = format!("GitRepository {} has no artifact yet", scene.tree().source());
    let awaits = |space: &Value| {
        let ready = condition(space, "Ready").unwrap_or(&Value::Null);
        ready["reason"] == "AwaitingSource" && ready["message"].as_str().is_some_and(|it| it.contains(&expected))
    };
    scene.flux.spaces.until(&scene.tree().uat(), &expected, awaits).await.map(drop)
}

/// Has source-controller fetch a revision with this application in its folder.
async fn store(scene: &Scene<'_>, source: &FluxSource, version: &str) -> Result<Artifact> {
    let files = [
        ("README.md", "many applications"),
        ("apps/shop/Dockerfile", "FROM scratch\n"),
        ("apps/shop/bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n"),
        ("apps/shop/version.txt", version),
    ];
    let name = scene.tree().source();
    let archive = tar_gz(&files)?;
    source.store(&scene.flux.stage().artifacts, archive, &format!("main@sha1:{name}-{version}")).await
}

/// What a folder of an artifact is called.
fn digest_of_folder(artifact: &Artifact) -> String {
    digest_of(format!("{}\n{FOLDER}", artifact.digest).as_bytes())
}

/// Neither Space was ever Stalled, which is what Flux takes for a failure.
async fn judge_never_stalled(scene: &Scene<'_>) -> Result<()> {
    for resource in [scene.tree().uat(), scene.tree().production()] {
        let versions = scene.flux.spaces.versions(&resource).await?;
        if let Some(version) = versions.iter().find(|version| is(&version.object, "Stalled", "True")) {
            let conditions = &version.object["status"]["conditions"];
            return Err(Failure::new(format!("{resource} was Stalled: {conditions}")));
        }
    }
    Ok(())
}

/// How old an object is, in seconds.
fn age(object: &Value) -> i64 {
    seconds(&object["metadata"]["creationTimestamp"]).map_or(0, |created| clock::now().as_second() - created)
}

fn seconds(time: &Value) -> Result<i64> {
    let time: jiff::Timestamp = time.as_str().unwrap_or_default().parse().context(format!("reading {time}"))?;
    Ok(time.as_second())
}
