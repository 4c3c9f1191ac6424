//! Beside the receive path, with TLS: what has come and is not yet opened stands behind what is, and opening a record
//! moves what it carries down to the rest of it. So the framer sees one row of bytes, whatever the records were.
//!
//! ```text
//! | handled | opened, to be framed | free | not yet opened | room |
//! ```
#![forbid(unsafe_code)]

use super::buffer::{Buffer, SHORT};
use crate::region::{Region, Span};

/// Behind the `received` bytes of a buffer, which are opened: what was freed by that, and what is not yet opened.
#[derive(Debug)]
pub(super) struct Unopened {
    free: Span,
    sealed: Span,
}

/// What a record was found to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    /// How many bytes it took.
    pub(crate) len: usize,
    /// How many bytes for the framer stand at the area's start.
    pub(crate) plain: usize,
}

impl Buffer {
    /// What comes from here on is sealed. The session has just begun, and needs more than its lobby.
    pub(crate) fn begin_sealed(&mut self, region: &Region) {
        self.move_on(region);
        let free = self.received.split_off(self.received.len());
        let sealed = self.received.split_off(self.received.len());
        self.unopened = Some(Box::new(Unopened { free, sealed }));
    }

    /// What is not yet opened.
    pub(crate) fn sealed<'a>(&'a mut self, region: &'a Region) -> &'a mut [u8] {
        match &mut self.unopened {
            Some(unopened) => region.bytes_mut(&mut unopened.sealed),
            None => &mut [],
        }
    }

    /// The first bytes of what is not yet opened are done with.
    pub(crate) fn discard(&mut self, bytes: usize) {
        let Some(unopened) = &mut self.unopened else { return };
        let rest = unopened.sealed.split_off(bytes);
        let done = std::mem::replace(&mut unopened.sealed, rest);
        unopened.free.join(done);
    }

    /// Lets `open` open the next record: it is given the free bytes and what is not yet opened in one piece, and where
    /// the record begins. Tells what it has made of it.
    pub(crate) fn open<E>(
        &mut self,
        region: &Region,
        open: impl FnOnce(&mut [u8], usize) -> Result<Option<Record>, E>,
    ) -> Result<bool, E> {
        let Some(Unopened { free, sealed }) = self.unopened.as_deref_mut() else { return Ok(false) };
        let at = free.len();
        let mut area = free.split_off(0);
        area.join(sealed.split_off(0));
        let outcome = open(region.bytes_mut(&mut area), at);
        let (end, plain) = match &outcome {
            Ok(Some(record)) => (at + record.len, record.plain),
            _ => (at, 0),
        };
        *sealed = area.split_off(end);
        *free = area.split_off(plain);
        self.received.join(area);
        outcome.map(|record| record.is_some())
    }

    /// See [`Buffer::lend`]; `record` is how long the next record is, as far as it tells.
    pub(crate) fn lend_sealed(&mut self, region: &Region, record: usize) -> Option<Span> {
        let mut room = self.room.take()?;
        let consumed = self.consumed();
        let Some(Unopened { free, sealed }) = self.unopened.as_deref_mut() else { return Some(room) };
        let (rest, waiting) = (self.received.len() - consumed, sealed.len());
        let moves = consumed > 0 || !free.is_empty();
        if moves && (rest + waiting <= SHORT || room.is_empty() || record > waiting + room.len()) {
            let behind = self.received.len() + free.len();
            self.received.join(free.split_off(0));
            self.received.join(sealed.split_off(0));
            self.received.join(room);
            let bytes = region.bytes_mut(&mut self.received);
            bytes.copy_within(consumed..consumed + rest, 0);
            bytes.copy_within(behind..behind + waiting, rest);
            let mut unopened = self.received.split_off(rest);
            room = unopened.split_off(waiting);
            *sealed = unopened.split_off(0);
            *free = unopened;
            self.consumed = 0;
        }
        if room.is_empty() {
            self.room = Some(room);
            return None;
        }
        Some(room)
    }

    /// The driver gives the room back: what it has received is sealed.
    pub(super) fn give_back_sealed(&mut self, room: Span) {
        match &mut self.unopened {
            Some(unopened) => unopened.sealed.join(room),
            None => self.received.join(room),
        }
    }

    /// The session is over: all of it is one piece again. The driver has nothing.
    pub(super) fn end_sealed(&mut self) {
        if let Some(unopened) = self.unopened.take() {
            let Unopened { free, sealed } = *unopened;
            self.received.join(free);
            self.received.join(sealed);
        }
    }
}
