//! What a simulation may look at and do that a thread would not: see whether all is where it belongs, and let an
//! engine sleep while others go on.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use super::{Engine, Role};
use crate::driver::Driver;
use crate::handler::Handler;
use crate::session::State;

/// An engine may wake up so late for a deadline: the world lets it, and a user's loop comes by when it likes.
const LATE: Duration = Duration::from_millis(20);

impl<D: Driver, H: Handler> Engine<D, H> {
    /// Whether all that belongs to its start is done: from now on it allocates nothing.
    pub(crate) fn has_started(&self) -> bool {
        match &self.core.role {
            Role::Client(client) => client.concluded,
            Role::Server(_) => true,
        }
    }

    /// After it has said that it sleeps: hands over what was asked for, as a wait in the kernel begins with.
    /// Tells whether there is nothing to wake up for.
    pub(crate) fn doze(&mut self) -> io::Result<bool> {
        self.driver.turn(Duration::ZERO, &mut self.done)?;
        Ok(self.done.is_empty())
    }

    /// Before its first session: the slots are taken in another order.
    pub(crate) fn shuffle_slots(&mut self, below: impl FnMut(usize) -> usize) {
        self.core.table.shuffle(below);
    }

    /// What is not as it must be after every turn.
    pub(crate) fn fault(&self) -> Option<String> {
        for (index, session) in self.core.table.sessions.iter().enumerate() {
            let send = &self.core.shared.slots[index].send;
            if let Some(cursors) = send.fault() {
                return Some(format!("slot {index}, {:?}: the ring's cursors: {cursors}", session.state));
            }
            if matches!(session.state, State::Draining | State::Closing) && !send.is_closed() {
                return Some(format!("slot {index}, {:?}: it accepts messages", session.state));
            }
            if self.core.shared.clock.now().since(session.deadline) > LATE {
                return Some(format!("slot {index}, {:?}: its deadline is over", session.state));
            }
            // What a lost connection does not take stays, and is counted at its end.
            let sends = matches!(session.state, State::Open | State::Draining) && session.lost.is_none();
            if sends && send.is_forgotten() {
                return Some(format!(
                    "slot {index}, {:?}: nobody will look for what was accepted",
                    session.state
                ));
            }
            if self.buffers[index].is_lent() != session.receiving {
                return Some(format!("slot {index}: its room is lent or not, its session says otherwise"));
            }
            if session.state == State::Free && (session.receiving || self.buffers[index].len() > 0) {
                return Some(format!("slot {index} is free, and its buffer is not"));
            }
        }
        let handshaking = |session: &&crate::session::Session| session.state == State::Handshaking;
        let (counted, most) = (self.core.table.handshaking(), self.core.limits.handshakes_max);
        // Who waits for an older session to end has said who he is.
        let silent = counted - self.core.awaiting.len();
        match self.core.table.sessions.iter().filter(handshaking).count() {
            there if there != counted => {
                Some(format!("{there} are in their handshake, {counted} are counted"))
            }
            _ if silent > most => Some(format!("{silent} are in their handshake, {most} may be")),
            _ => None,
        }
    }

    /// A slot that an engine which is finished has left, whatever its driver has come to.
    pub(crate) fn slot_left(&self) -> Option<String> {
        let mut sessions = self.core.table.sessions.iter().enumerate();
        let (index, session) = sessions.find(|(_, session)| session.state != State::Free)?;
        Some(format!("slot {index} is left {:?}", session.state))
    }

    /// What is not as it must be when an engine is finished, its driver still there.
    pub(crate) fn fault_at_rest(&self, receive_buffer: usize) -> Option<String> {
        let all = receive_buffer + crate::wire::HELLO_FRAME;
        let whole = |index: usize| self.buffers[index].capacity() == Some(all);
        let sessions = self.core.table.sessions.iter().enumerate();
        let mut busy = sessions.filter(|(index, session)| session.state != State::Free || !whole(*index));
        busy.next().map(|(index, session)| format!("slot {index} is left {:?}", session.state))
    }
}
