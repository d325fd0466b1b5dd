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

use std::cell::Cell;

use super::super::inspect::{InspectError, rejected};

pub(super) const IGNORE_FILE: &str = ".bentocloudignore";
/// The largest one, in bytes.
pub(super) const IGNORE_FILE_MAX: u64 = 64 << 10;
const ALWAYS: &[&str] = &[".git", ".env", ".bentocloud.json"];
const DEFAULTS: &[&str] = &["__pycache__", "*.pyc", "*.pyo", "node_modules", ".DS_Store"];
const PATTERNS_MAX: usize = 1000;
/// So many characters of paths may be compared in all: some ten seconds' work. A hundred patterns such as `*.log` take less
/// for 100,000 files.
const STEPS_MAX: u64 = 1 << 30;

/// What is left out.
///
/// Not by regular expressions: hostile ones cost half a minute for a thousand paths, and nothing bounds that but time.
/// Here the work is counted.
pub(super) struct Ignore {
    patterns: Vec<Pattern>,
    pub(super) steps_left: Cell<u64>,
}

impl Ignore {
    /// The patterns of the file at the root, if there is one.
    pub(super) fn read(file: Option<&[u8]>) -> Result<Self, InspectError> {
        let Some(bytes) = file else { return Ok(Self::new(ALWAYS.iter().chain(DEFAULTS).copied())) };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return rejected(format!("`{IGNORE_FILE}` is not UTF-8; save it as UTF-8"));
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
        if lines.clone().count() > PATTERNS_MAX {
            return rejected(format!("`{IGNORE_FILE}` has more than {PATTERNS_MAX} patterns; write fewer"));
        }
        Ok(Self::new(ALWAYS.iter().copied().chain(lines)))
    }

    fn new<'p>(patterns: impl Iterator<Item = &'p str>) -> Self {
        let patterns = patterns.map(|pattern| pattern.trim_end_matches('/')).filter(|pattern| !pattern.is_empty());
        Self { patterns: patterns.map(Pattern::read).collect(), steps_left: Cell::new(STEPS_MAX) }
    }

    /// Whether a file with this path from the root is left out.
    pub(super) fn matches(&self, path: &str) -> Result<bool, InspectError> {
        let mut steps = Steps(self.steps_left.get());
        let found =
            self.patterns.iter().map(|pattern| pattern.matches(path, &mut steps)).find(|found| *found != Some(false));
        self.steps_left.set(steps.0);
        match found {
            None => Ok(false),
            Some(Some(is_left_out)) => Ok(is_left_out),
            Some(None) => rejected(format!(
                "the patterns of `{IGNORE_FILE}` take too long for so many files; write fewer or shorter ones"
            )),
        }
    }
}

/// How many comparisons are left.
struct Steps(u64);

impl Steps {
    /// So many more; `None` if there are not as many left.
    fn take(&mut self, steps: usize) -> Option<()> {
        self.0 = self.0.checked_sub(u64::try_from(steps).ok()?)?;
        Some(())
    }
}

/// A pattern by the rules of Python's `fnmatch`.
struct Pattern {
    tokens: Vec<Token>,
    /// Whether it is tried on each part of a path, too. One that begins with `*` stands for the path up to a part whenever
    /// it stands for that part.
    is_part: bool,
}

enum Token {
    /// Any number of any characters.
    Any,
    One,
    Literal(char),
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    fn read(pattern: &str) -> Self {
        let characters: Vec<char> = pattern.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(character) = characters.get(at) {
            at += 1;
            tokens.push(match character {
                '*' => Token::Any,
                '?' => Token::One,
                '[' => match class_end(&characters, at) {
                    Some(end) => {
                        let class = class(&characters[at..end]);
                        at = end + 1;
                        class
                    }
                    None => Token::Literal('['),
                },
                other => Token::Literal(*other),
            });
        }
        Self { tokens, is_part: !pattern.contains('/') && !pattern.starts_with('*') }
    }

    /// Whether it stands for the path, for a folder that the path lies in, or for a part of it; `None` if there are not
    /// enough steps left to tell.
    fn matches(&self, path: &str, steps: &mut Steps) -> Option<bool> {
        if self.matches_beginning(path, steps)? {
            return Some(true);
        }
        if self.is_part {
            for part in path.split('/') {
                if self.matches_beginning(part, steps)? {
                    return Some(true);
                }
            }
        }
        Some(false)
    }

    /// Whether it stands for the text up to a slash or to its end.
    fn matches_beginning(&self, text: &str, steps: &mut Steps) -> Option<bool> {
        let (mut token, mut at) = (0, 0);
        // What comes behind the last `*`, and where that was tried. What an earlier one took needs no second thought: the
        // last one can take whatever that would have left.
        let mut last = None;
        loop {
            steps.take(self.tokens.get(token).map_or(1, Token::cost))?;
            let character = text[at..].chars().next();
            match (self.tokens.get(token), character) {
                (None, None | Some('/')) => return Some(true),
                (Some(Token::Any), _) => {
                    token += 1;
                    last = Some((token, at));
                    continue;
                }
                (Some(one), Some(character)) if one.is(character) => {
                    token += 1;
                    at += character.len_utf8();
                    continue;
                }
                // It is too short, and what is left for a `*` to take is shorter.
                (Some(_), None) => return Some(false),
                _ => {}
            }
            let Some((behind, tried)) = last else { return Some(false) };
            let Some(skipped) = text[tried..].chars().next() else { return Some(false) };
            (token, at) = (behind, tried + skipped.len_utf8());
            last = Some((token, at));
        }
    }
}

impl Token {
    /// In steps.
    fn cost(&self) -> usize {
        match self {
            Self::Class { ranges, .. } => 1 + ranges.len(),
            _ => 1,
        }
    }

    fn is(&self, character: char) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Literal(literal) => *literal == character,
            Self::Class { is_negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != *is_negated
            }
        }
    }
}

/// Where the `]` of a class is that begins at `start`; one directly after `[` or `[!` is a member.
fn class_end(characters: &[char], start: usize) -> Option<usize> {
    let first = start + usize::from(characters.get(start) == Some(&'!'));
    (first + 1..characters.len()).find(|at| characters[*at] == ']')
}

/// A range that runs backwards has no members.
fn class(members: &[char]) -> Token {
    let (is_negated, mut members) = match members {
        ['!', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let mut ranges = Vec::new();
    while let [first, rest @ ..] = members {
        let last = if let ['-', last, after @ ..] = rest {
            members = after;
            *last
        } else {
            members = rest;
            *first
        };
        ranges.push((*first, last));
    }
    Token::Class { is_negated, ranges }
}
