//! One suite for every driver: the contract in `driver/mod.rs`, clause by clause. What a test needs of the
//! other side it does with sockets of the standard library.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::poll::Poll;
use super::socket::{self, Options};
#[cfg(target_os = "linux")]
use super::uring::Uring;
use super::{Completion, Direct, Driver, SlotId, completions_max};
use crate::region::{Cutter, Region, Span};

/// Runs each test for each driver that this machine allows.
macro_rules! conformance {
    ($($name:ident,)*) => {
        mod poll {
            $(#[test]
            fn $name() {
                super::$name::<super::Poll>();
            })*
        }

        #[cfg(target_os = "linux")]
        mod uring {
            $(#[test]
            fn $name() {
                if super::is_allowed::<super::Uring>() {
                    super::$name::<super::Uring>();
                }
            })*
        }
    };
}

conformance! {
    each_accept_brings_one_connection,
    an_accepted_connection_has_its_address_and_does_not_block,
    who_stops_listening_refuses_new_connections,
    a_pending_accept_is_forgotten_when_listening_stops,
    a_connection_is_made,
    a_connection_is_refused,
    a_connection_is_closed_while_it_is_made,
    a_connection_never_handed_to_the_kernel_is_closed,
    a_receive_brings_bytes_then_the_peers_end,
    a_receive_brings_no_more_than_its_span_holds,
    a_receive_fails_on_a_reset,
    a_receive_asked_for_before_or_after_the_bytes_came_brings_them,
    many_receives_asked_for_before_or_after_the_bytes_came_bring_them,
    turns_that_wait_and_turns_that_do_not_take_turns,
    a_send_is_whole,
    a_send_that_meets_a_full_socket_goes_on_where_it_stopped,
    a_send_to_a_peer_that_is_gone_fails,
    direct_and_driver_sends_keep_their_order,
    a_shut_down_gives_the_peer_an_end_and_goes_on_receiving,
    closing_with_nothing_in_flight_only_closes,
    closing_gives_back_a_receive_and_a_blocked_send_once_each,
    closing_gives_back_what_was_never_handed_over,
    a_reused_slot_hears_nothing_of_its_predecessor,
    a_wait_is_a_bound,
    a_wait_ends_early_for_bytes,
    a_wait_ends_early_for_a_wake_up_from_another_thread,
    a_wake_up_before_the_wait_ends_it,
    a_waker_outlives_its_driver,
    sixty_four_sessions_at_once,
    a_driver_with_requests_in_flight_can_be_dropped,
    drivers_leave_no_descriptor_behind,
}

/// Longer than anything here takes, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(40);

/// What a test waits for in one turn: short enough that a driver that sleeps through an event shows by
/// the time it takes, not by failing.
const WAIT: Duration = Duration::from_millis(10);

/// A driver, and what an engine has around it.
struct Rig<D> {
    driver: D,
    region: Arc<Region>,
    cutter: Cutter,
    done: Vec<Completion>,
    /// Whether turns wait: always, never, or every other.
    pace: Pace,
    turns: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    Waiting,
    Spinning,
    Both,
}

const PACES: [Pace; 3] = [Pace::Waiting, Pace::Spinning, Pace::Both];

impl<D: Driver> Rig<D> {
    fn new(slots: usize) -> Rig<D> {
        let (region, cutter) = Region::new(16 << 20).unwrap();
        let driver = D::new(region.clone(), slots).unwrap();
        let done = Vec::with_capacity(completions_max(slots));
        Rig { driver, region, cutter, done, pace: Pace::Both, turns: 0 }
    }

    fn paced(slots: usize, pace: Pace) -> Rig<D> {
        Rig { pace, ..Rig::new(slots) }
    }

    fn turn(&mut self, wait: Duration) {
        let capacity = self.done.capacity();
        self.driver.turn(wait, &mut self.done).unwrap();
        assert_eq!(self.done.capacity(), capacity, "more completions than requests");
    }

    /// One turn at the rig's pace.
    fn step(&mut self) {
        self.turns += 1;
        let waits = match self.pace {
            Pace::Waiting => true,
            Pace::Spinning => false,
            Pace::Both => self.turns.is_multiple_of(2),
        };
        self.turn(if waits { WAIT } else { Duration::ZERO });
        if !waits {
            std::thread::yield_now();
        }
    }

    /// Turns until some completion is what is looked for, and takes that one.
    fn until<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&Completion) -> bool,
        take: fn(Completion) -> T,
    ) -> T {
        let start = Instant::now();
        loop {
            if let Some(at) = self.done.iter().position(&mut pick) {
                return take(self.done.remove(at));
            }
            assert!(start.elapsed() < DEADLINE, "{}: no {what}, but {:?}", D::NAME, self.done);
            self.step();
        }
    }

    /// Turns for so long, and sees that nothing more comes.
    fn nothing_comes(&mut self, turns: u32) {
        for _ in 0..turns {
            self.turn(Duration::ZERO);
            self.turn(Duration::from_millis(5));
        }
        assert!(self.done.is_empty(), "{}: {:?}", D::NAME, self.done);
    }

    fn accepted(&mut self) -> io::Result<(Socket, SocketAddr)> {
        self.until(
            "accepted",
            |c| matches!(c, Completion::Accepted(_)),
            |c| match c {
                Completion::Accepted(outcome) => outcome,
                _ => unreachable!(),
            },
        )
    }

    fn connected(&mut self, id: SlotId) -> io::Result<()> {
        self.until(
            "connected",
            |c| matches!(c, Completion::Connected(of, _) if *of == id),
            |c| match c {
                Completion::Connected(_, outcome) => outcome,
                _ => unreachable!(),
            },
        )
    }

    fn received(&mut self, id: SlotId) -> (Span, io::Result<usize>) {
        self.until(
            "received",
            |c| matches!(c, Completion::Received(of, ..) if *of == id),
            |c| match c {
                Completion::Received(_, span, outcome) => (span, outcome),
                _ => unreachable!(),
            },
        )
    }

    fn sent(&mut self, id: SlotId) -> (Span, io::Result<usize>) {
        self.until(
            "sent",
            |c| matches!(c, Completion::Sent(of, ..) if *of == id),
            |c| match c {
                Completion::Sent(_, span, outcome) => (span, outcome),
                _ => unreachable!(),
            },
        )
    }

    /// Waits for the end of a session, and sees that nothing of it came after.
    fn closed(&mut self, id: SlotId) {
        let is_of = |completion: &Completion| match completion {
            Completion::Accepted(_) => false,
            Completion::Connected(of, _) | Completion::Closed(of) => *of == id,
            Completion::Received(of, ..) | Completion::Sent(of, ..) => *of == id,
        };
        let start = Instant::now();
        while !self.done.iter().any(|c| matches!(c, Completion::Closed(of) if *of == id)) {
            assert!(start.elapsed() < DEADLINE, "{}: no end, but {:?}", D::NAME, self.done);
            self.step();
        }
        self.turn(Duration::ZERO);
        let last = self.done.iter().rposition(is_of).unwrap();
        assert!(matches!(self.done[last], Completion::Closed(_)), "{}: {:?}", D::NAME, self.done);
        self.done.remove(last);
        let twice = self.done.iter().any(|c| matches!(c, Completion::Closed(of) if *of == id));
        assert!(!twice, "{}: closed twice", D::NAME);
    }

    /// Listens, and tells where.
    fn listen(&mut self) -> SocketAddr {
        let (listener, address) = listener();
        self.driver.listen(listener).unwrap();
        address
    }

    /// A session over a connected pair of sockets, whose other side is the peer.
    fn session(&mut self, id: SlotId) -> TcpStream {
        let (peer, own) = pair();
        self.driver.adopt(id, own).unwrap();
        peer
    }

    fn span(&mut self, len: usize) -> Span {
        self.cutter.cut(len)
    }

    /// A span filled with what `pattern` says from its place `from` on.
    fn filled(&mut self, from: usize, len: usize) -> Span {
        let mut span = self.cutter.cut(len);
        fill(self.region.bytes_mut(&mut span), from);
        span
    }

    /// Receives once, and gives the bytes.
    fn receive(&mut self, id: SlotId, len: usize) -> Vec<u8> {
        let span = self.span(len);
        self.driver.receive(id, span);
        let (span, outcome) = self.received(id);
        assert_eq!(span.len(), len, "the whole span comes back");
        self.region.bytes(&span)[..outcome.unwrap()].to_vec()
    }
}

/// Whether this machine lets a driver be used. What else fails is a fault.
fn is_allowed<D: Driver>() -> bool {
    let (region, _) = Region::new(4096).unwrap();
    match D::new(region, 1) {
        Ok(_) => true,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            eprintln!("SKIPPED: the {} driver is forbidden here: {error}", D::NAME);
            false
        }
        Err(error) => panic!("the {} driver: {error}", D::NAME),
    }
}

fn id(index: u32, generation: u32) -> SlotId {
    SlotId { index, generation }
}

fn options() -> Options {
    let peer_timeout = Duration::from_secs(60);
    Options { peer_timeout, send_buffer: None, receive_buffer: None, congestion: None }
}

fn listener() -> (Socket, SocketAddr) {
    let socket = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    socket::listen(&socket, &options()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A connected pair: the peer's side, which blocks with a deadline, and the session's, which does not
/// block.
fn pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let own = listener.accept().unwrap().0;
    (patient(peer), session_side(own))
}

/// A pair whose kernel buffers are small, so that a send soon meets a full socket.
fn narrow_pair() -> (TcpStream, Socket) {
    let (listener, address) = listener();
    listener.set_nonblocking(false).unwrap();
    listener.set_send_buffer_size(8 * 1024).unwrap();
    let peer = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    peer.set_recv_buffer_size(8 * 1024).unwrap();
    peer.connect(&address.into()).unwrap();
    let own = listener.accept().unwrap().0;
    (patient(peer.into()), session_side(own.into()))
}

fn patient(peer: TcpStream) -> TcpStream {
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    peer.set_write_timeout(Some(DEADLINE)).unwrap();
    peer.set_nodelay(true).unwrap();
    peer
}

fn session_side(own: TcpStream) -> Socket {
    own.set_nonblocking(true).unwrap();
    own.set_nodelay(true).unwrap();
    own.into()
}

/// Makes the peer's close a reset.
fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Sends until the socket is full; whether it was not.
fn fill_up(direct: &Direct) -> bool {
    let bytes = vec![7; 64 * 1024];
    let mut sent = false;
    loop {
        match direct.send(&bytes) {
            Ok(_) => sent = true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return sent;
            }
        }
    }
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

fn fill(bytes: &mut [u8], from: usize) {
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = pattern(from + at);
    }
}

fn is_pattern(bytes: &[u8], from: usize) -> bool {
    bytes.iter().enumerate().all(|(at, &byte)| byte == pattern(from + at))
}

// Accepting.

fn each_accept_brings_one_connection<D: Driver>() {
    let mut rig = Rig::<D>::new(1);
    let address = rig.listen();
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    // Nobody has asked.
    rig.nothing_comes(3);
    let mut seen = Vec::new();
    for _ in 0..3 {
        rig.driver.accept();
        seen.push(rig.accepted().unwrap().1);
        rig.nothing_comes(1);
    }
    let mut expected: Vec<_> = clients.iter().map(|client| client.local_addr().unwrap()).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

fn an_accepted_connection_has_its_address_and_does_not_block<D: Driver>() {
    for listening in ["127.0.0.1:0", "[::1]:0"] {
        let mut rig = Rig::<D>::new(1);
        let Ok(listener) = socket::bind(listening.parse().unwrap()) else {
            eprintln!("SKIPPED: no {listening} here");
            continue;
        };
        socket::listen(&listener, &options()).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        rig.driver.listen(listener).unwrap();
        rig.driver.accept();
        rig.turn(Duration::ZERO);
        let client = TcpStream::connect(address).unwrap();
        let (socket, from) = rig.accepted().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert!(socket.nonblocking().unwrap());
    }
}

fn who_stops_listening_refuses_new_connections<D: Driver>() {
    for asked in [false, true] {
        let mut rig = Rig::<D>::new(1);
        let address = rig.listen();
        if asked {
            rig.driver.accept();
        }
        rig.turn(Duration::ZERO);
        rig.driver.stop_listening();
        let refused = TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // The socket itself is closed as well, after a turn at the latest: the port is free.
        let start = Instant::now();
        while TcpListener::bind(address).is_err() {
            assert!(start.elapsed() < DEADLINE, "{}: the port is still taken", D::NAME);
            rig.step();
        }
    }
}

fn a_pending_accept_is_forgotten_when_listening_stops<D: Driver>() {
    for turns in [0, 1] {
        let mut rig = Rig::<D>::new(1);
        let address = rig.listen();
        rig.driver.accept();
        for _ in 0..turns {
            rig.turn(Duration::ZERO);
        }
        // This one may have been accepted by the kernel already: then it must see its end.
        let mut client = patient(TcpStream::connect(address).unwrap());
        rig.driver.stop_listening();
        rig.nothing_comes(5);
        assert!(matches!(client.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

// Connecting.

fn a_connection_is_made<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(2, pace);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let id = id(1, 7);
        rig.driver.connect(id, socket::for_connecting(address, &options()).unwrap(), address);
        rig.connected(id).unwrap();
        let mut peer = patient(listener.accept().unwrap().0);
        let span = rig.filled(0, 100);
        rig.driver.send(id, span);
        assert_eq!(rig.sent(id).1.unwrap(), 100);
        let mut bytes = [0; 100];
        peer.read_exact(&mut bytes).unwrap();
        assert!(is_pattern(&bytes, 0));
        peer.write_all(&bytes).unwrap();
        assert!(is_pattern(&rig.receive(id, 200), 0));
        rig.driver.close(id);
        rig.closed(id);
    }
}

fn a_connection_is_refused<D: Driver>() {
    // Bound and not listening: nobody else gets the port.
    let silent = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 1);
        rig.driver.connect(id, socket::for_connecting(address, &options()).unwrap(), address);
        assert_eq!(rig.connected(id).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        rig.driver.close(id);
        rig.closed(id);
        rig.nothing_comes(1);
    }
}

/// A listener whose queue is full: who connects to it waits.
fn silent_listener() -> (Socket, SocketAddr, Vec<Socket>) {
    let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    listener.listen(1).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let socket = socket::for_connecting(address, &options()).unwrap();
        let _ = socket.connect(&address.into());
        waiting.push(socket);
    }
    (listener, address, waiting)
}

fn a_connection_is_closed_while_it_is_made<D: Driver>() {
    let (_listener, address, _waiting) = silent_listener();
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 1);
        rig.driver.connect(id, socket::for_connecting(address, &options()).unwrap(), address);
        rig.nothing_comes(3);
        rig.driver.close(id);
        assert!(rig.connected(id).is_err());
        rig.closed(id);
        rig.nothing_comes(1);
    }
}

fn a_connection_never_handed_to_the_kernel_is_closed<D: Driver>() {
    let (_listener, address, _waiting) = silent_listener();
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 1);
    rig.driver.connect(id, socket::for_connecting(address, &options()).unwrap(), address);
    rig.driver.close(id);
    assert!(rig.connected(id).is_err());
    rig.closed(id);
    rig.nothing_comes(1);
}

// Receiving.

fn a_receive_brings_bytes_then_the_peers_end<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        peer.write_all(b"before the end").unwrap();
        drop(peer);
        assert_eq!(rig.receive(id, 64), b"before the end");
        assert_eq!(rig.receive(id, 64), b"");
        // It is still there for who asks again.
        assert_eq!(rig.receive(id, 64), b"");
        rig.driver.close(id);
        rig.closed(id);
    }
}

fn a_receive_brings_no_more_than_its_span_holds<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        let mut bytes = [0; 1000];
        fill(&mut bytes, 0);
        peer.write_all(&bytes).unwrap();
        let mut received = 0;
        while received < bytes.len() {
            let part = rig.receive(id, 77);
            assert!(!part.is_empty() && is_pattern(&part, received));
            received += part.len();
        }
        assert_eq!(received, bytes.len());
    }
}

fn a_receive_fails_on_a_reset<D: Driver>() {
    for pace in PACES {
        for early in [false, true] {
            let mut rig = Rig::<D>::paced(1, pace);
            let id = id(0, 3);
            let mut peer = Some(rig.session(id));
            let span = rig.span(64);
            if early {
                peer.take().into_iter().for_each(reset);
            }
            rig.driver.receive(id, span);
            rig.step();
            rig.step();
            peer.into_iter().for_each(reset);
            let (span, outcome) = rig.received(id);
            assert_eq!((span.len(), outcome.unwrap_err().kind()), (64, ErrorKind::ConnectionReset));
            rig.driver.close(id);
            rig.closed(id);
        }
    }
}

fn a_receive_asked_for_before_or_after_the_bytes_came_brings_them<D: Driver>() {
    receives_before_and_after::<D>(1);
}

fn many_receives_asked_for_before_or_after_the_bytes_came_bring_them<D: Driver>() {
    receives_before_and_after::<D>(10);
}

fn receives_before_and_after<D: Driver>(sessions: u32) {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(sessions as usize, pace);
        let mut peers: Vec<_> = (0..sessions).map(|index| rig.session(id(index, 9))).collect();
        for round in 0..6u8 {
            for early in [false, true] {
                let message = |index: usize| [round, index as u8, u8::from(early)];
                if early {
                    for (index, peer) in peers.iter_mut().enumerate() {
                        peer.write_all(&message(index)).unwrap();
                    }
                }
                for index in 0..sessions {
                    let span = rig.span(16);
                    rig.driver.receive(id(index, 9), span);
                }
                if !early {
                    rig.step();
                    rig.step();
                    assert!(rig.done.is_empty(), "{}: {:?}", D::NAME, rig.done);
                    for (index, peer) in peers.iter_mut().enumerate() {
                        peer.write_all(&message(index)).unwrap();
                    }
                }
                for index in 0..sessions {
                    let (span, outcome) = rig.received(id(index, 9));
                    assert_eq!(outcome.unwrap(), 3);
                    assert_eq!(rig.region.bytes(&span)[..3], message(index as usize));
                }
            }
        }
    }
}

/// A receive that a waiting turn has handed to the kernel completes in one that does not wait, and the other
/// way round; sessions come and go meanwhile, past the number that is few.
fn turns_that_wait_and_turns_that_do_not_take_turns<D: Driver>() {
    let mut rig = Rig::<D>::new(8);
    let mut peers = Vec::new();
    for index in 0..8 {
        peers.push(rig.session(id(index, 1)));
        for (round, (first, second)) in
            [(true, false), (false, true), (true, true), (false, false)].into_iter().enumerate()
        {
            let len = 4 + round;
            for (of, _) in peers.iter().enumerate() {
                let span = rig.span(16);
                rig.driver.receive(id(of as u32, 1), span);
            }
            rig.turn(if first { Duration::from_millis(1) } else { Duration::ZERO });
            assert!(rig.done.is_empty(), "{}: {:?}", D::NAME, rig.done);
            for peer in &mut peers {
                peer.write_all(&[index as u8; 16][..len]).unwrap();
            }
            rig.pace = if second { Pace::Waiting } else { Pace::Spinning };
            for of in 0..peers.len() {
                let (span, outcome) = rig.received(id(of as u32, 1));
                assert_eq!(outcome.unwrap(), len);
                assert_eq!(rig.region.bytes(&span)[..len], [index as u8; 16][..len]);
            }
        }
    }
}

// Sending.

fn a_send_is_whole<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        for round in 0..10 {
            let span = rig.filled(round, 1000);
            rig.driver.send(id, span);
            let (span, outcome) = rig.sent(id);
            assert_eq!(outcome.unwrap(), 1000);
            assert!(is_pattern(rig.region.bytes(&span), round));
            let mut bytes = [0; 1000];
            peer.read_exact(&mut bytes).unwrap();
            assert!(is_pattern(&bytes, round));
        }
    }
}

fn a_send_that_meets_a_full_socket_goes_on_where_it_stopped<D: Driver>() {
    const LEN: usize = 2 << 20;
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let (mut peer, own) = narrow_pair();
        rig.driver.adopt(id, own).unwrap();
        let mut rest = Some(rig.filled(0, LEN));
        rig.driver.send(id, rest.take().unwrap());
        // Until the socket is full and the last send stays.
        let mut sends = 0;
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; LEN];
            std::thread::sleep(Duration::from_millis(20));
            peer.read_exact(&mut bytes).unwrap();
            is_pattern(&bytes, 0)
        });
        loop {
            let (mut span, outcome) = rig.sent(id);
            let bytes = outcome.unwrap();
            sends += 1;
            assert!(bytes >= 1 && bytes <= span.len());
            if bytes == span.len() {
                break;
            }
            rig.driver.send(id, span.split_off(bytes));
        }
        assert!(reader.join().unwrap(), "{}: bytes lost or doubled", D::NAME);
        assert!(sends > 1, "{}: no send was short", D::NAME);
    }
}

fn a_send_to_a_peer_that_is_gone_fails<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let peer = rig.session(id);
        reset(peer);
        // The reset is there as soon as the peer's close has returned.
        let span = rig.filled(0, 64);
        rig.driver.send(id, span);
        let (span, outcome) = rig.sent(id);
        assert_eq!(span.len(), 64);
        assert!(matches!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
        rig.driver.close(id);
        rig.closed(id);
    }
}

fn direct_and_driver_sends_keep_their_order<D: Driver>() {
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 3);
    let mut peer = rig.session(id);
    let direct = rig.driver.direct(id).expect("these drivers have ordinary sockets");
    let mut at = 0;
    for round in 0..20 {
        let span = rig.filled(at, 50 + round);
        if round % 3 == 1 {
            rig.driver.send(id, span);
            assert_eq!(rig.sent(id).1.unwrap(), 50 + round);
        } else {
            assert_eq!(direct.send(rig.region.bytes(&span)).unwrap(), 50 + round);
        }
        at += 50 + round;
    }
    let mut bytes = vec![0; at];
    peer.read_exact(&mut bytes).unwrap();
    assert!(is_pattern(&bytes, 0));
}

fn a_shut_down_gives_the_peer_an_end_and_goes_on_receiving<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let id = id(0, 3);
        let mut peer = rig.session(id);
        let span = rig.span(64);
        rig.driver.receive(id, span);
        rig.step();
        rig.step();
        rig.driver.shut_down(id);
        rig.step();
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
        peer.write_all(b"and yet it hears").unwrap();
        let (span, outcome) = rig.received(id);
        assert_eq!(rig.region.bytes(&span)[..outcome.unwrap()], *b"and yet it hears");
    }
}

// Closing.

fn closing_with_nothing_in_flight_only_closes<D: Driver>() {
    let mut rig = Rig::<D>::new(1);
    let id = id(0, 3);
    let mut peer = rig.session(id);
    rig.driver.close(id);
    rig.closed(id);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    rig.nothing_comes(2);
}

fn closing_gives_back_a_receive_and_a_blocked_send_once_each<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(2, pace);
        let id = id(1, 3);
        let (mut peer, own) = narrow_pair();
        rig.driver.adopt(id, own).unwrap();
        let direct = rig.driver.direct(id).unwrap();
        // What is full for a moment has room again when the peer's kernel has taken its part.
        let mut full = 0;
        while full < 10 {
            full = if fill_up(&direct) { 0 } else { full + 1 };
            std::thread::sleep(Duration::from_millis(10));
        }
        let receive = rig.filled(11, 5000);
        rig.driver.receive(id, receive);
        let send = rig.filled(12, 6000);
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
        assert_eq!(send.len(), 6000);
        assert!(is_pattern(rig.region.bytes(&send), 12));
        rig.closed(id);
        rig.nothing_comes(2);
        // The descriptor is closed: the peer gets what the kernel had, and then an end or a reset.
        while matches!(peer.read(&mut [0; 4096]), Ok(1..)) {}
    }
}

fn closing_gives_back_what_was_never_handed_over<D: Driver>() {
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

fn a_reused_slot_hears_nothing_of_its_predecessor<D: Driver>() {
    for pace in PACES {
        let mut rig = Rig::<D>::paced(1, pace);
        let mut predecessors = Vec::new();
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
                let _ = TcpStream::write(&mut peer, b"late");
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

// Waiting.

fn a_wait_is_a_bound<D: Driver>() {
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

/// The wait of a test that must end early, and sees that it was over before this is.
const LONG: Duration = Duration::from_secs(60);

fn a_wait_ends_early_for_bytes<D: Driver>() {
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

fn a_wait_ends_early_for_a_wake_up_from_another_thread<D: Driver>() {
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

fn a_wake_up_before_the_wait_ends_it<D: Driver>() {
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

fn a_waker_outlives_its_driver<D: Driver>() {
    let rig = Rig::<D>::new(1);
    let waker = rig.driver.waker();
    drop(rig);
    waker.wake();
    waker.clone().wake();
}

// Many, and the end.

fn sixty_four_sessions_at_once<D: Driver>() {
    const SESSIONS: u32 = 64;
    for pace in PACES {
        let mut rig = Rig::<D>::paced(SESSIONS as usize, pace);
        let address = rig.listen();
        let mut peers: Vec<Option<TcpStream>> = (0..SESSIONS).map(|_| None).collect();
        for index in 0..SESSIONS {
            rig.driver.accept();
            let peer = TcpStream::connect(address).unwrap();
            let (socket, from) = rig.accepted().unwrap();
            assert_eq!(from, peer.local_addr().unwrap());
            rig.driver.adopt(id(index, index), socket).unwrap();
            peers[index as usize] = Some(patient(peer));
        }
        for round in 0..5 {
            for index in 0..SESSIONS {
                let (receive, send) = (rig.span(256), rig.filled(index as usize + round, 128));
                rig.driver.receive(id(index, index), receive);
                rig.driver.send(id(index, index), send);
            }
            for index in 0..SESSIONS {
                assert_eq!(rig.sent(id(index, index)).1.unwrap(), 128);
                let peer = peers[index as usize].as_mut().unwrap();
                let mut bytes = [0; 128];
                peer.read_exact(&mut bytes).unwrap();
                assert!(is_pattern(&bytes, index as usize + round));
                peer.write_all(&bytes).unwrap();
            }
            for index in 0..SESSIONS {
                let (span, outcome) = rig.received(id(index, index));
                assert_eq!(outcome.unwrap(), 128);
                assert!(is_pattern(&rig.region.bytes(&span)[..128], index as usize + round));
            }
        }
        // All end at once, each with a receive in flight.
        for index in 0..SESSIONS {
            let span = rig.span(256);
            rig.driver.receive(id(index, index), span);
        }
        rig.step();
        for index in 0..SESSIONS {
            rig.driver.close(id(index, index));
        }
        for index in 0..SESSIONS {
            assert!(rig.received(id(index, index)).1.is_err());
            rig.closed(id(index, index));
        }
        assert!(rig.done.is_empty());
    }
}

/// Requests of every kind, with the kernel or not yet.
fn busy_rig<D: Driver>(turns: usize, wait: Duration) -> (Rig<D>, impl Sized) {
    let mut rig = Rig::<D>::new(8);
    let address = rig.listen();
    rig.driver.accept();
    let (listener, silent, waiting) = silent_listener();
    rig.driver.connect(id(7, 1), socket::for_connecting(silent, &options()).unwrap(), silent);
    let mut peers = Vec::new();
    for index in 0..6 {
        let (peer, own) = narrow_pair();
        rig.driver.adopt(id(index, 1), own).unwrap();
        fill_up(&rig.driver.direct(id(index, 1)).unwrap());
        let (receive, send) = (rig.span(64), rig.filled(0, 64));
        rig.driver.receive(id(index, 1), receive);
        rig.driver.send(id(index, 1), send);
        peers.push(peer);
    }
    // One connection that nobody asks for any more when the driver is dropped.
    peers.push(TcpStream::connect(address).unwrap());
    for _ in 0..turns {
        rig.turn(wait);
    }
    // One session that is being closed.
    rig.driver.close(id(0, 1));
    (rig, (listener, waiting, peers))
}

fn a_driver_with_requests_in_flight_can_be_dropped<D: Driver>() {
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
fn drivers_leave_no_descriptor_behind<D: Driver>() {
    const ALONE: &str = "ZERIO_CONFORMANCE_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let test = format!("driver::conformance::{}::drivers_leave_no_descriptor_behind", D::NAME);
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

/// How many descriptors this process has; `None` where the system does not say.
fn open_descriptors() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}
