//! Looks at the world and says what it saw. Reads only; that nothing could be seen is a fact, never an error.
//!
//! Nothing slow is done here: an artifact's bytes are fetched elsewhere, and only when they are wanted. Reads of Konigle
//! go through the one client of their account, which shares its rate limit, its back-off and its connections.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource, ResourceExt};
use tracing::warn;

use crate::api::{Attempt, AttemptType, BaselineSource, KonigleSpace, KonigleSpaceStatus, PairStatus, SpaceStatus};
use crate::cluster::within;
use crate::controller::Context;
use crate::credentials::{self, CredentialsError};
use crate::desired::{Desired, HttpWish, Wish};
use crate::judge::{is_pending, last_sent};
use crate::konigle::model::{JobStatus, Space, SpaceType};
use crate::konigle::{Answer, Client, ReadError};
use crate::memory::{DownloadMemory, uid};
use crate::observation::{
    AccountFacts, ArtifactFacts, AttemptFacts, Holder, HolderFacts, JobTimes, LookError, Observation, PairProof,
    Problem, SourceFacts, SpaceFacts,
};
use crate::reason::Reason;
use crate::status::cut;
use crate::wish::{Gate, gate};

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
        self.seen.now = Timestamp::now();
    }
}

/// Looks at everything that this resource's next step depends on.
pub async fn observe(context: &Context, resource: &KonigleSpace, desired: &Desired) -> Observed {
    let status = resource.status.clone().unwrap_or_default();
    let mut seen = blank(context, resource);
    let client = account(context, resource, desired, &mut seen).await;
    seen.source = source(context, resource, desired);
    if let Some(client) = &client {
        look_at_attempt(context, resource, &status, client, &mut seen).await;
        look_at_space(context, resource, desired, &status, client, &mut seen).await;
        look_at_last_job(&status, client, &mut seen).await;
        look_at_pair(context, resource, desired, &status, client, &mut seen).await;
        look_at_hold(context, resource, &status, client, &mut seen).await;
    }
    seen.conflict = conflict(context, resource, &seen);
    if let Wish::Deploy(wish) = &desired.wish {
        seen.artifact = artifact(context, resource, desired, wish, &status, &seen).await;
        if status.attempt.is_none() && matches!(seen.artifact, ArtifactFacts::OnDisk { .. }) {
            match promotions_from(context, resource).await {
                Ok(promotions) => seen.promotions = promotions,
                // Without that look no deploy may start.
                Err(message) => seen.space = Some(Err(LookError::Unavailable(message))),
            }
        }
    }
    Observed { seen, client }
}

fn blank(context: &Context, resource: &KonigleSpace) -> Observation {
    Observation {
        uid: uid(resource),
        now: Timestamp::now(),
        settle: context.settle,
        account: Err(Problem { reason: Reason::SecretNotFound, message: String::new() }),
        space: None,
        conflict: None,
        failing_for: Duration::ZERO,
        unauthorized_for: None,
        attempt: None,
        last_job: None,
        artifact: ArtifactFacts::Absent,
        source: None,
        pair: PairProof::NotLooked,
        holder: None,
        promotions: Vec::new(),
        refusal: context.memory.refusal(&uid(resource)),
        newest_job: None,
    }
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
            let facts = AccountFacts { base_url: account.base_url().to_owned() };
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
            (Ok(AccountFacts { base_url }), None)
        }
    };
    seen.account = facts;
    client
}

/// The job of the open attempt, before the Space: what the Space shows must not be older than the job's end.
async fn look_at_attempt(
    context: &Context,
    resource: &KonigleSpace,
    status: &KonigleSpaceStatus,
    client: &Client,
    seen: &mut Observation,
) {
    let Some(attempt) = status.attempt.as_ref() else { return };
    let uid = uid(resource);
    let memory = context.memory.attempt(&uid, &attempt.nonce);
    let mut facts = AttemptFacts { seen_for: memory.seen_for, answer: memory.answer, ..AttemptFacts::default() };
    if attempt.sent_to.base_url == client.account().base_url() {
        if let Some(job_id) = &attempt.job_id {
            let job = client.job(job_id).await.map_err(look_error);
            if let Ok(job) = &job
                && let JobStatus::Unknown(word) = &job.status
            {
                warn!(word, "Konigle sent a job status that is not known; it is taken as unfinished");
                context.metrics.unknown_word("job_status");
            }
            facts.job_ended_for =
                context.memory.job_ended(&uid, &attempt.nonce, job.as_ref().is_ok_and(|job| job.status.ended()));
            facts.job_missing_for =
                context.memory.job_missing(&uid, &attempt.nonce, matches!(job, Err(LookError::NotFound(_))));
            facts.job = Some(job);
        } else if !matches!(facts.answer, Some((_, Answer::Accepted(_) | Answer::Rejected(_) | Answer::Unsent(_)))) {
            look_at_jobs(context, attempt, client, &mut facts).await;
        }
        let ended = facts.job.as_ref().is_none_or(|job| job.as_ref().is_ok_and(|job| job.status.ended()));
        if attempt.attempt_type == AttemptType::Promote && ended {
            facts.source = source_now(context, resource, attempt, client).await;
        }
    }
    seen.attempt = Some(facts);
}

/// Where the API serves the list of jobs, it may show the attempt's own job, or that none is left running.
async fn look_at_jobs(context: &Context, attempt: &Attempt, client: &Client, facts: &mut AttemptFacts) {
    let base_url = client.account().base_url();
    if context.memory.jobs_served(base_url) == Some(false) {
        return;
    }
    match client.jobs().await {
        Ok(Some(jobs)) => {
            context.memory.set_jobs_served(base_url, true);
            facts.job_with_nonce = jobs.iter().find(|job| job.mentions(&attempt.nonce)).map(|job| job.id.clone());
            let baseline = attempt.baseline.newest_job_created_at.as_deref().and_then(crate::time::parse);
            facts.later_jobs_ended = jobs.iter().all(|job| {
                let older = job.created_at.as_deref().and_then(crate::time::parse).zip(baseline);
                job.status.ended() || older.is_some_and(|(created, baseline)| created < baseline)
            });
        }
        Ok(None) => context.memory.set_jobs_served(base_url, false),
        Err(_) => {}
    }
}

/// The uat side of a promotion as it is now.
async fn source_now(
    context: &Context,
    resource: &KonigleSpace,
    attempt: &Attempt,
    client: &Client,
) -> Option<Result<BaselineSource, LookError>> {
    let pinned = attempt.baseline.source.as_ref()?;
    let uid = match within("read a KonigleSpace", context.spaces(resource).get_metadata(&pinned.name)).await {
        Ok(metadata) => metadata.uid().unwrap_or_default(),
        Err(error) if error.code() == Some(404) => String::new(),
        Err(error) => return Some(Err(LookError::Unavailable(error.to_string()))),
    };
    Some(client.space(&pinned.space_id).await.map_err(look_error).map(|space| BaselineSource {
        uid,
        last_deployed_at: space.pair.last_deployed_at,
        last_deployment_status: space.pair.last_deployment_status,
        ..pinned.clone()
    }))
}

async fn look_at_space(
    context: &Context,
    resource: &KonigleSpace,
    desired: &Desired,
    status: &KonigleSpaceStatus,
    client: &Client,
    seen: &mut Observation,
) {
    let job_runs = seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref()).is_some_and(|job| match job {
        Ok(job) => !job.status.ended(),
        Err(error) => !matches!(error, LookError::NotFound(_)),
    });
    let answered = status.attempt.as_ref().is_some_and(|attempt| desired.requests.answer_for(&attempt.nonce).is_some());
    let look = if job_runs && !answered {
        let job = seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref());
        job.and_then(|job| job.as_ref().err()).cloned().map(Err)
    } else {
        let look = space(desired, status, client).await;
        seen.space = Some(look.clone().map(|space| space_facts(&space)));
        Some(look.map(|_| ()))
    };
    let (failed, unauthorized) = match &look {
        Some(Err(LookError::Unavailable(_))) => (true, false),
        Some(Err(LookError::Unauthorized(_))) => (false, true),
        _ => (false, false),
    };
    let (failing_for, unauthorized_for) = context.memory.looked(&uid(resource), failed, unauthorized);
    seen.failing_for = failing_for;
    seen.unauthorized_for = unauthorized_for;
}

/// The Space, by its id; by its names only until the id is known, or where a person has it resolved anew.
async fn space(desired: &Desired, status: &KonigleSpaceStatus, client: &Client) -> Result<Space, LookError> {
    let reset = is_pending(desired.requests.reset_at.as_ref(), status.last_handled_reset_at.as_ref());
    if let Some(id) = &desired.space.id {
        return client.space(id).await.map_err(|error| match look_error(error) {
            LookError::NotFound(detail) => LookError::NotFound(format!(
                "there is no Space {id} for this token ({detail}): correct spec.space.id in a new KonigleSpace, or use the token of the project that owns it"
            )),
            other => other,
        });
    }
    let known = status.space.as_ref().map(|space| space.id.clone()).filter(|id| !id.is_empty());
    match known {
        Some(id) if !reset || status.attempt.is_some() => match client.space(&id).await.map_err(look_error) {
            Err(LookError::NotFound(detail)) => match resolve(desired, client).await {
                Ok(other) if other.id != id => Err(LookError::Changed(format!(
                    "the names in spec.space now lead to Space {}, not to {id} as before: to go on with the new one, set the annotation cloud.konigle.com/reset-at",
                    other.id
                ))),
                Ok(_) => Err(LookError::Unavailable(detail)),
                Err(error) => Err(error),
            },
            look => look,
        },
        _ => resolve(desired, client).await,
    }
}

/// The Space of these names: matched exactly, over all pages, and exactly one.
async fn resolve(desired: &Desired, client: &Client) -> Result<Space, LookError> {
    let reference = &desired.space;
    let (Some(computer), Some(webapp)) = (&reference.computer, &reference.webapp) else {
        return Err(LookError::NotFound("spec.space names no Space".to_owned()));
    };
    let computers = client.computers().await.map_err(look_error)?;
    let computers = computers.into_iter().filter(|found| found.name == *computer).map(|found| found.id).collect();
    let computer_id = only(computers, "computer", computer)?;
    let webapps = client.webapps(&computer_id).await.map_err(look_error)?;
    let webapps = webapps
        .into_iter()
        .filter(|found| found.name == *webapp && found.computer.as_ref().is_none_or(|id| *id == computer_id))
        .map(|found| found.id)
        .collect();
    let webapp_id = only(webapps, "web app", webapp)?;
    let wanted = if desired.promotes() { SpaceType::Production } else { SpaceType::Uat };
    let mut spaces: Vec<Space> = client.spaces(&webapp_id).await.map_err(look_error)?;
    spaces.retain(|found| found.space_type == wanted && found.webapp.as_ref().is_none_or(|id| *id == webapp_id));
    only(spaces.iter().map(|found| found.id.clone()).collect(), "Space of type", wanted.as_str())?;
    match spaces.pop() {
        // The list told which web app it is of, whether or not each entry repeats it.
        Some(space) => Ok(Space { webapp: space.webapp.or(Some(webapp_id)), ..space }),
        None => Err(LookError::NotFound(String::new())),
    }
}

fn only(ids: Vec<String>, what: &str, name: &str) -> Result<String, LookError> {
    match <[String; 1]>::try_from(ids) {
        Ok([id]) => Ok(id),
        Err(none) if none.is_empty() => Err(LookError::NotFound(format!(
            "there is no {what} {name} for this token: names are matched exactly; make a new KonigleSpace with the right ones, or use the token of the project that owns it"
        ))),
        Err(several) => Err(LookError::Ambiguous(format!(
            "several fit {what} {name} ({}): make a new KonigleSpace with spec.space.id",
            several.join(", ")
        ))),
    }
}

fn space_facts(space: &Space) -> SpaceFacts {
    let text = |text: &str| cut(text, 256);
    SpaceFacts {
        url: space.url().map(|url| cut(&url, 512)),
        status: SpaceStatus {
            id: text(&space.id),
            space_type: text(space.space_type.as_str()),
            webapp: space.webapp.as_deref().map(text).unwrap_or_default(),
            status: text(&space.status),
            custom_domain: text(&space.custom_domain),
            custom_domain_status: text(&space.custom_domain_status),
            last_deployed_at: space.pair.last_deployed_at.as_deref().map(text),
            last_deployment_status: space.pair.last_deployment_status.as_deref().map(text),
        },
    }
}

/// Where the pair moved after our own last job, that job's times tell whether it was that job.
async fn look_at_last_job(status: &KonigleSpaceStatus, client: &Client, seen: &mut Observation) {
    let (None, Some(settled), Some(Ok(space))) = (&status.attempt, &status.settled, &seen.space) else { return };
    if space.pair() == *settled {
        return;
    }
    let Some(job_id) = last_sent(status).and_then(|entry| entry.job_id.as_deref()) else { return };
    seen.last_job = Some(
        client
            .job(job_id)
            .await
            .map_err(look_error)
            .map(|job| JobTimes { created_at: job.created_at, completed_at: job.completed_at }),
    );
}

fn source(context: &Context, resource: &KonigleSpace, desired: &Desired) -> Option<SourceFacts> {
    let Wish::Promote { from, .. } = &desired.wish else { return None };
    let source = context.known(&resource.namespace().unwrap_or_default(), from);
    Some(source.map(|source| source_facts(&source)).unwrap_or_default())
}

/// The facts of a uat resource.
#[must_use]
pub fn source_facts(source: &KonigleSpace) -> SourceFacts {
    let status = source.status.clone().unwrap_or_default();
    SourceFacts {
        exists: true,
        uid: uid(source),
        deleting: source.meta().deletion_timestamp.is_some(),
        current: status.observed_generation == source.meta().generation.unwrap_or_default(),
        status,
    }
}

/// Before a promotion, the two Spaces must be proven to be of one web app.
async fn look_at_pair(
    context: &Context,
    resource: &KonigleSpace,
    desired: &Desired,
    status: &KonigleSpaceStatus,
    client: &Client,
    seen: &mut Observation,
) {
    let Some(Gate::Open(source)) = gate(desired, seen) else { return };
    let Some(Ok(space)) = &seen.space else { return };
    if status.attempt.is_some() || status.release.as_ref().is_some_and(|release| release.digest == source.digest) {
        // A redeploy of the same digest needs the proof too; it was made for the first promotion, and is remembered.
        let asked = is_pending(desired.requests.redeploy_at.as_ref(), status.last_handled_redeploy_at.as_ref())
            || is_pending(desired.requests.reset_at.as_ref(), status.last_handled_reset_at.as_ref());
        if status.attempt.is_some() || !asked {
            return;
        }
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
    let other = uat.webapp.or(recorded).filter(|id| !id.is_empty());
    let differ = |own: &str, other: &str| {
        PairProof::NotProven(format!(
            "KonigleSpace {} is of web app {other}, and this Space is of web app {own}: a promotion would change another production Space, so nothing is sent; correct spec.promotion.from",
            source.name
        ))
    };
    match (own, other) {
        (Some(own), Some(other)) if own == other => PairProof::Proven,
        (Some(own), Some(other)) => differ(&own, &other),
        (Some(webapp), None) | (None, Some(webapp)) => match client.spaces(&webapp).await.map_err(look_error) {
            Ok(spaces) => {
                let holds = |id: &str| spaces.iter().any(|space| space.id == id);
                if holds(&production.id) && holds(&source.space_id) {
                    PairProof::Proven
                } else {
                    differ("another", &webapp)
                }
            }
            Err(error) => PairProof::Unavailable(text_of(&error)),
        },
        (None, None) => PairProof::NotProven(format!(
            "Konigle does not tell which web app the Spaces of this resource and of KonigleSpace {} belong to, so that they are a pair is not proven: name the Space by computer, webapp and type in a new KonigleSpace",
            source.name
        )),
    }
}

/// Who holds this uat resource, read live.
async fn look_at_hold(
    context: &Context,
    resource: &KonigleSpace,
    status: &KonigleSpaceStatus,
    client: &Client,
    seen: &mut Observation,
) {
    let Some(held) = &status.held_by else { return };
    let holder = match within("read a KonigleSpace", context.spaces(resource).get(&held.name)).await {
        Ok(holder) if holder.uid().as_deref() == Some(held.uid.as_str()) => {
            let attempt = holder.status.and_then(|status| status.attempt).filter(|attempt| attempt.nonce == held.nonce);
            Some(attempt.map_or(Holder::Done, |attempt| Holder::Promoting { job_id: attempt.job_id }))
        }
        Ok(_) => Some(Holder::Gone),
        Err(error) if error.code() == Some(404) => Some(Holder::Gone),
        Err(_) => None,
    };
    let job_ended = match (&holder, &held.job_id) {
        (Some(Holder::Gone), Some(job_id)) => client.job(job_id).await.ok().map(|job| job.status.ended()),
        _ => None,
    };
    let seen_for = context.memory.hold(&uid(resource), &held.nonce);
    seen.holder = Some(HolderFacts { holder, seen_for, job_ended });
}

/// Another resource for the same Space that is older, and has reached it. An open attempt outranks age.
fn conflict(context: &Context, resource: &KonigleSpace, seen: &Observation) -> Option<String> {
    let space_id = &seen.space.as_ref()?.as_ref().ok()?.status.id;
    let age = |resource: &KonigleSpace| {
        (resource.meta().creation_timestamp.as_ref().map(|time| time.0), resource.uid().unwrap_or_default())
    };
    let own = age(resource);
    context
        .all()
        .into_iter()
        .filter(|other| other.uid() != resource.uid() && age(other) < own)
        .find(|other| other.status.as_ref().and_then(|status| status.space.as_ref()).is_some_and(|space| space.id == *space_id))
        .map(|other| format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any()))
}

/// The wanted artifact; looked for only where it may be needed, so that a resource in sync never touches it.
async fn artifact(
    context: &Context,
    resource: &KonigleSpace,
    desired: &Desired,
    wish: &HttpWish,
    status: &KonigleSpaceStatus,
    seen: &Observation,
) -> ArtifactFacts {
    let requests = &desired.requests;
    let asked = is_pending(requests.reset_at.as_ref(), status.last_handled_reset_at.as_ref())
        || is_pending(requests.redeploy_at.as_ref(), status.last_handled_redeploy_at.as_ref());
    let runs = status.release.as_ref().is_some_and(|release| release.digest == wish.digest.to_string());
    let moved = match (&seen.space, &status.settled) {
        (Some(Ok(space)), Some(settled)) => space.pair() != *settled,
        _ => false,
    };
    if status.attempt.is_some() || (runs && !asked && !moved && status.failures == 0) {
        return ArtifactFacts::Absent;
    }
    if let Some(artifact) = context.artifacts.get(&wish.digest).await {
        return ArtifactFacts::OnDisk { size: artifact.size };
    }
    match context.memory.download(&uid(resource), &download_key(wish)) {
        None => ArtifactFacts::Absent,
        Some(DownloadMemory::Running) => ArtifactFacts::Downloading,
        Some(DownloadMemory::Failed(error, ago, times)) => ArtifactFacts::Failed { error, ago, times },
    }
}

/// What a failed download is remembered by: another URL, digest or Secret is tried at once.
#[must_use]
pub fn download_key(wish: &HttpWish) -> String {
    format!("{} {} {}", wish.url, wish.digest, wish.secret.as_deref().unwrap_or_default())
}

/// The resources that promote from this one and have an open attempt: a live list of its namespace.
async fn promotions_from(context: &Context, resource: &KonigleSpace) -> Result<Vec<String>, String> {
    let name = resource.name_any();
    let spaces: Api<kube::core::DeserializeGuard<KonigleSpace>> =
        Api::namespaced(context.api.clone(), &resource.namespace().unwrap_or_default());
    let list = within("list KonigleSpaces", spaces.list(&kube::api::ListParams::default())).await;
    let list = list.map_err(|error| error.to_string())?;
    let promoting = |other: &KonigleSpace| {
        let promotes = other.spec.promotion.as_ref().is_some_and(|promotion| promotion.from.name == name);
        let attempt = other.status.as_ref().and_then(|status| status.attempt.as_ref());
        promotes && attempt.is_some_and(|attempt| attempt.attempt_type == AttemptType::Promote)
    };
    Ok(list.items.into_iter().filter_map(|other| other.0.ok()).filter(promoting).map(|other| other.name_any()).collect())
}

fn look_error(error: ReadError) -> LookError {
    let text = error.to_string();
    match error {
        ReadError::Unauthorized { .. } => LookError::Unauthorized(text),
        ReadError::Forbidden { .. } => LookError::Forbidden(text),
        ReadError::NotFound { .. } | ReadError::InvalidId => LookError::NotFound(text),
        ReadError::RateLimited { .. }
        | ReadError::Status { .. }
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
        | LookError::Unavailable(text) => text.clone(),
    }
}

/// The pair of a Space as the client read it.
#[must_use]
pub fn pair_of(space: &Space) -> PairStatus {
    PairStatus {
        last_deployed_at: space.pair.last_deployed_at.as_deref().map(|text| cut(text, 256)),
        last_deployment_status: space.pair.last_deployment_status.as_deref().map(|text| cut(text, 256)),
    }
}

impl Context {
    /// A resource of the watched namespaces, as the watch last told it.
    #[must_use]
    pub fn known(&self, namespace: &str, name: &str) -> Option<Arc<KonigleSpace>> {
        let reference = ObjectRef::new(name).within(namespace);
        self.store.get(&reference).and_then(|guard| guard.0.as_ref().ok().cloned().map(Arc::new))
    }

    /// All resources of the watched namespaces.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<KonigleSpace>> {
        self.store.state().iter().filter_map(|guard| guard.0.as_ref().ok().cloned().map(Arc::new)).collect()
    }
}
