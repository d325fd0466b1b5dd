//! `/healthz`, `/readyz` and `/metrics`, and whether the installed CRD is complete.
//!
//! The CRD itself is not read: that would need a right in the whole cluster. The API server's `OpenAPI` document of the
//! group is open to every authenticated account, and says the same.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use kube::Client;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::within;
use crate::metrics::Metrics;

/// Why the process is not ready; `None` when it is.
#[derive(Debug)]
pub struct Readiness {
    crd: Mutex<Option<String>>,
    watch: Mutex<Option<String>>,
    failures: Mutex<Option<Failures>>,
    lost: AtomicBool,
}

/// A row of failures of the watch.
#[derive(Clone, Debug)]
struct Failures {
    first: Instant,
    last: Instant,
    why: String,
}

/// The watch is begun again at once, and a first failure of it is nothing.
const FAILING_AFTER: Duration = Duration::from_secs(5);
/// Longer than the pause between two tries: a watch that did not fail for so long works, though it may have told nothing.
const WORKS_AFTER: Duration = Duration::from_mins(1);

impl Default for Readiness {
    fn default() -> Self {
        Self {
            crd: Mutex::new(Some("the CRD was not looked for yet".to_owned())),
            watch: Mutex::new(Some("the resources were not listed yet".to_owned())),
            failures: Mutex::default(),
            lost: AtomicBool::new(false),
        }
    }
}

impl Readiness {
    /// The CRD is complete (`None`), or this is wrong with it.
    pub fn set_crd(&self, problem: Option<String>) {
        *self.crd.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// The watch works (`None`), or this is wrong with it.
    pub fn set_watch(&self, problem: Option<String>) {
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        *self.failures.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The watch failed and is begun again. That it then works shows only in what it tells, and a quiet cluster gives it
    /// nothing to tell: so failures count while they keep coming.
    pub fn watch_failed(&self, why: String) {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let first = failures.as_ref().filter(|row| now - row.last < WORKS_AFTER).map_or(now, |row| row.first);
        *failures = Some(Failures { first, last: now, why });
    }

    /// The lead is lost for good: the process only ends what it began.
    pub fn set_lost(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    fn failing(&self) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let counts = failures.last - failures.first >= FAILING_AFTER && failures.last.elapsed() < WORKS_AFTER;
        counts.then_some(failures.why)
    }

    /// Why the process is not ready.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.lost.load(Ordering::Relaxed) {
            return Some("the Lease is lost".to_owned());
        }
        let crd = self.crd.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        crd.or_else(|| self.failing()).or(watch)
    }
}

/// Serves the three pages until `stop`.
///
/// # Errors
///
/// Where the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(show_metrics))
        .with_state((readiness, metrics));
    let listener = tokio::net::TcpListener::bind(address).await?;
    info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

type Shared = (Arc<Readiness>, Arc<Metrics>);

async fn readyz(State((readiness, _)): State<Shared>) -> (StatusCode, String) {
    match readiness.problem() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
    }
}

async fn show_metrics(State((_, metrics)): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

/// Compares the installed CRD with the one compiled in, every few seconds until it is complete and every minute then.
pub async fn watch_crd(client: Client, readiness: Arc<Readiness>, stop: CancellationToken) {
    let mut known: Option<Option<String>> = None;
    loop {
        let problem = installed_crd(&client).await;
        if known.as_ref() != Some(&problem) {
            match &problem {
                None => info!("the installed CRD is complete"),
                Some(problem) => warn!(error = problem, "not ready"),
            }
            known = Some(problem.clone());
        }
        let pause = if problem.is_none() { Duration::from_mins(1) } else { Duration::from_secs(2) };
        readiness.set_crd(problem);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn installed_crd(client: &Client) -> Option<String> {
    let request = match http::Request::get("/openapi/v3/apis/cloud.konigle.com/v1alpha1").body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return Some(error.to_string()),
    };
    let document: Value = match within("read the OpenAPI document", client.request(request)).await {
        Ok(document) => document,
        Err(error) if error.code() == Some(404) => {
            return Some(
                "the CRD is not installed: kubectl apply -f crds/koniglespaces.cloud.konigle.com.yaml".to_owned(),
            );
        }
        Err(error) => return Some(error.to_string()),
    };
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    let installed = schemas.iter().find(|(name, _)| name.ends_with(".KonigleSpace")).map(|(_, schema)| schema);
    let Some(installed) = installed else { return Some("the CRD has no KonigleSpace".to_owned()) };
    let compiled = serde_json::to_value(crate::api::crd()).unwrap_or_default();
    let compiled = &compiled["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let missing = missing_fields(compiled, installed, "");
    missing.map(|field| format!("the installed CRD is older than this operator and lacks {field}: kubectl apply -f crds/koniglespaces.cloud.konigle.com.yaml"))
}

/// The first property of `wanted` that `installed` lacks, as a path.
fn missing_fields(wanted: &Value, installed: &Value, path: &str) -> Option<String> {
    if let Some(properties) = wanted["properties"].as_object() {
        for (name, property) in properties {
            let path = format!("{path}.{name}");
            if path == ".metadata" || path == ".apiVersion" || path == ".kind" {
                continue;
            }
            let Some(other) = installed["properties"].get(name) else { return Some(path) };
            if let Some(missing) = missing_fields(property, other, &path) {
                return Some(missing);
            }
        }
    }
    match (wanted.get("items"), installed.get("items")) {
        (Some(wanted), Some(installed)) => missing_fields(wanted, installed, &format!("{path}[]")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_watch_that_fails_once_and_tells_nothing_more_is_no_failure() {
        let readiness = Readiness::default();
        readiness.set_crd(None);
        readiness.set_watch(None);
        readiness.watch_failed("too many requests".to_owned());
        assert_eq!(readiness.problem(), None, "it is begun again at once");
        let earlier = |row: &mut Failures, seconds| row.first -= Duration::from_secs(seconds);
        earlier(readiness.failures.lock().unwrap().as_mut().unwrap(), 6);
        readiness.watch_failed("no connection".to_owned());
        assert_eq!(readiness.problem().as_deref(), Some("no connection"), "it keeps failing");
        readiness.failures.lock().unwrap().as_mut().unwrap().last -= WORKS_AFTER;
        assert_eq!(readiness.problem(), None, "it did not fail for longer than its pauses are");
        readiness.watch_failed("no connection".to_owned());
        assert_eq!(readiness.problem(), None, "a new row begins");
        earlier(readiness.failures.lock().unwrap().as_mut().unwrap(), 6);
        readiness.set_watch(None);
        assert_eq!(readiness.problem(), None, "it told something");
    }

    #[test]
    fn a_missing_field_is_named_by_its_path() {
        let wanted = json!({"properties": {"status": {"properties": {"history": {"items": {"properties": {"cause": {}, "result": {}}}}}}}});
        let older =
            json!({"properties": {"status": {"properties": {"history": {"items": {"properties": {"result": {}}}}}}}});
        assert_eq!(missing_fields(&wanted, &wanted, ""), None);
        assert_eq!(missing_fields(&wanted, &older, ""), Some(".status.history[].cause".to_owned()));
        assert_eq!(missing_fields(&wanted, &json!({}), ""), Some(".status".to_owned()));
    }
}
