//! Ctrl-C: the first ends the program in order, the second kills it. Its processes hear the same Ctrl-C from the
//! terminal, and end as soon as their standard input does in any case.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{During, Failure};

/// The exit code of a process that a second Ctrl-C killed, as shells have it.
const KILLED: i32 = 130;

static SEEN: AtomicBool = AtomicBool::new(false);

/// To be called once.
pub(crate) fn catch() -> Result<(), Failure> {
    let caught = ctrlc::set_handler(|| {
        if SEEN.swap(true, Ordering::Relaxed) {
            std::process::exit(KILLED);
        }
    });
    caught.map_err(Failure::new).during("can't catch Ctrl-C")
}

/// Whether there was one.
pub(crate) fn seen() -> bool {
    SEEN.load(Ordering::Relaxed)
}
