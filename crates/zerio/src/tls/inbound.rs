//! What comes after the handshake: records are opened, and those that carry no messages of users are understood.
#![forbid(unsafe_code)]

use super::record::{Kind, Opener};
use crate::error::{Alert, TlsFault};

/// So many records with nothing in them may come in a row.
const EMPTY_MAX: u32 = 32;

/// So many tickets may come in a session; servers give one to four.
const TICKETS_MAX: u32 = 32;

/// So many key updates may come one after the other with no data between them: as many as rustls and BoringSSL bear
/// (`kMaxKeyUpdates`).
const KEY_UPDATES_MAX: u32 = 32;

/// The longest message of the protocol that is understood after the handshake, header included.
const MESSAGE_MAX: usize = 1 << 14;

const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// The receiving side of a session after its handshake.
#[derive(Debug)]
pub(crate) struct Inbound {
    opener: Opener,
    /// Messages of the protocol that are not yet whole, or not yet asked for.
    messages: Vec<u8>,
    empty: u32,
    updates: u32,
    tickets: u32,
}

/// What a record has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// How many bytes the record took, header included.
    pub(crate) record: usize,
    /// How many bytes for the framer stand at the area's start.
    pub(crate) plain: usize,
    pub(crate) news: News,
}

/// What is to be done about a record, beside what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    None,
    /// So many bytes of messages of the protocol stand at the area's start: they are to be kept, and may be whole then.
    Messages(usize),
    /// The peer sends nothing more.
    End,
}

/// A message of the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The peer's next record has another key.
    KeyUpdate {
        /// It wants the same of this side.
        asked: bool,
    },
    /// A ticket for a later connection.
    Ticket(Vec<u8>),
}

impl Inbound {
    pub(crate) fn new(opener: Opener) -> Inbound {
        Inbound { opener, messages: Vec::new(), empty: 0, updates: 0, tickets: 0 }
    }

    /// Opens the record that begins at `area[at..]`; see [`Opener::open`].
    pub(crate) fn open(&mut self, area: &mut [u8], at: usize) -> Result<Option<Piece>, TlsFault> {
        let Some(opened) = self.opener.open(area, at)? else { return Ok(None) };
        let record = opened.record;
        let whole = &area[..opened.plain];
        if opened.kind != Kind::Handshake && !self.messages.is_empty() {
            // Nothing may stand between two parts of a message (RFC 8446, 5.1).
            return Err(TlsFault::Unexpected);
        }
        let (plain, news) = match opened.kind {
            Kind::Data => (opened.plain, News::None),
            Kind::Alert => (0, alert(whole)?),
            Kind::Handshake => (0, News::Messages(opened.plain)),
        };
        match news {
            News::None if plain > 0 => (self.empty, self.updates) = (0, 0),
            // A warning brings nothing either.
            News::None => {
                self.empty += 1;
                if self.empty > EMPTY_MAX {
                    return Err(TlsFault::EmptyRecords);
                }
            }
            News::Messages(_) | News::End => {}
        }
        Ok(Some(Piece { record, plain, news }))
    }

    /// Keeps bytes of messages of the protocol. Alone of what is done with records it may allocate.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Result<(), TlsFault> {
        if bytes.is_empty() || self.messages.len() + bytes.len() > MESSAGE_MAX {
            return Err(TlsFault::Unexpected);
        }
        self.messages.extend_from_slice(bytes);
        Ok(())
    }

    /// The next message of the protocol, `None` where none is whole.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, TlsFault> {
        let Some(&[kind, high, mid, low]) = self.messages.first_chunk::<4>() else { return Ok(None) };
        let end = 4 + u32::from_be_bytes([0, high, mid, low]) as usize;
        if end > MESSAGE_MAX {
            return Err(TlsFault::Unexpected);
        }
        let Some(body) = self.messages.get(4..end) else { return Ok(None) };
        let message = match (kind, body) {
            // Its record has no other message behind it: that would be under the old key.
            (KEY_UPDATE, [asked @ (0 | 1)])
                if self.messages.len() == end && self.updates < KEY_UPDATES_MAX =>
            {
                self.updates += 1;
                Message::KeyUpdate { asked: *asked == 1 }
            }
            // There is nothing else that it could ask for (RFC 8446, 4.6.3).
            (KEY_UPDATE, [asked]) if *asked > 1 => return Err(TlsFault::Misbehaved),
            (NEW_SESSION_TICKET, ticket) if self.tickets < TICKETS_MAX => {
                self.tickets += 1;
                Message::Ticket(ticket.to_vec())
            }
            _ => return Err(TlsFault::Unexpected),
        };
        self.messages.drain(..end);
        Ok(Some(message))
    }

    /// From the next record on.
    pub(crate) fn renew(&mut self, opener: Opener) {
        self.opener = opener;
    }
}

fn alert(bytes: &[u8]) -> Result<News, TlsFault> {
    match bytes {
        [_, CLOSE_NOTIFY] => Ok(News::End),
        // It says why a close_notify follows.
        [_, USER_CANCELED] => Ok(News::None),
        [_, what] => Err(TlsFault::Alert(Alert(*what))),
        _ => Err(TlsFault::Unexpected),
    }
}

#[cfg(test)]
mod tests {
    use rustls::ConnectionTrafficSecrets;
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::super::record::{OVERHEAD, Sealer};
    use super::*;

    fn secrets() -> ConnectionTrafficSecrets {
        ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([7; 32]), iv: Iv::from([7; 12]) }
    }

    /// What comes of records with nothing in them, with others between them.
    fn after(between: (Kind, &[u8])) -> Result<Option<Piece>, TlsFault> {
        let mut inbound = Inbound::new(Opener::new(0, &secrets()).unwrap());
        let mut sealer = Sealer::new(0, &secrets()).unwrap();
        let mut open = |kind, plain: &[u8]| {
            let mut record = vec![0; plain.len() + OVERHEAD];
            sealer.seal(kind, plain, &mut record);
            inbound.open(&mut record, 0)
        };
        for _ in 0..EMPTY_MAX - 1 {
            open(Kind::Data, b"")?;
        }
        open(between.0, between.1)?;
        open(Kind::Data, b"")?;
        open(Kind::Data, b"")
    }

    /// What comes of so many key updates, and then data, and one more.
    fn after_updates(count: u32) -> Result<(), TlsFault> {
        let mut inbound = Inbound::new(Opener::new(0, &secrets()).unwrap());
        let mut update = || {
            inbound.keep(&[KEY_UPDATE, 0, 0, 1, 0])?;
            assert_eq!(inbound.next_message()?, Some(Message::KeyUpdate { asked: false }));
            Ok(())
        };
        (0..count).try_for_each(|_| update())?;
        let (mut sealer, mut record) = (Sealer::new(0, &secrets()).unwrap(), vec![0; 1 + OVERHEAD]);
        sealer.seal(Kind::Data, b"x", &mut record);
        inbound.open(&mut record, 0)?;
        inbound.keep(&[KEY_UPDATE, 0, 0, 1, 0])?;
        inbound.next_message().map(drop)
    }

    #[test]
    fn key_updates_without_data_came_without_end() {
        assert_eq!(after_updates(KEY_UPDATES_MAX), Ok(()));
        assert_eq!(after_updates(KEY_UPDATES_MAX + 1), Err(TlsFault::Unexpected));
    }

    #[test]
    fn a_key_update_that_asks_for_something_else_was_an_unexpected_message() {
        for (asks, expected) in [
            (0, Ok(Some(Message::KeyUpdate { asked: false }))),
            (1, Ok(Some(Message::KeyUpdate { asked: true }))),
            (2, Err(TlsFault::Misbehaved)),
            (255, Err(TlsFault::Misbehaved)),
        ] {
            let mut inbound = Inbound::new(Opener::new(0, &secrets()).unwrap());
            inbound.keep(&[KEY_UPDATE, 0, 0, 1, asks]).unwrap();
            assert_eq!(inbound.next_message(), expected, "{asks}");
        }
    }

    #[test]
    fn a_warning_between_empty_records_let_them_come_without_end() {
        assert!(after((Kind::Data, b"something")).is_ok());
        assert_eq!(after((Kind::Alert, &[1, USER_CANCELED])), Err(TlsFault::EmptyRecords));
    }
}
