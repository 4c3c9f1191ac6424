//! A server on tokio.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use futures_core::Stream;
use tokio::task::coop::consume_budget;

use super::Peer;
use super::inbox::{Event, Events, Inbox};
use super::running::{self, Running};
use crate::builder::Builder;
use crate::counters::Counters;
use crate::engine::Context;
use crate::error::{Disconnection, Error, SendError};
use crate::handler::{Arrival, Closures, Refusal};
use crate::report::Report;
use crate::server::{Listen, plans};
use crate::session::peer::Sender as Handle;
use crate::thread::DriverInfo;

/// A server of which all that happens is a [`Stream`] of [`Event`]s; see the [module](crate::tokio). It ends when all
/// engines have. Dropping it stops it, in the background.
pub struct Server {
    sender: Sender,
    address: SocketAddr,
    events: Events,
    running: Running,
}

/// Closures of which only [`admit`](Builder::admit) is anything.
type Admitting<A> =
    Closures<fn(&mut Context<'_>), fn(&mut Context<'_>, &[u8]), fn(&mut Context<'_>, &Disconnection), A>;

impl<A> Builder<Listen, Admitting<A>>
where
    A: FnMut(&Arrival<'_>) -> Result<(), Refusal> + Clone + Send + 'static,
{
    /// Starts as many engines as the configuration says, as tasks of the runtime in which this is called; see
    /// [`tokio`](crate::tokio).
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] where there is no runtime, or one without I/O or time; else as [`start`](Builder::start), but
    /// for the number of engines.
    pub fn start_tokio(self) -> Result<Server, Error> {
        let Builder { target, handler, config } = self;
        running::check(&config)?;
        let address = target.address;
        let (plans, directory) = plans(target, &config, None)?;
        let events = Events::new(config.receive_buffer, plans.len());
        let inbox = |_| Inbox::new(&events, config.slots_per_engine(), handler.admit.clone());
        let inboxes = (0..plans.len()).map(inbox).collect();
        let running = Running::start("zerio-server", plans, inboxes, None)?;
        Ok(Server { sender: Sender(Handle::new(directory)), address, events, running })
    }
}

impl Server {
    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Sends a message to a peer, as [`Sender::send`] does.
    ///
    /// # Errors
    ///
    /// `UnknownPeer`, `TooLarge` or `Closed`. Nothing was sent.
    pub async fn send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(id, message).await
    }

    /// A handle on one peer's session.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected.
    pub fn peer(&self, id: &str) -> Result<Peer, SendError> {
        self.sender.peer(id)
    }

    /// A handle that sends by peer id, to clone and give to other tasks.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.running.counters()
    }

    /// Which driver it has.
    pub fn driver(&self) -> &DriverInfo {
        self.running.info()
    }

    /// Lets nobody in any more, hands what was accepted to the kernel, within `drain_timeout`, closes all sessions, and
    /// tells what was left. What the stream has not given is dropped. Once begun it goes on, whether it is waited for
    /// or not.
    pub fn stop(self) -> impl Future<Output = Report> + Send {
        self.running.stop()
    }
}

impl Stream for Server {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next(task)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A handle on all sessions of a server, by peer id, for tasks. Clone it, and give it to any of them.
#[derive(Clone, Debug)]
pub struct Sender(Handle);

impl Sender {
    /// Sends a message to a peer; waits for room, until it is dropped. Then nothing was sent.
    ///
    /// # Errors
    ///
    /// `UnknownPeer`, `TooLarge` or `Closed`. Nothing was sent.
    pub async fn send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        consume_budget().await;
        // Only who waits needs a handle, which allocates.
        match self.0.try_send(id, message) {
            Err(SendError::Full) => self.peer(id)?.send(message).await,
            outcome => outcome,
        }
    }

    /// Sends a message to a peer, or tells at once why not.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`. Nothing was sent.
    pub fn try_send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.0.try_send(id, message)
    }

    /// A handle on one peer's session.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected; [`SendError::Closed`] where the server has
    /// ended.
    pub fn peer(&self, id: &str) -> Result<Peer, SendError> {
        Ok(Peer::new(Arc::new(self.0.peer(id)?)))
    }

    /// Everybody who is connected, in no order.
    pub fn peers(&self) -> Vec<Peer> {
        self.0.peers().into_iter().map(|peer| Peer::new(Arc::new(peer))).collect()
    }
}
