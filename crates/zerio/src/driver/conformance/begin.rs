//! Accepting and connecting.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use super::network::{Network, Site};
use super::rig::*;

pub(super) fn each_accept_brings_one_connection<D: Site>() {
    let mut rig = Rig::<D>::new(1);
    let address = rig.listen();
    let clients: Vec<_> = (0..3).map(|_| D::On::connect(address).unwrap()).collect();
    // Nobody has asked.
    rig.nothing_comes(3);
    let mut seen = Vec::new();
    for _ in 0..3 {
        rig.driver.accept();
        seen.push(rig.accepted().unwrap().1);
        rig.nothing_comes(1);
    }
    let mut expected: Vec<_> = clients.iter().map(D::On::address).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

pub(super) fn an_accepted_connection_has_its_address_and_does_not_block<D: Site>() {
    for listening in ["127.0.0.1:0", "[::1]:0"] {
        let mut rig = Rig::<D>::new(1);
        let Some((listener, address)) = D::On::listener_like(listening) else {
            eprintln!("SKIPPED: no {listening} here");
            continue;
        };
        rig.driver.listen(listener).unwrap();
        rig.driver.accept();
        rig.turn(Duration::ZERO);
        let client = D::On::connect(address).unwrap();
        let (socket, from) = rig.accepted().unwrap();
        assert_eq!(from, D::On::address(&client));
        assert!(!D::PLAIN || D::On::never_blocks(&socket));
    }
}

pub(super) fn who_stops_listening_refuses_new_connections<D: Site>() {
    for asked in [false, true] {
        // Its port is anybody's at once: once in ninety runs, five at a time, another test's server had it by then.
        let refuses = (0..5).any(|_| stops_listening_and_refuses::<D>(asked));
        assert!(refuses, "{}: it goes on listening", D::NAME);
    }
}

fn stops_listening_and_refuses<D: Site>(asked: bool) -> bool {
    let mut rig = Rig::<D>::new(1);
    let address = rig.listen();
    if asked {
        rig.driver.accept();
    }
    rig.turn(Duration::ZERO);
    rig.driver.stop_listening();
    let Err(refused) = D::On::connect(address) else { return false };
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    // The socket itself is closed as well, after a turn at the latest: the port is free.
    let start = Instant::now();
    while !D::On::is_free(address) {
        assert!(start.elapsed() < DEADLINE, "{}: the port is still taken", D::NAME);
        rig.step();
    }
    true
}

pub(super) fn a_pending_accept_is_forgotten_when_listening_stops<D: Site>() {
    for turns in [0, 1] {
        let mut rig = Rig::<D>::new(1);
        let address = rig.listen();
        rig.driver.accept();
        for _ in 0..turns {
            rig.turn(Duration::ZERO);
        }
        // This one may have been accepted by the kernel already: then it must see its end.
        let mut client = D::On::connect(address).unwrap();
        rig.driver.stop_listening();
        rig.nothing_comes(5);
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

// Connecting.

pub(super) fn a_connection_is_made<D: Site>() {
    for listening in ["127.0.0.1:0", "[::1]:0"] {
        for pace in PACES {
            let mut rig = Rig::<D>::paced(2, pace);
            let Some((listener, address)) = D::On::far_listener_like(listening) else {
                eprintln!("SKIPPED: no {listening} here");
                continue;
            };
            let id = id(1, 7);
            rig.driver.connect(id, address, &options()).unwrap();
            rig.connected(id).unwrap();
            let mut peer = D::On::accept(&listener);
            let span = rig.filled(0, 100);
            rig.driver.send(id, span);
            assert_eq!(rig.sent(id).1.unwrap(), 100);
            let mut bytes = [0; 100];
            peer.read_exact(&mut bytes).unwrap();
            assert!(is_pattern(&bytes, 0));
            peer.write_all(&bytes).unwrap();
            assert!(is_pattern(&rig.receive(id, 200), 0));
            rig.driver.close(id);
            rig.closed(id);
        }
    }
}

pub(super) fn what_a_connection_is_asked_for_before_it_stands_waits_for_it<D: Site>() {
    for pace in PACES {
        for turns in [0, 1] {
            let mut rig = Rig::<D>::paced(1, pace);
            let (listener, address) = D::On::far_listener();
            let id = id(0, 1);
            rig.driver.connect(id, address, &options()).unwrap();
            for _ in 0..turns {
                rig.turn(Duration::ZERO);
            }
            let (send, receive) = (rig.filled(0, 100), rig.span(200));
            rig.driver.send(id, send);
            rig.driver.receive(id, receive);
            rig.connected(id).unwrap();
            let mut peer = D::On::accept(&listener);
            assert_eq!(rig.sent(id).1.unwrap(), 100);
            let mut bytes = [0; 100];
            peer.read_exact(&mut bytes).unwrap();
            assert!(is_pattern(&bytes, 0));
            peer.write_all(&bytes).unwrap();
            let (span, outcome) = rig.received(id);
            assert!(is_pattern(&rig.region.bytes(&span)[..outcome.unwrap()], 0));
        }
    }
}

pub(super) fn what_a_refused_connection_was_asked_for_comes_back<D: Site>() {
    let (_nobody, address) = D::On::nobody();
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 1);
        rig.driver.connect(id, address, &options()).unwrap();
        let (send, receive) = (rig.filled(0, 100), rig.span(200));
        rig.driver.send(id, send);
        rig.driver.receive(id, receive);
        assert!(rig.connected(id).is_err());
        rig.driver.close(id);
        assert!(rig.sent(id).1.is_err());
        // Where the kernel was asked, it may call it an end.
        assert!(matches!(rig.received(id).1, Err(_) | Ok(0)));
        rig.closed(id);
        rig.nothing_comes(1);
    }
}

pub(super) fn a_connection_is_refused<D: Site>() {
    let (_nobody, address) = D::On::nobody();
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 1);
        rig.driver.connect(id, address, &options()).unwrap();
        assert_eq!(rig.connected(id).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        rig.driver.close(id);
        rig.closed(id);
        rig.nothing_comes(1);
    }
}

pub(super) fn a_connection_is_closed_while_it_is_made<D: Site>() {
    let (_silence, address) = D::On::silence();
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 1);
        rig.driver.connect(id, address, &options()).unwrap();
        rig.nothing_comes(3);
        rig.driver.close(id);
        assert!(rig.connected(id).is_err());
        rig.closed(id);
        rig.nothing_comes(1);
    }
}

pub(super) fn a_connection_never_handed_to_the_kernel_is_closed<D: Site>() {
    let (_silence, address) = D::On::silence();
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 1);
    rig.driver.connect(id, address, &options()).unwrap();
    rig.driver.close(id);
    assert!(rig.connected(id).is_err());
    rig.closed(id);
    rig.nothing_comes(1);
}
