//! The duty cycle, where both paths meet, and nowhere else: [`Engine::turn`] takes what the driver has
//! completed, hands frames to the handler, and pumps what senders have committed. One thread owns an
//! engine; time is a parameter. How sessions begin and end is in [`life`].
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

mod admission;
mod context;
mod failing;
#[cfg(feature = "sim")]
mod inspect;
mod life;
mod limits;
mod loss;
mod parking;
mod patience;
mod publish;
mod role;
mod streams;
#[cfg(feature = "tls")]
mod tls;

pub use context::Context;
pub(crate) use limits::options;
pub(crate) use role::{ClientRole, Failure, Outcome, Role, ServerRole};

use crate::config::Config;
use crate::counters::SessionCounters;
use crate::driver::{self, Completion, Driver, SlotId};
use crate::error::{Reason, SendError, Undelivered};
use crate::handler::Handler;
use crate::recv::buffer::Buffer;
use crate::recv::framer::{self, Framer};
use crate::region::Region;
use crate::send::Sole;
use crate::send::claim::Claim;
use crate::session::inbox::{Inbox, Inboxes};
use crate::session::peer::make_request;
use crate::session::table::Table;
use crate::session::{Shared, State, request};
use crate::time::Time;
use crate::wait::InHandler;
use crate::wire::PeerId;
use admission::Untold;
use limits::Limits;
use publish::Publisher;
use streams::Streams;

/// Turns that are further apart, as those of a program that polls now and then, are no spinning.
const FAR_APART: Duration = Duration::from_micros(100);

/// How long accepting rests after it failed, as for want of descriptors: trying again at once would
/// fail again, at the cost of everybody. And the longest that it waits for a slot.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Engine<D: Driver, H> {
    driver: D,
    handler: H,
    region: Arc<Region>,
    buffers: Vec<Buffer>,
    core: Core,
    /// Completions not yet handled, the oldest last.
    done: Vec<Completion<D::Socket>>,
    /// Slots that have received something since marks were last served, in the order in which they did.
    heard: Vec<u32>,
    /// Marks that were taken, and whose sessions are not served yet.
    taken: Box<[u64]>,
    /// Of all the server's engines, and which of them is this one.
    inboxes: Inboxes<D::Socket>,
    own: usize,
    /// What its handler has been given of the batch at hand.
    handed: Handed,
    /// The handler is not called any more: it has panicked.
    silent: bool,
    /// The last turn had work from other threads.
    served_senders: bool,
    /// Where its counters go that other processes read.
    publisher: Option<Box<Publisher>>,
}

/// Messages that a handler was given and that are not counted yet, of a session, and the bytes of their frames.
#[derive(Default)]
struct Handed {
    index: usize,
    messages: u64,
    bytes: usize,
}

/// An engine without its driver and its handler: what a handler may reach through its [`Context`].
pub(crate) struct Core {
    shared: Arc<Shared>,
    table: Table,
    role: Role,
    limits: Limits,
    /// Present while no other thread can send on this engine's sessions.
    sole: Option<Sole>,
    now: Time,
    /// When some session's deadline may be.
    alarm: Time,
    /// When sessions whose peers may have no room are looked at, `NEVER` while there is none; from which slot on; and
    /// whether there was one so far.
    look_at: Time,
    look_from: usize,
    look_found: bool,
    /// When accepting goes on; `NEVER` while it is on, or off for good.
    accept_at: Time,
    /// Sessions that wait for an older one with their id to end, and how many had left when they last tried.
    awaiting: VecDeque<u32>,
    departures: u64,
    streams: Streams,
    untold: Untold,
    /// Present where its sessions speak TLS.
    #[cfg(feature = "tls")]
    layers: Option<tls::Layers>,
    stopping: bool,
    report: Report,
}

/// What was left when an engine ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) undelivered: Vec<(PeerId, Undelivered)>,
}

impl<D: Driver, H: Handler> Engine<D, H> {
    /// An engine over memory that `Shared::new` made.
    pub(crate) fn new(
        config: &Config,
        driver: D,
        handler: H,
        role: Role,
        memory: (Arc<Shared>, Arc<Region>, Vec<Buffer>),
        inboxes: Inboxes<D::Socket>,
        sole: Option<Sole>,
    ) -> Engine<D, H> {
        let (shared, region, buffers) = memory;
        let slots = shared.slots.len();
        shared.bell.connect(driver.waker());
        let own = match &role {
            Role::Server(server) => server.engine,
            Role::Client(_) => 0,
        };
        let streams = Streams::new(&shared.clock);
        let core = Core {
            table: Table::new(slots),
            shared,
            role,
            limits: Limits::new(config, own),
            sole,
            now: Time::from_nanos(0),
            alarm: Time::NEVER,
            look_at: Time::NEVER,
            look_from: 0,
            look_found: false,
            accept_at: Time::NEVER,
            awaiting: VecDeque::with_capacity(slots),
            departures: 0,
            streams,
            untold: Untold::new(),
            #[cfg(feature = "tls")]
            layers: None,
            stopping: false,
            // A session ends once, so a stop does not allocate either.
            report: Report { undelivered: Vec::with_capacity(slots) },
        };
        let done = Vec::with_capacity(driver::completions_max::<D>(slots));
        // A session has one receive in flight.
        let heard = Vec::with_capacity(slots);
        let taken = vec![0; core.shared.bell.words()].into();
        let handed = Handed::default();
        Engine {
            driver,
            handler,
            region,
            buffers,
            core,
            done,
            heard,
            taken,
            inboxes,
            own,
            handed,
            silent: false,
            served_senders: false,
            publisher: None,
        }
    }

    /// One run of the duty cycle, without waiting. Tells how much work it did. An error is the driver's,
    /// and the engine's end.
    pub(crate) fn turn(&mut self, now: Time) -> io::Result<usize> {
        if now.since(self.core.now) > FAR_APART {
            self.driver.catch_up();
        }
        self.core.now = now;
        // What is marked already was not by this engine's handler, whose sends are served in the turn that made them.
        let mut work = self.serve_marked();
        self.served_senders = work > 0;
        if self.done.is_empty() {
            self.driver.turn(Duration::ZERO, &mut self.done)?;
            self.done.reverse();
        }
        work += self.done.len();
        while let Some(completion) = self.done.pop() {
            self.complete(completion);
        }
        work += self.serve_marked();
        if now >= self.core.alarm {
            self.expire();
        }
        if now >= self.core.look_at {
            self.look_for_patience();
        }
        if now >= self.core.accept_at {
            self.core.accept_at = Time::NEVER;
            self.driver.accept();
        }
        if !self.core.awaiting.is_empty() {
            self.retry_awaiting();
        }
        while let Some((socket, address)) = self.inbox().take() {
            self.begin_accepted(socket, address);
        }
        if self.core.shared.stopping.get() {
            self.go_on_stopping();
        }
        self.core.shared.tallies.turns.add(1);
        Ok(work)
    }

    /// Whether the last turn had work from other threads.
    pub(crate) fn served_senders(&self) -> bool {
        self.served_senders
    }

    /// Whether it was stopped, or its only session has ended, and nothing is left to do.
    pub(crate) fn is_finished(&self) -> bool {
        let over = match &self.core.role {
            Role::Server(_) => self.core.stopping,
            Role::Client(_) => true,
        };
        over && self.core.table.is_empty()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.core.shared
    }

    #[inline]
    pub(crate) fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    pub(crate) fn handler(&mut self) -> &mut H {
        &mut self.handler
    }

    /// For whoever waits in its stead, or is its network.
    #[cfg(any(feature = "sim", all(feature = "tokio", target_os = "linux")))]
    pub(crate) fn driver(&mut self) -> &mut D {
        &mut self.driver
    }

    /// For whoever is the engine's kernel: the driver, and which sessions its slots have.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn kernels_view(&mut self) -> (&mut D, &[crate::session::Session]) {
        (&mut self.driver, &self.core.table.sessions)
    }

    /// What was left, when it is finished.
    pub(crate) fn take_report(&mut self) -> Report {
        self.publish_last();
        std::mem::take(&mut self.core.report)
    }

    /// Connections that another engine has accepted for this one.
    #[inline]
    fn inbox(&self) -> &Inbox<D::Socket> {
        &self.inboxes[self.own]
    }

    fn complete(&mut self, completion: Completion<D::Socket>) {
        match completion {
            Completion::Accepted(outcome) => self.accepted(outcome),
            Completion::Connected(id, outcome) => self.connected(id, outcome),
            Completion::Received(id, span, outcome) => {
                let index = id.index as usize;
                let session = &mut self.core.table.sessions[index];
                debug_assert_eq!(session.id, id, "a session outlives its requests");
                session.receiving = false;
                debug_assert!(self.heard.len() < self.heard.capacity(), "one receive in flight a session");
                self.heard.push(id.index);
                let bytes = *outcome.as_ref().unwrap_or(&0);
                self.buffers[index].give_back(span, bytes);
                match outcome {
                    Ok(0) => session.ended = true,
                    Ok(_) => {}
                    Err(error) => return self.abort(index, Reason::Connection(error.kind())),
                }
                self.go_on(index);
            }
            Completion::Sent(id, span, outcome) => {
                let index = id.index as usize;
                let send = &self.core.shared.slots[index].send;
                let sent = match D::SENDS {
                    1 => send.sent(span, outcome),
                    _ => send.sent_of_several(span, outcome),
                };
                if let Err(kind) = sent {
                    self.lose(index, kind);
                }
            }
            Completion::Closed(id) => self.closed(id.index as usize),
        }
    }

    /// Serves each session that is a stream with news or that somebody has marked. Of those, who was just heard comes first,
    /// in the order in which he was: by the order of slots an answer would now wait for all others of its turn, now for none.
    fn serve_marked(&mut self) -> usize {
        let busy = || self.core.shared.bell.count() as usize + self.core.streams.with_news();
        let batched = D::BATCHES && busy() >= self.core.limits.batch_from;
        let mut served = self.serve_streams(batched);
        if self.take_marks() {
            self.core.take_the_word();
            for at in 0..self.heard.len() {
                let index = self.heard[at] as usize;
                served += self.serve_if_taken(index / 64, 1 << (index % 64), batched);
            }
            for word in 0..self.taken.len() {
                while self.taken[word] != 0 {
                    served += self.serve_if_taken(word, 1 << self.taken[word].trailing_zeros(), batched);
                }
            }
        }
        self.heard.clear();
        served
    }

    /// Takes all marks, before the first of them is served: who marks himself again has his turn after all others. Tells
    /// whether there are any.
    fn take_marks(&mut self) -> bool {
        let mut any = 0;
        for (word, taken) in self.taken.iter_mut().enumerate() {
            *taken |= self.core.shared.bell.take(word);
            any |= *taken;
        }
        any != 0
    }

    fn serve_if_taken(&mut self, word: usize, mark: u64, batched: bool) -> usize {
        let taken = &mut self.taken[word];
        if *taken & mark == 0 {
            return 0;
        }
        *taken &= !mark;
        self.serve(word * 64 + mark.trailing_zeros() as usize, batched);
        1
    }

    /// Does for one session what handles asked for, then pumps what its senders have committed.
    fn serve(&mut self, index: usize, batched: bool) {
        let session = &mut self.core.table.sessions[index];
        if !matches!(session.state, State::Handshaking | State::Open | State::Draining) {
            return;
        }
        let slot = &self.core.shared.slots[index];
        let requests = slot.requests.bits();
        if requests & request::REPLACE != 0 {
            let reason = session.lost.map_or(Reason::Replaced, Reason::Connection);
            return self.abort(index, reason);
        }
        if requests & request::DISCONNECT != 0 && session.announced && !session.told_to_end {
            (session.told_to_end, session.muted) = (true, true);
            slot.requests.change(session.id.generation, 0, request::PAUSE);
            match session.lost {
                // Nobody hears what may still come.
                Some(kind) => return self.abort(index, Reason::Connection(kind)),
                None if session.state == State::Open => self.end(index, Reason::Disconnected),
                None => self.go_on(index),
            }
        }
        let session = &mut self.core.table.sessions[index];
        let slot = &self.core.shared.slots[index];
        let paused = slot.requests.bits() & request::PAUSE != 0;
        let resumed = session.paused && !paused;
        session.paused = paused;
        #[cfg(feature = "tls")]
        let resumed = resumed || self.core.has_more(index);
        if resumed {
            self.go_on(index);
        }
        let session = &self.core.table.sessions[index];
        if session.state == State::Closing || session.lost.is_some() {
            return;
        }
        if let Err(kind) = self.core.shared.slots[index].send.pump(session.id, &mut self.driver, batched) {
            return self.lose(index, kind);
        }
        match session.state {
            State::Open => {
                self.core.watch_stream(index);
                self.core.watch_slowness(index);
            }
            State::Draining => self.drain(index),
            _ => {}
        }
    }

    /// Handles what a session has received, and asks for more.
    fn go_on(&mut self, index: usize) {
        #[cfg(feature = "tls")]
        let unsealed = self.unseal(index);
        if self.core.table.sessions[index].state == State::Handshaking {
            self.shake_hands(index);
        }
        let session = &self.core.table.sessions[index];
        if session.hears() {
            if let Err(reason) = self.hand_out(index) {
                return self.end(index, reason);
            }
        } else if session.muted {
            let all = self.buffers[index].len();
            self.buffers[index].consume(all);
        }
        let session = &self.core.table.sessions[index];
        #[cfg(feature = "tls")]
        if let (Err(fault), false) = (unsealed, session.paused) {
            return self.fail_tls(index, fault);
        }
        #[cfg(feature = "tls")]
        if self.core.has_more(index) {
            // It is marked, and goes on when the others have had their turn.
            return;
        }
        if session.ended && !session.paused && !session.awaiting {
            return self.heard_the_end(index);
        }
        self.receive(index);
    }

    /// Asks for what comes next.
    fn receive(&mut self, index: usize) {
        let session = &self.core.table.sessions[index];
        let wants = matches!(session.state, State::Handshaking | State::Open | State::Draining);
        if !wants || session.receiving || session.paused || session.ended || session.awaiting {
            return;
        }
        let frame = framer::frame_len(self.buffers[index].bytes(&self.region), self.core.limits.message_max);
        #[cfg(feature = "tls")]
        let room = self.room(index, frame);
        #[cfg(not(feature = "tls"))]
        let room = self.buffers[index].lend(&self.region, frame);
        if let Some(room) = room {
            let session = &mut self.core.table.sessions[index];
            session.receiving = true;
            self.driver.receive(session.id, room);
        }
    }

    /// Hands whole messages to the handler, until there are no more or it has had enough.
    fn hand_out(&mut self, index: usize) -> Result<(), Reason> {
        if self.silent {
            return Ok(());
        }
        let _in_handler = InHandler::enter();
        let bytes = self.buffers[index].bytes(&self.region);
        let mut framer = Framer::new(bytes, self.core.limits.message_max);
        self.handed.index = index;
        let mut next = framer.next();
        while let Ok(Some(message)) = next {
            self.handed.bytes = framer.framed();
            self.handed.messages += 1;
            next = framer.next();
            let batch_end = !matches!(next, Ok(Some(_)));
            let mut context = Context::new(&mut self.core, index, batch_end);
            self.handler.on_message(&mut context, message);
            if !self.core.table.sessions[index].hears() {
                next = Ok(None);
            }
        }
        let outcome = next.map(drop).map_err(Reason::BadFrame);
        self.buffers[index].consume(self.handed.bytes);
        self.count_handed();
        outcome
    }

    /// Counts what the handler was given: after a batch, or after a panic in the middle of one.
    fn count_handed(&mut self) {
        let Handed { index, messages, bytes } = std::mem::take(&mut self.handed);
        let received = &self.core.shared.slots[index].received;
        // Whoever waits for so many messages finds the rest counted.
        received.bytes_received.add(bytes as u64);
        received.batches_received.add(u64::from(messages > 0));
        received.messages_received.add(messages);
    }
}

impl Core {
    /// What became of a client's connection, once.
    pub(crate) fn take_outcome(&mut self) -> Option<Outcome> {
        match &mut self.role {
            Role::Client(client) => client.outcome.take(),
            Role::Server(_) => None,
        }
    }

    /// What its sole sender has told this engine is about to be taken.
    fn take_the_word(&mut self) {
        if let Some(sole) = &mut self.sole {
            sole.forget();
        }
    }

    /// Handles on this engine's sessions are given away: other threads may send on them from now on.
    pub(crate) fn share(&mut self) {
        self.sole = None;
    }

    #[inline(always)]
    pub(crate) fn try_send(&mut self, index: usize, message: &[u8]) -> Result<(), SendError> {
        let send = &self.shared.slots[index].send;
        match &mut self.sole {
            Some(sole) => send.try_send_sole(sole, message),
            None => send.try_send(self.table.sessions[index].id.generation, message),
        }
    }

    #[inline]
    pub(crate) fn try_claim(&mut self, index: usize, len: usize) -> Result<Claim<'_>, SendError> {
        let send = &self.shared.slots[index].send;
        match &mut self.sole {
            Some(sole) => send.try_claim_sole(sole, len),
            None => send.try_claim(self.table.sessions[index].id.generation, len),
        }
    }

    pub(crate) fn try_send_to(&mut self, peer: &str, message: &[u8]) -> Result<(), SendError> {
        match self.find(peer)? {
            (None, id) => self.try_send(id.index as usize, message),
            (Some(engine), id) => engine.slots[id.index as usize].send.try_send(id.generation, message),
        }
    }

    pub(crate) fn try_claim_to(&mut self, peer: &str, len: usize) -> Result<Claim<'_>, SendError> {
        match self.find(peer)? {
            (None, id) => self.try_claim(id.index as usize, len),
            // A polled server has one engine, so nobody who claims by id is elsewhere.
            (Some(_), _) => Err(SendError::UnknownPeer),
        }
    }

    /// Asks something about a peer's session, or takes it back, as handles do.
    pub(crate) fn request(&self, peer: &str, set: u32, clear: u32) -> Result<(), SendError> {
        let (elsewhere, id) = self.find(peer)?;
        make_request(elsewhere.as_ref().unwrap_or(&self.shared), id, set, clear)
    }

    /// What a peer's session has done so far.
    pub(crate) fn session_counters(&self, peer: &str) -> Result<SessionCounters, SendError> {
        let (elsewhere, id) = self.find(peer)?;
        let slots = &elsewhere.as_ref().unwrap_or(&self.shared).slots;
        slots[id.index as usize].session_counters(id.generation).ok_or(SendError::UnknownPeer)
    }

    /// A peer's session, and which other engine has it if it is not this one's.
    fn find(&self, peer: &str) -> Result<(Option<Arc<Shared>>, SlotId), SendError> {
        let Role::Server(server) = &self.role else { return Err(SendError::UnknownPeer) };
        if let Some(id) = self.table.find(peer) {
            return Ok((None, id));
        }
        let entry = server.directory.look_up(peer)?;
        let elsewhere = entry.engine != server.engine;
        Ok((elsewhere.then(|| server.directory.engines[entry.engine].clone()), entry.id))
    }

    /// Sets when a session's present state must be over.
    fn set_deadline(&mut self, index: usize, within: Duration) {
        // Not from the turn's start: a handler may have taken its time since.
        let when = self.shared.clock.now().after(within);
        self.table.sessions[index].deadline = when;
        self.alarm = self.alarm.min(when);
    }

    /// The handler's view of a session, outside of `on_message`.
    fn context(&mut self, index: usize) -> Context<'_> {
        Context::new(self, index, true)
    }
}

#[cfg(test)]
mod tests;
