//! `zerio bench --grid`: round trips under a load that keeps to a schedule, over every combination of message sizes,
//! delays between bursts and messages to a burst, over zerio and over plain TCP. The tests are what the older system's
//! programme ran, and so are the files: a line of CSV for each test, and its percentiles as `.hgrm`.
#![forbid(unsafe_code)]

mod files;
mod host;
mod run;

use std::fmt;
use std::io::{IsTerminal, Write, stdin, stdout};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::args;
use crate::failure::Failure;
use crate::interrupt;
use crate::settings::BURST_MAX;
use crate::terminal;
use files::Csv;

/// How often it is looked for a Ctrl-C while nobody types, and no message is due.
const LOOK: Duration = Duration::from_millis(50);

/// Over what messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Zerio,
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Zerio => "zerio",
            Transport::Tcp => "tcp",
        })
    }
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Test {
    pub(super) size: usize,
    pub(super) delay: Duration,
    pub(super) burst: u32,
    pub(super) time: Duration,
    /// Of all hosts together.
    pub(super) servers: u16,
    /// Of each server.
    pub(super) clients: u16,
}

impl Test {
    /// How many bursts each client sends.
    pub(super) fn bursts(&self) -> u64 {
        (self.time.as_nanos() / self.delay.as_nanos().max(1)).max(1) as u64
    }

    fn all_clients(&self) -> u64 {
        u64::from(self.servers) * u64::from(self.clients)
    }

    /// How many messages are sent if all goes well, each way.
    pub(super) fn messages(&self) -> u64 {
        self.bursts() * u64::from(self.burst) * self.all_clients()
    }

    /// The same in a second.
    pub(super) fn per_second(&self) -> f64 {
        f64::from(self.burst) * self.all_clients() as f64 / self.delay.as_secs_f64()
    }

    /// So many megabits a second are so many messages, their headers not included.
    pub(super) fn megabits(&self, messages_per_second: f64) -> f64 {
        messages_per_second * self.size as f64 * 8.0 / 1e6
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B, {} each {:?}", self.size, self.burst, self.delay)
    }
}

/// Message sizes, in bytes.
fn sizes(args: &args::Bench) -> &[usize] {
    if args.size.is_empty() { &[32, 256, 1024] } else { &args.size }
}

/// How many servers there are on all hosts.
fn servers(grid: &args::Grid) -> u16 {
    grid.servers.saturating_mul(grid.hosts.len().clamp(1, 256) as u16)
}

/// The tests that the flags ask for, those left out whose messages would take more than the limit.
fn tests(args: &args::Bench) -> Vec<Test> {
    let grid = &args.grid;
    let mut tests = Vec::new();
    for &size in sizes(args) {
        for &delay in &grid.delay {
            for &burst in &grid.burst {
                let (servers, clients) = (servers(grid), grid.clients);
                tests.push(Test { size, delay, burst, time: grid.seconds(), servers, clients });
            }
        }
    }
    let limit = grid.bandwidth.unwrap_or(f64::INFINITY);
    tests.retain(|test| test.megabits(test.per_second()) <= limit);
    tests
}

pub(super) fn run(args: &args::Bench, folder: &Path) -> Result<(), Failure> {
    if let Some(size) = args.size.iter().find(|&&size| size < run::STAMP) {
        let least = run::STAMP;
        return Err(Failure::Usage(format!(
            "--size {size}: a message of the grid carries a time; give {least} or more"
        )));
    }
    let tests = tests(args);
    if tests.is_empty() && !args.grid.manual {
        return Err(Failure::Usage(
            "every test would take more than --bandwidth; give more of it".to_owned(),
        ));
    }
    let (hosts, for_people) = (resolve(&args.grid)?, stdout().is_terminal());
    let mut to = Results { hosts, folder, csv: Csv::new(folder)?, for_people };
    if to.for_people {
        print(&files::heads_for_people())?
    } else {
        print(files::HEADS)?
    }
    if args.grid.manual {
        return by_hand(args, &mut to);
    }
    let time = 2 * tests.iter().map(|test| test.time).sum::<Duration>();
    let bar = terminal::bar(2 * tests.len() as u64, time);
    for test in &tests {
        for transport in [Transport::Zerio, Transport::Tcp] {
            bar.set_message(format!("{transport}, {test}"));
            let line = measure(transport, test, &mut to).inspect_err(|_| bar.finish_and_clear())?;
            bar.suspend(|| print(&line))?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// `zerio bench --grid-host`.
pub(super) fn host(args: &args::Bench, address: &str) -> Result<(), Failure> {
    let longest = sizes(args).iter().copied().max().unwrap_or(run::STAMP);
    host::run(address, &args.grid, longest)
}

/// Where the servers are and where the figures go.
struct Results<'a> {
    /// The servers' addresses over zerio and over plain TCP; none where they are to be in this process.
    hosts: Vec<[SocketAddr; 2]>,
    folder: &'a Path,
    csv: Csv,
    /// Who reads along has eighty columns, and not the files' thirty-two figures a line.
    for_people: bool,
}

/// All servers of all hosts.
fn resolve(grid: &args::Grid) -> Result<Vec<[SocketAddr; 2]>, Failure> {
    let mut servers = Vec::new();
    for host in &grid.hosts {
        let found = host.to_socket_addrs().map(|mut addresses| addresses.next());
        let first = match found {
            Ok(Some(address)) => address,
            Ok(None) => return Err(Failure::new(format!("{host} has no address"))),
            Err(error) => return Err(Failure::new(format!("can't resolve {host}: {error}"))),
        };
        for number in 0..grid.servers {
            servers.push(host::addresses(first, grid.servers, number)?);
        }
    }
    Ok(servers)
}

/// A test was cut short: it has neither a line nor a file, which could be taken for a whole one's.
fn interrupted() -> Failure {
    Failure::new(
        "interrupted: the files have what was measured until then, and nothing of the test that was running",
    )
}

/// One test over one transport, in its line and its file. It gives what is to be seen of it.
fn measure(transport: Transport, test: &Test, to: &mut Results) -> Result<String, Failure> {
    let outcome = run::run(transport, test, &to.hosts)?;
    files::percentiles(to.folder, transport, test, &outcome)?;
    let line = to.csv.add(transport, test, &outcome)?;
    Ok(if to.for_people { files::line_for_people(transport, test, &outcome) } else { line })
}

fn print(line: &str) -> Result<(), Failure> {
    writeln!(stdout(), "{line}").map_err(Failure::output)
}

/// Tests that somebody types, or another program.
fn by_hand(args: &args::Bench, to: &mut Results) -> Result<(), Failure> {
    let asks = stdin().is_terminal();
    // Reading can't be interrupted: a thread does it, which is left behind at a Ctrl-C.
    let (typing, lines) = sync_channel(0);
    std::thread::spawn(move || stdin().lines().try_for_each(|line| typing.send(line)));
    loop {
        if asks {
            terminal::note("size, delay and burst, as in: 32 1ms 10 (Ctrl-D ends it)");
        }
        let Some(line) = next(&lines) else { return Ok(()) };
        let line = line.map_err(|error| Failure::new(format!("can't read standard input: {error}")))?;
        match typed(&line, args) {
            Ok(Some(test)) => {
                print(&measure(Transport::Zerio, &test, to)?)?;
                print(&measure(Transport::Tcp, &test, to)?)?;
            }
            Ok(None) => {}
            Err(why) if asks => terminal::note(why),
            Err(why) => return Err(Failure::Usage(why)),
        }
    }
}

/// The next line; none at the end of all, or at a Ctrl-C.
fn next<T>(lines: &Receiver<T>) -> Option<T> {
    while !interrupt::seen() {
        match lines.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            line => return line.ok(),
        }
    }
    None
}

/// The test that a line asks for, if it is not empty.
fn typed(line: &str, args: &args::Bench) -> Result<Option<Test>, String> {
    let words: Vec<&str> = line.split([' ', ',', '\t']).filter(|word| !word.is_empty()).collect();
    let [size, delay, burst] = words[..] else {
        return if words.is_empty() {
            Ok(None)
        } else {
            Err(format!("{line:?}: give three words, size, delay and burst, as in: 32 1ms 10"))
        };
    };
    let size = crate::settings::measured_bytes(size)?;
    if size < run::STAMP {
        return Err(format!(
            "{size} bytes: a message of the grid carries a time; give {} or more",
            run::STAMP
        ));
    }
    let delay = crate::settings::delay(delay)?;
    let burst = burst.parse().ok().filter(|burst| (1..=BURST_MAX).contains(burst));
    let burst = burst.ok_or("a burst is a number of messages, as in 10, up to a million")?;
    let grid = &args.grid;
    let (servers, clients) = (servers(grid), grid.clients);
    Ok(Some(Test { size, delay, burst, time: grid.seconds(), servers, clients }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn args(flags: &str) -> args::Bench {
        let line = format!("zerio bench --grid x {flags}");
        match args::Args::parse_from(line.split_whitespace()).command {
            args::Command::Bench(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_grid_has_every_combination_within_the_bandwidth() {
        let all = tests(&args("--size 32,1k --delay 1ms,10ms --burst 1,10,100 --servers 2 --clients 3"));
        assert_eq!(all.len(), 12);
        let first = all[0];
        assert_eq!((first.size, first.delay, first.burst), (32, Duration::from_millis(1), 1));
        assert_eq!((first.per_second(), first.megabits(first.per_second())), (6000.0, 1.536));
        assert_eq!((first.bursts(), first.messages()), (5000, 30_000));
        let some = tests(&args(
            "--size 32,1k --delay 1ms,10ms --burst 1,10,100 --servers 2 --clients 3 --bandwidth 50",
        ));
        assert!(some.len() < all.len() && some.iter().all(|test| test.megabits(test.per_second()) <= 50.0));
    }

    #[test]
    fn what_is_typed_is_a_test_or_says_why_not() {
        let args = args("--manual --seconds 2");
        let test = typed("1k 500us, 7", &args).unwrap().unwrap();
        assert_eq!((test.size, test.delay, test.burst), (1024, Duration::from_micros(500), 7));
        assert_eq!(test.bursts(), 4000);
        assert_eq!(typed("  ", &args), Ok(None));
        for bad in ["32 1ms", "4 1ms 1", "32 0ms 1", "32 1ms 0", "32 1ms 1000001", "32 1ms 1 1", "x y z"] {
            assert!(typed(bad, &args).is_err(), "{bad}");
        }
    }
}
