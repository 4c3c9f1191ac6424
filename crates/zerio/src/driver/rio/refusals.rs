//! Last words for connections that become no session's. A socket that was made for Registered I/O may refuse plain
//! sends (`table.rs`), so they too go through a request queue, from memory of the driver's own. The socket is closed when
//! its words have completed; who comes while all places are taken goes without. One of the files with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::sync::Arc;

use socket2::Socket;

use super::table::{BufferId, CompletionQueue, Limits, Piece, RequestQueue, Table, Way};
use super::{context, corrupt};
use crate::region::{Region, Span};

/// So many can be refused at a time. One that never acknowledges has its place until TCP gives up.
pub(super) const PLACES: usize = 16;

/// Each is a frame, or an alert of TLS.
const WORDS_MAX: usize = 64;

const LIMITS: Limits = Limits { receives: 0, sends: 1 };

pub(super) struct Refusals {
    pub(super) region: Arc<Region>,
    buffer: Option<BufferId>,
    places: Box<[Place]>,
    /// The index of the first, behind the slots.
    first: u32,
}

struct Place {
    span: Span,
    /// The kernel has the words.
    outstanding: bool,
    refused: Option<(Socket, RequestQueue)>,
}

impl Refusals {
    /// For a driver of so many slots.
    pub(super) fn new(slots: u32) -> io::Result<Refusals> {
        let (region, mut cutter) = Region::new(PLACES * WORDS_MAX)?;
        let place = |_| Place { span: cutter.cut(WORDS_MAX), outstanding: false, refused: None };
        let places = (0..PLACES).map(place).collect();
        Ok(Refusals { region, buffer: None, places, first: slots })
    }

    pub(super) fn register(&mut self, table: &mut impl Table) -> io::Result<()> {
        let (start, len) = self.region.extent();
        // SAFETY: the driver keeps the region until it has deregistered it, or for ever.
        self.buffer = Some(unsafe { table.register_buffer(start, len) }?);
        Ok(())
    }

    /// Nothing is outstanding any more.
    pub(super) fn deregister(&mut self, table: &mut impl Table) {
        if let Some(buffer) = self.buffer.take() {
            table.deregister_buffer(buffer);
        }
    }

    /// Says the last words and closes the socket after them; whether a completion is to come.
    pub(super) fn say(
        &mut self,
        table: &mut impl Table,
        completions: CompletionQueue,
        socket: Socket,
        words: &[u8],
    ) -> bool {
        let free = self.places.iter().position(|place| !place.outstanding);
        let (Some(at), Some(buffer)) = (free, self.buffer) else {
            end(table, self.first, socket, None);
            return false;
        };
        let index = self.first + at as u32;
        let Ok(queue) = table.create_request_queue(&socket, LIMITS, completions, 0) else {
            end(table, index, socket, None);
            return false;
        };
        let place = &mut self.places[at];
        let len = words.len().min(WORDS_MAX);
        self.region.bytes_mut(&mut place.span)[..len].copy_from_slice(&words[..len]);
        let piece = Piece { buffer, offset: (at * WORDS_MAX) as u32, len: len as u32 };
        // SAFETY: the registration lasts until nothing is outstanding, and nobody writes to the piece before the place is
        // free again.
        let begun = unsafe { table.send(queue, Some(piece), 0, context(index, Way::Send, 0)) };
        if begun.is_err() {
            end(table, index, socket, Some(queue));
            return false;
        }
        (place.outstanding, place.refused) = (true, Some((socket, queue)));
        true
    }

    /// The words of one have completed, well or not. There is no completion of what was not asked for.
    pub(super) fn said(&mut self, table: &mut impl Table, index: u32, way: Way) -> io::Result<()> {
        let place = index.checked_sub(self.first).and_then(|at| self.places.get_mut(at as usize));
        let place = place.filter(|place| place.outstanding && way == Way::Send).ok_or_else(corrupt)?;
        place.outstanding = false;
        if let Some((socket, queue)) = place.refused.take() {
            end(table, index, socket, Some(queue));
        }
        Ok(())
    }

    /// Closes all sockets: what is outstanding completes.
    pub(super) fn close(&mut self, table: &mut impl Table) {
        for (place, index) in self.places.iter_mut().zip(self.first..) {
            if let Some((socket, queue)) = place.refused.take() {
                super::abort(&socket);
                table.close(index, socket, Some(queue));
            }
        }
    }
}

fn end(table: &mut impl Table, index: u32, socket: Socket, queue: Option<RequestQueue>) {
    // It fails where the connection is gone.
    let _ = table.shut_down(&socket, queue);
    table.close(index, socket, queue);
}
