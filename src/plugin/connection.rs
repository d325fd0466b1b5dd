//! The API server, with the rights of whoever runs the plugin: reads and guarded writes of KonigleSpaces.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

use super::arguments::{Global, Selection};
use super::failure::{Failure, from_call};
use crate::api::{KonigleSpace, Watched};
use crate::cluster::{Clients, ClusterError, within};

/// Who the API server is told to have written a field.
/// Not `kubectl-konigle`: Flux takes back what managers set whose name begins with `kubectl`.
pub const FIELD_MANAGER: &str = "konigle-plugin";

/// A cluster, and the namespace that is meant.
pub struct Connection {
    /// For reads and writes.
    pub client: Client,
    /// For watches.
    pub watching: Client,
    /// The API server's address, for messages.
    pub server: String,
    /// The namespace.
    pub namespace: String,
}

impl Connection {
    /// By the flags, the kubeconfig, or the pod's own account.
    pub async fn open(global: &Global) -> Result<Self, Failure> {
        let mut config = config(global).await?;
        if global.impersonate.is_some() {
            config.auth_info.impersonate.clone_from(&global.impersonate);
            config.auth_info.impersonate_groups = Some(global.impersonate_groups.clone());
        }
        let clients = Clients::new(&config).map_err(|error| {
            Failure::cluster(format!("the kubeconfig cannot be used: {error}; choose another --context"))
        })?;
        Ok(Self {
            client: clients.api,
            watching: clients.watch,
            server: config.cluster_url.to_string().trim_end_matches('/').to_owned(),
            namespace: global.namespace.clone().unwrap_or(config.default_namespace),
        })
    }

    /// The KonigleSpaces of the namespace.
    pub fn spaces(&self) -> Api<KonigleSpace> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Those that are meant, by namespace and name. One that cannot be read is left out.
    pub async fn list(&self, selection: &Selection) -> Result<Vec<KonigleSpace>, Failure> {
        let spaces: Api<Watched> = if selection.all_namespaces {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        };
        let mut params = ListParams::default();
        params.label_selector.clone_from(&selection.selector);
        let listed = within("list KonigleSpaces", spaces.list(&params)).await.map_err(|error| self.failure(&error))?;
        let mut all: Vec<KonigleSpace> =
            listed.items.into_iter().filter_map(|DeserializeGuard(space)| space.ok()).collect();
        all.sort_by_key(|space| (space.namespace(), space.name_any()));
        if all.is_empty() && !selection.all_namespaces {
            self.namespace_is_there().await?;
        }
        if selection.names.is_empty() {
            return Ok(all);
        }
        let found = |name: &String| {
            let space = all.iter().find(|space| space.name_any() == *name).cloned();
            space.ok_or_else(|| self.unknown(name, &all))
        };
        selection.names.iter().map(found).collect()
    }

    /// Whoever misspells a namespace is told so, where the rights allow to know.
    async fn namespace_is_there(&self) -> Result<(), Failure> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match within("read a Namespace", namespaces.get_metadata(&self.namespace)).await {
            Err(error) if error.code() == Some(404) => {
                Err(Failure::cluster(format!("there is no namespace {}: see -n and -A", self.namespace)))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Where those are looked for that are meant.
    pub fn place(&self, selection: &Selection) -> String {
        place(selection, &self.namespace)
    }

    /// One of them, and all of its namespace.
    pub async fn one(&self, name: &str) -> Result<(KonigleSpace, Vec<KonigleSpace>), Failure> {
        let all = self.list(&Selection::default()).await?;
        let one = all.iter().find(|space| space.name_any() == name).cloned();
        Ok((one.ok_or_else(|| self.unknown(name, &all))?, all))
    }

    /// Sets one of our annotations.
    pub async fn annotate(&self, name: &str, annotation: &str, value: &str) -> Result<KonigleSpace, Failure> {
        self.merge("set an annotation", name, &json!({"metadata": {"annotations": {annotation: value}}})).await
    }

    /// Changes some fields.
    pub async fn merge(&self, what: &'static str, name: &str, change: &Value) -> Result<KonigleSpace, Failure> {
        self.patch(what, name, &Patch::Merge(change.clone())).await.map_err(|error| self.failure(&error))
    }

    /// Any patch; the caller knows what a refusal means.
    pub async fn patch(
        &self,
        what: &'static str,
        name: &str,
        patch: &Patch<Value>,
    ) -> Result<KonigleSpace, ClusterError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        within(what, self.spaces().patch(name, &params, patch)).await
    }

    /// Why a call brought nothing, with what to do.
    pub fn failure(&self, error: &ClusterError) -> Failure {
        from_call(&self.server, error)
    }

    fn unknown(&self, name: &str, all: &[KonigleSpace]) -> Failure {
        let names: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
        Failure::cluster(no_such(name, &self.namespace, &names))
    }
}

fn place(selection: &Selection, namespace: &str) -> String {
    let labels = selection.selector.as_ref().map(|labels| format!("with the labels {labels} ")).unwrap_or_default();
    if selection.all_namespaces {
        format!("{labels}in the cluster")
    } else {
        format!("{labels}in namespace {namespace}")
    }
}

/// That there is no such KonigleSpace, and which one may be meant.
fn no_such(name: &str, namespace: &str, names: &[String]) -> String {
    let advice = match nearest(name, names.iter().map(String::as_str)) {
        Some(known) => format!("did you mean {known}?"),
        None if names.is_empty() => "there is none at all there: see -n and -A".to_owned(),
        None => format!("there are: {}", names.join(", ")),
    };
    format!("there is no KonigleSpace {name} in namespace {namespace}; {advice}")
}

/// The known name that may be meant by another, if one is near.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = known.into_iter().map(|known| (strsim::damerau_levenshtein(name, known), known));
    let is_near =
        |(distance, known): &(usize, &str)| *distance <= name.len().max(known.len()) / 3 || known.starts_with(name);
    known.filter(is_near).min().map(|(_, known)| known)
}

async fn config(global: &Global) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
    if let Some(file) = &global.kubeconfig {
        let broken = |error: &dyn std::fmt::Display| {
            Failure::cluster(format!("the kubeconfig {} cannot be used: {}", file.display(), first_line(error)))
        };
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| broken(&error))?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| {
            match (&global.context, error) {
                (Some(context), KubeconfigError::LoadContext(_)) => no_context(context),
                (_, error) => broken(&error),
            }
        });
    }
    let from_file = match Config::from_kubeconfig(&options).await {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if let (Some(context), KubeconfigError::LoadContext(_)) = (&global.context, &from_file) {
        return Err(no_context(context));
    }
    let in_pod = if global.context.is_none() { Config::incluster().ok() } else { None };
    in_pod.ok_or_else(|| {
        let why = first_line(&from_file);
        Failure::cluster(format!(
            "there is no kubeconfig that can be used ({why}): set KUBECONFIG, or write --kubeconfig FILE"
        ))
    })
}

fn no_context(context: &str) -> Failure {
    Failure::cluster(format!(
        "the kubeconfig has no context {context}: `kubectl config get-contexts` lists those that it has"
    ))
}

/// A broken YAML is told of in many lines, with a picture of the place.
fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let names = ["shop-uat", "shop-production", "blog-uat"].map(str::to_owned);
        for (name, advice) in [
            ("shop-uta", "did you mean shop-uat?"),
            ("shop", "did you mean shop-uat?"),
            ("shop-prodction", "did you mean shop-production?"),
            ("blog-uat2", "did you mean blog-uat?"),
            ("api", "there are: shop-uat, shop-production, blog-uat"),
        ] {
            let text = no_such(name, "shop", &names);
            assert_eq!(text, format!("there is no KonigleSpace {name} in namespace shop; {advice}"));
        }
        assert!(no_such("shop-uat", "other", &[]).ends_with("see -n and -A"));
    }

    #[test]
    fn a_place_is_told_with_its_labels() {
        let told = |all_namespaces, selector: Option<&str>| {
            let selector = selector.map(str::to_owned);
            place(&Selection { all_namespaces, selector, ..Selection::default() }, "shop")
        };
        assert_eq!(told(false, None), "in namespace shop");
        assert_eq!(told(true, None), "in the cluster");
        assert_eq!(told(true, Some("team=shop")), "with the labels team=shop in the cluster");
        assert_eq!(told(false, Some("team=shop")), "with the labels team=shop in namespace shop");
    }
}
