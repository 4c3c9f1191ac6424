//! What bounds connections: `connections_per_address`, `connections_per_second`, `connection_burst`,
//! `handshakes_max`.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use zerio::{Config, RefusalCode, Server};

use crate::echo;
use crate::hostile::{PATIENCE, RawPeer, config, drivers, frame, until};

/// A server for each driver.
fn each(change: impl Fn(&mut Config), play: impl Fn(&Server, SocketAddr)) {
    for driver in drivers() {
        let (server, _) = echo(config(|c| {
            (c.driver, c.handshake_timeout) = (driver, PATIENCE);
            change(c);
        }));
        play(&server, server.local_addr());
    }
}

#[test]
fn connections_per_address_is_how_many_one_address_has() {
    for most in [1, 3] {
        each(
            |c| c.connections_per_address = Some(most),
            |server, address| {
                let mut inside: Vec<_> =
                    (0..most).map(|n| RawPeer::welcome(address, &format!("peer {n}"))).collect();
                for _ in 0..3 {
                    RawPeer::connect(address).hears_refusal(RefusalCode::TooManyFromAddress);
                }
                // Who leaves makes room for the next, when the server has heard of it.
                drop(inside.pop());
                until("the end of one", || (server.counters().engine.disconnected == 1).then_some(()));
                inside.push(RawPeer::welcome(address, "another"));
                RawPeer::connect(address).hears_refusal(RefusalCode::TooManyFromAddress);
                until("all counted", || (server.counters().engine.refused_per_address == 4).then_some(()));
                assert_eq!(server.counters().engine.refused, 4);
            },
        );
    }
    each(
        |c| c.connections_per_address = None,
        |_, address| (0..50).for_each(|n| drop(RawPeer::welcome(address, &n.to_string()))),
    );
}

/// Whether somebody comes in who says who he is at once. Over a limit the server has closed by then, and what it said
/// before that may be lost.
fn comes_in(address: SocketAddr, id: &str) -> bool {
    let mut peer = RawPeer::connect(address);
    let _ = peer.stream.write_all(&frame(id.as_bytes()));
    let mut answer = vec![0; 4 + id.len()];
    let is_in = peer.stream.read_exact(&mut answer).is_ok() && answer == frame(id.as_bytes());
    if !is_in && answer[5] != 0 {
        assert_eq!(answer[4..6], [0, 9]);
    }
    is_in
}

#[test]
fn connection_burst_is_how_many_come_in_at_once_and_connections_per_second_how_many_after_them() {
    for burst in [1, 10] {
        each(
            |c| (c.connections_per_second, c.connection_burst) = (Some(1), burst as u32),
            |server, address| {
                let begun = Instant::now();
                let let_in = (10..40).filter(|n| comes_in(address, &n.to_string())).count();
                // However slow this machine is: one a second.
                let most = burst + begun.elapsed().as_secs() as usize + 1;
                assert!(
                    (burst..=most).contains(&let_in),
                    "{let_in} came in, burst {burst}, {most} at the most"
                );
                let engine = server.counters().engine;
                assert_eq!(
                    (engine.refused_per_second, engine.refused),
                    (30 - let_in as u64, 30 - let_in as u64)
                );
            },
        );
    }
    // A token in a microsecond: as many as connect.
    each(
        |c| (c.connections_per_second, c.connection_burst) = (Some(1_000_000), 1000),
        |server, address| {
            assert!((10..60).all(|n| comes_in(address, &n.to_string())));
            assert_eq!(server.counters().engine.refused, 0);
        },
    );
}

#[test]
fn connections_per_second_is_how_soon_the_next_comes_in() {
    for (per_second, millis) in [(2, 500), (20, 50)] {
        each(
            |c| (c.connections_per_second, c.connection_burst) = (Some(per_second), 1),
            |_, address| {
                let begun = Instant::now();
                assert!(comes_in(address, "first"));
                until("the next token", || comes_in(address, "second").then_some(()));
                until("the one after it", || comes_in(address, "third").then_some(()));
                // A token may have been taken a little later than this side began to count.
                assert!(
                    begun.elapsed() >= Duration::from_millis(2 * millis - millis / 10),
                    "{:?}",
                    begun.elapsed()
                );
            },
        );
    }
}

#[test]
fn handshakes_max_is_how_many_say_nothing_and_the_longest_silent_makes_room() {
    for most in [1, 3] {
        each(
            |c| c.handshakes_max = Some(most),
            |server, address| {
                let mut silent: Vec<_> = (0..most + 2).map(|_| RawPeer::connect(address)).collect();
                for peer in silent.drain(..2) {
                    { peer }.hears_refusal(RefusalCode::ServerFull);
                }
                assert_eq!(server.counters().engine.refused_silent, 2);
                // Who speaks comes in, and those who are in count no more.
                let _inside: Vec<_> = (0..5).map(|n| RawPeer::welcome(address, &n.to_string())).collect();
                assert_eq!(server.counters().engine.connected, 5);
            },
        );
    }
    each(
        |c| c.handshakes_max = None,
        |server, address| {
            let _silent: Vec<_> = (0..20).map(|_| RawPeer::connect(address)).collect();
            let _inside = RawPeer::welcome(address, "who speaks");
            assert_eq!(server.counters().engine.refused, 0);
        },
    );
}
