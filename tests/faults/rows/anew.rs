//! Rows about a resource that is made anew or restored: what its predecessor began, and what runs.

use std::time::Duration;

use konigle_operator::api::{Attribution, KonigleSpace, RELEASED};
use kube::ResourceExt;
use kube::api::DeleteParams;
use reqwest::Method;
use serde_json::json;

use super::resources::write_status;
use crate::case::Case;
use crate::matrix::{Row, row};
use crate::oracles::{LONGEST_OUTCOME, attribution, check, deploy_once, deployed_once, lasts, posted};
use crate::support::Result;
use crate::support::namespace::{ready_reason, wait_for};
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready};
use crate::support::trace::Property;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "35c",
            row_35c_made_anew_in_flight,
            "The resource is deleted and made anew while its request or its job is under way, or its status is lost then",
            "The new one follows the job of the old one; nothing is sent again"
        )
        .tested_by(&[
            ("tests/it/journeys/neighbours.rs", "a_resource_made_anew_while_its_job_runs_follows_that_job"),
            (
                "tests/it/journeys/neighbours.rs",
                "a_resource_made_anew_before_its_request_was_answered_deploys_nothing_beside_it",
            ),
            ("tests/it/journeys/neighbours.rs", "a_status_that_is_lost_during_a_job_comes_back"),
        ]),
        row!(
            "35d",
            row_35d_restored_without_its_status,
            "The resource is restored without its status, or recreated where the Space runs something",
            "What is noted on it is taken over where the Space bears it out; else `adoptionPolicy` decides"
        )
        .tested_by(&[
            ("tests/it/journeys/neighbours.rs", "a_resource_restored_without_its_status_deploys_nothing"),
            ("tests/it/journeys/neighbours.rs", "a_note_that_the_space_does_not_bear_out_is_worth_nothing"),
            ("tests/it/journeys.rs", "adoption_assumes_or_deploys_as_the_policy_says"),
        ]),
    ]
}

/// Deletes the resource, and waits until it is gone.
pub(super) async fn delete(stage: &Stage) -> Result<()> {
    stage.namespace.spaces().delete(SHOP, &DeleteParams::default()).await?;
    wait_for("gone", async || Ok(stage.namespace.spaces().get_opt(SHOP).await?.is_none().then_some(()))).await
}

async fn row_35c_made_anew_in_flight(case: &Case) -> Result<()> {
    let stage = case.open_with(8.0, |options| options).await?;
    let wish = stage.wish("1.0")?;
    let recorded = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_id.is_some())
    };
    let lost = *case.pick(&["during its job", "during its request", "its status"]);
    if lost == "during its request" {
        stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": {"delay_ms": 5000}})).await?;
    }
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    if lost != "during its request" {
        stage.namespace.wait_for(SHOP, "recorded", recorded).await?;
    }
    lasts(case.moment(Duration::from_secs(4))).await?;
    if lost == "its status" {
        stage.tolerate(Property::NumbersGrow, "whoever takes a status away takes the numbers with it");
        wait_for("lost", async || Ok(write_status(&stage, &json!({"observedGeneration": -1})).await.ok())).await?;
    } else {
        delete(&stage).await?;
        stage.namespace.apply(SHOP, &wish).await?;
    }
    deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_35d_restored_without_its_status(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let wish = stage.wish("1.0")?;
    let noted = stage.deployed("1.0").await?.annotations().get(RELEASED).cloned().unwrap_or_default();
    let runs = *case.pick(&["what is noted", "something else", "what nobody noted"]);
    if runs == "something else" {
        stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
        stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    }
    // Reads may lag, and a late word too.
    lasts(Duration::from_secs(2) + case.moment(Duration::from_secs(2))).await?;
    stage.operator.kill();
    delete(&stage).await?;
    let mut anew = if runs == "what nobody noted" { stage.wish("1.1")? } else { wish };
    // What is noted goes before the policy.
    anew["adoptionPolicy"] = json!(if runs == "something else" { "AssumeCurrent" } else { "Deploy" });
    stage.namespace.apply(SHOP, &anew).await?;
    if runs != "what nobody noted" {
        stage.namespace.annotate(SHOP, RELEASED, &noted).await?;
    }
    stage.operator.start_again().await?;
    let known = stage.namespace.wait_longer_for(SHOP, "known", LONGEST_OUTCOME, is_ready).await?;
    let (expected, reason, deploys) = match runs {
        "what is noted" => (Attribution::Inferred, "Succeeded", 1),
        "something else" => (Attribution::Assumed, "Assumed", 1),
        _ => (Attribution::Confirmed, "Succeeded", 2),
    };
    check(attribution(&known) == Some(expected) && ready_reason(&known) == Some(reason), || {
        format!("{runs}: {:?}", known.status)
    })?;
    let looked = stage.look_now(SHOP).await?;
    check(is_ready(&looked), || format!("it did not stay Ready: {:?}", looked.status))?;
    check(posted(&stage, UAT).await?.len() == deploys, || format!("{runs}: not {deploys} deploys"))?;
    deploy_once(&stage, &stage.wish("2.0")?).await?;
    check(posted(&stage, UAT).await?.len() == deploys + 1, || "sent again".to_owned())
}
