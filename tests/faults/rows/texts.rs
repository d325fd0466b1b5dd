//! Rows about what comes from Konigle as text: logs, fields, lists.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use konigle_operator::api::{AttemptResult, KonigleSpace};
use reqwest::Method;
use serde_json::{Value, json};

use crate::case::Case;
use crate::matrix::{Row, row};
use crate::oracles::{LONGEST_OUTCOME, check, check_results, deploy_once, deployed_once, lasts, posted};
use crate::support::Result;
use crate::support::logs::{HOSTILE, hostile_line, strange_entries};
use crate::support::proxy::Matcher;
use crate::support::simulator::{Simulator, TOKEN, UAT};
use crate::support::stage::{SHOP, digest_of_wish};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        row!(
            "45",
            row_45_a_log_that_nobody_should_write,
            "A job log of ten megabytes in many lines or in one, of strange entries, of no UTF-8, with secrets and control characters",
            "The last lines, redacted, in a status of at most 32 KiB; the deploy goes on"
        )
        .tested_by(&[
            ("tests/it/bad_input/jobs.rs", "jobs_that_do_not_succeed"),
            ("src/konigle/job.rs", "keeps_the_end_of_a_log_of_any_length"),
            ("src/konigle/job.rs", "takes_invalid_utf8_and_never_cuts_a_secret_in_two"),
        ]),
        row!(
            "46",
            row_46_answers_of_odd_fields,
            "Fields of all answers are missing, null, of another type, or new; dates and ids are odd",
            "Read at their loosest: deployed once all the same; a request's answer that tells no job is row 19"
        )
        .tested_by(&[
            ("src/konigle/model.rs", "a_space_needs_only_its_id"),
            ("src/konigle/model.rs", "a_deployment_needs_only_its_job"),
            ("src/konigle/answer.rs", "success_needs_a_job_id"),
            ("tests/it/bad_input/answers.rs", "answers_that_start_nothing"),
        ]),
        row!(
            "48",
            row_48_a_list_of_jobs_that_may_not_be_whole,
            "An outcome is not known, and the list of almost ten thousand jobs fails on its third page, is in another order each time, or grows while it is read",
            "A list that may not be whole is no evidence: nothing is decided and nothing sent; a whole one decides, and it is deployed once"
        )
        .under(&[("job_list", &["served"])], "it is about that list")
        .tested_by(&[
            ("src/konigle/list.rs", "refuses_a_list_that_may_not_be_whole"),
            ("tests/it/client/reads.rs", "a_page_that_fails_fails_the_list"),
            ("tests/it/crash/readings.rs", "the_list_of_jobs_does_not_outrun_the_space"),
        ])
        .long(),
    ]
}

fn attempt_log(space: &KonigleSpace) -> Option<(Vec<String>, i64)> {
    let attempt = space.status.as_ref()?.attempt.as_ref()?;
    attempt.log.as_ref().map(|log| (log.lines.clone(), log.count))
}

async fn row_45_a_log_that_nobody_should_write(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let kinds = case.pick(&[["many lines", "secrets"], ["one line", "strange"], ["no UTF-8", "secrets"]]);
    for (number, kind) in kinds.iter().enumerate() {
        stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "never", "lines": 1}]})).await?;
        let wish = stage.wish(&format!("1.{number}"))?;
        stage.namespace.apply(SHOP, &wish).await?;
        let job = stage.wait_for_ledger(UAT, number + 1).await?[number]["job"].clone();
        lasts(case.moment(Duration::from_secs(2))).await?;
        let (change, shown) = match *kind {
            "many lines" => (json!({"append_lines": {"count": 10_000, "bytes": 1_000}}), "xxx"),
            "one line" => (
                json!({"append_log": [{"message": "before it"}], "append_lines": {"count": 1, "bytes": 10_000_000}}),
                "before it",
            ),
            "strange" => (json!({"append_log": strange_entries()}), "the last one"),
            "no UTF-8" => {
                stage.simulator.fault(&json!({"operation": "get_job", "times": null, "action": "latin1"})).await?;
                (json!({"append_log": [{"message": "r\u{e9}sum\u{e9} of the build"}]}), "r\u{fffd}sum\u{fffd}")
            }
            _ => (json!({"append_log": [{"level": "error", "message": hostile_line(TOKEN)}]}), "GET https"),
        };
        stage.simulator.change_job(&job, &change).await?;
        let is_told = |space: &KonigleSpace| {
            attempt_log(space).is_some_and(|(lines, count)| {
                lines.iter().any(|line| line.contains(shown)) && (*kind != "many lines" || count > 1_000)
            })
        };
        stage.namespace.wait_for(SHOP, &format!("showing {kind}"), is_told).await?;
        // The whole of it is read once more, whatever was seen of it before.
        let text = serde_json::to_string(&stage.look_now(SHOP).await?.status)?;
        check(!HOSTILE.iter().any(|part| text.contains(part)) && !text.contains(TOKEN), || text.clone())?;
        check(text.len() <= 32 << 10, || format!("the status has {} bytes", text.len()))?;
        stage.simulator.change_job(&job, &json!({"finish": "success"})).await?;
        deployed_once(&stage, &digest_of_wish(&wish)).await?;
    }
    check(posted(&stage, UAT).await?.len() == kinds.len(), || "sent again".to_owned())
}

/// Has all answers to this operation changed so, from now on.
async fn changes(simulator: &Simulator, operation: &str, action: Value) -> Result<()> {
    simulator.fault(&json!({"operation": operation, "times": null, "action": action})).await
}

async fn row_46_answers_of_odd_fields(case: &Case) -> Result<()> {
    let stage = case.open().await?;
    let odd_date = "0000-00-00T99:99:99+25:61";
    let mut ways = [
        [
            json!({"set": {"more": {"of": [1]}, "status": "resting", "created_at": odd_date, "custom_domain": 7}}),
            json!({"set": {"more": [null], "task_name": {"a": 1}, "created_at": odd_date, "completed_at": 5, "log": "text"}}),
            json!({"set": {"more": true, "id": 12, "space_id": 7, "created_at": odd_date, "display_name": []}}),
        ],
        [
            json!({"set": {"webapp": null, "platform_domain": null, "custom_domain": null, "created_at": null}}),
            json!({"set": {"task_name": null, "created_at": null, "completed_at": null, "log": null}}),
            json!({"set": {"id": null, "space_id": null, "created_at": null, "display_name": null}}),
        ],
        [
            json!({"remove": ["webapp", "platform_domain", "custom_domain", "custom_domain_status", "created_at", "status"]}),
            json!({"remove": ["task_name", "created_at", "completed_at", "log"]}),
            json!({"remove": ["id", "space_id", "created_at", "display_name"]}),
        ],
    ];
    ways.rotate_left(*case.pick(&[0, 1, 2]));
    if *case.pick(&[false, true, false]) {
        // Nothing ever tells of a deployment but its job.
        let pair = json!({"remove": ["last_deployed_at", "last_deployment_status"]});
        changes(&stage.simulator, "get_space", pair).await?;
    }
    for (number, [space, job, deployment]) in ways.into_iter().enumerate() {
        changes(&stage.simulator, "get_space", space).await?;
        changes(&stage.simulator, "get_job", job).await?;
        changes(&stage.simulator, "deploy", deployment).await?;
        let space = deploy_once(&stage, &stage.wish(&format!("1.{number}"))?).await?;
        check_results(&space, &vec![AttemptResult::Succeeded; number + 1])?;
    }
    check(posted(&stage, UAT).await?.len() == 3, || "sent again".to_owned())
}

async fn row_48_a_list_of_jobs_that_may_not_be_whole(case: &Case) -> Result<()> {
    const OTHER: &str = "7301962442809704801";
    // With those that are added almost a hundred pages; beyond that the list is not read.
    const JOBS: usize = 9_600;
    const ADDED: usize = 300;
    let mut stage = case.open().await?;
    let proxy = stage.put_proxy_before_konigle().await?;
    stage.simulator.add_uat_spaces("web-4", &[OTHER.to_owned()]).await?;
    stage.simulator.change_space(OTHER, &json!({"ended_jobs": JOBS})).await?;
    // A word that was there before proves nothing by itself.
    deploy_once(&stage, &stage.wish("0.9")?).await?;
    let pages = || proxy.seen(&Matcher::new(Method::GET, "/jobs?page=")).len();
    let had_effect = *case.pick(&[true, false]);
    let when = if had_effect { "after" } else { "before" };
    stage.simulator.fault(&json!({"operation": "deploy", "when": when, "action": "drop"})).await?;
    let third = Matcher::new(Method::GET, "/jobs?page=3&");
    let bad = *case.pick(&["fails", "shuffled", "grows"]);
    match bad {
        "fails" => proxy.answer(third, usize::MAX, StatusCode::INTERNAL_SERVER_ERROR),
        "shuffled" => stage.simulator.reading("list_order", "shuffled").await?,
        _ => stage.simulator.reading("list_order", "newest").await?,
    }
    // Far longer than the case: nothing but the whole list can end the wait.
    let mut wish = stage.wish("1.0")?;
    wish["timeout"] = json!("1h");
    stage.namespace.apply(SHOP, &wish).await?;
    let (began, mut added) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(20) || pages() < 6 {
        if bad == "grows" && added < ADDED {
            stage.simulator.change_space(OTHER, &json!({"ended_jobs": 1})).await?;
            added += 1;
        }
        let status = stage.namespace.spaces().get(SHOP).await?.status.unwrap_or_default();
        check(status.history.len() == 1, || format!("decided by a list that is not whole: {status:?}"))?;
        check(began.elapsed() < LONGEST_OUTCOME, || "the list was not read".to_owned())?;
        lasts(Duration::from_millis(100)).await?;
    }
    let posts = stage.asked(UAT, "deploy").await?;
    check(posts == 2, || format!("{posts} requests, and nothing was known of the second one"))?;
    stage.simulator.reading("list_order", "created").await?;
    proxy.clear();
    let space = deployed_once(&stage, &digest_of_wish(&wish)).await?;
    let mut expected = vec![AttemptResult::Succeeded; 2];
    if !had_effect {
        expected.insert(1, AttemptResult::Unknown);
    }
    check_results(&space, &expected)?;
    check(posted(&stage, UAT).await?.len() == 2, || "sent again".to_owned())
}
