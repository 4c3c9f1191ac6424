//! What each test of the suite has around the driver: an engine's part, and peers.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::network::{Network, Site};
use crate::driver::{Completion, Direct, Options, SlotId, completions_max};
use crate::region::{Cutter, Region, Span};

/// Longer than anything here takes, however busy the machine is.
pub(super) const DEADLINE: Duration = Duration::from_secs(40);

/// What a test waits for in one turn: short enough that a driver that sleeps through an event shows by
/// the time it takes, not by failing.
pub(super) const WAIT: Duration = Duration::from_millis(10);

/// A driver, and what an engine has around it.
pub(super) struct Rig<D: Site> {
    pub(super) driver: D,
    pub(super) region: Arc<Region>,
    cutter: Cutter,
    pub(super) done: Vec<Completion<D::Socket>>,
    /// Whether turns wait: always, never, or every other.
    pub(super) pace: Pace,
    turns: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    Waiting,
    Spinning,
    Both,
}

pub(super) const PACES: [Pace; 3] = [Pace::Waiting, Pace::Spinning, Pace::Both];

impl<D: Site> Rig<D> {
    pub(super) fn new(slots: usize) -> Rig<D> {
        let (region, cutter) = Region::new(16 << 20).unwrap();
        let driver = D::new(region.clone(), slots).unwrap();
        let done = Vec::with_capacity(completions_max::<D>(slots));
        Rig { driver, region, cutter, done, pace: Pace::Both, turns: 0 }
    }

    pub(super) fn paced(slots: usize, pace: Pace) -> Rig<D> {
        Rig { pace, ..Rig::new(slots) }
    }

    pub(super) fn turn(&mut self, wait: Duration) {
        let capacity = self.done.capacity();
        self.driver.turn(wait, &mut self.done).unwrap();
        assert_eq!(self.done.capacity(), capacity, "more completions than requests");
    }

    /// One turn at the rig's pace.
    pub(super) fn step(&mut self) {
        self.turns += 1;
        let waits = match self.pace {
            Pace::Waiting => true,
            Pace::Spinning => false,
            Pace::Both => self.turns.is_multiple_of(2),
        };
        self.turn(if waits { WAIT } else { Duration::ZERO });
        if !waits {
            std::thread::yield_now();
        }
    }

    /// Turns until some completion is what is looked for, and takes that one.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Completion<D::Socket>) -> bool,
        take: fn(Completion<D::Socket>) -> T,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(at) = self.done.iter().position(&mut pick) {
                return take(self.done.remove(at));
            }
            assert!(start.elapsed() < DEADLINE, "{}: no {what}, but {:?}", D::NAME, self.done);
            self.step();
        }
    }

    /// Turns for so long, and sees that nothing more comes.
    pub(super) fn nothing_comes(&mut self, turns: u32) {
        for _ in 0..turns {
            self.turn(Duration::ZERO);
            self.turn(Duration::from_millis(5));
        }
        assert!(self.done.is_empty(), "{}: {:?}", D::NAME, self.done);
    }

    pub(super) fn accepted(&mut self) -> io::Result<(D::Socket, SocketAddr)> {
        self.until(
            "accepted",
            |c| matches!(c, Completion::Accepted(_)),
            |c| match c {
                Completion::Accepted(outcome) => outcome,
                _ => unreachable!(),
            },
        )
    }

    pub(super) fn connected(&mut self, id: SlotId) -> io::Result<()> {
        self.until(
            "connected",
            |c| matches!(c, Completion::Connected(of, _) if *of == id),
            |c| match c {
                Completion::Connected(_, outcome) => outcome,
                _ => unreachable!(),
            },
        )
    }

    pub(super) fn received(&mut self, id: SlotId) -> (Span, io::Result<usize>) {
        self.until(
            "received",
            |c| matches!(c, Completion::Received(of, ..) if *of == id),
            |c| match c {
                Completion::Received(_, span, outcome) => (span, outcome),
                _ => unreachable!(),
            },
        )
    }

    pub(super) fn sent(&mut self, id: SlotId) -> (Span, io::Result<usize>) {
        self.until(
            "sent",
            |c| matches!(c, Completion::Sent(of, ..) if *of == id),
            |c| match c {
                Completion::Sent(_, span, outcome) => (span, outcome),
                _ => unreachable!(),
            },
        )
    }

    /// Waits for the end of a session, and sees that nothing of it came after.
    pub(super) fn closed(&mut self, id: SlotId) {
        let is_of = |completion: &Completion<D::Socket>| match completion {
            Completion::Accepted(_) => false,
            Completion::Connected(of, _) | Completion::Closed(of) => *of == id,
            Completion::Received(of, ..) | Completion::Sent(of, ..) => *of == id,
        };
        let start = Instant::now();
        while !self.done.iter().any(|c| matches!(c, Completion::Closed(of) if *of == id)) {
            assert!(start.elapsed() < DEADLINE, "{}: no end, but {:?}", D::NAME, self.done);
            self.step();
        }
        self.turn(Duration::ZERO);
        let last = self.done.iter().rposition(is_of).unwrap();
        assert!(matches!(self.done[last], Completion::Closed(_)), "{}: {:?}", D::NAME, self.done);
        self.done.remove(last);
        let twice = self.done.iter().any(|c| matches!(c, Completion::Closed(of) if *of == id));
        assert!(!twice, "{}: closed twice", D::NAME);
    }

    /// Listens, and tells where.
    pub(super) fn listen(&mut self) -> SocketAddr {
        let (listener, address) = D::On::listener();
        self.driver.listen(listener).unwrap();
        address
    }

    /// A session over a connected pair of sockets, whose other side is the peer.
    pub(super) fn session(&mut self, id: SlotId) -> <D::On as Network>::Peer {
        let (peer, own) = D::pair();
        self.driver.adopt(id, own, &options()).unwrap();
        peer
    }

    pub(super) fn span(&mut self, len: usize) -> Span {
        self.cutter.cut(len)
    }

    /// A span filled with what `pattern` says from its place `from` on.
    pub(super) fn filled(&mut self, from: usize, len: usize) -> Span {
        let mut span = self.cutter.cut(len);
        fill(self.region.bytes_mut(&mut span), from);
        span
    }

    /// Receives once, and gives the bytes.
    pub(super) fn receive(&mut self, id: SlotId, len: usize) -> Vec<u8> {
        let span = self.span(len);
        self.driver.receive(id, span);
        let (span, outcome) = self.received(id);
        assert_eq!(span.len(), len, "the whole span comes back");
        self.region.bytes(&span)[..outcome.unwrap()].to_vec()
    }
}

/// Whether this system resets a connection when asked to. Wine ends it in order first, so that the other side
/// may hear no more than an end.
pub(super) fn has_resets() -> bool {
    let wine = cfg!(windows) && std::env::var_os("WINEUSERNAME").is_some();
    if wine {
        eprintln!("SKIPPED: Wine resets no connection");
    }
    !wine
}

/// Whether this machine lets a driver be used. What else fails is a fault.
#[cfg(target_os = "linux")]
pub(super) fn is_allowed<D: crate::driver::Driver>() -> bool {
    let (region, _) = Region::new(4096).unwrap();
    match D::new(region, 1) {
        Ok(_) => true,
        Err(error) if [Some(libc::EPERM), Some(libc::ENOSYS)].contains(&error.raw_os_error()) => {
            skip(D::NAME, &error)
        }
        Err(error) => panic!("the {} driver: {error}", D::NAME),
    }
}

/// Whether this machine has the table of functions. What fails with it is a fault.
#[cfg(windows)]
pub(super) fn is_allowed<D: crate::driver::Driver>() -> bool {
    crate::driver::rio::windows::probe().map_or_else(|error| skip(D::NAME, &error), |()| true)
}

/// Does without a driver, and says so; fails where `ZERIO_REQUIRE` names it.
#[cfg(any(target_os = "linux", windows))]
fn skip(driver: &str, why: &io::Error) -> bool {
    let required = std::env::var("ZERIO_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name == driver),
        "the {driver} driver is required, and forbidden here: {why}"
    );
    eprintln!("SKIPPED: the {driver} driver is forbidden here: {why}");
    false
}

pub(super) fn id(index: u32, generation: u32) -> SlotId {
    SlotId { index, generation }
}

pub(super) fn options() -> Options {
    let peer_timeout = Duration::from_secs(60);
    Options { peer_timeout, ..Options::default() }
}

/// Sends until the socket is full; whether it was not.
pub(super) fn fill_up(direct: &Direct) -> bool {
    let bytes = vec![7; 64 * 1024];
    let mut sent = false;
    loop {
        match direct.send(&bytes) {
            Ok(_) => sent = true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return sent;
            }
        }
    }
}

pub(super) fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

pub(super) fn fill(bytes: &mut [u8], from: usize) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = pattern(from + at);
    }
}

pub(super) fn is_pattern(bytes: &[u8], from: usize) -> bool {
    bytes.iter().enumerate().all(|(at, &byte)| byte == pattern(from + at))
}
