//! Send path, 3 of 3: claim → ring → **pump** → driver. The pump hands what is committed to the kernel; any
//! thread may run it, one at a time, by taking the pump flag.
//!
//! Normally that is the engine. When the engine sleeps, the sender itself hands its message to the
//! kernel, which spares a wake-up; after a few such sends in one sleep it wakes the engine as well, so
//! that a stream of messages does not pay a system call each.
#![deny(unsafe_code)]

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod claim;
mod doorbell;
pub(crate) mod ring;

use crate::counters::{Sent, SentTallies};
use crate::cursor::{self, ClosedMeanwhile, Cursor, Guard, Guarded, Hold, Padded, Promise};
use crate::driver::{Direct, Driver, SlotId};
use crate::error::{SendError, Undelivered};
use crate::region::Span;
use crate::wait::{self, Backoff, Lobby};
use crate::wire::HEADER;
use claim::Claim;
pub(crate) use doorbell::Doorbell;
use ring::{Reader, Ring};

/// So many direct sends in one sleep of the engine are a stream: it is woken.
const DIRECT_SENDS: u32 = 4;

/// So many requests to send one after the other, then the others have their turn.
const ROUNDS: usize = 4;

/// The proof that one thread alone sends on an engine's sessions: it need not hold their rings. There is
/// one for each polled engine, until the first handle that other threads could use is given away.
#[derive(Debug)]
pub(crate) struct Sole(());

impl Sole {
    /// For an engine whose sessions can't be reached from any other thread yet.
    pub(crate) fn new() -> Sole {
        Sole(())
    }
}

/// All that a sender needs to know of a session: its ring, its pump, and the engine's doorbell.
pub(crate) struct SendPath {
    pub(crate) ring: Ring,
    /// On lines of their own: each request to send writes them, and each message reads their neighbours.
    pump: Padded<Guarded<Pump>>,
    tallies: Padded<SentTallies>,
    lobby: Lobby,
    bell: Arc<Doorbell>,
    index: u32,
    message_max: usize,
    /// The engine looks at the ring in each of its turns: nobody need tell it.
    watched: Promise,
    /// Odd while the ring was found full and has not been half empty since.
    stuck: Cursor,
    /// Bytes of the handshake's frame, at the ring's start. The engine's own.
    greeting: Cursor,
}

/// What the pump flag guards.
#[derive(Debug, Default)]
struct Pump {
    reader: Reader,
    /// The driver has a span.
    in_flight: bool,
    direct: Option<Direct>,
    /// The kernel had no room at the last direct send.
    blocked: bool,
    failed: Option<ErrorKind>,
}

/// What a run of the pump came to.
#[derive(Debug, PartialEq, Eq)]
enum Pumped {
    /// All that was committed is with the kernel, or on its way there.
    All,
    /// There is more, which direct sends can't bring.
    More,
    /// The connection is gone.
    Failed,
}

impl SendPath {
    pub(crate) fn new(ring: Ring, bell: Arc<Doorbell>, index: u32, message_max: usize) -> SendPath {
        SendPath {
            ring,
            pump: Padded(Guarded::new(Pump::default())),
            tallies: Padded(SentTallies::default()),
            lobby: Lobby::default(),
            bell,
            index,
            message_max,
            watched: Promise::default(),
            stuck: Cursor::default(),
            greeting: Cursor::default(),
        }
    }

    // The sender's side.

    /// Accepts a message, or tells at once why not.
    #[inline]
    pub(crate) fn try_send(&self, generation: u32, message: &[u8]) -> Result<(), SendError> {
        match self.send_now(generation, message) {
            Err(SendError::Full) => Err(self.count_full()),
            outcome => outcome,
        }
    }

    /// The same for a sender who waits where there is no room, and is counted then.
    #[inline]
    pub(crate) fn send_now(&self, generation: u32, message: &[u8]) -> Result<(), SendError> {
        // Not by way of a claim: that it is a value with a drop costs a third of a small message.
        let (committed, start) = self.hold_place(generation, message.len())?;
        self.ring.write(start, message);
        self.commit(committed, start, HEADER + message.len());
        Ok(())
    }

    /// The same without holding the ring, for the one thread that can send on it: the engine's, which knows
    /// that the session is the slot's present one.
    #[inline(always)]
    pub(crate) fn try_send_sole(&self, _: &mut Sole, message: &[u8]) -> Result<(), SendError> {
        let (committed, start) = self.sole_place(message.len())?;
        self.ring.write(start, message);
        self.commit_sole(committed, start, HEADER + message.len());
        Ok(())
    }

    /// A place for a message of `len` bytes, or at once the reason why there is none.
    pub(crate) fn try_claim(&self, generation: u32, len: usize) -> Result<Claim<'_>, SendError> {
        match self.claim_now(generation, len) {
            Err(SendError::Full) => Err(self.count_full()),
            claim => claim,
        }
    }

    fn claim_now(&self, generation: u32, len: usize) -> Result<Claim<'_>, SendError> {
        let (committed, start) = self.hold_place(generation, len)?;
        Ok(self.keep(committed, start, len))
    }

    /// For a thread that holds the ring: keeps it for as long as a user likes.
    fn keep(&self, committed: u64, start: u64, len: usize) -> Claim<'_> {
        self.ring.word().claim(committed);
        Claim::new(self, committed, start, len, false)
    }

    /// The same without holding the ring, for the one thread that can send on it.
    pub(crate) fn try_claim_sole<'a>(&'a self, _: &'a mut Sole, len: usize) -> Result<Claim<'a>, SendError> {
        let (committed, start) = self.sole_place(len)?;
        Ok(Claim::new(self, committed, start, len, true))
    }

    /// Holds the ring: where its committed bytes end, and where a message of `len` bytes may stand.
    #[inline]
    fn hold_place(&self, generation: u32, len: usize) -> Result<(u64, u64), SendError> {
        self.check_len(len)?;
        let committed = match self.ring.hold() {
            Hold::Held(committed) => committed,
            Hold::Closed => return Err(SendError::Closed),
            Hold::Busy => self.hold_soon()?,
        };
        self.place_held(generation, committed, len)
    }

    /// The same where nobody else can hold it.
    #[inline(always)]
    fn sole_place(&self, len: usize) -> Result<(u64, u64), SendError> {
        self.check_len(len)?;
        let committed = self.ring.word().sole_position().ok_or(SendError::Closed)?;
        match self.ring.place(committed, (HEADER + len) as u64) {
            Some(start) => Ok((committed, start)),
            None => {
                self.full();
                Err(self.count_full())
            }
        }
    }

    /// A place for a message, waiting for it as long as `left` has time left.
    pub(crate) fn claim(
        &self,
        generation: u32,
        len: usize,
        left: impl FnMut() -> Option<Duration>,
    ) -> Result<Claim<'_>, SendError> {
        // First in the hope that the engine is at it, on another core or, when this thread yields, on this
        // one: to park and to be woken costs as much as thousands of messages.
        let mut backoff = Backoff::default();
        match self.try_claim(generation, len) {
            Err(SendError::Full) => {}
            outcome => return outcome,
        }
        loop {
            match self.claim_now(generation, len) {
                Err(SendError::Full) if wait::in_handler() => return Err(SendError::Full),
                Err(SendError::Full) if backoff.is_spent() => break,
                Err(SendError::Full) => backoff.pause(),
                outcome => return outcome,
            }
        }
        let attempt = || {
            let mut backoff = Backoff::default();
            let committed = loop {
                match self.ring.hold() {
                    Hold::Held(committed) => break committed,
                    Hold::Closed => return Some(Err(SendError::Closed)),
                    Hold::Busy if self.ring.word().ask_to_be_told() => return None,
                    // Nobody has a claim: it is held, for a moment, or was.
                    Hold::Busy => backoff.pause(),
                }
            };
            match self.place_held(generation, committed, len) {
                Err(SendError::Full) => None,
                place => Some(place.map(|(committed, start)| self.keep(committed, start, len))),
            }
        };
        self.lobby.wait(left, attempt).unwrap_or(Err(SendError::TimedOut))
    }

    #[inline]
    fn check_len(&self, len: usize) -> Result<(), SendError> {
        let max = self.message_max;
        if len <= max { Ok(()) } else { Err(SendError::TooLarge { len, max }) }
    }

    /// For a thread that holds the ring, and lets go if this fails.
    #[inline]
    fn place_held(&self, generation: u32, committed: u64, len: usize) -> Result<(u64, u64), SendError> {
        let failure = if !self.ring.is_for(generation) {
            SendError::Closed
        } else {
            match self.ring.place(committed, (HEADER + len) as u64) {
                Some(start) => return Ok((committed, start)),
                None => self.full(),
            }
        };
        self.ring.word().let_go(committed);
        Err(failure)
    }

    #[cold]
    fn hold_soon(&self) -> Result<u64, SendError> {
        let mut backoff = Backoff::default();
        while !backoff.is_spent() {
            backoff.pause();
            match self.ring.hold() {
                Hold::Held(committed) => return Ok(committed),
                Hold::Closed => return Err(SendError::Closed),
                Hold::Busy => {}
            }
        }
        Err(SendError::Full)
    }

    /// For a thread that may write to the ring: there is no room.
    #[cold]
    fn full(&self) -> SendError {
        let stuck = self.stuck.observe();
        if is_even(stuck) {
            self.stuck.publish(stuck + 1);
            self.bell.ring(self.index);
        }
        SendError::Full
    }

    #[cold]
    fn count_full(&self) -> SendError {
        self.tallies.full_rings.add_shared(1);
        SendError::Full
    }

    /// For the owner of a claim: gives it up.
    #[inline]
    pub(super) fn drop_claim(&self) {
        if self.ring.word().drop_claim() {
            self.lobby.tell();
        }
    }

    /// Commits the frame of `len` bytes that stands at `start`, on the engine's own thread.
    #[inline(always)]
    pub(super) fn commit_sole(&self, committed: u64, start: u64, len: usize) {
        self.ring.note(committed, start);
        self.ring.word().commit(start + len as u64);
        // The engine is awake: it is here.
        self.bell.mark(self.index);
    }

    /// Commits the frame of `len` bytes that stands at `start`, for a thread that holds the ring, which it lets
    /// go.
    #[inline]
    fn commit(&self, committed: u64, start: u64, len: usize) {
        self.ring.note(committed, start);
        let to = start + len as u64;
        if self.watched.seems_to_hold() {
            self.ring.word().commit(to);
            if self.watched.holds() {
                return;
            }
            cursor::say_then_look();
        } else {
            self.ring.word().commit_and_look(to);
        }
        self.tell_engine();
    }

    /// The same for the owner of a claim.
    pub(super) fn commit_claim(&self, committed: u64, start: u64, len: usize) -> Result<(), SendError> {
        self.ring.note(committed, start);
        match self.ring.word().commit_claim(start + len as u64) {
            Ok(false) => {}
            Ok(true) => self.lobby.tell(),
            Err(ClosedMeanwhile) => {
                self.ring.take_back();
                self.drop_claim();
                return Err(SendError::Closed);
            }
        }
        self.tell_engine();
        Ok(())
    }

    /// Something was committed, and this thread's looks come after that.
    #[inline]
    fn tell_engine(&self) {
        if self.bell.is_asleep() {
            self.send_directly();
        } else {
            self.bell.ring(self.index);
        }
    }

    /// The engine sleeps: this thread hands what is committed to the kernel. What that does not take is
    /// the engine's.
    #[cold]
    fn send_directly(&self) {
        let pumped = match self.pump.try_take() {
            Some(mut pump) => {
                let batches = self.tallies.batches_sent.get();
                let pumped = self.pump_direct(&mut pump);
                self.tallies.direct_sends.add(self.tallies.batches_sent.get() - batches);
                pumped
            }
            // Another thread is at it, and may have looked before this message was committed.
            None => Pumped::More,
        };
        if pumped != Pumped::All {
            self.bell.ring(self.index);
        } else if self.bell.count_direct() >= DIRECT_SENDS {
            self.bell.wake();
        }
    }

    // The pump.

    fn pump_direct(&self, pump: &mut Guard<'_, Pump>) -> Pumped {
        let pump: &mut Pump = pump;
        if pump.failed.is_some() {
            return Pumped::Failed;
        }
        if pump.in_flight {
            // Its completion wakes the engine, which goes on.
            return Pumped::All;
        }
        for _ in 0..ROUNDS {
            if pump.blocked {
                return Pumped::More;
            }
            let Some(direct) = &pump.direct else { return Pumped::More };
            let Some(span) = self.ring.next(&mut pump.reader) else { return Pumped::All };
            let outcome = direct.send(self.ring.bytes(&span));
            match outcome {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.ring.taken(&mut pump.reader, span, 0);
                    pump.blocked = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.ring.taken(&mut pump.reader, span, 0);
                }
                outcome => {
                    // After a short send the kernel has no more room: the driver waits for it.
                    pump.blocked = outcome.as_ref().is_ok_and(|&bytes| bytes < span.len());
                    if self.account(pump, span, outcome).is_err() {
                        return Pumped::Failed;
                    }
                    if self.ring.is_caught_up(&pump.reader) {
                        // Who has committed since has marked the session, or found the flag taken and marked
                        // it then. To look again would take the word's line away from the senders.
                        return Pumped::All;
                    }
                }
            }
        }
        if self.ring.is_drained(&pump.reader) { Pumped::All } else { Pumped::More }
    }

    /// For the engine: hands what is committed to the kernel. An error is the connection's end.
    pub(crate) fn pump<D: Driver>(&self, id: SlotId, driver: &mut D, batched: bool) -> Result<(), ErrorKind> {
        let Some(mut pump) = self.pump.try_take() else {
            // A sender is at it. What it leaves is found by the mark.
            self.bell.mark(self.index);
            return Ok(());
        };
        if !batched {
            match self.pump_direct(&mut pump) {
                Pumped::All => return Ok(()),
                Pumped::More => {}
                Pumped::Failed => return Err(pump.failed.unwrap_or(ErrorKind::ConnectionAborted)),
            }
        }
        if pump.in_flight {
            return Ok(());
        }
        if pump.direct.is_some() && !pump.blocked && !batched {
            // More came while this thread sent: the others have their turn first.
            self.bell.mark(self.index);
            return Ok(());
        }
        if let Some(span) = self.ring.next(&mut pump.reader) {
            pump.in_flight = true;
            driver.send(id, span);
        }
        Ok(())
    }

    /// For the engine: the driver's send has completed.
    pub(crate) fn sent(&self, span: Span, outcome: io::Result<usize>) -> Result<(), ErrorKind> {
        let mut pump = wait::take_soon(&self.pump);
        pump.in_flight = false;
        pump.blocked = false;
        self.bell.mark(self.index);
        self.account(&mut pump, span, outcome)
    }

    /// Books what the kernel took of a span.
    fn account(&self, pump: &mut Pump, span: Span, outcome: io::Result<usize>) -> Result<(), ErrorKind> {
        let bytes = match &outcome {
            Ok(bytes) => *bytes,
            Err(_) => 0,
        };
        if bytes > 0 {
            self.tallies.bytes_sent.add(bytes as u64);
            self.tallies.batches_sent.add(1);
            self.tallies.short_sends.add(u64::from(bytes < span.len()));
        }
        self.ring.taken(&mut pump.reader, span, bytes);
        self.unstick(pump);
        self.lobby.tell();
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => {
                pump.failed = Some(error.kind());
                Err(error.kind())
            }
        }
    }

    /// For the holder of the pump flag: takes the note of a full ring back, when it is half empty.
    #[inline]
    fn unstick(&self, pump: &Pump) {
        let stuck = self.stuck.observe();
        if !is_even(stuck) && self.ring.in_use(&pump.reader) <= self.ring.capacity() / 2 {
            self.stuck.publish(stuck + 1);
        }
    }

    // The engine's side.

    /// Opens the path for a new session of the slot.
    pub(crate) fn open(&self, generation: u32) {
        *wait::take_soon(&self.pump) = Pump::default();
        if !is_even(self.stuck.observe()) {
            self.stuck.publish(self.stuck.observe() + 1);
        }
        self.greeting.set(0);
        self.watched.set(false);
        self.ring.open(generation);
    }

    /// The handshake's frame, which may be longer than a message may: the first in an empty ring.
    pub(crate) fn greet(&self, generation: u32, frame: &[u8]) -> Result<(), SendError> {
        let mut backoff = Backoff::default();
        let committed = loop {
            match self.ring.hold() {
                Hold::Held(committed) => break committed,
                Hold::Closed => return Err(SendError::Closed),
                // A handle on the slot's last session, which is about to see that it is too late.
                Hold::Busy => backoff.pause(),
            }
        };
        let (committed, start) = self.place_held(generation, committed, frame.len())?;
        self.ring.write(start, frame);
        self.commit(committed, start, HEADER + frame.len());
        // It is nobody's message.
        self.ring.take_back();
        self.greeting.set((HEADER + frame.len()) as u64);
        Ok(())
    }

    /// The session has a socket, which can be sent on directly.
    pub(crate) fn connect(&self, direct: Option<Direct>) {
        wait::take_soon(&self.pump).direct = direct;
    }

    /// For the engine: the way to look at the socket.
    #[cfg(target_os = "linux")]
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Direct) -> io::Result<T>) -> Option<T> {
        wait::take_soon(&self.pump).direct.as_ref().and_then(|direct| look(direct).ok())
    }

    /// For the engine: how many bytes the kernel has taken, over all sessions of the slot.
    #[cfg(target_os = "linux")]
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.tallies.bytes_sent.get()
    }

    /// Accepts no more messages.
    pub(crate) fn close(&self) {
        let mut backoff = Backoff::default();
        while !self.ring.word().try_close() {
            backoff.pause();
        }
        self.lobby.tell();
    }

    /// No thread uses the socket any more after this: it may be closed.
    pub(crate) fn disconnect(&self) {
        wait::take_soon(&self.pump).direct = None;
    }

    /// Whether a sender still has a claim: the slot can't have a new session before it lets go.
    pub(crate) fn is_taken(&self) -> bool {
        self.ring.word().is_taken()
    }

    /// Where the committed bytes end.
    #[inline]
    pub(crate) fn committed(&self) -> u64 {
        self.ring.word().position()
    }

    /// How many messages have been accepted, over all sessions of the slot.
    #[inline]
    pub(crate) fn accepted(&self) -> u64 {
        self.ring.messages()
    }

    /// The engine promises to look at `committed` in each turn, or takes that back: then it must cross a
    /// process barrier and look once more.
    pub(crate) fn watch(&self, watched: bool) {
        self.watched.set(watched);
    }

    /// Whether all that was accepted has been taken by the kernel.
    pub(crate) fn is_drained(&self) -> bool {
        // A sender may have the flag for a moment and find nothing to do: then nobody would look again.
        let pump = wait::take_soon(&self.pump);
        !pump.in_flight && self.ring.is_drained(&pump.reader)
    }

    /// What was accepted and not taken by the kernel, when the path is closed and nothing is in flight.
    pub(crate) fn left(&self) -> Undelivered {
        let pump = wait::take_soon(&self.pump);
        let mut left = self.ring.left(&pump.reader);
        let greeting = self.greeting.own().saturating_sub(pump.reader.acked());
        if greeting > 0 {
            left.messages -= 1;
            left.bytes -= greeting;
        }
        left
    }

    /// Which time the ring is stuck; `None` while it is not.
    pub(crate) fn stuck(&self) -> Option<u64> {
        // The kernel may have taken everything while a sender was about to make its note.
        self.unstick(&wait::take_soon(&self.pump));
        Some(self.stuck.observe()).filter(|stuck| !is_even(*stuck))
    }

    pub(crate) fn counters(&self) -> Sent {
        Sent { messages_accepted: self.ring.messages(), ..self.tallies.read() }
    }
}

fn is_even(n: u64) -> bool {
    n & 1 == 0
}

#[cfg(test)]
mod tests;
