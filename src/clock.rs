//! The wall clock, read here and nowhere else.
//!
//! A pass reads it once and hands it on as an argument, so that decisions can be repeated. What must not be fooled by a
//! clock that steps is measured by `Instant`.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};

/// The wall clock, for records and for deadlines shown to people.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> Timestamp {
    Timestamp::now() + stepped()
}

/// The wall clock, as files and the fence need it.
#[must_use]
pub fn system() -> SystemTime {
    now().into()
}

/// By how much this process's clock is off: not at all, unless it was built for tests of that.
#[cfg(not(feature = "clock-steps"))]
const fn stepped() -> SignedDuration {
    SignedDuration::ZERO
}

/// The seconds in the file that `KONIGLE_CLOCK_OFFSET` names.
#[cfg(feature = "clock-steps")]
fn stepped() -> SignedDuration {
    let text = std::env::var_os("KONIGLE_CLOCK_OFFSET").and_then(|path| std::fs::read_to_string(path).ok());
    SignedDuration::from_secs(text.and_then(|text| text.trim().parse().ok()).unwrap_or_default())
}
