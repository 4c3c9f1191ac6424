//! Beside the send path: how the one thread that can send on an engine's sessions does so, without holding their rings.
#![forbid(unsafe_code)]

use super::SendPath;
use super::claim::Claim;
use crate::error::SendError;
use crate::wire::HEADER;

/// The proof that one thread alone sends on an engine's sessions: it need not hold their rings. There is
/// one for each polled engine, until the first handle that other threads could use is given away.
///
/// It remembers how far the ring that was last sent on is **clear**: a frame that ends there or before needs no mark in
/// the ring, no look for room and no word to the engine, which all have been seen to.
#[derive(Debug)]
pub(crate) struct Sole {
    index: u32,
    clear_until: u64,
}

impl Sole {
    /// For an engine whose sessions can't be reached from any other thread yet.
    pub(crate) fn new() -> Sole {
        Sole { index: 0, clear_until: 0 }
    }

    /// The engine takes what it was told, or a slot gets a new session: nothing is clear any more.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.clear_until = 0;
    }
}

impl SendPath {
    /// Accepts a message without holding the ring, or tells at once why not, for the one thread that can send on it: the
    /// engine's, which knows that the session is the slot's present one.
    #[inline(always)]
    pub(crate) fn try_send_sole(&self, sole: &mut Sole, message: &[u8]) -> Result<(), SendError> {
        // Where it is closed this is further away than anything that is clear.
        let committed = self.ring.word().sole();
        let end = committed.saturating_add((HEADER + message.len()) as u64);
        if end <= sole.clear_until && sole.index == self.index && message.len() <= self.message_max {
            self.put_sole(committed, end, message);
            return Ok(());
        }
        self.send_sole(sole, message)
    }

    /// Writes and commits a frame that is clear.
    #[inline(always)]
    fn put_sole(&self, committed: u64, end: u64, message: &[u8]) {
        self.ring.write(committed, message);
        self.ring.count();
        self.ring.word().commit_sole(end);
    }

    #[inline(never)]
    fn send_sole(&self, sole: &mut Sole, message: &[u8]) -> Result<(), SendError> {
        let (committed, len) = (self.ring.word().sole(), HEADER + message.len());
        if message.len() <= self.message_max && self.ring.is_clear(committed, len as u64) {
            self.put_sole(committed, committed + len as u64, message);
            self.bell.mark(self.index);
        } else {
            let (committed, start) = self.sole_place(message.len())?;
            self.ring.write(start, message);
            self.commit_sole(committed, start, len);
        }
        (sole.index, sole.clear_until) = (self.index, self.ring.clear_until());
        Ok(())
    }

    /// A place for a message of `len` bytes, or at once the reason why there is none.
    pub(crate) fn try_claim_sole<'a>(&'a self, _: &'a mut Sole, len: usize) -> Result<Claim<'a>, SendError> {
        let (committed, start) = self.sole_place(len)?;
        Ok(Claim::new(self, committed, start, len, true))
    }

    /// Where a message of `len` bytes may stand, and where the committed bytes end, if nobody else can hold the ring.
    #[inline(always)]
    fn sole_place(&self, len: usize) -> Result<(u64, u64), SendError> {
        self.check_len(len)?;
        let committed = self.ring.word().sole_position().ok_or(SendError::Closed)?;
        match self.ring.place(committed, (HEADER + len) as u64) {
            Some(start) => Ok((committed, start)),
            None => {
                if self.note_full(len) {
                    self.bell.ring(self.index);
                }
                Err(self.count_full())
            }
        }
    }

    /// Commits the frame of `len` bytes that stands at `start`, on the engine's own thread.
    #[inline(always)]
    pub(super) fn commit_sole(&self, committed: u64, start: u64, len: usize) {
        if self.ring.begins_block(start) {
            return self.commit_sole_in_new_block(committed, start, len);
        }
        self.commit_sole_noted(committed, start, len);
    }

    /// The same, apart: what calls a function in its middle has registers to save.
    #[cold]
    #[inline(never)]
    fn commit_sole_in_new_block(&self, committed: u64, start: u64, len: usize) {
        self.ring.mark(start);
        self.commit_sole_noted(committed, start, len);
    }

    #[inline(always)]
    fn commit_sole_noted(&self, committed: u64, start: u64, len: usize) {
        self.ring.note_in_block(committed, start);
        self.ring.word().commit_sole(start + len as u64);
        // The engine is awake: it is here.
        self.bell.mark(self.index);
    }
}
