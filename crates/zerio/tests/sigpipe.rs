//! Peers that are gone before they can be told why they are not let in, in a process that does not ignore
//! SIGPIPE, as one whose `main` is not Rust's. The process is this test binary itself, told by its
//! environment to be it.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::SockRef;
use zerio::{Config, DriverKind, Error, Server};

const DRIVER: &str = "ZERIO_TEST_DRIVER";

/// An engine's slots beyond those of its sessions, in which to refuse.
const SPARE_SLOTS: u64 = 8;

const GONE: u64 = 8;

/// What the process says when it has done all of it.
const SURVIVED: &str = "it goes on after all";

fn connect(address: SocketAddr, id: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&[&(id.len() as u32).to_le_bytes(), id].concat()).unwrap();
    stream
}

/// The process that a signal may end. In a run of the tests it has nothing to do.
#[test]
fn the_process_without_a_handler_for_sigpipe_refuses_peers_that_are_gone() {
    let Ok(driver) = std::env::var(DRIVER) else { return };
    // SAFETY: no handler is installed: the signal's default is the system's own.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let mut config = Config::default();
    config.driver = if driver == "uring" { DriverKind::Uring } else { DriverKind::Poll };
    config.sessions_max = 1;
    let mut server = match Server::bind("127.0.0.1:0").unwrap().config(config).start_polled() {
        Err(Error::Driver { why, .. }) => return println!("SKIPPED with {driver}: {why}; {SURVIVED}"),
        server => server.unwrap(),
    };
    let address = server.local_addr();
    let until = |server: &mut zerio::PolledServer<_>, so: &dyn Fn(&zerio::Counters) -> bool| {
        let begun = Instant::now();
        while !so(&server.counters()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "in vain: {:?}", server.counters());
            server.poll().unwrap();
        }
    };
    let _only = connect(address, b"the only one");
    until(&mut server, &|counters| counters.engine.connected == 1);
    // These stay, and keep the slots in which they are refused.
    let _refused: Vec<_> = (0..SPARE_SLOTS).map(|_| connect(address, b"one too many")).collect();
    until(&mut server, &|counters| counters.engine.refused == SPARE_SLOTS);
    for _ in 0..GONE {
        // An end and then a reset: to such a connection a send is a broken pipe from the first one on.
        let gone = TcpStream::connect(address).unwrap();
        gone.shutdown(Shutdown::Write).unwrap();
        SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
    }
    until(&mut server, &|counters| counters.engine.refused == SPARE_SLOTS + GONE);
    println!("{SURVIVED}");
}

#[test]
fn the_refusal_of_a_peer_that_was_gone_ended_the_process_when_no_slot_was_left_for_it() {
    for driver in ["poll", "uring"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_process_without_a_handler_for_sigpipe_refuses_peers_that_are_gone", "--exact"])
            .arg("--nocapture")
            .env(DRIVER, driver)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), None, "{driver}: ended by a signal\n{said}");
        assert!(status.success() && said.contains(SURVIVED), "{driver}: {status}\n{said}");
    }
}
