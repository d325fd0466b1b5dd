//! Every version of the KonigleSpaces of a namespace, in the order in which the API server stored them.
//!
//! What a reader of a watch saw in between is what `kubectl wait`, Flux and Argo CD act on, so a test of "in the same
//! write" needs all of it, not the last state.

use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use konigle_operator::api::{KonigleSpace, KonigleSpaceStatus};
use kube::ResourceExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::task::JoinHandle;

use super::Result;
use super::namespace::{Namespace, wait_for};

/// A running recording. Dropping it ends it.
pub(crate) struct Recording {
    versions: Arc<Mutex<Vec<KonigleSpace>>>,
    namespace: Namespace,
    task: JoinHandle<()>,
}

impl Recording {
    /// Records what is stored from now on.
    pub(crate) async fn start(namespace: &Namespace) -> Result<Self> {
        let spaces = namespace.spaces();
        let from = spaces.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let versions: Arc<Mutex<Vec<KonigleSpace>>> = Arc::default();
        let kept = Arc::clone(&versions);
        let events = spaces.watch(&WatchParams::default(), &from).await?.boxed();
        let task = tokio::spawn(async move {
            // A watch that breaks ends the recording; `versions` then waits in vain, and says so.
            let _ = keep(&spaces, events, from, &kept).await;
        });
        Ok(Self { versions, namespace: namespace.clone(), task })
    }

    /// All versions of this resource so far, up to the one that is stored now.
    pub(crate) async fn versions(&self, name: &str) -> Result<Vec<KonigleSpace>> {
        let newest = self.namespace.spaces().get(name).await?.resource_version();
        wait_for("recorded up to now", async || {
            let all = self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let own: Vec<_> = all.into_iter().filter(|space| space.name_any() == name).collect();
            Ok(own.iter().any(|space| space.resource_version() == newest).then_some(own))
        })
        .await
    }

    /// The statuses of all versions of this resource so far.
    pub(crate) async fn statuses(&self, name: &str) -> Result<Vec<KonigleSpaceStatus>> {
        Ok(self.versions(name).await?.into_iter().filter_map(|space| space.status).collect())
    }
}

/// Keeps the versions of this watch, and of those that follow it: an API server ends each after some minutes.
async fn keep(
    spaces: &Api<KonigleSpace>,
    mut events: BoxStream<'_, kube::Result<WatchEvent<KonigleSpace>>>,
    mut from: String,
    kept: &Mutex<Vec<KonigleSpace>>,
) -> kube::Result<()> {
    loop {
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(space) | WatchEvent::Modified(space) => {
                    from = space.resource_version().unwrap_or_default();
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(space);
                }
                WatchEvent::Deleted(space) => from = space.resource_version().unwrap_or_default(),
                WatchEvent::Bookmark(bookmark) => from = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        events = spaces.watch(&WatchParams::default(), &from).await?.boxed();
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.task.abort();
    }
}
