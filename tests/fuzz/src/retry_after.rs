//! How long a 429 keeps an account back: from one second to a quarter of an hour, whatever the server says.

use std::time::Duration;

use konigle_operator::konigle::{DEFAULT_RETRY_AFTER, LONGEST_RETRY_AFTER, fuzzing};
use reqwest::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde_json::Value;

/// The first line is the header `Retry-After`, the second one `Date`, the rest the body.
///
/// # Panics
///
/// When a promise is broken.
pub fn check(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, line: Option<&[u8]>| {
        if let Some(Ok(value)) = line.filter(|line| !line.is_empty()).map(HeaderValue::from_bytes) {
            headers.insert(name, value);
        }
    };
    put(RETRY_AFTER, lines.next());
    put(DATE, lines.next());
    let body: Option<Value> = lines.next().and_then(|body| serde_json::from_slice(body).ok());
    let of_body = bounded(&HeaderMap::new(), body.as_ref());
    let of_headers = bounded(&headers, None);
    let of_both = bounded(&headers, body.as_ref());

    // The longer of the two counts; what cannot be read counts as nothing.
    let stated = body.as_ref().and_then(|body| body.get("retry_after")).and_then(Value::as_u64);
    if let Some(seconds) = stated {
        assert_eq!(of_body, Duration::from_secs(seconds).clamp(Duration::from_secs(1), LONGEST_RETRY_AFTER));
        assert!(of_both >= of_body, "{of_both:?} {of_body:?}");
    }
    let header = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    if let Some(seconds) = header.and_then(|text| text.parse::<u32>().ok()) {
        assert_eq!(of_headers, Duration::from_secs(seconds.into()).clamp(Duration::from_secs(1), LONGEST_RETRY_AFTER));
        assert!(of_both >= of_headers, "{of_both:?} {of_headers:?}");
    }
    if header.is_none() && body.is_none() {
        assert_eq!(of_both, DEFAULT_RETRY_AFTER);
    }
}

fn bounded(headers: &HeaderMap, body: Option<&Value>) -> Duration {
    let wait = fuzzing::retry_after(headers, body);
    assert!((Duration::from_secs(1)..=LONGEST_RETRY_AFTER).contains(&wait), "{wait:?} of {headers:?} {body:?}");
    wait
}
