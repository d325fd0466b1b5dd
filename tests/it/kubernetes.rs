//! The API server as it is on bad days: older CRDs, objects that cannot be read, refusals, silence, and restarts.
//!
//! The traps of the client library (kube 5.0) are numbered K1 to K24 in `docs/pitfalls.md`. Those of the watch stand in
//! `kubernetes/watch.rs`, those of the passes in `kubernetes/passes.rs`. Where the control plane itself is stopped or its
//! CRD changed, the test has one of its own.

mod panics;
mod passes;
mod sources;
mod watch;

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use konigle_operator::api::{AttemptResult, KonigleSpace, RECONCILE_AT};
use kube::api::{Patch, PatchParams, ValidationDirective};
use serde_json::json;

use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, wait_for};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::proxy::{claims, nonce_of, receipts};
use crate::support::rights::operator_account;
use crate::support::simulator::UAT;
use crate::support::stage::{JOB_SECONDS, SHOP, Stage, is_ready};
use crate::support::trace::Property;

/// Longer than any wait that is measured here by design.
const LIMIT: Duration = Duration::from_mins(3);
/// Why a trace may have a gap.
const WATCHES_END: &str = "a changed CRD has the API server end its watches";

async fn own_control_plane() -> Result<ControlPlane> {
    let control_plane = ControlPlane::start().await?;
    control_plane.install_crd().await?;
    Ok(control_plane)
}

fn ready_message(space: &KonigleSpace) -> String {
    space
        .status
        .as_ref()
        .and_then(|status| status.condition("Ready"))
        .map(|ready| ready.message.clone())
        .unwrap_or_default()
}

#[tokio::test]
async fn readiness_waits_for_the_crd_and_names_what_an_older_one_lacks() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let namespace = Namespace::create(&control_plane, "readiness").await?;
    namespace.tolerate(Property::NoGap, WATCHES_END);
    let kubeconfig = operator_account(&control_plane, &namespace).await?;
    let operator = Operator::start_unready(OperatorOptions::new(&kubeconfig, "http://127.0.0.1:9", namespace.name()))?;
    let says = async |status: u16, text: &str| {
        wait_for(&format!("{status} with {text}"), async || {
            let answer = operator.readiness().await;
            Ok(answer.filter(|(code, body)| *code == status && body.contains(text)).map(drop))
        })
        .await
    };
    says(503, "the CRD is not installed: kubectl apply --server-side -f crds/").await?;
    control_plane
        .install_changed_crd(|schema| {
            let attempt = &mut schema["properties"]["status"]["properties"]["attempt"]["properties"];
            attempt.as_object_mut().expect("a schema").remove("nonce");
        })
        .await?;
    says(503, ".status.attempt.nonce").await?;
    control_plane.install_crd().await?;
    says(200, "ok").await
}

/// A watch that failed for long waits for long until its next try, and may have to list twice where the CRD is new.
#[tokio::test]
async fn a_crd_that_comes_late_is_watched_at_once_and_one_that_goes_is_named() -> Result<()> {
    /// The pause after so many failures of the watch.
    const LONG_PAUSE: (usize, Duration) = (5, Duration::from_millis(12_800));
    let control_plane = ControlPlane::start().await?;
    let namespace = Namespace::create(&control_plane, "late").await?;
    namespace.tolerate(Property::NoGap, WATCHES_END);
    let kubeconfig = operator_account(&control_plane, &namespace).await?;
    let operator = Operator::start_unready(OperatorOptions::new(&kubeconfig, "http://127.0.0.1:9", namespace.name()))?;
    let said = std::cell::RefCell::new(Vec::new());
    let says = async |status: u16, text: &str| {
        wait_for(&format!("{status} with {text}"), async || {
            let answer = operator.readiness().await;
            said.borrow_mut().extend(answer.clone());
            Ok(answer.filter(|(code, body)| *code == status && body.contains(text)).map(drop))
        })
        .await
    };
    wait_for("a long pause of the watch", async || {
        let log = std::fs::read_to_string(operator.log())?;
        Ok((log.matches("the watch failed").count() >= LONG_PAUSE.0).then_some(()))
    })
    .await?;
    let began = Instant::now();
    control_plane.install_crd().await?;
    says(200, "ok").await?;
    let waited = began.elapsed();
    assert!(waited < LONG_PAUSE.1, "the CRD is there, and was listed only after {waited:?}");

    control_plane.kubectl().run(&["delete", "crd", "koniglespaces.cloud.konigle.com"]).await?;
    says(503, "the CRD is not installed: kubectl apply --server-side -f crds/").await?;
    control_plane.install_crd().await?;
    says(200, "ok").await?;
    let said = said.into_inner();
    let raw = said.iter().find(|(_, text)| ["404", "Expired", "too old"].iter().any(|word| text.contains(word)));
    assert!(raw.is_none(), "{raw:?}");
    Ok(())
}

#[tokio::test]
async fn a_label_selector_that_is_none_ends_the_process_with_one_line() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let namespace = Namespace::create(control_plane, "selector").await?;
    namespace.tolerate(Property::AllIsSearched, "what has ended gives no metrics");
    let kubeconfig = operator_account(control_plane, &namespace).await?;
    let options = OperatorOptions::new(&kubeconfig, "http://127.0.0.1:9", namespace.name());
    let mut operator = Operator::start_unready(options.flag("--watch-label-selector=team in (shop"))?;
    let status = operator.process().wait(Duration::from_secs(30)).await?;
    assert_eq!(status.code(), Some(1));
    let log = std::fs::read_to_string(operator.log())?;
    assert_eq!(log.matches("--watch-label-selector is no label selector: write one such as team=shop").count(), 1);
    assert!(log.contains("team in (shop") && !log.contains("the watch failed"), "{log}");
    Ok(())
}

#[tokio::test]
async fn what_keeps_the_process_from_its_work_is_said_in_one_line() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let namespace = Namespace::create(control_plane, "start").await?;
    namespace.tolerate(Property::AllIsSearched, "what has ended gives no metrics");
    let kubeconfig = operator_account(control_plane, &namespace).await?;
    let missing = kubeconfig.with_extension("missing");
    for (kubeconfig, flag, parts) in [
        (&kubeconfig, "--artifact-dir=/proc/x", ["--artifact-dir /proc/x cannot be used (", "name a folder"]),
        (&missing, "--log-level=info", ["no cluster to work on", "set KUBECONFIG"]),
    ] {
        let options = OperatorOptions::new(kubeconfig, "http://127.0.0.1:9", namespace.name());
        let mut operator = Operator::start_unready(options.flag(flag))?;
        let status = operator.process().wait(Duration::from_secs(30)).await?;
        assert_eq!(status.code(), Some(1));
        let log = std::fs::read_to_string(operator.log())?;
        let told = log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        assert_eq!(told, 1, "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stop_is_not_kept_waiting_by_a_list_that_never_comes() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let namespace = Namespace::create(&control_plane, "unlisted").await?;
    let kubeconfig = operator_account(&control_plane, &namespace).await?;
    let options = OperatorOptions::new(&kubeconfig, "http://127.0.0.1:9", namespace.name());
    let mut operator = Operator::start_unready(options)?;
    wait_for("the CRD to be missed", async || {
        let answer = operator.readiness().await;
        Ok(answer.filter(|(_, body)| body.contains("the CRD is not installed")).map(drop))
    })
    .await?;
    operator.terminate(Duration::from_secs(20)).await
}

#[tokio::test]
async fn k18_nothing_is_posted_while_the_crd_would_lose_the_claim() -> Result<()> {
    let control_plane = own_control_plane().await?;
    let stage = Stage::open_on(&control_plane, "outdated", JOB_SECONDS, |options| options).await?;
    stage.tolerate(Property::NoGap, WATCHES_END);
    let mut wish = stage.wish("1.0")?;
    wish["suspend"] = json!(true);
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "Suspended").await?;
    control_plane
        .install_changed_crd(|schema| {
            schema["properties"]["status"]["properties"].as_object_mut().expect("a schema").remove("attempt");
        })
        .await?;
    let strict =
        PatchParams { dry_run: true, field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
    let attempt = json!({"status": {"attempt": {"number": 1}}});
    wait_for("the older schema in force", async || {
        Ok(stage.namespace.spaces().patch_status(SHOP, &strict, &Patch::Merge(&attempt)).await.err().map(drop))
    })
    .await?;

    wish["suspend"] = json!(false);
    stage.namespace.apply(SHOP, &wish).await?;
    let outdated = stage.namespace.wait_for_reason(SHOP, "CRDOutdated").await?;
    let message = ready_message(&outdated);
    assert!(message.contains("lacks status.attempt") && message.contains("crds/koniglespaces"), "{message}");
    stage.namespace.annotate(SHOP, RECONCILE_AT, "again").await?;
    stage.namespace.wait_for_reason(SHOP, "CRDOutdated").await?;
    assert!(stage.simulator.ledger(UAT).await?.is_empty());

    control_plane.install_crd().await?;
    stage.namespace.wait_longer_for(SHOP, "deployed", LIMIT, is_ready).await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn k6_an_object_that_cannot_be_read_does_not_block_the_others() -> Result<()> {
    let control_plane = own_control_plane().await?;
    let mut stage = Stage::open_on(&control_plane, "odd", JOB_SECONDS, |options| options).await?;
    stage.tolerate(Property::NoGap, WATCHES_END);
    control_plane
        .install_changed_crd(|schema| *schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
        .await?;
    let odd = json!({
        "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
        "metadata": {"name": "odd", "namespace": stage.namespace.name()},
        "spec": {"interval": 5, "space": "from an older version"},
    });
    wait_for("stored under the loose schema", async || Ok(stage.kubectl.apply(&odd.to_string()).await.ok())).await?;
    control_plane.install_crd().await?;
    // Both ways to meet it: in the running watch, and in the list of a new process.
    stage.deployed("1.0").await?;
    stage.operator.kill();
    stage.operator.start_again().await?;
    stage.deployed("1.1").await?;
    let log = std::fs::read_to_string(stage.operator.log())?;
    assert!(log.contains("cannot be read") && log.contains("\"name\":\"odd\""), "it is told");
    Ok(())
}

#[tokio::test]
async fn k2_a_silent_api_server_ends_each_call_by_its_deadline() -> Result<()> {
    let mut control_plane = own_control_plane().await?;
    let stage = Stage::open_on(&control_plane, "silent", 3.0, |options| options).await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    control_plane.signal_api_server("STOP")?;
    let stopped = Instant::now();
    wait_for("a write given up", async || {
        let log = std::fs::read_to_string(stage.operator.log())?;
        let given_up = ["failed to record the job's id", "the pass failed"].iter().any(|text| log.contains(text));
        Ok(given_up.then_some(()))
    })
    .await?;
    // The next look at the job is due within ten seconds, and the write after it has fifteen.
    assert!(stopped.elapsed() < Duration::from_secs(45), "after {:?}", stopped.elapsed());
    control_plane.signal_api_server("CONT")?;
    stage.namespace.wait_longer_for(SHOP, "deployed", LIMIT, is_ready).await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn k1_a_refused_claim_is_not_replayed_and_posts_nothing() -> Result<()> {
    let mut stage = Stage::open("replayed").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    proxy.answer(claims(), 1, StatusCode::SERVICE_UNAVAILABLE);
    proxy.answer(receipts(), 1, StatusCode::SERVICE_UNAVAILABLE);
    stage.deployed("1.0").await?;
    let nonces: Vec<_> = proxy.seen(&claims()).iter().map(nonce_of).filter(|nonce| !nonce.is_empty()).collect();
    let first = nonces.first().cloned().unwrap_or_default();
    assert_eq!(
        nonces.iter().filter(|nonce| **nonce == first).count(),
        1,
        "exactly one PATCH for one claim: {nonces:?}"
    );
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(ledger.len(), 1, "{ledger:?}");
    let shown = ledger[0]["display_name"].as_str().unwrap_or_default();
    assert!(!shown.contains(&first), "what was never stored was never sent: {shown}");
    // The receipt is the one write that is tried until it lands, each time as a request of its own.
    assert_eq!(proxy.seen(&receipts()).len(), 2);
    Ok(())
}

/// The claim is stored, its answer is lost, and the watch has not told of it yet: the next pass claims by the old view, and
/// is refused. What it tried must not make the process forget that it sent nothing for the first one.
#[tokio::test]
async fn a_claim_without_an_answer_is_known_as_not_sent_whatever_an_old_view_claims() -> Result<()> {
    let mut stage = Stage::open("old-view").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let gate = proxy.hold(claims());
    let mut wish = stage.wish("1.0")?;
    // Longer than the test: nothing is waited out.
    wish["timeout"] = json!("1h");
    stage.namespace.apply(SHOP, &wish).await?;
    gate.arrived().await?;
    proxy.silence_watches();
    proxy.clear();
    proxy.answer_after(claims(), 1, StatusCode::GATEWAY_TIMEOUT);
    gate.open();
    wait_for("a claim by the old view", async || Ok((proxy.seen(&claims()).len() > 1).then_some(()))).await?;
    // A silent watch is given up after 75 s.
    let space = stage.namespace.wait_longer_for(SHOP, "deployed", LIMIT, is_ready).await?;
    let history = space.status.unwrap_or_default().history;
    let results: Vec<_> = history.iter().map(|entry| entry.result).collect();
    assert_eq!(results, [AttemptResult::Succeeded, AttemptResult::NotSent]);
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}
