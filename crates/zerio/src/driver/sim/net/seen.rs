//! What an oracle sees of a network, and nobody who is on it does: what it has taken, and what has befallen whom.
#![forbid(unsafe_code)]

use super::super::pipe::Pipe;
use super::super::records::{Record, Records};
use super::{Connection, End, Net};

impl Net {
    /// The first time that somebody did with a socket what must not be done.
    pub(crate) fn misuse(&self) -> Option<String> {
        self.state().misuse.clone()
    }

    /// How many bytes one side has handed to the network.
    pub(crate) fn bytes_sent(&self, end: End) -> u64 {
        self.state().connections[end.connection as usize].pipes[end.side].sent()
    }

    /// The same of all ends that a driver has had.
    pub(crate) fn bytes_sent_by(&self, driver: usize) -> u64 {
        let state = self.state();
        let both = |connection: &Connection| {
            let own = |side: &usize| connection.sides[*side].driver == Some(driver);
            [0, 1].iter().filter(|side| own(side)).map(|&side| connection.pipes[side].sent()).sum::<u64>()
        };
        state.connections.iter().map(both).sum()
    }

    /// Somebody reads along on a connection on which nothing has been sent yet, and knows records of TLS.
    pub(crate) fn read_records(&self, connection: u32) {
        self.state().connections[connection as usize].pipes.iter_mut().for_each(Pipe::read_records);
    }

    /// The records that one side has handed to the network whole, but for the first so many.
    pub(crate) fn records_sent(&self, end: End, but: usize) -> Vec<Record> {
        let state = self.state();
        let records = state.connections[end.connection as usize].pipes[end.side].records();
        records.map_or(&[][..], Records::whole)[but..].to_vec()
    }

    /// How many accepts of a driver have failed.
    pub(crate) fn accept_errors_of(&self, driver: usize) -> u64 {
        let state = self.state();
        let its = state.listeners.iter().filter(|listener| listener.driver == Some(driver));
        its.map(|listener| listener.errors).sum()
    }

    /// Whether neither a reset nor a driver's failure to take it has ended a connection early.
    pub(crate) fn is_whole(&self, connection: u32) -> bool {
        self.state().connections[connection as usize].whole
    }

    /// Whether a driver has ever had this side.
    pub(crate) fn was_taken(&self, end: End) -> bool {
        self.state().side(end).driver.is_some()
    }

    /// Whether the network has shut what this side sends.
    pub(crate) fn is_cut(&self, end: End) -> bool {
        self.state().side(end).cut
    }

    /// Since when a side sends nothing more, if so.
    pub(crate) fn shut_since(&self, end: End) -> Option<u64> {
        self.state().connections[end.connection as usize].pipes[end.side].shut_since()
    }
}
