//! Who is connected: from a peer id to its session, for every thread. Its table is made for twice as many
//! as can be connected, because with that many a hash table makes room in place, and never grows.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
#[cfg(not(loom))]
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(loom)]
use loom::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Shared;
use super::gate::Gate;
use crate::config::Config;
use crate::cursor::Tally;
use crate::driver::SlotId;
use crate::error::SendError;
use crate::wire::PeerId;

/// What one place of the table costs.
#[cfg(test)]
pub(crate) const BYTES_PER_SESSION: usize = size_of::<(PeerId, Entry)>() + 1;

pub(crate) struct Directory {
    entries: RwLock<HashMap<PeerId, Entry>>,
    /// How often somebody left, from one on: who waits for that need not look into the table.
    departures: Tally,
    /// All engines of the server, in order.
    pub(crate) engines: Vec<Arc<Shared>>,
    /// Who may connect at all.
    pub(crate) gate: Gate,
    sessions_max: usize,
}

/// Why a session can't be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// This older one has its id.
    Taken(Entry),
    /// There are `sessions_max` others.
    Full,
}

/// Where a peer's session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) engine: usize,
    pub(crate) id: SlotId,
    pub(crate) address: SocketAddr,
    /// The session has ended and its handler has not yet heard so: nobody finds it any more, and nobody
    /// else has its id yet, so that the events of one id keep their order across engines.
    pub(crate) gone: bool,
    /// Its connection is lost, and it ends soon: who has its id, too, may wait for that.
    pub(crate) lost: bool,
}

impl Entry {
    fn is(&self, engine: usize, id: SlotId) -> bool {
        self.engine == engine && self.id == id
    }
}

impl Directory {
    pub(crate) fn new(engines: Vec<Arc<Shared>>, config: &Config) -> Directory {
        let sessions_max = config.sessions_max;
        let entries = RwLock::new(HashMap::with_capacity(2 * sessions_max + 16));
        let departures = Tally::default();
        departures.add(1);
        Directory { entries, departures, engines, gate: Gate::new(config), sessions_max }
    }

    /// Enters a session under its id, which from here on counts among `sessions_max`. `welcome` is called in
    /// between, while nobody can find the session yet: what it sends goes before what anybody else sends.
    pub(crate) fn enter(&self, peer: &PeerId, entry: Entry, welcome: impl FnOnce()) -> Result<(), NoPlace> {
        let mut entries = self.write();
        if let Some(taken) = entries.get(peer) {
            return Err(NoPlace::Taken(*taken));
        }
        if entries.len() >= self.sessions_max {
            return Err(NoPlace::Full);
        }
        welcome();
        entries.insert(*peer, entry);
        Ok(())
    }

    /// Nobody finds a session any more, if it is the one that stands there.
    pub(crate) fn hide(&self, peer: &PeerId, engine: usize, id: SlotId) {
        let mut entries = self.write();
        if let Some(entry) = entries.get_mut(peer).filter(|entry| entry.is(engine, id)) {
            entry.gone = true;
        }
    }

    /// A session's connection is lost, if it is the one that stands there.
    pub(crate) fn lose(&self, peer: &PeerId, engine: usize, id: SlotId) {
        let mut entries = self.write();
        if let Some(entry) = entries.get_mut(peer).filter(|entry| entry.is(engine, id)) {
            entry.lost = true;
        }
    }

    /// Takes a session out, if it is the one that stands there.
    pub(crate) fn leave(&self, peer: &PeerId, engine: usize, id: SlotId) {
        let mut entries = self.write();
        if entries.get(peer).is_some_and(|entry| entry.is(engine, id)) {
            entries.remove(peer);
            self.departures.add(1);
        }
    }

    /// Takes all sessions of an engine out, which has ended.
    pub(crate) fn leave_all(&self, engine: usize) {
        let mut entries = self.write();
        entries.retain(|_, entry| entry.engine != engine);
        self.departures.add(1);
    }

    /// Another number than before where an id has become free since.
    pub(crate) fn departures(&self) -> u64 {
        self.departures.get()
    }

    #[inline]
    pub(crate) fn find(&self, peer: &str) -> Option<Entry> {
        self.read().get(peer).copied().filter(|entry| !entry.gone)
    }

    /// A peer's session to send to, or why there is none.
    #[inline]
    pub(crate) fn look_up(&self, peer: &str) -> Result<Entry, SendError> {
        self.find(peer).ok_or_else(|| self.why_nobody())
    }

    /// Who is not there may come, unless the whole server has ended or is about to.
    #[cold]
    fn why_nobody(&self) -> SendError {
        let ends = self.engines.iter().all(|engine| engine.stopping.get());
        if ends { SendError::Closed } else { SendError::UnknownPeer }
    }

    /// Whether there is no place for one more, whoever it is.
    pub(crate) fn is_full(&self) -> bool {
        self.read().len() >= self.sessions_max
    }

    /// Whether nobody has an id.
    #[cfg(feature = "sim")]
    pub(crate) fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// How many are connected.
    pub(crate) fn len(&self) -> usize {
        self.read().values().filter(|entry| !entry.gone).count()
    }

    /// Everybody who is connected, in the order of their places: a hash table's own is another in each process,
    /// and a simulation is to be the same.
    pub(crate) fn all(&self) -> Vec<(PeerId, Entry)> {
        let entries = self.read();
        let connected = entries.iter().filter(|(_, entry)| !entry.gone);
        let mut all: Vec<_> = connected.map(|(peer, entry)| (*peer, *entry)).collect();
        all.sort_unstable_by_key(|(_, entry)| (entry.engine, entry.id.index));
        all
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<PeerId, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<PeerId, Entry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(sessions_max: usize) -> Directory {
        Directory::new(Vec::new(), &Config { sessions_max, ..Config::default() })
    }

    fn entry(index: u32, generation: u32) -> Entry {
        let id = SlotId { index, generation };
        Entry { engine: 0, id, address: "127.0.0.1:1".parse().unwrap(), gone: false, lost: false }
    }

    #[test]
    fn an_id_is_one_sessions_until_that_session_leaves() {
        let directory = directory(4);
        let peer = PeerId::new("a").unwrap();
        directory.enter(&peer, entry(0, 1), || {}).unwrap();
        let welcome = || panic!("it is not welcome");
        assert_eq!(directory.enter(&peer, entry(1, 1), welcome), Err(NoPlace::Taken(entry(0, 1))));
        directory.leave(&peer, 0, entry(0, 2).id);
        assert_eq!(directory.find("a"), Some(entry(0, 1)), "another generation does not leave for it");
        directory.leave(&peer, 0, entry(0, 1).id);
        assert_eq!(directory.find("a"), None);
    }

    #[test]
    fn a_hidden_session_keeps_its_id_until_it_leaves() {
        let directory = directory(4);
        let peer = PeerId::new("a").unwrap();
        let old = entry(0, 1);
        directory.enter(&peer, old, || {}).unwrap();
        directory.hide(&peer, 1, old.id);
        assert_eq!(directory.find("a"), Some(old), "another engine's slot is another session");
        directory.hide(&peer, 0, old.id);
        assert_eq!((directory.find("a"), directory.len(), directory.all()), (None, 0, vec![]));
        let gone = Entry { gone: true, ..old };
        assert_eq!(directory.enter(&peer, entry(1, 1), || {}), Err(NoPlace::Taken(gone)));
        directory.leave(&peer, 0, old.id);
        directory.enter(&peer, entry(1, 1), || {}).unwrap();
        directory.leave_all(1);
        assert_eq!(directory.find("a"), Some(entry(1, 1)));
        directory.leave_all(0);
        assert_eq!(directory.find("a"), None);
    }

    #[test]
    fn there_are_as_many_as_may_be_and_whose_id_is_taken_hears_that_first() {
        let directory = directory(2);
        let [a, b, c] = ["a", "b", "c"].map(|id| PeerId::new(id).unwrap());
        directory.enter(&a, entry(0, 1), || {}).unwrap();
        assert!(!directory.is_full());
        directory.enter(&b, entry(1, 1), || {}).unwrap();
        assert!(directory.is_full());
        let welcome = || panic!("it is not welcome");
        assert_eq!(directory.enter(&c, entry(2, 1), welcome), Err(NoPlace::Full));
        assert_eq!(directory.enter(&b, entry(2, 1), welcome), Err(NoPlace::Taken(entry(1, 1))));
        directory.hide(&a, 0, entry(0, 1).id);
        assert!(directory.is_full(), "one whose end has not been heard of has its place");
        directory.leave(&a, 0, entry(0, 1).id);
        directory.enter(&c, entry(2, 1), || {}).unwrap();
    }

    #[test]
    fn peers_that_come_and_go_never_make_the_table_grow() {
        let directory = directory(8);
        let capacity = directory.read().capacity();
        for round in 0..10_000u32 {
            if round >= 8 {
                let old = round - 8;
                let peer = PeerId::new(&format!("peer-{old}")).unwrap();
                directory.leave(&peer, 0, entry(old % 8, old).id);
            }
            let peer = PeerId::new(&format!("peer-{round}")).unwrap();
            directory.enter(&peer, entry(round % 8, round), || {}).unwrap();
        }
        assert_eq!(directory.read().capacity(), capacity);
    }
}
