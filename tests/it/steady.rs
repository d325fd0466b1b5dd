//! While nothing happens, the operator looks, and writes nothing: to Kubernetes, and into its log. A registry is asked what
//! the tag names, and nothing else; by that alone it is seen when the tag moves.

use std::time::{Duration, Instant};

use konigle_operator::api::{KonigleSpace, RELEASED};
use kube::{Client, ResourceExt};
use reqwest::Method;
use serde_json::json;

use crate::support::artifacts::application;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{deploys, wait_for};
use crate::support::registry::{Answered, Registry};
use crate::support::stage::{Stage, is_ready, runs};
use crate::support::{Context, Result};

const SPACES: usize = 20;
/// The one of them that follows a tag; the others run a file of a web server.
const FOLLOWER: usize = SPACES - 1;
/// How long is looked: each of the resources is due twice at `interval: 30s`, jitter included and a busy machine allowed
/// for, and never four times.
const WINDOW: Duration = Duration::from_secs(78);
/// How long nothing more is counted until all is taken for counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(3);

fn id(number: usize) -> String {
    format!("73019624428095{number:05}")
}

/// How many writes to this resource type the API server has answered, by its own counter.
async fn writes(client: &Client, resource: &str) -> Result<u64> {
    let request = axum::http::Request::get("/metrics").body(Vec::new())?;
    let metrics = client.request_text(request).await.context("reading the API server's metrics")?;
    let resource = format!("resource=\"{resource}\"");
    let is_write = |line: &&str| {
        let reads = ["GET", "LIST", "WATCH"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")));
        line.starts_with("apiserver_request_total{") && line.contains(&resource) && !reads
    };
    let count = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
    Ok(metrics.lines().filter(is_write).map(count).sum())
}

#[tokio::test]
async fn twenty_settled_spaces_are_looked_at_twice_and_nothing_is_written() -> Result<()> {
    // The API server counts for all namespaces together, so no other test may use this one.
    let control_plane = ControlPlane::start().await?;
    control_plane.install_crd().await?;
    let client = control_plane.client().await?;
    let stage = Stage::open_on(&control_plane, "steady", 0.5, |options| options).await?;
    let ids: Vec<String> = (0..SPACES).map(id).collect();
    stage.simulator.add_uat_spaces("web-2", &ids).await?;
    let artifact = stage.artifacts.serve_application("1.0")?;
    let (registry, folder) = (Registry::start().await?, tempfile::tempdir()?);
    let push = async |version: &str| {
        let file = folder.path().join("shop.zip");
        std::fs::write(&file, application(version)?)?;
        registry.push_zip(&file, "shop:live").await
    };
    push("1.1").await?;
    for number in 0..SPACES {
        let mut spec = deploys(&id(number), &artifact.url, &artifact.digest);
        if number == FOLLOWER {
            spec["source"] = json!({"oci": {"repository": registry.reference("shop"), "tag": "live"}});
        }
        spec["interval"] = json!("30s");
        stage.namespace.apply(&format!("shop-{number}"), &spec).await?;
    }
    for number in 0..SPACES {
        stage.namespace.wait_for_reason(&format!("shop-{number}"), "Succeeded").await?;
    }
    // What is written after the last deploy, its Event and its note, is written now.
    for number in 0..SPACES {
        let name = format!("shop-{number}");
        stage.wait_for_event(&name, "DeploySucceeded: ").await?;
        stage.namespace.wait_for(&name, "noted", |space| space.annotations().contains_key(RELEASED)).await?;
    }

    // The API server shows what was written a moment before it counts it, on a busy machine a long one.
    let mut last = (Instant::now(), None);
    let before = wait_for("all counted", async || {
        let counted = (writes(&client, "koniglespaces").await?, writes(&client, "events").await?);
        if last.1 != Some(counted) {
            last = (Instant::now(), Some(counted));
        }
        Ok((last.0.elapsed() >= COUNTED_WITHIN).then_some(counted))
    })
    .await?;
    assert!(before.0 > 0 && before.1 > 0, "the counters count: {before:?}");
    stage.simulator.control(Method::DELETE, "requests", &serde_json::Value::Null).await?;
    let said = std::fs::read_to_string(stage.operator.log())?;
    let answered = registry.answered()?.len();
    let began = Instant::now();
    wait_for("the window is over", async || Ok((began.elapsed() >= WINDOW).then_some(()))).await?;
    let requests = stage.simulator.requests().await?;
    let asked = registry.answered()?.split_off(answered);
    let after = (writes(&client, "koniglespaces").await?, writes(&client, "events").await?);

    assert_eq!(after, before, "writes to KonigleSpaces and Events");
    let says = std::fs::read_to_string(stage.operator.log())?;
    assert_eq!(says.strip_prefix(&said), Some(""), "lines of the log");
    for number in 0..SPACES {
        let looks = requests["by_object"][id(number)]["get_space"].as_u64().unwrap_or_default();
        assert!((2..=3).contains(&looks), "shop-{number} was looked at {looks} times: {requests}");
    }
    assert_eq!(requests["by_status"].as_object().map(serde_json::Map::len), Some(1), "{requests}");
    assert_eq!(stage.artifacts.requests("/shop-1.0.zip"), 1, "one fetch for all, and none when settled");
    let is_look = |one: &Answered| (one.method.as_str(), one.path.as_str()) == ("HEAD", "/v2/shop/manifests/live");
    assert!((2..=3).contains(&asked.len()) && asked.iter().all(is_look), "one HEAD an interval alone: {asked:?}");

    // Nobody says so, and nothing else happens.
    let moved = push("1.2").await?;
    let deployed = |space: &KonigleSpace| is_ready(space) && runs(space, &moved);
    stage.namespace.wait_for(&format!("shop-{FOLLOWER}"), "Ready with what the tag names now", deployed).await?;
    assert_eq!(stage.simulator.ledger(&id(FOLLOWER)).await?.len(), 2);
    Ok(())
}
