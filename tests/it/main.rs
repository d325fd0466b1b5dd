//! The integration tests: one binary, so that they link once.

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod artifact;
mod client;
mod manifests;
mod sdk;
mod simulator;
