//! How sessions begin and end: accepting and connecting, the handshake, draining, and the join that closing
//! is.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::{ACCEPT_PAUSE, Engine, Failure, Role};
use crate::config::SameId;
use crate::driver::{Driver, SlotId};
use crate::error::{Disconnection, Reason, RefusalCode, Rejection};
use crate::handler::Handler;
use crate::recv::framer::Framer;
use crate::session::directory::{Entry, NoPlace};
use crate::session::peer::make_request;
use crate::session::{Session, State, request};
use crate::time::Time;
use crate::wire::{self, Answer, HELLO_MAX, PeerId};

/// What a first frame leads to.
enum Verdict {
    /// The handshake is done, with this peer.
    Welcome(PeerId),
    /// A server's client has said who it is, and is to be admitted.
    Arrived(PeerId),
    /// A server refuses its client.
    Refuse(RefusalCode),
    /// A server's client has to wait until this older session is over.
    Await(Entry),
    /// A client was refused.
    Refused(RefusalCode, String),
    /// A client got an answer that no zerio server gives.
    Foreign,
}

impl<D: Driver, H: Handler> Engine<D, H> {
    /// A server's first engine begins to accept.
    pub(crate) fn listen(&mut self, listener: D::Socket) -> io::Result<()> {
        self.driver.listen(listener)?;
        self.driver.accept();
        Ok(())
    }

    /// A client's engine begins to connect.
    pub(crate) fn connect(&mut self, now: Time) {
        self.core.now = now;
        let Role::Client(client) = &mut self.core.role else { return };
        client.deadline = now.after(self.core.limits.handshake_timeout);
        self.connect_next();
    }

    /// To the next address of a client's: each has its share of the time that is left.
    fn connect_next(&mut self) {
        loop {
            let now = self.core.shared.clock.now();
            let Role::Client(client) = &mut self.core.role else { return };
            let shares = client.others.len() as u32;
            let Some(address) = client.others.pop() else { return };
            client.address = address;
            let within = client.deadline.since(now) / shares;
            let Some(index) = self.open_slot(State::Connecting, address) else { return };
            self.core.set_deadline(index, within);
            let id = self.core.table.sessions[index].id;
            let begun = self.driver.connect(id, address, &self.core.limits.options);
            let Err(error) = begun else { return };
            self.take_back_slot(index);
            if !self.has_another_address() {
                return self.conclude(Err(Failure::Connect(error)));
            }
        }
    }

    /// Whether a client has an address left that it has not tried.
    fn has_another_address(&self) -> bool {
        matches!(&self.core.role, Role::Client(client) if !client.others.is_empty())
    }

    /// A client's connection did not come about in its state `Connecting`. When it is closed, another address
    /// is tried if there is one.
    fn not_connected(&mut self, index: usize, failure: Failure) {
        if !self.has_another_address() {
            self.conclude(Err(failure));
        }
        self.abort(index, Reason::Stopped);
    }

    pub(super) fn connected(&mut self, id: SlotId, outcome: io::Result<()>) {
        let index = id.index as usize;
        if self.core.table.sessions[index].state != State::Connecting {
            return;
        }
        if let Err(error) = outcome {
            return self.not_connected(index, Failure::Connect(error));
        }
        let now = self.core.shared.clock.now();
        let Role::Client(client) = &mut self.core.role else { return };
        client.others.clear();
        let (hello, left) = (client.hello, client.deadline.since(now));
        self.core.set_deadline(index, left);
        self.core.table.go_to(index, State::Handshaking);
        self.core.table.sessions[index].peer = hello;
        let send = &self.core.shared.slots[index].send;
        send.connect(self.driver.direct(id), D::SENDS);
        send.greet(hello.as_bytes());
        #[cfg(feature = "tls")]
        self.begin_tls(index);
        self.receive(index);
    }

    pub(super) fn accepted(&mut self, outcome: io::Result<(D::Socket, SocketAddr)>) {
        let (socket, address) = match outcome {
            Ok(accepted) => accepted,
            Err(error) => {
                self.core.shared.tallies.accept_errors.add(1);
                if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
                    // That connection was gone before it was accepted (Windows calls it reset); the next may be well.
                    self.driver.accept();
                } else {
                    self.core.accept_at = self.core.now.after(ACCEPT_PAUSE);
                }
                return;
            }
        };
        if let Some(socket) = self.let_in(socket, address) {
            self.place(socket, address);
        }
        self.accept_next();
    }

    /// A connection goes to the engine that has the fewest.
    fn place(&mut self, socket: D::Socket, address: SocketAddr) {
        let Role::Server(server) = &self.core.role else { return };
        let (directory, own) = (server.directory.clone(), server.engine);
        // One that ends, or has ended because its handler panicked, takes nobody.
        let loads = directory.engines.iter().enumerate().filter(|(_, engine)| !engine.stopping.get());
        let least = loads.min_by_key(|(_, engine)| engine.load.get()).map_or(own, |(engine, _)| engine);
        let mut mine = Some(socket);
        if least != own
            && let Some(socket) = mine.take()
        {
            directory.engines[least].load.add_shared(1);
            mine = self.inboxes[least].put(socket, address).err();
            match mine {
                None => directory.engines[least].bell.wake(),
                Some(_) => directory.engines[least].load.add_shared(u64::MAX),
            }
        }
        if let Some(socket) = mine {
            directory.engines[own].load.add_shared(1);
            self.begin_accepted(socket, address);
        }
    }

    /// An accepted connection begins its handshake, or hears that the server is full.
    pub(super) fn begin_accepted(&mut self, socket: D::Socket, address: SocketAddr) {
        let hopeless = self.is_closed_to_all();
        if !hopeless {
            self.make_room();
        }
        let begun = match self.open_slot(State::Handshaking, address) {
            None => {
                // Not even a slot to refuse it in.
                self.turn_down(socket, RefusalCode::ServerFull);
                Err(Rejection::Refused(RefusalCode::ServerFull))
            }
            Some(index) => {
                let id = self.core.table.sessions[index].id;
                self.driver.adopt(id, socket, &self.core.limits.options).map(|()| index).map_err(|error| {
                    self.take_back_slot(index);
                    Rejection::Ended(Reason::Connection(error.kind()))
                })
            }
        };
        let index = match begun {
            Ok(index) => index,
            Err(rejection) => {
                self.lighten(address);
                return self.rejected(address, rejection);
            }
        };
        let direct = self.driver.direct(self.core.table.sessions[index].id);
        self.core.shared.slots[index].send.connect(direct, D::SENDS);
        #[cfg(feature = "tls")]
        self.begin_tls(index);
        if self.core.stopping {
            self.refuse(index, RefusalCode::Stopping);
        } else if hopeless {
            self.refuse(index, RefusalCode::ServerFull);
        }
        self.receive(index);
    }

    /// A free slot, opened for a session in its first state.
    fn open_slot(&mut self, state: State, address: SocketAddr) -> Option<usize> {
        let slots = &self.core.shared.slots;
        let index = self.core.table.take(|index| !slots[index as usize].send.is_taken())? as usize;
        let old = self.core.table.sessions[index].id;
        let id = SlotId { index: old.index, generation: old.generation.wrapping_add(1) };
        self.core.table.begin(index, Session::begin(id, state, address, Time::NEVER));
        self.core.table.sessions[index].accepted = slots[index].send.accepted();
        slots[index].open(id.generation);
        self.core.take_the_word();
        self.core.set_deadline(index, self.core.limits.handshake_timeout);
        Some(index)
    }

    /// A slot whose session was never there, as its driver has said.
    fn take_back_slot(&mut self, index: usize) {
        self.core.shared.slots[index].send.close();
        self.core.table.give_back(index as u32);
    }

    /// The first frame may have come.
    pub(super) fn shake_hands(&mut self, index: usize) {
        let Some((verdict, frame)) = self.judge(index) else { return };
        match verdict {
            Verdict::Welcome(peer) => {
                self.buffers[index].consume(frame);
                self.buffers[index].move_on(&self.region);
                self.conclude(Ok(self.core.table.sessions[index].id));
                self.open(index, peer);
            }
            Verdict::Arrived(peer) => match self.admit(index, &peer) {
                Ok(()) => {
                    self.core.table.sessions[index].peer = peer;
                    self.shake_hands(index);
                }
                Err((code, refusal)) => self.refuse_saying(index, code, refusal.text()),
            },
            Verdict::Refuse(code) => self.refuse(index, code),
            Verdict::Await(old) => {
                let Role::Server(server) = &self.core.role else { return };
                if server.same_id == SameId::ReplaceOld {
                    // It fails only where the old one is already gone.
                    let _ = make_request(&server.directory.engines[old.engine], old.id, request::REPLACE, 0);
                }
                self.core.table.sessions[index].awaiting = true;
                self.core.awaiting.push_back(index as u32);
                // The older one may have left since it was looked up.
                self.core.departures = 0;
            }
            Verdict::Refused(code, text) => {
                self.conclude(Err(Failure::Refused(code, text)));
                self.abort(index, Reason::PeerClosed);
            }
            Verdict::Foreign => self.abort(index, Reason::BadAnswer),
        }
    }

    /// What the first frame says, and where it ends; `None` where it has not all come. Who is welcome on a
    /// server has been told so.
    fn judge(&self, index: usize) -> Option<(Verdict, usize)> {
        let bytes = self.buffers[index].bytes(&self.region);
        let mut framer = Framer::new(bytes, HELLO_MAX as u32);
        let frame = match framer.next() {
            Ok(None) => return None,
            Ok(Some(frame)) => Some(frame),
            Err(_) => None,
        };
        let verdict = match &self.core.role {
            Role::Server(server) => {
                let Session { id, address, peer: admitted, .. } = self.core.table.sessions[index];
                match frame.map(wire::decode_hello) {
                    None if wire::is_tls(bytes) => Verdict::Refuse(RefusalCode::NoTls),
                    None => Verdict::Refuse(RefusalCode::BadFrame),
                    Some(Err(_)) => Verdict::Refuse(RefusalCode::BadPeerId),
                    // Before its id is looked up: who is not let in takes nobody's place, and learns of nobody.
                    Some(Ok(peer)) if admitted != peer => Verdict::Arrived(peer),
                    Some(Ok(peer)) => {
                        let entry = Entry { engine: server.engine, id, address, gone: false, lost: false };
                        let send = &self.core.shared.slots[index].send;
                        let welcome = || send.greet(frame.unwrap_or_default());
                        match server.directory.enter(&peer, entry, welcome) {
                            Ok(()) => Verdict::Welcome(peer),
                            Err(NoPlace::Taken(old))
                                if old.gone || old.lost || server.same_id == SameId::ReplaceOld =>
                            {
                                Verdict::Await(old)
                            }
                            Err(NoPlace::Taken(_)) => Verdict::Refuse(RefusalCode::AlreadyConnected),
                            Err(NoPlace::Full) => Verdict::Refuse(RefusalCode::ServerFull),
                        }
                    }
                }
            }
            Role::Client(client) => {
                match frame.map(|frame| wire::decode_answer(frame, client.hello.as_bytes())) {
                    // Whoever listens there, it answers by a TLS alert.
                    None if wire::is_tls(bytes) => {
                        let code = RefusalCode::TlsRequired;
                        Verdict::Refused(code, code.text().to_owned())
                    }
                    Some(Answer::Accepted) => Verdict::Welcome(client.hello),
                    Some(Answer::Refused(code, text)) => Verdict::Refused(code, text.to_owned()),
                    Some(Answer::Foreign) | None => Verdict::Foreign,
                }
            }
        };
        Some((verdict, framer.framed()))
    }

    /// The handshake is done.
    fn open(&mut self, index: usize, peer: PeerId) {
        self.core.table.go_to(index, State::Open);
        let session = &mut self.core.table.sessions[index];
        session.peer = peer;
        session.deadline = Time::NEVER;
        session.announced = true;
        if let Role::Server(_) = self.core.role {
            self.core.table.make_known(index);
        }
        // Also where a round of looks has come past its slot already.
        self.core.look_found = true;
        self.core.begin_looking();
        self.core.shared.tallies.connected.add(1);
        #[cfg(feature = "tracing")]
        crate::trace::connected(&peer, self.core.table.sessions[index].address);
        if !self.silent {
            let _in_handler = crate::wait::InHandler::enter();
            self.handler.on_connected(&mut self.core.context(index));
        }
    }

    /// Sessions that wait for their id try again, when some session has left since they did.
    pub(super) fn retry_awaiting(&mut self) {
        let Role::Server(server) = &self.core.role else { return };
        let departures = server.directory.departures();
        if departures == self.core.departures {
            return;
        }
        for _ in 0..self.core.awaiting.len() {
            let Some(index) = self.core.awaiting.pop_front() else { break };
            self.core.table.sessions[index as usize].awaiting = false;
            self.go_on(index as usize);
        }
        self.core.departures = departures;
    }

    /// A session that may wait for its id does not any more.
    fn stop_awaiting(&mut self, index: usize) {
        if std::mem::take(&mut self.core.table.sessions[index].awaiting) {
            self.core.awaiting.retain(|&other| other as usize != index);
        }
    }

    /// Ends a session in order: it accepts no more, what was accepted is still handed to the kernel, then
    /// the peer is told, and its own end is waited for.
    pub(super) fn end(&mut self, index: usize, reason: Reason) {
        let session = &mut self.core.table.sessions[index];
        if let (State::Draining, Reason::BadFrame(_), false) = (session.state, reason, session.muted) {
            // It ends already; what it still sends makes no sense, and is read to its end.
            session.muted = true;
            self.core.shared.tallies.bad_frames.add(1);
            return match self.core.table.sessions[index].lost {
                Some(_) => self.abort(index, reason),
                None => self.go_on(index),
            };
        }
        if !matches!(session.state, State::Handshaking | State::Open) {
            return;
        }
        session.reason.get_or_insert(reason);
        session.stuck = None;
        self.stop_awaiting(index);
        if let Reason::BadFrame(_) = reason {
            self.core.table.sessions[index].muted = true;
            self.core.shared.tallies.bad_frames.add(1);
        }
        self.core.table.go_to(index, State::Draining);
        self.core.set_deadline(index, self.core.limits.drain_timeout);
        self.core.shared.slots[index].send.close();
        self.core.shared.bell.ring(index as u32);
        if self.core.table.sessions[index].muted {
            self.go_on(index);
        }
    }

    /// A session that ends goes on doing so.
    pub(super) fn drain(&mut self, index: usize) {
        let session = &mut self.core.table.sessions[index];
        if session.state != State::Draining || !self.core.shared.slots[index].send.is_drained() {
            return;
        }
        #[cfg(feature = "tls")]
        if self.core.says_goodbye(index) {
            return;
        }
        let session = &mut self.core.table.sessions[index];
        if session.ended {
            self.abort(index, Reason::PeerClosed);
        } else if !session.shut_down {
            session.shut_down = true;
            self.driver.shut_down(session.id);
        }
    }

    /// The peer has sent its last byte, and all before it has been handled.
    pub(super) fn heard_the_end(&mut self, index: usize) {
        #[cfg(feature = "tls")]
        self.core.give_up_handshake(index);
        let session = &self.core.table.sessions[index];
        if let (State::Draining, Some(kind)) = (session.state, session.lost) {
            return self.heard_all(index, kind);
        }
        match session.state {
            #[cfg(feature = "tls")]
            State::Handshaking | State::Open if self.core.is_cut_off(index) => {
                self.fail_tls(index, crate::error::TlsFault::Truncated);
            }
            State::Handshaking | State::Open => {
                let reason = match self.unheard(index) {
                    0 => Reason::PeerClosed,
                    received => Reason::Truncated { received },
                };
                self.end(index, reason);
            }
            State::Draining => self.drain(index),
            State::Free | State::Connecting | State::Closing => {}
        }
    }

    /// How many bytes have come of which its handler has heard nothing, and wants to.
    pub(super) fn unheard(&self, index: usize) -> usize {
        if self.core.table.sessions[index].muted { 0 } else { self.buffers[index].len() }
    }

    /// Ends a session at once. Closing is a join: senders have let go of the socket, then the driver gives
    /// back what it has, and then the session is over.
    pub(super) fn abort(&mut self, index: usize, reason: Reason) {
        let session = &mut self.core.table.sessions[index];
        if matches!(session.state, State::Free | State::Closing) {
            return;
        }
        session.reason.get_or_insert(reason);
        session.deadline = Time::NEVER;
        session.stuck = None;
        self.stop_awaiting(index);
        self.core.table.go_to(index, State::Closing);
        self.core.table.forget(index);
        let session = &self.core.table.sessions[index];
        let send = &self.core.shared.slots[index].send;
        send.close();
        send.disconnect();
        // Who has not come in has no entry, and takes the directory's lock from nobody.
        if session.announced
            && let Role::Server(server) = &self.core.role
        {
            server.directory.hide(&session.peer, server.engine, session.id);
        }
        self.driver.close(session.id);
    }

    /// The kernel has nothing of the session any more: its end is announced, and its slot is free.
    pub(super) fn closed(&mut self, index: usize) {
        let undelivered = self.core.shared.slots[index].send.left();
        let session = &self.core.table.sessions[index];
        let (id, address, peer) = (session.id, session.address, session.peer);
        let (announced, refusal) = (session.announced, session.refusal);
        let reason = session.reason.unwrap_or(Reason::Disconnected);
        self.core.shared.slots[index].requests.reset(id.generation.wrapping_add(1));
        self.buffers[index].reset();
        #[cfg(feature = "tls")]
        self.core.forget_layer(index);
        self.core.table.give_back(id.index);
        self.lighten(address);
        if self.has_another_address() && !self.core.stopping {
            return self.connect_next();
        }
        if !announced {
            let rejection = match refusal {
                Some(code) => Rejection::Refused(code),
                None => Rejection::Ended(reason),
            };
            return self.rejected(address, rejection);
        }
        let tallies = &self.core.shared.tallies;
        tallies.disconnected.add(1);
        tallies.messages_undelivered.add(undelivered.messages);
        tallies.bytes_undelivered.add(undelivered.bytes);
        if !undelivered.is_empty() && self.core.stopping {
            self.core.report.undelivered.push((peer, undelivered));
        }
        let disconnection = Disconnection { reason, undelivered };
        #[cfg(feature = "tracing")]
        crate::trace::disconnected(&peer, address, &disconnection);
        if !self.silent {
            let _in_handler = crate::wait::InHandler::enter();
            self.handler.on_disconnected(&mut self.core.context(index), &disconnection);
        }
        // After its handler has heard of the end, and not before, another session may have its id.
        if let Role::Server(server) = &self.core.role {
            server.directory.leave(&peer, server.engine, id);
        }
    }

    /// A server's engine has one connection less.
    pub(super) fn lighten(&mut self, address: SocketAddr) {
        if let Role::Server(server) = &self.core.role {
            self.core.shared.load.add_shared(u64::MAX);
            server.directory.gate.leave(address);
            if self.core.accept_at != Time::NEVER {
                self.core.accept_at = Time::NEVER;
                self.driver.accept();
            }
        }
    }

    /// A connection did not become a session.
    pub(super) fn rejected(&mut self, address: SocketAddr, rejection: Rejection) {
        if let Rejection::Ended(reason) = rejection {
            self.core.shared.tallies.failed_handshakes.add(1);
            self.conclude(Err(Failure::Ended(reason)));
        }
        if let (Role::Server(_), false) = (&self.core.role, self.silent) {
            self.tell_rejection(address, rejection);
        }
    }

    /// A client's connection has become a session, or has not. The first word counts.
    pub(super) fn conclude(&mut self, what: Result<SlotId, Failure>) {
        if let Role::Client(client) = &mut self.core.role
            && !client.concluded
        {
            client.concluded = true;
            client.outcome = Some((client.address, what));
        }
    }

    /// Some deadline may have come.
    pub(super) fn expire(&mut self) {
        for index in 0..self.core.table.sessions.len() {
            let session = &mut self.core.table.sessions[index];
            if session.alarm() > self.core.now {
                continue;
            }
            match session.state {
                State::Connecting | State::Handshaking => match &self.core.role {
                    Role::Client(_) if session.state == State::Connecting => {
                        self.not_connected(index, Failure::TimedOut);
                    }
                    Role::Client(_) => {
                        self.conclude(Err(Failure::TimedOut));
                        self.abort(index, Reason::Stopped);
                    }
                    Role::Server(_) if session.awaiting => self.refuse(index, RefusalCode::AlreadyConnected),
                    Role::Server(_) => self.refuse(index, RefusalCode::TooLate),
                },
                State::Open => {
                    let known = session.stuck.take().map(|(time, _)| time);
                    if self.core.shared.slots[index].send.stuck() == known && known.is_some() {
                        self.abort(index, Reason::SlowPeer);
                    } else {
                        self.core.watch_slowness(index);
                    }
                }
                State::Draining => {
                    let reason = session.lost.map_or(Reason::Disconnected, Reason::Connection);
                    self.abort(index, reason);
                }
                State::Free | State::Closing => {}
            }
        }
        self.tell_untold(self.core.now);
        self.core.alarm = self.core.table.next_alarm().min(self.core.untold.next_alarm());
    }

    /// It was stopped, and goes on stopping until it is finished.
    pub(super) fn go_on_stopping(&mut self) {
        if !self.core.stopping {
            self.stop();
        }
        if self.core.table.is_empty() {
            self.tell_untold(Time::NEVER);
        }
    }

    /// Drains all sessions, and lets nobody in any more.
    fn stop(&mut self) {
        self.core.stopping = true;
        self.core.accept_at = Time::NEVER;
        self.driver.stop_listening();
        for (socket, address) in self.inbox().close() {
            self.begin_accepted(socket, address);
        }
        for index in 0..self.core.table.sessions.len() {
            match (self.core.table.sessions[index].state, &self.core.role) {
                (State::Handshaking, Role::Server(_)) => self.refuse(index, RefusalCode::Stopping),
                (State::Connecting | State::Handshaking, _) => self.abort(index, Reason::Stopped),
                (State::Open, _) => self.end(index, Reason::Stopped),
                (State::Free | State::Draining | State::Closing, _) => {}
            }
        }
    }
}
