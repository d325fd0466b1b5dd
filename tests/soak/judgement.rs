//! What must hold at the end, and the summary.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use reqwest::Method;
use serde_json::Value;

use crate::bed::{Bed, CANARY, SETTLE, TIMEOUT};
use crate::faults::Faults;
use crate::life::Life;
use crate::support::{Context, Result};

/// How long the last fault may have its consequences: an attempt whose outcome nobody knows is waited for after a
/// restart, and failed before, so that the next one waits for its turn.
const CONVERGE: Duration = Duration::from_secs(300 + SETTLE + TIMEOUT);
/// The longest that a resource may be left alone.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// How long it is left alone where nothing breaks and the machine is quick: `spec.interval` with its jitter, a look of this
/// program, and a second for the operator's own.
const USUAL_SILENCE: Duration = Duration::from_millis(31_500 + 3_000 + 1_000);
/// How long nothing breaks, before the first fault, to see how long it takes here; and with that the cap of what a slow
/// machine is allowed: more than this cannot be seen in it.
pub(crate) const QUIET: Duration = Duration::from_secs(45);
/// Of the faults that should happen at least so many must.
const FAULTS_A_SECOND: f64 = 0.95;
/// So long after the last restart memory may grow: buffers and pools find their size.
const WARM_UP: f64 = 0.3;
/// What the median of memory may grow by from the first to the second half of the time after that, in KiB: the allocator's
/// noise, for a soak of three minutes as for one of thirty.
const GROWTH: u64 = 2 << 10;

/// The end of a soak.
pub(crate) struct Verdict {
    /// The summary.
    pub(crate) lines: Vec<String>,
    /// What does not hold.
    pub(crate) wrong: Vec<String>,
}

/// Waits until every resource runs what it wants, and gives how long that took, or which do not.
pub(crate) async fn all_converge(bed: &mut Bed, life: &mut Life) -> std::result::Result<Duration, String> {
    let began = Instant::now();
    loop {
        let missing = match missing(bed, life).await {
            Ok(missing) => missing,
            Err(failure) => vec![failure.to_string()],
        };
        if missing.is_empty() {
            return Ok(began.elapsed());
        }
        if began.elapsed() > CONVERGE {
            return Err(format!(
                "{} do not converge, among them {}",
                missing.len(),
                missing[..missing.len().min(4)].join(", ")
            ));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn missing(bed: &mut Bed, life: &mut Life) -> Result<Vec<String>> {
    life.look(bed, false).await?;
    let spaces = bed.namespace.spaces().list(&ListParams::default()).await?;
    let by_name: HashMap<&str, _> =
        spaces.iter().filter_map(|space| Some((space.metadata.name.as_deref()?, space))).collect();
    let mut missing = Vec::new();
    // Where people deploy too, a resource says so, and waits for a person.
    for resource in bed.resources.iter().filter(|resource| !resource.shared) {
        let status = by_name.get(resource.name.as_str()).and_then(|space| {
            let status = space.status.as_ref()?;
            (Some(status.observed_generation) == space.metadata.generation).then_some(status)
        });
        let runs = status.is_some_and(|status| {
            status.is_true("Ready") && status.release.as_ref().is_some_and(|release| release.digest == resource.digest)
        });
        if !runs {
            let reason = status.and_then(|status| status.condition("Ready")).map_or("not seen", |ready| &ready.reason);
            missing.push(format!("{} ({reason})", resource.name));
        }
    }
    Ok(missing)
}

/// Judges it all.
pub(crate) async fn judge(
    bed: &Bed,
    (faults, lasted): (&Faults, Duration),
    (life, quiet): (&Life, Duration),
    converged: std::result::Result<Duration, String>,
) -> Result<Verdict> {
    let mut wrong = Vec::new();
    let ledger = bed.simulator.control(Method::GET, "ledger", &Value::Null).await?;
    let deploys: Vec<&Value> = ledger.as_array().into_iter().flatten().collect();
    let ours = deploys.iter().filter(|entry| entry["by"] == "api").count();
    let failed = deploys.iter().filter(|entry| entry["outcome"] == "failed").count();
    let duplicates = duplicates(bed, &deploys);
    wrong.extend(duplicates.iter().map(|duplicate| format!("deployed twice: {duplicate}")));
    wrong.extend(other_content(bed).await?);

    let all: usize = faults.counts.values().sum();
    let by_kind: Vec<String> = faults.counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = all as f64 / lasted.as_secs_f64();
    if rate < FAULTS_A_SECOND {
        wrong.push(format!("{all} faults in {} s are too few", lasted.as_secs()));
    }
    let (memory, grown) = memory(life);
    wrong.extend(grown);
    let (silence, whose) = &life.longest_silence;
    let allowed = allowed_silence(quiet);
    if *silence > allowed {
        wrong.push(format!("{whose} was left alone for {} s", silence.as_secs()));
    }
    let converged = match converged {
        Ok(took) => format!("all that no person touched run what they want, {} s after the last fault", took.as_secs()),
        Err(missing) => {
            wrong.push(missing.clone());
            missing
        }
    };
    let told = told(bed).await?;
    wrong.extend(told.iter().map(|place| format!("a token is in {place}")));
    let lines = vec![
        format!("soak: faults: {all} in {} s, {rate:.2} a second: {}", lasted.as_secs(), by_kind.join(", ")),
        format!("soak: deploys: {ours} by the operator, {failed} of all {} failed", deploys.len()),
        format!("soak: duplicates: {}", duplicates.len()),
        format!("soak: converged: {converged}"),
        format!("soak: memory: {memory}"),
        format!(
            "soak: longest silence: {} s ({whose}), without faults {:.1} s, allowed {} s",
            silence.as_secs(),
            quiet.as_secs_f64(),
            allowed.as_secs()
        ),
        format!("soak: tokens in logs, statuses, Events and metrics: {}", told.len()),
    ];
    Ok(Verdict { lines, wrong })
}

/// A minute; where resources are left alone for longer than usual without any fault, so much longer, at most as much as
/// [`QUIET`] can show.
fn allowed_silence(quiet: Duration) -> Duration {
    LONGEST_SILENCE.mul_f64(quiet.min(QUIET).div_duration_f64(USUAL_SILENCE).max(1.0))
}

/// Digests that were deployed to a Space more than once without a failure in between. Every edit has a digest of its own,
/// so it stands for the generation too, and nobody asked for a second time.
fn duplicates(bed: &Bed, deploys: &[&Value]) -> Vec<String> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for entry in deploys.iter().filter(|entry| entry["by"] == "api" && entry["outcome"] != "failed") {
        let (space, digest) =
            (entry["space"].as_str().unwrap_or_default(), entry["sha256"].as_str().unwrap_or_default());
        *counts.entry((space, digest)).or_default() += 1;
    }
    let by_space: HashMap<&str, _> = bed.resources.iter().map(|resource| (resource.space.as_str(), resource)).collect();
    counts
        .into_iter()
        .filter(|(_, count)| *count > 1)
        .filter_map(|((space, digest), count)| {
            let resource = by_space.get(space).filter(|resource| !resource.shared)?;
            Some(format!("{} {digest} {count} times", resource.name))
        })
        .collect()
}

/// Spaces that run something else than their resource says. Of what the operator packs the trace compares what it tells with
/// what was sent.
async fn other_content(bed: &Bed) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for resource in bed.resources.iter().filter(|resource| !resource.shared) {
        let Some(sent) = &resource.sent else { continue };
        let running = bed.simulator.space(&resource.space).await?["running"].clone();
        let digest = sent.trim_start_matches("sha256:");
        if !running.to_string().contains(digest) {
            wrong.push(format!("{} runs {running}, not {digest}", resource.name));
        }
    }
    Ok(wrong)
}

/// Memory after warm-up, as the median of the first and of the second half of that time, and whether it grew. Peaks count
/// in neither, and a leak counts in each look.
fn memory(life: &Life) -> (String, Option<String>) {
    let ended = life.memory.last().map_or(Duration::ZERO, |(time, _)| *time);
    let warm: Vec<_> = life.memory.iter().filter(|(time, _)| *time >= ended.mul_f64(WARM_UP)).collect();
    if warm.len() < 20 {
        return (format!("{} samples are too few", warm.len()), Some("memory was not measured".to_owned()));
    }
    let (first, second) = warm.split_at(warm.len() / 2);
    let median = |samples: &[&(Duration, u64)]| {
        let mut samples: Vec<u64> = samples.iter().map(|(_, memory)| *memory).collect();
        samples.sort_unstable();
        samples[samples.len() / 2]
    };
    let apart = second[0].0.saturating_sub(first[0].0);
    let (first, second) = (median(first), median(second));
    let mebibytes = |kibibytes: u64| format!("{}.{} MiB", kibibytes >> 10, (kibibytes & 1023) * 10 / 1024);
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let found = GROWTH as f64 / (apart.as_secs_f64() / 60.0);
    let text = format!(
        "{} after warm-up, {} {} s later, over {} s without a restart (at most {} more is allowed: a leak of {found:.0} KiB a minute is found)",
        mebibytes(first),
        mebibytes(second),
        apart.as_secs(),
        ended.as_secs(),
        mebibytes(GROWTH)
    );
    let grown = (second > first + GROWTH).then(|| format!("memory grew: {text}"));
    (text, grown)
}

/// Where a token can be read that nobody may read it in.
async fn told(bed: &Bed) -> Result<Vec<&'static str>> {
    let log = std::fs::read(bed.operator.log()).context("reading the operator's log")?;
    let spaces = bed.namespace.spaces().list(&ListParams::default()).await?;
    let events = bed.namespace.api::<Event>().list(&ListParams::default()).await?;
    let texts = [
        ("the log", String::from_utf8_lossy(&log).into_owned()),
        ("a status", serde_json::to_string(&spaces.items)?),
        ("an Event", serde_json::to_string(&events.items)?),
        ("a metric", bed.operator.metrics().await?),
    ];
    Ok(texts.into_iter().filter(|(_, text)| text.contains(CANARY)).map(|(place, _)| place).collect())
}
