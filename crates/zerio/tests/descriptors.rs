//! Descriptors exhausted while accepting. A test binary of its own, with one test: the limit is the whole
//! process's. Windows has no limit of this kind that a process could lower.
#![cfg(unix)]

mod hostile;

use std::fs::File;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hostile::{RawPeer, frame, undisturbed, until};
use socket2::{Domain, Socket, Type};

/// Lowers how many descriptors this process may have.
fn limit_descriptors(soft: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit`, which is all that getrlimit writes to.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit.rlim_cur = soft.min(limit.rlim_max);
    // SAFETY: the pointer is to a live `rlimit`, which setrlimit reads.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// Opens files until there are no descriptors left. A server that finds nobody to accept has had one for a moment, so one
/// look is not enough: what it gives back would be enough to accept all others with, one after the other.
fn exhaust() -> Vec<File> {
    let mut files = Vec::new();
    let mut in_vain = 0;
    while in_vain < 10 {
        match File::open("/dev/null") {
            Ok(file) => {
                files.push(file);
                in_vain = 0;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                std::thread::sleep(Duration::from_millis(1));
                in_vain += 1;
            }
        }
    }
    files
}

#[test]
fn a_server_without_descriptors_serves_those_it_has_and_lets_the_others_in_later() {
    limit_descriptors(256);
    undisturbed(
        |_| {},
        |scene| {
            // Sockets to connect with later, when there are no descriptors for new ones.
            let sockets: Vec<_> =
                (0..5).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
            let files = exhaust();
            assert!(!files.is_empty(), "there were some left");
            for socket in &sockets {
                // The system makes the connection; the server can't have it yet.
                socket.connect(&scene.address.into()).unwrap();
            }
            let errors = || scene.server.counters().engine.accept_errors;
            until("accepting fails", || (errors() > 0).then_some(()));

            // It tries now and then, and does not spin on it.
            let (begun, before) = (Instant::now(), errors());
            std::thread::sleep(Duration::from_secs(1));
            let (lasted, tries) = (begun.elapsed(), errors() - before);
            assert!(tries as f64 <= 200.0 * lasted.as_secs_f64(), "{tries} tries in {lasted:?}");
            scene.good.goes_on();
            assert_eq!(scene.server.counters().engine.connected, 1, "the good client");

            drop(files);
            for (number, socket) in sockets.into_iter().enumerate() {
                let mut peer = RawPeer::over(TcpStream::from(socket));
                let id = format!("waited {number}");
                peer.say(&frame(id.as_bytes()));
                assert_eq!(peer.hear(), id.as_bytes());
                peer.say(&frame(b"oui"));
                assert_eq!(peer.hear(), b"oui");
            }
            RawPeer::welcome(scene.address, "came later");
        },
    );
}
