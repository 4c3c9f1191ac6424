//! The oracle of a storm: what was sent, heard and told on each side of each connection, held against each other
//! and against what the network has taken.
#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::time::Duration;

use super::script::Script;
use super::storm::Figures;
use crate::driver::sim::{End, Net};
use crate::error::{Disconnection, FrameError, RefusalCode, Rejection, SendError};
use crate::wire::HEADER;

mod admission;
mod batches;
mod books;
mod deadlines;
mod ends;
mod outcomes;
mod reading;
mod sends;

pub(super) use admission::Limits;
use admission::Passed;
use books::Book;
use deadlines::SLACK;
pub(super) use outcomes::NOT_TODAY;
use reading::Reading;
use sends::Ring;
pub(super) use sends::Rings;

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
    pub(super) hurries: Option<Duration>,
    /// How long a session that ends may take to send what it has accepted.
    pub(super) drain_timeout: Duration,
    /// How long a client may take to become a session.
    pub(super) handshake_timeout: Duration,
    /// The system may refuse to connect.
    pub(super) connects_fail: bool,
    /// Everybody who is to be understood speaks TLS.
    pub(super) under_tls: bool,
    /// Servers give tickets behind the handshake.
    pub(super) tickets: bool,
    /// After so many records a side has another key. Then it has no message of one byte.
    pub(super) key_life: Option<u64>,
    /// Clients that were turned away by an alert, until the end.
    turned_away: Vec<End>,
    /// What refused clients were told, until the end.
    refusals: Vec<(End, RefusalCode, String)>,
    pub(super) limits: Limits,
    pub(super) rings: Rings,
    /// Of each server.
    passed: Vec<Passed>,
}

/// One side of a connection, as a session.
#[derive(Default)]
pub(super) struct Session {
    pub(super) phase: Phase,
    node: usize,
    pub(super) id: String,
    /// For each message that it has accepted, or is to say: where in the stream of bytes its frame ends.
    ends: Vec<u64>,
    /// Messages that its handler has heard.
    heard: usize,
    /// Its handler wants to hear nothing until it is resumed.
    paused: bool,
    /// Its handler wants to hear nothing more.
    muted: bool,
    /// Somebody has asked this side to end it.
    asked_to_end: bool,
    /// What its handler has said when it was asked whether it may come in.
    admitted: Option<bool>,
    ring: Ring,
    /// Somebody wants it to hear nothing, and nobody has resumed it.
    held_back: bool,
    /// Somebody has ever wanted that.
    was_held_back: bool,
    /// How many bytes had come when its handler was told that it had heard all of them.
    batch_had: Option<u64>,
    /// Since when somebody wants it to end.
    to_end_since: Option<u64>,
    /// When its handler was asked whether it may come in, when it was told that it is in, and that it is not any more.
    admitted_at: Option<u64>,
    opened_at: Option<u64>,
    over_at: Option<u64>,
    /// Why it did not, as its handler was told.
    rejected: Option<Rejection>,
    /// When it began to connect.
    since: u64,
    /// This side knows nothing of zerio, and has this to say.
    script: Option<Script>,
    /// Under TLS, how far its records have been read.
    reading: Reading,
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
            hurries: None,
            drain_timeout: Duration::ZERO,
            handshake_timeout: Duration::ZERO,
            connects_fail: false,
            under_tls: false,
            tickets: false,
            key_life: None,
            turned_away: Vec::new(),
            refusals: Vec::new(),
            limits: Limits::default(),
            rings: Rings::default(),
            passed: Vec::new(),
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

    /// Somebody who knows nothing of zerio says something.
    pub(super) fn says(&mut self, end: End, script: Script) {
        let session = self.session(end);
        session.id = script.hello(u64::MAX).map_or_else(String::new, |id| String::from_utf8_lossy(id).into());
        let mut position = session.greeting();
        session.ends.extend(script.messages().map(|message| {
            position += (HEADER + message.len()) as u64;
            position
        }));
        session.script = Some(script);
    }

    // What handlers hear.

    pub(super) fn connected(&mut self, end: End, node: usize, id: &str) {
        self.goes_on_with(node, None);
        let now = self.net.now();
        let session = self.session(end);
        let phase = std::mem::replace(&mut session.phase, Phase::Open);
        (session.node, session.id, session.opened_at) = (node, id.to_owned(), Some(now));
        self.check(phase == Phase::New, || format!("{end:?} connected, and it was {phase:?}"));
        let said = self.session(End { side: 0, ..end }).id == id;
        self.check(said, || format!("{end:?} connected as {id}, which it did not say"));
        self.book(node).connected += 1;
        if end.side == 1 {
            self.check_admitted(end, node);
        }
        self.figures.sessions += 1;
    }

    pub(super) fn heard(&mut self, end: End, node: usize, message: &[u8], batch_end: bool) {
        self.goes_on_with(node, Some(end));
        let (other, len) = (end.other(), message.len());
        let taken = self.taken(other);
        let session = self.session(end);
        let n = session.heard;
        session.heard += 1;
        let (phase, of) = (session.phase, session.node);
        let (paused, muted) = (session.paused, session.muted);
        self.check(phase == Phase::Open && of == node, || format!("{end:?} heard a message {phase:?}"));
        self.check(!muted, || format!("{end:?} heard a message after its handler had disconnected it"));
        self.check(!paused, || format!("{end:?} heard a message while its handler had paused it"));
        let book = self.book(node);
        book.heard += 1;
        book.heard_bytes += (HEADER + message.len()) as u64;
        self.figures.messages += 1;
        let sent = self.session(other);
        let Some(&to) = sent.ends.get(n).filter(|&&to| to <= taken) else {
            return self.fail(format!("{end:?} heard message {n}, which was never sent"));
        };
        let from =
            n.checked_sub(1).map_or_else(|| sent.greeting(), |before| sent.end_of(before)) + HEADER as u64;
        let mut should = Vec::with_capacity(len + 16);
        match &sent.script {
            Some(script) => should.extend_from_slice(&script.bytes()[from as usize..to as usize]),
            None => compose(other, n, (to - from) as usize, &mut should),
        }
        self.check_batch_end(end, node, to, batch_end);
        let expected = should.len();
        self.check(expected == len, || {
            format!("{end:?} heard {len} bytes as message {n}, which has {expected}")
        });
        self.check(should == message, || {
            format!("{end:?} heard as message {n} another's bytes: {message:?}")
        });
    }

    pub(super) fn disconnected(&mut self, end: End, node: usize, why: &Disconnection) {
        self.goes_on_with(node, None);
        let now = self.net.now();
        let session = self.session(end);
        let phase = std::mem::replace(&mut session.phase, Phase::Ended);
        session.over_at = Some(now);
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
        self.figures.reach.note("ended", &why.reason);
        self.check_undelivered(end, node, why);
        self.check_reason(end, node, why.reason);
        self.check_all_heard(end, node, why.reason);
        self.check_ended_in_time(end, node);
    }

    pub(super) fn rejected(&mut self, end: End, node: usize, why: Rejection) {
        self.goes_on_with(node, None);
        let phase = self.session(end).phase;
        self.check(phase == Phase::New, || format!("{end:?} rejected, and it was {phase:?}"));
        match why {
            Rejection::Refused(code) => self.figures.reach.note("refused", &code),
            Rejection::Ended(reason) => self.figures.reach.note("no session", &reason),
        }
        self.check_rejection(end, node, why);
        self.check_rejected_in_time(end);
    }

    /// The handler of an engine panics: its sessions end, and it hears nothing more.
    pub(super) fn silence(&mut self, node: usize) {
        self.figures.reach.add("handler", "panic", 1);
        (self.book(node).silent, self.book(node).amid) = (true, None);
        let now = self.net.now();
        let its = |session: &&mut Session| session.node == node && session.phase == Phase::Open;
        for session in self.sessions.iter_mut().flatten().filter(its) {
            (session.phase, session.over_at) = (Phase::Silenced, Some(now));
        }
        let said = |sides: &&[Session; 2]| sides[0].script.as_ref().is_some_and(Script::is_faulty);
        self.book(node).bad_frames_unseen += self.sessions.iter().filter(said).count() as u64;
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

    /// Whether a server has had a session with an id.
    pub(super) fn has_been(&self, server: usize, id: &str) -> bool {
        let mut sessions = self.sessions.iter().map(|sides| &sides[1]);
        sessions.any(|session| session.id == id && self.books[session.node].server == server)
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
        self.look_at_ring(end);
        let session = self.session(end);
        let (phase, node) = (session.phase, session.node);
        match outcome {
            Ok(()) => {
                let before = session.ends.last().copied().unwrap_or_else(|| session.greeting());
                session.ends.push(before + (HEADER + len) as u64);
                self.book(node).accepted += 1;
                self.check(phase == Phase::Open, || format!("{end:?} accepted a message {phase:?}"));
            }
            Err(error) => self.check_send_error(end, len, error),
        }
    }

    pub(super) fn pause(&mut self, end: End, paused: bool) {
        let session = self.session(end);
        (session.paused, session.held_back) = (paused, paused);
        session.was_held_back |= paused;
        if paused {
            self.breaks_off(end);
        }
    }

    /// Somebody wants this side to hear nothing, which its engine will see to.
    pub(super) fn hold_back(&mut self, end: End) {
        let session = self.session(end);
        (session.held_back, session.was_held_back) = (true, true);
    }

    /// This side's handler ends the session: from now on it hears nothing.
    pub(super) fn mute(&mut self, end: End) {
        self.is_to_end(end);
        self.session(end).muted = true;
        self.breaks_off(end);
    }

    /// Somebody asks this side to end the session.
    pub(super) fn ask_to_end(&mut self, end: End) {
        self.is_to_end(end);
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

    /// A session that goes on when its other side has long been gone.
    pub(super) fn forgotten(&self) -> Option<String> {
        let open = |side: &Session| side.phase == Phase::Open;
        let mut sides = self.sessions.iter().enumerate();
        let (connection, _) = sides.find(|(_, [a, b])| open(a) != open(b))?;
        Some(format!("connection {connection} has a session whose other side is gone"))
    }

    /// A session that has not ended.
    pub(super) fn unended(&self) -> Option<String> {
        let mut sides = self.sessions.iter().enumerate();
        let open = |side: &Session| side.phase == Phase::Open;
        let (connection, _) = sides.find(|(_, sides)| sides.iter().any(open))?;
        Some(format!("connection {connection} has a session that never ended"))
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

    /// How many of its messages are whole in the first `sent` bytes, and how many bytes there are behind them.
    fn came(&self, sent: u64) -> (usize, u64) {
        let came = self.ends.iter().filter(|&&position| position <= sent).count();
        (came, sent - came.checked_sub(1).map_or_else(|| self.greeting(), |last| self.end_of(last)))
    }

    /// What in the first `sent` bytes can't be a frame.
    fn fault(&self, sent: u64) -> Option<FrameError> {
        self.script.as_ref()?.fault(sent)
    }

    /// The handshake's frame, if it is whole in the first `sent` bytes.
    fn hello(&self, sent: u64) -> Option<&[u8]> {
        match &self.script {
            Some(script) => script.hello(sent),
            None => (self.greeting() <= sent).then_some(self.id.as_bytes()),
        }
    }
}
