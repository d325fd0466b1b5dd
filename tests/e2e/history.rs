//! Every version of the objects of one kind in a namespace, in the order in which the API server stored them, beside
//! those of the `KonigleSpaces`: both have their place in one order, for their versions are those of one etcd.

use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Client, core::GroupVersionKind};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::namespace::wait_for;
use crate::support::{Failure, Result};

/// A running recording. Dropping it ends it.
pub(crate) struct History {
    objects: Api<DynamicObject>,
    versions: Arc<Mutex<Vec<Version>>>,
    task: JoinHandle<()>,
}

/// One object as it was stored, or as it was when it was deleted.
#[derive(Clone)]
pub(crate) struct Version {
    /// Its place in the order of everything that is stored.
    pub(crate) at: u64,
    pub(crate) name: String,
    pub(crate) is_deleted: bool,
    pub(crate) object: Value,
}

/// The API of a kind of which this program has no type.
pub(crate) fn objects(client: &Client, namespace: &str, api_version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

impl History {
    /// Records what is stored from now on.
    pub(crate) async fn start(objects: Api<DynamicObject>) -> Result<Self> {
        let from = objects.list(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let versions: Arc<Mutex<Vec<Version>>> = Arc::default();
        let kept = Arc::clone(&versions);
        let events = objects.watch(&WatchParams::default(), &from).await?.boxed();
        let watched = objects.clone();
        let task = tokio::spawn(async move {
            // A watch that breaks ends the recording; `versions` then waits in vain, and says so.
            let _ = keep(&watched, events, from, &kept).await;
        });
        Ok(Self { objects, versions, task })
    }

    /// All versions of the object with this name, up to the one that is stored now.
    pub(crate) async fn versions(&self, name: &str) -> Result<Vec<Version>> {
        let newest = match self.objects.get_opt(name).await? {
            Some(object) => Some(place(&object)?),
            None => None,
        };
        wait_for("recorded up to now", async || {
            let all = self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let own: Vec<Version> = all.into_iter().filter(|version| version.name == name).collect();
            let is_whole = match newest {
                Some(newest) => own.iter().any(|version| version.at == newest),
                None => own.last().is_some_and(|version| version.is_deleted),
            };
            Ok(is_whole.then_some(own))
        })
        .await
    }

    /// The newest version of that object that was stored at this place or before.
    pub(crate) fn at(versions: &[Version], place: u64) -> Option<&Version> {
        versions.iter().rev().find(|version| version.at <= place)
    }

    /// Waits until the object is such, and gives it. The failure says `what` was waited for, and what it was last.
    pub(crate) async fn until(&self, name: &str, what: &str, meets: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let waited = wait_for(what, async || {
            let Some(object) = self.objects.get_opt(name).await? else { return Ok(None) };
            let object = serde_json::to_value(object)?;
            let met = meets(&object);
            last.clone_from(&object["status"]);
            Ok(met.then_some(object))
        })
        .await;
        waited.map_err(|failure| Failure::new(format!("{name}: {failure}; its status was last {last}")))
    }
}

/// Keeps the versions of this watch, and of those that follow it: an API server ends each after some minutes.
async fn keep(
    objects: &Api<DynamicObject>,
    mut events: BoxStream<'_, kube::Result<WatchEvent<DynamicObject>>>,
    mut from: String,
    kept: &Mutex<Vec<Version>>,
) -> Result<()> {
    loop {
        while let Some(event) = events.try_next().await? {
            let (object, is_deleted) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(bookmark) => {
                    from = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => return Err(kube::Error::Api(status).into()),
            };
            from = object.resource_version().unwrap_or_default();
            let version = Version {
                at: place(&object)?,
                name: object.name_any(),
                is_deleted,
                object: serde_json::to_value(object)?,
            };
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(version);
        }
        events = objects.watch(&WatchParams::default(), &from).await?.boxed();
    }
}

fn place(object: &DynamicObject) -> Result<u64> {
    Ok(object.resource_version().unwrap_or_default().parse()?)
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}
