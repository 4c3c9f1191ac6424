//! What a model leaves to chance, from a seed: which of a kernel's liberties it takes at all, and when.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Refusing;

/// The liberties that a kernel has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Liberties {
    /// How many sessions get on at a time; 0 for all of them.
    pub(crate) sessions: usize,
    /// How many looks a request may take longer than it must.
    pub(crate) delay: usize,
    /// How many more if it was deferred.
    pub(crate) slow_commit: usize,
    /// What was deferred may begin before it is committed.
    pub(crate) early: bool,
    /// A receive may bring less than there is.
    pub(crate) short_receives: bool,
    /// A send completes when the peer has acknowledged it, and not when TCP has it. Linux alone tells when that is.
    pub(crate) acknowledged: bool,
    /// A session's sends may complete in another order than that in which they went.
    pub(crate) shuffled: bool,
    /// Failures carry the kernel's own numbers.
    pub(crate) kernel_status: bool,
    /// A request may still succeed while its socket is being closed.
    pub(crate) last_moment: bool,
    /// A queue that is asked to tell forgets what it has told before.
    pub(crate) resets: bool,
    /// A queue that is asked to tell says now and then that it has been asked before.
    pub(crate) already: bool,
    /// The peer's reset cancels requests.
    pub(crate) cancels: bool,
    /// A socket that is closed goes on sending until all is acknowledged, if it is not closed by a reset.
    pub(crate) keeps: bool,
    /// To accept one whose peer has reset it is an error.
    pub(crate) reset_accepts: bool,
}

impl Liberties {
    /// Those of which a driver's caller sees nothing but when things happen.
    fn unseen(self) -> Liberties {
        Liberties { short_receives: false, reset_accepts: false, ..self }
    }
}

/// A row of numbers that its seed decides.
pub(super) struct Chance {
    pub(super) seed: u64,
    state: u64,
}

impl Chance {
    fn new(seed: u64) -> Chance {
        Chance { seed, state: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % end
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Which liberties a run takes, so that each is also left out.
    fn liberties(&mut self) -> Liberties {
        Liberties {
            sessions: [0, 16, 32][self.below(3)],
            delay: [0, 0, 1, 3][self.below(4)],
            slow_commit: [0, 2, 8][self.below(3)],
            early: self.one_in(3),
            short_receives: self.one_in(2),
            acknowledged: self.one_in(2),
            shuffled: self.one_in(2),
            kernel_status: self.one_in(2),
            last_moment: self.one_in(2),
            resets: self.one_in(2),
            already: self.one_in(2),
            cancels: self.one_in(2),
            keeps: self.one_in(2),
            reset_accepts: self.one_in(2),
        }
    }
}

thread_local! {
    static SAID: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
    static CORRUPT: Cell<bool> = const { Cell::new(false) };
    static WITHHELD: Cell<bool> = const { Cell::new(false) };
    static CUT: Cell<Option<usize>> = const { Cell::new(None) };
    static REFUSING: Cell<Refusing> = const { Cell::new(Refusing::NOTHING) };
}

/// The seed of the models that this thread makes while `run` runs; `unseen` ones take only liberties of which a
/// driver's caller sees nothing.
#[cfg(test)]
pub(crate) fn with_seed<R>(seed: u64, unseen: bool, run: impl FnOnce() -> R) -> R {
    let former = SAID.replace(Some((seed, unseen)));
    let result = run();
    SAID.set(former);
    result
}

/// The models that this thread makes while `run` runs refuse something from the start.
#[cfg(test)]
pub(in crate::driver::rio) fn refusing_from_the_start<R>(what: Refusing, run: impl FnOnce() -> R) -> R {
    REFUSING.set(what);
    let result = run();
    REFUSING.set(Refusing::NOTHING);
    result
}

/// What the next model refuses from the start.
pub(super) fn refusing() -> Refusing {
    REFUSING.get()
}

/// From now on this thread's completion queues are lost.
#[cfg(feature = "rio-model")]
pub fn corrupt_queues_of_this_thread() {
    CORRUPT.set(true);
}

pub(super) fn is_corrupt() -> bool {
    CORRUPT.get()
}

/// What this thread's models send is acknowledged by nobody, until it is: then sends complete.
#[cfg(any(test, feature = "rio-model"))]
pub fn withhold_acknowledgements_of_this_thread(withheld: bool) {
    WITHHELD.set(withheld);
}

pub(super) fn is_withheld() -> bool {
    WITHHELD.get()
}

/// The next send of this thread's models completes with so many bytes, and what is behind it goes on.
#[cfg(any(test, feature = "rio-model"))]
pub fn cut_next_send_of_this_thread(bytes: usize) {
    CUT.set(Some(bytes));
}

pub(super) fn take_cut() -> Option<usize> {
    CUT.take()
}

/// The chance of the next model, and what it may do. Where no test says, models count on from `ZERIO_RIO_SEED`.
pub(super) fn next() -> (Chance, Liberties) {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let (seed, unseen) = SAID.get().unwrap_or_else(|| {
        let first = std::env::var("ZERIO_RIO_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        (MADE.fetch_add(1, Ordering::SeqCst).wrapping_add(first), false)
    });
    let mut chance = Chance::new(seed);
    let liberties = chance.liberties();
    (chance, if unseen { liberties.unseen() } else { liberties })
}
