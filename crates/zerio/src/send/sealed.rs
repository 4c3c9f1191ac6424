//! Beside the send path, with TLS: what the kernel is given in place of the ring's bytes. The holder of the pump flag
//! seals what is committed into memory of its own, and the ring's bytes are acked when the kernel has taken the whole
//! record that they are in.
//!
//! ```text
//! ring ── seal ─▶ ciphertext ── pump ─▶ kernel
//! ```
//!
//! Where the driver takes several sends, what is committed meanwhile is sealed into what is left of the memory. All of
//! it is free again when nothing is in flight.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io::ErrorKind;

use super::SendPath;
use super::greeting::Greeting;
use super::pump::Pump;
use super::ring::{Reader, Ring};
use crate::config::{SEALED_BYTES, SEALED_RECORDS};
use crate::cursor::Guarded;
use crate::driver::SENDS_MAX;
use crate::region::Span;
use crate::tls::keys::Keys;
use crate::tls::record::{Kind, OVERHEAD, PLAIN_MAX};
use crate::wait;

/// So many bytes of the ring are sealed at once, at the most.
const BATCH: u64 = (SEALED_RECORDS * PLAIN_MAX) as u64;

/// The record around `PLAIN_MAX` bytes.
const FULL_RECORD: usize = PLAIN_MAX + OVERHEAD;

/// At most so many records are made at once: those of a batch, and an update of the key before them.
const RECORDS_AT_ONCE: u64 = SEALED_RECORDS as u64 + 1;

/// While something is in flight, what is left of the memory is used as long as it has room for a full record, and for
/// an update of the key before it.
const ROOM: usize = SEALED_BYTES - (SEALED_RECORDS - 1) * FULL_RECORD;

/// The shortest life of a key in which anything can be said under it.
#[cfg(feature = "sim")]
pub(crate) const KEY_LIFE_LEAST: u64 = RECORDS_AT_ONCE + 1;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What belongs to a handshake, or changes keys, may allocate, and no storm takes that for a fault.
pub(crate) fn may_allocate<T>(what: impl FnOnce() -> T) -> T {
    #[cfg(feature = "sim")]
    let _others = crate::driver::sim::Whose::others();
    what()
}

impl SendPath {
    /// A path whose sessions speak TLS; `memory` is `SEALED_BYTES` long.
    pub(crate) fn under_tls(mut self, memory: Span) -> SendPath {
        self.sealed = Some(Box::new(Guarded::new(Sealed::new(memory))));
        self
    }

    pub(super) fn next_sealed(&self, pump: &mut Pump, sealed: &Guarded<Sealed>) -> Option<Span> {
        let alone = pump.in_flight == 0;
        let Pump { greeting, reader, greets, failed, .. } = pump;
        match wait::take_soon(sealed).next(&self.ring, reader, greeting, alone) {
            Ok(next) => {
                let (span, says_more) = next?;
                *greets = says_more;
                Some(span)
            }
            Err(NoKey) => {
                *failed = Some(ErrorKind::InvalidData);
                self.bell.ring(self.index);
                None
            }
        }
    }

    pub(super) fn give_back_sealed(
        &self,
        pump: &mut Pump,
        sealed: &Guarded<Sealed>,
        span: Span,
        bytes: usize,
    ) {
        pump.greets = false;
        wait::take_soon(sealed).taken(span, bytes, &self.ring, &mut pump.reader);
    }

    /// For the engine, on its own thread: its next look serves the session.
    pub(crate) fn mark(&self) {
        self.bell.mark(self.index);
    }

    /// For the engine: changes what a session sends under TLS. What is to be sent is found when it is pumped.
    pub(crate) fn seal<T>(&self, change: impl FnOnce(&mut Sealed) -> T) -> Option<T> {
        let sealed = self.sealed.as_ref()?;
        let _pump = wait::take_soon(&self.pump);
        Some(change(&mut wait::take_soon(sealed)))
    }
}

/// rustls could not make the next key: a failure of the machine.
pub(super) struct NoKey;

/// What a session sends under TLS.
pub(crate) struct Sealed {
    // Three neighbours: what the kernel has taken, what it has not, and what is free. Between the first two is what it
    // has.
    taken: Span,
    /// Empty where nothing is left, and while the kernel has it.
    left: Span,
    free: Span,
    /// What the ciphertext is of that has not all been taken, the oldest first.
    batches: VecDeque<Batch>,
    /// What the handshake has to say and no longer had room for, and how much of it has gone.
    handshake: Vec<u8>,
    handshake_taken: usize,
    keys: Option<Keys>,
    /// The peer has asked for another key.
    renew: bool,
    /// What is to be said last, when everything else is said or at once.
    last: Last,
}

struct Batch {
    of: Of,
    len: usize,
    /// So many bytes of it the kernel has taken.
    taken: usize,
}

/// What a batch of ciphertext holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// Nothing of senders: a handshake, the greeting, an alert.
    Control,
    /// So many bytes of the ring that are not yet acked, behind so many bytes of control.
    Ring { before: usize, bytes: usize },
}

/// What a session says last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// Nothing yet.
    Open,
    /// That nothing more comes, behind everything else.
    Goodbye,
    /// What the peer did wrong, at once.
    Alert(u8),
    /// It has been said, or can't be.
    Said,
}

impl Sealed {
    /// `memory` is `SEALED_BYTES` long.
    pub(super) fn new(memory: Span) -> Sealed {
        let (taken, left, free) = thirds(memory);
        Sealed {
            taken,
            left,
            free,
            batches: VecDeque::with_capacity(SENDS_MAX),
            handshake: Vec::new(),
            handshake_taken: 0,
            keys: None,
            renew: false,
            last: Last::Open,
        }
    }

    /// For a new session.
    pub(super) fn reset(&mut self) {
        let free = self.restart();
        (self.taken, self.left, self.free) = thirds(free);
        self.batches.clear();
        (self.last, self.renew, self.handshake_taken) = (Last::Open, false, 0);
        self.handshake = Vec::new();
        self.keys = None;
    }

    /// Nobody will ask for more: the keys go.
    pub(super) fn forget(&mut self) {
        self.keys = None;
    }

    /// Bytes of the handshake, as they are to be sent.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.handshake.extend_from_slice(bytes);
    }

    /// The handshake is done.
    pub(crate) fn open(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    pub(crate) fn keys(&mut self) -> Option<&mut Keys> {
        self.keys.as_mut()
    }

    /// The peer wants another key.
    pub(crate) fn renew(&mut self) {
        self.renew = true;
    }

    /// Nothing more comes after what is accepted. Tells whether that was news.
    pub(crate) fn say_goodbye(&mut self) -> bool {
        let news = self.last == Last::Open && self.keys.is_some();
        if news {
            self.last = Last::Goodbye;
        }
        news
    }

    /// The session is over; `alert` tells the peer why, where there are keys to tell it under, and it has not been told
    /// that nothing more comes. Nothing else is sent.
    pub(crate) fn fail(&mut self, alert: Option<u8>) {
        self.last = match alert {
            Some(alert) if self.keys.is_some() && self.last != Last::Said => Last::Alert(alert),
            _ => Last::Said,
        };
    }

    /// Whether nothing is left to be said but what senders have committed; and whether not even that is.
    pub(super) fn is_said(&self) -> (bool, bool) {
        let unsaid = !self.handshake.is_empty() || self.is_pending();
        let idle = self.batches.is_empty() && !unsaid;
        (idle, idle && self.last == Last::Said)
    }

    /// Whether what is to be said last has not been said.
    fn is_pending(&self) -> bool {
        matches!(self.last, Last::Goodbye | Last::Alert(_))
    }

    /// Whether what is sealed is of the ring.
    pub(super) fn is_of_ring(&self) -> bool {
        self.batches.iter().any(|batch| matches!(batch.of, Of::Ring { .. }))
    }

    /// What the kernel is to take next, and whether that is nothing of the ring's, or there is something else to say yet.
    /// It has nothing where this is `alone`.
    pub(super) fn next(
        &mut self,
        ring: &Ring,
        reader: &mut Reader,
        greeting: &mut Greeting,
        alone: bool,
    ) -> Result<Option<(Span, bool)>, NoKey> {
        match self.left.is_empty() {
            true if alone => self.fill(ring, reader, greeting)?,
            true if self.free.len() >= ROOM => self.fill_behind(ring, reader, greeting)?,
            true => return Ok(None),
            // What was committed since these were sealed is not in them.
            false => ring.look(reader),
        }
        if self.left.is_empty() {
            return Ok(None);
        }
        let says_more = !self.is_of_ring() || self.is_pending();
        Ok(Some((self.left.split_off(0), says_more)))
    }

    /// Makes the next batch of ciphertext, if there is something to make it of.
    fn fill(&mut self, ring: &Ring, reader: &mut Reader, greeting: &mut Greeting) -> Result<(), NoKey> {
        let memory = self.restart();
        self.fill_memory(memory, ring, reader, greeting)
    }

    /// The same behind what is in flight.
    fn fill_behind(
        &mut self,
        ring: &Ring,
        reader: &mut Reader,
        greeting: &mut Greeting,
    ) -> Result<(), NoKey> {
        let memory = self.free.split_off(0);
        self.fill_memory(memory, ring, reader, greeting)
    }

    fn fill_memory(
        &mut self,
        mut memory: Span,
        ring: &Ring,
        reader: &mut Reader,
        greeting: &mut Greeting,
    ) -> Result<(), NoKey> {
        let bytes = ring.region().bytes_mut(&mut memory);
        let made = self.make(bytes, ring, reader, greeting);
        let (len, of) = *made.as_ref().unwrap_or(&(0, Of::Control));
        let free = memory.split_off(len);
        (self.left, self.free) = (memory, free);
        if len > 0 {
            self.batches.push_back(Batch { of, len, taken: 0 });
        }
        made.map(drop)
    }

    /// All of the memory, which `fill` cuts anew.
    fn restart(&mut self) -> Span {
        let (left, free) = (self.left.split_off(0), self.free.split_off(0));
        self.taken.join(left);
        self.taken.join(free);
        self.taken.split_off(0)
    }

    fn make(
        &mut self,
        out: &mut [u8],
        ring: &Ring,
        reader: &mut Reader,
        greeting: &mut Greeting,
    ) -> Result<(usize, Of), NoKey> {
        let mut of = Of::Control;
        if !self.handshake.is_empty() {
            return Ok((self.make_handshake(out), of));
        }
        let Some(keys) = &mut self.keys else { return Ok((0, of)) };
        if let Last::Alert(alert) = self.last {
            self.last = Last::Said;
            return Ok((keys.seal(Kind::Alert, &[FATAL, alert], out), of));
        }
        if self.last == Last::Said {
            return Ok((0, of));
        }
        let mut at = 0;
        if self.renew || keys.are_worn(RECORDS_AT_ONCE) {
            self.renew = false;
            at = may_allocate(|| keys.renew(out)).map_err(|_| NoKey)?;
        }
        if let Some(span) = greeting.next() {
            at += keys.seal(Kind::Data, ring.bytes(&span), &mut out[at..]);
            let all = span.len();
            greeting.taken(span, all);
        } else if let Some(span) = ring.next_within(reader, plain_max(out.len() - at)) {
            of = Of::Ring { before: at, bytes: span.len() };
            for plain in ring.bytes(&span).chunks(PLAIN_MAX) {
                at += keys.seal(Kind::Data, plain, &mut out[at..]);
            }
        } else if self.last == Last::Goodbye {
            self.last = Last::Said;
            at += keys.seal(Kind::Alert, &[WARNING, 0], &mut out[at..]);
        }
        Ok((at, of))
    }

    fn make_handshake(&mut self, out: &mut [u8]) -> usize {
        let rest = &self.handshake[self.handshake_taken..];
        let len = rest.len().min(out.len());
        out[..len].copy_from_slice(&rest[..len]);
        self.handshake_taken += len;
        if self.handshake_taken == self.handshake.len() {
            (self.handshake, self.handshake_taken) = (Vec::new(), 0);
        }
        len
    }

    /// The first span that is in flight comes back, and the kernel has taken so many of its bytes. Behind one that was not
    /// taken whole none counts.
    pub(super) fn taken(&mut self, mut span: Span, bytes: usize, ring: &Ring, reader: &mut Reader) {
        if !self.left.is_empty() {
            return self.left.join(span);
        }
        self.left = span.split_off(bytes);
        self.taken.join(span);
        let Some(batch) = self.batches.front_mut() else { return };
        batch.taken += bytes;
        let all = batch.taken == batch.len;
        match &mut batch.of {
            Of::Control => {}
            Of::Ring { bytes, .. } if all => {
                ring.copy_taken(reader, *bytes);
            }
            Of::Ring { before, bytes } => {
                // Of records that are full, all but the last one, those that the kernel has taken to their ends.
                let records = batch.taken.saturating_sub(*before) / FULL_RECORD;
                *before += records * FULL_RECORD;
                *bytes -= records * PLAIN_MAX;
                ring.copy_taken(reader, records * PLAIN_MAX);
            }
        }
        if all {
            self.batches.pop_front();
        }
    }
}

/// So many bytes of the ring are sealed at once into so many of memory, at the most.
fn plain_max(memory: usize) -> u64 {
    let last = (memory % FULL_RECORD).saturating_sub(OVERHEAD);
    BATCH.min((memory / FULL_RECORD * PLAIN_MAX + last) as u64)
}

/// The memory of a session that has nothing to say: all of it is free.
fn thirds(mut memory: Span) -> (Span, Span, Span) {
    let mut left = memory.split_off(0);
    let free = left.split_off(0);
    (memory, left, free)
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("batches", &self.batches.len())
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
