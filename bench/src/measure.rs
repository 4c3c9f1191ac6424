//! Clocks, counts and percentiles, the same for every peer.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::allocations;
use crate::failure::Failure;
use crate::job::{Job, Latency, Outcome};
use crate::system;

/// How long beyond its time anything may take before it counts as stuck.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// The longest latency that a histogram holds, in nanoseconds; what is longer counts as this.
const LONGEST: u64 = 60_000_000_000;

pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(Failure::new)
}

pub(crate) fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile);
    Latency {
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: histogram.max(),
    }
}

/// Nanoseconds from one moment to a later one.
#[inline]
pub(crate) fn nanos(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_nanos() as u64
}

/// The time that is measured: after a warm-up, for so long, and until at least one message was counted: on a busy
/// machine a core can be away for longer than a short run takes, and a run of nothing would have no figures. Whoever
/// counts asks it for each message.
pub(crate) struct Window {
    begins: Instant,
    run: Duration,
    ends: Instant,
    counted: bool,
    server: Option<i32>,
    open: bool,
    opened: Instant,
    cpu: Duration,
    allocations: Option<u64>,
}

/// What a message counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// It came during the warm-up.
    Not,
    Yes,
    /// The time is over.
    Over,
}

impl Window {
    /// The warm-up begins now.
    pub(crate) fn new(job: &Job) -> Window {
        let now = Instant::now();
        Window {
            begins: now + job.warm_up,
            run: job.run,
            ends: now + job.warm_up + job.run,
            counted: false,
            server: job.server.as_ref().map(|server| server.process),
            open: false,
            opened: now,
            cpu: Duration::ZERO,
            allocations: None,
        }
    }

    #[inline]
    pub(crate) fn look(&mut self, now: Instant) -> Result<Counts, Failure> {
        if self.open {
            let over = now >= self.ends && self.counted;
            self.counted = true;
            return Ok(if over { Counts::Over } else { Counts::Yes });
        }
        if now < self.begins {
            return Ok(Counts::Not);
        }
        self.open(now)?;
        Ok(Counts::Not)
    }

    #[cold]
    fn open(&mut self, now: Instant) -> Result<(), Failure> {
        self.open = true;
        // It may be later than it should be, and is not shorter for that.
        (self.opened, self.ends) = (now, now + self.run);
        self.allocations = allocations::counted();
        if let Some(process) = self.server {
            self.cpu = system::cpu_of(process)?;
        }
        Ok(())
    }

    /// Its time, the server's processor time in it, and what this process allocated in it.
    pub(crate) fn close(&self) -> Result<Outcome, Failure> {
        let seconds = self.opened.elapsed().as_secs_f64();
        let allocations = allocations_since(self.allocations);
        let cpu = self.server.map(system::cpu_of).transpose()?;
        let server_cpu = cpu.map(|cpu| cpu.saturating_sub(self.cpu));
        Ok(Outcome { seconds, server_cpu, allocations, ..Outcome::default() })
    }
}

/// How many allocations there were since an earlier count.
pub(crate) fn allocations_since(before: Option<u64>) -> Option<u64> {
    Some(allocations::counted()? - before?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_as_long_however_late_it_opens_and_counts_at_least_one() {
        let run = Duration::from_secs(1);
        let begins = Instant::now();
        let mut window = Window {
            begins,
            run,
            ends: begins + run,
            counted: false,
            server: None,
            open: false,
            opened: begins,
            cpu: Duration::ZERO,
            allocations: None,
        };
        assert_eq!(window.look(begins + 5 * run), Ok(Counts::Not));
        assert_eq!(window.look(begins + 7 * run), Ok(Counts::Yes));
        assert_eq!(window.look(begins + 7 * run), Ok(Counts::Over));
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut histogram = histogram().unwrap();
        (1..=1000).for_each(|value| histogram.saturating_record(value));
        let latency = latency(&histogram);
        assert_eq!((latency.p50, latency.p99, latency.max), (500, 990, 1000));
    }
}
