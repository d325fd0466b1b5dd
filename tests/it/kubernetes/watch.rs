//! The traps of the watch: a list that is never answered, a version that is gone, and what must not be asked for.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use konigle_operator::api::{KonigleSpace, RELEASED};
use kube::ResourceExt;
use kube::api::DeleteParams;
use reqwest::Method;
use serde_json::json;

use super::LIMIT;
use crate::support::Result;
use crate::support::namespace::{wait_for, wait_longer_for};
use crate::support::proxy::{Matcher, Proxy, Seen};
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

fn watches() -> Matcher {
    Matcher::new(Method::GET, "/koniglespaces?&watch=true")
}

/// The lists of the watch, which ask for a page; others ask for all.
fn lists(proxy: &Proxy) -> usize {
    let is_list = |seen: &&Seen| seen.path.contains("/koniglespaces?") && !seen.path.contains("watch=true");
    proxy.seen(&Matcher::new(Method::GET, "/koniglespaces?")).iter().filter(is_list).count()
}

/// What a watch is told whose version is gone: it leads to a new list.
fn gone() -> String {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410,
    });
    format!("{}\n", json!({"type": "ERROR", "object": status}))
}

#[tokio::test]
async fn k3_a_list_that_is_never_answered_is_begun_again() -> Result<()> {
    let mut stage = Stage::open("listing").await?;
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    stage.operator.kill();
    let gate = proxy.hold(Matcher::new(Method::GET, "/koniglespaces?"));
    stage.operator.restart_unready()?;
    gate.arrived().await?;
    // The one that is held stays held; the next one passes.
    proxy.clear();
    let before = lists(&proxy);
    wait_longer_for("listed again", LIMIT, async || Ok((lists(&proxy) > before).then_some(()))).await?;
    stage.deployed("1.1").await?;
    Ok(())
}

#[tokio::test]
async fn k3_a_watch_that_misses_a_change_ends_the_process() -> Result<()> {
    let mut stage = Stage::open_with("missing", 0.5, |options| options.flag("--watch-check-interval=2s")).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    // A watch that tells everything passes the comparison, again and again.
    let compared = || proxy.seen(&Matcher::new(Method::GET, "/koniglespaces?&limit=100")).len();
    let before = compared();
    for version in ["1.0", "1.1", "1.2"] {
        stage.deployed(version).await?;
    }
    wait_for("compared", async || Ok((compared() >= before + 3).then_some(()))).await?;
    assert!(stage.operator.process().ended()?.is_none(), "nothing was missed");

    // The list is told, and of what comes then nothing is.
    stage.operator.kill();
    let silent = proxy.hold(watches());
    stage.operator.start_again().await?;
    silent.arrived().await?;
    stage.namespace.apply(SHOP, &stage.wish("1.3")?).await?;
    // Sooner than the watch's own time-out, after which it would be begun again.
    let status = stage.operator.process().wait(Duration::from_secs(45)).await?;
    assert!(!status.success(), "{status}");
    let log = std::fs::read_to_string(stage.operator.log())?;
    assert!(log.contains("the watch missed a change"), "{log}");
    proxy.clear();
    stage.operator.start_again().await?;
    stage.deployed("1.3").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 4);
    Ok(())
}

/// A resource that is gone from the cluster and not from the store would keep others from its Space for ever.
#[tokio::test]
async fn k3_a_watch_that_misses_a_deletion_ends_the_process() -> Result<()> {
    let mut stage = Stage::open_with("ghost", 0.5, |options| options.flag("--watch-check-interval=2s")).await?;
    stage.deployed("1.0").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    stage.operator.kill();
    let silent = proxy.hold(watches());
    stage.operator.start_again().await?;
    silent.arrived().await?;
    stage.namespace.spaces().delete(SHOP, &DeleteParams::default()).await?;
    // Sooner than the watch's own time-out, after which it would be begun again.
    let status = stage.operator.process().wait(Duration::from_secs(45)).await?;
    assert!(!status.success(), "{status}");
    let log = std::fs::read_to_string(stage.operator.log())?;
    assert!(log.contains("the watch missed a change"), "{log}");
    Ok(())
}

#[tokio::test]
async fn k4_a_watch_that_is_told_gone_again_and_again_lists_ever_more_rarely() -> Result<()> {
    let mut stage = Stage::open("relisting").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    proxy.answer_with(watches(), usize::MAX, StatusCode::OK, &gone());
    stage.operator.restart_unready()?;
    let (began, first) = (Instant::now(), lists(&proxy));
    wait_for("four more lists", async || Ok((lists(&proxy) >= first + 4).then_some(()))).await?;
    assert!(began.elapsed() > Duration::from_secs(5), "four lists within {:?}", began.elapsed());
    // Each list tells of what is there, so the work goes on all the same.
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    stage.namespace.wait_longer_for(SHOP, "deployed", LIMIT, is_ready).await?;
    Ok(())
}

#[tokio::test]
async fn k5_a_watch_that_is_refused_as_gone_ends_the_process() -> Result<()> {
    let mut stage = Stage::open("gone").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    proxy.answer(watches(), usize::MAX, StatusCode::GONE);
    stage.operator.restart_unready()?;
    let status = stage.operator.process().wait(Duration::from_mins(1)).await?;
    assert!(!status.success(), "{status}");
    proxy.clear();
    stage.operator.start_again().await?;
    stage.deployed("1.0").await?;
    Ok(())
}

/// kube-runtime tells each page of a list before it has the next, and stores the list only when it has all of it: a pass in
/// between sees what was before, and of what is new not even that.
#[tokio::test]
async fn what_only_a_relist_tells_is_acted_on_when_all_its_pages_are_there() -> Result<()> {
    const IDS: [&str; 3] = ["7301962442809600001", "7301962442809600002", "7301962442809600003"];
    let [edited, made, other] = ["edited", "made", "other"];
    let mut stage = Stage::open("pages").await?;
    stage.simulator.add_uat_spaces("web-2", &IDS.map(str::to_owned)).await?;
    let wish = |id: &str, version: &str| {
        let mut wish = stage.wish(version)?;
        // No look that is due by itself may find what was missed.
        (wish["space"], wish["interval"]) = (json!({"id": id}), json!("24h"));
        Ok::<_, crate::support::Failure>(wish)
    };
    let (first, second, third) = (wish(IDS[0], "1.0")?, wish(IDS[1], "1.0")?, wish(IDS[2], "1.0")?);
    let edit = wish(IDS[0], "1.1")?;
    stage.namespace.apply(edited, &first).await?;
    stage.namespace.apply(other, &third).await?;
    for name in [edited, other] {
        let noted = |space: &KonigleSpace| is_ready(space) && space.annotations().contains_key(RELEASED);
        stage.namespace.wait_for(name, "deployed", noted).await?;
    }

    // A process that has had its passes, and whose watch tells nothing from then on.
    let proxy = stage.put_proxy_before_the_api_server().await?;
    stage.operator.kill();
    let away = proxy.hold(watches());
    let looks = stage.asked(IDS[0], "get_space").await?;
    stage.operator.start_again().await?;
    away.arrived().await?;
    wait_for("a pass", async || Ok((stage.asked(IDS[0], "get_space").await? > looks).then_some(()))).await?;
    stage.namespace.apply(edited, &edit).await?;
    stage.namespace.apply(made, &second).await?;

    // The version from which it would watch on is gone; the new list has a page of two, and one more.
    proxy.clear();
    let page = proxy.hold(Matcher::new(Method::GET, "&continue="));
    proxy.rewrite(Matcher::new(Method::GET, "/koniglespaces?&limit=100"), "limit=100", "limit=2");
    proxy.answer_with(watches(), 1, StatusCode::OK, &gone());
    away.refuse();
    page.arrived().await?;
    page.open();
    let newer = digest_of_wish(&edit);
    stage.namespace.wait_for(edited, "the edit deployed", |space| is_ready(space) && runs(space, &newer)).await?;
    stage.namespace.wait_for(made, "the new one deployed", is_ready).await?;
    for (id, deploys) in IDS.into_iter().zip([2, 1, 1]) {
        assert_eq!(stage.simulator.ledger(id).await?.len(), deploys, "{id}");
    }
    Ok(())
}

#[tokio::test]
async fn k7_k8_nothing_is_asked_for_compressed_or_as_a_streamed_list() -> Result<()> {
    let mut stage = Stage::open("plain").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    stage.deployed("1.0").await?;
    let seen = proxy.seen(&Matcher::new(Method::GET, "/"));
    assert!(!proxy.seen(&watches()).is_empty(), "{:?}", seen.iter().map(|seen| &seen.path).collect::<Vec<_>>());
    for request in seen {
        let encoding = request.headers.get("accept-encoding").and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert!(!encoding.contains("gzip"), "{} asks for {encoding}", request.path);
        assert!(!request.path.contains("sendInitialEvents"), "{}", request.path);
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_that_failed_once_is_ready_again_while_nothing_happens() -> Result<()> {
    let mut stage = Stage::open("quiet").await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let before = proxy.seen(&watches()).len();
    // What the API server says while it takes over a changed CRD.
    proxy.answer(watches(), 1, StatusCode::TOO_MANY_REQUESTS);
    stage.operator.restart_unready()?;
    wait_for("watched again", async || Ok((proxy.seen(&watches()).len() >= before + 2).then_some(()))).await?;
    // There is no resource, so no event tells that the watch works.
    wait_for("ready", async || Ok(stage.operator.readiness().await.filter(|(status, _)| *status == 200).map(drop)))
        .await
}
