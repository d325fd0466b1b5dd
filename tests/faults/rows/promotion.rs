//! Rows about promotions while somebody deploys to uat: the operator itself, and a person.

use std::time::Duration;

use konigle_operator::api::KonigleSpace;
use reqwest::Method;
use serde_json::{Value, json};

use crate::case::Case;
use crate::matrix::{Row, row};
use crate::oracles::{LONGEST_OUTCOME, check, deploy_once, deployed_once, lasts, posted};
use crate::support::Result;
use crate::support::namespace::{promotes, ready_reason};
use crate::support::proxy::Matcher;
use crate::support::recording::Recording;
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

const LIVE: &str = "shop-production";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "29",
            row_29_an_approved_digest_that_uat_does_not_run,
            "The approved digest is not what uat runs: it is to come, it ran before, or nobody deployed it",
            "Nothing is promoted, whatever uat does meanwhile; once it runs what is approved, that is promoted, once"
        )
        .tested_by(&[("tests/it/promotion/gates.rs", "an_approved_digest_that_uat_does_not_run_yet_is_waited_for")]),
        row!(
            "27",
            row_27_a_promotion_races_our_own_deploy,
            "Another digest is wanted on uat at the moment at which a promotion from it is approved",
            "Nothing of ours is deployed to uat while a promotion runs; what is promoted is what was approved, once"
        ),
        row!(
            "28a",
            row_28a_a_person_deploys_to_uat_before_the_promotion,
            "A person deploys to uat before the promotion is approved",
            "`SourceDrifted`: nothing is promoted"
        ),
        row!(
            "28b",
            row_28b_a_person_deploys_to_uat_during_the_promotion,
            "A person deploys to uat while the promotion's request is under way, or while its job runs",
            "`ContentNotVerified`, never verified; no further step by itself"
        ),
    ]
}

/// The promotion of exactly this digest.
fn approves(digest: &str) -> Value {
    let mut spec = promotes(PRODUCTION, SHOP);
    spec["promotion"]["approvedDigest"] = json!(digest);
    spec
}

/// Waits until this digest was promoted, and sees that it was so once.
async fn promoted_once(stage: &Stage, digest: &str) -> Result<KonigleSpace> {
    let promoted = |space: &KonigleSpace| is_ready(space) && runs(space, digest);
    let live = stage.namespace.wait_longer_for(LIVE, "promoted", LONGEST_OUTCOME, promoted).await?;
    let ledger = posted(stage, PRODUCTION).await?;
    let of_digest = |entry: &&Value| digest == format!("sha256:{}", entry["sha256"].as_str().unwrap_or_default());
    check(ledger.iter().filter(of_digest).count() == 1, || format!("not once: {ledger:?}"))?;
    Ok(live)
}

async fn row_29_an_approved_digest_that_uat_does_not_run(case: &Case) -> Result<()> {
    let stage = case.open_with(2.0, |options| options).await?;
    let (first, next) = (stage.wish("1.0")?, stage.wish("2.0")?);
    deploy_once(&stage, &first).await?;
    let approved = match *case.pick(&["to come", "before", "of nobody"]) {
        "to come" => digest_of_wish(&stage.wish("3.0")?),
        "before" => {
            deploy_once(&stage, &stage.wish("1.1")?).await?;
            digest_of_wish(&first)
        }
        _ => digest_of_wish(&stage.wish("9.0")?),
    };
    stage.namespace.apply(LIVE, &approves(&approved)).await?;
    stage.namespace.wait_for_reason(LIVE, "AwaitingSource").await?;
    stage.namespace.apply(SHOP, &next).await?;
    lasts(case.moment(Duration::from_secs(4))).await?;
    stage.look_now(LIVE).await?;
    deployed_once(&stage, &digest_of_wish(&next)).await?;
    let looked = stage.look_now(LIVE).await?;
    check(ready_reason(&looked) == Some("AwaitingSource"), || format!("{:?}", looked.status))?;
    check(posted(&stage, PRODUCTION).await?.is_empty(), || "promoted what was not approved".to_owned())?;
    // Uat comes to what is approved, or what it runs is approved.
    let last = stage.wish("3.0")?;
    stage.namespace.apply(SHOP, &last).await?;
    deployed_once(&stage, &digest_of_wish(&last)).await?;
    stage.namespace.apply(LIVE, &approves(&digest_of_wish(&last))).await?;
    promoted_once(&stage, &digest_of_wish(&last)).await?;
    check(posted(&stage, PRODUCTION).await?.len() == 1, || "promoted more than once".to_owned())
}

async fn row_27_a_promotion_races_our_own_deploy(case: &Case) -> Result<()> {
    let stage = case.open_with(2.0, |options| options).await?;
    let (first, second) = (stage.wish("1.0")?, stage.wish("2.0")?);
    let (old, new) = (digest_of_wish(&first), digest_of_wish(&second));
    deploy_once(&stage, &first).await?;
    let between = case.moment(Duration::from_secs(2));
    if *case.pick(&[true, false]) {
        stage.namespace.apply(LIVE, &approves(&old)).await?;
        lasts(between).await?;
        stage.namespace.apply(SHOP, &second).await?;
    } else {
        stage.namespace.apply(SHOP, &second).await?;
        lasts(between / 4).await?;
        stage.namespace.apply(LIVE, &approves(&old)).await?;
    }
    deployed_once(&stage, &new).await?;
    // What was approved was promoted before, or waits for uat to run it, which it does no more.
    let decided = |space: &KonigleSpace| {
        let open = space.status.as_ref().is_some_and(|status| status.attempt.is_some());
        !open && (is_ready(space) || ready_reason(space) == Some("AwaitingSource"))
    };
    stage.namespace.wait_longer_for(LIVE, "decided", LONGEST_OUTCOME, decided).await?;
    for entry in posted(&stage, PRODUCTION).await? {
        let sha = format!("sha256:{}", entry["sha256"].as_str().unwrap_or_default());
        check(sha == old, || format!("promoted what was not approved: {entry}"))?;
        nothing_was_deployed_during(&stage, &entry).await?;
    }
    stage.namespace.apply(LIVE, &approves(&new)).await?;
    promoted_once(&stage, &new).await.map(drop)
}

/// Sees that nothing of ours was accepted for uat while the job of this promotion ran.
async fn nothing_was_deployed_during(stage: &Stage, promotion: &Value) -> Result<()> {
    let ended = stage.simulator.job(&promotion["job"]).await?["completed_at"].clone();
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let (begun, ended) = (time(&promotion["time"]), time(&ended));
    for entry in posted(stage, UAT).await? {
        let deployed = time(&entry["time"]);
        check(deployed < begun || deployed > ended, || format!("{entry} during the promotion {promotion}"))?;
    }
    Ok(())
}

/// A person's deployment to uat that is over at once, a minute after whatever was before: within five seconds of our own
/// job it could not be told from it.
async fn somebody_deploys(stage: &Stage) -> Result<()> {
    stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    // Until it has taken effect: before, a server that refuses a second job refuses the promotion too.
    lasts(Duration::from_secs(1)).await
}

async fn row_28a_a_person_deploys_to_uat_before_the_promotion(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let wish = stage.wish("1.0")?;
    deploy_once(&stage, &wish).await?;
    somebody_deploys(&stage).await?;
    lasts(Duration::from_secs(2)).await?;
    // Seen by the uat resource's own look, or only by the promotion's.
    if *case.pick(&[true, false]) {
        stage.look_now(SHOP).await?;
    }
    stage.namespace.apply(LIVE, &approves(&digest_of_wish(&wish))).await?;
    let refused = |space: &KonigleSpace| {
        let status = space.status.clone().unwrap_or_default();
        let allowed = status.condition("PromotionAllowed").cloned();
        allowed.is_some_and(|allowed| allowed.status == "False")
            || status.history.first().is_some_and(|entry| entry.message.contains("meanwhile"))
    };
    stage.namespace.wait_for(LIVE, "refused", refused).await?;
    stage.look_now(SHOP).await?;
    stage.look_now(LIVE).await?;
    check(posted(&stage, PRODUCTION).await?.is_empty(), || "what nobody knows was promoted".to_owned())
}

async fn row_28b_a_person_deploys_to_uat_during_the_promotion(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_konigle().await?;
    let wish = stage.wish("1.0")?;
    let digest = digest_of_wish(&wish);
    deploy_once(&stage, &wish).await?;
    stage.simulator.change_space(PRODUCTION, &json!({"job": {"seconds": 4}})).await?;
    let recording = Recording::start(&stage.namespace).await?;
    if *case.pick(&[true, false]) {
        let gate = proxy.hold(Matcher::new(Method::POST, "/promote"));
        stage.namespace.apply(LIVE, &approves(&digest)).await?;
        gate.arrived().await?;
        somebody_deploys(&stage).await?;
        gate.open();
        stage.wait_for_ledger(PRODUCTION, 1).await?;
    } else {
        stage.namespace.apply(LIVE, &approves(&digest)).await?;
        stage.wait_for_ledger(PRODUCTION, 1).await?;
        lasts(case.moment(Duration::from_secs(2))).await?;
        somebody_deploys(&stage).await?;
    }
    stage.namespace.wait_for_reason(LIVE, "ContentNotVerified").await?;
    stage.look_now(LIVE).await?;
    for status in recording.statuses(LIVE).await? {
        check(!status.is_true("ContentVerified"), || format!("verified for a time: {status:?}"))?;
    }
    check(posted(&stage, PRODUCTION).await?.len() == 1, || "a further step by itself".to_owned())
}
