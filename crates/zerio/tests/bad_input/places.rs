//! More connections than places.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::time::Duration;

use zerio::{Client, Error, RefusalCode, Rejection, SameId};

use crate::hostile::{PATIENCE, RawPeer, Scene, config, frame, undisturbed, until};

/// Connects as `id` until the server has a place for it.
fn comes_in(scene: &Scene, id: &str) -> RawPeer {
    until("a place that becomes free", || {
        let mut peer = RawPeer::connect(scene.address);
        peer.say(&frame(id.as_bytes()));
        let answer = peer.hear();
        if answer == id.as_bytes() {
            return Some(peer);
        }
        assert_eq!(answer[..2], [0, 2], "{answer:?}");
        None
    })
}

#[test]
fn a_full_server_refuses_goes_on_accepting_and_gives_a_free_place_again() {
    undisturbed(
        |c| c.sessions_max = 3,
        |scene| {
            // The good client has the first.
            let mut second = RawPeer::welcome(scene.address, "second");
            let mut third = RawPeer::welcome(scene.address, "third");
            for _ in 0..10 {
                let mut peer = RawPeer::connect(scene.address);
                let local = peer.local();
                peer.say(&frame(b"fourth"));
                peer.hears_refusal(RefusalCode::ServerFull);
                drop(peer);
                let rejection = scene.events.rejection_of(local);
                assert_eq!(rejection, Rejection::Refused(RefusalCode::ServerFull));
            }
            assert_eq!(scene.server.counters().engine.refused, 10);
            drop(third);
            third = comes_in(scene, "fourth");
            for peer in [&mut second, &mut third] {
                peer.say(&frame(b"oui"));
                assert_eq!(peer.hear(), b"oui");
            }
        },
    );
}

#[test]
fn more_connections_at_once_than_there_are_slots_are_all_told_that_the_server_is_full() {
    undisturbed(
        |c| c.sessions_max = 2,
        |scene| {
            let second = RawPeer::welcome(scene.address, "second");
            // Some say who they are at once, some say nothing; none closes before it has heard.
            let mut peers: Vec<_> = (0..60)
                .map(|number| {
                    let mut peer = RawPeer::connect(scene.address);
                    if number % 2 == 0 {
                        // The refusal may have come, and the end behind it: then writing may fail.
                        let _ = std::io::Write::write_all(&mut peer.stream, &frame(b"another"));
                    }
                    peer
                })
                .collect();
            for peer in &mut peers {
                peer.hears_refusal(RefusalCode::ServerFull);
            }
            let locals: Vec<_> = peers.iter().map(RawPeer::local).collect();
            drop(peers);
            for local in locals {
                let rejection = scene.events.rejection_of(local);
                assert_eq!(rejection, Rejection::Refused(RefusalCode::ServerFull));
            }
            assert_eq!(scene.server.counters().engine.refused, 60);
            drop(second);
            comes_in(scene, "later");
        },
    );
}

#[test]
fn more_clients_at_once_than_there_are_slots_all_learn_that_the_server_is_full() {
    undisturbed(
        |c| c.sessions_max = 1,
        |scene| {
            let clients: Vec<_> = (0..40)
                .map(|number| {
                    let address = scene.address;
                    std::thread::spawn(move || {
                        let client = Client::connect(address, &format!("client {number}")).unwrap();
                        client.config(config(|_| {})).start().map(drop)
                    })
                })
                .collect();
            for client in clients {
                match client.join().unwrap() {
                    Err(Error::Refused { code: RefusalCode::ServerFull, text, .. }) => {
                        assert_eq!(text, "server full");
                    }
                    other => panic!("{other:?}"),
                }
            }
        },
    );
}

/// So many connections that say nothing, which the server has accepted.
fn silent(scene: &Scene, count: usize) -> Vec<RawPeer> {
    (0..count).map(|_| RawPeer::connect(scene.address)).collect()
}

/// Whether the server has said something, or closed.
fn is_answered(peer: &RawPeer) -> bool {
    peer.stream.set_nonblocking(true).unwrap();
    let answered = match peer.stream.peek(&mut [0]) {
        Err(error) => error.kind() != ErrorKind::WouldBlock,
        Ok(_) => true,
    };
    peer.stream.set_nonblocking(false).unwrap();
    answered
}

#[test]
fn any_number_of_silent_connections_keep_nobody_out() {
    undisturbed(
        |c| (c.sessions_max, c.handshake_timeout) = (4, PATIENCE),
        |scene| {
            // Four places and eight spare slots, of which the good client has one: the eighth connection is one too many
            // for the first, which has as long to read why as nobody else comes.
            let mut early = silent(scene, 8);
            early[0].hears_refusal(RefusalCode::ServerFull);
            let _late = silent(scene, 60);
            let mut welcome = Vec::new();
            for id in ["second", "third", "fourth"] {
                welcome.push(RawPeer::welcome(scene.address, id));
            }
            let mut peer = RawPeer::connect(scene.address);
            peer.say(&frame(b"fifth"));
            peer.hears_refusal(RefusalCode::ServerFull);
            for peer in &mut welcome {
                peer.say(&frame(b"oui"));
                assert_eq!(peer.hear(), b"oui");
            }
        },
    );
}

#[test]
fn a_few_silent_connections_have_their_time() {
    undisturbed(
        |c| (c.sessions_max, c.handshake_timeout) = (4, Duration::from_millis(600)),
        |scene| {
            // Four places and eight spare slots: with three more peers, four silent ones are in nobody's way.
            let mut silent = silent(scene, 4);
            for id in ["second", "third", "fourth"] {
                RawPeer::welcome(scene.address, id);
            }
            for peer in &mut silent {
                peer.hears_refusal(RefusalCode::TooLate);
            }
        },
    );
}

#[test]
fn a_newer_session_replaces_its_older_one_where_the_server_is_full() {
    undisturbed(
        |c| (c.sessions_max, c.same_id) = (2, SameId::ReplaceOld),
        |scene| {
            let mut old = RawPeer::welcome(scene.address, "second");
            let silent = silent(scene, 1);
            let mut peer = RawPeer::connect(scene.address);
            peer.say(&frame(b"third"));
            peer.hears_refusal(RefusalCode::ServerFull);
            let mut new = RawPeer::welcome(scene.address, "second");
            old.hears_the_end();
            new.say(&frame(b"oui"));
            assert_eq!(new.hear(), b"oui");
            assert!(!is_answered(&silent[0]), "it has until its deadline to say who it is");
        },
    );
}
