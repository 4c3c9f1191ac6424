//! Registered memory, as the model's kernel sees it. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::io::{self, Read, Write};
use std::ops::Range;

use socket2::Socket;

use crate::driver::rio::table::Piece;

/// So many bytes at either end of a piece are looked at to find out whether somebody has written there: all of them
/// would cost more than the requests.
const END: usize = 64;

/// What a piece had at both of its ends.
pub(super) type Sample = [[u8; END]; 2];

/// A registration.
pub(super) struct Memory {
    start: *mut u8,
    len: usize,
}

// SAFETY: it is an address. Whoever follows it says why that may be done, from which thread ever.
unsafe impl Send for Memory {}

impl Memory {
    /// # Safety
    ///
    /// The memory stays mapped as long as the result lives, and of the bytes of pieces that are given to
    /// `receive` and `send` everybody else keeps his hands off, as requests demand.
    pub(super) unsafe fn new(start: *mut u8, len: usize) -> Memory {
        Memory { start, len }
    }

    pub(super) fn contains(&self, piece: &Piece) -> bool {
        piece.offset as usize + piece.len as usize <= self.len
    }

    /// Where a piece begins and ends, over all registrations.
    pub(super) fn range(&self, piece: &Piece) -> (usize, usize) {
        let start = self.start.addr() + piece.offset as usize;
        (start, start + piece.len as usize)
    }

    /// What a piece has at both of its ends, which overlap where it is short.
    pub(super) fn sample(&self, piece: &Piece) -> Sample {
        assert!(self.contains(piece));
        let (start, len) = (self.start.wrapping_add(piece.offset as usize), piece.len as usize);
        // SAFETY: mapped, and left alone by everybody else, as `new` was promised: who breaks the promise is to be
        // found out. The bytes lie within the registration, as just seen.
        let bytes = unsafe { std::slice::from_raw_parts(start, len) };
        let (mut sample, end) = ([[0; END]; 2], len.min(END));
        sample[0][..end].copy_from_slice(&bytes[..end]);
        sample[1][..end].copy_from_slice(&bytes[len - end..]);
        sample
    }

    /// Reads from a socket into a piece, at most `len` bytes.
    pub(super) fn receive(&self, mut socket: &Socket, piece: &Piece, len: usize) -> io::Result<usize> {
        assert!(self.contains(piece) && len <= piece.len as usize);
        // SAFETY: mapped, and left alone by everybody else, as `new` was promised; within it, as just seen.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(self.start.wrapping_add(piece.offset as usize), len) };
        socket.read(bytes)
    }

    /// Writes to a socket what a piece has there.
    pub(super) fn send(
        &self,
        mut socket: &Socket,
        piece: &Piece,
        Range { start: from, end }: Range<usize>,
    ) -> io::Result<usize> {
        assert!(self.contains(piece) && from <= end && end <= piece.len as usize);
        let start = self.start.wrapping_add(piece.offset as usize + from);
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(start, end - from) };
        socket.write(bytes)
    }
}
