//! `reconcile`, `reset`, `suspend`, `resume`: a request by annotation or by the spec, and what comes of it.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::json;

use super::arguments::{Naming, Requesting, Selection};
use super::connection::Connection;
use super::failure::Failure;
use super::screen::{Mark, Screen};
use super::wait::until_ready;
use crate::api::{KonigleSpace, RECONCILE_AT, RESET_AT};
use crate::clock;

/// Has the operator look now.
pub async fn reconcile(connection: &Connection, screen: &Screen, what: &Requesting) -> Result<(), Failure> {
    let request = clock::now().to_string();
    for space in known(connection, &what.names).await? {
        let name = space.name_any();
        connection.annotate(&name, RECONCILE_AT, &request).await?;
        screen.say(Mark::Doing, &format!("asked for a look at {name}"));
    }
    finish(connection, screen, what, |space| handled(space, &request)).await
}

/// Clears failures and quarantine. A look is asked for with it: it is acknowledged even where the reset must wait.
pub async fn reset(connection: &Connection, screen: &Screen, what: &Requesting) -> Result<(), Failure> {
    let request = clock::now().to_string();
    for space in known(connection, &what.names).await? {
        let name = space.name_any();
        let change = json!({"metadata": {"annotations": {RECONCILE_AT: request, RESET_AT: request}}});
        connection.merge("ask for a reset", &name, &change).await?;
        screen.say(Mark::Doing, &format!("asked for a reset of {name}"));
    }
    finish(connection, screen, what, |space| handled(space, &request)).await
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
    finish(connection, screen, what, |_| true).await
}

/// All that are named, before anything is asked of one.
async fn known(connection: &Connection, names: &[String]) -> Result<Vec<KonigleSpace>, Failure> {
    connection.list(&selection(names)).await
}

fn selection(names: &[String]) -> Selection {
    Selection { names: names.to_vec(), ..Selection::default() }
}

/// Whether the request is acknowledged.
fn handled(space: &KonigleSpace, request: &str) -> bool {
    let handled = space.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
    handled == Some(request)
}

async fn finish(
    connection: &Connection,
    screen: &Screen,
    what: &Requesting,
    is_met: impl Fn(&KonigleSpace) -> bool,
) -> Result<(), Failure> {
    if what.no_wait {
        return Ok(());
    }
    wait_for(connection, screen, &what.names, what.timeout, is_met).await
}

/// Waits until these are ready and `is_met` holds for each.
pub(super) async fn wait_for(
    connection: &Connection,
    screen: &Screen,
    names: &[String],
    limit: Duration,
    is_met: impl Fn(&KonigleSpace) -> bool,
) -> Result<(), Failure> {
    until_ready(connection, screen, (&selection(names), limit), is_met).await
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
