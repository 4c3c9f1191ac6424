//! `zerio`: measures, serves, pings, sends, listens, simulates, tortures and looks after the machine, from the
//! command line.
//!
//! `args` has the flags as they are typed, `settings` what they mean; each command is a module. Exit codes:
//! 0 for success, 1 for a failure, 2 for wrong usage.
#![deny(unsafe_code)]

mod allocations;
mod args;
mod bench;
mod certs;
mod counters;
mod cpu;
mod doctor;
mod failure;
mod interrupt;
mod lines;
mod manual;
mod metrics;
mod ping;
mod serve;
mod settings;
mod shell;
mod sim;
mod stat;
mod terminal;
mod tls;
mod top;
#[cfg(unix)]
mod torture;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Command};
use failure::Failure;

/// Counts, for `zerio bench`; elsewhere it costs next to nothing.
#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and the version are output like any other; clap says nothing where they can't be written.
        Err(told) if !told.use_stderr() => {
            return told.print().map_or_else(|why| Failure::output(why).report(), |()| ExitCode::SUCCESS);
        }
        Err(wrong) => wrong.exit(),
    };
    let outcome = match args.command {
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Ping(args) => ping::run(&args),
        Command::Send(args) => lines::send(&args),
        Command::Listen(args) => lines::listen(&args),
        #[cfg(unix)]
        Command::Torture(args) => torture::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Certs(args) => certs::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
