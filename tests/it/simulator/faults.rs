//! Faults, and connections that end in the middle of a request.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, LOCATION};
use reqwest::{Client, Method};
use serde_json::json;

use super::{Fixture, PRODUCTION, UAT, archive, id};

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
            fixture.fault("deploy", when, &action);
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
    fixture.fault("get_space", "after", &json!({"set": {"status": "hibernating", "custom_domain": null}}));
    fixture.fault("get_space", "after", &json!({"remove": ["webapp"]}));
    let (_, space) = fixture.get(&path).await;
    assert_eq!(
        (&space["status"], &space["custom_domain"], space.get("webapp")),
        (&json!("hibernating"), &json!(null), None)
    );
    fixture.fault("get_space", "after", &json!("truncate"));
    let response = fixture.send(Method::GET, &path, "demo-token").await;
    assert_eq!(response.status(), 200);
    assert!(response.bytes().await.is_err(), "the body is cut off");
    fixture.fault("get_space", "after", &json!({"drip_ms": 1}));
    assert_eq!(fixture.get(&path).await.0, 200);
    fixture.fault("get_space", "after", &json!({"answer": {"status": 307, "location": "/elsewhere"}}));
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let url = format!("{}/cloud/api/v1/{path}", fixture.simulator.base_url);
    let response = client.get(url).header(AUTHORIZATION, "Token demo-token").send().await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()[LOCATION]),
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
    for (action, expected) in [("drop", None), ("reset", Some(ErrorKind::ConnectionReset))] {
        fixture.fault("get_space", "before", &json!(action));
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
    fixture.fault("deploy", "before", &json!({"delay_ms": 300}));
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
        stream.shutdown(Shutdown::Write).expect("the end");
        stream.read_to_end(&mut Vec::new()).ok();
    };
    tokio::task::spawn_blocking(cut).await.expect("it does not panic");
    assert!(fixture.simulator.ledger().is_empty());
    assert_eq!(fixture.simulator.requests()["by_operation"]["deploy"], 1);
}
