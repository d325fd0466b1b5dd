//! A watch on the `KonigleSpace`s of one namespace, from its creation to the end of the test, that outlives whatever
//! happens to the API server. It runs beside the test, in a thread of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use konigle_operator::api::KonigleSpace;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::history::{Shown, Version, milliseconds};
use crate::support::process::POLL;
use crate::support::{Context, Result, control_plane};

/// The pause after an error.
const PAUSE: Duration = Duration::from_millis(250);
/// What an API server answers where the version to go on from is too old.
const GONE: u16 = 410;

/// A running recording. Dropping it ends it.
pub(crate) struct Recorder {
    pub(crate) namespace: String,
    pub(crate) kubeconfig: PathBuf,
    recorded: Arc<Mutex<Recorded>>,
    task: JoinHandle<()>,
}

/// What was recorded.
pub(crate) struct Recorded {
    pub(crate) versions: Vec<Version>,
    /// Where versions may be missing, or what was recorded could not be kept.
    pub(crate) gaps: Vec<String>,
    /// Everything as JSON lines.
    file: File,
}

impl Recorder {
    /// Begins, and waits until everything from now on is recorded. Must be called in the runtime that it runs in.
    pub(crate) async fn start(kubeconfig: PathBuf, namespace: String, file: &Path) -> Result<Self> {
        let file = File::create(file).context(format!("making {}", file.display()))?;
        let recorded = Arc::new(Mutex::new(Recorded { versions: Vec::new(), gaps: Vec::new(), file }));
        let api = spaces(control_plane::client(&kubeconfig).await?, &namespace);
        let (listed, begun) = oneshot::channel();
        let task = tokio::spawn(record(api, Arc::clone(&recorded), listed));
        // An end without a word is that of the task.
        let _ = begun.await;
        Ok(Self { namespace, kubeconfig, recorded, task })
    }

    /// What was recorded until now.
    pub(crate) fn recorded(&self) -> MutexGuard<'_, Recorded> {
        lock(&self.recorded)
    }

    /// Waits until everything that is stored now is recorded.
    pub(crate) async fn catch_up(kubeconfig: PathBuf, namespace: String, recorded: Arc<Mutex<Recorded>>) -> Result<()> {
        let api = spaces(control_plane::client(&kubeconfig).await?, &namespace);
        let stored = match api.list(&ListParams::default()).await {
            Ok(stored) => stored.items,
            // Without the CRD there is nothing to record.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        loop {
            if stored.iter().all(|object| is_recorded(&lock(&recorded).versions, object)) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The shared part, for [`Recorder::catch_up`].
    pub(crate) fn shared(&self) -> Arc<Mutex<Recorded>> {
        Arc::clone(&self.recorded)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Recorded {
    /// Writes a line that is no version.
    pub(crate) fn write(&mut self, line: &Value) {
        if let Err(error) = writeln!(self.file, "{line}") {
            self.gaps.push(format!("a line of the trace was not written: {error}"));
        }
    }

    /// Versions may be missing here.
    pub(crate) fn gap(&mut self, why: String) {
        self.write(&json!({"gap": why}));
        self.gaps.push(why);
    }

    fn push(&mut self, object: &DynamicObject, shown: Shown) {
        let seen_ms = milliseconds(now());
        let mut object = serde_json::to_value(object).unwrap_or_default();
        self.versions.push(Version::read(&object, seen_ms, shown));
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let what = if shown == Shown::Deleted { "deleted" } else { "version" };
        self.write(&json!({"seen_ms": seen_ms, what: object}));
    }

    /// After a pause in which anything may have happened. Where each resource is as it was last recorded, none of its
    /// versions was missed: a server that starts anew knows no older version, changed or not.
    fn take_over(&mut self, objects: &[DynamicObject]) {
        let missed = missed(&self.versions, objects);
        if !missed.is_empty() {
            self.gap(format!("a watch began anew; versions may be missing of {}", missed.join(", ")));
        }
        for object in objects {
            if !is_recorded(&self.versions, object) {
                self.push(object, Shown::Listed);
            }
        }
    }
}

/// Whether this version of the object was recorded, which the newest are looked at first for.
fn is_recorded(versions: &[Version], object: &DynamicObject) -> bool {
    versions.iter().rev().any(|version| Some(&version.stored_as) == object.resource_version().as_ref())
}

/// The names of those that a list shows otherwise than they were last recorded, and of those that it lacks.
pub(crate) fn missed(recorded: &[Version], listed: &[DynamicObject]) -> Vec<String> {
    let mut last: BTreeMap<&str, &Version> = BTreeMap::new();
    for version in recorded {
        last.insert(&version.uid, version);
    }
    let uids: Vec<String> = listed.iter().filter_map(ResourceExt::uid).collect();
    let changed = listed.iter().zip(&uids).filter(|(object, uid)| {
        let last = last.get(uid.as_str());
        last.is_none_or(|version| Some(&version.stored_as) != object.resource_version().as_ref())
    });
    let lacking = last.values().filter(|version| !version.is_deleted() && !uids.contains(&version.uid));
    changed.map(|(object, _)| object.name_any()).chain(lacking.map(|version| version.name.clone())).collect()
}

#[expect(clippy::disallowed_methods, reason = "the machine's clock, as the simulator reads it")]
pub(super) fn now() -> Timestamp {
    Timestamp::now()
}

/// The text of all Events of a namespace.
pub(crate) async fn events(kubeconfig: PathBuf, namespace: String) -> Result<String> {
    let events: Api<Event> = Api::namespaced(control_plane::client(&kubeconfig).await?, &namespace);
    Ok(serde_json::to_string(&events.list(&ListParams::default()).await?.items)?)
}

fn spaces(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<KonigleSpace>(&()))
}

fn lock(recorded: &Mutex<Recorded>) -> MutexGuard<'_, Recorded> {
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn record(api: Api<DynamicObject>, recorded: Arc<Mutex<Recorded>>, listed: oneshot::Sender<()>) {
    let mut listed = Some(listed);
    let mut from: Option<String> = None;
    loop {
        if let Some(version) = &mut from {
            match follow(&api, version, &recorded).await {
                Ok(()) => {}
                Err(Ended::TooOld) => from = None,
                Err(Ended::Broken) => tokio::time::sleep(PAUSE).await,
            }
            continue;
        }
        match api.list(&ListParams::default()).await {
            Ok(list) => {
                lock(&recorded).take_over(&list.items);
                from = list.metadata.resource_version;
            }
            // Without the CRD there is nothing to miss.
            Err(kube::Error::Api(status)) if status.code == 404 => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                // One that comes later begins a gap, which is told when the list comes.
                if listed.is_some() {
                    lock(&recorded).gap(format!("the first list failed: {error}"));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        if let Some(listed) = listed.take() {
            let _ = listed.send(());
        }
    }
}

/// Why a watch ended before its time.
enum Ended {
    TooOld,
    Broken,
}

async fn follow(
    api: &Api<DynamicObject>,
    from: &mut String,
    recorded: &Mutex<Recorded>,
) -> std::result::Result<(), Ended> {
    let broken = |error: &kube::Error| match error {
        kube::Error::Api(status) if status.code == GONE => Ended::TooOld,
        _ => Ended::Broken,
    };
    let begin = from.clone();
    let events = api.watch(&WatchParams::default().timeout(290), &begin).await.map_err(|error| broken(&error))?;
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                lock(recorded).push(&object, Shown::Watched);
                *from = object.resource_version().unwrap_or_default();
            }
            Ok(WatchEvent::Deleted(object)) => {
                lock(recorded).push(&object, Shown::Deleted);
                *from = object.resource_version().unwrap_or_default();
            }
            Ok(WatchEvent::Bookmark(bookmark)) => from.clone_from(&bookmark.metadata.resource_version),
            Ok(WatchEvent::Error(status)) if status.code == GONE => return Err(Ended::TooOld),
            Ok(WatchEvent::Error(_)) => return Err(Ended::Broken),
            Err(error) => return Err(broken(&error)),
        }
    }
    Ok(())
}
