//! A whole server's engine on an arbitrary kernel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zerio::fuzz::server(data));
