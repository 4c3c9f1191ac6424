//! What becomes of the choice of a driver where io_uring is forbidden, as it is in many containers, and of
//! streams where a barrier of the whole process is. A seccomp filter of our own forbids it: to one thread,
//! and to those that it starts.
//!
//! `unsafe` stands here for the system call that asks the kernel whether it would give a ring.
#![cfg(target_os = "linux")]

use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use seccomp::forbid;
use zerio::{Client, Config, DriverKind, Error, Handler, Server};

#[path = "common/seccomp.rs"]
mod seccomp;

const DEADLINE: Duration = Duration::from_secs(40);

/// With more sessions for an engine `auto` takes epoll.
const FEW: usize = 4;

const WHY: &str = "EPERM (forbidden: a container's seccomp filter, or kernel.io_uring_disabled)";

fn with(driver: DriverKind) -> Config {
    let mut config = Config::default();
    config.driver = driver;
    config
}

/// Runs `what` on a thread that may not set up an io_uring.
fn where_io_uring_is_forbidden(what: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        forbid(libc::SYS_io_uring_setup).expect("the filter");
        assert_eq!(ring_error(), Some(libc::EPERM), "the filter works");
        what();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Why the kernel gives this thread no ring of the kind that zerio needs; `None` where it does.
fn ring_error() -> Option<i32> {
    // SUBMIT_ALL, TASKRUN_FLAG, SINGLE_ISSUER and DEFER_TASKRUN, from <linux/io_uring.h>.
    const FLAGS: u32 = 1 << 7 | 1 << 9 | 1 << 12 | 1 << 13;
    // `struct io_uring_params`: 120 bytes, the flags being the third number.
    let mut params = [0u32; 30];
    params[2] = FLAGS;
    // SAFETY: the kernel reads and writes 120 bytes there.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    if ring < 0 {
        return io::Error::last_os_error().raw_os_error();
    }
    // SAFETY: the descriptor is ours, and used nowhere else.
    unsafe { libc::close(ring as i32) };
    None
}

/// A server that echoes, of so few sessions that `auto` would have io_uring, and a client that tells what comes back.
fn start(driver: DriverKind) -> Result<(Server, Client, Receiver<Vec<u8>>), Error> {
    let mut config = with(driver);
    config.sessions_max = FEW;
    let server = Server::bind("127.0.0.1:0")?
        .config(config)
        .on_message(|peer, message| peer.send(message).unwrap())
        .start()?;
    let (sender, echoes) = channel();
    let client = Client::connect(server.local_addr(), "client-1")?
        .config(with(driver))
        .on_message(move |_, message| sender.send(message.to_vec()).unwrap())
        .start()?;
    Ok((server, client, echoes))
}

fn exchange(server: Server, client: Client, echoes: &Receiver<Vec<u8>>) {
    for round in 0..100u8 {
        client.send(&[round; 32]).unwrap();
        assert_eq!(echoes.recv_timeout(DEADLINE).unwrap(), [round; 32]);
    }
    server.send("client-1", b"from the server").unwrap();
    assert_eq!(echoes.recv_timeout(DEADLINE).unwrap(), b"from the server");
    client.stop();
    server.stop();
}

#[test]
fn where_io_uring_is_forbidden_auto_goes_on_with_epoll_and_says_why() {
    where_io_uring_is_forbidden(|| {
        let (server, client, echoes) = start(DriverKind::Auto).unwrap();
        for driver in [server.driver(), client.driver()] {
            assert_eq!(driver.name, "poll");
            let reason = format!("io_uring: {WHY}, using epoll");
            assert_eq!(driver.fallback.as_deref(), Some(reason.as_str()));
            assert_eq!(driver.to_string(), format!("poll ({reason})"));
        }
        exchange(server, client, &echoes);
    });
}

#[test]
fn where_io_uring_is_forbidden_polled_driving_falls_back_too() {
    where_io_uring_is_forbidden(|| {
        let mut config = Config::default();
        config.sessions_max = FEW;
        let mut server = Server::bind("127.0.0.1:0")
            .unwrap()
            .config(config)
            .on_message(|peer, message| peer.send(message).unwrap())
            .start_polled()
            .unwrap();
        assert!(server.driver().to_string().contains(WHY), "{}", server.driver());
        let mut heard = Vec::new();
        let mut client = Client::connect(server.local_addr(), "client-1")
            .unwrap()
            .on_message(|_, message| heard.extend_from_slice(message))
            .start_polled()
            .unwrap();
        assert_eq!((server.driver().name, client.driver().name), ("poll", "poll"));
        let start = Instant::now();
        while !client.is_connected() {
            server.poll().unwrap();
            client.poll().unwrap();
            assert!(start.elapsed() < DEADLINE);
        }
        client.try_send(b"oui").unwrap();
        while client.counters().sessions.received.messages_received < 1 {
            server.poll().unwrap();
            client.poll().unwrap();
            assert!(start.elapsed() < DEADLINE);
        }
        drop(client);
        assert_eq!(heard, b"oui");
    });
}

#[test]
fn a_driver_asked_for_by_name_is_refused_where_it_is_forbidden_and_not_replaced() {
    where_io_uring_is_forbidden(|| {
        let refused = start(DriverKind::Uring).err();
        assert!(
            matches!(&refused, Some(Error::Driver { driver: "uring", why }) if why == WHY),
            "{refused:?}"
        );
        // The other one is given.
        let (server, client, echoes) = start(DriverKind::Poll).unwrap();
        for driver in [server.driver(), client.driver()] {
            assert_eq!((driver.to_string().as_str(), &driver.fallback), ("poll", &None));
        }
        exchange(server, client, &echoes);
    });
}

#[test]
fn with_few_sessions_auto_takes_the_ring_that_the_kernel_gives() {
    let (server, client, echoes) = start(DriverKind::Auto).unwrap();
    for driver in [server.driver(), client.driver()] {
        match ring_error() {
            None => assert_eq!((driver.name, &driver.fallback), ("uring", &None)),
            Some(error) => {
                eprintln!("SKIPPED: the kernel gives no ring here (error {error})");
                assert!(driver.name == "poll" && driver.fallback.is_some());
            }
        }
    }
    exchange(server, client, &echoes);
}

struct Deaf;

impl Handler for Deaf {}

#[test]
fn with_more_sessions_auto_takes_epoll_and_looks_for_nothing_better() {
    for (sessions_max, engines, few) in [(FEW + 1, 1, false), (2 * FEW + 1, 2, false), (2 * FEW, 2, true)] {
        let mut config = with(DriverKind::Auto);
        (config.sessions_max, config.engines) = (sessions_max, engines);
        let server = Server::bind("127.0.0.1:0").unwrap().config(config);
        let server = server.start_each(|_| Deaf).unwrap();
        let driver = server.driver();
        assert_eq!(driver.fallback.is_none() && driver.name == "poll", !few, "{driver}: {sessions_max}");
        server.stop();
    }
}

/// Whether an echo comes back from a server whose engine may make no call to send: what it gives to its ring, the
/// kernel sends.
fn echoes_without_a_call_to_send(batch_from: usize) -> bool {
    let server = std::thread::spawn(move || {
        forbid(libc::SYS_sendto).expect("the filter");
        let mut config = with(DriverKind::Uring);
        config.batch_from = batch_from;
        let server = Server::bind("127.0.0.1:0").unwrap().config(config);
        server.on_message(|peer, message| peer.send(message).unwrap()).start().unwrap()
    });
    let server = server.join().unwrap();
    let (sender, echoes) = channel();
    let ended = sender.clone();
    let client = Client::connect(server.local_addr(), "client-1")
        .unwrap()
        .on_message(move |_, message| sender.send(message == b"oui").unwrap())
        .on_disconnected(move |_, _| ended.send(false).unwrap())
        .start();
    // What can't be sent is the answer to the client's hello.
    let Ok(client) = client else { return false };
    client.send(b"oui").is_ok() && echoes.recv_timeout(DEADLINE).unwrap()
}

#[test]
fn batch_from_is_from_how_many_sessions_on_the_ring_sends_and_no_call_does() {
    if let Some(error) = ring_error() {
        eprintln!("SKIPPED: the kernel gives no ring here (error {error})");
        return;
    }
    assert!(echoes_without_a_call_to_send(1));
    assert!(!echoes_without_a_call_to_send(2), "one session is not two");
}

/// Streams of messages, and single ones, with nothing after them that could bring to light what was overlooked.
fn bursts(server: Server, client: Client, echoes: &Receiver<Vec<u8>>) {
    for round in 0..100u8 {
        let burst = if round.is_multiple_of(2) { 500 } else { 1 };
        (0..burst).for_each(|_| client.send(&[round; 32]).unwrap());
        (0..burst).for_each(|_| assert_eq!(echoes.recv_timeout(DEADLINE).unwrap(), [round; 32]));
    }
    client.stop();
    server.stop();
}

#[test]
fn where_the_barrier_is_forbidden_from_the_start_every_message_arrives() {
    let thread = std::thread::spawn(|| {
        forbid(libc::SYS_membarrier).expect("the filter");
        for driver in [DriverKind::Auto, DriverKind::Poll] {
            let (server, client, echoes) = start(driver).unwrap();
            bursts(server, client, &echoes);
        }
    });
    thread.join().unwrap();
}
