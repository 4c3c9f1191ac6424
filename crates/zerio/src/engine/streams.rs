//! Sessions on which messages are sent one after the other: the engine looks at their rings in each turn,
//! so that their senders need not tell it, which would cost a small message a third of its time.
//!
//! The engine promises that to the senders (`SendPath::watch`). Before it sleeps, or when a stream has dried
//! up, it takes the promise back: it crosses a [`ProcessBarrier`], a few µs, and looks once more. Then each
//! sender has either been seen, or sees that there is no promise, and tells. Where the system has no such
//! barrier there are no streams; where it fails later, the engine sleeps for short times only until the last
//! of them has ended.
#![forbid(unsafe_code)]

use std::num::NonZeroU64;

use crate::cursor::ProcessBarrier;
use crate::driver::{Driver, SlotId};
use crate::handler::Handler;
use crate::session::table::Table;
use crate::session::{Shared, State};
use crate::time::Clock;

use super::{Core, Engine};

/// So many messages between two looks at a session, twice in a row without a sleep of the engine, are a stream.
/// At 10 ns each they pay for a look, some hundred of them for a barrier: a burst alone must not cost one.
pub(super) const STREAM: u64 = 16;

/// An engine watches no more sessions than this: to look at them costs each turn some ns.
pub(super) const STREAMS_MAX: usize = 8;

/// So many looks without a message, some ms where the engine spins, and the stream has dried up.
pub(super) const QUIET_LOOKS: u32 = 10_000;

/// A session that is watched.
#[derive(Debug)]
struct Stream {
    id: SlotId,
    /// Where its committed bytes ended at the last look.
    committed: u64,
    /// Looks since there was news.
    quiet: u32,
}

/// The sessions that an engine watches.
#[derive(Debug)]
pub(super) struct Streams {
    barrier: Option<ProcessBarrier>,
    list: Vec<Stream>,
    /// How many of them had news at the last look.
    with_news: usize,
    /// How often the engine has slept, or was about to, and once more.
    sleeps: u64,
}

impl Streams {
    pub(super) fn new(clock: &Clock) -> Streams {
        let barrier = match clock {
            Clock::System(_) => ProcessBarrier::new(),
            #[cfg(feature = "sim")]
            Clock::Simulated(_) => Some(ProcessBarrier::OneThread),
        };
        Streams { barrier, list: Vec::with_capacity(STREAMS_MAX), with_news: 0, sleeps: 1 }
    }

    pub(super) fn with_news(&self) -> usize {
        self.with_news
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// As if the system had forbidden it after the start.
    #[cfg(test)]
    pub(super) fn lose_barrier(&mut self) {
        self.barrier = None;
    }

    /// Takes back the promise about the streams from `first` on, each of which is its slot's present session.
    /// False where that can't be done.
    fn take_back(&mut self, shared: &Shared, first: usize) -> bool {
        if self.list.len() == first {
            return true;
        }
        let path = |stream: &Stream| &shared.slots[stream.id.index as usize].send;
        self.list[first..].iter().for_each(|stream| path(stream).watch(false));
        if !self.barrier.as_ref().is_some_and(ProcessBarrier::cross) {
            self.list[first..].iter().for_each(|stream| path(stream).watch(true));
            self.barrier = None;
            return false;
        }
        for stream in self.list.drain(first..) {
            // A ring that is another thread's own does not go back to its start. Whose it is holds it now where this fails, and
            // gives it up when he sends next.
            path(&stream).disown();
            if path(&stream).committed() != stream.committed {
                shared.bell.ring(stream.id.index);
            }
        }
        true
    }
}

impl<D: Driver, H: Handler> Engine<D, H> {
    /// Serves each stream that has news.
    #[inline]
    pub(super) fn serve_streams(&mut self, batched: bool) -> usize {
        if self.core.streams.list.is_empty() {
            self.core.streams.with_news = 0;
            return 0;
        }
        self.look_at_streams(batched)
    }

    fn look_at_streams(&mut self, batched: bool) -> usize {
        let (mut served, mut at) = (0, 0);
        while at < self.core.streams.list.len() {
            let core = &mut self.core;
            let stream = &mut core.streams.list[at];
            let index = stream.id.index as usize;
            if has_ended(&core.table, stream.id) {
                core.streams.list.swap_remove(at);
                continue;
            }
            let committed = core.shared.slots[index].send.committed();
            if committed != stream.committed {
                stream.committed = committed;
                stream.quiet = 0;
                served += 1;
                self.serve(index, batched);
            } else {
                stream.quiet += 1;
                if stream.quiet >= QUIET_LOOKS {
                    stream.quiet = 0;
                    let last = core.streams.list.len() - 1;
                    core.streams.list.swap(at, last);
                    if core.streams.take_back(&core.shared, last) {
                        continue;
                    }
                }
            }
            at += 1;
        }
        self.core.streams.with_news = served;
        served
    }
}

impl Core {
    /// Watches a session, if so much has been sent on it since it was last served.
    #[inline]
    pub(super) fn watch_stream(&mut self, index: usize) {
        let accepted = self.shared.slots[index].send.accepted();
        let session = &mut self.table.sessions[index];
        let news = accepted.wrapping_sub(std::mem::replace(&mut session.accepted, accepted));
        if news == 0 {
            return;
        }
        let busy = NonZeroU64::new(self.streams.sleeps).filter(|_| news >= STREAM);
        if std::mem::replace(&mut session.busy, busy) == busy && busy.is_some() {
            self.begin_stream(index);
        }
    }

    fn begin_stream(&mut self, index: usize) {
        let (id, streams) = (self.table.sessions[index].id, &mut self.streams);
        // A sole sender tells for nothing.
        let full = streams.list.len() == STREAMS_MAX || streams.barrier.is_none() || self.sole.is_some();
        if full || streams.list.iter().any(|stream| stream.id == id) {
            return;
        }
        let send = &self.shared.slots[index].send;
        send.watch(true);
        // Whoever commits from here on may rely on it.
        streams.list.push(Stream { id, committed: send.committed(), quiet: 0 });
        // What was committed just before that may not have been served yet.
        self.shared.bell.ring(index as u32);
    }

    /// The engine is about to sleep: false where it must not for long, because somebody may rely on its looks.
    pub(super) fn end_streams(&mut self) -> bool {
        let table = &self.table;
        self.streams.sleeps += 1;
        self.streams.list.retain(|stream| !has_ended(table, stream.id));
        self.streams.take_back(&self.shared, 0)
    }
}

/// Whether nobody relies on looks at a session's ring any more: it is closed, and all that was committed is
/// sent or counted. The promise to the slot's next session, if there is one, is another.
fn has_ended(table: &Table, id: SlotId) -> bool {
    let session = &table.sessions[id.index as usize];
    session.id != id || session.state != State::Open
}
