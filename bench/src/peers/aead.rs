//! What seals the records of TLS, and nothing else: no socket, no frame, no second process. Nobody who seals on one core
//! can send more than this.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Instant;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::failure::Failure;
use crate::job::{Job, Outcome, Said};
use crate::measure::{Counts, Window};
use crate::role::{rest, say};

/// The most that a record carries (RFC 8446, section 5.1), and most records of a stream do.
const RECORD: usize = 1 << 14;

/// As much as a send ring holds by default, so that records come from a cache as they do there.
const RING: usize = 256 * 1024;

/// There is nobody to serve.
pub(crate) fn serve() -> Result<(), Failure> {
    say(&Said::Ready { port: 0, driver: None });
    rest()
}

/// Seals full records in place, one after the other. What counts is bytes: messages are as many as fit.
pub(crate) fn play(job: &Job) -> Result<Outcome, Failure> {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(Failure::new)?;
    let key = LessSafeKey::new(key);
    let mut records = vec![1; RING];
    say(&Said::Connected);
    let (mut window, mut sealed) = (Window::new(job), 0u64);
    let mut number = 0u64;
    loop {
        for record in records.chunks_exact_mut(RECORD) {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&number.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let header = [23, 3, 3, 0x40, 0x11];
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), record);
            let _ = black_box(tag.map_err(Failure::new)?);
            number += 1;
        }
        match window.look(Instant::now())? {
            Counts::Not => {}
            Counts::Yes => sealed += RING as u64,
            Counts::Over => break,
        }
    }
    let messages = sealed / job.size as u64;
    Ok(Outcome { messages, bytes: sealed, ..window.close()? })
}
