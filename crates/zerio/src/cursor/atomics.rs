//! The atomics that threads share things by: the standard library's, or loom's, which tries every order in
//! which threads can take turns (`RUSTFLAGS="--cfg loom" cargo test --release -p zerio --lib models`).
#![forbid(unsafe_code)]

#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, compiler_fence, fence};

#[cfg(loom)]
pub(super) use loom::cell::UnsafeCell;
#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};

/// A value that each thread has for itself. loom's threads share one of the system's, and it knows of no constants there.
macro_rules! per_thread {
    (static $name:ident: $type:ty = $value:expr;) => {
        #[cfg(not(loom))]
        std::thread_local! { static $name: $type = const { $value }; }
        #[cfg(loom)]
        loom::thread_local! { static $name: $type = $value; }
    };
}
pub(super) use per_thread;

/// The standard library's cell, with loom's face: which of two threads touches it when, loom sees by that.
#[cfg(not(loom))]
#[derive(Debug, Default)]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) fn with<R>(&self, touch: impl FnOnce(*const T) -> R) -> R {
        touch(self.0.get())
    }

    #[inline(always)]
    pub(super) fn with_mut<R>(&self, touch: impl FnOnce(*mut T) -> R) -> R {
        touch(self.0.get())
    }
}

/// loom knows of no processor that a barrier of the whole process could reach: in its models both sides of
/// such a pair pay for a fence.
#[cfg(loom)]
pub(super) fn compiler_fence(order: std::sync::atomic::Ordering) {
    fence(order);
}

/// loom takes a sequentially consistent access for one that only acquires and releases; a fence makes up
/// for it. Nothing in a program.
#[inline(always)]
pub(super) fn as_sequential_as_said() {
    #[cfg(loom)]
    fence(std::sync::atomic::Ordering::SeqCst);
}
