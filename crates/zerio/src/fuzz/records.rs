//! The receive side of TLS after the handshake, in arbitrary pieces: records of an honest peer and of one that is not,
//! changed, cut, repeated, left out and exchanged on the way. What is opened is a prefix of what was sealed, and it goes
//! as far as what has come is what was sealed.
#![forbid(unsafe_code)]

use rustls::ConnectionTrafficSecrets;
use rustls::crypto::cipher::{AeadKey, Iv};

use super::Input;
use crate::error::TlsFault;
use crate::recv::buffer::Buffer;
use crate::recv::sealed::Record;
use crate::region::Region;
use crate::tls::inbound::{Inbound, Message, News};
use crate::tls::record::{Kind, OVERHEAD, Opener, PLAIN_MAX, RECORD_MAX, Sealer, record_len};

/// So many bytes that are opened may wait to be handled.
const WAITING_MAX: usize = 300;

/// Which key a direction has, and its cipher.
#[derive(Clone, Copy)]
struct Secrets {
    generation: u8,
    chacha: bool,
}

impl Secrets {
    fn get(self) -> ConnectionTrafficSecrets {
        let (key, iv) = (AeadKey::from([self.generation; 32]), Iv::from([self.generation; 12]));
        match self.chacha {
            true => ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv },
            false => ConnectionTrafficSecrets::Aes256Gcm { key, iv },
        }
    }

    fn opener(self) -> Opener {
        Opener::new(0, &self.get()).expect("a suite of ours")
    }

    fn sealer(self) -> Sealer {
        Sealer::new(0, &self.get()).expect("a suite of ours")
    }

    fn next(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }
}

/// What a peer seals.
struct Peer {
    secrets: Secrets,
    sealer: Sealer,
    records: Vec<Vec<u8>>,
    /// What each carries for the framer.
    data: Vec<Vec<u8>>,
    /// So many records are such as an honest peer makes.
    honest: Option<usize>,
    empty: usize,
    tickets: usize,
}

impl Peer {
    fn new(secrets: Secrets) -> Peer {
        let sealer = secrets.sealer();
        Peer { secrets, sealer, records: Vec::new(), data: Vec::new(), honest: None, empty: 0, tickets: 0 }
    }

    fn seal(&mut self, kind: Kind, plain: &[u8]) {
        let mut record = vec![0; plain.len() + OVERHEAD];
        assert_eq!(self.sealer.seal(kind, plain, &mut record), record.len());
        self.records.push(record);
        self.data.push(if kind == Kind::Data { plain.to_vec() } else { Vec::new() });
        self.empty = match kind {
            Kind::Data if plain.is_empty() => self.empty + 1,
            Kind::Data => 0,
            Kind::Alert | Kind::Handshake => self.empty,
        };
        self.is_odd(self.empty > 32);
    }

    /// From the last record on it may be that this side goes no further.
    fn is_odd(&mut self, odd: bool) {
        if odd {
            self.honest.get_or_insert(self.records.len() - 1);
        }
    }

    /// The next record, or the next two.
    fn say(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => {
                let (len, byte) = (input.below(PLAIN_MAX + 1), input.byte());
                self.seal(Kind::Data, &vec![byte; len]);
            }
            1..=2 => {
                let times = 1 + input.byte() % 40;
                for _ in 0..times {
                    self.seal(Kind::Data, &[]);
                }
            }
            3..=4 => {
                self.seal(Kind::Handshake, &[24, 0, 0, 1, input.byte() % 2]);
                self.secrets.next();
                self.sealer = self.secrets.sealer();
            }
            5..=6 => {
                let len = input.byte();
                let ticket = [&[4, 0, 0, len][..], &vec![7; usize::from(len)]].concat();
                // A message may stand in two records.
                let (first, rest) = ticket.split_at(1 + input.below(ticket.len()));
                self.tickets += 1;
                for part in [first, rest].into_iter().filter(|part| !part.is_empty()) {
                    self.seal(Kind::Handshake, part);
                    self.is_odd(self.tickets > 32);
                }
            }
            7 => {
                let kind = if input.byte().is_multiple_of(2) { Kind::Alert } else { Kind::Handshake };
                let len = usize::from(input.byte());
                self.seal(kind, input.take(len));
                self.is_odd(true);
            }
            _ => {
                let len = usize::from(input.byte());
                self.seal(Kind::Data, input.take(len));
            }
        }
    }
}

/// What happens to records on their way.
fn happens(records: &mut Vec<Vec<u8>>, input: &mut Input<'_>) {
    let (what, at) = (input.byte(), input.below(records.len().max(1)));
    if records.is_empty() || what.is_multiple_of(8) {
        let len = usize::from(input.byte());
        return records.insert(at, input.take(len).to_vec());
    }
    let within = input.below(records[at].len().max(1));
    match what % 8 {
        1..=2 if !records[at].is_empty() => records[at][within] ^= 1 << (what >> 5),
        3 => records[at].truncate(within),
        4 => drop(records.remove(at)),
        5 => records.insert(within % records.len(), records[at].clone()),
        6 => {
            let other = within % records.len();
            records.swap(at, other);
        }
        _ => {}
    }
}

/// Reads what a peer seals, what happens to it, and the pieces in which it comes, from `data`, and opens it.
pub fn records(data: &[u8]) {
    let mut input = Input(data);
    let secrets = Secrets { generation: 0, chacha: input.byte() % 2 == 1 };
    let mut peer = Peer::new(secrets);
    for _ in 0..input.byte() % 32 {
        peer.say(&mut input);
    }
    let mut on_the_way = peer.records.clone();
    for _ in 0..input.byte() % 4 {
        happens(&mut on_the_way, &mut input);
    }
    let sealed = peer.records.concat();
    let stream = on_the_way.concat();
    let same = sealed.iter().zip(&stream).take_while(|(sealed, came)| sealed == came).count();
    let mut ends = peer.records.iter().scan(0, |end, record| {
        *end += record.len();
        Some(*end)
    });
    let whole = ends.by_ref().take_while(|&end| end <= same).count();
    let sure = whole.min(peer.honest.unwrap_or(usize::MAX));

    let (opened, carried, outcome) = receive(secrets, &stream, &mut input);
    assert!(opened <= whole, "nothing is opened that is not what was sealed");
    assert!(carried == peer.data[..opened].concat(), "in order and whole");
    assert!(opened >= sure, "{opened} of {sure} records were opened, then {outcome:?}");
    let is_authentic = |fault| !matches!(fault, TlsFault::BadRecord | TlsFault::RecordTooLong);
    match outcome {
        Ok(rest) => assert!(opened == whole && rest == stream.len() - peer.records[..whole].concat().len()),
        Err(Some(fault)) => assert!(opened == whole || is_authentic(fault) || opened > sure, "{fault:?}"),
        Err(None) => assert!(peer.honest.is_some(), "no honest peer has said that it ends"),
    }
}

/// Receives a stream. Gives how many records were opened, what they have carried, and how many bytes are left, or what
/// was wrong; `Err(None)` where the peer has said that nothing more comes.
fn receive(
    mut secrets: Secrets,
    stream: &[u8],
    input: &mut Input<'_>,
) -> (usize, Vec<u8>, Result<usize, Option<TlsFault>>) {
    let capacity = RECORD_MAX + WAITING_MAX;
    let (region, mut cutter) = Region::new(capacity).expect("a small region");
    let mut buffer = Buffer::new(cutter.cut(0), cutter.cut(capacity));
    buffer.begin_sealed(&region);
    let mut inbound = Inbound::new(secrets.opener());
    let (mut received, mut opened, mut carried) = (0, 0, Vec::new());
    loop {
        let record = record_len(buffer.sealed(&region)).min(RECORD_MAX);
        let mut room = buffer.lend_sealed(&region, record).expect("a record and what waits fit");
        let most = if input.is_empty() { room.len() } else { 1 + input.below(2 * RECORD_MAX) };
        let brought = most.min(room.len()).min(stream.len() - received);
        region.bytes_mut(&mut room)[..brought].copy_from_slice(&stream[received..received + brought]);
        region.bytes_mut(&mut room)[brought..].fill(0xee);
        buffer.give_back(room, brought);
        received += brought;
        loop {
            match open(&mut inbound, &mut secrets, &mut buffer, &region) {
                Ok(true) => opened += 1,
                Ok(false) => break,
                Err((also, why)) => {
                    carried.extend_from_slice(buffer.bytes(&region));
                    return (opened + usize::from(also), carried, Err(why));
                }
            }
        }
        // What is opened waits in part.
        let waits = buffer.len().min(usize::from(input.byte()).min(WAITING_MAX));
        let handled = buffer.len() - waits;
        carried.extend_from_slice(&buffer.bytes(&region)[..handled]);
        buffer.consume(handled);
        if brought == 0 {
            carried.extend_from_slice(buffer.bytes(&region));
            let left = buffer.sealed(&region).len();
            return (opened, carried, Ok(left));
        }
    }
}

/// Opens the next record, as an engine does; whether there was one. What is wrong may be in what it has brought, and
/// then it was opened.
fn open(
    inbound: &mut Inbound,
    secrets: &mut Secrets,
    buffer: &mut Buffer,
    region: &Region,
) -> Result<bool, (bool, Option<TlsFault>)> {
    let mut news = News::None;
    let found = buffer.open(region, |area, at| {
        let Some(piece) = inbound.open(area, at)? else { return Ok(None) };
        news = piece.news;
        if let News::Messages(bytes) = news {
            inbound.keep(&area[..bytes])?;
        }
        Ok(Some(Record { len: piece.record, plain: piece.plain }))
    });
    let found = found.map_err(|fault| (false, Some(fault)))?;
    match news {
        News::None => {}
        News::End => return Err((true, None)),
        News::Messages(_) => {
            while let Some(message) = inbound.next_message().map_err(|fault| (true, Some(fault)))? {
                if let Message::KeyUpdate { .. } = message {
                    secrets.next();
                    inbound.renew(secrets.opener());
                }
            }
        }
    }
    Ok(found)
}
