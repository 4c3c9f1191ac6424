//! The clients that behave: a process of its own, in which one thread polls all of them. Each sends numbered
//! messages, a few at a time, and holds each echo against what it has sent.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zerio::{Client, Config, Context, Handler, PolledClient, SendError};

use super::system::Resident;
use super::{MESSAGE_MAX, PATIENCE, child, numbered};
use crate::failure::Failure;

/// So many messages of one client are on their way at once.
const WINDOW: u64 = 4;

/// How long a round over all clients takes at the least: they are many, and the machine has others to serve.
const ROUND: Duration = Duration::from_millis(20);

/// After so many messages a client tries one that is too long.
const TOO_LONG_EVERY: u64 = 500;

/// What came of all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) sent: u64,
    /// Echoes that were whole and in their place.
    pub(super) checked: u64,
    /// Messages that were too long, and refused.
    pub(super) too_long: u64,
    pub(super) resident_kib: Vec<u64>,
    pub(super) faults: Vec<String>,
}

/// Holds each echo against what was sent.
struct Checker {
    client: u32,
    next: u64,
    expected: Vec<u8>,
    fault: Option<String>,
}

impl Handler for Checker {
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        numbered::fill(&mut self.expected, self.client, self.next);
        if message != self.expected && self.fault.is_none() {
            let found = numbered::read(message);
            self.fault = Some(format!("good-{}: {found:?} came back, not {}", self.client, self.next));
        }
        self.next += 1;
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, why: &zerio::Disconnection) {
        self.fault.get_or_insert(format!("good-{}: disconnected, {why}", self.client));
    }
}

struct Good {
    client: PolledClient<Checker>,
    sent: u64,
}

impl Good {
    fn start(address: SocketAddr, number: u32, config: &Config) -> Result<Good, Failure> {
        let checker = Checker { client: number, next: 0, expected: Vec::new(), fault: None };
        let client = Client::connect(address, &format!("good-{number}"))?;
        let mut client = client.config(config.clone()).handler(checker).start_polled()?;
        let begun = Instant::now();
        while !client.is_connected() {
            client.poll()?;
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new(format!("good-{number} was not let in within {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(Good { client, sent: 0 })
    }

    fn echoed(&mut self) -> u64 {
        self.client.handler().next
    }

    /// Fills its window, and takes what has come. An error is a fault.
    fn turn(&mut self, sends: bool, message: &mut Vec<u8>, outcome: &mut Outcome) -> Result<(), String> {
        let number = self.client.handler().client;
        let told = |error: &dyn std::fmt::Display| format!("good-{number}: {error}");
        self.client.poll().map_err(|error| told(&error))?;
        while sends && self.sent - self.echoed() < WINDOW {
            if self.sent % TOO_LONG_EVERY == TOO_LONG_EVERY - 1 {
                match self.client.try_send(&[0; MESSAGE_MAX + 1]) {
                    Err(SendError::TooLarge { .. }) => outcome.too_long += 1,
                    other => return Err(format!("good-{number}: a message too long came to {other:?}")),
                }
            }
            numbered::fill(message, number, self.sent);
            self.client.try_send(message).map_err(|error| told(&error))?;
            self.sent += 1;
        }
        self.client.poll().map_err(|error| told(&error))?;
        match self.client.handler().fault.take() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }
}

/// Runs them until standard input ends, then until every echo has come.
pub(super) fn run(address: SocketAddr, clients: usize, config: &Config) -> Result<(), Failure> {
    let mut goods = Vec::with_capacity(clients);
    for number in 0..clients as u32 {
        goods.push(Good::start(address, number, config)?);
    }
    child::say("ready")?;
    let stopped = child::until_input_ends();
    let (resident, mut looked) = (Resident::open(), Instant::now());
    let mut outcome = Outcome::default();
    let mut message = Vec::with_capacity(MESSAGE_MAX);
    let mut ending = None;
    loop {
        let begun = Instant::now();
        if ending.is_none() && stopped() {
            ending = Some(begun);
        }
        goods.retain_mut(|good| match good.turn(ending.is_none(), &mut message, &mut outcome) {
            Ok(()) => true,
            Err(fault) => {
                outcome.faults.push(fault);
                outcome.sent += good.sent;
                outcome.checked += good.echoed().min(good.sent);
                false
            }
        });
        if let Some(ending) = ending {
            let waits = goods.iter_mut().any(|good| good.sent != good.echoed());
            if !waits || ending.elapsed() > PATIENCE {
                break;
            }
        }
        if looked.elapsed() > Duration::from_secs(1) && ending.is_none() {
            looked = Instant::now();
            outcome.resident_kib.extend(resident.kib());
        }
        std::thread::sleep(ROUND.saturating_sub(begun.elapsed()));
    }
    for mut good in goods {
        let (sent, echoed) = (good.sent, good.echoed());
        outcome.sent += sent;
        outcome.checked += echoed;
        let report = good.client.stop();
        if echoed != sent || !report.undelivered.is_empty() || report.failure.is_some() {
            outcome.faults.push(format!("{echoed} of {sent} came back; {report}"));
        }
    }
    // A line that its parent has not read yet must fit the pipe.
    outcome.faults.truncate(20);
    child::say(&serde_json::to_string(&outcome).map_err(Failure::new)?)
}
