//! How long a server asks to be left alone.

use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// The header `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which is compared with the answer's own `Date`; zero for
/// one that is past. `None` if there is none, or none that can be read.
#[must_use]
pub fn of_headers(headers: &HeaderMap) -> Option<Duration> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = |text| rfc2822::parse(text).ok().map(|date| date.timestamp());
    let text = header(RETRY_AFTER)?;
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => seconds,
        Err(_) => date(text)?.duration_since(date(header(DATE)?)?).as_secs_f64(),
    };
    of_seconds(seconds)
}

/// The same of a number of seconds: zero for a negative one, `None` for one that is not finite.
#[must_use]
pub fn of_seconds(seconds: f64) -> Option<Duration> {
    seconds.is_finite().then(|| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read() {
        let date = "Wed, 21 Oct 2026 07:28:00 GMT";
        for (text, sent, expected) in [
            ("17", None, Some(Duration::from_secs(17))),
            (" 0.5 ", None, Some(Duration::from_millis(500))),
            ("-3", None, Some(Duration::ZERO)),
            ("1e300", None, Some(Duration::MAX)),
            ("inf", None, None),
            ("NaN", None, None),
            ("soon", Some(date), None),
            ("Wed, 21 Oct 2026 07:29:30 GMT", Some(date), Some(Duration::from_secs(90))),
            ("Wed, 21 Oct 2026 07:27:00 GMT", Some(date), Some(Duration::ZERO)),
            ("Wed, 21 Oct 2026 07:29:30 GMT", None, None),
        ] {
            let mut headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            headers.extend(sent.map(|sent| (DATE, sent.parse().unwrap())));
            assert_eq!(of_headers(&headers), expected, "{text}, sent {sent:?}");
        }
        assert_eq!(of_headers(&HeaderMap::new()), None);
    }
}
