//! Beside the send path: the handshake's frame, which goes before all messages and is none. It has memory of its own,
//! so that a session that says nothing else has touched no page of its ring.
#![forbid(unsafe_code)]

use crate::region::{Region, Span};
use crate::wire::{self, HEADER};

/// Three neighbours: what the kernel has taken, what it has not, and what the frame did not need.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Greeting {
    /// Empty where there is nothing left to say, and while the kernel has it. It alone is looked at for each request.
    left: Span,
    taken: Span,
    unused: Span,
}

impl Greeting {
    pub(super) fn new(mut memory: Span) -> Greeting {
        let mut left = memory.split_off(0);
        let unused = left.split_off(0);
        Greeting { taken: memory, left, unused }
    }

    /// Forgets the last session's. The kernel has nothing.
    pub(super) fn reset(&mut self) {
        let (left, unused) = (self.left.split_off(0), self.unused.split_off(0));
        self.taken.join(left);
        self.taken.join(unused);
        self.left = self.taken.split_off(0);
        self.unused = self.left.split_off(0);
    }

    /// Says a message of at most `HELLO_MAX` bytes.
    pub(super) fn say(&mut self, region: &Region, message: &[u8]) {
        debug_assert!(self.taken.is_empty() && self.left.is_empty(), "once a session");
        let unused = self.unused.split_off(HEADER + message.len());
        self.left = std::mem::replace(&mut self.unused, unused);
        let (head, body) = region.bytes_mut(&mut self.left).split_at_mut(HEADER);
        head.copy_from_slice(&wire::header(message.len() as u32));
        body.copy_from_slice(message);
    }

    /// What is left to say, for the kernel.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Span> {
        if self.left.is_empty() { None } else { Some(self.left.split_off(0)) }
    }

    /// The span comes back, and the kernel has taken so many of its bytes.
    pub(super) fn taken(&mut self, mut span: Span, bytes: usize) {
        self.left = span.split_off(bytes);
        self.taken.join(span);
    }

    /// Whether nothing is left to say; not asked while the kernel has it.
    pub(super) fn is_said(&self) -> bool {
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_said_to_its_end_once_a_session() {
        let (region, mut cutter) = Region::new(16).unwrap();
        let mut greeting = Greeting::new(cutter.cut(16));
        for message in
            [&b"me"[..], b"as long as it", b"me again"].map(|message| &message[..message.len().min(12)])
        {
            assert!(greeting.is_said() && greeting.next().is_none());
            let frame = [&wire::header(message.len() as u32), message].concat();
            greeting.say(&region, message);
            let span = greeting.next().unwrap();
            assert_eq!(region.bytes(&span), frame);
            greeting.taken(span, 0);
            let span = greeting.next().unwrap();
            greeting.taken(span, 5);
            assert!(!greeting.is_said());
            let span = greeting.next().unwrap();
            assert_eq!(region.bytes(&span), &frame[5..]);
            greeting.taken(span, frame.len() - 5);
            assert!(greeting.is_said() && greeting.next().is_none());
            greeting.reset();
        }
        // A session may end before it has been said.
        greeting.say(&region, b"me");
        greeting.reset();
        assert!(greeting.is_said());
        greeting.say(&region, b"as long as i");
    }
}
