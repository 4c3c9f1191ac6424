//! Connections that say nothing, or end where they should not.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::Shutdown;
use std::time::Duration;

use zerio::{Reason, RefusalCode, Rejection};

use crate::hostile::{RawPeer, frame, has_resets, undisturbed};

#[test]
fn a_connection_that_sends_nothing_is_refused_at_the_deadline() {
    undisturbed(
        |c| c.handshake_timeout = Duration::from_millis(300),
        |scene| {
            let mut peer = RawPeer::connect(scene.address);
            peer.hears_refusal(RefusalCode::TooLate);
            let local = peer.local();
            drop(peer);
            let rejection = scene.events.rejection_of(local);
            assert_eq!(rejection, Rejection::Refused(RefusalCode::TooLate));
            assert_eq!(scene.server.counters().engine.refused, 1);
        },
    );
}

#[test]
fn a_connection_that_sends_a_byte_now_and_then_is_refused_at_the_same_deadline() {
    undisturbed(
        |c| c.handshake_timeout = Duration::from_millis(300),
        |scene| {
            let mut peer = RawPeer::connect(scene.address);
            // At one byte in 100 ms its first frame would take 10 s.
            let hello = frame(&[b'x'; 100]);
            peer.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            for byte in hello {
                peer.say(&[byte]);
                match peer.stream.peek(&mut [0]) {
                    Ok(_) => break,
                    // What it is called depends on the system.
                    Err(error) => {
                        assert!(
                            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                            "{error}"
                        );
                    }
                }
            }
            let mut peer = RawPeer::over(peer.stream);
            peer.hears_refusal(RefusalCode::TooLate);
            let local = peer.local();
            drop(peer);
            assert_eq!(scene.events.rejection_of(local), Rejection::Refused(RefusalCode::TooLate));
        },
    );
}

#[test]
fn silent_connections_do_not_keep_a_client_from_coming_in() {
    undisturbed(
        |c| c.handshake_timeout = Duration::from_secs(20),
        |scene| {
            let silent: Vec<_> = (0..20).map(|_| RawPeer::connect(scene.address)).collect();
            let mut peer = RawPeer::welcome(scene.address, "other");
            peer.say(&frame(b"oui"));
            assert_eq!(peer.hear(), b"oui");
            drop(silent);
        },
    );
}

#[test]
fn a_peer_that_closes_in_the_middle_of_a_frame_was_truncated_after_so_many_bytes() {
    undisturbed(
        |_| {},
        |scene| {
            let whole = frame(b"a message");
            for received in [1, 3, 4, 5, whole.len() - 1] {
                let id = format!("cut after {received}");
                let mut peer = RawPeer::welcome(scene.address, &id);
                peer.say(&frame(b"whole"));
                assert_eq!(peer.hear(), b"whole");
                peer.say(&whole[..received]);
                peer.stream.shutdown(Shutdown::Write).unwrap();
                peer.hears_the_end();
                assert_eq!(scene.events.end_of(&id).reason, Reason::Truncated { received });
            }
            // The same bytes and one more are a message, and an end between messages.
            let mut peer = RawPeer::welcome(scene.address, "not cut");
            peer.say(&whole);
            peer.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(peer.hear(), b"a message");
            peer.hears_the_end();
            assert_eq!(scene.events.end_of("not cut").reason, Reason::PeerClosed);
        },
    );
}

#[test]
fn a_connection_that_closes_in_its_handshake_is_a_failed_handshake() {
    undisturbed(
        |_| {},
        |scene| {
            let hello = frame(b"somebody");
            for received in [0, 3, 4, hello.len() - 1] {
                let mut peer = RawPeer::connect(scene.address);
                let local = peer.local();
                peer.say(&hello[..received]);
                drop(peer);
                let reason = match received {
                    0 => Reason::PeerClosed,
                    received => Reason::Truncated { received },
                };
                assert_eq!(scene.events.rejection_of(local), Rejection::Ended(reason));
            }
            assert_eq!(scene.server.counters().engine.failed_handshakes, 4);
            assert_eq!(scene.server.counters().engine.refused, 0);
        },
    );
}

#[test]
fn a_connection_that_resets_has_ended_with_a_reset() {
    undisturbed(
        |_| {},
        |scene| {
            let reset = Reason::Connection(ErrorKind::ConnectionReset);
            let reset_or = |in_order| if has_resets() { reset } else { in_order };
            let mut peer = RawPeer::welcome(scene.address, "between messages");
            peer.say(&frame(b"oui"));
            assert_eq!(peer.hear(), b"oui");
            peer.reset();
            assert_eq!(scene.events.end_of("between messages").reason, reset_or(Reason::PeerClosed));

            let mut peer = RawPeer::welcome(scene.address, "in a message");
            peer.say(&frame(b"oui")[..5]);
            peer.reset();
            assert_eq!(
                scene.events.end_of("in a message").reason,
                reset_or(Reason::Truncated { received: 5 })
            );

            // Where the server has not accepted it yet, there may never have been a connection: what came
            // before it is accepted by the time that it resets.
            let mut peer = RawPeer::connect(scene.address);
            RawPeer::welcome(scene.address, "later");
            let local = peer.local();
            peer.say(&[9, 0]);
            peer.reset();
            assert_eq!(
                scene.events.rejection_of(local),
                Rejection::Ended(reset_or(Reason::Truncated { received: 2 }))
            );
        },
    );
}

#[test]
fn many_connections_that_reset_at_once_leave_a_server_that_works() {
    undisturbed(
        |_| {},
        |scene| {
            for _ in 0..100 {
                RawPeer::connect(scene.address).reset();
            }
            let mut peer = RawPeer::welcome(scene.address, "after them");
            peer.say(&frame(b"oui"));
            assert_eq!(peer.hear(), b"oui");
        },
    );
}
