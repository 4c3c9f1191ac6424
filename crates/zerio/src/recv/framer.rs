//! Receive path, 2 of 2: driver → buffer → **framer** → handler. Finds whole frames; it holds a cursor and no
//! bytes.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::error::FrameError;
use crate::wire::{self, HEADER};

/// Where in some bytes the next frame starts.
#[derive(Debug)]
pub(crate) struct Framer {
    /// The longest message, in bytes.
    max: u32,
    framed: usize,
}

impl Framer {
    /// A framer at the start of some bytes.
    #[inline]
    pub(crate) fn new(max: u32) -> Framer {
        Framer { max, framed: 0 }
    }

    /// The place of the next message, without its header; `None` where its bytes have not all come.
    #[inline]
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, FrameError> {
        let Some((header, rest)) = bytes[self.framed..].split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = wire::message_len(*header, self.max)? as usize;
        if rest.len() < len {
            return Ok(None);
        }
        let start = self.framed + HEADER;
        self.framed = start + len;
        Ok(Some(start..self.framed))
    }

    /// Where the next frame starts.
    #[inline]
    pub(crate) fn framed(&self) -> usize {
        self.framed
    }
}

/// How many bytes the first frame of `bytes` takes, as far as they tell: its header at least.
pub(crate) fn frame_len(bytes: &[u8], max: u32) -> usize {
    match bytes.first_chunk::<HEADER>() {
        Some(header) => HEADER + wire::message_len(*header, max).unwrap_or(0) as usize,
        None => HEADER,
    }
}
