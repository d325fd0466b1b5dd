//! The two writes, each made at most once: one POST over a connection of its own.
//!
//! **Guarantees.** [`Answer::Unsent`] means that the server cannot have the whole request: either no byte of it left this
//! process, or, for a deploy, not all bytes of the file did, and none will. [`Answer::Unknown`] is everything that is not
//! proven otherwise. Nothing is sent when the fence has passed or shutdown was asked for before the connection stood.
//!
//! **Assumption.** A body that is shorter than its `Content-Length` is never accepted.
//!
//! **How.** All that decides between *unsent* and *unknown* is one small state behind one lock ([`Transfer`]): the
//! connection asks it for leave when it stands, the file's stream before each piece. Whoever gives up *cuts* it first, so
//! that no piece can slip out after the verdict, though the HTTP client sends from a task of its own.

use std::io::{self, Read as _};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use prometheus_client::metrics::counter::Counter;
use reqwest::header::CONTENT_LENGTH;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, RequestBuilder, Response};
use tokio::fs::File;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::layer::layer_fn;
use tracing::Instrument as _;

use super::answer::{Answer, Rejection, Write, classify};
use super::client::{Client, read_body};
use super::error::innermost;
use super::model::{Deployment, is_id};
use crate::crash;
use crate::stamp::Stamp;
use crate::telemetry;

/// Bytes of the file that are read, counted and handed over at once.
const PIECE_BYTES: usize = 1 << 20;
/// So many pieces may be read that were not handed over yet.
const PIECES_AHEAD: usize = 2;
/// What the official client calls every upload.
const FILE_NAME: &str = "app.zip";

/// What is uploaded.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The deployment's name, for people; left out if it is empty.
    pub display_name: String,
    /// The ZIP file, on disk and checked.
    pub file: PathBuf,
    /// As it was when it was checked.
    pub stamp: Stamp,
    /// Tells how many bytes of it were handed over, as they go.
    pub sent: Arc<AtomicU64>,
}

/// How long after its claim a write may still be begun.
pub const FENCE: Duration = Duration::from_secs(10);
/// How long the body of the answer to a write may take, once its head is there.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How long one write may take in all: a minute, and a second for each MiB.
#[must_use]
pub fn submit_limit(size: u64) -> Duration {
    Duration::from_secs(size.div_ceil(1 << 20).saturating_add(60))
}

/// Until when a claimed write may be begun.
///
/// By two clocks, for each can be wrong: the monotonic one stands still while the machine sleeps, the wall clock is set by
/// others. A process that was stopped after its claim must not wake up and send.
#[derive(Clone, Copy, Debug)]
pub struct Fence {
    claimed: SystemTime,
    latest: Instant,
    latest_wall: Option<SystemTime>,
}

impl Fence {
    /// A fence `allowed` after the claim, which was begun at `claimed` and `claimed_wall`.
    #[must_use]
    pub fn new(claimed: Instant, claimed_wall: SystemTime, allowed: Duration) -> Self {
        Self { claimed: claimed_wall, latest: claimed + allowed, latest_wall: claimed_wall.checked_add(allowed) }
    }

    /// Whether the write may be begun now.
    pub fn check(&self) -> Result<(), NotNow> {
        self.check_at(Instant::now(), crate::clock::system())
    }

    fn check_at(&self, now: Instant, wall: SystemTime) -> Result<(), NotNow> {
        if wall < self.claimed {
            return Err(NotNow::ClockWentBack);
        }
        if now > self.latest || self.latest_wall.is_none_or(|latest| wall > latest) {
            return Err(NotNow::TooLate);
        }
        Ok(())
    }
}

/// Why a write is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// The fence has passed.
    #[error("too much time has passed since the claim")]
    TooLate,
    /// The wall clock shows a time before the claim.
    #[error("the clock of this machine was set back")]
    ClockWentBack,
    /// Shutdown was asked for, or the lease lost.
    #[error("the operator is shutting down")]
    ShuttingDown,
    /// It was given up already, or a connection stood already.
    #[error("the request was given up")]
    GivenUp,
}

/// Under which circumstances a write may be begun and go on.
#[derive(Clone, Debug)]
pub struct Sending {
    /// Until when it may be begun.
    pub fence: Fence,
    /// Cancelled when the process is to end or no longer leads.
    pub shutdown: CancellationToken,
    /// How long it may take until the head of the answer is there; see [`submit_limit`].
    pub timeout: Duration,
}

impl Sending {
    fn check(&self) -> Result<(), NotNow> {
        if self.shutdown.is_cancelled() { Err(NotNow::ShuttingDown) } else { self.fence.check() }
    }
}

impl Client {
    /// Uploads an artifact to a Space: `POST /spaces/{id}/deploy`, at most once.
    pub async fn deploy(&self, space_id: &str, upload: Upload, sending: &Sending) -> Answer {
        let file = match crash::around("open-upload", open(&upload)).await {
            Ok(file) => file,
            Err(why) => return Answer::Unsent(why),
        };
        let size = upload.stamp.size;
        let transfer = Transfer::new(size, sending.clone(), self.metrics.deployed_bytes());
        let sent = upload.sent;
        let stream = read_ahead(file, size);
        let gate = Arc::clone(&transfer);
        let pieces = stream.map(move |piece| {
            let piece = gate.hand_over(piece)?;
            sent.fetch_add(u64::try_from(piece.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
            Ok::<_, io::Error>(piece)
        });
        let body = Body::wrap_stream(crash::to_the_end("submit", "body", pieces));
        // Only a malformed media type is an error here.
        let part = Part::stream_with_length(body, size).file_name(FILE_NAME).mime_str("application/zip");
        let Ok(part) = part else { return Answer::Unsent("the request cannot be built".to_owned()) };
        let named = if upload.display_name.is_empty() {
            Form::new()
        } else {
            Form::new().text("display_name", upload.display_name)
        };
        let form = named.part("zip_file", part);
        self.submit(Write::Deploy, space_id, &transfer, |request| request.multipart(form)).await
    }

    /// Promotes what runs on a uat Space to the production Space beside it: `POST /spaces/{uat}/promote`, at most once.
    pub async fn promote(&self, uat_space_id: &str, sending: &Sending) -> Answer {
        let transfer = Transfer::new(0, sending.clone(), self.metrics.deployed_bytes());
        // Without a body the HTTP client would send no length, which some servers ask for (411).
        self.submit(Write::Promote, uat_space_id, &transfer, |request| request.header(CONTENT_LENGTH, 0)).await
    }

    async fn submit(
        &self,
        write: Write,
        space_id: &str,
        transfer: &Arc<Transfer>,
        fill: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Answer {
        // Also when the caller drops this future: nothing is sent on behind its back.
        let _cut = CutOnDrop(Arc::clone(transfer));
        let operation = match write {
            Write::Deploy => "deploy",
            Write::Promote => "promote",
        };
        if !is_id(space_id) {
            return Answer::Unsent("this is no id that Konigle could have given".to_owned());
        }
        let patience = transfer.sending.fence.latest.saturating_duration_since(Instant::now());
        if let Err(retry_after) = self.enter(patience).await {
            return Answer::Unsent(format!("the rate limit is reached for {} s more", retry_after.as_secs().max(1)));
        }
        if let Err(not_now) = transfer.sending.check() {
            return Answer::Unsent(not_now.to_string());
        }
        let gate = Arc::clone(transfer);
        let layer = layer_fn(move |connector| Gated { connector, gate: Arc::clone(&gate) });
        let http = match self.http_client().http1_only().pool_max_idle_per_host(0).connector_layer(layer).build() {
            Ok(http) => http,
            Err(error) => {
                return Answer::Unsent(format!("no HTTP client can be made: {}", innermost(&error, &self.redactor)));
            }
        };
        let request = fill(http.post(self.endpoint(&["spaces", space_id, operation])));
        crash::point("submit", "before");
        let (began, span) = (Instant::now(), telemetry::request_span(operation));
        let answer = match self.await_head(request, transfer).instrument(span.clone()).await {
            Ok(response) => {
                crash::point("submit", "head");
                self.record(operation, Some(response.status().as_u16()), (began, &span));
                self.read_answer(write, response).await
            }
            Err(answer) => {
                self.record(operation, None, (began, &span));
                answer
            }
        };
        crash::point("submit", "after");
        let answer = answer.redacted(&self.redactor);
        match &answer {
            Answer::Rejected(Rejection::RateLimited { retry_after }) => self.pause(*retry_after),
            Answer::Accepted(Deployment { job_id, id: None, .. } | Deployment { job_id, created_at: None, .. }) => {
                tracing::warn!(job = job_id, "the reply to an accepted write lacks `id` or `created_at`");
            }
            Answer::Accepted(_) | Answer::Rejected(_) | Answer::Unsent(_) | Answer::Unknown(_) => {}
        }
        answer
    }

    /// Sends, and waits for the head of the answer; without one, what is known of the request.
    async fn await_head(&self, request: RequestBuilder, transfer: &Transfer) -> Result<Response, Answer> {
        let Sending { shutdown, timeout: limit, .. } = &transfer.sending;
        let mut exchange = std::pin::pin!(request.send());
        let mut overdue = std::pin::pin!(sleep(*limit));
        let broken = |error: &reqwest::Error| transfer.verdict(&innermost(error, &self.redactor));
        tokio::select! {
            biased;
            result = &mut exchange => return result.map_err(|error| broken(&error)),
            () = &mut overdue => return Err(transfer.verdict(&format!("no answer within {} s", limit.as_secs()))),
            () = shutdown.cancelled() => {}
        }
        if transfer.cut() {
            return Err(Answer::Unsent(NotNow::ShuttingDown.to_string()));
        }
        // The server has all of it: the answer is worth waiting for.
        tokio::select! {
            biased;
            result = &mut exchange => result.map_err(|error| broken(&error)),
            () = &mut overdue => Err(transfer.verdict(&format!("no answer within {} s", limit.as_secs()))),
            () = sleep(self.limits.shutdown) => Err(transfer.verdict("the operator shut down before the answer came")),
        }
    }

    async fn read_answer(&self, write: Write, response: Response) -> Answer {
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let reading = read_body(response, self.limits.object_bytes, |piece| body.extend_from_slice(piece));
        if !matches!(timeout(self.limits.answer, reading).await, Ok(Ok(true))) {
            if status.is_success() {
                return Answer::Unknown(format!("Konigle answered {}, but the reply broke off", status.as_u16()));
            }
            body.clear();
        }
        classify(write, status, &headers, &body)
    }
}

/// Opens the file, and sees that it is the one that was checked.
async fn open(upload: &Upload) -> Result<std::fs::File, String> {
    // The kind only: the path would tell of this machine, and helps nobody who reads a status.
    let failed = |error: io::Error| format!("the artifact's file cannot be read: {}", error.kind());
    let file = File::open(&upload.file).await.map_err(failed)?;
    let found = file.metadata().await.map_err(failed)?;
    if Stamp::of(&found) == Some(upload.stamp) {
        return Ok(file.into_std().await);
    }
    Err("the artifact's file was changed since it was checked; it is checked anew".to_owned())
}

/// The file's pieces, read on a thread of their own while those before are sent: in turns it would take a third longer
/// (`make bench`).
fn read_ahead(file: std::fs::File, size: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (pieces, ready) = mpsc::channel(PIECES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut file = file.take(size);
        loop {
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            let piece = match file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece) {
                Ok(0) => return,
                Ok(_) => Ok(Bytes::from(piece)),
                Err(error) => Err(error),
            };
            // Nobody takes more where the request was given up.
            if pieces.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    stream::unfold(ready, async |mut ready| Some((ready.recv().await?, ready)))
}

/// What has left this process of one write, and whether more may.
#[derive(Debug)]
struct Transfer {
    sending: Sending,
    size: u64,
    /// Counts the bytes of all files that were handed over.
    counter: Counter,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A connection stood and was given leave: the head may have gone out.
    connected: bool,
    /// Bytes of the file that were handed to the HTTP client.
    handed_over: u64,
    /// Given up: nothing more goes out.
    cut: bool,
}

impl Transfer {
    /// `size` is the file's, in bytes; without a file the request is whole as soon as the connection stands.
    fn new(size: u64, sending: Sending, counter: Counter) -> Arc<Self> {
        Arc::new(Self { sending, size, counter, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection stands; may it be used? Once only.
    fn connected(&self) -> Result<(), NotNow> {
        let mut state = self.state();
        if state.cut || state.connected {
            return Err(NotNow::GivenUp);
        }
        self.sending.check()?;
        state.connected = true;
        Ok(())
    }

    /// A piece of the file was read; may it go out?
    fn hand_over(&self, piece: io::Result<Bytes>) -> io::Result<Bytes> {
        let piece = piece?;
        let mut state = self.state();
        if state.cut {
            return Err(io::Error::other(NotNow::GivenUp));
        }
        if state.handed_over == 0 {
            crash::point("submit", "headers");
        }
        let before = state.handed_over;
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        state.handed_over += length;
        self.counter.inc_by(length);
        if (before..state.handed_over).contains(&(self.size / 2)) {
            crash::point("submit", "half");
        }
        Ok(piece)
    }

    /// Lets nothing more go out; true if what did go out cannot be the whole request.
    fn cut(&self) -> bool {
        let mut state = self.state();
        state.cut = true;
        !state.connected || state.handed_over < self.size
    }

    /// Gives up, and says what that means.
    fn verdict(&self, why: &str) -> Answer {
        if !self.cut() {
            return Answer::Unknown(format!("{why}, after the request was sent"));
        }
        let State { connected, handed_over, .. } = *self.state();
        Answer::Unsent(if connected {
            format!("{why}, after {handed_over} of {} bytes", self.size)
        } else {
            why.to_owned()
        })
    }
}

struct CutOnDrop(Arc<Transfer>);

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.0.cut();
    }
}

/// A connector that asks for leave once its connection stands, TLS and proxy included.
#[derive(Clone)]
struct Gated<S> {
    connector: S,
    gate: Arc<Transfer>,
}

impl<S, R> tower::Service<R> for Gated<S>
where
    S: tower::Service<R>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
    S::Response: 'static,
{
    type Response = S::Response;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: R) -> Self::Future {
        let connecting = self.connector.call(target);
        let gate = Arc::clone(&self.gate);
        Box::pin(async move {
            let connection = connecting.await.map_err(Into::into)?;
            gate.connected()?;
            crash::point("submit", "connected");
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fence_holds_by_either_clock() {
        let (now, wall) = (Instant::now(), crate::clock::system());
        let fence = Fence::new(now, wall, 10 * SECOND);
        for (monotonic, real, expected) in [
            (0, 0, Ok(())),
            (10, 10, Ok(())),
            (11, 1, Err(NotNow::TooLate)),
            (1, 11, Err(NotNow::TooLate)),
            (1, -1, Err(NotNow::ClockWentBack)),
            (11, -1, Err(NotNow::ClockWentBack)),
        ] {
            let real = if real < 0 { wall - SECOND } else { wall + SECOND * u32::try_from(real).unwrap() };
            assert_eq!(fence.check_at(now + SECOND * monotonic, real), expected, "{monotonic} {real:?}");
        }
        assert_eq!(
            Fence::new(now, wall, Duration::MAX / 4).check_at(now, wall).is_ok(),
            wall.checked_add(Duration::MAX / 4).is_some()
        );
    }

    #[test]
    fn the_limit_grows_with_the_size() {
        for (size, seconds) in [(0, 60), (1, 61), (1 << 20, 61), ((1 << 20) + 1, 62), (5 << 30, 60 + 5120)] {
            assert_eq!(submit_limit(size), Duration::from_secs(seconds), "{size}");
        }
    }

    fn transfer(size: u64) -> Arc<Transfer> {
        let fence = Fence::new(Instant::now(), crate::clock::system(), 10 * SECOND);
        let sending = Sending { fence, shutdown: CancellationToken::new(), timeout: SECOND };
        Transfer::new(size, sending, Counter::default())
    }

    /// Every order of events that matters, and whether giving up after them proves that nothing was sent.
    #[test]
    fn gives_up_with_proof_only_while_something_is_missing() {
        for (size, connected, pieces, unsent) in [
            (0, false, &[][..], true),
            (0, true, &[], false),
            (8, false, &[], true),
            (8, true, &[], true),
            (8, true, &[4], true),
            (8, true, &[4, 3], true),
            (8, true, &[4, 4], false),
        ] {
            let transfer = transfer(size);
            if connected {
                transfer.connected().unwrap();
            }
            for piece in pieces {
                transfer.hand_over(Ok(Bytes::from(vec![0; *piece]))).unwrap();
            }
            assert_eq!(transfer.cut(), unsent, "{size} {connected} {pieces:?}");
            assert!(transfer.hand_over(Ok(Bytes::from_static(b"late"))).is_err(), "nothing goes out after the cut");
            assert_eq!(
                transfer.counter.get(),
                pieces.iter().sum::<usize>() as u64,
                "what did not go out is not counted"
            );
            assert_eq!(transfer.connected(), Err(NotNow::GivenUp));
            assert_eq!(matches!(transfer.verdict("why"), Answer::Unsent(_)), unsent, "the verdict stays");
        }
    }

    #[test]
    fn a_connection_gets_leave_once_and_not_after_shutdown() {
        let once = transfer(0);
        assert_eq!((once.connected(), once.connected()), (Ok(()), Err(NotNow::GivenUp)));
        let late = transfer(0);
        late.sending.shutdown.cancel();
        assert_eq!(late.connected(), Err(NotNow::ShuttingDown));
        assert!(late.cut());
    }
}
