//! What one process remembers between passes: how long it has known things, and what it sent itself.
//!
//! Nothing here is needed for safety where the resources stay: a process that starts with an empty memory only waits
//! longer. The open attempt of a resource that is deleted is known to nobody else. Durations are monotonic. Keyed by UID,
//! so that a resource of the same name made anew starts with nothing.

mod lookup;
mod lost;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::{Attempt, KonigleSpace};
use crate::artifact::FetchError;
use crate::footprint::Footprint;
use crate::judge::{is_spent, tells_of};
use crate::konigle::{Account, Answer};
use crate::observation::{Problem, Refusal};
use crate::time::doubled;

pub use lookup::{Again, LookupFailure};
pub use lost::LostAttempt;

/// How long the open attempt of a deleted resource is remembered: longer than any job may run.
const REMEMBER: Duration = Duration::from_hours(48);
/// How long it is believed that an account is not served the list of jobs.
const NOT_SERVED: Duration = Duration::from_hours(1);

/// The memory of all resources.
#[derive(Debug, Default)]
pub struct Memory {
    resources: Mutex<HashMap<String, Remembered>>,
    /// Whether an account is served the list of jobs, and when that was learned. By a number, for a token is not kept.
    jobs_served: Mutex<HashMap<u64, (bool, Instant)>>,
    numbers: RandomState,
}

#[derive(Debug, Default)]
struct Remembered {
    /// The resource is deleted; only its open attempt is still remembered.
    gone: bool,
    wakes: u64,
    pass: Option<(Option<String>, Instant)>,
    failing_since: Option<Instant>,
    unauthorized_since: Option<Instant>,
    stale_since: Option<Instant>,
    base_url: Option<String>,
    errors: u32,
    attempt: Option<RememberedAttempt>,
    /// The nonce of a claim whose write may or may not have landed. Nothing is ever sent for it.
    failed_claim: Option<(String, Instant)>,
    hold: Option<RememberedHold>,
    download: Option<Download>,
    lookup: Option<lookup::Lookup>,
    refusal: Option<(Refusal, Instant)>,
    answer: Option<String>,
    pair: Option<(String, String)>,
    told: HashMap<&'static str, (String, Instant)>,
}

#[derive(Debug)]
struct RememberedHold {
    nonce: String,
    first_seen: Instant,
    timeout: Option<Duration>,
}

#[derive(Debug)]
struct RememberedAttempt {
    nonce: String,
    /// The attempt as the resource last showed it, until it was seen to end.
    record: Option<Record>,
    first_seen: Instant,
    answer: Option<(Instant, Answer)>,
    job_ended: Option<Instant>,
    job_missing: Option<Instant>,
    ended_jobs: Option<(BTreeSet<String>, Instant)>,
    /// Where the one that it was made for is gone: the resource that is about to record it as its own, or to release there,
    /// and since when.
    reserved: Option<(String, Instant)>,
}

#[derive(Debug, Clone)]
struct Record {
    footprint: Footprint,
    attempt: Attempt,
    /// Its job was read as ended: nothing can come of it any more.
    ended: bool,
}

#[derive(Debug)]
struct Download {
    key: String,
    state: DownloadState,
}

#[derive(Debug)]
enum DownloadState {
    /// What is forgotten ends.
    Running {
        times: u32,
        _until_forgotten: DropGuard,
    },
    Failed {
        error: FetchError,
        at: Instant,
        times: u32,
    },
}

/// What became of the last download of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadMemory {
    /// It runs, for the first time.
    Running,
    /// It runs once more after it failed.
    Retrying,
    /// It failed, this long ago, this often in a row.
    Failed(FetchError, Duration, u32),
}

/// How long an attempt has been known, and what is known of it.
#[derive(Debug, Default, Clone)]
pub struct AttemptMemory {
    /// How long this process has known it.
    pub seen_for: Duration,
    /// The answer to its request, and how long ago it came.
    pub answer: Option<(Duration, Answer)>,
}

impl Remembered {
    /// The attempt of this nonce; what was remembered of another one is dropped.
    fn attempt(&mut self, nonce: &str) -> &mut RememberedAttempt {
        let known = self.attempt.take().filter(|attempt| attempt.nonce == nonce);
        let attempt = self.attempt.insert(known.unwrap_or_else(|| RememberedAttempt::new(nonce)));
        if let Some((_, at)) = self.failed_claim.take_if(|(failed, _)| failed == nonce) {
            // The claim landed after all.
            attempt.answer = Some((at, unconfirmed()));
        }
        attempt
    }
}

/// What comes of an attempt whose claim may or may not have landed.
fn unconfirmed() -> Answer {
    Answer::Unsent("the claim was not confirmed in time".to_owned())
}

impl RememberedAttempt {
    fn new(nonce: &str) -> Self {
        Self {
            nonce: nonce.to_owned(),
            record: None,
            first_seen: Instant::now(),
            answer: None,
            job_ended: None,
            job_missing: None,
            ended_jobs: None,
            reserved: None,
        }
    }

    /// Whether only a person's word is awaited, and it was known for as long as anything may still come of it.
    fn is_over(&self, footprint: &Footprint, settle: Duration) -> bool {
        let Some(record) = self.record.as_ref().filter(|_| footprint.undecided.as_ref() == Some(&self.nonce)) else {
            return false;
        };
        is_spent(&record.attempt, self.first_seen.elapsed(), settle)
    }

    /// What may still come of it: it is recorded, and neither did its job end nor was it refused.
    fn open(&self, settle: Duration) -> Option<&Record> {
        self.unaccounted(settle).filter(|record| !record.ended)
    }

    /// What it came to, or may still come to, is in no status: it is recorded, and was not refused.
    fn unaccounted(&self, settle: Duration) -> Option<&Record> {
        let came_to_nothing = matches!(self.answer, Some((_, Answer::Unsent(_) | Answer::Rejected(_))));
        let is_forgotten = self.first_seen.elapsed() >= REMEMBER;
        let record = self.record.as_ref().filter(|_| !came_to_nothing && !is_forgotten)?;
        (!self.is_over(&record.footprint, settle)).then_some(record)
    }
}

impl Memory {
    fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Remembered) -> T) -> T {
        change(self.lock().entry(uid.to_owned()).or_default())
    }

    /// How long this very version of the resource needs no pass: it is the one that the last pass left, and its next
    /// look is not due. Our own writes come back through the watch; without this each would cost a look at Konigle.
    #[must_use]
    pub fn undisturbed(&self, resource: &KonigleSpace) -> Option<Duration> {
        self.with(&uid(resource), |remembered| {
            let (version, next_look) = remembered.pass.as_ref()?;
            let left = next_look.saturating_duration_since(Instant::now());
            (*version == resource.resource_version() && !left.is_zero()).then_some(left)
        })
    }

    /// How often the resource was woken; a pass notes it at its begin.
    #[must_use]
    pub fn wakes(&self, uid: &str) -> u64 {
        self.with(uid, |remembered| remembered.wakes)
    }

    /// A pass left the resource like this, and wants the next look after `next`. Where the resource was woken since the
    /// pass noted its `wakes`, what woke it may have come too late for this pass: the next one is due at once.
    pub fn passed(&self, resource: &KonigleSpace, next: Duration, wakes: u64) {
        self.with(&uid(resource), |remembered| {
            let left = (resource.resource_version(), Instant::now() + next);
            remembered.pass = (remembered.wakes == wakes).then_some(left);
            remembered.errors = 0;
        });
    }

    /// The next pass is due at once, whatever the last one wanted.
    pub fn wake(&self, uid: &str) {
        self.with(uid, |remembered| {
            remembered.wakes += 1;
            remembered.pass = None;
        });
    }

    /// A pass ended in an error; how long to wait before the next: 1 s, doubled with each, at most 1 min.
    #[must_use]
    pub fn failed_pass(&self, uid: &str) -> Duration {
        self.with(uid, |remembered| {
            remembered.pass = None;
            remembered.errors = remembered.errors.saturating_add(1);
            doubled(Duration::from_secs(1), remembered.errors, Duration::from_mins(1))
        })
    }

    /// The resource looks like this: its open attempt is remembered, in case the resource is deleted or its status lost.
    /// A watch may tell an older state than the process itself wrote; that is not believed.
    pub fn note(&self, resource: &KonigleSpace) {
        let Some(status) = &resource.status else { return };
        if let Some(attempt) = &status.attempt {
            self.note_attempt(resource, attempt);
        } else if let Some(remembered) = self.lock().get_mut(&uid(resource))
            && let Some(known) = &mut remembered.attempt
            && known.record.as_ref().is_some_and(|record| tells_of(status, record.attempt.number))
        {
            known.record = None;
        }
    }

    fn note_attempt(&self, resource: &KonigleSpace, attempt: &Attempt) {
        // Another process may have taken it over for this resource: what is known of it goes with it, or it would be taken
        // over once more by the resource that comes after this one.
        let left_it =
            |known: &Remembered| known.gone && known.attempt.as_ref().is_some_and(|known| known.nonce == attempt.nonce);
        let left_by = self.lock().iter().find(|(_, known)| left_it(known)).map(|(uid, _)| uid.clone());
        if let Some(left_by) = left_by {
            self.inherit(&left_by, &uid(resource));
        }
        self.with(&uid(resource), |remembered| {
            let older = remembered.attempt.as_ref().is_some_and(|known| {
                known.nonce != attempt.nonce
                    && known.record.as_ref().is_none_or(|record| record.attempt.number >= attempt.number)
            });
            if older {
                return;
            }
            let known = remembered.attempt(&attempt.nonce);
            let job_id = known.record.take().and_then(|record| record.attempt.job_id);
            let mut attempt = attempt.clone();
            attempt.job_id = attempt.job_id.or(job_id);
            known.record = Some(Record { footprint: Footprint::of(resource), attempt, ended: false });
        });
    }

    /// The watch shows the resource: it is there, such as after it had left what the watch selects.
    pub fn is_there(&self, uid: &str) {
        if let Some(remembered) = self.lock().get_mut(uid) {
            remembered.gone = false;
        }
    }

    /// The resource is gone. Its open attempt is not: it goes on at Konigle.
    pub fn forget(&self, uid: &str) {
        let mut resources = self.lock();
        resources.retain(|_, known| {
            !known.gone || known.attempt.as_ref().is_some_and(|attempt| attempt.first_seen.elapsed() < REMEMBER)
        });
        let attempt = resources.remove(uid).and_then(|known| known.attempt).filter(|attempt| attempt.record.is_some());
        if attempt.is_some() {
            resources.insert(uid.to_owned(), Remembered { gone: true, attempt, ..Remembered::default() });
        }
    }

    /// These are all the resources there are: the others were deleted while the watch was away.
    pub fn forget_others(&self, uids: &HashSet<String>) {
        let gone: Vec<String> = self
            .lock()
            .iter()
            .filter(|(uid, known)| !known.gone && !uids.contains(*uid))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.forget(&uid);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look at Konigle came to this; how long looks have failed, and how long they have been answered with 401.
    #[must_use]
    pub fn looked(&self, uid: &str, failed: bool, unauthorized: bool) -> (Duration, Option<Duration>) {
        let now = Instant::now();
        self.with(uid, |remembered| {
            remembered.failing_since = failed.then(|| remembered.failing_since.unwrap_or(now));
            remembered.unauthorized_since = unauthorized.then(|| remembered.unauthorized_since.unwrap_or(now));
            (
                remembered.failing_since.map_or(Duration::ZERO, |since| now - since),
                remembered.unauthorized_since.map(|since| now - since),
            )
        })
    }

    /// How long the Space has been shown in an older state than before.
    #[must_use]
    pub fn stale_for(&self, uid: &str, stale: bool) -> Duration {
        self.with(uid, |remembered| since(&mut remembered.stale_since, stale))
    }

    /// Where a resource looks for its Space.
    pub fn looks_at(&self, uid: &str, base_url: &str) {
        self.with(uid, |remembered| remembered.base_url = Some(base_url.to_owned()));
    }

    /// Where another resource last looked for its Space; `None` before its first look.
    #[must_use]
    pub fn base_url(&self, uid: &str) -> Option<String> {
        self.lock().get(uid)?.base_url.clone()
    }

    /// What is remembered of this attempt; the first call is its first sight.
    #[must_use]
    pub fn attempt(&self, uid: &str, nonce: &str) -> AttemptMemory {
        let now = Instant::now();
        self.with_attempt(uid, nonce, |attempt| AttemptMemory {
            seen_for: now - attempt.first_seen,
            answer: attempt.answer.clone().map(|(at, answer)| (now - at, answer)),
        })
    }

    /// This process's own request for this attempt came to this. A successor may have taken the attempt over meanwhile.
    pub fn answered(&self, uid: &str, nonce: &str, answer: Answer) {
        let heir = self.heir(uid, nonce);
        self.with_attempt(heir.as_deref().unwrap_or(uid), nonce, |attempt| {
            if matches!(answer, Answer::Unsent(_) | Answer::Rejected(_)) {
                // Nothing came of it, whoever asks.
                attempt.record = None;
            }
            attempt.answer = Some((Instant::now(), answer));
        });
    }

    /// The write of this attempt's claim may or may not have landed; this process sends nothing for it. What is known of
    /// another attempt, which may be the open one, stays.
    pub fn claim_failed(&self, uid: &str, nonce: &str) {
        let is_known = self.lock().values().any(|known| known.attempt.as_ref().is_some_and(|it| it.nonce == nonce));
        if is_known {
            // The watch told of it already: it did land.
            return self.answered(uid, nonce, unconfirmed());
        }
        self.with(uid, |remembered| remembered.failed_claim = Some((nonce.to_owned(), Instant::now())));
    }

    /// Who has this attempt now, where it is not this resource.
    fn heir(&self, uid: &str, nonce: &str) -> Option<String> {
        let has_it = |known: &Remembered| known.attempt.as_ref().is_some_and(|attempt| attempt.nonce == nonce);
        let resources = self.lock();
        let heir = resources.iter().find(|(_, known)| has_it(known)).map(|(uid, _)| uid.clone());
        heir.filter(|_| !resources.get(uid).is_some_and(has_it))
    }

    /// Whether nothing can come any more of this resource's open attempt, of which only a person's word is still awaited.
    #[must_use]
    pub fn is_over(&self, other: &Footprint, settle: Duration) -> bool {
        let resources = self.lock();
        let known = resources.get(&other.uid).and_then(|known| known.attempt.as_ref());
        known.is_some_and(|known| known.is_over(other, settle))
    }

    /// How long the attempt's job has been read as ended.
    #[must_use]
    pub fn job_ended(&self, uid: &str, nonce: &str, ended: bool) -> Duration {
        self.with_attempt(uid, nonce, |attempt| since(&mut attempt.job_ended, ended))
    }

    /// How long the attempt's job has been answered with 404.
    #[must_use]
    pub fn job_missing(&self, uid: &str, nonce: &str, missing: bool) -> Duration {
        self.with_attempt(uid, nonce, |attempt| since(&mut attempt.job_missing, missing))
    }

    /// How long the list of jobs has shown these and no others, all of them ended (`None`: some run). Between two looks a
    /// job can begin and end, so that none runs is not enough.
    #[must_use]
    pub fn jobs_ended(&self, uid: &str, nonce: &str, ended: Option<BTreeSet<String>>) -> Duration {
        self.with_attempt(uid, nonce, |attempt| {
            let Some(ended) = ended else {
                attempt.ended_jobs = None;
                return Duration::ZERO;
            };
            let known = attempt.ended_jobs.take().filter(|(known, _)| *known == ended);
            let (_, first_seen) = attempt.ended_jobs.insert(known.unwrap_or_else(|| (ended, Instant::now())));
            first_seen.elapsed()
        })
    }

    fn with_attempt<T>(&self, uid: &str, nonce: &str, change: impl FnOnce(&mut RememberedAttempt) -> T) -> T {
        self.with(uid, |remembered| change(remembered.attempt(nonce)))
    }

    /// How long this hold has been known (the first call is its first sight), and how long a job of the holder may run,
    /// as it was last read.
    #[must_use]
    pub fn hold(&self, uid: &str, nonce: &str, timeout: Option<Duration>) -> (Duration, Option<Duration>) {
        self.with(uid, |remembered| {
            let known = remembered.hold.take().filter(|hold| hold.nonce == nonce);
            let hold = remembered.hold.insert(known.unwrap_or_else(|| RememberedHold {
                nonce: nonce.to_owned(),
                first_seen: Instant::now(),
                timeout: None,
            }));
            hold.timeout = timeout.or(hold.timeout);
            (hold.first_seen.elapsed(), hold.timeout)
        })
    }

    /// Marks a download as running, in the place of another one; `None` where it runs already. What comes with it, a child of
    /// `shutdown`, is cancelled as soon as this download is not wanted any more, or its resource is gone.
    #[must_use]
    pub fn begin_download(&self, uid: &str, key: &str, shutdown: &CancellationToken) -> Option<CancellationToken> {
        self.with(uid, |remembered| {
            let same = remembered.download.as_ref().filter(|download| download.key == key);
            let times = match same.map(|download| &download.state) {
                Some(DownloadState::Running { .. }) => return None,
                Some(DownloadState::Failed { times, .. }) => *times,
                None => 0,
            };
            let stop = shutdown.child_token();
            let state = DownloadState::Running { times, _until_forgotten: stop.clone().drop_guard() };
            remembered.download = Some(Download { key: key.to_owned(), state });
            Some(stop)
        })
    }

    /// The resource wants this download, if any, and no other: what was begun for something else ends.
    pub fn wants_download(&self, uid: &str, key: Option<&str>) {
        if let Some(remembered) = self.lock().get_mut(uid) {
            remembered.download.take_if(|download| Some(&*download.key) != key);
        }
    }

    /// The download of this `stop` ended; `None`: well. False where nobody wants it any more: then its end says nothing of
    /// one that was begun after it.
    #[must_use]
    pub fn end_download(&self, uid: &str, stop: &CancellationToken, error: Option<FetchError>) -> bool {
        let mut resources = self.lock();
        let Some(remembered) = resources.get_mut(uid).filter(|_| !stop.is_cancelled()) else { return false };
        let Some(Download { key, state: DownloadState::Running { times, .. } }) = remembered.download.take() else {
            return false;
        };
        remembered.download = error.map(|error| {
            let state = DownloadState::Failed { error, at: Instant::now(), times: times.saturating_add(1) };
            Download { key, state }
        });
        true
    }

    /// What became of the last download of this artifact.
    #[must_use]
    pub fn download(&self, uid: &str, key: &str) -> Option<DownloadMemory> {
        self.with(uid, |remembered| {
            let download = remembered.download.as_ref().filter(|download| download.key == key)?;
            Some(match &download.state {
                DownloadState::Running { times: 0, .. } => DownloadMemory::Running,
                DownloadState::Running { .. } => DownloadMemory::Retrying,
                DownloadState::Failed { error, at, times } => {
                    DownloadMemory::Failed(error.clone(), at.elapsed(), *times)
                }
            })
        })
    }

    /// Konigle refused a request (`Some`), or took one.
    pub fn refused(&self, uid: &str, problem: Option<Problem>) {
        self.with(uid, |remembered| {
            let before = remembered.refusal.take().map(|(refusal, _)| refusal);
            let reason = problem.as_ref().map(|problem| problem.reason);
            let times = before.filter(|before| Some(before.problem.reason) == reason).map_or(0, |before| before.times);
            remembered.refusal =
                problem.map(|problem| (Refusal { problem, times: times.saturating_add(1) }, Instant::now()));
        });
    }

    /// The last refusal, unless it is older than half an hour.
    #[must_use]
    pub fn refusal(&self, uid: &str) -> Option<Refusal> {
        self.with(uid, |remembered| {
            let (refusal, at) = remembered.refusal.as_ref()?;
            (at.elapsed() < Duration::from_mins(30)).then(|| refusal.clone())
        })
    }

    /// Whether this answer to an unknown outcome is seen for the first time. Without that, an answer that was heard would
    /// look, beside the next attempt, like one that fits none.
    #[must_use]
    pub fn is_new_answer(&self, uid: &str, answer: &str) -> bool {
        self.with(uid, |remembered| {
            let new = remembered.answer.as_deref() != Some(answer);
            remembered.answer = Some(answer.to_owned());
            new
        })
    }

    /// Whether this warning was not told within the last half hour; it is taken as told from now on.
    #[must_use]
    pub fn is_news(&self, uid: &str, reason: &'static str, message: &str) -> bool {
        self.with(uid, |remembered| {
            let known = remembered
                .told
                .get(reason)
                .is_some_and(|(told, at)| told == message && at.elapsed() < Duration::from_mins(30));
            if !known {
                remembered.told.insert(reason, (message.to_owned(), Instant::now()));
            }
            !known
        })
    }

    /// Whether these two Spaces were proven to be of one web app. A Space never changes its web app.
    #[must_use]
    pub fn is_pair(&self, uid: &str, production: &str, uat: &str) -> bool {
        self.with(uid, |remembered| {
            remembered.pair.as_ref().is_some_and(|(known, other)| known == production && other == uat)
        })
    }

    /// These two Spaces were proven to be of one web app.
    pub fn proven_pair(&self, uid: &str, production: &str, uat: &str) {
        self.with(uid, |remembered| remembered.pair = Some((production.to_owned(), uat.to_owned())));
    }

    /// Whether this account is served the list of jobs, where that is known. That it is not may be a gateway's word or a
    /// token's, and is asked anew after an hour.
    #[must_use]
    pub fn jobs_served(&self, account: &Account) -> Option<bool> {
        self.jobs_served_at(account, Instant::now())
    }

    fn jobs_served_at(&self, account: &Account, now: Instant) -> Option<bool> {
        let known = self.jobs_served.lock().unwrap_or_else(PoisonError::into_inner);
        let (served, learned) = *known.get(&self.numbers.hash_one(account))?;
        (served || now.duration_since(learned) < NOT_SERVED).then_some(served)
    }

    /// This account is served the list of jobs, or not.
    pub fn set_jobs_served(&self, account: &Account, served: bool) {
        let mut known = self.jobs_served.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(self.numbers.hash_one(account), (served, Instant::now()));
    }
}

/// The UID, by which everything is remembered.
#[must_use]
pub fn uid(resource: &KonigleSpace) -> String {
    resource.uid().unwrap_or_default()
}

fn since(mark: &mut Option<Instant>, holds: bool) -> Duration {
    let now = Instant::now();
    *mark = holds.then(|| mark.unwrap_or(now));
    mark.map_or(Duration::ZERO, |mark| now - mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::KonigleSpaceStatus;

    pub(super) fn resource() -> KonigleSpace {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
            "metadata": {"name": "shop-uat", "namespace": "shop", "uid": "uid-1", "resourceVersion": "7"},
            "spec": {"space": {"id": "1"}, "credentials": {"secretRef": {"name": "konigle"}}},
        }))
        .expect("it is a KonigleSpace")
    }

    #[test]
    fn a_version_that_a_pass_left_needs_no_pass_until_its_look_is_due() {
        let (memory, resource) = (Memory::default(), resource());
        assert_eq!(memory.undisturbed(&resource), None, "never seen");
        memory.passed(&resource, Duration::from_mins(5), memory.wakes("uid-1"));
        assert!(memory.undisturbed(&resource).is_some());
        memory.wake("uid-1");
        assert_eq!(memory.undisturbed(&resource), None, "woken");
    }

    #[test]
    fn a_wake_during_a_pass_is_not_lost() {
        let (memory, resource) = (Memory::default(), resource());
        let wakes = memory.wakes("uid-1");
        memory.wake("uid-1");
        memory.passed(&resource, Duration::from_mins(5), wakes);
        assert_eq!(memory.undisturbed(&resource), None, "what woke it may have come after the pass looked");
    }

    pub(super) fn claimed(uid: &str) -> KonigleSpace {
        let mut resource = resource();
        resource.metadata.uid = Some(uid.to_owned());
        let attempt = serde_json::json!({"number": 1, "nonce": "k3f2a9c1d", "type": "Deploy"});
        let status = serde_json::json!({ "attempt": attempt });
        resource.status = Some(serde_json::from_value(status).expect("it is a status"));
        resource
    }

    #[test]
    fn the_answer_to_an_attempt_that_was_taken_over_meanwhile_is_the_successors() {
        let memory = Memory::default();
        memory.note(&claimed("uid-1"));
        memory.forget("uid-1");
        memory.inherit("uid-1", "uid-2");
        memory.note(&claimed("uid-2"));
        let why = Answer::Unsent("the resource is gone".to_owned());
        memory.answered("uid-1", "k3f2a9c1d", why.clone());
        assert_eq!(memory.attempt("uid-2", "k3f2a9c1d").answer.map(|(_, answer)| answer), Some(why));
        assert!(!memory.lock().contains_key("uid-1"), "nothing is kept of what is gone");
    }

    /// The API server is slow: a claim is stored and proven unsent, and the next pass, which has not seen it yet, claims
    /// again, in vain.
    #[test]
    fn a_claim_that_failed_takes_no_proof_away() {
        let memory = Memory::default();
        let why = Answer::Unsent("no route".to_owned());
        let answer_for = |nonce: &str| memory.attempt("uid-1", nonce).answer.map(|(_, answer)| answer);
        memory.answered("uid-1", "k00000001", why.clone());
        memory.claim_failed("uid-1", "k00000002");
        assert_eq!(answer_for("k00000001"), Some(why), "nothing came of the first");
        assert!(matches!(answer_for("k00000002"), Some(Answer::Unsent(_))), "the second landed after all: unsent, too");
        assert_eq!(answer_for("k00000003"), None);
    }

    /// The claim's answer is lost, the resource is deleted and made anew meanwhile, and its successor takes over what the
    /// watch told: before the claim is given up, or after.
    #[test]
    fn that_a_claim_failed_is_known_of_its_successor_too() {
        let claimed = || {
            let mut resource = resource();
            let attempt = serde_json::json!({"number": 1, "nonce": "k3f2a9c1d", "type": "Deploy"});
            let status = serde_json::json!({ "attempt": attempt });
            resource.status = Some(serde_json::from_value(status).expect("it is a status"));
            resource
        };
        let steps: [fn(&Memory); 2] = [
            |memory| {
                memory.forget("uid-1");
                memory.inherit("uid-1", "uid-2");
                memory.claim_failed("uid-1", "k3f2a9c1d");
            },
            |memory| {
                memory.claim_failed("uid-1", "k3f2a9c1d");
                memory.forget("uid-1");
                memory.inherit("uid-1", "uid-2");
            },
        ];
        for step in steps {
            let memory = Memory::default();
            memory.note(&claimed());
            step(&memory);
            let open = memory.lock().values().any(|known| {
                known.attempt.as_ref().is_some_and(|attempt| attempt.open(Duration::from_mins(2)).is_some())
            });
            assert!(!open, "nothing can come of it");
        }
        let memory = Memory::default();
        memory.claim_failed("uid-1", "k3f2a9c1d");
        memory.note(&claimed());
        let lost = memory.lost_attempts(&Footprint::of(&resource()), &KonigleSpaceStatus::default(), Duration::ZERO);
        assert_eq!(lost, [], "the watch tells of it only now");
    }

    #[test]
    fn that_an_account_is_not_served_the_list_of_jobs_is_its_own_and_not_for_ever() {
        let memory = Memory::default();
        let account = |token: &str| Account::new("https://tim.konigle.com".parse().unwrap(), token.into());
        let (ours, theirs) = (account("canary-1"), account("canary-2"));
        memory.set_jobs_served(&ours, false);
        assert_eq!(memory.jobs_served(&ours), Some(false));
        assert_eq!(memory.jobs_served(&theirs), None, "another token may be served it");
        let later = Instant::now() + NOT_SERVED;
        assert_eq!(memory.jobs_served_at(&ours, later), None, "asked anew");
        memory.set_jobs_served(&ours, true);
        assert_eq!(memory.jobs_served_at(&ours, later), Some(true));
        assert!(!format!("{memory:?}").contains("canary"));
    }

    /// What happens while a download runs, and whether it goes on.
    #[test]
    fn a_download_ends_as_soon_as_nobody_wants_it() {
        type Happens = fn(&Memory, &CancellationToken);
        let shutdown = CancellationToken::new();
        let rows: [(&str, Happens, bool); 7] = [
            ("it is asked for again", |memory, shutdown| assert!(begin(memory, "a", shutdown).is_none()), true),
            ("it is still wanted", |memory, _| memory.wants_download("uid-1", Some("a")), true),
            ("another resource wants another", |memory, _| memory.wants_download("uid-2", Some("b")), true),
            ("another is begun", |memory, shutdown| assert!(begin(memory, "b", shutdown).is_some()), false),
            ("another is wanted", |memory, _| memory.wants_download("uid-1", Some("b")), false),
            ("none is wanted", |memory, _| memory.wants_download("uid-1", None), false),
            ("the resource is gone", |memory, _| memory.forget("uid-1"), false),
        ];
        for (what, happens, goes_on) in rows {
            let memory = Memory::default();
            let stop = begin(&memory, "a", &shutdown).expect("it begins");
            happens(&memory, &shutdown);
            assert_eq!(!stop.is_cancelled(), goes_on, "{what}");
        }
        let memory = Memory::default();
        let stop = begin(&memory, "a", &shutdown).expect("it begins");
        shutdown.cancel();
        assert!(stop.is_cancelled(), "the process ends");
    }

    fn begin(memory: &Memory, key: &str, shutdown: &CancellationToken) -> Option<CancellationToken> {
        memory.begin_download("uid-1", key, shutdown)
    }

    #[test]
    fn the_end_of_a_download_that_nobody_wants_says_nothing_of_the_next() {
        let (memory, shutdown) = (Memory::default(), CancellationToken::new());
        let failed = || Some(FetchError::DiskFull);
        let first = begin(&memory, "a", &shutdown).expect("it begins");
        memory.wants_download("uid-1", Some("b"));
        let second = begin(&memory, "a", &shutdown).expect("it begins anew");
        for end in [failed(), None] {
            assert!(!memory.end_download("uid-1", &first, end), "nobody waits for it");
            assert_eq!(memory.download("uid-1", "a"), Some(DownloadMemory::Running));
        }
        assert!(!second.is_cancelled());
        assert!(memory.end_download("uid-1", &second, failed()));
        assert!(matches!(memory.download("uid-1", "a"), Some(DownloadMemory::Failed(FetchError::DiskFull, _, 1))));
        let third = begin(&memory, "a", &shutdown).expect("it is tried again");
        assert_eq!(memory.download("uid-1", "a"), Some(DownloadMemory::Retrying));
        assert!(memory.end_download("uid-1", &third, None));
        assert_eq!(memory.download("uid-1", "a"), None);
        let fourth = begin(&memory, "a", &shutdown).expect("it begins");
        memory.forget("uid-1");
        assert!(!memory.end_download("uid-1", &fourth, failed()));
        assert!(memory.lock().is_empty(), "nothing is kept of what is gone");
    }

    #[test]
    fn a_warning_is_told_once_in_a_while() {
        let memory = Memory::default();
        assert!(memory.is_news("uid-1", "SpaceForbidden", "no"));
        assert!(!memory.is_news("uid-1", "SpaceForbidden", "no"));
        assert!(memory.is_news("uid-1", "SpaceForbidden", "still no"));
        assert!(memory.is_news("uid-2", "SpaceForbidden", "still no"));
    }
}
