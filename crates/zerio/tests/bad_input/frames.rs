//! Frames that can't be one.
#![forbid(unsafe_code)]

use zerio::{FrameError, Reason, RefusalCode, Rejection};

use crate::hostile::{RawPeer, frame, undisturbed};

const MAX: u32 = 1000;

/// A session in which this length ends everything, for this reason.
fn a_length_that_ends_a_session(len: u32, error: FrameError) {
    undisturbed(
        |c| c.message_max = MAX as usize,
        |scene| {
            let mut peer = RawPeer::welcome(scene.address, "bad");
            let longest = vec![7; MAX as usize];
            peer.say(&frame(&longest));
            assert_eq!(peer.hear(), longest, "just inside");
            // What stands before the bad frame in one write is a message like any other.
            peer.say(&[&frame(b"before")[..], &len.to_le_bytes(), b"what is announced"].concat());
            assert_eq!(peer.hear(), b"before");
            peer.hears_the_end();
            drop(peer);
            let end = scene.events.end_of("bad");
            assert_eq!(end.reason, Reason::BadFrame(error));
            assert!(end.undelivered.is_empty(), "{end}");
            assert_eq!(scene.server.counters().engine.bad_frames, 1);
            scene.good.goes_on();
        },
    );
}

#[test]
fn a_length_over_message_max_ends_its_session_and_just_inside_it_does_not() {
    a_length_that_ends_a_session(MAX + 1, FrameError::TooLong { len: MAX + 1, max: MAX });
}

#[test]
fn the_largest_length_without_the_top_bit_is_too_long() {
    a_length_that_ends_a_session(0x7fff_ffff, FrameError::TooLong { len: 0x7fff_ffff, max: MAX });
}

#[test]
fn a_length_with_the_top_bit_set_ends_its_session() {
    a_length_that_ends_a_session(0x8000_0001, FrameError::Reserved { len: 0x8000_0001 });
    a_length_that_ends_a_session(0xffff_ffff, FrameError::Reserved { len: 0xffff_ffff });
}

#[test]
fn a_peer_that_goes_on_after_a_bad_frame_is_not_listened_to() {
    undisturbed(
        |c| c.message_max = MAX as usize,
        |scene| {
            let mut peer = RawPeer::welcome(scene.address, "bad");
            peer.say(&(MAX + 1).to_le_bytes());
            // It can't know yet: each of these would be a message if the first four bytes had not come.
            peer.say(&frame(b"after").repeat(10));
            peer.hears_the_end();
            drop(peer);
            let end = scene.events.end_of("bad");
            assert_eq!(end.reason, Reason::BadFrame(FrameError::TooLong { len: MAX + 1, max: MAX }));
        },
    );
}

#[test]
fn a_first_frame_that_is_too_long_or_reserved_is_refused_with_text() {
    undisturbed(
        |_| {},
        |scene| {
            for (count, len) in [(1, 1025u32), (2, 0x7fff_ffff), (3, 0x8000_0001)] {
                let mut peer = RawPeer::connect(scene.address);
                let local = peer.local();
                peer.say(&len.to_le_bytes());
                peer.hears_refusal(RefusalCode::BadFrame);
                drop(peer);
                let rejection = scene.events.rejection_of(local);
                assert_eq!(rejection, Rejection::Refused(RefusalCode::BadFrame));
                let counters = scene.server.counters().engine;
                assert_eq!((counters.bad_frames, counters.refused), (count, count));
            }
            scene.good.goes_on();
        },
    );
}

#[test]
fn a_first_frame_of_the_greatest_length_is_welcome() {
    undisturbed(
        |_| {},
        |scene| {
            // 255 bytes of id, the zero byte, and three features fill the 1,024 bytes that there may be.
            let feature = |code: u8, len: u8| [&[code, len][..], &vec![0xee; len.into()]].concat();
            let features = [feature(1, 255), feature(2, 255), feature(3, 252)].concat();
            let hello = ["x".repeat(255).as_bytes(), &[0], &features].concat();
            assert_eq!(hello.len(), 1024);
            let mut peer = RawPeer::connect(scene.address);
            peer.say(&frame(&hello));
            assert_eq!(peer.hear(), hello);
        },
    );
}
