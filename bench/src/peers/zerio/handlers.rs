//! What zerio's users write: handlers. The clients' tell a thread that waits what came of it.
#![forbid(unsafe_code)]

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use zerio::{Context, Disconnection, Handler, Peer};

use crate::failure::Failure;
use crate::job::{Job, Outcome};
use crate::measure::GRACE;
use crate::script::{self, Arrivals, Pinger, Sink};

/// Sends each message back.
pub(super) struct Echo;

impl Handler for Echo {
    #[inline]
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        // Where it can't be had the client sees that an answer is missing, and says so.
        let _ = peer.send(message);
    }
}

impl Handler for Sink {
    #[inline]
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if let Some(answer) = self.take(message) {
            let _ = peer.send(&answer);
        }
    }
}

/// Hands one value to another thread, which waits for it. Neither side allocates.
pub(super) struct Handover<T> {
    value: Mutex<Option<T>>,
    given: Condvar,
}

impl<T> Default for Handover<T> {
    fn default() -> Self {
        Handover { value: Mutex::new(None), given: Condvar::new() }
    }
}

impl<T> Handover<T> {
    pub(super) fn give(&self, value: T) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.given.notify_all();
    }

    /// The value, if there is one now.
    pub(super) fn try_take(&self) -> Option<T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The value, as soon as there is one; a failure where none comes for `longest` and a while.
    pub(super) fn take(&self, longest: std::time::Duration) -> Result<T, Failure> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given.wait_timeout_while(value, longest + GRACE, |value| value.is_none());
        let taken = waited.unwrap_or_else(PoisonError::into_inner).0.take();
        taken.ok_or_else(|| Failure::new("no answer came for a long time"))
    }
}

/// Gathers handles on all clients, and hands them over when it has so many as there was room for.
pub(super) struct Gather {
    pub(super) peers: Vec<Peer>,
    pub(super) all: Arc<Handover<Vec<Peer>>>,
}

impl Handler for Gather {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.peers.push(peer.peer());
        if self.peers.len() == self.peers.capacity() {
            self.all.give(std::mem::take(&mut self.peers));
        }
    }
}

/// Where a client's handler puts its result.
pub(super) type Hears<T> = Arc<Handover<Result<T, Failure>>>;

/// Sends round trips from the handler, each when the last one's answer has come.
pub(super) struct Pings {
    pub(super) pinger: Pinger,
    pub(super) job: Job,
    pub(super) done: Hears<Outcome>,
}

impl Handler for Pings {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        self.pinger.start(&self.job);
        if let Err(error) = peer.send(self.pinger.message()) {
            self.done.give(Err(error.into()));
        }
    }

    #[inline]
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        match self.pinger.answered(message) {
            Ok(true) => {
                if let Err(error) = peer.send(self.pinger.message()) {
                    self.done.give(Err(error.into()));
                }
            }
            Ok(false) => self.done.give(self.pinger.outcome()),
            Err(failure) => self.done.give(Err(failure)),
        }
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, _: &Disconnection) {
        self.done.give(Err(script::ended()));
    }
}

/// Takes a sink's answers.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) counted: Hears<u64>,
}

impl Handler for Answers {
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        self.counted.give(script::counted(message));
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, _: &Disconnection) {
        self.counted.give(Err(script::ended()));
    }
}

/// Takes the answers of an open loop, which begins when somebody puts the arrivals there.
pub(super) struct Paced {
    pub(super) arrivals: Arc<Handover<Arrivals>>,
    pub(super) open: Option<Arrivals>,
    pub(super) done: Hears<Outcome>,
}

impl Handler for Paced {
    #[inline]
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        if self.open.is_none() {
            self.open = self.arrivals.try_take();
        }
        let Some(arrivals) = &mut self.open else { return };
        match arrivals.take(message) {
            Ok(true) => {}
            Ok(false) => self.done.give(Ok(arrivals.outcome())),
            Err(failure) => self.done.give(Err(failure)),
        }
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, _: &Disconnection) {
        self.done.give(Err(script::ended()));
    }
}
