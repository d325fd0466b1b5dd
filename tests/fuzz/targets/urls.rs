//! `make fuzz TARGET=urls`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konigle_operator_fuzz::urls::check(data));
