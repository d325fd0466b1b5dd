//! What holds for any facts at all: forged statuses, dates at the end of time, words that nobody knows.

use std::time::Duration;

use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;

use crate::api::{
    AdoptionPolicy, ArtifactStatus, Attempt, AttemptResult, AttemptType, Attribution, Baseline, BaselineSource, Cause,
    Condition, DriftPolicy, HeldBy, HistoryEntry, KonigleSpaceStatus, PairStatus, Quarantined, ReleaseStatus, SentTo,
    SpaceStatus, UnknownOutcomePolicy,
};
use crate::artifact::{Digest, FetchError};
use crate::desired::{Approval, Desired, Requests, Wish};
use crate::judge::{last_sent, tells_of};
use crate::konigle::model::{Job, JobStatus};
use crate::konigle::{Answer, Rejection};
use crate::observation::*;
use crate::plan::{Step, look_again};
use crate::reason::Reason;
use crate::test_facts::*;
use crate::wish::artifact_name;
use crate::{status, time};

fn digest() -> impl Strategy<Value = String> {
    select(vec![A, B]).prop_map(str::to_owned)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,256}", "\\PC{0,64}", "[a-z]{1,9}"]
}

fn moment() -> impl Strategy<Value = String> {
    let far = ["-009999-01-02T01:59:59Z", "9999-12-30T22:00:00.999999999Z", "2027-11-24T09:00:00Z", "yesterday", ""];
    select([&[NOW, BEFORE, LATER, ELSEWHEN, "2026-11-24T09:00:10Z"], &far[..]].concat()).prop_map(str::to_owned)
}

fn word() -> impl Strategy<Value = String> {
    let words = vec!["success", "failed", "running", "blue", "provisioning", "stopped", "error"];
    prop_oneof![9 => select(words).prop_map(str::to_owned), 1 => text()]
}

fn duration() -> impl Strategy<Value = Duration> {
    let minute = Duration::from_mins(1);
    select(vec![Duration::ZERO, Duration::from_secs(1), minute, SETTLE, 16 * minute, LONG, Duration::MAX])
}

fn pairs() -> impl Strategy<Value = PairStatus> {
    (of(moment()), of(word())).prop_map(|(at, word)| pair(at.as_deref(), word.as_deref()))
}

fn reasons() -> impl Strategy<Value = Reason> {
    use Reason::{
        Drifted, OutcomeUnknown, ProgressingWithRetry, RateLimited, SecretNotFound, SpaceNotFound, Succeeded,
    };
    select(vec![Succeeded, Drifted, ProgressingWithRetry, SpaceNotFound, OutcomeUnknown, RateLimited, SecretNotFound])
}

fn problems() -> impl Strategy<Value = Problem> {
    (reasons(), text()).prop_map(|(reason, message)| Problem { reason, message: message.repeat(8) })
}

fn conditions() -> BoxedStrategy<Vec<Condition>> {
    let types = ["Stalled", "Reconciling", "Ready", "ContentVerified", "Drifted", "CredentialsValid", "Deployed"];
    let one = (select(vec!["True", "False", "Unknown"]), reasons(), text(), moment());
    proptest::collection::vec(of(one), types.len())
        .prop_map(move |made| {
            let made = types.into_iter().zip(made).filter_map(|(kind, made)| Some((kind, made?)));
            made.map(|(kind, (status, reason, message, at))| Condition {
                condition_type: kind.to_owned(),
                status: status.to_owned(),
                reason: reason.word().to_owned(),
                message,
                last_transition_time: at,
                observed_generation: 1,
            })
            .collect()
        })
        .boxed()
}

fn results() -> impl Strategy<Value = AttemptResult> {
    use AttemptResult::{Failed, NotSent, Succeeded, Unknown};
    select(vec![Succeeded, Failed, NotSent, Unknown])
}

fn causes() -> impl Strategy<Value = Cause> {
    select(vec![Cause::Spec, Cause::Retry, Cause::Drift, Cause::Reset, Cause::Person, Cause::Other])
}

fn attributions() -> impl Strategy<Value = Attribution> {
    select(vec![Attribution::Confirmed, Attribution::Inferred, Attribution::Assumed, Attribution::Other])
}

fn releases() -> BoxedStrategy<ReleaseStatus> {
    (digest(), of(text()), pairs(), attributions())
        .prop_map(|(digest, text, pair, attribution)| ReleaseStatus {
            digest,
            revision: text.clone(),
            job_id: text,
            last_deployed_at_seen: pair.last_deployed_at,
            last_deployment_status_seen: pair.last_deployment_status,
            attribution,
            ..ReleaseStatus::default()
        })
        .boxed()
}

fn entries() -> BoxedStrategy<HistoryEntry> {
    let message = prop_oneof![Just(super::ANSWERED_RETRY.to_owned()), text()];
    (1..30_i64, digest(), of(text()), results(), causes(), message, moment())
        .prop_map(|(number, digest, text, result, cause, message, at)| HistoryEntry {
            number,
            digest,
            revision: text.clone(),
            job_id: text,
            result,
            cause,
            message,
            started_at: at.clone(),
            completed_at: at,
            ..HistoryEntry::default()
        })
        .boxed()
}

fn sources() -> impl Strategy<Value = BaselineSource> {
    (pairs(), select(vec!["uat-uid", "another"]), digest()).prop_map(|(pair, uid, digest)| BaselineSource {
        uid: uid.to_owned(),
        digest,
        last_deployed_at: pair.last_deployed_at,
        last_deployment_status: pair.last_deployment_status,
        ..pinned()
    })
}

fn attempts() -> BoxedStrategy<Attempt> {
    let kinds = select(vec![AttemptType::Deploy, AttemptType::Promote, AttemptType::Other]);
    let sent_to = select(vec![("https://tim.konigle.com", "7301"), ("https://elsewhere", "7302")]);
    let made = (kinds, digest(), causes(), moment(), of(text()), any::<Option<i64>>());
    (made, sent_to, pairs(), of(sources()))
        .prop_map(|((attempt_type, digest, cause, at, text, size), (base_url, space_id), pair, source)| Attempt {
            number: size.unwrap_or(1),
            attempt_type,
            digest,
            size,
            nonce: NONCE.to_owned(),
            cause,
            started_at: at.clone(),
            deadline: at,
            sent_to: SentTo { base_url: base_url.to_owned(), space_id: space_id.to_owned() },
            baseline: Baseline {
                last_deployed_at: pair.last_deployed_at,
                last_deployment_status: pair.last_deployment_status,
                source,
                ..Baseline::default()
            },
            revision: text.clone(),
            job_id: text,
            ..Attempt::default()
        })
        .boxed()
}

prop_compose! {
    fn held()(text in text(), job_id in of(text())) -> HeldBy {
        HeldBy { name: text.clone(), uid: text, job_id, ..HeldBy::default() }
    }
}

fn spaces() -> BoxedStrategy<SpaceStatus> {
    let ids = select(vec!["7301", "7302"]);
    let kinds = select(vec!["uat", "uat", "production", "production", "staging"]);
    (ids, kinds, word(), pairs(), text())
        .prop_map(|(id, kind, status, pair, text)| SpaceStatus {
            id: id.to_owned(),
            space_type: kind.to_owned(),
            status,
            custom_domain: text.clone(),
            custom_domain_status: text.clone(),
            webapp: text,
            last_deployed_at: pair.last_deployed_at,
            last_deployment_status: pair.last_deployment_status,
        })
        .boxed()
}

fn statuses() -> BoxedStrategy<KonigleSpaceStatus> {
    let records = (
        of(releases()),
        of(pairs()),
        weighted(0.3, attempts()),
        weighted(0.1, held()),
        proptest::collection::vec(entries(), 0..=20),
    );
    let counters = (any::<i64>(), any::<i64>(), of(moment()), prop::bool::weighted(0.2), weighted(0.9, digest()));
    let rest = (conditions(), of(spaces()), of(select(vec!["1", "2"])), of(text()));
    (records, counters, rest)
        .prop_map(|((release, settled, attempt, held_by, history), counters, rest)| {
            let (last_attempt, failures, next_retry_time, quarantined, artifact) = counters;
            let (conditions, space, handled, text) = rest;
            let quarantine =
                |digest: String| Quarantined { digest, reason: "RetriesExceeded".to_owned(), time: String::new() };
            KonigleSpaceStatus {
                observed_generation: 1,
                conditions,
                space,
                url: text.clone(),
                artifact: artifact.map(|digest| ArtifactStatus { digest, ..ArtifactStatus::default() }),
                release,
                settled,
                last_attempt,
                attempt,
                held_by,
                failures,
                next_retry_time,
                quarantined: quarantined.then(|| quarantine(A.to_owned())).into_iter().collect(),
                history,
                last_handled_reconcile_at: text,
                last_handled_reset_at: handled.map(str::to_owned),
                last_handled_redeploy_at: handled.map(str::to_owned),
            }
        })
        .boxed()
}

fn wishes() -> BoxedStrategy<Desired> {
    let wish = select(vec![
        deploys(A),
        deploys(B),
        deploys_tag(),
        promotes(approved(A)),
        promotes(Approval::Manual(None)),
        promotes(Approval::Automatic),
    ]);
    let policies = (
        select(vec![DriftPolicy::Warn, DriftPolicy::Redeploy, DriftPolicy::Ignore]),
        select(vec![AdoptionPolicy::Deploy, AdoptionPolicy::AssumeCurrent]),
        select(vec![UnknownOutcomePolicy::Resolve, UnknownOutcomePolicy::Hold]),
    );
    let asked = || of(select(vec!["1", "2"]).prop_map(str::to_owned));
    let answer = of(select(vec!["succeeded", "failed", "retry", "maybe"]).prop_map(|word| format!("{NONCE}={word}")));
    let numbers = (1..=10_i64, 1..=20_usize, duration(), duration());
    (wish, policies, (asked(), asked(), answer), numbers, prop::bool::weighted(0.1))
        .prop_map(|(wish, (drift, adoption, unknown), (reset_at, redeploy_at, resolve_attempt), numbers, suspended)| {
            Desired {
                generation: 2,
                wish,
                drift_policy: drift,
                adoption_policy: adoption,
                unknown_outcome_policy: unknown,
                retry_limit: numbers.0,
                history_limit: numbers.1,
                interval: numbers.2,
                timeout: numbers.3,
                suspended,
                requests: Requests { reconcile_at: None, reset_at, redeploy_at, resolve_attempt },
                ..Facts::uat().desired
            }
        })
        .boxed()
}

fn look_errors() -> impl Strategy<Value = LookError> {
    use LookError::{Ambiguous, Changed, Forbidden, NotFound, Unauthorized, Unavailable};
    (select(vec![Unauthorized, Forbidden, NotFound, Ambiguous, Changed, Unavailable]), text())
        .prop_map(|(error, text)| error(text))
}

fn jobs() -> BoxedStrategy<Job> {
    let word =
        select(vec![JobStatus::Running, JobStatus::Success, JobStatus::Failed, JobStatus::Unknown("odd".to_owned())]);
    (word, of(moment()), of(moment()), proptest::collection::vec(text(), 0..20), any::<u64>())
        .prop_map(|(word, created_at, completed_at, log_tail, log_count)| Job {
            log_tail,
            log_count,
            created_at,
            completed_at,
            ..job(word)
        })
        .boxed()
}

fn looks<T: std::fmt::Debug + 'static>(
    found: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Result<T, LookError>> {
    prop_oneof![4 => found.prop_map(Ok), 1 => look_errors().prop_map(Err)].boxed()
}

fn attempt_facts() -> BoxedStrategy<AttemptFacts> {
    let answers = select(vec![
        accepted(),
        Answer::Unsent("no".to_owned()),
        Answer::Unknown("no".to_owned()),
        rate_limited(u64::MAX),
        Answer::Rejected(Rejection::Artifact { code: 422, detail: None }),
    ]);
    let known = (duration(), of((duration(), answers)), of(looks(jobs())), duration(), duration());
    (known, of(text()), any::<bool>(), of(looks(sources())))
        .prop_map(
            |((seen_for, answer, job, job_ended_for, job_missing_for), job_with_nonce, later_jobs_ended, source)| {
                AttemptFacts {
                    seen_for,
                    answer,
                    job,
                    job_ended_for,
                    job_missing_for,
                    job_with_nonce,
                    later_jobs_ended,
                    source,
                }
            },
        )
        .boxed()
}

fn artifacts() -> BoxedStrategy<ArtifactFacts> {
    let reason = || "because".to_owned();
    let errors = select(vec![
        FetchError::Disk { reason: reason() },
        FetchError::Denied { location: reason(), reason: reason(), with_credentials: false },
        FetchError::Rejected { reason: reason() },
        FetchError::TooLarge { location: reason(), limit: 1 },
    ]);
    let failed =
        (errors, duration(), any::<u32>()).prop_map(|(error, ago, times)| ArtifactFacts::Failed { error, ago, times });
    let size = any::<u64>().prop_map(|size| ArtifactFacts::OnDisk { upload: Digest::of(b"zip"), size });
    prop_oneof![4 => size, 1 => Just(ArtifactFacts::Absent), 1 => failed, 1 => problems().prop_map(ArtifactFacts::Unreadable)]
.boxed()
}

fn origins() -> BoxedStrategy<OriginFacts> {
    let names = || select(vec![named_digest(A), named_digest(B)]);
    let unnamed = (problems(), of(names()), any::<bool>()).prop_map(|(problem, last, looking)| OriginFacts::Unnamed {
        problem,
        last,
        looking,
    });
    prop_oneof![1 => Just(OriginFacts::NotLooked), 4 => names().prop_map(OriginFacts::Named), 2 => unnamed].boxed()
}

fn source_facts() -> BoxedStrategy<SourceFacts> {
    (statuses(), prop::bool::weighted(0.9), prop::bool::weighted(0.1))
        .prop_map(|(status, exists, deleting)| SourceFacts {
            exists,
            unreadable: false,
            uid: "uat-uid".to_owned(),
            deleting,
            status,
        })
        .boxed()
}

fn observations() -> BoxedStrategy<Observation> {
    let url = || of(text());
    let space = weighted(0.9, looks((spaces(), url()).prop_map(|(status, url)| SpaceFacts { status, url })));
    let times =
        (of(moment()), of(moment())).prop_map(|(created_at, completed_at)| JobTimes { created_at, completed_at });
    let proofs = prop_oneof![3 => Just(PairProof::Proven), 1 => Just(PairProof::NotLooked), 1 => text().prop_map(PairProof::NotProven)];
    let holders = select(vec![Holder::Done, Holder::Gone, Holder::Promoting { job_id: None }]);
    let holder = of((of(holders), duration(), of(any::<bool>()))
        .prop_map(|(holder, seen_for, job_ended)| HolderFacts { holder, seen_for, timeout: None, job_ended }));
    let refusals = of((problems(), any::<u32>()).prop_map(|(problem, times)| Refusal { problem, times }));
    let remote = (
        space,
        of(times),
        of(attempt_facts()),
        weighted(0.9, prop_oneof![source_facts(), Just(Facts::production().seen.source.unwrap())]),
        proofs,
    );
    let now = select(vec![now(), jiff::Timestamp::MAX, jiff::Timestamp::MIN]);
    let own = (
        prop_oneof![9 => Just(now_only()), 1 => now],
        duration(),
        duration(),
        of(duration()),
        prop::bool::weighted(0.1),
    );
    let others = (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let beside = (holder, refusals, (artifacts(), origins()), others, of(problems()));
    (remote, own, beside)
        .prop_map(
            |(
                (space, last_job, attempt, source, pair),
                own,
                (holder, refusal, (artifact, origin), others, account),
            )| {
                let (promoting, releasing, left_open) = others;
                let (now, settle, failing_for, unauthorized_for, conflict) = own;
                Observation {
                    now,
                    settle,
                    account: account
                        .filter(|problem| problem.message.is_empty())
                        .map_or(Facts::uat().seen.account, Err),
                    space,
                    conflict: conflict.then(|| "shop/other".to_owned()),
                    failing_for,
                    unauthorized_for,
                    attempt,
                    last_job,
                    artifact,
                    origin,
                    source,
                    pair,
                    holder,
                    promotions: promoting.then(|| "shop-production".to_owned()).into_iter().collect(),
                    rivals: releasing.then(|| "other/shop".to_owned()).into_iter().collect(),
                    predecessor: left_open.then(predecessor),
                    refusal,
                    ..Facts::uat().seen
                }
            },
        )
        .boxed()
}

/// An attempt that a deleted resource left open.
fn predecessor() -> Predecessor {
    let attempt = Facts::uat().in_flight(A).status.attempt.unwrap();
    Predecessor { resource: "shop/shop-uat".to_owned(), uid: "uid-of-the-deleted".to_owned(), attempt }
}

fn now_only() -> jiff::Timestamp {
    now()
}

prop_compose! {
    pub(crate) fn facts()(
        desired in wishes(),
        seen in observations(),
        status in statuses(),
        fits in prop::bool::weighted(0.8),
    ) -> Facts {
        let right = if desired.promotes() { "production" } else { "uat" };
        let facts = Facts { desired, seen, status };
        if fits { facts.of_type(right) } else { facts }
    }
}

fn assert_well_formed(status: &KonigleSpaceStatus) -> Result<(), TestCaseError> {
    let order =
        "Stalled Reconciling Ready ArtifactReady Deployed PromotionAllowed ContentVerified CredentialsValid Drifted";
    let types: Vec<&str> = status.conditions.iter().map(|condition| condition.condition_type.as_str()).collect();
    let in_order: Vec<&str> = order.split(' ').filter(|kind| types.contains(kind)).collect();
    prop_assert_eq!(&types, &in_order, "each at most once, in the order in which they are read");
    prop_assert!(types.contains(&"Ready"), "Ready is always present");
    prop_assert!(!(types.contains(&"Stalled") && types.contains(&"Reconciling")), "never both");
    for condition in &status.conditions {
        let only_true = ["Stalled", "Reconciling", "Drifted"].contains(&condition.condition_type.as_str());
        prop_assert!(!only_true || condition.status == "True", "absent unless True: {:?}", condition);
        prop_assert!(["True", "False", "Unknown"].contains(&condition.status.as_str()));
        prop_assert!(!condition.last_transition_time.is_empty() || !condition.reason.is_empty());
        prop_assert_eq!(condition.observed_generation, 2);
    }
    prop_assert_eq!(status.observed_generation, 2);
    let size = serde_json::to_vec(status).unwrap().len();
    prop_assert!(size <= 32 << 10, "{} bytes", size);
    Ok(())
}

/// Whatever the evidence, these must hold where something is sent.
fn assert_may_start(facts: &Facts, digest: &str, cause: Cause) -> Result<(), TestCaseError> {
    let judged = facts.judge();
    let status = &judged.status;
    prop_assert!(status.attempt.is_none(), "an attempt is open");
    prop_assert!(!facts.desired.suspended, "suspended");
    prop_assert!(status.held_by.is_none() && facts.seen.promotions.is_empty(), "held");
    prop_assert!(facts.seen.rivals.is_empty(), "another resource is at it");
    let left_open = facts.seen.predecessor.as_ref().filter(|known| !tells_of(&facts.status, known.attempt.number));
    prop_assert!(left_open.is_none() || facts.status.attempt.is_some(), "a job is under way that no status tells of");
    prop_assert!(status.quarantined.iter().all(|quarantined| quarantined.digest != digest), "quarantined");
    prop_assert!(facts.seen.account.is_ok() && matches!(facts.seen.space, Some(Ok(_))), "no baseline");
    if let Wish::Deploy(origin) = &facts.desired.wish {
        let name = artifact_name(origin, &facts.seen).map(|name| name.digest.to_string());
        prop_assert_eq!(name.as_deref(), Some(digest), "it is not what the origin names");
    }
    let retry = status.next_retry_time.as_deref().and_then(time::parse);
    prop_assert!(retry.is_none_or(|retry| retry <= facts.seen.now), "before the next retry");
    let runs = status.release.as_ref().is_some_and(|release| release.digest == digest);
    let failed = last_sent(status).is_some_and(|last| last.digest == digest && last.result != AttemptResult::Succeeded);
    let requests = &facts.desired.requests;
    let asked = requests.reset(status) || requests.redeploy(status);
    let put_back = facts.desired.drift_policy == DriftPolicy::Redeploy && judged.drifted.is_some();
    prop_assert!(!runs || failed || asked || put_back, "it runs, and nobody asked: {:?}", cause);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_facts_give_one_step_and_a_well_formed_status(facts in facts()) {
        let judged = facts.judge();
        prop_assert_eq!(judged.open.is_some(), judged.status.attempt.is_some(), "what is open is spoken of");
        let step = facts.step();
        prop_assert_eq!(&step, &facts.clone().step(), "the same facts give the same step");
        prop_assert!(look_again(&step, &facts.desired, &facts.seen, &judged) >= Duration::ZERO);
        if let Step::Start(release) = &step {
            assert_may_start(&facts, &release.wanted.digest, release.cause)?;
        }
        let after = facts.render();
        assert_well_formed(&after)?;
        prop_assert!(after.last_attempt >= facts.status.last_attempt, "numbers only grow");
        prop_assert!(after.history.len() <= facts.desired.history_limit);
        prop_assert!(facts.status.attempt.is_none() || judged.open.is_none() || after.attempt.as_ref().unwrap().nonce == NONCE);
        let _ = status::transitions(&facts.status, &after);
    }

    #[test]
    fn nothing_is_written_while_nothing_happens(facts in facts()) {
        // A person's answer names one nonce, and here all attempts have the same.
        // And a clock at the end of time has no room for the waits that are written down.
        let mut facts = facts.but(|facts| {
            facts.desired.requests.resolve_attempt = None;
            facts.seen.now = now();
        });
        for _ in 0..4 {
            facts = facts.next();
        }
        prop_assert_eq!(&facts.clone().next().status, &facts.status);
    }
}
