//! Artifacts that a web server gives only to those who have credentials.

use serde_json::json;

use crate::support::Result;
use crate::support::stage::{SHOP, Stage};

#[tokio::test]
async fn a_private_artifact_is_fetched_with_a_user_or_a_bearer_token() -> Result<()> {
    let stage = Stage::open("private").await?;
    stage.namespace.write_secret("basic", &json!({"username": "ci", "password": "p4ss-canary"})).await?;
    stage.namespace.write_secret("bearer", &json!({"bearerToken": "b34rer-canary"})).await?;
    for (version, secret, expected) in
        [("1.0", "basic", "Basic Y2k6cDRzcy1jYW5hcnk="), ("1.1", "bearer", "Bearer b34rer-canary")]
    {
        let mut wish = stage.wish(version)?;
        wish["source"]["http"]["secretRef"] = json!({"name": secret});
        stage.namespace.apply(SHOP, &wish).await?;
        stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
        let headers = stage.artifacts.last_headers(&format!("/shop-{version}.zip")).expect("it was fetched");
        assert_eq!(headers.get("authorization").and_then(|value| value.to_str().ok()), Some(expected));
    }
    let log = std::fs::read_to_string(stage.operator.log())?;
    let status = stage.kubectl.run(&["-n", stage.namespace.name(), "get", "kspace", "-o", "yaml"]).await?;
    for text in [&log, &status] {
        assert!(!text.contains("canary") && !text.contains("Y2k6cDRzcy1jYW5hcnk="), "a credential is shown");
    }
    Ok(())
}
