//! A uat Space from its manifest to a running release: what people do with `kubectl`, on a real API server, with the
//! operator as it ships. Promotions, crashes and the faults of either API stand in files of their own.

mod artifacts;
mod drift;
mod jobs;
mod neighbours;
mod requests;
mod secrets;

use std::time::{Duration, Instant};

use konigle_operator::api::{AttemptResult, Attribution};
use kube::ResourceExt;
use serde_json::json;

use crate::support::Result;
use crate::support::namespace::wait_for;
use crate::support::recording::Recording;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

#[tokio::test]
async fn an_applied_space_is_deployed_and_kubectl_shows_it() -> Result<()> {
    let stage = Stage::open("applied").await?;
    let recording = Recording::start(&stage.namespace).await?;
    let mut wish = stage.wish("1.4.2")?;
    wish["source"]["http"]["revision"] = json!("v1.4.2");
    stage.namespace.apply(SHOP, &wish).await?;
    let namespace = ["-n", stage.namespace.name()];
    let kubectl = async |arguments: &[&str]| stage.kubectl.run(&[&namespace[..], arguments].concat()).await;
    kubectl(&["wait", "--for=condition=Ready", "--timeout=90s", &format!("kspace/{SHOP}")]).await?;

    let space = stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    let status = space.status.clone().unwrap_or_default();
    let release = status.release.clone().expect("a release is recorded");
    let digest = digest_of_wish(&wish);
    assert_eq!((&release.digest, release.attribution), (&digest, Attribution::Confirmed));
    assert_eq!(release.revision.as_deref(), Some("v1.4.2"));
    assert!(release.deployment_id.is_some() && release.job_id.is_some() && status.attempt.is_none(), "{status:?}");
    assert_eq!(status.space.as_ref().map(|space| space.id.as_str()), Some(UAT));
    assert_eq!(status.history.iter().map(|entry| entry.result).collect::<Vec<_>>(), [AttemptResult::Succeeded]);
    assert!(status.url.as_ref().is_some_and(|url| url.starts_with("https://")), "{:?}", status.url);
    let words: Vec<_> = status.conditions.iter().map(|condition| condition.condition_type.as_str()).collect();
    assert_eq!(words, ["Ready", "ArtifactReady", "Deployed", "CredentialsValid"]);

    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    assert_eq!(format!("sha256:{}", ledger[0]["sha256"].as_str().unwrap_or_default()), digest);
    let shown = ledger[0]["display_name"].as_str().unwrap_or_default();
    assert!(shown.starts_with(&format!("{}/{SHOP} #1 v1.4.2 {} [k", stage.namespace.name(), &digest[..19])), "{shown}");

    let table = kubectl(&["get", "kspace"]).await?;
    let cells = |line: usize| table.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!(cells(0), ["NAME", "TYPE", "READY", "REASON", "RELEASE", "JOB", "URL", "AGE"], "{table}");
    let url = status.url.unwrap_or_default();
    assert_eq!(cells(1)[..5], [SHOP, "uat", "True", "Succeeded", &digest[7..19]], "{table}");
    assert_eq!(cells(1)[5], url, "no job is shown once it has ended: {table}");
    let wide = kubectl(&["get", "konigle", "-o", "wide"]).await?;
    assert!(wide.contains("LAST DEPLOYED") && wide.contains("DRIFTED") && !wide.contains("<invalid>"), "{wide}");

    let events = stage.events(SHOP).await?;
    assert!(events.len() <= 6, "{events:?}");
    for reason in ["DeployStarted: ", "DeploySucceeded: "] {
        assert_eq!(events.iter().filter(|event| event.starts_with(reason)).count(), 1, "{reason}: {events:?}");
    }
    let versions = recording.versions(SHOP).await?;
    assert_eq!(versions[0].status.as_ref().map(|status| status.observed_generation), Some(-1), "before the first pass");
    for version in &versions {
        assert!(!is_ready(version) || runs(version, &digest), "Ready too early: {:?}", version.status);
    }
    Ok(())
}

#[tokio::test]
async fn the_same_manifest_again_writes_and_posts_nothing() -> Result<()> {
    let mut stage = Stage::open("again").await?;
    let deployed = stage.deployed("1.0").await?;
    let wish = stage.wish("1.0")?;
    let applied = stage.namespace.apply(SHOP, &wish).await?;
    assert_eq!(applied.resource_version(), deployed.resource_version());
    // A restart has the operator look at everything afresh.
    stage.restart_operator().await?;
    let now = stage.namespace.spaces().get(SHOP).await?;
    assert_eq!(now.resource_version(), deployed.resource_version());
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    assert_eq!(stage.artifacts.requests("/shop-1.0.zip"), 1, "an artifact that runs is not fetched again");
    Ok(())
}

#[tokio::test]
async fn ready_leaves_true_in_the_write_that_takes_over_an_unmet_wish_and_only_then() -> Result<()> {
    let stage = Stage::open("edits").await?;
    stage.deployed("1.0").await?;
    let recording = Recording::start(&stage.namespace).await?;

    // Asks for nothing new.
    let mut wish = stage.wish("1.0")?;
    wish["interval"] = json!("2m");
    wish["historyLimit"] = json!(5);
    let edited = stage.namespace.apply(SHOP, &wish).await?;
    assert_eq!(edited.metadata.generation, Some(2));
    stage.namespace.wait_for(SHOP, "taken over", is_ready).await?;
    for version in recording.versions(SHOP).await? {
        assert!(version.status.is_some_and(|status| status.is_true("Ready")), "an edit that asks for nothing");
    }

    let next = stage.wish("2.0")?;
    let digest = digest_of_wish(&next);
    stage.namespace.apply(SHOP, &next).await?;
    stage.namespace.wait_for(SHOP, "deployed", |space| is_ready(space) && runs(space, &digest)).await?;
    let mut left = false;
    for version in recording.versions(SHOP).await? {
        let met = runs(&version, &digest);
        let status = version.status.unwrap_or_default();
        if status.observed_generation == 3 {
            assert_eq!(status.is_true("Ready"), met, "{status:?}");
            left |= !met;
        }
        assert!(!(status.is_true("Reconciling") && status.is_true("Ready")), "both at once: {status:?}");
    }
    assert!(left, "no write took over the generation before the wish was met");
    let kinds: Vec<_> = stage.simulator.ledger(UAT).await?.iter().map(|entry| entry["kind"].clone()).collect();
    assert_eq!(kinds, ["deploy", "deploy"], "each digest once");
    Ok(())
}

#[tokio::test]
async fn a_log_line_of_a_young_job_is_in_the_status_within_five_seconds() -> Result<()> {
    let stage = Stage::open_with("progress", 60.0, |options| options).await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let ledger = stage.wait_for_ledger(UAT, 1).await?;
    let job = &ledger[0]["job"];
    for line in ["pulling layer 1", "pulling layer 2", "migrating"] {
        let entry = json!({"append_log": [{"level": "info", "message": line}]});
        stage.simulator.change_job(job, &entry).await?;
        let written = Instant::now();
        let space = stage
            .namespace
            .wait_for(SHOP, line, |space| {
                let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
                attempt
                    .and_then(|attempt| attempt.log.as_ref())
                    .is_some_and(|log| log.lines.iter().any(|it| it.contains(line)))
            })
            .await?;
        assert!(written.elapsed() < Duration::from_secs(5), "{line}: after {:?}", written.elapsed());
        let status = space.status.unwrap_or_default();
        assert_eq!(status.condition("Ready").map(|ready| ready.reason.as_str()), Some("DeployRunning"));
        // A job is pending at first, and may be when its first line is seen.
        let job_status = status.attempt.and_then(|attempt| attempt.job_status);
        assert!(matches!(job_status.as_deref(), Some("pending" | "running")), "{job_status:?}");
    }
    let running = |space: &konigle_operator::api::KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.and_then(|attempt| attempt.job_status.as_deref()) == Some("running")
    };
    stage.namespace.wait_for(SHOP, "shown as running", running).await?;
    let table = stage.kubectl.run(&["-n", stage.namespace.name(), "get", "kspace"]).await?;
    assert!(table.contains("running"), "the job is shown while it runs: {table}");
    stage.simulator.change_job(job, &json!({"finish": "success"})).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    Ok(())
}

#[tokio::test]
async fn a_space_is_found_by_its_names() -> Result<()> {
    let stage = Stage::open("names").await?;
    let mut wish = stage.wish("1.0")?;
    wish["space"] = json!({"computer": "web-1", "webapp": "shop", "type": "uat"});
    stage.namespace.apply(SHOP, &wish).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    assert_eq!(space.status.and_then(|status| status.space).map(|space| space.id).as_deref(), Some(UAT));
    stage.look_now(SHOP).await?;
    let listed = stage.simulator.requests().await?["by_operation"]["list_spaces"].clone();
    assert_eq!(listed, 1, "once the id is known, the names are not looked up again");

    wish["space"]["webapp"] = json!("shopp");
    stage.namespace.apply("misspelt", &wish).await?;
    let space = stage.namespace.wait_for_reason("misspelt", "SpaceNotFound").await?;
    let ready = space.status.and_then(|status| status.condition("Ready").cloned()).expect("a condition");
    assert!(ready.message.contains("shopp"), "{}", ready.message);
    Ok(())
}

#[tokio::test]
async fn adoption_assumes_or_deploys_as_the_policy_says() -> Result<()> {
    let stage = Stage::open("adoption").await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["adoptionPolicy"] = json!("AssumeCurrent");
    stage.namespace.apply(SHOP, &wish).await?;
    let space = stage.namespace.wait_for_reason(SHOP, "Assumed").await?;
    assert!(is_ready(&space) && runs(&space, &digest_of_wish(&wish)));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1, "only the person's deployment");

    let other = Stage::open("adoption").await?;
    other.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    other.deployed("1.0").await?;
    wait_for("a second entry", async || Ok((other.simulator.ledger(UAT).await?.len() == 2).then_some(()))).await?;
    Ok(())
}
