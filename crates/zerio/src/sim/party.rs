//! What a test holds of a server or client in a world.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefMut};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Shareable;
use crate::counters::Counters;
use crate::driver::SlotId;
use crate::error::SendError;
use crate::handler::Handler;
use crate::session::directory::Directory;
use crate::session::peer::{Peer, Sender};
use crate::wire::PeerId;

/// A server in a world. It goes on when it is dropped: whoever wants it to end [stops](Server::stop) it.
pub struct Server<H: Handler> {
    engine: Shareable<H>,
    directory: Arc<Directory>,
    address: SocketAddr,
}

impl<H: Handler> Server<H> {
    pub(super) fn new(engine: Shareable<H>, directory: Arc<Directory>, address: SocketAddr) -> Server<H> {
        Server { engine, directory, address }
    }

    /// Where its clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts a message for a peer, or tells at once why not.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`. Nothing was sent.
    pub fn try_send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.sender().try_send(id, message)
    }

    /// A handle that sends by peer id.
    pub fn sender(&self) -> Sender {
        Sender::new(self.directory.clone())
    }

    /// How many peers are connected.
    pub fn connected(&self) -> usize {
        self.directory.len()
    }

    /// The handler. It must be let go before the world goes on.
    pub fn handler(&self) -> RefMut<'_, H> {
        RefMut::map(self.engine.borrow_mut(), |engine| engine.handler())
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.engine.borrow().shared().counters()
    }

    /// Begins to stop it, as [`Server::stop`](crate::Server::stop) does; the world has to go on for it to end.
    pub fn stop(&self) {
        self.engine.borrow().shared().stop();
    }

    /// Whether it was stopped, or its driver has failed, and all its sessions have ended.
    pub fn is_finished(&self) -> bool {
        self.engine.borrow().is_finished()
    }
}

impl<H: Handler> fmt::Debug for Server<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A client in a world. It goes on when it is dropped: whoever wants it to end [stops](Client::stop) it.
pub struct Client<H: Handler> {
    pub(super) engine: Shareable<H>,
    peer: PeerId,
    address: SocketAddr,
    session: Cell<Option<SlotId>>,
}

impl<H: Handler> Client<H> {
    pub(super) fn new(engine: Shareable<H>, peer: PeerId, address: SocketAddr) -> Client<H> {
        Client { engine, peer, address, session: Cell::new(None) }
    }

    fn session(&self) -> Option<SlotId> {
        if let (None, Some((_, Ok(id)))) =
            (self.session.get(), self.engine.borrow_mut().core().take_outcome())
        {
            self.session.set(Some(id));
        }
        self.session.get()
    }

    /// Whether its session has begun and has not ended.
    pub fn is_connected(&self) -> bool {
        self.session().is_some() && !self.is_finished()
    }

    /// Accepts a message, or tells at once why not.
    ///
    /// # Errors
    ///
    /// `Full`, `TooLarge`, or `Closed`, also before the session has begun. Nothing was sent.
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        self.peer().ok_or(SendError::Closed)?.try_send(message)
    }

    /// Its session with the server, to keep; `None` before it has begun.
    pub fn peer(&self) -> Option<Peer> {
        let id = self.session()?;
        let shared = self.engine.borrow().shared().clone();
        Some(Peer::new(shared, id, self.peer, self.address))
    }

    /// The handler. It must be let go before the world goes on.
    pub fn handler(&self) -> RefMut<'_, H> {
        RefMut::map(self.engine.borrow_mut(), |engine| engine.handler())
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.engine.borrow().shared().counters()
    }

    /// Begins to stop it, as [`Client::stop`](crate::Client::stop) does; the world has to go on for it to end.
    pub fn stop(&self) {
        self.engine.borrow().shared().stop();
    }

    /// Whether its session has ended, or none has come about.
    pub fn is_finished(&self) -> bool {
        self.engine.borrow().is_finished()
    }
}

impl<H: Handler> fmt::Debug for Client<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer", &self.peer).finish_non_exhaustive()
    }
}
