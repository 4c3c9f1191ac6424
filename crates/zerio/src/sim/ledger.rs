//! The oracle of a storm: what was sent, heard and told on each side of each connection, held against each other
//! and against what the network has taken.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use super::storm::Figures;
use crate::counters::Counters;
use crate::driver::sim::{End, Net};
use crate::error::{Disconnection, Reason, SendError, Undelivered};
use crate::wire::HEADER;

/// What is said of a session that should not have come so far, and of everything else that is not as it must be.
pub(super) struct Ledger {
    net: Net,
    /// Of each connection, its two sides.
    sessions: Vec<[Session; 2]>,
    /// Of each engine.
    pub(super) books: Vec<Book>,
    pub(super) failure: Option<String>,
    pub(super) figures: Figures,
    /// Handlers and senders have fallen silent.
    pub(super) calm: bool,
    /// A newer session may take an older one's id.
    pub(super) replaces: bool,
    /// A peer that reads too slowly is disconnected.
    pub(super) hurries: bool,
}

/// One side of a connection, as a session.
#[derive(Default)]
pub(super) struct Session {
    pub(super) phase: Phase,
    node: usize,
    pub(super) id: String,
    /// For each message that it has accepted: where in the stream of bytes its frame ends.
    ends: Vec<u64>,
    /// Messages that its handler has heard.
    heard: usize,
    /// Its handler wants to hear nothing until it is resumed.
    paused: bool,
    /// Its handler wants to hear nothing more.
    muted: bool,
    /// Somebody has asked this side to end it.
    asked_to_end: bool,
    /// The other side knows nothing of zerio.
    pub(super) raw: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    #[default]
    New,
    Open,
    /// It ends, or has ended, and its handler does not hear of it.
    Silenced,
    Ended,
}

/// What one engine should say of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    /// A client's connection.
    pub(super) connection: Option<u32>,
    /// Of which server it is an engine.
    pub(super) server: usize,
    pub(super) stopped: bool,
    /// Its handler has panicked, and hears nothing any more.
    silent: bool,
    connected: u64,
    disconnected: u64,
    rejected: u64,
    heard: u64,
    /// The bytes of their frames.
    heard_bytes: u64,
    accepted: u64,
    undelivered: Undelivered,
    /// More was told to be left than was, which a driver that fails makes true: what it had in flight counts as
    /// not taken.
    overcounted: Option<String>,
    /// It was told that its driver has failed.
    failure_told: bool,
}

/// The longest message of any storm.
pub(super) const LONGEST: usize = 8 * 1024;

/// Bytes of which every message is a piece.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut random = crate::driver::sim::Random::new(1);
        (0..LONGEST + 4096).map(|_| random.next() as u8).collect()
    })
}

/// The message number `n` of a side, `len` bytes long: it says whose it is, as far as there is room, and the rest
/// is noise that no other message is likely to have.
pub(super) fn compose(from: End, n: usize, len: usize, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&from.connection.to_le_bytes());
    into.extend_from_slice(&(n as u32).to_le_bytes());
    into.push(from.side as u8);
    let at = (from.connection as usize * 31 + from.side * 1777 + n * 7) % 4096;
    into.extend_from_slice(&noise()[at..at + len]);
    into.truncate(len);
}

impl Ledger {
    pub(super) fn new(net: Net) -> Ledger {
        Ledger {
            net,
            sessions: Vec::new(),
            books: Vec::new(),
            failure: None,
            figures: Figures::default(),
            calm: false,
            replaces: false,
            hurries: false,
        }
    }

    /// Something is not as it must be. The first thing counts.
    pub(super) fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what());
        }
    }

    pub(super) fn session(&mut self, end: End) -> &mut Session {
        let connection = end.connection as usize;
        if self.sessions.len() <= connection {
            self.sessions.resize_with(connection + 1, Default::default);
        }
        &mut self.sessions[connection][end.side]
    }

    pub(super) fn book(&mut self, node: usize) -> &mut Book {
        if self.books.len() <= node {
            self.books.resize_with(node + 1, Book::default);
        }
        &mut self.books[node]
    }

    // What handlers hear.

    pub(super) fn connected(&mut self, end: End, node: usize, id: &str) {
        let session = self.session(end);
        let phase = std::mem::replace(&mut session.phase, Phase::Open);
        (session.node, session.id) = (node, id.to_owned());
        self.check(phase == Phase::New, || format!("{end:?} connected, and it was {phase:?}"));
        self.book(node).connected += 1;
        self.figures.sessions += 1;
    }

    pub(super) fn heard(&mut self, end: End, node: usize, message: &[u8]) {
        let (other, len) = (end.other(), message.len());
        let session = self.session(end);
        let n = session.heard;
        session.heard += 1;
        let (phase, of, raw) = (session.phase, session.node, session.raw);
        let (paused, muted) = (session.paused, session.muted);
        self.check(phase == Phase::Open && of == node, || format!("{end:?} heard a message {phase:?}"));
        self.check(!muted, || format!("{end:?} heard a message after its handler had disconnected it"));
        self.check(!paused, || format!("{end:?} heard a message while its handler had paused it"));
        let book = self.book(node);
        book.heard += 1;
        book.heard_bytes += (HEADER + message.len()) as u64;
        self.figures.messages += 1;
        if raw {
            return;
        }
        let sent = self.session(other);
        let from = n.checked_sub(1).map_or_else(|| sent.greeting(), |before| sent.end_of(before));
        let Some(&to) = sent.ends.get(n) else {
            return self.fail(format!("{end:?} heard message {n}, which was never sent"));
        };
        let expected = (to - from) as usize - HEADER;
        self.check(expected == len, || {
            format!("{end:?} heard {len} bytes as message {n}, which has {expected}")
        });
        let mut should = Vec::with_capacity(len + 16);
        compose(other, n, len, &mut should);
        self.check(should == message, || {
            format!("{end:?} heard as message {n} another's bytes: {message:?}")
        });
    }

    pub(super) fn disconnected(&mut self, end: End, node: usize, why: &Disconnection) {
        let session = self.session(end);
        let phase = std::mem::replace(&mut session.phase, Phase::Ended);
        let of = session.node;
        self.check(phase == Phase::Open && of == node, || {
            format!("{end:?} disconnected, {phase:?}: {why:?}")
        });
        let undelivered = why.undelivered;
        let book = self.book(node);
        book.disconnected += 1;
        book.undelivered.messages += undelivered.messages;
        book.undelivered.bytes += undelivered.bytes;
        self.figures.undelivered += undelivered.messages;
        self.check_undelivered(end, node, why);
        self.check_reason(end, node, why.reason);
    }

    pub(super) fn rejected(&mut self, end: End, node: usize) {
        let phase = self.session(end).phase;
        self.check(phase == Phase::New, || format!("{end:?} rejected, and it was {phase:?}"));
        self.book(node).rejected += 1;
    }

    /// The handler of an engine panics: its sessions end, and it hears nothing more.
    pub(super) fn silence(&mut self, node: usize) {
        self.book(node).silent = true;
        let its = |session: &&mut Session| session.node == node && session.phase == Phase::Open;
        self.sessions.iter_mut().flatten().filter(its).for_each(|session| session.phase = Phase::Silenced);
    }

    /// What of the messages that a side has accepted the network has not taken.
    fn left(&mut self, end: End) -> Undelivered {
        let taken = self.net.bytes_sent(end);
        let session = self.session(end);
        let messages = session.ends.iter().filter(|&&position| position > taken).count() as u64;
        let total = session.ends.last().copied().unwrap_or_else(|| session.greeting());
        Undelivered { messages, bytes: total.saturating_sub(taken.max(session.greeting())) }
    }

    /// What was accepted is what the network took and what is told to be left.
    fn check_undelivered(&mut self, end: End, node: usize, why: &Disconnection) {
        let Undelivered { messages: left, bytes } = self.left(end);
        let told = why.undelivered;
        if told.messages == left && told.bytes == bytes {
            return;
        }
        let what =
            format!("{end:?} was told {told:?}, but {left} messages ({bytes} bytes) were left: {why:?}");
        match told.messages >= left && told.bytes >= bytes {
            true => _ = self.book(node).overcounted.get_or_insert(what),
            false => self.fail(what),
        }
    }

    /// The reason that is told is the true one, as far as it can be known from outside.
    fn check_reason(&mut self, end: End, node: usize, reason: Reason) {
        let taken = self.net.bytes_sent(end.other());
        let whole = self.net.is_whole(end.connection);
        let (replaces, hurries) = (self.replaces, self.hurries);
        let book = self.book(node);
        book.failure_told |= matches!(reason, Reason::DriverFailed(_));
        let stopped = book.stopped;
        let session = self.session(end);
        let (heard, muted, asked, raw) = (session.heard, session.muted, session.asked_to_end, session.raw);
        let other = self.session(end.other());
        let came = other.ends.iter().filter(|&&position| position <= taken).count();
        let rest = taken - came.checked_sub(1).map_or_else(|| other.greeting(), |last| other.end_of(last));
        let right = match reason {
            _ if raw => true,
            Reason::PeerClosed => muted || asked || (heard == came && rest == 0),
            Reason::Truncated { received } => muted || asked || (heard == came && rest == received as u64),
            Reason::Connection(_) => !whole,
            Reason::BadFrame(_) | Reason::BadAnswer | Reason::HandlerPanicked => false,
            Reason::SlowPeer => hurries,
            Reason::Disconnected => asked || muted,
            Reason::Replaced => replaces,
            Reason::Stopped => stopped,
            // Whether it has, the engine's end shows.
            Reason::DriverFailed(_) => true,
        };
        self.check(right, || {
            format!("{end:?} ended because \"{reason}\", having heard {heard} of {came} messages, {rest} bytes left")
        });
    }

    // What senders do.

    /// The session of a server that has an id.
    pub(super) fn find(&self, server: usize, id: &str) -> Option<End> {
        let has = |session: &Session| {
            session.phase == Phase::Open && session.id == id && self.books[session.node].server == server
        };
        let at = self.sessions.iter().rposition(|sides| has(&sides[1]))?;
        Some(End { connection: at as u32, side: 1 })
    }

    pub(super) fn is_open(&self, end: End) -> bool {
        let sides = self.sessions.get(end.connection as usize);
        sides.is_some_and(|sides| sides[end.side].phase == Phase::Open)
    }

    /// How many messages a side has accepted: the next one's number.
    pub(super) fn accepted(&mut self, end: End) -> usize {
        self.session(end).ends.len()
    }

    /// What became of an attempt to send the next message of a side.
    pub(super) fn sent(&mut self, end: End, len: usize, outcome: Result<(), SendError>) {
        let session = self.session(end);
        let (phase, node) = (session.phase, session.node);
        match outcome {
            Ok(()) => {
                let before = session.ends.last().copied().unwrap_or_else(|| session.greeting());
                session.ends.push(before + (HEADER + len) as u64);
                self.book(node).accepted += 1;
                self.check(phase == Phase::Open, || format!("{end:?} accepted a message {phase:?}"));
            }
            Err(SendError::TimedOut) => self.fail(format!("{end:?}: a send that does not wait timed out")),
            Err(SendError::TooLarge { .. }) => self.fail(format!("{end:?}: {len} bytes were too large")),
            Err(SendError::Full | SendError::Closed | SendError::UnknownPeer) => {}
        }
    }

    pub(super) fn pause(&mut self, end: End, paused: bool) {
        self.session(end).paused = paused;
    }

    /// This side's handler ends the session: from now on it hears nothing.
    pub(super) fn mute(&mut self, end: End) {
        self.session(end).muted = true;
    }

    /// Somebody asks this side to end the session.
    pub(super) fn ask_to_end(&mut self, end: End) {
        self.session(end).asked_to_end = true;
    }

    // At the end.

    /// A message that was accepted and has not come, though nothing is in its way.
    pub(super) fn missing(&self) -> Option<String> {
        let connections = self.sessions.iter().enumerate();
        connections.flat_map(|(connection, sides)| [0, 1].map(|side| (connection, side, sides))).find_map(
            |(connection, side, sides)| {
                let (from, to) = (&sides[side], &sides[1 - side]);
                let open = from.phase == Phase::Open && to.phase == Phase::Open;
                let wanted = !to.muted && !to.asked_to_end && !from.asked_to_end && !from.muted;
                let what = || {
                    let (heard, accepted) = (to.heard, from.ends.len());
                    format!(
                        "of {accepted} messages of connection {connection}, side {side}, {heard} have come"
                    )
                };
                (open && wanted && to.heard < from.ends.len()).then(what)
            },
        )
    }

    /// A session that has not ended.
    pub(super) fn unended(&self) -> Option<String> {
        let mut sides = self.sessions.iter().enumerate();
        let open = |side: &Session| side.phase == Phase::Open;
        let (connection, _) = sides.find(|(_, sides)| sides.iter().any(open))?;
        Some(format!("connection {connection} has a session that never ended"))
    }

    /// The sessions that have ended without their handler, which could not tell what they left.
    fn end_silenced(&mut self, node: usize) {
        for connection in 0..self.sessions.len() as u32 {
            for side in [0, 1] {
                let end = End { connection, side };
                let session = self.session(end);
                if session.node == node && session.phase == Phase::Silenced {
                    session.phase = Phase::Ended;
                    let left = self.left(end);
                    self.figures.undelivered += left.messages;
                    let book = self.book(node);
                    book.disconnected += 1;
                    book.undelivered.messages += left.messages;
                    book.undelivered.bytes += left.bytes;
                }
            }
        }
    }

    /// An engine has ended: its counters say what happened.
    pub(super) fn close_book(&mut self, node: usize, counters: &Counters, server: bool, failed: bool) {
        let (engine, sessions) = (counters.engine, counters.sessions);
        self.end_silenced(node);
        let book = self.book(node).clone();
        if let (Some(what), false) = (book.overcounted, failed) {
            self.fail(what);
        }
        self.check(failed || !book.failure_told, || {
            format!("engine {node} told of a driver that has not failed")
        });
        let not_sessions = engine.refused + engine.failed_handshakes;
        for (what, counted, happened) in [
            ("connected", engine.connected, book.connected),
            ("disconnected", engine.disconnected, book.disconnected),
            ("messages_accepted", sessions.sent.messages_accepted, book.accepted),
            ("messages_received", sessions.received.messages_received, book.heard),
            ("bytes_received", sessions.received.bytes_received, book.heard_bytes),
            ("messages_undelivered", engine.messages_undelivered, book.undelivered.messages),
            ("bytes_undelivered", engine.bytes_undelivered, book.undelivered.bytes),
            ("refused and failed_handshakes", if server { not_sessions } else { 0 }, book.rejected),
        ] {
            // What a handler that panicked has not heard.
            let unheard = match what {
                "refused and failed_handshakes" => book.silent,
                "messages_undelivered" | "bytes_undelivered" => book.silent && failed,
                _ => false,
            };
            self.check(counted == happened || unheard && counted > happened, || {
                format!("engine {node} counts {what} {counted}, it was {happened}")
            });
        }
        self.check(book.connected == book.disconnected, || {
            format!("engine {node}: {} sessions began and {} ended", book.connected, book.disconnected)
        });
    }
}

impl Session {
    /// The handshake's frame stands before the first message.
    fn greeting(&self) -> u64 {
        (HEADER + self.id.len()) as u64
    }

    fn end_of(&self, message: usize) -> u64 {
        self.ends.get(message).copied().unwrap_or(u64::MAX)
    }
}
