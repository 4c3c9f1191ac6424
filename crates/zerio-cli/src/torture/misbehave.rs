//! The peers that misbehave: a process of its own, with a thread for each. Each does one thing after the other
//! that no peer should, and holds what the server makes of it against what it should, where it is told. Of one that
//! breaks off by itself only the server hears: each id says what its owner does, so that the server's handler can hold
//! the reason that it is told against that.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};
use zerio::{Config, Reason};

use super::nowhere::{self, Nowhere};
use super::{HANDSHAKE, MESSAGE_MAX, PATIENCE, SPARE, child};
use crate::failure::Failure;

/// As much as a thread here needs.
const STACK: usize = 128 * 1024;

/// So many threads come and go: one that waits for its echo does not make the next one late.
const COMERS: u64 = 8;

/// Their ids begin so.
pub(super) const COMER: &str = "comer-";

/// What the server says to whom it does not let in.
const TAKEN: u8 = 1;
const FULL: u8 = 2;
const BAD_ID: u8 = 4;
const TOO_LATE: u8 = 5;
const BAD_FRAME: u8 = 6;

/// What came of all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// How often each was done and came to what it should.
    pub(super) done: BTreeMap<String, u64>,
    /// How often the server was full before it could be done, or the handshake's deadline over.
    pub(super) turned_away: u64,
    /// Well-behaved connections that came, had an echo, and went; and for how long there were such.
    pub(super) came_and_went: u64,
    pub(super) churned_ms: u64,
    pub(super) faults: Vec<String>,
}

/// What is done.
pub(super) struct Deed {
    pub(super) name: &'static str,
    does: fn(&mut Bad) -> Result<(), Wrong>,
    /// Whether a session of it may end so. None where it never becomes one.
    pub(super) ends: Option<fn(&Reason) -> bool>,
}

const fn deed(
    name: &'static str,
    does: fn(&mut Bad) -> Result<(), Wrong>,
    ends: Option<fn(&Reason) -> bool>,
) -> Deed {
    Deed { name, does, ends }
}

/// So much of a frame comes, its header included.
const HALF: usize = 54;

pub(super) const RESET_IN_HANDSHAKE: &str = "reset in the handshake";
pub(super) const NEVER_READS: &str = "never reads";

pub(super) const DEEDS: [Deed; 15] = [
    deed("a length over message_max", |bad| bad.bad_frame(MESSAGE_MAX as u32 + 1), Some(is_bad_frame)),
    deed("a length with the top bit", |bad| bad.bad_frame(1 << 31 | 1), Some(is_bad_frame)),
    deed("silent", Bad::silent, None),
    deed("a byte a second", Bad::byte_a_second, None),
    deed(
        "closed in the middle of a frame",
        |bad| bad.half_a_frame(false),
        Some(|reason| *reason == Reason::Truncated { received: HALF }),
    ),
    deed("reset in the middle of a frame", |bad| bad.half_a_frame(true), Some(is_lost)),
    deed(RESET_IN_HANDSHAKE, Bad::reset_in_handshake, None),
    deed("an empty id", |bad| bad.refused(b"", BAD_ID), None),
    deed("an id too long", |bad| bad.refused(&[b'x'; 256], BAD_ID), None),
    deed("an id that is not UTF-8", |bad| bad.refused(b"\xff\xfe", BAD_ID), None),
    deed("an id with a control character", |bad| bad.refused(b"two\nlines", BAD_ID), None),
    deed("an id that is taken", |bad| bad.refused(b"good-0", TAKEN), None),
    deed("a first frame too long", |bad| bad.refused(&[0x7f; 2000], BAD_FRAME), None),
    // When all ends it leaves by itself.
    deed(NEVER_READS, Bad::never_reads, Some(|reason| *reason == Reason::SlowPeer || is_gone(reason))),
    // Its end comes behind what it has sent, or overtakes it as a reset.
    deed("leaves with echoes on their way", Bad::leaves_early, Some(is_gone)),
];

fn is_bad_frame(reason: &Reason) -> bool {
    matches!(reason, Reason::BadFrame(_))
}

fn is_lost(reason: &Reason) -> bool {
    matches!(reason, Reason::Connection(_))
}

fn is_gone(reason: &Reason) -> bool {
    *reason == Reason::PeerClosed || is_lost(reason)
}

/// The id of who does one of `DEEDS`, and which deed that is.
fn id_for(deed: usize, number: usize, round: usize) -> String {
    format!("bad-{deed}-{number}-{round}")
}

pub(super) fn deed_of(id: &str) -> Option<usize> {
    id.strip_prefix("bad-")?.split('-').next()?.parse().ok().filter(|&deed| deed < DEEDS.len())
}

/// The name of what one of them does alone, because it takes all places.
pub(super) const FULL_TABLE: &str = "a full table";

/// So many more than there are places are tried.
const MORE: usize = 20;

/// The names of all that is done.
pub(super) fn deeds() -> impl Iterator<Item = &'static str> {
    DEEDS.iter().map(|deed| deed.name).chain([FULL_TABLE, nowhere::DEAD, nowhere::SILENT])
}

/// Why a deed did not come to what it should.
pub(super) enum Wrong {
    /// The server was full; it may be.
    Full,
    /// This side was slower than the handshake's deadline; on a busy machine it may be.
    Late,
    Fault(String),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Wrong {
        Wrong::Fault(error.to_string())
    }
}

/// How a connection answered.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Frame(Vec<u8>),
    Ended,
}

pub(super) struct Bad {
    server: SocketAddr,
    /// Another one for each deed: the server may not have heard of the last one's end.
    id: String,
    stops: Box<dyn Fn() -> bool + Send>,
    /// When it connected last.
    connected: Instant,
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes()[..], message].concat()
}

fn is_end(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn hear(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut header = [0; 4];
    let outcome = stream.read_exact(&mut header).and_then(|()| {
        let mut message = vec![0; u32::from_le_bytes(header).min(1 << 16) as usize];
        stream.read_exact(&mut message).map(|()| Answer::Frame(message))
    });
    match outcome {
        Err(error) if is_end(&error) => Ok(Answer::Ended),
        outcome => outcome,
    }
}

/// Writes; where the server has ended the connection meanwhile, what it said is to be read.
fn say(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    match stream.write_all(bytes) {
        Err(error) if !is_end(&error) => Err(error),
        _ => Ok(()),
    }
}

impl Bad {
    fn connect(&mut self) -> io::Result<TcpStream> {
        self.connected = Instant::now();
        let stream = TcpStream::connect(self.server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A connection that was let in.
    fn welcome(&mut self) -> Result<TcpStream, Wrong> {
        let mut stream = self.connect()?;
        self.shake_hands(&mut stream)?;
        Ok(stream)
    }

    fn shake_hands(&self, stream: &mut TcpStream) -> Result<(), Wrong> {
        say(stream, &frame(self.id.as_bytes()))?;
        match hear(stream)? {
            Answer::Frame(echo) if echo == self.id.as_bytes() => Ok(()),
            other => Err(self.not_let_in(&other)),
        }
    }

    fn bad_frame(&mut self, len: u32) -> Result<(), Wrong> {
        let mut stream = self.welcome()?;
        say(&mut stream, &len.to_le_bytes())?;
        say(&mut stream, &[0xab; 100])?;
        expect_end(&mut stream)
    }

    fn silent(&mut self) -> Result<(), Wrong> {
        let mut stream = self.connect()?;
        self.expect_refusal(&mut stream, TOO_LATE)
    }

    fn byte_a_second(&mut self) -> Result<(), Wrong> {
        let mut stream = self.connect()?;
        let begun = Instant::now();
        for byte in frame(self.id.as_bytes()) {
            say(&mut stream, &[byte])?;
            std::thread::sleep(Duration::from_secs(1));
            if begun.elapsed() > HANDSHAKE {
                break;
            }
        }
        self.expect_refusal(&mut stream, TOO_LATE)
    }

    fn half_a_frame(&mut self, reset: bool) -> Result<(), Wrong> {
        let mut stream = self.welcome()?;
        say(&mut stream, &100u32.to_le_bytes())?;
        say(&mut stream, &[0xcd; HALF - 4])?;
        if reset {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn reset_in_handshake(&mut self) -> Result<(), Wrong> {
        let mut stream = self.connect()?;
        say(&mut stream, &[9, 0])?;
        // A server that is full says so at once.
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        match stream.read(&mut [0]) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => return Err(Wrong::Full),
        }
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    fn refused(&mut self, hello: &[u8], code: u8) -> Result<(), Wrong> {
        let mut stream = self.connect()?;
        say(&mut stream, &frame(hello))?;
        self.expect_refusal(&mut stream, code)
    }

    /// The server sends echoes until there is no room for them, and has enough of it then.
    fn never_reads(&mut self) -> Result<(), Wrong> {
        self.connected = Instant::now();
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(&self.server.into())?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        self.shake_hands(&mut stream)?;
        let message = frame(&[7; MESSAGE_MAX]);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !(self.stops)() {
            match stream.write_all(&message) {
                Err(error) if is_end(&error) => return Ok(()),
                outcome => outcome?,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if (self.stops)() { Err(Wrong::Full) } else { Err(Wrong::Fault("it was never disconnected".into())) }
    }

    fn leaves_early(&mut self) -> Result<(), Wrong> {
        let mut stream = self.welcome()?;
        for _ in 0..20 {
            say(&mut stream, &frame(&[1; 500]))?;
        }
        Ok(())
    }

    /// Takes all places there may be, which are `places`, and more.
    fn full_table(&mut self, places: usize) -> Result<(), Wrong> {
        let (mut held, mut refused) = (Vec::new(), 0);
        let id = self.id.clone();
        for number in 0..places + MORE {
            self.id = format!("{id}-{number}");
            match self.welcome() {
                Ok(stream) => held.push(stream),
                Err(Wrong::Full) => refused += 1,
                Err(Wrong::Late) => {}
                Err(fault) => return Err(fault),
            }
            if refused >= MORE || (self.stops)() {
                break;
            }
        }
        self.id = id;
        if refused > 0 { Ok(()) } else { Err(Wrong::Fault(format!("{} were all let in", held.len()))) }
    }

    /// Comes, has an echo, and goes, in order or not.
    fn come_and_go(&mut self, number: u64) -> Result<(), Wrong> {
        let mut stream = self.welcome()?;
        let message = number.to_le_bytes();
        say(&mut stream, &frame(&message))?;
        match hear(&mut stream)? {
            Answer::Frame(echo) if echo == message => {}
            other => return Err(Wrong::Fault(format!("in place of an echo: {other:?}"))),
        }
        if number.is_multiple_of(2) {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn expect_refusal(&self, stream: &mut TcpStream, code: u8) -> Result<(), Wrong> {
        let answer = hear(stream)?;
        match &answer {
            Answer::Frame(frame) if frame.starts_with(&[0, code]) => expect_end(stream),
            answer => Err(self.not_let_in(answer)),
        }
    }

    fn not_let_in(&self, answer: &Answer) -> Wrong {
        match answer {
            Answer::Frame(frame) if frame.starts_with(&[0, FULL]) => Wrong::Full,
            // On a busy machine a thread may lose its core between connecting and speaking.
            Answer::Frame(frame)
                if frame.starts_with(&[0, TOO_LATE]) && self.connected.elapsed() >= HANDSHAKE =>
            {
                Wrong::Late
            }
            // A full server without a place even to refuse in says so and closes; what it had not read then
            // makes a reset of it, which may overtake the words.
            Answer::Ended => Wrong::Full,
            other => Wrong::Fault(format!("it was not let in: {other:?}")),
        }
    }
}

fn expect_end(stream: &mut TcpStream) -> Result<(), Wrong> {
    match hear(stream)? {
        Answer::Ended => Ok(()),
        frame => Err(Wrong::Fault(format!("in place of the end: {frame:?}"))),
    }
}

/// Books what came of a deed.
fn book(outcome: &Mutex<Outcome>, name: &str, result: Result<(), Wrong>) {
    let mut outcome = outcome.lock().expect("nobody panics with it");
    match result {
        Ok(()) => *outcome.done.entry(name.to_owned()).or_default() += 1,
        Err(Wrong::Full | Wrong::Late) => outcome.turned_away += 1,
        Err(Wrong::Fault(fault)) => outcome.faults.push(format!("{name}: {fault}")),
    }
}

/// Takes as many places as those will that come later, all at once, and has each filled with what it holds: so the
/// server's memory is touched before it is watched.
fn touch(bad: &mut Bad, places: usize) -> Result<(), Failure> {
    // More than a ring or a buffer holds, but not more than they do together with the sockets.
    let messages = frame(&[3; MESSAGE_MAX]).repeat(20);
    let mut held = Vec::with_capacity(places);
    for place in 0..places {
        bad.id = format!("first-{place}");
        let Ok(mut stream) = bad.welcome() else { break };
        stream.write_all(&messages)?;
        // Some may be too many for the ring.
        stream.read_exact(&mut [0; MESSAGE_MAX])?;
        held.push(stream);
    }
    Ok(())
}

/// One of the `COMERS`, which share a schedule of `churn` connections a second. Whoever is turned away tries again, and
/// what is late is caught up with.
fn come_and_go(bad: &mut Bad, (comer, churn): (u64, u32), begun: Instant, outcome: &Mutex<Outcome>) {
    for number in (comer..).step_by(COMERS as usize) {
        let due = begun + Duration::from_secs(number) / churn;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        bad.id = format!("{COMER}{number}");
        loop {
            if (bad.stops)() {
                let mut outcome = outcome.lock().expect("nobody panics with it");
                outcome.churned_ms = begun.elapsed().as_millis() as u64;
                return;
            }
            let result = bad.come_and_go(number);
            let again = matches!(result, Err(Wrong::Full | Wrong::Late));
            let mut outcome = outcome.lock().expect("nobody panics with it");
            match result {
                Ok(()) => outcome.came_and_went += 1,
                Err(Wrong::Full | Wrong::Late) => outcome.turned_away += 1,
                Err(Wrong::Fault(fault)) => outcome.faults.push(format!("{}: {fault}", bad.id)),
            }
            drop(outcome);
            if !again {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs so many of them, and `churn` connections a second that come and go, until standard input ends.
pub(super) fn run(server: SocketAddr, peers: usize, churn: u32, config: &Config) -> Result<(), Failure> {
    let stops = child::until_input_ends();
    let outcome = Mutex::new(Outcome::default());
    let bad = |id: String| Bad { server, id, stops: Box::new(stops.clone()), connected: Instant::now() };
    touch(&mut bad(String::new()), peers + SPARE)?;
    let nowhere = Nowhere::new(config)?;
    child::say("ready")?;
    std::thread::scope(|scope| -> Result<(), Failure> {
        for number in 0..peers {
            let (mut bad, outcome, stops) = (bad(format!("bad-{number}")), &outcome, stops.clone());
            let work = move || {
                for round in 0.. {
                    if stops() {
                        break;
                    }
                    let which = (number + round) % DEEDS.len();
                    bad.id = id_for(which, number, round);
                    let result = (DEEDS[which].does)(&mut bad);
                    book(outcome, DEEDS[which].name, result);
                    std::thread::sleep(Duration::from_millis(50));
                }
            };
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        }
        let (mut full, outcome, stops) = (bad("full".to_owned()), &outcome, stops.clone());
        let ends = stops.clone();
        let fill = move || {
            for round in 0.. {
                if ends() {
                    break;
                }
                full.id = format!("full-{round}");
                let result = full.full_table(peers + SPARE);
                if !ends() {
                    book(outcome, FULL_TABLE, result);
                }
                // The others need the places for a while.
                std::thread::sleep(Duration::from_secs(1));
            }
        };
        std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, fill)?;
        let (nowhere, ends) = (&nowhere, stops.clone());
        scope.spawn(move || {
            while !ends() {
                book(outcome, nowhere::DEAD, nowhere.dead());
                book(outcome, nowhere::SILENT, nowhere.silent());
                std::thread::sleep(Duration::from_millis(200));
            }
        });
        let begun = Instant::now();
        for comer in (0..COMERS).filter(|_| churn > 0) {
            let mut bad = bad(String::new());
            let work = move || come_and_go(&mut bad, (comer, churn), begun, outcome);
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work)?;
        }
        Ok(())
    })?;
    let mut outcome = outcome.into_inner().expect("nobody panics with it");
    outcome.faults.truncate(20);
    child::say(&serde_json::to_string(&outcome).map_err(Failure::new)?)
}
