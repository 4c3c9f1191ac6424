//! Listening, and accepting who has connected.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::super::address::{address_of, listening_address};
use super::{BACKLOG, End, Listener, Net};

impl Net {
    /// Listens on an address that nobody listens on.
    pub(crate) fn listen(&self, address: SocketAddr, silent: bool) -> usize {
        let mut state = self.state();
        let (driver, backlog) = (None, VecDeque::with_capacity(BACKLOG));
        let listener = Listener { address, driver, open: true, silent, waits: false, backlog, errors: 0 };
        state.listeners.push(listener);
        state.listeners.len() - 1
    }

    /// An address on which nobody has ever listened.
    pub(crate) fn free_address(&self) -> SocketAddr {
        listening_address(self.state().listeners.len())
    }

    #[cfg(test)]
    pub(crate) fn is_listened_on(&self, address: SocketAddr) -> bool {
        self.state().listeners.iter().any(|listener| listener.open && listener.address == address)
    }

    /// A driver waits for connections, or not any more.
    pub(crate) fn wait_to_accept(&self, listener: usize, driver: usize, waits: bool) {
        let listener = &mut self.state().listeners[listener];
        (listener.driver, listener.waits) = (Some(driver), waits);
    }

    /// A connection that waits at a listener.
    pub(crate) fn accept(&self, listener: usize) -> Option<io::Result<(End, SocketAddr)>> {
        let state = &mut *self.state();
        let connection = *state.listeners[listener].backlog.front()?;
        if state.strikes("accept error", state.faults.accept_errors) {
            state.listeners[listener].errors += 1;
            if state.random.happens(500) {
                // For want of descriptors: it stays where it is.
                return Some(Err(ErrorKind::Other.into()));
            }
            state.listeners[listener].backlog.pop_front();
            state.close(End { connection, side: 1 }, true);
            return Some(Err(ErrorKind::ConnectionAborted.into()));
        }
        state.listeners[listener].backlog.pop_front();
        let (end, now) = (End { connection, side: 1 }, state.now);
        state.side(end).befallen.accepted = Some((listener, now));
        Some(Ok((end, address_of(connection))))
    }

    pub(crate) fn stop_listening(&self, listener: usize) {
        let state = &mut *self.state();
        state.listeners[listener].open = false;
        while let Some(connection) = state.listeners[listener].backlog.pop_front() {
            state.close(End { connection, side: 1 }, true);
        }
    }
}
