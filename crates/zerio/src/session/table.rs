//! The fixed table of an engine's sessions: which slots are free.
#![forbid(unsafe_code)]

use super::{Session, State};
use crate::time::Time;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) sessions: Vec<Session>,
    free: Vec<u32>,
}

impl Table {
    pub(crate) fn new(slots: usize) -> Table {
        let sessions = (0..slots as u32).map(Session::free).collect();
        // The lowest slots are taken first: their memory has been touched already.
        Table { sessions, free: (0..slots as u32).rev().collect() }
    }

    /// A free slot that `usable` finds no fault with.
    pub(crate) fn take(&mut self, usable: impl Fn(u32) -> bool) -> Option<u32> {
        let at = self.free.iter().rposition(|&index| usable(index))?;
        Some(self.free.remove(at))
    }

    /// The slot's session is over.
    pub(crate) fn give_back(&mut self, index: u32) {
        let session = &mut self.sessions[index as usize];
        debug_assert_ne!(session.state, State::Free, "a slot is given back once");
        session.state = State::Free;
        session.deadline = Time::NEVER;
        session.stuck = None;
        self.free.push(index);
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
        table.sessions[a as usize].state = State::Closing;
        table.give_back(a);
        assert!(table.take(|index| index != a).is_none(), "a slot that can't be used yet stays");
        assert_eq!(table.take(|_| true), Some(a));
    }
}
