//! One way: one side sends as fast as it can, the other counts. From the first send to the last receipt,
//! after a warm-up that has arrived in full. Every way to send is driven by the same loop and counted by
//! the same sink, so that what differs is what is measured.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use zerio::{Client, Context, Handler, PolledClient, SendError};

use super::control::{Framed, HEADER, frame};
use super::harness::{self, GRACE, Handover, payload};
use super::plan::Case;
use super::round_trip::connect;
use super::tls;
use crate::allocations;
use crate::args::Drive;
use crate::failure::Failure;

/// The first byte of each message tells what it is.
mod kind {
    pub(super) const WARM_UP: u8 = 0;
    pub(super) const WARM_UP_END: u8 = 1;
    pub(super) const COUNTED: u8 = 2;
    pub(super) const END: u8 = 3;
}

/// The control writes so many bytes with one call, and the clock is looked at about as often.
const BATCH: usize = 64 * 1024;

/// The room of the control's receive buffer, the same as zerio's default.
const RECEIVE: usize = 256 * 1024;

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Counted where they arrived.
    pub(super) messages: u64,
    pub(super) took: Duration,
    pub(super) allocations: u64,
    /// The driver's name; the control has none.
    pub(super) driver: &'static str,
}

impl Run {
    pub(super) fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.took.as_secs_f64()
    }
}

/// What both sides of a run know.
#[derive(Default)]
struct Course {
    /// The whole warm-up has arrived.
    warm: AtomicBool,
    arrived: Handover<Arrived>,
}

/// All has arrived: how many, when, and how often there had been an allocation by then.
struct Arrived {
    counted: u64,
    at: Instant,
    allocations: u64,
}

/// Where messages arrive.
struct Sink {
    course: Arc<Course>,
    counted: u64,
}

impl Sink {
    #[inline]
    fn take(&mut self, message: &[u8]) {
        let kind = message.first().copied().unwrap_or(kind::WARM_UP);
        self.counted += u64::from(kind >= kind::COUNTED);
        if kind % 2 == 1 {
            self.mark(kind);
        }
    }

    #[cold]
    fn mark(&self, kind: u8) {
        if kind == kind::WARM_UP_END {
            self.course.warm.store(true, Ordering::Release);
        } else {
            let (at, allocations) = (Instant::now(), allocations::counted());
            self.course.arrived.give(Arrived { counted: self.counted, at, allocations });
        }
    }
}

impl Handler for Sink {
    #[inline]
    fn on_message(&mut self, _: &mut Context<'_>, message: &[u8]) {
        self.take(message);
    }
}

/// A way to send.
trait Way {
    /// Sends a message, as soon as there is room.
    fn send(&mut self, message: &[u8]) -> Result<(), Failure>;
    /// Helps what was sent on its way, while something is waited for.
    fn wait(&mut self) -> Result<(), Failure>;
}

/// Sends the warm-up, waits for its arrival, sends what counts, and waits for that.
fn drive(case: &Case, course: &Course, way: &mut impl Way, driver: &'static str) -> Result<Run, Failure> {
    let message = |kind| payload(case.size, kind);
    let (warm_up, warm_up_end) = (message(kind::WARM_UP), message(kind::WARM_UP_END));
    let (counted, end) = (message(kind::COUNTED), message(kind::END));
    let burst = (BATCH / (case.size + HEADER)).max(1);

    send_for(case.warm_up(), burst, way, &warm_up)?;
    way.send(&warm_up_end)?;
    await_arrival(way, || course.warm.load(Ordering::Acquire).then_some(()))?;

    let allocations = allocations::counted();
    let begun = Instant::now();
    let sent = 1 + send_for(case.run, burst, way, &counted)?;
    way.send(&end)?;
    let arrived = await_arrival(way, || course.arrived.try_take())?;
    if arrived.counted != sent {
        let what = format!("{sent} messages were sent, and {} arrived", arrived.counted);
        return Err(Failure::new(what));
    }
    let took = arrived.at.saturating_duration_since(begun);
    Ok(Run { messages: sent, took, allocations: arrived.allocations - allocations, driver })
}

/// Sends for so long, in bursts; tells how many.
fn send_for(time: Duration, burst: usize, way: &mut impl Way, message: &[u8]) -> Result<u64, Failure> {
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < time {
        for _ in 0..burst {
            way.send(message)?;
        }
        sent += burst as u64;
    }
    Ok(sent)
}

fn await_arrival<T>(way: &mut impl Way, mut arrived: impl FnMut() -> Option<T>) -> Result<T, Failure> {
    let begun = Instant::now();
    loop {
        way.wait()?;
        if let Some(value) = arrived() {
            return Ok(value);
        }
        if begun.elapsed() > GRACE {
            return Err(harness::stuck());
        }
    }
}

/// Gives the core to whoever has work.
fn rest() {
    std::thread::sleep(Duration::from_micros(100));
}

/// Fills a batch with frames and writes it with one call.
struct Batches {
    stream: Framed,
    batch: Vec<u8>,
}

impl Way for Batches {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        if self.batch.len() + HEADER + message.len() > self.batch.capacity() {
            self.stream.write(&self.batch)?;
            self.batch.clear();
        }
        self.batch.extend_from_slice(&(message.len() as u32).to_le_bytes());
        self.batch.extend_from_slice(message);
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Failure> {
        self.stream.write(&self.batch)?;
        self.batch.clear();
        rest();
        Ok(())
    }
}

/// Bare sockets: frames in batches, one write each, parsed on arrival. They spin where the line does.
pub(super) fn control(case: &Case) -> Result<Run, Failure> {
    let (frame, spins) = (frame(&payload(case.size, 0)).len(), case.spins());
    let course = Arc::new(Course::default());
    let mut sink = Sink { course: course.clone(), counted: 0 };
    let server = move |address, _: &_| {
        let mut stream = Framed::accept(&address, frame.max(RECEIVE), spins)?;
        while let Some(frame) = stream.read_frame()? {
            sink.take(&frame[HEADER..]);
        }
        Ok(())
    };
    harness::two_threads(case.cores(), server, |address| {
        let stream = Framed::connect(address, frame, spins)?;
        let mut way = Batches { stream, batch: Vec::with_capacity(frame.max(BATCH)) };
        drive(case, &course, &mut way, "")
    })
}

pub(super) fn zerio(case: &Case) -> Result<Run, Failure> {
    match case.drive {
        Drive::Polled => polled(case),
        Drive::Thread => by_threads(case),
    }
}

/// A client that its sender polls.
struct Polls<H: Handler> {
    client: PolledClient<H>,
}

impl<H: Handler> Way for Polls<H> {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        // As a program that streams does: its ring, like the control's buffer, goes to the kernel when it
        // is full.
        loop {
            match self.client.try_send(message) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => self.client.poll()?,
                Err(error) => return Err(error.into()),
            };
        }
    }

    fn wait(&mut self) -> Result<(), Failure> {
        self.client.poll()?;
        Ok(())
    }
}

fn polled(case: &Case) -> Result<Run, Failure> {
    let (server_core, client_core) = case.cores();
    let course = Arc::new(Course::default());
    let sink = Sink { course: course.clone(), counted: 0 };
    let server_config = case.config(server_core);
    let server = |address, over: &_| harness::serve_polled(server_config, sink, &address, over);
    harness::two_threads(case.cores(), server, |address| {
        let mut client = tls::client(address, case.config(client_core))?.start_polled()?;
        connect(&mut client)?;
        let driver = client.driver().name;
        drive(case, &course, &mut Polls { client }, driver)
    })
}

/// A client that an engine's thread drives.
struct Started(Client);

impl Way for Started {
    #[inline]
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.0.send(message)?)
    }

    fn wait(&mut self) -> Result<(), Failure> {
        rest();
        Ok(())
    }
}

fn by_threads(case: &Case) -> Result<Run, Failure> {
    let (server_core, client_core) = case.cores();
    let course = Arc::new(Course::default());
    let sink = Sink { course: course.clone(), counted: 0 };
    let server = tls::server(case.config(server_core))?.handler(sink).start()?;
    let client = tls::client(server.local_addr(), case.config(client_core))?.start()?;
    let driver = client.driver().name;
    drive(case, &course, &mut Started(client), driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_counts_what_counts_and_marks_both_ends() {
        let course = Arc::new(Course::default());
        let mut sink = Sink { course: course.clone(), counted: 0 };
        sink.take(&payload(8, kind::WARM_UP));
        assert!(!course.warm.load(Ordering::Relaxed));
        sink.take(&payload(8, kind::WARM_UP_END));
        assert!(course.warm.load(Ordering::Relaxed));
        sink.take(&payload(8, kind::COUNTED));
        assert!(course.arrived.try_take().is_none());
        sink.take(&payload(8, kind::END));
        assert_eq!(course.arrived.try_take().unwrap().counted, 2);
    }
}
