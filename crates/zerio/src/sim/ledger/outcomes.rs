//! What the user of a client is told: that it has a session, or why it has none; held against what the server's handler
//! was told, the network and the time.
#![forbid(unsafe_code)]

use std::io::ErrorKind;

use super::{End, Ledger, Phase};
use crate::engine::Failure;
use crate::error::{Alert, Reason, RefusalCode, Rejection, TlsFault};

/// What a handler says to whom it does not let in.
pub(in crate::sim) const NOT_TODAY: &str = "not today";

/// All that a client under TLS is told for which a server has no slot, or which is over a limit.
const ACCESS_DENIED: Alert = Alert(49);

/// Why a server under TLS says so.
const TURNED_AWAY: [RefusalCode; 3] =
    [RefusalCode::TooManyFromAddress, RefusalCode::TooManyPerSecond, RefusalCode::ServerFull];

impl Ledger {
    /// Somebody begins to connect.
    pub(in crate::sim) fn comes(&mut self, end: End, node: usize, id: String) {
        let now = self.net.now();
        let session = self.session(end);
        (session.node, session.id, session.since) = (node, id, now);
    }

    /// A client's user is told.
    pub(in crate::sim) fn concluded(&mut self, end: End, node: usize, failure: Option<Failure>) {
        let phase = self.session(end).phase;
        self.check((phase == Phase::New) == failure.is_some(), || {
            format!("{end:?} is {phase:?}, and its user was told {failure:?}")
        });
        self.check_concluded_in_time(end);
        let Some(failure) = failure else { return };
        self.figures.reach.note("told", &failure);
        let right = match &failure {
            Failure::Connect(error) => match error.kind() {
                ErrorKind::ConnectionRefused => !self.net.was_taken(end.other()),
                ErrorKind::OutOfMemory => self.connects_fail,
                _ => false,
            },
            Failure::TimedOut => {
                let took = self.net.now() - self.session(end).since;
                u128::from(took) >= self.handshake_timeout.as_nanos()
            }
            Failure::Refused(..) => true,
            Failure::Ended(reason) => self.may_end_early(end, node, *reason),
        };
        self.check(right, || format!("{end:?} has no session, and its user was told {failure:?}"));
        if let Failure::Refused(code, text) = failure {
            self.refusals.push((end, code, text));
        }
    }

    /// Whether a client's connection can have ended so in its handshake.
    fn may_end_early(&mut self, end: End, node: usize, reason: Reason) -> bool {
        let book = self.book(node);
        book.failure_told |= matches!(reason, Reason::DriverFailed(_));
        let (stopped, silent) = (book.stopped, book.silent);
        match reason {
            Reason::PeerClosed | Reason::Truncated { .. } => {
                self.net.shut_since(end.other()).is_some() || self.has_said_all(end.other())
            }
            Reason::Tls(TlsFault::Truncated) => self.is_cut_off(end.other()),
            Reason::Tls(TlsFault::Alert(ACCESS_DENIED)) if self.under_tls => {
                self.turned_away.push(end);
                true
            }
            Reason::Connection(_) => self.has_failed(end, reason),
            Reason::Stopped => stopped,
            Reason::HandlerPanicked => silent,
            // Whether it has, the engine's end shows.
            Reason::DriverFailed(_) => true,
            _ => false,
        }
    }

    /// At the end: the code that a client was told is the one that the server's handler was told, where one lives to
    /// tell.
    pub(in crate::sim) fn check_refusals(&mut self) {
        let silent = self.books.iter().any(|book| book.silent);
        for end in std::mem::take(&mut self.turned_away) {
            let told = self.session(end.other()).rejected;
            let right = told.map_or(silent, |told| TURNED_AWAY.map(Rejection::Refused).contains(&told));
            self.check(right, || {
                format!("{end:?} was turned away by an alert, and the server's handler was told {told:?}")
            });
        }
        for (end, code, text) in std::mem::take(&mut self.refusals) {
            let told = self.session(end.other()).rejected;
            let right = told.map_or(silent, |told| told == Rejection::Refused(code));
            self.check(right, || {
                format!("{end:?} was told that it is refused, {code:?}, and the server's handler {told:?}")
            });
            let said = code != RefusalCode::NotAllowed || text == NOT_TODAY;
            self.check(said, || format!("{end:?} was told \"{text}\", which the handler did not say"));
        }
    }
}
