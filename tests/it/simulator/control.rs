//! The control API, the clock and the seeds.

use std::time::Duration;

use konigle_operator::sim::{Options, Seed, Simulator};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Fixture, PRODUCTION, UAT, id};

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

#[tokio::test]
async fn a_dropped_simulator_takes_no_more_connections() {
    let Fixture { simulator, client: _ } = Fixture::new().await;
    let address = simulator.address;
    drop(simulator);
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("its port is closed");
}
