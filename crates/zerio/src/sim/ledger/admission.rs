//! Who came in: nobody whom the handler has not let in or a limit keeps out, nobody kept out by a limit that was not
//! reached; and what a log was told of those.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Ledger, Phase, Session};
use crate::config::{Config, SPARE_SLOTS};
use crate::driver::sim::{End, address_of};
use crate::error::{RefusalCode, Rejection};
use crate::handler::Rejections;

/// What a storm's configuration says of who may come in.
#[derive(Default)]
pub(in crate::sim) struct Limits {
    per_address: Option<usize>,
    per_second: Option<u32>,
    burst: u32,
    /// So many others there are at the least where somebody hears that the server is full.
    full_from: usize,
}

/// A token may be looked for so much later than its connection was accepted: by an engine that naps.
const TOKEN_SLACK: i64 = 5_000_000;

/// So many slots are not free, though their sessions are over, because somebody has a claim there.
const CLAIMED: usize = 2;

/// What has passed a server's gate.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    since: u64,
    connections: u64,
}

impl Limits {
    pub(in crate::sim) fn new(config: &Config) -> Limits {
        Limits {
            per_address: config.connections_per_address,
            per_second: config.connections_per_second,
            burst: config.connection_burst,
            full_from: {
                let handshakes = (0..config.engines).map(|engine| config.handshakes_of(engine));
                let slots = config.slots_per_engine() - SPARE_SLOTS / 2 - 1 - CLAIMED;
                handshakes.chain([slots, config.sessions_max]).min().unwrap_or(0)
            },
        }
    }
}

impl Ledger {
    /// A server begins.
    pub(in crate::sim) fn server_begins(&mut self, server: usize) {
        let since = self.net.now();
        self.passed.resize(server + 1, Passed { since, connections: 0 });
    }

    /// A server's handler is asked whether somebody may come in, and what it says.
    pub(in crate::sim) fn asked(&mut self, end: End, node: usize, id: &str, let_in: bool) {
        self.goes_on_with(node, None);
        let now = self.net.now();
        let session = self.session(end);
        session.admitted_at = Some(now);
        let (phase, before) = (session.phase, session.admitted.replace(let_in));
        session.node = node;
        self.check(phase == Phase::New && before.is_none(), || {
            format!("it was asked about {end:?} when that was {phase:?}, after the answer {before:?}")
        });
        let taken = self.taken(end.other());
        let said = self.session(end.other()).hello(taken) == Some(id.as_bytes());
        self.check(said, || format!("it was asked about {end:?} as {id}, which that did not say"));
    }

    /// A session of a server has begun, the ledger has it already.
    pub(super) fn check_admitted(&mut self, end: End, node: usize) {
        let admitted = self.session(end).admitted;
        self.check(admitted == Some(true), || format!("{end:?} is in, and its admission was {admitted:?}"));
        let server = self.book(node).server;
        if let Some(most) = self.limits.per_address {
            let open = |at: usize, session: &Session| {
                from_one_address(at, end)
                    && session.phase == Phase::Open
                    && self.books[session.node].server == server
            };
            let there = self.sessions.iter().enumerate().filter(|(at, sides)| open(*at, &sides[1])).count();
            self.check(there <= most, || {
                format!("{end:?} is in, and {there} from its address are, not {most}")
            });
        }
        self.pass(node);
    }

    /// A connection was not kept out by how fast connections come.
    fn pass(&mut self, node: usize) {
        let server = self.book(node).server;
        let passed = &mut self.passed[server];
        passed.connections += 1;
        let Passed { since, connections } = *passed;
        let Some(rate) = self.limits.per_second else { return };
        let seconds = Duration::from_nanos(self.net.now() - since).as_secs_f64();
        let most = u64::from(self.limits.burst) + (seconds * f64::from(rate)).ceil() as u64 + 1;
        self.check(connections <= most, || {
            format!("{connections} connections came in {seconds} s, and {most} are the most")
        });
    }

    /// Whether a connection that was refused can have been.
    pub(super) fn may_refuse(&self, end: End, code: RefusalCode) -> bool {
        let at = end.connection as usize;
        match code {
            RefusalCode::NotAllowed => self.sessions[at][1].admitted == Some(false),
            // Whose the id is, only those learn who may come in.
            RefusalCode::AlreadyConnected => self.sessions[at][1].admitted == Some(true),
            RefusalCode::TooManyFromAddress => self.limits.per_address.is_some_and(|most| {
                let may_be = |session: &Session| session.phase != Phase::Ended && session.rejected.is_none();
                let others = self.sessions.iter().enumerate().filter(|(other, sides)| {
                    *other != at && from_one_address(*other, end) && may_be(&sides[1])
                });
                others.count() >= most
            }),
            RefusalCode::TooManyPerSecond => self.had_no_token(end),
            RefusalCode::ServerFull => {
                let Some((listener, accepted)) = self.net.accepted(end) else { return false };
                let there = |(other, sides): &(usize, &[Session; 2])| {
                    let its = self.net.accepted(End { connection: *other as u32, side: 1 });
                    let alive = sides[1].over_at.is_none_or(|over| over >= accepted);
                    *other != at && its.is_some_and(|(its, _)| its == listener) && alive
                };
                let others = self.sessions.iter().enumerate().filter(there).count();
                others >= self.limits.full_from && self.sessions[at][1].admitted != Some(false)
            }
            RefusalCode::TooLate => {
                // What it was told ends with its side of the connection, if it has come to that, and no fault ended it before.
                let shut = self.net.shut_since(end).filter(|_| !self.net.is_cut(end));
                let told = shut.unwrap_or_else(|| self.net.now());
                let waited = self.net.taken_at(end).map_or(0, |since| told - since);
                u128::from(waited) >= self.handshake_timeout.as_nanos()
                    && self.sessions[at][1].admitted != Some(false)
            }
            // Once it was said that it may not come in, nothing else is said.
            _ => self.sessions[at][1].admitted != Some(false),
        }
    }

    /// Whether a server's bucket can have been empty just now: by those who have passed before, each as early as can be.
    fn had_no_token(&self, end: End) -> bool {
        let (Some(rate), Some((listener, accepted))) = (self.limits.per_second, self.net.accepted(end))
        else {
            return false;
        };
        let gate = [RefusalCode::TooManyFromAddress, RefusalCode::TooManyPerSecond].map(Rejection::Refused);
        let passed = |(at, sides): (usize, &[Session; 2])| {
            let other = End { connection: at as u32, side: 1 };
            let (its, when) = self.net.accepted(other)?;
            let kept_out = sides[1].rejected.is_some_and(|why| gate.contains(&why));
            (other != end && its == listener && when <= accepted && !kept_out).then_some(when)
        };
        let mut passed: Vec<u64> = self.sessions.iter().enumerate().filter_map(passed).collect();
        passed.sort_unstable();
        let token = 1_000_000_000 / i64::from(rate);
        let most = token * i64::from(self.limits.burst);
        let (mut credit, mut last) = (most, 0);
        for when in passed {
            credit = most.min(credit + (when - last) as i64) - token;
            last = when;
        }
        most.min(credit + (self.net.now() - last) as i64) < token + TOKEN_SLACK
    }

    pub(super) fn note_rejected(&mut self, end: End, node: usize, why: Rejection) {
        let now = self.net.now();
        let session = self.session(end);
        (session.rejected, session.over_at) = (Some(why), Some(now));
        let gate = [RefusalCode::TooManyFromAddress, RefusalCode::TooManyPerSecond].map(Rejection::Refused);
        if !gate.contains(&why) {
            self.pass(node);
        }
    }

    /// An engine's log is told of connections that did not come in.
    pub(in crate::sim) fn told(&mut self, node: usize, some: &Rejections) {
        let (now, kind) = (
            self.net.now(),
            match some.why {
                Rejection::Refused(code) => code.to_byte(),
                Rejection::Ended(_) => 0,
            },
        );
        let book = self.book(node);
        book.told += 1 + some.others;
        let last = book.told_last.insert(kind, now);
        let too_soon = last.is_some_and(|last| now - last < 1_000_000_000) && !book.stopped;
        if too_soon {
            // What it is told at the end, it is told whenever that comes.
            let what = format!("engine {node} told {some:?} within a second of another such");
            book.unless_failed.get_or_insert(what);
        }
    }

    /// Whether somebody who comes may find that his address has as many connections as it may.
    pub(in crate::sim) fn may_be_crowded(&self) -> bool {
        let Some(most) = self.limits.per_address else { return false };
        (0..self.sessions.len() as u32).any(|connection| {
            let end = End { connection, side: 1 };
            let open = |(at, sides): &(usize, &[Session; 2])| {
                from_one_address(*at, end) && sides[1].phase == Phase::Open
            };
            self.sessions.iter().enumerate().filter(open).count() >= most
        })
    }
}

fn from_one_address(connection: usize, end: End) -> bool {
    address_of(connection as u32).ip() == address_of(end.connection).ip()
}
