//! Deadlines: `handshake_timeout`, `drain_timeout`, `send_timeout`, `slow_peer_timeout`. A short one comes;
//! a long one has not come after a moment in which a short one would have.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use zerio::{Client, Config, Error, Reason, RefusalCode, SendError, Server};

use crate::echo;
use crate::hostile::{Event, Events, RawPeer, config, drivers, until};

const SHORT: Duration = Duration::from_millis(200);
const MOMENT: Duration = Duration::from_millis(600);
const LONG: Duration = Duration::from_secs(3600);

/// A server that echoes, over each driver.
fn each(change: impl Fn(&mut Config), play: impl Fn(Server, Events)) {
    for driver in drivers() {
        let (server, events) = echo(config(|c| {
            change(c);
            c.driver = driver;
        }));
        play(server, events);
    }
}

fn ended(events: &Events) -> bool {
    events.all().iter().any(|event| matches!(event, Event::Disconnected(..)))
}

#[test]
fn handshake_timeout_is_how_long_a_connection_may_say_nothing() {
    each(
        |c| c.handshake_timeout = SHORT,
        |server, _| {
            let begun = Instant::now();
            RawPeer::connect(server.local_addr()).hears_refusal(RefusalCode::TooLate);
            assert!(begun.elapsed() >= SHORT, "{:?}", begun.elapsed());
        },
    );
    each(
        |c| c.handshake_timeout = LONG,
        |server, _| {
            let peer = RawPeer::connect(server.local_addr());
            peer.stream.set_read_timeout(Some(MOMENT)).unwrap();
            let error = peer.stream.peek(&mut [0]).expect_err("nothing to hear yet");
            // What it is called depends on the system.
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        },
    );
}

#[test]
fn handshake_timeout_is_how_long_a_client_waits_for_its_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for after in [SHORT, 3 * SHORT] {
        let client = Client::connect(silent.local_addr().unwrap(), "client").unwrap();
        let begun = Instant::now();
        match client.config(config(|c| c.handshake_timeout = after)).start() {
            Err(Error::TimedOut { after: said, .. }) => assert_eq!(said, after),
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() >= after, "{:?}", begun.elapsed());
    }
}

#[test]
fn drain_timeout_is_how_long_a_session_that_this_side_ends_waits_for_the_other() {
    each(
        |c| c.drain_timeout = SHORT,
        |server, events| {
            let _peer = RawPeer::welcome(server.local_addr(), "peer");
            server.disconnect("peer").unwrap();
            assert_eq!(events.end_of("peer").reason, Reason::Disconnected);
        },
    );
    each(
        |c| c.drain_timeout = LONG,
        |server, events| {
            let mut peer = RawPeer::welcome(server.local_addr(), "peer");
            server.disconnect("peer").unwrap();
            peer.hears_the_end();
            std::thread::sleep(MOMENT);
            assert!(!ended(&events), "it waits for this side to close too");
            drop(peer);
            assert_eq!(events.end_of("peer").reason, Reason::Disconnected);
        },
    );
}

/// Calls `send` until it has waited in vain, and gives for how long.
fn wait_in_vain(mut send: impl FnMut() -> Result<(), SendError>) -> Duration {
    until("a send that finds no room", || {
        let begun = Instant::now();
        match send() {
            Ok(()) => None,
            Err(SendError::TimedOut) => Some(begun.elapsed()),
            Err(error) => panic!("{error}"),
        }
    })
}

#[test]
fn send_timeout_is_how_long_a_send_waits_for_room() {
    for timeout in [SHORT, 3 * SHORT] {
        each(
            |c| (c.send_timeout, c.socket_send_buffer) = (timeout, Some(8192)),
            |server, _| {
                let _peer = RawPeer::welcome(server.local_addr(), "peer");
                while server.try_send("peer", &[0; 1000]) != Err(SendError::Full) {}
                let waited = wait_in_vain(|| server.send("peer", &[0; 1000]));
                assert!(waited >= timeout, "{waited:?}");
                let waited = wait_in_vain(|| server.claim("peer", 1000)?.commit());
                assert!(waited >= timeout, "{waited:?}");
                // One call can have a deadline of its own.
                let own = timeout / 2;
                let waited = wait_in_vain(|| server.send_timeout("peer", &[0; 1000], own));
                assert!(waited >= own, "{waited:?}");
            },
        );
    }
}

#[test]
fn slow_peer_timeout_is_how_long_a_full_ring_is_borne() {
    let full = |server: &Server| {
        while server.try_send("peer", &[0; 1000]) != Err(SendError::Full) {}
    };
    each(
        |c| (c.slow_peer_timeout, c.socket_send_buffer) = (Some(SHORT), Some(8192)),
        |server, events| {
            let _peer = RawPeer::welcome(server.local_addr(), "peer");
            full(&server);
            // Where the kernel has taken half of the ring meanwhile, it has to be found full again.
            until("the slow peer's end", || {
                let _ = server.try_send("peer", &[0; 1000]);
                ended(&events).then_some(())
            });
            let end = events.end_of("peer");
            assert_eq!(end.reason, Reason::SlowPeer);
            assert!(!end.undelivered.is_empty(), "what was in the ring is counted: {end}");
        },
    );
    each(
        |c| (c.slow_peer_timeout, c.socket_send_buffer) = (None, Some(8192)),
        |server, events| {
            let _peer = RawPeer::welcome(server.local_addr(), "peer");
            full(&server);
            std::thread::sleep(MOMENT);
            assert!(!ended(&events), "by default a slow peer may stay");
        },
    );
}
