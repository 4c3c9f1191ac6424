//! Arbitrary bytes in arbitrary pieces, received and framed.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| zerio::fuzz::framer(data));
