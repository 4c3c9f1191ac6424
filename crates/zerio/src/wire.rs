//! The wire, version 1, for both paths: the frame header and the handshake, encoded and decoded.
//! `docs/protocol.md` has the same in words, with examples in hex that a test holds against this file.
#![forbid(unsafe_code)]

use std::fmt;

use crate::error::{FrameError, RefusalCode};

/// Bytes of the length before each message.
pub(crate) const HEADER: usize = 4;

/// The length's top bit is kept for control frames, which nobody has agreed on yet.
pub(crate) const RESERVED: u32 = 1 << 31;

/// The longest first frame, either way: an id of 255 bytes, a zero byte, and a feature block.
pub(crate) const HELLO_MAX: usize = 1024;

/// The longest frame of a handshake, in bytes.
pub(crate) const HELLO_FRAME: usize = HEADER + HELLO_MAX;

/// The longest peer id, in bytes.
pub(crate) const ID_MAX: usize = 255;

/// The frame header for a message of `len` bytes.
#[inline]
pub(crate) fn header(len: u32) -> [u8; HEADER] {
    len.to_le_bytes()
}

/// The length that a frame header announces, checked before a byte of the message is looked at.
#[inline]
pub(crate) fn message_len(header: [u8; HEADER], max: u32) -> Result<u32, FrameError> {
    let len = u32::from_le_bytes(header);
    if len <= max { Ok(len) } else { Err(bad_len(len, max)) }
}

#[cold]
fn bad_len(len: u32, max: u32) -> FrameError {
    if len & RESERVED != 0 { FrameError::Reserved { len } } else { FrameError::TooLong { len, max } }
}

/// A peer's name: 1 to 255 bytes of UTF-8 without control characters. It carries its bytes, so that
/// keeping one allocates nothing.
#[derive(Clone, Copy)]
pub struct PeerId {
    len: u8,
    bytes: [u8; ID_MAX],
}

impl PeerId {
    /// Before the handshake has told who it is.
    pub(crate) const NOBODY: PeerId = PeerId { len: 0, bytes: [0; ID_MAX] };

    /// A peer id from text.
    ///
    /// # Errors
    ///
    /// [`BadPeerId`](crate::BadPeerId) says what is wrong with the text: empty, longer than 255 bytes,
    /// or with a control character in it.
    ///
    /// ```
    /// let id = zerio::PeerId::new("client-1")?;
    /// assert_eq!(id.as_str(), "client-1");
    /// assert!(zerio::PeerId::new("two\nlines").is_err());
    /// # Ok::<(), zerio::BadPeerId>(())
    /// ```
    pub fn new(text: &str) -> Result<PeerId, crate::BadPeerId> {
        use crate::BadPeerId;
        if text.is_empty() {
            return Err(BadPeerId::Empty);
        }
        if text.len() > ID_MAX {
            return Err(BadPeerId::TooLong { len: text.len() });
        }
        if text.chars().any(char::is_control) {
            return Err(BadPeerId::ControlCharacter);
        }
        let mut bytes = [0; ID_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(PeerId { len: text.len() as u8, bytes })
    }

    /// From the bytes of a first frame.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<PeerId, crate::BadPeerId> {
        let text = std::str::from_utf8(bytes).map_err(|_| crate::BadPeerId::NotUtf8)?;
        PeerId::new(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

impl PartialEq for PeerId {
    fn eq(&self, other: &PeerId) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PeerId {}

impl std::hash::Hash for PeerId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // As `str` hashes, because a table of ids is asked with text (`Borrow<str>`).
        self.as_str().hash(state);
    }
}

impl std::borrow::Borrow<str> for PeerId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for PeerId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A client's first frame, decoded: its id. What it asks for beyond that is checked for its shape and
/// otherwise passed over, because nothing can be agreed on yet.
pub(crate) fn decode_hello(frame: &[u8]) -> Result<PeerId, crate::BadPeerId> {
    match frame.iter().position(|&byte| byte == 0) {
        None => PeerId::from_bytes(frame),
        Some(zero) => {
            check_features(&frame[zero + 1..])?;
            PeerId::from_bytes(&frame[..zero])
        }
    }
}

/// A feature block is a row of features, each a code byte that is not zero, a length byte, and so many
/// bytes; at least one.
fn check_features(mut block: &[u8]) -> Result<(), crate::BadPeerId> {
    loop {
        let [code, len, rest @ ..] = block else { return Err(crate::BadPeerId::BadFeatures) };
        if *code == 0 || usize::from(*len) > rest.len() {
            return Err(crate::BadPeerId::BadFeatures);
        }
        block = &rest[usize::from(*len)..];
        if block.is_empty() {
            return Ok(());
        }
    }
}

/// A server's first frame, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// The client's own first frame: it is welcome.
    Accepted,
    /// It is not, for this reason, in the server's words.
    Refused(RefusalCode, &'a str),
    /// Something that no zerio server says.
    Foreign,
}

/// What a server answered to `hello`.
pub(crate) fn decode_answer<'a>(frame: &'a [u8], hello: &[u8]) -> Answer<'a> {
    match frame {
        [0, code, text @ ..] => match std::str::from_utf8(text) {
            Ok(text) => Answer::Refused(RefusalCode::from_byte(*code), text),
            Err(_) => Answer::Foreign,
        },
        _ if frame == hello => Answer::Accepted,
        _ => Answer::Foreign,
    }
}

/// The longest text of a refusal, in bytes.
pub(crate) const REFUSAL_TEXT_MAX: usize = 96;

/// Whether these bytes are the start of a TLS handshake, or an alert in place of one, and no frame: a length that is far over
/// `HELLO_MAX`.
pub(crate) fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [21 | 22, 3, 0..=4, ..])
}

/// A refusal, as the server's first frame, header included.
#[derive(Debug)]
pub(crate) struct RefusalFrame {
    bytes: [u8; RefusalFrame::MAX],
    len: usize,
}

impl RefusalFrame {
    const MAX: usize = HEADER + 2 + REFUSAL_TEXT_MAX;

    pub(crate) fn new(code: RefusalCode) -> RefusalFrame {
        RefusalFrame::saying(code, code.text())
    }

    /// With a text of one's own, of [`REFUSAL_TEXT_MAX`] bytes at the most.
    pub(crate) fn saying(code: RefusalCode, text: &str) -> RefusalFrame {
        let text = text.as_bytes();
        let len = HEADER + 2 + text.len();
        let mut bytes = [0; Self::MAX];
        bytes[..HEADER].copy_from_slice(&header(2 + text.len() as u32));
        bytes[HEADER + 1] = code.to_byte();
        bytes[HEADER + 2..len].copy_from_slice(text);
        RefusalFrame { bytes, len }
    }

    /// The frame, header included.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The frame without its header.
    pub(crate) fn message(&self) -> &[u8] {
        &self.bytes[HEADER..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BadPeerId;

    #[test]
    fn a_length_is_checked_against_its_limit() {
        assert_eq!(message_len(header(100), 100), Ok(100));
        assert_eq!(message_len(header(101), 100), Err(FrameError::TooLong { len: 101, max: 100 }));
        let reserved = RESERVED | 1;
        assert_eq!(message_len(header(reserved), 100), Err(FrameError::Reserved { len: reserved }));
    }

    #[test]
    fn ids_are_checked_in_pairs() {
        assert!(PeerId::new("a").is_ok());
        assert_eq!(PeerId::new(""), Err(BadPeerId::Empty));
        assert!(PeerId::new(&"x".repeat(255)).is_ok());
        assert_eq!(PeerId::new(&"x".repeat(256)), Err(BadPeerId::TooLong { len: 256 }));
        assert!(PeerId::new("größer").is_ok());
        assert_eq!(PeerId::new("tab\there"), Err(BadPeerId::ControlCharacter));
        assert_eq!(PeerId::from_bytes(&[b'a', 0xff]), Err(BadPeerId::NotUtf8));
    }

    #[test]
    fn features_are_decoded_strictly() {
        assert_eq!(decode_hello(b"id").unwrap().as_str(), "id");
        assert_eq!(decode_hello(b"id\0\x01\x02ab").unwrap().as_str(), "id");
        assert_eq!(decode_hello(b"id\0\x01\x00\x02\x01c").unwrap().as_str(), "id");
        for bad in [&b"id\0"[..], b"id\0\x01", b"id\0\x01\x02a", b"id\0\0\0", b"id\0\x01\x00\x02"] {
            assert_eq!(decode_hello(bad), Err(BadPeerId::BadFeatures), "{bad:?}");
        }
        assert_eq!(decode_hello(b"\0\x01\x00"), Err(BadPeerId::Empty));
    }

    #[test]
    fn every_refusal_comes_back_as_what_it_was() {
        for code in RefusalCode::ALL {
            let refusal = RefusalFrame::new(code);
            let announced = message_len(refusal.frame()[..4].try_into().unwrap(), 1024).unwrap();
            assert_eq!(announced as usize, refusal.message().len());
            assert_eq!(decode_answer(refusal.message(), b"me"), Answer::Refused(code, code.text()));
        }
        assert_eq!(decode_answer(b"me", b"me"), Answer::Accepted);
        assert_eq!(decode_answer(b"you", b"me"), Answer::Foreign);
        assert_eq!(decode_answer(b"", b"me"), Answer::Foreign);
        assert_eq!(decode_answer(b"\0", b"me"), Answer::Foreign);
    }
}
