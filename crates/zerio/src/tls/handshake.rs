//! The handshake, which is rustls': from the first bytes to the keys. It may allocate; what comes after it does not.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, ExtractedSecrets, ServerConfig};

use super::certificate::PeerCertificate;
use super::fault;
use super::inbound::Inbound;
use super::keys::{Keys, Schedule};
use super::record::{Opener, RECORD_MAX, Sealer, record_len};
use crate::error::{Alert, TlsFault};

/// A handshake under way.
pub(crate) struct Handshake {
    side: Side,
    /// So many of the bytes that wait are shown to rustls: it is given one record more at a time, so that it never
    /// gets one that comes behind the handshake.
    shown: usize,
    begun: bool,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// The same for either side.
macro_rules! each {
    ($side:expr, $connection:ident => $what:expr) => {
        match $side {
            Side::Client($connection) => $what,
            Side::Server($connection) => $what,
        }
    };
}

/// How far a handshake is.
#[derive(Debug)]
pub(crate) struct Step {
    /// So many of the bytes that wait are done with.
    pub(crate) done_with: usize,
    pub(crate) done: bool,
}

/// What a handshake comes to.
pub(crate) struct Established {
    pub(crate) keys: Keys,
    pub(crate) inbound: Inbound,
    pub(crate) certificate: Option<PeerCertificate>,
}

/// What rustls wants next.
enum Next {
    /// To be asked again.
    Again,
    /// More of what the peer says.
    More,
    Done,
}

impl Handshake {
    pub(super) fn client(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Handshake, TlsFault> {
        let connection = UnbufferedClientConnection::new(config, name).map_err(|error| fault::of(&error))?;
        Ok(Handshake { side: Side::Client(connection), shown: 0, begun: false })
    }

    pub(super) fn server(config: Arc<ServerConfig>) -> Result<Handshake, TlsFault> {
        let connection = UnbufferedServerConnection::new(config).map_err(|error| fault::of(&error))?;
        Ok(Handshake { side: Side::Server(connection), shown: 0, begun: false })
    }

    /// Goes on with what has come, and appends to `out` what is to be sent, an alert included where it fails.
    pub(crate) fn advance(&mut self, incoming: &mut [u8], out: &mut Vec<u8>) -> Result<Step, TlsFault> {
        if !self.begun && !incoming.is_empty() {
            if !begins_like_tls(incoming) {
                return Err(TlsFault::NotTls);
            }
            self.begun = incoming.len() >= 3;
        }
        let mut at = 0;
        loop {
            let shown = &mut incoming[at..at + self.shown];
            let (discard, next) = each!(&mut self.side, side => drive(side.process_tls_records(shown), out));
            at += discard;
            self.shown -= discard;
            match next {
                Ok(Next::Again) => {}
                Ok(Next::Done) => return Ok(Step { done_with: at, done: true }),
                Ok(Next::More) => {
                    let waiting = &incoming[at + self.shown..];
                    let record = record_len(waiting);
                    // What can't be a record is told apart by rustls.
                    let record = if record > RECORD_MAX { waiting.len() } else { record };
                    if waiting.is_empty() || waiting.len() < record {
                        return Ok(Step { done_with: at, done: false });
                    }
                    self.shown += record;
                }
                Err(fault) => {
                    self.last_words(&mut incoming[at..at + self.shown], out);
                    return Err(fault);
                }
            }
        }
    }

    /// The alert by which rustls tells the peer what is wrong, where it has one to give. It is shown the same bytes, because
    /// it knows some of them by their places; and not where it has none, because it would find the same wrong again, and
    /// asserts that it has told nobody yet.
    fn last_words(&mut self, shown: &mut [u8], out: &mut Vec<u8>) {
        if each!(&self.side, side => side.wants_write()) {
            let _ = each!(&mut self.side, side => drive(side.process_tls_records(shown), out));
        }
    }

    /// The keys, when it is done and all that it had to send has been taken from it.
    pub(crate) fn finish(self) -> Result<Established, TlsFault> {
        let certificates = each!(&self.side, side => side.peer_certificates());
        let certificate = certificates.and_then(|chain| chain.first()).cloned().map(PeerCertificate::new);
        let failed = |error: rustls::Error| fault::of(&error);
        let (secrets, schedule) = match self.side {
            Side::Client(client) => {
                let (secrets, schedule) = client.dangerous_into_kernel_connection().map_err(failed)?;
                (secrets, Schedule::Client(schedule))
            }
            Side::Server(server) => {
                let (secrets, schedule) = server.dangerous_into_kernel_connection().map_err(failed)?;
                (secrets, Schedule::Server(schedule))
            }
        };
        let ExtractedSecrets { tx: (sent, send), rx: (received, receive) } = secrets;
        let keys = Keys::new(Sealer::new(sent, &send)?, schedule);
        Ok(Established { keys, inbound: Inbound::new(Opener::new(received, &receive)?), certificate })
    }
}

fn drive<Data>(status: UnbufferedStatus<'_, '_, Data>, out: &mut Vec<u8>) -> (usize, Result<Next, TlsFault>) {
    let UnbufferedStatus { discard, state } = status;
    let next = match state {
        Err(error) => Err(fault::of(&error)),
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                let at = out.len();
                out.resize(at + needed.required_size, 0);
                let written = data.encode(&mut out[at..]).unwrap_or(0);
                out.truncate(at + written);
            }
            Ok(Next::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It will be sent in order, before all that follows.
            data.done();
            Ok(Next::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Next::More),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Next::Done),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(TlsFault::Alert(Alert(0))),
        Ok(_) => Err(TlsFault::Misbehaved),
    };
    (discard, next)
}

/// Whether these are the first bytes of a record as a handshake begins with, as far as they tell: a type
/// (handshake, or an alert), and a version, 3.x.
pub(crate) fn begins_like_tls(bytes: &[u8]) -> bool {
    let is_type = matches!(bytes.first(), None | Some(21 | 22));
    let is_version = matches!(bytes.get(1), None | Some(3)) && matches!(bytes.get(2), None | Some(0..=4));
    is_type && is_version
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").finish_non_exhaustive()
    }
}
