//! How a registry wants to be asked, from its `WWW-Authenticate`; and the tokens that it then gives.
//!
//! Pure.

use std::time::Duration;

use http_auth::parse_challenges;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

/// The longest token, and the longest of all that a challenge says: no server takes longer headers.
const LONGEST: usize = 8 << 10;
/// What counts for a token without a time, by docker's specification.
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
const LONGEST_LIFE: Duration = Duration::from_hours(24);
/// So long before its end a token is not used any more: the request has to arrive.
const MARGIN: Duration = Duration::from_secs(10);

/// What a registry answered a request without, or with bad, credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// It wants user and password themselves.
    Basic,
    /// It wants a token, which is got by asking this URL.
    Bearer(Url),
}

impl Challenge {
    /// The first `Bearer` that can be used, else `Basic` if that is offered. Without a scope of its own the token is asked
    /// for `repository:<path>:pull`.
    pub(super) fn of(headers: &HeaderMap, path: &str) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE);
        let texts = values.iter().filter_map(|value| value.to_str().ok()).filter(|text| text.len() <= LONGEST);
        let mut basic = None;
        for challenge in texts.filter_map(|text| parse_challenges(text).ok()).flatten() {
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
            if !challenge.scheme.eq_ignore_ascii_case("bearer") {
                continue;
            }
            let parameter = |name: &str| {
                let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.to_unescaped())
            };
            let Some(realm) = parameter("realm").and_then(|realm| Url::parse(&realm).ok()) else { continue };
            return Some(Self::Bearer(token_url(realm, parameter("service"), parameter("scope"), path)));
        }
        basic
    }
}

fn token_url(mut realm: Url, service: Option<String>, scope: Option<String>, path: &str) -> Url {
    // Credentials come from the source's Secret only. Both fail only for URLs that are refused anyway.
    let _ = realm.set_username("");
    let _ = realm.set_password(None);
    realm.set_fragment(None);
    let scope = scope.unwrap_or_else(|| format!("repository:{path}:pull"));
    realm.query_pairs_mut().extend_pairs(service.map(|service| ("service", service))).append_pair("scope", &scope);
    realm
}

/// A token, and how long it serves.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: SecretString,
    pub(super) life: Duration,
}

impl Token {
    /// Reads the answer of a token service.
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
            expires_in: Option<u64>,
        }
        let Answer { token, access_token, expires_in } = serde_json::from_slice(answer).ok()?;
        let text = token.filter(|token| !token.is_empty()).or(access_token)?;
        let life = expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(LONGEST_LIFE);
        let can_be_sent = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        can_be_sent.then(|| Self { text: text.into(), life: life.saturating_sub(MARGIN) })
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull""#;
        for (lines, expected) in [
            (
                &[hub][..],
                Some("https://auth.docker.io/token?service=registry.docker.io&scope=repository%3Alibrary%2Fx%3Apull"),
            ),
            (
                &[r#"Bearer realm="https://a.example/t?x=1""#],
                Some("https://a.example/t?x=1&scope=repository%3Ateam%2Fshop%3Apull"),
            ),
            (
                &[r#"bearer service="s" , Realm="https://a.example/""#],
                Some("https://a.example/?service=s&scope=repository%3Ateam%2Fshop%3Apull"),
            ),
            (
                &[r#"Bearer realm="https://user:hunter2@a.example/t",scope="a b""#],
                Some("https://a.example/t?scope=a+b"),
            ),
            (&[r#"Basic realm="registry""#], Some("basic")),
            (
                &[r#"Basic realm="registry", Bearer realm="https://a.example/t",scope="s""#],
                Some("https://a.example/t?scope=s"),
            ),
            (
                &[r#"Basic realm="registry""#, r#"Bearer realm="https://a.example/t",scope="s""#],
                Some("https://a.example/t?scope=s"),
            ),
            (&[r#"Bearer realm="/token""#], None),
            (&[r#"Bearer service="s""#], None),
            (&["Bearer realm=\"https://a.example/t"], None),
            (&["Negotiate"], None),
            (&[""], None),
            (&[], None),
        ] {
            let headers = lines.iter().map(|line| (WWW_AUTHENTICATE, HeaderValue::from_str(line).unwrap())).collect();
            let found = Challenge::of(&headers, "team/shop");
            let found = found.as_ref().map(|found| match found {
                Challenge::Basic => "basic",
                Challenge::Bearer(url) => url.as_str(),
            });
            assert_eq!(found, expected, "{lines:?}");
        }
        let long = HeaderValue::from_str(&format!("Basic realm=\"{}\"", "x".repeat(LONGEST))).unwrap();
        assert_eq!(Challenge::of(&HeaderMap::from_iter([(WWW_AUTHENTICATE, long)]), "x"), None);
    }

    #[test]
    fn a_token_is_read_with_its_time() {
        for (answer, expected) in [
            (r#"{"token":"a","expires_in":300}"#, Some(("a", 290))),
            (r#"{"access_token":"b","expires_in":300}"#, Some(("b", 290))),
            (r#"{"token":"","access_token":"b"}"#, Some(("b", 50))),
            (r#"{"token":"a","expires_in":5}"#, Some(("a", 0))),
            (r#"{"token":"a","expires_in":18446744073709551615}"#, Some(("a", 86_390))),
            (r#"{"token":"a\nb"}"#, None),
            (r#"{"token":""}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            let token = Token::read(answer.as_bytes());
            let found = token.as_ref().map(|token| (token.text.expose_secret(), token.life.as_secs()));
            assert_eq!(found, expected, "{answer}");
        }
        assert!(Token::read(format!(r#"{{"token":"{}"}}"#, "x".repeat(LONGEST + 1)).as_bytes()).is_none());
    }
}
