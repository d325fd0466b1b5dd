//! The watch of Flux's sources: each kind from the first KonigleSpace that names it, and while the cluster has it.
//!
//! Not by kube-runtime's watcher, which logs each refusal by itself, goes on watching a kind that is gone, and starts its
//! backoff anew with every list. Here every failure leads to a wait and a new list. So does time: what the watch missed is
//! mended `--watch-check-interval` later.

use std::time::Duration;

use futures::future::join_all;
use futures::{Stream, StreamExt, pin_mut};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{APIGroup, ListMeta};
use kube::api::{ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::{GroupVersionKind, Request};
use kube::{Client, Resource};
use serde::Deserialize;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{info, warn};

use super::{PAGE_SIZE, WatchBackoff, reference};
use crate::api::{FluxKind, FluxSourceReference, KonigleSpace};
use crate::cluster::{Clients, ClusterError, WATCH_SECONDS, within};
use crate::config::Config;
use crate::context::{Context, readable};
use crate::sources::{Listed, News, SourceKey, SourceObject};

/// The API group of Flux's sources.
const GROUP: &str = "source.toolkit.fluxcd.io";
/// How often it is looked whether a kind that is wanted was installed.
const LOOKS: Duration = Duration::from_secs(10);
/// For how long of failures the last list is relied on: an API server that starts anew is no news of any source.
const RELIED_ON: Duration = Duration::from_mins(1);
/// The shortest time from the begin of one watch to that of the next: one that ends at once is not asked for without end.
const BETWEEN_WATCHES: Duration = Duration::from_secs(1);

/// Watches each kind of source that a resource names. Never returns.
pub async fn watch_sources(config: &Config, clients: &Clients, context: &Context) {
    join_all(FluxKind::ALL.map(|kind| Watch::new(kind, config, clients, context).run())).await;
}

/// The source of Flux that a resource deploys from.
pub(super) fn source_of(resource: &KonigleSpace) -> Option<&FluxSourceReference> {
    resource.spec.source.as_ref()?.source_ref.as_ref()
}

/// The watch of one kind.
struct Watch<'a> {
    kind: FluxKind,
    config: &'a Config,
    clients: &'a Clients,
    context: &'a Context,
    backoff: WatchBackoff,
    failing_since: Option<Instant>,
    warned: Option<String>,
}

/// Why a list or the watch that followed it ended.
enum Ended {
    /// The cluster has no such kind.
    NotInstalled,
    /// The objects could not be listed. Where the account lacks the right, that does not pass by itself.
    Unlisted { why: String, refused: bool },
    /// They were listed, and could not be watched from there on.
    Unwatched(String),
}

impl Ended {
    fn unlisted(error: &ClusterError, advice: &str) -> Self {
        match error.code() {
            Some(404) => Self::NotInstalled,
            Some(403) => Self::Unlisted { why: format!("{error}{advice}"), refused: true },
            _ => Self::Unlisted { why: error.to_string(), refused: false },
        }
    }

    fn unwatched(error: &ClusterError, advice: &str) -> Self {
        match error.code() {
            Some(404) => Self::NotInstalled,
            Some(403) => Self::Unwatched(format!("{error}{advice}")),
            _ => Self::Unwatched(error.to_string()),
        }
    }
}

impl<'a> Watch<'a> {
    fn new(kind: FluxKind, config: &'a Config, clients: &'a Clients, context: &'a Context) -> Self {
        let backoff = WatchBackoff::default();
        Self { kind, config, clients, context, backoff, failing_since: None, warned: None }
    }

    async fn run(mut self) {
        self.context.sources.until_wanted(self.kind).await;
        loop {
            let pause = match self.follow().await {
                Ok(()) => continue,
                Err(Ended::NotInstalled) => {
                    self.not_installed();
                    LOOKS.min(self.config.watch_check_interval)
                }
                Err(Ended::Unlisted { why, refused }) => {
                    self.unlisted(&why, refused);
                    self.backoff.next().unwrap_or(LOOKS)
                }
                // The next list has what was missed: whoever may not watch sees everything a little later.
                Err(Ended::Unwatched(why)) => {
                    self.warn(&why);
                    self.backoff.next().unwrap_or(LOOKS)
                }
            };
            sleep(pause).await;
        }
    }

    /// Lists all objects and watches them from there on, until it is time for a new list.
    async fn follow(&mut self) -> Result<(), Ended> {
        let served = served(&self.clients.api, self.kind).await.map_err(|error| Ended::unlisted(&error, ""))?;
        let served = served.ok_or(Ended::NotInstalled)?;
        let advice = format!(
            "; set rbac.fluxSources to true in the values of the operator's chart, or grant this account list and watch on \
             {}.{GROUP}",
            served.plural
        );
        let request = Request::new(DynamicObject::url_path(&served, self.config.watch_namespace.as_deref()));
        let until = Instant::now() + self.config.watch_check_interval;
        let listed = list(&self.clients.api, &request).await;
        let (listed, mut version) = listed.map_err(|error| Ended::unlisted(&error, &advice))?;
        self.listed(listed);
        loop {
            let begun = Instant::now();
            let events = watch(&self.clients.watch, &request, &version).await;
            let events = events.map_err(|error| Ended::unwatched(&error, &advice))?;
            self.warned = None;
            pin_mut!(events);
            loop {
                let Ok(event) = timeout_at(until, events.next()).await else { return Ok(()) };
                match event.transpose().map_err(|error| Ended::Unwatched(error.to_string()))? {
                    Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                        object.version().clone_into(&mut version);
                        self.wake(&self.context.sources.set_source(self.kind, object.key(), Some(object.source())));
                    }
                    Some(WatchEvent::Deleted(object)) => {
                        object.version().clone_into(&mut version);
                        self.wake(&self.context.sources.set_source(self.kind, object.key(), None));
                    }
                    Some(WatchEvent::Bookmark(bookmark)) => version = bookmark.metadata.resource_version,
                    Some(WatchEvent::Error(status)) => return Err(Ended::Unwatched(status.message)),
                    None => break,
                }
            }
            sleep_until(begun + BETWEEN_WATCHES).await;
        }
    }

    fn listed(&mut self, listed: Listed) {
        self.failing_since = None;
        if !self.context.sources.is_listed(self.kind) {
            self.warned = None;
            info!("Flux's {} is listed and watched", self.kind.word());
        }
        self.wake(&self.context.sources.set_listed(self.kind, listed));
    }

    fn not_installed(&mut self) {
        (self.failing_since, self.warned) = (None, None);
        let news = self.context.sources.set_not_installed(self.kind);
        if news != News::None {
            info!("Flux's {} is not installed; it is watched when it appears", self.kind.word());
        }
        self.wake(&news);
    }

    fn unlisted(&mut self, why: &str, refused: bool) {
        self.warn(why);
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if refused || since.elapsed() >= RELIED_ON || !self.context.sources.is_listed(self.kind) {
            self.wake(&self.context.sources.set_not_listed(self.kind, why.to_owned()));
        }
    }

    /// Says what is wrong, where that is new.
    fn warn(&mut self, why: &str) {
        if self.warned.as_deref() != Some(why) {
            warn!(error = why, "Flux's {} cannot be watched; it is tried again", self.kind.word());
            self.warned = Some(why.to_owned());
        }
    }

    /// Wakes the resources that have something new to look at.
    fn wake(&self, news: &News) {
        if *news == News::None {
            return;
        }
        let all = self.context.all();
        for resource in readable(&all) {
            let Some(source) = source_of(resource).filter(|source| source.kind == self.kind) else { continue };
            let namespace = resource.metadata.namespace.clone().unwrap_or_default();
            let concerned = match news {
                News::None => false,
                News::Of(keys) => keys.contains(&SourceKey { namespace, name: source.name.clone() }),
                News::OfAll => true,
            };
            if concerned {
                self.context.wake(&crate::memory::uid(resource), reference(resource));
            }
        }
    }
}

/// The kind as the cluster serves it, in the version that it prefers: Flux before 2.6 has some of them as v1beta2 only.
async fn served(client: &Client, kind: FluxKind) -> Result<Option<ApiResource>, ClusterError> {
    let group = within("find the Flux API", async {
        let request = http::Request::get(format!("/apis/{GROUP}")).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request::<APIGroup>(request).await
    });
    let group = group.await?;
    for version in group.versions {
        let resources = client.list_api_group_resources(&version.group_version);
        let resources = match within("find the Flux kinds", resources).await {
            Err(error) if error.code() == Some(404) => continue,
            resources => resources?.resources,
        };
        // A subresource has the kind too.
        let of_kind = |name: &str, of: &str| of == kind.word() && !name.contains('/');
        if let Some(resource) = resources.into_iter().find(|resource| of_kind(&resource.name, &resource.kind)) {
            let kind = GroupVersionKind::gvk(GROUP, &version.version, kind.word());
            return Ok(Some(ApiResource::from_gvk_with_plural(&kind, &resource.name)));
        }
    }
    Ok(None)
}

/// A part of a list. Not kube's type, which keeps all of it in memory before it decodes any.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<SourceObject>,
}

/// All objects, and the version from which to watch.
async fn list(client: &Client, request: &Request) -> Result<(Listed, String), ClusterError> {
    let mut parameters = ListParams::default().limit(PAGE_SIZE);
    let mut listed = Listed::default();
    loop {
        let page = within("list Flux sources", async {
            client.request::<Page>(request.list(&parameters).map_err(kube::Error::BuildRequest)?).await
        });
        let page = page.await?;
        listed.extend(page.items.iter().map(|object| (object.key(), object.source())));
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            return Ok((listed, page.metadata.resource_version.unwrap_or_default()));
        }
    }
}

/// What happens to them from this version on.
async fn watch(
    client: &Client,
    request: &Request,
    version: &str,
) -> Result<impl Stream<Item = kube::Result<WatchEvent<SourceObject>>> + use<>, ClusterError> {
    let parameters = WatchParams::default().timeout(WATCH_SECONDS);
    let events = within("watch Flux sources", async {
        client.request_events(request.watch(&parameters, version).map_err(kube::Error::BuildRequest)?).await
    });
    events.await
}
