//! A proxy on loopback between two parts, which counts requests, holds some back, and answers some by itself.
//!
//! It speaks plain http to whoever comes, and http or https to the part behind it, so that what goes to the API server
//! can be read on the way. Bodies of PATCH and PUT are read whole before they go on; all others are streamed, watches too.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use futures::StreamExt;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Context, Result};

/// A running proxy. Dropping it closes it.
pub(crate) struct Proxy {
    address: std::net::SocketAddr,
    state: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Which requests a rule meets.
#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    method: Method,
    path: &'static str,
    body: &'static str,
}

impl Matcher {
    /// Requests with this method whose path has `path` in it.
    pub(crate) fn new(method: Method, path: &'static str) -> Self {
        Self { method, path, body: "" }
    }

    /// Those whose body, if it is read whole, has `body` in it.
    #[must_use]
    pub(crate) fn with_body(self, body: &'static str) -> Self {
        Self { body, ..self }
    }

    fn meets(&self, seen: &Seen) -> bool {
        self.method == seen.method && seen.path.contains(self.path) && seen.body.contains(self.body)
    }
}

/// Writes of a claim: a status with an attempt.
pub(crate) fn claims() -> Matcher {
    Matcher::new(Method::PATCH, "/status").with_body("\"nonce\"")
}

/// Writes of a job's id.
pub(crate) fn receipts() -> Matcher {
    Matcher::new(Method::PATCH, "/status").with_body("/status/attempt/jobID")
}

/// The nonce in a claim.
pub(crate) fn nonce_of(claim: &Seen) -> String {
    let body: Value = serde_json::from_str(&claim.body).unwrap_or_default();
    body[2]["value"]["attempt"]["nonce"].as_str().unwrap_or_default().to_owned()
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Its body, where it was read whole.
    pub(crate) body: String,
    pub(crate) headers: HeaderMap,
}

/// Holds a request back until it is opened.
#[derive(Clone)]
pub(crate) struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn closed() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until a request stands before it.
    pub(crate) async fn arrived(&self) -> Result<()> {
        let arriving = self.arrived.acquire();
        let permit = tokio::time::timeout(super::namespace::WAIT_LIMIT, arriving).await;
        permit.context("waiting for a request at the proxy's gate")??.forget();
        Ok(())
    }

    /// Lets all requests pass from now on.
    pub(crate) fn open(&self) {
        self.open.add_permits(Semaphore::MAX_PERMITS / 2);
    }

    /// Answers all requests that stand before it with 502.
    pub(crate) fn refuse(&self) {
        self.open.close();
    }
}

#[derive(Clone)]
enum Action {
    /// Answers so; the part behind never hears of it.
    Answer(StatusCode, String),
    /// Passes the request on, and answers so in place of the true answer.
    AnswerAfter(StatusCode),
    Hold(Gate),
    /// Passes the request on, and holds the true answer back.
    HoldAnswer(Gate),
    /// Passes the request on with the second in place of the first in its path.
    Rewrite(&'static str, &'static str),
}

struct Rule {
    matcher: Matcher,
    times: usize,
    action: Action,
}

struct Shared {
    upstream: String,
    http: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
    /// How often the watches that were open were silenced.
    silenced: AtomicUsize,
}

impl Proxy {
    /// Starts it before `upstream`, a base URL; `certificate` is the PEM file of the authority to trust, for https.
    pub(crate) async fn start(upstream: &str, certificate: Option<&Path>) -> Result<Self> {
        let mut client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        if let Some(path) = certificate {
            let pem = std::fs::read(path).context(format!("reading {}", path.display()))?;
            client = client.tls_certs_only([reqwest::Certificate::from_pem(&pem)?]);
        }
        let state = Arc::new(Shared {
            upstream: upstream.trim_end_matches('/').to_owned(),
            http: client.build()?,
            rules: Mutex::default(),
            seen: Mutex::default(),
            silenced: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(Arc::clone(&state));
        let task = tokio::spawn(async move {
            // Ends only with the listener.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, state, task })
    }

    /// Starts it before the API server that this kubeconfig file of the test bed names.
    pub(crate) async fn before_api_server(kubeconfig: &Path) -> Result<Self> {
        let cluster = read_json(kubeconfig)?["clusters"][0]["cluster"].clone();
        let text = |key: &str| cluster[key].as_str().unwrap_or_default().to_owned();
        Self::start(&text("server"), Some(Path::new(&text("certificate-authority")))).await
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same account as in this kubeconfig file, through the proxy; a file beside it.
    pub(crate) fn kubeconfig(&self, original: &Path) -> Result<PathBuf> {
        let mut config = read_json(original)?;
        config["clusters"][0]["cluster"] = serde_json::json!({"server": self.base_url()});
        let path = original.with_extension("proxied");
        std::fs::write(&path, config.to_string()).context(format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Answers the next `times` such requests by itself.
    pub(crate) fn answer(&self, matcher: Matcher, times: usize, status: StatusCode) {
        self.answer_with(matcher, times, status, &refusal_text(status));
    }

    /// As [`Proxy::answer`], with this JSON as the body.
    pub(crate) fn answer_with(&self, matcher: Matcher, times: usize, status: StatusCode, body: &str) {
        self.rules().push(Rule { matcher, times, action: Action::Answer(status, body.to_owned()) });
    }

    /// Passes the next `times` such requests on, and answers so in place of the true answer.
    pub(crate) fn answer_after(&self, matcher: Matcher, times: usize, status: StatusCode) {
        self.rules().push(Rule { matcher, times, action: Action::AnswerAfter(status) });
    }

    /// Holds such requests back; what is held never arrives when its sender dies.
    pub(crate) fn hold(&self, matcher: Matcher) -> Gate {
        let gate = Gate::closed();
        self.rules().push(Rule { matcher, times: usize::MAX, action: Action::Hold(gate.clone()) });
        gate
    }

    /// Passes such requests on, and holds their answers back.
    pub(crate) fn hold_answer(&self, matcher: Matcher) -> Gate {
        let gate = Gate::closed();
        self.rules().push(Rule { matcher, times: usize::MAX, action: Action::HoldAnswer(gate.clone()) });
        gate
    }

    /// Passes such requests on with `to` in place of `from` in their path and query.
    pub(crate) fn rewrite(&self, matcher: Matcher, from: &'static str, to: &'static str) {
        self.rules().push(Rule { matcher, times: usize::MAX, action: Action::Rewrite(from, to) });
    }

    /// Nothing more comes over the watches that are open now; those that are begun later work.
    pub(crate) fn silence_watches(&self) {
        self.state.silenced.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets all rules. What is held back stays where it is.
    pub(crate) fn clear(&self) {
        self.rules().clear();
    }

    /// All such requests so far.
    pub(crate) fn seen(&self, matcher: &Matcher) -> Vec<Seen> {
        let seen = self.state.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|seen| matcher.meets(seen)).cloned().collect()
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.state.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// What the first rule that meets this request does.
    fn act(&self, seen: &Seen) -> Option<Action> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && rule.matcher.meets(seen))?;
        rule.times -= 1;
        Some(rule.action.clone())
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    match forward(&shared, request).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

async fn forward(shared: &Arc<Shared>, request: Request) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let mut path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let whole = matches!(parts.method, Method::PATCH | Method::PUT);
    let (text, body) = if whole {
        let bytes = to_bytes(body, 8 << 20).await?;
        (String::from_utf8_lossy(&bytes).into_owned(), reqwest::Body::from(bytes))
    } else {
        (String::new(), reqwest::Body::wrap_stream(body.into_data_stream()))
    };
    let seen = Seen { method: parts.method.clone(), path: path.clone(), body: text, headers: parts.headers.clone() };
    let mut action = shared.act(&seen);
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
    if let Some(Action::Hold(gate)) = &action {
        gate.arrived.add_permits(1);
        gate.open.acquire().await?.forget();
        // By the rules as they are now.
        action = shared.act(&seen);
    }
    match &action {
        Some(Action::Answer(status, body)) => return Ok(answer(*status, body.clone())),
        Some(Action::Rewrite(from, to)) => path = path.replace(from, to),
        Some(Action::Hold(_) | Action::AnswerAfter(_) | Action::HoldAnswer(_)) | None => {}
    }
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    let url = format!("{}{path}", shared.upstream);
    let mut forwarded = shared.http.request(parts.method.clone(), url).headers(headers);
    if parts.method != Method::GET {
        forwarded = forwarded.body(body);
    }
    let reply = forwarded.send().await?;
    if let Some(Action::AnswerAfter(status)) = action {
        // Read to the end, so that it has taken effect.
        reply.bytes().await?;
        return Ok(answer(status, refusal_text(status)));
    }
    if let Some(Action::HoldAnswer(gate)) = action {
        gate.arrived.add_permits(1);
        gate.open.acquire().await?.forget();
    }
    let (status, headers) = (reply.status(), reply.headers().clone());
    let begun = path.contains("watch=true").then(|| shared.silenced.load(Ordering::Acquire));
    let silenced = Arc::clone(shared);
    let pieces = reply.bytes_stream().then(move |piece| {
        let is_silent = begun.is_some_and(|begun| begun != silenced.silenced.load(Ordering::Acquire));
        async move { if is_silent { std::future::pending().await } else { piece } }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    Ok(response)
}

fn read_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).context(format!("reading {}", path.display()))?;
    serde_json::from_str(&text).context(format!("reading {}", path.display()))
}

/// An error as the API server words it.
fn refusal_text(status: StatusCode) -> String {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": status.canonical_reason(),
        "message": "the proxy of the test bed says so", "code": status.as_u16(),
    });
    body.to_string()
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
