//! Asking an artifact's host: who may be asked, and where credentials go. [`Body`] is what it then sends.
//!
//! Redirects are followed here and not by the HTTP client: each hop is checked before it is asked, credentials stay at
//! the origin that they are for even if a later hop leads back to it, and no `Referer` carries a pre-signed URL on.
//!
//! Absent: retries of a request that was not answered (the next reconcile is one), compression (it would change the bytes
//! under the digest), cookies, and knowledge of what the bytes are.

mod body;
mod guard;

use std::error::Error;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, HeaderMap};
use reqwest::{Certificate, Client, Method, Response, StatusCode, redirect, retry};
use secrecy::ExposeSecret;
use url::Url;

pub(super) use body::{Ask, Resume, looks_like_html};
pub use body::{Body, Chunk};
pub use guard::location;
pub(super) use guard::{Guard, is_one_of};

use self::guard::{Reach, not_public};
use super::{Auth, FetchError, LONGEST_RETRY_AFTER, Limits, SourceField};
use crate::address::{self, PublicResolver, SystemResolver};

const MAX_REDIRECTS: usize = 10;

/// What asks hosts for one source: its rules, its trusted certificates, and the connections that stand.
#[derive(Debug)]
pub(super) struct Transport {
    field: SourceField,
    guard: Guard,
    public: Client,
    /// For the hosts that may be at any address; absent where there are none.
    any: Option<Client>,
    limits: Limits,
}

/// One request.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    /// Sent to the origin of `url` only, never along a redirect to another one.
    pub(super) auth: Option<&'a Auth>,
    pub(super) headers: HeaderMap,
}

/// The first answer that is no redirect.
pub(super) struct Answer {
    pub(super) response: Response,
    /// Who gave it.
    pub(super) url: Url,
    pub(super) redirected: bool,
    /// Whether it came from the origin that was asked first, and no other was asked in between.
    pub(super) at_home: bool,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }
}

impl Transport {
    /// Trusts the certificates of `ca`, in PEM, beside the system's.
    pub(super) fn new(field: SourceField, ca: Option<&[u8]>, limits: &Limits) -> Result<Self, FetchError> {
        let guard = Guard::new(field, limits);
        // No proxy: it would resolve the name itself, out of the resolver's sight.
        let any = if guard.allows_private() {
            let any = builder(ca, limits)?.https_only(!guard.allows_http());
            Some(build(if limits.allow_insecure { any } else { any.no_proxy() }, ca)?)
        } else {
            None
        };
        let public = match &any {
            // All are asked by the same, then.
            Some(any) if limits.allow_insecure => any.clone(),
            _ => {
                let public = builder(ca, limits)?.https_only(true).no_proxy();
                build(public.dns_resolver(PublicResolver::over(SystemResolver)), ca)?
            }
        };
        Ok(Self { field, guard, public, any, limits: limits.clone() })
    }

    /// Asks, along redirects, until an answer stands. A method other than GET and HEAD is not redirected.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Answer, FetchError> {
        let Question { method, url: first, auth, headers } = question;
        let mut url = first.clone();
        let mut at_home = true;
        let mut reach = self.guard.check(&url)?;
        for hop in 0..=MAX_REDIRECTS {
            at_home &= url.origin() == first.origin();
            let by = match (reach, &self.any) {
                (Reach::Any, Some(any)) => any,
                _ => &self.public,
            };
            let request = by.request(method.clone(), url.clone()).headers(headers.clone());
            let request = request.header(ACCEPT_ENCODING, "identity");
            let request = match auth.filter(|_| at_home) {
                Some(Auth::Basic { username, password }) => {
                    request.basic_auth(username, Some(password.expose_secret()))
                }
                Some(Auth::Bearer(token)) => request.bearer_auth(token.expose_secret()),
                None => request,
            };
            let response = self.send(request, &url).await?;
            match self.guard.next_url(&response, &url) {
                Some(next) => {
                    url = next?;
                    reach = self.guard.check(&url)?;
                }
                None => return Ok(Answer { response, url, redirected: hop > 0, at_home }),
            }
        }
        Err(unavailable(location(first), format!("it redirects more than {MAX_REDIRECTS} times; check the URL")))
    }

    async fn send(&self, request: reqwest::RequestBuilder, url: &Url) -> Result<Response, FetchError> {
        let limit = self.limits.stall_timeout;
        match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(match address::find_cause(&error) {
                Some(forbidden @ address::AddressError::NotPublic { .. }) => not_public(url, forbidden),
                _ => unavailable(location(url), not_reached(&error, self.field)),
            }),
            Err(_) => Err(unavailable(location(url), format!("the server did not answer within {limit:?}"))),
        }
    }
}

fn builder(ca: Option<&[u8]>, limits: &Limits) -> Result<reqwest::ClientBuilder, FetchError> {
    let builder = Client::builder()
        .user_agent(concat!("konigle-operator/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(limits.connect_timeout);
    let Some(pem) = ca else { return Ok(builder) };
    let invalid = |reason: String| FetchError::CertificateInvalid { reason };
    let certificates = Certificate::from_pem_bundle(pem).map_err(|error| invalid(cause(&error)))?;
    if certificates.is_empty() {
        return Err(invalid("it holds no certificate".to_owned()));
    }
    Ok(builder.tls_certs_merge(certificates))
}

fn build(builder: reqwest::ClientBuilder, ca: Option<&[u8]>) -> Result<Client, FetchError> {
    builder.build().map_err(|error| {
        let reason = cause(&error);
        // Without certificates of the source's own, it is the system's trust store that cannot be used.
        match ca {
            Some(_) => FetchError::CertificateInvalid { reason },
            None => unavailable("the trusted certificates of this machine".to_owned(), reason),
        }
    })
}

fn not_reached(error: &reqwest::Error, field: SourceField) -> String {
    let cause = cause(error);
    if cause.contains("UnknownIssuer") {
        return format!(
            "its certificate is not trusted ({cause}); if it is signed by a CA of your own, put that into {}",
            field.trust()
        );
    }
    if cause.contains("InvalidContentType") {
        return format!("it does not speak TLS on this port ({cause})");
    }
    let what = if cause.contains("invalid peer certificate") {
        "its certificate is not valid"
    } else if error.is_dns() {
        "its name cannot be resolved"
    } else if error.is_timeout() {
        "the connection timed out"
    } else if error.is_connect() {
        "it cannot be connected to"
    } else {
        "the request failed"
    };
    format!("{what}: {cause}")
}

pub(super) fn unavailable(location: String, reason: String) -> FetchError {
    FetchError::Unavailable { location, reason }
}

/// An answer of 429, of which `what` tells. `asked` is what its header says; `advice` begins with its own punctuation.
pub(super) fn limited(location: String, what: &str, asked: Option<Duration>, advice: &str) -> FetchError {
    let wait = asked.unwrap_or_default().min(LONGEST_RETRY_AFTER);
    let until = if wait.is_zero() { String::new() } else { format!(", now for {} s", wait.as_secs_f64().ceil()) };
    FetchError::Limited { location, reason: format!("{what}; it limits how often it is asked{until}{advice}"), wait }
}

pub(super) fn refused(url: &Url, reason: &str) -> FetchError {
    FetchError::Refused { location: location(url), reason: reason.to_owned() }
}

/// The innermost cause: the outer ones say little, and the client's own text holds the whole URL.
fn cause(error: &reqwest::Error) -> String {
    let Some(mut inner) = error.source() else { return "no cause is known".to_owned() };
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string().chars().filter(|character| !character.is_control()).take(200).collect()
}
