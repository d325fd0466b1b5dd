//! One download over HTTP: who may be asked, where credentials go, and when to give up.
//!
//! Redirects are followed here and not by the HTTP client: each hop is checked before it is asked, credentials stay at
//! the origin that they are for even if a later hop leads back to it, and no `Referer` carries a pre-signed URL on.
//!
//! Absent: retries (the next reconcile is one), ranges and resuming, compression (it would change the bytes under the
//! digest), cookies, and knowledge of what the bytes are.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, TRANSFER_ENCODING};
use reqwest::{Certificate, Client, Response, StatusCode, redirect, retry};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Auth, Digest, FetchError, HttpSource, Limits};
use crate::address::{self, PublicResolver, SystemResolver};

const MAX_REDIRECTS: usize = 10;
/// So much of the beginning is kept, to say what came instead of the file.
const HEAD: usize = 512;

/// The body of a 200, as it arrives.
pub(super) struct Body {
    response: Response,
    location: String,
    redirected: bool,
    limits: Limits,
    started: Instant,
    received: u64,
    head: Vec<u8>,
}

impl Body {
    /// Asks for the file, along redirects, until an answer of 200 stands.
    pub(super) async fn open(source: &HttpSource, limits: &Limits) -> Result<Self, FetchError> {
        let started = Instant::now();
        if !source.url.username().is_empty() || source.url.password().is_some() {
            return Err(refused(&source.url, "the URL holds a user or password; put them into the source's Secret"));
        }
        let client = client(source, limits)?;
        let mut url = source.url.clone();
        let mut auth = source.auth.as_ref();
        check(&url, limits.allow_insecure)?;
        for hop in 0..=MAX_REDIRECTS {
            if url.origin() != source.url.origin() {
                auth = None;
            }
            let response = ask(&client, &url, auth, limits).await?;
            let status = response.status();
            if status == StatusCode::OK {
                let location = location(&url);
                let redirected = hop > 0;
                let body = Self {
                    response,
                    location,
                    redirected,
                    limits: limits.clone(),
                    started,
                    received: 0,
                    head: Vec::new(),
                };
                return body.within_size(body.length().unwrap_or(0)).map(|()| body);
            }
            match next_url(&response, &url, limits.allow_insecure) {
                Some(next) => url = next?,
                None => return Err(answered(&url, status, source.auth.is_some(), auth.is_some())),
            }
        }
        Err(unavailable(location(&source.url), format!("it redirects more than {MAX_REDIRECTS} times; check the URL")))
    }

    /// The length that the server announced, in bytes.
    pub(super) fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; `None` after the last one. A body that breaks off is an error.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, FetchError> {
        let now = Instant::now();
        let deadline = self.deadline();
        let stall = now + self.limits.stall_timeout;
        let reason = match timeout_at(deadline.min(stall), self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                self.received += bytes.len() as u64;
                self.within_size(self.received)?;
                let missing = HEAD.saturating_sub(self.head.len());
                self.head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
                return Ok(Some(bytes));
            }
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => format!("the download broke off after {} bytes: {}", self.received, cause(&error)),
            Err(_) if deadline < stall => {
                format!("the download is too slow: {} bytes in {:?}", self.received, now - self.started)
            }
            Err(_) => {
                format!("the download stalled: no byte for {:?} after {}", self.limits.stall_timeout, self.received)
            }
        };
        Err(unavailable(self.location.clone(), reason))
    }

    /// The whole body came, and does not hash to `wanted`.
    pub(super) fn mismatch(self, wanted: Digest, got: Digest) -> FetchError {
        let Self { location, .. } = &self;
        let is_html = looks_like_html(&self.head)
            || self
                .header(CONTENT_TYPE)
                .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
        let hint = if is_html {
            let after = if self.redirected { " after a redirect" } else { "" };
            format!(
                "; the server answered 200{after} with an HTML page (a login page?): check the URL, and whether it wants credentials"
            )
        } else if let Some(encoding) = self.header(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let encoding: String = encoding.chars().take(20).collect();
            format!("; the server compressed it though it was asked not to (Content-Encoding: {encoding})")
        } else if self.length().is_none() && self.header(TRANSFER_ENCODING).is_none() {
            // Nothing marks the end of such a body but the end of the connection: it may have broken off.
            let reason = format!(
                "the server did not say how long the file is, and what came is not what the digest names (got {got}): it \
                 was cut short, or it is another file"
            );
            return unavailable(location.clone(), reason);
        } else {
            "; correct the digest, or publish the right file there".to_owned()
        };
        FetchError::DigestMismatch { location: location.clone(), wanted, got, hint }
    }

    fn header(&self, name: reqwest::header::HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    fn within_size(&self, size: u64) -> Result<(), FetchError> {
        if size <= self.limits.max_size {
            return Ok(());
        }
        Err(FetchError::TooLarge { location: self.location.clone(), limit: self.limits.max_size })
    }

    /// Grows with what came, so that a large file may take its time and a trickle may not.
    fn deadline(&self) -> Instant {
        let grown = Duration::from_secs(self.received / self.limits.least_rate.max(1));
        self.started + self.limits.total_timeout + grown
    }
}

fn client(source: &HttpSource, limits: &Limits) -> Result<Client, FetchError> {
    let mut builder = Client::builder()
        .user_agent(concat!("konigle-operator/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .connect_timeout(limits.connect_timeout)
        .https_only(!limits.allow_insecure);
    if !limits.allow_insecure {
        // A proxy would resolve the name itself, out of the resolver's sight.
        builder = builder.no_proxy().dns_resolver(PublicResolver::over(SystemResolver));
    }
    let invalid = |reason: String| FetchError::CertificateInvalid { reason };
    if let Some(pem) = &source.ca {
        let certificates = Certificate::from_pem_bundle(pem).map_err(|error| invalid(cause(&error)))?;
        if certificates.is_empty() {
            return Err(invalid("it holds no certificate".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(|error| {
        let reason = cause(&error);
        // Without certificates of the source's own, it is the system's trust store that cannot be used.
        if source.ca.is_some() { invalid(reason) } else { unavailable(location(&source.url), reason) }
    })
}

async fn ask(client: &Client, url: &Url, auth: Option<&Auth>, limits: &Limits) -> Result<Response, FetchError> {
    let mut request = client.get(url.clone()).header(ACCEPT, "*/*").header(ACCEPT_ENCODING, "identity");
    request = match auth {
        Some(Auth::Basic { username, password }) => request.basic_auth(username, Some(password.expose_secret())),
        Some(Auth::Bearer(token)) => request.bearer_auth(token.expose_secret()),
        None => request,
    };
    match tokio::time::timeout(limits.stall_timeout, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(match address::find_cause(&error) {
            Some(forbidden @ address::AddressError::NotPublic { .. }) => refused(url, &forbidden.to_string()),
            _ => unavailable(location(url), not_reached(&error)),
        }),
        Err(_) => {
            Err(unavailable(location(url), format!("the server did not answer within {:?}", limits.stall_timeout)))
        }
    }
}

fn not_reached(error: &reqwest::Error) -> String {
    let cause = cause(error);
    if cause.contains("UnknownIssuer") {
        return format!(
            "its certificate is not trusted ({cause}); if it is signed by a CA of your own, put that into `ca.crt` of the \
             source's Secret"
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

/// Where a redirect leads, if that may be asked; `None` if the answer is no redirect.
pub(super) fn next_url(response: &Response, url: &Url, allow_insecure: bool) -> Option<Result<Url, FetchError>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let next = response.headers().get(LOCATION)?;
    let next = next.to_str().ok().and_then(|next| url.join(next).ok());
    let Some(mut next) = next else {
        return Some(Err(unavailable(location(url), "it redirects to something that is no URL".to_owned())));
    };
    // Credentials come from the source's Secret only. Both fail only for URLs that `check` refuses anyway.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    Some(check(&next, allow_insecure).map(|()| next))
}

/// Whether `url` may be asked at all, as far as can be seen before its name is resolved.
pub(super) fn check(url: &Url, allow_insecure: bool) -> Result<(), FetchError> {
    match url.scheme() {
        "https" => {}
        "http" if allow_insecure => {}
        "http" => return Err(refused(url, "only https is; the operator's --allow-insecure-artifacts is for tests")),
        scheme => return Err(refused(url, &format!("the scheme must be https, not {scheme}"))),
    }
    if allow_insecure {
        return Ok(());
    }
    address::check_literal(url).map_err(|error| refused(url, &error.to_string()))
}

fn answered(url: &Url, status: StatusCode, has_secret: bool, sent: bool) -> FetchError {
    let code = status.as_u16();
    let advice = match (code, has_secret, sent) {
        (401 | 403, true, true) => "; check the credentials in spec.source.http.secretRef",
        (401 | 403, true, false) => {
            "; it was redirected to another origin, to which the credentials of spec.source.http.secretRef are not sent"
        }
        (401 | 403, false, _) => "; it may want credentials: name a Secret in spec.source.http.secretRef",
        (404 | 410, ..) => "; it may not be published yet",
        (408 | 429 | 500..=599, ..) => "",
        _ => "; wanted 200",
    };
    unavailable(location(url), format!("the server answered {code}{advice}"))
}

fn unavailable(location: String, reason: String) -> FetchError {
    FetchError::Unavailable { location, reason }
}

fn refused(url: &Url, reason: &str) -> FetchError {
    FetchError::Refused { location: location(url), reason: reason.to_owned() }
}

/// Host, port and path: what may be shown of a URL.
pub(super) fn location(url: &Url) -> String {
    const MAX: usize = 300;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut text = format!("{host}{port}{}", url.path());
    // Both host and path are ASCII in a parsed URL; a cut elsewhere leaves the text as it is.
    if text.len() > MAX && text.is_char_boundary(MAX) {
        text.truncate(MAX);
        text.push('…');
    }
    text
}

/// The innermost cause: the outer ones say little, and the client's own text holds the whole URL.
fn cause(error: &reqwest::Error) -> String {
    let Some(mut inner) = error.source() else { return "no cause is known".to_owned() };
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string().chars().filter(|character| !character.is_control()).take(200).collect()
}

/// Whether `head` begins as HTML does; most wrong downloads are a login or error page.
pub(super) fn looks_like_html(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|start| head.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hop_must_be_https_and_public() {
        for (url, allowed) in [
            ("https://ci.example.com/shop.zip", true),
            ("https://8.8.8.8/shop.zip", true),
            ("http://ci.example.com/shop.zip", false),
            ("ftp://ci.example.com/shop.zip", false),
            ("file:///etc/passwd", false),
            ("https://127.0.0.1/shop.zip", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://[::1]/shop.zip", false),
            ("https://[::ffff:10.0.0.1]/shop.zip", false),
        ] {
            let outcome = check(&Url::parse(url).unwrap(), false);
            assert_eq!(outcome.is_ok(), allowed, "{url}: {outcome:?}");
        }
        for (url, allowed) in [("http://127.0.0.1:8080/x", true), ("https://10.0.0.1/x", true), ("file:///x", false)] {
            assert_eq!(check(&Url::parse(url).unwrap(), true).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn a_redirect_leads_only_where_one_may_ask() {
        let url = Url::parse("https://ci.example.com/a/shop.zip?signature=1").unwrap();
        for (target, expected) in [
            ("b.zip", Some("https://ci.example.com/a/b.zip")),
            ("//cdn.example.com/b.zip?x=1", Some("https://cdn.example.com/b.zip?x=1")),
            ("https://user:hunter2@cdn.example.com/b.zip", Some("https://cdn.example.com/b.zip")),
            ("http://ci.example.com/a/shop.zip", None),
            ("https://169.254.169.254/latest/meta-data", None),
            ("https://[::1]/", None),
            ("file:///etc/passwd", None),
            ("https://", None),
        ] {
            let answer = axum::http::Response::builder().status(302).header("location", target).body("").unwrap();
            let next = next_url(&answer.into(), &url, false).unwrap();
            assert_eq!(next.as_ref().ok().map(Url::as_str), expected, "{target}: {next:?}");
        }
        let plain = axum::http::Response::builder().status(300).header("location", "b.zip").body("").unwrap();
        assert!(next_url(&plain.into(), &url, false).is_none(), "300 asks for a choice");
    }

    #[test]
    fn only_host_and_path_of_a_url_are_shown() {
        let url = "https://user:hunter2@ci.example.com:8443/a%20b/shop.zip?signature=hunter2#hunter2";
        assert_eq!(location(&Url::parse(url).unwrap()), "ci.example.com:8443/a%20b/shop.zip");
        let long = Url::parse(&format!("https://ci.example.com/{}", "x".repeat(1000))).unwrap();
        assert!(location(&long).len() < 310);
    }

    #[test]
    fn html_is_known_by_its_beginning() {
        for (head, expected) in [
            (&b"<!DOCTYPE html><title>Log in</title>"[..], true),
            (b"\xef\xbb\xbf\r\n  <!doctype HTML>", true),
            (b"<HTML lang=en>", true),
            (b"PK\x03\x04<html>", false),
            (b"<?xml version='1.0'?>", false),
            (b"<htm", false),
            (b"", false),
        ] {
            assert_eq!(looks_like_html(head), expected, "{}", String::from_utf8_lossy(head));
        }
    }
}
