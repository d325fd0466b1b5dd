//! One file as it arrives, continued where it breaks off.
//!
//! **Guarantee.** All bytes since the beginning, or since the last [`Chunk::Restarted`], are of one file: a part is taken
//! only where the server shows the same validator as before, the place where the last part ended, and the same length.
//! **Absent.** Retries of the first request, and belief in the bytes: who reads them hashes them.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use futures::future::BoxFuture;
use reqwest::header::{
    ACCEPT, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use reqwest::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Answer, Guard, Question, Transport, cause, limited, location, refused, unavailable};
use crate::artifact::{ArtifactCredentials, Digest, FetchError, Limits, SourceField};
use crate::retry_after;

/// So often a file is asked for in one fetch, the first time included, until it comes further.
const TRIES: usize = 5;
/// Whoever brings so many bytes more than ever before may break off again: some proxies end whatever takes long.
const PROGRESS: u64 = 1 << 20;
/// So much of the beginning is kept, to say what came instead of the file.
const HEAD: usize = 512;
/// A host that asks for more patience in the middle of a file is asked for it anew, later: whoever waits keeps others from
/// their turn.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What [`Body::next`] hands over.
#[derive(Debug)]
pub enum Chunk {
    /// The next bytes.
    Bytes(Bytes),
    /// What came so far belongs to no file: throw it away, the next bytes are the first ones.
    Restarted,
}

/// Asks for the file once more: from its first URL, with fresh credentials, and for its rest if there is something to go on
/// from. An answer that [`Resume::accepts`] does not take is an error.
pub(in crate::artifact) type Ask =
    Box<dyn Fn(Option<Resume>) -> BoxFuture<'static, Result<Answer, FetchError>> + Send + Sync>;

/// From where on a file is asked for.
#[derive(Clone, Debug)]
pub(in crate::artifact) struct Resume {
    from: u64,
    validator: Validator,
}

/// What tells one content of a URL from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Validator {
    header: HeaderName,
    value: HeaderValue,
}

/// A file as it arrives.
pub struct Body {
    ask: Ask,
    field: SourceField,
    limits: Limits,
    started: Instant,
    waits: ExponentialBackoff,
    /// How far the file had come when the tries were counted anew; nothing once it began anew itself, for bytes that come
    /// again and again bring it no further.
    come_to: Option<u64>,
    /// Over all tries, for the deadline.
    transferred: u64,
    /// Of the file that now arrives.
    received: u64,
    length: Option<u64>,
    validator: Option<Validator>,
    head: Vec<u8>,
    response: Response,
    location: String,
    redirected: bool,
}

enum Read {
    Bytes(Bytes),
    End,
    Broken(String),
    TooSlow(String),
}

impl Body {
    /// Asks for the file that this field of a spec names, along redirects, until an answer of 200 stands.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: it is not there, or may not be asked for.
    pub async fn open(
        url: &Url,
        field: SourceField,
        credentials: &ArtifactCredentials,
        limits: &Limits,
    ) -> Result<Self, FetchError> {
        if !url.username().is_empty() || url.password().is_some() {
            let reason = format!(
                "the URL holds a user or password; put them into a Secret that {}.secretRef names",
                field.path()
            );
            return Err(refused(url, &reason));
        }
        // Before the machine's certificates are read, which takes longer.
        Guard::new(field, limits).check(url)?;
        let transport = Transport::new(field, credentials.ca.as_deref(), limits)?;
        let shared = std::sync::Arc::new((transport, url.clone(), credentials.auth.clone()));
        let ask = move |resume: Option<Resume>| -> BoxFuture<'static, Result<Answer, FetchError>> {
            let shared = shared.clone();
            Box::pin(async move {
                let (transport, url, auth) = &*shared;
                let mut headers = Resume::headers(resume.as_ref());
                headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
                let question = Question { method: Method::GET, url, auth: auth.as_ref(), headers };
                let answer = transport.ask(question).await?;
                if Resume::accepts(resume.as_ref(), answer.status()) {
                    return Ok(answer);
                }
                Err(answered(&answer, field, auth.is_some()))
            })
        };
        Self::begin(Box::new(ask), field, limits).await
    }

    /// Asks for the first time.
    pub(in crate::artifact) async fn begin(ask: Ask, field: SourceField, limits: &Limits) -> Result<Self, FetchError> {
        let started = Instant::now();
        let Answer { response, url, redirected, .. } = ask(None).await?;
        let body = Self {
            ask,
            field,
            limits: limits.clone(),
            started,
            waits: waits(limits),
            come_to: Some(0),
            transferred: 0,
            received: 0,
            length: response.content_length(),
            validator: Validator::of(response.headers()),
            head: Vec::new(),
            response,
            location: location(&url),
            redirected,
        };
        body.within_size(body.length.unwrap_or(0)).map(|()| body)
    }

    /// The length of the whole file, in bytes, if the server announced it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// How many bytes of the file that now arrives are here.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What comes next; `None` after the last byte. A file that breaks off is asked for again, a few times.
    ///
    /// # Errors
    ///
    /// [`FetchError`]: it still breaks off, takes too long, or is too large.
    pub async fn next(&mut self) -> Result<Option<Chunk>, FetchError> {
        loop {
            let reason = match self.read().await {
                Read::Bytes(bytes) => {
                    self.received += bytes.len() as u64;
                    self.transferred += bytes.len() as u64;
                    self.within_size(self.received)?;
                    let missing = HEAD.saturating_sub(self.head.len());
                    self.head.extend_from_slice(&bytes[..missing.min(bytes.len())]);
                    return Ok(Some(Chunk::Bytes(bytes)));
                }
                Read::End => return Ok(None),
                Read::TooSlow(reason) => return Err(unavailable(self.location.clone(), reason)),
                Read::Broken(reason) => reason,
            };
            if self.again(reason).await? {
                return Ok(Some(Chunk::Restarted));
            }
        }
    }

    async fn read(&mut self) -> Read {
        let now = Instant::now();
        let deadline = self.deadline();
        let stall = now + self.limits.stall_timeout;
        let received = self.received;
        match timeout_at(deadline.min(stall), self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => Read::Bytes(bytes),
            // A part may be shorter than what was asked for.
            Ok(Ok(None)) if self.length.is_some_and(|length| received < length) => {
                Read::Broken(format!("the download broke off after {received} bytes: the server sent no more"))
            }
            Ok(Ok(None)) => Read::End,
            Ok(Err(error)) => Read::Broken(format!("the download broke off after {received} bytes: {}", cause(&error))),
            Err(_) if deadline < stall => {
                Read::TooSlow(format!("the download is too slow: {received} bytes in {:?}", now - self.started))
            }
            Err(_) => Read::Broken(format!(
                "the download stalled: no byte for {:?} after {received}",
                self.limits.stall_timeout
            )),
        }
    }

    /// Asks again until bytes can follow: whether they are the first ones.
    async fn again(&mut self, reason: String) -> Result<bool, FetchError> {
        if self.come_to.is_some_and(|before| self.received >= before + PROGRESS) {
            (self.come_to, self.waits) = (Some(self.received), waits(&self.limits));
        }
        let mut latest = unavailable(self.location.clone(), reason);
        let deadline = self.deadline();
        while let Some(wait) = self.waits.next() {
            let asked = latest.wait().unwrap_or_default();
            let begin = Instant::now() + wait.max(asked);
            if begin >= deadline || asked > LONGEST_WAIT {
                break;
            }
            tokio::time::sleep_until(begin).await;
            match timeout_at(deadline, self.reopen()).await {
                Ok(Err(
                    error @ (FetchError::Unavailable { .. } | FetchError::Denied { .. } | FetchError::Limited { .. }),
                )) => latest = error,
                Ok(outcome) => return outcome,
                Err(_) => break,
            }
        }
        Err(latest)
    }

    async fn reopen(&mut self) -> Result<bool, FetchError> {
        let resume = self.validator.clone().map(|validator| Resume { from: self.received, validator });
        if let Some(resume) = resume.filter(|resume| resume.from > 0) {
            let answer = (self.ask)(Some(resume.clone())).await?;
            match answer.status() {
                StatusCode::PARTIAL_CONTENT if resume.is_continued_by(answer.response.headers(), self.length) => {
                    self.take(answer);
                    return Ok(false);
                }
                StatusCode::OK => return self.restart(answer),
                // Another file, or a server that cannot count: its beginning is asked for.
                _ => {}
            }
        }
        let answer = (self.ask)(None).await?;
        self.restart(answer)
    }

    fn restart(&mut self, answer: Answer) -> Result<bool, FetchError> {
        (self.received, self.come_to) = (0, None);
        self.head.clear();
        self.length = answer.response.content_length();
        self.validator = Validator::of(answer.response.headers());
        self.take(answer);
        self.within_size(self.length.unwrap_or(0)).map(|()| true)
    }

    fn take(&mut self, Answer { response, url, redirected, .. }: Answer) {
        self.response = response;
        self.location = location(&url);
        self.redirected = redirected;
    }

    /// The whole body came, and does not hash to `wanted`.
    pub(in crate::artifact) fn mismatch(self, wanted: Digest, got: Digest) -> FetchError {
        let Self { location, .. } = &self;
        let is_html = looks_like_html(&self.head)
            || self
                .header(CONTENT_TYPE)
                .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("text/html"));
        let hint = if is_html {
            let after = if self.redirected { " after a redirect" } else { "" };
            let advice = match self.field {
                SourceField::Http => "check spec.source.http.url, and whether the host wants credentials",
                SourceField::Oci | SourceField::SourceRef => "see what stands in front of the host",
            };
            format!("; the server answered 200{after} with an HTML page (a login page?): {advice}")
        } else if let Some(encoding) = self.header(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            let encoding: String = encoding.chars().take(20).collect();
            format!("; the server compressed it though it was asked not to (Content-Encoding: {encoding})")
        } else if self.length.is_none() && self.header(TRANSFER_ENCODING).is_none() {
            // Nothing marks the end of such a body but the end of the connection: it may have broken off.
            let reason = format!(
                "the server did not say how long the file is, and what came is not what the digest names (got {got}): it \
                 was cut short, or it is another file"
            );
            return unavailable(location.clone(), reason);
        } else {
            match self.field {
                SourceField::Http => "; correct spec.source.http.digest, or publish the right file there",
                SourceField::Oci => "; the registry holds other bytes than it says: push the artifact again",
                SourceField::SourceRef => {
                    "; Flux replaced it meanwhile, or its storage is broken: have Flux reconcile the source"
                }
            }
            .to_owned()
        };
        FetchError::DigestMismatch { location: location.clone(), wanted, got, hint }
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
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
        let grown = Duration::from_secs(self.transferred / self.limits.least_rate.max(1));
        self.started + self.limits.total_timeout + grown
    }
}

impl Resume {
    /// The headers of a request for the rest, or, without one, for the whole.
    pub(in crate::artifact) fn headers(resume: Option<&Self>) -> HeaderMap {
        let Some(Self { from, validator }) = resume else { return HeaderMap::new() };
        let mut headers = HeaderMap::new();
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={from}-")) {
            headers.insert(RANGE, range);
            headers.insert(IF_RANGE, validator.value.clone());
        }
        headers
    }

    /// Whether an answer with this status can be gone on with, or tells that the file changed.
    pub(in crate::artifact) fn accepts(resume: Option<&Self>, status: StatusCode) -> bool {
        status == StatusCode::OK
            || resume.is_some() && matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE)
    }

    /// Whether a part is the rest of the same file.
    fn is_continued_by(&self, headers: &HeaderMap, length: Option<u64>) -> bool {
        let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).and_then(content_range);
        let Some((first, whole)) = range else { return false };
        let same = headers.get(&self.validator.header) == Some(&self.validator.value);
        same && first == self.from && (length.is_none() || whole == length)
    }
}

fn waits(limits: &Limits) -> ExponentialBackoff {
    ExponentialBuilder::new().with_min_delay(limits.resume_delay).with_factor(2.0).with_max_times(TRIES - 1).build()
}

impl Validator {
    /// A strong `ETag`, or a `Last-Modified` that is old enough to be one; nothing where ranges are not served.
    fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.get(ACCEPT_RANGES).is_some_and(|ranges| ranges == "none") {
            return None;
        }
        let taken = |header: HeaderName| Some(Self { value: headers.get(&header)?.clone(), header });
        let tag = taken(ETAG).filter(|tag| tag.value.as_bytes().starts_with(b"\""));
        tag.or_else(|| taken(LAST_MODIFIED).filter(|_| is_settled(headers)))
    }
}

/// Whether the file was last modified long enough before it was sent that its date tells it from a later one: a date has no
/// more than a second's precision, and the minute is what clients leave to clocks.
fn is_settled(headers: &HeaderMap) -> bool {
    let time = |name: HeaderName| {
        let text = headers.get(name)?.to_str().ok()?;
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
    };
    let (Some(modified), Some(sent)) = (time(LAST_MODIFIED), time(DATE)) else { return false };
    sent.as_second() - modified.as_second() >= 60
}

/// `bytes FIRST-LAST/WHOLE`: the first byte, and the length of the whole unless it is `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (digits(first)?, digits(last)?);
    let whole = if whole == "*" { None } else { Some(digits(whole)?) };
    (first <= last && whole.is_none_or(|whole| last < whole)).then_some((first, whole))
}

/// A number of digits alone: `parse` takes a sign too.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn answered(answer: &Answer, field: SourceField, has_credentials: bool) -> FetchError {
    let (code, place) = (answer.status().as_u16(), location(&answer.url));
    let what = format!("the server answered {code}");
    if code == 429 {
        return limited(place, &what, retry_after::of_headers(answer.response.headers()), "");
    }
    let advice = match (code, field) {
        (401 | 403, _) if answer.at_home => {
            return FetchError::Denied { location: place, reason: what, with_credentials: has_credentials };
        }
        (401 | 403, SourceField::Http) => {
            "; spec.source.http.url redirects to another origin, to which its credentials are not sent: see whom that host \
             lets in, or write its own URL into the field"
        }
        (401 | 403, _) => {
            "; the source's address redirects to another origin, to which no credentials are sent: see whom that host lets in"
        }
        (404 | 410, SourceField::SourceRef) => {
            "; Flux replaced it meanwhile, or lost its storage: have Flux reconcile the source"
        }
        (404 | 410, _) => "; it may not be published yet",
        (408 | 500..=599, _) => "",
        _ => "; wanted 200",
    };
    unavailable(place, format!("{what}{advice}"))
}

/// Whether `head` begins as HTML does; most wrong downloads are a login or error page.
pub(in crate::artifact) fn looks_like_html(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|start| head.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    #[test]
    fn what_a_server_answers_is_told_by_the_field_that_led_there() {
        use SourceField::{Http, Oci, SourceRef};
        let (home, away) = (true, false);
        for (field, code, at_home, has_credentials, expected) in [
            (Http, 401, home, true, "answered 401 to the credentials that it got"),
            (Http, 403, home, false, "answered 403 to a request without credentials"),
            (SourceRef, 403, home, false, "answered 403 to a request without credentials"),
            (Http, 403, away, true, "are not sent: see whom that host lets in, or write its own URL into the field"),
            (SourceRef, 401, away, false, "to which no credentials are sent: see whom that host lets in"),
            (Http, 404, home, false, "answered 404; it may not be published yet"),
            (SourceRef, 404, home, false, "or lost its storage: have Flux reconcile the source"),
            (Oci, 503, home, false, "the server answered 503"),
            (Http, 302, home, false, "the server answered 302; wanted 200"),
        ] {
            let response = axum::http::Response::builder().status(code).body("").unwrap();
            let url = Url::parse("https://ci.example.com/shop.zip?signature=hunter2").unwrap();
            let answer = Answer { response: response.into(), url, redirected: !at_home, at_home };
            let error = answered(&answer, field, has_credentials);
            let is_denied = matches!(error, FetchError::Denied { .. });
            assert_eq!(is_denied, matches!(code, 401 | 403) && at_home, "{error:?}");
            let message = error.to_string();
            assert!(message.starts_with("ci.example.com/shop.zip: ") && message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn a_content_range_is_read_strictly() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-0/1", Some((0, Some(1)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes 5-10/10", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes 5-/10", None),
            ("bytes -5/10", None),
            ("bytes +5-9/10", None),
            ("bytes 5-9", None),
            ("bytes=5-9/10", None),
            ("items 5-9/10", None),
            ("bytes 5-99999999999999999999/*", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }

    #[test]
    fn only_what_tells_one_file_from_the_next_is_a_validator() {
        let (old, now) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:51:00 GMT");
        for (lines, expected) in [
            (&[("etag", "\"a\"")][..], Some("\"a\"")),
            (&[("etag", "W/\"a\"")], None),
            (&[("etag", "a")], None),
            (&[("etag", "W/\"a\""), ("last-modified", old), ("date", now)], Some(old)),
            (&[("etag", "\"a\""), ("last-modified", old), ("date", now)], Some("\"a\"")),
            (&[("last-modified", old)], None),
            (&[("last-modified", old), ("date", old)], None),
            (&[("last-modified", "yesterday"), ("date", now)], None),
            (&[("etag", "\"a\""), ("accept-ranges", "none")], None),
            (&[("etag", "\"a\""), ("accept-ranges", "bytes")], Some("\"a\"")),
            (&[], None),
        ] {
            let found = Validator::of(&headers(lines));
            let found = found.as_ref().map(|validator| validator.value.to_str().unwrap());
            assert_eq!(found, expected, "{lines:?}");
        }
    }

    #[test]
    fn only_the_rest_of_the_same_file_is_gone_on_with() {
        let resume = Resume { from: 5, validator: Validator::of(&headers(&[("etag", "\"a\"")])).unwrap() };
        for (lines, length, expected) in [
            (&[("content-range", "bytes 5-9/10"), ("etag", "\"a\"")][..], Some(10), true),
            (&[("content-range", "bytes 5-7/10"), ("etag", "\"a\"")], Some(10), true),
            (&[("content-range", "bytes 5-9/10"), ("etag", "\"a\"")], None, true),
            (&[("content-range", "bytes 5-9/*"), ("etag", "\"a\"")], None, true),
            (&[("content-range", "bytes 5-9/*"), ("etag", "\"a\"")], Some(10), false),
            (&[("content-range", "bytes 5-9/11"), ("etag", "\"a\"")], Some(10), false),
            (&[("content-range", "bytes 4-9/10"), ("etag", "\"a\"")], Some(10), false),
            (&[("content-range", "bytes 5-9/10"), ("etag", "\"b\"")], Some(10), false),
            (&[("content-range", "bytes 5-9/10"), ("etag", "W/\"a\"")], Some(10), false),
            (&[("content-range", "bytes 5-9/10")], Some(10), false),
            (&[("etag", "\"a\"")], Some(10), false),
        ] {
            assert_eq!(resume.is_continued_by(&headers(lines), length), expected, "{lines:?} of {length:?}");
        }
        let sent = Resume::headers(Some(&resume));
        assert_eq!((&sent[RANGE], &sent[IF_RANGE]), (&"bytes=5-".parse().unwrap(), &"\"a\"".parse().unwrap()));
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
