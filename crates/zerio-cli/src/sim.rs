//! `zerio sim`: storms on a simulated network, seed after seed, until one finds a fault of the library.
#![forbid(unsafe_code)]

use std::io::{Write, stdout};
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use zerio::sim::{Again, Failure as Fault, storm};

use crate::args;
use crate::failure::Failure;
use crate::interrupt;
use crate::terminal;

/// How many seeds are tried where nobody says how many, nor for how long.
const SEEDS: u64 = 100;

/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(20);

/// How long that takes, at the most: whether to show progress goes by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A storm that takes so long does not come to an end: most take some hundredths of a second.
const ENDLESS: Duration = Duration::from_secs(120);

/// What all storms together did.
#[derive(Default)]
struct Sum {
    seeds: AtomicU64,
    steps: AtomicU64,
    sessions: AtomicU64,
    messages: AtomicU64,
    /// Of those that failed, the one with the lowest seed.
    fault: Mutex<Option<Fault>>,
    over: AtomicBool,
}

pub(crate) fn run(args: &args::Sim) -> Result<(), Failure> {
    interrupt::catch(|| {})?;
    let first = args.seed.unwrap_or_else(seed_of_the_clock);
    let seeds = match (args.seeds, args.minutes, args.seed) {
        (Some(seeds), ..) => seeds,
        (None, Some(_), _) => u64::MAX,
        (None, None, Some(_)) => 1,
        (None, None, None) => SEEDS,
    };
    let until = args.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let bar = match until {
        Some(time) if seeds == u64::MAX => terminal::bar(time.as_secs(), time),
        _ => terminal::bar(seeds, PATIENCE),
    };
    let (begun, sum) = (Instant::now(), Sum::default());
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.min(1024) as usize);
    let next = AtomicU64::new(0);
    let watches: Vec<Watch> = (0..jobs).map(|_| Watch::default()).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = watches
            .iter()
            .map(|watch| {
                let (next, sum, bar) = (&next, &sum, &bar);
                scope.spawn(move || {
                    while !sum.over.load(Ordering::Relaxed) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= seeds
                            || until.is_some_and(|until| begun.elapsed() >= until)
                            || interrupt::seen()
                        {
                            return;
                        }
                        watch.begin(Again { seed: first.wrapping_add(n), steps: args.steps });
                        sum.add(storm(first.wrapping_add(n), args.steps));
                        show(bar, sum, (seeds == u64::MAX).then(|| begun.elapsed()));
                    }
                })
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(LOOK);
            watches.iter().for_each(Watch::look);
        }
    });
    bar.finish_and_clear();
    sum.report(first, begun.elapsed())
}

/// The storm that a thread is at, and since when; `None` once it was told of.
#[derive(Default)]
struct Watch(Mutex<Option<(Again, Instant)>>);

impl Watch {
    fn begin(&self, storm: Again) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((storm, Instant::now()));
    }

    /// Tells of a storm that goes on for ever, which could not tell itself.
    fn look(&self) {
        let mut watched = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((storm, _)) = watched.take_if(|(_, since)| since.elapsed() > ENDLESS) {
            let Again { seed, .. } = storm;
            terminal::note(format_args!(
                "seed {seed:#x} has not come to an end for {} s, a fault too; again with: {storm}",
                ENDLESS.as_secs()
            ));
        }
    }
}

fn seed_of_the_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Draws the bar, where a human looks on.
fn show(bar: &ProgressBar, sum: &Sum, elapsed: Option<Duration>) {
    let seeds = sum.seeds.load(Ordering::Relaxed);
    bar.set_position(elapsed.map_or(seeds, |elapsed| elapsed.as_secs()));
    bar.set_message(format!("{seeds} seeds, {} steps", sum.steps.load(Ordering::Relaxed)));
}

impl Sum {
    fn add(&self, outcome: Result<zerio::sim::Figures, Fault>) {
        let add = |sum: &AtomicU64, n: u64| {
            sum.fetch_add(n, Ordering::Relaxed);
        };
        add(&self.seeds, 1);
        match outcome {
            Ok(figures) => {
                add(&self.steps, figures.steps);
                add(&self.sessions, figures.sessions);
                add(&self.messages, figures.messages);
            }
            Err(fault) => {
                add(&self.steps, fault.step);
                self.over.store(true, Ordering::Relaxed);
                let mut first = self.fault.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if first.as_ref().is_none_or(|first| fault.seed < first.seed) {
                    *first = Some(fault);
                }
            }
        }
    }

    fn report(self, first: u64, took: Duration) -> Result<(), Failure> {
        let (seeds, steps) = (self.seeds.into_inner(), self.steps.into_inner());
        let tried = range(first, seeds);
        let line = format!(
            "{seeds} seeds ({:#x} to {:#x}), {steps} steps in {:.1} s: {} sessions, {} messages checked",
            tried.start(),
            tried.end(),
            took.as_secs_f64(),
            self.sessions.into_inner(),
            self.messages.into_inner(),
        );
        match self.fault.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(fault) => Err(Failure::new(format!("{line}\n{fault}"))),
            None => writeln!(stdout(), "{line}, nothing wrong").map_err(Failure::output),
        }
    }
}

fn range(first: u64, seeds: u64) -> RangeInclusive<u64> {
    first..=first.wrapping_add(seeds.saturating_sub(1))
}
