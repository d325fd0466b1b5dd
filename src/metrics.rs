//! What `/metrics` shows; `docs/metrics.md` says what each is for. Counting only: nothing here decides anything.
//!
//! Each series is there from the start, at zero, so that `rate()` sees its first step; and there are no others: no label
//! holds a resource's name, or a word or a code that somebody else may make up.

#[cfg(target_os = "linux")]
mod process;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// How a reconcile may end.
const RECONCILED: [&str; 3] = ["success", "conflict", "error"];
/// The requests that the client makes.
const OPERATIONS: [&str; 8] =
    ["get_space", "list_spaces", "list_computers", "list_webapps", "get_job", "list_jobs", "deploy", "promote"];
/// The codes that say more than their class does.
const CODES: [(u16, &str); 16] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (409, "409"),
    (413, "413"),
    (422, "422"),
    (423, "423"),
    (429, "429"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];
/// The classes of all other codes, and the word for a request that nobody answered.
const CLASSES: [&str; 6] = ["2xx", "3xx", "4xx", "5xx", "other", "error"];
/// What an attempt asks of Konigle.
const ATTEMPTS: [&str; 2] = ["Deploy", "Promote"];
/// How an attempt may end, in the words of `status.history[].result`.
const RESULTS: [&str; 4] = ["Succeeded", "Failed", "NotSent", "Unknown"];
/// How a job may end.
const JOB_RESULTS: [&str; 2] = ["Succeeded", "Failed"];
/// How a download may end.
const DOWNLOADS: [&str; 9] = [
    "success",
    "unavailable",
    "limited",
    "digest_mismatch",
    "rejected",
    "too_large",
    "refused",
    "certificate_invalid",
    "disk",
];
/// How a look at what a tag names may end.
const LOOKUPS: [&str; 6] = ["success", "unavailable", "limited", "rejected", "refused", "certificate_invalid"];
/// Where the Konigle API may send a word that is not known.
const WORDS: [&str; 3] = ["job_status", "last_deployment_status", "space_status"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OperationLabel {
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    r#type: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WordLabels {
    field: &'static str,
}

/// All counters of one process. Cheap to share behind an `Arc`; every method may be called from anywhere.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    work: Work,
    api: Api,
    artifacts: Artifacts,
}

/// What the passes do.
#[derive(Debug)]
struct Work {
    reconciles: Family<ResultLabel, Counter>,
    reconcile_time: Histogram,
    attempts: Family<AttemptLabels, Counter>,
    unknown_outcomes: Family<TypeLabel, Counter>,
    drifts: Counter,
    job_duration: Family<AttemptLabels, Histogram>,
    leader: Gauge,
}

/// What is asked of Konigle, and how it answers.
#[derive(Debug)]
struct Api {
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<OperationLabel, Histogram>,
    rate_limited: Counter<f64, AtomicU64>,
    rate_limit_refusals: Counter,
    unknown_words: Family<WordLabels, Counter>,
    deployed: Counter,
}

/// What is asked of the hosts of artifacts.
#[derive(Debug, Default)]
struct Artifacts {
    lookups: Family<ResultLabel, Counter>,
    downloads: Family<ResultLabel, Counter>,
    downloaded: Counter,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            reconcile_time: Histogram::new(exponential_buckets(0.001, 4.0, 9)),
            attempts: Family::default(),
            unknown_outcomes: Family::default(),
            drifts: Counter::default(),
            job_duration: Family::new_with_constructor(|| {
                Histogram::new([5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0])
            }),
            leader: Gauge::default(),
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            request_duration: Family::new_with_constructor(|| {
                Histogram::new([0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0])
            }),
            rate_limited: Counter::default(),
            rate_limit_refusals: Counter::default(),
            unknown_words: Family::default(),
            deployed: Counter::default(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, with the build information of this binary.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            work: Work::default(),
            api: Api::default(),
            artifacts: Artifacts::default(),
        };
        let own = metrics.registry.sub_registry_with_prefix("konigle");
        own.register("build", "The version of this binary", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        metrics.work.register(own);
        metrics.api.register(own);
        metrics.artifacts.register(own);
        #[cfg(target_os = "linux")]
        metrics.registry.register_collector(Box::new(process::Process));
        metrics
    }

    /// One reconcile ended: `result` is `success`, `conflict` or `error`.
    pub fn reconcile(&self, result: &'static str, time: Duration) {
        self.work.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.work.reconcile_time.observe(time.as_secs_f64());
    }

    /// One request to the Konigle API ended after so long. `code` is the HTTP status; `None` where no answer came.
    pub fn api_request(&self, operation: &'static str, code: Option<u16>, time: Duration) {
        let code = code.map_or("error", |code| {
            let known = CODES.iter().find(|(known, _)| *known == code).map(|(_, word)| *word);
            known.unwrap_or(match code / 100 {
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                5 => "5xx",
                _ => "other",
            })
        });
        self.api.requests.get_or_create(&RequestLabels { operation, code }).inc();
        self.api.request_duration.get_or_create(&OperationLabel { operation }).observe(time.as_secs_f64());
    }

    /// A request waited for the rate limit of its account; `refused` where it then was not sent, for its turn was too far.
    pub fn rate_limited(&self, waited: Duration, refused: bool) {
        self.api.rate_limited.inc_by(waited.as_secs_f64());
        self.api.rate_limit_refusals.inc_by(refused.into());
    }

    /// The counter of the bytes of artifacts that are handed over to Konigle.
    #[must_use]
    pub fn deployed_bytes(&self) -> Counter {
        self.api.deployed.clone()
    }

    /// The Konigle API sent a word in `field` that this version does not know.
    pub fn unknown_word(&self, field: &'static str) {
        self.api.unknown_words.get_or_create(&WordLabels { field }).inc();
    }

    /// An attempt ended; `kind` is `Deploy` or `Promote`, `result` a word of `status.history[].result`.
    pub fn attempt(&self, kind: &'static str, result: &'static str) {
        self.work.attempts.get_or_create(&AttemptLabels { r#type: kind, result }).inc();
    }

    /// The job of an attempt took so many seconds; `result` is `Succeeded` or `Failed`.
    pub fn job(&self, kind: &'static str, result: &'static str, seconds: f64) {
        self.work.job_duration.get_or_create(&AttemptLabels { r#type: kind, result }).observe(seconds);
    }

    /// A submitted attempt came back without an answer that tells its outcome.
    pub fn unknown_outcome(&self, kind: &'static str) {
        self.work.unknown_outcomes.get_or_create(&TypeLabel { r#type: kind }).inc();
    }

    /// A Space was found to show somebody else's deployment.
    pub fn drift(&self) {
        self.work.drifts.inc();
    }

    /// A registry was asked what a tag names; `result` is `success`, or a word for what went wrong.
    pub fn lookup(&self, result: &'static str) {
        self.artifacts.lookups.get_or_create(&ResultLabel { result }).inc();
    }

    /// Bytes of an artifact came from its host.
    pub fn downloaded(&self, bytes: u64) {
        self.artifacts.downloaded.inc_by(bytes);
    }

    /// A download ended; `result` is `success`, or a word for what went wrong.
    pub fn download(&self, result: &'static str) {
        self.artifacts.downloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// Whether this process holds the Lease (or runs without one).
    pub fn leader(&self, leads: bool) {
        self.work.leader.set(i64::from(leads));
    }

    /// The `OpenMetrics` text of all metrics.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // Writing to a String cannot fail; an empty page would show it if it ever did.
            text.clear();
        }
        text
    }
}

impl Work {
    fn register(&self, registry: &mut Registry) {
        for result in RECONCILED {
            let _ = self.reconciles.get_or_create(&ResultLabel { result });
        }
        for r#type in ATTEMPTS {
            let _ = self.unknown_outcomes.get_or_create(&TypeLabel { r#type });
            for result in RESULTS {
                let _ = self.attempts.get_or_create(&AttemptLabels { r#type, result });
            }
            for result in JOB_RESULTS {
                let _ = self.job_duration.get_or_create(&AttemptLabels { r#type, result });
            }
        }
        registry.register("leader", "1 while this process holds the Lease or needs none", self.leader.clone());
        registry.register("reconcile", "Reconciles by result", self.reconciles.clone());
        registry.register_with_unit(
            "reconcile_time",
            "Time that one reconcile took",
            Unit::Seconds,
            self.reconcile_time.clone(),
        );
        registry.register("attempts", "Attempts that ended, by type and result", self.attempts.clone());
        registry.register_with_unit(
            "job_duration",
            "Time from a job's creation to its end, by the server's clock where it sends both, by type and result",
            Unit::Seconds,
            self.job_duration.clone(),
        );
        registry.register(
            "unknown_outcomes",
            "Submitted attempts whose answer did not come or did not tell the outcome, by type",
            self.unknown_outcomes.clone(),
        );
        registry.register(
            "drift_detected",
            "Times that a Space began to show somebody else's deployment",
            self.drifts.clone(),
        );
    }
}

impl Api {
    fn register(&self, registry: &mut Registry) {
        for operation in OPERATIONS {
            let _ = self.request_duration.get_or_create(&OperationLabel { operation });
            for code in CODES.iter().map(|(_, word)| *word).chain(CLASSES) {
                let _ = self.requests.get_or_create(&RequestLabels { operation, code });
            }
        }
        for field in WORDS {
            let _ = self.unknown_words.get_or_create(&WordLabels { field });
        }
        registry.register(
            "api_requests",
            "Requests to the Konigle API by operation and code; the code is error where no answer came",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "Time that one request to the Konigle API took, without the wait for its turn, by operation",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        registry.register_with_unit(
            "api_rate_limited",
            "Time that requests waited for their turn: for the rate limit, or after a 429",
            Unit::Seconds,
            self.rate_limited.clone(),
        );
        registry.register(
            "api_rate_limit_refusals",
            "Requests that were not sent, for their turn under the rate limit or after a 429 was too far away",
            self.rate_limit_refusals.clone(),
        );
        registry.register(
            "unknown_words",
            "Words of the Konigle API that this version does not know, by field",
            self.unknown_words.clone(),
        );
        registry.register_with_unit(
            "deploy",
            "Bytes of artifacts that were handed over to Konigle, those of broken uploads too",
            Unit::Bytes,
            self.deployed.clone(),
        );
    }
}

impl Artifacts {
    fn register(&self, registry: &mut Registry) {
        for result in LOOKUPS {
            let _ = self.lookups.get_or_create(&ResultLabel { result });
        }
        registry.register("artifact_lookups", "Looks at what tags name, by result", self.lookups.clone());
        for result in DOWNLOADS {
            let _ = self.downloads.get_or_create(&ResultLabel { result });
        }
        registry.register("artifact_downloads", "Downloads of artifacts by result", self.downloads.clone());
        registry.register_with_unit(
            "artifact_download",
            "Bytes of artifacts that came from their hosts, those of failed downloads too",
            Unit::Bytes,
            self.downloaded.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The series, without their values.
    fn series(text: &str) -> Vec<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
    }

    #[test]
    fn no_code_makes_a_series_of_its_own() {
        let metrics = Metrics::new();
        let before = series(&metrics.text());
        for operation in OPERATIONS {
            for code in (0..=u16::MAX).step_by(7).chain(99..=600).map(Some).chain([None]) {
                metrics.api_request(operation, code, Duration::from_millis(1));
            }
        }
        assert_eq!(series(&metrics.text()), before);
        assert!(before.len() < 500, "{} series", before.len());
    }

    #[test]
    fn a_code_is_counted_as_itself_or_by_its_class() {
        let metrics = Metrics::new();
        for code in [None, Some(204), Some(302), Some(418), Some(429), Some(599), Some(600), Some(0)] {
            metrics.api_request("get_space", code, Duration::ZERO);
        }
        let text = metrics.text();
        for (code, count) in [("error", 1), ("2xx", 1), ("3xx", 1), ("4xx", 1), ("429", 1), ("5xx", 1), ("other", 2)] {
            let line = format!("konigle_api_requests_total{{operation=\"get_space\",code=\"{code}\"}} {count}");
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_shows_itself() {
        let text = Metrics::new().text();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") > 2.0 && value("process_open_fds") < value("process_max_fds"));
        let now = u32::try_from(crate::clock::now().as_second()).unwrap();
        let age = f64::from(now) - value("process_start_time_seconds");
        assert!((0.0..3600.0).contains(&age), "{age}");
        assert!(value("process_cpu_seconds_total") < 3600.0);
    }
}
