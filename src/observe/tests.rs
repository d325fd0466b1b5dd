//! What is looked at, and in which order: against an API server and a Konigle that are functions.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{Request, Response, Uri};
use futures::channel::mpsc::unbounded;
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::events::Reporter;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::Watched;
use crate::artifact::{self, Store};
use crate::konigle::{Account, Clients, Guard, Limits, Settings};
use crate::live_lists::LiveLists;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::observation::{ArtifactFacts, SourceFacts};
use crate::sources::Sources;
use crate::test_facts::*;
use crate::turns::Turns;

const TOKEN: &str = "canary-0123456789";

/// A Context whose API server answers a question for a Secret so. The folder must outlive it, and the store's writer.
struct Bench {
    context: Arc<Context>,
    store: Writer<Watched>,
    _directory: TempDir,
}

fn bench(konigle: &str, secret: (u16, Value)) -> Bench {
    bench_on(tempfile::tempdir().unwrap(), konigle, secret)
}

/// With what a former process left in this folder.
fn bench_on(directory: TempDir, konigle: &str, secret: (u16, Value)) -> Bench {
    let api = kube::Client::new(
        tower::service_fn(move |_: Request<Body>| {
            let (code, body) = secret.clone();
            let answer = Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap();
            async move { Ok::<_, Infallible>(answer) }
        }),
        "shop",
    );
    let base_url = Guard::parse_flag(konigle).unwrap();
    let guard = Guard::new(&base_url, &[]);
    let (rate, burst) = (NonZeroU32::new(100).unwrap(), NonZeroU32::new(100).unwrap());
    let settings = Settings { rate, burst, guard: guard.clone(), limits: Limits::default() };
    let metrics = Arc::new(Metrics::default());
    let store = Writer::<Watched>::default();
    let context = Arc::new(Context {
        api,
        konigle: Clients::new(settings, metrics.clone()),
        base_url,
        guard,
        artifacts: Store::open(directory.path(), artifact::Limits::default(), metrics.clone()).unwrap(),
        downloads: Turns::new(1, false),
        lookups: Turns::new(1, false),
        turns: Turns::new(1, false),
        memory: Memory::default(),
        metrics,
        store: store.as_reader(),
        sources: Sources::default(),
        live_lists: LiveLists::default(),
        reporter: Reporter { controller: "test".to_owned(), instance: None },
        settle: SETTLE,
        listed: CancellationToken::new(),
        shutdown: CancellationToken::new(),
        last_call: CancellationToken::new(),
        failed: CancellationToken::new(),
        fingerprints: Mutex::default(),
        wakes: unbounded().0,
    });
    Bench { context, store, _directory: directory }
}

fn resource(name: &str, spec: &Value) -> KonigleSpace {
    let mut whole = json!({"space": {"id": "1"}, "credentials": {"secretRef": {"name": "konigle"}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
        "metadata": {"name": name, "namespace": "shop", "uid": format!("{name}-uid"), "resourceVersion": "7"},
        "spec": whole,
    }))
    .unwrap()
}

fn deploys_it() -> KonigleSpace {
    resource("shop-uat", &json!({"source": {"http": {"url": "https://ci.example.com/shop.zip", "digest": A}}}))
}

fn secret() -> Value {
    // base64 of TOKEN.
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "konigle"},
           "data": {"token": "Y2FuYXJ5LTAxMjM0NTY3ODk="}})
}

/// A Konigle with one Space and no job. Gives its base URL, and the paths that it was asked for, in order.
async fn konigle() -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let paths = asked.clone();
    let answer = move |uri: Uri| {
        paths.lock().unwrap().push(uri.path().trim_start_matches("/cloud/api/v1/").to_owned());
        async move {
            match uri.path() {
                "/cloud/api/v1/jobs" => json!({"count": 0, "next": null, "payload": []}),
                _ => json!({"id": "1", "space_type": "uat", "status": "running"}),
            }
            .to_string()
        }
    };
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    (base_url, asked)
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_a_look_that_failed() {
    let refused = json!({"kind": "Status", "status": "Failure", "message": "etcd is away", "code": 500});
    let Bench { context, .. } = bench("http://127.0.0.1:9", (500, refused));
    let resource = deploys_it();
    let desired = Desired::parse(&resource).unwrap();
    let first = observe(&context, &resource, &desired).await.seen;
    assert!(matches!(first.space, Some(Err(LookError::Unavailable(_)))), "{:?}", first.space);
    assert_eq!(first.failing_for, Duration::ZERO, "since now");
    let second = observe(&context, &resource, &desired).await.seen;
    assert!(second.failing_for > Duration::ZERO, "without a break since the first");
}

#[tokio::test]
async fn nothing_slow_comes_between_the_look_at_the_space_and_the_claim() {
    let (base_url, asked) = konigle().await;
    let Bench { context, .. } = bench(&base_url, (200, secret()));
    let account = Account::new(base_url.parse().unwrap(), TOKEN.into());
    context.memory.set_jobs_served(&account, true);
    let resource = deploys_it();
    observe(&context, &resource, &Desired::parse(&resource).unwrap()).await;
    assert_eq!(*asked.lock().unwrap(), ["jobs", "spaces/1"]);
}

/// What is small is read while the pass waits: it goes on with what is there.
#[tokio::test]
async fn what_a_former_process_left_is_checked_before_the_pass_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let shard = directory.path().join("sha256").join("aa");
    std::fs::create_dir_all(&shard).unwrap();
    let file = shard.join(A.trim_start_matches("sha256:"));
    std::fs::write(&file, "not what its name says").unwrap();
    let (base_url, _) = konigle().await;
    let Bench { context, _directory, .. } = bench_on(directory, &base_url, (200, secret()));
    let resource = deploys_it();
    let desired = Desired::parse(&resource).unwrap();
    let seen = observe(&context, &resource, &desired).await.seen;
    assert_eq!(seen.artifact, ArtifactFacts::Absent);
    assert!(!file.exists(), "it was read, and removed");
}

#[test]
fn a_settled_promotion_lists_no_jobs() {
    let asks = |facts: Facts| release_is_due(&facts.desired, &facts.seen, &facts.status);
    assert!(asks(Facts::production()), "what is approved does not run yet");
    assert!(!asks(Facts::production().runs(A)), "it runs, and nothing is asked");
    let reset = |facts: &mut Facts| facts.desired.requests.reset_at = Some("1".to_owned());
    assert!(asks(Facts::production().runs(A).but(reset)), "a person asks");
    let drifted = |facts: &mut Facts| facts.seen.source.as_mut().unwrap().status.release = None;
    assert!(!asks(Facts::production().but(drifted)), "the gate is closed");
}

#[tokio::test]
async fn a_source_that_cannot_be_read_is_told_from_one_that_is_not_seen() {
    let mut bench = bench("http://127.0.0.1:9", (200, secret()));
    let resource = resource("shop-production", &json!({"promotion": {"from": {"name": "shop-uat"}}}));
    let desired = Desired::parse(&resource).unwrap();
    let message = |bench: &Bench| {
        let facts = source(&bench.context, &resource, &desired).unwrap_or_default();
        let Some(Gate::Closed(problem)) = crate::wish::gate_of(&desired, &facts, "") else { panic!("{facts:?}") };
        problem.message
    };
    let unseen = message(&bench);
    assert!(unseen.contains("--watch-label-selector") && !unseen.contains("there is no"), "{unseen}");
    let metadata = deploys_it().metadata;
    let invalid = InvalidObject { metadata, error: "spec: missing field `space`".to_owned() };
    bench.store.apply_watcher_event(&Event::Apply(DeserializeGuard(Err(invalid))));
    let unreadable = message(&bench);
    assert!(unreadable.contains("cannot read it") && !unreadable.contains("create it"), "{unreadable}");
    bench.store.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(deploys_it()))));
    assert!(message(&bench).contains("no release yet"));
    assert_ne!(source(&bench.context, &resource, &desired), Some(SourceFacts::default()));
}
