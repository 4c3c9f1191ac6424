//! Ctrl-C: the first ends the command in order, the second kills it.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::Failure;

/// The exit code of a process that a second Ctrl-C killed, as shells have it.
const KILLED: i32 = 130;

static SEEN: AtomicBool = AtomicBool::new(false);

/// Calls `first` at the first Ctrl-C (or SIGTERM), on a thread of its own. To be called once.
pub(crate) fn catch(first: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let caught = ctrlc::set_handler(move || {
        if SEEN.swap(true, Ordering::Relaxed) {
            std::process::exit(KILLED);
        }
        first();
    });
    caught.map_err(|error| Failure::new(format!("can't catch Ctrl-C: {error}")))
}

/// Whether there was one.
pub(crate) fn seen() -> bool {
    SEEN.load(Ordering::Relaxed)
}
