//! `explain`: why a KonigleSpace is in its state, and what happens next and when.
//!
//! The answers are those of [`super::outlook`]; here they get their words.

use jiff::Timestamp;
use kube::ResourceExt;

use super::arguments::Explaining;
use super::connection::Connection;
use super::failure::Failure;
use super::outlook::{Closed, Outlook, outlook};
use super::reading::{
    self, Pending, Runs, ago, attribution, called, headline, is_current, kind, length, minded, pending, unseen,
};
use super::screen::{Look, Screen, Tone, in_one_line};
use super::wanted;
use crate::api::{Cause, KonigleSpace};
use crate::clock;
use crate::plan::{ReleaseKind, Step};
use crate::reason::Reason;
use crate::time;

/// How far the answers stand from the left.
const INDENT: usize = 11;

/// Explains one.
pub async fn run(connection: &Connection, screen: &Screen, what: &Explaining) -> Result<(), Failure> {
    let (space, namespace) = connection.one(&what.name).await?;
    let now = clock::now();
    Screen::print(&render(&space, &outlook(&space, &namespace, (now, what.unknown_outcome_settle)), now, screen.out))
}

/// The whole explanation.
pub(super) fn render(space: &KonigleSpace, outlook: &Outlook, now: Timestamp, look: Look) -> String {
    let name = format!("{}/{}", space.namespace().unwrap_or_default(), space.name_any());
    let (mark, reason, message) = headline(space);
    let mark = minded(space, mark);
    let state = look.paint(mark.tone(), &format!("{} {reason}", mark.sign()));
    let mut lines = vec![
        format!("{}  {state}{}", look.paint(Tone::Bold, &name), since(space, now)),
        look.wrap(&message, 0),
        String::new(),
    ];
    let mut line = |title: &str, text: &str| {
        let title = look.paint(Tone::Dim, &format!("{title:<INDENT$}"));
        lines.push(format!("{title}{}", look.wrap(text, INDENT)));
    };
    if let Some(remote) = remote(space) {
        line("Space", &remote);
    }
    if let Some(runs) = runs(space, now) {
        line("Runs", &runs);
    }
    if let Some(wanted) = wanted::explained(space) {
        line("Wanted", &wanted);
    }
    if let Some(attempt) = attempt(space, now) {
        line("Attempt", &attempt);
    }
    let status = space.status.clone().unwrap_or_default();
    let ready = status.condition("Ready").map(|ready| ready.message.as_str()).unwrap_or_default();
    if let Some(Pending { what, annotation, waits_for }) = pending(space) {
        line(
            "Asked",
            &format!("{what} by the annotation {annotation}, and not acted on yet: it waits for {waits_for}"),
        );
    }
    let next = |step: &Step| next(space, step, outlook.closed.as_ref(), ready);
    line("Next", &next(&outlook.step));
    line("When", &when(space, outlook, now));
    if let Some(afterwards) = &outlook.afterwards {
        line("Then", &format!("once that is over or mended: {}", next(afterwards)));
    }
    if let Some(resumed) = &outlook.resumed {
        let command =
            format!("`kubectl konigle resume {} -n {}`", space.name_any(), space.namespace().unwrap_or_default());
        line("Resume", &format!("{command} would lead to this: {}", next(resumed)));
    }
    if let Some(unresolved) = &outlook.unresolved {
        if let Some(until) = &unresolved.until {
            line("Until", &format!("evidence is awaited until {until} at the latest, if the operator runs through"));
        }
        line("Resolve", "find out in Konigle's console what became of it, then say so by one of these:");
        lines.extend(unresolved.commands.iter().map(|command| format!("{:INDENT$}{}", "", in_one_line(command))));
    }
    lines.push(String::new());
    let assumed = "Assumed: the Space is as the operator saw it at its last write, and what it needs is at hand. Neither Konigle nor the Secret was asked.";
    lines.push(look.paint(Tone::Dim, &look.wrap(assumed, 0)));
    lines.join("\n")
}

fn since(space: &KonigleSpace, now: Timestamp) -> String {
    let ready = space.status.as_ref().and_then(|status| status.condition("Ready")).filter(|_| is_current(space));
    let since = ready.map(|ready| ago(now, Some(&ready.last_transition_time))).filter(|since| since != "-");
    since.map_or_else(String::new, |since| format!("  for {since}"))
}

fn remote(space: &KonigleSpace) -> Option<String> {
    let status = space.status.as_ref()?;
    let remote = status.space.as_ref().filter(|remote| !remote.id.is_empty())?;
    let word = if remote.status.is_empty() { "in no known status" } else { &remote.status };
    let deployed = match (&remote.last_deployed_at, &remote.last_deployment_status) {
        (Some(at), word) => format!("last deployed to at {at} ({})", word.as_deref().unwrap_or("no status")),
        (None, _) => "never deployed to".to_owned(),
    };
    let url = status.url.as_ref().map_or_else(String::new, |url| format!(", {url}"));
    Some(format!("{} {}, {word}, {deployed}{url}", remote.space_type, remote.id).trim().to_owned())
}

fn runs(space: &KonigleSpace, now: Timestamp) -> Option<String> {
    let status = space.status.as_ref()?;
    let release = status.release.as_ref()?;
    let what = called(release.revision.as_deref(), &release.digest);
    Some(match reading::runs(status, release) {
        Runs::Recorded => format!("{what}, for {}, {}", ago(now, release.deployed_at.as_deref()), attribution(release)),
        Runs::Drifted => format!("not known; it was {what} until somebody else deployed"),
        Runs::NotVerified => {
            format!("not known; {what} was promoted, but uat did not stay as it was approved meanwhile")
        }
        Runs::BeforeFailed(number) => {
            format!("{what} before attempt {number}, which failed; what runs after a failed deploy is Konigle's matter")
        }
        Runs::BeforeUnknown(number) => format!("{what} before attempt {number}, of which it is not known what became"),
    })
}

fn attempt(space: &KonigleSpace, now: Timestamp) -> Option<String> {
    let attempt = space.status.as_ref()?.attempt.as_ref()?;
    let job = match (&attempt.job_id, &attempt.job_status) {
        (Some(id), word) => format!("job {id} is {}", word.as_deref().unwrap_or("not looked at yet")),
        (None, _) => "no job is known".to_owned(),
    };
    Some(format!(
        "{} {} of {}, begun {} ago, overdue from {}: {job}",
        kind(attempt.attempt_type),
        attempt.number,
        called(attempt.revision.as_deref(), &attempt.digest),
        ago(now, Some(&attempt.started_at)),
        attempt.deadline
    ))
}

/// What a step means; `known` is what was said above already.
fn next(space: &KonigleSpace, step: &Step, closed: Option<&Closed>, known: &str) -> String {
    let and =
        |message: &str| if message.is_empty() || message == known { String::new() } else { format!(": {message}") };
    match step {
        Step::Rest(met) if met.reason == Reason::AwaitingApproval => format!(
            "nothing before somebody approves{}; `kubectl konigle approve {} -n {}` shows what would change",
            and(&met.message),
            space.name_any(),
            space.namespace().unwrap_or_default()
        ),
        Step::Rest(met) if unseen(space).is_some() => format!(
            "nothing is left to do for what the origin named last{}; what is to be done about the origin stands beside Wanted",
            and(&met.message)
        ),
        Step::Rest(met) => format!("nothing is left to do{}", and(&met.message)),
        Step::Fetch => {
            "the artifact is downloaded, its digest and contents are checked, and what is no ZIP is packed into one"
                .to_owned()
        }
        Step::Start(release) => {
            let number = space.status.as_ref().map_or(0, |status| status.last_attempt) + 1;
            let what = called(release.wanted.revision.as_deref(), &release.wanted.digest);
            let verb = match &release.kind {
                ReleaseKind::Deploy { .. } => format!("deploys {what}"),
                ReleaseKind::Promote { source } => format!("promotes {what} from {}", source.name),
            };
            format!("attempt {number} {verb}, {}", why(release.cause))
        }
        Step::Unseen(_) => "the operator looks at the Space".to_owned(),
        Step::Wait(looking) if looking.reason == Reason::Progressing && remote(space).is_none() => {
            "the operator looks at the Space".to_owned()
        }
        Step::Wait(waiting) => format!("{}{}", waits(space, waiting.reason, closed), and(&waiting.message)),
        Step::Stall(stalled) if stalled.reason == Reason::JobOverdue => {
            format!("nothing before its job ends, or a person says how it ended{}", and(&stalled.message))
        }
        Step::Stall(stalled) => format!("nothing before a person acts{}", and(&stalled.message)),
        Step::Suspend(suspended) => format!("nothing is written to Konigle before a resume{}", and(&suspended.message)),
        Step::Unreachable(unreachable) => format!("Konigle is asked again{}", and(&unreachable.message)),
    }
}

/// What a wait is for: what ends by itself, or somebody who does something.
fn waits(space: &KonigleSpace, reason: Reason, closed: Option<&Closed>) -> String {
    let itself = "it goes on by itself";
    match reason {
        Reason::AwaitingSource => awaits_source(space, closed),
        Reason::ArtifactUnavailable => format!(
            "{itself} where its host was only away; else it waits until somebody publishes the artifact, or mends what the message names"
        ),
        Reason::ProgressingWithRetry => format!("{itself}, unless somebody writes another digest before"),
        Reason::ResolvingOutcome => "nothing is sent while evidence is awaited".to_owned(),
        Reason::HeldByPromotion => format!("{itself} once that promotion has ended"),
        Reason::SpaceBusy => format!("{itself} once that has ended"),
        _ => itself.to_owned(),
    }
}

/// What a promotion waits for that may not be sent now, or a deploy of what Flux hands out.
fn awaits_source(space: &KonigleSpace, closed: Option<&Closed>) -> String {
    if let Some(source) = wanted::watched(space) {
        let namespace = space.namespace().unwrap_or_default();
        return format!(
            "it goes on by itself once Flux has an artifact of {source}: `kubectl describe {} -n {namespace}` says what it lacks",
            source.to_lowercase()
        );
    }
    let from = space.spec.promotion.as_ref().map(|promotion| promotion.from.name.as_str()).unwrap_or_default();
    let Some(Closed { reason, opens_by_itself }) = closed else { return "it goes on by itself".to_owned() };
    let command = |word: &str| format!("`kubectl konigle {word} {from} -n {}`", space.namespace().unwrap_or_default());
    if *opens_by_itself {
        return format!("it goes on by itself with {from}: {} says what comes next there", command("explain"));
    }
    let is_approved = space.spec.promotion.as_ref().is_some_and(|promotion| promotion.approved_digest.is_some());
    match reason {
        Reason::SourceNotFound => {
            format!("it waits until somebody creates {from}, or corrects spec.promotion.from.name")
        }
        Reason::SourceDrifted | Reason::SourceNotConfirmed => {
            format!("it waits until somebody has {from} deploy once more: {}", command("reset"))
        }
        Reason::AwaitingSource if is_approved => {
            format!("it waits until somebody deploys to {from} what is approved, or approves what it runs")
        }
        _ => format!("it waits until somebody sees to {from}: {} says what it needs", command("explain")),
    }
}

fn why(cause: Cause) -> &'static str {
    match cause {
        Cause::Spec => "for the spec asks for it",
        Cause::Retry => "for the attempt before came to nothing",
        Cause::Drift => "for somebody else deployed, and spec.driftPolicy is Redeploy",
        Cause::Reset => "for the annotation reset-at asks for it",
        Cause::Person => "for a person asked for it by an annotation",
        Cause::Other => "for a reason that a newer operator knows",
    }
}

/// When the operator looks again.
fn when(space: &KonigleSpace, outlook: &Outlook, now: Timestamp) -> String {
    let watched = space.spec.promotion.as_ref().map(|promotion| promotion.from.name.clone());
    let edits = match watched.or_else(|| wanted::watched(space)) {
        Some(watched) => format!("at once when the spec, an annotation or {watched} changes"),
        None => "at once when the spec or an annotation changes".to_owned(),
    };
    let retry = space.status.as_ref().and_then(|status| status.next_retry_time.as_deref());
    let retry = retry.filter(|at| time::parse(at).is_some_and(|at| at > now));
    match (&outlook.step, outlook.look_again) {
        _ if !is_current(space) => "at once: the operator has not answered the newest spec yet".to_owned(),
        (Step::Start(_), _) if pending(space).is_some() => {
            "in the operator's next pass in which Konigle answers".to_owned()
        }
        (Step::Start(_), _) => "now, in the operator's next pass".to_owned(),
        (Step::Wait(_) | Step::Stall(_), Some(_)) if retry.is_some() => {
            format!("after {}; {edits}", retry.unwrap_or_default())
        }
        (_, Some(wait)) => format!("looked at again within {}; {edits}", length(wait.as_secs())),
        (_, None) => edits,
    }
}

#[cfg(test)]
mod tests;
