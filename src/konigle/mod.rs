//! Konigle Cloud, as the operator uses it: a client for the reads and the two writes, and the words of its API.
//!
//! What is known of the API comes from the official SDK, which is a client too: it shows what a client may send and
//! what it can digest, not what the server does. So everything here takes the contract at its loosest: unknown words are
//! kept as words, fields may be absent or null, lists come under `payload` or `results`. Ids are strings and stay strings
//! (they are beyond 2^53). What is not tolerated is doubt about what a list holds or about whether a write was sent.
//!
//! All paths lie under `/cloud/api/v1`, without a trailing slash:
//!
//! | call | request |
//! |---|---|
//! | [`Client::space`] | `GET /spaces/{id}` |
//! | [`Client::spaces`] | `GET /spaces?page&page_size&webapp_id` |
//! | [`Client::computers`], [`Client::webapps`] | `GET /computers`, `GET /webapps?…&computer_id` |
//! | [`Client::job`] | `GET /jobs/{id}` |
//! | [`Client::jobs`] | `GET /jobs`: no part of the published contract, used where it is served |
//! | [`Client::deploy`] | `POST /spaces/{id}/deploy`, multipart |
//! | [`Client::promote`] | `POST /spaces/{uat_id}/promote`, empty |
//!
//! **Invariants.** No request is ever repeated here, and no redirect followed: whoever asks decides what to do next. Every
//! body that is read has a cap and every call a total time-out. The token is in no error, no `Debug` and no log line.
//! Absent: any judgement on what the remote's state means (`plan`), the simulator's types (`sim`), Kubernetes.

mod account;
mod answer;
mod base_url;
mod client;
mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod job;
mod lexer;
mod list;
pub mod model;
mod pace;
mod submit;

pub use account::{Account, TokenProblem, parse_token};
pub use answer::{Answer, Rejection, Write, classify};
pub use base_url::{BaseUrlError, Guard};
pub use client::{Client, ClientError, Clients, Limits, Settings};
pub use error::{DEFAULT_RETRY_AFTER, LONGEST_RETRY_AFTER, ReadError};
pub use submit::{ANSWER_LIMIT, FENCE, Fence, NotNow, Sending, Upload, submit_limit};
