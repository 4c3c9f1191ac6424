//! A barrier that all threads of the process cross at once, at the cost of the one who asks for it.
#![allow(unsafe_code)]

#[cfg(loom)]
use super::say_then_look;

/// The means to make every other thread of the process see what this one has stored, and to see what they
/// have: as if each of them had executed a full fence at some moment during [`ProcessBarrier::cross`].
///
/// Linux: `membarrier(2)`, which interrupts the cores that run this process's threads, a few µs. A process has to
/// register once. That costs nothing while it has one thread; with several it takes the kernel about 10 ms, and
/// on a busy machine has taken seconds (`synchronize_rcu`).
#[derive(Debug)]
pub(crate) enum ProcessBarrier {
    System,
    /// Where one thread does everything there is nobody to see or to be seen: in a simulated world, which is so the same
    /// on every system.
    #[cfg(feature = "sim")]
    OneThread,
}

impl ProcessBarrier {
    /// Registers, early: to be called on the thread of whoever starts an engine, which may still be the only one.
    pub(crate) fn prepare() {
        system::register();
    }

    /// `None` where the system has none, or forbids it.
    pub(crate) fn new() -> Option<ProcessBarrier> {
        system::register().then_some(ProcessBarrier::System)
    }

    /// False where it could not be had after all.
    pub(crate) fn cross(&self) -> bool {
        match self {
            // A child of a fork may have to register anew.
            ProcessBarrier::System => system::cross() || (system::register() && system::cross()),
            #[cfg(feature = "sim")]
            ProcessBarrier::OneThread => true,
        }
    }
}

#[cfg(loom)]
mod system {
    pub(super) fn register() -> bool {
        true
    }

    pub(super) fn cross() -> bool {
        super::say_then_look();
        true
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
mod system {
    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: it takes three numbers and touches no memory of the caller's.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    pub(super) fn register() -> bool {
        membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
    }

    pub(super) fn cross() -> bool {
        membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
    }
}

#[cfg(not(any(target_os = "linux", loom)))]
mod system {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn cross() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn linux_has_a_barrier_or_says_that_it_has_none() {
        assert!(ProcessBarrier::new().is_none_or(|barrier| barrier.cross()));
    }
}
