//! The end of a driver: it waits for the kernel to let go of the region. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::mem::ManuallyDrop;
use std::time::Duration;

use super::Rio;
use super::table::{CORRUPT, Table};

/// How long, and in how many rounds of nothing, a dropped driver waits for the kernel to let go.
const SETTLE: Duration = Duration::from_millis(50);
const SETTLE_ROUNDS: u32 = 40;

impl<T: Table> Rio<T> {
    /// Closes all sockets, and waits until nothing is outstanding; whether that is so.
    fn settle(&mut self) -> bool {
        self.table.stop_listening();
        for index in 0..self.connections.len() as u32 {
            self.close_socket(index);
        }
        self.refusals.close(&mut *self.table);
        let mut rounds = 0;
        while self.outstanding > 0 && rounds < SETTLE_ROUNDS {
            let taken = self.table.dequeue_completions(self.completions, &mut self.outcomes[..]);
            if taken == CORRUPT {
                return false;
            }
            if (0..taken as usize).any(|at| self.take_back(self.outcomes[at]).is_err()) {
                return false;
            }
            if taken > 0 {
                rounds = 0;
                continue;
            }
            rounds += 1;
            let armed = if self.armed { Ok(()) } else { self.arm() };
            if armed.and_then(|()| self.wait(SETTLE)).is_err() {
                return false;
            }
        }
        self.outstanding == 0
    }
}

impl<T: Table> Drop for Rio<T> {
    fn drop(&mut self) {
        if self.settle() {
            for buffer in self.registered.drain(..) {
                self.table.deregister_buffer(buffer);
            }
            self.refusals.deregister(&mut *self.table);
            self.table.close_completion_queue(self.completions);
            // SAFETY: nothing uses the table after this.
            unsafe { ManuallyDrop::drop(&mut self.table) };
        } else {
            // The kernel may still write to the region, and would to whatever stands there next. So the region
            // is leaked, on purpose, and so are its registration and the queue; and the last words, which it reads.
            std::mem::forget(self.region.clone());
            std::mem::forget(self.refusals.region.clone());
        }
    }
}
