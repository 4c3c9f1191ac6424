//! What a clock, a system call, a wake-up and an undisturbed core cost here.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Reads of the clock in a row, and system calls.
const READS: u32 = 20_000;
#[cfg(unix)]
const CALLS: u32 = 5_000;

/// How often each is repeated; the median counts.
const ROUNDS: usize = 5;

/// Pauses before a wake-up, and how many of each: the longer one lets a core sink into its deepest state.
const SHORT: (Duration, usize) = (Duration::from_millis(1), 150);
const LONG: (Duration, usize) = (Duration::from_millis(20), 20);

/// For how long a core is watched for interruptions, and what counts as one.
const WATCH: Duration = Duration::from_millis(250);
const INTERRUPTION: Duration = Duration::from_micros(10);

/// How long another thread takes to go on when it is woken.
pub(super) struct WakeUps {
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// After the long pause.
    pub(super) after_idling_us: f64,
    /// How fast the core is right after the long pause, against itself when it has worked for a while.
    pub(super) speed_after_idling: f64,
}

/// What interrupted a thread that did nothing but look at the clock.
pub(super) struct Interruptions {
    pub(super) count: usize,
    pub(super) longest_us: f64,
    /// The share of the time that was lost.
    pub(super) lost: f64,
    pub(super) watched: Duration,
}

/// Nanoseconds of a look at the clock, which an engine takes in every turn.
pub(super) fn clock() -> f64 {
    per_call(READS, Instant::now)
}

/// Nanoseconds of a system call that does nothing else.
#[cfg(unix)]
pub(super) fn system_call() -> Option<f64> {
    // Other questions are answered from memory by some C libraries; this one's answer can change at any time.
    Some(per_call(CALLS, std::os::unix::process::parent_id))
}

#[cfg(not(unix))]
pub(super) fn system_call() -> Option<f64> {
    None
}

fn per_call<T>(times: u32, call: impl Fn() -> T) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        (0..times).for_each(|_| drop(black_box(call())));
        begun.elapsed().as_nanos() as f64 / f64::from(times)
    });
    median(rounds.collect())
}

/// Wakes a thread that waits, after pauses.
pub(super) fn wake_ups() -> Result<WakeUps, String> {
    let (sender, due) = channel::<Instant>();
    let waiting = std::thread::Builder::new().name("zerio-doctor".to_owned()).spawn(move || {
        // From when somebody began to wake it until it goes on, and how long a piece of work takes then.
        due.iter().map(|begun| (begun.elapsed().as_nanos() as f64 / 1e3, work())).collect::<Vec<_>>()
    });
    let waiting = waiting.map_err(|why| format!("the system refused a thread: {why}"))?;
    for (pause, times) in [SHORT, LONG] {
        for _ in 0..times {
            // Who sends a message has worked until then, so the other one is woken on another core, if there is one:
            // after a sleep both would be found on the same, where that costs a part of it.
            let begun = Instant::now();
            while begun.elapsed() < pause {
                std::hint::spin_loop();
            }
            // It fails only where the thread has ended, of which `join` tells.
            let _ = sender.send(Instant::now());
        }
    }
    drop(sender);
    let woken = waiting.join().map_err(|_| "the thread that was woken has panicked".to_owned())?;
    let (short, long) = woken.split_at(woken.len().min(SHORT.1));
    let times = |woken: &[(f64, f64)]| woken.iter().map(|(time, _)| *time).collect::<Vec<_>>();
    let warm = median((0..50).map(|_| work()).skip(25).collect());
    Ok(WakeUps {
        p50_us: median(times(short)),
        p99_us: quantile(times(short), 0.99),
        after_idling_us: median(times(long)),
        speed_after_idling: warm / median(long.iter().map(|(_, work)| *work).collect()).max(1.0),
    })
}

/// A piece of work of some 20 µs that touches no memory: how many nanoseconds it takes.
fn work() -> f64 {
    let begun = Instant::now();
    let mut state = black_box(1_u64);
    for _ in 0..10_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    black_box(state);
    begun.elapsed().as_nanos() as f64
}

/// Looks at the clock without end, on this core or on any.
pub(super) fn interruptions(core: Option<usize>) -> Interruptions {
    std::thread::scope(|scope| {
        let watching = scope.spawn(move || {
            if let Some(id) = core {
                // Where it can't be had, the library says so at the start of a server.
                core_affinity::set_for_current(core_affinity::CoreId { id });
            }
            watch()
        });
        watching.join().unwrap_or(Interruptions {
            count: 0,
            longest_us: 0.0,
            lost: 0.0,
            watched: Duration::ZERO,
        })
    })
}

fn watch() -> Interruptions {
    let begun = Instant::now();
    let (mut last, mut count) = (begun, 0);
    let (mut longest, mut lost) = (Duration::ZERO, Duration::ZERO);
    while last - begun < WATCH {
        let now = Instant::now();
        let gap = now - last;
        if gap > INTERRUPTION {
            (count, lost, longest) = (count + 1, lost + gap, longest.max(gap));
        }
        last = now;
    }
    let watched = last - begun;
    let lost = lost.as_secs_f64() / watched.as_secs_f64();
    Interruptions { count, longest_us: longest.as_nanos() as f64 / 1e3, lost, watched }
}

pub(super) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which so much of them is; 0 of none.
pub(super) fn quantile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * quantile) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(quantile((0..100).rev().map(f64::from).collect(), 0.99), 99.0);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn everything_takes_some_time() {
        assert!(clock() > 0.0 && system_call().is_none_or(|time| time > 0.0) && work() > 0.0);
        let wake_ups = wake_ups().unwrap();
        assert!(wake_ups.p50_us > 0.0 && wake_ups.p50_us <= wake_ups.p99_us);
        assert!(wake_ups.after_idling_us > 0.0 && wake_ups.speed_after_idling > 0.0);
        let seen = interruptions(None);
        assert!(seen.watched >= WATCH && (0.0..=1.0).contains(&seen.lost));
    }
}
