//! What the watch of Flux's sources last told of each: enough to fetch the artifact and to say why there is none.
//!
//! No I/O: `watch/sources.rs` fills it. Of an object nothing is kept but what stands in [`FluxSource`], and its status may be
//! of any form: whoever wrote an odd one there must not keep the other objects from being seen.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::sync::Notify;

use crate::api::FluxKind;
use crate::text::cut;

/// The longest message of a source that is kept, in bytes; Flux writes up to 32 KiB.
const LONGEST_MESSAGE: usize = 512;
/// The longest revision that is kept, in bytes: a branch or tag, and a digest.
const LONGEST_REVISION: usize = 512;
/// The longest URL that is one, in bytes.
const LONGEST_URL: usize = 4096;
/// The longest digest that is one, in bytes: of SHA-512 it is 135.
const LONGEST_DIGEST: usize = 256;

/// What Flux says of one source, as the watch last told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FluxSource {
    /// The generation of its spec.
    pub generation: i64,
    /// The generation that its controller has seen; -1 where it says nothing of that.
    pub observed_generation: i64,
    /// Its newest artifact, which may be of an older generation.
    pub artifact: Option<FluxArtifact>,
    /// Its condition Ready.
    pub ready: Option<SourceReady>,
    /// Its controller leaves it alone (`spec.suspend`).
    pub suspended: bool,
    /// It is being deleted.
    pub deleting: bool,
}

/// What a source's controller hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FluxArtifact {
    /// Where the tar.gz is.
    pub url: String,
    /// `<algorithm>:<checksum>` of the tar.gz.
    pub digest: String,
    /// For people: a branch or tag with its commit or digest.
    pub revision: String,
}

/// The condition Ready of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceReady {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people; cut.
    pub message: String,
}

/// What is known of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceLook {
    /// The cluster has no such kind: its CRD is not installed.
    NotInstalled,
    /// The objects of its kind are not listed yet, or cannot be: why, with what to do.
    NotListed(Option<String>),
    /// There is no such object.
    Absent,
    /// It is there.
    Found(FluxSource),
}

/// One source, by its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The sources of some namespaces, by kind.
pub type Listed = HashMap<SourceKey, FluxSource>;

/// Whose users have something new to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nobody's.
    None,
    /// Those of these sources.
    Of(HashSet<SourceKey>),
    /// Those of all sources of the kind.
    OfAll,
}

/// All sources that the watch told of.
#[derive(Debug, Default)]
pub struct Sources {
    git_repositories: OfKind,
    oci_repositories: OfKind,
    buckets: OfKind,
    external_artifacts: OfKind,
}

#[derive(Debug, Default)]
struct OfKind {
    wanted: Notify,
    told: Mutex<Told>,
}

#[derive(Debug)]
enum Told {
    NotInstalled,
    NotListed(Option<String>),
    Listed(Listed),
}

impl Default for Told {
    fn default() -> Self {
        Self::NotListed(None)
    }
}

impl Sources {
    /// What is known of a source.
    #[must_use]
    pub fn look(&self, kind: FluxKind, namespace: &str, name: &str) -> SourceLook {
        match &*self.told(kind) {
            Told::NotInstalled => SourceLook::NotInstalled,
            Told::NotListed(why) => SourceLook::NotListed(why.clone()),
            Told::Listed(listed) => {
                let key = SourceKey { namespace: namespace.to_owned(), name: name.to_owned() };
                listed.get(&key).map_or(SourceLook::Absent, |source| SourceLook::Found(source.clone()))
            }
        }
    }

    /// What a source hands out now, as far as is known.
    #[must_use]
    pub fn artifact(&self, kind: FluxKind, namespace: &str, name: &str) -> Option<FluxArtifact> {
        match self.look(kind, namespace, name) {
            SourceLook::Found(source) => source.artifact,
            SourceLook::NotInstalled | SourceLook::NotListed(_) | SourceLook::Absent => None,
        }
    }

    /// Somebody uses a source of this kind: it is watched from now on.
    pub fn want(&self, kind: FluxKind) {
        self.of(kind).wanted.notify_one();
    }

    /// Waits until somebody uses a source of this kind. For one that waits: its watch.
    pub async fn until_wanted(&self, kind: FluxKind) {
        self.of(kind).wanted.notified().await;
    }

    /// The cluster has no such kind.
    pub fn set_not_installed(&self, kind: FluxKind) -> News {
        let mut told = self.told(kind);
        if matches!(*told, Told::NotInstalled) {
            return News::None;
        }
        *told = Told::NotInstalled;
        News::OfAll
    }

    /// The objects of this kind cannot be listed. Another reason than before is no news: it would wake all users at each try.
    pub fn set_not_listed(&self, kind: FluxKind, why: String) -> News {
        let mut told = self.told(kind);
        let is_known = matches!(*told, Told::NotListed(Some(_)));
        *told = Told::NotListed(Some(why));
        if is_known { News::None } else { News::OfAll }
    }

    /// Whether the objects of this kind were listed, and nothing has shown since that they cannot be relied on.
    #[must_use]
    pub fn is_listed(&self, kind: FluxKind) -> bool {
        matches!(*self.told(kind), Told::Listed(_))
    }

    /// These are all the objects of this kind.
    pub fn set_listed(&self, kind: FluxKind, listed: Listed) -> News {
        let mut told = self.told(kind);
        let news = match &*told {
            Told::NotInstalled | Told::NotListed(_) => News::OfAll,
            Told::Listed(before) => {
                let gone = before.keys().filter(|key| !listed.contains_key(key));
                let changed = listed.iter().filter(|(key, source)| before.get(key) != Some(source));
                let changed: HashSet<SourceKey> = gone.chain(changed.map(|(key, _)| key)).cloned().collect();
                if changed.is_empty() { News::None } else { News::Of(changed) }
            }
        };
        *told = Told::Listed(listed);
        news
    }

    /// One object of this kind is like this now, or gone.
    pub fn set_source(&self, kind: FluxKind, key: SourceKey, source: Option<FluxSource>) -> News {
        let Told::Listed(listed) = &mut *self.told(kind) else { return News::None };
        let is_news = listed.get(&key) != source.as_ref();
        match source {
            Some(source) => listed.insert(key.clone(), source),
            None => listed.remove(&key),
        };
        if is_news { News::Of(HashSet::from([key])) } else { News::None }
    }

    fn told(&self, kind: FluxKind) -> MutexGuard<'_, Told> {
        self.of(kind).told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, kind: FluxKind) -> &OfKind {
        match kind {
            FluxKind::GitRepository => &self.git_repositories,
            FluxKind::OciRepository => &self.oci_repositories,
            FluxKind::Bucket => &self.buckets,
            FluxKind::ExternalArtifact => &self.external_artifacts,
        }
    }
}

/// One object as a list or a watch tells it; of its metadata only what matters is decoded.
#[derive(Clone, Debug, Deserialize)]
pub struct SourceObject {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
    #[serde(default)]
    status: Value,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    generation: i64,
    deletion_timestamp: Option<IgnoredAny>,
}

impl SourceObject {
    /// Its version, from which a watch goes on.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// Which source it is.
    #[must_use]
    pub fn key(&self) -> SourceKey {
        SourceKey { namespace: self.metadata.namespace.clone(), name: self.metadata.name.clone() }
    }

    /// What it says.
    #[must_use]
    pub fn source(&self) -> FluxSource {
        let conditions = self.status["conditions"].as_array();
        let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
        // An ExternalArtifact has it in the condition alone.
        let observed =
            [Some(&self.status), ready].into_iter().flatten().find_map(|it| it["observedGeneration"].as_i64());
        FluxSource {
            generation: self.metadata.generation,
            observed_generation: observed.unwrap_or(-1),
            artifact: artifact(&self.status["artifact"]),
            ready: ready.map(|condition| SourceReady {
                status: text(condition, "status", LONGEST_MESSAGE),
                reason: text(condition, "reason", LONGEST_MESSAGE),
                message: text(condition, "message", LONGEST_MESSAGE),
            }),
            suspended: self.spec["suspend"] == true,
            deleting: self.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// An artifact that says where it is and which; nothing is made of one that does not.
fn artifact(artifact: &Value) -> Option<FluxArtifact> {
    let whole = |field: &str, longest: usize| {
        artifact[field].as_str().filter(|text| !text.is_empty() && text.len() <= longest).map(str::to_owned)
    };
    Some(FluxArtifact {
        url: whole("url", LONGEST_URL)?,
        digest: whole("digest", LONGEST_DIGEST)?,
        revision: text(artifact, "revision", LONGEST_REVISION),
    })
}

fn text(value: &Value, field: &str, longest: usize) -> String {
    cut(value[field].as_str().unwrap_or_default(), longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KIND: FluxKind = FluxKind::GitRepository;
    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn object(mut object: Value) -> SourceObject {
        object["metadata"]["name"] = json!("shop");
        serde_json::from_value(object).expect("an object")
    }

    fn source(object_json: Value) -> FluxSource {
        object(object_json).source()
    }

    fn key(name: &str) -> SourceKey {
        SourceKey { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    fn of(names: &[&str]) -> News {
        News::Of(names.iter().map(|name| key(name)).collect())
    }

    fn at(generation: i64) -> FluxSource {
        FluxSource { generation, ..source(json!({})) }
    }

    #[test]
    fn a_source_is_read_as_flux_writes_it() {
        let git = object(json!({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
            "metadata": {"namespace": "shop", "resourceVersion": "17", "generation": 3,
                "managedFields": [{"manager": "source-controller", "fieldsV1": {"f:status": {}}}]},
            "spec": {"interval": "1m", "url": "https://git.example.com/shop", "suspend": true},
            "status": {"observedGeneration": 2, "artifact": {
                "url": "http://source-controller.flux-system.svc.cluster.local./gitrepository/shop/shop/abc.tar.gz",
                "path": "gitrepository/shop/shop/abc.tar.gz", "digest": DIGEST, "revision": "main@sha1:abc", "size": 714,
                "lastUpdateTime": "2026-11-24T09:00:00Z"},
                "conditions": [
                    {"type": "ArtifactInStorage", "status": "True", "reason": "Succeeded", "message": "stored"},
                    {"type": "Ready", "status": "False", "reason": "GitOperationFailed", "message": "no such host",
                        "observedGeneration": 1}]},
        }));
        let ready = SourceReady {
            status: "False".to_owned(),
            reason: "GitOperationFailed".to_owned(),
            message: "no such host".to_owned(),
        };
        let url = "http://source-controller.flux-system.svc.cluster.local./gitrepository/shop/shop/abc.tar.gz";
        let artifact =
            FluxArtifact { url: url.to_owned(), digest: DIGEST.to_owned(), revision: "main@sha1:abc".to_owned() };
        let expected = FluxSource {
            generation: 3,
            observed_generation: 2,
            artifact: Some(artifact),
            ready: Some(ready),
            suspended: true,
            deleting: false,
        };
        assert_eq!((git.source(), git.key(), git.version()), (expected, key("shop"), "17"));
    }

    #[test]
    fn what_lacks_or_is_odd_is_taken_as_not_there() {
        let nothing = source(json!({}));
        let expected = FluxSource {
            generation: 0,
            observed_generation: -1,
            artifact: None,
            ready: None,
            suspended: false,
            deleting: false,
        };
        assert_eq!(nothing, expected);
        let url = "https://flux.example.com/a.tar.gz";
        for (status, because) in [
            (json!(null), "it may be null"),
            (json!("ready"), "a status is an object"),
            (json!([1]), "a status is an object"),
            (json!({"observedGeneration": "3"}), "a generation is a number"),
            (json!({"observedGeneration": 1.5}), "a generation is a whole number"),
            (json!({"artifact": "latest"}), "an artifact is an object"),
            (json!({"artifact": {}}), "an artifact is somewhere"),
            (json!({"artifact": {"url": url}}), "an artifact has a digest"),
            (json!({"artifact": {"url": url, "digest": ""}}), "a digest is not empty"),
            (json!({"artifact": {"url": url, "checksum": "9f86"}}), "the digest of Flux before 0.36 has no algorithm"),
            (json!({"artifact": {"url": 7, "digest": DIGEST}}), "a URL is a text"),
            (json!({"artifact": {"url": format!("{url}{}", "a".repeat(9999)), "digest": DIGEST}}), "no URL is so long"),
            (json!({"conditions": "Ready"}), "conditions are a list"),
            (json!({"conditions": [null, 7, {"status": "True"}]}), "a condition has a type"),
        ] {
            assert_eq!(source(json!({"status": status})), expected, "{because}");
        }
        let odd = json!({"url": url, "digest": DIGEST, "revision": ["main"]});
        let odd = source(json!({"status": {"artifact": odd}})).artifact.expect("where it is and which is known");
        assert_eq!(odd.revision, "");
        let ready = source(json!({"status": {"conditions": [{"type": "Ready", "status": true}]}})).ready;
        assert_eq!(ready.expect("there").status, "", "a status is a text");
        assert!(!source(json!({"spec": {"suspend": "true"}})).suspended, "the API server takes no text for it");
        assert!(source(json!({"metadata": {"deletionTimestamp": "2026-11-24T09:00:00Z"}})).deleting);
        assert!(!source(json!({"metadata": {"deletionTimestamp": null}})).deleting);
    }

    #[test]
    fn an_external_artifact_says_in_its_condition_which_generation_it_is_of() {
        let condition = json!({"type": "Ready", "status": "True", "observedGeneration": 4});
        assert_eq!(source(json!({"status": {"conditions": [condition]}})).observed_generation, 4);
    }

    #[test]
    fn a_long_message_is_cut() {
        let condition = json!({"type": "Ready", "message": "é".repeat(20_000)});
        let ready = source(json!({"status": {"conditions": [condition]}})).ready.expect("there");
        assert!(ready.message.len() <= LONGEST_MESSAGE && ready.message.ends_with('…'), "{}", ready.message.len());
    }

    #[test]
    fn a_look_tells_what_the_watch_last_told() {
        let sources = Sources::default();
        let look = |name: &str| sources.look(KIND, "shop", name);
        assert_eq!(look("a"), SourceLook::NotListed(None));
        assert_eq!(sources.set_source(KIND, key("a"), Some(at(1))), News::None, "no list, so nothing is known");
        assert_eq!(look("a"), SourceLook::NotListed(None));
        assert_eq!(sources.set_not_installed(KIND), News::OfAll);
        assert_eq!(sources.set_not_installed(KIND), News::None);
        assert_eq!(look("a"), SourceLook::NotInstalled);
        assert_eq!(sources.set_not_listed(KIND, "refused".to_owned()), News::OfAll);
        assert_eq!(sources.set_not_listed(KIND, "refused again".to_owned()), News::None);
        assert_eq!(look("a"), SourceLook::NotListed(Some("refused again".to_owned())));
        assert_eq!(sources.set_listed(KIND, Listed::from([(key("a"), at(1))])), News::OfAll);
        assert_eq!((look("a"), look("b")), (SourceLook::Found(at(1)), SourceLook::Absent));
        assert_eq!(sources.look(KIND, "other", "a"), SourceLook::Absent, "of its own namespace only");
        assert_eq!(sources.look(FluxKind::Bucket, "shop", "a"), SourceLook::NotListed(None), "of its own kind only");
    }

    #[test]
    fn only_what_changed_is_news() {
        let sources = Sources::default();
        let list = |names: &[(&str, i64)]| {
            sources.set_listed(KIND, names.iter().map(|(name, generation)| (key(name), at(*generation))).collect())
        };
        assert_eq!(list(&[("a", 1), ("b", 1), ("c", 1)]), News::OfAll);
        assert_eq!(list(&[("a", 1), ("b", 1), ("c", 1)]), News::None);
        assert_eq!(list(&[("a", 1), ("b", 2), ("d", 1)]), of(&["b", "c", "d"]), "changed, gone and new");
        assert_eq!(sources.set_source(KIND, key("a"), Some(at(1))), News::None);
        assert_eq!(sources.set_source(KIND, key("a"), Some(at(2))), of(&["a"]));
        assert_eq!(sources.set_source(KIND, key("a"), None), of(&["a"]));
        assert_eq!(sources.set_source(KIND, key("a"), None), News::None);
        assert_eq!(sources.set_source(KIND, key("e"), Some(at(1))), of(&["e"]));
        assert_eq!(sources.look(KIND, "shop", "e"), SourceLook::Found(at(1)));
    }
}
