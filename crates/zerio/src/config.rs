//! Every bound and choice, checked before anything starts; and the bill for the memory they cost.
#![forbid(unsafe_code)]

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod memory;

#[cfg(test)]
pub(crate) use memory::ADDRESS_BYTES;
pub use memory::Memory;

use crate::wait::WaitStrategy;
use crate::wire::{HEADER, HELLO_FRAME, HELLO_MAX};

/// The settings of a server or client. Make one with [`Config::default`], change what you want, and give
/// it to `config(…)`; it is checked when you start.
///
/// ```
/// use zerio::Config;
///
/// let mut config = Config::default();
/// config.message_max = 1024;
/// config.send_ring = 16 * 1024;
/// config.sessions_max = 1000;
/// println!("{}", config.memory()?);
/// # Ok::<(), zerio::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The longest message, in bytes, either way. A longer one is refused by `send`, and ends the
    /// session of a peer that announces it. Default 65,536.
    pub message_max: usize,
    /// Each session's send ring, in bytes: what may be accepted and not yet taken by the kernel. A power
    /// of two, at least about twice the longest message. Default 262,144.
    pub send_ring: usize,
    /// Each session's receive buffer, in bytes: what one receive may bring. It must hold the longest
    /// message and its 4-byte header. Default 262,144.
    pub receive_buffer: usize,
    /// How many sessions a server has at the most; one more is refused, with a reason. Default 256.
    pub sessions_max: usize,
    /// How many connections a server has from one address at the most, over all its engines, sessions or not yet;
    /// one more is refused, with a reason. A connection counts until this side has heard its end. Of IPv6 the first
    /// 64 bits are the address: that is the least that one customer is given, and he has all of the rest to choose
    /// from. Hosts that talk over link-local addresses, which have those bits in common, count as one. The table
    /// that counts has a place for each connection that there can be, so it is never full. Default: as many as come.
    pub connections_per_address: Option<usize>,
    /// How many connections a server accepts in a second, on average, over all its engines; what comes faster is
    /// refused, with a reason.
    /// Connections over `connections_per_address` do not count. Default: as many as come.
    pub connections_per_second: Option<u32>,
    /// How many connections may come at once after a pause, where `connections_per_second` bounds them. Default 100.
    pub connection_burst: u32,
    /// How many connections a server has that have not said who they are. One more makes the one that has been silent
    /// for the longest give up its place, with a reason: so nobody who is silent keeps others out. Each engine has
    /// its share. Default: as many as there are places for.
    pub handshakes_max: Option<usize>,
    /// How long a connection may take to become a session. A client gives up connecting after it.
    /// Default 5 s.
    pub handshake_timeout: Duration,
    /// After how long without a sign of life a connection counts as dead, at the latest: unacknowledged bytes
    /// (TCP_USER_TIMEOUT on Linux, TCP_MAXRT on Windows) and keepalive probes. The systems count in
    /// whole seconds, and those of Unix are told a little less, so it may be two and a half seconds sooner; what is below
    /// 3 s takes a little over 2 s.
    /// A peer whose system answers and whose program does not read is alive: that is `slow_peer_timeout`'s
    /// matter. Default 10 s, at most 65,534 s.
    pub peer_timeout: Duration,
    /// How long a session that is closed by this side may take to hand its accepted messages to the
    /// kernel and to hear that the peer has closed too; one whose reading is paused can't hear that, and
    /// takes all of it. Default 2 s.
    pub drain_timeout: Duration,
    /// How long `send` and `claim` wait for room. Default 5 s.
    pub send_timeout: Duration,
    /// Disconnects a peer whose send ring was found full and has not been half empty again for so
    /// long. Default: never.
    pub slow_peer_timeout: Option<Duration>,
    /// How many engines, each with a thread, memory and handler of its own; a client has one.
    /// Default 1. More than one takes `start_each`, or `start_tokio`.
    pub engines: usize,
    /// What an engine's thread does when a turn did no work; an engine that you drive returns from `poll` then, one that
    /// is a task of tokio's sleeps, and this says nothing. Default: spin for 20 µs, then park.
    pub wait: WaitStrategy,
    /// The cores to pin the engines' threads to, one for each engine; empty for no pinning. An engine that you drive
    /// is on a thread of yours, so there any is refused. Default empty.
    pub cores: Vec<usize>,
    /// The way to the kernel. Default [`DriverKind::Auto`].
    pub driver: DriverKind,
    /// From so many sessions with something to send in one turn on, the `uring` driver is given all of it with one call;
    /// for fewer each is sent by a call of its own, which is sooner over. 1 is always, `usize::MAX` never. Default 8.
    pub batch_from: usize,
    /// Who stays when a second connection comes with the same id. Default: the first.
    pub same_id: SameId,
    /// The size of each socket's send buffer in the kernel (SO_SNDBUF), in bytes; the system may round
    /// and bound it. Default: the system's own, which adapts itself.
    pub socket_send_buffer: Option<usize>,
    /// The size of each socket's receive buffer in the kernel (SO_RCVBUF), in bytes. Default: the
    /// system's own, which adapts itself.
    pub socket_receive_buffer: Option<usize>,
    /// The TCP congestion control, by the system's name for it; Linux and FreeBSD only. Default: the
    /// system's own.
    pub congestion: Option<String>,
    /// Lets a receive that finds nothing ask the network card itself before it says so (SO_BUSY_POLL), which
    /// spares the card's interrupt; Linux only. The time is for receives that block, of which zerio has none, so
    /// any time turns it on, and each receive asks once. It does something where an engine asks the sockets
    /// themselves: while it spins or is polled, with no more than four sessions. It is counted in µs; 1 s at the
    /// most. Older kernels take CAP_NET_ADMIN for more than `net.core.busy_read`, Linux 6.18 does not. Default: the
    /// system's own (`net.core.busy_read`, which is off where nobody has set it).
    pub busy_poll: Option<Duration>,
    /// The real-time priority of the engines' threads, 1 to 99: on Linux SCHED_FIFO, on Windows
    /// THREAD_PRIORITY_TIME_CRITICAL whatever the number; elsewhere it is refused. Linux allows it to who has
    /// CAP_SYS_NICE or an RLIMIT_RTPRIO as high. A polled engine is on a thread of yours, which stays as it is.
    /// Default: that of the thread that starts them.
    ///
    /// Such a thread gives its core to no ordinary thread before it sleeps. **One that spins for ever
    /// ([`BusySpin`](WaitStrategy::BusySpin), [`Yield`](WaitStrategy::Yield)) on a core that it has not for itself
    /// starves all others there**, parts of the kernel and your own senders included: all that Linux leaves them is a
    /// twentieth of the time (`kernel.sched_rt_runtime_us`). One that parks does so too, for a while, if it wakes up on the
    /// core of a sender that is just sending by itself: it waits for him. So give it a core that senders do not share.
    pub priority: Option<u8>,
    /// Asks for huge pages for all rings and buffers (MADV_HUGEPAGE), so that many sessions that are busy miss the
    /// processor's tables of pages less often; Linux only. The system may not have any at hand, or be told to give
    /// none (`/sys/kernel/mm/transparent_hugepage/enabled`), and says nothing then.
    ///
    /// The first byte that is touched makes 2 MiB resident, with it the rings or buffers of the neighbours: **when
    /// every session has spoken once, each holds its whole ring and buffer**, 512 KiB by default, in place of some
    /// pages. It takes up to 4 MiB of address space an engine that are on no bill. Default: off.
    pub huge_pages: bool,
    /// Whether sessions speak TLS, which takes memory for what is sealed. `tls(…)` of a builder sets it; set it yourself
    /// only to read the bill, [`Config::memory`], before there are certificates. Default: no.
    #[cfg(feature = "tls")]
    pub tls: bool,
    /// A file in which other processes can read the counters, sessions and latencies while it runs, with
    /// [`CountersFile`](crate::CountersFile) or `zerio stat` and `zerio top`: reading costs the engines nothing, and writing
    /// it some µs each tenth of a second. A path, or a name alone for a file in
    /// [`CountersFile::folder`](crate::CountersFile::folder). It is made at start, where the file of a process that has
    /// ended is replaced, and removed at the end. Default: none.
    pub counters_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            message_max: 64 * 1024,
            send_ring: 256 * 1024,
            receive_buffer: 256 * 1024,
            sessions_max: 256,
            connections_per_address: None,
            connections_per_second: None,
            connection_burst: 100,
            handshakes_max: None,
            handshake_timeout: Duration::from_secs(5),
            peer_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(2),
            send_timeout: Duration::from_secs(5),
            slow_peer_timeout: None,
            engines: 1,
            wait: WaitStrategy::default(),
            cores: Vec::new(),
            driver: DriverKind::Auto,
            batch_from: 8,
            same_id: SameId::RefuseNew,
            socket_send_buffer: None,
            socket_receive_buffer: None,
            congestion: None,
            busy_poll: None,
            priority: None,
            huge_pages: false,
            #[cfg(feature = "tls")]
            tls: false,
            counters_file: None,
        }
    }
}

/// An engine's way to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DriverKind {
    /// The best that this machine allows; what it took, and why, can be read from
    /// [`DriverInfo`](crate::DriverInfo). On Linux that is io_uring for engines of at most four sessions, as a client's
    /// is, and epoll for others, by what was measured (`BENCHMARKS.md`); on Windows Registered I/O.
    #[default]
    Auto,
    /// Readiness: epoll on Linux, kqueue on macOS and the BSDs, AFD on Windows.
    Poll,
    /// Completions: Linux's io_uring. Refused where it can't be had.
    Uring,
    /// Completions: Windows Registered I/O. Refused where it can't be had.
    Rio,
    /// The same over a model of what Windows does, for the library's own tests.
    #[cfg(feature = "rio-model")]
    #[doc(hidden)]
    RioModel,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DriverKind::Auto => "auto",
            DriverKind::Poll => "poll",
            DriverKind::Uring => "uring",
            DriverKind::Rio => "rio",
            #[cfg(feature = "rio-model")]
            DriverKind::RioModel => "rio-model",
        })
    }
}

/// Who stays when a second connection comes with an id that is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameId {
    /// The first: the new connection is refused.
    #[default]
    RefuseNew,
    /// The second: the old session is disconnected, then the new one begins.
    ReplaceOld,
}

/// A value of a [`Config`] that can't work: which, why, and what would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} = {value}: {why}; {instead}")]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// Why that can't work.
    pub why: String,
    /// What would do.
    pub instead: String,
}

impl ConfigError {
    pub(crate) fn new(
        setting: &'static str,
        value: impl fmt::Debug,
        why: impl Into<String>,
        instead: impl Into<String>,
    ) -> ConfigError {
        let value = format!("{value:?}");
        ConfigError { setting, value, why: why.into(), instead: instead.into() }
    }
}

/// Twice the longest TCP_KEEPIDLE that Linux takes, 32,767 s (tcp(7), MAX_TCP_KEEPIDLE).
const PEER_TIMEOUT_MAX: Duration = Duration::from_secs(2 * 32_767);

/// The longest sleep between two turns.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The longest busy poll. It is an `int` of µs to Linux, but nobody means minutes.
const BUSY_POLL_MAX: Duration = Duration::from_secs(1);

/// The largest ring or buffer, and so the largest span, in bytes.
const RING_LIMIT: usize = 1 << 30;

/// A ring gives room back in blocks of this part of its size.
pub(crate) const RING_BLOCKS: usize = 16;

/// Slots beyond `sessions_max` in each engine: a connection that comes when the server is full needs one
/// to hear so.
pub(crate) const SPARE_SLOTS: usize = 8;

/// Bytes for the handshake of each slot: a frame each way.
pub(crate) const HANDSHAKE_BYTES: usize = 2 * HELLO_FRAME;

/// So many TLS records of a session are sealed at once, at the most: one and a half of TCP's largest packets. Four were one
/// and a sliver of 140 bytes, and a message of 64 KiB left four bytes over (BENCHMARKS.md has what each number brought).
pub(crate) const SEALED_RECORDS: usize = 6;

/// Memory for them, and for one that announces another key: each 16 KiB and what a record costs beside.
pub(crate) const SEALED_BYTES: usize = SEALED_RECORDS * (16_384 + 22) + 64;

/// The longest TLS record of a peer: it must fit the receive buffer beside a frame that is not yet whole.
pub(crate) const SEALED_RECORD_MAX: usize = 5 + 16_384 + 256;

/// What the fixed tables cost for each slot, in bytes, at the most; a test holds it against the types.
pub(crate) const TABLES_PER_SLOT: usize = 6144;

/// The most connections that a limit on them may allow.
const CONNECTIONS_LIMIT: usize = 1_000_000;

impl Config {
    /// An engine's share of `handshakes_max`.
    pub(crate) fn handshakes_of(&self, engine: usize) -> usize {
        match self.handshakes_max {
            Some(all) => all / self.engines + usize::from(engine < all % self.engines),
            None => usize::MAX,
        }
    }

    /// Slots in each engine's table.
    pub(crate) fn slots_per_engine(&self) -> usize {
        self.sessions_max.div_ceil(self.engines) + SPARE_SLOTS
    }

    /// For a server or client that has what TLS needs, or has not.
    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(mut self, has: bool) -> Result<Config, ConfigError> {
        if self.tls && !has {
            let why = "there is no certificate, and nobody to trust";
            return Err(ConfigError::new("tls", true, why, "give it to the builder: `tls(…)`"));
        }
        self.tls = has;
        Ok(self)
    }

    /// Whether sessions speak TLS.
    pub(crate) fn is_sealed(&self) -> bool {
        #[cfg(feature = "tls")]
        let sealed = self.tls;
        #[cfg(not(feature = "tls"))]
        let sealed = false;
        sealed
    }

    /// Bytes of each slot for what TLS seals.
    pub(crate) fn sealed_bytes(&self) -> usize {
        if self.is_sealed() { SEALED_BYTES } else { 0 }
    }

    /// As a client needs it: one session, one engine.
    pub(crate) fn for_client(mut self) -> Config {
        self.sessions_max = 1;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let frame = self.message_max.saturating_add(HEADER);
        in_range("message_max", self.message_max, 1, RING_LIMIT / 4)?;
        let least = least_ring(frame);
        in_range("send_ring", self.send_ring, 0, RING_LIMIT)?;
        if !self.send_ring.is_power_of_two() {
            return Err(ConfigError::new(
                "send_ring",
                self.send_ring,
                "the ring's size must be a power of two",
                format!("{} would do", self.send_ring.next_power_of_two().max(least)),
            ));
        }
        if self.send_ring < least {
            return Err(ConfigError::new(
                "send_ring",
                self.send_ring,
                format!(
                    "a message of message_max = {} bytes must fit wherever the ring stands, which takes twice its frame and a sixteenth",
                    self.message_max
                ),
                format!("{least} would do, or a smaller message_max"),
            ));
        }
        let least = frame.max(HELLO_MAX + HEADER).max(4096);
        if self.receive_buffer < least {
            return Err(ConfigError::new(
                "receive_buffer",
                self.receive_buffer,
                format!(
                    "it must hold a message of message_max = {} bytes with its header, and at least a page",
                    self.message_max
                ),
                format!("{least} would do"),
            ));
        }
        let least = frame.max(HELLO_MAX + HEADER) + SEALED_RECORD_MAX;
        if self.is_sealed() && self.receive_buffer < least {
            return Err(ConfigError::new(
                "receive_buffer",
                self.receive_buffer,
                format!(
                    "with TLS it must hold a message of message_max = {} bytes with its header, and a record",
                    self.message_max
                ),
                format!("{least} would do"),
            ));
        }
        in_range("receive_buffer", self.receive_buffer, 4096, RING_LIMIT)?;
        in_range("sessions_max", self.sessions_max, 1, 1_000_000)?;
        in_range("engines", self.engines, 1, self.sessions_max.min(64))?;
        in_range("batch_from", self.batch_from, 1, usize::MAX)?;
        self.validate_admission()?;
        for (setting, value) in [
            ("handshake_timeout", Some(self.handshake_timeout)),
            ("peer_timeout", Some(self.peer_timeout)),
            ("drain_timeout", Some(self.drain_timeout)),
            ("send_timeout", Some(self.send_timeout)),
            ("slow_peer_timeout", self.slow_peer_timeout),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                let why = "nothing could be done in no time";
                return Err(ConfigError::new(setting, Duration::ZERO, why, "1 ms or more would do"));
            }
        }
        if self.peer_timeout > PEER_TIMEOUT_MAX {
            let why = "the systems take no longer time before the first keepalive probe, which is half of it";
            let instead = format!("{} s would do", PEER_TIMEOUT_MAX.as_secs());
            return Err(ConfigError::new("peer_timeout", self.peer_timeout, why, instead));
        }
        if let WaitStrategy::Sleep(pause) = self.wait
            && pause > SLEEP_MAX
        {
            let why = "nothing wakes a sleep, so each message and each stop would wait for it";
            return Err(ConfigError::new("wait", self.wait, why, "sleep a second at the most, or say Park"));
        }
        if let WaitStrategy::Sleep(Duration::ZERO) = self.wait {
            let why = "a sleep of no time is a busy spin";
            return Err(ConfigError::new("wait", self.wait, why, "say BusySpin, or sleep 1 µs or more"));
        }
        if !self.cores.is_empty() && self.cores.len() != self.engines {
            return Err(ConfigError::new(
                "cores",
                &self.cores,
                format!("there are {} engines, and each needs a core", self.engines),
                "name as many cores as engines, or none",
            ));
        }
        for (setting, value) in [
            ("socket_send_buffer", self.socket_send_buffer),
            ("socket_receive_buffer", self.socket_receive_buffer),
        ] {
            in_range(setting, value.unwrap_or(4096), 1, RING_LIMIT)?;
        }
        if let Some(time) = self.busy_poll
            && !(Duration::from_micros(1)..=BUSY_POLL_MAX).contains(&time)
        {
            let why = "the system counts it in µs, and a receive that asked for longer would do nothing else";
            return Err(ConfigError::new("busy_poll", time, why, "1 µs to 1 s would do"));
        }
        in_range("priority", self.priority.unwrap_or(1).into(), 1, 99)
    }

    fn validate_admission(&self) -> Result<(), ConfigError> {
        let (per_second, burst) =
            (self.connections_per_second.map(|n| n as usize), self.connection_burst as usize);
        in_range("connections_per_address", self.connections_per_address.unwrap_or(1), 1, CONNECTIONS_LIMIT)?;
        in_range("connections_per_second", per_second.unwrap_or(1), 1, CONNECTIONS_LIMIT)?;
        in_range("connection_burst", burst, 1, CONNECTIONS_LIMIT)?;
        match self.handshakes_max {
            Some(max) if max < self.engines => {
                let why =
                    format!("each of {} engines takes connections, and needs a share of it", self.engines);
                Err(ConfigError::new("handshakes_max", max, why, format!("{} would do", self.engines)))
            }
            max => in_range("handshakes_max", max.unwrap_or(1), 1, CONNECTIONS_LIMIT),
        }
    }
}

/// The smallest ring in which a frame fits wherever an empty ring stands: what is skipped before the
/// ring's start is less than a frame, and a block may not be free yet.
fn least_ring(frame: usize) -> usize {
    let mut ring = 4096;
    while ring - ring / RING_BLOCKS < 2 * frame {
        ring *= 2;
    }
    ring
}

fn in_range(setting: &'static str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    let (why, instead) = if value < min {
        (format!("the least is {min}"), min)
    } else if value > max {
        (format!("the most is {max}"), max)
    } else {
        return Ok(());
    };
    Err(ConfigError::new(setting, value, why, format!("{instead} would do")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
        let mut config = Config::default();
        change(&mut config);
        config.validate()
    }

    fn refused(setting: &str, change: impl FnOnce(&mut Config)) -> ConfigError {
        let error = check(change).expect_err("refused");
        assert_eq!(error.setting, setting, "{error}");
        error
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn limits_hold_just_inside_and_break_just_outside() {
        check(|c| c.message_max = 1).unwrap();
        refused("message_max", |c| c.message_max = 0);
        // 2 × (122,876 + 4) is 15/16 of the default ring.
        check(|c| c.message_max = 122_876).unwrap();
        let error = refused("send_ring", |c| c.message_max = 122_877);
        assert!(error.instead.contains("524288"), "{error}");
        check(|c| c.send_ring = 1 << 30).unwrap();
        refused("send_ring", |c| c.send_ring = 1 << 31);
        let error = refused("send_ring", |c| c.send_ring = 200_000);
        assert!(error.to_string().contains("262144 would do"), "{error}");
        check(|c| c.receive_buffer = 65_540).unwrap();
        refused("receive_buffer", |c| c.receive_buffer = 65_539);
        check(|c| c.sessions_max = 1).unwrap();
        refused("sessions_max", |c| c.sessions_max = 0);
        check(|c| c.engines = 64).unwrap();
        refused("engines", |c| c.engines = 65);
        refused("engines", |c| (c.engines, c.sessions_max) = (2, 1));
        refused("engines", |c| c.engines = 0);
        for most in [1, 1_000_000] {
            check(|c| c.connections_per_address = Some(most as usize)).unwrap();
            check(|c| c.connections_per_second = Some(most)).unwrap();
            check(|c| c.connection_burst = most).unwrap();
            check(|c| c.handshakes_max = Some(most as usize)).unwrap();
        }
        for wrong in [0, 1_000_001] {
            refused("connections_per_address", |c| c.connections_per_address = Some(wrong as usize));
            refused("connections_per_second", |c| c.connections_per_second = Some(wrong));
            refused("connection_burst", |c| c.connection_burst = wrong);
            refused("handshakes_max", |c| c.handshakes_max = Some(wrong as usize));
        }
        check(|c| (c.engines, c.handshakes_max) = (3, Some(3))).unwrap();
        refused("handshakes_max", |c| (c.engines, c.handshakes_max) = (3, Some(2)));
        refused("handshake_timeout", |c| c.handshake_timeout = Duration::ZERO);
        refused("peer_timeout", |c| c.peer_timeout = Duration::ZERO);
        check(|c| c.peer_timeout = Duration::from_secs(65_534)).unwrap();
        refused("peer_timeout", |c| c.peer_timeout = Duration::from_millis(65_534_001));
        refused("drain_timeout", |c| c.drain_timeout = Duration::ZERO);
        refused("send_timeout", |c| c.send_timeout = Duration::ZERO);
        refused("slow_peer_timeout", |c| c.slow_peer_timeout = Some(Duration::ZERO));
        refused("wait", |c| c.wait = WaitStrategy::Sleep(Duration::ZERO));
        check(|c| c.wait = WaitStrategy::Sleep(Duration::from_secs(1))).unwrap();
        refused("wait", |c| c.wait = WaitStrategy::Sleep(Duration::from_millis(1001)));
        check(|c| c.cores = vec![0]).unwrap();
        refused("cores", |c| c.cores = vec![0, 1]);
        refused("socket_send_buffer", |c| c.socket_send_buffer = Some(0));
        refused("socket_receive_buffer", |c| c.socket_receive_buffer = Some(0));
        check(|c| c.busy_poll = Some(Duration::from_micros(1))).unwrap();
        refused("busy_poll", |c| c.busy_poll = Some(Duration::from_nanos(999)));
        check(|c| c.busy_poll = Some(Duration::from_secs(1))).unwrap();
        refused("busy_poll", |c| c.busy_poll = Some(Duration::from_millis(1001)));
        for (inside, outside) in [(1, 0), (99, 100)] {
            check(|c| c.priority = Some(inside)).unwrap();
            refused("priority", |c| c.priority = Some(outside));
        }
    }

    #[test]
    fn the_shares_of_the_engines_are_all_of_it() {
        let config = Config { engines: 3, handshakes_max: Some(8), ..Config::default() };
        assert_eq!([0, 1, 2].map(|engine| config.handshakes_of(engine)), [3, 3, 2]);
        assert_eq!(Config::default().handshakes_of(0), usize::MAX);
    }

    #[test]
    fn the_bill_is_the_sum_of_its_lines() {
        let config = Config { sessions_max: 10, engines: 3, ..Config::default() };
        let memory = config.memory().unwrap();
        assert_eq!(memory.slots, 3 * (4 + SPARE_SLOTS));
        assert_eq!(memory.send_rings, memory.slots * 256 * 1024);
        assert_eq!(memory.total(), memory.pinned + memory.unpinned());
        assert_eq!(memory.pinned > 0, cfg!(windows));
        // The kernel keeps all of it where it is for Registered I/O.
        let registered = Config { driver: DriverKind::Rio, ..config.clone() }.memory().unwrap();
        assert_eq!(registered.pinned, memory.send_rings + memory.receive_buffers + memory.handshakes);
        let more = Config { sessions_max: 20, ..config }.memory().unwrap();
        assert!(more.total() > memory.total());
        let bounded = Config { connections_per_address: Some(1), ..Config::default() }.memory().unwrap();
        assert_eq!(Config::default().memory().unwrap().addresses, 0);
        assert_eq!(bounded.total(), Config::default().memory().unwrap().total() + bounded.addresses);
        assert!(bounded.addresses > 0);
    }
}
