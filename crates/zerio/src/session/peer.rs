//! Handles that any thread may hold: on one session ([`Peer`]), and on all sessions of a server by their
//! peer ids ([`Sender`]).
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
#[cfg(feature = "tokio")]
use std::task;
use std::time::Duration;

use super::directory::{Directory, Entry};
use super::{Shared, Slot, request};
use crate::counters::SessionCounters;
use crate::driver::SlotId;
use crate::error::SendError;
use crate::send::claim::Claim;
#[cfg(feature = "tokio")]
use crate::wait::Ticket;
use crate::wire::PeerId;

/// A handle on one session: sends without looking the peer up. Clone it, and give it to any thread. When
/// the session has ended it says [`SendError::Closed`], also when the same peer has come again.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
    id: SlotId,
    peer: PeerId,
    address: SocketAddr,
}

impl Peer {
    pub(crate) fn new(shared: Arc<Shared>, id: SlotId, peer: PeerId, address: SocketAddr) -> Peer {
        Peer { shared, id, peer, address }
    }

    fn slot(&self) -> &Slot {
        &self.shared.slots[self.id.index as usize]
    }

    /// The session's peer id: on a server the client's, on a client its own.
    pub fn id(&self) -> &str {
        self.peer.as_str()
    }

    /// The other side's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a message; waits for room, up to the configured `send_timeout`. Inside a handler it does not
    /// wait: there it is [`try_send`](Peer::try_send).
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer`. Nothing was sent.
    #[inline]
    pub fn send(&self, message: &[u8]) -> Result<(), SendError> {
        match self.slot().send.send_now(self.id.generation, message) {
            Err(SendError::Full) => self.send_timeout(message, self.shared.send_timeout),
            outcome => outcome,
        }
    }

    /// Sends a message, or tells at once why not.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer` and `TimedOut`. Nothing was sent.
    #[inline]
    pub fn try_send(&self, message: &[u8]) -> Result<(), SendError> {
        self.slot().send.try_send(self.id.generation, message)
    }

    /// Sends a message; waits for room, up to `timeout`. Inside a handler it does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer`. Nothing was sent.
    pub fn send_timeout(&self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        let mut claim = self.claim_timeout(message.len(), timeout)?;
        claim.copy_from_slice(message);
        claim.commit()
    }

    /// Sends a message for a task, which is woken when there may be room.
    #[cfg(feature = "tokio")]
    pub(crate) fn poll_send(
        &self,
        ticket: &mut Ticket,
        task: &mut task::Context<'_>,
        message: &[u8],
    ) -> task::Poll<Result<(), SendError>> {
        let claim = self.slot().send.poll_claim(self.id.generation, message.len(), ticket, task);
        claim.map(|claim| {
            let mut claim = claim?;
            claim.copy_from_slice(message);
            claim.commit()
        })
    }

    /// A task does not wait any more.
    #[cfg(feature = "tokio")]
    pub(crate) fn withdraw(&self, ticket: &mut Ticket) {
        self.slot().send.withdraw(ticket);
    }

    /// A place in the ring for a message of `len` bytes, to fill and commit; waits for room, up to the
    /// configured `send_timeout`. Inside a handler it does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer`.
    pub fn claim(&self, len: usize) -> Result<Claim<'_>, SendError> {
        self.claim_timeout(len, self.shared.send_timeout)
    }

    /// A place in the ring for a message of `len` bytes, to fill and commit, or at once the reason why
    /// there is none.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `UnknownPeer` and `TimedOut`.
    pub fn try_claim(&self, len: usize) -> Result<Claim<'_>, SendError> {
        self.slot().send.try_claim(self.id.generation, len)
    }

    fn claim_timeout(&self, len: usize, timeout: Duration) -> Result<Claim<'_>, SendError> {
        claim_timeout(&self.shared, self.id, len, timeout)
    }

    /// Reads no more from this peer, from what one receive has brought already on: TCP pushes back on it,
    /// and on no other. A handler that is to see no further message at all uses
    /// [`Context::pause`](crate::Context::pause), where it also says how a paused session ends.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended.
    pub fn pause(&self) -> Result<(), SendError> {
        self.request(request::PAUSE, 0)
    }

    /// Reads from this peer again.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended.
    pub fn resume(&self) -> Result<(), SendError> {
        self.request(0, request::PAUSE)
    }

    /// Ends the session: nothing more is accepted, what was accepted is handed to the kernel within
    /// `drain_timeout`, then the connection is closed. Messages that come after the engine has seen this
    /// are not handed to the handler.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] where the session has ended.
    pub fn disconnect(&self) -> Result<(), SendError> {
        self.request(request::DISCONNECT, 0)
    }

    fn request(&self, set: u32, clear: u32) -> Result<(), SendError> {
        make_request(&self.shared, self.id, set, clear)
    }

    /// What the session has done so far; `None` some time after its end, when another one has its place.
    pub fn counters(&self) -> Option<SessionCounters> {
        self.slot().session_counters(self.id.generation)
    }
}

pub(crate) fn make_request(shared: &Shared, id: SlotId, set: u32, clear: u32) -> Result<(), SendError> {
    if !shared.slots[id.index as usize].requests.change(id.generation, set, clear) {
        return Err(SendError::Closed);
    }
    shared.bell.ring(id.index);
    Ok(())
}

fn claim_timeout(shared: &Shared, id: SlotId, len: usize, timeout: Duration) -> Result<Claim<'_>, SendError> {
    let mut until = None;
    let left = || {
        let now = shared.clock.now();
        let until = *until.get_or_insert(now.after(timeout));
        Some(until.since(now)).filter(|left| !left.is_zero())
    };
    shared.slots[id.index as usize].send.claim(id.generation, len, left)
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.peer).field("address", &self.address).finish_non_exhaustive()
    }
}

/// A handle on all sessions of a server, by peer id. Clone it, and give it to any thread.
#[derive(Clone)]
pub struct Sender {
    directory: Arc<Directory>,
}

impl Sender {
    pub(crate) fn new(directory: Arc<Directory>) -> Sender {
        Sender { directory }
    }

    fn find(&self, id: &str) -> Result<(&Arc<Shared>, Entry), SendError> {
        let entry = self.directory.look_up(id)?;
        Ok((&self.directory.engines[entry.engine], entry))
    }

    /// Sends a message to a peer; waits for room, up to the configured `send_timeout`. Inside a handler it
    /// does not wait: there it is [`try_send`](Sender::try_send).
    ///
    /// # Errors
    ///
    /// Any [`SendError`]. Nothing was sent.
    #[inline]
    pub fn send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        let (shared, entry) = self.find(id)?;
        match shared.slots[entry.id.index as usize].send.send_now(entry.id.generation, message) {
            Err(SendError::Full) => self.send_timeout(id, message, shared.send_timeout),
            outcome => outcome,
        }
    }

    /// Sends a message to a peer, or tells at once why not.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`. Nothing was sent.
    #[inline]
    pub fn try_send(&self, id: &str, message: &[u8]) -> Result<(), SendError> {
        let (shared, entry) = self.find(id)?;
        shared.slots[entry.id.index as usize].send.try_send(entry.id.generation, message)
    }

    /// Sends a message to a peer; waits for room, up to `timeout`. Inside a handler it does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`]. Nothing was sent.
    pub fn send_timeout(&self, id: &str, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        let (shared, entry) = self.find(id)?;
        let mut claim = claim_timeout(shared, entry.id, message.len(), timeout)?;
        claim.copy_from_slice(message);
        claim.commit()
    }

    /// A place in a peer's ring for a message of `len` bytes, to fill and commit; waits for room, up to
    /// the configured `send_timeout`. Inside a handler it does not wait.
    ///
    /// # Errors
    ///
    /// Any [`SendError`].
    pub fn claim(&self, id: &str, len: usize) -> Result<Claim<'_>, SendError> {
        let (shared, entry) = self.find(id)?;
        claim_timeout(shared, entry.id, len, shared.send_timeout)
    }

    /// A place in a peer's ring for a message of `len` bytes, to fill and commit, or at once the reason
    /// why there is none.
    ///
    /// # Errors
    ///
    /// Any [`SendError`] but `TimedOut`.
    pub fn try_claim(&self, id: &str, len: usize) -> Result<Claim<'_>, SendError> {
        let (shared, entry) = self.find(id)?;
        shared.slots[entry.id.index as usize].send.try_claim(entry.id.generation, len)
    }

    /// A handle on one peer's session, which sends without a look-up.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected; [`SendError::Closed`] where the server has
    /// ended.
    pub fn peer(&self, id: &str) -> Result<Peer, SendError> {
        let (shared, entry) = self.find(id)?;
        let peer = PeerId::new(id).map_err(|_| SendError::UnknownPeer)?;
        Ok(Peer::new(shared.clone(), entry.id, peer, entry.address))
    }

    /// Everybody who is connected, in no order.
    pub fn peers(&self) -> Vec<Peer> {
        let peer = |(peer, entry): (PeerId, Entry)| {
            Peer::new(self.directory.engines[entry.engine].clone(), entry.id, peer, entry.address)
        };
        self.directory.all().into_iter().map(peer).collect()
    }

    /// Ends a peer's session, as [`Peer::disconnect`] does.
    ///
    /// # Errors
    ///
    /// [`SendError::UnknownPeer`] where nobody with that id is connected; [`SendError::Closed`] where its
    /// session is just ending, or the server has ended.
    pub fn disconnect(&self, id: &str) -> Result<(), SendError> {
        let (shared, entry) = self.find(id)?;
        make_request(shared, entry.id, request::DISCONNECT, 0)
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}
