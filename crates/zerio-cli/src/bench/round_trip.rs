//! Round trips: a message there, and the same message back, then the next. Polled, both sides turn their
//! engines in a loop; driven by threads, the client's handler sends the next message itself, so that
//! nothing is measured but the two engines.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Instant;

use zerio::{Context, Disconnection, Handler, PolledClient};

use super::control::{Framed, HEADER, frame};
use super::harness::{self, GRACE, Handover, Latencies, Recorder, payload};
use super::plan::Case;
use super::tls;
use crate::args::Drive;
use crate::failure::Failure;

/// What zerio's run of a line came to.
pub(super) struct Run {
    pub(super) latencies: Latencies,
    pub(super) allocations: u64,
    /// The driver's name.
    pub(super) driver: &'static str,
}

impl Run {
    fn new(recorder: Recorder, driver: &'static str) -> Run {
        let latencies = recorder.into_latencies();
        Run { allocations: latencies.allocations, latencies, driver }
    }
}

/// Bare sockets, which spin or block as the line does.
pub(super) fn control(case: &Case) -> Result<Latencies, Failure> {
    let (room, spins) = ((case.size + HEADER).max(4096), case.spins());
    let server = |address, _: &_| Ok(Framed::accept(&address, room, spins)?.echo()?);
    harness::two_threads(case.cores(), server, |address| {
        let mut recorder = Recorder::new(case.warm_up(), case.run)?;
        let mut stream = Framed::connect(address, room, spins)?;
        let ping = frame(&payload(case.size, 1));
        recorder.start();
        loop {
            stream.write(&ping)?;
            match stream.read_frame()? {
                Some(pong) if pong == ping => {}
                _ => return Err(wrong()),
            }
            if !recorder.answered() {
                return Ok(recorder.into_latencies());
            }
        }
    })
}

pub(super) fn zerio(case: &Case) -> Result<Run, Failure> {
    match case.drive {
        Drive::Polled => polled(case),
        Drive::Thread => by_threads(case),
    }
}

/// Sends each message back.
struct Echo;

impl Handler for Echo {
    #[inline]
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        // One message is under way at a time: there is room.
        let _ = peer.send(message);
    }
}

/// Counts answers.
struct Answers {
    ping: Vec<u8>,
    came: u64,
    wrong: bool,
}

impl Handler for Answers {
    #[inline]
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        self.came += 1;
        self.wrong |= message != self.ping;
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, _: &Disconnection) {
        self.wrong = true;
    }
}

fn polled(case: &Case) -> Result<Run, Failure> {
    let (server_core, client_core) = case.cores();
    let server_config = case.config(server_core);
    let server = |address, over: &_| harness::serve_polled(server_config, Echo, &address, over);
    harness::two_threads(case.cores(), server, |address| {
        let mut recorder = Recorder::new(case.warm_up(), case.run)?;
        let ping = payload(case.size, 1);
        let answers = Answers { ping: ping.clone(), came: 0, wrong: false };
        let config = case.config(client_core);
        let mut client = tls::client(address, config)?.handler(answers).start_polled()?;
        connect(&mut client)?;
        recorder.start();
        let mut sent = 0;
        loop {
            client.try_send(&ping)?;
            sent += 1;
            while client.handler().came < sent && !client.handler().wrong {
                client.poll()?;
            }
            if client.handler().wrong {
                return Err(wrong());
            }
            if !recorder.answered() {
                return Ok(Run::new(recorder, client.driver().name));
            }
        }
    })
}

/// Polls until a session has begun; the client's own handshake deadline bounds it.
pub(super) fn connect<H: Handler>(client: &mut PolledClient<H>) -> Result<(), Failure> {
    let begun = Instant::now();
    while !client.is_connected() {
        client.poll()?;
        if begun.elapsed() > GRACE {
            return Err(harness::stuck());
        }
    }
    Ok(())
}

/// Sends the next message when the last one's answer came.
struct Pinger {
    ping: Vec<u8>,
    recorder: Option<Recorder>,
    done: Arc<Handover<Result<Recorder, Failure>>>,
}

impl Pinger {
    #[cold]
    fn give(&mut self, outcome: Result<(), Failure>) {
        if let Some(recorder) = self.recorder.take() {
            self.done.give(outcome.map(|()| recorder));
        }
    }
}

impl Handler for Pinger {
    fn on_connected(&mut self, peer: &mut Context<'_>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.start();
            let _ = peer.send(&self.ping);
        }
    }

    #[inline]
    fn on_message(&mut self, peer: &mut Context<'_>, message: &[u8]) {
        let Some(recorder) = &mut self.recorder else { return };
        if message != self.ping {
            self.give(Err(wrong()));
        } else if !recorder.answered() {
            self.give(Ok(()));
        } else if let Err(error) = peer.send(&self.ping) {
            self.give(Err(error.into()));
        }
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, why: &Disconnection) {
        self.give(Err(Failure::new(format!("a run's session ended: {why}"))));
    }
}

fn by_threads(case: &Case) -> Result<Run, Failure> {
    let (server_core, client_core) = case.cores();
    let server = tls::server(case.config(server_core))?.handler(Echo).start()?;
    let done = Arc::new(Handover::default());
    let recorder = Some(Recorder::new(case.warm_up(), case.run)?);
    let pinger = Pinger { ping: payload(case.size, 1), recorder, done: done.clone() };
    let client = tls::client(server.local_addr(), case.config(client_core))?.handler(pinger).start()?;
    let recorder = done.take(case.run + GRACE).unwrap_or_else(|| Err(harness::stuck()))?;
    Ok(Run::new(recorder, client.driver().name))
}

fn wrong() -> Failure {
    Failure::new("an answer was not what had been sent, or the session ended")
}
