//! The handshake, both ways, against the words of the protocol: what a server makes of a first frame, and what
//! a client makes of the answer.
#![forbid(unsafe_code)]

use super::{Input, frame};
use crate::error::{BadPeerId, RefusalCode};
use crate::wire::{Answer, HEADER, ID_MAX, PeerId, RefusalFrame, decode_answer, decode_hello};

/// An id as the protocol has it: 1 to 255 bytes of UTF-8, no control characters.
fn is_id(bytes: &[u8]) -> bool {
    let text = String::from_utf8(bytes.to_vec());
    (1..=ID_MAX).contains(&bytes.len()) && text.is_ok_and(|text| !text.contains(char::is_control))
}

/// A feature block, byte by byte: a code that is not zero, a length, so many bytes; at least one.
fn is_feature_block(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == 0 || at + 1 == bytes.len() {
            return false;
        }
        at += 2 + usize::from(bytes[at + 1]);
    }
    at > 0 && at == bytes.len()
}

/// Whose first frame that is, if it is a good one.
pub(super) fn id_of(hello: &[u8]) -> Option<&[u8]> {
    let (id, features) = match hello.iter().position(|&byte| byte == 0) {
        Some(zero) => (&hello[..zero], Some(&hello[zero + 1..])),
        None => (hello, None),
    };
    (is_id(id) && features.is_none_or(is_feature_block)).then_some(id)
}

/// Reads the length of a client's first frame, then that frame, then a server's answer from `data`.
pub fn handshake(data: &[u8]) {
    let mut input = Input(data);
    let len = input.below(1200);
    let hello = input.take(len);
    let answer = input.rest();
    server_side(hello);
    client_side(answer, hello);
    client_side(hello, hello);
    for code in RefusalCode::ALL {
        let refusal = RefusalFrame::new(code);
        assert_eq!(refusal.frame(), frame(refusal.message()));
        client_side(refusal.message(), hello);
    }
}

fn server_side(hello: &[u8]) {
    let zero = hello.iter().position(|&byte| byte == 0);
    let (id, features) = match zero {
        Some(zero) => (&hello[..zero], Some(&hello[zero + 1..])),
        None => (hello, None),
    };
    let good_features = features.is_none_or(is_feature_block);
    match decode_hello(hello) {
        Ok(peer) => {
            assert!(is_id(id) && good_features, "let in: {hello:?}");
            assert_eq!(peer.as_bytes(), id);
            assert_eq!(PeerId::new(peer.as_str()), Ok(peer));
        }
        Err(BadPeerId::BadFeatures) => assert!(!good_features, "refused: {hello:?}"),
        Err(_) => assert!(!is_id(id), "refused: {hello:?}"),
    }
}

fn client_side(answer: &[u8], hello: &[u8]) {
    // A client that says nothing sensible is never one: its own id was checked.
    let is_client = is_id(hello);
    match decode_answer(answer, hello) {
        Answer::Accepted => assert_eq!(answer, hello),
        Answer::Refused(code, text) => {
            assert_eq!(answer[..2], [0, code.to_byte()]);
            assert_eq!(&answer[2..], text.as_bytes());
            assert_eq!(RefusalCode::from_byte(answer[1]), code);
        }
        Answer::Foreign => {
            let refusal = answer.len() >= 2 && answer[0] == 0 && std::str::from_utf8(&answer[2..]).is_ok();
            assert!(!refusal && (!is_client || answer != hello), "foreign: {answer:?}");
        }
    }
    // Whatever is said, it fits the frame that says it.
    assert_eq!(frame(answer).len(), HEADER + answer.len());
}
