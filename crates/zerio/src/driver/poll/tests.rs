//! What the conformance suite can't see of the `poll` driver.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::*;

const ID: SlotId = SlotId { index: 1, generation: 3 };
/// A slot without a session.
const ELSEWHERE: Token = Token(0);

/// A driver with one session, which asks for bytes, and that session's peer.
fn driver() -> (Poll, TcpStream) {
    let (region, mut cutter) = Region::new(64).unwrap();
    let mut driver = Poll::new(region, 4).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let own = listener.accept().unwrap().0;
    own.set_nonblocking(true).unwrap();
    let options = Options { peer_timeout: Duration::from_secs(60), ..Options::default() };
    driver.adopt(ID, own.into(), &options).unwrap();
    driver.receive(ID, cutter.cut(64));
    (driver, peer)
}

#[test]
fn the_selector_knows_few_sessions_from_the_first_wait_on() {
    let (mut driver, _peer) = driver();
    let mut done = Vec::new();
    (0..4 * SKIMS).for_each(|_| driver.turn(Duration::ZERO, &mut done).unwrap());
    assert!(!driver.connections[1].known);
    driver.turn(Duration::from_millis(1), &mut done).unwrap();
    assert!(driver.connections[1].known && done.is_empty());
}

#[test]
fn a_socket_that_the_selector_does_not_take_ends_with_what_it_said() {
    let (mut driver, _peer) = driver();
    let registry = driver.selector.registry().try_clone().unwrap();
    let stream = driver.connections[1].stream.as_mut().unwrap();
    // It has it already, under another name.
    let fd = std::os::fd::AsRawFd::as_raw_fd(stream);
    registry.register(&mut mio::unix::SourceFd(&fd), ELSEWHERE, Interest::WRITABLE).unwrap();
    let mut done = Vec::new();
    driver.turn(Duration::from_millis(1), &mut done).unwrap();
    match &done[..] {
        [Completion::Received(ID, _, Err(error))] => assert_eq!(error.kind(), ErrorKind::AlreadyExists),
        other => panic!("{other:?}"),
    }
}
