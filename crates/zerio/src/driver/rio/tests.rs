//! What the conformance suite can't see of the `rio` driver: what a kernel does once in a lifetime, and the
//! ways in which it refuses.
#![forbid(unsafe_code)]

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Instant;

use super::model::sockets::{self, Made};
use super::model::{Model, Refusing, with_seed};
use super::*;

mod last_words;
mod sends;

const ID: SlotId = SlotId { index: 2, generation: 7 };
const DEADLINE: Duration = Duration::from_secs(40);
const LONG: Duration = Duration::from_secs(60);

/// A driver with one session, and that session's peer.
struct Rig {
    driver: Rio<Model>,
    region: Arc<Region>,
    spans: Vec<Span>,
    peer: TcpStream,
    done: Vec<Completion<Socket>>,
}

fn options() -> Options {
    let peer_timeout = Duration::from_secs(60);
    Options { peer_timeout, ..Options::default() }
}

impl Rig {
    /// Over a region of so many bytes, of which it has the last ones in spans of 8.
    fn over(len: usize) -> Rig {
        Rig::seeded(len, 0)
    }

    fn seeded(len: usize, seed: u64) -> Rig {
        let (region, mut cutter) = Region::new(len).unwrap();
        let mut driver = with_seed(seed, true, || Rio::<Model>::new(region.clone(), 4).unwrap());
        driver.table.be_plain();
        if len > 64 {
            cutter.cut(len - 64);
        }
        let spans = (0..8).map(|_| cutter.cut(8)).collect();
        let (peer, own) = pair();
        driver.adopt(ID, own, &options()).unwrap();
        Rig { driver, region, spans, peer, done: Vec::with_capacity(64) }
    }

    fn new() -> Rig {
        Rig::over(64)
    }

    /// One that listens as well, and where.
    fn listening() -> (Rig, SocketAddr) {
        let mut rig = Rig::new();
        let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        socket::listen(&listener, &options()).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        rig.driver.listen(listener).unwrap();
        (rig, address)
    }

    fn receive(&mut self) {
        let span = self.spans.pop().unwrap();
        self.driver.receive(ID, span);
    }

    fn send(&mut self) {
        let mut span = self.spans.pop().unwrap();
        self.region.bytes_mut(&mut span).copy_from_slice(b"8 bytes.");
        self.driver.send(ID, span);
    }

    fn turn(&mut self, wait: Duration) {
        self.driver.turn(wait, &mut self.done).unwrap();
    }

    /// Turns until something has completed, and gives what.
    fn next(&mut self) -> Completion<Socket> {
        let start = Instant::now();
        while self.done.is_empty() {
            assert!(start.elapsed() < DEADLINE);
            self.turn(Duration::from_millis(10));
        }
        self.done.remove(0)
    }

    /// What the peer has got, so many bytes.
    fn hear<const LEN: usize>(&mut self) -> [u8; LEN] {
        let mut heard = [0; LEN];
        self.peer.set_read_timeout(Some(DEADLINE)).unwrap();
        std::io::Read::read_exact(&mut self.peer, &mut heard).unwrap();
        heard
    }

    fn refuse(&mut self, refusing: Refusing) {
        self.driver.table.refusing = refusing;
    }
}

/// A connected pair: a peer, and a socket that a listening one made for Registered I/O has accepted.
pub(super) fn pair() -> (TcpStream, Socket) {
    let (peer, own) = ordinary_pair();
    sockets::note(&own, Made::Connected);
    (peer, own)
}

/// The same with a socket that was not made for it.
pub(super) fn ordinary_pair() -> (TcpStream, Socket) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nodelay(true).unwrap();
    let own = Socket::from(listener.accept().unwrap().0);
    own.set_nonblocking(true).unwrap();
    // Its number may have been another's.
    sockets::forget(&own);
    (peer, own)
}

#[test]
fn a_context_tells_slot_way_and_number_apart() {
    for index in [0, 1, 2, COMPLETIONS_MAX / (LIMITS.receives + LIMITS.sends) - 1] {
        for way in [Way::Receive, Way::Send] {
            for number in [0, 1, SENDS_MAX - 1] {
                assert_eq!(whose(u64::from(context(index, way, number))), (index, way, number));
            }
        }
    }
}

#[test]
fn a_completion_queue_holds_the_sum_and_no_more_sessions_than_that_are_taken_on() {
    let (region, _) = Region::new(64).unwrap();
    let most = (COMPLETIONS_MAX as usize - refusals::PLACES) / 9;
    for slots in [most + 1, usize::MAX] {
        let refused = Rio::<Model>::new(region.clone(), slots).err();
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::InvalidInput));
    }
    assert_eq!(Arc::strong_count(&region), 1);
}

#[test]
fn what_can_not_be_had_ends_the_driver_before_it_begins() {
    let (region, _) = Region::new(64).unwrap();
    for refusing in [
        Refusing { table: true, ..Refusing::NOTHING },
        Refusing { queues: true, ..Refusing::NOTHING },
        Refusing { registrations: true, ..Refusing::NOTHING },
    ] {
        let make = || Rio::<Model>::new(region.clone(), 4).err();
        let refused = model::refusing_from_the_start(refusing, make);
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::InvalidInput), "{refusing:?}");
        assert_eq!(Arc::strong_count(&region), 1);
    }
}

#[test]
fn sockets_that_can_not_be_had_or_made_right_were_never_there() {
    let mut rig = Rig::new();
    let id = SlotId { index: 0, generation: 1 };
    rig.refuse(Refusing { sockets: true, ..Refusing::NOTHING });
    assert!(rig.driver.connect(id, "127.0.0.1:9".parse().unwrap(), &options()).is_err());
    let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    assert!(rig.driver.listen(listener).is_err());
    rig.driver.accept();
    rig.refuse(Refusing::NOTHING);
    let options = Options { congestion: Some("no-such-control".into()), ..options() };
    assert!(rig.driver.connect(id, "127.0.0.1:9".parse().unwrap(), &options).is_err());
    rig.turn(Duration::from_millis(1));
    assert!(rig.done.is_empty());
}

#[test]
fn of_connections_that_come_together_one_in_sixty_four_turns_was_accepted_while_there_was_work() {
    let (mut rig, address) = Rig::listening();
    // Nobody has come: it looks no more often than it must.
    rig.driver.accept();
    rig.turn(Duration::ZERO);
    let peers: Vec<_> = (0..50).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut turns = 0;
    for _ in &peers {
        while rig.done.is_empty() {
            turns += 1;
            assert!(turns <= SKIMS as usize + peers.len());
            rig.turn(Duration::ZERO);
        }
        assert!(matches!(rig.done.remove(0), Completion::Accepted(Ok(_))));
        rig.driver.accept();
    }
}

#[test]
fn a_span_that_lies_across_registrations_is_received_up_to_the_seam_and_sent_as_a_whole() {
    // The seam is in the middle of the second span from the end.
    let mut rig = Rig::over(Model::REGISTRATION_MAX + 12);
    assert_eq!(rig.driver.registered.len(), 2);
    let (after, mut across) = (rig.spans.pop().unwrap(), rig.spans.pop().unwrap());
    rig.region.bytes_mut(&mut across).copy_from_slice(b"and then");
    rig.driver.receive(ID, across);
    rig.peer.write_all(b"once all").unwrap();
    let Completion::Received(ID, mut across, Ok(4)) = rig.next() else { panic!("not up to the seam") };
    assert_eq!(rig.region.bytes(&across), b"oncethen");
    rig.region.bytes_mut(&mut across).copy_from_slice(b"8 bytes,");
    // What is behind it waits until the rest of it has been handed over.
    rig.driver.send(ID, across);
    rig.send();
    rig.send();
    for sends in 1..=3 {
        let Completion::Sent(ID, _, Ok(8)) = rig.next() else { panic!("{sends}: not a whole one") };
    }
    assert_eq!(&rig.hear::<24>(), b"8 bytes,8 bytes.8 bytes.");
    rig.driver.receive(ID, after);
    rig.peer.write_all(b" of it").unwrap();
    let Completion::Received(ID, after, Ok(8)) = rig.next() else { panic!("a whole one") };
    assert_eq!(rig.region.bytes(&after), b" all of ");
}

#[test]
fn a_corrupt_completion_queue_ends_the_driver_with_an_error_that_says_so() {
    for outstanding in [false, true] {
        let mut rig = Rig::new();
        if outstanding {
            rig.receive();
            rig.turn(Duration::ZERO);
        }
        rig.driver.table.corrupt();
        let error = rig.driver.turn(LONG, &mut rig.done).unwrap_err();
        assert!(error.get_ref().unwrap().is::<Corrupt>(), "{error}");
        let Rig { driver, region, .. } = rig;
        drop(driver);
        // What is outstanding can't be waited for any more: then the region lives on, with nobody to free it.
        assert_eq!(Arc::strong_count(&region), 1 + usize::from(outstanding));
    }
}

#[test]
fn what_the_kernel_never_gives_back_leaks_the_region() {
    for refusing in [
        Refusing { completions: true, ..Refusing::NOTHING },
        Refusing { completions: true, notifications: true, ..Refusing::NOTHING },
        Refusing { completions: true, waits: true, ..Refusing::NOTHING },
    ] {
        let mut rig = Rig::new();
        rig.receive();
        rig.turn(Duration::ZERO);
        rig.refuse(refusing);
        let Rig { driver, region, .. } = rig;
        drop(driver);
        assert_eq!(Arc::strong_count(&region), 2, "{refusing:?}");
    }
}

#[test]
fn a_dropped_driver_waits_for_what_completes_late() {
    for seed in 0..20 {
        let (region, mut cutter) = Region::new(64).unwrap();
        let mut driver = with_seed(seed, false, || Rio::<Model>::new(region.clone(), 4).unwrap());
        let (_peer, own) = pair();
        driver.adopt(ID, own, &options()).unwrap();
        driver.receive(ID, cutter.cut(8));
        driver.send(ID, cutter.cut(8));
        let mut done = Vec::new();
        driver.turn(Duration::ZERO, &mut done).unwrap();
        drop(driver);
        assert_eq!(Arc::strong_count(&region), 1);
    }
}

#[test]
fn a_request_that_is_refused_comes_back_with_the_reason() {
    let mut rig = Rig::new();
    rig.refuse(Refusing { requests: true, ..Refusing::NOTHING });
    rig.receive();
    rig.send();
    let Completion::Sent(ID, span, Err(error)) = rig.next() else { panic!("a send first") };
    assert_eq!((span.len(), error.kind()), (8, ErrorKind::InvalidInput));
    let Completion::Received(ID, span, Err(error)) = rig.next() else { panic!("then a receive") };
    assert_eq!((span.len(), error.kind()), (8, ErrorKind::InvalidInput));
    rig.refuse(Refusing::NOTHING);
    rig.send();
    assert!(matches!(rig.next(), Completion::Sent(ID, _, Ok(8))), "the session goes on");
}

#[test]
fn requests_that_can_not_be_committed_come_back_as_cancelled() {
    for ways in [[true, false], [false, true], [true, true]] {
        let mut rig = Rig::new();
        rig.refuse(Refusing { commits: true, ..Refusing::NOTHING });
        let [receives, sends] = ways;
        if receives {
            rig.receive();
        }
        if sends {
            rig.send();
        }
        let (mut received, mut sent) = (false, false);
        while received != receives || sent != sends {
            match rig.next() {
                Completion::Received(ID, _, Err(error)) => {
                    received = true;
                    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                }
                Completion::Sent(ID, _, Err(error)) => {
                    sent = true;
                    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
                }
                other => panic!("{other:?}"),
            }
        }
        // Its socket is gone, and yet it hears what is asked of it until it is closed.
        rig.send();
        rig.driver.shut_down(ID);
        rig.driver.close(ID);
        assert!(matches!(rig.next(), Completion::Sent(ID, _, Err(_))));
        assert!(matches!(rig.next(), Completion::Closed(ID)));
    }
}

#[test]
fn a_queue_that_does_not_tell_and_a_wait_that_fails_end_the_driver() {
    for refusing in
        [Refusing { notifications: true, ..Refusing::NOTHING }, Refusing { waits: true, ..Refusing::NOTHING }]
    {
        let mut rig = Rig::new();
        rig.refuse(refusing);
        assert!(rig.driver.turn(LONG, &mut rig.done).is_err());
        // What does not wait needs neither.
        rig.turn(Duration::ZERO);
    }
}

#[test]
fn a_queue_that_had_told_was_asked_twice_where_asking_does_not_reset_the_event() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.receive();
        rig.turn(Duration::ZERO);
        rig.peer.write_all(b"oui").unwrap();
        assert!(matches!(rig.next(), Completion::Received(ID, _, Ok(3))));
        // What came as the queue was asked to tell may still be told, once. Then this waits, and asks for nothing that
        // it has asked for.
        rig.turn(Duration::from_millis(5));
        for _ in 0..2 {
            let start = Instant::now();
            rig.turn(Duration::from_millis(5));
            assert!(start.elapsed() >= Duration::from_millis(5) && rig.done.is_empty());
        }
    }
}

#[test]
fn a_connection_without_a_request_queue_is_none() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let id = SlotId { index: 0, generation: 1 };
    rig.refuse(Refusing { requests: true, ..Refusing::NOTHING });
    rig.driver.connect(id, listener.local_addr().unwrap(), &options()).unwrap();
    let Completion::Connected(of, Err(_)) = rig.next() else { panic!("no connection") };
    assert_eq!(of, id);
    // Nor is one that was accepted.
    let (mut peer, own) = pair();
    assert!(rig.driver.adopt(SlotId { index: 1, generation: 1 }, own, &options()).is_err());
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(std::io::Read::read(&mut peer, &mut [0]).unwrap(), 0, "its socket is closed");
    rig.driver.close(id);
    assert!(matches!(rig.next(), Completion::Closed(of) if of == id));
}

#[test]
fn a_connection_that_can_not_even_begin_says_why() {
    let mut rig = Rig::new();
    let id = SlotId { index: 0, generation: 1 };
    // No address that one can connect to.
    rig.driver.connect(id, "255.255.255.255:9".parse().unwrap(), &options()).unwrap();
    assert!(matches!(rig.next(), Completion::Connected(of, Err(_)) if of == id));
    rig.driver.close(id);
    assert!(matches!(rig.next(), Completion::Closed(of) if of == id));
}

#[test]
fn status_and_length_of_every_completion_are_looked_at() {
    let outcome = |way, status, bytes| Outcome {
        status,
        bytes,
        socket_context: u64::from(ID.generation),
        request_context: u64::from(context(ID.index, way, 0)),
    };
    let mut rig = Rig::new();
    let mut book = |mut outcome: Outcome| {
        let (_, way, _) = whose(outcome.request_context);
        let span = rig.spans.pop().unwrap();
        let connection = &mut rig.driver.connections[ID.index as usize];
        match way {
            Way::Receive => connection.receive = Request::Outstanding(span, 0..8),
            Way::Send => {
                connection.sends.ask(span);
                let (number, span, _) = connection.sends.take_next().unwrap();
                connection.sends.hand_over(number, Request::Outstanding(span, 0..8));
                outcome.request_context = u64::from(context(ID.index, way, number));
            }
        }
        rig.driver.outstanding += 1;
        rig.driver.complete(outcome, &mut rig.done).unwrap();
        match rig.done.pop().unwrap() {
            Completion::Received(ID, span, outcome) | Completion::Sent(ID, span, outcome) => {
                rig.spans.push(span);
                outcome.map_err(|error| error.kind())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(book(outcome(Way::Receive, 0, 8)), Ok(8));
    assert_eq!(book(outcome(Way::Receive, 0, 9)), Err(ErrorKind::InvalidData));
    assert_eq!(book(outcome(Way::Receive, 0, 0)), Ok(0), "the peer's end");
    assert_eq!(book(outcome(Way::Send, 0, 8)), Ok(8));
    assert_eq!(book(outcome(Way::Send, 0, 9)), Err(ErrorKind::InvalidData));
    assert_eq!(book(outcome(Way::Send, 0, 0)), Err(ErrorKind::WriteZero));
    // A failure is one whatever length comes with it.
    assert_eq!(book(outcome(Way::Receive, 10054, 8)), Err(ErrorKind::ConnectionReset));
    // The socket is open: it was not we who cancelled it.
    assert_eq!(book(outcome(Way::Send, 995, 0)), Err(ErrorKind::ConnectionReset));
    assert_eq!(book(outcome(Way::Receive, 0xC000_0120_u32 as i32, 0)), Err(ErrorKind::ConnectionReset));
    assert_eq!(rig.driver.outstanding, 0);
}

#[test]
fn a_completion_that_nobody_asked_for_is_a_corrupt_queues() {
    let generation = u64::from(ID.generation);
    let [receive, send] = [Way::Receive, Way::Send].map(|way| u64::from(context(ID.index, way, 0)));
    let second = [Way::Receive, Way::Send].map(|way| u64::from(context(ID.index, way, 1)));
    for (socket_context, request_context) in [
        // Of a session before, of the way that nobody has asked for, of no slot that there is.
        (generation - 1, receive),
        (generation, send),
        (generation, second[0]),
        (generation, second[1]),
        (generation, u64::from(context(4, Way::Receive, 0))),
        (generation, u64::MAX),
    ] {
        for outstanding in [false, true] {
            let mut rig = Rig::new();
            if outstanding {
                rig.receive();
                rig.turn(Duration::ZERO);
            }
            let spurious = Outcome { status: 0, bytes: 5, socket_context, request_context };
            rig.driver.table.complete_for_nobody(spurious);
            let error = rig.driver.turn(LONG, &mut rig.done).unwrap_err();
            assert!(error.get_ref().unwrap().is::<Corrupt>(), "{error}");
            assert!(rig.done.is_empty() && rig.driver.outstanding == usize::from(outstanding));
            // The end asks the queue again, and now it tells the truth.
            let Rig { driver, region, .. } = rig;
            drop(driver);
            assert_eq!(Arc::strong_count(&region), 1);
        }
    }
}

#[test]
fn a_completion_that_nobody_asked_for_while_a_driver_ends_leaks_the_region() {
    let mut rig = Rig::new();
    rig.receive();
    rig.turn(Duration::ZERO);
    let spurious = Outcome { socket_context: 1, ..Outcome::default() };
    rig.driver.table.complete_for_nobody(spurious);
    // It is as many as there are to come, and not the one.
    rig.refuse(Refusing { completions: true, ..Refusing::NOTHING });
    let Rig { driver, region, .. } = rig;
    drop(driver);
    assert_eq!(Arc::strong_count(&region), 2);
}

#[test]
fn more_completions_than_are_taken_at_a_time_come_in_one_turn() {
    let sessions = 2 * TAKEN as u32 + 1;
    let (region, mut cutter) = Region::new(8 * sessions as usize).unwrap();
    let mut driver = with_seed(0, true, || Rio::<Model>::new(region, sessions as usize).unwrap());
    driver.table.be_plain();
    let mut peers = Vec::new();
    for index in 0..sessions {
        let (mut peer, own) = pair();
        let id = SlotId { index, generation: 1 };
        driver.adopt(id, own, &options()).unwrap();
        driver.receive(id, cutter.cut(8));
        peer.write_all(b"x").unwrap();
        peers.push(peer);
    }
    let mut done = Vec::new();
    driver.turn(Duration::ZERO, &mut done).unwrap();
    assert_eq!(done.len(), sessions as usize);
}

#[test]
fn a_driver_that_never_waits_accepts_and_connects_all_the_same() {
    let (mut rig, address) = Rig::listening();
    rig.driver.accept();
    let id = SlotId { index: 0, generation: 1 };
    // Long enough that it has found nothing to accept before there is something.
    (0..2 * SKIMS).for_each(|_| rig.turn(Duration::ZERO));
    rig.driver.connect(id, address, &options()).unwrap();
    let (mut accepted, mut connected) = (None, false);
    let start = Instant::now();
    while accepted.is_none() || !connected {
        assert!(start.elapsed() < DEADLINE);
        rig.turn(Duration::ZERO);
        match rig.done.pop() {
            Some(Completion::Accepted(outcome)) => accepted = Some(outcome.unwrap().0),
            Some(Completion::Connected(of, outcome)) => connected = of == id && outcome.is_ok(),
            other => assert!(other.is_none(), "{other:?}"),
        }
    }
    rig.driver.refuse(accepted.unwrap(), b"no");
    let span = rig.spans.pop().unwrap();
    rig.driver.receive(id, span);
    let Completion::Received(_, span, Ok(2)) = rig.next() else { panic!("it heard nothing") };
    assert_eq!(&rig.region.bytes(&span)[..2], b"no");
}

#[test]
fn the_last_words_of_one_that_does_not_hear_are_not_waited_for() {
    let (mut rig, address) = Rig::listening();
    rig.refuse(Refusing { completions: true, ..Refusing::NOTHING });
    // One more than have places: he goes without words.
    let mut peers = Vec::new();
    for _ in 0..=refusals::PLACES {
        peers.push(TcpStream::connect(address).unwrap());
        rig.driver.accept();
        let Completion::Accepted(Ok((socket, _))) = rig.next() else { panic!("nobody came") };
        rig.driver.refuse(socket, b"no");
    }
    let mut last = peers.pop().unwrap();
    last.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(std::io::Read::read(&mut last, &mut [0; 8]).unwrap(), 0);
    // A place is free again when its words have completed, and the others hear theirs.
    rig.refuse(Refusing::NOTHING);
    rig.turn(Duration::from_millis(1));
    for mut peer in peers {
        let mut heard = String::new();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        std::io::Read::read_to_string(&mut peer, &mut heard).unwrap();
        assert_eq!(heard, "no");
    }
    assert!(rig.driver.outstanding == 0 && rig.done.is_empty());
}

#[test]
fn a_session_whose_peer_acknowledges_nothing_never_ended() {
    const LEN: usize = 32 << 20;
    for dropped in [false, true] {
        let (region, mut cutter) = Region::new(LEN).unwrap();
        let mut driver = with_seed(0, true, || Rio::<Model>::new(region.clone(), 4).unwrap());
        driver.table.be_plain();
        driver.table.keep_sends();
        let (_peer, own) = pair();
        own.set_send_buffer_size(4096).unwrap();
        driver.adopt(ID, own, &options()).unwrap();
        driver.send(ID, cutter.cut(LEN));
        let mut done = Vec::new();
        driver.turn(Duration::ZERO, &mut done).unwrap();
        assert!(done.is_empty(), "it is more than both sides hold");
        if !dropped {
            driver.close(ID);
            driver.turn(Duration::ZERO, &mut done).unwrap();
            assert!(
                matches!(done[..], [Completion::Sent(ID, _, Err(_)), Completion::Closed(ID)]),
                "{done:?}"
            );
        }
        drop(driver);
        drop(done);
        assert_eq!(Arc::strong_count(&region), 1);
    }
}

#[test]
fn a_peers_reset_that_cancels_is_a_reset() {
    // Wine resets no connection.
    if cfg!(windows) {
        return;
    }
    let mut rig = Rig::new();
    rig.driver.table.cancel_on_resets();
    rig.receive();
    rig.turn(Duration::ZERO);
    socket2::SockRef::from(&rig.peer).set_linger(Some(Duration::ZERO)).unwrap();
    rig.peer = pair().0;
    let Completion::Received(ID, _, Err(error)) = rig.next() else { panic!("no reset") };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[cfg(feature = "rio-model")]
#[test]
fn connections_that_were_reset_before_they_were_accepted_held_up_the_next() {
    // Wine resets no connection, and the model asks as other systems tell.
    if cfg!(windows) {
        return;
    }
    const RESETS: u64 = 20;
    let is_so = |&seed: &u64| with_seed(seed, false, || Model::open(1).unwrap().resets_accepts());
    let seed = (0..).find(is_so).unwrap();
    let config = crate::Config { driver: crate::DriverKind::RioModel, ..crate::Config::default() };
    let server = crate::Server::bind("127.0.0.1:0").unwrap().config(config);
    let mut server = with_seed(seed, false, || server.start_polled().unwrap());
    for _ in 0..RESETS {
        let client = TcpStream::connect(server.local_addr()).unwrap();
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    }
    // Each of them is looked for at once: nothing is waited for in between.
    let mut polls = 0;
    while server.counters().engine.accept_errors < RESETS {
        polls += 1;
        assert!(polls <= 4 * SKIMS, "{} of them", server.counters().engine.accept_errors);
        server.poll().unwrap();
    }
}

#[test]
fn a_driver_whose_every_wait_a_completion_ended_never_accepted() {
    let (mut rig, address) = Rig::listening();
    rig.driver.accept();
    (0..2 * SKIMS).for_each(|_| rig.turn(Duration::ZERO));
    let _client = TcpStream::connect(address).unwrap();
    let mut accepted = false;
    for _ in 0..2 * SKIMS {
        rig.receive();
        rig.peer.write_all(b"8 bytes.").unwrap();
        match rig.next() {
            Completion::Received(_, span, Ok(8)) => rig.spans.push(span),
            Completion::Accepted(outcome) => {
                accepted = outcome.is_ok();
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(accepted, "a connection waits, and everything else goes on");
}

#[test]
fn a_listener_that_fails_says_so_once_for_each_time_it_is_asked() {
    let mut rig = Rig::new();
    // It does not listen.
    let listener = socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    listener.set_nonblocking(true).unwrap();
    rig.driver.listen(listener).unwrap();
    for _ in 0..2 {
        rig.driver.accept();
        assert!(matches!(rig.next(), Completion::Accepted(Err(_))));
        rig.turn(Duration::from_millis(1));
        assert!(rig.done.is_empty());
    }
    // Without a listener there is nothing to ask for.
    rig.driver.stop_listening();
    rig.driver.accept();
    rig.turn(Duration::from_millis(1));
    assert!(rig.done.is_empty());
}
