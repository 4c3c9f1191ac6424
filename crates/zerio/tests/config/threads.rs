//! What an engine's thread does, and by which driver: `wait`, `driver`. Where the threads run is for the
//! modules of the systems.
#![forbid(unsafe_code)]

#[cfg(any(target_os = "linux", windows))]
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use zerio::{DriverKind, Error, Server, WaitStrategy};

use crate::echo;
use crate::hostile::{config, drivers, until};

#[test]
fn wait_says_whether_an_idle_engine_turns_or_parks() {
    for driver in drivers() {
        let server = |wait| echo(config(|c| (c.wait, c.driver) = (wait, driver))).0;
        for wait in [WaitStrategy::BusySpin, WaitStrategy::Yield] {
            let server = server(wait);
            let turns = || server.counters().engine.turns;
            let begun = turns();
            until("turns without end", || (turns() > begun + 1000).then_some(()));
            assert_eq!(server.counters().engine.parks, 0, "{wait}");
        }
        for wait in [WaitStrategy::Park, WaitStrategy::SpinThenPark(Duration::from_millis(50))] {
            let server = server(wait);
            until("a parked engine", || (server.counters().engine.parks > 0).then_some(()));
            let before = server.counters().engine;
            std::thread::sleep(Duration::from_millis(300));
            let after = server.counters().engine;
            assert!(after.turns - before.turns < 10, "{wait}: it sleeps: {before:?} {after:?}");
        }
        let begun = Instant::now();
        let server = server(WaitStrategy::Sleep(Duration::from_millis(100)));
        std::thread::sleep(Duration::from_millis(300));
        let after = server.counters().engine;
        let most = begun.elapsed().as_millis() / 100 + 1;
        assert_eq!(after.parks, 0, "it sleeps by itself");
        assert!(u128::from(after.turns) <= most, "at the most {most}: {after:?}");
    }
}

#[test]
fn a_longer_spin_turns_longer_before_it_parks() {
    // At the least a turn takes 10 ns or so, and nobody is so slow that a spin of 10 s has no 1,000 turns.
    let (parking, _) = echo(config(|c| c.wait = WaitStrategy::Park));
    // It parks where somebody else keeps its core, and then another may have more luck.
    let spins = || {
        let (spinning, _) = echo(config(|c| c.wait = WaitStrategy::SpinThenPark(Duration::from_secs(3600))));
        let counted = || spinning.counters().engine;
        until("a spin, or its end", || (counted().turns > 1000 || counted().parks > 0).then_some(()));
        counted().parks == 0
    };
    until("a spin that nobody ends", || spins().then_some(()));
    assert!(parking.counters().engine.turns < 1000);
}

#[cfg(any(target_os = "linux", windows))]
/// A server that runs `look` on its engine's thread when a peer comes, and tells what it gave.
pub(crate) fn looking<T: Send + 'static>(
    config: zerio::Config,
    look: impl Fn() -> T + Send + 'static,
) -> (Server, Receiver<T>) {
    let (sender, seen) = channel();
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .config(config)
        .on_connected(move |_| sender.send(look()).unwrap())
        .start()
        .unwrap();
    (server, seen)
}

#[cfg(target_os = "linux")]
#[test]
fn driver_is_the_one_by_name_or_the_best_with_a_reason() {
    let (server, _) = echo(config(|c| c.driver = DriverKind::Poll));
    assert_eq!((server.driver().name, &server.driver().fallback), ("poll", &None));

    // With more sessions the best is epoll.
    let few = |c: &mut zerio::Config| (c.driver, c.sessions_max) = (DriverKind::Auto, 4);
    let (server, _) = echo(config(few));
    let uring = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.driver = DriverKind::Uring)).start();
    match uring {
        Ok(by_name) => {
            assert_eq!((by_name.driver().name, &by_name.driver().fallback), ("uring", &None));
            assert_eq!((server.driver().name, &server.driver().fallback), ("uring", &None));
        }
        // Refused by name, and the reason told where it was not asked for by name.
        Err(Error::Driver { driver, why }) => {
            assert_eq!((driver, server.driver().name), ("uring", "poll"));
            let fallback = server.driver().fallback.as_ref().unwrap();
            assert!(fallback.contains(&why), "{fallback} / {why}");
        }
        Err(error) => panic!("{error}"),
    }
}

#[cfg(not(target_os = "linux"))]
#[test]
fn what_only_linux_has_is_refused_by_its_setting_elsewhere() {
    let refused = |change: fn(&mut zerio::Config)| match Server::bind("127.0.0.1:0")
        .unwrap()
        .config(config(change))
        .start()
    {
        Err(Error::Config(error)) => error.setting,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(|c| c.busy_poll = Some(Duration::from_micros(50))), "busy_poll");
    assert_eq!(refused(|c| c.huge_pages = true), "huge_pages");
    #[cfg(not(windows))]
    assert_eq!(refused(|c| c.priority = Some(1)), "priority");
}

#[cfg(not(target_os = "linux"))]
#[test]
fn a_driver_by_name_is_refused_where_its_system_is_another() {
    let uring = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.driver = DriverKind::Uring)).start();
    match uring {
        Err(Error::Driver { driver, why }) => assert!(driver == "uring" && why.contains("Linux"), "{why}"),
        other => panic!("{other:?}"),
    }
    let (server, _) = echo(config(|c| c.driver = DriverKind::Poll));
    assert_eq!((server.driver().name, &server.driver().fallback), ("poll", &None));
}
