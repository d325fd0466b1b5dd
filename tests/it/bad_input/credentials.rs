//! The Secret with the token: missing, wrong, or naming an address that the token must not go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use konigle_operator::api::Condition;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;

use super::{Bed, Case, rows};
use crate::support::namespace::wait_for;
use crate::support::simulator::{TOKEN, UAT};
use crate::support::{Failure, Result};

#[tokio::test]
async fn credentials_that_cannot_be_used() -> Result<()> {
    let bed = Bed::open("credentials", |options| options).await?;
    bed.simulator.reading("foreign_object", 403).await?;
    bed.run(rows![
        wrong_token,
        token_that_is_refused_once,
        token_that_may_only_read,
        forbidden_space,
        missing_secret,
        missing_key,
        token_with_a_newline,
        base_url_over_http,
        base_url_of_a_private_address,
        base_url_of_a_name_for_a_private_address,
    ])
    .await
}

/// The first 401 may be a slip of the server's; the second, 30 s later and with the Secret read anew, is not.
async fn wrong_token(mut case: Case<'_>) -> Result<()> {
    case.write_secret(&json!({"token": "not-a-token"})).await?;
    case.deploys("1").await?;
    case.shows("Progressing", &["401", "30 s"]).await?;
    let rejected = case.shows("CredentialsRejected", &["Secret wrong-token", "key `token`", "within 30 s"]).await?;
    assert!(condition(&rejected, "CredentialsValid").is_some_and(|valid| valid.status == "False"));
    case.posted(0).await?;
    case.others_go_on().await?;
    case.write_secret(&json!({"token": case.token})).await?;
    let healed = case.runs(1).await?;
    assert!(condition(&healed, "CredentialsValid").is_some_and(|valid| valid.status == "True"));
    Ok(())
}

/// A single 401 changes nothing of a resource that is Ready, and costs no write.
async fn token_that_is_refused_once(mut case: Case<'_>) -> Result<()> {
    case.deploys("1").await?;
    let before = case.runs(1).await?;
    let asked = case.asked(&case.uat, "get_space").await?;
    case.fault("get_space", 1, json!({"status": 401})).await?;
    let after = case.look_now().await?;
    let conditions = |space: &konigle_operator::api::KonigleSpace| space.status.clone().unwrap_or_default().conditions;
    assert_eq!(conditions(&after), conditions(&before));
    case.others_go_on().await?;
    // The look that was refused may be another than the one that was asked for: there was one beside it in any case.
    let once_more = async || Ok((case.asked(&case.uat, "get_space").await? >= asked + 2).then_some(()));
    wait_for("asked again", once_more).await?;
    let later = case.runs(1).await?;
    assert_eq!(later.metadata.resource_version, after.metadata.resource_version, "it was written to");
    Ok(())
}

/// The token reads, but the deploy itself is refused: once is a slip here too.
async fn token_that_may_only_read(mut case: Case<'_>) -> Result<()> {
    case.fault("deploy", 2, json!({"status": 401})).await?;
    case.deploys("1").await?;
    case.shows("Progressing", &["401", "tried once more"]).await?;
    case.shows("CredentialsRejected", &["Secret token-that-may-only-read", "key `token`"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.runs(1).await.map(drop)
}

/// The token is good, and the Space is another project's.
async fn forbidden_space(mut case: Case<'_>) -> Result<()> {
    let artifact = case.serve("1")?;
    let mut spec = case.spec(&artifact);
    spec["space"]["id"] = json!(UAT);
    case.apply(&spec).await?;
    case.shows("SpaceForbidden", &["use a token of the project that owns it", "Secret forbidden-space", "403"]).await?;
    case.posted_to(UAT, 0).await?;
    case.others_go_on().await?;
    case.write_secret(&json!({"token": TOKEN})).await?;
    case.wanted = Some(artifact);
    case.runs(0).await?;
    case.posted_to(UAT, 1).await
}

async fn missing_secret(mut case: Case<'_>) -> Result<()> {
    let artifact = case.serve("1")?;
    let mut spec = case.spec(&artifact);
    spec["credentials"]["secretRef"]["name"] = json!("not-there-yet");
    case.apply(&spec).await?;
    let command = format!("kubectl create secret generic not-there-yet --namespace {}", case.bed.namespace.name());
    case.shows("SecretNotFound", &[&command, "--from-literal=token=TOKEN"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.bed.namespace.write_secret("not-there-yet", &json!({"token": case.token})).await?;
    case.runs(1).await.map(drop)
}

async fn missing_key(mut case: Case<'_>) -> Result<()> {
    case.write_secret(&json!({"TOKEN": case.token})).await?;
    case.deploys("1").await?;
    case.shows(
        "SecretKeyMissing",
        &["Secret missing-key has no key `token`", "kubectl patch secret missing-key --namespace"],
    )
    .await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    // The key is there, and what it holds is wrong: the message is of that, not of what was mended.
    case.write_secret(&json!({"token": "not-a-token"})).await?;
    let refused = case.shows("Progressing", &["Konigle answered 401 once", "tried once more in 30 s"]).await?;
    assert!(condition(&refused, "CredentialsValid").is_some_and(|valid| valid.status == "Unknown"));
    case.write_secret(&json!({"token": case.token})).await?;
    case.runs(1).await.map(drop)
}

async fn token_with_a_newline(mut case: Case<'_>) -> Result<()> {
    case.write_secret(&json!({"token": format!("{}\n", case.token)})).await?;
    case.deploys("1").await?;
    case.shows(
        "SecretInvalid",
        &["key `token`", "line break", "kubectl patch secret token-with-a-newline --namespace"],
    )
    .await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.write_secret(&json!({"token": case.token})).await?;
    case.runs(1).await.map(drop)
}

async fn base_url_over_http(case: Case<'_>) -> Result<()> {
    base_url(case, "http://127.0.0.1", &["key `baseURL`", "must begin with `https://`"], true).await
}

async fn base_url_of_a_private_address(case: Case<'_>) -> Result<()> {
    base_url(case, "https://127.0.0.1", &["key `baseURL`", "public address", "--allowed-base-urls"], true).await
}

/// Only when the name is resolved can it be known.
async fn base_url_of_a_name_for_a_private_address(case: Case<'_>) -> Result<()> {
    base_url(case, "https://localhost", &["key `baseURL`", "not a public address", "--allowed-base-urls"], false).await
}

/// The token must not go there, and nobody even knocks. Mended by the command that removes the key, where the message has it.
async fn base_url(mut case: Case<'_>, host: &str, parts: &[&str], has_removal: bool) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("{host}:{}", listener.local_addr()?.port());
    let knocks = Arc::new(AtomicUsize::new(0));
    let counting = tokio::spawn({
        let knocks = Arc::clone(&knocks);
        async move {
            while listener.accept().await.is_ok() {
                knocks.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    case.write_secret(&json!({"token": case.token, "baseURL": url})).await?;
    case.deploys("1").await?;
    case.shows("SecretInvalid", parts).await?;
    let command = format!(
        "kubectl patch secret {} --namespace {} --patch '{{\"stringData\":{{\"baseURL\":",
        case.name,
        case.bed.namespace.name()
    );
    let refused = case.shows("SecretInvalid", &[&command]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    if has_removal {
        case.follow(&refused, r#"{"baseURL":null}"#, "").await?;
    } else {
        case.write_secret(&json!({"token": case.token})).await?;
    }
    case.runs(1).await?;
    counting.abort();
    match knocks.load(Ordering::Relaxed) {
        0 => Ok(()),
        knocks => Err(Failure::new(format!("{knocks} connections were made to {url}"))),
    }
}

/// The tokens of a tenant can be replaced on the server: the Secret follows, and no restart.
#[tokio::test]
async fn a_rotated_token_is_taken_up_within_half_a_minute() -> Result<()> {
    let bed = Bed::open("rotation", |options| options).await?;
    let mut case = bed.case("rotated", None).await?;
    case.deploys("1").await?;
    case.runs(1).await?;
    let tokens = json!({"tokens": ["canary-rotated-later"]});
    bed.simulator.control(Method::PATCH, "tenants/rotated", &tokens).await?;
    case.deploys("2").await?;
    case.shows("CredentialsRejected", &["Secret rotated"]).await?;
    case.write_secret(&json!({"token": "canary-rotated-later"})).await?;
    case.runs(2).await.map(drop)
}

fn condition<'a>(space: &'a konigle_operator::api::KonigleSpace, name: &str) -> Option<&'a Condition> {
    space.status.as_ref()?.condition(name)
}
