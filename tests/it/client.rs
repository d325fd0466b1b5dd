//! The Konigle client against servers that behave oddly, byte by byte, and against the simulator.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::{Debug, Display};
use std::future::Future;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use konigle_operator::konigle::model::JobStatus;
use konigle_operator::konigle::{
    Account, Answer, Client, ClientError, Clients, Fence, Guard, Limits, ReadError, Rejection, Sending, Settings,
    Upload, parse_token,
};
use konigle_operator::metrics::Metrics;
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
    let fence = Fence::new(Instant::now(), SystemTime::now(), Duration::from_secs(10));
    Sending { fence, shutdown: CancellationToken::new(), timeout }
}

/// A file on disk, kept while the test needs it, and its upload.
fn upload(size: usize) -> (NamedTempFile, Upload) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&b"PK0123456789abcd".repeat(size.div_ceil(16))[..size]).unwrap();
    let upload = Upload {
        display_name: "shop/shop-uat #7 [k3f2a9c1d]".to_owned(),
        file: file.path().to_owned(),
        size: size as u64,
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

// === reads ===

#[tokio::test]
async fn a_read_asks_as_the_contract_says() {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let (head, _) = read_request(&mut stream).await;
            sender.lock().unwrap().take().unwrap().send(head).unwrap();
            stream
                .write_all(ok(r#"{"id": "a/b?c", "space_type": "uat", "status": "running"}"#).as_bytes())
                .await
                .unwrap();
        }
    })
    .await;
    let base_url = format!("{}/prefix/", server.base_url);
    let space = client_with(&base_url, limits()).space("a/b?c").await.unwrap();
    assert_eq!(space.status, "running");
    let head = receiver.await.unwrap();
    assert!(head.starts_with("GET /prefix/cloud/api/v1/spaces/a%2Fb%3Fc HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "authorization"), Some("Token canary-0123456789"));
    assert_eq!(header(&head, "accept"), Some("application/json"));
    assert_eq!(header(&head, "user-agent"), Some(concat!("konigle-operator/", env!("CARGO_PKG_VERSION"))));
    assert_eq!((header(&head, "accept-encoding"), header(&head, "referer")), (None, None));
}

#[tokio::test]
async fn every_failed_read_says_how_and_never_the_token() {
    let echo = format!(r#"{{"detail": "token={TOKEN} is {TOKEN}"}}"#);
    let words = Some("token=*** is ***".to_owned());
    for (bytes, expected) in [
        (answer("401 No", &echo), ReadError::Unauthorized { detail: words.clone() }),
        (answer("403 No", &echo), ReadError::Forbidden { detail: words.clone() }),
        (answer("404 No", &format!("[{echo}]")), ReadError::NotFound { detail: words.clone() }),
        (answer("500 No", &echo), ReadError::Status { code: 500, detail: words.clone() }),
        (answer("500 No", &format!("<html>{TOKEN}</html>")), ReadError::Status { code: 500, detail: None }),
        // The code counts though the body breaks off.
        (
            "HTTP/1.1 403 No\r\ncontent-length: 99\r\n\r\n{\"detail\": \"x\"}".to_owned(),
            ReadError::Forbidden { detail: None },
        ),
        (answer("204 No Content", ""), ReadError::Undecodable { what: "the reply is no JSON object".to_owned() }),
        (ok("<html>"), ReadError::Undecodable { what: "the reply is no JSON object".to_owned() }),
        (ok(r#"{"id": 1}"#), ReadError::Undecodable { what: "`id` is missing or no string".to_owned() }),
        (
            ok(r#"{"id": "2"}"#),
            ReadError::Undecodable { what: "it is about another id than the one that was asked for".to_owned() },
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_owned() + &"x".repeat(2 << 20), ReadError::TooLarge),
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(2 << 20), ReadError::TooLarge),
    ] {
        let server = Server::answering(bytes).await;
        assert_eq!(shown(server.client().space("1").await.unwrap_err()), expected);
        assert_eq!(server.connections(), 1, "{expected}");
    }
}

#[tokio::test]
async fn a_broken_reply_is_no_reply() {
    for bytes in [
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"id\": \"1\"}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"id\"",
        "HTTP/1.1 200",
        "",
        "nonsense\r\n\r\n",
    ] {
        let server = Server::answering(bytes).await;
        let error = shown(server.client().space("1").await.unwrap_err());
        assert!(matches!(error, ReadError::Broken { .. }), "{bytes:?}: {error:?}");
        assert_eq!(server.connections(), 1, "{bytes:?}");
    }
}

#[tokio::test]
async fn a_body_needs_no_length() {
    let server =
        Server::answering(b"HTTP/1.1 200 OK\r\n\r\n{\"id\": \"1\", \"platform_domain\": \"\xff\"}".to_vec()).await;
    assert_eq!(server.client().space("1").await.unwrap().id, "1");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let other = Server::answering(ok(r#"{"id": "1"}"#)).await;
    for code in ["301", "302", "303", "307", "308"] {
        let bytes = format!(
            "HTTP/1.1 {code} Moved\r\nlocation: {}/cloud/api/v1/spaces/1\r\ncontent-length: 0\r\n\r\n",
            other.base_url
        );
        let server = Server::answering(bytes).await;
        assert_eq!(
            server.client().space("1").await,
            Err(ReadError::Status { code: code.parse().unwrap(), detail: None })
        );
        let answer = server.client().promote("1", &sending()).await;
        assert_eq!(answer, Answer::Unknown(format!("Konigle answered {code}")));
        let (_file, upload) = upload(1000);
        assert_eq!(
            server.client().deploy("1", upload, &sending()).await,
            Answer::Unknown(format!("Konigle answered {code}"))
        );
        assert_eq!(server.connections(), 3);
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_read_ends_in_time() {
    // Silent, before the head and in the middle of the body; the connections stay open.
    for start in ["", "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"] {
        let server = Server::start(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(start.as_bytes()).await.unwrap();
            stream.read_u8().await.ok();
        })
        .await;
        let client = client_with(&server.base_url, impatient());
        assert_eq!(client.space("1").await, Err(ReadError::Timeout));
        assert_eq!(client.job("1").await, Err(ReadError::Timeout));
    }
}

#[tokio::test]
async fn nobody_there_is_a_failed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = client_with(&base_url, limits());
    let error = shown(client.space("1").await.unwrap_err());
    assert!(matches!(&error, ReadError::Connect { reason } if reason.contains("refused")), "{error:?}");
    assert!(matches!(client.promote("1", &sending()).await, Answer::Unsent(why) if why.contains("refused")));
    let (_file, upload) = upload(1000);
    assert!(matches!(client.deploy("1", upload, &sending()).await, Answer::Unsent(why) if why.contains("refused")));
}

#[tokio::test]
async fn ids_that_cannot_be_any_are_not_asked_for() {
    let server = Server::answering(ok("{}")).await;
    let client = server.client();
    for id in ["", ".", "..", "a b", "a\nb"] {
        assert_eq!(client.space(id).await, Err(ReadError::InvalidId), "{id:?}");
        assert_eq!(client.job(id).await, Err(ReadError::InvalidId), "{id:?}");
        assert_eq!(client.spaces(id).await, Err(ReadError::InvalidId), "{id:?}");
        assert!(matches!(client.promote(id, &sending()).await, Answer::Unsent(_)), "{id:?}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_429_keeps_the_whole_account_back() {
    let server =
        Server::answering("HTTP/1.1 429 Slow\r\nretry-after: 100\r\ncontent-length: 20\r\n\r\n{\"retry_after\": 200}")
            .await;
    let client = server.client();
    assert_eq!(client.paused(), None);
    assert_eq!(client.space("1").await, Err(ReadError::RateLimited { retry_after: Duration::from_secs(200) }));
    assert!(client.paused().unwrap() > Duration::from_secs(190));
    let error = shown(client.job("1").await.unwrap_err());
    assert!(
        matches!(error, ReadError::RateLimited { retry_after } if retry_after > Duration::from_secs(190)),
        "{error:?}"
    );
    assert!(matches!(client.promote("1", &sending()).await, Answer::Unsent(why) if why.contains("rate limit")));
    assert_eq!(server.connections(), 1, "nothing was sent during the pause");
}

#[tokio::test]
async fn a_429_to_a_write_is_a_rejection_and_pauses_reads_too() {
    let server = Server::answering(answer("429 Slow", r#"{"retry_after": 86400}"#)).await;
    let client = server.client();
    let expected = Rejection::RateLimited { retry_after: Duration::from_mins(15) };
    assert_eq!(client.promote("1", &sending()).await, Answer::Rejected(expected));
    assert!(matches!(client.space("1").await, Err(ReadError::RateLimited { .. })));
    assert_eq!(server.connections(), 1);
}

/// Answers each request by the page that it asks for.
async fn paged(pages: &'static [(&'static str, &'static str)]) -> (Server, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let server = Server::start(move |mut stream| {
        let log = Arc::clone(&log);
        async move {
            let (head, _) = read_request(&mut stream).await;
            let target = head.split(' ').nth(1).unwrap().to_owned();
            let number: usize =
                target.split(['?', '&']).find_map(|pair| pair.strip_prefix("page=")).unwrap().parse().unwrap();
            log.lock().unwrap().push(target);
            let (status, body) = pages[(number - 1).min(pages.len() - 1)];
            stream.write_all(answer(status, body).as_bytes()).await.unwrap();
        }
    })
    .await;
    (server, seen)
}

#[tokio::test]
async fn a_list_is_all_of_its_pages() {
    let (server, seen) = paged(&[
        ("200 OK", r#"{"count": 3, "next": "http://elsewhere/?page=2", "payload": [{"id": "1", "webapp": "w 9"}, {"id": "2"}]}"#),
        ("200 OK", r#"{"count": 3, "next": null, "payload": [{"id": "3", "webapp": "other"}]}"#),
    ])
    .await;
    let spaces = server.client().spaces("w9&x=1").await.unwrap();
    assert_eq!(
        spaces.iter().map(|space| space.id.as_str()).collect::<Vec<_>>(),
        ["2"],
        "what belongs elsewhere is left out"
    );
    assert_eq!(
        *seen.lock().unwrap(),
        [
            "/cloud/api/v1/spaces?page=1&page_size=100&webapp_id=w9%26x%3D1",
            "/cloud/api/v1/spaces?page=2&page_size=100&webapp_id=w9%26x%3D1",
        ]
    );
}

#[tokio::test]
async fn a_page_that_fails_fails_the_list() {
    let first = ("200 OK", r#"{"count": 2, "next": "x", "payload": [{"id": "1"}]}"#);
    let (server, _) = paged(Box::leak(Box::new([first, ("500 No", "{}")]))).await;
    assert_eq!(server.client().computers().await, Err(ReadError::Status { code: 500, detail: None }));
    let (server, _) =
        paged(Box::leak(Box::new([first, ("200 OK", r#"{"count": 3, "next": null, "payload": [{"id": "2"}]}"#)])))
            .await;
    assert!(matches!(server.client().webapps("1").await, Err(ReadError::Undecodable { .. })));
}

#[tokio::test]
async fn a_list_without_end_is_too_large() {
    let id = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |mut stream| {
        let id = id.fetch_add(1, Ordering::SeqCst);
        async move {
            read_request(&mut stream).await;
            let body =
                format!(r#"{{"count": 99999, "next": "x", "payload": [{{"id": "j{id}", "status": "running"}}]}}"#);
            stream.write_all(ok(&body).as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client_with(&server.base_url, Limits { pages: 3, ..limits() });
    assert_eq!(client.computers().await, Err(ReadError::TooLarge));
    assert_eq!(client.jobs().await, Ok(None));
    assert_eq!(server.connections(), 6);
}

#[tokio::test]
async fn the_job_list_may_be_missing() {
    for (status, served) in
        [("403 No", true), ("404 No", true), ("405 No", true), ("501 No", true), ("500 No", false), ("401 No", false)]
    {
        let server = Server::answering(answer(status, "{}")).await;
        let jobs = server.client().jobs().await;
        assert_eq!(jobs.is_ok_and(|jobs| jobs.is_none()), served, "{status}");
    }
    let server = Server::answering(ok(
        r#"{"count": 1, "next": null, "results": [{"id": "j", "status": "odd", "created_at": "t", "log": [{"message": "[k3f2a9c1d]"}]}]}"#,
    ))
    .await;
    let jobs = server.client().jobs().await.unwrap().unwrap();
    assert!(jobs[0].mentions("k3f2a9c1d") && jobs[0].status == JobStatus::Unknown("odd".to_owned()));
}

#[tokio::test]
async fn a_job_with_an_endless_log_still_has_a_status() {
    let server = Server::start(|mut stream| async move {
        let (head, _) = read_request(&mut stream).await;
        let status = if head.contains("/early ") { r#""status": "success","# } else { "" };
        let id = if head.contains("/early ") { "early" } else { "late" };
        let start = format!("HTTP/1.1 200 OK\r\n\r\n{{\"id\": \"{id}\", {status} \"log\": [{{\"message\": \"token {TOKEN}\"}}, {{\"message\": \"");
        stream.write_all(start.as_bytes()).await.unwrap();
        // Until the client has enough and hangs up.
        while stream.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
    })
    .await;
    let client = server.client();
    let job = client.job("early").await.unwrap();
    assert_eq!((job.status, job.log_count), (JobStatus::Success, 1));
    assert_eq!(job.log_tail, ["token ***"]);
    assert_eq!(client.job("late").await, Err(ReadError::TooLarge));
}

// === writes ===

#[tokio::test]
async fn a_deploy_is_one_multipart_post_with_its_length() {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let request = read_request(&mut stream).await;
            sender.lock().unwrap().take().unwrap().send(request).unwrap();
            let body = r#"{"id": "d", "display_name": "n", "space_id": "7", "job_id": "5f0c", "created_at": "t"}"#;
            stream.write_all(answer("202 Accepted", body).as_bytes()).await.unwrap();
        }
    })
    .await;
    let (file, upload) = upload((3 << 20) + 17);
    let accepted = server.client().deploy("7", upload, &sending()).await;
    let Answer::Accepted(deployment) = accepted else { panic!("{accepted:?}") };
    assert_eq!((deployment.job_id.as_str(), deployment.id.as_deref()), ("5f0c", Some("d")));

    let (head, body) = receiver.await.unwrap();
    assert!(head.starts_with("POST /cloud/api/v1/spaces/7/deploy HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "authorization"), Some("Token canary-0123456789"));
    assert_eq!((content_length(&head), header(&head, "transfer-encoding")), (body.len(), None));
    let boundary = header(&head, "content-type").unwrap().strip_prefix("multipart/form-data; boundary=").unwrap();
    let mut expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"display_name\"\r\n\r\nshop/shop-uat #7 [k3f2a9c1d]\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"zip_file\"; filename=\"app.zip\"\r\nContent-Type: application/zip\r\n\r\n"
    )
    .into_bytes();
    expected.extend(std::fs::read(file.path()).unwrap());
    expected.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(body == expected, "the body differs: {}", String::from_utf8_lossy(&body[..300]));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_promote_is_one_empty_post_with_its_length() {
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let sender = Arc::clone(&sender);
        async move {
            let (head, _) = read_request(&mut stream).await;
            sender.lock().unwrap().take().unwrap().send(head).unwrap();
            stream.write_all(ok(r#"{"job_id": 7301962442809344001}"#).as_bytes()).await.unwrap();
        }
    })
    .await;
    let accepted = server.client().promote("7", &sending()).await;
    assert!(
        matches!(&accepted, Answer::Accepted(deployment) if deployment.job_id == "7301962442809344001"),
        "{accepted:?}"
    );
    let head = receiver.await.unwrap();
    assert!(head.starts_with("POST /cloud/api/v1/spaces/7/promote HTTP/1.1\r\n"), "{head}");
    assert_eq!((header(&head, "content-length"), header(&head, "content-type")), (Some("0"), None));
}

/// What a write comes to when the whole request was read and these bytes came back, after which the connection closed.
#[tokio::test]
async fn an_answer_is_classified_and_what_is_none_is_unknown() {
    #[derive(Debug, PartialEq)]
    enum Class {
        Accepted,
        Rejected,
        Unknown,
    }
    let body = format!(r#"{{"job_id": "5f0c", "detail": "{TOKEN}"}}"#);
    for (bytes, expected) in [
        (answer("201 Created", &body), Class::Accepted),
        (format!("HTTP/1.1 200 OK\r\n\r\n{body}"), Class::Accepted),
        (answer("409 Busy", &body), Class::Rejected),
        (answer("401 No", &body), Class::Rejected),
        (format!("HTTP/1.1 422 No\r\ncontent-length: 9999\r\n\r\n{body}"), Class::Rejected),
        (answer("500 No", &body), Class::Unknown),
        (answer("502 No", "<html>"), Class::Unknown),
        (answer("408 No", &body), Class::Unknown),
        (answer("418 No", &body), Class::Unknown),
        (answer("204 None", ""), Class::Unknown),
        (ok("<html>"), Class::Unknown),
        (ok("{}"), Class::Unknown),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{body}"), Class::Unknown),
        ("HTTP/1.1 200 OK\r\n\r\n".to_owned() + &"x".repeat(2 << 20), Class::Unknown),
        ("HTTP/1.1 2".to_owned(), Class::Unknown),
        ("nonsense\r\n\r\n".to_owned(), Class::Unknown),
        (String::new(), Class::Unknown),
    ] {
        let server = Server::answering(bytes.as_bytes()).await;
        let (_file, upload) = upload(1000);
        let client = server.client();
        for answer in [client.deploy("7", upload, &sending()).await, client.promote("7", &sending()).await] {
            let class = match &answer {
                Answer::Accepted(_) => Class::Accepted,
                Answer::Rejected(_) => Class::Rejected,
                Answer::Unknown(_) => Class::Unknown,
                Answer::Unsent(why) => panic!("unsent, {why}: {bytes:?}"),
            };
            assert_eq!(class, expected, "{bytes:?}");
            assert!(!format!("{answer:?}").contains("canary"), "{answer:?}");
        }
        assert_eq!(server.connections(), 2, "each write is sent once: {bytes:?}");
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_is_unsent() {
    // The server reads a piece, closes, and thereby resets the connection.
    for piece in [0, 1, 1 << 20] {
        let server = Server::start(move |mut stream| async move {
            let (_, mut body) = read_head(&mut stream).await;
            while body.len() < piece {
                stream.read_buf(&mut body).await.unwrap();
            }
        })
        .await;
        let (_file, upload) = upload(LARGE);
        let answer = server.client().deploy("7", upload, &sending()).await;
        assert!(matches!(&answer, Answer::Unsent(why) if why.contains(&format!("of {LARGE} bytes"))), "{answer:?}");
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn an_answer_in_the_middle_of_an_upload_counts() {
    // A server that refuses a large body at its head, and goes on reading so that its answer is not lost.
    let server = Server::start(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(answer("413 Too Large", r#"{"detail": "at most 1 MiB"}"#).as_bytes()).await.unwrap();
        let mut rest = vec![0; 1 << 16];
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    let (_file, upload) = upload(LARGE);
    let expected = Rejection::Artifact { code: 413, detail: Some("at most 1 MiB".to_owned()) };
    assert_eq!(server.client().deploy("7", upload, &sending()).await, Answer::Rejected(expected));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_silent_server_is_unknown_once_it_has_all_and_unsent_before() {
    let server = Server::start(|mut stream| async move {
        let (head, mut body) = read_head(&mut stream).await;
        if content_length(&head) < LARGE {
            stream.read_buf(&mut body).await.ok();
        }
        std::future::pending::<()>().await;
    })
    .await;
    let client = server.client();
    let answer = client.promote("7", &sending_for(Duration::from_millis(300))).await;
    assert!(matches!(&answer, Answer::Unknown(why) if why.contains("no answer within")), "{answer:?}");
    let (_small, small) = upload(1000);
    let answer = client.deploy("7", small, &sending_for(Duration::from_millis(300))).await;
    assert!(matches!(&answer, Answer::Unknown(why) if why.contains("no answer within")), "{answer:?}");
    let (_large, large) = upload(LARGE);
    let answer = client.deploy("7", large, &sending_for(Duration::from_millis(500))).await;
    assert!(matches!(&answer, Answer::Unsent(why) if why.contains("no answer within")), "{answer:?}");
}

#[tokio::test]
async fn a_head_without_the_rest_of_its_answer_is_unknown() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"job_id\":").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let answer = client_with(&server.base_url, impatient()).promote("7", &sending()).await;
    assert_eq!(answer, Answer::Unknown("Konigle answered 200, but the reply broke off".to_owned()));
}

#[tokio::test]
async fn nothing_is_sent_after_the_fence_or_at_shutdown_or_without_the_file() {
    let server = Server::answering(ok(r#"{"job_id": "5f0c"}"#)).await;
    let client = server.client();
    let late = Fence::new(
        Instant::now().checked_sub(Duration::from_secs(11)).unwrap(),
        SystemTime::now(),
        Duration::from_secs(10),
    );
    let slept = Fence::new(Instant::now(), SystemTime::now() - Duration::from_secs(11), Duration::from_secs(10));
    let set_back = Fence::new(Instant::now(), SystemTime::now() + Duration::from_mins(1), Duration::from_secs(10));
    for fence in [late, slept, set_back] {
        assert!(matches!(client.promote("7", &Sending { fence, ..sending() }).await, Answer::Unsent(_)), "{fence:?}");
    }
    let ending = sending();
    ending.shutdown.cancel();
    assert_eq!(client.promote("7", &ending).await, Answer::Unsent("the operator is shutting down".to_owned()));

    let (file, upload) = upload(1000);
    let other_size = Upload { size: 999, ..upload.clone() };
    assert_eq!(
        client.deploy("7", other_size, &sending()).await,
        Answer::Unsent("the artifact's file has 1000 bytes where 999 were checked".to_owned())
    );
    file.close().unwrap();
    assert_eq!(
        client.deploy("7", upload, &sending()).await,
        Answer::Unsent("the artifact's file cannot be read: entity not found".to_owned())
    );
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn the_fence_is_looked_at_again_once_the_connection_stands() {
    // Two connections fill the queue of a socket that listens and does not accept: the client's is held up by the kernel,
    // which drops its first packet and lets it try again after a second.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let fillers = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    let allowed = Duration::from_millis(300);
    let fence = Fence::new(Instant::now(), SystemTime::now(), allowed);
    let passed = tokio::time::Instant::now() + allowed;
    let server = async {
        tokio::time::sleep_until(passed).await;
        for _ in fillers {
            listener.accept().await.unwrap();
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
        bytes
    };
    let client = client_with(&format!("http://{address}"), limits());
    let sending = Sending { fence, ..sending() };
    let (answer, bytes) = tokio::join!(client.promote("7", &sending), server);
    assert_eq!(answer, Answer::Unsent("too much time has passed since the claim".to_owned()));
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
}

#[tokio::test]
async fn shutdown_cuts_an_upload_that_is_not_whole() {
    let sending = sending();
    let shutdown = sending.shutdown.clone();
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let server = Server::start(move |mut stream| {
        let (shutdown, sender) = (shutdown.clone(), Arc::clone(&sender));
        async move {
            let (head, mut body) = read_head(&mut stream).await;
            shutdown.cancel();
            while stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {}
            sender.lock().unwrap().take().unwrap().send((content_length(&head), body.len())).unwrap();
        }
    })
    .await;
    let (_file, upload) = upload(LARGE);
    let answer = server.client().deploy("7", upload, &sending).await;
    assert_eq!(answer, Answer::Unsent("the operator is shutting down".to_owned()));
    let (announced, read) = receiver.await.unwrap();
    assert!(read < announced, "{read} of {announced}");
}

#[tokio::test]
async fn a_dropped_upload_stops() {
    let started = Arc::new(Notify::new());
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    let notify = Arc::clone(&started);
    let server = Server::start(move |mut stream| {
        let (notify, sender) = (Arc::clone(&notify), Arc::clone(&sender));
        async move {
            let (head, mut body) = read_head(&mut stream).await;
            notify.notify_one();
            while stream.read_buf(&mut body).await.is_ok_and(|read| read > 0) {}
            sender.lock().unwrap().take().unwrap().send((content_length(&head), body.len())).unwrap();
        }
    })
    .await;
    let (_file, upload) = upload(LARGE);
    let client = server.client();
    let sending = sending();
    tokio::select! {
        answer = client.deploy("7", upload, &sending) => panic!("{answer:?}"),
        () = started.notified() => {}
    }
    let (announced, read) = receiver.await.unwrap();
    assert!(read < announced, "{read} of {announced}");
}

#[tokio::test]
async fn shutdown_waits_for_the_answer_to_what_was_sent() {
    for (limits, answered) in [(limits(), true), (impatient(), false)] {
        let sending = sending();
        let shutdown = sending.shutdown.clone();
        let server = Server::start(move |mut stream| {
            let shutdown = shutdown.clone();
            async move {
                read_request(&mut stream).await;
                shutdown.cancel();
                if answered {
                    stream.write_all(ok(r#"{"job_id": "5f0c"}"#).as_bytes()).await.unwrap();
                } else {
                    std::future::pending::<()>().await;
                }
            }
        })
        .await;
        let (_file, upload) = upload(1000);
        let answer = client_with(&server.base_url, limits).deploy("7", upload, &sending).await;
        assert_eq!(matches!(answer, Answer::Accepted(_)), answered, "{answer:?}");
        assert_eq!(matches!(answer, Answer::Unknown(_)), !answered, "{answer:?}");
    }
}

#[tokio::test]
async fn a_failed_handshake_is_unsent() {
    // https to a server that speaks no TLS: it answers, or hangs up.
    for bytes in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let server = Server::start(move |mut stream| async move {
            stream.write_all(bytes.as_bytes()).await.ok();
        })
        .await;
        let client = client_with(&server.base_url.replace("http://", "https://"), limits());
        let (_file, upload) = upload(1000);
        assert!(matches!(client.deploy("7", upload, &sending()).await, Answer::Unsent(_)));
        assert!(matches!(client.promote("7", &sending()).await, Answer::Unsent(_)));
        assert!(matches!(shown(client.space("7").await.unwrap_err()), ReadError::Connect { .. }));
    }
}

// === accounts ===

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
