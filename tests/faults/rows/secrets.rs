//! Rows about the Secret and the account behind it: rotated, deleted, another's, or leading elsewhere.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use k8s_openapi::api::core::v1::Secret;
use konigle_operator::api::{AttemptResult, Attribution, KonigleSpace};
use kube::api::{DeleteParams, Patch, PatchParams};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::case::Case;
use crate::matrix::{Row, row};
use crate::oracles::{attribution, check, check_results, deploy_once, deployed_once, lasts, posted, quick};
use crate::support::namespace::{SECRET, ready_reason};
use crate::support::proxy::Matcher;
use crate::support::simulator::{Simulator, TOKEN, UAT};
use crate::support::stage::{SHOP, Stage, digest_of_wish};
use crate::support::{Failure, Result};

const ROTATED: &str = "canary-rotated-7c1e";
const ANOTHERS: &str = "canary-another-93ab";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "30a",
            row_30a_a_token_rotated_in_flight,
            "The token is replaced while a job runs: on the server first, or in the Secret first",
            "The same job is followed with the new token, and Confirmed; nothing is sent again"
        ),
        row!(
            "30b",
            row_30b_a_secret_deleted_in_flight,
            "The Secret is deleted while a job runs, or while an outcome is not known, and comes back",
            "Nothing is decided and nothing sent meanwhile; then the one job is found"
        ),
        row!(
            "30c",
            row_30c_a_secret_of_another_account_in_flight,
            "The Secret holds another account's token while a job runs, or while an outcome is not known",
            "What that account sees is no evidence: nothing is decided and nothing sent; then the one job is found"
        ),
        row!(
            "30d",
            row_30d_a_base_url_changed_in_flight,
            "The operator is pointed at another Konigle, which knows the same Space, while an outcome is not known",
            "`OutcomeUnknown`, nothing is sent to either; pointed back it finds the one job"
        ),
        row!(
            "30e",
            row_30e_a_token_that_cannot_be_used,
            "The token is empty, wrong, has a line break, or its key is missing, at first contact or before a new wish",
            "A reason that says what to do; few requests and nothing posted; a mended Secret heals it within half a minute"
        )
        .tested_by(&[
            ("tests/it/bad_input/credentials.rs", "credentials_that_cannot_be_used"),
            ("tests/it/bad_input/credentials.rs", "a_rotated_token_is_taken_up_within_half_a_minute"),
        ]),
        row!(
            "30f",
            row_30f_the_base_url_of_the_secret_changed_in_flight,
            "The Secret leads to another address while a job runs, or while an outcome is not known: to one that the operator's flag allows, or to one that nothing allows",
            "`OutcomeUnknown` or `SecretInvalid`, nothing is sent, and nobody knocks where it is not allowed; led back it finds the one job"
        ),
        row!(
            "31",
            row_31_references_to_another_namespace,
            "A resource names a Secret of another namespace",
            "Refused, or without effect: no Secret of another namespace is ever asked for"
        ),
    ]
}

async fn has_tokens(stage: &Stage, tokens: &[&str]) -> Result<()> {
    stage.simulator.control(Method::PATCH, "tenants/demo", &json!({"tokens": tokens})).await.map(drop)
}

/// Begins the one deploy. For every second seed its answer is lost: the outcome is not known.
async fn in_flight(case: &Case, stage: &Stage) -> Result<Value> {
    if *case.pick(&[false, true]) {
        stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    }
    let wish = quick(stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    Ok(wish)
}

/// Longer than the wait for an outcome of a request whose end the process saw: settle and the limit of the job.
const LONGER_THAN_THE_WAIT: Duration = Duration::from_secs(14);

/// Nothing was decided about the attempt, and nothing sent.
async fn is_undecided(stage: &Stage) -> Result<KonigleSpace> {
    let space = stage.namespace.spaces().get(SHOP).await?;
    let status = space.status.clone().unwrap_or_default();
    check(status.attempt.is_some() && status.history.is_empty(), || format!("decided without evidence: {status:?}"))?;
    check(posted(stage, UAT).await?.len() == 1, || "sent again".to_owned())?;
    Ok(space)
}

async fn found(stage: &Stage, wish: &Value) -> Result<()> {
    let space = deployed_once(stage, &digest_of_wish(wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_30a_a_token_rotated_in_flight(case: &Case) -> Result<()> {
    let stage = case.open_with(3.0, |options| options).await?;
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    let recorded = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_id.is_some())
    };
    stage.namespace.wait_for(SHOP, "recorded", recorded).await?;
    lasts(case.moment(Duration::from_secs(2))).await?;
    if *case.pick(&[true, false]) {
        has_tokens(&stage, &[ROTATED]).await?;
        lasts(Duration::from_secs(2)).await?;
        stage.namespace.write_token(ROTATED).await?;
    } else {
        has_tokens(&stage, &[TOKEN, ROTATED]).await?;
        stage.namespace.write_token(ROTATED).await?;
        has_tokens(&stage, &[ROTATED]).await?;
    }
    found(&stage, &wish).await?;
    let space = stage.namespace.spaces().get(SHOP).await?;
    check(attribution(&space) == Some(Attribution::Confirmed), || format!("{:?}", space.status))
}

async fn row_30b_a_secret_deleted_in_flight(case: &Case) -> Result<()> {
    let stage = case.open_with(2.0, |options| options).await?;
    let wish = in_flight(case, &stage).await?;
    stage.namespace.api::<Secret>().delete(SECRET, &DeleteParams::default()).await?;
    lasts(LONGER_THAN_THE_WAIT).await?;
    let space = is_undecided(&stage).await?;
    check(ready_reason(&space) == Some("SecretNotFound"), || format!("{:?}", space.status))?;
    stage.namespace.write_token(TOKEN).await?;
    found(&stage, &wish).await
}

async fn row_30c_a_secret_of_another_account_in_flight(case: &Case) -> Result<()> {
    let stage = case.open_with(2.0, |options| options).await?;
    let another = json!({"name": "another", "tokens": [ANOTHERS], "computers": []});
    stage.simulator.control(Method::POST, "tenants", &another).await?;
    stage.simulator.reading("foreign_object", *case.pick(&[404, 403])).await?;
    let wish = in_flight(case, &stage).await?;
    stage.namespace.write_token(ANOTHERS).await?;
    lasts(LONGER_THAN_THE_WAIT).await?;
    is_undecided(&stage).await?;
    stage.namespace.write_token(TOKEN).await?;
    // That a Space is another's is looked at again every ten minutes, or when somebody asks for it.
    stage.look_now(SHOP).await?;
    found(&stage, &wish).await
}

async fn row_30d_a_base_url_changed_in_flight(case: &Case) -> Result<()> {
    let mut stage = case.open_with(2.0, |options| options).await?;
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    let elsewhere = Simulator::start(1.0).await?;
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(UAT, 1).await?;
    lasts(case.moment(Duration::from_secs(1))).await?;
    stage.operator.kill();
    let other_address = elsewhere.base_url();
    let mut misled = stage
        .another_operator(|mut options| {
            options.konigle_base_url = other_address;
            options
        })
        .await?;
    stage.namespace.wait_for_reason(SHOP, "OutcomeUnknown").await?;
    is_undecided(&stage).await?;
    check(elsewhere.ledger(UAT).await?.is_empty(), || "sent to the other one".to_owned())?;
    misled.kill();
    stage.operator.start_again().await?;
    found(&stage, &wish).await
}

/// Somebody who listens, counts who knocks, and never answers.
pub(super) struct Door {
    address: SocketAddr,
    knocks: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Door {
    pub(super) async fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let knocks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&knocks);
        let task = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Ok(Self { address, knocks, task })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn was_knocked_at(&self) -> bool {
        self.knocks.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn row_30f_the_base_url_of_the_secret_changed_in_flight(case: &Case) -> Result<()> {
    let (allowed, private, plain) = (Door::open().await?, Door::open().await?, Door::open().await?);
    let allowed_url = format!("https://{}", allowed.address);
    let flag = format!("--allowed-base-urls={allowed_url}");
    let stage = case.open_with(4.0, |options| options.flag(&flag)).await?;
    let wish = in_flight(case, &stage).await?;
    let mut ways = [
        (allowed_url, "OutcomeUnknown"),
        (format!("https://{}", private.address), "SecretInvalid"),
        (format!("http://{}", plain.address), "SecretInvalid"),
    ];
    ways.rotate_left(*case.pick(&[0, 2, 1]));
    for (base_url, reason) in &ways {
        stage.namespace.write_secret(SECRET, &json!({"token": TOKEN, "baseURL": base_url})).await?;
        stage.look_now(SHOP).await?;
        stage.namespace.wait_for_reason(SHOP, reason).await?;
        lasts(LONGER_THAN_THE_WAIT).await?;
        let space = is_undecided(&stage).await?;
        check(ready_reason(&space) == Some(reason), || format!("{base_url}: {:?}", space.status))?;
    }
    let knocked = [&allowed, &private, &plain].map(Door::was_knocked_at);
    check(knocked == [true, false, false], || format!("who was knocked at: {knocked:?}"))?;
    stage.namespace.write_token(TOKEN).await?;
    // What is Stalled is looked at again every ten minutes, or when somebody asks for it.
    stage.look_now(SHOP).await?;
    found(&stage, &wish).await
}

async fn row_30e_a_token_that_cannot_be_used(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let is_new = *case.pick(&[true, false]);
    if !is_new {
        deploy_once(&stage, &stage.wish("0.9")?).await?;
    }
    let before = posted(&stage, UAT).await?.len();
    let mut bad = [
        (json!({"token": ""}), "SecretInvalid"),
        (json!({"token": format!("{TOKEN}\n")}), "SecretInvalid"),
        (json!({"TOKEN": TOKEN}), "SecretKeyMissing"),
        (json!({"token": "canary-nobodys-51f0"}), "CredentialsRejected"),
    ];
    // The last one is the one that is mended.
    bad.rotate_left(*case.pick(&[0, 1, 3]));
    let wish = stage.wish("1.0")?;
    stage.namespace.write_secret(SECRET, &bad[0].0).await?;
    stage.namespace.apply(SHOP, &wish).await?;
    for (keys, reason) in &bad {
        stage.namespace.write_secret(SECRET, keys).await?;
        stage.look_now(SHOP).await?;
        let space = stage.namespace.wait_for_reason(SHOP, reason).await?;
        let status = space.status.unwrap_or_default();
        check(status.is_true("Stalled") && status.attempt.is_none(), || format!("{keys}: {status:?}"))?;
        let message = status.condition("Ready").map(|ready| ready.message.clone()).unwrap_or_default();
        check(message.contains(&format!("Secret {SECRET}")), || format!("it does not say which Secret: {message}"))?;
    }
    let asked = stage.asked(UAT, "get_space").await?;
    lasts(case.moment(Duration::from_secs(20))).await?;
    let asked = stage.asked(UAT, "get_space").await? - asked;
    check(asked <= 2, || format!("asked {asked} times with a token that cannot be used"))?;
    check(posted(&stage, UAT).await?.len() == before, || "posted".to_owned())?;
    stage.namespace.write_token(TOKEN).await?;
    let mended = Instant::now();
    stage.wait_for_ledger(UAT, before + 1).await?;
    check(mended.elapsed() < Duration::from_secs(45), || format!("healed only after {:?}", mended.elapsed()))?;
    deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check(posted(&stage, UAT).await?.len() == before + 1, || "sent again".to_owned())
}

async fn row_31_references_to_another_namespace(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let mut wish = stage.wish("1.0")?;
    wish["credentials"]["secretRef"] = json!({"name": "theirs", "namespace": "default"});
    let Err(refused) = stage.namespace.apply(SHOP, &wish).await else {
        return Err(Failure::new("a reference to another namespace was accepted"));
    };
    check(refused.to_string().contains("namespace"), || refused.to_string())?;
    // Where nobody asks for strict validation the field is dropped.
    wish["credentials"]["secretRef"] = json!({"name": "theirs"});
    stage.namespace.apply(SHOP, &wish).await?;
    let theirs = json!({"spec": {"credentials": {"secretRef": {"namespace": "default"}}}});
    stage.namespace.spaces().patch(SHOP, &PatchParams::default(), &Patch::Merge(&theirs)).await?;
    stage.namespace.wait_for_reason(SHOP, "SecretNotFound").await?;
    let own = format!("/namespaces/{}/secrets/theirs", stage.namespace.name());
    let asked = proxy.seen(&Matcher::new(Method::GET, "/secrets"));
    check(!asked.is_empty() && asked.iter().all(|seen| seen.path.starts_with(&format!("/api/v1{own}"))), || {
        format!("{:?}", asked.iter().map(|seen| &seen.path).collect::<Vec<_>>())
    })?;
    // Not even where the account may: the proxy would have seen it.
    proxy.answer(Matcher::new(Method::GET, "/namespaces/default/"), 1, StatusCode::OK);
    stage.look_now(SHOP).await?;
    check(proxy.seen(&Matcher::new(Method::GET, "/namespaces/default/")).is_empty(), || "asked there".to_owned())
}
