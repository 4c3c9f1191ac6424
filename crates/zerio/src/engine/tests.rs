//! Deadlines and streams, with a driver that does what it is told and a clock that a handler moves.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::net::Ipv4Addr;

use super::*;
use crate::driver::{Direct, Waker};
use crate::error::{Disconnection, Rejection};
use crate::region::Span;
use crate::session::inbox::inboxes;
use crate::time::Clock;
use crate::wire;

thread_local! {
    static CLOCK: Cell<Time> = const { Cell::new(Time::from_nanos(1_000_000_000)) };
}

fn clock() -> Time {
    CLOCK.get()
}

fn pass(time: Duration) {
    CLOCK.set(clock().after(time));
}

/// As long as each deadline here; a slow handler takes twice as long.
const LIMIT: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_nanos(1);

/// A driver whose kernel is the test.
struct Told {
    region: Arc<Region>,
    completions: VecDeque<Completion<()>>,
    /// What it was given to receive into, by slot.
    rooms: Vec<Option<(SlotId, Span)>>,
    /// What it was given to send and keeps, by slot.
    sends: Vec<Option<(SlotId, Span)>>,
    waker: Waker,
    /// What it does where it is to wait and nothing has happened.
    sleep: Box<dyn FnMut()>,
}

impl Told {
    fn receives(&mut self, index: usize, bytes: &[u8]) {
        let (id, mut room) = self.rooms[index].take().expect("a receive is in flight");
        self.region.bytes_mut(&mut room)[..bytes.len()].copy_from_slice(bytes);
        self.completions.push_back(Completion::Received(id, room, Ok(bytes.len())));
    }

    /// The kernel takes all of what it was given to send.
    fn takes(&mut self, index: usize) {
        if let Some((id, span)) = self.sends[index].take() {
            let len = span.len();
            self.completions.push_back(Completion::Sent(id, span, Ok(len)));
        }
    }

    /// A connection comes.
    fn accepts(&mut self) {
        self.completions.push_back(Completion::Accepted(Ok(((), (Ipv4Addr::LOCALHOST, 1).into()))));
    }
}

impl Driver for Told {
    type Socket = ();

    const NAME: &'static str = "told";
    const BATCHES: bool = false;

    fn new(region: Arc<Region>, slots: usize) -> io::Result<Told> {
        let none = || (0..slots).map(|_| None).collect();
        let (waker, sleep) = (Waker::new(|| {}), Box::new(|| {}));
        Ok(Told { region, completions: VecDeque::new(), rooms: none(), sends: none(), waker, sleep })
    }

    fn listen(&mut self, (): ()) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self) {}

    fn stop_listening(&mut self) {}

    fn connect(&mut self, _: SlotId, _: SocketAddr, _: &Options) -> io::Result<()> {
        unreachable!("a server's driver")
    }

    fn adopt(&mut self, _: SlotId, (): (), _: &Options) -> io::Result<()> {
        Ok(())
    }

    fn refuse(&mut self, (): (), _: &[u8]) {}

    fn direct(&self, _: SlotId) -> Option<Direct> {
        None
    }

    fn receive(&mut self, id: SlotId, span: Span) {
        self.rooms[id.index as usize] = Some((id, span));
    }

    fn send(&mut self, id: SlotId, span: Span) {
        self.sends[id.index as usize] = Some((id, span));
    }

    fn shut_down(&mut self, _: SlotId) {}

    fn close(&mut self, id: SlotId) {
        let index = id.index as usize;
        let aborted = || io::Error::from(io::ErrorKind::ConnectionAborted);
        if let Some((id, span)) = self.rooms[index].take() {
            self.completions.push_back(Completion::Received(id, span, Err(aborted())));
        }
        if let Some((id, span)) = self.sends[index].take() {
            self.completions.push_back(Completion::Sent(id, span, Err(aborted())));
        }
        self.completions.push_back(Completion::Closed(id));
    }

    fn turn(&mut self, wait: Duration, done: &mut Vec<Completion<()>>) -> io::Result<()> {
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

/// A handler that takes twice as long as any deadline over each message, and then does what it says.
#[derive(Default)]
struct Slow {
    ended: Vec<Reason>,
    rejected: Vec<Rejection>,
}

impl Handler for Slow {
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        pass(2 * LIMIT);
        match message {
            b"disconnect" => peer.disconnect(),
            b"fill" => while peer.send(&[0; 1000]).is_ok() {},
            _ => {}
        }
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, why: &Disconnection) {
        self.ended.push(why.reason);
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
    let mut config = Config::default();
    (config.message_max, config.send_ring, config.receive_buffer) = (1000, 8192, 8192);
    config.sessions_max = 16;
    config.handshake_timeout = LIMIT;
    config.drain_timeout = LIMIT;
    config.slow_peer_timeout = Some(LIMIT);
    let memory = Shared::new(&config, Clock::System(clock)).unwrap();
    let directory = Arc::new(Directory::new(vec![memory.0.clone()], config.sessions_max));
    let role =
        ServerRole { directory, engine: 0, same_id: config.same_id, sessions_max: config.sessions_max };
    let slots = config.slots_per_engine();
    let mut driver = Told::new(memory.1.clone(), slots).unwrap();
    driver.waker = waker;
    let (role, inboxes) = (Role::Server(role), inboxes(1, slots));
    let mut engine = Engine::new(&config, driver, Slow::default(), role, memory, inboxes, None);
    for session in 0..sessions {
        let index = usize::from(session);
        engine.driver.accepts();
        engine.turn(clock()).unwrap();
        engine.driver.receives(index, &frame(&[b'a' + session]));
        engine.turn(clock()).unwrap();
        engine.driver.takes(index);
        engine.turn(clock()).unwrap();
        assert_eq!(engine.core.table.sessions[index].state, State::Open);
    }
    engine
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&wire::header(message.len() as u32)[..], message].concat()
}

#[test]
fn a_slow_handler_used_up_the_handshake_time_of_a_connection_that_came_in_the_same_turn() {
    let mut engine = server();
    engine.driver.receives(0, &frame(b"take your time"));
    engine.driver.accepts();
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

#[cfg(loom)]
mod models;
mod streams;
