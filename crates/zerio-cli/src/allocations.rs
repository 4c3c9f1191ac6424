//! The system's allocator with a counter before it, so that `zerio bench` can tell how often any thread
//! allocated between two looks at it, and `zerio sim` whether the library did. One of the files with `unsafe`: a
//! global allocator can't be had without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts each allocation, whoever makes it, and leaves the work to the system's allocator.
pub(crate) struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// How often this process has allocated so far, over all threads; growing in place counts too.
pub(crate) fn counted() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

fn count() {
    COUNT.fetch_add(1, Ordering::Relaxed);
    zerio::sim::allocated();
}

// SAFETY: every call is handed to `System` as it came, so that its promises are the ones this makes;
// counting touches an atomic and nothing else, and so neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are what `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above; the pointer came from `System`, since nothing else gives any.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_allocation_on_another_thread_is_counted() {
        let before = super::counted();
        std::thread::spawn(|| drop(std::hint::black_box(Box::new(1)))).join().unwrap();
        assert!(super::counted() > before);
    }
}
