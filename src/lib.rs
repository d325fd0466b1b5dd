//! `konigle-operator`: deploys artifacts to Spaces on Konigle Cloud and promotes them, from `KonigleSpace` resources.
//!
//! The modules stand in reading order. Data goes one way through them:
//! `spec → Desired → Observation → Step → (perhaps a release) → Status → resource`.
//! `ARCHITECTURE.md` is the guided tour; it starts at [`reconcile`].

pub mod reconcile;

pub mod api;
pub mod commands;
pub mod desired;
pub mod footprint;
pub mod judge;
pub mod observation;
pub mod origin;
pub mod plan;
pub mod reason;
pub mod released;
pub mod status;
pub mod text;
pub mod time;
pub mod wish;

pub mod observe;
pub mod record;
pub mod release;
pub mod tally;

pub mod context;
pub mod controller;
pub mod watch;

pub mod artifact;
pub mod konigle;

pub mod address;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crash;
pub mod credentials;
pub mod download;
pub mod health;
pub mod leader;
pub mod live_lists;
pub mod lookup;
pub mod memory;
pub mod metrics;
pub mod redact;
pub mod retry_after;
pub mod sources;
pub mod stamp;
pub mod telemetry;
pub mod turns;

#[cfg(feature = "plugin")]
pub mod plugin;
#[cfg(feature = "sim")]
pub mod sim;

#[cfg(test)]
mod test_facts;
