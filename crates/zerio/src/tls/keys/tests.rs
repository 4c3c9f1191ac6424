//! Keys of both sides, fresh from a handshake, and when they are worn.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use super::*;
use crate::tls::handshake::{Established, Handshake};
use crate::tls::inbound::Inbound;
use crate::tls::{Side, TlsClient, TlsServer};

/// What both sides of a session have after their handshake, in this order: the client, the server.
pub(crate) fn shaken_hands() -> [(Keys, Inbound); 2] {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (identity.cert.pem(), identity.signing_key.serialize_pem());
    let server = TlsServer::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    let client = TlsClient::with_roots(certificate.as_bytes()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    let begin = |side: Side| side.begin(address).unwrap();
    let mut sides = [begin(Side::Client(client)), begin(Side::Server(server))];
    let mut heard = [Vec::new(), Vec::new()];
    let mut step = |sides: &mut [Handshake; 2], who: usize| {
        let mut said = Vec::new();
        let step = sides[who].advance(&mut heard[who], &mut said).unwrap();
        heard[who].drain(..step.done_with);
        heard[1 - who].extend(said);
        step.done
    };
    while !(step(&mut sides, 0) & step(&mut sides, 1)) {}
    sides.map(|side| {
        let Established { keys, inbound, .. } = side.finish().unwrap();
        (keys, inbound)
    })
}

impl Keys {
    /// The same with another limit.
    pub(crate) fn limited_to(self, limit: u64) -> Keys {
        Keys { limit, ..self }
    }
}

#[test]
fn keys_are_worn_when_what_is_to_be_sealed_could_pass_their_limit() {
    let [(keys, _), _] = shaken_hands();
    let (mut keys, mut out) = (keys.limited_to(12), [0; 64]);
    for sealed in 0..7 {
        assert!(!keys.are_worn(5), "{sealed} sealed");
        keys.seal(Kind::Data, b"", &mut out);
    }
    assert!(!keys.are_worn(4), "four more are fewer than what is left");
    assert!(keys.are_worn(5), "five more are all that is left");
    keys.renew(&mut out).unwrap();
    assert!(!keys.are_worn(11) && keys.are_worn(12), "the limit is each key's");
}

#[test]
fn the_limit_is_that_of_the_cipher_suite() {
    let [(keys, _), _] = shaken_hands();
    assert_eq!(keys.limit, 1 << 24, "AES-GCM's, as rustls has it");
}
