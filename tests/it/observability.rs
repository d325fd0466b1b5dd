//! What people see of a running operator: its metrics, the alerts on them, and the dashboard.

mod alerts;
mod dashboard;
mod documents;
mod metrics;
mod state_metrics;
