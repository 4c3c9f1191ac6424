//! The server's side of it: a handler that echoes, holds each message of a well-behaved client against its
//! number, and writes down who came, who left, and what was wrong.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use zerio::{Context, Disconnection, Handler, Peer, Reason};

use super::{VICTIM_KILLED, VICTIM_STOPPED, numbered};

/// So many faults are written down.
const FAULTS_MAX: usize = 20;

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Messages of well-behaved clients that came in their place.
    pub(super) checked: AtomicU64,
    /// Victims that were killed and whose end was told.
    pub(super) killed: AtomicU64,
    pub(super) slow_peers: AtomicU64,
    /// The clients may leave now.
    pub(super) ending: AtomicBool,
    faults: Mutex<Vec<String>>,
}

impl Ledger {
    pub(super) fn fault(&self, what: String) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.len() < FAULTS_MAX {
            faults.push(what);
        }
    }

    pub(super) fn take_faults(&self) -> Vec<String> {
        std::mem::take(&mut *self.faults.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub(super) struct Echo {
    pub(super) ledger: Arc<Ledger>,
    /// The number of each client's next message.
    pub(super) next: Vec<u64>,
    pub(super) victims: SyncSender<Peer>,
}

impl Handler for Echo {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        if peer.id().starts_with("victim-") {
            let _ = self.victims.try_send(peer.peer());
        }
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        if !peer.id().starts_with("good-") {
            // Whoever does not read its echoes loses them.
            let _ = peer.send(message);
            return;
        }
        let Some((client, number)) = numbered::read(message) else {
            return self.ledger.fault(format!("{}: a torn message came", peer.id()));
        };
        match self.next.get_mut(client as usize) {
            Some(next) if *next == number => *next += 1,
            next => self.ledger.fault(format!("{}: {number} came, {next:?} was next", peer.id())),
        }
        self.ledger.checked.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = peer.send(message) {
            self.ledger.fault(format!("{}: no room for an echo: {error}", peer.id()));
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        let ending = self.ledger.ending.load(Ordering::Acquire);
        let in_order = ending && why.reason == Reason::PeerClosed && why.undelivered.is_empty();
        match peer.id() {
            VICTIM_KILLED => drop(self.ledger.killed.fetch_add(1, Ordering::Relaxed)),
            VICTIM_STOPPED if !ending => self.ledger.fault(format!("{VICTIM_STOPPED} left: {why}")),
            id if id.starts_with("good-") && !in_order => self.ledger.fault(format!("{id} left: {why}")),
            _ => {}
        }
        if why.reason == Reason::SlowPeer {
            self.ledger.slow_peers.fetch_add(1, Ordering::Relaxed);
        }
    }
}
