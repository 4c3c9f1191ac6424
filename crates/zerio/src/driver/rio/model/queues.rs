//! The model's request and completion queues.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::net::SocketAddr;

use socket2::Socket;

use super::memory::Sample;
use crate::driver::SENDS_MAX;
use crate::driver::rio::table::{Limits, Outcome, Piece, Way};

/// A completion queue.
pub(super) struct Completions {
    pub(super) size: usize,
    /// Entries that request queues may fill, in sum.
    pub(super) promised: usize,
    pub(super) ready: VecDeque<Ready>,
    /// It can tell.
    pub(super) tells: bool,
    /// It was asked to, and has not yet.
    pub(super) armed: bool,
    /// It was asked to, and said that it had been before.
    pub(super) in_vain: bool,
    /// It has told, and that was not reset since.
    pub(super) told: bool,
    /// For tests: it is lost.
    pub(super) corrupt: bool,
}

/// A completion that has not been dequeued.
pub(super) struct Ready {
    pub(super) outcome: Outcome,
    /// Of which request queue's place.
    pub(super) place: usize,
    pub(super) way: Way,
    pub(super) piece: Piece,
    /// What its piece had when it completed.
    pub(super) sample: Sample,
    pub(super) notifies: bool,
}

impl Completions {
    pub(super) fn new(size: usize, tells: bool) -> Completions {
        let ready = VecDeque::with_capacity(size);
        Completions {
            size,
            promised: 0,
            ready,
            tells,
            armed: false,
            in_vain: false,
            told: false,
            corrupt: false,
        }
    }

    /// Tells, if it was asked to and there is something.
    pub(super) fn tell(&mut self) {
        if self.armed && self.ready.iter().any(|ready| ready.notifies) {
            (self.armed, self.told) = (false, true);
        }
    }
}

/// A request queue's place: it has many of them, one after the other.
pub(super) struct Requests {
    /// Which of them; none where it is free.
    pub(super) id: Option<isize>,
    /// A second handle of the socket; none where that is closed.
    pub(super) socket: Option<Socket>,
    /// The same where it is closed and goes on sending.
    pub(super) kept: Option<Socket>,
    /// By which a second queue for the same socket is found out.
    pub(super) names: Option<(SocketAddr, SocketAddr)>,
    pub(super) limits: Limits,
    pub(super) completions: usize,
    pub(super) context: u32,
    pub(super) rows: [Row; 2],
    /// So many bytes its requests have moved, of each way.
    pub(super) moved: [u64; 2],
    /// So many the kernel counts as written before there was a request, and for the end.
    pub(super) besides: u64,
}

/// The requests of one way, in their order.
pub(super) struct Row {
    pub(super) waiting: VecDeque<Request>,
    /// Those in the completion queue included.
    pub(super) outstanding: u32,
}

/// A request that has not completed.
pub(super) struct Request {
    pub(super) piece: Piece,
    /// What its piece has as long as nobody but the kernel writes there.
    pub(super) sample: Sample,
    pub(super) context: u32,
    pub(super) committed: bool,
    pub(super) notifies: bool,
    /// So many looks are taken in vain.
    pub(super) delay: usize,
    /// How much has been sent.
    pub(super) done: usize,
    /// Of a send that is with TCP, or has failed: what it is to complete with, and how many bytes went up to its end.
    pub(super) sent: Option<(Outgoing, u64)>,
}

/// A status, and how many bytes.
pub(super) type Outgoing = (i32, usize);

/// What a row has room for without allocating.
const ROW: usize = SENDS_MAX;

impl Requests {
    pub(super) fn free() -> Requests {
        let row = || Row { waiting: VecDeque::with_capacity(ROW), outstanding: 0 };
        Requests {
            id: None,
            socket: None,
            kept: None,
            names: None,
            limits: Limits { receives: 0, sends: 0 },
            completions: 0,
            context: 0,
            rows: [row(), row()],
            moved: [0; 2],
            besides: 0,
        }
    }

    /// What it may have in its completion queue.
    pub(super) fn promised(&self) -> usize {
        (self.limits.receives + self.limits.sends) as usize
    }

    pub(super) fn outstanding(&self) -> u32 {
        self.rows.iter().map(|row| row.outstanding).sum()
    }

    pub(super) fn limit(&self, way: Way) -> u32 {
        match way {
            Way::Receive => self.limits.receives,
            Way::Send => self.limits.sends,
        }
    }

    /// It is free again when its socket is closed and nothing of it is left.
    pub(super) fn let_go(&mut self) {
        if self.socket.is_none() && self.outstanding() == 0 {
            self.id = None;
        }
    }
}
