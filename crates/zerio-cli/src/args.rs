//! The flags as they are typed. What they mean to the library is in `settings`.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use zerio::WaitStrategy;

use crate::settings::{
    BURST_MAX, address, bytes, delay, duration, interval, listening, measured_bytes, minutes, seed, wait,
    watching,
};
use crate::tls::{BenchTls, ClientTls, ServerTls};
pub(crate) use choices::{Drive, Driver, Only, SameId, SortBy};

mod choices;

/// Small messages between one server and several clients over TCP, in microseconds.
#[derive(Debug, Parser)]
#[command(name = "zerio", version)]
#[command(after_help = "Examples:\n  zerio bench\n  \
    zerio serve                   # in one terminal\n  \
    zerio ping 127.0.0.1:7000     # in another")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Bench(Bench),
    Doctor(Doctor),
    Serve(Serve),
    Ping(Ping),
    Send(Send),
    Listen(Listen),
    Stat(Stat),
    Top(Top),
    #[cfg(unix)]
    Torture(Torture),
    Sim(Sim),
    Completions(Completions),
    Man(Man),
    Certs(Certs),
}

/// Measures round trips and one-way streams between a server and a client of its own, each beside bare
/// sockets that do the same work in the same run.
///
/// Without flags: a plan that shows each size, wait strategy, driver and way to drive, in less than 30 s.
/// With any of --size, --wait, --driver or --drive: every combination of what is given. There is one client, and the
/// server is told so, by which `auto` chooses its driver.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio bench\n  \
    zerio bench --only round-trip --size 32,1k --drive polled\n  \
    zerio bench --wait park,sleep:50us --json\n  \
    zerio bench --report bench.html\n  \
    zerio bench --grid results --size 32,1k --delay 1ms --burst 1,10 --seconds 10\n  \
    zerio bench --grid-host 192.168.1.2:7000 --insecure-everywhere    # there\n  \
    zerio bench --grid results --hosts 192.168.1.2:7000               # and here")]
pub(crate) struct Bench {
    /// Sizes of the messages, in bytes: 32, 4k
    #[arg(long, value_delimiter = ',', value_parser = measured_bytes)]
    pub(crate) size: Vec<usize>,
    /// What the engines' threads do when idle: busy-spin, spin-then-park:20us, yield, sleep:50us, park
    #[arg(long, value_delimiter = ',', value_parser = wait)]
    pub(crate) wait: Vec<WaitStrategy>,
    /// The ways to the kernel
    #[arg(long, value_delimiter = ',')]
    pub(crate) driver: Vec<Driver>,
    /// Engines with a thread of their own, or polled from a loop that spins
    #[arg(long, value_delimiter = ',')]
    pub(crate) drive: Vec<Drive>,
    /// Nothing but this
    #[arg(long)]
    pub(crate) only: Option<Only>,
    /// How often control and zerio take turns; the figures are medians of the rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) rounds: u16,
    /// Pin the server to core 0 and the client to core 1
    #[arg(long)]
    pub(crate) pin: bool,
    /// Write a page with pictures here, in HTML that needs no network; its plots can be held against each other
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Write the report's plots of latency into this folder, each as an SVG file
    #[arg(long, value_name = "DIR")]
    pub(crate) plots: Option<PathBuf>,
    /// One short round of each: shows that all of it works, and measures nothing worth quoting
    #[arg(long)]
    pub(crate) smoke: bool,
    /// Print JSON in place of tables
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) tls: BenchTls,
    #[command(flatten)]
    pub(crate) grid: Grid,
}

/// The flags of `bench` that a grid has no use for, beside those for TLS.
const NOT_OF_A_GRID: [&str; 10] =
    ["wait", "driver", "drive", "only", "rounds", "pin", "smoke", "json", "report", "plots"];

/// A grid of tests, in place of all else.
#[derive(Debug, clap::Args)]
#[command(
    next_help_heading = "A grid of tests, in place of all else",
    group = clap::ArgGroup::new("side").args(["folder", "host"])
)]
pub(crate) struct Grid {
    /// Send bursts by the clock, over zerio and over plain TCP; write grid.csv and percentiles (.hgrm) here. It takes --size
    /// and the flags below, and no others
    #[arg(
        long = "grid",
        value_name = "FOLDER",
        conflicts_with_all = NOT_OF_A_GRID,
        conflicts_with_all = BenchTls::FLAGS
    )]
    pub(crate) folder: Option<PathBuf>,
    /// From one burst to the next
    #[arg(long, value_delimiter = ',', default_value = "1ms,10ms", value_parser = delay, requires = "folder")]
    pub(crate) delay: Vec<Duration>,
    /// Messages to a burst
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,10,100",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(BURST_MAX)),
        requires = "folder"
    )]
    pub(crate) burst: Vec<u32>,
    /// Seconds to each test, over each of the two
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=86_400), requires = "folder")]
    seconds: u32,
    /// Leave out tests of more megabits a second, in all and each way
    #[arg(long, value_name = "MBIT", requires = "folder")]
    pub(crate) bandwidth: Option<f64>,
    /// Servers, in this process or on each host
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), requires = "side")]
    pub(crate) servers: u16,
    /// Clients of each server
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256), requires = "folder")]
    pub(crate) clients: u16,
    /// Read tests from standard input, a line each, as in: 32 1ms 10
    #[arg(long, requires = "folder", conflicts_with_all = ["size", "delay", "burst", "bandwidth"])]
    pub(crate) manual: bool,
    /// Where the servers are, in place of this process: there runs `zerio bench --grid-host`
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', value_parser = address, requires = "folder")]
    pub(crate) hosts: Vec<String>,
    /// Be such a host, until Ctrl-C: servers over zerio from this port on, and behind them as many over plain TCP. Of the
    /// other flags --servers counts, and --size, of which the largest is the longest message
    #[arg(
        long = "grid-host",
        value_name = "HOST:PORT",
        value_parser = address,
        conflicts_with_all = NOT_OF_A_GRID,
        conflicts_with_all = BenchTls::FLAGS
    )]
    pub(crate) host: Option<String>,
    /// With --grid-host, let the address be every interface of this machine: nothing of it is encrypted
    #[arg(long, requires = "host")]
    pub(crate) insecure_everywhere: bool,
}

impl Grid {
    pub(crate) fn seconds(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// An echo server: sends each message back, and prints who comes and goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio serve\n  \
    zerio serve 7001 --sessions-max 1000 --engines 2\n  \
    zerio serve 192.168.1.2:7000 --connections-per-address 10 --connections-per-second 50\n  \
    zerio serve 0.0.0.0:7000 --insecure-everywhere\n  \
    zerio serve --sessions-max 10k --send-ring 64k --message-max 1k --explain")]
pub(crate) struct Serve {
    /// Where to listen: HOST:PORT, or PORT for this machine alone; port 0 finds a free one
    #[arg(default_value = "127.0.0.1:7000", value_parser = listening)]
    pub(crate) address: String,
    /// How many engines, each with a thread and memory of its own
    #[arg(long, default_value_t = 1)]
    pub(crate) engines: usize,
    /// Print what the settings cost in memory, and what they ask of the system, and end
    #[arg(long)]
    pub(crate) explain: bool,
    /// The file in which `zerio stat` and `zerio top` find its counters: a path, or a name for one among this user's
    /// [default: serve- and the address, as in serve-127.0.0.1-7000]
    #[arg(long, value_name = "FILE", conflicts_with = "no_counters")]
    pub(crate) counters: Option<PathBuf>,
    /// Write no such file
    #[arg(long)]
    pub(crate) no_counters: bool,
    /// Where Prometheus finds what is counted, at /metrics; it takes no password, so keep it to a network of your own
    #[arg(long, value_name = "ADDRESS", value_parser = listening, conflicts_with = "no_counters")]
    pub(crate) metrics: Option<String>,
    /// Print a line of JSON for each event, and for the report at the end
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerSettings,
    #[command(flatten)]
    pub(crate) tls: ServerTls,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Sends messages to an echo server one by one, and prints how long each took there and back.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio ping 127.0.0.1:7000\n  \
    zerio ping 127.0.0.1:7000 --count 10000 --interval 0ms --size 32 --json")]
pub(crate) struct Ping {
    /// The server's address
    #[arg(value_parser = address)]
    pub(crate) address: String,
    /// End after so many; without it, at Ctrl-C
    #[arg(long, short, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// From one send to the next; 0ms sends when the answer has come
    #[arg(long, short, default_value = "1s", value_parser = duration, allow_negative_numbers = true)]
    pub(crate) interval: Duration,
    /// Bytes of each message
    #[arg(long, short, default_value = "32", value_parser = bytes)]
    pub(crate) size: usize,
    /// How long to wait for an answer
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// The peer id [default: ping- and the process id]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Print nothing but the summary, as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) tls: ClientTls,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Sends each line of standard input as a message to a server.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  zerio listen                               # in one terminal\n  \
    seq 1000 | zerio send 127.0.0.1:7000       # in another")]
pub(crate) struct Send {
    /// The server's address
    #[arg(value_parser = address)]
    pub(crate) address: String,
    /// The peer id [default: send- and the process id]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// How long to wait for room when the server reads more slowly than lines come
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) send_timeout: Duration,
    /// Print the report as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) tls: ClientTls,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// A server that prints each message as a line on standard output; who comes and goes, on standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio listen 127.0.0.1:7000 --count 1000 > lines.txt\n  \
    zerio listen 7001 --json --handshakes-max 16")]
pub(crate) struct Listen {
    /// Where to listen: HOST:PORT, or PORT for this machine alone; port 0 finds a free one
    #[arg(default_value = "127.0.0.1:7000", value_parser = listening)]
    pub(crate) address: String,
    /// End after so many messages; without it, at Ctrl-C
    #[arg(long, short, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Print each message as JSON, a line each, with who sent it, and the counts at the end
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerSettings,
    #[command(flatten)]
    pub(crate) tls: ServerTls,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Makes an authority for development, and certificates of a server and of clients: mutual TLS in two commands.
///
/// They are valid for 825 days. The authority's key is not kept, so nobody can sign anything else with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  zerio certs certs --client alice,bob")]
pub(crate) struct Certs {
    /// Where to write them; what is there is not written over
    pub(crate) folder: PathBuf,
    /// Names and addresses of the server
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "localhost,127.0.0.1,::1")]
    pub(crate) server_names: Vec<String>,
    /// Peer ids, each with a certificate of its own
    #[arg(long = "client", value_name = "IDS", value_delimiter = ',', default_value = "client-1")]
    pub(crate) clients: Vec<String>,
}

/// Prints the counters of a server or client that runs on this machine: what its engines count, how long things
/// take, and each session. It reads a file in memory; the engines do not notice. How long messages take to the kernel is
/// known of the first one in each sixteenth of a send ring.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  zerio stat\n  zerio stat 127.0.0.1:7000 --json\n  zerio stat --watch 5s"
)]
pub(crate) struct Stat {
    /// Which: its address, its process id, or its file [default: the only one that this user runs]
    pub(crate) which: Option<String>,
    /// Print again, each second or so often, what has happened since, until it ends or you end it
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = watching)]
    pub(crate) watch: Option<Duration>,
    /// Print JSON; with --watch a line each time
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows a running server or client live: its sessions, their rates, how full their rings are and for how long, and
/// how long its turns take. It goes on when the server ends, and when it is back.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: q quit, s sort by the next column, r reverse, / filter by peer or address, p pause, \
    arrows (or j and k), Page Up and Down, Home and End scroll.\n\n\
    What it shows: \"turns\" are how long engines took to go around; \"to kernel\" is from when a message was accepted until \
    the kernel had it, of the first message in each sixteenth of a send ring; \"failed\" are connections that ended by \
    themselves before they were sessions.\n\nExamples:\n  zerio top\n  zerio top 127.0.0.1:7000 --sort oldest"
)]
pub(crate) struct Top {
    /// Which: its address, its process id, or its file [default: the only one that this user runs]
    pub(crate) which: Option<String>,
    /// From one look to the next
    #[arg(long, short, default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// What to sort the sessions by
    #[arg(long, default_value = "in")]
    pub(crate) sort: SortBy,
}

/// Serves a thousand clients while others misbehave, come and go, are stopped and killed, and descriptors run
/// out; checks every message, and watches the server's memory. With each driver in turn, on this machine
/// alone, for so long and no longer.
#[cfg(unix)]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio torture\n  \
    zerio torture --seconds 5 --clients 100 --driver poll --json")]
pub(crate) struct Torture {
    /// How long with each driver, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// How many clients behave
    #[arg(long, default_value_t = 900, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub(crate) clients: u16,
    /// How many peers misbehave [default: one for nine that behave, and fifteen at the least]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    pub(crate) misbehaving: Option<u16>,
    /// How many connections come and go in a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) churn: u32,
    /// The ways to the kernel [default: all that this machine has]
    #[arg(long, value_delimiter = ',')]
    pub(crate) driver: Vec<Driver>,
    /// Print JSON in place of text
    #[arg(long)]
    pub(crate) json: bool,
    /// What a process is that it has started itself
    #[arg(long, hide = true, requires = "server")]
    pub(crate) role: Option<Role>,
    /// Whom that process goes to
    #[arg(long, hide = true)]
    pub(crate) server: Option<std::net::SocketAddr>,
}

#[cfg(unix)]
impl Torture {
    pub(crate) fn misbehaving(&self) -> usize {
        usize::from(self.misbehaving.unwrap_or((self.clients / 9).max(15)))
    }

    pub(crate) fn clients(&self) -> usize {
        usize::from(self.clients)
    }
}

#[cfg(unix)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// The clients that behave
    Clients,
    /// The peers that misbehave
    Peers,
    /// The one that is stopped and continued
    Stopped,
    /// One that is killed
    Killed,
}

/// Lets storms happen on a simulated network, one for each seed, and checks each step: servers, clients and
/// hostile peers do all they may, and what a network and a kernel can do wrong they do. It stops at the first fault
/// of the library, with the command that repeats it.
///
/// Without --seeds and --minutes: 100 seeds, or the one of --seed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio sim\n  zerio sim --minutes 10\n  \
    zerio sim --seed 0x1234 --steps 10000\n  zerio sim --tls")]
pub(crate) struct Sim {
    /// How many seeds
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seeds: Option<u64>,
    /// For how long; with --seeds, whichever is over first
    #[arg(long, value_parser = minutes)]
    pub(crate) minutes: Option<f64>,
    /// The first seed, decimal or 0x and hexadecimal; the others follow it [default: the clock's]
    #[arg(long, value_parser = seed)]
    pub(crate) seed: Option<u64>,
    /// Everybody speaks TLS 1.3, with certificates that are made on the spot
    #[arg(long)]
    pub(crate) tls: bool,
    /// Steps of each storm, its calm and its end not counted
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
}

/// Looks at this machine and says what costs latency or capacity here, and what to do.
///
/// Each line has what was found, what that costs, measured on the spot where it can be, and what to do. It takes some
/// three seconds and changes nothing. Settings are those of the server that is to run here.
///
/// A line is fine, costs something, or is wrong: what these settings ask for can't be had here, or nobody can want
/// what it costs. Exit status 1 where a line is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio doctor\n  \
    zerio doctor --sessions-max 10k --engines 2 --wait busy-spin --core 2,3\n  \
    zerio doctor --json | jq '.findings[] | select(.verdict == \"costs\")'")]
pub(crate) struct Doctor {
    /// How many engines, each with a thread and memory of its own
    #[arg(long, default_value_t = 1)]
    pub(crate) engines: usize,
    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) server: ServerSettings,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Prints a script that lets a shell complete commands and flags.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    zerio completions bash > ~/.local/share/bash-completion/completions/zerio\n  \
    zerio completions zsh > ~/.zfunc/_zerio  # a folder of your $fpath\n  \
    zerio completions fish > ~/.config/fish/completions/zerio.fish")]
pub(crate) struct Completions {
    pub(crate) shell: clap_complete::Shell,
}

/// Writes the manual: a page for the tool and one for each command, into a directory; without one, the tool's own to
/// standard output.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  zerio man | man -l -\n  \
    zerio man ~/.local/share/man/man1 && man zerio-serve")]
pub(crate) struct Man {
    /// Where to; it is made if there is none
    #[arg(value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
}

/// Settings of both sides.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// The longest message, in bytes [default: 64k]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) message_max: Option<usize>,
    /// Each session's send ring, in bytes; a power of two [default: 256k]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) send_ring: Option<usize>,
    /// Each session's receive buffer, in bytes [default: 256k]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) receive_buffer: Option<usize>,
    /// What an engine's thread does when idle: busy-spin, spin-then-park:20us, yield, sleep:50us, park
    /// [default: spin-then-park:20us]
    #[arg(long, value_name = "STRATEGY", value_parser = wait)]
    pub(crate) wait: Option<WaitStrategy>,
    /// The way to the kernel
    #[arg(long, default_value = "auto")]
    pub(crate) driver: Driver,
    /// The cores to pin the engines to, one for each
    #[arg(long, value_name = "CORE", value_delimiter = ',')]
    pub(crate) core: Vec<usize>,
    /// How long a connection may take to become a session [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) handshake_timeout: Option<Duration>,
    /// After how long without a sign of life a connection counts as dead [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) peer_timeout: Option<Duration>,
    /// How long the end may take to deliver what was accepted [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) drain_timeout: Option<Duration>,
    /// The kernel's send buffer for each socket, in bytes [default: the system's]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) socket_send_buffer: Option<usize>,
    /// The kernel's receive buffer for each socket, in bytes [default: the system's]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(crate) socket_receive_buffer: Option<usize>,
    /// The TCP congestion control, by the system's name for it [default: the system's]
    #[arg(long, value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Lets receives ask the network card for so long, where the engine spins; Linux only [default: the system's]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) busy_poll: Option<Duration>,
    /// The engines' real-time priority, 1 to 99 (SCHED_FIFO); on Linux and Windows [default: none]
    #[arg(long, value_name = "PRIORITY")]
    pub(crate) priority: Option<u8>,
    /// Asks for huge pages for rings and buffers; Linux only
    #[arg(long)]
    pub(crate) huge_pages: bool,
}

/// Settings of a server alone.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct ServerSettings {
    /// How many sessions at the most [default: 256]
    #[arg(long, value_name = "SESSIONS", value_parser = bytes)]
    pub(crate) sessions_max: Option<usize>,
    /// Disconnect a peer whose ring stayed full for so long [default: never]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) slow_peer_timeout: Option<Duration>,
    /// What a second connection with the same id comes to
    #[arg(long, default_value = "refuse")]
    pub(crate) same_id: SameId,
    /// How many connections from one address at the most; of IPv6 the first 64 bits count [default: any]
    #[arg(long, value_name = "CONNECTIONS", value_parser = bytes)]
    pub(crate) connections_per_address: Option<usize>,
    /// How many connections in a second at the most, on average [default: any]
    #[arg(long, value_name = "CONNECTIONS")]
    pub(crate) connections_per_second: Option<u32>,
    /// How many of those may come at once, after a pause [default: 100]
    #[arg(long, value_name = "CONNECTIONS")]
    pub(crate) connection_burst: Option<u32>,
    /// How many connections that have not said who they are; one more makes the one that has been silent for the
    /// longest leave [default: any]
    #[arg(long, value_name = "CONNECTIONS", value_parser = bytes)]
    pub(crate) handshakes_max: Option<usize>,
    /// Listen on every interface of this machine, as with 0.0.0.0 and [::], without TLS: nothing is encrypted and
    /// whoever reaches the port may come in as anybody
    #[arg(long)]
    pub(crate) insecure_everywhere: bool,
}
