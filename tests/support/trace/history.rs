//! What a trace holds: versions of resources, POSTs, jobs. Values only; `properties` judges them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use konigle_operator::api::{
    Attempt, AttemptType, KonigleSpaceStatus, REDEPLOY_AT, RELEASED, RESET_AT, RESOLVE_ATTEMPT,
};
use konigle_operator::judge::is_first_contact;
use konigle_operator::released::Released;
use serde::Serialize;
use serde_json::Value;

use super::promotions;

/// Everything that is known of one test.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// Of each namespace in the order in which the API server stored them.
    pub(crate) versions: Vec<Version>,
    pub(crate) posts: Vec<Post>,
    pub(crate) jobs: Vec<Job>,
    /// The web app of each Space, by simulator.
    pub(crate) webapps: BTreeMap<(usize, String), String>,
    /// The operators that were started.
    pub(crate) lives: Vec<Life>,
    /// Where versions may be missing, for a watch had to begin anew. What rests on their order is not judged then.
    pub(crate) gaps: Vec<String>,
    /// What else could not be read.
    pub(crate) unread: Vec<String>,
    /// Operators that ended by themselves, and nobody looked.
    pub(crate) deaths: Vec<String>,
    /// How much later than it happened a Space shows what happened, in milliseconds.
    pub(crate) read_lag_ms: f64,
}

/// One process of the operator, by the machine's clock.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) begun_ms: f64,
    /// When it said that it was ready, where a test waited for that.
    pub(crate) ready_ms: Option<f64>,
    /// When a test ended it; one that ended by itself has none.
    pub(crate) ended_ms: Option<f64>,
    /// Its `--unknown-outcome-settle`.
    pub(crate) settle: Duration,
}

/// How a version came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// By a watch, which shows each as it is stored.
    Watched,
    /// By the list after a gap: what it holds may have stood in versions that are missing.
    Listed,
    /// It is the last one: the resource was deleted.
    Deleted,
}

/// One stored version of a `KonigleSpace`, or its deletion.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// In whole seconds.
    pub(crate) created_ms: f64,
    /// Its resource version.
    pub(crate) stored_as: String,
    pub(crate) generation: i64,
    /// When the watch showed it, in milliseconds since the epoch: later than it was stored.
    pub(crate) seen_ms: f64,
    /// In whole seconds the time of its newest managed fields, in milliseconds: not later than it was stored.
    pub(crate) stored_ms: f64,
    pub(crate) shown: Shown,
    pub(crate) retry_limit: i64,
    /// The annotations that ask for a release, as `key=value`.
    pub(crate) requests: Vec<String>,
    /// What the operator noted on it of its last release.
    pub(crate) released: Option<Released>,
    /// Whether what runs at first contact is taken for what is wanted.
    pub(crate) assumes_current: bool,
    /// Whether nothing was ever recorded of the Space.
    pub(crate) is_new: bool,
    /// Without texts that no property speaks of.
    pub(crate) status: KonigleSpaceStatus,
    /// Why the status could not be read.
    pub(crate) unread: Option<String>,
    /// The length of the whole status as JSON, in bytes.
    pub(crate) status_bytes: usize,
}

/// A POST as the simulator saw it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Post {
    /// Which simulator: each start counts.
    pub(crate) run: usize,
    pub(crate) operation: String,
    /// The Space in its path.
    pub(crate) object: String,
    pub(crate) arrived_ms: f64,
    pub(crate) display_name: Option<String>,
    pub(crate) job: Option<String>,
    pub(crate) status: Option<u64>,
}

/// An entry of a ledger.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Job {
    pub(crate) run: usize,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) by_person: bool,
    pub(crate) space: String,
    pub(crate) sha256: Option<String>,
    pub(crate) display_name: Option<String>,
    /// By the simulator's clock, as `ended`.
    pub(crate) time: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    /// Since when others can see its end, by the machine's clock.
    pub(crate) ended_ms: Option<f64>,
    pub(crate) outcome: Option<String>,
}

/// What the versions of a resource tell of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) created_ms: f64,
    pub(crate) attempt: Attempt,
    /// Of the version that showed it first.
    pub(crate) generation: i64,
    pub(crate) retry_limit: i64,
    pub(crate) requests: Vec<String>,
    pub(crate) stored_ms: f64,
    pub(crate) seen_ms: f64,
    /// The place of that version among all.
    pub(crate) place: usize,
    /// Whether a version that is missing may have shown it first.
    pub(crate) after_gap: bool,
    /// Whether a version showed it before it had a job.
    pub(crate) was_open: bool,
    /// The version that first told its job.
    pub(crate) told_at: Option<usize>,
    /// The version that no longer held it.
    pub(crate) closed_at: Option<usize>,
    /// When that version was seen.
    pub(crate) closed_ms: Option<f64>,
    /// Whether it was said that its outcome stays unknown: others do not wait for it then.
    pub(crate) is_undecided: bool,
    pub(crate) jobs: BTreeSet<String>,
    /// The places of its requests among all.
    pub(crate) posts: Vec<usize>,
    /// What the resource knew of the Space before it.
    pub(crate) contact: Contact,
}

/// What a resource knew of its Space when it made an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contact {
    /// Something was recorded.
    Recorded,
    /// Nothing was recorded, and the annotation says that the very digest runs.
    Noted,
    /// Nothing was recorded, and what runs was to be taken for what is wanted.
    Assumed,
    /// Nothing was recorded, and the policy is to deploy.
    New,
}

impl Trace {
    /// All attempts by their nonces.
    pub(crate) fn claims(&self) -> BTreeMap<String, Claim> {
        let mut claims: BTreeMap<String, Claim> = BTreeMap::new();
        // The version before, of each resource.
        let mut last: BTreeMap<&str, &Version> = BTreeMap::new();
        for (place, version) in self.versions.iter().enumerate().filter(|(_, version)| !version.is_deleted()) {
            let open = version.status.attempt.as_ref();
            let before = last.insert(version.uid.as_str(), version);
            if let Some(closed) = before.and_then(|before| before.status.attempt.as_ref())
                && open.is_none_or(|attempt| attempt.nonce != closed.nonce)
                && let Some(claim) = claims.get_mut(&closed.nonce)
            {
                claim.closed_at.get_or_insert(place);
                claim.closed_ms.get_or_insert(version.seen_ms);
            }
            let Some(attempt) = open else { continue };
            let claim = claims
                .entry(attempt.nonce.clone())
                .or_insert_with(|| Claim::new((place, version), attempt, Contact::of(before, attempt)));
            claim.jobs.extend(attempt.job_id.clone());
            if attempt.job_id.is_some() {
                claim.told_at.get_or_insert(place);
            }
            let stalled = version.status.condition("Stalled");
            claim.is_undecided |= stalled.is_some_and(|stalled| stalled.reason == "OutcomeUnknown");
        }
        let mut unnamed = Vec::new();
        for (place, post) in self.posts.iter().enumerate() {
            match claims.values_mut().find(|claim| claim.is_told_of(post)) {
                Some(claim) => claim.posts.push(place),
                None => unnamed.push(place),
            }
        }
        // A version that is missing may have held the claim.
        if !self.has_gaps() {
            promotions::ascribe(self, &mut claims, unnamed);
        }
        claims
    }

    /// Whether versions may be missing.
    pub(crate) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// The deletion of the resource with this UID, and its place among the versions.
    pub(crate) fn deletion(&self, uid: &str) -> Option<(usize, &Version)> {
        self.versions.iter().enumerate().find(|(_, version)| version.is_deleted() && version.uid == uid)
    }

    /// The requests of a claim: those of a deploy by their nonce, those of a promotion by their job, or else by their order.
    pub(crate) fn posts_of<'a>(&'a self, claim: &'a Claim) -> impl Iterator<Item = &'a Post> {
        claim.posts.iter().map(|place| &self.posts[*place])
    }

    /// Whether these are one Space, or the two of one web app.
    pub(crate) fn is_one_pair(&self, one: &str, other: &str) -> bool {
        let webapp = |run: usize, space: &str| self.webapps.get(&(run, space.to_owned()));
        one == other
            || self.webapps.iter().any(|((run, space), name)| space == one && webapp(*run, other) == Some(name))
    }

    /// The job with this id.
    pub(crate) fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    /// Whether this job sent what is called `digest`: that very file, or the one ZIP that every status names for it.
    pub(crate) fn sent(&self, job: &Job, digest: &str) -> bool {
        if job.digest() == digest {
            return true;
        }
        let artifacts = self.versions.iter().filter_map(|version| version.status.artifact.as_ref());
        let named =
            artifacts.filter(|artifact| artifact.digest == digest).filter_map(|artifact| artifact.upload.as_ref());
        let uploads: BTreeSet<&str> = named.map(|upload| upload.digest.as_str()).collect();
        uploads == BTreeSet::from([job.digest().as_str()])
    }

    /// The web app of a Space, or the Space where that is not known.
    pub(crate) fn pair_of(&self, run: usize, space: &str) -> (usize, String) {
        (run, self.webapps.get(&(run, space.to_owned())).map_or(space, String::as_str).to_owned())
    }

    /// The claims and jobs that belong together: by the name of a deploy, by the receipt of a promotion, or by its request.
    pub(crate) fn claimed_jobs<'a>(&'a self, claims: &'a BTreeMap<String, Claim>) -> Vec<(&'a Claim, &'a Job)> {
        let claim_of = |job: &Job| {
            let named = job.display_name.as_deref().and_then(nonce_of).and_then(|nonce| claims.get(nonce));
            let is_its_post = |post: &Post| post.run == job.run && post.job.as_ref() == Some(&job.id);
            let sent = |claim: &&Claim| self.posts_of(claim).any(is_its_post);
            named
                .or_else(|| claims.values().find(|claim| claim.jobs.contains(&job.id)))
                .or_else(|| claims.values().find(sent))
        };
        self.jobs.iter().filter(|job| !job.by_person).filter_map(|job| Some((claim_of(job)?, job))).collect()
    }
}

impl Claim {
    fn new((place, version): (usize, &Version), attempt: &Attempt, contact: Contact) -> Self {
        Self {
            namespace: version.namespace.clone(),
            uid: version.uid.clone(),
            name: version.name.clone(),
            created_ms: version.created_ms,
            attempt: attempt.clone(),
            generation: version.generation,
            retry_limit: version.retry_limit,
            requests: version.requests.clone(),
            stored_ms: version.stored_ms,
            seen_ms: version.seen_ms,
            place,
            after_gap: version.shown == Shown::Listed,
            was_open: attempt.job_id.is_none(),
            told_at: None,
            closed_at: None,
            closed_ms: None,
            is_undecided: false,
            jobs: BTreeSet::new(),
            posts: Vec::new(),
            contact,
        }
    }

    /// Where it was sent to.
    pub(crate) fn base_url(&self) -> &str {
        &self.attempt.sent_to.base_url
    }

    /// The Space that it changes.
    pub(crate) fn space(&self) -> &str {
        &self.attempt.sent_to.space_id
    }

    /// Whether this request bears its nonce, or was taken on with its job.
    pub(crate) fn is_told_of(&self, post: &Post) -> bool {
        let nonce = post.display_name.as_deref().and_then(nonce_of);
        nonce == Some(self.attempt.nonce.as_str()) || post.job.as_ref().is_some_and(|job| self.jobs.contains(job))
    }

    pub(crate) fn is_promotion(&self) -> bool {
        self.attempt.attempt_type == AttemptType::Promote
    }

    /// The Space in the path of its request.
    pub(crate) fn target(&self) -> &str {
        match &self.attempt.baseline.source {
            Some(source) if self.is_promotion() => &source.space_id,
            _ => self.space(),
        }
    }
}

impl Contact {
    /// By the version that was there before the claim of this attempt.
    fn of(before: Option<&Version>, attempt: &Attempt) -> Self {
        let Some(before) = before.filter(|before| before.is_new) else { return Self::Recorded };
        let shown = attempt.baseline.last_deployed_at.as_ref();
        let is_noted = |noted: &Released| {
            noted.space_id == attempt.sent_to.space_id
                && noted.digest == attempt.digest
                && Some(&noted.last_deployed_at) == shown
        };
        match () {
            () if before.released.as_ref().is_some_and(is_noted) => Self::Noted,
            () if before.assumes_current && shown.is_some() => Self::Assumed,
            () => Self::New,
        }
    }
}

impl Life {
    /// Whether it may have acted at this moment.
    pub(crate) fn covers(&self, moment_ms: f64) -> bool {
        self.begun_ms <= moment_ms && self.ended_ms.is_none_or(|ended| moment_ms <= ended)
    }
}

impl Version {
    pub(crate) fn is_deleted(&self) -> bool {
        self.shown == Shown::Deleted
    }

    /// From what a watch or list shows.
    pub(crate) fn read(object: &Value, seen_ms: f64, shown: Shown) -> Self {
        let (metadata, text) = (&object["metadata"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
        // A status that is null or not there yet is an empty one.
        let read = serde_json::from_value::<Option<KonigleSpaceStatus>>(object["status"].clone());
        let unread = read.as_ref().err().map(ToString::to_string);
        let mut status = read.ok().flatten().unwrap_or_default();
        let is_new = is_first_contact(&status);
        status.history.clear();
        status.conditions.iter_mut().for_each(|condition| condition.message.clear());
        if let Some(attempt) = &mut status.attempt {
            attempt.log = None;
        }
        let time = |value: &Value| value.as_str()?.parse::<Timestamp>().ok();
        let written = metadata["managedFields"].as_array().into_iter().flatten();
        let newest = written.filter_map(|entry| time(&entry["time"])).max();
        let annotations = &metadata["annotations"];
        let request = |key: &&str| annotations[*key].as_str().map(|value| format!("{key}={value}"));
        let spec = &object["spec"];
        let assumes_current = match spec["adoptionPolicy"].as_str() {
            Some(policy) => policy == "AssumeCurrent",
            None => spec["promotion"].is_object(),
        };
        Self {
            namespace: text(&metadata["namespace"]),
            name: text(&metadata["name"]),
            uid: text(&metadata["uid"]),
            created_ms: time(&metadata["creationTimestamp"]).map_or(0.0, milliseconds),
            stored_as: text(&metadata["resourceVersion"]),
            generation: metadata["generation"].as_i64().unwrap_or_default(),
            seen_ms,
            stored_ms: newest.map_or(0.0, milliseconds),
            shown,
            retry_limit: spec["retry"]["limit"].as_i64().unwrap_or(3),
            requests: [RESET_AT, REDEPLOY_AT, RESOLVE_ATTEMPT].iter().filter_map(request).collect(),
            released: annotations[RELEASED].as_str().and_then(Released::parse),
            assumes_current,
            is_new,
            status_bytes: if object["status"].is_null() { 0 } else { object["status"].to_string().len() },
            status,
            unread,
        }
    }
}

impl Job {
    /// From an entry of the ledger of a Space.
    pub(crate) fn read(run: usize, entry: &Value) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().map(str::to_owned);
        let time = |key: &str| entry[key].as_str().and_then(|time| time.parse().ok());
        Some(Self {
            run,
            id: text("job")?,
            kind: text("kind")?,
            by_person: entry["by"] == "person",
            space: text("space")?,
            sha256: text("sha256"),
            display_name: text("display_name"),
            time: time("time")?,
            ended: time("ended"),
            ended_ms: entry["ended_ms"].as_f64(),
            outcome: text("outcome"),
        })
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.outcome.as_deref() == Some("success")
    }

    pub(crate) fn digest(&self) -> String {
        format!("sha256:{}", self.sha256.as_deref().unwrap_or_default())
    }
}

impl Post {
    /// Whether this is one of the simulator's requests that releases something.
    pub(crate) fn is_release(post: &Value) -> bool {
        matches!(post["operation"].as_str(), Some("deploy" | "promote"))
    }

    /// From a deploy or promotion among the simulator's requests.
    pub(crate) fn read(run: usize, post: &Value) -> Option<Self> {
        let text = |key: &str| post[key].as_str().map(str::to_owned);
        Some(Self {
            run,
            operation: text("operation")?,
            object: text("object")?,
            arrived_ms: post["arrived_ms"].as_f64()?,
            display_name: text("display_name"),
            job: text("job"),
            status: post["status"].as_u64(),
        })
    }

    /// Whether it may have taken effect: the answers that say so are those of design section 4, "submit".
    pub(crate) fn counts(&self) -> bool {
        !matches!(self.status, Some(401 | 403 | 404 | 409 | 423 | 429))
    }
}

/// The nonce at the end of a display name.
pub(crate) fn nonce_of(display_name: &str) -> Option<&str> {
    let (_, end) = display_name.rsplit_once('[')?;
    end.strip_suffix(']').filter(|nonce| nonce.starts_with('k'))
}

/// The number in a display name.
pub(crate) fn number_of(display_name: &str) -> Option<i64> {
    display_name.split_once(" #")?.1.split(' ').next()?.parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since the epoch are below 2^53")]
pub(crate) fn milliseconds(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e3
}
