//! The feature `tracing`: what a subscriber hears of the life of sessions, and that it hears nothing of messages.
#![forbid(unsafe_code)]

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use zerio::{Client, Config, DriverKind, Error, Handler, PolledClient, PolledServer, Refusal, Server};

/// Keeps the events of zerio's, each as a line: level, message and fields.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "zerio"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        panic!("zerio has no spans")
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => write!(self.0, " {value:?}").unwrap(),
            // A port of the system's choice.
            "address" => self.0.push_str(" address"),
            name => write!(self.0, " {name}={value:?}").unwrap(),
        }
    }
}

fn poll_until<S: Handler, C: Handler>(
    server: &mut PolledServer<S>,
    client: &mut PolledClient<C>,
    mut is_so: impl FnMut(&PolledServer<S>, Result<usize, Error>) -> bool,
) {
    let begun = Instant::now();
    loop {
        server.poll().unwrap();
        let polled = client.poll();
        if is_so(server, polled) {
            return;
        }
        assert!(begun.elapsed().as_secs() < 20, "it does not come about");
    }
}

/// What is told of a session that sends so many messages, and of somebody who is not let in.
fn told(messages: u64) -> Vec<String> {
    let kept = Kept::default();
    let lines = kept.0.clone();
    tracing::subscriber::with_default(kept, || {
        let mut config = Config::default();
        config.driver = DriverKind::Poll;
        let admit = |arrival: &zerio::Arrival<'_>| match arrival.id() {
            "a" => Ok(()),
            _ => Err(Refusal::default()),
        };
        let server = Server::bind("127.0.0.1:0").unwrap().config(config.clone()).admit(admit);
        let mut server = server.start_polled().unwrap();
        let client = Client::connect(server.local_addr(), "a").unwrap().config(config.clone());
        let mut client = client.start_polled().unwrap();
        poll_until(&mut server, &mut client, |server, polled| {
            polled.unwrap();
            server.counters().engine.connected == 1
        });
        while !client.is_connected() {
            client.poll().unwrap();
        }
        for _ in 0..messages {
            client.try_send(b"hello").unwrap();
        }
        poll_until(&mut server, &mut client, |server, polled| {
            polled.unwrap();
            server.counters().sessions.received.messages_received == messages
        });
        server.disconnect("a").unwrap();
        poll_until(&mut server, &mut client, |server, _| server.counters().engine.disconnected == 1);
        let stranger = Client::connect(server.local_addr(), "b").unwrap().config(config);
        let mut stranger = stranger.start_polled().unwrap();
        // It hears so once, and the server tells of it when the connection is closed.
        poll_until(&mut server, &mut stranger, |_, polled| polled.is_err());
        poll_until(&mut server, &mut stranger, |_, _| {
            lines.lock().unwrap().iter().any(|line| line.starts_with("WARN"))
        });
        drop((client, stranger));
    });
    let lines = lines.lock().unwrap();
    lines.clone()
}

#[test]
fn the_life_of_a_session_is_told_and_its_messages_are_not() {
    let (few, many) = (told(1), told(200));
    let mut at = 0;
    for line in [
        "INFO an engine begins driver=\"poll\"",
        "DEBUG a session goes on peer=\"\" address state=Handshaking",
        "INFO connected peer=\"a\" address",
        "INFO disconnected peer=\"a\" address reason=this side disconnected it undelivered=0",
        "WARN rejected address why=refused: id not allowed others=0",
    ] {
        let found = few[at..].iter().position(|told| told == line);
        at += found.unwrap_or_else(|| panic!("no {line:?} behind line {at} of\n{}", few.join("\n"))) + 1;
    }
    let info = |lines: &[String]| lines.iter().filter(|line| !line.starts_with("DEBUG")).count();
    assert_eq!(few.len(), many.len(), "messages add nothing:\n{}", many.join("\n"));
    assert!(info(&few) < few.len());
    assert!(few.iter().all(|line| !line.contains("hello")));
}
