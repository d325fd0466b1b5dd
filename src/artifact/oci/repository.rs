//! The name of a repository, read as docker, crane and Flux read it.
//!
//! Pure.

use std::fmt;

use thiserror::Error;
use url::Url;

/// What stands for Docker Hub where no registry is named.
const DOCKER_HUB: &str = "docker.io";
/// Docker Hub's names; the last one is who answers.
const DOCKER_HUB_NAMES: [&str; 3] = [DOCKER_HUB, "index.docker.io", DOCKER_HUB_ADDRESS];
const DOCKER_HUB_ADDRESS: &str = "registry-1.docker.io";
/// The longest path, by the distribution specification.
const LONGEST_PATH: usize = 255;

/// A repository of a registry, such as `registry.example.com/team/shop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository {
    written: String,
    /// `host` or `host:port`.
    registry: String,
    path: String,
}

/// A text is no [`Repository`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct InvalidRepository(String);

impl Repository {
    /// Reads `HOST[:PORT]/PATH`. A first part without dot, colon and other than `localhost` is no host: then it is a
    /// repository of Docker Hub.
    ///
    /// # Errors
    ///
    /// [`InvalidRepository`], which says what to write instead.
    pub fn parse(text: &str) -> Result<Self, InvalidRepository> {
        let invalid = |reason: String| Err(InvalidRepository(reason));
        if let Some((scheme, rest)) = text.split_once("://") {
            return invalid(format!("write it without `{scheme}://`: `{rest}`"));
        }
        if let Some((name, _)) = text.split_once('@') {
            return invalid(format!("a digest goes into `digest`, and only `{name}` here"));
        }
        if !text.contains('/') && text.split(':').next().is_some_and(|name| name.contains('.')) {
            // A name to docker, and a forgotten path to everybody else.
            return invalid(format!(
                "`{text}` has no path: write HOST/PATH; a repository of that name at Docker Hub is `docker.io/library/{text}`"
            ));
        }
        let (host, path) = match text.split_once('/') {
            Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
            _ => (DOCKER_HUB, text),
        };
        if let Some((name, tag)) = path.rsplit_once(':') {
            let repository = &text[..text.len() - tag.len() - 1];
            return invalid(if name.is_empty() {
                example()
            } else {
                format!("a tag goes into `tag`, and only `{repository}` here")
            });
        }
        let Some(registry) = registry(host) else {
            return invalid(format!("`{host}` is no registry: write HOST/PATH or HOST:PORT/PATH"));
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return invalid(format!("the path of a repository is lower-case: write `{}`", path.to_ascii_lowercase()));
        }
        if path.len() > LONGEST_PATH || !path.split('/').all(is_component) {
            return invalid(example());
        }
        let is_hub = DOCKER_HUB_NAMES.contains(&registry.as_str());
        let registry = if is_hub { DOCKER_HUB.to_owned() } else { registry };
        let path = if is_hub && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        Ok(Self { written: text.to_owned(), registry, path })
    }

    /// The registry, as docker's own configuration names it: `host` or `host:port`, and `docker.io` for Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry, such as `team/shop`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where something of this repository is; `None` for what no URL can be made of.
    pub(super) fn url(&self, scheme: &str, rest: &str) -> Option<Url> {
        let address = if self.registry == DOCKER_HUB { DOCKER_HUB_ADDRESS } else { &self.registry };
        Url::parse(&format!("{scheme}://{address}/v2/{}/{rest}", self.path)).ok()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written)
    }
}

/// Whether a text can be a tag, by the distribution specification.
pub(super) fn is_tag(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let other = |byte: u8| first(byte) || matches!(byte, b'.' | b'-');
    text.len() <= 128 && text.bytes().next().is_some_and(first) && text.bytes().all(other)
}

fn example() -> String {
    "write the repository as HOST/PATH, such as registry.example.com/team/shop: parts of a-z and 0-9, with single `.`, `_` \
     or `-` between them"
        .to_owned()
}

/// A host as a URL has it, with its port unless that is the one of https.
fn registry(text: &str) -> Option<String> {
    let url = Url::parse(&format!("https://{text}")).ok()?;
    let host = url.host_str().filter(|_| !text.contains(['\\', '?', '#', '%']))?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// `[a-z0-9]+` with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_separator = |byte: char| matches!(byte, '.' | '_' | '-');
    let known =
        text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || is_separator(byte.into()));
    let edges = !text.starts_with(is_separator) && !text.ends_with(is_separator);
    let separators = text.split(|byte: char| !is_separator(byte)).filter(|separator| !separator.is_empty());
    let allowed = |separator: &str| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-');
    !text.is_empty() && known && edges && separators.into_iter().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>(), near in "[a-c.:/@-]{0,12}") {
            for text in [text, near] {
                if let Ok(repository) = Repository::parse(&text) {
                    let url = repository.url("https", "x").unwrap();
                    let expected = format!("/v2/{}/x", repository.path());
                    assert!(url.path() == expected && url.username().is_empty() && url.query().is_none(), "{text}: {url}");
                }
            }
        }
    }

    #[test]
    fn a_repository_is_read_as_docker_reads_it() {
        for (text, registry, url) in [
            ("registry.example.com/team/shop", "registry.example.com", "https://registry.example.com/v2/team/shop/x"),
            ("registry.example.com:443/shop", "registry.example.com", "https://registry.example.com/v2/shop/x"),
            (
                "Registry.example.com:5000/a/b/c",
                "registry.example.com:5000",
                "https://registry.example.com:5000/v2/a/b/c/x",
            ),
            ("localhost/shop", "localhost", "https://localhost/v2/shop/x"),
            ("localhost:5000/shop", "localhost:5000", "https://localhost:5000/v2/shop/x"),
            ("registry:5000/shop", "registry:5000", "https://registry:5000/v2/shop/x"),
            ("[fd00::1]:5000/shop", "[fd00::1]:5000", "https://[fd00::1]:5000/v2/shop/x"),
            ("shop", "docker.io", "https://registry-1.docker.io/v2/library/shop/x"),
            ("team/shop", "docker.io", "https://registry-1.docker.io/v2/team/shop/x"),
            ("docker.io/shop", "docker.io", "https://registry-1.docker.io/v2/library/shop/x"),
            ("index.docker.io/team/shop", "docker.io", "https://registry-1.docker.io/v2/team/shop/x"),
            ("ghcr.io/a.b_c__d---e/f9", "ghcr.io", "https://ghcr.io/v2/a.b_c__d---e/f9/x"),
        ] {
            let repository = Repository::parse(text).unwrap();
            assert_eq!(repository.registry(), registry, "{text}");
            assert_eq!(repository.url("https", "x").unwrap().as_str(), url, "{text}");
            assert_eq!(repository.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_repository_is_told_what_to_write() {
        for (text, advice) in [
            ("oci://registry.example.com/shop", "without `oci://`: `registry.example.com/shop`"),
            ("https://registry.example.com/shop", "without `https://`"),
            ("registry.example.com/shop:1.4", "a tag goes into `tag`, and only `registry.example.com/shop` here"),
            ("shop:1.4", "only `shop` here"),
            ("registry.example.com:5000/shop:1.4", "only `registry.example.com:5000/shop` here"),
            ("registry.example.com/shop@sha256:aa", "only `registry.example.com/shop` here"),
            ("registry.example.com/Team/Shop", "write `team/shop`"),
            ("registry.example.com/", "write the repository as HOST/PATH"),
            ("registry.example.com", "`registry.example.com` has no path: write HOST/PATH"),
            ("registry.example.com:5000", "`registry.example.com:5000` has no path: write HOST/PATH"),
            ("registry.example.com//shop", "HOST/PATH"),
            ("registry.example.com/shop/", "HOST/PATH"),
            ("registry.example.com/../shop", "HOST/PATH"),
            ("registry.example.com/a..b", "HOST/PATH"),
            ("registry.example.com/a___b", "HOST/PATH"),
            ("registry.example.com/-a", "HOST/PATH"),
            ("registry.example.com/a b", "HOST/PATH"),
            ("registry.example.com/a?b", "HOST/PATH"),
            ("registry.example.com/a%2fb", "HOST/PATH"),
            ("registry.example.com:x/shop", "`registry.example.com:x` is no registry"),
            ("a.b?c/shop", "is no registry"),
            ("", "HOST/PATH"),
        ] {
            let error = Repository::parse(text).unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
        assert!(Repository::parse(&format!("registry.example.com/{}", "a".repeat(256))).is_err());
    }

    #[test]
    fn a_tag_has_no_way_out_of_its_url() {
        for (text, expected) in [
            ("v1.4.2", true),
            ("_a-b", true),
            (&*"a".repeat(128), true),
            (&*"a".repeat(129), false),
            ("", false),
            (".", false),
            ("..", false),
            ("-a", false),
            ("a/b", false),
            ("a?b", false),
            ("a%2fb", false),
            ("ä", false),
        ] {
            assert_eq!(is_tag(text), expected, "{text}");
        }
    }
}
