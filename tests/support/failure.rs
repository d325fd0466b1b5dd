//! One error type for the whole test bed: a text for a person, with the causes in it.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Weak};

/// What went wrong, from the outside in, separated by colons.
pub(crate) struct Failure(Arc<str>);

thread_local! {
    /// Those that were made on this thread, as long as they are kept.
    static KEPT: RefCell<Vec<Weak<str>>> = const { RefCell::new(Vec::new()) };
}

/// A result of the test bed.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with this text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        let text: Arc<str> = text.into().into();
        KEPT.with_borrow_mut(|kept| {
            kept.retain(|failure| failure.strong_count() > 0);
            kept.push(Arc::downgrade(&text));
        });
        Self(text)
    }

    /// The texts of the failures that this thread made and that still exist: of a test that is about to end, the one
    /// that it ends with.
    pub(crate) fn kept() -> Vec<String> {
        KEPT.with_borrow(|kept| kept.iter().filter_map(Weak::upgrade).map(|text| text.to_string()).collect())
    }
}

/// Any error, with its whole chain: the printed text of one error need not hold its source's.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::new(text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The test harness prints `Debug`: the text as it is, without quotes and escapes.
impl fmt::Debug for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Fails with this text unless it holds.
pub(crate) fn check(holds: bool, text: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Failure::new(text())) }
}

/// Says what was being done when something failed.
pub(crate) trait Context<T> {
    /// Puts `doing` in front of the failure's text.
    fn context(self, doing: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<Failure>> Context<T> for std::result::Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{doing}: {}", error.into())))
    }
}
