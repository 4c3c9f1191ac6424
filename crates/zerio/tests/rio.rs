//! The rio driver as a user has it: chosen by name or refused, over every kind of kernel that the model of
//! Registered I/O plays, and with a kernel that has lost its memory.

mod common;

use std::io::ErrorKind;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::certs::shared;
use common::{Event, Log, PATIENCE, Recorder, texts};
use zerio::rio_model::{cut_next_send_of_this_thread, withhold_acknowledgements_of_this_thread};
use zerio::{
    Client, Config, DriverKind, EngineFailure, Error, PolledClient, PolledServer, Reason, Server, Undelivered,
};

fn config(driver: DriverKind) -> Config {
    let mut config = Config::default();
    config.driver = driver;
    config
}

#[cfg(not(windows))]
#[test]
fn rio_is_refused_by_name_where_there_is_no_windows_and_auto_takes_no_model() {
    let server = |driver| Server::bind("127.0.0.1:0").unwrap().config(config(driver)).start();
    let refused = server(DriverKind::Rio).unwrap_err();
    assert!(matches!(refused, Error::Driver { driver: "rio", .. }), "{refused:?}");
    assert!(refused.to_string().contains("Windows"), "{refused}");
    let auto = server(DriverKind::Auto).unwrap();
    assert!(["uring", "poll"].contains(&auto.driver().name));
    assert_eq!(server(DriverKind::RioModel).unwrap().driver().to_string(), "rio-model");
}

#[cfg(windows)]
#[test]
fn auto_takes_rio_or_says_why_it_is_not_there() {
    let server = |driver| Server::bind("127.0.0.1:0").unwrap().config(config(driver)).start();
    let auto = server(DriverKind::Auto).unwrap();
    match server(DriverKind::Rio) {
        Ok(by_name) => assert_eq!((by_name.driver().name, auto.driver().name), ("rio", "rio")),
        Err(Error::Driver { driver: "rio", why }) => {
            assert!(!common::is_here(DriverKind::Rio), "{why}");
            assert_eq!(auto.driver().name, "poll");
            let fallback = auto.driver().fallback.as_ref().unwrap();
            assert!(fallback.contains(&why), "{fallback} / {why}");
        }
        Err(error) => panic!("{error}"),
    }
}

/// Models count their seeds up, so these are as many kinds of kernel.
#[test]
fn messages_come_whole_once_and_in_order_whatever_the_kernel_takes_its_time_with() {
    const ROUNDS: u32 = 30;
    const MESSAGES: u32 = 200;
    for round in 0..ROUNDS {
        let mut tight = config(DriverKind::RioModel);
        (tight.message_max, tight.send_ring, tight.receive_buffer) = (1024, 8192, 4096);
        (tight.socket_send_buffer, tight.socket_receive_buffer) = (Some(4096), Some(4096));
        (tight.handshake_timeout, tight.drain_timeout, tight.send_timeout) = (PATIENCE, PATIENCE, PATIENCE);
        let (echoes, heard) = channel();
        let server = Server::bind("127.0.0.1:0").unwrap().config(tight.clone());
        let server = server.on_message(|peer, message| {
            // The ring has room for what the client has in flight, and for what it has not acknowledged.
            peer.send(message).unwrap();
        });
        let server = server.start().unwrap();
        let client = Client::connect(server.local_addr(), "a").unwrap().config(tight);
        let client = client.on_message(move |_, message| echoes.send(message.to_vec()).unwrap());
        let client = client.start().unwrap();
        let mut due = 0;
        let hear = |due: &mut u32| {
            let message = heard.recv_timeout(PATIENCE).unwrap();
            assert_eq!(message, pattern(round, *due), "round {round}, message {due}");
            *due += 1;
        };
        for number in 0..MESSAGES {
            client.send(&pattern(round, number)).unwrap();
            if number - due == 2 {
                hear(&mut due);
            }
        }
        while due < MESSAGES {
            hear(&mut due);
        }
        assert_eq!(client.stop().undelivered.messages, 0);
        assert_eq!(server.stop().failure, None);
    }
    assert_eq!(zerio::rio_model::violations(), Vec::<String>::new());
}

fn pattern(round: u32, number: u32) -> Vec<u8> {
    let len = (number * 37 + round * 101) % 1000;
    (0..len).map(|at| (at + number + round) as u8).collect()
}

#[test]
fn a_corrupt_completion_queue_ends_the_engine_and_says_so() {
    let (ends, ended) = channel();
    let server = Server::bind("127.0.0.1:0").unwrap().config(config(DriverKind::RioModel));
    let server = server
        .on_message(|_, _| zerio::rio_model::corrupt_queues_of_this_thread())
        .on_disconnected(move |_, why| ends.send(why.reason).unwrap())
        .start()
        .unwrap();
    let client = Client::connect(server.local_addr(), "a").unwrap().start().unwrap();
    client.send(b"x").unwrap();
    assert!(matches!(ended.recv_timeout(PATIENCE).unwrap(), Reason::DriverFailed(_)));
    let begun = Instant::now();
    while server.is_running() {
        assert!(begun.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    let failure = server.stop().failure.unwrap();
    assert_eq!(failure, EngineFailure::QueueCorrupt);
    assert!(failure.to_string().contains("completion queue is corrupt"), "{failure}");
}

#[test]
fn a_polled_engine_says_so_too() {
    std::thread::spawn(|| {
        let server = Server::bind("127.0.0.1:0").unwrap().config(config(DriverKind::RioModel));
        let mut server = server.start_polled().unwrap();
        server.poll().unwrap();
        zerio::rio_model::corrupt_queues_of_this_thread();
        for _ in 0..2 {
            let refused = server.poll().unwrap_err();
            assert!(matches!(refused, Error::Engine(EngineFailure::QueueCorrupt)), "{refused:?}");
        }
        assert_eq!(server.stop().failure, Some(EngineFailure::QueueCorrupt));
    })
    .join()
    .unwrap();
}

/// So many sends a session has in flight.
const SENDS: usize = 8;

/// A polled server over the model, and a client on the same thread whose driver is another.
struct Pair {
    server: PolledServer<Recorder>,
    client: PolledClient<Recorder>,
    at_server: Log,
    at_client: Log,
}

impl Pair {
    /// All that the server has said so far is acknowledged, and has completed.
    fn new(tls: bool) -> Pair {
        let (at_server, at_client) = (Log::new(), Log::new());
        let mut short = config(DriverKind::RioModel);
        short.drain_timeout = Duration::from_millis(50);
        let server = Server::bind("127.0.0.1:0").unwrap().config(short).handler(Recorder::new(&at_server));
        let server = if tls { server.tls(shared().1.server()) } else { server };
        let server = server.start_polled().unwrap();
        let client = Client::connect(server.local_addr(), "a").unwrap().config(config(DriverKind::Poll));
        let client = client.handler(Recorder::new(&at_client));
        let client = if tls { client.tls(shared().0.trusting()) } else { client };
        let client = client.start_polled().unwrap();
        let mut pair = Pair { server, client, at_server, at_client };
        pair.until(|pair| pair.client.is_connected());
        pair.client.try_send(b"and that is an acknowledgement").unwrap();
        pair.until(|pair| texts(&pair.at_server.events()).len() == 1);
        (0..100).for_each(|_| pair.poll());
        pair
    }

    fn poll(&mut self) {
        self.server.poll().unwrap();
        self.client.poll().unwrap();
    }

    fn until(&mut self, is_so: impl Fn(&Pair) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            self.poll();
            assert!(begun.elapsed() < PATIENCE);
        }
    }

    fn send(&mut self, number: usize) {
        self.server.try_send("a", number.to_string().as_bytes()).unwrap();
    }

    fn heard(&self) -> Vec<String> {
        texts(&self.at_client.events())
    }
}

fn numbers(to: usize) -> Vec<String> {
    (0..to).map(|number| number.to_string()).collect()
}

#[test]
fn a_message_waited_for_the_acknowledgement_of_the_one_before() {
    for tls in [false, true] {
        let mut pair = Pair::new(tls);
        let batches = pair.server.counters().sessions.sent.batches_sent;
        withhold_acknowledgements_of_this_thread(true);
        for number in 0..SENDS {
            pair.send(number);
            pair.until(|pair| pair.heard().len() > number);
        }
        // No more than so many: what comes then goes together when there is one less.
        for number in SENDS..SENDS + 4 {
            pair.send(number);
            (0..20).for_each(|_| pair.poll());
        }
        assert_eq!(pair.heard(), numbers(SENDS));
        assert_eq!(pair.server.counters().sessions.sent.batches_sent, batches);
        withhold_acknowledgements_of_this_thread(false);
        pair.until(|pair| pair.heard().len() == SENDS + 4);
        assert_eq!(pair.heard(), numbers(SENDS + 4));
        pair.client.try_send(b"acknowledged").unwrap();
        pair.until(|pair| pair.server.counters().sessions.sent.batches_sent == batches + SENDS as u64 + 1);
        assert_eq!(pair.server.stop().undelivered, Undelivered::default());
    }
}

#[test]
fn a_short_send_with_others_behind_it_ends_the_session_and_they_count_as_left() {
    for (tls, bytes) in [(false, 514), (true, 1014)] {
        let mut pair = Pair::new(tls);
        withhold_acknowledgements_of_this_thread(true);
        // The peer waits for the rest of this one, and takes what is behind it for that.
        cut_next_send_of_this_thread(500);
        for message in [&[b'.'; 1000][..], b"1", b"2"] {
            pair.server.try_send("a", message).unwrap();
            (0..20).for_each(|_| pair.poll());
        }
        withhold_acknowledgements_of_this_thread(false);
        let ended = |log: &Log| log.events().iter().any(|event| matches!(event, Event::Disconnected { .. }));
        pair.until(|pair| ended(&pair.at_server));
        let why = pair.at_server.wait_disconnected("a");
        assert_eq!(why.reason, Reason::Connection(ErrorKind::WriteZero));
        assert_eq!((why.undelivered.messages, why.undelivered.bytes), (3, bytes));
    }
}

#[test]
fn what_nobody_has_acknowledged_when_a_session_ends_is_counted() {
    for tls in [false, true] {
        for (sends, more) in [(3, 0), (SENDS, 2)] {
            let mut pair = Pair::new(tls);
            withhold_acknowledgements_of_this_thread(true);
            for number in 0..sends + more {
                pair.send(number);
                (0..20).for_each(|_| pair.poll());
            }
            let messages = (sends + more) as u64;
            let report = pair.server.stop();
            withhold_acknowledgements_of_this_thread(false);
            let bytes: usize = numbers(sends + more).iter().map(|text| 4 + text.len()).sum();
            assert_eq!((report.undelivered.messages, report.undelivered.bytes), (messages, bytes as u64));
        }
    }
    assert_eq!(zerio::rio_model::violations(), Vec::<String>::new());
}
