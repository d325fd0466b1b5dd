//! The token is shown nowhere, whatever comes back from the remote.

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use reqwest::Method;
use serde_json::json;

use crate::support::Result;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage};

const CANARY: &str = "canary-5f0c1d77aa";

#[tokio::test]
async fn a_token_that_the_remote_repeats_is_in_no_status_event_log_or_metric() -> Result<()> {
    let stage = Stage::open_with("canary", 2.0, |options| options.flag("--log-level=debug")).await?;
    stage.simulator.control(Method::PATCH, "tenants/demo", &json!({"tokens": [CANARY]})).await?;
    stage.namespace.write_token(CANARY).await?;
    let repeated = format!("Authorization: Token {CANARY} was used");
    let error = json!({"operation": "deploy", "action": {"answer": {"status": 400, "body": {"detail": repeated}}}});
    stage.simulator.fault(&error).await?;
    let look = json!({"operation": "get_space", "action": {"answer": {"status": 500, "body": {"message": repeated}}}});
    stage.simulator.fault(&look).await?;
    let job = json!({"messages": [repeated, format!("token={CANARY}")], "outcome": "failed", "error": repeated});
    stage.simulator.change_space(UAT, &json!({"next_jobs": [job]})).await?;

    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    stage.namespace.wait_for_reason(SHOP, "ArtifactRejected").await?;
    stage.namespace.annotate(SHOP, konigle_operator::api::RESET_AT, "one").await?;
    stage.namespace.wait_for_reason(SHOP, "ProgressingWithRetry").await?;
    stage.wait_for_event(SHOP, "DeployFailed: ").await?;

    let events: Api<Event> = stage.namespace.api();
    let spaces = serde_json::to_string(&stage.namespace.spaces().list(&ListParams::default()).await?)?;
    assert!(spaces.contains("***"), "what was repeated is there, without the token: {spaces}");
    for (what, text) in [
        ("the status", spaces),
        ("an Event", serde_json::to_string(&events.list(&ListParams::default()).await?)?),
        ("the log", std::fs::read_to_string(stage.operator.log())?),
        ("a metric", stage.operator.metrics().await?),
    ] {
        assert!(!text.contains(CANARY), "the token is in {what}");
    }
    Ok(())
}
