//! One client: round trips, a stream, and an open loop.
#![forbid(unsafe_code)]

use std::time::Instant;

use super::framed::{self, In, Out};
use crate::failure::Failure;
use crate::job::{Drive, Job, Outcome, Said, Task};
use crate::role::say;
use crate::script::{self, Arrivals, Pace, Pinger, Sink, Way, kind};
use crate::system;
use crate::wire::{self, HEADER};

/// A stream is written in pieces of so many bytes, one call each.
const BATCH: usize = 64 * 1024;

/// The room of a receive buffer, the same as zerio's default.
const RECEIVE: usize = 256 * 1024;

pub(super) fn serve(job: &Job) -> Result<(), Failure> {
    let listener = system::listen()?;
    say(&Said::Ready { port: listener.local_addr()?.port(), driver: None });
    let (mut read, mut write) = framed::accept(&listener, RECEIVE, spins(job))?;
    // An error here is the client's end.
    let _ = match job.task {
        Task::Stream => sink(&mut read, &mut write, &mut Sink::new(job)),
        _ => echo(&mut read, &mut write, job),
    };
    Ok(())
}

fn spins(job: &Job) -> bool {
    job.drive == Drive::Spin
}

/// All that one read has brought goes back with one write.
fn echo(read: &mut In, write: &mut Out, job: &Job) -> Result<(), Failure> {
    let mut frames = Vec::with_capacity(RECEIVE.max(HEADER + job.size));
    loop {
        wire::put(read.next()?, &mut frames);
        while let Some(message) = read.at_hand() {
            wire::put(message, &mut frames);
        }
        write.write(&frames)?;
        frames.clear();
    }
}

fn sink(read: &mut In, write: &mut Out, sink: &mut Sink) -> Result<(), Failure> {
    loop {
        if let Some(answer) = sink.take(read.next()?) {
            write.write(&wire::frame(&answer))?;
        }
    }
}

pub(super) fn round_trip(job: &Job) -> Result<Outcome, Failure> {
    let (mut read, mut write) = framed::connect(job.address()?, RECEIVE, spins(job))?;
    say(&Said::Connected);
    let mut frame = Vec::with_capacity(HEADER + job.size);
    let mut pinger = Pinger::new(job)?;
    pinger.start(job);
    loop {
        wire::put(pinger.message(), &mut frame);
        write.write(&frame)?;
        frame.clear();
        if !pinger.answered(read.next()?)? {
            return pinger.outcome();
        }
    }
}

/// Fills a batch with frames and writes it with one call.
struct Batches {
    read: In,
    write: Out,
    batch: Vec<u8>,
}

impl Way for Batches {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        if self.batch.len() + HEADER + message.len() > self.batch.capacity() {
            self.write.write(&self.batch)?;
            self.batch.clear();
        }
        wire::put(message, &mut self.batch);
        Ok(())
    }

    fn answer(&mut self) -> Result<u64, Failure> {
        self.write.write(&self.batch)?;
        self.batch.clear();
        script::counted(self.read.next()?)
    }
}

pub(super) fn stream(job: &Job) -> Result<Outcome, Failure> {
    let (read, write) = framed::connect(job.address()?, 4096, spins(job))?;
    say(&Said::Connected);
    let batch = Vec::with_capacity(BATCH.max(HEADER + job.size));
    script::stream(job, &mut Batches { read, write, batch })
}

pub(super) fn paced(job: &Job) -> Result<Outcome, Failure> {
    let (read, write) = framed::connect(job.address()?, RECEIVE, spins(job))?;
    say(&Said::Connected);
    if spins(job) { spinning(job, read, write) } else { blocking(job, read, write) }
}

/// One loop that sends what is due and looks for answers.
fn spinning(job: &Job, mut read: In, mut write: Out) -> Result<Outcome, Failure> {
    let pace = Pace::new(job);
    let mut arrivals = Arrivals::new(job, pace)?;
    let mut frame = wire::frame(&script::message(job.size, kind::ECHO));
    let mut next = 0;
    loop {
        if next < pace.total && Instant::now() >= pace.due(next) {
            script::set_number(&mut frame[HEADER..], next);
            write.write(&frame)?;
            next += 1;
        }
        while let Some(answer) = read.try_next()? {
            if !arrivals.take(answer)? {
                return Ok(arrivals.outcome());
            }
        }
    }
}

/// A thread that sends what is due, and one that waits for answers.
fn blocking(job: &Job, mut read: In, mut write: Out) -> Result<Outcome, Failure> {
    let pace = Pace::new(job);
    let mut arrivals = Arrivals::new(job, pace)?;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(move || {
            while arrivals.take(read.next()?)? {}
            Ok(arrivals.outcome())
        });
        let mut message = script::message(job.size, kind::ECHO);
        let mut frames = Vec::with_capacity(RECEIVE);
        let mut next = 0;
        while next < pace.total {
            pace.wait(next);
            // What has become due meanwhile goes with one write.
            let now = Instant::now();
            while next < pace.total && pace.due(next) <= now {
                script::set_number(&mut message, next);
                wire::put(&message, &mut frames);
                next += 1;
            }
            write.write(&frames)?;
            frames.clear();
        }
        receiver.join().unwrap_or_else(|_| Err(Failure::new("the receiving thread panicked")))
    })
}
