//! What the operator writes: the status of a `KonigleSpace`.
//!
//! Every field but `observedGeneration` may be missing, and no word is trusted to be one of ours: a status written
//! by another version must never make the resource unreadable. Times are RFC 3339 strings in UTC with whole
//! seconds; the remote's times stay exactly as the remote sent them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known of the Space, of what runs in it, and of what is under way.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KonigleSpaceStatus {
    /// The generation of the spec that this status speaks of; -1 before the first pass.
    #[serde(default = "never_observed")]
    pub observed_generation: i64,
    /// kstatus conditions: Stalled, Reconciling, Ready, then the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The remote Space, as it was last seen to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceStatus>,
    /// Where the Space answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The wanted artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactStatus>,
    /// What runs, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseStatus>,
    /// The pair after the end of our own last job, whatever its result; drift is judged against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<PairStatus>,
    /// The highest attempt number ever given out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_attempt: i64,
    /// The write-ahead record of the one release in flight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// On a uat resource: the promotion that needs the uat Space to stay as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
    /// How many attempts of the wanted digest failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: i64,
    /// When the next attempt may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_time: Option<String>,
    /// Digests that used up their attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<Quarantined>,
    /// Ended attempts, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// The last value of the annotation reconcile-at that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The last value of the annotation reset-at that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reset_at: Option<String>,
    /// The last value of the annotation redeploy-at that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_redeploy_at: Option<String>,
}

impl Default for KonigleSpaceStatus {
    fn default() -> Self {
        Self {
            observed_generation: never_observed(),
            conditions: Vec::new(),
            space: None,
            url: None,
            artifact: None,
            release: None,
            settled: None,
            last_attempt: 0,
            attempt: None,
            held_by: None,
            failures: 0,
            next_retry_time: None,
            quarantined: Vec::new(),
            history: Vec::new(),
            last_handled_reconcile_at: None,
            last_handled_reset_at: None,
            last_handled_redeploy_at: None,
        }
    }
}

impl KonigleSpaceStatus {
    /// The condition of this type, if present.
    #[must_use]
    pub fn condition(&self, condition_type: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.condition_type == condition_type)
    }

    /// Whether the condition of this type is present and True.
    #[must_use]
    pub fn is_true(&self, condition_type: &str) -> bool {
        self.condition(condition_type).is_some_and(|condition| condition.status == "True")
    }
}

/// A Kubernetes condition.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its type, such as Ready.
    #[serde(rename = "type")]
    pub condition_type: String,
    /// True, False or Unknown.
    pub status: String,
    /// A word of the closed list in docs/conditions.md.
    pub reason: String,
    /// For people: what is the case, and what to do.
    #[serde(default)]
    pub message: String,
    /// When `status` last changed.
    #[serde(default)]
    pub last_transition_time: String,
    /// The generation that this condition speaks of.
    #[serde(default)]
    pub observed_generation: i64,
}

/// The remote Space in the remote's own words.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct SpaceStatus {
    /// Its id; kept once resolved.
    pub id: String,
    /// uat or production.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub space_type: String,
    /// The id of its web app, where the reply tells it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub webapp: String,
    /// Its own status, such as running.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// Its custom domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub custom_domain: String,
    /// The custom domain's status, such as active.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub custom_domain_status: String,
    /// When it was last deployed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployed_at: Option<String>,
    /// The outcome of that deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployment_status: Option<String>,
}

/// The wanted artifact.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct ArtifactStatus {
    /// Its digest.
    pub digest: String,
    /// What people call it: free text, a tag, or the revision of a source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Where it comes from, where the spec does not name its digest: `registry.example.com/team/shop:v1`,
    /// `GitRepository/shop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The digest of what was published, where the artifact is a folder of it: `digest` is then
    /// `sha256(<sourceDigest> + "\n" + <path>)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<String>,
    /// That folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The size in bytes of the ZIP that is sent, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The ZIP that is sent, once it is known. Decides nothing: another version of the operator may pack otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadStatus>,
    /// How far the download is, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download: Option<TransferStatus>,
}

/// The ZIP that is sent.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct UploadStatus {
    /// The SHA-256 of its bytes.
    pub digest: String,
    /// Its size in bytes.
    pub size: i64,
}

/// How far a transfer is.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct TransferStatus {
    /// The bytes that were transferred.
    pub bytes: i64,
    /// The bytes that there are, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// How much of the total that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i64>,
}

impl TransferStatus {
    /// So many bytes of so many.
    #[must_use]
    pub fn of(bytes: u64, total: Option<u64>) -> Self {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let percent = |total: u64| {
            whole(u64::try_from(u128::from(bytes.min(total)) * 100 / u128::from(total.max(1))).unwrap_or(100))
        };
        Self { bytes: whole(bytes), total: total.map(whole), percent: total.map(percent) }
    }
}

/// What runs in the Space, as far as known.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct ReleaseStatus {
    /// The digest that runs.
    pub digest: String,
    /// Its first 12 digits, for the printer column.
    pub short_digest: String,
    /// Its revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Konigle's id of the deployment.
    #[serde(rename = "deploymentID", skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Konigle's id of the job.
    #[serde(rename = "jobID", skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// When it was recorded as running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed_at: Option<String>,
    /// The Space's `last_deployed_at` at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployed_at_seen: Option<String>,
    /// The Space's `last_deployment_status` at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployment_status_seen: Option<String>,
    /// How it is known.
    pub attribution: Attribution,
}

impl ReleaseStatus {
    /// The pair that was seen when the release was recorded.
    #[must_use]
    pub fn seen(&self) -> PairStatus {
        PairStatus {
            last_deployed_at: self.last_deployed_at_seen.clone(),
            last_deployment_status: self.last_deployment_status_seen.clone(),
        }
    }
}

/// How it is known what runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum Attribution {
    /// Our own job ended in success, and the Space shows it.
    Confirmed,
    /// Our own request is taken to have brought it, without a job that proves that it runs.
    Inferred,
    /// Taken over at first contact without proof.
    #[default]
    Assumed,
    /// A word of another version; proves nothing.
    #[serde(other)]
    Other,
}

/// `last_deployed_at` and `last_deployment_status`, exactly as the server sent them.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct PairStatus {
    /// When the Space was last deployed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployed_at: Option<String>,
    /// The outcome of that deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployment_status: Option<String>,
}

/// The write-ahead record of one release: written before the request, closed with proof.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    /// Unique within the resource; only grows.
    pub number: i64,
    /// Deploy or Promote.
    #[serde(rename = "type")]
    pub attempt_type: AttemptType,
    /// What is released.
    pub digest: String,
    /// Its revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its size in bytes; deploys only. The longest that its upload may take follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The attempt's random marker.
    pub nonce: String,
    /// Why it was started.
    pub cause: Cause,
    /// When it was claimed.
    pub started_at: String,
    /// When its job is overdue.
    pub deadline: String,
    /// Whom the request goes to.
    pub sent_to: SentTo,
    /// What the remote showed before the request.
    pub baseline: Baseline,
    /// How far the upload is; of a large artifact only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<TransferStatus>,
    /// Konigle's id of the deployment.
    #[serde(rename = "deploymentID", skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Konigle's id of the job.
    #[serde(rename = "jobID", skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// The job's status in Konigle's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_status: Option<String>,
    /// The end of the job's log, redacted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<LogTail>,
}

/// What an attempt asks of Konigle.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum AttemptType {
    /// Upload an artifact to a Space.
    #[default]
    Deploy,
    /// Copy what runs in uat to production.
    Promote,
    /// A word of another version.
    #[serde(other)]
    Other,
}

/// Whom a request goes to. Evidence from elsewhere does not count.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct SentTo {
    /// The API's base URL.
    #[serde(rename = "baseURL")]
    pub base_url: String,
    /// The Space that changes by it.
    #[serde(rename = "spaceID")]
    pub space_id: String,
}

/// What the remote showed before the request.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct Baseline {
    /// When the Space was last deployed to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployed_at: Option<String>,
    /// The outcome of that deployment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployment_status: Option<String>,
    /// The newest job's `created_at`, where the API serves a list of jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_job_created_at: Option<String>,
    /// Promotions: the uat side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<BaselineSource>,
}

impl Baseline {
    /// The pair before the request.
    #[must_use]
    pub fn pair(&self) -> PairStatus {
        PairStatus {
            last_deployed_at: self.last_deployed_at.clone(),
            last_deployment_status: self.last_deployment_status.clone(),
        }
    }
}

/// The uat side of a promotion, as it must stay while the promotion runs.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct BaselineSource {
    /// The uat resource.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its Space.
    #[serde(rename = "spaceID")]
    pub space_id: String,
    /// What it runs.
    pub digest: String,
    /// Its Space's `last_deployed_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployed_at: Option<String>,
    /// Its Space's `last_deployment_status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_deployment_status: Option<String>,
}

impl BaselineSource {
    /// The uat Space's pair, as it must stay.
    #[must_use]
    pub fn pair(&self) -> PairStatus {
        PairStatus {
            last_deployed_at: self.last_deployed_at.clone(),
            last_deployment_status: self.last_deployment_status.clone(),
        }
    }
}

/// The end of a job's log.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct LogTail {
    /// The last 20 lines, at most 4 KiB.
    pub lines: Vec<String>,
    /// How many lines the whole log has.
    pub count: i64,
}

/// The promotion that holds a uat resource.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldBy {
    /// The promoting resource.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The number of its attempt.
    pub attempt: i64,
    /// The nonce of its attempt.
    pub nonce: String,
    /// The promotion's job, once known.
    #[serde(rename = "jobID", skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
}

/// A digest that used up its attempts.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct Quarantined {
    /// The digest.
    pub digest: String,
    /// Why, as a reason word.
    pub reason: String,
    /// Since when.
    pub time: String,
}

/// One ended attempt.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase", default)]
pub struct HistoryEntry {
    /// The attempt's number.
    pub number: i64,
    /// Deploy or Promote.
    #[serde(rename = "type")]
    pub attempt_type: AttemptType,
    /// What was released.
    pub digest: String,
    /// Its revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Konigle's id of the deployment.
    #[serde(rename = "deploymentID", skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Konigle's id of the job.
    #[serde(rename = "jobID", skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// How it ended.
    pub result: AttemptResult,
    /// Why it was started.
    pub cause: Cause,
    /// What is to be said of its end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it was claimed.
    pub started_at: String,
    /// When it was closed.
    pub completed_at: String,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum AttemptResult {
    /// It took effect.
    Succeeded,
    /// It took effect and failed, or was refused for good.
    Failed,
    /// Nothing was sent, or it was refused for now.
    NotSent,
    /// It was sent or may have been sent, and nothing tells what became of it.
    #[default]
    #[serde(other)]
    Unknown,
}

impl AttemptType {
    /// The word in the status; that of another version counts as a deploy.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Deploy | Self::Other => "Deploy",
            Self::Promote => "Promote",
        }
    }
}

impl AttemptResult {
    /// The word in the status.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
            Self::NotSent => "NotSent",
        }
    }
}

/// Why an attempt was started.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The spec, or the promoted resource, asks for another digest.
    #[default]
    Spec,
    /// The attempt before failed.
    Retry,
    /// Somebody else deployed to the Space.
    Drift,
    /// The annotation reset-at.
    Reset,
    /// The annotations redeploy-at or resolve-attempt.
    Person,
    /// A word of another version.
    #[serde(other)]
    Other,
}

/// A word in the schema is any string: nothing in the status may refuse a write.
macro_rules! any_string {
    ($($word:ty),*) => {$(
        impl JsonSchema for $word {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($word).into()
            }
            fn inline_schema() -> bool {
                true
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    )*};
}
any_string!(Attribution, AttemptType, AttemptResult, Cause);

fn never_observed() -> i64 {
    -1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}
