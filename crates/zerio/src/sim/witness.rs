//! The handler of a storm: it tells the oracle what it hears, and answers, pauses and disconnects as a user's
//! would.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;

use super::ledger::{Ledger, NOT_TODAY, compose};
use super::member::Planned;
use crate::driver::sim::{End, Random, Whose, connection_of, in_library};
use crate::engine::Context;
use crate::error::{Disconnection, Rejection};
use crate::handler::{Arrival, Handler, Refusal, Rejections};
use crate::session::peer::Peer;

/// What handlers do, each so many times in a thousand messages.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) answer: u32,
    pub(super) claim: u32,
    pub(super) pass_on: u32,
    pub(super) pause: u32,
    pub(super) disconnect: u32,
    pub(super) panic: u32,
    /// Of those who want to come in.
    pub(super) refuse: u32,
    pub(super) message_max: usize,
    /// Nobody has a handle on its sessions, so none may be given away.
    pub(super) sole: bool,
}

pub(super) struct Witness {
    pub(super) ledger: Rc<RefCell<Ledger>>,
    pub(super) node: usize,
    pub(super) server: bool,
    pub(super) habits: Habits,
    pub(super) random: Random,
    /// Handles on those that are paused, for whoever resumes them.
    pub(super) paused: Rc<RefCell<Vec<(End, Peer)>>>,
    pub(super) scratch: Vec<u8>,
    /// Ids that a message may be passed on to.
    pub(super) ids: u64,
}

impl Witness {
    fn end(&self, peer: &Context<'_>) -> End {
        if self.server {
            return End { connection: connection_of(peer.address()), side: 1 };
        }
        let connection = self.ledger.borrow_mut().book(self.node).connection.unwrap_or(u32::MAX);
        End { connection, side: 0 }
    }

    fn answer(&mut self, end: End, peer: &mut Context<'_>) {
        let len = self.random.of_any_size(1, self.habits.message_max as u64 + 1) as usize - 1;
        let len = self.ledger.borrow().unlike_a_key_update(len);
        let n = self.ledger.borrow_mut().accepted(end);
        compose(end, n, len, &mut self.scratch);
        let claims = self.random.happens(self.habits.claim);
        let library = Whose::library();
        let outcome = if claims {
            match peer.claim(len) {
                // It changes its mind.
                Ok(claim) if self.random.happens(200) => return drop(claim),
                Ok(mut claim) => {
                    claim.copy_from_slice(&self.scratch);
                    claim.commit()
                }
                Err(error) => Err(error),
            }
        } else {
            peer.send(&self.scratch)
        };
        drop(library);
        self.ledger.borrow_mut().sent(end, len, outcome);
    }

    /// Sends a message to somebody else.
    fn pass_on(&mut self, peer: &mut Context<'_>) {
        let id = format!("c{}", self.random.below(self.ids));
        let server = self.ledger.borrow_mut().book(self.node).server;
        let found = self.ledger.borrow().find(server, &id);
        let (end, len) = (found.unwrap_or(End { connection: u32::MAX, side: 1 }), 24);
        let n = if found.is_some() { self.ledger.borrow_mut().accepted(end) } else { 0 };
        compose(end, n, len.min(self.habits.message_max), &mut self.scratch);
        let outcome = in_library(|| peer.send_to(&id, &self.scratch));
        let mut ledger = self.ledger.borrow_mut();
        match found {
            Some(end) => ledger.sent(end, self.scratch.len(), outcome),
            None if outcome.is_ok() => {
                ledger.fail(format!("a message for {id}, who is not there, was accepted"))
            }
            None => {}
        }
    }

    /// Its engine has to end without it, if so. There are fewer events of one kind than of another.
    fn may_panic(&mut self, times: u32) {
        if !self.ledger.borrow().calm && self.random.happens(self.habits.panic * times) {
            self.ledger.borrow_mut().silence(self.node);
            // Nothing is printed, as there would be for `panic!`.
            resume_unwind(Box::new(Planned));
        }
    }
}

impl Handler for Witness {
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        let _handler = Whose::others();
        let end = End { connection: connection_of(arrival.address()), side: 1 };
        let let_in = self.ledger.borrow().calm || !self.random.happens(self.habits.refuse);
        self.ledger.borrow_mut().asked(end, self.node, arrival.id(), let_in);
        self.may_panic(10);
        if let_in { Ok(()) } else { Err(Refusal::new(NOT_TODAY)) }
    }

    fn on_connected(&mut self, peer: &mut Context<'_>) {
        let _handler = Whose::others();
        let end = self.end(peer);
        self.ledger.borrow_mut().connected(end, self.node, peer.id());
        if self.random.happens(self.habits.answer) {
            self.answer(end, peer);
        }
        self.may_panic(10);
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let _handler = Whose::others();
        let end = self.end(peer);
        self.ledger.borrow_mut().heard(end, self.node, message, peer.is_batch_end());
        if self.ledger.borrow().calm {
            return;
        }
        if self.random.happens(self.habits.answer) {
            self.answer(end, peer);
        }
        if self.server && self.random.happens(self.habits.pass_on) {
            self.pass_on(peer);
        }
        self.may_panic(1);
        if !self.habits.sole && self.random.happens(self.habits.pause) {
            peer.pause();
            self.ledger.borrow_mut().pause(end, true);
            self.paused.borrow_mut().push((end, peer.peer()));
        }
        if self.random.happens(self.habits.disconnect) {
            peer.disconnect();
            self.ledger.borrow_mut().mute(end);
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        let _handler = Whose::others();
        let end = self.end(peer);
        self.ledger.borrow_mut().disconnected(end, self.node, why);
        // Nothing can be sent any more.
        let outcome = peer.send(b"too late");
        if outcome.is_ok() {
            self.ledger.borrow_mut().fail(format!("{end:?} accepted a message when it was over"));
        }
        self.may_panic(10);
    }

    fn on_rejected(&mut self, address: SocketAddr, why: &Rejection) {
        let _handler = Whose::others();
        let end = End { connection: connection_of(address), side: 1 };
        self.ledger.borrow_mut().rejected(end, self.node, *why);
        self.may_panic(10);
    }

    fn on_rejections(&mut self, some: &Rejections) {
        let _handler = Whose::others();
        self.ledger.borrow_mut().told(self.node, some);
    }
}
