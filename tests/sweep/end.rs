//! What a run came to, and whether that is what a run without a fault comes to (Sieve's differential oracle: the end
//! state, and the number of writes).

use std::fmt;
use std::path::PathBuf;

use konigle_operator::api::{AttemptResult, Attribution, KonigleSpaceStatus, RELEASED, UploadStatus};
use konigle_operator::released::Released;
use kube::ResourceExt;
use reqwest::Method;
use serde_json::Value;

use crate::case::{Case, Losses, Run, TRIES};
use crate::flow::Flow;
use crate::scene::Scene;
use crate::support::recording::Recording;
use crate::support::{Failure, Result};

/// How many more status writes a restart may cost for each resource: what it says anew of what it finds.
const WRITES_A_RESTART: usize = 1;
/// How many more a request may cost of which nobody knows what became of it: that this is waited for, and the claim and
/// the receipt of the attempt after it.
const WRITES_A_LOSS: usize = 3;
/// And for a promotion: its hold, and that it is let go.
const WRITES_A_HOLD: usize = 2;
/// And a claim that is given up before anything is sent, as rivals do by chance: the claim, and its end.
const WRITES_A_RETREAT: usize = 2;

/// What a run came to.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// The resource whose wish was to be met.
    status: KonigleSpaceStatus,
    /// Conditions of all resources, as `place type=status reason`.
    conditions: Vec<String>,
    /// What Konigle accepted for the Space.
    ledger: Vec<Value>,
    /// What Konigle accepted for all Spaces.
    accepted: usize,
    /// Requests to deploy and promote that reached Konigle.
    pub(crate) posts: usize,
    /// Versions of the resources since the wish was applied, but for those that tell how far a transfer or a job is.
    pub(crate) status_writes: usize,
    /// How often the resources' Events were told.
    events: usize,
    /// The ZIP that was sent of its artifact, as its status has it.
    upload: Option<UploadStatus>,
    /// Files of its artifacts that are not whole.
    partials: Vec<PathBuf>,
    /// What was noted on the resource whose wish was to be met.
    released: Option<String>,
    pub(crate) losses: Losses,
    /// Claims that were given up before anything was sent.
    retreats: usize,
}

impl End {
    pub(crate) async fn of(flow: Flow, scene: &Scene, recordings: &[Recording], losses: Losses) -> Result<Self> {
        let mut spaces = scene.resources(flow).await?;
        // The one whose wish was to be met goes last; of rivals the one that was not refused, whichever it is.
        spaces.sort_by_key(|space| {
            let has_released = space.status.as_ref().is_some_and(|status| status.release.is_some());
            (space.name_any() == flow.resource(), has_released)
        });
        let mut conditions = Vec::new();
        for (place, status) in spaces.iter().enumerate().filter_map(|(place, it)| Some((place, it.status.as_ref()?))) {
            conditions.extend(status.conditions.iter().map(|condition| {
                format!("{place} {}={} {}", condition.condition_type, condition.status, condition.reason)
            }));
        }
        let histories = spaces.iter().filter_map(|space| space.status.as_ref()).flat_map(|status| &status.history);
        let retreats = histories.filter(|entry| entry.result == AttemptResult::NotSent).count();
        let mut status_writes = 0;
        for recording in recordings {
            for name in flow.resources() {
                let statuses: Vec<_> = recording.statuses(name).await?.into_iter().map(without_progress).collect();
                status_writes += statuses.windows(2).filter(|pair| pair[0] != pair[1]).count();
            }
        }
        let last = spaces.pop().ok_or_else(|| Failure::new("the resource is gone"))?;
        let simulator = &scene.stage.simulator;
        let all = simulator.control(Method::GET, "ledger", &Value::Null).await?;
        Ok(Self {
            upload: last.status.as_ref().and_then(|status| status.artifact.as_ref()?.upload.clone()),
            partials: scene.stage.operator.partials()?,
            released: last.annotations().get(RELEASED).cloned(),
            status: last.status.unwrap_or_default(),
            conditions,
            ledger: simulator.ledger(flow.space()).await?,
            accepted: all.as_array().map_or(0, Vec::len),
            posts: simulator.requests().await?["posts"].as_array().map_or(0, Vec::len),
            status_writes,
            events: scene.events(flow).await?,
            losses,
            retreats,
        })
    }

    /// The results of what may have been sent: on a busy machine a claim may outlive its fence, and is then given up.
    fn results(&self) -> Vec<AttemptResult> {
        let results = self.status.history.iter().map(|entry| entry.result);
        results.filter(|result| *result != AttemptResult::NotSent).collect()
    }

    /// How many status writes, and how many Events, the crashes of this case may cost.
    fn may_cost(&self, case: &Case, expected: &Self) -> usize {
        let hold = if case.flow == Flow::Promote { WRITES_A_HOLD } else { 0 };
        let retreats = self.retreats.saturating_sub(expected.retreats);
        let losses = self.losses.receipts + usize::from(self.losses.memory);
        case.crashes.len() * case.flow.count() * WRITES_A_RESTART
            + losses * (WRITES_A_LOSS + hold)
            + retreats * WRITES_A_RETREAT
    }

    /// How many requests Konigle accepted beyond the one.
    pub(crate) fn duplicates(&self) -> usize {
        self.ledger.len().saturating_sub(1)
    }

    fn is_inferred(&self) -> bool {
        self.status.release.as_ref().is_some_and(|release| release.attribution == Attribution::Inferred)
    }

    /// The conditions that must be those of a run without a fault. Not the one whose reason says that no job was read, where
    /// none was; and not what a refused rival says of a release, where a crash left its claim open: then it has a past, in
    /// which the other's deploy is drift.
    fn conditions(&self, flow: Flow, inferred: bool, claimed: bool) -> Vec<&String> {
        let is_due = |text: &&String| {
            let of_refused = flow == Flow::Rivals && text.starts_with("0 ");
            let of_release = text.contains(" Deployed=") || text.contains(" Drifted=");
            !(inferred && text.contains(" ContentVerified=") || claimed && of_refused && of_release)
        };
        self.conditions.iter().filter(is_due).collect()
    }
}

/// A status without how far a transfer or a job is: how often that is told, and which states of a job are seen, depends on
/// the machine.
fn without_progress(mut status: KonigleSpaceStatus) -> KonigleSpaceStatus {
    if let Some(artifact) = &mut status.artifact {
        artifact.download = None;
    }
    if let Some(attempt) = &mut status.attempt {
        attempt.upload = None;
        attempt.job_status = None;
        attempt.log = None;
    }
    let goes_on = ["Downloading", "DeployRunning", "PromotionRunning"];
    for condition in status.conditions.iter_mut().filter(|condition| goes_on.contains(&condition.reason.as_str())) {
        condition.message.clear();
    }
    status
}

impl Run {
    /// Whether this run came to the same end as the one without a fault.
    pub(crate) fn judge(&self, case: &Case, reference: &Run) -> Result<()> {
        let mut wrong = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        // How often a point is passed beyond the first time depends on how many passes the machine fits into a job, and
        // which points come after a crash on what was in flight at it. A pair that misses one is told, and few may
        // (`enough`).
        let must_pass = matches!(&case.crashes[..], [point] if point.hit == 1);
        must(self.missed == 0 || !must_pass, format!("the point was not passed, in {TRIES} runs"));
        self.judge_requests(case.crashes.len(), &reference.end, &mut must);
        let (writes, limit) =
            (self.end.status_writes, reference.end.status_writes + self.end.may_cost(case, &reference.end));
        must(writes <= limit, format!("{writes} status writes, at most {limit} may be"));
        let (events, limit) = (self.end.events, reference.end.events + self.end.may_cost(case, &reference.end));
        must(events <= limit, format!("{events} Events, at most {limit} may be"));
        self.judge_history(case.crashes.len(), &reference.end, &mut must);
        self.judge_release(&reference.end, &mut must);
        self.judge_files(&reference.end, &mut must);
        let end = &self.end;
        let conditions = |of: &End| -> Vec<String> {
            let due = of.conditions(case.flow, end.is_inferred(), end.losses.receipts > 0);
            due.into_iter().cloned().collect()
        };
        let (found, expected) = (conditions(end), conditions(&reference.end));
        must(found == expected, format!("conditions {found:?}, not {expected:?}"));
        if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("\n"))) }
    }

    /// One accepted request, and no more sent than the crashes explain.
    fn judge_requests(&self, crashes: usize, expected: &End, must: &mut impl FnMut(bool, String)) {
        let end = &self.end;
        // Rule 10: what was made anew while nobody knew of the job any more may deploy once more.
        let limit = 1 + usize::from(end.losses.memory);
        must((1..=limit).contains(&end.ledger.len()), format!("{limit} may be accepted, not {:?}", end.ledger));
        let (found, beside) = (end.accepted - end.ledger.len(), expected.accepted - expected.ledger.len());
        must(found == beside, format!("{found} requests were accepted for other Spaces, not {beside}"));
        let posts = expected.posts + crashes;
        must(end.posts <= posts, format!("{} requests were sent, at most {posts} may be", end.posts));
    }

    /// The same history; a crash that lost a receipt may have left one attempt more, whose outcome nobody knows.
    fn judge_history(&self, crashes: usize, expected: &End, must: &mut impl FnMut(bool, String)) {
        let (found, expected) = (self.end.results(), expected.results());
        if self.end.losses.receipts == 0 {
            return must(found == expected, format!("history {found:?}, not {expected:?}, though no receipt was lost"));
        }
        let unknown = found.iter().skip(1).all(|result| *result == AttemptResult::Unknown);
        let right = found.first() == Some(&AttemptResult::Succeeded) && unknown;
        must(
            right && found.len() <= expected.len() + crashes,
            format!("history {found:?}, without a fault {expected:?}"),
        );
    }

    /// Every process makes the same ZIP of an artifact, that is what was sent, and none leaves a file that is not whole.
    fn judge_files(&self, expected: &End, must: &mut impl FnMut(bool, String)) {
        let End { upload, partials, ledger, .. } = &self.end;
        must(*upload == expected.upload, format!("upload {upload:?}, without a fault {:?}", expected.upload));
        if let Some(upload) = upload {
            let sent = ledger.iter().map(|entry| format!("sha256:{}", entry["sha256"].as_str().unwrap_or_default()));
            let sent: Vec<String> = sent.collect();
            must(sent.iter().all(|sent| *sent == upload.digest), format!("{sent:?} was sent, not {}", upload.digest));
        }
        must(partials.is_empty(), format!("files that are not whole: {partials:?}"));
    }

    /// The release: what was wished for, and known as well as it can be.
    fn judge_release(&self, expected: &End, must: &mut impl FnMut(bool, String)) {
        let end = &self.end;
        let (Some(release), Some(wanted)) = (&end.status.release, &expected.status.release) else {
            return must(false, "there is no release".to_owned());
        };
        must(release.digest == wanted.digest, format!("release {}", release.digest));
        let noted = Released::of(&end.status).map(|released| released.to_string());
        must(noted.is_some() && noted == end.released, format!("{:?} is noted, not {noted:?}", end.released));
        let job = end.ledger.last().and_then(|entry| entry["job"].as_str());
        let right = match release.attribution {
            Attribution::Confirmed => release.job_id.as_deref() == job,
            Attribution::Inferred => end.losses.receipts > 0 || expected.is_inferred(),
            _ => false,
        };
        must(right, format!("attribution {:?}, job {:?}, accepted {job:?}", release.attribution, release.job_id));
    }
}

impl fmt::Display for Run {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let End { posts, status_writes, events, .. } = &self.end;
        write!(formatter, "{posts} requests, {status_writes} status writes, {events} Events")
    }
}
