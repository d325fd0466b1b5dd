//! `wait`: until KonigleSpaces are ready, or one of them is Stalled. Other commands wait by it for what they asked for.

use std::time::Duration;

use kube::ResourceExt;
use tokio::time::Instant;

use super::arguments::{Selection, Waiting};
use super::connection::Connection;
use super::failure::Failure;
use super::follow::Following;
use super::progress::Teller;
use super::reading::{State, full_name, headline, release, state};
use super::screen::{Mark, Screen};
use super::watch::tell;
use crate::api::{Attribution, KonigleSpace};
use crate::artifact::Digest;

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
            "there is no KonigleSpace to wait for in namespace {}",
            connection.namespace
        )));
    }
    let is_met = |space: &KonigleSpace| digest.as_ref().is_none_or(|digest| runs(space, digest));
    until_ready(connection, screen, (&what.selection, what.timeout), is_met).await
}

/// Whether this digest is known to run there, by more than an assumption.
fn runs(space: &KonigleSpace, digest: &str) -> bool {
    let release = space.status.as_ref().and_then(|status| status.release.as_ref());
    release.is_some_and(|release| {
        release.digest == digest && matches!(release.attribution, Attribution::Confirmed | Attribution::Inferred)
    })
}

/// Waits until all are ready and `is_met` holds for each, and tells what happens meanwhile.
pub(super) async fn until_ready(
    connection: &Connection,
    screen: &Screen,
    (selection, limit): (&Selection, Duration),
    is_met: impl Fn(&KonigleSpace) -> bool,
) -> Result<(), Failure> {
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
                State::Ready if is_met(space) => {}
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
            for space in following.now() {
                let status = space.status.clone().unwrap_or_default();
                screen.say(Mark::Done, &format!("{} is ready, and runs {}", space.name_any(), release(&status)));
            }
            return Ok(());
        }
        let left = limit.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(timed_out(limit, &waits));
        }
        let unanswered = waits.iter().find(|space| !super::reading::is_current(space));
        if let (false, false, Some(space)) = (changed, is_warned, unanswered) {
            let name = full_name(space);
            screen.say(
                Mark::Warning,
                &format!("the operator has not answered for {name}: does it run, and does it watch this namespace?"),
            );
            is_warned = true;
        }
        changed = following.changed_within(left.min(SILENCE)).await?;
    }
}

fn stalled(space: &KonigleSpace) -> Failure {
    let (_, reason, message) = headline(space);
    Failure::failed(format!("{} is stalled ({reason}): {message}", space.name_any()))
}

fn suspended(space: &KonigleSpace) -> Failure {
    let (name, namespace) = (space.name_any(), space.namespace().unwrap_or_default());
    Failure::failed(format!(
        "{name} is suspended, and what it wants does not run: `kubectl konigle resume {name} -n {namespace}` lets it go on"
    ))
}

fn timed_out(limit: Duration, waits: &[&KonigleSpace]) -> Failure {
    let texts = waits.iter().map(|space| {
        let (_, reason, message) = headline(space);
        format!(
            "{} is not ready after {} ({reason}: {message})",
            space.name_any(),
            super::reading::length(limit.as_secs())
        )
    });
    Failure::timed_out(texts.collect::<Vec<_>>().join("; "))
}
