//! The log sanitiser: whatever stands around a token, nobody reads it in what is shown.

use konigle_operator::konigle::fuzzing;
use konigle_operator::redact::Redactor;
use konigle_operator::text::tail;

use super::secret::{TOKEN, holds_a_part, is_told, written};

/// The first byte is the form in which the token is written down, the second one where in the text, the rest the text.
///
/// # Panics
///
/// When a promise is broken.
pub fn check(data: &[u8]) {
    let [form, place, text @ ..] = data else { return };
    let text = String::from_utf8_lossy(text);
    if holds_a_part(&text) || holds_a_part(&Redactor::default().clean(&text)) {
        return;
    }
    let place = text.floor_char_boundary(text.len() * usize::from(*place) / 255);
    let (before, after) = text.split_at(place);
    let near = |part: &str| part.chars().filter(char::is_ascii_alphanumeric).take(5).collect::<String>();
    let secret = written(*form, &near(before), &near(after));
    let redactor = Redactor::new([TOKEN]);

    let line = format!("{before}{secret}{after}");
    let cleaned = redactor.clean(&line);
    fit(&cleaned);
    assert!(cleaned.len() <= 4 * line.len() + 16, "{} bytes became {}", line.len(), cleaned.len());
    let lines = vec![cleaned; 30];
    let shown = tail(&lines);
    assert!(shown.len() <= 20 && shown.iter().map(String::len).sum::<usize>() <= 4096);
    assert!(shown.iter().all(|line| line.len() <= 512));

    // As a job's log, whose lines are cut while they are read: near the cut, and with much in front that is not shown.
    let hidden = 4096_usize.saturating_sub(before.len() + secret.len() / 2) / 4;
    let long = format!("{}{line}", "\u{1b}[0m".repeat(hidden));
    let job = serde_json::json!({"id": "1", "status": "running", "log": [
        {"level": secret, "message": line}, line, {"level": "error", "message": long}, {"message": format!("{}{line}", "x".repeat(490))},
    ]});
    let bytes = job.to_string();
    let read = fuzzing::job([bytes.as_bytes()], true, &redactor);
    let read = read.unwrap_or_else(|problem| panic!("{problem}: {bytes}"));
    assert_eq!(read.log_count, 4);
    read.log_tail.iter().for_each(|line| fit(line));
    let cut = fuzzing::job([&bytes.as_bytes()[..bytes.len() / 2]], false, &redactor);
    cut.iter().flat_map(|job| &job.log_tail).for_each(|line| fit(line));
}

fn fit(line: &str) {
    let hidden = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!line.contains(hidden), "{line:?}");
    assert!(!is_told(line), "{line:?}");
}
