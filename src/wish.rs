//! What is wanted now, and whether a promotion may bring it.
//!
//! Pure. A promotion's wish depends on the uat resource, so it is worked out from the facts of each pass.

use crate::api::{AttemptResult, Attribution, BaselineSource, HeldBy, KonigleSpaceStatus, RESET_AT};
use crate::commands::Named;
use crate::desired::{Approval, Desired, Wish};
use crate::observation::{Observation, OriginFacts, Problem, SourceFacts};
use crate::origin::{ArtifactName, Origin};
use crate::reason::Reason;

/// What should run in the Space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its digest, `sha256:…`.
    pub digest: String,
    /// What people call it.
    pub revision: Option<String>,
}

/// Whether what the uat resource runs may be promoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may: the uat side as it must stay meanwhile.
    Open(BaselineSource),
    /// It may not.
    Closed(Problem),
}

/// What is wanted now. `None`: nothing was asked for, or it is not known (what a tag names), or (Automatic) nothing may be
/// promoted.
#[must_use]
pub fn wanted(desired: &Desired, seen: &Observation) -> Option<Wanted> {
    match &desired.wish {
        Wish::Deploy(origin) => {
            let ArtifactName { digest, revision, .. } = artifact_name(origin, seen)?;
            Some(Wanted { digest: digest.to_string(), revision })
        }
        Wish::Promote { approval, .. } => {
            let release = seen.source.as_ref().and_then(|source| source.status.release.as_ref());
            let digest = match approval {
                Approval::Manual(None) => None,
                Approval::Manual(Some(digest)) => Some(digest.to_string()),
                Approval::Automatic => match gate(desired, seen) {
                    Some(Gate::Open(source)) => Some(source.digest),
                    _ => None,
                },
            }?;
            let revision =
                release.filter(|release| release.digest == digest).and_then(|release| release.revision.clone());
            Some(Wanted { digest, revision })
        }
    }
}

/// What the wanted artifact is called: as the spec says, as its origin was seen to say in this pass, or as it said last.
#[must_use]
pub fn artifact_name(origin: &Origin, seen: &Observation) -> Option<ArtifactName> {
    origin.fixed_name().or_else(|| match &seen.origin {
        OriginFacts::NotLooked => None,
        OriginFacts::Named(name) => Some(name.clone()),
        OriginFacts::Unnamed { last, .. } => last.clone(),
    })
}

/// The gate of a promotion, with what to run where it is closed. `None` for deploys.
#[must_use]
pub fn gate(desired: &Desired, seen: &Observation) -> Option<Gate> {
    let missing = SourceFacts::default();
    let source = seen.source.as_ref().unwrap_or(&missing);
    Some(match gate_of(desired, source, &seen.uid)? {
        Gate::Closed(problem) => match command(desired, seen, source, problem.reason) {
            Some(command) => Gate::Closed(Problem { message: format!("{}: {command}", problem.message), ..problem }),
            None => Gate::Closed(problem),
        },
        open @ Gate::Open(_) => open,
    })
}

/// The command that opens the gate, or says why it is closed.
fn command(desired: &Desired, seen: &Observation, source: &SourceFacts, reason: Reason) -> Option<String> {
    let Wish::Promote { from, .. } = &desired.wish else { return None };
    let uat = Named { namespace: &seen.namespace, name: from };
    match (reason, &source.status.release) {
        (Reason::AwaitingApproval | Reason::AwaitingSource, Some(release)) => {
            Some(seen.named().approve(&release.digest))
        }
        (Reason::AwaitingSource, None) => Some(uat.describe()),
        (Reason::SourceBusy, _) if source.status.is_true("Stalled") => Some(uat.describe()),
        (Reason::SourceDrifted | Reason::SourceNotConfirmed, _) => Some(uat.annotate_now(RESET_AT)),
        _ => None,
    }
}

/// Why the resource to promote from can be no other half of this one's pair, as far as both have recorded what they are.
/// That they are a pair is proven by a look only.
#[must_use]
pub fn no_pair(desired: &Desired, seen: &Observation) -> Option<String> {
    let Wish::Promote { from, .. } = &desired.wish else { return None };
    if let Some(why) = from_production(desired, seen) {
        return Some(why);
    }
    let source = seen.source.as_ref()?.status.space.as_ref()?;
    let own = &seen.space_seen()?.status.webapp;
    let differ = !own.is_empty() && !source.webapp.is_empty() && *own != source.webapp;
    differ.then(|| of_other_web_app(from, &source.webapp, own))
}

/// That the resource to promote from is recorded to be of a production Space itself.
#[must_use]
pub fn from_production(desired: &Desired, seen: &Observation) -> Option<String> {
    let Wish::Promote { from, .. } = &desired.wish else { return None };
    let source = seen.source.as_ref()?.status.space.as_ref()?;
    (source.space_type == "production").then(|| {
        format!(
            "KonigleSpace {from} is of a production Space, and what runs in the uat Space of the same web app is promoted: correct spec.promotion.from"
        )
    })
}

/// That the uat resource is of web app `other`, and this one's Space of web app `own`.
#[must_use]
pub fn of_other_web_app(from: &str, other: &str, own: &str) -> String {
    format!(
        "KonigleSpace {from} is of web app {other}, and this Space is of web app {own}: a promotion would change another production Space, so nothing is sent; correct spec.promotion.from"
    )
}

/// The gate as this state of the uat resource makes it, for the promoting resource of this UID. `None` for deploys.
#[must_use]
pub fn gate_of(desired: &Desired, source: &SourceFacts, own_uid: &str) -> Option<Gate> {
    let Wish::Promote { from, approval } = &desired.wish else { return None };
    Some(match closed(from, approval, source, own_uid) {
        Some((reason, message)) => Gate::Closed(Problem { reason, message }),
        None => pinned(from, source).map_or_else(
            || {
                Gate::Closed(Problem {
                    reason: Reason::AwaitingSource,
                    message: format!("KonigleSpace {from} has no release yet"),
                })
            },
            Gate::Open,
        ),
    })
}

/// Why no hold may be taken on the uat resource as it is now, read live, for a promotion that pinned it like this.
///
/// # Errors
///
/// The reason, for people.
pub fn may_hold(desired: &Desired, uat: &SourceFacts, pinned: &BaselineSource, own_uid: &str) -> Result<(), String> {
    if uat.status.held_by.is_some() {
        return Err(format!("KonigleSpace {} is still held by an earlier promotion", pinned.name));
    }
    match gate_of(desired, uat, own_uid) {
        Some(Gate::Open(now)) if now == *pinned => Ok(()),
        Some(Gate::Closed(problem)) => Err(problem.message),
        Some(Gate::Open(_)) | None => Err(format!("KonigleSpace {} changed meanwhile", pinned.name)),
    }
}

/// Whether a promotion may be sent: its attempt is the own resource's still, and its hold that of the very uat resource
/// that was pinned. Each side is its UID and its status, read live.
#[must_use]
pub fn still_holds(
    own: (Option<&str>, Option<&KonigleSpaceStatus>),
    uat: (Option<&str>, Option<&KonigleSpaceStatus>),
    pinned: &BaselineSource,
    held_by: &HeldBy,
) -> bool {
    let nonce = Some(held_by.nonce.as_str());
    let attempt = own.1.and_then(|status| status.attempt.as_ref());
    let held = uat.1.and_then(|status| status.held_by.as_ref());
    own.0 == Some(held_by.uid.as_str())
        && attempt.map(|attempt| attempt.nonce.as_str()) == nonce
        && uat.0 == Some(pinned.uid.as_str())
        && held.map(|held| held.nonce.as_str()) == nonce
}

/// The uat side as the promotion needs it to stay: what it released, and the pair that was seen then.
fn pinned(from: &str, source: &SourceFacts) -> Option<BaselineSource> {
    let release = source.status.release.as_ref()?;
    Some(BaselineSource {
        name: from.to_owned(),
        uid: source.uid.clone(),
        space_id: source.status.space.as_ref()?.id.clone(),
        digest: release.digest.clone(),
        last_deployed_at: release.last_deployed_at_seen.clone(),
        last_deployment_status: release.last_deployment_status_seen.clone(),
    })
}

/// Why the gate is closed, the most telling reason first.
fn closed(from: &str, approval: &Approval, source: &SourceFacts, own_uid: &str) -> Option<(Reason, String)> {
    let status = &source.status;
    if source.unreadable {
        return Some((
            Reason::SourceNotFound,
            format!(
                "KonigleSpace {from} is there, but this operator cannot read it, as its log says: apply the CRD of this version, and mend {from}"
            ),
        ));
    }
    if !source.exists {
        return Some((
            Reason::SourceNotFound,
            format!(
                "this operator sees no KonigleSpace {from} in this namespace: create it, or correct spec.promotion.from.name (a new resource is needed for another web app); if it is there, it lacks the labels of the operator's `--watch-label-selector`"
            ),
        ));
    }
    let stalled = status.condition("Stalled").filter(|stalled| stalled.status == "True");
    let Some(release) = &status.release else {
        let why = stalled.map_or_else(String::new, |stalled| format!(", and is stalled ({})", stalled.reason));
        return Some((Reason::AwaitingSource, format!("KonigleSpace {from} has no release yet{why}")));
    };
    match approval {
        Approval::Manual(None) => {
            return Some((
                Reason::AwaitingApproval,
                format!("to promote what {from} runs, set spec.promotion.approvedDigest to {}", release.digest),
            ));
        }
        Approval::Manual(Some(digest)) if digest.to_string() != release.digest => {
            return Some((
                Reason::AwaitingSource,
                format!(
                    "{digest} is approved, but {from} runs {}: deploy to {from} what is approved, or approve what it runs",
                    release.digest
                ),
            ));
        }
        Approval::Manual(Some(_)) | Approval::Automatic => {}
    }
    if source.deleting {
        return Some((Reason::SourceBusy, format!("KonigleSpace {from} is being deleted")));
    }
    if status.attempt.is_some() {
        return Some((Reason::SourceBusy, format!("a deployment to {from} is under way")));
    }
    if status.held_by.as_ref().is_some_and(|held| held.uid != own_uid) {
        return Some((Reason::SourceBusy, format!("another promotion from {from} is under way")));
    }
    if status.is_true("Drifted") {
        return Some((
            Reason::SourceDrifted,
            format!(
                "somebody else deployed to the Space of {from}, so what it runs is not known, until it is deployed there again"
            ),
        ));
    }
    if let Some(stalled) = stalled {
        return Some((Reason::SourceBusy, format!("KonigleSpace {from} is stalled ({})", stalled.reason)));
    }
    let last = status.history.iter().find(|entry| entry.result != AttemptResult::NotSent);
    let confirmed = release.attribution == Attribution::Confirmed
        && last.is_some_and(|entry| entry.result == AttemptResult::Succeeded && entry.digest == release.digest);
    if !confirmed {
        return Some((
            Reason::SourceNotConfirmed,
            format!("what {from} runs is not confirmed by a job of its own, until it is deployed there once more"),
        ));
    }
    None
}

/// `sha256:` and the first 12 digits, for messages.
#[must_use]
pub fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}
