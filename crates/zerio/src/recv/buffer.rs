//! Receive path, 1 of 2: driver → **buffer** → framer → handler. A session's received bytes, and who owns the
//! room behind them.
//!
//! ```text
//! consumed ≤ received ≤ capacity
//! ```
//!
//! The first `received` bytes are the buffer's; the room behind them is the driver's while a receive
//! is in flight. What is left of a frame moves to the front when its rest would not fit behind it, or
//! when it is so short that moving costs nothing: the kernel then fills the same few cache lines
//! again.
#![forbid(unsafe_code)]

#[cfg(feature = "tls")]
use super::sealed::Unopened;
use crate::region::{Region, Span};

/// A rest of at most so many bytes is moved to the front in any case.
pub(super) const SHORT: usize = 256;

/// On one line of a cache.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Buffer {
    /// What has been received: the span's bytes from `consumed` on are not yet handled.
    pub(super) received: Span,
    pub(super) consumed: u32,
    /// Where the session speaks TLS: what stands between those and the room.
    #[cfg(feature = "tls")]
    pub(super) unopened: Option<Box<Unopened>>,
    /// What is behind it; `None` while the driver has it.
    pub(super) room: Option<Span>,
    /// The memory that it is not in: it begins in its lobby, where the handshake is received, and moves on.
    other: Span,
    in_lobby: bool,
}

impl Buffer {
    pub(crate) fn new(mut lobby: Span, memory: Span) -> Buffer {
        let room = lobby.split_off(0);
        Buffer {
            received: lobby,
            consumed: 0,
            #[cfg(feature = "tls")]
            unopened: None,
            room: Some(room),
            other: memory,
            in_lobby: true,
        }
    }

    /// So many of the received bytes are handled; a span is no longer than what 32 bits count.
    #[inline]
    pub(super) fn consumed(&self) -> usize {
        self.consumed as usize
    }

    /// The handshake is done, and no receive in flight: moves on, with what has come after it.
    pub(crate) fn move_on(&mut self, region: &Region) {
        if !self.in_lobby {
            return;
        }
        debug_assert!(self.room.is_some(), "the driver has the room");
        let rest = &region.bytes(&self.received)[self.consumed()..];
        region.bytes_mut(&mut self.other)[..rest.len()].copy_from_slice(rest);
        self.change_places(rest.len());
    }

    /// Begins in the other memory, whose first `received` bytes are received. The driver has nothing.
    fn change_places(&mut self, received: usize) {
        let Some(room) = self.room.take() else { return };
        let new_room = self.other.split_off(received);
        std::mem::swap(&mut self.received, &mut self.other);
        self.other.join(room);
        self.room = Some(new_room);
        (self.consumed, self.in_lobby) = (0, !self.in_lobby);
    }

    /// The bytes that are not yet handled.
    #[inline]
    pub(crate) fn bytes<'a>(&'a self, region: &'a Region) -> &'a [u8] {
        &region.bytes(&self.received)[self.consumed()..]
    }

    /// How many bytes are not yet handled.
    pub(crate) fn len(&self) -> usize {
        self.received.len() - self.consumed()
    }

    /// The first `bytes` of them have been handled.
    #[inline]
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.consumed += bytes as u32;
        debug_assert!(self.consumed() <= self.received.len());
    }

    /// The room for the next receive, which is to complete a frame of `frame` bytes; `None` where there
    /// is none, because a receive is in flight or everything is full of bytes not yet handled.
    pub(crate) fn lend(&mut self, region: &Region, frame: usize) -> Option<Span> {
        let mut room = self.room.take()?;
        let rest = self.len();
        if self.consumed > 0 && (rest <= SHORT || frame > rest + room.len()) {
            let consumed = self.consumed();
            region.bytes_mut(&mut self.received).copy_within(consumed.., 0);
            let mut freed = self.received.split_off(rest);
            freed.join(room);
            room = freed;
            self.consumed = 0;
        }
        if room.is_empty() {
            self.room = Some(room);
            return None;
        }
        Some(room)
    }

    /// The driver gives the room back, with so many bytes received at its start.
    pub(crate) fn give_back(&mut self, mut room: Span, bytes: usize) {
        let rest = room.split_off(bytes);
        #[cfg(feature = "tls")]
        self.give_back_sealed(room);
        #[cfg(not(feature = "tls"))]
        self.received.join(room);
        self.room = Some(rest);
    }

    /// Whether the driver has the room.
    #[cfg(feature = "sim")]
    pub(crate) fn is_lent(&self) -> bool {
        self.room.is_none()
    }

    /// How many bytes it has in all; `None` while the driver has some.
    #[cfg(feature = "sim")]
    pub(crate) fn capacity(&self) -> Option<usize> {
        self.room.as_ref().map(|room| self.received.len() + room.len() + self.other.len())
    }

    /// Forgets what was received, and begins again in its lobby; the driver has nothing of it.
    pub(crate) fn reset(&mut self) {
        #[cfg(feature = "tls")]
        self.end_sealed();
        if let Some(room) = self.room.take() {
            let mut all = self.received.split_off(0);
            all.join(room);
            self.room = Some(all);
        }
        self.consumed = 0;
        if !self.in_lobby {
            self.change_places(0);
        }
    }
}
