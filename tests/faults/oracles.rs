//! What is looked at when a fault is over: the simulator's ledger, the resource, and the run without a fault.

use std::time::Duration;

use konigle_operator::api::{AttemptResult, Attribution, Cause, KonigleSpace};
use serde_json::{Value, json};

use crate::support::Result;
pub(crate) use crate::support::failure::check;
use crate::support::namespace::wait_longer_for;
use crate::support::recording::Recording;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready, runs};

/// Longer than the wait for an outcome that another process may have caused, and a deploy after it.
pub(crate) const LONGEST_OUTCOME: Duration = Duration::from_mins(4);

/// The wish for a version, with a job limit that keeps the waits short.
pub(crate) fn quick(stage: &Stage, version: &str) -> Result<Value> {
    let mut wish = stage.wish(version)?;
    wish["timeout"] = json!("5s");
    Ok(wish)
}

/// What the operator posted to this Space and was accepted, oldest first.
pub(crate) async fn posted(stage: &Stage, space: &str) -> Result<Vec<Value>> {
    Ok(stage.simulator.ledger(space).await?.into_iter().filter(|entry| entry["by"] == "api").collect())
}

/// What the operator posted of this digest to the uat Space, and did not fail.
pub(crate) async fn good(stage: &Stage, digest: &str) -> Result<Vec<Value>> {
    let of_digest = |entry: &Value| digest == format!("sha256:{}", entry["sha256"].as_str().unwrap_or_default());
    let all = posted(stage, UAT).await?;
    Ok(all.into_iter().filter(|entry| of_digest(entry) && entry["outcome"] != "failed").collect())
}

/// LEDGER: of all that was accepted of this digest exactly one did not fail.
pub(crate) async fn posted_once(stage: &Stage, digest: &str) -> Result<Value> {
    let good = good(stage, digest).await?;
    let all = stage.simulator.ledger(UAT).await?;
    check(good.len() == 1, || format!("{} jobs of {digest} did not fail: {all:?}", good.len()))?;
    Ok(good[0].clone())
}

/// LEDGER and CR: the resource is Ready with this digest, which was deployed once, and a further look changes nothing.
pub(crate) async fn deployed_once(stage: &Stage, digest: &str) -> Result<KonigleSpace> {
    deployed_as(stage, digest, Some(digest)).await
}

/// As [`deployed_once`], where what is sent has a digest of its own, which the status tells.
pub(crate) async fn packed_once(stage: &Stage, digest: &str) -> Result<KonigleSpace> {
    deployed_as(stage, digest, None).await
}

async fn deployed_as(stage: &Stage, digest: &str, sent: Option<&str>) -> Result<KonigleSpace> {
    let deployed = |space: &KonigleSpace| is_ready(space) && runs(space, digest);
    let space = stage.namespace.wait_longer_for(SHOP, "deployed", LONGEST_OUTCOME, deployed).await?;
    let upload = space.status.and_then(|status| status.artifact?.upload).map(|upload| upload.digest);
    let sent = sent.map_or_else(|| upload.unwrap_or_default(), str::to_owned);
    posted_once(stage, &sent).await?;
    let looked = stage.look_now(SHOP).await?;
    let status = looked.status.clone().unwrap_or_default();
    check(deployed(&looked), || format!("it did not stay Ready: {status:?}"))?;
    check(status.condition("Drifted").is_none(), || format!("our own job is taken for somebody else's: {status:?}"))?;
    let entry = posted_once(stage, &sent).await?;
    check(entry["outcome"] == "success", || format!("Ready before the job ended: {entry}"))?;
    let job = status.release.and_then(|release| release.job_id);
    check(job.is_none() || job.as_deref() == entry["job"].as_str(), || {
        format!("the release has the job {job:?}, and the ledger {entry}")
    })?;
    Ok(looked)
}

/// Applies a wish and sees that it is deployed once.
pub(crate) async fn deploy_once(stage: &Stage, wish: &Value) -> Result<KonigleSpace> {
    stage.namespace.apply(SHOP, wish).await?;
    deployed_once(stage, &digest_of_wish(wish)).await
}

/// The results of the attempts, newest first.
pub(crate) fn results(space: &KonigleSpace) -> Vec<AttemptResult> {
    space.status.iter().flat_map(|status| &status.history).map(|entry| entry.result).collect()
}

/// Sees that the attempts ended so, newest first.
pub(crate) fn check_results(space: &KonigleSpace, expected: &[AttemptResult]) -> Result<()> {
    check(results(space) == expected, || format!("the attempts ended {:?}, not {expected:?}", results(space)))
}

/// How the release is known.
pub(crate) fn attribution(space: &KonigleSpace) -> Option<Attribution> {
    Some(space.status.as_ref()?.release.as_ref()?.attribution)
}

/// The nonce of the open attempt.
pub(crate) fn nonce(space: &KonigleSpace) -> Option<String> {
    Some(space.status.as_ref()?.attempt.as_ref()?.nonce.clone())
}

/// Sees that nothing of this attempt is in the ledger of a Space.
pub(crate) async fn never_sent(stage: &Stage, space: &str, nonce: &str) -> Result<()> {
    let ledger = stage.simulator.ledger(space).await?;
    let shows = |entry: &Value| entry["display_name"].as_str().is_some_and(|name| name.contains(nonce));
    check(!nonce.is_empty() && !ledger.iter().any(shows), || format!("{nonce} was sent: {ledger:?}"))
}

/// Waits for real time to pass: for faults that last so long.
pub(crate) async fn lasts(duration: Duration) -> Result<()> {
    let began = std::time::Instant::now();
    let over = async || Ok((began.elapsed() >= duration).then_some(()));
    wait_longer_for("over", duration + Duration::from_mins(1), over).await
}

/// REF: what a deploy without a fault comes to, and how many writes it takes.
pub(crate) struct Reference {
    recording: Recording,
    writes: usize,
    end: End,
}

/// What two runs must have in common at their end.
#[derive(Debug, PartialEq)]
struct End {
    conditions: Vec<(String, String, String)>,
    attribution: Option<Attribution>,
    newest: Option<(AttemptResult, Cause)>,
    failures: i64,
}

/// A look that falls a moment earlier or later may find a state that is worth a write of its own.
const CHANCE: usize = 2;

impl Reference {
    /// Deploys this version, in a namespace where nothing was deployed.
    pub(crate) async fn measure(stage: &Stage, version: &str) -> Result<Self> {
        // The first write of all makes the resource known, which a later deploy does not need.
        let mut wish = stage.wish(version)?;
        wish["suspend"] = json!(true);
        stage.namespace.apply(SHOP, &wish).await?;
        stage.namespace.wait_for_reason(SHOP, "Suspended").await?;
        let recording = Recording::start(&stage.namespace).await?;
        let space = deploy_once(stage, &stage.wish(version)?).await?;
        let writes = writes(&recording).await?;
        Ok(Self { recording, writes, end: End::of(&space) })
    }

    /// Sees that a deploy with a fault came to the same end, and took no more writes.
    pub(crate) async fn compare(&self, space: &KonigleSpace) -> Result<()> {
        let end = End::of(space);
        check(end == self.end, || format!("the end is {end:?}, and without a fault {:?}", self.end))?;
        let writes = writes(&self.recording).await? - self.writes;
        check(writes <= self.writes + CHANCE, || format!("{writes} writes, and without a fault {}", self.writes))
    }
}

impl End {
    fn of(space: &KonigleSpace) -> Self {
        let status = space.status.clone().unwrap_or_default();
        let conditions = status.conditions.iter();
        Self {
            conditions: conditions
                .map(|it| (it.condition_type.clone(), it.status.clone(), it.reason.clone()))
                .collect(),
            attribution: attribution(space),
            newest: status.history.first().map(|entry| (entry.result, entry.cause)),
            failures: status.failures,
        }
    }
}

async fn writes(recording: &Recording) -> Result<usize> {
    Ok(recording.versions(SHOP).await?.len())
}
