//! What the program is asked for.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::interrupt;
use crate::job::Peer;
use crate::plan::{Extent, Line, Workload};
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
  zerio-bench options                          zerio's options, each beside zerio without: about nine minutes

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
    /// Measures zerio's options for speed's sake, each of them on, beside zerio without any: congestion control, busy
    /// polling, huge pages, pinning, priorities. Priorities take CAP_SYS_NICE.
    #[command(after_help = EXAMPLES)]
    Options(Common),
    /// One side of a run; started by the others.
    #[command(hide = true)]
    Role { side: Side, job: String },
}

#[derive(Debug, clap::Args)]
struct All {
    #[command(flatten)]
    common: Common,
    /// These peers only; a line without its control, which `bare` brings, is left out.
    #[arg(long, value_delimiter = ',', value_enum, ignore_case = true)]
    peers: Vec<Peer>,
    /// Does not pin the processes to cores 0 and 1.
    #[arg(long)]
    no_pin: bool,
    /// Writes a plot of each workload here, as SVG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// How often each contender runs; medians are taken over so many.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long one run measures, after a warm-up of a quarter of it.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS", value_parser = seconds)]
    seconds: f64,
    /// These workloads only.
    #[arg(long, value_delimiter = ',', value_enum, ignore_case = true)]
    only: Vec<Workload>,
    /// Every run once and for a moment, with a hundred clients at the most: whether all of it works.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    smoke: bool,
    /// Writes all results here, each round's too.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.05..=60.0).contains(&seconds) => Ok(seconds),
        _ => Err("say a number of seconds from 0.05 to 60".into()),
    }
}

pub(crate) fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Role { side, job } => return role::run(side, &job),
        Command::All(all) => {
            let extent = Extent { peers: all.peers, ..all.common.extent(!all.no_pin) };
            measure(&extent, extent.lines(), &all.common, all.plots.as_deref())
        }
        Command::Options(common) => {
            let extent = common.extent(true);
            measure(&extent, extent.options(), &common, None)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("zerio-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

impl Common {
    fn extent(&self, pin: bool) -> Extent {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if pin && cores < 2 {
            eprintln!("zerio-bench: there is one core only, so server and client share it");
        }
        Extent {
            rounds: if self.smoke { 1 } else { self.rounds.into() },
            run: if self.smoke { Duration::from_millis(100) } else { Duration::from_secs_f64(self.seconds) },
            smoke: self.smoke,
            only: self.only.clone(),
            peers: Vec::new(),
            cores: if pin && cores >= 2 { (Some(0), Some(1)) } else { (None, None) },
        }
    }
}

fn measure(extent: &Extent, lines: Vec<Line>, common: &Common, plots: Option<&Path>) -> Result<(), Failure> {
    interrupt::catch()?;
    let mut report = Report::new(extent);
    let mut printed = report.print_head();
    let whole = run::measure(lines, extent, |measured| {
        let line = report.add(measured);
        if printed.is_ok() {
            printed = report.print_line(line);
        }
    });
    printed?;
    report.print_drivers()?;
    report.print_targets()?;
    if let Some(path) = &common.json {
        report.write_json(path)?;
    }
    if let Some(folder) = plots {
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
