//! Send path, 3 of 3: claim → ring → **pump** → driver. The pump hands what is committed to the kernel; any
//! thread may run it, one at a time, by taking the pump flag.
//!
//! Normally that is the engine. When the engine sleeps, the sender itself hands its message to the
//! kernel, which spares a wake-up; after a few such sends in one sleep it wakes the engine as well, so
//! that a stream of messages does not pay a system call each.
//!
//! A driver whose sends complete late, as when the peer has acknowledged them, takes several: what is committed
//! meanwhile goes as the next one, and the ring gets its bytes back in the order in which they went.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::num::NonZeroU64;

use super::greeting::Greeting;
use super::ring::Reader;
use super::{SendPath, is_even};
use crate::cursor::Guard;
use crate::driver::{Direct, Driver, SlotId};
use crate::region::Span;
use crate::wait;

/// So many direct sends in one sleep of the engine are a stream: it is woken.
pub(super) const DIRECT_SENDS: u32 = 4;

/// What ends a session of whose sends one was short and others were behind it: the peer would take what follows the
/// hole for something else. The connection is closed at once.
pub(crate) const BROKEN: ErrorKind = ErrorKind::WriteZero;

/// So many requests to send one after the other, then the others have their turn.
const ROUNDS: usize = 4;

/// What the pump flag guards. In this order, so that what each request takes is on one line of a cache.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Pump {
    pub(super) reader: Reader,
    pub(super) direct: Option<Direct>,
    /// The driver has so many spans, and takes so many.
    pub(super) in_flight: u8,
    pub(super) sends: u8,
    /// The kernel had no room at the last direct send.
    pub(super) blocked: bool,
    pub(super) failed: Option<ErrorKind>,
    /// What was given out, or the first of it, is the greeting's; under TLS, also that there is something to say beside the
    /// ring's.
    pub(super) greets: bool,
    /// It goes before what the ring has.
    pub(super) greeting: Greeting,
}

// But for what a simulated network adds, and where a socket is no descriptor.
#[cfg(all(unix, target_pointer_width = "64", not(feature = "sim")))]
const _: () = assert!(size_of::<u64>() + std::mem::offset_of!(Pump, greeting) + size_of::<Span>() <= 64);

impl Pump {
    pub(super) fn new(greeting: Greeting) -> Pump {
        let (reader, direct, failed) = (Reader::default(), None, None);
        Pump { greeting, greets: false, reader, in_flight: 0, sends: 1, direct, blocked: false, failed }
    }

    /// For a new session.
    pub(super) fn reset(&mut self) {
        self.greeting.reset();
        (self.greets, self.in_flight, self.sends, self.blocked) = (false, 0, 1, false);
        (self.reader, self.direct, self.failed) = (Reader::default(), None, None);
    }
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
    /// The engine sleeps: this thread hands what is committed to the kernel. What that does not take is
    /// the engine's.
    #[cold]
    pub(super) fn send_directly(&self) {
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
            // Nothing is left to do for it, but it is to know who sends.
            self.bell.ring(self.index);
        }
    }

    fn pump_direct(&self, pump: &mut Guard<'_, Pump>) -> Pumped {
        let pump: &mut Pump = pump;
        if pump.failed.is_some() {
            return Pumped::Failed;
        }
        if pump.in_flight > 0 {
            // Its completion wakes the engine, which goes on.
            return if pump.in_flight >= pump.sends { Pumped::All } else { Pumped::More };
        }
        for _ in 0..ROUNDS {
            if pump.blocked {
                return Pumped::More;
            }
            if pump.direct.is_none() {
                return Pumped::More;
            }
            let Some(span) = self.next(pump) else { return Pumped::All };
            let Some(direct) = &pump.direct else { return Pumped::More };
            let outcome = direct.send(self.ring.bytes(&span));
            match outcome {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.give_back(pump, span, 0);
                    pump.blocked = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.give_back(pump, span, 0);
                }
                outcome => {
                    // After a short send the kernel has no more room: the driver waits for it.
                    pump.blocked = outcome.as_ref().is_ok_and(|&bytes| bytes < span.len());
                    let greets = pump.greets;
                    if self.account(pump, span, outcome).is_err() {
                        return Pumped::Failed;
                    }
                    if !greets && self.ring.is_caught_up(&pump.reader) {
                        // Who has committed since has marked the session, or found the flag taken and marked
                        // it then, or relies on the engine's next look. To look again would take the word's line
                        // away from the senders.
                        return Pumped::All;
                    }
                }
            }
        }
        if self.is_all_taken(pump) { Pumped::All } else { Pumped::More }
    }

    /// For the engine: hands what is committed to the kernel. An error is the connection's end.
    pub(crate) fn pump<D: Driver>(&self, id: SlotId, driver: &mut D, batched: bool) -> Result<(), ErrorKind> {
        let Some(mut pump) = self.pump.try_take() else {
            // A sender is at it. What it leaves is found by the mark.
            self.bell.mark(self.index);
            return Ok(());
        };
        if let Some(kind) = pump.failed {
            // A direct send has found out, and the kernel tells of a reset once: the driver would hear of something else.
            return Err(kind);
        }
        if !batched {
            match self.pump_direct(&mut pump) {
                Pumped::All => return Ok(()),
                Pumped::More => {}
                Pumped::Failed => return Err(pump.failed.unwrap_or(ErrorKind::ConnectionAborted)),
            }
        }
        if pump.in_flight >= D::SENDS {
            return Ok(());
        }
        if pump.direct.is_some() && !pump.blocked && !batched {
            // More came while this thread sent: the others have their turn first.
            self.bell.mark(self.index);
            return Ok(());
        }
        let pump: &mut Pump = &mut pump;
        while let Some(span) = self.next(pump) {
            pump.in_flight += 1;
            driver.send(id, span);
            if D::SENDS == 1 || pump.in_flight == D::SENDS {
                break;
            }
        }
        Ok(())
    }

    /// For the holder of the pump flag, while the driver takes another: what the kernel is to take next.
    #[inline(always)]
    fn next(&self, pump: &mut Pump) -> Option<Span> {
        #[cfg(feature = "tls")]
        if let Some(sealed) = &self.sealed {
            return self.next_sealed(pump, sealed);
        }
        let greeting = pump.greeting.next();
        if greeting.is_some() {
            pump.greets = true;
            return greeting;
        }
        self.ring.next(&mut pump.reader)
    }

    /// It comes back, and the kernel has taken so many of its bytes.
    #[inline(always)]
    fn give_back(&self, pump: &mut Pump, span: Span, bytes: usize) {
        #[cfg(feature = "tls")]
        if let Some(sealed) = &self.sealed {
            return self.give_back_sealed(pump, sealed, span, bytes);
        }
        match std::mem::take(&mut pump.greets) {
            true => pump.greeting.taken(span, bytes),
            false => self.ring.taken(&mut pump.reader, span, bytes),
        }
    }

    #[inline]
    fn is_all_taken(&self, pump: &Pump) -> bool {
        #[cfg(feature = "tls")]
        if let Some(sealed) = &self.sealed {
            let (idle, over) = wait::take_soon(sealed).is_said();
            return over || idle && pump.greeting.is_said() && self.ring.is_drained(&pump.reader);
        }
        pump.greeting.is_said() && self.ring.is_drained(&pump.reader)
    }

    /// For the engine: the driver's send has completed.
    pub(crate) fn sent(&self, span: Span, outcome: io::Result<usize>) -> Result<(), ErrorKind> {
        let mut pump = wait::take_soon(&self.pump);
        pump.in_flight = 0;
        pump.blocked = false;
        self.bell.mark(self.index);
        self.account(&mut pump, span, outcome)
    }

    /// The same for a driver that takes several: the first of them has completed.
    pub(crate) fn sent_of_several(&self, span: Span, outcome: io::Result<usize>) -> Result<(), ErrorKind> {
        let mut pump = wait::take_soon(&self.pump);
        if pump.in_flight == 1 && pump.failed.is_none() {
            // Which takes the flag once more: what both would share costs the other drivers 3 instructions a request.
            drop(pump);
            return self.sent(span, outcome);
        }
        pump.in_flight -= 1;
        self.bell.mark(self.index);
        self.account_first(&mut pump, span, outcome)
    }

    /// The same as `account`, with others in flight behind it. Behind one that is not whole none counts, whatever has
    /// become of it.
    fn account_first(
        &self,
        pump: &mut Pump,
        span: Span,
        outcome: io::Result<usize>,
    ) -> Result<(), ErrorKind> {
        let (before, all) = (pump.failed, span.len());
        let bytes = if before.is_some() { 0 } else { *outcome.as_ref().unwrap_or(&0) };
        self.tally(bytes, all);
        self.give_back_first(pump, span, bytes);
        self.unstick(pump);
        self.lobby.tell();
        pump.failed = match outcome {
            _ if before.is_some() => before,
            Ok(bytes) if bytes == all => None,
            Ok(_) => Some(BROKEN),
            Err(error) => Some(error.kind()),
        };
        pump.failed.map_or(Ok(()), Err)
    }

    fn give_back_first(&self, pump: &mut Pump, span: Span, bytes: usize) {
        #[cfg(feature = "tls")]
        if let Some(sealed) = &self.sealed {
            return self.give_back_sealed(pump, sealed, span, bytes);
        }
        match std::mem::take(&mut pump.greets) {
            true => pump.greeting.taken(span, bytes),
            false if pump.failed.is_none() => self.ring.taken_first(&mut pump.reader, span, bytes),
            false => {}
        }
    }

    /// Books what the kernel took of a span. Where TLS is compiled in, the compiler would not take it in by itself, which
    /// costs a session without TLS 26 instructions for each request.
    #[inline(always)]
    fn account(&self, pump: &mut Pump, span: Span, outcome: io::Result<usize>) -> Result<(), ErrorKind> {
        let bytes = match &outcome {
            Ok(bytes) => *bytes,
            Err(_) => 0,
        };
        self.tally(bytes, span.len());
        self.give_back(pump, span, bytes);
        self.ring.rewind_if_empty(&mut pump.reader);
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

    #[inline(always)]
    fn tally(&self, bytes: usize, of: usize) {
        if bytes > 0 {
            self.tallies.batches_sent.add(1);
            self.tallies.short_sends.add(u64::from(bytes < of));
            self.tallies.bytes_sent.add(bytes as u64);
        }
    }

    /// For the holder of the pump flag: takes the note of a full ring back, when it is half empty and has room for what
    /// it had none for.
    #[inline]
    fn unstick(&self, pump: &Pump) {
        let stuck = self.stuck.observe();
        if !is_even(stuck) && self.ring.in_use(&pump.reader) <= self.roomy() {
            self.stuck.publish(stuck + 1);
        }
    }

    /// With so many bytes in use, or fewer, the frame that found no room has some, wherever the ring's end lies: it skips
    /// less than its own length there, and less than a block is acked and not yet released.
    #[cold]
    fn roomy(&self) -> u64 {
        let (capacity, wanted) = (self.ring.capacity(), self.wanted.own());
        (capacity - capacity / 16).saturating_sub(2 * wanted).min(capacity / 2)
    }

    /// Whether all that was accepted has been taken by the kernel.
    pub(crate) fn is_drained(&self) -> bool {
        // A sender may have the flag for a moment and find nothing to do: then nobody would look again.
        let pump = wait::take_soon(&self.pump);
        pump.in_flight == 0 && self.is_all_taken(&pump)
    }

    /// Which time the ring is stuck; `None` while it is not.
    pub(crate) fn stuck(&self) -> Option<NonZeroU64> {
        // The kernel may have taken everything while a sender was about to make its note.
        self.unstick(&wait::take_soon(&self.pump));
        // After the engine has taken the mark that says to look.
        NonZeroU64::new(self.stuck.look()).filter(|stuck| !is_even(stuck.get()))
    }
}
