//! How an engine sleeps, so that nobody who has work for it waits longer than for a wake-up.
#![forbid(unsafe_code)]

use std::io;
use std::time::Duration;

use super::Engine;
use crate::driver::Driver;
use crate::handler::Handler;
use crate::time::Time;

/// How long a parked engine that has to look again at something may sleep.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A nap. What another thread sends meanwhile goes to the kernel at its end, all at once. With `rio`, and with `poll`
/// elsewhere than on Linux, it is a millisecond, the least that their waits know.
const NAP: Duration = Duration::from_micros(50);

/// The longest that a parked engine sleeps in any case.
const LONGEST_PARK: Duration = Duration::from_secs(60);

impl<D: Driver, H: Handler> Engine<D, H> {
    /// Waits in the kernel until something happens, but not for longer than this engine may; the next turn
    /// sees what it was. Not if a sender has work for it already.
    pub(crate) fn park(&mut self, now: Time) -> io::Result<()> {
        match self.fall_asleep(now) {
            Some(bound) => self.stay_asleep(bound),
            None => Ok(()),
        }
    }

    /// Waits in the kernel for a moment, or until something comes; the next turn sees what. Meanwhile senders take it
    /// that this engine is awake, and leave to it what they commit.
    pub(crate) fn nap(&mut self) -> io::Result<()> {
        if !self.done.is_empty() {
            return Ok(());
        }
        let outcome = self.driver.turn(NAP, &mut self.done);
        self.done.reverse();
        outcome
    }

    /// Says that it sleeps, and gives for how long it may; `None` where there is work, and it must not.
    pub(crate) fn fall_asleep(&mut self, now: Time) -> Option<Duration> {
        let core = &mut self.core;
        if !self.done.is_empty() {
            return None;
        }
        let longest = self.publisher.as_ref().map_or(LONGEST_PARK, |publisher| publisher.longest_park(now));
        let watching = !core.end_streams();
        if !core.shared.bell.fall_asleep() {
            return None;
        }
        core.shared.tallies.parks.add(1);
        let stop = core.shared.stopping.get() && !core.stopping;
        let looks_again = !core.awaiting.is_empty() || watching;
        Some(match (stop || self.inboxes[self.own].is_filled(), looks_again) {
            (true, _) => Duration::ZERO,
            (false, true) => LOOK_AGAIN,
            (false, false) => core.alarm.min(core.accept_at).min(core.look_at).since(now).min(longest),
        })
    }

    /// Sleeps for so long at the most, after it has said so.
    pub(crate) fn stay_asleep(&mut self, bound: Duration) -> io::Result<()> {
        let outcome = self.driver.turn(bound, &mut self.done);
        self.core.shared.bell.wake_up();
        self.done.reverse();
        outcome
    }
}
