//! The fuzz functions: what must hold whatever bytes come from elsewhere.
//!
//! Each is an ordinary function of bytes that panics when a promise is broken. `tests/it/bad_bytes.rs` calls them with the
//! kept inputs of `tests/fuzz/corpus` and with generated ones, on stable; `make fuzz` runs them under libFuzzer.
//!
//! Absent: the code under test, and anything that decides by it what is right.

pub mod answers;
pub mod archive;
pub mod log;
pub mod packing;
pub mod retry_after;
pub mod secret;
pub mod urls;
