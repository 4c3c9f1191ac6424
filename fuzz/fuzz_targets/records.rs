//! Records of TLS after the handshake, changed on their way.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zerio::fuzz::records(data));
