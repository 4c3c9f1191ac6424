//! Messages whose every byte follows from who sent them and which of his they are.
#![forbid(unsafe_code)]

use super::MESSAGE_MAX;

/// Who, and which.
const HEAD: usize = 12;

/// Makes the `number`-th message of a client: mostly short, now and then as long as allowed.
pub(super) fn fill(message: &mut Vec<u8>, client: u32, number: u64) {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(client % 64);
    let room = MESSAGE_MAX - HEAD;
    let len = match number % 64 {
        0 => room,
        1..=7 => mixed as usize % room,
        _ => mixed as usize % 53,
    };
    message.clear();
    message.extend(client.to_le_bytes());
    message.extend(number.to_le_bytes());
    message.extend((0..len).map(|at| (mixed >> (at % 8 * 8)) as u8 ^ at as u8));
}

/// Whose message it is and which, by its own account.
pub(super) fn read(message: &[u8]) -> Option<(u32, u64)> {
    let (client, rest) = message.split_first_chunk()?;
    let (number, _) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*client), u64::from_le_bytes(*number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_tell_who_sent_them_and_are_never_too_long() {
        let mut message = Vec::new();
        let mut longest = 0;
        for number in 0..1000 {
            fill(&mut message, 7, number);
            assert_eq!(read(&message), Some((7, number)));
            longest = longest.max(message.len());
        }
        assert_eq!(longest, MESSAGE_MAX);
        assert_eq!(read(&message[..HEAD - 1]), None);
    }
}
