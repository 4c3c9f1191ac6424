//! Bursts that begin and end as their engine falls asleep, wakes up and loses interest: whatever was sent
//! arrives, though nothing is sent after it.
#![forbid(unsafe_code)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Recorder, drivers, eventually};
use zerio::{Client, Config, DriverKind, Server, WaitStrategy};

const BURSTS: u64 = 400;

/// The strategies by which an engine comes to sleep soon, at once and never.
const STRATEGIES: [WaitStrategy; 4] = [
    WaitStrategy::SpinThenPark(Duration::from_micros(1)),
    WaitStrategy::Park,
    WaitStrategy::Yield,
    WaitStrategy::Sleep(Duration::from_micros(50)),
];

fn config(driver: DriverKind, wait: WaitStrategy) -> Config {
    let mut config = Config::default();
    (config.driver, config.wait) = (driver, wait);
    config
}

/// How long the bursts are: around what makes a stream, and far more.
fn burst(number: u64) -> u64 {
    [1, 15, 16, 17, 40, 300][(number % 6) as usize]
}

fn bursts_of_a_client(driver: DriverKind, wait: WaitStrategy) {
    let heard = Arc::new(AtomicU64::new(0));
    let count = heard.clone();
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .config(config(driver, wait))
        .on_message(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .start()
        .unwrap();
    let client =
        Client::connect(server.local_addr(), "a").unwrap().config(config(driver, wait)).start().unwrap();
    let mut sent = 0;
    for number in 0..BURSTS {
        (0..burst(number)).for_each(|_| client.send(b"one of a burst").unwrap());
        sent += burst(number);
        // Nothing follows that could bring to light what was overlooked.
        eventually("the burst is there", || heard.load(Ordering::Relaxed) == sent);
    }
    assert!(client.stop().undelivered.is_empty());
    server.stop();
}

drivers! {
    fn bursts_arrive_whole_however_their_engine_waits(case) {
        STRATEGIES.into_iter().for_each(|wait| bursts_of_a_client(case.driver, wait));
    }

    fn bursts_to_more_clients_than_are_watched_arrive_whole(case) {
        const CLIENTS: usize = 12;
        let builder = Server::bind("127.0.0.1:0").unwrap().config(config(case.driver, STRATEGIES[0]));
        let server = builder.handler(Recorder::deaf()).start().unwrap();
        let heard = Arc::new(AtomicU64::new(0));
        let connect = |number: usize| {
            let count = heard.clone();
            let config = config(case.driver, WaitStrategy::Park);
            let client = Client::connect(server.local_addr(), &number.to_string()).unwrap().config(config);
            client.on_message(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        }).start().unwrap()
        };
        let clients: Vec<Client> = (0..CLIENTS).map(connect).collect();
        eventually("all are there", || server.peers().len() == CLIENTS);
        let peers: Vec<_> = (0..CLIENTS).map(|number| server.peer(&number.to_string()).unwrap()).collect();
        let mut sent = 0;
        for number in 0..BURSTS / 4 {
            std::thread::scope(|scope| {
                for half in peers.chunks(CLIENTS / 2) {
                    scope.spawn(move || {
                        for _ in 0..burst(number) {
                            half.iter().for_each(|peer| peer.send(b"one of a burst").unwrap());
                        }
                    });
                }
            });
            sent += burst(number) * CLIENTS as u64;
            eventually("the burst is there", || heard.load(Ordering::Relaxed) == sent);
        }
        clients.into_iter().for_each(|client| drop(client.stop()));
        server.stop();
    }
}
