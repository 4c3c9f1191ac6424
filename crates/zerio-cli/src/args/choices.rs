//! What flags take that have a choice of words.
#![forbid(unsafe_code)]

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Messages that are answered, one after the other
    RoundTrip,
    /// Messages one after the other, which nobody answers
    OneWay,
    /// What an engine costs whose clients say nothing
    Idle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Drive {
    /// Each engine has a thread of its own
    Thread,
    /// A loop that spins calls it
    Polled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Driver {
    /// The best that this machine allows
    Auto,
    /// epoll, kqueue, or AFD on Windows
    Poll,
    /// io_uring, on Linux
    Uring,
    /// Registered I/O, on Windows
    Rio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SameId {
    /// The new connection is refused
    Refuse,
    /// The old session is disconnected
    Replace,
}

/// The columns of `zerio top` by which it sorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortBy {
    /// The peer id
    Peer,
    /// Messages received in a second
    In,
    /// Messages sent in a second
    Out,
    /// Bytes received in a second
    InBytes,
    /// Bytes sent in a second
    OutBytes,
    /// How full its send ring is
    Ring,
    /// How full it has been at the most
    High,
    /// How long its oldest unsent byte has waited
    Oldest,
    /// Sends that found no room
    Full,
}
