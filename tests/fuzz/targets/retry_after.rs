//! `make fuzz TARGET=retry_after`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konigle_operator_fuzz::retry_after::check(data));
