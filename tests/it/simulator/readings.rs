//! Jobs and readings: what the simulated API answers under each.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::{Fixture, PRODUCTION, UAT, archive, id, zip_of};

#[tokio::test]
async fn a_job_goes_from_pending_to_success_and_its_log_only_grows() {
    let fixture = Fixture::new().await;
    let (_, deployment) = fixture.deploy("one").await;
    let job = format!("jobs/{}", id(&deployment, "job_id"));
    let mut words = Vec::new();
    let mut log: Vec<Value> = Vec::new();
    for _ in 0..15 {
        let (_, body) = fixture.get(&job).await;
        words.push(id(&body, "status"));
        let lines = body["log"].as_array().expect("a log").clone();
        assert!(lines.starts_with(&log), "{lines:?} goes on from {log:?}");
        assert!(lines.len() <= log.len() + 2, "about one line each half second");
        log = lines;
        fixture.simulator.advance(0.5);
    }
    words.dedup();
    assert_eq!(words, ["pending", "running", "success"]);
    assert_eq!(log.len(), 11);
    let ledger = fixture.simulator.ledger();
    assert_eq!(ledger.len(), 1);
    assert_eq!(
        (&ledger[0]["kind"], &ledger[0]["by"], &ledger[0]["space"]),
        (&json!("deploy"), &json!("api"), &json!(UAT))
    );
    assert_eq!((&ledger[0]["outcome"], &ledger[0]["display_name"]), (&json!("success"), &json!("one")));
    assert_eq!(fixture.running(UAT), "one");
}

#[tokio::test]
async fn the_status_of_a_job_comes_before_its_log() {
    let fixture = Fixture::new().await;
    let deployment = fixture.deployed("one").await;
    let response = fixture.send(Method::GET, &format!("jobs/{}", id(&deployment, "job_id")), "demo-token").await;
    let text = response.text().await.expect("text");
    assert!(text.find("\"status\"") < text.find("\"log\"") && text.ends_with("]}"), "{text}");
}

#[tokio::test]
async fn last_deployed_at_moves_when_the_reading_says() {
    // Whether it has moved: after acceptance, after a success; after the acceptance of one that fails, after its failure.
    for (reading, expected) in [
        ("accept", [true, false, true, false]),
        ("end", [false, true, false, true]),
        ("success", [false, true, false, false]),
        ("both", [true, true, true, true]),
    ] {
        let fixture = Fixture::with(json!({"last_deployed_at_moves": reading})).await;
        let mut before = fixture.pair(UAT).await.0;
        let mut moved = Vec::new();
        for outcome in ["success", "failed"] {
            fixture.next_job(UAT, &json!({"outcome": outcome}));
            fixture.deploy("content").await;
            for _ in 0..2 {
                let now = fixture.pair(UAT).await.0;
                moved.push(now != before);
                before = now;
                fixture.simulator.advance(7.0);
            }
        }
        assert_eq!(moved, expected, "{reading}");
    }
}

#[tokio::test]
async fn last_deployment_status_shows_the_words_of_the_readings() {
    for (reading, meanwhile) in [("previous", json!("good")), ("word", json!("deploying")), ("null", json!(null))] {
        let words = json!({"status_while_running": reading, "running_word": "deploying", "success_word": "good", "failed_word": "bad"});
        let fixture = Fixture::with(words).await;
        fixture.deployed("one").await;
        fixture.next_job(UAT, &json!({"outcome": "failed"}));
        fixture.deploy("two").await;
        assert_eq!(fixture.pair(UAT).await.1, meanwhile, "{reading}");
        fixture.simulator.advance(7.0);
        assert_eq!(fixture.pair(UAT).await.1, "bad", "{reading}");
        assert_eq!(fixture.running(UAT), "one", "a failed deploy leaves what ran");
    }
}

#[tokio::test]
async fn lags_delay_reads_words_and_effects() {
    let fixture = Fixture::with(json!({"read_lag_seconds": 5, "job_list": "served"})).await;
    fixture.deployed("one").await;
    assert_eq!(fixture.pair(UAT).await, (json!(null), json!(null)), "7 s: the end at 6 s is not yet visible");
    fixture.simulator.advance(5.0);
    assert_eq!(fixture.pair(UAT).await.1, "success");

    let fixture = Fixture::with(json!({"status_lag_seconds": 5})).await;
    fixture.deployed("one").await;
    let (time, word) = fixture.pair(UAT).await;
    assert!(time.is_string() && word.is_null(), "the time moved, the word follows");
    fixture.simulator.advance(5.0);
    assert_eq!(fixture.pair(UAT).await, (time, json!("success")));

    let fixture = Fixture::with(json!({"effect_lag_seconds": 60, "job_list": "served"})).await;
    fixture.deployed("one").await;
    assert_eq!(fixture.get("jobs").await.1["count"], 0, "accepted, but not in effect");
    fixture.simulator.advance(60.0);
    assert_eq!(fixture.get("jobs").await.1["count"], 1);
    assert_eq!(fixture.running(UAT), "one");
}

#[tokio::test]
async fn a_busy_space_runs_queues_or_refuses_the_second_write() {
    let fixture = Fixture::with(json!({"busy_policy": "parallel"})).await;
    fixture.deploy("one").await;
    assert_eq!(fixture.deployed("two").await["job_id"], fixture.simulator.ledger()[1]["job"]);
    assert_eq!(fixture.simulator.ledger()[1]["outcome"], "success");

    let fixture = Fixture::with(json!({"busy_policy": "queue"})).await;
    fixture.deploy("one").await;
    fixture.deployed("two").await;
    assert_eq!(fixture.simulator.ledger()[1]["outcome"], json!(null), "it began when the first one ended, at 6 s");
    fixture.simulator.advance(5.0);
    assert_eq!((fixture.running(UAT), &fixture.simulator.ledger()[1]["outcome"]), (json!("two"), &json!("success")));

    for (code, scope, other_space) in
        [(409, "space", 201), (423, "space", 201), (409, "webapp", 409), (423, "computer", 423)]
    {
        let readings =
            json!({"busy_policy": format!("refuse_{code}"), "busy_scope": scope, "promote_needs": "nothing"});
        let fixture = Fixture::with(readings).await;
        fixture.deploy("one").await;
        assert_eq!((fixture.deploy("two").await.0, fixture.promote().await.0), (code, code), "{scope}");
        let production = fixture.deploy_to(PRODUCTION, archive("one"), "").await.expect("an answer");
        assert_eq!(production.0, other_space, "{scope}");
        fixture.simulator.advance(7.0);
        assert_eq!(fixture.deploy("two").await.0, 201, "free again");
    }
}

#[tokio::test]
async fn promotions_follow_their_readings() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.promote().await.0, 400, "uat never ran anything");
    fixture.reading("promote_needs", "nothing");
    let (status, promotion) = fixture.promote().await;
    fixture.simulator.advance(7.0);
    assert_eq!((status, &promotion["space_id"]), (201, &json!(PRODUCTION)));
    assert_eq!(fixture.simulator.ledger()[0]["outcome"], "failed", "there was nothing to promote");

    fixture.deployed("one").await;
    for (reading, promoted) in [("accept", "one"), ("end", "two")] {
        fixture.control("PATCH", "readings", json!({"promote_reads_image": reading, "promote_space_id": "uat"}));
        let (_, promotion) = fixture.promote().await;
        assert_eq!(promotion["space_id"], UAT);
        fixture.next_job(UAT, &json!({"seconds": 1}));
        fixture.deployed("two").await;
        let sha256 = |content: &str| {
            let of = |entry: &&Value| entry["kind"] == "deploy" && entry["display_name"] == content;
            fixture.simulator.ledger().iter().find(of).map(|entry| entry["sha256"].clone())
        };
        let runs = fixture.simulator.space(PRODUCTION).expect("a Space")["running"]["sha256"].clone();
        assert_eq!(Some(runs), sha256(promoted), "{reading}");
    }

    fixture.next_job(UAT, &json!({"outcome": "failed"}));
    fixture.deployed("three").await;
    for (reading, status) in [("accept", 201), ("refuse_409", 409), ("refuse_400", 400)] {
        fixture.reading("promote_when_uat_failed", reading);
        assert_eq!(fixture.promote().await.0, status, "{reading}");
    }
    fixture.reading("promote_when_uat_failed", "accept");
    for (reading, status) in [("accept", 201), ("refuse_400", 400)] {
        fixture.reading("promote_on_production", reading);
        assert_eq!(fixture.post(&format!("spaces/{PRODUCTION}/promote")).await.0, status, "{reading}");
    }
}

#[tokio::test]
async fn deploys_are_judged_as_the_readings_say() {
    let fixture = Fixture::new().await;
    let production = |status| (json!({"deploy_on_production": format!("refuse_{status}")}), PRODUCTION, status);
    for (readings, space, status) in [(json!({}), PRODUCTION, 201), production(400), production(409)] {
        fixture.control("PATCH", "readings", readings);
        assert_eq!(fixture.deploy_to(space, archive("x"), "").await.expect("an answer").0, status);
    }
    fixture.control("PATCH", &format!("spaces/{UAT}"), json!({"status": "stopped"}));
    for (reading, status) in [("accept", 201), ("refuse_409", 409)] {
        fixture.reading("deploy_on_unready", reading);
        assert_eq!(fixture.deploy("x").await.0, status, "{reading}");
    }
    fixture.control("PUT", "readings", json!({"failed_deploy_status": "error", "display_name_limit": 3}));
    assert_eq!(fixture.deploy("four").await.0, 400);
    fixture.next_job(UAT, &json!({"outcome": "failed", "error": "no space left on device"}));
    let job = id(&fixture.deployed("one").await, "job_id");
    assert_eq!(fixture.get(&format!("spaces/{UAT}")).await.1["status"], "error");
    let (_, job) = fixture.get(&format!("jobs/{job}")).await;
    assert_eq!(
        job["log"].as_array().and_then(|log| log.last()),
        Some(&json!({"level": "error", "message": "no space left on device"}))
    );

    fixture.reading("dedupe", "newest");
    let first = fixture.deployed("two").await;
    assert_eq!(fixture.deployed("two").await, first, "the same deployment again");
    assert_ne!(fixture.deployed("six").await, first);
}

#[tokio::test]
async fn zips_are_checked_as_the_reading_says() {
    let toml = |text| zip_of(&[("Dockerfile", ""), ("bentocloud.toml", text)]);
    for (defect, zip) in [
        ("readable", b"PK no".to_vec()),
        ("Dockerfile", zip_of(&[("app/Dockerfile", ""), ("bentocloud.toml", "[processes.web]")])),
        ("bentocloud.toml", zip_of(&[("Dockerfile", "")])),
        ("TOML", toml("processes = [")),
        ("processes", toml("[processes]")),
        ("processes", toml("processes = 3")),
    ] {
        let fixture = Fixture::new().await;
        let (status, body) = fixture.deploy_to(UAT, zip.clone(), "").await.expect("an answer");
        assert!(status == 400 && body["detail"].as_str().is_some_and(|text| text.contains(defect)), "{defect}: {body}");
        assert!(fixture.simulator.ledger().is_empty());
        for (reading, outcome) in [("job", "failed"), ("accept", "success")] {
            fixture.reading("zip_check", reading);
            assert_eq!(fixture.deploy_to(UAT, zip.clone(), "").await.expect("an answer").0, 201);
            fixture.simulator.advance(7.0);
            assert_eq!(fixture.simulator.ledger().last().expect("an entry")["outcome"], outcome, "{defect}: {reading}");
        }
    }
    let fixture = Fixture::with(json!({"zip_limit_bytes": 10})).await;
    assert_eq!(fixture.deploy("x").await.0, 413);
    fixture.reading("oversize_answer", "at_once");
    let large = fixture.deploy_to(UAT, vec![0; 4 << 20], "").await;
    assert!(large.is_err() || large.is_ok_and(|(status, _)| status == 413), "refused, or cut off while sending");
    assert!(fixture.simulator.ledger().is_empty());
}

#[tokio::test]
async fn a_deploy_needs_a_file_in_its_field_and_no_name() {
    let fixture = Fixture::new().await;
    let url = format!("{}/cloud/api/v1/spaces/{UAT}/deploy", fixture.simulator.base_url);
    let file = || Part::bytes(archive("x")).file_name("app.zip");
    for (form, status) in [
        (Form::new().part("archive", file()), 400),
        (Form::new().text("zip_file", "no file"), 400),
        (Form::new().part("zip_file", file()), 201),
    ] {
        let request = fixture.client.post(&url).header(AUTHORIZATION, "Token demo-token").multipart(form);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status);
        let body: Value = response.json().await.expect("JSON");
        assert!(status == 400 || body["display_name"].as_str().is_some_and(|name| !name.is_empty()), "{body}");
    }
    let request = fixture.client.post(&url).header(AUTHORIZATION, "Token demo-token").body("no form");
    assert_eq!(request.send().await.expect("an answer").status(), 415);
    assert_eq!(fixture.simulator.ledger().len(), 1);
}

#[tokio::test]
async fn lists_follow_their_readings() {
    let fixture = Fixture::new().await;
    let webapps: Vec<_> = (0..9).map(|number| json!({"name": format!("app-{number}")})).collect();
    let other = json!({"name": "other", "tokens": ["other-token"], "computers": [{"name": "c", "webapps": [{"name": "foreign"}]}]});
    let tenants = fixture.control("POST", "tenants", other);
    fixture.control("POST", "tenants", json!({"name": "demo", "computers": [{"name": "web-1", "webapps": webapps}]}));
    let foreign = &tenants.as_array().expect("tenants")[1]["computers"][0]["webapps"][0];

    let ids = |page: &Value, key: &str| -> Vec<String> {
        page[key].as_array().expect("a page").iter().map(|space| id(space, "id")).collect()
    };
    let (_, all) = fixture.get("spaces?page_size=100").await;
    let created = ids(&all, "payload");
    assert_eq!(
        (created.len(), &all["count"], &all["num_pages"], &all["next"]),
        (20, &json!(20), &json!(1), &json!(null))
    );
    fixture.control("PATCH", "readings", json!({"list_key": "results", "num_pages": "no", "page_size_cap": 6}));
    let (_, page) = fixture.get("spaces?page=2&page_size=100").await;
    assert_eq!(ids(&page, "results"), created[6..12]);
    assert!(page.get("num_pages").is_none() && page["previous"].is_string());
    let next =
        page["next"].as_str().and_then(|url| url.strip_prefix(&fixture.simulator.base_url)).expect("a link here");
    assert_eq!(ids(&fixture.get(next.trim_start_matches("/cloud/api/v1/")).await.1, "results"), created[12..18]);

    fixture.control("PUT", "readings", json!({"list_order": "newest"}));
    let newest = ids(&fixture.get("spaces?page_size=100").await.1, "payload");
    assert!(newest.iter().rev().eq(&created));
    fixture.reading("list_order", "shuffled");
    let mut shuffled = ids(&fixture.get("spaces?page_size=100").await.1, "payload");
    assert_ne!(shuffled, ids(&fixture.get("spaces?page_size=100").await.1, "payload"), "another order each time");
    shuffled.sort();
    assert_eq!(shuffled.len(), 20);

    assert_eq!(fixture.get("spaces?page=9").await.0, 404);
    fixture.reading("page_past_end", "empty");
    assert_eq!(fixture.get("spaces?page=9").await.1["payload"], json!([]));
    assert_eq!(fixture.get("spaces?page=none").await.0, 404);
    let by_foreign = format!("spaces?webapp_id={}", id(foreign, "id"));
    assert_eq!(fixture.get(&by_foreign).await.1["count"], 0);
    fixture.control("PATCH", "readings", json!({"foreign_filter": "refuse", "spaces_list_unfiltered": "refuse"}));
    assert_eq!((fixture.get(&by_foreign).await.0, fixture.get("spaces").await.0), (400, 400));
    fixture.reading("spaces_list_unfiltered", "empty");
    assert_eq!(fixture.get("spaces").await.1["count"], 0);

    let of_foreign = format!("spaces/{}", id(foreign, "uat"));
    for status in [404, 403] {
        fixture.reading("foreign_object", status);
        assert_eq!(fixture.get(&of_foreign).await.0, status);
    }
    assert_eq!(fixture.send(Method::GET, &of_foreign, "other-token").await.status(), 200);
}

#[tokio::test]
async fn jobs_are_listed_kept_and_named_as_the_readings_say() {
    let fixture = Fixture::new().await;
    fixture.control("POST", "tenants", json!({"name": "other", "tokens": ["other-token"]}));
    assert_eq!(fixture.get("jobs").await.0, 404);
    fixture.control("PATCH", "readings", json!({"job_list": "served", "display_name_in_log": "yes"}));
    let deployment = fixture.deployed("name [nonce]").await;
    let (_, page) = fixture.get("jobs").await;
    let job = &page["payload"][0];
    assert_eq!((&page["count"], &job["id"], job.get("space_id")), (&json!(1), &deployment["job_id"], None));
    assert!(job["log"][0]["message"].as_str().is_some_and(|text| text.contains("name [nonce]")));
    let others = fixture.send(Method::GET, "jobs", "other-token").await.json::<Value>().await.expect("JSON");
    assert_eq!(others["count"], 0);

    fixture.control("PATCH", &format!("spaces/{UAT}"), json!({"ended_jobs": 2}));
    assert_eq!(fixture.get("jobs?page_size=1").await.1["count"], 3, "two that ended before");
    assert_eq!(fixture.simulator.ledger().len(), 1, "of which nothing else tells");
    fixture.control("PATCH", "readings", json!({"job_space_id": "yes", "job_retention_seconds": 60}));
    let path = format!("jobs/{}", id(&deployment, "job_id"));
    let (_, job) = fixture.get(&path).await;
    assert_eq!((&job["space_id"], &job["deployment_id"]), (&json!(UAT), &deployment["id"]));
    fixture.simulator.advance(60.0);
    assert_eq!((fixture.get(&path).await.0, &fixture.get("jobs").await.1["count"]), (404, &json!(0)));

    fixture.next_job(UAT, &json!({"outcome": "never"}));
    let stuck = format!("jobs/{}", id(&fixture.deployed("stuck").await, "job_id"));
    fixture.simulator.advance(1e6);
    assert_eq!(fixture.get(&stuck).await.1["status"], "running");
    fixture.reading("job_timeout_seconds", 5);
    let late = format!("jobs/{}", id(&fixture.deployed("late").await, "job_id"));
    assert_eq!(fixture.get(&late).await.1["status"], "failed");
}

#[tokio::test]
async fn answers_have_the_form_of_the_readings() {
    let fixture = Fixture::new().await;
    for status in [200, 202, 201] {
        fixture.reading("post_success_code", status);
        assert_eq!(fixture.deploy("x").await.0, status);
    }
    for (shape, pointer) in [("detail", "/detail"), ("message", "/message"), ("list", "/0/message")] {
        fixture.reading("error_shape", shape);
        let (status, body) = fixture.get("spaces/0").await;
        assert_eq!((status, body.pointer(pointer)), (404, Some(&json!("Not found."))), "{shape}");
    }
    fixture.reading("error_shape", "fields");
    assert!(fixture.post("computers").await.1.pointer("/non_field_errors/0").is_some());

    fixture.control("PUT", "readings", json!({"rate_limit_per_minute": 1, "retry_after_seconds": 7}));
    fixture.get("spaces").await;
    for (place, in_body, in_header) in
        [("body", true, false), ("header", false, true), ("both", true, true), ("nowhere", false, false)]
    {
        fixture.reading("retry_after_in", place);
        let response = fixture.send(Method::GET, "spaces", "demo-token").await;
        assert_eq!(
            (response.status().as_u16(), response.headers().contains_key(RETRY_AFTER)),
            (429, in_header),
            "{place}"
        );
        let body: Value = response.json().await.expect("JSON");
        assert_eq!(body["retry_after"] == 7, in_body, "{place}");
    }
    fixture.simulator.advance(60.0);
    assert_eq!(fixture.get("spaces").await.0, 200, "a minute later");

    fixture.control("PUT", "readings", json!({"webapp_in_detail": "no"}));
    fixture.control("PATCH", &format!("spaces/{UAT}"), json!({"last_deployed_at": "2026-11-24T08:29:00.123456Z"}));
    assert!(fixture.get(&format!("spaces/{UAT}")).await.1.get("webapp").is_none());
    for (form, text) in [
        ("microseconds", "2026-11-24T08:29:00.123456Z"),
        ("milliseconds", "2026-11-24T08:29:00.123Z"),
        ("seconds", "2026-11-24T08:29:00Z"),
        ("offset", "2026-11-24T10:29:00.123456+02:00"),
        ("zoneless", "2026-11-24T08:29:00.123456"),
    ] {
        fixture.reading("timestamps", form);
        assert_eq!(fixture.pair(UAT).await.0, text);
    }
    fixture.control("PATCH", "readings", json!({"timestamps": "seconds", "clock_offset_seconds": -3600}));
    assert_eq!(fixture.pair(UAT).await.0, "2026-11-24T07:29:00Z", "the server's clock is an hour behind");
    assert_eq!(fixture.send(Method::GET, "spaces", "wrong").await.status(), 401);
    assert_eq!(fixture.send(Method::GET, "spaces/", "demo-token").await.status(), 404, "no trailing slash");
    assert_eq!(fixture.send(Method::DELETE, &format!("spaces/{UAT}"), "demo-token").await.status(), 405);
}

#[tokio::test]
async fn one_web_app_per_computer_where_the_reading_says_so() {
    let fixture = Fixture::new().await;
    let computer = id(&fixture.get("computers").await.1["payload"][0], "id");
    for (reading, name, status) in [("many", "second", 201), ("one", "third", 409)] {
        fixture.reading("webapps_per_computer", reading);
        let body = json!({"computer_id": computer, "name": name, "runtime": "nodejs", "web_server": "nginx"});
        let url = format!("{}/cloud/api/v1/webapps", fixture.simulator.base_url);
        let request = fixture.client.post(url).header(AUTHORIZATION, "Token demo-token").json(&body);
        assert_eq!(request.send().await.expect("an answer").status(), status, "{reading}");
    }
}
