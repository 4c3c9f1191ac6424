//! Accepting and connecting.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use socket2::Socket;

use super::rig::*;
use crate::driver::Driver;
use crate::driver::socket;

pub(super) fn each_accept_brings_one_connection<D: Driver<Socket = Socket>>() {
    let mut rig = Rig::<D>::new(1);
    let address = rig.listen();
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Nobody has asked.
    rig.nothing_comes(3);
    let mut seen = Vec::new();
    for _ in 0..3 {
        rig.driver.accept();
        seen.push(rig.accepted().unwrap().1);
        rig.nothing_comes(1);
    }
    let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

pub(super) fn an_accepted_connection_has_its_address_and_does_not_block<D: Driver<Socket = Socket>>() {
    for listening in ["127.0.0.1:0", "[::1]:0"] {
        let mut rig = Rig::<D>::new(1);
        let Ok(listener) = socket::bind(listening.parse().unwrap()) else {
            eprintln!("SKIPPED: no {listening} here");
            continue;
        };
        socket::listen(&listener, &options()).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        rig.driver.listen(listener).unwrap();
        rig.driver.accept();
        rig.turn(Duration::ZERO);
        let client = TcpStream::connect(address).unwrap();
        let (socket, from) = rig.accepted().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert!(socket.nonblocking().unwrap());
    }
}

pub(super) fn who_stops_listening_refuses_new_connections<D: Driver<Socket = Socket>>() {
    for asked in [false, true] {
        let mut rig = Rig::<D>::new(1);
        let address = rig.listen();
        if asked {
            rig.driver.accept();
        }
        rig.turn(Duration::ZERO);
        rig.driver.stop_listening();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // The socket itself is closed as well, after a turn at the latest: the port is free.
        let start = Instant::now();
        while TcpListener::bind(address).is_err() {
            assert!(start.elapsed() < DEADLINE, "{}: the port is still taken", D::NAME);
            rig.step();
        }
    }
}

pub(super) fn a_pending_accept_is_forgotten_when_listening_stops<D: Driver<Socket = Socket>>() {
    for turns in [0, 1] {
        let mut rig = Rig::<D>::new(1);
        let address = rig.listen();
        rig.driver.accept();
        for _ in 0..turns {
            rig.turn(Duration::ZERO);
        }
        // This one may have been accepted by the kernel already: then it must see its end.
        let mut client = patient(TcpStream::connect(address).unwrap());
        rig.driver.stop_listening();
        rig.nothing_comes(5);
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

// Connecting.

pub(super) fn a_connection_is_made<D: Driver<Socket = Socket>>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(2, pace);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let id = id(1, 7);
        rig.driver.connect(id, address, &options()).unwrap();
        rig.connected(id).unwrap();
        let mut peer = patient(listener.accept().unwrap().0);
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

pub(super) fn a_connection_is_refused<D: Driver<Socket = Socket>>() {
    // Bound and not listening: nobody else gets the port.
    let silent = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
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

pub(super) fn a_connection_is_closed_while_it_is_made<D: Driver<Socket = Socket>>() {
    let (_listener, address, _waiting) = silent_listener();
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

pub(super) fn a_connection_never_handed_to_the_kernel_is_closed<D: Driver<Socket = Socket>>() {
    let (_listener, address, _waiting) = silent_listener();
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 1);
    rig.driver.connect(id, address, &options()).unwrap();
    rig.driver.close(id);
    assert!(rig.connected(id).is_err());
    rig.closed(id);
    rig.nothing_comes(1);
}
