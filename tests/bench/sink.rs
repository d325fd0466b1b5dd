//! What uploads go to: it reads each to its last byte, keeps nothing, and times it. Plain or TLS, one at a time.
//!
//! It blocks, on a thread of its own, so that it is as fast as a socket can be read, and the same for whoever sends.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::certificates::Authority;
use crate::support::run_folder::new_folder;
use crate::support::{Context, Failure, Result};

/// How much is read at once, in bytes.
const BUFFER: usize = 1 << 20;
/// What a deploy is answered.
const ANSWER: &str = r#"{"id": "1", "job_id": "1", "created_at": "2026-11-24T08:30:00Z"}"#;
/// How long the sink may take to tell of an upload whose sender has ended.
const LIMIT: Duration = Duration::from_secs(10);

/// A running sink. Its thread ends with the program.
pub(crate) struct Sink {
    address: SocketAddr,
    scheme: &'static str,
    received: Receiver<Result<Received>>,
}

/// One upload.
pub(crate) struct Received {
    /// The whole body, in bytes.
    pub(crate) bytes: u64,
    /// From the end of the request's head to the end of its body.
    pub(crate) took: Duration,
}

impl Sink {
    /// One that speaks plain http.
    pub(crate) fn plain() -> Result<Self> {
        Self::start("http", receive)
    }

    /// One that speaks https, with a certificate of this authority.
    pub(crate) fn tls(authority: &Authority) -> Result<Self> {
        let files = authority.certify(&new_folder("sink")?)?;
        let certificates = CertificateDer::pem_file_iter(&files.certificate)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&files.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = Arc::new(config.with_no_client_auth().with_single_cert(certificates, key)?);
        Self::start("https", move |stream| {
            receive(StreamOwned::new(ServerConnection::new(Arc::clone(&config))?, stream))
        })
    }

    fn start(scheme: &'static str, read: impl Fn(TcpStream) -> Result<Received> + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("starting the sink")?;
        let address = listener.local_addr()?;
        let (sender, received) = sync_channel(1);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let outcome = stream.map_err(Failure::from).and_then(&read);
                if sender.send(outcome).is_err() {
                    return;
                }
            }
        });
        Ok(Self { address, scheme, received })
    }

    /// For `--konigle-base-url`.
    pub(crate) fn base_url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The next upload, which was sent whole.
    pub(crate) fn next(&self) -> Result<Received> {
        self.received.recv_timeout(LIMIT).context("waiting for an upload")?
    }
}

/// Reads one request and answers it.
fn receive(mut stream: impl Read + Write) -> Result<Received> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    let head = loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err(Failure::new("a request ended in its head"));
        }
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let began = Instant::now();
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length = header("content-length").and_then(|length| length.parse::<u64>().ok());
    let length = length.ok_or_else(|| Failure::new("an upload does not say how long it is"))?;
    // curl waits for it, up to a second.
    if header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        stream.flush()?;
    }
    let mut bytes = u64::try_from(filled - head)?;
    while bytes < length {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(Failure::new(format!("an upload ended after {bytes} of {length} bytes")));
        }
        bytes += u64::try_from(read)?;
    }
    let took = began.elapsed();
    let answer = format!(
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    stream.write_all(answer.as_bytes())?;
    stream.flush()?;
    Ok(Received { bytes, took })
}
