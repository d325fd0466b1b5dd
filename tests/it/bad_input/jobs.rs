//! Jobs that fail, never end, or say strange things.

use konigle_operator::api::{KonigleSpace, RESET_AT, RESOLVE_ATTEMPT};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Bed, Case, rows};
use crate::support::artifacts::Artifact;
use crate::support::logs::{HOSTILE, hostile_line, strange_entries};
use crate::support::{Failure, Result};

#[tokio::test]
async fn jobs_that_do_not_succeed() -> Result<()> {
    let bed = Bed::open("jobs", |options| options).await?;
    bed.run(rows![
        fails_until_it_is_given_up,
        fails_and_another_digest_follows,
        never_ends,
        never_ends_and_a_person_answers,
        word_that_nobody_knows,
        log_of_ten_megabytes,
        log_with_secrets_and_control_characters,
        log_that_is_no_utf8,
        log_of_strange_entries,
    ])
    .await
}

/// Each failure tells the job and its last line; after the limit only a person's word starts another attempt.
async fn fails_until_it_is_given_up(mut case: Case<'_>) -> Result<()> {
    let failed = json!({"outcome": "failed", "error": "migration 0042 failed"});
    case.set_jobs(json!({"next_jobs": [failed, failed]})).await?;
    let artifact = case.serve("1")?;
    let mut spec = case.spec(&artifact);
    spec["retry"] = json!({"limit": 2});
    case.apply(&spec).await?;
    let parts = ["migration 0042 failed", "failed attempt 1 of 2", "the next starts after"];
    let space = case.shows("ProgressingWithRetry", &parts).await?;
    check_message(&space, &[&case.job(0).await?])?;
    case.posted(1).await?;
    let parts = ["after 2 failed attempts", "migration 0042 failed", "publish another digest", RESET_AT];
    let space = case.shows("RetriesExceeded", &parts).await?;
    let command = format!("kubectl annotate kspace {} --namespace {} ", case.name, case.bed.namespace.name());
    check_message(&space, &[&case.job(1).await?, &command])?;
    case.posted(2).await?;
    case.others_go_on().await?;
    case.posted(2).await?;
    case.wanted = Some(artifact);
    case.bed.namespace.annotate(&case.name, RESET_AT, "again").await?;
    case.runs(3).await.map(drop)
}

async fn fails_and_another_digest_follows(mut case: Case<'_>) -> Result<()> {
    case.set_jobs(json!({"next_jobs": [{"outcome": "failed", "error": "no space left on device"}]})).await?;
    let mut spec = case.spec(&case.serve("1")?);
    spec["retry"] = json!({"limit": 1});
    case.apply(&spec).await?;
    case.shows("RetriesExceeded", &["after 1 failed attempt: ", "no space left on device"]).await?;
    case.posted(1).await?;
    case.others_go_on().await?;
    case.deploys("2").await?;
    case.runs(2).await.map(drop)
}

/// Nothing else is started while a job may still run, and its end heals all.
async fn never_ends(mut case: Case<'_>) -> Result<()> {
    let artifact = case.start_endless_job().await?;
    let parts = ["has not ended within spec.timeout", "nothing else is started"];
    let space = case.shows("JobOverdue", &parts).await?;
    let job = case.job(0).await?;
    check_message(&space, &[&job])?;
    case.posted(1).await?;
    case.others_go_on().await?;
    case.posted(1).await?;
    case.change_job(&job, json!({"finish": "success"})).await?;
    case.look_now().await?;
    case.wanted = Some(artifact);
    case.runs(1).await.map(drop)
}

/// The command in the message is the one that a person runs; an answer to another attempt is ignored.
async fn never_ends_and_a_person_answers(mut case: Case<'_>) -> Result<()> {
    let artifact = case.start_endless_job().await?;
    let space = case.shows("JobOverdue", &["(or =failed; or =retry, which sends it once more"]).await?;
    let nonce = space.status.unwrap_or_default().attempt.map(|attempt| attempt.nonce).unwrap_or_default();
    let command = format!(
        "kubectl annotate kspace {} --namespace {} --overwrite {RESOLVE_ATTEMPT}={nonce}=succeeded",
        case.name,
        case.bed.namespace.name()
    );
    case.shows("JobOverdue", &[&command]).await?;
    case.others_go_on().await?;
    case.bed.namespace.annotate(&case.name, RESOLVE_ATTEMPT, "k00000000=succeeded").await?;
    case.look_now().await?;
    case.shows("JobOverdue", &[&command]).await?;
    case.bed.namespace.annotate(&case.name, RESOLVE_ATTEMPT, &format!("{nonce}=succeeded")).await?;
    case.wanted = Some(artifact);
    case.runs(1).await.map(drop)
}

/// A word that is not in the contract is no end: the job is followed, and overdue if the word stays.
async fn word_that_nobody_knows(mut case: Case<'_>) -> Result<()> {
    let artifact = case.start_job(json!({"outcome": "never", "lines": 2}), "20s").await?;
    let job = case.job(0).await?;
    case.change_job(&job, json!({"status": "paused"})).await?;
    let read = |space: &KonigleSpace| {
        let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
        attempt.is_some_and(|attempt| attempt.job_status.as_deref() == Some("paused"))
    };
    case.bed.namespace.wait_for(&case.name, "reading the word", read).await?;
    case.shows("DeployRunning", &[]).await?;
    case.shows("JobOverdue", &["`paused`", "does not know"]).await?;
    case.posted(1).await?;
    case.others_go_on().await?;
    case.change_job(&job, json!({"status": null, "finish": "success"})).await?;
    case.look_now().await?;
    case.wanted = Some(artifact);
    case.runs(1).await.map(drop)
}

/// The job's reply is larger than what is read of it: the status of the job is known all the same.
async fn log_of_ten_megabytes(mut case: Case<'_>) -> Result<()> {
    let artifact = case.start_long_job().await?;
    let job = case.job(0).await?;
    case.change_job(&job, json!({"append_lines": {"count": 10_000, "bytes": 1_000}})).await?;
    let many = |space: &KonigleSpace| log_count(space) > 1_000;
    case.bed.namespace.wait_for(&case.name, "reading the long log", many).await?;
    case.shows("DeployRunning", &[]).await?;
    case.others_go_on().await?;
    case.change_job(&job, json!({"finish": "success"})).await?;
    case.wanted = Some(artifact);
    case.runs(1).await.map(drop)
}

async fn log_with_secrets_and_control_characters(mut case: Case<'_>) -> Result<()> {
    let artifact = case.start_long_job().await?;
    let job = case.job(0).await?;
    let line = hostile_line(&case.token);
    case.log(&job, json!([{"level": "error", "message": line}])).await?;
    let space = case.shows_line("GET https").await?;
    let text = serde_json::to_string(&space.status)?;
    assert!(!HOSTILE.iter().any(|part| text.contains(part)), "{text}");
    case.others_go_on().await?;
    let error = format!("the token {} was refused", case.token);
    case.change_job(&job, json!({"finish": "failed", "error": error})).await?;
    case.shows("ProgressingWithRetry", &["the token *** was refused"]).await?;
    case.wanted = Some(artifact);
    case.runs(2).await.map(drop)
}

async fn log_that_is_no_utf8(mut case: Case<'_>) -> Result<()> {
    let artifact = case.start_long_job().await?;
    let job = case.job(0).await?;
    case.fault("get_job", 1_000, json!("latin1")).await?;
    case.log(&job, json!([{"level": "info", "message": "r\u{e9}sum\u{e9} of the build"}])).await?;
    case.shows_line("r\u{fffd}sum\u{fffd} of the build").await?;
    case.others_go_on().await?;
    case.change_job(&job, json!({"finish": "failed", "error": "d\u{e9}p\u{f4}t introuvable"})).await?;
    case.shows("ProgressingWithRetry", &["d\u{fffd}p\u{fffd}t introuvable"]).await?;
    case.wanted = Some(artifact);
    case.runs(2).await.map(drop)
}

/// Entries of any JSON; the contract promises nothing about them.
async fn log_of_strange_entries(mut case: Case<'_>) -> Result<()> {
    let artifact = case.start_long_job().await?;
    let job = case.job(0).await?;
    case.log(&job, strange_entries()).await?;
    case.shows_line("the last one").await?;
    case.others_go_on().await?;
    case.change_job(&job, json!({"finish": "success"})).await?;
    case.wanted = Some(artifact);
    case.runs(1).await.map(drop)
}

impl Case<'_> {
    /// Sets how the jobs of the row's uat Space go.
    async fn set_jobs(&self, change: Value) -> Result<()> {
        self.bed.simulator.change_space(&self.uat, &change).await.map(drop)
    }

    /// Deploys, by a job that runs for ever and may run for 5 s.
    async fn start_endless_job(&self) -> Result<Artifact> {
        self.start_job(json!({"outcome": "never", "lines": 2}), "5s").await
    }

    /// Deploys, by a job that runs until it is ended.
    async fn start_long_job(&self) -> Result<Artifact> {
        self.start_job(json!({"outcome": "never", "lines": 1}), "15m").await
    }

    async fn start_job(&self, job: Value, timeout: &str) -> Result<Artifact> {
        self.set_jobs(json!({"next_jobs": [job]})).await?;
        let artifact = self.serve("1")?;
        let mut spec = self.spec(&artifact);
        spec["timeout"] = json!(timeout);
        self.apply(&spec).await?;
        let runs = |space: &KonigleSpace| {
            let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
            attempt.is_some_and(|attempt| attempt.job_id.is_some())
        };
        self.bed.namespace.wait_for(&self.name, "running its job", runs).await?;
        Ok(artifact)
    }

    /// The id of the job of the row's deploy of this number, from 0.
    async fn job(&self, number: usize) -> Result<String> {
        let ledger = self.bed.simulator.ledger(&self.uat).await?;
        let job = ledger.get(number).and_then(|entry| entry["job"].as_str());
        job.map(str::to_owned).ok_or_else(|| Failure::new(format!("there is no job {number}: {ledger:?}")))
    }

    async fn change_job(&self, job: &str, change: Value) -> Result<()> {
        self.bed.simulator.control(Method::PATCH, &format!("jobs/{job}"), &change).await.map(drop)
    }

    async fn log(&self, job: &str, entries: Value) -> Result<()> {
        self.change_job(job, json!({"append_log": entries})).await
    }

    /// Waits until the log in the status has this text, and sees that the status is as every status must be.
    async fn shows_line(&self, text: &str) -> Result<KonigleSpace> {
        let has = |space: &KonigleSpace| log_lines(space).iter().any(|line| line.contains(text));
        let space = self.bed.namespace.wait_for(&self.name, &format!("showing {text:?}"), has).await?;
        super::check_status(&space, &[], &self.token)?;
        Ok(space)
    }
}

fn log_lines(space: &KonigleSpace) -> Vec<String> {
    let log = space.status.as_ref().and_then(|status| status.attempt.as_ref()).and_then(|attempt| attempt.log.clone());
    log.map(|log| log.lines).unwrap_or_default()
}

fn log_count(space: &KonigleSpace) -> i64 {
    let log = space.status.as_ref().and_then(|status| status.attempt.as_ref()).and_then(|attempt| attempt.log.clone());
    log.map(|log| log.count).unwrap_or_default()
}

fn check_message(space: &KonigleSpace, parts: &[&str]) -> Result<()> {
    super::check_status(space, parts, "no token")
}
