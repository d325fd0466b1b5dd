//! A proxy for bytes between two parts: it delays, swallows, cuts and drips what passes, https too, for it reads nothing.
//!
//! A fault is for all connections from now on, those that stand already too ([`Wire::set`]), or for the next connections
//! whose first bytes are these ([`Wire::next`]): a write goes over a connection of its own, so `POST` meets one request.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::{Context, Failure, Result};

/// What is done to a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Every piece arrives so much later, in both directions.
    Latency(Duration),
    /// Nothing passes in either direction, and nothing is closed.
    BlackHole,
    /// So many bytes of the request pass, then nothing, and nothing is closed.
    Stall(usize),
    /// The request passes, and so many bytes of the answer; then the connection is reset.
    Reset(usize),
    /// The request passes, and so many bytes of the answer; then the answer ends, as if that were all.
    Truncate(usize),
    /// The answer comes one byte at a time, with so long a pause between two.
    Drip(Duration),
}

/// A running proxy. Dropping it closes it and all its connections.
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: SocketAddr,
    for_all: watch::Sender<Option<Fault>>,
    next: Mutex<Vec<Next>>,
    refusing: watch::Sender<bool>,
}

struct Next {
    beginning: &'static str,
    times: usize,
    fault: Fault,
}

impl Wire {
    /// Starts it before `upstream`, a base URL on loopback.
    pub(crate) async fn start(upstream: &str) -> Result<Self> {
        let url = reqwest::Url::parse(upstream).context(format!("reading {upstream}"))?;
        let port = url.port_or_known_default().ok_or_else(|| Failure::new(format!("{upstream} has no port")))?;
        let shared = Arc::new(Shared {
            upstream: (Ipv4Addr::LOCALHOST, port).into(),
            for_all: watch::Sender::new(None),
            next: Mutex::default(),
            refusing: watch::Sender::new(false),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("starting a proxy for bytes")?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, address, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Starts it before the API server that this kubeconfig file of the test bed names; the same account through it.
    pub(crate) async fn before_api_server(kubeconfig: &Path) -> Result<(Self, PathBuf)> {
        let reading = || format!("reading {}", kubeconfig.display());
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig).context(reading())?)?;
        let server = &mut config["clusters"][0]["cluster"]["server"];
        let wire = Self::start(server.as_str().unwrap_or_default()).await?;
        *server = Value::from(format!("https://{}", wire.address));
        let path = kubeconfig.with_extension("wired");
        std::fs::write(&path, config.to_string()).context(format!("writing {}", path.display()))?;
        Ok((wire, path))
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does this to all connections from now on, or nothing any more: what a black hole held back then passes.
    pub(crate) fn set(&self, fault: Option<Fault>) {
        self.shared.for_all.send_replace(fault);
    }

    /// Does this to the next connections whose first bytes are these, such as `POST`.
    pub(crate) fn next(&self, beginning: &'static str, times: usize, fault: Fault) {
        self.shared.rules().push(Next { beginning, times, fault });
    }

    /// Whether all that was asked for by [`Wire::next`] has met its connections.
    pub(crate) fn is_used_up(&self) -> bool {
        self.shared.rules().iter().all(|next| next.times == 0)
    }

    /// Has connections refused, as where nobody listens, or takes them again. Those that stand are closed.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.refusing.send_replace(refuse);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Vec<Next>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be done to a connection that begins so.
    fn fault_of(&self, beginning: &[u8]) -> Option<Fault> {
        let mut rules = self.rules();
        let next = rules.iter_mut().find(|next| next.times > 0 && beginning.starts_with(next.beginning.as_bytes()))?;
        next.times -= 1;
        Some(next.fault)
    }
}

async fn serve(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut refusing = shared.refusing.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if *refusing.borrow_and_update() {
            listener = None;
            connections.abort_all();
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = accept => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(carry(stream, Arc::clone(&shared)));
                }
            }
            changed = refusing.changed() => if changed.is_err() { return },
        }
    }
}

/// One connection; it ends when both directions have.
async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true);
    let mut first = vec![0; 16 << 10];
    let (mut from_client, to_client) = client.into_split();
    let Ok(length) = from_client.read(&mut first).await else { return };
    first.truncate(length);
    let fault = shared.fault_of(&first);
    let Ok(server) = TcpStream::connect(shared.upstream).await else { return };
    let _ = server.set_nodelay(true);
    let (from_server, to_server) = server.into_split();
    let request = Direction { from: from_client, to: to_server, answers: false, fault, shared: Arc::clone(&shared) };
    let answer = Direction { from: from_server, to: to_client, answers: true, fault, shared };
    let request = request.carry(first);
    let answer = answer.carry(Vec::new());
    tokio::pin!(request, answer);
    // Whoever waits for an answer may have closed its own side; where the answer has ended, the connection has.
    tokio::select! {
        () = &mut answer => {}
        () = &mut request => answer.await,
    }
}

struct Direction {
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    /// Whether it carries answers, or requests.
    answers: bool,
    fault: Option<Fault>,
    shared: Arc<Shared>,
}

impl Direction {
    async fn carry(mut self, mut piece: Vec<u8>) {
        let mut for_all = self.shared.for_all.subscribe();
        let mut carried = 0;
        loop {
            if piece.is_empty() {
                piece.resize(16 << 10, 0);
                let Ok(length) = self.from.read(&mut piece).await else { return };
                piece.truncate(length);
            }
            if piece.is_empty() {
                let _ = self.to.shutdown().await;
                return;
            }
            // A black hole for all ends; one for this connection does not.
            if self.fault.is_none() && for_all.wait_for(|fault| *fault != Some(Fault::BlackHole)).await.is_err() {
                return;
            }
            let fault = self.fault.or(*for_all.borrow_and_update());
            if !self.pass(&piece, carried, fault).await {
                return;
            }
            carried += piece.len();
            piece.clear();
        }
    }

    /// Passes a piece on, of a direction that has carried so many bytes; whether it goes on.
    async fn pass(&mut self, piece: &[u8], carried: usize, fault: Option<Fault>) -> bool {
        match (fault, self.answers) {
            (Some(Fault::Latency(latency)), _) => tokio::time::sleep(latency).await,
            (Some(Fault::BlackHole), _) => return std::future::pending().await,
            (Some(Fault::Stall(bytes)), false) if carried + piece.len() > bytes => {
                let _ = self.to.write_all(&piece[..bytes.saturating_sub(carried)]).await;
                // Until its sender gives up.
                let mut rest = vec![0; 16 << 10];
                while self.from.read(&mut rest).await.is_ok_and(|length| length > 0) {}
                return false;
            }
            (Some(Fault::Truncate(bytes)), true) if carried + piece.len() > bytes => {
                let _ = self.to.write_all(&piece[..bytes.saturating_sub(carried)]).await;
                let _ = self.to.shutdown().await;
                return false;
            }
            (Some(Fault::Reset(bytes)), true) if carried + piece.len() > bytes => {
                let _ = self.to.write_all(&piece[..bytes.saturating_sub(carried)]).await;
                // Closed with nothing left to say: the kernel sends a reset.
                let _ = self.to.as_ref().set_zero_linger();
                return false;
            }
            (Some(Fault::Drip(pause)), true) => {
                for byte in piece {
                    tokio::time::sleep(pause).await;
                    if self.to.write_all(&[*byte]).await.is_err() {
                        return false;
                    }
                }
                return true;
            }
            _ => {}
        }
        self.to.write_all(piece).await.is_ok()
    }
}
