//! What threads share, for both paths: cursors, flags, bits and tallies. The only module that names a
//! memory ordering.
//!
//! Three patterns carry everything:
//!
//! - **publish and observe**: bytes are written, then a cursor is published (release); who observes
//!   the cursor (acquire) sees the bytes.
//! - **say, then look** (Dekker): each of two threads stores its own word and then loads the other's,
//!   all four sequentially consistent, or with a fence between, so at least one of them sees the other's
//!   store. A sender says "committed" and looks whether the engine sleeps; the engine says "I sleep" and
//!   looks whether anything was committed. That is why no wake-up is lost.
//! - **say, then look, one side for free**: where one side does so a hundred million times a second and the
//!   other once in a while, the seldom side pays for both: it crosses a [`ProcessBarrier`] between its two
//!   steps, and the frequent side only has to keep the compiler from swapping its own.
#![allow(unsafe_code)]

use std::num::NonZeroU32;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

mod atomics;
mod barrier;
mod commit_word;
mod line;
mod owner;

use atomics::{AtomicBool, AtomicU32, AtomicU64, UnsafeCell, as_sequential_as_said, compiler_fence, fence};
pub(crate) use barrier::ProcessBarrier;
pub(crate) use commit_word::{ClosedMeanwhile, CommitWord, Hold};
pub(crate) use line::{Line, Word};
#[cfg(test)]
pub(crate) use owner::OWN_AFTER;

/// On cache lines of its own. 128 bytes: today's processors fetch lines in pairs, and Apple's have
/// lines of 128.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

/// The next of a row of numbers that begins with 1, for telling things of one kind apart.
pub(crate) fn next_tag(tags: &std::sync::atomic::AtomicU32) -> NonZeroU32 {
    // After four billions it begins anew.
    NonZeroU32::new(tags.fetch_add(1, Relaxed)).unwrap_or_else(|| next_tag(tags))
}

/// A position that one thread at a time writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Cursor(AtomicU64);

impl Cursor {
    pub(crate) fn new(at: u64) -> Cursor {
        Cursor(AtomicU64::new(at))
    }

    /// For whoever writes it: its own last value.
    #[inline]
    pub(crate) fn own(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets it without publishing anything: another word, published later, carries it.
    #[inline]
    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }

    /// Sets it; who observes the new value sees all that was written before.
    #[inline]
    pub(crate) fn publish(&self, to: u64) {
        self.0.store(to, Release);
    }

    #[inline]
    pub(crate) fn observe(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// The same for one who has said something first.
    #[inline]
    pub(crate) fn look(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

/// A count that one thread at a time adds to and anyone reads, at any time.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Adds, where only one thread at a time does.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds, where several threads may.
    #[inline]
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Keeps the larger of its value and `n`, where only one thread does.
    #[inline]
    pub(crate) fn raise(&self, n: u64) {
        if n > self.0.load(Relaxed) {
            self.0.store(n, Relaxed);
        }
    }

    /// Begins anew, where only one thread does.
    pub(crate) fn reset(&self) {
        self.0.store(0, Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A yes or no that any thread may set and any may look at. Nothing else is published by it.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    #[inline]
    pub(crate) fn set(&self, to: bool) {
        self.0.store(to, SeqCst);
        as_sequential_as_said();
    }

    #[inline]
    pub(crate) fn get(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// A promise of one thread to look at something again and again, which spares others from telling it. Who
/// takes it back clears it, crosses a [`ProcessBarrier`], and looks once more.
#[derive(Debug, Default)]
pub(crate) struct Promise(AtomicBool);

impl Promise {
    pub(crate) fn set(&self, to: bool) {
        self.0.store(to, SeqCst);
    }

    /// As it seems; to be asked again, by `holds`, after what the other thread is to see.
    #[inline]
    pub(crate) fn seems_to_hold(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// After a store that the other thread is to see: whether it will. The processor may still swap that
    /// store and this load; the barrier of who takes the promise back undoes that.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        compiler_fence(SeqCst);
        self.0.load(Relaxed)
    }
}

/// After a store, before a load: no thread that does the same sees the old values of both.
#[inline]
pub(crate) fn say_then_look() {
    fence(SeqCst);
}

/// How many threads wait for something. A thread that is about to wait says so, then looks once more;
/// who makes the thing happen does it, then looks whether anyone waits.
#[derive(Debug, Default)]
pub(crate) struct Waiting(AtomicU32);

impl Waiting {
    pub(crate) fn enter(&self) {
        self.0.fetch_add(1, SeqCst);
        fence(SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, SeqCst);
    }

    /// After what they wait for was made to happen.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        fence(SeqCst);
        self.0.load(Relaxed) != 0
    }
}

/// A value behind a flag: whoever takes the flag has the value to itself. It never waits. The flag is where the value
/// begins.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Guarded<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a `Guard` only, and `taken` lets one exist at a time; taking it
// acquires what the last one released. So the value moves between threads, which `T: Send` allows.
unsafe impl<T: Send> Sync for Guarded<T> {}

/// The value of a [`Guarded`], and the flag: dropping it gives the flag back.
pub(crate) struct Guard<'a, T>(&'a Guarded<T>);

impl<T> Guarded<T> {
    pub(crate) fn new(value: T) -> Guarded<T> {
        Guarded { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// The value, unless another thread has it.
    #[inline]
    pub(crate) fn try_take(&self) -> Option<Guard<'_, T>> {
        if self.taken.load(SeqCst) || self.taken.swap(true, SeqCst) {
            return None;
        }
        Some(Guard(self))
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one (`taken`), so the value is this thread's.
        self.0.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and the guard is borrowed mutably.
        self.0.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Nobody relies on being seen to give it back: who finds the flag taken leaves a mark, which its
        // holder need not look for, or tries again.
        self.0.taken.store(false, Release);
    }
}

/// A row of bits that any thread sets and one thread takes.
#[derive(Debug)]
pub(crate) struct Bits(Box<[AtomicU64]>);

impl Bits {
    pub(crate) fn new(len: usize) -> Bits {
        Bits((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets a bit. Where it is set already, that costs a load: whoever takes it later will look at what
    /// was committed before this call.
    #[inline]
    pub(crate) fn set(&self, index: u32) {
        let (word, bit) = (&self.0[index as usize / 64], 1 << (index % 64));
        if word.load(SeqCst) & bit == 0 {
            word.fetch_or(bit, SeqCst);
            as_sequential_as_said();
        }
    }

    /// Whether any bit is set.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(|word| word.load(SeqCst) != 0)
    }

    /// How many bits are set.
    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.load(Relaxed).count_ones()).sum()
    }

    #[cfg(feature = "sim")]
    pub(crate) fn is_set(&self, index: u32) -> bool {
        self.0[index as usize / 64].load(SeqCst) & 1 << (index % 64) != 0
    }

    /// How many words there are.
    #[inline]
    pub(crate) fn words(&self) -> usize {
        self.0.len()
    }

    /// Takes the bits of one word: they are set no more.
    #[inline]
    pub(crate) fn take(&self, word: usize) -> u64 {
        let word = &self.0[word];
        if word.load(Relaxed) == 0 {
            return 0;
        }
        let bits = word.swap(0, SeqCst);
        as_sequential_as_said();
        bits
    }
}

/// Whether an engine sleeps, and how often senders did its work meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Asleep {
    asleep: AtomicBool,
    /// Sends that threads made directly since the engine went to sleep.
    direct: AtomicU32,
}

impl Asleep {
    /// The engine says that it sleeps; it must look for work once more before it does.
    pub(crate) fn fall(&self) {
        self.direct.store(0, Relaxed);
        self.asleep.store(true, SeqCst);
        as_sequential_as_said();
    }

    /// The engine is awake, or somebody has taken it on himself to wake it. Tells whether it slept.
    pub(crate) fn rise(&self) -> bool {
        self.asleep.swap(false, SeqCst)
    }

    /// For a sender, after its commit.
    #[inline]
    pub(crate) fn is(&self) -> bool {
        self.asleep.load(SeqCst)
    }

    /// Counts a direct send; gives how many there have been since the engine fell asleep.
    pub(crate) fn count_direct(&self) -> u32 {
        self.direct.fetch_add(1, Relaxed) + 1
    }
}

/// Requests about one session that any thread may make: bits under the session's generation, so that
/// a request through an old handle never reaches the slot's next session.
#[derive(Debug, Default)]
pub(crate) struct Requests(AtomicU64);

impl Requests {
    /// The slot has a new session: no request is open.
    pub(crate) fn reset(&self, generation: u32) {
        self.0.store(u64::from(generation) << 32, SeqCst);
    }

    /// Sets and clears bits; false where the session is another one.
    pub(crate) fn change(&self, generation: u32, set: u32, clear: u32) -> bool {
        let change = |word: u64| {
            ((word >> 32) as u32 == generation).then_some((word & !u64::from(clear)) | u64::from(set))
        };
        self.0.fetch_update(SeqCst, SeqCst, change).is_ok()
    }

    /// The bits that are set.
    #[inline]
    pub(crate) fn bits(&self) -> u32 {
        self.0.load(Acquire) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reaches_its_own_generation_only() {
        let requests = Requests::default();
        requests.reset(7);
        assert!(requests.change(7, 0b11, 0));
        assert!(requests.change(7, 0, 0b01));
        assert_eq!(requests.bits(), 0b10);
        requests.reset(8);
        assert!(!requests.change(7, 0b1, 0));
        assert_eq!(requests.bits(), 0);
    }

    #[test]
    fn bits_are_taken_once() {
        let bits = Bits::new(130);
        bits.set(0);
        bits.set(129);
        bits.set(129);
        assert!(bits.any());
        assert_eq!((bits.take(0), bits.take(1), bits.take(2)), (1, 0, 2));
        assert!(!bits.any());
    }

    #[test]
    fn a_guarded_value_is_one_threads_at_a_time() {
        let value = Guarded::new(0u32);
        {
            let mut first = value.try_take().unwrap();
            assert!(value.try_take().is_none());
            *first += 1;
        }
        assert_eq!(*value.try_take().unwrap(), 1);
    }
}
