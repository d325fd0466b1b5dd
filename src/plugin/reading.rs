//! What a KonigleSpace says, in a few words.
//!
//! Pure. The words are those of the status; nothing is judged anew here.

use jiff::Timestamp;
use kube::ResourceExt;

use super::screen::{Mark, in_one_line};
use crate::api::{
    AttemptResult, AttemptType, Cause, KonigleSpace, KonigleSpaceStatus, RECONCILE_AT, REDEPLOY_AT, RESET_AT,
    ReleaseStatus,
};
use crate::desired::{Desired, Requests};
use crate::judge::last_sent;
use crate::reason::Reason;
use crate::status::unseen_origin;
use crate::time;

/// Whether something is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The wish is met, or nothing is asked.
    Ready,
    /// A person must act.
    Stalled,
    /// The wish is not met, and nothing is written before a resume.
    Suspended,
    /// The operator is at it, or has not seen what was asked last.
    Moving,
}

/// The state, once the status speaks of the newest spec and requests.
pub fn state(space: &KonigleSpace) -> State {
    let Some(status) = &space.status else { return State::Moving };
    let requests = requests(space);
    let ready = status.condition("Ready");
    let asks = requests.reset(status) || requests.redeploy(status);
    if !is_answered(space) {
        State::Moving
    } else if let Some(stalled) = status.condition("Stalled").filter(|stalled| stalled.status == "True") {
        let is_to_be_mended = asks && Reason::of(&stalled.reason).is_some_and(is_mended_by_a_request);
        if is_to_be_mended { State::Moving } else { State::Stalled }
    } else if ready.is_some_and(|ready| ready.status == "False" && ready.reason == Reason::Suspended.word()) {
        State::Suspended
    } else if status.is_true("Ready") && !asks {
        State::Ready
    } else {
        State::Moving
    }
}

/// Whether the status speaks of the newest spec.
pub fn is_current(space: &KonigleSpace) -> bool {
    space.status.as_ref().is_some_and(|status| {
        Some(status.observed_generation) == space.metadata.generation && status.condition("Ready").is_some()
    })
}

/// Whether the operator has answered the newest spec and the newest request for a look.
pub fn is_answered(space: &KonigleSpace) -> bool {
    is_current(space) && space.status.as_ref().is_some_and(|status| !requests(space).look(status))
}

fn requests(space: &KonigleSpace) -> Requests {
    Desired::parse(space).map(|desired| desired.requests).unwrap_or_default()
}

/// Whether a reset or redeploy is what ends a stall for this reason; any other stands in its way.
pub fn is_mended_by_a_request(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RetriesExceeded
            | Reason::RequestRejected
            | Reason::Drifted
            | Reason::DriftLoop
            | Reason::ContentNotVerified
            | Reason::SpaceChanged
            | Reason::SpaceError
    )
}

/// A request by annotation that was not acted on yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// What is asked for, such as `a reset`.
    pub what: &'static str,
    /// The annotation that asks for it.
    pub annotation: &'static str,
    /// What it waits for.
    pub waits_for: String,
}

/// The request that was not acted on yet: a reset, a redeploy, or a look.
pub fn pending(space: &KonigleSpace) -> Option<Pending> {
    let requests = requests(space);
    let unseen = KonigleSpaceStatus::default();
    let status = space.status.as_ref().unwrap_or(&unseen);
    let (what, annotation, id) = if requests.reset(status) {
        ("a reset", RESET_AT, &requests.reset_at)
    } else if requests.redeploy(status) {
        ("a redeploy", REDEPLOY_AT, &requests.redeploy_at)
    } else if requests.look(status) {
        ("a look", RECONCILE_AT, &requests.reconcile_at)
    } else {
        return None;
    };
    // The plugin asks for a look with it: where that was acknowledged, the operator has seen both.
    let was_seen = requests.reconcile_at.is_some() && requests.reconcile_at == *id;
    Some(Pending { what, annotation, waits_for: waits_for(space, status, was_seen) })
}

/// Why the operator may not have answered.
pub fn silence(space: &KonigleSpace) -> &'static str {
    let has_tag =
        space.spec.source.as_ref().and_then(|source| source.oci.as_ref()).is_some_and(|oci| oci.tag.is_some());
    if has_tag {
        "does it run, does it watch this namespace, and does the registry answer it?"
    } else {
        "does it run, and does it watch this namespace?"
    }
}

fn waits_for(space: &KonigleSpace, status: &KonigleSpaceStatus, was_seen: bool) -> String {
    if !is_answered(space) {
        return format!("the operator, which has not answered: {}", silence(space));
    }
    if let Some(attempt) = &status.attempt {
        let reason = status.condition("Ready").map(|ready| ready.reason.clone()).unwrap_or_default();
        let is_unknown = [Reason::ResolvingOutcome, Reason::OutcomeUnknown].iter().any(|word| word.word() == reason);
        let end = if is_unknown { "of which it is not known what became" } else { "which is under way" };
        return format!("the end of attempt {}, {end}", attempt.number);
    }
    if space.spec.suspend {
        return "a resume".to_owned();
    }
    let in_the_way = status.condition("Ready").filter(|ready| ready.status != "True");
    match in_the_way.and_then(|ready| Reason::of(&ready.reason)) {
        Some(reason) if !is_mended_by_a_request(reason) && reason != Reason::ProgressingWithRetry => {
            format!("the end of what is in the way ({})", reason.word())
        }
        _ if was_seen => "Konigle's answer to the operator's looks".to_owned(),
        _ => "the operator's next look that Konigle answers: does the operator run?".to_owned(),
    }
}

/// What is to be said first: a mark, the reason and the message.
pub fn headline(space: &KonigleSpace) -> (Mark, String, String) {
    let Some(ready) = space.status.as_ref().and_then(|status| status.condition("Ready")) else {
        let message = "the operator has not looked at it yet".to_owned();
        return (Mark::Waiting, Reason::Progressing.word().to_owned(), message);
    };
    if !is_current(space) {
        let message = format!("the operator has not taken over the newest spec yet; before: {}", ready.message);
        return (Mark::Waiting, Reason::Progressing.word().to_owned(), in_one_line(&message));
    }
    let status = space.status.as_ref();
    let is_true = |word: &str| status.is_some_and(|status| status.is_true(word));
    let mark = if is_true("Stalled") {
        Mark::Failed
    } else if ready.status == "True" {
        Mark::Done
    } else if is_true("Reconciling") && ready.status != "False" {
        Mark::Waiting
    } else {
        Mark::Warning
    };
    (mark, in_one_line(&ready.reason), in_one_line(&ready.message))
}

/// That the origin of the wanted artifact could not be read the last time, where the headline does not say so.
pub fn unseen(space: &KonigleSpace) -> Option<(String, String)> {
    let status = space.status.as_ref().filter(|_| is_current(space))?;
    let artifact = unseen_origin(status)?;
    Some((in_one_line(&artifact.reason), in_one_line(&artifact.message)))
}

/// The mark of what is to be minded beside a headline with this one.
pub fn minded(space: &KonigleSpace, mark: Mark) -> Mark {
    if mark == Mark::Done && unseen(space).is_some() { Mark::Warning } else { mark }
}

/// The headline, with what is to be minded beside it: first where all else is well, for it may be cut.
pub fn told(space: &KonigleSpace) -> (Mark, String, String) {
    let (mark, reason, message) = headline(space);
    let minded = unseen(space).map(|(reason, message)| format!("{} {reason}: {message}", Mark::Warning.sign()));
    let message = match minded {
        Some(minded) if mark == Mark::Done => format!("{minded}; {message}"),
        Some(minded) => format!("{message}; {minded}"),
        None => message,
    };
    (mark, reason, message)
}

/// How far it is known that the release of the status still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// As far as the status says.
    Recorded,
    /// It did, until somebody else deployed.
    Drifted,
    /// It was promoted while uat changed.
    NotVerified,
    /// It did, before an attempt that failed: what that leaves is Konigle's matter.
    BeforeFailed(i64),
    /// It did, before an attempt of which it is not known what became.
    BeforeUnknown(i64),
}

/// How far it is known that this release runs.
pub fn runs(status: &KonigleSpaceStatus, release: &ReleaseStatus) -> Runs {
    if status.is_true("Drifted") {
        return Runs::Drifted;
    }
    if status.condition("ContentVerified").is_some_and(|verified| verified.status == "False") {
        return Runs::NotVerified;
    }
    let Some(last) = last_sent(status) else { return Runs::Recorded };
    let shown = status.space.as_ref().map(|space| (&space.last_deployed_at, &space.last_deployment_status));
    let left = (&release.last_deployed_at_seen, &release.last_deployment_status_seen);
    match last.result {
        AttemptResult::Unknown => Runs::BeforeUnknown(last.number),
        // What Konigle refused has no job and changed nothing.
        AttemptResult::Failed if last.job_id.is_some() || shown.is_some_and(|shown| shown != left) => {
            Runs::BeforeFailed(last.number)
        }
        AttemptResult::Failed | AttemptResult::Succeeded | AttemptResult::NotSent => Runs::Recorded,
    }
}

/// What runs, as people call it: the revision, if there is one, and the digest's beginning; marked where it only did.
pub fn release(status: &KonigleSpaceStatus) -> String {
    let Some(release) = &status.release else { return "-".to_owned() };
    let what = called(release.revision.as_deref(), &release.digest);
    match runs(status, release) {
        Runs::Recorded => what,
        Runs::NotVerified => "not known".to_owned(),
        Runs::Drifted | Runs::BeforeFailed(_) | Runs::BeforeUnknown(_) => format!("was {what}"),
    }
}

/// A digest as people call it.
pub fn called(revision: Option<&str>, digest: &str) -> String {
    let digits: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
    in_one_line(&revision.into_iter().map(str::to_owned).chain([digits]).collect::<Vec<_>>().join(" "))
}

/// A text as tables show it: of hashes that are written out, such as those of Git's commits, the beginning.
pub fn shortened(text: &str) -> String {
    let shorten = |piece: &str| {
        let word = piece.trim_end_matches(|character: char| !character.is_ascii_alphanumeric());
        let is_hash = [40, 64].contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hash { format!("{}{}", &word[..7], &piece[word.len()..]) } else { piece.to_owned() }
    };
    text.split_inclusive(|character: char| !character.is_ascii_alphanumeric()).map(shorten).collect()
}

/// How it is known what runs.
pub fn attribution(release: &ReleaseStatus) -> &'static str {
    use crate::api::Attribution::{Assumed, Confirmed, Inferred, Other};
    match release.attribution {
        Confirmed => "confirmed by its own job",
        Inferred => "inferred from the Space",
        Assumed => "assumed, not proven",
        Other => "as another version of the operator recorded",
    }
}

/// What an attempt does, as a word.
pub fn kind(attempt_type: AttemptType) -> &'static str {
    match attempt_type {
        AttemptType::Deploy => "Deploy",
        AttemptType::Promote => "Promote",
        AttemptType::Other => "Unknown",
    }
}

/// Why an attempt was started, as a word.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Spec => "Spec",
        Cause::Retry => "Retry",
        Cause::Drift => "Drift",
        Cause::Reset => "Reset",
        Cause::Person => "Person",
        Cause::Other => "Unknown",
    }
}

/// How long ago a time is, as kubectl writes ages; `-` where it cannot be read.
pub fn ago(now: Timestamp, text: Option<&str>) -> String {
    between(text, Some(&time::text(now)))
}

/// How long it is from one time to another.
pub fn between(from: Option<&str>, to: Option<&str>) -> String {
    let parsed = from.and_then(time::parse).zip(to.and_then(time::parse));
    let Some((from, to)) = parsed else { return "-".to_owned() };
    let seconds = to.duration_since(from).as_secs().max(0);
    length(u64::try_from(seconds).unwrap_or_default())
}

/// So many seconds, in one or two units.
pub fn length(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..36_000 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

/// `namespace/name`.
pub fn full_name(space: &KonigleSpace) -> String {
    format!("{}/{}", space.namespace().unwrap_or_default(), space.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{OriginFacts, Problem};
    use crate::plugin::outlook::tests::resource;
    use crate::test_facts::*;

    #[test]
    fn a_state_is_told_once_it_speaks_of_what_was_asked_last() {
        let settled = Facts::uat().runs(A).next();
        let read = |facts: &Facts, change: fn(&mut KonigleSpace)| {
            let mut space = resource(facts);
            change(&mut space);
            state(&space)
        };
        let annotate = |space: &mut KonigleSpace, name: &str| {
            space.annotations_mut().insert(name.to_owned(), "1".to_owned());
        };
        assert_eq!(read(&settled, |_| {}), State::Ready);
        assert_eq!(read(&settled, |space| space.metadata.generation = Some(2)), State::Moving, "a newer spec");
        assert_eq!(read(&settled, |space| space.status = None), State::Moving, "no status yet");
        for request in [crate::api::RECONCILE_AT, crate::api::RESET_AT, crate::api::REDEPLOY_AT] {
            let mut space = resource(&settled);
            annotate(&mut space, request);
            assert_eq!(state(&space), State::Moving, "{request} is not acted on yet");
        }
        let drifted = Facts::uat().runs(A).shows(ELSEWHEN, "success").next();
        assert_eq!(read(&drifted, |_| {}), State::Stalled);
        let mut space = resource(&drifted);
        annotate(&mut space, crate::api::RESET_AT);
        assert_eq!(state(&space), State::Moving, "what the reset is to mend is no answer to it");
        let odd = Facts::uat().but(|facts| facts.seen.account = Err(problem(Reason::SecretNotFound))).next();
        let mut space = resource(&odd);
        annotate(&mut space, crate::api::RESET_AT);
        assert_eq!(state(&space), State::Stalled, "what stands in its way is no reason to wait for ever");
        assert_eq!(read(&Facts::uat().suspended().next(), |_| {}), State::Suspended);
        assert_eq!(read(&Facts::uat().runs(A).suspended().next(), |_| {}), State::Ready, "its wish is met");
        assert_eq!(read(&Facts::uat().in_flight(A).next(), |_| {}), State::Moving);
    }

    #[test]
    fn a_pending_request_names_what_it_waits_for() {
        let failed = || Facts::uat().but(|facts| facts.desired.retry_limit = 1).in_flight(A).job_failed().next();
        let looked = |facts: Facts| {
            facts.but(|facts| {
                facts.desired.requests.reconcile_at = Some("1".to_owned());
                facts.status.last_handled_reconcile_at = Some("1".to_owned());
            })
        };
        let odd = Facts::uat().but(|facts| facts.seen.account = Err(problem(Reason::SecretNotFound))).next();
        let unanswered = "the operator, which has not answered: does it run, and does it watch this namespace?";
        let table: Vec<(&str, Facts, &str)> = vec![
            (
                "nobody has seen it",
                failed().reset("1"),
                "the operator's next look that Konigle answers: does the operator run?",
            ),
            ("Konigle does not answer", looked(failed().reset("1")), "Konigle's answer to the operator's looks"),
            (
                "the operator does not answer",
                looked(failed().reset("2")).but(|facts| facts.desired.requests.reconcile_at = Some("2".to_owned())),
                unanswered,
            ),
            (
                "an open attempt",
                Facts::uat().in_flight(A).with_job(crate::konigle::model::JobStatus::Running).next().reset("1"),
                "the end of attempt 1, which is under way",
            ),
            (
                "an unknown outcome",
                Facts::uat().in_flight(A).next().reset("1"),
                "the end of attempt 1, of which it is not known what became",
            ),
            ("no Secret", looked(odd.reset("1")), "the end of what is in the way (SecretNotFound)"),
            ("suspended", Facts::uat().suspended().next().reset("1"), "a resume"),
        ];
        for (what, facts, waits_for) in table {
            let pending = pending(&resource(&facts)).expect(what);
            assert_eq!((pending.what, pending.annotation), ("a reset", RESET_AT), "{what}");
            assert_eq!(pending.waits_for, waits_for, "{what}");
        }
        assert_eq!(pending(&resource(&looked(failed()))), None);
        assert_eq!(pending(&resource(&looked(failed().redeploy("1")))).map(|pending| pending.what), Some("a redeploy"));
    }

    #[test]
    fn a_table_shows_the_beginning_of_hashes() {
        let (commit, long) = ("1f3e5a7b9c0d2e4f6a8b1c3d5e7f9a0b2c4d6e8f", "0123456789abcdef".repeat(4));
        for (text, shown) in [
            (format!("main@sha1:{commit}"), "main@sha1:1f3e5a7"),
            (format!("was main@sha1:{commit} aaaaaaaaaaaa"), "was main@sha1:1f3e5a7 aaaaaaaaaaaa"),
            (format!("feature/x/{commit}"), "feature/x/1f3e5a7"),
            (format!("latest@sha256:{long}"), "latest@sha256:0123456"),
            (commit.to_owned(), "1f3e5a7"),
            (format!("{commit}0"), &format!("{commit}0")),
            (format!("g{}", &commit[1..]), &format!("g{}", &commit[1..])),
            ("v1.4.2 aaaaaaaaaaaa".to_owned(), "v1.4.2 aaaaaaaaaaaa"),
            ("é-…".to_owned(), "é-…"),
            (String::new(), ""),
        ] {
            assert_eq!(shortened(&text), shown, "{text}");
        }
    }

    #[test]
    fn what_is_to_be_minded_stands_beside_the_headline() {
        let away = || OriginFacts::Unnamed {
            problem: Problem { reason: Reason::ArtifactUnavailable, message: "the registry\nanswered 503".to_owned() },
            last: Some(named_digest(A)),
            looking: false,
        };
        let told = |facts: &Facts| {
            let (mark, reason, message) = told(&resource(facts));
            format!("{} {reason}: {message}", mark.sign())
        };
        let running = Facts::uat().runs(A).follows_tag(away()).next();
        let minded = "⚠ ArtifactUnavailable: the registry answered 503";
        assert_eq!(told(&running), format!("✔ Succeeded: {minded}; sha256:aaaaaaaaaaaa runs"));
        let (reason, message) = unseen(&resource(&running)).unwrap();
        assert_eq!((reason.as_str(), message.as_str()), ("ArtifactUnavailable", "the registry answered 503"));
        let drifted = told(&Facts::uat().runs(A).shows(ELSEWHEN, "success").follows_tag(away()).next());
        assert!(drifted.starts_with("✗ Drifted: ") && drifted.ends_with(&format!("; {minded}")), "{drifted}");
        let first = Facts::uat().follows_tag(OriginFacts::Unnamed {
            problem: Problem { reason: Reason::ArtifactUnavailable, message: "404".to_owned() },
            last: None,
            looking: false,
        });
        assert_eq!(told(&first.next()), "◎ ArtifactUnavailable: 404", "it is said once");
        let mut newer = resource(&running);
        newer.metadata.generation = Some(2);
        assert_eq!(unseen(&newer), None, "it may be of another origin");
    }

    #[test]
    fn times_are_written_as_kubectl_writes_ages() {
        for (seconds, text) in
            [(0, "0s"), (119, "119s"), (125, "2m5s"), (600, "10m"), (7300, "121m"), (11_000, "3h3m"), (200_000, "2d")]
        {
            assert_eq!(length(seconds), text, "{seconds}");
        }
        assert_eq!(ago(now(), Some(BEFORE)), "60m");
        assert_eq!(ago(now(), Some("yesterday")), "-");
        assert_eq!(ago(now(), Some("2027-01-01T00:00:00Z")), "0s", "a clock that is ahead");
    }
}
