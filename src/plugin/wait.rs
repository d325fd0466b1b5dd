//! `wait`: until KonigleSpaces are ready, or one of them is Stalled. Other commands wait by it for what they asked for.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::arguments::{Selection, Waiting};
use super::connection::Connection;
use super::failure::Failure;
use super::follow::Following;
use super::progress::Teller;
use super::reading::{
    Pending, Runs, State, called, full_name, headline, is_answered, length, pending, release, runs, silence, state,
    unseen,
};
use super::screen::{Mark, Screen};
use super::watch::tell;
use crate::api::{Attribution, KonigleSpace};
use crate::artifact::Digest;
use crate::commands::Named;

/// How long an operator may take to answer before it is asked whether there is one.
const SILENCE: Duration = Duration::from_secs(30);

/// Waits for those that are meant.
pub async fn run(connection: &Connection, screen: &Screen, what: &Waiting) -> Result<(), Failure> {
    let digest = what.digest.as_deref().map(str::parse::<Digest>).transpose();
    let digest =
        digest.map_err(|_| Failure::usage("write --digest as sha256: and 64 lower-case hexadecimal digits"))?;
    let digest = digest.map(|digest| digest.to_string());
    let spaces = connection.list(&what.selection).await?;
    if spaces.is_empty() {
        return Err(Failure::cluster(format!(
            "there is no KonigleSpace to wait for {}",
            connection.place(&what.selection)
        )));
    }
    let unmet = |space: &KonigleSpace| digest.as_ref().and_then(|digest| runs_not(space, digest));
    tell_ready(screen, &until_ready(connection, screen, (&what.selection, what.timeout), unmet).await?);
    Ok(())
}

/// That this digest is not known to run there, by more than an assumption: what is known instead.
fn runs_not(space: &KonigleSpace, digest: &str) -> Option<String> {
    let Some(release) = space.status.as_ref().and_then(|status| status.release.as_ref()) else {
        return Some("runs nothing that is known".to_owned());
    };
    if release.digest != digest {
        return Some(format!("runs {}, not {digest}", called(release.revision.as_deref(), &release.digest)));
    }
    let is_known = matches!(release.attribution, Attribution::Confirmed | Attribution::Inferred);
    (!is_known).then(|| format!("runs {digest} by assumption only"))
}

/// Waits until all are ready and nothing is unmet of any, and tells what happens meanwhile. Those that are ready then.
pub(super) async fn until_ready(
    connection: &Connection,
    screen: &Screen,
    (selection, limit): (&Selection, Duration),
    unmet: impl Fn(&KonigleSpace) -> Option<String>,
) -> Result<Vec<KonigleSpace>, Failure> {
    let mut following = Following::new(connection, screen, selection);
    let mut teller = Teller::default();
    let begun = Instant::now();
    let mut is_warned = false;
    following.changed().await?;
    let mut changed = true;
    loop {
        let mut waits = Vec::new();
        for space in following.now() {
            tell(screen, &mut teller, space);
            match state(space) {
                State::Ready if unmet(space).is_none() => {}
                State::Ready | State::Moving => waits.push(space),
                State::Stalled => return Err(stalled(space)),
                State::Suspended => return Err(suspended(space)),
            }
        }
        let is_gone = |name: &&String| following.now().all(|space| space.name_any() != **name);
        if let Some(name) = selection.names.iter().find(is_gone) {
            return Err(Failure::failed(format!("{name} was deleted meanwhile")));
        }
        if waits.is_empty() && following.now().next().is_some() {
            return Ok(following.now().cloned().collect());
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let texts = waits.iter().map(|space| timed_out(space, limit, unmet(space)));
            return Err(Failure::timed_out(texts.collect::<Vec<_>>().join("; ")));
        }
        let unanswered = waits.iter().find(|space| !is_answered(space));
        if let (false, false, Some(space)) = (changed, is_warned, unanswered) {
            let name = full_name(space);
            screen.say(Mark::Warning, &format!("the operator has not answered for {name}: {}", silence(space)));
            is_warned = true;
        }
        changed = following.changed_within(left.min(SILENCE)).await?;
    }
}

/// Says of these that they are ready, and what is to be minded of them all the same.
pub(super) fn tell_ready(screen: &Screen, spaces: &[KonigleSpace]) {
    for space in spaces {
        screen.say(Mark::Done, &ready(space));
        if let Some((reason, message)) = unseen(space) {
            let name = space.name_any();
            screen.say(Mark::Warning, &format!("the origin of {name} cannot be read ({reason}): {message}"));
        }
    }
}

/// That it is ready, and what runs.
pub(super) fn ready(space: &KonigleSpace) -> String {
    let status = space.status.clone().unwrap_or_default();
    let is_recorded = status.release.as_ref().is_none_or(|release| runs(&status, release) == Runs::Recorded);
    let name = space.name_any();
    if is_recorded {
        return format!("{name} is ready, and runs {}", release(&status));
    }
    format!("{name} is ready; what runs is not known for certain ({})", release(&status))
}

fn stalled(space: &KonigleSpace) -> Failure {
    let (_, reason, message) = headline(space);
    Failure::failed(format!("{} is stalled ({reason}): {message}{}", space.name_any(), stays(space)))
}

fn suspended(space: &KonigleSpace) -> Failure {
    let (name, namespace) = (space.name_any(), space.namespace().unwrap_or_default());
    Failure::failed(format!(
        "{name} is suspended, and what it wants does not run: `kubectl konigle resume {name} -n {namespace}` lets it go on{}",
        stays(space)
    ))
}

/// That a request is not lost where it was not acted on.
fn stays(space: &KonigleSpace) -> String {
    let Some(Pending { what, annotation, waits_for }) = pending(space) else { return String::new() };
    format!("; {what} is asked for and waits for {waits_for}; {}", kept(space, annotation))
}

fn kept(space: &KonigleSpace, annotation: &str) -> String {
    let (name, namespace) = (space.name_any(), space.namespace().unwrap_or_default());
    let remove = Named { namespace: &namespace, name: &name }.remove(annotation);
    format!("the request stays, and is acted on later; to take it away: {remove}")
}

/// What did not come in time. Of a request that was not acted on the old message is left out: it may say to ask for just that.
fn timed_out(space: &KonigleSpace, limit: Duration, unmet: Option<String>) -> String {
    let (name, limit) = (space.name_any(), length(limit.as_secs()));
    if let Some(Pending { what, annotation, waits_for }) = pending(space) {
        return format!(
            "{name}: {what} was not acted on within {limit}: it waits for {waits_for}; {}",
            kept(space, annotation)
        );
    }
    match (state(space), unmet) {
        (State::Ready, Some(unmet)) => format!("{name} is ready after {limit}, but {unmet}"),
        _ if !is_answered(space) => {
            format!("{name} is not ready after {limit}: the operator has not answered: {}", silence(space))
        }
        _ => {
            let (_, reason, message) = headline(space);
            format!("{name} is not ready after {limit} ({reason}: {message})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{RECONCILE_AT, RESET_AT};
    use crate::observation::LookError;
    use crate::plugin::outlook::tests::resource;
    use crate::test_facts::*;

    const LIMIT: Duration = Duration::from_secs(3);

    #[test]
    fn what_is_ready_and_drifted_is_not_said_to_run() {
        let ignored = Facts::uat().runs(A).drift_policy(crate::api::DriftPolicy::Ignore).shows(ELSEWHEN, "success");
        let text = ready(&resource(&ignored.next()));
        assert_eq!(text, "shop-uat is ready; what runs is not known for certain (was v1 aaaaaaaaaaaa)");
        assert_eq!(ready(&resource(&Facts::uat().runs(A).next())), "shop-uat is ready, and runs v1 aaaaaaaaaaaa");
    }

    #[test]
    fn what_did_not_come_in_time_is_told_as_it_is() {
        let told = |facts: &Facts, unmet: Option<&str>| timed_out(&resource(facts), LIMIT, unmet.map(str::to_owned));
        let runs = Facts::uat().runs(A).next();
        assert_eq!(runs_not(&resource(&runs), A), None);
        let other = runs_not(&resource(&runs), B);
        assert_eq!(
            told(&runs, other.as_deref()),
            format!("shop-uat is ready after 3s, but runs v1 aaaaaaaaaaaa, not {B}")
        );
        let assumed = Facts::uat().runs(A).attributed(Attribution::Assumed).next();
        assert_eq!(runs_not(&resource(&assumed), A), Some(format!("runs {A} by assumption only")));
        assert_eq!(
            told(&Facts::uat(), None),
            "shop-uat is not ready after 3s: the operator has not answered: does it run, and does it watch this namespace?"
        );
        let running = Facts::uat().in_flight(A).next();
        assert!(told(&running, None).starts_with("shop-uat is not ready after 3s (ResolvingOutcome: "));
    }

    /// Konigle does not answer while a reset of a quarantined digest is asked for: the old message must not be its answer.
    #[test]
    fn a_reset_that_is_not_acted_on_stays_and_is_not_advised_again() {
        let failed = Facts::uat().but(|facts| facts.desired.retry_limit = 1).in_flight(A).job_failed().next();
        let asked = failed
            .reset("1")
            .but(|facts| facts.desired.requests.reconcile_at = Some("1".to_owned()))
            .space_cannot_be_seen(LookError::Unavailable("Konigle answered 503".to_owned()))
            .next();
        let space = resource(&asked);
        let (_, reason, message) = headline(&space);
        assert!(reason == "RetriesExceeded" && message.contains("reset-at"), "as the operator left it: {message}");
        assert_eq!(state(&space), State::Moving, "it is waited for");
        assert_eq!(
            timed_out(&space, LIMIT, None),
            "shop-uat: a reset was not acted on within 3s: it waits for Konigle's answer to the operator's looks; \
             the request stays, and is acted on later; to take it away: \
             kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/reset-at-"
        );
        // The operator is stopped.
        let mut unseen = space.clone();
        for annotation in [RECONCILE_AT, RESET_AT] {
            unseen.annotations_mut().insert(annotation.to_owned(), "2".to_owned());
        }
        let text = timed_out(&unseen, LIMIT, None);
        assert!(text.contains("the operator, which has not answered: does it run"), "{text}");
        assert!(!text.contains("$(date"), "{text}");
        // Something stands in its way.
        let odd = Facts::uat().but(|facts| facts.seen.account = Err(problem(crate::reason::Reason::SecretNotFound)));
        let failure = stalled(&resource(&odd.next().reset("1")));
        assert!(
            failure.message.contains(
                "a reset is asked for and waits for the end of what is in the way (SecretNotFound); the request stays"
            ),
            "{}",
            failure.message
        );
    }
}
