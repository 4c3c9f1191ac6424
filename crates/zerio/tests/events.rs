//! What a handler hears: connected, then messages, then disconnected, exactly once each, in order, with the
//! peer's id, its address and a typed reason; over every driver and both ways of driving.
#![forbid(unsafe_code)]

mod common;

use std::io::Write;
use std::sync::mpsc::channel;

use common::raw::{Raw, frame};
use common::{Case, Drive, Event, Log, PATIENCE, Recorder, eventually, matrix, texts};
use zerio::{
    Client, DriverKind, Error, Handler, PolledClient, Reason, RefusalCode, Rejection, SameId, SendError,
    Server, Undelivered,
};

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

matrix! {
    fn a_session_is_connected_then_heard_then_disconnected_once_each(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let mut raw = Raw::connect(server.address(), "a");
        let address = raw.address();
        for text in numbers(50) {
            raw.send(text.as_bytes());
        }
        drop(raw);
        let why = log.wait_disconnected("a");
        assert_eq!((why.reason, why.undelivered), (Reason::PeerClosed, Undelivered::default()));
        server.stop();
        let events = log.events();
        assert_eq!(events.len(), 52, "{events:?}");
        assert_eq!(events[0], Event::Connected { id: "a".into(), address });
        assert_eq!(texts(&events[1..51]), numbers(50));
        assert!(events.iter().all(|event| event.id() == Some("a")));
        assert_eq!(events[51], Event::Disconnected { id: "a".into(), address, why });
    }

    fn a_client_hears_the_server_in_order_and_its_end(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = case.server(case.config(), Recorder::new(&at_server));
        let _client = case.client(&server, "a", Recorder::new(&at_client));
        let sender = server.sender();
        at_server.wait_connected("a");
        for text in numbers(50) {
            sender.send("a", text.as_bytes()).unwrap();
        }
        sender.disconnect("a").unwrap();
        assert_eq!(at_client.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(at_server.wait_disconnected("a").reason, Reason::Disconnected);
        let events = at_client.events();
        assert_eq!(events.len(), 52, "{events:?}");
        assert_eq!(events[0], Event::Connected { id: "a".into(), address: server.address() });
        assert_eq!(texts(&events), numbers(50));
        assert_eq!(at_server.events().len(), 2);
    }

    fn over_ipv6_messages_go_both_ways_and_addresses_are_told(case) {
        if let Err(why) = std::net::TcpListener::bind("[::1]:0") {
            return eprintln!("SKIPPED: ::1 can't be bound on this machine: {why}");
        }
        let (at_server, at_client) = (Log::new(), Log::new());
        let echo = Recorder::new(&at_server).on_message(|peer, message| peer.send(message).unwrap());
        let server = case.server_at("[::1]:0", case.config(), echo);
        assert!(server.address().is_ipv6());
        let client = case.client(&server, "a", Recorder::new(&at_client));
        client.peer().send(b"oui").unwrap();
        at_client.wait_messages("a", 1);
        assert_eq!(texts(&at_client.events()), ["oui"]);
        assert_eq!(at_client.events()[0], Event::Connected { id: "a".into(), address: server.address() });
        let is_here = |event: &Event| {
            matches!(event, Event::Connected { address, .. } if address.ip() == server.address().ip())
        };
        assert!(at_server.events().iter().any(is_here), "{:?}", at_server.events());
    }

    fn a_client_that_stops_is_heard_out_and_hears_its_own_stop(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = case.server(case.config(), Recorder::new(&at_server));
        let client = case.client(&server, "a", Recorder::new(&at_client));
        for text in numbers(50) {
            client.peer().send(text.as_bytes()).unwrap();
        }
        client.stop();
        assert_eq!(at_client.wait_disconnected("a").reason, Reason::Stopped);
        assert_eq!(at_server.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(texts(&at_server.events()), numbers(50));
    }

    fn of_a_refused_connection_only_on_rejected_hears(case) {
        let (at_server, at_client) = (Log::new(), Log::new());
        let server = case.server(case.config(), Recorder::new(&at_server));
        let _first = case.client(&server, "a", Recorder::deaf());
        let second = case.try_client(&server, "a", case.config(), Recorder::new(&at_client));
        match second.map(drop) {
            Err(Error::Refused { code, text, address }) => {
                assert_eq!(code, RefusalCode::AlreadyConnected);
                assert_eq!(text, "id already connected");
                assert_eq!(address, server.address());
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(at_server.wait_rejected(), Rejection::Refused(RefusalCode::AlreadyConnected));
        assert_eq!(at_client.events(), []);
        assert_eq!(at_server.of("a").len(), 1, "the first one is connected, and not disturbed");
    }

    fn a_handler_that_disconnects_hears_no_further_message(case) {
        let log = Log::new();
        let recorder = Recorder::new(&log).on_message(|peer, message| {
            if message == b"2" {
                peer.disconnect();
            }
        });
        let server = case.server(case.config(), recorder);
        let mut raw = Raw::connect(server.address(), "a");
        let all = numbers(10);
        raw.send_at_once(&all.iter().map(String::as_bytes).collect::<Vec<_>>());
        assert_eq!(raw.receive(), None, "told that it ends");
        drop(raw);
        assert_eq!(log.wait_disconnected("a").reason, Reason::Disconnected);
        assert_eq!(texts(&log.events()), numbers(3));
    }

    fn the_last_message_of_a_batch_and_no_other_is_its_end(case) {
        let log = Log::new();
        // What comes while the reading is paused comes in one piece.
        let server = case.server(case.config(), Recorder::new(&log).on_connected(|peer| peer.pause()));
        let mut raw = Raw::connect(server.address(), "a");
        log.wait_connected("a");
        let all = numbers(20);
        raw.send_at_once(&all.iter().map(String::as_bytes).collect::<Vec<_>>());
        server.sender().peer("a").unwrap().resume().unwrap();
        log.wait_messages("a", 20);
        // A frame and a half, then the other half.
        let (whole, half) = (frame(b"whole"), frame(b"halved"));
        raw.0.write_all(&[&whole[..], &half[..7]].concat()).unwrap();
        log.wait_messages("a", 21);
        raw.0.write_all(&half[7..]).unwrap();
        log.wait_messages("a", 22);
        let ends = |event: Event| match event {
            Event::Message { batch_end, .. } => Some(batch_end),
            _ => None,
        };
        let ends: Vec<bool> = log.events().into_iter().filter_map(ends).collect();
        let mut expected = vec![false; 22];
        (expected[19], expected[20], expected[21]) = (true, true, true);
        assert_eq!(ends, expected);
        let batches = || server.counters().sessions.received.batches_received;
        eventually("three batches", || batches() == 3);
    }

    fn every_batch_has_one_end(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let client = case.client(&server, "a", Recorder::deaf());
        for text in numbers(5000) {
            client.peer().send(text.as_bytes()).unwrap();
        }
        client.stop();
        log.wait_disconnected("a");
        let is_end = |event: &&Event| matches!(event, Event::Message { batch_end: true, .. });
        let ends = log.events().iter().filter(is_end).count() as u64;
        let received = server.counters().sessions.received;
        assert_eq!((received.messages_received, received.batches_received), (5000, ends));
        assert!(matches!(log.events()[5000], Event::Message { batch_end: true, .. }), "the very last one");
    }

    fn clients_in_a_crowd_each_have_their_own_session(case) {
        let log = Log::new();
        let recorder = Recorder::new(&log).on_message(|peer, message| peer.send(message).unwrap());
        let server = case.server(case.config(), recorder);
        // The model of Registered I/O makes a system call for each session and turn.
        let crowd = if case.driver == DriverKind::RioModel { 50 } else { 200 };
        let ids: Vec<String> = (0..crowd).map(|number| format!("client-{number}")).collect();
        exchange_with_all(case, &server, &ids);
        for id in &ids {
            assert_eq!(log.wait_disconnected(id).reason, Reason::PeerClosed);
            let events = log.of(id);
            assert_eq!(events.len(), 12, "{events:?}");
            assert!(matches!(events[0], Event::Connected { .. }));
            let expected: Vec<String> = (0..10).map(|number| format!("{id}: {number}")).collect();
            assert_eq!(texts(&events[1..11]), expected);
        }
        assert_eq!(server.counters().engine.connected, crowd);
        assert_eq!(server.counters().engine.disconnected, crowd);
    }

    fn a_client_that_left_can_come_again_under_its_id_at_once(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        for round in 0..20 {
            let client = case.client(&server, "a", Recorder::deaf());
            client.peer().send(round.to_string().as_bytes()).unwrap();
            client.stop();
        }
        server.stop();
        let events = log.of("a");
        assert_eq!(events.len(), 60);
        assert_eq!(texts(&events), numbers(20));
        for round in events.chunks(3) {
            assert!(matches!(round, [Event::Connected { .. }, Event::Message { .. }, Event::Disconnected { .. }]));
        }
    }

    fn the_newer_connection_replaces_the_older_one_where_that_is_chosen(case) {
        let (log, at_first) = (Log::new(), Log::new());
        let mut config = case.config();
        config.same_id = SameId::ReplaceOld;
        let server = case.server(config, Recorder::new(&log));
        let first = case.client(&server, "a", Recorder::new(&at_first));
        log.wait_connected("a");
        let sender = server.sender();
        let old = sender.peer("a").unwrap();
        let at_second = Log::new();
        let second = case.client(&server, "a", Recorder::new(&at_second));
        at_first.wait_disconnected("a");
        assert!(first.peer().send(b"lost").is_err());
        second.peer().send(b"here").unwrap();
        log.wait_messages("a", 1);
        assert_eq!(old.try_send(b"never"), Err(SendError::Closed), "a handle stays with its session");
        sender.send("a", b"for the new one").unwrap();
        at_second.wait_messages("a", 1);
        let addresses: Vec<_> = log.events().iter().filter_map(|event| match event {
            Event::Connected { address, .. } => Some(*address),
            _ => None,
        }).collect();
        let events = log.events();
        match &events[..] {
            [
                Event::Connected { .. },
                Event::Disconnected { why, address, .. },
                Event::Connected { .. },
                Event::Message { bytes, .. },
            ] => {
                assert_eq!((why.reason, *address), (Reason::Replaced, addresses[0]));
                assert_eq!(bytes, b"here");
            }
            other => panic!("{other:?}"),
        }
        assert_ne!(addresses[0], addresses[1]);
    }

    fn a_message_never_passes_the_handshake(case) {
        // A thread that sends to a peer from the moment when its id is known.
        let server = case.server(case.config(), Recorder::deaf());
        let sender = server.sender();
        let (done, is_done) = channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let _ = sender.try_send("a", b"eager");
                    // The others may have this very core.
                    std::thread::yield_now();
                }
            });
            for _ in 0..500 {
                let mut raw = Raw::connect(server.address(), "a");
                assert_eq!(raw.receive().as_deref(), Some(&b"eager"[..]));
                raw.end();
                let (messages, _) = raw.rest();
                assert!(messages.iter().all(|message| message == b"eager"));
            }
            drop(done);
        });
    }
}

/// Every client sends ten messages and hears them again; then all of them leave.
fn exchange_with_all(case: &Case, server: &common::TestServer, ids: &[String]) {
    let mut config = case.config();
    (config.send_ring, config.receive_buffer, config.message_max) = (4096, 4096, 1024);
    let say = |id: &str, number: usize| format!("{id}: {number}").into_bytes();
    if case.drive == Drive::Thread {
        let log = Log::new();
        let client = |id: &String| case.try_client(server, id, config.clone(), Recorder::new(&log)).unwrap();
        let clients: Vec<_> = ids.iter().map(client).collect();
        for number in 0..10 {
            for (client, id) in clients.iter().zip(ids) {
                client.peer().send(&say(id, number)).unwrap();
            }
        }
        ids.iter().for_each(|id| log.wait_messages(id, 10));
        return;
    }
    // One thread drives them all.
    let client = |id: &String| {
        let log = Log::new();
        let builder = Client::connect(server.address(), id).unwrap().config(config.clone());
        (log.clone(), builder.handler(Recorder::new(&log)).start_polled().unwrap())
    };
    let mut clients: Vec<(Log, PolledClient<Recorder>)> = ids.iter().map(client).collect();
    let begun = std::time::Instant::now();
    let mut poll_until = |is_so: &dyn Fn(&Log, &PolledClient<Recorder>) -> bool| {
        while !clients.iter().all(|(log, client)| is_so(log, client)) {
            for (_, client) in &mut clients {
                client.poll().unwrap();
            }
            assert!(begun.elapsed() < PATIENCE);
        }
    };
    poll_until(&|_, client| client.is_connected());
    for ((_, client), id) in clients.iter_mut().zip(ids) {
        (0..10).for_each(|number| client.try_send(&say(id, number)).unwrap());
    }
    let mut poll_until = |is_so: &dyn Fn(&Log) -> bool| {
        while !clients.iter().all(|(log, _)| is_so(log)) {
            for (_, client) in &mut clients {
                client.poll().unwrap();
            }
            assert!(begun.elapsed() < PATIENCE);
        }
    };
    poll_until(&|log| texts(&log.events()).len() == 10);
    for ((log, _), id) in clients.iter().zip(ids) {
        let expected: Vec<_> = (0..10).map(|number| format!("{id}: {number}")).collect();
        assert_eq!(texts(&log.events()), expected);
    }
}

#[test]
fn closures_hear_what_a_handler_hears() {
    let (tell, told) = channel();
    let (on_connected, on_message, on_disconnected) = (tell.clone(), tell.clone(), tell);
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .on_connected(move |peer| on_connected.send(format!("{} connected", peer.id())).unwrap())
        .on_message(move |peer, message| {
            on_message.send(format!("{} said {}", peer.id(), message.len())).unwrap();
        })
        .on_disconnected(move |peer, why| on_disconnected.send(format!("{} left: {why}", peer.id())).unwrap())
        .start()
        .unwrap();
    let client = Client::connect(server.local_addr(), "a").unwrap().start().unwrap();
    client.send(b"oui").unwrap();
    client.stop();
    for expected in ["a connected", "a said 3", "a left: it closed the connection"] {
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), expected);
    }
}

#[test]
fn a_handler_needs_none_of_its_methods() {
    struct Careless;
    impl Handler for Careless {}
    let server = Server::bind("127.0.0.1:0").unwrap().handler(Careless).start().unwrap();
    let client = Client::connect(server.local_addr(), "a").unwrap().handler(Careless).start().unwrap();
    client.send(b"oui").unwrap();
    assert_eq!(client.stop().delivered, 1);
}
