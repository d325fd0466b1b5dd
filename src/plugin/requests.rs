//! `reconcile`, `reset`, `suspend`, `resume`: a request by annotation or by the spec, and what comes of it.

use kube::ResourceExt;
use serde_json::json;

use super::arguments::{Naming, Requesting, Selection};
use super::connection::Connection;
use super::failure::Failure;
use super::reading::unseen;
use super::screen::{Mark, Screen};
use super::wait::{ready, tell_ready, until_ready};
use crate::api::{KonigleSpace, KonigleSpaceStatus, RECONCILE_AT, REDEPLOY_AT, RESET_AT};
use crate::clock;
use crate::commands::Named;
use crate::reason::Reason;

/// Has the operator look now: at the Space, and at what a tag names. That the look at the origin failed is a failure of what
/// was asked for, although what runs stays ready.
pub async fn reconcile(connection: &Connection, screen: &Screen, what: &Requesting) -> Result<(), Failure> {
    let request = clock::now().to_string();
    for space in known(connection, &what.names).await? {
        let name = space.name_any();
        connection.annotate(&name, RECONCILE_AT, &request).await?;
        screen.say(Mark::Doing, &format!("asked for a look at {name}"));
    }
    let unmet = |space: &KonigleSpace| unhandled(space, |status| status.last_handled_reconcile_at.as_ref(), &request);
    let (failed, seen): (Vec<_>, Vec<_>) =
        finish(connection, screen, what, unmet).await?.into_iter().partition(|space| unseen(space).is_some());
    tell_ready(screen, &seen);
    let texts: Vec<String> = failed.iter().filter_map(look_failed).collect();
    if texts.is_empty() { Ok(()) } else { Err(Failure::failed(texts.join("; "))) }
}

/// That the look at the origin failed of one that is ready.
fn look_failed(space: &KonigleSpace) -> Option<String> {
    let (reason, message) = unseen(space)?;
    Some(format!("the look at the origin of {} failed ({reason}): {message}; {}", space.name_any(), ready(space)))
}

/// Clears failures and quarantine. A look is asked for with it: so it can be told whether the operator has seen it, even
/// where the reset must wait.
pub async fn reset(connection: &Connection, screen: &Screen, what: &Requesting) -> Result<(), Failure> {
    let request = clock::now().to_string();
    let before = known(connection, &what.names).await?;
    for space in &before {
        let name = space.name_any();
        let change = json!({"metadata": {"annotations": {RECONCILE_AT: request, RESET_AT: request}}});
        connection.merge("ask for a reset", &name, &change).await?;
        screen.say(Mark::Doing, &format!("asked for a reset of {name}"));
    }
    let unmet = |space: &KonigleSpace| unhandled(space, |status| status.last_handled_reset_at.as_ref(), &request);
    let after = finish(connection, screen, what, unmet).await?;
    tell_ready(screen, &after);
    for after in after {
        let before = before.iter().find(|before| before.name_any() == after.name_any());
        if let Some(text) = before.and_then(|before| nothing_to_reset(before, &after)) {
            screen.say(Mark::Warning, &text);
        }
    }
    Ok(())
}

/// That a reset changed nothing, for which it looks like one that was not seen.
fn nothing_to_reset(before: &KonigleSpace, after: &KonigleSpace) -> Option<String> {
    let (before, status) = (before.status.as_ref()?, after.status.as_ref()?);
    let had_failures = before.failures > 0 || before.next_retry_time.is_some() || !before.quarantined.is_empty();
    let was_changed = before.condition("Stalled").is_some_and(|stalled| stalled.reason == Reason::SpaceChanged.word());
    let was_busy = before.attempt.is_some() || status.last_attempt != before.last_attempt;
    if had_failures || was_changed || was_busy {
        return None;
    }
    let (name, namespace) = (after.name_any(), after.namespace().unwrap_or_default());
    let redeploy = Named { namespace: &namespace, name: &name }.annotate_now(REDEPLOY_AT);
    Some(format!(
        "the reset of {name} had nothing to do: no failure is recorded, and what it wants is confirmed to run; to release it once more all the same: {redeploy}"
    ))
}

/// Stops all writes to Konigle.
pub async fn suspend(connection: &Connection, screen: &Screen, what: &Naming) -> Result<(), Failure> {
    for space in known(connection, &what.names).await? {
        let name = space.name_any();
        set_suspend(connection, screen, &space, true).await?;
        screen.say(Mark::Done, &format!("{name} is suspended: nothing new is written to Konigle"));
        if let Some(attempt) = space.status.as_ref().and_then(|status| status.attempt.as_ref()) {
            let text = format!("attempt {} of {name} is under way already, and is followed to its end", attempt.number);
            screen.say(Mark::Warning, &text);
        }
    }
    Ok(())
}

/// Allows writes again, and waits for what comes of it.
pub async fn resume(connection: &Connection, screen: &Screen, what: &Requesting) -> Result<(), Failure> {
    for space in known(connection, &what.names).await? {
        set_suspend(connection, screen, &space, false).await?;
        screen.say(Mark::Doing, &format!("{} is resumed", space.name_any()));
    }
    tell_ready(screen, &finish(connection, screen, what, |_| None).await?);
    Ok(())
}

/// All that are named, before anything is asked of one.
async fn known(connection: &Connection, names: &[String]) -> Result<Vec<KonigleSpace>, Failure> {
    connection.list(&selection(names)).await
}

pub(super) fn selection(names: &[String]) -> Selection {
    Selection { names: names.to_vec(), ..Selection::default() }
}

/// That the request is not acted on yet.
fn unhandled(
    space: &KonigleSpace,
    handled: impl Fn(&KonigleSpaceStatus) -> Option<&String>,
    request: &str,
) -> Option<String> {
    let is_handled = space.status.as_ref().and_then(handled).is_some_and(|handled| handled == request);
    (!is_handled).then(|| "the operator has not acted on the request".to_owned())
}

/// Those that are ready then: none where they are not waited for.
async fn finish(
    connection: &Connection,
    screen: &Screen,
    what: &Requesting,
    unmet: impl Fn(&KonigleSpace) -> Option<String>,
) -> Result<Vec<KonigleSpace>, Failure> {
    if what.no_wait {
        return Ok(Vec::new());
    }
    until_ready(connection, screen, (&selection(&what.names), what.timeout), unmet).await
}

async fn set_suspend(
    connection: &Connection,
    screen: &Screen,
    space: &KonigleSpace,
    suspend: bool,
) -> Result<(), Failure> {
    if let Some(manager) = manager_of(space, &["spec", "suspend"]) {
        screen.say(
            Mark::Warning,
            &format!(
                "spec.suspend of {} is managed by {manager}, which may set it back: write `suspend: {suspend}` there",
                space.name_any()
            ),
        );
    }
    connection.merge("set spec.suspend", &space.name_any(), &json!({"spec": {"suspend": suspend}})).await.map(drop)
}

/// The controller that applies from Git and owns this field or one below it, if one does: what is changed beside Git is set back.
pub(super) fn manager_of<'a>(space: &'a KonigleSpace, path: &[&str]) -> Option<&'a str> {
    let managers = space.metadata.managed_fields.as_deref().unwrap_or_default();
    managers.iter().find_map(|entry| {
        let name = entry.manager.as_deref()?;
        let is_git = ["kustomize-controller", "helm-controller", "argocd"].iter().any(|known| name.starts_with(known));
        let owned = path.iter().try_fold(&entry.fields_v1.as_ref()?.0, |fields, part| fields.get(format!("f:{part}")));
        (is_git && owned.is_some()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{OriginFacts, Problem};
    use crate::plugin::outlook::tests::resource;
    use crate::test_facts::*;

    #[test]
    fn a_look_at_the_origin_that_failed_is_told_with_what_runs() {
        let read = |origin: OriginFacts| look_failed(&resource(&Facts::uat().runs(A).follows_tag(origin).next()));
        let problem = Problem { reason: Reason::ArtifactUnavailable, message: "the registry answered 401".to_owned() };
        let unnamed = OriginFacts::Unnamed { problem, last: Some(named_digest(A)), looking: false };
        assert_eq!(
            read(unnamed).as_deref(),
            Some(
                "the look at the origin of shop-uat failed (ArtifactUnavailable): the registry answered 401; \
                 shop-uat is ready, and runs v1 aaaaaaaaaaaa"
            )
        );
        assert_eq!(read(OriginFacts::Named(named_digest(A))), None);
    }

    #[test]
    fn a_reset_that_changed_nothing_is_told_from_one_that_did() {
        let told = |before: &Facts| {
            let after = before.clone().reset("1").next();
            assert_eq!(after.status.last_handled_reset_at.as_deref(), Some("1"));
            nothing_to_reset(&resource(before), &resource(&after))
        };
        let settled = Facts::uat().runs(A).next();
        let text = told(&settled).unwrap();
        assert!(text.starts_with("the reset of shop-uat had nothing to do: no failure is recorded"), "{text}");
        assert!(text.ends_with("--overwrite cloud.konigle.com/redeploy-at=\"$(date +%s)\""), "{text}");
        let tells_nothing = |what: &str, before: &Facts| assert_eq!(told(before), None, "{what}");
        tells_nothing("it deploys again", &Facts::uat().runs(A).shows(ELSEWHEN, "success").next());
        let assumed = Facts::uat().runs(A).attributed(crate::api::Attribution::Assumed);
        tells_nothing("it is certain then", &assumed.next());
        let failed = Facts::uat().runs(A).next().but(|facts| facts.status.failures = 1);
        tells_nothing("it forgets failures", &failed);
    }
}
