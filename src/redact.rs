//! Takes secrets out of text that goes to a place where others read it: a status, an Event, a log line, an error.
//!
//! Two nets, one behind the other. What is known is looked for exactly: the account's token, also base64-encoded
//! (at any alignment, as inside `user:password`), URL-encoded and JSON-escaped. What is not known is guessed by its
//! surroundings: `Authorization` values, the userinfo and query of URLs, and what follows `password=`, `token:` and the
//! like. The password of an artifact's host is not among them: of what such a host says nothing is shown but the name of
//! an unwanted encoding.
//!
//! Pure: no clock, no I/O, no logging. Text that was cut *before* it came here may hold a part of a secret that nobody
//! recognises: redact first, cut afterwards.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use regex::{Captures, Regex};
use secrecy::{ExposeSecret as _, SecretString};

/// What stands where a secret stood.
const MARK: &str = "***";

/// Knows some secrets, and removes them and all that looks like one.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Every form of every secret, the longest first so that no form leaves the rest of a longer one behind.
    forms: Vec<SecretString>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Redactor({} forms)", self.forms.len())
    }
}

impl Redactor {
    /// A redactor that knows these secrets; empty ones are passed over.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> =
            secrets.into_iter().flat_map(forms_of).collect::<BTreeSet<_>>().into_iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self { forms: forms.into_iter().map(SecretString::from).collect() }
    }

    /// The text as one line without control characters, ANSI escapes and secrets.
    ///
    /// Idempotent for what it recognises, and total: if a known secret could still be read after all replacements, the
    /// whole text is withheld.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        self.clean_known(&self.without_known(text))
    }

    /// As [`Redactor::clean`], for a text that was cut at its end before it came here: so much of its end goes that no
    /// beginning of a known secret is left there.
    #[must_use]
    pub fn clean_beginning(&self, text: &str) -> String {
        // After the replacements, for a whole secret at the end must not become the beginning of one.
        let mut text = self.without_known(text);
        let longest = self.forms.first().map_or(0, |form| form.expose_secret().len());
        text.truncate(text.floor_char_boundary(text.len().saturating_sub(longest)));
        self.clean_known(&text)
    }

    /// Whether a known secret stands in this text.
    #[must_use]
    pub fn knows(&self, text: &str) -> bool {
        self.forms.iter().any(|form| text.contains(form.expose_secret()))
    }

    /// Printable, and with a mark in place of each known secret.
    fn without_known(&self, text: &str) -> String {
        // Before as well: an escape that does not end takes the first letters of what follows for its own, and after it
        // is gone nobody would know the rest for a secret.
        let text = self.marked(text.to_owned());
        self.marked(printable(&text))
    }

    fn marked(&self, mut text: String) -> String {
        for form in &self.forms {
            if text.contains(form.expose_secret()) {
                text = text.replace(form.expose_secret(), MARK);
            }
        }
        text
    }

    fn clean_known(&self, text: &str) -> String {
        let text = redact_patterns(text);
        let text = text.replace(is_line_break, " ");
        if self.knows(&text) { MARK.to_owned() } else { text }
    }
}

/// The ways in which a secret may be written down by somebody else.
fn forms_of(secret: &str) -> BTreeSet<String> {
    if secret.is_empty() {
        return BTreeSet::new();
    }
    let mut forms =
        BTreeSet::from([secret.to_owned(), url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()]);
    let percent = |encode: fn(u8) -> String| -> String {
        secret
            .bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { encode(byte) })
            .collect()
    };
    forms.insert(percent(|byte| format!("%{byte:02X}")));
    forms.insert(percent(|byte| format!("%{byte:02x}")));
    forms.insert(percent(
        |byte| if b"-._~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") },
    ));
    // JSON and Debug output escape quotes and backslashes alike.
    forms.insert(serde_json::Value::from(secret).to_string().trim_matches('"').to_owned());
    forms.extend([STANDARD_NO_PAD.encode(secret), URL_SAFE_NO_PAD.encode(secret)]);
    for before in 0..3 {
        forms.extend([base64_core(secret, before, &STANDARD_NO_PAD), base64_core(secret, before, &URL_SAFE_NO_PAD)]);
    }
    forms.remove("");
    // The core of a short secret is a few letters that any word may hold.
    forms.retain(|form| form.len() >= secret.len().min(6));
    forms
}

/// The characters that base64 has in common for every text with `secret` at an offset of `before` bytes (modulo three).
fn base64_core(secret: &str, before: usize, engine: &base64::engine::GeneralPurpose) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(secret.as_bytes());
    let encoded = engine.encode(&bytes);
    // A character holds six bits: those that share bits with what stands before or after the secret are not its own.
    let first = (before * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    encoded.get(first..last).unwrap_or_default().to_owned()
}

fn is_line_break(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Without ANSI escapes and without characters that control a terminal or the direction of writing; line breaks stay.
fn printable(text: &str) -> String {
    static ANSI: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(
            r"(?:\x1b\[|\u{9b})[0-?]*[ -/]*[@-~]?|(?:\x1b\]|\u{9d})[^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]?",
        )
        .ok()
    });
    let without_escapes = ANSI.as_ref().map_or(text.into(), |ansi| ansi.replace_all(text, ""));
    let hidden = |character: char| matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    without_escapes
        .chars()
        .filter(|&character| is_line_break(character) || !(character.is_control() || hidden(character)))
        .collect()
}

/// What follows a telling word: up to the next space, behind the closing quote if it is quoted.
const VALUE: &str = r#"(?:(?:\\?"(?:[^"\\]|\\.)*"?|'[^']*'?)\S*|\S+)"#;

/// Removes what looks like a secret by its surroundings.
fn redact_patterns(text: &str) -> String {
    struct Patterns {
        authorization: Regex,
        scheme: Regex,
        userinfo: Regex,
        query: Regex,
        assignment: Regex,
    }
    static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
        Some(Patterns {
            // A header's value may have many words: all of the line.
            authorization: Regex::new(r#"(?i)(authorization\\?["']?\s*[:=]\s*)[^\r\n]+"#).ok()?,
            scheme: Regex::new(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}").ok()?,
            userinfo: Regex::new(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#]*@").ok()?,
            query: Regex::new(r#"([A-Za-z][A-Za-z0-9+.-]*://[^\s?"'<>]*)\?[^\s"'<>]*"#).ok()?,
            assignment: Regex::new(&format!(r#"(?i)(password|secret|token|api[-_]?key)(\\?["']?\s*[=:]\s*){VALUE}"#))
                .ok()?,
        })
    });
    // The patterns are constants and a test compiles them; if one ever did not, nothing would be shown.
    let Some(patterns) = PATTERNS.as_ref() else { return MARK.to_owned() };
    let text = patterns.authorization.replace_all(text, |found: &Captures<'_>| format!("{}{MARK}", &found[1]));
    let text = patterns.scheme.replace_all(&text, |found: &Captures<'_>| format!("{} {MARK}", &found[1]));
    let text = patterns.userinfo.replace_all(&text, |found: &Captures<'_>| format!("{}{MARK}@", &found[1]));
    let text = patterns.query.replace_all(&text, |found: &Captures<'_>| format!("{}?{MARK}", &found[1]));
    patterns
        .assignment
        .replace_all(&text, |found: &Captures<'_>| format!("{}{}{MARK}", &found[1], &found[2]))
        .into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "k0n1gle+Tok/en=\"x";

    #[test]
    fn removes_what_looks_like_a_secret() {
        for (text, expected) in [
            ("nothing to hide", "nothing to hide"),
            ("Authorization: Token abc def", "Authorization: ***"),
            ("authorization=Basic dXNlcjpw\nnext line", "authorization=*** next line"),
            (r#"{"Authorization": "Token abc"}"#, r#"{"Authorization": ***"#),
            ("sent Bearer abcdef.ghi-jkl to it", "sent Bearer *** to it"),
            ("GET https://user:pass@ci.example.com/a.zip", "GET https://***@ci.example.com/a.zip"),
            ("GET https://token@ci.example.com/a.zip failed", "GET https://***@ci.example.com/a.zip failed"),
            ("postgres://shop:p@ss@db/shop is down", "postgres://***@db/shop is down"),
            ("see https://ci.example.com/a.zip?X-Sig=abc&b=c.", "see https://ci.example.com/a.zip?***"),
            ("see \"https://ci.example.com/a?b\" now", "see \"https://ci.example.com/a?***\" now"),
            ("DB_PASSWORD=hunter2 set", "DB_PASSWORD=*** set"),
            ("password : hunter2", "password : ***"),
            ("Secret:abc", "Secret:***"),
            ("api_key=1 api-key: 2 apikey = 3", "api_key=*** api-key: *** apikey = ***"),
            (r#"{"token": "a b", "x": 1}"#, r#"{"token": *** "x": 1}"#),
            (r#"{\"password\":\"a b\"}"#, r#"{\"password\":***"#),
            ("token='a b' c", "token=*** c"),
            ("a token is needed", "a token is needed"),
            ("\u{1b}[31mred\u{1b}[0m \u{1b}]0;title\u{7}text\u{1b}(B", "red text"),
            ("pass\u{1b}[1mword=hunter2", "password=***"),
            ("a\tb\r\nc\0d\u{202e}e\u{9b}1mf", "a b  cdef"),
            ("cut \u{1b}[", "cut "),
        ] {
            assert_eq!(Redactor::default().clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn removes_what_is_known_in_every_form() {
        let redactor = Redactor::new([TOKEN, "", "p w"]);
        let base64 = STANDARD_NO_PAD.encode(TOKEN);
        for text in [
            format!("got {TOKEN} there"),
            format!("got {base64} there"),
            format!("got {} there", STANDARD_NO_PAD.encode(format!("u:{TOKEN}"))),
            format!("got {} there", STANDARD_NO_PAD.encode(format!("us:{TOKEN}!"))),
            format!("got {} there", URL_SAFE_NO_PAD.encode(format!("use:{TOKEN}"))),
            "got k0n1gle%2BTok%2Fen%3D%22x there".to_owned(),
            "got k0n1gle%2bTok%2fen%3d%22x there".to_owned(),
            format!("got {TOKEN:?} there"),
            "got k0n\u{1b}[1m1gle+Tok/en=\"x there".to_owned(),
            "got p w there".to_owned(),
            "got p+w there".to_owned(),
            "got p%20w there".to_owned(),
        ] {
            let cleaned = redactor.clean(&text);
            assert!(
                cleaned.starts_with("got ") && cleaned.contains(MARK) && !cleaned.contains("k0n1gle"),
                "{text:?} became {cleaned:?}"
            );
        }
        assert_eq!(format!("{redactor:?}").find("k0n1"), None);
    }

    #[test]
    fn an_escape_that_does_not_end_takes_no_letter_of_a_secret() {
        let token = "0k0n1gle-token";
        for before in ["\u{1b}[", "\u{1b}[1;", "\u{9b}", "\u{1b}", "\u{1b}("] {
            let cleaned = Redactor::new([token]).clean(&format!("got {before}{token} there"));
            assert!(!cleaned.contains("gle-token"), "{before:?}: {cleaned:?}");
        }
    }

    #[test]
    fn withholds_all_when_the_mark_itself_is_a_secret() {
        assert_eq!(Redactor::new(["*"]).clean("a*b"), MARK);
    }

    proptest! {
        #[test]
        fn a_token_never_survives(
            token in "[!-~]{8,40}", before in "\\PC{0,12}", after in "\\PC{0,12}", user in "[a-z]{0,5}",
        ) {
            let redactor = Redactor::new([token.as_str()]);
            let percent: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
            for secret in [token.clone(), STANDARD_NO_PAD.encode(&token), percent] {
                prop_assume!(!MARK.contains(&secret));
                let cleaned = redactor.clean(&format!("{before}{secret}{after}{secret}"));
                prop_assert!(!cleaned.contains(&secret), "{cleaned:?}");
            }
            let inside = STANDARD_NO_PAD.encode(format!("{user}:{token}"));
            let core = base64_core(&token, (user.len() + 1) % 3, &STANDARD_NO_PAD);
            prop_assert!(inside.contains(&core));
            prop_assert!(!redactor.clean(&inside).contains(&core));
        }

        #[test]
        fn cleaned_text_is_one_printable_line(text in any::<String>()) {
            let cleaned = Redactor::new([TOKEN]).clean(&text);
            prop_assert!(!cleaned.chars().any(char::is_control), "{cleaned:?}");
        }
    }
}
