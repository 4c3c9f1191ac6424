//! The kernel that the model plays: what it does with requests, when, and what they complete with.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use socket2::Socket;

use super::Model;
use super::chance::{self, Chance, Liberties};
use super::queues::{Outgoing, Ready, Request, Requests};
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
    fn attempt(&mut self, place: usize, way: Way) -> Option<Outgoing> {
        match way {
            Way::Receive => self.attempt_receive(place),
            Way::Send => {
                self.send_on(place);
                self.sent(place)
            }
        }
    }

    fn attempt_receive(&mut self, place: usize) -> Option<Outgoing> {
        let Model { requests, chance, liberties, buffers, .. } = self;
        let Requests { socket, rows, moved, .. } = &mut requests[place];
        let request = rows[Way::Receive as usize].waiting.front_mut()?;
        if !is_begun(request, socket.is_some(), chance, liberties) {
            return None;
        }
        let memory = buffers[request.piece.buffer.0 as usize - 1].as_ref()?;
        violation::check(memory.sample(&request.piece) == request.sample, Violation::Touched, chance.seed);
        let Some(socket) = socket.as_ref() else { return Some(cancelled(liberties)) };
        let whole = request.piece.len as usize;
        let short = liberties.short_receives && chance.one_in(3);
        let len = if short { 1 + chance.below(whole.max(1)) } else { whole };
        match memory.receive(socket, &request.piece, len.min(whole)) {
            Ok(bytes) => {
                moved[Way::Receive as usize] += bytes as u64;
                Some((0, bytes))
            }
            Err(error) => failed(error.kind(), liberties),
        }
    }

    /// Hands to TCP what sends have, one after the other, as far as it takes that.
    fn send_on(&mut self, place: usize) {
        let Model { requests, chance, liberties, buffers, .. } = self;
        let Requests { socket, kept, rows, moved, .. } = &mut requests[place];
        let (is_open, socket) = (socket.is_some(), socket.as_ref().or(kept.as_ref()));
        let moved = &mut moved[Way::Send as usize];
        for request in rows[Way::Send as usize].waiting.iter_mut().filter(|request| request.sent.is_none()) {
            if !is_begun(request, is_open, chance, liberties) {
                return;
            }
            let Some(memory) = &buffers[request.piece.buffer.0 as usize - 1] else { return };
            violation::check(
                memory.sample(&request.piece) == request.sample,
                Violation::Touched,
                chance.seed,
            );
            let Some(socket) = socket else {
                request.sent = Some((cancelled(liberties), *moved));
                continue;
            };
            // It completes as a whole, or fails, but where a test says otherwise.
            let end = chance::take_cut().unwrap_or(request.piece.len as usize);
            while request.sent.is_none() {
                match memory.send(socket, &request.piece, request.done..end) {
                    Ok(bytes) => {
                        (request.done, *moved) = (request.done + bytes, *moved + bytes as u64);
                        request.sent = (request.done == end).then_some(((0, end), *moved));
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        let Some(outcome) = failed(error.kind(), liberties) else { return };
                        request.sent = Some((outcome, *moved));
                    }
                }
            }
        }
    }

    /// What the first send of a row completes with, if it does.
    fn sent(&mut self, place: usize) -> Option<Outgoing> {
        let (withheld, Model { requests, liberties, .. }) = (chance::is_withheld(), self);
        let Requests { socket, kept, rows, moved, .. } = &mut requests[place];
        let (outcome, until) = rows[Way::Send as usize].waiting.front()?.sent?;
        if outcome.0 != 0 || !(liberties.acknowledged || withheld) {
            return Some(outcome);
        }
        let Some(socket) = socket.as_ref().or(kept.as_ref()) else { return Some(cancelled(liberties)) };
        match unacknowledged(socket) {
            None => failed(ErrorKind::ConnectionReset, liberties),
            Some(bytes) if withheld || bytes > moved[Way::Send as usize] - until => None,
            Some(_) => Some(outcome),
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
        let shuffled = self.liberties.shuffled && self.chance.one_in(2);
        let queue = self.queue(at);
        let other = |ready: &Ready| ready.place == place && ready.way == way;
        let before = queue.ready.iter().position(other).filter(|_| shuffled);
        let ready = Ready { outcome, place, way, piece, sample, notifies };
        queue.ready.insert(before.unwrap_or(queue.ready.len()), ready);
        queue.tell();
        let fits = queue.ready.len() <= queue.size;
        self.check(fits, Violation::QueueOverflow);
    }
}

/// Whether the kernel is at a request.
fn is_begun(request: &mut Request, is_open: bool, chance: &mut Chance, liberties: &Liberties) -> bool {
    if !request.committed && is_open && !(liberties.early && chance.one_in(8)) {
        return false;
    }
    let waits = request.delay > 0;
    request.delay -= usize::from(waits);
    !waits
}

#[cfg(target_os = "linux")]
fn unacknowledged(socket: &Socket) -> Option<u64> {
    super::count::unacknowledged(socket)
}

#[cfg(not(target_os = "linux"))]
fn unacknowledged(_: &Socket) -> Option<u64> {
    Some(0)
}

/// WSA_OPERATION_ABORTED, STATUS_CANCELLED.
fn cancelled(liberties: &Liberties) -> Outgoing {
    (number(liberties, 995, 0xC000_0120), 0)
}

/// What a request fails with; `None` where it goes on.
fn failed(kind: ErrorKind, liberties: &Liberties) -> Option<Outgoing> {
    let status = match kind {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => return None,
        ErrorKind::ConnectionReset if liberties.cancels => return Some(cancelled(liberties)),
        // WSAECONNRESET, STATUS_CONNECTION_RESET.
        ErrorKind::ConnectionReset => number(liberties, 10054, 0xC000_020D),
        // WSAESHUTDOWN, STATUS_PIPE_DISCONNECTED.
        ErrorKind::BrokenPipe => number(liberties, 10058, 0xC000_00B0),
        // WSAETIMEDOUT, STATUS_IO_TIMEOUT.
        ErrorKind::TimedOut => number(liberties, 10060, 0xC000_00B5),
        // WSAECONNABORTED, STATUS_CONNECTION_ABORTED.
        _ => number(liberties, 10053, 0xC000_0241),
    };
    Some((status, 0))
}

/// Winsock's number for a failure, or the kernel's.
fn number(liberties: &Liberties, winsock: i32, kernel: u32) -> i32 {
    if liberties.kernel_status { kernel as i32 } else { winsock }
}
