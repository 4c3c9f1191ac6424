//! `zerio sim`: storms on a simulated network, seed after seed, until one finds a fault of the library.
#![forbid(unsafe_code)]

use std::io::{Write, stdout};
use std::ops::RangeInclusive;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::ProgressBar;
use zerio::sim::{Again, Failure as Fault, Figures, storm, storm_under_tls};
use zerio::tls::{TlsClient, TlsServer};

use crate::args;
use crate::certs;
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

/// A storm of a seed, with so many steps of chaos.
type Storm = dyn Fn(u64, u64) -> Result<Figures, Fault> + Send + Sync;

/// What all storms together did.
#[derive(Default)]
struct Sum {
    seeds: AtomicU64,
    steps: AtomicU64,
    sessions: AtomicU64,
    messages: AtomicU64,
    /// Of those that failed, the one with the lowest seed.
    fault: Mutex<Option<Fault>>,
    /// One that has not come to an end.
    endless: Mutex<Option<Again>>,
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
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).min(seeds.min(1024) as usize);
    let work = Arc::new(Work {
        storm: if args.tls { under_tls()? } else { Box::new(storm) },
        tls: args.tls,
        first,
        seeds,
        steps: args.steps,
        begun: Instant::now(),
        until,
        endless: ENDLESS,
        next: AtomicU64::new(0),
        watches: (0..jobs).map(|_| Watch::default()).collect(),
        sum: Sum::default(),
        bar,
    });
    work.happen();
    work.bar.finish_and_clear();
    work.report()
}

/// Storms under TLS, with a certificate that server and clients share. At every other seed the server requires it.
fn under_tls() -> Result<Box<Storm>, Failure> {
    const NAME: &str = "simulated";
    let (certificate, key) = certs::of_one_length(NAME)?;
    let make = move |required: bool| -> Result<_, zerio::Error> {
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let server = TlsServer::from_pem(certificate, key)?;
        let client = TlsClient::with_roots(certificate)?.server_name(NAME)?;
        if !required {
            return Ok((server, client));
        }
        let server = server.require_client_certificates(certificate)?.identify(|_, _| true);
        Ok((server, client.certificate(certificate, key)?))
    };
    make(true)?;
    Ok(Box::new(move |seed, steps| {
        // Of its own: a ticket of another storm would make this one another.
        let (server, client) = make(seed % 2 == 1).expect("what was made before can be made again");
        storm_under_tls(seed, steps, server, client)
    }))
}

/// What there is to do, and what has come of it.
struct Work {
    storm: Box<Storm>,
    tls: bool,
    first: u64,
    seeds: u64,
    steps: u64,
    begun: Instant,
    until: Option<Duration>,
    /// A storm that takes longer does not come to an end.
    endless: Duration,
    next: AtomicU64,
    /// Of each thread.
    watches: Vec<Watch>,
    sum: Sum,
    bar: ProgressBar,
}

impl Work {
    /// Until everything is done, or one storm does not come to an end: its thread can't be waited for, and ends
    /// with the program.
    fn happen(self: &Arc<Self>) {
        let begin = |at| {
            let work = self.clone();
            std::thread::spawn(move || work.go_on(&work.watches[at]))
        };
        let workers: Vec<_> = (0..self.watches.len()).map(begin).collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(LOOK);
            for watch in &self.watches {
                self.judge(watch.what());
            }
            if self.sum.endless().is_some() {
                return;
            }
        }
        for worker in workers {
            worker.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    }

    fn go_on(&self, watch: &Watch) {
        while !self.sum.over.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let is_late = self.until.is_some_and(|until| self.begun.elapsed() >= until);
            if n >= self.seeds || is_late || interrupt::seen() {
                return;
            }
            let seed = self.first.wrapping_add(n);
            watch.begin(Again { seed, steps: self.steps, tls: self.tls });
            let outcome = (self.storm)(seed, self.steps);
            // It has come to its end now, and too late.
            self.judge(watch.end());
            self.sum.add(outcome);
            show(&self.bar, &self.sum, (self.seeds == u64::MAX).then(|| self.begun.elapsed()));
        }
    }

    fn judge(&self, storm: Option<(Again, Duration)>) {
        if let Some((storm, _)) = storm.filter(|(_, took)| *took > self.endless) {
            self.sum.add_endless(storm);
        }
    }

    fn report(&self) -> Result<(), Failure> {
        let line = self.sum.line(self.first, self.begun.elapsed());
        if let Some(fault) = lock(&self.sum.fault).as_ref() {
            return Err(Failure::new(format!("{line}\n{fault}")));
        }
        if let Some(storm) = self.sum.endless() {
            let (seed, bound) = (storm.seed, self.endless.as_secs_f64());
            let what = format!("a storm that takes more than {bound} s does not come to an end");
            return Err(Failure::new(format!("{line}\nseed {seed:#x}: {what}\nagain with: {storm}")));
        }
        writeln!(stdout(), "{line}, nothing wrong").map_err(Failure::output)
    }
}

/// The storm that a thread is at, and since when.
#[derive(Default)]
struct Watch(Mutex<Option<(Again, Instant)>>);

impl Watch {
    fn begin(&self, storm: Again) {
        *lock(&self.0) = Some((storm, Instant::now()));
    }

    /// The storm, and how long it has taken so far.
    fn what(&self) -> Option<(Again, Duration)> {
        lock(&self.0).map(|(storm, since)| (storm, since.elapsed()))
    }

    fn end(&self) -> Option<(Again, Duration)> {
        lock(&self.0).take().map(|(storm, since)| (storm, since.elapsed()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn add(&self, outcome: Result<Figures, Fault>) {
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
                let mut first = lock(&self.fault);
                if first.as_ref().is_none_or(|first| fault.seed < first.seed) {
                    *first = Some(fault);
                }
            }
        }
    }

    fn add_endless(&self, storm: Again) {
        self.over.store(true, Ordering::Relaxed);
        lock(&self.endless).get_or_insert(storm);
    }

    fn endless(&self) -> Option<Again> {
        *lock(&self.endless)
    }

    fn line(&self, first: u64, took: Duration) -> String {
        let [seeds, steps, sessions, messages] =
            [&self.seeds, &self.steps, &self.sessions, &self.messages].map(|sum| sum.load(Ordering::Relaxed));
        let tried = range(first, seeds);
        format!(
            "{} ({:#x} to {:#x}), {} in {:.1} s: {}, {} checked",
            terminal::counted(seeds, "seed"),
            tried.start(),
            tried.end(),
            terminal::counted(steps, "step"),
            took.as_secs_f64(),
            terminal::counted(sessions, "session"),
            terminal::counted(messages, "message"),
        )
    }
}

fn range(first: u64, seeds: u64) -> RangeInclusive<u64> {
    first..=first.wrapping_add(seeds.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(storm: fn(u64, u64) -> Result<Figures, Fault>, endless: Duration) -> Arc<Work> {
        Arc::new(Work {
            storm: Box::new(storm),
            tls: false,
            first: 0x1f,
            seeds: 1,
            steps: 500,
            begun: Instant::now(),
            until: None,
            endless,
            next: AtomicU64::new(0),
            watches: vec![Watch::default()],
            sum: Sum::default(),
            bar: ProgressBar::hidden(),
        })
    }

    fn is_told(work: &Work) {
        let told = work.report().unwrap_err();
        assert!(told.text().contains("\nseed 0x1f: a storm that takes more than"), "{}", told.text());
        assert!(told.text().ends_with("sim --seed 0x1f --steps 500"), "{}", told.text());
    }

    #[test]
    fn a_storm_that_never_ended_was_waited_for_and_no_fault() {
        let never = |_, _| loop {
            std::thread::park();
        };
        let work = work(never, Duration::from_millis(50));
        work.happen();
        is_told(&work);
    }

    #[test]
    fn a_storm_that_took_too_long_and_ended_was_no_fault() {
        let work = work(|_, _| Ok(Figures::default()), Duration::ZERO);
        work.go_on(&work.watches[0]);
        is_told(&work);
    }

    #[test]
    fn a_storm_that_ends_in_time_is_none() {
        let work = work(|_, _| Ok(Figures::default()), ENDLESS);
        work.happen();
        assert!(work.report().is_ok());
        assert_eq!(work.sum.seeds.load(Ordering::Relaxed), 1);
    }
}
