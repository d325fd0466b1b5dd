//! Who has an open attempt in a namespace, from a live list that passes share.
//!
//! Every release needs such a list. Many deploys at once would each list all resources, so whoever asks while one list is
//! under way waits for the next, together with all others who asked by then. Nobody is told less than a list of his own
//! would tell: each gets one that was begun after he asked. Of each resource only what matters here is decoded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;

use crate::api::{Attempt, KonigleSpace};
use crate::cluster::within;
use crate::footprint::Footprint;

/// The newest list of each namespace.
#[derive(Debug, Default)]
pub struct LiveLists {
    namespaces: Mutex<HashMap<String, Arc<Newest>>>,
}

type Newest = tokio::sync::Mutex<Option<Taken>>;

/// What one list told, its failure too: all who waited for it would fail in the same way, one after the other.
#[derive(Debug)]
struct Taken {
    begun: Instant,
    outcome: Result<Arc<[Footprint]>, String>,
}

impl LiveLists {
    /// The resources of a namespace with an open attempt, from a list that is begun after this call.
    ///
    /// # Errors
    ///
    /// Why there is no list, in words.
    pub async fn releasing(&self, client: &Client, namespace: &str) -> Result<Arc<[Footprint]>, String> {
        let asked = Instant::now();
        let newest = {
            let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(namespaces.entry(namespace.to_owned()).or_default())
        };
        let mut newest = newest.lock().await;
        if let Some(taken) = newest.as_ref().filter(|taken| taken.begun >= asked) {
            return taken.outcome.clone();
        }
        let begun = Instant::now();
        let outcome = list(client, namespace).await;
        *newest = Some(Taken { begun, outcome: outcome.clone() });
        outcome
    }
}

async fn list(client: &Client, namespace: &str) -> Result<Arc<[Footprint]>, String> {
    let request = Request::new(KonigleSpace::url_path(&(), Some(namespace))).list(&ListParams::default());
    let request = request.map_err(|error| error.to_string())?;
    let list = within("list KonigleSpaces", client.request::<List>(request)).await;
    Ok(list.map_err(|error| error.to_string())?.releasing(namespace).collect())
}

#[derive(Deserialize)]
struct List {
    items: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
    spec: Spec,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    uid: String,
}

#[derive(Deserialize)]
struct Spec {
    promotion: Option<Promotion>,
}

#[derive(Deserialize)]
struct Promotion {
    from: Source,
}

#[derive(Deserialize)]
struct Source {
    name: String,
}

#[derive(Deserialize)]
struct Status {
    attempt: Option<Attempt>,
    space: Option<Space>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Space {
    #[serde(default)]
    id: String,
    #[serde(default)]
    webapp: String,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
    reason: String,
}

impl List {
    /// Those with an open attempt. One resource that cannot be read must not keep all others from being released.
    fn releasing(self, namespace: &str) -> impl Iterator<Item = Footprint> {
        let footprint = move |item| serde_json::from_value::<Item>(item).ok()?.footprint(namespace);
        self.items.into_iter().filter_map(footprint)
    }
}

impl Item {
    /// As [`Footprint::of`], from the few fields that matter here.
    fn footprint(self, namespace: &str) -> Option<Footprint> {
        let status = self.status?;
        let attempt = status.attempt?;
        let mut footprint = Footprint {
            namespace: namespace.to_owned(),
            name: self.metadata.name,
            uid: self.metadata.uid,
            promotes_from: self.spec.promotion.map(|promotion| promotion.from.name),
            ..Footprint::default()
        };
        if let Some(space) = status.space {
            footprint.names(Some(&space.id));
            footprint.webapp = space.webapp;
        }
        let stalled = status.conditions.iter().find(|known| known.r#type == "Stalled" && known.status == "True");
        footprint.touches(&attempt, stalled.map(|stalled| stalled.reason.as_str()));
        Some(footprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AttemptType;
    use serde_json::json;

    #[test]
    fn only_open_attempts_count() {
        let items = json!([
            {"metadata": {"name": "uat", "uid": "1"}, "spec": {"source": {}},
             "status": {"attempt": {"type": "Deploy", "sentTo": {"baseURL": "https://k", "spaceID": "71"}},
                        "space": {"id": "71", "webapp": "9"}}},
            {"metadata": {"name": "new"}, "spec": {"promotion": {"from": {"name": "uat"}}}},
            {"metadata": {"name": "idle"}, "spec": {"promotion": {"from": {"name": "uat"}}}, "status": {"lastAttempt": 1}},
            {"metadata": {"name": "busy", "uid": "2"}, "spec": {"promotion": {"from": {"name": "uat"}, "policy": "Manual"}},
             "status": {"attempt": {"type": "Promote", "number": 1, "baseline": {"source": {"spaceID": "71"}}}}},
            {"metadata": {"name": "odd"}, "spec": {"promotion": "uat"}, "status": {"attempt": 7}},
            {"metadata": {"name": "undecided"}, "spec": {"promotion": {"from": {"name": "uat"}}},
             "status": {"attempt": {"type": "Promote"},
                        "conditions": [{"type": "Stalled", "status": "True", "reason": "OutcomeUnknown"}]}},
        ]);
        let list: List = serde_json::from_value(json!({"kind": "KonigleSpaceList", "items": items})).unwrap();
        let releasing: Vec<Footprint> = list.releasing("shop").collect();
        let uat = Footprint {
            namespace: "shop".to_owned(),
            name: "uat".to_owned(),
            uid: "1".to_owned(),
            base_url: "https://k".to_owned(),
            spaces: vec!["71".to_owned()],
            webapp: "9".to_owned(),
            releasing: Some(AttemptType::Deploy),
            promotes_from: None,
            undecided: None,
        };
        let busy = Footprint {
            name: "busy".to_owned(),
            uid: "2".to_owned(),
            base_url: String::new(),
            webapp: String::new(),
            releasing: Some(AttemptType::Promote),
            promotes_from: Some("uat".to_owned()),
            ..uat.clone()
        };
        assert_eq!(releasing[..2], [uat, busy]);
        assert_eq!((releasing.len(), releasing[2].undecided.is_some()), (3, true), "a person's word is awaited");
    }
}
