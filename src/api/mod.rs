//! The resource that people write: `KonigleSpace`, its spec, and the CRD made from it.
//!
//! Types and schema only: no logic, no clock, no I/O. What the spec means is decided in [`crate::desired`].
//! Formats that people get wrong are CEL rules and not `pattern`s, for a rule can say what to write instead.

mod status;

pub use status::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::DeserializeGuard;
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The API group, and the prefix of every annotation.
pub const GROUP: &str = "cloud.konigle.com";
/// Annotation: look at the remote Space now. Its value is any request id.
pub const RECONCILE_AT: &str = "cloud.konigle.com/reconcile-at";
/// Annotation: forget failures and quarantine; deploy again where what runs is not known for certain.
pub const RESET_AT: &str = "cloud.konigle.com/reset-at";
/// Annotation: release the same digest once more.
pub const REDEPLOY_AT: &str = "cloud.konigle.com/redeploy-at";
/// Annotation: a person's answer to an unknown outcome, `<nonce>=succeeded|failed|retry`.
pub const RESOLVE_ATTEMPT: &str = "cloud.konigle.com/resolve-attempt";

/// Annotation: what was released last, `<spaceID> <digest> <last_deployed_at>`. Written by the operator.
pub const RELEASED: &str = "cloud.konigle.com/released";

/// A resource as a watch or a list tells it: one that cannot be read must not keep the others from being seen.
pub type Watched = DeserializeGuard<KonigleSpace>;

/// What should run in one Space of a web app on Konigle Cloud.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "cloud.konigle.com",
    version = "v1alpha1",
    kind = "KonigleSpace",
    plural = "koniglespaces",
    shortname = "kspace",
    category = "konigle",
    namespaced,
    status = "KonigleSpaceStatus",
    derive = "PartialEq",
    doc = "What should run in one Space (uat or production) of a web app on Konigle Cloud, and what is known to run there.",
    validation = kube::core::Rule::new("self.metadata.name.size() <= 200").message("metadata.name: use at most 200 characters, so that Events about it can be named"),
    validation = kube::core::Rule::new("!has(self.spec.promotion) || self.spec.promotion.from.name != self.metadata.name").message("spec.promotion.from.name: write the name of the KonigleSpace of the uat Space, not this one's own"),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.space.type"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release.shortDigest", description = "The digest that runs, as far as known"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.attempt.jobStatus", description = "The status of the running job"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Drifted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Drifted\")].status", priority = 1),
    printcolumn(name = "Last Deployed", type_ = "string", json_path = ".status.space.lastDeployedAt", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("has(self.source) != has(self.promotion)").message("write exactly one of spec.source (what to deploy) and spec.promotion (which KonigleSpace to promote from)"),
    validation = kube::core::Rule::new("has(self.source) == has(oldSelf.source)").message("spec.source and spec.promotion cannot be exchanged: make a new KonigleSpace; deleting this one deletes nothing on Konigle Cloud"),
    validation = kube::core::Rule::new("has(self.source) == has(self.promotion) || !has(self.space.type) || (self.space.type == 'uat') == has(self.source)").message("artifacts are deployed to uat and promoted to production: write spec.source with spec.space.type uat, and spec.promotion with production"),
    validation = kube::core::Rule::new("!(has(self.promotion) && self.driftPolicy == 'Redeploy')").message("spec.driftPolicy: Redeploy cannot be used with spec.promotion, where a person or the uat Space decides: write Warn or Ignore")
)]
pub struct KonigleSpaceSpec {
    /// Which Space. Immutable.
    pub space: SpaceReference,
    /// How to authenticate to Konigle Cloud.
    pub credentials: Credentials,
    /// What to deploy. For uat Spaces; exactly one of source and promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What to promote from. For production Spaces; exactly one of source and promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
    /// How often the remote Space is looked at when nothing moves, at least 30s (spread by at most 10 %).
    #[serde(default = "default_interval")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^([0-9]{1,6}(h|m|s))+$') && duration(self) >= duration('30s') && duration(self) <= duration('24h')").message("write spec.interval as a duration from 30s to 24h, such as 30s, 5m or 1h30m"))]
    pub interval: String,
    /// How long one job may run.
    #[serde(default = "default_timeout")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^([0-9]{1,6}(h|m|s))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')").message("write spec.timeout as a duration from 1s to 24h, such as 90s or 15m"))]
    pub timeout: String,
    /// How often one wanted digest is tried.
    #[serde(default)]
    pub retry: Retry,
    /// What to do when somebody else deployed to the Space. Warn: say so, and wait for a person. Redeploy (not with
    /// promotion): deploy the wanted digest again. Ignore: leave it, and say so in the condition Drifted only.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// What to do at the first contact with a Space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption_policy: Option<AdoptionPolicy>,
    /// What to do when it stays unknown whether a request took effect and nothing was seen of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_outcome_policy: Option<UnknownOutcomePolicy>,
    /// Looks and follows a running job, but never writes to Konigle Cloud.
    #[serde(default)]
    pub suspend: bool,
    /// How many ended attempts status.history keeps.
    #[serde(default = "default_history_limit")]
    #[schemars(range(min = 1, max = 20))]
    pub history_limit: i32,
}

/// A Space by its id, or by names.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("self == oldSelf").message("spec.space cannot be changed: make a new KonigleSpace for another Space; deleting this one deletes nothing on Konigle Cloud"),
    validation = kube::core::Rule::new("has(self.id) ? !(has(self.computer) || has(self.webapp) || has(self.type)) : has(self.computer) && has(self.webapp) && has(self.type)").message("write either spec.space.id, or all of spec.space.computer, spec.space.webapp and spec.space.type")
)]
pub struct SpaceReference {
    /// The Space's id, as a string: ids exceed what a YAML number can hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^[A-Za-z0-9_-]+$')").message("write spec.space.id as Konigle Cloud shows it, in quotes, such as \"7301962442809344000\""))]
    pub id: Option<String>,
    /// The computer's name, matched exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub computer: Option<String>,
    /// The web app's name, matched exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub webapp: Option<String>,
    /// Which of the web app's two Spaces.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub space_type: Option<SpaceType>,
}

/// The two Spaces that every web app has.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum SpaceType {
    /// Where artifacts are deployed.
    Uat,
    /// Where what runs in uat is promoted to.
    Production,
}

/// Where the token is.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// A Secret in the same namespace: key `token`, and optionally `baseURL`.
    pub secret_ref: LocalReference,
}

/// An object in the same namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What to deploy: exactly one origin.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("[has(self.http), has(self.oci), has(self.sourceRef)].exists_one(origin, origin)").message("write exactly one of spec.source.http (a file behind a URL), spec.source.oci (an artifact in a registry) and spec.source.sourceRef (a source of Flux)")
)]
pub struct Source {
    /// A ZIP or tar.gz that a web server hands out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpArtifact>,
    /// An artifact in an OCI registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciArtifact>,
    /// A source of Flux in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<FluxSourceReference>,
}

/// A ZIP or tar.gz behind a URL, pinned by its digest.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HttpArtifact {
    /// Where the file is. https, unless the operator allows insecure artifacts.
    #[schemars(length(max = 2048))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^https?://[^/?#@ ]+([/?#].*)?$')").message("write spec.source.http.url as https://host/path; user and password belong into a Secret that spec.source.http.secretRef names"))]
    pub url: String,
    /// The SHA-256 of the file's bytes.
    #[schemars(length(max = 128))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^sha256:[0-9a-f]{64}$')").message("write spec.source.http.digest as sha256: and the 64 lower-case hexadecimal digits that `sha256sum FILE` prints"))]
    pub digest: String,
    /// Free text for people, shown beside the digest, in Konigle's console too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub revision: Option<String>,
    /// A Secret in the same namespace with `username` and `password`, or `bearerToken`; and optionally `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// An artifact in an OCI registry: what `oras push` or `flux push artifact` made of a folder or ZIP, or an image of one layer.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = kube::core::Rule::new("has(self.tag) != has(self.digest)").message("write exactly one of spec.source.oci.tag (observed every spec.interval) and spec.source.oci.digest")
)]
pub struct OciArtifact {
    /// Registry and repository, without scheme, tag and digest, such as `registry.example.com/team/shop`.
    #[schemars(length(max = 512))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^[a-z0-9]+((__?|-+)[a-z0-9]+)*$') || self.matches('^(([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\\\\[[0-9A-Fa-f:.]+\\\\])(:[0-9]{1,5})?|[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)(/[a-z0-9]+(([.]|__?|-+)[a-z0-9]+)*)+$')").message("write spec.source.oci.repository as registry.example.com/team/shop, without oci:// in front; the tag belongs into spec.source.oci.tag, the digest into spec.source.oci.digest"))]
    pub repository: String,
    /// A tag; looked up every spec.interval, and deployed anew when it names another digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^[A-Za-z0-9_][A-Za-z0-9._-]*$')").message("write spec.source.oci.tag as the tag alone, such as v1.4.2"))]
    pub tag: Option<String>,
    /// The digest of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^sha256:[0-9a-f]{64}$')").message("write spec.source.oci.digest as sha256: and 64 lower-case hexadecimal digits, as `oras push` and `crane digest` print it"))]
    pub digest: Option<String>,
    /// The media type of the layer to deploy, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$')").message("write spec.source.oci.layerMediaType as the manifest shows it, such as application/vnd.oci.image.layer.v1.tar+gzip"))]
    pub layer_media_type: Option<String>,
    /// A Secret in the same namespace: of type kubernetes.io/dockerconfigjson, or with `username` and `password`; and
    /// optionally `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// A source of Flux, whose newest artifact is deployed.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct FluxSourceReference {
    /// What it is.
    pub kind: FluxKind,
    /// Its name, in the same namespace.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The folder inside the artifact that holds `Dockerfile` and `bentocloud.toml`. Default: the artifact's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = kube::core::Rule::new("!self.contains('\\\\') && !self.matches('(^|/)[.][.](/|$)')").message("write spec.source.sourceRef.path as a folder inside the artifact, such as apps/shop"))]
    pub path: Option<String>,
}

/// The kinds of source that Flux has, all of group source.toolkit.fluxcd.io.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FluxKind {
    /// A Git repository.
    GitRepository,
    /// A repository of an OCI registry.
    #[serde(rename = "OCIRepository")]
    OciRepository,
    /// A bucket of an object store.
    Bucket,
    /// An artifact that another controller made.
    ExternalArtifact,
}

impl FluxKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::GitRepository, Self::OciRepository, Self::Bucket, Self::ExternalArtifact];

    /// Its name, as manifests write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::GitRepository => "GitRepository",
            Self::OciRepository => "OCIRepository",
            Self::Bucket => "Bucket",
            Self::ExternalArtifact => "ExternalArtifact",
        }
    }
}

/// What to promote, and who decides.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = kube::core::Rule::new("!(self.policy == 'Automatic' && has(self.approvedDigest))").message("spec.promotion.approvedDigest is for policy Manual: remove it, or write policy: Manual"))]
pub struct Promotion {
    /// The KonigleSpace of the uat Space, in the same namespace.
    pub from: LocalReference,
    /// Who decides. Manual: approvedDigest. Automatic: whatever the KonigleSpace of the uat Space has confirmed to run is
    /// promoted.
    #[serde(default)]
    pub policy: PromotionPolicy,
    /// Manual: promote exactly this digest, once the uat Space runs it. Merging a change to this field is the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^sha256:[0-9a-f]{64}$')").message("write spec.promotion.approvedDigest as sha256: and 64 lower-case hexadecimal digits, as status.release.digest of the uat KonigleSpace shows it"))]
    pub approved_digest: Option<String>,
}

/// Who decides what is promoted.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum PromotionPolicy {
    /// What `approvedDigest` says.
    #[default]
    Manual,
    /// Whatever the uat KonigleSpace has confirmed to run.
    Automatic,
}

/// How often one wanted digest is tried.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts of one wanted digest that were sent or may have been sent and failed, before the digest is quarantined.
    #[serde(default = "default_retry_limit")]
    #[schemars(range(min = 1, max = 10))]
    pub limit: i32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: default_retry_limit() }
    }
}

/// What to do when somebody else deployed to the Space.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum DriftPolicy {
    /// Say so, and wait for a person.
    #[default]
    Warn,
    /// Deploy the wanted digest again.
    Redeploy,
    /// Leave it, and say so in the condition Drifted only.
    Ignore,
}

/// What to do at the first contact with a Space that was deployed to before. Deploy, the default with source: deploy or
/// promote the wanted digest. AssumeCurrent, the default with promotion: take it that the wanted digest runs, and release
/// nothing.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum AdoptionPolicy {
    /// Deploy the wanted digest.
    Deploy,
    /// Take it that the wanted digest runs, where the Space was ever deployed to.
    AssumeCurrent,
}

/// What to do when it stays unknown whether a request took effect, and nothing was seen of it. Resolve, the default with
/// source: take it, after the wait, that it never took effect, and try again. Hold, the default with promotion: wait for a
/// person.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
pub enum UnknownOutcomePolicy {
    /// Take it, after a wait that covers every known behaviour of the API, that it never took effect, and try again.
    Resolve,
    /// Wait for a person.
    Hold,
}

fn default_interval() -> String {
    "5m".to_owned()
}

fn default_timeout() -> String {
    "15m".to_owned()
}

fn default_history_limit() -> i32 {
    10
}

fn default_retry_limit() -> i32 {
    3
}

/// The CRD, as it is installed.
///
/// Three things that a derive cannot say are added. The status as a whole has a default: only together with the
/// default of `observedGeneration` itself does kstatus say InProgress before the first pass. Nothing in the status
/// may constrain or fill in a value: one odd date or word from the remote would refuse the whole write, the receipt
/// of a deploy with it. And nothing is nullable: a null would be a third way to say that a field is absent.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = KonigleSpace::crd();
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        let Ok(mut value) = serde_json::to_value(&*schema) else { continue };
        remove_keywords(&mut value, &["nullable"]);
        let status = &mut value["properties"]["status"];
        remove_keywords(status, &CONSTRAINTS);
        status["default"] = serde_json::json!({ "observedGeneration": -1 });
        status["properties"]["observedGeneration"]["default"] = serde_json::json!(-1);
        if let Ok(finished) = serde_json::from_value(value) {
            *schema = finished;
        }
    }
    crd
}

/// The keywords that refuse or fill in a value.
const CONSTRAINTS: [&str; 10] = [
    "default",
    "enum",
    "format",
    "maxItems",
    "maxLength",
    "maximum",
    "minLength",
    "minimum",
    "pattern",
    "x-kubernetes-validations",
];

/// Removes keywords from a schema, all the way down; a property that has a keyword's name stays.
fn remove_keywords(schema: &mut Value, keywords: &[&str]) {
    let Value::Object(fields) = schema else { return };
    fields.retain(|name, _| !keywords.contains(&name.as_str()));
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|property| remove_keywords(property, keywords));
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = fields.get_mut(nested) {
            remove_keywords(nested, keywords);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_schema() -> Value {
        let crd = serde_json::to_value(crd()).expect("a CRD is JSON");
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"].clone()
    }

    #[test]
    fn nothing_in_status_can_refuse_a_write() {
        let text = status_schema().to_string();
        for keyword in ["\"enum\":[", "\"pattern\":", "\"format\":", "Length\":", "imum\":", "x-kubernetes-validations"]
        {
            assert!(!text.contains(keyword), "the status schema contains {keyword}");
        }
    }

    /// The schema cannot hold a default that depends on another field: only the description can say it.
    #[test]
    fn explain_says_each_value_and_which_is_the_default() {
        let crd = serde_json::to_value(crd()).expect("a CRD is JSON");
        let spec = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let policies = [&spec["adoptionPolicy"], &spec["unknownOutcomePolicy"], &spec["driftPolicy"]];
        for policy in policies.into_iter().chain([&spec["promotion"]["properties"]["policy"]]) {
            let text = policy["description"].as_str().unwrap_or_default().replace('\n', " ");
            for word in policy["enum"].as_array().expect("its values").iter().filter_map(Value::as_str) {
                assert!(text.contains(word), "{word} is not explained: {text}");
            }
            let by_source =
                ["the default with source", "the default with promotion"].iter().all(|it| text.contains(it));
            assert!(policy["default"].is_string() || by_source, "no default is named: {text}");
        }
    }

    #[test]
    fn observed_generation_is_minus_one_until_the_first_pass() {
        let status = status_schema();
        assert_eq!(status["default"]["observedGeneration"], -1);
        assert_eq!(status["properties"]["observedGeneration"]["default"], -1);
    }

    #[test]
    fn conditions_merge_by_type() {
        let conditions = &status_schema()["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-type"], "map");
        assert_eq!(conditions["x-kubernetes-list-map-keys"][0], "type");
    }
}
