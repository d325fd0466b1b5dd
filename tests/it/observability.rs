//! What people see of a running operator: its metrics.

mod documents;
mod metrics;
