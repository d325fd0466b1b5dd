//! A lost answer under every combination of what nobody knows of the real API: when `last_deployed_at` moves, which
//! word stands while a job runs, and whether jobs can be listed.
//!
//! Each combination has a simulator and an operator of its own, and three Spaces: one where the request took effect and
//! succeeds, one where its job fails, and one where it took no effect. All ran something before, with the same words, so
//! that a word alone proves nothing.

use std::time::Duration;

use futures::future::try_join_all;
use konigle_operator::api::{AttemptResult, KonigleSpace};
use reqwest::Method;
use serde_json::{Value, json};

use super::results;
use crate::support::Result;
use crate::support::artifacts::Artifacts;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, deploys};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::rights::operator_account;
use crate::support::simulator::{Simulator, TOKEN, UAT};
use crate::support::stage::{SHOP, Stage, is_ready};

const SPACES: [&str; 3] = ["succeeds", "fails", "lost"];
const LIMIT: Duration = Duration::from_mins(3);

fn seed() -> Value {
    let before = json!({"last_deployed_at": "2026-11-24T08:29:00Z", "last_deployment_status": "success", "running": "a".repeat(64)});
    let webapp = |name: &str| {
        let mut uat = before.clone();
        uat["id"] = json!(format!("73019624428093{name}"));
        json!({"name": name, "uat": uat})
    };
    let webapps: Vec<_> = SPACES.iter().map(|name| webapp(name)).collect();
    json!({"tenants": [{"name": "demo", "tokens": [TOKEN], "computers": [{"name": "web-1", "webapps": webapps}]}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_resolved_under_every_reading() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let artifacts = Artifacts::start().await?;
    let mut all = Vec::new();
    for moves in ["accept", "end", "success"] {
        for word in ["previous", "word"] {
            for list in ["served", "not_served"] {
                let readings = json!({"last_deployed_at_moves": moves, "status_while_running": word, "job_list": list});
                all.push(lost_answers(control_plane, &artifacts, readings));
            }
        }
    }
    try_join_all(all).await.map(drop)
}

/// The list of jobs may say that a job has ended before the Space shows it: the list alone proves nothing.
#[tokio::test]
async fn the_list_of_jobs_does_not_outrun_the_space() -> Result<()> {
    let stage = Stage::open_with("outrun", 10.0, |options| options.flag("--unknown-outcome-settle=7s")).await?;
    stage.simulator.reading("job_list", "served").await?;
    stage.simulator.reading("read_lag_seconds", 6.0).await?;
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["timeout"] = json!("60s");
    stage.namespace.apply(SHOP, &wish).await?;
    let space = stage.namespace.wait_longer_for(SHOP, "deployed", LIMIT, is_ready).await?;
    assert_eq!(results(&space), [AttemptResult::Succeeded]);
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(())
}

async fn lost_answers(control_plane: &ControlPlane, artifacts: &Artifacts, readings: Value) -> Result<()> {
    let simulator = Simulator::start_with(2.0, &seed()).await?;
    simulator.control(Method::PATCH, "readings", &readings).await?;
    let id = |name: &str| format!("73019624428093{name}");
    for (name, when) in [("succeeds", "after"), ("fails", "after"), ("lost", "before")] {
        simulator.fault(&json!({"operation": "deploy", "space": id(name), "when": when, "action": "drop"})).await?;
    }
    simulator.change_space(&id("fails"), &json!({"next_jobs": [{"outcome": "failed"}]})).await?;

    let namespace = Namespace::create(control_plane, "reading").await?;
    namespace.write_token(TOKEN).await?;
    let kubeconfig = operator_account(control_plane, &namespace).await?;
    let options = OperatorOptions::new(&kubeconfig, &simulator.base_url(), namespace.name());
    let _operator = Operator::start(options.flag("--unknown-outcome-settle=2s")).await?;
    let artifact = artifacts.serve_application("1.0")?;
    for name in SPACES {
        let mut wish = deploys(&id(name), &artifact.url, &artifact.digest);
        wish["timeout"] = json!("5s");
        namespace.apply(name, &wish).await?;
    }
    for name in SPACES {
        let space = namespace.wait_longer_for(name, &format!("deployed under {readings}"), LIMIT, is_ready).await?;
        judge(name, &space, &simulator.ledger(&id(name)).await?, &readings);
    }
    Ok(())
}

fn judge(name: &str, space: &KonigleSpace, ledger: &[Value], readings: &Value) {
    let context = format!("{name} under {readings}: {:?}", space.status);
    let outcomes: Vec<_> = ledger.iter().map(|entry| entry["outcome"].as_str().unwrap_or("running")).collect();
    let (expected_results, expected_outcomes): (&[_], &[_]) = match name {
        "succeeds" => (&[AttemptResult::Succeeded], &["success"]),
        "fails" => (&[AttemptResult::Succeeded, AttemptResult::Failed], &["failed", "success"]),
        _ => (&[AttemptResult::Succeeded, AttemptResult::Unknown], &["success"]),
    };
    assert_eq!(outcomes, expected_outcomes, "{context}");
    assert_eq!(results(space), expected_results, "{context}");
    assert!(space.status.as_ref().is_some_and(|status| status.condition("Drifted").is_none()), "{context}");
}
