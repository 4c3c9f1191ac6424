//! A hostile peer that speaks TLS, and well, until it has said what it has to say; then it does what none may.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use crate::driver::sim::Random;
use crate::sim::script::{EMPTY, INTERNAL_ERROR, Last};
use crate::tls::handshake::Handshake;
use crate::tls::keys::Keys;
use crate::tls::record::{Kind, OVERHEAD, PLAIN_MAX};
use crate::tls::{Side, TlsClient};

pub(super) struct Sealed {
    /// While it is not done.
    handshake: Option<Handshake>,
    /// What the server has said of it.
    heard: Vec<u8>,
    /// What there is to say under TLS, and behind that.
    plain: Vec<u8>,
    last: Last,
}

impl Sealed {
    pub(super) fn begin(tls: &TlsClient, address: SocketAddr, plain: &[u8], last: Last) -> Sealed {
        let handshake = Side::Client(tls.clone()).begin(address).ok();
        Sealed { handshake, heard: Vec::new(), plain: plain.to_vec(), last }
    }

    /// Whether it waits for the server's part of the handshake.
    pub(super) fn waits(&self) -> bool {
        self.handshake.is_some()
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        if self.waits() {
            self.heard.extend_from_slice(bytes);
        }
    }

    /// Goes on with the handshake, and says all that it has to say when that is done.
    pub(super) fn go_on(&mut self, out: &mut Vec<u8>, random: &mut Random) {
        let Some(mut handshake) = self.handshake.take() else { return };
        // Where it fails, as when the server turns it away, there is nothing to say.
        let Ok(step) = handshake.advance(&mut self.heard, out) else { return };
        self.heard.drain(..step.done_with);
        if !step.done {
            self.handshake = Some(handshake);
        } else if let Ok(established) = handshake.finish() {
            self.say_all(established.keys, out, random);
        }
    }

    fn say_all(&mut self, mut keys: Keys, out: &mut Vec<u8>, random: &mut Random) {
        let mut rest = &self.plain[..];
        while !rest.is_empty() {
            let most = rest.len().min(PLAIN_MAX) as u64;
            let (piece, others) = rest.split_at(random.of_any_size(1, most) as usize);
            seal(&mut keys, Kind::Data, piece, out);
            rest = others;
        }
        let at = out.len();
        match self.last {
            Last::Nothing => {}
            Last::Goodbye => seal(&mut keys, Kind::Alert, &[1, 0], out),
            Last::Changed => {
                seal(&mut keys, Kind::Data, b"changed", out);
                // Behind its header, which is another matter.
                let byte = random.between(at as u64 + 5, out.len() as u64 - 1) as usize;
                out[byte] ^= 1 << random.below(8);
            }
            Last::Repeated => {
                seal(&mut keys, Kind::Data, b"", out);
                out.extend_from_within(at..);
            }
            Last::Behind => {
                seal(&mut keys, Kind::Data, b"left out", out);
                out.truncate(at);
                seal(&mut keys, Kind::Data, b"", out);
            }
            Last::TooLong => in_the_clear(23, PLAIN_MAX + 257, out),
            Last::Empty => (0..EMPTY).for_each(|_| seal(&mut keys, Kind::Data, b"", out)),
            Last::Clear => in_the_clear(22, 40, out),
            Last::Alert => seal(&mut keys, Kind::Alert, &[2, INTERNAL_ERROR], out),
        }
    }
}

fn seal(keys: &mut Keys, kind: Kind, plain: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + plain.len() + OVERHEAD, 0);
    keys.seal(kind, plain, &mut out[at..]);
}

/// A record of nothing that was ever sealed.
fn in_the_clear(kind: u8, len: usize, out: &mut Vec<u8>) {
    let [high, low] = (len as u16).to_be_bytes();
    out.extend_from_slice(&[kind, 3, 3, high, low]);
    out.resize(out.len() + len, 0);
}
