//! What an engine writes into its process's counters file, and when: a round over its sessions each tenth of a second, a
//! few of them at a time, so that no turn gets longer than for a burst of messages. The counters themselves are where
//! they always are; this copies them.
//!
//! An engine that parks with news sleeps no longer than until they are due. One without wakes once a second, because
//! threads that send while it sleeps don't tell it, and to show that it lives.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Engine;
use crate::counters::SessionCounters;
use crate::counters::file::Lines;
use crate::counters::histogram::Recorder;
use crate::counters::layout::{self, engine, session};
use crate::cursor::Word;
use crate::driver::Driver;
use crate::handler::Handler;
use crate::send::observed::{Fill, Observed};
use crate::session::State;
use crate::time::Time;

/// From the start of one round to the start of the next, at the least.
const ROUND: Duration = Duration::from_millis(100);

/// So many sessions at a time, some µs; a free slot counts for a part of one.
const SESSIONS_AT_ONCE: usize = 32;
const SLOTS_AT_ONCE: usize = 16 * SESSIONS_AT_ONCE;

/// The longest that an engine sleeps whose counters somebody may read.
const LONGEST_PARK: Duration = Duration::from_secs(1);

/// How many moments are kept of each session, to tell how old what is unsent is.
const MARKS: usize = 8;

pub(crate) struct Publisher {
    lines: Lines,
    turns: Recorder,
    last_turn: u64,
    /// When the round began, or the last one.
    round: Time,
    /// When the next sessions are due.
    due: Time,
    /// The slot with which the round goes on.
    next: usize,
    /// Something has happened since the round began.
    news: bool,
    slots: Box<[Known]>,
    /// What all slots have counted, as published.
    sum: SessionCounters,
}

/// What was published of a slot.
#[derive(Clone, Copy)]
struct Known {
    free: bool,
    generation: u32,
    since: Time,
    totals: SessionCounters,
    unsent: Unsent,
    fill: Fill,
}

impl Publisher {
    fn new(lines: Lines, slots: usize) -> Publisher {
        let known = Known {
            free: true,
            generation: 0,
            since: Time::NEVER,
            totals: SessionCounters::default(),
            unsent: Unsent::default(),
            fill: Fill::default(),
        };
        let start = Time::from_nanos(0);
        Publisher {
            turns: lines.histogram(layout::TURNS),
            lines,
            last_turn: 0,
            round: start,
            due: start,
            next: 0,
            news: true,
            slots: vec![known; slots].into(),
            sum: SessionCounters::default(),
        }
    }

    /// The longest that its engine may sleep.
    pub(super) fn longest_park(&self, now: Time) -> Duration {
        let waits = self.news || self.next > 0;
        // What was due already nobody has published: whoever drives this engine does not look at the clock.
        if waits && self.due > now { self.due.since(now).min(LONGEST_PARK) } else { LONGEST_PARK }
    }
}

impl<D: Driver, H: Handler> Engine<D, H> {
    /// From now on it publishes its counters.
    pub(crate) fn observe(&mut self, lines: Lines) {
        let times = lines.histogram(layout::TO_KERNEL);
        for slot in &self.core.shared.slots {
            slot.send.ring.observe(Observed::new(self.core.shared.clock.clone(), times.clone()));
        }
        self.publisher = Some(Box::new(Publisher::new(lines, self.core.shared.slots.len())));
        // A reader finds it from the start on, also if it goes to sleep at once.
        self.publish(self.core.shared.clock.now());
    }

    /// A turn that began then has done so much work, and is over.
    #[inline]
    pub(crate) fn turned(&mut self, begun: Time, ended: Time, work: usize) {
        if work > 0 {
            self.core.shared.tallies.longest_turn_ns.raise(ended.since(begun).as_nanos() as u64);
        }
        if self.publisher.is_some() {
            self.turned_observed(begun, ended, work);
        }
    }

    #[inline(never)]
    fn turned_observed(&mut self, begun: Time, ended: Time, work: usize) {
        let Some(publisher) = &mut self.publisher else { return };
        if work > 0 {
            publisher.last_turn = ended.since(begun).as_nanos() as u64;
            publisher.turns.record(publisher.last_turn);
            publisher.news = true;
        }
        if ended >= publisher.due {
            self.publish(ended);
        }
    }

    /// The engine ends: all of it is published once more.
    pub(super) fn publish_last(&mut self) {
        let slots = self.core.shared.slots.len();
        if let Some(publisher) = &mut self.publisher {
            publisher.next = 0;
        }
        for _ in 0..slots {
            self.publish(self.core.now);
            if self.publisher.as_ref().is_none_or(|publisher| publisher.next == 0) {
                break;
            }
        }
    }

    /// Publishes some sessions, and the engine itself. Where the round is over, the next one begins later.
    #[inline(never)]
    fn publish(&mut self, now: Time) {
        let Some(mut publisher) = self.publisher.take() else { return };
        if publisher.next == 0 {
            publisher.round = now;
            publisher.news = false;
        }
        let slots = publisher.slots.len();
        let end = slots.min(publisher.next + SLOTS_AT_ONCE);
        let mut sessions = 0;
        while publisher.next < end && sessions < SESSIONS_AT_ONCE {
            sessions += usize::from(self.publish_session(&mut publisher, now));
            publisher.next += 1;
        }
        if publisher.next == slots {
            publisher.next = 0;
            publisher.due = publisher.round.after(ROUND);
        } else {
            // Spread over the round, as far as it suffices.
            let pieces = slots.div_ceil(SESSIONS_AT_ONCE) as u32;
            publisher.due = now.after(ROUND / pieces);
        }
        self.publish_engine(&publisher, now);
        self.publisher = Some(publisher);
    }

    /// Publishes the session of the slot at hand. Tells whether there was one, or had been.
    fn publish_session(&self, publisher: &mut Publisher, now: Time) -> bool {
        let index = publisher.next;
        let (slot, about) = (&self.core.shared.slots[index], &self.core.table.sessions[index]);
        let known = &mut publisher.slots[index];
        let free = about.state == State::Free;
        // A session may have come and gone since the last look: it counts, too.
        if free && known.free && known.generation == about.id.generation {
            return false;
        }
        let totals = slot.counters();
        publisher.sum =
            publisher.sum.combine(&known.totals, u64::wrapping_sub).combine(&totals, u64::wrapping_add);
        known.totals = totals;
        if known.free || known.generation != about.id.generation {
            (known.generation, known.since) = (about.id.generation, now);
            (known.unsent, known.fill) = (Unsent::default(), Fill::default());
        }
        known.free = free;
        // A thread that is just sending has it for a moment: then it is as it was.
        if let Some(fill) = slot.send.fill() {
            known.fill = fill;
        }
        let (fill, since) = (known.fill, known.since);
        let age = known.unsent.age(fill, now);
        let own = slot.session_counters(about.id.generation).unwrap_or_default();
        publisher.lines.session(index).write(|words| {
            // Places count from the line's version, which is the word before these.
            let set = |at: usize, to: u64| words[at - 1].set(to);
            set(session::PUBLISHED, now.nanos());
            set(session::STATE, number_of(about.state));
            set(session::GENERATION, u64::from(about.id.generation));
            set(session::SINCE, since.nanos());
            put_address(&words[session::ADDRESS.start - 1..session::ADDRESS.end - 1], about.address);
            set(session::PAUSED, u64::from(about.paused));
            set(session::RECEIVE_BUFFER_USED, self.buffers[index].len() as u64);
            set(session::RING_USED, fill.committed - fill.acked);
            set(session::RING_HIGH_WATER, fill.high_water);
            set(session::OLDEST_UNSENT, age.as_nanos() as u64);
            for (at, (_, count, _)) in own.table().enumerate() {
                set(session::COUNTERS + at, count);
            }
            layout::put_text(&words[session::ID.start - 1..session::ID.end - 1], about.peer.as_bytes());
        });
        true
    }

    fn publish_engine(&self, publisher: &Publisher, now: Time) {
        let totals = self.core.shared.engine_totals();
        publisher.lines.engine().write(|words| {
            let set = |at: usize, to: u64| words[at - 1].set(to);
            set(engine::PUBLISHED, now.nanos());
            layout::put_text(&words[engine::DRIVER.start - 1..engine::DRIVER.end - 1], D::NAME.as_bytes());
            set(engine::SESSIONS, totals.connected.saturating_sub(totals.disconnected));
            set(engine::LAST_TURN, publisher.last_turn);
            for (at, (_, count, _)) in publisher.sum.table().chain(totals.table()).enumerate() {
                set(engine::COUNTERS + at, count);
            }
        });
    }
}

/// A state's number in a counters file.
fn number_of(state: State) -> u64 {
    match state {
        State::Free => 0,
        State::Connecting => 1,
        State::Handshaking => 2,
        State::Open => 3,
        State::Draining => 4,
        State::Closing => 5,
    }
}

/// An address in three words: family and port, and the IP address in two.
fn put_address(words: &[Word], address: SocketAddr) {
    let mut bytes = [0; 16];
    let family = match address.ip() {
        IpAddr::V4(ip) => {
            bytes[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            bytes = ip.octets();
            6
        }
    };
    words[0].set(family << 32 | u64::from(address.port()));
    layout::put_text(&words[1..], &bytes);
}

/// Since when what is unsent has been committed: at some moments, how far it was.
#[derive(Clone, Copy)]
struct Unsent {
    marks: [(u64, Time); MARKS],
    len: usize,
}

impl Default for Unsent {
    fn default() -> Unsent {
        Unsent { marks: [(0, Time::NEVER); MARKS], len: 0 }
    }
}

impl Unsent {
    /// How long the oldest byte that the kernel has not taken has been waiting, at the least.
    fn age(&mut self, fill: Fill, now: Time) -> Duration {
        let taken =
            self.marks[..self.len].iter().take_while(|(committed, _)| *committed <= fill.acked).count();
        self.marks.copy_within(taken..self.len, 0);
        self.len -= taken;
        let last = self.marks[..self.len].last().map_or(fill.acked, |(committed, _)| *committed);
        if fill.committed > last {
            if self.len == MARKS {
                // The first says how old the oldest is; of the others every second one goes, so what lies
                // between is taken to be younger than it is.
                self.len = 1;
                for at in (1..MARKS).step_by(2) {
                    self.marks[self.len] = self.marks[at];
                    self.len += 1;
                }
            }
            self.marks[self.len] = (fill.committed, now);
            self.len += 1;
        }
        self.marks[..self.len].first().map_or(Duration::ZERO, |(_, since)| now.since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(acked: u64, committed: u64) -> Fill {
        Fill { acked, committed, high_water: 0 }
    }

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_is_unsent_ages_until_it_is_taken() {
        let mut unsent = Unsent::default();
        assert_eq!(unsent.age(fill(0, 0), at(0)), ms(0));
        assert_eq!(unsent.age(fill(0, 100), at(100)), ms(0), "seen for the first time");
        assert_eq!(unsent.age(fill(0, 100), at(200)), ms(100));
        assert_eq!(unsent.age(fill(99, 150), at(300)), ms(200), "a byte of it is still there");
        assert_eq!(unsent.age(fill(100, 150), at(400)), ms(100), "the next was seen at 300");
        assert_eq!(unsent.age(fill(150, 150), at(500)), ms(0));
        assert_eq!(unsent.age(fill(150, 151), at(900)), ms(0), "it has not waited since then");
    }

    #[test]
    fn the_oldest_stays_the_oldest_however_much_comes_behind_it() {
        let mut unsent = Unsent::default();
        for step in 0..1000 {
            assert_eq!(unsent.age(fill(0, 10 + step), at(step)), ms(step));
        }
        // When it is taken, what came behind it is younger, and not older than it can be.
        let age = unsent.age(fill(500, 1009), at(1000));
        assert!(age < ms(510), "{age:?}");
        assert_eq!(unsent.age(fill(1009, 1009), at(1001)), ms(0));
    }
}
