//! What is particular to servers and clients that their user drives, on one thread: nothing happens outside of
//! `poll`, the sole sender needs no lock, a panic comes through `poll`.
#![forbid(unsafe_code)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use common::pattern::{self, Checker};
use common::raw::Raw;
use common::{Drive, Log, PATIENCE, Recorder, run, sole_text, texts};
use zerio::{
    Client, Config, DriverKind, EngineFailure, Error, Handler, PolledClient, PolledServer, Reason,
    RefusalCode, SendError, Server,
};

/// One test over each driver.
fn over_drivers(test: impl Fn(Config)) {
    for driver in [DriverKind::Poll, DriverKind::Uring, DriverKind::Rio, DriverKind::RioModel] {
        run(driver, Drive::Polled, |case| {
            let mut config = case.config();
            // The first of two ends to be dropped waits for the other, which nobody polls any more.
            config.drain_timeout = std::time::Duration::from_millis(50);
            test(config);
        });
    }
}

fn pair(
    config: &Config,
    at_server: Recorder,
    at_client: Recorder,
) -> (PolledServer<Recorder>, PolledClient<Recorder>) {
    let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone()).handler(at_server);
    let mut server = server.start_polled().unwrap();
    let client = Client::connect(server.local_addr(), "a").unwrap().config(config.clone());
    let mut client = client.handler(at_client).start_polled().unwrap();
    assert!(!client.is_connected(), "it has not been polled yet");
    assert_eq!(client.try_send(b"x"), Err(SendError::Closed));
    assert_eq!(client.try_claim(1).map(drop), Err(SendError::Closed));
    assert!(client.peer().is_none());
    poll_until(&mut server, &mut client, |_, client| client.is_connected());
    (server, client)
}

fn poll_until<S: Handler, C: Handler>(
    server: &mut PolledServer<S>,
    client: &mut PolledClient<C>,
    is_so: impl Fn(&PolledServer<S>, &PolledClient<C>) -> bool,
) {
    let begun = Instant::now();
    while !is_so(server, client) {
        server.poll().unwrap();
        client.poll().unwrap();
        assert!(begun.elapsed() < PATIENCE);
    }
}

/// Polls a server until something is so.
fn poll_server<S: Handler>(server: &mut PolledServer<S>, is_so: impl Fn(&PolledServer<S>) -> bool) {
    let begun = Instant::now();
    while !is_so(server) {
        server.poll().unwrap();
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn both_ends_on_one_thread_send_without_a_lock() {
    over_drivers(|config| {
        let (at_server, at_client) = (Log::new(), Log::new());
        let (mut server, mut client) = pair(&config, Recorder::new(&at_server), Recorder::new(&at_client));
        client.try_send(b"try_send").unwrap();
        let mut claim = client.try_claim(9).unwrap();
        claim.copy_from_slice(b"try_claim");
        claim.commit().unwrap();
        drop(client.try_claim(7).unwrap());
        let too_large = SendError::TooLarge { len: config.message_max + 1, max: config.message_max };
        assert_eq!(client.try_send(&vec![0; config.message_max + 1]), Err(too_large));
        server.try_send("a", b"try_send").unwrap();
        let mut claim = server.try_claim("a", 9).unwrap();
        claim.copy_from_slice(b"try_claim");
        claim.commit().unwrap();
        drop(server.try_claim("a", 7).unwrap());
        assert_eq!(server.try_send("nobody", b"x"), Err(SendError::UnknownPeer));
        assert_eq!(server.try_claim("nobody", 1).map(drop), Err(SendError::UnknownPeer));
        assert_eq!(server.connected(), 1);
        poll_until(&mut server, &mut client, |server, client| {
            let received = |counters: zerio::Counters| counters.sessions.received.messages_received;
            received(server.counters()) == 2 && received(client.counters()) == 2
        });
        assert_eq!(texts(&at_server.events()), ["try_send", "try_claim"]);
        assert_eq!(texts(&at_client.events()), ["try_send", "try_claim"]);
    });
}

#[test]
fn peers_are_listed_paused_resumed_and_disconnected_without_a_handle() {
    over_drivers(|config| {
        let (at_server, at_client) = (Log::new(), Log::new());
        let (mut server, mut client) = pair(&config, Recorder::new(&at_server), Recorder::new(&at_client));
        assert_eq!(server.peers(), ["a"]);
        assert_eq!(client.address(), Some(server.local_addr()));
        // Paused, each side's messages stay where they are.
        server.pause("a").unwrap();
        client.pause().unwrap();
        (0..10).for_each(|_| _ = (server.poll().unwrap(), client.poll().unwrap()));
        client.try_send(b"up").unwrap();
        server.try_send("a", b"down").unwrap();
        let sent = |counters: zerio::Counters| counters.sessions.sent.bytes_sent;
        poll_until(&mut server, &mut client, |server, client| {
            (sent(server.counters()), sent(client.counters())) == (5 + 8, 5 + 6)
        });
        (0..100).for_each(|_| _ = (server.poll().unwrap(), client.poll().unwrap()));
        // One receive had been asked for already, and what it brought is kept.
        for counters in [server.counters(), client.counters()] {
            assert_eq!(counters.sessions.received.messages_received, 0, "it is paused");
        }
        server.resume("a").unwrap();
        client.resume().unwrap();
        poll_until(&mut server, &mut client, |server, client| {
            let received = |counters: zerio::Counters| counters.sessions.received.messages_received;
            received(server.counters()) == 1 && received(client.counters()) == 1
        });
        assert_eq!(server.session_counters("a").unwrap().received.messages_received, 1);
        assert_eq!(client.session_counters().received.messages_received, 1);
        for error in [server.disconnect("b"), server.pause("b"), server.resume("b")] {
            assert_eq!(error, Err(SendError::UnknownPeer));
        }
        assert_eq!(server.session_counters("b"), Err(SendError::UnknownPeer));
        server.disconnect("a").unwrap();
        poll_until(&mut server, &mut client, |server, client| {
            let ended = |counters: zerio::Counters| counters.engine.disconnected == 1;
            ended(server.counters()) && ended(client.counters())
        });
        assert!(server.connected() == 0 && !client.is_connected() && server.peers().is_empty());
        assert_eq!(client.pause(), Err(SendError::Closed));
        assert_eq!(at_server.wait_disconnected("a").reason, Reason::Disconnected);
        assert_eq!(at_client.wait_disconnected("a").reason, Reason::PeerClosed);
    });
}

#[test]
fn a_stream_between_two_polled_ends_keeps_its_order_and_its_bytes() {
    over_drivers(|mut config| {
        const COUNT: u64 = 30_000;
        const MAX: usize = 1024;
        (config.message_max, config.send_ring, config.receive_buffer) = (MAX, 4096, 4096);
        let mut checker = Checker::default();
        let recorder = Recorder::deaf().on_message(move |_, message| checker.check(message, MAX));
        let (mut server, mut client) = pair(&config, recorder, Recorder::deaf());
        let begun = Instant::now();
        let mut full = 0;
        for number in 0..COUNT {
            let message = pattern::message(1, number, pattern::len(1, number, MAX));
            while let Err(error) = client.try_send(&message) {
                assert_eq!(error, SendError::Full);
                full += 1;
                client.poll().unwrap();
                server.poll().unwrap();
                assert!(begun.elapsed() < PATIENCE);
            }
        }
        assert!(full > 0);
        assert_eq!(client.counters().sessions.sent.full_rings, full);
        poll_until(&mut server, &mut client, |server, _| {
            server.counters().sessions.received.messages_received == COUNT
        });
        assert_eq!(client.counters().sessions.sent.messages_accepted, COUNT);
        assert_eq!(client.counters().sessions.sent.direct_sends, 0);
        assert_eq!(client.counters().engine.parks, 0, "a polled engine never sleeps");
    });
}

#[test]
fn sole_and_shared_sends_follow_one_another_in_order() {
    over_drivers(|config| {
        let log = Log::new();
        let (mut server, mut client) = pair(&config, Recorder::new(&log), Recorder::deaf());
        client.try_send(b"1").unwrap();
        let peer = client.peer().unwrap();
        peer.try_send(b"2").unwrap();
        client.try_send(b"3").unwrap();
        std::thread::scope(|scope| scope.spawn(|| peer.send(b"4").unwrap()).join().unwrap());
        client.try_send(b"5").unwrap();
        let claim = peer.claim(1).unwrap();
        assert_eq!(client.try_send(b"6"), Err(SendError::Full), "a handle holds a claim");
        drop(claim);
        client.try_send(b"6").unwrap();
        poll_until(&mut server, &mut client, |_, _| texts(&log.events()).len() == 6);
        assert_eq!(texts(&log.events()), ["1", "2", "3", "4", "5", "6"]);
    });
}

#[test]
fn nothing_happens_outside_of_poll() {
    over_drivers(|config| {
        let log = Log::new();
        let server = Server::bind("127.0.0.1:0").unwrap().config(config).handler(Recorder::new(&log));
        let mut server = server.start_polled().unwrap();
        let address = server.local_addr();
        let raw = std::thread::spawn(move || {
            let mut raw = Raw::connect(address, "a");
            raw.send(b"hello");
            raw.receive()
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert_eq!(log.events(), []);
        poll_server(&mut server, |_| !texts(&log.events()).is_empty());
        assert_eq!(sole_text(&log.events()), "hello");
        server.try_send("a", b"answer").unwrap();
        poll_server(&mut server, |server| server.connected() == 0);
        assert_eq!(raw.join().unwrap().unwrap(), b"answer");
    });
}

#[test]
fn a_handler_can_be_reached_between_polls() {
    #[derive(Default)]
    struct Count(u64);
    impl Handler for Count {
        fn on_message(&mut self, _: &mut zerio::Context<'_>, _: &[u8]) {
            self.0 += 1;
        }
    }
    over_drivers(|config| {
        let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone()).handler(Count::default());
        let mut server = server.start_polled().unwrap();
        let client =
            Client::connect(server.local_addr(), "a").unwrap().config(config).handler(Count::default());
        let mut client = client.start_polled().unwrap();
        poll_until(&mut server, &mut client, |_, client| client.is_connected());
        (0..3).for_each(|_| client.try_send(b"x").unwrap());
        let begun = Instant::now();
        while server.handler().0 < 3 {
            server.poll().unwrap();
            client.poll().unwrap();
            assert!(begun.elapsed() < PATIENCE);
        }
        assert_eq!(client.handler().0, 0);
    });
}

#[test]
fn a_panic_comes_through_poll_and_the_next_poll_says_so() {
    over_drivers(|config| {
        let log = Log::new();
        let recorder = Recorder::new(&log).on_message(|_, _| panic!("a test's own panic"));
        let (mut server, mut client) = pair(&config, recorder, Recorder::new(&log));
        let peer = server.sender().peer("a").unwrap();
        client.try_send(b"x").unwrap();
        let begun = Instant::now();
        let panic = loop {
            client.poll().unwrap();
            match catch_unwind(AssertUnwindSafe(|| server.poll())) {
                Ok(polled) => drop(polled.unwrap()),
                Err(panic) => break panic,
            }
            assert!(begun.elapsed() < PATIENCE);
        };
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"a test's own panic"));
        for _ in 0..2 {
            match server.poll() {
                Err(Error::Engine(EngineFailure::HandlerPanicked(_))) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(peer.try_send(b"x"), Err(SendError::Closed));
        assert_eq!(server.try_send("a", b"x"), Err(SendError::Closed));
        let begun = Instant::now();
        while client.is_connected() {
            client.poll().unwrap();
            assert!(begun.elapsed() < PATIENCE);
        }
        assert!(matches!(server.stop().failure, Some(EngineFailure::HandlerPanicked(_))));
    });
}

#[test]
fn a_panicked_engine_can_be_stopped_without_another_poll() {
    over_drivers(|config| {
        let recorder = Recorder::deaf().on_connected(|_| panic!("a test's own panic"));
        let server = Server::bind("127.0.0.1:0").unwrap().config(config).handler(recorder);
        let mut server = server.start_polled().unwrap();
        let mut raw = Raw(std::net::TcpStream::connect(server.local_addr()).unwrap());
        raw.send(b"a");
        let begun = Instant::now();
        while catch_unwind(AssertUnwindSafe(|| server.poll())).is_ok() {
            assert!(begun.elapsed() < PATIENCE);
        }
        let report = server.stop();
        assert!(matches!(report.failure, Some(EngineFailure::HandlerPanicked(_))));
        assert_eq!((report.delivered, report.undelivered.messages), (0, 0), "nobody sent a message");
    });
}

#[test]
fn a_polled_client_hears_why_there_is_no_session() {
    over_drivers(|config| {
        let (mut server, mut client) = pair(&config, Recorder::deaf(), Recorder::deaf());
        let outcome = |server: &mut PolledServer<Recorder>, address| {
            let second = Client::connect(address, "a").unwrap().config(config.clone());
            let mut second = second.start_polled().unwrap();
            let begun = Instant::now();
            loop {
                server.poll().unwrap();
                if let Err(error) = second.poll() {
                    return error;
                }
                assert!(!second.is_connected() && begun.elapsed() < PATIENCE);
            }
        };
        let address = server.local_addr();
        match outcome(&mut server, address) {
            Error::Refused { code, .. } => assert_eq!(code, RefusalCode::AlreadyConnected),
            other => panic!("{other}"),
        }
        // Nobody listens there, and nobody else can.
        let nobody = Server::bind("127.0.0.1:0").unwrap();
        let error = outcome(&mut server, nobody.local_addr());
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        client.try_send(b"still here").unwrap();
        poll_until(&mut server, &mut client, |server, _| {
            server.counters().sessions.received.messages_received == 1
        });
    });
}

#[test]
fn a_polled_client_knows_when_its_server_has_gone() {
    over_drivers(|config| {
        let log = Log::new();
        let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone()).start().unwrap();
        let client = Client::connect(server.local_addr(), "a").unwrap().config(config);
        let mut client = client.handler(Recorder::new(&log)).start_polled().unwrap();
        let begun = Instant::now();
        while !client.is_connected() {
            client.poll().unwrap();
            assert!(begun.elapsed() < PATIENCE);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| server.stop());
            while client.is_connected() {
                client.poll().unwrap();
                assert!(begun.elapsed() < PATIENCE);
            }
        });
        assert_eq!(log.wait_disconnected("a").reason, Reason::PeerClosed);
        assert_eq!(client.try_send(b"x"), Err(SendError::Closed));
        assert_eq!(client.poll().unwrap(), 0, "polling on does no harm");
        assert_eq!(client.stop().delivered, 0);
    });
}
