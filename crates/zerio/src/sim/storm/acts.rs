//! What happens in a storm: who comes, sends, holds, pauses, disconnects and stops.
#![forbid(unsafe_code)]

use super::Storm;
use crate::driver::sim::{End, Whose, connection_of, in_library};
use crate::error::SendError;
use crate::session::peer::{Peer, Sender};
use crate::session::request;
use crate::sim::ledger::compose;
use crate::sim::raw::Raw;
#[cfg(feature = "tls")]
use crate::sim::script::Manner;
use crate::sim::script::Script;

/// What a storm may do next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    Join,
    ClientSends,
    ServerSends,
    Burst,
    Flood,
    Hold,
    Resume,
    Pause,
    Disconnect,
    LateSend,
    WrongSend,
    ClientStops,
    RawJoins,
    RawActs,
    ServerStops,
}

/// Each action, how likely it is to exist at all, in a thousand, and how often it is done at the most.
pub(super) const ACTIONS: [(Action, u32, u64); 15] = [
    (Action::Join, 1000, 40),
    (Action::ClientSends, 900, 200),
    (Action::ServerSends, 900, 200),
    (Action::Burst, 400, 40),
    (Action::Flood, 600, 40),
    (Action::Hold, 400, 40),
    (Action::Resume, 900, 60),
    (Action::Pause, 400, 10),
    (Action::Disconnect, 500, 10),
    (Action::LateSend, 500, 40),
    (Action::WrongSend, 500, 20),
    (Action::ClientStops, 500, 10),
    (Action::RawJoins, 500, 20),
    (Action::RawActs, 1000, 100),
    (Action::ServerStops, 200, 2),
];

/// So many messages are enough to fill most rings.
const FLOOD: usize = 200;

impl Storm {
    pub(super) fn act(&mut self) -> Result<(), String> {
        let sum: u64 = self.weights.iter().sum();
        let mut at = self.random.below(sum.max(1));
        let mut action = Action::Join;
        for (index, (of, ..)) in ACTIONS.iter().enumerate() {
            if at < self.weights[index] {
                action = *of;
                break;
            }
            at -= self.weights[index];
        }
        self.do_action(action)
    }

    fn do_action(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Join => {
                if self.clients.len() < self.clients_max {
                    let id = format!("c{}", self.random.below(self.ids));
                    self.client_joins(id);
                }
            }
            Action::ClientSends => self.client_sends(),
            Action::ServerSends => self.server_sends(),
            Action::Burst => {
                for _ in 0..self.random.of_any_size(1, 200) {
                    if self.random.happens(500) { self.client_sends() } else { self.server_sends() }
                }
            }
            Action::Flood => self.flood(),
            // Nobody who has a claim already takes another.
            Action::Hold if self.holds => {}
            Action::Hold => {
                self.holds = true;
                let outcome = self.hold();
                self.holds = false;
                return outcome;
            }
            Action::Resume => self.resume_one(),
            Action::Pause => self.pause_one(),
            Action::Disconnect => {
                if let Some((end, peer)) = self.handle() {
                    self.ledger.borrow_mut().ask_to_end(end);
                    let _ = in_library(|| peer.disconnect());
                }
            }
            Action::LateSend => self.late_send(),
            Action::WrongSend => self.wrong_send(),
            Action::ClientStops => {
                if let Some(at) = self.pick_client() {
                    self.stop_client(at);
                }
            }
            Action::RawJoins => {
                if self.raws.len() < 8 {
                    self.raw_joins();
                }
            }
            Action::RawActs => {
                if !self.raws.is_empty() {
                    let at = self.random.below(self.raws.len() as u64) as usize;
                    if !self.raws[at].act(&mut self.random) {
                        self.raws.swap_remove(at);
                    }
                }
            }
            Action::ServerStops => match &self.server {
                Some(_) => self.stop_server(),
                None => self.set_up_server(),
            },
        }
        Ok(())
    }

    fn raw_joins(&mut self) {
        let mut script = Script::draw(self.ids, self.config.message_max, &mut self.random);
        if self.tls {
            script = script.under_tls(&mut self.random);
        }
        #[cfg_attr(not(feature = "tls"), expect(unused_mut, reason = "it is sealed"))]
        let mut raw = Raw::begin(&self.world.net, self.address, &script, &mut self.random);
        #[cfg(feature = "tls")]
        if let (Some((_, tls)), Manner::Sealed(last)) = (&self.world.tls, script.manner()) {
            raw.seal(tls, self.address, last);
        }
        if let Some(end) = raw.end() {
            self.reads_along(end.connection);
            self.ledger.borrow_mut().says(end, script);
        }
        self.raws.push(raw);
    }

    fn pick_client(&mut self) -> Option<usize> {
        (!self.clients.is_empty()).then(|| self.random.below(self.clients.len() as u64) as usize)
    }

    fn len(&mut self) -> usize {
        let len = self.random.of_any_size(1, self.config.message_max as u64 + 1) as usize - 1;
        self.ledger.borrow().unlike_a_key_update(len)
    }

    /// A client's handle, once it has a session.
    fn client_peer(&mut self, at: usize) -> Option<(End, Peer)> {
        self.hear_outcome(at);
        let client = &self.clients[at];
        let shared = client.engine.borrow().shared().clone();
        Some((client.end, Peer::new(shared, client.session?, client.id, self.address)))
    }

    /// Takes what a client's user is told, once: that it has a session, or why it has none.
    pub(super) fn hear_outcome(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let Some((_, outcome)) = client.engine.borrow_mut().core().take_outcome() else { return };
        client.concluded = true;
        client.session = outcome.as_ref().ok().copied();
        self.ledger.borrow_mut().concluded(client.end, client.node, outcome.err());
    }

    fn client_sends(&mut self) {
        let Some(at) = self.pick_client() else { return };
        let len = self.len();
        let _ = self.send_from(at, len);
    }

    /// A client whose ring is empty sends the longest message that there may be.
    pub(super) fn send_longest(&mut self, end: End) -> Result<(), String> {
        let Some(at) = self.clients.iter().position(|client| client.end == end) else { return Ok(()) };
        match self.send_from(at, self.config.message_max) {
            Some(Err(error)) => Err(format!("{end:?}, its ring empty, can't send: {error}")),
            _ => Ok(()),
        }
    }

    /// A client sends, if it has a session, by one of the ways there are; what a plain send came to.
    fn send_from(&mut self, at: usize, len: usize) -> Option<Result<(), SendError>> {
        let (end, peer) = self.client_peer(at)?;
        if !self.habits.sole {
            return self.send_on(end, &peer, len);
        }
        let n = self.ledger.borrow_mut().accepted(end);
        compose(end, n, len, &mut self.scratch);
        let client = &self.clients[at];
        let index = client.session.map_or(0, |id| id.index as usize);
        let outcome = in_library(|| client.engine.borrow_mut().core().try_send(index, &self.scratch));
        self.ledger.borrow_mut().sent(end, len, outcome);
        Some(outcome)
    }

    /// Sends, by one of the ways there are; `None` where it changed its mind.
    fn send_on(&mut self, end: End, peer: &Peer, len: usize) -> Option<Result<(), SendError>> {
        let n = self.ledger.borrow_mut().accepted(end);
        compose(end, n, len, &mut self.scratch);
        let library = Whose::library();
        let outcome = match self.random.below(4) {
            0 => match peer.try_claim(len) {
                Ok(claim) if self.random.happens(200) => {
                    drop(claim);
                    return None;
                }
                Ok(mut claim) => {
                    claim.copy_from_slice(&self.scratch);
                    claim.commit()
                }
                Err(error) => Err(error),
            },
            1 => peer.send(&self.scratch).map_err(|error| match error {
                SendError::TimedOut => SendError::Full,
                error => error,
            }),
            _ => peer.try_send(&self.scratch),
        };
        drop(library);
        self.ledger.borrow_mut().sent(end, len, outcome);
        if self.handles.len() < 32 {
            self.handles.push((end, peer.clone()));
        } else {
            let at = self.random.below(32) as usize;
            self.handles[at] = (end, peer.clone());
        }
        Some(outcome)
    }

    /// One sends to another until there is no room.
    fn flood(&mut self) {
        let handle = self.handle();
        let Some(at) = self.pick_client() else { return };
        for _ in 0..FLOOD {
            let len = self.len().max(self.config.message_max / 2);
            let outcome = match &handle {
                Some((end, peer)) => self.send_on(*end, peer, len),
                None => self.send_from(at, len),
            };
            if let Some(Err(_)) = outcome {
                return;
            }
        }
    }

    fn server_sends(&mut self) {
        let id = format!("c{}", self.random.below(self.ids));
        let Some(server) = &self.server else { return };
        let Some(entry) = server.directory.find(&id) else { return };
        let end = End { connection: connection_of(entry.address), side: 1 };
        if self.habits.sole && server.engines.len() == 1 {
            let engine = server.engines[0].clone();
            let len = self.len();
            let n = self.ledger.borrow_mut().accepted(end);
            compose(end, n, len, &mut self.scratch);
            let outcome = in_library(|| engine.borrow_mut().core().try_send_to(&id, &self.scratch));
            return self.ledger.borrow_mut().sent(end, len, outcome);
        }
        let sender = Sender::new(server.directory.clone());
        if self.random.happens(500) {
            let len = self.len();
            let n = self.ledger.borrow_mut().accepted(end);
            compose(end, n, len, &mut self.scratch);
            let outcome = in_library(|| sender.try_send(&id, &self.scratch));
            return self.ledger.borrow_mut().sent(end, len, outcome);
        }
        if let Ok(peer) = sender.peer(&id) {
            let len = self.len();
            self.send_on(end, &peer, len);
        }
    }

    /// A handle on somebody, where handles are given away at all.
    fn handle(&mut self) -> Option<(End, Peer)> {
        if self.habits.sole || self.handles.is_empty() {
            return None;
        }
        let at = self.random.below(self.handles.len() as u64) as usize;
        Some(self.handles[at].clone())
    }

    /// Keeps a claim while others go on.
    fn hold(&mut self) -> Result<(), String> {
        let Some((end, peer)) = self.handle() else { return Ok(()) };
        let len = self.len();
        let mut claim = match in_library(|| peer.try_claim(len)) {
            Ok(claim) => claim,
            Err(error) => {
                self.ledger.borrow_mut().sent(end, len, Err(error));
                return Ok(());
            }
        };
        self.ledger.borrow_mut().claims(end);
        for _ in 0..self.random.of_any_size(1, 60) {
            self.step()?;
            self.act_if_it_is_time()?;
        }
        self.ledger.borrow_mut().lets_go(end);
        if self.random.happens(700) {
            let n = self.ledger.borrow_mut().accepted(end);
            compose(end, n, len, &mut self.scratch);
            claim.copy_from_slice(&self.scratch);
            let outcome = in_library(|| claim.commit());
            self.ledger.borrow_mut().sent(end, len, outcome);
        }
        Ok(())
    }

    fn pause_one(&mut self) {
        if let Some((end, peer)) = self.handle() {
            let _ = in_library(|| peer.pause());
            self.ledger.borrow_mut().hold_back(end);
            self.paused.borrow_mut().push((end, peer));
        } else if self.habits.sole {
            let id = format!("c{}", self.random.below(self.ids));
            let found = self.ledger.borrow().find(self.servers, &id);
            if let Some(end) = found {
                self.ledger.borrow_mut().hold_back(end);
            }
            self.request_by_id(&id, request::PAUSE, 0);
            self.paused_ids.push(id);
        }
    }

    pub(super) fn resume_one(&mut self) {
        let taken = self.paused.borrow_mut().pop();
        if let Some((end, peer)) = taken {
            self.ledger.borrow_mut().pause(end, false);
            let _ = in_library(|| peer.resume());
        } else if let Some(id) = self.paused_ids.pop() {
            self.request_by_id(&id, 0, request::PAUSE);
        }
    }

    /// As the user of a polled server does, who needs no handles.
    fn request_by_id(&self, id: &str, set: u32, clear: u32) {
        if let Some(server) = &self.server
            && let [engine] = &server.engines[..]
        {
            let _ = in_library(|| engine.borrow_mut().core().request(id, set, clear));
        }
    }

    /// A handle on a session that is over reaches nobody, least of all its slot's next session.
    fn late_send(&mut self) {
        let Some((end, peer)) = self.handle() else { return };
        let len = self.len();
        self.send_on(end, &peer, len);
    }

    fn wrong_send(&mut self) {
        let too_long = vec![0; self.config.message_max + 1];
        if let Some((end, peer)) = self.handle() {
            let outcome = in_library(|| peer.try_send(&too_long));
            self.ledger.borrow_mut().figures.reach.add("send", "TooLarge", 1);
            if !matches!(outcome, Err(SendError::TooLarge { .. })) {
                self.ledger.borrow_mut().fail(format!("{end:?} took a message over the limit: {outcome:?}"));
            }
        }
        if let (Some(server), false) = (&self.server, self.habits.sole) {
            let sender = Sender::new(server.directory.clone());
            let outcome = in_library(|| sender.try_send("nobody", b""));
            let ends = server.directory.engines.iter().all(|engine| engine.stopping.get());
            let error = if ends { SendError::Closed } else { SendError::UnknownPeer };
            if outcome != Err(error) {
                self.ledger.borrow_mut().fail(format!("a message for nobody: {outcome:?}"));
            }
            self.ledger.borrow_mut().figures.reach.note("send", &error);
        }
    }

    pub(super) fn stop_client(&mut self, at: usize) {
        let client = &self.clients[at];
        self.ledger.borrow_mut().stop(client.node);
        in_library(|| client.engine.borrow().shared().stop());
    }

    pub(super) fn stop_server(&mut self) {
        let Some(server) = &self.server else { return };
        for (engine, node) in server.engines.iter().zip(&server.nodes) {
            self.ledger.borrow_mut().stop(*node);
            in_library(|| engine.borrow().shared().stop());
        }
    }
}
