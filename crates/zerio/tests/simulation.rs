//! Storms of the simulated network: 200 seeds of at least 10,000 steps each, the first given by the commit.
//! The allocator of this test binary tells the storms of every allocation.
#![deny(unsafe_op_in_unsafe_fn)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::certs::{Identity, of_one_length};
use zerio::sim::{Again, Failure, Figures, storm, storm_under_tls};
use zerio::tls::TlsClient;

/// The system's allocator, which tells of what it is asked for.
struct Telling;

#[global_allocator]
static ALLOCATOR: Telling = Telling;

// SAFETY: every call is passed on to the system's allocator as it is; to tell of it does not touch the memory.
unsafe impl GlobalAlloc for Telling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        zerio::sim::allocated();
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        zerio::sim::allocated();
        // SAFETY: as above; every block here comes from the system's allocator.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// A storm that takes so long does not come to an end: most take some hundredths of a second.
const ENDLESS: Duration = Duration::from_secs(120);

const SEEDS: u64 = 200;
const SEEDS_UNDER_TLS: u64 = 100;
const STEPS: u64 = 10_000;

/// The first seed: what `ZERIO_SEED` says, else the commit's first 64 bits, else a number made of the package's
/// version. So each commit is tried on seeds of its own, and always on the same ones.
fn first_seed() -> u64 {
    let parse = |text: &str| u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok();
    if let Some(seed) = std::env::var("ZERIO_SEED").ok().and_then(|seed| parse(&seed)) {
        return seed;
    }
    let head = Command::new("git").args(["rev-parse", "HEAD"]).output().ok();
    let head = head.filter(|output| output.status.success());
    let commit = head.and_then(|output| parse(String::from_utf8_lossy(&output.stdout).get(..16)?));
    commit.unwrap_or_else(|| {
        env!("CARGO_PKG_VERSION").bytes().fold(0, |seed, byte| seed << 8 | u64::from(byte))
    })
}

/// Ends the process where a storm goes on for ever, which could not tell itself; with the command that repeats it.
struct Watch(Arc<Mutex<Option<(Again, Instant)>>>);

impl Watch {
    fn start() -> Watch {
        let watched = Arc::new(Mutex::new(None::<(Again, Instant)>));
        let weak = Arc::downgrade(&watched);
        std::thread::spawn(move || {
            while let Some(watched) = weak.upgrade() {
                if let Some((storm, since)) = *watched.lock().unwrap()
                    && since.elapsed() > ENDLESS
                {
                    eprintln!("a storm has not come to an end for {ENDLESS:?}; again with: {storm}");
                    std::process::abort();
                }
                drop(watched);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Watch(watched)
    }

    fn begin(&self, storm: Again) {
        *self.0.lock().unwrap() = Some((storm, Instant::now()));
    }
}

/// A storm under TLS. Every other server requires the certificate that they all have.
fn sealed_storm(identity: &Identity, seed: u64, steps: u64) -> Result<Figures, Failure> {
    let Identity { certificate, key, .. } = identity;
    let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
    let client = TlsClient::with_roots(certificate).unwrap().server_name("simulated").unwrap();
    let (server, client) = match seed.is_multiple_of(2) {
        true => (identity.server(), client),
        false => (
            identity.server().require_client_certificates(certificate).unwrap().identify(|_, _| true),
            client.certificate(certificate, key).unwrap(),
        ),
    };
    storm_under_tls(seed, steps, server, client)
}

/// What storms in the clear do not come to, and what so seldom that two hundred may do without.
const NOT_REACHED: [&str; 4] =
    ["ended Tls", "no session Tls", "refused TlsRequired", "no session DriverFailed"];

#[test]
fn two_hundred_storms_lose_nothing_and_break_nothing() {
    let reach = all_pass(SEEDS, false, (15, 300), storm);
    // Otherwise the storms do not do what they are for.
    let missed: Vec<_> = reach.iter().filter(|(_, times)| **times == 0).map(|(kind, _)| *kind).collect();
    let missed: Vec<_> = missed.into_iter().filter(|kind| !NOT_REACHED.contains(kind)).collect();
    assert!(missed.is_empty(), "no storm came to {missed:?}");
}

#[test]
fn a_hundred_storms_under_tls_lose_nothing_and_break_nothing() {
    let identity = of_one_length(&["simulated"]);
    let reach = all_pass(SEEDS_UNDER_TLS, true, (8, 300), |seed, steps| sealed_storm(&identity, seed, steps));
    for kind in &NOT_REACHED[..3] {
        assert!(reach[kind] > 0, "no storm under TLS came to {kind}");
    }
}

/// Lets so many storms happen. There are so many sessions and messages in each on the average, at the least; gives how
/// often each kind of thing happened.
fn all_pass(
    seeds: u64,
    tls: bool,
    least: (u64, u64),
    storm: impl Fn(u64, u64) -> Result<Figures, Failure> + Sync,
) -> BTreeMap<&'static str, u64> {
    let reach = Mutex::new(BTreeMap::new());
    let (first, next) = (first_seed(), AtomicU64::new(0));
    let (sessions, messages) = (AtomicU64::new(0), AtomicU64::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let watch = Watch::start();
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= seeds {
                        return;
                    }
                    watch.begin(Again { seed: first.wrapping_add(n), steps: STEPS, tls });
                    match storm(first.wrapping_add(n), STEPS) {
                        Ok(figures) => {
                            assert!(figures.steps >= STEPS);
                            sessions.fetch_add(figures.sessions, Ordering::Relaxed);
                            messages.fetch_add(figures.messages, Ordering::Relaxed);
                            let mut reach = reach.lock().unwrap();
                            figures.reach.kinds().for_each(|(kind, n)| *reach.entry(kind).or_default() += n);
                        }
                        Err(failure) => panic!("{failure}"),
                    }
                }
            });
        }
    });
    let (sessions, messages) = (sessions.into_inner(), messages.into_inner());
    println!("seeds from {first:#x}: {sessions} sessions, {messages} messages in {:.1?}", begun.elapsed());
    let reach = reach.into_inner().unwrap();
    println!("{reach:#?}");
    assert!(
        sessions >= least.0 * seeds && messages >= least.1 * seeds,
        "{sessions} sessions, {messages} messages"
    );
    reach
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let (a, b) = (storm(seed, 3000), storm(seed, 3000));
        assert_eq!(a.unwrap(), b.unwrap());
    }
    assert_ne!(storm(1, 3000).unwrap().trace, storm(2, 3000).unwrap().trace);
}

#[test]
fn the_same_seed_gives_the_same_run_under_tls() {
    // Whoever sees a storm again has made other certificates.
    let (one, other) = (of_one_length(&["simulated"]), of_one_length(&["simulated"]));
    for seed in 0..6 {
        let (a, b) = (sealed_storm(&one, seed, 3000), sealed_storm(&other, seed, 3000));
        assert_eq!(a.unwrap(), b.unwrap());
    }
}

/// What a storm comes to in which sessions become streams, which takes the barrier that worlds pretend. Who changes what
/// engines do, or what storms draw, writes down the new number, and sees that it is another one without that barrier.
const TRACE: u64 = 7_903_726_024_608_760_808;

#[test]
fn a_seed_gives_the_same_run_on_every_machine() {
    let figures = storm(6, 10_000).unwrap();
    assert!(figures.sessions > 10 && figures.messages > 500, "{figures:?}");
    assert_eq!(figures.trace, TRACE, "{figures:#x?}");
}
