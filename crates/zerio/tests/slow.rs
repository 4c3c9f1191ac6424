//! A slow consumer fills its own ring and nobody else's; what was accepted for it and not handed to the
//! kernel is counted, to the byte.
#![forbid(unsafe_code)]

mod common;

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::raw::{Raw, frame};
use common::{Case, Event, Log, Recorder, drivers, has_resets, matrix};
use zerio::{Client, Config, Disconnection, Peer, Reason, SendError};

/// Messages of all lengths, numbered, as many as are accepted until a send gives another outcome.
fn send_until(error: SendError, mut send: impl FnMut(&[u8]) -> Result<(), SendError>) -> Accepted {
    let mut accepted = Accepted::default();
    loop {
        let message = numbered(accepted.messages);
        match send(&message) {
            Ok(()) => {
                accepted.messages += 1;
                accepted.bytes += frame(&message).len() as u64;
            }
            Err(outcome) => {
                assert_eq!(outcome, error);
                return accepted;
            }
        }
    }
}

fn numbered(number: u64) -> Vec<u8> {
    let mut message = vec![number as u8; 8 + (number as usize * 37) % 900];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Accepted {
    messages: u64,
    bytes: u64,
}

/// What was accepted is what the peer can still read and what was reported as undelivered. Registered I/O does not
/// tell how much of a cancelled send was taken: there all of it counts as undelivered, and as it is cancelled by a reset,
/// the end of what the peer could have read may be lost.
fn nothing_is_lost(case: &Case, accepted: Accepted, mut raw: Raw, undelivered: zerio::Undelivered) {
    let (end, (messages, bytes)) = raw.rest_and_how();
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(*message, numbered(number as u64));
    }
    let readable = Accepted { messages: messages.len() as u64, bytes: bytes as u64 };
    let told = (readable.messages + undelivered.messages, readable.bytes + undelivered.bytes);
    if case.takes_sends_whole() {
        assert!(end.is_ok() || end.is_err_and(|why| why.kind() == ErrorKind::ConnectionReset));
        assert!(readable.messages <= accepted.messages && undelivered.bytes <= accepted.bytes);
    } else {
        end.unwrap();
        assert_eq!((accepted.messages, accepted.bytes), told);
    }
    assert!(undelivered.messages > 0, "the ring was not empty");
}

fn stuck(peer: &Peer) -> impl FnMut(&[u8]) -> Result<(), SendError> {
    |message| peer.send_timeout(message, Duration::from_secs(1))
}

fn slow_config(case: &Case, timeout: Option<Duration>) -> Config {
    let mut config = case.tight();
    config.slow_peer_timeout = timeout;
    config
}

/// A job with another peer, done while one is stuck.
fn others_do_not_notice(server: &common::TestServer) {
    let mut other = Raw::connect(server.address(), "other");
    for number in 0..1000u32 {
        other.send(&number.to_le_bytes());
        assert_eq!(other.receive().unwrap(), number.to_le_bytes());
    }
}

matrix! {
    fn a_peer_that_never_reads_fills_its_own_ring_and_nobody_else_notices(case) {
        let log = Log::new();
        let echoes = Recorder::new(&log).without_messages().on_message(|peer, message| {
            peer.send(message).unwrap();
        });
        let server = case.server(slow_config(case, None), echoes);
        let raw = Raw::connect_small(server.address(), "slow");
        let peer = server.sender().peer("slow").unwrap();
        let accepted = send_until(SendError::TimedOut, stuck(&peer));
        assert!(accepted.messages > 0);
        let message = numbered(accepted.messages);
        let begun = Instant::now();
        assert_eq!(peer.try_send(&message), Err(SendError::Full));
        assert_eq!(server.sender().try_send("slow", &message), Err(SendError::Full));
        others_do_not_notice(&server);
        let timeout = Duration::from_millis(20);
        assert_eq!(peer.send_timeout(&message, timeout), Err(SendError::TimedOut));
        assert_eq!(server.sender().send_timeout("slow", &message, timeout), Err(SendError::TimedOut));
        assert!(begun.elapsed() > 2 * timeout, "both have waited");
        assert!(peer.counters().unwrap().sent.full_rings > 0);
        let of_slow = log.of("slow");
        assert!(matches!(of_slow[..], [Event::Connected { .. }]), "it has not been disconnected: {of_slow:?}");
        // What it begins to read comes, and there is room again.
        let mut raw = raw;
        for number in 0..accepted.messages {
            assert_eq!(raw.receive().unwrap(), numbered(number));
        }
        peer.send(&message).unwrap();
        assert_eq!(raw.receive().unwrap(), message);
    }

    fn a_peer_that_is_slower_than_the_time_is_cut_and_what_is_left_is_counted(case) {
        let log = Log::new();
        let config = slow_config(case, Some(Duration::from_secs(2)));
        let server = case.server(config, Recorder::new(&log).on_message(|peer, message| {
            peer.send(message).unwrap();
        }));
        let raw = Raw::connect_small(server.address(), "slow");
        let peer = server.sender().peer("slow").unwrap();
        let accepted = send_until(SendError::Closed, |message| peer.send(message));
        let Disconnection { reason, undelivered, .. } = log.wait_disconnected("slow");
        assert_eq!(reason, Reason::SlowPeer);
        nothing_is_lost(case, accepted, raw, undelivered);
        others_do_not_notice(&server);
        let totals = server.counters().engine;
        assert_eq!(totals.messages_undelivered, undelivered.messages);
        assert_eq!(totals.bytes_undelivered, undelivered.bytes);
        let report = server.stop();
        assert_eq!(report.undelivered, undelivered);
        assert_eq!(report.left, [], "the stop itself left nothing");
    }

    fn a_peer_that_resets_leaves_a_count_too(case) {
        let log = Log::new();
        let server = case.server(slow_config(case, None), Recorder::new(&log));
        let raw = Raw::connect_small(server.address(), "slow");
        let peer = server.sender().peer("slow").unwrap();
        let accepted = send_until(SendError::TimedOut, stuck(&peer));
        // Closing with unread bytes resets the connection: what the kernel had taken is gone with it.
        drop(raw);
        let Disconnection { reason, undelivered, .. } = log.wait_disconnected("slow");
        assert!(matches!(reason, Reason::Connection(_)) || !has_resets(), "{reason:?}");
        assert!(undelivered.messages > 0 && undelivered.messages < accepted.messages);
        assert_eq!(peer.try_send(b"x"), Err(SendError::Closed));
        assert_eq!(server.counters().sessions.sent.messages_accepted, accepted.messages);
        let sent = server.counters().sessions.sent.bytes_sent - frame(b"slow").len() as u64;
        assert_eq!(sent + undelivered.bytes, accepted.bytes);
    }
}

drivers! {
    fn a_client_cuts_a_slow_server_too(case) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || Raw::accept(&listener));
        let log = Log::new();
        let client = Client::connect(address, "a").unwrap();
        let client = client.config(slow_config(case, Some(Duration::from_secs(1))));
        let client = client.handler(Recorder::new(&log)).start().unwrap();
        let mut raw = server.join().unwrap();
        let accepted = send_until(SendError::Closed, |message| client.send(message));
        let Disconnection { reason, undelivered, .. } = log.wait_disconnected("a");
        assert_eq!(reason, Reason::SlowPeer);
        common::eventually("its engine has ended", || !client.is_connected());
        raw.0.read_exact(&mut []).unwrap();
        nothing_is_lost(case, accepted, raw, undelivered);
        assert_eq!(client.stop().delivered, accepted.messages - undelivered.messages);
    }
}
