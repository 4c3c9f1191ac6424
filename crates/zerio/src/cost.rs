//! What instructions are counted of (`.ci/cost`): each step of the hot path done so many times, on a kernel that
//! costs next to nothing. The counts are the same on each run, so a regression shows in the change that brings it.
//! No part of the library's interface.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::config::Config;
use crate::driver::told::{self, Told};
use crate::driver::{Completion, Driver as _, SlotId, Waker};
use crate::engine::{Context, Engine, Role, ServerRole};
use crate::handler::Handler;
use crate::recv::framer::Framer;
use crate::region::Region;
use crate::send::ring::Ring;
use crate::send::{Doorbell, SendPath, Sole};
use crate::session::Shared;
use crate::session::directory::Directory;
use crate::session::inbox::inboxes;
use crate::time::{Clock, Time};
use crate::wire::{self, HELLO_FRAME};

/// The message of each step, in bytes.
const MESSAGE: [u8; 32] = [0x5a; 32];

/// Room for what the longest run commits and nobody takes.
const RING: usize = 1 << 20;

/// The session that everything is about.
const ID: SlotId = SlotId { index: 0, generation: 1 };

/// A step, and what does it so many times: thousands, and at most 20,000.
pub type Step = (&'static str, fn(usize));

/// Every step that is counted.
pub const STEPS: [Step; 10] = [
    ("send, held and committed", send),
    ("send on a stream of one's own", send_own),
    ("send by a sole sender", send_sole),
    ("claim, filled and committed", claim),
    ("frame found", frame),
    ("message through the pump", pump),
    ("message of a batch, handed out", batch),
    ("turn that finds nothing", idle_turn),
    ("turn with a message echoed", echo),
    ("message echoed, of one of a thousand sessions", echo_of_many),
];

/// A send path of one session, whose engine is awake.
fn path() -> (SendPath, Told) {
    let (region, mut cutter) = Region::new(RING + HELLO_FRAME).expect("a small region");
    let bell = Arc::new(Doorbell::new(1));
    bell.connect(Waker::new(|| {}));
    let (ring, greeting) = (Ring::new(region.clone(), cutter.cut(RING)), cutter.cut(HELLO_FRAME));
    let path = SendPath::new(ring, greeting, bell, 0, MESSAGE.len());
    path.open(ID.generation);
    (path, Told::new(region, 1).expect("it needs nothing"))
}

fn send(times: usize) {
    let (path, _) = path();
    for _ in 0..times {
        path.try_send(ID.generation, black_box(&MESSAGE)).expect("there is room");
    }
}

fn send_own(times: usize) {
    let (path, _) = path();
    path.watch(true);
    let send = || path.try_send(ID.generation, black_box(&MESSAGE)).expect("there is room");
    // Until the ring is this thread's own, and a message more in each run.
    (0..2000).for_each(|_| send());
    (0..times).for_each(|_| send());
}

fn send_sole(times: usize) {
    let ((path, _), mut sole) = (path(), Sole::new());
    for _ in 0..times {
        path.try_send_sole(&mut sole, black_box(&MESSAGE)).expect("there is room");
    }
}

fn claim(times: usize) {
    let (path, _) = path();
    for _ in 0..times {
        let mut claim = path.try_claim(ID.generation, MESSAGE.len()).expect("there is room");
        claim.copy_from_slice(black_box(&MESSAGE));
        claim.commit().expect("it is open");
    }
}

fn frame(times: usize) {
    let bytes = frame_of(&MESSAGE).repeat(times);
    let mut framer = Framer::new(black_box(&bytes), MESSAGE.len() as u32);
    while let Some(message) = framer.next().expect("each is in order") {
        black_box(message);
    }
    assert_eq!(framer.framed(), bytes.len());
}

fn pump(times: usize) {
    let ((path, mut driver), mut sole) = (path(), Sole::new());
    for _ in 0..times {
        path.try_send_sole(&mut sole, black_box(&MESSAGE)).expect("there is room");
        path.pump(ID, &mut driver, false).expect("the connection lives");
        let (_, span) = driver.sends[0].take().expect("it was asked for");
        let all = span.len();
        path.sent(span, Ok(all)).expect("the connection lives");
    }
}

/// Sends back what comes, or hears it and does nothing.
struct Echo(bool);

impl Handler for Echo {
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if self.0 {
            peer.send(message).expect("there is room");
        }
        black_box(message);
    }
}

fn clock() -> Time {
    Time::from_nanos(told::nanos())
}

/// A server's polled engine with so many sessions.
fn server(echoes: bool, sessions: usize) -> (Engine<Told, Echo>, Arc<Region>) {
    let config = Config { sessions_max: sessions, ..Config::default() };
    let memory = Shared::new(&config, Clock::System(clock)).expect("a small region");
    let region = memory.1.clone();
    let directory = Arc::new(Directory::new(vec![memory.0.clone()], &config));
    let role = Role::Server(ServerRole { directory, engine: 0, same_id: config.same_id });
    let slots = config.slots_per_engine();
    let driver = Told::new(region.clone(), slots).expect("it needs nothing");
    let inboxes = inboxes(1, slots);
    let mut engine = Engine::new(&config, driver, Echo(echoes), role, memory, inboxes, Some(Sole::new()));
    engine.listen((Ipv4Addr::LOCALHOST, 0).into()).expect("it is no network");
    for index in 0..sessions {
        assert!(engine.kernels_view().0.accepts((Ipv4Addr::LOCALHOST, 1).into()));
        turn(&mut engine);
        receive(&mut engine, &region, index, &frame_of(format!("peer {index}").as_bytes()), 1);
        turn(&mut engine);
        take(&mut engine, index);
        turn(&mut engine);
    }
    (engine, region)
}

fn turn(engine: &mut Engine<Told, Echo>) {
    engine.turn(clock()).expect("the driver does not fail");
}

fn frame_of(message: &[u8]) -> Vec<u8> {
    [&wire::header(message.len() as u32)[..], message].concat()
}

/// The kernel brings a session so many times these bytes. Piece by piece: a long copy would be the C library's, which takes
/// another way on another processor.
fn receive(engine: &mut Engine<Told, Echo>, region: &Region, index: usize, piece: &[u8], times: usize) {
    let driver = engine.kernels_view().0;
    let (id, mut room) = driver.rooms[index].take().expect("it is asked for");
    for place in region.bytes_mut(&mut room).chunks_exact_mut(piece.len()).take(times) {
        place.copy_from_slice(piece);
    }
    driver.completions.push_back(Completion::Received(id, room, Ok(times * piece.len())));
}

/// The kernel takes all that it was given of a session.
fn take(engine: &mut Engine<Told, Echo>, index: usize) {
    let driver = engine.kernels_view().0;
    let (id, span) = driver.sends[index].take().expect("it was asked for");
    let all = span.len();
    driver.completions.push_back(Completion::Sent(id, span, Ok(all)));
}

fn idle_turn(times: usize) {
    let (mut engine, _) = server(true, 1);
    for _ in 0..times {
        turn(&mut engine);
    }
}

fn batch(times: usize) {
    let ((mut engine, region), frame) = (server(false, 1), frame_of(&MESSAGE));
    for _ in 0..times / 1000 {
        receive(&mut engine, &region, 0, black_box(&frame), 1000);
        turn(&mut engine);
    }
}

fn echo(times: usize) {
    let ((mut engine, region), frame) = (server(true, 1), frame_of(&MESSAGE));
    for _ in 0..times {
        receive(&mut engine, &region, 0, black_box(&frame), 1);
        turn(&mut engine);
        take(&mut engine, 0);
    }
}

/// A turn has 25 of them, each time others. All that the sessions are made of is more than a core's caches have: for a program
/// that counts lines of these.
fn echo_of_many(times: usize) {
    let ((mut engine, region), frame) = (server(true, 1000), frame_of(&MESSAGE));
    for first in (0..times).step_by(25) {
        let some = (first..first + 25).map(|number| number % 1000);
        for index in some.clone() {
            receive(&mut engine, &region, index, black_box(&frame), 1);
        }
        turn(&mut engine);
        some.for_each(|index| take(&mut engine, index));
    }
}
