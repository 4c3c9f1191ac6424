//! zerio's clients, polled or on a thread.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::Instant;

use zerio::tls::TlsClient;
use zerio::{Builder, Client, Connect, Handler, PolledClient, SendError};

use super::client_config;
use super::handlers::{Answers, Handover, Hears, Paced, Pings};
use crate::failure::Failure;
use crate::job::{Drive, Job, Outcome, Said};
use crate::measure::{Counts, GRACE, Window, histogram, latency, nanos};
use crate::peers::bare;
use crate::role::say;
use crate::script::{self, Arrivals, Course, Pace, Pinger, Way, kind};
use crate::tls;
use crate::wire;

fn builder(job: &Job, address: SocketAddr, id: &str) -> Result<Builder<Connect>, Failure> {
    let builder = Client::connect(address, id)?.config(client_config(job));
    if !job.tls {
        return Ok(builder);
    }
    Ok(builder.tls(TlsClient::with_roots(job.certificate()?.as_bytes())?.server_name(tls::NAME)?))
}

fn start<H: Handler + Send + 'static>(job: &Job, handler: H) -> Result<Client, Failure> {
    let id = wire::id(0);
    let client = builder(job, job.address()?, &id)?.handler(handler).start()?;
    say(&Said::Connected);
    Ok(client)
}

fn start_polled<H: Handler>(job: &Job, handler: H) -> Result<PolledClient<H>, Failure> {
    let id = wire::id(0);
    let mut client = builder(job, job.address()?, &id)?.handler(handler).start_polled()?;
    let begun = Instant::now();
    while !client.is_connected() {
        client.poll()?;
        if begun.elapsed() > GRACE {
            return Err(Failure::new("the client can't connect"));
        }
    }
    say(&Said::Connected);
    Ok(client)
}

/// Polls until the handler has something to tell.
fn poll_for<H: Handler, T>(client: &mut PolledClient<H>, heard: &Hears<T>) -> Result<T, Failure> {
    loop {
        // Looking takes a mutex, so it's done now and then only.
        for _ in 0..1000 {
            client.poll()?;
        }
        if let Some(value) = heard.try_take() {
            return value;
        }
    }
}

pub(super) fn round_trip(job: &Job) -> Result<Outcome, Failure> {
    let done = Hears::default();
    let pings = Pings { pinger: Pinger::new(job)?, job: job.clone(), done: done.clone() };
    if job.drive == Drive::Spin {
        let mut client = start_polled(job, pings)?;
        return poll_for(&mut client, &done);
    }
    let _client = start(job, pings)?;
    done.take(job.warm_up + job.run)?
}

/// A client that its sender polls. As a program that streams does: its ring, like the control's buffer, goes to the
/// kernel when it is full.
struct Polls {
    client: PolledClient<Answers>,
    counted: Hears<u64>,
}

impl Way for Polls {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        loop {
            match self.client.try_send(message) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => self.client.poll()?,
                Err(error) => return Err(error.into()),
            };
        }
    }

    fn answer(&mut self) -> Result<u64, Failure> {
        loop {
            self.client.poll()?;
            if let Some(counted) = self.counted.try_take() {
                return counted;
            }
        }
    }
}

/// A client that an engine's thread drives.
struct Started {
    client: Client,
    counted: Hears<u64>,
}

impl Way for Started {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.client.send(message)?)
    }

    fn answer(&mut self) -> Result<u64, Failure> {
        self.counted.take(GRACE)?
    }
}

pub(super) fn stream(job: &Job) -> Result<Outcome, Failure> {
    let answers = Answers::default();
    let counted = answers.counted.clone();
    if job.drive == Drive::Spin {
        return script::stream(job, &mut Polls { client: start_polled(job, answers)?, counted });
    }
    let mut way = Started { client: start(job, answers)?, counted };
    if job.senders == 1 {
        return script::stream(job, &mut way);
    }
    by_threads(job, &mut way)
}

/// Several threads send on one session. They are there before the clock starts.
fn by_threads(job: &Job, way: &mut Started) -> Result<Outcome, Failure> {
    struct Shares<'a>(&'a Client);
    impl Way for Shares<'_> {
        #[inline]
        fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
            Ok(self.0.send(message)?)
        }

        fn answer(&mut self) -> Result<u64, Failure> {
            Ok(0)
        }
    }
    script::warm_up(job, way)?;
    let (counts, end) = (script::message(job.size, kind::COUNTED), script::message(job.size, kind::END));
    let start = Barrier::new(job.senders + 1);
    let mut sent_by = vec![0; job.senders];
    let course = std::thread::scope(|scope| {
        let (client, start, counts) = (&way.client, &start, &counts);
        let send = move || {
            start.wait();
            script::send_for(job.run, &mut Shares(client), counts)
        };
        let threads: Vec<_> = (0..job.senders).map(|_| scope.spawn(send)).collect();
        let course = Course::begin(job);
        start.wait();
        for (sent, thread) in sent_by.iter_mut().zip(threads) {
            *sent = thread.join().unwrap_or_else(|_| Err(Failure::new("a sending thread panicked")))?;
        }
        Ok::<Course, Failure>(course)
    })?;
    way.send(&end)?;
    course.end(job, way.answer()?, &sent_by)
}

pub(super) fn paced(job: &Job) -> Result<Outcome, Failure> {
    let (arrivals, done) = (Arc::new(Handover::default()), Hears::default());
    let paced = Paced { arrivals: arrivals.clone(), open: None, done: done.clone() };
    if job.drive == Drive::Spin {
        return paced_polled(job, start_polled(job, paced)?, &arrivals, &done);
    }
    let client = start(job, paced)?;
    let pace = Pace::new(job);
    arrivals.give(Arrivals::new(job, pace)?);
    let mut message = script::message(job.size, kind::ECHO);
    for number in 0..pace.total {
        pace.wait(number);
        script::set_number(&mut message, number);
        client.send(&message)?;
    }
    done.take(job.run)?
}

fn paced_polled(
    job: &Job,
    mut client: PolledClient<Paced>,
    arrivals: &Handover<Arrivals>,
    done: &Hears<Outcome>,
) -> Result<Outcome, Failure> {
    let pace = Pace::new(job);
    arrivals.give(Arrivals::new(job, pace)?);
    let mut message = script::message(job.size, kind::ECHO);
    let mut next = 0;
    while next < pace.total {
        if Instant::now() >= pace.due(next) {
            script::set_number(&mut message, next);
            match client.try_send(&message) {
                Ok(()) => next += 1,
                // It stays due.
                Err(SendError::Full) => {}
                Err(error) => return Err(error.into()),
            }
        }
        client.poll()?;
    }
    poll_for(&mut client, done)
}

/// Connects with a client of zerio's each time, which has an engine of its own, drives it through the handshake,
/// sends one message, and stops.
pub(super) fn connect(job: &Job) -> Result<Outcome, Failure> {
    let address = job.address()?;
    let message = script::message(job.size, kind::COUNTED);
    say(&Said::Connected);
    let mut latencies = histogram()?;
    let mut window = Window::new(job);
    let mut connected = 0;
    let mut due = Instant::now();
    loop {
        let id = wire::id(connected as usize);
        let mut client = builder(job, bare::at(address, connected), &id)?.start_polled()?;
        while !client.is_connected() {
            client.poll()?;
        }
        client.try_send(&message)?;
        client.stop();
        connected += 1;
        let now = Instant::now();
        match window.look(now)? {
            Counts::Not => {}
            Counts::Yes => latencies.saturating_record(nanos(due, now)),
            Counts::Over => break,
        }
        due = now;
    }
    let messages = latencies.len();
    let closed = window.close()?;
    bare::all_arrived(address, job, connected)?;
    // Each client is started anew, so what it allocates is no finding.
    Ok(Outcome { messages, latency: Some(latency(&latencies)), allocations: None, ..closed })
}
