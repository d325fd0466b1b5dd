//! `make fuzz TARGET=archive`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konigle_operator_fuzz::archive::check(data));
