//! Which sockets were made for Registered I/O, and which of those have had a connection. Engines
//! pass on to each other what they accept, so the process has one list, by descriptor.
//! Who closes a socket elsewhere does not say so: then the next one with its number passes for it, and a violation is
//! not found out; none is ever made up.
#![forbid(unsafe_code)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use socket2::Socket;

#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd as Raw};
#[cfg(windows)]
use std::os::windows::io::{AsRawSocket, RawSocket as Raw};

/// How far a socket that was made for Registered I/O has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was made.
    Alone,
    /// It has had a connection.
    Connected,
}

static MADE: Mutex<Vec<(Raw, Made)>> = Mutex::new(Vec::new());

/// From now on so many sockets more are noted without allocating.
pub(super) fn reserve(more: usize) {
    list().reserve(more);
}

/// Notes that a socket was made for Registered I/O, and how far it has come.
pub(crate) fn note(socket: &Socket, made: Made) {
    let (raw, mut list) = (raw(socket), list());
    match list.iter_mut().find(|(known, _)| *known == raw) {
        Some(entry) => entry.1 = made,
        None => list.push((raw, made)),
    }
}

pub(in crate::driver::rio) fn forget(socket: &Socket) {
    let raw = raw(socket);
    list().retain(|(known, _)| *known != raw);
}

pub(super) fn of(socket: &Socket) -> Option<Made> {
    let raw = raw(socket);
    list().iter().find(|(known, _)| *known == raw).map(|(_, made)| *made)
}

fn list() -> MutexGuard<'static, Vec<(Raw, Made)>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn raw(socket: &Socket) -> Raw {
    socket.as_raw_fd()
}

#[cfg(windows)]
fn raw(socket: &Socket) -> Raw {
    socket.as_raw_socket()
}
