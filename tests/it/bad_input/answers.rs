//! Konigle's answers: refusals of a deploy or a promotion, too many requests, and replies that make no sense.

use konigle_operator::api::{KonigleSpace, RESET_AT};
use serde_json::{Value, json};

use super::{Bed, Case, rows};
use crate::support::Result;

#[tokio::test]
async fn answers_that_start_nothing() -> Result<()> {
    let bed = Bed::open("answers", |options| options).await?;
    bed.run(rows![
        read_of_html,
        read_of_garbage,
        read_with_503,
        read_of_another_space,
        reads_fail_at_first_contact,
        read_limited_by_the_body,
        read_limited_by_the_header,
        deploy_limited_by_the_body,
        deploy_limited_by_the_header,
        space_busy_409,
        space_busy_423,
        space_gone_at_the_deploy,
        artifact_refused_400,
        artifact_refused_413,
        artifact_refused_422,
        promotion_refused_405,
    ])
    .await
}

async fn read_of_html(case: Case<'_>) -> Result<()> {
    changes_nothing(case, json!("html")).await
}

async fn read_of_garbage(case: Case<'_>) -> Result<()> {
    changes_nothing(case, json!("garbage")).await
}

async fn read_with_503(case: Case<'_>) -> Result<()> {
    changes_nothing(case, json!({"status": 503})).await
}

async fn read_of_another_space(case: Case<'_>) -> Result<()> {
    let other = json!({"id": "7301962442809349999", "space_type": "uat", "status": "running"});
    changes_nothing(case, json!({"answer": {"status": 200, "body": other}})).await
}

/// A look that brings nothing changes nothing at first.
async fn changes_nothing(mut case: Case<'_>, answer: Value) -> Result<()> {
    case.deploys("1").await?;
    let before = case.runs(1).await?;
    case.fault("get_space", 1, answer).await?;
    let after = case.look_now().await?;
    assert_eq!(conditions(&after), conditions(&before));
    case.others_go_on().await?;
    case.deploys("2").await?;
    case.runs(2).await.map(drop)
}

/// The message says what came instead of an answer.
async fn reads_fail_at_first_contact(mut case: Case<'_>) -> Result<()> {
    case.fault("get_space", 2, json!({"answer": {"status": 502, "text": "<html>bad gateway</html>"}})).await?;
    case.deploys("1").await?;
    case.shows("Progressing", &["Konigle answered 502", "tried again"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.look_now().await?;
    case.runs(1).await.map(drop)
}

async fn read_limited_by_the_body(case: Case<'_>) -> Result<()> {
    limited(case, "get_space", json!({"status": 429, "retry_after": 20})).await
}

async fn read_limited_by_the_header(case: Case<'_>) -> Result<()> {
    limited(case, "get_space", json!({"status": 429, "body": [], "retry_after_header": "20"})).await
}

async fn deploy_limited_by_the_body(case: Case<'_>) -> Result<()> {
    limited(case, "deploy", json!({"status": 429, "retry_after": 8})).await
}

async fn deploy_limited_by_the_header(case: Case<'_>) -> Result<()> {
    limited(case, "deploy", json!({"status": 429, "text": "slow down", "retry_after_header": "8"})).await
}

/// Too many requests of this account: what it asked to wait is waited, and then all goes on by itself.
async fn limited(mut case: Case<'_>, operation: &str, answer: Value) -> Result<()> {
    case.fault(operation, 1, json!({"answer": answer})).await?;
    case.deploys("1").await?;
    case.shows("RateLimited", &["the rate limit is reached", "tried again"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    let space = case.runs(1).await?;
    assert!(space.status.is_some_and(|status| status.failures == 0), "a refusal was counted as a failure");
    Ok(())
}

async fn space_busy_409(case: Case<'_>) -> Result<()> {
    busy(case, 409).await
}

async fn space_busy_423(case: Case<'_>) -> Result<()> {
    busy(case, 423).await
}

async fn busy(mut case: Case<'_>, status: u16) -> Result<()> {
    let body = json!({"detail": "Another deployment is in progress."});
    case.fault("deploy", 1, json!({"answer": {"status": status, "body": body}})).await?;
    case.deploys("1").await?;
    let parts = ["the Space is busy", &status.to_string(), "Another deployment is in progress", "tried again"];
    case.shows("SpaceBusy", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    let space = case.runs(1).await?;
    assert!(space.status.is_some_and(|status| status.failures == 0), "a refusal was counted as a failure");
    Ok(())
}

/// The Space is there when it is read, and not when it is deployed to.
async fn space_gone_at_the_deploy(mut case: Case<'_>) -> Result<()> {
    case.fault("deploy", 1, json!({"status": 404})).await?;
    case.deploys("1").await?;
    case.shows("SpaceNotFound", &["404", "spec.space", "tried again"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.runs(1).await.map(drop)
}

async fn artifact_refused_400(case: Case<'_>) -> Result<()> {
    refused(case, 400, json!([{"message": "zip_file: no Dockerfile"}]), "zip_file: no Dockerfile").await
}

async fn artifact_refused_413(case: Case<'_>) -> Result<()> {
    refused(case, 413, json!({"detail": "at most 100 MB"}), "at most 100 MB").await
}

async fn artifact_refused_422(case: Case<'_>) -> Result<()> {
    refused(case, 422, json!({"message": "unknown runtime"}), "unknown runtime").await
}

/// Konigle does not want this artifact, and says why: the same bytes are not sent again.
async fn refused(mut case: Case<'_>, status: u16, body: Value, words: &str) -> Result<()> {
    case.fault("deploy", 1, json!({"answer": {"status": status, "body": body}})).await?;
    case.deploys("1").await?;
    let parts = ["Konigle refuses the artifact", &status.to_string(), words, "publish another digest", RESET_AT];
    case.shows("ArtifactRejected", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.look_now().await?;
    case.posted(0).await?;
    case.deploys("2").await?;
    case.runs(1).await.map(drop)
}

/// As `refused`, for a promotion.
async fn promotion_refused_405(mut case: Case<'_>) -> Result<()> {
    case.deploys("1").await?;
    case.runs(1).await?;
    case.fault("promote", 1, json!({"status": 405})).await?;
    let production = format!("{}-production", case.name);
    case.bed.namespace.apply(&production, &case.promotion(&case.name)).await?;
    let parts = ["Konigle refuses the request (405)", RESET_AT];
    case.other_shows(&production, "RequestRejected", &parts).await?;
    case.posted(1).await?;
    case.others_go_on().await?;
    case.bed.namespace.annotate(&production, RESET_AT, "again").await?;
    case.other_shows(&production, "Succeeded", &[]).await?;
    case.posted_to(&case.production, 1).await
}

fn conditions(space: &KonigleSpace) -> Vec<konigle_operator::api::Condition> {
    space.status.clone().unwrap_or_default().conditions
}
