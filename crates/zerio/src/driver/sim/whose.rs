//! Whose code runs on this thread: the library's, which allocates nothing after start, or a handler's or the
//! simulated kernel's, which may. A storm can't see allocations; an allocator that tells of each one lets it.
#![forbid(unsafe_code)]

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};

thread_local! {
    static LIBRARYS: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static FIRST: RefCell<Option<Backtrace>> = const { RefCell::new(None) };
}

/// To be called by a global allocator, of each allocation: where it was the library's own code that allocated, in
/// the middle of a [`storm`](crate::sim::storm), this is the storm's failure. Without such an allocator
/// storms do not know of allocations. It allocates nothing itself where all is well, and never panics.
///
/// ```
/// use std::alloc::{GlobalAlloc, Layout, System};
///
/// struct Telling;
///
/// // SAFETY: every call is the system's allocator's, and to tell of it touches thread-local cells only.
/// unsafe impl GlobalAlloc for Telling {
///     unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
///         zerio::sim::allocated();
///         unsafe { System.alloc(layout) }
///     }
///     unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
///         unsafe { System.dealloc(block, layout) }
///     }
/// }
///
/// #[global_allocator]
/// static ALLOCATOR: Telling = Telling;
/// ```
pub fn allocated() {
    // A thread that ends has no cells any more, and runs nobody's engine.
    if !LIBRARYS.try_with(Cell::get).unwrap_or(false) {
        return;
    }
    let _others = Whose::others();
    COUNT.set(COUNT.get() + 1);
    if COUNT.get() == 1 {
        FIRST.set(Some(Backtrace::force_capture()));
    }
}

/// What the library has allocated on this thread since somebody last asked, if anything: how often, and where first.
pub(crate) fn take_allocations() -> Option<String> {
    let count = COUNT.take();
    let first = (count > 0).then(|| FIRST.take()).flatten()?;
    Some(format!("the library allocated, {count} times in one step; first\n{first}"))
}

/// Until it is dropped, what runs is the library's code, or others'.
#[must_use]
pub(crate) struct Whose {
    before: bool,
}

impl Whose {
    pub(crate) fn library() -> Whose {
        Whose { before: LIBRARYS.replace(true) }
    }

    pub(crate) fn others() -> Whose {
        Whose { before: LIBRARYS.replace(false) }
    }
}

/// Something that is in others' hands until it is dropped.
pub(crate) struct Others<T> {
    what: T,
    _whose: Whose,
}

impl<T> Others<T> {
    pub(crate) fn of(what: T) -> Others<T> {
        Others { what, _whose: Whose::others() }
    }
}

impl<T: Deref> Deref for Others<T> {
    type Target = T::Target;

    fn deref(&self) -> &T::Target {
        &self.what
    }
}

impl<T: DerefMut> DerefMut for Others<T> {
    fn deref_mut(&mut self) -> &mut T::Target {
        &mut self.what
    }
}

/// Does what the library has to do without allocating.
pub(crate) fn in_library<T>(what: impl FnOnce() -> T) -> T {
    let _library = Whose::library();
    what()
}

impl Drop for Whose {
    fn drop(&mut self) {
        LIBRARYS.set(self.before);
    }
}
