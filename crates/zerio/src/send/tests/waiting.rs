//! Waiting for room in a ring, and for its holder to let go.
#![forbid(unsafe_code)]

use super::*;

#[test]
fn a_claim_that_waits_gets_its_room_when_the_kernel_takes_some() {
    let mut world = World::new();
    world.fill();
    world.pump().unwrap();
    let waits = Flag::default();
    let span = world.driver.in_flight.take().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let claim = world.path.claim(1, LEN, patiently(&waits));
            claim.and_then(Claim::commit)
        });
        wait_for(|| waits.get());
        world.path.sent(span, Ok(CAPACITY / 16)).unwrap();
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(world.left(), (16, CAPACITY as u64));
}

#[test]
fn a_claim_that_waits_hears_of_the_end_of_its_session() {
    let mut world = World::new();
    world.fill();
    let waits = Flag::default();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| world.path.claim(1, LEN, patiently(&waits)).map(drop));
        wait_for(|| waits.get());
        world.path.close();
        assert_eq!(waiter.join().unwrap(), Err(SendError::Closed));
    });
}

#[test]
fn a_claim_waits_until_another_is_committed_or_dropped() {
    for commit in [true, false] {
        let world = World::new();
        let claim = world.path.try_claim(1, 4).unwrap();
        let waits = Flag::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| world.path.claim(1, 4, patiently(&waits)).and_then(Claim::commit));
            wait_for(|| waits.get());
            if commit {
                claim.commit().unwrap();
            } else {
                drop(claim);
            }
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(world.path.counters().messages_accepted, 1 + u64::from(commit));
    }
}

#[test]
fn a_claim_that_waits_until_its_deadline_says_so() {
    let mut world = World::new();
    world.fill();
    let mut pauses = [Duration::from_millis(1); 2].into_iter();
    let outcome = world.path.claim(1, LEN, || pauses.next());
    assert_eq!(outcome.unwrap_err(), SendError::TimedOut);
    assert_eq!(pauses.next(), None, "it waited as long as it had time left");
    assert!(!world.path.is_taken());
}

#[test]
fn in_a_handler_nothing_waits() {
    let mut world = World::new();
    world.fill();
    let _in_handler = InHandler::enter();
    let outcome = world.path.claim(1, LEN, || panic!("it is about to wait"));
    assert_eq!(outcome.unwrap_err(), SendError::Full);
}

#[test]
fn threads_that_wait_for_each_other_and_for_room_send_every_message_in_order() {
    const THREADS: u8 = 4;
    const MESSAGES: u32 = 1_000;
    let World { path, bell, mut driver, .. } = World::new();
    let send = |thread: u8| {
        for number in 0..MESSAGES {
            let mut message = vec![thread; 4 + (number % 300) as usize];
            message[..4].copy_from_slice(&number.to_le_bytes());
            message.push(thread);
            let mut claim = path.claim(1, message.len(), patiently(&Flag::default())).unwrap();
            claim.copy_from_slice(&message);
            claim.commit().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || send(thread))).collect();
        loop {
            let over = senders.iter().all(|sender| sender.is_finished());
            bell.take(0);
            path.pump(ID, &mut driver, false).unwrap();
            match driver.in_flight.take() {
                Some(span) => {
                    let len = span.len();
                    path.sent(span, Ok(len)).unwrap();
                }
                None if over => break,
                None => std::thread::yield_now(),
            }
        }
    });
    let wire_bytes = driver.requests.concat();
    let mut next = [0; THREADS as usize];
    let mut bytes = &wire_bytes[..];
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let (message, rest) = rest.split_at(u32::from_le_bytes(*header) as usize);
        bytes = rest;
        let (number, body) = message.split_first_chunk::<4>().unwrap();
        let (number, thread) = (u32::from_le_bytes(*number), body[0]);
        assert_eq!(number, next[thread as usize], "in the order of thread {thread}");
        next[thread as usize] += 1;
        assert_eq!(body, vec![thread; 1 + (number % 300) as usize], "whole");
    }
    assert_eq!(next, [MESSAGES; THREADS as usize]);
}
