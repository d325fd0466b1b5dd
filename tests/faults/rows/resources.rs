//! Rows about the resource itself: two for one Space, deleted, recreated, restored, edited in flight, forged.

use std::time::Duration;

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpace};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use reqwest::Method;
use serde_json::{Value, json};

use crate::case::Case;
use crate::halts::{Halts, Moment, arrived};
use crate::matrix::{Row, row};
use crate::oracles::{LONGEST_OUTCOME, check, check_results, deploy_once, deployed_once, good, lasts, posted, quick};
use crate::support::Result;
use crate::support::namespace::{ready_reason, wait_for};
use crate::support::recording::Recording;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};
use crate::support::trace::Property;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "32",
            row_32_two_resources_for_one_space,
            "Two resources for one Space are applied at the same moment, each with a digest of its own",
            "Never two at once; the older one's digest stays, the other is `SpaceConflict`; without the older it takes over"
        ),
        row!(
            "33",
            row_33_deleted_in_flight,
            "The resource is deleted while its artifact is fetched, its request is under way, or its job runs",
            "It is gone at once, the accepted job goes on by itself, and nothing is sent any more"
        ),
        Row::ruled_out(
            "34",
            "Deleted while the operator, Konigle or the Secret is gone",
            "there is no finalizer: a deletion waits for nobody",
        ),
        row!(
            "35a",
            row_35a_restored_with_an_old_status,
            "The resource is restored with the status of an earlier release",
            "The Space shows something else: `Drifted`, nothing is deployed"
        ),
        row!(
            "35b",
            row_35b_restored_with_an_open_attempt,
            "The resource is restored with a status in which an attempt is open whose job ended long ago",
            "That job's outcome is what the status then tells; nothing is sent again"
        ),
        row!(
            "36",
            row_36_edited_again_and_again_in_flight,
            "The spec is edited while a job runs: to another digest, there and back, a hundred times",
            "The job is followed to its end; then the newest digest is deployed once, and none in between"
        ),
        row!(
            "54a",
            row_54a_a_status_that_is_cleared,
            "Somebody clears the status, in flight or at rest, under `AssumeCurrent`",
            "Taken up from what the process saw, or from what is noted on the resource; nothing is sent again"
        ),
        row!(
            "54b",
            row_54b_an_attempt_that_is_forged,
            "Somebody writes an attempt into the status that nobody made",
            "Judged by the Space like any other: of a digest that is not wanted it leads to no request, of the wanted one to its retry at most"
        ),
        row!(
            "54c",
            row_54c_a_job_that_is_forged,
            "Somebody writes a job's id into the status: of another Space, or of no job",
            "Never Confirmed by it, and nothing is sent for it"
        )
        .under(&[("job_space_id", &["yes"])], "of a job that is newer than our own, nothing else tells whose it is")
        .long(),
    ]
}

async fn row_32_two_resources_for_one_space(case: &Case) -> Result<()> {
    let stage = case.open_with(2.0, |options| options).await?;
    let other = "shop-uat-again";
    let (one, two) = (quick(&stage, "1.0")?, quick(&stage, "2.0")?);
    let between = case.moment(Duration::from_millis(600));
    stage.namespace.apply(SHOP, &one).await?;
    lasts(between).await?;
    stage.namespace.apply(other, &two).await?;
    let settled = async || {
        let spaces = stage.namespace.spaces();
        let (first, second) = (spaces.get(SHOP).await?, spaces.get(other).await?);
        let conflicts = |space: &KonigleSpace| ready_reason(space) == Some("SpaceConflict");
        let decided = (is_ready(&first) && conflicts(&second)) || (conflicts(&first) && is_ready(&second));
        Ok(decided.then_some((first, second)))
    };
    let (first, second) = wait_for("one deployed, the other in conflict", settled).await?;
    let (winner, loser) = if is_ready(&first) { (SHOP, other) } else { (other, SHOP) };
    let ledger = posted(&stage, UAT).await?;
    // Of two that were made in the same second the UID says which is older: the one that was first may have deployed.
    let same_second = first.metadata.creation_timestamp == second.metadata.creation_timestamp;
    let of = |name: &str| {
        let shown = format!("/{name} #");
        ledger.iter().filter(|entry| entry["display_name"].as_str().is_some_and(|it| it.contains(&shown))).count()
    };
    check(of(winner) == 1 && of(loser) <= usize::from(same_second), || format!("{ledger:?}"))?;
    one_after_the_other(&stage, &ledger).await?;
    let unused = if winner == SHOP { second } else { first };
    check(unused.status.is_some_and(|status| status.attempt.is_none()), || "an attempt is left open".to_owned())?;

    stage.namespace.spaces().delete(winner, &DeleteParams::default()).await?;
    let takes_over = |space: &KonigleSpace| is_ready(space);
    stage.namespace.wait_longer_for(loser, "taking over", LONGEST_OUTCOME, takes_over).await?;
    let after = posted(&stage, UAT).await?;
    check(after.len() == ledger.len() + 1, || format!("not one deploy more: {after:?}"))
}

/// Sees that none of these was accepted before the job of the one before it had ended.
async fn one_after_the_other(stage: &Stage, ledger: &[Value]) -> Result<()> {
    for pair in ledger.windows(2) {
        let ended = stage.simulator.job(&pair[0]["job"]).await?["completed_at"].clone();
        let time = |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        check(time(&ended) <= time(&pair[1]["time"]) && time(&ended).is_some(), || format!("at once: {pair:?}"))?;
    }
    Ok(())
}

async fn row_33_deleted_in_flight(case: &Case) -> Result<()> {
    let mut stage = case.open_with(3.0, |options| options).await?;
    let halts = Halts::put(&mut stage).await?;
    let moment = *case.pick(&[Moment::Fetching, Moment::Requesting, Moment::Following]);
    let gate = halts.halt(moment);
    stage.namespace.apply(SHOP, &halts.quick(&stage, "1.0")?).await?;
    arrived(&stage, gate.as_ref()).await?;
    stage.namespace.spaces().delete(SHOP, &DeleteParams::default()).await?;
    let gone = async || Ok(stage.namespace.spaces().get_opt(SHOP).await?.is_none().then_some(()));
    wait_for("gone", gone).await?;
    if let Some(gate) = gate {
        gate.open();
    }
    lasts(Duration::from_secs(8)).await?;
    let accepted = posted(&stage, UAT).await?;
    // A request that was on its way may still be accepted; nothing else may.
    let expected = usize::from(moment != Moment::Fetching);
    check(accepted.len() == expected, || format!("{accepted:?} were accepted, {moment:?}"))?;
    let ready = stage.operator.readiness().await;
    check(ready.as_ref().is_some_and(|(status, _)| *status == 200), || format!("the operator says {ready:?}"))
}

/// Makes the resource anew with this status, as a restore does, while no operator runs.
async fn restore(stage: &mut Stage, wish: &Value, status: &Value) -> Result<()> {
    stage.operator.kill();
    stage.namespace.spaces().delete(SHOP, &DeleteParams::default()).await?;
    stage.namespace.apply(SHOP, wish).await?;
    let mut status = status.clone();
    status["observedGeneration"] = json!(1);
    write_status(stage, &status).await?;
    stage.operator.start_again().await
}

/// Writes a status in place of the one that is there.
pub(super) async fn write_status(stage: &Stage, status: &Value) -> Result<()> {
    let mut space = serde_json::to_value(stage.namespace.spaces().get(SHOP).await?)?;
    space["status"] = status.clone();
    let space: KonigleSpace = serde_json::from_value(space)?;
    let version = space.resource_version().unwrap_or_default();
    let patch = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch: json_patch::Patch = serde_json::from_value(patch)?;
    stage.namespace.spaces().patch_status(SHOP, &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
    Ok(())
}

async fn row_35a_restored_with_an_old_status(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let (old, new) = (stage.wish("1.0")?, stage.wish("2.0")?);
    let before = deploy_once(&stage, &old).await?;
    let backup = serde_json::to_value(before.status)?;
    // Within five seconds of its own job a move could not be told from it.
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 600})).await?;
    deploy_once(&stage, &new).await?;
    // What is restored wants the old digest, or the new one.
    let wish = *case.pick(&[&old, &old, &new]);
    stage.tolerate(Property::ConfirmedIsOurs, "what is restored tells what was true when it was saved");
    restore(&mut stage, wish, &backup).await?;
    if digest_of_wish(wish) == digest_of_wish(&old) {
        stage.namespace.wait_for_reason(SHOP, "Drifted").await?;
        stage.look_now(SHOP).await?;
        return check(posted(&stage, UAT).await?.len() == 2, || "deployed over what nobody remembers".to_owned());
    }
    // A wish that is new to the status is deployed, and says what it overwrote: at most once more.
    let ended = |space: &KonigleSpace| is_ready(space) || ready_reason(space) == Some("Drifted");
    stage.namespace.wait_longer_for(SHOP, "decided", LONGEST_OUTCOME, ended).await?;
    stage.look_now(SHOP).await?;
    check(posted(&stage, UAT).await?.len() <= 3, || "more than once more".to_owned())
}

async fn row_35b_restored_with_an_open_attempt(case: &Case) -> Result<()> {
    let mut stage = case.open_with(2.0, |options| options).await?;
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let with_id = *case.pick(&[true, false]);
    let open = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_id.is_some())
    };
    let flying = stage.namespace.wait_for(SHOP, "in flight", open).await?;
    let mut backup = serde_json::to_value(flying.status)?;
    if !with_id {
        // As it was a moment before: the claim, without its receipt.
        if let Some(attempt) = backup["attempt"].as_object_mut() {
            attempt.retain(|key, _| !key.starts_with("job") && key != "deploymentID");
        }
    }
    deployed_once(&stage, &digest_of_wish(&wish)).await?;
    restore(&mut stage, &wish, &backup).await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_36_edited_again_and_again_in_flight(case: &Case) -> Result<()> {
    let stage = case.open_with(3.0, |options| options).await?;
    let (first, between, last) = (quick(&stage, "1.0")?, quick(&stage, "2.0")?, quick(&stage, "3.0")?);
    stage.namespace.apply(SHOP, &first).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    let back = *case.pick(&[false, true, false]);
    // A hundred edits while the one job runs; the job is held open until the last.
    let job = stage.simulator.ledger(UAT).await?[0]["job"].clone();
    stage.simulator.change_job(&job, &json!({"status": "running"})).await?;
    for number in 0..100 {
        stage.namespace.apply(SHOP, if number % 2 == 0 { &between } else { &first }).await?;
    }
    let wanted = if back { &first } else { &last };
    stage.namespace.apply(SHOP, wanted).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "an edit overtook the open attempt".to_owned())?;
    stage.simulator.change_job(&job, &json!({"status": null, "finish": "success"})).await?;
    deployed_once(&stage, &digest_of_wish(wanted)).await?;
    check(good(&stage, &digest_of_wish(&between)).await?.is_empty(), || "one in between was deployed".to_owned())?;
    let expected = if back { 1 } else { 2 };
    check(posted(&stage, UAT).await?.len() == expected, || format!("not {expected} deploys"))
}

async fn row_54a_a_status_that_is_cleared(case: &Case) -> Result<()> {
    let stage = case.open_with(2.0, |options| options).await?;
    let mut wish = quick(&stage, "1.0")?;
    wish["adoptionPolicy"] = json!("Deploy");
    let digest = digest_of_wish(&wish);
    let at_rest = *case.pick(&[true, false]);
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    if at_rest {
        deployed_once(&stage, &digest).await?;
    }
    wish["adoptionPolicy"] = json!("AssumeCurrent");
    stage.namespace.apply(SHOP, &wish).await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    stage.tolerate(Property::NumbersGrow, "whoever clears a status takes the numbers with it");
    wait_for("cleared", async || Ok(write_status(&stage, &json!({"observedGeneration": -1})).await.ok())).await?;
    let known = |space: &KonigleSpace| is_ready(space);
    stage.namespace.wait_longer_for(SHOP, "known again", LONGEST_OUTCOME, known).await?;
    let looked = stage.look_now(SHOP).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())?;
    check(is_ready(&looked), || format!("{:?}", looked.status))
}

/// Puts an attempt into this status that is written as the operator writes it, but for these fields, and stores it.
async fn forge(stage: &Stage, mut status: Value, fields: Value) -> Result<()> {
    let pair = status["space"].clone();
    let mut attempt = json!({
        "number": 99, "type": "Deploy", "nonce": "kforged00",
        "sentTo": {"baseURL": stage.simulator.base_url(), "spaceID": UAT},
        "baseline": {"lastDeployedAt": pair["lastDeployedAt"], "lastDeploymentStatus": pair["lastDeploymentStatus"]},
    });
    for (key, value) in fields.as_object().into_iter().flatten() {
        attempt[key] = value.clone();
    }
    status["attempt"] = attempt;
    status["lastAttempt"] = json!(-7);
    wait_for("forged", async || {
        let newest = stage.namespace.spaces().get(SHOP).await?;
        let mut forged = status.clone();
        forged["observedGeneration"] = json!(newest.metadata.generation);
        Ok(write_status(stage, &forged).await.ok())
    })
    .await
}

async fn row_54b_an_attempt_that_is_forged(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let wish = quick(&stage, "1.0")?;
    let digest = digest_of_wish(&wish);
    deploy_once(&stage, &wish).await?;
    // Reads may lag, and a late word too: what is forged fits what is there.
    lasts(Duration::from_secs(2)).await?;
    let status = serde_json::to_value(stage.look_now(SHOP).await?.status)?;
    stage.tolerate(Property::NumbersGrow, "the number is forged");
    let is_wanted = *case.pick(&[false, true]);
    if is_wanted {
        stage.tolerate(Property::OneJobPerWish, "the status says that an attempt of this digest came to nothing");
    }
    let forged_digest = if is_wanted { digest.clone() } else { format!("sha256:{}", "0".repeat(64)) };
    let started = *case.pick(&["2020-01-01T00:00:00Z", "soon", "2099-01-01T00:00:00Z"]);
    let attempt = json!({"digest": forged_digest, "startedAt": started});
    forge(&stage, status, attempt).await?;
    let over = |space: &KonigleSpace| {
        let status = space.status.clone().unwrap_or_default();
        status.attempt.is_none() && is_ready(space) && runs(space, &digest)
    };
    let judged = stage.namespace.wait_longer_for(SHOP, "judged", LONGEST_OUTCOME, over).await?;
    let most = 1 + usize::from(is_wanted);
    check(posted(&stage, UAT).await?.len() <= most, || "what was forged led to more than its own retry".to_owned())?;
    // Its number is never given out again.
    let last = judged.status.map(|status| status.last_attempt).unwrap_or_default();
    check(last >= 99, || format!("lastAttempt is {last}"))
}

async fn row_54c_a_job_that_is_forged(case: &Case) -> Result<()> {
    const OTHER: &str = "7301962442809705401";
    let stage = case.open().await?;
    stage.simulator.add_uat_spaces("web-6", &[OTHER.to_owned()]).await?;
    let wish = quick(&stage, "1.0")?;
    let digest = digest_of_wish(&wish);
    let whose = *case.pick(&["another Space's, newer", "nobody's", "another Space's, older"]);
    let others = async || -> Result<Value> {
        stage.simulator.change_space(OTHER, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
        Ok(stage.wait_for_ledger(OTHER, 1).await?[0]["job"].clone())
    };
    let mut job = json!("00000000-0000-4000-a000-000000000000");
    if whose == "another Space's, older" {
        job = others().await?;
        lasts(Duration::from_secs(2)).await?;
    }
    deploy_once(&stage, &wish).await?;
    // Reads may lag, and a late word too: what is forged fits what is there.
    lasts(Duration::from_secs(2)).await?;
    if whose == "another Space's, newer" {
        job = others().await?;
    }
    let recording = Recording::start(&stage.namespace).await?;
    let status = serde_json::to_value(stage.look_now(SHOP).await?.status)?;
    stage.tolerate(Property::NumbersGrow, "the number is forged");
    let now = konigle_operator::clock::now();
    let attempt = json!({
        "digest": digest, "jobID": job, "startedAt": now.to_string(),
        "deadline": (now + Duration::from_secs(5)).to_string(),
    });
    forge(&stage, status, attempt).await?;
    let is_real = whose != "nobody's";
    let over = |space: &KonigleSpace| {
        let status = space.status.clone().unwrap_or_default();
        // A job that is not there is looked for five minutes long, and is overdue before.
        if is_real { status.attempt.is_none() } else { ready_reason(space) == Some("JobOverdue") }
    };
    stage.namespace.wait_longer_for(SHOP, "judged", LONGEST_OUTCOME, over).await?;
    stage.look_now(SHOP).await?;
    for status in recording.statuses(SHOP).await? {
        let release = status.release.as_ref();
        let confirmed = release.is_some_and(|it| it.attribution == Attribution::Confirmed);
        let forged = release.is_some_and(|it| it.job_id.as_deref() == job.as_str());
        check(!(confirmed && forged), || format!("Confirmed by a job that is {whose}: {status:?}"))?;
    }
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}
