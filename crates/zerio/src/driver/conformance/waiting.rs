//! Waiting, and being woken.
#![forbid(unsafe_code)]

use std::io::Write;
use std::time::{Duration, Instant};

use super::network::{Network, Site};
use super::rig::*;
use crate::driver::Completion;

pub(super) fn a_wait_is_a_bound<D: Site>() {
    let mut rig = Rig::<D>::new(1);
    let _peer = rig.session(id(0, 1));
    let span = rig.span(16);
    rig.driver.receive(id(0, 1), span);
    for wait in [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(30)] {
        let start = Instant::now();
        rig.turn(wait);
        assert!(rig.done.is_empty());
        assert!(start.elapsed() < wait + DEADLINE);
    }
}

/// A driver that looks at some things in few turns only, because turns that do not wait follow each other, is told when
/// they do not.
pub(super) fn who_connects_between_turns_that_are_far_apart_waits_for_few_of_them<D: Site>() {
    const FEW: usize = 8;
    let mut rig = Rig::<D>::new(2);
    let _peer = rig.session(id(0, 1));
    let span = rig.span(16);
    rig.driver.receive(id(0, 1), span);
    let address = rig.listen();
    rig.driver.accept();
    for _ in 0..3 {
        rig.turn(Duration::ZERO);
    }
    let _client = D::On::connect(address).unwrap();
    for _ in 0..FEW {
        rig.driver.catch_up();
        rig.turn(Duration::ZERO);
    }
    assert!(matches!(rig.done[..], [Completion::Accepted(Ok(_))]), "{}: {:?}", D::NAME, rig.done);
}

/// The wait of a test that must end early, and sees that it was over before this is.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) fn a_wait_ends_early_for_bytes<D: Site>() {
    for sessions in [1, 10] {
        let mut rig = Rig::<D>::new(10);
        let mut peers: Vec<_> = (0..sessions).map(|index| rig.session(id(index, 1))).collect();
        for index in 0..sessions {
            let span = rig.span(16);
            rig.driver.receive(id(index, 1), span);
        }
        // A turn that does not wait comes first, as it does in an engine.
        rig.turn(Duration::ZERO);
        let mut peer = peers.pop().unwrap();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            peer.write_all(b"x").unwrap();
            peer
        });
        let start = Instant::now();
        while rig.done.is_empty() {
            rig.turn(LONG);
            assert!(start.elapsed() < DEADLINE);
        }
        let _peer = writer.join().unwrap();
        assert_eq!(rig.received(id(sessions - 1, 1)).1.unwrap(), 1);
    }
}

/// A driver that knows what its sockets are to tell only from when it waits on knows what they had by then.
pub(super) fn a_wait_ends_at_once_for_what_came_before_it<D: Site>() {
    for wait in [LONG, Duration::from_micros(500)] {
        let mut rig = Rig::<D>::new(1);
        let mut peer = rig.session(id(0, 1));
        let span = rig.span(16);
        rig.driver.receive(id(0, 1), span);
        rig.turn(Duration::ZERO);
        peer.write_all(b"x").unwrap();
        let start = Instant::now();
        while rig.done.is_empty() {
            rig.turn(wait);
            assert!(start.elapsed() < DEADLINE);
        }
        assert_eq!(rig.received(id(0, 1)).1.unwrap(), 1);
    }
}

pub(super) fn a_wait_ends_early_for_a_wake_up_from_another_thread<D: Site>() {
    let mut rig = Rig::<D>::new(1);
    let waker = rig.driver.waker();
    for _ in 0..5 {
        let waker = waker.clone();
        let ringer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            waker.wake();
        });
        let start = Instant::now();
        // It may also end for nothing, so this is no proof for one round; but it is if it always ends.
        rig.turn(LONG);
        assert!(start.elapsed() < DEADLINE);
        ringer.join().unwrap();
        // This one's wake-up may be left for the next wait, which must not make anything of it.
        rig.turn(Duration::from_millis(1));
    }
    assert!(rig.done.is_empty());
}

pub(super) fn a_wake_up_before_the_wait_ends_it<D: Site>() {
    let mut rig = Rig::<D>::new(1);
    let start = Instant::now();
    for _ in 0..5 {
        rig.driver.waker().wake();
        rig.turn(LONG);
    }
    // Several at once are as good as one.
    for _ in 0..1000 {
        rig.driver.waker().wake();
    }
    rig.turn(LONG);
    assert!(rig.done.is_empty() && start.elapsed() < DEADLINE);
}

pub(super) fn a_waker_outlives_its_driver<D: Site>() {
    let rig = Rig::<D>::new(1);
    let waker = rig.driver.waker();
    drop(rig);
    waker.wake();
    waker.clone().wake();
}
