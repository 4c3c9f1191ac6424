//! `zerio ping`: round trips to an echo server, a line each, and a summary.
#![forbid(unsafe_code)]

use std::io::{Write, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde_json::json;
use zerio::{Client, Context, Disconnection, Handler};

use crate::args;
use crate::failure::{Failure, after_the_end};
use crate::interrupt;
use crate::terminal;

/// The longest round trip that is told apart, in nanoseconds: an hour.
const LONGEST: u64 = 3_600_000_000_000;

pub(crate) fn run(args: &args::Ping) -> Result<(), Failure> {
    let tls = args.tls.settings()?;
    let config = args.settings.config(tls.is_some());
    if args.size > config.message_max {
        let (size, max) = (args.size, config.message_max);
        let what = format!("--size {size} is over the longest message, {max} bytes");
        let instead = "give less, or more --message-max here and at the server";
        return Err(Failure::Usage(format!("{what}; {instead}")));
    }
    let (events, happened) = channel();
    let interrupts = events.clone();
    interrupt::catch(move || drop(interrupts.send(Event::Interrupted)))?;
    let id = args.id.clone().unwrap_or_else(|| format!("ping-{}", std::process::id()));
    let connecting = format!("connecting to {}", args.address);
    let client = terminal::patiently(&connecting, || {
        let client = Client::connect(args.address.clone(), &id)?.config(config).handler(Answers { events });
        match tls {
            Some(tls) => client.tls(tls).start(),
            None => client.start(),
        }
    })?;

    let mut session = Session {
        args,
        client,
        happened,
        took: Histogram::new_with_bounds(1, LONGEST, 3).map_err(Failure::new)?,
        sent: 0,
        total: Duration::ZERO,
        bar: progress(args),
    };
    let end = session.ping_on();
    session.bar.finish_and_clear();
    // A summary that nobody reads is no reason to hide why it ended.
    let summary = match end {
        Err(Failure::NobodyReads) => Ok(()),
        _ => session.summary(end.as_ref().err()),
    };
    end.and(summary)
}

/// How far it is, where no line each tells.
fn progress(args: &args::Ping) -> ProgressBar {
    match args.count {
        Some(count) if args.json => {
            let time = args.interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
            // Without an interval an answer may take any time.
            terminal::bar(count, if args.interval.is_zero() { Duration::MAX } else { time })
        }
        None if args.json => terminal::count(),
        _ => ProgressBar::hidden(),
    }
}

/// What the main thread is told.
enum Event {
    /// A message came, then.
    Answer(Instant, Vec<u8>),
    Disconnected(Disconnection),
    Interrupted,
}

struct Answers {
    events: Sender<Event>,
}

impl Handler for Answers {
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        // Stamped here: what the way to the main thread costs is not the server's.
        let now = Instant::now();
        let _ = self.events.send(Event::Answer(now, message.to_vec()));
    }

    fn on_disconnected(&mut self, _: &mut Context<'_>, why: &Disconnection) {
        let _ = self.events.send(Event::Disconnected(*why));
    }
}

/// What an answer's wait came to.
enum Waited {
    Answered(Instant),
    /// The time was up, where nothing was waited for but time.
    TimeIsUp,
    Interrupted,
}

struct Session<'a> {
    args: &'a args::Ping,
    client: Client,
    happened: Receiver<Event>,
    /// In nanoseconds.
    took: Histogram<u64>,
    sent: u64,
    total: Duration,
    bar: ProgressBar,
}

/// How long a session that is closed may take to say why.
const LAST_WORD: Duration = Duration::from_secs(5);

impl Session<'_> {
    /// Sends and waits until there were enough, or somebody has had enough.
    fn ping_on(&mut self) -> Result<(), Failure> {
        let mut due = Instant::now();
        let mut late = false;
        while self.args.count.is_none_or(|count| self.sent < count) {
            // Late through an answer that took long, the time counts from when the send was due: else
            // a slow server would choose when it is looked at.
            let begun = if late { due } else { Instant::now() };
            let message = self.message();
            self.client.send(&message).map_err(|error| self.explain(error))?;
            self.sent += 1;
            let deadline = Instant::now() + self.args.timeout;
            match self.wait(deadline, Some(&message))? {
                Waited::Answered(at) => self.answered(at.saturating_duration_since(begun))?,
                Waited::TimeIsUp => {
                    let (after, address) = (self.args.timeout, &self.args.address);
                    let what = format!("no answer within {after:?}");
                    // All before it were answered.
                    let next = match self.sent {
                        1 => format!("is {address} an echo server (`zerio serve`)?"),
                        _ => format!("does {address} still run, and is the way there still open?"),
                    };
                    return Err(Failure::new(format!("{what}; {next} Or give more --timeout")));
                }
                Waited::Interrupted => return Ok(()),
            }
            due += self.args.interval;
            late = due < Instant::now() && !self.args.interval.is_zero();
            if self.args.interval.is_zero() {
                due = Instant::now();
            }
            let last = self.args.count == Some(self.sent);
            if !last && let Waited::Interrupted = self.wait(due, None)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A message that carries its number, as far as there is room for it.
    fn message(&self) -> Vec<u8> {
        let number = self.sent.to_le_bytes();
        (0..self.args.size).map(|at| number.get(at).copied().unwrap_or(at as u8)).collect()
    }

    /// Waits for an answer, or for nothing but time. Messages that are no answer are passed over.
    fn wait(&self, until: Instant, answer: Option<&[u8]>) -> Result<Waited, Failure> {
        loop {
            match self.happened.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Answer(at, message)) if answer == Some(&message) => {
                    return Ok(Waited::Answered(at));
                }
                Ok(Event::Answer(..)) => {}
                Ok(Event::Disconnected(why)) => return Err(self.lost(&why)),
                Ok(Event::Interrupted) => return Ok(Waited::Interrupted),
                Err(RecvTimeoutError::Timeout) => return Ok(Waited::TimeIsUp),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::new("the client's engine has ended; please report this"));
                }
            }
        }
    }

    /// Why a message was not accepted: where the session has ended, why that was.
    fn explain(&self, error: zerio::SendError) -> Failure {
        if error != zerio::SendError::Closed {
            return error.into();
        }
        // The session is closed a moment before its handler hears why.
        let until = Instant::now() + LAST_WORD;
        loop {
            match self.happened.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Disconnected(why)) => return self.lost(&why),
                Ok(_) => {}
                Err(_) => return error.into(),
            }
        }
    }

    fn lost(&self, why: &Disconnection) -> Failure {
        let (address, next) = (&self.args.address, after_the_end(why.reason));
        Failure::new(format!("the session with {address} ended: {why}{next}"))
    }

    fn answered(&mut self, took: Duration) -> Result<(), Failure> {
        self.took.saturating_record(took.as_nanos() as u64);
        self.total += took;
        self.bar.inc(1);
        if self.args.json {
            return Ok(());
        }
        let (size, address, number) = (self.args.size, self.client.address(), self.sent);
        let micros = took.as_nanos() as f64 / 1e3;
        writeln!(stdout(), "{size} bytes from {address}: number {number} took {micros:.1} µs")
            .map_err(Failure::output)
    }

    fn summary(&self, why: Option<&Failure>) -> Result<(), Failure> {
        let (sent, received) = (self.sent, self.took.len());
        let address = self.client.address();
        let micros = |nanos: u64| (nanos as f64 / 1e2).round() / 10.0;
        let p = |quantile| micros(self.took.value_at_quantile(quantile));
        let (min, max) = (micros(self.took.min()), micros(self.took.max()));
        let mean = micros(self.total.as_nanos() as u64 / received.max(1));
        let (p50, p90, p99, p999) = (p(0.5), p(0.9), p(0.99), p(0.999));
        // Of no round trips there is no shortest one.
        let known = |micros: f64| (received > 0).then_some(micros);
        let text = if self.args.json {
            let reason = why.map(Failure::text);
            json!({
                "address": address, "driver": self.client.driver().name, "size": self.args.size,
                "sent": sent, "received": received, "min_us": known(min), "mean_us": known(mean),
                "p50_us": known(p50), "p90_us": known(p90), "p99_us": known(p99), "p999_us": known(p999),
                "max_us": known(max), "reason": reason,
            })
            .to_string()
        } else {
            let times = format!("min {min}, p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} µs");
            let counts = format!("\n{address}: {sent} sent, {received} came back");
            if received == 0 { counts } else { format!("{counts}\n{times}") }
        };
        writeln!(stdout(), "{text}").map_err(Failure::output)
    }
}
