//! The simulator over HTTP: its readings, faults and control API, as raw requests. No client of the operator's here.
//!
//! The clock of most tests stands still and is moved by hand, so that nothing waits and nothing depends on speed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use konigle_operator::sim::{Options, Seed, Simulator};
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

const UAT: &str = "7301962442809343003";
const PRODUCTION: &str = "7301962442809343004";

/// A simulator with the demo tenant and a clock that stands still.
struct Fixture {
    simulator: Simulator,
    client: Client,
}

impl Fixture {
    async fn new() -> Self {
        let simulator = Simulator::start(Options::default()).await.expect("it starts");
        let fixture = Self { simulator, client: Client::builder().no_proxy().build().expect("a client") };
        fixture.control("POST", "clock", json!({"frozen": true}));
        fixture
    }

    async fn with(readings: Value) -> Self {
        let fixture = Self::new().await;
        fixture.control("PATCH", "readings", readings);
        fixture
    }

    fn control(&self, method: &str, path: &str, body: Value) -> Value {
        self.simulator.control(method, path, body).expect("the control API accepts it")
    }

    fn reading(&self, name: &str, value: impl Into<Value>) {
        self.simulator.set_reading(name, value).expect("a reading");
    }

    fn fault(&self, operation: &str, when: &str, action: Value) {
        self.simulator.fault(json!({"operation": operation, "when": when, "action": action})).expect("a fault");
    }

    async fn send(&self, method: Method, path: &str, token: &str) -> Response {
        let url = format!("{}/cloud/api/v1/{path}", self.simulator.base_url);
        self.client
            .request(method, url)
            .header(AUTHORIZATION, format!("Token {token}"))
            .send()
            .await
            .expect("an answer")
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.send(Method::GET, path, "demo-token").await;
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    /// The fields of a Space that are looked at most.
    async fn pair(&self, space: &str) -> (Value, Value) {
        let (_, space) = self.get(&format!("spaces/{space}")).await;
        (space["last_deployed_at"].clone(), space["last_deployment_status"].clone())
    }

    async fn post(&self, path: &str) -> (u16, Value) {
        let response = self.send(Method::POST, path, "demo-token").await;
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    async fn promote(&self) -> (u16, Value) {
        self.post(&format!("spaces/{UAT}/promote")).await
    }

    async fn deploy(&self, content: &str) -> (u16, Value) {
        self.deploy_to(UAT, archive(content), content).await.expect("an answer")
    }

    async fn deploy_to(&self, space: &str, zip: Vec<u8>, name: &str) -> reqwest::Result<(u16, Value)> {
        let file = Part::bytes(zip).file_name("app.zip").mime_str("application/zip")?;
        let form = Form::new().text("display_name", name.to_owned()).part("zip_file", file);
        let url = format!("{}/cloud/api/v1/spaces/{space}/deploy", self.simulator.base_url);
        let request = self.client.post(url).header(AUTHORIZATION, "Token demo-token").multipart(form);
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }

    /// Deploys, and lets the job end.
    async fn deployed(&self, content: &str) -> Value {
        let (status, deployment) = self.deploy(content).await;
        assert_eq!(status, 201, "{deployment}");
        self.simulator.advance(7.0);
        deployment
    }

    fn next_job(&self, space: &str, settings: Value) {
        self.control("PATCH", &format!("spaces/{space}"), json!({"next_jobs": [settings]}));
    }

    fn running(&self, space: &str) -> Value {
        self.simulator.space(space).expect("a Space")["running"]["display_name"].clone()
    }
}

/// A ZIP that passes the checks; different content, different bytes.
fn archive(content: &str) -> Vec<u8> {
    zip_of(&[("Dockerfile", "FROM scratch"), ("bentocloud.toml", "[processes.web]"), ("content", content)])
}

fn zip_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an entry");
        writer.write_all(text.as_bytes()).expect("memory");
    }
    writer.finish().expect("a ZIP").into_inner()
}

fn id(body: &Value, key: &str) -> String {
    body[key].as_str().expect("an id").to_owned()
}

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
            fixture.next_job(UAT, json!({"outcome": outcome}));
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
        fixture.next_job(UAT, json!({"outcome": "failed"}));
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

    for code in [409, 423] {
        let fixture = Fixture::with(json!({"busy_policy": format!("refuse_{code}"), "promote_needs": "nothing"})).await;
        fixture.deploy("one").await;
        assert_eq!((fixture.deploy("two").await.0, fixture.promote().await.0), (code, code));
        let to_production = fixture.deploy_to(PRODUCTION, archive("one"), "").await.expect("an answer").0;
        assert_eq!(to_production, 201, "the other Space is free");
        fixture.reading("busy_scope", "webapp");
        fixture.control("POST", "reset", json!(null));
        fixture.control(
            "PATCH",
            "readings",
            json!({"busy_policy": format!("refuse_{code}"), "busy_scope": "computer"}),
        );
        fixture.deploy("one").await;
        assert_eq!(fixture.deploy_to(PRODUCTION, archive("one"), "").await.expect("an answer").0, code);
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
        fixture.next_job(UAT, json!({"seconds": 1}));
        fixture.deployed("two").await;
        let sha256 = |content: &str| {
            let of = |entry: &&Value| entry["kind"] == "deploy" && entry["display_name"] == content;
            fixture.simulator.ledger().iter().find(of).map(|entry| entry["sha256"].clone())
        };
        let runs = fixture.simulator.space(PRODUCTION).expect("a Space")["running"]["sha256"].clone();
        assert_eq!(Some(runs), sha256(promoted), "{reading}");
    }

    fixture.next_job(UAT, json!({"outcome": "failed"}));
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
    fixture.next_job(UAT, json!({"outcome": "failed", "error": "no space left on device"}));
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

    fixture.control("PATCH", "readings", json!({"job_space_id": "yes", "job_retention_seconds": 60}));
    let path = format!("jobs/{}", id(&deployment, "job_id"));
    let (_, job) = fixture.get(&path).await;
    assert_eq!((&job["space_id"], &job["deployment_id"]), (&json!(UAT), &deployment["id"]));
    fixture.simulator.advance(60.0);
    assert_eq!((fixture.get(&path).await.0, &fixture.get("jobs").await.1["count"]), (404, &json!(0)));

    fixture.next_job(UAT, json!({"outcome": "never"}));
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

#[tokio::test]
async fn faults_act_before_or_after_the_effect() {
    for (action, answered) in [
        (json!("drop"), None),
        (json!("reset"), None),
        (json!("html"), None),
        (json!("garbage"), None),
        (json!({"status": 500}), Some(500)),
        (json!({"answer": {"status": 429, "retry_after": "soon"}}), Some(429)),
    ] {
        for (when, accepted) in [("headers", 0), ("before", 0), ("after", 1)] {
            let fixture = Fixture::new().await;
            fixture.fault("deploy", when, action.clone());
            let answer = fixture.deploy_to(UAT, archive("x"), "").await;
            assert_eq!(answer.ok().map(|(status, _)| status), answered, "{action} {when}");
            assert_eq!(fixture.simulator.ledger().len(), accepted, "{action} {when}");
            assert_eq!(fixture.deploy("y").await.0, 201, "it met one request only");
        }
    }
}

#[tokio::test]
async fn faults_change_the_true_answer() {
    let fixture = Fixture::new().await;
    let path = format!("spaces/{UAT}");
    fixture.fault("get_space", "after", json!({"set": {"status": "hibernating", "custom_domain": null}}));
    fixture.fault("get_space", "after", json!({"remove": ["webapp"]}));
    let (_, space) = fixture.get(&path).await;
    assert_eq!(
        (&space["status"], &space["custom_domain"], space.get("webapp")),
        (&json!("hibernating"), &json!(null), None)
    );
    fixture.fault("get_space", "after", json!("truncate"));
    let response = fixture.send(Method::GET, &path, "demo-token").await;
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "the body is cut off");
    fixture.fault("get_space", "after", json!({"drip_ms": 1}));
    assert_eq!(fixture.get(&path).await.0, 200);
    fixture.fault("get_space", "after", json!({"answer": {"status": 307, "location": "/elsewhere"}}));
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let url = format!("{}/cloud/api/v1/{path}", fixture.simulator.base_url);
    let response = client.get(url).header(AUTHORIZATION, "Token demo-token").send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["location"]),
        (307, &"/elsewhere".parse().expect("a value"))
    );
}

#[tokio::test]
async fn faults_count_and_choose_their_requests() {
    let fixture = Fixture::new().await;
    let fault = json!({"operation": "get_space", "space": UAT, "times": 2, "after_skip": 1, "action": {"status": 503}});
    fixture.control("POST", "faults", fault);
    let mut seen = Vec::new();
    for space in [UAT, PRODUCTION, UAT, PRODUCTION, UAT, UAT] {
        seen.push(fixture.get(&format!("spaces/{space}")).await.0);
    }
    assert_eq!(seen, [200, 200, 503, 200, 503, 200]);
    assert_eq!(fixture.control("GET", "faults", json!(null)), json!([]), "used up");

    let job = format!("jobs/{}", id(&fixture.deployed("x").await, "job_id"));
    fixture.control(
        "POST",
        "faults",
        json!({"operation": "any", "space": UAT, "times": null, "action": {"status": 502}}),
    );
    for _ in 0..3 {
        assert_eq!(fixture.get(&job).await.0, 502, "a job of that Space");
    }
    assert_eq!(fixture.get("spaces").await.0, 200);
    fixture.control("DELETE", "faults", json!(null));
    assert_eq!(fixture.get(&job).await.0, 200);
}

#[tokio::test]
async fn dropped_and_reset_connections_differ_on_the_wire() {
    let fixture = Fixture::new().await;
    for (action, expected) in [("drop", None), ("reset", Some(std::io::ErrorKind::ConnectionReset))] {
        fixture.fault("get_space", "before", json!(action));
        let address = fixture.simulator.address;
        let ended = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("a connection");
            write!(stream, "GET /cloud/api/v1/spaces/{UAT} HTTP/1.1\r\nhost: x\r\n\r\n").expect("a request");
            stream.read_to_end(&mut Vec::new()).err().map(|error| error.kind())
        });
        assert_eq!(ended.await.expect("it does not panic"), expected, "{action}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_undo_its_request() {
    let fixture = Fixture::new().await;
    fixture.fault("deploy", "before", json!({"delay_ms": 300}));
    let hasty = tokio::time::timeout(Duration::from_millis(100), fixture.deploy("x")).await;
    assert!(hasty.is_err());
    assert!(fixture.simulator.ledger().is_empty());
    let accepted = async {
        while fixture.simulator.ledger().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), accepted).await.expect("it takes effect later");
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_not_accepted() {
    let fixture = Fixture::new().await;
    let address = fixture.simulator.address;
    let cut = move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let head = "authorization: Token demo-token\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 9999";
        let part = "--b\r\ncontent-disposition: form-data; name=\"zip_file\"; filename=\"app.zip\"\r\n\r\nPK";
        write!(stream, "POST /cloud/api/v1/spaces/{UAT}/deploy HTTP/1.1\r\n{head}\r\n\r\n{part}").expect("a request");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        stream.read_to_end(&mut Vec::new()).ok();
    };
    tokio::task::spawn_blocking(cut).await.expect("it does not panic");
    assert!(fixture.simulator.ledger().is_empty());
    assert_eq!(fixture.simulator.requests()["by_operation"]["deploy"], 1);
}

#[tokio::test]
async fn the_control_api_refuses_what_it_does_not_know() {
    let fixture = Fixture::new().await;
    for (method, path, body, says) in [
        ("PATCH", "readings", json!({"no_such": 1}), "last_deployed_at_moves"),
        ("PATCH", "readings", json!({"busy_policy": "perhaps"}), "refuse_423"),
        ("PATCH", "readings", json!({"foreign_object": 418}), "403 or 404"),
        ("PATCH", "readings", json!({"read_lag_seconds": -1}), "0 or more"),
        ("POST", "faults", json!({"operation": "deploy", "action": "drop", "sometimes": 1}), "after_skip"),
        ("POST", "faults", json!({"operation": "undeploy", "action": "drop"}), "promote"),
        ("POST", "faults", json!({"operation": "deploy", "action": "explode"}), "truncate"),
        ("POST", "faults", json!({"operation": "deploy", "when": "before", "action": "truncate"}), "after"),
        ("POST", "faults", json!({"operation": "deploy", "action": {"status": 99}}), "200 to 599"),
        ("POST", "clock", json!({"advance": 1}), "advance_seconds"),
        ("PATCH", &format!("spaces/{UAT}"), json!({"state": "x"}), "last_deployment_status"),
        ("PATCH", "spaces/1", json!({}), "no Space `1`"),
        ("PATCH", "jobs/1", json!({}), "no job `1`"),
        ("PATCH", "job-defaults", json!({"outcome": "maybe"}), "never"),
        ("POST", "tenants", json!({"name": "x", "token": "y"}), "tokens"),
        ("GET", "ledger?spaces=1", json!(null), "`space`"),
        ("GET", "nothing", json!(null), "/_sim/readings"),
    ] {
        let error = fixture.simulator.control(method, path, body.clone()).expect_err("it is refused");
        assert!(error.message.contains(says), "{method} {path} {body}: {}", error.message);
    }
    let url = format!("{}/_sim/readings", fixture.simulator.base_url);
    let response = fixture.client.patch(&url).body("{").send().await.expect("an answer");
    assert_eq!(response.status(), 400);
    let readings: Value = fixture.client.get(&url).send().await.expect("an answer").json().await.expect("JSON");
    let values = readings["readings"].as_object().expect("readings");
    assert_eq!(readings["allowed"].as_object().expect("their meaning").len(), values.len());
    for (name, allowed) in readings["allowed"].as_object().expect("their meaning") {
        assert_eq!(allowed["default"], values[name], "{name}");
        assert!(allowed["about"].as_str().is_some_and(|about| about.starts_with("Question")), "{name}");
        let values = &allowed["values"];
        assert!(values.is_string() || values.as_object().is_some_and(|values| values.len() > 1), "{name}: {values}");
    }
}

#[tokio::test]
async fn objects_are_changed_from_outside() {
    let fixture = Fixture::new().await;
    let path = format!("spaces/{UAT}");
    fixture.control(
        "PATCH",
        &path,
        json!({"status": "error", "last_deployed_at": "yesterday", "last_deployment_status": "odd"}),
    );
    assert_eq!(fixture.pair(UAT).await, (json!("yesterday"), json!("odd")));
    fixture.control(
        "PATCH",
        &path,
        json!({"last_deployed_at": null, "human_deploy": {"display_name": "hotfix", "job": {"seconds": 0}}}),
    );
    assert_eq!((fixture.running(UAT), fixture.pair(UAT).await.1), (json!("hotfix"), json!("success")));
    assert_eq!(fixture.control("GET", &format!("ledger?space={UAT}"), json!(null))[0]["by"], "person");
    assert_eq!(fixture.control("GET", &format!("ledger?space={PRODUCTION}"), json!(null)), json!([]));

    fixture.control("PATCH", &path, json!({"job": {"seconds": 1, "messages": ["a", "b"], "outcome": "never"}}));
    let job = id(&fixture.deployed("x").await, "job_id");
    let change = json!({"status": "cancelled", "append_log": [{"level": "warning", "message": "\u{1b}[31m"}, 5], "append_lines": {"count": 2, "bytes": 9}});
    fixture.control("PATCH", &format!("jobs/{job}"), change);
    let (_, body) = fixture.get(&format!("jobs/{job}")).await;
    assert_eq!(
        (&body["status"], &body["log"][1]["message"], &body["log"][3]),
        (&json!("cancelled"), &json!("b"), &json!(5))
    );
    assert_eq!(body["log"][5]["message"], "x".repeat(9));
    fixture.control("PATCH", &format!("jobs/{job}"), json!({"hidden": true}));
    assert_eq!(fixture.get(&format!("jobs/{job}")).await.0, 404);
    fixture.control("PATCH", &format!("jobs/{job}"), json!({"hidden": false, "status": null, "finish": "success"}));
    assert_eq!(fixture.get(&format!("jobs/{job}")).await.1["status"], "success");
    assert_eq!(fixture.running(UAT), "x");

    fixture.control("PATCH", "tenants/demo", json!({"tokens": ["rotated"]}));
    assert_eq!(fixture.send(Method::GET, &path, "demo-token").await.status(), 401);
    assert_eq!(fixture.send(Method::GET, &path, "rotated").await.status(), 200);
    let requests = fixture.control("GET", "requests", json!(null));
    assert_eq!(requests["by_object"][UAT]["get_space"], 4);
    assert_eq!((&requests["by_object"][UAT]["deploy"], &requests["posts"][0]["status"]), (&json!(1), &json!(201)));
    assert!(requests["posts"][0]["arrived_ms"].as_f64() <= requests["posts"][0]["read_ms"].as_f64());
    assert_eq!(fixture.control("DELETE", "requests", json!(null))["posts"], json!([]));
    fixture.control("POST", "reset", json!(null));
    assert!(fixture.simulator.ledger().is_empty());
    assert_eq!(fixture.get(&path).await.1["last_deployed_at"], json!(null));
}

#[tokio::test]
async fn the_clock_stands_still_and_goes_on() {
    let fixture = Fixture::new().await;
    let now = || fixture.control("GET", "clock", json!(null))["now"].as_str().map(str::to_owned);
    let before = now();
    assert_eq!(now(), before);
    fixture.control("PATCH", "job-defaults", json!({"seconds": 0.05}));
    fixture.deploy("x").await;
    fixture.control("POST", "clock", json!({"frozen": false}));
    let ended = async {
        while fixture.running(UAT) != "x" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("real time ends the job");
}

#[test]
fn seeds_are_json_or_yaml_and_strict() {
    let yaml = "tenants:\n- name: a\n  tokens: [t]\n  computers:\n  - name: c\n    webapps:\n    - name: w\n      uat: {id: \"5\", status: stopped}\nreadings: {webapp_in_detail: no}\njob: {seconds: 1}\n";
    Seed::parse(yaml).expect("YAML");
    Seed::parse(r#"{"tenants": [{"name": "a", "tokens": ["t"]}]}"#).expect("JSON");
    let error = Seed::parse("tenants: [{name: a, token: t}]").expect_err("an unknown key");
    assert!(error.contains("token"), "{error}");
}

#[tokio::test]
async fn a_seed_that_contradicts_itself_is_refused() {
    for seed in [
        "readings: {no_such: 1}",
        "tenants: [{name: a, computers: [{name: c, webapps: [{name: w}, {name: w}]}]}]",
        "tenants: [{name: a, computers: [{name: c, id: '1'}, {name: d, id: '1'}]}]",
    ] {
        let options = Options { seed: Seed::parse(seed).expect("a seed"), ..Options::default() };
        assert!(Simulator::start(options).await.is_err(), "{seed}");
    }
}

/// The program, stopped at the end of the test whatever happens.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Program {
    fn start(arguments: &[&str]) -> (Self, BufReader<std::process::ChildStdout>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_konigle-sim"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        (Self(child), stdout)
    }
}

#[tokio::test]
async fn the_program_prints_its_address_takes_a_large_upload_in_little_memory_and_stops_on_sigterm() {
    let (mut program, mut stdout) = Program::start(&["--listen", "127.0.0.1:0", "--job-seconds", "0"]);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("its first line");
    let base = line.trim().strip_prefix("konigle-sim listening on ").expect("the address").to_owned();
    let client = Client::builder().no_proxy().build().expect("a client");
    let url = format!("{base}/_sim/readings");
    client.patch(url).json(&json!({"zip_check": "accept"})).send().await.expect("an answer");
    let pieces = futures::stream::iter((0..96).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 1 << 20])));
    let file = Part::stream_with_length(reqwest::Body::wrap_stream(pieces), 96 << 20).file_name("app.zip");
    let request = client.post(format!("{base}/cloud/api/v1/spaces/{UAT}/deploy"));
    let request = request.header(AUTHORIZATION, "Token demo-token").multipart(Form::new().part("zip_file", file));
    assert_eq!(request.send().await.expect("an answer").status(), 201);
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", program.0.id())) {
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).expect("a peak");
        assert!(peak.parse::<u64>().expect("a number") < 64 << 10, "{peak} kB at the most");
    }
    let terminated = Command::new("kill").arg(program.0.id().to_string()).status().expect("kill runs");
    assert!(terminated.success());
    let ended = tokio::task::spawn_blocking(move || program.0.wait().expect("it ends").success());
    assert!(tokio::time::timeout(Duration::from_secs(20), ended).await.expect("in time").expect("no panic"));
}

#[test]
fn the_program_does_not_listen_to_other_machines_unasked() {
    let (mut program, _) = Program::start(&["--listen", "0.0.0.0:0"]);
    assert!(!program.0.wait().expect("it ends").success());
}
