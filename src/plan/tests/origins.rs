//! Where the spec does not say which digest it is: a tag, or a source of Flux.

use jiff::SignedDuration;

use super::*;
use crate::api::FluxKind;
use crate::observation::OriginFacts;
use crate::origin::FluxOrigin;

/// It could not be told for this reason; what it was last, if that is known.
fn unnamed(reason: Reason, last: Option<&str>) -> OriginFacts {
    let looking = reason == Reason::Progressing;
    OriginFacts::Unnamed { problem: problem(reason), last: last.map(named_digest), looking }
}

fn tag(origin: OriginFacts) -> Facts {
    Facts::uat().follows_tag(origin)
}

/// As [`tag`], where [`A`] was deployed.
fn running(origin: OriginFacts) -> Facts {
    Facts::uat().runs(A).follows_tag(origin)
}

fn made_ago(facts: Facts, seconds: i64) -> Facts {
    facts.but(|facts| facts.seen.created_at = facts.seen.now.checked_sub(SignedDuration::from_secs(seconds)).ok())
}

pub(super) fn origins() -> Vec<(Facts, &'static str, &'static str)> {
    let named = |digest: &str| OriginFacts::Named(named_digest(digest));
    let suspended = |facts: Facts| facts.but(|facts| facts.desired.suspended = true);
    let missing = || unnamed(Reason::SourceNotFound, None);
    let flux = |artifact: ArtifactFacts| {
        let source = FluxOrigin { kind: FluxKind::GitRepository, name: "shop".to_owned(), path: String::new() };
        running(unnamed(Reason::AwaitingSource, Some(B))).but(|facts| {
            facts.desired.wish = Wish::Deploy(Origin::Flux(source));
            facts.seen.artifact = artifact;
        })
    };
    vec![
        (tag(OriginFacts::NotLooked), "Wait Progressing", "nobody has looked yet"),
        (tag(named(A)), "Deploy Spec", "what the tag names is wanted"),
        (running(named(A)), "Rest Succeeded", "what the tag names runs"),
        (running(named(B)), "Deploy Spec", "the tag moved"),
        (tag(unnamed(Reason::ArtifactUnavailable, None)), "Wait ArtifactUnavailable", "it may be pushed yet"),
        (tag(unnamed(Reason::AwaitingSource, None)), "Wait AwaitingSource", "Flux has not fetched anything yet"),
        (
            running(unnamed(Reason::ArtifactUnavailable, Some(A))),
            "Rest Succeeded",
            "what it named last stays wanted while the registry is away",
        ),
        (
            tag(unnamed(Reason::ArtifactUnavailable, Some(A))),
            "Deploy Spec",
            "what it named last is wanted, and on disk",
        ),
        (running(unnamed(Reason::Progressing, Some(A))), "Rest Succeeded", "a look that runs changes nothing yet"),
        (
            running(unnamed(Reason::Progressing, Some(B))),
            "Wait Progressing",
            "it may name something else by now, so what it named last is not released",
        ),
        (
            running(unnamed(Reason::Progressing, Some(B))).but(|facts| facts.seen.artifact = ArtifactFacts::Absent),
            "Fetch",
            "nothing is begun before it is known, and what is said stays",
        ),
        (
            flux(ArtifactFacts::Absent),
            "Wait AwaitingSource",
            "the source has no artifact any more, so its last one would be asked for in vain",
        ),
        (
            flux(ArtifactFacts::Checking),
            "Wait AwaitingSource",
            "nor can one be asked for that is on disk, and not checked",
        ),
        (flux(ArtifactFacts::OnDisk { upload: A.parse().unwrap(), size: 1 }), "Deploy Spec", "what is at hand is sent"),
        (
            running(unnamed(Reason::Progressing, Some(A))).redeploy("1"),
            "Wait Progressing",
            "nor is what runs released once more",
        ),
        (
            running(unnamed(Reason::SecretNotFound, Some(A))),
            "Stall SecretNotFound",
            "without a person it is never known again",
        ),
        (made_ago(tag(missing()), 31), "Stall SourceNotFound", "nobody made the source in time"),
        (made_ago(tag(missing()), 5), "Wait AwaitingSource", "the same commit may bring the source a moment later"),
        (suspended(tag(missing())), "Suspend", "nothing would be deployed either"),
        (suspended(tag(unnamed(Reason::ArtifactUnavailable, None))), "Suspend", "nothing would be deployed either"),
        (
            suspended(running(unnamed(Reason::ArtifactUnavailable, Some(A)))),
            "Rest Succeeded",
            "what is wanted as far as known runs",
        ),
        (
            Facts::uat().in_flight(A).with_job(JobStatus::Running).follows_tag(missing()),
            "Wait DeployRunning",
            "an open attempt comes first",
        ),
        (
            Facts::uat().runs(A).shows(ELSEWHEN, "success").follows_tag(unnamed(Reason::ArtifactUnavailable, Some(A))),
            "Stall Drifted",
            "the Space was seen, whatever the registry says",
        ),
    ]
}

#[test]
fn what_the_origin_names_is_wanted_and_nothing_else() {
    check(origins());
}

#[test]
fn a_name_that_is_not_known_is_looked_up_again_in_time() {
    let seconds = |facts: &Facts| look_again(&facts.step(), &facts.desired, &facts.seen, &facts.judge()).as_secs();
    assert_eq!(seconds(&tag(unnamed(Reason::ArtifactUnavailable, None))), 30);
    assert_eq!(seconds(&tag(OriginFacts::NotLooked)), 10, "the look that runs wakes the resource");
    assert_eq!(seconds(&running(unnamed(Reason::ArtifactUnavailable, Some(A)))), 300, "as often as any tag");
    assert_eq!(seconds(&tag(unnamed(Reason::SecretNotFound, None))), 30, "a Secret is read every 30 s");
    let rejected = FetchError::Rejected { reason: "no Dockerfile".to_owned() };
    let stalled = tag(OriginFacts::Named(named_digest(A))).but(|facts| {
        facts.seen.artifact = ArtifactFacts::Failed { error: rejected, ago: MINUTE, times: 1 };
    });
    assert_eq!(words(&stalled.step()), "Stall ArtifactRejected");
    assert_eq!(seconds(&stalled), 300, "a tag is looked at every interval, for another one may be pushed");
}

#[test]
fn a_request_for_a_look_is_answered_once_the_look_has_ended() {
    let handled = |origin: OriginFacts| {
        let asked = running(origin).but(|facts| facts.desired.requests.reconcile_at = Some("1".to_owned()));
        asked.judge().status.last_handled_reconcile_at
    };
    assert_eq!(handled(unnamed(Reason::Progressing, Some(A))), None, "the look runs");
    for ended in [OriginFacts::Named(named_digest(A)), unnamed(Reason::ArtifactUnavailable, Some(A))] {
        assert_eq!(handled(ended).as_deref(), Some("1"));
    }
}

#[test]
fn what_is_not_known_now_is_said_beside_what_is() {
    let status = running(unnamed(Reason::ArtifactUnavailable, Some(A))).render();
    let artifact = status.condition("ArtifactReady").unwrap();
    assert_eq!((artifact.status.as_str(), artifact.reason.as_str()), ("False", "ArtifactUnavailable"));
    assert!(status.is_true("Ready") && status.is_true("Deployed"), "{status:?}");
    // The next look begins: what the last one came to is still so.
    let looking = running(OriginFacts::Unnamed {
        problem: problem(Reason::ArtifactUnavailable),
        last: Some(named_digest(A)),
        looking: true,
    });
    assert_eq!(looking.render().condition("ArtifactReady").unwrap().status, "False");
    let unknown = tag(unnamed(Reason::ArtifactUnavailable, None)).render();
    assert_eq!(unknown.condition("Deployed").unwrap().reason, "ArtifactUnavailable", "nobody is to approve anything");
    let known = running(OriginFacts::Named(named_digest(A))).render();
    assert_eq!(known.condition("ArtifactReady").unwrap().status, "True");
    let artifact = known.artifact.unwrap();
    assert_eq!((artifact.digest.as_str(), artifact.origin.as_deref()), (A, Some("registry.example.com/shop:live")));
}
