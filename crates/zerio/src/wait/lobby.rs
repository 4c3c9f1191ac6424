//! Where senders of one session wait for room: threads park here, and tasks leave word.
#![forbid(unsafe_code)]

#[cfg(feature = "tokio")]
use std::collections::BTreeMap;
use std::sync::PoisonError;
#[cfg(not(loom))]
use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(feature = "tokio")]
use std::task::Waker;
use std::time::Duration;

#[cfg(loom)]
use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::cursor::Waiting;

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
#[repr(C)]
pub(crate) struct Lobby {
    /// First, where those who only look whether anybody waits are at: see `SendPath`.
    waiting: Waiting,
    inside: Mutex<Inside>,
    changed: Condvar,
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
