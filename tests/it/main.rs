//! The integration tests: one binary, so that they link once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "in tests a panic is the report")]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod artifact;
mod artifact_sources;
mod bad_bytes;
mod bad_input;
mod chart;
mod client;
mod crash;
mod documents;
mod health;
mod journeys;
mod kubernetes;
mod leading;
mod links;
mod manifests;
mod observability;
mod pitfalls;
mod plugin;
mod promotion;
mod reference;
mod sdk;
mod simulator;
mod steady;
mod test_bed;
mod trace;
