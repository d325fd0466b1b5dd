//! What changes, as it changes: the KonigleSpaces that are meant, always all of them as they are now.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};

use super::arguments::Selection;
use super::connection::Connection;
use super::failure::{Failure, from_kube};
use super::screen::{Mark, Screen};
use crate::api::{KonigleSpace, Watched};
use crate::cluster::WATCH_SECONDS;

type Events = Pin<Box<dyn Stream<Item = watcher::Result<Event<Watched>>> + Send>>;

/// The KonigleSpaces that are meant, as they are now.
pub struct Following<'a> {
    connection: &'a Connection,
    screen: &'a Screen,
    events: Events,
    names: Vec<String>,
    all: BTreeMap<Key, KonigleSpace>,
    listed: BTreeMap<Key, KonigleSpace>,
    /// Whether all were told at least once.
    is_complete: bool,
    /// Whether the connection is known to be broken.
    is_broken: bool,
}

type Key = (String, String);

impl<'a> Following<'a> {
    /// Begins to follow.
    pub fn new(connection: &'a Connection, screen: &'a Screen, selection: &Selection) -> Self {
        let spaces: Api<Watched> = if selection.all_namespaces {
            Api::all(connection.watching.clone())
        } else {
            Api::namespaced(connection.watching.clone(), &connection.namespace)
        };
        let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
        config.label_selector.clone_from(&selection.selector);
        if let [name] = &selection.names[..] {
            config = config.fields(&format!("metadata.name={name}"));
        }
        Self {
            connection,
            screen,
            events: Box::pin(watcher(spaces, config).default_backoff()),
            names: selection.names.clone(),
            all: BTreeMap::new(),
            listed: BTreeMap::new(),
            is_complete: false,
            is_broken: false,
        }
    }

    /// All of them as they are now.
    pub fn now(&self) -> impl Iterator<Item = &KonigleSpace> {
        self.all.values()
    }

    /// Waits for the next change. The first one is that all are known.
    ///
    /// # Errors
    ///
    /// Where the API server will not tell. A connection that breaks later is made anew.
    pub async fn changed(&mut self) -> Result<(), Failure> {
        loop {
            match self.events.next().await {
                Some(Ok(event)) => {
                    self.is_broken = false;
                    if self.take(event) {
                        return Ok(());
                    }
                }
                Some(Err(error)) => self.note(&error)?,
                None => return Err(Failure::cluster("the API server ended the watch: run the command again")),
            }
        }
    }

    /// As [`Following::changed`], at most so long. Whether there was a change.
    pub async fn changed_within(&mut self, limit: Duration) -> Result<bool, Failure> {
        match tokio::time::timeout(limit, self.changed()).await {
            Ok(changed) => changed.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Whether something is to be told.
    fn take(&mut self, event: Event<Watched>) -> bool {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(DeserializeGuard(Ok(space))) if self.is_meant(&space) => {
                self.listed.insert(key(&space), space);
            }
            Event::InitDone => {
                self.all = std::mem::take(&mut self.listed);
                self.is_complete = true;
                return true;
            }
            Event::Apply(DeserializeGuard(Ok(space))) if self.is_meant(&space) => {
                self.all.insert(key(&space), space);
                return true;
            }
            Event::Delete(DeserializeGuard(Ok(space))) => return self.all.remove(&key(&space)).is_some(),
            // One that cannot be read tells nothing; the operator's log says why.
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {}
        }
        false
    }

    fn is_meant(&self, space: &KonigleSpace) -> bool {
        self.names.is_empty() || self.names.contains(&space.name_any())
    }

    fn note(&mut self, error: &watcher::Error) -> Result<(), Failure> {
        let cause = match error {
            watcher::Error::InitialListFailed(cause)
            | watcher::Error::WatchStartFailed(cause)
            | watcher::Error::WatchFailed(cause) => cause,
            // The version that is watched from is too old: all are listed anew.
            watcher::Error::WatchError(_) => return Ok(()),
            watcher::Error::NoResourceVersion => {
                return Err(Failure::cluster("the API server told no resourceVersion: it cannot be watched"));
            }
        };
        let refused = matches!(cause, kube::Error::Api(status) if matches!(status.code, 400..=404));
        let failure = from_kube(&self.connection.server, cause);
        if refused || !self.is_complete {
            return Err(failure);
        }
        if !self.is_broken {
            self.screen.say(Mark::Warning, &format!("{}; tried again", failure.message));
        }
        self.is_broken = true;
        Ok(())
    }
}

fn key(space: &KonigleSpace) -> Key {
    (space.namespace().unwrap_or_default(), space.name_any())
}
