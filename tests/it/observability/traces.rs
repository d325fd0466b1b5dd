//! Traces: a collector on loopback takes what the built operator sends by OTLP over HTTP, and decodes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::logs::hostile_line;
use crate::support::namespace::wait_for;
use crate::support::operator::OperatorOptions;
use crate::support::simulator::{TOKEN, UAT};
use crate::support::stage::{SHOP, STOP_LIMIT, Stage};
use crate::support::{Context, Result};

/// A collector. Dropping it closes it.
struct Collector {
    address: String,
    taken: Arc<Mutex<Vec<Bytes>>>,
    task: JoinHandle<()>,
}

/// What a collector makes of a span: its name, whose child it is, its trace, and its attributes as text.
#[derive(Clone, Debug)]
struct Span {
    name: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    trace: String,
    failed: bool,
    attributes: BTreeMap<String, String>,
}

impl Collector {
    /// Takes all that comes.
    async fn start() -> Result<Self> {
        let taken = Arc::<Mutex<Vec<Bytes>>>::default();
        let take = |State(taken): State<Arc<Mutex<Vec<Bytes>>>>, body: Bytes| async move {
            taken.lock().unwrap().push(body);
            (StatusCode::OK, [("content-type", "application/x-protobuf")], Vec::<u8>::new())
        };
        Self::serving(Router::new().route("/v1/traces", post(take)).with_state(taken.clone()), taken).await
    }

    /// Takes connections and never answers.
    async fn silent() -> Result<Self> {
        let wait = || async { std::future::pending::<StatusCode>().await };
        Self::serving(Router::new().route("/v1/traces", post(wait)), Arc::default()).await
    }

    async fn serving(router: Router, taken: Arc<Mutex<Vec<Bytes>>>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening")?;
        let address = format!("http://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, taken, task })
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let taken = self.taken.lock().unwrap();
        taken.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let scopes = self.requests().into_iter().flat_map(|it| it.resource_spans).flat_map(|it| it.scope_spans);
        let spans = scopes.flat_map(|it| it.spans);
        spans
            .map(|span| Span {
                name: span.name,
                id: span.span_id,
                parent: span.parent_span_id,
                trace: hex::encode(span.trace_id),
                failed: span.status.is_some_and(|status| status.code == 2),
                attributes: texts(span.attributes),
            })
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Any| match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |it: KeyValue| (it.key, it.value.and_then(|value| value.value).map(text).unwrap_or_default());
    attributes.into_iter().map(pair).collect()
}

/// Traces go there, and not before so many milliseconds unless the process ends.
fn tracing_to(options: OperatorOptions, address: &str, every: u32) -> OperatorOptions {
    let mut options = options;
    options.environment.push(("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), address.to_owned()));
    options.environment.push(("OTEL_BSP_SCHEDULE_DELAY".to_owned(), every.to_string()));
    options
}

fn log_lines(stage: &Stage) -> Result<Vec<Value>> {
    let text = fs::read_to_string(stage.operator.log())?;
    Ok(text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?)
}

#[tokio::test]
async fn each_pass_is_a_span_and_each_request_to_konigle_its_child() -> Result<()> {
    let collector = Collector::start().await?;
    // Longer than the test: what comes, comes by the flush at the end of the process.
    let mut stage = Stage::open_with("traced", 2.0, |options| tracing_to(options, &collector.address, 600_000)).await?;
    let line = json!({"next_jobs": [{"seconds": 1, "messages": [hostile_line(TOKEN)]}]});
    stage.simulator.change_space(UAT, &line).await?;
    stage
        .simulator
        .fault(&json!({"operation": "get_space", "action": {"answer": {"status": 503, "body": {"detail": TOKEN}}}}))
        .await?;
    let mut wish = stage.wish("1.0")?;
    let url = wish["source"]["http"]["url"].as_str().unwrap_or_default();
    wish["source"]["http"]["url"] = json!(format!("{url}?X-Signature=canary-query"));
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
    let job = stage.simulator.ledger(UAT).await?[0]["job"].as_str().unwrap_or_default().to_owned();
    assert!(collector.requests().is_empty(), "nothing was due yet");
    stage.operator.terminate(STOP_LIMIT).await?;

    let spans = collector.spans();
    let of = |span: &Span, key: &str| span.attributes.get(key).cloned().unwrap_or_default();
    let passes: Vec<&Span> = spans.iter().filter(|span| span.name == "reconcile").collect();
    for pass in &passes {
        assert!(pass.parent.is_empty(), "{pass:?}");
        assert_eq!((of(pass, "namespace").as_str(), of(pass, "name").as_str()), (stage.namespace.name(), SHOP));
        assert_eq!(of(pass, "generation"), "1", "{pass:?}");
        // One that began before the watch showed the write of the last one is told that it is out of date.
        assert!(["success", "conflict"].contains(&of(pass, "result").as_str()), "{pass:?}");
    }
    let steps: Vec<String> = passes.iter().map(|pass| of(pass, "step")).collect();
    for step in ["Fetch", "Start", "Wait", "Rest", "Undisturbed"] {
        assert!(steps.iter().any(|it| it == step), "no pass was {step}: {steps:?}");
    }
    let sent = passes.iter().find(|pass| of(pass, "step") == "Start").expect("one was sent");
    assert_eq!((of(sent, "attempt").as_str(), of(sent, "job")), ("1", job.clone()));
    let rested = passes.iter().find(|pass| of(pass, "step") == "Rest" && of(pass, "result") == "success");
    let rested = rested.expect("it ended, and that was written");
    assert_eq!((of(rested, "reason").as_str(), of(rested, "job")), ("Succeeded", job));
    assert_eq!(of(sent, "result"), "success", "{sent:?}");

    let requests: Vec<&Span> = spans.iter().filter(|span| span.name.starts_with("konigle ")).collect();
    assert!(requests.iter().all(|request| passes.iter().any(|pass| pass.id == request.parent)), "{requests:?}");
    let deploy = requests.iter().find(|request| request.name == "konigle deploy").expect("it was deployed");
    assert_eq!((&deploy.parent, &deploy.trace), (&sent.id, &sent.trace));
    assert_eq!((of(deploy, "operation").as_str(), of(deploy, "http.response.status_code").as_str()), ("deploy", "201"));
    let refused: Vec<_> = requests.iter().filter(|request| request.failed).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(of(refused[0], "http.response.status_code"), "503");
    let asked = stage.simulator.requests().await?["by_operation"].clone();
    let all: u64 = asked.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    assert_eq!(requests.len() as u64, all, "a span for each request: {asked}");

    let download = spans.iter().find(|span| span.name == "download").expect("it was fetched");
    assert!(download.parent.is_empty(), "no pass waits for it: {download:?}");
    assert_eq!((of(download, "namespace").as_str(), of(download, "name").as_str()), (stage.namespace.name(), SHOP));

    // What a trace may hold, and nothing else.
    let operations = asked.as_object().into_iter().flatten().map(|(operation, _)| format!("konigle {operation}"));
    let expected: BTreeSet<String> = operations.chain(["reconcile", "download"].map(str::to_owned)).collect();
    assert_eq!(spans.iter().map(|span| span.name.clone()).collect::<BTreeSet<_>>(), expected);
    let known = [
        "attempt",
        "generation",
        "http.response.status_code",
        "job",
        "level",
        "name",
        "namespace",
        "operation",
        "reason",
        "result",
        "step",
        "trace_id",
        "target",
    ];
    for span in &spans {
        let other: Vec<_> = span.attributes.keys().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(other.is_empty(), "{}: {other:?}", span.name);
    }
    for canary in [TOKEN, "canary-query", "hunter2", "X-Signature", "http://", "https://"] {
        let found = |body: &Bytes| body.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!collector.taken.lock().unwrap().iter().any(found), "{canary} is in a trace");
    }
    let resource = collector.requests()[0].resource_spans[0].resource.clone().expect("it says who it is");
    let resource = texts(resource.attributes);
    assert_eq!(resource.get("service.name").map(String::as_str), Some("konigle-operator"), "{resource:?}");
    assert_eq!(resource.get("service.version").map(String::as_str), Some(env!("CARGO_PKG_VERSION")));

    // From a line of the log to its trace.
    let lines = log_lines(&stage)?;
    let accepted = lines.iter().find(|line| line["message"] == "accepted").expect("it is logged");
    assert_eq!(accepted["trace_id"], json!(sent.trace), "{accepted}");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_does_not_answer_holds_up_neither_work_nor_the_end() -> Result<()> {
    let collector = Collector::silent().await?;
    let mut stage = Stage::open_with("untaken", 0.5, |options| tracing_to(options, &collector.address, 100)).await?;
    stage.deployed("1.0").await?;
    let began = Instant::now();
    stage.operator.terminate(STOP_LIMIT).await?;
    assert!(began.elapsed() < Duration::from_secs(12), "five seconds for the flush: {:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_once() -> Result<()> {
    let gone = Collector::start().await?;
    let address = gone.address.clone();
    drop(gone);
    let stage = Stage::open_with("uncollected", 0.5, |options| {
        let mut options = tracing_to(options, &address, 50);
        options.environment.push(("OTEL_SERVICE_NAME".to_owned(), "shop".to_owned()));
        options
    })
    .await?;
    stage.deployed("1.0").await?;
    stage.deployed("1.1").await?;
    let told = || -> Result<usize> {
        let lines = log_lines(&stage)?;
        Ok(lines.iter().filter(|line| line["message"].as_str().is_some_and(|it| it.starts_with("traces are"))).count())
    };
    wait_for("it is told", async || Ok((told()? > 0).then_some(()))).await?;
    stage.deployed("1.2").await?;
    assert_eq!(told()?, 1, "{:?}", log_lines(&stage)?);
    Ok(())
}

#[tokio::test]
async fn without_the_variables_there_are_no_traces() -> Result<()> {
    let collector = Collector::start().await?;
    for name in ["OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"] {
        let value = if name == "OTEL_SDK_DISABLED" { "true" } else { "none" };
        let mut stage = Stage::open_with("not-traced", 0.5, |options| {
            let mut options = tracing_to(options, &collector.address, 50);
            options.environment.push((name.to_owned(), value.to_owned()));
            options
        })
        .await?;
        stage.deployed("1.0").await?;
        stage.operator.terminate(STOP_LIMIT).await?;
        let lines = log_lines(&stage)?;
        assert!(lines.iter().all(|line| line["trace_id"].is_null()), "{lines:?}");
    }
    assert!(collector.requests().is_empty());
    Ok(())
}
