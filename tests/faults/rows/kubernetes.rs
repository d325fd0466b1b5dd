//! Rows about the API server: refused and stale writes, lost events, restarts, silence.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use konigle_operator::api::{AttemptResult, KonigleSpace, RECONCILE_AT};
use reqwest::Method;
use serde_json::{Value, json};

use super::anew::delete;
use crate::case::{Case, JOB_SECONDS};
use crate::matrix::{Row, row};
use crate::oracles::{
    Reference, check, check_results, deploy_once, deployed_once, good, lasts, never_sent, posted, quick,
};
use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{wait_for, wait_longer_for};
use crate::support::proxy::{Matcher, Proxy, Seen, claims, nonce_of, receipts};
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};
use crate::support::trace::Property;
use crate::support::wire::Fault;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "7",
            row_7_a_claim_that_is_refused_or_not_confirmed,
            "The claim meets a newer version (409), is refused (503), or is stored and answered with 504",
            "What is not confirmed is never sent, and known as not sent; the next claim deploys once"
        ),
        row!(
            "8",
            row_8_a_crd_that_would_lose_the_claim,
            "The claim would be stored without its attempt, or without a part of it: the installed CRD is older",
            "Nothing is posted; `CRDOutdated`; with the right CRD it is deployed once"
        )
        .tested_by(&[("tests/it/kubernetes.rs", "k18_nothing_is_posted_while_the_crd_would_lose_the_claim")]),
        row!(
            "9",
            row_9_an_edit_before_the_receipt,
            "The spec or a label is edited between the request and the receipt",
            "The job's id is stored all the same; an edit that wants another digest waits for the job's end"
        ),
        row!(
            "10",
            row_10_a_replica_with_an_old_view,
            "A replica acts on an old view of the resource while another one has gone on",
            "Its claim is refused; no digest is deployed again"
        ),
        row!(
            "11",
            row_11_a_change_that_the_watch_does_not_tell,
            "The watch stays silent: a changed spec is not told, nor a deletion, nor that the resource was made anew",
            "It is found when the watch is begun anew, within two minutes, with the end and writes of a run without a fault; nothing is sent for what is gone"
        ),
        row!(
            "14a",
            row_14a_the_api_server_is_killed_and_back,
            "The API server is killed while a job runs and another digest is wanted, and comes back",
            "Nothing is posted meanwhile, the job is followed; then both digests are deployed once"
        ),
        row!(
            "14b",
            row_14b_etcd_is_gone_for_a_time,
            "etcd is gone for a time, while a job runs and another digest is wanted",
            "Nothing is posted meanwhile, the job is followed; then both digests are deployed once"
        ),
        row!(
            "15",
            row_15_compaction_and_a_version_that_is_gone,
            "etcd is compacted and the API server restarted: the watch's version is gone (410)",
            "All is listed anew, at most ten times a minute, and nothing is deployed again"
        ),
        row!(
            "16",
            row_16_a_black_hole_before_the_api_server,
            "The API server's connections stand, and nothing passes any more",
            "Each call ends within 15 s, and the process is unready after two minutes at most; with leader election it is unready within 20 s and ends; it goes on when answers come again, and nothing is sent twice"
        ),
    ]
}

async fn row_7_a_claim_that_is_refused_or_not_confirmed(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let mut wish = stage.wish("1.0")?;
    // Far longer than the case: nothing is waited out.
    wish["timeout"] = json!("1h");
    let fault = *case.pick(&["409", "504", "503"]);
    match fault {
        "409" => {
            let gate = proxy.hold(claims());
            stage.namespace.apply(SHOP, &wish).await?;
            gate.arrived().await?;
            stage.namespace.annotate(SHOP, "example.com/note", "meanwhile").await?;
            gate.open();
        }
        "504" => {
            proxy.answer_after(claims(), 1, StatusCode::GATEWAY_TIMEOUT);
            stage.namespace.apply(SHOP, &wish).await?;
        }
        _ => {
            proxy.answer(claims(), 1, StatusCode::SERVICE_UNAVAILABLE);
            stage.namespace.apply(SHOP, &wish).await?;
        }
    }
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    let stored: &[_] =
        if fault == "504" { &[AttemptResult::Succeeded, AttemptResult::NotSent] } else { &[AttemptResult::Succeeded] };
    check_results(&space, stored)?;
    let nonces: Vec<String> = proxy.seen(&claims()).iter().map(nonce_of).filter(|nonce| !nonce.is_empty()).collect();
    never_sent(&stage, UAT, nonces.first().map_or("", String::as_str)).await
}

async fn row_8_a_crd_that_would_lose_the_claim(case: &Case) -> Result<()> {
    let path = *case.pick(&["attempt", "attempt.nonce", "lastAttempt"]);
    case.on_own_control_plane(async |control_plane| {
        let stage = case.open_on(control_plane, JOB_SECONDS, |options| options).await?;
        stage.tolerate(Property::NoGap, "a changed CRD has the API server end its watches");
        let mut wish = stage.wish("1.0")?;
        wish["suspend"] = json!(true);
        stage.namespace.apply(SHOP, &wish).await?;
        stage.namespace.wait_for_reason(SHOP, "Suspended").await?;
        control_plane
            .install_changed_crd(|schema| {
                let status = &mut schema["properties"]["status"];
                let (of, field) = match path.split_once('.') {
                    Some((of, field)) => (&mut status["properties"][of], field),
                    None => (status, path),
                };
                if let Some(fields) = of["properties"].as_object_mut() {
                    fields.remove(field);
                }
            })
            .await?;
        lasts(case.moment(Duration::from_secs(2))).await?;
        wish["suspend"] = json!(false);
        wait_for("wished for", async || Ok(stage.namespace.apply(SHOP, &wish).await.ok())).await?;
        stage.namespace.wait_for_reason(SHOP, "CRDOutdated").await?;
        wait_for("asked again", async || Ok(stage.namespace.annotate(SHOP, RECONCILE_AT, "again").await.ok())).await?;
        lasts(Duration::from_secs(3)).await?;
        check(posted(&stage, UAT).await?.is_empty(), || "posted what could not be recorded".to_owned())?;
        control_plane.install_crd().await?;
        // By itself, within a minute: a watch that still goes by the older schema shows no claim that is made before.
        deployed_once(&stage, &digest_of_wish(&wish)).await?;
        check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
    })
    .await
}

async fn row_9_an_edit_before_the_receipt(case: &Case) -> Result<()> {
    let mut stage = case.open_with(3.0, |options| options).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold(receipts());
    let wish = stage.wish("1.0")?;
    let mut next = wish.clone();
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    let edit = *case.pick(&["interval", "digest", "label"]);
    match edit {
        "interval" => {
            next["interval"] = json!("2m");
            stage.namespace.apply(SHOP, &next).await?;
        }
        "digest" => {
            next = stage.wish("2.0")?;
            stage.namespace.apply(SHOP, &next).await?;
        }
        _ => drop(stage.namespace.annotate(SHOP, "example.com/note", "meanwhile").await?),
    }
    gate.open();
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    let recorded = |space: &KonigleSpace| {
        let status = space.status.clone().unwrap_or_default();
        let open = status.attempt.and_then(|attempt| attempt.job_id);
        open.or_else(|| status.history.first()?.job_id.clone()).as_deref() == job.as_str()
    };
    stage.namespace.wait_for(SHOP, "recorded", recorded).await?;
    deployed_once(&stage, &digest_of_wish(&next)).await?;
    check(good(&stage, &digest_of_wish(&wish)).await?.len() == 1, || "the first digest was sent again".to_owned())?;
    let expected = if edit == "digest" { 2 } else { 1 };
    check(posted(&stage, UAT).await?.len() == expected, || "sent again".to_owned())
}

async fn row_10_a_replica_with_an_old_view(case: &Case) -> Result<()> {
    let mut stage = case.open_with(0.5, |options| options).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let wish = |version: &str| -> Result<Value> {
        let mut wish = stage.wish(version)?;
        // What the old view takes for drift it would deploy over.
        wish["driftPolicy"] = json!("Redeploy");
        wish["interval"] = json!("30s");
        Ok(wish)
    };
    let (first, second) = (wish("1.0")?, wish("2.0")?);
    deploy_once(&stage, &first).await?;
    proxy.silence_watches();
    let direct = stage.kubeconfig.clone();
    let writes = Matcher::new(Method::PATCH, "/status");
    let before = proxy.seen(&writes).len();
    let _other = stage
        .another_operator(|mut options| {
            options.kubeconfig = direct;
            options
        })
        .await?;
    stage.namespace.apply(SHOP, &second).await?;
    deployed_once(&stage, &digest_of_wish(&second)).await?;
    wait_for("the old view was acted on", async || Ok((proxy.seen(&writes).len() > before).then_some(()))).await?;
    deployed_once(&stage, &digest_of_wish(&second)).await?;
    check(posted(&stage, UAT).await?.len() == 2, || "a digest was deployed again".to_owned())
}

async fn row_11_a_change_that_the_watch_does_not_tell(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let untold = *case.pick(&["an edit", "a deletion", "made anew"]);
    let reference = Reference::measure(&stage, "0.9").await?;
    let mut wish = stage.wish("1.0")?;
    let name = if untold == "a deletion" { "shop-uat-instead" } else { SHOP };
    if untold != "an edit" {
        // A timed look at what is gone would find something to do: it would deploy over what a person did.
        let mut old = stage.wish("0.9")?;
        (old["driftPolicy"], old["interval"]) = (json!("Redeploy"), json!("30s"));
        stage.namespace.apply(SHOP, &old).await?;
        stage.look_now(SHOP).await?;
    }
    proxy.silence_watches();
    let changed = Instant::now();
    if untold != "an edit" {
        delete(&stage).await?;
        stage.simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
        stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
        wish["adoptionPolicy"] = json!("Deploy");
    }
    stage.namespace.apply(name, &wish).await?;
    let new = wait_longer_for("found", Duration::from_mins(2), async || {
        Ok(Some(posted(&stage, UAT).await?).filter(|posted| posted.len() > 1))
    });
    let ledger = new.await?;
    check(changed.elapsed() < Duration::from_mins(2), || format!("found after {:?}", changed.elapsed()))?;
    let shown = format!("/{name} #");
    let is_new = ledger[1]["display_name"].as_str().is_some_and(|text| text.contains(&shown));
    let digest = digest_of_wish(&wish);
    check(is_new && digest == format!("sha256:{}", ledger[1]["sha256"].as_str().unwrap_or_default()), || {
        format!("sent for what is gone: {ledger:?}")
    })?;
    if untold == "an edit" {
        let space = deployed_once(&stage, &digest).await?;
        return reference.compare(&space).await;
    }
    let deployed = |space: &KonigleSpace| is_ready(space) && runs(space, &digest);
    stage.namespace.wait_for(name, "deployed", deployed).await?;
    stage.look_now(name).await?;
    check(posted(&stage, UAT).await?.len() == 2, || "sent again".to_owned())
}

/// Something is taken away from the control plane while a job runs, and given back.
async fn outage(
    case: &Case,
    control_plane: &mut ControlPlane,
    take: impl FnOnce(&mut ControlPlane),
    give_back: impl AsyncFnOnce(&mut ControlPlane) -> Result<()>,
) -> Result<()> {
    let mut stage = case.open_on(control_plane, 3.0, |options| options).await?;
    stage.tolerate(Property::NoGap, "an API server that starts may not know the version any more");
    let (first, second) = (stage.wish("1.0")?, stage.wish("2.0")?);
    stage.namespace.apply(SHOP, &first).await?;
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    lasts(case.moment(Duration::from_secs(3))).await?;
    stage.namespace.apply(SHOP, &second).await?;
    take(control_plane);
    wait_for("the job is over", async || Ok((stage.simulator.job(&job).await?["status"] == "success").then_some(())))
        .await?;
    lasts(Duration::from_secs(4)).await?;
    let meanwhile = posted(&stage, UAT).await?.len();
    give_back(control_plane).await?;
    check(meanwhile == 1, || "posted without a stored claim".to_owned())?;
    deployed_once(&stage, &digest_of_wish(&second)).await?;
    check(posted(&stage, UAT).await?.len() == 2, || "a digest was deployed again".to_owned())?;
    check(stage.operator.process().ended()?.is_none(), || "the process ended".to_owned())
}

async fn row_14a_the_api_server_is_killed_and_back(case: &Case) -> Result<()> {
    case.on_own_control_plane(async |control_plane| {
        let back = async |control_plane: &mut ControlPlane| control_plane.start_api_server().await;
        outage(case, control_plane, ControlPlane::stop_api_server, back).await
    })
    .await
}

async fn row_14b_etcd_is_gone_for_a_time(case: &Case) -> Result<()> {
    case.on_own_control_plane(async |control_plane| {
        let back = async |control_plane: &mut ControlPlane| control_plane.start_etcd().await;
        outage(case, control_plane, ControlPlane::stop_etcd, back).await
    })
    .await
}

/// The lists of the watch, which ask for a page; others ask for all.
fn lists(proxy: &Proxy) -> usize {
    let is_list = |seen: &&Seen| seen.path.contains("/koniglespaces?") && !seen.path.contains("watch=true");
    proxy.seen(&Matcher::new(Method::GET, "/koniglespaces?")).iter().filter(is_list).count()
}

/// How often the operator has said that it listed all anew.
fn listed(stage: &Stage) -> Result<usize> {
    Ok(std::fs::read_to_string(stage.operator.log())?.matches("all resources are listed").count())
}

async fn row_15_compaction_and_a_version_that_is_gone(case: &Case) -> Result<()> {
    case.on_own_control_plane(async |control_plane| {
        let mut stage = case.open_on(control_plane, JOB_SECONDS, |options| options).await?;
        stage.tolerate(Property::NoGap, "the watch that records begins anew, as the operator's does");
        let proxy = stage.put_proxy_before_the_api_server().await?;
        deploy_once(&stage, &stage.wish("1.0")?).await?;
        let before = lists(&proxy);
        let listed_before = listed(&stage)?;
        let began = Instant::now();
        // The last write that the watch told of may be the very last of all, which etcd keeps.
        stage.namespace.write_secret("later", &json!({})).await?;
        control_plane.stop_api_server();
        control_plane.compact_etcd().await?;
        control_plane.start_api_server().await?;
        deploy_once(&stage, &stage.wish("2.0")?).await?;
        check(posted(&stage, UAT).await?.len() == 2, || "a digest was deployed again".to_owned())?;
        let (lists, minutes) = (lists(&proxy) - before, began.elapsed().as_secs() / 60 + 1);
        let most = usize::try_from(minutes * 10).unwrap_or(usize::MAX);
        check(listed(&stage)? > listed_before, || "the version was not gone: nothing was listed anew".to_owned())?;
        check(lists <= most, || format!("{lists} lists in {:?}", began.elapsed()))
    })
    .await
}

async fn row_16_a_black_hole_before_the_api_server(case: &Case) -> Result<()> {
    let kind = *case.pick(&["alone", "alone until unready", "leads"]);
    let leads = kind == "leads";
    let mut stage = case.open_with(3.0, |options| if leads { options.electing() } else { options }).await?;
    let wire = stage.put_wire_before_the_api_server().await?;
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    lasts(case.moment(Duration::from_secs(3))).await?;
    wire.set(Some(Fault::BlackHole));
    let began = Instant::now();
    let unready = async || Ok(stage.operator.readiness().await.filter(|(status, _)| *status == 503).map(drop));
    if leads {
        wait_longer_for("unready", Duration::from_secs(20), unready).await?;
        let status = stage.operator.process().wait(Duration::from_mins(1)).await?;
        check(!status.success(), || format!("it lost its Lease and ended with {status}"))?;
        wire.set(None);
        stage.operator.start_again().await?;
    } else {
        gives_up(&stage).await?;
        // The next look at the job is due within ten seconds, and the write after it has fifteen.
        check(began.elapsed() < Duration::from_secs(45), || format!("a call hung for {:?}", began.elapsed()))?;
        if kind == "alone until unready" {
            // A silent watch is given up after 75 s.
            wait_longer_for("unready", Duration::from_mins(2), unready).await?;
        }
        wire.set(None);
    }
    deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())?;
    check(stage.operator.process().ended()?.is_none(), || "the process ended".to_owned())
}

/// Waits until the operator has given up a call to the API server.
async fn gives_up(stage: &Stage) -> Result<()> {
    let given_up = async || {
        let log = std::fs::read_to_string(stage.operator.log())?;
        let texts = ["failed to record the job's id", "the pass failed", "failed with error", "no answer from"];
        Ok(texts.iter().any(|text| log.contains(text)).then_some(()))
    };
    wait_longer_for("given up", Duration::from_mins(2), given_up).await
}
