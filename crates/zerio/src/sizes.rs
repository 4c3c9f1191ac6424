//! The sizes of what the hot path moves and touches, pinned: growth is to be a decision, not an accident.
//! Those of the ring's parts, and on which lines they lie, are in the ring's own tests.
#![forbid(unsafe_code)]
#![cfg(target_pointer_width = "64")]

use crate::driver::{Completion, SlotId};
use crate::recv::buffer::Buffer;
use crate::recv::framer::Framer;
use crate::region::Span;
use crate::send::claim::Claim;

#[test]
fn what_moves_for_each_message_is_small() {
    // An offset, a length, and the region's tag: two registers.
    assert_eq!(size_of::<Span>(), 16);
    assert_eq!(size_of::<Option<Span>>(), 16);
    // A span, two positions, its path and two flags; `try_send` does without one.
    assert_eq!(size_of::<Claim<'_>>(), 48);
    // A slice, a limit and a length: made anew for each batch.
    assert_eq!(size_of::<Framer<'_>>(), 32);
}

#[test]
fn what_moves_for_each_request_is_small() {
    // Half a word each for the slot and for which of its sessions.
    assert_eq!(size_of::<SlotId>(), 8);
    // An id, a span and an outcome; or what was accepted, whose address makes it no larger.
    assert_eq!(size_of::<Completion<socket2::Socket>>(), 48);
    // Three spans and a cursor, on a line of a cache. Under TLS there is more, elsewhere.
    assert_eq!((size_of::<Buffer>(), align_of::<Buffer>()), (64, 64));
}

#[cfg(target_os = "linux")]
#[test]
fn what_each_session_has_in_its_table_is_known() {
    use crate::send::{Doorbell, SendPath};
    use crate::session::{Session, Slot};
    // The peer id is 256 bytes of it; what each message takes is on its first line.
    assert_eq!((size_of::<Session>(), align_of::<Session>()), (384, 64));
    assert!(std::mem::offset_of!(Session, deadline) < 64);
    // The ring's four lines, the pump's, the tallies', and what senders read.
    assert_eq!(size_of::<SendPath>(), 7 * 128);
    // The counters of what was received, and those at the session's start, are the eighth line.
    assert_eq!(size_of::<Slot>(), 8 * 128);
    // Whether the engine sleeps, which session has work, and what to wake it by: lines of their own, one for all sessions.
    assert_eq!(size_of::<Doorbell>(), 3 * 128);
}
