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

#[test]
fn a_value_that_can_not_work_is_refused_with_which_why_and_what_would_do() {
    let cases: &[Case] = &[
        ("message_max", "0", "1 would do", |c| c.message_max = 0),
        ("send_ring", "100000", "262144 would do", |c| c.send_ring = 100_000),
        ("send_ring", "65536", "262144 would do", |c| c.send_ring = 65_536),
        ("receive_buffer", "65539", "65540 would do", |c| c.receive_buffer = 65_539),
        ("handshake_timeout", "0ns", "1 ms or more", |c| c.handshake_timeout = Duration::ZERO),
        ("peer_timeout", "0ns", "1 ms or more", |c| c.peer_timeout = Duration::ZERO),
        ("slow_peer_timeout", "0ns", "1 ms or more", |c| c.slow_peer_timeout = Some(Duration::ZERO)),
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
        ("busy_poll", "1.5s", "1 µs to 1 s", |c| c.busy_poll = Some(Duration::from_millis(1500))),
        ("priority", "100", "99 would do", |c| c.priority = Some(100)),
    ];
    for (setting, value, instead, change) in cases.iter().copied() {
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

#[test]
fn what_would_do_does() {
    let config = config(|c| (c.message_max, c.send_ring) = (65_536, 100_000));
    let error = config.memory().expect_err("no power of two");
    let would_do: usize = error.instead.strip_suffix(" would do").unwrap().parse().unwrap();
    let mut better = config.clone();
    better.send_ring = would_do;
    Server::bind("127.0.0.1:0").unwrap().config(better).start().unwrap();
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
