//! Connections that say nothing, or end where they should not.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::Shutdown;
#[cfg(target_os = "linux")]
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::time::Duration;

#[cfg(target_os = "linux")]
use zerio::{Context, Disconnection, DriverKind, Handler, Server};
use zerio::{Reason, RefusalCode, Rejection};

#[cfg(target_os = "linux")]
use crate::hostile::{Echo, Events, PATIENCE, config, drivers, until};
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
            let is_reset_or = |reason, in_order| reason == reset || !has_resets() && reason == in_order;
            let mut peer = RawPeer::welcome(scene.address, "between messages");
            peer.say(&frame(b"oui"));
            assert_eq!(peer.hear(), b"oui");
            peer.reset();
            let reason = scene.events.end_of("between messages").reason;
            assert!(is_reset_or(reason, Reason::PeerClosed), "{reason:?}");

            let mut peer = RawPeer::welcome(scene.address, "in a message");
            peer.say(&frame(b"oui")[..5]);
            peer.reset();
            let reason = scene.events.end_of("in a message").reason;
            assert!(is_reset_or(reason, Reason::Truncated { received: 5 }), "{reason:?}");

            // Where the server has not accepted it yet, there may never have been a connection: what came
            // before it is accepted by the time that it resets.
            let mut peer = RawPeer::connect(scene.address);
            RawPeer::welcome(scene.address, "later");
            let local = peer.local();
            peer.say(&[9, 0]);
            peer.reset();
            let rejection = scene.events.rejection_of(local);
            let Rejection::Ended(reason) = rejection else { panic!("{rejection}") };
            assert!(is_reset_or(reason, Reason::Truncated { received: 2 }), "{reason:?}");
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

/// Echoes, once it may: it tells of the first message, and then waits.
#[cfg(target_os = "linux")]
struct Held {
    echo: Echo,
    first: Option<SyncSender<()>>,
    may_go_on: Receiver<()>,
    heard: u64,
    all: SyncSender<u64>,
}

#[cfg(target_os = "linux")]
impl Handler for Held {
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        assert_eq!(message[..8], self.heard.to_le_bytes());
        self.heard += 1;
        if let Some(first) = self.first.take() {
            first.send(()).unwrap();
            self.may_go_on.recv_timeout(PATIENCE).unwrap();
        }
        self.echo.on_message(peer, message);
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        self.all.send(self.heard).unwrap();
        self.echo.on_disconnected(peer, why);
    }
}

/// Whether the other side's kernel has all that this one has sent.
#[cfg(target_os = "linux")]
fn has_arrived(peer: &RawPeer, server: SocketAddr) -> bool {
    // Connections to other servers may have the same local port.
    let ends = [peer.local(), server].map(|address| format!(":{:04X}", address.port()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let line = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|line| {
        let [_, local, remote, ..] = line[..] else { return false };
        local.ends_with(&ends[0]) && remote.ends_with(&ends[1])
    });
    line.is_some_and(|line| line[3] == "01" && line[4].starts_with("00000000:"))
}

/// What has arrived from a peer that goes without reading an echo is handled, though the first echoes draw a reset.
#[cfg(target_os = "linux")]
fn leaves_without_reading(leave: impl Fn(RawPeer), reason: Reason) {
    for driver in drivers() {
        let (first, is_first) = sync_channel(1);
        let (go_on, may_go_on) = channel();
        let (all, is_all) = sync_channel(1);
        let events = Events::default();
        let echo = Echo(events.clone());
        let server = Server::bind("127.0.0.1:0").unwrap().config(config(|c| {
            // Nine receives' worth of messages.
            (c.driver, c.message_max, c.receive_buffer) = (driver, 64, 4096);
            c.socket_receive_buffer = Some(1 << 20);
        }));
        let held = Held { echo, first: Some(first), may_go_on, heard: 0, all };
        let server = server.handler(held).start().unwrap();
        let mut peer = RawPeer::welcome(server.local_addr(), "peer");
        let message = |number: u64| frame(&[number.to_le_bytes(), [7; 8], [7; 8], [7; 8]].concat());
        peer.say(&message(0));
        is_first.recv_timeout(PATIENCE).unwrap();
        peer.say(&(1..1000).flat_map(message).collect::<Vec<_>>());
        until("all of it to be there", || has_arrived(&peer, server.local_addr()).then_some(()));
        leave(peer);
        go_on.send(()).unwrap();
        assert_eq!(is_all.recv_timeout(PATIENCE), Ok(1000), "{driver}");
        let told = events.end_of("peer").reason;
        // The kernel tells of the reset once. Where sends wait until they are acknowledged it may be a receive that hears.
        let may_be_reset = driver == DriverKind::RioModel && told == RESET;
        assert!(told == reason || may_be_reset, "{driver}: {told:?}");
    }
}

#[cfg(target_os = "linux")]
const RESET: Reason = Reason::Connection(ErrorKind::ConnectionReset);

#[cfg(target_os = "linux")]
#[test]
fn what_arrived_from_a_peer_that_closes_without_reading_was_lost_with_the_first_echo_that_failed() {
    leaves_without_reading(drop, Reason::PeerClosed);
}

#[cfg(target_os = "linux")]
#[test]
fn what_arrived_from_a_peer_that_resets_was_lost_with_the_first_echo_that_failed() {
    leaves_without_reading(RawPeer::reset, RESET);
}
