//! Arbitrary first frames, both ways.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zerio::fuzz::handshake(data));
