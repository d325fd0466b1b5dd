//! Which step follows from which facts. Each row is one sentence of the contract; the last column says why it must be so.

mod origins;

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::api::{AdoptionPolicy, Attempt, Attribution, HeldBy};
use crate::artifact::FetchError;
use crate::konigle::model::JobStatus;
use crate::konigle::{Answer, Rejection};
use crate::observation::{ArtifactFacts, LookError, NamedBy, PairProof, Refusal, SourceFacts};
use crate::test_facts::*;

const MINUTE: Duration = Duration::from_mins(1);

fn check(rows: Vec<(Facts, &str, &str)>) {
    let wrong: Vec<String> = rows
        .into_iter()
        .map(|(facts, expected, because)| (words(&facts.step()), expected, because))
        .filter(|(step, expected, _)| step != expected)
        .map(|(step, expected, because)| format!("{step} instead of {expected}, because {because}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn failed(facts: Facts) -> Facts {
    facts.ended(A, AttemptResult::Failed, "job job-0 failed: no such table")
}

fn fetch_failed(error: FetchError, ago: Duration) -> Facts {
    Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Failed { error, ago, times: 1 })
}

fn unavailable() -> LookError {
    LookError::Unavailable("no answer".to_owned())
}

/// The token was replaced by one that does not see the job.
fn job_may_not_be_read() -> Facts {
    Facts::uat().in_flight(A).with_job(JobStatus::Running).but(|facts| {
        facts.seen.space = None;
        facts.seen.attempt.as_mut().unwrap().job = Some(Err(LookError::Forbidden("not yours".to_owned())));
    })
}

fn source(facts: &mut Facts) -> &mut SourceFacts {
    facts.seen.source.as_mut().unwrap()
}

fn held() -> HeldBy {
    HeldBy { name: "shop-production".to_owned(), uid: "p".to_owned(), ..HeldBy::default() }
}

fn refused(reason: Reason) -> Facts {
    let facts = Facts::uat().ended(A, AttemptResult::NotSent, "refused");
    facts.but(|facts| {
        facts.status.next_retry_time = Some("2026-11-24T09:00:30Z".to_owned());
        facts.seen.refusal = Some(Refusal { problem: problem(reason), times: 1 });
    })
}

fn drifted(policy: DriftPolicy) -> Facts {
    Facts::uat().runs(A).shows(ELSEWHEN, "success").drift_policy(policy)
}

/// Others that have something to do with the Space of a uat resource.
fn neighbours_of_uat() -> Vec<(Facts, &'static str, &'static str)> {
    vec![
        (
            Facts::uat().runs(A).wants(B).but(|facts| facts.status.held_by = Some(held())),
            "Wait HeldByPromotion",
            "a promotion copies what runs here",
        ),
        (
            Facts::uat().runs(A).wants(B).but(|facts| facts.seen.promotions = vec!["shop-production".to_owned()]),
            "Wait HeldByPromotion",
            "a promotion claimed an attempt and is about to take its hold",
        ),
        (
            Facts::uat().but(|facts| facts.seen.rivals = vec!["other/shop".to_owned()]),
            "Wait SpaceBusy",
            "another resource has an open attempt on this pair of Spaces",
        ),
        (
            Facts::uat().runs(A).but(|facts| facts.seen.rivals = vec!["other/shop".to_owned()]),
            "Rest Succeeded",
            "it hinders only a release",
        ),
        (
            Facts::uat().runs(A).but(|facts| facts.status.held_by = Some(held())),
            "Rest Succeeded",
            "a hold hinders only a deployment",
        ),
    ]
}

fn deploys_of_uat() -> Vec<(Facts, &'static str, &'static str)> {
    let foreign = || Facts::uat().shows(BEFORE, "running");
    let quarantined = |reason: &str| {
        failed(Facts::uat()).but(|facts| {
            facts.status.quarantined =
                vec![crate::api::Quarantined { digest: A.to_owned(), reason: reason.to_owned(), time: NOW.to_owned() }];
        })
    };
    let waiting =
        || failed(Facts::uat()).but(|facts| facts.status.next_retry_time = Some("2026-11-24T09:00:10Z".to_owned()));
    vec![
        (Facts::uat(), "Deploy Spec", "the digest is wanted and nothing runs"),
        (
            Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Absent),
            "Fetch",
            "only what is on disk is claimed",
        ),
        (Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Downloading), "Fetch", "it is on its way"),
        (Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Checking), "Fetch", "it is checked"),
        (Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Packing), "Fetch", "it is packed"),
        (Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Retrying), "Fetch", "it is on its way again"),
        (Facts::uat().runs(A), "Rest Succeeded", "a job of ours released it, and the Space shows that"),
        (Facts::uat().runs(A).wants(B), "Deploy Spec", "another digest is wanted"),
        (Facts::uat().runs(A).redeploy("1"), "Deploy Person", "a person asked for the same digest once more"),
        (Facts::uat().runs(A).reset("1"), "Rest Succeeded", "what runs is known: a reset only forgets failures"),
        (
            Facts::uat().runs(A).attributed(Attribution::Inferred).reset("1"),
            "Deploy Reset",
            "a reset makes certain what runs",
        ),
        (
            Facts::uat().runs(A).attributed(Attribution::Inferred),
            "Rest Succeeded",
            "an inferred release is not repeated unasked",
        ),
        (failed(Facts::uat()), "Deploy Retry", "an attempt failed, and the wait after it is over"),
        (waiting(), "Wait ProgressingWithRetry", "it is too early for the next attempt"),
        (waiting().wants(B), "Deploy Spec", "another digest does not inherit the wait of the last"),
        (quarantined("RetriesExceeded"), "Stall RetriesExceeded", "its attempts are used up"),
        (quarantined("ArtifactRejected"), "Stall ArtifactRejected", "the server refused the artifact for good"),
        (quarantined("RequestRejected"), "Stall RequestRejected", "the server refused the request for good"),
        (
            quarantined("RetriesExceeded").redeploy("1"),
            "Stall RetriesExceeded",
            "only a reset or another digest frees it",
        ),
        (quarantined("RetriesExceeded").reset("1"), "Deploy Reset", "a reset frees it"),
        (quarantined("RetriesExceeded").wants(B), "Deploy Spec", "another digest is free"),
        (refused(Reason::SpaceBusy), "Wait SpaceBusy", "the Space told so a moment ago"),
        (refused(Reason::RateLimited), "Wait RateLimited", "the server told when to come again"),
        (refused(Reason::CredentialsRejected), "Wait Progressing", "a single 401 is tried once more"),
        (
            refused(Reason::CredentialsRejected).but(|facts| facts.seen.refusal.as_mut().unwrap().times = 2),
            "Stall CredentialsRejected",
            "a person must put a valid token",
        ),
        (refused(Reason::SpaceForbidden), "Stall SpaceForbidden", "a person must put another token"),
        (refused(Reason::SpaceNotFound), "Stall SpaceNotFound", "a person must correct the spec"),
        (foreign(), "Wait SpaceBusy", "somebody else's deployment runs, at first contact it is waited out"),
        (
            foreign().ended(A, AttemptResult::NotSent, "refused").but(|facts| facts.status.settled = None),
            "Wait SpaceBusy",
            "an attempt that was never sent is no contact either",
        ),
        (
            foreign().but(|facts| facts.desired.adoption_policy = AdoptionPolicy::AssumeCurrent),
            "Wait SpaceBusy",
            "what will run is not known yet",
        ),
        (
            Facts::uat()
                .shows(BEFORE, "success")
                .but(|facts| facts.desired.adoption_policy = AdoptionPolicy::AssumeCurrent),
            "Rest Assumed",
            "the adoption policy takes it that the wanted digest runs",
        ),
        (
            Facts::uat().but(|facts| facts.desired.adoption_policy = AdoptionPolicy::AssumeCurrent),
            "Deploy Spec",
            "nothing was ever deployed, so nothing can be assumed to run",
        ),
        (Facts::uat().runs(A).wants(B).suspended(), "Suspend", "nothing is written to Konigle while suspended"),
        (Facts::uat().runs(A).suspended(), "Rest Succeeded", "the wish is met"),
        (Facts::uat().runs(A).redeploy("1").suspended(), "Suspend", "not even on a person's request"),
    ]
}

fn spaces() -> Vec<(Facts, &'static str, &'static str)> {
    vec![
        (Facts::uat().space_is("provisioning"), "Wait SpaceProvisioning", "it becomes ready by itself"),
        (Facts::uat().space_is("stopped"), "Stall SpaceStopped", "a person must start it"),
        (Facts::uat().space_is("error"), "Deploy Spec", "a deployment may be what mends it"),
        (Facts::uat().runs(A).space_is("provisioning"), "Wait SpaceProvisioning", "it does not serve yet"),
        (Facts::uat().runs(A).space_is("stopped"), "Stall SpaceStopped", "it does not serve"),
        (Facts::uat().runs(A).space_is("error"), "Stall SpaceError", "it does not serve"),
        (Facts::uat().runs(A).space_is("hibernating"), "Rest Succeeded", "a word that is not known proves nothing"),
        (
            Facts::uat().but(|facts| facts.seen.conflict = Some("shop/other".to_owned())),
            "Stall SpaceConflict",
            "the older resource goes on",
        ),
        (
            Facts::uat().but(|facts| facts.seen.account = Err(problem(Reason::SecretKeyMissing))),
            "Stall SecretKeyMissing",
            "without a token nothing can be done",
        ),
    ]
}

fn looks_that_fail() -> Vec<(Facts, &'static str, &'static str)> {
    let known = |facts: Facts| facts.next();
    let unseen = |error: LookError| known(Facts::uat().runs(A)).space_cannot_be_seen(error);
    let for_so_long = |minutes: u32| unseen(unavailable()).but(|facts| facts.seen.failing_for = minutes * MINUTE);
    let unauthorized = |seconds: u64| {
        unseen(LookError::Unauthorized("401".to_owned()))
            .but(|facts| facts.seen.unauthorized_for = Some(Duration::from_secs(seconds)))
    };
    vec![
        (Facts::uat().space_cannot_be_seen(unavailable()), "Wait Progressing", "Ready is present from the first write"),
        (unseen(unavailable()), "Unseen", "a failed look changes nothing"),
        (unseen(unavailable()).wants(B), "Wait Progressing", "but a wish that is not met is not called met meanwhile"),
        (for_so_long(15), "Unseen", "it is not for long yet"),
        (for_so_long(16), "Unreachable", "longer than 15 minutes, and than three intervals"),
        (
            for_so_long(16).but(|facts| facts.desired.interval = 6 * MINUTE),
            "Unseen",
            "three intervals are longer than 15 minutes",
        ),
        (unauthorized(0), "Unseen", "a single 401 is tried once more with the Secret read afresh"),
        (unauthorized(30), "Stall CredentialsRejected", "the token is rejected again and again"),
        (unseen(LookError::Forbidden("403".to_owned())), "Stall SpaceForbidden", "a person must put another token"),
        (unseen(LookError::NotFound("404".to_owned())), "Stall SpaceNotFound", "a person must correct the spec"),
        (unseen(LookError::Ambiguous("two".to_owned())), "Stall InvalidSpec", "names that fit two Spaces name none"),
        (
            unseen(LookError::Changed("other".to_owned())),
            "Stall SpaceChanged",
            "another Space is not taken over silently",
        ),
        (
            unseen(LookError::BaseUrl("private".to_owned())),
            "Stall SecretInvalid",
            "a person must write another base URL",
        ),
        (unseen(LookError::RateLimited("429".to_owned())), "Unseen", "too many requests change nothing either"),
        (
            Facts::uat().space_cannot_be_seen(LookError::RateLimited("429".to_owned())),
            "Wait RateLimited",
            "at first contact it is said why nothing is known",
        ),
        (
            Facts::uat().but(|facts| facts.seen.space = None),
            "Wait Progressing",
            "nothing is claimed without a baseline",
        ),
        (
            Facts::uat().in_flight(A).with_job(JobStatus::Running).but(|facts| {
                facts.seen.space = None;
                facts.seen.attempt.as_mut().unwrap().job = Some(Err(unavailable()));
            }),
            "Wait DeployRunning",
            "the job goes on, looked at or not",
        ),
        (
            Facts::uat().in_flight(A).with_job(JobStatus::Running).but(|facts| {
                facts.seen.space = None;
                facts.seen.failing_for = 16 * MINUTE;
                facts.seen.attempt.as_mut().unwrap().job = Some(Err(unavailable()));
            }),
            "Unreachable",
            "Konigle is silent for long, with a job or without",
        ),
        (job_may_not_be_read(), "Stall SpaceForbidden", "a job that may not be read is not said to run"),
        (job_may_not_be_read().later(LONG), "Stall JobOverdue", "and a person may say how it ended"),
    ]
}

fn downloads() -> Vec<(Facts, &'static str, &'static str)> {
    let location = || "ci.example.com/shop.zip".to_owned();
    let reason = || "because".to_owned();
    let missing = || FetchError::Unavailable { location: location(), reason: reason() };
    let denied = || FetchError::Denied { location: location(), reason: reason(), with_credentials: true };
    let mismatch = || FetchError::DigestMismatch {
        location: location(),
        wanted: A.parse().unwrap(),
        got: B.parse().unwrap(),
        hint: String::new(),
    };
    let refused = || FetchError::Refused { location: location(), reason: reason() };
    let foreign = || FetchError::Foreign { location: location(), reason: reason() };
    let limited = |minutes| FetchError::Limited { location: location(), reason: reason(), wait: minutes * MINUTE };
    let soon = Duration::from_secs(1);
    vec![
        (fetch_failed(missing(), soon), "Wait ArtifactUnavailable", "CI may publish it later"),
        (fetch_failed(missing(), MINUTE), "Fetch", "it is tried again after a pause"),
        (fetch_failed(denied(), soon), "Wait ArtifactUnavailable", "the Secret may be mended"),
        (fetch_failed(denied(), MINUTE), "Fetch", "it is tried again after a pause"),
        (
            fetch_failed(FetchError::Disk { reason: reason() }, soon),
            "Wait ArtifactUnavailable",
            "the disk may get free",
        ),
        (fetch_failed(mismatch(), MINUTE), "Stall DigestMismatch", "another file stands at this URL"),
        (fetch_failed(mismatch(), LONG), "Fetch", "it may have been replaced meanwhile"),
        (
            fetch_failed(FetchError::Rejected { reason: reason() }, LONG),
            "Stall ArtifactRejected",
            "the same bytes stay wrong",
        ),
        (
            fetch_failed(FetchError::TooLarge { location: location(), limit: 1 }, MINUTE),
            "Stall ArtifactTooLarge",
            "it does not shrink",
        ),
        (fetch_failed(refused(), MINUTE), "Stall InvalidSpec", "the URL is forbidden"),
        (fetch_failed(refused(), LONG), "Fetch", "its name may resolve to another address by now"),
        (fetch_failed(foreign(), MINUTE), "Stall InvalidSpec", "somebody wrote Flux's status"),
        (fetch_failed(foreign(), LONG), "Fetch", "Flux may have written it since"),
        (fetch_failed(limited(3), soon), "Wait ArtifactUnavailable", "the host asks for patience"),
        (fetch_failed(limited(0), MINUTE), "Fetch", "it does not say how long"),
        (fetch_failed(limited(30), 29 * MINUTE), "Wait ArtifactUnavailable", "it says how long"),
        (fetch_failed(limited(30), 30 * MINUTE), "Fetch", "and that is over"),
        (
            fetch_failed(FetchError::CertificateInvalid { reason: reason() }, soon),
            "Stall SecretInvalid",
            "a person must put a certificate",
        ),
        (
            fetch_failed(FetchError::CertificateInvalid { reason: reason() }, MINUTE),
            "Fetch",
            "the Secret is read at each use",
        ),
        (
            Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Unreadable(problem(Reason::SecretNotFound))),
            "Stall SecretNotFound",
            "the artifact's host needs credentials",
        ),
    ]
}

fn open_attempts() -> Vec<(Facts, &'static str, &'static str)> {
    let open = || Facts::uat().in_flight(A);
    let running = || open().with_job(JobStatus::Running);
    let silent = || open().known(|known| known.seen_for = LONG);
    vec![
        (open(), "Wait ResolvingOutcome", "an attempt without a job may have taken effect"),
        (open().wants(B), "Wait ResolvingOutcome", "a newer spec never overtakes an open attempt"),
        (open().suspended(), "Wait ResolvingOutcome", "a suspended resource still looks"),
        (open().redeploy("1").reset("1"), "Wait ResolvingOutcome", "requests wait for its end"),
        (running(), "Wait DeployRunning", "its job runs"),
        (running().wants(B).suspended(), "Wait DeployRunning", "a running job is followed, whatever is asked"),
        (running().later(LONG), "Stall JobOverdue", "the job has not ended within spec.timeout"),
        (
            open().with_job(JobStatus::Unknown("paused".to_owned())),
            "Wait DeployRunning",
            "a job word that is not known counts as running",
        ),
        (open().answered(Answer::Unknown("reset".to_owned())), "Wait ResolvingOutcome", "it may have taken effect"),
        (open().answered(accepted()), "Wait DeployRunning", "the answer names the job"),
        (open().answered(Answer::Unsent("no route".to_owned())), "Wait ProgressingWithRetry", "nothing was sent"),
        (open().answered(rate_limited(60)), "Wait RateLimited", "the server told when to come again"),
        (
            open().answered(Answer::Rejected(Rejection::Artifact { code: 422, detail: None })),
            "Stall ArtifactRejected",
            "the same bytes would be refused again",
        ),
        (
            open().known(|known| known.job_with_nonce = Some("job-9".to_owned())),
            "Wait DeployRunning",
            "that job is ours",
        ),
        (silent(), "Wait ProgressingWithRetry", "the wait is over and nothing was seen: it never took effect"),
        (
            silent().but(|facts| facts.desired.unknown_outcome_policy = crate::api::UnknownOutcomePolicy::Hold),
            "Stall OutcomeUnknown",
            "under Hold only a person says that it never took effect",
        ),
        (silent().shows(LATER, "running"), "Stall OutcomeUnknown", "it moved, and no known word tells how it ended"),
        (
            silent().but(|facts| {
                facts.seen.account = Ok(crate::observation::AccountFacts {
                    base_url: "https://elsewhere".to_owned(),
                    named_by: NamedBy::Flag,
                });
            }),
            "Stall OutcomeUnknown",
            "evidence from another address does not count",
        ),
        (open().person_says("succeeded"), "Rest Succeeded", "a person knows"),
        (open().person_says("failed"), "Wait ProgressingWithRetry", "a person's word counts like a failed job"),
        (open().person_says("retry"), "Deploy Person", "a person asked for another attempt"),
        (running().person_says("retry"), "Wait DeployRunning", "what is known needs no answer"),
        (
            running().person_says("retry").later(LONG),
            "Deploy Person",
            "a job that never ends may be given up by a person",
        ),
    ]
}

fn drifts() -> Vec<(Facts, &'static str, &'static str)> {
    let known = |policy| drifted(policy).next();
    let again = (0..3).fold(Facts::uat().drift_policy(DriftPolicy::Redeploy).runs(A), |facts, _| {
        let put_back = |facts: &mut Facts| facts.status.history[0].cause = Cause::Drift;
        facts.ended(A, AttemptResult::Succeeded, "").but(put_back)
    });
    vec![
        (again.shows(ELSEWHEN, "success"), "Stall DriftLoop", "it was put back three times in this hour"),
        (drifted(DriftPolicy::Warn), "Stall Drifted", "somebody else deployed: what runs is not known"),
        (drifted(DriftPolicy::Ignore), "Rest Succeeded", "the policy accepts it"),
        (drifted(DriftPolicy::Redeploy), "Deploy Drift", "the policy puts the digest back"),
        (drifted(DriftPolicy::Redeploy).suspended(), "Suspend", "nothing is written while suspended"),
        (drifted(DriftPolicy::Warn).wants(B), "Stall Drifted", "the wish was not made in the knowledge of it"),
        (known(DriftPolicy::Warn).wants(B), "Deploy Spec", "a digest that was written after it was seen replaces it"),
        (known(DriftPolicy::Warn).reset("1"), "Deploy Reset", "a person wants the digest back"),
        (known(DriftPolicy::Ignore).wants(B), "Deploy Spec", "another digest is wanted"),
        (drifted(DriftPolicy::Warn).redeploy("1"), "Deploy Person", "a person wants the digest once more"),
    ]
}

fn promotions() -> Vec<(Facts, &'static str, &'static str)> {
    let first = Facts::production;
    let automatic = || first().but(|facts| facts.desired.wish = promotes(Approval::Automatic));
    let with = |change: fn(&mut SourceFacts)| first().but(|facts| change(source(facts)));
    let stalled = |source: &mut SourceFacts| {
        source.status.conditions.push(crate::api::Condition {
            condition_type: "Stalled".to_owned(),
            status: "True".to_owned(),
            reason: "SpaceStopped".to_owned(),
            ..crate::api::Condition::default()
        });
    };
    vec![
        (first(), "Promote Spec", "the approved digest is confirmed to run in uat"),
        (first().runs(A), "Rest Succeeded", "it runs"),
        (
            first().but(|facts| facts.desired.wish = promotes(Approval::Manual(None))),
            "Rest AwaitingApproval",
            "nothing was asked for",
        ),
        (
            first().but(|facts| facts.desired.wish = promotes(approved(B))),
            "Wait AwaitingSource",
            "uat does not run it yet",
        ),
        (
            first().runs(A).but(|facts| source(facts).status.release.as_mut().unwrap().digest = B.to_owned()),
            "Rest Succeeded",
            "uat moved on, what was approved runs",
        ),
        (with(|source| *source = SourceFacts::default()), "Stall SourceNotFound", "a person must create it"),
        (with(|source| source.deleting = true), "Wait AwaitingSource", "it goes away"),
        (
            automatic().suspended().but(|facts| source(facts).deleting = true),
            "Suspend",
            "nothing runs yet, and nothing would be promoted",
        ),
        (
            with(|source| source.status.attempt = Some(Attempt::default())),
            "Wait AwaitingSource",
            "its Space is about to change",
        ),
        (with(|source| source.status.held_by = Some(held())), "Wait AwaitingSource", "another promotion holds it"),
        (with(stalled), "Wait AwaitingSource", "it is not in order"),
        (
            with(|source| source.status.release.as_mut().unwrap().attribution = Attribution::Inferred),
            "Wait AwaitingSource",
            "no job of its own proves what runs there",
        ),
        (
            with(|source| source.status.release.as_mut().unwrap().attribution = Attribution::Assumed),
            "Wait AwaitingSource",
            "no job of its own proves what runs there",
        ),
        (
            with(|source| source.status.history[0].result = AttemptResult::Failed),
            "Wait AwaitingSource",
            "its last attempt did not succeed",
        ),
        (with(|source| source.status.release = None), "Wait AwaitingSource", "there is nothing to promote"),
        (
            first().but(|facts| facts.seen.pair = PairProof::NotProven("no".to_owned())),
            "Stall PairNotProven",
            "another production Space would change",
        ),
        (
            first().but(|facts| facts.seen.pair = PairProof::Unavailable("no".to_owned())),
            "Wait Progressing",
            "the proof comes later",
        ),
        (first().suspended(), "Suspend", "nothing is written while suspended"),
        (automatic(), "Promote Spec", "what is confirmed in uat is promoted"),
        (automatic().runs(B), "Promote Spec", "uat runs another digest"),
        (
            automatic().but(|facts| source(facts).deleting = true),
            "Wait AwaitingSource",
            "there is nothing to promote yet",
        ),
        (
            automatic().runs(A).but(|facts| source(facts).status.attempt = Some(Attempt::default())),
            "Rest Succeeded",
            "the last promoted digest runs",
        ),
    ]
}

/// Made so many seconds ago, and its uat resource is not there.
fn without_uat(seconds: i64) -> Facts {
    Facts::production().but(|facts| {
        *source(facts) = SourceFacts::default();
        facts.seen.created_at = Some(now() - jiff::SignedDuration::from_secs(seconds));
    })
}

fn promotions_before_their_uat() -> Vec<(Facts, &'static str, &'static str)> {
    let unreadable = |facts: &mut Facts| source(facts).unreadable = true;
    let nothing_asked = |facts: &mut Facts| facts.desired.wish = promotes(Approval::Manual(None));
    vec![
        (without_uat(29), "Wait AwaitingSource", "the commit that made this one may bring it"),
        (without_uat(-29), "Wait AwaitingSource", "the clocks differ"),
        (without_uat(30), "Stall SourceNotFound", "it did not come"),
        (without_uat(-30), "Stall SourceNotFound", "a clock is wrong, and nobody waits for ever"),
        (without_uat(1).but(unreadable), "Stall SourceNotFound", "it is there, and cannot be read"),
        (without_uat(1).but(nothing_asked), "Wait AwaitingSource", "it is not known yet what can be approved"),
        (without_uat(1).suspended(), "Suspend", "nothing is promoted while suspended"),
    ]
}

#[test]
fn a_missing_uat_resource_is_looked_for_again_when_its_time_is_over() {
    let facts = without_uat(10);
    let seconds = look_again(&facts.step(), &facts.desired, &facts.seen, &facts.judge()).as_secs();
    assert_eq!(seconds, 20);
}

fn running_promotions() -> Vec<(Facts, &'static str, &'static str)> {
    let first = Facts::production;
    let running = || first().in_flight(A).with_job(JobStatus::Running);
    vec![
        (running(), "Wait PromotionRunning", "its job runs"),
        (
            first().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success"),
            "Wait PromotionRunning",
            "the uat Space is compared again when settle has passed",
        ),
        (
            first().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success").later(SETTLE),
            "Rest Succeeded",
            "it stayed as it was approved",
        ),
        (
            first().in_flight(A).with_job(JobStatus::Success).shows(LATER, "success").known(|known| {
                known.source = Some(Ok(BaselineSource { last_deployed_at: Some(ELSEWHEN.to_owned()), ..pinned() }));
            }),
            "Stall ContentNotVerified",
            "somebody deployed to uat while it was copied",
        ),
        (
            first().in_flight(A).known(|known| known.seen_for = LONG),
            "Stall OutcomeUnknown",
            "promotions hold by default",
        ),
        (first().of_type("uat"), "Stall InvalidSpec", "promotions go to production"),
        (Facts::uat().of_type("production"), "Stall InvalidSpec", "artifacts go to uat"),
        (first().of_type("staging"), "Stall InvalidSpec", "a promotion would be looked for in the wrong Space"),
    ]
}

/// All rows: facts, the step, and why.
#[must_use]
pub fn all_rows() -> Vec<(Facts, &'static str, &'static str)> {
    [
        deploys_of_uat(),
        neighbours_of_uat(),
        spaces(),
        looks_that_fail(),
        downloads(),
        origins::origins(),
        open_attempts(),
        drifts(),
        promotions(),
        promotions_before_their_uat(),
        running_promotions(),
    ]
    .concat()
}

#[test]
fn deploys_of_uat_follow_the_wish() {
    check(deploys_of_uat());
    check(neighbours_of_uat());
    check(spaces());
}

#[test]
fn a_look_that_fails_starts_nothing() {
    check(looks_that_fail());
}

#[test]
fn an_artifact_is_fetched_before_it_is_claimed() {
    check(downloads());
}

#[test]
fn an_open_attempt_is_followed_and_never_overtaken() {
    check(open_attempts());
}

#[test]
fn drift_is_answered_as_the_policy_says() {
    check(drifts());
}

#[test]
fn a_promotion_needs_an_approval_and_an_open_gate() {
    check(promotions());
    check(promotions_before_their_uat());
    check(running_promotions());
}

/// Who reads it at three in the morning can copy the command, and learns what looks odd.
#[test]
fn messages_say_what_to_do_next() {
    let message = |facts: Facts| match facts.step() {
        Step::Wait(problem) | Step::Stall(problem) => problem.message,
        other => panic!("{other:?}"),
    };
    let given_up = failed(Facts::uat()).but(|facts| {
        facts.status.failures = 1;
        let reason = "RetriesExceeded".to_owned();
        facts.status.quarantined = vec![crate::api::Quarantined { digest: A.to_owned(), reason, time: NOW.to_owned() }];
    });
    let command = "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/reset-at=";
    let text = message(given_up);
    assert!(text.contains("after 1 failed attempt: ") && text.contains(command), "{text}");
    let overdue = Facts::uat()
        .in_flight(A)
        .with_job(JobStatus::Unknown("paused".to_owned()))
        .but(|facts| facts.status.attempt.as_mut().unwrap().deadline = BEFORE.to_owned());
    let text = message(overdue);
    assert!(text.contains("in status `paused`, which this operator does not know"), "{text}");
    assert!(text.contains(&format!("cloud.konigle.com/resolve-attempt={NONCE}=succeeded (or")), "{text}");
    let text = message(job_may_not_be_read());
    assert!(text.contains("Secret konigle may not read the job") && text.contains("not yours"), "{text}");
    let text = message(job_may_not_be_read().later(LONG));
    assert!(text.contains("the token may not read it (not yours)"), "{text}");
    let overdue = Facts::uat().in_flight(A).with_job(JobStatus::Running).later(LONG);
    let text = message(overdue);
    assert!(text.ends_with("if the first took effect); the last line of its log is: building"), "{text}");
    let text = message(refused(Reason::SpaceBusy));
    assert!(text.ends_with("; tried again after 2026-11-24T09:00:30Z"), "{text}");
}

/// What was seen so far, when the wait ends at the latest, what follows, and what a person can do: nothing of it changes from
/// one look to the next, for each change would be a write.
#[test]
fn an_unknown_outcome_says_what_was_seen_and_when_the_wait_ends() {
    let message = |facts: &Facts| match facts.step() {
        Step::Wait(problem) | Step::Stall(problem) => problem.message,
        other => panic!("{other:?}"),
    };
    let stood_at_success = || {
        Facts::uat()
            .shows(BEFORE, "success")
            .but(|facts| facts.status.settled = Some(pair(Some(BEFORE), Some("success"))))
    };
    let held =
        |facts: Facts| facts.but(|facts| facts.desired.unknown_outcome_policy = crate::api::UnknownOutcomePolicy::Hold);
    let end = "The wait ends at 2026-11-24T09:16:25Z at the latest";
    let again =
        "shows nothing new; if that is so still when the wait ends, it is taken as never received, and tried again";
    let rows = vec![
        (Facts::uat().in_flight(A), again),
        (
            held(Facts::uat().in_flight(A)),
            "shows nothing new; if that is so still when the wait ends, a person is asked",
        ),
        (
            stood_at_success().in_flight(A).shows(LATER, "success"),
            "shows success of 2026-11-24T08:59:30Z (before the request: success of 2026-11-24T08:00:00Z). That proves \
             nothing before the wait ends, and counts as this attempt's success then",
        ),
        (
            stood_at_success().in_flight(A).shows(BEFORE, "failed"),
            "shows failed of 2026-11-24T08:00:00Z (before the request: success of 2026-11-24T08:00:00Z). That proves \
             nothing before the wait ends, and counts as this attempt's failure then",
        ),
        (
            Facts::uat().in_flight(A).shows(LATER, "running"),
            "That tells nothing; if it is so still when the wait ends, a person is asked",
        ),
        (
            stood_at_success().in_flight(A).shows(EARLIER, "success"),
            "That tells nothing; if it is so still when the wait ends, a person is asked",
        ),
    ];
    for (facts, expected) in rows {
        let facts = facts.next();
        let text = message(&facts);
        assert!(text.contains(expected), "{text}\n{expected}");
        assert!(text.contains(end), "{text}");
        assert!(text.contains(&format!("the deployment whose name ends in [{NONCE}]")), "{text}");
        assert!(text.contains(&format!("cloud.konigle.com/resolve-attempt={NONCE}=succeeded (or =failed")), "{text}");
        assert!(text.contains("a second one, if the first took effect"), "{text}");
        assert_eq!(message(&facts.clone().later(MINUTE)), text, "the same at each look");
        let silent = facts.space_cannot_be_seen(unavailable());
        assert_eq!(message(&silent), text, "and at one that fails");
    }
    let text = message(&Facts::production().in_flight(A));
    assert!(text.contains("look in Konigle's console for a promotion of about 2026-11-24T"), "{text}");
}

/// The names and words that fill a message are the longest: the command is whole all the same.
#[test]
fn the_command_fits_into_the_longest_message() {
    let long = Facts::uat().shows(BEFORE, &"w".repeat(256)).in_flight(A).shows(LATER, &"x".repeat(256));
    let long = long.but(|facts| {
        facts.seen.name = "n".repeat(200);
        facts.seen.namespace = "s".repeat(63);
    });
    let ready = long.render().condition("Ready").cloned().unwrap();
    assert!(ready.message.len() <= 1024 && ready.message.ends_with("took effect)"), "{}", ready.message);
}

#[test]
fn a_closed_gate_says_what_opens_it() {
    let message = |facts: Facts| match facts.step() {
        Step::Wait(problem) | Step::Stall(problem) | Step::Rest(problem) => problem.message,
        other => panic!("{other:?}"),
    };
    let of_source = |change: fn(&mut SourceFacts)| message(Facts::production().but(|facts| change(source(facts))));
    let approve = |digest: &str| {
        format!(
            "kubectl patch kspace shop-production --namespace shop --type merge --patch \
             '{{\"spec\":{{\"promotion\":{{\"approvedDigest\":\"{digest}\"}}}}}}'"
        )
    };
    let text = message(Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Manual(None))));
    assert_eq!(
        text,
        format!("to promote what shop-uat runs, set spec.promotion.approvedDigest to {A}: {}", approve(A))
    );
    let text = message(Facts::production().but(|facts| facts.desired.wish = promotes(approved(B))));
    let expected = format!(
        "{B} is approved, but shop-uat runs {A}: deploy to shop-uat what is approved, or approve what it runs: {}",
        approve(A)
    );
    assert_eq!(text, expected);
    let stalled = |source: &mut SourceFacts| {
        source.status.conditions.push(crate::api::Condition {
            condition_type: "Stalled".to_owned(),
            status: "True".to_owned(),
            reason: "SecretNotFound".to_owned(),
            ..crate::api::Condition::default()
        });
    };
    let describe = "kubectl describe kspace shop-uat --namespace shop";
    let text = of_source(|source| source.status.release = None);
    assert_eq!(text, format!("KonigleSpace shop-uat has no release yet: {describe}"));
    let text = message(Facts::production().but(|facts| {
        source(facts).status.release = None;
        stalled(source(facts));
    }));
    assert_eq!(text, format!("KonigleSpace shop-uat has no release yet, and is stalled (SecretNotFound): {describe}"));
    let text = message(Facts::production().but(|facts| stalled(source(facts))));
    assert_eq!(text, format!("KonigleSpace shop-uat is stalled (SecretNotFound): {describe}"));
    let reset = "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/reset-at=";
    let text = of_source(|source| source.status.release.as_mut().unwrap().attribution = Attribution::Assumed);
    assert!(text.contains(reset), "{text}");
}

/// An approval would come to nothing, so it is said before.
#[test]
fn a_resource_that_is_no_other_half_is_named_before_anything_is_approved() {
    let unapproved = || Facts::production().but(|facts| facts.desired.wish = promotes(Approval::Manual(None)));
    let recorded = |facts: &mut Facts, change: fn(&mut crate::api::SpaceStatus)| {
        change(source(facts).status.space.as_mut().unwrap());
    };
    let other_app = unapproved().but(|facts| {
        recorded(facts, |space| space.webapp = "1".to_owned());
        let Some(Ok(space)) = &mut facts.seen.space else { panic!() };
        space.status.webapp = "2".to_owned();
    });
    let of_production = unapproved().but(|facts| recorded(facts, |space| space.space_type = "production".to_owned()));
    for (facts, expected) in [
        (other_app, "KonigleSpace shop-uat is of web app 1, and this Space is of web app 2"),
        (of_production, "KonigleSpace shop-uat is of a production Space"),
    ] {
        let Step::Stall(problem) = facts.step() else { panic!("{:?}", facts.step()) };
        assert_eq!(problem.reason, Reason::PairNotProven);
        assert!(problem.message.contains(expected), "{}", problem.message);
        let allowed = facts.render().condition("PromotionAllowed").cloned().unwrap();
        assert_eq!((allowed.status.as_str(), allowed.reason.as_str()), ("False", "PairNotProven"));
        assert_eq!(allowed.message, problem.message);
    }
}

/// What a person mended must not be read as still to be mended, although the look that follows brings nothing.
#[test]
fn a_mended_secret_or_spec_is_not_named_any_more() {
    let missing = || Facts::uat().but(|facts| facts.seen.account = Err(problem(Reason::SecretKeyMissing))).next();
    let read = |facts: &mut Facts, named_by| {
        let base_url = "https://konigle.example".to_owned();
        facts.seen.account = Ok(crate::observation::AccountFacts { base_url, named_by });
    };
    let mended = |error: LookError| missing().but(|facts| read(facts, NamedBy::Flag)).space_cannot_be_seen(error);
    let unauthorized = mended(LookError::Unauthorized("401".to_owned()));
    assert_eq!(words(&unauthorized.step()), "Wait Progressing");
    let status = unauthorized.render();
    assert!(status.condition("Stalled").is_none());
    for condition in ["Ready", "CredentialsValid"] {
        let said = status.condition(condition).unwrap();
        assert!(said.status == "Unknown" && said.message.starts_with("Konigle answered 401 once"), "{said:?}");
    }
    assert_eq!(words(&mended(unavailable()).step()), "Wait Progressing");
    let unread = missing().but(|facts| read(facts, NamedBy::Nobody)).space_cannot_be_seen(unavailable());
    assert_eq!(words(&unread.step()), "Unseen", "whether it was mended is not known");
    let stopped = Facts::uat().space_is("stopped").next().space_cannot_be_seen(unavailable());
    assert_eq!(words(&stopped.step()), "Unseen", "nothing tells that it is over");

    let of_artifact = Facts::uat()
        .but(|facts| facts.seen.artifact = ArtifactFacts::Unreadable(problem(Reason::SecretNotFound)))
        .next()
        .space_cannot_be_seen(unavailable());
    assert_eq!(words(&of_artifact.step()), "Unseen", "it is another Secret");
    let invalid = |generation| {
        let mut facts = Facts::uat().of_type("production").next().space_cannot_be_seen(unavailable());
        facts.desired.generation = generation;
        words(&facts.step())
    };
    assert_eq!([invalid(1), invalid(2)], ["Unseen", "Wait Progressing"]);
}

#[test]
fn an_address_that_a_secret_names_is_shown_where_it_does_not_answer() {
    let of = |named_by| {
        let facts = Facts::uat().space_cannot_be_seen(LookError::Unavailable("no connection to Konigle".to_owned()));
        let base_url = "https://konigle.example".to_owned();
        let facts = facts.but(|facts| facts.seen.account = Ok(crate::observation::AccountFacts { base_url, named_by }));
        let Step::Wait(problem) = facts.step() else { panic!() };
        problem.message
    };
    assert_eq!(of(NamedBy::Flag), "no connection to Konigle; tried again by itself");
    let expected = "no connection to Konigle (asked at https://konigle.example, which key `baseURL` of Secret konigle \
                    says); tried again by itself";
    assert_eq!(of(NamedBy::Secret), expected);
}

#[test]
fn each_message_that_asks_for_a_look_has_its_command() {
    let message = |facts: Facts| match facts.step() {
        Step::Wait(problem) | Step::Stall(problem) | Step::Rest(problem) => problem.message,
        other => panic!("{other:?}"),
    };
    let look = "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/reconcile-at=";
    let location = || "ci.example.com/shop.zip".to_owned();
    let mismatch = FetchError::DigestMismatch {
        location: location(),
        wanted: A.parse().unwrap(),
        got: B.parse().unwrap(),
        hint: String::new(),
    };
    let rows = vec![
        Facts::uat().space_is("stopped"),
        Facts::uat().space_cannot_be_seen(LookError::NotFound("404".to_owned())),
        fetch_failed(mismatch, MINUTE),
        fetch_failed(FetchError::TooLarge { location: location(), limit: 1 }, MINUTE),
    ];
    for facts in rows {
        let text = message(facts);
        assert!(text.contains(look), "{text}");
    }
    let changed = message(Facts::uat().space_cannot_be_seen(LookError::Changed("another Space".to_owned())));
    assert!(changed.contains("--namespace shop --overwrite cloud.konigle.com/reset-at="), "{changed}");
    let base_url = message(Facts::uat().space_cannot_be_seen(LookError::BaseUrl("private".to_owned())));
    assert!(base_url.contains("kubectl patch secret konigle --namespace shop --patch"), "{base_url}");
    let missing = FetchError::Unavailable { location: location(), reason: "refused".to_owned() };
    let text = message(fetch_failed(missing, Duration::from_secs(1)));
    assert!(
        text.ends_with("tried again within 5 min; if the address is wrong, correct spec.source.http.url"),
        "{text}"
    );
    let denied = FetchError::Denied {
        location: location(),
        reason: "the server answered 401".to_owned(),
        with_credentials: false,
    };
    let text = message(fetch_failed(denied, Duration::from_secs(1)));
    assert!(text.contains("answered 401 to a request without credentials; tried again within 5 min; where the host wants credentials, make"), "{text}");

    let assumed = |facts: Facts| {
        let facts = facts.shows(BEFORE, "success");
        message(facts.but(|facts| facts.desired.adoption_policy = AdoptionPolicy::AssumeCurrent))
    };
    let text = assumed(Facts::uat());
    assert!(text.contains("by spec.adoptionPolicy AssumeCurrent: no job") && text.contains("reset-at="), "{text}");
    let text = assumed(Facts::production());
    assert!(
        text.contains("(the default with spec.promotion)") && text.contains("to promote it and be certain"),
        "{text}"
    );
    let text = message(Facts::uat().runs(A).suspended());
    assert!(text.ends_with("runs (suspended: nothing else is released)"), "{text}");
}

#[test]
fn the_tables_reach_every_step_and_every_reason_of_the_planner() {
    let reached: BTreeSet<String> = all_rows().iter().map(|(facts, ..)| words(&facts.step())).collect();
    let reasons: BTreeSet<&str> =
        reached.iter().filter_map(|words| words.split_once(' ')).map(|(_, reason)| reason).collect();
    for kind in ["Rest", "Fetch", "Deploy", "Promote", "Wait", "Stall", "Suspend", "Unreachable", "Unseen"] {
        assert!(reached.iter().any(|words| words.starts_with(kind)), "no row reaches {kind}");
    }
    for reason in "Succeeded AwaitingApproval Assumed Progressing DeployRunning PromotionRunning ResolvingOutcome \
        ProgressingWithRetry HeldByPromotion AwaitingSource SpaceProvisioning SpaceBusy RateLimited ArtifactUnavailable \
        InvalidSpec SecretNotFound SecretKeyMissing SecretInvalid CredentialsRejected SpaceForbidden SpaceNotFound \
        SpaceChanged SpaceConflict SpaceStopped SpaceError SourceNotFound PairNotProven DigestMismatch ArtifactRejected \
        ArtifactTooLarge RequestRejected RetriesExceeded OutcomeUnknown JobOverdue Drifted DriftLoop ContentNotVerified"
        .split_whitespace()
    {
        assert!(reasons.contains(reason), "no row reaches {reason}");
    }
}
