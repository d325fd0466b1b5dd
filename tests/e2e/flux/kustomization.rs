//! How a Kustomization is read.

use serde_json::Value;

pub(super) const API_VERSION: &str = "kustomize.toolkit.fluxcd.io/v1";

/// The reason of its condition Ready where a health check failed.
pub(super) const FAILED: &str = "HealthCheckFailed";

/// A condition of any object.
pub(super) fn condition<'object>(object: &'object Value, kind: &str) -> Option<&'object Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether a condition has this status.
pub(super) fn is(object: &Value, kind: &str, status: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == status)
}

/// Whether it says that all that this revision asks for is there.
pub(super) fn is_ready_for(kustomization: &Value, revision: &str) -> bool {
    let status = &kustomization["status"];
    is(kustomization, "Ready", "True")
        && !is(kustomization, "Reconciling", "True")
        && status["observedGeneration"] == kustomization["metadata"]["generation"]
        && status["lastAppliedRevision"] == revision
        && status["lastAttemptedRevision"] == revision
}

/// Whether it has applied this revision and waits for the health of what is in it.
pub(super) fn waits_for_health(kustomization: &Value, revision: &str) -> bool {
    let told = condition(kustomization, "Reconciling").and_then(|condition| condition["message"].as_str());
    told.is_some_and(|message| message.starts_with(&format!("Running health checks for revision {revision}")))
        && is(kustomization, "Ready", "Unknown")
}

/// Why this revision failed its health checks, if it did.
pub(super) fn failure<'object>(kustomization: &'object Value, revision: &str) -> Option<&'object str> {
    let ready = condition(kustomization, "Ready")?;
    let failed = ready["reason"] == FAILED && ready["status"] == "False";
    (failed && kustomization["status"]["lastAttemptedRevision"] == revision).then_some(ready["message"].as_str()?)
}
