//! What ties a production resource to its uat resource: the source, the proof that they are a pair, and the hold.

use kube::{Resource, ResourceExt};

use crate::api::{BaselineSource, KonigleSpace, SpaceStatus};
use crate::cluster::within;
use crate::context::Context;
use crate::desired::{Desired, Wish};
use crate::judge::{holder_now, holder_timeout};
use crate::konigle::Client;
use crate::memory::uid;
use crate::observation::{Holder, HolderFacts, LookError, Observation, PairProof, SourceFacts};
use crate::wish::{Gate, gate, of_other_web_app};

use super::{Look, look_error, text_of};

pub(super) fn source(context: &Context, resource: &KonigleSpace, desired: &Desired) -> Option<SourceFacts> {
    let Wish::Promote { from, .. } = &desired.wish else { return None };
    let source = context.known(&resource.namespace().unwrap_or_default(), from);
    Some(match source.as_ref().map(|guard| &guard.0) {
        Some(Ok(source)) => source_facts(source),
        Some(Err(_)) => SourceFacts { unreadable: true, ..SourceFacts::default() },
        None => SourceFacts::default(),
    })
}

/// The facts of a uat resource.
#[must_use]
pub fn source_facts(source: &KonigleSpace) -> SourceFacts {
    let status = source.status.clone().unwrap_or_default();
    let deleting = source.meta().deletion_timestamp.is_some();
    SourceFacts { exists: true, unreadable: false, uid: uid(source), deleting, status }
}

/// Before a promotion, the two Spaces must be proven to be of one web app. The proof is remembered: it costs one look in
/// the life of a process, and then stands for every promotion, be it a retry, a redeploy or a reset.
pub(super) async fn look_at_pair(look: &Look<'_>, seen: &mut Observation) {
    let Look { context, resource, desired, status, client } = look;
    let Some(Gate::Open(source)) = gate(desired, seen) else { return };
    let Some(Ok(space)) = &seen.space else { return };
    if status.attempt.is_some() {
        return;
    }
    let uid = uid(resource);
    let production = space.status.clone();
    if context.memory.is_pair(&uid, &production.id, &source.space_id) {
        seen.pair = PairProof::Proven;
        return;
    }
    seen.pair = prove_pair(&production, &source, seen.source.as_ref(), client).await;
    if seen.pair == PairProof::Proven {
        context.memory.proven_pair(&uid, &production.id, &source.space_id);
    }
}

/// The same web app in both replies, or both Spaces in one complete list of a web app's.
async fn prove_pair(
    production: &SpaceStatus,
    source: &BaselineSource,
    facts: Option<&SourceFacts>,
    client: &Client,
) -> PairProof {
    let uat = match client.space(&source.space_id).await.map_err(look_error) {
        Ok(uat) => uat,
        Err(LookError::NotFound(detail) | LookError::Forbidden(detail)) => {
            return PairProof::NotProven(format!(
                "the token cannot see the Space of KonigleSpace {} ({detail}): a promotion needs a token for both Spaces",
                source.name
            ));
        }
        Err(error) => return PairProof::Unavailable(text_of(&error)),
    };
    let recorded = facts.and_then(|facts| facts.status.space.as_ref()).map(|space| space.webapp.clone());
    let own = Some(production.webapp.clone()).filter(|id| !id.is_empty());
    let other = uat.webapp.filter(|id| !id.is_empty());
    match (own, other) {
        (Some(own), Some(other)) if own == other => PairProof::Proven,
        (Some(own), Some(other)) => PairProof::NotProven(of_other_web_app(&source.name, &other, &own)),
        // What the uat resource once recorded only says which list to read: the list is the proof.
        (own, other) => match own.or(other).or(recorded.filter(|id| !id.is_empty())) {
            None => PairProof::NotProven(format!(
                "Konigle does not tell which web app the Spaces of this resource and of KonigleSpace {} belong to, so that they are a pair is not proven: name the Spaces by computer, webapp and type in new KonigleSpaces",
                source.name
            )),
            Some(webapp) => in_one_list(production, source, &webapp, client).await,
        },
    }
}

/// Whether both Spaces are in the one complete list of this web app's.
async fn in_one_list(production: &SpaceStatus, source: &BaselineSource, webapp: &str, client: &Client) -> PairProof {
    match client.spaces(webapp).await.map_err(look_error) {
        Ok(spaces)
            if [&production.id, &source.space_id].iter().all(|id| spaces.iter().any(|space| space.id == **id)) =>
        {
            PairProof::Proven
        }
        Ok(_) => PairProof::NotProven(format!(
            "this Space and that of KonigleSpace {} are not both of web app {webapp}: a promotion would change another production Space, so nothing is sent; correct spec.promotion.from",
            source.name
        )),
        Err(error) => PairProof::Unavailable(text_of(&error)),
    }
}

/// Who holds this uat resource, read live.
pub(super) async fn look_at_hold(look: &Look<'_>, seen: &mut Observation) {
    let Look { context, resource, status, client, .. } = look;
    let Some(held) = &status.held_by else { return };
    let mut timeout = None;
    let holder = match within("read the holder", context.spaces(resource).get(&held.name)).await {
        Ok(holder) => {
            let attempt = holder.status.as_ref().and_then(|status| status.attempt.as_ref());
            let now = holder_now(held, holder.uid().as_deref(), attempt);
            if now != Holder::Gone {
                let spec = Desired::parse(&holder).ok().map(|desired| desired.timeout);
                timeout = holder_timeout(spec, held, attempt);
            }
            Some(now)
        }
        Err(error) if error.code() == Some(404) => Some(Holder::Gone),
        Err(_) => None,
    };
    let job_ended = match (&holder, &held.job_id) {
        (Some(Holder::Gone), Some(job_id)) => client.job(job_id).await.ok().map(|job| job.status.ended()),
        _ => None,
    };
    let (seen_for, timeout) = context.memory.hold(&uid(resource), &held.nonce, timeout);
    seen.holder = Some(HolderFacts { holder, seen_for, timeout, job_ended });
}
