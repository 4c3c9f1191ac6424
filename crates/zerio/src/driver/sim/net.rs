//! A simulated network: listeners, connections of two byte pipes each, and the events that are to come, in the
//! order of their time and number. It has no thread: whoever drives it takes one event after the other
//! ([`Net::next`]), and time jumps from one to the next.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::faults::Faults;
use super::pipe::Pipe;
use super::random::Random;
use super::whose::Others;
use crate::cursor::Cursor;

mod cut;
mod listening;
mod seen;

use seen::Befallen;

/// So many connections wait at a listener to be accepted.
const BACKLOG: usize = 16;

/// One side of a connection: 0 is the side that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) connection: u32,
    pub(crate) side: usize,
}

impl End {
    pub(crate) fn other(self) -> End {
        End { side: 1 - self.side, ..self }
    }
}

/// A network, for all who are on it.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<State>>,
    /// Its time, in nanoseconds, for clocks.
    hand: Arc<Cursor>,
}

struct State {
    now: u64,
    number: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    connections: Vec<Connection>,
    listeners: Vec<Listener>,
    /// How many drivers there are.
    drivers: usize,
    /// Drivers for which something may have happened.
    roused: Vec<usize>,
    random: Random,
    faults: Faults,
    /// Somebody takes the events one by one. Otherwise whoever waits lets time go on.
    driven: bool,
    misuse: Option<String>,
    /// How often each kind of fault has happened.
    happened: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The wish to connect reaches the listener.
    Asked { connection: u32 },
    /// The answer reaches who connects.
    Answered { connection: u32, accepted: bool },
    /// Bytes up to a position of the pipe reach an end, and with `last` the other side's end.
    Arrived { at: End, upto: u64, last: bool },
    /// A reset reaches an end.
    Reset { at: End },
    /// An end's peer has had no room since then.
    NoRoom { at: End, since: u64 },
    /// An end's system gives a connection up, of which it has heard nothing for long.
    GivenUp { at: End },
    /// A driver has something to look at.
    Rouse { driver: usize },
    /// What whoever drives the network has asked for.
    Alarm { token: u64 },
}

/// What an event was, as far as whoever drives the network has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// Something on the network.
    Traffic,
    /// An alarm that was asked for.
    Alarm(u64),
}

struct Connection {
    to: SocketAddr,
    sides: [Side; 2],
    /// From each side to the other.
    pipes: [Pipe; 2],
    /// Neither a reset nor its driver's failure to take it has ended it early.
    whole: bool,
    /// Its link is cut for good.
    severed: bool,
}

#[derive(Debug)]
struct Side {
    phase: Phase,
    /// Whose socket it is.
    driver: Option<usize>,
    /// What its driver waits for.
    waits: Waits,
    /// The system has ended it, and tells this reason.
    lost: Option<ErrorKind>,
    /// Its system was told to have patience with a peer that has no room.
    patient: bool,
    befallen: Befallen,
}

/// What a driver waits for on one of its sockets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waits {
    pub(crate) to_connect: bool,
    pub(crate) to_receive: bool,
    pub(crate) to_send: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has answered yet.
    Connecting,
    /// It was refused.
    Refused,
    Open,
    Closed,
}

struct Listener {
    address: SocketAddr,
    driver: Option<usize>,
    open: bool,
    /// It answers nobody.
    silent: bool,
    /// Its driver waits for a connection.
    waits: bool,
    backlog: VecDeque<u32>,
    /// Accepts that have failed.
    errors: u64,
}

impl Net {
    /// A network with nobody on it. `driven` tells that somebody takes its events one by one; otherwise its time
    /// goes on whenever somebody waits.
    pub(crate) fn new(seed: u64, faults: Faults, driven: bool) -> Net {
        let state = State {
            now: 0,
            number: 0,
            events: BinaryHeap::new(),
            connections: Vec::new(),
            listeners: Vec::new(),
            drivers: 0,
            roused: Vec::new(),
            random: Random::new(seed),
            faults,
            driven,
            misuse: None,
            happened: BTreeMap::new(),
        };
        Net { state: Arc::new(Mutex::new(state)), hand: Arc::new(Cursor::new(0)) }
    }

    /// This thread's own network: nobody drives it, nothing goes wrong, and bytes take no time.
    pub(crate) fn here() -> Net {
        thread_local! {
            static HERE: Net = Net::new(0, Faults { latency: Duration::ZERO, ..Faults::none() }, false);
        }
        HERE.with(Net::clone)
    }

    /// What is done with it is the kernel's doing, which allocates as it likes.
    fn state(&self) -> Others<MutexGuard<'_, State>> {
        Others::of(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    // For whoever drives it.

    /// Its time, in nanoseconds.
    pub(crate) fn now(&self) -> u64 {
        self.hand.own()
    }

    /// What shows its time.
    pub(crate) fn hand(&self) -> Arc<Cursor> {
        self.hand.clone()
    }

    pub(crate) fn is_driven(&self) -> bool {
        self.state().driven
    }

    /// When the next event is.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.state().events.peek().map(|Reverse((at, ..))| *at)
    }

    /// Lets the next event happen.
    pub(crate) fn next(&self) -> Option<Happened> {
        let state = &mut *self.state();
        let Reverse((at, _, event)) = state.events.pop()?;
        state.now = at;
        self.hand.set(at);
        Some(state.happen(event))
    }

    /// Nothing happens until then.
    pub(crate) fn rest_until(&self, at: u64) {
        let mut state = self.state();
        state.now = state.now.max(at);
        self.hand.set(state.now);
    }

    /// Asks for an alarm.
    pub(crate) fn alarm(&self, at: u64, token: u64) {
        self.state().plan(at, Event::Alarm { token });
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(crate) fn with_faults<T>(&self, draw: impl FnOnce(&Faults, &mut Random) -> T) -> T {
        let state = &mut *self.state();
        draw(&state.faults, &mut state.random)
    }

    /// A driver for which something may have happened since it was last given here.
    pub(crate) fn take_roused(&self) -> Option<usize> {
        self.state().roused.pop()
    }

    // Drivers.

    pub(crate) fn enter(&self) -> usize {
        let mut state = self.state();
        state.drivers += 1;
        state.drivers - 1
    }

    pub(crate) fn rouse(&self, driver: usize) {
        self.state().rouse_driver(driver);
    }

    pub(crate) fn rouse_at(&self, at: u64, driver: usize) {
        self.state().plan(at, Event::Rouse { driver });
    }

    // Connections.

    /// Begins to connect.
    pub(crate) fn connect(&self, to: SocketAddr) -> End {
        let state = &mut *self.state();
        let connection = state.connections.len() as u32;
        let room = state.faults.room;
        state.connections.push(Connection {
            to,
            sides: [Side::new(Phase::Connecting), Side::new(Phase::Open)],
            pipes: [Pipe::new(room), Pipe::new(room)],
            whole: true,
            severed: false,
        });
        let at = state.now + state.latency();
        state.plan(at, Event::Asked { connection });
        End { connection, side: 0 }
    }

    /// Whose socket it is.
    pub(crate) fn own(&self, end: End, driver: usize) {
        let state = &mut *self.state();
        let now = state.now;
        let side = state.side(end);
        (side.driver, side.befallen.taken_at) = (Some(driver), Some(now));
    }

    /// Its driver can't take it.
    pub(crate) fn spoil(&self, end: End) {
        self.state().connections[end.connection as usize].whole = false;
    }

    /// What its driver waits for.
    pub(crate) fn wait(&self, end: End, waits: Waits) {
        self.state().side(end).waits = waits;
    }

    /// What the attempt to connect came to, `None` while it goes on.
    pub(crate) fn connected(&self, end: End) -> Option<io::Result<()>> {
        match self.state().side(end).phase {
            Phase::Connecting => None,
            Phase::Refused => Some(Err(ErrorKind::ConnectionRefused.into())),
            Phase::Open | Phase::Closed => Some(Ok(())),
        }
    }

    /// Takes bytes that have arrived; `WouldBlock` where there are none.
    pub(crate) fn read(&self, end: End, into: &mut [u8]) -> io::Result<usize> {
        let state = &mut *self.state();
        if let Some(error) = state.find_misuse(end, "received on") {
            return Err(error);
        }
        let connection = &mut state.connections[end.connection as usize];
        let pipe = &mut connection.pipes[1 - end.side];
        let most = pipe.readable().min(into.len());
        if most == 0 {
            return match (connection.sides[end.side].lost, pipe.has_ended()) {
                (Some(kind), _) => Err(kind.into()),
                (None, true) => Ok(0),
                (None, false) => Err(ErrorKind::WouldBlock.into()),
            };
        }
        let short = state.strikes("short receive", state.faults.short_receives);
        let connection = &mut state.connections[end.connection as usize];
        let pipe = &mut connection.pipes[1 - end.side];
        let bytes = if short { state.random.of_any_size(1, most as u64) as usize } else { most };
        pipe.read(&mut into[..bytes]);
        let writer = &connection.sides[1 - end.side];
        if let (true, Some(driver)) = (writer.waits.to_send, writer.driver) {
            let at = state.now + state.latency();
            state.plan(at, Event::Rouse { driver });
        }
        Ok(bytes)
    }

    /// Sends as many bytes as there is room for; `WouldBlock` where there is none.
    pub(crate) fn write(&self, end: End, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.state();
        if let Some(error) = state.find_misuse(end, "sent on") {
            return Err(error);
        }
        let connection = &mut state.connections[end.connection as usize];
        let deaf = connection.sides[1 - end.side].phase == Phase::Closed;
        let (side, pipe) = (&mut connection.sides[end.side], &mut connection.pipes[end.side]);
        let failure = match side.phase {
            Phase::Refused => Some(ErrorKind::NotConnected),
            _ if side.lost.is_some() => side.lost,
            _ => pipe.shut_since().map(|_| ErrorKind::BrokenPipe),
        };
        if let Some(kind) = failure {
            side.befallen.failed_at.get_or_insert(state.now);
            return Err(kind.into());
        }
        let most = pipe.room().min(bytes.len());
        if most == 0 {
            state.find_no_room(end);
            return Err(ErrorKind::WouldBlock.into());
        }
        let short = state.strikes("short send", state.faults.short_sends);
        let pipe = &mut state.connections[end.connection as usize].pipes[end.side];
        let taken = if short { state.random.of_any_size(1, most as u64) as usize } else { most };
        if deaf {
            pipe.lose(&bytes[..taken])
        } else {
            pipe.write(&bytes[..taken])
        }
        let upto = pipe.sent();
        state.deliver(end.other(), upto, false);
        if state.strikes("half close", state.faults.half_closes) {
            state.side(end).befallen.cut = true;
            state.shut(end);
        }
        Ok(taken)
    }

    /// Sends nothing more.
    pub(crate) fn shut_down(&self, end: End) {
        let state = &mut *self.state();
        if state.side(end).phase == Phase::Open && state.side(end).lost.is_none() {
            state.shut(end);
        }
    }

    /// Closes a socket; with `reset`, whatever is on its way is lost.
    pub(crate) fn close(&self, end: End, reset: bool) {
        self.state().close(end, reset);
    }

    /// Whether all that one side has sent was received, and whether the other side has room; `None` after a reset.
    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "only Linux is asked how a peer takes what is sent")
    )]
    pub(crate) fn is_settled(&self, end: End) -> Option<(bool, bool)> {
        let connection = &self.state().connections[end.connection as usize];
        let pipe = &connection.pipes[end.side];
        connection.sides[end.side].lost.is_none().then(|| (pipe.is_empty(), pipe.room() > 0))
    }
}

impl Side {
    fn new(phase: Phase) -> Side {
        Side {
            phase,
            driver: None,
            waits: Waits::default(),
            lost: None,
            patient: false,
            befallen: Befallen::default(),
        }
    }
}

impl State {
    fn side(&mut self, end: End) -> &mut Side {
        &mut self.connections[end.connection as usize].sides[end.side]
    }

    fn plan(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((at.max(self.now), self.number, event)));
    }

    fn latency(&mut self) -> u64 {
        match self.faults.latency.as_nanos() as u64 {
            0 => 0,
            most => self.random.of_any_size(most.div_ceil(16), most),
        }
    }

    /// Nobody may touch a socket that was closed: another connection could have its number by then.
    fn find_misuse(&mut self, end: End, what: &str) -> Option<io::Error> {
        if self.side(end).phase != Phase::Closed {
            return None;
        }
        self.misuse.get_or_insert(format!("somebody {what} a socket after it was closed: {end:?}"));
        Some(ErrorKind::InvalidInput.into())
    }

    fn happen(&mut self, event: Event) -> Happened {
        match event {
            Event::Asked { connection } => self.asked(connection),
            Event::Answered { connection, accepted } => {
                let side = &mut self.connections[connection as usize].sides[0];
                if side.phase == Phase::Connecting {
                    side.phase = if accepted { Phase::Open } else { Phase::Refused };
                    self.rouse(End { connection, side: 0 }, |waits| waits.to_connect);
                }
            }
            Event::Arrived { at, upto, last } => self.arrived(at, upto, last),
            Event::Reset { at } => self.reset(at),
            Event::NoRoom { at, since } => self.no_room(at, since),
            Event::GivenUp { at } => self.give_up(at),
            Event::Rouse { driver } => self.rouse_driver(driver),
            Event::Alarm { token } => return Happened::Alarm(token),
        }
        Happened::Traffic
    }

    fn asked(&mut self, connection: u32) {
        let Connection { to, sides, .. } = &self.connections[connection as usize];
        let (to, gone) = (*to, sides[0].phase == Phase::Closed);
        let refused = self.strikes("refusal", self.faults.refusals);
        let lost = self.strikes("silence", self.faults.silences);
        let listener = self.listeners.iter_mut().find(|listener| listener.open && listener.address == to);
        let accepted = match listener {
            _ if gone => return,
            Some(_) if refused => false,
            None => false,
            Some(listener) if lost || listener.silent || listener.backlog.len() == BACKLOG => return,
            Some(listener) => {
                listener.backlog.push_back(connection);
                if let (true, Some(driver)) = (listener.waits, listener.driver) {
                    self.rouse_driver(driver);
                }
                true
            }
        };
        let at = self.now + self.latency();
        // What the other side sends does not overtake its answer.
        self.connections[connection as usize].pipes[1].arrive_after(at);
        self.plan(at, Event::Answered { connection, accepted });
    }

    /// Plans the arrival of what a pipe has got.
    fn deliver(&mut self, at: End, upto: u64, last: bool) {
        self.may_cut(at.connection);
        let time = self.now + self.latency();
        let time = self.connections[at.connection as usize].pipes[1 - at.side].arrive_after(time);
        self.plan(time, Event::Arrived { at, upto, last });
    }

    fn arrived(&mut self, at: End, upto: u64, last: bool) {
        let reset = !last && self.strikes("reset", self.faults.resets);
        let connection = &mut self.connections[at.connection as usize];
        let (own, pipe) = (&connection.sides[at.side], &mut connection.pipes[1 - at.side]);
        if connection.severed {
            return;
        }
        if own.phase == Phase::Closed {
            // Nobody is there to hear it: the answer is a reset.
            if !last && connection.sides[1 - at.side].lost.is_none() {
                connection.whole = false;
                let time = self.now + self.latency();
                self.plan(time, Event::Reset { at: at.other() });
            }
            return;
        }
        if own.lost.is_some() {
            return;
        }
        let upto = if reset { self.random.between(pipe.arrived(), upto) } else { upto };
        pipe.arrive(upto, last);
        if reset {
            connection.whole = false;
            self.reset(at);
            self.reset(at.other());
        } else {
            self.rouse(at, |waits| waits.to_receive);
        }
    }

    fn reset(&mut self, at: End) {
        // Some systems let a program have what had come before the reset, some do not.
        let keeps = self.random.happens(500);
        let severed = self.connections[at.connection as usize].severed;
        if !severed && self.lose(at, ErrorKind::ConnectionReset, keeps) {
            self.connections[at.connection as usize].whole = false;
        }
    }

    /// An end's system ends a connection, unless it has ended.
    fn lose(&mut self, at: End, kind: ErrorKind, keeps: bool) -> bool {
        let connection = &mut self.connections[at.connection as usize];
        let side = &mut connection.sides[at.side];
        if side.phase == Phase::Closed || side.lost.is_some() {
            return false;
        }
        side.lost = Some(kind);
        if !keeps {
            connection.pipes[1 - at.side].forget();
        }
        self.rouse(at, |waits| waits.to_receive || waits.to_send || waits.to_connect);
        true
    }

    fn rouse(&mut self, end: End, waits: impl Fn(Waits) -> bool) {
        let side = &*self.side(end);
        if let (true, Some(driver)) = (waits(side.waits), side.driver) {
            self.rouse_driver(driver);
        }
    }

    fn rouse_driver(&mut self, driver: usize) {
        // On a network that nobody drives, nobody takes them.
        if self.driven && !self.roused.contains(&driver) {
            self.roused.push(driver);
        }
    }

    fn shut(&mut self, end: End) {
        let now = self.now;
        let pipe = &mut self.connections[end.connection as usize].pipes[end.side];
        if pipe.shut_since().is_none() {
            pipe.shut(now);
            let upto = pipe.sent();
            self.deliver(end.other(), upto, true);
        }
    }

    fn close(&mut self, end: End, reset: bool) {
        let connection = &mut self.connections[end.connection as usize];
        let phase = std::mem::replace(&mut connection.sides[end.side].phase, Phase::Closed);
        let unread = connection.pipes[1 - end.side].readable();
        connection.sides[end.side].befallen.unread = unread;
        connection.pipes[1 - end.side].forget();
        let silent = phase != Phase::Open || connection.sides[end.side].lost.is_some();
        if silent {
            return;
        }
        if reset || unread > 0 {
            // Bytes that nobody has received are an answer's loss, which the other side has to hear of.
            connection.whole = false;
            let at = self.now + self.latency();
            let at = self.connections[end.connection as usize].pipes[end.side].arrive_after(at);
            self.plan(at, Event::Reset { at: end.other() });
        } else {
            self.shut(end);
        }
    }
}
