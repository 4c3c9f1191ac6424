//! Who may come in: where the tool listens, and the limits on connections, as flags.
#![deny(unsafe_code)]

mod support;

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;
use support::{Tool, address, line, lines_until, run, server, text};

/// What the server says first on a connection.
fn answer(mut stream: &TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut header = [0; 4];
    stream.read_exact(&mut header).unwrap();
    let mut answer = vec![0; u32::from_le_bytes(header) as usize];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// A session.
fn arrive(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[&(id.len() as u32).to_le_bytes(), id.as_bytes()].concat()).unwrap();
    assert_eq!(answer(&stream), id.as_bytes());
    stream
}

/// How many connections the lines tell of that did not become sessions, until there are so many.
fn count_rejected(out: &mut impl BufRead, why: &str, until: u64) -> u64 {
    let mut count = 0;
    while count < until {
        let lines = lines_until(out, "did not become a session");
        let told = lines.last().unwrap();
        assert!(told.contains(why), "{told}");
        let others = told
            .split_once("(and ")
            .map_or(0, |(_, rest)| rest.split_once(" more of late)").unwrap().0.parse().unwrap());
        count += 1 + others;
    }
    count
}

#[test]
fn a_port_alone_is_one_of_this_machine_alone() {
    let mut serve = Tool::start("serve 0");
    let mut listen = Tool::start("listen 0");
    for first in [line(&mut serve.stdout()), line(&mut listen.stderr())] {
        assert!(address(&first).ip().is_loopback(), "{first}");
    }
}

fn takes_a_flag(everywhere: &str) {
    let output = run(everywhere, b"");
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{everywhere}: {why}");
    for word in ["every interface", "without TLS", "127.0.0.1:", "--insecure-everywhere"] {
        assert!(why.contains(word), "{word:?} is not in {why:?}");
    }
}

#[test]
fn every_interface_without_tls_takes_a_flag_and_the_error_says_which() {
    for everywhere in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
        // Not every machine has IPv6, and not every system takes one for the other.
        if TcpListener::bind(everywhere).is_err() {
            eprintln!("SKIPPED: nobody can listen on {everywhere} here");
            continue;
        }
        for command in ["serve", "listen"] {
            takes_a_flag(&format!("{command} {everywhere}"));
        }
    }
    takes_a_flag("bench --grid-host 0.0.0.0:7000");
    let mut server = Tool::start("serve 0.0.0.0:0 --insecure-everywhere");
    let first = line(&mut server.stdout());
    assert!(address(&first).ip().is_unspecified(), "{first}");
}

#[test]
fn one_address_has_as_many_connections_as_it_may_and_the_others_are_told_together() {
    let (mut server, address, mut out) = server("--connections-per-address 1");
    let first = arrive(address, "first");
    for _ in 0..20 {
        // It says nothing: the server has closed already, and what it said could be lost over that.
        assert_eq!(answer(&TcpStream::connect(address).unwrap())[..2], [0, 8]);
    }
    assert_eq!(count_rejected(&mut out, "too many connections from this address", 20), 20);
    let ping = run(&format!("ping {address} -c 1"), b"");
    let why = text(&ping.stderr);
    assert_eq!(ping.status.code(), Some(1), "{why}");
    drop(first);
    support::until(|| run(&format!("ping {address} -c 1"), b"").status.success());
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn connections_come_no_faster_than_they_may() {
    let flags = "--connections-per-second 1 --connection-burst 2 --handshake-timeout 200ms --json";
    let mut server = Tool::start(&format!("serve 127.0.0.1:0 {flags}"));
    let mut out = server.stdout();
    let mut event = || serde_json::from_str::<Value>(&line(&mut out)).unwrap();
    let address: SocketAddr = event()["address"].as_str().unwrap().parse().unwrap();
    // However slow this machine is: some four come within two seconds.
    let mut refused = 0;
    support::until(|| {
        let streams: Vec<_> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
        let answers = streams.into_iter().map(|stream| answer(&stream));
        refused += answers.filter(|answer| answer[..2] == [0, 9]).count() as u64;
        refused >= 3
    });
    let mut told = 0;
    while told < refused {
        let event = event();
        assert_eq!(event["event"], "rejected", "{event}");
        if event["reason"].as_str().unwrap().contains("too many new connections") {
            told += 1 + event["others"].as_u64().unwrap();
        }
    }
    assert_eq!(told, refused);
}

#[test]
fn the_one_that_was_silent_for_the_longest_makes_room() {
    let (_server, address, mut out) = server("--handshakes-max 1");
    let silent = TcpStream::connect(address).unwrap();
    let _another = TcpStream::connect(address).unwrap();
    assert_eq!(answer(&silent)[..2], [0, 2]);
    assert_eq!(count_rejected(&mut out, "server full", 1), 1);
    arrive(address, "who-speaks");
}
