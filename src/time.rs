//! Times as text: ours as Kubernetes writes them, the remote's as tolerantly as they can be read. And waits that double.
//!
//! Pure: no clock is read here.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// RFC 3339, UTC, whole seconds.
#[must_use]
pub fn text(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// The time `wait` from `now`, not a part of a second earlier: what may be tried then is not tried too soon.
#[must_use]
pub fn after(now: Timestamp, wait: Duration) -> String {
    let time = saturating(now, SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX));
    text(if time.subsec_nanosecond() == 0 { time } else { saturating(time, SignedDuration::from_secs(1)) })
}

/// The sum, or the end of time in its direction. The remote sends any date, so a plain sum could overflow.
fn saturating(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

/// A time that the remote or this operator wrote; one without a zone is taken as UTC (the API's zone and precision are
/// not documented). `None` where it cannot be read.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse::<Timestamp>().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })
}

/// Whether one time is before another, as far as both can be read. None at all, of what never happened, is before any.
#[must_use]
pub fn is_before(one: Option<&str>, other: Option<&str>) -> bool {
    let Some(other) = other.and_then(parse) else { return false };
    one.is_none_or(|one| parse(one).is_some_and(|one| one < other))
}

/// The wait before the next of several tries: `first` after one, doubled with each further one, at most `longest`.
#[must_use]
pub fn doubled(first: Duration, tries: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(longest)
}

/// Whether `time` lies between `from` − 5 s and `to` + 5 s. `None` where the server sent too little to tell.
#[must_use]
pub fn lies_within(time: Option<&str>, from: Option<&str>, to: Option<&str>) -> Option<bool> {
    let slack = SignedDuration::from_secs(5);
    let time = parse(time?)?;
    let from = parse(from?)?;
    let after_begin = time >= saturating(from, -slack);
    let before_end = match to {
        Some(to) => time <= saturating(parse(to)?, slack),
        None => true,
    };
    Some(after_begin && before_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_without_a_zone_are_utc() {
        let zoned = parse("2026-11-24T09:00:00Z");
        for same in
            ["2026-11-24T09:00:00", "2026-11-24 09:00:00", "2026-11-24T10:00:00+01:00", "2026-11-24T09:00:00.000000"]
        {
            assert_eq!(parse(same), zoned, "{same}");
        }
        for wrong in ["", "yesterday", "2026-13-01T00:00:00Z"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bounds_have_five_seconds_of_slack_and_need_the_servers_times() {
        let at = |time: &str, from: &str, to: &str| lies_within(Some(time), Some(from), Some(to));
        let (from, to) = ("2026-11-24T09:00:10Z", "2026-11-24T09:01:00Z");
        assert_eq!(at("2026-11-24T09:00:05Z", from, to), Some(true));
        assert_eq!(at("2026-11-24T09:00:04Z", from, to), Some(false));
        assert_eq!(at("2026-11-24T09:01:05Z", from, to), Some(true));
        assert_eq!(at("2026-11-24T09:01:06Z", from, to), Some(false));
        assert_eq!(lies_within(None, Some(from), Some(to)), None);
        assert_eq!(lies_within(Some(from), None, Some(to)), None);
        assert_eq!(lies_within(Some(from), Some(from), None), Some(true));
    }

    #[test]
    fn the_ends_of_time_are_no_overflow() {
        let (first, last) = (Timestamp::MIN.to_string(), Timestamp::MAX.to_string());
        assert_eq!(lies_within(Some(&last), Some(&first), Some(&last)), Some(true));
        assert_eq!(after(Timestamp::MAX, Duration::MAX), text(Timestamp::MAX));
    }

    #[test]
    fn a_wait_is_never_cut_short() {
        let now: Timestamp = "2026-11-24T09:00:00.9Z".parse().unwrap();
        assert_eq!(after(now, Duration::from_secs(1)), "2026-11-24T09:00:02Z");
        let now: Timestamp = "2026-11-24T09:00:00Z".parse().unwrap();
        assert_eq!(after(now, Duration::from_secs(1)), "2026-11-24T09:00:01Z");
    }
}
