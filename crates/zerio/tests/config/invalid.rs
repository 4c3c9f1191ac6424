//! Values that can't work: refused before anything starts, with which, why, and what would do.
#![forbid(unsafe_code)]

use std::net::TcpListener;
use std::time::Duration;

use zerio::{Client, Config, ConfigError, Error, Server, WaitStrategy};

use crate::hostile::config;

/// What each way to start says to this configuration.
fn refusals(config: &Config) -> Vec<ConfigError> {
    let server = || Server::bind("127.0.0.1:0").unwrap().config(config.clone());
    // Somebody who hears of it if the client connects after all.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = || Client::connect(listener.local_addr().unwrap(), "client").unwrap().config(config.clone());
    let outcomes = [
        server().start().map(drop),
        server().start_polled().map(drop),
        server().start_each(|_| crate::hostile::Echo::default()).map(drop),
        client().start().map(drop),
        client().start_polled().map(drop),
    ];
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "no client has connected");
    let error = |outcome| match outcome {
        Err(Error::Config(error)) => error,
        other => panic!("{other:?}"),
    };
    outcomes.into_iter().map(error).collect()
}

/// A setting, how its value is printed, what would do, and how to set it so.
type Case = (&'static str, &'static str, &'static str, fn(&mut Config));

const CASES: &[Case] = &[
    ("message_max", "0", "1 would do", |c| c.message_max = 0),
    ("message_max", "268435457", "268435456 would do", |c| c.message_max = (1 << 28) + 1),
    ("send_ring", "100000", "262144 would do", |c| c.send_ring = 100_000),
    ("send_ring", "0", "262144 would do", |c| c.send_ring = 0),
    ("send_ring", "1000", "262144 would do", |c| c.send_ring = 1000),
    ("send_ring", "2048", "262144 would do", |c| c.send_ring = 2048),
    ("send_ring", "1073741825", "1073741824 would do", |c| c.send_ring = (1 << 30) + 1),
    ("send_ring", "65536", "262144 would do", |c| c.send_ring = 65_536),
    ("receive_buffer", "65539", "65540 would do", |c| c.receive_buffer = 65_539),
    ("receive_buffer", "1073741825", "1073741824 would do", |c| c.receive_buffer = (1 << 30) + 1),
    ("handshake_timeout", "0ns", "1 ms or more", |c| c.handshake_timeout = Duration::ZERO),
    ("peer_timeout", "0ns", "1 ms or more", |c| c.peer_timeout = Duration::ZERO),
    ("slow_peer_timeout", "0ns", "1 ms or more", |c| c.slow_peer_timeout = Some(Duration::ZERO)),
    ("drain_timeout", "0ns", "1 ms or more", |c| c.drain_timeout = Duration::ZERO),
    ("send_timeout", "0ns", "1 ms or more", |c| c.send_timeout = Duration::ZERO),
    ("engines", "0", "1 would do", |c| c.engines = 0),
    ("engines", "65", "the most is ", |c| c.engines = 65),
    ("wait", "Sleep(0ns)", "sleep 1 µs or more", |c| c.wait = WaitStrategy::Sleep(Duration::ZERO)),
    ("cores", "[0, 1]", "as many cores as engines", |c| c.cores = vec![0, 1]),
    ("batch_from", "0", "1 would do", |c| c.batch_from = 0),
    ("connections_per_address", "0", "1 would do", |c| c.connections_per_address = Some(0)),
    ("connections_per_second", "1000001", "1000000 would do", |c| {
        c.connections_per_second = Some(1_000_001);
    }),
    ("connection_burst", "0", "1 would do", |c| c.connection_burst = 0),
    ("handshakes_max", "0", "1 would do", |c| c.handshakes_max = Some(0)),
    ("socket_send_buffer", "0", "1 would do", |c| c.socket_send_buffer = Some(0)),
    ("socket_receive_buffer", "0", "1 would do", |c| c.socket_receive_buffer = Some(0)),
    ("busy_poll", "1.5s", "1 µs to 1 s", |c| c.busy_poll = Some(Duration::from_millis(1500))),
    ("priority", "100", "99 would do", |c| c.priority = Some(100)),
];

#[test]
fn a_value_that_can_not_work_is_refused_with_which_why_and_what_would_do() {
    for (setting, value, instead, change) in CASES.iter().copied() {
        for error in refusals(&config(change)) {
            assert_eq!((error.setting, error.value.as_str()), (setting, value));
            assert!(!error.why.is_empty());
            let text = error.to_string();
            assert!(text.starts_with(&format!("{setting} = {value}: ")), "{text}");
            assert!(text.contains(instead), "{text}");
        }
    }
}

#[test]
fn sessions_max_of_none_is_refused_by_a_server() {
    let outcome = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.sessions_max = 0)).start();
    let Err(Error::Config(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.to_string(), "sessions_max = 0: the least is 1; 1 would do");
}

#[test]
fn with_the_longest_peer_timeout_nobody_could_get_in() {
    // As with any longer one: the socket's options were refused when somebody came.
    let longest = config(|c| c.peer_timeout = Duration::from_secs(65_534));
    let server = Server::bind("127.0.0.1:0").unwrap().config(longest.clone()).start().unwrap();
    let client = Client::connect(server.local_addr(), "client").unwrap().config(longest).start().unwrap();
    client.send(b"x").unwrap();
    assert_eq!(client.stop().delivered, 1);
    let longer = config(|c| c.peer_timeout = Duration::from_secs(65_536));
    for error in refusals(&longer) {
        assert_eq!(error.setting, "peer_timeout");
        assert!(error.instead.contains("65534 s would do"), "{error}");
    }
}

/// Does what a refusal says would do.
fn heed(config: &mut Config, refusal: &ConfigError) {
    let instead = &refusal.instead;
    let digits: String = instead.chars().take_while(char::is_ascii_digit).collect();
    let number = || digits.parse::<usize>().unwrap_or_else(|_| panic!("{refusal} tells no number"));
    let time = || match instead.as_str() {
        "1 ms or more would do" => Duration::from_millis(1),
        "1 µs to 1 s would do" => Duration::from_micros(1),
        _ => Duration::from_secs(instead.strip_suffix(" s would do").unwrap().parse().unwrap()),
    };
    match refusal.setting {
        "message_max" => config.message_max = number(),
        "send_ring" => config.send_ring = number(),
        "receive_buffer" => config.receive_buffer = number(),
        "sessions_max" => config.sessions_max = number(),
        "engines" => config.engines = number(),
        "batch_from" => config.batch_from = number(),
        "connections_per_address" => config.connections_per_address = Some(number()),
        "connections_per_second" => config.connections_per_second = Some(number() as u32),
        "connection_burst" => config.connection_burst = number() as u32,
        "handshakes_max" => config.handshakes_max = Some(number()),
        "socket_send_buffer" => config.socket_send_buffer = Some(number()),
        "socket_receive_buffer" => config.socket_receive_buffer = Some(number()),
        "priority" => config.priority = Some(number() as u8),
        "handshake_timeout" => config.handshake_timeout = time(),
        "peer_timeout" => config.peer_timeout = time(),
        "drain_timeout" => config.drain_timeout = time(),
        "send_timeout" => config.send_timeout = time(),
        "slow_peer_timeout" => config.slow_peer_timeout = Some(time()),
        "busy_poll" => config.busy_poll = Some(time()),
        "wait" if instead.contains("BusySpin") => config.wait = WaitStrategy::BusySpin,
        "wait" if instead.contains("Park") => config.wait = WaitStrategy::Park,
        "cores" if instead.contains("or none") => config.cores = Vec::new(),
        _ => panic!("what would do? {refusal}"),
    }
}

#[test]
fn what_would_do_does() {
    let changes = CASES.iter().map(|&(.., change)| change);
    let more: [fn(&mut Config); 6] = [
        |c| c.sessions_max = 0,
        |c| (c.engines, c.sessions_max) = (2, 1),
        |c| (c.engines, c.handshakes_max) = (3, Some(2)),
        |c| c.peer_timeout = Duration::from_secs(65_536),
        |c| c.wait = WaitStrategy::Sleep(Duration::from_secs(2)),
        |c| (c.message_max, c.send_ring, c.receive_buffer) = (usize::MAX, 1000, 0),
    ];
    for change in changes.chain(more) {
        let mut config = config(change);
        let mut heeded = Vec::new();
        while let Err(refusal) = config.memory() {
            assert!(!heeded.contains(&refusal.setting), "it was heeded, and is refused again: {refusal}");
            heeded.push(refusal.setting);
            heed(&mut config, &refusal);
        }
        assert!(!heeded.is_empty());
    }
}

#[test]
fn an_engine_that_is_driven_has_no_thread_to_pin() {
    let pinned = || config(|c| c.cores = vec![0]);
    let server = Server::bind("127.0.0.1:0").unwrap().config(pinned()).start_polled().map(drop);
    let client = Client::connect("127.0.0.1:1", "client").unwrap().config(pinned()).start_polled().map(drop);
    for outcome in [server, client] {
        let Err(Error::Config(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((error.setting, error.value.as_str()), ("cores", "[0]"));
    }
}

#[test]
fn several_engines_need_a_handler_each() {
    let two = || config(|c| c.engines = 2);
    let server = || Server::bind("127.0.0.1:0").unwrap().config(two());
    for outcome in [server().start().map(drop), server().start_polled().map(drop)] {
        let Err(Error::Config(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((error.setting, error.value.as_str()), ("engines", "2"));
    }
    let outcome = server().start().map(drop).unwrap_err().to_string();
    assert!(outcome.contains("start_each"), "{outcome}");
    let outcome = Client::connect("127.0.0.1:1", "client").unwrap().config(two()).start();
    let Err(Error::Config(error)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(error.setting, "engines");
}
