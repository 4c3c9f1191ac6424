//! What the loopback tests share: one test body runs over every driver and both ways of driving
//! ([`matrix!`]), with a handler that records ([`Recorder`]), servers and clients that look the same
//! however they are driven ([`TestServer`], [`TestClient`]), and peers made of bare sockets
//! ([`raw::Raw`]).
#![forbid(unsafe_code)]
// Each test binary uses a part of it.
#![allow(dead_code, unused_imports, unused_macros)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use zerio::tls::{TlsClient, TlsServer};
use zerio::{Config, DriverKind, Error, Server};

pub mod addresses;
pub mod certs;
mod drive;
mod missing;
pub mod pattern;
pub mod raw;
mod record;
pub mod skip;
pub mod tls_peer;
mod wine;

pub use drive::{TestClient, TestServer};
pub use missing::is_here;
pub use record::{Event, Log, Recorder, sole_text, texts};
pub use wine::{closes_for_the_killed, has_resets};

/// How long a test waits for what must happen. No test waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub driver: DriverKind,
    pub drive: Drive,
}

/// The ways to drive an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// On a thread of the library's.
    Thread,
    /// By `poll`, on a thread of the test's.
    Polled,
}

impl Case {
    /// Whether a send completes when all of it is taken, and not before, as Registered I/O has it; its model
    /// shortens one now and then.
    pub fn takes_sends_whole(&self) -> bool {
        matches!(self.driver, DriverKind::Rio | DriverKind::RioModel)
    }

    /// The defaults, with deadlines that a busy machine keeps.
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        config.driver = self.driver;
        config.handshake_timeout = PATIENCE;
        config.drain_timeout = PATIENCE;
        config.send_timeout = PATIENCE;
        config.peer_timeout = PATIENCE;
        config
    }

    /// The same with the smallest rings and buffers, and sockets that hold little.
    pub fn tight(&self) -> Config {
        let mut config = self.config();
        config.message_max = 1024;
        config.send_ring = 4096;
        config.receive_buffer = 4096;
        config.socket_send_buffer = Some(4096);
        config.socket_receive_buffer = Some(4096);
        config
    }

    pub fn server(&self, config: Config, recorder: Recorder) -> TestServer {
        self.server_at("127.0.0.1:0", config, recorder)
    }

    pub fn server_at(&self, address: &str, config: Config, recorder: Recorder) -> TestServer {
        drive::server(self.drive, address, config, recorder)
    }

    pub fn try_client(
        &self,
        server: &TestServer,
        id: &str,
        config: Config,
        recorder: Recorder,
    ) -> Result<TestClient, Error> {
        drive::client(self.drive, server.address(), id, config, recorder)
    }

    /// A server that speaks TLS.
    pub fn tls_server(&self, config: Config, recorder: Recorder, tls: TlsServer) -> TestServer {
        drive::server_under(self.drive, "127.0.0.1:0", config, recorder, Some(tls))
    }

    /// A client that speaks TLS, if it becomes a session.
    pub fn try_tls_client(
        &self,
        server: &TestServer,
        id: &str,
        config: Config,
        recorder: Recorder,
        tls: TlsClient,
    ) -> Result<TestClient, Error> {
        self.try_tls_client_at(server.address(), id, config, recorder, tls)
    }

    /// The same with a server that is not ours.
    pub fn try_tls_client_at(
        &self,
        address: SocketAddr,
        id: &str,
        config: Config,
        recorder: Recorder,
        tls: TlsClient,
    ) -> Result<TestClient, Error> {
        drive::client_under(self.drive, address, id, config, recorder, Some(tls))
    }

    pub fn client(&self, server: &TestServer, id: &str, recorder: Recorder) -> TestClient {
        self.try_client(server, id, self.config(), recorder).expect("a session")
    }
}

/// Runs a test's body for one cell, or says on stderr why it can't.
pub fn run(driver: DriverKind, drive: Drive, test: impl FnOnce(&Case)) {
    if !is_here(driver) {
        return;
    }
    test(&Case { driver, drive });
    // An engine survives its handlers' panics, and would survive these.
    assert_eq!(zerio::rio_model::violations(), Vec::<String>::new());
}

/// Makes of each function six tests: over the poll and the uring driver and over the rio driver on its model, on
/// threads and polled. On Windows two more: over Registered I/O itself.
macro_rules! matrix {
    ($($(#[$about:meta])* fn $name:ident($case:ident) $body:block)*) => {$(
        $(#[$about])*
        mod $name {
            use super::*;

            fn body($case: &$crate::common::Case) $body

            #[test]
            fn poll_on_a_thread() {
                $crate::common::run(zerio::DriverKind::Poll, $crate::common::Drive::Thread, body);
            }

            #[test]
            fn poll_polled() {
                $crate::common::run(zerio::DriverKind::Poll, $crate::common::Drive::Polled, body);
            }

            #[test]
            fn uring_on_a_thread() {
                $crate::common::run(zerio::DriverKind::Uring, $crate::common::Drive::Thread, body);
            }

            #[test]
            fn uring_polled() {
                $crate::common::run(zerio::DriverKind::Uring, $crate::common::Drive::Polled, body);
            }

            #[test]
            fn rio_on_a_thread() {
                $crate::common::run(zerio::DriverKind::RioModel, $crate::common::Drive::Thread, body);
            }

            #[test]
            fn rio_polled() {
                $crate::common::run(zerio::DriverKind::RioModel, $crate::common::Drive::Polled, body);
            }

            #[cfg(windows)]
            #[test]
            fn registered_on_a_thread() {
                $crate::common::run(zerio::DriverKind::Rio, $crate::common::Drive::Thread, body);
            }

            #[cfg(windows)]
            #[test]
            fn registered_polled() {
                $crate::common::run(zerio::DriverKind::Rio, $crate::common::Drive::Polled, body);
            }
        }
    )*};
}

/// The same for what only threads have: three tests of each function, four on Windows.
macro_rules! drivers {
    ($($(#[$about:meta])* fn $name:ident($case:ident) $body:block)*) => {$(
        $(#[$about])*
        mod $name {
            use super::*;

            fn body($case: &$crate::common::Case) $body

            #[test]
            fn poll() {
                $crate::common::run(zerio::DriverKind::Poll, $crate::common::Drive::Thread, body);
            }

            #[test]
            fn uring() {
                $crate::common::run(zerio::DriverKind::Uring, $crate::common::Drive::Thread, body);
            }

            #[test]
            fn rio() {
                $crate::common::run(zerio::DriverKind::RioModel, $crate::common::Drive::Thread, body);
            }

            #[cfg(windows)]
            #[test]
            fn registered() {
                $crate::common::run(zerio::DriverKind::Rio, $crate::common::Drive::Thread, body);
            }
        }
    )*};
}

pub(crate) use {drivers, matrix};

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
