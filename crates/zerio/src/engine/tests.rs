//! Deadlines and streams, with a driver that does what it is told and a clock that a handler moves.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::driver::Waker;
use crate::driver::told::{self, Told, pass};
use crate::error::{Disconnection, RefusalCode, Rejection};
use crate::session::directory::Directory;
use crate::session::inbox::inboxes;
use crate::time::Clock;
use crate::wire;

fn clock() -> Time {
    Time::from_nanos(told::nanos())
}

/// As long as each deadline here; a slow handler takes twice as long.
const LIMIT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

impl Told {
    /// The kernel takes all of what it was given to send.
    fn takes_all(&mut self, index: usize) {
        self.takes(index, |all| all);
    }

    /// A connection comes.
    fn connects(&mut self) {
        assert!(self.accepts((Ipv4Addr::LOCALHOST, 1).into()));
    }
}

/// A handler that takes twice as long as any deadline over each message, and then does what it says.
#[derive(Default)]
struct Slow {
    heard: Vec<Vec<u8>>,
    /// What is to happen when it hears of an end.
    panics: bool,
    ended: Vec<Reason>,
    rejected: Vec<Rejection>,
}

impl Handler for Slow {
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        pass(2 * LIMIT);
        self.heard.push(message.to_vec());
        match message {
            b"disconnect" => peer.disconnect(),
            b"fill" => while peer.send(&[0; 1000]).is_ok() {},
            b"pass it on" => peer.send_to("69", b"on").unwrap(),
            [b'!', ..] => peer.send(message).unwrap(),
            _ => {}
        }
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, why: &Disconnection) {
        self.ended.push(why.reason);
        assert!(!self.panics, "on purpose");
    }

    fn on_rejected(&mut self, _: SocketAddr, why: &Rejection) {
        self.rejected.push(*why);
    }
}

/// A server's engine with one session, in slot 0.
fn server() -> Engine<Told, Slow> {
    server_of(1, Waker::new(|| {}))
}

/// A server's engine with so many sessions, in the first slots.
fn server_of(sessions: u8, waker: Waker) -> Engine<Told, Slow> {
    server_with(Config::default(), sessions, waker)
}

fn server_with(config: Config, sessions: u8, waker: Waker) -> Engine<Told, Slow> {
    server_for(config, sessions, waker, None)
}

fn server_for(mut config: Config, sessions: u8, waker: Waker, sole: Option<Sole>) -> Engine<Told, Slow> {
    (config.message_max, config.send_ring, config.receive_buffer) = (1000, 8192, 8192);
    config.sessions_max = usize::from(sessions).max(16);
    config.handshake_timeout = LIMIT;
    config.drain_timeout = LIMIT;
    config.slow_peer_timeout = Some(LIMIT);
    let memory = Shared::new(&config, Clock::System(clock)).unwrap();
    let directory = Arc::new(Directory::new(vec![memory.0.clone()], &config));
    let role = ServerRole { directory, engine: 0, same_id: config.same_id };
    let slots = config.slots_per_engine();
    let mut driver = Told::new(memory.1.clone(), slots).unwrap();
    driver.waker = waker;
    let (role, inboxes) = (Role::Server(role), inboxes(1, slots));
    let mut engine = Engine::new(&config, driver, Slow::default(), role, memory, inboxes, sole);
    engine.listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    for session in 0..sessions {
        let index = usize::from(session);
        engine.driver.connects();
        engine.turn(clock()).unwrap();
        // The first has a letter for its id, as the tests of one session say it.
        let id = if session == 0 { "a".to_owned() } else { session.to_string() };
        engine.driver.receives(index, &frame(id.as_bytes()));
        engine.turn(clock()).unwrap();
        engine.driver.takes_all(index);
        engine.turn(clock()).unwrap();
        assert_eq!(engine.core.table.sessions[index].state, State::Open);
    }
    engine
}

/// Unix alone has connected pairs of sockets without further ado.
#[cfg(unix)]
#[test]
fn from_batch_from_sessions_on_the_driver_is_given_all_that_is_to_be_sent() {
    use std::os::unix::net::UnixStream;

    use crate::driver::Direct;
    for (batch_from, driver_sends) in [(3, true), (4, false), (1, true), (usize::MAX, false)] {
        let config = Config { batch_from, ..Config::default() };
        let mut engine = server_with(config, 3, Waker::new(|| {}));
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        for ((ours, _), slot) in pairs.iter().zip(&engine.core.shared.slots) {
            slot.send.connect(Some(Direct::new(ours)), 1);
            slot.send.try_send(1, b"hello").unwrap();
        }
        engine.turn(clock()).unwrap();
        for (index, (_, theirs)) in pairs.iter().enumerate() {
            theirs.set_nonblocking(true).unwrap();
            let sent_directly = std::io::Read::read(&mut &*theirs, &mut [0; 99]).is_ok();
            assert_eq!(sent_directly, !driver_sends, "batch_from = {batch_from}, session {index}");
            if driver_sends {
                assert_eq!(engine.driver.takes(index, |all| all), frame(b"hello"));
            }
            engine.core.shared.slots[index].send.disconnect();
        }
    }
}

#[cfg(unix)]
#[test]
fn answers_went_out_in_the_order_of_slots_and_not_in_that_of_what_they_answer() {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use crate::driver::Direct;
    for sole in [None, Some(Sole::new())] {
        let mut engine = server_for(Config::default(), 70, Waker::new(|| {}), sole);
        let order = [66, 2, 1, 65, 3];
        // One stream for all of them tells what goes first.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        for index in order {
            engine.core.shared.slots[index].send.connect(Some(Direct::new(&ours)), 1);
            engine.driver.receives(index, &frame(format!("! {index}").as_bytes()));
        }
        engine.turn(clock()).unwrap();
        let all: Vec<u8> = order.iter().flat_map(|index| frame(format!("! {index}").as_bytes())).collect();
        let mut sent = vec![0; all.len()];
        theirs.read_exact(&mut sent).unwrap();
        assert_eq!(sent, all);
        for index in order {
            engine.core.shared.slots[index].send.disconnect();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_message_to_a_session_of_a_later_word_of_marks_lay_in_the_ring_until_the_next_came() {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use crate::driver::Direct;
    let mut engine = server_for(Config::default(), 70, Waker::new(|| {}), Some(Sole::new()));
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    engine.core.shared.slots[69].send.connect(Some(Direct::new(&ours)), 1);
    let ask = |engine: &Engine<Told, Slow>, set, clear| {
        assert!(engine.core.shared.slots[5].requests.change(1, set, clear));
        engine.core.shared.bell.ring(5);
    };
    ask(&engine, request::PAUSE, 0);
    engine.turn(clock()).unwrap();
    engine.driver.receives(5, &frame(b"pass it on"));
    engine.turn(clock()).unwrap();
    // In the turn that serves the one of the first word, its handler marks the one of the second; another handler's
    // message comes to that, and in the next turn another, which is to be marked anew.
    ask(&engine, 0, request::PAUSE);
    engine.driver.receives(6, &frame(b"pass it on"));
    engine.turn(clock()).unwrap();
    engine.driver.receives(6, &frame(b"pass it on"));
    engine.turn(clock()).unwrap();
    let mut sent = [0; 99];
    let len = theirs.read(&mut sent).unwrap();
    assert_eq!(sent[..len], frame(b"on").repeat(3));
    engine.core.shared.slots[69].send.disconnect();
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&wire::header(message.len() as u32)[..], message].concat()
}

#[test]
fn a_client_goes_through_any_number_of_addresses_that_fail_at_once() {
    let config = Config::default().for_client();
    let memory = Shared::new(&config, Clock::System(clock)).unwrap();
    let addresses: Vec<SocketAddr> =
        (0..200_000).map(|number: u32| (number.to_be_bytes(), 7000).into()).collect();
    let last = addresses.last().copied().unwrap();
    let role = Role::Client(ClientRole::new(PeerId::new("a").unwrap(), addresses));
    let driver = Told::new(memory.1.clone(), config.slots_per_engine()).unwrap();
    let mut engine = Engine::new(&config, driver, Slow::default(), role, memory, inboxes(1, 0), None);
    engine.connect(clock());
    let (address, outcome) = engine.core.take_outcome().expect("none is left");
    assert!(matches!(outcome, Err(Failure::Connect(_))) && address == last);
    assert!(engine.is_finished());
}

#[test]
fn a_slow_handler_used_up_the_handshake_time_of_a_connection_that_came_in_the_same_turn() {
    let mut engine = server();
    engine.driver.receives(0, &frame(b"take your time"));
    engine.driver.connects();
    engine.turn(clock()).unwrap();
    // Just before its time is over, and when it is.
    pass(LIMIT - TICK);
    engine.turn(clock()).unwrap();
    assert_eq!(engine.core.table.sessions[1].state, State::Handshaking);
    pass(TICK);
    engine.turn(clock()).unwrap();
    assert_eq!(engine.core.table.sessions[1].refusal, Some(RefusalCode::TooLate));
}

#[test]
fn a_slow_handler_used_up_the_drain_time_of_the_session_that_it_disconnected() {
    let mut engine = server();
    engine.driver.receives(0, &frame(b"disconnect"));
    engine.turn(clock()).unwrap();
    pass(LIMIT - TICK);
    engine.turn(clock()).unwrap();
    assert_eq!(engine.core.table.sessions[0].state, State::Draining);
    pass(TICK);
    engine.turn(clock()).unwrap();
    engine.turn(clock()).unwrap();
    assert_eq!(engine.handler.ended, [Reason::Disconnected]);
}

#[test]
fn a_slow_handler_made_its_peer_a_slow_peer_at_once() {
    let mut engine = server();
    engine.driver.receives(0, &frame(b"fill"));
    engine.turn(clock()).unwrap();
    pass(LIMIT - TICK);
    engine.turn(clock()).unwrap();
    assert_eq!(engine.core.table.sessions[0].state, State::Open);
    pass(TICK);
    engine.turn(clock()).unwrap();
    engine.turn(clock()).unwrap();
    assert_eq!(engine.handler.ended, [Reason::SlowPeer]);
}

#[test]
fn a_peer_that_reads_just_in_time_again_and_again_is_not_cut_and_one_that_does_not_is() {
    let mut engine = server();
    for _ in 0..3 {
        engine.driver.receives(0, &frame(b"fill"));
        engine.turn(clock()).unwrap();
        assert!(engine.core.shared.slots[0].send.stuck().is_some(), "it is full");
        pass(LIMIT - TICK);
        engine.turn(clock()).unwrap();
        while engine.driver.sends[0].is_some() {
            engine.driver.takes_all(0);
            engine.turn(clock()).unwrap();
        }
        pass(LIMIT);
        engine.turn(clock()).unwrap();
        assert_eq!(engine.core.table.sessions[0].state, State::Open);
    }
    engine.driver.receives(0, &frame(b"fill"));
    engine.turn(clock()).unwrap();
    // A peer that takes next to nothing has not read in time.
    engine.driver.takes(0, |_| 1);
    engine.turn(clock()).unwrap();
    pass(LIMIT);
    engine.turn(clock()).unwrap();
    engine.turn(clock()).unwrap();
    assert_eq!(engine.handler.ended, [Reason::SlowPeer]);
}

mod ends;
#[cfg(loom)]
mod models;
mod streams;
