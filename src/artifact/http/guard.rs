//! Which URLs may be asked for artifacts, at every hop.
//!
//! A URL is judged before it is asked, and a name once more by the addresses that it resolves to: [`Reach`] says by which
//! resolver. What is shown of a URL is [`location`], and no more.

use reqwest::Response;
use reqwest::header::LOCATION;
use url::Url;

use super::{SourceField, refused, unavailable};
use crate::address;
use crate::artifact::{FetchError, Limits};

/// Which addresses a name may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::artifact) enum Reach {
    /// Public ones only.
    Public,
    /// Any: the operator's flags name this host.
    Any,
}

/// The rules for one source.
#[derive(Clone, Debug)]
pub(in crate::artifact) struct Guard {
    allow_insecure: bool,
    /// `host` or `host:port`: over https at any address.
    private: Vec<String>,
    /// Hosts that may be asked at any address, and over http; without port and last dot.
    flux: Vec<String>,
}

impl Guard {
    pub(in crate::artifact) fn new(field: SourceField, limits: &Limits) -> Self {
        let flux = if field == SourceField::SourceRef { limits.flux_hosts.clone() } else { Vec::new() };
        Self { allow_insecure: limits.allow_insecure, private: limits.private_hosts.clone(), flux }
    }

    /// Whether plain http may be spoken to some host.
    pub(super) fn allows_http(&self) -> bool {
        self.allow_insecure || !self.flux.is_empty()
    }

    /// Whether any host may be at an address that is not public.
    pub(super) fn allows_private(&self) -> bool {
        self.allow_insecure || !self.flux.is_empty() || !self.private.is_empty()
    }

    /// Whether `url` may be asked at all, as far as can be seen before its name is resolved.
    pub(in crate::artifact) fn check(&self, url: &Url) -> Result<Reach, FetchError> {
        let is_flux = self.names_flux(url);
        match url.scheme() {
            "https" => {}
            "http" if self.allow_insecure || is_flux => {}
            "http" => {
                return Err(refused(url, "only https is; the operator's --allow-insecure-artifacts is for tests"));
            }
            scheme => return Err(refused(url, &format!("the scheme must be https, not {scheme}"))),
        }
        if self.allow_insecure || is_flux || self.names_private(url) {
            return Ok(Reach::Any);
        }
        match address::check_literal(url) {
            Ok(()) => Ok(Reach::Public),
            Err(error) => Err(not_public(url, &error)),
        }
    }

    /// Where a redirect leads, if that may be asked; `None` if the answer is no redirect.
    pub(in crate::artifact) fn next_url(&self, response: &Response, url: &Url) -> Option<Result<Url, FetchError>> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return None;
        }
        let next = response.headers().get(LOCATION)?;
        let next = next.to_str().ok().and_then(|next| url.join(next).ok());
        let Some(mut next) = next else {
            return Some(Err(unavailable(location(url), "it redirects to something that is no URL".to_owned())));
        };
        // Credentials come from the source's Secret only. Both fail only for URLs that `check` refuses anyway.
        let _ = next.set_username("");
        let _ = next.set_password(None);
        // Whose artifact it is was judged by the address that the source's status gives, and by no other.
        if self.names_flux(&next) {
            let reason = format!("a redirect of {} must not lead to Flux", location(url));
            return Some(Err(FetchError::Foreign { location: location(&next), reason }));
        }
        Some(self.check(&next).map(|_| next))
    }

    fn names_flux(&self, url: &Url) -> bool {
        is_one_of(&self.flux, url)
    }

    fn names_private(&self, url: &Url) -> bool {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
        self.private.iter().any(|private| private == host || *private == format!("{host}:{port}"))
    }
}

/// Whether the host of a URL is one of these, whatever its port, with or without the last dot.
pub(in crate::artifact) fn is_one_of(hosts: &[String], url: &Url) -> bool {
    url.host_str().is_some_and(|host| hosts.iter().any(|one| one == host.strip_suffix('.').unwrap_or(host)))
}

/// A URL whose host is not public, with what the operator's owner can do about it.
pub(super) fn not_public(url: &Url, error: &address::AddressError) -> FetchError {
    match error {
        address::AddressError::NotPublic { .. } => {
            refused(url, &format!("{error}; only the operator's --private-artifact-hosts can allow it"))
        }
        _ => refused(url, &error.to_string()),
    }
}

/// Host, port and path: what may be shown of a URL.
#[must_use]
pub fn location(url: &Url) -> String {
    const MAX: usize = 300;
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let mut text = format!("{host}{port}{}", url.path());
    // Both host and path are ASCII in a parsed URL; a cut elsewhere leaves the text as it is.
    if text.len() > MAX && text.is_char_boundary(MAX) {
        text.truncate(MAX);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn each_hop_must_be_https_and_public() {
        let strict = Guard::new(SourceField::Http, &Limits::default());
        for (text, allowed) in [
            ("https://ci.example.com/shop.zip", true),
            ("https://8.8.8.8/shop.zip", true),
            ("http://ci.example.com/shop.zip", false),
            ("ftp://ci.example.com/shop.zip", false),
            ("file:///etc/passwd", false),
            ("https://127.0.0.1/shop.zip", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://[::1]/shop.zip", false),
            ("https://[::ffff:10.0.0.1]/shop.zip", false),
        ] {
            let outcome = strict.check(&url(text));
            assert_eq!(outcome.is_ok(), allowed, "{text}: {outcome:?}");
        }
        let insecure = Guard::new(SourceField::Http, &Limits { allow_insecure: true, ..Limits::default() });
        for (text, allowed) in [("http://127.0.0.1:8080/x", true), ("https://10.0.0.1/x", true), ("file:///x", false)] {
            assert_eq!(insecure.check(&url(text)).is_ok(), allowed, "{text}");
        }
    }

    #[test]
    fn the_flags_open_the_hosts_that_they_name_and_no_others() {
        use Reach::{Any, Public};
        let limits = Limits {
            private_hosts: ["git.internal", "registry.internal:5000", "10.0.0.5", "web.internal:443"]
                .map(str::to_owned)
                .to_vec(),
            flux_hosts: vec!["source-controller.flux-system.svc.cluster.local".to_owned()],
            ..Limits::default()
        };
        for (field, text, expected) in [
            (SourceField::Http, "https://git.internal/x", Some(Any)),
            (SourceField::Http, "https://GIT.internal:8443/x", Some(Any)),
            (SourceField::Oci, "https://registry.internal:5000/v2/", Some(Any)),
            (SourceField::Oci, "https://registry.internal/v2/", Some(Public)),
            (SourceField::Oci, "https://web.internal/v2/", Some(Any)),
            (SourceField::Oci, "https://10.0.0.5/v2/", Some(Any)),
            (SourceField::Oci, "https://10.0.0.6/v2/", None),
            (SourceField::Http, "https://git.internal.example.com/x", Some(Public)),
            (SourceField::Http, "https://git.internal./x", Some(Public)),
            (SourceField::Http, "http://git.internal/x", None),
            (SourceField::SourceRef, "http://source-controller.flux-system.svc.cluster.local./x", Some(Any)),
            (SourceField::SourceRef, "http://source-controller.flux-system.svc.cluster.local:8080/x", Some(Any)),
            (SourceField::SourceRef, "http://source-controller.flux-system.svc.cluster.local.example.com/x", None),
            (SourceField::SourceRef, "http://git.internal/x", None),
            (SourceField::SourceRef, "https://git.internal/x", Some(Any)),
            (SourceField::Http, "http://source-controller.flux-system.svc.cluster.local./x", None),
            (SourceField::Oci, "https://source-controller.flux-system.svc.cluster.local./x", Some(Public)),
        ] {
            let outcome = Guard::new(field, &limits).check(&url(text));
            assert_eq!(outcome.as_ref().ok(), expected.as_ref(), "{field:?} {text}: {outcome:?}");
        }
    }

    fn redirect_to(target: &str) -> Response {
        axum::http::Response::builder().status(302).header("location", target).body("").unwrap().into()
    }

    #[test]
    fn a_redirect_leads_only_where_one_may_ask() {
        let guard = Guard::new(SourceField::Http, &Limits::default());
        let url = url("https://ci.example.com/a/shop.zip?signature=1");
        for (target, expected) in [
            ("b.zip", Some("https://ci.example.com/a/b.zip")),
            ("//cdn.example.com/b.zip?x=1", Some("https://cdn.example.com/b.zip?x=1")),
            ("https://user:hunter2@cdn.example.com/b.zip", Some("https://cdn.example.com/b.zip")),
            ("http://ci.example.com/a/shop.zip", None),
            ("https://169.254.169.254/latest/meta-data", None),
            ("https://[::1]/", None),
            ("file:///etc/passwd", None),
            ("https://", None),
        ] {
            let next = guard.next_url(&redirect_to(target), &url).unwrap();
            assert_eq!(next.as_ref().ok().map(Url::as_str), expected, "{target}: {next:?}");
        }
        let limits = Limits { flux_hosts: vec!["source.flux".to_owned()], allow_insecure: true, ..Limits::default() };
        let guard = Guard::new(SourceField::SourceRef, &limits);
        for (target, expected) in [
            ("http://source.flux/gitrepository/other/app/1f2e.tar.gz", None),
            ("https://SOURCE.flux.:8443/gitrepository/other/app/1f2e.tar.gz", None),
            ("https://cdn.example.com/1f2e.tar.gz", Some("https://cdn.example.com/1f2e.tar.gz")),
        ] {
            let next = guard.next_url(&redirect_to(target), &url).unwrap();
            assert_eq!(next.as_ref().ok().map(Url::as_str), expected, "{target}: {next:?}");
        }
        let plain = axum::http::Response::builder().status(300).header("location", "b.zip").body("").unwrap();
        assert!(guard.next_url(&plain.into(), &url).is_none(), "300 asks for a choice");
    }

    #[test]
    fn only_host_and_path_of_a_url_are_shown() {
        let shown = "https://user:hunter2@ci.example.com:8443/a%20b/shop.zip?signature=hunter2#hunter2";
        assert_eq!(location(&url(shown)), "ci.example.com:8443/a%20b/shop.zip");
        let long = url(&format!("https://ci.example.com/{}", "x".repeat(1000)));
        assert!(location(&long).len() < 310);
    }
}
