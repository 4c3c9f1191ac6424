//! The rio driver as a user has it: chosen by name or refused, over every kind of kernel that the model of
//! Registered I/O plays, and with a kernel that has lost its memory.

mod common;

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::PATIENCE;
use zerio::{Client, Config, DriverKind, EngineFailure, Error, Reason, Server};

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
        (tight.message_max, tight.send_ring, tight.receive_buffer) = (1024, 4096, 4096);
        (tight.socket_send_buffer, tight.socket_receive_buffer) = (Some(4096), Some(4096));
        (tight.handshake_timeout, tight.drain_timeout, tight.send_timeout) = (PATIENCE, PATIENCE, PATIENCE);
        let (echoes, heard) = channel();
        let server = Server::bind("127.0.0.1:0").unwrap().config(tight.clone());
        let server = server.on_message(|peer, message| {
            // The ring has room for what the client has in flight.
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
