//! Sessions on which messages are sent one after the other: the engine looks at their rings in each turn,
//! so that their senders need not tell it, which would cost a small message a third of its time.
//!
//! The engine promises that to the senders (`SendPath::watch`). Before it sleeps, or when a stream has dried
//! up, it takes the promise back: it crosses a [`ProcessBarrier`], a few µs, and looks once more. Then each
//! sender has either been seen, or sees that there is no promise, and tells. Where the system has no such
//! barrier there are no streams.
#![forbid(unsafe_code)]

use crate::cursor::ProcessBarrier;
use crate::driver::{Driver, SlotId};
use crate::handler::Handler;
use crate::session::Shared;

use super::{Core, Engine};

/// So many messages between two looks at a session are a stream: at 10 ns each they pay for the look, and
/// some hundred such looks for the barrier.
pub(super) const STREAM: u64 = 16;

/// An engine watches no more sessions than this: to look at them costs each turn some ns.
pub(super) const STREAMS_MAX: usize = 8;

/// So many looks without a message, some ms of spinning, and the stream has dried up.
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
}

impl Streams {
    pub(super) fn new() -> Streams {
        Streams { barrier: ProcessBarrier::new(), list: Vec::with_capacity(STREAMS_MAX) }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Takes back the promise about the streams from `first` on. False where that can't be done now.
    fn take_back(&mut self, shared: &Shared, first: usize) -> bool {
        if self.list.len() == first {
            return true;
        }
        let path = |stream: &Stream| &shared.slots[stream.id.index as usize].send;
        self.list[first..].iter().for_each(|stream| path(stream).watch(false));
        if !self.barrier.as_ref().is_some_and(ProcessBarrier::cross) {
            self.list[first..].iter().for_each(|stream| path(stream).watch(true));
            return false;
        }
        for stream in self.list.drain(first..) {
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
        if self.core.streams.list.is_empty() { 0 } else { self.look_at_streams(batched) }
    }

    fn look_at_streams(&mut self, batched: bool) -> usize {
        let (mut served, mut at) = (0, 0);
        while at < self.core.streams.list.len() {
            let core = &mut self.core;
            let stream = &mut core.streams.list[at];
            let index = stream.id.index as usize;
            if core.table.sessions[index].id != stream.id {
                // It has ended. The promise to its slot's next session, if there is one, is another.
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
                    core.streams.take_back(&core.shared, last);
                }
            }
            at += 1;
        }
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
        if news >= STREAM {
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

    /// The engine is about to sleep: false where it must not, because somebody may rely on its looks.
    pub(super) fn end_streams(&mut self) -> bool {
        self.streams.take_back(&self.shared, 0)
    }
}
