//! Messages whose contents tell who sent them, which of its sender's they are, and whether a byte is wrong.
#![forbid(unsafe_code)]

use std::collections::HashMap;

/// Sender and number: a shorter message carries neither, and is only counted.
const HEAD: usize = 9;

/// The `number`-th message of a sender, `len` bytes long.
pub fn message(sender: u8, number: u64, len: usize) -> Vec<u8> {
    if len < HEAD {
        return vec![len as u8; len];
    }
    let mut message = vec![sender];
    message.extend(number.to_le_bytes());
    message.extend((HEAD..len).map(|at| byte(sender, number, at)));
    message
}

fn byte(sender: u8, number: u64, at: usize) -> u8 {
    (at as u64).wrapping_mul(31).wrapping_add(number).wrapping_add(u64::from(sender)) as u8
}

/// A length for a sender's `number`-th message: mostly short, sometimes up to `max`, both ends included.
pub fn len(sender: u8, number: u64, max: usize) -> usize {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(u32::from(sender) + 17);
    match number % 32 {
        0 => max,
        1 => 0,
        2..=5 => mixed as usize % (max + 1),
        _ => mixed as usize % (max + 1).min(48),
    }
}

/// Holds what arrives against what was sent.
#[derive(Debug, Default)]
pub struct Checker {
    /// Which number each sender's next message has at the least.
    next: HashMap<u8, u64>,
    /// Whole messages that carry their number.
    numbered: u64,
    short: u64,
}

impl Checker {
    /// A message arrived: it must be whole, and behind all that its sender sent before.
    #[track_caller]
    pub fn check(&mut self, bytes: &[u8], max: usize) {
        let Some((head, _)) = bytes.split_first_chunk::<HEAD>() else {
            assert!(bytes.iter().all(|&byte| byte as usize == bytes.len()), "a torn short message");
            self.short += 1;
            return;
        };
        let sender = head[0];
        let number = u64::from_le_bytes(head[1..].try_into().expect("eight bytes"));
        assert_eq!(bytes.len(), len(sender, number, max), "the length of {sender}'s message {number}");
        assert_eq!(bytes, message(sender, number, bytes.len()), "the bytes of {sender}'s message {number}");
        let next = self.next.entry(sender).or_default();
        // Those in between must have been short ones, which carry no number.
        let numbered_between = (*next..number).any(|between| len(sender, between, max) >= HEAD);
        assert!(*next <= number && !numbered_between, "{sender}'s {number} came, {next} was next");
        *next = number + 1;
        self.numbered += 1;
    }

    /// How many messages arrived.
    pub fn count(&self) -> u64 {
        self.numbered + self.short
    }
}
