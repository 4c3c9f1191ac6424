//! A ring that is one thread's own, and others who come: with threads of the system's, as the models have loom's.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use super::*;
use crate::cursor::OWN_AFTER;

/// So often each of the others comes.
const TIMES: u64 = 40;

const OTHERS: u64 = 2;

/// Who says it, and how many he has said before.
fn message(who: u64, number: u64) -> [u8; 16] {
    let mut message = [0; 16];
    message[..8].copy_from_slice(&who.to_le_bytes());
    message[8..].copy_from_slice(&number.to_le_bytes());
    message
}

fn send(path: &SendPath, who: u64, number: u64, by_claim: bool) {
    let message = message(who, number);
    let once = || match by_claim {
        false => path.try_send(ID.generation, &message),
        true => path.try_claim(ID.generation, 16).and_then(|mut claim| {
            claim.copy_from_slice(&message);
            claim.commit()
        }),
    };
    loop {
        match once() {
            Err(SendError::Full) => thread::yield_now(),
            outcome => return outcome.unwrap(),
        }
    }
}

#[test]
fn what_a_rings_owner_and_others_send_comes_whole_once_and_in_each_ones_order() {
    let World { path, bell, mut driver, .. } = World::new();
    path.watch(true);
    let (was_own, others_left) = (AtomicU64::new(0), AtomicU64::new(OTHERS));
    let word = path.ring.word();
    let mut expected = [0; 1 + OTHERS as usize];
    thread::scope(|scope| {
        let owner = scope.spawn(|| {
            let mut number = 0;
            // Until it was taken away for the last time.
            while others_left.load(Relaxed) > 0 {
                send(&path, 0, number, number % 1000 == 999);
                number += 1;
            }
            number
        });
        let others = [1, OTHERS].map(|who| {
            let (path, was_own, others_left) = (&path, &was_own, &others_left);
            scope.spawn(move || {
                for number in 0..TIMES {
                    // For half of the times it is what they come for; the others meet it in between.
                    if number % 2 == 0 {
                        wait_for(|| word.is_own());
                        was_own.fetch_add(1, Relaxed);
                    }
                    send(path, who, number, number % 4 >= 2);
                }
                others_left.fetch_sub(1, Relaxed);
            })
        });
        let mut drain = || {
            bell.take(0);
            while path.pump(ID, &mut driver, false).is_ok() {
                let Some(span) = driver.in_flight.take() else { break };
                let len = span.len();
                path.sent(span, Ok(len)).unwrap();
            }
            for frame in driver.requests.drain(..).flat_map(frames_of) {
                let who = u64::from_le_bytes(frame[..8].try_into().unwrap());
                let number = &mut expected[who as usize];
                assert_eq!(frame, message(who, *number), "whole, and in his order");
                *number += 1;
            }
        };
        while !owner.is_finished() {
            drain();
            thread::yield_now();
        }
        drain();
        let sent = owner.join().unwrap();
        others.into_iter().for_each(|other| other.join().unwrap());
        drain();
        assert!(sent > u64::from(OWN_AFTER));
        assert_eq!(expected, [sent, TIMES, TIMES]);
        assert_eq!(path.counters().messages_accepted, sent + OTHERS * TIMES);
    });
    assert_eq!(was_own.load(Relaxed), OTHERS * TIMES / 2);
}

/// The messages in what went to the kernel, which breaks no frame here.
fn frames_of(bytes: Vec<u8>) -> Vec<[u8; 16]> {
    let (frames, rest) = bytes.as_chunks::<{ HEADER + 16 }>();
    assert!(rest.is_empty());
    frames.iter().map(|frame| frame[HEADER..].try_into().unwrap()).collect()
}

#[test]
fn a_ring_that_is_somebodys_own_is_closed_while_he_sends_and_he_hears_of_it() {
    for _ in 0..20 {
        let World { path, bell, mut driver, .. } = World::new();
        path.watch(true);
        let (accepted, taken) = thread::scope(|scope| {
            let owner = scope.spawn(|| {
                let mut accepted = 0;
                loop {
                    match path.try_send(ID.generation, &message(0, accepted)) {
                        Ok(()) => accepted += 1,
                        Err(SendError::Full) => thread::yield_now(),
                        Err(error) => {
                            assert_eq!(error, SendError::Closed);
                            break accepted;
                        }
                    }
                }
            });
            let mut taken = 0;
            let mut drain = || {
                bell.take(0);
                path.pump(ID, &mut driver, false).unwrap();
                if let Some(span) = driver.in_flight.take() {
                    let len = span.len();
                    path.sent(span, Ok(len)).unwrap();
                    taken += (len / (HEADER + 16)) as u64;
                }
            };
            wait_for(|| {
                drain();
                path.ring.word().is_own()
            });
            path.close();
            (owner.join().unwrap(), taken)
        });
        assert_eq!(path.left().messages + taken, accepted);
        assert!(!path.is_taken());
    }
}
