//! One side of a run, as a process of its own: started by `run`, told by a job, answering in lines.
#![forbid(unsafe_code)]

use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use crate::allocations;
use crate::failure::{During, Failure};
use crate::job::{BEGIN, END, Job, Peer, Pins, Said, Task};
use crate::measure::allocations_since;
use crate::peers;
use crate::system;

/// Which side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    Server,
    Client,
}

pub(crate) fn run(side: Side, job: &str) -> ExitCode {
    let outcome = serde_json::from_str(job).during("a job").and_then(|job: Job| {
        if let (Some(core), Pins::Process) = (job.core, job.pins) {
            system::pin(core)?;
        }
        system::raise_descriptors()?;
        match side {
            Side::Server => serve(&job),
            Side::Client => play(&job),
        }
    });
    if let Err(failure) = outcome {
        say(&Said::Failed(failure.to_string()));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn serve(job: &Job) -> Result<(), Failure> {
    if job.peer == Peer::Zerio {
        allocations::count_from_now();
    }
    std::thread::Builder::new().name("listens-to-parent".into()).spawn(hear_server)?;
    peers::serve(job)?;
    rest()
}

/// For a server whose clients have gone: it is told when it may go too. Until then it allocates nothing and drops
/// nothing, which would be counted among what its peer allocates.
pub(crate) fn rest() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn play(job: &Job) -> Result<(), Failure> {
    if job.task == Task::Paced {
        system::sleep_exactly()?;
    }
    if job.load == Peer::Zerio {
        allocations::count_from_now();
    }
    // Only the end of the input is of interest: then whoever reads the result has gone.
    std::thread::Builder::new().name("listens-to-parent".into()).spawn(|| {
        let mut line = String::new();
        while std::io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0) {}
        std::process::exit(1);
    })?;
    let outcome = peers::play(job)?;
    say(&Said::Done(Box::new(outcome)));
    Ok(())
}

/// Ends the process where it is told to, or where nobody is there any more to tell it.
fn hear_server() {
    let mut line = String::with_capacity(64);
    let mut before = None;
    loop {
        line.clear();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(1..) if line.trim_end() == BEGIN => before = allocations::counted(),
            Ok(1..) if line.trim_end() == END => {
                let allocations = allocations_since(before);
                say(&Said::Ended { allocations, cpu: system::cpu() });
                break;
            }
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    std::process::exit(0);
}

/// A line on standard output. Where nobody reads it any more nothing can be done, and the end of the input will
/// end this process.
pub(crate) fn say(said: &Said) {
    if let Ok(mut line) = serde_json::to_vec(said) {
        line.push(b'\n');
        let _ = std::io::stdout().write_all(&line);
        let _ = std::io::stdout().flush();
    }
}
