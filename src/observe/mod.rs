//! Looks at the world and says what it saw. Reads only; that nothing could be seen is a fact, never an error.
//!
//! Nothing slow is done here: an artifact's bytes are fetched, hashed and inspected elsewhere, and only when they are
//! wanted. Reads of Konigle go through the one client of their account, which shares its rate limit, its back-off and its
//! connections.

mod artifact;
mod attempt;
mod others;
mod promotion;
mod space;
#[cfg(test)]
mod tests;

pub use artifact::{artifact_key, download_key};
pub use promotion::source_facts;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{Instrument as _, warn};

use crate::address::AddressError;
use crate::api::{AttemptResult, KonigleSpace, KonigleSpaceStatus, PairStatus};
use crate::artifact::Key;
use crate::clock;
use crate::context::Context;
use crate::credentials::{self, CredentialsError};
use crate::desired::{Desired, Wish};
use crate::judge::last_sent;
use crate::konigle::model::Space;
use crate::konigle::{Client, ReadError};
use crate::memory::uid;
use crate::observation::{AccountFacts, AttemptFacts, LookError, NamedBy, Observation};
use crate::text::cut;
use crate::wish::{Gate, artifact_name, gate, wanted};

use artifact::{look_at_artifact, look_at_origin};
use attempt::{look_at_attempt, look_at_last_job, newest_job};
use others::look_at_others;
use promotion::{look_at_hold, look_at_pair, source};
use space::look_at_space;

/// How long a pass waits for a file to be read.
const CHECKED_WITHIN: Duration = Duration::from_secs(5);

/// Whose look it is, and through which account.
struct Look<'a> {
    context: &'a Context,
    resource: &'a KonigleSpace,
    desired: &'a Desired,
    status: &'a KonigleSpaceStatus,
    client: &'a Client,
}

/// What a pass saw, and the client through which it may act.
pub struct Observed {
    /// The facts.
    pub seen: Observation,
    /// The account's client, where there are credentials.
    pub client: Option<Arc<Client>>,
}

impl Observed {
    /// This process's own request was answered: the newest fact of this pass.
    pub fn answered(&mut self, context: &Context, claimed: &KonigleSpace) {
        let uid = uid(claimed);
        if let Some(attempt) = claimed.status.as_ref().and_then(|status| status.attempt.as_ref()) {
            let memory = context.memory.attempt(&uid, &attempt.nonce);
            self.seen.attempt =
                Some(AttemptFacts { seen_for: memory.seen_for, answer: memory.answer, ..AttemptFacts::default() });
        }
        self.seen.refusal = context.memory.refusal(&uid);
        self.seen.now = clock::now();
    }
}

/// Looks at everything that this resource's next step depends on.
pub async fn observe(context: &Arc<Context>, resource: &KonigleSpace, desired: &Desired) -> Observed {
    let status = resource.status.clone().unwrap_or_default();
    let mut seen = unlooked(context, resource);
    seen.origin = look_at_origin(context, resource, desired, &status).await;
    let name = match &desired.wish {
        Wish::Deploy(origin) => artifact_name(origin, &seen).map(|name| (origin, name)),
        Wish::Promote { .. } => None,
    };
    let may_be_needed =
        name.as_ref().is_some_and(|(_, name)| may_be_needed(desired, &name.digest.to_string(), &status));
    if let Some((origin, name)) = name.filter(|_| may_be_needed) {
        // Before the look at the Space: after it this would come between baseline and claim.
        check(context, resource, artifact_key(&seen.namespace, origin, &name)).await;
    }
    let client = look_at_konigle(context, resource, desired, &status, &mut seen).await;
    look_at_artifact(context, resource, desired, (&status, may_be_needed), &mut seen).await;
    Observed { seen, client }
}

/// Has what a former process left of the artifact hashed and inspected, beside the pass: it may be large. Most are done while
/// the pass waits; the end of another wakes the resource.
async fn check(context: &Arc<Context>, resource: &KonigleSpace, key: Key) {
    if !context.artifacts.is_unchecked(&key) {
        return;
    }
    let (done, checked) = oneshot::channel();
    let (context, uid, namespace) = (context.clone(), uid(resource), resource.namespace().unwrap_or_default());
    let reference = ObjectRef::new(&resource.name_any()).within(&namespace);
    let checking = async move {
        context.artifacts.check(&key, &context.shutdown).await;
        if done.send(()).is_err() {
            context.wake(&uid, reference);
        }
    };
    tokio::spawn(checking.in_current_span());
    // It takes long, or ended by a bug: the pass goes on without it.
    let _ = timeout(CHECKED_WITHIN, checked).await;
}

async fn look_at_konigle(
    context: &Context,
    resource: &KonigleSpace,
    desired: &Desired,
    status: &KonigleSpaceStatus,
    seen: &mut Observation,
) -> Option<Arc<Client>> {
    let client = account(context, resource, desired, seen).await;
    seen.source = source(context, resource, desired);
    if let Some(client) = &client {
        let look = Look { context, resource, desired, status, client };
        look_at_attempt(&look, seen).await;
        // A list may be long. The look at the Space is the baseline of a release: it comes after all that may be slow.
        if release_is_due(desired, seen, status) {
            seen.newest_job = newest_job(&look).await;
        }
        look_at_space(&look, seen).await;
        look_at_last_job(&look, seen).await;
        look_at_others(&look, seen).await;
        look_at_pair(&look, seen).await;
        look_at_hold(&look, seen).await;
    } else if let Some(Err(error)) = seen.space.clone() {
        note_look(context, resource, Some(&error), seen);
    }
    client
}

/// Notes what a look at Konigle came to (`None`: well), and for how long looks have been failing by now.
fn note_look(context: &Context, resource: &KonigleSpace, failed: Option<&LookError>, seen: &mut Observation) {
    let unavailable = matches!(failed, Some(LookError::Unavailable(_) | LookError::RateLimited(_)));
    let unauthorized = matches!(failed, Some(LookError::Unauthorized(_)));
    (seen.failing_for, seen.unauthorized_for) = context.memory.looked(&uid(resource), unavailable, unauthorized);
    if let Some(error) = failed.filter(|_| unavailable && seen.failing_for.is_zero()) {
        warn!(error = text_of(error), "looks at Konigle begin to fail");
    }
}

fn unlooked(context: &Context, resource: &KonigleSpace) -> Observation {
    let (name, namespace, uid) = (resource.name_any(), resource.namespace().unwrap_or_default(), uid(resource));
    let refusal = context.memory.refusal(&uid);
    let created_at = resource.creation_timestamp().map(|time| time.0);
    Observation { created_at, refusal, ..Observation::unlooked(name, namespace, uid, (clock::now(), context.settle)) }
}

async fn account(
    context: &Context,
    resource: &KonigleSpace,
    desired: &Desired,
    seen: &mut Observation,
) -> Option<Arc<Client>> {
    let namespace = resource.namespace().unwrap_or_default();
    let account =
        credentials::account(&context.api, &namespace, &desired.secret, (&context.base_url, &context.guard)).await;
    let (facts, client) = match account {
        Ok(account) => {
            let of_flag = account.base_url() == context.base_url.as_str().trim_end_matches('/');
            let named_by = if of_flag { NamedBy::Flag } else { NamedBy::Secret };
            let facts = AccountFacts { base_url: account.base_url().to_owned(), named_by };
            match context.konigle.client(&account) {
                Ok(client) => (Ok(facts), Some(client)),
                Err(error) => {
                    seen.space = Some(Err(LookError::Unavailable(error.to_string())));
                    (Ok(facts), None)
                }
            }
        }
        Err(CredentialsError::Problem(problem)) => (Err(problem), None),
        Err(CredentialsError::Unavailable(message)) => {
            // Whose Secret it is cannot be told now; the attempt, if any, was sent to whom it says.
            let sent_to = resource.status.as_ref().and_then(|status| status.attempt.as_ref());
            let base_url = sent_to.map_or_else(String::new, |attempt| attempt.sent_to.base_url.clone());
            seen.space = Some(Err(LookError::Unavailable(message)));
            (Ok(AccountFacts { base_url, named_by: NamedBy::Nobody }), None)
        }
    };
    seen.account = facts;
    client
}

/// Whether a release may be due, as far as that is known without a look at the Space.
fn release_is_due(desired: &Desired, seen: &Observation, status: &KonigleSpaceStatus) -> bool {
    let may_be_released = match &desired.wish {
        Wish::Deploy(_) => true,
        Wish::Promote { .. } => matches!(gate(desired, seen), Some(Gate::Open(_))),
    };
    may_be_released && wanted(desired, seen).is_some_and(|wanted| may_be_needed(desired, &wanted.digest, status))
}

/// Whether the resource by itself, without a look at its Space, gives reason to release this digest.
fn may_be_needed(desired: &Desired, digest: &str, status: &KonigleSpaceStatus) -> bool {
    let asked = desired.requests.reset(status) || desired.requests.redeploy(status);
    let runs = status.release.as_ref().is_some_and(|release| release.digest == digest);
    // A digest that runs is released once more where its last attempt, a redeploy, came to nothing.
    let failed = last_sent(status).is_some_and(|last| last.digest == digest && last.result != AttemptResult::Succeeded);
    status.attempt.is_none() && (asked || !runs || failed)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
fn look_error(error: ReadError) -> LookError {
    let text = error.to_string();
    match error {
        ReadError::Unauthorized { .. } => LookError::Unauthorized(text),
        ReadError::Forbidden { .. } => LookError::Forbidden(text),
        ReadError::NotFound { .. } | ReadError::InvalidId => LookError::NotFound(text),
        ReadError::RateLimited { .. } => LookError::RateLimited(text),
        ReadError::Address(AddressError::NotPublic { .. }) => LookError::BaseUrl(text),
        ReadError::Status { .. }
        | ReadError::Address(_)
        | ReadError::Connect { .. }
        | ReadError::Timeout
        | ReadError::Broken { .. }
        | ReadError::TooLarge
        | ReadError::Undecodable { .. }
        | ReadError::Client { .. } => LookError::Unavailable(text),
    }
}

/// The text of a look's error.
#[must_use]
pub fn text_of(error: &LookError) -> String {
    match error {
        LookError::Unauthorized(text)
        | LookError::Forbidden(text)
        | LookError::NotFound(text)
        | LookError::Ambiguous(text)
        | LookError::Changed(text)
        | LookError::BaseUrl(text)
        | LookError::RateLimited(text)
        | LookError::Unavailable(text) => text.clone(),
    }
}

/// The pair of a Space as the client read it.
#[must_use]
pub fn pair_of(space: &Space) -> PairStatus {
    PairStatus {
        last_deployed_at: space.pair.last_deployed_at.as_deref().map(word),
        last_deployment_status: space.pair.last_deployment_status.as_deref().map(word),
    }
}

/// A word of the remote as the status keeps it: bounded, and without control characters, which JSON makes six times longer.
fn word(text: &str) -> String {
    cut(&text.replace(char::is_control, ""), 256)
}
