//! What once went wrong and no other test's subject covers: each name says what it was.
#![forbid(unsafe_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zerio::{Client, Config, Context, EngineFailure, Error, Handler, Reason, SendError, Server};

/// A peer of bare sockets, after its handshake.
fn raw(address: SocketAddr, id: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&frame(id)).unwrap();
    let mut echo = vec![0; 4 + id.len()];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(echo, frame(id));
    stream
}

fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_le_bytes(), message].concat()
}

#[test]
fn a_handler_that_panicked_during_stop_left_sessions_open() {
    let (connected, is_connected) = channel();
    let mut server = Server::bind("127.0.0.1:0")
        .unwrap()
        .on_connected(move |peer| connected.send(peer.peer()).unwrap())
        .on_message(|_, _| panic!("a test's own panic"))
        .start_polled()
        .unwrap();
    let address = server.local_addr();
    let (asked, is_asked) = channel();
    let client = std::thread::spawn(move || {
        let mut stream = raw(address, b"a");
        is_asked.recv().unwrap();
        stream.write_all(&frame(b"now")).unwrap();
        // The session's end, whatever it looks like.
        let _ = stream.read(&mut [0; 8]);
    });
    let peer = loop {
        server.poll().unwrap();
        if let Ok(peer) = is_connected.try_recv() {
            break peer;
        }
    };
    asked.send(()).unwrap();
    // The message comes before the server does or while it waits for the peer's end: it panics either way.
    std::thread::sleep(Duration::from_millis(50));
    assert!(catch_unwind(AssertUnwindSafe(|| server.stop())).is_err());
    assert_eq!(peer.try_send(b"to nobody"), Err(SendError::Closed));
    client.join().unwrap();
}

#[test]
fn a_client_whose_handler_panicked_during_the_start_was_told_of_a_timeout() {
    let server = Server::bind("127.0.0.1:0").unwrap().start().unwrap();
    let client = Client::connect(server.local_addr(), "a").unwrap();
    let error = client.on_connected(|_| panic!("a test's own panic")).start().unwrap_err();
    match error {
        Error::Engine(EngineFailure::HandlerPanicked(message)) => assert_eq!(message, "a test's own panic"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_send_that_waited_was_counted_as_a_hundred_full_rings() {
    let server = Server::bind("127.0.0.1:0").unwrap().start().unwrap();
    let _deaf = raw(server.local_addr(), b"deaf");
    let mut peer = server.peer("deaf");
    while peer.is_err() {
        peer = server.peer("deaf");
    }
    let peer = peer.unwrap();
    let message = [7; 60_000];
    while peer.try_send(&message).is_ok() {}
    // The kernel may still take some of it: until it does not.
    while peer.send_timeout(&message, Duration::from_millis(300)).is_ok() {}
    let before = peer.counters().unwrap().sent.full_rings;
    assert_eq!(peer.send_timeout(&message, Duration::from_millis(300)), Err(SendError::TimedOut));
    assert_eq!(peer.counters().unwrap().sent.full_rings, before + 1);
}

#[test]
fn a_bad_frame_after_stop_was_not_counted_and_cost_the_whole_drain_time() {
    let mut config = Config::default();
    config.drain_timeout = Duration::from_secs(60);
    let (ended, has_ended) = channel();
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .config(config)
        .on_disconnected(move |_, why| ended.send(*why).unwrap())
        .start()
        .unwrap();
    let mut stream = raw(server.local_addr(), b"a");
    let sender = server.sender();
    while sender.peer("a").is_err() {}
    let peer = sender.peer("a").unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    // The server's end comes first, then nonsense, then this side's own end.
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    stream.write_all(&[0xff; 64]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let why = has_ended.recv_timeout(Duration::from_secs(30)).expect("long before the drain time is over");
    assert_eq!(why.reason, Reason::Stopped);
    assert_eq!(peer.try_send(b"late"), Err(SendError::Closed));
    stopping.join().unwrap();
}

#[test]
fn messages_of_a_batch_in_which_the_handler_panicked_were_not_counted() {
    let server = Server::bind("127.0.0.1:0")
        .unwrap()
        .on_message(|_, message| assert_ne!(message, b"3", "a test's own panic"))
        .start()
        .unwrap();
    let mut stream = raw(server.local_addr(), b"a");
    // In one piece, so that they are one batch.
    stream.write_all(&[frame(b"1"), frame(b"2"), frame(b"3"), frame(b"4")].concat()).unwrap();
    while server.is_running() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(server.counters().sessions.received.messages_received, 3);
}

#[test]
fn a_stop_from_inside_a_handler_told_that_what_it_had_not_sent_was_delivered() {
    for engines in [1, 2] {
        let mut config = Config::default();
        config.engines = engines;
        let server: Arc<Mutex<Option<Server>>> = Arc::default();
        let (told, is_told) = channel();
        let make = |_| {
            let (server, told) = (server.clone(), told.clone());
            Stopper(move |peer: &mut Context<'_>| {
                (0..10).for_each(|_| peer.send(b"still in the ring").unwrap());
                let report = server.lock().unwrap().take().unwrap().stop();
                told.send(report).unwrap();
            })
        };
        let started = Server::bind("127.0.0.1:0").unwrap().config(config).start_each(make).unwrap();
        let mut stream = raw(started.local_addr(), b"a");
        *server.lock().unwrap() = Some(started);
        stream.write_all(&frame(b"stop")).unwrap();
        let report = is_told.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(!report.finished);
        assert_eq!((report.delivered, report.undelivered.messages), (0, 0));
        assert!(report.to_string().contains("not all"), "{report}");
        // It ends by itself, and in order.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, frame(b"still in the ring").repeat(10));
    }
    let report = Server::bind("127.0.0.1:0").unwrap().start().unwrap().stop();
    assert!(report.finished && !report.to_string().contains("not all"), "{report}");
}

struct Stopper<F>(F);

impl<F: FnMut(&mut Context<'_>) + Send> Handler for Stopper<F> {
    fn on_message(&mut self, peer: &mut Context<'_>, _: &[u8]) {
        (self.0)(peer);
    }
}

#[test]
fn a_handler_that_panicked_when_it_was_dropped_was_reported_by_nobody() {
    struct Bad;
    impl Handler for Bad {}
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("a test's own panic");
        }
    }
    let server = Server::bind("127.0.0.1:0").unwrap().handler(Bad).start().unwrap();
    let report = server.stop();
    assert_eq!(report.failure, Some(EngineFailure::HandlerPanicked("a test's own panic".into())));
    assert!(report.finished);
}

#[test]
fn a_client_whose_handler_took_its_time_when_it_was_connected_was_told_of_a_timeout() {
    let server = Server::bind("127.0.0.1:0").unwrap().start().unwrap();
    let mut config = Config::default();
    config.handshake_timeout = Duration::from_millis(200);
    let client = Client::connect(server.local_addr(), "a").unwrap().config(config);
    // Over the deadline, and two seconds more.
    let client = client.on_connected(|_| std::thread::sleep(Duration::from_millis(2500))).start().unwrap();
    client.send(b"x").unwrap();
    assert_eq!(client.stop().delivered, 1);
}

#[test]
#[cfg(target_os = "linux")]
fn a_look_at_whether_a_peer_lives_took_its_reset_from_the_receive_that_was_to_tell() {
    let (ended, ends) = channel();
    let mut config = Config::default();
    (config.driver, config.peer_timeout) = (zerio::DriverKind::Poll, Duration::from_secs(1));
    let mut server = Server::bind("127.0.0.1:0")
        .unwrap()
        .config(config)
        .on_disconnected(move |_, why| ended.send(why.reason).unwrap())
        .start_polled()
        .unwrap();
    let address = server.local_addr();
    let client = std::thread::spawn(move || {
        let mut stream = raw(address, b"a");
        stream.write_all(&[100, 0, 0, 0, b'h', b'a', b'l', b'f']).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    while server.counters().engine.connected == 0 {
        server.poll().unwrap();
    }
    // What the client has to say is there in the turn in which a look is due.
    client.join().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let reason = loop {
        server.poll().unwrap();
        if let Ok(reason) = ends.try_recv() {
            break reason;
        }
    };
    assert_eq!(reason, Reason::Connection(std::io::ErrorKind::ConnectionReset));
}
