//! What a session has asked for, and how far that has come: one receive, and sends one behind the other. The kernel may
//! tell of sends in any order; they are given back in theirs.
#![forbid(unsafe_code)]

use std::io;
use std::ops::Range;

use socket2::Socket;

use super::table::{RequestQueue, Way};
use crate::driver::SENDS_MAX;
use crate::region::Span;

#[derive(Default)]
pub(super) struct Connection {
    pub(super) generation: u32,
    pub(super) socket: Option<Socket>,
    /// Once it is connected.
    pub(super) queue: Option<RequestQueue>,
    pub(super) connecting: bool,
    /// Why it could not even begin to connect.
    pub(super) connect_error: Option<io::Error>,
    pub(super) receive: Request,
    pub(super) sends: Sends,
    /// Of each way, whether its request is yet to be committed.
    pub(super) deferred: [bool; 2],
    pub(super) closing: bool,
    /// It stands in `asked`.
    pub(super) queued: bool,
}

impl Connection {
    /// Whether a completion is to come.
    pub(super) fn is_with_kernel(&self) -> bool {
        self.receive.is_outstanding() || self.sends.are_outstanding()
    }
}

/// How far a request has come, and with it whose its span is.
#[derive(Default)]
pub(super) enum Request {
    #[default]
    Idle,
    /// The driver's: what the span has from there on the kernel does not know of.
    Asked(Span, usize),
    /// The kernel has this part of the span, until its completion has been dequeued.
    Outstanding(Span, Range<usize>),
    /// Of a send: it has come back, and waits for those before it.
    Over(Span, io::Result<usize>),
}

impl Request {
    /// Takes back what the kernel does not know of.
    pub(super) fn take_asked(&mut self) -> Option<(Span, usize)> {
        match std::mem::take(self) {
            Request::Asked(span, from) => return Some((span, from)),
            other => *self = other,
        }
        None
    }

    /// Takes what the kernel has given back.
    pub(super) fn take_outstanding(&mut self) -> Option<(Span, Range<usize>)> {
        match std::mem::take(self) {
            Request::Outstanding(span, part) => return Some((span, part)),
            other => *self = other,
        }
        None
    }

    pub(super) fn is_outstanding(&self) -> bool {
        matches!(self, Request::Outstanding(..))
    }
}

/// A session's sends: those that have been handed over, and behind them those that have not.
#[derive(Default)]
pub(super) struct Sends {
    /// By their numbers, which go round.
    requests: [Request; SENDS_MAX],
    first: usize,
    handed_over: usize,
    all: usize,
}

impl Sends {
    /// The number of the one that is so far behind the first.
    fn number(&self, behind: usize) -> usize {
        (self.first + behind) % SENDS_MAX
    }

    pub(super) fn by_number(&mut self, number: usize) -> &mut Request {
        &mut self.requests[number]
    }

    pub(super) fn ask(&mut self, span: Span) {
        debug_assert!(self.all < SENDS_MAX, "as many sends in flight as a session may have");
        let number = self.number(self.all);
        self.requests[number] = Request::Asked(span, 0);
        self.all += 1;
    }

    /// Takes what the kernel is to have next, and its number. What is behind a part of a span waits for the rest of that.
    pub(super) fn take_next(&mut self) -> Option<(usize, Span, usize)> {
        if self.handed_over == self.all || self.is_cut() {
            return None;
        }
        let number = self.number(self.handed_over);
        let (span, from) = self.requests[number].take_asked()?;
        Some((number, span, from))
    }

    /// Whether the last that was handed over is not all of its span.
    fn is_cut(&self) -> bool {
        let last = self.handed_over.checked_sub(1).map(|last| &self.requests[self.number(last)]);
        matches!(last, Some(Request::Outstanding(span, part)) if part.end < span.len())
    }

    /// The same, with what has become of it.
    pub(super) fn hand_over(&mut self, number: usize, request: Request) {
        self.requests[number] = request;
        self.handed_over += 1;
    }

    /// What has not been handed over will not be.
    pub(super) fn refuse_rest(&mut self, why: io::ErrorKind) {
        for behind in self.handed_over..self.all {
            let number = self.number(behind);
            if let Some((span, _)) = self.requests[number].take_asked() {
                self.requests[number] = Request::Over(span, Err(why.into()));
            }
        }
        self.handed_over = self.all;
    }

    /// One has come back. Tells whether its rest is to go next: where it is not whole, and nothing that was handed over is
    /// behind it.
    pub(super) fn come_back(&mut self, number: usize, span: Span, outcome: io::Result<usize>) -> bool {
        let last = self.handed_over.checked_sub(1).map(|last| self.number(last));
        let rest = match &outcome {
            Ok(bytes) if *bytes < span.len() && last == Some(number) => Some(*bytes),
            _ => None,
        };
        self.requests[number] = match rest {
            Some(from) => Request::Asked(span, from),
            None => Request::Over(span, outcome),
        };
        self.handed_over -= usize::from(rest.is_some());
        rest.is_some()
    }

    /// The first, if it has come back.
    pub(super) fn take_over(&mut self) -> Option<(Span, io::Result<usize>)> {
        let first = &mut self.requests[self.first];
        match std::mem::take(first) {
            Request::Over(span, outcome) => {
                (self.first, self.handed_over, self.all) =
                    (self.number(1), self.handed_over - 1, self.all - 1);
                Some((span, outcome))
            }
            other => {
                *first = other;
                None
            }
        }
    }

    pub(super) fn are_outstanding(&self) -> bool {
        self.requests.iter().any(Request::is_outstanding)
    }
}

/// How many bits of a context say which of a session's sends it is.
const NUMBER_BITS: u32 = SENDS_MAX.trailing_zeros();

/// What a completion carries to tell what it is of, besides the generation, which its request queue has. It comes
/// from a pointer's place and so has no more than 32 bits everywhere.
pub(super) fn context(index: u32, way: Way, number: usize) -> u32 {
    (index << NUMBER_BITS | number as u32) << 1 | way as u32
}

pub(super) fn whose(context: u64) -> (u32, Way, usize) {
    let way = if context & 1 == 0 { Way::Receive } else { Way::Send };
    let number = (context >> 1) as usize % SENDS_MAX;
    ((context >> 1 >> NUMBER_BITS) as u32, way, number)
}
