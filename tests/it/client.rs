//! The Konigle client against servers that behave oddly, byte by byte, and against the simulator.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod reads;
mod simulator;
mod writes;

use std::fmt::{Debug, Display};
use std::future::Future;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use konigle_operator::clock;
use konigle_operator::konigle::model::JobStatus;
use konigle_operator::konigle::{
    Account, Answer, Client, ClientError, Clients, Fence, Guard, Limits, ReadError, Rejection, Sending, Settings,
    Upload, parse_token,
};
use konigle_operator::metrics::Metrics;
use konigle_operator::stamp::Stamp;
use secrecy::SecretString;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use url::Url;

const TOKEN: &str = "canary-0123456789";
/// Larger than the buffers of both sockets together, so that a server that does not read holds the client up.
const LARGE: usize = 48 << 20;

/// Short, but for the reads and the answers: a slow machine must not fail a test.
fn limits() -> Limits {
    Limits {
        read: Duration::from_secs(20),
        answer: Duration::from_secs(20),
        shutdown: Duration::from_secs(20),
        ..Limits::default()
    }
}

fn impatient() -> Limits {
    let short = Duration::from_millis(300);
    Limits { read: short, answer: short, shutdown: short, ..Limits::default() }
}

fn clients(base_url: &str, limits: Limits, metrics: &Arc<Metrics>) -> Clients {
    let guard = Guard::new(&Url::parse(base_url).unwrap(), &[]);
    let many = NonZeroU32::new(1000).unwrap();
    Clients::new(Settings { rate: many, burst: many, guard, limits }, Arc::clone(metrics))
}

fn account(base_url: &str) -> Account {
    Account::new(Url::parse(base_url).unwrap(), parse_token(TOKEN.as_bytes()).unwrap())
}

fn client_with(base_url: &str, limits: Limits) -> Arc<Client> {
    clients(base_url, limits, &Arc::new(Metrics::new())).client(&account(base_url)).unwrap()
}

/// Fails the test if the value shows the token in any way.
fn shown<T: Debug + Display>(value: T) -> T {
    let (debug, display) = (format!("{value:?}"), value.to_string());
    assert!(!debug.contains("canary") && !display.contains("canary"), "{debug} {display}");
    value
}

fn sending() -> Sending {
    sending_for(Duration::from_mins(1))
}

fn sending_for(timeout: Duration) -> Sending {
    let fence = Fence::new(Instant::now(), clock::system(), Duration::from_secs(10));
    Sending { fence, shutdown: CancellationToken::new(), timeout }
}

/// A file as it is now.
fn stamp(path: &Path) -> Stamp {
    Stamp::of(&std::fs::metadata(path).unwrap()).unwrap()
}

/// A file on disk, kept while the test needs it, and its upload.
fn upload(size: usize) -> (NamedTempFile, Upload) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&b"PK0123456789abcd".repeat(size.div_ceil(16))[..size]).unwrap();
    let upload = Upload {
        display_name: "shop/shop-uat #7 [k3f2a9c1d]".to_owned(),
        file: file.path().to_owned(),
        stamp: stamp(file.path()),
        sent: Arc::default(),
    };
    (file, upload)
}

/// A server that does with each connection what a test says, and counts them.
struct Server {
    base_url: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F, Done>(behave: F) -> Self
    where
        F: Fn(TcpStream) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(behave(stream));
            }
        });
        Self { base_url, connections }
    }

    /// Reads the head of each request, answers it with these bytes, and closes.
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer: Arc<Vec<u8>> = Arc::new(answer.into());
        Self::start(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                read_request(&mut stream).await;
                stream.write_all(&answer).await.ok();
                stream.shutdown().await.ok();
            }
        })
        .await
    }

    fn client(&self) -> Arc<Client> {
        client_with(&self.base_url, limits())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The head of a request, and as much of its body as came with it.
async fn read_head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return (String::from_utf8(bytes).unwrap(), body);
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return (String::from_utf8_lossy(&bytes).into_owned(), Vec::new());
        }
    }
}

fn content_length(head: &str) -> usize {
    header(head, "content-length").map_or(0, |length| length.parse().unwrap())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// A whole request, head and body.
async fn read_request(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let (head, mut body) = read_head(stream).await;
    let length = content_length(&head);
    while body.len() < length {
        if stream.read_buf(&mut body).await.unwrap_or(0) == 0 {
            break;
        }
    }
    (head, body)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn ok(body: &str) -> String {
    answer("200 OK", body)
}

#[tokio::test]
async fn one_account_has_one_client() {
    let metrics = Arc::new(Metrics::new());
    let server = Server::answering(ok(r#"{"id": "1"}"#)).await;
    let clients = clients(&server.base_url, limits(), &metrics);
    let first = clients.client(&account(&server.base_url)).unwrap();
    let same = clients.client(&account(&format!("{}/", server.base_url))).unwrap();
    let other = Account::new(Url::parse(&server.base_url).unwrap(), SecretString::from("canary-other"));
    assert!(Arc::ptr_eq(&first, &same) && !Arc::ptr_eq(&first, &clients.client(&other).unwrap()));
    assert!(!format!("{clients:?} {first:?}").contains("canary"));

    first.space("1").await.unwrap();
    first.space("2").await.unwrap_err();
    assert!(
        metrics.text().contains(r#"konigle_api_requests_total{operation="get_space",code="200"} 2"#),
        "{}",
        metrics.text()
    );
}

#[tokio::test]
async fn an_address_that_no_flag_names_must_be_public() {
    let clients = clients("http://127.0.0.1:1", limits(), &Arc::new(Metrics::new()));
    for base_url in ["https://127.0.0.1:1", "https://10.0.0.1", "https://[::1]", "http://127.0.0.1:2"] {
        assert!(matches!(clients.client(&account(base_url)), Err(ClientError::Address(_))), "{base_url}");
    }
    let client = clients.client(&account("https://localhost:1")).unwrap();
    assert!(matches!(shown(client.space("1").await.unwrap_err()), ReadError::Address(_)));
    assert!(
        matches!(client.promote("1", &sending()).await, Answer::Unsent(why) if why.contains("not a public address"))
    );
}
