//! The simulator over HTTP: its readings, faults and control API, as raw requests. No client of the operator's here.
//!
//! The clock of most tests stands still and is moved by hand, so that nothing waits and nothing depends on speed.

#![expect(clippy::expect_used, reason = "a test fails by a panic")]

use std::io::{Cursor, Write};

use konigle_operator::sim::{Options, Simulator};
use reqwest::header::AUTHORIZATION;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

mod control;
mod faults;
mod program;
mod readings;

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

    fn fault(&self, operation: &str, when: &str, action: &Value) {
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

    fn next_job(&self, space: &str, settings: &Value) {
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
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).expect("an entry");
        writer.write_all(text.as_bytes()).expect("memory");
    }
    writer.finish().expect("a ZIP").into_inner()
}

fn id(body: &Value, key: &str) -> String {
    body[key].as_str().expect("an id").to_owned()
}
