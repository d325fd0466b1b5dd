//! What people see of a running operator: metrics, alerts, the dashboard, logs and traces.

mod alerts;
mod dashboard;
mod documents;
mod logs;
mod metrics;
mod state_metrics;
mod traces;
