//! What the program is asked for.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::interrupt;
use crate::job::Peer;
use crate::plan::{Extent, Workload};
use crate::report::Report;
use crate::role::{self, Side};
use crate::run;

const EXAMPLES: &str = "\
Examples:
  zerio-bench all                              everything, five rounds: about twenty minutes
  zerio-bench all --smoke                      everything once, in less than a minute: does it work?
  zerio-bench all --only w1,w2 --rounds 9      round trips and streams, with more rounds
  zerio-bench all --peers bare,zerio           zerio beside its control alone
  zerio-bench all --json bench.json --plots docs/plots

Figures of a busy machine mean little: the load is printed above the tables, and each figure stands beside a control
that took turns with it.";

/// zerio beside bare sockets, tokio and libzmq: the same workloads, in turns, server and client pinned to a core each.
#[derive(Debug, Parser)]
#[command(name = "zerio-bench", version, after_help = EXAMPLES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures all workloads, or those that are named, and prints a table for each line.
    #[command(after_help = EXAMPLES)]
    All(All),
    /// One side of a run; started by `all`.
    #[command(hide = true)]
    Role { side: Side, job: String },
}

#[derive(Debug, clap::Args)]
struct All {
    /// How often each contender runs; medians are taken over so many.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long one run measures, after a warm-up of a quarter of it.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    seconds: f64,
    /// These workloads only.
    #[arg(long, value_delimiter = ',', value_enum, ignore_case = true)]
    only: Vec<Workload>,
    /// These peers only; a line without its control, `bare`, is left out.
    #[arg(long, value_delimiter = ',', value_enum, ignore_case = true)]
    peers: Vec<Peer>,
    /// Every run once and for a moment, with a hundred clients at the most: whether all of it works.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    smoke: bool,
    /// Does not pin the processes to cores 0 and 1.
    #[arg(long)]
    no_pin: bool,
    /// Writes all results here, each round's too.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// Writes a plot of each workload here, as SVG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("say a number of seconds from 0.05 to 60".into()),
    }
}

pub(crate) fn main() -> ExitCode {
    match Args::parse().command {
        Command::Role { side, job } => role::run(side, &job),
        Command::All(all) => match measure(&all) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("zerio-bench: {failure}");
                ExitCode::FAILURE
            }
        },
    }
}

fn measure(all: &All) -> Result<(), Failure> {
    interrupt::catch()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pins = !all.no_pin && cores >= 2;
    if !all.no_pin && !pins {
        eprintln!("zerio-bench: there is one core only, so server and client share it");
    }
    let extent = Extent {
        rounds: if all.smoke { 1 } else { all.rounds.into() },
        run: if all.smoke { Duration::from_millis(100) } else { Duration::from_secs_f64(all.seconds) },
        smoke: all.smoke,
        only: all.only.clone(),
        peers: all.peers.clone(),
        cores: if pins { (Some(0), Some(1)) } else { (None, None) },
    };
    let mut report = Report::new(&extent);
    let mut printed = report.print_head();
    let whole = run::measure(&extent, |measured| {
        let line = report.add(measured);
        if printed.is_ok() {
            printed = report.print_line(line);
        }
    });
    printed?;
    report.print_drivers()?;
    report.print_targets()?;
    if let Some(path) = &all.json {
        report.write_json(path)?;
    }
    if let Some(folder) = &all.plots {
        crate::plot::draw(&report, folder)?;
    }
    if !whole {
        return Err(Failure::new("interrupted: what stands above is what was measured until then"));
    }
    match report.failures() {
        0 => Ok(()),
        some => Err(Failure::new(format_args!("{some} runs failed; the tables above say why"))),
    }
}
