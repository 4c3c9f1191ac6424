//! Who may come in: the limits when a connection is accepted, room that whoever says nothing has to make, the
//! handler's word when somebody has said who he is; and what is told of those who did not come in.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use super::{ACCEPT_PAUSE, Engine, Role};
use crate::config::{SPARE_SLOTS, SameId};
use crate::driver::Driver;
use crate::error::{Reason, RefusalCode, Rejection};
use crate::handler::{Arrival, Handler, Refusal, Rejections};
use crate::session::{Session, State};
use crate::time::Time;
use crate::wait::InHandler;
use crate::wire::{PeerId, RefusalFrame};

/// How long a refused connection may take to read why.
pub(super) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The least time from one telling of a kind of rejections to the next.
const TELLING_PAUSE: Duration = Duration::from_secs(1);

impl<D: Driver, H: Handler> Engine<D, H> {
    /// A connection that was just accepted, if the limits allow it. One over a limit is refused on the spot: it
    /// takes no slot and wakes no other engine, and hears as much of the reason as an empty buffer takes. In a slot
    /// it would have a second to read that, and a system that resets what is closed with bytes unread could not
    /// lose it on the way; but slots are what the limits are to keep free.
    pub(super) fn let_in(&mut self, socket: D::Socket, address: SocketAddr) -> Option<D::Socket> {
        let Role::Server(server) = &self.core.role else { return None };
        match server.directory.gate.enter(address, self.core.now) {
            Ok(()) => Some(socket),
            Err(code) => {
                self.turn_down(socket, code);
                self.rejected(address, Rejection::Refused(code));
                None
            }
        }
    }

    /// Accepts the next connection, if there is a slot for it: who came now would hear that the server is full, though
    /// those that were asked to make room for him are about to go.
    pub(super) fn accept_next(&mut self) {
        let Role::Server(server) = &self.core.role else { return };
        if self.core.stopping {
            return;
        }
        let mut engines = server.directory.engines.iter().filter(|engine| !engine.stopping.get());
        let has_room = engines.any(|engine| engine.load.get() < engine.slots.len() as u64);
        if has_room || self.is_closed_to_all() {
            self.driver.accept();
        } else {
            // At the latest: one that goes here is heard of, one of another engine is not.
            self.core.accept_at = self.core.now.after(ACCEPT_PAUSE);
        }
    }

    /// Refuses a connection that has no slot.
    pub(super) fn turn_down(&mut self, socket: D::Socket, code: RefusalCode) {
        self.count_refused(code);
        #[cfg(feature = "tls")]
        if self.core.layers.is_some() {
            return self.driver.refuse(socket, &super::tls::TURNED_DOWN);
        }
        self.driver.refuse(socket, RefusalFrame::new(code).frame());
    }

    /// Whether a server has no place, for whoever comes: one whose newer session replaces the older has to
    /// hear who it is before it can tell.
    pub(super) fn is_closed_to_all(&self) -> bool {
        match &self.core.role {
            Role::Server(server) => server.same_id == SameId::RefuseNew && server.directory.is_full(),
            Role::Client(_) => true,
        }
    }

    /// Connections that say nothing don't keep others out until their deadlines: when slots run short, or there are
    /// as many of them as may be, the one that has been silent for the longest is refused, and in the end does not
    /// get the time to read why.
    pub(super) fn make_room(&mut self) {
        let free = self.core.table.free();
        // Who waits for his older session to end has said who he is.
        let unknown = self.core.table.handshaking() - self.core.awaiting.len();
        let crowded = unknown >= self.core.limits.handshakes_max;
        if free > SPARE_SLOTS / 2 && !crowded {
            return;
        }
        let in_handshake = |session: &Session| session.state == State::Handshaking;
        let silent = self.core.table.soonest(|session| in_handshake(session) && !session.awaiting);
        // He has to go where nobody else can, and a slot is wanted.
        let anybody = || if crowded { None } else { self.core.table.soonest(in_handshake) };
        if let Some(index) = silent.or_else(anybody) {
            self.core.shared.tallies.refused_silent.add(1);
            self.refuse(index, RefusalCode::ServerFull);
        }
        // Refused, or ended before it was anybody: TLS told it what was wrong.
        let told = |session: &Session| session.state == State::Draining && !session.announced;
        if free <= 1
            && let Some(index) = self.core.table.soonest(told)
        {
            self.abort(index, Reason::Disconnected);
        }
    }

    /// Whether a server's client may come in: by its certificate, and then by the handler's word.
    pub(super) fn admit(&mut self, index: usize, peer: &PeerId) -> Result<(), (RefusalCode, Refusal)> {
        if self.silent {
            return Err((RefusalCode::NotAllowed, Refusal::default()));
        }
        let _in_handler = InHandler::enter();
        #[cfg(feature = "tls")]
        if !self.core.allows(index, peer.as_str()) {
            let code = RefusalCode::NotInCertificate;
            return Err((code, code.text().into()));
        }
        let arrival = Arrival {
            id: peer,
            address: self.core.table.sessions[index].address,
            #[cfg(feature = "tls")]
            certificate: self.core.certificate(index),
        };
        self.handler.admit(&arrival).map_err(|refusal| (RefusalCode::NotAllowed, refusal))
    }

    /// A connection is not let in, and hears why.
    pub(super) fn refuse(&mut self, index: usize, code: RefusalCode) {
        self.refuse_saying(index, code, code.text());
    }

    /// The same, in words of the handler's.
    pub(super) fn refuse_saying(&mut self, index: usize, code: RefusalCode, text: &str) {
        let session = &mut self.core.table.sessions[index];
        session.refusal = Some(code);
        session.muted = true;
        self.count_refused(code);
        let refusal = RefusalFrame::saying(code, text);
        self.core.shared.slots[index].send.greet(refusal.message());
        self.end(index, Reason::Disconnected);
        self.core.set_deadline(index, REFUSAL_TIMEOUT.min(self.core.limits.drain_timeout));
    }

    pub(super) fn count_refused(&self, code: RefusalCode) {
        let tallies = &self.core.shared.tallies;
        tallies.refused.add(1);
        match code {
            RefusalCode::BadFrame => tallies.bad_frames.add(1),
            RefusalCode::NotAllowed => tallies.refused_by_admission.add(1),
            RefusalCode::TooManyFromAddress => tallies.refused_per_address.add(1),
            RefusalCode::TooManyPerSecond => tallies.refused_per_second.add(1),
            _ => {}
        }
    }

    /// The handler hears of a connection that did not become a session.
    pub(super) fn tell_rejection(&mut self, address: SocketAddr, rejection: Rejection) {
        let _in_handler = InHandler::enter();
        let untold = &mut self.core.untold;
        let told = untold.note(Rejections { address, why: rejection, others: 0 }, self.core.now);
        self.core.alarm = self.core.alarm.min(untold.next_alarm());
        self.handler.on_rejected(address, &rejection);
        if let Some(some) = told {
            #[cfg(feature = "tracing")]
            crate::trace::rejected(some.address, &some.why, some.others);
            self.handler.on_rejections(&some);
        }
    }

    /// The handler hears of those that were not told at once, when their second is over; at the end, of all.
    pub(super) fn tell_untold(&mut self, now: Time) {
        while let Some(some) = self.core.untold.take(now) {
            #[cfg(feature = "tracing")]
            crate::trace::rejected(some.address, &some.why, some.others);
            if !self.silent {
                let _in_handler = InHandler::enter();
                self.handler.on_rejections(&some);
            }
        }
    }
}

/// Connections that did not become sessions and that the handler was not told of together with others yet, by their
/// kinds: those that ended by themselves, and then each code.
pub(super) struct Untold([Kind; Untold::KINDS]);

#[derive(Clone, Copy)]
struct Kind {
    /// Until when nothing of this kind is told.
    quiet: Time,
    untold: Option<Rejections>,
}

impl Untold {
    const KINDS: usize = 1 + RefusalCode::ALL.len();

    pub(super) fn new() -> Untold {
        Untold([Kind { quiet: Time::from_nanos(0), untold: None }; Untold::KINDS])
    }

    /// One more; gives what is to be told of it at once.
    fn note(&mut self, one: Rejections, now: Time) -> Option<Rejections> {
        let kind = match one.why {
            // No server gives a code that this version does not know.
            Rejection::Refused(code) => usize::from(code.to_byte()) % Untold::KINDS,
            Rejection::Ended(_) => 0,
        };
        let kind = &mut self.0[kind];
        let others = kind.untold.map_or(0, |untold| untold.others + 1);
        kind.untold = Some(Rejections { others, ..one });
        kind.take(now)
    }

    /// What is to be told now.
    fn take(&mut self, now: Time) -> Option<Rejections> {
        self.0.iter_mut().find_map(|kind| kind.take(now))
    }

    /// When something is to be told.
    pub(super) fn next_alarm(&self) -> Time {
        let waiting = self.0.iter().filter(|kind| kind.untold.is_some());
        waiting.map(|kind| kind.quiet).min().unwrap_or(Time::NEVER)
    }
}

impl Kind {
    fn take(&mut self, now: Time) -> Option<Rejections> {
        let told = if now < self.quiet { None } else { self.untold.take() };
        if told.is_some() {
            self.quiet = now.after(TELLING_PAUSE);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(port: u16, why: Rejection) -> Rejections {
        Rejections { address: ([127, 0, 0, 1], port).into(), why, others: 0 }
    }

    #[test]
    fn of_each_kind_the_first_is_told_at_once_and_the_others_of_its_second_together() {
        let (full, ended) =
            (Rejection::Refused(RefusalCode::ServerFull), Rejection::Ended(Reason::PeerClosed));
        let at = |millis| Time::from_nanos(0).after(Duration::from_millis(millis));
        let mut untold = Untold::new();
        assert_eq!(untold.next_alarm(), Time::NEVER);
        assert_eq!(untold.note(one(1, full), at(10)), Some(one(1, full)));
        assert_eq!(untold.next_alarm(), Time::NEVER, "nothing is left to tell");
        for port in 2..=4 {
            assert_eq!(untold.note(one(port, full), at(20)), None);
        }
        assert_eq!(untold.note(one(9, ended), at(30)), Some(one(9, ended)), "another kind");
        assert_eq!((untold.next_alarm(), untold.take(at(1009))), (at(1010), None));
        assert_eq!(untold.take(at(1010)), Some(Rejections { others: 2, ..one(4, full) }));
        assert_eq!(untold.note(one(5, full), at(2009)), None);
        assert_eq!(untold.note(one(6, full), at(2010)), Some(Rejections { others: 1, ..one(6, full) }));
        // The end comes before its second is over.
        assert_eq!(untold.note(one(7, full), at(2020)), None);
        assert_eq!(untold.take(Time::NEVER), Some(one(7, full)));
        assert_eq!(untold.take(Time::NEVER), None);
    }
}
