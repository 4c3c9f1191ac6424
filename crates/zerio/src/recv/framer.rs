//! Receive path, 2 of 2: driver → buffer → **framer** → handler. Finds whole frames; it holds a cursor and no
//! bytes.
#![forbid(unsafe_code)]

use crate::error::FrameError;
use crate::wire::{self, HEADER};

/// Where in some bytes the next frame starts.
#[derive(Debug)]
pub(crate) struct Framer<'a> {
    /// From there on. A slice that grows shorter, in place of an index: so each bound is checked once.
    rest: &'a [u8],
    /// The longest message, in bytes.
    max: u32,
    /// How many bytes there were.
    all: usize,
}

impl<'a> Framer<'a> {
    /// A framer at the start of some bytes.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], max: u32) -> Framer<'a> {
        Framer { rest: bytes, max, all: bytes.len() }
    }

    /// The next message, without its header; `None` where its bytes have not all come.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<&'a [u8]>, FrameError> {
        let Some((header, rest)) = self.rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = wire::message_len(*header, self.max)? as usize;
        let Some((message, rest)) = rest.split_at_checked(len) else {
            return Ok(None);
        };
        self.rest = rest;
        Ok(Some(message))
    }

    /// Where the next frame starts.
    #[inline]
    pub(crate) fn framed(&self) -> usize {
        self.all - self.rest.len()
    }
}

/// How many bytes the first frame of `bytes` takes, as far as they tell: its header at least.
pub(crate) fn frame_len(bytes: &[u8], max: u32) -> usize {
    match bytes.first_chunk::<HEADER>() {
        Some(header) => HEADER + wire::message_len(*header, max).unwrap_or(0) as usize,
        None => HEADER,
    }
}
