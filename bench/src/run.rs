//! Runs the plan: in each line all contenders in turns, round after round, so that all of them meet the same weather.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::child::Process;
use crate::failure::Failure;
use crate::interrupt;
use crate::job::{BEGIN, END, Job, Listening, Outcome, Said};
use crate::measure::GRACE;
use crate::plan::{Contender, Extent, Line};

/// Ten thousand clients take a while to connect.
const CONNECTING: Duration = Duration::from_secs(60);

/// What a contender's runs came to, a result a round.
#[derive(Debug)]
pub(crate) struct Runs {
    pub(crate) contender: Contender,
    /// By round; a round that failed has none.
    pub(crate) outcomes: Vec<Option<Outcome>>,
    pub(crate) failures: Vec<String>,
}

/// A line that was measured, or the part of it that was until it was interrupted.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) line: Line,
    pub(crate) runs: Vec<Runs>,
}

/// Calls `on_line` with each line as soon as it is measured; whether it came to the end.
pub(crate) fn measure(lines: Vec<Line>, extent: &Extent, mut on_line: impl FnMut(Measured)) -> bool {
    let runs: usize = lines.iter().map(|line| line.contenders.len() * extent.rounds).sum();
    let bar = bar(runs as u64);
    for line in lines {
        let mut runs: Vec<Runs> = line.contenders.iter().map(Runs::new).collect();
        for _ in 0..extent.rounds {
            for runs in &mut runs {
                // Drawn between runs only, so as not to disturb them.
                bar.set_message(format!("{}: {}", line.title, runs.contender.name));
                runs.add(run(&runs.contender.job, extent));
                bar.inc(1);
                if interrupt::seen() {
                    bar.finish_and_clear();
                    return false;
                }
            }
        }
        bar.suspend(|| on_line(Measured { line, runs }));
    }
    bar.finish_and_clear();
    true
}

impl Runs {
    fn new(contender: &Contender) -> Runs {
        Runs { contender: contender.clone(), outcomes: Vec::new(), failures: Vec::new() }
    }

    fn add(&mut self, outcome: Result<Outcome, Failure>) {
        match outcome {
            Ok(outcome) => self.outcomes.push(Some(outcome)),
            Err(failure) => {
                self.outcomes.push(None);
                self.failures.push(failure.to_string());
            }
        }
    }
}

/// One run: a server, a client, and the client's result.
fn run(job: &Job, extent: &Extent) -> Result<Outcome, Failure> {
    let mut server = Process::start("server", job)?;
    let mut certificate = None;
    let (port, driver) = loop {
        match server.hear(GRACE)? {
            Said::Certificate(pem) => certificate = Some(pem),
            Said::Ready { port, driver } => break (port, driver),
            other => return Err(unexpected(&other)),
        }
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listening = Some(Listening { address, process: server.id(), certificate });
    // Where the server is not pinned, neither is the client.
    let core = job.core.and(extent.cores.1);
    let client = Process::start("client", &Job { core, server: listening, ..job.clone() })?;
    match client.hear(CONNECTING).map_err(|failure| blame(failure, &server))? {
        Said::Connected => server.tell(BEGIN)?,
        other => return Err(unexpected(&other)),
    }
    let outcome =
        client.hear(job.warm_up + job.run + 2 * GRACE).map_err(|failure| blame(failure, &server))?;
    let Said::Done(mut outcome) = outcome else { return Err(unexpected(&outcome)) };
    server.tell(END)?;
    match server.hear(GRACE)? {
        Said::Ended { allocations, cpu } => {
            outcome.server_cpu.get_or_insert(cpu);
            outcome.allocations = match (outcome.allocations, allocations) {
                (client, server) if client.is_some() || server.is_some() => {
                    Some(client.unwrap_or(0) + server.unwrap_or(0))
                }
                _ => None,
            };
        }
        other => return Err(unexpected(&other)),
    }
    outcome.driver = driver;
    Ok(*outcome)
}

/// If the server failed, that is why the client did.
fn blame(failure: Failure, server: &Process) -> Failure {
    match server.hear(Duration::ZERO) {
        Err(servers) if !servers.to_string().contains("said nothing") => servers,
        _ => failure,
    }
}

fn unexpected(said: &Said) -> Failure {
    Failure::new(format_args!("a process said what was not its turn to say: {said:?}"))
}

/// Nothing where there is no terminal.
fn bar(runs: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(runs), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left  {wide_msg}") {
        bar.set_style(style);
    }
    bar
}
