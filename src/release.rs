//! The one dangerous write: claim, then submit.
//!
//! # Expected flow
//!
//! 1. The claim, a guarded write of the whole status with the attempt in it.
//! 2. A live look at the others: whoever sees another's open attempt on its pair of Spaces gives way. For a promotion also
//!    the hold on the uat resource, and a last look at both sides.
//! 3. One request, on a fresh connection, no later than ten seconds after the claim.
//! 4. The receipt: the ids go into the attempt, whatever else was written meanwhile.
//!
//! # Guarantees
//!
//! No request without a committed claim of this very process, and at most one for each claim. A step that fails before the
//! request leaves nothing at Konigle, and says so ([`Answer::Unsent`]).
//!
//! # Caveats
//!
//! Between the request and the receipt the process can die. The attempt then stays without a job id, and what became of it
//! is judged by evidence ([`crate::judge`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt;
use tracing::{debug, info, warn};

use crate::api::{Attempt, BaselineSource, HeldBy, KonigleSpace, TransferStatus};
use crate::artifact::Artifact;
use crate::clock;
use crate::cluster::within;
use crate::context::{Context, readable};
use crate::desired::{Approval, Desired, Wish};
use crate::footprint::Footprint;
use crate::judge::{Judged, Note, refusal, submit_limit};
use crate::konigle::{Answer, Client, FENCE, Fence, Sending, Upload};
use crate::memory::uid;
use crate::observation::Observation;
use crate::observe::{artifact_key, pair_of, source_facts};
use crate::plan::{Release, ReleaseKind, Step, claim, progress_pace};
use crate::record::{self, WriteError};
use crate::tally::tally;
use crate::wish::{artifact_name, may_hold, short, still_holds};

/// A release that was claimed.
pub enum Started {
    /// Konigle took it on, and the receipt is written (or the attempt is no longer the resource's).
    Accepted(Option<KonigleSpace>),
    /// It did not, or did not say; the answer is remembered, and judged like any other evidence.
    Answered(KonigleSpace),
}

/// Claims a release and submits it.
///
/// # Errors
///
/// [`WriteError`] where the claim did not land: nothing was sent.
pub async fn start(
    context: &Context,
    resource: &KonigleSpace,
    (desired, seen, judged): (&Desired, &Observation, &Judged),
    (release, client): (&Release, &Arc<Client>),
    notes: Vec<Note>,
) -> Result<Started, WriteError> {
    if context.shutdown.is_cancelled() {
        return Err(WriteError::Conflict);
    }
    let claimed = claim(judged, desired, seen, release, nonce()?);
    let status = crate::status::render(desired, seen, &claimed, &Step::Start(release.clone()));
    let Some(attempt) = status.attempt.clone() else { return Err(WriteError::Conflict) };
    let uid = uid(resource);

    let sending = Sending {
        fence: Fence::new(Instant::now(), clock::system(), FENCE),
        shutdown: context.shutdown.clone(),
        timeout: submit_limit(&attempt),
    };
    // Nothing fallible may be left to do: the file stays where it is until it was sent.
    let what = match &release.kind {
        ReleaseKind::Deploy { size } => {
            let artifact = artifact_of(context, (desired, seen), &attempt, *size).await;
            Content::Upload(artifact.ok_or(WriteError::Conflict)?)
        }
        ReleaseKind::Promote { source } => Content::OfUat(source),
    };
    let before = resource;
    let claimed = record::claim(context, resource, &status).await;
    if matches!(claimed, Err(WriteError::Cluster(_))) {
        // Whether or not the claim was stored, this process sends nothing for it, and no other knows the nonce.
        context.memory.claim_failed(&uid, &attempt.nonce);
    }
    let resource = claimed?;
    tally(&context.metrics, before, &resource, seen);
    let _ = context.memory.attempt(&uid, &attempt.nonce);
    context.memory.note(&resource);
    let kind = attempt.attempt_type.word();
    info!(attempt = attempt.number, kind, cause = ?attempt.cause, digest = short(&attempt.digest), nonce = attempt.nonce, "claimed");

    let (ready, held) = match (give_way(context, &resource).await, what) {
        (Err(why), _) => (Err(why), None),
        (Ok(()), Content::Upload(artifact)) => {
            (Ok(deploy(context, &resource, (&attempt, artifact), (client, &sending))), None)
        }
        (Ok(()), Content::OfUat(source)) => {
            promote(context, &resource, desired, (&attempt, source), (client, &sending)).await
        }
    };
    if ready.is_ok() {
        context.memory.releases(&uid);
    } else {
        context.memory.gives_back(&uid);
    }
    let Ready { request, event, upload } = ready.unwrap_or_else(Ready::for_nothing);
    let mut told = resource.clone();
    let submitting = async {
        tokio::select! {
            biased;
            submitted = submit(context, &resource, &attempt, (request, held.as_ref())) => submitted,
            never = tell_progress(context, &mut told, &attempt, upload) => match never {},
        }
    };
    // The Event is told meanwhile. It may be slow, so the receipt does not wait for it.
    let (submitted, ()) = tokio::join!(submitting, event);
    record::tell(context, before, &resource, notes).await;
    Ok(match submitted {
        // What is written next is written on top of what was told of the upload; an edit in between needs a pass of its own.
        Started::Answered(claimed) if differs_in_status_only(&told, &claimed) => Started::Answered(told),
        submitted => submitted,
    })
}

/// What a release brings.
enum Content<'a> {
    /// This file.
    Upload(Artifact),
    /// What the uat Space runs, as it was pinned.
    OfUat(&'a BaselineSource),
}

/// A request that is ready to be sent, and the Event that tells of it.
struct Ready<'a> {
    request: BoxFuture<'a, Answer>,
    event: BoxFuture<'a, ()>,
    /// How many bytes were sent, and how many there are.
    upload: Option<(Arc<AtomicU64>, u64)>,
}

impl Ready<'_> {
    /// No request at all, and why.
    fn for_nothing(why: String) -> Self {
        Self {
            request: std::future::ready(Answer::Unsent(why)).boxed(),
            event: std::future::ready(()).boxed(),
            upload: None,
        }
    }
}

/// Whether nothing was asked for between two versions of a resource.
fn differs_in_status_only(one: &KonigleSpace, other: &KonigleSpace) -> bool {
    one.metadata.generation == other.metadata.generation
        && one.metadata.annotations == other.metadata.annotations
        && one.metadata.deletion_timestamp == other.metadata.deletion_timestamp
}

/// Writes into the attempt how far its upload is, as often as any progress is told; of one that takes seconds only. A
/// failure is left to the next time: nothing rests on it. Never ends.
async fn tell_progress(
    context: &Context,
    told: &mut KonigleSpace,
    attempt: &Attempt,
    upload: Option<(Arc<AtomicU64>, u64)>,
) -> Infallible {
    let Some((sent, size)) = upload else { return std::future::pending().await };
    let began = Instant::now();
    let mut before = 0;
    loop {
        tokio::time::sleep(progress_pace(began.elapsed())).await;
        let now = sent.load(Ordering::Relaxed);
        if now == before {
            continue;
        }
        before = now;
        match record::upload_progress(context, told, attempt, &TransferStatus::of(now, Some(size))).await {
            Ok(written) => *told = written,
            Err(error) => debug!(error = &error as &dyn std::error::Error, "the upload's progress was not recorded"),
        }
    }
}

/// Sends the request, remembers its answer, and writes the receipt of one that was accepted. Nothing may stand between
/// the answer and its receipt: the ids cannot be asked for again.
async fn submit(
    context: &Context,
    resource: &KonigleSpace,
    attempt: &Attempt,
    (request, held): (BoxFuture<'_, Answer>, Option<&Held>),
) -> Started {
    let uid = uid(resource);
    let answer = request.await;
    match &answer {
        Answer::Accepted(deployment) => info!(attempt = attempt.number, job = deployment.job_id, "accepted"),
        Answer::Rejected(rejection) => info!(attempt = attempt.number, error = %rejection, "refused"),
        Answer::Unsent(why) => info!(attempt = attempt.number, error = why, "not sent"),
        Answer::Unknown(why) => {
            warn!(attempt = attempt.number, error = why, "no answer that tells the outcome");
            context.metrics.unknown_outcome(attempt.attempt_type.word());
        }
    }
    context.memory.refused(&uid, refusal(&answer));
    context.memory.answered(&uid, &attempt.nonce, answer.clone());
    let Answer::Accepted(deployment) = answer else { return Started::Answered(resource.clone()) };
    let written = record::receipt(context, resource, attempt, &deployment).await;
    if let Some((uat, held_by)) = held {
        record::note_job_in_hold(context, uat, held_by, &deployment.job_id).await;
    }
    Started::Accepted(written)
}

/// Looks for another open attempt on this Space or on the other half of its pair: live in this namespace, and in the
/// others live at each resource of this pair, whatever the watch has told of it. Of two that claim at the same moment at
/// least one sees the other's claim. A resource that is gone by now has nobody to follow its job: nothing is sent for it.
async fn give_way(context: &Context, claimed: &KonigleSpace) -> Result<(), String> {
    let own = Footprint::of(claimed);
    let busy = |other: &Footprint| format!("KonigleSpace {} has a release under way there", other.full_name());
    if let Some(other) = context.memory.begins_to_release(&own, context.settle) {
        return Err(format!("the release of KonigleSpace {}, which is gone, is not over", other.full_name()));
    }
    let neighbours = context.live_lists.releasing(&context.api, &own.namespace).await?;
    let goes_first = |other: &Footprint| own.gives_way_to(other) && !context.memory.is_over(other, context.settle);
    if let Some(other) = neighbours.iter().find(|other| goes_first(other)) {
        return Err(busy(other));
    }
    if !neighbours.iter().any(|known| known.uid == own.uid) {
        return Err("the resource is gone, or its claim was taken away".to_owned());
    }
    if let Some(other) = context.memory.unlisted(&own, &neighbours, context.settle) {
        return Err(format!(
            "KonigleSpace {} had a release under way there a moment ago, and is gone",
            other.full_name()
        ));
    }
    let all = context.all();
    let elsewhere = readable(&all).filter(|other| other.namespace().as_ref() != Some(&own.namespace));
    let may_be_at_it = |other: &Footprint| own.meets(other) || own.may_meet(other);
    let look =
        async |known: &KonigleSpace| match within("read a neighbour", context.spaces(known).get(&known.name_any()))
            .await
        {
            Ok(live) if goes_first(&Footprint::of(&live)) => Err(busy(&Footprint::of(&live))),
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(404) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
    // Collected: the compiler cannot prove of a lazy chain that it may be sent to another thread.
    let looks: Vec<_> =
        elsewhere.filter(|other| may_be_at_it(&Footprint::of(other))).map(|known| look(known).boxed()).collect();
    all_clear(looks).await
}

/// How many neighbours are read at once. Many may be there that have no Space yet, such as of wrong names; one after the
/// other they would outlast the fence.
const LOOKS_AT_ONCE: usize = 32;

/// Whether every look is clear; else why the first of them that came to an end is not.
async fn all_clear(looks: Vec<BoxFuture<'_, Result<(), String>>>) -> Result<(), String> {
    stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).try_collect().await
}

/// The file that is to be sent, kept for as long as it is held.
async fn artifact_of(
    context: &Context,
    (desired, seen): (&Desired, &Observation),
    attempt: &Attempt,
    size: u64,
) -> Option<Artifact> {
    let Wish::Deploy(origin) = &desired.wish else { return None };
    let name = artifact_name(origin, seen).filter(|name| name.digest.to_string() == attempt.digest)?;
    let artifact = context.artifacts.get(&artifact_key(&seen.namespace, origin, &name)).await;
    artifact.filter(|artifact| artifact.size() == size)
}

/// The upload of a file that is kept meanwhile.
fn deploy<'a>(
    context: &'a Context,
    resource: &'a KonigleSpace,
    (attempt, artifact): (&'a Attempt, Artifact),
    (client, sending): (&'a Arc<Client>, &'a Sending),
) -> Ready<'a> {
    let size = artifact.size();
    let message = format!("attempt {} of {}", attempt.number, short(&attempt.digest));
    let sent = Arc::new(AtomicU64::new(0));
    let upload = Upload {
        display_name: display_name(resource, attempt),
        file: artifact.path.clone(),
        stamp: artifact.stamp,
        sent: sent.clone(),
    };
    let request = async move {
        let answer = client.deploy(&attempt.sent_to.space_id, upload, sending).await;
        // The store keeps the file until it was sent.
        drop(artifact);
        answer
    };
    let started = Note { warning: false, reason: "DeployStarted", message };
    Ready {
        request: request.boxed(),
        event: record::publish(context, resource, started).boxed(),
        upload: Some((sent, size)),
    }
}

/// For people in Konigle's console; the nonce in brackets finds the job where the API shows names.
fn display_name(resource: &KonigleSpace, attempt: &Attempt) -> String {
    let revision = attempt.revision.as_ref().map(|revision| format!("{revision} ")).unwrap_or_default();
    format!(
        "{}/{} #{} {revision}{} [{}]",
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
        attempt.number,
        short(&attempt.digest),
        attempt.nonce
    )
}

/// The uat resource with our hold.
type Held = (KonigleSpace, HeldBy);

/// The promotion, once the uat resource is held and both sides are as they were; and the hold, where it was taken.
async fn promote<'a>(
    context: &'a Context,
    resource: &'a KonigleSpace,
    desired: &'a Desired,
    (attempt, source): (&'a Attempt, &'a BaselineSource),
    (client, sending): (&'a Arc<Client>, &'a Sending),
) -> (Result<Ready<'a>, String>, Option<Held>) {
    let (uat, held_by) = match hold(context, resource, desired, (attempt, source)).await {
        Ok(held) => held,
        Err(why) => return (Err(why), None),
    };
    let held = Some((uat, held_by.clone()));
    match client.space(&source.space_id).await {
        Ok(space) if pair_of(&space) == source.pair() => {}
        Ok(_) => {
            return (
                Err(format!(
                    "the Space of {} shows another deployment than the one that was confirmed: somebody deployed there, or it was read in an old state",
                    source.name
                )),
                held,
            );
        }
        Err(error) => return (Err(error.to_string()), held),
    }
    if let Err(why) = still_ours(context, resource, source, &held_by).await {
        return (Err(why), held);
    }
    let request = client.promote(&source.space_id, sending).boxed();
    (Ok(Ready { request, event: announce(context, resource, desired, attempt).boxed(), upload: None }), held)
}

/// Takes the hold on the uat resource, on the very version that shows it to be fit.
async fn hold(
    context: &Context,
    resource: &KonigleSpace,
    desired: &Desired,
    (attempt, source): (&Attempt, &BaselineSource),
) -> Result<Held, String> {
    let uat = within("read the uat resource", context.spaces(resource).get(&source.name))
        .await
        .map_err(|error| error.to_string())?;
    may_hold(desired, &source_facts(&uat), source, &uid(resource))?;
    let held_by = HeldBy {
        name: resource.name_any(),
        uid: uid(resource),
        attempt: attempt.number,
        nonce: attempt.nonce.clone(),
        job_id: None,
    };
    match record::hold(context, &uat, &held_by).await {
        Ok(uat) => Ok((uat, held_by)),
        Err(error) => Err(format!("the hold on KonigleSpace {} could not be taken: {error}", source.name)),
    }
}

/// Both resources once more, live: same UIDs, our attempt and our hold still there.
async fn still_ours(
    context: &Context,
    resource: &KonigleSpace,
    source: &BaselineSource,
    held_by: &HeldBy,
) -> Result<(), String> {
    let spaces = context.spaces(resource);
    let name = resource.name_any();
    let (own, uat) = tokio::join!(
        within("read the claim again", spaces.get(&name)),
        within("read the hold again", spaces.get(&source.name))
    );
    let (own, uat) = (own.map_err(|error| error.to_string())?, uat.map_err(|error| error.to_string())?);
    let (own_uid, uat_uid) = (own.uid(), uat.uid());
    let own = (own_uid.as_deref(), own.status.as_ref());
    if still_holds(own, (uat_uid.as_deref(), uat.status.as_ref()), source, held_by) {
        Ok(())
    } else {
        Err("the attempt or its hold was taken away meanwhile".to_owned())
    }
}

/// Says who approved the promotion, and when, as far as the API server knows: the manager of the field that approves.
async fn announce(context: &Context, resource: &KonigleSpace, desired: &Desired, attempt: &Attempt) {
    let (field, verb) = match &desired.wish {
        Wish::Promote { approval: Approval::Automatic, .. } => ("f:policy", "made Automatic"),
        Wish::Promote { .. } | Wish::Deploy(_) => ("f:approvedDigest", "approved"),
    };
    let approval = match within("read the approval", context.spaces(resource).get(&resource.name_any())).await {
        Ok(live) => live.managed_fields().iter().find_map(|entry| {
            let fields = serde_json::to_value(&entry.fields_v1).ok()?;
            fields["f:spec"]["f:promotion"].get(field)?;
            let time = entry.time.as_ref().map(|time| crate::time::text(time.0)).unwrap_or_default();
            // A name that the client chose; who it was is not known here.
            let manager = entry.manager.as_deref().unwrap_or("unknown");
            Some(format!(", {verb} by the field manager `{manager}` at {time}"))
        }),
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "who approved the promotion could not be read");
            None
        }
    };
    let message = format!("attempt {} of {}{}", attempt.number, short(&attempt.digest), approval.unwrap_or_default());
    record::publish(context, resource, Note { warning: false, reason: "PromotionStarted", message }).await;
}

/// Nine characters that no other attempt has.
fn nonce() -> Result<String, WriteError> {
    let mut bytes = [0_u8; 5];
    SystemRandom::new().fill(&mut bytes).map_err(|_| WriteError::Conflict)?;
    Ok(format!("k{}", &hex::encode(bytes)[..8]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Barrier;

    use super::*;

    /// Each look ends only when as many others as may be under way at once have begun.
    #[tokio::test]
    async fn hundreds_of_neighbours_are_read_many_at_once() {
        let barrier = Barrier::new(LOOKS_AT_ONCE);
        let look = async || {
            barrier.wait().await;
            Ok(())
        };
        let looks = (0..10 * LOOKS_AT_ONCE).map(|_| look().boxed()).collect();
        let all = tokio::time::timeout(Duration::from_secs(20), all_clear(looks)).await;
        assert_eq!(all.expect("they do not wait for each other"), Ok(()));
        let look = async |number| if number == 77 { Err("busy".to_owned()) } else { Ok(()) };
        assert_eq!(all_clear((0..100).map(|number| look(number).boxed()).collect()).await, Err("busy".to_owned()));
    }
}
