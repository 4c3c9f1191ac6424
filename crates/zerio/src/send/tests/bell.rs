//! The doorbell, direct sends, and what a slow peer looks like from the engine.
#![forbid(unsafe_code)]

use super::*;

#[test]
fn a_commit_that_meets_the_engine_asleep_wakes_it_once() {
    let world = World::new();
    assert!(world.bell.fall_asleep());
    world.send(b"one").unwrap();
    world.send(b"two").unwrap();
    assert_eq!((world.wakes.get(), world.bell.wake_ups.get()), (1, 1));
    assert_eq!(world.bell.take(0), 1);
}

#[test]
fn a_commit_that_meets_the_engine_awake_wakes_nobody() {
    let world = World::new();
    world.send(b"one").unwrap();
    assert!(!world.bell.fall_asleep(), "there is work");
    world.send(b"two").unwrap();
    assert_eq!(world.wakes.get(), 0);
    assert_eq!(world.bell.take(0), 1);
    assert!(world.bell.fall_asleep());
    world.bell.wake_up();
    world.send(b"three").unwrap();
    assert_eq!(world.wakes.get(), 0);
}

#[test]
fn a_pump_that_finds_its_flag_taken_leaves_a_mark() {
    let mut world = World::new();
    world.send(b"one").unwrap();
    world.bell.take(0);
    let taken = world.path.pump.try_take();
    world.path.pump(ID, &mut world.driver, false).unwrap();
    assert_eq!(world.bell.count(), 1);
    drop(taken);
    world.pump().unwrap();
    assert_eq!(world.driver.requests, [frames(&[b"one"])]);
}

#[test]
fn whether_a_path_is_drained_waits_for_a_sender_who_is_just_pumping() {
    let world = World::new();
    let taken = world.path.pump.try_take();
    let asked = Flag::default();
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| {
            asked.set(true);
            world.path.is_drained()
        });
        wait_for(|| asked.get());
        std::thread::sleep(Duration::from_millis(20));
        drop(taken);
        assert!(drained.join().unwrap(), "nobody would look again before the drain deadline");
    });
}

// Direct sends.

#[cfg(unix)]
use std::os::unix::net::UnixStream as Stream;

#[cfg(unix)]
fn pair() -> (Stream, Stream) {
    Stream::pair().unwrap()
}

#[cfg(not(unix))]
use std::net::TcpStream as Stream;

#[cfg(not(unix))]
fn pair() -> (Stream, Stream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = Stream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

fn with_socket(world: &World) -> (Stream, Stream) {
    let (ours, theirs) = pair();
    ours.set_nonblocking(true).unwrap();
    world.path.connect(Some(Direct::new(&ours)), 1);
    (ours, theirs)
}

#[test]
fn a_sender_that_meets_the_engine_asleep_sends_itself_and_wakes_it_for_a_stream_only() {
    use std::io::Read;
    let world = World::new();
    let (_ours, mut theirs) = with_socket(&world);
    assert!(world.bell.fall_asleep());
    let mut received = [0; 5];
    for number in 1..=DIRECT_SENDS {
        assert_eq!(world.wakes.get(), 0, "after {} direct sends", number - 1);
        world.send(b"x").unwrap();
        theirs.read_exact(&mut received).unwrap();
        assert_eq!(received[..], frames(&[b"x"]));
    }
    assert_eq!(world.wakes.get(), 1);
    assert_eq!(world.bell.count(), 1, "the engine is to know who sends");
    assert_eq!(world.path.counters().direct_sends, u64::from(DIRECT_SENDS));
    assert!(world.path.is_drained(), "nothing is left for it to send");
    world.path.disconnect();
}

#[test]
fn what_was_committed_behind_a_greeting_is_sent_with_it() {
    use std::io::Read;
    let mut world = World::new();
    let (_ours, mut theirs) = with_socket(&world);
    world.path.greet(b"me");
    world.send(b"x").unwrap();
    world.pump().unwrap();
    let mut received = [0; 11];
    theirs.read_exact(&mut received).unwrap();
    assert_eq!(received[..], frames(&[b"me", b"x"]));
    assert!(world.path.is_drained());
    world.path.disconnect();
}

#[test]
fn a_batch_asked_the_driver_to_send_on_a_connection_that_a_direct_send_had_found_dead() {
    for batched in [false, true] {
        let mut world = World::new();
        let (_ours, theirs) = with_socket(&world);
        drop(theirs);
        assert!(world.bell.fall_asleep());
        // On some systems the first only brings the reset.
        wait_for(|| {
            let _ = world.send(b"x");
            world.path.pump.try_take().is_some_and(|pump| pump.failed.is_some())
        });
        let failed = world.path.pump.try_take().unwrap().failed;
        let _ = world.send(b"y");
        let outcome = world.path.pump(ID, &mut world.driver, batched);
        assert_eq!(outcome.map_err(Some), Err(failed), "batched: {batched}");
        assert!(world.driver.requests.is_empty(), "batched: {batched}");
        world.path.disconnect();
    }
}

/// Only a pair of Unix's is full at once and stays so: TCP goes on moving bytes to the other side.
#[cfg(unix)]
#[test]
fn what_the_kernel_has_no_room_for_is_the_engines_and_goes_to_the_driver() {
    use std::io::Write;
    let mut world = World::new();
    let (mut ours, _theirs) = with_socket(&world);
    while ours.write(&[0; 4096]).is_ok() {}
    assert!(world.bell.fall_asleep());
    world.send(b"patience").unwrap();
    assert_eq!((world.wakes.get(), world.bell.count()), (1, 1));
    world.bell.wake_up();
    world.pump().unwrap();
    assert_eq!(world.driver.requests, [frames(&[b"patience"])]);
    assert_eq!(world.path.counters().direct_sends, 0);
    let span = world.driver.in_flight.take().unwrap();
    world.path.sent(span, Ok(12)).unwrap();
    world.path.disconnect();
}

#[test]
fn nobody_sends_directly_while_the_driver_has_a_send_in_flight() {
    let mut world = World::new();
    world.send(b"first").unwrap();
    world.pump().unwrap();
    let (_ours, theirs) = with_socket(&world);
    theirs.set_nonblocking(true).unwrap();
    assert!(world.bell.fall_asleep());
    world.send(b"second").unwrap();
    let nothing = std::io::Read::read(&mut &theirs, &mut [0; 64]);
    assert_eq!(nothing.unwrap_err().kind(), ErrorKind::WouldBlock, "it would overtake the first");
    world.path.disconnect();
    world.complete(9);
    world.pump().unwrap();
    assert_eq!(world.driver.requests[1], frames(&[b"second"]));
}

// A peer that reads too slowly.

#[test]
fn a_full_ring_is_stuck_until_it_is_half_empty() {
    let mut world = World::new();
    assert_eq!(world.stuck(), None);
    world.fill();
    assert_eq!(world.stuck(), Some(1));
    assert_eq!(world.bell.count(), 1, "the engine is to look at it");
    world.pump().unwrap();
    world.complete(CAPACITY / 2 - 1);
    assert_eq!(world.stuck(), Some(1), "one byte too few");
    world.pump().unwrap();
    world.complete(1);
    assert_eq!(world.stuck(), None);
    for number in 0..8 {
        world.send(&[number; LEN]).unwrap();
    }
    assert_eq!(world.send(&[8; LEN]), Err(SendError::Full));
    assert_eq!(world.stuck(), Some(3), "another time");
}

#[test]
fn a_ring_that_was_half_empty_and_had_no_room_for_a_long_message_was_not_stuck() {
    const LONG: usize = 1500 - HEADER;
    let mut world = World::new();
    world.send(&[0; LONG]).unwrap();
    world.send(&[1; LONG]).unwrap();
    assert_eq!(world.send(&[2; LONG]), Err(SendError::Full));
    world.pump().unwrap();
    // Less than half of it is in use, and the end of the ring is in the way.
    world.complete(1200);
    assert_eq!(world.send(&[2; LONG]), Err(SendError::Full));
    assert_eq!(world.stuck(), Some(1), "it has been since the first");
    world.pump().unwrap();
    world.complete(1800);
    assert_eq!(world.stuck(), None);
    world.send(&[2; LONG]).unwrap();
}

#[test]
fn a_new_session_of_the_slot_is_not_stuck() {
    let mut world = World::new();
    world.fill();
    world.path.close();
    world.path.open(2);
    assert_eq!(world.stuck(), None);
}

#[test]
fn a_ring_that_was_emptied_while_a_sender_found_it_full_is_not_stuck() {
    let world = World::new();
    // The sender's note comes after the last completion: no other would take it back.
    assert!(world.path.note_full(LEN));
    assert_eq!(world.stuck(), None);
}
