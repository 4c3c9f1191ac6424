//! What a peer does without end under TLS leaves memory as it was. In a test of its own, because a process has one memory.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::certs::shared;
use common::raw::frame;
use common::tls_peer::{Peer, giving, trusting};
use common::{Case, Drive, PATIENCE, Recorder, TestServer, eventually};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};
use zerio::DriverKind;

/// One after the other: they all have one memory.
static ALONE: Mutex<()> = Mutex::new(());

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// How much memory grew, from when a quarter of these rounds had been done.
fn growth(rounds: u32, mut round: impl FnMut(u32)) -> usize {
    let mut early = 0;
    for number in 0..rounds {
        round(number);
        if number == rounds / 4 {
            early = resident();
        }
    }
    resident().saturating_sub(early)
}

/// More than this many bytes are a leak: a hundred of each connection where more than a thousand of them are counted, nine
/// hundred of each client in the flood of tickets.
const FLAT: usize = 128 * 1024;

/// What a client says first.
fn client_hello() -> Vec<u8> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(trusting(), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// Begins handshakes of which the server has the first byte, half, or all of what a client says first, and leaves.
fn begin_and_leave(server: &TestServer) {
    let hello = client_hello();
    let begun = [1, hello.len() / 2, hello.len()].map(|len| {
        let mut socket = TcpStream::connect(server.address()).unwrap();
        socket.write_all(&hello[..len]).unwrap();
        socket
    });
    drop(begun);
}

/// Comes in, says these bytes in a record's place, and hears the end.
fn says(server: &TestServer, what: impl FnOnce(&mut Peer) -> Vec<u8>) {
    let mut peer = Peer::connect(server, "a");
    let bytes = what(&mut peer);
    peer.socket.write_all(&bytes).unwrap();
    // Its alert, or a reset.
    let _ = peer.socket.read_to_end(&mut Vec::new());
    drop(peer);
    eventually("its id is free", || server.sender().peer("a").is_err());
}

#[test]
fn handshakes_that_break_off_and_records_that_are_wrong_leave_memory_as_it_is() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let case = Case { driver: DriverKind::Auto, drive: Drive::Thread };
    let server = case.tls_server(case.config(), Recorder::echo(), shared().1.server());
    let mut other = Peer::connect(&server, "other");
    let grown = growth(400, |_| {
        begin_and_leave(&server);
        says(&server, |peer| {
            let mut record = peer.record(b"oui");
            *record.last_mut().unwrap() ^= 1;
            record
        });
        says(&server, |peer| peer.record(b"twice").repeat(2));
        says(&server, |peer| {
            let (first, second) = (peer.record(b"first"), peer.record(b"second"));
            [second, first].concat()
        });
        says(&server, |peer| {
            let record = peer.record(b"cut in half");
            peer.socket.write_all(&record[..record.len() / 2]).unwrap();
            peer.socket.shutdown(Shutdown::Write).unwrap();
            Vec::new()
        });
        says(&server, |_| vec![23, 3, 3, 0x41, 0x01]);
        says(&server, |_| vec![23, 3, 3, 0, 0]);
        other.send(b"untouched");
        assert_eq!(other.receive(9), frame(b"untouched"));
    });
    assert!(grown < FLAT, "{grown} bytes more");
}

#[test]
fn waves_of_handshakes_byte_by_byte_leave_memory_as_it_is() {
    const SLOW: usize = 400;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let case = Case { driver: DriverKind::Auto, drive: Drive::Thread };
    let mut config = case.config();
    (config.sessions_max, config.handshake_timeout) = (SLOW, Duration::from_millis(400));
    (config.message_max, config.send_ring, config.receive_buffer) = (1024, 16_384, 20_480);
    let server = case.tls_server(config, Recorder::echo(), shared().1.server());
    let hello = client_hello();
    let grown = growth(6, |_| {
        let mut slow: Vec<_> = (0..SLOW).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        for byte in &hello[..5] {
            for socket in &mut slow {
                // It may have been given up by now.
                let _ = socket.write_all(&[*byte]);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        for mut socket in slow {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(socket.read(&mut [0; 64]).unwrap_or(0), 0, "nothing can be said to it");
        }
    });
    assert!(grown < FLAT, "{grown} bytes more");
}

#[test]
fn a_server_that_floods_its_clients_with_tickets_leaves_their_memory_as_it_is() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let case = Case { driver: DriverKind::Auto, drive: Drive::Thread };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    const ROUNDS: u32 = 200;
    let serving = std::thread::spawn(move || {
        // More than a client takes, and as many as it does.
        for tickets in [1000, 4].into_iter().cycle().take(ROUNDS as usize) {
            let (mut socket, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(giving(tickets)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut hello = [0; 5];
            let _ = stream.read_exact(&mut hello).and_then(|()| stream.write_all(&hello));
            let _ = stream.read(&mut hello);
        }
    });
    let tls = shared().0.trusting();
    let grown = growth(ROUNDS, |_| {
        drop(case.try_tls_client_at(address, "a", case.config(), Recorder::deaf(), tls.clone()));
    });
    serving.join().unwrap();
    assert!(grown < FLAT, "{grown} bytes more");
}

#[test]
fn a_million_key_updates_leave_memory_as_it_is() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let case = Case { driver: DriverKind::Auto, drive: Drive::Thread };
    let server = case.tls_server(case.config(), Recorder::echo(), shared().1.server());
    let mut peer = Peer::connect(&server, "a");
    let grown = growth(31_250, |number| {
        // As many as may come with no message between them.
        for _ in 0..32 {
            peer.tls.refresh_traffic_keys().unwrap();
        }
        peer.send(&number.to_le_bytes());
        assert_eq!(peer.receive(4), frame(&number.to_le_bytes()));
    });
    assert!(grown < FLAT, "{grown} bytes more");
}
