//! Whether deadlines are kept: who is to become a session does so in time or not at all, and who is to end ends in time.
#![forbid(unsafe_code)]

use super::{End, Ledger, Phase, Session};

/// An engine that sleeps may wake up late, and a user's loop comes by when it likes; several times on the way to an end.
pub(super) const SLACK: u64 = 30_000_000;

impl Ledger {
    /// An engine was asked to stop.
    pub(in crate::sim) fn stop(&mut self, node: usize) {
        let now = self.net.now();
        let book = self.book(node);
        book.stopped = true;
        book.stopped_at.get_or_insert(now);
    }

    /// Somebody has asked this side to end.
    pub(super) fn is_to_end(&mut self, end: End) {
        let now = self.net.now();
        self.session(end).to_end_since.get_or_insert(now);
    }

    /// A client is told how it went.
    pub(super) fn check_concluded_in_time(&mut self, end: End) {
        let took = self.net.now() - self.session(end).since;
        let most = self.handshake_timeout.as_nanos() as u64 + SLACK;
        self.check(took <= most, || {
            format!("{end:?} was told after {took} ns how it went, and {most} are the most")
        });
    }

    /// A connection did not become a session. It had until the deadline to say who it is, and another to hear why it
    /// may not.
    pub(super) fn check_rejected_in_time(&mut self, end: End) {
        let Some(since) = self.net.taken_at(end) else { return };
        let took = self.net.now() - since;
        let most = (self.handshake_timeout + self.drain_timeout).as_nanos() as u64 + SLACK;
        self.check(took <= most, || {
            format!("{end:?} was there for {took} ns and no session, {most} are the most")
        });
    }

    /// A session has ended.
    pub(super) fn check_ended_in_time(&mut self, end: End, node: usize) {
        let now = self.net.now();
        let stopped = self.book(node).stopped_at;
        let session = self.session(end);
        let opened = session.opened_at.unwrap_or(now);
        let since = stopped.into_iter().chain(session.to_end_since).min().map(|since| since.max(opened));
        let most = self.drain_timeout.as_nanos() as u64 + SLACK;
        if let Some(took) = since.map(|since| now - since).filter(|took| *took > most) {
            self.fail(format!("{end:?} took {took} ns to end when it was asked to, {most} are the most"));
        }
    }

    /// After longer than all deadlines: a side that goes on though it was asked to end.
    pub(in crate::sim) fn unheeded(&self) -> Option<String> {
        let goes_on =
            |session: &Session| session.phase == Phase::Open && (session.muted || session.asked_to_end);
        let mut sides = self.sessions.iter().enumerate();
        let (connection, _) = sides.find(|(_, sides)| sides.iter().any(goes_on))?;
        Some(format!("a side of connection {connection} was asked to end, and goes on"))
    }
}
