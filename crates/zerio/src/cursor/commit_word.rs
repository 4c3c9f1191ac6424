//! The word of a send ring: lock of its senders, end of its committed bytes, and closed mark in one.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::atomics::{AtomicU64, as_sequential_as_said};
use super::owner::Owner;

/// Where the committed bytes end, who has the ring, and whether it is closed, all in one word, so that a
/// commit and a close can not pass each other: either the message was committed before the close, and is
/// counted, or the commit fails.
///
/// A ring is **held** for as long as it takes to copy a short message: meanwhile nobody but the holder changes
/// the word, so the holder needs no second locked instruction to commit and let go. Who wants to close has
/// to wait for that, and for the system to give the holder its core back where it has taken it. A ring is
/// **claimed** for as long as a user likes: then it can be closed, and those who wait can ask to be told.
///
/// Where one thread holds it again and again it becomes that thread's **own**: then it alone holds the ring, by no locked
/// instruction, until somebody else comes, who takes it away first (`owner.rs`).
#[derive(Debug)]
pub(crate) struct CommitWord {
    word: AtomicU64,
    owner: Owner,
}

const CLOSED: u64 = 1 << 63;
const HELD: u64 = 1 << 62;
const CLAIMED: u64 = 1 << 61;
const WAITED: u64 = 1 << 60;
const OWN: u64 = 1 << 59;
const POSITION: u64 = OWN - 1;

/// What an attempt to hold a ring came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Held, and this is where the committed bytes end.
    Held(u64),
    /// The same, and the ring is this thread's own.
    Own(u64),
    /// Somebody else has it, or it is somebody else's own.
    Busy,
    /// The ring takes no more messages.
    Closed,
}

/// The ring was closed while it was claimed: what was written was not committed. It is still claimed, so that
/// what has been noted can be put right.
#[derive(Debug)]
pub(crate) struct ClosedMeanwhile;

impl CommitWord {
    /// Closed, until it is opened.
    pub(crate) fn new() -> CommitWord {
        CommitWord { word: AtomicU64::new(CLOSED), owner: Owner::new() }
    }

    /// Where the committed bytes end.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.word.load(SeqCst) & POSITION
    }

    /// One attempt to hold the ring.
    #[inline]
    pub(crate) fn hold(&self) -> Hold {
        // A claim of the owner's may have been committed by another thread.
        let word = self.word.load(Acquire);
        match word & !POSITION {
            0 => {}
            // As long as it is his, only he changes it, and who commits a claim of his.
            OWN => return if self.owner.hold() { Hold::Own(word & POSITION) } else { Hold::Busy },
            marks => return if marks & CLOSED != 0 { Hold::Closed } else { Hold::Busy },
        }
        match self.word.compare_exchange(word, word | HELD, Acquire, Relaxed) {
            Ok(_) => Hold::Held(word),
            Err(now) if now & CLOSED != 0 => Hold::Closed,
            Err(_) => Hold::Busy,
        }
    }

    /// The owner, who holds it as his own, says where the committed bytes end from now on, and lets go.
    #[inline]
    pub(crate) fn commit_own(&self, to: u64) {
        self.word.store(to | OWN, Release);
        self.owner.let_go();
    }

    /// For the holder: whether he holds what is his own.
    #[inline]
    pub(crate) fn is_own(&self) -> bool {
        self.word.load(Relaxed) & OWN != 0
    }

    /// The holder says what the word is from now on, but for whose own the ring is, and lets go.
    #[inline]
    fn put(&self, word: u64) {
        if self.is_own() {
            self.commit_own(word);
        } else {
            self.word.store(word, Release);
        }
    }

    /// The holder moves the end of the committed bytes, and lets go.
    #[inline]
    pub(crate) fn commit(&self, to: u64) {
        self.put(to);
    }

    /// The same on a stream, whose ring may become the holder's own by that.
    #[inline]
    pub(crate) fn commit_on_stream(&self, to: u64) {
        if self.is_own() {
            return self.put(to);
        }
        // Nobody takes it away before the word tells that it is his.
        let given = self.owner.give_if_due();
        self.word.store(if given.is_some() { to | OWN } else { to }, Release);
    }

    /// The same as `commit`, and what this thread looks at next is no older than what others see of this.
    #[inline]
    pub(crate) fn commit_and_look(&self, to: u64) {
        if self.is_own() {
            self.word.swap(to | OWN, SeqCst);
            self.owner.let_go();
        } else {
            self.word.swap(to, SeqCst);
        }
        as_sequential_as_said();
    }

    /// The holder lets go and commits nothing: the committed bytes end where they did.
    #[inline]
    pub(crate) fn let_go(&self, at: u64) {
        self.put(at);
    }

    /// The holder keeps the ring for a while: it is claimed.
    pub(crate) fn claim(&self, at: u64) {
        self.put(at | CLAIMED);
    }

    /// Sees to it that the ring is nobody's own. False where that is to be tried again: its owner holds it, and may not hold
    /// it once more, or somebody else is about this. `cross_barrier` crosses a
    /// [`ProcessBarrier`](super::ProcessBarrier), or waits until nobody can tell the difference.
    pub(crate) fn disown(&self, cross_barrier: impl FnOnce()) -> bool {
        self.word.load(SeqCst) & OWN == 0 || self.take_away(cross_barrier)
    }

    #[cold]
    fn take_away(&self, cross_barrier: impl FnOnce()) -> bool {
        let Some(_right) = self.owner.right_to_change() else { return false };
        if self.word.load(SeqCst) & OWN != 0 {
            if !self.owner.withdraw(cross_barrier) {
                return false;
            }
            self.word.fetch_and(!OWN, SeqCst);
        }
        true
    }

    /// The claim's owner moves the end of the committed bytes, and lets go. Tells whether others wait for
    /// that. Where it fails, the ring is still claimed.
    pub(crate) fn commit_claim(&self, to: u64) -> Result<bool, ClosedMeanwhile> {
        let commit = |word: u64| (word & CLOSED == 0).then_some(to | word & OWN);
        let outcome = self.word.fetch_update(SeqCst, Relaxed, commit);
        as_sequential_as_said();
        match outcome {
            Ok(word) => Ok(word & WAITED != 0),
            Err(_) => Err(ClosedMeanwhile),
        }
    }

    /// The claim's owner lets go and commits nothing. Tells whether others wait for that.
    pub(crate) fn drop_claim(&self) -> bool {
        self.word.fetch_and(!(CLAIMED | WAITED), SeqCst) & WAITED != 0
    }

    /// Asks a claim's owner to tell when he lets go; false where nobody has a claim any more.
    pub(crate) fn ask_to_be_told(&self) -> bool {
        let word = self.word.load(SeqCst);
        word & CLAIMED != 0 && self.word.compare_exchange(word, word | WAITED, SeqCst, Relaxed).is_ok()
    }

    /// No message is committed from now on. Tells whether that is so: a sender who holds the ring will let go
    /// in a moment, and must be waited for, and one whose own it is must have it taken away.
    pub(crate) fn try_close(&self) -> bool {
        let close = |word: u64| (word & (HELD | OWN) == 0).then_some(word | CLOSED);
        self.word.fetch_update(SeqCst, Relaxed, close).is_ok()
    }

    /// Whether a sender still has the ring, which is closed, and so nobody's own: its bytes are not free before he has let go.
    pub(crate) fn is_taken(&self) -> bool {
        self.word.load(Acquire) & (HELD | CLAIMED) != 0
    }

    #[cfg(feature = "sim")]
    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(SeqCst) & CLOSED != 0
    }

    /// Opens a closed ring that nobody has, at position 0. What was set before is published by it.
    pub(crate) fn open(&self) {
        self.word.store(0, SeqCst);
    }

    /// A sole sender moves the end of the committed bytes.
    #[inline]
    pub(crate) fn commit_sole(&self, to: u64) {
        self.word.store(to, Release);
    }

    /// For a sole sender, who need not hold: where the committed bytes end, `None` where closed.
    #[inline]
    pub(crate) fn sole_position(&self) -> Option<u64> {
        Some(self.sole()).filter(|word| word & CLOSED == 0)
    }

    /// The same, but further than any position where closed.
    #[inline]
    pub(crate) fn sole(&self) -> u64 {
        // Where nobody has it, and it is nobody's own, an open ring's word is its position.
        let word = self.word.load(Relaxed);
        debug_assert!(word & OWN == 0, "nobody else sends on it");
        word
    }
}

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, target_os = "linux", not(loom)))]
mod own;
#[cfg(all(test, not(loom)))]
mod tests;
