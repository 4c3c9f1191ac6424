//! What every run shares, zerio's and the control's alike: two threads, the recorder of latencies, and
//! the pieces that carry a result from one thread to another without allocating.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use zerio::{Config, Handler};

use super::tls;
use crate::allocations;
use crate::failure::Failure;

/// How long beyond its time a run may take before it counts as stuck.
pub(super) const GRACE: Duration = Duration::from_secs(20);

/// The longest latency that a histogram holds, in nanoseconds; what is longer counts as this.
const LONGEST: u64 = 60_000_000_000;

/// Records round trips, one after the other: each is stamped once, at the moment when its send was due,
/// which is when the last one's answer came. Nothing here allocates once it was made.
pub(super) struct Recorder {
    histogram: Histogram<u64>,
    warm_up: Duration,
    run: Duration,
    due: Instant,
    warm: Option<Instant>,
    end: Option<Instant>,
    allocations: u64,
}

/// What a run's round trips took.
pub(super) struct Latencies {
    pub(super) histogram: Histogram<u64>,
    /// By any thread, between the end of the warm-up and the last answer.
    pub(super) allocations: u64,
}

impl Recorder {
    /// A recorder for so long a run after so long a warm-up.
    pub(super) fn new(warm_up: Duration, run: Duration) -> Result<Recorder, Failure> {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3).map_err(Failure::new)?;
        let due = Instant::now();
        Ok(Recorder { histogram, warm_up, run, due, warm: None, end: None, allocations: 0 })
    }

    /// The first send is due now.
    pub(super) fn start(&mut self) {
        self.due = Instant::now();
        self.warm = Some(self.due + self.warm_up);
    }

    /// An answer has come. Tells whether to send again.
    #[inline]
    pub(super) fn answered(&mut self) -> bool {
        let now = Instant::now();
        match (self.end, self.warm) {
            (Some(end), _) => {
                self.histogram.saturating_record((now - self.due).as_nanos() as u64);
                self.due = now;
                now < end || self.finish()
            }
            (None, warm) => {
                if warm.is_some_and(|warm| now >= warm) {
                    self.end = Some(now + self.run);
                    self.allocations = allocations::counted();
                }
                self.due = now;
                true
            }
        }
    }

    #[cold]
    fn finish(&mut self) -> bool {
        self.allocations = allocations::counted() - self.allocations;
        false
    }

    pub(super) fn into_latencies(self) -> Latencies {
        Latencies { histogram: self.histogram, allocations: self.allocations }
    }
}

/// A message of so many bytes, which no byte of another kind of message looks like.
pub(super) fn payload(size: usize, first: u8) -> Vec<u8> {
    (0..size).map(|at| if at == 0 { first } else { at as u8 }).collect()
}

/// Hands one value to another thread, which waits for it. Neither side allocates.
pub(super) struct Handover<T> {
    value: Mutex<Option<T>>,
    given: Condvar,
}

impl<T> Default for Handover<T> {
    fn default() -> Self {
        Handover { value: Mutex::new(None), given: Condvar::new() }
    }
}

impl<T> Handover<T> {
    pub(super) fn give(&self, value: T) {
        *self.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        self.given.notify_all();
    }

    /// The value, if there is one now.
    pub(super) fn try_take(&self) -> Option<T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The value, or `None` when so much time has passed without one.
    pub(super) fn take(&self, within: Duration) -> Option<T> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given.wait_timeout_while(value, within, |value| value.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

/// Runs a server and a client, each on a thread of its own and pinned where a core is given. The server
/// tells its address through the sender, and ends when it finds the flag set: that is done when the
/// client has ended, in whatever way.
pub(super) fn two_threads<T: Send>(
    cores: (Option<usize>, Option<usize>),
    server: impl FnOnce(SyncSender<SocketAddr>, &AtomicBool) -> Result<(), Failure> + Send,
    client: impl FnOnce(SocketAddr) -> Result<T, Failure> + Send,
) -> Result<T, Failure> {
    let over = AtomicBool::new(false);
    let (address, its_address): (SyncSender<SocketAddr>, Receiver<SocketAddr>) = sync_channel(1);
    std::thread::scope(|scope| {
        let over = &over;
        let server = scope.spawn(move || {
            pin(cores.0)?;
            server(address, over)
        });
        let client = scope.spawn(move || {
            let _end = SetOnDrop(over);
            pin(cores.1)?;
            match its_address.recv() {
                Ok(address) => client(address),
                Err(_) => Err(Failure::new("the server did not start")),
            }
        });
        let client = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // If the server failed, that is why the client did.
        server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        client
    })
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A polled server, driven by a loop that spins, until `over`.
pub(super) fn serve_polled<H: Handler>(
    config: Config,
    handler: H,
    address: &SyncSender<SocketAddr>,
    over: &AtomicBool,
) -> Result<(), Failure> {
    let mut server = tls::server(config)?.handler(handler).start_polled()?;
    // It fails only where the client has ended already.
    let _ = address.send(server.local_addr());
    while !over.load(Ordering::Relaxed) {
        server.poll()?;
    }
    Ok(())
}

/// Pins this thread.
fn pin(core: Option<usize>) -> Result<(), Failure> {
    let Some(id) = core else { return Ok(()) };
    if core_affinity::set_for_current(core_affinity::CoreId { id }) {
        return Ok(());
    }
    Err(Failure::new(format!("this process may not run on core {id}; leave --pin out")))
}

/// Says that a run has not come to its end.
pub(super) fn stuck() -> Failure {
    Failure::new("a run did not end in time; is the machine very busy? Try --smoke, or --only")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_is_not_recorded_and_the_run_is() {
        let mut recorder = Recorder::new(Duration::from_millis(1), Duration::from_millis(5)).unwrap();
        recorder.start();
        let mut answers = 0;
        while recorder.answered() {
            answers += 1;
            std::hint::black_box(&recorder);
        }
        let latencies = recorder.into_latencies();
        assert!(!latencies.histogram.is_empty());
        assert!(latencies.histogram.len() < answers);
    }

    #[test]
    fn what_is_handed_over_arrives_once() {
        let handover = Handover::default();
        handover.give(1);
        assert_eq!(handover.take(Duration::ZERO), Some(1));
        assert_eq!(handover.try_take(), None);
        assert_eq!(handover.take(Duration::ZERO), None);
    }

    #[test]
    fn a_server_that_fails_is_the_reason() {
        let failed: Result<(), Failure> =
            two_threads((None, None), |_, _| Err(Failure::new("no luck")), |_| Ok(()));
        match failed {
            Err(Failure::Failed(why)) => assert_eq!(why, "no luck"),
            other => panic!("{other:?}"),
        }
    }
}
