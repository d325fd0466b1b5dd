//! What one process remembers between passes: how long it has known things, and what it sent itself.
//!
//! Nothing here is needed for safety: a process that starts with an empty memory only waits longer. Durations are
//! monotonic. Keyed by UID, so that a resource of the same name made anew starts with nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;

use crate::api::KonigleSpace;
use crate::artifact::FetchError;
use crate::konigle::Answer;
use crate::observation::{Problem, Refusal};
use crate::time::doubled;

/// The memory of all resources.
#[derive(Debug, Default)]
pub struct Memory {
    resources: Mutex<HashMap<String, Remembered>>,
    /// Whether an account's API serves the list of jobs.
    jobs_served: Mutex<HashMap<String, bool>>,
}

#[derive(Debug, Default)]
struct Remembered {
    wakes: u64,
    pass: Option<(Option<String>, Instant)>,
    failing_since: Option<Instant>,
    unauthorized_since: Option<Instant>,
    errors: u32,
    attempt: Option<RememberedAttempt>,
    hold: Option<RememberedHold>,
    download: Option<Download>,
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
    first_seen: Instant,
    answer: Option<(Instant, Answer)>,
    job_ended: Option<Instant>,
    job_missing: Option<Instant>,
    ended_jobs: Option<(BTreeSet<String>, Instant)>,
}

#[derive(Debug)]
struct Download {
    key: String,
    state: DownloadState,
}

#[derive(Debug, Clone)]
enum DownloadState {
    Running { times: u32 },
    Failed { error: FetchError, at: Instant, times: u32 },
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

impl Memory {
    fn with<T>(&self, uid: &str, change: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut resources: MutexGuard<'_, _> = self.resources.lock().unwrap_or_else(PoisonError::into_inner);
        change(resources.entry(uid.to_owned()).or_default())
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

    /// The resource is gone.
    pub fn forget(&self, uid: &str) {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
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

    /// What is remembered of this attempt; the first call is its first sight.
    #[must_use]
    pub fn attempt(&self, uid: &str, nonce: &str) -> AttemptMemory {
        let now = Instant::now();
        self.with_attempt(uid, nonce, |attempt| AttemptMemory {
            seen_for: now - attempt.first_seen,
            answer: attempt.answer.clone().map(|(at, answer)| (now - at, answer)),
        })
    }

    /// This process's own request for this attempt came to this.
    pub fn answered(&self, uid: &str, nonce: &str, answer: Answer) {
        self.with_attempt(uid, nonce, |attempt| attempt.answer = Some((Instant::now(), answer)));
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
        self.with(uid, |remembered| {
            let known = remembered.attempt.take().filter(|attempt| attempt.nonce == nonce);
            change(remembered.attempt.insert(known.unwrap_or_else(|| RememberedAttempt {
                nonce: nonce.to_owned(),
                first_seen: Instant::now(),
                answer: None,
                job_ended: None,
                job_missing: None,
                ended_jobs: None,
            })))
        })
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

    /// Marks a download as running; false where it runs already.
    #[must_use]
    pub fn begin_download(&self, uid: &str, key: &str) -> bool {
        self.with(uid, |remembered| {
            let same = remembered.download.as_ref().filter(|download| download.key == key);
            let times = match same.map(|download| &download.state) {
                Some(DownloadState::Running { .. }) => return false,
                Some(DownloadState::Failed { times, .. }) => *times,
                None => 0,
            };
            remembered.download = Some(Download { key: key.to_owned(), state: DownloadState::Running { times } });
            true
        })
    }

    /// A download ended; `None`: well.
    pub fn end_download(&self, uid: &str, key: &str, error: Option<FetchError>) {
        self.with(uid, |remembered| {
            let Some(download) = remembered.download.as_mut().filter(|download| download.key == key) else { return };
            let before = match download.state {
                DownloadState::Running { times } | DownloadState::Failed { times, .. } => times,
            };
            match error {
                None => remembered.download = None,
                Some(error) => {
                    download.state =
                        DownloadState::Failed { error, at: Instant::now(), times: before.saturating_add(1) };
                }
            }
        });
    }

    /// What became of the last download of this artifact.
    #[must_use]
    pub fn download(&self, uid: &str, key: &str) -> Option<DownloadMemory> {
        self.with(uid, |remembered| {
            let download = remembered.download.as_ref().filter(|download| download.key == key)?;
            Some(match &download.state {
                DownloadState::Running { times: 0 } => DownloadMemory::Running,
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

    /// Whether the API at this base URL serves the list of jobs, where that is known.
    #[must_use]
    pub fn jobs_served(&self, base_url: &str) -> Option<bool> {
        self.jobs_served.lock().unwrap_or_else(PoisonError::into_inner).get(base_url).copied()
    }

    /// The API at this base URL serves the list of jobs, or not.
    pub fn set_jobs_served(&self, base_url: &str, served: bool) {
        self.jobs_served.lock().unwrap_or_else(PoisonError::into_inner).insert(base_url.to_owned(), served);
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

    fn resource() -> KonigleSpace {
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

    #[test]
    fn a_warning_is_told_once_in_a_while() {
        let memory = Memory::default();
        assert!(memory.is_news("uid-1", "SpaceForbidden", "no"));
        assert!(!memory.is_news("uid-1", "SpaceForbidden", "no"));
        assert!(memory.is_news("uid-1", "SpaceForbidden", "still no"));
        assert!(memory.is_news("uid-2", "SpaceForbidden", "still no"));
    }
}
