//! The pump and the doorbell, with a driver that records what it is given and completes when told.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::pump::DIRECT_SENDS;
use super::*;
use crate::cursor::{Flag, Tally};
use crate::driver::{Completion, Driver, Options, SlotId, Waker};
use crate::region::{Region, Span};
use crate::wait::InHandler;
use crate::wire::{self, HELLO_FRAME, HELLO_MAX};

mod bell;
#[cfg(loom)]
mod models;
#[cfg(all(target_os = "linux", not(loom)))]
mod own;
#[cfg(feature = "tls")]
mod sealed;
mod several;
mod waiting;

const CAPACITY: usize = 4096;

/// Sixteen of them fill the ring to its last byte.
const LEN: usize = CAPACITY / 16 - HEADER;

/// As long as a configuration with this ring allows.
const MESSAGE_MAX: usize = CAPACITY / 32 * 15 - HEADER;

const PATIENCE: Duration = Duration::from_secs(60);

const ID: SlotId = SlotId { index: 0, generation: 1 };

/// What a pump needs of a kernel, which takes so many sends at a time.
struct Fake<const SENDS: u8 = 1> {
    region: Arc<Region>,
    /// What it was given and has not given back, and what it was given after that.
    in_flight: Option<Span>,
    behind: VecDeque<Span>,
    /// All that it was given, request by request.
    requests: Vec<Vec<u8>>,
}

impl<const SENDS: u8> Driver for Fake<SENDS> {
    type Socket = Socket;

    const NAME: &'static str = "fake";
    const BATCHES: bool = true;
    const SENDS: u8 = SENDS;

    fn new(region: Arc<Region>, _: usize) -> io::Result<Self> {
        Ok(Fake { region, in_flight: None, behind: VecDeque::new(), requests: Vec::new() })
    }

    fn send(&mut self, id: SlotId, span: Span) {
        assert_eq!(id, ID);
        self.requests.push(self.region.bytes(&span).to_vec());
        if self.in_flight.is_none() {
            self.in_flight = Some(span);
        } else {
            self.behind.push_back(span);
            assert!(self.behind.len() < usize::from(SENDS), "no more sends in flight");
        }
    }

    fn direct(&self, _: SlotId) -> Option<Direct> {
        None
    }

    fn listen(&mut self, _: Socket) -> io::Result<()> {
        unreachable!("a pump only sends")
    }

    fn accept(&mut self) {
        unreachable!("a pump only sends")
    }

    fn stop_listening(&mut self) {
        unreachable!("a pump only sends")
    }

    fn connect(&mut self, _: SlotId, _: SocketAddr, _: &Options) -> io::Result<()> {
        unreachable!("a pump only sends")
    }

    fn adopt(&mut self, _: SlotId, _: Socket, _: &Options) -> io::Result<()> {
        unreachable!("a pump only sends")
    }

    fn refuse(&mut self, _: Socket, _: &[u8]) {
        unreachable!("a pump only sends")
    }

    fn receive(&mut self, _: SlotId, _: Span) {
        unreachable!("a pump only sends")
    }

    fn shut_down(&mut self, _: SlotId) {
        unreachable!("a pump only sends")
    }

    fn close(&mut self, _: SlotId) {
        unreachable!("a pump only sends")
    }

    fn turn(&mut self, _: Duration, _: &mut Vec<Completion<Socket>>) -> io::Result<()> {
        unreachable!("a pump only sends")
    }

    fn waker(&self) -> Waker {
        unreachable!("a pump only sends")
    }
}

/// A path, open for generation 1, and the engine's side of it.
struct World {
    path: SendPath,
    bell: Arc<Doorbell>,
    driver: Fake,
    wakes: Arc<Tally>,
}

impl World {
    fn new() -> World {
        World::of(CAPACITY, MESSAGE_MAX)
    }

    fn of(capacity: usize, message_max: usize) -> World {
        let (region, mut cutter) = Region::new(capacity + HELLO_FRAME).unwrap();
        let ring = Ring::new(region.clone(), cutter.cut(capacity));
        let bell = Arc::new(Doorbell::new(1));
        let wakes = Arc::new(Tally::default());
        let counted = wakes.clone();
        bell.connect(Waker::new(move || counted.add_shared(1)));
        let path = SendPath::new(ring, cutter.cut(HELLO_FRAME), bell.clone(), 0, message_max);
        path.open(ID.generation);
        World { path, bell, driver: Fake::new(region, 1).unwrap(), wakes }
    }

    fn send(&self, message: &[u8]) -> Result<(), SendError> {
        self.path.try_send(ID.generation, message)
    }

    /// Which time the ring is stuck.
    fn stuck(&self) -> Option<u64> {
        self.path.stuck().map(NonZeroU64::get)
    }

    fn pump(&mut self) -> Result<(), ErrorKind> {
        self.bell.take(0);
        self.path.pump(ID, &mut self.driver, false)
    }

    /// The driver's send completes: the kernel took so many bytes.
    fn complete(&mut self, bytes: usize) {
        let span = self.driver.in_flight.take().expect("a send in flight");
        self.path.sent(span, Ok(bytes)).unwrap();
    }

    /// Sixteen messages: there is no room for one more.
    fn fill_up(&self) {
        for number in 0..16 {
            self.send(&[number; LEN]).unwrap();
        }
    }

    /// The same, and a sender has found that out.
    fn fill(&mut self) {
        self.fill_up();
        assert_eq!(self.send(&[16; LEN]), Err(SendError::Full));
    }

    fn left(&self) -> (u64, u64) {
        let left = self.path.left();
        (left.messages, left.bytes)
    }
}

/// The bytes of messages on the wire.
fn frames(messages: &[&[u8]]) -> Vec<u8> {
    let frame = |message: &&[u8]| [&wire::header(message.len() as u32)[..], message].concat();
    messages.iter().flat_map(frame).collect()
}

/// Time that is left for a test, for `claim`; says first that there was a wait.
fn patiently(waits: &Flag) -> impl FnMut() -> Option<Duration> {
    let until = Instant::now() + PATIENCE;
    move || {
        waits.set(true);
        until.checked_duration_since(Instant::now())
    }
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "it did not happen in {PATIENCE:?}");
        std::thread::yield_now();
    }
}

#[test]
fn all_that_is_committed_goes_to_the_driver_in_one_request() {
    let mut world = World::new();
    world.send(b"one").unwrap();
    world.send(b"").unwrap();
    world.send(b"three").unwrap();
    world.pump().unwrap();
    assert_eq!(world.driver.requests, [frames(&[b"one", b"", b"three"])]);
    world.complete(20);
    world.pump().unwrap();
    assert!(world.driver.in_flight.is_none() && world.path.is_drained());
}

#[test]
fn what_piles_up_behind_a_send_in_flight_goes_together_in_the_next() {
    let mut world = World::new();
    world.send(b"first").unwrap();
    world.pump().unwrap();
    for message in [b"second", b"third.", b"fourth"] {
        world.send(message).unwrap();
        world.pump().unwrap();
    }
    assert_eq!(world.driver.requests.len(), 1, "one send in flight");
    world.complete(9);
    assert_eq!(world.bell.count(), 1, "a completion marks its session: it goes on");
    world.pump().unwrap();
    assert_eq!(world.driver.requests[1], frames(&[b"second", b"third.", b"fourth"]));
}

#[test]
fn a_short_send_goes_on_where_it_stopped() {
    let mut world = World::new();
    world.send(b"abcdef").unwrap();
    world.pump().unwrap();
    world.complete(7);
    assert_eq!(world.left(), (1, 3));
    world.pump().unwrap();
    assert_eq!(world.driver.requests[1], b"def");
    world.complete(3);
    assert!(world.path.is_drained());
    let sent = world.path.counters();
    assert_eq!((sent.batches_sent, sent.short_sends, sent.bytes_sent), (2, 1, 10));
}

#[test]
fn a_message_as_long_as_allowed_is_accepted_and_one_byte_more_is_not() {
    let world = World::new();
    let len = MESSAGE_MAX + 1;
    assert_eq!(world.send(&vec![0; len]), Err(SendError::TooLarge { len, max: MESSAGE_MAX }));
    assert_eq!(world.left(), (0, 0));
    world.send(&[0; MESSAGE_MAX]).unwrap();
    assert_eq!(world.left(), (1, (MESSAGE_MAX + HEADER) as u64));
}

#[test]
fn a_full_ring_says_full_and_keeps_what_it_has() {
    let mut world = World::new();
    world.fill();
    assert_eq!(world.path.counters().full_rings, 1);
    assert_eq!(world.path.counters().messages_accepted, 16);
    world.pump().unwrap();
    let expected: Vec<_> = (0..16).map(|number| [number; LEN]).collect();
    let expected: Vec<_> = expected.iter().map(|message| &message[..]).collect();
    assert_eq!(world.driver.requests, [frames(&expected)]);
    world.complete(CAPACITY / 16);
    world.send(&[16; LEN]).unwrap();
    assert_eq!(world.send(&[17; LEN]), Err(SendError::Full));
}

#[test]
fn a_commit_after_the_close_says_closed_and_counts_nowhere() {
    let world = World::new();
    world.send(b"kept").unwrap();
    let mut claim = world.path.try_claim(1, 4).unwrap();
    claim.copy_from_slice(b"late");
    world.path.close();
    assert!(world.path.is_taken(), "the slot can't be used again yet");
    assert_eq!(claim.commit(), Err(SendError::Closed));
    assert!(!world.path.is_taken());
    assert_eq!(world.send(b"later"), Err(SendError::Closed));
    assert_eq!(world.left(), (1, 8));
    assert_eq!(world.path.counters().messages_accepted, 1);
}

#[test]
fn a_claim_that_is_dropped_after_the_close_lets_go_of_the_ring() {
    let world = World::new();
    let claim = world.path.try_claim(1, 4).unwrap();
    world.path.close();
    assert!(world.path.is_taken());
    drop(claim);
    assert!(!world.path.is_taken());
    assert_eq!(world.left(), (0, 0));
}

#[test]
fn a_claim_that_is_dropped_sends_nothing_and_the_next_takes_its_place() {
    let mut world = World::new();
    let mut claim = world.path.try_claim(1, 7).unwrap();
    claim.fill(0xee);
    drop(claim);
    world.send(b"kept").unwrap();
    world.pump().unwrap();
    assert_eq!(world.driver.requests, [frames(&[b"kept"])]);
}

#[test]
fn a_handle_on_the_slots_last_session_says_closed() {
    let world = World::new();
    world.path.close();
    world.path.open(2);
    assert_eq!(world.send(b"late"), Err(SendError::Closed));
    assert_eq!(world.path.claim(1, 4, || None).unwrap_err(), SendError::Closed);
    assert!(!world.path.is_taken());
    world.path.try_send(2, b"mine").unwrap();
    assert_eq!(world.left(), (1, 8));
}

#[test]
fn a_second_claim_meanwhile_says_full_and_does_not_wait_for_ever() {
    let world = World::new();
    let claim = world.path.try_claim(1, 4).unwrap();
    assert_eq!(world.send(b"two"), Err(SendError::Full));
    claim.commit().unwrap();
    world.send(b"two").unwrap();
}

#[test]
fn a_sole_sender_sends_without_holding_the_ring() {
    let mut world = World::new();
    let mut sole = Sole::new();
    drop(world.path.try_claim_sole(&mut sole, 9).unwrap());
    for number in 0..16 {
        world.path.try_send_sole(&mut sole, &[number; LEN]).unwrap();
    }
    assert_eq!(world.path.try_send_sole(&mut sole, &[16; LEN]), Err(SendError::Full));
    assert_eq!(world.path.counters().full_rings, 1);
    world.pump().unwrap();
    assert_eq!(world.driver.requests[0].len(), CAPACITY);
    world.path.close();
    assert_eq!(world.path.try_send_sole(&mut sole, b"late"), Err(SendError::Closed));
}

#[test]
fn a_failed_send_ends_the_path_and_its_bytes_are_left() {
    let mut world = World::new();
    world.send(b"lost").unwrap();
    world.pump().unwrap();
    let span = world.driver.in_flight.take().unwrap();
    let reset = io::Error::from(ErrorKind::ConnectionReset);
    assert_eq!(world.path.sent(span, Err(reset)), Err(ErrorKind::ConnectionReset));
    assert_eq!(world.pump(), Err(ErrorKind::ConnectionReset));
    assert_eq!(world.left(), (1, 8));
}

#[test]
fn a_greeting_goes_before_all_messages_and_is_none() {
    let mut world = World::new();
    world.send(b"first").unwrap();
    let longest = [7; HELLO_MAX];
    world.path.greet(&longest);
    assert_eq!(world.bell.count(), 1);
    assert_eq!(world.left(), (1, 9), "it is nobody's message");
    let frame = frames(&[&longest]);
    // It may be taken in parts, and a message is not sent behind a part.
    for part in [0, 5, HELLO_FRAME - 5] {
        world.pump().unwrap();
        assert!(!world.path.is_drained());
        world.complete(part);
    }
    world.pump().unwrap();
    world.complete(9);
    let requests = [frame.clone(), frame.clone(), frame[5..].to_vec(), frames(&[b"first"])];
    assert_eq!(world.driver.requests, requests);
    assert!(world.path.is_drained());
    let counters = world.path.counters();
    assert_eq!((counters.messages_accepted, counters.bytes_sent), (1, HELLO_FRAME as u64 + 9));
}

#[test]
fn a_greeting_that_was_not_taken_is_not_the_next_sessions() {
    let mut world = World::new();
    world.path.greet(b"first");
    world.pump().unwrap();
    world.complete(3);
    world.path.close();
    assert_eq!(world.left(), (0, 0));
    world.path.open(1);
    world.path.greet(b"second");
    world.pump().unwrap();
    assert_eq!(world.driver.requests[1..], [frames(&[b"second"])]);
}

#[test]
fn what_senders_read_is_not_where_the_pump_writes() {
    use std::mem::offset_of;
    let line = |offset: usize| offset / 128;
    let read = [
        offset_of!(SendPath, bell),
        offset_of!(SendPath, index),
        offset_of!(SendPath, message_max),
        // Written when a ring is found full, and when it is half empty again.
        offset_of!(SendPath, stuck),
        offset_of!(SendPath, lobby),
    ];
    let written = [offset_of!(SendPath, pump), offset_of!(SendPath, tallies)];
    for written in written {
        assert_eq!(written % 128, 0, "on lines of its own");
        assert!(read.iter().all(|&read| line(read) != line(written)));
    }
    // On one of most processors' lines of 64.
    let lobby = offset_of!(SendPath, lobby);
    assert!(read.iter().all(|&read| read <= lobby) && lobby / 64 == offset_of!(SendPath, bell) / 64);
    let ring = line(offset_of!(SendPath, ring));
    let ring = ring..ring + line(size_of::<Ring>());
    assert!(read.iter().chain(&written).all(|&offset| !ring.contains(&line(offset))));
}
