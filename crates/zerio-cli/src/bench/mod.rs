//! `zerio bench`: what to measure (`plan`), each line beside its `control`, round after round, and the
//! `report`.
#![forbid(unsafe_code)]

mod control;
mod grid;
mod harness;
mod idle;
mod machine;
mod one_way;
mod page;
mod plan;
mod plot;
mod report;
mod round_trip;
mod tls;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use indicatif::ProgressBar;
use zerio::{DriverInfo, DriverKind, Server};

use crate::args;
use crate::failure::Failure;
use crate::interrupt;
use crate::settings;
use crate::terminal;
use plan::{Case, Plan};
use report::{IdleLine, OneWayLine, Report, RoundTripLine};

pub(crate) fn run(args: &args::Bench) -> Result<(), Failure> {
    if let Some(host) = &args.grid.host {
        return grid::host(args, host);
    }
    // Between two runs somebody looks whether there was one.
    interrupt::catch(|| {})?;
    if let Some(folder) = &args.grid.folder {
        return grid::run(args, folder);
    }
    tls::prepare(&args.tls)?;
    let driver = probe(DriverKind::Auto)?;
    for &asked in &args.driver {
        probe(settings::driver(asked))?;
    }
    let others: Vec<DriverKind> = [DriverKind::Poll, DriverKind::Uring]
        .into_iter()
        .filter(|kind| kind.to_string() != driver.name && probe(*kind).is_ok())
        .collect();
    let plan = Plan::new(args, &others);
    // Before it takes minutes.
    if let Some(path) = &args.report {
        can_be_written(path).map_err(|error| cannot_write("the report", path, &error))?;
    }
    if let Some(folder) = &args.plots {
        fs::create_dir_all(folder).map_err(|error| cannot_write("the plots", folder, &error))?;
    }
    let mut report = Report::new(driver, args.tls.is_on(), plan.rounds);
    if !args.json {
        report.print_head()?;
    }
    let bar = terminal::bar(plan.runs(), plan.duration());
    let outcome = measure(&plan, &mut report, &bar);
    bar.finish_and_clear();
    outcome?;
    if args.json {
        report.print_json()?
    } else {
        report.print_tables()?
    }
    if let Some(path) = &args.report {
        // A page is passed on: it does not tell in whose folder the program lay.
        let program = std::iter::once("zerio".to_owned());
        let command: Vec<String> = program.chain(std::env::args().skip(1)).collect();
        let written = fs::write(path, page::page(&report, &command));
        written.map_err(|error| cannot_write("the report", path, &error))?;
        terminal::note(format_args!("the report is in {}", path.display()));
    }
    if let Some(folder) = &args.plots {
        for (name, picture) in page::pictures(&report) {
            let path = folder.join(name);
            fs::write(&path, picture).map_err(|error| cannot_write("a plot", &path, &error))?;
        }
    }
    if report.interrupted {
        let what =
            "interrupted: what stands above is what was measured until then; run it again for the rest";
        return Err(Failure::new(what));
    }
    Ok(())
}

/// Finds out whether a file can be written, and leaves all as it is: what is to stand there may never come.
fn can_be_written(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => {
            // Windows removes no file that is open.
            drop(file);
            fs::remove_file(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().write(true).open(path).map(drop)
        }
        Err(error) => Err(error),
    }
}

fn cannot_write(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::writing(format_args!("write {what} to {}", path.display()), error)
}

/// Which driver a server has that asks for this one.
fn probe(kind: DriverKind) -> Result<DriverInfo, Failure> {
    let mut config = zerio::Config::default();
    (config.driver, config.sessions_max) = (kind, 1);
    let server = Server::bind("127.0.0.1:0")?.config(config).start_polled()?;
    Ok(server.driver().clone())
}

/// Runs the plan line by line, and in each line control and zerio in turns, so that both meet the same
/// weather. A Ctrl-C ends it after the run that it meets.
fn measure(plan: &Plan, report: &mut Report, bar: &ProgressBar) -> Result<(), Failure> {
    for case in &plan.round_trip {
        let (mut control, mut zerio) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            control.push(step(bar, "round trip", case, || round_trip::control(case))?);
            zerio.push(step(bar, "round trip", case, || round_trip::zerio(case))?);
            if interrupt::seen() {
                report.interrupted = true;
                return Ok(());
            }
        }
        report.allocations += zerio.iter().map(|run| run.allocations).sum::<u64>();
        report.round_trip.push(RoundTripLine::new(case, &control, &zerio));
    }
    for case in &plan.one_way {
        let (mut control, mut zerio) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            control.push(step(bar, "one way", case, || one_way::control(case))?);
            zerio.push(step(bar, "one way", case, || one_way::zerio(case))?);
            if interrupt::seen() {
                report.interrupted = true;
                return Ok(());
            }
        }
        report.allocations += zerio.iter().map(|run| run.allocations).sum::<u64>();
        report.one_way.push(OneWayLine::new(case, &control, &zerio));
    }
    for case in &plan.idle {
        bar.set_message(format!("idle, {}", case.wait));
        if let Some(cost) = idle::measure(case)? {
            report.idle.push(IdleLine::new(case, &cost));
        }
        bar.inc(1);
        if interrupt::seen() {
            report.interrupted = true;
            return Ok(());
        }
    }
    Ok(())
}

/// One run, and one step of the bar. The bar is drawn between runs only, so as not to disturb them.
fn step<T>(
    bar: &ProgressBar,
    what: impl fmt::Display,
    case: &Case,
    run: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    bar.set_message(format!("{what}, {case}"));
    let outcome = run();
    bar.inc(1);
    outcome
}
