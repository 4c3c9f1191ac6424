//! A session's keys after its handshake: what the holder of the pump flag seals with, and rustls' key schedule,
//! which makes the next ones.
#![forbid(unsafe_code)]

use std::fmt;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::record::{Kind, Opener, Sealer};
use crate::error::TlsFault;

/// The message by which a side says that its next record has another key (RFC 8446, 4.6.3), without the byte that
/// asks for the same of the other side.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

pub(crate) struct Keys {
    sealer: Sealer,
    schedule: Schedule,
    /// So many records may be sealed with one key.
    limit: u64,
}

/// What is left of rustls' connection.
pub(super) enum Schedule {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// The same for either side.
macro_rules! each {
    ($schedule:expr, $side:ident => $what:expr) => {
        match $schedule {
            Schedule::Client($side) => $what,
            Schedule::Server($side) => $what,
        }
    };
}

impl Keys {
    pub(super) fn new(sealer: Sealer, schedule: Schedule) -> Keys {
        let suite = each!(&schedule, side => side.negotiated_cipher_suite());
        let limit = suite.tls13().map_or(1 << 23, |suite| suite.common.confidentiality_limit);
        Keys { sealer, schedule, limit }
    }

    /// For a simulation, in which nobody waits for a million records: so many may be sealed with one key.
    #[cfg(feature = "sim")]
    pub(crate) fn wear_out_after(&mut self, records: u64) {
        self.limit = records;
    }

    /// Whether so many more records are too many for this key.
    pub(crate) fn are_worn(&self, records: u64) -> bool {
        self.limit - self.sealer.sequence().min(self.limit) <= records
    }

    /// Makes one record of at most `PLAIN_MAX` bytes at the start of `out`; gives its length.
    pub(crate) fn seal(&mut self, kind: Kind, plain: &[u8], out: &mut [u8]) -> usize {
        self.sealer.seal(kind, plain, out)
    }

    /// Says that the next record has another key, and takes that one; gives the length of the record that says so.
    pub(crate) fn renew(&mut self, out: &mut [u8]) -> Result<usize, TlsFault> {
        let [kind, a, b, c] = KEY_UPDATE;
        let len = self.sealer.seal(Kind::Handshake, &[kind, a, b, c, 0], out);
        let secrets = each!(&mut self.schedule, side => side.update_tx_secret());
        let (sequence, secrets) = secrets.map_err(|_| TlsFault::Misbehaved)?;
        self.sealer = Sealer::new(sequence, &secrets)?;
        Ok(len)
    }

    /// The peer has said that its next record has another key: what opens it.
    pub(crate) fn next_opener(&mut self) -> Result<Opener, TlsFault> {
        let secrets = each!(&mut self.schedule, side => side.update_rx_secret());
        let (sequence, secrets) = secrets.map_err(|_| TlsFault::Misbehaved)?;
        Opener::new(sequence, &secrets)
    }

    /// The server gives a ticket for a later connection. No client gives one.
    pub(crate) fn keep_ticket(&mut self, ticket: &[u8]) -> Result<(), TlsFault> {
        match &mut self.schedule {
            Schedule::Client(client) => {
                client.handle_new_session_ticket(ticket).map_err(|_| TlsFault::Misbehaved)
            }
            Schedule::Server(_) => Err(TlsFault::Unexpected),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
