//! Downloads that nobody wants any more.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures::stream;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::mpsc;

use super::wish;
use crate::support::Result;
use crate::support::artifacts::digest_of;
use crate::support::control_plane::ControlPlane;
use crate::support::operator::OperatorOptions;
use crate::support::simulator::UAT;
use crate::support::stage::{JOB_SECONDS, SHOP, Stage};

/// The operator is for all namespaces, so each has one download at a time; the first would last for over an hour.
#[tokio::test]
async fn a_url_that_is_corrected_does_not_wait_for_the_slow_host_that_it_named() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let of_all = |options: OperatorOptions| {
        let options = OperatorOptions { watch_namespace: None, kubeconfig: control_plane.kubeconfig(), ..options };
        options.flag("--watch-label-selector=test=obsolete")
    };
    let stage = Stage::open_with("obsolete", JOB_SECONDS, of_all).await?;
    let (asked, mut is_asked) = mpsc::unbounded_channel();
    let answer = move || {
        // The test may have ended.
        let _ = asked.send(());
        async {
            let bytes = stream::unfold(tokio::time::interval(Duration::from_millis(50)), |mut pace| async {
                pace.tick().await;
                Some((Ok::<_, std::io::Error>("x".repeat(64 << 10)), pace))
            });
            ([("content-length", (1_u64 << 30).to_string())], Body::from_stream(bytes))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let slow = format!("http://{}/shop.zip", listener.local_addr()?);
    let host = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });

    let first = json!({"http": {"url": slow, "digest": digest_of(b"never comes")}});
    stage.namespace.apply(SHOP, &wish(&first)).await?;
    let labelled = json!({"metadata": {"labels": {"test": "obsolete"}}});
    stage.namespace.spaces().patch(SHOP, &PatchParams::default(), &Patch::Merge(&labelled)).await?;
    assert!(is_asked.recv().await.is_some(), "the slow host is asked");

    let published = stage.artifacts.serve_application("1.0")?;
    let corrected = json!({"http": {"url": published.url, "digest": published.digest}});
    stage.deploys(&corrected, &published.digest).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    assert!(is_asked.is_empty(), "the slow host was asked once");
    assert_eq!(stage.operator.partials()?, Vec::<std::path::PathBuf>::new(), "nothing is left of it");
    host.abort();
    Ok(())
}
