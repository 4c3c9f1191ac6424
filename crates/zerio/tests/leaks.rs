//! A server and a client, started and stopped a thousand times in one process: no thread, no descriptor and no
//! mapping is left. One test alone in its process, so that nothing else starts and ends meanwhile.
//! `unsafe` stands here for the call by which Windows counts them.

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, is_here};
use zerio::{Client, Config, DriverKind, Server};

const ROUNDS: usize = 1000;

fn config(driver: DriverKind) -> Config {
    let mut config = Config::default();
    config.driver = driver;
    (config.message_max, config.send_ring, config.receive_buffer) = (1024, 4096, 4096);
    config.sessions_max = 2;
    (config.handshake_timeout, config.drain_timeout) = (PATIENCE, PATIENCE);
    config
}

/// Starts, exchanges a message, and stops: both on threads, or one of them polled.
fn round(driver: DriverKind, round: usize) {
    let server = Server::bind("127.0.0.1:0").unwrap().config(config(driver));
    let address = server.local_addr();
    let server = server.on_message(|peer, message| {
        // A server that is being dropped accepts no more.
        let _ = peer.send(message);
    });
    let client = Client::connect(address, "a").unwrap().config(config(driver));
    match round % 4 {
        0 => {
            let server = server.start().unwrap();
            let client = client.start().unwrap();
            client.send(b"x").unwrap();
            assert_eq!(client.stop().delivered, 1);
            server.stop();
        }
        1 => {
            let server = server.start().unwrap();
            let client = client.start().unwrap();
            client.send(b"x").unwrap();
            // Dropped, not stopped, and the server first.
            drop(server);
            drop(client);
        }
        2 => {
            let server = server.start().unwrap();
            let mut client = client.start_polled().unwrap();
            let begun = Instant::now();
            while client.counters().sessions.received.messages_received == 0 {
                give_way_after(client.poll().unwrap());
                if client.is_connected() && client.counters().sessions.sent.messages_accepted == 0 {
                    client.try_send(b"x").unwrap();
                }
                assert!(begun.elapsed() < PATIENCE);
            }
            client.stop();
            server.stop();
        }
        _ => {
            let mut server = server.start_polled().unwrap();
            let client = std::thread::spawn(move || {
                let client = client.start().unwrap();
                client.send(b"x").unwrap();
                client.stop()
            });
            let begun = Instant::now();
            while !client.is_finished() {
                give_way_after(server.poll().unwrap());
                assert!(begun.elapsed() < PATIENCE);
            }
            assert_eq!(client.join().unwrap().delivered, 1);
            server.stop();
        }
    }
}

/// Who found nothing to do gives the core away: the other side, on its thread, may have this very one.
fn give_way_after(work: usize) {
    if work == 0 {
        std::thread::yield_now();
    }
}

/// What this process has of the system: threads, descriptors, mappings.
#[cfg(target_os = "linux")]
fn holdings() -> [usize; 3] {
    let entries = |path: &str| std::fs::read_dir(path).unwrap().count();
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    [entries("/proc/self/task"), entries("/proc/self/fd"), mappings]
}

/// The same on Windows, where all are handles, memory apart. Wine says 0.
#[cfg(windows)]
fn holdings() -> [usize; 3] {
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount};
    let mut handles = 0;
    // SAFETY: the pointer is to a live place; the handle of the process itself is always good.
    let outcome = unsafe { GetProcessHandleCount(GetCurrentProcess(), &mut handles) };
    assert_ne!(outcome, 0, "{}", std::io::Error::last_os_error());
    [0, handles as usize, 0]
}

/// Elsewhere the test is that it works a thousand times.
#[cfg(not(any(target_os = "linux", windows)))]
fn holdings() -> [usize; 3] {
    [0; 3]
}

#[test]
fn a_thousand_starts_and_stops_leave_nothing_behind() {
    for driver in [DriverKind::Poll, DriverKind::Uring, DriverKind::Rio, DriverKind::RioModel] {
        if !is_here(driver) {
            continue;
        }
        // What the system's libraries keep for later (stacks, heaps) they have got by then.
        (0..40).for_each(|number| round(driver, number));
        let before = settled(usize::MAX, usize::MAX);
        (0..ROUNDS).for_each(|number| round(driver, number));
        let after = settled(before[0], before[1]);
        eprintln!("threads, descriptors, mappings: {before:?} before, {after:?} after");
        assert!(after[0] <= before[0] && after[1] <= before[1], "{before:?} before, {after:?} after");
        // Heaps may be split or joined; a mapping left by each round would be a thousand.
        assert!(after[2] < before[2] + ROUNDS / 20, "{before:?} before, {after:?} after");
    }
    assert_eq!(zerio::rio_model::violations(), Vec::<String>::new());
}

/// What is held when threads that were about to end have ended.
fn settled(threads: usize, descriptors: usize) -> [usize; 3] {
    let begun = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = holdings();
        std::thread::sleep(Duration::from_millis(50));
        let quiet = now == holdings();
        if (quiet && now[0] <= threads && now[1] <= descriptors) || begun.elapsed() > PATIENCE / 4 {
            return now;
        }
    }
}
