//! Searches for an input that breaks a promise of `fuzz::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::packet::run(input));
