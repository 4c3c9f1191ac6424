//! How connections end: whether the reason that is told is one that what the peer did, and what went wrong, allow,
//! and whether what is told to be left was.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::{End, Ledger};
use crate::error::{Disconnection, Reason, RefusalCode, Rejection, TlsFault, Undelivered};
use crate::wire::PeerId;

impl Ledger {
    /// What of the messages that a side has accepted the network has not taken.
    pub(super) fn left(&mut self, end: End) -> Undelivered {
        let taken = self.taken(end);
        let session = self.session(end);
        let messages = session.ends.iter().filter(|&&position| position > taken).count() as u64;
        let total = session.ends.last().copied().unwrap_or_else(|| session.greeting());
        Undelivered { messages, bytes: total.saturating_sub(taken.max(session.greeting())) }
    }

    /// What was accepted is what the network took and what is told to be left.
    pub(super) fn check_undelivered(&mut self, end: End, node: usize, why: &Disconnection) {
        let Undelivered { messages: left, bytes } = self.left(end);
        let told = why.undelivered;
        if told.messages == left && told.bytes == bytes {
            return self.check_drained(end, node, why);
        }
        let what =
            format!("{end:?} was told {told:?}, but {left} messages ({bytes} bytes) were left: {why:?}");
        match told.messages >= left && told.bytes >= bytes {
            true => _ = self.book(node).unless_failed.get_or_insert(what),
            false => self.fail(what),
        }
    }

    /// A peer that sends nothing more and reads on gets what was accepted for it, unless the connection is lost or
    /// the time for it is over, or the driver fails.
    fn check_drained(&mut self, end: End, node: usize, why: &Disconnection) {
        let Some(since) = self.net.shut_since(end.other()) else { return };
        let lost = !self.net.is_sound(end.connection) || self.net.is_cut(end);
        let late = self.net.now() - since >= self.drain_timeout.as_nanos() as u64;
        let drains = matches!(why.reason, Reason::PeerClosed | Reason::Truncated { .. });
        // A newer session takes the id of one that drains, too.
        let excused = lost || late || self.replaces && self.has_a_successor(end);
        if drains && !excused && !why.undelivered.is_empty() {
            let what =
                format!("{end:?} did not send all to a peer that sends nothing more and reads on: {why:?}");
            self.book(node).unless_failed.get_or_insert(what);
        }
    }

    /// The reason that is told is the true one, as far as it can be known from outside.
    pub(super) fn check_reason(&mut self, end: End, node: usize, reason: Reason) {
        let other = end.other();
        let (taken, shut) = (self.taken(other), self.has_said_all(other));
        let (tls_fault, must) = self.tls_fault(other);
        let cut_off = self.is_cut_off(other) && !must;
        let (slow, replaced) = (self.was_full_for_long(end), self.replaces && self.has_a_successor(end));
        let failed = self.has_failed(end, reason);
        let book = self.book(node);
        book.failure_told |= matches!(reason, Reason::DriverFailed(_));
        let stopped = book.stopped;
        let session = self.session(end);
        let (heard, muted, asked) = (session.heard, session.muted, session.asked_to_end);
        let other = self.session(other);
        let (came, rest) = other.came(taken);
        let fault = other.fault(taken);
        let all = fault.is_none() && heard == came;
        let right = match reason {
            // What comes after its handler has disconnected it is nobody's business.
            Reason::PeerClosed => shut && (muted || all && rest == 0),
            Reason::Truncated { received } => shut && all && rest == received as u64,
            Reason::Tls(TlsFault::Truncated) => cut_off && (muted || all),
            Reason::Tls(told) => tls_fault == Some(told) && (muted || all),
            Reason::BadFrame(told) => fault == Some(told) && heard == came,
            Reason::Connection(_) => failed,
            Reason::BadAnswer | Reason::HandlerPanicked => false,
            Reason::SlowPeer => slow,
            Reason::Disconnected => asked || muted,
            Reason::Replaced => replaced,
            Reason::Stopped => stopped,
            // Whether it has, the engine's end shows.
            Reason::DriverFailed(_) => true,
        };
        self.check(right, || {
            format!(
                "{end:?} ended because \"{reason}\", having heard {heard} of {came} messages, {rest} bytes left, \
                 behind them {fault:?}, {tls_fault:?}; it has said all: {shut}, was cut off: {cut_off}"
            )
        });
        match reason {
            Reason::BadFrame(_) => self.book(node).bad_frames += 1,
            // One that ends for another reason goes on reading, and counts what it finds.
            _ if fault.is_some() && heard == came && !muted => self.book(node).bad_frames_unseen += 1,
            _ => {}
        }
    }

    /// What had come before a connection was lost was heard before its end, as far as its handler wanted to and there
    /// was time.
    pub(super) fn check_all_heard(&mut self, end: End, node: usize, reason: Reason) {
        let Reason::Connection(_) = reason else { return };
        let (now, patience) = (self.net.now(), self.drain_timeout.as_nanos() as u64);
        let late = self.net.failed_at(end).is_some_and(|since| now - since >= patience);
        let replaced = self.replaces && self.has_a_successor(end);
        let (received, unread) = (self.received(end.other()), self.net.received(end).1);
        let session = self.session(end);
        // Who is asked to end a session hands nothing out any more.
        let ends = session.muted || session.asked_to_end;
        let (heard, excused) = (session.heard, ends || session.held_back || late || replaced);
        let came = self.session(end.other()).ends.iter().filter(|&&position| position <= received).count();
        if !excused && (heard < came || unread > 0) {
            let what = format!(
                "{end:?} ended because \"{reason}\", having heard {heard} of {came} messages that it has received, \
                 and {unread} bytes more had come"
            );
            self.book(node).unless_failed.get_or_insert(what);
        }
    }

    /// Whether another connection with the same id was let in while this one was there, which may have been made before.
    pub(super) fn has_a_successor(&mut self, end: End) -> bool {
        let session = self.session(end);
        let (id, opened, over) = (session.id.clone(), session.opened_at, session.over_at);
        let server = self.server_of(end);
        let others = self.sessions.iter().enumerate().filter(|(at, _)| *at != end.connection as usize);
        others.into_iter().any(|(at, sides)| {
            let other = &sides[1];
            let is_there = other.over_at >= opened || other.over_at.is_none();
            let is_let_in =
                other.admitted == Some(true) && over.is_none_or(|over| other.admitted_at <= Some(over));
            sides[0].id == id
                && is_let_in
                && is_there
                && self.server_of(End { connection: at as u32, side: 1 }) == server
        })
    }

    /// The listener by which a connection came, of which each server has one.
    fn server_of(&self, end: End) -> Option<usize> {
        self.net.accepted(End { side: 1, ..end }).map(|(listener, _)| listener)
    }

    /// Whether another session of the same server had this id while a connection was there.
    fn was_taken(&self, id: &str, end: End) -> bool {
        let (server, since) = (self.server_of(end), self.net.taken_at(end));
        self.sessions.iter().enumerate().any(|(at, sides)| {
            let (other, session) = (End { connection: at as u32, side: 1 }, &sides[1]);
            let was_there = session.over_at.is_none() || session.over_at >= since;
            let has_it = session.opened_at.is_some() && session.id == id;
            other != end && has_it && was_there && self.server_of(other) == server
        })
    }

    /// Whether a connection has failed in a way that may be told so. It may also have been reset after that, by the
    /// socket's own close with something unread, which nobody can tell apart here.
    pub(super) fn has_failed(&self, end: End, reason: Reason) -> bool {
        match reason {
            Reason::Connection(ErrorKind::BrokenPipe) => self.net.is_cut(end),
            // Nobody else is given up, least of all a peer that has no room.
            Reason::Connection(ErrorKind::TimedOut) => {
                self.net.is_severed(end.connection) && self.net.is_given_up(end)
            }
            Reason::Connection(_) => !self.net.is_whole(end.connection) && !self.net.is_given_up(end),
            _ => false,
        }
    }

    /// A connection that did not become a session is told of so, too.
    pub(super) fn check_rejection(&mut self, end: End, node: usize, rejection: Rejection) {
        let (client, sent) = (end.other(), self.net.bytes_sent(end.other()));
        let taken = self.taken(client);
        let (tls_fault, must) = self.tls_fault(client);
        let (said_all, cut_off) = (self.has_said_all(client), self.is_cut_off(client) && !must);
        // Under TLS a server that has heard no more than a part of the handshake can only say that it is over.
        let strange = self.under_tls && !self.has_shaken_hands(client);
        let (no_tls, pretends) = (self.is_no_tls(client), self.pretends_tls(client));
        let failed = matches!(rejection, Rejection::Ended(reason) if self.has_failed(end, reason));
        let stopped = self.book(node).stopped;
        let other = self.session(client);
        let id = other.hello(taken);
        let (hello, nobody) = (id.is_some(), id.is_some_and(|id| PeerId::from_bytes(id).is_err()));
        let (fault, text) = (other.fault(taken), other.id.clone());
        let taken_id = self.was_taken(&text, end);
        // One that waits for an older session with its id to end may do something wrong meanwhile.
        let may_wait = taken_id && self.session(end).admitted == Some(true);
        let right = match rejection {
            Rejection::Refused(code) if !self.may_refuse(end, code) => false,
            Rejection::Refused(code) => match code {
                RefusalCode::AlreadyConnected => hello && taken_id,
                RefusalCode::BadPeerId => nobody,
                RefusalCode::BadFrame => fault.is_some() && !hello,
                RefusalCode::Stopping => stopped,
                // Whether the first frame had come by then, is not seen from outside.
                RefusalCode::ServerFull | RefusalCode::TooLate => true,
                RefusalCode::NotAllowed => hello && !nobody,
                // These are told before it is read.
                RefusalCode::TooManyFromAddress | RefusalCode::TooManyPerSecond => true,
                RefusalCode::TlsRequired => no_tls,
                RefusalCode::NoTls | RefusalCode::NotInCertificate | RefusalCode::Other(_) => false,
            },
            Rejection::Ended(reason) => match reason {
                Reason::PeerClosed if strange => self.net.shut_since(client).is_some(),
                Reason::PeerClosed => said_all && taken == 0,
                Reason::Truncated { received } => {
                    said_all && !hello && fault.is_none() && received as u64 == taken
                }
                Reason::Tls(TlsFault::Truncated) => !strange && cut_off && !hello && fault.is_none(),
                Reason::Tls(told) => {
                    pretends || tls_fault == Some(told) && (may_wait || !hello && fault.is_none())
                }
                Reason::Connection(_) => failed,
                Reason::DriverFailed(_) => true,
                _ => false,
            },
        };
        self.check(right, || {
            format!(
                "{end:?} was rejected because \"{rejection}\": it sent {taken} bytes of {sent}, in them {fault:?}, \
                 {tls_fault:?}"
            )
        });
        let book = self.book(node);
        book.failure_told |= matches!(rejection, Rejection::Ended(Reason::DriverFailed(_)));
        book.bad_frames += u64::from(matches!(rejection, Rejection::Refused(RefusalCode::BadFrame)));
        match rejection {
            Rejection::Refused(code) => {
                book.refused += 1;
                *book.refused_as.entry(code.to_byte()).or_default() += 1;
            }
            Rejection::Ended(_) => book.failed_handshakes += 1,
        }
        self.note_rejected(end, node, rejection);
    }
}
