//! What the documentation of Registered I/O forbids, by name.
#![forbid(unsafe_code)]

use std::sync::{Mutex, PoisonError};

/// A rule that was broken. The page that has it stands at the function of the table, or else here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A queue was used on another thread than the one that made it.
    AnotherThread,
    /// A completion queue of no entries, or of more than there may be.
    QueueSize,
    /// The limits of the request queues are more, in sum, than the completion queue holds.
    QueueTooSmall,
    /// More was completed than the completion queue holds.
    QueueOverflow,
    /// A completion queue that is closed, or never was.
    UnknownQueue,
    /// A completion queue was closed while request queues complete into it, or before all was taken out.
    QueueInUse,
    /// A request queue for no request at all.
    NoLimits,
    /// A second request queue for one socket.
    SecondQueue,
    /// A request queue for a socket that was not made for Registered I/O: it "must have been created by calling the
    /// WSASocket function with the WSA_FLAG_RIO flag" (winsock/riorqueue).
    NotRegistered,
    /// A request queue for a socket that has never been connected: requests are those of "a connected registered I/O
    /// TCP socket" (mswsock/nc-mswsock-lpfn_riosend), and one that is "in the process of initializing" gets no queue
    /// (mswsock/nc-mswsock-lpfn_riocreaterequestqueue).
    NotConnected,
    /// A request queue whose socket is closed, or that never was.
    UnknownRequestQueue,
    /// Bytes came or went on a socket, or its end, past the request queue that it has. Options, IOCTLs and closing are
    /// what may be done with it besides (winsock/riorqueue). Other systems do not tell.
    #[cfg(target_os = "linux")]
    PastTheQueue,
    /// Bytes came or went by plain calls on a socket that was made for Registered I/O, before it had a request queue.
    /// Others have measured that it refuses them: `Table::socket` says who.
    #[cfg(target_os = "linux")]
    PlainCall,
    /// More outstanding requests than the request queue's limit.
    TooManyRequests,
    /// A flag that this kind of request does not know.
    UnknownFlags,
    /// A commit with data, a context or another flag.
    CommitWithMore,
    /// A request without data.
    NoData,
    /// A registration of nothing, or of more than the length has room for.
    RegistrationSize,
    /// A registration that has ended, or never was.
    UnknownBuffer,
    /// A piece that does not lie in its registration.
    OutsideBuffer,
    /// A piece that an outstanding request has, as a whole or in part.
    Overlap,
    /// A piece was written to while a request has it: one that is to be filled "should not be read or written before
    /// the request completes" (mswsock/nc-mswsock-lpfn_rioreceive). That somebody has read it nobody can tell.
    Touched,
    /// Memory was deregistered while an outstanding request has a piece of it.
    BufferInUse,
    /// The completion queue was asked to tell though nothing was set up for it.
    NothingToTell,
    /// The completion queue was asked to tell while it had not told yet.
    AskedTwice,
    /// A wait for completions that nobody was asked to tell of.
    DeafWait,
    /// A wait, or a look for completions, with requests that were deferred and not committed.
    Uncommitted,
    /// The table was given up with registrations, queues or requests left.
    LeftBehind,
}

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Fails where something is not so. While a thread unwinds, what is dropped on the way only follows from what failed.
#[track_caller]
pub(super) fn check(is_so: bool, or: Violation, seed: u64) {
    if !is_so && !std::thread::panicking() {
        violate(or, seed);
    }
}

/// Fails, by name. An engine's thread survives its handlers' panics, so what was seen is also kept.
#[track_caller]
pub(super) fn violate(violation: Violation, seed: u64) -> ! {
    let text = format!("Registered I/O was misused: {violation:?} (seed {seed})");
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
    panic!("{text}");
}

/// The rules that were broken in this process.
#[cfg(feature = "rio-model")]
pub fn violations() -> Vec<String> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
