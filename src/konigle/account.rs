//! Whose requests these are: a base URL and a token, and when a token is one.
//!
//! Absent: reading Secrets (`observe`), and which base URLs may be used (`base_url`).

use std::fmt;
use std::hash::{Hash, Hasher};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// A base URL and the token for it. A key of a map; neither `Debug` nor any error shows more than scheme and host.
#[derive(Clone)]
pub struct Account {
    base_url: Url,
    trimmed: String,
    token: SecretString,
}

impl Account {
    /// An account. `base_url` comes from [`super::Guard`], `token` from [`parse_token`].
    #[must_use]
    pub fn new(base_url: Url, token: SecretString) -> Self {
        let trimmed = base_url.as_str().trim_end_matches('/').to_owned();
        Self { base_url, trimmed, token }
    }

    /// The base URL without trailing slashes, as `status.attempt.sentTo.baseURL` keeps it.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.trimmed
    }

    pub(super) fn url(&self) -> &Url {
        &self.base_url
    }

    pub(super) fn token(&self) -> &SecretString {
        &self.token
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.base_url.host_str().unwrap_or_default();
        write!(formatter, "Account({}://{host})", self.base_url.scheme())
    }
}

impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.trimmed == other.trimmed && self.token.expose_secret() == other.token.expose_secret()
    }
}

impl Eq for Account {}

impl Hash for Account {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.trimmed.hash(state);
        self.token.expose_secret().hash(state);
    }
}

/// Why the value of a Secret's key `token` is no token. The text says what is wrong with it, not what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenProblem {
    /// There is nothing in it.
    #[error("the token is empty")]
    Empty,
    /// It holds a line break, most often one at its end that an editor or `echo` wrote.
    #[error("the token holds a line break, which an editor or `echo` may have put at its end")]
    Newline,
    /// It holds a space, a control character, or a byte beyond ASCII: no header can carry it, or it was encoded twice.
    #[error("the token holds a character that is not visible ASCII")]
    NotVisibleAscii,
}

/// Takes the value of a Secret's key `token` as it is: nothing is trimmed, so that what is stored is what is sent.
pub fn parse_token(bytes: &[u8]) -> Result<SecretString, TokenProblem> {
    if bytes.is_empty() {
        return Err(TokenProblem::Empty);
    }
    if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Err(TokenProblem::Newline);
    }
    match std::str::from_utf8(bytes) {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(SecretString::from(token)),
        _ => Err(TokenProblem::NotVisibleAscii),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn takes_visible_ascii_only() {
        for (bytes, expected) in [
            (&b"abc-DEF_123.~+/="[..], Ok(())),
            (b"", Err(TokenProblem::Empty)),
            (b"abc\n", Err(TokenProblem::Newline)),
            (b"abc\r\n", Err(TokenProblem::Newline)),
            (b"a\nbc", Err(TokenProblem::Newline)),
            (b" abc", Err(TokenProblem::NotVisibleAscii)),
            (b"a\tc", Err(TokenProblem::NotVisibleAscii)),
            (b"a\0c", Err(TokenProblem::NotVisibleAscii)),
            ("tök".as_bytes(), Err(TokenProblem::NotVisibleAscii)),
            (b"\xff\xfe", Err(TokenProblem::NotVisibleAscii)),
        ] {
            assert_eq!(parse_token(bytes).map(|_| ()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn is_a_key_that_shows_no_secret() {
        let account = |url: &str, token: &str| Account::new(Url::parse(url).unwrap(), SecretString::from(token));
        let accounts = HashSet::from([
            account("https://tim.konigle.com", "canary-1"),
            account("https://tim.konigle.com/", "canary-1"),
            account("https://tim.konigle.com", "canary-2"),
            account("https://example.com/konigle/", "canary-1"),
        ]);
        assert_eq!(accounts.len(), 3);
        assert!(!format!("{accounts:?}").contains("canary"));
        assert_eq!(account("https://example.com/konigle/", "x").base_url(), "https://example.com/konigle");
        assert_eq!(format!("{:?}", account("https://example.com/konigle/", "x")), "Account(https://example.com)");
    }
}
