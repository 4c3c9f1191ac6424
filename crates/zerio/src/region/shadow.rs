//! What a model sees of bytes: loom is told who touches which, and fails where two threads do, one of them writing, and
//! nothing orders them. Nothing in a program.
#![forbid(unsafe_code)]

use std::ops::Range;

#[cfg(not(loom))]
#[derive(Debug)]
pub(super) struct Shadow;

#[cfg(not(loom))]
impl Shadow {
    pub(super) fn new() -> Shadow {
        Shadow
    }

    #[inline(always)]
    pub(super) fn read(&self, _: Range<usize>) {}

    #[inline(always)]
    pub(super) fn write(&self, _: Range<usize>) {}
}

/// A cell for each byte that was ever touched. The lock is no part of the model: loom's threads take turns.
#[cfg(loom)]
#[derive(Debug)]
pub(super) struct Shadow(std::sync::Mutex<std::collections::BTreeMap<usize, loom::cell::UnsafeCell<()>>>);

#[cfg(loom)]
impl Shadow {
    /// Of so many bytes each one is touched; of more, both ends and some between: whole buffers would take as long as
    /// all the rest.
    const EACH: usize = 64;

    pub(super) fn new() -> Shadow {
        Shadow(std::sync::Mutex::default())
    }

    pub(super) fn read(&self, bytes: Range<usize>) {
        self.touch(bytes, |cell| cell.with(|_| ()));
    }

    pub(super) fn write(&self, bytes: Range<usize>) {
        self.touch(bytes, |cell| cell.with_mut(|_| ()));
    }

    fn touch(&self, bytes: Range<usize>, touch: impl Fn(&loom::cell::UnsafeCell<()>)) {
        // The same ones for every span, where it may be.
        let step = bytes.len().div_ceil(Self::EACH).next_power_of_two();
        let ends = [bytes.start, bytes.end.saturating_sub(1)];
        let mut cells = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for byte in bytes.clone().filter(|byte| byte % step == 0 || ends.contains(byte)) {
            touch(cells.entry(byte).or_insert_with(|| loom::cell::UnsafeCell::new(())));
        }
    }
}
