//! Where an artifact comes from: the examples of `deploy/examples/sources`, and what a wrong origin is refused with.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::{Case, DIGEST, accepted, check, file, refused};
use crate::support::control_plane::ControlPlane;
use crate::support::flux_source::install_crds;
use crate::support::namespace::deploys;
use crate::support::rights::{INSTALL, manifests};
use crate::support::run_folder::package;
use crate::support::{Context, Result};

const SOURCES: &str = "deploy/examples/sources";

/// Every form that the operator reads.
const REPOSITORIES: [&str; 14] = [
    "registry.example.com/shop",
    "registry.example.com:5000/a/b/c",
    "Registry.example.com/team/shop",
    "localhost/shop",
    "localhost:5000/shop",
    "registry:5000/shop",
    "10.0.0.1:5000/shop",
    "[fd00::1]:5000/shop",
    "ghcr.io/org/app",
    "docker.io/library/app",
    "team/shop",
    "my_team/shop",
    "shop",
    "ghcr.io/a.b_c__d---e/f9",
];

/// What people write for one, and what is none.
const NO_REPOSITORIES: [&str; 20] = [
    "",
    "oci://registry.example.com/team/shop",
    "https://registry.example.com/team/shop",
    "registry.example.com/team/shop:v1",
    "registry.example.com:5000/shop:v1",
    "shop:v1",
    "registry.example.com/shop@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "registry.example.com",
    "registry.example.com:5000",
    "registry.example.com/",
    "registry.example.com/Team/shop",
    "registry.example.com//shop",
    "registry.example.com/shop/",
    "registry.example.com/../shop",
    "registry.example.com/a..b",
    "registry.example.com/a___b",
    "registry.example.com/-a",
    "registry.example.com/a b",
    "registry.example.com/a?b=c",
    "ci:password@registry.example.com/shop",
];

#[tokio::test]
async fn there_is_an_example_of_each_origin_and_all_are_accepted() -> Result<()> {
    // Its own: on the one that all tests share, a cluster without Flux would be one with it from now on.
    let control_plane = ControlPlane::start().await?;
    let kubectl = control_plane.kubectl();
    kubectl.run(&["apply", "--server-side", "-k", &file(INSTALL)]).await?;
    install_crds(&kubectl).await?;
    kubectl.run(&["create", "namespace", "shop"]).await?;
    let mut origins = BTreeSet::new();
    for (name, option) in [("http.yaml", "-f"), ("oci.yaml", "-f"), ("flux", "-k")] {
        let example = format!("{SOURCES}/{name}");
        let apply = ["apply", "--server-side", "--dry-run=server", option, &file(&example)];
        let (applied, warnings) = kubectl.run_with_warnings(&apply).await.context(example.clone())?;
        assert_eq!((applied.lines().count(), warnings.as_str()), (2, ""), "{example}: {applied}");
        let spaces = if option == "-k" { format!("{example}/space.yaml") } else { example.clone() };
        for space in manifests(&spaces)?.iter().filter(|object| object["kind"] == "KonigleSpace") {
            let faults = konigle_operator::plugin::schema::faults(space);
            assert!(faults.is_empty(), "{example}: {faults:?}");
            origins.extend(space["spec"]["source"].as_object().into_iter().flat_map(|source| source.keys().cloned()));
        }
    }
    assert_eq!(origins, ["http", "oci", "sourceRef"].map(str::to_owned).into());
    let there: BTreeSet<String> = fs::read_dir(package().join(SOURCES))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    assert_eq!(there, ["flux", "http.yaml", "oci.yaml"].map(str::to_owned).into(), "an example that is not tried");
    Ok(())
}

#[tokio::test]
async fn a_bad_origin_is_refused_with_what_to_write_instead() -> Result<()> {
    const REPOSITORY: &str = "registry.example.com/team/shop";
    let oci = |change: Value| {
        let mut oci = json!({"repository": REPOSITORY, "tag": "v1.4.2"});
        json_patch::merge(&mut oci, &change);
        json!({"source": {"http": null, "oci": oci}})
    };
    let flux = |change: Value| {
        let mut reference = json!({"kind": "GitRepository", "name": "shop"});
        json_patch::merge(&mut reference, &change);
        json!({"source": {"http": null, "sourceRef": reference}})
    };
    let repository = |text: &str| oci(json!({"repository": text}));
    let path = |text: &str| flux(json!({"path": text}));
    let one_of = "write exactly one of spec.source.http (a file behind a URL), spec.source.oci";
    let repository_help = "write spec.source.oci.repository as registry.example.com/team/shop, without oci:// in front";
    let tag_help = "write spec.source.oci.tag as the tag alone";
    let tag_or_digest = "write exactly one of spec.source.oci.tag (observed every spec.interval)";
    let digest_help = "write spec.source.oci.digest as sha256:";
    let path_help = "write spec.source.sourceRef.path as a folder inside the artifact";
    let kinds = "supported values: \"GitRepository\", \"OCIRepository\", \"Bucket\", \"ExternalArtifact\"";
    let mut cases: Vec<Case> = vec![
        accepted("a tag", oci(json!({}))),
        accepted("a digest", oci(json!({"tag": null, "digest": DIGEST}))),
        accepted(
            "all the rest of oci",
            oci(json!({"secretRef": {"name": "registry"},
            "layerMediaType": "application/vnd.oci.image.layer.v1.tar+gzip"})),
        ),
        accepted("the folder as Flux writes it", path("./apps/shop")),
        accepted("a folder that begins with two dots", path("..apps")),
        accepted("the root as Flux writes it", path("./")),
        accepted("the longest folder", path(&"x".repeat(1024))),
        accepted("the longest tag", oci(json!({"tag": "x".repeat(128)}))),
        refused("no origin", json!({"source": {"http": null}}), one_of),
        refused("nothing for an origin", json!({"source": {"http": null, "oci": null}}), one_of),
        refused("two origins", json!({"source": {"oci": {"repository": REPOSITORY, "tag": "v1"}}}), one_of),
        refused(
            "all three origins",
            json!({"source": {"oci": {"repository": REPOSITORY, "tag": "v1"},
            "sourceRef": {"kind": "Bucket", "name": "shop"}}}),
            one_of,
        ),
        refused("neither tag nor digest", oci(json!({"tag": null})), tag_or_digest),
        refused("tag and digest", oci(json!({"digest": DIGEST})), tag_or_digest),
        refused("no repository", oci(json!({"repository": null})), "spec.source.oci.repository: Required value"),
        refused("a tag with the name", oci(json!({"tag": "shop:v1"})), tag_help),
        refused("an empty tag", oci(json!({"tag": ""})), tag_help),
        refused("two dots as tag", oci(json!({"tag": ".."})), tag_help),
        refused("a tag with a line break", oci(json!({"tag": "v1\n"})), tag_help),
        refused("too long a tag", oci(json!({"tag": "x".repeat(129)})), "may not be more than 128"),
        refused("a number as tag", oci(json!({"tag": 1.4})), "must be of type string"),
        refused("an upper-case digest", oci(json!({"tag": null, "digest": DIGEST.to_uppercase()})), digest_help),
        refused("a short digest", oci(json!({"tag": null, "digest": &DIGEST[..70]})), digest_help),
        refused("a digest of another kind", oci(json!({"tag": null, "digest": "sha512:00"})), digest_help),
        refused(
            "a word as media type",
            oci(json!({"layerMediaType": "tar"})),
            "write spec.source.oci.layerMediaType as",
        ),
        refused("a media type with a parameter", oci(json!({"layerMediaType": "a/b; c=d"})), "layerMediaType as"),
        refused("too long a folder", path(&"x".repeat(1025)), "may not be more than 1024"),
        refused(
            "too long a repository",
            repository(&format!("ghcr.io/{}", "x".repeat(512))),
            "may not be more than 512",
        ),
        refused("a path beside oci", oci(json!({"path": "apps"})), "unknown field \"spec.source.oci.path\""),
        refused(
            "another namespace",
            flux(json!({"namespace": "x"})),
            "unknown field \"spec.source.sourceRef.namespace\"",
        ),
        refused("a misspelt kind", flux(json!({"kind": "GitRepo"})), kinds),
        refused("a chart", flux(json!({"kind": "HelmRepository"})), kinds),
        refused("no kind", flux(json!({"kind": null})), "spec.source.sourceRef.kind: Required value"),
        refused("no name", flux(json!({"name": ""})), "at least 1 chars"),
    ];
    for good in REPOSITORIES {
        cases.push(accepted(good, repository(good)));
    }
    for wrong in NO_REPOSITORIES {
        cases.push(refused(wrong, repository(wrong), repository_help));
    }
    for wrong in ["/../shop", "../shop", "apps/../../shop", "apps/..", "..", "apps\\shop"] {
        cases.push(refused("a folder outside", path(wrong), path_help));
    }
    check(deploys("7301962442809344000", "https://ci.example.com/shop.zip", DIGEST), &cases).await
}

/// What CEL cannot say is said by the operator, and by `kubectl konigle validate`.
#[test]
fn what_only_the_operator_refuses_is_said_offline() {
    let told = |repository: &str| {
        let space = json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace", "metadata": {"name": "shop"},
            "spec": {"space": {"id": "7"}, "credentials": {"secretRef": {"name": "konigle"}},
                "source": {"oci": {"repository": repository, "tag": "v1"}}},
        });
        konigle_operator::plugin::schema::faults(&space).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for repository in REPOSITORIES {
        assert_eq!(told(repository), Vec::<String>::new(), "{repository}");
    }
    let long = format!("registry.example.com/{}", "x".repeat(256));
    for (repository, help) in [
        (long.as_str(), "spec: spec.source.oci.repository: write the repository as HOST/PATH"),
        ("registry.example.com:99999/shop", "is no registry: write HOST/PATH or HOST:PORT/PATH"),
        ("Team/shop", "the path of a repository is lower-case: write `team/shop`"),
    ] {
        let said = told(repository).join("; ");
        assert!(said.contains(help), "{repository}: {said}");
    }
}
