//! What a configuration costs in memory: the sum, from which all is mapped at the start.
#![forbid(unsafe_code)]

use std::fmt;

use crate::counters::layout::Layout;

use super::{Config, ConfigError, DriverKind, HANDSHAKE_BYTES, TABLES_PER_SLOT};

/// What the table of addresses costs for each of its places, in bytes, and at its end; a test holds the first
/// against the types.
pub(crate) const ADDRESS_BYTES: usize = 33;
const ADDRESSES_END: usize = 16;

/// What a configuration costs in memory, in bytes. It is mapped at start and touched when it is used: a session that
/// has said nothing since its handshake has touched nothing of its ring and its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Slots for sessions, those included that only serve to refuse.
    pub slots: usize,
    /// Bytes of all send rings.
    pub send_rings: usize,
    /// Bytes of all receive buffers.
    pub receive_buffers: usize,
    /// Bytes for the first frames of all sessions, each way: one that says nothing else touches none of its ring and
    /// buffer.
    pub handshakes: usize,
    /// Bytes for what TLS has sealed and the kernel has not yet taken; none without TLS.
    pub sealed: usize,
    /// Bytes of the fixed tables, at the most.
    pub tables: usize,
    /// Bytes of the table of addresses, where `connections_per_address` needs one.
    pub addresses: usize,
    /// Bytes of the counters file, which takes memory where it is in memory, as in `/dev/shm`.
    pub counters_file: usize,
    /// Bytes of those above that the kernel keeps from being swapped out: what counts against
    /// `ulimit -l`.
    pub pinned: usize,
}

impl Memory {
    /// The whole sum, in bytes.
    pub fn total(&self) -> usize {
        let rings = [self.send_rings, self.receive_buffers, self.handshakes, self.sealed];
        let rest = [self.tables, self.addresses, self.counters_file];
        rings.into_iter().chain(rest).fold(0, usize::saturating_add)
    }

    /// What of it is not pinned, in bytes.
    pub fn unpinned(&self) -> usize {
        self.total() - self.pinned
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: usize| bytes.div_ceil(1024);
        writeln!(f, "{:>12} KiB  send rings, {} slots", kib(self.send_rings), self.slots)?;
        writeln!(f, "{:>12} KiB  receive buffers", kib(self.receive_buffers))?;
        writeln!(f, "{:>12} KiB  handshakes", kib(self.handshakes))?;
        if self.sealed > 0 {
            writeln!(f, "{:>12} KiB  sealed by TLS", kib(self.sealed))?;
        }
        writeln!(f, "{:>12} KiB  tables, at the most", kib(self.tables))?;
        writeln!(f, "{:>12} KiB  addresses", kib(self.addresses))?;
        if self.counters_file > 0 {
            writeln!(f, "{:>12} KiB  counters file", kib(self.counters_file))?;
        }
        writeln!(f, "{:>12} KiB  in all, mapped at start and touched when used", kib(self.total()))?;
        write!(f, "{:>12} KiB  of it pinned, {} KiB not", kib(self.pinned), kib(self.unpinned()))
    }
}

impl Config {
    /// The memory that a server with this configuration allocates at start.
    ///
    /// # Errors
    ///
    /// Where a value can't work.
    pub fn memory(&self) -> Result<Memory, ConfigError> {
        self.validate()?;
        // Each engine has its share of the sessions, and its spare slots. On 32 bits the sums may be over what counts.
        let slots = self.engines * self.slots_per_engine();
        let [send_rings, receive_buffers, sealed] =
            [self.send_ring, self.receive_buffer, self.sealed_bytes()].map(|each| slots.saturating_mul(each));
        // Registered I/O locks the memory that it uses. Readiness, and io_uring without registered buffers, pin
        // none.
        let registered = match self.driver {
            DriverKind::Auto => cfg!(windows),
            kind => kind == DriverKind::Rio,
        };
        let handshakes = slots * HANDSHAKE_BYTES;
        let rings =
            [send_rings, receive_buffers, handshakes, sealed].into_iter().fold(0, usize::saturating_add);
        let pinned = if registered { rings } else { 0 };
        let tables = slots * TABLES_PER_SLOT;
        let addresses = match self.addresses() {
            0 => 0,
            // A hash table is full with 7 of 8 places, and their number is a power of two.
            addresses => (addresses * 8).div_ceil(7).next_power_of_two() * ADDRESS_BYTES + ADDRESSES_END,
        };
        let counters_file = match self.counters_file {
            Some(_) => Layout::new(self.engines, self.slots_per_engine()).bytes(),
            None => 0,
        };
        Ok(Memory {
            slots,
            send_rings,
            receive_buffers,
            handshakes,
            sealed,
            tables,
            addresses,
            counters_file,
            pinned,
        })
    }

    /// For how many addresses the table is made that bounds connections from each: for twice as many as can be
    /// there at once, because with that many a hash table makes room in place, and never grows. There is one
    /// connection in each slot, and one for each on its way to another engine.
    pub(crate) fn addresses(&self) -> usize {
        match self.connections_per_address {
            Some(_) => 2 * (2 * self.engines * self.slots_per_engine() + 1),
            None => 0,
        }
    }
}
