//! The artifact store against hosts on loopback that behave well, badly, and not at all.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod registries;
mod resuming;
mod tokens;

use std::io::{Cursor, Write};
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::future::join_all;
use futures::stream;
use konigle_operator::artifact::{
    Artifact, ArtifactCredentials, Auth, Digest, FetchError, Key, Limits, Part, Place, Repository, Scope, Source,
    SourceField, Store,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use url::Url;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::support::artifacts::large_application;

const SECRET: &str = "hunter2";

/// A small artifact that passes the inspection; `marker` makes its digest its own.
fn archive(marker: &str) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [("Dockerfile", marker), ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n")] {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn limits() -> Limits {
    Limits { allow_insecure: true, resume_delay: Duration::from_millis(1), ..Limits::default() }
}

fn key(digest: Digest) -> Key {
    Key { scope: Scope::Public, digest, part: Part::Whole }
}

fn source(url: &str, digest: Digest) -> Source {
    let place = Place::Url(Url::parse(url).unwrap(), SourceField::Http);
    Source { key: key(digest), place, credentials: ArtifactCredentials::default() }
}

fn with_auth(source: Source, auth: Option<Auth>) -> Source {
    Source { credentials: ArtifactCredentials { auth, ca: None }, ..source }
}

async fn fetch(store: &Store, source: &Source) -> Result<Artifact, FetchError> {
    store.fetch(source, &CancellationToken::new()).await
}

/// A host that answers every request by `answer` and remembers them.
struct Host {
    address: String,
    seen: Seen,
    stop: CancellationToken,
}

type Seen = Arc<Mutex<Vec<Request<()>>>>;
type Answer = Arc<dyn Fn(&Request<()>) -> Response + Send + Sync>;

impl Host {
    async fn start(answer: impl Fn(&Request<()>) -> Response + Send + Sync + 'static) -> Self {
        let seen = Seen::default();
        let answer: Answer = Arc::new(answer);
        let router = Router::new().fallback(serve).with_state((answer, seen.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Self { address, seen, stop }
    }

    async fn with_file(bytes: Vec<u8>) -> Self {
        Self::start(move |_| bytes.clone().into_response()).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    fn authorization(&self) -> Vec<Option<String>> {
        let seen = self.seen.lock().unwrap();
        let value =
            |request: &Request<()>| Some(request.headers().get(header::AUTHORIZATION)?.to_str().unwrap().to_owned());
        seen.iter().map(value).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(State((answer, seen)): State<(Answer, Seen)>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let request = Request::from_parts(parts, ());
    let response = answer(&request);
    seen.lock().unwrap().push(request);
    response
}

/// A host below HTTP: it reads one request's head, writes `answer`, and closes, or holds the connection open.
async fn raw_host(answer: Vec<u8>, hold: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/shop.zip", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut connection, _)) = listener.accept().await {
            read_head(&mut connection).await;
            connection.write_all(&answer).await.unwrap();
            if hold {
                open.push(connection);
            } else {
                connection.shutdown().await.unwrap();
            }
        }
    });
    address
}

async fn read_head(connection: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
}

fn http(head: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n").into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// Every file below `directory`, by name.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found.sort();
    found
}

struct Fixture {
    directory: TempDir,
    store: Store,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), limits, Arc::default()).unwrap();
        Self { directory, store }
    }

    /// As a new process finds it.
    fn reopened(self, limits: Limits) -> Self {
        let store = Store::open(self.directory.path(), limits, Arc::default()).unwrap();
        Self { directory: self.directory, store }
    }

    fn files(&self) -> Vec<String> {
        files(self.directory.path())
    }
}

/// Fetches once and expects an error, nothing left on disk, and nothing secret in the message.
async fn failure(limits: Limits, url: &str, wanted: Digest) -> FetchError {
    let fixture = Fixture::new(limits);
    let url = format!("{url}?signature={SECRET}");
    let error = fetch(&fixture.store, &source(&url, wanted)).await.unwrap_err();
    assert_eq!(fixture.files(), Vec::<String>::new(), "{error}");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    error
}

#[track_caller]
fn assert_unavailable(error: &FetchError, expected: &str) {
    assert!(matches!(error, FetchError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(expected), "{error}");
}

/// A body that goes on for ever, and is never silent for long.
fn trickle() -> Response {
    let bytes = stream::unfold(tokio::time::interval(Duration::from_millis(5)), |mut pace| async {
        pace.tick().await;
        Some((Ok::<_, std::io::Error>("x"), pace))
    });
    Body::from_stream(bytes).into_response()
}

#[track_caller]
fn assert_denied(error: &FetchError, expected: &str) {
    assert!(matches!(error, FetchError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains(expected) && !format!("{error} {error:?}").contains(SECRET), "{error:?}");
}

#[tokio::test]
async fn a_file_is_fetched_once_and_kept() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let host = Host::with_file(bytes.clone()).await;
    let fixture = Fixture::new(limits());
    assert_eq!(fixture.store.get(&key(digest)).await, None);
    let from_host = source(&host.url("/shop.zip"), digest);
    let artifact = fetch(&fixture.store, &from_host).await.unwrap();
    assert_eq!((artifact.digest, artifact.size()), (digest, bytes.len() as u64));
    assert_eq!(std::fs::read(&artifact.path).unwrap(), bytes);
    assert!(artifact.path.ends_with(format!("sha256/{}/{}", &digest.hex()[..2], digest.hex())));
    assert_eq!(fixture.files(), [digest.hex()], "no partial file");
    let headers = host.seen.lock().unwrap()[0].headers().clone();
    assert_eq!(headers[header::ACCEPT_ENCODING], "identity");
    assert!(!headers.contains_key(header::AUTHORIZATION));

    let elsewhere = source("http://127.0.0.1:1/gone.zip", digest);
    assert_eq!(fetch(&fixture.store, &elsewhere).await.as_ref(), Ok(&artifact), "no request is made");
    let fixture = fixture.reopened(limits());
    assert_eq!(fixture.store.get(&key(digest)).await, None, "this process has not hashed it, and a look does not");
    assert_eq!(fetch(&fixture.store, &elsewhere).await.as_ref(), Ok(&artifact), "it outlives the process");
    assert_eq!(fixture.store.get(&key(digest)).await, Some(artifact));
}

#[tokio::test]
async fn callers_share_one_download_and_its_failure() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let host = Host::start(move |request| match request.uri().path() {
        "/shop.zip" => bytes.clone().into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await;
    let fixture = Fixture::new(limits());
    let missing = source(&host.url("/missing.zip"), digest);
    for outcome in join_all((0..8).map(|_| fetch(&fixture.store, &missing))).await {
        assert_unavailable(&outcome.unwrap_err(), "404");
    }
    assert_eq!(host.requests(), 1, "who waited for a failure does not repeat it");

    let present = source(&host.url("/shop.zip"), digest);
    let sources: Vec<_> = (0..8).flat_map(|_| [missing.clone(), present.clone()]).collect();
    let outcomes = join_all(sources.iter().map(|source| fetch(&fixture.store, source))).await;
    assert_unavailable(outcomes[0].as_ref().unwrap_err(), "404");
    assert!(outcomes[1..].iter().all(Result::is_ok), "another source's failure is not theirs: {outcomes:?}");
    assert_eq!(host.requests(), 3);
}

#[tokio::test]
async fn who_names_another_host_does_not_wait_for_a_slow_one() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let asked = Arc::new(Notify::new());
    let is_asked = asked.clone();
    let host = Host::start(move |request| {
        if request.uri().path() == "/shop.zip" {
            return bytes.clone().into_response();
        }
        is_asked.notify_one();
        trickle()
    })
    .await;
    let fixture = Fixture::new(Limits { patience: Duration::from_millis(100), ..limits() });
    let (slow, present) = (source(&host.url("/slow.zip"), digest), source(&host.url("/shop.zip"), digest));
    let others = async {
        asked.notified().await;
        join_all((0..4).map(|_| fetch(&fixture.store, &present))).await
    };
    let outcomes = tokio::select! {
        outcomes = others => outcomes,
        outcome = fetch(&fixture.store, &slow) => panic!("it is slow: {outcome:?}"),
    };
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(host.requests(), 2, "they share one download");
    assert_eq!(fixture.files(), [digest.hex()], "no partial file");
}

#[tokio::test]
async fn what_was_fetched_with_credentials_serves_its_namespace_alone() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let host = Host::with_file(bytes).await;
    let fixture = Fixture::new(limits());
    let of = |namespace: &str| Key { scope: Scope::Namespace(namespace.to_owned()), digest, part: Part::Whole };
    let from_host = |namespace: &str| Source { key: of(namespace), ..source(&host.url("/shop.zip"), digest) };
    fetch(&fixture.store, &from_host("shop")).await.unwrap();
    assert_eq!(fixture.store.get(&of("other")).await, None, "who knows the digest alone gets nothing");
    assert_eq!(fixture.store.get(&key(digest)).await, None);
    let nowhere = Source { key: of("other"), ..source("http://127.0.0.1:1/gone.zip", digest) };
    assert_unavailable(&fetch(&fixture.store, &nowhere).await.unwrap_err(), "cannot be connected to");
    fetch(&fixture.store, &from_host("other")).await.unwrap();
    assert_eq!(host.requests(), 2, "each namespace shows that it may have it");

    // Another process keeps them apart as well.
    let fixture = fixture.reopened(limits());
    let again = Source { key: of("shop"), ..source("http://127.0.0.1:1/gone.zip", digest) };
    let artifact = fetch(&fixture.store, &again).await.unwrap();
    assert!(artifact.path.starts_with(fixture.directory.path().join("namespaces/shop")), "{artifact:?}");
    let third = Source { key: of("third"), ..again };
    assert_unavailable(&fetch(&fixture.store, &third).await.unwrap_err(), "cannot be connected to");
}

#[tokio::test]
async fn a_manifest_that_was_taken_for_a_file_is_still_a_manifest() {
    let manifest = b"{\"layers\": []}".to_vec();
    let digest = Digest::of(&manifest);
    let host = Host::with_file(manifest).await;
    let fixture = Fixture::new(limits());
    let error = fetch(&fixture.store, &source(&host.url("/manifest"), digest)).await.unwrap_err();
    assert!(matches!(error, FetchError::Rejected { .. }), "{error:?}");
    let repository = Repository::parse("127.0.0.1:1/shop").unwrap();
    let layer = Source {
        key: Key { part: Part::Layer(None), ..key(digest) },
        place: Place::Oci(repository),
        ..source(&host.url("/"), digest)
    };
    assert_unavailable(&fetch(&fixture.store, &layer).await.unwrap_err(), "cannot be connected to");
}

#[tokio::test]
async fn what_may_still_be_published_is_unavailable() {
    let digest = Digest::of(b"");
    for (status, expected) in [
        (404, "answered 404; it may not be published yet"),
        (410, "answered 410"),
        (500, "answered 500"),
        (503, "answered 503"),
        (408, "answered 408"),
        (204, "answered 204; wanted 200"),
        (206, "answered 206; wanted 200"),
        (302, "answered 302; wanted 200"),
        (418, "answered 418; wanted 200"),
    ] {
        let host = Host::start(move |_| StatusCode::from_u16(status).unwrap().into_response()).await;
        let error = failure(limits(), &host.url("/shop.zip"), digest).await;
        assert_unavailable(&error, expected);
        assert!(error.to_string().starts_with(&format!("{}/shop.zip: ", &host.address["http://".len()..])), "{error}");
    }
    let host = Host::start(|_| (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "90")]).into_response()).await;
    let error = failure(limits(), &host.url("/shop.zip"), digest).await;
    assert_eq!(error.wait(), Some(Duration::from_secs(90)), "{error:?}");
    assert!(error.to_string().ends_with("answered 429; it limits how often it is asked, now for 90 s"), "{error}");
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_unavailable(&failure(limits(), &format!("http://{address}/x"), digest).await, "cannot be connected to");
    // How a name fails depends on the resolver of the machine.
    assert_unavailable(&failure(limits(), "http://no-such-host.invalid/x", digest).await, "no-such-host.invalid/x: ");
}

/// TLS's own words for it ("corrupt message") lead astray.
#[tokio::test]
async fn a_host_without_tls_is_named_so() {
    let host = Host::start(|_| StatusCode::OK.into_response()).await;
    let url = host.url("/shop.zip").replace("http://", "https://");
    assert_unavailable(&failure(limits(), &url, Digest::of(b"")).await, "it does not speak TLS on this port");
}

#[tokio::test]
async fn another_file_is_a_mismatch_with_a_hint() {
    let wanted = Digest::of(b"wanted");
    let page = "<!DOCTYPE html><title>Sign in</title>";
    for (head, body, hint) in [
        ("content-type: application/zip", "PK other", "; correct spec.source.http.digest"),
        ("content-type: application/zip", page, "the server answered 200 with an HTML page (a login page?)"),
        ("content-type: text/html; charset=utf-8", "  Please sign in", "with an HTML page"),
        ("content-encoding: gzip", "\u{1f}\u{8b}", "Content-Encoding: gzip"),
        ("content-type: application/zip", "", "; correct spec.source.http.digest"),
    ] {
        let (name, value) = head.split_once(": ").unwrap();
        let host = Host::start(move |_| ([(name, value)], body).into_response()).await;
        let error = failure(limits(), &host.url("/shop.zip"), wanted).await;
        let FetchError::DigestMismatch { wanted: said, got, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*said, *got), (wanted, Digest::of(body.as_bytes())));
        assert!(error.to_string().contains(hint), "{error}");
    }
    // Without a length, but marked as complete by its chunks.
    let chunked = |_: &_| Body::from_stream(stream::iter([Ok::<_, std::io::Error>("PK other")])).into_response();
    let host = Host::start(chunked).await;
    let error = failure(limits(), &host.url("/shop.zip"), wanted).await;
    assert!(matches!(error, FetchError::DigestMismatch { .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_cut_short_is_never_a_mismatch() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let half = &bytes[..bytes.len() / 2];
    let length = format!("content-length: {}\r\n", bytes.len());
    for (answer, expected) in [
        (http(&length, half), "the download broke off after"),
        (http(&format!("content-length: {}\r\n", bytes.len() + 1), &bytes), "the download broke off after"),
        (http("transfer-encoding: chunked\r\n", b"5\r\nPK\x03\x04a\r\n"), "the download broke off after 5 bytes"),
        (http("connection: close\r\n", half), "did not say how long the file is"),
        (b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), "the request failed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), "the request failed"),
        (Vec::new(), "the request failed"),
    ] {
        let url = raw_host(answer, false).await;
        assert_unavailable(&failure(limits(), &url, digest).await, expected);
    }
    // A length that is too small makes HTTP end the file there: a whole other file.
    let url = raw_host(http("content-length: 100\r\n", &bytes), false).await;
    assert!(matches!(failure(limits(), &url, digest).await, FetchError::DigestMismatch { .. }));
    // Without any length, but right.
    let url = raw_host(http("connection: close\r\n", &bytes), false).await;
    fetch(&Fixture::new(limits()).store, &source(&url, digest)).await.unwrap();
}

#[tokio::test]
async fn a_host_that_stalls_is_given_up() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let limits = Limits { stall_timeout: Duration::from_millis(100), ..limits() };
    let url = raw_host(Vec::new(), true).await;
    assert_unavailable(&failure(limits.clone(), &url, digest).await, "did not answer within 100ms");
    let url = raw_host(http(&format!("content-length: {}\r\n", bytes.len()), &bytes[..50]), true).await;
    assert_unavailable(&failure(limits.clone(), &url, digest).await, "stalled: no byte for 100ms after 50");

    let host = Host::start(|_| trickle()).await;
    let limits = Limits { total_timeout: Duration::from_millis(200), stall_timeout: Duration::from_mins(1), ..limits };
    assert_unavailable(&failure(limits, &host.url("/shop.zip"), digest).await, "too slow");
}

#[tokio::test]
async fn a_file_over_the_limit_is_not_downloaded() {
    let limits = Limits { max_size: 1000, ..limits() };
    let digest = Digest::of(b"");
    let announced = raw_host(http("content-length: 1001\r\n", b""), true).await;
    let endless =
        |_: &_| Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(100)))).into_response();
    let host = Host::start(endless).await;
    for url in [announced, host.url("/endless")] {
        let error = failure(limits.clone(), &url, digest).await;
        assert!(matches!(error, FetchError::TooLarge { limit: 1000, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn credentials_go_to_their_origin_only() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let other = Host::with_file(bytes.clone()).await;
    let elsewhere = other.url("/shop.zip");
    let host = Host::start(move |request| match request.uri().path() {
        "/direct" => bytes.clone().into_response(),
        "/same" => (StatusCode::FOUND, [(header::LOCATION, "direct?x=1".to_owned())]).into_response(),
        _ => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, elsewhere.clone())]).into_response(),
    })
    .await;
    let basic = Auth::Basic { username: "ci".to_owned(), password: SECRET.to_owned().into() };
    let bearer = Auth::Bearer(SECRET.to_owned().into());
    for (auth, path, expected_here, expected_there) in [
        (&basic, "/direct", vec!["Basic Y2k6aHVudGVyMg=="], false),
        (&bearer, "/direct", vec!["Bearer hunter2"], false),
        (&bearer, "/same", vec!["Bearer hunter2"; 2], false),
        (&bearer, "/away", vec!["Bearer hunter2"], true),
        (&basic, "/away", vec!["Basic Y2k6aHVudGVyMg=="], true),
    ] {
        host.seen.lock().unwrap().clear();
        other.seen.lock().unwrap().clear();
        let url = host.url(&format!("{path}?signature={SECRET}"));
        let source = with_auth(source(&url, digest), Some(auth.clone()));
        assert!(!format!("{source:?}").contains(SECRET), "{source:?}");
        fetch(&Fixture::new(limits()).store, &source).await.unwrap();
        let here: Vec<_> = host.authorization().into_iter().flatten().collect();
        assert_eq!(here, expected_here, "{path}");
        assert_eq!(other.authorization(), vec![None; usize::from(expected_there)], "{path}");
        for request in other.seen.lock().unwrap().iter() {
            assert!(!request.headers().contains_key(header::REFERER), "a pre-signed URL would travel on");
        }
    }
}

#[tokio::test]
async fn credentials_do_not_come_back_after_a_detour() {
    let address = Arc::new(Mutex::new(String::new()));
    let back = address.clone();
    let other = Host::start(move |_| {
        let home = format!("{}/refused", back.lock().unwrap());
        (StatusCode::FOUND, [(header::LOCATION, home)]).into_response()
    })
    .await;
    let away = other.url("/");
    let host = Host::start(move |request| match request.uri().path() {
        "/refused" => StatusCode::UNAUTHORIZED.into_response(),
        _ => (StatusCode::FOUND, [(header::LOCATION, away.clone())]).into_response(),
    })
    .await;
    host.address.clone_into(&mut address.lock().unwrap());
    let auth = Some(Auth::Bearer(SECRET.to_owned().into()));
    let source = with_auth(source(&host.url("/"), Digest::of(b"")), auth);
    let error = fetch(&Fixture::new(limits()).store, &source).await.unwrap_err();
    assert_unavailable(&error, "are not sent");
    assert_eq!(host.authorization(), [Some(format!("Bearer {SECRET}")), None]);
}

#[tokio::test]
async fn a_host_that_lets_nobody_in_is_told_with_what_it_got() {
    for (status, auth, expected) in [
        (401, None, "answered 401 to a request without credentials"),
        (403, None, "answered 403 to a request without credentials"),
        (401, Some(Auth::Bearer(SECRET.to_owned().into())), "answered 401 to the credentials that it got"),
        (403, Some(Auth::Bearer(SECRET.to_owned().into())), "answered 403 to the credentials that it got"),
    ] {
        let host = Host::start(move |_| StatusCode::from_u16(status).unwrap().into_response()).await;
        let source = with_auth(source(&host.url("/"), Digest::of(b"")), auth);
        let error = fetch(&Fixture::new(limits()).store, &source).await.unwrap_err();
        assert_denied(&error, expected);
    }
}

#[tokio::test]
async fn redirects_end() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    // `/10` needs ten redirects to `/0`, which is the file.
    let host = Host::start(move |request| match request.uri().path()[1..].parse::<u32>() {
        Ok(0) => bytes.clone().into_response(),
        Ok(left) => (StatusCode::FOUND, [(header::LOCATION, format!("/{}", left - 1))]).into_response(),
        Err(_) => (StatusCode::FOUND, [(header::LOCATION, request.uri().path().to_owned())]).into_response(),
    })
    .await;
    fetch(&Fixture::new(limits()).store, &source(&host.url("/10"), digest)).await.unwrap();
    assert_unavailable(&failure(limits(), &host.url("/11"), digest).await, "more than 10 times");
    host.seen.lock().unwrap().clear();
    assert_unavailable(&failure(limits(), &host.url("/loop"), digest).await, "more than 10 times");
    assert_eq!(host.requests(), 11);

    let host = Host::start(|_| (StatusCode::FOUND, [(header::LOCATION, "file:///etc/passwd")]).into_response()).await;
    let error = failure(limits(), &host.url("/"), digest).await;
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
    let page = |request: &Request<()>| match request.uri().path() {
        "/login" => "<html>Sign in</html>".into_response(),
        _ => (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response(),
    };
    let host = Host::start(page).await;
    let error = failure(limits(), &host.url("/shop.zip"), digest).await;
    assert!(error.to_string().contains("200 after a redirect with an HTML page"), "{error}");
}

#[tokio::test]
async fn addresses_that_are_not_public_see_no_connection() {
    let canary = StdListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let port = canary.local_addr().unwrap().port();
    for url in [
        format!("http://127.0.0.1:{port}/shop.zip"),
        format!("http://localhost:{port}/shop.zip"),
        format!("https://127.0.0.1:{port}/shop.zip"),
        format!("https://2130706433:{port}/shop.zip"),
        format!("https://localhost:{port}/shop.zip"),
        format!("https://[::1]:{port}/shop.zip"),
        format!("https://[::ffff:127.0.0.1]:{port}/shop.zip"),
        format!("https://0.0.0.0:{port}/shop.zip"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let error = failure(Limits::default(), &url, Digest::of(b"")).await;
        assert!(matches!(error, FetchError::Refused { .. }), "{url}: {error:?}");
    }
    let userinfo = format!("http://ci:{SECRET}@127.0.0.1:{port}/shop.zip");
    let error = failure(limits(), &userinfo, Digest::of(b"")).await;
    assert!(error.to_string().contains("put them into a Secret that spec.source.http.secretRef names"), "{error}");
    let error = canary.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "nobody connected");
}

#[tokio::test]
async fn a_ca_that_is_none_is_named() {
    for ca in [&b""[..], b"hello", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let credentials = ArtifactCredentials { auth: None, ca: Some(ca.to_vec()) };
        let source = Source { credentials, ..source("https://127.0.0.1:1/x", Digest::of(b"")) };
        let error = fetch(&Fixture::new(limits()).store, &source).await.unwrap_err();
        assert!(matches!(error, FetchError::CertificateInvalid { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_rejected_artifact_is_not_downloaded_again() {
    let bytes = b"PK\x03\x04 not really".to_vec();
    let digest = Digest::of(&bytes);
    let host = Host::with_file(bytes).await;
    let fixture = Fixture::new(limits());
    let source = source(&host.url("/shop.zip"), digest);
    for _ in 0..3 {
        let error = fetch(&fixture.store, &source).await.unwrap_err();
        assert!(matches!(&error, FetchError::Rejected { reason } if reason.contains("not a ZIP file")), "{error:?}");
    }
    assert_eq!((host.requests(), fixture.files()), (1, Vec::new()));
}

#[tokio::test]
async fn a_download_that_is_stopped_leaves_nothing() {
    let accepted = Arc::new(Notify::new());
    let notify = accepted.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/shop.zip", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        read_head(&mut connection).await;
        connection.write_all(&http("content-length: 1000000\r\n", &vec![0; 100_000])).await.unwrap();
        notify.notify_one();
        // Until the operator hangs up.
        let _ = connection.read_u8().await;
    });
    let fixture = Fixture::new(limits());
    let stop = CancellationToken::new();
    let source = source(&url, Digest::of(b""));
    let (outcome, ()) = tokio::join!(fixture.store.fetch(&source, &stop), async {
        accepted.notified().await;
        stop.cancel();
    });
    assert_eq!(outcome, Err(FetchError::Stopped));
    assert_eq!(fixture.files(), Vec::<String>::new());
    assert_eq!(fixture.store.fetch(&source, &stop).await, Err(FetchError::Stopped), "and none begins afterwards");
}

/// The one that asks the host is stopped; who waits for the same file asks in its place, and the file comes.
#[tokio::test]
async fn who_shares_a_download_goes_on_where_the_other_is_stopped() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let asked = Arc::new(Notify::new());
    let (is_asked, answered) = (asked.clone(), Mutex::new(0));
    let host = Host::start(move |_| {
        let mut answered = answered.lock().unwrap();
        *answered += 1;
        if *answered > 1 {
            return bytes.clone().into_response();
        }
        is_asked.notify_one();
        trickle()
    })
    .await;
    let fixture = Fixture::new(limits());
    let (source, stop) = (source(&host.url("/shop.zip"), digest), CancellationToken::new());
    let others = async {
        asked.notified().await;
        let waiting = join_all((0..4).map(|_| fetch(&fixture.store, &source)));
        let stopping = async { stop.cancel() };
        tokio::join!(waiting, stopping).0
    };
    let (outcome, others) = tokio::join!(fixture.store.fetch(&source, &stop), others);
    assert_eq!(outcome, Err(FetchError::Stopped));
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(host.requests(), 2, "they share the second download");
    assert_eq!(fixture.files(), [digest.hex()], "no partial file");
}

#[tokio::test]
async fn leftovers_of_a_crash_are_swept() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let host = Host::with_file(bytes).await;
    let fixture = Fixture::new(limits());
    let artifact = fetch(&fixture.store, &source(&host.url("/"), digest)).await.unwrap();
    let shard = artifact.path.parent().unwrap();
    std::fs::write(shard.join(".partial-x1y2z3"), "half").unwrap();
    std::fs::write(shard.join("README"), "not ours").unwrap();
    let fixture = fixture.reopened(limits());
    assert_eq!(fixture.files(), [digest.hex(), "README".to_owned()]);
    fetch(&fixture.store, &source("http://127.0.0.1:1/gone.zip", digest)).await.unwrap();
}

#[tokio::test]
async fn a_corrupt_file_is_downloaded_again() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let host = Host::with_file(bytes.clone()).await;
    let from_host = source(&host.url("/"), digest);
    let mut flipped = bytes.clone();
    flipped[40] ^= 1;
    for (content, because) in [(&flipped[..], "a bit flipped"), (&bytes[..20], "cut short"), (b"", "empty")] {
        let fixture = Fixture::new(limits());
        let artifact = fetch(&fixture.store, &from_host).await.unwrap();
        std::fs::write(&artifact.path, content).unwrap();
        let fixture = fixture.reopened(limits());
        assert_eq!(fixture.store.get(&key(digest)).await, None, "{because}");
        fetch(&fixture.store, &source("http://127.0.0.1:1/gone.zip", digest)).await.unwrap_err();
        assert_eq!(fixture.files(), Vec::<String>::new(), "{because}");
        fetch(&fixture.store, &from_host).await.unwrap();
        assert_eq!(std::fs::read(&artifact.path).unwrap(), bytes, "{because}");
        // Without a restart: another size is seen at once, and so is a file that is gone.
        std::fs::write(&artifact.path, "short").unwrap();
        assert_eq!(fixture.store.get(&key(digest)).await, None, "{because}");
        fetch(&fixture.store, &from_host).await.unwrap();
        std::fs::remove_file(&artifact.path).unwrap();
        assert_eq!(fixture.store.get(&key(digest)).await, None, "{because}");
        fetch(&fixture.store, &from_host).await.unwrap();
        // And so are other bytes of the same size, by the file's times.
        std::fs::write(&artifact.path, &flipped).unwrap();
        let later = konigle_operator::clock::system() + Duration::from_mins(1);
        std::fs::File::options().append(true).open(&artifact.path).unwrap().set_modified(later).unwrap();
        assert_eq!(fixture.store.get(&key(digest)).await, None, "{because}");
        fetch(&fixture.store, &from_host).await.unwrap();
        assert_eq!(std::fs::read(&artifact.path).unwrap(), bytes, "{because}");
    }
}

#[tokio::test]
async fn the_budget_evicts_what_was_used_longest_ago() {
    let archives = ["a", "b", "c"].map(archive);
    let digests = archives.each_ref().map(|bytes| Digest::of(bytes));
    let [a, b, c] = digests;
    let size = archives[0].len() as u64;
    let host = Host::start(move |request| {
        archives[request.uri().path()[1..].parse::<usize>().unwrap()].clone().into_response()
    })
    .await;
    let limits = Limits { store_budget: 2 * size, ..limits() };
    let fixture = Fixture::new(limits.clone());
    let mut fetched = Vec::new();
    for (number, digest) in [(0, a), (1, b)] {
        fetched.push(fetch(&fixture.store, &source(&host.url(&format!("/{number}")), digest)).await.unwrap());
    }
    fixture.store.get(&key(a)).await.unwrap();
    let used = fetched.remove(1);
    drop(fetched);
    fetch(&fixture.store, &source(&host.url("/2"), c)).await.unwrap();
    assert_eq!(fixture.store.get(&key(a)).await, None, "`b` was used before it, and is in use");
    assert_eq!(Digest::of(&std::fs::read(&used.path).unwrap()), b);
    drop(used);
    fetch(&fixture.store, &source(&host.url("/0"), a)).await.unwrap();
    assert_eq!(fixture.store.get(&key(b)).await, None, "nobody uses it any more");
    assert!(fixture.store.get(&key(a)).await.is_some());
    assert!(fixture.store.get(&key(c)).await.is_some());

    let fixture = fixture.reopened(Limits { store_budget: 1, ..limits });
    assert_eq!(fixture.files(), Vec::<String>::new(), "a smaller budget acts at the next start");
    fetch(&fixture.store, &source(&host.url("/0"), a)).await.unwrap();
    assert!(fixture.store.get(&key(a)).await.is_some(), "the artifact that was just fetched stays");
}

/// Nobody says how long the file is before all of it is there.
#[tokio::test]
async fn a_file_of_unknown_length_takes_no_more_than_what_is_in_use_leaves() {
    let (held, large) = (archive("held"), large_application(3 << 20).unwrap());
    let [held_digest, large_digest] = [&held, &large].map(|bytes| Digest::of(bytes));
    let host = Host::start(move |request| {
        if request.uri().path() == "/held.zip" {
            return held.clone().into_response();
        }
        let pieces: Vec<_> = large.chunks(100_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
        Body::from_stream(stream::iter(pieces)).into_response()
    })
    .await;
    let fixture = Fixture::new(Limits { store_budget: 2 << 20, ..limits() });
    let in_use = fetch(&fixture.store, &source(&host.url("/held.zip"), held_digest)).await.unwrap();
    let chunked = source(&host.url("/large.zip"), large_digest);
    let error = fetch(&fixture.store, &chunked).await.unwrap_err();
    assert!(matches!(&error, FetchError::Disk { reason } if reason.contains("no room")), "{error:?}");
    assert_eq!(fixture.files(), [held_digest.hex()], "nothing is left of it");
    drop(in_use);
    fetch(&fixture.store, &chunked).await.unwrap();
    assert_eq!(fixture.files(), [large_digest.hex()], "one that is alone may be larger");
}

/// The registry sends a layer in chunks; the manifest says how long it is.
#[tokio::test]
async fn the_room_of_a_layer_is_known_before_its_first_byte() {
    let held = archive("held");
    let held_digest = Digest::of(&held);
    let layer = format!(r#"{{"mediaType":"application/zip","digest":"{}","size":{}}}"#, Digest::of(b"layer"), 3 << 20);
    let manifest = format!(r#"{{"layers":[{layer}]}}"#);
    let digest = Digest::of(manifest.as_bytes());
    let host = Host::start(move |request| match request.uri().path() {
        "/held.zip" => held.clone().into_response(),
        path if path.contains("/manifests/") => manifest.clone().into_response(),
        _ => Body::from_stream(stream::once(async { Ok::<_, std::io::Error>("not the layer") })).into_response(),
    })
    .await;
    let fixture = Fixture::new(Limits { store_budget: 2 << 20, ..limits() });
    let _in_use = fetch(&fixture.store, &source(&host.url("/held.zip"), held_digest)).await.unwrap();
    let repository = format!("{}/team/shop", host.address.strip_prefix("http://").unwrap());
    let of_registry = Source {
        key: Key { part: Part::Layer(None), ..key(digest) },
        place: Place::Oci(Repository::parse(&repository).unwrap()),
        ..source(&host.url("/"), digest)
    };
    let error = fetch(&fixture.store, &of_registry).await.unwrap_err();
    assert!(matches!(&error, FetchError::Disk { reason } if reason.contains("no room")), "{error:?}");
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_said() {
    let bytes = archive("a");
    let digest = Digest::of(&bytes);
    let host = Host::with_file(bytes).await;
    let fixture = Fixture::new(limits());
    // A file stands where the folder should be.
    let shard = fixture.directory.path().join("sha256").join(&digest.hex()[..2]);
    std::fs::write(&shard, "").unwrap();
    let from_host = source(&host.url("/"), digest);
    let error = fetch(&fixture.store, &from_host).await.unwrap_err();
    assert!(matches!(error, FetchError::Disk { .. }), "{error:?}");
    std::fs::remove_file(&shard).unwrap();
    fetch(&fixture.store, &from_host).await.unwrap();
}

/// Memory is measured in a process of its own: the other tests would count too.
#[test]
fn memory_is_bounded() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "artifact::memory_probe", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the probe ran");
}

/// Two hostile files of 256 MiB: one with millions of entries, one whose ZIP64 end record claims to be huge.
#[tokio::test]
#[ignore = "run by memory_is_bounded, alone in its process"]
async fn memory_probe() {
    const SIZE: usize = 256 << 20;
    const CHUNK: usize = 1 << 20;
    let before = peak_kib();
    let mut entry = vec![0; 46];
    entry[..4].copy_from_slice(b"PK\x01\x02");
    entry[28] = 18;
    entry.extend(b"0123456789abcdef/x");
    let mut locator = vec![0; 20];
    locator[..4].copy_from_slice(b"PK\x06\x07");
    let mut zip64 = vec![0; 56];
    zip64[..4].copy_from_slice(b"PK\x06\x06");
    zip64[4..12].copy_from_slice(&(SIZE as u64).to_le_bytes());
    let mut end = vec![0; 22];
    end[..4].copy_from_slice(b"PK\x05\x06");
    end[8..20].fill(0xff);
    for (filler, tail) in
        [(entry, [zip64.clone(), locator.clone(), end.clone()].concat()), (zip64, [locator, end].concat())]
    {
        let chunk: Arc<[u8]> = filler.iter().copied().cycle().take(CHUNK - CHUNK % filler.len()).collect();
        let chunks = SIZE / chunk.len();
        let bytes = move || {
            let chunk = chunk.clone();
            let body = (0..chunks).map(move |_| Bytes::from_owner(chunk.clone()));
            body.chain([Bytes::from(tail.clone())])
        };
        let digest = digest_of(bytes());
        let host =
            Host::start(move |_| Body::from_stream(stream::iter(bytes().map(Ok::<_, std::io::Error>))).into_response())
                .await;
        let error = fetch(&Fixture::new(limits()).store, &source(&host.url("/"), digest)).await.unwrap_err();
        assert!(matches!(error, FetchError::Rejected { .. }), "{error:?}");
    }
    let used = peak_kib() - before;
    assert!(used < 48 << 10, "{used} KiB");
}

fn digest_of(chunks: impl Iterator<Item = Bytes>) -> Digest {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    chunks.for_each(|chunk| context.update(&chunk));
    Digest::parse(&format!("sha256:{}", hex::encode(context.finish()))).unwrap()
}

/// The most memory that this process ever had resident, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
