//! The reads, and the clients that all who name one account share.
//!
//! One [`Client`] for an account (base URL and token): one connection pool, one rate limit, one pause after a 429. The
//! writes are in `submit`. Absent: retries of any kind, redirects, compression, caches of replies.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Response;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use rustls_platform_verifier::BuilderVerifierExt as _;
use secrecy::ExposeSecret as _;
use tokio::time::timeout_at;
use tracing::{Instrument as _, Span};
use url::Url;

use super::account::Account;
use super::base_url::Guard;
use super::error::{ReadError, innermost};
use super::job::{JobProblem, JobReader};
use super::list::{Item, Paging};
use super::model::{Computer, Job, Space, WebApp, is_id};
use super::pace::{Pace, TooSoon};
use crate::address::{self, AddressError, PublicResolver, SystemResolver};
use crate::crash;
use crate::metrics::Metrics;
use crate::redact::Redactor;
use crate::telemetry;

/// How this operator shows itself to the API.
const USER_AGENT: &str = concat!("konigle-operator/", env!("CARGO_PKG_VERSION"));
/// Items that a page is asked for; the server may give fewer.
const PAGE_SIZE: &str = "100";
/// Bytes of an error body that are read for its words.
const ERROR_BYTES: usize = 64 << 10;
/// The time of how many reads a list has, however many pages: a pass waits for it.
const LIST_READS: u32 = 4;

/// The bounds of every call. Tests shorten them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// For one GET in all, and, before that, for its turn.
    pub read: Duration,
    /// For the body of the answer to a write, once its head is there.
    pub answer: Duration,
    /// How long a write that is wholly sent may still wait for its answer after shutdown was asked for.
    pub shutdown: Duration,
    /// Longest body of one object, of a page of a list, and of the answer to a write, in bytes.
    pub object_bytes: usize,
    /// How much of a job's body is read, in bytes.
    pub job_bytes: usize,
    /// Most pages of one list.
    pub pages: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(15),
            answer: super::ANSWER_LIMIT,
            shutdown: Duration::from_mins(1),
            object_bytes: 1 << 20,
            job_bytes: 8 << 20,
            pages: 100,
        }
    }
}

/// What the operator's flags say about its calls to Konigle.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests a second, for each account (`--api-rate`).
    pub rate: NonZeroU32,
    /// Requests at once, for each account (`--api-burst`).
    pub burst: NonZeroU32,
    /// Which base URLs may stand for an address that is not public.
    pub guard: Guard,
    /// The bounds of every call.
    pub limits: Limits,
}

/// Why there is no client for an account.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL is an address that is not public.
    #[error("the base URL is not allowed")]
    Address(#[source] AddressError),
    /// The token cannot stand in a header; [`super::parse_token`] would have refused it.
    #[error("the token cannot stand in a header")]
    Token,
    /// TLS cannot be set up; the text says why.
    #[error("no HTTP client can be made: {0}")]
    Build(String),
}

/// How long a client is kept that nobody uses: longer than the default `spec.interval`, and not much, for each rotated token
/// leaves one behind.
const KEPT: Duration = Duration::from_mins(6);

/// One [`Client`] for each account, made when it is first asked for and dropped when nobody used it for a while.
#[derive(Debug)]
pub struct Clients {
    settings: Settings,
    metrics: Arc<Metrics>,
    shared: Mutex<HashMap<Account, Shared>>,
}

#[derive(Debug)]
struct Shared {
    client: Arc<Client>,
    last_used: Instant,
}

impl Clients {
    /// No client yet.
    #[must_use]
    pub fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        Self { settings, metrics, shared: Mutex::default() }
    }

    /// The client for this account. Whoever keeps it keeps it alive.
    pub fn client(&self, account: &Account) -> Result<Arc<Client>, ClientError> {
        let mut clients = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Not while Konigle wants a pause: a new client would know nothing of it.
        clients.retain(|_, shared| {
            Arc::strong_count(&shared.client) > 1
                || now.duration_since(shared.last_used) < KEPT
                || shared.client.pace.paused().is_some()
        });
        if let Some(shared) = clients.get_mut(account) {
            shared.last_used = now;
            return Ok(Arc::clone(&shared.client));
        }
        let client = Arc::new(Client::new(account.clone(), &self.settings, Arc::clone(&self.metrics))?);
        clients.insert(account.clone(), Shared { client: Arc::clone(&client), last_used: now });
        Ok(client)
    }
}

/// Calls the API for one account.
pub struct Client {
    pub(super) account: Account,
    pub(super) limits: Limits,
    pub(super) redactor: Redactor,
    pub(super) metrics: Arc<Metrics>,
    authorization: HeaderValue,
    trusted: bool,
    pace: Pace,
    tls: rustls::ClientConfig,
    http: reqwest::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Client {
    fn new(account: Account, settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, ClientError> {
        let trusted = settings.guard.trusts(account.base_url());
        if !trusted {
            address::check_literal(account.url()).map_err(ClientError::Address)?;
        }
        let token = account.token().expose_secret();
        let redactor = Redactor::new([token]);
        let mut authorization = HeaderValue::try_from(format!("Token {token}")).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        let limits = settings.limits.clone();
        let tls = tls().map_err(|error| ClientError::Build(error.to_string()))?;
        let http = http_client(&account, &authorization, &limits, (trusted, &tls));
        let http = http.pool_idle_timeout(Duration::from_secs(20)).build();
        let http = http.map_err(|error| ClientError::Build(innermost(&error, &redactor)))?;
        let pace = Pace::new(settings.rate, settings.burst);
        Ok(Self { account, limits, redactor, metrics, authorization, trusted, pace, tls, http })
    }

    /// Whose calls these are.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// One Space. Its id is the one that was asked for.
    pub async fn space(&self, id: &str) -> Result<Space, ReadError> {
        let json = self.object("get_space", self.endpoint(&["spaces", checked(id)?])).await?;
        let space = Space::decode(&json).map_err(undecodable)?;
        same_id(id, &space.id)?;
        Ok(space.redacted(&self.redactor))
    }

    /// All Spaces of a web app, without those that say they belong to another one. Never a partial list.
    pub async fn spaces(&self, webapp_id: &str) -> Result<Vec<Space>, ReadError> {
        let list = List { operation: "list_spaces", path: "spaces", filter: Some(("webapp_id", checked(webapp_id)?)) };
        let mut spaces: Vec<Space> = self.list(list).await?;
        spaces.retain(|space| space.webapp.as_deref().is_none_or(|webapp| webapp == webapp_id));
        Ok(spaces.into_iter().map(|space| space.redacted(&self.redactor)).collect())
    }

    /// All computers that the token reaches. Never a partial list.
    pub async fn computers(&self) -> Result<Vec<Computer>, ReadError> {
        self.list(List { operation: "list_computers", path: "computers", filter: None }).await
    }

    /// All web apps of a computer, without those that say they are on another one. Never a partial list.
    pub async fn webapps(&self, computer_id: &str) -> Result<Vec<WebApp>, ReadError> {
        let list =
            List { operation: "list_webapps", path: "webapps", filter: Some(("computer_id", checked(computer_id)?)) };
        let mut webapps: Vec<WebApp> = self.list(list).await?;
        webapps.retain(|webapp| webapp.computer.as_deref().is_none_or(|computer| computer == computer_id));
        Ok(webapps)
    }

    /// One job, with the end of its log. Its id is the one that was asked for. A body beyond the cap still makes a job,
    /// if the status was in what was read.
    pub async fn job(&self, id: &str) -> Result<Job, ReadError> {
        let mut reader = JobReader::new(true);
        let url = self.endpoint(&["jobs", checked(id)?]);
        let whole = self.get("get_job", url, self.limits.job_bytes, |piece| reader.feed(piece)).await?;
        let job = reader.finish(whole, &self.redactor).map_err(|problem| match problem {
            JobProblem::TooLarge => ReadError::TooLarge,
            JobProblem::Undecodable(what) => ReadError::Undecodable { what: what.to_owned() },
        })?;
        same_id(id, &job.id)?;
        Ok(job)
    }

    /// All jobs that the token reaches, without their logs; `None` where the server does not serve the list (403, 404,
    /// 405, 501) or it is longer than is read. It is no part of the published contract. Never a partial list.
    pub async fn jobs(&self) -> Result<Option<Vec<Job>>, ReadError> {
        match self.list(List { operation: "list_jobs", path: "jobs", filter: None }).await {
            Ok(jobs) => Ok(Some(jobs)),
            Err(
                ReadError::Forbidden { .. }
                | ReadError::NotFound { .. }
                | ReadError::Status { code: 405 | 501, .. }
                | ReadError::TooLarge,
            ) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All pages of a list. No page is asked for when the list's time is over.
    async fn list<T: Item>(&self, list: List<'_>) -> Result<Vec<T>, ReadError> {
        let mut paging = Paging::new();
        let deadline = Instant::now() + LIST_READS * self.limits.read;
        for page in 1..=self.limits.pages {
            if Instant::now() > deadline {
                return Err(ReadError::Timeout);
            }
            let mut url = self.endpoint(&[list.path]);
            url.query_pairs_mut().append_pair("page", &page.to_string()).append_pair("page_size", PAGE_SIZE);
            if let Some((name, value)) = list.filter {
                url.query_pairs_mut().append_pair(name, value);
            }
            let json = self.object(list.operation, url).await?;
            if !paging.page(&json).map_err(undecodable)? {
                let items = paging.finish();
                if items.iter().any(|item: &T| self.redactor.knows(item.id())) {
                    // Ids are shown, and are good for nothing once a part of them is taken out.
                    return Err(ReadError::Undecodable { what: "an id in the list holds the token".to_owned() });
                }
                return Ok(items);
            }
        }
        Err(ReadError::TooLarge)
    }

    /// The body of one GET as text; invalid UTF-8 in it is replaced.
    async fn object(&self, operation: &'static str, url: Url) -> Result<String, ReadError> {
        let mut body = Vec::new();
        if !self.get(operation, url, self.limits.object_bytes, |piece| body.extend_from_slice(piece)).await? {
            return Err(ReadError::TooLarge);
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// One GET. Hands at most `cap` bytes of a 2xx body to `take`; true if that was all of it.
    async fn get(
        &self,
        operation: &'static str,
        url: Url,
        cap: usize,
        take: impl FnMut(&[u8]),
    ) -> Result<bool, ReadError> {
        self.enter(self.limits.read).await.map_err(|retry_after| ReadError::RateLimited { retry_after })?;
        let (mut code, began, span) = (None, Instant::now(), telemetry::request_span(operation));
        let exchange = crash::around(operation, self.exchange(url, cap, take, &mut code));
        let result = exchange.instrument(span.clone()).await;
        self.record(operation, code, (began, &span));
        if let Err(ReadError::RateLimited { retry_after }) = &result {
            self.pause(*retry_after);
        }
        result
    }

    async fn exchange(
        &self,
        url: Url,
        cap: usize,
        take: impl FnMut(&[u8]),
        code: &mut Option<u16>,
    ) -> Result<bool, ReadError> {
        let deadline = tokio::time::Instant::now() + self.limits.read;
        let broken = |error| ReadError::from_transport(&error, &self.redactor);
        let head = timeout_at(deadline, self.http.get(url).send()).await.map_err(|_| ReadError::Timeout)?;
        let response = head.map_err(broken)?;
        let (status, headers) = (response.status(), response.headers().clone());
        *code = Some(status.as_u16());
        if status.is_success() {
            let body = timeout_at(deadline, read_body(response, cap, take)).await.map_err(|_| ReadError::Timeout)?;
            return body.map_err(broken);
        }
        // The code is the answer: a body that does not come whole takes only the words away.
        let mut body = Vec::new();
        let whole = timeout_at(deadline, read_body(response, ERROR_BYTES, |piece| body.extend_from_slice(piece))).await;
        if !matches!(whole, Ok(Ok(true))) {
            body.clear();
        }
        Err(ReadError::from_answer(status, &headers, &body, &self.redactor))
    }

    /// Waits for the account's turn; `Err` is when to try again if that would take longer than `longest`.
    pub(super) async fn enter(&self, longest: Duration) -> Result<(), Duration> {
        let began = Instant::now();
        let turn = self.pace.enter(longest).await;
        let waited = began.elapsed();
        if turn.is_err() || waited >= Duration::from_millis(1) {
            self.metrics.rate_limited(waited, turn.is_err());
        }
        turn.map_err(|TooSoon { retry_after }| retry_after)
    }

    pub(super) fn pause(&self, retry_after: Duration) {
        self.pace.pause(retry_after);
    }

    /// Counts a request that began then and has its answer now, or none.
    pub(super) fn record(&self, operation: &'static str, code: Option<u16>, (began, span): (Instant, &Span)) {
        telemetry::note_answer(span, code);
        self.metrics.api_request(operation, code, began.elapsed());
    }

    /// The URL of an endpoint; every segment is encoded.
    pub(super) fn endpoint(&self, segments: &[&str]) -> Url {
        let mut url = self.account.url().clone();
        // Only a URL without a host, which no account has, has no segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["cloud", "api", "v1"]).extend(segments);
        }
        url
    }

    /// A client for one write, which shares no connection with any other request.
    pub(super) fn http_client(&self) -> reqwest::ClientBuilder {
        http_client(&self.account, &self.authorization, &self.limits, (self.trusted, &self.tls))
    }
}

struct List<'a> {
    operation: &'static str,
    path: &'a str,
    filter: Option<(&'a str, &'a str)>,
}

/// The machine's own certificates, read once for each account: reading them takes milliseconds, which a client made for
/// one write would spend between its claim and its request.
fn tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_platform_verifier()?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn http_client(
    account: &Account,
    authorization: &HeaderValue,
    limits: &Limits,
    (trusted, tls): (bool, &rustls::ClientConfig),
) -> reqwest::ClientBuilder {
    let headers = HeaderMap::from_iter([
        (AUTHORIZATION, authorization.clone()),
        (ACCEPT, HeaderValue::from_static("application/json")),
    ]);
    let https = account.url().scheme() == "https";
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .default_headers(headers)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .https_only(https)
        .tls_backend_preconfigured(tls.clone())
        .connect_timeout(limits.connect);
    match (trusted, https) {
        (true, true) => builder,
        // Loopback: a proxy would look for it on its own machine, and would be given the token in clear.
        (true, false) => builder.no_proxy(),
        // A proxy would resolve the name itself.
        (false, _) => builder.no_proxy().dns_resolver(PublicResolver::over(SystemResolver)),
    }
}

/// Hands at most `cap` bytes of a body to `take`; true if that was all of it.
pub(super) async fn read_body(
    mut response: Response,
    cap: usize,
    mut take: impl FnMut(&[u8]),
) -> Result<bool, reqwest::Error> {
    let mut left = cap;
    while let Some(piece) = response.chunk().await? {
        if piece.len() > left {
            take(&piece[..left]);
            return Ok(false);
        }
        left -= piece.len();
        take(&piece);
    }
    Ok(true)
}

fn checked(id: &str) -> Result<&str, ReadError> {
    if is_id(id) { Ok(id) } else { Err(ReadError::InvalidId) }
}

/// A reply about something else than what was asked for proves nothing.
fn same_id(asked: &str, found: &str) -> Result<(), ReadError> {
    if asked.eq_ignore_ascii_case(found) {
        return Ok(());
    }
    Err(ReadError::Undecodable { what: "it is about another id than the one that was asked for".to_owned() })
}

fn undecodable(problem: super::model::Undecodable) -> ReadError {
    ReadError::Undecodable { what: problem.what }
}
