//! What a KonigleSpace wants of an artifact's origin, where the digest that is wanted does not stand in its spec.
//!
//! Pure. The operator looks origins up and writes what they name into the status; nothing is looked up here.

use std::time::Duration;

use super::reading::{called, length};
use super::screen::in_one_line;
use crate::api::{ArtifactStatus, KonigleSpace, KonigleSpaceStatus};
use crate::desired::{Desired, Wish};
use crate::origin::{ArtifactName, FluxOrigin, OciOrigin, OciReference, Origin};
use crate::status::unseen_origin;
use crate::text::size;

/// Where the artifact comes from: `ci.example.com/shop.zip`, `registry.example.com/team/shop:v1`,
/// `GitRepository/shop apps/shop`. `None`: it promotes.
pub fn origin(space: &KonigleSpace) -> Option<String> {
    let origin = deploys(space)?.0;
    Some(in_one_line(&match folder(&origin) {
        "" => origin.to_string(),
        folder => format!("{origin} {folder}"),
    }))
}

/// The digest of what was published, where the artifact is a folder of it.
pub fn source_digest(status: &KonigleSpaceStatus) -> Option<&str> {
    status.artifact.as_ref()?.source_digest.as_deref()
}

/// The digest of the ZIP that is sent, where it is another one than the artifact's.
pub fn upload_digest(status: &KonigleSpaceStatus) -> Option<&str> {
    let artifact = status.artifact.as_ref()?;
    let upload = artifact.upload.as_ref().map(|upload| upload.digest.as_str());
    upload.filter(|upload| !upload.is_empty() && *upload != artifact.digest)
}

/// Both parts of a digest that stands for a folder, if it is the one that this status wants.
pub fn parts(status: &KonigleSpaceStatus, digest: &str) -> Option<String> {
    let artifact = status.artifact.as_ref().filter(|artifact| artifact.digest == digest)?;
    let (source, path) = artifact.source_digest.as_ref().zip(artifact.path.as_ref())?;
    Some(in_one_line(&format!("the folder {path} of {source}")))
}

/// What is wanted, who names it, and whether that could be seen the last time. `None`: the spec says it all.
pub fn explained(space: &KonigleSpace) -> Option<String> {
    let (origin, interval) = deploys(space)?;
    let status = space.status.clone().unwrap_or_default();
    let artifact = status.artifact.clone().unwrap_or_default();
    let sent = sent(&status, &artifact);
    let Some(name) = origin.fixed_name().or_else(|| ArtifactName::last_of(&origin, Some(&artifact))) else {
        return Some(in_one_line(&format!("not known yet: {}", looked_up(&origin, interval))));
    };
    let what = called(name.revision.as_deref(), &name.digest.to_string());
    let said = match &origin {
        Origin::Http(_) => {
            sent.as_ref()?;
            what
        }
        Origin::Oci(OciOrigin { repository, reference: OciReference::Digest(_), .. }) => {
            format!("{what} of {repository}")
        }
        Origin::Oci(OciOrigin { repository, reference: OciReference::Tag(tag), .. }) => {
            format!("{what}, which the tag {tag} of {repository} named when it was last seen")
        }
        Origin::Flux(FluxOrigin { kind, name: source, path }) => match &name.part {
            Some((digest, _)) => {
                let digest = called(None, &digest.to_string());
                format!("{what}: the folder {path} of {digest}, which {} {source} hands out", kind.word())
            }
            None => format!("{what}, which {} {source} hands out", kind.word()),
        },
    };
    let known = [Some(said), sent, unseen(&status)].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Some(in_one_line(&if origin.fixed_name().is_some() {
        known
    } else {
        format!("{known}; {}", looked_up(&origin, interval))
    }))
}

/// What changes the wish beside the spec: `GitRepository shop`.
pub fn watched(space: &KonigleSpace) -> Option<String> {
    match deploys(space)?.0 {
        Origin::Flux(FluxOrigin { kind, name, .. }) => Some(format!("{} {name}", kind.word())),
        Origin::Http(_) | Origin::Oci(_) => None,
    }
}

fn deploys(space: &KonigleSpace) -> Option<(Origin, Duration)> {
    let desired = Desired::parse(space).ok()?;
    match desired.wish {
        Wish::Deploy(origin) => Some((origin, desired.interval)),
        Wish::Promote { .. } => None,
    }
}

fn folder(origin: &Origin) -> &str {
    match origin {
        Origin::Flux(flux) => &flux.path,
        Origin::Http(_) | Origin::Oci(_) => "",
    }
}

fn sent(status: &KonigleSpaceStatus, artifact: &ArtifactStatus) -> Option<String> {
    let digest = called(None, upload_digest(status)?);
    let bytes = artifact.upload.as_ref().map_or(0, |upload| upload.size);
    Some(format!("sent as the ZIP {digest}, {}", size(bytes)))
}

/// That the origin could not be asked. Where that is what blocks, `Ready` says it.
fn unseen(status: &KonigleSpaceStatus) -> Option<String> {
    let artifact = unseen_origin(status)?;
    Some(format!(
        "it stays wanted, although it cannot be seen now what is named ({}): {}",
        artifact.reason, artifact.message
    ))
}

/// When and how the origin is looked up.
fn looked_up(origin: &Origin, interval: Duration) -> String {
    match origin {
        Origin::Oci(OciOrigin { repository, reference: OciReference::Tag(tag), .. }) => {
            format!("the tag {tag} of {repository} is looked up every {}", length(interval.as_secs()))
        }
        Origin::Flux(FluxOrigin { kind, name, .. }) => format!("{} {name} is watched", kind.word()),
        Origin::Http(_) | Origin::Oci(_) => format!("{origin} is in the spec"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::test_facts::{A, B};

    fn space(source: &Value, status: &Value) -> KonigleSpace {
        let space = json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "metadata": {"name": "shop"},
            "spec": {"space": {"id": "7"}, "credentials": {"secretRef": {"name": "konigle"}}, "source": source},
            "status": status,
        });
        serde_json::from_value(space).unwrap()
    }

    #[test]
    fn what_is_wanted_is_told_with_who_names_it() {
        let tag = json!({"oci": {"repository": "registry.example.com/team/shop", "tag": "v1"}});
        let pinned = json!({"oci": {"repository": "registry.example.com/team/shop", "digest": A}});
        let flux = json!({"sourceRef": {"kind": "GitRepository", "name": "shop", "path": "./apps/shop/"}});
        let http = json!({"http": {"url": "https://ci.example.com/shop.tar.gz", "digest": A, "revision": "v1"}});
        let upload = json!({"digest": B, "size": 1_500_000});
        let named =
            json!({"digest": A, "revision": "v1", "origin": "registry.example.com/team/shop:v1", "upload": upload});
        let away = json!([
            {"type": "Ready", "status": "True", "reason": "Succeeded", "message": "it runs"},
            {"type": "ArtifactReady", "status": "False", "reason": "ArtifactUnavailable", "message": "the registry answered 503"},
        ]);
        let folder = json!({"digest": A, "revision": "main@sha1:1", "origin": "GitRepository/shop", "sourceDigest": B,
            "path": "apps/shop"});
        let every = "the tag v1 of registry.example.com/team/shop is looked up every 5m";
        let sent = "sent as the ZIP bbbbbbbbbbbb, 1.4 MiB";
        let by_tag = "v1 aaaaaaaaaaaa, which the tag v1 of registry.example.com/team/shop named when it was last seen";
        for (source, status, text) in [
            (&tag, Value::Null, Some(format!("not known yet: {every}"))),
            (&tag, json!({"artifact": named}), Some(format!("{by_tag}; {sent}; {every}"))),
            (
                &tag,
                json!({"artifact": named, "conditions": away}),
                Some(format!(
                    "{by_tag}; {sent}; it stays wanted, although it cannot be seen now what is named (ArtifactUnavailable): the registry answered 503; {every}"
                )),
            ),
            (&tag, json!({"artifact": {"digest": A, "origin": "registry.example.com/team/shop:v0"}}), Some(format!("not known yet: {every}"))),
            (&pinned, json!({"artifact": {"digest": A}}), Some("aaaaaaaaaaaa of registry.example.com/team/shop".to_owned())),
            (&flux, Value::Null, Some("not known yet: GitRepository shop is watched".to_owned())),
            (
                &flux,
                json!({"artifact": folder}),
                Some("main@sha1:1 aaaaaaaaaaaa: the folder apps/shop of bbbbbbbbbbbb, which GitRepository shop hands out; GitRepository shop is watched".to_owned()),
            ),
            (&http, json!({"artifact": {"digest": A}}), None),
            (&http, json!({"artifact": {"digest": A, "upload": {"digest": A, "size": 7}}}), None),
            (&http, json!({"artifact": {"digest": A, "upload": upload}}), Some(format!("v1 aaaaaaaaaaaa; {sent}"))),
        ] {
            assert_eq!(explained(&space(source, &status)), text, "{source} {status}");
        }
        for (source, text) in [
            (&tag, "registry.example.com/team/shop:v1"),
            (&flux, "GitRepository/shop apps/shop"),
            (&http, "ci.example.com/shop.tar.gz"),
        ] {
            assert_eq!(origin(&space(source, &Value::Null)).as_deref(), Some(text));
        }
        assert_eq!(watched(&space(&flux, &Value::Null)).as_deref(), Some("GitRepository shop"));
        let status = space(&flux, &json!({"artifact": folder})).status.unwrap();
        assert_eq!(parts(&status, A), Some(format!("the folder apps/shop of {B}")));
        assert_eq!(parts(&status, B), None, "another digest");
    }
}
