//! Between an engine and a task: the handler puts what happens into a queue, and a stream takes it out.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use tokio::task::coop::poll_proceed;

use super::Peer;
use crate::engine::Context;
use crate::error::Disconnection;
use crate::handler::{Arrival, Handler, Refusal};
use crate::session::peer::Peer as Handle;

/// What happens on a server. For each session the events come in this order, each as often as a
/// [`Handler`](crate::Handler) hears it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A session began.
    Connected(Peer),
    /// A message came.
    Message(Peer, Bytes),
    /// A session ended; why, and what was left to send.
    Disconnected(Peer, Disconnection),
    /// An engine has ended by itself: its driver has failed, or `admit` has panicked, or the runtime has ended.
    /// [`Server::stop`](super::Server::stop) tells which. Where it was the only one, or the one that listens, nobody new
    /// comes in.
    #[non_exhaustive]
    EngineFailed {
        /// Its sessions that ended without a `Disconnected`, as they do after a panic.
        peers: Vec<Peer>,
    },
}

/// Messages are copied into blocks of so many bytes.
const BLOCK: usize = 64 * 1024;

/// What the engines of one server or client put in, and one stream takes out.
struct Queue {
    state: Mutex<State>,
    /// In bytes, what messages and their entries take: where there is more, sessions are no longer read.
    limit: usize,
}

struct State {
    events: VecDeque<Event>,
    bytes: usize,
    /// Sessions that are not read because there was no room.
    paused: Vec<Arc<Handle>>,
    /// The task that waits for the next event.
    reader: Option<Waker>,
    /// Engines that will put something in.
    engines: usize,
    /// Nobody will take anything out.
    forsaken: bool,
}

/// What an event takes of the queue's room.
fn weight(event: &Event) -> usize {
    let message = if let Event::Message(_, message) = event { message.len() } else { 0 };
    size_of::<Event>() + message
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        self.lock().bytes > self.limit
    }

    /// Gives whether it is full with that.
    fn put(&self, event: Event) -> bool {
        let mut state = self.lock();
        if state.forsaken {
            return false;
        }
        state.bytes += weight(&event);
        state.events.push_back(event);
        state.bytes > self.limit
    }

    /// Whoever waits looks again.
    fn tell(&self) {
        let reader = self.lock().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// This session is not read any more, because the queue was full; if it still is, it is resumed when it is not.
    fn has_paused(&self, peer: &Arc<Handle>) {
        let mut state = self.lock();
        if state.bytes > self.limit && !state.forsaken {
            return state.paused.push(peer.clone());
        }
        drop(state);
        let _ = peer.resume();
    }

    /// An engine has ended, and these sessions with it: nothing more comes from it.
    fn leave(&self, peers: Vec<Peer>) {
        // Where it was stopped nobody takes anything out any more.
        self.put(Event::EngineFailed { peers });
        self.lock().engines -= 1;
        self.tell();
    }
}

/// The queue's end where events are taken out; dropped, it holds nobody up any more.
pub(super) struct Events(Arc<Queue>);

impl Events {
    /// For so many engines, and as many bytes as `limit` says.
    pub(super) fn new(limit: usize, engines: usize) -> Events {
        let (events, paused) = (VecDeque::new(), Vec::new());
        let state = State { events, bytes: 0, paused, reader: None, engines, forsaken: false };
        Events(Arc::new(Queue { state: Mutex::new(state), limit }))
    }

    /// The next event; `None` when all engines have ended.
    pub(super) fn poll_next(&self, task: &mut task::Context<'_>) -> Poll<Option<Event>> {
        // Where there is always something, others shall have their turns all the same.
        let budget = ready!(poll_proceed(task));
        let next = ready!(self.look(task));
        budget.made_progress();
        Poll::Ready(next)
    }

    fn look(&self, task: &mut task::Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.0.lock();
        let Some(event) = state.events.pop_front() else {
            if state.engines == 0 {
                return Poll::Ready(None);
            }
            state.reader = Some(task.waker().clone());
            return Poll::Pending;
        };
        state.bytes -= weight(&event);
        if state.bytes <= self.0.limit / 2 && !state.paused.is_empty() {
            let paused = std::mem::take(&mut state.paused);
            drop(state);
            resume(paused);
        }
        Poll::Ready(Some(event))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        (state.forsaken, state.bytes) = (true, 0);
        let left = (std::mem::take(&mut state.events), std::mem::take(&mut state.paused));
        drop(state);
        resume(left.1);
    }
}

fn resume(peers: Vec<Arc<Handle>>) {
    for peer in peers {
        // One that has ended needs it no more.
        let _ = peer.resume();
    }
}

/// The handler of an engine whose events a task takes.
pub(super) struct Inbox<A> {
    admit: A,
    queue: Arc<Queue>,
    /// By slot.
    peers: Vec<Option<Arc<Handle>>>,
    block: BytesMut,
}

impl<A> Inbox<A> {
    pub(super) fn new(events: &Events, slots: usize, admit: A) -> Inbox<A> {
        Inbox { admit, queue: events.0.clone(), peers: vec![None; slots], block: BytesMut::new() }
    }

    fn keep(&mut self, message: &[u8]) -> Bytes {
        if message.len() > BLOCK / 4 {
            return Bytes::copy_from_slice(message);
        }
        if self.block.capacity() - self.block.len() < message.len() {
            self.block.reserve(BLOCK);
        }
        self.block.extend_from_slice(message);
        self.block.split().freeze()
    }
}

impl<A> Handler for Inbox<A>
where
    A: FnMut(&Arrival<'_>) -> Result<(), Refusal>,
{
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        if self.queue.is_full() {
            return Err(Refusal::new("the server does not keep up with those who are here"));
        }
        (self.admit)(arrival)
    }

    fn on_connected(&mut self, peer: &mut Context<'_>) {
        let handle = Arc::new(peer.peer());
        self.peers[peer.index()] = Some(handle.clone());
        self.queue.put(Event::Connected(Peer::new(handle)));
        self.queue.tell();
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let message = self.keep(message);
        let Some(handle) = &self.peers[peer.index()] else { return };
        let is_full = self.queue.put(Event::Message(Peer::new(handle.clone()), message));
        if is_full {
            // Before the queue knows of it: whoever empties it meanwhile would resume a session that is still read.
            peer.pause();
            self.queue.has_paused(handle);
        }
        if is_full || peer.is_batch_end() {
            self.queue.tell();
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        let Some(handle) = self.peers[peer.index()].take() else { return };
        self.queue.put(Event::Disconnected(Peer::new(handle), *why));
        self.queue.tell();
    }
}

impl<A> Drop for Inbox<A> {
    fn drop(&mut self) {
        let peers = self.peers.drain(..).flatten().map(Peer::new).collect();
        self.queue.leave(peers);
    }
}
