//! Searches for an input that breaks a promise of `fuzz::config`.
#![no_main]
#![expect(unsafe_code, reason = "libFuzzer calls a function of C")]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::config::run(input));
