//! What a user's code hears: connected, then messages, then disconnected, always on the engine's thread.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;

use crate::engine::Context;
use crate::error::{Disconnection, RefusalCode, Rejection};
#[cfg(feature = "tls")]
use crate::tls::PeerCertificate;
use crate::wire::{PeerId, REFUSAL_TEXT_MAX};

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
    /// Whether somebody is let in. Of a server only; asked once for each connection whose first frame is a peer id,
    /// before anything else is done about that id, so whoever is not let in neither takes another's place nor
    /// learns who is connected. Lets everybody in, unless you say otherwise.
    ///
    /// A refusal is a value, and making one allocates nothing.
    ///
    /// ```
    /// use zerio::{Arrival, Handler, Refusal};
    ///
    /// struct Lan;
    ///
    /// impl Handler for Lan {
    ///     fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
    ///         match arrival.id().strip_prefix("sensor-") {
    ///             Some(_) if arrival.address().ip().is_loopback() => Ok(()),
    ///             Some(_) => Err(Refusal::new("sensors are on this machine")),
    ///             None => Err(Refusal::default()),
    ///         }
    ///     }
    /// }
    /// ```
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        let _ = arrival;
        Ok(())
    }

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

    /// A connection ended before it became a session. Of a server only. It is called for each, however many there
    /// are in a second: to log them there is [`on_rejections`](Handler::on_rejections).
    fn on_rejected(&mut self, address: SocketAddr, why: &Rejection) {
        let _ = (address, why);
    }

    /// Connections ended before they became sessions: the same as [`on_rejected`](Handler::on_rejected), for a log
    /// that nobody is to fill. Of a server only. Each engine tells of each kind once a second at the most: of each
    /// [`RefusalCode`], and of all that ended by themselves. The first of a kind is told at once; what comes within
    /// the second after it is told together, at the end of that second.
    ///
    /// ```
    /// use zerio::{Handler, Rejections};
    ///
    /// struct Logs;
    ///
    /// impl Handler for Logs {
    ///     fn on_rejections(&mut self, some: &Rejections) {
    ///         eprintln!("{some}"); // 192.0.2.1:4000 did not become a session: refused: server full
    ///     }
    /// }
    /// ```
    fn on_rejections(&mut self, some: &Rejections) {
        let _ = some;
    }
}

/// Somebody who wants to come in: what a server knows of him when it decides.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    pub(crate) id: &'a PeerId,
    pub(crate) address: SocketAddr,
    #[cfg(feature = "tls")]
    pub(crate) certificate: Option<&'a PeerCertificate>,
}

impl Arrival<'_> {
    /// The peer id that he gives. Nothing proves that it is his, but a certificate, where one is required.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// Where he connects from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that he has shown, and that was accepted. A peer id that it does not allow was refused before
    /// this.
    #[cfg(feature = "tls")]
    pub fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate
    }
}

/// Why somebody is not let in, in words that he hears: [`RefusalCode::NotAllowed`] and this text. It carries its
/// bytes, so that making one allocates nothing.
///
/// ```
/// use zerio::Refusal;
///
/// assert_eq!(Refusal::default().text(), "id not allowed");
/// assert_eq!(Refusal::new("come back on Monday").text(), "come back on Monday");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    len: u8,
    bytes: [u8; REFUSAL_TEXT_MAX],
}

impl Refusal {
    /// A refusal with this text, of which the first 96 bytes count, to the end of the last whole character.
    pub fn new(text: &str) -> Refusal {
        let mut len = text.len().min(REFUSAL_TEXT_MAX);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        let mut bytes = [0; REFUSAL_TEXT_MAX];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Refusal { len: len as u8, bytes }
    }

    /// The text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len as usize]).unwrap_or_default()
    }
}

impl Default for Refusal {
    fn default() -> Self {
        Refusal::new(RefusalCode::NotAllowed.text())
    }
}

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Refusal::new(text)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusal").field(&self.text()).finish()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Connections of late that ended before they became sessions, for one kind of reason; see
/// [`Handler::on_rejections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejections {
    /// Where the last of them came from.
    pub address: SocketAddr,
    /// Why it did not become a session.
    pub why: Rejection,
    /// How many others of this kind there were since the last that was told.
    pub others: u64,
}

impl fmt::Display for Rejections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} did not become a session: {}", self.address, self.why)?;
        match self.others {
            0 => Ok(()),
            others => write!(f, " (and {others} more of late)"),
        }
    }
}

/// Handlers made of closures, one for each event; see `on_connected`, `on_message` and
/// `on_disconnected` of a [`Builder`](crate::Builder), and [`admit`](crate::Builder::admit).
#[derive(Clone, Debug)]
pub struct Closures<C, M, D, A = AdmitAll> {
    pub(crate) connected: C,
    pub(crate) message: M,
    pub(crate) disconnected: D,
    pub(crate) admit: A,
}

/// What [`Closures`] let in before anything is said of it: everybody.
pub type AdmitAll = fn(&Arrival<'_>) -> Result<(), Refusal>;

/// Closures that do nothing, to begin with.
pub type Nothing =
    Closures<fn(&mut Context<'_>), fn(&mut Context<'_>, &[u8]), fn(&mut Context<'_>, &Disconnection)>;

impl Default for Nothing {
    fn default() -> Self {
        Closures { connected: |_| {}, message: |_, _| {}, disconnected: |_, _| {}, admit: |_| Ok(()) }
    }
}

impl<C, M, D, A> Handler for Closures<C, M, D, A>
where
    C: FnMut(&mut Context<'_>),
    M: FnMut(&mut Context<'_>, &[u8]),
    D: FnMut(&mut Context<'_>, &Disconnection),
    A: FnMut(&Arrival<'_>) -> Result<(), Refusal>,
{
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        (self.admit)(arrival)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_whole_characters_of_its_first_96_bytes() {
        let longest = "x".repeat(96);
        assert_eq!(Refusal::new(&longest).text(), longest);
        assert_eq!(Refusal::new(&"x".repeat(97)).text(), longest);
        let cut = format!("{}ü", "x".repeat(95));
        assert_eq!(Refusal::new(&cut).text(), &longest[..95]);
        assert_eq!(Refusal::new("").text(), "");
    }
}
