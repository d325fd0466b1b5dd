//! Which Spaces a resource's releases touch: two resources must never release to one pair of Spaces at once.
//!
//! Pure. Age decides only who is Stalled ([`conflict`]), never who releases: whoever sees another's open attempt gives
//! way, so that of two that claim at the same moment at most one goes on.

use std::cmp::Reverse;

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::api::{Attempt, AttemptType, KonigleSpace, KonigleSpaceStatus};
use crate::reason::Reason;

/// What other resources must know of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Promotions: the uat resource of the same namespace.
    pub promotes_from: Option<String>,
    /// Where its open attempt was sent to; empty where that is not known.
    pub base_url: String,
    /// The ids of the Spaces that it names, changes or copies from.
    pub spaces: Vec<String>,
    /// The id of its web app; empty where the API does not tell it.
    pub webapp: String,
    /// Its open attempt.
    pub releasing: Option<AttemptType>,
    /// The nonce of its open attempt, where that its outcome cannot be known was said already; a person may take days to
    /// answer it. So it holds up others only until nothing can come of its request any more.
    pub undecided: Option<String>,
}

impl Footprint {
    /// The footprint of a resource.
    #[must_use]
    pub fn of(resource: &KonigleSpace) -> Self {
        let status = resource.status.as_ref();
        let space = status.and_then(|status| status.space.as_ref());
        let mut footprint = Self {
            namespace: resource.namespace().unwrap_or_default(),
            name: resource.name_any(),
            uid: resource.meta().uid.clone().unwrap_or_default(),
            promotes_from: resource.spec.promotion.as_ref().map(|promotion| promotion.from.name.clone()),
            base_url: String::new(),
            spaces: Vec::new(),
            webapp: space.map(|space| space.webapp.clone()).unwrap_or_default(),
            releasing: None,
            undecided: None,
        };
        footprint.names(resource.spec.space.id.as_deref());
        footprint.names(space.map(|space| space.id.as_str()));
        if let Some(attempt) = status.and_then(|status| status.attempt.as_ref()) {
            let stalled = status.and_then(|status| status.condition("Stalled")).filter(|known| known.status == "True");
            footprint.touches(attempt, stalled.map(|stalled| stalled.reason.as_str()));
        }
        footprint
    }

    /// It names this Space too.
    pub fn names(&mut self, space_id: Option<&str>) {
        if let Some(id) = space_id.filter(|id| !id.is_empty() && !self.spaces.iter().any(|known| known == id)) {
            self.spaces.push(id.to_owned());
        }
    }

    /// It has this open attempt, and is Stalled for this reason, if it is.
    pub fn touches(&mut self, attempt: &Attempt, stalled: Option<&str>) {
        self.base_url.clone_from(&attempt.sent_to.base_url);
        self.names(Some(&attempt.sent_to.space_id));
        self.names(attempt.baseline.source.as_ref().map(|source| source.space_id.as_str()));
        self.releasing = Some(attempt.attempt_type);
        let undecided = stalled.and_then(Reason::of) == Some(Reason::OutcomeUnknown);
        self.undecided = undecided.then(|| attempt.nonce.clone());
    }

    /// Whether the other promotes from this one, and is at it.
    #[must_use]
    pub fn is_promoted_by(&self, other: &Self) -> bool {
        other.releasing == Some(AttemptType::Promote)
            && other.namespace == self.namespace
            && other.promotes_from.as_ref() == Some(&self.name)
    }

    /// Whether the other has to do with a Space of this one, or with the other half of its pair.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let known = |one: &str, two: &str| !one.is_empty() && !two.is_empty();
        let elsewhere = known(&self.base_url, &other.base_url) && self.base_url != other.base_url;
        let one_web_app = known(&self.webapp, &other.webapp) && self.webapp == other.webapp;
        other.uid != self.uid
            && !elsewhere
            && (one_web_app || self.spaces.iter().any(|space| other.spaces.contains(space)))
    }

    /// Whether the other may turn out to meet this one: it names its Space by words, which are not resolved yet.
    #[must_use]
    pub fn may_meet(&self, other: &Self) -> bool {
        other.uid != self.uid && other.spaces.is_empty()
    }

    /// Whether the other's open attempt is on a Space of this one, or on the other half of its pair.
    #[must_use]
    pub fn gives_way_to(&self, other: &Self) -> bool {
        other.releasing.is_some() && (self.is_promoted_by(other) || self.meets(other))
    }

    /// Its name for people: `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Another resource for the same Space that goes before this one: it has an open attempt, or it is older.
#[must_use]
pub fn conflict<'a>(
    all: impl Iterator<Item = &'a KonigleSpace>,
    resource: &KonigleSpace,
    space_id: &str,
) -> Option<String> {
    let space_of = |other: &KonigleSpace| other.status.as_ref()?.space.as_ref().map(|space| space.id == space_id);
    all.filter(|other| space_of(other) == Some(true))
        .find(|other| other.meta().uid != resource.meta().uid && rank(other) < rank(resource))
        .map(|other| Footprint::of(other).full_name())
}

/// Orders the resources of one Space: an open attempt goes first, then age. Of two that were made in the same second the
/// one that has released there is not displaced by the other; at last their UIDs settle the tie.
fn rank(resource: &KonigleSpace) -> (Reverse<bool>, Option<Timestamp>, Reverse<bool>, Option<&str>) {
    let metadata = resource.meta();
    let has = |fact: fn(&KonigleSpaceStatus) -> bool| Reverse(resource.status.as_ref().is_some_and(fact));
    (
        has(|status| status.attempt.is_some()),
        metadata.creation_timestamp.as_ref().map(|time| time.0),
        has(|status| status.release.is_some()),
        metadata.uid.as_deref(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn resource(name: &str, spec: &Value, status: &Value) -> Footprint {
        let resource = serde_json::from_value(json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-of-{name}")},
            "spec": spec, "status": status,
        }));
        Footprint::of(&resource.unwrap())
    }

    fn named(space: &str) -> Value {
        json!({"space": {"id": space}, "credentials": {"secretRef": {"name": "konigle"}}})
    }

    fn uat() -> Footprint {
        resource("uat", &named("1"), &json!({"space": {"id": "1", "webapp": "9"}}))
    }

    #[test]
    fn who_gives_way_to_whom() {
        let attempt = |kind: &str, space: &str| json!({"type": kind, "number": 1, "sentTo": {"spaceID": space}});
        let other = |status: Value| resource("other", &named("1"), &status);
        let mut from = named("2");
        from["promotion"] = json!({"from": {"name": "uat"}});
        let rows = [
            (other(json!({"space": {"id": "1"}})), false, "it names the same Space, and rests"),
            (other(json!({"space": {"id": "1"}, "attempt": attempt("Deploy", "1")})), true, "it deploys there"),
            (other(json!({"attempt": attempt("Deploy", "1")})), true, "by what it sent alone"),
            (resource("other", &named("7"), &json!({"attempt": attempt("Deploy", "7")})), false, "elsewhere"),
            (
                other(json!({"space": {"id": "7", "webapp": "9"}, "attempt": attempt("Promote", "7")})),
                true,
                "the other half of the pair, by the web app",
            ),
            (
                other(
                    json!({"attempt": {"type": "Promote", "sentTo": {"spaceID": "7"}, "baseline": {"source": {"spaceID": "1"}}}}),
                ),
                true,
                "it copies from this Space",
            ),
            (resource("new", &from, &json!({"attempt": {"type": "Promote"}})), true, "it promotes from this resource"),
            (resource("new", &from, &json!({})), false, "it would promote, but does not yet"),
            (Footprint { uid: uat().uid, ..other(json!({"attempt": attempt("Deploy", "1")})) }, false, "itself"),
        ];
        for (other, gives_way, why) in rows {
            assert_eq!(uat().gives_way_to(&other), gives_way, "{why}: {other:?}");
        }
    }

    #[test]
    fn what_waits_for_a_persons_word_says_so() {
        let stalled = |reason: &str, status: &str| {
            let conditions = json!([{"type": "Stalled", "status": status, "reason": reason}]);
            let attempt = json!({"type": "Deploy", "nonce": "k1"});
            resource("other", &named("1"), &json!({"attempt": attempt, "conditions": conditions})).undecided
        };
        assert_eq!(stalled("OutcomeUnknown", "True").as_deref(), Some("k1"));
        assert_eq!(stalled("OutcomeUnknown", "False"), None);
        assert_eq!(stalled("CredentialsRejected", "True"), None, "what it waits for says nothing of its request");
    }

    #[test]
    fn equal_ids_on_two_servers_are_two_spaces() {
        let at = |base_url: &str, name: &str| Footprint {
            base_url: base_url.to_owned(),
            uid: name.to_owned(),
            releasing: Some(AttemptType::Deploy),
            ..uat()
        };
        assert!(at("https://one", "a").gives_way_to(&at("https://one", "b")));
        assert!(!at("https://one", "a").gives_way_to(&at("https://two", "b")));
        assert!(at("", "a").gives_way_to(&at("https://two", "b")), "not known: the careful answer");
    }

    fn made(second: u8, uid: &str, status: &Value) -> KonigleSpace {
        serde_json::from_value(json!({
            "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
            "metadata": {"name": uid, "uid": uid, "creationTimestamp": format!("2026-11-24T09:00:0{second}Z")},
            "spec": {"space": {"id": "1"}, "credentials": {"secretRef": {"name": "konigle"}}}, "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn who_goes_first_of_the_resources_of_one_space() {
        let (rests, open) = (json!({}), json!({"attempt": {"number": 1}}));
        let released = json!({"release": {"digest": "sha256:aa"}});
        let rows = vec![
            (made(1, "b", &rests), made(2, "a", &rests), "the older"),
            (made(2, "b", &open), made(1, "a", &released), "one with an open attempt, whatever its age"),
            (made(1, "b", &released), made(1, "a", &rests), "of one second, the one that has released there"),
            (made(1, "a", &rests), made(1, "b", &rests), "at last by UID"),
            (made(1, "a", &rests), made(2, "b", &released), "the older, whatever the younger did"),
        ];
        for (first, second, why) in rows {
            assert!(rank(&first) < rank(&second), "{why}");
        }
    }
}
