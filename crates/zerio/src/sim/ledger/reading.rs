//! What of its messages the network has taken of a side. Without TLS that is every byte; under TLS, what is in
//! records that it has taken whole: their lengths tell how much, and so it does not matter what the library says of it.
#![forbid(unsafe_code)]

use super::{End, Ledger, Session};
use crate::error::TlsFault;
use crate::wire::HEADER;

/// So many protected records are the handshake's, of either side: all up to `Finished`. rustls puts into one record what
/// it says in one go.
const SHAKES: usize = 1;

/// A type, a version, a length.
const RECORD_HEADER: usize = 5;

/// What a protected record has beside what it carries: its type, and the tag.
const BESIDE: usize = 1 + 16;

/// What an alert is long.
const ALERT: u64 = 2;

/// What a message is long that says that another key follows.
const KEY_UPDATE: u64 = 5;

/// The type of an alert, and of a handshake's record, as the first byte of what a server under TLS takes for TLS.
const BEGINNINGS: [u8; 2] = [21, 22];

/// How far a side's records have been read.
#[derive(Default)]
pub(super) struct Reading {
    records: usize,
    protected: usize,
    /// So many of them have been under the present key.
    under_key: u64,
    /// How many bytes of messages they carry.
    plain: u64,
    /// For each record that carries some: where it ends on its way, and how many bytes of messages there are up to there.
    places: Vec<(u64, u64)>,
    /// How long all of them are.
    len: u64,
    /// Behind them stand so many that carry none. Of zerio's own there is one, which says that nothing more comes.
    beyond: usize,
}

impl Ledger {
    /// A length for a message, whose record does not look as one does that says that another key follows.
    pub(in crate::sim) fn unlike_a_key_update(&self, len: usize) -> usize {
        let like = self.key_life.is_some() && (HEADER + len) as u64 == KEY_UPDATE;
        if like { len + 1 } else { len }
    }

    /// How many bytes of its frames the network has taken of a side.
    pub(super) fn taken(&mut self, end: End) -> u64 {
        if !self.under_tls {
            return self.net.bytes_sent(end);
        }
        self.read_on(end);
        let session = self.session(end);
        match &session.script {
            Some(script) if script.is_in_the_clear() => 0,
            Some(script) => session.reading.plain.min(script.bytes().len() as u64),
            None => session.reading.plain,
        }
    }

    /// The same of what the other side has received.
    pub(super) fn received(&mut self, end: End) -> u64 {
        let (received, _) = self.net.received(end.other());
        let taken = self.taken(end);
        if !self.under_tls {
            return received;
        }
        let places = &self.session(end).reading.places;
        let whole = places.iter().rev().find(|(place, _)| *place <= received);
        whole.map_or(0, |(_, plain)| *plain).min(taken)
    }

    /// Whether a side has said that nothing more comes.
    pub(super) fn has_said_all(&mut self, end: End) -> bool {
        if !self.under_tls {
            return self.net.shut_since(end).is_some();
        }
        self.read_on(end);
        let session = self.session(end);
        session.reading.beyond > 0 && session.script.as_ref().is_none_or(|script| script.says_goodbye())
    }

    /// Whether nothing more comes from a side, under TLS, and it has not said so.
    pub(super) fn is_cut_off(&mut self, end: End) -> bool {
        self.under_tls && self.net.shut_since(end).is_some() && !self.has_said_all(end)
    }

    /// Whether the network has taken a side's part of the handshake of TLS, as far as the other side waits for it.
    pub(super) fn has_shaken_hands(&mut self, end: End) -> bool {
        self.read_on(end);
        self.session(end).reading.protected > 0
    }

    /// What a server under TLS may find wrong with what the network has taken of a side, and whether it must.
    pub(super) fn tls_fault(&mut self, end: End) -> (Option<TlsFault>, bool) {
        let taken = self.taken(end);
        let session = self.session(end);
        let Some(script) = &session.script else { return (None, false) };
        (script.tls_fault(taken), script.is_said_wrong(session.reading.beyond))
    }

    /// Whether a server under TLS must see that a peer speaks something else.
    pub(super) fn is_no_tls(&mut self, end: End) -> bool {
        let sent = self.net.bytes_sent(end);
        self.session(end).clear_bytes(sent).is_some_and(|bytes| !may_be_tls(bytes))
    }

    /// Whether what a peer says in the clear may be a record of TLS, a bad one.
    pub(super) fn pretends_tls(&mut self, end: End) -> bool {
        let sent = self.net.bytes_sent(end);
        self.session(end).clear_bytes(sent).is_some_and(|bytes| bytes.len() > 2 && may_be_tls(bytes))
    }

    fn read_on(&mut self, end: End) {
        let from = self.session(end).reading.records;
        let life = self.key_life;
        // A server's tickets come right behind its handshake.
        let shakes = SHAKES + usize::from(end.side == 1 && self.tickets);
        for record in self.net.records_sent(end, from) {
            let session = self.session(end);
            let reading = &mut session.reading;
            reading.records += 1;
            reading.len += (RECORD_HEADER + record.len) as u64;
            if !record.protected {
                let (late, ours) = (reading.protected > 0, session.script.is_none());
                reading.beyond += usize::from(late);
                self.check(!late || !ours, || format!("{end:?} speaks in the clear after its handshake"));
                continue;
            }
            reading.protected += 1;
            reading.under_key += u64::from(reading.protected > SHAKES);
            if reading.protected <= shakes {
                continue;
            }
            let (under_key, life) = (reading.under_key, life.filter(|_| session.script.is_none()));
            let carries = record.len.saturating_sub(BESIDE) as u64;
            let place = session.reading.plain;
            let amid = session.is_amid_a_message(place);
            if life.is_some() && carries == KEY_UPDATE && !amid {
                session.reading.under_key = 0;
                self.figures.reach.add("session", "new key", 1);
                continue;
            }
            let over = match &session.script {
                Some(script) => place >= script.bytes().len() as u64,
                // A batch of whole frames may end with a record as short as an alert, but not between two frames.
                None => carries == ALERT && !amid,
            };
            if !over {
                session.reading.plain += carries;
                session.reading.places.push((session.reading.len, session.reading.plain));
            }
            let (late, ours) = (session.reading.beyond > 0, session.script.is_none());
            session.reading.beyond += usize::from(over);
            self.check(life.is_none_or(|life| under_key <= life), || {
                format!("{end:?} has sealed {under_key} records with one key, of which {life:?} are the most")
            });
            self.check(!late || !ours, || format!("{end:?} goes on after it has said that nothing comes"));
        }
    }
}

impl Session {
    /// Whether a message begins before this place in its frames and ends behind it.
    fn is_amid_a_message(&self, place: u64) -> bool {
        let goes_on = self.ends.last().is_some_and(|&last| last > place);
        goes_on && place > self.greeting() && self.ends.binary_search(&place).is_err()
    }

    /// The first `sent` bytes of one that speaks in the clear.
    fn clear_bytes(&self, sent: u64) -> Option<&[u8]> {
        let script = self.script.as_ref().filter(|script| script.is_in_the_clear())?;
        script.bytes().get(..sent as usize)
    }
}

fn may_be_tls(bytes: &[u8]) -> bool {
    let first = bytes.first().is_none_or(|first| BEGINNINGS.contains(first));
    first && bytes.get(1).is_none_or(|&major| major == 3) && bytes.get(2).is_none_or(|&minor| minor <= 4)
}
