//! What somebody who reads an engine's counters wants to know of a ring: how full it has been, and how long messages
//! waited between commit and kernel. It takes nothing of a message's time: it happens where a sender comes to another
//! block of the ring, and where its reader does.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::config::RING_BLOCKS;
use crate::counters::histogram::Recorder;
use crate::cursor::{Cursor, Tally};
use crate::time::{Clock, Time};

pub(crate) struct Observed {
    clock: Clock,
    times: Recorder,
    /// When the first frame of each block was about to be committed. Published with the frame.
    stamps: [Cursor; RING_BLOCKS],
    /// The most bytes that were in use when a block was over, or when somebody looked. Written by the ring's reader.
    high_water: Tally,
}

impl Observed {
    pub(crate) fn new(clock: Clock, times: Recorder) -> Observed {
        Observed { clock, times, stamps: Default::default(), high_water: Tally::default() }
    }

    /// For a new session.
    pub(super) fn reset(&self) {
        self.high_water.reset();
    }

    /// For whoever has the ring: the first frame of a block is about to be committed.
    pub(super) fn stamp(&self, block: u64) {
        self.stamps[block as usize % RING_BLOCKS].set(self.clock.now().nanos());
    }

    /// For the ring's reader: the kernel takes `taken`, while the ring is committed up to `committed`, and `marks` has the
    /// first frame of each block. Gives the position at which there is something to be seen again.
    pub(super) fn taken(
        &self,
        taken: Range<u64>,
        committed: u64,
        block_bits: u32,
        marks: &[Cursor; RING_BLOCKS],
    ) -> u64 {
        self.look(committed - taken.start);
        let (first, last) = (taken.start >> block_bits, taken.end >> block_bits);
        // A mark that is older stands for an earlier block of the same place, or session.
        let mark_of = |block: u64| {
            Some(marks[block as usize % RING_BLOCKS].own()).filter(|mark| mark >> block_bits == block)
        };
        let mut now = None;
        for block in first..=last {
            if mark_of(block).is_some_and(|mark| taken.contains(&mark)) {
                let now = *now.get_or_insert_with(|| self.clock.now());
                let stamp = Time::from_nanos(self.stamps[block as usize % RING_BLOCKS].own());
                self.times.record_shared(now.since(stamp).as_nanos() as u64);
            }
        }
        match mark_of(last) {
            Some(mark) if mark < taken.end => u64::MAX,
            Some(mark) => mark + 1,
            // None has begun in the last block yet.
            None => taken.end + 1,
        }
    }

    /// For the ring's reader: so many bytes are in use.
    pub(super) fn look(&self, in_use: u64) {
        self.high_water.raise(in_use);
    }

    pub(super) fn high_water(&self) -> u64 {
        self.high_water.get()
    }
}

/// How full a ring is, for those who read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fill {
    /// How far the kernel has taken it, and how far it is committed.
    pub(crate) acked: u64,
    pub(crate) committed: u64,
    /// The most that was in use.
    pub(crate) high_water: u64,
}
