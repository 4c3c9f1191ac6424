//! A session: one connection after its handshake, in a slot of a fixed table. What its engine alone knows
//! of it ([`Session`]), and what other threads may reach ([`Slot`]).
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::{Config, HANDSHAKE_BYTES};
use crate::counters::{Counters, EngineTallies, EngineTotals, ReceivedTallies, SessionCounters};
use crate::cursor::{Flag, Requests, Tally};
use crate::driver::SlotId;
use crate::error::{Reason, RefusalCode};
use crate::recv::buffer::Buffer;
use crate::region::{Region, Span};
use crate::send::ring::Ring;
use crate::send::{Doorbell, SendPath};
use crate::time::{Clock, Time};
use crate::wire::{HELLO_FRAME, PeerId};

pub(crate) mod directory;
pub(crate) mod gate;
pub(crate) mod inbox;
pub(crate) mod peer;
pub(crate) mod table;

/// Requests about a session, as bits of its slot's [`Requests`].
pub(crate) mod request {
    /// Its reading is paused as long as this is set.
    pub(crate) const PAUSE: u32 = 1;
    /// It is to end, after what was accepted has been sent.
    pub(crate) const DISCONNECT: u32 = 2;
    /// It is to end at once: a newer session takes its id.
    pub(crate) const REPLACE: u32 = 4;
}

/// What an engine shares with every thread that holds a handle.
pub(crate) struct Shared {
    pub(crate) slots: Box<[Slot]>,
    pub(crate) bell: Arc<Doorbell>,
    pub(crate) tallies: EngineTallies,
    /// The engine is to drain its sessions and end.
    pub(crate) stopping: Flag,
    /// Connections it has, those included that are on their way to it.
    pub(crate) load: Tally,
    /// What time it is, for senders that wait until a deadline.
    pub(crate) clock: Clock,
    pub(crate) send_timeout: Duration,
}

/// A slot of the table, as other threads see it. What its engine takes of it for each message is on as few lines of a cache
/// as it goes.
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) send: SendPath,
    pub(crate) received: ReceivedTallies,
    pub(crate) requests: Requests,
    base: Mutex<Base>,
}

/// The counters when a slot's present session began: they count on over all its sessions.
#[derive(Default)]
struct Base {
    generation: u32,
    counters: SessionCounters,
}

impl Slot {
    /// What its session of this generation has done, unless another has begun since.
    pub(crate) fn session_counters(&self, generation: u32) -> Option<SessionCounters> {
        // Held to the end: the slot's next session begins under it.
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let present = base.generation == generation;
        present.then(|| self.counters().combine(&base.counters, u64::wrapping_sub))
    }

    /// What all its sessions have done.
    pub(crate) fn counters(&self) -> SessionCounters {
        SessionCounters { sent: self.send.counters(), received: self.received.read() }
    }

    /// Opens it for a new session.
    pub(crate) fn open(&self, generation: u32) {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        *base = Base { generation, counters: self.counters() };
        drop(base);
        self.requests.reset(generation);
        self.send.open(generation);
    }
}

/// A mutex that has allocated what it ever will: on some systems (macOS) one of std does when it is first locked, and
/// that is to be at the start.
pub(crate) fn used_once<T>(mutex: Mutex<T>) -> Mutex<T> {
    drop(mutex.lock());
    mutex
}

impl Shared {
    /// The memory of an engine: all that it will ever have. Gives the buffers of its sessions apart,
    /// which are the engine's alone.
    pub(crate) fn new(
        config: &Config,
        clock: Clock,
    ) -> std::io::Result<(Arc<Shared>, Arc<Region>, Vec<Buffer>)> {
        let slots = config.slots_per_engine();
        let memory = config.send_ring + config.receive_buffer + HANDSHAKE_BYTES + config.sealed_bytes();
        let region = if config.huge_pages { Region::huge } else { Region::new };
        // On a system of 32 bits that may be more than there are addresses.
        let bytes = slots.checked_mul(memory).ok_or(ErrorKind::OutOfMemory)?;
        let (region, mut cutter) = region(bytes)?;
        let bell = Arc::new(Doorbell::new(slots));
        // Those of all sessions together: who says no more than that has touched no page of his ring and buffer.
        let mut frames = || (0..slots).map(|_| cutter.cut(HELLO_FRAME)).collect::<Vec<_>>();
        let (greetings, lobbies) = (frames(), frames());
        let slot = |(index, greeting): (usize, Span)| {
            let ring = Ring::new(region.clone(), cutter.cut(config.send_ring));
            let send = SendPath::new(ring, greeting, bell.clone(), index as u32, config.message_max);
            #[cfg(feature = "tls")]
            let send = match config.sealed_bytes() {
                0 => send,
                bytes => send.under_tls(cutter.cut(bytes)),
            };
            Slot {
                send,
                received: ReceivedTallies::default(),
                requests: Requests::default(),
                base: used_once(Mutex::default()),
            }
        };
        let table: Box<[Slot]> = greetings.into_iter().enumerate().map(slot).collect();
        let mut buffer = |lobby| Buffer::new(lobby, cutter.cut(config.receive_buffer));
        let buffers = lobbies.into_iter().map(&mut buffer).collect();
        let shared = Shared {
            slots: table,
            bell,
            tallies: EngineTallies::default(),
            stopping: Flag::default(),
            load: Tally::default(),
            clock,
            send_timeout: config.send_timeout,
        };
        Ok((Arc::new(shared), region, buffers))
    }

    /// What the engine and its sessions have done so far.
    pub(crate) fn counters(&self) -> Counters {
        let add = |sum: SessionCounters, slot: &Slot| sum.combine(&slot.counters(), u64::wrapping_add);
        let sessions = self.slots.iter().fold(SessionCounters::default(), add);
        Counters { engine: self.engine_totals(), sessions }
    }

    /// What the engine alone has done so far.
    pub(crate) fn engine_totals(&self) -> EngineTotals {
        EngineTotals { wake_ups: self.bell.wake_ups.get(), ..self.tallies.read() }
    }

    /// The engine is to drain its sessions and end.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.bell.wake();
    }
}

/// Where a session stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot has no session.
    Free,
    /// A client's connection is being made.
    Connecting,
    /// Connected; the first frame is on its way.
    Handshaking,
    /// Messages go both ways.
    Open,
    /// It ends: what was accepted is still handed to the kernel, and the peer's end is waited for.
    Draining,
    /// It has ended: the driver gives back what it has.
    Closing,
}

/// What an engine knows of a slot's session. In this order, so that what each message takes, by the
/// defaults, is on its first line of a cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Session {
    pub(crate) id: SlotId,
    /// How many messages the slot had accepted when the session was last served.
    pub(crate) accepted: u64,
    /// Many of them had come at once the last time that any had come: after how many sleeps of its engine.
    pub(crate) busy: Option<NonZeroU64>,
    pub(crate) state: State,
    /// The driver has the room of its buffer.
    pub(crate) receiving: bool,
    /// Its reading is paused.
    pub(crate) paused: bool,
    /// What still comes is not handed to the handler.
    pub(crate) muted: bool,
    /// Somebody has asked for its end, and the engine has seen that.
    pub(crate) told_to_end: bool,
    /// The peer has sent its last byte.
    pub(crate) ended: bool,
    /// The peer has been told that nothing more comes.
    pub(crate) shut_down: bool,
    /// The handler has heard that it is connected.
    pub(crate) announced: bool,
    /// It waits for an older session with its id to end.
    pub(crate) awaiting: bool,
    /// How a send has failed: nothing more is sent, and what has arrived is still handled.
    pub(crate) lost: Option<ErrorKind>,
    pub(crate) refusal: Option<RefusalCode>,
    /// Its peer lives and has no room: the kernel is told to have patience.
    #[cfg(target_os = "linux")]
    pub(crate) patient: bool,
    /// When the present state must be over.
    pub(crate) deadline: Time,
    pub(crate) reason: Option<Reason>,
    /// Which time the ring is stuck, and when that is too long.
    pub(crate) stuck: Option<(NonZeroU64, Time)>,
    /// How many bytes had been sent when the peer's system was last seen to have taken all of them.
    #[cfg(target_os = "linux")]
    pub(crate) settled: Option<u64>,
    pub(crate) address: SocketAddr,
    /// Who it is; nobody before the handshake has told, and on a server before he was admitted.
    pub(crate) peer: PeerId,
}

impl Session {
    /// Tells its state.
    #[cfg(feature = "tracing")]
    fn trace(&self) {
        crate::trace::went_on(&self.peer, self.address, &self.state);
    }

    /// The table's slot `index`, free.
    pub(crate) fn free(index: u32) -> Session {
        Session::begin(SlotId { index, generation: 0 }, State::Free, NOWHERE, Time::NEVER)
    }

    pub(crate) fn begin(id: SlotId, state: State, address: SocketAddr, deadline: Time) -> Session {
        Session {
            id,
            state,
            peer: PeerId::NOBODY,
            address,
            receiving: false,
            paused: false,
            muted: false,
            told_to_end: false,
            ended: false,
            shut_down: false,
            announced: false,
            awaiting: false,
            refusal: None,
            reason: None,
            lost: None,
            deadline,
            stuck: None,
            accepted: 0,
            busy: None,
            #[cfg(target_os = "linux")]
            settled: None,
            #[cfg(target_os = "linux")]
            patient: false,
        }
    }

    /// The soonest of its deadlines.
    pub(crate) fn alarm(&self) -> Time {
        match self.stuck {
            Some((_, when)) => self.deadline.min(when),
            None => self.deadline,
        }
    }

    /// Whether messages may be handed to the handler now.
    #[inline]
    pub(crate) fn hears(&self) -> bool {
        matches!(self.state, State::Open | State::Draining) && !self.paused && !self.muted
    }
}

pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver;
    use socket2::Socket;

    #[test]
    fn the_bill_covers_the_tables() {
        let per_slot = size_of::<Slot>()
            + size_of::<Session>()
            + size_of::<Buffer>()
            // Of a hash table for twice as many as there can be, up to so many places for each.
            + 5 * (directory::BYTES_PER_SESSION + table::BYTES_PER_SESSION)
            + size_of::<(PeerId, crate::error::Undelivered)>()
            // Where others read its counters: this, and what the publisher knows of it.
            + size_of::<crate::send::observed::Observed>()
            + 512
            // Of a driver that takes the most sends at a time, what can complete, and what it knows of a connection.
            + driver::completions_max::<driver::rio::Rio<driver::rio::model::Model>>(1)
                * size_of::<driver::Completion<Socket>>()
            + driver::rio::BYTES_PER_SESSION
            // Among the slots that were heard.
            + size_of::<u32>()
            + size_of::<(Socket, SocketAddr)>()
            // What stands between ring and kernel under TLS: not as much.
            + 1024;
        assert!(per_slot <= crate::config::TABLES_PER_SLOT, "{per_slot} bytes");
    }
}
