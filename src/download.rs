//! Fetches a wanted artifact beside the passes: a slow host must not keep other resources from being looked at.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info, warn};
use url::Url;

use crate::api::KonigleSpace;
use crate::artifact::{FetchError, Place, Source, SourceField};
use crate::context::Context;
use crate::credentials::{CredentialsError, credentials_for};
use crate::desired::{Desired, Wish};
use crate::memory::uid;
use crate::observation::{Observation, OriginFacts, Problem};
use crate::observe::{artifact_key, download_key};
use crate::origin::{ArtifactName, FluxOrigin, Origin};
use crate::telemetry;
use crate::wish::artifact_name;

/// Ends what was begun for the resource, where something else is wanted by now: it would keep its namespace's turn.
pub fn end_obsolete(context: &Context, resource: &KonigleSpace, desired: &Desired, seen: &Observation) {
    let wanted = match &desired.wish {
        Wish::Promote { .. } => None,
        Wish::Deploy(origin) => {
            // What it names now may be what it named last.
            if let OriginFacts::Unnamed { last: Some(_), .. } = seen.origin {
                return;
            }
            let artifact = artifact_name(origin, seen);
            artifact.map(|artifact| download_key(context, &resource.namespace().unwrap_or_default(), origin, &artifact))
        }
    };
    context.memory.wants_download(&uid(resource), wanted.as_deref());
}

/// Starts the download of the wanted artifact, unless it runs already. Its end wakes the resource.
pub fn begin(context: &Arc<Context>, resource: &KonigleSpace, desired: &Desired, seen: &Observation) {
    let Wish::Deploy(origin) = &desired.wish else { return };
    let Some(artifact) = artifact_name(origin, seen) else { return };
    // It is being looked up, and nothing else tells where it is now. The end of that wakes the resource.
    if matches!(seen.origin, OriginFacts::Unnamed { looking: true, .. }) {
        return;
    }
    let namespace = resource.namespace().unwrap_or_default();
    let (uid, key) = (uid(resource), download_key(context, &namespace, origin, &artifact));
    let Some(stop) = context.memory.begin_download(&uid, &key, &context.shutdown) else { return };
    let (context, origin) = (context.clone(), origin.clone());
    let name = resource.name_any();
    let reference = ObjectRef::new(&name).within(&namespace);
    let span = telemetry::download_span(&namespace, &name);
    let downloading = async move {
        // A panic must not leave the download as running for ever.
        let fetching = AssertUnwindSafe(fetch(&context, &namespace, &origin, &artifact, &stop)).catch_unwind();
        let bug = "the download ended by a bug in the operator: report it with the operator's log";
        let result = match stop.run_until_cancelled(fetching).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(FetchError::Disk { reason: bug.to_owned() }),
            None => Err(FetchError::Stopped),
        };
        match &result {
            Ok(()) => info!(digest = %artifact.digest.short(), "artifact fetched"),
            Err(FetchError::Stopped) => info!(digest = %artifact.digest.short(), "download given up"),
            Err(error) => warn!(digest = %artifact.digest.short(), %error, "artifact not fetched"),
        }
        if context.memory.end_download(&uid, &stop, result.err()) {
            context.wake(&uid, reference);
        }
    };
    tokio::spawn(downloading.instrument(span));
}

async fn fetch(
    context: &Context,
    namespace: &str,
    origin: &Origin,
    artifact: &ArtifactName,
    stop: &CancellationToken,
) -> Result<(), FetchError> {
    // A bounded number at a time, each for its own file: the disk and the hosts are shared.
    let _turn = context.downloads.take(namespace).await.map_err(|_| FetchError::Stopped)?;
    let credentials = match credentials_for(&context.api, namespace, origin).await {
        Ok(credentials) => credentials,
        // It was usable when the download was asked for; the next pass says what is wrong with it now.
        Err(CredentialsError::Problem(Problem { message: reason, .. }) | CredentialsError::Unavailable(reason)) => {
            let location = format!("Secret {}", origin.secret().unwrap_or_default());
            return Err(FetchError::Unavailable { location, reason });
        }
    };
    let place = match origin {
        Origin::Http(http) => Place::Url(http.url.clone(), SourceField::Http),
        Origin::Oci(oci) => Place::Oci(oci.repository.clone()),
        Origin::Flux(flux) => Place::Url(address(context, namespace, flux, artifact)?, SourceField::SourceRef),
    };
    let source = Source { key: artifact_key(namespace, origin, artifact), place, credentials };
    let artifact = context.artifacts.fetch(&source, stop).await?;
    // As a pass will ask for it. Where it is not there, the next pass would begin anew, at once and for ever.
    let kept = context.artifacts.get(&source.key).await;
    if kept.is_some_and(|kept| kept == artifact) {
        return Ok(());
    }
    let reason = "its file is not as it was a moment ago: see who else writes into --artifact-dir, and whether its file system keeps the times of files";
    Err(FetchError::Disk { reason: reason.to_owned() })
}

/// Where Flux says that the artifact is.
fn address(context: &Context, namespace: &str, flux: &FluxOrigin, artifact: &ArtifactName) -> Result<Url, FetchError> {
    let unavailable = |reason: &str| FetchError::Unavailable {
        location: format!("{} {}", flux.kind.word(), flux.name),
        reason: reason.to_owned(),
    };
    let now = context.sources.artifact(flux.kind, namespace, &flux.name);
    let now = now.ok_or_else(|| unavailable("it has no artifact any more; see what Flux says of it"))?;
    if now.digest.parse() != Ok(artifact.part.as_ref().map_or(artifact.digest, |(source, _)| *source)) {
        return Err(unavailable("it has another artifact by now; the next look sees it"));
    }
    let url: Url =
        now.url.parse().map_err(|_| unavailable("the address of its artifact is no URL; see who wrote its status"))?;
    if context.artifacts.is_of_flux(&url) && !is_of_namespace(&url, namespace) {
        let reason =
            format!("this is not an artifact of namespace {namespace}, for its path is not /KIND/{namespace}/…");
        return Err(FetchError::Foreign { location: format!("{} {}", flux.kind.word(), flux.name), reason });
    }
    Ok(url)
}

/// Whether Flux keeps what is behind this URL for a source of this namespace: its paths are `/<kind>/<namespace>/…`.
/// A tenant may be able to write the status of a source of its own, and must not get another's by that: not by a path that a
/// file server reads as another one either (`..%2f`, `//`).
fn is_of_namespace(url: &Url, namespace: &str) -> bool {
    let is_plain = |segment: &str| !segment.is_empty() && !segment.contains(['%', '\\']);
    url.path_segments().is_some_and(|mut segments| segments.clone().all(is_plain) && segments.nth(1) == Some(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_leads_to_artifacts_of_its_own_namespace_only() {
        for (path, expected) in [
            ("/gitrepository/shop/app/1f2e.tar.gz", true),
            ("/gitrepository/other/app/1f2e.tar.gz", false),
            ("/gitrepository/shop/../other/app/1f2e.tar.gz", false),
            ("/gitrepository/%73hop/app/1f2e.tar.gz", false),
            ("/gitrepository/shop/..%2f..%2fgitrepository/other/app/1f2e.tar.gz", false),
            ("/gitrepository/shop/..\\..\\gitrepository/other/app/1f2e.tar.gz", false),
            ("/gitrepository/shop//app/1f2e.tar.gz", false),
            ("//shop/app", false),
            ("/shop/app", false),
            ("/", false),
        ] {
            let url = Url::parse(&format!("http://source-controller.flux-system.svc.cluster.local.{path}")).unwrap();
            assert_eq!(is_of_namespace(&url, "shop"), expected, "{path}");
        }
    }
}
