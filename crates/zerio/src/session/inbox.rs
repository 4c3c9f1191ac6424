//! Connections that one engine of a server has accepted for another. Apart from what handles reach
//! ([`Shared`](super::Shared)), because a connection's type is its driver's, and handles know of none.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::used_once;
use crate::cursor::Flag;

/// The inboxes of a server's engines, in their order; a client has one, which stays empty.
pub(crate) type Inboxes<S> = Arc<[Inbox<S>]>;

/// An engine's connections that nobody has looked at yet.
pub(crate) struct Inbox<S> {
    /// `None` when the engine takes no more.
    waiting: Mutex<Option<Vec<(S, SocketAddr)>>>,
    filled: Flag,
}

/// Inboxes for so many engines, each with room for as many connections as an engine has slots.
pub(crate) fn inboxes<S>(engines: usize, slots: usize) -> Inboxes<S> {
    let waiting = || used_once(Mutex::new(Some(Vec::with_capacity(slots))));
    let inbox = |_| Inbox { waiting: waiting(), filled: Flag::default() };
    (0..engines).map(inbox).collect()
}

impl<S> Inbox<S> {
    /// Hands a connection over; gives it back where the inbox is full or closed. Its engine may sleep, and has
    /// to be woken after this.
    pub(crate) fn put(&self, socket: S, address: SocketAddr) -> Result<(), S> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(waiting) if waiting.len() < waiting.capacity() => waiting.push((socket, address)),
            _ => return Err(socket),
        }
        drop(waiting);
        self.filled.set(true);
        Ok(())
    }

    /// A connection that was handed over.
    #[inline]
    pub(crate) fn take(&self) -> Option<(S, SocketAddr)> {
        if !self.is_filled() {
            return None;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = waiting.as_mut().and_then(Vec::pop);
        if waiting.as_ref().is_none_or(Vec::is_empty) {
            self.filled.set(false);
        }
        connection
    }

    /// Takes no more connections, and gives those that nobody has looked at yet: an engine that ends
    /// would leave them without an answer.
    pub(crate) fn close(&self) -> Vec<(S, SocketAddr)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Whether a connection waits.
    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.filled.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_gives_back_what_it_has_no_room_for_and_what_comes_after_its_end() {
        let inboxes = inboxes::<u8>(2, 2);
        let (inbox, address) = (&inboxes[1], "127.0.0.1:1".parse().unwrap());
        assert!(inbox.take().is_none());
        inbox.put(1, address).unwrap();
        inbox.put(2, address).unwrap();
        assert_eq!(inbox.put(3, address), Err(3));
        assert!(inbox.is_filled() && !inboxes[0].is_filled());
        assert_eq!(inbox.take().map(|(socket, _)| socket), Some(2));
        assert_eq!(inbox.close(), [(1, address)]);
        assert_eq!(inbox.put(4, address), Err(4));
        assert!(inbox.take().is_none() && !inbox.is_filled());
    }
}
