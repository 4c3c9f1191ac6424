//! The pump and the doorbell, with a driver that records what it is given and completes when told.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::*;
use crate::cursor::Flag;
use crate::driver::Completion;
use crate::region::Region;
use crate::wait::InHandler;
use crate::wire;

const CAPACITY: usize = 4096;

/// Sixteen of them fill the ring to its last byte.
const LEN: usize = CAPACITY / 16 - HEADER;

/// As long as a configuration with this ring allows.
const MESSAGE_MAX: usize = CAPACITY / 32 * 15 - HEADER;

const PATIENCE: Duration = Duration::from_secs(60);

const ID: SlotId = SlotId { index: 0, generation: 1 };

/// What a pump needs of a kernel.
struct Fake {
    region: Arc<Region>,
    /// What it was given and has not given back.
    in_flight: Option<Span>,
    /// All that it was given, request by request.
    requests: Vec<Vec<u8>>,
}

impl Driver for Fake {
    const NAME: &'static str = "fake";
    const BATCHES: bool = true;

    fn new(region: Arc<Region>, _: usize) -> io::Result<Fake> {
        Ok(Fake { region, in_flight: None, requests: Vec::new() })
    }

    fn send(&mut self, id: SlotId, span: Span) {
        assert_eq!(id, ID);
        assert!(self.in_flight.is_none(), "one send in flight");
        self.requests.push(self.region.bytes(&span).to_vec());
        self.in_flight = Some(span);
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

    fn connect(&mut self, _: SlotId, _: Socket, _: SocketAddr) {
        unreachable!("a pump only sends")
    }

    fn adopt(&mut self, _: SlotId, _: Socket) -> io::Result<()> {
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

    fn turn(&mut self, _: Duration, _: &mut Vec<Completion>) -> io::Result<()> {
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
        let (region, mut cutter) = Region::new(CAPACITY).unwrap();
        let ring = Ring::new(region.clone(), cutter.cut(CAPACITY));
        let bell = Arc::new(Doorbell::new(1));
        let wakes = Arc::new(Tally::default());
        let counted = wakes.clone();
        bell.connect(Waker::new(move || counted.add_shared(1)));
        let path = SendPath::new(ring, bell.clone(), 0, MESSAGE_MAX);
        path.open(ID.generation);
        World { path, bell, driver: Fake::new(region, 1).unwrap(), wakes }
    }

    fn send(&self, message: &[u8]) -> Result<(), SendError> {
        self.path.try_send(ID.generation, message)
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

    /// Sixteen messages, and no room for one more.
    fn fill(&mut self) {
        for number in 0..16 {
            self.send(&[number; LEN]).unwrap();
        }
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

fn wait_for(condition: impl Fn() -> bool) {
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
    assert!(world.path.is_held(), "the slot can't be used again yet");
    assert_eq!(claim.commit(), Err(SendError::Closed));
    assert!(!world.path.is_held());
    assert_eq!(world.send(b"later"), Err(SendError::Closed));
    assert_eq!(world.left(), (1, 8));
    assert_eq!(world.path.counters().messages_accepted, 1);
}

#[test]
fn a_claim_that_is_dropped_after_the_close_lets_go_of_the_ring() {
    let world = World::new();
    let claim = world.path.try_claim(1, 4).unwrap();
    world.path.close();
    assert!(world.path.is_held());
    drop(claim);
    assert!(!world.path.is_held());
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
    assert!(!world.path.is_held());
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
    drop(world.path.try_claim_sole(&mut sole, 1, 9).unwrap());
    for number in 0..16 {
        world.path.try_send_sole(&mut sole, 1, &[number; LEN]).unwrap();
    }
    assert_eq!(world.path.try_send_sole(&mut sole, 1, &[16; LEN]), Err(SendError::Full));
    assert_eq!(world.path.counters().full_rings, 1);
    assert_eq!(world.path.try_send_sole(&mut sole, 2, b"other"), Err(SendError::Closed));
    world.pump().unwrap();
    assert_eq!(world.driver.requests[0].len(), CAPACITY);
    world.path.close();
    assert_eq!(world.path.try_send_sole(&mut sole, 1, b"late"), Err(SendError::Closed));
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
fn a_greeting_may_be_longer_than_a_message_and_is_nobodys_message() {
    let mut world = World::new();
    let (region, mut cutter) = Region::new(CAPACITY).unwrap();
    world.driver.region = region.clone();
    world.path = SendPath::new(Ring::new(region, cutter.cut(CAPACITY)), world.bell.clone(), 0, 10);
    world.path.open(1);
    world.path.greet(1, b"a peer with a long id").unwrap();
    world.pump().unwrap();
    assert_eq!(world.driver.requests, [frames(&[b"a peer with a long id"])]);
    assert_eq!(world.path.counters().messages_accepted, 0);
}

// Waiting for room.

#[test]
fn a_claim_that_waits_gets_its_room_when_the_kernel_takes_some() {
    let mut world = World::new();
    world.fill();
    world.pump().unwrap();
    let waits = Flag::default();
    let span = world.driver.in_flight.take().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let claim = world.path.claim(1, LEN, patiently(&waits));
            claim.and_then(Claim::commit)
        });
        wait_for(|| waits.get());
        world.path.sent(span, Ok(CAPACITY / 16)).unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(world.left(), (16, CAPACITY as u64));
}

#[test]
fn a_claim_that_waits_hears_of_the_end_of_its_session() {
    let mut world = World::new();
    world.fill();
    let waits = Flag::default();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| world.path.claim(1, LEN, patiently(&waits)).map(drop));
        wait_for(|| waits.get());
        world.path.close();
        assert_eq!(waiter.join().unwrap(), Err(SendError::Closed));
    });
}

#[test]
fn a_claim_waits_until_another_is_committed_or_dropped() {
    for commit in [true, false] {
        let world = World::new();
        let claim = world.path.try_claim(1, 4).unwrap();
        let waits = Flag::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| world.path.claim(1, 4, patiently(&waits)).and_then(Claim::commit));
            wait_for(|| waits.get());
            if commit {
                claim.commit().unwrap();
            } else {
                drop(claim);
            }
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(world.path.counters().messages_accepted, 1 + u64::from(commit));
    }
}

#[test]
fn a_claim_that_waits_until_its_deadline_says_so() {
    let mut world = World::new();
    world.fill();
    let mut pauses = [Duration::from_millis(1); 2].into_iter();
    let outcome = world.path.claim(1, LEN, || pauses.next());
    assert_eq!(outcome.unwrap_err(), SendError::TimedOut);
    assert_eq!(pauses.next(), None, "it waited as long as it had time left");
    assert!(!world.path.is_held());
}

#[test]
fn in_a_handler_nothing_waits() {
    let mut world = World::new();
    world.fill();
    let _in_handler = InHandler::enter();
    let outcome = world.path.claim(1, LEN, || panic!("it is about to wait"));
    assert_eq!(outcome.unwrap_err(), SendError::Full);
}

#[test]
fn threads_that_wait_for_each_other_and_for_room_send_every_message_in_order() {
    const THREADS: u8 = 4;
    const MESSAGES: u32 = 1_000;
    let World { path, bell, mut driver, .. } = World::new();
    let send = |thread: u8| {
        for number in 0..MESSAGES {
            let mut message = vec![thread; 4 + (number % 300) as usize];
            message[..4].copy_from_slice(&number.to_le_bytes());
            message.push(thread);
            let mut claim = path.claim(1, message.len(), patiently(&Flag::default())).unwrap();
            claim.copy_from_slice(&message);
            claim.commit().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || send(thread))).collect();
        loop {
            let over = senders.iter().all(|sender| sender.is_finished());
            bell.take(0);
            path.pump(ID, &mut driver, false).unwrap();
            match driver.in_flight.take() {
                Some(span) => {
                    let len = span.len();
                    path.sent(span, Ok(len)).unwrap();
                }
                None if over => break,
                None => std::thread::yield_now(),
            }
        }
    });
    let wire_bytes = driver.requests.concat();
    let mut next = [0; THREADS as usize];
    let mut bytes = &wire_bytes[..];
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let (message, rest) = rest.split_at(u32::from_le_bytes(*header) as usize);
        bytes = rest;
        let (number, body) = message.split_first_chunk::<4>().unwrap();
        let (number, thread) = (u32::from_le_bytes(*number), body[0]);
        assert_eq!(number, next[thread as usize], "in the order of thread {thread}");
        next[thread as usize] += 1;
        assert_eq!(body, vec![thread; 1 + (number % 300) as usize], "whole");
    }
    assert_eq!(next, [MESSAGES; THREADS as usize]);
}

// The doorbell.

#[test]
fn a_commit_that_meets_the_engine_asleep_wakes_it_once() {
    let world = World::new();
    assert!(world.bell.fall_asleep());
    world.send(b"one").unwrap();
    world.send(b"two").unwrap();
    assert_eq!((world.wakes.get(), world.bell.wake_ups.get()), (1, 1));
    assert_eq!(world.bell.take(0), 1);
}

#[test]
fn a_commit_that_meets_the_engine_awake_wakes_nobody() {
    let world = World::new();
    world.send(b"one").unwrap();
    assert!(!world.bell.fall_asleep(), "there is work");
    world.send(b"two").unwrap();
    assert_eq!(world.wakes.get(), 0);
    assert_eq!(world.bell.take(0), 1);
    assert!(world.bell.fall_asleep());
    world.bell.wake_up();
    world.send(b"three").unwrap();
    assert_eq!(world.wakes.get(), 0);
}

#[test]
fn a_pump_that_finds_its_flag_taken_leaves_a_mark() {
    let mut world = World::new();
    world.send(b"one").unwrap();
    world.bell.take(0);
    let taken = world.path.pump.try_take();
    world.path.pump(ID, &mut world.driver, false).unwrap();
    assert_eq!(world.bell.count(), 1);
    drop(taken);
    world.pump().unwrap();
    assert_eq!(world.driver.requests, [frames(&[b"one"])]);
}

#[test]
fn whether_a_path_is_drained_waits_for_a_sender_who_is_just_pumping() {
    let world = World::new();
    let taken = world.path.pump.try_take();
    let asked = Flag::default();
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| {
            asked.set(true);
            world.path.is_drained()
        });
        wait_for(|| asked.get());
        std::thread::sleep(Duration::from_millis(20));
        drop(taken);
        assert!(drained.join().unwrap(), "nobody would look again before the drain deadline");
    });
}

#[test]
fn a_greeting_waits_for_a_late_handle_that_holds_the_ring_for_a_moment() {
    let world = World::new();
    let Hold::Held(_) = world.path.ring.hold() else { panic!("it is open") };
    let begun = Flag::default();
    std::thread::scope(|scope| {
        let greeting = scope.spawn(|| {
            begun.set(true);
            world.path.greet(1, b"me")
        });
        wait_for(|| begun.get());
        std::thread::sleep(Duration::from_millis(20));
        world.path.let_go();
        greeting.join().unwrap().unwrap();
    });
    assert_eq!(world.left(), (1, 6));
}

// Direct sends.

#[cfg(unix)]
fn with_socket(world: &World) -> (std::os::unix::net::UnixStream, std::os::unix::net::UnixStream) {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    world.path.connect(Some(Direct::new(&ours)));
    (ours, theirs)
}

#[cfg(unix)]
#[test]
fn a_sender_that_meets_the_engine_asleep_sends_itself_and_wakes_it_for_a_stream_only() {
    use std::io::Read;
    let world = World::new();
    let (_ours, mut theirs) = with_socket(&world);
    assert!(world.bell.fall_asleep());
    let mut received = [0; 5];
    for number in 1..=DIRECT_SENDS {
        assert_eq!(world.wakes.get(), 0, "after {} direct sends", number - 1);
        world.send(b"x").unwrap();
        theirs.read_exact(&mut received).unwrap();
        assert_eq!(received[..], frames(&[b"x"]));
    }
    assert_eq!(world.wakes.get(), 1);
    assert_eq!(world.bell.count(), 0, "nothing is left for the engine");
    assert_eq!(world.path.counters().direct_sends, u64::from(DIRECT_SENDS));
    assert!(world.path.is_drained());
    world.path.disconnect();
}

#[cfg(unix)]
#[test]
fn what_the_kernel_has_no_room_for_is_the_engines_and_goes_to_the_driver() {
    use std::io::Write;
    let mut world = World::new();
    let (mut ours, _theirs) = with_socket(&world);
    while ours.write(&[0; 4096]).is_ok() {}
    assert!(world.bell.fall_asleep());
    world.send(b"patience").unwrap();
    assert_eq!((world.wakes.get(), world.bell.count()), (1, 1));
    world.bell.wake_up();
    world.pump().unwrap();
    assert_eq!(world.driver.requests, [frames(&[b"patience"])]);
    assert_eq!(world.path.counters().direct_sends, 0);
    let span = world.driver.in_flight.take().unwrap();
    world.path.sent(span, Ok(12)).unwrap();
    world.path.disconnect();
}

#[cfg(unix)]
#[test]
fn nobody_sends_directly_while_the_driver_has_a_send_in_flight() {
    let mut world = World::new();
    world.send(b"first").unwrap();
    world.pump().unwrap();
    let (_ours, theirs) = with_socket(&world);
    theirs.set_nonblocking(true).unwrap();
    assert!(world.bell.fall_asleep());
    world.send(b"second").unwrap();
    let nothing = std::io::Read::read(&mut &theirs, &mut [0; 64]);
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock, "it would overtake the first");
    world.path.disconnect();
    world.complete(9);
    world.pump().unwrap();
    assert_eq!(world.driver.requests[1], frames(&[b"second"]));
}

// A peer that reads too slowly.

#[test]
fn a_full_ring_is_stuck_until_it_is_half_empty() {
    let mut world = World::new();
    assert_eq!(world.path.stuck(), None);
    world.fill();
    assert_eq!(world.path.stuck(), Some(1));
    assert_eq!(world.bell.count(), 1, "the engine is to look at it");
    world.pump().unwrap();
    world.complete(CAPACITY / 2 - 1);
    assert_eq!(world.path.stuck(), Some(1), "one byte too few");
    world.pump().unwrap();
    world.complete(1);
    assert_eq!(world.path.stuck(), None);
    for number in 0..8 {
        world.send(&[number; LEN]).unwrap();
    }
    assert_eq!(world.send(&[8; LEN]), Err(SendError::Full));
    assert_eq!(world.path.stuck(), Some(3), "another time");
}

#[test]
fn a_new_session_of_the_slot_is_not_stuck() {
    let mut world = World::new();
    world.fill();
    world.path.close();
    world.path.open(2);
    assert_eq!(world.path.stuck(), None);
}

#[test]
fn a_ring_that_was_emptied_while_a_sender_found_it_full_is_not_stuck() {
    let world = World::new();
    // The sender's note comes after the last completion: no other would take it back.
    let _ = world.path.full();
    assert_eq!(world.path.stuck(), None);
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
    let ring = line(offset_of!(SendPath, ring));
    let ring = ring..ring + line(size_of::<Ring>());
    assert!(read.iter().chain(&written).all(|&offset| !ring.contains(&line(offset))));
}
