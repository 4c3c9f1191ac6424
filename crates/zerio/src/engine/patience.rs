//! A peer that lives and does not read is not dead. Linux counts both against TCP_USER_TIMEOUT: a
//! connection whose peer has had no room for so long is ended, however well the peer's system answers
//! the probes. So the engine looks, several times in each `peer_timeout`, at sessions with bytes on their
//! way, and tells the kernel to have patience with those whose peers have no room. How long those may
//! stay is `slow_peer_timeout`'s matter.
//!
//! A session whose reading is paused has no receive that could tell of its end, and it may be long before anybody
//! sends on it: so the engine looks whether its connection still stands, too.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::time::Duration;

use super::{Core, Engine};
use crate::driver::Driver;
#[cfg(target_os = "linux")]
use crate::driver::socket::{Flow, user_timeout};
use crate::handler::Handler;
#[cfg(target_os = "linux")]
use crate::session::State;
use crate::time::Time;

/// So many looks in each `peer_timeout`.
const LOOKS: u32 = 4;

/// The least time between two looks; the kernel's own timers are no finer.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// At so many slots in one turn: each session that sends takes a system call, and there may be ten thousand.
const LOOKS_PER_TURN: usize = 32;

impl Core {
    /// A session has begun: from now on there is something to look at.
    pub(super) fn begin_looking(&mut self) {
        if cfg!(target_os = "linux") && self.look_at == Time::NEVER {
            let pause = self.limits.options.peer_timeout / LOOKS;
            self.look_at = self.now.after(pause.max(LOOK_PAUSE));
        }
    }

    /// Looks whether a session's ring has been full for too long.
    pub(super) fn watch_slowness(&mut self, index: usize) {
        let Some(limit) = self.limits.slow_peer_timeout else { return };
        let session = &mut self.table.sessions[index];
        match (self.shared.slots[index].send.stuck(), session.stuck) {
            (None, _) => session.stuck = None,
            (Some(time), Some((known, _))) if time == known => {}
            (Some(time), _) => {
                // Not from the turn's start: a handler may have taken its time since.
                let when = self.shared.clock.now().after(limit);
                session.stuck = Some((time, when));
                self.alarm = self.alarm.min(when);
            }
        }
    }

    /// How a session's connection takes what is sent, where that is worth a look; why it is no more, where it is.
    #[cfg(target_os = "linux")]
    fn look_at_session(&mut self, index: usize) -> Option<ErrorKind> {
        let session = &mut self.table.sessions[index];
        if !matches!(session.state, State::Open | State::Draining) || session.lost.is_some() {
            return None;
        }
        let send = &self.shared.slots[index].send;
        let sent = send.bytes_sent();
        let mut lost = None;
        // Most sessions are idle: they cost no system call. One that is paused has nothing else that tells of its end.
        if (session.settled != Some(sent) || session.paused)
            && let Some(flow) = send.look(|direct| direct.flow())
        {
            session.settled = (flow == Flow::Settled).then_some(sent);
            let patient = flow == Flow::Closed;
            if flow == Flow::Gone {
                // The system tells why once: where there is a receive, that is whose it is.
                if session.paused {
                    let error = send.look(|direct| direct.take_error()).flatten();
                    lost = Some(error.map_or(ErrorKind::ConnectionReset, |error| error.kind()));
                }
            } else if patient != session.patient {
                let timeout = (!patient).then(|| user_timeout(self.limits.options.peer_timeout));
                let told = send.look(|direct| direct.set_user_timeout(timeout));
                session.patient = told.map_or(session.patient, |()| patient);
            }
        }
        self.look_found = true;
        lost
    }

    /// Elsewhere nothing is asked, for no look ever begins.
    #[cfg(not(target_os = "linux"))]
    fn look_at_session(&mut self, _index: usize) -> Option<ErrorKind> {
        None
    }
}

impl<D: Driver, H: Handler> Engine<D, H> {
    /// It is time to look at each session: at some in this turn, at the next ones in the next.
    pub(super) fn look_for_patience(&mut self) {
        let all = self.core.table.sessions.len();
        let end = all.min(self.core.look_from + LOOKS_PER_TURN);
        for index in self.core.look_from..end {
            if let Some(kind) = self.core.look_at_session(index) {
                self.lose(index, kind);
            }
        }
        self.core.look_from = end % all;
        if end < all {
            return;
        }
        self.core.look_at = Time::NEVER;
        if std::mem::take(&mut self.core.look_found) {
            self.core.begin_looking();
        }
    }
}
