//! zerio, as its own documentation has it: handlers, polled or on a thread, and `send`.
#![forbid(unsafe_code)]

mod client;
mod handlers;
mod server;

use zerio::{Config, DriverKind, WaitStrategy};

use crate::failure::Failure;
use crate::job::{Drive, Driver, Job, Outcome, Pins, Task};

/// From so many clients on, rings and buffers are cut to what 64-byte messages need: a user with that many sessions
/// sizes them, and the default 256 KiB each would be some gigabytes of address space.
const MANY: usize = 1000;

pub(crate) fn serve(job: &Job) -> Result<(), Failure> {
    server::serve(job)
}

pub(crate) fn play(job: &Job) -> Result<Outcome, Failure> {
    match job.task {
        Task::RoundTrip => client::round_trip(job),
        Task::Stream => client::stream(job),
        Task::Paced => client::paced(job),
        Task::Connect => client::connect(job),
        Task::Crowd | Task::Fan | Task::Hold => Err(Failure::new(
            "zerio's servers are loaded by bare clients here, the same as for every other peer",
        )),
    }
}

/// In an open loop on a busy machine, as much piles up as was due while a core was away: a third of a second's at
/// 100,000 a second. The control has the kernel's buffers for that, which hold megabytes.
const PACED_RING: usize = 2 * 1024 * 1024;

/// The defaults, and what a job says.
fn config(job: &Job) -> Config {
    let mut config = Config::default();
    config.sessions_max = config.sessions_max.max(job.clients + 8);
    config.engines = job.engines;
    config.driver = match job.driver {
        Driver::Auto => DriverKind::Auto,
        Driver::Poll => DriverKind::Poll,
        Driver::Uring => DriverKind::Uring,
    };
    if let Some(batch_from) = job.batch_from {
        config.batch_from = batch_from;
    }
    if job.drive == Drive::Park {
        config.wait = WaitStrategy::Park;
    }
    if job.task == Task::Paced {
        config.send_ring = PACED_RING;
    }
    if job.clients >= MANY && job.task == Task::Crowd {
        (config.message_max, config.send_ring, config.receive_buffer) = (4096, 16 * 1024, 16 * 1024);
    }
    config.congestion = job.options.congestion.clone();
    config.busy_poll = job.options.busy_poll;
    config.priority = job.options.priority;
    config.huge_pages = job.options.huge_pages;
    if job.pins == Pins::Engine {
        config.cores = job.core.into_iter().collect();
    }
    config
}

/// As a client needs it.
fn client_config(job: &Job) -> Config {
    let mut config = config(job);
    config.engines = 1;
    config
}
