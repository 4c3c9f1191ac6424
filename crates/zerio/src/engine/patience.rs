//! A peer that lives and does not read is not dead. Linux counts both against TCP_USER_TIMEOUT: a
//! connection whose peer has had no room for so long is ended, however well the peer's system answers
//! the probes. So the engine looks, several times in each `peer_timeout`, at sessions with bytes on their
//! way, and tells the kernel to have patience with those whose peers have no room. How long those may
//! stay is `slow_peer_timeout`'s matter.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::Core;
use crate::time::Time;

/// So many looks in each `peer_timeout`.
const LOOKS: u32 = 4;

/// The least time between two looks; the kernel's own timers are no finer.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

impl Core {
    /// A session has begun: from now on there is something to look at.
    pub(super) fn begin_looking(&mut self) {
        if cfg!(target_os = "linux") && self.look_at == Time::NEVER {
            let pause = self.limits.options.peer_timeout / LOOKS;
            self.look_at = self.now.after(pause.max(LOOK_PAUSE));
            self.alarm = self.alarm.min(self.look_at);
        }
    }

    /// Looks at each session, when it is time to.
    pub(super) fn look_for_patience(&mut self) {
        if self.now < self.look_at {
            return;
        }
        self.look_at = Time::NEVER;
        #[cfg(target_os = "linux")]
        for index in 0..self.table.sessions.len() {
            self.look_at_session(index);
        }
    }

    #[cfg(target_os = "linux")]
    fn look_at_session(&mut self, index: usize) {
        use crate::driver::socket::{Flow, user_timeout};
        use crate::session::State;

        let session = &mut self.table.sessions[index];
        if !matches!(session.state, State::Open | State::Draining) {
            return;
        }
        let send = &self.shared.slots[index].send;
        let sent = send.bytes_sent();
        // Most sessions are idle: they cost no system call.
        if session.settled != Some(sent)
            && let Some(flow) = send.look(|direct| direct.flow())
        {
            session.settled = (flow == Flow::Settled).then_some(sent);
            let patient = flow == Flow::Closed;
            if patient != session.patient {
                let timeout = (!patient).then(|| user_timeout(self.limits.options.peer_timeout));
                let told = send.look(|direct| direct.set_user_timeout(timeout));
                session.patient = told.map_or(session.patient, |()| patient);
            }
        }
        self.begin_looking();
    }
}
