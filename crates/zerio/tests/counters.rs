//! Each counter moves when it should and not when it should not, exactly where it can be exact; read while
//! everything runs.
#![forbid(unsafe_code)]

mod common;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::certs::shared;
use common::raw::{Raw, frame};
use common::tls_peer::trusting;
use common::{Log, PATIENCE, Recorder, TestServer, drivers, eventually, matrix};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use zerio::{Client, Counters, DriverKind, SameId, SendError, Server, SessionCounters, WaitStrategy};

/// A handshake's frame for an id of one byte, which is among the bytes sent.
const GREETING: u64 = 5;

/// A socket that counts what is read from it.
struct Counted {
    socket: TcpStream,
    read: u64,
}

impl Read for Counted {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(bytes)?;
        self.read += read as u64;
        Ok(read)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

fn quiet(server: &TestServer, what: &str, is_so: impl Fn(&Counters) -> bool) {
    eventually(what, || is_so(&server.counters()));
}

matrix! {
    fn messages_bytes_and_batches_are_counted_at_both_ends(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let client = case.client(&server, "a", Recorder::deaf());
        log.wait_connected("a");
        let peer = client.peer();
        let sizes = [0usize, 1, 100, 5000, 65_536];
        let bytes: u64 = sizes.iter().map(|size| *size as u64 + 4).sum();
        for size in sizes {
            peer.send(&vec![1; size]).unwrap();
        }
        drop(peer.claim(50).unwrap());
        let too_large = peer.send(&vec![1; 65_537]);
        assert!(matches!(too_large, Err(SendError::TooLarge { .. })));
        quiet(&server, "all have come", |counters| counters.sessions.received.messages_received == 5);
        // They may come before whoever has sent them goes on, and counts them.
        eventually("all are counted as sent", || client.counters().sessions.sent.bytes_sent == bytes + GREETING);
        let sent = client.counters().sessions.sent;
        assert_eq!((sent.messages_accepted, sent.bytes_sent), (5, bytes + GREETING));
        assert!((1..=sent.bytes_sent).contains(&sent.batches_sent), "{sent:?}");
        let received = server.counters().sessions.received;
        assert_eq!((received.messages_received, received.bytes_received), (5, bytes));
        assert!((1..=5).contains(&received.batches_received), "{received:?}");
        // The same by the session's own handle, at both ends.
        assert_eq!(client.session_counters().sent, sent);
        let at_server = server.sender().peer("a").unwrap().counters().unwrap();
        assert_eq!(at_server.received, received);
        assert_eq!((at_server.sent.messages_accepted, at_server.sent.bytes_sent), (0, GREETING));
        assert_eq!(client.counters().sessions.received, SessionCounters::default().received);
    }

    fn under_tls_bytes_sent_are_those_of_records_and_bytes_received_those_of_messages(case) {
        let (log, name) = (Log::new(), ServerName::try_from("127.0.0.1").unwrap());
        let echo = Recorder::new(&log).on_message(|peer, message| peer.send(message).unwrap());
        let server = case.tls_server(case.config(), echo, shared().1.server());
        let socket = TcpStream::connect(server.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut socket = Counted { socket, read: 0 };
        let mut tls = ClientConnection::new(trusting(), name).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        let messages = [&b"a"[..], b"one", b"", &[7; 40_000]];
        for message in messages {
            let mut heard = vec![0; 4 + message.len()];
            stream.write_all(&frame(message)).and_then(|()| stream.read_exact(&mut heard)).unwrap();
            assert!(heard == frame(message));
        }
        // The server's handshake and tickets, the greeting, and the answers: all that the kernel was given.
        let read = socket.read;
        eventually("all is counted", || server.counters().sessions.sent.bytes_sent == read);
        let frames: u64 = messages[1..].iter().map(|message| message.len() as u64 + 4).sum();
        let counted = server.counters().sessions;
        assert!(read > frames + GREETING + 5 * 22 + 500, "{read} bytes: records and a certificate are among them");
        assert_eq!((counted.received.messages_received, counted.received.bytes_received), (3, frames));
        assert_eq!(counted.sent.messages_accepted, 3);
    }

    fn a_session_counts_from_zero_and_the_server_over_all(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        for round in 1..=3u64 {
            let mut raw = Raw::connect(server.address(), "a");
            (0..10).for_each(|_| raw.send(b"12345678"));
            quiet(&server, "all have come", |counters| {
                counters.sessions.received.messages_received == 10 * round
            });
            let session = server.sender().peer("a").unwrap().counters().unwrap();
            assert_eq!((session.received.messages_received, session.received.bytes_received), (10, 120));
            assert_eq!(session.sent.bytes_sent, GREETING);
            drop(raw);
            quiet(&server, "it has left", |counters| counters.engine.disconnected == round);
        }
        let all = server.counters().sessions;
        assert_eq!((all.received.bytes_received, all.sent.bytes_sent), (360, 3 * GREETING));
    }

    fn a_departed_peers_handle_has_its_own_counters_or_none(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let mut raw = Raw::connect(server.address(), "a");
        raw.send(b"12345678");
        quiet(&server, "it has come", |counters| counters.sessions.received.messages_received == 1);
        let a = server.sender().peer("a").unwrap();
        drop(raw);
        quiet(&server, "it has left", |counters| counters.engine.disconnected == 1);
        let last = a.counters().expect("nobody has its place yet");
        assert_eq!((last.received.messages_received, last.received.bytes_received), (1, 12));
        let mut raw = Raw::connect(server.address(), "b");
        (0..3).for_each(|_| raw.send(b"1"));
        quiet(&server, "they have come", |counters| counters.sessions.received.messages_received == 4);
        assert_eq!(a.counters(), None, "what another session has done is not its");
        let b = server.sender().peer("b").unwrap().counters().unwrap();
        assert_eq!(b.received.messages_received, 3);
    }

    fn comings_and_goings_are_counted_by_how_they_went(case) {
        let log = Log::new();
        let server = case.server(case.config(), Recorder::new(&log));
        let engine = |what: &str, is_so: &dyn Fn(&zerio::EngineTotals) -> bool| {
            quiet(&server, what, |counters| is_so(&counters.engine));
        };
        let mut a = Raw::connect(server.address(), "a");
        let b = Raw::connect(server.address(), "b");
        engine("two came", &|engine| (engine.connected, engine.disconnected) == (2, 0));
        drop(b);
        engine("one left", &|engine| (engine.connected, engine.disconnected) == (2, 1));
        let mut taken = Raw(std::net::TcpStream::connect(server.address()).unwrap());
        taken.send(b"a");
        assert_eq!(taken.receive().unwrap()[..2], [0, 1]);
        engine("one was refused", &|engine| engine.refused == 1);
        drop(std::net::TcpStream::connect(server.address()).unwrap());
        engine("one failed by itself", &|engine| engine.failed_handshakes == 1);
        let mut too_long = Raw(std::net::TcpStream::connect(server.address()).unwrap());
        too_long.0.write_all(&2000u32.to_le_bytes()).unwrap();
        assert_eq!(too_long.receive().unwrap()[..2], [0, 6]);
        engine("a bad first frame, which is refused", &|engine| (engine.bad_frames, engine.refused) == (1, 2));
        a.0.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(a.receive(), None);
        drop(a);
        engine("a bad frame, which ends its session", &|engine| {
            (engine.bad_frames, engine.disconnected) == (2, 2)
        });
        let engine = server.counters().engine;
        assert_eq!((engine.connected, engine.refused, engine.failed_handshakes), (2, 2, 1));
        assert_eq!((engine.accept_errors, engine.messages_undelivered, engine.bytes_undelivered), (0, 0, 0));
    }

    fn full_rings_are_counted_one_by_one(case) {
        let log = Log::new();
        let server = case.server(case.tight(), Recorder::new(&log));
        let raw = Raw::connect_small(server.address(), "a");
        let peer = server.sender().peer("a").unwrap();
        assert_eq!(peer.counters().unwrap().sent.full_rings, 0);
        let mut accepted = 0;
        while peer.send_timeout(&[1; 1000], Duration::from_secs(1)).is_ok() {
            accepted += 1;
        }
        let full = peer.counters().unwrap().sent;
        assert!(full.full_rings > 0, "{full:?}");
        assert_eq!(full.messages_accepted, accepted);
        for more in 1..=5 {
            assert_eq!(peer.try_send(&[1; 1000]), Err(SendError::Full));
            assert_eq!(peer.counters().unwrap().sent.full_rings, full.full_rings + more);
        }
        assert_eq!(server.counters().sessions.sent.full_rings, full.full_rings + 5);
        drop(raw);
        log.wait_disconnected("a");
        let undelivered = server.counters().engine;
        let left = accepted * frame(&[1; 1000]).len() as u64 + GREETING - full.bytes_sent;
        assert_eq!(undelivered.bytes_undelivered, left);
        assert!(undelivered.messages_undelivered >= left / 1004, "{undelivered:?}");
    }

    fn a_send_of_which_the_kernel_takes_a_part_is_a_short_one(case) {
        let mut config = case.config();
        config.socket_send_buffer = Some(4096);
        let server = case.server(config, Recorder::deaf());
        let mut raw = Raw::connect_small(server.address(), "a");
        let peer = server.sender().peer("a").unwrap();
        peer.send(b"fits").unwrap();
        quiet(&server, "it is taken", |counters| counters.sessions.sent.bytes_sent == GREETING + 8);
        assert_eq!(peer.counters().unwrap().sent.short_sends, 0);
        peer.send(&[1; 65_536]).unwrap();
        let whole = case.takes_sends_whole();
        quiet(&server, "some of it is taken", |counters| whole || counters.sessions.sent.short_sends > 0);
        assert_eq!(raw.receive().unwrap(), b"fits");
        assert_eq!(raw.receive().unwrap(), [1; 65_536]);
        quiet(&server, "all of it is counted", |counters| {
            counters.sessions.sent.bytes_sent == GREETING + 8 + 65_540
        });
        let sent = peer.counters().unwrap().sent;
        assert!(whole || sent.short_sends < sent.batches_sent, "the last one brought all that was left: {sent:?}");
    }

    fn turns_and_the_longest_of_them_are_counted(case) {
        let pause = Duration::from_millis(30);
        let log = Log::new();
        let server = case.server(
            case.config(),
            Recorder::new(&log).on_message(move |_, _| std::thread::sleep(pause)),
        );
        let mut raw = Raw::connect(server.address(), "a");
        let before = server.counters().engine;
        assert!(before.turns > 0);
        raw.send(b"slowly");
        quiet(&server, "it has been handled", |counters| {
            counters.engine.longest_turn_ns >= pause.as_nanos() as u64
        });
        eventually("it turns on", || {
            let _ = server.sender().try_send("a", b"x");
            server.counters().engine.turns > before.turns + 1
        });
    }
}

drivers! {
    fn who_parks_is_sent_for_and_woken_and_who_spins_is_not(case) {
        let log = Log::new();
        let server = Server::bind("127.0.0.1:0").unwrap().config(case.config()).handler(Recorder::new(&log));
        let server = server.start().unwrap();
        let client = |id: &str, wait| {
            let mut config = case.config();
            config.wait = wait;
            Client::connect(server.local_addr(), id).unwrap().config(config).start().unwrap()
        };
        let parked = client("parked", WaitStrategy::Park);
        eventually("it parks", || parked.counters().engine.parks > 0);
        // Now and then it is awake by chance: then it sends itself. With Registered I/O it always does, as only
        // its own thread may.
        let alone = case.driver == DriverKind::RioModel;
        eventually("a sender has sent for it", || {
            parked.send(b"x").unwrap();
            parked.counters().sessions.sent.direct_sends > 0 || alone
        });
        eventually("a handle has woken it", || {
            parked.resume().unwrap();
            parked.counters().engine.wake_ups > 0
        });
        let sent = parked.counters().sessions.sent;
        assert!(sent.direct_sends <= sent.batches_sent, "{sent:?}");
        // The session's own handle tells the same, as does the server's on a session whose engine sleeps.
        assert_eq!(parked.peer().counters().unwrap().sent.direct_sends, sent.direct_sends);
        let peer = server.peer("parked").unwrap();
        eventually("a sender has sent for the server's engine", || {
            peer.send(b"x").unwrap();
            peer.counters().unwrap().sent.direct_sends > 0 || alone
        });
        let spinning = client("spinning", WaitStrategy::BusySpin);
        for _ in 0..100 {
            spinning.send(b"x").unwrap();
            spinning.resume().unwrap();
        }
        log.wait_messages("spinning", 100);
        let counters = spinning.counters();
        assert_eq!(counters.sessions.sent.direct_sends, 0);
        assert_eq!((counters.engine.wake_ups, counters.engine.parks), (0, 0));
    }

    fn every_wait_strategy_exchanges_messages(case) {
        let strategies = [
            WaitStrategy::BusySpin,
            WaitStrategy::SpinThenPark(Duration::from_micros(20)),
            WaitStrategy::SpinThenPark(Duration::ZERO),
            WaitStrategy::Yield,
            WaitStrategy::Sleep(Duration::from_micros(100)),
            WaitStrategy::Park,
        ];
        for wait in strategies {
            let mut config = case.config();
            config.wait = wait;
            let log = Log::new();
            let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone());
            let server = server.handler(Recorder::echo()).start().unwrap();
            let client = Client::connect(server.local_addr(), "a").unwrap().config(config);
            let client = client.handler(Recorder::new(&log)).start().unwrap();
            for number in 0..200usize {
                client.send(&number.to_le_bytes()).unwrap();
                // Each third meets an engine that has had time to sleep.
                if number % 3 == 0 {
                    log.wait_messages("a", number + 1);
                }
            }
            log.wait_messages("a", 200);
            assert_eq!(client.stop().delivered, 200, "{wait}");
            assert_eq!(server.stop().delivered, 200, "{wait}");
        }
    }

    fn the_engines_of_a_server_count_for_themselves(case) {
        let log = Log::new();
        let mut config = case.config();
        (config.engines, config.same_id) = (2, SameId::RefuseNew);
        let server = Server::bind("127.0.0.1:0").unwrap().config(config);
        let server = server.start_each(|_| Recorder::new(&log)).unwrap();
        let mut raws: Vec<Raw> = ["a", "b"].map(|id| Raw::connect(server.local_addr(), id)).into();
        (0..10).for_each(|_| raws[0].send(b"12345678"));
        (0..20).for_each(|_| raws[1].send(b"1234"));
        let received = |counters: &Counters| counters.sessions.received.messages_received;
        eventually("all have come", || received(&server.counters()) == 30);
        let mut each = server.engine_counters();
        each.sort_by_key(received);
        assert_eq!(each.iter().map(received).collect::<Vec<_>>(), [10, 20]);
        assert_eq!(each[0].sessions.received.bytes_received, 120);
        assert_eq!(each[1].sessions.received.bytes_received, 160);
        assert!(each.iter().all(|engine| engine.engine.connected == 1 && engine.engine.turns > 0));
        assert_eq!(server.counters().engine.connected, 2);
    }
}

#[test]
fn every_counter_has_a_name_and_a_meaning() {
    let counters = Counters::default();
    let names: Vec<&str> = counters.table().map(|(name, ..)| name).collect();
    let all = [
        "messages_accepted",
        "bytes_sent",
        "batches_sent",
        "short_sends",
        "direct_sends",
        "full_rings",
        "messages_received",
        "bytes_received",
        "batches_received",
        "turns",
        "longest_turn_ns",
        "parks",
        "wake_ups",
        "connected",
        "disconnected",
        "refused",
        "refused_by_admission",
        "refused_per_address",
        "refused_per_second",
        "refused_silent",
        "failed_handshakes",
        "bad_frames",
        "messages_undelivered",
        "bytes_undelivered",
        "accept_errors",
    ];
    assert_eq!(names, all);
    assert!(counters.table().all(|(_, value, meaning)| value == 0 && meaning.ends_with('.')));
    assert_eq!(counters.to_string().lines().count(), names.len());
}
