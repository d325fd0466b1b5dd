//! Looks at the wanted artifact: what its origin names now, and whether it is on disk.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use crate::api::{FluxKind, KonigleSpace, KonigleSpaceStatus, TransferStatus};
use crate::artifact::{Digest, Key, Part, Scope, Stage};
use crate::context::Context;
use crate::credentials::{CredentialsError, credentials_for};
use crate::desired::{Desired, Wish};
use crate::lookup;
use crate::memory::{DownloadMemory, uid};
use crate::observation::{ArtifactFacts, DownloadFacts, Observation, OriginFacts, Problem};
use crate::origin::{ArtifactName, FluxOrigin, OciOrigin, OciReference, Origin};
use crate::reason::Reason;
use crate::redact::Redactor;
use crate::sources::{FluxSource, SourceLook};
use crate::text::cut;
use crate::wish::artifact_name;

use super::may_be_needed;

/// How long a pass waits for the look at a tag that it cannot go on without.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// The longest words of another controller that are shown, in bytes.
const LONGEST_WORDS: usize = 256;

/// What the origin names now. A tag is looked up beside the passes, once an interval.
pub(super) async fn look_at_origin(
    context: &Arc<Context>,
    resource: &KonigleSpace,
    desired: &Desired,
    status: &KonigleSpaceStatus,
) -> OriginFacts {
    let Wish::Deploy(origin) = &desired.wish else { return OriginFacts::NotLooked };
    let last = ArtifactName::last_of(origin, status.artifact.as_ref());
    match origin {
        Origin::Http(_) | Origin::Oci(OciOrigin { reference: OciReference::Digest(_), .. }) => OriginFacts::NotLooked,
        Origin::Flux(flux) => look_at_source(context, &resource.namespace().unwrap_or_default(), flux, last),
        Origin::Oci(oci @ OciOrigin { reference: OciReference::Tag(tag), .. }) => {
            let (key, uid) = (lookup_key(oci), uid(resource));
            let request = desired.requests.reconcile_at.as_deref().filter(|_| desired.requests.look(status));
            let known = context.memory.lookup(&uid, &key).and_then(|known| known.named);
            let before = known.or(last.as_ref().map(|last| last.digest));
            let looking = lookup::begin(context, resource, (oci, tag, before), &key, (desired.interval, request));
            // What it named before may be about to be released, although it names something else by now.
            let cannot_go_on =
                request.is_some() || before.is_none_or(|digest| may_be_needed(desired, &digest.to_string(), status));
            if cannot_go_on {
                if let Some(looking) = looking {
                    // It goes on by itself where it takes longer.
                    let _ = tokio::time::timeout(LOOK_WITHIN, looking).await;
                }
                context.memory.await_lookup(&uid, &key);
            }
            look_at_tag(context, resource, (oci, tag, &key), last)
        }
    }
}

/// What is known of a tag. One that cannot be looked at names what it named before.
fn look_at_tag(
    context: &Context,
    resource: &KonigleSpace,
    (oci, tag, key): (&OciOrigin, &str, &str),
    last: Option<ArtifactName>,
) -> OriginFacts {
    let name = |digest| ArtifactName { digest, revision: Some(tag.to_owned()), part: None };
    let known = context.memory.lookup(&uid(resource), key);
    let named = known.as_ref().and_then(|known| known.named).map(name);
    let last = named.clone().or(last);
    let running = known.as_ref().is_some_and(|known| known.running);
    match (known.and_then(|known| known.problem), named.filter(|_| !running)) {
        // What was said of the last look stays until this one tells something else.
        (Some(problem), _) => OriginFacts::Unnamed { problem, last, looking: running },
        (None, Some(name)) => OriginFacts::Named(name),
        (None, None) => {
            let message = format!("tag {tag} of {} is being looked up", oci.repository);
            OriginFacts::Unnamed { problem: Problem { reason: Reason::Progressing, message }, last, looking: true }
        }
    }
}

fn look_at_source(context: &Context, namespace: &str, flux: &FluxOrigin, last: Option<ArtifactName>) -> OriginFacts {
    let FluxOrigin { kind, name, path } = flux;
    let word = kind.word();
    let (reason, message) = match context.sources.look(*kind, namespace, name) {
        SourceLook::Found(source) => match named_by(*kind, name, path, &source) {
            Ok(artifact) => return OriginFacts::Named(artifact),
            Err(problem) => problem,
        },
        SourceLook::Absent => (
            Reason::SourceNotFound,
            format!("there is no {word} {name} in this namespace: create it, or correct spec.source.sourceRef"),
        ),
        SourceLook::NotInstalled => (Reason::SourceNotFound, not_installed(*kind)),
        SourceLook::NotListed(None) => {
            (Reason::Progressing, format!("the {word} objects of the cluster are being listed"))
        }
        SourceLook::NotListed(Some(why)) => (Reason::AwaitingSource, why),
    };
    let looking = reason == Reason::Progressing;
    OriginFacts::Unnamed { problem: Problem { reason, message }, last, looking }
}

/// What a source says that its artifact is called, or why it says nothing that can be deployed.
fn named_by(kind: FluxKind, name: &str, path: &str, source: &FluxSource) -> Result<ArtifactName, (Reason, String)> {
    let word = kind.word();
    let Some(artifact) = &source.artifact else {
        let why = source
            .ready
            .as_ref()
            .filter(|ready| ready.status != "True")
            .map_or_else(String::new, |ready| format!(": {} ({})", shown(&ready.message), shown(&ready.reason)));
        let besides = match source {
            FluxSource { deleting: true, .. } => ", and is being deleted",
            FluxSource { suspended: true, .. } => ", and is suspended: take its spec.suspend out",
            source if source.observed_generation < source.generation => {
                ", and its controller has not seen its newest spec (does it run?)"
            }
            _ => "",
        };
        return Err((Reason::AwaitingSource, format!("{word} {name} has no artifact yet{besides}{why}")));
    };
    let digest = artifact.digest.parse().map_err(|_| {
        let message = format!(
            "{word} {name} names its artifact by {}, and only sha256 is taken: run Flux's controller with --artifact-digest-algo=sha256",
            shown(&artifact.digest)
        );
        (Reason::ArtifactRejected, message)
    })?;
    let revision = Some(shown(&artifact.revision)).filter(|revision| !revision.is_empty());
    Ok(ArtifactName::of_folder(digest, path, revision))
}

fn not_installed(kind: FluxKind) -> String {
    format!(
        "this cluster has no {} of Flux: install Flux's controllers, or name another origin in spec.source; it is seen by itself when it comes",
        kind.word()
    )
}

/// The words of another controller, fit for a status.
fn shown(text: &str) -> String {
    cut(&Redactor::default().clean(&text.replace(char::is_control, " ")), LONGEST_WORDS)
}

/// The wanted artifact; looked for only where it may be needed, so that a resource in sync never touches it.
pub(super) async fn look_at_artifact(
    context: &Context,
    resource: &KonigleSpace,
    desired: &Desired,
    (status, may_be_needed): (&KonigleSpaceStatus, bool),
    seen: &mut Observation,
) {
    let Wish::Deploy(origin) = &desired.wish else { return };
    let Some(name) = artifact_name(origin, seen) else { return };
    let moved = match (&seen.space, &status.settled) {
        (Some(Ok(space)), Some(settled)) => space.pair() != *settled,
        _ => false,
    };
    if status.attempt.is_some() || !(moved || may_be_needed) {
        return;
    }
    let namespace = resource.namespace().unwrap_or_default();
    let key = artifact_key(&namespace, origin, &name);
    // What a former process left is hashed and inspected beside the passes, as what is fetched.
    if let Some(artifact) = context.artifacts.get(&key).await {
        seen.artifact = ArtifactFacts::OnDisk { upload: artifact.digest, size: artifact.size() };
        return;
    }
    if let Err(CredentialsError::Problem(problem)) = credentials_for(&context.api, &namespace, origin).await {
        seen.artifact = ArtifactFacts::Unreadable(problem);
        return;
    }
    let look_now = desired.requests.look(status);
    let memory = context.memory.download(&uid(resource), &download_key(context, &namespace, origin, &name));
    let stage = context.artifacts.progress(&key);
    seen.artifact = match (memory, &stage) {
        // A person may want it looked at now.
        (Some(DownloadMemory::Failed(error, ago, times)), _) if !look_now => {
            ArtifactFacts::Failed { error, ago, times }
        }
        // What was said of a failure stays until it is known what comes of this try.
        (Some(DownloadMemory::Retrying), _) => ArtifactFacts::Retrying,
        (Some(DownloadMemory::Running), Some(Stage::Downloading(_))) => ArtifactFacts::Downloading,
        (Some(DownloadMemory::Running), Some(Stage::Packing)) => ArtifactFacts::Packing,
        (Some(DownloadMemory::Running), Some(Stage::Checking)) => ArtifactFacts::Checking,
        _ if context.artifacts.holds(&key) => ArtifactFacts::Checking,
        (Some(DownloadMemory::Running), None) => ArtifactFacts::Downloading,
        (Some(DownloadMemory::Failed(..)) | None, _) => ArtifactFacts::Absent,
    };
    let is_downloaded = matches!(seen.artifact, ArtifactFacts::Downloading | ArtifactFacts::Retrying);
    if let Some(Stage::Downloading(downloaded)) = stage.filter(|_| is_downloaded) {
        seen.download = Some(DownloadFacts {
            progress: TransferStatus::of(downloaded.bytes, downloaded.total),
            running_for: downloaded.running_for,
        });
    }
}

/// What the artifact is known by in the store.
#[must_use]
pub fn artifact_key(namespace: &str, origin: &Origin, name: &ArtifactName) -> Key {
    let own = || Scope::Namespace(namespace.to_owned());
    let (digest, folder) = name.part.clone().unwrap_or_else(|| (name.digest, String::new()));
    match origin {
        // A query may hold a signature.
        Origin::Http(http) if http.secret.is_none() && http.url.query().is_none() => {
            Key { scope: Scope::Public, digest, part: Part::Whole }
        }
        Origin::Http(_) => Key { scope: own(), digest, part: Part::Whole },
        Origin::Flux(_) => Key { scope: own(), digest, part: Part::Folder(folder) },
        Origin::Oci(oci) => Key {
            scope: if oci.secret.is_none() { Scope::Public } else { own() },
            digest,
            part: Part::Layer(oci.layer_media_type.clone()),
        },
    }
}

/// What a failed download is remembered by: another address, digest or Secret is tried at once.
#[must_use]
pub fn download_key(context: &Context, namespace: &str, origin: &Origin, name: &ArtifactName) -> String {
    let address = match origin {
        // It stands in the source, and may be mended there.
        Origin::Flux(flux) => context.sources.artifact(flux.kind, namespace, &flux.name).map(|artifact| artifact.url),
        Origin::Http(_) | Origin::Oci(_) => Some(origin.address().to_owned()),
    };
    // By its digest: a URL may be signed.
    Digest::of(format!("{origin:?} {address:?} {}", name.digest).as_bytes()).to_string()
}

/// What a look at a tag is remembered by.
fn lookup_key(oci: &OciOrigin) -> String {
    format!("{oci:?}")
}
