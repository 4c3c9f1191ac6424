//! The system's allocator with a counter before it, for the line that says how often zerio allocates after its
//! start. The only file with `unsafe`: a global allocator can't be had without.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Leaves the work to the system's allocator, and counts where that was asked for.
pub(crate) struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// From now on allocations are counted. Peers that allocate for each message are spared the counting: it would be
/// a locked instruction more for them, and not for zerio.
pub(crate) fn count_from_now() {
    COUNTS.store(true, Ordering::Relaxed);
}

/// How often this process has allocated since, over all threads; growing in place counts too. `None` where
/// nobody asked for it.
pub(crate) fn counted() -> Option<u64> {
    COUNTS.load(Ordering::Relaxed).then(|| COUNT.load(Ordering::Relaxed))
}

#[inline]
fn count() {
    if COUNTS.load(Ordering::Relaxed) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to `System` as it came, so that its promises are the ones this makes;
// counting touches two atomics and nothing else, and so neither allocates nor panics.
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
