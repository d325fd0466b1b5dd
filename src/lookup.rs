//! Looks up what a tag names, beside the passes: a slow registry must not keep other resources from being looked at.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::task::JoinHandle;
use tracing::{Instrument as _, info, warn};

use crate::api::KonigleSpace;
use crate::artifact::{Digest, FetchError};
use crate::context::Context;
use crate::credentials::{CredentialsError, credentials_for};
use crate::memory::uid;
use crate::observation::Problem;
use crate::origin::{OciOrigin, Origin};
use crate::reason::Reason;
use crate::telemetry;

/// Starts a look at a tag, unless one runs already or the next is not due; a person may have asked for it. Where it tells
/// something new, its end wakes the resource. `None`: nothing was started.
pub fn begin(
    context: &Arc<Context>,
    resource: &KonigleSpace,
    (oci, tag): (&OciOrigin, &str),
    key: &str,
    (every, asked): (Duration, bool),
) -> Option<JoinHandle<()>> {
    let (uid, key) = (uid(resource), key.to_owned());
    if !context.memory.begin_lookup(&uid, &key, every, asked) {
        return None;
    }
    let (context, oci, tag) = (context.clone(), oci.clone(), tag.to_owned());
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let span = telemetry::lookup_span(&namespace, &name);
    let looking = async move {
        // A panic must not leave the look as running for ever.
        let result = AssertUnwindSafe(look(&context, &namespace, (oci, &tag))).catch_unwind().await;
        let bug =
            || Problem { reason: Reason::ArtifactUnavailable, message: "this is a bug in the operator".to_owned() };
        let result = result.unwrap_or_else(|_| Err(bug()));
        let told = context.memory.end_lookup(&uid, &key, result.clone());
        match result {
            _ if !told => {}
            Ok(digest) => info!(tag, %digest, "the tag was looked up"),
            Err(problem) => warn!(tag, error = problem.message, "the tag cannot be looked up"),
        }
        if told {
            context.wake(&uid, ObjectRef::new(&name).within(&namespace));
        }
    };
    Some(tokio::spawn(looking.instrument(span)))
}

async fn look(context: &Context, namespace: &str, (oci, tag): (OciOrigin, &str)) -> Result<Digest, Problem> {
    let unavailable = |message: String| Problem { reason: Reason::ArtifactUnavailable, message };
    let turn = context.lookups.take(namespace).await;
    let _turn = turn.map_err(|_| unavailable("the operator shuts down".to_owned()))?;
    let (repository, origin) = (oci.repository.clone(), Origin::Oci(oci));
    let credentials = match credentials_for(&context.api, namespace, &origin).await {
        Ok(credentials) => credentials,
        Err(CredentialsError::Problem(problem)) => return Err(problem),
        Err(CredentialsError::Unavailable(message)) => {
            return Err(unavailable(message));
        }
    };
    context.artifacts.resolve(&repository, tag, &credentials).await.map_err(|error| {
        let (reason, help) = match error {
            FetchError::Refused { .. } => (Reason::InvalidSpec, origin.refused_help()),
            FetchError::CertificateInvalid { .. } => {
                (Reason::SecretInvalid, "the Secret is that of spec.source.oci.secretRef")
            }
            FetchError::Rejected { .. } => (Reason::ArtifactRejected, origin.publish_help()),
            _ => (Reason::ArtifactUnavailable, "it is tried again by itself; if it is wrong, correct spec.source.oci"),
        };
        Problem { reason, message: format!("{error}; {help}") }
    })
}
