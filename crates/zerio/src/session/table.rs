//! The fixed table of an engine's sessions: which slots are free, and which has a peer's session.
#![forbid(unsafe_code)]

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::{Session, State};
use crate::driver::SlotId;
use crate::time::Time;

/// What one place among the known costs.
#[cfg(test)]
pub(crate) const BYTES_PER_SESSION: usize = size_of::<u32>() + 1;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) sessions: Vec<Session>,
    free: Vec<u32>,
    /// How many are in their handshake.
    handshaking: usize,
    /// The slots of those that a server's handler may name by their ids. The directory has them too, for every thread and
    /// so under a lock; and to take a lock waits for all that was written before. A message for each of a hundred
    /// peers is written to memory that no cache has, and with a lock before each one such wait came after the other.
    known: HashTable<u32>,
    /// Peers choose their ids, so where an id stands is another in each table.
    hasher: DefaultHashBuilder,
}

impl Table {
    pub(crate) fn new(slots: usize) -> Table {
        let sessions = (0..slots as u32).map(Session::free).collect();
        // The lowest slots are taken first: their memory has been touched already.
        let free = (0..slots as u32).rev().collect();
        // As in the directory: with so much room it never grows.
        let known = HashTable::with_capacity(2 * slots + 16);
        Table { sessions, free, handshaking: 0, known, hasher: DefaultHashBuilder::default() }
    }

    /// A session begins, in a slot that was taken.
    pub(crate) fn begin(&mut self, index: usize, session: Session) {
        self.handshaking += usize::from(session.state == State::Handshaking);
        self.sessions[index] = session;
        #[cfg(feature = "tracing")]
        self.sessions[index].trace();
    }

    /// A session goes on to another state.
    pub(crate) fn go_to(&mut self, index: usize, state: State) {
        let session = &mut self.sessions[index];
        self.handshaking -= usize::from(session.state == State::Handshaking);
        self.handshaking += usize::from(state == State::Handshaking);
        session.state = state;
        #[cfg(feature = "tracing")]
        session.trace();
    }

    /// A session is found by its peer's id, which no other of this table has.
    pub(crate) fn make_known(&mut self, index: usize) {
        let Table { sessions, known, hasher, .. } = self;
        let hash_of = |slot: &u32| hasher.hash_one(sessions[*slot as usize].peer.as_bytes());
        known.insert_unique(hash_of(&(index as u32)), index as u32, hash_of);
    }

    /// It is not found any more.
    pub(crate) fn forget(&mut self, index: usize) {
        let hash = self.hasher.hash_one(self.sessions[index].peer.as_bytes());
        if let Ok(entry) = self.known.find_entry(hash, |&slot| slot as usize == index) {
            entry.remove();
        }
    }

    /// Nobody is.
    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
    }

    /// The session of a peer that is known.
    #[inline]
    pub(crate) fn find(&self, peer: &str) -> Option<SlotId> {
        let is_it = |slot: &u32| self.sessions[*slot as usize].peer.as_bytes() == peer.as_bytes();
        let slot = self.known.find(self.hasher.hash_one(peer.as_bytes()), is_it)?;
        Some(self.sessions[*slot as usize].id)
    }

    /// How many sessions are in their handshake.
    pub(crate) fn handshaking(&self) -> usize {
        self.handshaking
    }

    /// A free slot that `usable` finds no fault with.
    pub(crate) fn take(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.free.iter().rposition(|&index| usable(index))?;
        Some(self.free.remove(at))
    }

    /// The slot's session is over.
    pub(crate) fn give_back(&mut self, index: u32) {
        debug_assert_ne!(self.sessions[index as usize].state, State::Free, "a slot is given back once");
        self.go_to(index as usize, State::Free);
        let session = &mut self.sessions[index as usize];
        session.deadline = Time::NEVER;
        session.stuck = None;
        self.free.push(index);
    }

    /// For a simulation: free slots are taken in another order, so that few sessions lie far apart. `below` gives a
    /// number that is.
    #[cfg(feature = "sim")]
    pub(crate) fn shuffle(&mut self, mut below: impl FnMut(usize) -> usize) {
        for last in (1..self.free.len()).rev() {
            self.free.swap(last, below(last + 1));
        }
    }

    /// How many slots have no session.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Whether no slot has a session.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.sessions.len()
    }

    /// Of the sessions that `are` so, the one whose deadline is the soonest.
    pub(crate) fn soonest(&self, are: impl Fn(&Session) -> bool) -> Option<usize> {
        let some = self.sessions.iter().enumerate().filter(|(_, session)| are(session));
        some.min_by_key(|(_, session)| session.deadline).map(|(index, _)| index)
    }

    /// When the next deadline of any session is.
    pub(crate) fn next_alarm(&self) -> Time {
        self.sessions.iter().map(Session::alarm).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::PeerId;

    #[test]
    fn a_slot_is_one_sessions_at_a_time() {
        let mut table = Table::new(2);
        let (a, b) = (table.take(|_| true).unwrap(), table.take(|_| true).unwrap());
        assert_ne!(a, b);
        assert!(table.take(|_| true).is_none());
        table.go_to(a as usize, State::Closing);
        table.give_back(a);
        assert!(table.take(|index| index != a).is_none(), "a slot that can't be used yet stays");
        assert_eq!(table.take(|_| true), Some(a));
    }

    #[test]
    fn a_session_is_found_by_its_id_while_it_is_known() {
        let mut table = Table::new(3);
        for index in 0..3 {
            table.sessions[index].peer = PeerId::new(&format!("peer-{index}")).unwrap();
            table.make_known(index);
        }
        assert_eq!(table.find("peer-1"), Some(table.sessions[1].id));
        assert_eq!(table.find("peer-3"), None);
        table.forget(1);
        table.forget(1);
        assert_eq!(table.find("peer-1"), None);
        // Another session of the same peer, in another slot.
        table.sessions[0].peer = PeerId::new("peer-1").unwrap();
        table.forget_all();
        table.make_known(0);
        assert_eq!((table.find("peer-1"), table.find("peer-2")), (Some(table.sessions[0].id), None));
    }

    #[test]
    fn what_peers_are_known_by_never_grows() {
        let mut table = Table::new(64);
        // Not its capacity, which counts what was removed and not yet swept up as taken.
        let made = table.known.allocation_size();
        for number in 0..100_000 {
            let index = number * 7 % 64;
            table.forget(index);
            table.sessions[index].peer = PeerId::new(&format!("peer-{number}")).unwrap();
            table.make_known(index);
        }
        assert_eq!((table.known.len(), table.known.allocation_size()), (64, made));
    }
}
