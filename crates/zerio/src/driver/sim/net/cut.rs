//! Links that are cut, of which nobody is told: what is on its way waits for the link to be restored, and where that
//! takes too long, each side's system gives the connection up by itself. So does a hasty one with a peer that lives and
//! has no room.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
use std::io;
use std::io::ErrorKind;

#[cfg(target_os = "linux")]
use super::Net;
use super::{Connection, End, Event, State};

#[cfg(target_os = "linux")]
impl Net {
    /// Why a side's connection is no more. Unlike Linux it tells each time.
    pub(crate) fn error(&self, end: End) -> Option<io::Error> {
        self.state().side(end).lost.map(io::Error::from)
    }

    /// A side's system is to have patience with a peer that has no room, or none.
    pub(crate) fn be_patient(&self, end: End, patient: bool) {
        self.state().side(end).patient = patient;
    }
}

impl State {
    /// The link of a connection is cut, as often as the faults say.
    pub(super) fn may_cut(&mut self, connection: u32) {
        if !self.strikes("cut link", self.faults.cuts) {
            return;
        }
        let patience = self.faults.gives_up.as_nanos().max(1) as u64;
        let lasts = self.random.between(1, 2 * patience);
        let cut = &mut self.connections[connection as usize];
        if lasts < patience {
            // It is sent again and again, and comes when it can.
            let restored = self.now + lasts;
            cut.pipes.iter_mut().for_each(|pipe| _ = pipe.arrive_after(restored));
            return;
        }
        cut.severed = true;
        for side in [0, 1] {
            // Each has heard from the other at another time.
            let later = self.random.between(patience, patience + patience / 4);
            self.plan(self.now + later, Event::GivenUp { at: End { connection, side } });
        }
    }

    /// Somebody would send, and there is no room.
    pub(super) fn find_no_room(&mut self, end: End) {
        let pipe = &mut self.connections[end.connection as usize].pipes[end.side];
        if self.faults.hasty && pipe.full_since().is_none() {
            pipe.fill(self.now);
            let event = Event::NoRoom { at: end, since: self.now };
            self.plan(self.now + self.faults.gives_up.as_nanos() as u64, event);
        }
    }

    /// There has been none for as long as a hasty system waits.
    pub(super) fn no_room(&mut self, at: End, since: u64) {
        let Connection { sides, pipes, .. } = &self.connections[at.connection as usize];
        let (side, pipe) = (&sides[at.side], &pipes[at.side]);
        if self.faults.hasty && side.driver.is_some() && pipe.full_since() == Some(since) {
            match side.patient {
                true => *self.happened.entry("no room").or_default() += 1,
                false => self.give_up(at),
            }
        }
    }

    /// A system has waited long enough. What has come before that it still gives.
    pub(super) fn give_up(&mut self, at: End) {
        self.lose(at, ErrorKind::TimedOut, true);
    }
}
