//! Lines of words that one thread writes and that anyone reads, other processes included, without the writer's
//! knowing: a **version** before them is odd while they are written, and another one afterwards, so a reader who
//! finds an even version, and the same one again behind the words, has words of one moment. The writer never
//! waits.
#![forbid(unsafe_code)]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::atomics::{AtomicU64, fence};

/// A word of memory that several processes may share. All accesses are relaxed loads and stores, which any
/// processor has for memory that it may only read, too.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Word(AtomicU64);

impl Word {
    #[inline]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }

    /// Adds, where only one thread at a time does.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Adds, where several threads may.
    #[inline]
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Keeps the larger of its value and `n`, where several threads may.
    pub(crate) fn raise_shared(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }

    /// Sets it; who reads the new value by `observe` sees all that was written before.
    pub(crate) fn publish(&self, to: u64) {
        self.0.store(to, Release);
    }

    pub(crate) fn observe(&self) -> u64 {
        let value = self.get();
        // An acquiring load need not be possible in memory that may only be read; a fence is.
        fence(Acquire);
        value
    }
}

/// Words behind their version, which is the first of them.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a>(&'a [Word]);

impl<'a> Line<'a> {
    pub(crate) fn new(words: &'a [Word]) -> Line<'a> {
        Line(words)
    }

    /// For the one thread that writes it: calls `write` with the words behind the version.
    #[inline]
    pub(crate) fn write(&self, write: impl FnOnce(&[Word])) {
        let version = self.0[0].get();
        self.0[0].set(version | 1);
        // Who sees a word of these sees that the version is odd, if he looks afterwards.
        fence(Release);
        write(&self.0[1..]);
        self.0[0].publish((version | 1).wrapping_add(1));
    }

    /// Copies the words behind the version to `into`, which is as long. False where they are just being
    /// written, or were meanwhile: then they may be of several moments.
    pub(crate) fn read(&self, into: &mut [u64]) -> bool {
        let version = self.0[0].observe();
        for (to, from) in into.iter_mut().zip(&self.0[1..]) {
            *to = from.get();
        }
        fence(Acquire);
        version & 1 == 0 && self.0[0].get() == version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(loom))]
    #[test]
    fn a_line_is_read_as_it_was_written_and_not_while_it_is() {
        let words: [Word; 4] = Default::default();
        let (line, mut copy) = (Line::new(&words), [0; 3]);
        line.write(|words| words.iter().for_each(|word| word.set(7)));
        assert!(line.read(&mut copy));
        assert_eq!((copy, words[0].get()), ([7; 3], 2));
        line.write(|_| assert!(!line.read(&mut [0; 3])));
        assert!(line.read(&mut copy));
        // A writer that died in the middle has left an odd version; the next one goes on from there.
        words[0].set(5);
        assert!(!line.read(&mut copy));
        line.write(|words| words[0].set(8));
        assert!(line.read(&mut copy));
        assert_eq!((copy, words[0].get()), ([8, 7, 7], 6));
    }

    /// As in `engine/tests/models.rs`.
    #[cfg(loom)]
    mod models {
        use super::*;

        #[test]
        fn a_reader_never_takes_words_of_two_moments_for_one() {
            loom::model(|| {
                let words = loom::sync::Arc::new([Word::default(), Word::default(), Word::default()]);
                let writers = words.clone();
                let writer = loom::thread::spawn(move || {
                    for n in 1..=2 {
                        Line::new(&writers[..]).write(|words| words.iter().for_each(|word| word.set(n)));
                    }
                });
                let mut copy = [0; 2];
                if Line::new(&words[..]).read(&mut copy) {
                    assert_eq!(copy[0], copy[1]);
                }
                writer.join().unwrap();
                assert!(Line::new(&words[..]).read(&mut copy));
                assert_eq!(copy, [2, 2]);
            });
        }
    }
}
