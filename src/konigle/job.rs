//! Reads a job from its JSON as the bytes come in, in constant memory however long its log is.
//!
//! A log may have a million entries, or one line of 100 MiB; it may be cut at the client's cap, and hold invalid UTF-8.
//! So the body goes through a push parser (`lexer`), and this keeps of it five fields, a count and the last lines, and
//! lets the rest pass. Where the body was cut, what was read before still counts, if the
//! status was in it.
//!
//! Pure: fed with slices, it needs neither a reader nor a thread that may block.

use std::collections::VecDeque;

use super::lexer::{Lexer, Sink, TEXT_BYTES};
use super::model::{Job, JobStatus, cut, is_id};
use crate::redact::Redactor;

/// Lines of the log that are kept.
const TAIL_LINES: usize = 20;
/// Bytes of a line that are shown.
const LINE_BYTES: usize = 512;
/// Bytes of a level that is shown.
const LEVEL_BYTES: usize = 16;
/// Markers of attempts that are kept.
const MOST_MENTIONS: usize = 16;

/// Why no job came of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobProblem {
    /// The body was cut at the cap before its status was seen.
    TooLarge,
    /// It is no job; the text says what is wrong with it.
    Undecodable(&'static str),
}

/// A job that is being read.
#[derive(Debug)]
pub(super) struct JobReader {
    lexer: Lexer,
    collector: Collector,
    broken: Option<&'static str>,
}

impl JobReader {
    /// A reader that keeps the end of the log, or, for one of many jobs, does not.
    pub(super) fn new(keep_log: bool) -> Self {
        let collector = Collector { keep: if keep_log { TAIL_LINES } else { 0 }, ..Collector::default() };
        Self { lexer: Lexer::default(), collector, broken: None }
    }

    /// Takes the next bytes of the body, in pieces of any size.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.broken.is_some() {
                return;
            }
            self.broken = self.lexer.push(byte, &mut self.collector).err();
        }
    }

    /// The job, once the body has ended (`complete`) or was cut at the cap.
    pub(super) fn finish(self, complete: bool, redactor: &Redactor) -> Result<Job, JobProblem> {
        if let Some(problem) = self.broken {
            return Err(JobProblem::Undecodable(problem));
        }
        if complete && !self.lexer.ended() {
            return Err(JobProblem::Undecodable("the reply ends in the middle of the job"));
        }
        let Collector { id, status, space_id, created_at, completed_at, tail, count, mentions, .. } = self.collector;
        let (id, status) = match (id, status) {
            (Some(Value::Text(id)), Some(Value::Text(status))) if is_id(&id) => (id, status),
            (Some(_), Some(Value::Text(_))) => return Err(JobProblem::Undecodable("`id` is no string")),
            (_, Some(Value::Other)) => return Err(JobProblem::Undecodable("`status` is no string")),
            _ if !complete => return Err(JobProblem::TooLarge),
            (None, _) => return Err(JobProblem::Undecodable("`id` is missing")),
            (_, None) => return Err(JobProblem::Undecodable("`status` is missing")),
        };
        let clean = |text: &str| {
            // The lexer keeps whole characters, so a text that it cut may lack three bytes of what it keeps.
            let was_cut = text.len() + 4 > TEXT_BYTES;
            let text = if was_cut { redactor.clean_beginning(text) } else { redactor.clean(text) };
            cut(&text, LINE_BYTES).to_owned()
        };
        let log_tail = tail.iter().map(|line| clean(line)).collect();
        // A word stays as it was sent.
        let status = if redactor.knows(&status) { clean(&status) } else { cut(&status, LINE_BYTES).to_owned() };
        let status = JobStatus::from(status);
        Ok(Job { id, status, log_tail, log_count: count, space_id, created_at, completed_at, mentions })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Other,
}

/// Where in a job the last key of depth 1 led.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Field {
    Id,
    Status,
    SpaceId,
    CreatedAt,
    CompletedAt,
    Log,
    #[default]
    Other,
}

/// Which part of a log entry the last key of depth 3 named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    Level,
    Message,
    #[default]
    Other,
}

#[derive(Debug, Default)]
struct Collector {
    keep: usize,
    field: Field,
    part: Part,
    level: String,
    message: String,
    id: Option<Value>,
    status: Option<Value>,
    space_id: Option<String>,
    created_at: Option<String>,
    completed_at: Option<String>,
    tail: VecDeque<String>,
    count: u64,
    mentions: Vec<String>,
}

impl Collector {
    fn value(&mut self, value: Value) {
        let text = || match value.clone() {
            Value::Text(text) => Some(cut(&text, LINE_BYTES).to_owned()),
            Value::Other => None,
        };
        match self.field {
            Field::SpaceId => self.space_id = text(),
            Field::CreatedAt => self.created_at = text(),
            Field::CompletedAt => self.completed_at = text(),
            Field::Id => self.id = Some(value),
            Field::Status => self.status = Some(value),
            Field::Log | Field::Other => {}
        }
    }

    fn entry(&mut self, level: &str, message: String) {
        self.count += 1;
        if self.keep == 0 || message.trim().is_empty() {
            return;
        }
        if self.tail.len() == self.keep {
            self.tail.pop_front();
        }
        let level = level.to_ascii_uppercase();
        // Whole or not at all: of a secret that stands here, a part would not be recognised.
        let word = level.len() <= LEVEL_BYTES && level.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let plain = !word || matches!(level.as_str(), "" | "INFO" | "DEBUG" | "TRACE" | "NOTICE");
        self.tail.push_back(if plain { message } else { format!("[{level}] {message}") });
    }
}

impl Sink for Collector {
    fn begin(&mut self, depth: usize) {
        match (depth, self.field) {
            (1, Field::Id | Field::Status) => self.value(Value::Other),
            (2, Field::Log) => {
                self.part = Part::Other;
                self.level.clear();
                self.message.clear();
            }
            _ => {}
        }
    }

    fn end(&mut self, depth: usize) {
        if depth == 2 && self.field == Field::Log {
            let (level, message) = (std::mem::take(&mut self.level), std::mem::take(&mut self.message));
            self.entry(&level, message);
        }
    }

    fn key(&mut self, depth: usize, key: &str) {
        match depth {
            1 => {
                self.field = match key {
                    "id" => Field::Id,
                    "status" => Field::Status,
                    "space_id" => Field::SpaceId,
                    "created_at" => Field::CreatedAt,
                    "completed_at" => Field::CompletedAt,
                    "log" => Field::Log,
                    _ => Field::Other,
                }
            }
            3 => {
                self.part = match key {
                    "level" => Part::Level,
                    "message" => Part::Message,
                    _ => Part::Other,
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, depth: usize, text: String) {
        find_mentions(&text, &mut self.mentions);
        match (depth, self.field, self.part) {
            (1, _, _) => self.value(Value::Text(text)),
            (2, Field::Log, _) => self.entry("", text),
            (3, Field::Log, Part::Level) => self.level = text,
            (3, Field::Log, Part::Message) => self.message = text,
            _ => {}
        }
    }

    fn literal(&mut self, depth: usize, literal: &[u8]) {
        match (depth, self.field) {
            (1, _) if literal == b"null" && self.field != Field::Id && self.field != Field::Status => {}
            (1, _) => self.value(Value::Other),
            (2, Field::Log) => self.entry("", String::new()),
            _ => {}
        }
    }
}

/// Adds the markers in `text`: a `k` and lower-case letters and digits, five to 32 in all, in brackets.
fn find_mentions(text: &str, mentions: &mut Vec<String>) {
    for after in text.split('[').skip(1) {
        let Some((marker, _)) = after.split_once(']') else { continue };
        let lower = marker.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let plausible = marker.starts_with('k') && (5..=32).contains(&marker.len()) && lower;
        if plausible && mentions.len() < MOST_MENTIONS && !mentions.iter().any(|known| known == marker) {
            mentions.push(marker.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lexer::NO_JSON;
    use super::*;

    fn read(json: &[u8], complete: bool) -> Result<Job, JobProblem> {
        let mut reader = JobReader::new(true);
        reader.feed(json);
        reader.finish(complete, &Redactor::new(["canary-token"]))
    }

    #[test]
    fn reads_a_whole_job() {
        let job = read(
            r#" {"task_name": "deploy", "id": "5f0c", "status": "failed", "created_at": "2026-01-01T00:00:00Z", "completed_at": null,
                "log": [{"level": "info", "message": "build [k3f2a9c1d]"}, {"message": "a\nb\u001b[31mc\u001b[0m \ud83d\ude80 \ud83dx", "more": {"message": "no"}},
                        {"level": "error", "message": "token canary-token"}, "plain", 5, null, [1, {"message": "no"}], {"level": "warn"}],
                "extra": {"id": 1, "status": [], "log": ["no [k99999]"]}} "#.as_bytes(),
            true,
        )
        .unwrap();
        assert_eq!((job.id.as_str(), &job.status, job.log_count), ("5f0c", &JobStatus::Failed, 8));
        assert_eq!(job.log_tail, ["build [k3f2a9c1d]", "a bc 🚀 \u{fffd}x", "[ERROR] token ***", "plain"]);
        assert_eq!((job.created_at.as_deref(), job.completed_at.as_deref()), (Some("2026-01-01T00:00:00Z"), None));
        assert!(job.mentions("k3f2a9c1d") && job.mentions("k99999") && !job.mentions("k3f2a9c1"));
    }

    #[test]
    fn says_what_is_wrong_with_a_body() {
        use JobProblem::{TooLarge, Undecodable};
        for (json, complete, expected) in [
            (r#"{"id": "1", "status": "odd"}"#, true, Ok("odd")),
            (r#"{"id": "1", "status": "success", "log": null}"#, true, Ok("success")),
            (r#"{"id": "1", "status": "success", "log": {"a": "b"}}"#, true, Ok("success")),
            (r#"{"id": "1", "status": "running", "log": [{"message": "cut he"#, false, Ok("running")),
            (r#"{"id": "1", "log": [{"message": "cut he"#, false, Err(TooLarge)),
            (r#"{"status": "running", "log": ["#, false, Err(TooLarge)),
            (
                r#"{"id": "1", "status": "running", "log": ["#,
                true,
                Err(Undecodable("the reply ends in the middle of the job")),
            ),
            (r#"{"id": 1, "status": "running"}"#, true, Err(Undecodable("`id` is no string"))),
            (r#"{"id": null, "status": "running"}"#, true, Err(Undecodable("`id` is no string"))),
            (r#"{"id": "", "status": "running"}"#, true, Err(Undecodable("`id` is no string"))),
            (r#"{"status": "running"}"#, true, Err(Undecodable("`id` is missing"))),
            (r#"{"id": "1"}"#, true, Err(Undecodable("`status` is missing"))),
            (r#"{"id": "1", "status": 3}"#, true, Err(Undecodable("`status` is no string"))),
            (r#"{"id": "1", "status": null}"#, true, Err(Undecodable("`status` is no string"))),
            (r#"{"id": "1", "status": {"status": "running"}}"#, true, Err(Undecodable("`status` is no string"))),
            ("[]", true, Err(Undecodable("the reply is no JSON object"))),
            ("\"text\"", true, Err(Undecodable("the reply is no JSON object"))),
            ("<html>", true, Err(Undecodable(NO_JSON))),
            ("", true, Err(Undecodable("the reply ends in the middle of the job"))),
            (r#"{"id": "1", "status": "running"} x"#, true, Err(Undecodable(NO_JSON))),
            (r#"{"id": "1", "status": "running", }"#, true, Err(Undecodable(NO_JSON))),
            (r#"{"id": "1", "status": "running", "a": 01}"#, true, Err(Undecodable(NO_JSON))),
            (r#"{"id": "1", "status": "running", "a": [}"#, true, Err(Undecodable(NO_JSON))),
        ] {
            let found = read(json.as_bytes(), complete).map(|job| job.status.as_str().to_owned());
            assert_eq!(found, expected.map(str::to_owned), "{json}");
        }
        let deep = format!(r#"{{"id": "1", "status": "running", "a": {}"#, "[".repeat(100_000));
        assert_eq!(read(deep.as_bytes(), true), Err(Undecodable("the reply is nested too deeply")));
    }

    #[test]
    fn keeps_the_end_of_a_log_of_any_length() {
        let mut reader = JobReader::new(true);
        reader.feed(br#"{"id": "1", "status": "running", "log": ["#);
        for number in 0..100_000 {
            reader.feed(format!(r#"{{"level": "info", "message": "line {number}"}},"#).as_bytes());
        }
        reader.feed(br#"{"message": ""#);
        for _ in 0..8 {
            reader.feed(&vec![b'x'; 1 << 20]);
        }
        assert!(reader.lexer.kept() <= 2 * TEXT_BYTES);
        reader.feed(br#""}]}"#);
        let job = reader.finish(true, &Redactor::default()).unwrap();
        assert_eq!((job.log_count, job.log_tail.len()), (100_001, TAIL_LINES));
        assert_eq!(job.log_tail[18], "line 99999");
        assert_eq!(job.log_tail[19], "x".repeat(LINE_BYTES));
    }

    #[test]
    fn takes_invalid_utf8_and_never_cuts_a_secret_in_two() {
        let mut json = br#"{"id": "1", "status": "running", "log": ["a"#.to_vec();
        json.extend(b"\xff\xfe\", \"");
        json.extend(b"y".repeat(LINE_BYTES - 6));
        json.extend(br#"canary-token"]}"#);
        let job = read(&json, true).unwrap();
        assert_eq!(job.log_tail[0], "a\u{fffd}\u{fffd}");
        assert!(!job.log_tail[1].contains("canary"), "{}", job.log_tail[1]);
    }

    /// A line that is long only by what is not shown: the beginning of a token at the end of what is kept would be.
    #[test]
    fn a_secret_that_is_cut_while_it_is_read_is_not_shown() {
        let token = "kTq7Zr+9/xB4mW~c2Vd-YpJh";
        let redactor = Redactor::new([token]);
        for kept in 1..token.len() {
            let escapes = "\u{1b}[0m".repeat(1000);
            let line = format!("{escapes}{}{token} and more", "x".repeat(TEXT_BYTES - escapes.len() - kept));
            let json = serde_json::json!({"id": "1", "status": token, "log": [line, {"level": token, "message": "m"}]});
            let mut reader = JobReader::new(true);
            reader.feed(json.to_string().as_bytes());
            let job = reader.finish(true, &redactor).unwrap();
            for shown in job.log_tail.iter().map(String::as_str).chain([job.status.as_str()]) {
                assert!(!shown.contains('k') && !shown.contains('K'), "{kept}: {shown}");
            }
        }
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        let key = prop_oneof!["id", "status", "log", "level", "message", any::<String>()];
        leaf.prop_recursive(4, 40, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_however_the_body_is_split(
            job in prop::collection::btree_map("id|status|log|created_at|x", any_json(), 0..5),
            id in "[a-z0-9-]{1,12}", status in "\\PC{0,12}", pretty in any::<bool>(), size in 1_usize..40,
        ) {
            let mut job: serde_json::Map<_, _> = job.into_iter().collect();
            job.insert("id".to_owned(), id.clone().into());
            job.insert("status".to_owned(), status.clone().into());
            let entries = job.get("log").and_then(|log| log.as_array()).map_or(0, Vec::len);
            let json = if pretty { serde_json::to_string_pretty(&job) } else { serde_json::to_string(&job) }.unwrap();
            let mut reader = JobReader::new(true);
            json.as_bytes().chunks(size).for_each(|piece| reader.feed(piece));
            let read = reader.finish(true, &Redactor::default()).unwrap();
            prop_assert_eq!((read.id, read.status.as_str()), (id, status.as_str()));
            prop_assert_eq!(read.log_count, if job.get("log").is_some_and(serde_json::Value::is_array) { entries as u64 } else { read.log_count });
        }

        #[test]
        fn accepts_what_serde_json_accepts_and_never_panics(text in "[\\[\\]{}:,\"\\\\u0-9a-f. -]{0,60}", bytes in any::<Vec<u8>>()) {
            let mut reader = JobReader::new(true);
            reader.feed(text.as_bytes());
            let sound = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok();
            let taken = reader.broken.is_none() && reader.lexer.ended();
            prop_assert!(!sound || taken, "{text}");
            let _ = read(&bytes, false);
        }
    }
}
