//! The record layer of TLS 1.3 (RFC 8446, section 5), on bytes that lie where zerio has them: sealing for the
//! send path, opening in place for the receive path. The AEADs are ring's; nothing here allocates.
#![forbid(unsafe_code)]

use std::fmt;
use std::hint::black_box;

use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroizing;

use crate::error::TlsFault;

/// Bytes before each record: its type, a version that nobody looks at, its length.
pub(crate) const RECORD_HEADER: usize = 5;

/// The most plaintext that a record carries.
pub(crate) const PLAIN_MAX: usize = 1 << 14;

/// What a record costs beside its plaintext, as this side makes it: header, type, and tag.
pub(crate) const OVERHEAD: usize = RECORD_HEADER + 1 + TAG;

/// The longest record that a peer may make, header included.
pub(crate) const RECORD_MAX: usize = RECORD_HEADER + CIPHER_MAX;

/// The AEAD's tag, 16 bytes for each of TLS 1.3's.
const TAG: usize = 16;

/// The most that a record's header may announce.
const CIPHER_MAX: usize = PLAIN_MAX + 256;

/// The C library copies more than some KiB by one instruction, `rep movsb`. On an AMD EPYC (Zen 4, glibc 2.36) that moves
/// 53 GB/s, but 4 where the destination lies up to 15 bytes behind the source by the last 12 bits of both addresses: as a
/// record's plaintext does behind its header, if it begins with a page. In pieces of this length that was never so.
const COPIED_AT_ONCE: usize = 2048;

/// The type that each protected record wears outside.
const APPLICATION_DATA: u8 = 23;

/// What is in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Alert,
    Handshake,
    Data,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Kind::Alert => 21,
            Kind::Handshake => 22,
            Kind::Data => APPLICATION_DATA,
        }
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        [Kind::Alert, Kind::Handshake, Kind::Data].into_iter().find(|kind| kind.to_byte() == byte)
    }
}

/// The key of one direction, and how many records have been protected with it.
struct Protection {
    key: LessSafeKey,
    iv: Zeroizing<[u8; 12]>,
    sequence: u64,
}

impl Protection {
    fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Protection, TlsFault> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(TlsFault::Incompatible),
        };
        Protection::of(sequence, algorithm, key.as_ref(), iv.as_ref())
    }

    fn of(
        sequence: u64,
        algorithm: &'static Algorithm,
        key: &[u8],
        iv: &[u8],
    ) -> Result<Protection, TlsFault> {
        let key = UnboundKey::new(algorithm, key).map_err(|_| TlsFault::Incompatible)?;
        let mut own = Zeroizing::new([0; 12]);
        own.copy_from_slice(iv);
        Ok(Protection { key: LessSafeKey::new(key), iv: own, sequence })
    }

    /// Of the next record (RFC 8446, 5.3). A key is replaced long before the numbers run out.
    fn nonce(&mut self) -> Nonce {
        let mut nonce = *self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for Protection {
    /// ring's key can't be overwritten, but nobody's key can be put in its place: one of the longest kind, which covers
    /// all that the others leave as it was.
    fn drop(&mut self) {
        let Ok(nobodys) = UnboundKey::new(&AES_256_GCM, &[0; 32]) else { return };
        self.key = LessSafeKey::new(nobodys);
        // Nobody reads it any more, which the compiler is not to know: it would leave the writing out.
        black_box(&self.key);
    }
}

/// Protects what is sent.
pub(crate) struct Sealer(Protection);

/// Opens what is received.
pub(crate) struct Opener(Protection);

/// A record that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) kind: Kind,
    /// How many bytes it took, header included.
    pub(crate) record: usize,
    /// How many bytes it has carried.
    pub(crate) plain: usize,
}

impl Sealer {
    pub(crate) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Sealer, TlsFault> {
        Protection::new(sequence, secrets).map(Sealer)
    }

    /// How many records it has made.
    pub(crate) fn sequence(&self) -> u64 {
        self.0.sequence
    }

    /// Makes one record of at most `PLAIN_MAX` bytes at the start of `out`, which has room for it; gives its length.
    pub(crate) fn seal(&mut self, kind: Kind, plain: &[u8], out: &mut [u8]) -> usize {
        assert!(plain.len() <= PLAIN_MAX, "a record too long");
        let cipher = plain.len() + 1 + TAG;
        let (header, rest) = out.split_at_mut(RECORD_HEADER);
        let [len_high, len_low] = (cipher as u16).to_be_bytes();
        header.copy_from_slice(&[APPLICATION_DATA, 3, 3, len_high, len_low]);
        let (text, rest) = rest.split_at_mut(plain.len() + 1);
        for (to, from) in text.chunks_mut(COPIED_AT_ONCE).zip(plain.chunks(COPIED_AT_ONCE)) {
            to[..from.len()].copy_from_slice(from);
        }
        text[plain.len()] = kind.to_byte();
        let nonce = self.0.nonce();
        let tag = self.0.key.seal_in_place_separate_tag(nonce, Aad::from(header), text);
        let tag = tag.expect("a record is far shorter than an AEAD's limit");
        rest[..TAG].copy_from_slice(tag.as_ref());
        RECORD_HEADER + cipher
    }
}

impl Opener {
    pub(crate) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Opener, TlsFault> {
        Protection::new(sequence, secrets).map(Opener)
    }

    /// Opens the record that begins at `area[at..]`: what it carries stands at the start of `area` then. `None`
    /// where its bytes have not all come.
    pub(crate) fn open(&mut self, area: &mut [u8], at: usize) -> Result<Option<Opened>, TlsFault> {
        let Some(header) = area[at..].first_chunk::<RECORD_HEADER>().copied() else { return Ok(None) };
        if header[0] != APPLICATION_DATA {
            return Err(TlsFault::Unexpected);
        }
        let cipher = cipher_len(header)?;
        let record = RECORD_HEADER + cipher;
        if area.len() - at < record {
            return Ok(None);
        }
        let nonce = self.0.nonce();
        let text = at + RECORD_HEADER..;
        let opened = self.0.key.open_within(nonce, Aad::from(header), &mut area[..at + record], text);
        let opened = opened.map_err(|_| TlsFault::BadRecord)?;
        // Padding counts (RFC 8446, 5.4).
        if opened.len() > PLAIN_MAX + 1 {
            return Err(TlsFault::RecordTooLong);
        }
        // Its type stands behind what it carries, and zeros may follow.
        let end = opened.iter().rposition(|&byte| byte != 0).ok_or(TlsFault::Unexpected)?;
        let kind = Kind::from_byte(opened[end]).ok_or(TlsFault::Unexpected)?;
        Ok(Some(Opened { kind, record, plain: end }))
    }
}

/// How many bytes the record that begins here takes, as far as they tell: its header at least.
pub(crate) fn record_len(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<RECORD_HEADER>() {
        Some(&[_, _, _, high, low]) => RECORD_HEADER + usize::from(u16::from_be_bytes([high, low])),
        None => RECORD_HEADER,
    }
}

/// What a header announces, checked before a byte behind it is looked at.
fn cipher_len([_, _, _, high, low]: [u8; RECORD_HEADER]) -> Result<usize, TlsFault> {
    let cipher = usize::from(u16::from_be_bytes([high, low]));
    match cipher {
        // Not even a type and a tag.
        0..=TAG => Err(TlsFault::BadRecord),
        _ if cipher > CIPHER_MAX => Err(TlsFault::RecordTooLong),
        _ => Ok(cipher),
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
