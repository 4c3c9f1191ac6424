//! What sends come to: none is told that a session is over which goes on, or that there is no room where there is; and
//! whoever does not read is ended when he has not done so for long enough, and not before.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use super::{End, Ledger, Phase, SLACK, Session};
use crate::config::Config;
use crate::error::SendError;
use crate::wire::HEADER;

/// What the network takes, an engine knows of so much later at the most: a completion and a wake-up may come late.
const KNOWN_WITHIN: u64 = 10_000_000;

/// What a storm's configuration says of rings.
#[derive(Default)]
pub(in crate::sim) struct Rings {
    capacity: u64,
    /// The longest frame.
    frame: u64,
}

/// What is known from outside of a side's ring.
#[derive(Default)]
pub(super) struct Ring {
    /// Somebody holds claims on it.
    claims: u32,
    /// How many bytes of frames the network had taken, and when it was looked at: the first is old enough to be known
    /// to the engine.
    taken: VecDeque<(u64, u64)>,
    /// When a sender has first found it full. It may not have been half empty since.
    full_since: Option<u64>,
    /// The same, and it has certainly not been half empty since.
    stuck_since: Option<u64>,
}

impl Rings {
    pub(in crate::sim) fn new(config: &Config) -> Rings {
        Rings { capacity: config.send_ring as u64, frame: (HEADER + config.message_max) as u64 }
    }
}

impl Ledger {
    /// Somebody has a place in a side's ring, and keeps it.
    pub(in crate::sim) fn claims(&mut self, end: End) {
        self.session(end).ring.claims += 1;
    }

    /// He lets go.
    pub(in crate::sim) fn lets_go(&mut self, end: End) {
        self.session(end).ring.claims -= 1;
    }

    /// A send has failed that should have come to something, if what it is told is not true.
    pub(super) fn check_send_error(&mut self, end: End, len: usize, error: SendError) {
        self.figures.reach.note("send", &error);
        match error {
            SendError::TimedOut => self.fail(format!("{end:?}: a send that does not wait timed out")),
            SendError::TooLarge { .. } => self.fail(format!("{end:?}: {len} bytes were too large")),
            SendError::Full => self.check_full(end, len),
            SendError::Closed | SendError::UnknownPeer => {
                let may_be = self.may_be_ending(end) || self.was_full_for_long(end);
                self.check(may_be, || format!("{end:?} goes on, and a send was told {error:?}"));
            }
        }
    }

    /// A sender was told that there is no room.
    fn check_full(&mut self, end: End, len: usize) {
        let (now, most) = (self.net.now(), self.most_in_ring(end));
        let Rings { capacity, frame } = self.rings;
        let ring = &mut self.session(end).ring;
        if ring.claims > 0 {
            return;
        }
        ring.full_since.get_or_insert(now);
        ring.stuck_since.get_or_insert(now);
        // What is left free at a lap's end, now and before; and room comes back by blocks, which end where a frame begins.
        let lost = 3 * frame + capacity / 8;
        let full = most + lost + (HEADER + len) as u64 > capacity;
        self.check(full, || {
            format!("{end:?} has no room for {len} bytes, and of its ring's {capacity} no more than {most} are in use")
        });
    }

    /// How many bytes of frames a side has accepted that its engine may not know yet to be taken.
    fn most_in_ring(&mut self, end: End) -> u64 {
        let (now, taken) = (self.net.now(), self.taken(end));
        let session = self.session(end);
        let row = &mut session.ring.taken;
        if row.back().is_none_or(|&(_, before)| before != taken) {
            row.push_back((now, taken));
        }
        while row.get(1).is_some_and(|&(at, _)| at + KNOWN_WITHIN <= now) {
            row.pop_front();
        }
        let known = row.front().filter(|(at, _)| at + KNOWN_WITHIN <= now).map_or(0, |&(_, taken)| taken);
        let greeting = session.greeting();
        session.ends.last().map_or(0, |&total| total - known.clamp(greeting, total))
    }

    /// Looks at a side's ring, before something changes it.
    pub(super) fn look_at_ring(&mut self, end: End) {
        let half = self.rings.capacity / 2;
        let (most, left, frame) = (self.most_in_ring(end), self.left(end).bytes, self.rings.frame);
        let ring = &mut self.session(end).ring;
        if most + frame <= half {
            ring.full_since = None;
        }
        if left <= half {
            ring.stuck_since = None;
        }
    }

    /// Nobody may have been without room for longer than he may.
    pub(in crate::sim) fn check_slow_peers(&mut self) {
        let Some(limit) = self.hurries else { return };
        let full = |sides: &[Session; 2], side: usize| {
            sides[side].phase == Phase::Open && sides[side].ring.full_since.is_some()
        };
        let sides =
            self.sessions.iter().enumerate().flat_map(|(at, sides)| [0, 1].map(|side| (at, side, sides)));
        let some: Vec<End> = sides
            .filter(|(_, side, sides)| full(sides, *side))
            .map(|(at, side, _)| End { connection: at as u32, side })
            .collect();
        for end in some {
            self.look_at_ring(end);
            let now = self.net.now();
            let since = self.session(end).ring.stuck_since;
            let late = since.is_some_and(|since| now - since > limit.as_nanos() as u64 + SLACK);
            if late && !self.may_be_ending(end) {
                self.fail(format!("{end:?} has had no room since {since:?}, now is {now}, and it goes on"));
            }
        }
    }

    /// Whether it may be that a side's ring was full for as long as is too long.
    pub(super) fn was_full_for_long(&mut self, end: End) -> bool {
        self.look_at_ring(end);
        let (limit, now) = (self.hurries, self.net.now());
        let since = self.session(end).ring.full_since;
        since.zip(limit).is_some_and(|(since, limit)| u128::from(now - since) >= limit.as_nanos())
    }

    /// Whether there is a reason for which this side may be about to end, or have ended, but that it was full.
    pub(super) fn may_be_ending(&mut self, end: End) -> bool {
        let other = end.other();
        let (taken, node) = (self.taken(other), self.session(end).node);
        let lost = !self.net.is_sound(end.connection) || self.net.is_cut(end);
        let over = self.net.shut_since(other).is_some() || self.has_said_all(other);
        let wrong = self.tls_fault(other).0.is_some() || self.session(other).fault(taken).is_some();
        let replaced = self.replaces && self.has_a_successor(end);
        let stopped = self.book(node).stopped;
        let session = self.session(end);
        let ends = session.phase != Phase::Open || session.muted || session.asked_to_end;
        ends || stopped || lost || over || wrong || replaced
    }
}
