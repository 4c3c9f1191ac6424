//! Several engines in one server, and engines that end because a handler panicked: what the others, the peers
//! and the process hear of it.
#![forbid(unsafe_code)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::raw::Raw;
use common::{Case, Event, Log, Recorder, drivers, eventually, matrix, texts};
use zerio::{Client, EngineFailure, Reason, SameId, SendError, Server};

const PANIC: &str = "a test's own panic";

/// A server with two engines, each with a recorder that `make` makes.
fn two_engines(case: &Case, same_id: SameId, make: impl FnMut(usize) -> Recorder) -> Server {
    let mut config = case.config();
    (config.engines, config.same_id) = (2, same_id);
    Server::bind("127.0.0.1:0").unwrap().config(config).start_each(make).unwrap()
}

fn client(case: &Case, server: &Server, id: &str, log: &Log) -> Client {
    let client = Client::connect(server.local_addr(), id).unwrap().config(case.config());
    client.handler(Recorder::new(log)).start().unwrap()
}

fn connected(server: &Server) -> Vec<u64> {
    server.engine_counters().iter().map(|engine| engine.engine.connected).collect()
}

drivers! {
    fn sessions_are_spread_over_the_engines(case) {
        let log = Log::new();
        let server = two_engines(case, SameId::RefuseNew, |_| Recorder::new(&log));
        let logs: Vec<Log> = (0..10).map(|_| Log::new()).collect();
        let mut clients: Vec<Client> = logs
            .iter()
            .enumerate()
            .map(|(number, log)| client(case, &server, &format!("{number}"), log))
            .collect();
        eventually("all are in", || connected(&server) == [5, 5]);
        assert_eq!(server.peers().len(), 10);
        assert_eq!(server.counters().engine.connected, 10);
        for (number, log) in logs.iter().enumerate() {
            let id = number.to_string();
            server.send(&id, b"by id").unwrap();
            server.peer(&id).unwrap().send(b"by handle").unwrap();
            log.wait_messages(&id, 2);
            clients[number].send(b"up").unwrap();
        }
        (0..10).for_each(|number| log.wait_messages(&number.to_string(), 1));
        // Who leaves makes room where it was: the next two come in its engine's place.
        clients.drain(..5).for_each(|client| drop(client.stop()));
        for number in 0..5 {
            log.wait_disconnected(&number.to_string());
        }
        eventually("they are out", || server.peers().len() == 5);
        for number in 10..15 {
            let _in = client(case, &server, &number.to_string(), &Log::new());
            _in.send(b"up").unwrap();
            log.wait_messages(&number.to_string(), 1);
        }
        assert_eq!(server.stop().undelivered.messages, 0);
    }

    fn a_handler_sends_to_peers_of_other_engines(case) {
        let server = two_engines(case, SameId::RefuseNew, |_| {
            Recorder::deaf().on_message(|peer, message| {
                let text = String::from_utf8(message.to_vec()).unwrap();
                let (to, _) = text.split_once(' ').unwrap();
                peer.send_to(to, message).unwrap();
            })
        });
        let (at_a, at_b) = (Log::new(), Log::new());
        let (a, b) = (client(case, &server, "a", &at_a), client(case, &server, "b", &at_b));
        eventually("both are in", || connected(&server) == [1, 1]);
        let all = |to: &str| -> Vec<String> { (0..200).map(|number| format!("{to} {number}")).collect() };
        all("b").iter().for_each(|text| a.send(text.as_bytes()).unwrap());
        all("a").iter().for_each(|text| b.send(text.as_bytes()).unwrap());
        at_a.wait_messages("a", 200);
        at_b.wait_messages("b", 200);
        assert_eq!((texts(&at_a.events()), texts(&at_b.events())), (all("a"), all("b")));
    }

    fn a_newer_session_on_another_engine_begins_when_the_older_one_has_ended(case) {
        let (log, order) = (Log::new(), Arc::new(Mutex::new(Vec::new())));
        let server = two_engines(case, SameId::ReplaceOld, |_| {
            let (came, left) = (order.clone(), order.clone());
            Recorder::new(&log)
                .on_connected(move |_| came.lock().unwrap().push("came"))
                .on_disconnected(move |_, _| {
                    // Slow to hear of the end, so that the other engine has time to be too early.
                    std::thread::sleep(Duration::from_millis(20));
                    left.lock().unwrap().push("left");
                })
        });
        let logs: Vec<Log> = (0..10).map(|_| Log::new()).collect();
        let mut clients = Vec::new();
        for (number, log) in logs.iter().enumerate() {
            clients.push(client(case, &server, "a", log));
            if let Some(before) = number.checked_sub(1) {
                logs[before].wait_disconnected("a");
            }
        }
        server.send("a", b"for the last").unwrap();
        logs[9].wait_messages("a", 1);
        let mut expected = ["came", "left"].repeat(10);
        expected.pop();
        assert_eq!(*order.lock().unwrap(), expected);
        let reasons = log.events().into_iter().filter_map(|event| match event {
            Event::Disconnected { why, .. } => Some(why.reason),
            _ => None,
        });
        assert_eq!(reasons.collect::<Vec<_>>(), [Reason::Replaced; 9]);
        let spread = connected(&server);
        assert!(spread.iter().all(|&count| count > 0), "both engines had a part: {spread:?}");
    }

    fn an_engine_whose_handler_panics_leaves_the_others_running(case) {
        for dies in 0..2 {
            let logs = [Log::new(), Log::new()];
            let server = two_engines(case, SameId::RefuseNew, |engine| {
                Recorder::new(&logs[engine]).on_message(|peer, message| match message {
                    b"panic" => panic!("{PANIC}"),
                    message => peer.send(message).unwrap(),
                })
            });
            let all: Vec<(String, Log)> = (0..6).map(|number| (number.to_string(), Log::new())).collect();
            let clients: Vec<Client> = all.iter().map(|(id, log)| client(case, &server, id, log)).collect();
            eventually("all are in", || connected(&server) == [3, 3]);
            let is_on = |id: &str, engine: usize| !logs[engine].of(id).is_empty();
            let victim = all.iter().position(|(id, _)| is_on(id, dies)).unwrap();
            let handle = server.peer(&all[victim].0).unwrap();
            clients[victim].send(b"panic").unwrap();
            for (number, (id, log)) in all.iter().enumerate() {
                if is_on(id, dies) {
                    log.wait_disconnected(id);
                    eventually("nobody finds it", || server.peer(id).is_err());
                } else {
                    clients[number].send(b"still here").unwrap();
                    log.wait_messages(id, 1);
                    server.send(id, b"as before").unwrap();
                    log.wait_messages(id, 2);
                }
            }
            assert_eq!(handle.try_send(b"x"), Err(SendError::Closed));
            eventually("it tells", || !server.is_running());
            assert_eq!(server.peers().len(), 3);
            if dies == 1 {
                // The engine that accepts is well: whoever comes now is its.
                for number in 10..14 {
                    let (id, log) = (number.to_string(), Log::new());
                    let _new = client(case, &server, &id, &log);
                    _new.send(b"hello").unwrap();
                    log.wait_messages(&id, 1);
                }
            }
            let heard = logs[dies].events();
            assert!(!heard.iter().any(|event| matches!(event, Event::Disconnected { .. })), "it is not called again");
            assert_eq!(server.stop().failure, Some(EngineFailure::HandlerPanicked(PANIC.into())));
        }
    }

    fn wherever_a_handler_panics_its_engine_ends_in_order(case) {
        for place in ["connected", "message", "disconnected"] {
            let panic_in = move |here: &'static str| if here == place { panic!("{PANIC}") };
            let recorder = Recorder::deaf()
                .on_connected(move |_| panic_in("connected"))
                .on_message(move |_, _| panic_in("message"))
                .on_disconnected(move |_, _| panic_in("disconnected"));
            let server = Server::bind("127.0.0.1:0").unwrap().config(case.config()).handler(recorder);
            let server = server.start().unwrap();
            let mut bystander = std::net::TcpStream::connect(server.local_addr()).unwrap();
            let mut raw = Raw(std::net::TcpStream::connect(server.local_addr()).unwrap());
            raw.send(b"a");
            raw.send(b"message");
            raw.end();
            eventually("the engine has ended", || !server.is_running());
            assert_eq!(server.try_send("a", b"x"), Err(SendError::Closed));
            let closed = std::io::Read::read(&mut bystander, &mut [0; 1]);
            assert!(matches!(closed, Ok(0) | Err(_)), "everybody hears of the end");
            let report = server.stop();
            assert_eq!(report.failure, Some(EngineFailure::HandlerPanicked(PANIC.into())));
            assert_eq!((report.delivered, report.undelivered.messages), (0, 0));
        }
    }

    fn what_a_panic_leaves_in_the_ring_is_counted(case) {
        let recorder = Recorder::deaf().on_message(|peer, _| {
            (0..5).for_each(|_| peer.send(b"12345678").unwrap());
            panic!("{PANIC}");
        });
        let server = Server::bind("127.0.0.1:0").unwrap().config(case.config()).handler(recorder);
        let server = server.start().unwrap();
        let mut raw = Raw::connect(server.local_addr(), "a");
        raw.send(b"x");
        eventually("the engine has ended", || !server.is_running());
        let report = server.stop();
        assert_eq!((report.delivered, report.undelivered.messages, report.undelivered.bytes), (0, 5, 60));
        assert_eq!(report.left.len(), 1);
    }

    fn a_client_whose_handler_panics_says_closed_and_tells_why(case) {
        let log = Log::new();
        let server = Server::bind("127.0.0.1:0").unwrap().config(case.config()).handler(Recorder::new(&log));
        let server = server.start().unwrap();
        let recorder = Recorder::deaf().on_message(|_, _| panic!("{PANIC}"));
        let client = Client::connect(server.local_addr(), "a").unwrap().config(case.config());
        let client = client.handler(recorder).start().unwrap();
        log.wait_connected("a");
        server.send("a", b"x").unwrap();
        log.wait_disconnected("a");
        eventually("it knows", || !client.is_connected());
        assert_eq!(client.send(b"x"), Err(SendError::Closed));
        assert_eq!(client.try_claim(1).map(drop), Err(SendError::Closed));
        assert_eq!(client.stop().failure, Some(EngineFailure::HandlerPanicked(PANIC.into())));
    }
}

matrix! {
    fn the_process_goes_on_after_a_panic(case) {
        // Whoever waits to send when it happens hears of it; a new server works as if nothing had been.
        let recorder = Recorder::deaf().on_message(|_, _| panic!("{PANIC}"));
        let server = case.server(case.tight(), recorder);
        let mut raw = Raw::connect_small(server.address(), "a");
        let peer = server.sender().peer("a").unwrap();
        let closed = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let hour = Duration::from_secs(3600);
                    while peer.send_timeout(&[1; 1000], hour).is_ok() {}
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
            eventually("its ring is full", || peer.counters().unwrap().sent.full_rings > 0);
            raw.send(b"panic");
        });
        assert_eq!(closed.load(Ordering::SeqCst), 2);
        drop(server);
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let client = case.client(&server, "a", Recorder::deaf());
        client.peer().send(b"x").unwrap();
        log.wait_messages("a", 1);
    }
}
