//! One direction of a simulated connection: bytes that were sent, have arrived, and were received.
//!
//! ```text
//! received ≤ arrived ≤ sent ≤ received + room
//! ```
#![forbid(unsafe_code)]

use super::records::Records;

#[derive(Debug)]
pub(crate) struct Pipe {
    /// Made at the first byte, and given back when the receiver is gone.
    bytes: Vec<u8>,
    most: usize,
    received: u64,
    arrived: u64,
    sent: u64,
    /// How many the receiver was given: of those that it lost it was not.
    given: u64,
    /// When the last of them arrives: nothing that is sent later arrives before.
    last: u64,
    /// Since when its sender has found no room, where that is so.
    full: Option<u64>,
    /// Since when its sender sends nothing more.
    shut: Option<u64>,
    ended: bool,
    /// Present where somebody reads along.
    records: Option<Records>,
}

impl Pipe {
    pub(crate) fn new(most: usize) -> Pipe {
        Pipe {
            bytes: Vec::new(),
            most,
            received: 0,
            arrived: 0,
            sent: 0,
            given: 0,
            last: 0,
            full: None,
            shut: None,
            ended: false,
            records: None,
        }
    }

    /// Somebody reads along, from the first byte on.
    pub(crate) fn read_records(&mut self) {
        self.records = Some(Records::default());
    }

    /// What he has seen.
    pub(crate) fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn read_so_far(&self) -> u64 {
        self.given
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    pub(crate) fn room(&self) -> usize {
        self.most - (self.sent - self.received) as usize
    }

    pub(crate) fn readable(&self) -> usize {
        (self.arrived - self.received) as usize
    }

    #[cfg_attr(
        not(target_os = "linux"),
        allow(dead_code, reason = "only Linux is asked how a peer takes what is sent")
    )]
    pub(crate) fn is_empty(&self) -> bool {
        self.received == self.sent
    }

    /// Since when the sender sends nothing more, if so.
    pub(crate) fn shut_since(&self) -> Option<u64> {
        self.shut
    }

    pub(crate) fn shut(&mut self, now: u64) {
        self.shut = Some(now);
    }

    /// The receiver has heard so, and has got everything before.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended && self.arrived == self.received
    }

    /// Since when there has been no room, as far as somebody has looked for some.
    pub(crate) fn full_since(&self) -> Option<u64> {
        self.full
    }

    pub(crate) fn fill(&mut self, now: u64) {
        self.full = Some(now);
    }

    /// When what is sent now arrives, if it would like to at `time`.
    pub(crate) fn arrive_after(&mut self, time: u64) -> u64 {
        self.last = self.last.max(time);
        self.last
    }

    pub(crate) fn arrive(&mut self, upto: u64, last: bool) {
        self.arrived = self.arrived.max(upto);
        self.ended |= last;
    }

    /// Takes bytes, for which there is room.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.pass(bytes);
        if self.bytes.is_empty() {
            self.bytes = vec![0; self.most];
        }
        let at = (self.sent % self.most as u64) as usize;
        let first = bytes.len().min(self.most - at);
        self.bytes[at..at + first].copy_from_slice(&bytes[..first]);
        self.bytes[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.sent += bytes.len() as u64;
    }

    /// Takes bytes that nobody will receive.
    pub(crate) fn lose(&mut self, bytes: &[u8]) {
        self.pass(bytes);
        self.sent += bytes.len() as u64;
        (self.received, self.arrived) = (self.sent, self.sent);
    }

    fn pass(&mut self, bytes: &[u8]) {
        if let Some(records) = &mut self.records {
            records.pass(bytes);
        }
    }

    /// Gives bytes that have arrived.
    pub(crate) fn read(&mut self, into: &mut [u8]) {
        let at = (self.received % self.most as u64) as usize;
        let first = into.len().min(self.most - at);
        into[..first].copy_from_slice(&self.bytes[at..at + first]);
        let rest = into.len() - first;
        into[first..].copy_from_slice(&self.bytes[..rest]);
        self.received += into.len() as u64;
        self.full = None;
        self.given += into.len() as u64;
    }

    /// The receiver is gone, or has lost what it had not received.
    pub(crate) fn forget(&mut self) {
        (self.received, self.arrived) = (self.sent, self.sent);
        (self.bytes, self.full) = (Vec::new(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_their_order_and_only_after_they_arrived() {
        let mut pipe = Pipe::new(10);
        let mut into = [0; 7];
        pipe.write(b"1234567");
        assert_eq!((pipe.readable(), pipe.room()), (0, 3));
        pipe.arrive(7, false);
        pipe.read(&mut into);
        assert_eq!(&into, b"1234567");
        pipe.write(b"abcdefg");
        pipe.shut(0);
        pipe.arrive(14, true);
        assert!(!pipe.has_ended());
        pipe.read(&mut into);
        assert_eq!(&into, b"abcdefg");
        assert!(pipe.has_ended() && pipe.is_empty());
        assert_eq!(pipe.room(), 10);
    }
}
