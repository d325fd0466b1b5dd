//! `/healthz`, `/readyz` and `/metrics`, and whether the installed CRD is complete.
//!
//! The CRD itself is not read: that would need a right in the whole cluster. The API server's `OpenAPI` document of the
//! group is open to every authenticated account, and says the same.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
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
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::within;
use crate::commands::INSTALL_CRD;
use crate::metrics::Metrics;

/// Why the process is not ready; `None` when it is.
#[derive(Debug)]
pub struct Readiness {
    crd: Mutex<Option<String>>,
    watch: Mutex<Option<String>>,
    failures: Mutex<Option<Failures>>,
    lost: AtomicBool,
    /// The watch failed: the CRD may be why.
    doubted: Notify,
    /// The CRD is there, and was not at the look before.
    came: Notify,
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
            doubted: Notify::new(),
            came: Notify::new(),
        }
    }
}

/// What the installed CRD is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Installed {
    Complete,
    Missing,
    /// It is there, or that could not be seen, and this is wrong.
    Faulty(String),
}

impl Installed {
    fn problem(&self) -> Option<String> {
        match self {
            Self::Complete => None,
            Self::Missing => Some(format!("the CRD is not installed: {INSTALL_CRD}")),
            Self::Faulty(problem) => Some(problem.clone()),
        }
    }
}

impl Readiness {
    /// The CRD is complete (`None`), or this is wrong with it.
    pub fn set_crd(&self, problem: Option<String>) {
        *self.crd.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// The CRD was not there and is now: what the watch said meanwhile is over, and it need not wait for its next try.
    fn crd_came(&self) {
        self.set_watch(Some("the CRD is there now; the resources are not listed yet".to_owned()));
        self.came.notify_one();
    }

    /// Waits until the CRD is there after it was not. For one that waits: the watch.
    pub async fn until_crd_comes(&self) {
        self.came.notified().await;
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
        self.doubted.notify_one();
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
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => TcpListener::bind(without_ipv6(address, &error).ok_or(error)?).await?,
    };
    info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
    axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await
}

/// `EAFNOSUPPORT`, for which the standard library has no name.
const NO_SUCH_ADDRESS_FAMILY: i32 = if cfg!(target_os = "linux") { 97 } else { 47 };

/// All addresses of IPv4 in place of all addresses at all, where listening on these failed because the node's kernel has no
/// IPv6. Nobody who names one address is given another.
fn without_ipv6(address: SocketAddr, error: &std::io::Error) -> Option<SocketAddr> {
    let is_any = address.ip() == Ipv6Addr::UNSPECIFIED;
    (is_any && error.raw_os_error() == Some(NO_SUCH_ADDRESS_FAMILY))
        .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
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

/// How often the CRD is looked at while it is as it should be, and while it is not.
const LOOKS: (Duration, Duration) = (Duration::from_mins(1), Duration::from_secs(2));

/// Compares the installed CRD with the one compiled in, every few seconds until it is complete and every minute then; at
/// once where the watch failed.
pub async fn watch_crd(client: Client, readiness: Arc<Readiness>, stop: CancellationToken) {
    let mut known: Option<Installed> = None;
    loop {
        let installed = installed_crd(&client).await;
        let problem = installed.problem();
        if known.as_ref() != Some(&installed) {
            match &problem {
                None => info!("the installed CRD is complete"),
                Some(problem) => warn!(error = problem, "not ready"),
            }
        }
        readiness.set_crd(problem);
        // A look that brought nothing tells nothing of whether it is there.
        let came = known == Some(Installed::Missing) && installed != Installed::Missing;
        known = Some(installed);
        if came {
            readiness.crd_came();
        }
        let pause = if known == Some(Installed::Complete) { LOOKS.0 } else { LOOKS.1 };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Not more often than that: a watch that fails again and again must not become a row of looks.
            () = async { readiness.doubted.notified().await; tokio::time::sleep(LOOKS.1).await } => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn installed_crd(client: &Client) -> Installed {
    let request = match http::Request::get("/openapi/v3/apis/cloud.konigle.com/v1alpha1").body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return Installed::Faulty(error.to_string()),
    };
    let document: Value = match within("read the OpenAPI document", client.request(request)).await {
        Ok(document) => document,
        Err(error) if error.code() == Some(404) => return Installed::Missing,
        Err(error) => return Installed::Faulty(error.to_string()),
    };
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    let installed = schemas.iter().find(|(name, _)| name.ends_with(".KonigleSpace")).map(|(_, schema)| schema);
    let Some(installed) = installed else { return Installed::Faulty("the CRD has no KonigleSpace".to_owned()) };
    let compiled = serde_json::to_value(crate::api::crd()).unwrap_or_default();
    let compiled = &compiled["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    missing_fields(compiled, installed, "").map_or(Installed::Complete, |field| {
        Installed::Faulty(format!("the installed CRD is older than this operator and lacks {field}: {INSTALL_CRD}"))
    })
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
    use std::io::{Error, ErrorKind};

    use super::*;
    use serde_json::json;

    #[test]
    fn a_kernel_without_ipv6_is_listened_on_by_ipv4_and_no_other_failure_is_passed_over() {
        let no_ipv6 = Error::from_raw_os_error(NO_SUCH_ADDRESS_FAMILY);
        assert!(no_ipv6.to_string().starts_with("Address family not supported"), "{no_ipv6}");
        let instead = |address: &str, error: &Error| {
            without_ipv6(address.parse().unwrap(), error).map(|address| address.to_string())
        };
        assert_eq!(instead("[::]:8080", &no_ipv6).as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(instead("[::]:8080", &Error::from(ErrorKind::AddrInUse)), None, "somebody else listens");
        assert_eq!(instead("[::1]:8080", &no_ipv6), None, "this address was asked for, and no other");
        assert_eq!(instead("0.0.0.0:8080", &no_ipv6), None, "it is that already");
    }

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
