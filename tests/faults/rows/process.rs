//! Rows about the process and its surroundings: clocks, signals, starvation, rights, an older CRD, many resources.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::Role;
use konigle_operator::api::{AttemptResult, KonigleSpace};
use kube::api::{Api, Patch, PatchParams, PostParams};
use reqwest::Method;
use serde_json::{Value, json};

use crate::case::{Case, JOB_SECONDS};
use crate::matrix::{Row, row};
use crate::oracles::{LONGEST_OUTCOME, check, check_results, deploy_once, deployed_once, lasts, posted};
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{deploys, wait_for, wait_longer_for};
use crate::support::proxy::{Matcher, claims, receipts};
use crate::support::rights::ACCOUNT;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready};
use crate::support::trace::Property;
use crate::support::{Failure, Result};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "37",
            row_37_the_clock_steps,
            "The operator's clock steps an hour or a year, forward or back, while a request or a job is under way",
            "A request is sent or provably not sent, a job is waited for as without it; deployed once"
        ),
        row!(
            "47",
            row_47_events_fail,
            "Every Event is refused",
            "The deploy is not touched; at most six Events are tried for it"
        ),
        row!(
            "49",
            row_49_the_crd_goes_back_and_forth,
            "An older CRD is installed while a job runs, and replaced later",
            "Nothing is posted that could not be recorded; the job is found, and the next digest deployed once"
        )
        .long(),
        row!(
            "50",
            row_50_terminated_at_any_moment,
            "SIGTERM at any moment of a deploy, then a restart",
            "An end in order and in time; deployed once"
        ),
        Row::tested(
            "51",
            "A pass panics, or the controller does",
            "The others go on; a controller that is gone ends the process with a failure",
            &[
                ("tests/it/kubernetes/panics.rs", "k16_a_pass_that_panics_leaves_the_others_going"),
                ("tests/it/kubernetes/panics.rs", "k16_a_controller_that_dies_ends_the_process"),
            ],
        ),
        row!(
            "52",
            row_52_rights_taken_away_in_flight,
            "The right to write statuses is taken away before the claim, or between the request and the receipt",
            "Without a claim nothing is sent; a receipt is tried until it is there; deployed once"
        ),
        row!(
            "53",
            row_53_a_starved_process,
            "The process runs for a hundredth of the time",
            "Late is not twice: deployed once"
        ),
        row!(
            "55",
            row_55_many_resources_at_once,
            "Sixty resources of one account are applied at once",
            "All are deployed once, and the account's rate is kept"
        )
        .under(
            &[("busy_policy", &["parallel"]), ("effect_lag_seconds", &["0"])],
            "it is about the account's rate, not about one Space",
        )
        .long(),
    ]
}

async fn row_37_the_clock_steps(case: &Case) -> Result<()> {
    const YEAR: i64 = 31_536_000;
    let file = crate::support::run_folder::new_folder("clock")?.join("offset");
    std::fs::write(&file, "0")?;
    let mut stage = case
        .open_with(2.0, |mut options| {
            options.environment.push(("KONIGLE_CLOCK_OFFSET".to_owned(), file.display().to_string()));
            options
        })
        .await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    // All steps, each between the claim and the request, and while the job runs.
    let steps = *case.pick(&[[3600, -3600], [YEAR, -YEAR], [5, -5]]);
    let moments = steps.into_iter().flat_map(|step| [(step, true), (step, false)]);
    for (number, (step, before_the_request)) in moments.enumerate() {
        let wish = stage.wish(&format!("1.{number}"))?;
        if before_the_request {
            let gate = proxy.hold_answer(claims());
            stage.namespace.apply(SHOP, &wish).await?;
            gate.arrived().await?;
            std::fs::write(&file, step.to_string())?;
            gate.open();
            proxy.clear();
        } else {
            stage.namespace.apply(SHOP, &wish).await?;
            stage.wait_for_ledger(UAT, number + 1).await?;
            lasts(case.moment(Duration::from_secs(2))).await?;
            std::fs::write(&file, step.to_string())?;
        }
        let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
        was_felt(&space, step, before_the_request)?;
        std::fs::write(&file, "0")?;
    }
    deploy_once(&stage, &stage.wish("2.0")?).await?;
    check(posted(&stage, UAT).await?.len() == 5, || "sent again".to_owned())
}

/// The newest digest was sent at once, or provably not sent and then sent; and the operator's own records are off by the
/// step of its clock.
fn was_felt(space: &KonigleSpace, step: i64, before_the_request: bool) -> Result<()> {
    let history = space.status.clone().unwrap_or_default().history;
    let newest = history.first().ok_or_else(|| Failure::new("there is no history"))?;
    let of_digest = history.iter().filter(|entry| entry.digest == newest.digest);
    let results: Vec<AttemptResult> = of_digest.map(|entry| entry.result).collect();
    let sent_at_once = [AttemptResult::Succeeded];
    let sent_later = [AttemptResult::Succeeded, AttemptResult::NotSent];
    check(results == sent_at_once || (before_the_request && results == sent_later), || format!("{results:?}"))?;
    let ended = newest.completed_at.parse::<jiff::Timestamp>()?;
    let off = ended.duration_since(konigle_operator::clock::now()).as_secs() - step;
    check(off.abs() <= 120 && (step.abs() < 3600 || (off + step).abs() > 1800), || format!("{ended}, stepped {step} s"))
}

async fn row_47_events_fail(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let events = || Matcher::new(Method::POST, "/events");
    let refusals = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN];
    proxy.answer(events(), usize::MAX, *case.pick(&refusals));
    // The longest way: a failed job, and the attempt after it.
    stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "failed"}]})).await?;
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded, AttemptResult::Failed])?;
    let tried = proxy.seen(&events()).len();
    check((2..=12).contains(&tried), || format!("{tried} Events for two attempts"))
}

/// A CRD as an older version had it: without these fields of the status.
async fn install_older_crd(control_plane: &ControlPlane, without: &'static [&'static str]) -> Result<()> {
    control_plane
        .install_changed_crd(|schema| {
            if let Some(fields) = schema["properties"]["status"]["properties"].as_object_mut() {
                fields.retain(|name, _| !without.contains(&name.as_str()));
            }
        })
        .await
}

async fn row_49_the_crd_goes_back_and_forth(case: &Case) -> Result<()> {
    let without: &[&'static [&'static str]; 3] = &[&["settled"], &["attempt"], &["history", "lastAttempt"]];
    let without = *case.pick(without);
    case.on_own_control_plane(async |control_plane| {
        let stage = case.open_on(control_plane, 4.0, |options| options).await?;
        let wish = stage.wish("1.0")?;
        stage.namespace.apply(SHOP, &wish).await?;
        stage.wait_for_ledger(UAT, 1).await?;
        lasts(case.moment(Duration::from_secs(2))).await?;
        stage.tolerate(Property::NumbersGrow, "an older CRD drops the number");
        stage.tolerate(Property::TraceIsWhole, "a changed CRD has the API server end its watches");
        install_older_crd(control_plane, without).await?;
        stage
            .namespace
            .wait_longer_for(SHOP, "told", LONGEST_OUTCOME, |space| {
                crate::support::namespace::ready_reason(space) == Some("CRDOutdated")
            })
            .await?;
        let newer = stage.wish("2.0")?;
        stage.namespace.apply(SHOP, &newer).await?;
        stage.look_now(SHOP).await.ok();
        check(posted(&stage, UAT).await?.len() == 1, || "posted what could not be recorded".to_owned())?;
        control_plane.install_crd().await?;
        let deployed = |space: &KonigleSpace| is_ready(space);
        stage.namespace.wait_longer_for(SHOP, "deployed", LONGEST_OUTCOME, deployed).await?;
        let ledger = posted(&stage, UAT).await?;
        // What an older CRD dropped is forgotten; the digest in flight is deployed by nobody again.
        check(ledger.len() == 2, || format!("{ledger:?}"))
    })
    .await
}

async fn row_50_terminated_at_any_moment(case: &Case) -> Result<()> {
    let mut stage = case.open_with(2.0, |options| options).await?;
    let wish = stage.wish("1.0")?;
    for _ in 0..2 {
        stage.namespace.apply(SHOP, &wish).await?;
        // A whole deploy, from the first look to its confirmation.
        lasts(case.moment(Duration::from_secs(6))).await?;
        stage.operator.terminate(Duration::from_secs(80)).await?;
        stage.operator.start_again().await?;
    }
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    let newest = crate::oracles::results(&space).first().copied();
    check(newest == Some(AttemptResult::Succeeded), || format!("{newest:?}"))?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

/// The rules of the operator's role without, or with, the right to write statuses.
async fn allow_statuses(stage: &Stage, allow: bool) -> Result<()> {
    let api = stage.namespace.api::<Role>();
    let mut role = serde_json::to_value(api.get(ACCOUNT).await?)?;
    for rule in role["rules"].as_array_mut().into_iter().flatten() {
        if rule["resources"] == json!(["koniglespaces/status"]) {
            rule["verbs"] = if allow { json!(["patch"]) } else { json!(["get"]) };
        }
    }
    let rules = json!({"rules": role["rules"]});
    api.patch(ACCOUNT, &PatchParams::default(), &Patch::Merge(&rules)).await?;
    // The API server learns of a changed role a little later.
    wait_for("the changed rights to hold", async || Ok((may_write_statuses(stage).await? == allow).then_some(()))).await
}

/// Whether the API server lets the operator's account write statuses.
async fn may_write_statuses(stage: &Stage) -> Result<bool> {
    let namespace = stage.namespace.name();
    let review: SubjectAccessReview = serde_json::from_value(json!({"metadata": {}, "spec": {
        "user": format!("system:serviceaccount:{namespace}:{ACCOUNT}"),
        "resourceAttributes": {"namespace": namespace, "verb": "patch", "group": "cloud.konigle.com",
                               "resource": "koniglespaces", "subresource": "status", "name": SHOP},
    }}))?;
    let reviews: Api<SubjectAccessReview> = Api::all(stage.namespace.client().clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

async fn row_52_rights_taken_away_in_flight(case: &Case) -> Result<()> {
    let mut stage = case.open_with(3.0, |options| options).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let wish = stage.wish("1.0")?;
    let before_the_claim = *case.pick(&[true, false]);
    let gate = proxy.hold(if before_the_claim { claims() } else { receipts() });
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    allow_statuses(&stage, false).await?;
    gate.open();
    let told = async || Ok(std::fs::read_to_string(stage.operator.log())?.contains("is forbidden").then_some(()));
    wait_for("refused", told).await?;
    lasts(case.moment(Duration::from_secs(5))).await?;
    let expected = usize::from(!before_the_claim);
    check(posted(&stage, UAT).await?.len() == expected, || "sent without a claim, or again".to_owned())?;
    proxy.clear();
    allow_statuses(&stage, true).await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_53_a_starved_process(case: &Case) -> Result<()> {
    const SLICE: Duration = Duration::from_millis(20);
    let mut stage = case.open().await?;
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(40) {
        stage.operator.process().signal("STOP")?;
        tokio::time::sleep(99 * SLICE).await;
        stage.operator.process().signal("CONT")?;
        tokio::time::sleep(SLICE).await;
    }
    deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_55_many_resources_at_once(case: &Case) -> Result<()> {
    const RESOURCES: usize = 60;
    const RATE: u64 = 5;
    const BURST: u64 = 20;
    let stage = case.open_with(JOB_SECONDS, |options| options).await?;
    let id = |number: usize| format!("73019624428097{number:05}");
    let ids: Vec<String> = (0..RESOURCES).map(id).collect();
    stage.simulator.add_uat_spaces("web-3", &ids).await?;
    let artifact = stage.artifacts.serve_application("1.0")?;
    stage.simulator.control(Method::DELETE, "requests", &Value::Null).await?;
    let began = Instant::now();
    for number in 0..RESOURCES {
        stage
            .namespace
            .apply(&format!("many-{number}"), &deploys(&id(number), &artifact.url, &artifact.digest))
            .await?;
    }
    let all = async || {
        let spaces = stage.namespace.spaces().list(&kube::api::ListParams::default()).await?;
        Ok(spaces.items.iter().all(is_ready).then_some(()))
    };
    wait_longer_for("all deployed", Duration::from_mins(8), all).await?;
    let elapsed = began.elapsed().as_secs();
    let requests = stage.simulator.requests().await?;
    let counts = requests["by_operation"].as_object().cloned().unwrap_or_default();
    let asked: u64 = counts.values().filter_map(Value::as_u64).sum();
    check(asked > 0 && asked <= BURST + RATE * (elapsed + 2), || format!("{asked} requests in {elapsed} s"))?;
    for number in 0..RESOURCES {
        let ledger = posted(&stage, &id(number)).await?;
        check(ledger.len() == 1, || format!("many-{number}: {ledger:?}"))?;
    }
    Ok(())
}
