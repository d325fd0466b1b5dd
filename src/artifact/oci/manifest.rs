//! What a registry says an artifact consists of, and which of its layers is the one to deploy.
//!
//! Pure. Own structs of the few fields that count, for the crate with all of them brings a dozen others along.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::Layer;
use crate::artifact::{Digest, FetchError};
use crate::text::cut;

/// So many are listed in a message.
const MOST_LISTED: usize = 10;
/// So many layers or manifests are kept of one document: a registry's few megabytes must not become many here. Images have at
/// most 127 layers.
const MOST_KEPT: usize = 1000;
/// What stands where an artifact has no content.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The last words of media types that are an archive that can be deployed.
const ARCHIVES: [&str; 6] = ["tar", "gzip", "zip", "tgz", "x-zip-compressed", "octet-stream"];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    layers: Option<Descriptors>,
    manifests: Option<Descriptors>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, deserialize_with = "or_default")]
    annotations: Annotations,
    platform: Option<Platform>,
}

/// The first [`MOST_KEPT`] of a list.
#[derive(Debug)]
struct Descriptors {
    kept: Vec<Descriptor>,
    are_more: bool,
}

/// Those that count.
#[derive(Debug, Default, Deserialize)]
struct Annotations {
    /// What docker's builder marks the statements with that it puts beside an image.
    #[serde(rename = "vnd.docker.reference.type")]
    reference_type: Option<IgnoredAny>,
    /// `true` by `oras push DIR`: the layer is to be unpacked, and its files are below the folder that `title` names.
    #[serde(rename = "io.deis.oras.content.unpack")]
    unpack: Option<String>,
    #[serde(rename = "org.opencontainers.image.title")]
    title: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl<'de> Deserialize<'de> for Descriptors {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct First;

        impl<'de> Visitor<'de> for First {
            type Value = Descriptors;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of descriptors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Descriptors, A::Error> {
                let mut kept = Vec::new();
                while kept.len() < MOST_KEPT {
                    let Some(descriptor) = list.next_element()? else {
                        return Ok(Descriptors { kept, are_more: false });
                    };
                    kept.push(descriptor);
                }
                let mut are_more = false;
                while list.next_element::<IgnoredAny>()?.is_some() {
                    are_more = true;
                }
                Ok(Descriptors { kept, are_more })
            }
        }

        from.deserialize_seq(First)
    }
}

/// `null` is what some encoders write for nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// What a manifest leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Content {
    /// It was an index: the one manifest in it.
    Manifest(Digest),
    /// The layer to deploy.
    Layer(Layer),
}

/// Reads a manifest or an index.
pub(super) fn read(bytes: &[u8], layer_media_type: Option<&str>) -> Result<Content, FetchError> {
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|_| rejected("the registry's manifest is no OCI manifest: push the artifact again".to_owned()))?;
    match (document.layers, document.manifests) {
        (Some(list), None) | (None, Some(list)) if list.are_more => Err(rejected(format!(
            "its manifest lists more than {MOST_KEPT} layers or manifests: push an artifact with one layer, such as by `oras push` of the folder"
        ))),
        (None, Some(manifests)) => only_manifest(&manifests.kept).map(Content::Manifest),
        (Some(layers), None) => choose(&layers.kept, layer_media_type).and_then(|chosen| {
            Ok(Content::Layer(Layer {
                digest: digest(&chosen.digest)?,
                size: chosen.size,
                media_type: chosen.media_type.clone(),
                folder: folder(&chosen.annotations)?,
            }))
        }),
        // Who takes it for the one could be shown other content than who takes it for the other.
        (Some(_), Some(_)) => {
            Err(rejected("its manifest has both layers and manifests: push it again, as one of the two".to_owned()))
        }
        (None, None) => Err(rejected(
            "its manifest has no layers (an image of the old schema 1?): push it again with a tool of today".to_owned(),
        )),
    }
}

/// The one manifest of an index, besides statements about it.
fn only_manifest(manifests: &[Descriptor]) -> Result<Digest, FetchError> {
    let real: Vec<&Descriptor> =
        manifests.iter().filter(|manifest| manifest.annotations.reference_type.is_none()).collect();
    match real[..] {
        [one] => digest(&one.digest),
        [] => Err(rejected("its index names no manifest: push it again".to_owned())),
        _ => {
            let listed = list(&real, |manifest| {
                let platform = manifest.platform.as_ref().map_or_else(
                    || "no platform".to_owned(),
                    |platform| {
                        let variant =
                            platform.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
                        format!("{}/{}{variant}", platform.os, platform.architecture)
                    },
                );
                format!("{} ({})", clean(&platform), clean(&manifest.digest))
            });
            Err(rejected(format!(
                "it is an index of several manifests, {listed}: push an artifact of one, or write the digest of one of them \
                 into spec.source.oci.digest, in the place of a tag"
            )))
        }
    }
}

fn choose<'a>(layers: &'a [Descriptor], media_type: Option<&str>) -> Result<&'a Descriptor, FetchError> {
    let all: Vec<&Descriptor> = layers.iter().filter(|layer| layer.media_type != EMPTY).collect();
    let fitting: Vec<&Descriptor> = match media_type {
        None => all.clone(),
        Some(wanted) => all.iter().copied().filter(|layer| layer.media_type == wanted).collect(),
    };
    let listed = || list(&all, |layer| format!("{} ({})", clean(&layer.media_type), short(&layer.digest)));
    let layer = match (fitting[..].as_ref(), media_type) {
        ([one], _) => *one,
        _ if all.is_empty() => {
            return Err(rejected(
                "its manifest has no layer with content: push the application's folder or ZIP".to_owned(),
            ));
        }
        ([], wanted) => {
            return Err(rejected(format!(
                "no layer has the media type {} of spec.source.oci.layerMediaType: correct the field; there are {}",
                clean(wanted.unwrap_or_default()),
                listed()
            )));
        }
        (_, None) => {
            // A media type that several layers share chooses none of them.
            let is_alone =
                |layer: &&Descriptor| all.iter().filter(|one| one.media_type == layer.media_type).count() == 1;
            let choose = if all.iter().any(is_alone) {
                "write the media type of the one to deploy, which no other may have, into \
                 spec.source.oci.layerMediaType, or "
            } else {
                ""
            };
            return Err(rejected(format!(
                "it has several layers, {}: {choose}push it with one layer, such as by `oras push` of the folder",
                listed()
            )));
        }
        (_, Some(wanted)) => {
            return Err(rejected(format!(
                "several layers have the media type {} of spec.source.oci.layerMediaType: push it with one such layer; \
                 there are {}",
                clean(wanted),
                listed()
            )));
        }
    };
    may_be_deployed(layer, media_type.is_some()).map(|()| layer)
}

fn may_be_deployed(layer: &Descriptor, is_named: bool) -> Result<(), FetchError> {
    let media_type = layer.media_type.as_str();
    let reason = if media_type.contains("zstd") {
        "is compressed with zstd, which is not read: push it with gzip, such as with `oras push` of the folder, or with \
         `compression=gzip,force-compression=true` among the outputs of `docker buildx build`"
    } else if media_type.contains("encrypted") {
        "is encrypted: push it unencrypted to a private repository"
    } else if media_type.contains("foreign") || media_type.contains("nondistributable") {
        "is not kept by the registry: push one that is"
    } else if is_named || is_archive(media_type) {
        return Ok(());
    } else {
        "is none of an archive: push tar, tar+gzip or zip; if it is one all the same, write its media type into \
         spec.source.oci.layerMediaType"
    };
    Err(rejected(format!("its layer of the media type {} {reason}", clean(media_type))))
}

/// Whether the last word of a media type is an archive's, as in `application/vnd.oci.image.layer.v1.tar+gzip`.
fn is_archive(media_type: &str) -> bool {
    let last = media_type.rsplit(['/', '.', '+']).next().unwrap_or_default();
    ARCHIVES.iter().any(|archive| last == *archive || last.strip_prefix("x-") == Some(archive))
}

/// The folder that `oras push DIR` puts before all names.
fn folder(annotations: &Annotations) -> Result<Option<String>, FetchError> {
    let Annotations { unpack: Some(unpack), title: Some(title), .. } = annotations else { return Ok(None) };
    if unpack != "true" {
        return Ok(None);
    }
    let folder = title.strip_prefix("./").unwrap_or(title).trim_end_matches('/');
    if folder.is_empty() || folder == "." {
        return Ok(None);
    }
    let is_plain = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.chars().any(|letter| letter.is_control() || letter == '\\')
    };
    if folder.len() <= 255 && folder.split('/').all(is_plain) {
        return Ok(Some(folder.to_owned()));
    }
    Err(rejected(format!(
        "its layer says that its files are in `{}`: push it from the folder that holds the application's",
        clean(title)
    )))
}

fn digest(text: &str) -> Result<Digest, FetchError> {
    Digest::parse(text).map_err(|_| {
        rejected(format!("its manifest names `{}`, which is no sha256 digest: push it again with sha256", clean(text)))
    })
}

fn list(all: &[&Descriptor], show: impl Fn(&Descriptor) -> String) -> String {
    let mut shown: Vec<String> = all.iter().take(MOST_LISTED).map(|one| show(one)).collect();
    if all.len() > MOST_LISTED {
        shown.push(format!("and {} more", all.len() - MOST_LISTED));
    }
    shown.join(", ")
}

fn short(digest: &str) -> String {
    Digest::parse(digest).map_or_else(|_| clean(digest), |digest| digest.short())
}

/// A stranger's text, so that it can stand in a message.
fn clean(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).take(200).collect();
    cut(text.trim(), 120)
}

fn rejected(reason: String) -> FetchError {
    FetchError::Rejected { reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};
    use serde_json::{Value, json};

    use super::*;

    const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

    fn digest_of(name: &str) -> String {
        Digest::of(name.as_bytes()).to_string()
    }

    fn layer(name: &str, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": digest_of(name), "size": 10})
    }

    fn read_json(manifest: &Value, media_type: Option<&str>) -> Result<Content, FetchError> {
        read(manifest.to_string().as_bytes(), media_type)
    }

    fn chosen(manifest: &Value, media_type: Option<&str>) -> Layer {
        match read_json(manifest, media_type) {
            Ok(Content::Layer(layer)) => layer,
            other => panic!("{manifest}: {other:?}"),
        }
    }

    fn reason(manifest: &Value, media_type: Option<&str>) -> String {
        match read_json(manifest, media_type) {
            Err(FetchError::Rejected { reason }) => reason,
            other => panic!("{manifest}: {other:?}"),
        }
    }

    #[test]
    fn no_more_layers_or_manifests_are_kept_than_images_have() {
        let many = |count| vec![layer("a", TAR_GZIP); count];
        for list in ["layers", "manifests"] {
            let expected = "its manifest lists more than 1000 layers or manifests: push an artifact with one layer";
            let reason_of = |count| reason(&json!({list: many(count)}), None);
            assert!(reason_of(MOST_KEPT + 1).starts_with(expected), "{}", reason_of(MOST_KEPT + 1));
            assert!(reason_of(MOST_KEPT).contains("and 990 more"), "{}", reason_of(MOST_KEPT));
        }
        let half = format!(r#"{{"layers": [{}"#, layer("a", TAR_GZIP));
        assert!(matches!(read(half.as_bytes(), None), Err(FetchError::Rejected { .. })));
    }

    #[test]
    fn the_one_layer_is_chosen_or_the_one_of_the_named_media_type() {
        for media_type in [
            TAR_GZIP,
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.cncf.flux.content.v1.tar+gzip",
            "application/zip",
            "application/x-zip-compressed",
            "application/gzip",
            "application/x-gzip",
            "application/x-tar",
            "application/octet-stream",
        ] {
            let found =
                chosen(&json!({"schemaVersion": 2, "layers": [layer("a", media_type)], "annotations": null}), None);
            assert_eq!((found.digest, found.size), (Digest::of(b"a"), 10));
            assert_eq!((found.media_type.as_str(), found.folder), (media_type, None));
        }
        let named = "application/vnd.example.shop.v1";
        let two = json!({"layers": [layer("a", TAR_GZIP), layer("b", named)]});
        assert_eq!(chosen(&two, Some(named)).digest, Digest::of(b"b"));
        assert_eq!(
            chosen(&json!({"layers": [layer("b", named), layer("e", EMPTY)]}), Some(named)).digest,
            Digest::of(b"b")
        );
    }

    #[test]
    fn what_cannot_be_deployed_says_what_to_do() {
        let two = json!({"layers": [layer("a", TAR_GZIP), layer("b", "application/zip")]});
        let same = json!({"layers": [layer("a", TAR_GZIP), layer("b", TAR_GZIP)]});
        let many: Vec<Value> = (0..20).map(|number| layer(&number.to_string(), TAR_GZIP)).collect();
        let one = |media_type: &str| json!({"layers": [layer("a", media_type)]});
        for (manifest, named, advice) in [
            (
                two.clone(),
                None,
                "application/zip (sha256:3e23e8160039): write the media type of the one to deploy, which no other may \
                 have, into spec.source.oci.layerMediaType, or push it with one layer",
            ),
            (
                two.clone(),
                Some("text/plain"),
                "no layer has the media type text/plain of spec.source.oci.layerMediaType: correct the field; there are \
                 application/vnd.oci.image.layer.v1.tar+gzip (sha256:ca978112ca1b), application/zip",
            ),
            (two.clone(), Some("a\u{1b}[31mb"), "the media type a[31mb of spec"),
            (same.clone(), None, "(sha256:3e23e8160039): push it with one layer, such as by `oras push` of the folder"),
            (
                same,
                Some(TAR_GZIP),
                "several layers have the media type application/vnd.oci.image.layer.v1.tar+gzip of \
                 spec.source.oci.layerMediaType: push it with one such layer; there are",
            ),
            (
                json!({"layers": [layer("a", TAR_GZIP), layer("b", TAR_GZIP), layer("c", "application/zip")]}),
                None,
                "write the media type of the one to deploy, which no other may have",
            ),
            (json!({"layers": many}), None, "and 10 more"),
            (one("application/vnd.oci.image.layer.v1.tar+zstd"), None, "compression=gzip"),
            (
                one("application/vnd.oci.image.layer.v1.tar+zstd"),
                Some("application/vnd.oci.image.layer.v1.tar+zstd"),
                "zstd",
            ),
            (one("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"), None, "is encrypted"),
            (one("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), None, "not kept by the registry"),
            (one("application/vnd.oci.image.layer.nondistributable.v1.tar"), None, "not kept by the registry"),
            (one("application/wasm"), None, "push tar, tar+gzip or zip"),
            (one("a\u{1b}[31mb"), None, "a[31mb"),
            (json!({"layers": []}), None, "no layer with content"),
            (json!({"layers": [layer("e", EMPTY)]}), None, "no layer with content"),
            (json!({"schemaVersion": 1, "fsLayers": []}), None, "schema 1"),
            (json!({"layers": [], "manifests": []}), None, "both"),
            (json!({"layers": [{"mediaType": TAR_GZIP, "digest": "sha512:aa", "size": 1}]}), None, "no sha256 digest"),
            (json!([]), None, "no OCI manifest"),
            (json!({"manifests": []}), None, "names no manifest"),
        ] {
            let reason = reason(&manifest, named);
            assert!(reason.contains(advice), "{manifest}: {reason}");
            assert!(!reason.contains('\u{1b}') && reason.len() < 2000, "{reason:?}");
        }
    }

    #[test]
    fn an_index_is_followed_if_it_has_one_manifest() {
        let manifest = |name: &str, platform: Value| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(name), "size": 10, "platform": platform});
        let linux = |architecture: &str, variant: Value| json!({"os": "linux", "architecture": architecture, "variant": variant});
        let one = manifest("a", linux("amd64", Value::Null));
        let mut statement = manifest("s", json!({"os": "unknown", "architecture": "unknown"}));
        statement["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let index = json!({"manifests": [one.clone(), statement]});
        assert_eq!(read_json(&index, None).unwrap(), Content::Manifest(Digest::of(b"a")));
        let two = json!({"manifests": [one, manifest("b", linux("arm64", json!("v8")))]});
        let reason = reason(&two, None);
        let expected = format!("linux/amd64 ({}), linux/arm64/v8 ({})", digest_of("a"), digest_of("b"));
        assert!(reason.contains(&expected) && reason.contains("spec.source.oci.digest"), "{reason}");
    }

    #[test]
    fn the_folder_of_oras_is_the_root_of_its_files() {
        let with = |unpack: &str, title: &str| {
            let mut layer = layer("a", TAR_GZIP);
            layer["annotations"] =
                json!({"io.deis.oras.content.unpack": unpack, "org.opencontainers.image.title": title});
            json!({"layers": [layer]})
        };
        for (unpack, title, expected) in [
            ("true", "dist", Some("dist")),
            ("true", "./dist/", Some("dist")),
            ("true", "a/b", Some("a/b")),
            ("true", ".", None),
            ("true", "./", None),
            ("false", "dist", None),
        ] {
            assert_eq!(chosen(&with(unpack, title), None).folder.as_deref(), expected, "{title}");
        }
        for title in ["..", "../dist", "/etc", "a//b", "a/../b", "a\\b"] {
            let reason = reason(&with("true", title), None);
            assert!(reason.contains("push it from the folder"), "{title}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_manifest_is_judged(name in any::<String>(), size in any::<u64>(), texts in prop::collection::vec(any::<String>(), 3)) {
            let layer = json!({"mediaType": name, "digest": texts[0], "size": size, "annotations": {"org.opencontainers.image.title": texts[1], "io.deis.oras.content.unpack": "true"}});
            for manifest in [
                json!({"layers": [layer.clone()], "annotations": {"org.opencontainers.image.revision": texts[2]}}),
                json!({"layers": [layer.clone(), layer.clone()]}),
                json!({"manifests": [layer.clone(), layer]}),
            ] {
                match read_json(&manifest, None) {
                    Err(FetchError::Rejected { reason }) => {
                        assert!(!reason.chars().any(char::is_control) && reason.len() < 2000, "{reason:?}");
                    }
                    other => assert!(other.is_ok(), "{other:?}"),
                }
            }
            let _ = read(name.as_bytes(), None);
        }
    }
}
