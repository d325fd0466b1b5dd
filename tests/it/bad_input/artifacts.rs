//! The artifact: not there, not whole, another file, no application, or behind a door that stays shut.

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::{Bed, Case, rows};
use crate::support::Result;
use crate::support::artifacts::{Artifact, digest_of, zip};
use crate::support::namespace::wait_for;

/// `--artifact-max-size` of this table's operator, in bytes.
const MAX_SIZE: usize = 64 << 10;

#[tokio::test]
async fn artifacts_that_cannot_be_deployed() -> Result<()> {
    let flag = format!("--artifact-max-size={MAX_SIZE}");
    let bed = Bed::open("artifacts", |options| options.flag(&flag)).await?;
    bed.run(rows![
        digest_of_another_file,
        page_instead_of_the_file,
        download_that_breaks_off,
        not_published_yet,
        host_in_trouble,
        no_zip,
        zip_without_dockerfile,
        zip_without_manifest,
        zipped_folder,
        manifest_without_processes,
        too_large,
        secret_missing,
        secret_with_wrong_keys,
        secret_with_too_many_keys,
        secret_with_a_newline,
        secret_with_a_wrong_password,
        no_secret_for_a_closed_host,
    ])
    .await
}

async fn digest_of_another_file(mut case: Case<'_>) -> Result<()> {
    let artifact = case.serve("1")?;
    let wrong = Artifact { digest: digest_of(b"another file"), ..artifact.clone() };
    case.apply(&case.spec(&wrong)).await?;
    let parts = ["correct spec.source.http.digest", &wrong.digest, &artifact.digest, &case.path("1")];
    case.shows("DigestMismatch", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

/// A login or error page with status 200, as many artifact hosts send; healed by publishing the file, the spec unchanged.
async fn page_instead_of_the_file(mut case: Case<'_>) -> Result<()> {
    let bytes = case.application("1")?;
    let url = case.bed.artifacts.url(&case.path("1"));
    let artifact = Artifact { url, digest: digest_of(&bytes), size: bytes.len() };
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/html"))]);
    let page = b"<!doctype html><title>Log in</title>".to_vec();
    case.bed.artifacts.answer_with(&case.path("1"), StatusCode::OK, headers, page);
    case.apply(&case.spec(&artifact)).await?;
    case.shows(
        "DigestMismatch",
        &["an HTML page (a login page?)", "check spec.source.http.url", "kubectl annotate", "reconcile-at="],
    )
    .await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.bed.artifacts.serve(&case.path("1"), bytes);
    case.look_now().await?;
    case.wanted = Some(artifact);
    case.runs(1).await.map(drop)
}

async fn download_that_breaks_off(mut case: Case<'_>) -> Result<()> {
    let bytes = case.application("1")?;
    let artifact = case.bed.artifacts.serve_broken(&case.path("1"), bytes.clone());
    case.apply(&case.spec(&artifact)).await?;
    case.shows("ArtifactUnavailable", &["broke off after", "tried again", &case.path("1")]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.bed.artifacts.serve(&case.path("1"), bytes);
    case.wanted = Some(artifact);
    case.runs(1).await.map(drop)
}

/// CI publishes after the manifest was merged: nobody has to do anything.
async fn not_published_yet(mut case: Case<'_>) -> Result<()> {
    let bytes = case.application("1")?;
    let url = case.bed.artifacts.url(&case.path("1"));
    let artifact = Artifact { url, digest: digest_of(&bytes), size: bytes.len() };
    case.apply(&case.spec(&artifact)).await?;
    let wrong = "if the address is wrong, correct spec.source.http.url";
    let parts = ["404", "not be published yet", "tried again", wrong, &case.path("1")];
    let before = case.shows("ArtifactUnavailable", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    let asked = || case.bed.artifacts.requests(&case.path("1"));
    wait_for("asked for three times", async || Ok((asked() >= 3).then_some(()))).await?;
    let after = case.shows("ArtifactUnavailable", &parts).await?;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version, "trying again was written down");
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

async fn host_in_trouble(mut case: Case<'_>) -> Result<()> {
    let bytes = case.application("1")?;
    let artifact = case.bed.artifacts.serve(&case.path("1"), bytes.clone());
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    case.bed.artifacts.answer_with(&case.path("1"), unavailable, HeaderMap::new(), Vec::new());
    case.apply(&case.spec(&artifact)).await?;
    case.shows("ArtifactUnavailable", &["503", "tried again"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

async fn no_zip(case: Case<'_>) -> Result<()> {
    rejected(case, b"FROM scratch\n".to_vec(), &["it is not a ZIP file"]).await
}

async fn zip_without_dockerfile(case: Case<'_>) -> Result<()> {
    let bytes = zip(&[("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n")])?;
    rejected(case, bytes, &["`Dockerfile` is missing at its root"]).await
}

async fn zip_without_manifest(case: Case<'_>) -> Result<()> {
    let bytes = zip(&[("Dockerfile", "FROM scratch\n")])?;
    rejected(case, bytes, &["`bentocloud.toml` is missing at its root"]).await
}

async fn zipped_folder(case: Case<'_>) -> Result<()> {
    let manifest = "[processes.web]\ncommand = \"serve\"\n";
    let bytes = zip(&[("shop/Dockerfile", "FROM scratch\n"), ("shop/bentocloud.toml", manifest)])?;
    rejected(case, bytes, &["both are in its folder `shop`: zip that folder's contents, not what is around it"]).await
}

async fn manifest_without_processes(case: Case<'_>) -> Result<()> {
    let bytes = zip(&[("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", "[app]\nname = \"shop\"\n")])?;
    rejected(case, bytes, &["`[processes.NAME]`"]).await
}

/// The right file, and nothing that Konigle could run: another file heals it.
async fn rejected(mut case: Case<'_>, bytes: Vec<u8>, parts: &[&str]) -> Result<()> {
    let artifact = case.bed.artifacts.serve(&case.path("0"), bytes);
    case.apply(&case.spec(&artifact)).await?;
    case.shows("ArtifactRejected", parts).await?;
    case.shows("ArtifactRejected", &["cannot be deployed: ", "write its digest"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

async fn too_large(mut case: Case<'_>) -> Result<()> {
    let artifact = case.bed.artifacts.serve(&case.path("0"), vec![0; MAX_SIZE + 1]);
    case.apply(&case.spec(&artifact)).await?;
    case.shows("ArtifactTooLarge", &["make the artifact smaller", "--artifact-max-size", &MAX_SIZE.to_string()])
        .await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    case.deploys("1").await?;
    case.runs(1).await.map(drop)
}

async fn secret_missing(mut case: Case<'_>) -> Result<()> {
    let artifact = closed(&mut case)?;
    let mut spec = case.spec(&artifact);
    spec["source"]["http"]["secretRef"] = json!({"name": "secret-missing-ci"});
    case.apply(&spec).await?;
    let parts =
        ["spec.source.http.secretRef", "kubectl create secret generic secret-missing-ci", "--from-literal=bearerToken"];
    let space = case.shows("SecretNotFound", &parts).await?;
    let credentials = space.status.unwrap_or_default().condition("CredentialsValid").map(|valid| valid.status.clone());
    assert_eq!(credentials.as_deref(), Some("True"), "the token of Konigle is good");
    case.posted(0).await?;
    assert_eq!(case.bed.artifacts.requests(&case.path("1")), 0, "it was asked for without credentials");
    case.others_go_on().await?;
    opened(&case)?;
    case.bed.namespace.write_secret("secret-missing-ci", &json!({"bearerToken": "canary-ci"})).await?;
    case.runs(1).await?;
    let headers = case.bed.artifacts.last_headers(&case.path("1")).unwrap_or_default();
    assert_eq!(headers.get("authorization"), Some(&HeaderValue::from_static("Bearer canary-ci")));
    Ok(())
}

async fn secret_with_wrong_keys(mut case: Case<'_>) -> Result<()> {
    let artifact = closed(&mut case)?;
    case.bed.namespace.write_secret("wrong-keys-ci", &json!({"username": "ci"})).await?;
    let mut spec = case.spec(&artifact);
    spec["source"]["http"]["secretRef"] = json!({"name": "wrong-keys-ci"});
    case.apply(&spec).await?;
    let parts =
        ["Secret wrong-keys-ci", "the keys `username` and `password`, or `bearerToken`", "and has `username` only"];
    let halved = case.shows("SecretKeyMissing", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    opened(&case)?;
    case.follow(&halved, "password", "canary-ci").await?;
    case.runs(1).await?;
    let headers = case.bed.artifacts.last_headers(&case.path("1")).unwrap_or_default();
    assert_eq!(headers.get("authorization"), Some(&HeaderValue::from_static("Basic Y2k6Y2FuYXJ5LWNp")));
    Ok(())
}

async fn secret_with_too_many_keys(mut case: Case<'_>) -> Result<()> {
    let artifact = closed(&mut case)?;
    let keys = json!({"username": "ci", "password": "canary-ci", "bearerToken": "canary-ci"});
    case.bed.namespace.write_secret("many-keys-ci", &keys).await?;
    let mut spec = case.spec(&artifact);
    spec["source"]["http"]["secretRef"] = json!({"name": "many-keys-ci"});
    case.apply(&spec).await?;
    let full =
        case.shows("SecretKeyMissing", &["Secret many-keys-ci", "has all three", "remove `bearerToken`"]).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    opened(&case)?;
    case.follow(&full, r#""username":null"#, "").await?;
    case.runs(1).await?;
    let headers = case.bed.artifacts.last_headers(&case.path("1")).unwrap_or_default();
    assert_eq!(headers.get("authorization"), Some(&HeaderValue::from_static("Bearer canary-ci")));
    Ok(())
}

async fn secret_with_a_newline(mut case: Case<'_>) -> Result<()> {
    let artifact = closed(&mut case)?;
    case.bed.namespace.write_secret("newline-ci", &json!({"bearerToken": "canary-ci\n"})).await?;
    let mut spec = case.spec(&artifact);
    spec["source"]["http"]["secretRef"] = json!({"name": "newline-ci"});
    case.apply(&spec).await?;
    case.shows(
        "SecretInvalid",
        &["Secret newline-ci, key `bearerToken`", "line break", "kubectl patch secret newline-ci"],
    )
    .await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    opened(&case)?;
    case.bed.namespace.write_secret("newline-ci", &json!({"bearerToken": "canary-ci"})).await?;
    case.runs(1).await.map(drop)
}

async fn secret_with_a_wrong_password(mut case: Case<'_>) -> Result<()> {
    let artifact = closed(&mut case)?;
    case.bed.namespace.write_secret("password-ci", &json!({"username": "ci", "password": "canary-old"})).await?;
    let mut spec = case.spec(&artifact);
    spec["source"]["http"]["secretRef"] = json!({"name": "password-ci"});
    case.apply(&spec).await?;
    let command =
        format!("kubectl annotate kspace {} --namespace {} --overwrite", case.name, case.bed.namespace.name());
    let parts = ["401", "the credentials in Secret password-ci, which spec.source.http.secretRef names", &command];
    case.shows("ArtifactUnavailable", &parts).await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    opened(&case)?;
    case.runs(1).await.map(drop)
}

async fn no_secret_for_a_closed_host(mut case: Case<'_>) -> Result<()> {
    let artifact = closed(&mut case)?;
    case.apply(&case.spec(&artifact)).await?;
    case.shows(
        "ArtifactUnavailable",
        &["401", "kubectl create secret generic NAME", "name it in spec.source.http.secretRef"],
    )
    .await?;
    case.posted(0).await?;
    case.others_go_on().await?;
    opened(&case)?;
    case.runs(1).await.map(drop)
}

/// An artifact whose host lets nobody in yet.
fn closed(case: &mut Case<'_>) -> Result<Artifact> {
    let artifact = case.serve("1")?;
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, HeaderValue::from_static("Basic"))]);
    case.bed.artifacts.answer_with(&case.path("1"), StatusCode::UNAUTHORIZED, headers, Vec::new());
    case.wanted = Some(artifact.clone());
    Ok(artifact)
}

/// Its host lets everybody in from now on.
fn opened(case: &Case<'_>) -> Result<()> {
    case.serve("1").map(drop)
}

/// Without `--allow-insecure-artifacts`, what http or a private address hands out is not even asked for.
#[tokio::test]
async fn artifacts_over_http_are_refused_unless_the_operator_allows_them() -> Result<()> {
    let bed = Bed::open("insecure", |mut options| {
        options.insecure_artifacts = false;
        options
    })
    .await?;
    let case = bed.case("over-http", None).await?;
    let artifact = case.serve("1")?;
    case.apply(&case.spec(&artifact)).await?;
    case.shows("InvalidSpec", &["only https is", &case.path("1"), "write spec.source.http.url"]).await?;
    let private = Artifact { url: artifact.url.replace("http://", "https://"), ..artifact.clone() };
    case.apply(&case.spec(&private)).await?;
    case.shows("InvalidSpec", &["127.0.0.1", "not a public address"]).await?;
    case.posted(0).await?;
    assert_eq!(bed.artifacts.requests(&case.path("1")), 0, "it was asked for");
    let mended = Artifact { url: "https://artifacts.invalid/shop.zip".to_owned(), ..artifact };
    case.apply(&case.spec(&mended)).await?;
    case.shows("ArtifactUnavailable", &["artifacts.invalid/shop.zip", "cannot be resolved"]).await?;
    case.posted(0).await
}
