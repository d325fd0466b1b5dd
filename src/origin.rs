//! Where a wanted artifact comes from, and what it is called: parsed from `spec.source`, valid ever after.
//!
//! Pure: no clock, no I/O, no log. The name of an artifact is what is recorded, approved and compared. It hangs on what was
//! published alone, and never on how this operator packs it: a newer operator must not redeploy a fleet.

use std::fmt;

use crate::api::{ArtifactStatus, FluxKind, RECONCILE_AT, Source};
use crate::artifact::{Digest, Repository, location};
use crate::commands::{Named, create_docker_secret, create_secret};

/// Where the artifact comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file behind a URL.
    Http(HttpOrigin),
    /// An artifact in a registry.
    Oci(OciOrigin),
    /// A source of Flux.
    Flux(FluxOrigin),
}

/// A file behind a URL.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpOrigin {
    /// Where it is.
    pub url: url::Url,
    /// What it is.
    pub digest: Digest,
    /// What people call it.
    pub revision: Option<String>,
    /// The Secret with the credentials of its host.
    pub secret: Option<String>,
}

/// An artifact in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciOrigin {
    /// Registry and repository.
    pub repository: Repository,
    /// Which of its manifests.
    pub reference: OciReference,
    /// The media type of the layer to deploy, where there are several.
    pub layer_media_type: Option<String>,
    /// The Secret with the credentials of the registry.
    pub secret: Option<String>,
}

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OciReference {
    /// What this tag names now.
    Tag(String),
    /// This one.
    Digest(Digest),
}

/// A source of Flux, in the resource's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FluxOrigin {
    /// What it is.
    pub kind: FluxKind,
    /// Its name.
    pub name: String,
    /// The folder inside its artifact, without slashes at its ends; empty for the whole.
    pub path: String,
}

/// What an artifact is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactName {
    /// What is recorded, approved and compared.
    pub digest: Digest,
    /// What people call it.
    pub revision: Option<String>,
    /// The digest of what was published, and the folder inside, where the artifact is a folder of it.
    pub part: Option<(Digest, String)>,
}

impl ArtifactName {
    /// The name of a folder of what was published under `source`; of the whole, where `path` is empty.
    ///
    /// The digest of a folder is `sha256(<source digest> + "\n" + <path>)`: a person can work it out as well.
    #[must_use]
    pub fn of_folder(source: Digest, path: &str, revision: Option<String>) -> Self {
        if path.is_empty() {
            return Self { digest: source, revision, part: None };
        }
        let digest = Digest::of(format!("{source}\n{path}").as_bytes());
        Self { digest, revision, part: Some((source, path.to_owned())) }
    }

    /// The name that a status holds for this origin, if it speaks of it.
    #[must_use]
    pub fn last_of(origin: &Origin, status: Option<&ArtifactStatus>) -> Option<Self> {
        let status = status?;
        let path = match origin {
            Origin::Flux(flux) => flux.path.as_str(),
            Origin::Http(_) | Origin::Oci(_) => "",
        };
        if status.origin.as_deref() != Some(&origin.to_string()) || status.path.as_deref().unwrap_or_default() != path {
            return None;
        }
        let part = match &status.source_digest {
            Some(source) => Some((source.parse().ok()?, path.to_owned())),
            None => None,
        };
        Some(Self { digest: status.digest.parse().ok()?, revision: status.revision.clone(), part })
    }
}

impl fmt::Display for ArtifactName {
    /// What people call it, and the beginning of its digest.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.revision {
            Some(revision) => write!(formatter, "{revision} ({})", self.digest.short()),
            None => formatter.write_str(&self.digest.short()),
        }
    }
}

impl fmt::Debug for HttpOrigin {
    // A URL may be pre-signed, so its query is a secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HttpOrigin")
            .field("url", &location(&self.url))
            .field("digest", &self.digest)
            .field("revision", &self.revision)
            .field("secret", &self.secret)
            .finish()
    }
}

impl Origin {
    /// The whole address of a file behind a URL, signature included; empty for the others.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Http(http) => http.url.as_str(),
            Self::Oci(_) | Self::Flux(_) => "",
        }
    }

    /// Parses `spec.source`.
    ///
    /// # Errors
    ///
    /// What to write instead.
    pub fn parse(source: &Source) -> Result<Self, String> {
        match (&source.http, &source.oci, &source.source_ref) {
            (Some(http), None, None) => Ok(Self::Http(HttpOrigin {
                url: http.url.parse().map_err(|_| "write spec.source.http.url as https://host/path")?,
                digest: parse_digest("spec.source.http.digest", &http.digest)?,
                revision: http.revision.clone().filter(|revision| !revision.is_empty()),
                secret: http.secret_ref.as_ref().map(|secret| secret.name.clone()),
            })),
            (None, Some(oci), None) => Ok(Self::Oci(OciOrigin {
                repository: Repository::parse(&oci.repository)
                    .map_err(|why| format!("spec.source.oci.repository: {why}"))?,
                reference: match (&oci.tag, &oci.digest) {
                    (Some(tag), None) => OciReference::Tag(tag.clone()),
                    (None, Some(digest)) => OciReference::Digest(parse_digest("spec.source.oci.digest", digest)?),
                    _ => return Err("write exactly one of spec.source.oci.tag and spec.source.oci.digest".to_owned()),
                },
                layer_media_type: oci.layer_media_type.clone().filter(|media_type| !media_type.is_empty()),
                secret: oci.secret_ref.as_ref().map(|secret| secret.name.clone()),
            })),
            (None, None, Some(flux)) => Ok(Self::Flux(FluxOrigin {
                kind: flux.kind,
                name: flux.name.clone(),
                path: clean_path(flux.path.as_deref().unwrap_or_default())?,
            })),
            _ => Err("write exactly one of spec.source.http, spec.source.oci and spec.source.sourceRef".to_owned()),
        }
    }

    /// What the spec itself calls the artifact; `None` where that must be looked up.
    #[must_use]
    pub fn fixed_name(&self) -> Option<ArtifactName> {
        match self {
            Self::Http(http) => Some(ArtifactName { digest: http.digest, revision: http.revision.clone(), part: None }),
            Self::Oci(OciOrigin { reference: OciReference::Digest(digest), .. }) => {
                Some(ArtifactName { digest: *digest, revision: None, part: None })
            }
            Self::Oci(_) | Self::Flux(_) => None,
        }
    }

    /// The Secret with the credentials of its host.
    #[must_use]
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Http(http) => http.secret.as_deref(),
            Self::Oci(oci) => oci.secret.as_deref(),
            Self::Flux(_) => None,
        }
    }

    /// The field that says where it is, and what to write there.
    #[must_use]
    pub fn address_help(&self) -> &'static str {
        match self {
            Self::Http(_) => "correct spec.source.http.url",
            Self::Oci(OciOrigin { reference: OciReference::Tag(_), .. }) => "correct spec.source.oci.repository",
            Self::Oci(_) => "correct spec.source.oci.repository or spec.source.oci.digest",
            Self::Flux(_) => "see what Flux says of the source",
        }
    }

    /// What to do where its address may not be asked.
    #[must_use]
    pub fn refused_help(&self) -> &'static str {
        match self {
            Self::Http(_) => "write spec.source.http.url as https://host/path with a public host",
            Self::Oci(_) => "write spec.source.oci.repository with a public registry",
            Self::Flux(_) => {
                "if it is a host of your Flux, have the operator allow it with `--flux-artifact-hosts`; else see who wrote the source's status"
            }
        }
    }

    /// The Secret with the credentials of its host, and the field that names it, as messages say it.
    #[must_use]
    pub fn secret_named(&self) -> Option<String> {
        let field = match self {
            Self::Http(_) => "spec.source.http.secretRef",
            Self::Oci(_) => "spec.source.oci.secretRef",
            Self::Flux(_) => return None,
        };
        self.secret().map(|secret| format!("Secret {secret}, which {field} names"))
    }

    /// What to do where its host does not let the operator in. `of` is whose origin it is; `with_credentials`: the host got
    /// some.
    #[must_use]
    pub fn denied_help(&self, of: Named<'_>, with_credentials: bool) -> String {
        if let Some(secret) = self.secret_named() {
            let again = of.annotate_now(RECONCILE_AT);
            let (here, host) = match self {
                Self::Oci(oci) => {
                    (format!("pull from {}", oci.repository), format!(" for {}", oci.repository.registry()))
                }
                Self::Http(_) | Self::Flux(_) => ("read it".to_owned(), String::new()),
            };
            return if with_credentials {
                format!(
                    "see whether the credentials in {secret}, are right and may {here}; once they are, `{again}` has it asked again at once"
                )
            } else {
                format!("{secret}, holds none{host}: add them, and `{again}` has it asked again at once")
            };
        }
        match self {
            Self::Http(http) => {
                let signed = match http.url.query() {
                    None => "",
                    Some(_) => "a signature in the URL may have ended: write a new one into spec.source.http.url; ",
                };
                let create = create_secret(of.namespace, "NAME", "--from-literal=bearerToken=TOKEN");
                format!(
                    "{signed}where the host wants credentials, make a Secret with `{create}` and name it in spec.source.http.secretRef, which names none"
                )
            }
            Self::Oci(oci) => {
                let create = create_docker_secret(of.namespace, "NAME", oci.repository.registry());
                format!(
                    "the registry wants credentials, or has no such repository: correct spec.source.oci.repository, or make a Secret with `{create}` and name it in spec.source.oci.secretRef, which names none"
                )
            }
            Self::Flux(_) => {
                "artifacts of Flux are asked for without credentials: see what stands in front of its controller, and have it let the operator in".to_owned()
            }
        }
    }

    /// What becomes of another artifact, once it is published.
    #[must_use]
    pub fn publish_help(&self) -> &'static str {
        match self {
            Self::Http(_) => "then write its digest into spec.source.http.digest",
            Self::Oci(OciOrigin { reference: OciReference::Tag(_), .. }) => {
                "what is pushed under the tag is seen by itself"
            }
            Self::Oci(_) => "then write its digest into spec.source.oci.digest",
            Self::Flux(_) => "a new artifact of the source is seen by itself",
        }
    }
}

impl fmt::Display for Origin {
    /// For people, and to know it again: no URL, which may hold a signature.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(http) => formatter.write_str(&location(&http.url)),
            Self::Oci(OciOrigin { repository, reference, .. }) => match reference {
                OciReference::Tag(tag) => write!(formatter, "{repository}:{tag}"),
                OciReference::Digest(digest) => write!(formatter, "{repository}@{digest}"),
            },
            Self::Flux(flux) => write!(formatter, "{}/{}", flux.kind.word(), flux.name),
        }
    }
}

/// Parses the digest in a field.
///
/// # Errors
///
/// What to write instead.
pub fn parse_digest(field: &str, text: &str) -> Result<Digest, String> {
    text.parse().map_err(|_| format!("write {field} as sha256: and 64 lower-case hexadecimal digits"))
}

/// A folder without `.`, empty parts and slashes at its ends.
fn clean_path(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.contains('\\') || parts.contains(&"..") {
        return Err("write spec.source.sourceRef.path as a folder inside the artifact, such as apps/shop".to_owned());
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

    #[test]
    fn a_folder_is_named_by_what_was_published_and_where_it_is_inside() {
        let source: Digest = A.parse().unwrap();
        let whole = ArtifactName::of_folder(source, "", None);
        assert_eq!((whole.digest, whole.part), (source, None));
        let folder = ArtifactName::of_folder(source, "apps/shop", None);
        // printf '%s\n%s' sha256:ca97… apps/shop | sha256sum
        assert_eq!(
            folder.digest.to_string(),
            "sha256:b3c8d1f9984d460f8ec49e510fabeee1e532b9fe30f2bb82a6887831443fc417"
        );
        assert_eq!(folder.part, Some((source, "apps/shop".to_owned())));
    }

    #[test]
    fn paths_are_read_as_people_write_them() {
        for (text, clean) in [
            ("", ""),
            (".", ""),
            ("./", ""),
            ("apps/shop", "apps/shop"),
            ("./apps/shop/", "apps/shop"),
            ("apps//shop", "apps/shop"),
            ("/apps/shop/", "apps/shop"),
            ("/", ""),
            ("..apps", "..apps"),
        ] {
            assert_eq!(clean_path(text).as_deref(), Ok(clean), "{text}");
        }
        for text in ["/../apps", "../apps", "apps/../../x", "apps\\shop"] {
            assert!(clean_path(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn whom_a_host_does_not_let_in_is_told_what_to_do() {
        let http = |url: &str, secret: Option<&str>| {
            Origin::Http(HttpOrigin {
                url: url.parse().unwrap(),
                digest: A.parse().unwrap(),
                revision: None,
                secret: secret.map(str::to_owned),
            })
        };
        let oci = |secret: Option<&str>| {
            Origin::Oci(OciOrigin {
                repository: Repository::parse("r.example.com/team/shop").unwrap(),
                reference: OciReference::Tag("uat".to_owned()),
                layer_media_type: None,
                secret: secret.map(str::to_owned),
            })
        };
        let of = Named { namespace: "shop", name: "shop-uat" };
        let command = of.annotate_now(RECONCILE_AT);
        let again = format!("once they are, `{command}` has it asked again at once");
        let (url, signed) = ("https://ci.example.com/shop.zip", "https://ci.example.com/shop.zip?signature=hunter2");
        let in_secret = "see whether the credentials in Secret ci, which spec.source";
        for (origin, expected) in [
            (http(url, Some("ci")), format!("{in_secret}.http.secretRef names, are right and may read it; {again}")),
            (http(signed, Some("ci")), format!("{in_secret}.http.secretRef names, are right and may read it; {again}")),
            (
                http(url, None),
                "where the host wants credentials, make a Secret with `kubectl create secret generic NAME --namespace shop \
                 --from-literal=bearerToken=TOKEN` and name it in spec.source.http.secretRef, which names none"
                    .to_owned(),
            ),
            (
                http(signed, None),
                "a signature in the URL may have ended: write a new one into spec.source.http.url; where the host wants \
                 credentials, make a Secret with `kubectl create secret generic NAME --namespace shop \
                 --from-literal=bearerToken=TOKEN` and name it in spec.source.http.secretRef, which names none"
                    .to_owned(),
            ),
            (
                oci(Some("ci")),
                format!("{in_secret}.oci.secretRef names, are right and may pull from r.example.com/team/shop; {again}"),
            ),
            (
                oci(None),
                "the registry wants credentials, or has no such repository: correct spec.source.oci.repository, or make a \
                 Secret with `kubectl create secret docker-registry NAME --namespace shop --docker-server=r.example.com \
                 --docker-username=USER --docker-password=PASSWORD` and name it in spec.source.oci.secretRef, which names \
                 none"
                    .to_owned(),
            ),
            (
                Origin::Flux(FluxOrigin {
                    kind: FluxKind::Bucket,
                    name: "shop".to_owned(),
                    path: String::new(),
                }),
                "artifacts of Flux are asked for without credentials: see what stands in front of its controller, and \
                 have it let the operator in"
                    .to_owned(),
            ),
        ] {
            assert_eq!(origin.denied_help(of, origin.secret().is_some()), expected);
        }
        let expected = format!(
            "Secret ci, which spec.source.http.secretRef names, holds none: add them, and `{command}` has it asked again at once"
        );
        assert_eq!(http(url, Some("ci")).denied_help(of, false), expected);
    }

    #[test]
    fn what_was_last_known_counts_only_for_the_same_origin() {
        let flux = |name: &str, path: &str| {
            Origin::Flux(FluxOrigin { kind: FluxKind::GitRepository, name: name.to_owned(), path: path.to_owned() })
        };
        let named = ArtifactName::of_folder(A.parse().unwrap(), "apps/shop", Some("main@sha1:1".to_owned()));
        let status = ArtifactStatus {
            digest: named.digest.to_string(),
            revision: named.revision.clone(),
            origin: Some("GitRepository/shop".to_owned()),
            source_digest: Some(A.to_owned()),
            path: Some("apps/shop".to_owned()),
            ..ArtifactStatus::default()
        };
        let last = |origin: &Origin| ArtifactName::last_of(origin, Some(&status));
        assert_eq!(last(&flux("shop", "apps/shop")), Some(named));
        assert_eq!(last(&flux("other", "apps/shop")), None);
        assert_eq!(last(&flux("shop", "apps")), None);
        assert_eq!(ArtifactName::last_of(&flux("shop", "apps/shop"), None), None);
    }
}
