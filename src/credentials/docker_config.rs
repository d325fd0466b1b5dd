//! The docker configuration in a Secret of the type `kubernetes.io/dockerconfigjson`: whose credentials are whose.
//!
//! Pure. An entry is found as kubelet finds it: by host and, where the entry has one, by the path before the repository; the
//! longest path counts, and a name before a pattern such as `*.example.com`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use serde::Deserialize;

use crate::artifact::{Auth, Repository};
use crate::text::cut;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// So many registries are listed in a message.
const MOST_LISTED: usize = 10;

#[derive(Deserialize)]
struct DockerConfig {
    auths: Option<BTreeMap<String, Entry>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Why a docker configuration has no credentials for a repository. No text of it is shown but the names of registries.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DockerConfigError {
    #[error("it is no docker configuration: JSON with `auths`, and below that each registry with its `auth`")]
    NotOne,
    #[error("it has no credentials for {registry}, {others}")]
    Missing { registry: String, others: String },
    #[error("its entry for {0} holds no credentials: whoever wrote it keeps them in a credential helper")]
    Empty(String),
    #[error(
        "its entry for {0} is not to be read: `auth` is the base64 of NAME:PASSWORD, and no line break is in either"
    )]
    Unreadable(String),
    #[error(
        "its entry for {0} is an identity token, which a person's login leaves: use a name and a password or token"
    )]
    IdentityToken(String),
}

/// The credentials for a repository.
pub(super) fn find(config: &[u8], repository: &Repository) -> Result<Auth, DockerConfigError> {
    let config: DockerConfig = serde_json::from_slice(config).map_err(|_| DockerConfigError::NotOne)?;
    let auths = config.auths.ok_or(DockerConfigError::NotOne)?;
    let found = auths.iter().filter_map(|(key, entry)| Some((rank(key, repository)?, key, entry)));
    let Some((_, key, entry)) = found.max_by_key(|(rank, ..)| *rank) else {
        let listed: Vec<String> = auths.keys().take(MOST_LISTED).map(|key| clean(key)).collect();
        let others =
            if listed.is_empty() { "nor for any other".to_owned() } else { format!("but for {}", listed.join(", ")) };
        return Err(DockerConfigError::Missing { registry: repository.registry().to_owned(), others });
    };
    credentials(entry, &clean(key))
}

fn credentials(entry: &Entry, key: &str) -> Result<Auth, DockerConfigError> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let unreadable = || DockerConfigError::Unreadable(key.to_owned());
    if given(&entry.identitytoken).is_some() {
        return Err(DockerConfigError::IdentityToken(key.to_owned()));
    }
    if let Some(token) = given(&entry.registrytoken) {
        let token = Some(token).filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        return token.map(|token| Auth::Bearer(SecretString::from(token))).ok_or_else(unreadable);
    }
    let pair = if let Some(auth) = given(&entry.auth) {
        let text =
            BASE64.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)?;
        // Docker itself wrote NUL after some.
        let (username, password) = text.trim_end_matches('\0').split_once(':').ok_or_else(unreadable)?;
        Some((username.to_owned(), password.to_owned()))
    } else {
        given(&entry.username).zip(given(&entry.password))
    };
    let (username, password) = pair.ok_or_else(|| DockerConfigError::Empty(key.to_owned()))?;
    if username.is_empty() || [&username, &password].iter().any(|text| text.contains(['\n', '\r'])) {
        return Err(unreadable());
    }
    Ok(Auth::Basic { username, password: SecretString::from(password) })
}

/// How well an entry's key fits a repository, the more the better; `None` if it does not.
fn rank(key: &str, repository: &Repository) -> Option<(usize, bool)> {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_end_matches('/');
    // What docker writes for Docker Hub, and what old registries were called by.
    let path = ["v1", "v2"].iter().find_map(|version| strip_part(path, version)).unwrap_or(path);
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    let is_hub = matches!(host, "index.docker.io" | "registry-1.docker.io");
    let host = if is_hub { "docker.io" } else { host };
    let registry = repository.registry();
    let is_named = host == registry;
    let fits = (is_named || is_pattern_of(host, registry))
        && (path.is_empty() || strip_part(repository.path(), path).is_some());
    fits.then_some((path.len(), is_named))
}

/// What is left of a path after its first parts.
fn strip_part<'a>(path: &'a str, first: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(first)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// Whether each part of a host fits; `*` stands for any letters within one.
fn is_pattern_of(pattern: &str, host: &str) -> bool {
    let (patterns, parts): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), host.split('.').collect());
    let fits = |(pattern, part): (&&str, &&str)| match pattern.split_once('*') {
        None => pattern == part,
        Some((before, after)) => {
            part.len() >= before.len() + after.len() && part.starts_with(before) && part.ends_with(after)
        }
    };
    patterns.len() == parts.len() && patterns.iter().zip(&parts).all(fits)
}

fn clean(key: &str) -> String {
    cut(&key.chars().filter(|letter| !letter.is_control()).collect::<String>(), 100)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::*;

    fn found(auths: &Value, repository: &str) -> Result<String, DockerConfigError> {
        let config = json!({"auths": auths}).to_string();
        let auth = find(config.as_bytes(), &Repository::parse(repository).unwrap())?;
        Ok(match auth {
            Auth::Basic { username, password } => format!("{username}:{}", password.expose_secret()),
            Auth::Bearer(token) => format!("bearer {}", token.expose_secret()),
        })
    }

    #[test]
    fn an_entry_is_found_as_kubelet_finds_it() {
        let entry = |name: &str| json!({"username": name, "password": "p"});
        let many: Value = [
            "registry.example.com",
            "registry.example.com/team",
            "https://registry.example.com/team/shop",
            "https://index.docker.io/v1/",
            "http://registry.example.com:5000/v2/",
            "*.example.org",
            "ghcr.example.org",
            "Upper.example.net:443",
        ]
        .iter()
        .map(|key| ((*key).to_owned(), entry(key)))
        .collect::<serde_json::Map<_, _>>()
        .into();
        for (repository, expected) in [
            ("registry.example.com/other", Some("registry.example.com")),
            ("registry.example.com/teams/shop", Some("registry.example.com")),
            ("registry.example.com/team/web", Some("registry.example.com/team")),
            ("registry.example.com/team/shop", Some("https://registry.example.com/team/shop")),
            ("registry.example.com:443/team/shop/a", Some("https://registry.example.com/team/shop")),
            ("registry.example.com:5000/team/shop", Some("http://registry.example.com:5000/v2/")),
            ("registry.example.com:5001/team/shop", None),
            ("shop", Some("https://index.docker.io/v1/")),
            ("docker.io/team/shop", Some("https://index.docker.io/v1/")),
            ("a.example.org/shop", Some("*.example.org")),
            ("ghcr.example.org/shop", Some("ghcr.example.org")),
            ("a.b.example.org/shop", None),
            ("example.org/shop", None),
            ("upper.example.net/shop", Some("Upper.example.net:443")),
            ("example.com/shop", None),
        ] {
            let found = found(&many, repository).ok();
            assert_eq!(found, expected.map(|name| format!("{name}:p")), "{repository}");
        }
    }

    #[test]
    fn what_an_entry_holds_is_read_as_docker_writes_it() {
        for (entry, expected) in [
            (json!({"auth": STANDARD.encode("a:b:c")}), "a:b:c"),
            (json!({"auth": STANDARD_NO_PAD.encode("a:bc"), "email": "x"}), "a:bc"),
            (json!({"auth": STANDARD.encode("a:b\0\0"), "username": "x", "password": "y"}), "a:b"),
            (json!({"auth": "", "username": "a", "password": "b"}), "a:b"),
            (json!({"auth": null, "username": "a", "password": "b", "identitytoken": ""}), "a:b"),
            (json!({"registrytoken": "t"}), "bearer t"),
        ] {
            assert_eq!(found(&json!({"ghcr.io": entry}), "ghcr.io/shop").as_deref(), Ok(expected), "{entry}");
        }
        let host = || "ghcr.io".to_owned();
        for (entry, expected) in [
            (json!({}), DockerConfigError::Empty(host())),
            (json!({"username": "a"}), DockerConfigError::Empty(host())),
            (json!({"auth": "hunter2"}), DockerConfigError::Unreadable(host())),
            (json!({"auth": STANDARD.encode("hunter2")}), DockerConfigError::Unreadable(host())),
            (json!({"auth": STANDARD.encode(":hunter2")}), DockerConfigError::Unreadable(host())),
            (json!({"auth": STANDARD.encode("a:hunter2\n")}), DockerConfigError::Unreadable(host())),
            (json!({"auth": STANDARD.encode([0xff])}), DockerConfigError::Unreadable(host())),
            (json!({"identitytoken": "hunter2"}), DockerConfigError::IdentityToken(host())),
            (json!({"registrytoken": "hunter2\n"}), DockerConfigError::Unreadable(host())),
        ] {
            let error = found(&json!({"ghcr.io": entry}), "ghcr.io/shop").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
            assert_eq!(error, expected, "{entry}");
        }
    }

    #[test]
    fn what_is_missing_is_named_beside_what_is_there() {
        for (auths, expected) in [
            (
                json!({"ghcr.io": {}, "quay.io": {}}),
                "it has no credentials for r.example.com, but for ghcr.io, quay.io",
            ),
            (json!({}), "it has no credentials for r.example.com, nor for any other"),
        ] {
            assert_eq!(found(&auths, "r.example.com/shop").unwrap_err().to_string(), expected);
        }
        for text in
            ["", "[]", "{}", r#"{"auths": 1}"#, r#"{"ghcr.io": {"auth": "x"}}"#, r#"{"auths": {"a": "hunter2"}}"#]
        {
            let error = find(text.as_bytes(), &Repository::parse("ghcr.io/shop").unwrap()).unwrap_err();
            assert_eq!(error, DockerConfigError::NotOne, "{text}");
        }
    }
}
