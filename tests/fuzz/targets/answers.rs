//! `make fuzz TARGET=answers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konigle_operator_fuzz::answers::check(data));
