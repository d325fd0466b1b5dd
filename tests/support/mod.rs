//! The test bed: real parts as child processes on loopback. Shared by path by the integration tests, the demo and the
//! benchmarks.
//!
//! Nothing here judges the operator, and nothing sleeps for a guessed time: every wait is for a state, with a limit
//! that only a broken part reaches. Everything that is started ends with the program that started it, also when that
//! program is killed. Needed from outside: `sh`, what `tests/controlplane/build` needs, and for a small disk
//! `unshare`, `mount` and the right to make a mount namespace.

#![allow(dead_code, reason = "each of the programs that share these files uses a part of them")]

pub(crate) mod artifacts;
pub(crate) mod certificates;
pub(crate) mod control_plane;
pub(crate) mod exposition;
pub(crate) mod failure;
pub(crate) mod flux_source;
pub(crate) mod helm;
pub(crate) mod in_process;
pub(crate) mod kubectl;
pub(crate) mod logs;
pub(crate) mod markdown;
pub(crate) mod namespace;
pub(crate) mod operator;
pub(crate) mod parts;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod recording;
pub(crate) mod registry;
pub(crate) mod rights;
pub(crate) mod run_folder;
pub(crate) mod sdk;
pub(crate) mod simulator;
pub(crate) mod stage;
pub(crate) mod trace;
pub(crate) mod wire;

use std::time::Duration;

pub(crate) use failure::{Context, Failure, Result};

/// How long any part may take to answer a question of the tests. Generous: only one that hangs reaches it.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// A client for the parts on loopback, over plain http, whatever proxy the machine has. To read the system's certificates,
/// which it does not need, takes longer than the request.
pub(crate) fn http_client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().tls_certs_only(std::iter::empty()).timeout(ANSWER_LIMIT).build()?)
}
