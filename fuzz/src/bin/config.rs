//! Searches for an input that breaks a promise of `fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::config::run(input));
