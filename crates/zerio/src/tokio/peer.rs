//! A session for a task: sends that wait for room without a thread.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_sink::Sink;
use tokio::task::coop::{consume_budget, poll_proceed};

use crate::counters::SessionCounters;
use crate::error::SendError;
use crate::session::peer::Peer as Handle;
use crate::wait::Ticket;

/// A handle on one session, for tasks. Clone it, and give it to any of them. When the session has ended it says
/// [`SendError::Closed`].
///
/// As a [`Sink`] it is flushed when the session's ring has accepted what it was given, which is what
/// [`Peer::send`](crate::Peer::send) means by sent; closing it ends the session, as
/// [`disconnect`](Peer::disconnect) does. Each clone is a sink of its own.
///
/// A message that the sink has taken while the ring had no room is not sent before it is flushed: no report counts it as
/// undelivered. One that is dropped with such a message offers it to the ring a last time, and nobody hears whether there was
/// room.
pub struct Peer {
    handle: Arc<Handle>,
    /// What it has been given as a sink, and the ring had no room for; and under what it waits.
    waiting: Option<(Bytes, Ticket)>,
}

/// One send that waits for room; dropped, it waits no more.
struct Waits<'a> {
    handle: &'a Handle,
    ticket: Ticket,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.handle.withdraw(&mut self.ticket);
    }
}

impl Peer {
    pub(super) fn new(handle: Arc<Handle>) -> Peer {
        Peer { handle, waiting: None }
    }

    /// The session's peer id: on a server the client's, on a client its own.
    pub fn id(&self) -> &str {
        self.handle.id()
    }

    /// The other side's address.
    pub fn address(&self) -> SocketAddr {
        self.handle.address()
    }

    /// Sends a message; waits for room, until it is dropped. Then nothing was sent. What a sink still keeps, because
    /// there was no room, comes after it: flush that one first.
    ///
    /// # Errors
    ///
    /// `TooLarge` or `Closed`. Nothing was sent.
    pub async fn send(&self, message: &[u8]) -> Result<(), SendError> {
        // Where nothing ever waits, others shall have their turns all the same.
        consume_budget().await;
        match self.handle.try_send(message) {
            Err(SendError::Full) => {
                let mut waits = Waits { handle: &self.handle, ticket: Ticket::default() };
                poll_fn(|task| waits.handle.poll_send(&mut waits.ticket, task, message)).await
            }
            outcome => outcome,
        }
    }

    /// Sends a message, or tells at once why not.
    ///
    /// # Errors
    ///
    /// `Full`, `TooLarge` or `Closed`. Nothing was sent.
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        self.handle.try_send(message)
    }

    /// Ends the session: nothing more is accepted, what was accepted is handed to the kernel within
    /// `drain_timeout`, then the connection is closed. What comes meanwhile is not heard.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended.
    pub fn disconnect(&self) -> Result<(), SendError> {
        self.handle.disconnect()
    }

    /// What the session has done so far; `None` some time after its end, when another one has its place.
    pub fn counters(&self) -> Option<SessionCounters> {
        self.handle.counters()
    }

    /// The same session for threads. Its `send` waits as a thread does, which is nothing for a task; and its `pause` and
    /// `resume` are what the stream itself uses, while it is full.
    pub fn handle(&self) -> Handle {
        Handle::clone(&self.handle)
    }

    fn poll_waiting(&mut self, task: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Some((message, ticket)) = &mut self.waiting else { return Poll::Ready(Ok(())) };
        let outcome = ready!(self.handle.poll_send(ticket, task, message));
        self.waiting = None;
        Poll::Ready(outcome)
    }
}

impl Sink<Bytes> for Peer {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        // As in `send`: whoever feeds it asks here each time.
        let budget = ready!(poll_proceed(task));
        let outcome = ready!(self.get_mut().poll_waiting(task));
        budget.made_progress();
        Poll::Ready(outcome)
    }

    /// Where it is called though the sink was not ready, which is against the rules of a `Sink`, it says `Full`.
    fn start_send(self: Pin<&mut Self>, message: Bytes) -> Result<(), SendError> {
        let sink = self.get_mut();
        if sink.waiting.is_some() {
            return Err(SendError::Full);
        }
        match sink.handle.try_send(&message) {
            Err(SendError::Full) => {
                sink.waiting = Some((message, Ticket::default()));
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.get_mut().poll_waiting(task)
    }

    fn poll_close(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let sink = self.get_mut();
        ready!(sink.poll_waiting(task))?;
        // One that has ended is closed.
        let _ = sink.disconnect();
        Poll::Ready(Ok(()))
    }
}

impl Clone for Peer {
    fn clone(&self) -> Peer {
        Peer::new(self.handle.clone())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some((message, mut ticket)) = self.waiting.take() {
            self.handle.withdraw(&mut ticket);
            let _ = self.handle.try_send(&message);
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("id", &self.id())
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}
