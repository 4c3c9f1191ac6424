//! What a hostile peer of a storm has to say, and what a server must make of it: read naively, from the whole.
#![forbid(unsafe_code)]

use std::ops::Range;

use crate::driver::sim::Random;
use crate::error::{Alert, FrameError, TlsFault};
use crate::wire::{HEADER, HELLO_MAX, RESERVED};

/// The bytes of one, and the frames in them.
pub(super) struct Script {
    bytes: Vec<u8>,
    /// The messages of its whole frames, the handshake's first.
    frames: Vec<Range<usize>>,
    /// Behind them a length that can't be one, and where it ends.
    bad: Option<(usize, FrameError)>,
    manner: Manner,
}

/// How it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it is.
    Clear,
    /// Under TLS, and this behind it.
    Sealed(Last),
}

/// What a peer under TLS says behind its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    Nothing,
    Goodbye,
    /// A record with a bit that is another.
    Changed,
    /// One that was said before.
    Repeated,
    /// One before which another is left out.
    Behind,
    TooLong,
    /// Records with nothing in them.
    Empty,
    Clear,
    Alert,
}

/// What a peer under TLS that gives up says.
pub(super) const INTERNAL_ERROR: u8 = 80;

/// So many records in a row that have nothing in them are too many.
pub(super) const EMPTY: usize = 33;

impl Last {
    const ALL: [Last; 9] = [
        Last::Nothing,
        Last::Goodbye,
        Last::Changed,
        Last::Repeated,
        Last::Behind,
        Last::TooLong,
        Last::Empty,
        Last::Clear,
        Last::Alert,
    ];

    /// How many records it takes.
    fn records(self) -> usize {
        match self {
            Last::Nothing => 0,
            Last::Repeated => 2,
            Last::Empty => EMPTY,
            _ => 1,
        }
    }

    /// What a server must find wrong.
    fn fault(self) -> Option<TlsFault> {
        match self {
            Last::Nothing | Last::Goodbye => None,
            Last::Changed | Last::Repeated | Last::Behind => Some(TlsFault::BadRecord),
            Last::TooLong => Some(TlsFault::RecordTooLong),
            Last::Empty => Some(TlsFault::EmptyRecords),
            Last::Clear => Some(TlsFault::Unexpected),
            Last::Alert => Some(TlsFault::Alert(Alert(INTERNAL_ERROR))),
        }
    }
}

impl Script {
    /// Something to say to a server whose messages have so many bytes at the most.
    pub(super) fn draw(ids: u64, message_max: usize, random: &mut Random) -> Script {
        let mut bytes = Vec::new();
        let noise =
            |random: &mut Random, len: u64| -> Vec<u8> { (0..len).map(|_| random.next() as u8).collect() };
        match random.below(8) {
            0 => {
                let len = random.of_any_size(1, 300);
                bytes = noise(random, len);
            }
            1 => bytes.extend_from_slice(&u32::MAX.to_le_bytes()),
            2 => frame(&mut bytes, b"\x01"),
            3 => {}
            kind => {
                frame(&mut bytes, format!("c{}", random.below(ids)).as_bytes());
                for _ in 0..random.of_any_size(1, 40) {
                    let longest = random.happens(50);
                    let most = message_max as u64;
                    let len = if longest { most } else { random.of_any_size(1, 200.min(most) + 1) - 1 };
                    let body = noise(random, len);
                    frame(&mut bytes, &body);
                }
                match kind {
                    4 if random.happens(500) => bytes.extend_from_slice(&(RESERVED | 1).to_le_bytes()),
                    // One byte too long, and all of it there.
                    4 => {
                        let body = noise(random, message_max as u64 + 1);
                        frame(&mut bytes, &body);
                    }
                    // In the middle of a frame.
                    5 => bytes.truncate(random.below(bytes.len() as u64) as usize),
                    _ => {}
                }
            }
        }
        Script::read(bytes, message_max)
    }

    fn read(bytes: Vec<u8>, message_max: usize) -> Script {
        let (mut frames, mut at) = (Vec::new(), 0);
        let bad = loop {
            let Some(header) = bytes[at..].first_chunk::<HEADER>() else { break None };
            let len = u32::from_le_bytes(*header);
            let max = if frames.is_empty() { HELLO_MAX } else { message_max } as u32;
            let from = at + HEADER;
            if len >= RESERVED {
                break Some((from, FrameError::Reserved { len }));
            }
            if len > max {
                break Some((from, FrameError::TooLong { len, max }));
            }
            at = from + len as usize;
            if at > bytes.len() {
                break None;
            }
            frames.push(from..at);
        };
        Script { bytes, frames, bad, manner: Manner::Clear }
    }

    /// The same as somebody says it to a server under TLS, who may do so in the clear.
    pub(super) fn under_tls(self, random: &mut Random) -> Script {
        let manner = match random.happens(300) {
            true => Manner::Clear,
            false => Manner::Sealed(Last::ALL[random.below(Last::ALL.len() as u64) as usize]),
        };
        match manner {
            // Nobody reads frames from it.
            Manner::Clear => Script { frames: Vec::new(), bad: None, ..self },
            Manner::Sealed(_) => Script { manner, ..self },
        }
    }

    #[cfg(feature = "tls")]
    pub(super) fn manner(&self) -> Manner {
        self.manner
    }

    pub(super) fn is_in_the_clear(&self) -> bool {
        self.manner == Manner::Clear
    }

    /// Whether it ends as TLS wants it.
    pub(super) fn says_goodbye(&self) -> bool {
        self.manner == Manner::Sealed(Last::Goodbye)
    }

    /// What a server under TLS may find wrong behind its first `sent` bytes of frames.
    pub(super) fn tls_fault(&self, sent: u64) -> Option<TlsFault> {
        match self.manner {
            Manner::Sealed(last) if sent >= self.bytes.len() as u64 => last.fault(),
            _ => None,
        }
    }

    /// Whether that is to be found when so many records have come behind them.
    pub(super) fn is_said_wrong(&self, records: usize) -> bool {
        match self.manner {
            Manner::Sealed(last) => last.fault().is_some() && records >= last.records(),
            Manner::Clear => false,
        }
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its first frame, if it is whole in its first `sent` bytes.
    pub(super) fn hello(&self, sent: u64) -> Option<&[u8]> {
        let frame = self.frames.first().filter(|frame| frame.end as u64 <= sent)?;
        Some(&self.bytes[frame.clone()])
    }

    /// Its messages.
    pub(super) fn messages(&self) -> impl Iterator<Item = &[u8]> {
        self.frames.iter().skip(1).map(|frame| &self.bytes[frame.clone()])
    }

    /// Whether there is anything in it that can't be a frame.
    pub(super) fn is_faulty(&self) -> bool {
        self.bad.is_some()
    }

    /// What in its first `sent` bytes can't be a frame.
    pub(super) fn fault(&self, sent: u64) -> Option<FrameError> {
        self.bad.filter(|(end, _)| *end as u64 <= sent).map(|(_, fault)| fault)
    }
}

fn frame(script: &mut Vec<u8>, bytes: &[u8]) {
    script.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    script.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_up_to_the_length_that_is_none() {
        let mut bytes = Vec::new();
        for message in [&b"c1"[..], b"", b"four"] {
            frame(&mut bytes, message);
        }
        let end = bytes.len() as u64;
        frame(&mut bytes, b"fives");
        let script = Script::read(bytes, 4);
        assert_eq!((script.hello(5), script.hello(6)), (None, Some(&b"c1"[..])));
        assert_eq!(script.messages().collect::<Vec<_>>(), [&b""[..], b"four"]);
        let fault = FrameError::TooLong { len: 5, max: 4 };
        assert_eq!((script.fault(end + 3), script.fault(end + 4)), (None, Some(fault)));
    }
}
