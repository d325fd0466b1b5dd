//! Rights: those that roles give to an account, and those that it used, as the API server's audit log tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::Client;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};

use crate::support::{Context, Failure, Result};

/// Everywhere, or of any name.
const ANY: &str = "*";

/// One verb on one kind of object, in one namespace or in all, of one name or of any.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Right {
    resource: String,
    verb: String,
    namespace: String,
    name: String,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.namespace == ANY { "all namespaces" } else { &self.namespace };
        write!(formatter, "{:6} {:32} in {place}", self.verb, self.resource)?;
        if self.name == ANY { Ok(()) } else { write!(formatter, ", of the name {}", self.name) }
    }
}

/// A ServiceAccount.
pub(crate) struct Account<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Account<'_> {
    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    fn is(&self, subject: &Subject) -> bool {
        subject.kind == "ServiceAccount"
            && subject.name == self.name
            && subject.namespace.as_deref() == Some(self.namespace)
    }

    /// The rights that the cluster's roles give to this very account; what every account has is not among them.
    pub(crate) async fn granted(&self, client: &Client) -> Result<BTreeSet<Right>> {
        let everything = ListParams::default();
        let mut rights = BTreeSet::new();
        for binding in Api::<ClusterRoleBinding>::all(client.clone()).list(&everything).await? {
            if binding.subjects.iter().flatten().any(|subject| self.is(subject)) {
                add(&mut rights, ANY, &rules(client, &binding.role_ref, None).await?)?;
            }
        }
        for binding in Api::<RoleBinding>::all(client.clone()).list(&everything).await? {
            if binding.subjects.iter().flatten().any(|subject| self.is(subject)) {
                let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
                add(&mut rights, namespace, &rules(client, &binding.role_ref, Some(namespace)).await?)?;
            }
        }
        Ok(rights)
    }

    /// Whether the API server's authoriser, which hears of new roles a moment later, knows all of them.
    pub(crate) async fn may_all(&self, client: &Client, rights: &BTreeSet<Right>) -> Result<bool> {
        for right in rights {
            let (resource, group) = right.resource.split_once('.').unwrap_or((&right.resource, ""));
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let unless_any = |text: &str| if text == ANY { String::new() } else { text.to_owned() };
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
                "spec": {"user": self.user(), "resourceAttributes": {
                    "namespace": unless_any(&right.namespace), "name": unless_any(&right.name), "verb": right.verb,
                    "group": group, "resource": resource, "subresource": subresource,
                }},
            });
            let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
            let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
            if !answer.status.is_some_and(|status| status.allowed) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What this account asked the API server for.
    pub(crate) fn used(&self, audit_log: &Path) -> Result<Used> {
        let text = std::fs::read_to_string(audit_log).context("reading the audit log")?;
        let mut used = Used::default();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).context("reading a line of the audit log")?;
            if event["user"]["username"] == self.user().as_str() {
                used.add(&event);
            }
        }
        Ok(used)
    }
}

async fn rules(client: &Client, reference: &RoleRef, namespace: Option<&str>) -> Result<Vec<PolicyRule>> {
    let rules = match (reference.kind.as_str(), namespace) {
        ("ClusterRole", _) => Api::<ClusterRole>::all(client.clone()).get(&reference.name).await?.rules,
        (_, Some(namespace)) => Api::<Role>::namespaced(client.clone(), namespace).get(&reference.name).await?.rules,
        (kind, None) => return Err(Failure::new(format!("a {kind} is bound in the whole cluster"))),
    };
    Ok(rules.unwrap_or_default())
}

fn add(rights: &mut BTreeSet<Right>, namespace: &str, rules: &[PolicyRule]) -> Result<()> {
    for rule in rules {
        if rule.non_resource_urls.is_some() {
            return Err(Failure::new("a role grants URLs that are no resources"));
        }
        let names =
            rule.resource_names.clone().filter(|names| !names.is_empty()).unwrap_or_else(|| vec![ANY.to_owned()]);
        for group in rule.api_groups.iter().flatten() {
            for (resource, name) in
                rule.resources.iter().flatten().flat_map(|resource| names.iter().map(move |name| (resource, name)))
            {
                rights.extend(rule.verbs.iter().map(|verb| Right {
                    resource: qualified(resource, group),
                    verb: verb.clone(),
                    namespace: namespace.to_owned(),
                    name: name.clone(),
                }));
            }
        }
    }
    Ok(())
}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

/// What an account asked for.
#[derive(Default)]
pub(crate) struct Used {
    /// Of each resource and verb: the namespaces, empty for a request over all of them, and the names.
    requests: BTreeMap<(String, String), BTreeSet<(String, String)>>,
    /// What is no resource, such as the `OpenAPI` documents: open to every account that is known.
    pub(crate) urls: BTreeSet<String>,
    /// What was refused for want of a right.
    pub(crate) forbidden: Vec<String>,
}

impl Used {
    fn add(&mut self, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (verb, target) = (text(&event["verb"]), &event["objectRef"]);
        if event["responseStatus"]["code"] == 403 {
            self.forbidden.push(format!("{verb} {}", text(&event["requestURI"])));
        }
        if target.is_null() {
            let uri = text(&event["requestURI"]);
            self.urls.insert(uri.split('?').next().unwrap_or_default().to_owned());
            return;
        }
        let (resource, subresource) = (text(&target["resource"]), text(&target["subresource"]));
        let resource = if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") };
        let resource = qualified(&resource, &text(&target["apiGroup"]));
        self.requests.entry((resource, verb)).or_default().insert((text(&target["namespace"]), text(&target["name"])));
    }

    /// The rights that these requests needed, in the words of roles: a verb that was used over all namespaces, or in more than
    /// one, needs all of them. Names count where `granted` names any.
    pub(crate) fn rights(&self, granted: &BTreeSet<Right>) -> BTreeSet<Right> {
        let is_by_name = |resource: &str, verb: &str| {
            granted.iter().any(|right| right.resource == resource && right.verb == verb && right.name != ANY)
        };
        let mut rights = BTreeSet::new();
        for ((resource, verb), places) in &self.requests {
            let namespaces: BTreeSet<&String> = places.iter().map(|(namespace, _)| namespace).collect();
            let only = namespaces.first().filter(|first| namespaces.len() == 1 && !first.is_empty());
            for (_, name) in places {
                rights.insert(Right {
                    resource: resource.clone(),
                    verb: verb.clone(),
                    namespace: only.map_or(ANY, |only| only.as_str()).to_owned(),
                    name: if is_by_name(resource, verb) { name.clone() } else { ANY.to_owned() },
                });
            }
        }
        rights
    }
}
