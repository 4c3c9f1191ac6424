//! A connection that takes nothing more may still have something to give. A peer that writes and closes without
//! reading answers the first echo with a reset, and what it had sent before lies in this side's kernel: systems let
//! a program have that. So a session whose send has failed accepts nothing more, and is read on until the kernel says
//! that there is nothing left, or `drain_timeout` is over.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::{Engine, Role};
use crate::driver::Driver;
use crate::error::Reason;
#[cfg(feature = "tls")]
use crate::error::TlsFault;
use crate::handler::Handler;
use crate::send::BROKEN;
use crate::session::State;

impl<D: Driver, H: Handler> Engine<D, H> {
    /// A session's connection takes nothing more.
    pub(super) fn lose(&mut self, index: usize, kind: ErrorKind) {
        let session = &mut self.core.table.sessions[index];
        match session.state {
            // It is known already.
            State::Open | State::Draining if session.lost.is_some() => return,
            State::Open | State::Draining if session.announced && !session.muted && kind != BROKEN => {}
            // Nobody hears what may still come, or the peer hears what makes no sense.
            _ => return self.abort(index, Reason::Connection(kind)),
        }
        session.lost = Some(kind);
        session.stuck = None;
        if let Role::Server(server) = &self.core.role {
            server.directory.lose(&session.peer, server.engine, session.id);
        }
        if session.state == State::Open {
            self.core.table.go_to(index, State::Draining);
            self.core.set_deadline(index, self.core.limits.drain_timeout);
        }
        self.core.shared.slots[index].send.close();
        let session = &self.core.table.sessions[index];
        if session.ended && !session.paused {
            self.heard_the_end(index);
        }
    }

    /// All that a lost connection had to give has been handled: why it has ended is what its reads have told, unless
    /// the failed send has taken that from them. Linux tells of a reset once. It calls it a broken pipe where the
    /// peer's end had come before it, and then that end was the peer's last word.
    pub(super) fn heard_all(&mut self, index: usize, kind: ErrorKind) {
        let reason = match (kind, self.unheard(index)) {
            #[cfg(feature = "tls")]
            (ErrorKind::BrokenPipe, _) if self.core.is_cut_off(index) => Reason::Tls(TlsFault::Truncated),
            (ErrorKind::BrokenPipe, 0) => Reason::PeerClosed,
            (ErrorKind::BrokenPipe, received) => Reason::Truncated { received },
            (kind, _) => Reason::Connection(kind),
        };
        self.abort(index, reason);
    }
}
