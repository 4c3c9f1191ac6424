//! The send path: claim → ring → pump → driver. [`SendPath`] is all that a sender needs to know of a session,
//! and what its engine asks of the path; what it is made of is in the files of this folder.
#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
use std::io;
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::task;
use std::time::Duration;

pub(crate) mod claim;
mod doorbell;
mod greeting;
#[cfg(feature = "sim")]
mod inspect;
pub(crate) mod observed;
mod pump;
pub(crate) mod ring;
#[cfg(feature = "tls")]
pub(crate) mod sealed;
mod sole;

use crate::counters::{Sent, SentTallies};
use crate::cursor::{self, ClosedMeanwhile, Cursor, Guarded, Hold, Padded, Promise};
use crate::driver::Direct;
use crate::error::{SendError, Undelivered};
use crate::region::Span;
#[cfg(feature = "tokio")]
use crate::wait::Ticket;
use crate::wait::{self, Backoff, Lobby};
use crate::wire::HEADER;
use claim::Claim;
pub(crate) use doorbell::Doorbell;
use greeting::Greeting;
use observed::Fill;
pub(crate) use pump::BROKEN;
use pump::Pump;
use ring::Ring;
#[cfg(feature = "tls")]
use sealed::Sealed;
pub(crate) use sole::Sole;

/// The longest message, in bytes, that is copied while the ring is held, if it may be so long: who wants to close it waits
/// for that. A longer one takes longer to copy than a claim costs.
const HELD_COPY_MAX: usize = 4096;

/// All that a sender needs to know of a session: its ring, its pump, and the engine's doorbell. In this order, so that what
/// each message and each request reads is on one line of a cache.
#[repr(C)]
pub(crate) struct SendPath {
    pub(crate) ring: Ring,
    /// On lines of their own: each request to send writes them, and each message reads their neighbours.
    pump: Padded<Guarded<Pump>>,
    tallies: Padded<SentTallies>,
    bell: Arc<Doorbell>,
    message_max: usize,
    /// The longest message that is copied while the ring is held.
    held_max: usize,
    /// Odd while the ring was found full, by a frame of so many bytes, and has not had room again.
    stuck: Cursor,
    /// Where sessions speak TLS: what stands between the ring and the kernel. It is the pump's, and only apart because
    /// the pump fills its line.
    #[cfg(feature = "tls")]
    sealed: Option<Box<Guarded<Sealed>>>,
    index: u32,
    /// The engine looks at the ring in each of its turns: nobody need tell it.
    watched: Promise,
    lobby: Lobby,
    wanted: Cursor,
}

/// What an attempt at a place came to.
enum Attempt<'a> {
    /// A place, or the reason why there will be none.
    Over(Result<Claim<'a>, SendError>),
    /// There is none, and the lobby is told when there may be.
    ToldLater,
    /// The same, and nobody will tell.
    NotTold,
}

impl SendPath {
    /// `greeting` is memory for the handshake's frame, `HELLO_FRAME` bytes.
    pub(crate) fn new(
        ring: Ring,
        greeting: Span,
        bell: Arc<Doorbell>,
        index: u32,
        message_max: usize,
    ) -> SendPath {
        SendPath {
            ring,
            pump: Padded(Guarded::new(Pump::new(Greeting::new(greeting)))),
            tallies: Padded(SentTallies::default()),
            lobby: Lobby::new(),
            bell,
            index,
            message_max,
            held_max: message_max.min(HELD_COPY_MAX),
            watched: Promise::default(),
            stuck: Cursor::default(),
            wanted: Cursor::default(),
            #[cfg(feature = "tls")]
            sealed: None,
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
        if message.len() > self.held_max {
            return self.send_long(generation, message);
        }
        let len = (HEADER + message.len()) as u64;
        // Not by way of a claim: that it is a value with a drop costs a third of a small message.
        let committed = match self.ring.hold() {
            Hold::Own(committed) if self.ring.is_for(generation) && self.ring.is_clear(committed, len) => {
                self.ring.write(committed, message);
                self.ring.count();
                self.ring.word().commit_own(committed + len);
                self.tell_engine_if_no_stream();
                return Ok(());
            }
            hold => self.held(hold)?,
        };
        if self.ring.is_for(generation) && self.ring.is_clear(committed, len) {
            self.ring.write(committed, message);
            self.ring.count();
            self.commit(committed + len);
            return Ok(());
        }
        self.send_held(generation, committed, message)
    }

    /// One that is copied while the ring is claimed, or is too long.
    #[inline(never)]
    fn send_long(&self, generation: u32, message: &[u8]) -> Result<(), SendError> {
        let mut claim = self.claim_now(generation, message.len())?;
        claim.copy_from_slice(message);
        claim.commit()
    }

    /// For a thread that holds the ring, and lets go: one for which there may be no room, of which a note must be made, or
    /// which was meant for another session.
    #[cold]
    #[inline(never)]
    fn send_held(&self, generation: u32, committed: u64, message: &[u8]) -> Result<(), SendError> {
        let start = self.place_held(generation, committed, message.len())?;
        self.ring.write(start, message);
        self.ring.note(committed, start);
        self.commit(start + (HEADER + message.len()) as u64);
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
        self.check_len(len)?;
        let committed = self.hold()?;
        let start = self.place_held(generation, committed, len)?;
        Ok(self.keep(committed, start, len))
    }

    /// For a thread that holds the ring: keeps it for as long as a user likes.
    #[inline]
    fn keep(&self, committed: u64, start: u64, len: usize) -> Claim<'_> {
        self.ring.word().claim(committed);
        Claim::new(self, committed, start, len, false)
    }

    /// Holds the ring: where its committed bytes end.
    #[inline(always)]
    fn hold(&self) -> Result<u64, SendError> {
        self.held(self.ring.hold())
    }

    /// What the first attempt has come to, or, where somebody has the ring, one of the next.
    #[inline(always)]
    fn held(&self, hold: Hold) -> Result<u64, SendError> {
        match hold {
            Hold::Held(committed) | Hold::Own(committed) => Ok(committed),
            Hold::Closed => Err(SendError::Closed),
            Hold::Busy => self.hold_soon(),
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
        // one: to park and to be woken costs as much as thousands of messages. Not before others who wait.
        let mut backoff = Backoff::default();
        match self.try_claim(generation, len) {
            Err(SendError::Full) => {}
            outcome => return outcome,
        }
        loop {
            match self.claim_now(generation, len) {
                Err(SendError::Full) if wait::in_handler() => return Err(SendError::Full),
                Err(SendError::Full) if backoff.is_spent() || self.lobby.is_occupied() => break,
                Err(SendError::Full) => backoff.pause(),
                outcome => return outcome,
            }
        }
        // Where nobody tells, it is the lobby that looks again soon.
        let attempt = || match self.attempt(generation, len) {
            Attempt::Over(outcome) => Some(outcome),
            Attempt::ToldLater | Attempt::NotTold => None,
        };
        self.lobby.wait(left, attempt).unwrap_or(Err(SendError::TimedOut))
    }

    /// The same for a task, which is woken when it is to try again.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_claim(
        &self,
        generation: u32,
        len: usize,
        ticket: &mut Ticket,
        task: &mut task::Context<'_>,
    ) -> task::Poll<Result<Claim<'_>, SendError>> {
        let attempt = || match self.attempt(generation, len) {
            Attempt::Over(outcome) => Some(task::Poll::Ready(outcome)),
            Attempt::ToldLater => None,
            Attempt::NotTold => Some(task::Poll::Pending),
        };
        match self.lobby.enroll(ticket, task.waker(), attempt) {
            Some(task::Poll::Pending) => {
                task.waker().wake_by_ref();
                task::Poll::Pending
            }
            outcome => outcome.unwrap_or(task::Poll::Pending),
        }
    }

    /// A task does not wait any more.
    #[cfg(feature = "tokio")]
    pub(crate) fn withdraw(&self, ticket: &mut Ticket) {
        self.lobby.withdraw(ticket);
    }

    /// One attempt at a place, of somebody who waits in the lobby. Cold, so that it takes nothing from who need not wait.
    #[cold]
    #[inline(never)]
    fn attempt(&self, generation: u32, len: usize) -> Attempt<'_> {
        if let Err(error) = self.check_len(len) {
            return Attempt::Over(Err(error));
        }
        let mut backoff = Backoff::default();
        let committed = loop {
            match self.ring.hold() {
                Hold::Held(committed) | Hold::Own(committed) => break committed,
                Hold::Closed => return Attempt::Over(Err(SendError::Closed)),
                Hold::Busy if self.ring.word().ask_to_be_told() => return Attempt::ToldLater,
                // Nobody has a claim: it is held, for a moment, or was. A holder who has lost his core tells
                // nobody when he goes on.
                Hold::Busy if backoff.is_spent() => return Attempt::NotTold,
                Hold::Busy => {
                    self.disown();
                    backoff.pause();
                }
            }
        };
        match self.place_held(generation, committed, len) {
            Err(SendError::Full) => Attempt::ToldLater,
            place => Attempt::Over(place.map(|start| self.keep(committed, start, len))),
        }
    }

    #[inline]
    fn check_len(&self, len: usize) -> Result<(), SendError> {
        let max = self.message_max;
        if len <= max { Ok(()) } else { Err(SendError::TooLarge { len, max }) }
    }

    /// Where a message of `len` bytes may stand, for a thread that holds the ring, and lets go if this fails.
    #[inline(always)]
    fn place_held(&self, generation: u32, committed: u64, len: usize) -> Result<u64, SendError> {
        if !self.ring.is_for(generation) {
            self.ring.word().let_go(committed);
            return Err(SendError::Closed);
        }
        if let Some(start) = self.ring.place(committed, (HEADER + len) as u64) {
            return Ok(start);
        }
        let news = self.note_full(len);
        self.ring.word().let_go(committed);
        if news {
            // The mark of an earlier message may stand, and be taken at this very moment: who takes it after this
            // sees the note. Not while the ring is held: that may be a system call.
            cursor::say_then_look();
            self.bell.ring(self.index);
        }
        Err(SendError::Full)
    }

    #[cold]
    fn hold_soon(&self) -> Result<u64, SendError> {
        let mut backoff = Backoff::default();
        while !backoff.is_spent() {
            self.disown();
            match self.ring.hold() {
                Hold::Held(committed) | Hold::Own(committed) => return Ok(committed),
                Hold::Closed => return Err(SendError::Closed),
                Hold::Busy => backoff.pause(),
            }
        }
        Err(SendError::Full)
    }

    /// Sees to it that the ring is no thread's own. False where that is to be tried again: see [`CommitWord::disown`].
    pub(crate) fn disown(&self) -> bool {
        self.ring.word().disown(wait::cross_barrier)
    }

    /// For a thread that may write to the ring: there is no room for a message of this length. Tells whether that is
    /// news for the engine.
    #[cold]
    fn note_full(&self, len: usize) -> bool {
        self.wanted.set((HEADER + len) as u64);
        let stuck = self.stuck.observe();
        let news = is_even(stuck);
        if news {
            self.stuck.publish(stuck + 1);
        }
        news
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

    /// Commits all before `to`, for a thread that holds the ring, which it lets go.
    #[inline]
    fn commit(&self, to: u64) {
        if self.watched.seems_to_hold() {
            self.ring.word().commit_on_stream(to);
            self.tell_engine_if_no_stream();
        } else {
            self.ring.word().commit_and_look(to);
            self.tell_engine();
        }
    }

    /// Something was committed by a store alone, as it is on a stream: the engine looks by itself, as long as that is one.
    #[inline(always)]
    fn tell_engine_if_no_stream(&self) {
        if !self.watched.holds() {
            self.tell_engine_after_stream();
        }
    }

    #[cold]
    #[inline(never)]
    fn tell_engine_after_stream(&self) {
        // It may have been given to this thread after the engine took it away, as the stream ended.
        self.disown();
        cursor::say_then_look();
        self.tell_engine();
    }

    /// The same for the owner of a claim.
    #[inline(never)]
    pub(super) fn commit_claim(&self, committed: u64, start: u64, len: usize) -> Result<(), SendError> {
        if self.ring.begins_block(start) {
            return self.commit_claim_in_new_block(committed, start, len);
        }
        self.commit_claim_noted(committed, start, len)
    }

    /// The same, apart: what calls a function in its middle has registers to save.
    #[cold]
    #[inline(never)]
    fn commit_claim_in_new_block(&self, committed: u64, start: u64, len: usize) -> Result<(), SendError> {
        self.ring.mark(start);
        self.commit_claim_noted(committed, start, len)
    }

    #[inline(always)]
    fn commit_claim_noted(&self, committed: u64, start: u64, len: usize) -> Result<(), SendError> {
        self.ring.note_in_block(committed, start);
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

    // The engine's side.

    /// Opens the path for a new session of the slot.
    pub(crate) fn open(&self, generation: u32) {
        wait::take_soon(&self.pump).reset();
        #[cfg(feature = "tls")]
        self.seal(Sealed::reset);
        if !is_even(self.stuck.observe()) {
            self.stuck.publish(self.stuck.observe() + 1);
        }
        self.watched.set(false);
        self.ring.open(generation);
    }

    /// Says the handshake's message, of at most `HELLO_MAX` bytes: once a session, and before all that others send.
    pub(crate) fn greet(&self, message: &[u8]) {
        wait::take_soon(&self.pump).greeting.say(self.ring.region(), message);
        // The engine is awake: it is here.
        self.bell.mark(self.index);
    }

    /// The session has a socket, which can be sent on directly, and whose driver takes so many sends at a time.
    pub(crate) fn connect(&self, direct: Option<Direct>, sends: u8) {
        let mut pump = wait::take_soon(&self.pump);
        (pump.direct, pump.sends) = (direct, sends);
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
        while !(self.disown() && self.ring.word().try_close()) {
            backoff.pause();
        }
        self.lobby.tell();
    }

    /// No thread uses the socket any more after this: it may be closed.
    pub(crate) fn disconnect(&self) {
        wait::take_soon(&self.pump).direct = None;
        #[cfg(feature = "tls")]
        self.seal(Sealed::forget);
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

    /// What was accepted and not taken by the kernel, when the path is closed and nothing is in flight.
    pub(crate) fn left(&self) -> Undelivered {
        let pump = wait::take_soon(&self.pump);
        self.ring.left(&pump.reader)
    }

    /// How full the ring is. `None` where it is not observed, or where another thread is just pumping.
    pub(crate) fn fill(&self) -> Option<Fill> {
        let (observed, pump) = (self.ring.observed()?, self.pump.try_take()?);
        let fill = self.ring.fill(&pump.reader);
        observed.look(fill.committed - fill.acked);
        Some(Fill { high_water: observed.high_water(), ..fill })
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
