//! An engine in a world: when it turns, sleeps and wakes, as its thread or its user's loop would make it.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::driver::sim::{Net, Random, Sim, Whose, in_library};
use crate::engine::Engine;
use crate::handler::Handler;
use crate::time::Time;

/// From one turn that did work to the next, in nanoseconds.
const TURN: u64 = 700;

/// The longest that a user's loop with nothing to do stays away, in nanoseconds.
const POLLED_MOST: u64 = 2_000_000;

/// The longest nap, in nanoseconds.
const NAP: u64 = 50_000;

/// For so long after its last work it naps, in nanoseconds.
const STREAMING: u64 = 1_000_000;

/// What a storm's handler panics with.
pub(super) struct Planned;

/// An engine, whatever its handler is.
pub(super) trait Machine {
    fn turn(&mut self, now: Time) -> io::Result<usize>;
    fn fall_asleep(&mut self, now: Time) -> Option<Duration>;
    fn doze(&mut self) -> io::Result<bool>;
    fn wake(&mut self) -> io::Result<()>;
    fn nap(&mut self) -> io::Result<()>;
    fn is_finished(&self) -> bool;
    /// Its driver has failed.
    fn fail(&mut self, kind: io::ErrorKind);
    /// Its handler has panicked.
    fn fall_silent(&mut self);
    fn fault(&self) -> Option<String>;
    fn heal(&mut self);
}

impl<H: Handler> Machine for Engine<Sim, H> {
    fn turn(&mut self, now: Time) -> io::Result<usize> {
        let _library = self.has_started().then(Whose::library);
        self.turn(now)
    }

    fn fall_asleep(&mut self, now: Time) -> Option<Duration> {
        in_library(|| self.fall_asleep(now))
    }

    fn doze(&mut self) -> io::Result<bool> {
        in_library(|| self.doze())
    }

    fn wake(&mut self) -> io::Result<()> {
        in_library(|| self.stay_asleep(Duration::ZERO))
    }

    fn nap(&mut self) -> io::Result<()> {
        in_library(|| self.nap())
    }

    fn is_finished(&self) -> bool {
        self.is_finished()
    }

    fn fail(&mut self, kind: io::ErrorKind) {
        in_library(|| self.end_without_driver(kind));
        self.driver().abandon();
    }

    fn fall_silent(&mut self) {
        in_library(|| self.end_without_handler());
    }

    fn fault(&self) -> Option<String> {
        self.fault()
    }

    fn heal(&mut self) {
        self.driver().mend();
    }
}

/// Who drives an engine.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// A thread that spins so long after its last work, in nanoseconds, and then sleeps. After so many turns in a
    /// thousand it naps, as one that shares its core with senders.
    Thread { spin: u64, naps: u32 },
    /// A user's loop, which comes by so often.
    Polled { every: u64 },
}

impl Pace {
    /// A sole sender's engine can't sleep, since nobody would wake it.
    pub(super) fn draw(sole: bool, random: &mut Random) -> Pace {
        match random.below(8) {
            _ if sole => Pace::Polled { every: random.of_any_size(500, 50_000) },
            0 => Pace::Polled { every: random.of_any_size(500, 500_000) },
            1 => Pace::Thread { spin: random.of_any_size(500, 20_000), naps: 0 },
            2 => Pace::Thread { spin: 0, naps: random.of_any_size(1, 1000) as u32 },
            _ => Pace::Thread { spin: 0, naps: 0 },
        }
    }
}

pub(super) struct Member {
    /// `None` when it has ended and was let go.
    machine: Option<Rc<RefCell<dyn Machine>>>,
    pub(super) pace: Pace,
    phase: Phase,
    /// Which of its alarms counts: the others were set for something that has come about otherwise.
    epoch: u64,
    /// When it last did work.
    worked: u64,
    failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Awake,
    Asleep,
    /// It is about to wake up.
    Waking,
    /// It naps: senders take it that it is awake.
    Napping,
    /// Its nap is about to end.
    Stirring,
    Finished,
}

impl Member {
    pub(super) fn new(machine: Rc<RefCell<dyn Machine>>, pace: Pace) -> Member {
        Member { machine: Some(machine), pace, phase: Phase::Awake, epoch: 0, worked: 0, failed: false }
    }

    /// One that has ended before it began.
    pub(super) fn absent() -> Member {
        let (pace, phase) = (Pace::Thread { spin: 0, naps: 0 }, Phase::Finished);
        Member { machine: None, pace, phase, epoch: 0, worked: 0, failed: false }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// Its driver has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Its driver does not fail any more.
    pub(super) fn heal(&mut self) {
        if let Some(machine) = &self.machine {
            machine.borrow_mut().heal();
        }
    }

    /// What is not as it must be at any time.
    pub(super) fn fault(&self) -> Option<String> {
        if self.failed { None } else { self.machine.as_ref()?.borrow().fault() }
    }

    /// It has ended, and nobody needs it any more.
    pub(super) fn bury(&mut self) {
        self.machine = None;
    }

    /// Its next turn is so much later.
    pub(super) fn turn_after(&mut self, later: u64, index: usize, net: &Net) {
        self.epoch += 1;
        net.alarm(net.now().saturating_add(later), self.epoch << 32 & !super::FREE_TOKEN | index as u64);
    }

    /// Its driver has something to look at, or it was woken.
    pub(super) fn rouse(&mut self, index: usize, net: &Net) {
        let ends = match self.phase {
            Phase::Asleep => Some(Phase::Waking),
            Phase::Napping => Some(Phase::Stirring),
            _ => None,
        };
        if let Some(ends) = ends {
            self.phase = ends;
            let late = match net.strikes("late wake-up", |faults| faults.late_wake_ups) {
                true => net.late_by(),
                false => 0,
            };
            self.turn_after(TURN + late, index, net);
        }
    }

    /// One of its alarms: it turns, if that one counts. Gives how much work it did.
    pub(super) fn go_on(&mut self, epoch: u64, index: usize, net: &Net, random: &mut Random) -> usize {
        if epoch != self.epoch || self.phase == Phase::Finished {
            return 0;
        }
        let now = net.now();
        let Some(machine) = self.machine.clone() else { return 0 };
        let machine = &mut *machine.borrow_mut();
        let was = std::mem::replace(&mut self.phase, Phase::Awake);
        // As a thread that drives an engine: an error of the driver's or a panic of the handler's ends it.
        let cycle = || {
            self.cycle(machine, was, now, index, net, random).unwrap_or_else(|error| {
                (self.phase, self.failed) = (Phase::Finished, true);
                machine.fail(error.kind());
                0
            })
        };
        match catch_unwind(AssertUnwindSafe(cycle)) {
            Ok(work) => work,
            Err(panic) if panic.is::<Planned>() => {
                machine.fall_silent();
                match self.failed {
                    true => machine.fail(io::ErrorKind::Other),
                    false => self.turn_after(TURN, index, net),
                }
                1
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    fn cycle(
        &mut self,
        machine: &mut dyn Machine,
        was: Phase,
        now: u64,
        index: usize,
        net: &Net,
        random: &mut Random,
    ) -> io::Result<usize> {
        match was {
            Phase::Asleep | Phase::Waking => machine.wake()?,
            Phase::Napping | Phase::Stirring => machine.nap()?,
            Phase::Awake | Phase::Finished => {}
        }
        let work = machine.turn(Time::from_nanos(now))?;
        if machine.is_finished() {
            self.phase = Phase::Finished;
            return Ok(work);
        }
        if work > 0 {
            self.worked = now;
        }
        let pause = match self.pace {
            // The longer it finds nothing, the longer it does something else: a world in which nothing happens
            // is to cost nothing.
            Pace::Polled { every } => Some(every.max((now - self.worked) / 4).min(every.max(POLLED_MOST))),
            Pace::Thread { naps, .. } if now - self.worked < STREAMING && random.happens(naps) => {
                self.phase = Phase::Napping;
                Some(NAP)
            }
            Pace::Thread { spin, .. } => (work > 0 || now - self.worked < spin).then_some(TURN),
        };
        if let Some(pause) = pause {
            self.turn_after(random.between(pause.div_ceil(2), pause), index, net);
            return Ok(work);
        }
        match machine.fall_asleep(Time::from_nanos(now)) {
            None => self.turn_after(TURN, index, net),
            Some(bound) => {
                let quiet = machine.doze()?;
                self.phase = if quiet { Phase::Asleep } else { Phase::Waking };
                let wakes = net.strikes("idle wake-up", |faults| faults.idle_wake_ups);
                let idly = wakes.then(|| net.late_by());
                let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
                let bound = bound.min(idly.unwrap_or(u64::MAX)).max(1);
                self.turn_after(if quiet { bound } else { TURN }, index, net);
            }
        }
        Ok(work)
    }
}
