//! What runs where: `engines`, `wait`, `cores`, `driver`.
#![forbid(unsafe_code)]

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use zerio::{Config, Counters, DriverKind, Error, Server, WaitStrategy};

use crate::echo;
use crate::hostile::{Echo, PATIENCE, RawPeer, config, drivers, until};

/// The names of this process's threads.
fn thread_names() -> Vec<String> {
    let name = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("comm")).ok();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.flatten().filter_map(name).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn engines_is_how_many_threads_there_are_each_with_a_name() {
    // Other tests of this binary have servers with fewer engines.
    let config = config(|c| c.engines = 7);
    let server = Server::bind("127.0.0.1:0").unwrap().config(config);
    let server = server.start_each(|_| Echo::default()).unwrap();
    let names = thread_names();
    for engine in 0..7 {
        assert!(names.contains(&format!("zerio-server-{engine}")), "{names:?}");
    }
    assert!(!names.contains(&"zerio-server-7".into()), "{names:?}");
    assert_eq!(server.engine_counters().len(), 7);
    // Sessions are spread over them.
    let _peers: Vec<_> =
        (0..14).map(|number| RawPeer::welcome(server.local_addr(), &format!("peer {number}"))).collect();
    let has_two = |engine: Counters| engine.engine.connected == 2;
    until("two sessions on each engine", || server.engine_counters().into_iter().all(has_two).then_some(()));
    server.stop();
    assert!(!thread_names().contains(&"zerio-server-6".into()), "they end with the server");
}

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
    let (spinning, _) = echo(config(|c| c.wait = WaitStrategy::SpinThenPark(Duration::from_secs(3600))));
    until("a spin", || (spinning.counters().engine.turns > 1000).then_some(()));
    assert_eq!(spinning.counters().engine.parks, 0);
    assert!(parking.counters().engine.turns < 1000);
}

/// A line of what the system says of the calling thread.
fn status(line: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    value.unwrap().trim().to_owned()
}

/// A server that runs `look` on its engine's thread when a peer comes, and tells what it gave.
fn looking<T: Send + 'static>(
    config: Config,
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

#[test]
fn cores_is_where_the_engines_run() {
    let everywhere = status("Cpus_allowed_list");
    let first: usize = everywhere.split([',', '-']).next().unwrap().parse().unwrap();
    for (cores, allowed) in [(vec![], everywhere.clone()), (vec![first], first.to_string())] {
        let (server, seen) = looking(config(|c| c.cores = cores), || status("Cpus_allowed_list"));
        let _peer = RawPeer::welcome(server.local_addr(), "peer");
        assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), allowed);
    }
    assert_eq!(status("Cpus_allowed_list"), everywhere, "the thread that starts a server stays free");

    let nowhere = Server::bind("127.0.0.1:0").unwrap().config(config(|c| c.cores = vec![100_000])).start();
    let Err(Error::Config(error)) = nowhere else { panic!("{nowhere:?}") };
    assert_eq!(error.setting, "cores");
    assert!(error.to_string().contains("100000"), "{error}");
    assert!(error.instead.contains(&first.to_string()), "it says which cores would do: {error}");
}

#[test]
fn driver_is_the_one_by_name_or_the_best_with_a_reason() {
    let (server, _) = echo(config(|c| c.driver = DriverKind::Poll));
    assert_eq!((server.driver().name, &server.driver().fallback), ("poll", &None));

    let (server, _) = echo(config(|c| c.driver = DriverKind::Auto));
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
