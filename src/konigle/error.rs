//! Why a read failed, and what the error bodies of the API say.
//!
//! Every text here may go into a status: no URL, no token, at most 256 characters of what the server said, one line.

use std::error::Error;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::address::AddressError;
use crate::redact::Redactor;
use crate::retry_after;

/// How long to keep away after a 429 that does not say.
pub const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(10);
/// The longest wait that a server can impose.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(15);

/// Characters of a server's own words that are shown.
const DETAIL_CHARACTERS: usize = 256;

/// What the server said of an error, if it said anything that can be shown.
pub(super) type Detail = Option<String>;

/// Why a read brought nothing. The text is safe for a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// 401: the token is not accepted.
    #[error("Konigle does not accept the token (401){}", says(detail.as_deref()))]
    Unauthorized {
        /// The server's words.
        detail: Option<String>,
    },
    /// 403: the token is accepted and not allowed this.
    #[error("Konigle forbids this with the token (403){}", says(detail.as_deref()))]
    Forbidden {
        /// The server's words.
        detail: Option<String>,
    },
    /// 404: it does not exist, or not for this token.
    #[error("Konigle does not find it (404){}", says(detail.as_deref()))]
    NotFound {
        /// The server's words.
        detail: Option<String>,
    },
    /// 429, or the account still waits after one, or its own rate limit would hold the request up for too long.
    #[error("the rate limit is reached; the next request may be sent in {} s", retry_after.as_secs().max(1))]
    RateLimited {
        /// When it is worth while to try again; at most [`LONGEST_RETRY_AFTER`].
        retry_after: Duration,
    },
    /// Any other answer that is not 2xx, a redirect included.
    #[error("Konigle answered {code}{}", says(detail.as_deref()))]
    Status {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        detail: Option<String>,
    },
    /// The base URL stands for an address that is not public, and no flag of the operator allows it.
    #[error("the base URL is not allowed: {0}")]
    Address(AddressError),
    /// No connection: DNS, TCP, TLS or the proxy.
    #[error("no connection to Konigle: {reason}")]
    Connect {
        /// The innermost cause.
        reason: String,
    },
    /// No whole answer within the time that a read has.
    #[error("Konigle did not answer in time")]
    Timeout,
    /// The connection broke after it stood.
    #[error("the connection to Konigle broke: {reason}")]
    Broken {
        /// The innermost cause.
        reason: String,
    },
    /// The body is longer than its cap, or the list than its number of pages.
    #[error("Konigle's reply is too large")]
    TooLarge,
    /// The answer is 2xx and not what it should be.
    #[error("Konigle's reply cannot be used: {what}")]
    Undecodable {
        /// What is wrong with it.
        what: String,
    },
    /// The id cannot be one: no request was made.
    #[error("this is no id that Konigle could have given")]
    InvalidId,
    /// No client can be made on this machine, for example because it has no usable root certificates.
    #[error("no HTTP client can be made: {reason}")]
    Client {
        /// The innermost cause.
        reason: String,
    },
}

impl ReadError {
    /// The error for an answer that is not 2xx.
    pub(super) fn from_answer(status: StatusCode, headers: &HeaderMap, body: &[u8], redactor: &Redactor) -> Self {
        let body = serde_json::from_slice(body).ok();
        let detail = detail(body.as_ref()).map(|detail| redact(&detail, redactor));
        match status.as_u16() {
            401 => Self::Unauthorized { detail },
            403 => Self::Forbidden { detail },
            404 => Self::NotFound { detail },
            429 => Self::RateLimited { retry_after: retry_after(headers, body.as_ref()) },
            code => Self::Status { code, detail },
        }
    }

    /// The error for a request that got no answer, or no whole one.
    pub(super) fn from_transport(error: &reqwest::Error, redactor: &Redactor) -> Self {
        if let Some(refused) = crate::address::find_cause(error) {
            return Self::Address(refused.clone());
        }
        if error.is_timeout() && !error.is_connect() {
            return Self::Timeout;
        }
        let reason = innermost(error, redactor);
        if error.is_connect() { Self::Connect { reason } } else { Self::Broken { reason } }
    }
}

/// Redacts, and cuts to what may be shown of a server's words.
pub(super) fn redact(text: &str, redactor: &Redactor) -> String {
    redactor.clean(text).chars().take(DETAIL_CHARACTERS).collect()
}

/// The last cause in an error's chain, the one that tells a person something; reqwest's own texts hold URLs.
pub(super) fn innermost(error: &reqwest::Error, redactor: &Redactor) -> String {
    let mut cause: &dyn Error = match error.source() {
        Some(cause) => cause,
        None if error.is_builder() => return "the request cannot be built".to_owned(),
        None => return "no cause is known".to_owned(),
    };
    while let Some(next) = cause.source() {
        cause = next;
    }
    redact(&cause.to_string(), redactor)
}

/// The words of an error body: `detail`, else `message`, of the object or of the first element of a list, or that
/// element itself if it is a text. None where there are no such words or the body is no JSON.
pub(super) fn detail(body: Option<&Value>) -> Detail {
    let words = match body? {
        Value::Array(list) => list.first()?,
        other @ Value::Object(_) => other,
        _ => return None,
    };
    let words = match words {
        Value::String(_) => Some(words),
        _ => ["detail", "message"].into_iter().filter_map(|field| words.get(field)).find(|value| value.is_string()),
    };
    words.and_then(Value::as_str).filter(|words| !words.trim().is_empty()).map(str::to_owned)
}

/// How long to keep away: the longer of the body's `retry_after` and the header `Retry-After`. From 1 s to [`LONGEST_RETRY_AFTER`]; [`DEFAULT_RETRY_AFTER`] if neither
/// can be read.
pub(super) fn retry_after(headers: &HeaderMap, body: Option<&Value>) -> Duration {
    let first = match body {
        Some(Value::Array(list)) => list.first(),
        other => other,
    };
    let from_body = first.and_then(|body| body.get("retry_after")).and_then(|value| match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    });
    let longest = from_body.and_then(retry_after::of_seconds).max(retry_after::of_headers(headers));
    longest.map_or(DEFAULT_RETRY_AFTER, |wait| wait.clamp(Duration::from_secs(1), LONGEST_RETRY_AFTER))
}

/// A server's words as the end of a sentence.
pub(super) fn says(detail: Option<&str>) -> String {
    detail.map_or_else(String::new, |detail| format!(": {detail}"))
}

#[cfg(test)]
mod tests {
    use reqwest::header::{DATE, RETRY_AFTER};
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_the_words_in_all_shapes() {
        for (body, expected) in [
            (json!({"detail": "a", "message": "b"}), Some("a")),
            (json!({"message": "b"}), Some("b")),
            (json!({"detail": ["x"], "message": "b"}), Some("b")),
            (json!([{"message": "first"}, {"message": "second"}]), Some("first")),
            (json!(["text"]), Some("text")),
            (json!([]), None),
            (json!([[]]), None),
            (json!("text"), None),
            (json!({"zip_file": ["required"]}), None),
            (json!({"detail": " "}), None),
            (json!(null), None),
        ] {
            assert_eq!(detail(Some(&body)).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn shows_at_most_256_redacted_characters() {
        let body = format!(r#"{{"detail": "token canary-1\n{}"}}"#, "é".repeat(1000));
        let error = ReadError::from_answer(
            StatusCode::FORBIDDEN,
            &HeaderMap::new(),
            body.as_bytes(),
            &Redactor::new(["canary-1"]),
        );
        let ReadError::Forbidden { detail: Some(detail) } = &error else { panic!("{error:?}") };
        assert_eq!(detail.chars().count(), DETAIL_CHARACTERS);
        assert!(detail.starts_with("token *** é"), "{detail}");
        let error = ReadError::from_answer(
            StatusCode::BAD_GATEWAY,
            &HeaderMap::new(),
            b"<html>canary</html>",
            &Redactor::default(),
        );
        assert_eq!(error.to_string(), "Konigle answered 502");
    }

    #[test]
    fn reads_the_wait_from_body_and_header() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (body, header, expected) in [
            (json!({"retry_after": 7}), None, 7.0),
            (json!({"retry_after": "8"}), None, 8.0),
            (json!({"retry_after": 2.5}), None, 2.5),
            (json!([{"retry_after": 7}]), None, 7.0),
            (json!({}), Some("9"), 9.0),
            (json!({"retry_after": 7}), Some("9"), 9.0),
            (json!({"retry_after": 9}), Some("7"), 9.0),
            (json!({}), Some("Sun, 06 Nov 1994 08:50:37 GMT"), 60.0),
            (json!({}), Some("Sun, 06 Nov 1994 08:00:00 GMT"), 1.0),
            (json!({"retry_after": 0}), None, 1.0),
            (json!({"retry_after": -5}), None, 1.0),
            (json!({"retry_after": 86400}), None, 900.0),
            (json!({"retry_after": 1e300}), Some("inf"), 900.0),
            (json!({"retry_after": null}), Some("soon"), 10.0),
            (json!({"retry_after": "NaN"}), None, 10.0),
            (json!("x"), None, 10.0),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, date.parse().unwrap());
            if let Some(header) = header {
                headers.insert(RETRY_AFTER, header.parse().unwrap());
            }
            assert_eq!(retry_after(&headers, Some(&body)), Duration::from_secs_f64(expected), "{body} {header:?}");
        }
    }
}
