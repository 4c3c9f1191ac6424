//! Pausing and resuming the reading of one session: what comes meanwhile waits, in order, and pushes back on
//! that peer alone.
#![forbid(unsafe_code)]

mod common;

#[cfg(target_os = "linux")]
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::raw::Raw;
use common::{Log, Recorder, TestServer, eventually, matrix, texts};
use zerio::{Reason, SendError};

/// Round trips of a peer that nobody has paused, as proof that the engine has turned and works.
fn others_go_on(server: &TestServer) {
    let mut other = Raw::connect(server.address(), "other");
    for number in 0..100u32 {
        other.send(&number.to_le_bytes());
        assert_eq!(other.receive().unwrap(), number.to_le_bytes());
    }
    other.end();
    assert_eq!(other.receive(), None);
}

/// Writes down, answers `other`, and pauses whoever says `pause`.
fn pausing(log: &Log) -> Recorder {
    Recorder::new(log).on_message(|peer, message| match (peer.id(), message) {
        (_, b"pause") => peer.pause(),
        ("other", message) => peer.send(message).unwrap(),
        _ => {}
    })
}

matrix! {
    fn a_handler_pauses_from_the_next_message_on(case) {
        let log = Log::new();
        let server = case.server(case.config(), pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send_at_once(&[b"1", b"pause", b"2", b"3"]);
        log.wait_messages("a", 2);
        raw.send(b"4");
        others_go_on(&server);
        assert_eq!(texts(&log.of("a")), ["1", "pause"]);
        let peer = server.sender().peer("a").unwrap();
        peer.resume().unwrap();
        log.wait_messages("a", 5);
        raw.send_at_once(&[b"pause", b"5"]);
        log.wait_messages("a", 6);
        others_go_on(&server);
        assert_eq!(texts(&log.of("a")), ["1", "pause", "2", "3", "4", "pause"]);
        peer.resume().unwrap();
        log.wait_messages("a", 7);
        assert_eq!(texts(&log.of("a")).last().unwrap(), "5");
    }

    fn a_handle_pauses_and_what_comes_meanwhile_is_heard_in_order_afterwards(case) {
        let log = Log::new();
        let server = case.server(case.config(), pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        let peer = server.sender().peer("a").unwrap();
        for round in 0..10 {
            peer.pause().unwrap();
            others_go_on(&server);
            (0..10).for_each(|number| raw.send((round * 10 + number).to_string().as_bytes()));
            others_go_on(&server);
            assert_eq!(texts(&log.of("a")).len(), round * 10);
            peer.resume().unwrap();
            log.wait_messages("a", (round + 1) * 10);
        }
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(texts(&log.of("a")), expected);
    }

    fn a_paused_session_can_still_be_sent_to(case) {
        let log = Log::new();
        let server = case.server(case.config(), pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send(b"pause");
        log.wait_messages("a", 1);
        for number in 0..100u32 {
            server.sender().send("a", &number.to_le_bytes()).unwrap();
            assert_eq!(raw.receive().unwrap(), number.to_le_bytes());
        }
        server.sender().peer("a").unwrap().resume().unwrap();
    }

    fn a_pause_pushes_back_on_that_peer_alone_and_loses_nothing(case) {
        let log = Log::new();
        let server = case.server(case.tight(), pausing(&log));
        let client = case.try_client(&server, "a", case.tight(), Recorder::deaf()).unwrap();
        let peer = client.peer();
        peer.send(b"pause").unwrap();
        log.wait_messages("a", 1);
        // It fills the server's buffer, both sockets, and its own ring; then it is told so.
        let mut accepted = 0u32;
        let mut message = [0; 1000];
        let outcome = loop {
            message[..4].copy_from_slice(&accepted.to_le_bytes());
            match peer.send_timeout(&message, Duration::from_secs(1)) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(outcome, SendError::TimedOut);
        assert_eq!(peer.try_send(&message), Err(SendError::Full));
        others_go_on(&server);
        assert_eq!(log.of("a").len(), 2, "connected, and the message that paused it");
        server.sender().peer("a").unwrap().resume().unwrap();
        assert_eq!(client.stop().undelivered.messages, 0);
        log.wait_disconnected("a");
        let events = log.of("a");
        let numbers = events.iter().filter_map(|event| match event {
            common::Event::Message { bytes, .. } if bytes.len() == 1000 => {
                Some(u32::from_le_bytes(bytes[..4].try_into().unwrap()))
            }
            _ => None,
        });
        assert_eq!(numbers.collect::<Vec<_>>(), (0..accepted).collect::<Vec<_>>());
    }

    fn a_paused_peer_can_be_disconnected(case) {
        let log = Log::new();
        let server = case.server(case.config(), pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send_at_once(&[b"pause", b"1", b"2"]);
        log.wait_messages("a", 1);
        server.sender().disconnect("a").unwrap();
        assert_eq!(raw.receive(), None, "it is told");
        drop(raw);
        assert_eq!(log.wait_disconnected("a").reason, Reason::Disconnected);
        assert_eq!(texts(&log.of("a")), ["pause"]);
    }

    fn a_peer_that_leaves_while_paused_is_heard_out_after_the_resume(case) {
        let log = Log::new();
        let server = case.server(case.config(), pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send_at_once(&[b"pause", b"1", b"2"]);
        log.wait_messages("a", 1);
        raw.send(b"3");
        drop(raw);
        others_go_on(&server);
        assert_eq!(log.of("a").len(), 2, "neither a message nor the end is heard while it is paused");
        server.sender().peer("a").unwrap().resume().unwrap();
        let why = log.wait_disconnected("a");
        assert_eq!(why.reason, Reason::PeerClosed);
        assert_eq!(texts(&log.of("a")), ["pause", "1", "2", "3"]);
    }

    fn a_client_pauses_its_server_too(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = case.server(case.config(), Recorder::new(&at_server));
        let client = case.client(&server, "a", pausing(&at_client));
        at_server.wait_connected("a");
        let sender = server.sender();
        ["1", "pause", "2"].into_iter().for_each(|text| sender.send("a", text.as_bytes()).unwrap());
        at_client.wait_messages("a", 2);
        client.peer().send(b"still sending").unwrap();
        at_server.wait_messages("a", 1);
        assert_eq!(texts(&at_client.events()), ["1", "pause"]);
        client.peer().resume().unwrap();
        at_client.wait_messages("a", 3);
        let turns = client.counters().engine.turns;
        eventually("turns go on", || {
            let _ = client.peer().send(b"x");
            client.counters().engine.turns > turns
        });
    }

    fn a_paused_session_does_not_outlast_a_stop(case) {
        let log = Log::new();
        let mut config = case.config();
        config.drain_timeout = Duration::from_millis(300);
        let server = case.server(config, pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send_at_once(&[b"pause", b"1"]);
        log.wait_messages("a", 1);
        server.stop();
        assert_eq!(log.wait_disconnected("a").reason, Reason::Stopped);
        assert_eq!(texts(&log.of("a")), ["pause"]);
    }

    fn resuming_what_is_not_paused_and_pausing_twice_change_nothing(case) {
        let log = Log::new();
        let server = case.server(case.config(), pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        let peer = server.sender().peer("a").unwrap();
        peer.resume().unwrap();
        raw.send(b"1");
        log.wait_messages("a", 1);
        peer.pause().unwrap();
        peer.pause().unwrap();
        peer.resume().unwrap();
        raw.send(b"2");
        log.wait_messages("a", 2);
    }

    fn pausing_and_resuming_all_the_time_loses_nothing(case) {
        let heard = Arc::new(AtomicU64::new(0));
        let count = heard.clone();
        let log = Log::new();
        let recorder = Recorder::new(&log).without_messages().on_message(move |peer, message| {
            let number = u64::from_le_bytes(message.try_into().unwrap());
            assert_eq!(count.fetch_add(1, Ordering::SeqCst), number);
            if number % 7 == 0 {
                peer.pause();
            }
        });
        let server = case.server(case.config(), recorder);
        let client = case.client(&server, "a", Recorder::deaf());
        log.wait_connected("a");
        let (peer, at_server) = (client.peer(), server.sender().peer("a").unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| (0..5000u64).for_each(|number| peer.send(&number.to_le_bytes()).unwrap()));
            eventually("all are heard", || {
                (0..50).for_each(|_| at_server.resume().unwrap());
                heard.load(Ordering::SeqCst) == 5000
            });
        });
    }
}

#[cfg(target_os = "linux")]
matrix! {
    fn a_peer_of_a_paused_session_that_was_gone_was_noticed_by_nobody(case) {
        // Registered I/O has no way to look at a socket.
        if case.takes_sends_whole() {
            return;
        }
        let log = Log::new();
        let mut config = case.config();
        (config.peer_timeout, config.drain_timeout) = (Duration::from_secs(1), Duration::from_millis(100));
        let server = case.server(config, pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send_at_once(&[b"pause", b"unheard"]);
        log.wait_messages("a", 1);
        raw.reset();
        let why = log.wait_disconnected("a");
        assert_eq!(why.reason, Reason::Connection(ErrorKind::ConnectionReset));
        assert_eq!(texts(&log.of("a")), ["pause"], "nobody has resumed it");
    }

    fn who_resumes_a_session_whose_peer_is_gone_hears_what_had_come(case) {
        if case.takes_sends_whole() {
            return;
        }
        let log = Log::new();
        let mut config = case.config();
        config.peer_timeout = Duration::from_secs(1);
        let server = case.server(config, pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send(b"pause");
        log.wait_messages("a", 1);
        raw.send(b"heard later");
        let peer = server.sender().peer("a").unwrap();
        raw.reset();
        eventually("its end is seen", || peer.try_claim(1).is_err());
        peer.resume().unwrap();
        let why = log.wait_disconnected("a");
        assert_eq!(why.reason, Reason::Connection(ErrorKind::ConnectionReset));
        assert_eq!(texts(&log.of("a")), ["pause", "heard later"]);
    }

    fn who_comes_again_waits_for_the_end_of_his_lost_session(case) {
        if case.takes_sends_whole() {
            return;
        }
        let log = Log::new();
        let mut config = case.config();
        (config.peer_timeout, config.drain_timeout) = (Duration::from_secs(1), Duration::from_millis(300));
        let server = case.server(config, pausing(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send(b"pause");
        log.wait_messages("a", 1);
        let peer = server.sender().peer("a").unwrap();
        raw.reset();
        eventually("its end is seen", || peer.try_claim(1).is_err());
        // He is not refused because of it.
        let _again = Raw::connect(server.address(), "a");
        assert_eq!(log.wait_disconnected("a").reason, Reason::Connection(ErrorKind::ConnectionReset));
    }
}
