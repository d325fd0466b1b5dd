//! Which base URLs a token may be sent to.
//!
//! Never one that a resource names. The operator's own flag is trusted; a `baseURL` from a Secret, which a tenant writes,
//! must be https and public, unless `--allowed-base-urls` names it exactly. Loopback http (the simulator, a sidecar) is
//! for the operator's flag only. Names are judged when they resolve, by [`crate::address::PublicResolver`].

use url::Url;

use crate::address::{self, AddressError};

/// Why a base URL is not used. The texts hold no part of the URL but its host: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It is no URL with a host, or no text at all.
    #[error("the base URL is not an absolute URL such as `https://tim.konigle.com`")]
    NotAUrl,
    /// It is not https (nor, from the operator's flag, http on a loopback address).
    #[error("the base URL must begin with `https://`")]
    NotHttps,
    /// It has a user, a password, a query or a fragment.
    #[error("the base URL must have no user, password, query or fragment")]
    NotBare,
    /// Its host is an address that is not public.
    #[error("the base URL must be a public address, or the operator must allow it with `--allowed-base-urls`")]
    NotPublic(#[source] AddressError),
}

/// Tells the base URLs that the operator's flags name from all others.
#[derive(Clone, Debug)]
pub struct Guard {
    trusted: Vec<String>,
}

impl Guard {
    /// `operator` is the URL of `--konigle-base-url`, `allowed` the values of `--allowed-base-urls`.
    #[must_use]
    pub fn new(operator: &Url, allowed: &[String]) -> Self {
        // Parsed, so that both sides of the comparison have the one spelling that a URL gets (lower case, no default port).
        let allowed = allowed.iter().filter_map(|url| Url::parse(url).ok());
        let trusted = std::iter::once(operator.clone()).chain(allowed);
        Self { trusted: trusted.map(|url| url.as_str().trim_end_matches('/').to_owned()).collect() }
    }

    /// Reads the value of the operator's own flag: https, or http on a loopback address.
    pub fn parse_flag(text: &str) -> Result<Url, BaseUrlError> {
        let url = parse(text)?;
        if url.scheme() == "https" || address::is_loopback(&url) { Ok(url) } else { Err(BaseUrlError::NotHttps) }
    }

    /// Reads the `baseURL` of a Secret: https, and no address that is not public unless a flag names the URL exactly.
    pub fn parse_secret(&self, bytes: &[u8]) -> Result<Url, BaseUrlError> {
        let url = parse(std::str::from_utf8(bytes).map_err(|_| BaseUrlError::NotAUrl)?)?;
        if url.scheme() != "https" {
            return Err(BaseUrlError::NotHttps);
        }
        if !self.trusts(url.as_str()) {
            address::check_literal(&url).map_err(BaseUrlError::NotPublic)?;
        }
        Ok(url)
    }

    /// Whether a flag names this base URL exactly, but for slashes at its end: then it may resolve to any address.
    #[must_use]
    pub fn trusts(&self, base_url: &str) -> bool {
        let base_url = base_url.trim_end_matches('/');
        self.trusted.iter().any(|trusted| trusted == base_url)
    }
}

fn parse(text: &str) -> Result<Url, BaseUrlError> {
    let url = Url::parse(text).map_err(|_| BaseUrlError::NotAUrl)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BaseUrlError::NotHttps);
    }
    let bare =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if bare { Ok(url) } else { Err(BaseUrlError::NotBare) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_takes_https_and_loopback_http() {
        for (text, expected) in [
            ("https://tim.konigle.com", None),
            ("https://10.0.0.1/konigle/", None),
            ("http://127.0.0.1:8080", None),
            ("http://[::1]:8080", None),
            ("http://localhost:8080", None),
            ("http://10.0.0.1", Some(BaseUrlError::NotHttps)),
            ("http://tim.konigle.com", Some(BaseUrlError::NotHttps)),
            ("ftp://127.0.0.1", Some(BaseUrlError::NotHttps)),
            ("tim.konigle.com", Some(BaseUrlError::NotAUrl)),
            ("https://user:pass@tim.konigle.com", Some(BaseUrlError::NotBare)),
            ("https://tim.konigle.com?token=x", Some(BaseUrlError::NotBare)),
            ("https://tim.konigle.com#x", Some(BaseUrlError::NotBare)),
        ] {
            assert_eq!(Guard::parse_flag(text).err(), expected, "{text}");
        }
    }

    #[test]
    fn a_secret_takes_public_https_and_what_is_allowed() {
        let flag = Guard::parse_flag("http://127.0.0.1:8080").unwrap();
        let guard = Guard::new(&flag, &["https://10.0.0.1/konigle/".to_owned(), "http://127.0.0.2".to_owned()]);
        for (text, allowed) in [
            ("https://example.com", true),
            ("https://8.8.8.8", true),
            ("https://10.0.0.1/konigle", true),
            ("https://10.0.0.1/konigle//", true),
            ("https://10.0.0.1:443/konigle", true),
            ("https://10.0.0.1/", false),
            ("https://10.0.0.1:8443/konigle", false),
            ("https://169.254.169.254", false),
            ("https://[::1]", false),
            ("https://2130706433", false),
            ("http://example.com", false),
            ("http://127.0.0.1:8080", false),
            ("http://127.0.0.2", false),
            ("https://example.com\n", true),
            ("", false),
        ] {
            assert_eq!(guard.parse_secret(text.as_bytes()).is_ok(), allowed, "{text:?}");
        }
        assert!(guard.parse_secret(b"\xff").is_err());
        assert!(guard.trusts("http://127.0.0.1:8080/") && !guard.trusts("https://example.com"));
    }
}
