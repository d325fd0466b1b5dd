//! The wall clock, read here and nowhere else.
//!
//! A pass reads it once and hands it on as an argument, so that decisions can be repeated. What must not be fooled by a
//! clock that steps is measured by `Instant`.

use std::time::SystemTime;

use jiff::Timestamp;

/// The wall clock, for records and for deadlines shown to people.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The wall clock, as files and the fence need it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn system() -> SystemTime {
    SystemTime::now()
}
