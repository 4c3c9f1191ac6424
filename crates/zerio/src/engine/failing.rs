//! How an engine ends before it was stopped: its handler has panicked, or its driver has failed.
#![forbid(unsafe_code)]

use std::io;

use super::{Engine, Role};
use crate::driver::Driver;
use crate::error::Reason;
use crate::handler::Handler;
use crate::session::State;
use crate::time::Time;

impl<D: Driver, H: Handler> Engine<D, H> {
    /// The engine ends without its handler, which has panicked; the driver still works.
    pub(crate) fn end_without_handler(&mut self) {
        self.silent = true;
        self.count_handed();
        self.core.stopping = true;
        self.core.accept_at = Time::NEVER;
        self.driver.stop_listening();
        self.turn_away();
        for index in 0..self.core.table.sessions.len() {
            self.abort(index, Reason::HandlerPanicked);
        }
    }

    /// The driver has failed: every session ends now. What it had in flight counts as not taken.
    pub(crate) fn end_without_driver(&mut self, kind: io::ErrorKind) {
        // What it had told and nobody has heard yet is of sessions that end here.
        self.done.clear();
        self.core.stopping = true;
        self.turn_away();
        for index in 0..self.core.table.sessions.len() {
            let session = &mut self.core.table.sessions[index];
            if session.state == State::Free {
                continue;
            }
            session.reason.get_or_insert(Reason::DriverFailed(kind));
            self.core.table.go_to(index, State::Closing);
            let send = &self.core.shared.slots[index].send;
            send.close();
            send.disconnect();
            self.closed(index);
        }
        self.tell_untold(Time::NEVER);
    }

    /// An engine that ends early takes no more connections from the one that accepts, closes those that
    /// wait for it, and keeps no ids.
    fn turn_away(&mut self) {
        self.core.shared.stopping.set(true);
        for (_, address) in self.inbox().close() {
            self.lighten(address);
        }
        if let Role::Server(server) = &self.core.role {
            self.core.table.forget_all();
            server.directory.leave_all(server.engine);
        }
    }
}
