//! `/cloud/api/v1`: from a request to its answer, with the faults that meet it on the way.
//!
//! Absent: what a write does (`releases`, `state`) and how objects look (`views`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream;
use serde_json::{Value, json};

use super::App;
use super::faults::{Action, Answer, Fault, Operation, When};
use super::listener::Connection;
use super::readings::{JobList, RetryAfterIn};
use super::releases::Upload;
use super::state::{Refusal, World};
use super::upload::{self, SizeLimit};
use super::views::{Query, render};

/// The longest JSON body that is read, in bytes.
const JSON_LIMIT: usize = 1 << 20;

/// A request whose head was read.
struct Call {
    operation: Operation,
    /// The id in its path.
    id: Option<String>,
    authorization: Option<String>,
    query: Query,
    /// Its place among the counted POSTs.
    post: Option<usize>,
    faults: Vec<Fault>,
    connection: Connection,
}

/// A body that was read.
enum Input {
    Nothing,
    Json(Value),
    Upload(Upload),
}

/// An answer before it is written.
struct Reply {
    status: u16,
    headers: Vec<(HeaderName, String)>,
    body: Content,
    delivery: Delivery,
}

enum Content {
    Json(Value),
    Bytes(&'static str, Vec<u8>),
}

enum Delivery {
    Whole,
    Half,
    Drip(Duration),
}

/// Answers one request of the simulated API.
pub(super) async fn serve(
    State(app): State<Arc<App>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let (operation, id) = match route(request.method(), request.uri().path()) {
        Ok((operation, id)) => (operation, id.map(str::to_owned)),
        Err(refusal) => return app.world().refuse(&refusal).into_response(),
    };
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let query = query(request.uri(), request.headers(), app.options.public_url.as_deref());
    let (post, faults, limit) = app.world().arrive(operation, id.as_deref());
    let call = Call { operation, id, authorization, query, post, faults, connection };
    let input = match call.interrupt(&app, When::Headers).await {
        Some(reply) => return call.finish(&app, reply),
        None => read(request, call.operation, limit).await,
    };
    let display_name = match &input {
        Ok(Input::Upload(upload)) => upload.display_name.clone(),
        _ => None,
    };
    app.world().requests.body_read(call.post, super::machine_time(), display_name);
    // A client that hangs up from here on does not undo its request: the rest goes on without its connection.
    let rest = tokio::spawn(async move {
        let reply = call.answer(&app, input).await;
        call.finish(&app, reply)
    });
    rest.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The operation that a method and path name, with the id in the path.
fn route<'path>(method: &Method, path: &'path str) -> Result<(Operation, Option<&'path str>), Refusal> {
    use Operation::{
        CheckNameAvailability, CreateComputer, CreateWebapp, Deploy, GetComputer, GetJob, GetSpace, GetWebapp,
        ListComputers, ListJobs, ListSpaces, ListWebapps, Promote,
    };
    let path = path.strip_prefix("/cloud/api/v1/").ok_or_else(Refusal::not_found)?;
    let segments: Vec<&str> = path.split('/').collect();
    let (get, post, id) = match segments[..] {
        ["computers"] => (Some(ListComputers), Some(CreateComputer), None),
        ["computers", id] => (Some(GetComputer), None, Some(id)),
        ["webapps"] => (Some(ListWebapps), Some(CreateWebapp), None),
        ["webapps", "check-name-availability"] => (Some(CheckNameAvailability), None, None),
        ["webapps", id] => (Some(GetWebapp), None, Some(id)),
        ["spaces"] => (Some(ListSpaces), None, None),
        ["spaces", id] => (Some(GetSpace), None, Some(id)),
        ["spaces", id, "deploy"] => (None, Some(Deploy), Some(id)),
        ["spaces", id, "promote"] => (None, Some(Promote), Some(id)),
        ["jobs"] => (Some(ListJobs), None, None),
        ["jobs", id] => (Some(GetJob), None, Some(id)),
        _ => return Err(Refusal::not_found()),
    };
    let operation = match *method {
        Method::GET => get,
        Method::POST => post,
        _ => None,
    };
    let operation = operation.ok_or_else(|| Refusal::new(405, format!("Method \"{method}\" not allowed.")))?;
    Ok((operation, id))
}

fn query(uri: &Uri, headers: &HeaderMap, public_url: Option<&str>) -> Query {
    let text = uri.query().unwrap_or_default();
    let parameters = url::form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let base = public_url.map_or_else(|| format!("http://{host}"), |url| url.trim_end_matches('/').to_owned());
    Query { parameters, url: format!("{base}{}", uri.path()) }
}

async fn read(request: Request, operation: Operation, limit: SizeLimit) -> Result<Input, Refusal> {
    match operation {
        Operation::Deploy => upload::receive(request, limit).await.map(Input::Upload),
        Operation::CreateComputer | Operation::CreateWebapp => {
            let broken = || Refusal::new(400, "JSON parse error.");
            let bytes = to_bytes(request.into_body(), JSON_LIMIT).await.map_err(|_| broken())?;
            serde_json::from_slice(&bytes).map(Input::Json).map_err(|_| broken())
        }
        _ => match to_bytes(request.into_body(), JSON_LIMIT).await {
            Ok(_) => Ok(Input::Nothing),
            Err(_) => Err(Refusal::new(400, "The body could not be read.")),
        },
    }
}

impl Call {
    /// Carries out the faults of a moment. An answer here stands in place of the true one.
    async fn interrupt(&self, app: &App, when: When) -> Option<Reply> {
        let mut reply = None;
        for fault in self.faults.iter().filter(|fault| fault.when == Some(when)) {
            if let Some(delay) = fault.delay() {
                tokio::time::sleep(delay).await;
            }
            reply = reply.or(match &fault.action {
                Action::Status(status) => Some(app.world().refuse(&Refusal::new(*status, reason(*status)))),
                Action::Answer(answer) => Some(app.world().made_up(answer)),
                Action::Drop => {
                    self.connection.close();
                    Some(Reply::json(502, json!({})))
                }
                Action::Reset => {
                    self.connection.reset();
                    Some(Reply::json(502, json!({})))
                }
                Action::Html => Some(Reply::bytes("text/html", b"<!doctype html><title>Maintenance</title>")),
                Action::Garbage => Some(Reply::bytes("application/json", b"\xff\xfe{\"id\":\x00\xc3\x28")),
                Action::DelayMs(_)
                | Action::Truncate
                | Action::Latin1
                | Action::DripMs(_)
                | Action::Set(_)
                | Action::Remove(_) => None,
            });
        }
        reply
    }

    /// Lets the request take effect, and answers it.
    async fn answer(&self, app: &App, input: Result<Input, Refusal>) -> Reply {
        if let Some(reply) = self.interrupt(app, When::Before).await {
            return reply;
        }
        let mut reply = {
            let mut world = app.world();
            match self.take_effect(&mut world, input) {
                Ok(body) => {
                    world.requests.accepted(self.post, body["job_id"].as_str());
                    Reply::json(if self.post.is_some() { world.readings.post_success_code } else { 200 }, body)
                }
                Err(refusal) => world.refuse(&refusal),
            }
        };
        if let Some(other) = self.interrupt(app, When::After).await {
            return other;
        }
        for fault in &self.faults {
            reply.change(&fault.action);
        }
        reply
    }

    fn take_effect(&self, world: &mut World, input: Result<Input, Refusal>) -> Result<Value, Refusal> {
        let tenant = world.authenticate(self.authorization.as_deref())?;
        world.check_rate(&tenant)?;
        let (query, id) = (&self.query, self.id.as_deref().unwrap_or_default());
        match (self.operation, input?) {
            (Operation::ListComputers, _) => world.list_computers(&tenant, query),
            (Operation::GetComputer, _) => world.own(&world.computers, &tenant, id).map(|it| world.computer_view(it)),
            (Operation::CreateComputer, Input::Json(body)) => {
                let (id, job) = world.create_computer(&tenant, &body)?;
                let computer = world.own(&world.computers, &tenant, &id)?;
                Ok(json!({"computer": world.computer_view(computer), "job_id": job}))
            }
            (Operation::ListWebapps, _) => world.list_webapps(&tenant, query),
            (Operation::GetWebapp, _) => world.own(&world.webapps, &tenant, id).map(|it| world.webapp_view(it)),
            (Operation::CreateWebapp, Input::Json(body)) => {
                let (id, job) = world.create_webapp(&tenant, &body)?;
                let webapp = world.own(&world.webapps, &tenant, &id)?;
                Ok(json!({"webapp": world.webapp_view(webapp), "job_id": job}))
            }
            (Operation::CheckNameAvailability, _) => {
                let name = query.get("name").ok_or_else(|| Refusal::new(400, "name: This parameter is required."))?;
                Ok(json!({"available": world.name_is_available(name)}))
            }
            (Operation::ListSpaces, _) => world.list_spaces(&tenant, query),
            (Operation::GetSpace, _) => world.own(&world.spaces, &tenant, id).map(|it| world.space_detail(it)),
            (Operation::Deploy, Input::Upload(upload)) => {
                world.deploy(&tenant, id, upload).map(|accepted| world.deployment_view(&accepted))
            }
            (Operation::Promote, _) => world.promote(&tenant, id).map(|accepted| world.deployment_view(&accepted)),
            (Operation::GetJob, _) => world.read_job(&tenant, id),
            (Operation::ListJobs, _) if world.readings.job_list == JobList::Served => world.list_jobs(&tenant, query),
            (Operation::ListJobs | Operation::Any, _) => Err(Refusal::not_found()),
            (Operation::CreateComputer | Operation::CreateWebapp | Operation::Deploy, _) => {
                Err(Refusal::new(400, "The body is missing."))
            }
        }
    }

    fn finish(&self, app: &App, reply: Reply) -> Response {
        app.world().requests.answered(self.post, reply.status);
        let (operation, id, status) = (self.operation, self.id.as_deref().unwrap_or_default(), reply.status);
        if operation.is_write() {
            tracing::info!(?operation, id, status, "answered");
        } else {
            tracing::debug!(?operation, id, status, "answered");
        }
        reply.into_response()
    }
}

impl World {
    /// Counts a request, and takes the faults that meet it.
    fn arrive(&mut self, operation: Operation, id: Option<&str>) -> (Option<usize>, Vec<Fault>, SizeLimit) {
        let post = self.requests.arrive(operation, id, super::machine_time());
        let job = id.filter(|_| operation == Operation::GetJob).and_then(|id| self.jobs.get(id));
        let space = job.and_then(|job| job.release()).map(|release| release.space.as_str());
        let ids: Vec<&str> = id.into_iter().chain(space).collect();
        let faults =
            self.faults.iter_mut().filter_map(|fault| fault.meets(operation, &ids).then(|| fault.clone())).collect();
        self.faults.retain(|fault| fault.times != Some(0));
        let limit = SizeLimit { bytes: self.readings.zip_limit_bytes, answer: self.readings.oversize_answer };
        (post, faults, limit)
    }

    fn check_rate(&mut self, tenant: &str) -> Result<(), Refusal> {
        if self.requests.within_limit(tenant, self.readings.rate_limit_per_minute, self.now) {
            return Ok(());
        }
        let retry_after = Some(self.readings.retry_after_seconds);
        Err(Refusal { retry_after, ..Refusal::new(429, "Request was throttled.") })
    }

    fn read_job(&mut self, tenant: &str, id: &str) -> Result<Value, Refusal> {
        let now = self.now;
        if let Some(job) = self.jobs.get_mut(id) {
            job.write_log(now);
        }
        let job = self.own(&self.jobs, tenant, id)?;
        if self.is_readable(job) { Ok(self.job_view(job)) } else { Err(Refusal::not_found()) }
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let places = self.readings.retry_after_in;
        let in_body = refusal.retry_after.filter(|_| matches!(places, RetryAfterIn::Body | RetryAfterIn::Both));
        let in_header = refusal.retry_after.filter(|_| matches!(places, RetryAfterIn::Header | RetryAfterIn::Both));
        let body = self.error_body(refusal.status, &refusal.message, in_body.map(|seconds| json!(seconds)).as_ref());
        let mut reply = Reply::json(refusal.status, body);
        reply.headers.extend(in_header.map(|seconds| (RETRY_AFTER, seconds.to_string())));
        reply
    }

    fn made_up(&self, answer: &Answer) -> Reply {
        let mut reply = match (&answer.body, &answer.text) {
            (Some(body), _) => Reply::json(answer.status, body.clone()),
            (None, Some(text)) => Reply { status: answer.status, ..Reply::bytes("text/plain", text.as_bytes()) },
            (None, None) => Reply::json(answer.status, self.error_body(answer.status, &reason(answer.status), None)),
        };
        if let (Content::Json(Value::Object(fields)), Some(retry_after)) = (&mut reply.body, &answer.retry_after) {
            fields.insert("retry_after".to_owned(), retry_after.clone());
        }
        let headers = [(RETRY_AFTER, &answer.retry_after_header), (LOCATION, &answer.location)];
        reply.headers.extend(headers.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        reply
    }
}

fn reason(status: u16) -> String {
    let status = StatusCode::from_u16(status).ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("Error").to_owned()
}

impl Reply {
    fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Content::Json(body), delivery: Delivery::Whole }
    }

    fn bytes(content_type: &'static str, bytes: &[u8]) -> Self {
        let body = Content::Bytes(content_type, bytes.to_vec());
        Self { status: 200, headers: Vec::new(), body, delivery: Delivery::Whole }
    }

    /// Does to the true answer what a fault says.
    fn change(&mut self, action: &Action) {
        match (action, &mut self.body) {
            (Action::Truncate, _) => self.delivery = Delivery::Half,
            (Action::Latin1, Content::Json(body)) => {
                let text = render(std::mem::take(body));
                let bytes = text.chars().map(|letter| u8::try_from(letter).unwrap_or(b'?')).collect();
                self.body = Content::Bytes("application/json", bytes);
            }
            (Action::DripMs(milliseconds), _) => self.delivery = Delivery::Drip(Duration::from_millis(*milliseconds)),
            (Action::Set(changes), Content::Json(Value::Object(fields))) => fields.extend(changes.clone()),
            (Action::Remove(keys), Content::Json(Value::Object(fields))) => {
                fields.retain(|key, _| !keys.contains(key));
            }
            (_, _) => {}
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let (content_type, bytes) = match self.body {
            Content::Json(body) => ("application/json", Bytes::from(render(body))),
            Content::Bytes(content_type, bytes) => (content_type, Bytes::from(bytes)),
        };
        let length = bytes.len();
        let body = match self.delivery {
            Delivery::Whole => Body::from(bytes),
            Delivery::Half => {
                Body::from_stream(stream::iter([Ok(bytes.slice(..length / 2))]).chain(stream::once(cut())))
            }
            Delivery::Drip(pause) => Body::from_stream(stream::iter(0..length).then(move |at| {
                let byte = bytes.slice(at..=at);
                async move {
                    tokio::time::sleep(pause).await;
                    Ok::<_, std::io::Error>(byte)
                }
            })),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// The end of a body that is cut off, once the first half has had its time to be sent.
async fn cut() -> Result<Bytes, std::io::Error> {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    Err(std::io::ErrorKind::ConnectionAborted.into())
}
