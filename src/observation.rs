//! The facts of one pass: all that the planner may know.
//!
//! Types only, gathered by [`crate::observe`], read by [`crate::judge`] and [`crate::plan`]. That something could not
//! be observed is a fact too, never an error. Durations are measured by the monotonic clock of this process, and start
//! anew with it; `now` is the wall clock and serves for records, deadlines shown to people, and never as proof.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::{Attempt, BaselineSource, PairStatus, SpaceStatus, TransferStatus};
use crate::artifact::{Digest, FetchError};
use crate::commands::Named;
use crate::konigle::Answer;
use crate::konigle::model::Job;
use crate::origin::ArtifactName;
use crate::reason::Reason;

/// The facts of one pass.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The resource's own name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
    /// The wall clock.
    pub now: Timestamp,
    /// When the resource was made, by the clock of the API server.
    pub created_at: Option<Timestamp>,
    /// How long a request may still take effect after its connection ended.
    pub settle: Duration,
    /// The account that the Secret names.
    pub account: Result<AccountFacts, Problem>,
    /// The remote Space. `None`: nothing needed it in this pass.
    pub space: Option<Result<SpaceFacts, LookError>>,
    /// Another resource for the same Space that goes before this one, as `namespace/name`: it has an open attempt, or it
    /// is older.
    pub conflict: Option<String>,
    /// How long looks at the Space have failed without a break.
    pub failing_for: Duration,
    /// How long the API has answered 401 without a break.
    pub unauthorized_for: Option<Duration>,
    /// What is known of the open attempt.
    pub attempt: Option<AttemptFacts>,
    /// The last ended attempt's job that is known; looked at only where the pair moved since. `None`: there is none, or
    /// Konigle does not know it any more.
    pub last_job: Option<JobTimes>,
    /// What the origin of the wanted artifact names now, where the spec itself does not tell.
    pub origin: OriginFacts,
    /// The wanted artifact.
    pub artifact: ArtifactFacts,
    /// How far its download is.
    pub download: Option<DownloadFacts>,
    /// Promotions: the uat resource.
    pub source: Option<SourceFacts>,
    /// Promotions: whether the two Spaces are proven to be of one web app.
    pub pair: PairProof,
    /// uat resources: who holds it, where somebody does.
    pub holder: Option<HolderFacts>,
    /// uat resources: those of the namespace that promote from it and have an open attempt.
    pub promotions: Vec<String>,
    /// Others, deleted ones included, with an open attempt on this Space or on the other half of its pair.
    pub rivals: Vec<String>,
    /// An open attempt on this Space that this process knows of, and the status does not: of a resource that is gone, or
    /// from before the status was lost.
    pub predecessor: Option<Predecessor>,
    /// The last refusal of a request in this process, with how often in a row.
    pub refusal: Option<Refusal>,
    /// The newest job's `created_at`, where the API serves the list of jobs.
    pub newest_job: Option<String>,
}

impl Observation {
    /// The facts of a pass that has not looked at anything yet: whose it is, when, and how long a request may take effect.
    #[must_use]
    pub fn unlooked(name: String, namespace: String, uid: String, (now, settle): (Timestamp, Duration)) -> Self {
        Self {
            name,
            namespace,
            uid,
            now,
            created_at: None,
            settle,
            account: Err(Problem { reason: Reason::SecretNotFound, message: String::new() }),
            space: None,
            conflict: None,
            failing_for: Duration::ZERO,
            unauthorized_for: None,
            attempt: None,
            last_job: None,
            origin: OriginFacts::NotLooked,
            artifact: ArtifactFacts::Absent,
            download: None,
            source: None,
            pair: PairProof::NotLooked,
            holder: None,
            promotions: Vec::new(),
            rivals: Vec::new(),
            predecessor: None,
            refusal: None,
            newest_job: None,
        }
    }

    /// The Space, if it was looked at and seen.
    #[must_use]
    pub fn space_seen(&self) -> Option<&SpaceFacts> {
        self.space.as_ref()?.as_ref().ok()
    }

    /// The resource, as commands name it.
    #[must_use]
    pub fn named(&self) -> Named<'_> {
        Named { namespace: &self.namespace, name: &self.name }
    }

    /// The pair that it showed.
    #[must_use]
    pub fn pair_seen(&self) -> Option<PairStatus> {
        self.space_seen().map(SpaceFacts::pair)
    }
}

/// The account, without its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountFacts {
    /// Where the API is.
    pub base_url: String,
    /// Who says so.
    pub named_by: NamedBy,
}

/// Who named a base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The operator's own flag.
    Flag,
    /// The Secret.
    Secret,
    /// Nobody that could be asked: the Secret was not read. It is the one of the open attempt, if there is one.
    Nobody,
}

/// A reason with its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The word.
    pub reason: Reason,
    /// For people: what is the case, and what to do.
    pub message: String,
}

/// The remote Space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpaceFacts {
    /// Its fields, as they go into the status.
    pub status: SpaceStatus,
    /// Where it answers.
    pub url: Option<String>,
}

impl SpaceFacts {
    /// The pair that tells of the last deployment.
    #[must_use]
    pub fn pair(&self) -> PairStatus {
        PairStatus {
            last_deployed_at: self.status.last_deployed_at.clone(),
            last_deployment_status: self.status.last_deployment_status.clone(),
        }
    }
}

/// Why a look at the remote brought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookError {
    /// 401.
    Unauthorized(String),
    /// 403.
    Forbidden(String),
    /// 404, or no Space of those names.
    NotFound(String),
    /// The names fit several Spaces.
    Ambiguous(String),
    /// The names now lead to another Space.
    Changed(String),
    /// The base URL of the Secret stands for an address that a token must not go to: no request was made.
    BaseUrl(String),
    /// 429, or the account still waits after one.
    RateLimited(String),
    /// Everything that may pass by itself: no connection, time-out, 5xx, a reply that makes no sense.
    Unavailable(String),
}

/// What is known of the open attempt.
#[derive(Clone, Debug, Default)]
pub struct AttemptFacts {
    /// How long this process has known the attempt.
    pub seen_for: Duration,
    /// The answer to its request and how long ago it came, where this process sent it.
    pub answer: Option<(Duration, Answer)>,
    /// Its job. `None`: its id is not known, or its job was not looked at.
    pub job: Option<Result<Job, LookError>>,
    /// How long its job has been read as ended.
    pub job_ended_for: Duration,
    /// How long its job has been answered with 404.
    pub job_missing_for: Duration,
    /// A job that shows the attempt's nonce.
    pub job_with_nonce: Option<String>,
    /// Whether the list of jobs is served, and has shown for settle that every job born since the baseline has ended.
    pub later_jobs_ended: bool,
    /// Promotions: the uat side now.
    pub source: Option<Result<BaselineSource, LookError>>,
}

/// When a job began and ended, by the server's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobTimes {
    /// When it was made.
    pub created_at: Option<String>,
    /// When it ended.
    pub completed_at: Option<String>,
}

/// What the origin of a wanted artifact names now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OriginFacts {
    /// The spec itself tells, or it is a promotion.
    #[default]
    NotLooked,
    /// This.
    Named(ArtifactName),
    /// It could not be told now.
    Unnamed {
        /// Why.
        problem: Problem,
        /// What it was when it could be told last, by the same spec.
        last: Option<ArtifactName>,
        /// It is being looked up right now.
        looking: bool,
    },
}

/// A download that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadFacts {
    /// How far it is.
    pub progress: TransferStatus,
    /// How long it has run.
    pub running_for: Duration,
}

/// The wanted artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ArtifactFacts {
    /// Not looked for, or not there yet.
    #[default]
    Absent,
    /// On its way.
    Downloading,
    /// On disk, and its digest and contents are checked.
    Checking,
    /// On disk and checked, and is packed into the ZIP that is sent.
    Packing,
    /// On its way once more, after it could not be fetched.
    Retrying,
    /// On disk, its digest and contents checked.
    OnDisk {
        /// What would be sent: the digest of the ZIP.
        upload: Digest,
        /// Its size in bytes.
        size: u64,
    },
    /// It could not be fetched.
    Failed {
        /// Why.
        error: FetchError,
        /// How long ago.
        ago: Duration,
        /// How often in a row.
        times: u32,
    },
    /// The Secret with the credentials of its host cannot be used.
    Unreadable(Problem),
}

/// An open attempt that no status tells of any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Whose it was, as `namespace/name`.
    pub resource: String,
    /// That resource's UID.
    pub uid: String,
    /// The attempt as it was last seen.
    pub attempt: Attempt,
}

/// Whether the uat and the production Space are proven to be of one web app. A promotion names no target of its own, so
/// without that proof nothing is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PairProof {
    /// No promotion is due.
    #[default]
    NotLooked,
    /// They are.
    Proven,
    /// They are not, or nothing proves it.
    NotProven(String),
    /// It could not be looked up now.
    Unavailable(String),
}

/// The uat resource of a promotion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceFacts {
    /// Whether it exists, as far as this operator sees; all else is empty where it does not.
    pub exists: bool,
    /// It is there, and what it says cannot be read; all else is as if it were not.
    pub unreadable: bool,
    /// Its UID.
    pub uid: String,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its status.
    pub status: crate::api::KonigleSpaceStatus,
}

/// Who holds a uat resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderFacts {
    /// What the holder is now, read live. `None`: it could not be read.
    pub holder: Option<Holder>,
    /// How long this process has known the hold.
    pub seen_for: Duration,
    /// How long a job of the holder may run, where it was ever read.
    pub timeout: Option<Duration>,
    /// Whether the promotion's job has ended, where it could be read.
    pub job_ended: Option<bool>,
}

/// What the holder of a uat resource is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The same resource, with the attempt that took the hold.
    Promoting {
        /// Its job's id, once known.
        job_id: Option<String>,
    },
    /// The same resource, without that attempt.
    Done,
    /// Deleted, or another of the same name.
    Gone,
}

/// A refusal of the one write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it was.
    pub problem: Problem,
    /// How often in a row.
    pub times: u32,
}
