//! zerio carries small messages between one server and several clients over TCP, in microseconds, without
//! allocating. The server addresses a client by its **peer id**; both sides send whenever they like.
//!
//! ```text
//!  SEND     caller ── claim ─▶ send ring ── pump ─▶ kernel        (any thread fills; one at a time pumps)
//!  RECEIVE  handler ◀─ framer ◀─ receive buffer ◀── driver ◀─ kernel   (the engine's thread)
//! ```
//!
//! ```
//! use zerio::{Client, Server};
//!
//! let server = Server::bind("127.0.0.1:0")?
//!     .on_connected(|peer| println!("{} is here", peer.id()))
//!     .on_message(|peer, message| {
//!         let _ = peer.send(message); // an echo, from the engine's thread
//!     })
//!     .on_disconnected(|peer, why| println!("{} left: {why}", peer.id()))
//!     .start()?; // one named thread
//!
//! let client = Client::connect(server.local_addr(), "client-1")?
//!     .on_message(|_, message| println!("{} bytes", message.len()))
//!     .start()?; // returns once the handshake is done
//!
//! client.send(b"oui")?; // from any thread
//! server.send("client-1", b"quoi")?; // by peer id, from any thread
//! let mut claim = client.claim(8)?; // zero-copy: fill the ring itself
//! claim.copy_from_slice(&42u64.to_le_bytes());
//! claim.commit()?; // dropping it instead sends nothing
//! println!("{}", client.stop()); // drains, up to a deadline, and says what was left
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Two ways to drive
//!
//! `start()` gives the engine a thread. `start_polled()` gives none: you call `poll()` from a loop of your
//! own, and everything happens there, handlers included, and nobody else sends: one way it is the fastest.
//!
//! # What happens to a message
//!
//! [`Peer::try_send`] returns at once, with `Full` where the session's ring has no room;
//! [`Peer::send`] waits for room, up to a deadline; inside a handler nothing waits. What was accepted is
//! handed to the kernel in order, whole and once, or counted as undelivered in the [`Disconnection`]
//! that the handler hears and in the [`Report`] that `stop` gives. One slow peer fills its own ring and
//! nobody else's.
//!
//! # Who may come in
//!
//! Whoever reaches a server's port may come in under any id that is free, unless certificates are required (feature
//! `tls`), or its [`admit`](Handler::admit) says otherwise, which sees the id, the address and the certificate. How many connections there may be from one address, how fast they
//! may come, and how many may say nothing is for [`Config`] to bound; by default nothing but the number of sessions
//! is. Whoever is refused hears why, as far as it can be told; each refusal is counted, and
//! [`on_rejections`](Handler::on_rejections) tells of them at a rate that a log can bear.
//!
//! # Platforms
//!
//! | system | drivers | how far it is tried |
//! | --- | --- | --- |
//! | Linux 6.1 and later | `poll` (epoll), `uring` (io_uring) | all tests, x86-64 |
//! | Linux before 6.1, or where io_uring is forbidden | `poll` (epoll) | all tests, by forbidding it |
//! | Windows 10 and later | `rio` (Registered I/O), `poll` (AFD) | `rio` over a strict model of its functions, natively and under Wine; `poll` under Wine; neither on a real Windows yet |
//! | macOS, FreeBSD | `poll` (kqueue) | compiled and linted, not run |
//!
//! # Cargo features
//!
//! | feature | what it brings |
//! | --- | --- |
//! | `metrics` | `Counters::record` and `CountersSnapshot::record_times`: what is counted, and how long it took, for the recorder of the `metrics` facade |
//! | `tracing` | events of `tracing`, target `zerio`: how engines and sessions begin and end, and who is not let in; never a message |
//! | `tokio` | clients and servers as tasks, messages as a stream, sends as a sink: the module `tokio` |
//! | `tls` | TLS 1.3, with certificates both ways if you like: the module `tls`, and `tls(…)` of a builder |
//! | `sim` | the module `sim`: your handlers on a simulated network with faults, from a seed |
#![deny(missing_docs, unsafe_code)]

mod builder;
mod client;
mod config;
#[cfg(feature = "cost")]
#[doc(hidden)]
pub mod cost;
mod counters;
mod cursor;
mod driver;
mod engine;
mod error;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod handler;
mod polled;
mod recv;
mod region;
mod report;
mod send;
mod server;
mod session;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(test)]
mod sizes;
mod thread;
mod time;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "tracing")]
mod trace;
mod wait;
mod wire;

pub use builder::Builder;
pub use client::{Client, Connect, PolledClient};
pub use config::{Config, ConfigError, DriverKind, Memory, SameId};
pub use counters::histogram::Histogram;
pub use counters::layout::{FieldKind, FieldScope};
pub use counters::reader::{
    CountersFile, CountersFileError, CountersRow, CountersSnapshot, CountersValue, CountersWriter, Field,
    WriterState,
};
pub use counters::{Counters, EngineTotals, Received, Sent, SessionCounters};
pub use engine::Context;
pub use error::{
    Alert, BadPeerId, CertificateFault, Disconnection, EngineFailure, Error, FrameError, Reason, RefusalCode,
    Rejection, SendError, TlsFault, Undelivered,
};
pub use handler::{AdmitAll, Arrival, Closures, Handler, Nothing, Refusal, Rejections};
pub use report::Report;
pub use send::claim::Claim;
pub use server::{Listen, PolledServer, Server};
pub use session::peer::{Peer, Sender};
pub use thread::DriverInfo;
pub use wait::WaitStrategy;
pub use wire::PeerId;

/// For the library's own tests.
#[cfg(feature = "rio-model")]
#[doc(hidden)]
pub mod rio_model {
    pub use crate::driver::rio::model::{
        corrupt_queues_of_this_thread, cut_next_send_of_this_thread, violations,
        withhold_acknowledgements_of_this_thread,
    };
}

/// The README's example, so that it can't go stale.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The same for the page that leads from the older system to this one.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/from-csharp.md")]
struct FromCSharp;

/// And for the guide's chapters. What they include of the examples is compiled there.
#[cfg(doctest)]
mod guide {
    #[doc = include_str!("../../../docs/guide/src/bounds.md")]
    struct Bounds;
    #[cfg(feature = "tokio")]
    #[doc = include_str!("../../../docs/guide/src/on-tokio.md")]
    struct OnTokio;
    #[doc = include_str!("../../../docs/guide/src/operating.md")]
    struct Operating;
    #[doc = include_str!("../../../docs/guide/src/receiving.md")]
    struct Receiving;
    #[doc = include_str!("../../../docs/guide/src/sending.md")]
    struct Sending;
    #[doc = include_str!("../../../docs/guide/src/waiting.md")]
    struct Waiting;
    #[cfg(feature = "tls")]
    #[doc = include_str!("../../../docs/guide/src/who-may-come-in.md")]
    struct WhoMayComeIn;
}
