//! `zerio torture`: a server in this process, and around it, in processes of their own, clients that behave,
//! peers that misbehave in every way, and peers that are stopped and killed; for a bounded time, with each
//! driver in turn. Every message is checked, and the server's memory is watched.
#![deny(unsafe_code)]

mod child;
mod clients;
mod ledger;
mod misbehave;
mod nowhere;
mod numbered;
mod report;
mod scene;
mod system;
mod victims;

use std::time::Duration;

use zerio::{Config, DriverKind};

use crate::args::{self, Role};
use crate::failure::Failure;
use crate::interrupt;
use crate::terminal::{self, counted};
use report::Report;

const MESSAGE_MAX: usize = 1000;

/// How long a connection may take to become a session.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// How long a peer that does not read is put up with.
const SLOW_PEER: Duration = Duration::from_secs(8);

/// How long anything is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Places for those that come and go, beyond the clients and the peers that misbehave.
const SPARE: usize = 64;

const VICTIM_STOPPED: &str = "victim-stopped";
const VICTIM_KILLED: &str = "victim-killed";

pub(crate) fn run(args: &args::Torture) -> Result<(), Failure> {
    let config = config(args);
    if let (Some(role), Some(server)) = (args.role, args.server) {
        return match role {
            Role::Clients => clients::run(server, args.clients(), &config),
            Role::Peers => misbehave::run(server, args.misbehaving(), args.churn, &config),
            Role::Stopped => victims::run(server, VICTIM_STOPPED, &config),
            Role::Killed => victims::run(server, VICTIM_KILLED, &config),
        };
    }
    interrupt::catch(|| {})?;
    // The clients' process needs the most: each has a driver of its own.
    let descriptors = system::allow_descriptors(16 * (args.clients() + args.misbehaving()) as u64 + 1024)?;
    let drivers = drivers(args);
    let bar = terminal::bar(drivers.len() as u64 * args.seconds, Duration::from_secs(args.seconds));
    let mut report = Report::new(args, descriptors);
    for driver in drivers {
        bar.set_message(driver.to_string());
        let mut config = config.clone();
        config.driver = driver;
        report.runs.push(scene::play(args, &config, &bar)?);
        if interrupt::seen() {
            break;
        }
    }
    bar.finish_and_clear();
    report.print(args.json)?;
    let faults = report.runs.iter().map(|run| run.faults.len() as u64).sum();
    match (faults, interrupt::seen()) {
        (0, false) => Ok(()),
        (0, true) => Err(Failure::new("interrupted: what stands above is what was found until then")),
        _ => Err(Failure::new(format!("{}, told above", counted(faults, "fault")))),
    }
}

/// What the server and those of its peers that are zerio's go by.
fn config(args: &args::Torture) -> Config {
    let mut config = Config::default();
    (config.message_max, config.send_ring, config.receive_buffer) = (MESSAGE_MAX, 16 * 1024, 16 * 1024);
    config.sessions_max = args.clients() + args.misbehaving() + SPARE;
    config.handshake_timeout = if args.role.is_some() { PATIENCE } else { HANDSHAKE };
    config.slow_peer_timeout = args.role.is_none().then_some(SLOW_PEER);
    config.socket_send_buffer = Some(64 * 1024);
    if let [driver] = args.driver[..] {
        config.driver = crate::settings::driver(driver);
    }
    config
}

/// The drivers that were asked for, or all that this machine has.
fn drivers(args: &args::Torture) -> Vec<DriverKind> {
    if !args.driver.is_empty() {
        return args.driver.iter().map(|driver| crate::settings::driver(*driver)).collect();
    }
    let has = |kind: &DriverKind| {
        let mut config = Config::default();
        (config.driver, config.sessions_max) = (*kind, 1);
        let server = zerio::Server::bind("127.0.0.1:0");
        server.is_ok_and(|server| server.config(config).start_polled().is_ok())
    };
    [DriverKind::Poll, DriverKind::Uring].into_iter().filter(has).collect()
}
