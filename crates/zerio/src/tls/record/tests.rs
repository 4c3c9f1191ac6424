//! The record layer against the traces of RFC 8448, section 3, and against records that no honest peer makes.
#![forbid(unsafe_code)]

use super::*;
use crate::config::{SEALED_BYTES, SEALED_RECORD_MAX, SEALED_RECORDS};

const CLIENT_KEY: &str = "17422dda596ed5d9acd890e3c63f5051";
const CLIENT_IV: &str = "5b78923dee08579033e523d9";
const SERVER_KEY: &str = "9f02283b6c9c07efc26bb9f2ac92e356";
const SERVER_IV: &str = "cf782b88dd83549aadf1e984";

/// Each carries the 50 bytes from 0 on: the client's first record, the server's second, behind its ticket.
const CLIENT_DATA: &str = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd54a9a20\
    441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
const SERVER_DATA: &str = "17030300432e937e11ef4ac740e538ad36005fc4a46932fc3225d05f82aa1b36e30efaf97d90e6dffc602dcb50\
    1a59a8fcc49c4bf2e5f0a21c0047c2abf332540dd032e167c2955d";

/// The alert close_notify: the client's second record, the server's third.
const CLIENT_END: &str = "1703030013c9872760655666b74d7ff1153efd6db6d0b0e3";
const SERVER_END: &str = "1703030013b58fd67166ebf599d24720cfbe7efa7a8864a9";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().filter_map(|digit| char::from(digit).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn protection(sequence: u64, key: &str, iv: &str) -> Protection {
    Protection::of(sequence, &AES_128_GCM, &hex(key), &hex(iv)).unwrap()
}

fn sealer(sequence: u64) -> Sealer {
    Sealer(protection(sequence, CLIENT_KEY, CLIENT_IV))
}

fn opener(sequence: u64) -> Opener {
    Opener(protection(sequence, CLIENT_KEY, CLIENT_IV))
}

fn sealed(sealer: &mut Sealer, kind: Kind, plain: &[u8]) -> Vec<u8> {
    let mut record = vec![0xee; plain.len() + OVERHEAD];
    assert_eq!(sealer.seal(kind, plain, &mut record), record.len());
    record
}

/// A record as a peer may make it: with another type, and zeros behind.
fn padded(plain: &[u8], kind: u8, zeros: usize) -> Vec<u8> {
    let mut protection = protection(0, CLIENT_KEY, CLIENT_IV);
    let mut text = [plain, &[kind], &vec![0; zeros]].concat();
    let [high, low] = ((text.len() + TAG) as u16).to_be_bytes();
    let header = [APPLICATION_DATA, 3, 3, high, low];
    let nonce = protection.nonce();
    protection.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut text).unwrap();
    [&header[..], &text].concat()
}

fn open(record: &[u8]) -> Result<Option<Opened>, TlsFault> {
    opener(0).open(&mut record.to_vec(), 0)
}

#[test]
fn what_the_rfc_sealed_is_sealed_and_opened_alike() {
    let payload: Vec<u8> = (0..50).collect();
    for (key, iv, first, data, end) in [
        (CLIENT_KEY, CLIENT_IV, 0, CLIENT_DATA, CLIENT_END),
        (SERVER_KEY, SERVER_IV, 1, SERVER_DATA, SERVER_END),
    ] {
        let mut sealer = Sealer(protection(first, key, iv));
        assert_eq!(sealed(&mut sealer, Kind::Data, &payload), hex(data));
        assert_eq!(sealed(&mut sealer, Kind::Alert, &[1, 0]), hex(end));
        let mut opener = Opener(protection(first, key, iv));
        // Behind three bytes that are free.
        let mut area = [&[9; 3][..], &hex(data), &hex(end)].concat();
        let opened = opener.open(&mut area, 3).unwrap().unwrap();
        assert_eq!(opened, Opened { kind: Kind::Data, record: 72, plain: 50 });
        assert_eq!(area[..50], payload);
        let opened = opener.open(&mut area, 3 + 72).unwrap().unwrap();
        assert_eq!(opened, Opened { kind: Kind::Alert, record: 24, plain: 2 });
        assert_eq!(area[..2], [1, 0]);
    }
}

#[test]
fn a_record_is_opened_when_its_last_byte_is_there() {
    let record = hex(CLIENT_DATA);
    let mut opener = opener(0);
    for end in 0..record.len() {
        assert_eq!(opener.open(&mut record[..end].to_vec(), 0), Ok(None), "{end} bytes");
    }
    assert!(opener.open(&mut record.clone(), 0).unwrap().is_some());
}

#[test]
fn whichever_bit_is_flipped_it_is_not_opened() {
    let record = hex(CLIENT_DATA);
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(open(&flipped), Ok(Some(_))), "bit {bit}");
    }
}

#[test]
fn a_record_is_opened_once_and_in_its_place() {
    let mut sealer = sealer(0);
    let records: Vec<_> = (0..3).map(|n| sealed(&mut sealer, Kind::Data, &[n])).collect();
    let order = |order: &[usize]| {
        let mut opener = opener(0);
        let mut open = |&n: &usize| opener.open(&mut records[n].clone(), 0);
        order.iter().map(&mut open).collect::<Result<Vec<_>, _>>().map(drop)
    };
    assert_eq!(order(&[0, 1, 2]), Ok(()));
    for wrong in [&[0, 0][..], &[0, 2], &[1], &[0, 1, 0]] {
        assert_eq!(order(wrong), Err(TlsFault::BadRecord), "{wrong:?}");
    }
}

#[test]
fn the_longest_record_is_opened_and_one_a_byte_longer_is_refused_before_its_bytes_came() {
    let longest = padded(&[7; PLAIN_MAX], 23, 0);
    let (kind, record) = (Kind::Data, PLAIN_MAX + OVERHEAD);
    assert_eq!(open(&longest), Ok(Some(Opened { kind, record, plain: PLAIN_MAX })));
    let [high, low] = (CIPHER_MAX as u16 + 1).to_be_bytes();
    assert_eq!(open(&[23, 3, 3, high, low]), Err(TlsFault::RecordTooLong));
    // The header is within its limit, and what it carries is not.
    let announced = padded(&[7; PLAIN_MAX], 23, 256 - 1 - TAG);
    assert_eq!(announced.len(), RECORD_MAX);
    assert_eq!(open(&announced), Err(TlsFault::RecordTooLong));
    assert_eq!(open(&padded(&[7; PLAIN_MAX + 1], 23, 0)), Err(TlsFault::RecordTooLong));
}

#[test]
fn padding_is_no_part_of_what_a_record_carries_and_a_record_of_padding_alone_is_none() {
    let opened = |plain: &[u8], zeros| open(&padded(plain, 23, zeros)).map(|opened| opened.unwrap().plain);
    assert_eq!(opened(b"oui", 0), Ok(3));
    assert_eq!(opened(b"oui", 100), Ok(3));
    assert_eq!(opened(b"\0\0", 100), Ok(2));
    assert_eq!(opened(b"", 0), Ok(0));
    assert_eq!(open(&padded(b"", 0, 100)), Err(TlsFault::Unexpected));
}

#[test]
fn padding_could_make_a_record_longer_than_any_that_carries_something() {
    let filled = |zeros| open(&padded(b"oui", 23, zeros)).map(|opened| opened.unwrap().plain);
    assert_eq!(filled(PLAIN_MAX - 3), Ok(3));
    assert_eq!(filled(PLAIN_MAX - 2), Err(TlsFault::RecordTooLong));
}

#[test]
fn a_type_that_has_no_place_there_is_refused() {
    assert_eq!(open(&padded(b"a", 20, 0)), Err(TlsFault::Unexpected), "change_cipher_spec, protected");
    assert_eq!(open(&padded(b"a", 99, 0)), Err(TlsFault::Unexpected));
    let mut bare = padded(b"a", 23, 0);
    bare[0] = 20;
    assert_eq!(open(&bare), Err(TlsFault::Unexpected), "change_cipher_spec, in the clear");
    assert_eq!(
        open(&[20, 3, 3, 0, 1, 1]),
        Err(TlsFault::Unexpected),
        "too short for a record, which it is not"
    );
    assert_eq!(open(&[23, 3, 3, 0, 16]), Err(TlsFault::BadRecord), "no room for a type and a tag");
}

#[test]
fn what_config_counts_is_what_records_take() {
    assert_eq!(SEALED_RECORD_MAX, RECORD_MAX);
    let update = 5 + OVERHEAD;
    assert!(SEALED_BYTES >= SEALED_RECORDS * (PLAIN_MAX + OVERHEAD) + update);
}

#[test]
fn a_key_shows_in_no_debug_output() {
    let text = format!("{:?} {:?}", sealer(0), opener(0));
    assert_eq!(text, "Sealer { .. } Opener { .. }");
}
