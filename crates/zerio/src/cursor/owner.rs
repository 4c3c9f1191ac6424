//! Whose own a ring is: the one thread that holds it without a locked instruction, which on some processors costs a small
//! message as much as all the rest of it (BENCHMARKS.md).
//!
//! The owner says that he holds the ring, then looks whether it is still his; who takes it away says so, crosses a
//! barrier of the whole process, and then looks whether the owner holds it. One of them sees the other, and the owner's
//! side of it is a store and a load (`cursor.rs`, "say, then look, one side for free").
//!
//! What the owner says is written by one thread in the ring's whole life, over all of its sessions: the first that it was
//! ever given to. A thread may lose its core between its look at the word and its saying so, for however long; if the flag
//! were somebody else's by then, it would be his that is overwritten.
//!
//! | the word says that it is somebody's own | it is his (`is_his`) | |
//! | --- | --- | --- |
//! | yes | yes | he may hold it |
//! | yes | no | it is being taken away, or was while he held it: who tries again need not cross a second barrier |
//! | no | | whoever comes holds it by a locked instruction |
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::atomics::{AtomicBool, AtomicU32, AtomicU64, compiler_fence, per_thread};
use super::{Guard, Guarded, next_tag};

/// After so many commits of one thread on a stream, and on no other stream between them, the ring is its own. To take it
/// away costs some µs, as much as the locked instructions of some hundred commits.
pub(crate) const OWN_AFTER: u32 = if cfg!(loom) {
    1
} else if cfg!(fuzzing) {
    8
} else {
    1024
};

/// Each time that the ring is taken away it takes twice as many, up to this.
const OWN_AFTER_MAX: u32 = 16 * OWN_AFTER;

/// No thread has this number.
const NOBODY: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Owner {
    /// The thread that the ring was given to first, by its number: no other is ever its owner.
    thread: AtomicU64,
    /// It is his, until somebody takes it away.
    is_his: AtomicBool,
    /// He holds it. Written by him alone.
    holds: AtomicBool,
    /// The right to give the ring or take it away.
    changes: Guarded<()>,
    /// After so many commits it is given.
    after: AtomicU32,
    /// The ring's number, which no other has.
    ring: u32,
}

/// What a thread has committed last.
struct Habit {
    /// The thread's number; 0 until a ring is given to it.
    thread: Cell<u64>,
    /// On which ring, and how often in a row.
    ring: Cell<u32>,
    commits: Cell<u32>,
}

per_thread! {
    static HABIT: Habit = Habit { thread: Cell::new(0), ring: Cell::new(0), commits: Cell::new(0) };
}

impl Owner {
    pub(super) fn new() -> Owner {
        static RINGS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        Owner {
            thread: AtomicU64::new(NOBODY),
            is_his: AtomicBool::new(false),
            holds: AtomicBool::new(false),
            changes: Guarded::default(),
            after: AtomicU32::new(OWN_AFTER),
            ring: next_tag(&RINGS).get(),
        }
    }

    /// For a thread that finds the ring somebody's own: holds it, if it is this thread's.
    #[inline]
    pub(super) fn hold(&self) -> bool {
        if !self.is_this_thread() {
            return false;
        }
        debug_assert!(!self.holds.load(Relaxed), "held twice");
        self.holds.store(true, Relaxed);
        compiler_fence(SeqCst);
        let is_his = self.is_his.load(Relaxed);
        if !is_his {
            self.let_go();
        }
        is_his
    }

    /// For the owner, who holds it.
    #[inline]
    pub(super) fn let_go(&self) {
        self.holds.store(false, Release);
    }

    #[inline]
    fn is_this_thread(&self) -> bool {
        HABIT.with(|habit| habit.thread.get()) == self.thread.load(Relaxed)
    }

    /// For a thread that holds a ring that is nobody's own, and commits once more: the right to make it its own, if it has
    /// done so often enough. The ring's word must tell so before that is dropped.
    #[inline]
    pub(super) fn give_if_due(&self) -> Option<Guard<'_, ()>> {
        let commits = HABIT.with(|habit| {
            let before = if habit.ring.replace(self.ring) == self.ring { habit.commits.get() } else { 0 };
            habit.commits.set(before + 1);
            before
        });
        if commits < self.after.load(Relaxed) { None } else { self.give() }
    }

    #[cold]
    fn give(&self) -> Option<Guard<'_, ()>> {
        // Where it can't be given either, this thread is not to ask with each message.
        HABIT.with(|habit| habit.commits.set(0));
        // Somebody has just taken it away, and has not gone yet.
        let right = self.right_to_change()?;
        if self.thread.load(Relaxed) == NOBODY {
            self.thread.store(HABIT.with(Habit::number), Relaxed);
        } else if !self.is_this_thread() {
            return None;
        }
        self.is_his.store(true, Relaxed);
        Some(right)
    }

    /// Unless somebody has it.
    pub(super) fn right_to_change(&self) -> Option<Guard<'_, ()>> {
        self.changes.try_take()
    }

    /// For who has that right: the ring is his no more. Tells whether he does not hold it.
    pub(super) fn withdraw(&self, cross_barrier: impl FnOnce()) -> bool {
        if self.is_his.load(Relaxed) {
            self.is_his.store(false, SeqCst);
            let after = self.after.load(Relaxed);
            self.after.store((2 * after).min(OWN_AFTER_MAX), Relaxed);
            // A thread sees what itself has done.
            if !self.is_this_thread() {
                cross_barrier();
            }
        }
        // Otherwise somebody has taken it away and crossed, while he held it.
        !self.holds.load(Acquire)
    }
}

impl Habit {
    fn number(&self) -> u64 {
        static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        if self.thread.get() == 0 {
            self.thread.set(LAST.fetch_add(1, Relaxed) + 1);
        }
        self.thread.get()
    }
}
