//! Logs, and traces where they are asked for.
//!
//! Logs go to standard error: one line for each decision that changes something, none while nothing happens. Lines of a
//! pass have `namespace`, `name` and `generation` of its resource, from the span that is around it.
//!
//! Traces go to an OpenTelemetry collector by OTLP over HTTP, where the standard variables name one
//! (`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`); without them nothing of it exists. A span has
//! the attributes that are written here and at its callers, and none of what was logged in it: no text from elsewhere, no
//! URL, no token.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{Status, TraceContextExt as _, TracerProvider as _};
use opentelemetry::{KeyValue, Value};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter as Exporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::field::Empty;
use tracing::{Metadata, Span, error_span, info, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::redact::Redactor;

/// What this program calls itself where the environment gives it no other name.
const SERVICE: &str = "konigle-operator";
/// How long the end of the process waits for the last spans to be taken.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// What was started; to be ended with the process.
#[must_use = "what was not sent yet is lost unless it is ended"]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Starts logging to standard error, and traces if the environment asks for them. The level is one that `--log-level` takes.
pub fn init(format: &str, level: &str) -> Telemetry {
    let filter = EnvFilter::new(level);
    let (traces, not_traced) = match traces() {
        None => (None, None),
        Some(Ok(traces)) => (Some(traces), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(filter_fn(is_traced))
    });
    let logged = filter.and(filter_fn(|metadata| metadata.name() != "konigle_request"));
    tracing_subscriber::registry().with(logs(format).with_filter(logged)).with(spans).init();
    if let Some(error) = not_traced {
        let error = Redactor::default().clean(&error.to_string());
        warn!(error, "traces are not sent: the variables OTEL_EXPORTER_OTLP_… cannot be used");
    }
    Telemetry { traces }
}

impl Telemetry {
    /// Sends the spans that were not sent yet, for five seconds at most.
    pub fn end(self) {
        if let Some(traces) = self.traces
            && traces.shutdown_with_timeout(FLUSH_LIMIT).is_err()
        {
            info!("the last spans of the traces were not taken");
        }
    }
}

/// JSON for machines: each field at the top. Text for people at a terminal.
fn logs(format: &str) -> Box<dyn Layer<Registry> + Send + Sync> {
    if format == "json" {
        let mut layer = json_subscriber::JsonLayer::stderr();
        layer
            .with_timer("timestamp", SystemTime)
            .with_level("level")
            .with_target("target")
            .with_flattened_event()
            .with_top_level_flattened_span_list();
        return layer.boxed();
    }
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).boxed()
}

/// Spans of this program; not what was logged in them, and nothing of the libraries.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("konigle_operator")
}

/// The traces, if the standard variables ask for them.
fn traces() -> Option<Result<SdkTracerProvider, ExporterBuildError>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let is = |name: &str, value: &str| variable(name).is_some_and(|it| it.trim().eq_ignore_ascii_case(value));
    variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))?;
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    let named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
    let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let resource = if named { resource } else { resource.with_service_name(SERVICE) }.build();
    Some(Exporter::builder().with_http().build().map(|exporter| {
        let exporter = Told { exporter, fails: AtomicBool::new(false) };
        SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build()
    }))
}

/// An exporter that says when it begins to fail, and when it works again; the SDK would be silent, or say so each time.
#[derive(Debug)]
struct Told {
    exporter: Exporter,
    fails: AtomicBool,
}

impl SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let failed = self.fails.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed => {
                let error = Redactor::default().clean(&error.to_string());
                warn!(error, "traces are not taken by the collector; what was to be sent is dropped");
            }
            Ok(()) if failed => info!("traces are taken by the collector again"),
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The span of one pass. At the highest level, so that lines of a pass name its resource whatever is logged.
#[must_use]
pub fn reconcile_span(namespace: &str, name: &str, generation: Option<i64>) -> Span {
    // No child of kube's own span, whose fields would be in each line.
    let span = error_span!(parent: None, "reconcile", namespace, name = Empty, generation, trace_id = Empty);
    name_resource(&span, name);
    let context = span.context();
    let trace = context.span().span_context().trace_id();
    if context.span().span_context().is_valid() {
        span.record("trace_id", tracing::field::display(trace));
    }
    span
}

/// The span of one download.
#[must_use]
pub fn download_span(namespace: &str, name: &str) -> Span {
    let span = error_span!(parent: None, "download", namespace, name = Empty);
    name_resource(&span, name);
    span
}

/// The span of the look at one resource's tag.
#[must_use]
pub fn lookup_span(namespace: &str, name: &str) -> Span {
    let span = error_span!(parent: None, "lookup", namespace, name = Empty);
    name_resource(&span, name);
    span
}

/// Not at the span's begin: json-subscriber (0.3) then puts the span's own name in its place.
fn name_resource(span: &Span, name: &str) {
    span.record("name", name);
}

/// The span of one request to Konigle; for traces only.
#[must_use]
pub fn request_span(operation: &'static str) -> Span {
    error_span!("konigle_request", operation, otel.name = %format_args!("konigle {operation}"), otel.kind = "client")
}

/// Says how a request to Konigle ended: its HTTP status, or that no answer came.
pub fn note_answer(span: &Span, code: Option<u16>) {
    match code {
        Some(code) => {
            span.set_attribute("http.response.status_code", i64::from(code));
            if code >= 400 {
                span.set_status(Status::error(""));
            }
        }
        None => span.set_status(Status::error("no answer")),
    }
}

/// Adds an attribute to the span of the trace that this is in; the log does not show it.
pub fn note(key: &'static str, value: impl Into<Value>) {
    Span::current().set_attribute(key, value);
}
