//! What a user's code hears: connected, then messages, then disconnected, always on the engine's thread.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use crate::engine::Context;
use crate::error::{Disconnection, Rejection};

/// What a server or client does when something happens. For each session the events come in this order,
/// each as often as it says: [`on_connected`](Handler::on_connected) once, then
/// [`on_message`](Handler::on_message) for each message, then
/// [`on_disconnected`](Handler::on_disconnected) once.
///
/// All of it runs on the engine's thread, or inside `poll` where you drive: a handler that blocks
/// stalls all sessions of its engine (the counter `longest_turn_ns` tells). A handler that panics ends
/// its engine, in order; it is not called again.
///
/// ```
/// use zerio::{Context, Handler, Server};
///
/// struct Sum(u64);
///
/// impl Handler for Sum {
///     fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
///         self.0 += message.len() as u64;
///         if peer.is_batch_end() {
///             let _ = peer.send(&self.0.to_le_bytes());
///         }
///     }
/// }
///
/// let server = Server::bind("127.0.0.1:0")?.handler(Sum(0)).start()?;
/// # server.stop();
/// # Ok::<(), zerio::Error>(())
/// ```
pub trait Handler {
    /// A session began.
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        let _ = peer;
    }

    /// A message came. Its bytes stay where the kernel put them until this returns.
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let _ = (peer, message);
    }

    /// A session ended; `why` has the reason and what was left to send. Nothing can be sent to it.
    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        let _ = (peer, why);
    }

    /// A connection ended before it became a session. Of a server only.
    fn on_rejected(&mut self, address: SocketAddr, why: &Rejection) {
        let _ = (address, why);
    }
}

/// Handlers made of closures, one for each event; see `on_connected`, `on_message` and
/// `on_disconnected` of a [`Builder`](crate::Builder).
#[derive(Clone, Debug)]
pub struct Closures<C, M, D> {
    pub(crate) connected: C,
    pub(crate) message: M,
    pub(crate) disconnected: D,
}

/// Closures that do nothing, to begin with.
pub type Nothing =
    Closures<fn(&mut Context<'_>), fn(&mut Context<'_>, &[u8]), fn(&mut Context<'_>, &Disconnection)>;

impl Default for Nothing {
    fn default() -> Self {
        Closures { connected: |_| {}, message: |_, _| {}, disconnected: |_, _| {} }
    }
}

impl<C, M, D> Handler for Closures<C, M, D>
where
    C: FnMut(&mut Context<'_>),
    M: FnMut(&mut Context<'_>, &[u8]),
    D: FnMut(&mut Context<'_>, &Disconnection),
{
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        (self.connected)(peer);
    }

    #[inline]
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        (self.message)(peer, message);
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        (self.disconnected)(peer, why);
    }
}
