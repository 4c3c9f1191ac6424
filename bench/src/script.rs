//! What the two sides say to each other, and how each checks it: the same for every peer, so that what differs is
//! what is measured. Nothing here touches a socket.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::allocations;
use crate::failure::Failure;
use crate::job::{Job, Outcome};
use crate::measure::{Counts, Window, allocations_since, histogram, latency, nanos};

/// The first byte of a message tells what it is.
pub(crate) mod kind {
    /// Answered with what was counted so far, which is then forgotten.
    pub(crate) const WARM_UP_END: u8 = 1;
    pub(crate) const COUNTED: u8 = 2;
    /// Answered with what was counted.
    pub(crate) const END: u8 = 3;
    /// There and back.
    pub(crate) const ECHO: u8 = 4;
}

/// Where a message has its number.
const NUMBER: std::ops::Range<usize> = 8..16;

/// A message of so many bytes, at least 16.
pub(crate) fn message(size: usize, kind: u8) -> Vec<u8> {
    let mut message: Vec<u8> = (0..size.max(NUMBER.end)).map(|at| at as u8).collect();
    message[0] = kind;
    message[NUMBER].fill(0);
    message
}

#[inline]
pub(crate) fn set_number(message: &mut [u8], number: u64) {
    message[NUMBER].copy_from_slice(&number.to_le_bytes());
}

/// Whether an answer has the length, the kind, the number and the last byte of what was sent: all that can be
/// looked at without reading 64 KiB again on one side only.
#[inline]
pub(crate) fn same(answer: &[u8], sent: &[u8]) -> bool {
    answer.len() == sent.len()
        && answer.first_chunk::<16>() == sent.first_chunk::<16>()
        && answer.last() == sent.last()
}

#[cold]
pub(crate) fn wrong(what: &str) -> Failure {
    Failure::new(format_args!("{what} was not what had been sent"))
}

#[cold]
pub(crate) fn ended() -> Failure {
    Failure::new("the connection ended before the run did")
}

/// Round trips, one after the other: each is stamped once, at the moment when its send was due, which is when the
/// last one's answer came. Nothing here allocates once it was made.
pub(crate) struct Pinger {
    message: Vec<u8>,
    number: u64,
    due: Instant,
    window: Window,
    histogram: Histogram<u64>,
}

impl Pinger {
    /// The first send is due when [`start`](Pinger::start) is called.
    pub(crate) fn new(job: &Job) -> Result<Pinger, Failure> {
        let message = message(job.size, kind::ECHO);
        Ok(Pinger {
            message,
            number: 0,
            due: Instant::now(),
            window: Window::new(job),
            histogram: histogram()?,
        })
    }

    pub(crate) fn start(&mut self, job: &Job) {
        self.window = Window::new(job);
        self.due = Instant::now();
    }

    /// What to send next.
    #[inline]
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }

    /// An answer has come. Tells whether to send again.
    #[inline]
    pub(crate) fn answered(&mut self, answer: &[u8]) -> Result<bool, Failure> {
        let now = Instant::now();
        if !same(answer, &self.message) {
            return Err(wrong("an answer"));
        }
        self.number += 1;
        set_number(&mut self.message, self.number);
        let counts = self.window.look(now)?;
        if counts == Counts::Yes {
            self.histogram.saturating_record(nanos(self.due, now));
        }
        self.due = now;
        Ok(counts != Counts::Over)
    }

    pub(crate) fn outcome(&self) -> Result<Outcome, Failure> {
        let messages = self.histogram.len();
        let bytes = messages * self.message.len() as u64;
        Ok(Outcome { messages, bytes, latency: Some(latency(&self.histogram)), ..self.window.close()? })
    }
}

/// Where a stream arrives: it counts, and looks at each message.
#[derive(Debug)]
pub(crate) struct Sink {
    size: usize,
    counted: u64,
    /// Messages of another length than was agreed.
    wrong: u64,
}

/// What a sink answers: how many it counted, and how many of them were wrong.
pub(crate) type Answer = [u8; 16];

impl Sink {
    pub(crate) fn new(job: &Job) -> Sink {
        Sink { size: job.size, counted: 0, wrong: 0 }
    }

    #[inline]
    pub(crate) fn take(&mut self, message: &[u8]) -> Option<Answer> {
        let kind = message.first().copied().unwrap_or_default();
        self.wrong += u64::from(message.len() != self.size);
        self.counted += u64::from(kind == kind::COUNTED);
        if kind % 2 == 1 { Some(self.answer(kind)) } else { None }
    }

    #[cold]
    fn answer(&mut self, kind: u8) -> Answer {
        let mut answer = [0; 16];
        answer[..8].copy_from_slice(&self.counted.to_le_bytes());
        answer[8..].copy_from_slice(&self.wrong.to_le_bytes());
        if kind == kind::WARM_UP_END {
            self.counted = 0;
        }
        answer
    }
}

/// How many messages a sink says that it counted.
pub(crate) fn counted(answer: &[u8]) -> Result<u64, Failure> {
    match answer.as_chunks::<8>() {
        ([counted, wrong], []) if u64::from_le_bytes(*wrong) == 0 => Ok(u64::from_le_bytes(*counted)),
        _ => Err(wrong("a message of a stream")),
    }
}

/// A way to send a stream.
pub(crate) trait Way {
    /// Sends a message, as soon as there is room.
    fn send(&mut self, message: &[u8]) -> Result<(), Failure>;
    /// Sees to it that what was sent goes, and waits for the sink's answer: how many it counted.
    fn answer(&mut self) -> Result<u64, Failure>;
}

/// How many messages are sent between two looks at the clock.
pub(crate) fn burst(size: usize) -> u64 {
    (64 * 1024 / size.max(1)).max(1) as u64
}

/// Sends the warm-up, waits for its arrival, sends what counts, and waits for that.
pub(crate) fn stream(job: &Job, way: &mut impl Way) -> Result<Outcome, Failure> {
    warm_up(job, way)?;
    let (counts, end) = (message(job.size, kind::COUNTED), message(job.size, kind::END));
    let course = Course::begin(job);
    let sent = send_for(job.run, way, &counts)?;
    way.send(&end)?;
    course.end(job, way.answer()?, &[sent])
}

/// Sends the warm-up, and waits for its arrival.
pub(crate) fn warm_up(job: &Job, way: &mut impl Way) -> Result<(), Failure> {
    send_for(job.warm_up, way, &message(job.size, kind::COUNTED))?;
    way.send(&message(job.size, kind::WARM_UP_END))?;
    way.answer().map(|_| ())
}

/// The part of a stream that counts.
pub(crate) struct Course {
    window: Window,
    allocations: Option<u64>,
    begun: Instant,
}

impl Course {
    pub(crate) fn begin(job: &Job) -> Course {
        let now = Instant::now();
        let no_warm_up = Job { warm_up: Duration::ZERO, ..job.clone() };
        let mut window = Window::new(&no_warm_up);
        // It can only fail where the server has gone, which the stream itself will find.
        let _ = window.look(now + Duration::from_nanos(1));
        Course { window, allocations: allocations::counted(), begun: Instant::now() }
    }

    /// The sink has counted so many, and so many were sent by each sender.
    pub(crate) fn end(self, job: &Job, counted: u64, sent_by: &[u64]) -> Result<Outcome, Failure> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let allocations = allocations_since(self.allocations);
        let sent: u64 = sent_by.iter().sum();
        if counted != sent {
            return Err(Failure::new(format_args!("{sent} messages were sent, and {counted} arrived")));
        }
        let (bytes, shares) = (counted * job.size as u64, sent_by.to_vec());
        Ok(Outcome { messages: counted, bytes, seconds, shares, allocations, ..self.window.close()? })
    }
}

/// Sends for so long, in bursts; tells how many.
pub(crate) fn send_for(time: Duration, way: &mut impl Way, message: &[u8]) -> Result<u64, Failure> {
    let (begun, burst) = (Instant::now(), burst(message.len()));
    let mut sent = 0;
    while begun.elapsed() < time {
        for _ in 0..burst {
            way.send(message)?;
        }
        sent += burst;
    }
    Ok(sent)
}

/// When each message of an open loop is due, whatever has come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    begun: Instant,
    interval: Duration,
    /// So many are sent before what counts.
    warm_up: u64,
    pub(crate) total: u64,
}

impl Pace {
    pub(crate) fn new(job: &Job) -> Pace {
        let interval = Duration::from_nanos(1_000_000_000 / job.rate.max(1));
        let messages = |time: Duration| (time.as_nanos() / interval.as_nanos().max(1)) as u64;
        let warm_up = messages(job.warm_up);
        // The first is due in a moment, when whoever sends it is there.
        let begun = Instant::now() + Duration::from_millis(5);
        Pace { begun, interval, warm_up, total: warm_up + messages(job.run).max(1) }
    }

    #[inline]
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.begun + Duration::from_nanos(self.interval.as_nanos() as u64 * number)
    }

    /// Waits in the kernel until a message is due. Whoever wakes late sends late, and its latency has that too.
    pub(crate) fn wait(&self, number: u64) {
        let left = self.due(number).saturating_duration_since(Instant::now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
    }
}

/// Where the answers of an open loop arrive: latency is from the moment when each send was due.
pub(crate) struct Arrivals {
    pub(crate) pace: Pace,
    message: Vec<u8>,
    next: u64,
    histogram: Histogram<u64>,
    allocations: Option<u64>,
}

impl Arrivals {
    pub(crate) fn new(job: &Job, pace: Pace) -> Result<Arrivals, Failure> {
        let message = message(job.size, kind::ECHO);
        let allocations = allocations::counted();
        Ok(Arrivals { pace, message, next: 0, histogram: histogram()?, allocations })
    }

    /// An answer has come. Tells whether there are more to come.
    #[inline]
    pub(crate) fn take(&mut self, answer: &[u8]) -> Result<bool, Failure> {
        let now = Instant::now();
        set_number(&mut self.message, self.next);
        if !same(answer, &self.message) {
            return Err(wrong("an answer"));
        }
        if self.next >= self.pace.warm_up {
            self.histogram.saturating_record(nanos(self.pace.due(self.next), now));
        } else {
            self.allocations = allocations::counted();
        }
        self.next += 1;
        Ok(self.next < self.pace.total)
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let messages = self.histogram.len();
        let counted_from = self.pace.due(self.pace.warm_up);
        Outcome {
            messages,
            seconds: counted_from.elapsed().as_secs_f64(),
            bytes: messages * self.message.len() as u64,
            latency: Some(latency(&self.histogram)),
            allocations: allocations_since(self.allocations),
            ..Outcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_counts_what_counts_and_forgets_the_warm_up() {
        let mut sink = Sink { size: 32, counted: 0, wrong: 0 };
        assert_eq!(sink.take(&message(32, kind::COUNTED)), None);
        assert_eq!(counted(&sink.take(&message(32, kind::WARM_UP_END)).unwrap()), Ok(1));
        assert_eq!(sink.take(&message(32, kind::COUNTED)), None);
        assert_eq!(counted(&sink.take(&message(32, kind::END)).unwrap()), Ok(1));
        sink.take(&message(33, kind::COUNTED));
        assert!(counted(&sink.take(&message(32, kind::END)).unwrap()).is_err());
    }

    #[test]
    fn an_answer_with_another_number_is_not_the_same() {
        let (mut one, mut two) = (message(64, kind::ECHO), message(64, kind::ECHO));
        set_number(&mut one, 7);
        assert!(!same(&one, &two));
        set_number(&mut two, 7);
        assert!(same(&one, &two));
    }
}
