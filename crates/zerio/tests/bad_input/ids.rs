//! First frames that are no peer id, or somebody else's.
#![forbid(unsafe_code)]

use zerio::{BadPeerId, Client, Error, RefusalCode, Rejection};

use crate::hostile::{RawPeer, frame, undisturbed};

/// Each of these first frames is refused as a bad peer id.
fn are_refused(hellos: &[&[u8]]) {
    undisturbed(
        |_| {},
        |scene| {
            for hello in hellos {
                let mut peer = RawPeer::connect(scene.address);
                let local = peer.local();
                peer.say(&frame(hello));
                peer.hears_refusal(RefusalCode::BadPeerId);
                drop(peer);
                let rejection = scene.events.rejection_of(local);
                assert_eq!(rejection, Rejection::Refused(RefusalCode::BadPeerId), "{hello:?}");
            }
            assert_eq!(scene.server.counters().engine.refused, hellos.len() as u64);
            assert_eq!(scene.server.counters().engine.connected, 1, "the good client");
        },
    );
}

/// Each of these first frames is welcome, and comes back whole.
fn are_welcome(hellos: &[&[u8]]) {
    undisturbed(
        |_| {},
        |scene| {
            for hello in hellos {
                let mut peer = RawPeer::connect(scene.address);
                peer.say(&frame(hello));
                assert_eq!(peer.hear(), *hello);
                peer.say(&frame(b"oui"));
                assert_eq!(peer.hear(), b"oui");
            }
        },
    );
}

#[test]
fn an_empty_id_is_refused_and_one_byte_is_not() {
    are_refused(&[b""]);
    are_welcome(&[b"x"]);
}

#[test]
fn an_id_of_256_bytes_is_refused_and_one_of_255_is_not() {
    are_refused(&[&[b'x'; 256], "ö".repeat(128).as_bytes()]);
    are_welcome(&[&[b'x'; 255], [&"ö".repeat(127), "x"].concat().as_bytes()]);
}

#[test]
fn an_id_that_is_not_utf8_is_refused() {
    are_refused(&[b"\xff", b"half a letter: \xc3", b"\xed\xa0\x80"]);
    are_welcome(&["größer".as_bytes(), "数".as_bytes()]);
}

#[test]
fn an_id_with_a_control_character_is_refused() {
    are_refused(&[b"a\tb", b"\n", b"\x1b[2J", b"\x7f", "\u{85}".as_bytes()]);
    are_welcome(&[b"a b", "a\u{a0}b".as_bytes()]);
}

#[test]
fn a_feature_block_that_is_ill_formed_is_refused() {
    are_refused(&[b"id\0", b"id\0\x01", b"id\0\x01\x02a", b"id\0\0\0", b"id\0\x01\0\x02", b"\0\x01\0"]);
    are_welcome(&[b"id\0\x01\0", b"id2\0\x01\x02ab", b"id3\0\x01\0\x02\x01c"]);
}

#[test]
fn an_id_that_is_taken_is_refused_and_its_owner_keeps_it() {
    undisturbed(
        |_| {},
        |scene| {
            let mut first = RawPeer::welcome(scene.address, "taken");
            let mut second = RawPeer::connect(scene.address);
            second.say(&frame(b"taken"));
            second.hears_refusal(RefusalCode::AlreadyConnected);
            let local = second.local();
            drop(second);
            let rejection = scene.events.rejection_of(local);
            assert_eq!(rejection, Rejection::Refused(RefusalCode::AlreadyConnected));
            match Client::connect(scene.address, "taken").unwrap().start() {
                Err(Error::Refused { code: RefusalCode::AlreadyConnected, text, .. }) => {
                    assert_eq!(text, "id already connected");
                }
                other => panic!("{other:?}"),
            }
            first.say(&frame(b"oui"));
            assert_eq!(first.hear(), b"oui");
            drop(first);
            scene.events.end_of("taken");
            RawPeer::welcome(scene.address, "taken");
        },
    );
}

#[test]
fn a_client_is_told_at_once_that_its_id_is_bad() {
    let why = |id: &str| match Client::connect("127.0.0.1:1", id) {
        Err(Error::BadPeerId { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(""), BadPeerId::Empty);
    assert_eq!(why(&"x".repeat(256)), BadPeerId::TooLong { len: 256 });
    assert_eq!(why("a\0b"), BadPeerId::ControlCharacter);
    assert!(Client::connect("127.0.0.1:1", &"x".repeat(255)).is_ok());
}
