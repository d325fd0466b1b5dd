//! Facts for the tests of the pure core, built so that a row of a table reads as a sentence.
//!
//! A test starts with [`Facts::uat`] or [`Facts::production`], says what differs, and asks for the step or the status.
//! Nothing here decides anything.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::{
    AdoptionPolicy, Attempt, AttemptResult, AttemptType, Attribution, Baseline, BaselineSource, Cause, DriftPolicy,
    HistoryEntry, KonigleSpaceStatus, PairStatus, ReleaseStatus, SentTo, SpaceReference, SpaceStatus,
    UnknownOutcomePolicy,
};
use crate::artifact::{Digest, Repository};
use crate::desired::{Approval, Desired, Requests, Wish};
use crate::judge::{Judged, judge};
use crate::konigle::model::{Deployment, Job, JobStatus};
use crate::konigle::{Answer, Rejection};
use crate::observation::{
    AccountFacts, ArtifactFacts, AttemptFacts, LookError, NamedBy, Observation, OriginFacts, PairProof, Problem,
    Refusal, SourceFacts, SpaceFacts,
};
use crate::origin::{ArtifactName, HttpOrigin, OciOrigin, OciReference, Origin};
use crate::plan::{ReleaseKind, Step, claim, next_step};
use crate::reason::Reason;
use crate::{status, time};

/// The digest that most specs ask for.
pub const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// Another digest.
pub const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// The time of the pass.
pub const NOW: &str = "2026-11-24T09:00:00Z";
/// The Space's `last_deployed_at` before.
pub const BEFORE: &str = "2026-11-24T08:00:00Z";
/// A time before that.
pub const EARLIER: &str = "2026-11-24T07:00:00Z";
/// A later `last_deployed_at`, within the times of [`job`].
pub const LATER: &str = "2026-11-24T08:59:30Z";
/// A `last_deployed_at` that no job of ours explains.
pub const ELSEWHEN: &str = "2026-11-24T08:30:00Z";
/// The nonce of the open attempt.
pub const NONCE: &str = "k3f2a9c1d";
/// Long enough for every wait.
pub const LONG: Duration = Duration::from_hours(2);
/// The settle time of every test.
pub const SETTLE: Duration = Duration::from_mins(2);
/// The uid of the resource itself.
pub const UID: &str = "own-uid";

/// Desired, observed and recorded: all that a pass knows.
#[derive(Clone, Debug)]
pub struct Facts {
    pub desired: Desired,
    pub seen: Observation,
    pub status: KonigleSpaceStatus,
}

/// A uat resource's wish.
pub fn deploys(digest: &str) -> Wish {
    Wish::Deploy(Origin::Http(HttpOrigin {
        url: "https://ci.example.com/shop.zip".parse().unwrap(),
        digest: digest.parse().unwrap(),
        revision: Some("v1".to_owned()),
        secret: None,
    }))
}

/// The wish of a uat resource that follows a tag.
pub fn deploys_tag() -> Wish {
    Wish::Deploy(Origin::Oci(OciOrigin {
        repository: Repository::parse("registry.example.com/shop").unwrap(),
        reference: OciReference::Tag("live".to_owned()),
        layer_media_type: None,
        secret: None,
    }))
}

/// What a tag may name.
pub fn named_digest(digest: &str) -> ArtifactName {
    ArtifactName { digest: digest.parse().unwrap(), revision: Some("live".to_owned()), part: None }
}

/// A promotion's wish.
pub fn promotes(approval: Approval) -> Wish {
    Wish::Promote { from: "shop-uat".to_owned(), approval }
}

/// The approval of exactly this digest.
pub fn approved(digest: &str) -> Approval {
    Approval::Manual(Some(digest.parse().unwrap()))
}

pub fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub fn pair(last_deployed_at: Option<&str>, word: Option<&str>) -> PairStatus {
    PairStatus {
        last_deployed_at: last_deployed_at.map(str::to_owned),
        last_deployment_status: word.map(str::to_owned),
    }
}

/// A job that was made at 08:59:00 and, where it ended, ended at 08:59:40.
pub fn job(job_status: JobStatus) -> Job {
    let completed_at = job_status.ended().then(|| "2026-11-24T08:59:40Z".to_owned());
    Job {
        id: "job-1".to_owned(),
        status: job_status,
        log_tail: vec!["building".to_owned()],
        log_count: 1,
        space_id: None,
        created_at: Some("2026-11-24T08:59:00Z".to_owned()),
        completed_at,
        mentions: Vec::new(),
    }
}

pub fn problem(reason: Reason) -> Problem {
    Problem { reason, message: format!("the message of {reason:?}") }
}

pub fn accepted() -> Answer {
    Answer::Accepted(Deployment {
        job_id: "job-1".to_owned(),
        id: Some("deployment-1".to_owned()),
        space_id: None,
        created_at: None,
        display_name: None,
    })
}

pub fn rate_limited(seconds: u64) -> Answer {
    Answer::Rejected(Rejection::RateLimited { retry_after: Duration::from_secs(seconds) })
}

impl Facts {
    /// A uat resource that wants [`A`] in a Space that was never deployed to; the artifact is on disk.
    pub fn uat() -> Self {
        Self {
            desired: Desired {
                generation: 1,
                space: SpaceReference { id: Some("7301".to_owned()), ..SpaceReference::default() },
                secret: "konigle".to_owned(),
                wish: deploys(A),
                interval: Duration::from_mins(5),
                timeout: Duration::from_mins(15),
                retry_limit: 3,
                drift_policy: DriftPolicy::Warn,
                adoption_policy: AdoptionPolicy::Deploy,
                unknown_outcome_policy: UnknownOutcomePolicy::Resolve,
                suspended: false,
                history_limit: 10,
                requests: Requests::default(),
                released: None,
            },
            seen: Observation {
                account: Ok(AccountFacts { base_url: "https://tim.konigle.com".to_owned(), named_by: NamedBy::Flag }),
                space: Some(Ok(SpaceFacts { status: space("7301", "uat"), url: None })),
                artifact: ArtifactFacts::OnDisk { upload: Digest::of(b"zip"), size: 10 },
                ..Observation::unlooked("shop-uat".to_owned(), "shop".to_owned(), UID.to_owned(), (now(), SETTLE))
            },
            status: KonigleSpaceStatus::default(),
        }
    }

    /// A production resource with the approval of [`A`], which the uat resource has confirmed to run.
    pub fn production() -> Self {
        let mut facts = Self::uat();
        facts.desired.wish = promotes(approved(A));
        "shop-production".clone_into(&mut facts.seen.name);
        facts.desired.unknown_outcome_policy = UnknownOutcomePolicy::Hold;
        facts.seen.space = Some(Ok(SpaceFacts { status: space("7302", "production"), url: None }));
        facts.seen.artifact = ArtifactFacts::Absent;
        facts.seen.pair = PairProof::Proven;
        let uat = Self::uat().runs(A);
        facts.seen.source = Some(SourceFacts {
            exists: true,
            unreadable: false,
            uid: "uat-uid".to_owned(),
            deleting: false,
            status: KonigleSpaceStatus { space: Some(uat.space().status.clone()), ..uat.status },
        });
        facts
    }

    /// It follows a tag, of which this is known.
    pub fn follows_tag(self, origin: OriginFacts) -> Self {
        self.but(|facts| (facts.desired.wish, facts.seen.origin) = (deploys_tag(), origin))
    }

    /// Whatever else differs.
    pub fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn wants(self, digest: &str) -> Self {
        self.but(|facts| facts.desired.wish = deploys(digest))
    }

    pub fn space(&self) -> &SpaceFacts {
        self.seen.space.as_ref().unwrap().as_ref().unwrap()
    }

    /// The Space shows this pair.
    pub fn shows(self, last_deployed_at: &str, word: &str) -> Self {
        self.but(|facts| {
            if let Some(Ok(space)) = &mut facts.seen.space {
                space.status.last_deployed_at = Some(last_deployed_at.to_owned());
                space.status.last_deployment_status = Some(word.to_owned());
            }
        })
    }

    /// The Space itself is in this status.
    pub fn space_is(self, word: &str) -> Self {
        self.but(|facts| {
            if let Some(Ok(space)) = &mut facts.seen.space {
                word.clone_into(&mut space.status.status);
            }
        })
    }

    /// The Space is of this type.
    pub fn of_type(self, word: &str) -> Self {
        self.but(|facts| {
            if let Some(Ok(space)) = &mut facts.seen.space {
                word.clone_into(&mut space.status.space_type);
            }
        })
    }

    pub fn space_cannot_be_seen(self, error: LookError) -> Self {
        self.but(|facts| facts.seen.space = Some(Err(error)))
    }

    /// A job of ours released this digest before, and the Space shows it.
    pub fn runs(self, digest: &str) -> Self {
        self.shows(BEFORE, "success").ended(digest, AttemptResult::Succeeded, "").but(|facts| {
            let seen = facts.space().pair();
            facts.status.release = Some(ReleaseStatus {
                digest: digest.to_owned(),
                short_digest: digest.chars().skip(7).take(12).collect(),
                revision: Some("v1".to_owned()),
                deployment_id: Some("deployment-0".to_owned()),
                job_id: Some("job-0".to_owned()),
                deployed_at: Some(BEFORE.to_owned()),
                last_deployed_at_seen: seen.last_deployed_at.clone(),
                last_deployment_status_seen: seen.last_deployment_status.clone(),
                attribution: Attribution::Confirmed,
            });
            facts.status.settled = Some(seen);
        })
    }

    /// What runs is known in this way only.
    pub fn attributed(self, attribution: Attribution) -> Self {
        self.but(|facts| facts.status.release.as_mut().unwrap().attribution = attribution)
    }

    /// One more attempt of this digest ended like this; where it failed, it counts.
    pub fn ended(self, digest: &str, result: AttemptResult, message: &str) -> Self {
        self.but(|facts| {
            let status = &mut facts.status;
            status.last_attempt += 1;
            if matches!(result, AttemptResult::Failed | AttemptResult::Unknown) {
                status.failures += 1;
            }
            let entry = HistoryEntry {
                number: status.last_attempt,
                attempt_type: AttemptType::Deploy,
                digest: digest.to_owned(),
                revision: None,
                deployment_id: None,
                job_id: (result != AttemptResult::NotSent).then(|| format!("job-{}", status.last_attempt - 1)),
                result,
                cause: Cause::Spec,
                message: message.to_owned(),
                started_at: BEFORE.to_owned(),
                completed_at: BEFORE.to_owned(),
            };
            status.history.insert(0, entry);
            status.artifact =
                Some(crate::api::ArtifactStatus { digest: digest.to_owned(), ..crate::api::ArtifactStatus::default() });
            status.settled = Some(facts.seen.space.as_ref().unwrap().as_ref().unwrap().pair());
        })
    }

    /// An attempt of this digest is open since two minutes, against what the Space shows now; its job is not known.
    pub fn in_flight(self, digest: &str) -> Self {
        self.but(|facts| {
            let seen = facts.space().pair();
            let promotes = facts.desired.promotes();
            let status = &mut facts.status;
            status.last_attempt += 1;
            status.space = Some(facts.seen.space.as_ref().unwrap().as_ref().unwrap().status.clone());
            status.artifact =
                Some(crate::api::ArtifactStatus { digest: digest.to_owned(), ..crate::api::ArtifactStatus::default() });
            status.attempt = Some(Attempt {
                number: status.last_attempt,
                attempt_type: if promotes { AttemptType::Promote } else { AttemptType::Deploy },
                digest: digest.to_owned(),
                nonce: NONCE.to_owned(),
                started_at: "2026-11-24T08:58:00Z".to_owned(),
                deadline: "2026-11-24T09:13:00Z".to_owned(),
                sent_to: SentTo {
                    base_url: "https://tim.konigle.com".to_owned(),
                    space_id: status.space.as_ref().unwrap().id.clone(),
                },
                baseline: Baseline {
                    last_deployed_at: seen.last_deployed_at,
                    last_deployment_status: seen.last_deployment_status,
                    source: promotes.then(pinned),
                    ..Baseline::default()
                },
                ..Attempt::default()
            });
            facts.seen.attempt = Some(AttemptFacts {
                seen_for: Duration::from_mins(2),
                source: promotes.then(|| Ok(pinned())),
                ..AttemptFacts::default()
            });
        })
    }

    /// What is known of the open attempt.
    pub fn known(self, change: impl FnOnce(&mut AttemptFacts)) -> Self {
        self.but(|facts| change(facts.seen.attempt.as_mut().unwrap()))
    }

    /// The open attempt has a job, which is like this.
    pub fn with_job(self, job_status: JobStatus) -> Self {
        let facts = self.but(|facts| facts.status.attempt.as_mut().unwrap().job_id = Some("job-1".to_owned()));
        facts.known(|known| known.job = Some(Ok(job(job_status))))
    }

    /// The open attempt's job failed, so long ago that the Space would show it by now.
    pub fn job_failed(self) -> Self {
        self.with_job(JobStatus::Failed).known(|known| known.job_ended_for = SETTLE)
    }

    /// This process's own request was answered just now.
    pub fn answered(self, answer: Answer) -> Self {
        self.but(|facts| {
            let refused = crate::judge::refusal(&answer).map(|problem| Refusal { problem, times: 1 });
            facts.seen.refusal = refused;
            facts.seen.attempt.as_mut().unwrap().answer = Some((Duration::ZERO, answer));
        })
    }

    /// A person answered what became of the open attempt.
    pub fn person_says(self, answer: &str) -> Self {
        self.but(|facts| facts.desired.requests.resolve_attempt = Some(format!("{NONCE}={answer}")))
    }

    pub fn reset(self, id: &str) -> Self {
        self.but(|facts| facts.desired.requests.reset_at = Some(id.to_owned()))
    }

    pub fn redeploy(self, id: &str) -> Self {
        self.but(|facts| facts.desired.requests.redeploy_at = Some(id.to_owned()))
    }

    pub fn suspended(self) -> Self {
        self.but(|facts| facts.desired.suspended = true)
    }

    pub fn drift_policy(self, policy: DriftPolicy) -> Self {
        self.but(|facts| facts.desired.drift_policy = policy)
    }

    pub fn judge(&self) -> Judged {
        judge(&self.status, &self.desired, &self.seen)
    }

    pub fn step(&self) -> Step {
        next_step(&self.desired, &self.seen, &self.judge())
    }

    /// The status after this pass; a release is claimed, and not answered yet.
    pub fn render(&self) -> KonigleSpaceStatus {
        let judged = self.judge();
        let step = next_step(&self.desired, &self.seen, &judged);
        match &step {
            Step::Start(release) => {
                let claimed = claim(&judged, &self.desired, &self.seen, release, NONCE.to_owned());
                status::render(&self.desired, &self.seen, &claimed, &step)
            }
            _ => status::render(&self.desired, &self.seen, &judged, &step),
        }
    }

    /// The facts of the next pass, after what this one wrote. An attempt is known from then on.
    pub fn next(self) -> Self {
        self.but(|facts| {
            facts.status = facts.render();
            let open = facts.status.attempt.is_some();
            facts.seen.attempt = open.then(|| facts.seen.attempt.take().unwrap_or_default());
        })
    }

    /// The same, so much later by every clock.
    pub fn later(self, by: Duration) -> Self {
        self.but(|facts| {
            facts.seen.now = facts.seen.now.checked_add(SignedDuration::try_from(by).unwrap()).unwrap();
            if let Some(attempt) = &mut facts.seen.attempt {
                attempt.seen_for += by;
                attempt.job_ended_for += by;
                if let Some((ago, _)) = &mut attempt.answer {
                    *ago += by;
                }
            }
        })
    }
}

/// The uat side of a promotion, unmoved.
pub fn pinned() -> BaselineSource {
    BaselineSource {
        name: "shop-uat".to_owned(),
        uid: "uat-uid".to_owned(),
        space_id: "7301".to_owned(),
        digest: A.to_owned(),
        last_deployed_at: Some(BEFORE.to_owned()),
        last_deployment_status: Some("success".to_owned()),
    }
}

fn space(id: &str, space_type: &str) -> SpaceStatus {
    SpaceStatus {
        id: id.to_owned(),
        space_type: space_type.to_owned(),
        status: "running".to_owned(),
        ..SpaceStatus::default()
    }
}

/// The step in a few words: its kind, and its reason or cause.
pub fn words(step: &Step) -> String {
    match step {
        Step::Rest(problem) => format!("Rest {:?}", problem.reason),
        Step::Fetch => "Fetch".to_owned(),
        Step::Start(release) => match release.kind {
            ReleaseKind::Deploy { .. } => format!("Deploy {:?}", release.cause),
            ReleaseKind::Promote { .. } => format!("Promote {:?}", release.cause),
        },
        Step::Wait(problem) => format!("Wait {:?}", problem.reason),
        Step::Stall(problem) => format!("Stall {:?}", problem.reason),
        Step::Suspend(_) => "Suspend".to_owned(),
        Step::Unreachable(_) => "Unreachable".to_owned(),
        Step::Unseen(_) => "Unseen".to_owned(),
    }
}

/// What people see first: Ready with its reason, and what stands beside it.
pub fn what_people_see(status: &KonigleSpaceStatus) -> String {
    let ready = status.condition("Ready").expect("Ready is always present");
    let beside: Vec<&str> = ["Stalled", "Reconciling"].into_iter().filter(|word| status.is_true(word)).collect();
    [ready.status.as_str(), ready.reason.as_str()].into_iter().chain(beside).collect::<Vec<_>>().join(" ")
}

/// How long after [`NOW`] a time of ours is.
pub fn seconds_after_now(text: &str) -> i64 {
    time::parse(text).unwrap().duration_since(now()).as_secs()
}
