//! How many bytes have been read from a socket and written to it, by whatever way, as Linux counts them. What went past
//! the table is the difference to what the model itself has moved. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// What can be said of a connection that goes on while the questions are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// At least so many.
    pub(super) read: u64,
    /// At least and at most so many. The handshake and an end of our own are in it, as one byte each.
    pub(super) written: (u64, u64),
}

/// The states of TCP in which the peer's end, which is counted as a byte, has come (`linux/tcp_states.h`).
const HEARD_THE_END: [u8; 4] = [6, 8, 9, 11];

/// The state after which nothing is counted any more.
const CLOSED: u8 = 7;

/// Where the state, the acknowledged bytes and the received ones stand in `struct tcp_info` (`linux/tcp.h`), of which
/// the crate of the C library has only the older half.
const STATE: usize = 0;
const ACKED: usize = 120;
const RECEIVED: usize = 128;
const INFO: usize = 136;

impl Count {
    /// `None` of a connection that is gone.
    pub(super) fn of(socket: &Socket) -> Option<Count> {
        let fd = socket.as_raw_fd();
        let before = question(fd, libc::TIOCOUTQ)?;
        let info = tcp_info(fd)?;
        let (unread, after) = (question(fd, libc::FIONREAD)?, question(fd, libc::TIOCOUTQ)?);
        // The kernel looks at the state first, and counts later (`tcp_get_info` in net/ipv4/tcp.c): an end that comes
        // in between is among the bytes, and only the next state tells.
        let state = tcp_info(fd)?[STATE];
        if state == CLOSED {
            return None;
        }
        let number = |at| info[at..].first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
        let ends = u64::from(HEARD_THE_END.contains(&state));
        let read = number(RECEIVED)?.saturating_sub(unread + ends);
        let acked = number(ACKED)?;
        Some(Count { read, written: (acked + after, acked + before) })
    }
}

/// How many bytes have been written that the peer has not acknowledged; `None` of a connection that is gone.
pub(super) fn unacknowledged(socket: &Socket) -> Option<u64> {
    let fd = socket.as_raw_fd();
    if tcp_info(fd)?[STATE] == CLOSED { None } else { question(fd, libc::TIOCOUTQ) }
}

fn tcp_info(fd: c_int) -> Option<[u8; INFO]> {
    let (mut info, mut len) = ([0; INFO], INFO as libc::socklen_t);
    // SAFETY: the descriptor is open, and the kernel writes no more than `len` bytes to the first pointer, which is to so
    // many.
    let outcome = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut len)
    };
    (outcome == 0 && len as usize == INFO).then_some(info)
}

fn question(fd: c_int, which: libc::Ioctl) -> Option<u64> {
    let mut answer: c_int = 0;
    // SAFETY: both questions write one number, to a live one.
    let outcome = unsafe { libc::ioctl(fd, which, &raw mut answer) };
    if outcome == 0 { u64::try_from(answer).ok() } else { None }
}
