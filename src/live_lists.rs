//! The open promotions of a namespace, from a live list that passes share.
//!
//! Every deploy needs such a list. Many deploys at once would each list all resources, so whoever asks while one list is
//! under way waits for the next, together with all others who asked by then. Nobody is told less than a list of his own
//! would tell: each gets one that was begun after he asked. Of each resource only what matters here is decoded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kube::api::ListParams;
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;

use crate::api::KonigleSpace;
use crate::cluster::within;

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
    outcome: Result<Arc<[Promotion]>, String>,
}

/// A resource with an open promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Its name.
    pub name: String,
    /// The name of the resource that it promotes from.
    pub from: String,
}

impl LiveLists {
    /// The open promotions of a namespace, from a list that is begun after this call.
    ///
    /// # Errors
    ///
    /// Why there is no list, in words.
    pub async fn promotions(&self, client: &Client, namespace: &str) -> Result<Arc<[Promotion]>, String> {
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

async fn list(client: &Client, namespace: &str) -> Result<Arc<[Promotion]>, String> {
    let request = Request::new(KonigleSpace::url_path(&(), Some(namespace))).list(&ListParams::default());
    let request = request.map_err(|error| error.to_string())?;
    let list = within("list KonigleSpaces", client.request::<List>(request)).await;
    Ok(list.map_err(|error| error.to_string())?.promotions().collect())
}

#[derive(Deserialize)]
struct List {
    items: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Item {
    metadata: Name,
    spec: Spec,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    promotion: Option<Source>,
}

#[derive(Deserialize)]
struct Source {
    from: Name,
}

#[derive(Deserialize)]
struct Status {
    attempt: Option<Attempt>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    reason: String,
}

#[derive(Deserialize)]
struct Attempt {
    r#type: Option<String>,
}

impl List {
    /// The open promotions. One resource that cannot be read must not keep all others from being deployed.
    fn promotions(self) -> impl Iterator<Item = Promotion> {
        self.items.into_iter().filter_map(|item| serde_json::from_value::<Item>(item).ok()?.promotion())
    }
}

impl Item {
    /// An open promotion, unless its outcome stays unknown: that is said only when nothing can come of its request any
    /// more, and a person may take days to answer it. Where it is said for another reason, the hold still stands.
    fn promotion(self) -> Option<Promotion> {
        let from = self.spec.promotion?.from.name;
        let status = self.status?;
        let promotes = status.attempt?.r#type.as_deref() == Some("Promote");
        let mut conditions = status.conditions.iter();
        let undecided = conditions.any(|known| known.r#type == "Stalled" && known.reason == "OutcomeUnknown");
        (promotes && !undecided).then_some(Promotion { name: self.metadata.name, from })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_open_promotions_count() {
        let list = json!({"kind": "KonigleSpaceList", "items": [
            {"metadata": {"name": "uat", "uid": "1"}, "spec": {"source": {}}, "status": {"attempt": {"type": "Deploy"}}},
            {"metadata": {"name": "new"}, "spec": {"promotion": {"from": {"name": "uat"}}}},
            {"metadata": {"name": "idle"}, "spec": {"promotion": {"from": {"name": "uat"}}}, "status": {"lastAttempt": 1}},
            {"metadata": {"name": "busy"}, "spec": {"promotion": {"from": {"name": "uat"}, "policy": "Manual"}},
             "status": {"attempt": {"type": "Promote", "number": 1}}},
            {"metadata": {"name": "odd"}, "spec": {"promotion": "uat"}, "status": {"attempt": 7}},
            {"metadata": {"name": "undecided"}, "spec": {"promotion": {"from": {"name": "uat"}}},
             "status": {"attempt": {"type": "Promote"}, "conditions": [{"type": "Stalled", "reason": "OutcomeUnknown"}]}},
        ]});
        let list: List = serde_json::from_value(list).unwrap();
        let promotions: Vec<Promotion> = list.promotions().collect();
        assert_eq!(promotions, [Promotion { name: "busy".to_owned(), from: "uat".to_owned() }]);
    }
}
