//! A client on tokio.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::sync::oneshot;

use super::Peer;
use super::inbox::{Event, Events, Inbox};
use super::running::{self, Running};
use crate::builder::Builder;
use crate::client::{Connect, explain, plan};
use crate::counters::{Counters, SessionCounters};
use crate::engine::Failure;
use crate::error::{Disconnection, Error, SendError};
use crate::handler::AdmitAll;
use crate::report::Report;
use crate::session::peer::Peer as Handle;
use crate::thread::DriverInfo;

/// A client whose messages are a [`Stream`], to its end, and whose sends are a [`Sink`]; see the
/// [module](crate::tokio). Dropping it stops it, in the background.
pub struct Client {
    peer: Peer,
    events: Events,
    running: Running,
    ended: Option<Disconnection>,
}

impl Builder<Connect> {
    /// Connects, on an engine that is a task of the runtime in which this is called; see [`tokio`](crate::tokio). Dropped
    /// before there is a session, it gives up.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] where there is no runtime, or one without I/O or time; else as [`start`](Builder::start).
    pub async fn start_tokio(self) -> Result<Client, Error> {
        let Builder { target, config, .. } = self;
        running::check(&config)?;
        let plan = plan(&target, &config, None)?;
        let (shared, events) = (plan.memory.0.clone(), Events::new(plan.config.receive_buffer, 1));
        let (sender, outcome) = oneshot::channel();
        let inbox: Inbox<AdmitAll> = Inbox::new(&events, shared.slots.len(), |_| Ok(()));
        let mut running = Running::start("zerio-client", vec![plan], vec![inbox], Some(sender))?;
        match outcome.await {
            Ok((address, Ok(id))) => {
                let peer = Peer::new(Arc::new(Handle::new(shared, id, target.peer, address)));
                Ok(Client { peer, events, running, ended: None })
            }
            Ok((address, Err(failure))) => Err(explain(failure, address, &config)),
            Err(_) => Err(match running.ended().await.into_iter().find_map(|ended| ended.failure) {
                Some(failure) => Error::Engine(failure),
                None => explain(Failure::TimedOut, target.addresses[0], &config),
            }),
        }
    }
}

impl Client {
    /// Its session with the server: a handle to clone and give to other tasks.
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        self.peer.address()
    }

    /// Sends a message; waits for room, until it is dropped. Then nothing was sent. What the sink still keeps, because
    /// there was no room, comes after it: flush first.
    ///
    /// # Errors
    ///
    /// `TooLarge` or `Closed`. Nothing was sent.
    pub async fn send(&self, message: &[u8]) -> Result<(), SendError> {
        self.peer.send(message).await
    }

    /// Sends a message, or tells at once why not.
    ///
    /// # Errors
    ///
    /// `Full`, `TooLarge` or `Closed`. Nothing was sent.
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        self.peer.try_send(message)
    }

    /// Why the session has ended, and what was left to send: known when the stream has ended.
    pub fn ended(&self) -> Option<&Disconnection> {
        self.ended.as_ref()
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.running.counters()
    }

    /// What its session has done so far.
    pub fn session_counters(&self) -> SessionCounters {
        self.peer.counters().unwrap_or_default()
    }

    /// Which driver it has.
    pub fn driver(&self) -> &DriverInfo {
        self.running.info()
    }

    /// Hands what was accepted to the kernel, within `drain_timeout`, closes the session, and tells what was left.
    /// What the stream has not given is dropped. Once begun it goes on, whether it is waited for or not.
    pub fn stop(self) -> impl Future<Output = Report> + Send {
        // What it was given as a sink is offered before the end, as the rest of it is dropped.
        self.running.stop()
    }
}

impl Stream for Client {
    type Item = Bytes;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let client = self.get_mut();
        loop {
            match client.events.poll_next(task) {
                Poll::Ready(Some(Event::Message(_, message))) => return Poll::Ready(Some(message)),
                Poll::Ready(Some(Event::Disconnected(_, why))) => client.ended = Some(why),
                Poll::Ready(Some(Event::Connected(_) | Event::EngineFailed { .. })) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Sink<Bytes> for Client {
    type Error = SendError;

    fn poll_ready(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.peer).poll_ready(task)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), SendError> {
        Pin::new(&mut self.peer).start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.peer).poll_flush(task)
    }

    fn poll_close(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.peer).poll_close(task)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer", &self.peer).finish_non_exhaustive()
    }
}
