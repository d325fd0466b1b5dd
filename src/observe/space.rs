//! The remote Space: by its id, or by names that are resolved once.

use tracing::warn;

use crate::api::{KonigleSpaceStatus, SpaceStatus};
use crate::desired::Desired;
use crate::judge::is_stale;
use crate::judge::words::{Class, class};
use crate::konigle::Client;
use crate::konigle::model::{Pair, Space, SpaceType};
use crate::memory::uid;
use crate::observation::{LookError, Observation, SpaceFacts};
use crate::text::cut;

use super::{Look, look_error, note_look, pair_of, word};

/// The words of a Space's status that the contract describes (konigle 1.0.3, `models/cloud/space.py`).
const KNOWN_STATUS: [&str; 4] = ["provisioning", "running", "stopped", "error"];

pub(super) async fn look_at_space(look: &Look<'_>, seen: &mut Observation) {
    let Look { context, resource, desired, status, client } = look;
    let job_runs = seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref()).is_some_and(|job| match job {
        Ok(job) => !job.status.ended(),
        Err(error) => !matches!(error, LookError::NotFound(_)),
    });
    let answered = status.attempt.as_ref().is_some_and(|attempt| desired.requests.answer_for(&attempt.nonce).is_some());
    let outcome = if job_runs && !answered {
        let job = seen.attempt.as_ref().and_then(|attempt| attempt.job.as_ref());
        job.and_then(|job| job.as_ref().err()).cloned().map(Err)
    } else {
        let found = space(desired, status, client).await.map(|space| with_web_app(space, status));
        let found = found.and_then(|space| not_stale(space, look));
        if let Ok(Space { status: word, .. }) = &found
            && !KNOWN_STATUS.contains(&word.as_str())
        {
            if context.memory.is_news(&uid(resource), "SpaceStatus", word) {
                warn!(word, "Konigle sent a Space's status that is not known; nothing depends on it");
            }
            context.metrics.unknown_word("space_status");
        }
        if let Ok(Space { pair: Pair { last_deployment_status: Some(word), .. }, .. }) = &found
            && class(Some(word)) == Class::Unknown
        {
            if context.memory.is_news(&uid(resource), "LastDeploymentStatus", word) {
                warn!(word, "Konigle sent a last_deployment_status that is not known; it proves nothing");
            }
            context.metrics.unknown_word("last_deployment_status");
        }
        seen.space = Some(found.clone().map(|space| space_facts(&space)));
        Some(found.map(|_| ()))
    };
    if let Some(Err(LookError::Unauthorized(detail))) = &outcome
        && context.memory.is_news(&uid(resource), "Unauthorized", detail)
    {
        warn!(error = detail, secret = desired.secret, "Konigle answered 401; the Secret is read again with each look");
    }
    note_look(context, resource, outcome.and_then(Result::err).as_ref(), seen);
}

/// The Space, by its id; by its names only until the id is known, or where a person has it resolved anew.
async fn space(desired: &Desired, status: &KonigleSpaceStatus, client: &Client) -> Result<Space, LookError> {
    let reset = desired.requests.reset(status);
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
                    "the names in spec.space now lead to Space {}, not to {id} as before",
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

/// The Space, unless it was read in an old state. What lasts longer than the server may lag is no lag, but what is so.
fn not_stale(space: Space, look: &Look<'_>) -> Result<Space, LookError> {
    let Look { context, resource, status, .. } = look;
    let same = status.space.as_ref().is_some_and(|known| known.id == space.id);
    let stale = same && is_stale(status, &pair_of(&space));
    let stale_for = context.memory.stale_for(&uid(resource), stale);
    if !stale || stale_for >= context.settle {
        return Ok(space);
    }
    Err(LookError::Unavailable(format!(
        "Konigle showed the Space in an older state (last deployed at {}, {}) than before: that tells nothing, so it is looked at again",
        space.pair.last_deployed_at.as_deref().unwrap_or("no time"),
        space.pair.last_deployment_status.as_deref().unwrap_or("no status"),
    )))
}

/// A Space never changes its web app: one that was told once holds where a later reply leaves it out.
fn with_web_app(space: Space, status: &KonigleSpaceStatus) -> Space {
    let recorded = status.space.as_ref().filter(|recorded| recorded.id == space.id && !recorded.webapp.is_empty());
    Space { webapp: space.webapp.or_else(|| recorded.map(|recorded| recorded.webapp.clone())), ..space }
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
    let webapp_id = only(webapps, "web app", &format!("{webapp} on computer {computer}"))?;
    let wanted = if desired.promotes() { SpaceType::Production } else { SpaceType::Uat };
    let mut spaces: Vec<Space> = client.spaces(&webapp_id).await.map_err(look_error)?;
    spaces.retain(|found| found.space_type == wanted && found.webapp.as_ref().is_none_or(|id| *id == webapp_id));
    let what = format!("{} of web app {webapp} on computer {computer}", wanted.as_str());
    only(spaces.iter().map(|found| found.id.clone()).collect(), "Space of type", &what)?;
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
    let text = word;
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
