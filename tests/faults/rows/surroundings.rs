//! Rows about what is around the process: Events and rights, an older CRD, many resources.

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
use crate::oracles::{LONGEST_OUTCOME, check, check_results, deployed_once, lasts, posted};
use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{deploys, wait_for, wait_longer_for};
use crate::support::proxy::{Matcher, claims, receipts};
use crate::support::rights::ACCOUNT;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready};
use crate::support::trace::Property;

pub(crate) fn rows() -> Vec<Row> {
    vec![
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
            "52",
            row_52_statuses_that_cannot_be_written,
            "Statuses can no longer be written, before the claim or between the request and the receipt: the right is taken away, or an admission policy refuses with 403 or 422",
            "Without a claim nothing is sent; a receipt is tried until it is there; deployed once"
        ),
        row!(
            "55",
            row_55_many_resources_at_once,
            "Two hundred resources of one account are applied at once",
            "All are deployed once, and the account's rate is kept"
        )
        .under(
            &[("busy_policy", &["parallel"]), ("effect_lag_seconds", &["0"])],
            "it is about the account's rate, not about one Space",
        )
        .long(),
    ]
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
        let stage = case.open_on(control_plane, JOB_SECONDS, |options| options).await?;
        // It ends once the older CRD is there, however slow the machine is.
        stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "never"}]})).await?;
        let wish = stage.wish("1.0")?;
        stage.namespace.apply(SHOP, &wish).await?;
        let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
        lasts(case.moment(Duration::from_secs(2))).await?;
        stage.tolerate(Property::NumbersGrow, "an older CRD drops the number");
        stage.tolerate(Property::NoGap, "a changed CRD has the API server end its watches");
        install_older_crd(control_plane, without).await?;
        // What is missing shows in what is written: of an attempt while it is open, of the others at its end.
        let finish = json!({"finish": "success"});
        let ends = !without.contains(&"attempt");
        let change = if ends { finish.clone() } else { json!({"append_log": [{"message": "one line more"}]}) };
        stage.simulator.change_job(&job, &change).await?;
        stage
            .namespace
            .wait_longer_for(SHOP, "told", LONGEST_OUTCOME, |space| {
                crate::support::namespace::ready_reason(space) == Some("CRDOutdated")
            })
            .await?;
        if !ends {
            stage.simulator.change_job(&job, &finish).await?;
        }
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

/// Why statuses cannot be written.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// The role lacks the right.
    Rights,
    /// An admission policy refuses, with this reason.
    Policy(&'static str),
}

/// Refuses all status writes in this namespace from now on, or no longer.
async fn refuse_statuses(stage: &Stage, refusal: Refusal, refuse: bool) -> Result<()> {
    let Refusal::Policy(reason) = refusal else { return allow_statuses(stage, !refuse).await };
    let name = format!("no-status-in-{}", stage.namespace.name());
    let (group, kind) = ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy");
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": ["cloud.konigle.com"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["koniglespaces/status"]}]},
            "validations": [{"expression": "false", "reason": reason, "message": "the quota is used up"}],
        }},
        {"apiVersion": group, "kind": format!("{kind}Binding"), "metadata": {"name": name}, "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {
                "matchLabels": {"kubernetes.io/metadata.name": stage.namespace.name()}}},
        }},
    ]});
    if refuse {
        stage.kubectl.apply(&objects.to_string()).await?;
    } else {
        stage.kubectl.run(&["delete", &format!("{kind}Binding/{name}"), &format!("{kind}/{name}")]).await?;
    }
    // The API server learns of it a little later.
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let write = Patch::Merge(json!({"status": {"failures": 0}}));
    wait_for("the policy in force, or gone", async || {
        let refused = stage.namespace.spaces().patch_status(SHOP, &dry_run, &write).await.is_err();
        Ok((refused == refuse).then_some(()))
    })
    .await
}

async fn row_52_statuses_that_cannot_be_written(case: &Case) -> Result<()> {
    let mut stage = case.open_with(3.0, |options| options).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let refusals = case.pick(&[
        [(Refusal::Rights, true), (Refusal::Policy("Forbidden"), false)],
        [(Refusal::Policy("Invalid"), true), (Refusal::Rights, false)],
        [(Refusal::Policy("Forbidden"), true), (Refusal::Policy("Invalid"), false)],
    ]);
    for (number, (refusal, before_the_claim)) in refusals.iter().enumerate() {
        let wish = stage.wish(&format!("1.{number}"))?;
        let matcher = || if *before_the_claim { claims() } else { receipts() };
        let gate = proxy.hold(matcher());
        stage.namespace.apply(SHOP, &wish).await?;
        gate.arrived().await?;
        refuse_statuses(&stage, *refusal, true).await?;
        let before = proxy.seen(&matcher()).len();
        gate.open();
        // The first try is refused when there is a second one.
        let tried = async || Ok((proxy.seen(&matcher()).len() > before).then_some(()));
        wait_for("refused, and tried again", tried).await?;
        lasts(case.moment(Duration::from_secs(5))).await?;
        let sent = posted(&stage, UAT).await?.len();
        let expected = number + usize::from(!before_the_claim);
        check(sent == expected, || format!("{refusal:?}: {sent} sent, without a claim or again"))?;
        proxy.clear();
        refuse_statuses(&stage, *refusal, false).await?;
        let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
        check_results(&space, &vec![AttemptResult::Succeeded; number + 1])?;
        check(posted(&stage, UAT).await?.len() == number + 1, || format!("{refusal:?}: sent again"))?;
    }
    Ok(())
}

async fn row_55_many_resources_at_once(case: &Case) -> Result<()> {
    const RESOURCES: usize = 200;
    // At the five a second of an account that is not told otherwise they would take five minutes.
    const RATE: u64 = 20;
    const BURST: u64 = 20;
    let rate = format!("--api-rate={RATE}");
    let stage = case.open_with(JOB_SECONDS, |options| options.flag(&rate)).await?;
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
