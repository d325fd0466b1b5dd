//! The traps of the passes: a store that lags, a stop that is asked for twice, Events that fail.

use std::time::Duration;

use axum::http::StatusCode;
use konigle_operator::api::KonigleSpace;
use kube::api::{Patch, PatchParams};
use reqwest::Method;
use serde_json::json;

use super::LIMIT;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, deploys, wait_for, wait_longer_for};
use crate::support::operator::OperatorOptions;
use crate::support::proxy::{Matcher, Proxy, claims, nonce_of};
use crate::support::simulator::{TOKEN, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};
use crate::support::{Failure, Result};

/// A pass that begins before the watch has told of a change works on what was; it may not act on it, and it must come back
/// by itself.
#[tokio::test]
async fn k10_passes_over_a_store_that_lags_are_refused_and_come_back() -> Result<()> {
    let mut stage = Stage::open("lagging").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    stage.operator.kill();
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    // The list tells of 1.0. Of what comes then nothing is told.
    let silent = proxy.hold(Matcher::new(Method::GET, "/koniglespaces?&watch=true"));
    let gate = proxy.hold(claims());
    stage.operator.start_again().await?;
    silent.arrived().await?;
    gate.arrived().await?;
    let newer = stage.wish("1.1")?;
    stage.namespace.apply(SHOP, &newer).await?;
    gate.open();
    let tried = || proxy.seen(&claims()).iter().map(nonce_of).filter(|nonce| !nonce.is_empty()).count();
    wait_for("three claims of what is no longer wanted", async || Ok((tried() >= 3).then_some(()))).await?;
    assert!(stage.simulator.ledger(UAT).await?.is_empty(), "none of them was stored, none was sent");

    silent.open();
    proxy.clear();
    let digest = digest_of_wish(&newer);
    let newest = |space: &_| is_ready(space) && runs(space, &digest);
    stage.namespace.wait_longer_for(SHOP, "deployed", LIMIT, newest).await?;
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    Ok(())
}

/// kube's controller drops all passes at a second signal: what waits for an answer would be unknown for ever.
#[tokio::test]
async fn k15_a_stop_that_is_asked_for_again_still_waits_for_the_answer() -> Result<()> {
    let mut stage = Stage::open("insistent").await?;
    let delay = json!({"operation": "deploy", "when": "after", "action": {"delay_ms": 6000}});
    stage.simulator.fault(&delay).await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let job = stage.wait_for_ledger(UAT, 1).await?[0]["job"].clone();
    stage.operator.process().signal("TERM")?;
    wait_for("the stop begun", async || {
        Ok(std::fs::read_to_string(stage.operator.log())?.contains("stopping: nothing new is sent").then_some(()))
    })
    .await?;
    for signal in ["TERM", "INT", "TERM"] {
        stage.operator.process().signal(signal)?;
    }
    let status = stage.operator.process().wait(Duration::from_mins(1)).await?;
    assert!(status.success(), "{status}");
    let stopped = stage.namespace.spaces().get(SHOP).await?.status.unwrap_or_default();
    assert_eq!(stopped.attempt.and_then(|attempt| attempt.job_id).as_deref(), job.as_str(), "the receipt is written");
    stage.operator.start_again().await?;
    stage.namespace.wait_for(SHOP, "deployed", is_ready).await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn k22_events_that_are_refused_are_not_replayed_and_stop_no_deploy() -> Result<()> {
    let mut stage = Stage::open("eventless").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let posted = |proxy: &Proxy| proxy.seen(&Matcher::new(Method::POST, "/events")).len();
    stage.deployed("1.0").await?;
    stage.wait_for_event(SHOP, "DeploySucceeded: ").await?;
    let published = posted(&proxy);
    for (deploys, status) in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::FORBIDDEN].into_iter().enumerate() {
        let before = posted(&proxy);
        proxy.answer(Matcher::new(Method::POST, "/events"), usize::MAX, status);
        stage.deployed(&format!("1.{}", deploys + 1)).await?;
        wait_for("as many tries as Events", async || Ok((posted(&proxy) >= before + published).then_some(()))).await?;
        // One more pass: whatever had been replayed would have come by now.
        stage.look_now(SHOP).await?;
        assert_eq!(posted(&proxy) - before, published, "{status}");
        proxy.clear();
    }
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 3);
    Ok(())
}

/// A job's id cannot be asked for again: it is written before anything else is waited for.
#[tokio::test]
async fn k22_an_event_that_hangs_holds_up_no_receipt() -> Result<()> {
    let mut stage = Stage::open("hanging").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let claim = proxy.hold(claims());
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    claim.arrived().await?;
    let event = proxy.hold(Matcher::new(Method::POST, "/events"));
    claim.open();
    event.arrived().await?;
    let accepted = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_id.is_some())
    };
    stage.namespace.wait_longer_for(SHOP, "its receipt written", LIMIT, accepted).await?;
    let log = std::fs::read_to_string(stage.operator.log())?;
    assert!(!log.contains("an Event was not published"), "the receipt waited until the Event was given up");
    event.open();
    proxy.clear();
    stage.namespace.wait_longer_for(SHOP, "deployed", LIMIT, is_ready).await?;
    Ok(())
}

/// An Event's name is the resource's and a time; together they must stay a name.
#[tokio::test]
async fn k22_the_longest_name_has_its_events() -> Result<()> {
    let stage = Stage::open("longest").await?;
    let name = "s".repeat(200);
    stage.namespace.apply(&name, &stage.wish("1.0")?).await?;
    wait_longer_for("deployed", LIMIT, async || {
        Ok(stage.namespace.spaces().get(&name).await.ok().filter(is_ready).map(drop))
    })
    .await?;
    stage.wait_for_event(&name, "DeploySucceeded: ").await?;
    let longer = stage.namespace.apply(&"s".repeat(201), &stage.wish("1.0")?).await;
    let refusal = longer.expect_err("a longer one is refused").to_string();
    assert!(refusal.contains("200 characters"), "{refusal}");
    Ok(())
}

/// kube's own bound on passes gives a free place to any resource that is due. While more are due than can be looked at,
/// the same ones would go first again and again, and others would never be looked at.
#[tokio::test]
async fn while_more_are_due_than_can_be_looked_at_all_have_their_turn() -> Result<()> {
    const RESOURCES: usize = 12;
    const LEAST: u64 = 3;
    let id = |number: usize| format!("73019624428096{number:05}");
    let stage = Stage::open_with("turns", 600.0, |options| options.flag("--concurrency=1")).await?;
    let ids: Vec<String> = (0..RESOURCES).map(id).collect();
    stage.simulator.add_uat_spaces("web-2", &ids).await?;
    // A young job is due every 3 s, so four a second are, of which two can be looked at.
    let slow = json!({"operation": "get_job", "times": null, "action": {"delay_ms": 500}});
    stage.simulator.fault(&slow).await?;
    for number in 0..RESOURCES {
        let mut spec = stage.wish("1.0")?;
        spec["space"] = json!({"id": id(number)});
        stage.namespace.apply(&format!("shop-{number}"), &spec).await?;
    }
    let most = wait_longer_for("all looked at", LIMIT, async || {
        let requests = stage.simulator.requests().await?;
        let jobs = requests["posts"].as_array().into_iter().flatten().filter_map(|post| post["job"].as_str());
        let looks: Vec<u64> =
            jobs.map(|job| requests["by_object"][job]["get_job"].as_u64().unwrap_or_default()).collect();
        let all_seen = looks.len() == RESOURCES && looks.iter().all(|looks| *looks >= LEAST);
        Ok(all_seen.then(|| looks.into_iter().max().unwrap_or_default()))
    })
    .await?;
    assert!(most <= 2 * LEAST, "one was looked at {most} times before another had its {LEAST}");
    Ok(())
}

/// Each look of one namespace takes all the time that a read has, and more of them are due than there are turns.
#[tokio::test]
async fn a_namespace_whose_looks_never_end_leaves_turns_to_the_others() -> Result<()> {
    const SLOW: usize = 12;
    const LABEL: &str = "shared-turns";
    let control_plane = ControlPlane::shared().await?;
    let of_all = |options: OperatorOptions| {
        let options = OperatorOptions { watch_namespace: None, kubeconfig: control_plane.kubeconfig(), ..options };
        options.flag("--concurrency=2").flag(&format!("--watch-label-selector=test={LABEL}"))
    };
    let mut stage = Stage::open_with("slow-tenant", 0.5, of_all).await?;
    let elsewhere = Namespace::create(control_plane, "other-tenant").await?;
    elsewhere.write_token(TOKEN).await?;
    let labelled = json!({"metadata": {"labels": {"test": LABEL}}});
    let apply = async |namespace: &Namespace, name: &str, spec: &serde_json::Value| {
        namespace.apply(name, spec).await?;
        namespace.spaces().patch(name, &PatchParams::default(), &Patch::Merge(&labelled)).await.map(drop)?;
        Ok::<_, Failure>(())
    };
    let proxy = stage.put_proxy_before_konigle().await?;
    let never = proxy.hold(Matcher::new(Method::GET, "/spaces/74"));
    let wish = stage.wish("1.0")?;
    let source = &wish["source"]["http"];
    let (url, digest) = (source["url"].as_str().unwrap_or_default(), source["digest"].as_str().unwrap_or_default());
    for number in 0..SLOW {
        apply(
            &stage.namespace,
            &format!("slow-{number}"),
            &deploys(&format!("74019624428096{number:05}"), url, digest),
        )
        .await?;
    }
    never.arrived().await?;
    apply(&elsewhere, SHOP, &wish).await?;
    elsewhere.wait_for(SHOP, "deployed while the others wait", is_ready).await?;
    Ok(())
}
