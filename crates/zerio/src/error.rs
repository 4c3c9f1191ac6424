//! What can go wrong, typed: who is at fault, and what to do next.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::config::ConfigError;

mod tls;

pub use tls::{Alert, CertificateFault, TlsFault};

/// Why a server or client could not be started, or its engine ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value of the configuration can't work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The client's id can't be one.
    #[error("the peer id {id:?} can't be used: {why}")]
    BadPeerId {
        /// What was given.
        id: String,
        /// What is wrong with it.
        #[source]
        why: BadPeerId,
    },
    /// The address could not be turned into an IP address and a port.
    #[error("can't resolve {address}: {why}; give HOST:PORT, as in 127.0.0.1:7000 or [::1]:7000")]
    Resolve {
        /// What was given.
        address: String,
        /// What the resolver said.
        #[source]
        why: io::Error,
    },
    /// The server's address can't be listened on.
    #[error("can't listen on {address}: {why}{}", bind_hint(.why))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        why: io::Error,
    },
    /// No connection to the server came about.
    #[error("can't connect to {address}: {why}{}", connect_hint(.why))]
    Connect {
        /// The server's address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        why: io::Error,
    },
    /// The server did not answer within the handshake deadline.
    #[error("{address} did not answer within {}: is it a zerio server, and does it run?", Millis(*.after))]
    TimedOut {
        /// The server's address.
        address: String,
        /// The handshake deadline.
        after: std::time::Duration,
    },
    /// The server said no.
    #[error("{address} refused the connection: {text}")]
    Refused {
        /// The server's address.
        address: SocketAddr,
        /// The reason.
        code: RefusalCode,
        /// The reason in the server's words.
        text: String,
    },
    /// The other side's answer to the handshake is none that a zerio server gives.
    #[error("{address} did not answer as a zerio server does: {what}; is it one, and does it run?")]
    NotZerio {
        /// The server's address.
        address: SocketAddr,
        /// What it did instead.
        what: Reason,
    },
    /// TLS kept the connection from becoming a session.
    #[error("no session with {address}: {what}")]
    Tls {
        /// The server's address.
        address: SocketAddr,
        /// What was wrong.
        what: TlsFault,
    },
    /// A certificate, a key, or a name for TLS can't be used.
    #[error("can't use {what}: {why}")]
    Credentials {
        /// Which, or which file.
        what: String,
        /// Why not.
        why: String,
    },
    /// The driver that was asked for can't be had on this machine.
    #[error("the {driver} driver can't be used here: {why}; `auto` takes the best that can")]
    Driver {
        /// The driver's name.
        driver: &'static str,
        /// What the system said.
        why: String,
    },
    /// There is no runtime of tokio's that the engine could run in (feature `tokio`).
    #[error("can't run on tokio: {why}")]
    Runtime {
        /// What is missing, and what brings it.
        why: &'static str,
    },
    /// The counters file that was asked for can't be made.
    #[error("can't make the counters file {}: {why}", .path.display())]
    CountersFile {
        /// Its path, or its name.
        path: std::path::PathBuf,
        /// What is in the way.
        #[source]
        why: io::Error,
    },
    /// The system did not give what an engine needs: memory, a thread, a descriptor.
    #[error("the system refused {what}: {why}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        #[source]
        why: io::Error,
    },
    /// The engine has ended, and with it its sessions.
    #[error("the engine has ended: {0}")]
    Engine(EngineFailure),
}

/// Why an engine ended before it was stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineFailure {
    /// A handler panicked, with this message.
    #[error("a handler panicked: {0}")]
    HandlerPanicked(String),
    /// The driver failed, for this reason.
    #[error("the driver failed: {0}")]
    DriverFailed(io::ErrorKind),
    /// The completion queue of Windows' Registered I/O is corrupt. All sessions of the engine are lost with it.
    #[error(
        "Registered I/O says that its completion queue is corrupt: memory was overwritten, or it was misused"
    )]
    QueueCorrupt,
}

fn bind_hint(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program listens there: choose another port, or port 0 for a free one"
        }
        io::ErrorKind::PermissionDenied if cfg!(windows) => {
            "; another program has it for itself, or the system has reserved it (`netsh interface ipv4 show excludedportrange protocol=tcp`): choose another port"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}

fn connect_hint(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::ConnectionRefused => {
            "; nobody listens there: is the server started, and is this its port?"
        }
        _ => "",
    }
}

struct Millis(std::time::Duration);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0.as_millis())
    }
}

/// What is wrong with a peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPeerId {
    /// It has no bytes.
    #[error("it is empty; 1 to 255 bytes will do")]
    Empty,
    /// It has more than 255 bytes.
    #[error("it is {len} bytes long; 255 is the most")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It has a control character in it.
    #[error("it has a control character in it")]
    ControlCharacter,
    /// It was followed by a feature block that is ill-formed.
    #[error("the feature block behind it is ill-formed")]
    BadFeatures,
}

/// Why a message was not accepted for sending. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The session's ring has no room for it now, because the peer reads more slowly than you send; or
    /// another thread holds a claim on it. Try later, or use `send`, which waits.
    #[error("the peer's send ring is full: it reads more slowly than you send, or a claim is held open")]
    Full,
    /// The session's ring had no room for it until the deadline.
    #[error("the peer's send ring was full until the deadline")]
    TimedOut,
    /// The message is longer than `message_max`.
    #[error("a message of {len} bytes is over message_max, {max} bytes")]
    TooLarge {
        /// Its length in bytes.
        len: usize,
        /// The configured `message_max`.
        max: usize,
    },
    /// The session has ended, is ending, or has not begun; or the whole server has been stopped, or has ended
    /// because its handler panicked.
    #[error("the session is closed")]
    Closed,
    /// Nobody with that id is connected.
    #[error("no peer with that id is connected")]
    UnknownPeer,
}

/// A frame that can't be one. Whoever sent it is at fault, or speaks another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It announces more than `message_max` bytes.
    #[error("a frame of {len} bytes, over the limit of {max}")]
    TooLong {
        /// The announced length in bytes.
        len: u32,
        /// The limit in bytes.
        max: u32,
    },
    /// The length's top bit is set, which nobody agreed on.
    #[error("a frame length of {len:#010x}, whose top bit is reserved")]
    Reserved {
        /// The announced length.
        len: u32,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The peer closed the connection, between two messages.
    PeerClosed,
    /// The peer closed the connection in the middle of a frame.
    Truncated {
        /// How many bytes of the frame had come.
        received: usize,
    },
    /// The connection failed: it was reset, or timed out (`peer_timeout`), or the network is gone.
    Connection(io::ErrorKind),
    /// The peer sent a frame that can't be one.
    BadFrame(FrameError),
    /// The peer read so slowly that its ring stayed full for `slow_peer_timeout`.
    SlowPeer,
    /// This side disconnected it.
    Disconnected,
    /// Another connection came with the same id, and the configuration says that the newer one stays.
    Replaced,
    /// This side's server or client was stopped.
    Stopped,
    /// A handler panicked, which ended the engine. A handle on the session says [`SendError::Closed`] from then on; a send
    /// by its id, where other engines of the server go on, [`SendError::UnknownPeer`].
    HandlerPanicked,
    /// The engine's driver failed.
    DriverFailed(io::ErrorKind),
    /// The answer to the handshake was none that a zerio server gives.
    BadAnswer,
    /// TLS found something wrong.
    Tls(TlsFault),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::PeerClosed => f.write_str("it closed the connection"),
            Reason::Truncated { received } => {
                write!(f, "it closed the connection in the middle of a frame, after {received} bytes of it")
            }
            Reason::Connection(kind) => write!(f, "the connection failed: {kind}"),
            Reason::BadFrame(error) => write!(f, "it sent {error}"),
            Reason::SlowPeer => f.write_str("it read too slowly for too long"),
            Reason::Disconnected => f.write_str("this side disconnected it"),
            Reason::Replaced => f.write_str("a newer connection with the same id replaced it"),
            Reason::Stopped => f.write_str("this side stopped"),
            Reason::HandlerPanicked => f.write_str("a handler panicked"),
            Reason::DriverFailed(kind) => write!(f, "the driver failed: {kind}"),
            Reason::BadAnswer => f.write_str("it gave an answer that no zerio server gives"),
            Reason::Tls(fault) => fault.fmt(f),
        }
    }
}

/// What was accepted for sending and not handed to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// Messages of which the kernel did not take every byte.
    pub messages: u64,
    /// Bytes that the kernel did not take, frame headers included.
    pub bytes: u64,
}

impl Undelivered {
    /// Whether everything was handed to the kernel.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }
}

/// So many of them, in words.
pub(crate) struct Counted(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counted(number, what) = self;
        write!(f, "{number} {what}{}", if *number == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) undelivered", Counted(self.messages, "message"), Counted(self.bytes, "byte"))
    }
}

/// How a session ended: why, and what was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disconnection {
    /// Why it ended.
    pub reason: Reason,
    /// What was accepted for sending and not handed to the kernel.
    pub undelivered: Undelivered,
}

impl fmt::Display for Disconnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)?;
        if !self.undelivered.is_empty() {
            write!(f, "; {}", self.undelivered)?;
        }
        Ok(())
    }
}

/// Why a server refuses a connection, as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalCode {
    /// 1: another connection has that id.
    AlreadyConnected,
    /// 2: `sessions_max` sessions are open; or the connection made room for others, as the one that has been
    /// silent for the longest.
    ServerFull,
    /// 3: the server does not let this id in, as its [`admit`](crate::Handler::admit) has said; the text is its.
    NotAllowed,
    /// 4: the first frame is no peer id.
    BadPeerId,
    /// 5: the first frame did not come in time.
    TooLate,
    /// 6: the first frame is too long, or its length is reserved.
    BadFrame,
    /// 7: the server is stopping.
    Stopping,
    /// 8: there are `connections_per_address` connections from its address.
    TooManyFromAddress,
    /// 9: connections come faster than `connections_per_second`.
    TooManyPerSecond,
    /// 10: the server speaks TLS, and the client does not.
    TlsRequired,
    /// 11: the client speaks TLS, and the server does not.
    NoTls,
    /// 12: the id is not what the client's certificate says.
    NotInCertificate,
    /// Any other code: the server is newer than this client.
    Other(u8),
}

impl RefusalCode {
    /// Every code that this version gives.
    pub(crate) const ALL: [RefusalCode; 12] = [
        RefusalCode::AlreadyConnected,
        RefusalCode::ServerFull,
        RefusalCode::NotAllowed,
        RefusalCode::BadPeerId,
        RefusalCode::TooLate,
        RefusalCode::BadFrame,
        RefusalCode::Stopping,
        RefusalCode::TooManyFromAddress,
        RefusalCode::TooManyPerSecond,
        RefusalCode::TlsRequired,
        RefusalCode::NoTls,
        RefusalCode::NotInCertificate,
    ];

    pub(crate) fn to_byte(self) -> u8 {
        match self {
            RefusalCode::AlreadyConnected => 1,
            RefusalCode::ServerFull => 2,
            RefusalCode::NotAllowed => 3,
            RefusalCode::BadPeerId => 4,
            RefusalCode::TooLate => 5,
            RefusalCode::BadFrame => 6,
            RefusalCode::Stopping => 7,
            RefusalCode::TooManyFromAddress => 8,
            RefusalCode::TooManyPerSecond => 9,
            RefusalCode::TlsRequired => 10,
            RefusalCode::NoTls => 11,
            RefusalCode::NotInCertificate => 12,
            RefusalCode::Other(byte) => byte,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> RefusalCode {
        let known = RefusalCode::ALL.into_iter().find(|code| code.to_byte() == byte);
        known.unwrap_or(RefusalCode::Other(byte))
    }

    /// The reason in words, as this version sends it; at most 96 bytes.
    pub(crate) fn text(self) -> &'static str {
        match self {
            RefusalCode::AlreadyConnected => "id already connected",
            RefusalCode::ServerFull => "server full",
            RefusalCode::NotAllowed => "id not allowed",
            RefusalCode::BadPeerId => "bad id: 1 to 255 bytes of UTF-8 without control characters",
            RefusalCode::TooLate => "no id within the handshake deadline",
            RefusalCode::BadFrame => "first frame too long",
            RefusalCode::Stopping => "server stopping",
            RefusalCode::TooManyFromAddress => "too many connections from this address",
            RefusalCode::TooManyPerSecond => "too many new connections, try again later",
            RefusalCode::TlsRequired => "this server speaks TLS",
            RefusalCode::NoTls => "this server speaks no TLS",
            RefusalCode::NotInCertificate => "id not what the certificate says",
            RefusalCode::Other(_) => "another reason",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a connection ended before it became a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The server refused it, and told it why.
    Refused(RefusalCode),
    /// It ended by itself before its handshake was done.
    Ended(Reason),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rejection::Refused(code) => write!(f, "refused: {code}"),
            Rejection::Ended(reason) => reason.fmt(f),
        }
    }
}
