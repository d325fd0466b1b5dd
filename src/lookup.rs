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
use crate::commands::Named;
use crate::context::Context;
use crate::credentials::{CredentialsError, credentials_for};
use crate::memory::{Again, LookupFailure, uid};
use crate::observation::Problem;
use crate::origin::{OciOrigin, Origin};
use crate::reason::Reason;
use crate::telemetry;

/// The longest pause after looks that failed by what may pass at any moment.
const SOON: Duration = Duration::from_mins(1);
/// The longest one while credentials are refused: a registry may lock an account that offers wrong ones again and again. The
/// pass after it comes within [`TRIED_WITHIN`](crate::plan::TRIED_WITHIN).
const SELDOM: Duration = Duration::from_mins(4);

/// Starts a look at a tag, unless one runs already or the next is not due; a person's request is worth one. Where it tells
/// something new, or a pass cannot go on without it, its end wakes the resource. `before` is what the tag named last, if that is
/// known. `None`: nothing was started.
pub fn begin(
    context: &Arc<Context>,
    resource: &KonigleSpace,
    (oci, tag, before): (&OciOrigin, &str, Option<Digest>),
    key: &str,
    (every, request): (Duration, Option<&str>),
) -> Option<JoinHandle<()>> {
    let (uid, key) = (uid(resource), key.to_owned());
    if !context.memory.begin_lookup(&uid, &key, every, request) {
        return None;
    }
    let (context, oci, tag) = (context.clone(), oci.clone(), tag.to_owned());
    let namespace = resource.namespace().unwrap_or_default();
    let name = resource.name_any();
    let span = telemetry::lookup_span(&namespace, &name);
    let looking = async move {
        // A panic must not leave the look as running for ever.
        let of = Named { namespace: &namespace, name: &name };
        let result = AssertUnwindSafe(look(&context, of, (oci, &tag, before))).catch_unwind().await;
        let bug = || {
            soon(Problem {
                reason: Reason::ArtifactUnavailable,
                message: format!(
                    "the look at tag {tag} ended by a bug in the operator: report it with the operator's log; it is looked up again by itself"
                ),
            })
        };
        let result = result.unwrap_or_else(|_| Err(bug()));
        let ended = context.memory.end_lookup(&uid, &key, result.clone());
        match result {
            _ if !ended.is_news => {}
            Ok(digest) => info!(tag, %digest, "the tag was looked up"),
            Err(failure) => warn!(tag, error = failure.problem.message, "the tag cannot be looked up"),
        }
        if ended.is_news || ended.is_awaited {
            context.wake(&uid, ObjectRef::new(&name).within(&namespace));
        }
    };
    Some(tokio::spawn(looking.instrument(span)))
}

async fn look(
    context: &Context,
    of: Named<'_>,
    (oci, tag, before): (OciOrigin, &str, Option<Digest>),
) -> Result<Digest, LookupFailure> {
    let unavailable = |message: String| soon(Problem { reason: Reason::ArtifactUnavailable, message });
    let turn = context.lookups.take(of.namespace).await;
    let _turn = turn.map_err(|_| unavailable("the operator shuts down".to_owned()))?;
    let (repository, origin) = (oci.repository.clone(), Origin::Oci(oci));
    let credentials = match credentials_for(&context.api, of.namespace, &origin).await {
        Ok(credentials) => credentials,
        Err(CredentialsError::Problem(problem)) => return Err(soon(problem)),
        Err(CredentialsError::Unavailable(message)) => {
            return Err(unavailable(message));
        }
    };
    let looked = context.artifacts.resolve(&repository, tag, &credentials).await;
    looked.map_err(|error| LookupFailure { again: again(&error), problem: problem(&error, of, &origin, before) })
}

fn soon(problem: Problem) -> LookupFailure {
    LookupFailure { problem, again: Again::Within(SOON) }
}

fn again(error: &FetchError) -> Again {
    match error {
        FetchError::Limited { wait, .. } => Again::After(*wait),
        FetchError::Denied { .. } => Again::Within(SELDOM),
        _ => Again::Within(SOON),
    }
}

/// What is said of a tag that could not be looked up; `before`: what it named when it could.
fn problem(error: &FetchError, of: Named<'_>, origin: &Origin, before: Option<Digest>) -> Problem {
    let (reason, help) = match error {
        FetchError::Refused { .. } => (Reason::InvalidSpec, origin.refused_help().to_owned()),
        FetchError::CertificateInvalid { .. } => {
            (Reason::SecretInvalid, format!("it is a key of {}", origin.secret_named().unwrap_or_default()))
        }
        FetchError::Rejected { .. } => (Reason::ArtifactRejected, origin.publish_help().to_owned()),
        FetchError::Denied { with_credentials, .. } => {
            let help = origin.denied_help(of, *with_credentials);
            (Reason::ArtifactUnavailable, format!("it is looked up again by itself; {help}"))
        }
        FetchError::Limited { .. } => {
            (Reason::ArtifactUnavailable, "the tag is looked up again by itself, no sooner than the registry asks for".to_owned())
        }
        FetchError::NoTag { .. } => (
            Reason::ArtifactUnavailable,
            before.map_or_else(
                || {
                    format!(
                        "{origin} may not be pushed yet: push it, or correct spec.source.oci.repository or spec.source.oci.tag; it is looked up again by itself"
                    )
                },
                |digest| {
                    format!(
                        "{origin} named {digest} before, and is gone: push it again, or name another tag or a digest in spec.source.oci; until then that digest stays wanted, and what runs stays"
                    )
                },
            ),
        ),
        _ => (
            Reason::ArtifactUnavailable,
            "the tag is looked up again by itself; if repository or tag are wrong, correct spec.source.oci.repository or spec.source.oci.tag".to_owned(),
        ),
    };
    let what = match error {
        FetchError::Rejected { reason } => format!("the artifact of {origin} cannot be deployed: {reason}"),
        error => error.to_string(),
    };
    Problem { reason, message: format!("{what}; {help}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Source;

    const DIGEST: &str = "sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

    fn origin(secret: Option<&str>) -> Origin {
        let mut oci = serde_json::json!({"repository": "r.example.com/team/shop", "tag": "uat"});
        if let Some(secret) = secret {
            oci["secretRef"] = serde_json::json!({"name": secret});
        }
        let source: Source = serde_json::from_value(serde_json::json!({"oci": oci})).unwrap();
        Origin::parse(&source).unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_tag_is_told_with_what_to_do() {
        let location = || "r.example.com/v2/team/shop/manifests/uat".to_owned();
        let gone = || FetchError::NoTag { location: location(), reason: "the registry answered 404".to_owned() };
        let denied = |with_credentials| FetchError::Denied {
            location: location(),
            reason: "the registry answered 401".to_owned(),
            with_credentials,
        };
        let away = FetchError::Unavailable { location: location(), reason: "it cannot be connected to".to_owned() };
        let (registry, before) = (Some("registry"), Some(DIGEST.parse().unwrap()));
        for (error, secret, before, reason, expected) in [
            (
                gone(),
                None,
                None,
                Reason::ArtifactUnavailable,
                "answered 404; r.example.com/team/shop:uat may not be pushed yet: push it, or correct \
                 spec.source.oci.repository or spec.source.oci.tag; it is looked up again by itself"
                    .to_owned(),
            ),
            (
                gone(),
                registry,
                before,
                Reason::ArtifactUnavailable,
                format!(
                    "answered 404; r.example.com/team/shop:uat named {DIGEST} before, and is gone: push it again, or name \
                     another tag or a digest in spec.source.oci; until then that digest stays wanted, and what runs stays"
                ),
            ),
            (
                denied(true),
                registry,
                before,
                Reason::ArtifactUnavailable,
                "answered 401 to the credentials that it got; it is looked up again by itself; see whether the credentials in Secret registry, which \
                 spec.source.oci.secretRef names, are right and may pull from r.example.com/team/shop; once they are, \
                 `kubectl annotate kspace shop-uat --namespace shop --overwrite \
                 cloud.konigle.com/reconcile-at=\"$(date +%s)\"` has it asked again at once"
                    .to_owned(),
            ),
            (
                denied(false),
                registry,
                before,
                Reason::ArtifactUnavailable,
                "answered 401 to a request without credentials; it is looked up again by itself; Secret registry, which \
                 spec.source.oci.secretRef names, holds none for r.example.com: add them, and `kubectl annotate kspace \
                 shop-uat --namespace shop --overwrite cloud.konigle.com/reconcile-at=\"$(date +%s)\"` has it asked again \
                 at once"
                    .to_owned(),
            ),
            (
                denied(false),
                None,
                None,
                Reason::ArtifactUnavailable,
                "the registry wants credentials, or has no such repository: correct spec.source.oci.repository, or make a \
                 Secret with `kubectl create secret docker-registry NAME --namespace shop --docker-server=r.example.com \
                 --docker-username=USER --docker-password=PASSWORD` and name it in spec.source.oci.secretRef, which names \
                 none"
                    .to_owned(),
            ),
            (
                FetchError::CertificateInvalid { reason: "it holds no certificate".to_owned() },
                registry,
                None,
                Reason::SecretInvalid,
                "`ca.crt` cannot be used: it holds no certificate; it must hold certificates in PEM; it is a key of Secret \
                 registry, which spec.source.oci.secretRef names"
                    .to_owned(),
            ),
            (
                FetchError::Rejected { reason: "it is of sha512".to_owned() },
                None,
                None,
                Reason::ArtifactRejected,
                "the artifact of r.example.com/team/shop:uat cannot be deployed: it is of sha512; what is pushed under the tag is seen by itself".to_owned(),
            ),
            (
                away,
                None,
                before,
                Reason::ArtifactUnavailable,
                "cannot be connected to; the tag is looked up again by itself; if repository or tag are wrong, correct \
                 spec.source.oci.repository or spec.source.oci.tag"
                    .to_owned(),
            ),
        ] {
            let of = Named { namespace: "shop", name: "shop-uat" };
            let problem = problem(&error, of, &origin(secret), before);
            assert_eq!(problem.reason, reason, "{error}");
            assert!(problem.message.ends_with(&expected), "wanted {expected:?}, got {:?}", problem.message);
        }
    }
}
