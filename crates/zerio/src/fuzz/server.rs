//! A whole server's engine on a kernel that does what the input says: connections that come, bytes in any
//! pieces, ends, failures, sends taken in part, time that passes, handles that are used meanwhile. Whatever it
//! is, each connection's events are in order and true, what was accepted is sent in order and whole or
//! counted, and in the end nothing is left.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::framer::naive;
use super::handshake::id_of;
use super::{Input, frame};
use crate::config::{Config, SameId};
use crate::driver::told::{self, Told, pass};
use crate::driver::{Driver as _, SlotId};
use crate::engine::{Context, Engine, Role, ServerRole};
use crate::error::{Disconnection, Reason, RefusalCode, Rejection};
use crate::handler::{Arrival, Handler, Refusal, Rejections};
use crate::send::Sole;
use crate::session::directory::{Directory, Entry};
use crate::session::inbox::inboxes;
use crate::session::peer::Peer;
use crate::session::{Session, Shared, State};
use crate::time::{Clock, Time};
use crate::wire::{HEADER, HELLO_MAX, PeerId, RefusalFrame};

const MESSAGE_MAX: usize = 300;

/// So many turns an engine that stops may take, each of them a second long.
const TURNS_MAX: usize = 100;

/// What both sides of one connection know.
#[derive(Default)]
struct Conversation {
    /// What the peer has said, and what has come to it.
    said: Vec<u8>,
    got: Vec<u8>,
    /// The peer has said its last.
    ended: bool,
    /// What the server's handler has heard, and what the server has accepted to send.
    heard: Vec<Vec<u8>>,
    accepted: Vec<Vec<u8>>,
    peer: Option<Peer>,
    disconnected: Option<Disconnection>,
    rejected: Option<Rejection>,
}

/// A handler that does what the messages say.
#[derive(Default)]
struct Obedient {
    conversations: Vec<Conversation>,
    connected: HashMap<String, usize>,
    /// Keeps handles, so that an engine has no sole sender any more.
    keeps_handles: bool,
    /// Does not let everybody in.
    is_choosy: bool,
    /// How many connections its log was told of.
    told: usize,
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], number as u16 + 1))
}

fn number(address: SocketAddr) -> usize {
    usize::from(address.port()) - 1
}

impl Handler for Obedient {
    fn admit(&mut self, arrival: &Arrival<'_>) -> Result<(), Refusal> {
        let (frames, _) = naive(&self.conversations[number(arrival.address())].said, HELLO_MAX);
        assert_eq!(id_of(frames[0]), Some(arrival.id().as_bytes()));
        if self.is_choosy && arrival.id() == "d" { Err(Refusal::default()) } else { Ok(()) }
    }

    fn on_rejections(&mut self, some: &Rejections) {
        self.told += 1 + some.others as usize;
    }

    fn on_connected(&mut self, peer: &mut Context<'_>) {
        let number = number(peer.address());
        let before = self.connected.insert(peer.id().to_owned(), number);
        assert!(before.is_none(), "one session has an id");
        let handle = self.keeps_handles.then(|| peer.peer());
        let conversation = &mut self.conversations[number];
        let (frames, _) = naive(&conversation.said, HELLO_MAX);
        assert_eq!(id_of(frames[0]), Some(peer.id().as_bytes()));
        assert!(conversation.disconnected.is_none() && conversation.rejected.is_none());
        conversation.peer = handle;
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let number = number(peer.address());
        assert_eq!(self.connected.get(peer.id()), Some(&number), "it is connected");
        self.conversations[number].heard.push(message.to_vec());
        let (what, rest) = message.split_first().unwrap_or((&0, &[]));
        let sent_to = match what % 8 {
            0..=1 => peer.send(rest).is_ok().then_some(number),
            2 => peer.claim(rest.len()).ok().and_then(|mut claim| {
                claim.copy_from_slice(rest);
                claim.commit().is_ok().then_some(number)
            }),
            3 => {
                let (len, rest) = rest.split_first().unwrap_or((&0, &[]));
                let (id, rest) = rest.split_at(rest.len().min(usize::from(*len)));
                let id = String::from_utf8_lossy(id);
                let sent = peer.send_to(&id, rest).is_ok();
                if sent {
                    let to = self.connected[&*id];
                    self.conversations[to].accepted.push(rest.to_vec());
                }
                None
            }
            4 => {
                peer.disconnect();
                None
            }
            5 => {
                peer.pause();
                None
            }
            6 => {
                pass(Duration::from_millis(rest.len() as u64 * 100));
                None
            }
            _ => {
                drop(peer.claim(rest.len()));
                None
            }
        };
        if sent_to.is_some() {
            self.conversations[number].accepted.push(rest.to_vec());
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, why: &Disconnection) {
        let number = number(peer.address());
        assert_eq!(self.connected.remove(peer.id()), Some(number), "it was connected");
        self.conversations[number].disconnected = Some(*why);
    }

    fn on_rejected(&mut self, address: SocketAddr, why: &Rejection) {
        let conversation = &mut self.conversations[number(address)];
        assert!(conversation.peer.is_none() && conversation.disconnected.is_none());
        assert!(conversation.rejected.replace(*why).is_none(), "once");
    }
}

type World = Engine<Told, Obedient>;

fn clock() -> Time {
    Time::from_nanos(told::nanos())
}

fn world(input: &mut Input<'_>) -> (World, Arc<Directory>) {
    let choices = input.byte();
    let mut config = Config::default();
    (config.message_max, config.send_ring, config.receive_buffer) = (MESSAGE_MAX, 4096, 4096);
    config.sessions_max = 1 + usize::from(choices % 4);
    // Of so many there may be more than one at once.
    config.batch_from = 1 + usize::from(choices % 4);
    config.same_id = if choices & 4 == 0 { SameId::RefuseNew } else { SameId::ReplaceOld };
    config.slow_peer_timeout = (choices & 8 == 0).then_some(Duration::from_secs(3));
    let keeps_handles = choices & 16 == 0;
    let is_choosy = choices & 32 != 0;
    config.connections_per_address = (choices & 32 != 0).then_some(3);
    config.connections_per_second = (choices & 64 != 0).then_some(1);
    config.connection_burst = 3;
    config.handshakes_max = (choices & 128 != 0).then_some(2);
    let memory = Shared::new(&config, Clock::System(clock)).expect("a small region");
    let directory = Arc::new(Directory::new(vec![memory.0.clone()], &config));
    let same_id = config.same_id;
    let role = Role::Server(ServerRole { directory: directory.clone(), engine: 0, same_id });
    let mut driver = Told::new(memory.1.clone(), config.slots_per_engine()).expect("it needs nothing");
    driver.accept();
    let handler = Obedient { keeps_handles, is_choosy, ..Obedient::default() };
    let sole = (!keeps_handles).then(Sole::new);
    let inboxes = inboxes(1, config.slots_per_engine());
    (Engine::new(&config, driver, handler, role, memory, inboxes, sole), directory)
}

/// The slot in which a connection's session lives.
fn slot(sessions: &[Session], number: usize) -> Option<usize> {
    let lives = |session: &Session| session.state != State::Free && session.address == address(number);
    sessions.iter().position(lives)
}

/// Lets bytes of a peer come, as many as the server receives now.
fn say(engine: &mut World, number: usize, bytes: &[u8]) {
    let (driver, sessions) = engine.kernels_view();
    if bytes.is_empty() || slot(sessions, number).is_none() {
        return;
    }
    let said = slot(sessions, number).map_or(0, |index| driver.receives(index, bytes));
    engine.handler().conversations[number].said.extend_from_slice(&bytes[..said]);
}

/// The kernel takes of what a session sends as much as `share` says.
fn take(engine: &mut World, number: usize, share: impl FnOnce(usize) -> usize) {
    let (driver, sessions) = engine.kernels_view();
    let Some(index) = slot(sessions, number) else { return };
    let taken = driver.takes(index, share);
    engine.handler().conversations[number].got.extend_from_slice(&taken);
}

fn turn(engine: &mut World) {
    engine.turn(clock()).expect("this driver does not fail");
}

/// Reads what happens from `data`, lets it happen, stops the server, and checks all that came of it.
pub fn server(data: &[u8]) {
    let mut input = Input(data);
    let (mut engine, directory) = world(&mut input);
    while !input.is_empty() {
        let what = input.byte();
        happens(&mut engine, &mut input, what & 0x7f);
        if what & 0x80 == 0 {
            turn(&mut engine);
        }
    }
    engine.shared().stop();
    for turns in 0.. {
        assert!(turns < TURNS_MAX, "it does not end");
        turn(&mut engine);
        for number in 0..engine.handler().conversations.len() {
            take(&mut engine, number, |all| all);
        }
        pass(Duration::from_secs(1));
        if engine.is_finished() {
            break;
        }
    }
    check(&mut engine, &directory);
}

fn happens(engine: &mut World, input: &mut Input<'_>, what: u8) {
    let connections = engine.handler().conversations.len();
    if what.is_multiple_of(16) || connections == 0 {
        if engine.kernels_view().0.accepts(address(connections)) {
            engine.handler().conversations.push(Conversation::default());
        }
        return;
    }
    let number = usize::from(input.byte()) % connections;
    let (driver, sessions) = engine.kernels_view();
    let index = slot(sessions, number);
    match what % 16 {
        1..=3 => {
            let len = usize::from(input.byte());
            say(engine, number, input.take(len));
        }
        4 => say(engine, number, &frame(&[b'a' + input.byte() % 4])),
        5 | 6 => {
            let len = usize::from(input.byte());
            say(engine, number, &frame(input.take(len)));
        }
        7 => {
            if let Some(index) = index
                && driver.rooms[index].is_some()
            {
                driver.receives(index, &[]);
                engine.handler().conversations[number].ended = true;
            }
        }
        8 => drop(index.map(|index| driver.fails_to_receive(index, ErrorKind::ConnectionReset))),
        9 | 10 => {
            let share = usize::from(input.byte());
            take(engine, number, |all| all * share / 255);
        }
        11 => drop(index.map(|index| driver.fails_to_send(index, ErrorKind::BrokenPipe))),
        12 => pass(Duration::from_millis(100 * u64::from(input.byte()))),
        13 | 14 => {
            let what = input.byte();
            let message = input.take(usize::from(what / 4));
            let conversation = &mut engine.handler().conversations[number];
            let Some(peer) = &conversation.peer else { return };
            // On a session that has ended each says so, and nothing happens.
            let over = conversation.disconnected.is_some();
            let outcome = match what % 4 {
                0 => peer.pause(),
                1 => peer.resume(),
                2 => peer.disconnect(),
                _ => peer.try_send(message).map(|()| conversation.accepted.push(message.to_vec())),
            };
            assert!(outcome.is_err() || !over, "a handle reaches its own session only");
        }
        _ => {}
    }
}

fn check(engine: &mut World, directory: &Directory) {
    let (driver, sessions) = engine.kernels_view();
    assert!(sessions.iter().all(|session| session.state == State::Free), "every slot is free");
    assert!(driver.rooms.iter().all(Option::is_none) && driver.sends.iter().all(Option::is_none));
    assert!(driver.adopted.iter().all(|adopted| !adopted) && driver.completions.is_empty());
    let refused = std::mem::take(&mut driver.refused);
    assert!(directory.gate.is_empty(), "nobody is counted as there");
    assert_eq!((directory.len(), directory.is_full(), engine.shared().load.get()), (0, false, 0));
    for (address, last_words) in refused {
        let conversation = &mut engine.handler().conversations[number(address)];
        assert!(conversation.got.is_empty() && conversation.said.is_empty(), "it had no slot");
        conversation.got = last_words;
    }
    let counters = engine.shared().counters();
    let handler = engine.handler();
    assert!(handler.connected.is_empty());
    for (number, conversation) in handler.conversations.iter().enumerate() {
        let id = naive(&conversation.said, HELLO_MAX).0.first().and_then(|hello| id_of(hello));
        let Some(id) = id.and_then(|id| PeerId::from_bytes(id).ok()) else { continue };
        let slot = SlotId { index: 0, generation: 0 };
        let entry = Entry { engine: 0, id: slot, address: address(number), gone: false, lost: false };
        assert_eq!(directory.enter(&id, entry, || {}), Ok(()), "its id is free");
        directory.leave(&id, 0, slot);
    }
    let rejected = handler.conversations.iter().filter(|one| one.rejected.is_some()).count();
    assert_eq!(handler.told, rejected, "a log is told of each");
    let (mut connected, mut heard, mut left) = (0, 0, 0);
    for conversation in &handler.conversations {
        heard += conversation.heard.len() as u64;
        match (&conversation.disconnected, &conversation.rejected) {
            (Some(why), None) => {
                connected += 1;
                left += why.undelivered.messages;
                check_session(conversation, why);
            }
            (None, Some(why)) => check_rejected(conversation, why),
            ends => panic!("a connection ends in one way: {ends:?}"),
        }
    }
    let engine = counters.engine;
    assert_eq!((engine.connected, engine.disconnected), (connected, connected));
    assert_eq!(counters.sessions.received.messages_received, heard);
    assert_eq!(engine.messages_undelivered, left);
}

fn check_session(conversation: &Conversation, why: &Disconnection) {
    let hello = naive(&conversation.said, HELLO_MAX).0[0];
    let said = &conversation.said[HEADER + hello.len()..];
    let (messages, fault) = naive(said, MESSAGE_MAX);
    let heard = &conversation.heard;
    assert!(heard.len() <= messages.len(), "no message that was not sent");
    assert!(heard.iter().zip(&messages).all(|(heard, message)| heard == message), "in order and whole");
    let all = heard.len() == messages.len();
    let whole: usize = messages.iter().map(|message| HEADER + message.len()).sum();
    match why.reason {
        Reason::PeerClosed => assert!(conversation.ended && all && said.len() == whole),
        Reason::Truncated { received } => {
            assert!(conversation.ended && all && said.len() == whole + received && received > 0);
        }
        Reason::BadFrame(error) => assert!(all && Some(error) == fault),
        _ => {}
    }

    // What was accepted has come, or is counted; the greeting is nobody's message.
    let greeting = frame(hello);
    let got = &conversation.got;
    let mut expected = greeting.clone();
    let mut left = 0;
    for message in &conversation.accepted {
        expected.extend(frame(message));
        left += u64::from(expected.len() > got.len());
    }
    assert!(expected.starts_with(got), "in order, whole and once");
    let bytes = expected.len() - got.len().max(greeting.len());
    assert_eq!((why.undelivered.messages, why.undelivered.bytes), (left, bytes as u64));
}

fn check_rejected(conversation: &Conversation, why: &Rejection) {
    assert!(conversation.heard.is_empty() && conversation.accepted.is_empty());
    let (frames, fault) = naive(&conversation.said, HELLO_MAX);
    let hello = frames.first();
    match why {
        Rejection::Refused(code) => {
            assert!(RefusalFrame::new(*code).frame().starts_with(&conversation.got), "it is told why");
            match code {
                RefusalCode::BadFrame => assert!(hello.is_none() && fault.is_some()),
                RefusalCode::BadPeerId => assert!(hello.is_some_and(|hello| id_of(hello).is_none())),
                RefusalCode::AlreadyConnected => assert!(hello.is_some_and(|hello| id_of(hello).is_some())),
                RefusalCode::NotAllowed => assert_eq!(hello.and_then(|hello| id_of(hello)), Some(&b"d"[..])),
                _ => {}
            }
        }
        Rejection::Ended(_) => assert!(conversation.got.is_empty()),
    }
}
