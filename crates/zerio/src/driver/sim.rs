//! The `sim` driver: a kernel that is pretended, on a pretended network ([`net`]), for simulations. It does
//! what a kernel may do and seldom does: completions that come late and overtake those of other sessions, a
//! ring that takes no request for a while, sends and receives that are short.
//!
//! A request is asked for, then the kernel's, then done; a turn that does not wait lets no time pass.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Completion, Direct, Driver, Options, SlotId, Waker};
use crate::region::{Region, Span};

mod address;
mod faults;
mod net;
mod pipe;
mod random;
mod records;
mod socket;
mod whose;

pub(crate) use address::{address_of, connection_of};
pub use faults::Faults;
pub(crate) use net::{End, Happened, Net};
pub(crate) use random::Random;
pub(crate) use socket::{Far, Socket, Wire};
pub use whose::allocated;
pub(crate) use whose::{Whose, in_library, take_allocations};

use net::Waits;

/// A ring that is full takes at most so many requests in a turn.
const TRICKLE: u64 = 2;

/// A driver that is to fail does so within this time, in nanoseconds: at once, or when all has long been going on.
const FAILS_WITHIN: u64 = 2_000_000_000;

pub(crate) struct Sim {
    net: Net,
    me: usize,
    region: Arc<Region>,
    connections: Vec<Connection>,
    listener: Option<Socket>,
    accept_wanted: bool,
    /// When it fails.
    fails_at: Option<u64>,
    /// Until when the kernel's ring is full.
    full_until: u64,
    /// The connection that it made last.
    made: Option<u32>,
}

#[derive(Default)]
struct Connection {
    generation: u32,
    socket: Option<Socket>,
    connect: Request<()>,
    receive: Request<Span>,
    send: Request<Span>,
    closing: bool,
    /// When its end is told, once all else has come back.
    closed_at: Option<u64>,
}

/// How far a request has come.
#[derive(Default)]
enum Request<T> {
    #[default]
    Idle,
    /// The kernel does not know of it.
    Asked(T),
    /// The kernel has it, and can't do it yet.
    Kernel(T),
    /// The kernel has done it, and tells so at that time.
    Done(T, u64, io::Result<usize>),
}

impl Driver for Sim {
    type Socket = Socket;

    const NAME: &'static str = "sim";
    const BATCHES: bool = true;

    /// On this thread's own network, whose time goes on when somebody waits.
    fn new(region: Arc<Region>, slots: usize) -> io::Result<Self> {
        Ok(Sim::on(&Net::here(), region, slots))
    }

    fn listen(&mut self, listener: Socket) -> io::Result<()> {
        self.may_fail("listen error", |faults| faults.listen_errors)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn accept(&mut self) {
        self.accept_wanted = true;
    }

    fn stop_listening(&mut self) {
        self.listener = None;
        self.accept_wanted = false;
    }

    fn connect(&mut self, id: SlotId, address: SocketAddr, _: &Options) -> io::Result<()> {
        let end = self.net.connect(address);
        self.made = Some(end.connection);
        let socket = Socket::of(&self.net, end);
        self.may_fail("connect error", |faults| faults.connect_errors)?;
        self.install(id, socket);
        self.connections[id.index as usize].connect = Request::Asked(());
        Ok(())
    }

    fn adopt(&mut self, id: SlotId, socket: Socket, _: &Options) -> io::Result<()> {
        let end = socket.end();
        self.may_fail("adopt error", |faults| faults.adopt_errors).inspect_err(|_| self.net.spoil(end))?;
        self.install(id, socket);
        Ok(())
    }

    fn refuse(&mut self, socket: Socket, last_words: &[u8]) {
        let end = socket.end();
        let _ = self.net.write(end, last_words);
        self.net.shut_down(end);
    }

    fn direct(&self, id: SlotId) -> Option<Direct> {
        let socket = self.connections[id.index as usize].socket.as_ref()?;
        let direct = self.net.with_faults(|faults, _| faults.direct_sends);
        direct.then(|| Direct::Simulated(Wire::new(&self.net, socket.end())))
    }

    fn receive(&mut self, id: SlotId, span: Span) {
        let connection = &mut self.connections[id.index as usize];
        assert!(matches!(connection.receive, Request::Idle), "one receive in flight a session");
        assert!(!connection.closing && connection.generation == id.generation && !span.is_empty());
        connection.receive = Request::Asked(span);
    }

    fn send(&mut self, id: SlotId, span: Span) {
        let connection = &mut self.connections[id.index as usize];
        assert!(matches!(connection.send, Request::Idle), "one send in flight a session");
        assert!(!connection.closing && connection.generation == id.generation && !span.is_empty());
        connection.send = Request::Asked(span);
    }

    fn shut_down(&mut self, id: SlotId) {
        let connection = &self.connections[id.index as usize];
        assert!(matches!(connection.send, Request::Idle), "nothing is in flight to send");
        if let Some(socket) = &connection.socket {
            self.net.shut_down(socket.end());
        }
    }

    fn close(&mut self, id: SlotId) {
        let connection = &mut self.connections[id.index as usize];
        assert!(!connection.closing && connection.generation == id.generation, "closed once");
        connection.closing = true;
    }

    fn turn(&mut self, wait: Duration, done: &mut Vec<Completion<Socket>>) -> io::Result<()> {
        if self.fails_at.is_some_and(|at| at <= self.net.now()) {
            // It fails once: a certain fault is counted as any other.
            self.net.strikes("driver failure", |_| 1000);
            return Err(ErrorKind::Other.into());
        }
        let until = after(self.net.now(), wait);
        let before = done.len();
        if self.net.is_driven() {
            self.pass(done);
            return Ok(());
        }
        // Nobody else lets time go on.
        loop {
            while self.net.next_at().is_some_and(|at| at <= self.net.now()) {
                self.net.next();
            }
            self.pass(done);
            if done.len() > before || self.net.now() >= until {
                return Ok(());
            }
            self.net.rest_until(self.net.next_at().map_or(until, |at| at.min(until)));
        }
    }

    fn waker(&self) -> Waker {
        let (net, me) = (self.net.clone(), self.me);
        Waker::new(move || net.rouse(me))
    }
}

impl Sim {
    /// A driver on a network.
    pub(crate) fn on(net: &Net, region: Arc<Region>, slots: usize) -> Sim {
        let fails_at = net.with_faults(|faults, random| {
            random.happens(faults.driver_failures).then(|| random.of_any_size(50_000, FAILS_WITHIN))
        });
        Sim {
            me: net.enter(),
            net: net.clone(),
            region,
            connections: (0..slots).map(|_| Connection::default()).collect(),
            listener: None,
            accept_wanted: false,
            fails_at: fails_at.map(|later| net.now() + later),
            full_until: 0,
            made: None,
        }
    }

    /// Which driver of its network it is.
    pub(crate) fn number(&self) -> usize {
        self.me
    }

    /// The connection that it made last.
    pub(crate) fn made(&self) -> Option<u32> {
        self.made
    }

    /// It does not fail any more.
    pub(crate) fn mend(&mut self) {
        self.fails_at = None;
    }

    /// It has failed, and its sockets are closed with it.
    pub(crate) fn abandon(&mut self) {
        self.listener = None;
        self.connections.iter_mut().for_each(|connection| *connection = Connection::default());
    }

    /// Whether it has nothing of anybody's.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.connections.iter().all(|connection| connection.socket.is_none() && connection.is_idle())
    }

    /// Fails as often as the faults say, as for want of memory.
    fn may_fail(&self, what: &'static str, often: impl FnOnce(&Faults) -> u32) -> io::Result<()> {
        match self.net.strikes(what, often) {
            true => Err(ErrorKind::OutOfMemory.into()),
            false => Ok(()),
        }
    }

    fn install(&mut self, id: SlotId, socket: Socket) {
        let connection = &mut self.connections[id.index as usize];
        assert!(connection.socket.is_none() && connection.is_idle(), "a slot has one socket at a time");
        self.net.own(socket.end(), self.me);
        *connection = Connection { generation: id.generation, socket: Some(socket), ..Connection::default() };
    }

    /// Goes once over all that was asked for, as a kernel would at this time.
    fn pass(&mut self, done: &mut Vec<Completion<Socket>>) {
        let now = self.net.now();
        let full = self.net.strikes("full ring", |faults| faults.full_rings);
        let (full, first) = self.net.with_faults(|faults, random| {
            let burst = after(now, faults.delay);
            (full.then_some(burst), random.below(self.connections.len() as u64) as usize)
        });
        if let (Some(until), true) = (full, now >= self.full_until) {
            self.full_until = until;
            self.net.rouse_at(until, self.me);
        }
        let mut takes = if now < self.full_until { TRICKLE } else { u64::MAX };
        self.try_accept(done);
        // Not always in the order of the slots: who comes first is the kernel's matter.
        for at in 0..self.connections.len() {
            let index = (first + at) % self.connections.len();
            if self.connections[index].socket.is_some() {
                self.serve(index, now, &mut takes, done);
            }
        }
    }

    fn try_accept(&mut self, done: &mut Vec<Completion<Socket>>) {
        let Some(listener) = &self.listener else { return };
        if self.accept_wanted
            && let Some(outcome) = self.net.accept(listener.listener())
        {
            self.accept_wanted = false;
            let accepted = |(end, address)| (Socket::of(&self.net, end), address);
            done.push(Completion::Accepted(outcome.map(accepted)));
        }
        self.net.wait_to_accept(listener.listener(), self.me, self.accept_wanted);
    }

    /// Lets one connection go on with what it was asked for.
    fn serve(&mut self, index: usize, now: u64, takes: &mut u64, done: &mut Vec<Completion<Socket>>) {
        let (net, me, region) = (&self.net, self.me, &self.region);
        let connection = &mut self.connections[index];
        let Some(end) = connection.socket.as_ref().map(Socket::end) else { return };
        let id = SlotId { index: index as u32, generation: connection.generation };
        let closing = connection.closing;
        // When the outcome of something that was done now is told.
        let told = || {
            let late = match net.strikes("late completion", |faults| faults.late_completions) {
                true => net.late_by(),
                false => 0,
            };
            if late > 0 {
                net.rouse_at(now + late, me);
            }
            now + late
        };
        connection
            .connect
            .go_on(closing, takes, &told, |()| net.connected(end).map(|outcome| outcome.map(|()| 0)));
        if let Some(((), outcome)) = connection.connect.take_done(now) {
            done.push(Completion::Connected(id, outcome.map(drop)));
        }
        if !connection.connect.is_idle() {
            // What is asked for meanwhile waits for the connection.
            net.wait(end, Waits { to_connect: true, ..Waits::default() });
            return;
        }
        connection
            .receive
            .go_on(closing, takes, &told, |span| unless_blocked(net.read(end, region.bytes_mut(span))));
        if let Some((span, outcome)) = connection.receive.take_done(now) {
            done.push(Completion::Received(id, span, outcome));
        }
        connection
            .send
            .go_on(closing, takes, &told, |span| unless_blocked(net.write(end, region.bytes(span))));
        if let Some((span, outcome)) = connection.send.take_done(now) {
            done.push(Completion::Sent(id, span, outcome));
        }
        if closing && connection.is_idle() {
            // The kernel's hold on it ends here; that it is told of may take longer.
            let closed_at = *connection.closed_at.get_or_insert_with(told);
            if closed_at <= now {
                connection.socket = None;
                connection.closed_at = None;
                done.push(Completion::Closed(id));
            }
            return;
        }
        let waits = Waits {
            to_connect: false,
            to_receive: matches!(connection.receive, Request::Kernel(_)),
            to_send: matches!(connection.send, Request::Kernel(_)),
        };
        net.wait(end, waits);
    }
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.connect.is_idle() && self.receive.is_idle() && self.send.is_idle()
    }
}

impl<T> Request<T> {
    fn is_idle(&self) -> bool {
        matches!(self, Request::Idle)
    }

    /// Hands it to the kernel, which takes so many more requests in this turn, and lets the kernel `attempt` it.
    /// What is not done when the session is closed is cancelled.
    fn go_on(
        &mut self,
        closing: bool,
        takes: &mut u64,
        told: &impl Fn() -> u64,
        attempt: impl FnOnce(&mut T) -> Option<io::Result<usize>>,
    ) {
        let aborted = || io::Error::from(ErrorKind::ConnectionAborted);
        *self = match std::mem::take(self) {
            Request::Asked(what) if closing => Request::Done(what, 0, Err(aborted())),
            Request::Kernel(what) if closing => Request::Done(what, told(), Err(aborted())),
            Request::Asked(what) if *takes == 0 => Request::Asked(what),
            Request::Asked(mut what) => {
                *takes -= 1;
                match attempt(&mut what) {
                    Some(outcome) => Request::Done(what, told(), outcome),
                    None => Request::Kernel(what),
                }
            }
            Request::Kernel(mut what) => match attempt(&mut what) {
                Some(outcome) => Request::Done(what, told(), outcome),
                None => Request::Kernel(what),
            },
            other => other,
        };
    }

    /// Takes it when its outcome is told.
    fn take_done(&mut self, now: u64) -> Option<(T, io::Result<usize>)> {
        match std::mem::take(self) {
            Request::Done(what, at, outcome) if at <= now => Some((what, outcome)),
            other => {
                *self = other;
                None
            }
        }
    }
}

fn unless_blocked(outcome: io::Result<usize>) -> Option<io::Result<usize>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        outcome => Some(outcome),
    }
}

/// A time so many nanoseconds after another.
fn after(now: u64, later: Duration) -> u64 {
    now.saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX))
}
