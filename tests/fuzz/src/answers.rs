//! Konigle's answers: any bytes as the reply to each of its calls.

use konigle_operator::konigle::model::{Job, Space};
use konigle_operator::konigle::{Answer, ReadError, Rejection, Write, classify, fuzzing};
use konigle_operator::redact::Redactor;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

use super::secret::{TOKEN, filled, holds_a_part, is_told};

/// Bytes of the longest text that is taken from an answer.
const LONGEST: usize = 512;
/// Nesting that the reader of jobs surely takes.
const SHALLOW: usize = 50;

/// One body, read as each of the answers.
///
/// # Panics
///
/// When a promise is broken.
pub fn check(data: &[u8]) {
    let text = filled(&String::from_utf8_lossy(data));
    let value: Option<Value> = serde_json::from_str(&text).ok();
    let object = value.as_ref().and_then(Value::as_object);
    single(&text, object);
    list(&text, value.as_ref());
    job(data, object);
    // What came without the placeholder is not the token.
    let says_a_part = holds_a_part(&String::from_utf8_lossy(data))
        || serde_json::from_slice::<Value>(data).is_ok_and(|value| holds_a_part(&value.to_string()));
    if !says_a_part {
        errors(text.as_bytes());
    }
}

fn single(text: &str, object: Option<&Map<String, Value>>) {
    let id = object.and_then(|object| object.get("id")).and_then(Value::as_str).filter(|id| usable(id));
    let space = fuzzing::space(text).ok();
    assert_eq!(space.as_ref().map(|space| space.id.as_str()), id, "a Space is what has an id");
    assert_eq!(fuzzing::computer(text).ok().map(|computer| computer.id).as_deref(), id);
    assert_eq!(fuzzing::web_app(text).ok().map(|web_app| web_app.id).as_deref(), id);
    space.iter().for_each(modest);

    let job_id = object.and_then(|object| object.get("job_id")).and_then(|id| match id {
        Value::String(id) if usable(id) => Some(id.clone()),
        Value::Number(id) if id.is_u64() || id.is_i64() => Some(id.to_string()),
        _ => None,
    });
    assert_eq!(fuzzing::deployment(text).ok().map(|deployment| deployment.job_id), job_id, "a receipt is its job's id");
}

/// A list is whole or refused: every item of the page is there, once, and as many as it says.
fn list(text: &str, value: Option<&Value>) {
    let one = fuzzing::spaces(&[text]);
    if let (Ok((spaces, more)), Some(page)) = (&one, value) {
        let items = ["payload", "results"].into_iter().find_map(|field| page.get(field)?.as_array());
        let wanted: Vec<&str> =
            items.into_iter().flatten().map(|item| item["id"].as_str().unwrap_or_default()).collect();
        let ids: Vec<&str> = spaces.iter().map(|space| space.id.as_str()).collect();
        assert_eq!(ids, wanted, "no item is left out");
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.len(), "no item comes twice");
        let seen = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        let complete = page
            .get("count")
            .and_then(Value::as_u64)
            .is_none_or(|count| if *more { seen <= count } else { seen == count });
        assert!(complete, "{seen} items of {page}");
        spaces.iter().for_each(modest);
    }
    if one.is_ok_and(|(spaces, _)| !spaces.is_empty()) {
        assert!(fuzzing::spaces(&[text, text]).is_err(), "a page that comes twice is no list");
    }
    if let Ok((jobs, _)) = fuzzing::jobs(&[text]) {
        for job in &jobs {
            assert!(job.log_tail.is_empty());
            job_is_modest(job);
        }
    }
}

fn job(data: &[u8], object: Option<&Map<String, Value>>) {
    let redactor = Redactor::new([TOKEN]);
    let whole = fuzzing::job([data], true, &redactor);
    for size in [1, 7, 4096] {
        assert_eq!(fuzzing::job(data.chunks(size), true, &redactor), whole, "pieces of {size} bytes change nothing");
    }
    if let Ok(job) = &whole {
        job_is_modest(job);
    }
    // What was cut at the cap is a job, or too large, and not malformed, if the whole is well formed.
    let malformed = |problem: &str| problem.contains("no JSON") || problem.contains("nested");
    if !whole.as_ref().err().is_some_and(|problem| malformed(problem)) {
        for length in [data.len() / 3, data.len() / 2, data.len().saturating_sub(1)] {
            let cut = fuzzing::job([&data[..length]], false, &redactor);
            assert!(
                !cut.as_ref().err().is_some_and(|problem| malformed(problem)),
                "{cut:?} of the first {length} bytes"
            );
            cut.iter().for_each(job_is_modest);
        }
    }
    let Some(object) = object.filter(|object| object.values().all(|value| depth(value) < SHALLOW)) else { return };
    // The placeholder is filled in for the others only.
    if std::str::from_utf8(data).is_ok_and(|text| filled(text) != text) {
        return;
    }
    let text = |field: &str| object.get(field).and_then(Value::as_str);
    if let (Some(id), Some(status)) = (text("id").filter(|id| usable(id)), text("status"))
        && std::str::from_utf8(data).is_ok()
    {
        let job = whole.as_ref().unwrap_or_else(|problem| panic!("{problem}: {object:?}"));
        assert_eq!(job.id, id);
        assert!(
            status.starts_with(job.status.as_str()) && (status.len() <= LONGEST) == (status == job.status.as_str())
        );
        let text = String::from_utf8_lossy(data);
        let named_once = text.matches("\"log\"").count() <= 1 && !text.contains("\\u");
        if let (true, Some(entries)) = (named_once, object.get("log").and_then(Value::as_array)) {
            assert_eq!(job.log_count, entries.len() as u64);
        }
    }
}

fn errors(body: &[u8]) {
    let redactor = Redactor::new([TOKEN]);
    for code in [200, 202, 302, 400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 503, 599] {
        let Ok(status) = StatusCode::from_u16(code) else { continue };
        if !status.is_success() {
            let error = fuzzing::read_error(status, &HeaderMap::new(), body, &redactor);
            fit_for_a_status(&error.to_string());
            assert_eq!(matches!(error, ReadError::Unauthorized { .. }), code == 401);
            assert_eq!(matches!(error, ReadError::RateLimited { .. }), code == 429);
        }
        for write in [Write::Deploy, Write::Promote] {
            let answer = classify(write, status, &HeaderMap::new(), body).redacted(&redactor);
            match &answer {
                Answer::Accepted(deployment) => assert!(code < 300 && usable(&deployment.job_id)),
                Answer::Unknown(why) => {
                    fit_for_a_status(why);
                    assert!(matches!(code, 200 | 202 | 302 | 408 | 500..), "{code} proves something");
                }
                Answer::Unsent(why) => panic!("an answer came: {why}"),
                Answer::Rejected(rejection) => {
                    fit_for_a_status(&rejection.to_string());
                    assert!((400..500).contains(&code) && code != 408);
                    assert_eq!(matches!(rejection, Rejection::Busy { .. }), code == 409);
                }
            }
        }
    }
}

fn fit_for_a_status(text: &str) {
    assert!(text.chars().count() <= 400, "{} characters", text.chars().count());
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(!is_told(text), "{text:?}");
}

fn modest(space: &Space) {
    let pair = &space.pair;
    let texts = [&space.id, &space.status, &space.platform_domain, &space.custom_domain, &space.custom_domain_status];
    let optional = [&space.webapp, &pair.last_deployed_at, &pair.last_deployment_status];
    assert!(texts.into_iter().chain(optional.into_iter().flatten()).all(|text| text.len() <= LONGEST));
    assert!(space.space_type.as_str().len() <= LONGEST);
    if let Some(url) = space.url() {
        assert!(
            url.starts_with("https://") && !url.chars().any(|letter| letter.is_whitespace() || letter.is_control())
        );
    }
}

fn job_is_modest(job: &Job) {
    assert!(usable(&job.id) && job.status.as_str().len() <= LONGEST);
    assert!([&job.created_at, &job.completed_at].into_iter().flatten().all(|text| text.len() <= LONGEST));
    assert!(job.mentions.len() <= 16 && job.mentions.iter().all(|marker| marker.len() <= 32));
    assert!(job.log_tail.len() <= 20);
    for line in &job.log_tail {
        assert!(line.len() <= LONGEST && !line.chars().any(char::is_control), "{line:?}");
    }
}

/// One segment of a path, and nothing that leads elsewhere.
fn usable(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= LONGEST
        && !matches!(id, "." | "..")
        && !id.contains(|letter: char| letter.is_whitespace() || letter.is_control())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}
