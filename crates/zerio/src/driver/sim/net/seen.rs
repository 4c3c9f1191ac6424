//! What an oracle sees of a network, and nobody who is on it does: what it has taken, and what has befallen whom.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::super::faults::Faults;
use super::super::pipe::Pipe;
use super::super::records::{Record, Records};
use super::{Connection, End, Net, State};

/// What has befallen one side.
#[derive(Debug, Default)]
pub(super) struct Befallen {
    /// The network has shut what it sends.
    pub(super) cut: bool,
    /// By which listener it was accepted, and when.
    pub(super) accepted: Option<(usize, u64)>,
    /// Since when a driver has it.
    pub(super) taken_at: Option<u64>,
    /// Since when it can't send.
    pub(super) failed_at: Option<u64>,
    /// How many bytes had arrived and were not received when it was closed.
    pub(super) unread: usize,
}

impl State {
    /// Whether a kind of fault happens now, which does so many times in a thousand.
    pub(super) fn strikes(&mut self, what: &'static str, in_a_thousand: u32) -> bool {
        let strikes = self.random.happens(in_a_thousand);
        if strikes {
            *self.happened.entry(what).or_default() += 1;
        }
        strikes
    }
}

impl Net {
    /// The same for a driver, and for who drives engines.
    pub(crate) fn strikes(&self, what: &'static str, in_a_thousand: impl FnOnce(&Faults) -> u32) -> bool {
        let state = &mut *self.state();
        state.strikes(what, in_a_thousand(&state.faults))
    }

    /// How much later something comes that comes late.
    pub(crate) fn late_by(&self) -> u64 {
        self.with_faults(|faults, random| random.between(1, faults.delay.as_nanos().max(1) as u64))
    }

    /// How often each kind of fault has happened.
    pub(crate) fn happened(&self) -> Vec<(&'static str, u64)> {
        self.state().happened.iter().map(|(what, often)| (*what, *often)).collect()
    }

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

    /// The same, and its link is not cut for good either.
    pub(crate) fn is_sound(&self, connection: u32) -> bool {
        let connection = &self.state().connections[connection as usize];
        connection.whole && !connection.severed
    }

    /// Whether this side's system has given its connection up.
    pub(crate) fn is_given_up(&self, end: End) -> bool {
        self.state().side(end).lost == Some(ErrorKind::TimedOut)
    }

    /// Whether its link is cut for good.
    pub(crate) fn is_severed(&self, connection: u32) -> bool {
        self.state().connections[connection as usize].severed
    }

    /// Whether a driver has ever had this side.
    pub(crate) fn was_taken(&self, end: End) -> bool {
        self.state().side(end).driver.is_some()
    }

    /// Whether the network has shut what this side sends.
    pub(crate) fn is_cut(&self, end: End) -> bool {
        self.state().side(end).befallen.cut
    }

    /// Since when a side sends nothing more, if so.
    pub(crate) fn shut_since(&self, end: End) -> Option<u64> {
        self.state().connections[end.connection as usize].pipes[end.side].shut_since()
    }

    /// By which listener a side was accepted, and when.
    pub(crate) fn accepted(&self, end: End) -> Option<(usize, u64)> {
        self.state().side(end).befallen.accepted
    }

    /// Since when a driver has had this side.
    pub(crate) fn taken_at(&self, end: End) -> Option<u64> {
        self.state().side(end).befallen.taken_at
    }

    /// Since when a side's attempts to send have failed.
    pub(crate) fn failed_at(&self, end: End) -> Option<u64> {
        self.state().side(end).befallen.failed_at
    }

    /// How many bytes a side has received, and how many more it could have when it was closed.
    pub(crate) fn received(&self, end: End) -> (u64, usize) {
        let connection = &self.state().connections[end.connection as usize];
        (connection.pipes[1 - end.side].read_so_far(), connection.sides[end.side].befallen.unread)
    }
}
