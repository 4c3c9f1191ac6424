//! What the feature `tracing` tells, with the target `zerio`: how engines and sessions begin and end, and who did not
//! come in. Never a message: there is no call of this on the path of one.
#![forbid(unsafe_code)]

use std::fmt::{Debug, Display};
use std::net::SocketAddr;

use crate::error::{Disconnection, Rejection};
use crate::wait::InHandler;
use crate::wire::PeerId;

/// An engine has its driver.
pub(crate) fn driven(driver: &str, fallback: Option<&str>) {
    let _in_handler = InHandler::enter();
    match fallback {
        None => tracing::info!(target: "zerio", driver, "an engine begins"),
        Some(fallback) => tracing::warn!(target: "zerio", driver, fallback, "an engine begins"),
    }
}

/// An engine ends, because something has failed.
pub(crate) fn failed(failure: &dyn Display) {
    tracing::error!(target: "zerio", %failure, "an engine ends");
}

/// A session is in another state.
pub(crate) fn went_on(peer: &PeerId, address: SocketAddr, state: &dyn Debug) {
    let _in_handler = InHandler::enter();
    tracing::debug!(target: "zerio", peer = peer.as_str(), %address, ?state, "a session goes on");
}

/// The handshake of a session is done.
pub(crate) fn connected(peer: &PeerId, address: SocketAddr) {
    let _in_handler = InHandler::enter();
    tracing::info!(target: "zerio", peer = peer.as_str(), %address, "connected");
}

/// A session has ended.
pub(crate) fn disconnected(peer: &PeerId, address: SocketAddr, why: &Disconnection) {
    let _in_handler = InHandler::enter();
    let (peer, reason, undelivered) = (peer.as_str(), &why.reason, why.undelivered.messages);
    tracing::info!(target: "zerio", peer, %address, %reason, undelivered, "disconnected");
}

/// Connections did not become sessions: this one, and others of its kind of late.
pub(crate) fn rejected(address: SocketAddr, why: &Rejection, others: u64) {
    let _in_handler = InHandler::enter();
    tracing::warn!(target: "zerio", %address, %why, others, "rejected");
}
