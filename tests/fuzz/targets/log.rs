//! `make fuzz TARGET=log`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konigle_operator_fuzz::log::check(data));
