//! Buffer and framer together, against a naive oracle: whatever the pieces in which the bytes come, and
//! whatever of them the handler leaves for later, the same messages come out.
#![forbid(unsafe_code)]

use std::sync::Arc;

use proptest::prelude::*;

use super::buffer::Buffer;
use super::framer::{self, Framer};
use crate::error::FrameError;
use crate::region::{Region, Span};
use crate::wire::{self, HEADER, RESERVED};

/// The receive path of one session: what an engine does, without the engine.
struct Path {
    region: Arc<Region>,
    buffer: Buffer,
    max: u32,
    messages: Vec<Vec<u8>>,
}

impl Path {
    fn new(capacity: usize, max: u32) -> Path {
        let (region, mut cutter) = Region::new(capacity).unwrap();
        let mut buffer = Buffer::new(cutter.cut(0), cutter.cut(capacity));
        buffer.move_on(&region);
        Path { region, buffer, max, messages: Vec::new() }
    }

    fn lend(&mut self) -> Option<Span> {
        let frame = framer::frame_len(self.buffer.bytes(&self.region), self.max);
        self.buffer.lend(&self.region, frame)
    }

    /// One receive, which brings at most `most` of `bytes`; gives how many.
    fn receive(&mut self, bytes: &[u8], most: usize) -> usize {
        let Some(mut room) = self.lend() else { return 0 };
        assert!(self.lend().is_none(), "one receive at a time");
        let taken = bytes.len().min(most).min(room.len());
        self.region.bytes_mut(&mut room)[..taken].copy_from_slice(&bytes[..taken]);
        // Whatever the kernel leaves behind it is no message.
        self.region.bytes_mut(&mut room)[taken..].fill(0xee);
        self.buffer.give_back(room, taken);
        taken
    }

    /// Handles at most so many messages.
    fn handle(&mut self, most: usize) -> Result<usize, FrameError> {
        let bytes = self.buffer.bytes(&self.region);
        let mut framer = Framer::new(bytes, self.max);
        let (mut handled, mut outcome) = (0, Ok(0));
        while handled < most {
            match framer.next() {
                Ok(Some(message)) => self.messages.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            handled += 1;
        }
        let framed = framer.framed();
        self.buffer.consume(framed);
        outcome.map(|_| handled)
    }
}

fn frames(messages: &[Vec<u8>]) -> Vec<u8> {
    let frame = |message: &Vec<u8>| [&wire::header(message.len() as u32)[..], message].concat();
    messages.iter().flat_map(frame).collect()
}

/// Distinct bytes, so that a piece in the wrong place shows.
fn messages(lens: &[usize]) -> Vec<Vec<u8>> {
    let mut next = 0u8;
    let mut byte = |_| {
        next = next.wrapping_mul(5).wrapping_add(73);
        next
    };
    lens.iter().map(|&len| (0..len).map(&mut byte).collect()).collect()
}

const MAX: u32 = 400;

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..30usize, 2 => 0..=MAX as usize, 1 => Just(0), 1 => Just(MAX as usize)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_messages_come_out_whatever_the_pieces(
        lens in prop::collection::vec(len(), 0..60),
        pieces in prop::collection::vec((1..700usize, 0..12usize), 1..40),
        spare in 0..700usize,
    ) {
        let messages = messages(&lens);
        let stream = frames(&messages);
        // From the smallest buffer that a configuration allows for messages of this length.
        let mut path = Path::new(MAX as usize + HEADER + spare, MAX);
        let mut rest = &stream[..];
        let mut pieces = pieces.iter().cycle();
        while path.messages.len() < messages.len() {
            let (most, handle) = *pieces.next().unwrap();
            let taken = path.receive(rest, most);
            rest = &rest[taken..];
            let handled = path.handle(handle).unwrap();
            if taken == 0 && handled == 0 {
                // No room, and the handler was paused: what there is must be enough for a message.
                prop_assert!(path.handle(1).unwrap() == 1, "neither room nor a message");
            }
        }
        prop_assert_eq!(path.messages, messages);
        prop_assert_eq!((rest.len(), path.buffer.len()), (0, 0));
    }

    #[test]
    fn a_bad_length_is_told_after_every_good_frame_before_it_and_again_when_asked_again(
        lens in prop::collection::vec(len(), 0..20),
        most in 1..700usize,
        bad in prop_oneof![Just(MAX + 1), MAX + 1..RESERVED, RESERVED..=u32::MAX],
    ) {
        let messages = messages(&lens);
        let mut stream = frames(&messages);
        stream.extend(bad.to_le_bytes());
        stream.extend([0xab; 100]);
        let mut path = Path::new(MAX as usize + HEADER, MAX);
        let mut rest = &stream[..];
        let error = loop {
            rest = &rest[path.receive(rest, most)..];
            if let Err(error) = path.handle(usize::MAX) {
                break error;
            }
        };
        let expected = if bad >= RESERVED {
            FrameError::Reserved { len: bad }
        } else {
            FrameError::TooLong { len: bad, max: MAX }
        };
        prop_assert_eq!(error, expected);
        prop_assert_eq!(&path.messages, &messages);
        prop_assert_eq!(path.handle(usize::MAX), Err(expected));
        prop_assert_eq!(path.messages, messages);
    }
}

#[test]
fn a_framer_gives_nothing_of_a_frame_before_its_last_byte() {
    let stream = frames(&[b"abc".to_vec()]);
    for end in 0..stream.len() {
        let mut framer = Framer::new(&stream[..end], MAX);
        assert_eq!(framer.next(), Ok(None), "{end} bytes");
        assert_eq!(framer.framed(), 0);
    }
    let mut framer = Framer::new(&stream, MAX);
    assert_eq!(framer.next(), Ok(Some(&stream[4..7])));
    assert_eq!(framer.next(), Ok(None));
    assert_eq!(framer.framed(), 7);
}

#[test]
fn a_length_at_the_limit_is_waited_for_and_one_above_is_refused_before_a_byte_of_it_came() {
    let (longest, longer) = (MAX.to_le_bytes(), (MAX + 1).to_le_bytes());
    assert_eq!(Framer::new(&longest, MAX).next(), Ok(None));
    let error = Framer::new(&longer, MAX).next();
    assert_eq!(error, Err(FrameError::TooLong { len: MAX + 1, max: MAX }));
}

#[test]
fn a_frames_length_is_known_from_its_header_on() {
    assert_eq!(framer::frame_len(&[], MAX), HEADER);
    assert_eq!(framer::frame_len(&[9, 0, 0], MAX), HEADER);
    assert_eq!(framer::frame_len(&[9, 0, 0, 0], MAX), HEADER + 9);
    assert_eq!(framer::frame_len(&(MAX + 1).to_le_bytes(), MAX), HEADER, "no room is kept for a bad one");
}

#[test]
fn the_longest_message_fits_a_buffer_of_just_its_frame_wherever_it_begins() {
    for first in 0..=MAX as usize {
        let messages = messages(&[first, MAX as usize, MAX as usize]);
        let stream = frames(&messages);
        let mut path = Path::new(MAX as usize + HEADER, MAX);
        let mut rest = &stream[..];
        while path.messages.len() < messages.len() {
            let taken = path.receive(rest, usize::MAX);
            assert!(taken > 0, "there is always room for the rest of a frame");
            rest = &rest[taken..];
            path.handle(usize::MAX).unwrap();
        }
        assert_eq!(path.messages, messages);
    }
}

#[test]
fn a_buffer_one_byte_too_small_for_a_frame_has_no_room_for_its_end() {
    let stream = frames(&messages(&[MAX as usize]));
    let mut path = Path::new(MAX as usize + HEADER - 1, MAX);
    assert_eq!(path.receive(&stream, usize::MAX), stream.len() - 1);
    assert_eq!(path.handle(usize::MAX), Ok(0));
    assert!(path.lend().is_none());
}

/// A buffer of 1,500 bytes in which a first message is handled and `rest` bytes of a second one, of
/// `len` bytes, have come.
fn with_rest(len: usize, rest: usize) -> (Path, Vec<Vec<u8>>, Vec<u8>) {
    let messages = messages(&[96, len]);
    let stream = frames(&messages);
    let mut path = Path::new(1500, 1400);
    assert_eq!(path.receive(&stream, 100 + rest), 100 + rest);
    path.handle(1).unwrap();
    (path, messages, stream[100 + rest..].to_vec())
}

#[test]
fn a_long_rest_stays_where_it_is_as_long_as_its_frame_fits_behind_it() {
    // 100 handled, 300 received, 1,100 behind: a frame of 1,400 fits, one of 1,401 does not.
    for (len, room) in [(1396, 1100), (1397, 1200)] {
        let (mut path, messages, stream) = with_rest(len, 300);
        let lent = path.lend().unwrap();
        assert_eq!(lent.len(), room, "a message of {len}");
        path.buffer.give_back(lent, 0);
        let taken = path.receive(&stream, usize::MAX);
        assert_eq!(taken, stream.len());
        path.handle(1).unwrap();
        assert_eq!(path.messages, messages);
    }
}

#[test]
fn a_short_rest_is_moved_to_the_front_although_its_frame_fits() {
    for (rest, room) in [(256, 1500 - 256), (257, 1500 - 100 - 257)] {
        let (mut path, messages, stream) = with_rest(700, rest);
        let lent = path.lend().unwrap();
        assert_eq!(lent.len(), room, "a rest of {rest}");
        path.buffer.give_back(lent, 0);
        path.receive(&stream, usize::MAX);
        path.handle(1).unwrap();
        assert_eq!(path.messages, messages);
    }
}

#[test]
fn no_part_of_a_long_message_is_moved_twice_however_many_receives_bring_it() {
    let messages = messages(&[1396; 40]);
    let stream = frames(&messages);
    for piece in [1, 7, 90, 300, 1400] {
        let mut path = Path::new(1500, 1400);
        let (mut rest, mut moves) = (&stream[..], 0);
        while path.messages.len() < messages.len() {
            let first = |path: &Path| path.buffer.bytes(&path.region).as_ptr();
            let (handled, before) = (path.buffer.len(), first(&path));
            let lent = path.lend().expect("there is room for the rest of a frame");
            moves += usize::from(handled > 0 && first(&path) != before);
            path.buffer.give_back(lent, 0);
            rest = &rest[path.receive(rest, piece)..];
            path.handle(usize::MAX).unwrap();
            assert!(moves <= path.messages.len() + 1, "{moves} moves, pieces of {piece}");
        }
        assert_eq!(path.messages, messages);
    }
}

#[test]
fn a_paused_handler_finds_everything_again_and_the_buffer_fills_up_no_further() {
    let messages = messages(&[100; 30]);
    let stream = frames(&messages);
    let mut path = Path::new(1040, MAX);
    let mut rest = &stream[..];
    loop {
        match path.receive(rest, 300) {
            0 => break,
            taken => rest = &rest[taken..],
        }
    }
    assert_eq!(path.buffer.len(), 1040, "ten frames");
    assert_eq!(path.handle(3), Ok(3));
    rest = &rest[path.receive(rest, usize::MAX)..];
    while path.messages.len() < messages.len() {
        path.handle(usize::MAX).unwrap();
        rest = &rest[path.receive(rest, usize::MAX)..];
    }
    assert_eq!(path.messages, messages);
}

#[test]
fn a_buffer_that_was_reset_is_empty_and_whole() {
    let (mut path, ..) = with_rest(700, 300);
    path.buffer.reset();
    assert_eq!(path.buffer.len(), 0);
    path.buffer.move_on(&path.region);
    let lent = path.lend().unwrap();
    assert_eq!(lent.len(), 1500);
    path.buffer.give_back(lent, 0);
    let messages = messages(&[1400]);
    path.messages.clear();
    path.receive(&frames(&messages), usize::MAX);
    path.handle(1).unwrap();
    assert_eq!(path.messages, messages);
}

#[test]
fn a_buffer_moves_on_from_its_lobby_with_what_has_come_and_begins_there_again() {
    let (region, mut cutter) = Region::new(8 + 64).unwrap();
    let mut buffer = Buffer::new(cutter.cut(8), cutter.cut(64));
    for rest in [0, 3] {
        let mut room = buffer.lend(&region, 4).unwrap();
        assert_eq!(room.len(), 8);
        region.bytes_mut(&mut room).copy_from_slice(b"hellorst");
        buffer.give_back(room, 5 + rest);
        buffer.consume(5);
        buffer.move_on(&region);
        assert_eq!(buffer.bytes(&region), &b"rst"[..rest]);
        let room = buffer.lend(&region, 4).unwrap();
        assert_eq!(room.len(), 64 - rest);
        buffer.give_back(room, 60);
        assert_eq!(buffer.len(), rest + 60);
        buffer.reset();
        assert_eq!(buffer.len(), 0);
    }
    // A session may end in its handshake.
    let room = buffer.lend(&region, 4).unwrap();
    buffer.give_back(room, 2);
    buffer.reset();
    assert_eq!(buffer.lend(&region, 4).unwrap().len(), 8);
}
