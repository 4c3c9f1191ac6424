//! The pump under TLS: what becomes of committed bytes, record by record, as the other side opens them.
#![forbid(unsafe_code)]

use super::*;
use crate::config::{SEALED_BYTES, SEALED_RECORDS};
use crate::tls::inbound::{Inbound, Message, News};
use crate::tls::keys::Keys;
use crate::tls::keys::tests::shaken_hands;
use crate::tls::record::{OVERHEAD, PLAIN_MAX, record_len};

/// A batch fits more than twice.
const RING: usize = 1 << 18;

/// A path whose session speaks TLS, and who hears it.
struct Sealing {
    path: SendPath,
    driver: Fake,
    heard: Heard,
}

/// The other side of it.
struct Heard {
    inbound: Inbound,
    keys: Keys,
    plain: Vec<u8>,
    /// How many bytes each record carried, under each key; one that brings another key is the last of its own.
    records: Vec<Vec<usize>>,
}

impl Heard {
    /// Opens whole records.
    fn open(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (record, rest) = bytes.split_at(record_len(bytes));
            let mut area = record.to_vec();
            let piece = self.inbound.open(&mut area, 0).unwrap().expect("a whole record");
            self.records.last_mut().unwrap().push(piece.plain);
            self.plain.extend_from_slice(&area[..piece.plain]);
            if let News::Messages(bytes) = piece.news {
                self.inbound.keep(&area[..bytes]).unwrap();
                assert_eq!(self.inbound.next_message(), Ok(Some(Message::KeyUpdate { asked: false })));
                self.inbound.renew(self.keys.next_opener().unwrap());
                self.records.push(Vec::new());
            }
            bytes = rest;
        }
    }
}

impl Sealing {
    /// So many records may be sealed with one key.
    fn new(limit: u64) -> Sealing {
        let (region, mut cutter) = Region::new(RING + HELLO_FRAME + SEALED_BYTES).unwrap();
        let ring = Ring::new(region.clone(), cutter.cut(RING));
        let (bell, greeting) = (Arc::new(Doorbell::new(1)), cutter.cut(HELLO_FRAME));
        let path = SendPath::new(ring, greeting, bell, 0, RING / 2).under_tls(cutter.cut(SEALED_BYTES));
        path.open(ID.generation);
        let [(keys, _), (others, inbound)] = shaken_hands();
        path.seal(|sealed| sealed.open(keys.limited_to(limit)));
        let heard = Heard { inbound, keys: others, plain: Vec::new(), records: vec![Vec::new()] };
        Sealing { path, driver: Fake::new(region, 1).unwrap(), heard }
    }

    fn send(&self, message: &[u8]) {
        self.path.try_send(ID.generation, message).unwrap();
    }

    /// The kernel takes all that there is, and the other side opens it; gives how many requests that took.
    fn pump(&mut self) -> usize {
        let before = self.driver.requests.len();
        while !self.path.is_drained() {
            self.path.pump(ID, &mut self.driver, false).unwrap();
            let Some(span) = self.driver.in_flight.take() else { continue };
            let bytes = span.len();
            self.path.sent(span, Ok(bytes)).unwrap();
            self.heard.open(self.driver.requests.last().unwrap());
        }
        self.driver.requests.len() - before
    }
}

#[test]
fn one_record_carries_many_messages() {
    let mut sealing = Sealing::new(1 << 24);
    let messages: Vec<_> = (0..1000u32).map(u32::to_le_bytes).collect();
    let messages: Vec<_> = messages.iter().map(|message| &message[..]).collect();
    messages.iter().for_each(|message| sealing.send(message));
    assert_eq!(sealing.pump(), 1);
    assert_eq!(sealing.heard.records, [[8000]], "a thousand messages, one record");
    assert_eq!(sealing.heard.plain, frames(&messages));
    // What is longer is cut, and what is behind it shares its last record.
    let long = vec![7; PLAIN_MAX];
    sealing.send(&long);
    sealing.send(b"behind it");
    assert_eq!(sealing.pump(), 1);
    assert_eq!(sealing.heard.records, [[8000, PLAIN_MAX, 4 + 4 + 9]]);
    assert_eq!(sealing.driver.requests[1].len(), 4 + PLAIN_MAX + 4 + 9 + 2 * OVERHEAD);
}

#[test]
fn a_key_seals_no_more_records_than_its_limit_and_hardly_fewer() {
    const LIMIT: u64 = 16;
    for batch in 1..=SEALED_RECORDS {
        let mut sealing = Sealing::new(LIMIT);
        let message = vec![7; batch * PLAIN_MAX - HEADER];
        for _ in 0..64 {
            sealing.send(&message);
            sealing.pump();
        }
        let expected = frames(&vec![&message[..]; 64]);
        assert!(sealing.heard.plain == expected, "{batch} records at once: all of it is opened, in order");
        let (last, keys) = sealing.heard.records.split_last().unwrap();
        assert!(keys.len() >= 64 * batch / LIMIT as usize, "{batch}: {} keys", keys.len());
        for records in keys.iter().chain([last]) {
            assert!(records.len() <= LIMIT as usize, "{batch}: a key sealed {}", records.len());
        }
        for records in keys {
            // Its last one says so; a batch more, and an update before it, would have been too many.
            let spare = LIMIT as usize - records.len();
            assert!(spare < SEALED_RECORDS + batch, "{batch}: a key was left {spare} before its limit");
        }
    }
}
