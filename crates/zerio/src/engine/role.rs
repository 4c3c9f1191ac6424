//! What an engine is for: one of a server's, or a client's, and what became of that one's connection.
#![forbid(unsafe_code)]

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::SameId;
use crate::driver::SlotId;
use crate::error::{Reason, RefusalCode};
use crate::session::NOWHERE;
use crate::session::directory::Directory;
use crate::time::Time;
use crate::wire::PeerId;

/// What an engine is for.
#[expect(clippy::large_enum_variant, reason = "there is one an engine")]
pub(crate) enum Role {
    /// One of a server's engines.
    Server(ServerRole),
    /// A client's engine.
    Client(ClientRole),
}

pub(crate) struct ServerRole {
    pub(crate) directory: Arc<Directory>,
    /// Which of the server's engines it is; the first one accepts.
    pub(crate) engine: usize,
    pub(crate) same_id: SameId,
}

pub(crate) struct ClientRole {
    pub(super) hello: PeerId,
    /// Where it connects, or has connected.
    pub(super) address: SocketAddr,
    /// Where else it tries to, the next one last; nowhere else once a connection has come about.
    pub(super) others: Vec<SocketAddr>,
    /// When there must be a session.
    pub(super) deadline: Time,
    /// What became of the connection, until somebody asks.
    pub(super) outcome: Option<Outcome>,
    /// There has been an outcome.
    pub(super) concluded: bool,
}

impl ClientRole {
    /// A client that introduces itself with `hello` to the first of these addresses that takes its connection.
    pub(crate) fn new(hello: PeerId, mut addresses: Vec<SocketAddr>) -> ClientRole {
        addresses.reverse();
        let (outcome, deadline) = (None, Time::NEVER);
        ClientRole { hello, address: NOWHERE, others: addresses, deadline, outcome, concluded: false }
    }
}

/// What became of a client's connection, and to which address.
pub(crate) type Outcome = (SocketAddr, Result<SlotId, Failure>);

/// Why a client's connection did not become a session.
#[derive(Debug)]
pub(crate) enum Failure {
    Connect(io::Error),
    TimedOut,
    Refused(RefusalCode, String),
    Ended(Reason),
}
