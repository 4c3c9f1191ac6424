//! An engine's way to the kernel, where both paths end. One whole file a kernel, all of one shape:
//! [`poll`] (epoll, kqueue, AFD), [`uring`] (io_uring), [`rio`] (Windows Registered I/O) and [`sim`] (a
//! simulated network). `conformance.rs` holds every driver to the contract below.
//!
//! # The contract
//!
//! 1. A span belongs to the driver from the request to its completion, across a close too. It moves in
//!    and comes back in the completion.
//! 2. Exactly one completion a request; `Closed` comes last, once. What a kernel adds stays inside the
//!    driver or shows as a shorter length.
//! 3. At most one receive and [`Driver::SENDS`] sends in flight a session: the engine asks for no more. Sends complete
//!    in the order in which they were asked for, whatever order the kernel tells in. Of several only the last may be
//!    short: behind another the stream has a hole, and the engine ends the session.
//! 4. A completion carries its session's id, generation included; what is stale the driver drops.
//! 5. `turn` never calls back: it fills a list. Its wait is a bound, not a promise.
//! 6. Dropping a driver returns only when the kernel can no longer touch the region; if that can't be
//!    had, the region is leaked, on purpose.
//! 7. A driver allocates nothing after start, except to accept or connect where the system's own way must (on
//!    Windows mio does, for `poll`).
#![deny(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::region::{Region, Span};

#[cfg(test)]
mod conformance;
pub(crate) mod poll;
#[cfg(any(test, windows, feature = "rio-model"))]
pub(crate) mod rio;
#[cfg(feature = "sim")]
pub(crate) mod sim;
pub(crate) mod socket;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod told;
#[cfg(target_os = "linux")]
pub(crate) mod uring;

pub(crate) use socket::{Direct, Options};

/// A session's place: a slot of the table, and which of the slot's sessions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SlotId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What became of a request to a driver whose sockets are `S`.
#[derive(Debug)]
pub(crate) enum Completion<S> {
    /// Of `accept`: a connection, non-blocking, not yet any session's; or why there is none.
    Accepted(io::Result<(S, SocketAddr)>),
    /// Of `connect`.
    Connected(SlotId, io::Result<()>),
    /// Of `receive`: how many bytes of the span were filled, from its start; 0 is the peer's end. After a
    /// `close` it may be an error of any kind.
    Received(SlotId, Span, io::Result<usize>),
    /// Of `send`: how many bytes of the span the kernel took, from its start; at least one.
    Sent(SlotId, Span, io::Result<usize>),
    /// Of `close`: the last that is heard of the session. The kernel holds nothing of it any more.
    Closed(SlotId),
}

/// With so few sessions a turn that does not wait asks the sockets themselves: a `recv` that finds nothing costs less than
/// to ask a selector or a ring, and then a `recv`. A ping-pong pair that spins was measured at 6.9 µs a round that way, at
/// 7.8 by epoll and at 7.9 through io_uring; and each packet for a socket that epoll knows costs 0.1 µs more. Up to there
/// `auto` takes io_uring, where more sessions gain nothing from it (BENCHMARKS.md).
pub(crate) const FEW: usize = 4;

/// No driver takes more sends of a session at a time.
#[cfg(any(test, windows, feature = "rio-model", feature = "tls"))]
pub(crate) const SENDS_MAX: usize = 8;

/// What an engine asks of a kernel. The slot's index is below the number of slots that the driver was
/// made for.
pub(crate) trait Driver: Sized {
    /// What listens, and what comes of accepting: engines pass it on, from one to another too, and only drivers
    /// look inside. Dropping it closes it.
    type Socket: Send;

    /// The name by which a user asks for it.
    const NAME: &'static str;

    /// Whether several sends asked for between two turns cost fewer system calls than as many direct
    /// ones.
    const BATCHES: bool;

    /// So many sends of a session may be in flight. Where it is more than one there is no direct way, which would
    /// overtake them.
    const SENDS: u8 = 1;

    /// A driver for so many slots, whose spans are of `region`.
    fn new(region: Arc<Region>, slots: usize) -> io::Result<Self>;

    /// From now on `accept` accepts from this socket, which listens and does not block.
    fn listen(&mut self, listener: Self::Socket) -> io::Result<()>;

    /// Asks for one connection.
    fn accept(&mut self);

    /// Accepts no more; a pending `accept` is forgotten. The listening socket is closed.
    fn stop_listening(&mut self);

    /// Makes a socket with these options, and connects it: it is the session's from now on. On an error the
    /// session was never there.
    fn connect(&mut self, id: SlotId, address: SocketAddr, options: &Options) -> io::Result<()>;

    /// Sets the options of an accepted socket and takes it as a session's. On an error the socket is closed
    /// and the session was never there.
    fn adopt(&mut self, id: SlotId, socket: Self::Socket, options: &Options) -> io::Result<()>;

    /// Closes an accepted socket that becomes no session's, after `last_words`: as many of them as fit its
    /// empty buffer.
    fn refuse(&mut self, socket: Self::Socket, last_words: &[u8]);

    /// The way to send on the session's socket without the driver, where the kernel has one. It must
    /// not be used any more when `close` is called.
    fn direct(&self, id: SlotId) -> Option<Direct>;

    /// Asks for what comes next, into the span, which is not empty. Before there is a connection it waits for that,
    /// as sends do; where none comes of it, `close` gives it back at the latest.
    fn receive(&mut self, id: SlotId, span: Span);

    /// Asks to send the span, which is not empty.
    fn send(&mut self, id: SlotId, span: Span);

    /// Tells the peer that nothing more is sent. Nothing is in flight to send.
    fn shut_down(&mut self, id: SlotId);

    /// Ends a session: what is in flight completes, then comes `Closed`.
    fn close(&mut self, id: SlotId);

    /// It has been long since the last turn: the next one is to ask the kernel for everything.
    fn catch_up(&mut self) {}

    /// Hands requests to the kernel and appends completions to `done`. Waits at most `wait` for the
    /// first one, or for a wake-up. An error ends the engine.
    fn turn(&mut self, wait: Duration, done: &mut Vec<Completion<Self::Socket>>) -> io::Result<()>;

    /// What other threads ring to end a wait.
    fn waker(&self) -> Waker;
}

/// A kernel's completion queue is lost: an error of `turn`.
#[derive(Debug, thiserror::Error)]
#[error("the completion queue is corrupt")]
pub(crate) struct Corrupt;

/// How many completions can be outstanding: for each slot a connect, a receive, its sends and a close, and
/// one accept.
pub(crate) fn completions_max<D: Driver>(slots: usize) -> usize {
    (3 + usize::from(D::SENDS)) * slots + 1
}

/// Repeats a system call as long as a signal interrupts it.
fn retry<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Ends the wait of a driver's turn, from any thread, now or the next one.
#[derive(Clone)]
pub(crate) struct Waker(Arc<dyn Fn() + Send + Sync>);

impl Waker {
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Waker {
        Waker(Arc::new(wake))
    }

    pub(crate) fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}
