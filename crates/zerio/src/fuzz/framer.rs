//! Buffer and framer: the same messages come out as a naive reading of the whole stream gives, whatever the
//! pieces in which it comes.
#![forbid(unsafe_code)]

use super::Input;
use crate::error::FrameError;
use crate::recv::buffer::Buffer;
use crate::recv::framer::{Framer, frame_len};
use crate::region::Region;
use crate::wire::{HEADER, RESERVED};

/// The messages of a stream, and what is wrong with the frame behind them.
pub(super) fn naive(mut stream: &[u8], max: usize) -> (Vec<&[u8]>, Option<FrameError>) {
    let mut messages = Vec::new();
    while stream.len() >= HEADER {
        let len = stream[..HEADER].iter().rev().fold(0usize, |len, &byte| len * 256 + usize::from(byte));
        if len > max {
            let len = len as u32;
            let reserved = len >= RESERVED;
            let max = max as u32;
            let error =
                if reserved { FrameError::Reserved { len } } else { FrameError::TooLong { len, max } };
            return (messages, Some(error));
        }
        if stream.len() < HEADER + len {
            break;
        }
        messages.push(&stream[HEADER..HEADER + len]);
        stream = &stream[HEADER + len..];
    }
    (messages, None)
}

/// Reads limits, then pieces, then a stream from `data`, and receives the stream in these pieces.
pub fn framer(data: &[u8]) {
    let mut input = Input(data);
    let max = input.below(600);
    let capacity = HEADER + max + input.below(600);
    let pieces = 1 + usize::from(input.byte() % 16);
    let pieces: Vec<_> = (0..pieces).map(|_| (1 + input.below(700), usize::from(input.byte()))).collect();
    let stream = input.rest();
    let (expected, fault) = naive(stream, max);

    let (region, mut cutter) = Region::new(capacity).expect("a small region");
    let mut buffer = Buffer::new(cutter.cut(0), cutter.cut(capacity));
    buffer.move_on(&region);
    let (mut received, mut messages) = (0, 0);
    let mut found = None;
    let mut pieces = pieces.into_iter().cycle();
    while found.is_none() {
        let (most, handle) = pieces.next().expect("there is one");
        let frame = frame_len(buffer.bytes(&region), max as u32);
        let mut brought = 0;
        if let Some(mut room) = buffer.lend(&region, frame) {
            brought = most.min(room.len()).min(stream.len() - received);
            let bytes = &stream[received..received + brought];
            region.bytes_mut(&mut room)[..brought].copy_from_slice(bytes);
            region.bytes_mut(&mut room)[brought..].fill(0xee);
            buffer.give_back(room, brought);
            received += brought;
        }
        // Where nothing came, no handler is paused: all that is there is handled.
        let handle = if brought == 0 { usize::MAX } else { handle };
        let bytes = buffer.bytes(&region);
        let mut framer = Framer::new(bytes, max as u32);
        let mut handled = 0;
        while handled < handle {
            match framer.next() {
                Ok(Some(message)) => {
                    assert_eq!(message, expected[messages], "message {messages}");
                    messages += 1;
                    handled += 1;
                }
                Ok(None) => break,
                Err(error) => {
                    found = Some(error);
                    break;
                }
            }
        }
        let framed = framer.framed();
        buffer.consume(framed);
        if brought == 0 && handled == 0 && found.is_none() {
            assert_eq!(received, stream.len(), "neither room nor a message");
            break;
        }
    }
    assert_eq!((messages, found), (expected.len(), fault));
}
