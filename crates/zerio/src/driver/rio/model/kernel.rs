//! The kernel that the model plays: what it does with requests, when, and what they complete with.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::Model;
use super::chance::Liberties;
use super::queues::{Ready, Request, Requests};
use super::violation::{self, Violation};
use crate::driver::rio::table::{Outcome, Way};

impl Model {
    /// The kernel gets on: sessions in any order, each way of each in its own.
    pub(super) fn get_on(&mut self) {
        let places = self.requests.len();
        let first = self.chance.below(places.max(1));
        let mut left = match self.liberties.sessions {
            0 => places,
            some => some,
        };
        for place in (0..places).map(|place| (first + place) % places) {
            if left > 0 && self.requests[place].id.is_some() {
                self.get_on_at(place);
                left -= 1;
            }
        }
    }

    pub(super) fn get_on_at(&mut self, place: usize) {
        if self.refusing.completions || self.requests[place].id.is_none() {
            return;
        }
        let ways = [Way::Receive, Way::Send];
        let first = self.chance.below(2);
        for way in [ways[first], ways[1 - first]] {
            while let Some((status, bytes)) = self.attempt(place, way) {
                self.complete(place, way, status, bytes);
            }
        }
    }

    /// Tries the first request of a row: what it completes with, `None` while it does not.
    fn attempt(&mut self, place: usize, way: Way) -> Option<(i32, usize)> {
        let Model { requests, chance, liberties, buffers, .. } = self;
        let Requests { socket, kept, rows, moved, .. } = &mut requests[place];
        let request = rows[way as usize].waiting.front_mut()?;
        if !request.committed && socket.is_some() && !(liberties.early && chance.one_in(8)) {
            return None;
        }
        if request.delay > 0 {
            request.delay -= 1;
            return None;
        }
        let piece = request.piece;
        let memory = buffers[piece.buffer.0 as usize - 1].as_ref()?;
        violation::check(memory.sample(&piece) == request.sample, Violation::Touched, chance.seed);
        // WSA_OPERATION_ABORTED, STATUS_CANCELLED.
        let sends_on = kept.as_ref().filter(|_| way == Way::Send);
        let Some(socket) = socket.as_ref().or(sends_on) else {
            return Some((number(liberties, 995, 0xC000_0120), 0));
        };
        let whole = piece.len as usize;
        let outcome = match way {
            Way::Receive => {
                let short = liberties.short_receives && chance.one_in(3);
                let len = if short { 1 + chance.below(whole.max(1)) } else { whole };
                let outcome = memory.receive(socket, &piece, len.min(whole));
                moved[way as usize] += *outcome.as_ref().unwrap_or(&0) as u64;
                outcome
            }
            Way::Send => loop {
                let outcome = memory.send(socket, &piece, request.done);
                moved[way as usize] += *outcome.as_ref().unwrap_or(&0) as u64;
                match outcome {
                    Ok(bytes) if request.done + bytes < whole => request.done += bytes,
                    // It completes as a whole, or fails.
                    Ok(_) => break Ok(whole),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        let short = liberties.short_sends && request.done > 0 && chance.one_in(3);
                        break if short { Ok(request.done) } else { Err(error) };
                    }
                    Err(error) => break Err(error),
                }
            },
        };
        match outcome {
            Ok(bytes) => Some((0, bytes)),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => None,
                ErrorKind::ConnectionReset if liberties.cancels => {
                    Some((number(liberties, 995, 0xC000_0120), 0))
                }
                // WSAECONNRESET, STATUS_CONNECTION_RESET.
                ErrorKind::ConnectionReset => Some((number(liberties, 10054, 0xC000_020D), 0)),
                // WSAESHUTDOWN, STATUS_PIPE_DISCONNECTED.
                ErrorKind::BrokenPipe => Some((number(liberties, 10058, 0xC000_00B0), 0)),
                // WSAETIMEDOUT, STATUS_IO_TIMEOUT.
                ErrorKind::TimedOut => Some((number(liberties, 10060, 0xC000_00B5), 0)),
                // WSAECONNABORTED, STATUS_CONNECTION_ABORTED.
                _ => Some((number(liberties, 10053, 0xC000_0241), 0)),
            },
        }
    }

    fn complete(&mut self, place: usize, way: Way, status: i32, bytes: usize) {
        let requests = &mut self.requests[place];
        let at = requests.completions;
        let Some(request) = requests.rows[way as usize].waiting.pop_front() else { return };
        if requests.rows[Way::Send as usize].waiting.is_empty() {
            requests.kept = None;
        }
        let outcome = Outcome {
            status,
            bytes: bytes as u32,
            socket_context: u64::from(requests.context),
            request_context: u64::from(request.context),
        };
        let Request { piece, notifies, .. } = request;
        // Of a receive it is what the kernel itself has written.
        let sample = self.memory(piece.buffer).sample(&piece);
        let queue = self.queue(at);
        queue.ready.push_back(Ready { outcome, place, way, piece, sample, notifies });
        queue.tell();
        let fits = queue.ready.len() <= queue.size;
        self.check(fits, Violation::QueueOverflow);
    }
}

/// Winsock's number for a failure, or the kernel's.
fn number(liberties: &Liberties, winsock: i32, kernel: u32) -> i32 {
    if liberties.kernel_status { kernel as i32 } else { winsock }
}
