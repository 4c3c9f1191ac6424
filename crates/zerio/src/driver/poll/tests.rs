//! What the conformance suite can't see of the `poll` driver.
#![forbid(unsafe_code)]

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::*;

const MOMENT: Duration = Duration::from_millis(1);

fn id(index: u32) -> SlotId {
    SlotId { index, generation: 3 }
}

/// A driver with so many sessions, which all ask for bytes, and their peers.
fn driver(sessions: u32) -> (Poll, Vec<TcpStream>) {
    let (region, mut cutter) = Region::new(64 * sessions as usize).unwrap();
    let mut driver = Poll::new(region, EVENTS + 1).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = Options { peer_timeout: Duration::from_secs(60), ..Options::default() };
    let mut session = |index| {
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = listener.accept().unwrap().0;
        own.set_nonblocking(true).unwrap();
        driver.adopt(id(index), own.into(), &options).unwrap();
        driver.receive(id(index), cutter.cut(64));
        peer
    };
    let peers = (0..sessions).map(&mut session).collect();
    (driver, peers)
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
#[test]
fn a_connection_takes_little_of_a_cache() {
    // Two spans and an error, a descriptor, a generation and what the selector has said; and what mio checks in debug builds.
    assert_eq!(size_of::<Connection>(), if cfg!(debug_assertions) { 128 } else { 64 });
}

#[test]
fn the_selector_knows_few_sessions_from_the_first_wait_on() {
    let (mut driver, _peers) = driver(FEW as u32);
    let mut done = Vec::new();
    (0..4 * SOCKET_TURNS).for_each(|_| driver.turn(Duration::ZERO, &mut done).unwrap());
    assert!(driver.connections.iter().all(|connection| !connection.registered));
    driver.turn(MOMENT, &mut done).unwrap();
    assert!(driver.connections[..FEW].iter().all(|connection| connection.registered) && done.is_empty());
}

#[test]
fn the_selector_knows_more_sessions_from_the_first_turn_on() {
    let (mut driver, _peers) = driver(FEW as u32 + 1);
    driver.turn(Duration::ZERO, &mut Vec::new()).unwrap();
    assert!(driver.connections[..FEW + 1].iter().all(|connection| connection.registered));
}

#[cfg(target_os = "linux")]
#[test]
fn a_socket_that_the_selector_does_not_take_ends_with_what_it_said() {
    let (mut driver, _peers) = driver(1);
    let registry = driver.selector.registry().try_clone().unwrap();
    // It has it already, under the name of a slot without a session.
    let fd = std::os::fd::AsRawFd::as_raw_fd(driver.connections[0].stream.as_ref().unwrap());
    registry.register(&mut mio::unix::SourceFd(&fd), Token(7), Interest::WRITABLE).unwrap();
    let mut done = Vec::new();
    driver.turn(MOMENT, &mut done).unwrap();
    match &done[..] {
        [Completion::Received(of, _, Err(error))] => {
            assert_eq!((*of, error.kind()), (id(0), ErrorKind::AlreadyExists));
        }
        other => panic!("{other:?}"),
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_wait_of_less_than_a_millisecond_is_none_of_the_selectors() {
    let (driver, _peers) = driver(1);
    let millisecond = Duration::from_millis(1);
    let left = [Duration::ZERO, millisecond - Duration::from_nanos(1), millisecond, Duration::MAX]
        .map(|wait| driver.wait_briefly(wait).unwrap());
    assert_eq!(left, [Duration::ZERO, Duration::ZERO, millisecond, Duration::MAX]);
}

#[test]
fn a_turn_takes_no_more_than_so_many_events_and_the_next_one_takes_the_rest() {
    let (mut driver, mut peers) = driver(EVENTS as u32 + 1);
    let mut done = Vec::new();
    (0..2).for_each(|_| driver.turn(MOMENT, &mut done).unwrap());
    peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
    driver.turn(MOMENT, &mut done).unwrap();
    assert_eq!(done.len(), EVENTS);
    driver.turn(MOMENT, &mut done).unwrap();
    assert_eq!(done.len(), EVENTS + 1);
}

#[cfg(target_os = "linux")]
#[test]
fn who_is_told_of_first_was_served_last() {
    const ORDER: [u32; 8] = [3, 1, 7, 0, 6, 2, 5, 4];
    let (mut driver, mut peers) = driver(8);
    let mut done = Vec::new();
    driver.turn(MOMENT, &mut done).unwrap();
    ORDER.into_iter().for_each(|index| peers[index as usize].write_all(b"x").unwrap());
    driver.turn(MOMENT, &mut done).unwrap();
    let told: Vec<u32> = done
        .iter()
        .map(|completion| match completion {
            Completion::Received(of, _, Ok(1)) => of.index,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ORDER);
}
