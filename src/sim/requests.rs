//! How often each operation was asked for, and when each POST came in. Counting only; the machine's clock, not the
//! simulator's, so that benchmarks can be measured with it.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use super::faults::Operation;
use super::state::Micros;

/// Counts since the start, or since they were cleared.
#[derive(Debug, Default, Serialize)]
pub(super) struct Requests {
    /// Requests by operation.
    by_operation: BTreeMap<Operation, u64>,
    /// Requests by the id of the Space or job in the path, and by operation.
    by_object: BTreeMap<String, BTreeMap<Operation, u64>>,
    /// Answers by HTTP status; an answer that a fault cut off counts with the status it would have had.
    by_status: BTreeMap<u16, u64>,
    /// Every POST, in the order of arrival.
    posts: Vec<Post>,
    /// When each token's requests of the last minute came, by the simulator's clock.
    #[serde(skip)]
    last_minute: BTreeMap<String, VecDeque<Micros>>,
}

#[derive(Debug, Serialize)]
struct Post {
    operation: Operation,
    object: Option<String>,
    /// When its head was read, in milliseconds since the epoch.
    arrived_ms: f64,
    /// When its whole body was read.
    read_ms: Option<f64>,
    /// Of a deploy whose body was read: its `display_name`.
    display_name: Option<String>,
    /// The job that it was taken on with.
    job: Option<String>,
    /// The answer's HTTP status; null while there is none.
    status: Option<u16>,
}

impl Requests {
    /// How many requests came.
    pub(super) fn total(&self) -> u64 {
        self.by_operation.values().sum()
    }

    /// Counts a request. For a POST the answer is its place among the POSTs.
    pub(super) fn arrive(&mut self, operation: Operation, object: Option<&str>, at: Micros) -> Option<usize> {
        *self.by_operation.entry(operation).or_default() += 1;
        if let Some(object) = object {
            *self.by_object.entry(object.to_owned()).or_default().entry(operation).or_default() += 1;
        }
        operation.is_write().then(|| {
            let object = object.map(str::to_owned);
            self.posts.push(Post {
                operation,
                object,
                arrived_ms: milliseconds(at),
                read_ms: None,
                display_name: None,
                job: None,
                status: None,
            });
            self.posts.len() - 1
        })
    }

    pub(super) fn body_read(&mut self, post: Option<usize>, at: Micros, display_name: Option<String>) {
        if let Some(post) = post.and_then(|place| self.posts.get_mut(place)) {
            post.read_ms = Some(milliseconds(at));
            post.display_name = display_name;
        }
    }

    pub(super) fn accepted(&mut self, post: Option<usize>, job: Option<&str>) {
        if let Some(post) = post.and_then(|place| self.posts.get_mut(place)) {
            post.job = job.map(str::to_owned);
        }
    }

    pub(super) fn answered(&mut self, post: Option<usize>, status: u16) {
        *self.by_status.entry(status).or_default() += 1;
        if let Some(post) = post.and_then(|place| self.posts.get_mut(place)) {
            post.status = Some(status);
        }
    }

    /// Whether one more request of the tenant stays within `limit` a minute; a request beyond it is not counted.
    pub(super) fn within_limit(&mut self, tenant: &str, limit: u64, now: Micros) -> bool {
        let minute = self.last_minute.entry(tenant.to_owned()).or_default();
        minute.retain(|at| now - at < 60_000_000);
        let within = limit == 0 || (minute.len() as u64) < limit;
        if within && limit > 0 {
            minute.push_back(now);
        }
        within
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds since the epoch are below 2^53")]
pub(super) fn milliseconds(at: Micros) -> f64 {
    at as f64 / 1e3
}
