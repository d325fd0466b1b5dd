//! `/_sim/`: the control API, also reachable without HTTP. Unknown keys and values are errors that list what is allowed.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::App;
use super::faults::Fault;
use super::jobs::{JobSettings, log_entry};
use super::releases::Upload;
use super::seed::TenantSeed;
use super::state::{Refusal, Space, Stamp, World, seconds};

/// The longest body of the control API, in bytes.
const BODY_LIMIT: usize = 256 << 20;

/// Every endpoint with what it does, for `GET /_sim/` and `konigle-sim --help`.
pub const ENDPOINTS: &[(&str, &str)] = &[
    ("GET /_sim/readings", "how the server answers what nobody knows: values, allowed values, meanings"),
    ("PATCH /_sim/readings", "changes readings: {\"last_deployed_at_moves\": \"accept\"}; PUT resets the others"),
    (
        "GET|POST|DELETE /_sim/faults",
        "adds: {\"operation\": \"deploy\", \"when\": \"after\", \"times\": 1, \"after_skip\": 0, \"action\": \"drop\"}",
    ),
    ("GET|POST /_sim/clock", "moves the clock of jobs: {\"advance_seconds\": 60, \"frozen\": true}"),
    ("GET /_sim/ledger?space=ID", "every accepted write"),
    ("GET /_sim/spaces", "every Space, and what runs in it"),
    ("GET|PATCH /_sim/spaces/ID", "changes it from outside, deploys as a person, sets how its jobs go"),
    ("GET /_sim/jobs", "every job"),
    ("GET|PATCH /_sim/jobs/ID", "ends it, puts a word in place of its status, appends to its log, hides it"),
    ("GET|PATCH /_sim/job-defaults", "how jobs go: {\"seconds\": 6, \"outcome\": \"failed\"}"),
    ("GET|POST /_sim/tenants", "adds tenants, tokens and objects, in the form of a seed file"),
    ("PATCH /_sim/tenants/NAME", "replaces its tokens: {\"tokens\": [\"new\"]}"),
    ("GET|DELETE /_sim/requests", "how often what was asked for, and when each POST came"),
    ("POST /_sim/reset", "back to the seed"),
];

/// Answers one request of the control API.
pub(super) async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().trim_start_matches("/_sim").trim_matches('/').to_owned();
    let result = match to_bytes(body, BODY_LIMIT).await {
        Ok(bytes) if bytes.is_empty() => handle(&app, &parts.method, &path, parts.uri.query(), Value::Null),
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(body) => handle(&app, &parts.method, &path, parts.uri.query(), body),
            Err(error) => Err(Refusal::new(400, format!("the body is not valid JSON: {error}"))),
        },
        Err(error) => Err(Refusal::new(400, error.to_string())),
    };
    let (status, body) = match result {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
            (status, json!({"error": refusal.message}))
        }
    };
    let mut response = Response::new(Body::from(format!("{body:#}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Carries out one request of the control API. `path` is what follows `/_sim/`, without a query.
pub(super) fn handle(
    app: &App,
    method: &Method,
    path: &str,
    query: Option<&str>,
    body: Value,
) -> Result<Value, Refusal> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let mut world = app.world();
    match (method.as_str(), &segments[..]) {
        ("GET", []) => Ok(json!(ENDPOINTS.iter().copied().collect::<std::collections::BTreeMap<_, _>>())),
        (_, ["readings"]) => world.control_readings(method, body),
        (_, ["faults"]) => world.control_faults(method, body),
        (_, ["clock"]) => world.control_clock(method, body),
        ("GET", ["ledger"]) => world.control_ledger(query),
        ("GET", ["spaces"]) => Ok(world.spaces.values().map(|space| world.control_space_view(space)).collect()),
        (_, ["spaces", id]) => world.control_space(method, id, body),
        ("GET", ["jobs"]) => {
            let mut jobs: Vec<_> = world.jobs.values().map(|job| &job.identity).collect();
            jobs.sort_by_key(|identity| identity.number);
            let ids: Vec<String> = jobs.into_iter().map(|identity| identity.id.clone()).collect();
            ids.iter().map(|id| world.control_job_view(id)).collect()
        }
        (_, ["jobs", id]) => world.control_job(method, id, body),
        ("GET", ["job-defaults"]) => Ok(json!(world.job_defaults)),
        ("PATCH", ["job-defaults"]) => {
            world.job_defaults = parse::<JobSettings>(body)?.or(&world.job_defaults);
            Ok(json!(world.job_defaults))
        }
        ("GET", ["tenants"]) => Ok(world.tenants_view()),
        ("POST", ["tenants"]) => {
            world.add_tenant(parse::<TenantSeed>(body)?)?;
            Ok(world.tenants_view())
        }
        ("PATCH", ["tenants", name]) => world.control_tokens(name, body),
        ("GET", ["requests"]) => Ok(json!(world.requests)),
        ("DELETE", ["requests"]) => {
            world.requests = super::requests::Requests::default();
            Ok(json!(world.requests))
        }
        ("POST", ["reset"]) => {
            *world = app.fresh_world()?;
            Ok(json!({}))
        }
        _ => Err(unknown(method, path)),
    }
}

fn unknown(method: &Method, path: &str) -> Refusal {
    let endpoints: Vec<&str> = ENDPOINTS.iter().map(|(endpoint, _)| *endpoint).collect();
    Refusal::new(404, format!("no {method} /_sim/{path}; there are: {}", endpoints.join(", ")))
}

fn parse<T: DeserializeOwned>(body: Value) -> Result<T, Refusal> {
    serde_json::from_value(body).map_err(|error| Refusal::new(400, error.to_string()))
}

/// A change of a field that may be null: an absent key keeps it.
#[derive(Default)]
enum Change {
    #[default]
    Keep,
    To(Option<String>),
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::To)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    advance_seconds: Option<f64>,
    frozen: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensChange {
    tokens: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SpaceChange {
    status: Option<String>,
    platform_domain: Option<String>,
    custom_domain: Option<String>,
    custom_domain_status: Option<String>,
    #[serde(default)]
    last_deployed_at: Change,
    #[serde(default)]
    last_deployment_status: Change,
    /// How jobs of this Space go, instead of what was set before.
    job: Option<JobSettings>,
    /// How its next jobs go, one each.
    next_jobs: Option<Vec<JobSettings>>,
    /// Deploys now, as a person in Konigle's console.
    human_deploy: Option<HumanDeploy>,
    /// Adds so many jobs that have ended, and that nothing but the list of jobs shows.
    #[serde(default)]
    ended_jobs: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HumanDeploy {
    sha256: Option<String>,
    #[serde(default)]
    size: u64,
    display_name: Option<String>,
    #[serde(default)]
    job: JobSettings,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobChange {
    /// Ends the job now.
    finish: Option<Ending>,
    /// The last line of a job that is ended as failed.
    error: Option<String>,
    /// A word in place of the job's status; null takes it away.
    #[serde(default)]
    status: Change,
    /// Whether it answers 404.
    hidden: Option<bool>,
    /// Any JSON, put at the end of the log.
    #[serde(default)]
    append_log: Vec<Value>,
    append_lines: Option<Lines>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Ending {
    Success,
    Failed,
}

/// Many or long log lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    count: usize,
    /// The length of each line.
    bytes: usize,
}

impl World {
    fn control_readings(&mut self, method: &Method, body: Value) -> Result<Value, Refusal> {
        let mut readings = match method.as_str() {
            "GET" => return Ok(self.readings.describe()),
            "PATCH" => self.readings.clone(),
            "PUT" => super::readings::Readings::default(),
            _ => return Err(unknown(method, "readings")),
        };
        readings.change(parse::<Map<String, Value>>(body)?).map_err(|error| Refusal::new(400, error))?;
        self.readings = readings;
        Ok(json!(self.readings))
    }

    fn control_faults(&mut self, method: &Method, body: Value) -> Result<Value, Refusal> {
        match method.as_str() {
            "GET" => {}
            "POST" => self.faults.push(parse::<Fault>(body)?.checked().map_err(|error| Refusal::new(400, error))?),
            "DELETE" => self.faults.clear(),
            _ => return Err(unknown(method, "faults")),
        }
        Ok(json!(self.faults))
    }

    fn control_clock(&mut self, method: &Method, body: Value) -> Result<Value, Refusal> {
        match method.as_str() {
            "GET" => {}
            "POST" => {
                let real = super::machine_time();
                let change: ClockChange = parse(body)?;
                match change.frozen {
                    Some(true) => self.clock.freeze(real),
                    Some(false) => self.clock.resume(real),
                    None => {}
                }
                self.clock.advance(seconds(change.advance_seconds.unwrap_or_default()));
                self.settle(real);
            }
            _ => return Err(unknown(method, "clock")),
        }
        Ok(json!({"now": self.timestamp(), "frozen": self.clock.is_frozen()}))
    }

    fn control_ledger(&self, query: Option<&str>) -> Result<Value, Refusal> {
        let mut space = None;
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "space" => space = Some(value.into_owned()),
                _ => return Err(Refusal::new(400, format!("unknown parameter `{key}`, expected `space`"))),
            }
        }
        let entries = self.ledger.iter().filter(|entry| space.is_none() || entry.space == space);
        Ok(entries.map(|entry| json!(entry)).collect())
    }

    fn control_tokens(&mut self, name: &str, body: Value) -> Result<Value, Refusal> {
        let tokens = parse::<TokensChange>(body)?.tokens;
        self.tokens.retain(|_, tenant| tenant != name);
        self.tokens.extend(tokens.into_iter().map(|token| (token, name.to_owned())));
        Ok(self.tenants_view())
    }

    fn control_space(&mut self, method: &Method, id: &str, body: Value) -> Result<Value, Refusal> {
        let now = self.now;
        let space = self.spaces.get_mut(id).ok_or_else(|| Refusal::new(404, format!("no Space `{id}`")))?;
        match method.as_str() {
            "GET" => {}
            "PATCH" => {
                let change: SpaceChange = parse(body)?;
                space.job = change.job.unwrap_or_else(|| space.job.clone());
                if let Some(next_jobs) = change.next_jobs {
                    space.next_jobs = next_jobs.into();
                }
                space.change(now, |shown| {
                    let texts = [
                        (&mut shown.status, change.status),
                        (&mut shown.platform_domain, change.platform_domain),
                        (&mut shown.custom_domain, change.custom_domain),
                        (&mut shown.custom_domain_status, change.custom_domain_status),
                    ];
                    for (field, value) in texts {
                        *field = value.unwrap_or_else(|| std::mem::take(field));
                    }
                    if let Change::To(time) = change.last_deployed_at {
                        shown.last_deployed_at = time.map(Stamp::parse);
                    }
                    if let Change::To(word) = change.last_deployment_status {
                        shown.last_deployment_status = word;
                    }
                });
                if let Some(deploy) = change.human_deploy {
                    space.next_jobs.push_front(deploy.job);
                    let upload = Upload {
                        display_name: deploy.display_name,
                        sha256: deploy.sha256.unwrap_or_else(|| "f".repeat(64)),
                        size: deploy.size,
                        defect: None,
                    };
                    self.deploy_by_person(id, upload)?;
                }
                self.add_ended_jobs(id, change.ended_jobs);
            }
            _ => return Err(unknown(method, "spaces")),
        }
        let space = self.spaces.get(id).ok_or_else(Refusal::not_found)?;
        Ok(self.control_space_view(space))
    }

    fn control_space_view(&self, space: &Space) -> Value {
        let mut view = self.space_view(space);
        let names = self.webapp_of(space).map(|(webapp, computer)| (&webapp.name, &computer.name));
        let active = |job: &&super::jobs::Job| {
            job.completed.is_none() && job.release().is_some_and(|release| release.space == space.identity.id)
        };
        view["tenant"] = json!(space.identity.tenant);
        view["webapp_name"] = json!(names.map(|(webapp, _)| webapp));
        view["computer_name"] = json!(names.map(|(_, computer)| computer));
        view["running"] = json!(space.running);
        view["active_jobs"] = self.jobs.values().filter(active).map(|job| json!(job.identity.id)).collect();
        view["job"] = json!(space.job);
        view["next_jobs"] = json!(space.next_jobs);
        view
    }

    fn control_job(&mut self, method: &Method, id: &str, body: Value) -> Result<Value, Refusal> {
        let now = self.now;
        match (method.as_str(), self.jobs.get_mut(id)) {
            (_, None) => return Err(Refusal::new(404, format!("no job `{id}`"))),
            ("GET", Some(_)) => {}
            ("PATCH", Some(job)) => {
                let change: JobChange = parse(body)?;
                job.write_log(now);
                job.log.extend(change.append_log);
                if let Some(lines) = change.append_lines {
                    job.log.extend((0..lines.count).map(|_| log_entry("info", &"x".repeat(lines.bytes))));
                }
                job.hidden = change.hidden.unwrap_or(job.hidden);
                if let Change::To(word) = change.status {
                    job.word = word;
                }
                match change.finish {
                    Some(Ending::Success) => self.finish(id, None),
                    Some(Ending::Failed) => {
                        let error = change.error.unwrap_or_else(|| "Stopped by an administrator.".to_owned());
                        self.finish(id, Some(error));
                    }
                    None => {}
                }
            }
            (_, Some(_)) => return Err(unknown(method, "jobs")),
        }
        self.control_job_view(id)
    }

    fn control_job_view(&mut self, id: &str) -> Result<Value, Refusal> {
        let now = self.now;
        let job = self.jobs.get_mut(id).ok_or_else(Refusal::not_found)?;
        job.write_log(now);
        let job = self.jobs.get(id).ok_or_else(Refusal::not_found)?;
        let mut view = self.job_view(job);
        view["tenant"] = json!(job.identity.tenant);
        view["space"] = json!(job.release().map(|release| &release.space));
        view["source"] = json!(job.release().map(|release| &release.source));
        view["queued"] = json!(job.queued);
        view["hidden"] = json!(job.hidden);
        Ok(view)
    }
}
