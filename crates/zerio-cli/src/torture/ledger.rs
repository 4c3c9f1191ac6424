//! The server's side of it: a handler that echoes, holds each message of a well-behaved client against its
//! number, and writes down who came, who left, and what was wrong.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zerio::{Context, Disconnection, EngineTotals, Handler, Peer, Reason, Rejection};

use super::misbehave::{self, COMER, DEEDS};
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
    /// Ends of sessions, by what was done in them.
    pub(super) ends: [AtomicU64; DEEDS.len()],
    /// Connections that were lost in their handshakes.
    pub(super) lost_in_handshake: AtomicU64,
    /// Sessions that began, those of them that came to go again at once, and those that ended.
    connected: AtomicU64,
    comers: AtomicU64,
    disconnected: AtomicU64,
    /// Whose session has begun and not ended.
    present: Mutex<HashSet<String>>,
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

    fn came(&self, id: &str) {
        self.connected.fetch_add(1, Ordering::Relaxed);
        self.comers.fetch_add(u64::from(id.starts_with(COMER)), Ordering::Relaxed);
        if !self.present().insert(id.to_owned()) {
            self.fault(format!("{id}: told to be there once more before its end"));
        }
    }

    fn left(&self, id: &str) {
        self.disconnected.fetch_add(1, Ordering::Relaxed);
        if !self.present().remove(id) {
            self.fault(format!("{id}: its end was told when it was not there"));
        }
    }

    fn present(&self) -> MutexGuard<'_, HashSet<String>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds what was done by those that misbehave, or came and went, against what was told of it; and that
    /// against what the engine has counted, when nobody is left.
    pub(super) fn compare(&self, bads: &misbehave::Outcome, counted: &EngineTotals) {
        let told = |count: &AtomicU64| count.load(Ordering::Relaxed);
        // What did not come to what it should is a fault of its own, and may have been told or not.
        let exactly = bads.faults.is_empty();
        for (deed, ended) in DEEDS.iter().zip(&self.ends) {
            let done = bads.done.get(deed.name).copied().unwrap_or(0);
            let (told, is_right) = match deed.name {
                // It has no id yet. And the server may have become full just as it came: then that is told.
                misbehave::RESET_IN_HANDSHAKE => {
                    let told = told(&self.lost_in_handshake);
                    (told, told >= done / 2)
                }
                // One that is still at it when all ends leaves by itself.
                misbehave::NEVER_READS => (told(&self.slow_peers), told(&self.slow_peers) >= done),
                _ if deed.ends.is_some() => (told(ended), !exactly || told(ended) == done),
                _ => continue,
            };
            if !is_right {
                self.fault(format!("{}: {done} times, of which {told} were told", deed.name));
            }
        }
        let (went, told_of) = (bads.came_and_went, told(&self.comers));
        if exactly && went != told_of {
            self.fault(format!("{went} came and went, and {told_of} were told"));
        }
        let (began, ended) = (told(&self.connected), told(&self.disconnected));
        if (began, ended) != (counted.connected, counted.disconnected) || began != ended {
            let (connected, disconnected) = (counted.connected, counted.disconnected);
            self.fault(format!(
                "{began} sessions were told to begin and {ended} to end; {connected} and {disconnected} are counted"
            ));
        }
        for id in self.present().iter().take(FAULTS_MAX) {
            self.fault(format!("{id}: its end was never told"));
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
        self.ledger.came(peer.id());
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

    fn on_rejected(&mut self, _: SocketAddr, why: &Rejection) {
        if matches!(why, Rejection::Ended(Reason::Connection(_))) {
            self.ledger.lost_in_handshake.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        self.ledger.left(peer.id());
        let ending = self.ledger.ending.load(Ordering::Acquire);
        let in_order = ending && why.reason == Reason::PeerClosed && why.undelivered.is_empty();
        match peer.id() {
            VICTIM_KILLED => drop(self.ledger.killed.fetch_add(1, Ordering::Relaxed)),
            VICTIM_STOPPED if !ending => self.ledger.fault(format!("{VICTIM_STOPPED} left: {why}")),
            id if id.starts_with("good-") && !in_order => self.ledger.fault(format!("{id} left: {why}")),
            _ => {}
        }
        if let Some(deed) = misbehave::deed_of(peer.id()) {
            self.ledger.ends[deed].fetch_add(1, Ordering::Relaxed);
            let (name, ends) = (DEEDS[deed].name, DEEDS[deed].ends);
            if !ends.is_some_and(|ends| ends(&why.reason)) {
                self.ledger.fault(format!("{name}: {why}"));
            }
        }
        if why.reason == Reason::SlowPeer {
            self.ledger.slow_peers.fetch_add(1, Ordering::Relaxed);
        }
    }
}
