//! Waiting, for both paths: what an engine's thread does when a turn did no work, and how a sender
//! waits for room. The only file that waits.
#![forbid(unsafe_code)]

use std::cell::Cell;
#[cfg(feature = "tokio")]
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(feature = "tokio")]
use std::task::Waker;
use std::time::Duration;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::cursor::{Guard, Guarded, Waiting};
use crate::time::Time;

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
    /// Another turn at once.
    Turn,
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
                    Next::Turn
                }
            }
            // A turn that was short because little had come is followed by more of them, unless whoever makes
            // the work has the core for a while. It costs next to nothing where nobody wants it.
            WaitStrategy::SpinThenPark(_) | WaitStrategy::Yield | WaitStrategy::Park => {
                self.give_way(now, clock)
            }
            WaitStrategy::BusySpin | WaitStrategy::Sleep(_) => Next::Turn,
        }
    }

    /// The last turn did none.
    #[inline]
    pub(crate) fn idle(&mut self, now: Time, clock: impl Fn() -> Time) -> Next {
        let crowded = now < self.crowded_until;
        match self.strategy {
            WaitStrategy::BusySpin => std::hint::spin_loop(),
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
        Next::Turn
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
            return Next::Turn;
        }
        self.kept += 1;
        if self.kept >= 2 {
            self.crowded_for = (2 * self.crowded_for).clamp(CROWDED.0, CROWDED.1);
            self.crowded_until = back.after(self.crowded_for);
        }
        Next::Turn
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

/// The tasks that are to be woken.
#[cfg(feature = "tokio")]
type Tasks = Option<Box<Enrolled>>;
#[cfg(not(feature = "tokio"))]
type Tasks = ();

/// Apart, so that a session without any has no more than its address.
#[cfg(feature = "tokio")]
#[derive(Debug, Default)]
struct Enrolled {
    /// By the numbers of their tickets, of which none is given twice.
    tasks: BTreeMap<u64, Waker>,
    next: u64,
}

/// Under what a task stands in a lobby, if it does. Whoever does not wait any more withdraws it.
#[cfg(feature = "tokio")]
#[derive(Debug, Default)]
pub(crate) struct Ticket(Option<u64>);

/// Where senders of one session wait until something changes: room in the ring, the end of a claim,
/// the session's end. Threads park here; tasks leave word where they are to be woken.
///
/// Threads take turns: who comes while others wait, as one does who has just filled the ring again, looks when each of
/// those has had what he waits for. Otherwise the system's order of waking decides, and the first to park is the first
/// to be woken, so that one thread may have nearly all of the room.
#[derive(Debug, Default)]
pub(crate) struct Lobby {
    inside: Mutex<Inside>,
    changed: Condvar,
    waiting: Waiting,
}

/// Who is in a lobby.
#[derive(Debug, Default)]
struct Inside {
    tasks: Tasks,
    /// The threads whose turn it is, and those who came later.
    round: u32,
    in_turn: u32,
    later: u32,
}

/// Whose turn it is may have no core, or wait for more room than others need: nobody gives way to him for longer.
const GIVES_WAY: Duration = Duration::from_millis(5);

impl Inside {
    /// A thread comes in. Gives the round in which it is its turn.
    fn enter(&mut self) -> u32 {
        if self.in_turn == 0 {
            self.in_turn = 1;
            return self.round;
        }
        self.later += 1;
        self.round.wrapping_add(1)
    }

    /// It leaves. Whether it is others' turn now.
    fn leave(&mut self, round: u32) -> bool {
        if round != self.round {
            self.later -= 1;
            return false;
        }
        self.in_turn -= 1;
        if self.in_turn > 0 {
            return false;
        }
        self.round = self.round.wrapping_add(1);
        self.in_turn = std::mem::take(&mut self.later);
        self.in_turn > 0
    }
}

impl Lobby {
    /// On some systems (macOS) a mutex and a condition variable of std allocate when they are first used: that is
    /// to be at the start.
    pub(crate) fn new() -> Lobby {
        let lobby = Lobby::default();
        drop(lobby.lock());
        lobby.changed.notify_all();
        lobby
    }

    /// Calls `attempt` until it gives something or `left` has no time left, and parks between calls.
    /// `attempt` must be a look at what [`Lobby::tell`] announces.
    pub(crate) fn wait<T>(
        &self,
        mut left: impl FnMut() -> Option<Duration>,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.waiting.enter();
        let mut inside = self.lock();
        let round = inside.enter();
        let (mut at_first, mut has_given_way) = (None, false);
        let result = loop {
            let may_look = inside.round == round || has_given_way;
            if may_look && let Some(value) = attempt() {
                break Some(value);
            }
            let Some(left) = left() else { break None };
            // Bounded, so that a sender whose engine died without a word still hears its deadline.
            let pause = left.min(if may_look { Duration::from_millis(50) } else { GIVES_WAY });
            let waited = at_first.get_or_insert(left).saturating_sub(left);
            let (guard, pause) =
                self.changed.wait_timeout(inside, pause).unwrap_or_else(PoisonError::into_inner);
            inside = guard;
            has_given_way |= pause.timed_out() || waited >= GIVES_WAY;
        };
        if inside.leave(round) {
            self.changed.notify_all();
        }
        drop(inside);
        self.waiting.leave();
        result
    }

    /// Whether anybody waits, who came before whoever asks.
    pub(crate) fn is_occupied(&self) -> bool {
        self.waiting.any()
    }

    /// Something changed: whoever waits looks again. Costs a fence and a load where nobody waits.
    #[inline]
    pub(crate) fn tell(&self) {
        if self.waiting.any() {
            self.tell_all();
        }
    }

    fn tell_all(&self) {
        // Taking the mutex means: whoever looked before this change is parked by now.
        #[allow(clippy::let_unit_value, reason = "without tokio there are no tasks")]
        let _tasks = take(&mut self.lock().tasks);
        self.changed.notify_all();
        #[cfg(feature = "tokio")]
        for task in _tasks.into_values() {
            self.waiting.leave();
            task.wake();
        }
    }

    /// For a task: what `attempt` gives, which is a look at what [`Lobby::tell`] announces; where it gives nothing the
    /// task will be woken when it is to look again.
    #[cfg(feature = "tokio")]
    pub(crate) fn enroll<T>(
        &self,
        ticket: &mut Ticket,
        task: &Waker,
        attempt: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        self.waiting.enter();
        let mut lock = self.lock();
        let enrolled = lock.tasks.get_or_insert_default();
        match ticket.0.and_then(|number| enrolled.tasks.get_mut(&number)) {
            Some(waker) => {
                waker.clone_from(task);
                self.waiting.leave();
            }
            None => {
                let number = enrolled.next;
                enrolled.next += 1;
                enrolled.tasks.insert(number, task.clone());
                ticket.0 = Some(number);
            }
        }
        drop(lock);
        let outcome = attempt();
        if outcome.is_some() {
            self.withdraw(ticket);
        }
        outcome
    }

    /// A task does not wait any more.
    #[cfg(feature = "tokio")]
    pub(crate) fn withdraw(&self, ticket: &mut Ticket) {
        let Some(number) = ticket.0.take() else { return };
        let waker = self.lock().tasks.as_mut().and_then(|enrolled| enrolled.tasks.remove(&number));
        if waker.is_some() {
            self.waiting.leave();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks that stand in a lobby, out of it.
#[cfg(feature = "tokio")]
fn take(tasks: &mut Tasks) -> BTreeMap<u64, Waker> {
    tasks.as_mut().map(|enrolled| std::mem::take(&mut enrolled.tasks)).unwrap_or_default()
}

#[cfg(not(feature = "tokio"))]
fn take((): &mut Tasks) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_then_park_spins_for_its_time_and_then_parks() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let mut idler = Idler::new(WaitStrategy::SpinThenPark(Duration::from_micros(20)), at(0));
        assert_eq!(idler.idle(at(19), || at(19)), Next::Turn);
        assert_eq!(idler.idle(at(20), || at(20)), Next::Park);
        idler.worked(at(100), false, || at(100));
        assert_eq!(idler.idle(at(119), || at(119)), Next::Turn);
        assert_eq!(idler.idle(at(120), || at(120)), Next::Park);
    }

    #[test]
    fn a_core_that_somebody_keeps_twice_in_a_row_is_not_spun_on_for_a_while() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let mut idler = Idler::new(WaitStrategy::SpinThenPark(Duration::from_micros(20)), at(0));
        let mut work = |now, back| idler.worked(at(now), false, || at(back));
        // Once may be anything, and is forgotten when the core comes back at once.
        assert_eq!(work(10_000, 13_000), Next::Turn);
        assert_eq!(work(13_000, 13_001), Next::Turn);
        assert_eq!(work(14_000, 14_499), Next::Turn);
        assert_eq!(work(15_000, 18_000), Next::Turn);
        assert_eq!(work(18_000, 18_500), Next::Turn);
        // Twice: for a tenth of a second, then for two.
        let kept = || panic!("it does not give way");
        assert_eq!(idler.idle(at(18_510), kept), Next::Park);
        assert_eq!(idler.worked(at(118_499), false, kept), Next::Turn);
        assert_eq!(idler.idle(at(118_499), kept), Next::Park);
        assert_eq!(idler.worked(at(118_500), false, || at(121_500)), Next::Turn);
        assert_eq!(idler.worked(at(321_499), false, kept), Next::Turn);
        assert_eq!(idler.worked(at(321_500), false, || at(321_501)), Next::Turn);
        assert_eq!(idler.idle(at(321_510), || at(321_511)), Next::Turn);
    }

    #[test]
    fn on_a_crowded_core_an_engine_naps_while_others_send_and_parks_a_millisecond_later() {
        let at = |micros: u64| Time::from_nanos(micros * 1000);
        let mut idler = Idler::new(WaitStrategy::default(), at(0));
        assert_eq!(idler.worked(at(10_000), true, || at(13_000)), Next::Turn);
        assert_eq!(idler.worked(at(13_000), true, || at(16_000)), Next::Turn, "this one found it out");
        assert_eq!(idler.worked(at(16_000), true, || at(0)), Next::Nap);
        assert_eq!(idler.idle(at(16_100), || at(0)), Next::Nap);
        assert_eq!(idler.worked(at(16_200), false, || at(0)), Next::Turn, "what was received is no reason");
        assert_eq!(idler.idle(at(16_999), || at(0)), Next::Nap);
        assert_eq!(idler.idle(at(17_000), || at(0)), Next::Park);
        assert_eq!(idler.worked(at(116_000), true, || at(116_001)), Next::Turn, "it is crowded no more");
        assert_eq!(idler.idle(at(116_020), || at(0)), Next::Park);
    }

    #[test]
    fn only_the_parking_strategies_park() {
        let later = Time::from_nanos(1 << 40);
        for (strategy, idle) in [
            (WaitStrategy::BusySpin, Next::Turn),
            (WaitStrategy::Yield, Next::Turn),
            (WaitStrategy::Sleep(Duration::from_micros(1)), Next::Turn),
            (WaitStrategy::Park, Next::Park),
            (WaitStrategy::default(), Next::Park),
        ] {
            assert_eq!(Idler::new(strategy, Time::from_nanos(0)).idle(later, || later), idle, "{strategy}");
        }
    }

    #[test]
    fn a_lobby_lets_go_of_who_waits_when_told() {
        use crate::cursor::Flag;
        let (lobby, open) = (Lobby::default(), Flag::default());
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(|| lobby.wait(|| Some(Duration::from_secs(20)), || open.get().then_some(())));
            open.set(true);
            lobby.tell();
            assert!(waiter.join().unwrap().is_some());
        });
        assert!(lobby.wait(|| None, || None::<()>).is_none());
    }

    #[test]
    fn the_first_to_park_was_the_first_to_be_woken_and_took_what_others_had_waited_for() {
        let mut inside = Inside::default();
        let [first, second] = [inside.enter(), inside.enter()];
        let third = inside.enter();
        let turn = |inside: &Inside| [first, second, third].map(|round| round == inside.round);
        assert_eq!(turn(&inside), [true, false, false]);
        assert!(inside.leave(first), "it is the turn of the others");
        assert_eq!(turn(&inside), [false, true, true]);
        // Who had his turn comes again: those who have not had theirs are before him.
        let again = inside.enter();
        assert!(!inside.leave(third), "the second has not had what he waits for");
        assert_ne!(again, inside.round);
        assert!(inside.leave(second));
        assert_eq!(again, inside.round);
        // The last one leaves, and one who gave up before his turn.
        let impatient = inside.enter();
        assert!(!inside.leave(impatient));
        assert!(!inside.leave(again));
        assert_eq!((inside.in_turn, inside.later), (0, 0));
        assert_eq!(inside.enter(), inside.round, "nobody is before him");
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;

    /// What two threads wait for, one unit each, and who of them has looked and not had his.
    #[derive(Default)]
    struct Room {
        units: u32,
        first: Option<u32>,
    }

    #[test]
    fn who_came_later_does_not_look_before_the_first_has_had_his() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound.get_or_insert(2);
        builder.check(|| {
            let lobby = Arc::new(Lobby::default());
            let room = Arc::new(Mutex::new(Room::default()));
            let threads: Vec<_> = (0..2)
                .map(|me| {
                    let (lobby, room) = (lobby.clone(), room.clone());
                    loom::thread::spawn(move || {
                        let attempt = || {
                            let mut room = room.lock().unwrap();
                            assert_eq!(*room.first.get_or_insert(me), me, "it is the other's turn");
                            room.units = room.units.checked_sub(1)?;
                            room.first.take()
                        };
                        assert!(lobby.wait(|| Some(Duration::from_secs(1)), attempt).is_some());
                    })
                })
                .collect();
            for _ in 0..2 {
                room.lock().unwrap().units += 1;
                lobby.tell();
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }
}
