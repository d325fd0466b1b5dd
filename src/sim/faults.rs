//! Faults that were asked for: which request each one meets, when, and what it does. Data only; `api` carries them out.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An operation of the simulated API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    ListComputers,
    GetComputer,
    CreateComputer,
    ListWebapps,
    GetWebapp,
    CreateWebapp,
    CheckNameAvailability,
    ListSpaces,
    GetSpace,
    Deploy,
    Promote,
    GetJob,
    ListJobs,
    /// In a fault: every operation.
    Any,
}

impl Operation {
    pub(super) fn is_write(self) -> bool {
        matches!(self, Self::CreateComputer | Self::CreateWebapp | Self::Deploy | Self::Promote)
    }
}

/// At which point of a request a fault acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum When {
    /// When the head was read, before the body is.
    Headers,
    /// When the whole request was read, before it takes effect.
    Before,
    /// When it took effect, in place of the answer or to the answer.
    After,
}

/// What a fault does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    /// Answers with this HTTP status and an error body of the usual shape.
    Status(u16),
    /// Answers with this status, body and headers.
    Answer(Answer),
    /// Waits that many milliseconds of real time, then goes on.
    DelayMs(u64),
    /// Closes the connection without an answer.
    Drop,
    /// Resets the connection (RST) without an answer.
    Reset,
    /// Answers 200 with a page of HTML.
    Html,
    /// Answers 200 with bytes that are no UTF-8.
    Garbage,
    /// Sends the true answer's head and half of its body, then closes the connection.
    Truncate,
    /// Sends the true answer in ISO 8859-1, so that a letter beyond ASCII is no UTF-8 (and one beyond that set is `?`).
    Latin1,
    /// Sends the true answer's body one byte at a time, with that many milliseconds between two.
    DripMs(u64),
    /// Puts these top-level fields into the true answer.
    Set(Map<String, Value>),
    /// Takes these top-level fields out of the true answer.
    Remove(Vec<String>),
}

/// A made-up answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Any JSON. Without it an error body of the usual shape.
    pub(super) body: Option<Value>,
    /// A body that is no JSON.
    pub(super) text: Option<String>,
    /// Put into the body as `retry_after`, whatever its type.
    pub(super) retry_after: Option<Value>,
    /// The header `Retry-After`.
    pub(super) retry_after_header: Option<String>,
    /// The header `Location`.
    pub(super) location: Option<String>,
}

/// One fault of `POST /_sim/faults`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    /// The operation it meets, or `any`.
    pub(super) operation: Operation,
    /// Only requests with this id in the path, or for a job of this Space.
    pub(super) space: Option<String>,
    /// `before` unless given; `after` for what changes the true answer.
    pub(super) when: Option<When>,
    /// How many requests it meets; null is every one.
    #[serde(default = "once")]
    pub(super) times: Option<u64>,
    /// How many matching requests it lets pass first.
    #[serde(default)]
    pub(super) after_skip: u64,
    pub(super) action: Action,
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the field whose default it is")]
fn once() -> Option<u64> {
    Some(1)
}

impl Fault {
    /// Fills in `when`, and refuses what cannot be done.
    pub(super) fn checked(mut self) -> Result<Self, String> {
        let changes_the_answer = matches!(
            self.action,
            Action::Truncate | Action::Latin1 | Action::DripMs(_) | Action::Set(_) | Action::Remove(_)
        );
        let when = self.when.unwrap_or(if changes_the_answer { When::After } else { When::Before });
        if changes_the_answer && when != When::After {
            return Err(
                "truncate, latin1, drip_ms, set and remove act on the true answer: `when` must be `after`".to_owned()
            );
        }
        let status = match &self.action {
            Action::Status(status) => *status,
            Action::Answer(answer) => answer.status,
            _ => 200,
        };
        if !(200..=599).contains(&status) {
            return Err(format!("status {status}: expected 200 to 599"));
        }
        self.when = Some(when);
        Ok(self)
    }

    /// Whether it meets this request; if so one of its times is used up.
    pub(super) fn meets(&mut self, operation: Operation, ids: &[&str]) -> bool {
        let matches = (self.operation == Operation::Any || self.operation == operation)
            && self.space.as_deref().is_none_or(|space| ids.contains(&space));
        if !matches || self.times == Some(0) {
            return false;
        }
        if self.after_skip > 0 {
            self.after_skip -= 1;
            return false;
        }
        self.times = self.times.map(|times| times - 1);
        true
    }

    /// How long to wait, where that is what it does.
    pub(super) fn delay(&self) -> Option<Duration> {
        match self.action {
            Action::DelayMs(milliseconds) => Some(Duration::from_millis(milliseconds)),
            _ => None,
        }
    }
}
