//! Closing a session, and dropping a driver.
#![forbid(unsafe_code)]

use std::io::{ErrorKind, Read, Write};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::network::{Network, Site};
use super::rig::*;

pub(super) fn closing_with_nothing_in_flight_only_closes<D: Site>() {
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 3);
    let mut peer = rig.session(id);
    rig.driver.close(id);
    rig.closed(id);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    rig.nothing_comes(2);
}

pub(super) fn closing_gives_back_a_receive_and_a_blocked_send_once_each<D: Site>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(2, pace);
        let id = id(1, 3);
        let (mut peer, own) = D::narrow_pair();
        // Before it is the driver's: not every kernel allows it after. What is full for a moment has room again when the peer's kernel has taken its part.
        let mut full = if D::PLAIN { 0 } else { 10 };
        while full < 10 {
            full = if fill_up(&D::On::direct(&own)) { 0 } else { full + 1 };
            std::thread::sleep(Duration::from_millis(10));
        }
        // Where it can't be filled beforehand, what is sent is more than both sides hold, and completes as a whole.
        let len = if D::PLAIN { 6000 } else { 1 << 18 };
        rig.driver.adopt(id, own, &options()).unwrap();
        let receive = rig.filled(11, 5000);
        rig.driver.receive(id, receive);
        let send = rig.filled(12, len);
        rig.driver.send(id, send);
        for _ in 0..4 {
            rig.step();
        }
        assert!(rig.done.is_empty(), "{}: {:?}", D::NAME, rig.done);
        rig.driver.close(id);
        let (receive, outcome) = rig.received(id);
        assert!(outcome.is_err(), "{}: {outcome:?}", D::NAME);
        assert_eq!(receive.len(), 5000);
        assert!(is_pattern(rig.region.bytes(&receive), 11));
        let (send, outcome) = rig.sent(id);
        assert!(outcome.is_err(), "{}: {outcome:?}", D::NAME);
        assert_eq!(send.len(), len);
        assert!(is_pattern(rig.region.bytes(&send), 12));
        rig.closed(id);
        rig.nothing_comes(2);
        // The descriptor is closed: the peer gets what the kernel had, and then an end or a reset.
        while matches!(peer.read(&mut [0; 4096]), Ok(1..)) {}
    }
}

pub(super) fn closing_gives_back_what_was_never_handed_over<D: Site>() {
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 3);
    let _peer = rig.session(id);
    let (receive, send) = (rig.span(10), rig.filled(0, 20));
    rig.driver.receive(id, receive);
    rig.driver.send(id, send);
    rig.driver.close(id);
    let (receive, outcome) = rig.received(id);
    assert_eq!((receive.len(), outcome.unwrap_err().kind()), (10, ErrorKind::ConnectionAborted));
    let (send, outcome) = rig.sent(id);
    assert_eq!((send.len(), outcome.unwrap_err().kind()), (20, ErrorKind::ConnectionAborted));
    rig.closed(id);
    rig.nothing_comes(2);
}

pub(super) fn a_reused_slot_hears_nothing_of_its_predecessor<D: Site>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let mut predecessors: Vec<<D::On as Network>::Peer> = Vec::new();
        for generation in [u32::MAX - 2, u32::MAX - 1, u32::MAX, 0, 1, 2] {
            let id = id(0, generation);
            let mut peer = rig.session(id);
            let span = rig.span(32);
            rig.driver.receive(id, span);
            rig.step();
            rig.step();
            assert!(rig.done.is_empty(), "{}: {:?}", D::NAME, rig.done);
            // What former peers write concerns nobody.
            for mut peer in predecessors.drain(..) {
                let _ = peer.write(b"late");
            }
            rig.step();
            assert!(rig.done.is_empty(), "{}: {:?}", D::NAME, rig.done);
            peer.write_all(b"mine").unwrap();
            let (span, outcome) = rig.received(id);
            assert_eq!(rig.region.bytes(&span)[..outcome.unwrap()], *b"mine");
            // Ends with a receive and bytes under way, and the slot is used again at once.
            rig.driver.receive(id, span);
            rig.step();
            peer.write_all(b"too late").unwrap();
            rig.driver.close(id);
            let (_, _outcome) = rig.received(id);
            rig.closed(id);
            predecessors.push(peer);
        }
    }
}

// Dropping.

/// Requests of every kind, with the kernel or not yet.
pub(super) fn busy_rig<D: Site>(turns: usize, wait: Duration) -> (Rig<D>, impl Sized) {
    let mut rig = Rig::<D>::new(8);
    let address = rig.listen();
    rig.driver.accept();
    let (silence, silent) = D::On::silence();
    rig.driver.connect(id(7, 1), silent, &options()).unwrap();
    let mut peers = Vec::new();
    for index in 0..6 {
        let (peer, own) = D::narrow_pair();
        let len = if D::PLAIN { 64 } else { 1 << 18 };
        if D::PLAIN {
            fill_up(&D::On::direct(&own));
        }
        rig.driver.adopt(id(index, 1), own, &options()).unwrap();
        let (receive, send) = (rig.span(64), rig.span(len));
        rig.driver.receive(id(index, 1), receive);
        rig.driver.send(id(index, 1), send);
        peers.push(peer);
    }
    // One connection that nobody asks for any more when the driver is dropped.
    peers.push(D::On::connect(address).unwrap());
    for _ in 0..turns {
        rig.turn(wait);
    }
    // One session that is being closed.
    rig.driver.close(id(0, 1));
    (rig, (silence, peers))
}

pub(super) fn a_driver_with_requests_in_flight_can_be_dropped<D: Site>() {
    for (turns, wait) in [(0, Duration::ZERO), (1, Duration::ZERO), (3, Duration::from_millis(1))] {
        let (rig, others) = busy_rig::<D>(turns, wait);
        let Rig { driver, region, done, .. } = rig;
        drop(driver);
        // Nobody else holds it: neither a driver that is gone, nor one that had to leak it.
        assert_eq!(Arc::strong_count(&region), 1, "{}: the region is still held", D::NAME);
        drop((done, others, region));
    }
}

/// In a process of its own: other tests open and close descriptors meanwhile.
pub(super) fn drivers_leave_no_descriptor_behind<D: Site>() {
    const ALONE: &str = "ZERIO_CONFORMANCE_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let test =
            format!("driver::conformance::{}::drivers_leave_no_descriptor_behind", D::NAME.replace('-', "_"));
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let output = alone.args(["--exact", &test, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let ran = text.contains("1 passed");
        assert!(output.status.success() && ran, "{text}{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let Some(before) = open_descriptors() else { return };
    for round in 0..20 {
        let (mut rig, others) = busy_rig::<D>(round % 3, Duration::from_micros(100));
        if round % 2 == 0 {
            rig.driver.stop_listening();
        }
        if round % 4 < 2 {
            rig.closed(id(0, 1));
        }
        drop((rig, others));
    }
    assert_eq!(open_descriptors(), Some(before), "{}: descriptors open after 20 drivers", D::NAME);
}

/// How many descriptors this process has; `None` where the system does not say. Wine shows a program of
/// Windows' those that it has itself, which are more than the program's and stay for a while.
pub(super) fn open_descriptors() -> Option<usize> {
    if cfg!(windows) {
        return None;
    }
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}
