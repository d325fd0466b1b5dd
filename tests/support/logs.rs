//! Logs of jobs as nobody should write them.

use serde_json::{Value, json};

/// What must not be left of [`hostile_line`].
pub(crate) const HOSTILE: [&str; 3] = ["hunter2", "\\u00", "[31m"];

/// A line with control characters, and with secrets in every place where they are known to stand.
pub(crate) fn hostile_line(token: &str) -> String {
    format!("\u{1b}[31mGET https://ci:hunter2@example.com/?sig=hunter2 with {token} and password=hunter2\u{0}\r\u{7}")
}

/// Entries of any JSON, for the contract promises nothing about them; the last one is a line like others.
pub(crate) fn strange_entries() -> Value {
    json!([null, 7, "plain text", [], ["x"], {}, {"message": null}, {"message": {"a": 1}},
        {"level": 3, "message": "level of a number"}, {"level": "\u{1b}[1m", "message": "x".repeat(100_000)},
        {"message": "the last one"}])
}
