//! `zerio doctor`: what on this machine costs latency or capacity, and what to do about it.
//!
//! `facts` reads what the system says as text, and `measure` and `loopback` what it does; from these alone
//! `limits`, `processor` and `network` make findings, and read nothing themselves. `report` prints them.
#![forbid(unsafe_code)]

mod facts;
mod finding;
mod limits;
mod loopback;
mod measure;
mod network;
mod processor;
mod report;

use std::time::{Duration, Instant};

use zerio::{Config, DriverInfo, Server, WaitStrategy};

use crate::args;
use crate::failure::Failure;
use crate::terminal;
use facts::Facts;
use finding::{Finding, Verdict};
use loopback::{Lanes, Trips};
use measure::{Interruptions, WakeUps};
use report::Report;

/// What was measured; where it could not be, why.
struct Measured {
    driver: Result<DriverInfo, String>,
    driver_of_few: Result<DriverInfo, String>,
    /// Whether an engine's thread gets the priority that is asked for.
    priority: Result<(), String>,
    clock_ns: f64,
    /// `None` where std has no system call that is one and nothing else.
    system_call_ns: Option<f64>,
    wake_ups: Result<WakeUps, String>,
    interruptions: Interruptions,
    trips: Result<Trips, String>,
    lanes: Result<Lanes, String>,
    /// The share of the time that the host took from this machine meanwhile.
    steal: Option<f64>,
}

/// About how long it takes: whether there is a bar goes by it.
const TIME: Duration = Duration::from_secs(3);

pub(crate) fn run(args: &args::Doctor) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut config = args.settings.config(false);
    args.server.apply(&mut config);
    config.engines = args.engines;
    config.memory()?;
    let facts = Facts::read("/".as_ref());
    let measured = measure(&config);
    let report = Report::new(&facts, findings(&facts, &config, &measured), begun.elapsed());
    report.print(args.json)?;
    match report.count(Verdict::Wrong) {
        0 => Ok(()),
        1 => Err(Failure::new("one line is wrong; what to do stands beside it")),
        wrong => Err(Failure::new(format!("{wrong} lines are wrong; what to do stands beside them"))),
    }
}

/// Measures one thing after the other, so that none disturbs another.
fn measure(config: &Config) -> Measured {
    let bar = terminal::bar(6, TIME);
    let step = |done, what: &str| {
        bar.set_message(what.to_owned());
        bar.set_position(done);
    };
    let before = facts::ticks();
    step(0, "driver");
    let sessions = config.sessions_max.div_ceil(config.engines).min(MANY);
    let (driver, driver_of_few, priority) = (driver(config, sessions), driver(config, 1), priority(config));
    step(1, "clock and system calls");
    let (clock_ns, system_call_ns) = (measure::clock(), measure::system_call());
    step(2, "wake-ups");
    let wake_ups = measure::wake_ups();
    step(3, "interruptions");
    let interruptions = measure::interruptions(config.cores.first().copied());
    step(4, "round trips");
    let trips = loopback::trips().map_err(|why| why.to_string());
    step(5, "throughput");
    let lanes = loopback::lanes(config.congestion.as_deref()).map_err(|why| why.to_string());
    let steal = before.zip(facts::ticks()).and_then(|(before, after)| after.steal_since(&before));
    bar.finish_and_clear();
    Measured {
        driver,
        driver_of_few,
        priority,
        clock_ns,
        system_call_ns,
        wake_ups,
        interruptions,
        trips,
        lanes,
        steal,
    }
}

/// So many sessions are as good as any more for what `auto` takes.
const MANY: usize = 5;

/// Which driver a server of one engine and so many sessions gets here.
fn driver(config: &Config, sessions: usize) -> Result<DriverInfo, String> {
    let mut config = config.clone();
    (config.sessions_max, config.engines, config.cores) = (sessions, 1, Vec::new());
    if cfg!(target_os = "linux") {
        // It has a line of its own.
        config.congestion = None;
    }
    let server = Server::bind("127.0.0.1:0").and_then(|server| server.config(config).start_polled());
    server.map(|server| server.driver().clone()).map_err(|error| Failure::from(error).text().to_owned())
}

/// Whether the priority can be had that is asked for, by an engine that has it for a moment.
fn priority(config: &Config) -> Result<(), String> {
    let mut wanted = Config::default();
    (wanted.sessions_max, wanted.wait, wanted.priority) = (1, WaitStrategy::Park, config.priority);
    if wanted.priority.is_none() {
        return Ok(());
    }
    let server =
        Server::bind("127.0.0.1:0").and_then(|server| server.config(wanted).on_message(|_, _| {}).start());
    server.map(drop).map_err(|error| Failure::from(error).text().to_owned())
}

/// All findings, in the order in which they are printed: what a server needs to work, what it can reach, what
/// takes its time away.
fn findings(facts: &Facts, config: &Config, measured: &Measured) -> Vec<Finding> {
    let linux = |check, instead: &'static str, look: &dyn Fn() -> Finding| {
        if facts.linux { look() } else { Finding::elsewhere(check, instead) }
    };
    vec![
        network::driver(facts, &measured.driver, &measured.driver_of_few),
        linux("descriptors", "see `ulimit -n`", &|| limits::descriptors(facts, config)),
        linux("locked memory", "see `ulimit -l`", &|| limits::locked_memory(facts, config)),
        linux("memory", "see `zerio serve --explain`", &|| limits::memory(facts, config)),
        linux("backlog", "the system's limit of connections that wait", &|| limits::backlog(facts, config)),
        linux("socket buffers", "the system's limits", &|| limits::socket_buffers(facts, config)),
        processor::cores(facts, config),
        processor::clock(facts, measured.clock_ns),
        processor::system_call(measured.system_call_ns),
        processor::wake_up(config, &measured.wake_ups),
        network::round_trip(&measured.trips),
        network::congestion(facts, config, &measured.lanes),
        linux("frequency", "see the system's power plan", &|| {
            processor::frequency(facts, &measured.wake_ups)
        }),
        linux("idle states", "see the system's power plan", &|| {
            processor::idle_states(facts, &measured.wake_ups)
        }),
        processor::interruptions(facts, config, &measured.interruptions),
        processor::priority(config, &measured.priority),
        linux("huge pages", "what Linux does with memory that is mapped", &|| {
            processor::huge_pages(facts, config)
        }),
        linux("busy polling", "Linux's net.core.busy_read", &|| network::busy_polling(facts, config)),
        linux("virtual machine", "what the hypervisor takes", &|| {
            processor::virtual_machine(facts, measured.steal)
        }),
    ]
}
