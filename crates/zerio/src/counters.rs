//! Counters: one table of name and meaning, read at any time without stopping anything. Other processes
//! read them in a file: `file` writes it, `reader` reads it, `layout` says where everything stands, `map` maps it.
#![deny(unsafe_code)]

use std::fmt;

use crate::cursor::Tally;

#[cfg(feature = "metrics")]
mod facade;
pub(crate) mod file;
pub(crate) mod histogram;
pub(crate) mod layout;
mod map;
pub(crate) mod reader;

macro_rules! counters {
    ($(#[$about:meta])* $all:ident, $tallies:ident; $($name:ident: $meaning:literal,)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $all {
            $(#[doc = $meaning] pub $name: u64,)*
        }

        impl $all {
            /// Name, value and meaning of each counter, in a fixed order.
            pub fn table(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
                [$((stringify!($name), self.$name, $meaning),)*].into_iter()
            }

            /// Field by field.
            pub(crate) fn combine(&self, other: &$all, with: fn(u64, u64) -> u64) -> $all {
                $all { $($name: with(self.$name, other.$name),)* }
            }
        }

        /// The same, as the threads of zerio count: each has one writer at a time, unless it is added to
        /// by `add_shared`.
        #[derive(Debug, Default)]
        pub(crate) struct $tallies {
            $(pub(crate) $name: Tally,)*
        }

        impl $tallies {
            pub(crate) fn read(&self) -> $all {
                $all { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    /// What was sent.
    Sent, SentTallies;
    messages_accepted: "Messages accepted for sending.",
    bytes_sent: "Bytes that the kernel has taken, frame headers included; under TLS those of records, the handshake's too.",
    batches_sent: "Requests to send that the kernel has taken, in whole or in part.",
    short_sends: "Requests to send of which the kernel took a part only.",
    direct_sends: "Requests to send that a sending thread made itself, because the engine slept.",
    full_rings: "Sends that found no room in the ring.",
}

counters! {
    /// What was received.
    Received, ReceivedTallies;
    messages_received: "Messages handed to the handler.",
    bytes_received: "Bytes of those messages, frame headers included; under TLS as well.",
    batches_received: "Receives that brought at least one whole message.",
}

counters! {
    /// What one engine has done so far, its sessions apart.
    EngineTotals, EngineTallies;
    turns: "Turns of the engine.",
    longest_turn_ns: "The longest time from the start of a turn that did work to the start of the next.",
    parks: "Times that the engine parked in the kernel.",
    wake_ups: "Times that a sender or a handle woke the engine.",
    connected: "Sessions that began.",
    disconnected: "Sessions that ended.",
    refused: "Connections that were refused, with a reason.",
    refused_by_admission: "Of those refused, connections that the handler's `admit` did not let in.",
    refused_per_address: "Of those refused, connections over `connections_per_address`.",
    refused_per_second: "Of those refused, connections over `connections_per_second`.",
    refused_silent: "Of those refused, connections that made room for others, having been silent for the longest.",
    failed_handshakes: "Connections that ended by themselves before they became sessions.",
    bad_frames: "Frames that could not be one: too long, or with a reserved length.",
    messages_undelivered: "Messages accepted for sessions that ended before the kernel had taken them.",
    bytes_undelivered: "Bytes of those that the kernel had not taken, frame headers included.",
    accept_errors: "Attempts to accept a connection that failed, as for want of descriptors.",
}

/// What one session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounters {
    /// What was sent.
    pub sent: Sent,
    /// What was received.
    pub received: Received,
}

impl SessionCounters {
    /// Field by field.
    pub(crate) fn combine(&self, other: &SessionCounters, with: fn(u64, u64) -> u64) -> SessionCounters {
        SessionCounters {
            sent: self.sent.combine(&other.sent, with),
            received: self.received.combine(&other.received, with),
        }
    }

    /// Name, value and meaning of each counter, in a fixed order.
    pub fn table(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
        self.sent.table().chain(self.received.table())
    }
}

/// What one engine has done so far, or all engines of a server or client together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// What the engine did for itself.
    pub engine: EngineTotals,
    /// What it did for its sessions, those that have ended included.
    pub sessions: SessionCounters,
}

impl Counters {
    pub(crate) fn add(&mut self, other: &Counters) {
        let longest = self.engine.longest_turn_ns.max(other.engine.longest_turn_ns);
        self.sessions = self.sessions.combine(&other.sessions, |a, b| a + b);
        self.engine = self.engine.combine(&other.engine, |a, b| a + b);
        self.engine.longest_turn_ns = longest;
    }

    /// Name, value and meaning of each counter, in a fixed order.
    pub fn table(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
        self.sessions.table().chain(self.engine.table())
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value, meaning)) in self.table().enumerate() {
            let line_end = if index == 0 { "" } else { "\n" };
            write!(f, "{line_end}{value:>16}  {name:<18}  {meaning}")?;
        }
        Ok(())
    }
}
