//! The send path of one session under arbitrary operations, against a `VecDeque`: every byte that was accepted
//! comes out once and in order, what is refused is refused for a reason, and what is left is counted.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::{Input, frame};
use crate::config::RING_BLOCKS;
use crate::driver::told::Told;
use crate::driver::{Driver as _, SlotId, Waker};
use crate::error::SendError;
use crate::region::Region;
use crate::send::claim::Claim;
use crate::send::ring::Ring;
use crate::send::{Doorbell, SendPath, Sole};
use crate::wire::HEADER;

/// Small, so that a few messages make a lap.
const CAPACITY: usize = 256;

/// The longest message that a configuration allows for this capacity: two frames and a block.
const MESSAGE_MAX: usize = (CAPACITY - CAPACITY / RING_BLOCKS) / 2 - HEADER;

/// What the path should be.
#[derive(Default)]
struct Model {
    /// Accepted, and not wholly taken: where each frame starts in the ring's positions, and its bytes.
    frames: VecDeque<(u64, Vec<u8>)>,
    /// How many bytes of the first frame are taken.
    taken: usize,
    /// Where the last frame ends, and up to where the kernel has come.
    committed: u64,
    reached: u64,
    closed: bool,
    failed: bool,
}

impl Model {
    /// Where a frame would start, if there is room for it.
    fn place(&self, len: usize) -> Option<u64> {
        let (capacity, block) = (CAPACITY as u64, (CAPACITY / RING_BLOCKS) as u64);
        let behind = capacity - self.committed % capacity;
        let start = self.committed + if len as u64 > behind { behind } else { 0 };
        (start + len as u64 <= self.reached / block * block + capacity).then_some(start)
    }

    fn accept(&mut self, start: u64, frame: Vec<u8>) {
        self.committed = start + frame.len() as u64;
        self.frames.push_back((start, frame));
    }

    /// The kernel takes `len` of these bytes, which must be the oldest.
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let (start, frame) = self.frames.front().expect("no more comes out than went in");
            assert_eq!(byte, frame[self.taken], "at {start} + {}", self.taken);
            self.taken += 1;
            self.reached = start + self.taken as u64;
            if self.taken == frame.len() {
                self.frames.pop_front();
                self.taken = 0;
            }
        }
    }

    /// When the kernel has taken all, and a quarter of the lap was used, the next frame goes to the start; not while
    /// somebody has a claim.
    fn rewind(&mut self, claimed: bool) {
        let used = self.committed % CAPACITY as u64;
        if self.frames.is_empty() && !claimed && !self.closed && used >= CAPACITY as u64 / 4 {
            self.committed = self.committed.next_multiple_of(CAPACITY as u64);
            self.reached = self.committed;
        }
    }

    /// A request begins with the oldest byte that is not taken, past what the last lap left empty.
    fn begin(&mut self) {
        if let (Some((start, _)), 0) = (self.frames.front(), self.taken) {
            self.reached = *start;
        }
    }

    fn left(&self) -> (u64, u64) {
        let bytes: usize = self.frames.iter().map(|(_, frame)| frame.len()).sum();
        (self.frames.len() as u64, (bytes - self.taken) as u64)
    }
}

fn path(bell: &Arc<Doorbell>) -> (SendPath, Told) {
    let (region, mut cutter) = Region::new(CAPACITY).expect("a small region");
    let ring = Ring::new(region.clone(), cutter.cut(CAPACITY));
    let path = SendPath::new(ring, cutter.cut(0), bell.clone(), 0, MESSAGE_MAX);
    path.open(1);
    (path, Told::new(region, 1).expect("it needs nothing"))
}

/// Reads operations from `data` and does them to both.
pub fn ring(data: &[u8]) {
    let mut input = Input(data);
    let bell = Arc::new(Doorbell::new(1));
    bell.connect(Waker::new(|| {}));
    let (path, mut driver) = path(&bell);
    let (mut model, mut accepted) = (Model::default(), 0);
    let mut claim: Option<(Claim<'_>, u64)> = None;
    let mut id = SlotId { index: 0, generation: 1 };
    let (mut tag, mut sole) = (0u8, Sole::new());
    while !input.is_empty() {
        tag = tag.wrapping_add(37);
        match input.byte() % 11 {
            operation @ 0..=3 => {
                let len = usize::from(input.byte());
                let message: Vec<u8> = (0..len).map(|at| tag.wrapping_add(at as u8)).collect();
                let frame = frame(&message);
                let place = model.place(frame.len());
                let expected = match place {
                    _ if len > MESSAGE_MAX => Err(SendError::TooLarge { len, max: MESSAGE_MAX }),
                    _ if model.closed => Err(SendError::Closed),
                    _ if claim.is_some() => Err(SendError::Full),
                    Some(start) => Ok(start),
                    None => Err(SendError::Full),
                };
                if model.frames.is_empty() && claim.is_none() && !model.closed && len <= MESSAGE_MAX {
                    assert!(expected.is_ok(), "whatever is allowed fits an empty ring");
                }
                // A claim that is open is nobody else's reason to wait for long, but waiting costs time.
                let outcome = match operation {
                    _ if expected == Err(SendError::Full) && claim.is_some() => continue,
                    0 | 1 => path.try_send(id.generation, &message).map(|()| true),
                    2 => {
                        // Where one can, no ring becomes anybody's own.
                        path.disown();
                        path.try_send_sole(&mut sole, &message).map(|()| true)
                    }
                    _ => path.try_claim(id.generation, len).map(|mut open| {
                        open.copy_from_slice(&message);
                        let start = expected.expect("there is room for a claim");
                        claim = Some((open, start));
                        false
                    }),
                };
                assert_eq!(outcome.map(drop), expected.map(drop));
                if let (Ok(true), Ok(start)) = (outcome, expected) {
                    model.accept(start, frame);
                    accepted += 1;
                }
            }
            4 => {
                let Some((open, start)) = claim.take() else { continue };
                let frame = frame(&open);
                let outcome = open.commit();
                assert_eq!(outcome, if model.closed { Err(SendError::Closed) } else { Ok(()) });
                if outcome.is_ok() {
                    model.accept(start, frame);
                    accepted += 1;
                }
            }
            5 => drop(claim.take()),
            6 => {
                let batched = input.byte() & 1 == 1;
                // As an engine does before it looks.
                if bell.take(0) != 0 {
                    sole.forget();
                }
                if model.failed {
                    assert!(path.pump(id, &mut driver, false).is_err());
                    continue;
                }
                path.pump(id, &mut driver, batched).expect("the connection lives");
                assert_eq!(driver.sends[0].is_some(), !model.frames.is_empty(), "what there is is sent");
                model.begin();
            }
            7 | 8 => {
                // The kernel takes a part of what it has, or all.
                let Some((_, span)) = driver.sends[0].take() else { continue };
                let share = usize::from(input.byte());
                let bytes = (span.len() * share).div_ceil(255);
                let fails = share == 0;
                model.take(&path.ring.bytes(&span)[..bytes]);
                let outcome = if fails { Err(io::Error::from(ErrorKind::BrokenPipe)) } else { Ok(bytes) };
                assert_eq!(path.sent(span, outcome).is_err(), fails);
                model.rewind(claim.is_some());
                model.failed |= fails;
            }
            // Who is not told of each message looks once more when he is again.
            9 => {
                path.watch(input.byte() & 1 == 1);
                bell.ring(0);
            }
            _ => {
                if !model.closed {
                    path.close();
                    model.closed = true;
                } else if claim.is_none() && driver.sends[0].is_none() {
                    // The slot's next session; a handle on this one hears that it is over.
                    assert!(!path.is_taken());
                    let old = id.generation;
                    id.generation += 1;
                    path.open(id.generation);
                    sole.forget();
                    model = Model::default();
                    assert_eq!(path.try_send(old, b"late"), Err(SendError::Closed));
                }
            }
        }
        assert!(model.closed || model.failed || !path.is_forgotten(), "what is not taken is marked");
        let left = path.left();
        assert_eq!((left.messages, left.bytes), model.left());
        assert_eq!(path.is_taken(), claim.is_some());
        assert_eq!(path.counters().messages_accepted, accepted);
    }
}
