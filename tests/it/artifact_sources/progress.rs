//! How far a transfer is, in the status while it runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use konigle_operator::api::{KonigleSpace, RECONCILE_AT, REDEPLOY_AT, TransferStatus};
use serde_json::json;
use tokio::sync::Notify;

use super::wish;
use crate::support::Result;
use crate::support::artifacts::{Artifact, digest_of, large_application};
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, is_ready, runs};
use crate::support::wire::{Fault, Wire};

#[tokio::test]
async fn a_download_tells_how_far_it_is() -> Result<()> {
    let stage = Stage::open("download").await?;
    let bytes = large_application(64 << 20)?;
    let (digest, size) = (digest_of(&bytes), bytes.len());
    let (first, second) = (Bytes::copy_from_slice(&bytes[..size / 2]), Bytes::copy_from_slice(&bytes[size / 2..]));
    let halfway = Arc::new(Notify::new());
    let go_on = halfway.clone();
    let answer = move || {
        let (first, second, go_on) = (first.clone(), second.clone(), go_on.clone());
        async move {
            let rest = stream::once(async move {
                go_on.notified().await;
                Ok::<_, std::io::Error>(second)
            });
            let body = Body::from_stream(stream::once(async { Ok(first) }).chain(rest));
            ([("content-length", size.to_string())], body)
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/shop.zip", listener.local_addr()?);
    let host = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });

    stage.namespace.apply(SHOP, &wish(&json!({"http": {"url": url, "digest": digest}}))).await?;
    let download = |space: &KonigleSpace| space.status.as_ref()?.artifact.as_ref()?.download.clone();
    let is_half = |space: &KonigleSpace| {
        download(space).is_some_and(|download| usize::try_from(download.bytes).is_ok_and(|bytes| bytes == size / 2))
    };
    let space = stage.namespace.wait_for(SHOP, "half downloaded", is_half).await?;
    assert_eq!(download(&space), Some(TransferStatus::of(u64::try_from(size / 2)?, Some(u64::try_from(size)?))));
    let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    assert!(message.contains("49 %, 32 MiB of 64 MiB"), "{message}");

    halfway.notify_one();
    let is_there = |space: &KonigleSpace| is_ready(space) && runs(space, &digest);
    let space = stage.namespace.wait_for(SHOP, "deployed", is_there).await?;
    assert_eq!(download(&space), None, "nothing is downloaded any more");
    host.abort();
    Ok(())
}

fn upload(space: &KonigleSpace) -> Option<TransferStatus> {
    space.status.as_ref()?.attempt.as_ref()?.upload.clone()
}

/// Has an artifact deployed over a slow way to Konigle, which is kept open by what is returned, up to where its upload is told.
async fn upload_slowly(stage: &mut Stage) -> Result<(Wire, Artifact, KonigleSpace)> {
    let wire = stage.put_wire_before_konigle().await?;
    let published = stage.artifacts.serve("/shop.zip", large_application(8 << 20)?);
    wire.next("POST", 1, Fault::Latency(Duration::from_millis(20)));
    let source = json!({"http": {"url": published.url, "digest": published.digest}});
    stage.namespace.apply(SHOP, &wish(&source)).await?;
    let space = stage.namespace.wait_for(SHOP, "uploading", |space| upload(space).is_some()).await?;
    Ok((wire, published, space))
}

#[tokio::test]
async fn an_upload_tells_how_far_it_is() -> Result<()> {
    let mut stage = Stage::open("upload").await?;
    let (_wire, published, space) = upload_slowly(&mut stage).await?;
    let told = upload(&space).unwrap_or_default();
    assert_eq!(told.total, i64::try_from(published.size).ok());
    assert!(told.bytes > 0 && told.percent.is_some_and(|percent| percent <= 100), "{told:?}");

    stage.comes_to_run(&published.digest).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_a_person_asks_for_during_an_upload_is_not_lost() -> Result<()> {
    let mut stage = Stage::open("meanwhile").await?;
    let (_wire, published, _) = upload_slowly(&mut stage).await?;
    stage.namespace.annotate(SHOP, RECONCILE_AT, "meanwhile").await?;
    let asked = stage.namespace.annotate(SHOP, REDEPLOY_AT, "meanwhile").await?;
    assert!(upload(&asked).is_some(), "the upload has ended before: {:?}", asked.status);

    let handled = |space: &KonigleSpace| {
        space.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.as_deref() == Some("meanwhile"))
    };
    stage.namespace.wait_for(SHOP, "looked at as asked", handled).await?;
    stage.wait_for_ledger(UAT, 2).await?;
    stage.comes_to_run(&published.digest).await?;
    assert_eq!(stage.deploys_of(UAT).await?, 2, "once more, as asked");
    Ok(())
}
