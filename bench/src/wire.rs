//! Frames as zerio has them, for whoever has to make and to read them by hand: a 4-byte little-endian length and
//! the bytes. The first frame is the client's id, which the server sends back.
#![forbid(unsafe_code)]

/// Bytes of the length before each message.
pub(crate) const HEADER: usize = 4;

/// Adds a message with its header.
#[inline]
pub(crate) fn put(message: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&(message.len() as u32).to_le_bytes());
    to.extend_from_slice(message);
}

/// A message with its header.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + message.len());
    put(message, &mut frame);
    frame
}

/// The first message in some bytes, and the rest, if it is whole.
#[inline]
pub(crate) fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    rest.split_at_checked(u32::from_le_bytes(*header) as usize)
}

/// The id of a run's client of this number.
pub(crate) fn id(client: usize) -> String {
    format!("client-{client}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_where_they_end() {
        let mut bytes = frame(b"one");
        put(b"", &mut bytes);
        bytes.extend_from_slice(&[9, 0, 0]);
        let (one, rest) = split(&bytes).unwrap();
        let (none, rest) = split(rest).unwrap();
        assert_eq!((one, none, rest), (&b"one"[..], &b""[..], &[9, 0, 0][..]));
        assert_eq!(split(rest), None);
        assert_eq!(split(&bytes[..6]), None);
    }
}
