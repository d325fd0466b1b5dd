//! Which files of an app are left out of its ZIP: `.bentocloudignore`, as the official client reads it in its directory
//! mode, but at every depth.
//!
//! The client tries each pattern on the whole path and on its first part, so it sends `web/.env` and
//! `web/node_modules`. Here a pattern is tried on the whole path, on each of its parts, and on each folder that the path
//! lies in, counted from the root. A slash at the end of a pattern says nothing. `*` goes past slashes, `!` in front of a
//! pattern means nothing, `#` is a comment in the first column only: as with the client.
//!
//! The file takes the place of [`DEFAULTS`], as with the client; [`ALWAYS`] is left out whatever it says, for a
//! secret or the history of a repository that slips into an image is not called back. Who needs such a file in the app
//! gives it another name, or publishes a ZIP, which is sent as it is. The file itself is sent, unless it names itself.
//! Only the one at the root counts.

use std::fmt::Write;

use regex::{Regex, RegexBuilder};

use super::super::inspect::{InspectError, rejected};

pub(super) const IGNORE_FILE: &str = ".bentocloudignore";
/// The largest one, in bytes.
pub(super) const IGNORE_FILE_MAX: u64 = 64 << 10;
const ALWAYS: &[&str] = &[".git", ".env", ".bentocloud.json"];
const DEFAULTS: &[&str] = &["__pycache__", "*.pyc", "*.pyo", "node_modules", ".DS_Store"];
const PATTERNS_MAX: usize = 1000;
/// Of the compiled patterns, in bytes: what a path can cost grows with it.
const COMPILED_MAX: usize = 1 << 20;

/// What is left out.
pub(super) struct Ignore(Regex);

impl Ignore {
    /// The patterns of the file at the root, if there is one.
    pub(super) fn read(file: Option<&[u8]>) -> Result<Self, InspectError> {
        let Some(bytes) = file else { return Self::compile(ALWAYS.iter().chain(DEFAULTS).copied()) };
        let Ok(text) = std::str::from_utf8(bytes) else { return rejected(format!("`{IGNORE_FILE}` is not UTF-8")) };
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
        if lines.clone().count() > PATTERNS_MAX {
            return rejected(format!("`{IGNORE_FILE}` has more than {PATTERNS_MAX} patterns; write fewer"));
        }
        Self::compile(ALWAYS.iter().copied().chain(lines))
    }

    /// Whether a file with this path from the root is left out.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.0.is_match(path)
    }

    /// One expression for all: the engine walks a path once, whatever the patterns are.
    fn compile<'p>(patterns: impl Iterator<Item = &'p str>) -> Result<Self, InspectError> {
        let mut all = String::new();
        for pattern in patterns {
            let pattern = match pattern.trim_end_matches('/') {
                "" => continue,
                pattern => pattern,
            };
            if !all.is_empty() {
                all.push('|');
            }
            // From the root to the end of any part, and, where it can be one, any part.
            let _ = write!(all, "^(?:{})(?:/|$)", expression(pattern, "."));
            if !pattern.contains('/') {
                let _ = write!(all, "|(?:^|/)(?:{})(?:/|$)", expression(pattern, "[^/]"));
            }
        }
        match RegexBuilder::new(&all).dot_matches_new_line(true).size_limit(COMPILED_MAX).build() {
            Ok(regex) => Ok(Self(regex)),
            Err(_) => rejected(format!("the patterns of `{IGNORE_FILE}` are too long in all; write fewer")),
        }
    }
}

/// The pattern as a regular expression, by the rules of Python's `fnmatch`. `any` stands for one character.
fn expression(pattern: &str, any: &str) -> String {
    let characters: Vec<char> = pattern.chars().collect();
    let mut expression = String::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        at += 1;
        match character {
            '*' => {
                let _ = write!(expression, "{any}*");
            }
            '?' => expression.push_str(any),
            '[' => match class_end(&characters, at) {
                Some(end) => {
                    let _ = write!(
                        expression,
                        "[{}&&{}]",
                        class(&characters[at..end]),
                        any.replace('.', r"\x{0}-\x{10FFFF}")
                    );
                    at = end + 1;
                }
                None => literal('[', &mut expression),
            },
            other => literal(*other, &mut expression),
        }
    }
    expression
}

/// Where the `]` of a class is that begins at `start`; one directly after `[` or `[!` is a member.
fn class_end(characters: &[char], start: usize) -> Option<usize> {
    let first = start + usize::from(characters.get(start) == Some(&'!'));
    (first + 1..characters.len()).find(|at| characters[*at] == ']')
}

fn class(members: &[char]) -> String {
    let (negated, mut members) = match members {
        ['!', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let mut class = String::from(if negated { "[^" } else { "[" });
    let mut is_empty = true;
    while let [first, rest @ ..] = members {
        let last = match rest {
            ['-', last, after @ ..] => {
                members = after;
                *last
            }
            _ => {
                members = rest;
                *first
            }
        };
        // A range that runs backwards has no members.
        if *first <= last {
            let _ = write!(class, r"\x{{{:x}}}-\x{{{:x}}}", u32::from(*first), u32::from(last));
            is_empty = false;
        }
    }
    match (is_empty, negated) {
        (true, true) => r"[\x{0}-\x{10FFFF}]".to_owned(),
        (true, false) => r"[^\x{0}-\x{10FFFF}]".to_owned(),
        _ => class + "]",
    }
}

fn literal(character: char, expression: &mut String) {
    let _ = write!(expression, r"\x{{{:x}}}", u32::from(character));
}
