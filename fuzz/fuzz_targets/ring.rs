//! The send path under arbitrary operations.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zerio::fuzz::ring(data));
