//! The ring against a naive model: a list of frames with their positions, and how far the kernel has
//! taken them.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::mem::{align_of, offset_of, size_of};

use proptest::prelude::*;

use super::*;
use crate::wire;

/// Small, so that a few messages make a lap; a block has 16 bytes, so most messages are larger.
const CAPACITY: usize = 256;

/// The longest frame that a configuration allows for this capacity: two of them, and a block.
const FRAME_LIMIT: usize = (CAPACITY - CAPACITY / RING_BLOCKS) / 2;

/// The ring itself, driven by one thread.
struct Real {
    ring: Ring,
    reader: Reader,
    generation: u32,
}

/// What the ring should be.
#[derive(Default)]
struct Model {
    /// Committed and not wholly taken: where each frame starts, and its bytes.
    frames: VecDeque<(u64, Vec<u8>)>,
    /// How many bytes of the first one are taken.
    head_taken: usize,
    /// Up to where the reader has come.
    taken_to: u64,
    committed: u64,
}

impl Model {
    fn place(&self, len: usize) -> Option<u64> {
        let capacity = CAPACITY as u64;
        let mut start = self.committed;
        if start % capacity + len as u64 > capacity {
            start = start.next_multiple_of(capacity);
        }
        let block = capacity / RING_BLOCKS as u64;
        let released = self.taken_to / block * block;
        (start + len as u64 <= released + capacity).then_some(start)
    }

    /// What lies in one piece from the first byte that is not taken.
    fn piece(&mut self) -> Option<Vec<u8>> {
        let (start, _) = self.frames.front()?;
        if self.head_taken == 0 {
            self.taken_to = *start;
        }
        let mut bytes = Vec::new();
        let mut next = *start;
        for (start, frame) in &self.frames {
            if *start != next || (*start % CAPACITY as u64 == 0 && !bytes.is_empty()) {
                break;
            }
            bytes.extend_from_slice(frame);
            next += frame.len() as u64;
        }
        bytes.drain(..self.head_taken);
        Some(bytes)
    }

    fn take(&mut self, mut bytes: usize) {
        self.taken_to += bytes as u64;
        while bytes > 0 {
            let rest = self.frames[0].1.len() - self.head_taken;
            if bytes < rest {
                self.head_taken += bytes;
                return;
            }
            bytes -= rest;
            self.head_taken = 0;
            self.frames.pop_front();
        }
    }

    /// The reader goes back to the start, if there is nothing, and a quarter of the lap was used.
    fn rewind(&mut self) -> bool {
        let rewinds = self.frames.is_empty() && self.committed % CAPACITY as u64 >= CAPACITY as u64 / 4;
        if rewinds {
            self.committed = self.committed.next_multiple_of(CAPACITY as u64);
            self.taken_to = self.committed;
        }
        rewinds
    }

    fn left(&self) -> (u64, u64) {
        let bytes: usize = self.frames.iter().map(|(_, frame)| frame.len()).sum();
        (self.frames.len() as u64, (bytes - self.head_taken) as u64)
    }
}

fn ring_of(capacity: usize) -> Ring {
    let (region, mut cutter) = Region::new(capacity).unwrap();
    let ring = Ring::new(region, cutter.cut(capacity));
    ring.open(1);
    ring
}

fn frame_of(len: usize, tag: u8) -> Vec<u8> {
    let mut frame = wire::header(len as u32).to_vec();
    frame.extend((0..len).map(|at| tag.wrapping_add(at as u8)));
    frame
}

impl Real {
    fn new() -> Real {
        Real { ring: ring_of(CAPACITY), reader: Reader::default(), generation: 1 }
    }

    /// Claims room for a frame, writes it, and commits it or lets go; false where there is no room.
    fn claim(&mut self, frame: &[u8], commit: bool) -> bool {
        let Hold::Held(committed) = self.ring.hold() else { panic!("nobody else holds it") };
        let Some(start) = self.ring.place(committed, frame.len() as u64) else {
            self.ring.word().let_go(committed);
            return false;
        };
        let mut span = self.ring.frame(start, frame.len());
        self.ring.bytes_mut(&mut span).copy_from_slice(frame);
        if commit {
            self.ring.note(committed, start);
            self.ring.word().commit(start + frame.len() as u64);
        } else {
            self.ring.word().let_go(committed);
        }
        true
    }

    fn left(&self) -> (u64, u64) {
        let left = self.ring.left(&self.reader);
        (left.messages, left.bytes)
    }

    /// The slot's next session.
    fn reopen(&mut self) {
        self.ring.word().try_close();
        self.generation += 1;
        self.reader = Reader::default();
        self.ring.open(self.generation);
    }
}

/// Both, side by side.
struct Pair {
    real: Real,
    model: Model,
    tag: u8,
}

impl Pair {
    fn new() -> Pair {
        Pair { real: Real::new(), model: Model::default(), tag: 0 }
    }

    /// Claims in both; tells whether there was room.
    fn claim(&mut self, len: usize, commit: bool) -> bool {
        self.tag = self.tag.wrapping_add(37);
        let frame = frame_of(len, self.tag);
        let place = self.model.place(frame.len());
        if self.model.frames.is_empty() && frame.len() <= FRAME_LIMIT {
            assert!(place.is_some(), "a frame within the limit fits an empty ring");
        }
        assert_eq!(self.real.claim(&frame, commit), place.is_some(), "full exactly when it may be");
        if let (Some(start), true) = (place, commit) {
            self.model.committed = start + frame.len() as u64;
            self.model.frames.push_back((start, frame));
        }
        self.check_left();
        place.is_some()
    }

    /// The reader takes what lies in one piece, of which the kernel takes what `share` says.
    fn read(&mut self, share: impl FnOnce(usize) -> usize) {
        let span = self.real.ring.next(&mut self.real.reader);
        let piece = self.model.piece();
        assert_eq!(span.as_ref().map(|span| self.real.ring.bytes(span)), piece.as_deref());
        if let Some(span) = span {
            let bytes = share(span.len());
            self.real.ring.taken(&mut self.real.reader, span, bytes);
            self.model.take(bytes);
        }
        assert_eq!(self.real.reader.acked, self.model.taken_to);
        assert_eq!(self.real.ring.is_drained(&self.real.reader), self.model.frames.is_empty());
        self.check_left();
    }

    /// What the pump does when the kernel has taken something.
    fn rewind(&mut self) -> bool {
        let Real { ring, reader, .. } = &mut self.real;
        let before = reader.acked;
        ring.rewind_if_empty(reader);
        let rewinds = self.model.rewind();
        assert_eq!(reader.acked != before, rewinds);
        assert_eq!(reader.acked, self.model.taken_to);
        assert_eq!(ring.word().position(), self.model.committed);
        self.check_left();
        rewinds
    }

    fn check_left(&self) {
        assert_eq!(self.real.left(), self.model.left(), "acked {}", self.real.reader.acked);
    }

    fn reopen(&mut self) {
        self.real.ring.word().try_close();
        self.check_left();
        self.real.reopen();
        self.model = Model::default();
        self.check_left();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    Drop(usize),
    /// Reads, and takes so many 256ths of the piece, rounded up.
    Read(u8),
    /// Reads everything.
    Drain,
    Rewind,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        4 => 0..40usize,
        2 => 0..=FRAME_LIMIT - HEADER,
        1 => Just(0),
        1 => Just(FRAME_LIMIT - HEADER),
        1 => 0..CAPACITY,
    ];
    prop_oneof![
        10 => len.clone().prop_map(Step::Send),
        1 => len.prop_map(Step::Drop),
        6 => any::<u8>().prop_map(Step::Read),
        3 => Just(Step::Read(255)),
        1 => Just(Step::Drain),
        3 => Just(Step::Rewind),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_comes_out_once_in_order_and_what_is_left_is_counted(
        steps in prop::collection::vec(step(), 1..200)
    ) {
        let mut pair = Pair::new();
        for step in steps {
            match step {
                Step::Send(len) => { pair.claim(len, true); }
                Step::Drop(len) => { pair.claim(len, false); }
                Step::Read(share) => pair.read(|len| (len * usize::from(share)).div_ceil(255)),
                Step::Drain => while !pair.model.frames.is_empty() {
                    pair.read(|len| len);
                },
                Step::Rewind => { pair.rewind(); }
                Step::Reopen => pair.reopen(),
            }
        }
        pair.real.ring.word().try_close();
        pair.check_left();
    }
}

#[test]
fn an_empty_ring_goes_back_to_its_start_once_enough_of_the_lap_was_used() {
    let mut pair = Pair::new();
    pair.claim(CAPACITY / 4 - HEADER - 1, true);
    assert!(!pair.rewind(), "it is not empty");
    pair.read(|len| len);
    assert!(!pair.rewind(), "a byte too few");
    pair.claim(0, true);
    pair.read(|len| len);
    assert!(pair.rewind());
    assert_eq!(pair.real.ring.place(CAPACITY as u64, 40), Some(CAPACITY as u64), "all of it is free");
    pair.claim(40, true);
    pair.read(|_| 7);
    assert!(!pair.rewind(), "something is left");
    assert_eq!(pair.real.left(), (1, 37));
    // Neither while a sender has it, nor when it is closed.
    pair.read(|len| len);
    pair.claim(CAPACITY / 4, true);
    pair.read(|len| len);
    let Real { ring, reader, .. } = &mut pair.real;
    let Hold::Held(committed) = ring.hold() else { panic!("nobody else holds it") };
    ring.rewind_if_empty(reader);
    assert_eq!(reader.acked, committed);
    ring.word().let_go(committed);
    assert!(ring.word().try_close());
    ring.rewind_if_empty(reader);
    assert_eq!((reader.acked, ring.word().position()), (committed, committed));
}

#[test]
fn what_was_committed_since_the_reader_looked_is_not_skipped() {
    let mut pair = Pair::new();
    pair.claim(CAPACITY / 3, true);
    let Real { ring, reader, .. } = &mut pair.real;
    let span = ring.next(reader).unwrap();
    let frame = frame_of(3, 9);
    let len = span.len();
    ring.taken(reader, span, len);
    let Hold::Held(committed) = ring.hold() else { panic!("nobody else holds it") };
    let start = ring.place(committed, frame.len() as u64).unwrap();
    ring.write(start, &frame[HEADER..]);
    ring.note(committed, start);
    ring.word().commit(start + frame.len() as u64);
    ring.rewind_if_empty(reader);
    let span = ring.next(reader).expect("it was committed");
    assert_eq!(ring.bytes(&span), frame);
}

#[test]
fn what_is_left_is_right_at_every_byte_of_every_mixture() {
    // Empty ones, some that end at a block, before it and behind it, some over several blocks, and the
    // longest.
    let sizes = [0, 1, 11, 12, 13, 28, 45, 60, FRAME_LIMIT - HEADER];
    for first in sizes {
        for second in sizes {
            for stride in [1, 7] {
                let mut pair = Pair::new();
                let mut sizes = [first, second, second].into_iter().cycle();
                while pair.model.committed < 3 * CAPACITY as u64 {
                    while pair.claim(sizes.next().unwrap(), true) {}
                    pair.read(|len| len.min(stride));
                }
                pair.reopen();
                // The last session's notes are still in memory, and must not be taken for this one's.
                pair.claim(FRAME_LIMIT - HEADER, true);
                while !pair.model.frames.is_empty() {
                    pair.read(|len| len.min(stride));
                }
            }
        }
    }
}

#[test]
fn regression_a_mark_of_the_slots_last_session_is_not_counted_from() {
    let mut pair = Pair::new();
    for _ in 0..8 {
        pair.claim(13, true);
    }
    pair.reopen();
    pair.claim(100, true);
    pair.claim(0, true);
    // In the middle of the first frame, in a block where the last session had a frame's start.
    pair.read(|_| 40);
    assert_eq!(pair.real.left(), (2, 68));
}

#[test]
fn regression_a_frame_taken_up_to_the_skip_is_not_counted_as_left() {
    let mut pair = Pair::new();
    pair.claim(96, true);
    pair.read(|len| len);
    // This one ends at 200, in a block where no frame starts, and the next does not fit behind it.
    pair.claim(96, true);
    pair.claim(60, true);
    pair.read(|len| len);
    assert_eq!(pair.real.left(), (1, 64));
}

#[test]
fn a_frame_of_half_the_ring_less_a_block_fits_wherever_an_empty_ring_stands() {
    let fits_everywhere = |frame: usize| {
        (0..CAPACITY as u64).all(|at| {
            let ring = ring_of(CAPACITY);
            let mut reader = Reader::default();
            // Puts the empty ring at `at`, after a lap.
            for _ in 0..CAPACITY as u64 + at {
                let Hold::Held(committed) = ring.hold() else { panic!() };
                ring.word().commit(committed + 1);
                let span = ring.next(&mut reader).unwrap();
                ring.taken(&mut reader, span, 1);
            }
            ring.place(CAPACITY as u64 + at, frame as u64).is_some()
        })
    };
    assert!(fits_everywhere(FRAME_LIMIT));
    assert!(!fits_everywhere(FRAME_LIMIT + CAPACITY / RING_BLOCKS));
}

#[test]
fn there_is_room_for_the_last_free_byte_and_for_none_more() {
    let ring = ring_of(CAPACITY);
    assert_eq!(ring.place(0, CAPACITY as u64), Some(0));
    assert_eq!(ring.place(0, CAPACITY as u64 + 1), None);
    let behind = CAPACITY as u64 - 100;
    assert_eq!(ring.place(100, behind), Some(100));
    assert_eq!(ring.place(100, behind + 1), None);
}

#[test]
fn room_comes_back_when_a_block_is_taken_whole_and_not_before() {
    let block = CAPACITY / RING_BLOCKS;
    let mut pair = Pair::new();
    assert!(pair.claim(100, true));
    while pair.claim(block - HEADER, true) {}
    pair.read(|_| block - 1);
    assert!(!pair.claim(block - HEADER, true));
    pair.read(|_| 1);
    assert!(pair.claim(block - HEADER, false));
}

#[test]
#[should_panic(expected = "more than it was given")]
fn a_kernel_that_says_it_took_more_than_it_was_given_is_not_believed() {
    let mut real = Real::new();
    real.claim(&frame_of(4, 0), true);
    let span = real.ring.next(&mut real.reader).unwrap();
    real.ring.taken(&mut real.reader, span, 9);
}

#[test]
fn a_ring_is_for_one_generation() {
    let mut real = Real::new();
    assert!(real.ring.is_for(1) && !real.ring.is_for(2));
    real.reopen();
    assert!(real.ring.is_for(2) && !real.ring.is_for(1));
}

#[test]
fn messages_of_several_threads_come_out_whole_and_in_each_threads_order() {
    const THREADS: u32 = 4;
    const MESSAGES: u32 = 3_000;
    let ring = ring_of(1024);
    let send = |thread: u32| {
        for number in 0..MESSAGES {
            let len = (number * 7 % 60) as usize;
            let frame = {
                let mut frame = wire::header(8 + len as u32).to_vec();
                frame.extend(thread.to_le_bytes());
                frame.extend(number.to_le_bytes());
                frame.resize(HEADER + 8 + len, thread as u8 ^ number as u8);
                frame
            };
            loop {
                let Hold::Held(committed) = ring.hold() else {
                    std::thread::yield_now();
                    continue;
                };
                let Some(start) = ring.place(committed, frame.len() as u64) else {
                    ring.word().let_go(committed);
                    std::thread::yield_now();
                    continue;
                };
                let mut span = ring.frame(start, frame.len());
                ring.bytes_mut(&mut span).copy_from_slice(&frame);
                ring.note(committed, start);
                ring.word().commit(start + frame.len() as u64);
                break;
            }
        }
    };
    let mut wire_bytes = Vec::new();
    let mut reader = Reader::default();
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || send(thread))).collect();
        loop {
            let over = senders.iter().all(|sender| sender.is_finished());
            match ring.next(&mut reader) {
                Some(span) => {
                    // Sometimes the kernel takes less than it is given.
                    let bytes = if span.len() % 3 == 0 { span.len() } else { span.len().div_ceil(2) };
                    wire_bytes.extend_from_slice(&ring.bytes(&span)[..bytes]);
                    ring.taken(&mut reader, span, bytes);
                }
                None if over => break,
                None => std::thread::yield_now(),
            }
        }
    });
    assert_eq!(ring.messages(), u64::from(THREADS * MESSAGES));
    let mut next = [0; THREADS as usize];
    let mut bytes = &wire_bytes[..];
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let (message, rest) = rest.split_at(u32::from_le_bytes(*header) as usize);
        bytes = rest;
        let thread = u32::from_le_bytes(message[..4].try_into().unwrap());
        let number = u32::from_le_bytes(message[4..8].try_into().unwrap());
        assert_eq!(number, next[thread as usize], "in the order of thread {thread}");
        next[thread as usize] += 1;
        assert_eq!(message.len(), 8 + (number * 7 % 60) as usize);
        assert!(message[8..].iter().all(|&byte| byte == thread as u8 ^ number as u8), "whole");
    }
    assert!(bytes.is_empty());
    assert_eq!(next, [MESSAGES; THREADS as usize]);
}

#[test]
fn what_each_side_writes_is_on_lines_of_its_own() {
    const LINE: usize = 128;
    let line = |offset: usize| offset / LINE;
    assert_eq!(align_of::<Ring>(), LINE);
    let senders = offset_of!(Ring, senders)..offset_of!(Ring, senders) + size_of::<Padded<Senders>>();
    let reader = offset_of!(Ring, released)..offset_of!(Ring, released) + size_of::<Padded<Cursor>>();
    // What nobody writes after the start.
    for fixed in [
        offset_of!(Ring, region),
        offset_of!(Ring, memory),
        offset_of!(Ring, capacity),
        offset_of!(Ring, block_bits),
    ] {
        assert!(!senders.contains(&fixed) && !reader.contains(&fixed));
    }
    assert!(line(senders.end - 1) < line(reader.start) || line(reader.end - 1) < line(senders.start));
    // What a sender touches for each message, on most processors' lines of 64; the others, and the marks, are for the first
    // in a block.
    let hot = [
        offset_of!(Senders, word),
        offset_of!(Senders, word) + size_of::<CommitWord>() - 1,
        offset_of!(Senders, clear_until),
        offset_of!(Senders, messages),
        offset_of!(Senders, generation),
    ];
    assert_eq!(hot.map(|offset| offset / 64), [0; 5], "one line for each message");
}

#[cfg(target_pointer_width = "64")]
#[test]
fn the_rings_parts_have_the_sizes_that_were_meant() {
    // Seven words for each message, three for whose own it is, and a mark for each of the sixteen blocks.
    assert_eq!(size_of::<Senders>(), (7 + 3 + RING_BLOCKS) * 8);
    // Two cursors and the lower halves of two: the pump copies it when a session begins.
    assert_eq!(size_of::<Reader>(), 24);
    // Two lines for senders, one for the reader's word, one that nobody writes.
    assert_eq!(size_of::<Ring>(), 4 * 128);
}
