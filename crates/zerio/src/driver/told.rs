//! A driver whose kernel is whoever holds it: what is in flight lies open, and completes when told. For fuzzing and
//! for tests of what stands above drivers; no network, and no clock but the one that is moved here.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Completion, Direct, Driver, Options, SlotId, Waker};
use crate::region::{Region, Span};

thread_local! {
    /// Nanoseconds; not zero, so that a time that was never set shows.
    static CLOCK: Cell<u64> = const { Cell::new(1_000_000_000) };
}

/// What time it is on this thread.
pub(crate) fn nanos() -> u64 {
    CLOCK.get()
}

pub(crate) fn pass(time: Duration) {
    CLOCK.set(nanos() + time.as_nanos() as u64);
}

pub(crate) struct Told {
    region: Arc<Region>,
    /// What the next turn gives.
    pub(crate) completions: VecDeque<Completion<SocketAddr>>,
    /// What is in flight to receive and to send, by slot.
    pub(crate) rooms: Vec<Option<(SlotId, Span)>>,
    pub(crate) sends: Vec<Option<(SlotId, Span)>>,
    /// The sessions that it has: adopted, and not yet closed.
    pub(crate) adopted: Vec<bool>,
    /// The server accepts, and has not been given a connection since.
    pub(crate) accepting: bool,
    /// Connections that became no session's, and what they heard.
    pub(crate) refused: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) waker: Waker,
    /// What it does where it is to wait and nothing has happened.
    pub(crate) sleep: Box<dyn FnMut()>,
}

impl Told {
    /// Bytes come, as many as there is room for; gives how many. None come where nobody receives.
    pub(crate) fn receives(&mut self, index: usize, bytes: &[u8]) -> usize {
        let Some((id, mut room)) = self.rooms[index].take() else { return 0 };
        let len = bytes.len().min(room.len());
        self.region.bytes_mut(&mut room)[..len].copy_from_slice(&bytes[..len]);
        // Whatever the kernel leaves behind it is no message.
        self.region.bytes_mut(&mut room)[len..].fill(0xee);
        self.completions.push_back(Completion::Received(id, room, Ok(len)));
        len
    }

    /// The receive that is in flight fails.
    pub(crate) fn fails_to_receive(&mut self, index: usize, kind: io::ErrorKind) -> bool {
        let Some((id, room)) = self.rooms[index].take() else { return false };
        self.completions.push_back(Completion::Received(id, room, Err(kind.into())));
        true
    }

    /// The kernel takes what `share` says of what is in flight to send, at least a byte; gives these.
    pub(crate) fn takes(&mut self, index: usize, share: impl FnOnce(usize) -> usize) -> Vec<u8> {
        let Some((id, span)) = self.sends[index].take() else { return Vec::new() };
        let len = share(span.len()).clamp(1, span.len());
        let taken = self.region.bytes(&span)[..len].to_vec();
        self.completions.push_back(Completion::Sent(id, span, Ok(len)));
        taken
    }

    /// The send that is in flight fails.
    pub(crate) fn fails_to_send(&mut self, index: usize, kind: io::ErrorKind) -> bool {
        let Some((id, span)) = self.sends[index].take() else { return false };
        self.completions.push_back(Completion::Sent(id, span, Err(kind.into())));
        true
    }

    /// A connection comes from this address, if the server accepts.
    pub(crate) fn accepts(&mut self, address: SocketAddr) -> bool {
        let accepts = std::mem::take(&mut self.accepting);
        if accepts {
            self.completions.push_back(Completion::Accepted(Ok((address, address))));
        }
        accepts
    }
}

impl Driver for Told {
    /// Who is at its other end.
    type Socket = SocketAddr;

    const NAME: &'static str = "told";
    const BATCHES: bool = true;

    fn new(region: Arc<Region>, slots: usize) -> io::Result<Told> {
        let none = || (0..slots).map(|_| None).collect();
        let (rooms, sends, adopted) = (none(), none(), vec![false; slots]);
        let (completions, refused) = (VecDeque::new(), Vec::new());
        let (waker, sleep) = (Waker::new(|| {}), Box::new(|| {}));
        Ok(Told { region, completions, rooms, sends, adopted, accepting: false, refused, waker, sleep })
    }

    fn listen(&mut self, _: SocketAddr) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self) {
        assert!(!self.accepting, "one accept at a time");
        self.accepting = true;
    }

    fn stop_listening(&mut self) {
        self.accepting = false;
    }

    fn connect(&mut self, _: SlotId, _: SocketAddr, _: &Options) -> io::Result<()> {
        // Nobody is told of a network.
        Err(io::ErrorKind::NetworkUnreachable.into())
    }

    fn adopt(&mut self, id: SlotId, _: SocketAddr, _: &Options) -> io::Result<()> {
        let before = std::mem::replace(&mut self.adopted[id.index as usize], true);
        assert!(!before, "one session a slot");
        Ok(())
    }

    fn refuse(&mut self, socket: SocketAddr, last_words: &[u8]) {
        self.refused.push((socket, last_words.to_vec()));
    }

    fn direct(&self, _: SlotId) -> Option<Direct> {
        None
    }

    fn receive(&mut self, id: SlotId, span: Span) {
        assert!(!span.is_empty(), "there is room to receive into");
        let before = self.rooms[id.index as usize].replace((id, span));
        assert!(before.is_none(), "one receive in flight");
    }

    fn send(&mut self, id: SlotId, span: Span) {
        assert!(!span.is_empty(), "there is something to send");
        let before = self.sends[id.index as usize].replace((id, span));
        assert!(before.is_none(), "one send in flight");
    }

    fn shut_down(&mut self, id: SlotId) {
        assert!(self.sends[id.index as usize].is_none(), "nothing is in flight to send");
    }

    fn close(&mut self, id: SlotId) {
        let index = id.index as usize;
        assert!(std::mem::take(&mut self.adopted[index]), "it is closed once");
        self.fails_to_receive(index, io::ErrorKind::ConnectionAborted);
        self.fails_to_send(index, io::ErrorKind::ConnectionAborted);
        self.completions.push_back(Completion::Closed(id));
    }

    fn turn(&mut self, wait: Duration, done: &mut Vec<Completion<SocketAddr>>) -> io::Result<()> {
        if !wait.is_zero() && self.completions.is_empty() {
            (self.sleep)();
        }
        done.extend(self.completions.drain(..));
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
