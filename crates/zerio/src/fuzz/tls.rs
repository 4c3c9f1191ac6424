//! What `network` does, under TLS: connections that say arbitrary bytes in place of a handshake, in the middle of one or
//! after it, and records that were changed, cut, repeated, left out, or that no honest peer makes. Server and client are
//! rustls' handshake and all of the engine, and so is whoever begins a handshake.
//!
//! Keys and randoms are other ones each time, and an input that fails has to fail again. So nothing that happens may depend
//! on them: each message of the handshake is as long as ever (the signature is Ed25519's, which is always as long), no
//! clock is asked (the server is known by its key), and bytes are changed only where they are the same each time, or where
//! it does not matter what they were. rustls exchanges the extensions of a ClientHello as it likes, so none of those is, and
//! no record may be made to end among them.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use super::network::{Heard, Voice, assert_heard, play};
use super::{Input, frame};
use crate::config::Config;
use crate::driver::sim::Far;
use crate::tls::handshake::Handshake;
use crate::tls::keys::Keys;
use crate::tls::record::{Kind, OVERHEAD, RECORD_HEADER};
use crate::tls::{TlsClient, TlsServer};

/// A certificate and its key, which are for this alone.
const IDENTITY: &[u8] = include_bytes!("identity.pem");

/// That key's SHA-256.
const PIN: [u8; 32] = [
    0x41, 0x2a, 0x87, 0xb1, 0x85, 0x18, 0x54, 0x32, 0x19, 0x7e, 0x53, 0x05, 0xa0, 0xc4, 0x7c, 0x4d, 0x56,
    0xf9, 0xdd, 0x96, 0xdd, 0x76, 0x9c, 0x94, 0xef, 0x8b, 0xb0, 0x20, 0x00, 0x4a, 0xb8, 0x39,
];

/// Before the extensions of a ClientHello: what it begins with, its random, a session's id, and the cipher suites.
const HELLO_START: usize = 80;

/// Somebody who speaks TLS as far as he likes.
struct Speaker {
    tls: TlsClient,
    handshake: Option<Handshake>,
    keys: Option<Keys>,
    /// What the server has said and its handshake has not yet looked at.
    heard: Vec<u8>,
    /// What the network has not yet taken.
    unsaid: Vec<u8>,
    /// What was sealed for the server's framer, before the first record that was not said as it was made.
    said: Vec<u8>,
    /// Something has happened after which the server need not listen,
    strange: bool,
    /// or can't: a record was not said as it was made.
    over: bool,
    /// So many records in a row carry nothing, and so many new keys have come with no data between them.
    empty: usize,
    updates: usize,
}

impl Speaker {
    fn new(tls: TlsClient) -> Speaker {
        let (heard, unsaid, said) = (Vec::new(), Vec::new(), Vec::new());
        let (handshake, keys) = (None, None);
        Speaker {
            tls,
            handshake,
            keys,
            heard,
            unsaid,
            said,
            strange: false,
            over: false,
            empty: 0,
            updates: 0,
        }
    }

    /// Begins a handshake, or goes on with it.
    fn shake(&mut self, heard: &[u8]) {
        let Some(handshake) = &mut self.handshake else { return };
        self.heard.extend_from_slice(heard);
        let step = handshake.advance(&mut self.heard, &mut self.unsaid);
        let Ok(step) = step else {
            (self.handshake, self.strange) = (None, true);
            return;
        };
        drop(self.heard.drain(..step.done_with));
        if step.done {
            let established = self.handshake.take().and_then(|handshake| handshake.finish().ok());
            self.keys = Some(established.expect("it is done").keys);
        }
    }

    /// A record, and what it carries for the framer; none before there are keys.
    fn seal(&mut self, kind: Kind, plain: &[u8]) -> Option<Vec<u8>> {
        let mut record = vec![0; plain.len() + OVERHEAD];
        self.keys.as_mut()?.seal(kind, plain, &mut record);
        Some(record)
    }

    /// Says so under TLS, as it should be said.
    fn say_sealed(&mut self, plain: &[u8]) {
        let Some(record) = self.seal(Kind::Data, plain) else { return };
        self.unsaid.extend(record);
        (self.empty, self.updates) = if plain.is_empty() { (self.empty + 1, self.updates) } else { (0, 0) };
        self.strange |= self.empty > 32;
        if !self.over {
            self.said.extend_from_slice(plain);
        }
    }

    /// Says a record that something has happened to, or that no peer of ours makes.
    fn say_strange(&mut self, what: u8, input: &mut Input<'_>) {
        let (at, len) = (usize::from(input.byte()), usize::from(input.byte()));
        let plain = input.take(len);
        let kind = match what % 8 {
            0 => Kind::Alert,
            1 => Kind::Handshake,
            _ => Kind::Data,
        };
        let Some(mut record) = self.seal(kind, plain) else { return };
        match what % 8 {
            2 | 3 => {
                let place = at % record.len();
                record[place] ^= 1 << (what >> 5);
            }
            4 => record.truncate(at % record.len()),
            5 => record.extend_from_slice(&record.clone()),
            6 => record.clear(),
            7 => record[RECORD_HEADER..].fill(what),
            _ => {}
        }
        if what % 8 == 5 && !self.over {
            // The first one was as it should be.
            self.said.extend_from_slice(plain);
        }
        self.unsaid.extend(record);
        self.strange = true;
        self.over |= kind == Kind::Data;
    }
}

impl Voice for Speaker {
    fn say(&mut self, _: Option<&Far>, what: u8, input: &mut Input<'_>) {
        match what {
            1 => {
                let len = usize::from(input.byte());
                self.unsaid.extend_from_slice(input.take(len));
                self.strange |= len > 0;
            }
            2 if self.handshake.is_none() && self.keys.is_none() && !self.strange => {
                self.handshake = self.tls.begin(SocketAddr::from(([127, 0, 0, 1], 1))).ok();
                let at = self.unsaid.len();
                self.shake(&[]);
                let (how, place) = (input.byte(), usize::from(input.byte()) % HELLO_START);
                match how % 8 {
                    // Not its length, or the next record would begin somewhere among the extensions.
                    0 if !matches!(place, 3 | 4) => self.unsaid[at + place] ^= 1 << (how >> 5),
                    1 => self.unsaid.truncate(at + place),
                    _ => return,
                }
                self.strange = true;
            }
            3 => {
                let what = input.byte();
                self.say_strange(what, input);
            }
            4 => self.say_sealed(&frame(&[b'a' + input.byte() % 4])),
            5 => {
                let len = usize::from(input.byte());
                self.say_sealed(&frame(input.take(len)));
            }
            6 => {
                let len = usize::from(input.byte());
                self.say_sealed(input.take(len));
            }
            _ => {
                let mut update = vec![0; 5 + OVERHEAD];
                if let Some(keys) = &mut self.keys {
                    assert_eq!(keys.renew(&mut update), Ok(update.len()));
                    self.unsaid.extend(update);
                    // More may be too many, where no data stood between them.
                    self.updates += 1;
                    self.strange |= self.updates > 32;
                }
            }
        }
    }

    fn go_on(&mut self, far: &Far, heard: &[u8]) {
        self.shake(heard);
        if let Ok(taken) = far.try_write(&self.unsaid) {
            drop(self.unsaid.drain(..taken));
        }
    }

    fn check(&self, heard: &Heard, all: bool) {
        assert_heard(&self.said, heard, all && !self.strange && self.unsaid.is_empty());
    }
}

/// Reads what happens from `data`, lets it happen, stops the server, and checks all that came of it. Gives a number that is
/// given by all that has happened.
pub fn tls(data: &[u8]) -> u64 {
    let server = TlsServer::from_pem(IDENTITY, IDENTITY).expect("a certificate");
    let client = TlsClient::with_pinned_keys(&[PIN]).expect("a key");
    let config = Config { receive_buffer: 20_480, ..Config::default() };
    let voice = || Speaker::new(client.clone());
    play(data, config, |world| world.secure(server, client.clone()), voice)
}
