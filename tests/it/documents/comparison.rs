//! What a command printed, compared with what the document says that it prints.

use regex::Regex;

/// What differs from run to run is replaced by one example of it.
pub(super) fn stable(text: &str) -> String {
    let examples = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-11-24T09:00:00Z"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "b8633508-44c5-455f-a689-5acd35e2233d"),
        (r"\bk[0-9a-f]{8}\b", "k8960a101"),
        (r"https://127\.0\.0\.1:\d+", "https://kubernetes.example.com"),
    ];
    examples.iter().fold(text.to_owned(), |text, (pattern, example)| {
        Regex::new(pattern).expect("a pattern").replace_all(&text, *example).into_owned()
    })
}

/// As it is written into the document: of what is told while something is waited for, the beginning.
pub(super) fn shortened(printed: &str) -> String {
    let mut waiting = 0;
    let mut text = String::new();
    for line in printed.lines() {
        waiting = if line.starts_with('◎') { waiting + 1 } else { 0 };
        match waiting {
            0..=4 => text.extend([line.trim_end(), "\n"]),
            5 => text += "◎ …\n",
            _ => {}
        }
    }
    text
}

/// What is compared: without ages, the room that they take, and what is told while something is waited for.
pub(super) fn normal(text: &str) -> String {
    let ages = Regex::new(r"\b\d+[smhd](\d+[sm])?\b").expect("a pattern");
    let spaces = Regex::new(r" +").expect("a pattern");
    let lines = text.lines().filter(|line| !line.starts_with('◎')).map(str::trim_end);
    let text = lines.collect::<Vec<_>>().join("\n");
    spaces.replace_all(&ages.replace_all(&text, "AGE"), " ").into_owned()
}

#[test]
fn what_differs_from_run_to_run_is_not_compared() {
    assert_eq!(normal("a   5s b\n◎ waiting\n1h30m 2m5s  "), "a AGE b\nAGE AGE");
    assert_ne!(normal("a b"), normal("a c"));
    assert_eq!(stable("at 2026-01-01T00:00:00.5Z k0123abcd"), "at 2026-11-24T09:00:00Z k8960a101");
    assert_eq!(shortened("a  \n◎ 1\n◎ 2\n◎ 3\n◎ 4\n◎ 5\n◎ 6\nb"), "a\n◎ 1\n◎ 2\n◎ 3\n◎ 4\n◎ …\nb\n");
}
