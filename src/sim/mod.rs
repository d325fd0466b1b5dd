//! A simulator of the Konigle Cloud API: `konigle-sim`, and in tests a [`Simulator`] in the same process.
//!
//! It answers `/cloud/api/v1` as the official SDK expects it, runs jobs by a clock of its own, and keeps a ledger of every
//! write it accepted. What the SDK does not tell is a *reading*: one switch per open question. Under `/_sim/` all of it is
//! controlled: readings, faults, clock, ledger, objects; `docs/simulator.md` has an example of each.
//!
//! Data goes `listener → api → (upload) → releases and jobs on the World of state → views`; `control` reaches into the
//! same World. Absent: any type of the operator's client. The simulator writes its own JSON, so that client and simulator
//! cannot be wrong in the same way.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::any;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

mod api;
mod control;
mod faults;
mod jobs;
mod listener;
mod readings;
mod releases;
mod requests;
mod seed;
mod state;
mod upload;
mod views;

pub use control::ENDPOINTS;
pub use seed::Seed;

use listener::{ClosableListener, Connection};
use state::{Micros, Refusal, World, seconds};

/// How a simulator is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What is there at the start, and after a reset.
    pub seed: Seed,
    /// The base of the `next` and `previous` links of pages, where it is not the `Host` of the request.
    pub public_url: Option<String>,
    /// How long a job takes, in seconds, instead of what the seed says.
    pub job_seconds: Option<f64>,
}

impl Default for Options {
    /// A free loopback port and the demo tenant.
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen, seed: Seed::demo(), public_url: None, job_seconds: None }
    }
}

/// Why a simulator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The seed names an id or name twice, or has a reading that does not exist.
    #[error("failed to use the seed: {0}")]
    Seed(String),
    /// The address cannot be listened on.
    #[error("failed to listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// The machine has no randomness for the job ids.
    #[error("failed to read random bytes")]
    Random,
}

/// A request that the control API refused.
#[derive(Debug, thiserror::Error)]
#[error("the control API answered {status}: {message}")]
pub struct ControlError {
    /// The HTTP status it has over HTTP.
    pub status: u16,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// What the handlers share.
struct App {
    world: Mutex<World>,
    options: Options,
}

impl App {
    /// The state as it is now.
    fn world(&self) -> MutexGuard<'_, World> {
        // A panic in one handler must not take the others' answers away; no change is left half done over an await.
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle(machine_time());
        world
    }

    fn fresh_world(&self) -> Result<World, Refusal> {
        fresh_world(&self.options)
    }
}

fn fresh_world(options: &Options) -> Result<World, Refusal> {
    let mut salt = [0; 16];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| Refusal::new(500, "no random bytes"))?;
    let mut world = World::new(machine_time(), salt);
    options.seed.sow(&mut world)?;
    world.job_defaults.seconds = options.job_seconds.or(world.job_defaults.seconds);
    Ok(world)
}

/// The machine's time.
fn machine_time() -> Micros {
    crate::clock::now().as_microsecond()
}

/// A running simulator. It serves in the current runtime and stops when it is dropped: no new connection is taken, open
/// ones are closed after their current answer.
pub struct Simulator {
    /// `http://127.0.0.1:PORT`.
    pub base_url: String,
    /// Where it listens.
    pub address: SocketAddr,
    app: Arc<App>,
    serving: tokio::task::JoinHandle<io::Result<()>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Simulator {
    /// Listens and serves in the background.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let world = fresh_world(&options).map_err(|refusal| StartError::Seed(refusal.message))?;
        let failed = |error| StartError::Listen(options.listen, error);
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let app = Arc::new(App { world: Mutex::new(world), options });
        let router = Router::new()
            .route("/_sim", any(control::serve))
            .route("/_sim/", any(control::serve))
            .route("/_sim/{*path}", any(control::serve))
            .fallback(api::serve)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&app))
            .into_make_service_with_connect_info::<Connection>();
        let stop = CancellationToken::new();
        let server =
            axum::serve(ClosableListener(listener), router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let serving = tokio::spawn(server.into_future());
        Ok(Self {
            base_url: format!("http://{address}"),
            address,
            app,
            serving,
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Takes no more connections and waits until open ones have ended.
    pub async fn stop(self) -> io::Result<()> {
        self.stop.cancel();
        self.serving.await.map_err(io::Error::other)?
    }

    /// One request of the control API, without HTTP. `path` is what follows `/_sim/`, with or without a query.
    pub fn control(&self, method: &str, path: &str, body: Value) -> Result<Value, ControlError> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let result = match method.parse::<Method>() {
            Ok(method) => control::handle(&self.app, &method, path, query, body),
            Err(error) => Err(Refusal::new(400, error.to_string())),
        };
        result.map_err(|refusal| ControlError { status: refusal.status, message: refusal.message })
    }

    /// Every accepted write, oldest first: `GET /_sim/ledger`.
    #[must_use]
    pub fn ledger(&self) -> Vec<Value> {
        self.app.world().ledger.iter().map(|entry| json!(entry)).collect()
    }

    /// Changes one reading: `PATCH /_sim/readings`.
    pub fn set_reading(&self, name: &str, value: impl Into<Value>) -> Result<(), ControlError> {
        self.control("PATCH", "readings", json!({name: value.into()})).map(drop)
    }

    /// Adds a fault: `POST /_sim/faults`.
    pub fn fault(&self, fault: Value) -> Result<(), ControlError> {
        self.control("POST", "faults", fault).map(drop)
    }

    /// Moves the clock of jobs forward: `POST /_sim/clock`.
    pub fn advance(&self, by: f64) {
        let mut world = self.app.world();
        world.clock.advance(seconds(by));
        world.settle(machine_time());
    }

    /// A Space and what runs in it: `GET /_sim/spaces/ID`.
    pub fn space(&self, id: &str) -> Result<Value, ControlError> {
        self.control("GET", &format!("spaces/{id}"), Value::Null)
    }

    /// How often what was asked for: `GET /_sim/requests`.
    #[must_use]
    pub fn requests(&self) -> Value {
        json!(self.app.world().requests)
    }
}
