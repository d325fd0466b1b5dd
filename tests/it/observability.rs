//! What people see of a running operator: its metrics, and the alerts on them.

mod alerts;
mod documents;
mod metrics;
mod state_metrics;
