//! A web server on loopback that hands out ZIPs made in memory, as a CI's artifact store does.
//!
//! It keeps no files, speaks http only, and lives in the runtime of the test that started it.

use std::collections::HashMap;
use std::io::{Cursor, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use futures::{StreamExt, stream};
use tokio::task::JoinHandle;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::trace::Witness;
use super::{Context, Result};

/// The running server. Dropping it closes it.
pub(crate) struct Artifacts {
    address: SocketAddr,
    store: Arc<Mutex<Store>>,
    task: JoinHandle<()>,
    /// Until the end of the test, when it looks at what was asked for.
    _witness: Arc<Witness>,
}

/// Where an artifact is, and what its bytes are.
#[derive(Clone, Debug)]
pub(crate) struct Artifact {
    /// For `spec.source.http.url`.
    pub(crate) url: String,
    /// For `spec.source.http.digest`.
    pub(crate) digest: String,
    /// Its size in bytes.
    pub(crate) size: usize,
}

#[derive(Default)]
struct Store {
    files: HashMap<String, Reply>,
    requests: HashMap<String, Vec<HeaderMap>>,
    heads: Vec<String>,
}

/// The heads of all requests, as texts.
#[derive(Clone)]
pub(crate) struct Heads(Arc<Mutex<Store>>);

impl Heads {
    pub(crate) fn texts(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).heads.clone()
    }
}

#[derive(Clone)]
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// How many bytes of the body are sent before the connection is closed; all without it.
    broken_after: Option<usize>,
}

impl Artifacts {
    /// Starts the server on a port of its own.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_on(0).await
    }

    /// Starts the server on this port.
    pub(crate) async fn start_on(port: u16) -> Result<Self> {
        let store = Arc::new(Mutex::new(Store::default()));
        let listener =
            tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("starting the artifact server")?;
        let address = listener.local_addr()?;
        let application = Router::new().fallback(answer).with_state(Arc::clone(&store));
        let task = tokio::spawn(async move {
            // Ends only with the listener.
            let _ = axum::serve(listener, application).await;
        });
        let witness = Witness::current();
        witness.keep_heads(Heads(Arc::clone(&store)));
        Ok(Self { address, store, task, _witness: witness })
    }

    /// Serves these bytes under `path`, which starts with a slash.
    pub(crate) fn serve(&self, path: &str, body: Vec<u8>) -> Artifact {
        let artifact = Artifact { url: self.url(path), digest: digest_of(&body), size: body.len() };
        self.answer_with(path, StatusCode::OK, HeaderMap::new(), body);
        artifact
    }

    /// Serves a valid application, whose bytes depend on `version`.
    pub(crate) fn serve_application(&self, version: &str) -> Result<Artifact> {
        Ok(self.serve(&format!("/shop-{version}.zip"), application(version)?))
    }

    /// Answers every request for `path` like this, from now on.
    pub(crate) fn answer_with(&self, path: &str, status: StatusCode, headers: HeaderMap, body: Vec<u8>) {
        self.store().files.insert(path.to_owned(), Reply { status, headers, body, broken_after: None });
    }

    /// Serves these bytes, but closes the connection of every request when half of them are sent.
    pub(crate) fn serve_broken(&self, path: &str, body: Vec<u8>) -> Artifact {
        let artifact = Artifact { url: self.url(path), digest: digest_of(&body), size: body.len() };
        let broken_after = Some(body.len() / 2);
        let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body, broken_after };
        self.store().files.insert(path.to_owned(), reply);
        artifact
    }

    /// How often `path` was asked for.
    pub(crate) fn requests(&self, path: &str) -> usize {
        self.store().requests.get(path).map_or(0, Vec::len)
    }

    /// The headers of the newest request for `path`.
    pub(crate) fn last_headers(&self, path: &str) -> Option<HeaderMap> {
        self.store().requests.get(path)?.last().cloned()
    }

    /// The address of `path`, whether anything is served there or not.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Artifacts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The digest of these bytes, as a manifest names it.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, bytes)))
}

/// The least application that Konigle takes: a Dockerfile, and a `bentocloud.toml` with one process.
pub(crate) fn application(version: &str) -> Result<Vec<u8>> {
    zip(&[
        ("Dockerfile", "FROM scratch\n"),
        (
            "bentocloud.toml",
            "[app]\nname = \"shop\"\nruntime = \"python3\"\n\n[processes.web]\ncommand = \"serve\"\nhttp = true\n",
        ),
        ("version.txt", version),
    ])
}

/// A valid application of a little more than that many bytes.
pub(crate) fn large_application(bytes: usize) -> Result<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("Dockerfile", stored)?;
    writer.write_all(b"FROM scratch\n")?;
    writer.start_file("bentocloud.toml", stored)?;
    writer.write_all(b"[processes.web]\ncommand = \"serve\"\n")?;
    writer.start_file("data", stored)?;
    writer.write_all(&vec![0; bytes])?;
    Ok(writer.finish()?.into_inner())
}

/// A ZIP of these files, by path and content. The same files give the same bytes.
pub(crate) fn zip(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, content) in files {
        writer.start_file(*path, SimpleFileOptions::default())?;
        writer.write_all(content.as_bytes())?;
    }
    Ok(writer.finish()?.into_inner())
}

async fn answer(State(store): State<Arc<Mutex<Store>>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let path = uri.path().to_owned();
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let reply = store.files.get(&path).cloned();
    store.heads.push(format!("{uri} {headers:?}"));
    store.requests.entry(path).or_default().push(headers);
    drop(store);
    let Some(reply) = reply else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let length = reply.body.len();
    let body = match reply.broken_after {
        None => Body::from(reply.body),
        Some(sent) => {
            let pieces = [Ok(reply.body[..sent].to_vec()), Err(std::io::Error::from(ErrorKind::ConnectionAborted))];
            // The first half gets its time to leave before the connection is closed.
            Body::from_stream(stream::iter(pieces).then(async |piece| {
                tokio::task::yield_now().await;
                piece
            }))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}
