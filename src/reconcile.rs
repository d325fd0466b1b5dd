//! One pass over one resource, from its spec to its status. **Read this first.**
//!
//! Data goes one way: each value below is made once and moves on, and no step calls an earlier one. The loop is
//! Kubernetes': our own status write, a watched change, or the timer brings the next pass. A pass never waits for a job.
//!
//! Absent: decisions ([`crate::judge`], [`crate::plan`]), words ([`crate::status`]), calls ([`crate::observe`],
//! [`crate::release`], [`crate::record`]).

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use tracing::{debug, error};

use crate::api::{Attempt, KonigleSpace, RESOLVE_ATTEMPT};
use crate::commands::{INSTALL_CRD, Named};
use crate::context::Context;
use crate::desired::{Desired, Invalid};
use crate::judge::{Judged, Note, judge};
use crate::memory::uid;
use crate::observation::Problem;
use crate::observe::observe;
use crate::plan::{Step, look_again, next_step};
use crate::reason::Reason;
use crate::record::{WriteError, note_release, record, record_leniently, tell};
use crate::redact::Redactor;
use crate::release::{Started, start};
use crate::tally::tally;
use crate::text::cut;
use crate::{clock, download, status, telemetry};

/// How soon the first look at a new job is due.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How soon a resource is looked at that nothing but an edit can mend.
const BROKEN_INTERVAL: Duration = Duration::from_mins(10);
/// How much of an answer that counts for nothing is shown, in bytes.
const LONGEST_ANSWER: usize = 80;

/// Moves one resource at most one step closer to its spec, and says in its status why.
///
/// # Errors
///
/// Only Kubernetes can fail a pass; that Konigle did not answer is a fact like any other.
pub async fn reconcile(
    guard: Arc<DeserializeGuard<KonigleSpace>>,
    context: Arc<Context>,
) -> Result<Action, WriteError> {
    let resource = match &guard.0 {
        Ok(resource) => resource,
        Err(invalid) => return Ok(undecodable(invalid)),
    };
    if let Some(left) = context.memory.undisturbed(resource) {
        telemetry::note("step", "Undisturbed");
        return Ok(Action::requeue(left));
    }
    let mut resource = resource.clone();
    let wakes = context.memory.wakes(&uid(&resource));
    let desired = match Desired::parse(&resource) {
        Ok(desired) => desired,
        Err(invalid) => return say_invalid(&context, &resource, &invalid).await,
    };

    let mut observed = observe(&context, &resource, &desired).await;
    let mut judged = judge(&resource.status.clone().unwrap_or_default(), &desired, &observed.seen);
    let mut notes = notes(&context, &resource, &desired, &judged);
    let mut step = next_step(&desired, &observed.seen, &judged);
    trace(&step, &resource);

    if let (Step::Start(release), Some(client)) = (&step, &observed.client) {
        let facts = (&desired, &observed.seen, &judged);
        match Box::pin(start(&context, &resource, facts, (release, client), notes)).await {
            Ok(Started::Accepted(written)) => {
                return Ok(finish(&context, written.as_ref().unwrap_or(&resource), FIRST_LOOK, wakes));
            }
            Ok(Started::Answered(claimed)) => {
                observed.answered(&context, &claimed);
                judged = judge(&claimed.status.clone().unwrap_or_default(), &desired, &observed.seen);
                step = next_step(&desired, &observed.seen, &judged);
                trace(&step, &claimed);
                notes = judged.notes.clone();
                resource = claimed;
            }
            Err(WriteError::CrdOutdated(why)) => return say_outdated(&context, &resource, &why).await,
            Err(error) => return Err(error),
        }
    }

    let rendered = status::render(&desired, &observed.seen, &judged, &step);
    let predecessor = observed.seen.predecessor.as_ref().map(|predecessor| &*predecessor.uid);
    if predecessor.is_some_and(|left_by| !context.memory.begins_to_inherit(left_by, &uid(&resource))) {
        return Err(WriteError::Conflict);
    }
    let written = match record(&context, &resource, &rendered).await {
        Ok(written) => written,
        Err(WriteError::Conflict) => {
            context.memory.gives_back(&uid(&resource));
            return Err(WriteError::Conflict);
        }
        Err(WriteError::CrdOutdated(why)) => return say_outdated(&context, &resource, &why).await,
        Err(error) => return Err(error),
    };
    tally(&context.metrics, &resource, &written, &observed.seen);
    tell(&context, &resource, &written, notes).await;
    if let Some(left_by) = predecessor {
        context.memory.inherit(left_by, &uid(&written));
    }
    let written = note_release(&context, written).await;
    download::end_obsolete(&context, &written, &desired, &observed.seen);
    if step == Step::Fetch {
        download::begin(&context, &written, &desired, &observed.seen);
    }
    let next = look_again(&step, &desired, &observed.seen, &judged);
    Ok(finish(&context, &written, jittered(next), wakes))
}

fn finish(context: &Context, resource: &KonigleSpace, next: Duration, wakes: u64) -> Action {
    trace_attempt(resource);
    context.memory.passed(resource, next, wakes);
    Action::requeue(next)
}

/// What this pass does, and about which attempt, for its trace.
fn trace(step: &Step, resource: &KonigleSpace) {
    debug!(?step, "planned");
    let (step, reason) = step.words();
    telemetry::note("step", step);
    if let Some(reason) = reason {
        telemetry::note("reason", reason);
    }
    trace_attempt(resource);
}

/// The attempt that is open; where it ends in this pass, the one that was.
fn trace_attempt(resource: &KonigleSpace) {
    if let Some(attempt) = resource.status.as_ref().and_then(|status| status.attempt.as_ref()) {
        telemetry::note("attempt", attempt.number);
        if let Some(job_id) = &attempt.job_id {
            telemetry::note("job", job_id.clone());
        }
    }
}

/// The things that happened in this pass and leave no other trace.
fn notes(context: &Context, resource: &KonigleSpace, desired: &Desired, judged: &Judged) -> Vec<Note> {
    let mut notes = judged.notes.clone();
    let Some(answer) = &desired.requests.resolve_attempt else { return notes };
    let open = resource.status.as_ref().and_then(|status| status.attempt.as_ref());
    let fits = open.is_some_and(|attempt| desired.requests.answer_for(&attempt.nonce).is_some());
    // An answer that was heard stays in the annotations; without an open attempt it is not told from one that fits none.
    let heard =
        open.is_none() && judged.status.history.iter().any(|entry| entry.message.starts_with("a person answered"));
    if context.memory.is_new_answer(&uid(resource), answer) && !fits && !heard {
        let message = ignored(answer, resource, open);
        notes.push(Note { warning: true, reason: "AnswerIgnored", message });
    }
    notes
}

/// Why an answer counts for nothing. It names the answer: the next one, as wrong, is another Event.
fn ignored(answer: &str, resource: &KonigleSpace, open: Option<&Attempt>) -> String {
    let answer = cut(&Redactor::default().clean(&answer.replace(char::is_control, " ")), LONGEST_ANSWER);
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    let named = Named { namespace: &namespace, name: &name };
    let what = match open {
        None => format!("for no attempt is open; take it away: {}", named.remove(RESOLVE_ATTEMPT)),
        Some(Attempt { number, nonce, .. }) => format!(
            "for it is no answer to attempt {number}, which is open: {} (or =failed, or =retry)",
            named.resolve(nonce, "succeeded")
        ),
    };
    format!("the value `{answer}` of the annotation {RESOLVE_ATTEMPT} was ignored, {what}")
}

async fn say_invalid(context: &Context, resource: &KonigleSpace, invalid: &Invalid) -> Result<Action, WriteError> {
    // What it asked for before, it asks for no more.
    context.memory.wants_download(&uid(resource), None);
    let before = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation.unwrap_or_default();
    let status = status::invalid(&before, generation, invalid, clock::now());
    let written = record(context, resource, &status).await?;
    tell(context, resource, &written, Vec::new()).await;
    Ok(finish(context, &written, BROKEN_INTERVAL, context.memory.wakes(&uid(resource))))
}

/// The installed CRD lacks fields: without them a claim would be lost, so nothing is sent before it is replaced.
async fn say_outdated(context: &Context, resource: &KonigleSpace, why: &str) -> Result<Action, WriteError> {
    let problem = Problem {
        reason: Reason::CRDOutdated,
        message: format!(
            "the installed CRD is older than this operator ({why}); apply the CRD of this version: {INSTALL_CRD}"
        ),
    };
    if context.memory.is_news(&uid(resource), "OldCRD", why) {
        error!(error = why, "the installed CRD is older than this operator");
    }
    let before = resource.status.clone().unwrap_or_default();
    let generation = resource.metadata.generation.unwrap_or_default();
    let status = status::stalled(&before, generation, &problem, clock::now());
    let written = record_leniently(context, resource, &status).await?;
    Ok(finish(context, &written, Duration::from_mins(1), context.memory.wakes(&uid(resource))))
}

fn undecodable(invalid: &kube::core::error_boundary::InvalidObject) -> Action {
    error!(error = %invalid.error, "this KonigleSpace cannot be read; the others go on. Apply the CRD of this version and mend the resource");
    Action::requeue(BROKEN_INTERVAL)
}

/// Long waits are spread, from a tenth shorter to a twentieth longer, so that resources do not stay in step.
fn jittered(wait: Duration) -> Duration {
    if wait < Duration::from_secs(30) {
        return wait;
    }
    let mut byte = [128_u8];
    let _ = aws_lc_rs::rand::fill(&mut byte);
    wait.mul_f64(0.9 + 0.15 * f64::from(byte[0]) / 256.0)
}
