//! `make fuzz TARGET=packing`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| konigle_operator_fuzz::packing::check(data));
