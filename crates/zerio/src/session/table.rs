//! The fixed table of an engine's sessions: which slots are free.
#![forbid(unsafe_code)]

use super::{Session, State};
use crate::time::Time;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) sessions: Vec<Session>,
    free: Vec<u32>,
    /// How many are in their handshake.
    handshaking: usize,
}

impl Table {
    pub(crate) fn new(slots: usize) -> Table {
        let sessions = (0..slots as u32).map(Session::free).collect();
        // The lowest slots are taken first: their memory has been touched already.
        Table { sessions, free: (0..slots as u32).rev().collect(), handshaking: 0 }
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
}
