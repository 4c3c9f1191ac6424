//! Which sessions are watched, and that nothing is overlooked when one no longer is.
#![forbid(unsafe_code)]

use super::*;
use crate::cursor::{OWN_AFTER, ProcessBarrier};
use crate::engine::streams::{QUIET_LOOKS, STREAM, STREAMS_MAX};

impl Engine<Told, Slow> {
    /// A thread of the user's sends so many messages on the session in this slot.
    pub(super) fn user_sends(&self, index: usize, messages: u64) {
        let generation = self.core.table.sessions[index].id.generation;
        let send = &self.core.shared.slots[index].send;
        (0..messages).for_each(|_| send.try_send(generation, b"message").unwrap());
    }

    pub(super) fn turn_and_take(&mut self, index: usize) {
        self.turn(clock()).unwrap();
        self.driver.takes_all(index);
        self.turn(clock()).unwrap();
    }

    /// Makes the session in this slot a stream, if it can be one.
    pub(super) fn begin_stream_on(&mut self, index: usize) {
        for _ in 0..2 {
            self.user_sends(index, STREAM);
            self.turn_and_take(index);
            self.turn_and_take(index);
        }
    }

    /// Whether a sender on this slot is spared telling the engine. The message is sent.
    fn is_watched(&mut self, index: usize) -> bool {
        assert_eq!(self.core.shared.bell.count(), 0);
        self.user_sends(index, 1);
        let told = self.core.shared.bell.count();
        self.turn(clock()).unwrap();
        assert!(self.driver.sends[index].is_some(), "told or not, the engine has found it");
        self.driver.takes_all(index);
        self.turn_and_take(index);
        told == 0
    }

    fn parks(&self) -> u64 {
        self.core.shared.tallies.read().parks
    }
}

/// Elsewhere there are no streams, and nothing here to see.
fn there_are_streams() -> bool {
    ProcessBarrier::new().is_some()
}

#[test]
fn so_many_messages_twice_in_a_row_are_a_stream_and_one_less_or_once_are_none() {
    for (first, second, watched) in
        [(STREAM, STREAM, true), (STREAM, STREAM - 1, false), (STREAM - 1, STREAM, false)]
    {
        let mut engine = server();
        for messages in [first, second] {
            engine.user_sends(0, messages);
            engine.turn(clock()).unwrap();
            engine.driver.takes_all(0);
        }
        assert_eq!(engine.core.streams.len() == 1, watched && there_are_streams());
        engine.turn_and_take(0);
        engine.turn_and_take(0);
        assert_eq!(engine.is_watched(0), watched && there_are_streams());
    }
}

#[test]
fn two_bursts_with_a_sleep_between_them_are_no_stream() {
    let mut engine = server();
    for _ in 0..2 {
        engine.user_sends(0, STREAM);
        engine.turn_and_take(0);
        engine.park(clock()).unwrap();
        engine.turn_and_take(0);
    }
    assert!(!engine.is_watched(0));
}

#[test]
fn an_engine_without_its_barrier_never_slept_again() {
    let mut engine = server();
    engine.begin_stream_on(0);
    engine.core.streams.lose_barrier();
    let parks = engine.parks();
    engine.park(clock()).unwrap();
    assert_eq!(engine.parks(), parks + 1, "for a short time, and then it looks again");
    assert_eq!(engine.is_watched(0), there_are_streams());
    engine.driver.receives(0, b"");
    engine.turn_and_take(0);
    engine.turn_and_take(0);
    engine.park(clock()).unwrap();
    assert_eq!((engine.parks(), engine.core.streams.len()), (parks + 2, 0), "and for long when it has ended");
}

#[test]
fn the_promise_of_a_session_that_has_ended_fell_to_the_slots_next_one() {
    let mut engine = server();
    engine.begin_stream_on(0);
    engine.core.streams.lose_barrier();
    engine.driver.receives(0, b"");
    engine.turn_and_take(0);
    engine.turn_and_take(0);
    engine.driver.connects();
    engine.turn(clock()).unwrap();
    engine.park(clock()).unwrap();
    engine.driver.receives(0, &frame(b"z"));
    engine.turn(clock()).unwrap();
    assert!(engine.driver.sends[0].is_some(), "it is welcomed");
}

#[test]
fn a_ring_whose_stream_has_ended_is_nobodys_own_any_more() {
    let mut engine = server();
    engine.begin_stream_on(0);
    let is_own = |engine: &Engine<Told, Slow>| engine.core.shared.slots[0].send.ring.word().is_own();
    for _ in 0..=u64::from(OWN_AFTER) / STREAM {
        assert!(!is_own(&engine));
        engine.user_sends(0, STREAM);
        engine.turn_and_take(0);
    }
    assert_eq!(is_own(&engine), there_are_streams());
    engine.park(clock()).unwrap();
    assert!(!is_own(&engine));
}

#[test]
fn an_engine_that_goes_to_sleep_watches_nothing() {
    let mut engine = server();
    engine.begin_stream_on(0);
    let parks = engine.parks();
    engine.park(clock()).unwrap();
    assert_eq!(engine.parks(), parks + 1, "it slept");
    assert!(!engine.is_watched(0));
    engine.begin_stream_on(0);
    assert_eq!(engine.is_watched(0), there_are_streams(), "and may do so again");
}

#[test]
fn a_message_that_relied_on_being_seen_was_overlooked_by_an_engine_that_went_to_sleep() {
    let mut engine = server();
    engine.begin_stream_on(0);
    engine.user_sends(0, 1);
    let parks = engine.parks();
    engine.park(clock()).unwrap();
    assert_eq!(engine.parks(), parks, "it did not sleep");
    engine.turn(clock()).unwrap();
    assert!(engine.driver.sends[0].is_some());
}

#[test]
fn so_many_streams_are_watched_and_not_one_more() {
    let mut engine = server_of(STREAMS_MAX as u8 + 1, Waker::new(|| {}));
    for index in 0..=STREAMS_MAX {
        engine.begin_stream_on(index);
    }
    let watched: Vec<bool> = (0..=STREAMS_MAX).map(|index| engine.is_watched(index)).collect();
    let expected: Vec<bool> = (0..=STREAMS_MAX).map(|at| at < STREAMS_MAX && there_are_streams()).collect();
    assert_eq!(watched, expected);
}

#[test]
fn a_stream_that_dries_up_is_watched_for_so_many_looks_and_then_no_more() {
    let mut engine = server();
    engine.begin_stream_on(0);
    if !there_are_streams() {
        return;
    }
    let mut turns = 0;
    while engine.core.streams.len() > 0 {
        assert!(turns < QUIET_LOOKS, "for ever");
        engine.turn(clock()).unwrap();
        turns += 1;
    }
    // Two looks a turn, and a few turns passed while it began.
    assert!(turns > QUIET_LOOKS / 2 - 10, "{turns}");
    assert!(!engine.is_watched(0));
}

#[test]
fn a_slots_next_session_is_not_watched_for_the_sake_of_the_last() {
    let mut engine = server();
    engine.begin_stream_on(0);
    engine.driver.receives(0, b"");
    engine.turn_and_take(0);
    engine.turn_and_take(0);
    assert_eq!(engine.core.table.sessions[0].state, State::Free);
    engine.driver.connects();
    engine.turn(clock()).unwrap();
    engine.driver.receives(0, &frame(b"z"));
    engine.turn_and_take(0);
    engine.turn_and_take(0);
    assert_eq!(engine.core.table.sessions[0].state, State::Open);
    assert!(!engine.is_watched(0));
}
