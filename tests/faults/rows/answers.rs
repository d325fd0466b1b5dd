//! Rows about Konigle's answers, above all those to the one write: none, late ones, and ones that tell nothing.

use std::time::{Duration, Instant};

use konigle_operator::api::{AttemptResult, KonigleSpace, KonigleSpaceStatus};
use serde_json::{Value, json};

use crate::case::{Case, JOB_SECONDS};
use crate::matrix::{Row, row};
use crate::oracles::{
    LONGEST_OUTCOME, check, check_results, deploy_once, deployed_once, good, lasts, posted, quick, results,
};
use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{ready_reason, wait_for};
use crate::support::proxy::claims;
use crate::support::recording::Recording;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage, digest_of_wish, is_ready};
use crate::support::trace::Property;
use crate::support::wire::Fault;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "17a",
            row_17a_no_connection_for_the_request,
            "Konigle is there for the look, and refuses or resets the connection of the request",
            "Known as not sent: nothing is waited out, and the next attempt deploys once"
        ),
        row!(
            "17b",
            row_17b_a_name_or_a_handshake_that_fails,
            "Konigle's name does not resolve, it speaks no TLS, or its certificate is nobody's",
            "No attempt is made and none counted; with the right address it is deployed once"
        ),
        row!(
            "18a",
            row_18a_an_answer_byte_by_byte,
            "The answer comes a byte a second, its head or its body",
            "It is given up in time, and the one job is found by its effect"
        ),
        row!(
            "18b",
            row_18b_everything_is_slow,
            "Everything between the operator and Konigle takes seconds longer",
            "It is deployed once, as without the delay"
        ),
        row!(
            "18c",
            row_18c_the_request_goes_into_a_black_hole,
            "The request's connection stands, and nothing passes over it",
            "It may have been received: nothing is sent again before the wait is over, then once"
        ),
        row!(
            "19",
            row_19_an_answer_that_is_lost_or_tells_nothing,
            "The request took effect; its answer is lost, reset, cut short, HTML, a redirect, or has no job id",
            "It may have taken effect: nothing is sent again before that is known, and the one job is found"
        ),
        row!(
            "20",
            row_20_an_error_after_the_effect,
            "The request took effect, and is answered with 500, 502, 503 or 504",
            "As row 19: a 5xx never means that nothing happened"
        ),
        row!(
            "21",
            row_21_an_error_without_an_effect_for_ever,
            "Every request is answered with 500 and has no effect",
            "The next attempt only after the wait for an outcome, `retry.limit` in all, then `RetriesExceeded`"
        ),
        row!(
            "22a",
            row_22a_a_late_effect_within_settle,
            "The answer is lost, and the request takes effect later, within settle",
            "The one job is found, and nothing is sent again"
        )
        .under(
            &[("read_lag_seconds", &["0"]), ("status_lag_seconds", &["0"])],
            "the lag of the effect takes the place of the others",
        ),
        row!(
            "22b",
            row_22b_a_late_effect_beyond_the_wait,
            "The answer is lost, and the request takes effect only when the wait for an outcome is over",
            "At most one duplicate, and it ends; what cannot be told is said"
        ),
        row!(
            "23a",
            row_23a_too_many_requests_with_absurd_waits,
            "429 to the request, with `retry_after` of 0, a negative number, a word, nothing, or a day, or of a year in the header",
            "Known as not sent; waited for, from a second to 15 minutes, then deployed once"
        ),
        row!(
            "23b",
            row_23b_a_storm_of_too_many_requests,
            "429 to everything, five times",
            "The whole account keeps back: about one request for each time that was told; then it is deployed once"
        ),
    ]
}

async fn row_17a_no_connection_for_the_request(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let wire = stage.put_wire_before_konigle().await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    let recording = Recording::start(&stage.namespace).await?;
    let mut wish = stage.wish("1.0")?;
    // Far longer than the case: nothing is waited out.
    wish["timeout"] = json!("1h");
    let claim = proxy.hold(claims());
    stage.namespace.apply(SHOP, &wish).await?;
    claim.arrived().await?;
    wire.refuse(true);
    claim.open();
    let unsent = |space: &KonigleSpace| results(space) == [AttemptResult::NotSent];
    let space = stage.namespace.wait_for(SHOP, "not sent", unsent).await?;
    let status = space.status.unwrap_or_default();
    check(status.failures == 0 && status.attempt.is_none(), || format!("{status:?}"))?;
    lasts(case.moment(Duration::from_secs(4))).await?;
    wire.refuse(false);
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded, AttemptResult::NotSent])?;
    for status in recording.statuses(SHOP).await? {
        let waited = status.condition("Ready").is_some_and(|ready| ready.reason == "ResolvingOutcome");
        check(!waited, || format!("an outcome was waited for: {status:?}"))?;
    }
    Ok(())
}

async fn row_17b_a_name_or_a_handshake_that_fails(case: &Case) -> Result<()> {
    let stranger = ControlPlane::shared().await?.address();
    let bad = *case.pick(&["https://konigle.invalid", "https://127.0.0.1:PORT", stranger.as_str()]);
    let mut stage = case
        .open_with(JOB_SECONDS, |mut options| {
            let port = options.konigle_base_url.rsplit(':').next().unwrap_or_default().to_owned();
            options.konigle_base_url = bad.replace("PORT", &port);
            options
        })
        .await?;
    let wish = stage.wish("1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let told = |space: &KonigleSpace| space.status.as_ref().is_some_and(|status| status.observed_generation == 1);
    let status = stage.namespace.wait_for(SHOP, "told", told).await?.status.unwrap_or_default();
    check(status.last_attempt == 0 && !status.is_true("Ready"), || format!("{status:?}"))?;
    stage.operator.kill();
    let right = stage.simulator.base_url();
    let _operator = stage
        .another_operator(|mut options| {
            options.konigle_base_url = right;
            options
        })
        .await?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded])
}

async fn row_18a_an_answer_byte_by_byte(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let wire = stage.put_wire_before_konigle().await?;
    if *case.pick(&[true, false]) {
        let drip = json!({"operation": "deploy", "when": "after", "action": {"drip_ms": 1000}});
        stage.simulator.fault(&drip).await?;
    } else {
        wire.next("POST", 1, Fault::Drip(Duration::from_secs(1)));
    }
    let began = Instant::now();
    let wish = quick(&stage, "1.0")?;
    let space = deploy_once(&stage, &wish).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    // The head has a minute, its body 15 s; then settle and the time of a job.
    check(began.elapsed() < Duration::from_mins(3), || format!("it took {:?}", began.elapsed()))?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_18b_everything_is_slow(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let wire = stage.put_wire_before_konigle().await?;
    wire.set(Some(Fault::Latency(Duration::from_secs(*case.pick(&[1, 2, 3])))));
    for version in ["1.0", "2.0"] {
        let space = deploy_once(&stage, &stage.wish(version)?).await?;
        check(results(&space).iter().all(|result| *result == AttemptResult::Succeeded), || {
            format!("{:?}", results(&space))
        })?;
    }
    check(posted(&stage, UAT).await?.len() == 2, || "sent again".to_owned())
}

async fn row_18c_the_request_goes_into_a_black_hole(case: &Case) -> Result<()> {
    let mut stage = case.open().await?;
    let wire = stage.put_wire_before_konigle().await?;
    wire.next("POST", 1, Fault::BlackHole);
    let wish = quick(&stage, "1.0")?;
    stage.namespace.apply(SHOP, &wish).await?;
    let resolving = |space: &KonigleSpace| ready_reason(space) == Some("ResolvingOutcome");
    stage.namespace.wait_longer_for(SHOP, "resolving", LONGEST_OUTCOME, resolving).await?;
    check(posted(&stage, UAT).await?.is_empty(), || "sent before the wait was over".to_owned())?;
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    check_results(&space, &[AttemptResult::Succeeded, AttemptResult::Unknown])
}

/// Deploys once under each of these faults of the request's answer, one after the other.
async fn found_under_each(stage: &Stage, actions: &[Value]) -> Result<()> {
    for (number, action) in actions.iter().enumerate() {
        stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": action})).await?;
        let wish = quick(stage, &format!("1.{number}"))?;
        let space = deploy_once(stage, &wish).await?;
        let newest = results(&space).first().copied();
        check(newest == Some(AttemptResult::Succeeded), || format!("{action}: {newest:?}"))?;
        check(posted(stage, UAT).await?.len() == number + 1, || format!("{action}: sent again"))?;
    }
    Ok(())
}

async fn row_19_an_answer_that_is_lost_or_tells_nothing(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let mut actions =
        vec![json!("drop"), json!("reset"), json!("truncate"), json!("html"), json!({"remove": ["job_id"]})];
    actions.push(json!({"answer": {"status": 302, "location": "/elsewhere"}}));
    // Three seeds have them all, each of the three first and with different ones before it.
    actions.rotate_left(*case.pick(&[0, 2, 4]));
    found_under_each(&stage, &actions[..3]).await
}

async fn row_20_an_error_after_the_effect(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let mut actions = [500, 502, 503, 504].map(|status| json!({"status": status}));
    actions.rotate_left(*case.pick(&[0, 2, 3]));
    found_under_each(&stage, &actions[..2]).await
}

async fn row_21_an_error_without_an_effect_for_ever(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    stage.simulator.fault(&json!({"operation": "deploy", "times": null, "action": {"status": 500}})).await?;
    let mut wish = quick(&stage, "1.0")?;
    wish["retry"] = json!({"limit": 2});
    stage.namespace.apply(SHOP, &wish).await?;
    let given_up = |space: &KonigleSpace| ready_reason(space) == Some("RetriesExceeded");
    let space = stage.namespace.wait_longer_for(SHOP, "given up", LONGEST_OUTCOME, given_up).await?;
    check_results(&space, &[AttemptResult::Unknown, AttemptResult::Unknown])?;
    stage.look_now(SHOP).await?;
    check(posted(&stage, UAT).await?.is_empty(), || "the fault had no effect".to_owned())?;
    let asked = stage.asked(UAT, "deploy").await?;
    check(asked == 2, || format!("{asked} requests for two attempts"))
}

async fn row_22a_a_late_effect_within_settle(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    stage.simulator.reading("effect_lag_seconds", *case.pick(&[1.0, 2.0, 0.2])).await?;
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    let space = deploy_once(&stage, &quick(&stage, "1.0")?).await?;
    check_results(&space, &[AttemptResult::Succeeded])?;
    check(posted(&stage, UAT).await?.len() == 1, || "sent again".to_owned())
}

async fn row_22b_a_late_effect_beyond_the_wait(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let why = "the effect is later than the operator is told that it can be";
    stage.tolerate(Property::OneJobPerWish, why);
    stage.tolerate(Property::OneJobPerPair, why);
    let wish = quick(&stage, "1.0")?;
    stage.simulator.reading("effect_lag_seconds", *case.pick(&[20.0, 30.0])).await?;
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    stage.namespace.apply(SHOP, &wish).await?;
    let ledger = stage.wait_for_ledger(UAT, 1).await?;
    let unknown = |space: &KonigleSpace| results(space).first() == Some(&AttemptResult::Unknown);
    stage.namespace.wait_for(SHOP, "given up as without effect", unknown).await?;
    stage.simulator.reading("effect_lag_seconds", 0).await?;
    wait_for("the late job is over", async || {
        Ok((stage.simulator.job(&ledger[0]["job"]).await?["status"] == "success").then_some(()))
    })
    .await?;
    let ended = |space: &KonigleSpace| {
        let status = space.status.clone().unwrap_or_default();
        status.attempt.is_none() && (is_ready(space) || status.is_true("Stalled"))
    };
    stage.namespace.wait_longer_for(SHOP, "ended", LONGEST_OUTCOME, ended).await?;
    let looked = stage.look_now(SHOP).await?;
    check(ended(&looked), || format!("{:?}", looked.status))?;
    let jobs = good(&stage, &digest_of_wish(&wish)).await?.len();
    check(jobs <= 2, || format!("{jobs} jobs of one digest"))?;
    // That one of them came late cannot be told; that its outcome was not known is.
    let told = results(&looked).contains(&AttemptResult::Unknown);
    check(told, || format!("no unknown outcome in the history: {:?}", results(&looked)))
}

async fn row_23a_too_many_requests_with_absurd_waits(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let told = [
        (json!({"retry_after": 0}), json!({"retry_after": 86400})),
        (json!({"retry_after": -5}), json!({"retry_after_header": "31536000"})),
        (json!({"retry_after": "soon"}), json!({})),
    ];
    let (short, other) = case.pick(&told);
    is_refused(&stage, "1.0", short).await?;
    deployed_once(&stage, &digest_of_wish(&stage.wish("1.0")?)).await?;
    let refused = is_refused(&stage, "2.0", other).await?;
    let is_long = other["retry_after"] == 86400 || other["retry_after_header"].is_string();
    if !is_long {
        return deployed_once(&stage, &digest_of_wish(&stage.wish("2.0")?)).await.map(drop);
    }
    let ended = refused.history[0].completed_at.parse::<jiff::Timestamp>()?;
    let next = refused.next_retry_time.unwrap_or_default().parse::<jiff::Timestamp>()?;
    let wait = next.duration_since(ended).as_secs();
    // A second more, for times are written in whole seconds.
    check((600..=901).contains(&wait), || format!("the next attempt is {wait} s later"))?;
    let asked = stage.asked(UAT, "deploy").await?;
    lasts(Duration::from_secs(5)).await?;
    check(stage.asked(UAT, "deploy").await? == asked, || "sent again before the time that was told".to_owned())
}

/// Wishes for a version, whose first request is answered with 429 and this.
async fn is_refused(stage: &Stage, version: &str, told: &Value) -> Result<KonigleSpaceStatus> {
    let mut answer = told.clone();
    answer["status"] = json!(429);
    stage.simulator.fault(&json!({"operation": "deploy", "action": {"answer": answer}})).await?;
    let wish = stage.wish(version)?;
    stage.namespace.apply(SHOP, &wish).await?;
    let digest = digest_of_wish(&wish);
    let unsent = |space: &KonigleSpace| {
        let history = space.status.iter().flat_map(|status| &status.history);
        history.into_iter().any(|entry| entry.digest == digest && entry.result == AttemptResult::NotSent)
    };
    let status = stage.namespace.wait_for(SHOP, "not sent", unsent).await?.status.unwrap_or_default();
    check(status.failures == 0, || format!("a refusal was counted as a failure: {status:?}"))?;
    Ok(status)
}

async fn row_23b_a_storm_of_too_many_requests(case: &Case) -> Result<()> {
    const REFUSALS: u64 = 5;
    let stage = case.open().await?;
    let seconds = *case.pick(&[1, 2]);
    let storm =
        json!({"operation": "any", "times": REFUSALS, "action": {"answer": {"status": 429, "retry_after": seconds}}});
    stage.simulator.fault(&storm).await?;
    let began = Instant::now();
    deploy_once(&stage, &stage.wish("1.0")?).await?;
    let least = Duration::from_secs(seconds * (REFUSALS - 2));
    check(began.elapsed() >= least, || format!("{REFUSALS} refusals in {:?}", began.elapsed()))
}
