//! Beside the send path: how its senders reach an engine that may be asleep.
//!
//! A sender marks its session, then looks whether the engine sleeps; the engine says that it sleeps, then
//! looks whether anything is marked. One of them sees the other, so no wake-up is lost (`cursor.rs`). A session
//! that the engine watches (`engine/streams.rs`) need not be marked, and an engine that watches is awake.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use crate::cursor::{Asleep, Bits, Padded, Tally};
use crate::driver::Waker;

/// How senders reach an engine: which sessions have work, and whether it sleeps.
#[derive(Debug)]
pub(crate) struct Doorbell {
    asleep: Padded<Asleep>,
    marked: Padded<Bits>,
    waker: OnceLock<Waker>,
    pub(crate) wake_ups: Tally,
}

impl Doorbell {
    pub(crate) fn new(slots: usize) -> Doorbell {
        Doorbell {
            asleep: Padded(Asleep::default()),
            marked: Padded(Bits::new(slots)),
            waker: OnceLock::new(),
            wake_ups: Tally::default(),
        }
    }

    /// The engine has a driver now, which can be woken.
    pub(crate) fn connect(&self, waker: Waker) {
        let _ = self.waker.set(waker);
    }

    /// For a sender, after its commit: whether the engine sleeps.
    #[inline]
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.is()
    }

    /// Counts a direct send; gives how many there have been since the engine fell asleep.
    pub(super) fn count_direct(&self) -> u32 {
        self.asleep.count_direct()
    }

    /// Marks a session as having work for the engine, which is known to be awake.
    #[inline]
    pub(super) fn mark(&self, index: u32) {
        self.marked.set(index);
    }

    /// Marks a session as having work for the engine, and wakes the engine if it sleeps.
    #[inline]
    pub(crate) fn ring(&self, index: u32) {
        self.marked.set(index);
        if self.asleep.is() {
            self.wake();
        }
    }

    /// Wakes the engine if it sleeps.
    #[cold]
    pub(crate) fn wake(&self) {
        if self.asleep.rise()
            && let Some(waker) = self.waker.get()
        {
            waker.wake();
            self.wake_ups.add_shared(1);
        }
    }

    /// The engine is about to sleep: false where there is work, and it must not.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.fall();
        if self.marked.any() {
            self.asleep.rise();
            return false;
        }
        true
    }

    /// The engine has slept.
    pub(crate) fn wake_up(&self) {
        self.asleep.rise();
    }

    #[cfg(feature = "sim")]
    pub(super) fn is_marked(&self, index: u32) -> bool {
        self.marked.is_set(index)
    }

    /// How many sessions are marked.
    pub(crate) fn count(&self) -> u32 {
        self.marked.count()
    }

    /// Words of marks, to take one by one.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        self.marked.words()
    }

    #[inline]
    pub(crate) fn take(&self, word: usize) -> u64 {
        self.marked.take(word)
    }
}
