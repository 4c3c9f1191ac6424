//! The tickets by which a client comes again without a whole handshake, and so without a look at the server's certificate. Each
//! such session brings new ones: left alone, a server whose certificate was in order once would be trusted for ever, also when
//! it has expired.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::NamedGroup;
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

/// For so long after its certificate was looked at does a server need to show none.
const TRUSTED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Tickets that rustls' own store keeps: as many as it does where nobody says otherwise.
const KEPT: usize = 256;

/// rustls' own store, and since when each server is trusted.
#[derive(Debug)]
pub(super) struct Tickets {
    kept: ClientSessionMemoryCache,
    verified: Mutex<HashMap<ServerName<'static>, UnixTime>>,
}

impl Tickets {
    pub(super) fn new() -> Tickets {
        Tickets { kept: ClientSessionMemoryCache::new(KEPT), verified: Mutex::default() }
    }

    /// This server's certificate has been looked at, and is accepted.
    pub(super) fn verified(&self, server: &ServerName<'_>, now: UnixTime) {
        let mut verified = self.all_verified();
        verified.retain(|_, at| is_trusted(*at, now));
        verified.insert(server.to_owned(), now);
    }

    /// Whether this server need not show its certificate again.
    fn trusts(&self, server: &ServerName<'_>, now: UnixTime) -> bool {
        self.all_verified().get(server).is_some_and(|at| is_trusted(*at, now))
    }

    fn all_verified(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, UnixTime>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that was set back is no reason to trust for longer.
fn is_trusted(at: UnixTime, now: UnixTime) -> bool {
    now.as_secs().checked_sub(at.as_secs()).is_some_and(|age| age < TRUSTED_FOR.as_secs())
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(server, group);
    }

    fn kx_hint(&self, server: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(server)
    }

    // There is no TLS 1.2.

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, server: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.kept.insert_tls13_ticket(server, ticket);
    }

    fn take_tls13_ticket(&self, server: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let now = DefaultTimeProvider.current_time()?;
        if self.trusts(server, now) { self.kept.take_tls13_ticket(server) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_trusted_for_a_day_after_its_certificate_was_looked_at() {
        let day = TRUSTED_FOR.as_secs();
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let name = |name: &'static str| ServerName::try_from(name).unwrap();
        let (a, b, tickets) = (name("a.example"), name("b.example"), Tickets::new());
        assert!(!tickets.trusts(&a, at(1000)), "it has shown nothing");
        tickets.verified(&a, at(1000));
        for (server, now, trusted) in [
            (&a, 1000, true),
            (&a, 1000 + day - 1, true),
            (&a, 1000 + day, false),
            (&a, 999, false),
            (&b, 1000, false),
        ] {
            assert_eq!(tickets.trusts(server, at(now)), trusted, "{server:?} at {now}");
        }
        // Another's certificate says nothing of this one, and who is trusted no more is forgotten.
        tickets.verified(&b, at(1000 + day));
        assert!(!tickets.trusts(&a, at(1000 + day)) && tickets.trusts(&b, at(1000 + day)));
        assert_eq!(tickets.all_verified().len(), 1);
    }
}
