//! Handlers that panic: the engine ends in order, and the process goes on.
#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use zerio::{Client, EngineFailure, Error, SendError, Server};

use crate::hostile::{Echo, Events, PATIENCE, RawPeer, config, drivers, frame, until};

fn is_the_panic(failure: &EngineFailure) -> bool {
    matches!(failure, EngineFailure::HandlerPanicked(message) if message.contains("as the message says"))
}

#[test]
fn a_handler_that_panics_ends_its_server_in_order_and_is_reported() {
    for driver in drivers() {
        let events = Events::default();
        let server = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.driver = driver));
        let server = server.handler(Echo(events.clone())).start().unwrap();
        let mut bystander = RawPeer::welcome(server.local_addr(), "bystander");
        bystander.say(&frame(b"oui"));
        assert_eq!(bystander.hear(), b"oui");
        let handle = server.peer("bystander").unwrap();
        let mut peer = RawPeer::welcome(server.local_addr(), "peer");
        // What it had handled before has been answered or is counted; what comes after is not handled.
        peer.say(&[frame(b"panic!"), frame(b"after")].concat());
        peer.hears_the_end();
        bystander.hears_the_end();
        until("the engine's end", || (!server.is_running()).then_some(()));
        assert_eq!(handle.send(b"x"), Err(SendError::Closed));
        assert_eq!(server.send("peer", b"x"), Err(SendError::Closed));
        assert_eq!(server.counters().engine.disconnected, 2);
        assert_eq!(events.all().len(), 2, "it is not called again: {:?}", events.all());
        let report = server.stop();
        assert!(report.failure.as_ref().is_some_and(is_the_panic), "{report}");

        // The process goes on, on the same address even.
        let next = Server::bind("127.0.0.1:0").unwrap().handler(Echo::default()).start().unwrap();
        RawPeer::welcome(next.local_addr(), "peer");
    }
}

#[test]
fn an_engine_that_panicked_does_not_keep_the_others_from_letting_peers_in() {
    for driver in drivers() {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let server = server.config(config(|c| (c.driver, c.engines) = (driver, 2)));
        let server = server.start_each(|_| Echo::default()).unwrap();
        // The first engine accepts, so it has to be the second that ends: two peers are one on each.
        let mut peers: Vec<_> =
            (0..2).map(|number| RawPeer::welcome(server.local_addr(), &format!("peer {number}"))).collect();
        let of_second = || (server.engine_counters()[1].engine.connected == 1).then_some(());
        until("a session on the second engine", of_second);
        let on_second = {
            peers[1].say(&frame(b"oui"));
            assert_eq!(peers[1].hear(), b"oui");
            usize::from(server.engine_counters()[1].sessions.received.messages_received == 1)
        };
        peers[on_second].say(&frame(b"panic!"));
        peers[on_second].hears_the_end();
        until("the second engine's end", || (!server.is_running()).then_some(()));
        let other = 1 - on_second;
        let on_ended = format!("peer {on_second}");
        assert_eq!(server.try_send(&on_ended, b"x"), Err(SendError::UnknownPeer), "he may come again");
        peers[other].say(&frame(b"non"));
        assert_eq!(peers[other].hear(), b"non");
        for number in 10..20 {
            let mut peer = RawPeer::welcome(server.local_addr(), &format!("peer {number}"));
            peer.say(&frame(b"oui"));
            assert_eq!(peer.hear(), b"oui");
            peers.push(peer);
        }
        let report = server.stop();
        assert!(report.failure.as_ref().is_some_and(is_the_panic), "{report}");
    }
}

#[test]
fn a_clients_handler_that_panics_ends_the_client_and_the_server_goes_on() {
    for driver in drivers() {
        let events = Events::default();
        let server = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.driver = driver));
        let server = server.handler(Echo(events.clone())).start().unwrap();
        let client = Client::connect(server.local_addr(), "client").unwrap();
        let client = client.config(config(|c| c.driver = driver));
        let client = client.on_message(|_, _| panic!("as the message says")).start().unwrap();
        client.send(b"oui").unwrap();
        events.end_of("client");
        until("the engine's end", || (!client.is_connected()).then_some(()));
        assert_eq!(client.send(b"x"), Err(SendError::Closed));
        let report = client.stop();
        assert!(report.failure.as_ref().is_some_and(is_the_panic), "{report}");
        RawPeer::welcome(server.local_addr(), "client");
    }
}

#[test]
fn a_panic_in_an_engine_that_is_driven_comes_out_of_poll_and_then_the_engine_has_ended() {
    for driver in drivers() {
        let server = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.driver = driver));
        let mut server = server.handler(Echo::default()).start_polled().unwrap();
        let address = server.local_addr();
        let peer = std::thread::spawn(move || {
            let mut peer = RawPeer::welcome(address, "peer");
            peer.say(&frame(b"panic!"));
            peer.hears_the_end();
        });
        let begun = std::time::Instant::now();
        while catch_unwind(AssertUnwindSafe(|| server.poll().map(drop).unwrap())).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "the panic comes out of poll");
        }
        for _ in 0..2 {
            let error = server.poll().expect_err("it has ended");
            assert!(matches!(&error, Error::Engine(EngineFailure::HandlerPanicked(_))), "{error:?}");
        }
        assert_eq!(server.connected(), 0);
        assert_eq!(server.try_send("peer", b"x"), Err(SendError::Closed));
        peer.join().unwrap();
        let report = server.stop();
        assert!(matches!(report.failure, Some(EngineFailure::HandlerPanicked(_))), "{report}");
    }
}
