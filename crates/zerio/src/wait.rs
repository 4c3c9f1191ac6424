//! Waiting, for both paths: what an engine's thread does when a turn did no work, and how a sender
//! waits for room. Only here, and in `wait/lobby.rs`, does anything wait.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::cursor::{Guard, Guarded, ProcessBarrier};
use crate::time::Time;

mod lobby;

pub(crate) use lobby::Lobby;
#[cfg(feature = "tokio")]
pub(crate) use lobby::Ticket;

/// What an engine's thread does when a turn did no work.
///
/// Each trades latency against processor time. The figures are for an idle server with 16 clients, in per
/// cent of one core, and for a round trip of 32 bytes over loopback, p50, on a virtual machine with two
/// cores, where bare sockets took 6.5 µs spinning and 55 µs blocking; `BENCHMARKS.md` has more, and
/// `zerio bench --wait NAME` measures on your machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Turns without end: the lowest latency, a whole core, always. For a core of its own. Idle 100 %,
    /// loaded 6.9 µs.
    BusySpin,
    /// Turns for so long after the last work, giving the core to whoever else wants it between turns, then
    /// parks. The default, with 20 µs: an answer that comes at once is met awake, a sender on the same
    /// core can fill the ring meanwhile, and an idle engine costs nothing. Where a thread that never sleeps
    /// has the same core, it parks at once, or, while others send, naps for 50 µs (a millisecond elsewhere than on Linux).
    /// Idle 0.01 %, loaded 6.7 µs.
    SpinThenPark(Duration),
    /// Gives the core to whoever else wants it between turns: nearly the latency of spinning where
    /// nobody does, a whole core in the eyes of the system. Idle 100 %, loaded 6.7 µs.
    Yield,
    /// Sleeps so long between turns: a bounded latency for a bounded cost, whatever happens. Nothing
    /// wakes it early, a stop neither; at most 1 s. With 50 µs: idle 26 %, loaded 78.6 µs.
    Sleep(Duration),
    /// Parks in the kernel at once: no processor time when idle, and each message that meets it asleep
    /// pays a wake-up (20 to 50 µs on a virtual machine). Idle 0.01 %, loaded 56.4 µs.
    Park,
}

impl Default for WaitStrategy {
    fn default() -> Self {
        WaitStrategy::SpinThenPark(Duration::from_micros(20))
    }
}

impl fmt::Display for WaitStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitStrategy::BusySpin => f.write_str("busy-spin"),
            WaitStrategy::SpinThenPark(spin) => write!(f, "spin-then-park:{}us", spin.as_micros()),
            WaitStrategy::Yield => f.write_str("yield"),
            WaitStrategy::Sleep(pause) => write!(f, "sleep:{}us", pause.as_micros()),
            WaitStrategy::Park => f.write_str("park"),
        }
    }
}

/// What an engine is to do after a turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another turn at once, and what time it is.
    Turn(Time),
    /// A turn that waits in the kernel for a moment, though senders may take it that the engine is awake.
    Nap,
    /// A turn that waits in the kernel until something happens.
    Park,
}

/// A wait strategy at work: what it remembers between turns.
#[derive(Debug)]
pub(crate) struct Idler {
    strategy: WaitStrategy,
    /// When the engine last did work, and when some of it was from other threads.
    worked: Time,
    served_senders: Time,
    /// How often in a row somebody who had been given the core kept it.
    kept: u32,
    /// Until then the core is somebody else's.
    crowded_until: Time,
    crowded_for: Duration,
}

/// Who has been given the core for so long keeps it until the system takes it away, which is after one to several
/// milliseconds; who had something to do and then sleeps, as a sender whose ring is full, takes less.
const KEPT: Duration = Duration::from_micros(500);

/// For so long, at first and at most, a core that was kept twice in a row counts as crowded.
const CROWDED: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Naps for so long after the last message of another thread.
const STREAMING: Duration = Duration::from_millis(1);

impl Idler {
    pub(crate) fn new(strategy: WaitStrategy, now: Time) -> Idler {
        let (long_ago, crowded_for) = (Time::from_nanos(0), Duration::ZERO);
        Idler {
            strategy,
            worked: now,
            served_senders: long_ago,
            kept: 0,
            crowded_until: long_ago,
            crowded_for,
        }
    }

    /// The last turn did work, which other threads may have made. `clock` tells what time it is when the core is
    /// this thread's again.
    #[inline]
    pub(crate) fn worked(&mut self, now: Time, served_senders: bool, clock: impl Fn() -> Time) -> Next {
        self.worked = now;
        if served_senders {
            self.served_senders = now;
        }
        match self.strategy {
            WaitStrategy::SpinThenPark(_) | WaitStrategy::Park if now < self.crowded_until => {
                if served_senders {
                    Next::Nap
                } else {
                    Next::Turn(now)
                }
            }
            // A turn that was short because little had come is followed by more of them, unless whoever makes
            // the work has the core for a while. It costs next to nothing where nobody wants it.
            WaitStrategy::SpinThenPark(_) | WaitStrategy::Yield | WaitStrategy::Park => {
                self.give_way(now, clock)
            }
            WaitStrategy::BusySpin | WaitStrategy::Sleep(_) => Next::Turn(now),
        }
    }

    /// The last turn did none.
    #[inline]
    pub(crate) fn idle(&mut self, now: Time, clock: impl Fn() -> Time) -> Next {
        let crowded = now < self.crowded_until;
        match self.strategy {
            WaitStrategy::BusySpin => {
                std::hint::spin_loop();
                return Next::Turn(now);
            }
            // The sender whose messages it waits for may need this very core.
            WaitStrategy::SpinThenPark(spin) if now.since(self.worked) < spin && !crowded => {
                return self.give_way(now, clock);
            }
            WaitStrategy::SpinThenPark(_) | WaitStrategy::Park => {
                let streaming = now.since(self.served_senders) < STREAMING;
                return if crowded && streaming { Next::Nap } else { Next::Park };
            }
            WaitStrategy::Yield => std::thread::yield_now(),
            WaitStrategy::Sleep(pause) => std::thread::sleep(pause),
        }
        Next::Turn(clock())
    }

    /// Gives the core to whoever else wants it. One who never sleeps, as a sender that keeps to a schedule, has it
    /// until the system takes it away: Linux counts a yield as a whole slice, some milliseconds. Then it
    /// is better to sleep, out of which the system lets a thread in at once.
    #[inline]
    fn give_way(&mut self, now: Time, clock: impl Fn() -> Time) -> Next {
        std::thread::yield_now();
        let back = clock();
        if back.since(now) < KEPT {
            (self.kept, self.crowded_for) = (0, Duration::ZERO);
            return Next::Turn(back);
        }
        self.kept += 1;
        if self.kept >= 2 {
            self.crowded_for = (2 * self.crowded_for).clamp(CROWDED.0, CROWDED.1);
            self.crowded_until = back.after(self.crowded_for);
        }
        Next::Turn(back)
    }
}

thread_local! {
    /// How many reasons there are: worlds of a simulation end in any order.
    static IN_HANDLER: Cell<usize> = const { Cell::new(0) };
}

/// Whether this thread runs a handler: there nothing may wait, because the engine would wait for itself.
pub(crate) fn in_handler() -> bool {
    IN_HANDLER.get() > 0
}

/// While it lives, this thread runs handlers.
#[derive(Debug)]
pub(crate) struct InHandler {
    /// It counts on the thread that it was made on.
    _stays: PhantomData<*const ()>,
}

impl InHandler {
    pub(crate) fn enter() -> InHandler {
        IN_HANDLER.set(IN_HANDLER.get() + 1);
        InHandler { _stays: PhantomData }
    }
}

impl Drop for InHandler {
    fn drop(&mut self) {
        IN_HANDLER.set(IN_HANDLER.get() - 1);
    }
}

/// Lets the other tasks of the runtime have their turn.
#[cfg(all(feature = "tokio", target_os = "linux"))]
pub(crate) async fn give_way() {
    tokio::task::yield_now().await;
}

/// A guarded value that the caller must have now, from a holder who gives it back within one system
/// call.
#[inline]
pub(crate) fn take_soon<T>(guarded: &Guarded<T>) -> Guard<'_, T> {
    let mut backoff = Backoff::default();
    loop {
        if let Some(guard) = guarded.try_take() {
            return guard;
        }
        backoff.pause();
    }
}

/// Returns when every thread of the process sees what this one has stored, and this one what they have.
pub(crate) fn cross_barrier() {
    if !ProcessBarrier::System.cross() {
        // The system has forbidden it since. No processor keeps a store to itself for so long, but where it does something
        // else meanwhile; and to take up something else is such a barrier.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Spins briefly, then yields.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    const SPINS: u32 = 64;
    const YIELDS: u32 = 64;

    #[inline]
    pub(crate) fn pause(&mut self) {
        #[cfg(loom)]
        loom::thread::yield_now();
        if self.0 < Self::SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
        self.0 = self.0.saturating_add(1);
    }

    /// Whether it has been long enough that one should park, or give up.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.0 >= Self::SPINS + Self::YIELDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_then_park_spins_for_its_time_and_then_parks() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let mut idler = Idler::new(WaitStrategy::SpinThenPark(Duration::from_micros(20)), at(0));
        assert_eq!(idler.idle(at(19), || at(19)), Next::Turn(at(19)));
        assert_eq!(idler.idle(at(20), || at(20)), Next::Park);
        idler.worked(at(100), false, || at(100));
        assert_eq!(idler.idle(at(119), || at(119)), Next::Turn(at(119)));
        assert_eq!(idler.idle(at(120), || at(120)), Next::Park);
    }

    #[test]
    fn a_core_that_somebody_keeps_twice_in_a_row_is_not_spun_on_for_a_while() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let mut idler = Idler::new(WaitStrategy::SpinThenPark(Duration::from_micros(20)), at(0));
        let mut work = |now, back| idler.worked(at(now), false, || at(back));
        // Once may be anything, and is forgotten when the core comes back at once.
        assert_eq!(work(10_000, 13_000), Next::Turn(at(13_000)));
        assert_eq!(work(13_000, 13_001), Next::Turn(at(13_001)));
        assert_eq!(work(14_000, 14_499), Next::Turn(at(14_499)));
        assert_eq!(work(15_000, 18_000), Next::Turn(at(18_000)));
        assert_eq!(work(18_000, 18_500), Next::Turn(at(18_500)));
        // Twice: for a tenth of a second, then for two.
        let kept = || panic!("it does not give way");
        assert_eq!(idler.idle(at(18_510), kept), Next::Park);
        assert_eq!(idler.worked(at(118_499), false, kept), Next::Turn(at(118_499)));
        assert_eq!(idler.idle(at(118_499), kept), Next::Park);
        assert_eq!(idler.worked(at(118_500), false, || at(121_500)), Next::Turn(at(121_500)));
        assert_eq!(idler.worked(at(321_499), false, kept), Next::Turn(at(321_499)));
        assert_eq!(idler.worked(at(321_500), false, || at(321_501)), Next::Turn(at(321_501)));
        assert_eq!(idler.idle(at(321_510), || at(321_511)), Next::Turn(at(321_511)));
    }

    #[test]
    fn on_a_crowded_core_an_engine_naps_while_others_send_and_parks_a_millisecond_later() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let mut idler = Idler::new(WaitStrategy::default(), at(0));
        assert_eq!(idler.worked(at(10_000), true, || at(13_000)), Next::Turn(at(13_000)));
        assert_eq!(
            idler.worked(at(13_000), true, || at(16_000)),
            Next::Turn(at(16_000)),
            "this one found it out"
        );
        assert_eq!(idler.worked(at(16_000), true, || at(0)), Next::Nap);
        assert_eq!(idler.idle(at(16_100), || at(0)), Next::Nap);
        assert_eq!(
            idler.worked(at(16_200), false, || at(0)),
            Next::Turn(at(16_200)),
            "what was received is no reason"
        );
        assert_eq!(idler.idle(at(16_999), || at(0)), Next::Nap);
        assert_eq!(idler.idle(at(17_000), || at(0)), Next::Park);
        assert_eq!(
            idler.worked(at(116_000), true, || at(116_001)),
            Next::Turn(at(116_001)),
            "it is crowded no more"
        );
        assert_eq!(idler.idle(at(116_020), || at(0)), Next::Park);
    }

    #[test]
    fn only_the_parking_strategies_park() {
        let [later, back] = [1 << 40, 1 << 41].map(Time::from_nanos);
        for (strategy, idle) in [
            (WaitStrategy::BusySpin, Next::Turn(later)),
            // What a turn took was counted with the pause before it.
            (WaitStrategy::Yield, Next::Turn(back)),
            (WaitStrategy::Sleep(Duration::from_micros(1)), Next::Turn(back)),
            (WaitStrategy::Park, Next::Park),
            (WaitStrategy::default(), Next::Park),
        ] {
            assert_eq!(Idler::new(strategy, Time::from_nanos(0)).idle(later, || back), idle, "{strategy}");
        }
    }
}
