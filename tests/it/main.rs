//! The integration tests: one binary, so that they link once.

mod artifact;
mod client;
mod sdk;
mod simulator;
