//! Flux's sources as source-controller leaves them: what is written by hand must pass its real CRDs whole.

use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_RANGE, RANGE};
use serde_json::Value;

use crate::support::artifacts::{Artifacts, digest_of, tar_gz};
use crate::support::control_plane::ControlPlane;
use crate::support::flux_source::{FluxSource, KINDS, install_crds, remove_crds};
use crate::support::namespace::Namespace;
use crate::support::{Result, http_client};

#[tokio::test]
async fn every_kind_of_source_shows_its_archive() -> Result<()> {
    // Its own: on the one that all tests share, a cluster without Flux would be one with it from now on.
    let control_plane = ControlPlane::start().await?;
    let kubectl = control_plane.kubectl();
    control_plane.install_crd().await?;
    install_crds(&kubectl).await?;
    let namespace = Namespace::create(&control_plane, "sources").await?;
    let artifacts = Artifacts::start().await?;
    let shown = async |kind: &str| -> Result<Value> {
        let resource = format!("{}.source.toolkit.fluxcd.io", kind.to_lowercase());
        Ok(kubectl.get(&["-n", namespace.name(), &resource, "shop"]).await?["status"].clone())
    };
    for kind in KINDS {
        let source = FluxSource::create(&namespace, kind, "shop").await?;
        for version in ["1", "2"] {
            let archive = tar_gz(&[("Dockerfile", "FROM scratch\n"), ("version.txt", version)])?;
            let stored = source.store(&artifacts, archive.clone(), &format!("main@sha1:{version}")).await?;
            let status = shown(kind).await?;
            assert_eq!(status["artifact"]["digest"], digest_of(&archive), "{kind}: {status}");
            assert_eq!(status["artifact"]["size"], archive.len(), "{kind}: {status}");
            assert_eq!(status["conditions"][0]["status"], "True", "{kind}: {status}");
            assert_eq!(status["conditions"][0]["observedGeneration"], 1, "{kind}: {status}");
            let url = status["artifact"]["url"].as_str().unwrap();
            assert_eq!(http_client()?.get(url).send().await?.bytes().await?, archive, "{kind}");
            assert_eq!(url, stored.url);
        }
        source.fail("GitOperationFailed", "failed to checkout").await?;
        let status = shown(kind).await?;
        assert_eq!(status["conditions"][0]["reason"], "GitOperationFailed", "{kind}: {status}");
        assert_eq!(status["artifact"]["revision"], "main@sha1:2", "{kind}: what was stored stays: {status}");
    }
    remove_crds(&kubectl).await?;
    assert!(shown("Bucket").await.is_err(), "the kind is still served");
    Ok(())
}

#[tokio::test]
async fn an_artifact_is_served_from_any_byte_while_it_is_the_same() -> Result<()> {
    let artifacts = Artifacts::start().await?;
    let served = artifacts.serve("/a", b"0123456789".to_vec());
    let http = http_client()?;
    let whole = http.get(&served.url).send().await?;
    let validator = whole.headers()[ETAG].clone();
    let from =
        |first: usize| http.get(&served.url).header(RANGE, format!("bytes={first}-")).header(IF_RANGE, &validator);

    let rest = from(7).send().await?;
    assert_eq!(rest.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(rest.headers()["content-range"], "bytes 7-9/10");
    assert_eq!(rest.bytes().await?, "789");
    assert_eq!(from(10).send().await?.status(), StatusCode::RANGE_NOT_SATISFIABLE);

    artifacts.serve("/a", b"abcdefghij".to_vec());
    let changed = from(7).send().await?;
    assert_eq!(changed.status(), StatusCode::OK, "the validator names what is gone");
    assert_eq!(changed.bytes().await?, "abcdefghij");
    Ok(())
}
