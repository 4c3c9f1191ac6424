//! The two queues of an io_uring, and what goes through them: entries with user data one way, completions the
//! other. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::time::Duration;

use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};

use crate::driver::SlotId;

/// So many entries of the submission queue are enough for one system call; more of them are handed over
/// in several.
const SUBMISSIONS_MAX: usize = 1024;

/// What a completion is of: with the session's id it is the user data of a request.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    Wake,
    Accept,
    /// A cancellation of no session's.
    Cancel,
    Connect,
    Receive,
    Send,
    Close,
}

/// For what is no session's.
pub(super) const NOBODY: SlotId = SlotId { index: 0, generation: 0 };

/// Slots that fit the user data, beside the kind and the generation.
pub(super) const SLOTS_MAX: usize = 1 << 24;

impl Kind {
    pub(super) const ALL: [Kind; 7] =
        [Kind::Wake, Kind::Accept, Kind::Cancel, Kind::Connect, Kind::Receive, Kind::Send, Kind::Close];

    /// The user data of a request.
    pub(super) fn data(self, id: SlotId) -> u64 {
        (self as u64) << 56 | u64::from(id.index) << 32 | u64::from(id.generation)
    }

    /// What user data says.
    #[inline]
    pub(super) fn of(data: u64) -> (Kind, SlotId) {
        let index = (data >> 32) as u32 & (SLOTS_MAX as u32 - 1);
        (Kind::ALL[(data >> 56) as usize], SlotId { index, generation: data as u32 })
    }
}

/// A completion as the kernel gives it.
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) id: SlotId,
    pub(super) result: i32,
    /// Its request lives on.
    pub(super) more: bool,
    /// A receive has left bytes in its socket.
    pub(super) rest: bool,
}

/// The two queues, and how many requests the kernel has. Dropping it does not wait for those.
pub(super) struct Ring {
    ring: IoUring,
    pub(super) in_flight: usize,
}

impl Ring {
    pub(super) fn new(slots: usize) -> io::Result<Ring> {
        if slots > SLOTS_MAX {
            return Err(io::Error::new(ErrorKind::InvalidInput, "more slots than the user data can name"));
        }
        // A turn's worth: a receive and a send for each slot, and what is no session's.
        let submissions = (2 * slots + 4).clamp(8, SUBMISSIONS_MAX);
        // The worst that can be outstanding:
        //   for each slot a receive and a send, or a connect, and a cancellation    3 × slots
        //   an accept, its cancellation, the watch on the waker, and what `drop`
        //   cancels all with                                                        4
        //   the watch completes more than once between two looks                    4
        let completions = (3 * slots + 8).max(submissions);
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completions as u32)
            // Where the kernel allows no queue of that size, it takes its largest, and keeps what does not
            // fit it until there is room (no-drop, below).
            .setup_clamp()
            .build(submissions as u32)?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [
            (opcode::PollAdd::CODE, "POLL_ADD"),
            (opcode::Accept::CODE, "ACCEPT"),
            (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
            (opcode::Connect::CODE, "CONNECT"),
            (opcode::Recv::CODE, "RECV"),
            (opcode::Send::CODE, "SEND"),
        ];
        let missing = needed.into_iter().find(|(code, _)| !probe.is_supported(*code)).map(|(_, name)| name);
        let missing = missing
            .or((!ring.params().is_feature_ext_arg()).then_some("waiting with a deadline (EXT_ARG)"))
            .or((!ring.params().is_feature_nodrop()).then_some("completions that are kept (NODROP)"));
        match missing {
            None => Ok(Ring { ring, in_flight: 0 }),
            Some(what) => {
                let why = format!("this kernel's io_uring has no {what}");
                Err(io::Error::new(ErrorKind::Unsupported, why))
            }
        }
    }

    /// How many entries fit the submission queue.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.ring.params().sq_entries() as usize
    }

    /// Queues an entry, which the kernel may see from now on; false where there is no room, and the kernel
    /// won't make any.
    ///
    /// # Safety
    ///
    /// What the entry points to must stay as the kernel needs it until the entry's completion.
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        if self.ring.submission().is_full() {
            // An error shows by there being no room, and again when the turn enters.
            let _ = self.ring.submit();
        }
        // SAFETY: the caller's promise.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.in_flight += usize::from(pushed);
        pushed
    }

    /// Submits what is queued, lets the kernel do what it has put off, and waits at most so long for a
    /// completion. Without any of that to do it makes no system call.
    pub(super) fn enter(&mut self, wait: Duration) -> io::Result<()> {
        let outcome = if wait.is_zero() {
            let queue = self.ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return Ok(());
            }
            drop(queue);
            self.ring.submit()
        } else {
            let wait = Timespec::from(wait);
            self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&wait))
        };
        // What the kernel did not take stays queued in any case, and goes with the next turn.
        match outcome.as_ref().map_err(io::Error::raw_os_error) {
            Ok(_) => Ok(()),
            // The wait is over; a signal came.
            Err(Some(libc::ETIME | libc::EINTR)) => Ok(()),
            // Completions that did not fit their queue must be taken first, which comes next.
            Err(Some(libc::EBUSY)) => Ok(()),
            // The kernel has no memory for a request just now.
            Err(Some(libc::EAGAIN)) => Ok(()),
            // The rest is a bug, or completions are lost (EBADR).
            Err(_) => outcome.map(drop),
        }
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<Event> {
        let entry = self.ring.completion().next()?;
        let more = io_uring::cqueue::more(entry.flags());
        let rest = io_uring::cqueue::sock_nonempty(entry.flags());
        self.in_flight -= usize::from(!more);
        let (kind, id) = Kind::of(entry.user_data());
        Some(Event { kind, id, result: entry.result(), more, rest })
    }
}
