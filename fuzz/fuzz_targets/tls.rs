//! A whole server under TLS on a simulated network, fed arbitrary bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    zerio::fuzz::tls(data);
});
