//! What `/metrics` shows. Counting only: nothing here decides anything, and no label holds a resource's name.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    operation: &'static str,
    code: String,
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
    reconciles: Family<ResultLabel, Counter>,
    reconcile_time: Histogram,
    api_requests: Family<RequestLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    unknown_outcomes: Counter,
    unknown_words: Family<WordLabels, Counter>,
    rate_limited: Counter<f64, AtomicU64>,
    leader: Gauge,
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
        let mut registry = Registry::with_prefix("konigle");
        let reconciles = Family::default();
        registry.register("reconcile", "Reconciles by result", reconciles.clone());
        let reconcile_time = Histogram::new(exponential_buckets(0.001, 4.0, 9));
        registry.register_with_unit("reconcile_time", "Time one reconcile took", Unit::Seconds, reconcile_time.clone());
        let api_requests = Family::default();
        registry.register(
            "api_requests",
            "Requests to the Konigle API by operation and code; code is `error` where no answer came",
            api_requests.clone(),
        );
        let attempts = Family::default();
        registry.register("attempts", "Attempts that ended, by type and result", attempts.clone());
        let unknown_outcomes = Counter::default();
        registry.register(
            "unknown_outcomes",
            "Submitted attempts whose outcome the reply did not tell",
            unknown_outcomes.clone(),
        );
        let unknown_words = Family::default();
        registry.register(
            "unknown_words",
            "Values the Konigle API sent that this version does not know, by field",
            unknown_words.clone(),
        );
        let rate_limited = Counter::default();
        registry.register_with_unit(
            "api_rate_limited",
            "Time requests waited for the rate limit or after a 429",
            Unit::Seconds,
            rate_limited.clone(),
        );
        let leader = Gauge::default();
        registry.register("leader", "1 while this process holds the Lease or needs none", leader.clone());
        registry.register("build", "The version of this binary", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self {
            registry,
            reconciles,
            reconcile_time,
            api_requests,
            attempts,
            unknown_outcomes,
            unknown_words,
            rate_limited,
            leader,
        }
    }

    /// One reconcile ended: `result` is `success`, `conflict` or `error`; it took `seconds`.
    pub fn reconcile(&self, result: &'static str, seconds: f64) {
        self.reconciles.get_or_create(&ResultLabel { result }).inc();
        self.reconcile_time.observe(seconds);
    }

    /// One request to the Konigle API ended. `code` is the HTTP status, or `error` where no answer came.
    pub fn api_request(&self, operation: &'static str, code: Option<u16>) {
        let code = code.map_or_else(|| "error".to_owned(), |code| code.to_string());
        self.api_requests.get_or_create(&RequestLabels { operation, code }).inc();
    }

    /// A request waited `seconds` for the rate limit of its account.
    pub fn rate_limited(&self, seconds: f64) {
        self.rate_limited.inc_by(seconds);
    }

    /// An attempt ended; `kind` is `Deploy` or `Promote`, `result` a word of `status.history[].result`.
    pub fn attempt(&self, kind: &'static str, result: &'static str) {
        self.attempts.get_or_create(&AttemptLabels { r#type: kind, result }).inc();
    }

    /// A submitted attempt came back without an answer that tells its outcome.
    pub fn unknown_outcome(&self) {
        self.unknown_outcomes.inc();
    }

    /// The Konigle API sent a word in `field` that this version does not know.
    pub fn unknown_word(&self, field: &'static str) {
        self.unknown_words.get_or_create(&WordLabels { field }).inc();
    }

    /// Whether this process holds the Lease (or runs without one).
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
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
