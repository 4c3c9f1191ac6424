//! Who may come in: the handler's word, asked once and before anything else; limits over all engines of a server; and
//! what a log is told of those who did not come in.
#![forbid(unsafe_code)]

mod common;

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::raw::Raw;
use common::{Log, PATIENCE, Recorder, drivers, eventually, matrix};
use zerio::{EngineFailure, Error, Refusal, RefusalCode, Rejection, Rejections, SameId, Server};

/// A connection that has not said anything.
fn silent(address: std::net::SocketAddr) -> Raw {
    let raw = Raw(TcpStream::connect(address).expect("a connection"));
    raw.0.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    raw
}

/// One that has said who it is.
fn arrive(address: std::net::SocketAddr, id: &str) -> Raw {
    let mut raw = silent(address);
    raw.send(id.as_bytes());
    raw
}

fn guest_list(asked: &Arc<Mutex<Vec<String>>>) -> Recorder {
    let asked = asked.clone();
    Recorder::deaf().admit(move |arrival| {
        assert!(arrival.address().ip().is_loopback());
        asked.lock().unwrap().push(arrival.id().to_owned());
        match arrival.id() {
            "mallory" => Err(Refusal::default()),
            "trent" => Err("come back on Monday".into()),
            _ => Ok(()),
        }
    })
}

matrix! {
    fn who_is_not_let_in_hears_the_words_of_the_handler_and_who_is_connected_does_not_notice(case) {
        let asked = Arc::default();
        let server = case.server(case.config(), guest_list(&asked));
        let mut alice = Raw::connect(server.address(), "alice");
        for (id, words) in [("mallory", "id not allowed"), ("trent", "come back on Monday")] {
            let mut raw = arrive(server.address(), id);
            assert_eq!(raw.receive().unwrap(), [&[0, 3], words.as_bytes()].concat());
            assert_eq!(raw.receive(), None);
            match case.try_client(&server, id, case.config(), Recorder::deaf()).map(drop) {
                Err(Error::Refused { code: RefusalCode::NotAllowed, text, .. }) => assert_eq!(text, words),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(*asked.lock().unwrap(), ["alice", "mallory", "mallory", "trent", "trent"]);
        server.sender().send("alice", b"oui").unwrap();
        assert_eq!(alice.receive().unwrap(), b"oui");
        let engine = server.counters().engine;
        assert_eq!((engine.refused, engine.refused_by_admission, engine.connected), (4, 4, 1));
    }

    fn who_is_not_let_in_replaces_nobody_and_does_not_learn_who_is_connected(case) {
        for same_id in [SameId::RefuseNew, SameId::ReplaceOld] {
            let log = Log::new();
            let (mut config, mut visits) = (case.config(), 0);
            config.same_id = same_id;
            let server = case.server(config, Recorder::new(&log).admit(move |_| {
                visits += 1;
                if visits == 1 { Ok(()) } else { Err("once is enough".into()) }
            }));
            let mut first = Raw::connect(server.address(), "a");
            let answer = arrive(server.address(), "a").receive().unwrap();
            assert_eq!(answer, b"\0\x03once is enough");
            assert_eq!(log.wait_rejected(), Rejection::Refused(RefusalCode::NotAllowed));
            server.sender().send("a", b"still").unwrap();
            assert_eq!(first.receive().unwrap(), b"still");
        }
    }

    fn who_has_to_wait_for_an_older_session_is_asked_about_once(case) {
        let asked = Arc::default();
        let mut config = case.config();
        config.same_id = SameId::ReplaceOld;
        let server = case.server(config, guest_list(&asked));
        let _first = Raw::connect(server.address(), "a");
        let _second = Raw::connect(server.address(), "a");
        assert_eq!(*asked.lock().unwrap(), ["a", "a"]);
    }

    fn what_is_no_id_is_not_asked_about(case) {
        let asked = Arc::default();
        let server = case.server(case.config(), guest_list(&asked));
        assert_eq!(arrive(server.address(), "").receive().unwrap()[..2], [0, 4]);
        assert_eq!(arrive(server.address(), "two\nlines").receive().unwrap()[..2], [0, 4]);
        drop(silent(server.address()));
        let _alice = Raw::connect(server.address(), "alice");
        assert_eq!(*asked.lock().unwrap(), ["alice"]);
    }

    fn a_log_hears_of_the_first_of_a_kind_at_once_and_of_the_others_together(case) {
        let told = Arc::new(Mutex::new(Vec::<Rejections>::new()));
        let lines = told.clone();
        let log = Log::new();
        let recorder = Recorder::new(&log).on_rejections(move |some| lines.lock().unwrap().push(*some));
        let server = case.server(case.config(), recorder);
        let begun = std::time::Instant::now();
        for _ in 0..40 {
            assert_eq!(arrive(server.address(), "").receive().unwrap()[..2], [0, 4]);
        }
        drop(silent(server.address()));
        let count = |told: &[Rejections]| told.iter().map(|some| 1 + some.others).sum::<u64>();
        eventually("all were told", || count(&told.lock().unwrap()) == 41);
        let (told, seconds) = (told.lock().unwrap(), begun.elapsed().as_secs() as usize);
        assert_eq!((told[0].why, told[0].others), (Rejection::Refused(RefusalCode::BadPeerId), 0));
        // Two kinds, each once a second at the most.
        assert!(told.len() <= 2 * (seconds + 1), "{} lines in {seconds} s", told.len());
        let each = log.events().iter().filter(|event| matches!(event, common::Event::Rejected { .. })).count();
        assert_eq!(each, 41, "the other event is for each");
        let words = told[0].to_string();
        assert!(words.ends_with("did not become a session: refused: bad id: 1 to 255 bytes of UTF-8 without control characters"));
    }

    fn what_a_log_was_not_told_it_is_told_at_the_end(case) {
        let told = Arc::new(AtomicU64::new(0));
        let count = told.clone();
        let recorder = Recorder::deaf().on_rejections(move |some| {
            count.fetch_add(1 + some.others, Ordering::SeqCst);
        });
        let server = case.server(case.config(), recorder);
        for _ in 0..10 {
            assert_eq!(arrive(server.address(), "").receive().unwrap()[..2], [0, 4]);
        }
        server.stop();
        assert_eq!(told.load(Ordering::SeqCst), 10);
    }
}

drivers! {
    fn limits_are_a_servers_and_not_each_engines(case) {
        let mut config = case.config();
        (config.engines, config.connections_per_address) = (2, Some(3));
        let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone());
        let server = server.start_each(|_| Recorder::deaf()).unwrap();
        let mut inside: Vec<Raw> = ["a", "b", "c"].map(|id| Raw::connect(server.local_addr(), id)).into();
        for _ in 0..4 {
            assert_eq!(silent(server.local_addr()).receive().unwrap()[..2], [0, 8]);
        }
        // Whichever engine somebody leaves, there is room for one more.
        for id in ["d", "e", "f"] {
            let gone = server.counters().engine.disconnected;
            drop(inside.remove(0));
            eventually("one has left", || server.counters().engine.disconnected > gone);
            inside.push(Raw::connect(server.local_addr(), id));
            assert_eq!(silent(server.local_addr()).receive().unwrap()[..2], [0, 8]);
        }

        (config.connections_per_address, config.handshakes_max) = (None, Some(3));
        let server = Server::bind("127.0.0.1:0").unwrap().config(config);
        let server = server.start_each(|_| Recorder::deaf()).unwrap();
        let _silent: Vec<Raw> = (0..10).map(|_| silent(server.local_addr())).collect();
        eventually("seven have made room", || server.counters().engine.refused_silent == 7);
        let each: Vec<u64> = server.engine_counters().iter().map(|it| it.engine.refused_silent).collect();
        assert!(each.iter().all(|count| *count > 0), "each engine has its share: {each:?}");
    }

    fn a_handler_that_panics_over_an_arrival_ends_its_engine_in_order(case) {
        let server = Server::bind("127.0.0.1:0").unwrap().config(case.config());
        let panics = Recorder::deaf().admit(|arrival| match arrival.id() {
            "a" => Ok(()),
            id => panic!("a test's own panic over {id}"),
        });
        let server = server.handler(panics).start().unwrap();
        let mut a = Raw::connect(server.local_addr(), "a");
        let mut b = arrive(server.local_addr(), "b");
        assert_eq!((a.receive(), b.receive()), (None, None));
        let Some(EngineFailure::HandlerPanicked(why)) = server.stop().failure else { panic!() };
        assert_eq!(why, "a test's own panic over b");
    }
}

#[test]
fn a_server_of_closures_asks_one() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .admit(move |arrival| {
            count.fetch_add(1, Ordering::SeqCst);
            if arrival.id().len() < 4 { Ok(()) } else { Err(Refusal::new("too long a name")) }
        })
        .on_message(|peer, message| peer.send(message).unwrap())
        .start()
        .unwrap();
    let mut raw = Raw::connect(server.local_addr(), "abc");
    raw.send(b"oui");
    assert_eq!(raw.receive().unwrap(), b"oui");
    assert_eq!(arrive(server.local_addr(), "abcd").receive().unwrap(), b"\0\x03too long a name");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}
