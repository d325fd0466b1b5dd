//! Writes to Kubernetes: the guarded status, the receipt, the hold, and Events.
//!
//! Every status write is one JSON Patch that tests the UID and replaces the resourceVersion that was read, so a stale
//! pass can write nothing. Two exceptions touch nothing but the open attempt, and test its nonce instead: how far an upload
//! is, and the receipt. The receipt, and the job's id in a hold, must land whatever else was written meanwhile, so they
//! test the attempt's nonce instead; the note of a release is an apply of one annotation. Nothing here decides anything.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tracing::{error, info, warn};

use crate::api::{Attempt, HeldBy, KonigleSpace, KonigleSpaceStatus, RELEASED, TransferStatus};
use crate::cluster::{ClusterError, within};
use crate::context::Context;
use crate::judge::Note;
use crate::konigle::model::Deployment;
use crate::reason::Reason;
use crate::released::Released;
use crate::status::transitions;
use crate::text::cut;

/// The name under which this operator's writes are recorded.
pub const FIELD_MANAGER: &str = "konigle-operator";
/// What most writes do, for messages.
const STATUS: &str = "write a status";

/// Why a write did not land.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody wrote meanwhile, or the resource is gone or was made anew, or another one took over what this pass would
    /// have taken over: the pass ends.
    #[error("the resource changed meanwhile")]
    Conflict,
    /// The installed CRD does not know a field: the intent would be lost.
    #[error("the installed CRD is older than this operator: {0}")]
    CrdOutdated(String),
    /// The API server refused or did not answer; the write may have taken effect.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Writes the whole status, if it differs. Gives the resource as it is now.
///
/// # Errors
///
/// [`WriteError`].
pub async fn record(
    context: &Context,
    resource: &KonigleSpace,
    status: &KonigleSpaceStatus,
) -> Result<KonigleSpace, WriteError> {
    if resource.status.as_ref().unwrap_or(&KonigleSpaceStatus::default()) == status {
        return Ok(resource.clone());
    }
    write_status(context, resource, (STATUS, status)).await
}

/// Writes the claim of an attempt, and makes sure that it is there: an older CRD would prune it silently.
///
/// # Errors
///
/// [`WriteError`]: without the claim nothing may be sent.
pub async fn claim(
    context: &Context,
    resource: &KonigleSpace,
    status: &KonigleSpaceStatus,
) -> Result<KonigleSpace, WriteError> {
    let written = write_status(context, resource, ("write the claim", status)).await?;
    let wanted = status.attempt.as_ref().map(|attempt| (attempt.number, &attempt.nonce));
    let stored = written.status.as_ref().and_then(|status| status.attempt.as_ref());
    if wanted.is_none() || stored.map(|attempt| (attempt.number, &attempt.nonce)) != wanted {
        return Err(WriteError::CrdOutdated("status.attempt was not stored".to_owned()));
    }
    Ok(written)
}

/// Logs and publishes what happened, one Event after the other: these notes, and what changed from one status to the next.
pub async fn tell(context: &Context, resource: &KonigleSpace, written: &KonigleSpace, notes: Vec<Note>) {
    let uid = crate::memory::uid(resource);
    let status = |resource: &KonigleSpace| resource.status.clone().unwrap_or_default();
    let before = status(resource);
    // That what was well is well no more is told each time.
    let was_ready = before.is_true("Ready");
    let changes = transitions(&before, &status(written)).into_iter().map(|note| (note, was_ready));
    for (note, is_due) in notes.into_iter().map(|note| (note, false)).chain(changes) {
        // A refusal that comes again and again, such as of a token that may only read, is told once in a while.
        let credentials = Reason::of(note.reason).is_some_and(Reason::is_about_credentials);
        let told = if credentials { note.reason } else { &note.message };
        let is_news = context.memory.is_news(&uid, note.reason, told);
        if !note.warning || is_due || is_news {
            log(resource, &note);
            publish(context, resource, note).await;
        }
    }
}

/// Logs what happened, with the attempt that was open when it did.
fn log(resource: &KonigleSpace, note: &Note) {
    let open = resource.status.as_ref().and_then(|status| status.attempt.as_ref());
    let (attempt, job) = (open.map(|attempt| attempt.number), open.and_then(|attempt| attempt.job_id.as_deref()));
    if note.warning {
        warn!(attempt, job, reason = note.reason, "{}", note.message);
    } else {
        info!(attempt, job, reason = note.reason, "{}", note.message);
    }
}

/// Writes a status whatever the installed CRD knows of it; for saying that the CRD is outdated.
///
/// # Errors
///
/// [`WriteError`].
pub async fn record_leniently(
    context: &Context,
    resource: &KonigleSpace,
    status: &KonigleSpaceStatus,
) -> Result<KonigleSpace, WriteError> {
    if resource.status.as_ref() == Some(status) {
        return Ok(resource.clone());
    }
    let operations = guarded(resource, &json!({ "op": "add", "path": "/status", "value": status }));
    patch_status(context, resource, (STATUS, operations), None).await
}

async fn write_status(
    context: &Context,
    resource: &KonigleSpace,
    (what, status): (&'static str, &KonigleSpaceStatus),
) -> Result<KonigleSpace, WriteError> {
    let operations = guarded(resource, &json!({ "op": "add", "path": "/status", "value": status }));
    patch_status(context, resource, (what, operations), Some(ValidationDirective::Strict)).await
}

/// The operation, on exactly the version of the resource that was read.
fn guarded(resource: &KonigleSpace, operation: &Value) -> Value {
    json!([
        { "op": "test", "path": "/metadata/uid", "value": resource.uid() },
        { "op": "replace", "path": "/metadata/resourceVersion", "value": resource.resource_version() },
        operation,
    ])
}

async fn patch_status(
    context: &Context,
    resource: &KonigleSpace,
    (what, operations): (&'static str, Value),
    validation: Option<ValidationDirective>,
) -> Result<KonigleSpace, WriteError> {
    let Ok(patch) = serde_json::from_value::<json_patch::Patch>(operations) else { return Err(WriteError::Conflict) };
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        field_validation: validation,
        ..PatchParams::default()
    };
    let result =
        within(what, context.spaces(resource).patch_status(&resource.name_any(), &params, &Patch::Json::<()>(patch)))
            .await;
    result.map_err(|error| match error.code() {
        Some(404 | 409) => WriteError::Conflict,
        Some(400 | 422) => match error.message().and_then(unknown_field) {
            Some(field) => WriteError::CrdOutdated(format!("it lacks {field}")),
            // A failed test of the UID: another resource has the name now.
            None => WriteError::Conflict,
        },
        _ => WriteError::Cluster(error),
    })
}

/// The field that strict decoding does not know. The API server names it at the end, after the whole object that was
/// to be written, which is too long for a message and may itself say anything.
fn unknown_field(message: &str) -> Option<&str> {
    let (_, field) = message.rsplit_once("unknown field \"")?;
    field.split_once('"').map(|(field, _)| field)
}

/// Records the ids that Konigle gave to an attempt, and tries until they are there: they cannot be asked for again.
/// Gives the resource as it is then; `None` where the attempt is no longer the resource's, or the process must stop.
pub async fn receipt(
    context: &Context,
    resource: &KonigleSpace,
    attempt: &Attempt,
    deployment: &Deployment,
) -> Option<KonigleSpace> {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .with_jitter()
        .build();
    let mut operations = vec![
        json!({ "op": "test", "path": "/metadata/uid", "value": resource.uid() }),
        json!({ "op": "test", "path": "/status/attempt/number", "value": attempt.number }),
        json!({ "op": "test", "path": "/status/attempt/nonce", "value": attempt.nonce }),
        json!({ "op": "add", "path": "/status/attempt/jobID", "value": deployment.job_id }),
        json!({ "op": "add", "path": "/status/attempt/jobStatus", "value": "pending" }),
    ];
    if let Some(id) = &deployment.id {
        operations.push(json!({ "op": "add", "path": "/status/attempt/deploymentID", "value": id }));
    }
    loop {
        match patch_status(context, resource, ("write the receipt", Value::Array(operations.clone())), None).await {
            Ok(written) => return Some(written),
            Err(WriteError::Conflict) => match reread(context, resource, attempt).await {
                Reread::Recorded(written) => return Some(*written),
                Reread::Lost => {
                    warn!(job = %deployment.job_id, attempt = attempt.number, "the attempt is gone from the resource; its job goes on by itself");
                    return None;
                }
                Reread::Again => {}
            },
            Err(error) => {
                warn!(job = %deployment.job_id, attempt = attempt.number, error = &error as &dyn std::error::Error, "failed to record the job's id; trying again");
            }
        }
        let pause = pauses.next().unwrap_or(Duration::from_secs(10));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.last_call.cancelled() => {
                error!(job = %deployment.job_id, attempt = attempt.number, "stopped before the job's id was recorded; it will be found by its effect");
                return None;
            }
        }
    }
}

/// Writes how far the upload of an attempt is, into that attempt only, whatever else was written meanwhile. Gives the
/// resource as it is then.
///
/// # Errors
///
/// [`WriteError`]; [`WriteError::Conflict`] where the attempt is no longer the resource's.
pub async fn upload_progress(
    context: &Context,
    resource: &KonigleSpace,
    attempt: &Attempt,
    progress: &TransferStatus,
) -> Result<KonigleSpace, WriteError> {
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": resource.uid() },
        { "op": "test", "path": "/status/attempt/number", "value": attempt.number },
        { "op": "test", "path": "/status/attempt/nonce", "value": attempt.nonce },
        { "op": "add", "path": "/status/attempt/upload", "value": progress },
    ]);
    patch_status(context, resource, ("tell of the upload", operations), None).await
}

/// Notes on the resource itself what its status says was released last, where the annotation does not say so yet. Gives
/// the resource as it is then, unless somebody else changed it too: that change needs a pass of its own. A failure is told
/// once in a while and tried again in the next pass: the note serves only a resource that loses its status.
pub async fn note_release(context: &Context, resource: KonigleSpace) -> KonigleSpace {
    let released = resource.status.as_ref().and_then(Released::of).map(|released| released.to_string());
    let Some(value) = released.filter(|value| resource.annotations().get(RELEASED) != Some(value)) else {
        return resource;
    };
    // The UID keeps the apply from making the resource anew where it was deleted meanwhile.
    let note = json!({
        "apiVersion": KonigleSpace::api_version(&()),
        "kind": KonigleSpace::kind(&()),
        "metadata": { "name": resource.name_any(), "uid": resource.uid(), "annotations": { RELEASED: value } },
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&note);
    match within("note a release", context.spaces(&resource).patch(&resource.name_any(), &params, &patch)).await {
        Ok(noted) if differs_in_the_note_only(&noted, &resource) => noted,
        Ok(_) => resource,
        Err(error) => {
            let told = error.to_string();
            if context.memory.is_news(&crate::memory::uid(&resource), "ReleaseNotNoted", &told) {
                warn!(error = told, annotation = RELEASED, "what was released could not be noted on the resource");
            }
            resource
        }
    }
}

fn differs_in_the_note_only(noted: &KonigleSpace, before: &KonigleSpace) -> bool {
    let others = |resource: &KonigleSpace| {
        let mut annotations = resource.annotations().clone();
        annotations.remove(RELEASED);
        (annotations, resource.meta().generation, resource.meta().deletion_timestamp.clone())
    };
    others(noted) == others(before) && noted.status == before.status
}

enum Reread {
    Recorded(Box<KonigleSpace>),
    Lost,
    Again,
}

async fn reread(context: &Context, resource: &KonigleSpace, attempt: &Attempt) -> Reread {
    match within("read the attempt", context.spaces(resource).get(&resource.name_any())).await {
        Ok(now) => {
            let ours = now.uid() == resource.uid();
            match now.status.as_ref().and_then(|status| status.attempt.as_ref()) {
                Some(stored) if ours && stored.nonce == attempt.nonce && stored.job_id.is_some() => {
                    Reread::Recorded(Box::new(now))
                }
                Some(stored) if ours && stored.nonce == attempt.nonce => Reread::Again,
                _ => Reread::Lost,
            }
        }
        Err(error) if error.code() == Some(404) => Reread::Lost,
        Err(_) => Reread::Again,
    }
}

/// Takes the hold on a uat resource, on exactly the version that was read.
///
/// # Errors
///
/// [`WriteError`]: without the hold nothing may be promoted.
pub async fn hold(context: &Context, uat: &KonigleSpace, held_by: &HeldBy) -> Result<KonigleSpace, WriteError> {
    let operation = json!({ "op": "add", "path": "/status/heldBy", "value": held_by });
    patch_status(context, uat, ("take the hold", guarded(uat, &operation)), Some(ValidationDirective::Strict)).await
}

/// Writes the promotion's job into the hold. Only a convenience for a uat resource whose holder is gone: best effort.
pub async fn note_job_in_hold(context: &Context, uat: &KonigleSpace, held_by: &HeldBy, job_id: &str) {
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": uat.uid() },
        { "op": "test", "path": "/status/heldBy/nonce", "value": held_by.nonce },
        { "op": "add", "path": "/status/heldBy/jobID", "value": job_id },
    ]);
    if let Err(error) = patch_status(context, uat, ("note the job in the hold", operations), None).await {
        info!(error = &error as &dyn std::error::Error, "the job's id could not be written into the hold");
    }
}

/// Publishes one Event. A failure is logged and nothing more: Events are for people.
pub async fn publish(context: &Context, resource: &KonigleSpace, note: Note) {
    let reference: ObjectReference = resource.object_ref(&());
    let action = if note.reason.starts_with("Promotion") { "Promote" } else { "Reconcile" };
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.reason.to_owned(),
        note: Some(cut(&note.message, 1000)),
        action: action.to_owned(),
        secondary: None,
    };
    // A recorder of its own for each Event: one that is kept takes an Event of the same reason for a repetition, and shows
    // the first one's note for ever (kube-runtime 5.0, `EventKey`). Events are published on transitions only.
    let recorder = Recorder::new(context.api.clone(), context.reporter.clone());
    if let Err(error) = within("publish an Event", recorder.publish(&event, &reference)).await {
        info!(error = &error as &dyn std::error::Error, "an Event was not published");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unknown_field_is_named_without_the_object() {
        let message = r#" "" is invalid: patch: Invalid value: "{\"revision\":\"unknown field \\\"x\\\"\"}": strict decoding error: unknown field "status.attempt""#;
        assert_eq!(unknown_field(message), Some("status.attempt"));
        assert_eq!(unknown_field("the server rejected our request due to an error in our request"), None);
    }
}
