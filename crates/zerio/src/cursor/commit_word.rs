//! The word of a send ring: lock of its senders, end of its committed bytes, and closed mark in one.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use super::atomics::{AtomicU64, as_sequential_as_said};

/// Where the committed bytes end, who has the ring, and whether it is closed, all in one word, so that a
/// commit and a close can not pass each other: either the message was committed before the close, and is
/// counted, or the commit fails.
///
/// A ring is **held** for as long as it takes to copy a short message: meanwhile nobody but the holder changes
/// the word, so the holder needs no second locked instruction to commit and let go. Who wants to close has
/// to wait for that, and for the system to give the holder its core back where it has taken it. A ring is
/// **claimed** for as long as a user likes: then it can be closed, and those who wait can ask to be told.
#[derive(Debug)]
pub(crate) struct CommitWord(AtomicU64);

const CLOSED: u64 = 1 << 63;
const HELD: u64 = 1 << 62;
const CLAIMED: u64 = 1 << 61;
const WAITED: u64 = 1 << 60;
const POSITION: u64 = WAITED - 1;

/// What an attempt to hold a ring came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Held, and this is where the committed bytes end.
    Held(u64),
    /// Somebody else has it.
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
        CommitWord(AtomicU64::new(CLOSED))
    }

    /// Where the committed bytes end.
    #[inline]
    pub(crate) fn position(&self) -> u64 {
        self.0.load(SeqCst) & POSITION
    }

    /// One attempt to hold the ring.
    #[inline]
    pub(crate) fn hold(&self) -> Hold {
        let word = self.0.load(Relaxed);
        if word & CLOSED != 0 {
            return Hold::Closed;
        }
        if word & (HELD | CLAIMED) != 0 {
            return Hold::Busy;
        }
        match self.0.compare_exchange(word, word | HELD, Acquire, Relaxed) {
            Ok(_) => Hold::Held(word),
            Err(now) if now & CLOSED != 0 => Hold::Closed,
            Err(_) => Hold::Busy,
        }
    }

    /// The holder, or a sole sender, moves the end of the committed bytes, and lets go.
    #[inline]
    pub(crate) fn commit(&self, to: u64) {
        self.0.store(to, Release);
    }

    /// The same, and what this thread looks at next is no older than what others see of this.
    #[inline]
    pub(crate) fn commit_and_look(&self, to: u64) {
        self.0.swap(to, SeqCst);
        as_sequential_as_said();
    }

    /// The holder lets go and commits nothing: the committed bytes end where they did.
    #[inline]
    pub(crate) fn let_go(&self, at: u64) {
        self.0.store(at, Release);
    }

    /// The holder keeps the ring for a while: it is claimed.
    pub(crate) fn claim(&self, at: u64) {
        self.0.store(at | CLAIMED, Release);
    }

    /// The claim's owner moves the end of the committed bytes, and lets go. Tells whether others wait for
    /// that. Where it fails, the ring is still claimed.
    pub(crate) fn commit_claim(&self, to: u64) -> Result<bool, ClosedMeanwhile> {
        let commit = |word: u64| (word & CLOSED == 0).then_some(to);
        let outcome = self.0.fetch_update(SeqCst, Relaxed, commit);
        as_sequential_as_said();
        match outcome {
            Ok(word) => Ok(word & WAITED != 0),
            Err(_) => Err(ClosedMeanwhile),
        }
    }

    /// The claim's owner lets go and commits nothing. Tells whether others wait for that.
    pub(crate) fn drop_claim(&self) -> bool {
        self.0.fetch_and(!(CLAIMED | WAITED), SeqCst) & WAITED != 0
    }

    /// Asks a claim's owner to tell when he lets go; false where nobody has a claim any more.
    pub(crate) fn ask_to_be_told(&self) -> bool {
        let word = self.0.load(SeqCst);
        word & CLAIMED != 0 && self.0.compare_exchange(word, word | WAITED, SeqCst, Relaxed).is_ok()
    }

    /// No message is committed from now on. Tells whether that is so: a sender who holds the ring will let go
    /// in a moment, and must be waited for.
    pub(crate) fn try_close(&self) -> bool {
        let close = |word: u64| (word & HELD == 0).then_some(word | CLOSED);
        self.0.fetch_update(SeqCst, Relaxed, close).is_ok()
    }

    /// Whether a sender still has the ring: its bytes are not free before he has let go.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.load(Acquire) & (HELD | CLAIMED) != 0
    }

    /// Opens a closed ring that nobody has, at position 0. What was set before is published by it.
    pub(crate) fn open(&self) {
        self.0.store(0, SeqCst);
    }

    /// For a sole sender, who need not hold: where the committed bytes end, `None` where closed.
    #[inline]
    pub(crate) fn sole_position(&self) -> Option<u64> {
        Some(self.sole()).filter(|word| word & CLOSED == 0)
    }

    /// The same, but further than any position where closed.
    #[inline]
    pub(crate) fn sole(&self) -> u64 {
        // Where nobody has it, an open ring's word is its position.
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_waits_for_a_holder_and_then_holds_for_good() {
        let word = CommitWord::new();
        assert_eq!(word.hold(), Hold::Closed);
        word.open();
        assert_eq!(word.hold(), Hold::Held(0));
        assert_eq!(word.hold(), Hold::Busy);
        assert!(!word.try_close(), "the message that is being written is accepted");
        word.commit(36);
        assert!(word.try_close());
        assert!(word.try_close(), "once is as good as twice");
        assert_eq!(word.hold(), Hold::Closed);
        assert_eq!(word.position(), 36);
        assert!(!word.is_taken());
    }

    #[test]
    fn a_claim_can_be_closed_and_is_then_not_committed() {
        let word = CommitWord::new();
        word.open();
        assert_eq!(word.hold(), Hold::Held(0));
        word.claim(0);
        assert_eq!(word.hold(), Hold::Busy);
        assert!(word.try_close());
        assert!(word.commit_claim(36).is_err());
        assert!(word.is_taken(), "until he has put right what he noted");
        assert!(!word.drop_claim());
        assert!(!word.is_taken());
        assert_eq!((word.position(), word.hold()), (0, Hold::Closed));
    }

    #[test]
    fn who_waits_for_a_claim_is_told() {
        let word = CommitWord::new();
        word.open();
        assert!(!word.ask_to_be_told());
        assert_eq!(word.hold(), Hold::Held(0));
        assert!(!word.ask_to_be_told(), "a holder tells nobody, and is gone at once");
        word.claim(0);
        assert!(word.ask_to_be_told());
        assert!(word.commit_claim(4).unwrap());
        assert_eq!(word.hold(), Hold::Held(4));
        word.claim(4);
        assert!(word.ask_to_be_told());
        assert!(word.drop_claim());
        assert_eq!(word.position(), 4);
    }

    #[test]
    fn a_holder_who_lets_go_leaves_everything_as_it_was() {
        let word = CommitWord::new();
        word.open();
        assert_eq!(word.hold(), Hold::Held(0));
        word.commit_and_look(8);
        assert_eq!(word.hold(), Hold::Held(8));
        word.let_go(8);
        assert_eq!(word.hold(), Hold::Held(8));
    }
}
