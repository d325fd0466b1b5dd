//! What every pass may use: made once for the process, shared by all passes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::{ObjectRef, Store as Known};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::api::{KonigleSpace, Watched};
use crate::artifact::Store;
use crate::konigle::{Clients, Guard};
use crate::live_lists::LiveLists;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::sources::Sources;
use crate::turns::Turns;

/// What every pass may use.
pub struct Context {
    /// The API server, for single calls.
    pub api: Client,
    /// Konigle, one client for each account.
    pub konigle: Clients,
    /// The operator's own base URL.
    pub base_url: Url,
    /// Which other base URLs a Secret may name.
    pub guard: Guard,
    /// Artifacts on disk.
    pub artifacts: Store,
    /// Bounds the downloads.
    pub downloads: Turns,
    /// Bounds the looks at tags.
    pub lookups: Turns,
    /// Bounds the passes.
    pub turns: Turns,
    /// What this process remembers.
    pub memory: Memory,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The resources as the watch last told them.
    pub store: Known<Watched>,
    /// The sources of Flux as their watch last told them.
    pub sources: Sources,
    /// Live lists that passes share.
    pub live_lists: LiveLists,
    /// Who publishes Events.
    pub reporter: Reporter,
    /// How long a submitted request may still take effect.
    pub settle: Duration,
    /// Cancelled once all resources were listed: no pass begins before.
    pub listed: CancellationToken,
    /// No new request is sent once this is cancelled.
    pub shutdown: CancellationToken,
    /// Cancelled when the process cannot wait any longer.
    pub last_call: CancellationToken,
    /// Cancelled when the process must end because it cannot do its work; it then ends with a failure.
    pub failed: CancellationToken,
    /// What others depend on, of each resource, as it was last seen.
    pub fingerprints: Mutex<HashMap<ObjectRef<Watched>, u64>>,
    /// Brings resources their next pass now.
    pub wakes: UnboundedSender<ObjectRef<Watched>>,
}

impl Context {
    /// Wakes a resource: its next pass comes now.
    pub fn wake(&self, uid: &str, reference: ObjectRef<Watched>) {
        self.memory.wake(uid);
        self.trigger(reference);
    }

    /// Brings a resource a pass now, which looks only where the last one left another version or its next look is due.
    pub fn trigger(&self, reference: ObjectRef<Watched>) {
        // The receiver lives as long as the controller; after that nobody needs to be woken.
        let _ = self.wakes.unbounded_send(reference);
    }

    /// Ends the process, in order, with a failure: another one will do better.
    pub fn fail(&self) {
        self.failed.cancel();
        self.shutdown.cancel();
    }

    /// The `KonigleSpace` API of a resource's namespace.
    #[must_use]
    pub fn spaces(&self, resource: &KonigleSpace) -> Api<KonigleSpace> {
        Api::namespaced(self.api.clone(), &resource.namespace().unwrap_or_default())
    }

    /// A resource of the watched namespaces, as the watch last told it.
    #[must_use]
    pub fn known(&self, namespace: &str, name: &str) -> Option<Arc<Watched>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// All resources of the watched namespaces, shared with the store.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Watched>> {
        self.store.state()
    }
}

/// Those of them that can be read.
pub fn readable(all: &[Arc<Watched>]) -> impl Iterator<Item = &KonigleSpace> {
    all.iter().filter_map(|guard| guard.0.as_ref().ok())
}

/// How the process is asked to end.
#[derive(Clone, Default)]
pub struct Stop {
    /// Nothing new is begun.
    pub shutdown: CancellationToken,
    /// Nothing is waited for any longer.
    pub last_call: CancellationToken,
    /// The end is a failure.
    pub failed: CancellationToken,
}
