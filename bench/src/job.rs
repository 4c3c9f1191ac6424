//! What a process is told to do, and what it answers: one line of JSON each way.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// Who plays a side of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Peer {
    /// Sockets and nothing in between: the control.
    Bare,
    Zerio,
    /// tokio, with tokio-util's LengthDelimitedCodec.
    Tokio,
    /// libzmq, ROUTER and DEALER.
    Zmq,
    /// The AEAD of TLS' records and no connection: the control of streams under TLS, and there wherever bare sockets are.
    #[value(skip)]
    Aead,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Peer::Bare => "bare",
            Peer::Zerio => "zerio",
            Peer::Tokio => "tokio",
            Peer::Zmq => "zmq",
            Peer::Aead => "aead",
        })
    }
}

/// What the two sides do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    /// One client, one message there and back at a time.
    RoundTrip,
    /// One client sends as fast as it can; the server counts.
    Stream,
    /// Many clients, one message out for each, echoed.
    Crowd,
    /// The server sends the same messages to many clients as fast as it can.
    Fan,
    /// One client sends when a message is due, whatever comes back; echoed.
    Paced,
    /// Clients connect, shake hands, send one message and close, one after the other.
    Connect,
    /// Many clients connect, and then say nothing.
    Hold,
}

/// How a side drives its sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Drive {
    /// A loop that tries again at once: zerio's polled way, non-blocking sockets.
    Spin,
    /// As it comes: zerio's threads and its default wait strategy, blocking sockets or a bare epoll loop.
    Default,
    /// As `Default`, but an engine that has nothing to do parks at once, so that its processor time is work and
    /// nothing else.
    Park,
}

/// zerio's way to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    Auto,
    Poll,
    Uring,
}

/// What a core is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pins {
    /// The process, with all of its threads.
    Process,
    /// zerio's engine alone, by its own setting; the others go where the system likes.
    Engine,
}

/// What is set of zerio beyond its defaults, on both sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Options {
    pub(crate) congestion: Option<String>,
    pub(crate) busy_poll: Option<Duration>,
    pub(crate) priority: Option<u8>,
    pub(crate) huge_pages: bool,
}

/// A run, as both of its processes are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) task: Task,
    /// Who plays the server.
    pub(crate) peer: Peer,
    /// Who plays the clients: the same, or bare sockets where what is measured is the server.
    pub(crate) load: Peer,
    pub(crate) drive: Drive,
    pub(crate) driver: Driver,
    /// zerio's setting of that name, where it is not the default.
    pub(crate) batch_from: Option<usize>,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) clients: usize,
    /// Threads that send on one session.
    pub(crate) senders: usize,
    pub(crate) engines: usize,
    /// Messages a second, where they are paced.
    pub(crate) rate: u64,
    /// The control of `Fan` writes so many messages to a client with one call.
    pub(crate) batch: usize,
    pub(crate) warm_up: Duration,
    pub(crate) run: Duration,
    /// The core to stay on, and who stays there.
    pub(crate) core: Option<usize>,
    pub(crate) pins: Pins,
    pub(crate) options: Options,
    /// Whether TLS is between the frames and the sockets.
    pub(crate) tls: bool,
    /// Told to the client.
    pub(crate) server: Option<Listening>,
}

/// The server of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) address: SocketAddr,
    pub(crate) process: i32,
    /// Under TLS what it shows, in PEM.
    pub(crate) certificate: Option<String>,
}

impl Job {
    /// Where the server listens.
    pub(crate) fn address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.listening()?.address)
    }

    /// What the server shows under TLS, in PEM.
    pub(crate) fn certificate(&self) -> Result<&str, Failure> {
        self.listening()?.certificate.as_deref().ok_or_else(|| Failure::new("the server has no certificate"))
    }

    pub(crate) fn listening(&self) -> Result<&Listening, Failure> {
        self.server.as_ref().ok_or_else(|| Failure::new("no server was named"))
    }
}

/// What a process says on its standard output, a line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// What a server will show, before it listens; under TLS only.
    Certificate(String),
    /// A server listens; zerio tells its driver.
    Ready { port: u16, driver: Option<String> },
    /// A client has all its connections, and begins.
    Connected,
    /// A client's result.
    Done(Box<Outcome>),
    /// A server's last word, in answer to `end`.
    Ended { allocations: Option<u64>, cpu: Duration },
    /// Why it could not.
    Failed(String),
}

/// What a server hears on its standard input, a line each. The end of the input ends every process.
pub(crate) const BEGIN: &str = "begin";
pub(crate) const END: &str = "end";

/// What a run came to, as its client saw it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Counted where they arrived, or where their answers did.
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) latency: Option<Latency>,
    /// The server's processor time meanwhile, all of its threads.
    pub(crate) server_cpu: Option<Duration>,
    /// What each sender sent, or each client received.
    pub(crate) shares: Vec<u64>,
    /// The server's resident memory before the clients came, and with all of them.
    pub(crate) resident: Option<(u64, u64)>,
    pub(crate) allocations: Option<u64>,
    /// zerio's, the server's.
    pub(crate) driver: Option<String>,
}

/// In nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p90: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) p9999: u64,
    pub(crate) max: u64,
}
