//! What may be meant by a word that the schema does not know: a misspelt one, or one of Flux's and other tools' manifests.
//!
//! Pure. The API server says nothing of the kind: it is told beside what it says.

use crate::plugin::connection::nearest;

/// Fields that other tools have, and what says the same here.
const ELSEWHERE: [(&str, &str, &str); 11] = [
    ("spec.source", "git", "name a GitRepository of Flux in spec.source.sourceRef"),
    ("spec.source", "kind", "kind and name belong into spec.source.sourceRef"),
    (
        "spec.source.http",
        "path",
        "a folder inside is for spec.source.sourceRef only: publish an archive of that folder",
    ),
    ("spec.source.oci", "url", "write spec.source.oci.repository, without oci:// in front"),
    ("spec.source.oci", "image", "write spec.source.oci.repository, and the tag into spec.source.oci.tag"),
    ("spec.source.oci", "ref", "write spec.source.oci.tag or spec.source.oci.digest"),
    ("spec.source.oci", "path", "a folder inside is for spec.source.sourceRef only: push that folder"),
    ("spec.source.oci", "interval", "a tag is looked up every spec.interval"),
    (
        "spec.source.oci",
        "insecure",
        "registries are asked over https; one with a certificate of its own needs `ca.crt` in the Secret",
    ),
    ("spec.source.sourceRef", "namespace", "sources are those of the KonigleSpace's own namespace: remove it"),
    ("spec.source.sourceRef", "apiVersion", "the kind is enough, in whatever version the cluster has it: remove it"),
];

/// What may be meant by a field that is not among `known`, those of the object at `path`.
pub(super) fn for_field<'a>(path: &str, field: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let elsewhere = ELSEWHERE.iter().find(|(at, name, _)| *at == path && *name == field);
    elsewhere.map(|(.., hint)| (*hint).to_owned()).or_else(|| did_you_mean(field, known))
}

/// What may be meant by a word that is not among `known`, those that the field at `path` takes.
pub(super) fn for_word<'a>(path: &str, word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    match (path, word) {
        ("spec.source.sourceRef.kind", "HelmRepository" | "HelmChart") => {
            Some("it hands out charts, and no application's folder".to_owned())
        }
        _ => did_you_mean(word, known),
    }
}

fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Upper and lower case are what is misspelt most.
    let known: Vec<&str> = known.into_iter().collect();
    let lower = |text: &str| text.to_lowercase();
    let same = known.iter().copied().find(|known| lower(known) == lower(word));
    same.or_else(|| nearest(word, known)).map(|known| format!("did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::faults;

    fn told(source: &Value) -> Vec<String> {
        let manifest = json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "metadata": {"name": "shop"},
            "spec": {"space": {"id": "7"}, "credentials": {"secretRef": {"name": "konigle"}}, "source": source},
        });
        faults(&manifest).iter().map(super::super::Fault::told).collect()
    }

    #[test]
    fn a_misspelt_word_is_told_with_what_may_be_meant() {
        let oci = |field: &str| {
            let mut oci = json!({"repository": "registry.example.com/shop", "tag": "v1"});
            oci[field] = json!("x");
            told(&json!({"oci": oci}))
        };
        let flux = |kind: &str| told(&json!({"sourceRef": {"kind": kind, "name": "shop"}}));
        let reference = |field: &str| {
            let mut reference = json!({"kind": "Bucket", "name": "shop"});
            reference[field] = json!("x");
            told(&json!({"sourceRef": reference}))
        };
        for (told, hint) in [
            (told(&json!({"OCI": {}})), "unknown field \"spec.source.OCI\": did you mean oci?"),
            (told(&json!({"sourceref": {}})), "unknown field \"spec.source.sourceref\": did you mean sourceRef?"),
            (told(&json!({"git": {}})), "unknown field \"spec.source.git\": name a GitRepository of Flux in"),
            (oci("repo"), "unknown field \"spec.source.oci.repo\": did you mean repository?"),
            (oci("layerMediatype"), "did you mean layerMediaType?"),
            (oci("url"), "write spec.source.oci.repository, without oci:// in front"),
            (oci("ref"), "write spec.source.oci.tag or spec.source.oci.digest"),
            (oci("insecure"), "registries are asked over https"),
            (
                reference("namespace"),
                "\"spec.source.sourceRef.namespace\": sources are those of the KonigleSpace's own",
            ),
            (reference("apiVersion"), "the kind is enough"),
            (flux("GitRepo"), "\"ExternalArtifact\": did you mean GitRepository?"),
            (flux("OciRepository"), "did you mean OCIRepository?"),
            (flux("buckets"), "did you mean Bucket?"),
            (flux("HelmRepository"), "it hands out charts"),
        ] {
            assert!(told[0].contains(hint), "{hint}: {told:?}");
        }
        for unlike in [oci("x"), flux("Secret")] {
            assert!(!unlike[0].contains('?'), "a guess at random: {unlike:?}");
        }
    }
}
