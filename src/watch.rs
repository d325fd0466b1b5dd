//! The one watch: it keeps the store, forgets the deleted, and wakes those that depend on what changed.
//!
//! kube-runtime 5.0 leaves five gaps, and each is closed here: its backoff starts anew with every relist, so that a
//! server that keeps answering "gone" is asked without end; a 410 at the start of a watch never leads to a relist; a
//! watch that silently tells nothing looks like a quiet cluster; what a page of a relist shows is told before it is in the
//! store; and the controller pauses after each failure by itself, so that nothing can end the watch's own pause. Where a gap
//! cannot be closed from outside, the process ends, and its successor lists afresh.

mod sources;

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use tracing::{error, info, warn};

use crate::api::{KonigleSpace, Watched};
use crate::cluster::{ClusterError, WATCH_SECONDS, within};
use crate::config::Config;
use crate::context::Context;
use crate::context::readable;
use crate::crash;
use crate::health::Readiness;
use crate::time::doubled;

pub use sources::watch_sources;

/// How many resources one page of a list may hold: a page is decoded whole, and with its managed fields takes many times
/// the memory that is kept of it.
const PAGE_SIZE: u32 = 100;
/// How many refusals with 410 in a row mean that the watch will not recover.
const MOST_GONE: u32 = 5;

/// The stream of changed resources, for the controller.
pub fn watch(
    config: &Config,
    client: &Client,
    context: Arc<Context>,
    readiness: Arc<Readiness>,
    writer: Writer<Watched>,
) -> impl Stream<Item = watcher::Result<Watched>> + Send + 'static {
    let mut watching = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE_SIZE);
    if let Some(selector) = &config.watch_label_selector {
        watching = watching.labels(selector);
    }
    let selector = config.watch_label_selector.clone();
    let failed = {
        let (context, readiness, gone) = (context.clone(), readiness.clone(), AtomicU32::new(0));
        move |error: &watcher::Error| {
            if let (Some(selector), Some(why)) = (&selector, refused(error)) {
                error!(
                    selector,
                    error = why,
                    "--watch-label-selector is no label selector: write one such as team=shop"
                );
                context.fail();
                return;
            }
            warn!(error = error as &dyn std::error::Error, "the watch failed; it is begun again");
            readiness.watch_failed(format!("the resources cannot be watched: {error}"));
            if is_gone(error) && gone.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_GONE {
                error!(
                    "the watch is refused as too old again and again: ending, so that the next process lists afresh"
                );
                context.fail();
            } else if !is_gone(error) {
                gone.store(0, Ordering::Relaxed);
            }
        }
    };
    let watched: Api<Watched> = api(config, client);
    // One watcher after the other: when the CRD comes, the one that waits for its next try gives way to a fresh one.
    let came = readiness.clone();
    let watchers = stream::repeat_with(move || {
        let came = came.clone();
        watcher(Api::clone(&watched), watching.clone())
            .modify(|guard| {
                if let Ok(resource) = &mut guard.0 {
                    resource.metadata.managed_fields = None;
                }
            })
            .backoff(WatchBackoff::default())
            .take_until(async move {
                came.until_crd_comes().await;
                info!("the CRD is there now: the resources are listed afresh");
            })
    });
    watchers
        .flatten()
        .inspect_err(failed)
        .reflect(writer)
        .inspect_ok(move |event| {
            // Not by `Store::wait_until_ready`: the controller waits on it already, and of two waiters only the last
            // that was polled is woken (kube-runtime 5.0, `utils/delayed_init.rs`).
            match event {
                Event::InitDone => {
                    info!("all resources are listed");
                    crash::point("watch", "listed");
                    take_in(&context);
                    context.listed.cancel();
                    readiness.set_watch(None);
                }
                Event::Apply(guard) | Event::Delete(guard) => {
                    readiness.set_watch(None);
                    notice(&context, guard, matches!(event, Event::Delete(_)));
                }
                Event::Init | Event::InitApply(_) => {}
            }
        })
        .filter_map(|event| {
            std::future::ready(match event {
                Ok(Event::Apply(guard)) => Some(Ok(guard)),
                // What a list shows has its pass when the list is complete. And a failure ends here: kube's controller has
                // a pause of its own after each, in which it polls nothing, so that nothing could end it.
                Ok(Event::Init | Event::InitApply(_) | Event::InitDone | Event::Delete(_)) | Err(_) => None,
            })
        })
}

fn api<K>(config: &Config, client: &Client) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match &config.watch_namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A 410 at the start of a watch: kube-runtime would ask for the same version for ever.
fn is_gone(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// The API server's words, where it refuses what is asked for: the label selector is all that may be wrong with it.
fn refused(error: &watcher::Error) -> Option<&str> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 400 => Some(&status.message),
        _ => None,
    }
}

/// Waits between failures of the watch: 0.8 s, doubled with each, at most 30 s. A relist that is followed by the next
/// failure does not start it anew; a minute without one does.
#[derive(Default)]
struct WatchBackoff {
    failures: u32,
    last: Option<Instant>,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now - last > Duration::from_mins(1)) {
            self.failures = 0;
        }
        self.last = Some(now);
        self.failures += 1;
        Some(doubled(Duration::from_millis(800), self.failures, Duration::from_secs(30)))
    }
}

impl Backoff for WatchBackoff {
    /// Called at every event, the begin of a relist included: that proves nothing.
    fn reset(&mut self) {}
}

/// A new list is complete, and in the store: all that it shows has its pass now, and those that depend on what changed
/// are woken. Not page by page: kube-runtime tells a page before it has the next, so that a pass would see what was before
/// and nothing would bring the next one. A pass over what did not change costs nothing (`Memory::undisturbed`).
fn take_in(context: &Context) {
    forget_those_missed(context);
    let all = context.all();
    let changed: Vec<&KonigleSpace> = readable(&all).filter(|resource| note(context, resource, false)).collect();
    // After the first list all are new, and all have their first pass.
    if context.listed.is_cancelled() {
        for resource in changed {
            wake_dependants(context, &all, resource);
        }
    }
    for guard in &all {
        context.trigger(ObjectRef::from_obj(&**guard));
    }
}

/// One resource changed.
fn notice(context: &Context, guard: &Watched, gone: bool) {
    if let Ok(resource) = &guard.0
        && note(context, resource, gone)
    {
        wake_dependants(context, &context.all(), resource);
    }
}

/// Remembers what the watch tells of a resource; true where what others depend on changed.
fn note(context: &Context, resource: &KonigleSpace, gone: bool) -> bool {
    let reference = reference(resource);
    let fingerprint = if gone { 0 } else { fingerprint(resource) };
    let before = {
        let mut fingerprints = context.fingerprints.lock().unwrap_or_else(PoisonError::into_inner);
        if gone { fingerprints.remove(&reference) } else { fingerprints.insert(reference, fingerprint) }
    };
    context.memory.note(resource);
    if let Some(source) = sources::source_of(resource).filter(|_| !gone) {
        context.sources.want(source.kind);
    }
    let uid = crate::memory::uid(resource);
    if gone {
        context.memory.forget(&uid);
    } else {
        context.memory.is_there(&uid);
    }
    before != Some(fingerprint)
}

/// Wakes those that depend on a resource: a promotion on its uat resource, a uat resource on the promotion that holds it,
/// and one resource of a Space on another that is older.
fn wake_dependants(context: &Context, all: &[Arc<Watched>], resource: &KonigleSpace) {
    let neighbours = readable(all).filter(|other| other.meta().namespace == resource.meta().namespace);
    let promotions = neighbours.filter(|other| promotes(other, resource) || promotes(resource, other));
    let rivals = readable(all).filter(|other| shares_its_space(other, resource));
    for other in promotions.chain(rivals) {
        context.wake(&crate::memory::uid(other), reference(other));
    }
}

fn reference(resource: &KonigleSpace) -> ObjectRef<Watched> {
    ObjectRef::new(&resource.name_any()).within(&resource.namespace().unwrap_or_default())
}

/// What is not in a new list was deleted while the watch was away.
fn forget_those_missed(context: &Context) {
    let all = context.all();
    let known: HashSet<ObjectRef<Watched>> = all.iter().map(|guard| ObjectRef::from_obj(&**guard)).collect();
    context
        .fingerprints
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .retain(|reference, _| known.contains(reference));
    context.memory.forget_others(&all.iter().filter_map(|guard| guard.meta().uid.clone()).collect());
}

/// Whether one resource promotes from another of its namespace.
fn promotes(resource: &KonigleSpace, from: &KonigleSpace) -> bool {
    let source = resource.spec.promotion.as_ref().map(|promotion| &promotion.from.name);
    source.is_some() && source == from.meta().name.as_ref()
}

/// Whether two resources name one Space.
fn shares_its_space(one: &KonigleSpace, other: &KonigleSpace) -> bool {
    let space = |resource: &KonigleSpace| Some(resource.status.as_ref()?.space.as_ref()?.id.clone());
    one.meta().uid != other.meta().uid && space(one).is_some_and(|id| space(other) == Some(id))
}

/// What others depend on: the release, what is under way, and whether it can be relied on.
fn fingerprint(resource: &KonigleSpace) -> u64 {
    let mut hasher = DefaultHasher::new();
    resource.uid().hash(&mut hasher);
    resource.meta().deletion_timestamp.is_some().hash(&mut hasher);
    if let Some(status) = &resource.status {
        status.release.hash(&mut hasher);
        status.attempt.as_ref().map(|attempt| &attempt.nonce).hash(&mut hasher);
        status.held_by.as_ref().map(|held| &held.nonce).hash(&mut hasher);
        status.space.as_ref().map(|space| (&space.id, &space.webapp)).hash(&mut hasher);
        status.history.first().map(|entry| entry.number).hash(&mut hasher);
        (status.is_true("Drifted"), status.is_true("Stalled")).hash(&mut hasher);
    }
    hasher.finish()
}

/// Compares the store with the API server's list every `--watch-check-interval`. A resource whose version in the store
/// stays behind from one comparison to the next was missed by the watch. Never returns.
pub async fn check(config: &Config, client: &Client, context: &Context) {
    let resources: Api<KonigleSpace> = api(config, client);
    let mut parameters = ListParams::default().limit(PAGE_SIZE);
    parameters.label_selector.clone_from(&config.watch_label_selector);
    let mut behind: HashMap<String, Option<String>> = HashMap::new();
    loop {
        tokio::time::sleep(config.watch_check_interval).await;
        let Ok(now) = all_lagging(context, &resources, parameters.clone()).await else { continue };
        if let Some((name, _)) = now.iter().find(|(name, version)| behind.get(*name) == Some(*version)) {
            let (namespace, name) = name.split_once('/').unwrap_or_default();
            error!(namespace, name, "the watch missed a change: ending, so that the next process lists afresh");
            context.fail();
        }
        behind = now;
    }
}

/// All resources of which the store does not have the newest version, those that are deleted among them.
async fn all_lagging(
    context: &Context,
    resources: &Api<KonigleSpace>,
    mut parameters: ListParams,
) -> Result<HashMap<String, Option<String>>, ClusterError> {
    let mut lagging_now = HashMap::new();
    // Of before the list: what is there then and not in the list was deleted, and the watch should tell so.
    let mut unlisted: HashMap<String, Option<String>> =
        context.all().iter().map(|guard| (name_of(&**guard), guard.meta().resource_version.clone())).collect();
    loop {
        let page = within("compare KonigleSpaces", resources.list_metadata(&parameters)).await?;
        for item in &page.items {
            unlisted.remove(&name_of(item));
        }
        lagging_now.extend(page.items.iter().filter_map(|item| lagging(context, item)));
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            lagging_now.extend(unlisted);
            return Ok(lagging_now);
        }
    }
}

/// The name of a resource, and the version of it that the store has, where that is not the newest.
fn lagging(context: &Context, newest: &PartialObjectMeta<KonigleSpace>) -> Option<(String, Option<String>)> {
    let (namespace, name) = (newest.metadata.namespace.clone().unwrap_or_default(), newest.metadata.name.clone()?);
    let stored = context.store.get(&ObjectRef::new(&name).within(&namespace));
    let version = stored.and_then(|guard| guard.meta().resource_version.clone());
    (version != newest.metadata.resource_version).then(|| (name_of(newest), version))
}

fn name_of(resource: &impl ResourceExt) -> String {
    format!("{}/{}", resource.namespace().unwrap_or_default(), resource.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relist_does_not_start_the_backoff_anew() {
        let mut backoff = WatchBackoff::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.reset();
            waits.extend(backoff.next());
        }
        assert_eq!(waits[0], Duration::from_millis(800));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert_eq!(waits.last(), Some(&Duration::from_secs(30)));
    }
}
