//! A whole server on the simulated network: connections that say arbitrary bytes, end in any way, and never read,
//! while a client that behaves sends and hears its echoes. Whatever they say, what the handler hears of each is
//! what a naive reading of it gives, nobody else notices, and in the end nothing is left.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::time::Duration;

use super::framer::naive;
use super::handshake::id_of;
use super::{Input, frame};
use crate::config::Config;
use crate::driver::sim::{Far, connection_of};
use crate::engine::Context;
use crate::error::{Disconnection, SendError};
use crate::handler::Handler;
use crate::sim::{Faults, Server, World};
use crate::wire::{HEADER, HELLO_MAX};

const MESSAGE_MAX: usize = 300;
const CONNECTIONS_MAX: usize = 8;

/// How long a handshake and a stop may take.
const DEADLINE: Duration = Duration::from_millis(100);

/// Long enough for whatever is on its way, and for every deadline.
const LONG: Duration = Duration::from_secs(2);

/// What a server's handler hears of one connection.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) id: String,
    pub(super) messages: Vec<Vec<u8>>,
    /// Those of them that there was room to answer.
    answered: Vec<Vec<u8>>,
    ended: bool,
}

/// Answers each message with the same.
#[derive(Default)]
struct Echo {
    by_connection: HashMap<u32, Heard>,
}

impl Handler for Echo {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        let heard = Heard { id: peer.id().to_owned(), ..Heard::default() };
        let before = self.by_connection.insert(connection_of(peer.address()), heard);
        assert!(before.is_none(), "it connects once");
    }

    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let heard = self.by_connection.get_mut(&connection_of(peer.address())).expect("it is connected");
        assert!(!heard.ended, "nothing is heard after the end");
        heard.messages.push(message.to_vec());
        // Where there is no room it is not answered.
        if peer.send(message).is_ok() {
            heard.answered.push(message.to_vec());
        }
    }

    fn on_disconnected(&mut self, peer: &mut Context<'_>, _: &Disconnection) {
        let heard = self.by_connection.get_mut(&connection_of(peer.address())).expect("it was connected");
        assert!(!std::mem::replace(&mut heard.ended, true), "it ends once");
    }
}

/// What a client hears.
#[derive(Default)]
struct Echoes(Vec<Vec<u8>>);

impl Handler for Echoes {
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        self.0.push(message.to_vec());
    }
}

/// What somebody says on a connection, and how.
pub(super) trait Voice {
    /// Says what this number stands for, from 1 to 7, if there is still a way to.
    fn say(&mut self, far: Option<&Far>, what: u8, input: &mut Input<'_>);

    /// Goes on with what is left to be said, and with what the server has said.
    fn go_on(&mut self, far: &Far, heard: &[u8]);

    /// Its handler has heard what it has said, as far as that could come: all of it, where `all` says so.
    fn check(&self, heard: &Heard, all: bool);
}

/// A connection of somebody who says anything.
struct Anybody<V> {
    connection: u32,
    /// `None` when it has gone.
    far: Option<Far>,
    voice: V,
    reads: bool,
    /// It went without a word, so that what it had said may be lost.
    reset: bool,
}

impl<V: Voice> Anybody<V> {
    fn go_on(&mut self) {
        let Some(far) = &self.far else { return };
        let (mut heard, mut bytes) = (Vec::new(), [0; 512]);
        while self.reads
            && let Ok(len @ 1..) = far.try_read(&mut bytes)
        {
            heard.extend_from_slice(&bytes[..len]);
        }
        self.voice.go_on(far, &heard);
    }
}

/// Frames, and what is none, in the clear.
#[derive(Default)]
struct Plain {
    /// What the network has taken.
    said: Vec<u8>,
}

impl Voice for Plain {
    fn say(&mut self, far: Option<&Far>, what: u8, input: &mut Input<'_>) {
        let bytes = match what {
            4 => frame(&[b'a' + input.byte() % 4]),
            _ => {
                let len = usize::from(input.byte());
                let bytes = input.take(len);
                if what < 4 { bytes.to_vec() } else { frame(bytes) }
            }
        };
        if let Some(Ok(taken)) = far.map(|far| far.try_write(&bytes)) {
            self.said.extend_from_slice(&bytes[..taken]);
        }
    }

    fn go_on(&mut self, _: &Far, _: &[u8]) {}

    fn check(&self, heard: &Heard, all: bool) {
        assert_heard(&self.said, heard, all);
    }
}

/// What a handler has heard is what was said, in order and whole, if not all of it.
pub(super) fn assert_heard(said: &[u8], heard: &Heard, all: bool) {
    let (frames, _) = naive(said, HELLO_MAX);
    let hello = frames.first().expect("who is connected has said who he is");
    assert_eq!(id_of(hello), Some(heard.id.as_bytes()));
    let (messages, _) = naive(&said[HEADER + hello.len()..], MESSAGE_MAX);
    assert!(messages.iter().zip(&heard.messages).all(|(said, heard)| said == heard), "in order and whole");
    let (said, heard) = (messages.len(), heard.messages.len());
    assert!(heard == said || heard < said && !all, "{heard} of {said} messages were heard");
}

/// Reads what happens from `data`, lets it happen, stops the server, and checks all that came of it.
pub fn network(data: &[u8]) {
    let config = Config { receive_buffer: 4096, ..Config::default() };
    play(data, config, |_| {}, Plain::default);
}

/// The same for whatever is spoken in a world that was prepared for it. Gives a number that is given by all that has
/// happened.
pub(super) fn play<V: Voice>(
    data: &[u8],
    mut config: Config,
    prepare: impl FnOnce(&mut World),
    voice: impl Fn() -> V,
) -> u64 {
    let mut input = Input(data);
    let mut world = World::new(u64::from(input.byte()) << 8 | u64::from(input.byte()));
    // Nothing of what ends a session that would go on.
    let drawn = world.faults();
    let faults = Faults {
        resets: 0,
        cuts: 0,
        half_closes: 0,
        refusals: 0,
        silences: 0,
        accept_errors: 0,
        adopt_errors: 0,
        driver_failures: 0,
        ..drawn
    };
    world.set_faults(Faults::none());
    (config.message_max, config.send_ring) = (MESSAGE_MAX, 4096);
    config.sessions_max = CONNECTIONS_MAX + 1;
    config.batch_from = 1 + data.len() % 8;
    (config.handshake_timeout, config.drain_timeout) = (DEADLINE, DEADLINE);
    prepare(&mut world);
    let server = world.server(config.clone(), Echo::default()).expect("a good configuration");
    let client = world.client(server.address(), "client", config, Echoes::default()).expect("a good one too");
    assert!(world.run_until(LONG, || client.is_connected()), "nobody is in its way");
    world.set_faults(faults);

    let mut anybodies: Vec<Anybody<V>> = Vec::new();
    let mut sent = Vec::new();
    while !input.is_empty() {
        happens(&mut world, &server, &mut anybodies, &voice, &mut input);
        let message = sent.len().to_string().into_bytes();
        match client.try_send(&message) {
            Ok(()) => sent.push(message),
            Err(error) => assert_eq!(error, SendError::Full, "nobody can end another's session"),
        }
        anybodies.iter_mut().for_each(Anybody::go_on);
    }
    world.set_faults(Faults::none());
    world.run_for(LONG);
    assert!(client.is_connected());
    {
        let handler = server.handler();
        let heard =
            handler.by_connection.values().find(|heard| heard.id == "client").expect("it is connected");
        assert!(heard.messages == sent, "all that was accepted, in order");
        assert!(client.handler().0 == heard.answered, "every answer, in order");
    }

    // Whoever still says nothing is heard to his end.
    anybodies.iter_mut().for_each(|anybody| {
        anybody.reads = true;
        anybody.go_on();
        anybody.far.iter().for_each(Far::shut_down);
    });
    for _ in 0..20 {
        world.run_for(DEADLINE / 5);
        anybodies.iter_mut().for_each(Anybody::go_on);
    }
    server.stop();
    assert!(world.run_until(LONG, || server.is_finished() && client.is_finished()), "it ends");
    assert_eq!(server.connected(), 0);
    let counted = server.counters().engine;
    let handler = server.handler();
    assert_eq!(counted.connected, handler.by_connection.len() as u64);
    assert_eq!(counted.disconnected, counted.connected);
    assert!(handler.by_connection.values().all(|heard| heard.ended));
    for Anybody { connection, voice, reset, .. } in &anybodies {
        if let Some(heard) = handler.by_connection.get(connection) {
            voice.check(heard, !reset);
        }
    }
    world.trace()
}

/// The next thing that somebody does, or some time goes by.
fn happens<V: Voice>(
    world: &mut World,
    server: &Server<Echo>,
    anybodies: &mut Vec<Anybody<V>>,
    voice: impl Fn() -> V,
    input: &mut Input<'_>,
) {
    let what = input.byte();
    if what.is_multiple_of(16) || anybodies.is_empty() {
        if anybodies.len() < CONNECTIONS_MAX {
            let far = Far::begin(world.net(), server.address());
            let (connection, reads) = (far.end().connection, what & 0x10 == 0);
            anybodies.push(Anybody { connection, far: Some(far), voice: voice(), reads, reset: false });
        }
        return world.run_for(Duration::from_micros(u64::from(what)));
    }
    let at = usize::from(what >> 4) % anybodies.len();
    let anybody = &mut anybodies[at];
    match what % 16 {
        what @ 1..=7 => anybody.voice.say(anybody.far.as_ref(), what, input),
        8 => anybody.far.iter().for_each(Far::shut_down),
        9 => {
            if let Some(far) = anybody.far.take() {
                far.reset();
                anybody.reset = true;
            }
        }
        10 => {
            // Who goes without reading what has come resets the connection.
            anybody.reset |= anybody.far.take().is_some();
        }
        11 => anybody.reads ^= true,
        12 | 13 => world.run_for(Duration::from_micros(u64::from(input.byte()))),
        14 => world.run_for(Duration::from_millis(u64::from(input.byte() / 2))),
        _ => {}
    }
}
