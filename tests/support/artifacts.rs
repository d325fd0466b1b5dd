//! A web server on loopback that hands out ZIPs made in memory, as a CI's artifact store does.
//!
//! It keeps no files, speaks http only, and lives in the runtime of the test that started it.

use std::collections::HashMap;
use std::io::{Cursor, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use flate2::Compression;
use flate2::write::GzEncoder;
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
    /// How many more requests end in the middle of what is left.
    breaks: usize,
}

impl Reply {
    /// What a request is answered: all of it, or the bytes from one on, while the validator that it names still holds.
    fn from(self, asked: &HeaderMap) -> Self {
        let mut reply = self.in_range(asked);
        if reply.breaks > 0 {
            reply.broken_after = Some(reply.body.len() / 2);
        }
        reply
    }

    fn in_range(mut self, asked: &HeaderMap) -> Self {
        let Some(validator) = self.headers.get(ETAG) else { return self };
        let is_current = asked.get(IF_RANGE).is_none_or(|named| named == validator);
        let range = asked.get(RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-'));
        let Some(first) = range.and_then(|first| first.parse::<usize>().ok()).filter(|_| is_current) else {
            return self;
        };
        let whole = self.body.len();
        let range = if first < whole {
            self.body.drain(..first);
            self.status = StatusCode::PARTIAL_CONTENT;
            format!("bytes {first}-{}/{whole}", whole - 1)
        } else {
            self.body.clear();
            self.status = StatusCode::RANGE_NOT_SATISFIABLE;
            format!("bytes */{whole}")
        };
        self.headers.extend(HeaderValue::try_from(range).ok().map(|range| (CONTENT_RANGE, range)));
        self
    }
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

    /// Serves these bytes under `path`, which starts with a slash; from any byte on, with the digest as the validator.
    pub(crate) fn serve(&self, path: &str, body: Vec<u8>) -> Artifact {
        let artifact = Artifact { url: self.url(path), digest: digest_of(&body), size: body.len() };
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.extend(HeaderValue::try_from(format!("{:?}", artifact.digest)).ok().map(|digest| (ETAG, digest)));
        self.answer_with(path, StatusCode::OK, headers, body);
        artifact
    }

    /// Serves a valid application, whose bytes depend on `version`.
    pub(crate) fn serve_application(&self, version: &str) -> Result<Artifact> {
        Ok(self.serve(&format!("/shop-{version}.zip"), application(version)?))
    }

    /// Answers every request for `path` like this, from now on.
    pub(crate) fn answer_with(&self, path: &str, status: StatusCode, headers: HeaderMap, body: Vec<u8>) {
        self.store().files.insert(path.to_owned(), Reply { status, headers, body, broken_after: None, breaks: 0 });
    }

    /// Serves these bytes, but closes the connection of every request when half of them are sent.
    pub(crate) fn serve_broken(&self, path: &str, body: Vec<u8>) -> Artifact {
        let artifact = Artifact { url: self.url(path), digest: digest_of(&body), size: body.len() };
        let broken_after = Some(body.len() / 2);
        let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body, broken_after, breaks: 0 };
        self.store().files.insert(path.to_owned(), reply);
        artifact
    }

    /// Serves these bytes with a validator and in ranges, but closes the connection of each of the first `times` requests
    /// when half of what it is to send is sent.
    pub(crate) fn serve_breaking(&self, path: &str, body: Vec<u8>, times: usize) -> Artifact {
        let artifact = self.serve(path, body);
        if let Some(reply) = self.store().files.get_mut(path) {
            reply.breaks = times;
        }
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

/// A tar.gz of all that is in a folder, as Flux's source-controller makes it: times and owners are left out.
pub(crate) fn tar_gz_of(folder: &Path) -> Result<Vec<u8>> {
    let mut writer = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    writer.mode(tar::HeaderMode::Deterministic);
    writer.append_dir_all("", folder).context(format!("packing {}", folder.display()))?;
    Ok(writer.into_inner()?.finish()?)
}

/// A tar.gz of these files, by path and content, with the folders that lead to them left out. The same files give the
/// same bytes.
pub(crate) fn tar_gz(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut writer = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        writer.append_data(&mut header, path, content.as_bytes())?;
    }
    Ok(writer.into_inner()?.finish()?)
}

/// ZIPs that would unpack to far more than they should, or that lie about it, each with what it is.
pub(crate) fn bombs() -> Result<Vec<(&'static str, Vec<u8>)>> {
    const CLAIMED: u32 = u32::MAX - 1;
    let manifest = format!("[processes.web]\ncommand = \"serve\"\n# {}", "x".repeat(2 << 20));
    let zeros = "0".repeat(1 << 20);
    let with = |files: &[(&str, &str)]| zip(&[&[("Dockerfile", "FROM scratch\n")], files].concat());
    let good = ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n");
    let mut ratio = with(&[good, ("a", &zeros), ("b", &zeros), ("c", &zeros)])?;
    for name in ["a", "b", "c"] {
        write_over(&mut ratio, name, 24, &CLAIMED.to_le_bytes());
    }
    let large = with(&[("bentocloud.toml", &manifest)])?;
    let mut lying = large.clone();
    write_over(&mut lying, "bentocloud.toml", 24, &100_u32.to_le_bytes());
    let mut inside = with(&[good])?;
    write_over(&mut inside, "bentocloud.toml", 42, &0_u32.to_le_bytes());
    let mut hidden = with(&[good, ("more", "")])?;
    let end = hidden.len() - 22;
    (hidden[end + 8], hidden[end + 10]) = (2, 2);
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for number in 0..100_001 {
        writer.start_file(number.to_string(), stored)?;
    }
    let many = writer.finish()?.into_inner();
    Ok(vec![
        ("12 GiB of almost nothing", ratio),
        ("a large manifest", large),
        ("a manifest that says it is small", lying),
        ("a file inside another", inside),
        ("more files than it says", hidden),
        ("too many entries", many),
    ])
}

/// Applications with one entry more, whose name no reader should follow.
pub(crate) fn hostile_names() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let names: [(&str, &[u8]); 10] = [
        ("an absolute path", b"/etc/passwdx"),
        ("an absolute path with backslashes", b"\\etc\\passwdx"),
        ("a drive", b"C:\\temp\\xxxx"),
        ("a way out", b"../../passwd"),
        ("a way out from within", b"a/../../pass"),
        ("a way out with backslashes", b"a\\..\\..\\pass"),
        ("a way up", b"a/b/c/d/e/.."),
        ("a NUL", b"abcdef\0ghijk"),
        ("no UTF-8", b"abc\xff\xfe/defg"),
        ("a double", b"version.txt"),
    ];
    names
        .into_iter()
        .map(|(what, name)| {
            let placeholder = "x".repeat(name.len());
            let mut bytes = application_with(&placeholder)?;
            while let Some(at) = bytes.windows(name.len()).position(|window| window == placeholder.as_bytes()) {
                bytes[at..at + name.len()].copy_from_slice(name);
            }
            Ok((what, bytes))
        })
        .collect()
}

fn application_with(more: &str) -> Result<Vec<u8>> {
    let manifest = "[processes.web]\ncommand = \"serve\"\n";
    zip(&[("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", manifest), ("version.txt", "1"), (more, "")])
}

/// Writes over the directory's entry for a name: the writer of the zip crate makes no bad archives by itself.
fn write_over(bytes: &mut [u8], name: &str, at: usize, value: &[u8]) {
    let is_it = |window: &[u8]| window.starts_with(b"PK\x01\x02") && window[46..] == *name.as_bytes();
    if let Some(entry) = bytes.windows(46 + name.len()).rposition(is_it) {
        bytes[entry + at..entry + at + value.len()].copy_from_slice(value);
    }
}

async fn answer(State(store): State<Arc<Mutex<Store>>>, uri: Uri, headers: HeaderMap) -> Response<Body> {
    let path = uri.path().to_owned();
    let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
    let reply = store.files.get_mut(&path).map(|file| {
        let reply = file.clone().from(&headers);
        file.breaks = file.breaks.saturating_sub(1);
        reply
    });
    store.heads.push(format!("{uri} {headers:?}"));
    store.requests.entry(path).or_default().push(headers.clone());
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
