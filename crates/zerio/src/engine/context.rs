//! What a handler is given: the session that the event is about, and ways to send.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;

use super::{Core, Role};
use crate::error::SendError;
use crate::send::claim::Claim;
use crate::session::peer::{Peer, Sender};
use crate::session::{Session, request};

/// The session that an event is about, as its handler sees it: who it is, and how to answer. Nothing
/// here waits.
pub struct Context<'a> {
    core: &'a mut Core,
    index: usize,
    batch_end: bool,
}

impl<'a> Context<'a> {
    #[inline]
    pub(super) fn new(core: &'a mut Core, index: usize, batch_end: bool) -> Context<'a> {
        Context { core, index, batch_end }
    }

    /// Which of its engine's slots the session has.
    #[cfg(feature = "tokio")]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    fn session(&self) -> &Session {
        &self.core.table.sessions[self.index]
    }

    /// The session's peer id: on a server the client's, on a client its own.
    pub fn id(&self) -> &str {
        self.session().peer.as_str()
    }

    /// The other side's address.
    pub fn address(&self) -> SocketAddr {
        self.session().address
    }

    /// The certificate that the other side has shown, under TLS: the server's on a client, the client's on a server
    /// that requires one. In `on_disconnected` it is gone.
    #[cfg(feature = "tls")]
    pub fn certificate(&self) -> Option<&crate::tls::PeerCertificate> {
        self.core.certificate(self.index)
    }

    /// Whether this is the last whole message of those that one receive has brought for this session:
    /// the moment to do once what need not be done for each. True outside of `on_message`.
    #[inline]
    pub fn is_batch_end(&self) -> bool {
        self.batch_end
    }

    /// Sends a message to this peer, or tells at once why not. It goes to the kernel when this turn of the
    /// engine has handled what it received, together with all else for this peer.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer` and `TimedOut`. Nothing was sent.
    #[inline]
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.core.try_send(self.index, message)
    }

    /// A place in this peer's ring for a message of `len` bytes, to fill and commit, or at once the reason
    /// why there is none.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer` and `TimedOut`.
    pub fn claim(&mut self, len: usize) -> Result<Claim<'_>, SendError> {
        self.core.try_claim(self.index, len)
    }

    /// Sends a message to another peer of the same server, or tells at once why not.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`. Nothing was sent. On a client every other peer is
    /// `UnknownPeer`.
    pub fn send_to(&mut self, id: &str, message: &[u8]) -> Result<(), SendError> {
        self.core.try_send_to(id, message)
    }

    /// Reads no more from this peer, from its next message on, until somebody resumes it: TCP pushes
    /// back on it, and on no other.
    ///
    /// What is not read does not tell that its peer is gone. On Linux the engine looks for that: the session then
    /// accepts nothing more, and ends after `drain_timeout`, in which it may be resumed for what had come before. With
    /// other systems, and with Registered I/O, it is noticed when something is sent or the session is resumed.
    pub fn pause(&mut self) {
        let generation = self.session().id.generation;
        self.core.shared.slots[self.index].requests.change(generation, request::PAUSE, 0);
        self.core.table.sessions[self.index].paused = true;
    }

    /// Ends the session, as [`Peer::disconnect`] does. It hears no further message.
    pub fn disconnect(&mut self) {
        let id = self.session().id;
        self.core.table.sessions[self.index].muted = true;
        // It can't fail: the handler hears of a session before its slot has another one.
        let _ = crate::session::peer::make_request(&self.core.shared, id, request::DISCONNECT, 0);
    }

    /// A handle on this session, to keep and to use from any thread. In an engine that you drive, the
    /// first handle that is given away makes all sends a little slower from then on: they have to
    /// reckon with other threads.
    pub fn peer(&mut self) -> Peer {
        self.core.share();
        let session = self.session();
        Peer::new(self.core.shared.clone(), session.id, session.peer, session.address)
    }

    /// A handle on all sessions of this server, by peer id; `None` on a client. What was said of
    /// [`peer`](Context::peer) is true of it as well.
    pub fn sender(&mut self) -> Option<Sender> {
        self.core.share();
        match &self.core.role {
            Role::Server(server) => Some(Sender::new(server.directory.clone())),
            Role::Client(_) => None,
        }
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("id", &self.id()).finish_non_exhaustive()
    }
}
